"""The walk through one data set: every element of every level, by the table, into elements to write anew (PS3.15 E).

Invariants:

* what is not known does not pass: private elements (but for a reviewed list of numbers), attributes outside the
  dictionary, groups below 0008, overlays and curves, binary values outside ``_BULK``;
* every UID that is not the standard's own is mapped by the campaign's key, wherever it stands and whether or not the
  table names it; so references between images, reports, notes, presentations and plans still meet;
* a value that breaks the form of its VR is treated as one that may not stay;
* free text stays word by word (``words``); technical text stays but for the originals' values.

Leaves to others: which objects may leave (``classes``), pixels (``pixels``, ``masks``), writing (``writing``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sampler.pseudonym import codes, profile, reading, rois
from sampler.pseudonym.identifiers import Identifiers, registered
from sampler.pseudonym.keys import Pseudonyms, age_kept
from sampler.pseudonym.profile import Action
from sampler.pseudonym.reading import Held, Level
from sampler.pseudonym.words import Cleaner
from sampler.pseudonym.writing import Element, padded
from security.parse.dicom import Text

PATIENT_NAME, PATIENT_ID, PATIENT_AGE = 0x00100010, 0x00100020, 0x00101010
ROI_NAME, ROI_NUMBER = 0x30060026, 0x30060022
CODE_MEANING = 0x00080104
CODE_VALUE, CODING_SCHEME = 0x00080100, 0x00080102
VALUE_TYPE, CONCEPT_NAME = 0x0040A040, 0x0040A043
GRAPHIC_ANNOTATIONS = 0x00700001
EXTENDED_OFFSETS = frozenset({0x7FE00001, 0x7FE00002})

SET_ANEW = frozenset({0x00080005, 0x00120062, 0x00120063, 0x00120064, 0x00280303})
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "OF", "OD", "OL", "OV"})
_BULK = frozenset(
    {
        0x7FE00010,  # PixelData
        0x54000110, 0x54000112, 0x5400100A, 0x54001010,  # waveforms
        0x00281200, 0x00281201, 0x00281202, 0x00281203, 0x00281204, 0x00281211, 0x00281212, 0x00281213,  # palettes
        0x00281221, 0x00281222, 0x00281223, 0x00281224, 0x00281408, 0x00283006, 0x00282000,  # tables, ICCProfile
        0x00660023, 0x00660024, 0x00660025, 0x00660029, 0x00660103,  # surfaces
    }
)  # fmt: skip
"""Values of bytes and words that are pictures, curves, surfaces or tables; any other one is removed."""

_VALID = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Za-z0-9 _.+/-]{0,16}"),
    "TM": re.compile(r"(?:\d\d(?::?\d\d(?::?\d\d(?:\.\d{1,6})?)?)?)?"),
}
_CLOSED = {
    0x00100040: {"M", "F", "O"},  # PatientSex
    0x00102203: {"ALTERED", "UNALTERED"},  # PatientSexNeutered
    0x001021A0: {"YES", "NO", "UNKNOWN"},  # SmokingStatus
}
"""Codes about the patient whose values the standard closes (PS3.3 C.7.1.1, C.7.2.2)."""

_NUMERIC = re.compile(rb"[0-9eE+\-. \\]*\0?")  # of DS and IS; long lists of contours are judged as a whole
_DUMMIES = {
    "AS": "000Y",
    "CS": "AUDIT",
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101",
    "IS": "0",
    "TM": "000000",
    "UR": "urn:oid:2.25.0",
}
_LENGTHS = {"SH": 16, "LO": 64, "CS": 16, "ST": 1024, "LT": 10240}  # PS3.5 6.2

# Concepts of the observer, the subject and the order (PS3.16 TID 1002-1007): their values are dummies.
_IDENTITY_CONCEPTS = frozenset(
    {
        "121008", "121009", "121011", "121012", "121013", "121016", "121017", "121018", "121019", "121020", "121021",
        "121022", "121024", "121025", "121026", "121027", "121028", "121029", "121030", "121031", "128774", "128775",
    }
)  # fmt: skip
_DEVICE_CONCEPTS = frozenset({"121014", "121015"})  # manufacturer and model of the observing device
_VALUES = frozenset({profile.TEXT_VALUE, 0x0040A121, 0x0040A120, 0x0040A123, 0x0040A124})
_STRUCTURED = frozenset({0x0040A730, 0x00400555, 0x00400610})  # content, acquisition context, specimen preparation
_SAYING = reading.TEXT_VRS - {"UI", "DA", "DT", "TM"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a site reviewed and adds: words, region names, and private numbers as (creator, group, element)."""

    words: frozenset[str] = frozenset()
    roi_names: frozenset[str] = frozenset()
    private: frozenset[tuple[str, int, int]] = frozenset()


