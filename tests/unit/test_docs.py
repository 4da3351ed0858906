"""What the documents state about the code is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from indexer.timeline import MISSING

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_reasons_says_what_the_commands_say() -> None:
    page = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(rows) == MISSING


@pytest.mark.parametrize("page", ["docs/status.md", "docs/peers.md", "docs/architecture.md", "README.md"])
def test_every_path_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|docs|conf|gateway|indexer|security)/[\w./*-]+)`", text)
    named += re.findall(r"\]\(([\w./-]+)\)", text)
    base = (ROOT / page).parent
    missing = [name for name in named if not list(ROOT.glob(name)) and not (base / name).exists()]
    assert missing == []
