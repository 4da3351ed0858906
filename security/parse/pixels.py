"""The entry for foreign pixel data: decoded by the codecs, bounded before they run (T08, T13).

Invariants:

* whatever a codec does with the bytes, and be it to end its process (``pixel_worker``), the caller sees native pixels
  or ``BadInput`` with a ``pixels-…`` code;
* the announced size is checked before anything is decoded;
* colours are not converted: what comes out is what the codestream holds.

Leaves to others: what is done with the pixels; the data set's bytes (``security.parse.dicom``).
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID, JPEGLSLossless, RLELossless

from security.errors import BadInput
from security.parse import pixel_worker
from security.parse.dicom import quiet

DECODED_MAX = 2 * 1024**3
_UNREAD = (AttributeError, TypeError, ValueError, OverflowError, NotImplementedError, LookupError, struct.error)
_HINT = "a person looks at the object at the site; it leaves rendered or not at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the Image Pixel Module announces (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    planar: bool
    photometric: str
    frames: int

    @property
    def frame_bytes(self) -> int:
        """The bytes of one native frame."""
        return self.rows * self.columns * self.samples * self.allocated // 8


def shape_of(data_set: Dataset, *, what: str) -> Shape:
    """The announced shape of an image.

    Raises:
        BadInput: ``pixels-undescribed``, an attribute is missing or no number; ``pixels-too-large``.
    """
    try:
        with quiet():
            shape = Shape(
                rows=int(data_set.Rows),
                columns=int(data_set.Columns),
                samples=int(data_set.get("SamplesPerPixel", 1)),
                allocated=int(data_set.BitsAllocated),
                stored=int(data_set.get("BitsStored", data_set.BitsAllocated)),
                signed=bool(data_set.get("PixelRepresentation", 0)),
                planar=bool(data_set.get("PlanarConfiguration", 0)),
                photometric=str(data_set.get("PhotometricInterpretation", "")),
                frames=int(data_set.get("NumberOfFrames") or 1),
            )
    except _UNREAD as cause:
        raise BadInput(
            f"{what}: rows, columns, bits or frames are not stated as numbers", code="pixels-undescribed", hint=_HINT
        ) from cause
    if min(shape.rows, shape.columns, shape.samples, shape.allocated, shape.frames) < 1:
        raise BadInput(f"{what}: an image without pixels", code="pixels-undescribed", hint=_HINT)
    if shape.frame_bytes * shape.frames > DECODED_MAX:
        raise BadInput(
            f"{what}: its pixels take {shape.frame_bytes * shape.frames} bytes, at most {DECODED_MAX} are decoded",
            code="pixels-too-large",
            hint=_HINT,
        )
    return shape


def frames_of(encapsulated: bytes, shape: Shape, *, what: str) -> list[bytes]:
    """The compressed frames of encapsulated pixel data (PS3.5 A.4).

    Raises:
        BadInput: ``pixels-fragmented``, fragments and frames do not fit.
    """
    try:
        with quiet():
            frames = list(generate_frames(encapsulated, number_of_frames=shape.frames))
    except Exception as cause:  # noqa: BLE001 - supervision edge: a library at work on foreign bytes
        raise BadInput(
            f"{what}: fragments of the pixel data are broken ({type(cause).__name__})",
            code="pixels-fragmented",
            hint=_HINT,
        ) from None
    if len(frames) != shape.frames:
        raise BadInput(
            f"{what}: {shape.frames} frames announced, {len(frames)} there", code="pixels-fragmented", hint=_HINT
        )
    return frames


def decoded(data: bytes, syntax: str, shape: Shape, *, what: str) -> tuple[list[bytes], str, bool]:
    """Every frame as native little-endian bytes, with the photometric interpretation and planar order they have now.

    The codecs run in a process of their own: on broken bytes some of them end it.

    Raises:
        BadInput: ``pixels-undecodable``.
    """
    announced = _options(shape) | {"transfer_syntax": syntax, "bytes": len(data) + shape.frame_bytes * shape.frames}
    try:
        ran = subprocess.run(  # noqa: S603 - our own module, by our own interpreter
            [sys.executable, "-I", pixel_worker.__file__],
            input=json.dumps(announced).encode() + b"\n" + data,
            capture_output=True,
            check=False,
            timeout=2 * pixel_worker.SECONDS_MAX,
            env={},
        )
    except subprocess.TimeoutExpired:
        raise _undecodable(what, "they take too long") from None
    if ran.returncode == 3:
        raise _undecodable(what, ran.stderr.decode("ascii", "replace")[-60:])
    if ran.returncode != 0:
        raise _undecodable(what, f"a codec ended its process, {ran.returncode}")
    head, _, body = ran.stdout.partition(b"\n")
    told = json.loads(head)
    frames = _framed(body)
    if len(frames) != shape.frames or {len(frame) for frame in frames} != {shape.frame_bytes}:
        raise _undecodable(what, f"{shape.frames} frames of {shape.frame_bytes} bytes announced, others decoded")
    return frames, str(told["photometric"]), bool(told["planar"]) and shape.samples > 1


def _framed(body: bytes) -> list[bytes]:
    frames: list[bytes] = []
    start = 0
    while start < len(body):
        length = int.from_bytes(body[start : start + 8])
        frames.append(body[start + 8 : start + 8 + length])
        start += 8 + length
    return frames


def _undecodable(what: str, why: str) -> BadInput:
    return BadInput(f"{what}: no codec reads its pixels ({why})", code="pixels-undecodable", hint=_HINT)


def _options(shape: Shape) -> dict[str, Any]:
    """What an image announces, as pydicom's codecs are told it."""
    return {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "number_of_frames": shape.frames,
        "bits_allocated": shape.allocated,
        "bits_stored": shape.stored,
        "pixel_representation": int(shape.signed),
        "photometric_interpretation": shape.photometric,
        "planar_configuration": int(shape.planar),
        "pixel_keyword": "PixelData",
    }


def encoded(frame: bytes, shape: Shape, syntax: str, *, what: str) -> bytes:
    """One native frame, colours by pixel, compressed without loss: RLE (PS3.5 G) or JPEG-LS (PS3.5 A.4.3).

    Raises:
        BadInput: ``pixels-unencodable``.
    """
    options = _options(shape) | {"number_of_frames": 1, "planar_configuration": 0}
    options.pop("pixel_keyword")
    try:
        with quiet():
            return bytes(get_encoder(UID(syntax)).encode(frame, **options))
    except Exception as cause:  # noqa: BLE001 - supervision edge: as above
        raise BadInput(
            f"{what}: no codec writes its pixels without loss ({type(cause).__name__})",
            code="pixels-unencodable",
            hint=_HINT,
        ) from None


def encapsulated(frames: list[bytes]) -> bytes:
    """Frames as the value of pixel data, with a Basic Offset Table, without the delimiter (PS3.5 A.4)."""
    return encapsulate(frames, has_bot=sum(map(len, frames)) < 2**32 - 2**20)


LOSSLESS = {str(RLELossless): str(RLELossless)}
RECOMPRESSED = str(JPEGLSLossless)