@dataclass(slots=True, kw_only=True)
class Traces:
    """What the walk did, for the method codes and for the site; region names stay at the site."""

    texts: int = 0
    graphics: int = 0
    structured: int = 0
    private_kept: int = 0
    removed: int = 0
    overlays: int = 0
    roi_names: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the walk stands. ``strict``: inside a sequence whose every text is a dummy; ``concept``: of the item."""

    level: Level
    sop_class: str
    traces: Traces
    root: bool = False
    strict: bool = False
    concept: str = ""

    def text(self, held: Held) -> Text:
        """The text of an element that stands here."""
        return reading.text_of(held, self.level.charset)

    def below(self, item: Level, *, strict: bool) -> _Place:
        """The place inside an item of a sequence that stands here."""
        return _Place(level=item, sop_class=self.sop_class, traces=self.traces, strict=strict, concept=_concept(item))


def _concept(item: Level) -> str:
    """The code of a content item's concept name, when it is one of DICOM's (PS3.16)."""
    if VALUE_TYPE not in item.held or CONCEPT_NAME not in item.held:
        return ""
    names = item.held[CONCEPT_NAME].items
    return names[0].raw_text(CODE_VALUE) if names and names[0].raw_text(CODING_SCHEME) == "DCM" else ""


class Walker:
    """Walks the objects of one case under one campaign's pseudonyms."""

    def __init__(self, pseudonyms: Pseudonyms, cleaner: Cleaner, identifiers: Identifiers, rules: Rules) -> None:
        self._pseudonyms = pseudonyms
        self._cleaner = cleaner
        self._identifiers = identifiers
        self._rules = rules
        self._by_action: dict[Action, Callable[[Held, _Place], Element | None]] = {
            Action.KEEP: self._kept,
            Action.REMOVE: lambda _held, _place: None,
            Action.EMPTY: lambda held, _place: Element(held.tag, held.vr or ""),
            Action.DUMMY: self._dummy,
            Action.UID: lambda held, _place: self._uids(held),
            Action.MOVE: self._moved,
            Action.WORDS: self._cleaned,
            Action.NEST: lambda held, place: self._sequence(held, place, strict=place.strict),
        }

        self._by_vr: dict[str, Callable[[Held, _Place], Element | None]] = {
            "SQ": self._by_action[Action.NEST],
            "UI": self._by_action[Action.UID],
            "DA": self._moved,
            "DT": self._moved,
            "DS": self._numeric,
            "IS": self._numeric,
            "PN": self._by_action[Action.EMPTY],
            "AE": self._by_action[Action.REMOVE],
            "UR": self._by_action[Action.REMOVE],
            **dict.fromkeys(("LT", "ST", "UT", "UC"), self._words),
        }

    def walked(self, level: Level, *, sop_class: str, traces: Traces) -> tuple[Element, ...]:
        """The elements of a whole object that may stay, without those that every object is given anew."""
        return tuple(self._level(_Place(level=level, sop_class=sop_class, traces=traces, root=True)))

    def _level(self, place: _Place) -> Iterator[Element]:
        for held in place.level.held.values():
            element = self._private(held, place) if held.tag >> 16 & 1 else self._element(held, place)
            if element is None:
                place.traces.removed += held.tag not in SET_ANEW
            else:
                yield element

    def _element(self, held: Held, place: _Place) -> Element | None:
        if not self._is_known(held, place.traces):
            return None
        if held.tag == PATIENT_NAME:
            return _text(held.tag, "PN", self._pseudonyms.patient_name)
        if held.tag == PATIENT_ID:
            return _text(held.tag, "LO", self._pseudonyms.patient_id)
        if held.tag == ROI_NAME:
            return self._roi(held, place)
        return self._by_action[self._action(held, place)](held, place)

    def _is_known(self, held: Held, traces: Traces) -> bool:
        """Whether this is an attribute of a data set that some rule speaks of. Cleaning a drawing is removing it."""
        group = held.tag >> 16
        if group & 0xFF00 in {0x5000, 0x6000}:  # the rows that are patterns
            traces.overlays += group & 0xFF00 == 0x6000
            return False
        if group < 8 or held.tag & 0xFFFF == 0 or held.tag in SET_ANEW:
            return False
        return held.vr is not None and reading.in_dictionary(held.tag)

    def _action(self, held: Held, place: _Place) -> Action:
        action = profile.action(held.tag, sop_class=place.sop_class, root=place.root)
        if place.concept in _IDENTITY_CONCEPTS and held.tag in _VALUES:
            return Action.DUMMY
        if place.strict and action in {Action.KEEP, Action.WORDS} and held.vr in _SAYING:
            return Action.DUMMY
        return action

    def _kept(self, held: Held, place: _Place) -> Element | None:
        """An attribute the table does not change: by what its VR can hold."""
        vr = held.vr or ""
        if vr in _NUMBERS:
            return Element(held.tag, vr, held.data)
        if vr in self._by_vr:
            return self._by_vr[vr](held, place)
        if held.tag == CODE_MEANING:
            return self._meaning(held, place)
        if held.tag == CODE_VALUE and _names_a_person(place.level):
            return self._dummy(held, place)
        if vr in reading.TEXT_VRS:
            return self._technical(held, place)
        return Element(held.tag, vr, held.data, undefined=held.undefined) if held.tag in _BULK else None

    def _technical(self, held: Held, place: _Place) -> Element | None:
        """Codes and short technical text: valid by its VR, without the originals' values."""
        vr = held.vr or ""
        whole = place.text(held)
        if not whole.exact:
            return self._without(held, place)
        values = reading.values(held, whole.value)
        if vr in _VALID:
            values = [age_kept(value) or "" for value in values] if vr == "AS" else values
            fits = all(_VALID[vr].fullmatch(value) for value in values if value) and self._says_nobody(held, values)
            return _text(held.tag, vr, "\\".join(values)) if fits else self._without(held, place)
        freed = (self._cleaner.without_identifiers(value) for value in values)
        return _text(held.tag, vr, "\\".join(_fitting(value, vr) for value in freed))

    def _says_nobody(self, held: Held, values: list[str]) -> bool:
        """Whether coded values are those of a closed list, terms, or at least none of the originals' values."""
        if held.tag in _CLOSED:
            return set(values) <= _CLOSED[held.tag] | {""}
        return held.vr != "CS" or all(self._cleaner.is_term(v) or not self._identifiers.found_in(v) for v in values)

    def _numeric(self, held: Held, place: _Place) -> Element | None:
        valid = _NUMERIC.fullmatch(held.data)
        return Element(held.tag, held.vr or "", held.data) if valid else self._without(held, place)

    def _meaning(self, held: Held, place: _Place) -> Element | None:
        """The published meaning of a published code; what a local table calls things is free text."""
        meaning = codes.published(place.level.raw_text(CODING_SCHEME), place.level.raw_text(CODE_VALUE))
        if meaning is not None and not self._identifiers.found_in(meaning):
            return _text(held.tag, "LO", meaning)
        return self._words(held, place)

    def _cleaned(self, held: Held, place: _Place) -> Element | None:
        if held.vr not in profile.TEXTS:
            return self._without(held, place)
        return self._meaning(held, place) if held.tag == CODE_MEANING else self._words(held, place)

    def _words(self, held: Held, place: _Place) -> Element | None:
        """Free text, word by word."""
        vr = held.vr or ""
        place.traces.texts += 1
        whole = place.text(held)
        if not whole.exact:
            return self._without(held, place)
        if place.concept in _DEVICE_CONCEPTS:
            return _text(held.tag, vr, self._cleaner.without_identifiers(whole.value))
        values = [self._cleaner.clean(value) for value in reading.values(held, whole.value)]
        if vr == "CS":
            values = [value if _VALID["CS"].fullmatch(value) else "" for value in values]
        kept = "\\".join(_fitting(value, vr) for value in values)
        if not kept.strip("\\") and held.data.strip(b" \0"):
            return self._without(held, place)
        return _text(held.tag, vr, kept)

    def _without(self, held: Held, place: _Place) -> Element | None:
        """What remains of an attribute whose value may not stay."""
        action = Action.REMOVE
        if held.tag in profile.table():
            action = profile.without_value(held.tag, sop_class=place.sop_class, root=place.root)
        elif held.tag in {profile.TEXT_VALUE, CODE_MEANING}:  # type 1 where they stand
            action = Action.DUMMY
        return self._by_action[action](held, place)

    def _dummy(self, held: Held, place: _Place) -> Element | None:
        """A value that is valid and says nothing (PS3.15 E.1.1 D)."""
        vr = held.vr or ""
        if vr == "SQ":
            return self._sequence(held, place, strict=True)
        if vr == "UI":
            return self._uids(held)
        if vr in reading.TEXT_VRS:
            return _text(held.tag, vr, _DUMMIES.get(vr, "AUDIT"))
        return Element(held.tag, vr, bytes(len(held.data)) if vr in _NUMBERS else b"\0\0")

    def _uids(self, held: Held) -> Element | None:
        if held.vr != "UI":
            return None
        values = (value.strip(" \0") for value in held.data.decode("ascii", "replace").split("\\"))
        mapped = (value if not value or registered(value) else self._pseudonyms.uid(value) for value in values)
        return _text(held.tag, "UI", "\\".join(mapped))

    def _moved(self, held: Held, place: _Place) -> Element | None:
        if held.vr not in {"DA", "DT"}:
            return self._without(held, place)
        shift = self._pseudonyms.shifted_date if held.vr == "DA" else self._pseudonyms.shifted_date_time
        values = reading.values(held, held.data.decode("ascii", "replace").strip(" \0"))
        moved = [shift(value) if value else "" for value in values]
        if None in moved:
            return self._without(held, place)
        return _text(held.tag, held.vr, "\\".join(value or "" for value in moved))

    def _sequence(self, held: Held, place: _Place, *, strict: bool) -> Element:
        if held.vr != "SQ":
            return Element(held.tag, held.vr or "")
        place.traces.graphics += held.tag == GRAPHIC_ANNOTATIONS
        place.traces.structured += held.tag in _STRUCTURED
        items = (tuple(self._level(place.below(item, strict=strict))) for item in held.items)
        return Element(held.tag, "SQ", items=tuple(items))

    def _roi(self, held: Held, place: _Place) -> Element:
        whole = place.text(held)
        known = whole.exact and not self._identifiers.found_in(whole.value)
        number = place.level.raw_text(ROI_NUMBER)
        name = rois.kept_name(whole.value if known else "", number, own_names=self._rules.roi_names)
        if name != whole.value:
            place.traces.roi_names[name] = whole.value
        return _text(ROI_NAME, "LO", name)

    def _private(self, held: Held, place: _Place) -> Element | None:
        """A private number of the reviewed list with its creator's block, else nothing (PS3.5 7.8)."""
        group, element = held.tag >> 16, held.tag & 0xFFFF
        if not self._rules.private or element < 0x10:
            return None
        block = element if element <= 0xFF else element >> 8
        creator = place.level.raw_text(group << 16 | block)
        if element <= 0xFF:
            reviewed = any(creator == known and group == its for known, its, _ in self._rules.private)
            return _text(held.tag, "LO", creator) if reviewed else None
        if (creator, group, element & 0xFF) not in self._rules.private:
            return None
        if held.vr not in _NUMBERS and not (held.vr in {"DS", "IS"} and _NUMERIC.fullmatch(held.data)):
            return None
        place.traces.private_kept += 1
        return Element(held.tag, held.vr or "", held.data)


def _names_a_person(code: Level) -> bool:
    """Whether a code of a local table is as long a number as people are registered under."""
    value = code.raw_text(CODE_VALUE)
    return len(re.findall(r"\d", value)) >= 7 and not codes.is_published_scheme(code.raw_text(CODING_SCHEME))


def _fitting(value: str, vr: str) -> str:
    return value[: _LENGTHS.get(vr, len(value))].rstrip()


def _text(tag: int, vr: str, value: str) -> Element:
    return Element(tag, vr, padded(value, vr))


def set_anew(codes: Iterable[tuple[str, str]], *, how: str) -> tuple[Element, ...]:
    """What every object is given: character set, how it became pseudonymous, that dates moved (PS3.15 E.1, E.3.6)."""
    items = tuple(
        (_text(0x00080100, "SH", code), _text(0x00080102, "SH", "DCM"), _text(0x00080104, "LO", meaning))
        for code, meaning in codes
    )
    return (
        _text(0x00080005, "CS", "ISO_IR 192"),
        _text(0x00120062, "CS", "YES"),
        _text(0x00120063, "LO", how),
        Element(0x00120064, "SQ", items=items),
        _text(0x00280303, "CS", "MODIFIED"),
    )
