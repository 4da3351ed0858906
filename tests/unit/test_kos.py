"""The drim-m KOS, attribute by attribute, read back with pydicom; every rule fires by its own name."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from indexer import kos
from indexer.kos import encode, value_type
from indexer.manifest import StudyManifest, imprint
from indexer.report import Organization
from indexer.study import Address, Instance, Series
from security.errors import BadInput
from security.identity import LocalId, Uid
from tests.fixtures.exams import CT, ECG, EDITION, INS_TEST, MANIFEST, MATRICULE, ORDER, PATIENT, SERIES, TRAITS

PARIS = ZoneInfo("Europe/Paris")


def written(
    manifest: StudyManifest = MANIFEST, created_at: datetime = EDITION.created_at, zone: str = "Europe/Paris"
) -> bytes:
    edition = replace(EDITION, created_at=created_at)
    return encode(manifest, imprint(edition, zone=ZoneInfo(zone), manufacturer="Poterne"))


def read(manifest: StudyManifest = MANIFEST) -> Dataset:
    return pydicom.dcmread(BytesIO(written(manifest)))


def with_patient(**changes: object) -> StudyManifest:
    return replace(MANIFEST, patient=replace(PATIENT, **changes))


def with_traits(**changes: object) -> StudyManifest:
    return with_patient(traits=replace(TRAITS, **changes))


TOP_LEVEL = {
    "00080005 CS": "ISO_IR 192",
    "00080012 DA": "20260115",
    "00080013 TM": "100507",
    "00080016 UI": "1.2.840.10008.5.1.4.1.1.88.59",
    "00080018 UI": "2.25.111",
    "00080020 DA": "20260115",
    "00080021 DA": "20260115",
    "00080023 DA": "20260115",
    "00080030 TM": "080000",
    "00080031 TM": "100507",
    "00080033 TM": "100507",
    "00080050 SH": "",
    "00080060 CS": "KO",
    "00080070 LO": "Poterne",
    "00080080 LO": "Hôpital des Ombres^^^^^^^^^750000001",
    "00080090 PN": "MIRAGE^PAUL",
    "00080201 SH": "+0100",
    "00081030 LO": "Scanner de la tête",
    "00100010 PN": "FANTÔME^LÉA",
    "00100020 LO": MATRICULE,
    "00100021 LO": "ASIP-SANTE-INS-NIR",
    "00100030 DA": "19850607",
    "00100040 CS": "F",
    "00101001 PN": "TEST-DUPONT^LÉA",
    "00104000 LT": "75112",
    "0020000D UI": "1.2.250.1.999.10.1",
    "0020000E UI": "2.25.222",
    "00200010 SH": "S1",
    "00200011 IS": "59",
    "00200013 IS": "1",
    "0040A040 CS": "CONTAINER",
    "0040A050 CS": "SEPARATE",
}
SEQUENCES = {
    "00081111": 0,
    "00100024": 1,
    "00101002": 2,
    "0040A043": 1,
    "0040A370": 1,
    "0040A375": 1,
    "0040A504": 1,
    "0040A730": 4,
}


def test_every_attribute_of_the_profile_has_its_value() -> None:
    elements = list(read())
    assert {f"{e.tag:08X} {e.VR}": str(e.value) for e in elements if e.VR != "SQ"} == TOP_LEVEL
    assert {f"{e.tag:08X}": len(e.value) for e in elements if e.VR == "SQ"} == SEQUENCES


def flat(item: Dataset) -> dict[str, object]:
    """An item by keyword, sequences as lists of items."""
    return {e.keyword: [flat(one) for one in e.value] if e.VR == "SQ" else str(e.value) for e in item}


ISSUER_OF_INS = [{"UniversalEntityID": INS_TEST, "UniversalEntityIDType": "ISO"}]


def test_the_patient_is_the_ins_and_the_local_identifiers_stand_beside_it() -> None:
    dataset = read()
    assert [flat(item) for item in dataset.IssuerOfPatientIDQualifiersSequence] == ISSUER_OF_INS
    assert [flat(item) for item in dataset.OtherPatientIDsSequence] == [
        {
            "PatientID": MATRICULE,
            "IssuerOfPatientID": "ASIP-SANTE-INS-NIR",
            "TypeOfPatientID": "TEXT",
            "IssuerOfPatientIDQualifiersSequence": ISSUER_OF_INS,
        },
        {
            "PatientID": "IPP-1",
            "TypeOfPatientID": "TEXT",
            "IssuerOfPatientIDQualifiersSequence": [
                {"UniversalEntityID": "1.2.250.1.999.1", "UniversalEntityIDType": "ISO"}
            ],
        },
    ]


def test_a_local_identifier_without_issuer_has_none() -> None:
    dataset = read(with_patient(local_ids=(LocalId(value="7", issuer=""),)))
    assert flat(dataset.OtherPatientIDsSequence[1]) == {"PatientID": "7", "TypeOfPatientID": "TEXT"}


def test_each_order_is_one_item_with_its_own_accession_number() -> None:
    second = replace(ORDER, accession_number="ACC2", accession_issuer="", placer_issuer="")
    dataset = read(replace(MANIFEST, orders=(ORDER, second)))
    first = {
        "AccessionNumber": "ACC1",
        "IssuerOfAccessionNumberSequence": [{"UniversalEntityID": "1.2.250.1.999.2", "UniversalEntityIDType": "ISO"}],
        "ReferencedStudySequence": [],
        "StudyInstanceUID": "1.2.250.1.999.10.1",
        "RequestedProcedureDescription": "",
        "RequestedProcedureCodeSequence": [],
        "OrderPlacerIdentifierSequence": [{"UniversalEntityID": "1.2.250.1.999.3", "UniversalEntityIDType": "ISO"}],
        "RequestedProcedureID": "",
        "PlacerOrderNumberImagingServiceRequest": "PLA1",
        "FillerOrderNumberImagingServiceRequest": "",
    }
    left_out = {"IssuerOfAccessionNumberSequence", "OrderPlacerIdentifierSequence"}
    other = {key: value for key, value in first.items() if key not in left_out} | {"AccessionNumber": "ACC2"}
    assert [flat(item) for item in dataset.ReferencedRequestSequence] == [first, other]
    assert dataset.AccessionNumber == ""


def test_the_evidence_lists_every_instance_with_the_address_of_its_series() -> None:
    assert [flat(item) for item in read().CurrentRequestedProcedureEvidenceSequence] == [
        {
            "ReferencedSeriesSequence": [
                {
                    "RetrieveURL": "https://db1.exemple.test/rs/studies/1.2.250.1.999.10.1/series/1.2.250.1.999.10.1.1",
                    "ReferencedSOPSequence": [
                        {
                            "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                            "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.1.1",
                            "InstanceNumber": "1",
                        },
                        {
                            "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                            "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.1.2",
                            "InstanceNumber": "2",
                        },
                    ],
                    "SeriesInstanceUID": "1.2.250.1.999.10.1.1",
                    "SeriesNumber": "2",
                    "RetrieveLocationUID": "1.2.250.1.999.4",
                },
                {
                    "RetrieveURL": "https://db1.exemple.test/rs/studies/1.2.250.1.999.10.1/series/1.2.250.1.999.10.1.2",
                    "ReferencedSOPSequence": [
                        {
                            "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33",
                            "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.2.1",
                        }
                    ],
                    "SeriesInstanceUID": "1.2.250.1.999.10.1.2",
                    "RetrieveLocationUID": "1.2.250.1.999.4",
                },
            ],
            "StudyInstanceUID": "1.2.250.1.999.10.1",
        }
    ]


def test_without_an_image_source_no_retrieve_location_is_written() -> None:
    dataset = read(replace(MANIFEST, address=Address(base="https://db1.exemple.test/rs/")))
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert "RetrieveLocationUID" not in series
    assert series.RetrieveURL == "https://db1.exemple.test/rs/studies/1.2.250.1.999.10.1/series/1.2.250.1.999.10.1.1"


def test_the_tree_refers_to_every_instance_and_ends_with_the_description() -> None:
    dataset = read()
    *references, description = [flat(item) for item in dataset.ContentSequence]
    assert [(item["RelationshipType"], item["ValueType"]) for item in references] == [
        ("CONTAINS", "IMAGE"),
        ("CONTAINS", "IMAGE"),
        ("CONTAINS", "COMPOSITE"),
    ]
    assert [item["ReferencedSOPSequence"] for item in references] == [
        [
            {
                "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.1.1",
            }
        ],
        [
            {
                "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.1.2",
            }
        ],
        [
            {
                "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33",
                "ReferencedSOPInstanceUID": "1.2.250.1.999.10.1.2.1",
            }
        ],
    ]
    assert description == {
        "RelationshipType": "CONTAINS",
        "ValueType": "TEXT",
        "ConceptNameCodeSequence": [
            {"CodeValue": "113012", "CodingSchemeDesignator": "DCM", "CodeMeaning": "Key Object Description"}
        ],
        "TextValue": "Examen : Scanner de la tête\r\n"
        "Acte = Scanner de la tête\r\n"
        "Série-1.2.250.1.999.10.1.1 : CT @  : Crâne sans injection\r\n"
        "Série-1.2.250.1.999.10.1.2 : SR @  :",  # pydicom drops the blank before the end
    }


def test_the_title_is_manifest_of_template_2010() -> None:
    dataset = read()
    assert flat(dataset.ConceptNameCodeSequence[0]) == {
        "CodeValue": "113030",
        "CodingSchemeDesignator": "DCM",
        "CodeMeaning": "Manifest",
    }
    assert flat(dataset.ContentTemplateSequence[0]) == {"MappingResource": "DCMR", "TemplateIdentifier": "2010"}


def test_the_file_has_a_blank_preamble_and_its_own_identity() -> None:
    data = written()
    meta = pydicom.dcmread(BytesIO(data)).file_meta
    assert data[:132] == bytes(128) + b"DICM"
    assert {e.keyword: e.value for e in meta if e.keyword != "FileMetaInformationGroupLength"} == {
        "FileMetaInformationVersion": b"\x00\x01",
        "MediaStorageSOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59",
        "MediaStorageSOPInstanceUID": "2.25.111",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "ImplementationClassUID": "2.25.209798084462358246962033229286572570553",
        "ImplementationVersionName": "POTERNE",
    }
    assert meta.FileMetaInformationGroupLength == 164


def test_the_same_manifest_gives_the_same_bytes() -> None:
    assert written() == written()


def test_the_bytes_are_those_of_the_first_version() -> None:
    """An exam that is indexed keeps its document: the digest was taken before the other profiles came."""
    digest = "68b8a3196d87014ac9a476c34942da251863201c015cfd92152b35fa79278174"
    assert hashlib.sha256(written()).hexdigest() == digest


def test_pydicom_would_write_the_same_data_set() -> None:
    """The plain way stays the reference of the direct one (design §7)."""
    data, again = written(), BytesIO()
    pydicom.dcmread(BytesIO(data)).save_as(again, enforce_file_format=True)
    assert again.getvalue() == data


@pytest.mark.parametrize(
    ("moment", "zone", "day", "hour", "offset"),
    [
        ("2026-03-29T00:59:59", "Europe/Paris", "20260329", "015959", "+0100"),
        ("2026-03-29T01:00:00", "Europe/Paris", "20260329", "030000", "+0200"),
        ("2026-10-25T00:59:59", "Europe/Paris", "20261025", "025959", "+0200"),
        ("2026-10-25T01:00:00", "Europe/Paris", "20261025", "020000", "+0100"),
        ("2026-12-31T23:30:00", "Europe/Paris", "20270101", "003000", "+0100"),
        ("2026-07-01T22:00:00", "Indian/Reunion", "20260702", "020000", "+0400"),
        ("2026-07-01T01:00:00", "America/Miquelon", "20260630", "230000", "-0200"),
    ],
)
def test_ff17_the_offset_is_that_of_the_zone_at_the_moment(
    moment: str, zone: str, day: str, hour: str, offset: str
) -> None:
    made_at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    dataset = pydicom.dcmread(BytesIO(written(replace(MANIFEST, date="", time=""), created_at=made_at, zone=zone)))
    assert (dataset.ContentDate, dataset.ContentTime, dataset.TimezoneOffsetFromUTC) == (day, hour, offset)


def test_a_winter_exam_published_in_summer_keeps_its_hour_and_so_does_the_making() -> None:
    """TimezoneOffsetFromUTC covers StudyTime too (PS3.3 C.12.1.1.8): both are true under one offset."""
    dataset = pydicom.dcmread(BytesIO(written(created_at=datetime(2026, 7, 1, 22, 0, tzinfo=UTC))))
    assert (dataset.StudyDate, dataset.StudyTime) == ("20260115", "080000")
    assert (dataset.ContentDate, dataset.ContentTime, dataset.TimezoneOffsetFromUTC) == (
        "20260701",
        "230000",
        "+0100",
    )


@pytest.mark.parametrize(
    ("used_name", "used_given_name", "expected"),
    [
        ("TEST-DUPONT", "LÉA", "TEST-DUPONT^LÉA"),
        ("TEST-DUPONT", "", "TEST-DUPONT^"),
        ("", "LÉA", "^LÉA"),
        ("", "", None),
    ],
)
def test_the_used_name_takes_the_four_forms(used_name: str, used_given_name: str, expected: str | None) -> None:
    dataset = read(with_traits(used_name=used_name, used_given_name=used_given_name))
    stated = dataset.get("OtherPatientNames")
    assert (str(stated) if stated is not None else None) == expected


@pytest.mark.parametrize(("sex", "written_as"), [("M", "M"), ("F", "F"), ("U", "O")])
def test_the_sex_is_a_term_of_dicom(sex: str, written_as: str) -> None:
    assert read(with_traits(sex=sex)).PatientSex == written_as


def test_without_a_birthplace_there_is_no_comment() -> None:
    assert "PatientComments" not in read(with_traits(birthplace=""))


@pytest.mark.parametrize(("day", "moment"), [("2026.01.15", "08:00"), ("", ""), ("20260115-", "8")])
def test_a_study_date_that_is_none_is_left_empty(day: str, moment: str) -> None:
    dataset = read(replace(MANIFEST, date=day, time=moment))
    assert (dataset.StudyDate, dataset.StudyTime) == ("", "")


def test_text_for_people_is_cut_and_cleaned() -> None:
    dataset = read(
        replace(
            MANIFEST,
            description="é\\\n" * 40,
            study_id="S" * 20,
            referring_physician="X" * 65,
            institution=Organization(identifier="750000001", system="", name="Hôpital ^ " + "d" * 80),
        )
    )
    assert dataset.StudyDescription == "é  " * 21 + "é"
    assert dataset.StudyID == "S" * 16
    assert dataset.ReferringPhysicianName == ""
    assert dataset.InstitutionName == "Hôpital   " + "d" * 36 + "^^^^^^^^^750000001"
    assert len(dataset.InstitutionName) == 64


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        ("kos-no-ins", with_patient(ins=None)),
        ("kos-no-ins", with_patient(ins=replace(PATIENT.ins, status="PROV"))),  # type: ignore[type-var]  # it has one
        ("kos-authority", with_patient(ins=replace(PATIENT.ins, oid="1.2.3"))),  # type: ignore[type-var]  # it has one
        ("kos-no-trait", with_traits(birth_name="")),
        ("kos-no-trait", with_traits(first_given_name="")),
        ("kos-no-trait", with_traits(sex="")),
        ("kos-no-trait", with_traits(birth_date=None)),
        ("kos-no-accession", replace(MANIFEST, orders=())),
        ("kos-no-accession", replace(MANIFEST, orders=(replace(ORDER, accession_number=""),))),
        ("kos-no-instance", replace(MANIFEST, series=())),
        ("kos-no-instance", replace(MANIFEST, series=(replace(SERIES[0], instances=()),))),
        ("kos-duplicate-instance", replace(MANIFEST, series=(SERIES[0], SERIES[0]))),
        ("kos-duplicate-instance", replace(MANIFEST, series=(SERIES[0], replace(SERIES[0], uid=Uid("1.2"))))),
        ("kos-retrieve-base", replace(MANIFEST, address=Address(base=""))),
        ("kos-retrieve-base", replace(MANIFEST, address=Address(base="ftp://db1.exemple.test"))),
        ("kos-retrieve-base", replace(MANIFEST, address=Address(base="https://db1.exemple.test/rs/studies"))),
        ("kos-text", with_traits(birth_name="F" * 65)),
        ("kos-text", with_traits(birth_name="FANTÔME^LÉA")),
        ("kos-text", with_traits(first_given_name="LÉA\x07")),
        ("kos-text", with_traits(used_name="TEST\\DUPONT")),
        ("kos-text", with_patient(local_ids=(LocalId(value="1\\2", issuer=""),))),
        ("kos-text", replace(MANIFEST, orders=(replace(ORDER, accession_number="A" * 17),))),
        ("kos-text", replace(MANIFEST, institution=Organization(identifier="7" * 60, system="", name="H"))),
        ("bad-uid", replace(MANIFEST, orders=(replace(ORDER, accession_issuer="HOPITAL"),))),
    ],
)
def test_ff18_each_broken_rule_refuses_the_manifest_by_its_name(code: str, broken: StudyManifest) -> None:
    with pytest.raises(BadInput) as caught:
        written(broken)
    assert caught.value.code == code
    assert not any(value in str(caught.value) for value in ("FANTÔME", "LÉA", MATRICULE, "DUPONT", "HOPITAL"))


@pytest.mark.parametrize(
    ("sop_class", "expected"),
    [
        (CT, "IMAGE"),
        ("1.2.840.10008.5.1.4.1.1.6", "IMAGE"),  # Ultrasound Image, retired
        ("1.2.840.10008.5.1.4.1.1.6.2", "IMAGE"),  # Enhanced US Volume
        (ECG, "WAVEFORM"),
        ("1.2.840.10008.5.1.4.1.1.9.1", "WAVEFORM"),  # Waveform, trial, retired
        ("1.2.840.10008.5.1.4.1.1.88.77", "COMPOSITE"),  # Waveform Annotation SR
        ("1.2.840.10008.5.1.4.1.1.88.59", "COMPOSITE"),  # Key Object Selection
        ("1.2.840.10008.5.1.4.1.1.11.1", "COMPOSITE"),  # Grayscale Softcopy Presentation State
        ("1.2.840.10008.5.1.4.1.1.66.4", "COMPOSITE"),  # Segmentation
        ("1.2.840.10008.5.1.4.1.1.104.1", "COMPOSITE"),  # Encapsulated PDF
        ("1.3.12.2.1107.5.9.1", "COMPOSITE"),  # a maker's own
    ],
)
def test_the_value_type_follows_the_class(sop_class: str, expected: str) -> None:
    assert value_type(sop_class) == expected


@given(
    description=st.text(max_size=100),
    series_description=st.text(max_size=100),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1) | st.none(), min_size=1, max_size=5),
)
def test_whatever_the_pacs_says_the_bytes_read_back(
    description: str, series_description: str, numbers: list[int | None]
) -> None:
    instances = tuple(
        Instance(sop_class=CT, sop_instance=Uid(f"1.2.{place}"), number=number)
        for place, number in enumerate(numbers)
    )
    series = (Series(uid=Uid("1.2"), modality="CT", instances=instances, description=series_description),)
    dataset = read(replace(MANIFEST, description=description, series=series))
    listed = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.get("InstanceNumber") for item in listed] == numbers
    assert len(dataset.StudyDescription) <= 64


def test_thirteen_hundred_instances_take_far_less_than_300_ms() -> None:
    instances = tuple(
        Instance(sop_class=CT, sop_instance=Uid(f"1.2.250.1.999.10.1.1.{n}"), number=n) for n in range(1, 1301)
    )
    large = replace(MANIFEST, series=(replace(SERIES[0], instances=instances),))
    began = time.process_time()
    data = written(large)
    assert time.process_time() - began < 0.3
    assert len(pydicom.dcmread(BytesIO(data)).ContentSequence) == 1301


def test_the_sop_class_is_that_of_the_format_code() -> None:
    assert kos.SOP_CLASS == "1.2.840.10008.5.1.4.1.1.88.59"
