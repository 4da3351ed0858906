"""A TLS scanner that is not ours: PyPI's sslyze, installed from the lock beside this file into an environment of its own,
for it wants other versions of what the product uses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_LOCK = Path(__file__).parent / "requirements.txt"


def installed(cache: Path) -> Path:
    """The sslyze command, made below ``cache`` when it is not there. Where it cannot be installed the calling test is
    skipped with the reason; it fails where ``CI`` is "true"."""
    state = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / state
    command = folder / "bin" / "sslyze"
    if command.exists():
        return command
    cache.mkdir(parents=True, exist_ok=True)
    # An environment knows its own path: it is made in place, and counts only once its command is there.
    with tempfile.TemporaryDirectory(dir=cache) as making:
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [
                str(folder / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "-qq",
                "--require-hashes",
                "--no-deps",
                "-r",
                str(_LOCK),
            ],
        ]
        for step in steps:
            try:
                done = subprocess.run(step, cwd=making, capture_output=True, text=True, timeout=100, check=False)
            except subprocess.TimeoutExpired:
                return _absent("it takes longer than 100 s to install")
            if done.returncode:
                with suppress(OSError):
                    command.unlink()
                return _absent((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return command


def scanned(
    command: Path, *, port: int, certificate: Path, key: Path, authority: Path, folder: Path
) -> tuple[Any, list[str]]:
    """The scan's facts, and what it finds against Mozilla's intermediate configuration."""
    report = folder / f"{port}.json"
    done = subprocess.run(
        [
            str(command), "--cert", str(certificate), "--key", str(key), "--certinfo_ca_file", str(authority),
            "--json_out", str(report), f"127.0.0.1:{port}",
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    findings = [line.strip(" *") for line in done.stdout.splitlines() if line.startswith("        * ")]
    (result,) = json.loads(report.read_text())["server_scan_results"]
    return result["scan_result"], findings


def _absent(reason: str) -> Path:
    if os.environ.get("CI") == "true":
        pytest.fail(f"no sslyze: {reason}")
    pytest.skip(f"no sslyze: {reason}")
