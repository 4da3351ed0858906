"""A picture of a structure drawn twice, on the slice where the two differ most; and its dose-volume curves.

Both are SVG: lines stay sharp when a reader comes closer, and words are text. Colours are told apart by colour-blind
readers, and the second line is dashed, so that neither is needed alone.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sampler.radiotherapy.comparison import Compared
from sampler.radiotherapy.dvh import DoseVolume
from sampler.radiotherapy.lattice import Lattice, Mask, Points
from sampler.radiotherapy.objects import Series

ON_IMAGE = ("#56b4e9", "#e69f00")
"""Sky blue and orange of the palette of Okabe and Ito: reference, compared."""
ON_PAPER = ("#0072b2", "#b35900")
WINDOW = (40.0, 400.0)
"""Centre and width in Hounsfield units: soft tissue."""
SIDE = 720
"""Units of the longer side."""
MARGIN = 0.35
"""Around the structures, as a share of their size."""
LEGEND = 66


def structure(compared: Compared, images: Series, *, names: tuple[str, str]) -> str | None:
    """The slice of largest difference, cut around both outlines, as SVG; None when neither drew anything.

    ``names`` are what the legend calls the two; they come with the product's words, in the reader's language.
    """
    union = compared.reference.mask | compared.other.mask
    if not union.any():
        return None
    differing = (compared.reference.mask ^ compared.other.mask).sum(axis=(1, 2))
    at = int(differing.argmax()) if differing.any() else int(union.sum(axis=(1, 2)).argmax())
    top, left, bottom, right = _cut(union[at], images.lattice)
    _, row, column = images.lattice.spacing
    scale = SIDE / max((bottom - top) * row, (right - left) * column)  # units a millimetre
    width, height = (right - left) * column * scale, (bottom - top) * row * scale
    shown = _png(images.hounsfield[at, top:bottom, left:right])
    parts = [
        _opening(width, height + LEGEND, ", ".join(names), ground="#000"),
        f'<image width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" href="{shown}"/>',
        f'<text x="{width - 14:.1f}" y="{height + 28:.1f}" fill="#fff" text-anchor="end">',
        f"{at + 1} / {images.lattice.size[0]}</text>",
    ]
    for number, (name, drawn) in enumerate(zip(names, (compared.reference, compared.other), strict=True)):
        look = _look(ON_IMAGE, number)
        for polygon in _on_slice(drawn.structure.polygons, images.lattice, at):
            places = (polygon[:, ::-1] + 0.5 - (left, top)) * (column * scale, row * scale)
            parts.append(f'<polygon points="{_points(places)}" {look}/>')
        y = height + 26 + number * 24
        parts.append(f'<path d="M12,{y - 5:.1f}h44" {look}/>')
        parts.append(f'<text x="66" y="{y:.1f}" fill="#fff">{escape(name)}</text>')
    return "".join(parts) + "</svg>"


def _png(hounsfield: NDArray[np.float32]) -> str:
    """The windowed values as a data URI."""
    centre, width = WINDOW
    shade = (np.clip((hounsfield - (centre - width / 2)) / width, 0, 1) * 255).astype(np.uint8)
    kept = BytesIO()
    Image.fromarray(shade).save(kept, "PNG", optimize=True)
    return "data:image/png;base64," + b64encode(kept.getvalue()).decode()


def _opening(width: float, height: float, title: str, *, ground: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        f' font-family="sans-serif" font-size="15"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="{ground}"/>'
    )


def _look(colours: tuple[str, str], number: int) -> str:
    """The line of the first or the second: colour, and dashes for the second."""
    dashes = ' stroke-dasharray="8 6"' if number else ""
    return f'fill="none" stroke="{colours[number]}" stroke-width="2.5" stroke-linejoin="round"{dashes}'


def _points(places: Iterable[Iterable[float]]) -> str:
    return " ".join(",".join(f"{value:.1f}" for value in place) for place in places)


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


def _on_slice(polygons: Iterable[Points], lattice: Lattice, at: int) -> Iterable[Points]:
    """The polygons of one slice as fractional (row, column)."""
    for polygon in polygons:
        indices = lattice.index_of(polygon)
        if round(float(indices[:, 0].mean())) == at:
            yield indices[:, 1:]


def curves(of: Sequence[tuple[str, DoseVolume]], *, axes: tuple[str, str]) -> str:
    """The cumulative dose-volume curves of one or two drawings as SVG; ``axes`` are the words for dose and volume."""
    width, height, left, bottom = 640, 400, 64, 52
    most = max((float(found.gray[0]) for _name, found in of), default=0.0) or 1.0

    def place(gray: float, share: float) -> tuple[float, float]:
        return left + gray / most * (width - left - 24), 12 + (1 - share) * (height - bottom - 12)

    parts = [_opening(width, height, ", ".join(name for name, _found in of), ground="#fff")]
    for fifth in range(6):
        gray = most * fifth / 5
        x, y = place(gray, fifth / 5)
        parts.append(f'<path d="M{left},{y:.1f}H{width - 24}" stroke="#ccc"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 5:.1f}" text-anchor="end">{fifth * 20}\u202f%</text>')
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 20}" text-anchor="middle">{gray:.0f}</text>')
    for number, (name, found) in enumerate(of):
        look = _look(ON_PAPER, number)
        parts.append(f'<polyline points="{_points(place(*point) for point in found.curve())}" {look}/>')
        y = height - bottom - 44 + number * 24
        parts.append(f'<path d="M{left + 16},{y - 5}h44" {look}/>')
        parts.append(f'<text x="{left + 70}" y="{y}">{escape(name)}</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{escape(axes[0])}</text>')
    parts.append(f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">')
    parts.append(f"{escape(axes[1])}</text></svg>")
    return "".join(parts)
