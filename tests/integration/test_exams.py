"""The list of exams and its counts say what each exam's own timeline says, in order, page by page, on both engines."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from indexer import exams
from indexer.exams import Line, Page, Wanted
from indexer.timeline import OVER, SHADOW, ExamState, deciding_job, exam_state
from security.clock import to_ms
from security.errors import BadInput
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import TABLE, TERMINAL, Event, State
from security.store.port import GROUND, ReadTx, Store, Tx
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import NOON

TENANTS = ("north", "south")
REASONS = ("", SHADOW, "identity-name", "pacs-has-no-such-study", "index-http-503")


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    opened = await fresh(request.param, request).open(components=[GROUND])
    yield opened
    await opened.close()


def play(tx: Tx, seed: int, *, lanes: int, changes: int) -> None:
    """Jobs of several kinds in few lanes, moved along the state table at random; many changes share one moment."""
    rng = Random(seed)
    for step in range(changes):
        now = NOON + timedelta(seconds=step // 4)
        tenant, lane = rng.choice(TENANTS), f"1.2.{rng.randrange(lanes)}"
        kind = rng.choice([f"publish:{tenant}"] * 3 + [f"withdraw:{tenant}"])
        live = [one for one in jobs.lane_jobs(tx, tenant=tenant, lane=lane) if one.state not in TERMINAL]
        if not live or rng.random() < 0.2:
            job_class = JobClass.P0 if kind.startswith("withdraw") and rng.random() < 0.5 else JobClass.P1
            jobs.enqueue(tx, tenant=tenant, lane=lane, kind=kind, job_class=job_class, now=now)
            continue
        job = rng.choice(live)
        row = tx.rows("SELECT * FROM outbox_job WHERE job_id = :id", id=job.job_id)[0]
        event = rng.choice([event for state, event in TABLE if state is job.state])
        owner = "one" if TABLE[job.state, event] in {State.LEASED, State.SENT} else None
        jobs._move(tx, row, event, now=now, reason=rng.choice(REASONS), owner=owner)


def naive(tx: ReadTx, tenant: str = "") -> list[Line]:
    """Every exam by the definition: group all jobs by lane, ask the timeline, sort."""
    groups: dict[tuple[str, str], list[jobs.Job]] = {}
    for row in tx.rows("SELECT * FROM outbox_job ORDER BY job_id"):
        groups.setdefault((row["tenant"], row["lane"]), []).append(jobs.job_of(row))
    last = {
        row["job_id"]: row["at"]
        for row in tx.rows("SELECT job_id, MAX(at) AS at FROM outbox_history GROUP BY job_id")
    }
    found = []
    for (owner, study), lane in groups.items():
        job = deciding_job(lane)
        if job is None or tenant not in {"", owner}:
            continue
        state = exam_state(job)
        reason = "" if state in OVER else job.reason
        found.append((last[job.job_id], job.job_id, owner, study, state, reason))
    found.sort(reverse=True)
    return [
        Line(
            tenant=owner,
            study=study,
            state=state,
            reason=reason,
            missing="",
            changed_at=jobs.from_ms(at),
            next_try=None,
            deadline=None,
        )
        for at, _, owner, study, state, reason in found
    ]


def told(lines: list[Line] | tuple[Line, ...]) -> list[tuple[object, ...]]:
    return [(one.tenant, one.study, one.state, one.reason, to_ms(one.changed_at)) for one in lines]


def every(tx: ReadTx, wanted: Wanted) -> list[Line]:
    """All pages."""
    lines: list[Line] = []
    page = Page(lines=(), next="")
    while True:
        page = exams.find(tx, replace(wanted, before=page.next))
        lines += page.lines
        if not page.next:
            return lines
        assert len(page.lines) == wanted.limit


@pytest.mark.parametrize("seed", range(4))
async def test_lists_and_counts_say_what_every_lane_says_by_itself(store: Store, seed: int) -> None:
    await store.write(lambda tx: play(tx, seed, lanes=12, changes=250))

    def compare(tx: ReadTx) -> None:
        for tenant in ("", *TENANTS):
            truth = naive(tx, tenant)
            assert told(every(tx, Wanted(tenant=tenant, limit=5))) == told(truth)
            counted = exams.counts(tx, tenant)
            assert {s: n for s, n in counted.by_state.items() if n} == Counter(one.state for one in truth)
            waiting = [one for one in truth if one.state not in OVER]
            assert counted.by_reason == Counter((one.state, one.reason) for one in waiting)
            for state in ExamState:
                of_state = [one for one in truth if one.state is state]
                assert told(every(tx, Wanted(tenant=tenant, state=state, limit=3))) == told(of_state)
            for reason in REASONS[1:]:
                of_reason = [one for one in truth if one.reason == reason]
                assert told(every(tx, Wanted(tenant=tenant, reason=reason, limit=3))) == told(of_reason)
        since, until = NOON + timedelta(seconds=20), NOON + timedelta(seconds=45)
        between = [one for one in naive(tx) if since <= one.changed_at < until]
        assert between
        assert told(every(tx, Wanted(since=since, until=until, limit=4))) == told(between)
        for one in naive(tx):
            assert told(exams.find(tx, Wanted(tenant=one.tenant, study=one.study)).lines) == told([one])

    await store.read(compare)


async def test_an_exam_of_which_nothing_is_left_is_found_by_its_name_alone(store: Store) -> None:
    def work(tx: Tx) -> None:
        job_id = jobs.enqueue(
            tx, tenant="north", lane="1.2", kind="publish:north", job_class=JobClass.P1, now=NOON, reason="x"
        )
        row = tx.rows("SELECT * FROM outbox_job WHERE job_id = :id", id=job_id)[0]
        jobs._move(tx, row, Event.UNNEEDED, now=NOON, reason="no-valid-report")

    await store.write(work)
    page = await store.read(lambda tx: exams.find(tx, Wanted(study="1.2")))
    assert [(one.state, one.reason) for one in page.lines] == [(ExamState.WAITING, "no-valid-report")]
    assert (await store.read(lambda tx: exams.find(tx, Wanted()))).lines == ()
    assert (await store.read(lambda tx: exams.counts(tx, ""))).by_state == {}


async def test_a_page_tells_what_is_missing_when_it_is_tried_next_and_by_when(store: Store) -> None:
    def work(tx: Tx) -> None:
        job_id = jobs.enqueue(tx, tenant="north", lane="1.2", kind="publish:north", job_class=JobClass.P1, now=NOON)
        row = tx.rows("SELECT * FROM outbox_job WHERE job_id = :id", id=job_id)[0]
        later = NOON + timedelta(minutes=5)
        jobs._move(tx, row, Event.NOT_YET, now=NOON, reason="pacs-has-no-such-study", not_before=later)

    await store.write(work)
    line = (await store.read(lambda tx: exams.find(tx, Wanted()))).lines[0]
    assert line.missing.startswith("the PACS does not have this study yet")
    assert line.next_try == NOON + timedelta(minutes=5)
    assert line.deadline == NOON + timedelta(minutes=60)


async def test_a_poll_that_says_what_the_last_one_said_changes_no_place_in_the_list(store: Store) -> None:
    def work(tx: Tx) -> None:
        for lane in ("1.1", "1.2"):
            jobs.enqueue(tx, tenant="north", lane=lane, kind="publish:north", job_class=JobClass.P1, now=NOON)
        for minute in (1, 2, 3):
            row = tx.rows("SELECT * FROM outbox_job WHERE lane = '1.1'")[0]
            jobs._move(tx, row, Event.NOT_YET, now=NOON + timedelta(minutes=minute), reason="pacs-timeout")

    await store.write(work)
    lines = (await store.read(lambda tx: exams.find(tx, Wanted()))).lines
    assert [one.changed_at for one in lines] == [NOON + timedelta(minutes=1), NOON]


@pytest.mark.parametrize("cursor", ["x", "1-", "-1", "1-2-3", "9" * 30 + "-1", "١-٢"])
async def test_a_cursor_that_is_none_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(BadInput) as refused:
        await store.read(lambda tx: exams.find(tx, Wanted(before=cursor)))
    assert refused.value.code == "bad-cursor"
