"""Pytest plugin of a planted copy: refuse to test any other code than the one in the working directory.

The packages are installed as editable, so a wrong search path would silently test the unmodified checkout.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ("gateway", "indexer", "sampler", "security", "tests")


def pytest_sessionstart() -> None:
    here = Path.cwd().resolve()
    for name in PACKAGES:
        found = Path(import_module(name).__file__ or "/").resolve()
        if not found.is_relative_to(here):
            pytest.exit(f"{name} comes from {found.parent}, not from {here}", returncode=pytest.ExitCode.USAGE_ERROR)
