"""How many documents ``poterne manifest check`` judges a second, and how many files ``build`` reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread

from gateway.lab.phantom import LabStudy
from gateway.manifests.build import Wish, look_at, terms_of
from gateway.manifests.checking import judge
from gateway.manifests.forms import TARGETS, encode
from tests.benchmarks.figures import Figure, publish
from tests.fixtures.manifest_files import MADE, MATRICULE, OPTIONS, SITE, STUDY, TEST_AUTHORITY

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

FILES = 2000
PER_SERIES = 100
SECONDS = 3.0
HEADERS = "pydicom: dcmread up to the pixels, nothing kept"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT files of 8 kB of pixels."""
    place = tmp_path_factory.mktemp("large")
    study = LabStudy(
        study_uid=STUDY, patient_id="IPP1", name="FANTÔME^Zoé", birth_date="19700228", sex="F", accession="ACC1"
    )
    for _ in range(FILES // PER_SERIES):
        study.add_series("CT", instances=PER_SERIES, body_part="CHEST", description="Série")
    study.write(place)
    return place


def per_second(work: Callable[[], object]) -> float:
    work()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        work()
        done += 1
    return done / (time.perf_counter() - began)


def test_bench_build_and_check(folder: Path) -> None:
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    look = look_at([folder], charset="ISO_IR 100", progress=lambda _told: None)
    ours = FILES / (time.perf_counter() - began)
    grown = process.memory_info().rss - before
    began = time.perf_counter()
    for path in sorted(folder.iterdir()):
        dcmread(path, stop_before_pixels=True)
    theirs = FILES / (time.perf_counter() - began)
    stated = dict(zip(OPTIONS[::2], OPTIONS[1::2], strict=True))
    terms, _ = terms_of(
        Wish(
            profile="mado",
            patient_issuer=stated["--patient-issuer"],
            accession_issuer=stated["--accession-issuer"],
            institution=SITE.institution.name,
            retrieve_url=SITE.address.base,
            retrieve_location=SITE.address.location,
            retrieve_aet=SITE.address.ae_title,
            ins=MATRICULE,
            ins_authority=TEST_AUTHORITY,
        ),
        None,
    )
    manifest = look.collection.manifest(terms)
    figures = [
        Figure(what="build: files read", value=ours, unit="files/s", ratios={HEADERS: ours / theirs}),
        Figure(what=HEADERS, value=theirs, unit="files/s"),
        Figure(what="build: memory grown by", value=grown / FILES, unit="bytes/file"),
    ]
    small = replace(manifest, series=tuple(replace(one, instances=one.instances[:7]) for one in manifest.series[:3]))
    for size, made in ((21, small), (FILES, manifest)):
        for target in TARGETS:
            data = encode(target, made, MADE)
            assert judge(data).is_clean
            speed = per_second(lambda data=data: judge(data))
            figures.append(Figure(what=f"check {target}, {size} instances", value=speed, unit="documents/s"))
    publish("manifest documents", figures, conditions=f"{FILES} instances in {FILES // PER_SERIES} series")
