"""Plants one defect in a copy of the checkout and asks its tests.

A defect is caught when a test fails: an import that breaks, a test that is not there or one that never ends says
nothing about the guard and counts as not caught. Everything is copied from one snapshot, so that a checkout that is
edited meanwhile cannot turn a test red by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from tests.mutants.defects import Defect

CHECKOUT = Path(__file__).resolve().parents[2]
COPIED = ("conf", "gateway", "indexer", "pyproject.toml", "sampler", "security", "tests")
TEST_S = 60
RUN_S = 240
_TIMED_OUT = "Failed: Timeout (>"  # as pytest-timeout says it
_FAILED = re.compile(r"^=*\s*\d+ failed\b", re.MULTILINE)
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What pytest said. ``code``: its exit code, None when it had to be killed."""

    code: int | None
    output: str
    seconds: float

    @property
    def is_green(self) -> bool:
        return self.code == 0

    @property
    def is_red(self) -> bool:
        """At least one test failed by what it found, and nothing worse happened."""
        return self.code == 1 and _FAILED.search(self.output) is not None and _TIMED_OUT not in self.output

    @property
    def last_words(self) -> str:
        lines = [line.strip("= ") for line in self.output.splitlines() if line.strip("= ")]
        return lines[-1] if lines else "no output"


def planted(text: str, defect: Defect) -> str:
    """``text`` with the defect.

    Raises:
        ValueError: what it replaces is not there, or more than once.
    """
    if text.count(defect.old) != 1:
        raise ValueError(f"{defect.name}: found {text.count(defect.old)} times in {defect.file}, wanted once")
    return text.replace(defect.old, defect.new)


@contextmanager
def copied(root: Path = CHECKOUT) -> Iterator[Path]:
    """A copy of the parts of the checkout that tests need, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="poterne-mutant-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "checkout"
        copy.mkdir()
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=_LEFT_OUT)
            else:
                shutil.copy2(root / name, copy / name)
        yield copy


def run_tests(copy: Path, tests: Sequence[str], *, run_s: float = RUN_S) -> Run:
    """Run ``tests`` on the packages of ``copy``, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    command += ["-p", "tests.mutants.origin", "--durations=0", "--tb=line", "-r", "N", f"--timeout={TEST_S}"]
    command += [f"--basetemp={copy.parent / 'tmp'}", *tests]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "POTERNE_"))}
    env |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}  # the path also serves processes tests start
    begun = monotonic()
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=run_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Run(code=None, output=output, seconds=monotonic() - begun)
    return Run(code=process.returncode, output=output, seconds=monotonic() - begun)


def try_defect(defect: Defect, *, root: Path = CHECKOUT) -> Run:
    """Plant the defect in a fresh copy of ``root`` and run its tests."""
    with copied(root) as copy:
        target = copy / defect.file
        target.write_text(planted(target.read_text(encoding="utf-8"), defect), encoding="utf-8")
        return run_tests(copy, defect.tests)


def try_nothing(tests: Sequence[str], *, root: Path = CHECKOUT) -> Run:
    """Run the tests on an unmodified copy: what is red without a defect proves nothing with one."""
    with copied(root) as copy:
        return run_tests(copy, tests, run_s=4 * RUN_S)
