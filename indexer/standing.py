"""What the index shows now of the versions we sent it, and how long to wait for it to show one.

Shared by everything that acts on an entry of ours: a replacement names the entry that is approved *now* (FF-22), a
withdrawal takes away that one and no other.

Invariants:

* versions whose bytes may have left are asked for too, newest first: one may have landed without our knowing (F07);
* absence counts only once the index had time to show what was sent (F09); no answer is no absence (FF-54).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from indexer.ledger import Ledger, Prepared, Published
from indexer.ports import (
    Accepted,
    Ambiguous,
    EntryAbsent,
    EntryAnswer,
    EntryFound,
    EntryUnknown,
    IndexAnswer,
    NotSent,
    Rejected,
)
from security.clock import Clock
from security.outbox import jobs
from security.outbox.port import Answer, Job
from security.outbox.states import Event
from security.store.port import ReadTx

MISSING_TRIES_MAX = 5
"""Times in a row that an entry once shown may be missing from an answer before that counts."""
SENDS_MAX = 10
"""Sends that the index took, or may have taken, without ever showing the effect, before a person must look."""
_TURNED_BACK_TRIES = 25
"""Queries after which a send that lies in the future of a corrected clock counts as old enough (I17)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a tenant waits.

    ``visibility``: how long what the index accepted, or may have accepted, can stay invisible to queries (F09).
    ``retry_base_s``, ``retry_cap_s``: how soon the same question is asked again: doubling from base to cap.
    """

    visibility: timedelta
    retry_base_s: float
    retry_cap_s: float

    def again(self, job: Job, *, reason: str, detail: str, now: datetime) -> Answer:
        """Not yet: look again later."""
        wait_s = min(self.retry_cap_s, self.retry_base_s * 2 ** min(job.tries - 1, 30))
        return Answer(event=Event.NOT_YET, reason=reason, detail=detail, not_before=now + timedelta(seconds=wait_s))

    def is_too_early(self, job: Job, sent_at: datetime, *, now: datetime) -> bool:
        """Whether the index may still come to show what was sent then. A clock that was turned back since (I17)
        makes the stamp useless: then the number of queries stands for the time."""
        if sent_at > now:
            return job.tries <= _TURNED_BACK_TRIES
        return now < sent_at + self.visibility


@dataclass(frozen=True, slots=True, kw_only=True)
class Sendings:
    """What of one study the index may hold.

    ``published``: the newest version a query showed, unless it was withdrawn. ``attempted``: versions no query has
    shown yet whose bytes may have left, newest first, with the start of their last attempt.
    """

    published: Published | None
    attempted: list[tuple[Prepared, datetime]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The newest of our versions that the index shows, whatever its status; ``known``: what the store says of it."""

    version: int
    known: Prepared | Published
    entry: EntryFound


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The index showed the entry of this version before and lastingly does not any more."""

    version: int


def sendings(tx: ReadTx, ledger: Ledger, tenant: str, study: str) -> Sendings:
    """What the store says was sent of the study."""
    sent = jobs.last_attempts(tx, tenant=tenant, lane=study)
    return Sendings(
        published=ledger.published(tx, tenant, study),
        attempted=[
            (version, sent[version.job_id])
            for version in ledger.prepared_since(tx, tenant, study)
            if version.job_id in sent
        ],
    )


async def newest(
    job: Job,
    known: Sendings,
    find: Callable[[str], Awaitable[EntryAnswer]],
    *,
    patience: Patience,
    clock: Clock,
) -> Shown | Missing | Answer | None:
    """What the index shows of the versions it may hold. ``Answer``: not to be said yet; None: nothing of ours.

    ``find``: asks the index for one uniqueId.
    """
    for version, sent_at in known.attempted:
        entry = await find(version.unique_id)
        if not isinstance(entry, EntryAbsent):
            return _shown(job, entry, version, patience, clock)
        if patience.is_too_early(job, sent_at, now=clock.now()):
            return patience.again(
                job,
                reason="not-visible-yet",
                detail="an earlier version may still appear in the index",
                now=clock.now(),
            )
    if known.published is None:
        return None
    entry = await find(known.published.unique_id)
    if not isinstance(entry, EntryAbsent):
        return _shown(job, entry, known.published, patience, clock)
    if job.tries <= MISSING_TRIES_MAX:
        return patience.again(
            job,
            reason="entry-missing",
            detail="the index does not show an entry it showed before",
            now=clock.now(),
        )
    return Missing(version=known.published.version)


def _shown(
    job: Job, entry: EntryFound | EntryUnknown, version: Prepared | Published, patience: Patience, clock: Clock
) -> Shown | Answer:
    if isinstance(entry, EntryUnknown):
        return patience.again(job, reason=f"index-{entry.reason}", detail=entry.detail, now=clock.now())
    return Shown(version=version.version, known=version, entry=entry)


def sent(answer: IndexAnswer) -> Answer:
    """What the index's answer to bytes that were sent means to the job."""
    match answer:
        case Accepted(detail=detail):
            return Answer(event=Event.ACCEPTED, detail=detail)
        case NotSent(reason=reason, detail=detail):
            return Answer(event=Event.TRANSIENT, reason=f"index-{reason}", detail=detail)
        case Ambiguous(reason=reason, detail=detail):
            return Answer(event=Event.AMBIGUOUS, reason=f"index-{reason}", detail=detail)
        case Rejected(lasting=lasting, known=known, codes=codes, detail=detail, retry_after_s=retry_after_s):
            refusal = Event.REFUSED if lasting else Event.TRANSIENT
            return Answer(
                event=refusal if known else Event.HELD,
                reason="index-" + "+".join(codes),
                detail=detail,
                retry_after_s=retry_after_s,
            )
