"""Which kinds of objects may leave the site, and which wait for a person's hand (§8.2 of the audit's rules).

A class that is not here is refused: encapsulated PDF and CDA, raw data, video, private classes and whatever a later
edition adds are handled by a person, never by hope.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class Kind(Enum):
    """What an object mainly holds."""

    IMAGE = "image"
    REPORT = "structured report"
    PRESENTATION = "presentation"
    DERIVED = "segmentation, registration or map"
    RADIOTHERAPY = "radiotherapy"
    WAVEFORM = "waveform"


_ROOT = "1.2.840.10008.5.1.4.1.1."
_SUFFIXES: Mapping[Kind, str] = {
    Kind.IMAGE: (
        "1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 2.2 3.1 4 4.1 4.3 4.4 6.1 6.2 7 7.1 7.2 7.3 7.4 12.1 12.1.1 12.2 "
        "12.2.1 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2 20 77.1.1 77.1.2 77.1.3 77.1.4 77.1.6 128 128.1 130"
    ),
    Kind.REPORT: "88.11 88.22 88.33 88.34 88.40 88.50 88.59 88.65 88.67 88.68 88.71 88.73 88.75 88.76",
    Kind.PRESENTATION: "11.1 11.2 11.3 11.4 11.5 11.6 11.7 11.8",
    Kind.DERIVED: "30 66.1 66.2 66.3 66.4 66.5 66.7 67 91.1",
    Kind.RADIOTHERAPY: "481.1 481.2 481.3 481.4 481.5 481.6 481.7 481.8 481.9",
    Kind.WAVEFORM: "9.1.1 9.1.2 9.1.3 9.2.1 9.3.1 9.4.1 9.4.2 9.5.1 9.6.1",
}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {_ROOT + suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
)
"""The SOP classes that may leave, by UID (PS3.4 B.5)."""

CT, ENHANCED_CT = _ROOT + "2", _ROOT + "2.1"
MR, ENHANCED_MR = _ROOT + "4", _ROOT + "4.1"
KEY_OBJECT_SELECTION = _ROOT + "88.59"
SECONDARY_CAPTURES = frozenset(_ROOT + suffix for suffix in ("7", "7.1", "7.2", "7.3", "7.4"))
