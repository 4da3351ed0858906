"""A PDF report as covered pictures: what is proposed, what is refused, and that nothing known shows."""

from __future__ import annotations

from datetime import timedelta
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sampler.pages import document, redaction
from sampler.pages.document import Box
from sampler.pages.proposal import PICTURE, SCAN, Cover, proposed
from sampler.pseudonym.identifiers import Identifiers
from sampler.texts.narrative import Narrative
from security.errors import BadInput, Refused
from tests.fixtures.pdf import pdf

KNOWN = Identifiers.stated(names=["LEBREMENT-ŒUVRARD^ZOÉ"], ids=["IPP-77120"])
NARRATIVE = Narrative(KNOWN, moved=lambda day: day - timedelta(days=70))
LINES = [
    (60, 780, "Centre d'imagerie, compte rendu"),
    (60, 740, "Mme Zoé LEBREMENT-OEUVRARD, dossier IPP-77120"),
    (60, 720, "Scanner thoracique du 11/03/2024, nodule de 12 mm."),
    (60, 700, "Appeler le 01 44 53 45 51 en cas de doute."),
]


def array(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as picture:
        return np.asarray(picture)


def dark_in(picture: np.ndarray, box: Box) -> int:
    return int((picture[box.top : box.bottom, box.left : box.right].mean(axis=2) < 128).sum())


def test_letters_stand_where_they_are_drawn() -> None:
    (page,) = document.read(pdf(LINES))
    (picture,) = document.drawn(pdf(LINES))
    assert picture.size == (page.width, page.height) == (1240, 1754)
    shown = np.asarray(picture)
    for letter, box in zip(page.text, page.boxes, strict=True):
        if letter.isalnum():
            assert dark_in(shown, box) > 3, letter
    ink = np.argwhere(shown.mean(axis=2) < 128)
    letters = np.zeros(shown.shape[:2], dtype=bool)
    for box in page.boxes:
        letters[box.top : box.bottom + 1, box.left : box.right + 1] = True
    assert letters[ink[:, 0], ink[:, 1]].mean() > 0.99


@pytest.mark.parametrize(
    ("rotate", "crop"), [(90, ""), (180, ""), (270, ""), (0, "40 500 560 830"), (90, "40 500 560 830")]
)
def test_boxes_follow_a_page_that_is_turned_or_cut(rotate: int, crop: str) -> None:
    content = pdf(LINES, rotate=rotate, crop=crop)
    (page,) = document.read(content)
    covers = proposed([page], NARRATIVE)
    redaction.within(covers, [page])
    (picture,) = document.drawn(content)
    (shown,) = redaction.covered([picture], covers)
    name = next(cover for cover in covers if cover.why == "name")
    assert dark_in(np.asarray(picture), name.box) > 50
    assert (array(shown)[name.box.top + 1 : name.box.bottom, name.box.left + 1 : name.box.right] == 0).all()
    redaction.without_residue([page], covers, KNOWN)


def test_what_names_somebody_is_covered_and_what_was_found_stays() -> None:
    (page,) = document.read(pdf(LINES))
    covers = proposed([page], NARRATIVE)
    assert sorted(cover.why for cover in covers) == ["date", "identifier", "name", "phone"]
    assert next(cover.in_place for cover in covers if cover.why == "date") == "01/01/2024"
    visible = redaction._visible(page, [cover.box for cover in covers])
    assert "nodule de 12 mm" in visible
    assert "LEBREMENT" not in visible
    assert "IPP" not in visible.replace("dossier", "")
    assert "01 44" not in visible


def test_what_a_person_uncovers_is_refused_when_it_is_known() -> None:
    pages = document.read(pdf(LINES))
    covers = [cover for cover in proposed(pages, NARRATIVE) if cover.why != "name"]
    with pytest.raises(Refused, match="page 1 of the report") as refused:
        redaction.without_residue(pages, covers, KNOWN)
    assert "LEBREMENT" not in str(refused.value)


def test_a_name_over_two_lines_is_one_box_a_line() -> None:
    lines = [(400, 700, "Mme Zoé LEBREMENT-"), (60, 680, "OEUVRARD revient"), (60, 650, "pour un controle annuel.")]
    pages = document.read(pdf(lines))
    names = [cover.box for cover in proposed(pages, NARRATIVE) if cover.why == "name"]
    assert len({box.top for box in names}) == 2
    redaction.without_residue(pages, proposed(pages, NARRATIVE), KNOWN)


def test_pictures_are_proposed_and_a_page_without_text_is_covered_whole() -> None:
    pages = document.read(pdf(LINES, [], picture=True))
    covers = proposed(pages, NARRATIVE)
    picture = next(cover for cover in covers if cover.why == PICTURE)
    assert (picture.box.right - picture.box.left, picture.page) == (pytest.approx(80 / 72 * 150 + 6, abs=2), 1)
    assert [cover for cover in covers if cover.page == 2] == [
        Cover(page=2, box=Box(left=0, top=0, right=1240, bottom=1754), why=SCAN)
    ]


def test_a_note_in_the_margin_is_neither_read_nor_drawn() -> None:
    content = pdf(LINES, note="ZOE LEBREMENT")
    (page,) = document.read(content)
    assert page.annotations == 1
    (with_note,), (without,) = document.drawn(content), document.drawn(pdf(LINES))
    assert with_note.tobytes() == without.tobytes()


def test_ff50_a_box_of_another_page_or_size_is_refused() -> None:
    pages = document.read(pdf(LINES))
    for cover in (
        Cover(page=2, box=Box(left=0, top=0, right=5, bottom=5), why="person"),
        Cover(page=1, box=Box(left=0, top=0, right=1241, bottom=5), why="person"),
        Cover(page=1, box=Box(left=9, top=0, right=9, bottom=5), why="person"),
    ):
        with pytest.raises(BadInput, match="lies outside") as refused:
            redaction.within([cover], pages)
        assert refused.value.code == "cover-off-page"


def test_nothing_of_the_text_is_in_the_bytes_of_the_pictures() -> None:
    pages = document.read(pdf(LINES))
    for content in redaction.covered(document.drawn(pdf(LINES)), proposed(pages, NARRATIVE)):
        assert content.startswith(b"\x89PNG")
        assert b"LEBREMENT" not in content


def test_the_preview_shows_the_page_and_numbers_its_boxes() -> None:
    pages = document.read(pdf(LINES))
    (original,) = document.drawn(pdf(LINES))
    (shown,) = redaction.preview([original], proposed(pages, NARRATIVE))
    differs = (array(shown) != np.asarray(original)).any(axis=2)
    assert 0 < differs.mean() < 0.02


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"%PDF-1.4 and nothing else", "pdf-malformed"),
        (b"", "pdf-malformed"),
        (pdf(), "pdf-malformed"),
        (pdf(*[[] for _ in range(61)]), "pdf-too-many-pages"),
        (pdf(LINES).replace(b"[0 0 595 842]", b"[0 0 9595 842]"), "pdf-page-too-large"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_refused_with_what_to_do(content: bytes, code: str) -> None:
    with pytest.raises(BadInput) as refused:
        document.read(content)
    assert refused.value.code == code
    assert refused.value.hint


def test_a_pdf_of_more_bytes_than_are_read_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "BYTES_MAX", 10)
    with pytest.raises(BadInput, match="at most 10 are read") as refused:
        document.read(pdf(LINES))
    assert refused.value.code == "pdf-too-large"
