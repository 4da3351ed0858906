"""A paused tenant: nothing of it begins, what was sent is still asked after, everybody else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from security.errors import Refused
from security.outbox import jobs
from security.outbox.engine import EngineSettings
from security.outbox.port import Answer, Job
from security.outbox.states import State
from security.store.port import GROUND, Store, Tx
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration import outbox_lab
from tests.integration.outbox_lab import SITE, Gate, Site


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    opened = await fresh(request.param, request).open(components=[GROUND])
    await opened.write(lambda tx: tx.change("CREATE TABLE lab_document (job_id BIGINT NOT NULL, uid TEXT NOT NULL)"))
    await opened.write(lambda tx: tx.change("CREATE TABLE lab_entry (job_id BIGINT PRIMARY KEY, uid TEXT NOT NULL)"))
    yield opened
    await opened.close()


@pytest.fixture
def site(store: Store) -> Site:
    made = Site.on(store)
    made.kind = Kept(made)
    return made


class Kept(outbox_lab.Publication):
    """The lab's kind; each job is settled once, so its identifier is told by the job alone."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.store, site.index, site.clock, site.rng)
        self.begun: list[tuple[str, int]] = []

    async def settle(self, job: Job) -> Answer:
        self.begun.append(("settle", job.job_id))
        return await super().settle(job)

    async def send(self, job: Job) -> Answer:
        self.begun.append(("send", job.job_id))
        return await super().send(job)

    async def _uid(self, job: Job) -> str:
        sql = "SELECT MAX(uid) AS uid FROM lab_document WHERE job_id = :id"
        return str((await self.store.read(lambda tx: tx.rows(sql, id=job.job_id)))[0]["uid"])


def begun(site: Site) -> list[tuple[str, int]]:
    assert isinstance(site.kind, Kept)
    return site.kind.begun


async def pause(site: Site, tenant: str = SITE, reason: str = "the index asked for it") -> None:
    await site.store.write(
        lambda tx: jobs.pause(tx, tenant=tenant, actor="Odile Garde", reason=reason, now=site.clock.now())
    )


async def resume(site: Site) -> None:
    await site.store.write(lambda tx: jobs.resume(tx, tenant=SITE, actor="Paul Veille", now=site.clock.now()))


async def test_ff46_nothing_of_a_paused_tenant_begins_and_all_of_it_does_after_the_resume(site: Site) -> None:
    await pause(site)
    job_id = await site.accept("1.2.3")
    engine = site.engine()
    for _ in range(3):
        assert await engine.step() == 0
        site.clock.advance(60)
    assert begun(site) == []
    await resume(site)
    for _ in range(4):
        await engine.step()
    assert await site.state(job_id) is State.PUBLISHED


async def test_ff46_a_pause_survives_a_restart_and_says_who_and_why(site: Site) -> None:
    at = site.clock.now()
    await pause(site)
    await site.accept("1.2.3")
    assert await site.engine().step() == 0, "another incarnation"
    assert await site.store.read(jobs.paused) == [
        jobs.Pause(tenant=SITE, at=at, actor="Odile Garde", reason="the index asked for it")
    ]
    assert [one.tenant for one in (await site.store.read(jobs.snapshot)).paused] == [SITE]


async def test_ff46_a_prepared_job_is_not_sent_while_paused_and_what_was_sent_is_asked_after(site: Site) -> None:
    ready, sent = await site.accept("1.2.3"), await site.accept("1.2.4")
    engine = site.engine()
    await engine.step()
    site.index.mood.extend(["lost", "lost"])
    await engine.step()
    assert {await site.state(ready), await site.state(sent)} == {State.UNKNOWN}
    third = await site.accept("1.2.5")
    await engine.step()
    site.index.calls.clear()
    await site.store.write(lambda tx: tx.change("UPDATE outbox_job SET not_before = 0"))
    await pause(site)
    for _ in range(4):
        await engine.step()
    assert await site.state(sent) is State.PUBLISHED
    assert ("send", third) not in site.index.calls
    assert await site.state(third) is State.READY


async def test_ff46_a_job_claimed_before_the_pause_is_given_back_unsent(site: Site) -> None:
    job_id = await site.accept("1.2.3")
    await site.engine().step()
    assert await site.state(job_id) is State.READY
    claimed = await site.store.write(
        lambda tx: jobs.claim(
            tx,
            owner="one",
            now=site.clock.now(),
            limit=1,
            kinds={"publication": "index"},
            permits={"index": 1},
            spare=8,
            settles={"publication": 1},
        )
    )
    await pause(site)
    assert await site.store.write(lambda tx: jobs.attempt(tx, claimed[0], now=site.clock.now())) is None
    assert await site.state(job_id) is State.READY
    rows = await site.rows("SELECT * FROM outbox_attempt")
    assert rows == []


