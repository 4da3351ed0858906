"""The jobs that bring the audit trail to a repository: a batch each, through the outbox, in the order of the trail.

Invariants:

* at least once and in order: a batch is fixed, sent, acknowledged, and only then comes the next; what is not known to
  have arrived goes again;
* a repository that is away costs nothing but waiting: the trail itself is what is kept, and an alert tells how long;
* a feed records nothing about its own steps (``jobs.HOUSE``), so that it never feeds itself;
* signed heads go with the records they cover: the repository is a witness too.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from gateway.bridge import Bridge
from gateway.feeds import fhir, rows, syslog
from gateway.lifecycle import unless
from gateway.settings import FeedFhir, FeedSettings, FeedSyslog
from security.audit import AuditRecord
from security.audit.event import audit_event
from security.audit.heads import Head
from security.audit.message import Source, audit_message
from security.audit.vocabulary import row_of
from security.audit.witness import line
from security.clock import Clock
from security.errors import Refused, Unavailable
from security.outbox import jobs
from security.outbox.port import Answer, Job, JobClass, JobKind
from security.outbox.states import STOPPED, TERMINAL, Event
from security.store.port import ReadTx, Store, Tx

log = structlog.get_logger()

BATCH = 500
HEAD = "audit.head"
REVIVE = timedelta(minutes=15)
"""After this long a stopped feed is tried again by itself: a person may have mended the repository."""
KEEP = 100
"""Finished jobs of a feed that are kept to look at; the trail itself holds what they sent."""
_LOOK_S = 1.0


def lane(name: str) -> str:
    """The lane, the kind and the endpoint of a feed."""
    return f"audit-feed:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing to say: its message as a record, and its number in the trail."""

    record: AuditRecord
    number: int


def told(batch: rows.Batch) -> tuple[Told, ...]:
    """What of a batch is said, in order; steps that act on nothing outside are not."""
    said = [Told(record=one, number=number) for number, one in batch.records if row_of(one.event).is_told]
    return (*said, *(Told(record=_of_head(head), number=head.last_seq) for head in batch.heads))


def _of_head(head: Head) -> AuditRecord:
    return AuditRecord(
        tenant="", zone="ops", at=head.at, event=HEAD, actor=jobs.ENGINE, outcome=0,
        object_type="audit-head", object_id=str(head.size), detail=line(head),
    )  # fmt: skip


class Delivery:
    """The kind of job of one feed. ``secure``: the context of its link, None for a FHIR address of this machine."""

    def __init__(
        self, name: str, settings: FeedSettings, *, store: Store, clock: Clock, secure: ssl.SSLContext | None
    ) -> None:
        self.name = self.endpoint = lane(name)
        self._feed = name
        self._settings = settings
        self._source = Source(name=settings.source_id, site=settings.site_id)
        self._store = store
        self._clock = clock
        self._secure = secure
        self._bridge = Bridge(f"audit-feed-{name}", workers=1)

    async def close(self) -> None:
        """Give up what is under way."""
        await self._bridge.close()

    async def settle(self, job: Job) -> Answer:  # noqa: ARG002 - the cursor says what, not the job
        """Fix the batch."""
        if await self._store.write(lambda tx: rows.fix(tx, self._feed, most=BATCH)):
            return Answer(event=Event.PREPARED)
        return Answer(event=Event.UNNEEDED, reason="nothing-new")

    async def send(self, job: Job) -> Answer:  # noqa: ARG002 - the cursor says what, not the job
        """Hand it over."""
        said = told(await self._store.read(lambda tx: rows.batch(tx, self._feed)))
        answer = await self._said(said) if said else Answer(event=Event.ACCEPTED)
        if answer.event is not Event.ACCEPTED:
            return answer
        now = self._clock.now()
        return Answer(event=Event.ACCEPTED, effects=lambda tx: rows.acknowledge(tx, self._feed, now=now))

    async def query(self, job: Job) -> Answer:  # noqa: ARG002 - the cursor says what, not the job
        """A repository cannot be asked what it has: the cursor says whether it acknowledged, else it goes again."""
        at = await self._store.read(lambda tx: rows.cursor(tx, self._feed))
        if at.is_sending:
            return Answer(event=Event.ABSENT, reason="feed-unclear", detail="not acknowledged: the batch goes again")
        return Answer(event=Event.FOUND)

    async def _said(self, said: tuple[Told, ...]) -> Answer:
        settings = self._settings
        if isinstance(settings, FeedFhir):
            events = [audit_event(one.record, self._source, number=one.number) for one in said]
            return await fhir.post(
                settings.url, events, context=self._secure, connect_s=settings.connect_s, total_s=settings.total_s
            )
        return await self._by_syslog(settings, [self._framed(one) for one in said])

    async def _by_syslog(self, settings: FeedSyslog, frames: list[bytes]) -> Answer:
        assert self._secure is not None, "the settings demand a pair for syslog"
        secure = self._secure
        try:
            await self._bridge.run(
                lambda call: syslog.send(
                    call, frames, host=settings.host, port=settings.port, context=secure, connect_s=settings.connect_s
                ),
                deadline_s=settings.total_s,
            )
        except syslog.Unclear as error:
            return Answer(event=Event.AMBIGUOUS, reason="feed-unclear", detail=str(error))
        except Unavailable as error:  # the deadline: something may have left
            return Answer(event=Event.AMBIGUOUS, reason="feed-unclear", detail=error.code)
        except OSError as error:
            return Answer(event=Event.TRANSIENT, reason="feed-away", detail=type(error).__name__)
        return Answer(event=Event.ACCEPTED)

    def _framed(self, one: Told) -> bytes:
        head = syslog.header(
            at=one.record.at,
            host=self._settings.source_id,
            process=str(os.getpid()),
            is_failure=one.record.outcome > 0,
        )
        return syslog.frame(head + audit_message(one.record, self._source, number=one.number))


