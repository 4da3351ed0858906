"""An R4 validator that is not ours: npm's ``fhir``, installed from the lock beside this file into a cache of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json", "validate.js")


def installed(cache: Path) -> Path:
    """The folder with the validator in it, made below ``cache`` when it is not there. Without node, npm or the package
    the calling test is skipped with the reason; it fails where ``CI`` is "true"."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return _absent("node or npm is not installed")
    state = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _FILES)).hexdigest()
    folder = cache / state[:16]
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as making:
        ready = Path(making) / "ready"
        ready.mkdir()
        for name in _FILES:
            shutil.copy(_HERE / name, ready)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            done = subprocess.run(command, cwd=ready, capture_output=True, text=True, timeout=100, check=False)
        except subprocess.TimeoutExpired:
            return _absent("npm ci takes longer than 100 s")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return _absent(f"npm ci: {last}")
        with suppress(OSError):  # another worker was first: its folder is as good
            ready.rename(folder)
    return folder


def validated(folder: Path, files: Sequence[Path]) -> list[dict[str, Any]]:
    """What the validator says of each file."""
    command = ["node", "validate.js", *map(str, files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _absent(reason: str) -> Path:
    if os.environ.get("CI") == "true":
        pytest.fail(f"no R4 validator: {reason}")
    pytest.skip(f"no R4 validator: {reason}")
