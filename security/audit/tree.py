"""The Merkle tree of RFC 6962 §2.1 over leaf hashes: its root, and proofs that a stranger checks with SHA-256 alone.

Invariants:

* pure; every hash is 32 bytes; a tree of no leaf has the root SHA-256 of nothing (§2.1);
* a ``Frontier`` is enough to go on: leaves that were added are not needed again;
* the checks take what a stranger has: roots, sizes, a leaf and a path, and never a leaf more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

HASH_BYTES = 32


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees: SHA-256 over 0x01, left and right."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """A tree that grows. ``peaks``: roots of its complete subtrees, largest first; ``size`` leaves."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, size: int, packed: bytes) -> Frontier:
        """The tree that ``packed`` was. Raises ValueError when it is none of ``size`` leaves."""
        peaks = [packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)]
        if size < 0 or len(packed) != HASH_BYTES * size.bit_count():
            raise ValueError(f"{len(packed)} bytes are not the peaks of {size} leaves")
        return cls(size=size, peaks=peaks)

    def packed(self) -> bytes:
        """The peaks, one after the other."""
        return b"".join(self.peaks)

    def add(self, leaf: bytes) -> None:
        """One more leaf hash."""
        merging, self.size = self.size, self.size + 1
        while merging & 1:
            leaf = node(self.peaks.pop(), leaf)
            merging >>= 1
        self.peaks.append(leaf)

    def root(self) -> bytes:
        """MTH of the leaves so far."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node(peak, found)
        return found


def root_of(leaves: Iterable[bytes]) -> bytes:
    """MTH of the leaves."""
    grown = Frontier()
    for leaf in leaves:
        grown.add(leaf)
    return grown.root()


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, leaves), RFC 6962 §2.1.1. Raises IndexError when there is no such leaf."""
    return inclusion_paths(leaves, (index,))[index]


def inclusion_paths(leaves: Sequence[bytes], indexes: Iterable[int]) -> dict[int, list[bytes]]:
    """PATH of each index; every leaf is hashed once, however many they are. Raises IndexError as above."""
    wanted = sorted(set(indexes))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < len(leaves):
        raise IndexError(f"no leaf {wanted[0]} or {wanted[-1]} in a tree of {len(leaves)}")
    paths: dict[int, list[bytes]] = {index: [] for index in wanted}

    def below(low: int, high: int, inside: list[int]) -> bytes:
        """The root of leaves low … high − 1, having told those inside what stands beside them."""
        if not inside:
            return root_of(leaves[low:high])
        if high - low == 1:
            return leaves[low]
        middle = low + _split(high - low)
        lefts = [index for index in inside if index < middle]
        rights = [index for index in inside if index >= middle]
        left, right = below(low, middle, lefts), below(middle, high, rights)
        for index in lefts:
            paths[index].append(right)
        for index in rights:
            paths[index].append(left)
        return node(left, right)

    if wanted:
        below(0, len(leaves), wanted)
    return paths


def consistency_path(leaves: Sequence[bytes], older: int) -> list[bytes]:
    """PROOF(older, leaves), RFC 6962 §2.1.2. Raises IndexError unless 0 < older ≤ the number of leaves."""
    if not 0 < older <= len(leaves):
        raise IndexError(f"no tree of {older} leaves in one of {len(leaves)}")
    path: list[bytes] = []
    low, high, is_whole = 0, len(leaves), True
    while older != high - low:
        half = _split(high - low)
        if older <= half:
            path.append(root_of(leaves[low + half : high]))
            high = low + half
        else:
            path.append(root_of(leaves[low : low + half]))
            older, low, is_whole = older - half, low + half, False
    if not is_whole:
        path.append(root_of(leaves[low:high]))
    return path[::-1]


def includes(*, root: bytes, size: int, leaf: bytes, index: int, path: Sequence[bytes]) -> bool:
    """Whether the path proves that ``leaf`` is number ``index`` (from 0) of the tree (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, found = index, size - 1, leaf
    for one in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node(one, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node(found, one)
        number, last = number >> 1, last >> 1
    return last == 0 and found == root


def extends(*, older: tuple[int, bytes], newer: tuple[int, bytes], path: Sequence[bytes]) -> bool:
    """Whether the path proves that the newer tree (size, root) begins with the older one (RFC 9162 §2.1.4.2)."""
    (old_size, old_root), (new_size, new_root) = older, newer
    if not 0 < old_size <= new_size:
        return False
    if old_size == new_size:
        return not path and old_root == new_root
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    number, last = old_size - 1, new_size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    was = now = steps[0]
    for one in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            was, now = node(one, was), node(one, now)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            now = node(now, one)
        number, last = number >> 1, last >> 1
    return last == 0 and was == old_root and now == new_root
