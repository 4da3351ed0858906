"""What a CDA report header says, and every reason when it cannot be used."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from gateway.hl7.cda import CdaRefused, read_cda
from indexer.report import Coded, DocumentId, Order, Organization, Report
from security.identity import Ins, LocalId, Traits
from tests.fixtures.reports import PARIS, TWO_ORDERS, LabExam, LabOrder, LabPatient, build_cda

_PLUS_ONE = timezone(timedelta(hours=1))


def _read(data: bytes) -> Report:
    return read_cda(data, timezone=PARIS)


def _edited(old: str, new: str, exam: LabExam | None = None) -> bytes:
    text = build_cda(exam or LabExam()).decode()
    assert old in text, old
    return text.replace(old, new).encode()


def _reasons(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(CdaRefused) as caught:
        _read(data)
    return [(p.code, p.text) for p in caught.value.problems]


@pytest.mark.parametrize("level", [1, 3])
def test_a_report_of_either_level_is_read_whole(level: int) -> None:
    report = _read(build_cda(LabExam(level=level)))
    assert report.document_id == DocumentId(root="1.2.250.1.213.4.5.9.1.9001")
    assert (report.set_id, report.version_number, report.replaces) == ("1.2.250.1.213.4.5.9.3.9001", 1, None)
    assert report.studies == ("1.2.250.1.213.4.5.9.2.9001",)
    assert report.orders == (
        Order(
            accession_number="ACN9001",
            accession_issuer="1.2.250.1.213.4.5.9.5",
            placer_number="OPN9001",
            placer_issuer="1.2.250.1.213.4.5.9.6",
        ),
    )
    assert report.performer == Organization(
        identifier="990000017", system="1.2.250.1.71.4.2.2", name="Imagerie de la Poterne"
    )
    assert [author.identifier for author in report.authors] == ["899900000017"]
    assert report.legal_authenticator == report.authors[0]
    assert report.authors[0].profession == Coded(
        code="G15_10/SM44", system="1.2.250.1.213.1.1.4.5", display="Médecin - Radio-diagnostic (SM)"
    )
    assert report.procedure == Coded(code="24727-0", system="2.16.840.1.113883.6.1", display="CT Head W contrast IV")
    assert [c.code for c in report.procedures_local] == ["ACQH004"]
    assert report.modalities == (Coded(code="CT", system="1.2.840.10008.2.16.4"),)
    assert report.regions == (Coded(code="774007", system="2.16.840.1.113883.6.96", display="tête et cou"),)
    assert report.service_start == datetime(2026, 1, 8, 10, 25, tzinfo=_PLUS_ONE)
    assert report.service_stop == datetime(2026, 1, 8, 11, 17, tzinfo=_PLUS_ONE)
    assert (report.facility_type and report.facility_type.code) == "SA08"
    assert (report.practice_setting and report.practice_setting.code) == "AMBULATOIRE"
    assert (report.confidentiality, report.language, report.title) == ("N", "fr-FR", "CR d’imagerie médicale")


def test_the_patient_is_read_by_qualifiers_and_roots() -> None:
    patient = _read(build_cda(LabExam())).patient
    assert patient.traits == Traits(
        birth_name="FANTÔME",
        first_given_name="ODETTE",
        given_names="ODETTE MARIE",
        used_name="TEST-DUPONT",
        sex="F",
        birth_date=date(1961, 4, 12),
        birthplace="63113",
    )
    assert patient.ins == Ins(matricule="261046311304287", oid="1.2.250.1.213.1.4.10", status="")
    assert patient.local_ids == (LocalId(value="IPP9001", issuer="1.2.250.1.213.4.5.9.4"),)


def test_the_order_of_name_parts_and_ids_does_not_matter() -> None:
    data = _edited('<family qualifier="BR">FANTÔME</family>', "")
    data = data.replace(b"</name>\n<admin", '<family qualifier="BR">FANTÔME</family></name>\n<admin'.encode())
    assert _read(data).patient.traits.birth_name == "FANTÔME"


def test_names_without_any_qualifier_are_the_birth_names() -> None:
    traits = _read(_edited(' qualifier="BR"', "")).patient.traits
    assert (traits.birth_name, traits.first_given_name) == ("FANTÔME", "ODETTE")


def test_a_used_name_never_stands_for_the_birth_name() -> None:
    assert _reasons(_edited('qualifier="BR">FANT', 'qualifier="SP">FANT')) == [
        ("missing-field", "CDA recordTarget/patientRole/patient/name/family[@qualifier='BR']: expected a name")
    ]


def test_a_report_without_ins_is_readable() -> None:
    assert _read(build_cda(LabExam(patient=LabPatient(ins=None)))).patient.ins is None


def test_two_different_ins_are_refused() -> None:
    second = '<id root="1.2.250.1.213.1.4.10" extension="161046311304230"/><id root="1.2.250.1.213.4.5.9.4"'
    assert [code for code, _ in _reasons(_edited('<id root="1.2.250.1.213.4.5.9.4"', second))] == ["several-ins"]


def test_ff19_a_report_about_two_patients_is_refused() -> None:
    text = build_cda(LabExam()).decode()
    start, end = text.index("<recordTarget>"), text.index("</recordTarget>") + len("</recordTarget>")
    second = text[start:end].replace("FANTÔME", "SPECTRE")
    expected = [("several-values", "CDA recordTarget/patientRole: expected one patient")]
    assert _reasons((text[:end] + second + text[end:]).encode()) == expected
    role = second.removeprefix("<recordTarget>").removesuffix("</recordTarget>")
    assert _reasons(_edited("</patientRole></recordTarget>", f"</patientRole>{role}</recordTarget>")) == expected


_STUDY_ID = '<id root="1.2.250.1.213.4.5.9.2.9001"/>'
_OTHER_ID = '<id root="1.2.250.1.213.4.5.9.8" extension="ACT-1"/>'


def test_an_event_identifier_with_an_extension_is_not_a_study() -> None:
    report = _read(_edited(_STUDY_ID, _OTHER_ID + _STUDY_ID))
    assert report.studies == ("1.2.250.1.213.4.5.9.2.9001",)


def test_event_identifiers_that_all_have_an_extension_name_no_study() -> None:
    assert _reasons(_edited(_STUDY_ID, _OTHER_ID)) == [
        (
            "bad-study-uid",
            "CDA documentationOf/serviceEvent/id: expected a DICOM Study Instance UID in @root, without @extension",
        )
    ]


def test_an_extension_that_only_says_what_the_root_is_leaves_it_a_study() -> None:
    labelled = _STUDY_ID.replace("/>", ' extension="studyInstanceUID"/>')
    assert _read(_edited(_STUDY_ID, labelled)).studies == ("1.2.250.1.213.4.5.9.2.9001",)


def test_a_report_holds_at_most_64_studies_and_64_orders() -> None:
    def exam(count: int) -> LabExam:
        studies = tuple(f"1.2.250.1.213.4.5.9.2.{number}" for number in range(count))
        return LabExam(studies=studies, orders=tuple(LabOrder(accession_number=f"ACN{n}") for n in range(count)))

    most = _read(build_cda(exam(64)))
    assert (len(most.studies), len(most.orders)) == (64, 64)
    assert _reasons(build_cda(exam(65))) == [
        ("too-many", "CDA documentationOf/serviceEvent/id: expected at most 64 studies in one report"),
        ("too-many", "CDA inFulfillmentOf/order: expected at most 64 orders in one report"),
    ]


def test_one_bad_study_repeated_is_one_reason() -> None:
    assert [code for code, _ in _reasons(build_cda(LabExam(studies=("1.02",) * 1000)))] == ["bad-study-uid"]


def test_two_orders_and_two_studies_of_one_report_are_all_read_and_rm_is_mr() -> None:
    report = _read(build_cda(TWO_ORDERS))
    assert report.studies == ("1.2.250.1.213.4.5.9.2.11", "1.2.250.1.213.4.5.9.2.12")
    assert [(o.accession_number, o.placer_number) for o in report.orders] == [("ACN11", "OPN10"), ("ACN12", "OPN10")]
    assert [m.code for m in report.modalities] == ["MR"]


def test_several_service_events_are_joined() -> None:
    one = build_cda(LabExam()).decode()
    start, end = one.index("<documentationOf>"), one.index("</documentationOf>") + len("</documentationOf>")
    second = (
        one[start:end]
        .replace("9.2.9001", "9.2.9002")
        .replace('code="CT"', 'code="PT"')
        .replace("20260108102500", "20260108092500")
        .replace("1.2.250.1.213.2.5", "1.2.250.1.215.300.1")
    )
    report = _read((one[:end] + second + one[end:]).encode())
    assert report.studies == ("1.2.250.1.213.4.5.9.2.9001", "1.2.250.1.213.4.5.9.2.9002")
    assert [m.code for m in report.modalities] == ["CT", "PT"]
    assert [c.system for c in report.procedures_local] == ["1.2.250.1.213.2.5", "1.2.250.1.215.300.1"]
    assert [r.code for r in report.regions] == ["774007"]
    assert report.service_start == datetime(2026, 1, 8, 8, 25, tzinfo=UTC)


def test_two_authors_are_both_read_and_a_device_is_not_one() -> None:
    author = build_cda(LabExam()).decode()
    author = author[author.index("<author>") : author.index("</author>") + len("</author>")]
    second = author.replace("899900000017", "899900000025")
    device = "<author><assignedAuthor><id root='1.2.3'/><assignedAuthoringDevice/></assignedAuthor></author>"
    report = _read(_edited(author, author + second + device))
    assert [a.identifier for a in report.authors] == ["899900000017", "899900000025"]


def test_a_document_id_may_have_an_extension_or_none() -> None:
    assert str(_read(build_cda(LabExam(document_extension="77"))).document_id) == "1.2.250.1.213.4.5.9.1.9001^77"
    assert str(_read(build_cda(LabExam())).document_id) == "1.2.250.1.213.4.5.9.1.9001"


def test_a_replacement_names_the_document_it_replaces() -> None:
    report = _read(build_cda(LabExam(replaces="1.2.250.1.213.4.5.9.1.9000", version_number=2)))
    assert (report.replaces, report.version_number) == (DocumentId(root="1.2.250.1.213.4.5.9.1.9000"), 2)


def test_a_related_document_of_another_type_replaces_nothing() -> None:
    exam = LabExam(replaces="1.2.250.1.213.4.5.9.1.9000")
    assert _read(_edited('typeCode="RPLC"', 'typeCode="APND"', exam)).replaces is None


def test_times_without_an_offset_are_in_the_given_zone_winter_and_summer() -> None:
    report = _read(build_cda(LabExam(start="202601081025", stop="20260708111700")))
    assert report.service_start == datetime(2026, 1, 8, 9, 25, tzinfo=UTC)
    assert report.service_stop == datetime(2026, 7, 8, 9, 17, tzinfo=UTC)


def test_an_unknown_time_is_absent() -> None:
    report = _read(_edited('<high value="20260108111700+0100"/>', '<high nullFlavor="UNK"/>'))
    assert report.service_stop is None


@pytest.mark.parametrize("stop", ["20260108", "20260108+0100", "202601", "2026"])
def test_a_stop_known_to_the_day_is_not_the_first_moment_of_that_day(stop: str) -> None:
    report = _read(build_cda(LabExam(start="20260107102500", stop=stop)))
    assert (report.service_start, report.service_stop) == (datetime(2026, 1, 7, 9, 25, tzinfo=UTC), None)


def test_a_stop_known_to_the_day_must_still_be_a_day() -> None:
    assert [code for code, _ in _reasons(_edited('high value="20260108111700+0100"', 'high value="20261308"'))] == [
        "bad-value"
    ]


@pytest.mark.parametrize(
    ("start", "stop", "read_start"),
    [
        ("20260108111700+0100", "20260108102500+0100", datetime(2026, 1, 8, 10, 17, tzinfo=UTC)),  # reversed
        ("20261025025000", "20261025021000", datetime(2026, 10, 25, 0, 50, tzinfo=UTC)),  # over the repeated hour
        ("20260329023000", "20260329030000", datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),  # from the hour that is not
        ("20260108112500", "2026010811", datetime(2026, 1, 8, 10, 25, tzinfo=UTC)),  # known to the hour
    ],
)
def test_a_stop_before_the_start_is_not_stated(start: str, stop: str, read_start: datetime) -> None:
    report = _read(build_cda(LabExam(start=start, stop=stop)))
    assert report.service_start is not None
    assert (report.service_start.astimezone(UTC), report.service_stop) == (read_start, None)


def test_a_stop_at_the_start_is_stated() -> None:
    assert _read(build_cda(LabExam(start="202601081025", stop="202601081025"))).service_stop == datetime(
        2026, 1, 8, 9, 25, tzinfo=UTC
    )


@pytest.mark.parametrize("stated", ["", '<confidentialityCode nullFlavor="UNK"/>', "<confidentialityCode/>"])
def test_a_report_that_states_no_confidentiality_is_refused(stated: str) -> None:
    data = _edited('<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>', stated)
    assert _reasons(data) == [
        ("missing-field", "CDA confidentialityCode/@code: expected a code, N when nothing is restricted")
    ]


def test_every_reason_is_named_at_once() -> None:
    exam = replace(
        LabExam(start="2026-01-08"),
        studies=("1.2.250.01", "1.2.3"),
        orders=(LabOrder(accession_number="", placer_number=""), LabOrder()),
    )
    data = _edited('<id root="1.2.250.1.213.4.5.9.1.9001"/>', "", exam)
    assert _reasons(data) == [
        ("missing-field", "CDA id/@root: expected an identifier"),
        ("bad-study-uid", "CDA documentationOf/serviceEvent/id[1]/@root: expected a DICOM Study Instance UID"),
        ("no-accession", "CDA inFulfillmentOf/order[1]/ps3-20:accessionNumber/@extension: expected a number"),
        ("no-placer-order", "CDA inFulfillmentOf/order[1]/id/@extension: expected the placer order number"),
        (
            "bad-value",
            "CDA documentationOf/serviceEvent/effectiveTime/low/@value: expected YYYY[MM[DD[HH[MM[SS]]]]][±ZZZZ]",
        ),
    ]


def test_a_report_without_study_or_order_is_refused() -> None:
    assert [code for code, _ in _reasons(build_cda(LabExam(studies=(), orders=())))] == ["no-study-uid", "no-order"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('value="19610412"', 'value="1961"'),
        ('value="19610412"', 'value="1961+0100"'),
        ('versionNumber value="1"', 'versionNumber value="one"'),
    ],
)
def test_a_value_that_cannot_be_read_is_a_reason(old: str, new: str) -> None:
    assert [code for code, _ in _reasons(_edited(old, new))] == ["bad-value"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "xml-empty"),
        (b"%PDF-1.4", "xml-malformed"),
        (b"<ClinicalDocument/>", "not-a-cda"),
        (b'<!DOCTYPE c><ClinicalDocument xmlns="urn:hl7-org:v3"/>', "xml-doctype"),
    ],
)
def test_what_is_no_cda_is_refused(data: bytes, code: str) -> None:
    assert [found for found, _ in _reasons(data)] == [code]


def test_comments_inside_values_are_not_values() -> None:
    assert _read(_edited(">FANTÔME<", "><!-- x -->FANT<!-- y -->ÔME<")).patient.traits.birth_name == "FANTÔME"
