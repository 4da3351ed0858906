"""A request as it is kept: literal bytes, bytes that are stored elsewhere by name, and a credential by its digest.

Invariants:

* ``join(split(data, stored), stored) == data``, byte for byte, unless a credential was withheld;
* what is stored already is never stored again, in the clear or as Base64 text;
* a credential leaves nothing but its length and its SHA-256.

Pure.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from security.errors import Broken

_BASE64 = ";base64"
_SHORTEST = 32
"""Bytes under which a run is not worth a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run of a request. ``kind``: ``bytes`` with its ``data``; ``stored`` under ``name``, as it is or, when that
    ends so, as Base64; ``withheld``. ``length`` and ``sha256``: of the run."""

    kind: Literal["bytes", "stored", "withheld"]
    length: int
    name: str = ""
    sha256: str = ""
    data: bytes = field(default=b"", repr=False)


def split(data: bytes, stored: Mapping[str, bytes], credential: bytes = b"") -> tuple[Part, ...]:
    """``data`` without what ``stored`` holds and without ``credential``, wherever that stands in it."""
    parts: list[Part] = [_literal(data)]
    if credential:
        parts = _cut(parts, credential, "withheld", "")
    for name, content in sorted(stored.items(), key=lambda one: -len(one[1])):
        parts = _cut(parts, content, "stored", name)
        parts = _cut(parts, base64.b64encode(content), "stored", name + _BASE64)
    return tuple(parts)


def join(parts: Sequence[Part], stored: Mapping[str, bytes]) -> bytes:
    """The request again; where a credential was withheld, a comment says so.

    Raises:
        Broken: ``exchange-broken`` what a part names is not stored, or is not what it was.
    """
    return b"".join(_bytes(part, stored) for part in parts)


def to_blob(parts: Sequence[Part]) -> bytes:
    """The parts as they are kept: texts stay texts, so that they can be compressed."""
    rows = [[p.kind, p.length, p.name, p.sha256, p.data.decode("latin-1")] for p in parts]
    return json.dumps(rows).encode()


def from_blob(blob: bytes) -> tuple[Part, ...]:
    """The parts that ``to_blob`` wrote."""
    return tuple(
        Part(kind=kind, length=length, name=name, sha256=sha256, data=data.encode("latin-1"))
        for kind, length, name, sha256, data in json.loads(blob)
    )


def _literal(data: bytes) -> Part:
    return Part(kind="bytes", length=len(data), data=data)


def _cut(parts: Sequence[Part], found: bytes, kind: Literal["stored", "withheld"], name: str) -> list[Part]:
    """The parts with every occurrence of ``found`` in their literal bytes taken out."""
    if kind == "stored" and len(found) < _SHORTEST:
        return list(parts)
    made: list[Part] = []
    for part in parts:
        pieces = part.data.split(found) if part.kind == "bytes" else [b""]
        if len(pieces) == 1:
            made.append(part)
            continue
        taken = Part(kind=kind, length=len(found), name=name, sha256=hashlib.sha256(found).hexdigest())
        for number, piece in enumerate(pieces):
            made += [taken] if number else []
            made += [_literal(piece)] if piece else []
    return made


def _bytes(part: Part, stored: Mapping[str, bytes]) -> bytes:
    if part.kind == "bytes":
        return part.data
    if part.kind == "withheld":
        return f"<!-- withheld: credential, {part.length} bytes, SHA-256 {part.sha256} -->".encode()
    is_text = part.name.endswith(_BASE64)
    content = stored.get(part.name.removesuffix(_BASE64))
    found = base64.b64encode(content) if content is not None and is_text else content
    if found is None or hashlib.sha256(found).hexdigest() != part.sha256:
        raise Broken(
            f"a request cannot be put together again: {part.name} is not what it was",
            code="exchange-broken",
            hint="compare the database with its backup",
        )
    return found
