"""What a Bundle costs: written directly against the same by objects of fhir.resources; read, and checked."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from indexer import fhir
from indexer.fhir.document import opened
from indexer.fhir.structure import faults
from tests.benchmarks.figures import Figure, publish, quantile
from tests.fixtures.fhir_manifests import MADE, large
from tests.support.fhir_objects import by_objects

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

SIZES = {1: 200, 100: 100, 1300: 25, 10_000: 9}  # instances: runs
OBJECTS = "fhir.resources: one object for each element"


def _p50_ms(work: Callable[[], object], runs: int) -> float:
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return quantile(times, 0.5)


@pytest.mark.parametrize("instances", SIZES)
def test_bench_bundle(instances: int) -> None:
    manifest, runs = large(instances), SIZES[instances]
    data = fhir.encode(manifest, MADE)
    assert by_objects(manifest, MADE) == data
    direct, objects = (
        _p50_ms(lambda: fhir.encode(manifest, MADE), runs),
        _p50_ms(lambda: by_objects(manifest, MADE), runs),
    )
    publish(
        f"FHIR Bundle of {instances} instances",
        [
            Figure(what="fhir.encode", value=direct, unit="ms p50", ratios={OBJECTS: direct / objects}),
            Figure(what=OBJECTS, value=objects, unit="ms p50", ratios={"fhir.encode": objects / direct}),
            Figure(what="fhir.read, with every deviation", value=_p50_ms(lambda: fhir.read(data), runs), unit="ms p50"),
            Figure(what="… of which fhir.resources", value=_p50_ms(lambda: faults(opened(data).bundle), runs), unit="ms p50"),
        ],
        conditions=f"{len(data)} bytes, {len(manifest.series)} series, {runs} runs",
    )  # fmt: skip
    assert fhir.read(data).manifest.series == manifest.series
