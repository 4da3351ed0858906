"""The audit trail: a million records verified, and what recording one read costs (security §4)."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from security import audit
from security.audit.heads import Sealer
from security.audit.verifying import ROWS_AT_ONCE, verify
from security.clock import to_ms
from security.store.opening import open_store
from security.store.port import GROUND, ReadTx, Store, Tx
from tests.benchmarks.figures import Figure, publish, quantile
from tests.integration.outbox_lab import NOON

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1700)]

RECORDS = 1_000_000
VERIFIED_S_MAX = 30.0  # security §4
TURNS = 5
BATCH = 2_000
COMMITS = 400
BARE = (
    "INSERT INTO bench_plain (seq, tenant, zone, at, event, actor, outcome, object_type, object_id, detail, address,"
    " peer, purpose, patient) SELECT COALESCE(MAX(seq), 0) + 1, :tenant, :zone, :at, :event, :actor, :outcome,"
    " :object_type, :object_id, :detail, :address, :peer, :purpose, :patient FROM bench_plain"
)


def a_read(number: int) -> audit.AuditRecord:
    """What one ITI-43 leaves behind."""
    return audit.AuditRecord(
        tenant="region",
        zone="index",
        at=NOON + timedelta(milliseconds=number),
        event="index.retrieved",
        actor="certificate 0123456789abcdef",
        outcome=0,
        object_type="document",
        object_id=f"1.2.250.1.999.1.1.{number}",
        detail="Success",
        address="192.0.2.17",
        peer="CN=box-17,OU=Imagerie,O=Centre FANTOME,C=FR",
        purpose="TREATMENT",
        patient=f"{number:064x}",
    )


def fill(tx: Tx, *, first: int, many: int) -> None:
    for number in range(first, first + many):
        audit.append(tx, a_read(number))


def plain(tx: Tx, *, first: int, many: int) -> None:
    """The rival: the same columns, and neither canonical form nor leaf."""
    for number in range(first, first + many):
        one = a_read(number)
        named = {name: getattr(one, name) for name in one.__slots__ if name != "at"}
        tx.change(BARE, **named, at=to_ms(one.at))


def bare_read(tx: ReadTx, *, after: int) -> int:
    rows = tx.rows(
        "SELECT * FROM audit_record WHERE seq > :after ORDER BY seq LIMIT :many", after=after, many=ROWS_AT_ONCE
    )
    return int(rows[-1]["seq"]) if rows else 0


async def read_everything(store: Store) -> float:
    """Seconds to read every row and look at none."""
    started, last = time.perf_counter(), 0
    while last := await store.read(partial(bare_read, after=last)):
        pass
    return time.perf_counter() - started


async def test_a_million_records_are_verified(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "trail.db", [GROUND])
    try:
        started = time.perf_counter()
        for first in range(0, RECORDS, 10_000):
            await store.write(partial(fill, first=first, many=10_000))
        filled = time.perf_counter() - started
        sealer = Sealer(store, kek=bytes(range(32)))
        started = time.perf_counter()
        while await sealer.step(NOON + timedelta(days=1), at_once=True):
            pass
        sealed = time.perf_counter() - started
        bare = await read_everything(store)
        started, processor = time.perf_counter(), time.process_time()
        report = await verify(store, witness=None, now=NOON + timedelta(days=1))
        took, processor = time.perf_counter() - started, time.process_time() - processor
    finally:
        await store.close()
    assert report.is_intact
    assert (report.records, report.covered) == (RECORDS, RECORDS)
    publish(
        "audit trail",
        [
            Figure(what="records verified", value=report.records, unit="records"),
            Figure(what="verification", value=took, unit="s", ratios={"reading every row": took / bare}),
            Figure(what="verification, processor", value=processor, unit="s"),
            Figure(what="verified", value=RECORDS / took, unit="records/s"),
            Figure(what="appended, 10,000 a transaction", value=RECORDS / filled, unit="records/s"),
            Figure(what="under signed heads", value=RECORDS / sealed, unit="records/s"),
        ],
        conditions="SQLite, one record an ITI-43 with every field, heads of 10,000 records",
    )
    assert processor <= VERIFIED_S_MAX


async def test_what_recording_one_read_costs(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "trail.db", [GROUND])
    columns = (
        "tenant, zone, at, event, actor, outcome, object_type, object_id, detail, address, peer, purpose, patient"
    )
    await store.write(lambda tx: tx.change(f"CREATE TABLE bench_plain (seq INTEGER PRIMARY KEY, {columns})"))
    ours: list[float] = []
    theirs: list[float] = []
    try:
        for turn in range(TURNS):
            for work, taken in ((fill, ours), (plain, theirs)):
                started = time.process_time()
                await store.write(partial(work, first=turn * BATCH, many=BATCH))
                taken.append((time.process_time() - started) / BATCH * 1e6)
        noted, bare = [], []
        for number in range(COMMITS):
            for work, taken in ((fill, noted), (plain, bare)):
                started = time.perf_counter()
                await store.write(partial(work, first=TURNS * BATCH + number, many=1))
                taken.append((time.perf_counter() - started) * 1e6)
                await asyncio.sleep(0)
    finally:
        await store.close()
    append, rival = quantile(ours, 0.5), quantile(theirs, 0.5)
    commit, rival_commit = quantile(noted, 0.5), quantile(bare, 0.5)
    publish(
        "audit of one read",
        [
            Figure(
                what="one record in a transaction, processor",
                value=append,
                unit="µs",
                ratios={"the same row without leaf": append / rival},
            ),
            Figure(
                what="a record of its own, durable, p50",
                value=commit,
                unit="µs",
                ratios={"the same row without leaf, durable": commit / rival_commit},
            ),
            Figure(what="a record of its own, durable, p95", value=quantile(noted, 0.95), unit="µs"),
        ],
        conditions="SQLite, fsync on, one writer, in turn with the rival",
    )
