"""Headers of many files as one study: orders, identities, what most of them say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.manifests.collection import Collection, Terms, merged
from gateway.manifests.folder import Header, StatedPatient
from indexer.report import Coded, Order
from indexer.study import Instance, KeyNote
from security.identity import Ins, LocalId, Uid
from tests.fixtures.manifest_files import MATRICULE, SITE, TEST_AUTHORITY

CT = Uid("1.2.840.10008.5.1.4.1.1.2")
TERMS = Terms(profile="mado", site=SITE, patient_issuer="1.2.3.1")
PATIENT = StatedPatient(
    patient_id="IPP1", issuer="", name="FANTÔME^Zoé", birth_name="", birth_date="19700228", sex="F"
)


def header(number: int, **changes: object) -> Header:
    facts: dict[str, object] = {
        "path": Path(f"{number:04d}.dcm"),
        "study": Uid("1.2.9"),
        "series": Uid("1.2.9.1"),
        "modality": "CT",
        "instance": Instance(sop_class=CT, sop_instance=Uid(f"1.2.9.1.{number}"), number=number),
        "patient": PATIENT,
        "study_facts": (
            ("StudyDate", "20260112"), ("StudyTime", "0930"), ("StudyDescription", ""), ("StudyID", ""),
            ("ReferringPhysicianName", ""), ("TimezoneOffsetFromUTC", ""),
        ),
        "series_facts": (
            ("SeriesNumber", "1"), ("SeriesDescription", ""), ("BodyPartExamined", "CHEST"), ("SeriesDate", ""),
            ("SeriesTime", ""),
        ),
        "laterality": "",
        "orders": (),
        "procedures": (),
    }  # fmt: skip
    return Header(**(facts | changes))  # type: ignore[arg-type]


def collected(*headers: Header) -> Collection:
    collection = Collection()
    for one in headers:
        collection.add(one)
    return collection


def order(accession: str, issuer: str = "", placer: str = "", placer_issuer: str = "") -> Order:
    return Order(
        accession_number=accession, accession_issuer=issuer, placer_number=placer, placer_issuer=placer_issuer
    )


def test_a_number_stated_without_issuer_joins_the_same_number_with_one():
    found = merged([order("A1"), order("A1", "1.2", "P1"), order("A1", "", "", "1.3"), order("A2")], TERMS)

    assert found == (order("A1", "1.2", "P1", "1.3"), order("A2"))


def test_two_issuers_of_one_number_are_two_orders():
    found = merged([order("A1", "1.2"), order("A1", "1.3")], TERMS)

    assert found == (order("A1", "1.2"), order("A1", "1.3"))


def test_issuers_of_the_person_stand_where_the_files_are_silent_and_a_number_is_there():
    terms = replace(TERMS, accession_issuer="1.7", placer_issuer="1.8")

    assert merged([order("A1", "1.2"), order("A2"), order("", "", "P3")], terms) == (
        order("A1", "1.2"),
        order("A2", "1.7"),
        order("", "", "P3", "1.8"),
    )


def test_an_accession_number_is_the_person_s_only_where_no_file_has_one():
    terms = replace(TERMS, accession="NEW")

    assert merged([order("A1")], terms) == (order("A1"),)
    assert merged([order("", "", "P1")], terms) == (order("NEW", "", "P1"),)
    assert merged([], terms) == (order("NEW"),)


def test_an_ins_in_the_files_is_taken_and_never_qualified_by_them():
    stated = replace(PATIENT, others=(LocalId(value=MATRICULE, issuer=TEST_AUTHORITY),))

    made = collected(header(1, patient=stated)).manifest(TERMS)

    assert made.patient.ins == Ins(matricule=MATRICULE, oid=TEST_AUTHORITY, status="")
    assert made.patient.local_ids == (LocalId(value="IPP1", issuer="1.2.3.1"),)


def test_another_ins_than_the_files_state_stands_in_the_way():
    other = "2700299999002" + f"{97 - 2700299999002 % 97:02d}"
    stated = replace(PATIENT, others=(LocalId(value=MATRICULE, issuer=TEST_AUTHORITY),))
    terms = replace(TERMS, ins=Ins(matricule=other, oid=TEST_AUTHORITY, status="VALI"))

    problems = collected(header(1, patient=stated)).problems(terms)

    assert [one.code for one in problems] == ["ins-differs"]


def test_the_birth_name_is_patientbirthname_where_it_stands_and_the_other_is_the_used_one():
    stated = replace(PATIENT, name="SPECTRE^Zoé", birth_name="FANTÔME^Zoé")

    traits = collected(header(1, patient=stated)).manifest(TERMS).patient.traits

    assert (traits.birth_name, traits.first_given_name) == ("FANTÔME", "Zoé")
    assert (traits.used_name, traits.used_given_name) == ("SPECTRE", "")


@pytest.mark.parametrize(("keyword", "value"), [("birth_date", "1970"), ("birth_date", "19700231"), ("sex", "X")])
def test_a_trait_that_dicom_does_not_allow_stands_in_the_way(keyword: str, value: str):
    problems = collected(header(1, patient=replace(PATIENT, **{keyword: value}))).problems(TERMS)

    assert [one.code for one in problems] == ["patient-value"]


def test_what_most_files_say_of_the_study_is_written_and_the_rest_remarked():
    other = tuple((name, "20251231" if name == "StudyDate" else value) for name, value in header(9).study_facts)
    found = collected(header(9, study_facts=other), header(1), header(2))

    assert found.manifest(TERMS).date == "20260112"
    assert [(one.code, one.is_remark) for one in found.problems(TERMS)] == [("value-differs", True)]


@pytest.mark.parametrize(
    ("stated", "side"), [(("", ""), ""), (("L", ""), "L"), (("R", "L"), "B"), (("B", "L"), "B"), (("U", ""), "")]
)
def test_the_side_of_a_series_is_that_of_its_images(stated: tuple[str, str], side: str):
    found = collected(*(header(number, laterality=one) for number, one in enumerate(stated, start=1)))

    assert found.manifest(TERMS).series[0].laterality == side


def test_a_body_part_gives_the_region_of_the_series_and_of_the_study():
    made = collected(header(1)).manifest(TERMS)

    assert made.series[0].region is not None
    assert [region.code for region in made.regions] == ["67734004"]


def test_a_note_about_images_that_are_not_there_is_remarked():
    note = KeyNote(title=Coded(code="113000", system="1.2"), references=(Uid("1.2.9.1.1"), Uid("1.2.9.1.99")))
    told = Instance(sop_class=CT, sop_instance=Uid("1.2.9.2.1"), note=note)

    problems = collected(header(1), header(2, instance=told)).problems(TERMS)

    assert [(one.code, one.values, one.is_remark) for one in problems] == [("note-points-outside", {"n": "1"}, True)]


def test_no_message_and_no_repr_shows_a_patient():
    stated = replace(PATIENT, patient_id="IPP2", name="AUTRE^Nom")
    found = collected(header(1), header(2, patient=stated))

    told = repr(found.problems(TERMS)) + repr(stated)

    assert [value for value in ("IPP1", "IPP2", "AUTRE", "FANTÔME", "1970") if value in told] == []
