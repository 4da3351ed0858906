"""What PS3.15 Annex E asks of each attribute, and what follows from it for a case.

``attributes.csv`` states the facts of PS3.15 Table E.1-1 (edition 2026c): tag, VR where the dictionary has one,
action of the basic profile, and the options that change it: ``dates`` (retain modified: C), ``uids`` (K),
``descriptors``, ``structured``, ``graphics``, ``private`` (C), ``patient``, ``device``, ``institution`` (K; with
``:C`` cleaned).

Applied here: basic, Clean Descriptors, Clean Structured Content, Clean Graphics, Retain Longitudinal with Modified
Dates, Retain Patient Characteristics. Never: Retain UIDs, Retain Institution Identity; of Retain Device Identity only
what the basic profile keeps anyway (manufacturer, model, software version), so it is not claimed.

Invariants:

* a row's options act only where they are applied; every other row has its basic action;
* a compound action (X/Z, X/D, Z/D, X/Z/D) is decided by the attribute's type where it stands at the root; elsewhere
  the stronger one that stays valid is taken: X/Z → Z, X/D → D, Z/D → D.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.resources import files
from types import MappingProxyType


class Action(Enum):
    """What happens to one attribute."""

    KEEP = "keep"
    REMOVE = "remove"
    EMPTY = "zero length"
    DUMMY = "dummy"
    UID = "replace UID"
    MOVE = "move date"
    WORDS = "clean text"
    NEST = "clean sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One attribute of the table. ``vr`` is "" where no dictionary of ours knows it."""

    vr: str
    basic: str
    options: frozenset[str]


OVERLAY_COMMENTS, CURVE, PRIVATE = "60xx4000", "50xxxxxx", "odd"
"""The four rows that are patterns of tags."""

UNFORMATTED_TEXT_VALUE = 0x00700006
TEXT_VALUE = 0x0040A160

_STRICTER = frozenset(
    {
        UNFORMATTED_TEXT_VALUE, TEXT_VALUE,  # of graphics and content, whose sequences alone are listed
        0x00620005, 0x00620020, 0x300A00C2, 0x300A02E5, 0x300A02E7,  # SegmentLabel, TrackingID, BeamName, accessories
        0x00700068, 0x00700080, 0x00700081,  # GraphicLayerDescription, ContentLabel, ContentDescription
    }
)  # fmt: skip
"""Texts that people type and that the table does not name."""

_TYPES: Mapping[int, str] = MappingProxyType(
    {
        0x00080080: "3",  # InstitutionName, General Equipment (PS3.3 C.7.5.1)
        0x00080082: "3",  # InstitutionCodeSequence, there
        0x00081010: "3",  # StationName, there
        0x00081070: "3",  # OperatorsName, General Series (C.7.3.1)
        0x00081072: "3",  # OperatorIdentificationSequence, there
        0x00081111: "3",  # ReferencedPerformedProcedureStepSequence, there
        0x00081110: "3",  # ReferencedStudySequence, General Study (C.7.2.1)
        0x0018700A: "3",  # DetectorID, X-Ray detector modules (C.8.11.4)
        0x00700084: "2",  # ContentCreatorName, Content Identification Macro
        0x00180010: "2",  # ContrastBolusAgent, Contrast/Bolus (C.7.6.4)
        0x300E0008: "2C",  # ReviewerName, Approval (C.8.8.16)
        0x00080022: "3",  # AcquisitionDate, General Image (C.7.6.1)
        0x00080021: "3",  # SeriesDate, General Series
        0x00080023: "2C",  # ContentDate, General Image
        0x00080012: "3",  # InstanceCreationDate, SOP Common (C.12.1)
        0x00181030: "3",  # ProtocolName, General Series
        0x00181400: "3",  # AcquisitionDeviceProcessingDescription, CR and DX image
        0x00321060: "3",  # RequestedProcedureDescription
    }
)
"""Types of compound rows at the root, where every IOD that may leave the site agrees."""

_SERIAL_NUMBER = 0x00181000
_OPERATORS_NAME = 0x00081070
_RT = "1.2.840.10008.5.1.4.1.1.481."
_PLAIN_EQUIPMENT = frozenset(  # General Equipment alone: DeviceSerialNumber is type 3, elsewhere taken as type 1
    f"1.2.840.10008.5.1.4.1.1.{suffix}"
    for suffix in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "3.1", "4", "6.1", "7", "12.1", "12.2", "20", "128")
)


def attribute_type(tag: int, sop_class: str) -> str | None:
    """The type of a compound row's attribute at the root of an object, None when it is not known (PS3.3)."""
    if tag == _OPERATORS_NAME and sop_class.startswith(_RT):
        return "2"  # RT Series, C.8.8.1
    if tag == _SERIAL_NUMBER:
        return "3" if sop_class in _PLAIN_EQUIPMENT else "1"
    return _TYPES.get(tag)


@cache
def table() -> Mapping[int | str, Row]:
    """Every row, by tag or by one of the four patterns."""
    lines = files("sampler.pseudonym").joinpath("attributes.csv").read_text("ascii").splitlines()[1:]
    rows: dict[int | str, Row] = {}
    for line in lines:
        tag, vr, basic, options = line.split(",")
        pattern = "x" in tag or tag == PRIVATE
        rows[tag if pattern else int(tag, 16)] = Row(vr=vr, basic=basic, options=frozenset(options.split()))
    return MappingProxyType(rows)


def without_value(tag: int, *, sop_class: str, root: bool) -> Action:
    """What happens to a listed attribute whose value may not stay: remove, zero length or dummy."""
    row = table()[tag]
    choices = row.basic.split("/")
    if len(choices) == 1:
        return {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U": Action.UID}[row.basic]
    known = attribute_type(tag, sop_class) if root else None
    if known is None:
        return Action.DUMMY if "D" in choices else Action.EMPTY
    if known == "3" and "X" in choices:
        return Action.REMOVE
    if known in {"2", "2C", "3"} and "Z" in choices:
        return Action.EMPTY
    return Action.DUMMY if "D" in choices else Action.EMPTY


@cache
def action(tag: int, *, sop_class: str, root: bool) -> Action:
    """What happens to an attribute of the standard; KEEP when the table does not name it."""
    row = table().get(tag)
    if tag in _STRICTER:
        return Action.WORDS
    if row is None:
        return Action.KEEP
    applied = _by_option(row)
    return without_value(tag, sop_class=sop_class, root=root) if applied is None else applied


def _by_option(row: Row) -> Action | None:
    options = row.options
    if "dates" in options:
        return Action.KEEP if row.vr == "TM" else Action.MOVE
    if options & {"descriptors", "structured", "graphics", "patient:C"}:
        if row.vr == "SQ":
            return Action.NEST
        return Action.WORDS if row.vr in TEXTS else None
    if "patient" in options:
        return Action.WORDS if row.vr == "SH" else Action.KEEP  # EthnicGroup is whatever somebody typed
    if "uids" in options and "U" in row.basic:
        return Action.NEST if row.vr == "SQ" else Action.UID  # U* is a sequence of UIDs
    return None


TEXTS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC", "CS"})


@cache
def identifying(tag: int) -> bool:
    """Whether the value of a listed attribute says who, where or which order, as text that can be searched for."""
    row = table().get(tag)
    if row is None or tag in _STRICTER or row.vr not in {"LO", "SH", "LT", "ST", "UT", "UC", "AE"}:
        return False
    return not row.options & {"descriptors", "dates", "patient", "patient:C"}