class Feeds:
    """Every feed of one database: sees to it that a job exists while a repository lacks something."""

    def __init__(
        self,
        settings: Mapping[str, FeedSettings],
        *,
        store: Store,
        clock: Clock,
        nudge: Callable[[], None],
        secure: Callable[[str], ssl.SSLContext | None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._nudge = nudge
        self._kinds = {
            lane(name): Delivery(name, one, store=store, clock=clock, secure=secure(name))
            for name, one in settings.items()
        }

    @property
    def kinds(self) -> Mapping[str, JobKind]:
        """For the engine."""
        return self._kinds

    async def run(self, stop: asyncio.Event) -> None:
        """Look from time to time until ``stop``."""
        while self._settings and not stop.is_set():
            try:
                await self.step()
            except Unavailable as fault:  # the disk is full: look again
                log.warning("audit-feed-later", code=fault.code)
            await unless(stop, asyncio.sleep(_LOOK_S))

    async def step(self) -> None:
        """Give a job to each feed whose repository lacks something and that has none."""
        due = await self._store.read(lambda tx: [name for name in self._settings if self._is_due(tx, name)])
        for name in due:
            await self._store.write(partial(self._begin, name=name))
        if due:
            self._nudge()

    async def close(self) -> None:
        """Give up what is under way."""
        for kind in self._kinds.values():
            await kind.close()

    def waiting(self, tx: ReadTx) -> Mapping[str, rows.Waiting]:
        """What each repository lacks."""
        return {name: rows.waiting(tx, name, now=self._clock.now()) for name in self._settings}

    def late(self, tx: ReadTx) -> Mapping[str, int]:
        """Seconds for which each repository has lacked something, of those that have for too long."""
        return {
            name: int(found.oldest_s)
            for name, found in self.waiting(tx).items()
            if found.records and found.oldest_s >= self._settings[name].alert_after_s
        }

    def _is_due(self, tx: ReadTx, name: str) -> bool:
        open_job = next((one for one in _jobs(tx, name) if one.state not in TERMINAL), None)
        if open_job is not None:
            return open_job.state in STOPPED and self._is_rested(tx, name)
        lacks = rows.waiting(tx, name, now=self._clock.now())
        every = self._settings[name].every_s
        return bool(lacks.heads) or lacks.records >= BATCH or (lacks.records > 0 and lacks.oldest_s >= every)

    def _is_rested(self, tx: ReadTx, name: str) -> bool:
        changes = jobs.lane_history(tx, tenant=jobs.HOUSE, lane=lane(name))
        return bool(changes) and self._clock.now() - changes[-1].at >= REVIVE

    def _begin(self, tx: Tx, *, name: str) -> None:
        now = self._clock.now()
        jobs.forget(tx, lane=lane(name), keep=KEEP)
        for one in _jobs(tx, name):
            if one.state in STOPPED:
                try:
                    jobs.lift(tx, tenant=jobs.HOUSE, job_id=one.job_id, now=now, actor=jobs.ENGINE)
                except Refused:  # somebody lifted it meanwhile
                    log.info("audit-feed-lifted-already", feed=name)
                return
            if one.state not in TERMINAL:
                return
        jobs.enqueue(tx, tenant=jobs.HOUSE, lane=lane(name), kind=lane(name), job_class=JobClass.P2, now=now)


def _jobs(tx: ReadTx, name: str) -> list[Job]:
    return jobs.lane_jobs(tx, tenant=jobs.HOUSE, lane=lane(name))
