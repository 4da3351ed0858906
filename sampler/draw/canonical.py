"""The bytes of a JSON value that are hashed and signed: RFC 8785, restricted.

Only strings, integers, booleans, null, arrays and objects with ASCII names. Fractions are refused, because two
languages may write one differently; so are integers beyond 2^53 − 1, which RFC 8785 §3.2.2.3 would round.

Invariants: two equal values give the same bytes; whoever reads the bytes as JSON gets the value back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from sampler.draw import faults

INTEGER_MAX = 2**53 - 1


def canonical(value: Any, *, what: str) -> bytes:
    """The restricted RFC 8785 form. Raises BadInput ``E_CANONICAL`` for a value that has none."""
    for one in _inside(value):
        if isinstance(one, float) or (isinstance(one, int) and abs(one) > INTEGER_MAX):
            raise faults.refused(faults.CANONICAL, f"{what}: a number is no integer of at most 53 bits")
        if one is not None and not isinstance(one, str | int | list | dict):
            raise faults.refused(faults.CANONICAL, f"{what}: a value of type {type(one).__name__} is no JSON")
        if isinstance(one, dict) and not all(isinstance(name, str) and name.isascii() for name in one):
            raise faults.refused(faults.CANONICAL, f"{what}: a name is not ASCII")
    # json escapes exactly what RFC 8785 §3.2.2.2 escapes, and ASCII names sort as UTF-16 does (§3.2.3).
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise faults.refused(faults.CANONICAL, f"{what}: a string holds half a character") from None


def digest(label: str, value: Any, *, what: str) -> bytes:
    """SHA-256 over ``drim-draw/1/<label>``, a zero byte and the canonical form."""
    return hashlib.sha256(labelled(label) + canonical(value, what=what)).digest()


def labelled(label: str) -> bytes:
    """The beginning of every hashed message, which keeps messages of different kinds apart."""
    return b"drim-draw/1/" + label.encode("ascii") + b"\x00"


def _inside(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
