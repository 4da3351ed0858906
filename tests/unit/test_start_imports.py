"""What a command has to load before it can answer: the price of its start."""

from __future__ import annotations

import subprocess
import sys

import pytest

DICOM = ("numpy", "pydicom", "pynetdicom")


def loaded(module: str) -> set[str]:
    """The DICOM libraries that a fresh interpreter holds after importing ``module``."""
    asks = f"import sys, {module}; print(*[one for one in {DICOM!r} if one in sys.modules])"
    return set(
        subprocess.run([sys.executable, "-c", asks], check=True, capture_output=True, text=True).stdout.split()
    )


@pytest.mark.parametrize("module", ["gateway.cli", "gateway.views"])
def test_what_only_reads_the_database_loads_no_dicom_library(module: str) -> None:
    assert loaded(module) == set()


def test_the_list_of_received_objects_does_because_notes_are_read_with_one() -> None:
    assert "pydicom" in loaded("gateway.received")
