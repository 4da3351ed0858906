"""What the tolerant reader makes of documents that other makers write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO
from typing import get_args

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from indexer.kos import check, encode, read
from indexer.reading import Profile
from indexer.report import Coded, Order, Organization
from indexer.study import Address, KeyNote
from security.errors import BadInput
from security.identity import Ins, LocalId, Uid
from tests.fixtures.exams import INS_TEST, MATRICULE, OTHER_MATRICULE, PATIENT, TRAITS
from tests.fixtures.kos import DCM, EXAM, NOTE, OF_INTEREST, ROOT, SIGNED, edited, written
from tests.unit.test_kos_rules import (
    counted_as_text,
    evidence,
    group,
    items,
    library,
    raw,
    series,
    siblings,
)


def rules(data: bytes) -> set[str]:
    return {one.rule for one in read(data).deviations}


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://a.test/rs", "https://a.test/rs"),
        ("https://a.test/rs/", "https://a.test/rs"),
        ("https://a.test/rs/studies", "https://a.test/rs"),
        (f"https://a.test/rs/studies/{ROOT}", "https://a.test/rs"),
        (f"https://a.test/rs/studies/{ROOT}/", "https://a.test/rs"),
        (f"https://a.test/rs/studies/{ROOT}/series/{ROOT}.1", "https://a.test/rs"),
        (f"\n            https://a.test/rs/studies/{ROOT}/series/{ROOT}.1", "https://a.test/rs"),
        ("HTTP://A.TEST", "HTTP://A.TEST"),
    ],
)
def test_every_form_of_retrieve_url_gives_its_base(url: str, base: str) -> None:
    data = edited(written("mado"), lambda d: series(d).add_new(0x00081190, "OB", url.encode()))
    assert read(data).manifest.address == Address(base=base, location="1.2.250.1.999.4")


@pytest.mark.parametrize("level", [evidence, lambda d: d])
def test_a_retrieve_url_of_the_study_is_that_of_every_series(level: Callable[[Dataset], Dataset]) -> None:
    def edit(dataset: Dataset) -> None:
        for one in evidence(dataset).ReferencedSeriesSequence:
            del one.RetrieveURL
        level(dataset).RetrieveURL = f"https://a.test/rs/studies/{ROOT}"

    found = read(edited(written("drim-m"), edit))
    assert found.manifest.address.base == "https://a.test/rs"
    assert [one.address for one in found.manifest.series] == [None] * 4
    assert "kos-retrieve-level" in {one.rule for one in found.deviations}


def test_descriptors_before_an_instance_are_those_of_the_instance() -> None:
    data = edited(written("mado"), siblings)
    assert read(data).manifest.series[0].instances == EXAM.series[0].instances
    assert rules(data) == {"kos-sibling"}


def test_descriptors_before_an_instance_are_not_those_of_the_next() -> None:
    """Only the first instance has a number, and it stands before it."""

    def edit(dataset: Dataset) -> None:
        siblings(dataset)
        del group(dataset).ContentSequence[-1].ContentSequence

    data = edited(written("mado"), edit)
    assert [one.number for one in read(data).manifest.series[0].instances] == [1, None]


def test_a_count_written_as_text_is_still_a_count() -> None:
    assert rules(edited(written("mado"), counted_as_text)) == {"kos-count-text"}


def test_both_code_sets_are_read_alike() -> None:
    trial, final = read(written("mado", codes="99IHE")), read(written("mado", codes="DCM"))
    assert (trial.codes, final.codes) == ("99IHE", "DCM")
    assert trial.manifest == final.manifest
    assert trial.manifest.viewer_url == "https://visionneuse.exemple.test/s?u=1"


def test_the_display_uri_of_the_trial_is_found_in_whichever_block_its_creator_reserved() -> None:
    def edit(dataset: Dataset) -> None:
        node = evidence(dataset)
        del node[0x000D0010], node[0x000D1001]
        node.add_new(0x000D0010, "LO", "ANOTHER MAKER")
        node.add_new(0x000D1001, "UR", "https://autre.exemple.test")
        node.add_new(0x000D0011, "LO", "IHE_MADO_PRIVATE")
        node.add_new(0x000D1101, "UR", "https://visionneuse.exemple.test/2")

    data = edited(written("mado", codes="99IHE"), edit)
    assert read(data).manifest.viewer_url == "https://visionneuse.exemple.test/2"


def test_an_implicit_latin_1_document_with_the_title_in_capitals_is_read() -> None:
    """The form of the national samples (drim-m §4)."""
    dataset = pydicom.dcmread(BytesIO(written("drim-m")))
    str(dataset)  # every text decoded before its character set changes
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.ConceptNameCodeSequence[0].CodeMeaning = "MANIFEST"
    out = BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=False)
    found = read(out.getvalue())
    assert found.manifest.patient.traits.birth_name == "FANTÔME"
    assert found.manifest.series[0].description == "Crâne sans injection"
    assert {one.rule for one in found.deviations} == {"kos-transfer-syntax", "kos-charset", "kos-title-meaning"}


def test_a_key_image_note_told_beside_its_images_is_given_back_to_the_note() -> None:
    note = read(written("drim-m")).manifest.series[3].instances[0].note
    assert note == KeyNote(
        title=OF_INTEREST,
        description="Fracture à revoir",
        references=(Uid(f"{ROOT}.1.2"), Uid(f"{ROOT}.2.1")),
    )


def test_the_evidence_of_an_image_tells_of_the_note_as_the_national_sample_does() -> None:
    dataset = pydicom.dcmread(BytesIO(written("drim-m")))
    (nested,) = series(dataset).ReferencedSOPSequence[1].ReferencedSOPSequence
    assert {e.keyword for e in nested} == {
        "ReferencedSOPInstanceUID",
        "SeriesInstanceUID",
        "ConceptNameCodeSequence",
        "ContentSequence",
    }
    assert (nested.ReferencedSOPInstanceUID, nested.SeriesInstanceUID) == (f"{ROOT}.4.1", f"{ROOT}.4")
    assert nested.ContentSequence[0].TextValue == "Fracture à revoir"
    assert "ReferencedSOPSequence" not in series(dataset).ReferencedSOPSequence[0]


def test_a_note_that_points_at_nothing_listed_leaves_drim_m_as_it_was() -> None:
    silent = replace(NOTE, note=None)
    stray = replace(NOTE, note=KeyNote(title=OF_INTEREST, references=(Uid("1.2.3"),)))
    with_silent, with_stray = (
        replace(EXAM, series=(*EXAM.series[:3], replace(EXAM.series[3], instances=(one,)))) for one in (silent, stray)
    )
    assert written("drim-m", manifest=with_silent) == written("drim-m", manifest=with_stray)


def test_an_instance_listed_twice_is_kept_once() -> None:
    def edit(dataset: Dataset) -> None:
        listed = series(dataset).ReferencedSOPSequence
        series(dataset).ReferencedSOPSequence = Sequence([listed[0], listed[0], listed[1], listed[1]])

    found = read(edited(written("xds-i"), edit))
    assert [one.sop_instance for one in found.manifest.series[0].instances] == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    (deviation,) = found.deviations
    assert (deviation.rule, deviation.detail) == ("kos-duplicate-instance", "(2 times)")


def test_a_series_listed_in_two_items_is_one_series() -> None:
    def edit(dataset: Dataset) -> None:
        series(dataset, 1).SeriesInstanceUID = series(dataset, 0).SeriesInstanceUID

    found = read(edited(written("xds-i"), edit))
    assert [len(one.instances) for one in found.manifest.series] == [3, 3, 1]


@pytest.mark.parametrize("url", ["https://a.test" + "/" * 200_000 + "x", "https://a.test" + "/studies/1" * 50_000])
def test_t13_a_hostile_address_is_read_in_no_time(url: str) -> None:
    data = edited(written("mado"), lambda d: series(d).add_new(0x00081190, "UR", url))
    began = time.process_time()
    read(data)
    assert time.process_time() - began < 1


def test_without_requests_the_accession_number_of_the_study_is_the_order() -> None:
    data = edited(written("xds-i"), lambda d: delattr(d, "ReferencedRequestSequence"))
    assert read(data).manifest.orders == (
        Order(accession_number="ACC1", accession_issuer="1.2.250.1.999.2", placer_number="", placer_issuer=""),
    )


def test_several_accession_numbers_leave_that_of_the_study_empty() -> None:
    (order,) = EXAM.orders
    several = replace(EXAM, orders=(order, replace(order, accession_number="ACC2")))
    for profile in ("xds-i", "mado"):
        dataset = pydicom.dcmread(BytesIO(written(profile, manifest=several)))
        assert dataset.AccessionNumber == ""
        assert "IssuerOfAccessionNumberSequence" not in dataset
        assert [one.AccessionNumber for one in dataset.ReferencedRequestSequence] == ["ACC1", "ACC2"]
    one = replace(EXAM, orders=(order, replace(order, placer_number="PLA2")))
    dataset = pydicom.dcmread(BytesIO(written("mado", manifest=one)))
    assert dataset.AccessionNumber == "ACC1"
    assert dataset.IssuerOfAccessionNumberSequence[0].UniversalEntityID == "1.2.250.1.999.2"


def test_the_same_number_of_two_issuers_is_two_accession_numbers() -> None:
    (order,) = EXAM.orders
    several = replace(EXAM, orders=(order, replace(order, accession_issuer="1.2.250.1.999.99")))
    assert pydicom.dcmread(BytesIO(written("mado", manifest=several))).AccessionNumber == ""
    assert check(written("mado", manifest=several)) == ()


# -- who the patient is ------------------------------------------------------------------------------------------


def test_the_first_local_identifier_names_a_patient_without_ins() -> None:
    locals_ = (LocalId(value="IPP-1", issuer="1.2.250.1.999.1"), LocalId(value="IPP-2", issuer="1.2.250.1.999.7"))
    data = written("mado", manifest=replace(EXAM, patient=replace(PATIENT, ins=None, local_ids=locals_)))
    dataset = pydicom.dcmread(BytesIO(data))
    assert (dataset.PatientID, dataset.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID) == (
        "IPP-1",
        "1.2.250.1.999.1",
    )
    assert [one.PatientID for one in dataset.OtherPatientIDsSequence] == ["IPP-1", "IPP-2"]
    found = read(data).manifest.patient
    assert (found.ins, found.local_ids) == (None, locals_)


def test_another_ins_beside_the_first_is_kept_and_told() -> None:
    def edit(dataset: Dataset) -> None:
        other = dataset.OtherPatientIDsSequence[1]
        other.PatientID = OTHER_MATRICULE
        other.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID = INS_TEST

    found = read(edited(written("drim-m"), edit))
    assert found.manifest.patient.ins == Ins(matricule=MATRICULE, oid=INS_TEST, status="")
    assert found.manifest.patient.local_ids == (LocalId(value=OTHER_MATRICULE, issuer=INS_TEST),)
    (deviation,) = found.deviations
    assert deviation.rule == "kos-other-ins"
    assert MATRICULE not in repr(deviation)
    assert OTHER_MATRICULE not in repr(deviation)


@pytest.mark.parametrize(
    ("stated", "used_name", "used_given_name"),
    [
        ("^DOMINIQUE", "", "DOMINIQUE"),
        ("PAT-TROIS^DOMINIQUE", "PAT-TROIS", "DOMINIQUE"),
        ("^DOMINIQUE\\PAT-TROIS^DOMINIQUE", "PAT-TROIS", "DOMINIQUE"),
        ("PAT-TROIS^", "PAT-TROIS", ""),
    ],
)
def test_every_form_of_the_used_name_is_read(stated: str, used_name: str, used_given_name: str) -> None:
    traits = read(edited(written("drim-m"), raw(0x00101001, stated.encode()))).manifest.patient.traits
    assert (traits.used_name, traits.used_given_name) == (used_name, used_given_name)


def test_comments_and_other_names_of_foreign_documents_are_no_french_traits() -> None:
    def edit(dataset: Dataset) -> None:
        dataset.PatientComments, dataset.OtherPatientNames = "75112", "AUTRE^NOM"

    traits = read(edited(written("mado"), edit)).manifest.patient.traits
    assert (traits.birthplace, traits.used_name, traits.used_given_name) == ("", "", "")


@pytest.mark.parametrize(("written_as", "expected"), [("M", "M"), ("F", "F"), ("O", "U"), ("", "")])
def test_the_sex_comes_back_from_its_term(written_as: str, expected: str) -> None:
    data = edited(written("xds-i"), lambda d: setattr(d, "PatientSex", written_as))
    assert read(data).manifest.patient.traits.sex == expected


def test_a_date_of_birth_that_is_none_is_not_guessed() -> None:
    for value, expected in ((b"19850607", date(1985, 6, 7)), (b"1985.06.07", date(1985, 6, 7)), (b"19851399", None)):
        data = edited(written("xds-i"), raw(0x00100030, value))
        assert read(data).manifest.patient.traits.birth_date == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (
            "Centre Ambroise^^^^^^^^^101235555",
            Organization(identifier="101235555", system="", name="Centre Ambroise"),
        ),
        (
            "H^^^^^&1.2.250.1.71.4.2.2&ISO^^^^750000001",
            Organization(identifier="750000001", system="1.2.250.1.71.4.2.2", name="H"),
        ),
        ("IHE Demo", Organization(identifier="", system="", name="IHE Demo")),
    ],
)
def test_the_institution_is_read_with_its_identifier(stated: str, expected: Organization) -> None:
    data = edited(written("mado"), lambda d: setattr(d, "InstitutionName", stated))
    assert read(data).manifest.institution == expected


# -- when it was made --------------------------------------------------------------------------------------------


def test_the_moment_of_making_is_in_the_zone_of_the_document() -> None:
    found = read(written("mado")).imprint
    assert found.created_at == SIGNED.created_at
    assert found.zone == timezone(timedelta(hours=1))


def test_a_document_without_offset_is_read_as_utc() -> None:
    found = read(edited(written("xds-i"), lambda d: delattr(d, "TimezoneOffsetFromUTC"))).imprint
    assert found.created_at == datetime(2026, 1, 15, 10, 5, 7, tzinfo=UTC)


# -- codes -------------------------------------------------------------------------------------------------------


def test_a_code_system_without_a_name_in_dicom_comes_back_as_its_oid() -> None:
    dataset = pydicom.dcmread(BytesIO(written("mado")))
    (named,) = dataset.CodingSchemeIdentificationSequence
    assert named.CodingSchemeUID == "1.2.250.1.213.2.5"
    assert named.CodingSchemeDesignator.startswith("99")
    assert read(written("mado")).manifest.procedures == EXAM.procedures


def test_a_code_too_long_for_its_value_goes_to_the_long_one() -> None:
    long = Coded(code="1" * 18, system="2.16.840.1.113883.6.96", display="Région")
    data = written("mado", manifest=replace(EXAM, regions=(long,)))
    (item,) = items(library(pydicom.dcmread(BytesIO(data))), "123014")
    assert item.ConceptCodeSequence[0].LongCodeValue == "1" * 18
    assert "CodeValue" not in item.ConceptCodeSequence[0]
    assert read(data).manifest.regions == (long,)


def test_a_body_part_without_a_code_is_a_text() -> None:
    bare = replace(EXAM.series[0], region=None, body_part="SELLA")
    data = written("mado", manifest=replace(EXAM, series=(bare,)))
    (item,) = items(group(pydicom.dcmread(BytesIO(data))), "123014")
    assert (item.ValueType, item.TextValue) == ("TEXT", "SELLA")
    assert read(data).manifest.series[0].body_part == "SELLA"


@pytest.mark.parametrize("line", [f"Série-{ROOT}.1 : MR @  : Crâne", f"Serie-{ROOT}.1 : MR : Crâne"])
def test_both_layouts_of_the_text_tell_modality_and_description(line: str) -> None:
    def edit(dataset: Dataset) -> None:
        dataset.ContentSequence[-1].TextValue = f"Examen : x\r\n{line}\r\n"

    first = read(edited(written("drim-m"), edit)).manifest.series[0]
    assert (first.modality, first.description) == ("MR", "Crâne")


def test_a_line_of_the_text_cannot_be_forged_by_a_description() -> None:
    forged = f"x\u2028Série-{ROOT}.1 : MR @  : faux"
    first, second, *rest = EXAM.series
    data = written("drim-m", manifest=replace(EXAM, series=(first, replace(second, description=forged), *rest)))
    assert [one.modality for one in read(data).manifest.series] == ["CT", "CT", "ECG", "KO"]


# -- the tree of MADO --------------------------------------------------------------------------------------------


def test_every_container_of_the_library_states_its_continuity_and_every_count_is_a_number() -> None:
    dataset = pydicom.dcmread(BytesIO(written("mado")))
    assert library(dataset).ContinuityOfContent == "SEPARATE"
    groups = items(library(dataset), "126200")
    assert [one.ContinuityOfContent for one in groups] == ["SEPARATE"] * 4
    counts = [items(one, "131564")[0] for one in groups]
    assert [one.MeasuredValueSequence[0].NumericValue for one in counts] == [2, 1, 3, 1]
    units = counts[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning) == ("{instances}", "UCUM", "instances")
    assert [
        (one.ConceptNameCodeSequence[0].CodeValue, one.ValueType, one.RelationshipType)
        for one in group(dataset).ContentSequence
        if "ConceptNameCodeSequence" in one
    ] == [
        ("121139", "CODE", "HAS ACQ CONTEXT"),
        ("112002", "UIDREF", "HAS ACQ CONTEXT"),
        ("113607", "TEXT", "HAS ACQ CONTEXT"),
        ("131561", "DATE", "HAS ACQ CONTEXT"),
        ("131562", "TIME", "HAS ACQ CONTEXT"),
        ("131563", "TEXT", "HAS ACQ CONTEXT"),
        ("123014", "CODE", "HAS ACQ CONTEXT"),
        ("111027", "CODE", "HAS ACQ CONTEXT"),
        ("131564", "NUM", "HAS ACQ CONTEXT"),
    ]


def test_a_multi_frame_instance_and_a_note_say_so_as_their_own_children() -> None:
    dataset = pydicom.dcmread(BytesIO(written("mado", codes="99IHE")))
    frames = group(dataset, 1).ContentSequence[-1].ContentSequence[-1]
    assert frames.ConceptNameCodeSequence[0].CodeValue == "121140"
    assert frames.MeasuredValueSequence[0].NumericValue == 240
    note = group(dataset, 3).ContentSequence[-1]
    assert note.ValueType == "COMPOSITE"
    assert note.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == NOTE.sop_instance
    title, text = note.ContentSequence[-2:]
    assert title.ConceptCodeSequence[0].CodeValue == "113000"
    assert text.TextValue == "Fracture à revoir"
    assert [one.ValueType for one in dataset.ContentSequence if "ReferencedSOPSequence" in one] == [
        "IMAGE",  # CT
        "IMAGE",
        "IMAGE",  # Enhanced CT
        "WAVEFORM",  # ECG
        "IMAGE",  # Ultrasound, retired
        "COMPOSITE",  # a maker's own
        "COMPOSITE",  # the note
    ]


@pytest.mark.parametrize(("codes", "code", "scheme"), [("DCM", "131560", "DCM"), ("99IHE", "MADOTEMP001", "99IHE")])
def test_the_title_of_mado_is_of_the_code_set(codes: str, code: str, scheme: str) -> None:
    data = encode(EXAM, SIGNED, profile="mado", codes="DCM" if codes == "DCM" else "99IHE")
    (title,) = pydicom.dcmread(BytesIO(data)).ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning) == (
        code,
        scheme,
        "Manifest with Description",
    )


def test_xds_i_states_how_each_series_is_fetched() -> None:
    own = Address(base="https://db2.exemple.test/rs", location="1.2.250.1.999.8", ae_title="AUTRE")
    manifest = replace(EXAM, series=(EXAM.series[0], replace(EXAM.series[1], address=own)))
    dataset = pydicom.dcmread(BytesIO(written("xds-i", manifest=manifest)))
    assert [
        (one.RetrieveAETitle, one.RetrieveLocationUID, one.RetrieveURL)
        for one in evidence(dataset).ReferencedSeriesSequence
    ] == [
        ("POTERNE", "1.2.250.1.999.4", "https://db1.exemple.test/rs"),
        ("AUTRE", "1.2.250.1.999.8", "https://db2.exemple.test/rs"),
    ]
    assert read(written("xds-i", manifest=manifest)).manifest.series[1].address == own


@pytest.mark.parametrize("profile", get_args(Profile))
@given(
    edits=st.lists(
        st.tuples(st.integers(132, 10**6), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=6
    )
)
def test_t13_whatever_bytes_arrive_they_are_read_or_refused(
    profile: Profile, edits: list[tuple[int, bytes, int]]
) -> None:
    data = bytearray(written(profile))
    for place, put_in, taken in edits:
        at = 132 + place % (len(data) - 132)
        data[at : at + taken] = put_in
    for look in (read, check):
        try:
            look(bytes(data))
        except BadInput as fault:
            assert fault.code.startswith(("kos-", "dicom-"))  # noqa: PT017 -- both outcomes are allowed


def test_what_is_no_dicom_at_all_is_refused_as_such() -> None:
    with pytest.raises(BadInput) as caught:
        read(b"%PDF-1.7")
    assert caught.value.code == "dicom-not-part10"


def test_a_document_of_a_maker_is_never_quoted_in_a_message() -> None:
    def edit(dataset: Dataset) -> None:
        dataset.ConceptNameCodeSequence[0].CodeValue = "FANTOME LEA"

    with pytest.raises(BadInput) as caught:
        read(edited(written("xds-i"), edit))
    assert caught.value.code == "kos-title"
    assert "FANTOME" not in str(caught.value)


def test_traits_are_those_that_were_written() -> None:
    traits = read(written("drim-m")).manifest.patient.traits
    assert traits == replace(TRAITS, given_names="")
    assert read(written("mado")).manifest.regions[0].system != DCM
