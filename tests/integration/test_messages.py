"""Reports in either envelope, orders and consents through the door: one effect each, nothing lost, nothing let out."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.hl7.inbox import refused
from gateway.hl7.reasons import TEXTS
from gateway.lab.ris import (
    LabExam,
    LabOrder,
    LabPatient,
    LabRequest,
    build_adt_consent,
    build_mdm,
    build_omi,
    build_orm,
    build_oru,
)
from indexer.consent import Consents, Current, Opposition, Reading
from indexer.ledger import evidence_of
from indexer.orders import Orders, OrderStatus, StoredOrder
from security.identity import Ins, PatientIdentity, Traits
from security.ins import check_key
from security.outbox.port import JobClass
from security.outbox.states import State
from tests.fixtures.reports import changed
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
OTHER = LabPatient(birth_name="SPECTRE", first_given_name="ÉMILE", sex="M", rank=7, ipp="IPP9007")
FLAGS = dict(EXAM.flags)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


def other_exam(number: int, patient: LabPatient | None = None) -> LabExam:
    arcs = "1.2.250.1.213.4.5.9"
    return LabExam(
        patient=patient or LabPatient(),
        studies=(f"{arcs}.2.{number}",),
        orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
        document_id=f"{arcs}.1.{number}",
    )


async def kinds(w: World, study: str = STUDY) -> list[str]:
    return [one.kind for one in await w.store.read(lambda tx: evidence_of(tx, TENANT, study))]


async def orders(w: World, study: str = STUDY) -> list[StoredOrder]:
    return await w.store.read(lambda tx: Orders(w.ledger).orders_of(tx, TENANT, study))


def person(patient: LabPatient) -> PatientIdentity:
    return PatientIdentity(
        traits=Traits(birth_name=patient.birth_name, first_given_name=patient.first_given_name),
        ins=Ins(matricule=patient.matricule or "", oid=patient.ins_oid, status="VALI"),
    )


async def consent(w: World, patient: PatientIdentity) -> Current:
    return await w.store.read(lambda tx: Consents(w.ledger).current(tx, TENANT, patient))


def said(w: World, *, ago_s: float = 0) -> str:
    return (w.clock.now() - timedelta(seconds=ago_s)).strftime("%Y%m%d%H%M%S%z")


# -- a report in two envelopes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["ORU", "MDM"])
async def test_ff13_a_report_by_both_messages_then_late_again_is_one_create(w: World, first: str) -> None:
    both = [build_oru(EXAM, control_id="A"), build_mdm(EXAM, control_id="B")]
    w.pacs.hold(EXAM)
    for message in both if first == "ORU" else reversed(both):
        assert "MSA|AA|" in await w.raw(message)
        await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    w.clock.advance(24 * 3600)
    w.pacs.hold(EXAM, instances=5)  # with the late images of a day after
    late = replace(EXAM, document_id=f"{EXAM.document_id}.2", replaces=EXAM.document_id, version_number=2)
    for message in (
        build_mdm(EXAM, control_id="C"),
        build_mdm(late, control_id="D", event="T10", order_control="RO"),
        build_oru(late, control_id="E", order_control="RO"),
        build_oru(EXAM, control_id="F"),
    ):
        assert "MSA|AA|" in await w.raw(message)
        await w.settle()
    assert await w.count("report") == 2
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]
    assert (await w.last(STUDY)).state is State.PUBLISHED


@pytest.mark.parametrize("first", ["ORU", "MDM"])
async def test_both_messages_before_the_pacs_has_the_study_make_one_entry(w: World, first: str) -> None:
    both = [build_oru(EXAM, control_id="SAME"), build_mdm(EXAM, control_id="SAME")]
    for message in both if first == "ORU" else reversed(both):
        assert "MSA|AA|SAME" in await w.raw(message)
    await w.settle(rounds=4)
    w.pacs.hold(EXAM)
    await w.settle()
    assert len(await w.entries(EXAM)) == 1


async def test_the_answer_to_an_mdm_names_its_event(w: World) -> None:
    answer = await w.raw(build_mdm(EXAM, control_id="B"))
    assert "|ACK^T02^ACK|" in answer
    assert "|P|2.6|" in answer


@pytest.mark.parametrize("first", ["ORU", "MDM"])
@pytest.mark.parametrize("flag", ["MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "CONNEXION_SECRETE"])
async def test_of_two_envelopes_the_stricter_flag_counts_in_either_order(w: World, first: str, flag: str) -> None:
    stricter = replace(EXAM, flags={**FLAGS, flag: "Y"})
    looser = replace(EXAM, flags={**FLAGS, flag: "N"})
    for exam, build in ((looser, build_oru), (stricter, build_mdm)) if first == "ORU" else (
        (stricter, build_oru), (looser, build_mdm)
    ):  # fmt: skip
        assert "MSA|AA|" in await w.raw(build(exam))
    (held,) = await w.store.read(lambda tx: w.ledger.reports_of(tx, TENANT, STUDY))
    fields = ("masked_to_professionals", "invisible_to_patient", "invisible_to_guardians", "secret_connection")
    stated = dict(
        zip(("MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REP_LEGAUX", "CONNEXION_SECRETE"), fields, strict=True)
    )
    assert getattr(held.stated.report.visibility, stated[flag]) is True


async def test_a_stricter_flag_of_the_second_envelope_reaches_the_index(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.raw(build_oru(EXAM))
    await w.settle()
    await w.raw(build_mdm(replace(EXAM, flags={**FLAGS, "INVISIBLE_REP_LEGAUX": "Y"})))
    await w.settle()
    assert sorted(status for _, status in await w.entries(EXAM)) == ["Approved", "Deprecated"]


async def test_i10_a_second_envelope_that_forbids_the_index_stops_the_exam(w: World) -> None:
    await w.raw(build_oru(EXAM))
    assert "MSA|AA|" in await w.raw(build_mdm(replace(EXAM, flags={**FLAGS, "DESTDMP": "N"})))
    w.pacs.hold(EXAM)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert (await w.last(STUDY)).reason == "not-for-index"
    await w.raw(build_oru(EXAM, control_id="AGAIN"))
    await w.settle()
    assert await w.entries(EXAM) == []


async def test_a_report_of_other_content_under_the_same_id_is_refused_in_either_envelope(w: World) -> None:
    await w.raw(build_oru(EXAM))
    answer = await w.raw(build_mdm(replace(EXAM, orders=(LabOrder(accession_number="ACN1"),)), control_id="B"))
    assert "MSA|AE|B" in answer
    assert "|wrong-version|" in answer


async def test_a_replacement_by_mdm_replaces_the_report_that_came_by_oru(w: World) -> None:
    await w.raw(build_oru(EXAM))
    second = replace(EXAM, document_id=f"{EXAM.document_id}.2", replaces=EXAM.document_id, version_number=2)
    answer = await w.raw(build_mdm(second, control_id="B", event="T10", order_control="RO", parent=EXAM.document_id))
    assert "MSA|AA|B" in answer
    assert "|ACK^T10^ACK|" in answer
    reports = await w.store.read(lambda tx: w.ledger.reports_of(tx, TENANT, STUDY))
    assert [(held.report_id, held.status) for held in reports] == [
        (EXAM.document_id, "replaced"),
        (second.document_id, "valid"),
    ]


async def test_a_withdrawal_of_what_was_never_taken_is_refused_and_kept(w: World) -> None:
    answer = await w.raw(build_mdm(EXAM, control_id="B", event="T04", order_control="CA", result_status="D"))
    assert "MSA|AE|B" in answer
    assert "|unknown-report|" in answer
    assert (await w.count("report"), await w.count("outbox_job"), await w.count("hl7_message")) == (0, 0, 1)


async def test_a_message_that_a_person_brings_is_answered_alike_and_carries_its_urgency(w: World) -> None:
    assert await w.intake.take(build_oru(EXAM), job_class=JobClass.P3) == ("AA", "")
    assert (await w.last(STUDY)).job_class is JobClass.P3
    assert await w.intake.take(build_adt_consent(event="A03"), job_class=JobClass.P3) == ("AR", "unsupported-event")


# -- what is not taken ---------------------------------------------------------------------------------------------


async def test_messages_that_are_not_taken_are_kept_and_listed_for_the_operator(w: World) -> None:
    oru = build_oru(EXAM, control_id="S1")
    assert "|200^" in await w.raw(changed(oru, "ORU^R01^ORU_R01", "SIU^S12^SIU_S12"))
    w.clock.advance(1)
    assert "|201^" in await w.raw(build_adt_consent(event="A03", control_id="S2"))
    w.clock.advance(1)
    assert "|202^" in await w.raw(build_adt_consent(processing="D", control_id="S3"))
    await w.raw(build_oru(EXAM, control_id="S4"))
    listed = await w.store.read(lambda tx: refused(tx, TENANT, 10))
    assert [(one.control_id, one.message_type, one.code, one.reason) for one in listed] == [
        ("S3", "ADT^A31", "AR", "unsupported-processing"),
        ("S2", "ADT^A03", "AR", "unsupported-event"),
        ("S1", "SIU^S12", "AR", "unsupported-type"),
    ]
    assert {one.reason for one in listed} <= TEXTS.keys()
    assert listed[0].at == w.clock.now()
    assert await w.store.read(lambda tx: refused(tx, TENANT, 1)) == listed[:1]
    assert await w.store.read(lambda tx: refused(tx, "another", 10)) == []
    assert await w.count("hl7_message") == 4


# -- orders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [build_omi, build_orm])
async def test_an_order_is_kept_with_its_history_and_nothing_is_published(w: World, build) -> None:
    assert "MSA|AA|O1" in await w.raw(build(LabRequest(), control_id="O1", sent_at=said(w, ago_s=30)))
    refusal = LabRequest(control="UA", decider_id="899900000017", decision="irradiation injustifiée")
    assert "MSA|AA|O2" in await w.raw(build(refusal, control_id="O2", sent_at=said(w)))
    (order,) = await orders(w)
    assert [(event.control_id, event.control, event.status) for event in order.events] == [
        ("O1", "NW", OrderStatus.REQUESTED),
        ("O2", "UA", OrderStatus.REFUSED),
    ]
    assert order.status is OrderStatus.REFUSED
    assert order.deciding is not None
    assert order.deciding.stated.decision == ("irradiation injustifiée",)
    assert order.deciding.stated.decider is not None
    assert order.deciding.stated.decider.identifier == "899900000017"
    assert order.facts.clinical == ("Céphalées inhabituelles",)
    assert (await w.count("outbox_job"), await w.count("exam")) == (0, 0)


async def test_the_same_order_message_again_gets_the_first_answer_again(w: World) -> None:
    message = build_omi(LabRequest(), control_id="O1")
    first = await w.raw(message)
    w.clock.advance(60)
    assert await w.raw(message) == first
    assert (await w.count("imaging_order"), await w.count("imaging_order_event")) == (1, 1)


async def test_a_cancellation_that_arrives_before_its_request_still_cancels_it(w: World) -> None:
    await w.raw(build_omi(LabRequest(control="CA"), sent_at=said(w, ago_s=10), control_id="O2"))
    await w.raw(build_omi(LabRequest(), sent_at=said(w, ago_s=3600), control_id="O1"))
    (order,) = await orders(w)
    assert order.status is OrderStatus.CANCELLED
    assert order.requested_at == w.clock.now().replace(microsecond=0) - timedelta(seconds=3600)


async def test_a_cancellation_that_could_not_be_carried_out_leaves_the_order_as_it_was(w: World) -> None:
    for ago, control in ((30, "NW"), (20, "OK"), (10, "CA"), (5, "UC")):
        await w.raw(build_omi(LabRequest(control=control), sent_at=said(w, ago_s=ago), control_id=control))
    assert (await orders(w))[0].status is OrderStatus.ACCEPTED


async def test_one_placer_number_for_every_order_does_not_mix_them_up(w: World) -> None:
    dummy = LabRequest(placer="984375862", filler="09011600123")
    second = replace(dummy, accession="ACN9002", study=f"{STUDY}.2")
    for number, (request, patient) in enumerate(
        [(dummy, None), (second, None), (replace(dummy, study=f"{STUDY}.3"), OTHER)]
    ):
        await w.raw(build_omi(request, patient=patient, control_id=f"O{number}"))
    await w.raw(build_omi(replace(second, control="CA"), control_id="O9"))
    assert await w.count("imaging_order") == 3
    found = [await orders(w, study) for study in (STUDY, f"{STUDY}.2", f"{STUDY}.3")]
    assert [[order.status for order in one] for one in found] == [
        [OrderStatus.REQUESTED],
        [OrderStatus.CANCELLED],
        [OrderStatus.REQUESTED],
    ]


async def test_ff19_a_cancellation_for_one_person_leaves_the_order_of_another_under_the_same_number(w: World) -> None:
    bare = LabRequest(placer="984375862", accession="", study=STUDY)
    await w.raw(build_omi(bare, control_id="O1", sent_at=said(w, ago_s=20)))
    await w.raw(build_omi(replace(bare, control="CA"), patient=OTHER, control_id="O2", sent_at=said(w)))
    assert [order.status for order in await orders(w)] == [OrderStatus.REQUESTED, OrderStatus.CANCELLED]


async def test_ff19_two_people_known_by_a_local_number_alone_keep_their_orders_apart(w: World) -> None:
    bare = LabRequest(placer="984375862", accession="", study=STUDY)
    one, another = (replace(patient, ins=None) for patient in (LabPatient(), OTHER))
    await w.raw(build_omi(bare, patient=one, control_id="O1", sent_at=said(w, ago_s=20)))
    await w.raw(build_omi(replace(bare, control="CA"), patient=another, control_id="O2", sent_at=said(w)))
    assert [order.status for order in await orders(w)] == [OrderStatus.REQUESTED, OrderStatus.CANCELLED]


async def test_an_order_learns_its_numbers_and_study_from_later_messages(w: World) -> None:
    bare = LabRequest(accession="", study="")
    await w.raw(build_omi(bare, control_id="O1", sent_at=said(w, ago_s=20)))
    await w.raw(build_omi(LabRequest(control="OK"), control_id="O2", sent_at=said(w, ago_s=10)))
    await w.raw(build_omi(LabRequest(control="CA", placer=""), control_id="O3", sent_at=said(w)))
    (order,) = await orders(w)
    assert [event.control for event in order.events] == ["NW", "OK", "CA"]


async def test_a_substituted_request_and_its_substitute_name_each_other(w: World) -> None:
    await w.raw(build_omi(LabRequest(), control_id="O1", sent_at=said(w, ago_s=20)))
    new = LabRequest(control="RO", placer="OPN2", accession="ACN2", study=f"{STUDY}.2", modality="MR")
    await w.raw(build_omi(LabRequest(control="RU", decision="IRM préférable"), new, control_id="O2", sent_at=said(w)))
    (old,), (substitute,) = await orders(w), await orders(w, f"{STUDY}.2")
    assert (old.status, substitute.status) == (OrderStatus.SUBSTITUTED, OrderStatus.REQUESTED)
    assert (old.events[-1].other, substitute.events[-1].other) == (substitute.order_no, old.order_no)


async def test_a_replacement_that_only_names_its_parent_takes_it_out_of_force(w: World) -> None:
    await w.raw(build_omi(LabRequest(), control_id="O1", sent_at=said(w, ago_s=20)))
    new = LabRequest(control="RO", placer="OPN2", accession="ACN2", study=f"{STUDY}.2", parent="OPN9001")
    await w.raw(build_omi(new, control_id="O2", sent_at=said(w)))
    (old,), (substitute,) = await orders(w), await orders(w, f"{STUDY}.2")
    assert (old.status, old.events[-1].other) == (OrderStatus.SUBSTITUTED, substitute.order_no)


async def test_requests_can_be_counted_by_fate_practitioner_modality_and_period(w: World) -> None:
    requests = [
        LabRequest(
            placer=f"P{n}", accession=f"A{n}", study=f"{STUDY}.{n}", modality=("CT", "MR")[n % 2], control=control
        )
        for n, control in enumerate(["NW", "UA", "UA", "OC", "RP"])
    ]
    await w.raw(build_omi(*requests, control_id="O1", sent_at=said(w, ago_s=60)))
    await w.raw(
        build_omi(LabRequest(placer="OLD", study=f"{STUDY}.9", accession="A9"), control_id="O2", sent_at="20200101")
    )
    end, start = w.clock.now(), w.clock.now() - timedelta(days=30)
    found = await w.store.read(lambda tx: list(Orders(w.ledger).requested_between(tx, TENANT, start, end)))
    counted = Counter(
        (order.status.value, order.facts.requester.identifier if order.facts.requester else "", order.facts.modality)
        for order in found
    )
    doctor = "899900000025"
    assert counted == {
        ("requested", doctor, "CT"): 1, ("refused", doctor, "MR"): 1, ("refused", doctor, "CT"): 1,
        ("cancelled", doctor, "MR"): 1, ("substituted", doctor, "CT"): 1,
    }  # fmt: skip


async def test_orders_of_a_period_come_whole_and_once_however_many(w: World, monkeypatch) -> None:
    monkeypatch.setattr("indexer.orders._PAGE", 2)
    requests = [LabRequest(placer=f"P{n}", accession=f"A{n}", study=f"{STUDY}.{n}") for n in range(5)]
    await w.raw(build_omi(*requests, sent_at=said(w, ago_s=60)))
    start, end = datetime(2020, 1, 1, tzinfo=UTC), w.clock.now()
    found = await w.store.read(
        lambda tx: [o.order_no for o in Orders(w.ledger).requested_between(tx, TENANT, start, end)]
    )
    assert found == sorted(set(found))
    assert len(found) == 5


async def test_an_order_of_a_known_exam_stands_in_its_timeline(w: World) -> None:
    await w.raw(build_oru(EXAM))
    for control in ("NW", "OK", "UA", "CA", "RP", "XO"):
        await w.raw(build_omi(LabRequest(control=control), control_id=control))
    await w.raw(build_omi(LabRequest(exam_change=True), control_id="M"))
    assert [kind for kind in await kinds(w) if kind.startswith(("order-", "exam-"))] == [
        "order-received", "order-accepted", "order-refused", "order-cancelled", "order-substituted", "order-changed",
        "exam-changed-in-ris",
    ]  # fmt: skip


async def test_an_indexed_exam_cancelled_in_the_ris_is_noted_and_nothing_else(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.raw(build_oru(EXAM))
    await w.settle()
    assert "MSA|AA|" in await w.raw(build_omi(LabRequest(control="CA", exam_change=True), control_id="O1"))
    await w.settle()
    assert (await kinds(w))[-1] == "exam-cancelled-in-ris"
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_ff19_an_order_for_another_person_than_the_report_is_a_warning_and_holds_nothing(w: World) -> None:
    await w.raw(build_oru(EXAM))
    assert "MSA|AA|O1" in await w.raw(build_omi(LabRequest(), patient=OTHER, control_id="O1"))
    assert (await kinds(w))[-2:] == ["order-received", "identity-warning"]
    (conflict,) = await w.store.read(lambda tx: w.ledger.conflicts(tx, TENANT, STUDY))
    assert (conflict.left, conflict.right) == (OTHER.matricule, EXAM.patient.matricule)
    w.pacs.hold(EXAM)
    await w.settle()
    assert len(await w.entries(EXAM)) == 1


async def test_t65_orders_and_consents_hold_no_patient_in_clear(w: World, tmp_path: Path) -> None:
    refusal = LabRequest(control="UA", decider_id="899900000017", decision="INJUSTIFIE", filler="FIL77")
    await w.raw(build_omi(refusal, sent_at=said(w)))
    await w.raw(build_adt_consent(opposition="IO"))
    await w.store.close()
    data = b"".join(file.read_bytes() for file in tmp_path.glob("gateway.db*"))
    for value in ("FANTÔME", "ODETTE", "261046311304287", "IPP9001", "ACN9001", "OPN9001", "FIL77", "phalées",
                  "INJUSTIFIE", "RAYON-TEST", "DEMANDE-TEST", "ACTIF"):  # fmt: skip
        assert value.encode() not in data


# -- consent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opposition", list(Opposition))
@pytest.mark.parametrize("reading", list(Reading))
async def test_what_a_patient_decided_is_kept_with_its_date(
    w: World, opposition: Opposition, reading: Reading
) -> None:
    at = said(w, ago_s=60)
    assert "MSA|AA|C1" in await w.raw(
        build_adt_consent(opposition=opposition, reading=reading, at=at, sent_at=at, control_id="C1")
    )
    now = await consent(w, person(LabPatient()))
    assert (now.opposition, now.reading, now.is_opposed) == (opposition, reading, opposition is Opposition.OPPOSED)
    assert now.opposition_at == w.clock.now().replace(microsecond=0) - timedelta(seconds=60)
    assert await consent(w, person(OTHER)) == Current()


async def test_an_opposition_is_visible_on_every_exam_of_the_patient_and_no_other(w: World) -> None:
    second, strangers = other_exam(2), other_exam(3, OTHER)
    for exam in (EXAM, second, strangers):
        await w.report(exam)
    await w.raw(build_adt_consent(opposition="IO"))
    for study, expected in ((STUDY, True), (second.studies[0], True), (strangers.studies[0], False)):
        assert ("patient-opposed" in await kinds(w, study)) is expected


async def test_i10_a_new_report_of_an_opposed_patient_is_stored_held_and_answered_aa(w: World) -> None:
    await w.raw(build_adt_consent(opposition="IO", at=said(w, ago_s=60)))
    w.pacs.hold(EXAM)
    assert "MSA|AA|" in await w.report(EXAM)
    await w.settle()
    assert await w.entries(EXAM) == []
    job = await w.last(STUDY)
    assert (job.state, job.reason) == (State.BLOCKED, "patient-opposed")
    assert "patient-opposed" in await kinds(w)
    assert "MSA|AA|" in await w.raw(build_adt_consent(opposition="INO", at=said(w), sent_at=said(w), control_id="C2"))
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    assert "patient-not-opposed" in await kinds(w)


async def test_i10_an_opposition_stops_an_exam_that_waits_for_its_images(w: World) -> None:
    await w.report(EXAM)
    await w.settle(rounds=3)
    await w.raw(build_adt_consent(opposition="IO", at=said(w), sent_at=said(w)))
    w.pacs.hold(EXAM)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert (await w.last(STUDY)).reason == "patient-opposed"


async def test_i10_an_opposition_takes_an_indexed_exam_out_of_the_index(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    await w.raw(build_adt_consent(opposition="IO", at=said(w), sent_at=said(w)))
    await w.settle()
    assert "patient-opposed" in await kinds(w)
    assert (await kinds(w))[-1] == "withdrawn"
    assert await w.entries(EXAM) == []
    assert (await w.last(STUDY)).job_class is JobClass.P0


async def test_i10_an_opposition_under_the_local_identifier_alone_counts(w: World) -> None:
    await w.raw(build_adt_consent(LabPatient(ins=None), opposition="IO"))
    await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "patient-opposed"


@pytest.mark.parametrize(
    "patient",
    [
        LabPatient(ins_status="PROV"),
        LabPatient(ins="261046311304288"),
        LabPatient(ins=None),
        replace(OTHER, ipp="IPP9001"),
    ],
    ids=["not-qualified", "wrong-key", "no-ins", "somebody-else-under-the-same-number"],
)
async def test_ff19_an_identity_that_is_not_sure_never_ends_an_opposition(w: World, patient: LabPatient) -> None:
    await w.raw(build_adt_consent(opposition="IO", at=said(w, ago_s=60), sent_at=said(w, ago_s=60), control_id="C1"))
    await w.raw(build_adt_consent(patient, opposition="INO", at=said(w), sent_at=said(w), control_id="C2"))
    assert (await consent(w, person(LabPatient()))).is_opposed
    await w.report(EXAM)
    is_another = patient.ins_status == "VALI" and check_key(patient.matricule or "")
    assert (await w.last(STUDY)).state is State.BLOCKED
    assert (await w.last(STUDY)).reason == ("identity-ins" if is_another else "patient-opposed")


async def test_an_older_statement_that_arrives_late_does_not_end_an_opposition(w: World) -> None:
    await w.raw(build_adt_consent(opposition="IO", at=said(w, ago_s=10), control_id="C1", sent_at=said(w)))
    for ago in (10, 3600):
        late = build_adt_consent(opposition="INO", at=said(w, ago_s=ago), control_id=f"L{ago}", sent_at=said(w))
        await w.raw(late)
        assert (await consent(w, person(LabPatient()))).is_opposed


async def test_a_report_held_for_its_identity_stays_held_when_the_opposition_ends(w: World) -> None:
    await w.raw(build_adt_consent(opposition="IO", at=said(w, ago_s=60), sent_at=said(w, ago_s=60), control_id="C1"))
    unsure = replace(EXAM, envelope_patient=LabPatient(ins_status="PROV"))
    assert "MSA|AE|" in await w.report(unsure)
    await w.raw(build_adt_consent(opposition="INO", at=said(w), sent_at=said(w), control_id="C2"))
    assert (await w.last(STUDY)).reason == "identity-ins-status"


async def test_a_report_whose_identity_was_corrected_still_waits_for_the_end_of_the_opposition(w: World) -> None:
    await w.report(replace(EXAM, envelope_patient=LabPatient(ins_status="PROV")))
    await w.raw(build_adt_consent(opposition="IO", at=said(w, ago_s=60), sent_at=said(w, ago_s=60), control_id="C1"))
    await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "patient-opposed"
    w.pacs.hold(EXAM)
    await w.raw(build_adt_consent(opposition="INO", at=said(w), sent_at=said(w), control_id="C2"))
    await w.settle()
    assert len(await w.entries(EXAM)) == 1


async def test_an_admission_that_repeats_the_opposition_adds_no_line_to_the_timeline(w: World) -> None:
    await w.report(EXAM)
    for number in range(3):
        w.clock.advance(60)
        await w.raw(
            build_adt_consent(opposition="IO", at=said(w), sent_at=said(w), event="A01", control_id=f"C{number}")
        )
    assert (await kinds(w)).count("patient-opposed") == 1
