"""What a DICOM data set says it is, for whoever speaks of received objects without reading any.

Apart from ``dataset``, which needs DICOM's dictionary: to list what was received takes no DICOM library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """What a data set says it is, padding removed, "" where it says nothing. Not judged: it may be any text."""

    sop_class: str
    sop: str
    study: str
    series: str
