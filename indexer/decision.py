"""What is to be done about one exam: (what we know, what arrived) → one effect and its reason, read off one table.

Invariants:

* pure, and asked at every moment that matters: when something arrives (the PACS and the index not asked yet) and when
  a job of the lane settles (asked step by step, ``Do.ASK`` names who is next); both read the same rows;
* the first row that holds decides: what takes an exam out of the index stands before everything that would keep or
  publish it (I10);
* nothing is withdrawn on a silence: only ``Pacs.ABSENT`` counts, a clean answer of PACS that each proved that they
  still find what they hold, once when somebody announced the end of the exam, else twice at least ``ABSENCE_APART``
  apart (FF-54, design §4);
* a replacement follows only an entry that the index shows as approved now; where it shows none of ours the exam is
  published as new (FF-22); the same content is nothing to do (I6).

Carrying the effect out, and telling people, is left to ``admission``, ``publication`` and ``withdrawal``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

ABSENCE_APART = timedelta(hours=1)
"""How far apart two clean absences must lie when nobody announced that the exam is gone (design §4)."""
ABSENT_MAX = 20
"""Exams of one tenant that may vanish from its PACS unannounced before a person must look: more than that is a PACS
that was emptied or restored (FF-54)."""


MOVING = frozenset({"wrong-patient", "patient-moved"})
"""Reasons for which an entry goes because the exam belongs under another identifier: it is published anew there."""


class Do(StrEnum):
    """The effect."""

    ASK = "ask"  # more must be known; the reason names whom to ask
    PUBLISH = "publish"
    REPLACE = "replace"
    UPDATE = "update-metadata"
    WITHDRAW = "withdraw"
    HOLD = "hold"  # a named reason, lifted by a person or an event
    WAIT = "wait"  # asked again by itself
    NOTHING = "nothing"


class Arrival(StrEnum):
    """What arrived."""

    LOOK = "look"  # nothing: a job settles, a regular look
    REPORT = "report"  # new, again, or one that replaces
    REPORT_WITHDRAWN = "report-withdrawn"  # MDM^T04, ORC CA, OBX-11 D
    ORDER_CANCELLED = "order-cancelled"  # OMI^O23, ORC CA
    ORDER_CHANGED = "order-changed"
    IMAGES_REJECTED = "images-rejected"  # an IOCM rejection note
    IMAGES_ARRIVED = "images-arrived"  # IAN, MPPS COMPLETED, objects received, /changes
    IMAGES_UNAVAILABLE = "images-unavailable"  # IAN, every instance UNAVAILABLE
    STEP_DISCONTINUED = "step-discontinued"  # MPPS DISCONTINUED
    IDENTITY = "identity"  # merge, its undo, correction
    OPPOSITION = "opposition"  # stated or lifted
    PERSON_WITHDREW = "person-withdrew"
    PERSON_REPUBLISHED = "person-republished"
    PERSON_HURRIED = "person-hurried"  # publish with the images that are there


ANNOUNCING = frozenset({Arrival.ORDER_CANCELLED, Arrival.IMAGES_REJECTED, Arrival.STEP_DISCONTINUED})
"""Arrivals that announce that the exam, or a part of it, is gone from the PACS: the next clean answer decides."""
ENDING = ANNOUNCING | {Arrival.IMAGES_UNAVAILABLE}
"""Arrivals that can only take an exam away: of one that is not in the index, nor on its way, they say nothing."""


class Pacs(StrEnum):
    """What the PACS of the tenant say together. Of an exam that was never shown, no absence need be proven."""

    UNASKED = "unasked"
    FOUND = "found"
    ABSENT = "absent"
    UNPROVEN = "unproven"  # absent, by a PACS that nothing lets prove itself
    UNKNOWN = "unknown"
    DISAGREE = "disagree"
    REJECTED = "rejected"  # they hold it, and nothing of it that a manifest may list


class Index(StrEnum):
    """What the index shows now of our versions, beside what would be published."""

    UNASKED = "unasked"
    NONE = "none"
    SAME = "same"  # approved, with this content
    VISIBILITY = "visibility"  # approved, and only whom it is hidden from differs
    OTHER = "other"  # approved, with other content
    ELSEWHERE = "elsewhere"  # approved, under another identifier of the patient
    DEPRECATED = "deprecated"  # by somebody else
    MISSING = "missing"  # shown once, lastingly not any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one exam.

    ``valid``: reports that count. ``held``: why the newest report in doubt is, "" for none. ``contested``: why the
    PACS contradicts a valid report about another of its studies. ``is_opposed``: the patient of a report opposes.
    ``is_for_index``: every valid report allows it (DESTDMP). ``is_kept_out``: a person took the exam out.
    ``may_be_shown``: the index may show an entry of ours. ``is_misplaced``: under an identifier that is not the
    patient's any more. ``pacs_reason``: why the PACS is UNKNOWN.
    ``is_announced``: somebody announced the end of the exam and no PACS was seen to hold it since. ``absent_for``:
    since the first clean absence that no FOUND followed; None before it. ``absent``: how many exams of the tenant
    are so. ``contradiction``: why the PACS contradicts a valid report about this study. ``incomplete``: why its
    images are waited for (``completeness``), "" when they are not. ``can_update``: the index takes new metadata for
    an entry (ITI-57).
    """

    valid: int = 0
    held: str = ""
    contested: str = ""
    is_opposed: bool = False
    is_for_index: bool = True
    is_kept_out: bool = False
    may_be_shown: bool = False
    is_misplaced: bool = False
    pacs: Pacs = Pacs.UNASKED
    pacs_reason: str = ""
    is_announced: bool = False
    absent_for: timedelta | None = None
    absent: int = 0
    contradiction: str = ""
    incomplete: str = ""
    index: Index = Index.UNASKED
    can_update: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One effect. ``reason``: a code of ``timeline.MISSING`` or of docs/reasons.md; ``words``: the row in one
    sentence, for the timeline."""

    do: Do
    reason: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. ``reason``: a code, or where in the facts it stands."""

    do: Do
    reason: str | Callable[[Facts], str]
    words: str
    when: Callable[[Facts, Arrival], bool]


