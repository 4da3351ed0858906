"""The nightly reconciliation of one tenant: when it is due, and that a fault of it harms nothing else.

It is due once a day, from the configured hour of the tenant's own night on; a gateway that was down then makes up for
it when it starts. Never in shadow mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from gateway.lifecycle import unless
from gateway.settings import TenantSettings
from indexer.reconciliation import rows
from indexer.reconciliation.round import Reconciler, Report
from indexer.reconciliation.rows import Window
from security.clock import Clock
from security.errors import Fault, Unavailable
from security.store.port import Store

log = structlog.get_logger()
EVERY_S = 300.0


def is_due(now: datetime, last: datetime, *, hour: int, zone: ZoneInfo) -> bool:
    """Whether a run must begin: the hour it begins at has come since ``last``, when a run ended or, before the first
    one, when this gateway started."""
    if hour < 0:
        return False
    local = now.astimezone(zone)
    due = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    if due > local:
        due -= timedelta(days=1)
    return last < due


class Nightly:
    """Runs a reconciler by night. ``stopped``: told of a run that stopped before a mass withdrawal; ``beside``: what
    is checked with every run, whatever it found."""

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        tenant: str,
        settings: TenantSettings,
        store: Store,
        clock: Clock,
        stopped: Callable[[], None],
        beside: Callable[[str], Awaitable[None]],
    ) -> None:
        self._reconciler = reconciler
        self._tenant = tenant
        self._settings = settings
        self._store = store
        self._clock = clock
        self._stopped = stopped
        self._beside = beside
        self._began = clock.now()

    async def run(self, stop: asyncio.Event) -> None:
        """Look from time to time until ``stop``; a run that is cut short is taken up by the next start.

        Raises:
            Broken: the store cannot be used any more.
        """
        while not stop.is_set():
            try:
                await unless(stop, self.step())
            except Unavailable as fault:  # the disk is full: look again (F04)
                log.warning("reconciliation-interrupted", tenant=self._tenant, code=fault.code)
            except Fault:
                raise
            except Exception:  # supervision edge: publication does not depend on it
                log.exception("reconciliation-failed", tenant=self._tenant)
            await unless(stop, asyncio.sleep(EVERY_S))

    async def step(self) -> Report | None:
        """Reconcile the last days, and what was not looked at for long, if it is time; None when it is not."""
        asked = self._settings.reconciliation
        if self._settings.mode == "shadow":
            return None
        zone, now = ZoneInfo(self._settings.timezone), self._clock.now()
        last = await self._store.read(lambda tx: rows.last_end(tx, self._tenant))
        if not is_due(now, last or self._began, hour=asked.hour, zone=zone):
            return None
        today = now.astimezone(zone).date()
        found = await self._reconciler.run(
            Window(first=today - timedelta(days=asked.days), last=today),
            unseen_for=timedelta(days=asked.every_days),
        )
        log.info(
            "reconciled", tenant=self._tenant, state=found.state, looked_at=found.looked_at, changed=found.changed
        )
        if found.state == "stopped":
            self._stopped()
        await self._beside(self._tenant)
        return found
