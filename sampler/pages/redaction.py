"""Pages with boxes covered: the pictures that leave, and the proof that nothing known is under what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from sampler.pages.document import Box, Page
from sampler.pages.proposal import Cover
from sampler.pseudonym.identifiers import Identifiers
from security.errors import BadInput, Refused

_OUTLINE = (200, 30, 30)


def within(covers: Iterable[Cover], pages: Sequence[Page]) -> None:
    """That every box lies on a page that is there (FF-50).

    Raises:
        BadInput: ``cover-off-page``.
    """
    for cover in covers:
        page = pages[cover.page - 1] if 1 <= cover.page <= len(pages) else None
        box = cover.box
        if page is None or not (0 <= box.left < box.right <= page.width and 0 <= box.top < box.bottom <= page.height):
            raise BadInput(
                f"a box on page {cover.page} lies outside: {box.left},{box.top} to {box.right},{box.bottom}",
                code="cover-off-page",
                hint="the box was drawn for another document or size: draw it again on the preview",
            )


def without_residue(pages: Sequence[Page], covers: Sequence[Cover], identifiers: Identifiers) -> None:
    """Search the letters that stay visible for values of the originals.

    Raises:
        Refused: ``case-residue``, with the page and without the value.
    """
    for number, page in enumerate(pages, start=1):
        boxes = [cover.box for cover in covers if cover.page == number]
        if identifiers.found_in(_visible(page, boxes)):
            raise Refused(
                f"page {number} of the report still shows a value of the original",
                code="case-residue",
                hint="cover it: the preview shows where boxes are",
            )


def _visible(page: Page, boxes: Sequence[Box]) -> str:
    """The text with a blank for each letter that a box covers."""
    shown = (
        " " if any(box.holds(place) for box in boxes) else letter
        for letter, place in zip(page.text, page.boxes, strict=True)
    )
    return "".join(shown)


def covered(pictures: Sequence[Image.Image], covers: Sequence[Cover]) -> list[bytes]:
    """The pages as PNG, each box filled: black, or white with the moved date on it."""
    made = []
    for number, picture in enumerate(pictures, start=1):
        page = picture.copy()
        pen = ImageDraw.Draw(page)
        for cover in (one for one in covers if one.page == number):
            _fill(pen, cover)
        made.append(_png(page))
    return made


def preview(pictures: Sequence[Image.Image], covers: Sequence[Cover]) -> list[bytes]:
    """The pages as they are, boxes outlined and numbered as in the list: for the site's eyes alone."""
    made = []
    for number, picture in enumerate(pictures, start=1):
        page = picture.copy()
        pen = ImageDraw.Draw(page)
        for place, cover in enumerate(covers, start=1):
            if cover.page == number:
                box = cover.box
                pen.rectangle((box.left, box.top, box.right, box.bottom), outline=_OUTLINE, width=2)
                pen.text((box.left + 2, max(0, box.top - 14)), str(place), fill=_OUTLINE, font=_font(13))
        made.append(_png(page))
    return made


def _fill(pen: ImageDraw.ImageDraw, cover: Cover) -> None:
    box = cover.box
    edges = (box.left, box.top, box.right, box.bottom)
    if not cover.in_place:
        pen.rectangle(edges, fill=(0, 0, 0))
        return
    pen.rectangle(edges, fill=(255, 255, 255), outline=(0, 0, 0))
    size = max(8, round((box.bottom - box.top) * 0.7))
    while size > 6 and pen.textlength(cover.in_place, font=_font(size)) > box.right - box.left - 4:
        size -= 1
    pen.text(
        ((box.left + box.right) / 2, (box.top + box.bottom) / 2),
        cover.in_place,
        fill=(0, 0, 0),
        font=_font(size),
        anchor="mm",
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _png(picture: Image.Image) -> bytes:
    kept = BytesIO()
    picture.save(kept, "PNG", optimize=True)
    return kept.getvalue()