async def test_ff46_with_the_engine_running_no_call_begins_after_the_pause_is_committed(site: Site) -> None:
    for number in range(60):
        await site.accept(f"1.2.{number}")
    stop = asyncio.Event()
    engine = site.engine(EngineSettings(slots=4, idle_s=0.005))
    running = asyncio.create_task(engine.run(stop))
    while len(begun(site)) < 20:
        await asyncio.sleep(0.001)

    def pause_now(tx: Tx) -> set[tuple[str, int]]:
        """Pause, and what was already begun at that very moment."""
        jobs.pause(tx, tenant=SITE, actor="Odile Garde", reason="maintenance", now=site.clock.now())
        leased = tx.rows("SELECT job_id, state FROM outbox_job WHERE state = 'SENT' OR lease_owner IS NOT NULL")
        return {("settle" if row["state"] == "SETTLING" else "send", row["job_id"]) for row in leased}

    allowed = await site.store.write(pause_now)
    committed = set(begun(site)) | {("send", one) for what, one in allowed if what == "send"}
    sent = await site.rows("SELECT MAX(seq) AS seq FROM audit_record WHERE event = 'queue.paused'")
    await asyncio.sleep(0.2)
    assert set(begun(site)) <= committed | allowed
    later = await site.rows(
        "SELECT seq FROM audit_record WHERE event = 'job.sent' AND seq > :seq", seq=sent[0]["seq"]
    )
    assert later == []
    assert len(begun(site)) < 120
    await resume(site)
    engine.nudge()
    async with asyncio.timeout(20):
        while (await site.store.read(jobs.snapshot)).counts.get((jobs.JobClass.P1, State.PUBLISHED), 0) < 60:
            await asyncio.sleep(0.01)
            site.clock.advance(1)
    stop.set()
    await running


async def test_ff46_the_other_tenants_go_on(site: Site) -> None:
    await pause(site, tenant="another")
    job_id = await site.accept("1.2.3")
    engine = site.engine()
    for _ in range(4):
        await engine.step()
    assert await site.state(job_id) is State.PUBLISHED


async def test_a_settling_that_was_under_way_ends_and_is_not_sent(site: Site) -> None:
    site.kind.pause = gate = Gate()
    job_id = await site.accept("1.2.3")
    engine = site.engine()
    step = asyncio.create_task(engine.step())
    await gate.reached.wait()
    await pause(site)
    gate.open.set()
    await step
    assert await site.state(job_id) is State.READY
    assert await engine.step() == 0


async def test_pausing_twice_and_resuming_twice_are_told(site: Site) -> None:
    await pause(site)
    with pytest.raises(Refused) as refused:
        await pause(site, reason="me too")
    assert refused.value.code == "already-paused"
    await resume(site)
    with pytest.raises(Refused) as refused:
        await resume(site)
    assert refused.value.code == "not-paused"
    events = await site.rows(
        "SELECT event, actor, detail FROM audit_record WHERE object_type = 'tenant' ORDER BY seq"
    )
    assert [tuple(row.values()) for row in events] == [
        ("queue.paused", "Odile Garde", "the index asked for it"),
        ("queue.resumed", "Paul Veille", ""),
    ]


async def test_lifting_a_reason_lifts_that_reason_alone_and_renews_the_deadline(site: Site) -> None:
    held = [await site.accept(f"1.2.{number}") for number in range(5)]
    for job_id, reason in zip(held, ["shadow-mode"] * 4 + ["identity-name"], strict=True):
        await site.store.write(
            lambda tx, j=job_id, r=reason: tx.change(
                "UPDATE outbox_job SET state = 'BLOCKED', reason = :r WHERE job_id = :j", j=j, r=r
            )
        )
    site.clock.advance(30 * 86_400)

    async def lifted(limit: int) -> int:
        return await site.store.write(
            lambda tx: jobs.lift_reason(
                tx, kind="publication", reason="shadow-mode", now=site.clock.now(), limit=limit
            )
        )

    assert [await lifted(3), await lifted(3), await lifted(3)] == [3, 1, 0]
    assert [await site.state(job_id) for job_id in held] == [State.SETTLING] * 4 + [State.BLOCKED]
    deadline = (await site.job(held[0])).deadline
    assert deadline is not None
    assert deadline > site.clock.now()
