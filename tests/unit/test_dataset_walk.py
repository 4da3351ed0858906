"""A data set read as it streams by (security.parse.dataset): identifiers, and what does not hold together."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from security.errors import BadInput
from security.parse.dataset import DataSetWalk
from security.parse.identifiers import Identifiers
from tests.fixtures.dicom_objects import (
    BIG_ENDIAN,
    CT,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ROOT,
    data_set,
    deflated,
    element,
    nested,
)

SAID = Identifiers(sop_class=CT, sop=f"{ROOT}.1.1.1", study=f"{ROOT}.1", series=f"{ROOT}.1.1")
SYNTAXES = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)


def walked(data: bytes, syntax: str = EXPLICIT, *, pieces: int = 1 << 30) -> Identifiers:
    walk = DataSetWalk(syntax, what="an object")
    for start in range(0, len(data), pieces):
        walk.feed(data[start : start + pieces])
    walk.close()
    return walk.identifiers


def code(data: bytes, syntax: str = EXPLICIT, *, pieces: int = 1 << 30) -> str:
    try:
        walked(data, syntax, pieces=pieces)
    except BadInput as fault:
        return fault.code
    return ""


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("pieces", [1, 7, 64, 1 << 20])
def test_the_identifiers_are_found_in_any_syntax_however_the_bytes_are_cut(syntax: str, pieces: int) -> None:
    assert walked(data_set(syntax=syntax), syntax, pieces=pieces) == SAID


def test_identifiers_inside_a_sequence_are_not_the_objects_own() -> None:
    other = element(0x00080018, "UI", b"1.2.3.4\0") + element(0x0020000D, "UI", b"9.9\0")
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(other)) + other
    reference = element(0x00081140, "SQ", item)

    assert walked(data_set(before=[reference])) == SAID


def test_a_study_that_is_named_after_the_first_mebibyte_is_still_found() -> None:
    assert walked(data_set(before=[element(0x00091001, "OB", bytes(3 * 1024**2))]), pieces=65_536) == SAID


def test_the_syntax_of_a_vendor_is_seen_from_its_first_element() -> None:
    assert walked(data_set(syntax=IMPLICIT), "1.2.840.113619.5.2") == SAID
    assert walked(data_set(syntax=EXPLICIT), "1.3.46.670589.33.1.4.1") == SAID


@pytest.mark.parametrize("cut", [1, 3, 9, 511])
def test_t11_an_object_that_ends_inside_an_element_is_truncated(cut: int) -> None:
    assert code(data_set()[:-cut]) == "dicom-truncated"


def test_t11_four_gibibytes_announced_and_three_bytes_present_are_truncated() -> None:
    assert code(data_set(after=[element(0x7FE10010, "OB", b"abc", length=0xFFFFFFF0)])) == "dicom-truncated"


def test_t11_a_fragmented_image_without_its_end_is_truncated() -> None:
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"abcd"
    pixels = element(0x7FE00010, "OB", fragments, length=0xFFFFFFFF)
    body = data_set()[: -12 - 512]

    assert code(body + pixels) == "dicom-truncated"
    assert code(body + pixels + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)) == ""


@pytest.mark.parametrize("defined", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_t10_sequences_nested_deeper_than_64_are_refused_and_64_are_not(syntax: str, defined: bool) -> None:
    deep = lambda depth: data_set(syntax=syntax, after=[nested(depth, defined=defined, syntax=syntax)])  # noqa: E731

    assert code(deep(60), syntax) == ""
    assert code(deep(200), syntax) == "dicom-too-deep"
    assert code(deep(5000), syntax) == "dicom-too-deep"


def test_t10_an_element_longer_than_its_item_is_malformed() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 8) + element(0x00080060, "CS", b"CT", length=40)
    assert code(data_set(before=[element(0x00081140, "SQ", item)])) == "dicom-malformed"


def test_t08_a_deflated_object_that_inflates_without_bound_is_refused_before_it_is_held() -> None:
    bomb = deflated(data_set(pixels=bytes(64 * 1024**2)))
    assert len(bomb) < 100_000

    assert code(bomb, DEFLATED, pieces=4096) == "dicom-bomb"
    assert code(deflated(data_set(pixels=bytes(900_000))), DEFLATED) == ""  # a black image is no bomb


def test_t08_a_deflated_stream_that_ends_early_or_is_none_is_named() -> None:
    assert code(data_set(syntax=DEFLATED)[:-30], DEFLATED) == "dicom-truncated"
    assert code(b"\xff" * 300, DEFLATED) == "dicom-malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        element(0x00080016, "UI", b"1.2\0").replace(b"UI", b"??"),
        struct.pack("<HHL", 0xFFFE, 0xE000, 0),
        struct.pack("<HHL", 0xFFFE, 0xE0DD, 0),
        element(0x00080060, "OB", b"", length=0xFFFFFFFF) + struct.pack("<HHL", 0x0008, 0x0060, 0),
        element(0x00080060, "UT", b"", length=0xFFFFFFFF),
    ],
    ids=["empty", "bad-vr", "stray-item", "stray-end", "no-fragment", "undefined-text"],
)
def test_ff08_what_is_no_data_set_is_malformed(data: bytes) -> None:
    assert code(data) == "dicom-malformed"


def test_ff08_odd_lengths_and_unsorted_tags_are_tolerated() -> None:
    assert walked(data_set(after=[element(0x00100020, "LO", b"IPP-1"), element(0x00080060, "CS", b"CT")])) == SAID


def test_a_sequence_of_unknown_vr_holds_implicit_elements() -> None:
    """PS3.5 6.2.2, note 2."""
    inner = element(0x00080060, "CS", b"CT", syntax=IMPLICIT)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    unknown = element(0x00091010, "UN", item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
    assert walked(data_set(before=[unknown])) == SAID


def test_t09_rows_and_columns_without_bound_cost_nothing() -> None:
    huge = [element(0x00280010, "US", b"\xff\xff"), element(0x00280011, "US", b"\xff\xff")]
    assert walked(data_set(before=huge)) == SAID


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(SYNTAXES), st.integers(1, 50))
def test_t13_any_bytes_end_in_nothing_or_bad_input_and_the_cut_does_not_matter(
    data: bytes, syntax: str, pieces: int
) -> None:
    assert code(data, syntax) == code(data, syntax, pieces=pieces)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=4), st.booleans(), st.booleans(), st.integers(1, 40))
def test_what_pydicom_writes_holds_together(
    values: list[bytes], implicit: bool, undefined: bool, pieces: int
) -> None:
    written = Dataset()
    written.SOPClassUID, written.SOPInstanceUID = SAID.sop_class, SAID.sop
    written.StudyInstanceUID, written.SeriesInstanceUID = SAID.study, SAID.series
    items = []
    for value in values:
        item = Dataset()
        item.PatientComments = value.hex()
        item.ReferencedImageSequence = Sequence([Dataset()])
        items.append(item)
    written.ReferencedStudySequence = Sequence(items)
    written["ReferencedStudySequence"].is_undefined_length = undefined
    out = BytesIO()
    written.save_as(out, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    dcmread(BytesIO(out.getvalue()), force=True)

    assert walked(out.getvalue(), IMPLICIT if implicit else EXPLICIT, pieces=pieces) == SAID
