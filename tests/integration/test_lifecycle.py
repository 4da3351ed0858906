"""An exam's whole life: what withdraws it, what replaces it, what brings it back, and what never does.

Real store, real index node, turned clock; the PACS in memory says what the test lets it say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import (
    LabExam,
    LabPatient,
    LabRequest,
    build_adt_consent,
    build_adt_identity,
    build_mdm,
    build_omi,
    build_oru,
)
from indexer import exclusion, presence
from indexer.decision import ABSENT_MAX
from indexer.exchanges import rows
from indexer.ledger import evidence_of
from indexer.publication import job_kind
from indexer.study import Absent, Unknown
from indexer.timeline import ExamState, deciding_job, exam_state
from security.errors import BadInput, Refused
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from tests.integration.test_messages import said
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
ID2 = "1.2.250.1.213.4.5.9.1.9002"
SECOND = replace(EXAM, document_id=ID2)
CORRECTION = replace(EXAM, document_id=ID2, replaces=EXAM.document_id, version_number=2)
FLAGS = EXAM.flags
ELSE = LabPatient(ipp="IPP9002", birth_name="REVENANT", first_given_name="PAUL", sex="M", rank=43)
REASON = "wrong exam, seen at the desk"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def publish(w: World, exam: LabExam = EXAM) -> None:
    w.pacs.hold(exam)
    assert "MSA|AA|" in await w.report(exam)
    await w.settle()
    assert await approved(w) == 1


async def approved(w: World, exam: LabExam = EXAM) -> int:
    return [status for _, status in await w.entries(exam)].count("Approved")


async def stands(w: World, study: str = STUDY) -> tuple[ExamState | None, str]:
    job = deciding_job(await w.jobs_of(study))
    return (exam_state(job), job.reason) if job else (None, "")


async def noted(w: World) -> list[str]:
    return [one.kind for one in await w.store.read(lambda tx: evidence_of(tx, TENANT, STUDY))]


async def take_back(w: World, exam: LabExam = EXAM, *, how: str = "T04", id_: str = "T") -> str:
    if how == "T04":
        return await w.raw(build_mdm(exam, control_id=id_, event="T04", order_control="CA", result_status="D"))
    words = {"order_control": "CA"} if how == "CA" else {"result_status": "D"}
    return await w.raw(build_oru(exam, control_id=id_, **words))


async def look(w: World) -> None:
    """What a PACS that announces a change asks for."""
    now = w.clock.now()
    await w.store.write(
        lambda tx: jobs.enqueue(tx, tenant=TENANT, lane=STUDY, kind=job_kind(TENANT), job_class=JobClass.P2, now=now)
    )
    await w.settle()


# -- reports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["T04", "CA", "D"])
async def test_a_report_that_is_withdrawn_takes_its_exam_out_of_the_index(w: World, how: str) -> None:
    await publish(w)
    assert "MSA|AA|" in await take_back(w, how=how)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.WITHDRAWN, "")
    assert (await w.last(STUDY)).job_class is JobClass.P0
    assert "report-withdrawn" in await noted(w)


async def test_a_withdrawn_report_does_not_come_back_by_itself(w: World) -> None:
    await publish(w)
    await take_back(w)
    await w.settle()
    ack = await w.report(EXAM)
    assert "|wrong-version|" in ack
    assert "900^" in ack
    await take_back(w, id_="AGAIN")
    await look(w)
    assert await w.entries(EXAM) == []
    assert "MSA|AA|" in await w.report(SECOND)
    await w.settle()
    assert await approved(w) == 1


async def test_a_withdrawal_of_a_replaced_report_is_refused_as_a_wrong_version(w: World) -> None:
    await publish(w)
    assert "MSA|AA|" in await w.report(CORRECTION, order_control="RO")
    await w.settle()
    ack = await take_back(w)
    assert "MSA|AE|" in ack
    assert "900^" in ack
    await w.settle()
    assert await approved(w) == 1
    assert "MSA|AA|" in await take_back(w, CORRECTION, id_="T2")
    await w.settle()
    assert await approved(w) == 0


async def test_a_late_original_of_a_withdrawn_correction_stays_replaced(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(CORRECTION, order_control="RO")
    await w.settle()
    await take_back(w, CORRECTION)
    await w.settle()
    await w.report(EXAM)
    await w.settle()
    assert await approved(w) == 0


async def test_ff19_a_withdrawal_that_names_another_patient_changes_nothing(w: World) -> None:
    await publish(w)
    ack = await take_back(w, replace(EXAM, patient=ELSE))
    assert "|ins-conflict|" in ack
    assert "904^" in ack
    await w.settle()
    assert await approved(w) == 1


async def test_a_withdrawal_while_the_first_version_is_on_its_way_wins(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-41",), times=1))
    await w.report(EXAM)
    while not w.index.switches.counts["ITI-41"]:
        await w.engine.step()
    await take_back(w)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert w.index.switches.counts["ITI-41"] == 1


async def test_of_two_reports_the_one_that_remains_decides_and_its_flags(w: World) -> None:
    await publish(w, replace(EXAM, flags={**FLAGS, "INVISIBLE_PATIENT": "N", "MASQUE_PS": "Y"}))
    await w.report(replace(SECOND, flags={**FLAGS, "INVISIBLE_PATIENT": "Y", "MASQUE_PS": "N"}))
    await w.settle()
    (manifest,) = await codes(w)
    assert {"MASQUE_PS", "INVISIBLE_PATIENT"} <= manifest
    await take_back(w, SECOND)
    await w.settle()
    (manifest,) = await codes(w)
    assert "MASQUE_PS" in manifest
    assert "INVISIBLE_PATIENT" not in manifest
    assert await approved(w) == 1
    await take_back(w, EXAM, id_="T2")
    await w.settle()
    assert await approved(w) == 0


async def codes(w: World) -> list[set[str]]:
    """Confidentiality of the newest version sent, by what left for the index."""
    rows = await w.store.read(lambda tx: tx.rows("SELECT MAX(version) AS v FROM manifest"))
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, rows[0]["v"]))
    assert sent is not None
    known = ("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX")
    return [{code for code in known if code.encode() in sent.metadata}]


async def test_a_change_of_visibility_replaces_the_entry_and_leaves_one(w: World) -> None:
    await publish(w)
    seen = replace(CORRECTION, flags={**FLAGS, "INVISIBLE_PATIENT": "N", "MODIF_CONF_CODE": "Y"})
    assert "MSA|AA|" in await w.report(seen, order_control="RO")
    await w.settle()
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]
    (shown,) = await codes(w)
    assert "INVISIBLE_PATIENT" not in shown


async def test_a_replacement_that_forbids_the_index_withdraws(w: World) -> None:
    await publish(w)
    await w.report(replace(CORRECTION, flags={**FLAGS, "DESTDMP": "N"}), order_control="RO")
    await w.settle()
    assert await w.entries(EXAM) == []


# -- orders and images ---------------------------------------------------------------------------------------------


def cancelled(control: str = "CA", **changes: object) -> bytes:
    request = LabRequest(control=control, study=STUDY, accession="ACN9001", exam_change=control == "NW")
    return build_omi(request, control_id=f"O-{control}", **changes)  # type: ignore[arg-type]


async def test_a_cancelled_exam_that_the_pacs_no_longer_has_is_withdrawn_at_once(w: World) -> None:
    await publish(w)
    del w.pacs.studies[STUDY]
    assert "MSA|AA|" in await w.raw(cancelled())
    await w.settle()
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.WITHDRAWN, "")


async def test_a_cancelled_exam_that_the_pacs_still_has_stays(w: World) -> None:
    await publish(w)
    await w.raw(cancelled())
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    kept = await w.store.read(lambda tx: presence.of(tx, TENANT, STUDY))
    assert kept.announced_at is None, "the PACS has answered it"
    del w.pacs.studies[STUDY]
    await look(w)
    assert await approved(w) == 1, "an announcement that was answered lets no later absence count once"


async def test_a_changed_exam_is_replaced_by_what_the_pacs_holds_now(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=2)
    await w.raw(cancelled("NW"))
    await w.settle()
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_a_cancellation_for_another_patient_is_no_reason_to_look(w: World) -> None:
    await publish(w)
    del w.pacs.studies[STUDY]
    asked = w.pacs.asked
    await w.raw(cancelled(patient=ELSE))
    await w.settle()
    assert w.pacs.asked == asked
    assert await approved(w) == 1


@pytest.mark.parametrize("reason", ["unreachable", "refused", "timeout", "control-missing", "bad-answer"])
async def test_ff54_no_outage_is_ever_read_as_a_deletion(w: World, reason: str) -> None:
    await publish(w)
    await w.raw(cancelled())
    w.pacs.answer = Unknown(reason=reason, detail="no clean answer")  # type: ignore[arg-type]
    for _ in range(4):
        await w.settle(rounds=10)
        w.clock.advance(3700)
    assert await approved(w) == 1
    assert "ITI-57" not in w.index.switches.counts


async def test_ff54_unannounced_two_clean_absences_an_hour_apart_withdraw_and_one_does_not(w: World) -> None:
    await publish(w)
    w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
    await look(w)
    assert await stands(w) == (ExamState.WAITING, "pacs-absent-once")
    w.clock.advance(3000)
    await look(w)
    assert await approved(w) == 1
    w.clock.advance(700)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.WITHDRAWN, "")


async def test_ff54_an_exam_seen_in_between_begins_anew(w: World) -> None:
    await publish(w)
    w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
    await look(w)
    w.pacs.answer = None
    w.clock.advance(1800)
    await look(w)
    w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
    w.clock.advance(1900)
    await look(w)
    assert await approved(w) == 1


async def test_ff54_many_exams_gone_at_once_are_shown_to_a_person(w: World) -> None:
    await publish(w)

    def others(tx) -> None:
        for number in range(ABSENT_MAX + 1):
            tx.change(
                "INSERT INTO exam (tenant, study_uid, zone, first_seen_at) VALUES (:t, :s, 'pacs', 0)",
                t=TENANT,
                s=f"1.2.3.{number}",
            )
            presence.lacks(tx, TENANT, f"1.2.3.{number}", now=w.clock.now())

    await w.store.write(others)
    w.pacs.answer = Absent(evidence="no match, control found", is_proven=True)
    await look(w)
    w.clock.advance(7200)
    await look(w)
    assert await stands(w) == (ExamState.HELD, "pacs-absent-many")
    assert await approved(w) == 1


async def test_ff16_images_that_come_back_are_published_as_new(w: World) -> None:
    await publish(w)
    held = w.pacs.studies.pop(STUDY)
    await w.raw(cancelled())
    await w.settle()
    w.pacs.studies[STUDY] = held
    await look(w)
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_ff16_a_series_that_the_pacs_lost_leaves_the_manifest(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=1)
    await look(w)
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_ff27_a_report_withdrawn_while_the_pacs_is_away_leaves_the_index_all_the_same(w: World) -> None:
    await publish(w)
    w.pacs.answer = Unknown(reason="unreachable", detail="no route")
    w.restart("live")
    await take_back(w)
    await w.settle()
    assert await w.entries(EXAM) == []


async def test_ff27_a_deletion_that_the_pacs_confirmed_goes_out_after_a_restart_though_the_pacs_is_away(
    w: World,
) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-57",)))
    del w.pacs.studies[STUDY]
    await w.raw(cancelled())
    await w.settle(rounds=4)
    assert await approved(w) == 1
    w.pacs.answer = Unknown(reason="unreachable", detail="no route")
    w.restart("live")
    w.index.switches.set()
    await w.settle()
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.WITHDRAWN, "")


@pytest.mark.parametrize("what", ["report", "images"])
async def test_ff29_either_may_change_alone_and_the_report_in_force_gives_the_context(w: World, what: str) -> None:
    await publish(w)
    if what == "report":
        changed = replace(CORRECTION, flags={**FLAGS, "MASQUE_PS": "Y"}, doctor_id="899900000025")
        await w.report(changed, order_control="RO")
    else:
        w.pacs.hold(EXAM, instances=4)
    await look(w)
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 2))
    assert sent is not None
    assert (b"899900000025" in sent.metadata) is (what == "report")
    assert (b"MASQUE_PS" in sent.metadata) is (what == "report")


# -- the index -----------------------------------------------------------------------------------------------------


async def test_ff22_a_predecessor_that_never_landed_means_create(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-41",)))
    await w.report(EXAM)
    await w.settle(rounds=4)
    w.pacs.hold(EXAM, instances=5)
    await w.report(CORRECTION, order_control="RO")
    w.index.switches.set()
    await w.settle()
    assert await approved(w) == 1
    last = await w.store.read(lambda tx: tx.rows("SELECT replaces FROM manifest ORDER BY version DESC LIMIT 1"))
    assert last[0]["replaces"] is None


async def test_ff22_where_the_index_shows_an_approved_and_a_deprecated_entry_the_approved_one_is_replaced(
    w: World,
) -> None:
    await publish(w)
    for instances in (4, 5):
        w.pacs.hold(EXAM, instances=instances)
        await look(w)
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated", "Deprecated"]
    made = await w.store.read(
        lambda tx: tx.rows(
            "SELECT m.replaces, e.entry_uuid FROM manifest m JOIN entry e ON e.tenant = m.tenant"
            " AND e.study_uid = m.study_uid AND e.version = m.version ORDER BY m.version"
        )
    )
    assert [row["replaces"] for row in made] == [None, made[0]["entry_uuid"], made[1]["entry_uuid"]]


async def test_ff23_what_was_accepted_and_is_not_shown_is_not_done_and_goes_again(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=25))
    await w.report(EXAM)
    for _ in range(3):
        await w.engine.step()
    assert (await stands(w))[0] is ExamState.ACCEPTED
    await w.settle()
    assert await stands(w) == (ExamState.INDEXED, "")
    assert await approved(w) == 1
    assert w.index.switches.counts["ITI-41"] >= 2, "accepted is not indexed: it went again"


# -- identity ------------------------------------------------------------------------------------------------------


async def adt(w: World, patient: LabPatient, event: str, *, prior: LabPatient | None = None, id_: str) -> None:
    w.clock.advance(5)
    sent = build_adt_identity(patient, event=event, prior=prior, sent_at=said(w), control_id=id_)
    assert "MSA|AA|" in await w.raw(sent)
    await w.settle()


OLD = LabPatient(ipp="IPP-OLD")
NEW = LabPatient(ipp="IPP-NEW")
OF_OLD = replace(EXAM, patient=OLD)


async def test_ff28_a_merge_of_one_person_sends_the_exam_out_under_the_surviving_number(w: World) -> None:
    await publish(w, OF_OLD)
    for id_ in ("M1", "M2"):
        await adt(w, NEW, "A40", prior=OLD, id_=id_)
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 2))
    assert sent is not None
    assert b"IPP-NEW" in sent.metadata
    assert await w.count("manifest") == 2, "the same merge again changes nothing"
    await adt(w, NEW, "A37", prior=OLD, id_="U1")
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 3))
    assert sent is not None
    assert b"IPP-NEW" not in sent.metadata
    assert await approved(w) == 1


async def test_ff28_a_merge_into_another_person_takes_the_exam_out_first_and_holds_it(w: World) -> None:
    await publish(w, OF_OLD)
    await adt(w, ELSE, "A40", prior=OLD, id_="M1")
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.HELD, "identity-ins")
    assert [job.job_class for job in await w.jobs_of(STUDY) if job.kind.startswith("withdraw")] == [JobClass.P0]
    await adt(w, ELSE, "A37", prior=OLD, id_="U1")
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_ff28_a_correction_that_came_while_its_patient_was_in_doubt_replaces_once_the_doubt_is_over(
    w: World,
) -> None:
    """Else both would count for ever, and the exam outlive the withdrawal of the only report that stands."""
    await publish(w)
    await adt(w, replace(ELSE, ipp=EXAM.patient.ipp), "A31", id_="E1")
    assert await w.entries(EXAM) == []
    assert "MSA|AE|" in await w.report(CORRECTION, order_control="RO")
    await adt(w, EXAM.patient, "A31", id_="E2")
    assert await approved(w) == 1
    assert "900^" in await take_back(w), "the first one is replaced"
    assert "MSA|AA|" in await take_back(w, CORRECTION, id_="T2")
    await w.settle()
    assert await approved(w) == 0


async def test_ff28_merges_in_a_circle_end_at_the_last_one(w: World) -> None:
    await publish(w, OF_OLD)
    third = LabPatient(ipp="IPP-3")
    for number, (into, prior) in enumerate([(NEW, OLD), (third, NEW), (OLD, third)]):
        await adt(w, into, "A40", prior=prior, id_=f"M{number}")
    assert await approved(w) == 1
    rows = await w.store.read(lambda tx: tx.rows("SELECT MAX(version) AS v FROM manifest"))
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, rows[0]["v"]))
    assert sent is not None
    assert b">IPP-OLD^^^" in sent.metadata, "the survivor of the last merge is the source patient"


@pytest.mark.parametrize("event", ["A08", "A31"])
async def test_a_corrected_name_goes_out_once_the_pacs_agrees(w: World, event: str) -> None:
    await publish(w)
    right = replace(EXAM.patient, first_given_name="COLETTE", given_names="COLETTE MARIE")
    await adt(w, right, event, id_="C1")
    assert await stands(w) == (ExamState.HELD, "identity-name")
    w.pacs.hold(EXAM, name="FANTÔME^COLETTE")
    await look(w)
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]
    sent = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 2))
    assert sent is not None
    assert b"COLETTE" in sent.metadata


async def test_ff19_a_report_that_disagrees_with_the_register_is_held_and_stays_so(w: World) -> None:
    w.pacs.hold(EXAM)
    right = replace(EXAM.patient, first_given_name="COLETTE", given_names="COLETTE MARIE")
    await adt(w, right, "A31", id_="C1")
    assert "MSA|AE|" in await w.report(EXAM)
    assert "MSA|AE|" in await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "identity-first-given-name"
    assert await w.entries(EXAM) == []


async def test_a_correction_to_another_ins_takes_the_exam_out_and_a_correction_back_returns_it(w: World) -> None:
    await publish(w)
    await adt(w, replace(ELSE, ipp=EXAM.patient.ipp), "A31", id_="C1")
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.HELD, "identity-ins")
    await adt(w, EXAM.patient, "A31", id_="C2")
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_an_unqualified_correction_corrects_nothing(w: World) -> None:
    await publish(w)
    await adt(w, replace(ELSE, ipp=EXAM.patient.ipp, ins_status="PROV"), "A31", id_="C1")
    assert await approved(w) == 1
    assert await w.count("person_statement") == 0


async def test_a_merge_that_does_not_name_two_patients_is_refused(w: World) -> None:
    ack = await w.raw(build_adt_identity(NEW, event="A40", control_id="M"))
    assert "|missing-segment|" in ack
    nameless = build_adt_identity(NEW, event="A40", prior=replace(OLD, ipp_issuer=""), control_id="M2")
    assert "|unknown-patient|" in await w.raw(nameless)
    assert await w.count("person_statement") == 0


async def test_i10_an_opposition_reaches_what_a_merge_ties_to_it(w: World) -> None:
    await publish(w, OF_OLD)
    await adt(w, replace(NEW, ins=None), "A40", prior=OLD, id_="M1")
    w.clock.advance(5)
    await w.raw(
        build_adt_consent(replace(NEW, ins=None), opposition="IO", at=said(w), sent_at=said(w), control_id="C1")
    )
    await w.settle()
    assert await approved(w) == 0


# -- people --------------------------------------------------------------------------------------------------------


async def by_hand(w: World, act, reason: str = REASON) -> None:
    now = w.clock.now()
    await w.store.write(lambda tx: act(tx, w.admission, STUDY, actor="operator:ana", reason=reason, now=now))
    await w.settle()


async def test_a_person_takes_an_exam_out_and_nothing_else_brings_it_back(w: World) -> None:
    await publish(w)
    await by_hand(w, exclusion.withdraw)
    assert await w.entries(EXAM) == []
    assert await stands(w) == (ExamState.WITHDRAWN, "")
    w.pacs.hold(EXAM, instances=5)
    await w.report(CORRECTION, order_control="RO")
    await look(w)
    assert await w.entries(EXAM) == []
    await by_hand(w, exclusion.republish)
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    assert [kind for kind in await noted(w) if kind in {"taken-out", "let-in"}] == ["taken-out", "let-in"]


async def test_a_new_report_of_an_exam_that_is_out_is_seen_to_wait_for_a_person(w: World) -> None:
    await publish(w)
    await by_hand(w, exclusion.withdraw)
    await w.report(CORRECTION, order_control="RO")
    await w.settle()
    assert await stands(w) == (ExamState.HELD, "kept-out")


async def test_a_person_stops_an_exam_that_is_not_out_yet(w: World) -> None:
    await w.report(EXAM)
    await w.settle(rounds=2)
    await by_hand(w, exclusion.withdraw)
    w.pacs.hold(EXAM)
    await w.settle()
    assert await w.entries(EXAM) == []


async def test_a_person_gives_a_reason_once_and_quotes_nobody(w: World) -> None:
    await publish(w)
    with pytest.raises(BadInput) as caught:
        await by_hand(w, exclusion.withdraw, f"it is Madame {EXAM.patient.birth_name}")
    assert caught.value.code == "reason-names-patient"
    assert await approved(w) == 1
    await by_hand(w, exclusion.withdraw)
    with pytest.raises(Refused) as refused:
        await by_hand(w, exclusion.withdraw)
    assert refused.value.code == "already-out"


async def test_every_state_of_the_lane_ends(w: World) -> None:
    await publish(w)
    await by_hand(w, exclusion.withdraw)
    assert all(job.state in {State.PUBLISHED, State.CANCELLED, State.SUPERSEDED} for job in await w.jobs_of(STUDY))


async def test_every_exchange_with_the_index_is_told_with_what_it_asked_and_what_came_back(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-41",), times=1))
    await w.report(EXAM)
    await w.settle()
    (entry,) = await w.entries(EXAM)
    await take_back(w)
    await w.settle()
    told = await w.store.read(lambda tx: rows.listed(tx, TENANT, STUDY))
    sent = [(one.transaction, one.attempt, one.outcome) for one in told if one.transaction != "ITI-18"]
    assert sent == [("ITI-41", 1, "connection-lost"), ("ITI-41", 2, "accepted"), ("ITI-57", 1, "accepted")]
    opened = await w.store.read(lambda tx: rows.opened(tx, w.ledger, TENANT, STUDY))
    assert all(entry[0].encode() in one.request for one in opened if one.listed.transaction != "ITI-57")
    assert all(one.ended_at is not None and one.began_at <= one.ended_at for one in told)
