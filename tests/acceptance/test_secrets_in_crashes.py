"""T60: what a process writes when it dies of a defect holds no byte of a secret, wherever the defect strikes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from security.secrets import create_kek, read_kek
from tests.unit.configuration import TEXT, write

_DYING = """
import sys
import {module} as struck
from gateway import cli

def boom(*given, **named):
    secrets = [open(path).read() for path in {files!r}]
    raw = open({files!r}[0], "rb").read()
    raise RuntimeError("it broke on", secrets, raw, given, named)

struck.{name} = boom
sys.argv = {argv!r}
cli.main()
"""
_PASSWORD = "not-a-real-password"


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("gateway.flows", "flows", ("flows",)),  # a command, its settings read
        ("gateway.settings.loading", "_walk", ("flows",)),  # while the configuration is read
        ("gateway.settings.fields", "read_kek", ("check",)),  # while a key is read
        ("gateway.wiring", "read_kek", ("serve",)),  # the service, its database open
    ],
)
def test_t60_a_process_that_dies_of_a_defect_writes_no_byte_of_a_secret(
    tmp_path: Path, module: str, name: str, words: tuple[str, ...]
) -> None:
    conf = write(tmp_path, TEXT)
    (tmp_path / "kek").unlink()
    create_kek(tmp_path / "kek")
    kek = read_kek(tmp_path / "kek")
    files = [str(tmp_path / one) for one in ("kek", "password", "own.key")]
    script = _DYING.format(module=module, name=name, files=files, argv=["poterne", *words, "--conf", str(conf)])
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=tmp_path, timeout=60, check=False)
    said = died.stdout + died.stderr
    assert died.returncode != 0
    assert b"RuntimeError" in said, "who mends it sees what it was"
    line = (tmp_path / "own.key").read_text().splitlines()[1]
    for secret in (kek, kek.hex().encode(), _PASSWORD.encode(), line.encode(), repr(kek)[2:-1].encode()):
        assert secret not in said
