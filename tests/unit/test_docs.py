"""What the documents state about the code is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gateway.manifests.forms import TARGETS
from indexer.timeline import MISSING
from tests.acceptance.test_commands import poterne
from tests.fixtures.manifest_files import MATRICULE, exam

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_reasons_says_what_the_commands_say() -> None:
    page = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(rows) == MISSING


@pytest.mark.parametrize(
    "page",
    [
        "docs/status.md",
        "docs/peers.md",
        "docs/architecture.md",
        "docs/manifests.md",
        "docs/images.md",
        "docs/why.md",
        "README.md",
    ],
)
def test_every_path_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|docs|conf|gateway|indexer|security)/[\w./*-]+)`", text)
    named += re.findall(r"\]\(([\w./-]+)\)", text)
    base = (ROOT / page).parent
    missing = [name for name in named if not list(ROOT.glob(name)) and not (base / name).exists()]
    assert missing == []


_HEAD = ("| field | how |", "|---|---|")


def _carried() -> list[str]:
    """What some form does not carry: field, one column for each target, and why; then what a Bundle narrows."""
    targets = [target for target in TARGETS if target.codes != "99IHE"]
    names = [str(target).partition(" (")[0] for target in targets]
    lines = [f"| field | {' | '.join(names)} | why not |", "|---" * (len(targets) + 2) + "|"]
    keys = dict.fromkeys(key for target in targets for key in target.loses)
    for path in keys:
        above = [path, *(path.rsplit(".", n)[0] for n in range(1, path.count(".") + 1))]
        why = [next((target.loses[one] for one in above if one in target.loses), "") for target in targets]
        marks = ["—" if reason else "✓" for reason in why]
        lines.append(f"| `{path}` | {' | '.join(marks)} | {'; '.join(dict.fromkeys(filter(None, why)))} |")
    return lines + [f"| `{path}` | {how} |" for path, how in TARGETS[-1].narrows.items()]


def test_the_page_of_manifests_says_what_each_form_carries() -> None:
    page = (ROOT / "docs/manifests.md").read_text(encoding="utf-8")
    below = page.partition("<!-- carried:")[2].splitlines()
    assert [line for line in below if line.startswith("|") and line not in _HEAD] == _carried()


def test_the_commands_of_the_page_of_manifests_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/manifests.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    exam().write(tmp_path / "exam")
    (tmp_path / "ins.txt").write_text(MATRICULE)
    monkeypatch.chdir(tmp_path)

    for command in commands:
        name, *words = shlex.split(command)
        ran = poterne(*words)
        assert (name, ran.returncode, ran.stderr) == ("poterne", 0, ""), command
    assert len(commands) >= 8
    written = {path.name for path in tmp_path.iterdir()} - {"exam", "ins.txt"}
    assert written == {"exam.dcm", "exam.json", "national.dcm", "converted.json", "back.dcm", "shared.dcm"}
