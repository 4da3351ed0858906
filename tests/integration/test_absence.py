"""Which absences of a PACS without control study are believed: only those it gives while it finds its witness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam, LabRequest, build_omi
from indexer import exclusion, presence, witness
from indexer.publication import job_kind
from indexer.study import Unknown
from indexer.timeline import ExamState, deciding_job, exam_state
from security.outbox import jobs
from security.outbox.port import JobClass
from tests.support.reconciling import lab_exam
from tests.support.world import TENANT, World, world

OLD, GONE, LATE = (lab_exam(number) for number in (9101, 9102, 9103))


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        made.pacs.is_proven = False
        yield made


async def publish(w: World, *exams: LabExam) -> None:
    for exam in exams:
        w.pacs.hold(exam)
        assert "MSA|AA|" in await w.report(exam)
        await w.settle()
        w.clock.advance(60)


async def look(w: World, exam: LabExam, *, rounds: int = 12) -> tuple[ExamState, str]:
    now = w.clock.now()
    await w.store.write(
        lambda tx: jobs.enqueue(
            tx, tenant=TENANT, lane=exam.studies[0], kind=job_kind(TENANT), job_class=JobClass.P2, now=now
        )
    )
    await w.settle(rounds=rounds)
    return await stands(w, exam)


async def stands(w: World, exam: LabExam) -> tuple[ExamState, str]:
    job = deciding_job(await w.jobs_of(exam.studies[0]))
    assert job is not None
    return exam_state(job), job.reason


async def shown(w: World, *exams: LabExam) -> list[int]:
    return [[status for _, status in await w.entries(exam)].count("Approved") for exam in exams]


async def an_hour(w: World, exam: LabExam) -> tuple[ExamState, str]:
    w.clock.advance(3700)
    return await look(w, exam)


def cancel(exam: LabExam) -> bytes:
    request = LabRequest(
        control="CA", study=exam.studies[0], accession=exam.orders[0].accession_number, exam_change=False
    )
    return build_omi(request, control_id=f"CA-{exam.studies[0]}", patient=exam.patient)


async def test_ff54_a_pacs_that_finds_its_witness_is_believed_the_second_time(w: World) -> None:
    await publish(w, OLD, GONE)
    del w.pacs.studies[GONE.studies[0]]
    assert await look(w, GONE) == (ExamState.WAITING, "pacs-absent-once")
    assert await shown(w, OLD, GONE) == [1, 1]
    await an_hour(w, GONE)
    assert await shown(w, OLD, GONE) == [1, 0]


async def test_ff54_the_only_exam_is_never_withdrawn_but_by_a_person(w: World) -> None:
    await publish(w, GONE)
    w.pacs.studies.clear()
    assert await look(w, GONE) == (ExamState.HELD, "pacs-unproven")
    assert await an_hour(w, GONE) == (ExamState.HELD, "pacs-unproven")
    assert await shown(w, GONE) == [1]
    now = w.clock.now()
    await w.store.write(
        lambda tx: exclusion.withdraw(
            tx, w.admission, GONE.studies[0], actor="operator:ana", reason="deleted at the desk", now=now
        )
    )
    await w.settle()
    assert await shown(w, GONE) == [0]


async def test_ff54_an_emptied_pacs_makes_every_exam_wait_and_none_leaves(w: World) -> None:
    await publish(w, OLD, GONE, LATE)
    held = dict(w.pacs.studies)
    w.pacs.studies.clear()
    for _ in range(3):
        assert {await an_hour(w, one) for one in (OLD, GONE, LATE)} == {(ExamState.WAITING, "pacs-witness-missing")}
    assert await shown(w, OLD, GONE, LATE) == [1, 1, 1]
    w.pacs.studies |= held
    await w.settle()
    assert [await stands(w, one) for one in (OLD, GONE, LATE)] == [(ExamState.INDEXED, "")] * 3


async def test_ff54_a_pacs_restored_from_a_copy_finds_the_old_exams_and_is_not_believed(w: World) -> None:
    await publish(w, OLD, GONE, LATE)
    for lost in (GONE, LATE):
        del w.pacs.studies[lost.studies[0]]
    for _ in range(3):
        for lost in (GONE, LATE):
            assert await an_hour(w, lost) == (ExamState.WAITING, "pacs-witness-missing")
    assert await shown(w, OLD, GONE, LATE) == [1, 1, 1]


async def test_ff54_an_announced_end_waits_for_a_pacs_that_proves_itself(w: World) -> None:
    await publish(w, GONE)
    w.pacs.studies.clear()
    assert "MSA|AA|" in await w.raw(cancel(GONE))
    await w.settle(rounds=12)
    assert await stands(w, GONE) == (ExamState.WAITING, "pacs-unproven")
    assert await shown(w, GONE) == [1]
    await publish(w, LATE)
    await w.settle()
    assert await shown(w, GONE, LATE) == [0, 1]


async def test_ff54_an_announced_end_is_not_believed_from_an_emptied_pacs(w: World) -> None:
    await publish(w, OLD, GONE)
    w.pacs.studies.clear()
    await w.raw(cancel(GONE))
    await w.settle(rounds=12)
    assert await an_hour(w, GONE) == (ExamState.WAITING, "pacs-witness-missing")
    assert await shown(w, OLD, GONE) == [1, 1]


async def test_two_exams_whose_end_was_announced_do_not_wait_for_each_other(w: World) -> None:
    await publish(w, OLD, GONE, LATE)
    for lost in (GONE, LATE):
        del w.pacs.studies[lost.studies[0]]
        await w.raw(cancel(lost))
    await w.settle()
    assert await shown(w, OLD, GONE, LATE) == [1, 0, 0]


async def test_ff54_a_first_absence_that_nothing_proved_is_not_the_first_of_two(w: World) -> None:
    await publish(w, OLD, GONE)
    held = w.pacs.studies.copy()
    w.pacs.studies.clear()
    await look(w, GONE)
    w.pacs.studies[OLD.studies[0]] = held[OLD.studies[0]]
    assert await an_hour(w, GONE) == (ExamState.WAITING, "pacs-absent-once")
    assert await shown(w, OLD, GONE) == [1, 1]


async def test_ff54_a_witness_that_cannot_be_asked_for_proves_nothing(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(w, OLD, GONE)
    del w.pacs.studies[GONE.studies[0]]
    find = w.pacs.find

    async def silent_about_the_old(study):
        return Unknown(reason="timeout", detail="no answer") if study == OLD.studies[0] else await find(study)

    monkeypatch.setattr(w.pacs, "find", silent_about_the_old)
    assert await look(w, GONE) == (ExamState.WAITING, "pacs-timeout")
    assert await an_hour(w, GONE) == (ExamState.WAITING, "pacs-timeout")
    assert await shown(w, GONE) == [1]


async def test_an_exam_that_was_never_shown_needs_no_witness(w: World) -> None:
    assert "MSA|AA|" in await w.report(GONE)
    await w.settle(rounds=12)
    assert await stands(w, GONE) == (ExamState.WAITING, "pacs-has-no-such-study")


async def test_the_witness_is_the_other_exam_of_the_index_that_this_pacs_held_most_recently(w: World) -> None:
    await publish(w, OLD, GONE, LATE)

    async def of(study: str = GONE.studies[0], pacs: str = "main") -> str | None:
        return await w.store.read(lambda tx: witness.of(tx, TENANT, study, pacs))

    assert await of() == LATE.studies[0]
    assert await of(pacs="archive") is None, "another PACS held none"
    await look(w, OLD)
    assert await of() == OLD.studies[0]
    ended = w.clock.now() + timedelta(seconds=1)
    await w.store.write(lambda tx: presence.announce(tx, TENANT, OLD.studies[0], now=ended))
    assert await of() == LATE.studies[0], "an exam that may be gone is no witness"
    now = w.clock.now()
    await w.store.write(
        lambda tx: exclusion.withdraw(
            tx, w.admission, LATE.studies[0], actor="operator:ana", reason="wrong exam", now=now
        )
    )
    await w.settle()
    assert await of() is None, "the index does not show it any more"
