"""The inbox is emptied: what came is told to its exam, and kept until the PACS shows it (reliability §1, D1).

Poterne is no PACS. An object is acknowledged once it is durable here, and its bytes go once the PACS lists the same
instance in the same series of the same study; what no PACS ever shows stays, is counted, and alarms.

Invariants:

* only a clean answer that lists the instance lets its bytes go: never UNKNOWN, never an absence, never time;
* where several objects came under one SOP Instance UID, nothing tells which of them the PACS has: all of them stay;
* the work is done from rows, so that a restart continues it; an exam is told when nothing of it came for
  ``inbox.QUIET_MS``, and again with every look at which the PACS shows more of it: only then can a manifest list it;
* the PACS is asked again later and later, at most every ``ASK_CAP``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import structlog

from gateway.dimse import inbox
from gateway.dimse.services import Failure
from gateway.dimse.storage import KeyObjects, Storage
from indexer.admission import Admission, Carrier
from indexer.decision import Arrival
from indexer.ports import StudySource
from indexer.publication import job_kind
from indexer.study import Found, Unknown
from security.clock import Clock
from security.errors import BadInput, Fault
from security.identity import Uid
from security.outbox import jobs
from security.store.port import Store, Tx

log = structlog.get_logger()

ASK_BASE = timedelta(seconds=30)
ASK_CAP = timedelta(hours=1)
_EVERY_S = 5.0
_AFTER_FAULT_S = 30.0
_UNREAD_GRACE = timedelta(seconds=10)  # whoever received it reads it first
_AT_ONCE = 200


class Emptying:
    """Empties the inbox of one tenant."""

    def __init__(
        self,
        *,
        admission: Admission,
        store: Store,
        storage: Storage,
        key_objects: KeyObjects,
        sources: Sequence[StudySource],
        clock: Clock,
        nudge: Callable[[], None],
    ) -> None:
        self._admission = admission
        self._tenant = admission.tenant
        self._store = store
        self._storage = storage
        self._key_objects = key_objects
        self._sources = tuple(sources)
        self._clock = clock
        self._nudge = nudge

    async def run(self) -> None:
        """Look again and again; a fault of store or spool is waited for."""
        while True:
            try:
                await self.step()
            except Fault as fault:
                log.warning("dimse-inbox-not-emptied", tenant=self._tenant, code=fault.code, hint=fault.hint)
                await asyncio.sleep(_AFTER_FAULT_S)
            except Exception:  # supervision edge: one study that cannot be looked at must not end the looking
                log.exception("dimse-inbox-not-emptied", tenant=self._tenant)
                await asyncio.sleep(_AFTER_FAULT_S)
            await asyncio.sleep(_EVERY_S)

    async def step(self) -> None:
        """One look: what was left unread, what stands elsewhere, which studies are due.

        Raises:
            Unavailable, Broken: of store or spool.
        """
        now = self._clock.now()
        for one in await self._store.read(
            lambda tx: inbox.unread(tx, self._tenant, before=now - _UNREAD_GRACE, limit=_AT_ONCE)
        ):
            try:
                await self._key_objects.take(one)
            except Failure as failure:
                log.warning("dimse-note-refused", peer=one.peer, status=failure.status)  # nobody waits for an answer
        finished = await self._store.read(lambda tx: inbox.done(tx, self._tenant, limit=_AT_ONCE))
        if finished:
            await self._storage.release(finished, why="rejection notes obeyed")
        latest = now + ASK_CAP * 2
        due = await self._store.read(lambda tx: inbox.due(tx, self._tenant, now=now, latest=latest, limit=_AT_ONCE))
        for study in due:
            if not study.is_told:
                await self._store.write(partial(self._tell, study=study.study))
                self._nudge()
        for study in due:
            if not await self._look_at(study):
                return  # the PACS is silent: the others are asked for at the next look

    async def _look_at(self, due: inbox.DueStudy) -> bool:
        """Let go what the PACS shows of one study; whether any PACS gave a clean answer."""
        is_answered = await self._release_confirmed(due.study)
        at = self._clock.now() + min(ASK_CAP, ASK_BASE * 2 ** min(due.tries, 10))
        await self._store.write(lambda tx: inbox.ask_again(tx, self._tenant, due, at=at))
        return is_answered

    def _tell(self, tx: Tx, *, study: str) -> None:
        by = self._now()
        number = len(inbox.stored_of(tx, self._tenant, study))
        if self._admission.ledger.is_exam(tx, self._tenant, study):
            self._admission.ledger.note(
                tx,
                self._tenant,
                study,
                kind="objects-received",
                summary=f"{number} objects by C-STORE, kept until the PACS shows them",
                now=by.at,
            )
        self._announce(tx, study, by)
        inbox.told(tx, self._tenant, study)

    def _announce(self, tx: Tx, study: str, by: Carrier) -> None:
        """Have the PACS asked about the exam, unless that is about to happen."""
        kind = job_kind(self._tenant)
        if not jobs.settles_next(tx, tenant=self._tenant, lane=study, kind=kind, now=by.at):
            self._admission.announce(tx, study, Arrival.IMAGES_ARRIVED, by)

    async def _release_confirmed(self, study: str) -> bool:
        """Let go what a PACS lists; False when every PACS was silent."""
        try:
            asked = Uid(study)
        except BadInput:  # kept under a UID that no PACS can be asked for: a person looks
            return True
        objects = await self._store.read(lambda tx: inbox.stored_of(tx, self._tenant, study))
        if not objects:
            return True
        answers = await asyncio.gather(*(source.find(asked) for source in self._sources))
        listed = {
            (series.uid, one.sop_instance)
            for answer in answers
            if isinstance(answer, Found)
            for series in answer.study.series
            for one in series.instances
        }
        confirmed = [one for one in objects if one.is_alone and (one.series, one.sop) in listed]
        for start in range(0, len(confirmed), _AT_ONCE):
            await self._storage.release(
                confirmed[start : start + _AT_ONCE],
                why="objects that the PACS shows",
                also=lambda tx: self._announce(tx, study, self._now()),
            )
        if confirmed:
            self._nudge()
        return not all(isinstance(answer, Unknown) for answer in answers)

    def _now(self) -> Carrier:
        return Carrier(control_id="", zone=inbox.ZONE, at=self._clock.now())
