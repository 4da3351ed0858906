"""``poterne backup`` and ``poterne restore``: from the running gateway's database to a file, and back.

Invariants:

* a backup counts only once the written file was read back and checked whole; then the gateway notes it, and its
  exposure begins anew;
* a restore checks everything before it touches anything, keeps what it replaces beside it, and notes in the restored
  database that the index may know more: until that is searched, nothing is published beside an entry of ours.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.components import COMPONENTS
from gateway.continuity import archive
from gateway.facts import operator
from gateway.settings import Settings
from gateway.stores import store_place
from indexer.reconciliation import rows
from security import audit
from security.audit.record import RESTORED
from security.errors import Refused
from security.secrets import read_kek
from security.store import copy, place
from security.store.opening import open_store
from security.store.port import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One backup that was written and checked."""

    file: Path
    digest: str
    bytes: int
    last_audit_no: int
    has_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """One database put back. ``made_at``: of the backup; ``kept``: where the one that was there went, None for none.
    ``configuration``: where the configuration of the backup was put to look at."""

    made_at: str
    database: Path
    kept: Path | None
    configuration: Path


def back_up(settings: Settings, conf: Path | None, target: Path, *, with_key: bool) -> Made:
    """A consistent copy of the database and the configuration, written to ``target`` and read back.

    Raises:
        Refused: ``backup-postgres``, ``backup-exists``, ``no-database``.
        Broken: ``store-copy``, ``store-damaged``, ``backup-write``.
    """
    database, kek_file = require_place(settings, target), settings.gateway_store().kek_file
    kek = read_kek(kek_file)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
        copied = Path(folder) / archive.DATABASE
        copy.copy(database, copied)
        copy.verify(copied)
        last = copy.newest_audit_no(copied)
        files = {archive.DATABASE: copied, **_configuration(conf)}
        if with_key:
            files[archive.KEK] = kek_file
        digest = archive.write(target, files, kek=kek, made_at=datetime.now(UTC), last_audit_no=last)
    archive.read(target, kek=kek)
    return Made(file=target, digest=digest, bytes=target.stat().st_size, last_audit_no=last, has_key=with_key)


def require_place(settings: Settings, target: Path) -> Path:
    """The database that a backup to ``target`` would copy.

    Raises:
        Refused: ``backup-postgres``, ``backup-exists``, ``no-database``.
    """
    database = _database(settings)
    if target.exists():
        raise Refused(f"{target} exists", code="backup-exists", hint="name a new file: no backup is overwritten")
    if not database.exists():
        raise Refused(f"there is no database at {database}", code="no-database", hint="start the gateway once")
    return database


def restore(settings: Settings, source: Path, *, replace: bool) -> Restored:
    """Put the database of a backup where the configuration says.

    Raises:
        BadInput: as ``archive.read``.
        Refused: ``backup-postgres``; ``restore-occupied`` there is a database and ``replace`` was not said.
        Broken: ``store-damaged``, ``store-locked`` a gateway runs on it; ``store-newer``.
    """
    database, store = _database(settings), settings.gateway_store()
    if database.exists() and not replace:
        raise Refused(
            f"there is a database at {database}",
            code="restore-occupied",
            hint="to put the backup in its place add --replace: the database that is there is kept beside it",
        )
    kek = read_kek(store.kek_file)
    with tempfile.TemporaryDirectory(dir=database.parent, prefix=".restore-") as folder:
        inside = Path(folder)
        head = archive.read(source, kek=kek, into=inside)
        ready = inside / archive.DATABASE
        copy.verify(ready)
        asyncio.run(_prepare(ready))
        kept = _put(ready, database)
        looked_at = database.with_name(f"restored-configuration-{datetime.now(UTC):%Y%m%d%H%M%S}")
        looked_at.mkdir(mode=0o700)
        for name in head.members:
            if name not in {archive.DATABASE, archive.KEK}:
                (looked_at / name).parent.mkdir(mode=0o700, exist_ok=True)
                shutil.move(inside / name, looked_at / name)
    return Restored(made_at=head.made_at, database=database, kept=kept, configuration=looked_at)


async def mark_restored(settings: Settings) -> None:
    """Note in the database that it was restored, by whatever tool: nothing is published before the index is searched.

    Raises:
        Broken: ``store-locked`` a gateway runs on it.
    """
    store = await open_store(store_place(settings.gateway_store()), COMPONENTS)
    try:
        now = datetime.now(UTC)
        await store.write(lambda tx: _mark(tx, now))
    finally:
        await store.close()


async def _prepare(database: Path) -> None:
    """Migrate the copy to this version and mark it, before it takes its place."""
    store = await open_store(database, COMPONENTS)
    try:
        now = datetime.now(UTC)
        await store.write(lambda tx: _mark(tx, now))
    finally:
        await store.close()


def _mark(tx: Tx, now: datetime) -> None:
    """The mark, and the record that explains to a verification why the trail is shorter than it was."""
    rows.mark_restored(tx, now=now)
    audit.append(
        tx,
        audit.AuditRecord(
            tenant="",
            zone="ops",
            at=now,
            event=RESTORED,
            actor=operator(),
            outcome=0,
            object_type="store",
            object_id="database",
        ),
    )


def _put(ready: Path, database: Path) -> Path | None:
    """Move the ready copy into its place; what was there, with its journal, goes beside it."""
    lock = place.take_lock(database)  # a gateway on it would go on writing to a file that was moved away
    try:
        kept = _aside(database)
        ready.rename(database)
        _sync(database.parent)
    finally:
        os.close(lock)
    return kept


def _aside(database: Path) -> Path | None:
    kept: Path | None = None
    if database.exists():
        kept = database.with_name(f"{database.name}.before-restore-{datetime.now(UTC):%Y%m%d%H%M%S}")
        for end in ("", "-wal", "-shm"):
            old = database.with_name(database.name + end)
            if old.exists():
                old.rename(kept.with_name(kept.name + end))
    return kept


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _database(settings: Settings) -> Path:
    where = store_place(settings.gateway_store())
    if not isinstance(where, Path):
        raise Refused(
            "the database is PostgreSQL: it is backed up by its own tools",
            code="backup-postgres",
            hint="pg_dump --format=custom or pg_basebackup with pg_verifybackup, as docs/backup.md says; after a"
            " restore: poterne restore --mark",
        )
    return where


def _configuration(conf: Path | None) -> Mapping[str, Path]:
    if conf is None:
        return {}
    folder = conf.parent / "conf.d"
    beside = {f"conf.d/{one.name}": one for one in sorted(folder.glob("*.toml"))} if folder.is_dir() else {}
    return {"poterne.toml": conf, **beside}
