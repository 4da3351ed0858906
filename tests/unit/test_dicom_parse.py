import contextlib
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

from gateway.lab.phantom import LabStudy
from security.errors import BadInput
from security.parse.dicom import Text, charsets, parse_untrusted, text
from tests.corpus import corpus

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = "1.2.840.10008.1.2.4.50"

PATIENT_NAME = 0x00100010


def image() -> bytes:
    study = LabStudy(
        study_uid="1.2.250.1.999.7",
        patient_id="IPP1",
        name="FANTÔME^Zoé",
        birth_date="19700228",
        sex="F",
        accession="A1",
    )
    study.add_series("CT")
    return study.objects[0].data


def part10(body: bytes, transfer_syntax: str = EXPLICIT) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = transfer_syntax
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    return bytes(128) + b"DICM" + head.getvalue() + body


def element(group: int, number: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    if vr in (b"SQ", b"OB", b"OW", b"UN", b"UT"):
        return struct.pack("<HH2sHL", group, number, vr, 0, size) + value
    return struct.pack("<HH2sH", group, number, vr, size) + value


def nested(depth: int, *, defined: bool) -> bytes:
    """ReferencedStudySequence in itself, ``depth`` times."""
    value = b""
    for _ in range(depth):
        if defined:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value
            value = element(0x0008, 0x1110, b"SQ", item)
        else:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + value + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            value = element(0x0008, 0x1110, b"SQ", item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
    return value


def refused(data: bytes | Path) -> str:
    with pytest.raises(BadInput) as raised:
        parse_untrusted(data, what="object")
    return raised.value.code


def test_an_honest_object_is_read_up_to_its_pixels():
    found = parse_untrusted(image(), what="object")

    assert found.file_meta.TransferSyntaxUID == EXPLICIT
    assert text(found, PATIENT_NAME, charset=charsets(found, default="ISO_IR 6")) == Text("FANTÔME^Zoé")
    assert "PixelData" not in found


def test_an_object_is_read_from_a_file_too(tmp_path: Path):
    path = tmp_path / "object.dcm"
    path.write_bytes(image())

    assert parse_untrusted(path, what="object").StudyInstanceUID == "1.2.250.1.999.7"


@pytest.mark.parametrize("depth", [200, 5000])
@pytest.mark.parametrize("defined", [True, False])
def test_t10_a_bomb_of_nested_sequences_is_refused_and_the_next_object_is_fine(depth: int, defined: bool):
    assert refused(part10(nested(depth, defined=defined))) == "dicom-too-deep"
    assert parse_untrusted(image(), what="object")


def test_t10_twenty_levels_are_read():
    assert parse_untrusted(part10(nested(20, defined=False)), what="object")


def test_t11_an_element_that_announces_more_than_is_there_is_truncated():
    assert refused(part10(element(0x0010, 0x0010, b"PN", b"AB^", length=4000))) == "dicom-truncated"


def test_t11_four_gigabytes_announced_and_three_bytes_present_is_truncated():
    assert refused(part10(element(0x0010, 0x4000, b"UT", b"abc", length=0xFFFFFFFE))) == "dicom-truncated"


def test_t11_a_lie_inside_a_sequence_is_truncated():
    inner = element(0x0008, 0x1150, b"UI", b"1.2", length=4000)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner

    assert refused(part10(element(0x0008, 0x1110, b"SQ", item))) == "dicom-truncated"


@pytest.mark.parametrize("lost", [1, 100, 8000])
def test_t11_pixels_cut_short_are_truncated_though_they_are_not_read(lost: int):
    assert refused(image()[:-lost]) == "dicom-truncated"


def test_t11_fragments_without_their_delimiter_are_truncated():
    fragment = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"JPEG"
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)

    def encapsulated(value: bytes) -> bytes:
        return part10(element(0x7FE0, 0x0010, b"OB", value, length=0xFFFFFFFF), JPEG)

    assert refused(encapsulated(fragment)) == "dicom-truncated"
    assert parse_untrusted(encapsulated(fragment + end), what="object").file_meta.TransferSyntaxUID == JPEG


def deflate(body: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return engine.compress(body) + engine.flush()


def test_t08_a_deflated_bomb_is_refused_before_it_is_inflated():
    body = element(0x0010, 0x4000, b"UT", bytes(64 * 1024 * 1024))

    assert refused(part10(deflate(body), DEFLATED)) == "dicom-bomb"


def test_t08_an_honest_deflated_object_is_read_and_keeps_its_transfer_syntax():
    found = parse_untrusted(part10(deflate(element(0x0010, 0x0020, b"LO", b"IPP1")), DEFLATED), what="object")

    assert found.PatientID == "IPP1"
    assert found.file_meta.TransferSyntaxUID == DEFLATED


def test_t08_a_deflated_stream_that_ends_early_is_truncated():
    body = deflate(element(0x0010, 0x4000, b"UT", bytes(range(256)) * 40))

    assert refused(part10(body[:-30], DEFLATED)) == "dicom-truncated"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "dicom-not-part10"),
        (b"<html>" * 100, "dicom-not-part10"),
        (bytes(128) + b"DICM", "dicom-not-part10"),
        (part10(b"\xff" * 40, DEFLATED), "dicom-malformed"),
    ],
)
def test_t13_malformed_bytes_are_refused_with_a_code(data: bytes, code: str):
    assert refused(data) == code


