"""Audit rows: one per state change, in the same transaction, each with the hash it will have as a Merkle leaf.

Invariants:

* the row is written by the transaction that makes the change it describes (I16), or neither exists;
* the leaf is SHA-256 over 0x00 and the canonical JSON of the record (RFC 6962 §2.1), so that a later tree
  proves rows written today;
* no patient value: studies by UID, messages by control id, patients by blind index.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime

from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """Who did what to which object, when, in which tenant and zone, with what outcome.

    ``at``: aware UTC. ``actor``: ``poterne`` for the process itself, else role and subject. ``outcome``: the
    EventOutcomeIndicator of PS3.15 A.5.3 (0 success, 4 minor, 8 serious, 12 major failure).
    """

    tenant: str
    zone: str
    at: datetime
    event: str
    actor: str
    outcome: int
    object_type: str
    object_id: str
    detail: str = ""


def canonical(record: AuditRecord) -> bytes:
    """The bytes that are hashed: JSON, keys sorted, no blanks, UTF-8, ``at`` in milliseconds."""
    fields = asdict(record) | {"at": to_ms(record.at)}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def leaf(record: AuditRecord) -> bytes:
    """RFC 6962 §2.1 leaf hash, 32 bytes."""
    return hashlib.sha256(b"\x00" + canonical(record)).digest()


def append(tx: Tx, record: AuditRecord) -> None:
    """Write the record inside the caller's transaction."""
    fields = asdict(record) | {"at": to_ms(record.at)}
    tx.change(
        "INSERT INTO audit_record (tenant, zone, at, event, actor, outcome, object_type, object_id, detail, leaf)"
        " VALUES (:tenant, :zone, :at, :event, :actor, :outcome, :object_type, :object_id, :detail, :leaf)",
        **fields,
        leaf=leaf(record),
    )


def altered(tx: ReadTx) -> list[int]:
    """Sequence numbers of rows whose content no longer gives their leaf hash, ascending."""
    return [
        row["seq"]
        for row in tx.rows("SELECT * FROM audit_record ORDER BY seq")
        if leaf(
            AuditRecord(**{k: v for k, v in row.items() if k not in {"seq", "leaf", "at"}}, at=from_ms(row["at"]))
        )
        != row["leaf"]
    ]
