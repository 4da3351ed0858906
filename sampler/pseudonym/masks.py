"""Rectangles that a person drew, blackened in the pixels of the frames they name (FF-50).

Native pixels are changed in place. RLE frames are written as RLE again; every other compression becomes JPEG-LS
lossless, all frames of the object, since one object has one transfer syntax.

Invariants:

* a rectangle states the image size it was drawn on: another size, an edge outside or a frame that is not there is
  refused and nothing is masked;
* outside the rectangles every decoded value is what it was, in every frame;
* nothing of what stood under a rectangle is in the result, embedded overlays included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydicom import Dataset
from pydicom.uid import UID

from security.errors import BadInput
from security.parse import pixels
from security.parse.pixels import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A rectangle in pixels from the upper left corner, on an image of ``rows`` × ``columns``.

    ``frame`` counts from 1 as the standard does; None: every frame.
    """

    x: int
    y: int
    width: int
    height: int
    rows: int
    columns: int
    frame: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Pixel data after masking, and the attributes that describe it now."""

    data: bytes
    encapsulated: bool
    transfer_syntax: str
    photometric: str
    planar: bool
    samples: int


def masked(data_set: Dataset, masks: Sequence[Mask], *, what: str) -> Masked:
    """The pixels of an image with the rectangles at their lowest value.

    Raises:
        BadInput: ``mask-other-image``, ``mask-outside``, ``mask-packed`` (bits that share bytes) or ``pixels-…``.
    """
    shape = pixels.shape_of(data_set, what=what)
    for mask in masks:
        _check(mask, shape, what)
    if shape.allocated % 8:
        raise BadInput(
            f"{what}: {shape.allocated} bits a pixel share bytes with their neighbours",
            code="mask-packed",
            hint="such an object is a segmentation: leave it out of the case",
        )
    syntax = str(data_set.file_meta.TransferSyntaxUID)
    if UID(syntax).is_encapsulated:
        return _compressed(data_set, shape, masks, syntax, what)
    return _native(data_set, shape, masks, syntax, what)


def _check(mask: Mask, shape: Shape, what: str) -> None:
    if (mask.rows, mask.columns) != (shape.rows, shape.columns):
        raise BadInput(
            f"{what}: a mask drawn on {mask.rows} × {mask.columns} pixels, it has {shape.rows} × {shape.columns}",
            code="mask-other-image",
            hint="draw the mask again on this image",
        )
    inside = (
        mask.x >= 0 and mask.y >= 0 and mask.x + mask.width <= shape.columns and mask.y + mask.height <= shape.rows
    )
    if not inside or mask.width < 1 or mask.height < 1 or not _is_there(mask.frame, shape):
        raise BadInput(
            f"{what}: a mask at {mask.x},{mask.y}, {mask.width} × {mask.height}, frame {mask.frame}, is not "
            f"inside {shape.columns} × {shape.rows} pixels and {shape.frames} frames",
            code="mask-outside",
            hint="draw the mask again on this image",
        )


def _is_there(frame: int | None, shape: Shape) -> bool:
    return frame is None or 1 <= frame <= shape.frames


def _native(data_set: Dataset, shape: Shape, masks: Sequence[Mask], syntax: str, what: str) -> Masked:
    element = data_set.get_item(0x7FE00010)
    raw = element.value if element is not None else None
    if not isinstance(raw, bytes) or len(raw) < shape.frame_bytes * shape.frames or "422" in shape.photometric:
        raise BadInput(
            f"{what}: its pixel data does not fit its rows, columns and frames",
            code="pixels-undescribed",
            hint="a person looks at the object at the site; it leaves rendered or not at all",
        )
    big = syntax == "1.2.840.10008.1.2.2"
    paired = big and shape.allocated == 8 and element is not None and element.VR == "OW"
    data = _swapped(raw) if paired else bytearray(raw)
    for frame in range(shape.frames):
        view = memoryview(data)[frame * shape.frame_bytes : (frame + 1) * shape.frame_bytes]
        for mask in _of(frame, masks):
            _blacken(view, shape, mask, big=big)
    return Masked(
        data=bytes(_swapped(data) if paired else data),
        encapsulated=False,
        transfer_syntax=syntax,
        photometric=shape.photometric,
        planar=shape.planar,
        samples=shape.samples,
    )


def _swapped(data: bytes | bytearray) -> bytearray:
    """Bytes of 16-bit words in the other order: how OW holds bytes in big endian (PS3.5 7.3)."""
    swapped = bytearray(data)
    swapped[0 : len(data) // 2 * 2 : 2], swapped[1::2] = data[1::2], data[0 : len(data) // 2 * 2 : 2]
    return swapped


def _compressed(data_set: Dataset, shape: Shape, masks: Sequence[Mask], syntax: str, what: str) -> Masked:
    native, photometric, planar = pixels.decoded(_bytes(data_set), syntax, shape, what=what)
    now = replace(shape, photometric=photometric, planar=planar)
    target = pixels.LOSSLESS.get(syntax, pixels.RECOMPRESSED)
    before = pixels.frames_of(_bytes(data_set), shape, what=what) if target == syntax else None
    written: list[bytes] = []
    for frame, buffer in enumerate(native):
        hits = _of(frame, masks)
        if before is not None and not hits:
            written.append(before[frame])
            continue
        changed = bytearray(buffer)
        for mask in hits:
            _blacken(memoryview(changed), now, mask, big=False)
        written.append(pixels.encoded(_by_pixel(bytes(changed), now), now, target, what=what))
    return Masked(
        data=pixels.encapsulated(written),
        encapsulated=True,
        transfer_syntax=target,
        photometric=photometric,
        planar=planar and target == syntax,
        samples=shape.samples,
    )


def _bytes(data_set: Dataset) -> bytes:
    element = data_set.get_item(0x7FE00010)
    return element.value if element is not None and isinstance(element.value, bytes) else b""


def _of(frame: int, masks: Sequence[Mask]) -> list[Mask]:
    return [mask for mask in masks if mask.frame is None or mask.frame == frame + 1]


def _blacken(view: memoryview, shape: Shape, mask: Mask, *, big: bool) -> None:
    """Write the lowest value (grey for chrominance) over a rectangle of one frame."""
    size = shape.allocated // 8
    values = _values(shape, size, big=big)
    planes = [(sample * shape.rows * shape.columns * size, [value]) for sample, value in enumerate(values)]
    if not shape.planar or shape.samples == 1:
        planes = [(0, values)]
    for start, per_pixel in planes:
        pixel = b"".join(per_pixel)
        row_bytes = shape.columns * len(pixel)
        for row in range(mask.y, mask.y + mask.height):
            begin = start + row * row_bytes + mask.x * len(pixel)
            view[begin : begin + mask.width * len(pixel)] = pixel * mask.width


def _values(shape: Shape, size: int, *, big: bool) -> list[bytes]:
    order: Literal["big", "little"] = "big" if big else "little"
    if shape.photometric.startswith("YBR") and shape.samples == 3:
        return [bytes(size), *[(1 << (shape.stored - 1)).to_bytes(size, order)] * 2]
    low = -(1 << (shape.stored - 1)) if shape.signed else 0
    return [low.to_bytes(size, order, signed=shape.signed)] * shape.samples


def _by_pixel(frame: bytes, shape: Shape) -> bytes:
    """Samples pixel by pixel, as encoders take them."""
    if shape.samples == 1 or not shape.planar:
        return frame
    size = shape.allocated // 8
    plane = shape.rows * shape.columns * size
    out = bytearray(len(frame))
    for sample in range(shape.samples):
        for byte in range(size):
            out[sample * size + byte :: shape.samples * size] = frame[
                sample * plane + byte : (sample + 1) * plane : size
            ]
    return bytes(out)
