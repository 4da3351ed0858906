"""Whether the images of an exam are complete: (evidence, policy, now) → complete by which evidence, or look again.

There is no end-of-study signal in DICOM (FF-13); several facts hint at one, and each may be missing or wrong.

Invariants:

* pure; the first row of ``TABLE`` that holds decides, and its words are kept on the exam's timeline;
* what the PACS lists instance by instance is the truth; every count or list of somebody else is a hint (FF-14);
* while a performed procedure step is in progress the images are not complete, unless a person says so;
* nothing waits for ever: once a wait is ``Policy.ceiling`` old the exam goes out with what there is, and why it had
  waited is said;
* more confirming evidence never delays: a step whose images are all there, a notification whose instances are all
  there, time without a change;
* late images wait for a quiet PACS alone: what lists each batch would let each batch replace the entry (FF-15).

When the images do not decide (the index shows the exam, and more than late images has changed) nothing waits for
them: a stricter flag or a removed image goes out at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from security.identity import Uid


class Stage(StrEnum):
    """What the images decide."""

    FIRST = "first"  # whether the exam goes out at all
    LATE = "late"  # when the entry is replaced: only images were added to what the index shows
    NEITHER = "neither"  # nothing: something else changed as well, or images went


class By(StrEnum):
    """Which evidence decided."""

    PERSON = "person"
    REPORT = "report"
    CHANGE = "change"
    STEPS = "mpps"
    AVAILABILITY = "ian"
    COUNT = "count"
    CEILING = "ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """What a modality last said of one performed procedure step (MPPS). ``at``: when it was said; ``instances``: how
    many it lists for this exam alone, 0 when it does not say."""

    status: Literal["IN PROGRESS", "COMPLETED", "DISCONTINUED"]  # (0040,0252), PS3.3 C.4.14
    at: datetime
    instances: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """One Instance Availability Notification (PS3.4 Annex R). ``instances``: those it says can be retrieved."""

    at: datetime
    instances: frozenset[Uid]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What modalities and archives said of one exam, oldest first."""

    steps: tuple[PerformedStep, ...] = ()
    notices: tuple[Availability, ...] = ()


_NOTHING_SAID = Said()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a tenant decides. ``by``: ``report``: a validated report alone publishes, only late images wait;
    ``evidence``: the first publication waits too. ``apart``: how far apart two equal looks must lie; ``idle``: how
    long nothing may have arrived; ``ceiling``: after which it goes out in any case."""

    by: Literal["report", "evidence"] = "report"
    apart: timedelta = timedelta()
    idle: timedelta = timedelta()
    ceiling: timedelta = timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known. ``held``: every SOP Instance UID the PACS lists now; ``same_since``: since when it was seen to
    hold exactly these; ``arrived_at``: the last sign that images came in, None for none; ``waits_since``: since when
    the exam has waited for its images, now when it begins to; ``hurried_by``: who said that it shall not, "" for
    nobody; ``said``: by modalities and archives. No date lies after now."""

    stage: Stage
    held: frozenset[Uid]
    same_since: datetime
    waits_since: datetime
    arrived_at: datetime | None = None
    hurried_by: str = ""
    said: Said = _NOTHING_SAID

    @property
    def quiet_since(self) -> datetime:
        """Since when nothing is known to have arrived."""
        return max(self.same_since, self.arrived_at or self.same_since)

    @property
    def completed(self) -> list[PerformedStep]:
        """The steps that a modality completed."""
        return [one for one in self.said.steps if one.status == "COMPLETED"]

    @property
    def has_performed(self) -> bool:
        """Whether the PACS holds as many instances as the completed steps list together."""
        return sum(one.instances for one in self.completed) <= len(self.held)

    @property
    def announced(self) -> frozenset[Uid]:
        """What the notifications say can be retrieved."""
        return frozenset[Uid]().union(*(one.instances for one in self.said.notices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Nothing is waited for."""

    by: By
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomplete:
    """Not yet. ``reason``: a code of ``timeline.MISSING``; ``next_look``: when to look again, an event apart."""

    reason: str
    words: str
    next_look: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. ``then``: by which evidence the images are complete, or why they are not. ``look``: when such a wait
    is looked at again, the ceiling apart."""

    then: By | str
    words: str
    when: Callable[[Evidence, Policy, datetime], bool]
    look: Callable[[Evidence, Policy, datetime], datetime] = lambda e, p, _: e.waits_since + p.ceiling


def _steps_are_there(evidence: Evidence) -> bool:
    """As many instances as the completed steps list are there; a step that lists none confirms nothing."""
    completed = evidence.completed
    return bool(completed) and all(one.instances for one in completed) and evidence.has_performed


def _notices_are_there(evidence: Evidence) -> bool:
    """All that was notified is there, and an archive that spoke after a step ended knows better than the step what
    became of its images: a rejected one is in the step's list and not in the archive."""
    announced = evidence.announced
    if not announced or not announced <= evidence.held:
        return False
    spoken_at = max(one.at for one in evidence.said.notices)
    return evidence.has_performed or all(one.at <= spoken_at for one in evidence.completed)


def _stable_at(evidence: Evidence, policy: Policy) -> datetime:
    return max(evidence.same_since + policy.apart, evidence.quiet_since + policy.idle)


TABLE: tuple[Row, ...] = (
    Row(
        then=By.PERSON,
        words="a person does not want to wait for more images",
        when=lambda e, _p, _n: bool(e.hurried_by),
    ),
    Row(
        then=By.CHANGE,
        words="the exam changed by more than late images",
        when=lambda e, _p, _n: e.stage is Stage.NEITHER,
    ),
    Row(
        then=By.REPORT,
        words="a validated report is there",
        when=lambda e, p, _: e.stage is Stage.FIRST and p.by == "report",
    ),
    Row(
        then="images-step-in-progress",
        words="a performed procedure step is in progress",
        when=lambda e, _p, _n: any(one.status == "IN PROGRESS" for one in e.said.steps),
    ),
    Row(
        then=By.STEPS,
        words="every performed procedure step is over, and the PACS holds as many instances as they list",
        when=lambda e, _p, _n: e.stage is Stage.FIRST and _steps_are_there(e),
    ),
    Row(
        then=By.AVAILABILITY,
        words="the PACS holds all that was notified as available",
        when=lambda e, _p, _n: e.stage is Stage.FIRST and _notices_are_there(e),
    ),
    Row(
        then="images-expected",
        words="the PACS lacks images that a performed procedure step or a notification lists",
        when=lambda e, _p, _n: e.stage is Stage.FIRST and not (e.has_performed and e.announced <= e.held),
        look=lambda _e, p, now: now + max(p.idle, p.apart),
    ),
    Row(
        then=By.COUNT,
        words="the PACS was seen to hold the same images long enough, and nothing arrived",
        when=lambda e, p, now: _stable_at(e, p) <= now,
    ),
    Row(
        then="images-arriving",
        words="images may still be arriving",
        when=lambda _e, _p, _n: True,
        look=lambda e, p, _: _stable_at(e, p),
    ),
)


def decide(evidence: Evidence, policy: Policy, now: datetime) -> Complete | Incomplete:
    """The first row that holds; an incomplete exam at its ceiling is complete by that."""
    row = next(row for row in TABLE if row.when(evidence, policy, now))
    if isinstance(row.then, By):
        return Complete(by=row.then, words=row.words)
    ends_at = evidence.waits_since + policy.ceiling
    if ends_at <= now:
        return Complete(by=By.CEILING, words=f"it waited as long as it may, though {row.words}")
    return Incomplete(reason=row.then, words=row.words, next_look=min(ends_at, row.look(evidence, policy, now)))
