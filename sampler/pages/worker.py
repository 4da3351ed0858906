"""The process that opens a PDF: a foreign file and a large library in C stay away from keys and network (T08, T13).

``python -I worker.py read|draw`` takes the PDF on standard input and answers on standard output: ``read``
with JSON, ``draw`` with a length (four bytes, big endian) and a PNG a page. It limits its own memory, time and files.
Annotations and form fields are neither read nor drawn: what is in them does not leave.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

DPI = 150
PAGES_MAX = 60
SIDE_MAX = 6_000
"""Pixels; an A3 page at 150 dpi is 2,480 long."""
CHARACTERS_MAX = 200_000
MEMORY_MAX = 2 * 1024**3
SECONDS_MAX = 60
_SCALE = DPI / 72


class Excess(Exception):
    """More than is read: its text is a code."""


def main() -> int:
    """The exit code: 0, or 3 with a code of the reason on standard error."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    content = sys.stdin.buffer.read()
    try:
        with pypdfium2.PdfDocument(content) as document:
            _check(document)
            (_read if sys.argv[1] == "read" else _draw)(document)
    except pypdfium2.PdfiumError:
        sys.stderr.write("pdf-malformed")
        return 3
    except Excess as excess:
        sys.stderr.write(str(excess))
        return 3
    return 0


def _check(document: pypdfium2.PdfDocument) -> None:
    if len(document) > PAGES_MAX:
        raise Excess("pdf-too-many-pages")
    for number in range(len(document)):
        if max(_size(document[number])) > SIDE_MAX:
            raise Excess("pdf-page-too-large")


def _size(page: pypdfium2.PdfPage) -> tuple[int, int]:
    """Pixels, as the page is drawn: with its rotation and its crop."""
    width, height = page.get_size()
    return max(1, round(width * _SCALE)), max(1, round(height * _SCALE))


def _read(document: pypdfium2.PdfDocument) -> None:
    json.dump([_page(document[number]) for number in range(len(document))], sys.stdout)


def _page(page: pypdfium2.PdfPage) -> dict[str, Any]:
    width, height = _size(page)
    text = page.get_textpage()
    count = text.count_chars()
    if count > CHARACTERS_MAX:
        raise Excess("pdf-too-much-text")
    letters, boxes = [], []
    for place in range(count):
        letters.append(chr(pdfium.FPDFText_GetUnicode(text.raw, place) or 0x20))
        left, bottom, right, top = text.get_charbox(place, loose=True)
        boxes.append(_placed(page, (width, height), (left, bottom, right, top)))
    kinds = (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_SHADING)
    images = [_placed(page, (width, height), one.get_bounds()) for one in page.get_objects(filter=kinds, max_depth=8)]
    return {
        "width": width,
        "height": height,
        "text": "".join(letters),
        "boxes": boxes,
        "images": images,
        "annotations": pdfium.FPDFPage_GetAnnotCount(page.raw),
    }


def _placed(page: pypdfium2.PdfPage, size: tuple[int, int], box: tuple[float, ...]) -> list[int]:
    """A box of the page's own space as pixels: left, top, right, bottom."""
    left, bottom, right, top = box
    corners = [_device(page, size, x, y) for x in (left, right) for y in (bottom, top)]
    columns, rows = zip(*corners, strict=True)
    return [min(columns), min(rows), max(columns), max(rows)]


def _device(page: pypdfium2.PdfPage, size: tuple[int, int], x: float, y: float) -> tuple[int, int]:
    column, row = ctypes.c_int(), ctypes.c_int()
    pdfium.FPDF_PageToDevice(page.raw, 0, 0, *size, 0, x, y, column, row)
    return column.value, row.value


def _draw(document: pypdfium2.PdfDocument) -> None:
    for picture in _pictures(document):
        sys.stdout.buffer.write(len(picture).to_bytes(4, "big"))
        sys.stdout.buffer.write(picture)


def _pictures(document: pypdfium2.PdfDocument) -> Iterator[bytes]:
    for number in range(len(document)):
        page = document[number]
        bitmap = page.render(scale=_SCALE, may_draw_forms=False, draw_annots=False, grayscale=False)
        kept = BytesIO()
        image = bitmap.to_pil().convert("RGB")
        if image.size != _size(page):
            image = image.resize(_size(page))
        image.save(kept, "PNG")
        yield kept.getvalue()


if __name__ == "__main__":
    sys.exit(main())
