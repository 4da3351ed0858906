"""How fast the exam list and its counts are with 200,000 exams, on both engines, against grouping every job by lane."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from indexer import exams
from indexer.exams import Wanted
from indexer.timeline import SHADOW, ExamState
from security.clock import to_ms
from security.outbox import jobs
from security.store.port import GROUND, ReadTx, Store
from tests.benchmarks.figures import Figure, publish, quantile
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import NOON

EXAMS = 200_000
TENANT = "north"
_INSERT = (
    "INSERT INTO outbox_job (tenant, lane, kind, job_class, state, reason, detail, accepted_at, deadline, not_before,"
    " attempts, tries, deaths, died_in, in_doubt, lease_epoch, changed_at) VALUES "
)


def _values(number: int, state: str, reason: str, at: int) -> str:
    return (
        f"('{TENANT}', '1.2.250.1.999.{number}', 'publish:{TENANT}', 1, '{state}', '{reason}', '', {at}, {at}, 0,"
        f" 0, 0, 0, '', 0, 1, {at})"
    )


async def seed(store: Store, mix: Callable[[Random], list[tuple[str, str]]]) -> None:
    """``EXAMS`` lanes, each with the jobs of ``mix``: (state, reason)."""
    rng = Random(3)

    def some(first: int) -> str:
        return _INSERT + ", ".join(
            _values(number, state, reason, to_ms(NOON + timedelta(seconds=number + 7 * offset)))
            for number in range(first, first + 1_000)
            for offset, (state, reason) in enumerate(mix(rng))
        )

    for first in range(0, EXAMS, 1_000):
        sql = some(first)
        await store.write(lambda tx, sql=sql: tx.change(sql))
    await store.write(
        lambda tx: tx.change(
            "INSERT INTO outbox_published (tenant, lanes) SELECT tenant, COUNT(DISTINCT lane) FROM outbox_job"
            " WHERE state = 'PUBLISHED' GROUP BY tenant"
        )
    )


def usual(rng: Random) -> list[tuple[str, str]]:
    """A site after a year: nearly everything indexed, some twice, a few per cent waiting, held or failed."""
    draw = rng.random()
    past = [("PUBLISHED", "")] * (2 if rng.random() < 0.1 else 1)
    if draw < 0.03:
        return [("SETTLING", rng.choice(["", "pacs-has-no-such-study", "pacs-timeout"]))]
    if draw < 0.04:
        return [*past, ("BLOCKED", rng.choice(["identity-name", "identity-birth-date", "pacs-disagree"]))]
    if draw < 0.042:
        return [("DEAD", "index-XDSRegistryError")]
    return [*past, ("CANCELLED", "already-indexed")] if rng.random() < 0.05 else past


def rehearsal(rng: Random) -> list[tuple[str, str]]:
    """The same site in shadow mode: everything is open."""
    return [("BLOCKED", SHADOW if rng.random() < 0.97 else "identity-name")]


_NAIVE = (
    "SELECT job.* FROM outbox_job AS job JOIN (SELECT tenant, lane, COALESCE("
    " MAX(CASE WHEN state <> 'PUBLISHED' THEN job_id END), MAX(job_id)) AS last FROM outbox_job"
    " WHERE state NOT IN ('CANCELLED', 'SUPERSEDED') GROUP BY tenant, lane) AS speaking ON speaking.last = job.job_id"
    " ORDER BY job.changed_at DESC, job.job_id DESC LIMIT 51"
)


async def timed(store: Store, work: Callable[[ReadTx], Any], *, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        await store.read(work)
        taken.append((time.perf_counter() - begin) * 1000)
    return taken


@pytest.mark.bench
@pytest.mark.parametrize("mix", [usual, rehearsal], ids=["usual", "rehearsal"])
@pytest.mark.parametrize("engine", BOTH)
async def test_bench_the_exam_list(
    engine: str, mix: Callable[[Random], list[tuple[str, str]]], request: pytest.FixtureRequest
) -> None:
    store = await fresh(engine, request).open(components=[GROUND])
    await seed(store, mix)
    if engine == "postgres":
        _tidy(request)
    deep = f"{to_ms(NOON + timedelta(seconds=EXAMS // 2))}-{10**12}"
    asked: dict[str, Callable[[ReadTx], Any]] = {
        "first page": lambda tx: exams.find(tx, Wanted()),
        "first page of one tenant": lambda tx: exams.find(tx, Wanted(tenant=TENANT)),
        "page in the middle": lambda tx: exams.find(tx, Wanted(before=deep)),
        "held": lambda tx: exams.find(tx, Wanted(state=ExamState.HELD)),
        "by reason": lambda tx: exams.find(tx, Wanted(reason="identity-name")),
        "one study": lambda tx: exams.find(tx, Wanted(study=f"1.2.250.1.999.{EXAMS // 3}")),
        "counts": lambda tx: exams.counts(tx, ""),
    }
    naive = await timed(store, lambda tx: tx.rows(_NAIVE), times=5)
    figures = [Figure(what="naive: group every job by lane, p50", value=quantile(naive, 0.5), unit="ms")]
    for what, work in asked.items():
        await store.read(work)
        taken = await timed(store, work, times=40)
        rival = {"naive p50": quantile(taken, 0.95) / quantile(naive, 0.5)}
        figures.append(Figure(what=f"{what}, p50", value=quantile(taken, 0.5), unit="ms"))
        figures.append(Figure(what=f"{what}, p95", value=quantile(taken, 0.95), unit="ms", ratios=rival))
    await store.write(lambda tx: jobs.pause(tx, tenant=TENANT, actor="bench", reason="bench", now=NOON))
    figures.append(await _claim_beside_a_pause(store))
    size = Counter({"exams": EXAMS})
    publish(f"Exam list, {engine}, {mix.__name__}", figures, conditions=f"{size['exams']} exams, pages of 50")
    await store.close()


def _tidy(request: pytest.FixtureRequest) -> None:
    """What autovacuum does within minutes: an empty visibility map and no statistics are no site's state."""
    schema = request.getfixturevalue("postgres_place").schema
    connection = request.getfixturevalue("postgres_server").connect()
    connection.autocommit = True
    connection.execute(f'VACUUM ANALYZE "{schema}".outbox_job')
    connection.close()


async def _claim_beside_a_pause(store: Store) -> Figure:
    """A claim of another tenant's jobs while every job of this one is due and paused."""
    await store.write(lambda tx: tx.change("UPDATE outbox_job SET state = 'SETTLING' WHERE state = 'BLOCKED'"))
    taken = []
    for _ in range(20):
        begin = time.perf_counter()
        await store.write(
            lambda tx: jobs.claim(
                tx,
                owner="bench",
                now=NOON + timedelta(days=30),
                limit=8,
                kinds={f"publish:{TENANT}": "index", "publish:south": "south"},
                permits={"index": 4, "south": 4},
                spare=8,
                settles={f"publish:{TENANT}": 4, "publish:south": 4},
            )
        )
        taken.append((time.perf_counter() - begin) * 1000)
    return Figure(what="claim beside a paused tenant, p95", value=quantile(taken, 0.95), unit="ms")
