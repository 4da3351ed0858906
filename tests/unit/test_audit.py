"""Audit rows and their leaf hashes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from security.audit import AuditRecord, append, canonical, leaf
from security.audit.verifying import Kind, verify
from security.errors import Refused
from security.store.port import GROUND, Tx
from security.store.sqlite import SqliteStore

RECORD = AuditRecord(
    tenant="chu-nord",
    zone="outbox",
    at=datetime(2026, 11, 22, 5, 30, 0, 123000, tzinfo=UTC),
    event="job.published",
    actor="poterne",
    outcome=0,
    object_type="study",
    object_id="1.2.250.1.213.9",
    detail="vérifié",
)
CANONICAL = (
    '{"actor":"poterne","at":1795325400123,"detail":"vérifié","event":"job.published","object_id":"1.2.250.1.213.9",'
    '"object_type":"study","outcome":0,"tenant":"chu-nord","zone":"outbox"}'
)
LEAF = "ac301d026867b6be20c55b46eafd09bd57258d50531c5850b744136bea061074"


def test_the_canonical_form_is_sorted_json_without_blanks_in_utf_8() -> None:
    assert canonical(RECORD) == CANONICAL.encode()


def test_the_leaf_is_the_rfc_6962_hash_of_the_canonical_form() -> None:
    assert leaf(RECORD).hex() == LEAF
    assert hashlib.sha256(b"\x00" + CANONICAL.encode()).hexdigest() == LEAF


async def test_rows_as_written_are_unaltered_and_keep_their_order(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
    for detail in ("first", "second", ""):
        await store.write(lambda tx, d=detail: append(tx, replace(RECORD, detail=d)))
    rows = await store.read(lambda tx: tx.rows("SELECT seq, detail, at FROM audit_record ORDER BY seq"))
    assert [tuple(row.values()) for row in rows] == [
        (1, "first", 1795325400123),
        (2, "second", 1795325400123),
        (3, "", 1795325400123),
    ]
    assert (await verify(store, witness=None, now=RECORD.at)).findings == ()
    await store.close()


@pytest.mark.parametrize(
    "edit",
    [
        "detail = 'forged'",
        "outcome = 4",
        "at = at + 1",
        "tenant = 'clinique-sud'",
        "actor = 'operator:x'",
        "leaf = zeroblob(32)",
    ],
)
async def test_an_edited_row_is_found(tmp_path: Path, edit: str) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
    for number in range(3):
        await store.write(lambda tx, n=number: append(tx, replace(RECORD, detail=f"row {n}")))
    assert await store.write(lambda tx: tx.change(f"UPDATE audit_record SET {edit} WHERE seq = 2")) == 1
    found = (await verify(store, witness=None, now=RECORD.at)).findings
    assert [(one.kind, one.first, one.last) for one in found] == [(Kind.EDITED, 2, 2)]
    await store.close()


def test_a_later_field_is_part_of_the_leaf_when_it_says_something() -> None:
    said = replace(RECORD, address="192.0.2.7", purpose="TREAT")
    assert (
        canonical(said)
        == CANONICAL.replace('"actor":"poterne",', '"actor":"poterne","address":"192.0.2.7",')
        .replace('"tenant"', '"purpose":"TREAT","tenant"')
        .encode()
    )


async def test_i16_the_row_goes_with_the_change_it_describes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])

    def work(tx: Tx) -> None:
        append(tx, RECORD)
        raise Refused("not now", code="not-now")

    with pytest.raises(Refused):
        await store.write(work)
    assert await store.read(lambda tx: tx.rows("SELECT seq FROM audit_record")) == []
    await store.close()
