"""Our Bundle before a validator that is not ours, and the published sample before our reader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from indexer import fhir
from security.parse.dicom import parse_untrusted
from tests.corpus import corpus
from tests.fixtures.fhir_manifests import FULL, MADE, encoded, large, of_type, written
from tests.support.fhir_validator import installed, validated

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poterne-tests" / "fhir-validator"
_SAMPLE = "mado-1.2.250.1.59.40211.22756022.2.1.102-bundle.json"


@pytest.fixture(scope="module")
def validator() -> Path:
    return installed(_CACHE)


def _said(validator: Path, tmp_path: Path, *documents: bytes) -> list[dict[str, Any]]:
    files = [tmp_path / f"{place}.json" for place in range(len(documents))]
    for file, document in zip(files, documents, strict=True):
        file.write_bytes(document)
    return validated(validator, files)


def test_an_independent_validator_finds_no_fault_of_r4(validator: Path, tmp_path: Path) -> None:
    for said in _said(validator, tmp_path, fhir.encode(FULL, MADE), fhir.encode(large(300), MADE)):
        severities = [one["severity"] for one in said["messages"]]
        assert said["valid"] is True
        assert not {"error", "fatal"} & set(severities)


def test_the_independent_validator_can_say_no(validator: Path, tmp_path: Path) -> None:
    unknown, unbound = encoded(), encoded()
    of_type(unknown, "ImagingStudy")["bodyPart"] = "HEAD"
    del of_type(unbound, "Composition")["status"]
    assert [said["valid"] for said in _said(validator, tmp_path, written(unknown), written(unbound))] == [
        False,
        False,
    ]


@pytest.mark.corpus
def test_the_published_bundle_is_read_with_its_deviations() -> None:
    reading = fhir.read(corpus("ihe", "mado", _SAMPLE).read_bytes())
    said = {
        rule: sum(one.rule == rule for one in reading.deviations) for rule in {d.rule for d in reading.deviations}
    }
    assert said == {
        "fhir-full-url": 7,  # urn:Patient/…
        "fhir-sop-class-form": 21,  # DICOM_UIDs
        "fhir-identifier-uid": 1,
        "fhir-issuer": 3,
        "fhir-retrieve-location-uid": 1,  # ACME
        "fhir-uncoded": 1,  # "Head CT"
        "fhir-must-support": 3,  # of the key-image series
    }
    manifest = reading.manifest
    assert (manifest.study, manifest.date, manifest.time) == (
        "1.2.250.1.59.40211.22756022.2.1.102",
        "20220822",
        "083117",
    )
    assert [(one.modality, one.number, len(one.instances)) for one in manifest.series] == [
        ("CT", 1, 20),
        ("KO", 59, 1),
    ]
    assert [one.number for one in manifest.series[0].instances] == list(range(1, 21))
    note = manifest.series[1].instances[0].note
    assert note is not None
    assert (note.title.code, note.description) == ("113000", "Significant DICOM Instances")
    assert manifest.address.base == "http://example.com/wado"
    assert manifest.orders[0].accession_number == "8529258169397744"


@pytest.mark.corpus
def test_the_published_bundle_lists_the_instances_of_the_published_kos() -> None:
    manifest = fhir.read(corpus("ihe", "mado", _SAMPLE).read_bytes()).manifest
    kos = parse_untrusted(corpus("ihe", "mado", "MADO_KOS_B.dcm"), what="published KOS")
    listed = {
        (str(series.SeriesInstanceUID), str(one.ReferencedSOPInstanceUID), str(one.ReferencedSOPClassUID))
        for study in kos.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    ours = {(one.uid, each.sop_instance, each.sop_class) for one in manifest.series for each in one.instances}
    assert len(ours) == 21
    assert ours == listed


@pytest.mark.corpus
def test_the_published_bundle_written_again_lists_the_same() -> None:
    reading = fhir.read(corpus("ihe", "mado", _SAMPLE).read_bytes())
    again = fhir.read(fhir.encode(reading.manifest, reading.imprint))
    assert again.manifest == reading.manifest
    assert {one.rule for one in again.deviations} == {
        "fhir-issuer",
        "fhir-retrieve-location-uid",
        "fhir-must-support",
    }
