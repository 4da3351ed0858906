"""The outbox on the real store, against an index that loses answers, hides entries and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from security.audit.verifying import verify
from security.clock import to_ms
from security.errors import Broken, Refused
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.port import Answer, Job, JobClass
from security.outbox.states import Event, State
from security.store.port import Tx
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import NOON, SITE, Gate, Index, Publication, Site, open_store, settle_down


@pytest.fixture(params=BOTH)
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    store = await open_store(fresh(request.param, request).place)
    yield Site.on(store)
    await store.close()


# ── the plain path ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_job_goes_from_acceptance_to_published_without_waiting(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    assert await site.history(job_id) == ["SETTLING", "READY", "LEASED", "SENT", "ACCEPTED", "PUBLISHED"]
    assert (await site.job(job_id)).attempts == 1


async def test_i16_every_change_of_state_has_its_audit_row_with_the_right_leaf(site: Site) -> None:
    await site.accept("1.2.1")
    await settle_down(site.engine())
    rows = await site.rows("SELECT tenant, zone, event, actor, object_type, object_id FROM audit_record ORDER BY seq")
    assert [row["event"] for row in rows] == [
        "job.settling", "job.ready", "job.leased", "job.sent", "job.accepted", "job.published",
    ]  # fmt: skip
    assert {tuple(row.values())[:2] + tuple(row.values())[3:] for row in rows} == {
        (SITE, "outbox", "poterne", "study", "1.2.1")
    }
    assert (await verify(site.store, witness=None, now=NOON)).findings == ()


async def test_i03_the_states_add_up_to_what_was_accepted_at_every_moment(site: Site) -> None:
    site.index.mood.extend(["lost", "busy", "refuse", "hold", "dropped", "good"])
    engine = site.engine()
    for n in range(12):
        await site.accept(f"1.2.{n % 8}", JobClass(n % 4))
        await engine.step()
        figures = await engine.snapshot()
        assert sum(figures.counts.values()) == figures.accepted == n + 1


async def test_the_figures_are_right_after_a_restart(site: Site) -> None:
    site.index.is_up = False
    await site.accept("1.2.1", JobClass.P0)
    site.clock.advance(60)
    await site.accept("1.2.2", JobClass.P1)
    await settle_down(site.engine())
    figures = await site.engine().snapshot()
    assert figures.counts == {(JobClass.P0, State.RETRY_WAIT): 1, (JobClass.P1, State.RETRY_WAIT): 1}
    assert figures.oldest == {JobClass.P0: NOON, JobClass.P1: NOON + timedelta(seconds=60)}


async def test_a_lane_tells_its_whole_history_in_order(site: Site) -> None:
    site.index.mood.append("hold")
    first = await site.accept("1.2.1")
    await settle_down(site.engine())
    site.clock.advance(5)
    second = await site.accept("1.2.1")
    changes = await site.store.read(lambda tx: jobs.lane_history(tx, tenant=SITE, lane="1.2.1"))
    assert [(change.job_id, change.event, change.to_state, change.reason) for change in changes] == [
        (first, "enqueued", State.SETTLING, ""),
        (first, "prepared", State.READY, ""),
        (first, "claimed", State.LEASED, ""),
        (first, "attempted", State.SENT, ""),
        (first, "held", State.BLOCKED, "unknown-code"),
        (first, "replaced", State.SUPERSEDED, "newer-job"),
        (second, "enqueued", State.SETTLING, ""),
    ]
    assert [change.at for change in changes[-2:]] == [NOON + timedelta(seconds=5)] * 2


async def test_the_open_jobs_come_in_schedule_order_with_their_reason_and_next_try(site: Site) -> None:
    site.index.mood.extend(["good", "hold", "busy"])
    for lane, job_class in (("1.2.1", JobClass.P0), ("1.2.2", JobClass.P1), ("1.2.3", JobClass.P0)):
        await site.accept(lane, job_class)
        await settle_down(site.engine())
    found = await site.store.read(jobs.open_jobs)
    assert [(job.lane, job.state, job.reason, job.not_before) for job in found] == [
        ("1.2.3", State.RETRY_WAIT, "http-503", NOON + timedelta(seconds=120)),
        ("1.2.2", State.BLOCKED, "unknown-code", None),
    ]
    assert (await site.engine().snapshot()).blocked == {"unknown-code": 1}


async def test_the_class_goes_before_the_deadline_and_the_deadline_before_age(site: Site) -> None:
    late = await site.accept("1.2.1", JobClass.P2)
    first = await site.accept("1.2.2", JobClass.P1)
    soon = await site.store.write(
        lambda tx: jobs.enqueue(
            tx, tenant=SITE, lane="1.2.3", kind="publication", job_class=JobClass.P1, now=NOON, deadline=NOON
        )
    )
    urgent = await site.accept("1.2.4", JobClass.P0)
    never = await site.accept("1.2.5", JobClass.P3)
    engine = site.engine(EngineSettings(slots=1))
    await settle_down(engine)
    order = [job for what, job in site.index.calls if what == "send"]
    assert order == [urgent, soon, first, late, never]


async def test_jobs_of_a_kind_nobody_registered_wait_untouched(site: Site) -> None:
    job_id = await site.store.write(
        lambda tx: jobs.enqueue(tx, tenant=SITE, lane="1.2.1", kind="import", job_class=JobClass.P1, now=NOON)
    )
    assert await site.engine().step() == 0
    assert await site.state(job_id) is State.SETTLING


async def test_a_poll_that_says_nothing_new_leaves_no_history(site: Site) -> None:
    async def settle(job: Job) -> Answer:
        return Answer(event=Event.NOT_YET, reason="pacs-silent" if job.tries < 4 else "images-missing")

    site.kind.settle = settle  # type: ignore[method-assign]  # this study is never complete
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    for _ in range(6):
        await settle_down(engine)
        site.clock.advance(900)
    rows = await site.rows("SELECT reason FROM outbox_history WHERE job_id = :id ORDER BY seq", id=job_id)
    assert [row["reason"] for row in rows] == ["", "pacs-silent", "images-missing"]
    assert (await site.job(job_id)).tries == 6


# ── lanes ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_i04_versions_of_one_study_reach_the_index_in_order_one_at_a_time(site: Site) -> None:
    site.index.mood.append("lost")
    site.kind.visibility_s = 600
    site.index.visible_after_s = 600
    first = await site.accept("1.2.1")
    engine = site.engine()
    await settle_down(engine)
    second = await site.accept("1.2.1")
    await settle_down(engine)
    assert (await site.state(first), await site.state(second)) == (State.UNKNOWN, State.SETTLING)
    site.clock.advance(600)
    await settle_down(engine)
    assert [job for _, _, job, _ in site.index.entries] == [first, second]
    site.clock.advance(600)
    await settle_down(engine)
    assert (await site.state(first), await site.state(second)) == (State.PUBLISHED, State.PUBLISHED)


async def test_a_newer_job_takes_the_place_of_an_unsent_one_and_inherits_its_urgency(site: Site) -> None:
    withdrawal = await site.accept("1.2.1", JobClass.P0)
    site.clock.advance(60)
    newer = await site.accept("1.2.1", JobClass.P2)
    job = await site.job(newer)
    assert await site.state(withdrawal) is State.SUPERSEDED
    assert (job.job_class, job.deadline) == (JobClass.P0, NOON + timedelta(minutes=15))


async def test_a_job_whose_bytes_may_have_left_is_never_superseded(site: Site) -> None:
    site.index.mood.append("dropped")
    site.kind.visibility_s = 600
    first = await site.accept("1.2.1")
    await settle_down(site.engine())
    await site.accept("1.2.1")
    assert await site.state(first) is State.UNKNOWN


async def test_a_refused_or_held_job_does_not_stop_a_newer_version(site: Site) -> None:
    for lane, mood, state in (("1.2.1", "refuse", State.DEAD), ("1.2.2", "hold", State.BLOCKED)):
        site.index.mood.append(mood)
        first = await site.accept(lane)
        await settle_down(site.engine())
        assert await site.state(first) is state
        second = await site.accept(lane)
        await settle_down(site.engine())
        assert (await site.state(first), await site.state(second)) == (State.SUPERSEDED, State.PUBLISHED)


async def test_a_held_job_stops_other_kinds_of_its_lane_until_it_is_lifted(site: Site) -> None:
    site.index.mood.append("hold")
    other = Site.on(site.store, seed=2)
    other.kind.name = "notice"
    other.clock, other.kind.clock, other.index.clock = site.clock, site.clock, site.clock
    held = await site.accept("1.2.1")
    await settle_down(site.engine())
    behind = await site.store.write(
        lambda tx: jobs.enqueue(tx, tenant=SITE, lane="1.2.1", kind="notice", job_class=JobClass.P1, now=NOON)
    )
    await settle_down(other.engine())
    assert await site.state(behind) is State.SETTLING
    await site.store.write(
        lambda tx: jobs.lift(
            tx, tenant=SITE, job_id=held, now=NOON, actor="identity-officer", reason="identity-confirmed"
        )
    )
    await settle_down(site.engine())
    await settle_down(other.engine())
    assert (await site.state(held), await site.state(behind)) == (State.PUBLISHED, State.PUBLISHED)


async def test_two_tenants_with_the_same_study_do_not_meet(site: Site) -> None:
    first = await site.accept("1.2.1")
    await site.store.write(
        lambda tx: jobs.enqueue(tx, tenant="autre", lane="1.2.1", kind="publication", job_class=JobClass.P1, now=NOON)
    )
    assert await site.state(first) is State.SETTLING
    with pytest.raises(Refused) as caught:
        await site.store.write(
            lambda tx: jobs.discard(tx, tenant="autre", job_id=first, now=NOON, actor="operator", reason="test")
        )
    assert caught.value.code == "unknown-job"


# ── orders of people ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_operator_gives_up_a_dead_job_and_the_audit_names_him(site: Site) -> None:
    site.index.mood.append("refuse")
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    await site.store.write(
        lambda tx: jobs.discard(
            tx, tenant=SITE, job_id=job_id, now=NOON, actor="operator:12", reason="duplicate-order"
        )
    )
    assert await site.state(job_id) is State.CANCELLED
    rows = await site.rows("SELECT event, actor, detail FROM audit_record ORDER BY seq DESC LIMIT 1")
    assert dict(rows[0]) == {
        "event": "job.cancelled",
        "actor": "operator:12",
        "detail": f"job {job_id} publication: discarded, duplicate-order",
    }


async def test_a_job_in_flight_cannot_be_discarded(site: Site) -> None:
    site.index.mood.append("lost")
    site.index.visible_after_s = site.kind.visibility_s = 600
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    with pytest.raises(Refused) as caught:
        await site.store.write(
            lambda tx: jobs.discard(tx, tenant=SITE, job_id=job_id, now=NOON, actor="operator", reason="test")
        )
    assert caught.value.code == "wrong-job-state"


async def test_a_job_that_begins_receiving_waits_for_its_signal(site: Site) -> None:
    def begin(tx: Tx) -> int:
        return jobs.enqueue(
            tx, tenant=SITE, lane="1.2.1", kind="publication", job_class=JobClass.P1, now=NOON, state=State.RECEIVING
        )

    job_id = await site.store.write(begin)
    assert await site.engine().step() == 0
    await site.store.write(lambda tx: jobs.received(tx, tenant=SITE, job_id=job_id, now=NOON))
    await settle_down(site.engine())
    assert await site.state(job_id) is State.PUBLISHED


async def test_a_job_cannot_begin_in_flight(site: Site) -> None:
    with pytest.raises(Broken) as caught:
        await site.store.write(
            lambda tx: jobs.enqueue(
                tx, tenant=SITE, lane="1.2.1", kind="publication", job_class=JobClass.P1, now=NOON, state=State.SENT
            )
        )
    assert caught.value.code == "bad-first-state"


# ── exactly once ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_i05_a_job_sent_again_after_absent_keeps_its_identity(site: Site) -> None:
    site.index.mood.extend(["dropped", "dropped"])
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    for _ in range(10):
        await settle_down(engine)
        site.clock.advance(60)
    documents = await site.rows("SELECT uid FROM lab_document WHERE job_id = :id", id=job_id)
    assert site.index.sends(job_id) == 3
    assert len(documents) == 1
    assert [(uid, job) for _, uid, job, _ in site.index.entries] == [(documents[0]["uid"], job_id)]


async def test_i07_published_and_what_it_implies_commit_together_or_not_at_all(site: Site) -> None:
    await site.store.write(lambda tx: tx.change("ALTER TABLE lab_entry RENAME TO lab_entry_away"))
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    await settle_down(engine)
    job = await site.job(job_id)
    assert (job.state, job.reason) == (State.ACCEPTED, "internal-fault")
    await site.store.write(lambda tx: tx.change("ALTER TABLE lab_entry_away RENAME TO lab_entry"))
    site.clock.advance(3600)
    await settle_down(engine)
    assert await site.state(job_id) is State.PUBLISHED
    assert len(await site.rows("SELECT uid FROM lab_entry WHERE job_id = :id", id=job_id)) == 1


@pytest.mark.parametrize(
    "site", ["sqlite"], indirect=True
)  # thousands of commits: the engine under it is shown elsewhere
async def test_ff20_an_index_that_commits_and_drops_the_socket_holds_each_exam_once(site: Site) -> None:
    site.index.mood.extend(["lost"] * 100)
    ids = [await site.accept(f"1.2.{n}") for n in range(100)]
    engine = site.engine()
    for _ in range(60):
        await settle_down(engine)
        site.clock.advance(60)
    assert sorted(job for _, _, job, _ in site.index.entries) == ids
    assert (await engine.snapshot()).counts == {(JobClass.P1, State.PUBLISHED): 100}


async def test_f07_an_accepted_send_whose_answer_is_lost_is_found_by_query(site: Site) -> None:
    site.index.mood.append("lost")
    job_id = await site.accept("1.2.1")
    await settle_down(site.engine())
    assert await site.history(job_id) == ["SETTLING", "READY", "LEASED", "SENT", "UNKNOWN", "PUBLISHED"]
    assert len(site.index.entries) == 1


async def test_f09_an_entry_that_shows_up_late_is_not_sent_again(site: Site) -> None:
    site.index.visible_after_s = 599
    site.kind.visibility_s = 600
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    for _ in range(11):
        await settle_down(engine)
        site.clock.advance(60)
    assert site.index.sends(job_id) == 1
    assert await site.state(job_id) is State.PUBLISHED


async def test_i09_an_unknown_job_is_not_sent_before_a_query_says_absent(site: Site) -> None:
    site.index.mood.append("dropped")
    site.kind.visibility_s = 300
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    for _ in range(299):
        await engine.step()
        site.clock.advance(1)
    assert site.index.sends(job_id) == 1
    for _ in range(60):
        await engine.step()
        site.clock.advance(10)
    assert site.index.sends(job_id) == 2
    at = [what for what, _ in site.index.calls]
    assert at[at.index("send") + 1] == "query"
    assert await site.state(job_id) is State.PUBLISHED


@pytest.mark.parametrize(
    "site", ["sqlite"], indirect=True
)  # thousands of commits: the engine under it is shown elsewhere
async def test_ff24_a_peer_that_swallows_every_send_is_not_sent_to_in_a_tight_loop(site: Site) -> None:
    site.index.mood.extend(["dropped"] * 10_000)
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    for _ in range(6 * 360):
        await engine.step()
        site.clock.advance(10)
    assert 10 < site.index.sends(job_id) < 80  # six hours; the wait grows to 7.5 minutes on average


# ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_loop_works_on_a_nudge_and_stops_when_told(site: Site) -> None:
    engine, stop = site.engine(EngineSettings(idle_s=60)), asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    await asyncio.sleep(0.05)
    job_id = await site.accept("1.2.1")
    engine.nudge()
    async with asyncio.timeout(10):
        while await site.state(job_id) is not State.PUBLISHED:
            await asyncio.sleep(0.005)
    stop.set()
    async with asyncio.timeout(5):
        await running


async def test_the_loop_finishes_the_calls_under_way_before_it_ends(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    engine, stop, gate = site.engine(), asyncio.Event(), Gate()
    await engine.step()
    site.kind.pause = gate
    running = asyncio.create_task(engine.run(stop))
    await gate.reached.wait()
    stop.set()
    await asyncio.sleep(0.02)
    assert not running.done()
    gate.open.set()
    await running
    assert await site.state(job_id) is State.ACCEPTED


async def test_a_cancelled_engine_keeps_an_outcome_that_is_known(site: Site) -> None:
    job_id = await site.accept("1.2.1")
    engine = site.engine()
    await engine.step()
    written = site.store.write

    async def write(work):  # the commit of the outcome is under way when the cancellation arrives
        if site.index.entries:
            working.cancel()
        return await written(work)

    site.store.write = write
    working = asyncio.create_task(engine.step())
    await asyncio.wait({working})
    del site.store.write
    assert working.cancelled()
    assert await site.state(job_id) is State.ACCEPTED


async def test_i15_a_slow_peer_leaves_slots_for_another(site: Site) -> None:
    gate = Gate()
    site.kind.pause = gate
    quick = Publication(site.store, Index(site.clock), site.clock, site.rng, name="notice", endpoint="other")
    engine = Engine(site.store, {"publication": site.kind, "notice": quick}, clock=site.clock, rng=site.rng)

    def ready(tx: Tx, lane: str, kind: str) -> int:
        job_id = jobs.enqueue(
            tx, tenant=SITE, lane=lane, kind=kind, job_class=JobClass.P1, now=NOON, state=State.READY
        )
        tx.change("INSERT INTO lab_document (job_id, uid) VALUES (:job_id, '2.25.1')", job_id=job_id)
        return job_id

    for n in range(10):
        await site.store.write(lambda tx, n=n: ready(tx, f"1.2.{n}", "publication"))
    other = await site.store.write(lambda tx: ready(tx, "1.3.1", "notice"))
    stop = asyncio.Event()
    running = asyncio.create_task(engine.run(stop))
    async with asyncio.timeout(10):
        while await site.state(other) is not State.PUBLISHED:
            await asyncio.sleep(0.005)
    assert (await engine.snapshot()).counts[JobClass.P1, State.SENT] == 4
    gate.open.set()
    stop.set()
    await running


async def test_f23_of_many_that_waited_the_most_urgent_is_claimed_first_and_none_is_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_WAKE_MAX", 5)
    ids = [await site.accept(f"1.2.{n}") for n in range(20)]
    urgent = await site.accept("1.2.99", JobClass.P0)
    due = to_ms(NOON + timedelta(seconds=60))
    await site.store.write(lambda tx: tx.change("UPDATE outbox_job SET not_before = :due + job_id", due=due))
    engine = site.engine(EngineSettings(slots=2))
    assert await engine.step() == 0
    site.clock.advance(61)
    assert await engine.step() == 1
    assert [await site.state(one) for one in (urgent, *ids[:2])] == [State.READY, State.SETTLING, State.SETTLING]
    await settle_down(engine, rounds=200)
    assert {await site.state(one) for one in (urgent, *ids)} == {State.PUBLISHED}


async def test_old_exams_have_what_others_leave_and_wait_while_a_new_one_would_be_late(site: Site) -> None:
    for n in range(30):
        await site.accept(f"2.25.3{n:02}", JobClass.P3)
    engine = site.engine()
    begun = [await engine.step() for _ in range(2)]
    assert begun == [1, 1], "a fifth of eight slots"

    minute = int(site.clock.now().timestamp()) // 60
    sql = "INSERT INTO outbox_minute VALUES (:tenant, :minute, 1, 0, :published, 9)"
    for back, published in ((90, 30), (1, 0)):
        await site.store.write(
            lambda tx, b=back, p=published: tx.change(sql, tenant=SITE, minute=minute - b, published=p)
        )
    await site.accept("2.25.1", JobClass.P1)
    site.clock.advance(60)  # the next sweep looks ahead: away for an hour and a half, due within one
    before = await _classes_begun(site)
    await engine.step()
    assert (await _classes_begun(site))[JobClass.P3] == before[JobClass.P3]


async def test_what_waited_half_of_its_day_goes_with_the_new_exams_and_keeps_its_deadline(site: Site) -> None:
    job_id = await site.accept("2.25.1", JobClass.P2)
    due = (await site.job(job_id)).deadline
    site.index.is_up = False
    engine = site.engine()
    site.clock.advance(11.9 * 3600)
    await engine.step()
    assert (await site.job(job_id)).job_class is JobClass.P2
    site.clock.advance(360)
    await engine.step()
    aged = await site.job(job_id)
    assert (aged.job_class, aged.deadline) == (JobClass.P1, due)


async def test_what_stands_before_a_withdrawal_in_its_lane_goes_with_its_urgency(site: Site) -> None:
    first = await site.accept("2.25.1", JobClass.P3)
    engine = site.engine()
    await engine.step()
    await engine.step()  # sent: it can no longer be overtaken
    assert (await site.job(first)).state is State.ACCEPTED
    await site.accept("2.25.1", JobClass.P0)
    assert (await site.job(first)).job_class is JobClass.P0


async def _classes_begun(site: Site) -> dict[JobClass, int]:
    rows = await site.rows(
        "SELECT job_class, COUNT(*) AS jobs FROM outbox_job WHERE lease_epoch > 0 GROUP BY job_class"
    )
    return {k: next((row["jobs"] for row in rows if row["job_class"] == k), 0) for k in JobClass}
