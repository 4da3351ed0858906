"""Refusals on their way into the trail: counted, so that a flood of them is a handful of records (T33).

Invariants:

* a refusal stands in the trail within seconds; the same again within the minute is counted, and told once at its end;
* at most ``TOLD_MAX`` different ones a minute of strangers, and as many of who proved a name, are told apart; beyond
  that those from different addresses and names are counted together: no number of addresses fills the trail, and no
  crowd of strangers hides somebody with a name;
* what cannot be written now stays counted; a kill loses the counts of the running minute alone;
* a record holds codes, counts, an address and a verified name: nothing that whoever was refused chose.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Final

import structlog

from security.audit.record import AuditRecord, append
from security.clock import Clock
from security.errors import Fault
from security.policy import Refusal
from security.store.port import Store, Tx

log = structlog.get_logger()

TOLD_MAX: Final = 100
PERIOD_S: Final = 60.0
_EVERY_S: Final = 1.0
_MINOR: Final = 4  # EventOutcomeIndicator, PS3.15 A.5.3
MANY: Final = "many"
"""The address of refusals that are counted together."""


class Refusals:
    """Takes refusals from every door of one process. ``run`` and ``write`` are called by its loop alone."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counts: Counter[Refusal] = Counter()
        self._told: set[Refusal] = set()
        self._apart: dict[bool, set[Refusal]] = {
            False: set(),
            True: set(),
        }  # of this minute, by whether it has a name
        self._began = clock.monotonic()

    def tell(self, refusal: Refusal) -> None:
        """Count one more."""
        apart = self._apart[bool(refusal.actor)]
        if refusal not in apart and len(apart) >= TOLD_MAX:
            refusal = replace(refusal, actor="", address=MANY)
        apart.add(refusal)
        self._counts[refusal] += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Write what is due until ``stop``; the rest is written by ``close``."""
        while not stop.is_set():
            await self.write()
            try:
                async with asyncio.timeout(_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def close(self) -> None:
        """Write everything that is counted."""
        self._told.clear()
        await self.write()

    async def write(self) -> None:
        """Write what was not told yet in this minute and, at its end, how often each came again."""
        ends = self._clock.monotonic() >= self._began + PERIOD_S
        due = Counter({one: count for one, count in self._counts.items() if ends or one not in self._told})
        if ends:
            self._told, self._began = set(), self._clock.monotonic()
            self._apart = {named: {one for one in due if bool(one.actor) is named} for named in (False, True)}
        if not due:
            return
        self._counts -= due
        self._told |= due.keys()
        try:
            await self._store.write(lambda tx: self._append(tx, due))
        except Fault as fault:
            log.warning("refusals-not-recorded", code=fault.code, waiting=due.total())
            self._counts += due
            self._told -= due.keys()

    def _append(self, tx: Tx, due: Counter[Refusal]) -> None:
        for one, count in due.items():
            append(
                tx,
                AuditRecord(
                    tenant=one.tenant,
                    zone=one.zone,
                    at=self._clock.now(),
                    event=one.event,
                    actor=one.actor or "nobody",
                    outcome=_MINOR,
                    object_type="address",
                    object_id=one.address,
                    detail=" ".join(filter(None, (str(count), one.reason, one.action))),
                    address=one.address,
                ),
            )
