"""Breaking the glass (T47): an emergency opens for a few hours what a role does not.

Invariants:

* it needs a code of the list and a reason, and ends by itself, four hours later at the latest;
* opening it is audited under an event of its own and alarmed at once (``alarm``), before it opens anything;
* it opens what the policy says, to the roles it says, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from security.accounts import trail
from security.clock import Clock, from_ms, to_ms
from security.errors import BadInput
from security.store.port import Store, Tx

LONGEST: Final = timedelta(hours=4)
_REASON = range(10, 501)


class Code(StrEnum):
    """Why the glass is broken."""

    PATIENT_WAITING = "patient-waiting"  # care depends on it and nobody else can be reached
    NO_OFFICER = "no-identity-officer"  # nobody of the role can be reached
    OUTAGE = "outage"  # the usual way does not work


@dataclass(frozen=True, slots=True, kw_only=True)
class Glass:
    """One emergency."""

    account: str
    tenant: str
    code: Code
    ends_at: datetime


class BrokenGlass:
    """The emergencies of one store. ``alarm``: tells people at once, of which legal entity and account; when it
    cannot, nothing opens."""

    def __init__(self, *, store: Store, clock: Clock, alarm: Callable[[str, str], None]) -> None:
        self._store = store
        self._clock = clock
        self._alarm = alarm

    async def open(self, account: str, *, tenant: str, code: str, reason: str, hours: float = 1.0) -> Glass:
        """Break the glass for one account at one legal entity.

        Raises:
            BadInput: ``glass-code``, ``glass-reason``, ``glass-hours``.
        """
        if code not in set(Code):
            raise BadInput("no such code", code="glass-code", hint="one of " + ", ".join(Code))
        if len(reason) not in _REASON or not reason.isprintable():
            raise BadInput("the reason is no line of 10 to 500 characters", code="glass-reason", hint="say why")
        lasts = timedelta(hours=hours)
        if not timedelta() < lasts <= LONGEST:
            raise BadInput("an emergency lasts at most four hours", code="glass-hours", hint="more than 0, at most 4")
        now = self._clock.now()

        def work(tx: Tx) -> None:
            tx.change(
                "INSERT INTO account_glass (account, tenant, code, reason, opened_at, ends_at)"
                " VALUES (:account, :tenant, :code, :reason, :now, :ends)",
                account=account,
                tenant=tenant,
                code=code,
                reason=reason,
                now=to_ms(now),
                ends=to_ms(now + lasts),
            )
            trail.note(
                tx,
                "break-glass.opened",
                actor=f"account:{account}",
                about=account,
                now=now,
                tenant=tenant,
                detail=f"{code}: {reason}",
            )
            self._alarm(tenant, account)

        await self._store.write(work)
        return Glass(account=account, tenant=tenant, code=Code(code), ends_at=now + lasts)

    async def holding(self, account: str, tenant: str) -> Glass | None:
        """The emergency that is open now."""
        row = await self._store.read(
            lambda tx: tx.row(
                "SELECT * FROM account_glass WHERE account = :account AND tenant = :tenant AND ends_at > :now"
                " ORDER BY ends_at DESC LIMIT 1",
                account=account,
                tenant=tenant,
                now=to_ms(self._clock.now()),
            )
        )
        if row is None:
            return None
        return Glass(account=account, tenant=tenant, code=Code(row["code"]), ends_at=from_ms(row["ends_at"]))
