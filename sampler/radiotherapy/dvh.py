"""What dose a structure gets: cumulative dose-volume figures. Pure.

* ``at_least(percent)``: Dx %, the dose that at least x % of the volume gets;
* ``at_least_cc(cc)``: Dx cc, the dose that at least x cm³ get;
* ``share_above(gray)``: Vx, the share of the volume that gets x Gy or more;
* dose at a voxel's centre is interpolated linearly between the dose grid's points; beyond that grid it is not known,
  and such voxels are counted, not taken for zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from sampler.radiotherapy.lattice import Lattice, Mask, Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Dose:
    """A dose grid: gray at each point of its lattice, shape ``lattice.size``."""

    lattice: Lattice
    gray: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DoseVolume:
    """The doses of a structure's voxels.

    Attributes:
        gray: falling, one a voxel whose dose is known; never empty.
        voxel_cc: the volume of one voxel.
        unknown: how many voxels of the structure lie beyond the dose grid.
    """

    gray: Points
    voxel_cc: float
    unknown: int

    @property
    def mean(self) -> float:
        return float(self.gray.mean())

    def at_least(self, percent: int) -> float:
        """Dx %. Raises ValueError unless 0 < percent ≤ 100."""
        if not 0 < percent <= 100:
            raise ValueError("a percentage above 0, at most 100")
        return float(self.gray[ceil(Fraction(percent, 100) * len(self.gray)) - 1])

    def at_least_cc(self, cc: float) -> float | None:
        """Dx cc; None when the structure is smaller."""
        rank = max(1, ceil(cc / self.voxel_cc - 1e-9))
        return float(self.gray[rank - 1]) if rank <= len(self.gray) else None

    def share_above(self, gray: float) -> float:
        """Vx as a share of 1. Doses that differ from x by rounding alone count as x."""
        return int((self.gray >= gray - 1e-9).sum()) / len(self.gray)

    def curve(self, steps: int = 100) -> list[tuple[float, float]]:
        """The cumulative histogram: (gray, share of the volume that gets as much), from 0 to the maximum."""
        return [(float(dose), self.share_above(float(dose))) for dose in np.linspace(0, self.gray[0], steps + 1)]


def dose_volume(mask: Mask, lattice: Lattice, dose: Dose) -> DoseVolume | None:
    """The doses of the voxels of ``mask``, a mask on ``lattice``; None when no voxel has a known dose."""
    voxels = np.argwhere(mask)
    at = dose.lattice.index_of(lattice.point_of(voxels))
    last = np.array(dose.lattice.size) - 1
    known = ((at >= -1e-6) & (at <= last + 1e-6)).all(axis=1)
    if not known.any():
        return None
    gray = map_coordinates(dose.gray, np.clip(at[known], 0, last).T, order=1)
    return DoseVolume(np.sort(gray)[::-1], lattice.voxel_cc, int((~known).sum()))
