"""What the gateway knows of a period, in the rows that a frame is built from (peer-audit §5.1, §6.7).

Invariants: a row holds no patient's value; ``practitioner`` is the local identifier of a professional and leaves this
package as a pseudonym alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Standing(StrEnum):
    """Where the reports of an exam stand."""

    VALID = "valid"
    HELD = "held"
    WITHDRAWN = "withdrawn"


class Exclusion(StrEnum):
    """Why an exam of the period, or a request, is not in the frame."""

    REPORT_HELD = "report-held"
    REPORT_WITHDRAWN = "report-withdrawn"
    PATIENT_OBJECTION = "patient-objection"
    TRIAL = "trial-exam"
    NO_STRATUM = "no-stratum"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedExam:
    """One exam of the period. ``study``: StudyInstanceUID. ``site``: who performed it, "" where not stated.

    ``opposes``: its patient objects to the use of their data. ``is_trial``: invented for a test patient.
    """

    study: str
    day: date
    modality: str
    practitioner: str
    site: str = ""
    standing: Standing = Standing.VALID
    opposes: bool = False
    is_trial: bool = False


class RequestState(StrEnum):
    """What became of a request."""

    PERFORMED = "performed"
    REFUSED = "refused"
    SUBSTITUTED = "substituted"
    CANCELLED = "cancelled"
    DISCONTINUED = "discontinued"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the period. ``key``: the site's name of it, unique. ``study``: "" where no message named one.

    ``practitioner``: who decided about it or performed it, "" where nobody is stated.
    """

    key: str
    day: date
    state: RequestState
    modality: str
    practitioner: str
    study: str = ""
    site: str = ""
    opposes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One performed procedure step (PS3.4 F.7). ``status``: of the Modality Performed Procedure Step."""

    studies: Sequence[str]
    status: str


def state_of(stated: str, *, is_performed: bool, steps: Sequence[str]) -> RequestState:
    """What became of a request: the RIS's word where it ended it, else what was performed.

    ``stated``: requested, accepted, refused, substituted or cancelled. ``steps``: states of its MPPS.
    """
    if stated in {RequestState.REFUSED, RequestState.SUBSTITUTED, RequestState.CANCELLED}:
        return RequestState(stated)
    if is_performed or "COMPLETED" in steps:
        return RequestState.PERFORMED
    if "DISCONTINUED" in steps:
        return RequestState.DISCONTINUED
    return RequestState.OPEN
