"""A foreign Bundle as a manifest: what deviates is understood, what is no manifest of one patient is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta, timezone
from typing import Any

import pytest

from indexer import fhir
from indexer.manifest import StudyManifest
from indexer.report import Coded, Order, Organization
from indexer.study import Address
from security.errors import BadInput
from security.identity import Ins, LocalId
from tests.fixtures.exams import ACCESSIONS, HOSPITAL, INS_TEST, MATRICULE, ORDERS
from tests.fixtures.fhir_manifests import FULL, MADE, SNOMED, encoded, large, of_type, written

Change = Callable[[dict[str, Any]], object]
CLEAN = encoded()


def changed(change: Change) -> bytes:
    bundle = copy.deepcopy(CLEAN)
    change(bundle)
    return written(bundle)


def manifest(change: Change) -> StudyManifest:
    return fhir.read(changed(change)).manifest


def study(bundle: dict[str, Any]) -> dict[str, Any]:
    return of_type(bundle, "ImagingStudy")


def first(bundle: dict[str, Any]) -> dict[str, Any]:
    instance: dict[str, Any] = study(bundle)["series"][0]["instance"][0]
    return instance


# -- our own -----------------------------------------------------------------------------------------------------


def test_what_we_wrote_comes_back_with_its_imprint() -> None:
    reading = fhir.read(fhir.encode(FULL, MADE))
    assert reading.manifest == FULL
    assert reading.imprint == replace(MADE, zone=timezone(timedelta(hours=1)))
    assert (reading.form, reading.profile, reading.codes, reading.deviations) == ("fhir", "mado", None, ())


def test_every_instance_of_a_large_study_comes_back_in_its_series() -> None:
    asked = large(1300)
    assert fhir.read(fhir.encode(asked, MADE)).manifest.series == asked.series


# -- deviations that are understood ------------------------------------------------------------------------------


def _as_collection(bundle: dict[str, Any]) -> None:
    """As before spring 2026: no Composition."""
    bundle["type"] = "collection"
    bundle["entry"].pop(0)


def _other_class_system(bundle: dict[str, Any]) -> None:
    first(bundle)["sopClass"]["system"] = "http://dicom.nema.org/resources/CodeSystem/DICOM_UIDs"


def _bare_class(bundle: dict[str, Any]) -> None:
    first(bundle)["sopClass"] = {"code": "1.2.840.10008.5.1.4.1.1.2"}


def _urn_uids(bundle: dict[str, Any]) -> None:
    for series in study(bundle)["series"]:
        series["uid"] = f"urn:oid:{series['uid']}"
        for instance in series["instance"]:
            instance["uid"] = f"urn:oid:{instance['uid']}"


def _odd_addresses(bundle: dict[str, Any]) -> None:
    """fullUrls that are no URIs, as in the published samples."""
    text = written(bundle).decode()
    for entry in copy.deepcopy(bundle)["entry"]:
        resource = entry["resource"]
        text = text.replace(entry["fullUrl"], f"urn:{resource['resourceType']}/{resource['id']}")
    import json

    bundle.clear()
    bundle.update(json.loads(text))


def _relative(bundle: dict[str, Any]) -> None:
    """References by type and id."""
    text = written(bundle).decode()
    for entry in copy.deepcopy(bundle)["entry"]:
        resource = entry["resource"]
        text = text.replace(
            f'"reference": "{entry["fullUrl"]}"', f'"reference": "{resource["resourceType"]}/{resource["id"]}"'
        )
    import json

    bundle.clear()
    bundle.update(json.loads(text))


def _shuffled(bundle: dict[str, Any]) -> None:
    study(bundle)["series"].reverse()
    for series in study(bundle)["series"]:
        series["instance"].reverse()


def _several_identifiers(bundle: dict[str, Any]) -> None:
    study(bundle)["identifier"].insert(0, {"system": "http://pacs.test", "value": "urn:oid:1.2.3"})
    of_type(bundle, "ServiceRequest")["identifier"].insert(0, {"system": "http://ris.test", "value": "R1"})
    filler = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "FILL"}]}
    of_type(bundle, "ServiceRequest")["identifier"].insert(0, {"type": filler, "value": "F1"})


def _at_the_study(bundle: dict[str, Any]) -> None:
    """The WADO Endpoint at the study, as the profile refuses it."""
    endpoint = study(bundle)["series"][0].pop("endpoint")
    study(bundle)["endpoint"] += endpoint


def _without_composition_identifier(bundle: dict[str, Any]) -> None:
    del of_type(bundle, "Composition")["identifier"]


def _listed_twice(bundle: dict[str, Any]) -> None:
    study(bundle)["series"][0]["instance"].append(copy.deepcopy(first(bundle)))
    study(bundle)["series"].append(copy.deepcopy(study(bundle)["series"][1]))


def _slash(bundle: dict[str, Any]) -> None:
    of_type(bundle, "Endpoint")["address"] += "/studies/1.2.250.1.999.10.1"
    of_type(bundle, "Endpoint", 1)["address"] += "/"


def _empty_series(bundle: dict[str, Any]) -> None:
    study(bundle)["series"].append({"uid": "1.2.3", "modality": {"code": "CT"}})


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (_as_collection, {"fhir-collection"}),
        (_other_class_system, {"fhir-sop-class-form"}),
        (_bare_class, {"fhir-sop-class-form"}),
        (_urn_uids, {"fhir-structure"}),
        (_odd_addresses, {"fhir-full-url"}),
        (_relative, set()),
        (_shuffled, set()),
        (_several_identifiers, {"fhir-issuer", "fhir-must-support"}),
        (_at_the_study, {"fhir-series-endpoint"}),
        (_without_composition_identifier, {"fhir-composition-identifier"}),
        (_listed_twice, {"fhir-duplicate-uid", "fhir-number-of-series", "fhir-number-of-instances"}),
        (_slash, {"fhir-endpoint-address"}),
        (
            _empty_series,
            {
                "fhir-number-of-series",
                "fhir-number-of-instances",
                "fhir-no-instance",
                "fhir-series-endpoint",
                "fhir-must-support",
            },
        ),
    ],
)
def test_a_deviation_is_named_and_the_manifest_is_the_same(change: Change, rules: set[str]) -> None:
    reading = fhir.read(changed(change))
    assert {one.rule for one in reading.deviations} == rules
    assert reading.manifest == FULL


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ("2026-01-15T07:00:00Z", ("20260115", "070000")),
        ("2026-01-15T23:30:00.25-02:00", ("20260115", "233000.25")),
        ("2026-01-15", ("20260115", "")),
        ("2026-01", ("", "")),
        ("2026-02-30", ("", "")),
        ("yesterday", ("", "")),
    ],
)
def test_a_start_is_read_in_its_own_offset(stated: str, read: tuple[str, str]) -> None:
    found = manifest(lambda bundle: study(bundle).update(started=stated))
    assert (found.date, found.time) == read


def test_the_starts_of_series_are_read_in_the_offset_of_the_study() -> None:
    """One TimezoneOffsetFromUTC covers all of a DICOM object (PS3.3 C.12.1.1.8)."""

    def change(bundle: dict[str, Any]) -> None:
        study(bundle)["started"] = "2026-01-15T23:00:00-02:00"
        study(bundle)["series"][0]["started"] = "2026-01-16T01:30:00Z"

    reading = fhir.read(changed(change))
    assert (reading.manifest.series[0].date, reading.manifest.series[0].time) == ("20260115", "233000")
    assert reading.imprint.zone == timezone(timedelta(hours=-2))


def test_an_issuer_that_is_no_oid_is_kept_and_written_again() -> None:
    def change(bundle: dict[str, Any]) -> None:
        of_type(bundle, "Patient")["identifier"][1]["system"] = "http://mrn.test"
        of_type(bundle, "ServiceRequest")["identifier"][0]["system"] = "http://ris.test"
        study(bundle)["basedOn"][0]["identifier"]["system"] = "http://ris.test"

    reading = fhir.read(changed(change))
    assert reading.manifest.patient.local_ids == (LocalId(value="IPP-1", issuer="http://mrn.test"),)
    assert reading.manifest.orders == (replace(FULL.orders[0], accession_issuer="http://ris.test"),)
    assert fhir.read(fhir.encode(reading.manifest, reading.imprint)).manifest == reading.manifest


def test_an_order_that_only_the_study_states_counts() -> None:
    def change(bundle: dict[str, Any]) -> None:
        bundle["entry"].pop()
        del study(bundle)["basedOn"][0]["reference"]

    assert manifest(change).orders == (
        Order(accession_number="ACC1", accession_issuer=ACCESSIONS, placer_number="", placer_issuer=""),
    )
    assert FULL.orders == (
        Order(accession_number="ACC1", accession_issuer=ACCESSIONS, placer_number="PLA1", placer_issuer=ORDERS),
    )


def test_a_patient_known_by_an_identifier_alone_is_that_identifier() -> None:
    def change(bundle: dict[str, Any]) -> None:
        bundle["entry"] = [one for one in bundle["entry"] if one["resource"]["resourceType"] != "Patient"]
        identifier = {"system": f"urn:oid:{HOSPITAL}", "value": "IPP-1"}
        study(bundle)["subject"] = {"identifier": identifier}

    patient = manifest(change).patient
    assert (patient.ins, patient.local_ids) == (None, (LocalId(value="IPP-1", issuer=HOSPITAL),))
    assert patient.traits.birth_name == ""


def test_a_subject_that_is_not_there_is_nobody_although_a_patient_stands_in_the_bundle() -> None:
    def change(bundle: dict[str, Any]) -> None:
        for kind in ("ImagingStudy", "Composition", "ServiceRequest"):
            of_type(bundle, kind)["subject"] = {"reference": "urn:uuid:00000000-0000-4000-8000-00000000dead"}

    reading = fhir.read(changed(change))
    assert (reading.manifest.patient.ins, reading.manifest.patient.local_ids) == (None, ())
    assert {"fhir-subject", "fhir-reference"} <= {one.rule for one in reading.deviations}
    with pytest.raises(BadInput):
        fhir.encode(reading.manifest, reading.imprint)


def test_the_ins_is_told_from_the_local_identifiers_by_its_authority() -> None:
    def change(bundle: dict[str, Any]) -> None:
        of_type(bundle, "Patient")["identifier"].reverse()

    patient = manifest(change).patient
    assert patient.ins == Ins(matricule=MATRICULE, oid=INS_TEST, status="")
    assert patient.local_ids == (LocalId(value="IPP-1", issuer=HOSPITAL),)


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ([{"family": "SPECTRE", "given": ["ANNE", "MARIE"]}], ("SPECTRE", "ANNE", "ANNE MARIE", "", "")),
        ([{"use": "usual", "family": "OMBRE"}], ("", "", "", "OMBRE", "")),
        (
            [{"use": "usual", "family": "OMBRE", "given": ["A"]}, {"use": "maiden", "family": "SPECTRE"}],
            ("SPECTRE", "", "", "OMBRE", "A"),
        ),
        ([{"use": "old", "family": "SPECTRE"}], ("", "", "", "", "")),
    ],
)
def test_the_names_are_those_of_birth_and_of_use(names: list[Any], read: tuple[str, ...]) -> None:
    traits = manifest(lambda bundle: of_type(bundle, "Patient").update(name=names)).patient.traits
    stated = (
        traits.birth_name,
        traits.first_given_name,
        traits.given_names,
        traits.used_name,
        traits.used_given_name,
    )
    assert stated == read


@pytest.mark.parametrize(("gender", "sex"), [("male", "M"), ("female", "F"), ("unknown", "U"), ("other", "U")])
def test_the_sex_is_a_term_of_the_house(gender: str, sex: str) -> None:
    assert manifest(lambda bundle: of_type(bundle, "Patient").update(gender=gender)).patient.traits.sex == sex


@pytest.mark.parametrize(
    ("stated", "born"), [("1985-06-07", date(1985, 6, 7)), ("1985-06", None), ("1985", None), ("19850607", None)]
)
def test_a_birth_date_is_a_full_one(stated: str, born: date | None) -> None:
    found = manifest(lambda bundle: of_type(bundle, "Patient").update(birthDate=stated))
    assert found.patient.traits.birth_date == born


@pytest.mark.parametrize(("code", "side"), [("419161000", "L"), ("419465000", "R"), ("51440002", "B"), ("1", "")])
def test_both_value_sets_of_laterality_are_understood(code: str, side: str) -> None:
    found = manifest(lambda bundle: study(bundle)["series"][0].update(laterality={"system": SNOMED, "code": code}))
    assert found.series[0].laterality == side


def test_words_without_a_code_are_not_made_a_code() -> None:
    found = manifest(lambda bundle: study(bundle).update(procedureCode=[{"text": "Head CT"}]))
    assert found.procedures == ()


def test_the_first_code_of_a_concept_counts_and_takes_the_words_of_the_concept() -> None:
    codings = [{"display": "no code"}, {"system": "http://loinc.org", "code": "1-8"}, {"code": "2"}]
    found = manifest(lambda bundle: study(bundle).update(procedureCode=[{"coding": codings, "text": "Scanner"}]))
    assert found.procedures == (Coded(code="1-8", system="2.16.840.1.113883.6.1", display="Scanner"),)


def test_without_a_composition_the_institution_owns_the_creator() -> None:
    def change(bundle: dict[str, Any]) -> None:
        _as_collection(bundle)
        other = {"resourceType": "Organization", "id": "other", "name": "Ailleurs"}
        bundle["entry"].insert(0, {"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": other})

    assert manifest(change).institution == FULL.institution
    assert FULL.institution == Organization(
        identifier="750000001", system="1.2.250.1.71.4.2.2", name="Hôpital des Ombres"
    )


def test_an_address_that_is_said_to_be_absent_is_none() -> None:
    without = replace(FULL, address=Address(base="", location="1.2.250.1.999.4"))
    assert fhir.read(fhir.encode(without, MADE)).manifest.address == Address(base="", location="1.2.250.1.999.4")


@pytest.mark.parametrize(
    ("identifier", "same"),
    [
        ({"system": "http://ids.test", "value": "mado-1"}, True),
        ({"system": "urn:ietf:rfc:3986", "value": "urn:uuid:5c047452-5bec-4bd2-9d13-09a37c85acdc"}, True),
        ({}, True),
    ],
)
def test_an_identifier_that_is_no_uid_gets_one_of_its_own(identifier: dict[str, str], same: bool) -> None:
    data = changed(lambda bundle: bundle.update(identifier=identifier))
    unique_id = fhir.read(data).imprint.unique_id
    assert unique_id.startswith("2.25.")
    assert unique_id != MADE.unique_id
    assert (fhir.read(data).imprint.unique_id == unique_id) is same
    other = changed(lambda bundle: bundle.update(identifier={**identifier, "value": "mado-2"}))
    assert fhir.read(other).imprint.unique_id != unique_id


# -- what is no manifest -----------------------------------------------------------------------------------------


def _another(kind: str, **members: Any) -> Change:
    def change(bundle: dict[str, Any]) -> None:
        resource = {**copy.deepcopy(of_type(bundle, kind)), "id": "another", **members}
        bundle["entry"].append({"fullUrl": "urn:uuid:00000000-0000-4000-8000-000000000001", "resource": resource})

    return change


def _two_subjects(bundle: dict[str, Any]) -> None:
    _another("Patient")(bundle)
    of_type(bundle, "Composition")["subject"] = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000001"}


def _order_of_another(bundle: dict[str, Any]) -> None:
    _another("Patient")(bundle)
    of_type(bundle, "ServiceRequest")["subject"] = {"reference": "Patient/another"}


def _two_ins(bundle: dict[str, Any]) -> None:
    nia = {"system": "urn:oid:1.2.250.1.213.1.4.9", "value": "185067512300159"}
    of_type(bundle, "Patient")["identifier"].append(nia)


def _two_uids(bundle: dict[str, Any]) -> None:
    study(bundle)["identifier"].append({"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"})


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("fhir-not-bundle", lambda bundle: bundle.update(resourceType="Composition")),
        ("fhir-too-many-entries", lambda bundle: bundle["entry"].extend([{}] * 992)),
        ("fhir-bundle-type", lambda bundle: bundle.update(type="transaction")),
        ("fhir-bundle-type", lambda bundle: bundle.pop("type")),
        ("fhir-one-study", lambda bundle: bundle["entry"].pop(1)),
        ("fhir-one-study", _another("ImagingStudy")),
        ("fhir-study-uid", lambda bundle: study(bundle).pop("identifier")),
        ("fhir-study-uid", _two_uids),
        ("fhir-two-patients", _two_subjects),
        ("fhir-two-patients", _order_of_another),
        ("fhir-two-ins", _two_ins),
        ("fhir-no-instance", lambda bundle: study(bundle).pop("series")),
        ("fhir-no-instance", lambda bundle: [one.pop("instance") for one in study(bundle)["series"]]),
        ("fhir-uid", lambda bundle: first(bundle).update(uid="1.02")),
        ("fhir-uid", lambda bundle: study(bundle)["series"][0].pop("uid")),
        ("fhir-sop-class", lambda bundle: first(bundle).pop("sopClass")),
        (
            "fhir-timestamp",
            lambda bundle: bundle.pop("timestamp") and of_type(bundle, "Composition").update(date="2026-01-15"),
        ),
    ],
)
def test_ff18_what_is_no_manifest_is_refused_by_its_rule(code: str, change: Change) -> None:
    with pytest.raises(BadInput) as caught:
        fhir.read(changed(change))
    assert caught.value.code == code
    assert caught.value.hint
    assert not any(value in str(caught.value) for value in ("FANTÔME", MATRICULE, "IPP-1", "ACC1"))


def test_without_a_timestamp_the_date_of_the_composition_counts() -> None:
    reading = fhir.read(changed(lambda bundle: bundle.pop("timestamp")))
    assert reading.imprint.created_at == MADE.created_at


@pytest.mark.parametrize("data", [b"", b"[]", b'{"resourceType": "Bundle", "resourceType": "Bundle"}', b"\xff"])
def test_what_is_no_json_object_is_refused_at_the_entry(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        fhir.read(data)
    assert caught.value.code in {"json-syntax", "json-duplicate-member", "json-not-utf8", "fhir-not-bundle"}
