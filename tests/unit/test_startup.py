"""What a process refuses to start without: libraries at their floor, memory that nobody reads, no switch that opens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import schema_text
from security.errors import Broken
from security.startup import FLOORS, require_floors
from security.store.sqlite import LIBRARY_MIN

ROOT = Path(__file__).resolve().parents[2]
_OPEN = re.compile(
    r"no_?auth|disable|insecure|skip_|without_auth|anonymous|debug|verify|allow_all|unsafe|bypass|trust_all"
)


@pytest.mark.parametrize(
    ("name", "version"),
    [("aiohttp", "3.13.3"), ("aiohttp", "3.9.5"), ("pydicom", "3.0.1"), ("pydicom", "3.0"), ("apsw", "3.46.1.0")],
)
def test_t61_one_library_below_its_floor_stops_the_start(name: str, version: str) -> None:
    with pytest.raises(Broken) as caught:
        require_floors(lambda asked: version if asked == name else metadata.version(asked))
    assert caught.value.code == "dependency-floor"
    assert name in str(caught.value)


@pytest.mark.parametrize("version", ["3.13.4", "3.13.10", "3.14", "4.0.0rc1"])
def test_a_library_at_or_above_its_floor_is_taken(version: str) -> None:
    require_floors(lambda asked: version if asked == "aiohttp" else metadata.version(asked))


def test_t61_what_is_locked_and_declared_is_above_every_floor() -> None:
    locked = (ROOT / ".ci/lock/run.txt").read_text()
    for name in FLOORS:
        pinned = re.search(rf"^{name}==(\S+)", locked, re.MULTILINE)
        assert pinned is not None, name
        require_floors(lambda asked, name=name, pinned=pinned: pinned[1] if asked == name else "999")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.match(r"([\w.-]+)(?:\[\w+\])?>=(\S+)", line).groups() for line in declared)  # type: ignore[union-attr,misc]
    require_floors(lambda asked: floors[asked])
    assert LIBRARY_MIN >= (3, 51, 3)


def test_t66_every_locked_file_has_its_hash_and_another_file_is_refused(tmp_path: Path) -> None:
    """A wheel whose bytes are not those of the lock: pip refuses before a byte of it is unpacked."""
    for lock in ("run", "dev"):
        entries = re.findall(
            r"^[\w.-]+(?:\[[\w,]+\])?==.*?(?=^\S|\Z)",
            (ROOT / f".ci/lock/{lock}.txt").read_text(),
            re.MULTILINE | re.DOTALL,
        )
        assert len(entries) > 20
        assert all("--hash=sha256:" in entry for entry in entries)
    assert "--require-hashes" in (ROOT / ".ci/setup").read_text()
    wheel = tmp_path / "harmless-1.0-py3-none-any.whl"
    wheel.write_bytes(b"PK\x05\x06" + bytes(18))
    asked = tmp_path / "lock.txt"
    asked.write_text(f"harmless @ {wheel.as_uri()} --hash=sha256:{'0' * 64}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--require-hashes", "--target", tmp_path / "to", "-r", asked],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout + done.stderr


_CHILD = """
import resource
from pathlib import Path
from security.startup import protect_memory
protect_memory()
import ctypes
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_t60_no_core_is_written_and_the_process_is_not_dumpable() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "(0, 0) 0"  # prctl(PR_GET_DUMPABLE)


def test_t60_the_command_protects_itself_before_it_reads_anything() -> None:
    said = "import gateway.cli as c, ctypes; c.app = lambda: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)); c.main()"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "0"


def _keys(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, inner in node.get("properties", {}).items():
            yield name, inner
        for inner in node.values():
            yield from _keys(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _keys(inner)


def test_ff44_no_setting_turns_authentication_off() -> None:
    found = dict(_keys(json.loads(schema_text())))
    assert len(found) > 100
    assert [name for name in found if _OPEN.search(name)] == []


def test_ff44_no_setting_that_is_a_secret_has_a_default() -> None:
    secret = re.compile(r"(kek|password|secret|key)_file$")
    seen = [(name, inner) for name, inner in _keys(json.loads(schema_text())) if secret.search(name)]
    assert len(seen) >= 5
    assert [name for name, inner in seen if inner.get("default")] == []