@settings(deadline=None)
@given(st.data())
def test_t13_no_mutation_escapes_as_anything_but_bad_input(data: st.DataObject):
    mutated = bytearray(image()[:1200])
    for _ in range(data.draw(st.integers(1, 12))):
        mutated[data.draw(st.integers(128, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with contextlib.suppress(BadInput):
            parse_untrusted(bytes(mutated), what="object")
    assert not warned


@pytest.mark.corpus
def test_t13_no_broken_file_of_the_corpus_escapes_as_anything_but_bad_input():
    outcomes = {}
    for path in sorted(corpus("dicom", "broken-odd").glob("*.dcm")):
        try:
            parse_untrusted(path, what=path.name)
            outcomes[path.name] = "read"
        except BadInput as refusal:
            outcomes[path.name] = refusal.code

    assert outcomes["MR_truncated.dcm"] == "dicom-truncated"
    assert outcomes["no_meta.dcm"] == "dicom-not-part10"
    assert outcomes["2026-05-06-Deeply-Nested-Sequence.dcm"] == "dicom-too-deep"


@pytest.mark.corpus
def test_every_file_of_the_corpus_is_read_but_the_one_that_is_cut():
    refusals = {}
    for folder in ("ct-series", "mr-series", "cr-dx-mg", "us-xa-multiframe", "enhanced-multiframe", "sr-seg-pdf"):
        for path in sorted(corpus("dicom", folder).rglob("*.dcm")):
            try:
                parse_untrusted(path, what=path.name)
            except BadInput as refusal:
                refusals[path.name] = refusal.code

    assert refusals == {"RG1_J2KI.dcm": "dicom-truncated"}  # its last fragment and its delimiter are missing


def labelled(charset: bytes | None, name: bytes) -> Dataset:
    """An unread data set, as it comes from a peer."""
    body = b"" if charset is None else element(0x0008, 0x0005, b"CS", charset)
    return parse_untrusted(part10(body + element(0x0010, 0x0010, b"PN", name)), what="object")


@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        (b"ISO_IR 192", "FANTÔME^Zoé".encode(), "FANTÔME^Zoé"),
        (b"ISO_IR 100", b"FANT\xd4ME^Zo\xe9", "FANTÔME^Zoé"),
        (b"ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
        (b"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
        (b"ISO_IR 144", b"\xbb\xee\xda\xe1\xd5\xdc\xd1\xe3\xe0\xd3", "Люксембург"),
        (b"ISO_IR 203", b"C\xbdUR^Z\xe9", "CœUR^Zé"),
        (b"ISO-IR 100", b"FANT\xd4ME^Zo\xe9", "FANTÔME^Zoé"),
        (b"ISO IR 192", "FANTÔME^Zoé".encode(), "FANTÔME^Zoé"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
        (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        (None, b"FANT\xd4ME^Zo\xe9", "FANTÔME^Zoé"),
        (b"", b"FANT\xd4ME^Zo\xe9", "FANTÔME^Zoé"),
    ],
)
def test_ff10_a_name_is_decoded_by_its_own_character_set(charset: bytes | None, name: bytes, expected: str):
    found = labelled(charset, name)

    assert text(found, PATIENT_NAME, charset=charsets(found, default="ISO_IR 100")) == Text(expected)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (b"ISO_IR 192", b"FANT\xd4ME^Zo\xe9"),  # Latin-1 under a UTF-8 label
        (b"ISO_IR 100", "FANTÔME".encode()),  # UTF-8 under a Latin-1 label: Ô is C3 94, and 94 is a control
        (b"ISO_IR 6", b"FANT\xd4ME"),
        (b"KLINGON", b"FANT\xd4ME"),
        (b"ISO_IR 100", b"\x1b$)CABC"[:3] + b"\x1bZZZ"),
    ],
)
def test_ff10_what_does_not_fit_its_label_is_flagged_and_never_becomes_a_question_mark(charset: bytes, name: bytes):
    found = labelled(charset, name)

    decoded = text(found, PATIENT_NAME, charset=charsets(found, default="ISO_IR 6"))

    assert not decoded.exact
    assert "?" not in decoded.value


def test_an_absent_element_is_an_empty_text():
    assert text(Dataset(), PATIENT_NAME, charset=("ISO_IR 6",)) == Text("")


def test_an_implicit_object_is_read():
    data_set = Dataset()
    data_set.PatientID = "IPP1"
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = IMPLICIT
    data_set.SOPClassUID = data_set.SOPInstanceUID = "1.2.3"
    data_set.add_new("PixelData", "OW", bytes(100))
    out = BytesIO()
    dcmwrite(out, data_set, enforce_file_format=True)

    assert parse_untrusted(out.getvalue(), what="object").PatientID == "IPP1"
    assert refused(out.getvalue()[:-10]) == "dicom-truncated"
