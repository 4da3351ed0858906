"""kill -9 at every named step of receiving: whatever was answered 0x0000 is readable afterwards (F01, FF-01)."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import DoorProcess, data_set_of, door
from tests.support.dimse_raw import RawScu

STEPS = {
    "dimse-object-begun", "spool-written", "spool-synced", "spool-renamed", "spool-folder-synced",
    "store-before-commit", "store-after-commit", "dimse-object-committed", "dimse-store-answered",
}  # fmt: skip
OBJECTS = {f"{ROOT}.1.1.{number}": data_set(number, pixels=bytes([number]) * 600_000) for number in range(1, 4)}


def send_until_it_breaks(port: int) -> dict[str, int]:
    """What was answered, by instance."""
    answered: dict[str, int] = {}
    with RawScu(port) as scu:
        if scu.associate([(CT, [EXPLICIT])]) != {1: 0}:
            return answered
        for sop, body in OBJECTS.items():
            try:
                status = scu.store(1, CT, sop, body)
            except OSError:
                break
            if status < 0:
                break
            answered[sop] = status
    return answered


def passages(folder: Path) -> list[tuple[str, int]]:
    """Every step that storing the objects passes after the start, with its number since the start."""
    trace = folder / "trace"
    with DoorProcess.start(folder / "d", environment={"POTERNE_CRASH_TRACE": str(trace)}) as running:
        before = Counter(trace.read_text().split() if trace.exists() else [])
        assert set(send_until_it_breaks(running.port).values()) == {0}
        running.stop()
    after = Counter(trace.read_text().split())
    return [(name, number) for name in sorted(after) for number in range(before[name] + 1, after[name] + 1)]


async def die_and_look(folder: Path, step: str) -> None:
    def die() -> dict[str, int]:
        with DoorProcess.start(folder, environment={"POTERNE_CRASH_AT": step}) as doomed:
            answered = send_until_it_breaks(doomed.port)
            assert doomed.wait() == -9, f"{step} was never reached"
            return answered

    answered = await asyncio.to_thread(die)
    async with door(folder) as healed:
        kept = {row["sop_uid"]: data_set_of(healed.bytes_of(row)) for row in await healed.rows()}
        assert {sop for sop, status in answered.items() if status == 0} <= set(kept), step
        assert kept == {sop: OBJECTS[sop] for sop in kept}, step
        assert not any((folder / "received/part").iterdir()), step
        again = await asyncio.to_thread(send_until_it_breaks, healed.port)
        assert set(again.values()) == {0}, step
        assert {row["sop_uid"] for row in await healed.rows()} == set(OBJECTS)
        assert len(await healed.rows()) == len(OBJECTS), step


@pytest.mark.timeout(300)
async def test_f01_killed_at_every_named_step_nothing_that_was_confirmed_is_lost(tmp_path: Path) -> None:
    passed = await asyncio.to_thread(passages, tmp_path / "learn")
    firsts = dict(reversed(passed))
    assert set(firsts) >= STEPS
    for name in sorted(STEPS):
        await die_and_look(tmp_path / name, f"{name}#{firsts[name]}")


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_f01_killed_at_every_passage_of_every_step(tmp_path: Path) -> None:
    for name, number in await asyncio.to_thread(passages, tmp_path / "learn"):
        await die_and_look(tmp_path / f"{name}-{number}", f"{name}#{number}")
