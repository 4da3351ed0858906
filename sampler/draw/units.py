"""What can be drawn: a frame of units, its order, leaves and root, and the proof of each unit (§5.1).

Invariants:

* units stand in bytewise order of their id, whatever order they came in; a unit stands once;
* the leaf of a unit is ``unit|stratum|practitioner`` and a line feed; the root is that of RFC 6962 over the leaves;
* a frame is immutable: another set of units has another root.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from sampler.draw import faults
from security.audit.tree import inclusion_paths, root_of

TOKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = re.compile(rf"{TOKEN.pattern}\|{TOKEN.pattern}\|{TOKEN.pattern}\n")
_COLUMNS = ("unit", "stratum", "practitioner")


class Unit(NamedTuple):
    """One thing that can be drawn: an exam under its pseudonym, or an audit file (second level)."""

    unit: str
    stratum: str
    practitioner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a leaf is number ``index`` of a tree of ``size``: the siblings from the leaf up (RFC 6962 §2.1.1)."""

    index: int
    size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Units in their order, the root over them, and how many each stratum has."""

    units: Sequence[Unit]
    root: bytes
    strata: Mapping[str, int]

    def find(self, unit: str) -> Unit | None:
        """The unit of that id."""
        at = self._index(unit)
        return None if at is None else self.units[at]

    def of(self, stratum: str) -> list[Unit]:
        """The units of one stratum, in the frame's order."""
        return [one for one in self.units if one[1] == stratum]

    def proofs(self, units: Collection[str]) -> dict[str, Proof]:
        """The inclusion proof of each, in one walk over the frame. Raises KeyError for one that it does not hold."""
        at = {unit: self._index(unit) for unit in units}
        wanted = {}
        for unit, index in at.items():
            if index is None:
                raise KeyError(unit)
            wanted[unit] = index
        paths = inclusion_paths(list(_leaves(self.units)), wanted.values())
        return {
            unit: Proof(index=index, size=len(self.units), path=tuple(paths[index])) for unit, index in wanted.items()
        }

    def _index(self, unit: str) -> int | None:
        at = bisect_left(self.units, unit, key=itemgetter(0))
        return at if at < len(self.units) and self.units[at][0] == unit else None


def commit(rows: Iterable[Unit]) -> Frame:
    """The frame of these units, in any order.

    Raises:
        BadInput: ``E_EMPTY_FRAME``, ``E_TOKEN`` (row and column named) or ``E_DUPLICATE_UNIT``.
    """
    given = list(rows)
    if not given:
        raise faults.refused(faults.EMPTY_FRAME, "the frame holds no unit")
    matches = _LINE.fullmatch
    for number, one in enumerate(given, start=1):
        if matches("%s|%s|%s\n" % one) is None:  # noqa: UP031 - a third of the time, a million times
            column = next(name for name, cell in zip(_COLUMNS, one, strict=True) if not TOKEN.fullmatch(cell))
            raise faults.refused(faults.TOKEN, f"frame, row {number}: {column} is not a token")
    given.sort(key=itemgetter(0))  # tokens are ASCII: the order of characters is that of bytes
    for number, (one, other) in enumerate(pairwise(given), start=1):
        if one[0] == other[0]:
            raise faults.refused(
                faults.DUPLICATE_UNIT, f"frame: a unit stands twice, at places {number} and {number + 1} of the order"
            )
    return Frame(units=given, root=root_of(_leaves(given)), strata=dict(sorted(Counter(o[1] for o in given).items())))


def line(unit: Unit) -> bytes:
    """The bytes of a leaf before they are hashed."""
    return b"%s|%s|%s\n" % tuple(cell.encode("ascii") for cell in unit)


def leaf_hash(unit: Unit) -> bytes:
    """SHA-256 over 0x00 and the line (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x00" + line(unit)).digest()


def sides(index: int, size: int) -> list[str]:
    """On which side of the path each sibling of a proof stands, from the leaf up: ``L`` or ``R``."""
    if size == 1:
        return []
    half = 1 << ((size - 1).bit_length() - 1)
    if index < half:
        return [*sides(index, half), "R"]
    return [*sides(index - half, size - half), "L"]


def _leaves(units: Iterable[Unit]) -> Iterator[bytes]:
    sha256 = hashlib.sha256
    for one in units:
        yield sha256(("\0%s|%s|%s\n" % one).encode("ascii")).digest()  # noqa: UP031 - as above
