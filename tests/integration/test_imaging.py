"""What the imaging side says by DICOM reaches the exams: rejection notes, steps, availability, received objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.dimse import inbox
from gateway.lab.pacs import LabPacs, PacsFault
from gateway.lab.phantom import LabObject, LabStudy
from gateway.lab.ris import LabExam
from indexer.imaging.availability import Availability, notices
from indexer.imaging.rejections import refused, rejected
from indexer.imaging.steps import StepStatus, performed_steps
from indexer.study import Absent, Found, Instance, PacsPatient, Series, Study, Unknown
from indexer.timeline import ExamState, deciding_job, exam_state
from indexer.waiting import _said
from security.identity import Uid
from security.store.place import PostgresPlace
from tests.fixtures.rejections import CT, KO, TITLES, ended, note, notice, step
from tests.support.imaging import AET, IAN, MPPS, NOTES, ImagingDoor, imaged, imaging_door, named
from tests.support.pacs import control_in, dimse_peer, lab_pacs, source_of
from tests.support.world import TENANT, world

__all__ = ["lab_pacs"]
EXAM = LabExam()
STUDY = EXAM.studies[0]


@pytest.fixture
async def d(tmp_path: Path, lab_pacs: LabPacs) -> AsyncIterator[ImagingDoor]:
    source = source_of(dimse_peer(port=lab_pacs.port, called_aet=lab_pacs.aet, control=control_in(lab_pacs)))
    async with world(tmp_path, source=source) as w, imaging_door(w, tmp_path, sources=[source]) as opened:
        yield opened
    await source.close()


async def published(d: ImagingDoor, pacs: LabPacs, *, instances: int = 3) -> LabStudy:
    """The exam in PACS and index."""
    made = imaged(EXAM, instances=instances)
    for one in made.objects:
        pacs.store(one.data)
    await d.w.report(EXAM)
    await d.w.settle()
    assert await shown(d) == ["Approved"]
    return made


async def shown(d: ImagingDoor) -> list[str]:
    return sorted(status for _, status in await d.w.entries(EXAM))


async def listed(d: ImagingDoor) -> int:
    """Instances of the newest version."""
    rows = await d.w.store.read(lambda tx: tx.rows("SELECT instances FROM manifest ORDER BY version DESC LIMIT 1"))
    return int(rows[0]["instances"])


async def state(d: ImagingDoor) -> ExamState:
    job = deciding_job(await d.w.jobs_of(STUDY))
    assert job is not None
    return exam_state(job)


def kept_alone(pacs: LabPacs, made: LabStudy, left: int) -> None:
    """The PACS hides or deletes all but the last ``left``."""
    pacs.delete_study(STUDY)
    for one in made.objects[len(made.objects) - left :]:
        pacs.store(one.data)


# -- rejection notes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", list(TITLES))
@pytest.mark.parametrize("called", [NOTES, AET])
async def test_ff27_a_rejection_note_of_every_title_has_the_pacs_asked_wherever_it_is_sent(
    d: ImagingDoor, lab_pacs: LabPacs, title: str, called: str
) -> None:
    made = await published(d, lab_pacs)
    kept_alone(lab_pacs, made, 1)
    told = note({STUDY: made.objects[:2]}, title=title, **named(EXAM))
    assert await d.note(told, called=called) == (0, "")
    await d.w.settle()
    assert await shown(d) == ["Approved", "Deprecated"]
    assert await listed(d) == 1
    kinds = dict(await d.timeline(STUDY))
    assert kinds["images-rejected"] == f"{title} {TITLES[title]}: 2 instances, by note 1.2.250.1.999.77.1 of pacs"
    (row,) = await d.audited("dicom.rejection-noted")
    assert (row["actor"], row["object_id"], row["detail"]) == ("pacs-peer pacs", STUDY, f"{title} 2")


@pytest.mark.parametrize("title", list(TITLES))
async def test_ff27_one_clean_absence_is_enough_once_a_note_said_that_the_exam_is_gone(
    d: ImagingDoor, lab_pacs: LabPacs, title: str
) -> None:
    made = await published(d, lab_pacs)
    lab_pacs.delete_study(STUDY)
    await d.note(note({STUDY: made.objects}, title=title, **named(EXAM)))
    await d.w.settle()
    assert await shown(d) == []
    assert await state(d) is ExamState.WITHDRAWN


@pytest.mark.parametrize("title", ["113001", "113037", "113038"])
async def test_a_manifest_lists_nothing_that_was_rejected_also_while_the_pacs_still_has_it(
    d: ImagingDoor, lab_pacs: LabPacs, title: str
) -> None:
    made = await published(d, lab_pacs)
    await d.note(note({STUDY: made.objects[:1]}, title=title, **named(EXAM)))
    await d.w.settle()
    assert await listed(d) == 2
    assert await shown(d) == ["Approved", "Deprecated"]
    await d.note(note({STUDY: made.objects[1:]}, title=title, uid="1.2.250.1.999.77.2", **named(EXAM)))
    await d.w.settle()
    assert "Approved" not in await shown(d), "everything that the PACS holds was rejected"
    made.add_series("CT", instances=1)
    lab_pacs.store(made.objects[-1].data)
    await d.w.report(LabExam(document_id="1.2.250.1.999.5.2"))
    await d.w.settle()
    assert await listed(d) == 1, "what was taken anew is published without what was rejected"


async def test_an_expired_image_that_the_pacs_still_shows_stays(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    """113039: right images are being deleted, and the PACS alone says which are left."""
    made = await published(d, lab_pacs)
    await d.note(note({STUDY: made.objects}, title="113039", **named(EXAM)))
    await d.w.settle()
    assert await shown(d) == ["Approved"]


async def test_ff54_a_note_while_the_pacs_is_silent_withdraws_nothing(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    lab_pacs.fault = PacsFault.FAIL_STATUS
    await d.note(note({STUDY: made.objects}, title="113037", **named(EXAM)))
    await d.w.settle(rounds=6)
    assert await shown(d) == ["Approved"]
    lab_pacs.fault = None
    d.w.clock.advance(60)
    await d.w.settle()
    assert "Approved" not in await shown(d)


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "SOMEBODY-ELSE"},
        {"PatientID": ""},
        {"PatientName": "REVENANT^PAUL"},
        {"PatientBirthDate": "19010101"},
    ],
)
@pytest.mark.parametrize("called", [NOTES, AET])
async def test_a_note_that_names_another_patient_is_kept_refused_and_not_obeyed(
    d: ImagingDoor, lab_pacs: LabPacs, other: dict[str, str], called: str
) -> None:
    made = await published(d, lab_pacs)
    answer = await d.note(note({STUDY: made.objects}, title="113037", **named(EXAM, **other)), called=called)
    assert answer == (0xC000, "kept, not obeyed: rejection-other-patient")
    await d.w.settle()
    assert await shown(d) == ["Approved"]
    assert await listed(d) == 3
    (row,) = await d.rows()
    assert (row["keeping"], row["reason"]) == ("quarantined", "rejection-other-patient")
    assert "rejection-refused" in dict(await d.timeline(STUDY))
    assert [one.study for one in await d.w.store.read(lambda tx: refused(tx, TENANT))] == [STUDY]
    assert len(await d.files()) == 1
    lab_pacs.delete_study(STUDY)
    await d.w.report(LabExam(document_id="1.2.250.1.999.5.2"))
    await d.w.settle()
    assert await shown(d) == ["Approved"], "one absence without a valid announcement is not enough"


async def test_a_note_of_two_studies_is_obeyed_for_both_or_for_none(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    other = LabExam(
        studies=("1.2.250.1.999.6.2",),
        document_id="1.2.250.1.999.5.9",
        orders=EXAM.orders,
        patient=type(EXAM.patient)(birth_name="AUTRE", first_given_name="ZOÉ", ipp="IPP-AUTRE", rank=12),
    )
    theirs = imaged(other)
    for one in theirs.objects:
        lab_pacs.store(one.data)
    await d.w.report(other)
    await d.w.settle()
    both = {STUDY: made.objects, other.studies[0]: theirs.objects}
    assert (await d.note(note(both, **named(EXAM))))[0] == 0xC000
    await d.w.settle()
    assert await listed(d) == 3
    assert await d.w.store.read(lambda tx: rejected(tx, TENANT, STUDY)) == {}


async def test_a_note_about_an_unknown_exam_is_a_fact_that_waits_for_its_report(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = imaged(EXAM)
    for one in made.objects:
        lab_pacs.store(one.data)
    assert await d.note(note({STUDY: made.objects[:1]}, **named(EXAM))) == (0, "")
    assert await d.w.jobs_of(STUDY) == []
    assert await d.timeline(STUDY) == []
    await d.w.report(EXAM)
    await d.w.settle()
    assert await listed(d) == 2
    assert "images-rejected" in dict(await d.timeline(STUDY))


async def test_an_early_note_for_another_patient_is_not_obeyed_when_the_report_comes(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = imaged(EXAM)
    for one in made.objects:
        lab_pacs.store(one.data)
    assert (await d.note(note({STUDY: made.objects}, **named(EXAM, PatientID="ELSE"))))[0] == 0
    await d.w.report(EXAM)
    await d.w.settle()
    assert await listed(d) == 3
    assert "rejection-refused" in dict(await d.timeline(STUDY))


async def test_the_same_note_again_is_one_effect_and_other_content_under_its_uid_is_refused(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    told = note({STUDY: made.objects[:1]}, **named(EXAM))
    for _ in range(3):
        assert await d.note(told) == (0, "")
    await d.w.settle()
    kinds = [kind for kind, _ in await d.timeline(STUDY)]
    assert kinds.count("images-rejected") == 1
    jobs = len(await d.w.jobs_of(STUDY))
    await d.empty()
    assert await d.note(told) == (0, ""), "also after its file went"
    assert len(await d.w.jobs_of(STUDY)) == jobs
    answer = await d.note(note({STUDY: made.objects}, **named(EXAM)))
    assert answer == (0xC000, "kept, not obeyed: rejection-other-content")
    await d.w.settle()
    assert await listed(d) == 2


async def test_a_note_that_was_refused_is_judged_again_when_it_comes_again(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    told = note({STUDY: made.objects[:1]}, **named(EXAM, PatientID="ELSE"))
    assert (await d.note(told))[0] == 0xC000
    assert (await d.note(told))[0] == 0xC000
    kinds = [kind for kind, _ in await d.timeline(STUDY)]
    assert kinds.count("rejection-refused") == 1


async def test_an_obeyed_note_is_emptied_out_and_what_it_says_stays(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    await d.note(note({STUDY: made.objects[:1]}, **named(EXAM)))
    assert len(await d.files()) == 1
    await d.empty()
    assert (await d.rows(), await d.files()) == ([], [])
    assert list(await d.w.store.read(lambda tx: rejected(tx, TENANT, STUDY))) == [made.objects[0].sop_instance]
    (row,) = await d.audited("dicom.released")
    assert row["detail"] == "1 rejection notes obeyed"


async def test_ff08_what_is_no_note_is_refused_at_their_ae_title_kept_and_disturbs_no_neighbour(
    d: ImagingDoor, lab_pacs: LabPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await published(d, lab_pacs)
    sane = {STUDY: made.objects[:1]}
    who = named(EXAM)
    assert await d.note(note(sane, title="113000", uid="1.2.9.1", **who)) == (0xA900, "kept, not obeyed: iocm-title")
    differs = note(sane, uid="1.2.9.2", flagged=made.objects[1:], **who)
    assert await d.note(differs) == (0xC000, "kept, not obeyed: iocm-evidence")
    empty = note({STUDY: ()}, uid="1.2.9.3", **who)
    assert await d.note(empty) == (0xC000, "kept, not obeyed: iocm-evidence")
    assert (await d.note(note(sane, uid="1.2.9.4", **who)[:-9]))[0] == 0xC210
    assert await d.note(made.objects[0].data, sop_class=str(made.objects[0].sop_class)) == (-1, "")
    monkeypatch.setattr("gateway.dimse.notes.NOTE_BYTES_MAX", 100)
    assert await d.note(note(sane, uid="1.2.9.5", **who)) == (0xC000, "kept, not obeyed: rejection-too-large")
    monkeypatch.undo()
    kept = [(row["keeping"], row["reason"]) for row in await d.rows()]
    assert kept == [
        ("quarantined", "iocm-title"),
        ("quarantined", "iocm-evidence"),
        ("quarantined", "iocm-evidence"),
        ("quarantined", "dicom-truncated"),
        ("quarantined", "rejection-too-large"),
    ]
    await d.w.settle()
    assert await listed(d) == 3
    assert await d.note(note(sane, **who)) == (0, "")
    await d.w.settle()
    assert await listed(d) == 2


async def test_a_key_object_of_another_title_is_an_object_of_its_study_at_the_storage_ae(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    told = note({STUDY: made.objects[:1]}, title="113000", **named(EXAM))
    assert await d.note(told, called=AET) == (0, "")
    (row,) = await d.rows()
    assert (row["kind"], row["keeping"]) == ("object", "stored")


async def test_t06_only_peers_that_may_send_notes_steps_or_notices_are_heard(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    told = note({STUDY: made.objects}, title="113037", **named(EXAM))
    assert await d.note(told, aet="SCANNER1") == (-1, "")
    answer = await d.note(told, called=AET, aet="SCANNER1")
    assert answer == (0x0124, "kept, not obeyed: this peer may not reject")
    assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM)), aet="SCANNER1") == (-1, "")
    assert await d.n_create(IAN, "1.2.8.2", notice(STUDY, made.objects, "ONLINE"), aet="SCANNER1") == (-1, "")
    assert await d.store(made.objects[:1], aet="SCANNER2") == [-1]
    await d.w.settle()
    assert await listed(d) == 3
    (row,) = await d.rows()
    assert row["reason"] == "rejection-not-allowed"


async def test_a_note_that_a_crash_left_unread_is_read_from_its_row(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    reader = d.emptying._storage.key_objects
    d.emptying._storage.key_objects = None  # as if the process had died before it was read
    assert await d.note(note({STUDY: made.objects[:1]}, **named(EXAM))) == (0, "")
    d.emptying._storage.key_objects = reader
    assert await d.w.store.read(lambda tx: rejected(tx, TENANT, STUDY)) == {}
    await d.empty()
    await d.w.settle()
    assert await listed(d) == 2
    assert await d.rows() == []


# -- performed steps -------------------------------------------------------------------------------------------


async def test_a_completed_step_has_the_pacs_asked_and_is_kept_with_its_counts(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM))) == (0, "")
    assert await d.n_set("1.2.8.1", ended("IN PROGRESS", made.objects[:1])) == (0, "")
    made.add_series("CT", instances=2)
    for one in made.objects[3:]:
        lab_pacs.store(one.data)
    assert await d.n_set("1.2.8.1", ended("COMPLETED", made.objects)) == (0, "")
    await d.w.settle()
    assert await listed(d) == 5
    (found,) = await d.w.store.read(lambda tx: performed_steps(tx, TENANT, STUDY))
    assert (found.status, found.peer, found.performed.series, found.performed.instances) == (
        StepStatus.COMPLETED,
        "pacs",
        2,
        5,
    )
    assert found.ended_at is not None
    kinds = [kind for kind, _ in await d.timeline(STUDY)]
    assert (kinds.count("step-begun"), kinds.count("step-completed")) == (1, 1)
    assert [row["detail"] for row in await d.audited("dicom.step")] == ["IN PROGRESS", "IN PROGRESS", "COMPLETED"]


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
async def test_a_step_that_has_ended_is_never_changed_also_after_a_restart(
    tmp_path: Path, lab_pacs: LabPacs, final: str
) -> None:
    """PS3.4 F.7.2.2: 0x0110, Performed Procedure Step Object may no longer be updated."""
    async with world(tmp_path) as w:
        async with imaging_door(w, tmp_path) as d:
            assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM))) == (0, "")
            assert await d.n_set("1.2.8.1", ended(final)) == (0, "")
        async with imaging_door(w, tmp_path) as d:
            for status in ("COMPLETED", "DISCONTINUED", "IN PROGRESS"):
                assert await d.n_set("1.2.8.1", ended(status)) == (
                    0x0110,
                    "Performed Procedure Step Object may no longer be updated",
                )
            (found,) = await w.store.read(lambda tx: performed_steps(tx, TENANT, STUDY))
            assert found.status == final


async def test_what_a_step_lacks_is_answered_by_the_status_of_the_standard(d: ImagingDoor) -> None:
    who = named(EXAM)
    assert (await d.n_create(MPPS, "1.2.8.1", step(STUDY, status="COMPLETED", **who)))[0] == 0x0106
    assert await d.n_create(MPPS, "1.2.8.1", step(**who)) == (0x0120, "ScheduledStepAttributesSequence is missing")
    assert await d.n_create(MPPS, "1.2.8.1", step("", **who)) == (0x0120, "StudyInstanceUID is missing")
    assert await d.n_set("1.2.8.1", ended("COMPLETED")) == (0x0112, "no such step")
    assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **who)) == (0, "")
    assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **who)) == (0x0111, "this step exists")
    assert (await d.n_set("1.2.8.1", ended("DONE")))[0] == 0x0106
    assert await d.n_set("1.2.8.1", ended("COMPLETED"), aet="SCANNER2") == (0x0124, "another peer created this step")
    (found,) = await d.w.store.read(lambda tx: performed_steps(tx, TENANT, STUDY))
    assert found.status is StepStatus.IN_PROGRESS


async def test_ff27_a_discontinued_step_lets_one_clean_absence_end_the_exam(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    await published(d, lab_pacs)
    lab_pacs.delete_study(STUDY)
    await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM)))
    assert await d.n_set("1.2.8.1", ended("DISCONTINUED", reason="110514")) == (0, "")
    await d.w.settle()
    assert await shown(d) == []
    assert "reason 110514" in dict(await d.timeline(STUDY))["step-discontinued"]


async def test_a_discontinued_step_of_an_exam_that_the_pacs_still_has_changes_nothing(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    await published(d, lab_pacs)
    await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM)))
    await d.n_set("1.2.8.1", ended("DISCONTINUED"))
    await d.w.settle()
    assert await shown(d) == ["Approved"]


async def test_a_discontinued_step_of_another_patient_announces_no_end(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    await published(d, lab_pacs)
    lab_pacs.delete_study(STUDY)
    await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM, PatientID="ELSE")))
    assert await d.n_set("1.2.8.1", ended("DISCONTINUED")) == (0, "")
    await d.w.settle()
    assert await shown(d) == ["Approved"]
    assert "identity-warning" in dict(await d.timeline(STUDY))


async def test_a_step_of_an_unknown_exam_is_a_fact_and_nothing_else(d: ImagingDoor) -> None:
    await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM)))
    await d.n_set("1.2.8.1", ended("COMPLETED"))
    assert await d.w.jobs_of(STUDY) == []
    assert len(await d.w.store.read(lambda tx: performed_steps(tx, TENANT, STUDY))) == 1


# -- availability ----------------------------------------------------------------------------------------------


async def test_a_notice_of_images_online_has_the_pacs_asked(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = await published(d, lab_pacs)
    made.add_series("CT", instances=1)
    lab_pacs.store(made.objects[-1].data)
    said = notice(STUDY, made.objects, "ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")
    assert await d.n_create(IAN, "1.2.8.5", said) == (0, "")
    await d.w.settle()
    assert await listed(d) == 4
    (found,) = await d.w.store.read(lambda tx: notices(tx, TENANT, STUDY))
    assert set(found.notice.instances.values()) == set(Availability)
    assert found.notice.retrievable == 2
    assert await d.n_create(IAN, "1.2.8.5", said) == (0x0111, "this notice exists")
    assert [row["detail"] for row in await d.audited("dicom.availability")] == ["2 of 4"]


@pytest.mark.parametrize(("said", "asked"), [("OFFLINE", 0), ("UNAVAILABLE", 1)])
async def test_ff54_a_notice_that_images_are_gone_is_recorded_and_withdraws_nothing_by_itself(
    tmp_path: Path, said: str, asked: int
) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path) as d:
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle()
        before = w.pacs.asked
        w.pacs.studies.clear()
        assert await d.n_create(IAN, "", notice(STUDY, imaged(EXAM).objects, said)) == (0, "")
        await d.w.settle(rounds=4)
        assert w.pacs.asked - before == asked
        assert await shown(d) == ["Approved"]
        assert "images-unavailable" in dict(await d.timeline(STUDY))


async def test_what_a_notice_lacks_is_answered_by_the_status_of_the_standard(d: ImagingDoor) -> None:
    objects = imaged(EXAM).objects
    assert (await d.n_create(IAN, "1.2.8.6", notice(STUDY, objects, "PERHAPS")))[0] == 0x0106
    assert await d.n_create(IAN, "1.2.8.6", notice("", objects, "ONLINE")) == (0x0120, "StudyInstanceUID is missing")
    assert (await d.n_set("1.2.8.6", notice(STUDY, objects, "ONLINE"), sop_class=IAN))[0] == 0x0211


# -- received objects ------------------------------------------------------------------------------------------


async def test_received_objects_are_told_to_their_exam_once_and_go_when_the_pacs_shows_them(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    made.add_series("CT", instances=2)
    late = made.objects[3:]
    assert await d.store(late) == [0, 0]
    await d.empty(after_s=5)
    assert "objects-received" not in dict(await d.timeline(STUDY)), "more may still come"
    await d.empty()
    await d.w.settle()
    assert [kind for kind, _ in await d.timeline(STUDY)].count("objects-received") == 1
    assert len(await d.files()) == 2, "no PACS shows them yet"
    lab_pacs.store(late[0].data)
    await d.empty(after_s=120)
    assert [row["sop_uid"] for row in await d.rows()] == [late[1].sop_instance]
    lab_pacs.store(late[1].data)
    await d.empty(after_s=120)
    assert (await d.rows(), await d.files()) == ([], [])
    assert await d.w.count("received_study") == 0
    assert [row["detail"] for row in await d.audited("dicom.released")] == ["1 objects that the PACS shows"] * 2
    await d.w.settle()
    assert await listed(d) == 5
    assert (await shown(d)).count("Approved") == 1


@pytest.mark.parametrize(
    "fault", [PacsFault.FAIL_STATUS, PacsFault.ABORT_MID_FIND, PacsFault.EMPTY, PacsFault.REFUSE]
)
async def test_ff54_received_bytes_never_go_on_silence_or_absence(
    d: ImagingDoor, lab_pacs: LabPacs, fault: PacsFault
) -> None:
    made = imaged(EXAM)
    for one in made.objects:
        lab_pacs.store(one.data)
    lab_pacs.fault = fault
    assert await d.store(made.objects) == [0, 0, 0]
    for _ in range(4):
        await d.empty(after_s=3700)
    assert (len(await d.rows()), len(await d.files())) == (3, 3)
    lab_pacs.fault = None
    await d.empty(after_s=3700)
    assert (await d.rows(), await d.files()) == ([], [])


async def test_ff09_of_two_objects_under_one_uid_none_goes(d: ImagingDoor, lab_pacs: LabPacs) -> None:
    made = imaged(EXAM, instances=1)
    lab_pacs.store(made.objects[0].data)
    await d.store(made.objects)
    altered = imaged(EXAM, instances=1, name="FANTÔME^AUTREMENT")
    assert altered.objects[0].sop_instance == made.objects[0].sop_instance
    await d.store(altered.objects)
    await d.empty()
    assert len(await d.rows()) == 2
    assert len(await d.files()) == 2


async def test_an_object_of_the_same_uid_in_another_series_of_the_pacs_is_not_confirmed(tmp_path: Path) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path) as d:
        made = imaged(EXAM, instances=1)
        shown_ = found_in_pacs(made.objects).study
        elsewhere = replace(shown_.series[0], uid=Uid("1.2.250.1.999.6.7"))
        w.pacs.answer = Found(study=replace(shown_, series=(elsewhere,)))
        await d.store(made.objects)
        await d.empty()
        assert len(await d.files()) == 1


async def test_the_same_bytes_again_are_one_telling_also_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle()
        objects = imaged(EXAM).objects
        async with imaging_door(w, tmp_path) as d:
            assert await d.store(objects) == [0, 0, 0]
        async with imaging_door(w, tmp_path) as d:
            await d.empty()
            assert await d.store(objects) == [0, 0, 0]
            await d.empty(after_s=120)
            assert [kind for kind, _ in await d.timeline(STUDY)].count("objects-received") == 1
            assert len(await d.files()) == 3


async def test_objects_of_an_unknown_exam_are_kept_and_nothing_else_happens(tmp_path: Path) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path) as d:
        w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
        await d.store(imaged(EXAM).objects)
        await d.empty()
        assert await w.jobs_of(STUDY) == []
        assert len(await d.files()) == 3
        w.pacs.answer = Unknown(reason="timeout", detail="no answer")
        await d.empty(after_s=120)
        assert len(await d.files()) == 3


async def test_an_event_reaches_an_exam_that_is_being_published_in_the_order_of_its_lane(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = imaged(EXAM)
    for one in made.objects:
        lab_pacs.store(one.data)
    await d.w.report(EXAM)
    assert await d.w.engine.step(), "it is on its way"
    await d.note(note({STUDY: made.objects[:1]}, title="113037", **named(EXAM)))
    await d.w.settle()
    assert await listed(d) == 2
    assert (await shown(d)).count("Approved") == 1


async def test_what_was_rejected_is_not_waited_for_though_a_notice_promises_it(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    assert await d.n_create(IAN, "1.2.8.11", notice(STUDY, made.objects, "ONLINE")) == (0, "")
    await d.note(note({STUDY: made.objects[:1]}, title="113039", **named(EXAM)))
    (promised,) = (await d.w.store.read(lambda tx: _said(tx, TENANT, Uid(STUDY)))).notices
    assert promised.instances == {one.sop_instance for one in made.objects[1:]}


# -- what ends an exam says nothing of one that is out -----------------------------------------------------------


async def test_what_only_ends_exams_does_not_wake_one_that_is_out_of_the_index(
    d: ImagingDoor, lab_pacs: LabPacs
) -> None:
    made = await published(d, lab_pacs)
    lab_pacs.delete_study(STUDY)
    await d.note(note({STUDY: made.objects}, title="113039", **named(EXAM)))
    await d.w.settle()
    assert await state(d) is ExamState.WITHDRAWN
    assert await d.n_create(IAN, "1.2.8.9", notice(STUDY, made.objects, "UNAVAILABLE")) == (0, "")
    await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM)))
    assert await d.n_set("1.2.8.1", ended("DISCONTINUED")) == (0, "")
    again = note({STUDY: made.objects[:1]}, title="113037", uid="1.2.250.1.999.77.3", **named(EXAM))
    assert await d.note(again) == (0, "")
    await d.w.settle()
    assert await state(d) is ExamState.WITHDRAWN
    for one in made.objects[1:]:
        lab_pacs.store(one.data)
    assert await d.n_create(IAN, "1.2.8.10", notice(STUDY, made.objects, "ONLINE")) == (0, "")
    await d.w.settle()
    assert await state(d) is ExamState.INDEXED, "new images are a new reason"
    assert await listed(d) == 2


# -- crashes, engines, room ----------------------------------------------------------------------------------------


async def test_f01_a_crash_between_row_and_file_lets_the_object_be_looked_for_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        objects = imaged(EXAM, instances=1).objects
        async with imaging_door(w, tmp_path) as d:
            await d.store(objects)
            found = await w.store.read(lambda tx: inbox.stored_of(tx, TENANT, STUDY))
            await w.store.write(lambda tx: inbox.release(tx, TENANT, found, why="crash", now=w.clock.now()))
            assert (len(await d.rows()), len(await d.files())) == (0, 1)
        async with imaging_door(w, tmp_path) as d:
            (row,) = await d.rows()
            assert (row["keeping"], row["peer"]) == ("stored", "pacs")
            w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
            await d.empty()
            assert len(await d.files()) == 1
            w.pacs.answer = found_in_pacs(objects)
            await d.empty(after_s=120)
            assert (await d.rows(), await d.files()) == ([], [])


def found_in_pacs(objects: Sequence[LabObject]) -> Found:
    """The PACS holds these."""
    held = tuple(Instance(sop_class=one.sop_class, sop_instance=one.sop_instance) for one in objects)
    person = PacsPatient(patient_id="", issuer="", name="", birth_date="", sex="")
    series = Series(uid=objects[0].series, modality="CT", instances=held)
    return Found(study=Study(uid=Uid(STUDY), patient=person, accession_number="", date="", time="", series=(series,)))


async def test_a_silent_pacs_is_asked_for_one_study_at_a_look_and_every_exam_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path) as d:
        for number in (1, 2, 3):
            await d.store(imaged(LabExam(studies=(f"1.2.250.1.999.6.{number}",)), instances=1).objects)
        w.pacs.answer = Unknown(reason="timeout", detail="no answer")
        await d.empty()
        assert w.pacs.asked == 1
        rows = await w.store.read(lambda tx: tx.rows("SELECT told FROM received_study"))
        assert [row["told"] for row in rows] == [1, 1, 1]
        w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
        await d.empty()
        assert w.pacs.asked == 4


async def test_a_full_disk_is_answered_that_it_is_to_be_sent_later(tmp_path: Path) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path, room=lambda: False) as d:
        told = step(STUDY, **named(EXAM))
        assert await d.n_create(MPPS, "1.2.8.1", told) == (0x0213, "no room: send it again later")
        assert await d.n_set("1.2.8.1", ended("COMPLETED")) == (0x0213, "no room: send it again later")
        assert await d.n_create(IAN, "", notice(STUDY, imaged(EXAM).objects, "ONLINE")) == (
            0x0213,
            "no room: send it again later",
        )
        assert await d.w.count("performed_step") == 0


@pytest.mark.postgres
async def test_the_same_on_postgresql(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    async with world(tmp_path, place=postgres_place) as w, imaging_door(w, tmp_path) as d:
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle()
        made = imaged(EXAM)
        assert await d.note(note({STUDY: made.objects}, title="113039", **named(EXAM))) == (0, "")
        assert (await d.note(note({STUDY: made.objects}, uid="1.2.9.9", **named(EXAM, PatientID="ELSE"))))[
            0
        ] == 0xC000
        assert await d.n_create(MPPS, "1.2.8.1", step(STUDY, **named(EXAM))) == (0, "")
        assert await d.n_set("1.2.8.1", ended("COMPLETED", made.objects)) == (0, "")
        assert (await d.n_set("1.2.8.1", ended("COMPLETED")))[0] == 0x0110
        assert await d.n_create(IAN, "", notice(STUDY, made.objects, "ONLINE")) == (0, "")
        assert await d.store(made.objects) == [0, 0, 0]
        w.pacs.answer = found_in_pacs(made.objects[:1])
        await d.empty()
        kept = [(row["keeping"], row["sop_class"]) for row in await d.rows()]
        assert sorted(kept) == [("quarantined", KO), *[("stored", CT)] * 2]
        (found,) = await w.store.read(lambda tx: performed_steps(tx, TENANT, STUDY))
        assert found.performed.instances == 3


async def test_what_lies_too_long_in_the_inbox_is_counted_for_the_alert(tmp_path: Path) -> None:
    async with world(tmp_path) as w, imaging_door(w, tmp_path) as d:
        await d.store(imaged(EXAM).objects)

        async def late() -> int:
            before = w.clock.now() - timedelta(hours=24)
            return await w.store.read(lambda tx: inbox.unconfirmed(tx, TENANT, before=before))

        assert await late() == 0
        w.clock.advance(24 * 3600 + 1)
        assert await late() == 3
        ((key, (number, _)),) = (await w.store.read(inbox.oldest)).items()
        assert (key, number) == ((TENANT, "stored"), 3)
