"""Who saw what, who did what: questions to the trail, and the end of a record's retention.

Invariants:

* a question to the trail is itself recorded, before its answer is given;
* answers come by number, bounded, with the number from which to go on;
* erasing takes the content of a record and leaves its leaf: the tree stays true, and a record says which numbers it
  was done to.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from security.audit.record import ERASED, AuditRecord, append, record_of_row
from security.clock import to_ms
from security.errors import Refused
from security.store.port import ReadTx, Tx

ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. ``since``, ``until``: aware UTC, the second excluded; the rest "" for any; ``event`` ends with
    ``*`` for a beginning; ``after``: the number after which to go on; ``rows``: how many at most."""

    since: datetime
    until: datetime
    tenant: str = ""
    event: str = ""
    actor: str = ""
    object_id: str = ""
    patient: str = ""
    after: int = 0
    rows: int = 1_000

    def words(self) -> str:
        """The question in one line, for its own record."""
        asked = {
            "between": f"{self.since:%Y-%m-%dT%H:%M:%SZ}/{self.until:%Y-%m-%dT%H:%M:%SZ}",
            "tenant": self.tenant,
            "event": self.event,
            "actor": self.actor,
            "object": self.object_id,
            "patient": self.patient,
        }
        return ", ".join(f"{name} {value}" for name, value in asked.items() if value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record of the answer; ``record``: None when its content was erased."""

    seq: int
    record: AuditRecord | None
    leaf: bytes


def ask(tx: ReadTx, question: Question) -> list[Entry]:
    """The records that answer, by number."""
    wanted: dict[str, Any] = {
        "after": question.after,
        "since": to_ms(question.since),
        "until": to_ms(question.until),
        "many": min(question.rows, ROWS_MAX),
    }
    where = ["seq > :after", "at >= :since", "at < :until"]
    if question.event.endswith("*"):
        where.append("substr(event, 1, :length) = :event")
        wanted |= {"event": question.event[:-1], "length": len(question.event) - 1}
    elif question.event:
        where.append("event = :event")
        wanted["event"] = question.event
    for name in ("tenant", "actor", "object_id", "patient"):
        if value := getattr(question, name):
            where.append(f"{name} = :{name}")
            wanted[name] = value
    condition = " AND ".join(where)  # our own words alone; every value is a parameter
    found = tx.rows(f"SELECT * FROM audit_record WHERE {condition} ORDER BY seq LIMIT :many", **wanted)  # noqa: S608
    return [
        Entry(seq=row["seq"], record=None if row["is_erased"] else record_of_row(row), leaf=row["leaf"])
        for row in found
    ]


def note_question(tx: Tx, question: Question, *, actor: str, now: datetime) -> None:
    """Record that somebody reads the trail."""
    append(
        tx,
        AuditRecord(
            tenant=question.tenant,
            zone="ops",
            at=now,
            event="audit.read",
            actor=actor,
            outcome=0,
            object_type="audit",
            object_id="trail",
            detail=question.words(),
        ),
    )


def erase(tx: Tx, *, before: datetime, newest_kept: int, actor: str, now: datetime) -> int:
    """Erase the content of records older than ``before`` that are under a head; how many. ``newest_kept``: the number
    of the last record under a head.

    Raises:
        Refused: ``retention-future``.
    """
    if before > now:
        raise Refused("the retention ends in the future", code="retention-future", hint="give a past moment")
    rows = tx.rows(
        "SELECT MIN(seq) AS first, MAX(seq) AS last, COUNT(*) AS many FROM audit_record"
        " WHERE at < :before AND seq <= :newest AND is_erased = 0 AND event <> :erased",
        before=to_ms(before),
        newest=newest_kept,
        erased=ERASED,
    )
    if not rows[0]["many"]:
        return 0
    done = tx.change(
        "UPDATE audit_record SET is_erased = 1, actor = '', object_id = '', detail = '', address = '', peer = '',"
        " purpose = '', patient = ''"
        " WHERE at < :before AND seq <= :newest AND is_erased = 0 AND event <> :erased",
        before=to_ms(before),
        newest=newest_kept,
        erased=ERASED,
    )
    append(
        tx,
        AuditRecord(
            tenant="",
            zone="ops",
            at=now,
            event=ERASED,
            actor=actor,
            outcome=0,
            object_type="audit-records",
            object_id=f"{rows[0]['first']}-{rows[0]['last']}",
            detail=f"{done} records from before {before:%Y-%m-%d}",
        ),
    )
    return done
