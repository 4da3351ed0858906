"""Exchanges shown to people: masked to whoever may see the exam, in clear to who has the right and is on record.

Invariants:

* the record of a look in the clear commits before its first byte is handed out, and names the exchanges;
* who has no right gets nothing, and the try is on record too.

Who has the right is the caller's to know (``gateway.operations``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.exchanges import rows
from indexer.exchanges.masking import masked
from indexer.exchanges.rows import Listed, Opened
from indexer.ledger import Ledger
from security import audit
from security.store.port import Tx

READ, REFUSED = "exam.exchanges-read", "exam.exchanges-refused"
_ZONE = "ops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """One exchange as anybody may see it who may see the exam. ``cut``: bytes of the answer that are not kept."""

    listed: Listed
    request: str
    answer: str
    cut: int
    withheld: int


def mask(opened: Opened) -> Masked:
    """Its masked texts."""
    listed = opened.listed
    is_cut = opened.cut > 0 or (listed.http_status > 0 and listed.outcome in _CUT)
    return Masked(
        listed=listed,
        request=masked(listed.request_type, opened.request),
        answer=masked(listed.answer_type, opened.answer, is_cut=is_cut),
        cut=opened.cut,
        withheld=opened.withheld,
    )


_CUT = frozenset({"timeout", "connection-lost", "answer-too-large", "cancelled"})


def reveal(
    tx: Tx, ledger: Ledger, tenant: str, study: str, *, actor: str, numbers: Sequence[int] | None, now: datetime
) -> list[Opened]:
    """The exchanges in clear, and the record that ``actor`` read them. To be handed out once this has committed."""
    found = rows.opened(tx, ledger, tenant, study, numbers)
    named = ", ".join(f"{one.listed.number} {one.listed.transaction}" for one in found)
    _record(tx, tenant, study, event=READ, actor=actor, outcome=0, detail=f"exchanges {named or '–'}", now=now)
    return found


def refuse(tx: Tx, tenant: str, study: str, *, actor: str, now: datetime) -> None:
    """Record that somebody without the right asked."""
    _record(tx, tenant, study, event=REFUSED, actor=actor, outcome=4, detail="", now=now)


def _record(
    tx: Tx, tenant: str, study: str, *, event: str, actor: str, outcome: int, detail: str, now: datetime
) -> None:
    record = audit.AuditRecord(
        tenant=tenant,
        zone=_ZONE,
        at=now,
        event=event,
        actor=actor,
        outcome=outcome,
        object_type="study",
        object_id=study,
        detail=detail,
    )
    audit.append(tx, record)
