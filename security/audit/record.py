"""Audit records: one per state change, in the same transaction, and one per read, before its first byte leaves; each
with the hash it has as a Merkle leaf.

Invariants:

* the row is written by the transaction that makes the change it describes (I16), or neither exists; a read that
  cannot be recorded is not answered;
* rows are numbered 1, 2, 3… without a gap, also on an engine whose own counters leave some;
* the leaf is SHA-256 over 0x00 and the canonical JSON of the record (RFC 6962 §2.1), so that the tree proves rows
  written before it was there. A field that came later is no part of it while it is empty;
* no patient value: studies by UID, messages by control id, patients by blind index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from security.clock import from_ms, to_ms
from security.store.port import Row, Store, Tx

ERASED = "audit.erased"
"""The event of a record that says which numbers, ``first-last``, had their content erased: their retention ended."""
RESTORED = "store.restored"
"""The event of a record that says that the database was set back on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """Who did what to which object, when, in which tenant and zone, with what outcome.

    ``at``: aware UTC. ``actor``: ``poterne`` for the process itself, else role and subject. ``outcome``: the
    EventOutcomeIndicator of PS3.15 A.5.3 (0 success, 4 minor, 8 serious, 12 major failure). ``address``: from which
    network address; ``peer``: the distinguished name of its certificate; ``purpose``: purpose of use, as its code;
    ``patient``: blind index of the patient, in hexadecimal. "" where there is none.
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
    address: str = ""
    peer: str = ""
    purpose: str = ""
    patient: str = ""


_ALWAYS = ("tenant", "zone", "event", "actor", "outcome", "object_type", "object_id", "detail")
_LATER = ("address", "peer", "purpose", "patient")
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _fields(record: AuditRecord) -> dict[str, Any]:
    said = {name: getattr(record, name) for name in (*_ALWAYS, *_LATER)}
    return said | {"at": to_ms(record.at)}


def _canonical(fields: Mapping[str, Any]) -> bytes:
    said = {name: fields[name] for name in _ALWAYS} | {"at": fields["at"]}
    said |= {name: fields[name] for name in _LATER if fields[name]}
    return _JSON.encode(said).encode()


def canonical(record: AuditRecord) -> bytes:
    """The bytes that are hashed: JSON, keys sorted, no blanks, UTF-8, ``at`` in milliseconds."""
    return _canonical(_fields(record))


def leaf(record: AuditRecord) -> bytes:
    """RFC 6962 §2.1 leaf hash, 32 bytes."""
    return hashlib.sha256(b"\x00" + canonical(record)).digest()


def leaf_of_row(row: Row) -> bytes:
    """The leaf hash that the content of a row gives."""
    return hashlib.sha256(b"\x00" + _canonical(row)).digest()


def record_of_row(row: Row) -> AuditRecord:
    """The record that a row holds."""
    return AuditRecord(at=from_ms(row["at"]), **{name: row[name] for name in (*_ALWAYS, *_LATER)})


def append(tx: Tx, record: AuditRecord) -> None:
    """Write the record inside the caller's transaction."""
    fields = _fields(record)
    tx.change(
        "INSERT INTO audit_record (seq, tenant, zone, at, event, actor, outcome, object_type, object_id, detail,"
        " address, peer, purpose, patient, leaf)"
        " SELECT COALESCE(MAX(seq), 0) + 1, :tenant, :zone, :at, :event, :actor, :outcome, :object_type, :object_id,"
        " :detail, :address, :peer, :purpose, :patient, :leaf FROM audit_record",
        **fields,
        leaf=hashlib.sha256(b"\x00" + _canonical(fields)).digest(),
    )


async def note(store: Store, record: AuditRecord) -> None:
    """Write a record that no other change goes with: a read, a refusal. Durable when this returns.

    Raises:
        Fault: as ``Store.write`` does; what was to be recorded must then not happen.
    """
    await store.write(lambda tx: append(tx, record))
