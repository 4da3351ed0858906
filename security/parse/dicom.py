"""The entry for foreign DICOM bytes (T08, T10, T11, T13), and for the text inside them (FF-10).

Invariants:

* ``parse_untrusted`` is the only caller of ``dcmread`` on foreign bytes; whatever pydicom does with them, the
  caller sees a Dataset or ``BadInput`` with a ``dicom-…`` code, never another exception, never a warning;
* an object that is cut short, nested without bound or inflates without bound is refused, not repaired;
* ``text`` decodes strictly by the declared character set and says so when that fails: no silent ``?``.

The 128 bytes of preamble may hold another file format (T12): they are skipped here and kept by nobody; whoever
emits Part 10 writes 128 zero bytes. Pixel data is never decoded here.
"""

from __future__ import annotations

import copy
import logging
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, config, dcmread
from pydicom.charset import CODES_TO_ENCODINGS, handled_encodings, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from security.errors import BadInput

BYTES_MAX = 2 * 1024**3
DEPTH_MAX = 64  # structured reports of real sites stay below 20
INFLATED_MAX = 1024**3
INFLATE_RATIO_MAX = 200

# pydicom's warnings and log quote values; ours name the fault instead. Reading modes are process-wide by its design.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_quiet = threading.Lock()  # warnings.catch_warnings is process-wide too: one parse at a time changes it

# Every exception seen to leave pydicom under fuzzing (T13), and those its code can raise beside them.
_ESCAPES = (
    AssertionError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError, MemoryError,
    NotImplementedError, OSError, OverflowError, RecursionError, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip

_PIXEL_GROUP = 0x7FE0
_UNDEFINED = 0xFFFFFFFF
_LONG_VR = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})  # of those pixel data may have


