"""The outbox under faults: fencing, clock jumps, a dead index, poison, defects, a full disk; on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from security.errors import Unavailable
from security.outbox import jobs
from security.outbox.breaker import Mode
from security.outbox.engine import EngineSettings
from security.outbox.port import Answer, Job, JobClass
from security.outbox.retry import RetrySettings
from security.outbox.states import Event, State
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import SITE, Gate, Site, no_pause, open_store, settle_down


@pytest.fixture(params=BOTH)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    store = await open_store(fresh(request.param, request).place)
    yield Site.on(store)
    await store.close()


# ── fencing ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i08_a_paused_worker_that_wakes_changes_nothing(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    paused, successor = site.engine(), site.engine()
    await paused.step()
    gate = Gate()
    site.kind.pause = gate
    asleep = asyncio.create_task(paused.step())
    await gate.reached.wait()
    gate.open.set()
    gate.open = asyncio.Event()  # the second stop: after the index took it, before the answer is written
    await asyncio.sleep(0)
    while not site.index.entries:
        await asyncio.sleep(0.001)
    last_gate, site.kind.pause = gate, no_pause
    await settle_down(successor)
    before = await site.rows("SELECT * FROM outbox_job")
    last_gate.open.set()
    await asleep
    assert await site.rows("SELECT * FROM outbox_job") == before
    assert await site.state(job_id) is State.PUBLISHED
    assert len(site.index.entries) == 1


async def test_f08_a_late_answer_of_a_superseded_claim_and_its_effects_are_dropped(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    gate = Gate()
    site.kind.pause = gate
    settling = asyncio.create_task(site.engine().step())
    await gate.reached.wait()
    newer = await site.accept("1.2.1")
    gate.open.set()
    await settling
    assert (await site.state(job_id), await site.state(newer)) == (State.SUPERSEDED, State.SETTLING)
    assert await site.rows("SELECT * FROM lab_document") == []


async def test_f08_the_same_answer_twice_counts_once(site: Site) -> None:
    site.index.visible_after_s = site.kind.visibility_s = 600
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    site.clock.advance(600)
    endpoints, permits = {"publication": "index"}, {"index": 1}
    [job] = await site.store.write(
        lambda tx: jobs.claim(
            tx,
            owner="a",
            now=site.clock.now(),
            limit=1,
            kinds=endpoints,
            permits=permits,
            spare=8,
            settles={"publication": 1},
        )
    )
    found = Answer(event=Event.FOUND)
    states = [
        await site.store.write(lambda tx: jobs.apply(tx, job, found, now=site.clock.now(), not_before=None))
        for _ in range(2)
    ]
    assert states == [State.PUBLISHED, None]
    assert (await site.history(job_id)).count("PUBLISHED") == 1


async def test_f19_a_call_that_lasts_longer_than_the_sweep_is_not_taken_from_its_own_process(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    await engine.step()
    gate = Gate()
    site.kind.pause = gate
    asleep = asyncio.create_task(engine.step())
    await gate.reached.wait()
    site.clock.advance(600)  # SIGSTOP and SIGCONT: ten minutes pass for everybody
    assert await engine.step() == 0
    assert await site.state(job_id) is State.SENT
    gate.open.set()
    await asleep
    await settle_down(engine)
    assert await site.state(job_id) is State.PUBLISHED
    assert site.index.sends(job_id) == 1


# ── trouble ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "site", ["sqlite"], indirect=True
)  # thousands of commits: the engine under it is shown elsewhere
async def test_f05_six_hours_without_an_index_burn_few_attempts_and_lose_nothing(site: Site) -> None:
    site.index.is_up = False
    classes = [JobClass.P3, JobClass.P2, JobClass.P1, JobClass.P0]
    ids = [await site.accept(f"1.2.{n}", classes[n % 4]) for n in range(40)]
    engine = site.engine()
    for _ in range(6 * 360):
        await engine.step()
        site.clock.advance(10)
    assert engine.breakers["index"].mode(site.clock.monotonic()) is not Mode.CLOSED
    sends = sum(what == "send" for what, _ in site.index.calls)
    assert sends < 110  # the five that opened it, a few beside them, then one probe every five minutes
    site.index.is_up, site.index.calls = True, []
    for _ in range(360):
        await engine.step()
        site.clock.advance(10)
    assert (await engine.snapshot()).counts == {(job_class, State.PUBLISHED): 10 for job_class in classes}
    assert sorted(job for _, _, job, _ in site.index.entries) == ids


@pytest.mark.parametrize(
    "site", ["sqlite"], indirect=True
)  # thousands of commits: the engine under it is shown elsewhere
async def test_f05_the_most_urgent_jobs_leave_first_when_the_index_returns(site: Site) -> None:
    site.index.is_up = False
    for n in range(12):
        await site.accept(f"1.2.{n}", JobClass.P2)
    engine = site.engine()
    for _ in range(360):
        await engine.step()
        site.clock.advance(10)
    urgent = await site.accept("1.2.99", JobClass.P0)
    await settle_down(engine)
    site.clock.advance(300)
    site.index.is_up = True
    await settle_down(engine)
    assert site.index.entries[0][2] == urgent


async def test_ff24_a_job_that_is_refused_is_sent_once_and_stops_nobody_else(site: Site) -> None:
    site.index.mood.append("refuse")
    bad = await site.accept("1.2.1")
    good = await site.accept("1.2.2")
    engine = site.engine(EngineSettings(slots=1))
    for _ in range(20):
        await settle_down(engine)
        site.clock.advance(3600)
    assert (await site.state(bad), await site.state(good)) == (State.DEAD, State.PUBLISHED)
    assert site.index.sends(bad) == 1


async def test_ff24_the_peers_retry_after_is_kept(site: Site) -> None:
    site.index.mood.append("busy")
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    await settle_down(engine)
    site.clock.advance(119)
    assert await engine.step() == 0
    site.clock.advance(1)
    await settle_down(engine)
    assert await site.state(job_id) is State.PUBLISHED
    assert await site.history(job_id) == [
        "SETTLING", "READY", "LEASED", "SENT", "RETRY_WAIT", "READY", "LEASED", "SENT", "ACCEPTED", "PUBLISHED",
    ]  # fmt: skip


@pytest.mark.parametrize("step", [timedelta(hours=h) for h in (-2, 2, -9600, 9600)], ids=str)
async def test_f11_a_clock_that_jumps_expires_no_lease_and_freezes_no_work(site: Site, step: timedelta) -> None:
    engine = site.engine()
    in_flight = await site.accept("1.2.2")
    await engine.step()
    gate = Gate()
    site.kind.pause = gate
    sending = asyncio.create_task(engine.step())
    await gate.reached.wait()
    site.kind.pause = no_pause
    site.index.mood.append("busy")
    waiting = await site.accept("1.2.1")
    await settle_down(engine)
    assert await site.state(waiting) is State.RETRY_WAIT
    site.clock.jump(step)
    site.clock.advance(60)
    await engine.step()
    assert await site.state(in_flight) is State.SENT
    gate.open.set()
    await sending
    for _ in range(3):
        await settle_down(engine)
        site.clock.advance(61)
    assert (await site.state(in_flight), await site.state(waiting)) == (State.PUBLISHED, State.PUBLISHED)
    assert (site.index.sends(in_flight), site.index.sends(waiting)) == (1, 2)


async def test_f20_a_job_that_kills_its_worker_is_dead_after_three_and_the_others_flow(site: Site) -> None:
    poison = await site.accept("1.2.1")
    good = await site.accept("1.2.2")
    for _ in range(3):
        await _die_while_sending(site, poison)
    engine = site.engine()
    await settle_down(engine)
    job = await site.job(poison)
    assert (job.state, job.reason) == (State.DEAD, "poison")
    assert await site.state(good) is State.PUBLISHED
    assert (await site.history(poison)).count("UNKNOWN") == 2


async def test_i09_a_revived_poison_job_is_asked_about_before_it_is_sent_again(site: Site) -> None:
    poison = await site.accept("1.2.1")
    for _ in range(3):
        await _die_while_sending(site, poison)
    await settle_down(site.engine())
    newer = await site.accept("1.2.1")
    assert await site.state(poison) is State.DEAD
    site.index.calls.clear()
    state = await site.store.write(
        lambda tx: jobs.lift(tx, tenant=SITE, job_id=poison, now=site.clock.now(), actor="operator", reason="fixed")
    )
    assert state is State.UNKNOWN
    for _ in range(5):
        await settle_down(site.engine())
        site.clock.advance(900)
    assert site.index.calls[0] == ("query", poison)
    assert (await site.state(poison), await site.state(newer)) == (State.SUPERSEDED, State.PUBLISHED)
    assert site.index.calls.count(("send", poison)) == 0, "found absent, it gave way to the newer one"


async def _die_while_sending(site: Site, job_id: int) -> None:
    """An incarnation takes the job up to SENT and is never heard of again."""
    gate = Gate()

    async def send(_job: Job) -> Answer:
        await gate()
        return Answer(event=Event.ACCEPTED)

    original, site.kind.send = site.kind.send, send  # type: ignore[method-assign]  # a send that never returns
    stop = asyncio.Event()
    running = asyncio.create_task(site.engine(EngineSettings(slots=1, idle_s=0.001)).run(stop))
    while not gate.reached.is_set():
        site.clock.advance(60)
        await asyncio.sleep(0.001)
    assert await site.state(job_id) is State.SENT
    running.cancel()
    await asyncio.wait({running})
    site.kind.send = original  # type: ignore[method-assign]  # the next incarnation starts afresh


async def test_three_power_cuts_with_work_done_between_them_are_not_poison(site: Site) -> None:
    async def settle(_job: Job) -> Answer:
        if site.index.is_up:
            return Answer(event=Event.NOT_YET, reason="images-missing")
        raise asyncio.CancelledError

    site.kind.settle = settle  # type: ignore[method-assign]  # waits, or dies when the "power" is off
    job_id = await site.accept("1.2.1")
    for _ in range(5):
        for is_up in (False, True):
            site.index.is_up = is_up
            await asyncio.wait({asyncio.create_task(site.engine().step())})
            site.clock.advance(900)
    assert await site.state(job_id) is State.SETTLING


async def test_a_defect_while_settling_holds_the_job_without_its_values(site: Site) -> None:
    async def settle(_job: Job) -> Answer:
        raise ValueError("FANTÔME^CASPER")

    site.kind.settle = settle  # type: ignore[method-assign]  # the defect
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    [row] = await site.rows("SELECT state, reason, detail FROM outbox_job WHERE job_id = :id", id=job_id)
    assert dict(row) == {"state": "BLOCKED", "reason": "internal-fault", "detail": "ValueError"}


async def test_a_defect_while_sending_is_an_unknown_outcome(site: Site) -> None:
    async def send(_job: Job) -> Answer:
        raise ValueError("after the bytes left, perhaps")

    site.kind.visibility_s = 600
    site.kind.send = send  # type: ignore[method-assign]  # the defect
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    assert await site.state(job_id) is State.UNKNOWN


async def test_an_answer_that_does_not_fit_the_state_is_a_defect(site: Site) -> None:
    async def settle(_job: Job) -> Answer:
        return Answer(event=Event.REPLACED)

    site.kind.settle = settle  # type: ignore[method-assign]  # the defect
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    assert ((await site.job(job_id)).state, (await site.job(job_id)).reason) == (State.BLOCKED, "internal-fault")


async def test_a_call_without_answer_in_time_is_an_unknown_outcome(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    engine = site.engine(EngineSettings(call_s=0.05))
    await engine.step()
    site.kind.pause = Gate()
    site.kind.visibility_s = 600
    await engine.step()
    assert ((await site.job(job_id)).state, (await site.job(job_id)).reason) == (State.UNKNOWN, "no-answer-in-time")


async def test_f04_a_full_disk_stops_the_work_and_nothing_is_forgotten(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    engine = site.engine(EngineSettings(idle_s=0.001))
    await engine.step()
    refused = 0
    written = site.store.write

    async def write(work):  # full from the moment the bytes left, for a while
        nonlocal refused
        if site.index.entries and refused < 5:
            refused += 1
            raise Unavailable("the disk is full", code="store-full")
        return await written(work)

    site.store.write = write
    await engine.step()
    del site.store.write
    assert refused == 5
    assert await site.state(job_id) is State.ACCEPTED


async def test_tries_that_never_help_end_with_a_person(site: Site) -> None:
    site.index.is_up = False
    job_id = await site.accept("1.2.1")
    engine = site.engine(EngineSettings(retry=RetrySettings(tries_max=3)))
    for _ in range(20):
        await settle_down(engine)
        site.clock.advance(3600)
    assert ((await site.job(job_id)).state, (await site.job(job_id)).reason) == (State.DEAD, "tries-exhausted")
    assert site.index.sends(job_id) == 3


async def test_i10_what_a_newer_job_overtook_in_flight_is_not_sent_again(site: Site) -> None:
    site.kind.visibility_s = 5
    site.index.mood.extend(["dropped"])
    older = await site.accept("1.2.1")
    await site.engine().step()
    await site.engine().step()
    assert await site.state(older) is State.UNKNOWN
    newer = await site.accept("1.2.1")
    for _ in range(6):
        site.clock.advance(30)
        await settle_down(site.engine())
    assert (await site.state(older), await site.state(newer)) == (State.SUPERSEDED, State.PUBLISHED)
    assert site.index.sends(older) == 1


async def test_i15_a_kind_whose_sources_hang_leaves_room_for_the_sends(site: Site) -> None:
    gate = Gate()
    original = site.kind.settle

    async def hangs(job: Job) -> Answer:
        await gate()
        return await original(job)

    ready = await site.accept("1.2.9")
    site.index.is_up = False
    engine = site.engine(EngineSettings(slots=4, idle_s=0.01))
    await settle_down(engine)
    assert await site.state(ready) is State.RETRY_WAIT
    site.index.is_up = True
    site.kind.settle = hangs  # type: ignore[method-assign]  # sources that do not answer
    for number in range(6):
        await site.accept(f"1.3.{number}")
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    await gate.reached.wait()
    await asyncio.sleep(0.05)  # every slot that settling may take is taken now
    site.clock.advance(3600)
    try:
        async with asyncio.timeout(10):
            while await site.state(ready) is not State.PUBLISHED:
                await asyncio.sleep(0.01)
    finally:
        gate.open.set()
        stop.set()
        await running
