"""The search that blocks a case when a value of the originals stayed (FF-50, T51)."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.pseudonym.identifiers import Identifiers
from sampler.pseudonym.needles import Needles
from sampler.pseudonym.residue import Search
from security.errors import Refused
from tests.fixtures.pseudonym_objects import image, item, written

KNOWN = Identifiers(
    names=frozenset({"quemeneur", "loic", "goff", "chest", "gwenole"}),
    ids=frozenset({"ipp-778812", "acc26030477", "trois moulins", "123456", "12345678"}),
    days=frozenset({date(2026, 3, 4), date(1931, 1, 2)}),
    uids=frozenset({"1.2.250.1.999.8.1.1", "2.25.163005553325861747"}),
    spelled=frozenset({"Gwénolé"}),
)


def places(change) -> list[str]:
    """What the search finds in an object that holds nothing but what ``change`` put there."""
    ct = image()
    for element in list(ct):
        if element.VR in {"PN", "LO", "SH", "ST", "LT", "DA", "DT", "UI"} and element.keyword != "SOPClassUID":
            del ct[element.tag]
    ct.SOPInstanceUID = "2.25.7"
    change(ct)
    return Search(KNOWN, [date(2025, 6, 4)]).places(written(ct), what="the object")


def test_an_object_without_any_of_the_values_passes():
    assert places(lambda ct: None) == []


@pytest.mark.parametrize(
    "text",
    [
        "QUEMENEUR",
        "vu par Loïc",
        "LOIC, quéméneur",
        "drquemeneurrx",
        "IPP-778812",
        "n° acc26030477.",
        "Trois  Moulins".replace("  ", " "),
        "le 04/03/2026",
        "2026-03-04",
        "20260304",
        "02.01.1931",
        "cf 1.2.250.1.999.8.1.1",
        "cf 1.2.250.1.999.8.1.1.55",
        "cf 2.25.163005553325861747",
    ],
)
def test_ff50_a_value_in_a_text_is_found_in_any_form(text):
    assert places(lambda ct: setattr(ct, "ImageComments", text)) == ["ImageComments"]


@pytest.mark.parametrize(
    "text", ["moved to 04/06/2025", "1.2.250.1.999.8.1", "gof", "quemen eur", "20260305", "778812"]
)
def test_what_only_looks_alike_is_not_found(text):
    assert places(lambda ct: setattr(ct, "ImageComments", text)) == []


def test_values_are_found_at_every_level_and_named_by_path():
    def nest(ct):
        ct.ReferencedImageSequence = [item(), item(PurposeOfReferenceCodeSequence=[item(CodeMeaning="pour Loïc")])]
        ct.ReferencedImageSequence[1].ReferencedSOPInstanceUID = "1.2.250.1.999.8.1.1"
        ct.SpecificCharacterSet = "ISO_IR 192"

    assert places(nest) == [
        "ReferencedImageSequence[2].PurposeOfReferenceCodeSequence[1].CodeMeaning",
        "ReferencedImageSequence[2].ReferencedSOPInstanceUID",
    ]


@pytest.mark.parametrize(
    "value",
    [b"QUEMENEUR", "Gwénolé".encode("latin-1"), "GWÉNOLÉ".encode(), "gwénolé".encode("utf-16-le"), "Quemeneur".encode("utf-16-le"), b"20260304", b"1.2.250.1.999.8.1.1", b"2.25.163005553325861747"],
)  # fmt: skip
def test_ff50_a_value_in_bytes_is_found_in_any_encoding(value):
    padded = b"\x00\x9c" + value + b"\x00" * (len(value) % 2)
    assert places(lambda ct: ct.add_new(0x00282000, "OB", padded)) == ["ICCProfile"]
    assert places(lambda ct: setattr(ct, "PixelData", padded + bytes(200))) == ["PixelData"]


def test_digits_that_a_ramp_of_grey_values_also_gives_are_no_hit_in_pixels():
    assert places(lambda ct: setattr(ct, "PixelData", b"\x00123456\x00" + bytes(200))) == []
    assert places(lambda ct: setattr(ct, "PixelData", b"\x0012345678\x00" + bytes(200))) == ["PixelData"]


def test_a_code_of_the_standard_is_no_hit_though_the_patient_is_called_so():
    assert places(lambda ct: setattr(ct, "BodyPartExamined", "CHEST")) == []
    assert places(lambda ct: setattr(ct, "BodyPartExamined", "GOFF")) == ["BodyPartExamined"]
    assert places(lambda ct: setattr(ct, "ImageComments", "chest")) == ["ImageComments"]


def test_days_are_found_in_dates_unless_they_are_moved_days_too():
    assert places(lambda ct: setattr(ct, "StudyDate", "20260304")) == ["StudyDate"]
    assert places(lambda ct: setattr(ct, "AcquisitionDateTime", "19310102101112")) == ["AcquisitionDateTime"]
    assert places(lambda ct: setattr(ct, "StudyDate", "20250604")) == []
    both = Search(KNOWN, [date(2026, 3, 4)])
    ct = image()
    ct.StudyDate = "20260304"
    assert "StudyDate" not in both.places(written(ct), what="the object")


def test_file_meta_and_preamble_are_searched():
    ct = image()
    for element in list(ct):
        if element.VR in {"PN", "LO", "SH", "ST", "LT", "DA", "DT", "UI"} and element.keyword != "SOPClassUID":
            del ct[element.tag]
    ct.file_meta.SourceApplicationEntityTitle = "QUEMENEUR"
    found = Search(KNOWN, []).places(written(ct, preamble=b"II*\0" + bytes(124)), what="the object")
    assert found == ["preamble", "file meta information"]


def test_t51_a_hit_blocks_and_the_message_names_attributes_and_no_value():
    ct = image()
    with pytest.raises(Refused) as blocked:
        Search(KNOWN, []).require_none(written(ct), what="object 3")
    message = str(blocked.value)
    assert blocked.value.code == "residue-found"
    assert message.startswith("object 3: a value of the original stayed in file meta information, AccessionNumber, ")
    assert not any(value in message.casefold() for value in KNOWN.names | KNOWN.ids | {"20260304"})


def test_needles_are_found_over_the_borders_of_windows_in_every_case_and_nowhere_else():
    wanted = Needles([b"quemeneur", b"1.2.250.1", "loïc".encode()])
    data = bytearray(9 * 1024 * 1024)
    places = [0, 4 * 1024 * 1024 - 3, 8 * 1024 * 1024 - 1, len(data) - 9]
    for place, said in zip(places, [b"Quemeneur", b"QUEMENEUR", b"1.2.250.1", b"quemeneur"], strict=True):
        data[place : place + len(said)] = said
    assert [place for place, _ in wanted.found(bytes(data))] == places
    assert list(wanted.found(b"quem")) == list(wanted.found(b"")) == list(Needles([b"abc"]).found(b"abcabc")) == []


@settings(max_examples=60)
@given(st.binary(max_size=80), st.lists(st.binary(min_size=4, max_size=6), max_size=4))
def test_needles_find_what_a_plain_search_finds(data, wanted):
    mixed = data + b"".join(wanted)[2:]
    assert bool(list(Needles(wanted).found(mixed))) == any(one.lower() in mixed.lower() for one in wanted)
