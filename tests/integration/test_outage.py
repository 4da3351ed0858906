"""The index away for six hours at peak load (F05): the real engine and rows, on a clock that moves with the calls.

By default at a twentieth of the sheet's rates: one new exam every 48 seconds, one published every 10. At its full ones
under marker ``full``: 0.42 new exams a second, 2 published (reliability §5).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import apsw
import pytest

from security.outbox import jobs, pace
from security.outbox.engine import Engine, EngineSettings
from security.outbox.forecast import Forecast
from security.outbox.port import Answer, Job, JobClass
from tests.integration.outbox_lab import SITE, InlineStore, Publication, Site, no_pause, open_store

HOUR_S = 3600.0
SETTINGS = EngineSettings()


class Unhurried(Publication):
    """Settling asks nobody; a query takes as long as a send."""

    async def settle(self, job: Job) -> Answer:
        slow, self.pause = self.pause, no_pause
        try:
            return await super().settle(job)
        finally:
            self.pause = slow

    async def query(self, job: Job) -> Answer:
        await self.pause()
        return await super().query(job)


@dataclass
class Day:
    """A site on a clock that stands where the last call ended."""

    site: Site
    engine: Engine
    call_s: float  # of a send, and of a query; four at once
    every_s: float  # between two new exams
    waking: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    next_exam_s: float = 0.0
    seen: list[tuple[float, Forecast]] = field(default_factory=list)

    async def call(self) -> None:
        done = asyncio.get_running_loop().create_future()
        heapq.heappush(self.waking, (self.site.clock.monotonic() + self.call_s / 2, next(self.numbers), done))
        await done

    async def until(self, end_s: float) -> None:
        """Exams arrive, the engine works; what it foresees is noted every minute."""
        clock = self.site.clock
        while clock.monotonic() < end_s:
            while self.next_exam_s <= clock.monotonic():
                await self.site.accept(f"2.25.{next(self.numbers)}")
                self.next_exam_s += self.every_s
            if not await self._round():
                clock.advance(self.call_s / 4)
            if not self.seen or clock.monotonic() >= self.seen[-1][0] + 60:
                self.seen.append((clock.monotonic(), await self.forecast()))

    async def drained(self) -> float:
        """When no more waits than is carried out at once, of what arrived meanwhile too: what the forecast counts."""
        while len(await self.site.store.read(jobs.open_jobs)) > SETTINGS.calls:
            await self.until(self.site.clock.monotonic() + 60)
        return self.site.clock.monotonic()

    async def forecast(self) -> Forecast:
        now = self.site.clock.now()
        return await self.site.store.read(lambda tx: pace.ahead(tx, tenant=SITE, now=now, calls=SETTINGS.calls))

    async def _round(self) -> int:
        task = asyncio.create_task(self.engine.step())
        while not task.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if self.waking and not task.done():
                due, _, done = heapq.heappop(self.waking)
                self.site.clock.advance(max(0.0, due - self.site.clock.monotonic()))
                done.set_result(None)
        return task.result()


@asynccontextmanager
async def a_day(folder: Path, *, call_s: float, every_s: float) -> AsyncIterator[Day]:
    path = folder / "outage.db"
    await (await open_store(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "OFF")  # no machine stops here
    site = Site.on(InlineStore(connection))
    site.kind = Unhurried(site.store, site.index, site.clock, site.rng)
    made = Day(site, site.engine(SETTINGS), call_s, every_s)
    site.kind.pause = made.call
    yield made
    connection.close()


async def test_f05_six_hours_away_drain_as_foretold_withdrawals_first_and_warned_before_the_first_is_late(
    tmp_path: Path,
) -> None:
    async with a_day(tmp_path, call_s=20.0, every_s=48.0) as day:
        await six_hours_away(day)


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_f05_six_hours_away_at_the_peak_of_twenty_sites(tmp_path: Path) -> None:
    async with a_day(tmp_path, call_s=1.0, every_s=1 / 0.42) as day:
        await six_hours_away(day)


async def six_hours_away(day: Day) -> None:
    """What must hold of the outage and of the hours after it."""
    await day.until(2 * HOUR_S)  # an ordinary morning
    assert not any(any(found.late.values()) for _, found in day.seen)

    called_before = len(day.site.index.calls)
    day.site.index.is_up, gone_s = False, day.site.clock.monotonic()
    await day.until(gone_s + 5 * HOUR_S)
    withdrawals = [await day.site.accept(f"2.25.9{n}", JobClass.P0) for n in range(5)]
    await day.until(gone_s + 6 * HOUR_S)
    warned_s = next(at for at, found in day.seen if at > gone_s and found.late[JobClass.P1])
    overdue_s = next(at for at, found in day.seen if found.overdue[JobClass.P1])
    assert gone_s < warned_s <= overdue_s - 20 * 60, "the warning leaves time to act"

    day.site.index.is_up, back_s = True, day.site.clock.monotonic()
    foretold = (await day.forecast()).drain_s[1]
    waiting = len(await day.site.store.read(jobs.open_jobs))
    sent_before = len(day.site.index.calls)
    took = await day.drained() - back_s
    lead_s = overdue_s - warned_s
    print(
        f"\nsix hours away: {waiting} waiting, drain foretold {foretold / 60:.1f} min, took {took / 60:.1f} min,"
        f" warned {lead_s / 60:.0f} min before the first was late"
    )
    assert took == pytest.approx(foretold, rel=0.2)

    probes = [job_id for what, job_id in day.site.index.calls[called_before:sent_before] if what == "send"]
    assert len(probes) <= 5 + 6 * 12 + 4, "five failures, then a probe every five minutes: no attempts are burnt"
    after = [job_id for what, job_id in day.site.index.calls[sent_before:] if what == "send"]
    assert set(withdrawals) <= set(after[:7]), "one probe, and what stood in its turn beside it, then the withdrawals"
    entries = [job_id for _, _, job_id, _ in day.site.index.entries]
    assert len(entries) == len(set(entries)), "each exam once"

    await day.until(day.site.clock.monotonic() + 1.5 * HOUR_S)
    assert not any(any(found.late.values()) for _, found in day.seen[-30:]), "nothing is warned of afterwards"
