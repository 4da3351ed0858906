"""What an order message says of each order, and every reason when it cannot be used."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hl7.messages import read_message
from gateway.hl7.order_message import OrderMessage
from gateway.hl7.reading import MessageRefused
from gateway.lab.ris import LabRequest, build_omi, build_orm
from indexer.orders import CONTROLS, Number, OrderStatus
from security.parse.hl7 import parse_message
from tests.fixtures.reports import PARIS, RECEIVED, changed, without

STUDY = "1.2.250.1.213.4.5.9.2.9001"
SAID = datetime(2026, 1, 8, 9, 10, tzinfo=PARIS)


def _read(raw: bytes) -> OrderMessage:
    stated = read_message(parse_message(raw), timezone=PARIS, received_at=RECEIVED)
    assert isinstance(stated, OrderMessage)
    return stated


def _reasons(raw: bytes) -> list[tuple[str, str, int, int]]:
    with pytest.raises(MessageRefused) as caught:
        _read(raw)
    return [(p.code, p.segment, p.sequence, p.field) for p in caught.value.problems]


@pytest.mark.parametrize("build", [build_omi, build_orm])
def test_an_order_is_read_whole_from_either_message(build) -> None:
    request = LabRequest(filler="FIL-1", decider_id="899900000017", decision="examen redondant", priority="S")
    stated = _read(build(request))
    (order,) = stated.orders
    assert stated.patient.ins is not None
    assert (order.control, order.status, order.at) == ("NW", OrderStatus.REQUESTED, SAID)
    assert (order.placer, order.filler.value) == (Number(value="OPN9001", issuer="1.2.250.1.213.4.5.9.6"), "FIL-1")
    assert (order.accession.value, order.study, order.modality, order.priority) == ("ACN9001", STUDY, "CT", "S")
    assert order.procedure is not None
    assert (order.procedure.code, order.procedure.system) == ("24727-0", "LN")
    assert order.clinical == ("Céphalées inhabituelles",)
    assert order.requester is not None
    assert order.decider is not None
    assert (order.requester.identifier, order.decider.identifier) == ("899900000025", "899900000017")
    assert order.decision == ("examen redondant",)


def test_every_reason_and_note_of_an_order_is_kept_where_it_belongs() -> None:
    raw = changed(build_omi(LabRequest()), "\rOBR|", "\rNTE|1||Refus motivé\rOBR|")
    raw = changed(raw, "\rIPC|", "\rNTE|1||Diabète\rOBX|1|TX|X^Question||Grossesse ?||||||F\rIPC|")
    (order,) = _read(raw).orders
    assert order.clinical == ("Céphalées inhabituelles", "Diabète", "Grossesse ?")
    assert order.decision == ("Refus motivé",)


def test_an_order_of_several_procedures_is_one_order_for_each() -> None:
    raw = build_omi(LabRequest())
    raw += b"IPC|ACN9002^^1.2.250.1.213.4.5.9.5^ISO|RP-2|1.2.250.1.213.4.5.9.2.9002|SPS-2|MR\r"
    assert [(o.placer.value, o.accession.value, o.modality) for o in _read(raw).orders] == [
        ("OPN9001", "ACN9001", "CT"),
        ("OPN9001", "ACN9002", "MR"),
    ]


def test_ipc_is_believed_before_obr_about_the_accession_number() -> None:
    raw = changed(build_omi(LabRequest()), "||||||||CT", "||DUMMY||||||CT")
    assert _read(raw).orders[0].accession.value == "ACN9001"


def test_an_exam_modified_in_the_ris_is_known_by_its_text_in_either_component() -> None:
    raw = build_omi(LabRequest(exam_change=True))
    assert _read(raw).orders[0].is_exam_change
    assert _read(changed(raw, "|Modification", "|12989855963^Modification")).orders[0].is_exam_change
    assert _read(raw).orders[0].status is None
    assert _read(build_omi(LabRequest(exam_change=True, control="CA"))).orders[0].status is OrderStatus.CANCELLED


@pytest.mark.parametrize(
    ("control", "state", "status"),
    [
        ("OK", "", OrderStatus.ACCEPTED), ("UA", "", OrderStatus.REFUSED), ("OD", "", OrderStatus.REFUSED),
        ("CA", "", OrderStatus.CANCELLED), ("OC", "", OrderStatus.CANCELLED), ("DC", "", OrderStatus.CANCELLED),
        ("RP", "", OrderStatus.SUBSTITUTED), ("RU", "", OrderStatus.SUBSTITUTED), ("RO", "", OrderStatus.REQUESTED),
        ("SC", "CA", OrderStatus.CANCELLED), ("SC", "IP", OrderStatus.ACCEPTED), ("SC", "HD", None), ("XO", "", None),
    ],
)  # fmt: skip
def test_the_order_control_says_what_becomes_of_the_order(control: str, state: str, status: object) -> None:
    assert _read(build_omi(LabRequest(control=control, state=state))).orders[0].status is status


def test_a_time_in_the_future_or_none_is_the_time_of_arrival() -> None:
    for sent_at in ("20990101", "{{idMessage}}", ""):
        assert _read(build_omi(LabRequest(), sent_at=sent_at)).orders[0].at == RECEIVED


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (build_omi(LabRequest(control="ZZ")), ("unknown-value", "ORC", 1, 1)),
        (build_omi(LabRequest(control="")), ("missing-field", "ORC", 1, 1)),
        (build_omi(LabRequest(study="1.02")), ("bad-study-uid", "IPC", 1, 3)),
        (build_orm(LabRequest(study="x")), ("bad-study-uid", "ZDS", 1, 1)),
        (build_omi(LabRequest(placer="", accession="", study="")), ("no-order-number", "IPC", 1, 0)),
        (build_orm(LabRequest(placer="", accession="", study="")), ("no-order-number", "ORC", 1, 0)),
        (without(build_omi(LabRequest()), "ORC"), ("missing-segment", "ORC", 1, 0)),
        (without(build_omi(LabRequest()), "PID"), ("missing-segment", "PID", 1, 0)),
        (build_omi(LabRequest(), version="2.8"), ("unsupported-version", "MSH", 1, 12)),
        (build_omi(*[LabRequest()] * 65), ("too-many", "ORC", 0, 0)),
    ],
)
def test_each_fault_of_an_order_message_is_named_with_its_place(
    raw: bytes, reason: tuple[str, str, int, int]
) -> None:
    assert _reasons(raw) == [reason]


def test_no_patient_value_of_an_order_is_in_any_refusal_or_representation() -> None:
    raw = build_omi(LabRequest(control="CÉPHALÉES"), LabRequest(study="FANTÔME"))
    with pytest.raises(MessageRefused) as caught:
        _read(raw)
    said = str([problem.text for problem in caught.value.problems]) + repr(_read(build_omi(LabRequest())))
    for value in ("FANTÔME", "ODETTE", "phalées", "ÉPHAL", "ACN9001", "OPN9001", "261046311304287", "IPP9001"):
        assert value not in said


@given(
    controls=st.lists(st.sampled_from(sorted(CONTROLS)), min_size=1, max_size=6),
    ago=st.integers(min_value=0, max_value=10_000),
    build=st.sampled_from([build_omi, build_orm]),
)
def test_every_order_of_a_message_arrives_in_its_order_whatever_is_asked(controls, ago, build) -> None:
    said = (RECEIVED - timedelta(minutes=ago)).replace(second=0)
    raw = build(
        *(LabRequest(control=c, placer=f"P{n}") for n, c in enumerate(controls)), sent_at=f"{said:%Y%m%d%H%M%z}"
    )
    orders = _read(raw).orders
    assert [(o.control, o.placer.value) for o in orders] == [(c, f"P{n}") for n, c in enumerate(controls)]
    assert {o.at for o in orders} == {said}
