"""National scenario messages: exactly the right facts, or every reason (drim-m §14)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from gateway.hl7.cda import CdaRefused, read_cda
from gateway.hl7.consent_message import ConsentMessage
from gateway.hl7.messages import read_message
from gateway.hl7.order_message import OrderMessage
from gateway.hl7.reading import MessageRefused
from indexer.consent import Consent
from indexer.orders import OrderStatus
from security.parse.hl7 import parse_message
from tests.corpus import corpus
from tests.fixtures.reports import PARIS, RECEIVED, read
from tests.support.world import world

pytestmark = pytest.mark.corpus

_STUDY = "1.2.250.1.213.4.5.2.1."
_OLD, _NEW = "1.2.250.1.213.4.5.2.5", "1.2.250.1.925.994044785528.27"  # accession issuers of the two vintages
_HEAD, _LEG = "774007", "61685007"


@pytest.mark.parametrize(
    ("letter", "studies", "orders", "issuer", "guardians", "modality", "region", "birthplace", "sender"),
    [
        ("E", ["105"], [("ACN105", "OPN105")], _OLD, False, "NM", _HEAD, "63220", "750803447"),
        (
            "F",
            ["106", "107"],
            [("ACN106", "OPN107"), ("ACN107", "OPN107")],
            _NEW,
            True,
            "MR",
            _LEG,
            "51215",
            "300017985",
        ),
        ("J", ["111"], [("ACN111", "OPN111")], _OLD, True, "CT", _HEAD, "63220", "300017985"),
        ("K", ["112"], [("ACN112", "OPN112")], _OLD, True, "CT", _HEAD, "63220", "300017985"),
        ("Q", ["118"], [("ACN118", "OPN118")], _NEW, True, "MR", _LEG, "51215", "300017985"),
        ("U", ["122"], [("ACN122", "OPN122")], _OLD, True, "CT", _HEAD, "63220", "300017985"),
        ("W", ["124"], [("ACN124", "OPN124")], _NEW, True, "CT", _HEAD, "51215", "300017985"),
    ],
)
def test_a_national_report_message_gives_its_facts(
    letter: str,
    studies: list[str],
    orders: list[tuple[str, str]],
    issuer: str,
    guardians: bool,
    modality: str,
    region: str,
    birthplace: str,
    sender: str,
) -> None:
    stated = read(corpus("drim-m", "hl7", f"CR_{letter}-ORU.hl7").read_bytes())
    report = stated.report
    assert report.studies == tuple(_STUDY + arc for arc in studies)
    assert [(o.accession_number, o.placer_number) for o in report.orders] == orders
    assert {(o.accession_issuer, o.placer_issuer) for o in report.orders} == {(issuer, "1.2.250.1.213.4.5.2.6")}
    assert [m.code for m in report.modalities] == [modality]
    assert [r.code for r in report.regions] == [region]
    flags = report.visibility
    assert (flags.masked_to_professionals, flags.invisible_to_patient, flags.invisible_to_guardians) == (
        False,
        True,
        guardians,
    )
    assert (flags.secret_connection, flags.changes_confidentiality, flags.for_index) == (False, False, True)
    assert stated.envelope.ins is not None
    assert report.patient.ins is not None
    assert (stated.envelope.ins.matricule, stated.envelope.ins.status) == ("279035121518989", "VALI")
    assert report.patient.ins.matricule == "279035121518989"
    assert [i.value for i in stated.envelope.local_ids] == [i.value for i in report.patient.local_ids] == ["IPP101"]
    assert (stated.envelope.traits.birthplace, report.patient.traits.birthplace) == (birthplace, birthplace)
    assert (stated.order_control, stated.visit_number, stated.notes) == ("NW", "000897406", ())
    assert report.sender is not None
    assert report.sender.organization is not None
    assert (report.sender.identifier, report.sender.organization.identifier) == ("801234564895", sender)


def test_the_old_malformed_message_is_refused_with_every_reason() -> None:
    with pytest.raises(MessageRefused) as caught:
        read(corpus("drim-m", "hl7", "demonstrator_patient1.hl7").read_bytes())
    assert [(p.code, p.segment, p.sequence, p.field) for p in caught.value.problems] == [
        ("broken-line", "OBX", 4, 0),
        ("unsupported-version", "MSH", 1, 12),
        ("missing-segment", "PID", 1, 0),
        ("missing-segment", "ORC", 1, 0),
        ("unknown-value", "OBX", 2, 3),
        ("unknown-value", "OBX", 3, 3),
        ("unknown-value", "OBX", 5, 3),
        ("unknown-value", "OBX", 7, 3),
        ("empty-report", "OBX", 1, 5),
    ]


@pytest.mark.parametrize("letter", list("EFJKQUW"))
def test_the_two_messages_of_a_national_exam_state_the_same_report(letter: str) -> None:
    oru, mdm = (read(corpus("drim-m", "hl7", f"CR_{letter}-{kind}.hl7").read_bytes()) for kind in ("ORU", "MDM"))
    assert (mdm.trigger, mdm.order_control) == ("T02", "NW")
    assert (mdm.report, mdm.envelope, mdm.notes) == (oru.report, oru.envelope, oru.notes)


def _message(name: str) -> bytes:
    return corpus("drim-m", "hl7", name).read_bytes()


def _statement(name: str, *, processing: bytes) -> Consent:
    raw = _message(name).replace(b"|D|2.5^FRA", b"|" + processing + b"|2.5^FRA")
    stated = read_message(parse_message(raw), timezone=PARIS, received_at=RECEIVED)
    assert isinstance(stated, ConsentMessage)
    assert stated.statement is not None
    patient, consent = stated.statement
    assert patient.ins is not None
    assert (patient.ins.matricule, patient.ins.status) == ("279035121518989", "VALI")
    return consent


@pytest.mark.parametrize(
    ("name", "opposition", "reading", "day"),
    [
        ("pamfr_ConsentementConsultation_NonOppositionAlimentation.er7", "INO", "IC", 6),
        ("pamfr_NonConsentementConsultation_NonOppositionAlimentation.er7", "INO", "INC", 7),
        ("pamfr_NonConsentementConsultation_OppositionAlimentation.er7", "IO", "INC", 9),
    ],
)
def test_a_national_consent_gives_its_facts_once_it_is_no_debugging_message(
    name: str, opposition: str, reading: str, day: int
) -> None:
    with pytest.raises(MessageRefused) as caught:
        _statement(name, processing=b"D")
    assert [p.code for p in caught.value.problems] == ["unsupported-processing"]
    consent = _statement(name, processing=b"P")
    assert (consent.record_status, consent.opposition, consent.reading) == ("ACTIF", opposition, reading)
    at = datetime(2024, 3, day, 11, 11, 54, tzinfo=PARIS)
    assert (consent.record_at, consent.opposition_at, consent.reading_at) == (at, at, at)


@pytest.mark.parametrize(
    ("name", "control", "status", "accession", "arc", "modality", "placer"),
    [
        ("CR_W_Suppression-OMI.hl7", "CA", OrderStatus.CANCELLED, "ACN124", "124", "", "984375862"),
        ("OMI_O23-ImagingOrder.hl7", "NW", None, "105234751", "101", "CT", "984375862"),
    ],
)
def test_a_national_order_gives_its_facts(
    name: str, control: str, status: OrderStatus | None, accession: str, arc: str, modality: str, placer: str
) -> None:
    stated = read_message(parse_message(_message(name)), timezone=PARIS, received_at=RECEIVED)
    assert isinstance(stated, OrderMessage)
    (order,) = stated.orders
    assert (order.control, order.status, order.is_exam_change) == (control, status, True)
    assert (order.accession.value, order.study, order.modality) == (accession, _STUDY + arc, modality)
    assert order.placer.value == placer
    assert order.requester is not None
    assert order.requester.identifier == "899700367909"


async def test_every_national_message_is_answered_and_taken_or_refused_for_a_named_reason(tmp_path: Path) -> None:
    refused: dict[str, tuple[str, ...]] = {}
    files = sorted(corpus("drim-m", "hl7").iterdir())
    async with world(tmp_path) as w:
        for file in files:
            raw = file.read_bytes().replace(b"{{idMessage}}", file.name.encode())
            raw = raw.replace(b"^MDM_T02|015|", b"^MDM_T02|%s|" % file.name.encode())  # three messages say 015
            answer = (await w.raw(raw)).split("\r")
            code = answer[1].split("|")[1]
            reasons = tuple(dict.fromkeys(line.split("|")[7] for line in answer if line.startswith("ERR|")))
            assert (code == "AA") is (not reasons)
            if reasons:
                refused[file.name] = (code, *reasons)
        assert await w.count("hl7_message") == len(files) == 24
        assert (await w.count("report"), await w.count("imaging_order")) == (9, 2)
    assert refused == {
        "ans_ACK_T10.er7": ("AR", "unsupported-type"),
        "ans_MDM_T04_radio_delete.er7": ("AE", "unknown-report"),
        "demonstrator_patient1.hl7": (
            "AR",
            "broken-line",
            "unsupported-version",
            "missing-segment",
            "unknown-value",
            "empty-report",
        ),
        **{file.name: ("AR", "unsupported-processing") for file in files if file.name.startswith("pamfr_")},
    }


def test_every_national_message_parses() -> None:
    files = sorted(f for f in corpus("drim-m", "hl7").iterdir() if f.name != "demonstrator_patient1.hl7")
    assert len(files) == 23
    for file in files:
        message = parse_message(file.read_bytes())
        assert (message.problems, message.charset.used) == (
            (),
            "utf-8" if "ImagingOrder" not in file.name else "ascii",
        )


@pytest.mark.parametrize(
    ("name", "studies", "replaces", "authors"),
    [
        ("CR_F.xml", [f"{_STUDY}106", f"{_STUDY}107"], None, 1),
        ("ris_transmission_initiale.xml", [f"{_STUDY}102"], None, 2),
        ("ris_remplacement.xml", [f"{_STUDY}102"], "1.2.250.1.213.4.5.4.402", 2),
        (
            "IMG_CR_IMG_2024.01_N1.xml",
            [f"1.2.250.1.925.994044.27.123.187635{n}" for n in (0, 1, 2)],
            "90E1C8EC-F951-4B26-A305-A34848818DD6",
            1,
        ),
    ],
)
def test_a_national_report_document_gives_its_facts(
    name: str, studies: list[str], replaces: str | None, authors: int
) -> None:
    report = read_cda(corpus("drim-m", "cda", name).read_bytes(), timezone=PARIS)
    assert list(report.studies) == studies
    assert (str(report.replaces) if report.replaces else None) == replaces
    assert len(report.authors) == authors


def test_every_national_report_document_is_read_or_refused_with_reasons() -> None:
    refused = {}
    for file in sorted(corpus("drim-m", "cda").glob("*.xml")):
        try:
            read_cda(file.read_bytes(), timezone=PARIS)
        except CdaRefused as fault:
            refused[file.name] = [(p.code, p.text) for p in fault.problems]
    assert refused == {
        "demonstrator_DOC00002.xml": [
            ("missing-field", "CDA recordTarget/patientRole/patient/name/family[@qualifier='BR']: expected a name")
        ]
    }
