"""Each rule of a FHIR manifest fires alone, on the defect it names; a hostile Bundle is checked to its end."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import fhir
from indexer.fhir import bindings
from indexer.rules.fhir import RULES
from security.errors import BadInput
from tests.fixtures.exams import MATRICULE
from tests.fixtures.fhir_manifests import FULL, MADE, encoded, of_type, written

Change = Callable[[dict[str, Any]], object]

CLEAN = encoded()


def found(change: Change) -> list[tuple[str, str]]:
    bundle = copy.deepcopy(CLEAN)
    change(bundle)
    return [(one.rule, one.where) for one in fhir.check(written(bundle))]


def set_in(kind: str, *path: Any, to: Any, place: int = 0) -> Change:
    """The change that sets one member below a resource."""

    def change(bundle: dict[str, Any]) -> None:
        target: Any = of_type(bundle, kind, place)
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = to

    return change


def without(kind: str, *path: Any, place: int = 0) -> Change:
    def change(bundle: dict[str, Any]) -> None:
        target: Any = of_type(bundle, kind, place)
        for part in path[:-1]:
            target = target[part]
        del target[path[-1]]

    return change


def appended(kind: str, *path: Any, what: Any, place: int = 0) -> Change:
    def change(bundle: dict[str, Any]) -> None:
        target: Any = of_type(bundle, kind, place)
        for part in path:
            target = target[part]
        target.append(what)

    return change


def top(**members: Any) -> Change:
    return lambda bundle: bundle.update(members)


def entry(resource: dict[str, Any]) -> Change:
    """One more entry with an address of its own."""
    address = "urn:uuid:00000000-0000-4000-8000-000000000001"
    return lambda bundle: bundle["entry"].append({"fullUrl": address, "resource": resource})


def again(kind: str) -> Change:
    return lambda bundle: entry({**of_type(bundle, kind), "id": "another"})(bundle)


def another_wado(bundle: dict[str, Any]) -> None:
    """Both addresses at the first series."""
    series = of_type(bundle, "ImagingStudy")["series"]
    series[0]["endpoint"].append(series[1]["endpoint"][0])


def second_number(bundle: dict[str, Any]) -> None:
    based_on = of_type(bundle, "ImagingStudy")["basedOn"]
    based_on.append(copy.deepcopy(based_on[0]))


def same_address(bundle: dict[str, Any]) -> None:
    """A second entry under the fullUrl of the first, a Group that no rule knows."""
    group = {"resourceType": "Group", "type": "person", "actual": True}
    bundle["entry"].append({"fullUrl": bundle["entry"][0]["fullUrl"], "resource": group})


def web_address(bundle: dict[str, Any]) -> None:
    bundle["entry"][0]["fullUrl"] = "Composition/1"


DANGLING = {"reference": "urn:uuid:00000000-0000-4000-8000-00000000dead"}
INSTANCE = ("series", 0, "instance", 0)
NIA = {"system": "urn:oid:1.2.250.1.213.1.4.9", "value": "185067512300159"}

ONE_DEFECT: dict[str, list[tuple[Change, str]]] = {
    "fhir-not-bundle": [(top(resourceType="List"), "Bundle")],
    "fhir-too-many-entries": [(lambda bundle: bundle["entry"].extend([{}] * 992), "Bundle")],
    "fhir-structure": [
        (set_in("Patient", "shoeSize", to=42), "Bundle.entry[2].resource.shoeSize"),
        (set_in("ImagingStudy", "description", to=7), "Bundle.entry[1].resource.description"),
        (without("ServiceRequest", "intent"), "Bundle.entry[8].resource.intent"),
        (
            set_in("ImagingStudy", *INSTANCE, "uid", to="urn:oid:1.2.250.1.999.10.1.1.1"),
            "Bundle.entry[1].resource.series[0].instance[0].uid",
        ),
        (entry({"resourceType": "Nonsense"}), "Bundle.entry[9]"),
        (entry({"resourceType": 7}), "Bundle.entry[9]"),
        (set_in("Endpoint", "managingOrganization", to=False), "Bundle.entry[3].resource.managingOrganization.root"),
        (set_in("Patient", f"{MATRICULE}\n", to="x"), "Bundle.entry[2].resource.?"),
    ],
    "fhir-binding": [
        (set_in("Patient", "gender", to="femme"), "Bundle.entry[2].resource.gender"),
        (set_in("Patient", "name", 1, "use", to="daily"), "Bundle.entry[2].resource.name[1].use"),
        (set_in("Composition", "status", to="finished"), "Bundle.entry[0].resource.status"),
        (set_in("Composition", "text", "status", to="made"), "Bundle.entry[0].resource.text.status"),
        (
            set_in("Composition", "section", 1, "text", "status", to="made"),
            "Bundle.entry[0].resource.section[1].text.status",
        ),
        (set_in("ImagingStudy", "status", to="active"), "Bundle.entry[1].resource.status"),
        (set_in("Endpoint", "status", to="on"), "Bundle.entry[3].resource.status"),
        (set_in("ServiceRequest", "status", to="done"), "Bundle.entry[8].resource.status"),
        (set_in("ServiceRequest", "intent", to="request"), "Bundle.entry[8].resource.intent"),
    ],
    "fhir-full-url": [(web_address, "Bundle.entry[0].fullUrl")],
    "fhir-duplicate-full-url": [(same_address, "Bundle.entry[9].fullUrl")],
    "fhir-reference": [
        (set_in("Device", "owner", to=DANGLING), "Bundle.entry[6].resource.owner.reference"),
        (appended("Composition", "section", 0, "entry", what=DANGLING), "Bundle.entry[0].resource.section[0].entry[1].reference"),
        (
            set_in("Composition", "custodian", to={"reference": "https://elsewhere.test/Organization/1"}),
            "Bundle.entry[0].resource.custodian.reference",
        ),
    ],
    "fhir-bundle-type": [(top(type="transaction"), "Bundle.type")],
    "fhir-collection": [(top(type="collection"), "Bundle.type")],
    "fhir-identifier": [(lambda bundle: bundle.pop("identifier"), "Bundle.identifier")],
    "fhir-timestamp": [(lambda bundle: bundle.pop("timestamp"), "Bundle.timestamp")],
    "fhir-total": [(top(total=9), "Bundle.total")],
    "fhir-composition": [
        (lambda bundle: bundle["entry"].pop(0), "Bundle.entry"),
        (lambda bundle: bundle["entry"].append(bundle["entry"].pop(0)), "Bundle.entry"),
        (again("Composition"), "Bundle.entry"),
    ],
    "fhir-composition-text": [
        (without("Composition", "text"), "Composition.text"),
        (set_in("Composition", "text", "status", to="empty"), "Composition.text"),
        (without("Composition", "section", 1, "text"), "Composition.section[1].text"),
    ],
    "fhir-composition-identifier": [
        (set_in("Composition", "identifier", "value", to="urn:oid:2.25.112"), "Composition.identifier"),
        (without("Composition", "identifier"), "Composition.identifier"),
    ],
    "fhir-composition-event": [(without("Composition", "event"), "Composition.event.detail")],
    "fhir-author": [(lambda bundle: of_type(bundle, "Composition")["author"].pop(0), "Composition.author")],
    "fhir-creator": [
        (without("Device", "type"), "Bundle.entry"),
        (again("Device"), "Bundle.entry"),
    ],
    "fhir-organization-name": [(without("Organization", "name"), "Organization.name")],
    "fhir-one-study": [(again("ImagingStudy"), "Bundle.entry")],
    "fhir-study-uid": [
        (without("ImagingStudy", "identifier"), "ImagingStudy.identifier"),
        (set_in("ImagingStudy", "identifier", 0, "value", to="urn:oid:1.02"), "ImagingStudy.identifier"),
        (
            appended("ImagingStudy", "identifier", what={"system": "urn:dicom:uid", "value": "urn:oid:1.2.9"}),
            "ImagingStudy.identifier",
        ),
    ],
    "fhir-study-uid-form": [
        (set_in("ImagingStudy", "identifier", 0, "value", to="1.2.250.1.999.10.1"), "ImagingStudy.identifier"),
        (without("ImagingStudy", "identifier", 0, "type"), "ImagingStudy.identifier"),
    ],
    "fhir-subject": [
        (
            set_in("ImagingStudy", "subject", to={"identifier": {"system": "urn:oid:1.2.250.1.999.1", "value": "IPP-1"}}),
            "ImagingStudy.subject",
        )
    ],
    "fhir-two-patients": [(again("Patient"), "Patient")],
    "fhir-two-ins": [(appended("Patient", "identifier", what=NIA), "Patient.identifier")],
    "fhir-issuer": [
        (set_in("Patient", "identifier", 1, "system", to="http://mrn.test"), "Patient.identifier[1].system"),
        (
            set_in("ServiceRequest", "identifier", 0, "system", to="http://ris.test"),
            "ServiceRequest[0].identifier[0].system",
        ),
        (set_in("Organization", "identifier", 0, "system", to="urn:oid:1"), "Organization.identifier[0].system"),
    ],
    "fhir-accession": [(lambda bundle: of_type(bundle, "ServiceRequest")["identifier"].pop(0), "ServiceRequest[0].identifier")],
    "fhir-several-accessions": [(second_number, "ImagingStudy.basedOn")],
    "fhir-started": [
        (set_in("ImagingStudy", "started", to="2026-01"), "ImagingStudy.started"),
        (set_in("ImagingStudy", "series", 1, "started", to="2026"), "ImagingStudy.series[1].started"),
    ],
    "fhir-procedure-text": [(without("ImagingStudy", "procedureCode", 1, "text"), "ImagingStudy.procedureCode[1]")],
    "fhir-uncoded": [
        (set_in("ImagingStudy", "procedureCode", 0, to={"text": "Head CT"}), "ImagingStudy.procedureCode[0]"),
        (
            set_in("ImagingStudy", "extension", 0, "valueCodeableConcept", to={"text": "Head"}),
            "ImagingStudy.extension[0]",
        ),
    ],
    "fhir-code-system": [
        (
            set_in("ImagingStudy", "procedureCode", 0, "coding", 0, "system", to="urn:oid:2.16.840.1.113883.6.1"),
            "ImagingStudy.procedureCode[0].coding.system",
        ),
        (
            set_in("ImagingStudy", "series", 0, "bodySite", "system", to="urn:oid:2.16.840.1.113883.6.96"),
            "ImagingStudy.series[0].bodySite.system",
        ),
    ],
    "fhir-region": [
        (
            set_in("ImagingStudy", "extension", 0, "valueCodeableConcept", "coding", 0, "code", to="12738006"),
            "ImagingStudy.extension[0]",
        )
    ],
    "fhir-number-of-series": [
        (set_in("ImagingStudy", "numberOfSeries", to=3), "ImagingStudy.numberOfSeries"),
        (without("ImagingStudy", "numberOfSeries"), "ImagingStudy.numberOfSeries"),
    ],
    "fhir-number-of-instances": [
        (set_in("ImagingStudy", "numberOfInstances", to=4), "ImagingStudy.numberOfInstances"),
        (set_in("ImagingStudy", "series", 0, "numberOfInstances", to=1), "ImagingStudy.series[0].numberOfInstances"),
        (without("ImagingStudy", "series", 0, "numberOfInstances"), "ImagingStudy.series[0].numberOfInstances"),
    ],
    "fhir-no-instance": [
        (
            lambda bundle: of_type(bundle, "ImagingStudy").update(numberOfInstances=2)
            or of_type(bundle, "ImagingStudy")["series"][1].update(instance=[], numberOfInstances=0),
            "ImagingStudy.series[1].instance",
        )
    ],
    "fhir-uid": [
        (set_in("ImagingStudy", *INSTANCE, "uid", to="1.02"), "ImagingStudy.series[0].instance[0].uid"),
        (set_in("ImagingStudy", "series", 0, "uid", to="abc"), "ImagingStudy.series[0].uid"),
    ],
    "fhir-duplicate-uid": [
        (
            set_in("ImagingStudy", *INSTANCE, "uid", to="1.2.250.1.999.10.1.2.1"),
            "ImagingStudy.series[1].instance[0].uid",
        ),
        (set_in("ImagingStudy", "series", 1, "uid", to="1.2.250.1.999.10.1.1"), "ImagingStudy.series[1].uid"),
    ],
    "fhir-sop-class": [
        (set_in("ImagingStudy", *INSTANCE, "sopClass", "code", to="CT"), "ImagingStudy.series[0].instance[0].sopClass")
    ],
    "fhir-sop-class-form": [
        (
            set_in("ImagingStudy", *INSTANCE, "sopClass", "code", to="1.2.840.10008.5.1.4.1.1.2"),
            "ImagingStudy.series[0].instance[0].sopClass",
        ),
        (
            set_in(
                "ImagingStudy",
                *INSTANCE,
                "sopClass",
                "system",
                to="http://dicom.nema.org/resources/CodeSystem/DICOM_UIDs",
            ),
            "ImagingStudy.series[0].instance[0].sopClass",
        ),
    ],
    "fhir-series-endpoint": [(without("ImagingStudy", "series", 0, "endpoint"), "ImagingStudy.series[0].endpoint")],
    "fhir-several-endpoints": [(another_wado, "ImagingStudy.series[0].endpoint")],
    "fhir-retrieve-location": [
        (without("Endpoint", "extension"), "Endpoint[0].extension"),
        (set_in("Endpoint", "extension", 0, "url", to="https://other.test"), "Endpoint[0].extension"),
    ],
    "fhir-retrieve-location-uid": [
        (set_in("Endpoint", "extension", 0, "valueString", to="ACME"), "Endpoint[0].extension")
    ],
    "fhir-endpoint-address": [
        (set_in("Endpoint", "address", to="https://db1.exemple.test/rs/"), "Endpoint[0].address"),
        (set_in("Endpoint", "address", to="https://db1.exemple.test/rs/studies/1.2"), "Endpoint[0].address"),
        (set_in("Endpoint", "address", to="dicom:ARCHIVE"), "Endpoint[0].address"),
        (set_in("Endpoint", "address", to="http://notspecified"), "Endpoint[0].address"),
    ],
    "fhir-endpoint-payload": [
        (without("Endpoint", "payloadType", 0, "text"), "Endpoint[0].payloadType"),
        (set_in("Endpoint", "payloadType", 0, "coding", 0, "code", to="any"), "Endpoint[0].payloadType"),
    ],
    "fhir-identifier-uid": [
        (
            lambda bundle: [
                one.update(value="mado-1") for one in (bundle["identifier"], of_type(bundle, "Composition")["identifier"])
            ],
            "Bundle.identifier",
        )
    ],
    "fhir-must-support": [
        (without("ImagingStudy", "started"), "ImagingStudy.started"),
        (without("ImagingStudy", "extension"), "ImagingStudy.extension (anatomic region)"),
        (without("ImagingStudy", "series", 0, "number"), "ImagingStudy.series[0].number"),
        (without("ImagingStudy", *INSTANCE, "number"), "ImagingStudy.series[0].instance.number"),
        (without("Patient", "birthDate"), "Patient.birthDate"),
        (without("Patient", "identifier", 1, "system"), "Patient.identifier[1].system"),
        (without("Device", "manufacturer"), "Device.manufacturer"),
        (
            without("ImagingStudy", "series", 1, "instance", 0, "extension"),
            "ImagingStudy.series[1].instance[0].extension (document title)",
        ),
    ],
}  # fmt: skip

CASES = [
    pytest.param(rule, change, where, id=f"{rule}-{place}")
    for rule, changes in ONE_DEFECT.items()
    for place, (change, where) in enumerate(changes)
]


def test_our_own_bundle_departs_from_nothing() -> None:
    assert fhir.check(fhir.encode(FULL, MADE)) == ()


@pytest.mark.parametrize(("rule", "change", "where"), CASES)
def test_each_defect_is_named_by_its_rule_alone(rule: str, change: Change, where: str) -> None:
    assert found(change) == [(rule, where)]


def test_every_rule_has_its_defect() -> None:
    assert set(ONE_DEFECT) == {rule.id for rule in RULES}


def test_a_value_on_which_the_library_fails_hides_no_other_fault() -> None:
    def change(bundle: dict[str, Any]) -> None:
        bundle["link"] = 7
        of_type(bundle, "Endpoint", 2)["address"] = False
        of_type(bundle, "Device")["shoeSize"] = 42

    assert found(change) == [
        ("fhir-structure", "Bundle.link"),
        ("fhir-structure", "Bundle.entry[5]"),
        ("fhir-structure", "Bundle.entry[6].resource.shoeSize"),
    ]


def test_an_order_that_points_to_another_server_is_no_fault() -> None:
    elsewhere = {"reference": "https://elsewhere.test/Practitioner/1"}
    assert found(set_in("ImagingStudy", "referrer", to=elsewhere)) == []


def test_a_contained_endpoint_counts() -> None:
    def contained(bundle: dict[str, Any]) -> None:
        study = of_type(bundle, "ImagingStudy")
        study["contained"] = [{**of_type(bundle, "Endpoint"), "id": "here"}]
        del study["contained"][0]["meta"]
        study["series"][0]["endpoint"] = [{"reference": "#here"}]

    assert found(contained) == []


def test_the_same_id_on_another_server_is_another_resource() -> None:
    def foreign(bundle: dict[str, Any]) -> None:
        device = of_type(bundle, "Device")
        device["owner"] = {
            "reference": f"https://elsewhere.test/Organization/{of_type(bundle, 'Organization')['id']}"
        }
        study = of_type(bundle, "ImagingStudy")
        study["subject"] = {"reference": f"https://elsewhere.test/Patient/{of_type(bundle, 'Patient')['id']}"}

    assert found(foreign) == [("fhir-subject", "ImagingStudy.subject")]


def test_the_bindings_say_where_they_come_from() -> None:
    assert (bindings.SOURCE, bindings.VERSION) == ("HL7 FHIR value sets with a required binding", "4.0.1")


@pytest.mark.parametrize("data", [b"", b"{", b'{"resourceType": NaN}', b"\xff", b"[" * 100])
def test_what_is_no_json_is_refused_at_the_entry(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        fhir.check(data)
    assert caught.value.code.startswith("json-")


def test_no_deviation_repeats_a_value() -> None:
    bundle = copy.deepcopy(CLEAN)
    for kind in ("Patient", "ServiceRequest", "Composition"):
        of_type(bundle, kind)[f"{MATRICULE}FANTÔME"] = "FANTÔME"
        of_type(bundle, kind)["identifier"] = "FANTÔME"
        of_type(bundle, kind)["status"] = "FANTÔME"
    of_type(bundle, "Patient").update(gender="FANTÔME", birthDate="FANTÔME", name="FANTÔME")
    said = repr(fhir.check(written(bundle)))
    assert "FANTÔME" not in said
    assert MATRICULE not in said


# -- any damage --------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=5) | st.just("1.2.3"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(("reference", "coding", "x")), inner),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, one in members for place in _places(one, (*path, name)))]


PLACES = [place for place in _places(CLEAN) if place]


def damaged(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    bundle = copy.deepcopy(CLEAN)
    for path, value in changes:
        target: Any = bundle
        try:
            for part in path[:-1]:
                target = target[part]
            target[path[-1]] = value
        except (KeyError, IndexError, TypeError):  # an earlier change took the place away
            continue
    return bundle


def outcome(data: bytes) -> str:
    """The code of the refusal, "" when it is read."""
    try:
        fhir.read(data)
    except BadInput as refused:
        return refused.code
    return ""


DAMAGES = st.lists(st.tuples(st.sampled_from(PLACES), _JSON), min_size=1, max_size=4)
REFUSALS = {"", *(rule.id for rule in RULES)}


@settings(max_examples=150, deadline=None)
@given(changes=DAMAGES)
def test_any_damage_is_read_or_refused_by_name_and_checked_to_the_end(changes: list[Any]) -> None:
    data = written(damaged(changes))
    assert {one.rule for one in fhir.check(data)} <= REFUSALS
    assert outcome(data) in REFUSALS


@pytest.mark.full
@settings(max_examples=10000, deadline=None)
@given(changes=DAMAGES)
def test_full_any_damage_is_read_or_refused_by_name_and_checked_to_the_end(changes: list[Any]) -> None:
    data = written(damaged(changes))
    assert {one.rule for one in fhir.check(data)} <= REFUSALS
    assert outcome(data) in REFUSALS


def test_the_check_changes_nothing_of_what_it_reads() -> None:
    from indexer.fhir.document import opened
    from indexer.fhir.profile import deviations

    document = opened(written(CLEAN))
    deviations(document)
    assert json.loads(json.dumps(document.bundle)) == CLEAN