def _is_absent_long(facts: Facts) -> bool:
    return facts.absent_for is not None and facts.absent_for >= ABSENCE_APART


WORDS: tuple[Row, ...] = (
    Row(
        do=Do.WITHDRAW,
        reason="kept-out",
        words="a person took the exam out of the index",
        when=lambda f, _: f.is_kept_out and f.may_be_shown,
    ),
    Row(
        do=Do.NOTHING,
        reason="kept-out",
        words="a person took the exam out of the index, and it is out",
        when=lambda f, a: f.is_kept_out and a is not Arrival.REPORT,
    ),
    Row(
        do=Do.HOLD,
        reason="kept-out",
        words="a report came for an exam that a person took out of the index: only a person lets it back",
        when=lambda f, _: f.is_kept_out,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="patient-opposed",
        words="the patient opposes being in the index",
        when=lambda f, _: f.is_opposed and f.may_be_shown,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="wrong-patient",
        words="the register says that the exam is another person's: the entry goes first",
        when=lambda f, a: a is Arrival.IDENTITY and bool(f.held) and f.may_be_shown,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="wrong-patient",
        words="the index shows the exam under an identifier that is not its patient's any more: the entry goes first",
        when=lambda f, _: f.is_misplaced and f.may_be_shown,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="no-valid-report",
        words="no valid report speaks of the study any more",
        when=lambda f, a: not f.valid and f.may_be_shown and (a is Arrival.REPORT_WITHDRAWN or not f.held),
    ),
    Row(
        do=Do.HOLD,
        reason=lambda f: f.held,
        words="a report of the exam is in doubt",
        when=lambda f, _: bool(f.held),
    ),
    Row(
        do=Do.NOTHING,
        reason="no-valid-report",
        words="no valid report speaks of the study, and nobody outside ever heard of it",
        when=lambda f, _: not f.valid,
    ),
    Row(
        do=Do.HOLD,
        reason="patient-opposed",
        words="the patient opposes being in the index",
        when=lambda f, _: f.is_opposed,
    ),
    Row(
        do=Do.HOLD,
        reason=lambda f: f.contested,
        words="the PACS contradicts a report of the exam about another study",
        when=lambda f, _: bool(f.contested),
    ),
    Row(
        do=Do.WITHDRAW,
        reason="not-for-index",
        words="a valid report says that it is not for the index (DESTDMP = N)",
        when=lambda f, _: not f.is_for_index and f.may_be_shown,
    ),
    Row(
        do=Do.HOLD,
        reason="not-for-index",
        words="a valid report says that it is not for the index (DESTDMP = N)",
        when=lambda f, _: not f.is_for_index,
    ),
)
"""What reports, the patient and people say; the PACS need not be asked."""

