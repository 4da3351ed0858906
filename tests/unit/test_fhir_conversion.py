"""A manifest of IHE MADO goes from KOS to FHIR and back, and loses nothing that both forms carry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from indexer import fhir, kos
from indexer.manifest import Imprint, StudyManifest
from indexer.study import Series
from security.identity import Uid
from tests.fixtures.fhir_manifests import FULL, MADE
from tests.unit.test_kos_law import IMPRINTS, MANIFESTS, carried, settled

# Both forms tell a body part where no coded region stands for it, and no manifest here has both.
LOST = (kos.LOSES["mado"] | fhir.LOSES).keys() - {"series.body_part"}
KOS_SERIES = Uid("2.25.222")


def _number(stated: int | None) -> int | None:
    return stated if stated is None or stated >= 0 else -stated - 1


def _rank(number: int | None) -> float:
    return math.inf if number is None else number


def _ordered(series: Series) -> Series:
    instances = [replace(one, number=_number(one.number)) for one in series.instances]
    instances.sort(key=lambda one: (_rank(one.number), one.sop_instance))
    return replace(series, number=_number(series.number), instances=tuple(instances))


def ordered(manifest: StudyManifest) -> StudyManifest:
    """With numbers that FHIR has (NARROWS), and in the order that readers of FHIR give."""
    series = sorted(map(_ordered, manifest.series), key=lambda one: (_rank(one.number), one.uid))
    return replace(manifest, series=tuple(series))


def shared(manifest: StudyManifest) -> Any:
    """What both forms carry."""
    bare = replace(manifest.address, ae_title="")
    series = tuple(
        replace(one, address=replace(one.address, ae_title="") if one.address else None) for one in manifest.series
    )
    return carried(settled(replace(manifest, address=bare, series=series)), dict.fromkeys(LOST, ""))


def made_as(found: Imprint, made: Imprint) -> bool:
    return (found.unique_id, found.created_at, found.manufacturer) == (
        made.unique_id,
        made.created_at,
        made.manufacturer,
    )


def to_fhir(data: bytes) -> bytes:
    """A KOS as a Bundle."""
    reading = kos.read(data)
    return fhir.encode(reading.manifest, reading.imprint)


def to_kos(data: bytes) -> bytes:
    """A Bundle as a KOS of MADO, in a series of its own."""
    reading = fhir.read(data)
    return kos.encode(reading.manifest, replace(reading.imprint, series_uid=KOS_SERIES), profile="mado")


@settings(max_examples=40, deadline=None)
@given(manifest=MANIFESTS.map(ordered), made=IMPRINTS)
def test_from_kos_to_fhir_nothing_is_lost_that_both_carry(manifest: StudyManifest, made: Imprint) -> None:
    found = fhir.read(to_fhir(kos.encode(manifest, made, profile="mado")))
    assert shared(found.manifest) == shared(manifest)
    assert made_as(found.imprint, made)


@settings(max_examples=40, deadline=None)
@given(manifest=MANIFESTS.map(ordered), made=IMPRINTS)
def test_from_fhir_to_kos_nothing_is_lost_that_both_carry(manifest: StudyManifest, made: Imprint) -> None:
    found = kos.read(to_kos(fhir.encode(manifest, made)))
    assert shared(found.manifest) == shared(manifest)
    assert made_as(found.imprint, made)


@settings(max_examples=25, deadline=None)
@given(manifest=MANIFESTS.map(ordered), made=IMPRINTS)
def test_there_and_back_again_gives_the_same_bytes(manifest: StudyManifest, made: Imprint) -> None:
    once = to_fhir(kos.encode(manifest, made, profile="mado"))
    assert to_fhir(to_kos(once)) == once


@pytest.mark.full
@settings(max_examples=2000, deadline=None)
@given(manifest=MANIFESTS.map(ordered), made=IMPRINTS)
def test_full_there_and_back_again_gives_the_same_bytes(manifest: StudyManifest, made: Imprint) -> None:
    once = to_fhir(kos.encode(manifest, made, profile="mado"))
    assert shared(fhir.read(once).manifest) == shared(manifest)
    assert to_fhir(to_kos(once)) == once


def test_the_document_keeps_its_uid_in_both_forms() -> None:
    assert kos.read(to_kos(fhir.encode(FULL, MADE))).imprint.unique_id == "2.25.111"


def test_what_both_forms_lose_is_little() -> None:
    assert {
        "study_id",
        "address.ae_title",
        "series.address.ae_title",
        "series.instances.note.references",
        "patient.ins.status",
        "patient.traits.given_names",
        "patient.traits.used_name",
        "patient.traits.used_given_name",
        "patient.traits.birthplace",
    } == LOST
