"""Restore drills: a backup put back beside the running gateway, and how long that took (reliability §1).

Invariants:

* nothing is sent: no gateway is started on the copy, which is gone when the drill ends;
* what is measured is kept, per tenant, and stands beside what the tenant declared: ``rto_s`` from the file to a
  database that took its first write, checked whole; ``rpo_s`` the age of the oldest work that the file lacks;
* a copy with an altered audit record, or that opens with another key only, is no success and leaves no figure.

Left to others: the start of the process and the way to a spare machine, which come on top of ``rto_s``.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.components import COMPONENTS
from gateway.continuity import archive, commands, copies
from gateway.settings import Settings
from gateway.stores import store_place
from indexer.reconciliation import rows
from security.audit.verifying import Kind, verify
from security.clock import SystemClock, from_ms, to_ms
from security.errors import Broken
from security.seal import Vault
from security.secrets import read_kek, read_previous_kek
from security.store.opening import open_store
from security.store.port import ReadTx, Tx

RESTORE: Final = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """One backup that came up beside the gateway. ``records``: audit records, each of which gives its leaf hash."""

    rto_s: float
    made_at: str
    last_audit_no: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What the last drill of a tenant measured."""

    tenant: str
    at: datetime
    rto_s: float
    rpo_s: float


def rehearse(settings: Settings, file: Path) -> Rehearsed:
    """Restore the backup into a folder beside the database, open it, check it and write to it.

    Raises:
        BadInput, Refused, Broken: as ``commands.restore``; ``drill-audit`` audit records of it were altered.
    """
    database = store_place(settings.gateway_store())
    beside = database.parent if isinstance(database, Path) else settings.gateway_store().kek_file.parent
    with tempfile.TemporaryDirectory(dir=beside, prefix=".drill-") as folder:
        store = settings.gateway_store().model_copy(update={"path": Path(folder) / "gateway.db", "postgres": None})
        there = settings.model_copy(update={"store": store})
        began = time.monotonic()
        done = commands.restore(there, file, replace=False)
        records = asyncio.run(_opened(there, done.database))
        took = time.monotonic() - began
        last = archive.read(file, kek=read_kek(store.kek_file)).last_audit_no
    return Rehearsed(rto_s=took, made_at=done.made_at, last_audit_no=last, records=records)


async def _opened(settings: Settings, database: Path) -> int:
    """How many audit records the copy holds, once it has taken a write."""
    clock = SystemClock()
    store = await open_store(database, COMPONENTS)
    try:
        file = settings.gateway_store().kek_file
        await Vault.load(store, read_kek(file), settings.tenants, clock, previous=read_previous_kek(file))
        checked = await verify(store, witness=None, now=clock.now())
        altered = [one for one in checked.findings if one.kind is not Kind.UNSEALED]  # nobody makes heads for a copy
        if altered:
            raise Broken(
                f"the audit trail of the copy was altered, first at records {altered[0].first} to {altered[0].last}",
                code="drill-audit",
                hint="keep this backup for the security officer and use another one",
            )
        await store.write(lambda tx: rows.mark_restored(tx, now=clock.now()))
        return await store.read(lambda tx: int(tx.rows("SELECT COUNT(*) AS n FROM audit_record")[0]["n"]))
    finally:
        await store.close()


def keep(
    tx: Tx, declared: Mapping[str, tuple[float, float]], *, rto_s: float, last_audit_no: int, now: datetime
) -> tuple[Drill, ...]:
    """Note what a drill measured, for every tenant."""
    made = tuple(
        Drill(tenant=tenant, at=now, rto_s=rto_s, rpo_s=copies.exposed(tx, tenant, last_audit_no, now))
        for tenant in declared
    )
    for one in made:
        tx.change(
            "INSERT INTO drill (tenant, kind, at, rto_ms, rpo_ms) VALUES (:tenant, :kind, :at, :rto_ms, :rpo_ms)"
            " ON CONFLICT (tenant, kind) DO UPDATE SET at = excluded.at, rto_ms = excluded.rto_ms,"
            " rpo_ms = excluded.rpo_ms",
            tenant=one.tenant,
            kind=RESTORE,
            at=to_ms(one.at),
            rto_ms=round(one.rto_s * 1000),
            rpo_ms=round(one.rpo_s * 1000),
        )
    return made


def last(tx: ReadTx) -> Mapping[str, Drill]:
    """The last drill by tenant."""
    found = tx.rows("SELECT * FROM drill WHERE kind = :kind", kind=RESTORE)
    return {
        row["tenant"]: Drill(
            tenant=row["tenant"],
            at=from_ms(row["at"]),
            rto_s=row["rto_ms"] / 1000,
            rpo_s=row["rpo_ms"] / 1000,
        )
        for row in found
    }
