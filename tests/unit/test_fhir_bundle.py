"""The Bundle of MADO, element by element; what is not whole is refused by name; nothing is lost but what is listed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import fhir
from indexer.manifest import Imprint, StudyManifest
from indexer.report import Coded, Order, Organization
from indexer.rules.fhir import RULES
from indexer.study import Address, Instance, KeyNote
from security.errors import BadInput
from security.identity import Ins, LocalId, Uid
from tests.fixtures.exams import ECG, MATRICULE
from tests.fixtures.fhir_manifests import DCM, FULL, MADE, OF_INTEREST, encoded, imprints, large, manifests, of_type
from tests.support.fhir_objects import by_objects

PATIENT, ORDER, SERIES = FULL.patient, FULL.orders[0], FULL.series


def with_patient(**changes: object) -> StudyManifest:
    return replace(FULL, patient=replace(PATIENT, **changes))


def with_traits(**changes: object) -> StudyManifest:
    return with_patient(traits=replace(PATIENT.traits, **changes))


def with_series(**changes: object) -> StudyManifest:
    return replace(FULL, series=(replace(SERIES[0], **changes), SERIES[1]))


def with_instance(**changes: object) -> StudyManifest:
    first, *others = SERIES[0].instances
    return with_series(instances=(replace(first, **changes), *others))


def study(manifest: StudyManifest = FULL, made: Imprint = MADE) -> dict[str, Any]:
    return of_type(encoded(manifest, made), "ImagingStudy")


# -- what stands where -------------------------------------------------------------------------------------------


def test_the_bundle_is_a_document_of_the_unique_id() -> None:
    bundle = encoded()
    assert {name: bundle[name] for name in ("resourceType", "meta", "identifier", "type", "timestamp")} == {
        "resourceType": "Bundle",
        "meta": {"profile": ["https://profiles.ihe.net/RAD/MADO/StructureDefinition/MadoFhirBundle"]},
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.25.111"},
        "type": "document",
        "timestamp": "2026-01-15T10:05:07+01:00",
    }
    assert [one["resource"]["resourceType"] for one in bundle["entry"]] == [
        "Composition",
        "ImagingStudy",
        "Patient",
        "Endpoint",
        "Endpoint",
        "Endpoint",
        "Device",
        "Organization",
        "ServiceRequest",
    ]
    assert all(one["fullUrl"] == f"urn:uuid:{one['resource']['id']}" for one in bundle["entry"])
    assert len({one["fullUrl"] for one in bundle["entry"]}) == 9


def test_the_study_is_told_as_the_profile_wants_it() -> None:
    told = study()
    assert told["identifier"] == [
        {
            "type": {
                "coding": [
                    {
                        "system": "http://dicom.nema.org/resources/ontology/DCM",
                        "code": "110180",
                        "display": "Study Instance UID",
                    }
                ]
            },
            "system": "urn:dicom:uid",
            "value": "urn:oid:1.2.250.1.999.10.1",
        }
    ]
    assert (told["started"], told["numberOfSeries"], told["numberOfInstances"]) == ("2026-01-15T08:00:00+01:00", 2, 3)
    assert told["procedureCode"] == [
        {
            "coding": [{"system": "http://loinc.org", "code": "24727-0", "display": "Scanner de la tête"}],
            "text": "Scanner de la tête",
        },
        {"coding": [{"system": "urn:oid:1.2.250.1.213.2.5", "code": "ACQK001"}], "text": "ACQK001"},
    ]
    assert told["referrer"] == {"display": "MIRAGE^PAUL"}
    assert told["basedOn"][0]["identifier"] == {
        "type": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"},
                {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": "121022",
                    "display": "Accession Number",
                },
            ]
        },
        "system": "urn:oid:1.2.250.1.999.2",
        "value": "ACC1",
    }


def test_a_key_image_note_tells_its_title_and_its_description() -> None:
    [note] = study()["series"][1]["instance"]
    assert note == {
        "extension": [
            {
                "url": "https://profiles.ihe.net/RAD/MADO/StructureDefinition/MadoKeyObjectDocumentTitle",
                "valueCodeableConcept": {
                    "coding": [
                        {
                            "system": "http://dicom.nema.org/resources/ontology/DCM",
                            "code": "113000",
                            "display": "Of Interest",
                        }
                    ]
                },
            }
        ],
        "uid": "1.2.250.1.999.10.1.2.1",
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.88.59"},
        "number": 1,
        "title": "Lésion frontale\r\nà revoir",
    }


def test_each_address_is_one_endpoint_and_each_series_refers_to_its_own() -> None:
    bundle = encoded(replace(FULL, series=(*SERIES, replace(SERIES[0], uid=Uid("1.2.3"), instances=(INSTANCE,)))))
    endpoints = {
        one["fullUrl"]: (one["resource"]["address"], one["resource"].get("extension", [{}])[0].get("valueString"))
        for one in bundle["entry"]
        if one["resource"]["resourceType"] == "Endpoint"
    }
    assert sorted(endpoints.values(), key=str) == [
        ("https://db1.exemple.test/rs", "1.2.250.1.999.4"),
        ("https://db2.exemple.test/rs", "1.2.250.1.999.5"),
        ("https://voir.exemple.test/?examen=1.2.250.1.999.10.1", None),
    ]
    listed = of_type(bundle, "ImagingStudy")["series"]
    assert [endpoints[one["endpoint"][0]["reference"]][0] for one in listed] == [
        "https://db1.exemple.test/rs",
        "https://db2.exemple.test/rs",
        "https://db1.exemple.test/rs",
    ]


INSTANCE = Instance(sop_class=ECG, sop_instance=Uid("1.2.3.1"))


def test_without_a_base_the_address_is_said_to_be_absent() -> None:
    endpoint = of_type(encoded(replace(FULL, address=Address(base="", location="1.2.3"))), "Endpoint")
    assert endpoint["address"] == "http://notspecified"
    assert endpoint["_address"] == {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }


def test_the_patient_is_the_ins_and_the_local_identifiers_stand_beside_it() -> None:
    patient = of_type(encoded(), "Patient")
    assert [(one["use"], one["system"], one["value"]) for one in patient["identifier"]] == [
        ("official", "urn:oid:1.2.250.1.213.1.4.10", MATRICULE),
        ("usual", "urn:oid:1.2.250.1.999.1", "IPP-1"),
    ]
    assert (patient["gender"], patient["birthDate"]) == ("female", "1985-06-07")
    assert [(one["use"], one["family"], one["given"]) for one in patient["name"]] == [
        ("official", "FANTÔME", ["LÉA"]),
        ("usual", "TEST-DUPONT", ["LÉA"]),
    ]


@pytest.mark.parametrize("status", ["PROV", "VIDE", "RECUP"])
def test_an_ins_that_is_not_qualified_is_written_nowhere(status: str) -> None:
    unqualified = replace(FULL, patient=replace(PATIENT, ins=replace(PATIENT.ins, status=status)))  # type: ignore[type-var]
    data = fhir.encode(unqualified, MADE)
    assert MATRICULE.encode() not in data
    assert fhir.read(data).manifest.patient.local_ids == PATIENT.local_ids


def test_with_several_orders_each_is_a_service_request_and_no_number_stands_alone() -> None:
    second = replace(ORDER, accession_number="ACC2", placer_number="", placer_issuer="")
    bundle = encoded(replace(FULL, orders=(ORDER, second)))
    based_on = of_type(bundle, "ImagingStudy")["basedOn"]
    requests = [of_type(bundle, "ServiceRequest", place) for place in (0, 1)]
    assert [one["reference"] for one in based_on] == [f"urn:uuid:{one['id']}" for one in requests]
    assert not any("identifier" in one for one in based_on)
    assert [[one["value"] for one in request["identifier"]] for request in requests] == [["ACC1", "PLA1"], ["ACC2"]]


@pytest.mark.parametrize(
    ("day", "clock", "started"),
    [
        ("20260715", "080000", "2026-07-15T08:00:00+02:00"),
        ("20260115", "0800", "2026-01-15T08:00:00+01:00"),
        ("20260115", "08", "2026-01-15T08:00:00+01:00"),
        ("20260115", "080000.5", "2026-01-15T08:00:00.5+01:00"),
        ("20260115", "", "2026-01-15"),
        ("20260115", "235960", "2026-01-15"),
        ("20260115", "8h", "2026-01-15"),
        ("20260230", "080000", None),
        ("2026.01.15", "080000", None),
        ("", "080000", None),
    ],
)
def test_the_start_is_a_dateTime_at_the_studys_offset(day: str, clock: str, started: str | None) -> None:
    assert study(replace(FULL, date=day, time=clock)).get("started") == started


def test_text_for_people_cannot_become_markup_or_break_the_json() -> None:
    hostile = '<script>alert("1")</script>\x00\ud800 & ]]>\x85'
    data = fhir.encode(replace(with_series(description=hostile), description=hostile), MADE)
    bundle = json.loads(data)
    narrative = of_type(bundle, "Composition")["text"]["div"]
    assert "<script" not in narrative
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in narrative
    assert of_type(bundle, "ImagingStudy")["description"] == '<script>alert("1")</script>   & ]]>'
    assert fhir.check(data) == ()


def test_a_narrative_is_well_formed_xhtml_of_plain_cells() -> None:
    from lxml import etree

    composition = of_type(encoded(replace(FULL, description="a < b & c \ufffe")), "Composition")
    for narrated in (composition, *composition["section"]):
        root = etree.fromstring(narrated["text"]["div"])
        assert {etree.QName(one).localname for one in root.iter()} == {"div", "table", "tr", "th", "td"}


# -- the same bytes, and the same as the plain route -------------------------------------------------------------


def test_the_same_manifest_gives_the_same_bytes() -> None:
    assert fhir.encode(FULL, MADE) == fhir.encode(replace(FULL), replace(MADE))


def test_another_version_shares_no_id() -> None:
    def ids(made: Imprint) -> set[str]:
        return {one["resource"]["id"] for one in encoded(FULL, made)["entry"]}

    assert not ids(MADE) & ids(replace(MADE, unique_id=Uid("2.25.112")))


@pytest.mark.parametrize(
    "manifest",
    [
        FULL,
        replace(FULL, orders=(ORDER, replace(ORDER, accession_number="ACC2"))),
        replace(FULL, viewer_url="", regions=(), address=Address(base="", location="1.2.3")),
        large(300),
    ],
    ids=["full", "two orders", "no base", "300 instances"],
)
def test_the_objects_of_fhir_resources_say_the_same_byte_for_byte(manifest: StudyManifest) -> None:
    """The plain way stays the reference of the direct one (design §7)."""
    assert by_objects(manifest, MADE) == fhir.encode(manifest, MADE)


def test_fhir_resources_reads_the_bundle_and_writes_it_again() -> None:
    data = fhir.encode(FULL, MADE)
    assert Bundle.model_validate_json(data).model_dump_json().encode() == data


def test_thirteen_hundred_instances_take_far_less_than_300_ms() -> None:
    manifest = large(1300)
    began = time.process_time()
    data = fhir.encode(manifest, MADE)
    assert time.process_time() - began < 0.3
    assert sum(len(one.instances) for one in fhir.read(data).manifest.series) == 1300


# -- nothing is lost ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(manifest=manifests(), made=imprints)
def test_a_manifest_comes_back_as_it_was(manifest: StudyManifest, made: Imprint) -> None:
    data = fhir.encode(manifest, made)
    reading = fhir.read(data)
    assert reading.manifest == manifest
    assert (reading.imprint.unique_id, reading.imprint.created_at, reading.imprint.manufacturer) == (
        made.unique_id,
        made.created_at,
        made.manufacturer,
    )
    assert fhir.encode(reading.manifest, reading.imprint) == data
    allowed = {"fhir-must-support", "fhir-region"}  # what the source does not tell, or tells too finely
    assert {one.rule for one in reading.deviations} <= allowed


@pytest.mark.full
@settings(max_examples=3000, deadline=None)
@given(manifest=manifests(), made=imprints)
def test_full_a_manifest_comes_back_as_it_was(manifest: StudyManifest, made: Imprint) -> None:
    data = fhir.encode(manifest, made)
    reading = fhir.read(data)
    assert reading.manifest == manifest
    assert fhir.encode(reading.manifest, reading.imprint) == data


@pytest.mark.parametrize(
    ("lost", "manifest", "comes_back"),
    [
        ("study_id", replace(FULL, study_id="S1"), FULL),
        (
            "address",
            replace(FULL, series=(SERIES[1],)),
            replace(FULL, series=(replace(SERIES[1], address=None),), address=SERIES[1].address),
        ),
        ("address.ae_title", replace(FULL, address=replace(FULL.address, ae_title="ARCHIVE")), FULL),
        (
            "address.base",
            replace(FULL, address=replace(FULL.address, base=FULL.address.base + "/")),
            FULL,
        ),
        (
            "series.address.ae_title",
            replace(
                FULL,
                series=(SERIES[0], replace(SERIES[1], address=replace(SERIES[1].address, ae_title="A"))),  # type: ignore[type-var]
            ),
            FULL,
        ),
        ("series.body_part", with_series(body_part="HEAD"), FULL),
        (
            "series.instances.note.references",
            with_instance(note=KeyNote(title=OF_INTEREST, references=(Uid("1.2"),))),
            with_instance(note=KeyNote(title=OF_INTEREST)),
        ),
        ("patient.ins.status", with_patient(ins=replace(PATIENT.ins, status="VALI")), FULL),  # type: ignore[type-var]
        (
            "institution.system",
            replace(FULL, orders=(replace(ORDER, placer_number=""),)),
            replace(FULL, orders=(replace(ORDER, placer_number="", placer_issuer=""),)),
        ),
        ("date", replace(FULL, date="20260230"), replace(FULL, date="", time="")),
        ("time", replace(FULL, date=""), replace(FULL, date="", time="")),
        ("time", replace(FULL, time="0800"), FULL),
        ("series.number", with_series(number=-1), None),
        ("series.laterality", with_series(laterality="U"), with_series(laterality="")),
        ("patient.traits.sex", with_traits(sex="O"), with_traits(sex="U")),
        ("description", replace(FULL, description=" Scanner\x00de la tête\n"), FULL),
    ],
)
def test_what_is_lost_is_what_the_list_says(
    lost: str, manifest: StudyManifest, comes_back: StudyManifest | None
) -> None:
    assert lost in fhir.LOSES | fhir.NARROWS
    read = fhir.read(fhir.encode(manifest, MADE)).manifest
    if comes_back is None:  # a series without a number comes last
        assert [one.number for one in read.series] == [2, None]
    else:
        assert read == comes_back


def test_the_list_of_losses_is_complete() -> None:
    tested = {
        mark.args[1][place][0]
        for mark in test_what_is_lost_is_what_the_list_says.pytestmark  # type: ignore[attr-defined]
        for place in range(len(mark.args[1]))
    }
    assert tested == set(fhir.LOSES | fhir.NARROWS)


def test_the_series_of_a_kos_has_no_place() -> None:
    data = fhir.encode(FULL, replace(MADE, series_uid=Uid("2.25.222")))
    assert data == fhir.encode(FULL, MADE)
    assert fhir.read(data).imprint.series_uid is None


def test_an_offset_of_seconds_is_rounded_to_the_minute() -> None:
    """Zones had such offsets before standard time; FHIR has none."""
    odd = replace(MADE, zone=timezone(timedelta(seconds=561)), created_at=datetime(2026, 1, 15, 9, tzinfo=UTC))
    assert encoded(FULL, odd)["timestamp"] == "2026-01-15T09:09:00+00:09"


# -- what is refused ---------------------------------------------------------------------------------------------

NO_INS = {"ins": None, "local_ids": ()}


@pytest.mark.parametrize(
    ("code", "broken"),
    [
        ("fhir-no-patient", with_patient(**NO_INS)),
        ("fhir-no-patient", with_patient(ins=Ins(matricule=MATRICULE, oid="1.2", status="PROV"), local_ids=())),
        ("fhir-authority", with_patient(ins=Ins(matricule=MATRICULE, oid="1.2.3", status="VALI"))),
        ("fhir-authority", with_patient(local_ids=(LocalId(value=MATRICULE, issuer="1.2.250.1.213.1.4.8"),))),
        ("fhir-no-accession", replace(FULL, orders=(replace(ORDER, accession_number=""),))),
        ("fhir-no-instance", replace(FULL, series=())),
        ("fhir-no-instance", with_series(instances=())),
        ("fhir-duplicate-instance", replace(FULL, series=(SERIES[0], SERIES[0]))),
        ("fhir-duplicate-instance", replace(FULL, series=(SERIES[0], replace(SERIES[0], uid=Uid("1.2"))))),
        ("fhir-series-modality", with_series(modality=" ")),
        ("fhir-retrieve-base", replace(FULL, address=replace(FULL.address, base="ftp://db1.exemple.test"))),
        ("fhir-retrieve-base", replace(FULL, address=replace(FULL.address, base="https://a.test/rs/studies"))),
        ("fhir-retrieve-base", with_series(address=Address(base="x", location="1.2"))),
        ("fhir-no-location", replace(FULL, address=Address(base="https://db1.exemple.test/rs"))),
        ("fhir-viewer-url", replace(FULL, viewer_url="javascript:alert(1)")),
        ("fhir-no-institution", replace(FULL, institution=Organization(identifier="1", system="1.2", name=" "))),
        ("fhir-system", replace(FULL, orders=(replace(ORDER, accession_issuer="HOPITAL"),))),
        ("fhir-system", replace(FULL, regions=(Coded(code="1", system="SCT"),))),
        ("fhir-text", with_traits(birth_name="FANTÔME\x07")),
        ("fhir-text", with_traits(first_given_name=" LÉA")),
        ("fhir-text", with_traits(given_names="LÉA\ud800")),
        ("fhir-text", with_traits(used_name="DUPONT ")),
        ("fhir-text", with_traits(birthplace="75 112 ")),
        ("fhir-text", with_patient(local_ids=(LocalId(value="IPP\n", issuer=""),))),
        ("fhir-text", with_patient(local_ids=(LocalId(value="", issuer="1.2"),))),
        ("fhir-text", replace(FULL, orders=(replace(ORDER, placer_number="PLA\x00"),))),
        ("fhir-text", replace(FULL, procedures=(Coded(code="", system=DCM, display="Scanner"),))),
        ("fhir-text", replace(FULL, regions=(Coded(code="1  2", system=DCM),))),
    ],
)
def test_ff18_each_broken_rule_refuses_the_manifest_by_its_name(code: str, broken: StudyManifest) -> None:
    with pytest.raises(BadInput) as caught:
        fhir.encode(broken, MADE)
    assert caught.value.code == code
    assert not any(value in str(caught.value) for value in ("FANTÔME", "LÉA", MATRICULE, "DUPONT", "HOPITAL", "IPP"))


def test_no_rule_stands_twice() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert all(rule.says and rule.remedy and rule.clause for rule in RULES)


def _orders_back(order: Order) -> tuple[Order, ...] | str:
    """What comes back of one order, or the code of the refusal."""
    try:
        data = fhir.encode(replace(FULL, orders=(order,)), MADE)
    except BadInput as refused:
        return refused.code
    return fhir.read(data).manifest.orders


@settings(max_examples=100, deadline=None)
@given(number=st.text(), issuer=st.sampled_from(("", "1.2.250.1.999.7")))
def test_a_number_is_written_whole_or_not_at_all(number: str, issuer: str) -> None:
    order = Order(accession_number=number, accession_issuer=issuer, placer_number="", placer_issuer="")
    assert _orders_back(order) in ((order,), "fhir-text", "fhir-no-accession")
