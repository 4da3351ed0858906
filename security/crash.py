"""Named points at which a test may kill the process, as a power switch would (F01).

``POTERNE_CRASH_AT=name#n`` sends SIGKILL to this process the n-th time it reaches that point (``#1`` when
absent); ``POTERNE_CRASH_TRACE=file`` appends each name as it is passed, which is how a test learns the list.
With neither variable set a point costs one attribute look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

_target, _, _nth = os.environ.get("POTERNE_CRASH_AT", "").partition("#")
_trace = os.environ.get("POTERNE_CRASH_TRACE", "")
_armed = bool(_target or _trace)
_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Pass the point ``name``; do not come back if it is the one asked for."""
    if not _armed:
        return
    _passed[name] += 1
    if _trace:
        with Path(_trace).open("a", encoding="ascii") as out:
            out.write(name + "\n")
    if name == _target and _passed[name] == int(_nth or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
