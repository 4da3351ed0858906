"""The pages of a PDF: their letters with places, and their pictures; read in a process of its own (``worker``).

Places are pixels of the page as drawn at ``worker.DPI``, from its top left corner: left, top, right, bottom.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from PIL import Image

from sampler.pages import worker
from security.errors import BadInput

BYTES_MAX = 50 * 1024 * 1024
_HINTS = {
    "pdf-malformed": "send the report again, or redact it by hand",
    "pdf-too-many-pages": f"at most {worker.PAGES_MAX} pages are read: redact it by hand",
    "pdf-page-too-large": f"at most {worker.SIDE_MAX} pixels at {worker.DPI} dpi are drawn: redact it by hand",
    "pdf-too-much-text": "redact it by hand",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    left: int
    top: int
    right: int
    bottom: int

    def holds(self, other: Box) -> bool:
        """Whether the middle of another box lies inside."""
        column, row = (other.left + other.right) / 2, (other.top + other.bottom) / 2
        return self.left <= column <= self.right and self.top <= row <= self.bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page. ``boxes``: one a letter of ``text``. ``images``: where pictures stand; ``annotations``: left out."""

    width: int
    height: int
    text: str = field(repr=False)
    boxes: tuple[Box, ...] = field(repr=False)
    images: tuple[Box, ...]
    annotations: int


def read(pdf: bytes) -> tuple[Page, ...]:
    """The pages of a PDF.

    Raises:
        BadInput: ``pdf-malformed`` (also when it needs a password or the reader fails on it), ``pdf-too-large``,
            ``pdf-too-many-pages``, ``pdf-page-too-large``, ``pdf-too-much-text``.
    """
    found = json.loads(_asked("read", pdf))
    if not found:
        raise _bad("pdf-malformed", "the report's PDF has no page")
    return tuple(
        Page(
            width=page["width"],
            height=page["height"],
            text=page["text"],
            boxes=_boxes(page["boxes"]),
            images=_boxes(page["images"]),
            annotations=page["annotations"],
        )
        for page in found
    )


def drawn(pdf: bytes) -> list[Image.Image]:
    """The pages as pictures, RGB, in the size that ``read`` tells, without annotations and form fields.

    Raises:
        BadInput: as ``read``.
    """
    content = _asked("draw", pdf)
    pictures, start = [], 0
    while start < len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        with Image.open(BytesIO(content[start + 4 : start + 4 + length])) as picture:
            pictures.append(picture.copy())
        start += 4 + length
    return pictures


def _boxes(found: Sequence[Sequence[int]]) -> tuple[Box, ...]:
    return tuple(Box(left=one[0], top=one[1], right=one[2], bottom=one[3]) for one in found)


def _asked(task: Literal["read", "draw"], pdf: bytes) -> bytes:
    if len(pdf) > BYTES_MAX:
        raise _bad("pdf-too-large", f"the report's PDF has {len(pdf)} bytes, at most {BYTES_MAX} are read")
    command = [sys.executable, "-I", worker.__file__, task]
    try:
        ran = subprocess.run(  # noqa: S603  our own module, by our own interpreter
            command, input=pdf, capture_output=True, check=False, timeout=2 * worker.SECONDS_MAX, env={}
        )
    except subprocess.TimeoutExpired:
        raise _bad("pdf-malformed", "the report's PDF takes too long to read") from None
    if ran.returncode == 3:
        code = ran.stderr.decode("ascii", "replace")
        raise _bad(code if code in _HINTS else "pdf-malformed", "the report's PDF cannot be read")
    if ran.returncode != 0:
        raise _bad("pdf-malformed", f"the reader of PDF stopped on the report (exit {ran.returncode})")
    return ran.stdout


def _bad(code: str, message: str) -> BadInput:
    return BadInput(message, code=code, hint=_HINTS.get(code, "redact it by hand"))
