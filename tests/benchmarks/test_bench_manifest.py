"""How long the manifest of a large study takes, from the PACS's answer to the bytes of the KOS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileDataset

from indexer import kos
from indexer.assemble import assemble
from indexer.manifest import StudyManifest, content_hash, edition, imprint
from indexer.reading import Profile, Reading
from indexer.study import Instance, Series, Study
from security.identity import Uid
from tests.benchmarks.figures import Figure, publish, quantile
from tests.fixtures import kos as kos_fixture
from tests.fixtures.exams import CT, EDITION, PATIENT, REPORT, SITE, STUDY

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

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


def _p50_ms(work: Callable[[], object], *, runs: int = RUNS) -> float:
    work()
    times = []
    for _ in range(runs):
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


SIZES = (1, 100, 1300, 10_000)


def _exam(instances: int) -> StudyManifest:
    """An exam of one to four series, every field of a MADO group stated."""
    root, series_count = "1.2.250.1.999.10.1", min(SERIES, instances)
    series = tuple(
        replace(
            kos_fixture.EXAM.series[0],
            uid=Uid(f"{root}.{s}"),
            number=s,
            instances=tuple(
                Instance(sop_class=CT, sop_instance=Uid(f"{root}.{s}.{n}"), number=n)
                for n in range(1, instances // series_count + 1)
            ),
        )
        for s in range(1, series_count + 1)
    )
    return replace(kos_fixture.EXAM, series=series)


def _decoded(source: Dataset) -> int:
    """Every element decoded, as a plain pydicom reader of the document would look at them."""
    return sum(
        sum(_decoded(item) for item in element.value) if element.VR == "SQ" else len(str(element.value)) > 0
        for element in source
    )


@pytest.mark.parametrize("profile", get_args(Profile))
def test_bench_kos_of_every_size(profile: Profile) -> None:
    figures = []
    for size in SIZES:
        manifest = _exam(size)
        runs = 3 if size > 1300 else 9
        data = kos_fixture.written(profile, manifest=manifest)
        source = dcmread(BytesIO(data))
        _decoded(source)

        def plain_write(source: FileDataset = source) -> bytes:
            out = BytesIO()
            dcmwrite(out, FileDataset(out, _rebuilt(source), file_meta=source.file_meta, preamble=bytes(128)))
            return out.getvalue()

        def plain_read(data: bytes = data) -> int:
            return _decoded(dcmread(BytesIO(data)))

        def ours(manifest: StudyManifest = manifest) -> bytes:
            return kos_fixture.written(profile, manifest=manifest)

        def read(data: bytes = data) -> Reading:
            return kos.read(data)

        writing, by_pydicom = _p50_ms(ours, runs=runs), _p50_ms(plain_write, runs=runs)
        reading, decoding = _p50_ms(read, runs=runs), _p50_ms(plain_read, runs=runs)
        checking = _p50_ms(lambda data=data: kos.check(data), runs=runs)  # type: ignore[misc]  # bound on purpose
        figures += [
            Figure(what=f"{size} instances, {len(data)} bytes: kos.encode", value=writing, unit="ms p50",
                   ratios={BUILT: writing / by_pydicom}),
            Figure(what=f"{size} instances: kos.read", value=reading, unit="ms p50",
                   ratios={"pydicom: dcmread, every element decoded": reading / decoding}),
            Figure(what=f"{size} instances: kos.check", value=checking, unit="ms p50"),
        ]  # fmt: skip
        found = kos.read(data)
        assert sum(len(one.instances) for one in found.manifest.series) == size
    publish(f"kos-{profile}", figures, conditions="1 to 4 series; p50 of 9 runs, of 3 for 10,000 instances")
