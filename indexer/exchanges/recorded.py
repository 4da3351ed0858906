"""A kind of job whose exchanges with the index are kept with what they led to.

Invariants:

* whatever the kind answers is answered unchanged: the record is one more effect of the answer, in its transaction;
* what must be read for the record is read before anything is sent, so that no answer is lost over it.

An engine that stops waiting for a call, and a process that dies in it, leave the attempt alone (``rows.listed`` shows
it): nobody knows more than that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from indexer.exchanges.rows import Keeping, add, keep, stored_of
from indexer.ledger import Ledger
from indexer.wire import taped
from security.clock import Clock
from security.outbox.port import Answer, Job, JobKind
from security.store.port import Store, Tx


class Recorded:
    """``kind``, recorded."""

    def __init__(self, kind: JobKind, *, store: Store, ledger: Ledger, clock: Clock, keeping: Keeping) -> None:
        self.name = kind.name
        self.endpoint = kind.endpoint
        self._kind = kind
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._keeping = keeping

    async def settle(self, job: Job) -> Answer:
        """As the kind settles."""
        return await self._heard(self._kind.settle, job, {})

    async def send(self, job: Job) -> Answer:
        """As the kind sends."""
        stored = await self._store.read(lambda tx: stored_of(tx, self._ledger, job))
        return await self._heard(self._kind.send, job, stored)

    async def query(self, job: Job) -> Answer:
        """As the kind queries."""
        return await self._heard(self._kind.query, job, {})

    async def _heard(self, call: Callable[[Job], Awaitable[Answer]], job: Job, stored: Mapping[str, bytes]) -> Answer:
        with taped(self._clock.now) as tape:
            answer = await call(job)
        if not tape:
            return answer
        told = {"outcome": answer.reason or answer.event.value, "detail": answer.detail}
        kept = [keep(self._ledger, job, exchange, stored, **told) for exchange in tape]

        def effects(tx: Tx) -> None:
            if answer.effects is not None:
                answer.effects(tx)
            add(tx, job, kept, self._keeping)

        return replace(answer, effects=effects)
