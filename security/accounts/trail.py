"""The audit record of everything that happens to accounts and sessions: in the transaction that does it (I16)."""

from __future__ import annotations

from datetime import datetime

from security import audit
from security.store.port import Tx

ZONE = "ops"
SUCCESS, MINOR = 0, 4


def note(
    tx: Tx,
    event: str,
    *,
    actor: str,
    about: str,
    now: datetime,
    tenant: str = "",
    detail: str = "",
    outcome: int = SUCCESS,
    kind: str = "account",
    zone: str = ZONE,
) -> None:
    """``about``: the account, or the address of a try (``kind``)."""
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=tenant,
            zone=zone,
            at=now,
            event=event,
            actor=actor,
            outcome=outcome,
            object_type=kind,
            object_id=about,
            detail=detail,
        ),
    )
