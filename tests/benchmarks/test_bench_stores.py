"""SQLite against PostgreSQL behind the same port: commits, and claims from a long queue (F23)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from security.clock import to_ms
from security.outbox import jobs
from security.outbox.states import Event
from security.store.opening import StorePlace, open_store
from security.store.place import PostgresPlace
from security.store.port import GROUND, Store, Tx
from tests.benchmarks.figures import Figure, publish, quantile
from tests.contract.store_parts import NOTES, add_note
from tests.integration.outbox_lab import NOON
from tests.support.postgres import other_schema

pytestmark = [pytest.mark.bench, pytest.mark.postgres, pytest.mark.timeout(1200)]

SECONDS = 5.0
CLAIMS = 200
CLAIM_MS_MAX = 20.0  # F23
SHAPES = {"all due": 0, "half wait": 2}
"""Every how many-th job waits another day; those that wait come first in the schedule."""


@asynccontextmanager
async def opened(place: StorePlace) -> AsyncIterator[Store]:
    store = await open_store(place, [GROUND, NOTES])
    try:
        yield store
    finally:
        await store.close()


async def commits_per_second(place: StorePlace, writers: int) -> float:
    """Two rows a work, from so many writers at once."""
    numbers = itertools.count(1)
    async with opened(place) as store:
        until = time.perf_counter() + SECONDS

        async def write() -> int:
            done = 0
            while time.perf_counter() < until:
                await store.write(partial(add_note, number=next(numbers)))
                done += 1
            return done

        started = time.perf_counter()
        done = sum(await asyncio.gather(*(write() for _ in range(writers))))
        return done / (time.perf_counter() - started)


def fill(tx: Tx, *, count: int, waiting: int) -> None:
    """A queue of READY jobs, one to a lane, their deadlines in order."""
    tx.change(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count)"
        " INSERT INTO outbox_job (tenant, lane, kind, job_class, state, reason, detail, accepted_at, deadline,"
        " not_before, attempts, tries, deaths, died_in, in_doubt, lease_epoch)"
        " SELECT 't', '1.2.' || i, 'publication', 1, 'READY', '', '', :now, :now + i,"
        " CASE WHEN :waiting > 0 AND i <= :count / :share THEN :tomorrow ELSE 0 END, 0, 0, 0, '', 0, 0 FROM n",
        count=count,
        waiting=waiting,
        share=max(waiting, 1),
        now=to_ms(NOON),
        tomorrow=to_ms(NOON + timedelta(days=1)),
    )


async def claims_ms(place: StorePlace, count: int, waiting: int) -> list[float]:
    """Time of each of many claims of four jobs, each job published before the next claim."""
    async with opened(place) as store:
        await store.write(partial(fill, count=count, waiting=waiting))
        times: list[float] = []

        def claim(tx: Tx) -> list[jobs.Job]:
            started = time.perf_counter()
            claimed = jobs.claim(
                tx,
                owner="bench",
                now=NOON,
                limit=4,
                kinds={"publication": "index"},
                permits={"index": 4},
                spare=8,
                settles={"publication": 4},
            )
            times.append((time.perf_counter() - started) * 1000)
            return claimed

        def finish(tx: Tx, claimed: list[jobs.Job]) -> None:
            for job in claimed:
                sent = jobs.attempt(tx, job, now=NOON)
                assert sent is not None
                jobs.apply(tx, sent, jobs.Answer(event=Event.REFUSED), now=NOON, not_before=None)

        for _ in range(CLAIMS):
            claimed = await store.write(claim)
            assert len(claimed) == 4
            await store.write(partial(finish, claimed=claimed))
        return times


async def test_bench_stores_commits(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    figures: list[Figure] = []
    for writers in (1, 8):
        file = await commits_per_second(tmp_path / f"{writers}.sqlite", writers)
        server = await commits_per_second(other_schema(postgres_place, str(writers)), writers)
        figures += [
            Figure(what=f"commits of {writers} writer(s), SQLite", value=file, unit="works/s"),
            Figure(what=f"commits of {writers} writer(s), PostgreSQL", value=server, unit="works/s",
                   ratios={"SQLite": server / file}),
        ]  # fmt: skip
    publish(
        "stores: commits",
        figures,
        conditions=f"two rows a work, {SECONDS:.0f} s each, fsync on; PostgreSQL on this machine, Unix socket",
    )


@pytest.mark.parametrize("count", [20_000, 100_000])
async def test_f23_bench_stores_claims(tmp_path: Path, postgres_place: PostgresPlace, count: int) -> None:
    figures: list[Figure] = []
    slowest = 0.0
    for shape, waiting in SHAPES.items():
        file = await claims_ms(tmp_path / f"{waiting}.sqlite", count, waiting)
        place = other_schema(postgres_place, str(waiting))
        server = await claims_ms(place, count, waiting)
        for share in (0.5, 0.99):
            ours, theirs = quantile(file, share), quantile(server, share)
            name = f"claim of 4 from {count}, {shape}, p{share * 100:.0f}"
            figures += [
                Figure(what=f"{name}, SQLite", value=ours, unit="ms"),
                Figure(what=f"{name}, PostgreSQL", value=theirs, unit="ms", ratios={"SQLite": theirs / ours}),
            ]
            slowest = max(slowest, ours, theirs)
    publish(
        f"stores: claims from {count} jobs",
        figures,
        conditions=f"{CLAIMS} claims; half wait: the first half in schedule order is not due; PostgreSQL by Unix socket",
    )
    assert slowest <= CLAIM_MS_MAX
