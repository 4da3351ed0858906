"""SVG charts of the report: intervals as lines with a point, answers as one bar.

Colours are of the palette of Okabe and Ito and never needed alone: points and lines are labelled, the parts of a bar
have patterns and their numbers beside them. Text is text, in the page's own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape

from sampler.figures import display
from sampler.figures.rate import Rate

WIDTH, LABEL, RIGHT = 720, 190, 170
ROW, TOP, BOTTOM = 34, 14, 34
INK, LINE, POINT, REFERENCE = "#1a1a1a", "#0072b2", "#003f63", "#8a8a8a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a chart of intervals: its label, and its rate or why there is none."""

    label: str
    rate: Rate | None
    without: str


def intervals(rows: Sequence[Row], *, title: str, lang: str) -> str:
    """Estimates and intervals on one axis from 0 to 1."""
    height = TOP + ROW * len(rows) + BOTTOM
    parts = [_opening(height, title)]
    foot = TOP + ROW * len(rows)
    for tenth in range(0, 11, 2):
        x = _x(tenth / 10)
        mark = "0" if tenth == 0 else "1" if tenth == 10 else display.decimals(Fraction(tenth, 10), 1, lang=lang)
        parts.append(
            f'<path d="M{x:.1f},{TOP}V{foot}" stroke="{REFERENCE}" stroke-width=".6" stroke-dasharray="2 3"/>'
        )
        parts.append(f'<text x="{x:.1f}" y="{foot + 20}" text-anchor="middle">{mark}</text>')
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        parts.append(f'<text x="{LABEL - 12}" y="{y + 5:.1f}" text-anchor="end">{escape(row.label)}</text>')
        if row.rate is None:
            parts.append(f'<text x="{LABEL + 10}" y="{y + 5:.1f}" font-style="italic">{escape(row.without)}</text>')
            continue
        low, high, at = (_x(float(one)) for one in (row.rate.interval.low, row.rate.interval.high, row.rate.estimate))
        parts.append(
            f'<path d="M{low:.1f},{y:.1f}H{high:.1f}M{low:.1f},{y - 6:.1f}v12M{high:.1f},{y - 6:.1f}v12"'
            f' stroke="{LINE}" stroke-width="2.4" fill="none"/>'
            f'<circle cx="{at:.1f}" cy="{y:.1f}" r="5.5" fill="{POINT}"/>'
        )
        told = f"{display.ratio(row.rate.estimate, lang=lang)} ({display.span(row.rate.interval, lang=lang)})"
        parts.append(f'<text x="{WIDTH - RIGHT + 16}" y="{y + 5:.1f}">{escape(told)}</text>')
    return "".join(parts) + "</svg>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a bar."""

    label: str
    count: int


_FILLS = (
    ("#0072b2", ""),
    ("#d55e00", '<path d="M0,0L8,8M-2,6L2,10M6,-2L10,2" stroke="#fff" stroke-width="1.6"/>'),
    ("#c9c9c9", '<circle cx="4" cy="4" r="1.4" fill="#444"/>'),
    ("#ffffff", '<path d="M0,4H8" stroke="#777" stroke-width="1"/>'),
)


def bar(parts: Sequence[Part], *, title: str) -> str:
    """Counts as parts of one bar, in order; at most four."""
    whole = sum(part.count for part in parts)
    made = [_opening(48 + 24 * len(parts), title), "<defs>"]
    for number, (ground, ink) in enumerate(_FILLS[: len(parts)]):
        made.append(
            f'<pattern id="part{number}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<rect width="8" height="8" fill="{ground}"/>{ink}</pattern>'
        )
    made.append("</defs>")
    x = 0.0
    for number, part in enumerate(parts):
        wide = WIDTH * part.count / whole if whole else 0
        made.append(
            f'<rect x="{x:.1f}" y="8" width="{wide:.1f}" height="30" fill="url(#part{number})" stroke="{INK}"'
            ' stroke-width=".8"/>'
        )
        y = 62 + 24 * number
        made.append(f'<rect x="0" y="{y - 14}" width="26" height="17" fill="url(#part{number})" stroke="{INK}"/>')
        made.append(f'<text x="38" y="{y}">{escape(part.label)} ({part.count})</text>')
        x += wide
    return "".join(made) + "</svg>"


def _x(share: float) -> float:
    return LABEL + share * (WIDTH - LABEL - RIGHT)


def _opening(height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"'
        f' aria-label="{escape(title)}" font-family="inherit" font-size="15" fill="{INK}">'
        f"<title>{escape(title)}</title>"
    )
