"""RT Structure Set, RT Dose and CT series read from DICOM files into frozen values (PS3.3 A.19, A.18, A.3).

Invariants: all of a comparison lies in one Frame of Reference, or it is refused; a series with a missing or doubled
slice is refused, since its volumes would be wrong without a sign; foreign bytes enter by ``security.parse`` alone,
and codecs are at work in a process of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, RTDoseStorage, RTStructureSetStorage

from sampler.radiotherapy.dvh import Dose
from sampler.radiotherapy.lattice import Lattice, Points
from security.errors import BadInput
from security.parse import pixels
from security.parse.dicom import parse_untrusted

_Read = TypeVar("_Read")

VALUES_MAX = 512 * 1024 * 1024
"""Voxels of one series or dose grid; 512 × 512 × 2,048."""
UNEVEN_MAX_MM = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One ROI: its closed polygons, each (n, 3) in mm; ``skipped`` counts contours of other kinds."""

    name: str
    polygons: tuple[Points, ...]
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureSet:
    frame_of_reference: str
    structures: tuple[Structure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A CT series: Hounsfield units at each voxel of its lattice."""

    frame_of_reference: str
    lattice: Lattice
    hounsfield: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseObject:
    """``summation`` is DoseSummationType: PLAN, BEAM, …"""

    frame_of_reference: str
    summation: str
    dose: Dose


def structure_set(path: Path) -> StructureSet:
    """The structure set of a file.

    Raises:
        BadInput: ``dicom-…`` of ``security.parse``, ``rt-wrong-object``, ``rt-malformed``.
    """
    found = _read(path, RTStructureSetStorage, "an RT Structure Set")
    return _told(path, lambda: _structure_set(found))


def _structure_set(found: Dataset) -> StructureSet:
    rois = {int(roi.ROINumber): roi for roi in found.StructureSetROISequence}
    frames = {str(roi.ReferencedFrameOfReferenceUID) for roi in rois.values()}
    if len(frames) != 1:
        raise BadInput(
            f"the structure set has {len(frames)} frames of reference, one is needed",
            code="rt-frame-of-reference",
            hint="export the structures of one planning CT alone",
        )
    contours = {int(item.ReferencedROINumber): item for item in found.get("ROIContourSequence") or ()}
    structures = []
    for number, roi in rois.items():
        drawn = (contours[number].get("ContourSequence") or ()) if number in contours else ()
        closed = [contour for contour in drawn if contour.ContourGeometricType in _CLOSED]
        structures.append(
            Structure(
                name=str(roi.get("ROIName") or f"ROI {number}"),
                polygons=tuple(np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3) for contour in closed),
                skipped=len(drawn) - len(closed),
            )
        )
    return StructureSet(frame_of_reference=frames.pop(), structures=tuple(structures))


_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})  # PS3.3 C.8.8.6.1


def dose(path: Path) -> DoseObject:
    """The dose grid of a file, in gray.

    Raises:
        BadInput: ``dicom-…`` of ``security.parse``, ``rt-wrong-object``, ``rt-malformed``, ``rt-too-large``,
            ``rt-dose-relative`` when doses are not in gray, ``rt-uneven``.
    """
    found = _read(path, RTDoseStorage, "an RT Dose")
    return _told(path, lambda: _dose(found))


def _dose(found: Dataset) -> DoseObject:
    if found.DoseUnits != "GY":
        raise BadInput("doses are relative, not in gray", code="rt-dose-relative", hint="export the absolute dose")
    frames = int(found.get("NumberOfFrames") or 1)
    row, column = (float(value) for value in found.PixelSpacing)
    along = _frames_along(found, frames)
    gray = _values(found, frames).astype(np.float64) * float(found.DoseGridScaling)
    if along[-1] < along[0]:
        along, gray = along[::-1], gray[::-1]
    step = _even(along, "dose planes") if frames > 1 else float(found.get("SliceThickness") or 1.0)
    lattice = _lattice(found, first=along[0], spacing=(step, row, column), size=gray.shape)
    return DoseObject(
        frame_of_reference=str(found.FrameOfReferenceUID),
        summation=str(found.DoseSummationType),
        dose=Dose(lattice=lattice, gray=np.ascontiguousarray(gray)),
    )


def _frames_along(found: Dataset, frames: int) -> Points:
    """How far along the normal each frame lies from ImagePositionPatient, mm (PS3.3 C.8.8.3.2).

    The vector starts with 0, or (axial grids alone) holds z coordinates and starts with the position's own.
    """
    if frames == 1:
        return np.zeros(1)
    offsets = np.array(found.GridFrameOffsetVector, dtype=np.float64)
    if len(offsets) != frames:
        raise ValueError("as many offsets as frames")
    if offsets[0] == 0:
        return offsets
    if abs(offsets[0] - float(found.ImagePositionPatient[2])) > UNEVEN_MAX_MM:
        raise ValueError("offsets start with 0 or with the position")
    along: Points = (offsets - offsets[0]) * _normal(found)[2]
    return along


def series(paths: Sequence[Path]) -> Series:
    """The CT series of files of one SeriesInstanceUID, sorted by position.

    Raises:
        BadInput: ``dicom-…`` of ``security.parse``, ``rt-wrong-object``, ``rt-malformed``, ``rt-too-large``,
            ``rt-several-series``, ``rt-uneven`` with the place of the gap.
    """
    if not paths:
        raise BadInput("no CT image was given", code="rt-no-image", hint="give the folder of the planning CT")
    images = [(path, _read(path, CTImageStorage, "a CT image")) for path in paths]
    return _told(images[0][0], lambda: _series([image for _path, image in images]))


def _series(images: list[Dataset]) -> Series:
    kinds = {(str(i.SeriesInstanceUID), str(i.FrameOfReferenceUID), _oriented(i), i.Rows, i.Columns) for i in images}
    if len(kinds) != 1:
        raise BadInput(
            f"{len(images)} images of {len(kinds)} series or orientations",
            code="rt-several-series",
            hint="give the images of the planning CT alone",
        )
    normal = _normal(images[0])
    along = np.array([normal @ np.array(image.ImagePositionPatient, dtype=np.float64) for image in images])
    order = np.argsort(along)
    ordered = [images[place] for place in order]
    thickness = float(images[0].get("SliceThickness") or 1.0)
    step = _even(along[order], "slices") if len(images) > 1 else thickness
    _within(len(images) * int(images[0].Rows) * int(images[0].Columns))
    values = np.stack([_hounsfield(image) for image in ordered])
    row, column = (float(value) for value in ordered[0].PixelSpacing)
    return Series(
        frame_of_reference=str(ordered[0].FrameOfReferenceUID),
        lattice=_lattice(ordered[0], first=0.0, spacing=(step, row, column), size=values.shape),
        hounsfield=values,
    )


def _read(path: Path, sop_class: str, wanted: str) -> Dataset:
    found = parse_untrusted(path, stop_before_pixels=False, what=path.name)
    if found.get("SOPClassUID") != sop_class:
        raise BadInput(f"{path.name} is not {wanted}", code="rt-wrong-object", hint=f"give {wanted} here")
    return found


def _told(path: Path, read: Callable[[], _Read]) -> _Read:
    """What ``read`` finds; what a malformed object makes it raise is told as such, without the value."""
    try:
        return read()
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, NotImplementedError) as cause:
        raise BadInput(
            f"{path.name}: an element that is needed is missing or malformed ({type(cause).__name__})",
            code="rt-malformed",
            hint="export the object again from the planning system",
        ) from None


def _values(found: Dataset, frames: int) -> NDArray[np.generic]:
    """Pixel values as (frames, rows, columns)."""
    _within(frames * int(found.Rows) * int(found.Columns))
    syntax = found.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:  # numbers as they are: no codec is at work
        return np.asarray(found.pixel_array).reshape(frames, int(found.Rows), int(found.Columns))
    shape = pixels.shape_of(found, what="an image")
    native, _photometric, _planar = pixels.decoded(found.PixelData, str(syntax), shape, what="an image")
    kind = f"<{'i' if shape.signed else 'u'}{shape.allocated // 8}"
    return np.frombuffer(b"".join(native), dtype=kind).reshape(shape.frames, shape.rows, shape.columns)


def _within(values: int) -> None:
    if values > VALUES_MAX:
        raise BadInput(
            f"{values} voxels, at most {VALUES_MAX} are read", code="rt-too-large", hint="give one planning CT"
        )


def _hounsfield(image: Dataset) -> NDArray[np.float32]:
    slope, intercept = float(image.get("RescaleSlope") or 1), float(image.get("RescaleIntercept") or 0)
    values: NDArray[np.float32] = (_values(image, 1)[0].astype(np.float32) * slope + intercept).astype(np.float32)
    return values


def _oriented(image: Dataset) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in image.ImageOrientationPatient)


def _normal(image: Dataset) -> Points:
    cosines = np.array(image.ImageOrientationPatient, dtype=np.float64)
    return np.cross(cosines[:3], cosines[3:])


def _even(along: Points, what: str) -> float:
    """The distance between neighbours of growing positions, mm."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    odd = np.flatnonzero(np.abs(steps - usual) > UNEVEN_MAX_MM)
    if len(odd) or usual <= 0:
        place = int(odd[0]) if len(odd) else 0
        raise BadInput(
            f"{what} {place + 1} and {place + 2} are {steps[place]:.2f} mm apart, the others {usual:.2f}",
            code="rt-uneven",
            hint="one is missing, doubled or of another series: send the whole series again",
        )
    return usual


def _lattice(found: Dataset, *, first: float, spacing: tuple[float, float, float], size: tuple[int, ...]) -> Lattice:
    """The lattice whose first slice lies ``first`` mm along the normal from ImagePositionPatient."""
    cosines = [float(value) for value in found.ImageOrientationPatient]
    x, y, z = (np.array(found.ImagePositionPatient, dtype=np.float64) + first * _normal(found)).tolist()
    slices, rows, columns = size
    return Lattice(
        origin=(x, y, z),
        spacing=spacing,
        size=(slices, rows, columns),
        along_columns=(cosines[0], cosines[1], cosines[2]),
        along_rows=(cosines[3], cosines[4], cosines[5]),
    )
