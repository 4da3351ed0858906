"""What to do about one exam when PACS, ledger and index have been asked: a table, each row with its reason.

Invariants:

* nothing is withdrawn on silence: UNKNOWN of either peer changes nothing (FF-54);
* an absence without an event counts when it was seen twice, ``ABSENT_APART`` apart, from PACS that each proved by a
  control study that they still find what they hold (design §4);
* what was withdrawn stays withdrawn: it is never published again from here (F22);
* a lane that is at work converges by itself and is left alone.

Pure: no clock, no I/O. Rows are tried in their order; the last one fits everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

ABSENT_APART = timedelta(hours=1)
"""Between the two absences that withdraw without an event."""


class Reports(StrEnum):
    """What our reports of the study say together."""

    VALID = "valid"
    HELD = "held"
    OPPOSED = "opposed"
    NONE = "none"


class Pacs(StrEnum):
    """What all PACS of the tenant say together. ``SAME``: its content is what the index shows; ``OTHER``: it is not;
    ``CONTRADICTED``: it cannot be put into a manifest as it is. ``UNPROVEN``: absent, by a PACS without control."""

    SAME = "same"
    OTHER = "other"
    CONTRADICTED = "contradicted"
    ABSENT = "absent"
    UNPROVEN = "unproven"
    UNKNOWN = "unknown"


class Shown(StrEnum):
    """What the index shows of ours. ``AHEAD``: an entry of ours that the ledger does not know; ``NOTHING``: it was
    never published as far as we know, and a search by reference, where one was due, found nothing."""

    APPROVED = "approved"
    DEPRECATED = "deprecated"
    DELETED = "deleted"
    MISSING = "missing"
    AHEAD = "ahead"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


class Action(StrEnum):
    """The effect. ``ASK``: the lane is woken so that it holds the exam for a person."""

    LEAVE = "leave"
    ADOPT = "adopt"
    MARK_WITHDRAWN = "mark-withdrawn"
    REMEMBER_ABSENCE = "remember-absence"
    PUBLISH = "publish"
    ASK = "ask"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One exam seen from three sides. ``absent_since``: when the PACS was first seen without it, None for not.
    ``is_withdrawn``: our newest entry is one that we withdrew. ``is_busy``: its lane moves, or withdraws;
    ``is_stopped``: its lane waits for a person or an event. ``can_adopt``: there is enough to write a forgotten entry
    into the ledger. ``is_kept_out``: a person took it out. ``is_shown_otherwise``: the entry hides other than we
    mean, though the content is the same."""

    is_busy: bool
    is_stopped: bool
    can_adopt: bool
    is_withdrawn: bool
    reports: Reports
    pacs: Pacs
    shown: Shown
    absent_since: datetime | None
    now: datetime
    is_kept_out: bool = False
    is_shown_otherwise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do. ``case``: stable code of the row that fitted; ``why``: one sentence, no patient value."""

    case: str
    action: Action
    why: str


def _is_long_absent(f: Facts) -> bool:
    return f.absent_since is not None and f.now - f.absent_since >= ABSENT_APART


def _is_gone(f: Facts) -> bool:
    return f.pacs is Pacs.ABSENT and f.shown is Shown.APPROVED


_TABLE: tuple[tuple[str, Action, Callable[[Facts], bool], str], ...] = (
    ("under-way", Action.LEAVE, lambda f: f.is_busy, "a job of its lane is not finished"),
    ("index-unknown", Action.LEAVE, lambda f: f.shown is Shown.UNKNOWN, "the index gave no clean answer"),
    (
        "adoption-waits",
        Action.LEAVE,
        lambda f: f.shown is Shown.AHEAD and not f.can_adopt,
        "the index holds a forgotten entry of ours, and neither PACS nor ledger can say what of",
    ),
    (
        "entry-adopted",
        Action.ADOPT,
        lambda f: f.shown is Shown.AHEAD,
        "the index holds an entry of ours that was forgotten here",
    ),
    (
        "withdrawn-visible",
        Action.WITHDRAW,
        lambda f: f.is_withdrawn and f.shown is Shown.APPROVED,
        "it was withdrawn here, and the index shows it",
    ),
    ("withdrawn", Action.LEAVE, lambda f: f.is_withdrawn, "withdrawn, and stays so"),
    (
        "withdrawal-adopted",
        Action.MARK_WITHDRAWN,
        lambda f: f.shown is Shown.DELETED,
        "the index says withdrawn, and that was forgotten here",
    ),
    (
        "kept-out-visible",
        Action.WITHDRAW,
        lambda f: f.is_kept_out and f.shown is Shown.APPROVED,
        "a person took it out of the index, and the index shows it",
    ),
    ("kept-out", Action.LEAVE, lambda f: f.is_kept_out, "a person took it out of the index, and it stays out"),
    (
        "patient-opposed",
        Action.WITHDRAW,
        lambda f: f.reports is Reports.OPPOSED and f.shown is Shown.APPROVED,
        "the patient is opposed, and the index shows it",
    ),
    (
        "no-valid-report",
        Action.WITHDRAW,
        lambda f: f.reports is Reports.NONE and f.shown is Shown.APPROVED,
        "no valid report speaks of it, and the index shows it",
    ),
    (
        "not-to-publish",
        Action.LEAVE,
        lambda f: f.reports is not Reports.VALID,
        "its reports do not let it be published",
    ),
    ("pacs-unknown", Action.LEAVE, lambda f: f.pacs is Pacs.UNKNOWN, "a PACS gave no clean answer"),
    (
        "pacs-unproven",
        Action.LEAVE,
        lambda f: f.pacs is Pacs.UNPROVEN,
        "absent from a PACS without control study: that proves nothing",
    ),
    (
        "absent-twice",
        Action.WITHDRAW,
        lambda f: _is_gone(f) and _is_long_absent(f),
        "the PACS was twice without it, an hour apart, and the index shows it",
    ),
    (
        "absent-once",
        Action.REMEMBER_ABSENCE,
        lambda f: _is_gone(f) and f.absent_since is None,
        "the PACS is without it for the first time: looked at again in an hour or later",
    ),
    ("absent-too-soon", Action.LEAVE, _is_gone, "the PACS is without it, for less than an hour"),
    ("absent-everywhere", Action.LEAVE, lambda f: f.pacs is Pacs.ABSENT, "neither the PACS nor the index shows it"),
    ("stopped", Action.LEAVE, lambda f: f.is_stopped, "its lane waits for a person or an event"),
    (
        "entry-deprecated",
        Action.ASK,
        lambda f: f.shown is Shown.DEPRECATED,
        "somebody else deprecated the entry we published",
    ),
    (
        "entry-missing",
        Action.ASK,
        lambda f: f.shown is Shown.MISSING,
        "the index does not show an entry it showed before",
    ),
    (
        "never-published",
        Action.PUBLISH,
        lambda f: f.shown is Shown.NOTHING,
        "reported and in the PACS, and the index shows nothing of it",
    ),
    (
        "contradicted",
        Action.ASK,
        lambda f: f.pacs is Pacs.CONTRADICTED,
        "the PACS contradicts the report of an exam that the index shows",
    ),
    (
        "content-differs",
        Action.PUBLISH,
        lambda f: f.pacs is Pacs.OTHER,
        "the PACS or the report says other than the entry in the index",
    ),
    (
        "visibility-differs",
        Action.PUBLISH,
        lambda f: f.pacs is Pacs.SAME and f.is_shown_otherwise,
        "the index does not hide it from whom the reports hide it",
    ),
    ("in-step", Action.LEAVE, lambda _: True, "PACS, ledger and index agree"),
)
CASES = {case: why for case, _, _, why in _TABLE}
"""Every case and its reason."""
NOT_REPORTED = "without-report"
"""Case of a study that a PACS lists and of which no report ever spoke."""


def judge(facts: Facts) -> Verdict:
    """What to do about the exam: the first row of the table that fits."""
    return next(Verdict(case=case, action=action, why=why) for case, action, fits, why in _TABLE if fits(facts))


def is_mass(withdrawals: int, looked_at: int, *, number_max: int, share_max: float) -> bool:
    """Whether a run wants to withdraw more than a person let it: above the number, or, from three on, above the
    share of the exams it looked at."""
    return withdrawals > number_max or (withdrawals >= 3 and withdrawals > share_max * looked_at)
