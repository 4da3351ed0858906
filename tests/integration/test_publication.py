"""From a report to the index, with a real store, a real index node and a PACS that can be told what to say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.i18n import words
from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient, matricule
from gateway.views import exam_text
from indexer import exams
from indexer.gate import Rules
from indexer.ledger import evidence_of
from indexer.ports import EntryAbsent, EntryFound, Rejected
from indexer.questions import Disagreeing, combine
from indexer.study import Absent, Found, Unknown
from security.outbox.states import State
from tests.contract.store_parts.engines import BOTH, fresh
from tests.support.world import TENANT, MemoryPacs, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
VISIBLE = {**EXAM.flags, "INVISIBLE_PATIENT": "N", "MODIF_CONF_CODE": "Y"}


@pytest.fixture(params=[*BOTH, "mhd"])
async def w(request: pytest.FixtureRequest, tmp_path: Path):
    """On both engines by XDS.b, and once by MHD."""
    if request.param == "mhd":
        async with world(tmp_path, door="mhd") as made:
            yield made
        return
    async with world(tmp_path, place=fresh(request.param, request).place) as made:
        yield made


def another(number: int, **changes: object) -> LabExam:
    """Another exam of the same patient."""
    arcs = "1.2.250.1.213.4.5.9"
    order = LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}")
    base = replace(EXAM, studies=(f"{arcs}.2.{number}",), orders=(order,), document_id=f"{arcs}.1.{number}")
    return replace(base, **changes)


async def test_a_reported_exam_in_the_pacs_reaches_the_index_once(w: World) -> None:
    w.pacs.hold(EXAM)
    assert "\rMSA|AA|MSG-1\r" in await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    assert w.index.switches.counts[w.provide] == 1


async def test_i01_what_is_acknowledged_can_be_read_back_by_another_connection(w: World) -> None:
    ack = await w.report(EXAM)
    assert "MSA|AA" in ack
    assert await w.count("hl7_message") == 1
    assert await w.count("report") == 1
    assert await w.count("outbox_job") == 1
    assert await w.count("audit_record") >= 2


async def test_i02_message_report_and_job_commit_together_or_not_at_all(w: World, monkeypatch) -> None:
    def out_of_order(*_words: object, **_more: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("security.outbox.jobs.enqueue", out_of_order)
    with pytest.raises(RuntimeError, match="planted"):
        await w.report(EXAM)
    for table in ("hl7_message", "report", "exam", "evidence", "outbox_job", "audit_record"):
        assert await w.count(table) == 0, table


async def test_an_exam_the_pacs_does_not_have_waits_and_goes_out_once_it_has(w: World) -> None:
    await w.report(EXAM)
    await w.settle(rounds=6)
    waiting = await w.last(STUDY)
    assert (waiting.state, waiting.reason) == (State.SETTLING, "pacs-has-no-such-study")
    w.pacs.hold(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_ff54_a_pacs_that_gives_no_answer_decides_nothing(w: World) -> None:
    w.pacs.hold(EXAM)
    w.pacs.answer = Unknown(reason="timeout", detail="no answer in time")
    await w.report(EXAM)
    await w.settle(rounds=8)
    waiting = await w.last(STUDY)
    assert (waiting.state, waiting.reason) == (State.SETTLING, "pacs-timeout")
    assert await w.count("manifest") == 0
    assert w.index.switches.counts[w.provide] == 0


async def test_the_same_message_again_gets_the_first_answer_and_changes_nothing(w: World) -> None:
    w.pacs.hold(EXAM)
    first = await w.report(EXAM, control_id="ONE")
    w.clock.advance(60)
    assert await w.report(EXAM, control_id="ONE") == first
    assert await w.count("outbox_job") == 1
    assert await w.count("hl7_message") == 1


async def test_the_same_report_by_another_message_is_one_effect(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM, control_id="ONE")
    assert "MSA|AA|TWO" in await w.report(EXAM, control_id="TWO")
    await w.settle()
    assert await w.count("outbox_job") == 1
    assert len(await w.entries(EXAM)) == 1


async def test_a_control_id_used_for_another_message_is_refused(w: World) -> None:
    await w.report(EXAM, control_id="ONE")
    ack = await w.report(another(9002), control_id="ONE")
    assert "MSA|AE|ONE" in ack
    assert "control-id-reused" in ack
    assert await w.count("report") == 1


async def test_a_document_id_with_other_content_is_refused_as_a_wrong_version(w: World) -> None:
    await w.report(EXAM)
    ack = await w.report(replace(EXAM, modality="MR"))
    assert "MSA|AE" in ack
    assert "900^" in ack
    assert await w.count("outbox_job") == 1


async def test_i06_the_same_content_by_another_report_makes_no_new_version(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    await w.settle()
    last = await w.last(STUDY)
    assert (last.state, last.reason) == (State.CANCELLED, "already-indexed")
    assert len(await w.entries(EXAM)) == 1


async def test_i06_changed_content_replaces_the_approved_entry(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    w.pacs.hold(EXAM, instances=5)
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    await w.settle()
    statuses = [status for _, status in await w.entries(EXAM)]
    assert sorted(statuses) == ["Approved", "Deprecated"]


async def test_two_reports_of_one_study_the_strictest_visibility_counts(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(replace(EXAM, flags=VISIBLE))
    await w.settle()
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))  # invisible to the patient
    await w.settle()
    statuses = [status for _, status in await w.entries(EXAM)]
    assert sorted(statuses) == ["Approved", "Deprecated"]


async def test_a_report_of_two_studies_makes_one_entry_each_with_its_own_accession(w: World) -> None:
    orders = (LabOrder(accession_number="ACN-A"), LabOrder(accession_number="ACN-B"))
    both = replace(EXAM, studies=("1.2.3.1", "1.2.3.2"), orders=orders)
    w.pacs.hold(replace(both, studies=("1.2.3.1",), orders=orders[:1]))
    w.pacs.hold(replace(both, studies=("1.2.3.2",), orders=orders[1:]))
    await w.report(both)
    await w.settle()
    assert len(await w.entries(EXAM)) == 2
    manifests = await w.store.read(
        lambda tx: [w.ledger.submission_of(tx, TENANT, job)[1].metadata for job in (1, 2)]  # type: ignore[index]
    )
    assert b"ACN-A^" in manifests[0]
    assert b"ACN-B" not in manifests[0]
    assert b"ACN-B^" in manifests[1]


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (
            {"ins": matricule(sex="F", birth_date=EXAM.patient.birth_date, birthplace="63113", rank=43)},
            "identity-ins",
        ),
        ({"birth_name": "REVENANT"}, "identity-birth-name"),
        ({"first_given_name": "ANNA"}, "identity-first-given-name"),
        ({"ins_status": "PROV"}, "identity-ins-status"),
    ],
)
async def test_ff19_a_disagreement_before_the_ack_is_stored_held_and_answered_ae(
    w: World, envelope: dict[str, str], reason: str
) -> None:
    w.pacs.hold(EXAM)
    other = replace(EXAM.patient, **{"ins": EXAM.patient.matricule, **envelope})
    ack = await w.report(replace(EXAM, envelope_patient=other))
    assert "MSA|AE" in ack
    assert reason in ack
    for value in (EXAM.patient.birth_name, EXAM.patient.matricule or "", *envelope.values()):
        if value != "PROV":
            assert value not in ack
    await w.settle()
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, reason)
    assert await w.entries(EXAM) == []
    noted = await w.store.read(lambda tx: w.ledger.conflicts(tx, TENANT, STUDY))
    assert noted[0].code == reason
    assert (noted[0].left, noted[0].right) != ("", "")


@pytest.mark.parametrize(
    ("pacs", "reason"),
    [
        ({"patient_id": "IPP-OTHER"}, "identity-local-id"),
        ({"birth_date": "19610413"}, "identity-birth-date"),
        ({"sex": "M"}, "identity-sex"),
        ({"name": "AUTRE^ODETTE"}, "identity-name"),
    ],
)
async def test_ff19_a_disagreement_with_the_pacs_holds_the_exam_and_nobody_else(
    w: World, pacs: dict[str, str], reason: str
) -> None:
    w.pacs.hold(EXAM, **pacs)
    assert "MSA|AA" in await w.report(EXAM)
    neighbour = another(9002)
    w.pacs.hold(neighbour)
    await w.report(neighbour)
    await w.settle()
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, reason)
    assert (await w.last(neighbour.studies[0])).state is State.PUBLISHED
    noted = await w.store.read(lambda tx: w.ledger.conflicts(tx, TENANT, STUDY))
    assert [conflict.code for conflict in noted] == [reason]
    assert all(conflict.left and conflict.right for conflict in noted)


async def test_ff19_the_same_matricule_with_other_traits_is_held_whatever_the_message_says(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    impostor = LabPatient(
        birth_name="REVENANT", first_given_name="PAUL", sex="M", ins=EXAM.patient.matricule, ipp=EXAM.patient.ipp
    )
    ack = await w.report(another(9002, patient=impostor))
    assert "MSA|AE" in ack
    assert (await w.last(another(9002).studies[0])).state is State.BLOCKED
    follower = another(9003)
    w.pacs.hold(follower)
    assert "MSA|AA" in await w.report(follower), "a held report must not block its neighbours"


async def test_a_report_not_meant_for_the_index_is_held_until_one_that_replaces_it_is(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(replace(EXAM, flags={**EXAM.flags, "DESTDMP": "N"}))
    await w.settle()
    assert (await w.last(STUDY)).reason == "not-for-index"
    await w.report(
        replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777", replaces=EXAM.document_id), order_control="RO"
    )
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


@pytest.mark.parametrize("words", [{"order_control": "CA"}, {"result_status": "D"}])
async def test_a_withdrawal_is_never_taken_for_a_publication(w: World, words: dict[str, str]) -> None:
    w.pacs.hold(EXAM)
    ack = await w.report(EXAM, **words)
    assert "MSA|AE" in ack
    assert await w.count("outbox_job") == 0
    assert await w.count("hl7_message") == 1


async def test_a_message_that_cannot_be_read_is_kept_answered_and_disturbs_nobody(w: World) -> None:
    ack = await w.raw(b"\n\nMSH|^~\\&|F|F|B|B|1||ORU^R01|104|P|2.3.1\rOBX|1|ED|18748-4||bm90IHhtbA==\r")
    assert "MSA|AR|104" in ack
    assert ack.count("\rERR|") >= 2, "every reason is named"
    assert await w.count("hl7_message") == 1
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_ff20_the_index_commits_then_the_connection_dies_one_entry(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=(w.provide,), times=1))
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert len(await w.entries(EXAM)) == 1
    assert w.index.switches.counts[w.provide] == 1


async def test_ff21_a_retry_sends_the_bytes_of_the_first_attempt(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.BUSY, on=(w.provide,), times=2))
    sent: list[bytes] = []
    original = w.client.provide_and_register

    async def recorded(submission):
        sent.append(submission.metadata + b"".join(submission.documents.values()))
        return await original(submission)

    w.client.provide_and_register = recorded  # type: ignore[method-assign]
    await w.report(EXAM)
    await w.settle()
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert len(await w.entries(EXAM)) == 1


async def test_i05_an_absent_answer_lets_the_same_unique_id_go_again(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=(w.provide,), times=1))
    await w.report(EXAM)
    await w.settle()
    entries = await w.entries(EXAM)
    assert [status for _, status in entries] == ["Approved"]
    row = await w.store.read(lambda tx: tx.rows("SELECT unique_id FROM manifest"))
    assert [entries[0][0]] == [one["unique_id"] for one in row]
    assert w.index.switches.counts[w.provide] == 2


async def test_f09_an_entry_not_shown_yet_is_not_sent_again(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=6))
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert w.index.switches.counts[w.provide] == 1


async def test_f10_a_refusal_nobody_knows_is_held_for_a_person_not_retried(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.REFUSE, code="SomethingNew", on=(w.provide,)))
    await w.report(EXAM)
    await w.settle()
    held = await w.last(STUDY)
    assert held.state is State.BLOCKED
    assert "SomethingNew" in held.reason
    assert w.index.switches.counts[w.provide] == 1


async def test_ff14_late_images_change_the_manifest_whatever_the_counts_said(w: World) -> None:
    w.pacs.hold(EXAM, instances=2)
    await w.report(EXAM)
    await w.settle()
    w.pacs.hold(EXAM, instances=3)
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    await w.settle()
    assert await w.count("manifest") == 2


async def test_a_report_overtaken_by_its_successor_changes_nothing(w: World) -> None:
    w.pacs.hold(EXAM)
    successor = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777", replaces=EXAM.document_id, flags=VISIBLE)
    await w.report(successor, order_control="RO")
    await w.settle()
    assert "MSA|AA" in await w.report(EXAM)  # the older one, invisible to the patient
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    status = await w.store.read(lambda tx: w.ledger.report(tx, TENANT, EXAM.document_id))
    assert status
    assert status[0].status == "replaced"


async def test_ff19_a_held_report_of_the_study_holds_the_next_one_that_tells_it_otherwise(w: World) -> None:
    w.pacs.hold(EXAM)
    born = EXAM.patient.birth_date.replace(day=13)
    wrong = replace(EXAM.patient, ins=EXAM.patient.matricule, birth_date=born)
    await w.report(replace(EXAM, patient=wrong))
    await w.settle()
    assert (await w.last(STUDY)).reason == "identity-birth-date"
    ack = await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    assert "MSA|AE" in ack
    await w.settle()
    assert (await w.last(STUDY)).state is State.BLOCKED
    corrected = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9778", replaces=EXAM.document_id)
    await w.report(corrected, order_control="RO")
    await w.settle()
    assert (await w.last(STUDY)).state is State.BLOCKED, (
        "the second one is still held, and its flags do not count yet"
    )
    await w.report(
        replace(corrected, document_id="1.2.250.1.213.4.5.9.1.9779", replaces="1.2.250.1.213.4.5.9.1.9777"),
        order_control="RO",
    )
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_a_correction_that_replaces_the_held_report_lets_the_exam_go_out(w: World) -> None:
    w.pacs.hold(EXAM)
    born = EXAM.patient.birth_date.replace(day=13)
    wrong = replace(EXAM.patient, ins=EXAM.patient.matricule, birth_date=born)
    await w.report(replace(EXAM, patient=wrong))
    await w.settle()
    corrected = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9778", replaces=EXAM.document_id)
    assert "MSA|AA" in await w.report(corrected, order_control="RO")
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_an_indexed_exam_whose_last_report_moves_to_another_study_is_withdrawn(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    moved = replace(another(9002), replaces=EXAM.document_id)
    w.pacs.hold(moved)
    await w.report(moved, order_control="RO")
    await w.settle()
    assert (await w.last(STUDY)).kind == f"withdraw:{TENANT}"
    assert len(await w.entries(EXAM)) == 1
    assert (await w.last(moved.studies[0])).state is State.PUBLISHED


STRANGER = replace(EXAM.patient, ins=EXAM.patient.matricule, birth_name="REVENANT")


async def status_of(w: World, document_id: str) -> tuple[str, str]:
    found = await w.store.read(lambda tx: w.ledger.report(tx, TENANT, document_id))
    assert found is not None
    return found[0].status, found[0].reason


async def test_ff19_a_report_the_pacs_contradicts_is_no_witness_against_others(w: World) -> None:
    w.pacs.hold(EXAM, sex="M")
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).reason == "identity-sex"
    assert "MSA|AA" in await w.report(another(9002, patient=STRANGER))


async def test_ff19_a_report_held_before_the_ack_is_a_witness_for_its_study(w: World) -> None:
    await w.report(replace(EXAM, envelope_patient=STRANGER))
    ack = await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777", patient=STRANGER))
    assert "MSA|AE" in ack
    assert "identity-birth-name" in ack


async def test_ff19_a_held_report_by_another_message_is_refused_again(w: World) -> None:
    doubtful = replace(EXAM, envelope_patient=STRANGER)
    assert "MSA|AE|ONE" in await w.report(doubtful, control_id="ONE")
    assert "MSA|AE|TWO" in await w.report(doubtful, control_id="TWO")
    assert await w.count("outbox_job") == 1


async def test_ff19_a_held_report_does_not_take_away_the_one_it_says_it_replaces(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    successor = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777", replaces=EXAM.document_id)
    ack = await w.report(replace(successor, envelope_patient=STRANGER), order_control="RO")
    assert "MSA|AE" in ack
    assert await status_of(w, successor.document_id) == ("held", "identity-birth-name")
    assert await status_of(w, EXAM.document_id) == ("valid", "")


@pytest.mark.parametrize("w", ["sqlite"], indirect=True)  # the files of a server's schema are not ours to read
async def test_t65_the_gateways_database_holds_no_patient_in_clear(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    await w.report(replace(another(9002), envelope_patient=STRANGER))
    contradicted = another(9003)
    w.pacs.hold(contradicted, name="SPECTRE^ODETTE")
    await w.report(contradicted)
    await w.settle()
    assert [(await w.last(study)).state for study in (STUDY, contradicted.studies[0])] == [
        State.PUBLISHED,
        State.BLOCKED,
    ]
    held = b"".join(path.read_bytes() for path in sorted(w.store.path.parent.glob(f"{w.store.path.name}*")))
    assert STUDY.encode() in held, "the files that were read are those of the database"
    for value in ("FANTÔME", "ODETTE", "REVENANT", "SPECTRE", "IPP9001", EXAM.patient.matricule or "-"):
        assert value.encode() not in held, value[0]


OTHER_PERSON = LabPatient(birth_name="REVENANT", first_given_name="PAUL", sex="M", ipp="IPP9777", rank=77)


async def test_ff19_nobody_replaces_the_report_of_another_person(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    intruder = another(9002, patient=OTHER_PERSON, replaces=EXAM.document_id)
    w.pacs.hold(intruder)
    assert "MSA|AE" in await w.report(intruder, order_control="RO")
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert (await w.last(intruder.studies[0])).reason == "identity-ins"


async def test_ff19_nobody_lifts_the_hold_of_another_person(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(replace(EXAM, envelope_patient=STRANGER))
    intruder = another(9002, patient=OTHER_PERSON, replaces=EXAM.document_id)
    await w.report(intruder, order_control="RO")
    await w.settle()
    assert (await w.last(STUDY)).state is State.BLOCKED
    assert (await status_of(w, EXAM.document_id))[0] == "held"


async def test_ff19_a_stranger_that_claims_to_replace_a_report_does_not_swallow_it_when_it_arrives(w: World) -> None:
    w.pacs.hold(EXAM)
    intruder = another(9002, patient=OTHER_PERSON, replaces=EXAM.document_id)
    w.pacs.hold(intruder)
    await w.report(intruder, order_control="RO")
    assert "MSA|AA" in await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"flags": {**EXAM.flags, "DESTDMP": "N"}}, "never-published"),
        ({"envelope_patient": STRANGER}, "identity-birth-name"),
    ],
)
async def test_i10_a_lost_send_is_not_repeated_over_a_later_opposition_or_conflict(
    w: World, second: dict[str, object], reason: str
) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=(w.provide,), times=1))
    await w.report(EXAM)
    while not w.index.switches.counts[w.provide]:
        await w.engine.step()
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777", **second))
    await w.settle()
    assert w.index.switches.counts[w.provide] == 1
    assert await w.entries(EXAM) == []
    assert (await w.last(STUDY)).reason == reason


async def test_ff19_what_the_pacs_says_against_one_study_holds_the_other_studies_of_the_report(w: World) -> None:
    orders = (LabOrder(accession_number="ACN-A"), LabOrder(accession_number="ACN-B"))
    both = replace(EXAM, studies=("1.2.3.1", "1.2.3.2"), orders=orders)
    w.pacs.hold(replace(both, studies=("1.2.3.1",), orders=orders[:1]))
    w.pacs.hold(replace(both, studies=("1.2.3.2",), orders=orders[1:]), birth_date="19990101")
    w.index.switches.set(Switch(name=Fault.BUSY, on=(w.provide,), times=3))
    await w.report(both)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert {(await w.last(study)).reason for study in both.studies} == {"identity-birth-date"}
    w.pacs.hold(replace(both, studies=("1.2.3.2",), orders=orders[1:]))  # the PACS was corrected
    assert "MSA|AA" in await w.report(both)
    await w.settle()
    assert len(await w.entries(EXAM)) == 2


async def test_a_corrected_pacs_and_the_same_report_again_let_the_exam_go_out(w: World) -> None:
    w.pacs.hold(EXAM, sex="M")
    await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).reason == "identity-sex"
    w.pacs.hold(EXAM)
    assert "MSA|AA" in await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_i06_a_version_that_may_have_landed_is_replaced_never_doubled(w: World) -> None:
    w.pacs.hold(EXAM)
    landed = w.client.provide_and_register

    async def landed_yet_busy(submission):
        await landed(submission)
        w.client.provide_and_register = landed  # type: ignore[method-assign]  # one hop lies once
        return Rejected(lasting=False, known=True, codes=("http-503",), detail="a hop in between is busy")

    w.client.provide_and_register = landed_yet_busy  # type: ignore[method-assign]
    await w.report(EXAM)
    while not w.index.switches.counts[w.provide]:
        await w.engine.step()
    w.pacs.hold(EXAM, instances=5)
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    await w.settle()
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_i06_an_entry_missing_from_one_answer_makes_no_second_original(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    truth = w.client.find_document
    lies = iter([EntryAbsent()])

    async def lagging(unique_id: str):
        return next(lies, None) or await truth(unique_id)

    w.client.find_document = lagging  # type: ignore[method-assign]  # one replica lags once
    w.pacs.hold(EXAM, instances=5)
    await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
    await w.settle()
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_ff22_an_entry_somebody_else_deprecated_is_shown_to_a_person(w: World) -> None:
    w.pacs.hold(EXAM)

    async def deprecated(unique_id: str) -> EntryFound:
        return EntryFound(entry_uuid="urn:uuid:1", unique_id=unique_id, status="Deprecated")

    w.client.find_document = deprecated  # type: ignore[method-assign]
    await w.report(EXAM)
    await w.settle()
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, "entry-deprecated-by-others")


async def test_ff24_an_index_that_takes_everything_and_shows_nothing_is_not_sent_to_for_ever(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=1e9))
    await w.report(EXAM)
    await w.settle(rounds=900, step_s=5.0)
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, "never-shown")
    assert w.index.switches.counts[w.provide] == 10


async def test_i17_a_clock_that_was_ahead_does_not_freeze_a_lost_send(w: World) -> None:
    w.pacs.hold(EXAM)
    w.clock.jump(timedelta(days=365))
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=(w.provide,), times=1))
    await w.report(EXAM)
    while not w.index.switches.counts[w.provide]:
        await w.engine.step()
    w.clock.jump(timedelta(days=-365))
    await w.settle(rounds=200)
    assert (await w.last(STUDY)).state is State.PUBLISHED


def test_two_pacs_that_disagree_hold_and_a_silent_one_is_waited_for() -> None:
    pacs = MemoryPacs()
    one, other = pacs.hold(EXAM), pacs.hold(EXAM, name="AUTRE^ODETTE")
    silent = Unknown(reason="timeout", detail="no answer")
    assert combine([("main", Found(study=one)), ("archive", Found(study=one))]) == Found(study=one)
    assert combine([("main", Found(study=one)), ("archive", Found(study=other))]) == Disagreeing(
        names=("main", "archive")
    )
    assert combine([("main", silent), ("archive", Found(study=one))]) == Unknown(
        reason="timeout", detail="main: no answer"
    )
    assert combine([("main", Absent(evidence="a")), ("archive", Found(study=one))]) == Found(study=one)


def test_ff54_an_absence_is_proven_when_every_pacs_proved_its_own() -> None:
    alone, proven = Absent(evidence="a"), Absent(evidence="b", is_proven=True)
    assert combine([("main", proven), ("archive", proven)]) == Absent(evidence="main: b; archive: b", is_proven=True)
    assert combine([("main", alone), ("archive", proven)]) == Absent(evidence="main: a; archive: b")


async def test_a_repeat_with_a_new_time_stamp_is_answered_like_the_first(w: World) -> None:
    await w.report(EXAM, control_id="ONE")
    assert "MSA|AA|ONE" in await w.report(EXAM, control_id="ONE", sent_at="20260108113000+0100")
    assert await w.count("outbox_job") == 1


async def test_t31_what_a_peer_wrote_reaches_no_terminal_as_control_characters(w: World) -> None:
    await w.report(EXAM, control_id="K\x1b[2J\nFORGED")
    seen = await w.store.read(lambda tx: exams.one(tx, TENANT, STUDY))
    text = exam_text(seen, words("en"), "UTC")
    assert "\x1b" not in text
    assert not any(line.startswith("FORGED") for line in text.splitlines())


async def test_ff19_the_same_report_under_another_identity_is_judged_again_and_holds_the_exam(w: World) -> None:
    w.pacs.hold(EXAM)
    assert "MSA|AA" in await w.report(EXAM)
    await w.settle()
    assert "MSA|AE" in await w.report(replace(EXAM, envelope_patient=STRANGER))
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, "identity-birth-name")


async def test_the_same_report_with_its_identity_corrected_lets_the_exam_go_out(w: World) -> None:
    w.pacs.hold(EXAM)
    provisional = replace(EXAM.patient, ins=EXAM.patient.matricule, ins_status="PROV")
    assert "MSA|AE" in await w.report(replace(EXAM, envelope_patient=provisional))
    assert "MSA|AA" in await w.report(EXAM)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert await w.count("report") == 1


async def test_a_warning_is_noted_once_however_long_the_index_is_silent(tmp_path: Path) -> None:
    async with world(tmp_path, rules=Rules(test_identity="off", pacs_name="warn")) as w:
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle()
        w.pacs.hold(EXAM, instances=5, name="AUTRE^ODETTE")
        w.index.switches.set(Switch(name=Fault.HTML_MAINTENANCE, on=(w.query,), times=6))
        await w.report(replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777"))
        await w.settle()
        assert (await w.last(STUDY)).state is State.PUBLISHED
        assert w.index.switches.counts[w.query] > 6
        noted = await w.store.read(lambda tx: evidence_of(tx, TENANT, STUDY))
        warnings = [one.summary for one in noted if one.kind == "identity-warning"]
        assert len(warnings) == 2  # one for each valid report that the PACS contradicts
