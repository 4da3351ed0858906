"""A DICOM object written anew, element by element (PS3.5 7, PS3.10 7): nothing of the old file is patched.

Invariants:

* the transfer syntax is the source's; values that no rule changed are the source's bytes;
* the preamble is zero; the file meta information holds our own implementation and no title of anybody;
* sequences and items have stated lengths; group lengths are not written.

Leaves to others: what is written (``walker``), whether it may leave (``residue``).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.uid import UID

IMPLEMENTATION = "2.25.278498325671892304905810623441178350941"
IMPLEMENTATION_VERSION = "POTERNE_AUDIT"
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})  # PS3.5 7.1.2
_UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class Element:
    """One element to write: ``items`` for a sequence, ``data`` for anything else, fragments included as they are."""

    tag: int
    vr: str
    data: bytes = b""
    items: tuple[tuple[Element, ...], ...] = ()
    undefined: bool = False


def padded(text: str, vr: str) -> bytes:
    """Text as bytes of even length (PS3.5 6.2)."""
    data = text.encode()
    return data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2)


class Form:
    """How elements are written under one transfer syntax (PS3.5 10)."""

    def __init__(self, transfer_syntax: str) -> None:
        syntax = UID(transfer_syntax)
        self.syntax = transfer_syntax
        self.implicit = syntax.is_implicit_VR
        self.order = "<" if syntax.is_little_endian else ">"
        self._head = struct.Struct(self.order + "HH")
        self._short = struct.Struct(self.order + "H")
        self._long = struct.Struct(self.order + "L")

    def written(self, elements: Iterable[Element]) -> bytes:
        """A data set or the content of an item."""
        return b"".join(piece for element in elements for piece in self._element(element))

    def _element(self, element: Element) -> tuple[bytes, ...]:
        if element.vr == "SQ":
            data = b"".join(self._item(_ITEM, len(content)) + content for content in map(self.written, element.items))
        else:
            data = element.data
        if element.undefined:
            return self._start(element, _UNDEFINED), data, self._item(_SEQUENCE_END, 0)
        return self._start(element, len(data)), data

    def _start(self, element: Element, length: int) -> bytes:
        tag = self._head.pack(element.tag >> 16, element.tag & 0xFFFF)
        if self.implicit:
            return tag + self._long.pack(length)
        if element.vr in _LONG:
            return tag + element.vr.encode("ascii") + b"\0\0" + self._long.pack(length)
        return tag + element.vr.encode("ascii") + self._short.pack(length)

    def _item(self, tag: int, length: int) -> bytes:
        return self._head.pack(tag >> 16, tag & 0xFFFF) + self._long.pack(length)


def part10(elements: Iterable[Element], *, sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """A whole file (PS3.10 7.1); deflated where the syntax says so (PS3.5 A.5)."""
    body = Form(transfer_syntax).written(elements)
    if transfer_syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
        body += b"\0" * (len(body) % 2)
    meta = Form("1.2.840.10008.1.2.1").written(
        [
            Element(0x00020001, "OB", b"\0\1"),
            Element(0x00020002, "UI", padded(sop_class, "UI")),
            Element(0x00020003, "UI", padded(sop_instance, "UI")),
            Element(0x00020010, "UI", padded(transfer_syntax, "UI")),
            Element(0x00020012, "UI", padded(IMPLEMENTATION, "UI")),
            Element(0x00020013, "SH", padded(IMPLEMENTATION_VERSION, "SH")),
        ]
    )
    length = Form("1.2.840.10008.1.2.1").written([Element(0x00020000, "UL", struct.pack("<L", len(meta)))])
    return b"".join((bytes(128), b"DICM", length, meta, body))
