"""Reconciling many exams: a PACS in memory that answers frozen studies, a real index node over HTTP, a real store."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.figures import Figure, publish
from tests.benchmarks.many_exams import publish_many
from tests.support.reconciling import reconciler_of
from tests.support.world import world

EXAMS = int(os.environ.get("POTERNE_BENCH_EXAMS", "2000"))
pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]


async def test_reconciling_many_exams(tmp_path: Path) -> None:
    process = psutil.Process()
    # The product's own patience: beside other work the machine stalls for longer than the three seconds of the tests.
    async with world(tmp_path, patience_s=120.0) as w:
        reconciler = reconciler_of(w)
        began = time.perf_counter()
        await publish_many(w, tmp_path, EXAMS)
        made_s = time.perf_counter() - began
        before = process.memory_info().rss
        peak = before

        def look(_told: str) -> None:
            nonlocal peak
            peak = max(peak, process.memory_info().rss)

        began = time.perf_counter()
        found = await reconciler.run(None, progress=look)
        seconds = time.perf_counter() - began
        assert found.counts == {"in-step": EXAMS}
        assert found.changed == 0
        publish(
            "Reconciliation",
            [
                Figure(what="exams looked at", value=found.looked_at, unit="exams"),
                Figure(what="speed", value=found.looked_at / seconds, unit="exams/s"),
                Figure(what="questions to the PACS", value=found.asked["pacs"] / EXAMS, unit="per exam"),
                Figure(what="questions to the index", value=found.asked["index"] / EXAMS, unit="per exam"),
                Figure(what="memory that the run added", value=(peak - before) / 2**20, unit="MiB"),
                Figure(what="writing them before", value=made_s, unit="s"),
            ],
            conditions="PACS in memory, index node over loopback HTTP in the same process, SQLite, all in step",
        )
        again = await reconciler.run(None)
        assert (again.counts, again.changed) == ({"in-step": EXAMS}, 0), "I19"
