"""The entry for foreign JSON (T23): caps on size, values, depth and numbers, no duplicate member, no NaN.

Invariants:

* every failure is ``BadInput`` with a ``json-…`` code; no message quotes content;
* what comes back is UTF-8 clean (no lone surrogate), integers fit in 64 bits, floats are finite.

The caller checks the shape: ``member`` reads one typed member.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from security.errors import BadInput

BYTES_MAX = 8 * 1024 * 1024
DEPTH_MAX = 64
VALUES_MAX = 1_000_000  # the dearest values (one-member objects) then cost 0.9 s and 170 MB, measured
_INT64 = range(-(2**63), 2**64)  # signed and unsigned
_HINT = "the sender must send one JSON document of RFC 8259"

T = TypeVar("T")


def parse_json(data: bytes, *, what: str, limit: int = BYTES_MAX) -> Any:
    """The JSON value of ``data`` (UTF-8, at most ``limit`` bytes and ``VALUES_MAX`` values, nested at most 64 deep).

    Raises:
        BadInput: ``json-too-large``, ``json-too-many-values``, ``json-not-utf8``, ``json-too-deep``,
            ``json-duplicate-member``, ``json-bad-number`` or ``json-syntax``.
    """
    if len(data) > limit:
        raise _bad(f"{what}: {len(data)} bytes, at most {limit} are read", code="json-too-large")
    # Each value follows a comma or opens a container. Those inside texts count too: an upper bound, without decoding.
    if 1 + sum(map(data.count, (b",", b"[", b"{"))) > VALUES_MAX:
        raise _bad(f"{what}: more than {VALUES_MAX} values", code="json-too-many-values")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise _bad(f"{what}: byte {cause.start} is not UTF-8", code="json-not-utf8") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as cause:
        raise _bad(f"{what}: {cause.msg} at line {cause.lineno}", code="json-syntax") from None
    except RecursionError:
        raise _bad(f"{what}: nested too deep", code="json-too-deep") from None
    except BadInput as cause:
        raise _bad(f"{what}: {cause.args[0]}", code=cause.code) from None
    _check(value, what)
    return value


def member(record: Any, key: str, kind: type[T], *, what: str) -> T:
    """``record[key]``, which must be of type ``kind``.

    Raises:
        BadInput: ``json-shape`` the record is no object, lacks the member, or holds another type.
    """
    if not isinstance(record, Mapping) or key not in record:
        raise _bad(f"{what}: no member {key!r}", code="json-shape")
    value = record[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _bad(f"{what}: member {key!r} is not of type {kind.__name__}", code="json-shape")
    return value


def _bad(message: str, *, code: str) -> BadInput:
    return BadInput(message, code=code, hint=_HINT)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a member appears twice in one object", code="json-duplicate-member")
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in _INT64:  # 20 digits hold every 64-bit integer, sign included
        raise _bad("an integer exceeds 64 bits", code="json-bad-number")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _bad("a number exceeds the range of a double", code="json-bad-number")
    return value


def _constant(_name: str) -> float:
    raise _bad("NaN and Infinity are not JSON", code="json-bad-number")


def _check(value: Any, what: str) -> None:
    """Depth, and strings that UTF-8 can carry (an escaped lone surrogate is JSON, yet no text)."""
    level = [value]
    for depth in range(DEPTH_MAX + 1):
        texts = [item for item in level if isinstance(item, str) and not item.isascii()]
        texts += [key for item in level if isinstance(item, dict) for key in item if not key.isascii()]
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise _bad(f"{what}: a lone surrogate", code="json-not-utf8")
        containers = [item for item in level if isinstance(item, dict | list)]
        if containers and depth == DEPTH_MAX:
            raise _bad(f"{what}: nested deeper than {DEPTH_MAX}", code="json-too-deep")
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
