"""T33 measured: 500 requests a second with one token, and what the others wait meanwhile at the same index node."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from security.secrets import create_kek
from tests.benchmarks import flooder
from tests.benchmarks.figures import Figure, publish, quantile

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

RATE, SECONDS = 500.0, 20.0
HONEST_RATE = 20.0
_START_S = 30.0


@contextmanager
def _node(folder: Path) -> Iterator[str]:
    """``poterne index serve`` on loopback; its base address."""
    create_kek(folder / "kek")
    conf, ready = folder / "index.toml", folder / "ready"
    conf.write_text(
        '[index_node]\nlisten = "127.0.0.1:0"\nrepository_unique_id = "1.2.250.1.999.3"\n'
        '[index_node.store]\npath = "index.db"\nkek_file = "kek"\n'
    )
    command = [sys.executable, "-m", "gateway.cli", "index", "serve", "--conf", str(conf), "--ready-file", str(ready)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            ends = time.monotonic() + _START_S
            while not ready.exists():
                assert process.poll() is None
                assert time.monotonic() < ends
                time.sleep(0.05)
            yield f"http://{json.loads(ready.read_text())['index']}"
        finally:
            process.terminate()


async def _honest(url: str, seconds: float) -> AsyncIterator[float]:
    """Seconds each request of an honest peer took; they start at a steady rate from an address of its own."""
    loop = asyncio.get_running_loop()
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))
    async with aiohttp.ClientSession(connector=connector) as http:
        began = loop.time()
        for number in range(int(HONEST_RATE * seconds)):
            await asyncio.sleep(max(began + number / HONEST_RATE - loop.time(), 0))
            asked = loop.time()
            async with http.get(url) as answer:
                await answer.read()
                assert answer.status == 200, "who is honest is never told to wait"
            yield loop.time() - asked


@pytest.mark.parametrize(
    ("what", "path"),
    [
        (
            "query, recorded before its answer",
            "DocumentReference?patient.identifier=urn:oid:1.2.250.1.999.9|1&status=current",
        ),
        ("page without a database", "metadata"),
    ],
)
async def test_bench_flood(tmp_path: Path, what: str, path: str) -> None:
    with _node(tmp_path) as base:
        url = f"{base}/fhir/{path}"
        _ = [took async for took in _honest(url, 3.0)]  # warm
        calm = [took async for took in _honest(url, SECONDS)]
        words = [sys.executable, flooder.__file__, url, str(RATE), str(SECONDS + 4), "127.0.0.2", "one-token"]
        flooding = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        await asyncio.sleep(3.0)  # beyond the burst that a rest allows
        flooded = [took async for took in _honest(url, SECONDS)]
        out, _error = await flooding.communicate()
    found = json.loads(out)
    answers, elapsed = found["answers"], found["seconds"]
    assert answers["429"] > 0, answers
    figures = []
    for share in (0.5, 0.95, 0.99):
        ours, before = quantile(flooded, share), quantile(calm, share)
        figures.append(
            Figure(
                what=f"honest {what}, during the flood, p{share * 100:.0f}",
                value=ours * 1000,
                unit="ms",
                ratios={"without it": ours / before},
            )
        )
    figures.append(Figure(what="of the flood, served", value=answers["200"] / elapsed, unit="requests/s"))
    figures.append(Figure(what="of the flood, told to wait (429)", value=answers["429"] / elapsed, unit="requests/s"))
    publish(
        f"flood: {what}",
        figures,
        conditions=f"index node on loopback, {RATE:.0f} requests/s with one token, {HONEST_RATE:.0f}/s of an honest peer",
    )
