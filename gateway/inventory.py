"""What the gateway checks of its own with every reconciliation: the files of received objects against their rows, the
audit trail against its heads (reliability §6 c, d).

Invariants:

* what cannot be checked is said so and needs a person; it never passes as checked;
* nothing is deleted: a file without a row is given one or put aside, a row without a file stays and is named;
* the trail of one database serves all its tenants: runs that follow one another share one verification.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from gateway.dimse.storage import Checked, Storage
from gateway.trail import TrailKeeper
from security.audit import verifying
from security.clock import Clock
from security.errors import BadInput, Broken, Fault, Refused, Unavailable

log = structlog.get_logger()
ACTOR = "reconciliation"
SHARED_S = 3600.0
"""How old a verification may be that another tenant's nightly run made."""
_SPOOL_FAULTS = frozenset({"spool-broken", "spool-place"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What was found. ``received``: None where no objects are received, or where they could not be checked;
    ``trail``: None where it could not be checked; ``unchecked``: code of each fault, by what it concerns."""

    received: Checked | None
    trail: verifying.Report | None
    unchecked: Mapping[str, str]

    @property
    def changed(self) -> int:
        """Files that stand otherwise than before."""
        return self.received.changed if self.received else 0

    def facts(self) -> dict[str, Any]:
        """As JSON; of the trail no row, only where it was altered."""
        return {
            "received": asdict(self.received) if self.received else None,
            "trail": asdict(self.trail) | {"is_intact": self.trail.is_intact} if self.trail else None,
            "unchecked": dict(self.unchecked),
        }


class Inventory:
    """Takes stock of one gateway. ``storages``: by tenant, those whose doors are open."""

    def __init__(self, trail: TrailKeeper, storages: Mapping[str, Storage], clock: Clock) -> None:
        self._trail = trail
        self._storages = storages
        self._clock = clock
        self._verifying = asyncio.Lock()
        self._last: tuple[float, verifying.Report] | None = None

    async def take(self, tenant: str, *, may_share: bool = False) -> Stock:
        """Check what is the tenant's, and the trail. ``may_share``: a verification of the last hour will do.

        Raises:
            Broken: the store cannot be used any more.
        """
        unchecked: dict[str, str] = {}
        received = trail = None
        if storage := self._storages.get(tenant):
            try:
                received = await storage.check()
            except (Unavailable, Broken) as fault:
                if isinstance(fault, Broken) and fault.code not in _SPOOL_FAULTS:
                    raise
                self._note(unchecked, "received", fault)
        try:
            trail = await self._verified(may_share=may_share)
        except (BadInput, Refused, Unavailable) as fault:
            self._note(unchecked, "trail", fault)
        return Stock(received=received, trail=trail, unchecked=unchecked)

    async def nightly(self, tenant: str) -> None:
        """As ``take``, into the log: what asks for a person alarms by itself."""
        found = await self.take(tenant, may_share=True)
        log.info(
            "stock-taken",
            tenant=tenant,
            changed=found.changed,
            lost=len(found.received.lost) if found.received else 0,
            trail_intact=found.trail.is_intact if found.trail else None,
        )

    async def _verified(self, *, may_share: bool) -> verifying.Report:
        async with self._verifying:
            now = self._clock.monotonic()
            if may_share and self._last and now - self._last[0] < SHARED_S:
                return self._last[1]
            found = await self._trail.verify(actor=ACTOR)
            self._last = (now, found)
            return found

    @staticmethod
    def _note(unchecked: dict[str, str], what: str, fault: Fault) -> None:
        log.warning("stock-not-taken", of=what, code=fault.code, hint=fault.hint)
        unchecked[what] = fault.code
