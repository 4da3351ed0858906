"""A picture of a structure drawn twice, on the slice where the two differ most; and its dose-volume curves.

Colours are told apart by colour-blind readers, and the second outline is dashed, so that neither is needed alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sampler.radiotherapy.comparison import Compared
from sampler.radiotherapy.dvh import DoseVolume
from sampler.radiotherapy.lattice import Lattice, Mask, Points
from sampler.radiotherapy.objects import Series

REFERENCE, OTHER = (86, 180, 233), (230, 159, 0)
"""Sky blue and orange of the palette of Okabe and Ito."""
WINDOW = (40.0, 400.0)
"""Centre and width in Hounsfield units: soft tissue."""
SIDE = 720
"""Pixels of the longer side."""
MARGIN = 0.35
"""Around the structures, as a share of their size."""
DASH = 7.0


def structure(compared: Compared, images: Series, *, names: tuple[str, str]) -> bytes | None:
    """A PNG of the slice of largest difference, cut around both outlines; None when neither drew anything.

    ``names`` are what the legend calls the two; they come with the product's words, in the reader's language.
    """
    union = compared.reference.mask | compared.other.mask
    if not union.any():
        return None
    differing = (compared.reference.mask ^ compared.other.mask).sum(axis=(1, 2))
    at = int(differing.argmax()) if differing.any() else int(union.sum(axis=(1, 2)).argmax())
    top, left, bottom, right = _cut(union[at], images.lattice)
    _, row, column = images.lattice.spacing
    scale = SIDE / max((bottom - top) * row, (right - left) * column)  # pixels a millimetre
    size = max(1, round((right - left) * column * scale)), max(1, round((bottom - top) * row * scale))
    canvas = Image.fromarray(_windowed(images.hounsfield[at, top:bottom, left:right])).resize(
        size, Image.Resampling.BICUBIC
    )
    canvas = canvas.convert("RGB")
    pen = ImageDraw.Draw(canvas)
    for drawn, colour, is_dashed in ((compared.reference, REFERENCE, False), (compared.other, OTHER, True)):
        for polygon in _on_slice(drawn.structure.polygons, images.lattice, at):
            places = (polygon[:, ::-1] + 0.5 - (left, top)) * (column * scale, row * scale)
            _outline(pen, places, colour, is_dashed=is_dashed)
    _legend(pen, names, at=at + 1, of=images.lattice.size[0], height=size[1])
    kept = BytesIO()
    canvas.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def _cut(mask: Mask, lattice: Lattice) -> tuple[int, int, int, int]:
    """Rows and columns around what is set, with a margin, inside the image: top, left, bottom, right."""
    if not mask.any():
        return 0, 0, lattice.size[1], lattice.size[2]
    rows, columns = np.nonzero(mask)
    margin = 4 + int(MARGIN * max(np.ptp(rows), np.ptp(columns)))
    return (
        max(0, int(rows.min()) - margin),
        max(0, int(columns.min()) - margin),
        min(lattice.size[1], int(rows.max()) + margin + 1),
        min(lattice.size[2], int(columns.max()) + margin + 1),
    )


def _windowed(hounsfield: NDArray[np.float32]) -> NDArray[np.uint8]:
    centre, width = WINDOW
    shade: NDArray[np.uint8] = (np.clip((hounsfield - (centre - width / 2)) / width, 0, 1) * 255).astype(np.uint8)
    return shade


def _on_slice(polygons: Iterable[Points], lattice: Lattice, at: int) -> Iterable[Points]:
    """The polygons of one slice as fractional (row, column)."""
    for polygon in polygons:
        indices = lattice.index_of(polygon)
        if round(float(indices[:, 0].mean())) == at:
            yield indices[:, 1:]


def _outline(pen: ImageDraw.ImageDraw, places: Points, colour: tuple[int, int, int], *, is_dashed: bool) -> None:
    closed = [(float(x), float(y)) for x, y in (*places, places[0])]
    if not is_dashed:
        pen.line(closed, fill=colour, width=3, joint="curve")
        return
    walked = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(closed):
        length = math.hypot(x1 - x0, y1 - y0)
        for begin in np.arange(-(walked % (2 * DASH)), length, 2 * DASH):
            part = np.clip([begin, begin + DASH], 0, length) / length if length else (0, 0)
            if part[1] > part[0]:
                pen.line([(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in part], fill=colour, width=3)
        walked += length


def _legend(pen: ImageDraw.ImageDraw, names: tuple[str, str], *, at: int, of: int, height: int) -> None:
    font = ImageFont.load_default(size=18)
    pen.rectangle((0, height - 62, 9_999, height), fill=(0, 0, 0))
    for line, (name, colour) in enumerate(zip(names, (REFERENCE, OTHER), strict=True)):
        y = height - 56 + line * 26
        _outline(pen, np.array([(10.0, y + 11), (46.0, y + 11)]), colour, is_dashed=line == 1)
        pen.text((56, y), name, fill=(255, 255, 255), font=font)
    pen.text((pen.im.size[0] - 96, height - 56), f"{at} / {of}", fill=(255, 255, 255), font=font)


def curves(of: Sequence[tuple[str, DoseVolume]], *, axes: tuple[str, str]) -> str:
    """The cumulative dose-volume curves as an SVG text; ``axes`` are the words for dose and volume."""
    width, height, left, bottom = 640, 400, 60, 50
    most = max((float(found.gray[0]) for _name, found in of), default=0.0) or 1.0

    def place(gray: float, share: float) -> str:
        return f"{left + gray / most * (width - left - 20):.1f},{10 + (1 - share) * (height - bottom - 10):.1f}"

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' font-family="sans-serif" font-size="13"><title>{_escaped(", ".join(name for name, _ in of))}</title>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )
    parts = [head]
    for tenth in range(0, 11, 2):
        share = tenth / 10
        x, y = place(0, share).split(",")
        parts.append(f'<path d="M{x},{y}H{width - 20}" stroke="#ccc"/><text x="52" y="{y}" dy="4" text-anchor="end">')
        parts.append(f"{tenth * 10} %</text>")
        at = place(most * share, 0).split(",")[0]
        parts.append(f'<text x="{at}" y="{height - bottom + 18}" text-anchor="middle">{most * share:.1f}</text>')
    for number, (name, found) in enumerate(of):
        colour = ("#0072b2", "#b35900")[number % 2]
        dash = ' stroke-dasharray="7 5"' if number % 2 else ""
        points = " ".join(place(gray, share) for gray, share in found.curve())
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>')
        line = 30 + number * 20
        parts.append(f'<path d="M{width - 200},{line - 4}h36" stroke="{colour}" stroke-width="2.5"{dash}/>')
        parts.append(f'<text x="{width - 156}" y="{line}">{_escaped(name)}</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{_escaped(axes[0])}</text>')
    parts.append(f'<text transform="translate(14 {height / 2}) rotate(-90)" text-anchor="middle">')
    parts.append(f"{_escaped(axes[1])}</text></svg>")
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
