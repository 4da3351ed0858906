"""SQLite store under a writer, many readers and a backup at once (FF-26)."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from pathlib import Path

import apsw
import pytest

from security.store import sqlite
from security.store.port import GROUND, ReadTx
from security.store.sqlite import SqliteStore
from tests.contract.store_parts import NOTES, add_note, echoes, notes


def _back_up_until(stop: threading.Event, source: Path, target: Path) -> int:
    """What an outside backup programme does: page by page, again and again, with its own connection."""
    done = 0
    while not stop.is_set():
        target.unlink(missing_ok=True)
        into, of = apsw.Connection(str(target)), apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        of.set_busy_timeout(5_000)
        with into.backup("main", of, "main") as backup:
            while not backup.done and not stop.is_set():
                backup.step(16)
        done += backup.done
        into.close()
        of.close()
    return done


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.full, pytest.mark.timeout(300)])])
async def test_ff26_one_writer_sixteen_readers_and_a_backup_never_meet_a_lock(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "store.sqlite"
    store = await SqliteStore.open(path, [GROUND, NOTES])
    end = time.monotonic() + seconds
    commits: list[float] = []
    reads = 0

    async def write() -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            started = time.perf_counter()
            await store.write(partial(add_note, number=number))
            commits.append(time.perf_counter() - started)

    async def read() -> None:
        nonlocal reads
        while time.monotonic() < end:
            seen = await store.read(lambda tx: (len(notes(tx)), len(echoes(tx))))
            assert seen[0] == seen[1]
            reads += 1

    stop = threading.Event()
    backup = asyncio.create_task(asyncio.to_thread(_back_up_until, stop, path, tmp_path / "backup.sqlite"))
    try:
        await asyncio.gather(write(), *(read() for _ in range(16)))
    finally:
        stop.set()
    backups = await backup
    await store.close()

    p99_ms = sorted(commits)[len(commits) * 99 // 100] * 1000
    print(f"FF-26: {len(commits)} commits, p99 {p99_ms:.1f} ms, {reads} reads, {backups} backups, 0 lock errors")
    assert len(commits) > 20
    assert reads > 20
    assert backups >= 1


async def test_the_log_does_not_grow_without_end_while_readers_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(sqlite, "RESET_PAGES", 200)
    path = tmp_path / "store.sqlite"
    store = await SqliteStore.open(path, [GROUND, NOTES])
    done = asyncio.Event()
    biggest = 0

    async def write() -> None:
        nonlocal biggest
        for number in range(600):
            await store.write(partial(add_note, number=number))
            biggest = max(biggest, path.with_name("store.sqlite-wal").stat().st_size)
        done.set()

    async def read() -> None:
        while not done.is_set():
            await store.read(notes)

    await asyncio.gather(write(), *(read() for _ in range(8)))
    await store.close()
    assert biggest < 400 * 4096


async def test_a_reader_that_looks_for_long_does_not_hold_up_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 5)
    monkeypatch.setattr(sqlite, "RESET_PAGES", 10)
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND, NOTES])
    looking, enough = threading.Event(), threading.Event()

    def look(tx: ReadTx) -> list[int]:
        notes(tx)
        looking.set()
        assert enough.wait(30)
        return notes(tx)

    reading = asyncio.create_task(store.read(look))
    await asyncio.to_thread(looking.wait, 30)
    started = time.monotonic()
    for number in range(12):
        await store.write(partial(add_note, number=number))
    assert time.monotonic() - started < sqlite.BUSY_MS / 1000  # one full wait would already take that
    enough.set()
    assert await reading == []
    await store.close()
