"""The bytes of a KOS, element by element: Explicit VR Little Endian, ISO_IR 192 (PS3.5 7.1.2).

Invariants:

* a data set and every item have their elements in the order of their tags;
* text that identifies is written whole or refused (``whole``), text for people is cut to its VR (``cut``);
* a message of refusal names the attribute, never its value.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from itertools import chain

from security.errors import BadInput
from security.identity import Uid

Element = tuple[int, bytes]  # tag as 0xGGGGEEEE, and the whole encoded element

CHARACTERS_MAX = {"AE": 16, "SH": 16, "LO": 64, "PN": 64, "LT": 10240}  # PS3.5 6.2, per value or PN component group
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DA = re.compile(r"[0-9]{8}", re.ASCII)
_TM = re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)
_LONG_LENGTH = frozenset({"OB", "SQ", "UC", "UR", "UT"})  # of those written here, VRs with a 32-bit length


def refused(code: str, why: str) -> BadInput:
    """The refusal of a manifest that no document can be made from; ``code`` is an id of ``indexer.rules.kos``."""
    return BadInput(
        f"no manifest document can be made: {why}",
        code=code,
        hint="correct the report, the PACS or the tenant's settings, then release the exam",
    )


def elements(*parts: Iterable[Element]) -> bytes:
    """The elements in the order of their tags: a data set, or the content of an item."""
    return b"".join(encoded for _, encoded in sorted(chain.from_iterable(parts)))


def element(tag: int, vr: str, value: bytes) -> Element:
    """One element whose value already has an even length."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in _LONG_LENGTH:
        return tag, head + struct.pack("<HI", 0, len(value)) + value
    if len(value) > 0xFFFF:
        raise refused("kos-text", f"a value of ({tag >> 16:04X},{tag & 0xFFFF:04X}) is too long")
    return tag, head + struct.pack("<H", len(value)) + value


def sq(tag: int, items: Iterable[bytes]) -> Element:
    """A sequence of items, each given by its content."""
    return element(tag, "SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items))


def ui(tag: int, uid: Uid) -> Element:
    """A unique identifier."""
    value = uid.encode("ascii")
    return element(tag, "UI", value + b"\0" * (len(value) % 2))


def fixed(tag: int, vr: str, text: str) -> Element:
    """Text that is ours, or already has the form of its VR."""
    value = text.encode()
    return element(tag, vr, value + b" " * (len(value) % 2))


def date(text: str) -> str:
    """A DA, "" for what is none."""
    return text if _DA.fullmatch(text) else ""


def time(text: str) -> str:
    """A TM, "" for what is none."""
    return text if _TM.fullmatch(text) else ""


def cut(tag: int, vr: str, text: str) -> Element:
    """Text for people: what the VR forbids becomes a blank, what is too long is cut."""
    return fixed(tag, vr, clean(text)[: CHARACTERS_MAX[vr]].rstrip())


def whole(tag: int, vr: str, text: str, what: str) -> Element:
    """Text that identifies: written as it is, or not at all. ``what`` names it in the refusal."""
    if len(text) > CHARACTERS_MAX[vr]:
        raise refused("kos-text", f"the {what} has more than {CHARACTERS_MAX[vr]} characters")
    if CONTROL.search(text) or "\\" in text:
        raise refused("kos-text", f"the {what} holds a character that {vr} forbids")
    return fixed(tag, vr, text)


def clean(text: str) -> str:
    """Text without what no VR of one value allows."""
    return CONTROL.sub(" ", text).replace("\\", " ").strip()


def issuer(tag: int, oid: str) -> Element:
    """A sequence of one universal entity: an OID (HL7v2 Hierarchic Designator Macro, PS3.3 10.14)."""
    return sq(tag, (elements((fixed(0x00400032, "UT", Uid(oid)), fixed(0x00400033, "CS", "ISO"))),))
