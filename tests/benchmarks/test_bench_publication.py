"""From a report to its entry in the index, when the index takes a tenth of a second for every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.index import Fault, LabIndex, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient
from indexer.ports import Accepted, EntryFound, Submission
from indexer.xds.client import XdsClient, XdsEndpoint
from security.clock import SystemClock
from security.store.port import ReadTx
from tests.benchmarks.figures import Figure, publish, quantile
from tests.support.world import TENANT, World, world

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

EXAMS = 80
DELAY_S = 0.1
FLOOR_MS = 200.0  # ITI-41 and ITI-18, one after the other
PACE_S = 0.1  # ten reports a second
INSTANCES = 100
SLOW = Switch(name=Fault.DELAY, seconds=DELAY_S)


def _exams() -> list[LabExam]:
    arcs = "1.2.250.1.213.4.5.9"
    return [
        replace(
            LabExam(patient=LabPatient(rank=number + 1, ipp=f"IPP{number}")),
            studies=(f"{arcs}.2.{number}",),
            orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
            document_id=f"{arcs}.1.{number}",
        )
        for number in range(EXAMS + 1)
    ]


@asynccontextmanager
async def _working(folder: Path, exams: Sequence[LabExam]) -> AsyncIterator[World]:
    """A world whose engine runs, warmed by one exam, its index slow from then on."""
    folder.mkdir()
    stop = asyncio.Event()
    async with world(folder) as w, asyncio.TaskGroup() as tasks:
        tasks.create_task(w.engine.run(stop), name="engine")
        for exam in exams:
            w.pacs.hold(exam, instances=INSTANCES)
        await w.report(exams[0])
        await _indexed(w, 1)
        w.index.switches.set(SLOW)
        w.index.switches.counts.clear()
        yield w
        stop.set()


def _lags_ms(tx: ReadTx) -> list[float]:
    """From acceptance to publication of each published job, by the outbox's own history."""
    rows = tx.rows(
        "SELECT h.at - job.accepted_at AS lag FROM outbox_job AS job JOIN outbox_history AS h"
        " ON h.job_id = job.job_id AND h.to_state = 'PUBLISHED' ORDER BY job.job_id"
    )
    return [row["lag"] for row in rows]


async def _indexed(w: World, count: int) -> None:
    """Wait until so many exams are in the index, looking rarely enough not to be in the way."""
    async with asyncio.timeout(120):
        while len(await w.store.read(_lags_ms)) < count:
            await asyncio.sleep(0.02)


async def _paced(folder: Path, exams: Sequence[LabExam]) -> tuple[list[float], list[Submission]]:
    """Report → indexed of each exam, in ms by the outbox's own history, and what was sent."""
    async with _working(folder, exams) as w:
        started = time.perf_counter()
        for number, exam in enumerate(exams[1:]):
            await asyncio.sleep(max(0.0, started + number * PACE_S - time.perf_counter()))
            assert "\rMSA|AA|" in await w.report(exam)
        await _indexed(w, EXAMS + 1)
        assert w.index.switches.counts == {"ITI-41": EXAMS, "ITI-18": EXAMS}
        lags = await w.store.read(_lags_ms)
        return lags[1:], await w.store.read(lambda tx: _sent(w, tx))


def _sent(w: World, tx: ReadTx) -> list[Submission]:
    ids = [row["job_id"] for row in tx.rows("SELECT job_id FROM outbox_job ORDER BY job_id")][1:]
    stored = [w.ledger.submission_of(tx, TENANT, job_id) for job_id in ids]
    return [one[1] for one in stored if one]


async def _burst(folder: Path, exams: Sequence[LabExam]) -> float:
    """Seconds from the first of all reports at once to the last entry."""
    async with _working(folder, exams) as w:
        started = time.perf_counter()
        for exam in exams[1:]:
            await w.report(exam)
        await _indexed(w, EXAMS + 1)
        return time.perf_counter() - started


async def _sequential(folder: Path, submissions: Sequence[Submission]) -> float:
    """The rival: a client that sends the same documents and asks for each before the next; it stores nothing."""
    async with LabIndex(folder) as index:
        client = XdsClient(
            XdsEndpoint(
                registry_url=f"{index.url}/registry",
                repository_url=f"{index.url}/repository",
                repository_unique_id=index.repository_unique_id,
                connect_timeout_s=2.0,
                total_timeout_s=5.0,
            )
        )
        index.switches.set(SLOW)
        try:
            started = time.perf_counter()
            for submission in submissions:
                assert isinstance(await client.provide_and_register(submission), Accepted)
                assert isinstance(await client.find_document(submission.unique_id), EntryFound)
            return time.perf_counter() - started
        finally:
            await client.aclose()


async def test_bench_report_to_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.world.Hands", SystemClock)  # this world runs in real time
    exams = _exams()
    lags, submissions = await _paced(tmp_path / "paced", exams)
    assert (len(lags), len(submissions)) == (EXAMS, EXAMS)
    burst_s = await _burst(tmp_path / "burst", exams)
    sequential_s = await _sequential(tmp_path / "sequential", submissions)
    floor = "the index's own delays (2 × 100 ms)"
    p50, p95 = quantile(lags, 0.5), quantile(lags, 0.95)
    publish(
        "publication",
        [
            Figure(what="report → indexed, p50", value=p50, unit="ms", ratios={floor: p50 / FLOOR_MS}),
            Figure(what="report → indexed, p95", value=p95, unit="ms", ratios={floor: p95 / FLOOR_MS}),
            Figure(what="report → indexed, slowest", value=max(lags), unit="ms", ratios={floor: max(lags) / FLOOR_MS}),
            Figure(what="all reports at once", value=EXAMS / burst_s, unit="exams/s",
                   ratios={"a strictly sequential client": sequential_s / burst_s}),
            Figure(what="strictly sequential client, storing nothing", value=EXAMS / sequential_s, unit="exams/s"),
        ],
        conditions=f"{EXAMS} exams of {INSTANCES} instances, one every {PACE_S * 1000:.0f} ms (paced) or all at once; "
        "PACS in memory; lab index (real node, plain HTTP) with 100 ms added to each request; at most 4 calls to it at "
        "once, as by default; all in one process",
    )  # fmt: skip
    assert min(lags) >= FLOOR_MS
