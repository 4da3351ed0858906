"""When an exam goes out: the images are waited for by evidence, over restarts and clocks that jump, never for ever.

Real store, real index node, turned clock; the PACS in memory says what the test lets it say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam
from indexer import exams, exclusion
from indexer.admission import Carrier
from indexer.completeness import Policy
from indexer.imaging import availability
from indexer.imaging.availability import Availability, Notice
from indexer.imaging.steps import NewStep, Performed, StepChange, Steps, StepStatus
from indexer.ledger import evidence_of
from indexer.study import PacsPatient
from indexer.timeline import ExamState
from security.errors import Refused
from security.identity import Uid
from security.store.port import Tx
from tests.integration.test_lifecycle import CORRECTION, EXAM, FLAGS, SECOND, STUDY, approved, look, stands, take_back
from tests.support.world import TENANT, World, world

MINUTE = 60
POLICY = Policy(by="evidence", apart=timedelta(minutes=5), idle=timedelta(minutes=10), ceiling=timedelta(minutes=45))
STEP = Uid("1.2.9.1")
NUMBERS = count(1)
PATIENT = PacsPatient(
    patient_id=EXAM.patient.ipp,
    issuer="",
    name=f"{EXAM.patient.birth_name}^{EXAM.patient.first_given_name}",
    birth_date=f"{EXAM.patient.birth_date:%Y%m%d}",
    sex=EXAM.patient.sex,
)
ARRIVING = (ExamState.WAITING, "images-arriving")
AT_WORK = (ExamState.WAITING, "images-step-in-progress")
INDEXED = (ExamState.INDEXED, "")


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, completeness=POLICY) as made:
        yield made


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[World]:
    """A tenant of which a validated report alone publishes, as in drim-m."""
    async with world(tmp_path, completeness=replace(POLICY, by="report")) as made:
        yield made


async def reported(w: World, exam: LabExam = EXAM, **words: str) -> None:
    assert "MSA|AA|" in await w.report(exam, **words)
    await w.settle(step_s=0.1)


async def pass_by(w: World, minutes: int) -> None:
    """Time passes, and the engine runs every minute."""
    for _ in range(minutes):
        w.clock.advance(MINUTE)
        await w.settle(rounds=20, step_s=0.1)


def carrier(w: World) -> Carrier:
    return Carrier(control_id="N-SET 1", zone="pacs", at=w.clock.now())


async def begin(w: World, *studies: str) -> None:
    """A modality creates its step (MPPS N-CREATE)."""
    named = tuple(map(Uid, studies or (STUDY,)))
    step = NewStep(uid=STEP, studies=named, patient=PATIENT, performed=Performed(series=0, instances=0))
    await w.store.write(lambda tx: steps(w).create(tx, step, peer="CT1", zone="pacs", now=w.clock.now()))


async def end(w: World, instances: int) -> None:
    """The modality completes its step (N-SET)."""
    change = StepChange(status=StepStatus.COMPLETED, performed=Performed(series=1, instances=instances))

    def work(tx: Tx) -> None:
        for study, arrived in steps(w).change(tx, STEP, change, now=w.clock.now()).items():
            w.admission.announce(tx, study, arrived, carrier(w))

    await w.store.write(work)


def steps(w: World) -> Steps:
    return Steps(tenant=TENANT, ledger=w.ledger, rules=w.policy.rules)


async def notify(w: World, instances: int, how: Availability = Availability.ONLINE) -> None:
    """The archive notifies the first instances (IAN)."""
    said = {Uid(f"{STUDY}.1.{n}"): how for n in range(1, instances + 1)}
    notice = Notice(uid=Uid(f"1.2.8.{next(NUMBERS)}"), study=Uid(STUDY), instances=said)

    def work(tx: Tx) -> None:
        availability.record(tx, w.ledger, TENANT, notice, peer="PACS", zone="pacs", now=w.clock.now())
        if notice.arrival:
            w.admission.announce(tx, STUDY, notice.arrival, carrier(w))

    await w.store.write(work)


async def told(w: World, kind: str = "images-complete") -> list[str]:
    return [one.summary for one in await w.store.read(lambda tx: evidence_of(tx, TENANT, STUDY)) if one.kind == kind]


async def creates(w: World) -> list[bool]:
    """Of each version that was made: whether it replaces nothing."""
    rows = await w.store.read(lambda tx: tx.rows("SELECT replaces FROM manifest ORDER BY version"))
    return [row["replaces"] is None for row in rows]


# -- which evidence decides ----------------------------------------------------------------------------------------


async def test_ff13_without_a_word_of_modality_or_archive_a_quiet_pacs_decides(w: World) -> None:
    w.pacs.hold(EXAM)
    began = w.clock.now()
    await reported(w)
    assert await stands(w) == ARRIVING
    shown = await w.store.read(lambda tx: exams.one(tx, TENANT, STUDY))
    assert shown.next_try is not None
    assert shown.next_try - began == timedelta(minutes=10)
    assert "looked at again at the time given" in shown.missing
    await pass_by(w, 9)
    assert await approved(w) == 0
    w.pacs.hold(EXAM, instances=5)
    await look(w)
    await pass_by(w, 9)
    assert await approved(w) == 0, "what arrived begins the quiet anew"
    await pass_by(w, 2)
    assert await stands(w) == INDEXED
    assert await told(w, "images-seen") == ["3 instances", "5 instances"]
    (said,) = await told(w)
    assert said.startswith("by count: ")
    assert said.endswith("; 5 instances")


async def test_ff13_steps_that_ended_before_the_report_came_decide_at_once(w: World) -> None:
    await begin(w)
    await end(w, 3)
    w.pacs.hold(EXAM)
    await reported(w)
    assert await stands(w) == INDEXED
    assert (await told(w))[0].startswith("by mpps: ")


async def test_ff13_a_notification_of_the_archive_decides_once_all_it_lists_is_found(w: World) -> None:
    w.pacs.hold(EXAM, instances=2)
    await reported(w)
    await notify(w, 3)
    await w.settle(step_s=0.1)
    assert await stands(w) == (ExamState.WAITING, "images-expected")
    w.pacs.hold(EXAM)
    await look(w)
    assert await stands(w) == INDEXED
    assert (await told(w))[0].startswith("by ian: ")


async def test_ff13_a_step_that_nobody_ends_waits_for_the_ceiling_and_no_longer(w: World) -> None:
    w.pacs.hold(EXAM)
    await begin(w)
    await reported(w)
    await pass_by(w, 44)
    assert await stands(w) == AT_WORK
    await pass_by(w, 2)
    assert await stands(w) == INDEXED
    (said,) = await told(w)
    assert said.startswith(
        "by ceiling: it waited as long as it may, though a performed procedure step is in progress"
    )


@pytest.mark.parametrize(("listed", "by"), [(0, "count"), (4, "ceiling"), (2, "mpps")])
async def test_ff14_whatever_the_modality_counts_the_manifest_lists_what_the_pacs_holds(
    w: World, listed: int, by: str
) -> None:
    w.pacs.hold(EXAM)
    await begin(w)
    await end(w, listed)
    await reported(w)
    await pass_by(w, 46)
    assert await approved(w) == 1
    (said,) = await told(w)
    assert said.startswith(f"by {by}: ")
    rows = await w.store.read(lambda tx: tx.rows("SELECT instances FROM manifest"))
    assert [row["instances"] for row in rows] == [3]


async def test_what_a_step_performed_for_two_exams_is_no_count_of_one(w: World) -> None:
    w.pacs.hold(EXAM)
    await begin(w, STUDY, "1.2.3.4")
    await end(w, 6)
    await reported(w)
    assert await stands(w) == ARRIVING


async def test_ff13_what_an_archive_no_longer_offers_is_not_waited_for(w: World) -> None:
    w.pacs.hold(EXAM, instances=2)
    await notify(w, 3)
    await notify(w, 3, Availability.UNAVAILABLE)
    await notify(w, 2)
    await reported(w)
    assert await stands(w) == INDEXED
    assert (await told(w))[0].startswith("by ian: ")


# -- pauses, restarts, clocks --------------------------------------------------------------------------------------


async def test_ff13_a_pause_of_three_idle_times_a_restart_and_a_late_object_make_one_create_and_one_replace(
    w: World,
) -> None:
    await begin(w)
    w.pacs.hold(EXAM)
    await reported(w)
    await pass_by(w, 15)
    w.restart("live")  # mid-timer: whatever waited, waits on
    await pass_by(w, 15)
    assert await stands(w) == AT_WORK
    w.pacs.hold(EXAM, instances=6)
    await end(w, 6)
    await w.settle(step_s=0.1)
    assert await approved(w) == 1
    w.clock.advance(24 * 60 * MINUTE)
    w.pacs.hold(EXAM, instances=7)  # the dose report
    await look(w)
    assert await stands(w) == ARRIVING
    await pass_by(w, 5)
    w.restart("live")
    await pass_by(w, 6)
    assert await stands(w) == INDEXED
    assert await creates(w) == [True, False]
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_ff13_a_pause_that_nobody_announced_is_one_create_and_replaces(w: World) -> None:
    w.pacs.hold(EXAM)
    await reported(w)
    await pass_by(w, 30)
    assert await stands(w) == INDEXED
    w.pacs.hold(EXAM, instances=6)
    await look(w)
    await pass_by(w, 11)
    assert await creates(w) == [True, False]
    assert await approved(w) == 1


async def test_ff13_looks_in_between_and_a_restart_move_no_due_time(w: World) -> None:
    w.pacs.hold(EXAM)
    await reported(w)
    for _ in range(3):
        await pass_by(w, 3)
        w.restart("live")
        await look(w)
    assert await stands(w) == ARRIVING
    await pass_by(w, 2)
    assert await stands(w) == INDEXED


@pytest.mark.parametrize("days", [-400, -1, 1])
async def test_ff13_a_clock_that_jumps_loses_nothing_and_freezes_nothing(w: World, days: int) -> None:
    w.pacs.hold(EXAM)
    await begin(w)
    await reported(w)
    w.clock.jump(timedelta(days=days))
    w.restart("live")
    await look(w)
    await pass_by(w, 47)
    assert await stands(w) == INDEXED
    assert (await told(w))[0].startswith("by ceiling: ")
    assert await creates(w) == [True]


# -- late images ---------------------------------------------------------------------------------------------------


async def test_a_validated_report_alone_publishes_where_that_is_the_rule(alone: World) -> None:
    await begin(alone)
    alone.pacs.hold(EXAM)
    await reported(alone)
    assert await stands(alone) == INDEXED
    assert (await told(alone))[0].startswith("by report: ")


async def test_ff15_late_batches_wait_for_a_quiet_pacs_and_replace_once(alone: World) -> None:
    alone.pacs.hold(EXAM, instances=1)
    await reported(alone)
    for batch in range(5):
        alone.pacs.hold(EXAM, instances=2 + batch)
        await notify(alone, 2 + batch)
        await look(alone)
        await pass_by(alone, 2)
    assert await creates(alone) == [True]
    await pass_by(alone, 11)
    assert await creates(alone) == [True, False]
    assert sorted(status for _, status in await alone.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_ff15_images_that_never_stop_are_published_at_each_ceiling(alone: World) -> None:
    alone.pacs.hold(EXAM, instances=1)
    await reported(alone)
    for minute in range(100):
        alone.pacs.hold(EXAM, instances=2 + minute)
        await look(alone)
        await pass_by(alone, 1)
    assert len(await creates(alone)) == 3
    assert [said.partition(":")[0] for said in await told(alone)] == ["by report", "by ceiling", "by ceiling"]


@pytest.mark.parametrize("what", ["a stricter flag", "a removed image"])
async def test_nothing_but_late_images_waits_for_images(alone: World, what: str) -> None:
    alone.pacs.hold(EXAM)
    await reported(alone)
    alone.pacs.hold(EXAM, instances=5)
    await look(alone)
    assert await stands(alone) == ARRIVING
    if what == "a stricter flag":
        masked = replace(CORRECTION, flags={**FLAGS, "MASQUE_PS": "Y"})
        await reported(alone, masked, order_control="RO")
    else:
        alone.pacs.hold(EXAM, instances=2)
        await look(alone)
    assert await stands(alone) == INDEXED
    assert await creates(alone) == [True, False]


async def test_images_that_came_and_went_leave_no_wait_behind(alone: World) -> None:
    alone.pacs.hold(EXAM)
    await reported(alone)
    alone.pacs.hold(EXAM, instances=4)
    await look(alone)
    alone.pacs.hold(EXAM)
    await look(alone)
    assert await stands(alone) == INDEXED
    await pass_by(alone, 50)
    alone.pacs.hold(EXAM, instances=4)
    await look(alone)
    assert await stands(alone) == ARRIVING, "a new wait, not the end of the old one"


async def test_a_wait_that_a_withdrawn_report_ended_is_not_gone_on_with(w: World) -> None:
    w.pacs.hold(EXAM)
    await begin(w)
    await reported(w)
    assert "MSA|AA|" in await take_back(w)
    await w.settle(step_s=0.1)
    await pass_by(w, 50)
    await reported(w, SECOND)
    assert await stands(w) == AT_WORK, "the old wait would be at its ceiling"


# -- a person ------------------------------------------------------------------------------------------------------


def by_hand(w: World, reason: str = "the radiologist says nothing is missing") -> Callable[[Tx], None]:
    now = w.clock.now()
    return lambda tx: exclusion.publish(tx, w.admission, STUDY, actor="operator:ana", reason=reason, now=now)


async def test_a_person_publishes_what_waits_for_images_and_it_is_on_record(w: World) -> None:
    w.pacs.hold(EXAM)
    await begin(w)
    await reported(w)
    await w.store.write(by_hand(w))
    await w.settle(step_s=0.1)
    assert await stands(w) == INDEXED
    assert (await told(w))[0].startswith("by person: ")
    assert await told(w, "hurried") == ["the radiologist says nothing is missing (operator:ana)"]
    audited = await w.store.read(lambda tx: tx.rows("SELECT actor FROM audit_record WHERE event = 'exam.hurried'"))
    assert [row["actor"] for row in audited] == ["operator:ana"]


async def test_a_persons_word_counts_once(w: World) -> None:
    w.pacs.hold(EXAM)
    await reported(w)
    await w.store.write(by_hand(w))
    await w.settle(step_s=0.1)
    w.pacs.hold(EXAM, instances=5)
    await look(w)
    assert await stands(w) == ARRIVING


async def test_an_exam_that_waits_for_nothing_of_the_kind_is_not_hurried(w: World) -> None:
    await reported(w)
    with pytest.raises(Refused) as refused:
        await w.store.write(by_hand(w))
    assert refused.value.code == "not-waiting-for-images"
