"""Polygons on slices turned into voxels (PS3.3 C.8.8.6, CLOSED_PLANAR).

Pure. A voxel is inside when its centre is inside; a centre on an edge counts on the side of lower indices only, so
that two polygons that share an edge share no voxel. Polygons of one slice are taken together, even-odd: an inner one
is a hole, and a keyhole needs no special case.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sampler.radiotherapy.lattice import Lattice, Mask, Points
from security.errors import BadInput

OFF_SLICE_MAX = 0.25
"""How far from the nearest slice's centre a contour may lie, in slices."""


def voxels(polygons: Sequence[Points], lattice: Lattice, *, what: str) -> Mask:
    """The voxels inside ``polygons`` (each of shape (n, 3), mm), shape ``lattice.size``.

    Raises:
        BadInput: ``contour-off-slice`` when a polygon lies between slices or leans, ``contour-outside`` when one
            lies beyond the first or last slice.
    """
    slices, rows, columns = lattice.size
    crossings = np.zeros((slices, rows, columns + 1), dtype=bool)
    for number, polygon in enumerate(polygons, start=1):
        indices = lattice.index_of(polygon)
        at = _slice_of(indices[:, 0], slices, what=f"{what}, contour {number}")
        _cross(crossings[at], indices[:, 1], indices[:, 2])
    np.logical_xor.accumulate(crossings, axis=2, out=crossings)
    return crossings[:, :, :columns].copy()


def _slice_of(along: Points, slices: int, *, what: str) -> int:
    at = round(float(along.mean()))
    if not 0 <= at < slices:
        raise BadInput(
            f"{what}: on slice {at + 1} of {slices}",
            code="contour-outside",
            hint="give the whole CT series that the structure set was drawn on",
        )
    off = float(np.abs(along - at).max())
    if off > OFF_SLICE_MAX:
        raise BadInput(
            f"{what}: {off:.2f} slices from slice {at + 1}, at most {OFF_SLICE_MAX} is allowed",
            code="contour-off-slice",
            hint="give the CT series that the structure set was drawn on, not another reconstruction",
        )
    return at


def _cross(plane: Mask, rows: Points, columns: Points) -> None:
    """Toggle, for every edge and every row it crosses, the first column right of the crossing; in place."""
    height, width = plane.shape
    next_rows, next_columns = np.roll(rows, -1), np.roll(columns, -1)
    for row0, column0, row1, column1 in zip(rows, columns, next_rows, next_columns, strict=True):
        if row0 == row1:
            continue
        if row0 > row1:
            row0, column0, row1, column1 = row1, column1, row0, column0  # noqa: PLW2901  the edge, upwards
        crossed = np.arange(max(0, int(np.ceil(row0))), min(height, int(np.ceil(row1))))
        at = column0 + (crossed - row0) * ((column1 - column0) / (row1 - row0))
        plane[crossed, np.clip(np.ceil(at).astype(np.intp), 0, width - 1)] ^= True
