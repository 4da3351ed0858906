"""What keeps the audit trail true while the gateway runs: heads, their witness, the daily verification, retention.

Invariants:

* a head is made within seconds of being due, and written down outside before the next one is;
* a witness that cannot be written is waited for: the heads are kept, and the log says so;
* what a verification found is itself a record, and an alert when the trail does not explain it;
* reading the trail is recorded before the answer is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from gateway.facts import Facts, Operation, Say, fact, operator
from gateway.lifecycle import unless
from gateway.settings import AuditSettings
from security import audit
from security.audit import heads as heading
from security.audit import trail, tree, verifying, witness
from security.audit.heads import Head, Sealer
from security.clock import Clock, from_ms, to_ms
from security.errors import BadInput, Refused, Unavailable
from security.store.port import ReadTx, Store, Tx

log = structlog.get_logger()

LOOK_S = 5.0
VERIFY_EVERY = timedelta(days=1)
VERIFIED = "audit.verified"
STARTED = "application.started"
STOPPED = "application.stopped"
CHANGED = "configuration.changed"
_YEAR = timedelta(days=365.25)


class TrailKeeper:
    """Keeps the trail of one database. ``altered``: told, once for each verification, that the trail was altered.
    ``configuration``: digest of what the process runs with, "" when nobody minds."""

    def __init__(
        self,
        store: Store,
        *,
        kek: bytes,
        settings: AuditSettings,
        clock: Clock,
        altered: Callable[[str], None] = lambda _kind: None,
        configuration: str = "",
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._altered = altered
        self._configuration = configuration
        self._is_begun = False
        self._sealer = Sealer(
            store, kek=kek, records=settings.head_records, every=timedelta(seconds=settings.head_every_s)
        )
        self._is_running = False
        self._looked_at: datetime | None = None
        self._witness = witness.WitnessFile(settings.witness_file) if settings.witness_file else None

    async def run(self, stop: asyncio.Event) -> None:
        """Record the start, look from time to time until ``stop``, record the stop, then make the last head.

        Raises:
            Broken: the key of the trail does not open.
        """
        self._is_running = True
        while not stop.is_set():
            if not self._is_begun:
                await self._without_fault(self._begin)
            await self._without_fault(self.seal)
            await self._without_fault(self._daily)
            await unless(stop, asyncio.sleep(LOOK_S))
        await self._without_fault(lambda: self._store.write(lambda tx: self._note_life(tx, STOPPED)))
        await self._without_fault(lambda: self.seal(at_once=True))

    async def _begin(self) -> None:
        """Record that the process started, and whether its configuration is another than at the start before."""

        def work(tx: Tx) -> None:
            before = tx.rows(
                "SELECT detail FROM audit_record WHERE event = :event AND is_erased = 0 ORDER BY seq DESC LIMIT 1",
                event=STARTED,
            )
            if before and before[0]["detail"] != self._life():
                self._note_life(tx, CHANGED)
            self._note_life(tx, STARTED)

        await self._store.write(work)
        self._is_begun = True

    def _life(self) -> str:
        return f"version {version('poterne')}, configuration {self._configuration or 'not stated'}"

    def _note_life(self, tx: Tx, event: str) -> None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant="", zone="ops", at=self._clock.now(), event=event, actor="poterne", outcome=0,
                object_type="process", object_id="poterne", detail=self._life(),
            ),
        )  # fmt: skip

    async def _without_fault(self, step: Callable[[], Awaitable[object]]) -> None:
        try:
            await step()
        except Unavailable as fault:  # the disk is full, the witness is away: look again
            log.warning("audit-trail-later", code=fault.code)

    def adopt(self, kek: bytes) -> None:
        """Keep the trail's keys under ``kek`` from now on."""
        self._sealer.adopt(kek)

    async def seal(self, *, at_once: bool = False) -> list[Head]:
        """Make the heads that are due, write down outside those that are not yet there."""
        made = await self._sealer.step(self._clock.now(), at_once=at_once)
        if self._witness is not None and (made or not self._witness.is_in_step):
            after = await asyncio.to_thread(self._witness.last)
            lacking = await self._store.read(lambda tx: heading.heads(tx, after=after))
            await asyncio.to_thread(self._witness.add, lacking)
        return made

    async def _daily(self) -> None:
        now = self._clock.now()
        if self._looked_at is None:
            self._looked_at = await self._store.read(lambda tx: _last_verified(tx, now - VERIFY_EVERY))
        if self._looked_at and now - self._looked_at < VERIFY_EVERY:
            return
        try:
            await self.verify(actor="poterne")
        except BadInput as fault:  # the witness itself is not what was written: as loud as an altered trail
            log.error("audit-witness-unreadable", code=fault.code, hint=fault.hint)  # noqa: TRY400  nothing of ours broke
            self._altered(fault.code)
        self._looked_at = now
        before = now - self._settings.retention_years * _YEAR
        await self._store.write(lambda tx: self._erase(tx, before, now))

    @staticmethod
    def _erase(tx: Tx, before: datetime, now: datetime) -> int:
        last = heading.newest(tx)
        return trail.erase(tx, before=before, newest_kept=last.last_seq, actor="poterne", now=now) if last else 0

    async def verify(self, *, actor: str, beside: Path | None = None, say: Say | None = None) -> verifying.Report:
        """Check the whole trail, and record what was found. ``beside``: another witness than the configured one.

        Raises:
            BadInput: as ``witness.read``.
        """
        if not self._is_running:  # nobody made the heads that were due
            await self.seal(at_once=True)
        place = beside or self._settings.witness_file
        is_due = beside is not None or await self._store.read(heading.newest) is not None  # else there is no file yet
        known = await asyncio.to_thread(witness.read, place) if place and (is_due or place.exists()) else None
        now = self._clock.now()
        found = await verifying.verify(self._store, witness=known, now=now, progress=say)
        kinds = sorted({one.kind.value for one in found.findings})
        said = f"{found.records} records, {found.heads} heads: {', '.join(kinds) if kinds else 'as written'}"
        await audit.note(
            self._store,
            audit.AuditRecord(
                tenant="", zone="ops", at=now, event=VERIFIED, actor=actor, outcome=0 if found.is_intact else 8,
                object_type="audit", object_id="trail", detail=said,
            ),
        )  # fmt: skip
        if not found.is_intact:
            log.error("audit-trail-altered", findings=kinds)
            self._altered(next(one.kind.value for one in found.findings if one.kind not in verifying.NOTES))
        return found

    async def show(self, question: trail.Question, *, actor: str) -> list[trail.Entry]:
        """Who did what; the record of this look is durable before it is returned."""
        await self._store.write(lambda tx: trail.note_question(tx, question, actor=actor, now=self._clock.now()))
        return await self._store.read(lambda tx: trail.ask(tx, question))

    async def prove(self, seq: int) -> Mapping[str, Any]:
        """What a stranger needs to check with SHA-256 and Ed25519 alone that a record stands under a head.

        Raises:
            Refused: ``no-record``; ``not-sealed`` no head covers it yet.
        """
        return await self._store.read(lambda tx: _proof(tx, seq))

    def operations(self) -> Mapping[str, Operation]:
        """What commands may ask for, JSON in and out (``gateway.control``)."""

        async def show(facts: Facts, _say: Say) -> list[dict[str, Any]]:
            question = trail.Question(
                since=datetime.fromisoformat(fact(facts, "since")),
                until=datetime.fromisoformat(fact(facts, "until")),
                **{name: str(facts.get(name, "")) for name in ("tenant", "event", "actor", "object_id", "patient")},
                after=int(facts.get("after", 0)),
                rows=int(facts.get("rows", 1000)),
            )
            found = await self.show(question, actor=operator(fact(facts, "user")))
            return [_shown(entry) for entry in found]

        async def verify(facts: Facts, say: Say) -> Facts:
            beside = Path(facts["witness"]) if facts.get("witness") else None
            found = await self.verify(actor=operator(fact(facts, "user")), beside=beside, say=say)
            return asdict(found) | {"is_intact": found.is_intact}

        async def head(_facts: Facts, _say: Say) -> Facts | None:
            await self.seal(at_once=True)
            last = await self._store.read(heading.newest)
            return {"line": witness.line(last)} if last else None

        async def prove(facts: Facts, _say: Say) -> Facts:
            return await self.prove(int(fact(facts, "seq")))

        return {"audit-show": show, "audit-verify": verify, "audit-head": head, "audit-prove": prove}


