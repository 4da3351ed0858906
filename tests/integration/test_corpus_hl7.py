"""National scenario messages: exactly the right facts, or every reason (drim-m §14)."""

from __future__ import annotations

import pytest

from gateway.hl7.cda import CdaRefused, read_cda
from gateway.hl7.oru import MessageRefused
from security.parse.hl7 import parse_message
from tests.corpus import corpus
from tests.fixtures.reports import PARIS, read

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
def test_a_document_message_is_not_taken_for_a_report_message(letter: str) -> None:
    with pytest.raises(MessageRefused) as caught:
        read(corpus("drim-m", "hl7", f"CR_{letter}-MDM.hl7").read_bytes())
    assert [p.code for p in caught.value.problems] == ["unsupported-type"]


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