@contextmanager
def quiet() -> Iterator[None]:
    """While it lasts no library warns about foreign bytes: what a warning quotes may be a value."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def parse_untrusted(source: bytes | Path, *, stop_before_pixels: bool = True, what: str) -> Dataset:
    """The data set of a Part 10 object (PS3.10 7), with its ``file_meta``.

    Elements stay raw until read; sequences are parsed. ``what`` names the object in messages.

    Raises:
        BadInput: ``dicom-not-part10``, ``dicom-too-large``, ``dicom-bomb`` (deflated, T08), ``dicom-too-deep``
            (T10), ``dicom-truncated`` (T11), ``dicom-malformed`` (T13).
    """
    try:
        with quiet(), BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
            return _parse(stream, stop_before_pixels=stop_before_pixels, what=what)
    except RecursionError:
        raise _bad(f"{what}: sequences nested without end", code="dicom-too-deep") from None
    except EOFError:
        raise _bad(f"{what}: ends inside an element", code="dicom-truncated") from None
    except _ESCAPES as cause:
        # The cause's text may quote a value: its type is enough.
        raise _bad(f"{what}: not readable as DICOM ({type(cause).__name__})", code="dicom-malformed") from None


def _parse(stream: BinaryIO, *, stop_before_pixels: bool, what: str) -> Dataset:
    size = stream.seek(0, 2)
    if size > BYTES_MAX:
        raise _bad(f"{what}: {size} bytes, at most {BYTES_MAX} are read", code="dicom-too-large")
    stream.seek(128)
    if stream.read(4) != b"DICM":
        raise _bad(f"{what}: no DICM prefix after the preamble", code="dicom-not-part10")
    meta = FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2))
    if "TransferSyntaxUID" not in meta:
        raise _bad(f"{what}: no TransferSyntaxUID (0002,0010)", code="dicom-not-part10")
    if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        stream = _inflated(stream, meta, what)
        size = len(stream.getvalue())
    stream.seek(0)
    found = dcmread(stream, stop_before_pixels=stop_before_pixels)
    found.file_meta = meta
    _check_elements(found, what)
    if stop_before_pixels and stream.tell() < size:
        _check_pixels(stream, size, implicit=meta.TransferSyntaxUID.is_implicit_VR, what=what)
    return found


def _inflated(stream: BinaryIO, meta: FileMetaDataset, what: str) -> BytesIO:
    """The same object in Explicit VR Little Endian, inflated under a cap (PS3.5 A.5, T08)."""
    deflated = stream.read()
    most = min(INFLATED_MAX, INFLATE_RATIO_MAX * len(deflated))
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    body = engine.decompress(deflated, most)
    if engine.unconsumed_tail:
        raise _bad(f"{what}: {len(deflated)} bytes inflate to more than {most}", code="dicom-bomb")
    if not engine.eof:
        raise _bad(f"{what}: the deflated stream ends early", code="dicom-truncated")
    plain_meta = copy.deepcopy(meta)
    plain_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = DicomBytesIO()
    write_file_meta_info(head, plain_meta, enforce_standard=False)
    return BytesIO(bytes(128) + b"DICM" + head.getvalue() + body)


def _check_elements(found: Dataset, what: str) -> None:
    """Walk every level without recursion: depth (T10), and length announced against bytes present (T11)."""
    level = [found]
    for _ in range(DEPTH_MAX):
        below: list[Dataset] = []
        for data_set in level:
            for tag in list(data_set.keys()):
                below.extend(_items(data_set, tag, what))
        if not below:
            return
        level = below
    raise _bad(f"{what}: sequences nested deeper than {DEPTH_MAX}", code="dicom-too-deep")


def _items(data_set: Dataset, tag: BaseTag, what: str) -> list[Dataset]:
    element = data_set.get_item(tag)
    if isinstance(element, RawDataElement):
        if element.length != _UNDEFINED and len(element.value or b"") != element.length:
            raise _bad(
                f"{what}: element {tag} announces {element.length} bytes, {len(element.value or b'')} are there",
                code="dicom-truncated",
            )
        if not _is_sequence(element):
            return []
    elif element is None or element.VR != "SQ":
        return []
    return list(data_set[tag].value or ())


def _is_sequence(element: RawDataElement) -> bool:
    if element.VR is not None and element.VR != "UN":
        return element.VR == "SQ"
    try:
        return dictionary_VR(element.tag) == "SQ"
    except KeyError:  # private or unknown: pydicom keeps its bytes as they are
        return False


def _check_pixels(stream: BinaryIO, size: int, *, implicit: bool, what: str) -> None:
    """The pixel data element that reading stopped at is there to its end (T11)."""
    group, _element, vr, short = struct.unpack("<HH2sH", stream.read(8))
    if group != _PIXEL_GROUP:  # big endian, or elements after the pixels: the group is not what it seems
        return
    if implicit:
        (length,) = struct.unpack("<L", vr + struct.pack("<H", short))
    elif vr in _LONG_VR:
        (length,) = struct.unpack("<L", stream.read(4))
    else:
        length = short
    if length != _UNDEFINED:
        if stream.tell() + length > size:
            raise _bad(
                f"{what}: pixel data announces {length} bytes, {size - stream.tell()} are there",
                code="dicom-truncated",
            )
        return
    while True:  # fragments, PS3.5 A.4
        item, element, length = struct.unpack("<HHL", stream.read(8).ljust(8, b"\0"))
        if (item, element) == (0xFFFE, 0xE0DD):
            return
        if (item, element) != (0xFFFE, 0xE000) or stream.tell() + length > size:
            raise _bad(f"{what}: the pixel data's fragments never reach their end", code="dicom-truncated")
        stream.seek(length, 1)


def _bad(message: str, *, code: str) -> BadInput:
    return BadInput(message, code=code, hint="the sender must send the object again, complete and well-formed")


@dataclass(frozen=True, slots=True)
class Text:
    """A text value: ``exact`` is False when bytes did not fit the character set and U+FFFD stands for them."""

    value: str
    exact: bool = True


_ASCII = {"": "ascii", "ISO_IR 6": "ascii", "ISO 2022 IR 6": "ascii"}  # pydicom reads these as Latin-1
_CHARSETS = python_encoding | _ASCII | {"ISO_IR 203": "iso8859_15", "ISO 2022 IR 203": "iso8859_15"}
_SPELLINGS = (
    (re.compile(r"^ISO[ _-]?IR[ _-]?"), "ISO_IR "),
    (re.compile(r"^ISO[ _-]2022[ _-]IR[ _-]"), "ISO 2022 IR "),
)
_ESCAPED = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
_DELIMITERS = re.compile(rb"([\^=\\\r\n\t\f].*)", re.DOTALL)  # each returns to the first set, PS3.5 6.1.2.5.3


def charset_known(term: str) -> bool:
    """Whether this is a defined term of (0008,0005) that ``text`` decodes by (PS3.3 C.12.1.1.2)."""
    return _respelled(term) in _CHARSETS


def charsets(data_set: Dataset, *, default: str) -> tuple[str, ...]:
    """The defined terms of (0008,0005), ``default`` when the data set states none (FF-10)."""
    element = data_set.get_item("SpecificCharacterSet") if "SpecificCharacterSet" in data_set else None
    value = element.value if element is not None else None  # pydicom has read this one already in a file
    terms = value.decode("ascii", "replace").split("\\") if isinstance(value, bytes) else value or ""
    stated = tuple(term.strip(" \0") for term in ([terms] if isinstance(terms, str) else terms))
    return stated if any(stated) else (default,)


def text(data_set: Dataset, tag: int, *, charset: tuple[str, ...]) -> Text:
    """The text of one element of an unread data set, padding removed, "" when absent (PS3.5 6.1.2)."""
    return decoded(_raw(data_set, Tag(tag)), charset=charset)


def decoded(raw: bytes, *, charset: tuple[str, ...]) -> Text:
    """The text that the bytes of a value are, padding removed (PS3.5 6.1)."""
    try:
        encodings = [_CHARSETS[_respelled(term)] for term in charset]
        value = "".join(_decoded(part, encodings) for part in _ESCAPED.findall(raw))
    except (LookupError, UnicodeError):
        return Text(raw.decode("ascii", "replace").strip(" \0"), exact=False)
    # C1 controls are no DICOM text (PS3.5 6.1.3): UTF-8 under a Latin label shows them.
    return Text(value.strip(" \0"), exact=not any("\x80" <= character <= "\x9f" for character in value))


def _raw(data_set: Dataset, tag: BaseTag) -> bytes:
    element = data_set.get_item(tag) if tag in data_set else None
    if element is None or not element.value:
        return b""
    if not isinstance(element.value, bytes):
        raise BadInput(
            f"element {tag} was already read or is no text",
            code="dicom-malformed",
            hint="the sender must export the object again",
        )
    return element.value


def _respelled(term: str) -> str:
    term = term.upper()
    for pattern, proper in _SPELLINGS:
        term = pattern.sub(proper, term)
    return term


def _decoded(part: bytes, encodings: list[str]) -> str:
    """One run of bytes: by its escape sequence (PS3.3 C.12.1.1.2), else by the first set."""
    if not part.startswith(b"\x1b"):
        return part.decode(encodings[0])
    code = part[: 4 if part.startswith((b"\x1b$(", b"\x1b$)")) else 3]
    encoding = CODES_TO_ENCODINGS[code]
    if encoding in handled_encodings:
        return part.decode(encoding)  # these codecs read the escape sequence themselves
    run, rest = (*_DELIMITERS.split(part[len(code) :], maxsplit=1), b"")[:2]
    return run.decode(encoding) + rest.decode(encodings[0])
