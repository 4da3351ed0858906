"""``poterne manifest check`` names the rule that a document breaks: one change of a good document each.

A row is the document, the change, and every error and warning that must be named: nothing else may be.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from gateway.manifests.checking import Verdict, judge
from gateway.manifests.forms import RULES
from security.errors import BadInput
from tests.fixtures import manifest_files

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return manifest_files.documents(manifest_files.manifest(tmp_path_factory.mktemp("exam")))


def changed(data: bytes, change: Change) -> bytes:
    """The document with one change: of a pydicom data set, or of the JSON objects of the Bundle by resource type."""
    if data.startswith(b"{"):
        bundle = json.loads(data)
        change(Bundle(bundle))
        return json.dumps(bundle).encode()
    found = dcmread(BytesIO(data))
    change(found)
    out = BytesIO()
    found.save_as(out)
    return out.getvalue()


class Bundle:
    """A Bundle whose resources are reached by their type: the first of it."""

    def __init__(self, whole: dict[str, Any]) -> None:
        self.whole = whole

    def __getitem__(self, kind: str) -> Any:
        return next(entry["resource"] for entry in self.whole["entry"] if entry["resource"]["resourceType"] == kind)

    def drop(self, kind: str) -> None:
        self.whole["entry"] = [one for one in self.whole["entry"] if one["resource"]["resourceType"] != kind]


def evidence(found: Dataset) -> Dataset:
    return found.CurrentRequestedProcedureEvidenceSequence[0]


def series(found: Dataset, place: int = 0) -> Dataset:
    return evidence(found).ReferencedSeriesSequence[place]


def library(found: Dataset) -> Dataset:
    return next(item for item in found.ContentSequence if item.ValueType == "CONTAINER")


def group(found: Dataset) -> Dataset:
    return next(item for item in library(found).ContentSequence if item.ValueType == "CONTAINER")


def named(parent: Dataset, meaning: str) -> Dataset:
    return next(
        item for item in parent.ContentSequence if "ConceptNameCodeSequence" in item
        and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    )  # fmt: skip


def with_value(keyword: str, value: object) -> Change:
    return lambda found: setattr(found, keyword, value)


def without(keyword: str) -> Change:
    return lambda found: delattr(found, keyword)


def of_series(change: Change) -> Change:
    return lambda found: change(series(found))


def of_study(key: str, value: object) -> Change:
    return lambda bundle: bundle["ImagingStudy"].__setitem__(key, value)


ROWS: list[tuple[str, Change, set[str]]] = [
    # the object
    ("xds-i", with_value("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.11"), {"kos-not-kos"}),
    ("mado", lambda f: setattr(f.ConceptNameCodeSequence[0], "CodeValue", "113001"), {"kos-iocm"}),
    ("xds-i", lambda f: setattr(f.ConceptNameCodeSequence[0], "CodeValue", "113000"), {"kos-title"}),
    ("mado", with_value("ValueType", "TEXT"), {"kos-type-1"}),
    ("xds-i", without("ReferringPhysicianName"), {"kos-type-2"}),
    ("drim-m", with_value("CompletionFlag", "COMPLETE"), {"kos-general"}),
    ("xds-i", with_value("Rows", 1), {"kos-foreign"}),
    ("mado", without("ContentTemplateSequence"), {"kos-template"}),
    # the study
    ("xds-i", with_value("StudyInstanceUID", "1.2.3"), {"kos-study-mismatch"}),
    ("mado", without("TimezoneOffsetFromUTC"), {"kos-timezone"}),
    ("mado", with_value("StudyTime", ""), {"kos-study-date"}),
    ("mado", with_value("InstitutionName", ""), {"kos-institution"}),
    ("drim-m", lambda f: setattr(f, "SeriesInstanceUID", series(f).SeriesInstanceUID), {"kos-own-series"}),
    ("xds-i", lambda f: series(f).ReferencedSOPSequence.append(series(f).ReferencedSOPSequence[0]),
     {"kos-duplicate-instance"}),
    # the patient and the orders
    ("drim-m", with_value("PatientID", ""), {"kos-no-patient-id"}),
    ("drim-m", with_value("PatientSex", "X"), {"kos-sex"}),
    ("drim-m", with_value("PatientBirthDate", ""), {"kos-no-trait"}),
    ("mado", lambda f: delattr(f.OtherPatientIDsSequence[-1], "IssuerOfPatientIDQualifiersSequence"),
     {"kos-patient-issuer"}),
    ("mado", without("OtherPatientIDsSequence"), {"kos-other-ids"}),
    ("mado", lambda f: delattr(f.ReferencedRequestSequence[0], "IssuerOfAccessionNumberSequence"),
     {"kos-accession-issuer"}),
    ("drim-m", with_value("AccessionNumber", "ACC-0001"), {"kos-accession"}),
    ("drim-m", lambda f: setattr(f.ReferencedRequestSequence[0], "AccessionNumber", ""), {"kos-no-accession"}),
    ("xds-i", lambda f: setattr(f.ReferencedRequestSequence[0], "StudyInstanceUID", "1.2.3"), {"kos-request-study"}),
    # where images are fetched
    ("drim-m", of_series(without("RetrieveURL")), {"kos-retrieve-none"}),
    ("drim-m", of_series(with_value("RetrieveURL", "https://h/rs/studies/1.2/series/1.3")), {"kos-retrieve-other"}),
    ("mado", of_series(with_value("RetrieveURL", "ftp://images.example.org/rs")), {"kos-retrieve-http"}),
    ("mado", of_series(with_value("RetrieveURL", "https://images.example.org/rs/")), {"kos-retrieve-slash"}),
    ("mado", of_series(without("RetrieveLocationUID")), {"kos-location"}),
    ("xds-i", of_series(without("RetrieveAETitle")), {"kos-ae-title"}),
    # the tree
    ("xds-i", lambda f: f.ContentSequence.pop(0), {"kos-evidence-tree"}),
    ("xds-i", lambda f: setattr(f.ContentSequence[0], "ValueType", "COMPOSITE"), {"kos-value-type"}),
    ("mado", lambda f: delattr(library(f), "ContinuityOfContent"), {"kos-continuity"}),
    ("mado", lambda f: [library(f).ContentSequence.remove(named(library(f), "Target Region")) for _ in "12"],
     {"kos-no-region"}),
    ("mado-99ihe", lambda f: setattr(f.ConceptNameCodeSequence[0], "CodeValue", "MADOTEMP099"),
     {"kos-mado-code"}),
    ("mado", lambda f: library(f).ContentSequence.remove(group(f)),
     {"kos-group", "kos-evidence-library", "kos-series-modality"}),
    ("mado", lambda f: setattr(named(group(f), "Number of Series Related Instances").MeasuredValueSequence[0],
                               "NumericValue", "9"), {"kos-count"}),
    ("mado", lambda f: f.ContentSequence.remove(library(f)), {"kos-library"}),
    # FHIR
    ("fhir", lambda b: b.whole.__setitem__("type", "collection"), {"fhir-collection"}),
    ("fhir", lambda b: b.whole.pop("timestamp"), {"fhir-timestamp"}),
    ("fhir", lambda b: b.whole.pop("identifier"), {"fhir-identifier"}),
    ("fhir", lambda b: b.whole.__setitem__("total", 3), {"fhir-total"}),
    ("fhir", of_study("numberOfSeries", 7), {"fhir-number-of-series"}),
    ("fhir", of_study("identifier", []), {"fhir-study-uid"}),
    ("fhir", lambda b: b["ImagingStudy"]["series"][0].pop("endpoint"), {"fhir-series-endpoint"}),
    ("fhir", lambda b: b["ImagingStudy"]["series"][0].__setitem__("uid", "urn:oid:1.2.3"), {"fhir-structure"}),
    ("fhir", lambda b: b["ImagingStudy"]["series"].append(copy.deepcopy(b["ImagingStudy"]["series"][0])), {"fhir-duplicate-uid", "fhir-number-of-series", "fhir-number-of-instances"}),
    ("fhir", lambda b: b["Endpoint"].__setitem__("address", "https://images.example.org/rs/studies"), {"fhir-endpoint-address"}),
    ("fhir", lambda b: b["Endpoint"].pop("extension"), {"fhir-retrieve-location"}),
    ("fhir", lambda b: b["Organization"].pop("name"), {"fhir-organization-name"}),
    ("fhir", lambda b: b["Patient"].__setitem__("gender", "F"), {"fhir-binding"}),
    ("fhir", lambda b: b["ImagingStudy"].__setitem__("bodyPart", "x"), {"fhir-structure"}),
    ("fhir", lambda b: b["Composition"].pop("text"), {"fhir-composition-text"}),
    ("fhir", lambda b: b["ServiceRequest"].pop("identifier"), {"fhir-accession"}),
    ("fhir", of_study("subject", {"reference": "urn:uuid:nobody"}), {"fhir-subject", "fhir-reference"}),
]  # fmt: skip


def broken(verdict: Verdict) -> set[str]:
    return {one.rule.id for one in verdict.findings if one.rule.severity != "note"}


@pytest.mark.parametrize("name", ["drim-m", "xds-i", "mado", "mado-99ihe", "fhir"])
def test_a_good_document_breaks_no_rule(good: dict[str, bytes], name: str):
    verdict = judge(good[name])

    assert (verdict.is_clean, broken(verdict)) == (True, set())
    assert verdict.target is not None
    assert verdict.target.profile == name.partition("-99ihe")[0].replace("fhir", "mado")


@pytest.mark.parametrize(
    ("name", "change", "expected"), ROWS, ids=[f"{place}-{name}" for place, (name, _, _) in enumerate(ROWS)]
)
def test_one_change_is_named_by_its_rule(good: dict[str, bytes], name: str, change: Change, expected: set[str]):
    assert broken(judge(changed(good[name], change))) == expected


def test_at_least_forty_changes_are_tried_and_each_names_a_rule():
    assert len(ROWS) >= 40
    assert all(expected and expected <= RULES.keys() for _, _, expected in ROWS)
    assert {name for name, _, _ in ROWS} == {"drim-m", "xds-i", "mado", "mado-99ihe", "fhir"}


@pytest.mark.parametrize(
    ("name", "asked", "own"),
    [
        ("xds-i", "mado", "xds-i"),
        ("mado", "drim-m", "mado"),
        ("fhir", "xds-i", "mado"),
        ("drim-m", "xds-i", "drim-m"),
    ],
)
def test_another_profile_than_the_one_asked_for_is_a_finding(good: dict[str, bytes], name: str, asked: Any, own: str):
    verdict = judge(good[name], profile=asked)

    assert verdict.is_clean is False
    assert (verdict.findings[0].rule.id, verdict.findings[0].detail) == ("manifest-profile", f"{own}, not {asked}")


@pytest.mark.parametrize("name", ["drim-m", "xds-i", "mado", "fhir"])
def test_the_profile_asked_for_is_no_finding_when_it_is_the_document_s(good: dict[str, bytes], name: Any):
    assert judge(good[name], profile="mado" if name == "fhir" else name).is_clean is True


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "manifest-form"),
        (b"<Bundle/>", "manifest-form"),
        (b"[]", "manifest-form"),
        (b"PK\x03\x04", "manifest-form"),
        (b'{"resourceType":', "json-syntax"),
        (bytes(128) + b"DICM", "dicom-not-part10"),
    ],
)
def test_what_is_no_document_is_refused_with_a_reason(data: bytes, code: str):
    with pytest.raises(BadInput) as raised:
        judge(data)
    assert raised.value.code == code


def test_a_document_cut_short_is_refused(good: dict[str, bytes]):
    for name, code in (("mado", "dicom-truncated"), ("fhir", "json-syntax")):
        with pytest.raises(BadInput) as raised:
            judge(good[name][:-30])
        assert raised.value.code == code
