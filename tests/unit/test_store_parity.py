"""Both engines hold the same tables: after migrating, columns, nullability, keys and unique indexes are compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from gateway.components import COMPONENTS
from indexer.registry.node import REGISTRY
from security.store.opening import StorePlace, open_store
from security.store.place import PostgresPlace
from security.store.port import ReadTx

PARTS = (*COMPONENTS, REGISTRY)
ENGINE_TABLES = {"store_writer"}  # how PostgreSQL's only writer knows itself; a file has a lock instead
TYPES = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea", "REAL": "double precision"}


@dataclass(frozen=True)
class Table:
    columns: dict[str, tuple[str, bool]]  # type, may be null
    primary: tuple[str, ...]
    unique: frozenset[tuple[tuple[str, ...], bool]]  # columns, partial
    indexes: frozenset[str]
    references: frozenset[tuple[str, tuple[str, ...]]]


def of_sqlite(tx: ReadTx) -> dict[str, Table]:
    return {row["name"]: _sqlite_table(tx, row["name"]) for row in tx.rows(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )}  # fmt: skip


def _sqlite_table(tx: ReadTx, name: str) -> Table:
    columns = tx.rows("SELECT * FROM pragma_table_info(:name)", name=name)
    key = tuple(c["name"] for c in sorted((c for c in columns if c["pk"]), key=lambda c: c["pk"]))
    indexes = tx.rows("SELECT * FROM pragma_index_list(:name)", name=name)
    references: dict[int, tuple[str, list[str]]] = {}
    for row in tx.rows("SELECT * FROM pragma_foreign_key_list(:name) ORDER BY id, seq", name=name):
        references.setdefault(row["id"], (row["table"], []))[1].append(row["from"])
    return Table(
        columns={c["name"]: (TYPES[c["type"]], not (c["notnull"] or c["pk"])) for c in columns},
        primary=key,
        unique=frozenset(
            (tuple(r["name"] for r in tx.rows("SELECT * FROM pragma_index_info(:i) ORDER BY seqno", i=i["name"])), bool(i["partial"]))
            for i in indexes if i["unique"] and i["origin"] != "pk"
        ),
        indexes=frozenset(i["name"] for i in indexes if i["origin"] == "c"),
        references=frozenset((table, tuple(names)) for table, names in references.values()),
    )  # fmt: skip


def of_postgres(tx: ReadTx) -> dict[str, Table]:
    names = tx.rows("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()")
    return {row["name"]: _postgres_table(tx, row["name"]) for row in names}


def _postgres_table(tx: ReadTx, name: str) -> Table:
    columns = tx.rows(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = :name ORDER BY ordinal_position",
        name=name,
    )
    indexes = tx.rows(
        "SELECT c.relname::text AS name, i.indisprimary AS is_key, i.indisunique AS is_unique,"
        " i.indpred IS NOT NULL AS partial, (SELECT string_agg(a.attname::text, ',' ORDER BY k.n)"
        " FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) JOIN pg_attribute AS a"
        " ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns,"
        " EXISTS (SELECT 1 FROM pg_constraint AS x WHERE x.conindid = c.oid AND x.contype IN ('p', 'u')) AS is_constraint"
        " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(:name)",
        name=name,
    )
    references = tx.rows(
        "SELECT f.relname::text AS other, (SELECT string_agg(a.attname::text, ',' ORDER BY k.n)"
        " FROM unnest(x.conkey) WITH ORDINALITY AS k(attnum, n) JOIN pg_attribute AS a"
        " ON a.attrelid = x.conrelid AND a.attnum = k.attnum) AS columns"
        " FROM pg_constraint AS x JOIN pg_class AS f ON f.oid = x.confrelid"
        " WHERE x.contype = 'f' AND x.conrelid = to_regclass(:name)",
        name=name,
    )
    return Table(
        columns={c["column_name"]: (c["data_type"], c["is_nullable"] == "YES") for c in columns},
        primary=next((tuple(i["columns"].split(",")) for i in indexes if i["is_key"]), ()),
        unique=frozenset(
            (tuple(i["columns"].split(",")), bool(i["partial"]))
            for i in indexes
            if i["is_unique"] and not i["is_key"]
        ),
        indexes=frozenset(i["name"] for i in indexes if not i["is_constraint"]),
        references=frozenset((r["other"], tuple(r["columns"].split(","))) for r in references),
    )


async def _tables(place: StorePlace) -> dict[str, Table]:
    store = await open_store(place, PARTS)
    try:
        return await store.read(of_sqlite if isinstance(place, Path) else of_postgres)
    finally:
        await store.close()


@pytest.mark.postgres
async def test_both_engines_hold_the_same_tables(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    ours, theirs = await _tables(tmp_path / "store.sqlite"), await _tables(postgres_place)
    assert set(ours) == set(theirs) - ENGINE_TABLES
    for name, table in ours.items():
        assert theirs[name] == table, name


def test_every_migration_has_its_twin() -> None:
    root = Path(__file__).resolve().parents[2]
    for folder in ("security/store", "indexer", "indexer/registry", "gateway"):
        here = {
            engine: {f.name for f in (root / folder / "migrations" / engine).glob("*.sql")}
            for engine in ("sqlite", "postgres")
        }
        assert here["sqlite"] == here["postgres"], folder


def test_f21_an_index_of_before_keeps_its_objects_and_takes_versions() -> None:
    folder = Path(__file__).resolve().parents[2] / "indexer/registry/migrations/sqlite"
    database = apsw.Connection(":memory:")
    database.execute((folder / "0001_registry.sql").read_text())
    insert = (
        "INSERT INTO registry_object (tenant, patient_key, entry_uuid, kind, unique_id, logical_id, version, status,"
        " object_type, hash, size, submitted_at, content) VALUES ('t', x'01', ?, 'entry', '2.25.1', 'urn:uuid:a', ?,"
        " 'approved', 'o', 'h', 7, 9, x'02')"
    )
    database.execute(insert, ("urn:uuid:a", 1))
    before = database.execute("SELECT * FROM registry_object").fetchall()
    database.execute((folder / "0002_versions.sql").read_text())
    assert database.execute("SELECT * FROM registry_object").fetchall() == before
    database.execute(insert, ("urn:uuid:b", 2))
    with pytest.raises(apsw.ConstraintError):
        database.execute(insert, ("urn:uuid:c", 2))
    database.close()
