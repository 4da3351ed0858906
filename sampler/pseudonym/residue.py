"""The search for what stayed: a written object is read again, every value of the originals looked for (FF-50, T51).

Texts are searched as words without case, accents and order of name parts; every other value, the file meta and what
surrounds the data set as raw bytes, in both cases, in UTF-8, Latin-1 and UTF-16.

Invariants:

* one hit blocks the object; the message names the attribute's path, never the value;
* a day that is one of the moved days too is no hit: it stands there rightly;
* a value of the standard's own words under a code string is no hit (a patient may be called CHEST).

Bounds, so that chance is no hit: in bytes a name or an identifier is looked for from five characters, in pixel data
from six, of digits alone from eight (a ramp of grey values is 123456 to whoever reads it as text).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date

from pydicom.datadict import keyword_for_tag

from sampler.pseudonym import reading
from sampler.pseudonym.identifiers import Identifiers, day_of, fold
from sampler.pseudonym.needles import Needles
from sampler.pseudonym.reading import Held, Level
from sampler.pseudonym.walker import SET_ANEW
from sampler.pseudonym.words import vocabulary
from security.errors import Refused
from security.parse.dicom import parse_untrusted

IN_BYTES, IN_PIXELS, DIGITS_IN_PIXELS = 5, 6, 8
_UID = re.compile(r"[0-2](?:\.\d+){2,}")
_UID_BYTES = re.compile(rb"[0-2](?:\.\d{1,40}){2,30}")
_WORD = re.compile(r"[^\W_]+")
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_FORMED = frozenset({"DS", "IS", "TM", "AS"})  # numbers of the image, whose form the walk checked
_DAYS = (
    re.compile(r"(?P<y>(?:19|20)\d\d)(?P<s>[-./ ]?)(?P<m>\d\d)(?P=s)(?P<d>\d\d)"),
    re.compile(r"(?P<d>\d\d)(?P<s>[-./ ]?)(?P<m>\d\d)(?P=s)(?P<y>(?:19|20)\d\d)"),
)


class Search:
    """Looks for the originals' values in written objects of one case. ``moved``: the days as they may be told."""

    def __init__(self, originals: Identifiers, moved: Iterable[date]) -> None:
        self._originals = originals
        self._days = originals.days - frozenset(moved)
        wanted = {value for value in originals.names | originals.ids if len(value) >= IN_BYTES}
        spelled = {value for value in originals.spelled if len(value) >= IN_BYTES}
        exact = {day.strftime(form) for day in self._days for form in ("%Y%m%d", "%d/%m/%Y", "%Y-%m-%d")}
        self._starts = frozenset(_uid_start(uid) for uid in originals.uids)
        exact |= {start.decode("ascii") for start in self._starts}
        self._bytes = _needles(wanted, spelled, exact)
        in_pixels = {
            value for value in wanted if len(value) >= (DIGITS_IN_PIXELS if value.isdecimal() else IN_PIXELS)
        }
        self._pixels = _needles(in_pixels, {value for value in spelled if len(value) >= IN_PIXELS}, exact)

    def places(self, data: bytes, *, what: str) -> list[str]:
        """The paths of attributes, and names of parts of the file, that hold one of the values."""
        written = parse_untrusted(data, stop_before_pixels=False, what=what)
        found = [] if data[:128] == bytes(128) else ["preamble"]
        told = (element.value for element in written.file_meta)
        if any(self._in_bytes(one if isinstance(one, bytes) else str(one).encode(), self._bytes) for one in told):
            found.append("file meta information")
        return found + sorted(set(self._level(reading.level_of(written), "")))

    def require_none(self, data: bytes, *, what: str) -> None:
        """Let the object pass, or block it.

        Raises:
            Refused: ``residue-found``, with the attributes that hold a value of the originals.
        """
        found = self.places(data, what=what)
        if found:
            named = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
            raise Refused(
                f"{what}: a value of the original stayed in {named}",
                code="residue-found",
                hint="the case is blocked; a person looks at these attributes at the site and leaves the object out",
            )

    def _level(self, level: Level, path: str) -> Iterator[str]:
        for held in level.held.values():
            if held.tag in SET_ANEW:
                continue  # our own constants, whatever a patient is called
            here = f"{path}{_name(held.tag)}"
            for number, item in enumerate(held.items, start=1):
                yield from self._level(item, f"{here}[{number}].")
            if held.data and self._holds(held, level.charset):
                yield here

    def _holds(self, held: Held, charset: tuple[str, ...]) -> bool:
        if held.vr in _FORMED:
            return False
        if held.vr not in reading.TEXT_VRS:
            return self._in_bytes(held.data, self._pixels if held.tag in _PIXELS else self._bytes)
        text = reading.text_of(held, charset).value
        if held.vr == "UI":
            return any(value in self._originals.uids for value in reading.values(held, text))
        if held.vr in {"DA", "DT"}:
            return any(day_of(value) in self._days for value in reading.values(held, text))
        if held.vr == "CS":
            return any(self._in_text(value) for value in reading.values(held, text) if not _is_term(value))
        return self._in_text(text)

    def _in_text(self, text: str) -> bool:
        if self._originals.found_in(text):
            return True
        if any(_day(match) in self._days for pattern in _DAYS for match in pattern.finditer(text)):
            return True
        return any(self._is_uid(match[0]) for match in _UID.finditer(text))

    def _in_bytes(self, data: bytes, wanted: Needles) -> bool:
        for place, needle in wanted.found(data):
            if needle not in self._starts:
                return True
            begun = _UID_BYTES.match(data, place)
            if begun is not None and self._is_uid(begun[0].decode("ascii")):
                return True
        return False

    def _is_uid(self, text: str) -> bool:
        """Whether a text of digits and dots is, or begins with, one of the UIDs."""
        parts = text.split(".")
        return any(".".join(parts[:length]) in self._originals.uids for length in range(3, len(parts) + 1))


def _is_term(value: str) -> bool:
    return all(word in vocabulary() for word in _WORD.findall(fold(value)))


def _needles(folded: set[str], spelled: set[str], exact: set[str]) -> Needles:
    """Values without accents and as they were written, in three encodings; days and UIDs in one."""
    forms = folded | {form for value in spelled for form in (value.lower(), value.upper(), value.title())}
    encoded = {value.encode(name, "ignore") for value in forms for name in ("utf-8", "latin-1", "utf-16-le")}
    return Needles(encoded | {value.encode("ascii") for value in exact})


def _uid_start(uid: str) -> bytes:
    """The first components of a UID, enough to be rare: what follows is read where they stand."""
    return uid.encode("ascii", "replace")[:10]


def _day(match: re.Match[str]) -> date | None:
    try:
        return date(int(match["y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        return None


def _name(tag: int) -> str:
    return keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
