"""How far two voxel sets share their volume, and what was drawn beyond. Pure."""

from __future__ import annotations

import numpy as np

from sampler.radiotherapy.lattice import Lattice, Mask


def dice(one: Mask, other: Mask) -> float | None:
    """2·|A∩B| / (|A| + |B|); None when both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else None


def jaccard(one: Mask, other: Mask) -> float | None:
    """|A∩B| / |A∪B|; None when both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else None


def added_path_mm(reference: Mask, drawn: Mask, lattice: Lattice) -> float:
    """The length of the reference's outline that ``drawn`` does not already follow, mm over all slices.

    Counted in voxels: those of the reference's outline in its slice that are not of the drawn outline, times the
    geometric mean of row and column spacing. An outline voxel has one of its four neighbours outside.
    """
    _, row, column = lattice.spacing
    missing = int((_outline(reference) & ~_outline(drawn)).sum())
    return missing * float(np.sqrt(row * column))


def _outline(mask: Mask) -> Mask:
    framed = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    inner = framed[:, :-2, 1:-1] & framed[:, 2:, 1:-1] & framed[:, 1:-1, :-2] & framed[:, 1:-1, 2:]
    return mask & ~inner
