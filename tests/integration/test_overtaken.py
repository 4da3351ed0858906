"""A lane with several unfinished jobs: what was overtaken does not leave, what stops the lane is what people see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam
from indexer import exams, release, withdrawal
from indexer.exams import Wanted
from indexer.publication import job_kind
from indexer.timeline import ExamState
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import Event, State
from security.store.port import ReadTx, Tx
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def move(tx: Tx, job_id: int, event: Event, w: World, reason: str = "", owner: str | None = None) -> None:
    row = tx.rows("SELECT * FROM outbox_job WHERE job_id = :id", id=job_id)[0]
    assert jobs._move(tx, row, event, now=w.clock.now(), reason=reason, owner=owner)


async def test_i10_a_job_overtaken_between_its_claim_and_its_sending_does_not_leave(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.engine.step()
    claimed = await w.store.write(
        lambda tx: jobs.claim(
            tx,
            owner="one",
            now=w.clock.now(),
            limit=1,
            kinds={job_kind(TENANT): "index"},
            permits={"index": 1},
            spare=8,
            settles={job_kind(TENANT): 1},
        )
    )
    assert [one.state for one in claimed] == [State.LEASED]

    def overtake(tx: Tx) -> None:
        jobs.enqueue(
            tx,
            tenant=TENANT,
            lane=STUDY,
            kind=job_kind(TENANT),
            job_class=JobClass.P1,
            now=w.clock.now(),
            state=State.BLOCKED,
            reason="patient-opposed",
        )

    await w.store.write(overtake)
    assert await w.store.write(lambda tx: jobs.attempt(tx, claimed[0], now=w.clock.now())) is None
    assert [one.state for one in await w.jobs_of(STUDY)] == [State.SUPERSEDED, State.BLOCKED]
    assert await w.count("outbox_attempt") == 0


async def test_an_exam_whose_lane_is_stopped_says_by_what_and_goes_on_once_tried_again(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()

    def stop(tx: Tx) -> int:
        job_id = withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=STUDY, actor="Odile Garde", reason="asked by mail", now=w.clock.now()
        )
        move(tx, job_id, Event.HELD, w, reason="entry-changed-by-others")
        return job_id

    stopping = await w.store.write(stop)
    await w.store.write(
        lambda tx: jobs.enqueue(
            tx, tenant=TENANT, lane=STUDY, kind=job_kind(TENANT), job_class=JobClass.P1, now=w.clock.now()
        )
    )
    await w.settle(rounds=5)

    def seen(tx: ReadTx) -> list[tuple[ExamState, str]]:
        one = exams.one(tx, TENANT, STUDY)
        lines = exams.find(tx, Wanted()).lines
        assert {state: n for state, n in exams.counts(tx, "").by_state.items() if n} == {one.state: 1}
        return [(one.state, one.reason), *((line.state, line.reason) for line in lines)]

    assert await w.store.read(seen) == [(ExamState.HELD, "entry-changed-by-others")] * 2
    await w.store.write(
        lambda tx: release.retry(
            tx, w.admission, STUDY, actor="Odile Garde", reason="asked the index", now=w.clock.now()
        )
    )
    assert (await w.jobs_of(STUDY))[1].job_id == stopping
    await w.settle()
    assert not [one for one in await w.jobs_of(STUDY) if one.state is State.BLOCKED]


async def test_i9_a_send_in_doubt_that_stopped_its_lane_is_asked_after_once_tried_again(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.engine.step()
    first = (await w.last(STUDY)).job_id

    def die(tx: Tx) -> None:
        move(tx, first, Event.CLAIMED, w, owner="one")
        move(tx, first, Event.ATTEMPTED, w, owner="one")
        move(tx, first, Event.POISON, w, reason="poison")

    await w.store.write(die)
    w.pacs.hold(EXAM, instances=5)
    await w.store.write(
        lambda tx: jobs.enqueue(
            tx, tenant=TENANT, lane=STUDY, kind=job_kind(TENANT), job_class=JobClass.P1, now=w.clock.now()
        )
    )
    await w.settle(rounds=5)
    assert (await w.store.read(lambda tx: exams.one(tx, TENANT, STUDY))).state is ExamState.FAILED
    await w.store.write(
        lambda tx: release.retry(
            tx, w.admission, STUDY, actor="Odile Garde", reason="the worker is mended", now=w.clock.now()
        )
    )
    await w.settle()
    assert (await w.store.read(lambda tx: exams.one(tx, TENANT, STUDY))).state is ExamState.INDEXED
