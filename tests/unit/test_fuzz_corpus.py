"""What fuzzing found interesting is replayed in every run; the fuzzing itself runs in ``make test-full`` (T05, T13)."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.dimse import target

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
SECONDS = int(os.environ.get("POTERNE_FUZZ_S", "300"))


def test_the_corpus_is_replayed_without_a_surprise() -> None:
    found = sorted(CORPUS.iterdir())
    assert len(found) >= 50
    for path in found:
        target(path.read_bytes())


@pytest.mark.full
@pytest.mark.timeout(SECONDS + 300)
def test_t05_minutes_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris for this machine (only x86_64 with Python 3.11)")
    command = [sys.executable, "-m", "tests.fuzz", str(tmp_path), str(SECONDS), str(CORPUS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    runs = re.search(r"Done (\d+) runs in (\d+) second", said)
    assert runs is not None
    print(f"\n{runs[0]}")
    assert int(runs[1]) > 1000 * SECONDS
