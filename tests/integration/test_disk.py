"""A disk that really fills up: a small file system under the whole gateway."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.disk import DiskGuard, Level
from gateway.lab.ris import LabExam, LabOrder
from security.outbox.states import State
from tests.support.world import World, world

MIB = 2**20
ARCS = "1.2.250.1.213.4.5.9"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB; skipped where nothing can be mounted, except where CI must."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        reason = f"no small file system can be mounted: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def exam(number: int) -> LabExam:
    order = LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}")
    return replace(LabExam(), studies=(f"{ARCS}.2.{number}",), orders=(order,), document_id=f"{ARCS}.1.{number}")


def fill(ballast: Path) -> None:
    """Take every last byte of the file system."""
    with ballast.open("ab", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


async def states(w: World, *exams: LabExam) -> list[State]:
    return [(await w.last(one.studies[0])).state for one in exams]


async def test_ff45_f04_a_full_disk_stops_the_intake_alone_and_recovers_by_itself(
    small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (small_disk / "index").symlink_to(tmp_path / "elsewhere")  # the index has a disk of its own
    ballast = small_disk / "ballast"
    guard = DiskGuard(small_disk / "gateway.db", low_bytes=16 * MIB, reserve_bytes=8 * MIB)
    async with world(small_disk) as w:
        w.intake._room = lambda: not guard.refuses()
        first, second, third = exam(1), exam(2), exam(3)
        for one in (first, second, third):
            w.pacs.hold(one)
        assert guard.look() is Level.OK
        assert "\rMSA|AA|" in await w.report(first)
        assert "\rMSA|AA|" in await w.report(second)
        audited = await w.count("audit_record")

        fill(ballast)
        assert guard.look() is Level.RESERVED
        kept = await w.count("hl7_message")
        refused = await w.report(third, control_id="THIRD")
        await w.settle()

        assert "\rMSA|AE|THIRD" in refused
        assert "|207^Application internal error^HL70357|" in refused
        assert "disk full: nothing was kept; send this message again later" in refused
        assert await w.count("hl7_message") == kept
        assert await states(w, first, second) == [State.PUBLISHED, State.PUBLISHED]
        assert await w.count("audit_record") > audited
        assert not (small_disk / "gateway.db.reserve").exists()

        ballast.unlink()
        assert guard.look() is Level.OK
        assert (small_disk / "gateway.db.reserve").stat().st_size == 8 * MIB
        assert "\rMSA|AA|THIRD" in await w.report(third, control_id="THIRD")
        await w.settle()
        assert await states(w, first, second, third) == [State.PUBLISHED] * 3
        assert [status for _, status in await w.entries(third)] == ["Approved"] * 3


async def test_f04_the_guard_frees_the_reserve_while_it_runs(small_disk: Path) -> None:
    guard = DiskGuard(small_disk / "gateway.db", low_bytes=16 * MIB, reserve_bytes=8 * MIB)
    stop = asyncio.Event()
    running = asyncio.create_task(guard.run(stop))
    reserve = small_disk / "gateway.db.reserve"
    async with asyncio.timeout(5):
        while not reserve.exists():
            await asyncio.sleep(0.02)
        await asyncio.to_thread(fill, small_disk / "ballast")
        assert guard.refuses(), "seen at the message, not only at the next look"
        while reserve.exists():
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert guard.level is Level.RESERVED


async def test_no_message_is_refused_while_the_reserve_is_being_taken(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = DiskGuard(small_disk / "gateway.db", low_bytes=0, reserve_bytes=22 * MIB)
    refused = []
    whole = os.posix_fallocate

    def step_by_step(fd: int, offset: int, length: int) -> None:
        for part in (length // 2, length * 95 // 100, length):
            whole(fd, offset, part)
            refused.append(guard.refuses())

    monkeypatch.setattr(os, "posix_fallocate", step_by_step)
    assert guard.look() is Level.OK
    assert refused == [False, False, False]


async def test_f04_an_index_whose_disk_is_full_takes_nothing_and_holds_the_exam_once_when_there_is_room_again(
    small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "index").symlink_to(small_disk)
    ballast = small_disk / "ballast"
    async with world(tmp_path / "gateway") as w:
        first, second = exam(1), exam(2)
        for one in (first, second):
            w.pacs.hold(one)
        await w.report(first)
        await w.settle()
        fill(ballast)
        await w.report(second)
        for _ in range(4):
            await w.engine.step()
            w.clock.advance(30)
        assert await states(w, first, second) == [State.PUBLISHED, State.RETRY_WAIT]
        with pytest.raises(AssertionError, match="cannot do this now"):
            await w.entries(second)  # a read that cannot be recorded is not answered

        ballast.unlink()
        async with asyncio.timeout(10):
            while (await states(w, second)) != [State.PUBLISHED]:
                await w.engine.step()
                w.clock.advance(60)
        assert [status for _, status in await w.entries(second)] == ["Approved"] * 2
