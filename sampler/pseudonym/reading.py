"""A foreign data set as it stands: levels of elements, their values bytes, none converted by a library on the way.

Invariants:

* a VR is the stated one where the dictionary agrees, the dictionary's where none is stated; of a VR that contradicts
  the dictionary, and of an attribute that has none, nobody knows what it is (``None``);
* text is decoded by the character set that is stated where the element stands; undecodable text says so.

Leaves to others: foreign bytes (``security.parse.dicom``), what an element may become (``walker``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from security.parse.dicom import Text, charsets, decoded

TEXT_VRS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)
ONE_VALUE = frozenset({"LT", "ST", "UT", "UR"})  # a backslash is text there, PS3.5 6.2
IN_CHARSET = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})  # PS3.5 6.1.2.3
_PLAIN = ("ISO_IR 6",)
_CHARACTER_SET, _PIXEL_REPRESENTATION = 0x00080005, 0x00280103


@dataclass(frozen=True, slots=True)
class Held:
    """One element as it stands: the ``items`` of a sequence, the ``data`` of anything else; ``vr`` None: unknown."""

    tag: int
    vr: str | None
    data: bytes = b""
    items: tuple[Level, ...] = ()
    undefined: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """A data set or an item: its elements by tag in order, and the character sets in force there (PS3.5 6.1.2.3)."""

    charset: tuple[str, ...]
    held: Mapping[int, Held]

    def raw_text(self, tag: int) -> str:
        """The ASCII text of an element, "" when there is none."""
        held = self.held.get(tag)
        return held.data.decode("ascii", "replace").strip(" \0") if held is not None else ""


def level_of(data_set: Dataset, above: tuple[str, ...] = _PLAIN) -> Level:
    """Everything a data set holds, as ``parse_untrusted`` left it."""
    own = charsets(data_set, default="")
    charset = own if any(own) else above
    elements: dict[int, object] = {
        int(tag): data_set.get_item(tag, keep_deferred=True) for tag in sorted(data_set.keys())
    }
    little = next((one.is_little_endian for one in elements.values() if isinstance(one, RawDataElement)), True)
    return Level(
        charset, {tag: _held(data_set, tag, element, charset, little=little) for tag, element in elements.items()}
    )


def _held(data_set: Dataset, tag: int, element: object, charset: tuple[str, ...], *, little: bool) -> Held:
    vr = _agreed(tag, getattr(element, "VR", None))
    if vr == "SQ":
        return Held(tag, vr, items=tuple(level_of(item, charset) for item in data_set[tag].value or ()))
    if isinstance(element, RawDataElement):
        return Held(tag, vr, element.value or b"", undefined=element.length == 0xFFFFFFFF)
    if getattr(element, "VR", None) == "SQ":  # a sequence by what the file says of another attribute
        return Held(tag, None, items=tuple(level_of(item, charset) for item in data_set[tag].value or ()))
    return _converted(tag, vr, getattr(element, "value", None), little=little)


def _converted(tag: int, vr: str | None, value: object, *, little: bool) -> Held:
    """What pydicom converts beside each sequence: (0028,0103), creators of private blocks, elements without value."""
    if tag >> 16 & 1:
        return Held(tag, "LO", value.encode()) if isinstance(value, str) else Held(tag, None)
    if tag == _PIXEL_REPRESENTATION and isinstance(value, int):
        return Held(tag, "US", struct.pack("<H" if little else ">H", value & 0xFFFF))
    if tag & 0xFFFF == 0 or tag == _CHARACTER_SET or value in (None, "", b"", []):  # a group's length says nothing
        return Held(tag, vr)
    raise TypeError(f"element {BaseTag(tag)} was converted before the walk")  # its value would be lost


@cache
def _agreed(tag: int, stated: str | None) -> str | None:
    """A file that calls a text a number would carry it past every rule for texts."""
    known = _known(tag)
    if tag >> 16 & 1:  # private: its creator alone knows
        return stated
    if not known or stated in {None, "UN"}:
        return known[0] if known else None
    if stated in known or (stated in TEXT_VRS and known[0] in TEXT_VRS):
        return stated
    return None


@cache
def _known(tag: int) -> tuple[str, ...]:
    try:
        return tuple(dictionary_VR(tag).split(" or "))
    except KeyError:
        return ()


def in_dictionary(tag: int) -> bool:
    """Whether the edition of the standard that we read with knows this attribute."""
    return bool(_known(tag))


def text_of(held: Held, charset: tuple[str, ...]) -> Text:
    """The text of an element, exact or not; VRs that no character set touches are read as ASCII."""
    return decoded(held.data, charset=charset if held.vr in IN_CHARSET else _PLAIN)


def values(held: Held, whole: str) -> list[str]:
    """The values of a text element, padding removed (PS3.5 6.4)."""
    if not whole:
        return []
    return [whole] if held.vr in ONE_VALUE else [value.strip(" \0") for value in whole.split("\\")]
