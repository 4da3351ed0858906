"""Where the voxels of an image lie in the patient (PS3.3 C.7.6.2): origin, directions and spacing of a regular grid.

Pure. A point is (x, y, z) in the patient's coordinates, millimetres; an index is (slice, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """A regular grid of voxels.

    Attributes:
        origin: the centre of voxel (0, 0, 0), (x, y, z) in mm (ImagePositionPatient of the first slice).
        along_columns: unit vector in which the column index grows (the first three of ImageOrientationPatient).
        along_rows: unit vector in which the row index grows (the last three of ImageOrientationPatient).
        spacing: mm between centres, (slice, row, column); slices follow the normal ``along_columns × along_rows``.
        size: voxels, (slices, rows, columns).
    """

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    size: tuple[int, int, int]
    along_columns: tuple[float, float, float] = (1.0, 0.0, 0.0)
    along_rows: tuple[float, float, float] = (0.0, 1.0, 0.0)

    @property
    def axes(self) -> Points:
        """The unit vectors of slice, row and column, one a line, shape (3, 3)."""
        columns, rows = np.array(self.along_columns), np.array(self.along_rows)
        return np.array([np.cross(columns, rows), rows, columns])

    @property
    def voxel_cc(self) -> float:
        return float(np.prod(self.spacing)) / 1000

    def index_of(self, points: Points) -> Points:
        """Fractional indices (slice, row, column), shape (n, 3), of points (x, y, z) of shape (n, 3)."""
        found: Points = (points - np.array(self.origin)) @ self.axes.T / np.array(self.spacing)
        return found

    def point_of(self, indices: NDArray[Any]) -> Points:
        """Points (x, y, z), shape (n, 3), of indices (slice, row, column) of shape (n, 3)."""
        found: Points = np.array(self.origin) + (indices * np.array(self.spacing)) @ self.axes
        return found
