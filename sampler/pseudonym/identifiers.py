"""What names a patient, a person, a place or an order in the originals of a case, gathered to be looked for later.

It is gathered by a walk of its own over every level, so that what the other walk forgets is still looked for.

Invariants:

* values never appear in ``repr``, messages or logs;
* comparison is without case, accents, ligatures and order of name parts;
* what is too short to be told from chance (names and identifiers under three characters) is not looked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Self

from pydicom._uid_dict import UID_dictionary

from sampler.pseudonym import profile, reading
from sampler.pseudonym.reading import Held, Level

SHORTEST = 3
_LIGATURES = str.maketrans(
    {"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)
_PART = re.compile(r"[^\W_]+")
# classes newer than the dictionary
_LATER_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1(?:\.\d{1,3}){1,4}")
_PERSONS_ONLY = re.compile(r"[\^=\s]+")
_IDENTITY = frozenset(  # stated here beside the table, so that a fault there does not blind the search too
    {
        0x00100020, 0x00101000, 0x00101001, 0x00080050, 0x00200010, 0x00080080, 0x00080081, 0x00081010, 0x00081040,
        0x00181000, 0x00101040, 0x00102154, 0x00380010, 0x00402016, 0x00402017, 0x00401001, 0x00400009, 0x00400253,
    }
)  # fmt: skip


def fold(text: str) -> str:
    """Letters without case, accents and ligatures."""
    letters = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def folded_with_places(text: str) -> tuple[str, list[int]]:
    """The folded text, and for each of its letters where it stood in ``text``."""
    letters: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        for one in fold(letter):
            letters.append(one)
            places.append(place)
    return "".join(letters), places


def registered(uid: str) -> bool:
    """Whether a UID is one of the standard's own: it names no object, person or place (PS3.6 A)."""
    return uid in UID_dictionary or _LATER_CLASS.fullmatch(uid) is not None


@dataclass(frozen=True, slots=False, kw_only=True)
class Identifiers:
    """The originals' values: folded names and identifiers, days, UIDs; ``spelled``: names with accents."""

    names: frozenset[str] = field(default=frozenset(), repr=False)
    ids: frozenset[str] = field(default=frozenset(), repr=False)
    days: frozenset[date] = field(default=frozenset(), repr=False)
    uids: frozenset[str] = field(default=frozenset(), repr=False)
    spelled: frozenset[str] = field(default=frozenset(), repr=False)

    @classmethod
    def stated(cls, *, names: Iterable[str] = (), ids: Iterable[str] = (), days: Iterable[date] = ()) -> Self:
        """Values known from elsewhere (messages, the index): names in any order, identifiers, days."""
        names = tuple(names)
        return cls(
            names=frozenset(_parts(names)),
            ids=frozenset(_ids(ids)),
            days=frozenset(days),
            spelled=frozenset(_accented(names)),
        )

    @classmethod
    def united(cls, parts: Iterable[Identifiers]) -> Self:
        """What any of several states."""
        names, ids, days, uids, spelled = set[str](), set[str](), set[date](), set[str](), set[str]()
        for part in parts:
            names |= part.names
            ids |= part.ids
            days |= part.days
            uids |= part.uids
            spelled |= part.spelled
        return cls(
            names=frozenset(names),
            ids=frozenset(ids),
            days=frozenset(days),
            uids=frozenset(uids),
            spelled=frozenset(spelled),
        )

    def __or__(self, other: Identifiers) -> Identifiers:
        return Identifiers.united((self, other))

    def cover(self, other: Identifiers) -> bool:
        """Whether everything the other one states is stated here."""
        return (
            other.names <= self.names
            and other.ids <= self.ids
            and other.days <= self.days
            and other.uids <= self.uids
            and other.spelled <= self.spelled
        )

    @cached_property
    def _tokens(self) -> frozenset[str]:
        return self.names | frozenset(value for value in self.ids if _PART.fullmatch(value))

    @cached_property
    def _phrases(self) -> tuple[str, ...]:
        """Values that a token does not show: those of several words, and long ones inside other words."""
        return tuple(
            sorted(value for value in self.names | self.ids if len(value) >= 5 or not _PART.fullmatch(value))
        )

    def tells(self, token: str) -> bool:
        """Whether one folded word is one of these, or holds a long one inside."""
        return token in self._tokens or any(phrase in token for phrase in self._phrases)

    def spans(self, folded: str) -> Iterable[tuple[int, int]]:
        """Where these stand in a folded text."""
        for match in _PART.finditer(folded):
            if match[0] in self._tokens:
                yield match.span()
        for phrase in self._phrases:
            start = folded.find(phrase)
            while start >= 0:
                yield start, start + len(phrase)
                start = folded.find(phrase, start + 1)

    def found_in(self, text: str) -> bool:
        """Whether a text holds one of the names or identifiers."""
        return next(iter(self.spans(fold(text))), None) is not None


def collected(root: Level) -> Identifiers:
    """What one original states, at every level: persons, identifiers, places, days, UIDs."""
    names: list[str] = []
    ids: set[str] = set()
    days: set[date] = set()
    uids: set[str] = set()
    levels = [root]
    while levels:
        level = levels.pop()
        for held in level.held.values():
            levels.extend(held.items)
            if held.vr == "PN":
                names.extend(_readings(held, level.charset))
            elif held.vr == "UI":
                uids.update(value for value in _single(held) if value and not registered(value))
            elif held.vr in {"DA", "DT"}:
                days.update(day for value in _single(held) if (day := day_of(value)))
            elif held.tag in _IDENTITY or profile.identifying(held.tag):
                ids.update(_ids(_readings(held, level.charset)))
    stated = Identifiers.stated(names=names)
    return replace(stated, ids=frozenset(ids), days=frozenset(days), uids=frozenset(uids))


def _readings(held: Held, charset: tuple[str, ...]) -> list[str]:
    """The values by the stated character set; by the usual two when they do not fit it."""
    whole = reading.text_of(held, charset)
    texts = [whole.value] if whole.exact else [held.data.decode(one, "replace") for one in ("utf-8", "latin-1")]
    return [value for text in texts for value in reading.values(held, text)]


def _single(held: Held) -> list[str]:
    return [value.strip(" \0") for value in held.data.decode("ascii", "replace").split("\\")]


def _parts(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        for group in _PERSONS_ONLY.split(name):
            folded = fold(group)
            pieces = _PART.findall(folded)
            yield from (piece for piece in pieces if _tellable(piece))
            if len(pieces) > 1:  # a double name also as one word
                yield "".join(pieces)


def _accented(names: Iterable[str]) -> Iterable[str]:
    return (piece for name in names for piece in _PART.findall(name) if not piece.isascii())


def _tellable(piece: str) -> bool:
    """Three letters; in scripts of syllables and ideograms two already make a name."""
    return len(piece) >= (SHORTEST if piece.isascii() else 2)


def _ids(values: Iterable[str]) -> Iterable[str]:
    return (folded for value in values if len(folded := " ".join(fold(value).split())) >= SHORTEST)


def day_of(value: str) -> date | None:
    """The day of a DA or DT value of full precision."""
    digits = value.replace(".", "", 2)[:8] if re.match(r"\d{4}\.\d{2}\.\d{2}", value) else value[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) if re.fullmatch(r"\d{8}", digits) else None
    except ValueError:
        return None
