"""``poterne demo`` as a newcomer runs it, and with one thing broken at a time."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gateway.lab import raw_query


def _demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", "demo", *words],
        capture_output=True,
        text=True,
        timeout=110,
        stdin=subprocess.DEVNULL,
        check=False,
        env=os.environ | {"LC_ALL": "en_GB.UTF-8"},
    )


def test_the_demo_publishes_five_exams_of_five_modalities_holds_one_and_lets_one_wait() -> None:
    ran = _demo("--json")
    assert ran.returncode == 0, ran.stderr
    outcomes = json.loads(ran.stdout)
    indexed = [outcome for outcome in outcomes if outcome["state"] == "indexed"]
    assert len(indexed) == 5
    assert (
        len(
            {code for outcome in indexed for code in outcome["entries"][0]["event_codes"]}
            & {"CT", "MR", "DX", "US", "NM"}
        )
        >= 4
    )
    assert [outcome["state"] for outcome in outcomes if outcome["state"] != "indexed"] == ["held", "waiting"]
    assert all(outcome["seconds_to_index"] < 30 for outcome in indexed)


def test_the_demo_tells_a_person_each_timeline_and_each_entry() -> None:
    ran = _demo()
    assert ran.returncode == 0, ran.stderr
    assert "PACS: Orthanc" in ran.stdout or "Orthanc is not installed" in ran.stdout
    assert ran.stdout.count("in the index, asked by raw SOAP: 2.25.") == 5
    assert "HELD  birth dates differ [identity-birth-date]" in ran.stdout
    assert "WAITING  not in the PACS yet [pacs-has-no-such-study]" in ran.stdout
    assert "all as expected" in ran.stdout


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("index-stopped", "expected indexed, is waiting (index-"),
        ("pacs-emptied", "expected indexed, is waiting (pacs-has-no-such-study"),
        ("trait-altered", "expected indexed, is held (identity-birth-date"),
    ],
)
def test_the_demo_exits_1_and_names_what_was_broken(fault: str, named: str) -> None:
    ran = _demo("--fault", fault, "--wait-s", "6")
    assert ran.returncode == 1
    assert named in ran.stderr


@pytest.mark.parametrize(("name", "code"), [("TERM", 143), ("HUP", 129)])
@pytest.mark.parametrize("part", ["pki", "index.toml", "gateway.ready"])
def test_a_demo_that_is_told_to_end_leaves_no_process_and_no_file(
    tmp_path: Path, name: str, code: int, part: str
) -> None:
    with subprocess.Popen(
        ["env", f"--default-signal={name}", sys.executable, "-m", "gateway.cli", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as demo:
        ends = time.monotonic() + 60
        while not list(tmp_path.glob(f"poterne-demo-*/{part}")):
            assert demo.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.02)
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(getattr(signal, f"SIG{name}"))
        _, said = demo.communicate(timeout=60)

    assert (demo.returncode, said) == (code, "")
    assert [child for child in children if child.is_running()] == []
    assert _processes_naming(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def _processes_naming(text: str) -> list[int]:
    """Every process whose command line names ``text``, as those of a site name its directory."""
    found = psutil.process_iter(["pid", "cmdline"])
    return [process.info["pid"] for process in found if text in " ".join(process.info["cmdline"] or [])]


def test_the_outside_question_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(raw_query.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
