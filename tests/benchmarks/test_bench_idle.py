"""What the gateway costs while nothing happens: its start, its memory, its processor time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gateway.lab.site import Site
from tests.benchmarks.figures import Figure, publish, quantile

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

STARTS = 7
IDLE_S = 10.0
RIVAL = "import aiohttp, pydicom, lxml.etree, sys; print('ready', flush=True); sys.stdin.read()"
BARE = "python -c 'import aiohttp, pydicom, lxml'"
MIB = 2**20


def _rival_start(environ: dict[str, str]) -> tuple[float, float]:
    """Seconds until its imports are done, and its resident memory then."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", RIVAL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**dict(psutil.Process().environ()), **environ},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        took = time.perf_counter() - started
        memory = psutil.Process(process.pid).memory_info().rss
        process.communicate()
    return took, memory / MIB


async def _start(site: Site, environ: dict[str, str]) -> float:
    """Seconds until the ready file is there."""
    started = time.perf_counter()
    await site.start_gateway(environ)
    return time.perf_counter() - started


async def test_bench_idle_gateway(tmp_path: Path) -> None:
    # Bytecode is cached beside the test, so that the first start compiles and the others find it, as installed.
    environ = {"PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    async with Site(tmp_path / "site") as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        first = await _start(site, environ)
        _rival_start(environ)
        ours: list[float] = []
        rivals: list[tuple[float, float]] = []
        for _ in range(STARTS):
            assert site.gateway is not None
            assert await site.gateway.end() == 0
            ours.append(await _start(site, environ))
            rivals.append(await asyncio.to_thread(_rival_start, environ))
        process = psutil.Process(site.gateway.process.pid)
        await asyncio.sleep(2.0)  # what starting left over
        before = process.cpu_times()
        await asyncio.sleep(IDLE_S)
        after, memory = process.cpu_times(), process.memory_info().rss / MIB
        used = after.user + after.system - before.user - before.system
    start, bare_start = quantile(ours, 0.5), quantile([took for took, _ in rivals], 0.5)
    bare_memory = quantile([rss for _, rss in rivals], 0.5)
    publish(
        "idle",
        [
            Figure(what="poterne serve until its ready file, p50", value=start, unit="s",
                   ratios={BARE: start / bare_start}),
            Figure(what="… the very first start (compiles, makes the database)", value=first, unit="s"),
            Figure(what="resident memory, idle", value=memory, unit="MiB", ratios={BARE: memory / bare_memory}),
            Figure(what=f"processor time in {IDLE_S:.0f} idle seconds", value=used, unit="CPU s"),
            Figure(what="… of one core", value=100 * used / IDLE_S, unit="%"),
            Figure(what=f"{BARE}, p50", value=bare_start, unit="s"),
            Figure(what=f"{BARE}, resident", value=bare_memory, unit="MiB"),
        ],
        conditions=f"one tenant, one DICOM PACS, index over mutual TLS; {STARTS} starts, looked at every 20 ms; "
        "Linux counts processor time in steps of 10 ms",
    )  # fmt: skip
    assert memory > 0
    assert used < IDLE_S
