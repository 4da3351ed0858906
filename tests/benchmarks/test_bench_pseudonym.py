"""DICOM objects made pseudonymous: files a second and what stayed, beside dicom-anonymizer, deid and dicognito.

Each tool runs in an environment of its own that the benchmark makes from the package index, over the same files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from security.parse.dicom import quiet
from tests.benchmarks.figures import Figure, publish
from tests.fixtures.pseudonym_objects import MARKER, image, item, plant, written

FILES = int(os.environ.get("POTERNE_BENCH_FILES", "200"))
RIVALS = {"dicom-anonymizer": "2.1.0", "deid": "0.4.13", "dicognito": "0.19.0"}
RUNS = ("poterne", "poterne, not searched", "dicom-anonymizer", "deid", "deid, sequences stripped", "dicognito")
SCRIPT = Path(__file__).with_name("pseudonym_rivals.py")
pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The interpreter of each tool's own environment. ``POTERNE_BENCH_VENVS`` keeps them between runs."""
    kept = os.environ.get("POTERNE_BENCH_VENVS")
    home = Path(kept) if kept else tmp_path_factory.mktemp("environments")
    found = dict.fromkeys(RUNS, sys.executable)
    for tool, version in RIVALS.items():
        place = home / tool
        if not place.exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run([str(place / "bin/pip"), "install", "-q", f"{tool}=={version}"], check=True)
        found |= {run: str(place / "bin/python") for run in RUNS if run.split(",")[0] == tool}
    return found


def slice_of(number: int) -> Dataset:
    """A CT slice as a scanner sends it: 512 × 512, an order, a reference, a private block."""
    ct = image(number=number, rows=512, columns=512)
    ct.PixelData = np.random.default_rng(number).integers(0, 4096, 512 * 512, dtype="<u2").tobytes()
    ct.RequestAttributesSequence = [item(RequestedProcedureID="RP-26030477", ScheduledProcedureStepID="SPS-1")]
    ct.ReferencedImageSequence = [item(ReferencedSOPInstanceUID=f"{ct.SeriesInstanceUID}.9")]
    block = ct.private_block(0x0019, "ACME CT", create=True)
    for element in range(0x10, 0x40):
        block.add_new(element, "LO", f"parameter {element}")
    return ct


def run(tool: str, python: str, source: Path, target: Path) -> dict[str, float]:
    target.mkdir()
    done = subprocess.run(
        [python, str(SCRIPT), tool, str(source), str(target)], capture_output=True, text=True, check=False, cwd=target
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["refused"]:
        print(done.stderr.strip().splitlines()[-1])
    return found


def stayed(path: Path) -> tuple[int, int]:
    """Attributes that hold a marker at the root and inside sequences."""
    with quiet():
        data_set = dcmread(path, force=True)

        def count(level: Dataset) -> int:
            plain = sum(
                MARKER.encode() in (e.value if isinstance(e.value, bytes) else str(e.value).encode())
                for e in level
                if e.VR != "SQ"
            )
            return plain + sum(count(inner) for e in level if e.VR == "SQ" for inner in e.value)

        root = sum(MARKER in str(e.value) for e in data_set if e.VR != "SQ")
        return root, count(data_set) - root


def test_files_a_second_and_what_stayed(tmp_path: Path, pythons: dict[str, str]) -> None:
    slices, marked = tmp_path / "slices", tmp_path / "marked"
    slices.mkdir()
    marked.mkdir()
    for number in range(1, FILES + 1):
        (slices / f"{number}.dcm").write_bytes(written(slice_of(number)))
    for number in range(1, 4):
        ct = image(number=number)
        plant(ct)
        (marked / f"{number}.dcm").write_bytes(written(ct, preamble=(MARKER * 20).encode()[:128]))
    speeds = {tool: run(tool, python, slices, tmp_path / f"fast {tool}") for tool, python in pythons.items()}
    left: list[str] = []
    for tool, python in pythons.items():
        if not run(tool, python, marked, tmp_path / f"left {tool}")["refused"]:
            left.append(tool)
    ours = speeds["poterne"]
    figures = [
        Figure(
            what=f"{tool}: files a second of processor",
            value=found["written"] / found["cpu"],
            unit="files/s",
            ratios={} if tool == "poterne" else {"poterne": ours["cpu"] / found["cpu"]},
        )
        for tool, found in speeds.items()
    ]
    figures += [
        Figure(what=f"{tool}: files a second of wall", value=found["written"] / found["wall"], unit="files/s")
        for tool, found in speeds.items()
    ]
    planted = stayed(marked / "1.dcm")
    figures += [
        Figure(what=f"markers planted, {place}", value=n, unit="attributes")
        for place, n in zip(("root", "in sequences"), planted, strict=True)
    ]
    for tool in left:
        file = tmp_path / f"left {tool}" / "1.dcm"
        root, nested = stayed(file)
        figures.append(Figure(what=f"{tool}: stayed at the root", value=root, unit="attributes"))
        figures.append(Figure(what=f"{tool}: stayed in sequences", value=nested, unit="attributes"))
        figures.append(
            Figure(
                what=f"{tool}: stayed in the file's bytes",
                value=file.read_bytes().count(MARKER.encode()),
                unit="markers",
            )
        )
    assert "poterne" in left
    publish(
        "DICOM objects made pseudonymous", figures,
        conditions=f"{FILES} CT slices of 512 × 512 for speed, one process each; 3 marked objects; ours reads its result again and searches it",
    )  # fmt: skip
    for number in range(1, 4):
        data = (tmp_path / "left poterne" / f"{number}.dcm").read_bytes()
        assert MARKER.encode() not in data
        assert dcmread(BytesIO(data)).PixelData == image(number=number).PixelData
