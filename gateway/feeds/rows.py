"""How far each audit repository has the trail: one row per feed, moved by the transaction that ends a batch.

Invariants:

* ``delivered`` moves when the repository has taken the batch, never before, and never back;
* a batch is a range of record numbers, fixed before the first byte leaves: what is sent again is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from security.audit import AuditRecord, record_of_row
from security.audit.heads import Head, between
from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """``delivered``, ``sending``: numbers of records; ``head``, ``sending_head``: sizes of signed heads."""

    delivered: int = 0
    sending: int = 0
    head: int = 0
    sending_head: int = 0

    @property
    def is_sending(self) -> bool:
        """Whether a batch is fixed that the repository has not acknowledged."""
        return (self.sending, self.sending_head) != (self.delivered, self.head)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a repository lacks. ``records``: how many; ``oldest_s``: age of the first, 0 for none; ``heads``."""

    records: int
    oldest_s: float
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is sent at once: records with their numbers, then the heads that end among them."""

    records: tuple[tuple[int, AuditRecord], ...]
    heads: tuple[Head, ...]


def cursor(tx: ReadTx, name: str) -> Cursor:
    """Where a feed stands; at the beginning of the trail when it never sent."""
    row = tx.row("SELECT * FROM audit_feed WHERE name = :name", name=name)
    if row is None:
        return Cursor()
    return Cursor(
        delivered=row["delivered"], sending=row["sending"], head=row["head"], sending_head=row["sending_head"]
    )


def waiting(tx: ReadTx, name: str, *, now: datetime) -> Waiting:
    """What the repository of a feed lacks."""
    at = cursor(tx, name)
    first = tx.row(
        "SELECT seq, at FROM audit_record WHERE seq > :after AND is_erased = 0 ORDER BY seq LIMIT 1",
        after=at.delivered,
    )
    last = tx.row("SELECT MAX(seq) AS seq FROM audit_record")
    unsaid = tx.row("SELECT COUNT(*) AS n FROM audit_head WHERE size > :head", head=at.head)
    if first is None or last is None:
        return Waiting(records=0, oldest_s=0.0, heads=unsaid["n"] if unsaid else 0)
    age = now - from_ms(first["at"])
    return Waiting(
        records=last["seq"] - first["seq"] + 1,
        oldest_s=max(age / timedelta(seconds=1), 0.0),
        heads=unsaid["n"] if unsaid else 0,
    )


def fix(tx: Tx, name: str, *, most: int) -> bool:
    """Fix the next batch, the one in hand when there is one; whether there is anything to send."""
    at = cursor(tx, name)
    if at.is_sending:
        return True
    last = tx.rows(
        "SELECT seq FROM audit_record WHERE seq > :after ORDER BY seq LIMIT :most", after=at.delivered, most=most
    )
    until = last[-1]["seq"] if last else at.delivered
    ends = tx.row("SELECT size FROM audit_head WHERE last_seq <= :until ORDER BY size DESC LIMIT 1", until=until)
    head = max(ends["size"], at.head) if ends else at.head
    if (until, head) == (at.delivered, at.head):
        return False
    tx.change(
        "INSERT INTO audit_feed (name, sending, sending_head) VALUES (:name, :until, :head)"
        " ON CONFLICT (name) DO UPDATE SET sending = excluded.sending, sending_head = excluded.sending_head",
        name=name,
        until=until,
        head=head,
    )
    return True


def batch(tx: ReadTx, name: str) -> Batch:
    """The batch in hand. What was erased at the end of its retention is not told any more."""
    at = cursor(tx, name)
    found = tx.rows(
        "SELECT * FROM audit_record WHERE seq > :after AND seq <= :until AND is_erased = 0 ORDER BY seq",
        after=at.delivered,
        until=at.sending,
    )
    return Batch(
        records=tuple((row["seq"], record_of_row(row)) for row in found),
        heads=tuple(between(tx, at.head, at.sending_head)),
    )


def acknowledge(tx: Tx, name: str, *, now: datetime) -> None:
    """The repository has the batch in hand."""
    tx.change(
        "UPDATE audit_feed SET delivered = sending, head = sending_head, delivered_at = :now WHERE name = :name",
        name=name,
        now=to_ms(now),
    )
