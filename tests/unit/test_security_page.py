"""docs/security.md: every threat has its row, and every test it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = (
    *range(1, 17),
    *range(20, 35),
    *range(40, 48),
    *range(50, 55),
    *range(60, 67),
)  # as the threat sheet numbers them
LATER = {62}
"""Rows whose surface is not built."""


def _rows() -> dict[int, list[str]]:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    return {
        int(number): re.split(r" \| ", cells)
        for number, cells in re.findall(r"^\| T(\d\d) \| (.*) \|$", page, re.MULTILINE)
    }


def test_every_threat_has_one_row_with_its_control() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^\| T(\d\d) \|", page, re.MULTILINE)] == list(ROWS)
    assert all(len(cells) == 3 and cells[1] for cells in _rows().values())


def test_every_test_that_a_row_names_is_there() -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)\(", written, re.MULTILINE))
    for number, (_, _, tests) in _rows().items():
        named = re.findall(r"`(test_\w+)`", tests)
        assert set(named) <= there, f"T{number:02}: {set(named) - there}"
        assert bool(named) != (number in LATER), f"T{number:02}"


def test_a_row_without_a_test_names_what_brings_its_surface() -> None:
    assert all(re.match(r"later: \*\w+\*", _rows()[number][1]) for number in LATER)
