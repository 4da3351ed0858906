"""What fuzzing found interesting is replayed in every run; the fuzzing itself runs in ``make test-full`` (T05, T13, T20,
T22)."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.fuzz import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
SECONDS = int(os.environ.get("POTERNE_FUZZ_S", "300"))
RUNS_A_SECOND = {"dimse": 1000, "mime": 300, "soap": 100, "hl7": 30, "kos": 10}
"""What a run makes at least on a loaded machine; fewer, and the target does not reach its parser any more."""


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_replayed_without_a_surprise(name: str) -> None:
    module = import_module(f"tests.fuzz.{name}")
    found = sorted((CORPUS / name).iterdir())
    assert len(found) >= 30
    for data in (*module.seeds(), *(path.read_bytes() for path in found)):
        module.target(data)
        module.target(data[:-7])


@pytest.mark.full
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("name", TARGETS)
def test_t05_minutes_of_fuzzing_find_nothing(tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris for this machine (only x86_64 with Python 3.11)")
    command = [sys.executable, "-m", "tests.fuzz", name, str(tmp_path), str(SECONDS), str(CORPUS / name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    runs = re.search(r"Done (\d+) runs in (\d+) second", said)
    assert runs is not None
    print(f"\n{name}: {runs[0]}")
    assert int(runs[1]) > RUNS_A_SECOND[name] * SECONDS