IMAGES: tuple[Row, ...] = (
    Row(
        do=Do.ASK,
        reason="pacs",
        words="the reports allow it: the PACS says what the study holds",
        when=lambda f, _: f.pacs is Pacs.UNASKED,
    ),
    Row(
        do=Do.WAIT,
        reason=lambda f: f.pacs_reason,
        words="the PACS gave no clean answer, from which nothing follows",
        when=lambda f, _: f.pacs is Pacs.UNKNOWN,
    ),
    Row(
        do=Do.HOLD,
        reason="pacs-disagree",
        words="several PACS hold the study, and not the same one",
        when=lambda f, _: f.pacs is Pacs.DISAGREE,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="all-rejected",
        words="every image that the PACS holds of the exam was rejected",
        when=lambda f, _: f.pacs is Pacs.REJECTED and f.may_be_shown,
    ),
    Row(
        do=Do.WAIT,
        reason="all-rejected",
        words="every image that the PACS holds of the exam was rejected: there is nothing to publish yet",
        when=lambda f, _: f.pacs is Pacs.REJECTED,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="exam-ended",
        words="the end of the exam was announced, and the PACS holds nothing of it",
        when=lambda f, _: f.pacs is Pacs.ABSENT and f.may_be_shown and f.is_announced,
    ),
    Row(
        do=Do.WAIT,
        reason="pacs-unproven",
        words="the end of the exam was announced, and nothing lets the PACS prove that it still finds what it holds",
        when=lambda f, _: f.pacs is Pacs.UNPROVEN and f.is_announced,
    ),
    Row(
        do=Do.HOLD,
        reason="pacs-unproven",
        words="the PACS holds nothing of a study that is in the index, and nothing lets it prove that it is whole",
        when=lambda f, _: f.pacs is Pacs.UNPROVEN,
    ),
    Row(
        do=Do.HOLD,
        reason="pacs-absent-many",
        words="many exams vanished from the PACS at once, unannounced",
        when=lambda f, _: f.pacs is Pacs.ABSENT and f.may_be_shown and f.absent > ABSENT_MAX,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="images-gone",
        words="the PACS has held nothing of the study for an hour and more",
        when=lambda f, _: f.pacs is Pacs.ABSENT and f.may_be_shown and _is_absent_long(f),
    ),
    Row(
        do=Do.WAIT,
        reason="pacs-absent-once",
        words="the PACS holds nothing of a study that is in the index: once is not enough",
        when=lambda f, _: f.pacs is Pacs.ABSENT and f.may_be_shown,
    ),
    Row(
        do=Do.WAIT,
        reason="pacs-has-no-such-study",
        words="the PACS does not have the study yet",
        when=lambda f, _: f.pacs is Pacs.ABSENT,
    ),
    Row(
        do=Do.HOLD,
        reason=lambda f: f.contradiction,
        words="the PACS contradicts a report of the exam",
        when=lambda f, _: bool(f.contradiction),
    ),
    Row(
        do=Do.WAIT,
        reason=lambda f: f.incomplete,
        words="the evidence does not say yet that the images are complete",
        when=lambda f, _: bool(f.incomplete),
    ),
)
"""What the PACS says, once it was asked."""

ENTRIES: tuple[Row, ...] = (
    Row(
        do=Do.ASK,
        reason="index",
        words="what would be published is known: the index says what it shows",
        when=lambda f, _: f.index is Index.UNASKED,
    ),
    Row(
        do=Do.PUBLISH,
        reason="",
        words="the index shows nothing of ours: the exam is new to it",
        when=lambda f, _: f.index is Index.NONE,
    ),
    Row(
        do=Do.NOTHING,
        reason="already-indexed",
        words="the index shows exactly this content",
        when=lambda f, _: f.index is Index.SAME,
    ),
    Row(
        do=Do.HOLD,
        reason="entry-deprecated-by-others",
        words="somebody else deprecated our entry",
        when=lambda f, _: f.index is Index.DEPRECATED,
    ),
    Row(
        do=Do.HOLD,
        reason="entry-missing",
        words="the index no longer shows the entry we published",
        when=lambda f, _: f.index is Index.MISSING,
    ),
    Row(
        do=Do.WITHDRAW,
        reason="patient-moved",
        words="the index shows it under an identifier that was merged: that entry goes, then it is published anew",
        when=lambda f, _: f.index is Index.ELSEWHERE,
    ),
    Row(
        do=Do.UPDATE,
        reason="",
        words="only whom it is hidden from differs, and the index takes new metadata",
        when=lambda f, _: f.index is Index.VISIBILITY and f.can_update,
    ),
    Row(
        do=Do.REPLACE,
        reason="",
        words="the content differs from the entry that is approved now",
        when=lambda _f, _a: True,
    ),
)
"""What the index shows, once it was asked."""

TABLE = (*WORDS, *IMAGES, *ENTRIES)


def decide(facts: Facts, arrived: Arrival = Arrival.LOOK) -> Decision:
    """The first row of ``TABLE`` that holds; the last one always does."""
    row = next(row for row in TABLE if row.when(facts, arrived))
    reason = row.reason if isinstance(row.reason, str) else row.reason(facts)
    return Decision(do=row.do, reason=reason, words=row.words)
