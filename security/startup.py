"""What every process of the house makes sure of before it does anything (T60, T61).

Invariants:

* a library below its floor stops the start: below it lies a published hole or a loss of data;
* memory is not written to disk by a crash, and another process of the same user cannot read it.

Leaves to others: the engine's own version (``security.store.sqlite``), modes of secret files (``security.secrets``).
"""

from __future__ import annotations

import ctypes
import re
import resource
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Final

from security.errors import Broken

FLOORS: Final[Mapping[str, tuple[str, str]]] = {
    "aiohttp": ("3.13.4", "CVE-2025-69228, CVE-2026-22815, CVE-2026-34516, CVE-2026-34517"),
    "apsw": ("3.51.3.0", "SQLite 3.7.0 to 3.51.2 can corrupt a database in WAL mode"),
    "pydicom": ("3.0.2", "CVE-2026-32711"),
    "pynetdicom": ("3.0.4", "the last release whose behaviour was measured"),
}
"""Distribution → least version and why."""
_PR_SET_DUMPABLE: Final = 4  # prctl(2)
_NUMBER = re.compile(r"\d+")


def require_floors(installed: Callable[[str], str] = metadata.version) -> None:
    """Refuse to go on with a library that is too old.

    Raises:
        Broken: ``dependency-floor``.
    """
    for name, (floor, why) in FLOORS.items():
        found = installed(name)
        if _numbers(found) < _numbers(floor):
            raise Broken(
                f"{name} {found} is installed, at least {floor} is needed ({why})",
                code="dependency-floor",
                hint="install the release with its own lock file: nothing else was tried together",
            )


def protect_memory() -> None:
    """No core file, and no other process of this user looks into this one.

    Raises:
        Broken: ``process-unprotected`` the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise Broken(
            "the kernel does not let this process protect its memory",
            code="process-unprotected",
            hint="run it on Linux, without a filter on prctl",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers a release begins with; what follows them (rc, post) does not count."""
    return tuple(int(part[0]) for one in version.split(".")[:4] if (part := _NUMBER.match(one)))
