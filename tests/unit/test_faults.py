"""Every fault of the house tells a person what happened and what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGES = ("gateway", "indexer", "sampler", "security")
ROOT = Path(__file__).resolve().parents[2]
FAULTS = {"BadInput", "Refused", "Unavailable", "Broken", "Fault"}


def _raised() -> list[tuple[str, ast.Call]]:
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAULTS
        if path.name != "index.py"  # the laboratory's index has an enumeration of the same name
    ]


@pytest.mark.parametrize("keyword", ["code", "hint"])
def test_ff48_every_fault_carries_a_stable_code_and_a_next_action(keyword: str) -> None:
    raised = _raised()
    assert len(raised) > 80
    silent = [where for where, call in raised if keyword not in {word.arg for word in call.keywords}]
    assert silent == []
