"""SQLite store under power cuts, failing fsync, a full disk and damaged files (F02, F03, F04, F12)."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from security.errors import Broken, Unavailable
from security.store import sqlite
from security.store.port import GROUND, Tx
from security.store.sqlite import SqliteStore
from tests.contract.store_parts import NOTES, add_note, echoes, notes
from tests.integration.sqlite_disks import FailingDisk, PowerSwitch

PARTS = [GROUND, NOTES]


def _padded_note(tx: Tx, number: int) -> None:
    add_note(tx, number)
    tx.change("INSERT INTO value (number, blob) VALUES (:n, :blob)", n=number, blob=bytes([number % 256]) * 900)


@pytest.mark.parametrize("cuts", [60, pytest.param(3000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
async def test_f02_a_power_cut_at_any_operation_loses_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: int
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 20)  # so that cuts fall into checkpoints and reused WAL files
    monkeypatch.setattr(sqlite, "RESET_PAGES", 60)
    chance = random.Random(20261122)
    acknowledged: list[int] = []
    snapshots: list[tuple[dict[str, bytes], set[int]]] = []
    operations = 0

    def perhaps_cut(switch: PowerSwitch) -> None:
        nonlocal operations
        operations += 1
        if len(snapshots) < cuts and chance.random() < 0.1:
            snapshots.append((switch.cut(chance), set(acknowledged)))

    (tmp_path / "live").mkdir()
    with PowerSwitch(perhaps_cut):
        store = await SqliteStore.open(tmp_path / "live" / "store.sqlite", PARTS)
        numbers = itertools.count(1)

        async def write() -> None:
            while len(snapshots) < cuts:
                number = next(numbers)
                await store.write(partial(_padded_note, number=number))
                acknowledged.append(number)

        await asyncio.gather(*(write() for _ in range(4)))
        await store.close()
        assert operations > cuts

    most = 0
    for number, (images, promised) in enumerate(snapshots):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, image in images.items():
            (folder / name).write_bytes(image)
            (folder / name).chmod(0o600)
        store = await SqliteStore.open(folder / "store.sqlite", PARTS)
        kept = await store.read(notes)
        assert promised <= set(kept), f"cut {number}: acknowledged and gone: {sorted(promised - set(kept))}"
        assert kept == await store.read(echoes), f"cut {number}: half a work"
        await store.close()
        most = max(most, len(promised))
    assert most > 5


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    with FailingDisk() as disk:
        yield disk


async def test_f03_a_failed_fsync_refuses_its_works_and_every_later_write(tmp_path: Path, disk: FailingDisk) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", PARTS)
    await store.write(partial(add_note, number=1))
    disk.broken = "-wal"
    answers = await asyncio.gather(
        *(store.write(partial(add_note, number=n)) for n in (2, 3)), return_exceptions=True
    )
    disk.broken = None
    answers.append(*await asyncio.gather(store.write(partial(add_note, number=4)), return_exceptions=True))

    assert [type(answer) for answer in answers] == [Broken, Broken, Broken]
    assert {answer.code for answer in answers if isinstance(answer, Broken)} == {"store-broken"}
    assert "SQLITE_IOERR_FSYNC" in str(answers[0])
    assert disk.refused == 1, "a failed fsync must not be tried again"
    assert await store.read(notes) == [1]
    syncs = disk.syncs
    await store.close()
    assert disk.syncs == syncs, "closing must not write to a device that failed"

    store = await SqliteStore.open(tmp_path / "store.sqlite", PARTS)
    assert 1 in await store.read(notes)
    await store.write(partial(add_note, number=5))
    await store.close()


async def test_f03_a_checkpoint_that_fails_stops_the_writer(
    tmp_path: Path, disk: FailingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 1)
    store = await SqliteStore.open(tmp_path / "store.sqlite", PARTS)
    disk.broken = ".sqlite"
    assert await store.write(partial(add_note, number=1)) == 1
    with pytest.raises(Broken) as caught:
        await store.write(partial(add_note, number=2))
    assert caught.value.code == "store-broken"
    disk.broken = None
    await store.close()
    store = await SqliteStore.open(tmp_path / "store.sqlite", PARTS)
    assert await store.read(notes) == [1]
    await store.close()


async def test_works_that_wait_together_share_one_fsync(tmp_path: Path, disk: FailingDisk) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", PARTS)
    await store.write(partial(add_note, number=0))
    before = disk.syncs
    await asyncio.gather(*(store.write(partial(add_note, number=n)) for n in range(1, 129)))
    # 128 works: at most 64 in a commit, and the first may have left before the others came
    assert 2 <= disk.syncs - before <= 4
    before = disk.syncs
    for number in range(200, 210):
        await store.write(partial(add_note, number=number))
    assert disk.syncs - before == 10
    await store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_f04_a_full_disk_refuses_writes_and_they_work_again_once_there_is_space(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk / "store.sqlite", PARTS)
    (small_disk / "ballast").write_bytes(bytes(1024 * 1024))
    acknowledged: list[int] = []

    async def write_on() -> None:
        for number in range(1, 2000):
            await store.write(partial(_padded_note, number=number))
            acknowledged.append(number)

    with pytest.raises(Unavailable) as caught:
        await write_on()
    assert caught.value.code == "store-full"
    assert len(acknowledged) > 10
    with pytest.raises(Unavailable):
        await store.write(partial(_padded_note, number=9000))
    assert await store.read(notes) == acknowledged

    (small_disk / "ballast").unlink()
    assert await store.write(partial(add_note, number=5000)) == 5000
    assert await store.read(notes) == [*acknowledged, 5000]
    await store.close()
    store = await SqliteStore.open(small_disk / "store.sqlite", PARTS)
    assert await store.read(notes) == [*acknowledged, 5000]
    await store.close()


async def _made(path: Path, rows: int) -> None:
    store = await SqliteStore.open(path, PARTS)
    await asyncio.gather(*(store.write(partial(_padded_note, number=n)) for n in range(rows)))
    await store.close()


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("offset", "data"),
    [(0, b"not a database at all"), (4096 * 3, bytes(4096)), (4096, b"\xff" * 64)],
    ids=["header", "a page of zeros", "a page's head"],
)
async def test_f12_a_damaged_file_is_not_opened(tmp_path: Path, offset: int, data: bytes) -> None:
    path = tmp_path / "store.sqlite"
    await _made(path, 50)
    _overwrite(path, offset, data)
    with pytest.raises(Broken) as caught:
        await SqliteStore.open(path, PARTS)
    assert caught.value.code == "store-damaged"
    assert str(path) in str(caught.value)


async def test_f12_damage_met_by_a_reader_stops_the_writer_too(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    await _made(path, 400)
    store = await SqliteStore.open(path, PARTS)
    size = path.stat().st_size
    _overwrite(path, 4096 * 8, b"\xff" * (size - 4096 * 8))
    with pytest.raises(Broken) as caught:
        await store.read(lambda tx: tx.rows("SELECT * FROM value ORDER BY number"))
    assert caught.value.code == "store-damaged"
    with pytest.raises(Broken) as caught:
        await store.write(partial(add_note, number=9999))
    assert caught.value.code == "store-damaged"
    await store.close()


async def test_a_work_that_swallows_an_engine_failure_is_refused_all_the_same(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk / "store.sqlite", PARTS)

    def stubborn(tx: Tx) -> str:
        add_note(tx, 1)
        try:
            tx.change("INSERT INTO value (blob) VALUES (zeroblob(50000000))")
        except Unavailable:
            return "as if nothing had happened"
        return "there was room"

    with pytest.raises(Unavailable):
        await store.write(stubborn)
    assert await store.read(notes) == []
    await store.close()


async def test_f12_damage_that_no_statement_would_notice_is_met_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    await _made(path, 200)
    _overwrite(path, path.stat().st_size - 4096 + 7, b"\x3b")  # the last page counts 59 free bytes that are not there
    with pytest.raises(Broken) as caught:
        await SqliteStore.open(path, PARTS)
    assert caught.value.code == "store-damaged"
    assert "quick_check" in str(caught.value)
