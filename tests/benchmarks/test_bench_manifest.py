"""How long the manifest of a large study takes, from the PACS's answer to the bytes of the KOS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from zoneinfo import ZoneInfo

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileDataset

from indexer import kos
from indexer.assemble import assemble
from indexer.manifest import content_hash, edition, imprint
from indexer.study import Instance, Series, Study
from security.identity import Uid
from tests.benchmarks.figures import Figure, publish, quantile
from tests.fixtures.exams import CT, EDITION, PATIENT, REPORT, SITE, STUDY

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

PARIS = ZoneInfo("Europe/Paris")
SERIES, PER_SERIES = 4, 325  # 1,300 instances
RUNS = 25
BUILT, COPIED = "pydicom: Dataset built anew, dcmwrite", "pydicom: finished file, dcmread and dcmwrite undecoded"


def _large_study() -> Study:
    root = "1.2.250.1.999.10.1"
    series = tuple(
        Series(
            uid=Uid(f"{root}.{s}"),
            modality="CT",
            number=s,
            description=f"Série {s}",
            instances=tuple(
                Instance(sop_class=CT, sop_instance=Uid(f"{root}.{s}.{n}"), number=n)
                for n in range(1, PER_SERIES + 1)
            ),
        )
        for s in range(1, SERIES + 1)
    )
    return replace(STUDY, series=series)


def _p50_ms(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return quantile(times, 0.5)


def _rebuilt(source: Dataset) -> Dataset:
    """Every element set anew in a new Dataset, as a pydicom writer of this document would."""
    made = Dataset()
    for element in source:
        value = [_rebuilt(item) for item in element.value] if element.VR == "SQ" else element.value
        made.add_new(element.tag, element.VR, value)
    return made


def test_bench_manifest_of_1300_instances() -> None:
    study = _large_study()

    def ours() -> bytes:
        manifest, context = assemble([REPORT], PATIENT.ins, study, SITE)
        version = edition(
            tenant="north", study=study.uid, version=1, content=content_hash(manifest, context),
            created_at=EDITION.created_at, replaces=None,
        )  # fmt: skip
        return kos.encode(manifest, imprint(version, zone=PARIS, manufacturer="Poterne"))

    data = ours()
    read = dcmread(BytesIO(data))

    def built() -> bytes:
        out = BytesIO()
        dcmwrite(out, FileDataset(out, _rebuilt(read), file_meta=read.file_meta, preamble=bytes(128)))
        return out.getvalue()

    def copied() -> bytes:
        out = BytesIO()
        dcmwrite(out, dcmread(BytesIO(data)))
        return out.getvalue()

    manifest, context = assemble([REPORT], PATIENT.ins, study, SITE)
    parts = {
        "… assemble": _p50_ms(lambda: assemble([REPORT], PATIENT.ins, study, SITE)),
        "… content_hash": _p50_ms(lambda: content_hash(manifest, context)),
        "… kos.encode": _p50_ms(lambda: kos.encode(manifest, imprint(EDITION, zone=PARIS, manufacturer="Poterne"))),
    }
    whole, by_pydicom, copy = _p50_ms(ours), _p50_ms(built), _p50_ms(copied)
    publish(
        "manifest",
        [
            Figure(what="assemble + content_hash + kos.encode", value=whole, unit="ms p50",
                   ratios={BUILT: whole / by_pydicom, COPIED: whole / copy}),
            *(Figure(what=name, value=value, unit="ms p50") for name, value in parts.items()),
            Figure(what=BUILT, value=by_pydicom, unit="ms p50"),
            Figure(what=COPIED, value=copy, unit="ms p50"),
        ],
        conditions=f"{SERIES * PER_SERIES} instances in {SERIES} series, {len(data)} bytes, {RUNS} runs",
    )  # fmt: skip
    again = dcmread(BytesIO(built()))
    assert again == read
    (evidence,) = again.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(one.ReferencedSOPSequence) for one in evidence.ReferencedSeriesSequence) == 1300
