"""How fast the exam list of the console is with 200,000 exams: whole pages over HTTP, against the same pages over the
query one would write first (every job grouped by lane, then sorted)."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from gateway.operations import Operations
from indexer import exams
from indexer.timeline import ExamState, exam_state
from security.clock import from_ms, to_ms
from security.outbox.jobs import job_of
from security.store.port import ReadTx
from tests.benchmarks.figures import Figure, publish, quantile
from tests.benchmarks.test_bench_exams import EXAMS, TENANT, seed, usual
from tests.integration.outbox_lab import NOON
from tests.support.house import operations
from tests.support.people import PASSWORD
from tests.support.shelf import PERSON, console
from tests.support.world import world

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

TURNS, TURNS_OF_RIVAL = 60, 5
_GROUPED = (
    "SELECT job.* FROM outbox_job AS job JOIN (SELECT tenant, lane, COALESCE("
    " MAX(CASE WHEN state <> 'PUBLISHED' THEN job_id END), MAX(job_id)) AS last FROM outbox_job"
    " WHERE state NOT IN ('CANCELLED', 'SUPERSEDED') GROUP BY tenant, lane) AS speaking ON speaking.last = job.job_id"
)
PAGES = {
    "unfiltered": "/console/",
    "by state": "/console/?state=held",
    "by reason": "/console/?reason=identity-name",
    "deep": f"/console/?before={to_ms(NOON + timedelta(seconds=EXAMS // 2))}-{10**12}",
}


class _Grouping:
    """The same desk, with the query one would write first."""

    def __init__(self, desk: Operations, store: object) -> None:
        self._desk, self._store = desk, store

    def __getattr__(self, name: str) -> object:
        return getattr(self._desk, name)

    async def counts(self, _tenant: str) -> exams.Counts:
        def work(tx: ReadTx) -> exams.Counts:
            rows = tx.rows(
                f"SELECT state, kind, reason, COUNT(*) AS n FROM ({_GROUPED}) GROUP BY state, kind, reason"
            )
            by_state, by_reason = Counter[ExamState](), Counter[tuple[ExamState, str]]()
            for row in rows:
                state = exams._exam_state(exams.State(row["state"]), row["reason"])
                by_state[state] += row["n"]
                by_reason[state, row["reason"]] += row["n"]
            return exams.Counts(by_state=by_state, by_reason=by_reason)

        return await self._store.read(work)

    async def page(self, _wanted: exams.Wanted) -> exams.Page:
        def work(tx: ReadTx) -> exams.Page:
            rows = tx.rows(f"{_GROUPED} ORDER BY job.changed_at DESC, job.job_id DESC LIMIT 51")
            return exams.Page(lines=tuple(_line(row) for row in rows[:50]), next="1-1")

        return await self._store.read(work)


def _line(row: dict[str, object]) -> exams.Line:
    job = job_of(row)
    return exams.Line(
        tenant=job.tenant,
        study=job.lane,
        state=exam_state(job),
        reason=job.reason,
        missing="",
        changed_at=from_ms(int(str(row["changed_at"]))),
        next_try=job.not_before,
        deadline=job.deadline,
    )


@asynccontextmanager
async def _person(desk: object, clock: object) -> AsyncIterator[aiohttp.ClientSession]:
    """A signed-in visitor."""
    async with (
        console(desk, clock=clock) as url,
        aiohttp.ClientSession(url, cookie_jar=aiohttp.CookieJar(unsafe=True), headers={"Origin": url}) as http,
    ):
        async with http.get("/console/login") as answer:
            csrf = re.search(r'name="csrf" value="([^"]+)"', await answer.text())
        assert csrf
        code = url.people.code(url.someone)
        fields = {"csrf": csrf[1], "name": PERSON, "password": PASSWORD, "code": code, "back": ""}
        async with http.post("/console/login", data=fields) as answer:
            assert answer.status == 200
        yield http


async def _timed(http: aiohttp.ClientSession, path: str, turns: int) -> list[float]:
    taken = []
    for _ in range(turns):
        begin = time.perf_counter()
        async with http.get(path) as answer:
            page = await answer.text()
        taken.append((time.perf_counter() - begin) * 1000)
        assert answer.status == 200
        assert page.count('scope="row"') == 50
    return taken


async def test_bench_pages_of_the_console(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await seed(w.store, usual)
        desk = operations(tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake)
        async with _person(_Grouping(desk, w.store), w.clock) as http:
            rival = await _timed(http, "/console/", TURNS_OF_RIVAL)
        figures = [Figure(what="every job grouped by lane, p50", value=quantile(rival, 0.5), unit="ms")]
        async with _person(desk, w.clock) as http:
            for name, path in PAGES.items():
                await _timed(http, path, 3)
                taken = await _timed(http, path, TURNS)
                ratio = {"grouped, p50": quantile(taken, 0.95) / quantile(rival, 0.5)}
                figures.append(Figure(what=f"{name}, p50", value=quantile(taken, 0.5), unit="ms"))
                figures.append(Figure(what=f"{name}, p95", value=quantile(taken, 0.95), unit="ms", ratios=ratio))
        publish(
            "Pages of the console, sqlite",
            figures,
            conditions=f"{EXAMS} exams, pages of 50, over HTTP on loopback, {TURNS} times each",
        )
        assert quantile([figure.value for figure in figures[1:]], 1.0) < quantile(rival, 0.5)
