"""What is wrong, and what of it a channel has not been told yet. Pure: figures in, conditions out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from indexer.timeline import SHADOW

CERTIFICATE_DAYS = (60, 30, 14, 7, 1, 0)
PAUSED_TOO_LONG = timedelta(hours=4)
QUIET = timedelta(minutes=5)
"""How long a condition must be gone before its alert is closed: what comes and goes is one alert."""

EVENT_LASTS = timedelta(hours=24)
_STAGE_STEP = 5


class Kind(StrEnum):
    """What an alert is about; its value is what programs read."""

    HELD = "held"
    FAILED = "failed"
    LATE = "late"
    AT_RISK = "at-risk"
    PAUSED = "paused"
    DISK = "disk"
    CLOCK = "clock"
    CLOCK_STEPPED = "clock-stepped"
    CERTIFICATE = "certificate"
    PACS_RESET = "pacs-reset"
    PACS_CHANGED = "pacs-changed"
    MASS_WITHDRAWAL = "mass-withdrawal"
    BREAK_GLASS = "break-glass"
    EXPOSED = "exposed"
    TRUST = "trust"
    INBOX = "inbox"
    AUDIT = "audit"
    FEED = "feed"


EVENTS = frozenset(
    {
        Kind.CLOCK_STEPPED,
        Kind.PACS_RESET,
        Kind.PACS_CHANGED,
        Kind.MASS_WITHDRAWAL,
        Kind.BREAK_GLASS,
        Kind.AUDIT,
    }
)
"""What happens once instead of lasting: told once, open for a day so that the console shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one look found.

    ``held`` and ``failed``: exams by tenant and reason. ``late``: exams whose deadline passed and that are neither
    held nor failed, by tenant and reason. ``at_risk``: exams whose deadline lies ahead and will be missed as
    things are, by tenant. ``paused``: since when, by tenant. ``disk_stage``: 0, 1 low, 2 nothing is
    taken in; ``disk_free``: bytes. ``clock_offset_s``: our clock minus the index's, by tenant. ``certificates``: end
    of each by the key of the configuration that names it. ``trust``: what of links and the white list is not as it
    should be, by key and code. ``exposed``: by tenant, seconds of work on no second copy
    and the stage: 1 from half of the declared RPO on, 2 from the whole of it on. ``inbox``: received objects by
    tenant and ``unconfirmed`` (no PACS shows them for too long), ``quarantined`` or ``lost`` (their file is gone).
    ``feeds``: seconds for which an audit repository has lacked a record, by name, of those that have for too long.
    """

    now: datetime
    held: Mapping[tuple[str, str], int] = field(default_factory=dict)
    failed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    late: Mapping[tuple[str, str], int] = field(default_factory=dict)
    at_risk: Mapping[str, int] = field(default_factory=dict)
    paused: Mapping[str, datetime] = field(default_factory=dict)
    disk_stage: int = 0
    disk_free: int = 0
    clock_offset_s: Mapping[str, float] = field(default_factory=dict)
    certificates: Mapping[str, datetime] = field(default_factory=dict)
    exposed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    trust: Collection[str] = ()
    inbox: Mapping[tuple[str, str], int] = field(default_factory=dict)
    feeds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is wrong now.

    ``tenant``: "" for the installation. ``subject``: reason, PACS or key of the configuration. ``measure``: exams
    (held, failed, late), objects (inbox), seconds (paused, exposed, feed), bytes free (disk), milliseconds (clock),
    days left (certificate), 1 for an event. ``stage``: how bad; a higher one is told although the alert is known.
    ``why``: exams by reason.
    """

    tenant: str
    kind: Kind
    subject: str
    measure: int
    stage: int = 0
    why: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two conditions the same alert."""
        return self.tenant, self.kind, self.subject


def conditions(figures: Figures, *, offset_max_s: float) -> tuple[Condition, ...]:
    """Everything that is wrong, each key once. Exams that wait because their tenant only rehearses are not."""
    found = [
        Condition(tenant=tenant, kind=kind, subject=reason, measure=exams, stage=_crowd(exams))
        for kind, counts in ((Kind.HELD, figures.held), (Kind.FAILED, figures.failed))
        for (tenant, reason), exams in counts.items()
        if reason != SHADOW
    ]
    found += _late(figures)
    found += [
        Condition(tenant=tenant, kind=Kind.AT_RISK, subject="", measure=exams, stage=_crowd(exams))
        for tenant, exams in figures.at_risk.items()
        if exams
    ]
    for tenant, since in figures.paused.items():
        paused = figures.now - since
        if paused >= PAUSED_TOO_LONG:
            found.append(Condition(tenant=tenant, kind=Kind.PAUSED, subject="", measure=int(paused.total_seconds())))
    if figures.disk_stage:
        found.append(
            Condition(tenant="", kind=Kind.DISK, subject="", measure=figures.disk_free, stage=figures.disk_stage)
        )
    for tenant, offset_s in figures.clock_offset_s.items():
        if abs(offset_s) > offset_max_s:
            found.append(Condition(tenant=tenant, kind=Kind.CLOCK, subject="", measure=round(offset_s * 1000)))
    found += [
        Condition(tenant=tenant, kind=Kind.EXPOSED, subject="", measure=seconds, stage=stage)
        for tenant, (seconds, stage) in figures.exposed.items()
        if stage
    ]
    found += [
        Condition(tenant=tenant, kind=Kind.INBOX, subject=what, measure=objects, stage=_crowd(objects))
        for (tenant, what), objects in figures.inbox.items()
        if objects
    ]
    found += [
        Condition(tenant="", kind=Kind.FEED, subject=name, measure=seconds) for name, seconds in figures.feeds.items()
    ]
    found += _certificates(figures)
    found += [Condition(tenant="", kind=Kind.TRUST, subject=subject, measure=1) for subject in figures.trust]
    return tuple(found)


def _late(figures: Figures) -> list[Condition]:
    by_tenant: dict[str, dict[str, int]] = {}
    for (tenant, reason), exams in figures.late.items():
        if reason != SHADOW:
            by_tenant.setdefault(tenant, {})[reason] = exams
    return [
        Condition(
            tenant=tenant,
            kind=Kind.LATE,
            subject="",
            measure=sum(why.values()),
            stage=_crowd(sum(why.values())),
            why=why,
        )
        for tenant, why in by_tenant.items()
    ]


def _certificates(figures: Figures) -> list[Condition]:
    found = []
    for key, ends in figures.certificates.items():
        days = (ends - figures.now) // timedelta(days=1)
        passed = sum(days < bound for bound in CERTIFICATE_DAYS)
        if passed:
            found.append(Condition(tenant="", kind=Kind.CERTIFICATE, subject=key, measure=days, stage=passed))
    return found


def _crowd(exams: int) -> int:
    """0 for one to four exams, 1 from five on, then one more each time the number has doubled."""
    return (exams // _STAGE_STEP).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An alert, and what one channel was told of it. ``told_at``: None for never."""

    alert_id: int
    condition: Condition
    opened_at: datetime
    closed_at: datetime | None
    told_at: datetime | None
    told_stage: int


class Occasion(StrEnum):
    """Why a channel is told of an alert now."""

    OPENED = "opened"
    WORSE = "worse"
    STILL = "still"
    CLOSED = "closed"


def occasion(known: Known, *, now: datetime, remind: timedelta) -> Occasion | None:
    """Why the channel must be told now, None when it knows all there is to know.

    What opened and closed while nobody could be told is told once, as closed.
    """
    if known.closed_at is not None:
        is_event = known.condition.kind in EVENTS
        return None if is_event and known.told_at is not None else Occasion.CLOSED
    if known.told_at is None:
        return Occasion.OPENED
    if known.condition.stage > known.told_stage:
        return Occasion.WORSE
    if known.condition.kind not in EVENTS and is_past(known.told_at, remind, now=now):
        return Occasion.STILL
    return None


def is_past(since: datetime, span: timedelta, *, now: datetime) -> bool:
    """Whether ``span`` has passed since. It has when ``since`` lies ahead: a clock was wrong then (T64)."""
    return not timedelta() <= now - since < span
