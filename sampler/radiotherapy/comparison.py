"""Two structure sets of one planning CT, ROI by ROI: volumes, overlap, surfaces, added path, dose.

Structures are matched by name. Every figure is None where it has no meaning (an empty contour), never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from sampler.radiotherapy import overlap, surface
from sampler.radiotherapy.contours import voxels
from sampler.radiotherapy.dvh import DoseVolume, dose_volume
from sampler.radiotherapy.lattice import Lattice, Mask
from sampler.radiotherapy.objects import DoseObject, Series, Structure, StructureSet
from security.errors import BadInput

TOLERANCE_MM = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One structure on the lattice of the CT."""

    structure: Structure
    mask: Mask
    volume_cc: float
    dose: DoseVolume | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One ROI drawn twice. ``surfaces`` is None when either is empty."""

    name: str
    reference: Drawn
    other: Drawn
    dice: float | None
    jaccard: float | None
    surfaces: surface.Surfaces | None
    added_path_mm: float


def compare(
    reference: StructureSet,
    other: StructureSet,
    images: Series,
    *,
    dose: DoseObject | None = None,
    tolerance_mm: float = TOLERANCE_MM,
) -> list[Compared]:
    """Every ROI that both sets name, in the order of the reference.

    Raises:
        BadInput: ``rt-frame-of-reference`` when not all share one, ``rt-nothing-shared`` when no name is in both,
            ``rt-name-twice``, and those of ``contours.voxels``.
    """
    frames = {"compared structures": other.frame_of_reference, "CT series": images.frame_of_reference}
    if dose:
        frames["dose"] = dose.frame_of_reference
    for what, frame in frames.items():
        if frame != reference.frame_of_reference:
            raise BadInput(
                f"the {what} and the reference structures have different frames of reference",
                code="rt-frame-of-reference",
                hint="compare structures drawn on the same planning CT",
            )
    mine, theirs = _by_name(reference), _by_name(other)
    shared = [name for name in mine if name in theirs]
    if not shared:
        raise BadInput(
            f"no name is in both sets ({len(mine)} and {len(theirs)} structures)",
            code="rt-nothing-shared",
            hint="name the structures alike in both, by TG-263 for instance",
        )
    return [_pair(mine[name], theirs[name], images.lattice, dose, tolerance_mm) for name in shared]


def _by_name(found: StructureSet) -> dict[str, Structure]:
    named = {structure.name: structure for structure in found.structures}
    if len(named) != len(found.structures):
        raise BadInput(
            "two structures of one set have the same name", code="rt-name-twice", hint="rename one of them"
        )
    return named


def _pair(
    mine: Structure, theirs: Structure, lattice: Lattice, dose: DoseObject | None, tolerance_mm: float
) -> Compared:
    reference, other = drawn(mine, lattice, dose), drawn(theirs, lattice, dose)
    return Compared(
        name=mine.name,
        reference=reference,
        other=other,
        dice=overlap.dice(reference.mask, other.mask),
        jaccard=overlap.jaccard(reference.mask, other.mask),
        surfaces=surface.compare(reference.mask, other.mask, lattice, tolerance_mm=tolerance_mm),
        added_path_mm=overlap.added_path_mm(reference.mask, other.mask, lattice),
    )


def drawn(structure: Structure, lattice: Lattice, dose: DoseObject | None) -> Drawn:
    """The structure as voxels, with its volume and, where a dose is given, its doses.

    Raises:
        BadInput: those of ``contours.voxels``.
    """
    mask = voxels(structure.polygons, lattice, what="a structure")
    return Drawn(
        structure=structure,
        mask=mask,
        volume_cc=int(mask.sum()) * lattice.voxel_cc,
        dose=dose_volume(mask, lattice, dose.dose) if dose else None,
    )