def _last_verified(tx: ReadTx, since: datetime) -> datetime | None:
    """The newest verification later than ``since``."""
    rows = tx.rows(
        "SELECT at FROM audit_record WHERE at >= :since AND event = :event ORDER BY at DESC LIMIT 1",
        since=to_ms(since),
        event=VERIFIED,
    )
    return from_ms(rows[0]["at"]) if rows else None


def _proof(tx: ReadTx, seq: int) -> Mapping[str, Any]:
    rows = tx.rows("SELECT * FROM audit_record WHERE seq = :seq", seq=seq)
    if not rows:
        raise Refused(
            f"no record has the number {seq}", code="no-record", hint="poterne audit show tells the numbers"
        )
    head = heading.covering(tx, seq)
    if head is None:
        raise Refused(f"no head covers record {seq} yet", code="not-sealed", hint="ask again in a minute")
    leaves = heading.leaves_until(tx, head)
    index = len(leaves) - 1 - (head.last_seq - seq)
    record = None if rows[0]["is_erased"] else audit.canonical(audit.record_of_row(rows[0])).decode()
    return {
        "record": record,
        "leaf": rows[0]["leaf"].hex(),
        "index": index,
        "path": [one.hex() for one in tree.inclusion_path(leaves, index)],
        "head": witness.line(head),
    }


def _shown(entry: trail.Entry) -> dict[str, Any]:
    record = {} if entry.record is None else asdict(entry.record) | {"at": entry.record.at.isoformat()}
    return {"seq": entry.seq, "is_erased": entry.record is None} | record
