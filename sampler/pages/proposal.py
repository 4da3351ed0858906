"""What to cover on the pages of a report: what the rules of text find, and every picture.

Pure. A finding over several lines becomes a box a line. A proposal is changed and confirmed by a person; nothing that
was proposed is shown until that person takes it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sampler.pages.document import Box, Page
from sampler.texts.narrative import Kind, Narrative

PICTURE = "picture"
MARGIN = 3
"""Pixels around what was found."""
LETTERS_MIN = 20
"""A page with fewer letters is taken for a scan: all of it is covered."""
SCAN = "scan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """One box to cover on page ``page`` (from 1).

    ``why``: a kind of finding, ``picture``, ``scan`` or ``person``. ``in_place``: what is written on it, digits of a
    moved date; "" for black alone.
    """

    page: int
    box: Box
    why: str
    in_place: str = ""


def proposed(pages: Iterable[Page], narrative: Narrative) -> tuple[Cover, ...]:
    """What to cover, page by page."""
    return tuple(cover for number, page in enumerate(pages, start=1) for cover in _of_page(number, page, narrative))


def _of_page(number: int, page: Page, narrative: Narrative) -> Iterator[Cover]:
    for box in page.images:
        yield Cover(page=number, box=_wider(box, page), why=PICTURE)
    if sum(not letter.isspace() for letter in page.text) < LETTERS_MIN:
        yield Cover(page=number, box=Box(left=0, top=0, right=page.width, bottom=page.height), why=SCAN)
        return
    for finding in narrative.findings(page.text):
        lines = list(_lines(page.boxes[finding.start : finding.end]))
        told = finding.in_place if finding.kind is Kind.DATE and len(lines) == 1 else ""
        for box in lines:
            yield Cover(page=number, box=_wider(box, page), why=finding.kind.value, in_place=told)


def _lines(boxes: Iterable[Box]) -> Iterator[Box]:
    """Boxes of letters joined line by line."""
    line: Box | None = None
    for box in boxes:
        if box.left == box.right or box.top == box.bottom:  # a blank that the reader made up
            continue
        if line is not None and _on_one_line(line, box):
            line = Box(
                left=min(line.left, box.left),
                top=min(line.top, box.top),
                right=max(line.right, box.right),
                bottom=max(line.bottom, box.bottom),
            )
            continue
        if line is not None:
            yield line
        line = box
    if line is not None:
        yield line


def _on_one_line(line: Box, box: Box) -> bool:
    """Side by side or one over the other (turned text), at most three letters apart."""
    height, width = box.bottom - box.top, box.right - box.left
    reach = 3 * max(height, width)
    across = min(line.bottom, box.bottom) - max(line.top, box.top) > height / 2
    along = min(line.right, box.right) - max(line.left, box.left) > width / 2
    beside = max(line.left, box.left) - min(line.right, box.right) <= reach
    under = max(line.top, box.top) - min(line.bottom, box.bottom) <= width / 2
    return (across and beside) or (along and under)


def _wider(box: Box, page: Page) -> Box:
    return Box(
        left=max(0, box.left - MARGIN),
        top=max(0, box.top - MARGIN),
        right=min(page.width, box.right + MARGIN),
        bottom=min(page.height, box.bottom + MARGIN),
    )
