"""Why an object is in quarantine, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.i18n import N_

TEXTS: Final[Mapping[str, str]] = {
    "dicom-bomb": N_("its compressed data inflates without bound"),
    "dicom-malformed": N_("its structure cannot be read"),
    "dicom-too-deep": N_("its sequences are nested without bound"),
    "dicom-truncated": N_("it ends inside an element"),
    "no-study-uid": N_("it names no study"),
    "no-series-uid": N_("it names no series"),
    "no-sop-uid": N_("it names no instance"),
    "no-sop-class-uid": N_("it names no SOP class"),
    "bad-study-uid": N_("its study UID is no UID"),
    "bad-series-uid": N_("its series UID is no UID"),
    "bad-sop-uid": N_("its instance UID is no UID"),
    "bad-sop-class-uid": N_("its SOP class is no UID"),
    "sop-mismatch": N_("command and object name different instances"),
    "iocm-not-kos": N_("sent as a rejection note, and no key object"),
    "iocm-title": N_("sent as a rejection note, under another title"),
    "iocm-evidence": N_("a rejection note that contradicts itself, or rejects nothing"),
    "iocm-uid": N_("a rejection note with a UID that is none"),
    "kos-uid": N_("a key object with a UID that is none"),
    "rejection-other-patient": N_("a rejection note that names another patient than the exam's reports"),
    "rejection-other-content": N_("a rejection note with the UID of another one"),
    "rejection-not-allowed": N_("a rejection note of a sender that may not reject"),
    "rejection-too-large": N_("a key object that is too large to be read"),
    "spool-unreadable": N_("its file cannot be read any more"),
}
"""Texts by reason (``verdict``, ``notes``, ``indexer.imaging.rejections``)."""
