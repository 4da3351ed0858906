"""Many short byte strings looked for in one pass over large binary values, without case of ASCII letters.

A table says which pairs of bytes may begin a needle and which may follow; where both do a needle is compared.
On pixel data that is much less work than one search for each needle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

SHORTEST = 4
_AT_ONCE = 4 * 1024 * 1024
_BEGINS, _FOLLOWS = np.uint8(1), np.uint8(2)  # what a pair of bytes may do in a needle


class Needles:
    """Byte strings of at least four bytes."""

    def __init__(self, wanted: Iterable[bytes]) -> None:
        self._by_start: dict[bytes, list[bytes]] = {}
        self._longest = SHORTEST
        for needle in {one.lower() for one in wanted}:
            if len(needle) >= SHORTEST:
                self._by_start.setdefault(needle[:SHORTEST], []).append(needle)
                self._longest = max(self._longest, len(needle))
        starts = tuple(self._by_start)
        self._roles = (
            _pairs(start[:2] for start in starts) * _BEGINS | _pairs(start[2:] for start in starts) * _FOLLOWS
        )

    def found(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Where a needle stands, and which one (lower case)."""
        if not self._by_start:
            return
        for begin in range(0, len(data), _AT_ONCE):
            window = data[begin : begin + _AT_ONCE + self._longest]
            lowered = window.lower()
            for place in self._candidates(window) if len(window) >= SHORTEST else ():
                if place < _AT_ONCE:
                    starts = self._by_start.get(lowered[place : place + SHORTEST], ())
                    yield from ((begin + place, n) for n in starts if lowered.startswith(n, place))

    def _candidates(self, window: bytes) -> list[int]:
        """Places where two pairs of bytes begin a needle, in order."""
        places: list[int] = []
        for offset in (0, 1):  # pairs that begin at even places, then at odd ones
            pairs = np.frombuffer(window[: len(window) - (len(window) - offset) % 2], "<u2", offset=offset)
            roles = np.take(self._roles, pairs, mode="clip")
            places += (np.flatnonzero(roles[:-1] & (roles[1:] >> 1) & _BEGINS) * 2 + offset).tolist()
        return sorted(places)


def _pairs(pairs: Iterable[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The pairs of bytes, in every case, as a table of 65,536 answers by little-endian number."""
    table = np.zeros(65_536, np.uint8)
    for first, second in pairs:
        for one in {first, *bytes([first]).upper()}:
            for other in {second, *bytes([second]).upper()}:
                table[other << 8 | one] = 1
    return table
