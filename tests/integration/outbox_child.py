"""A process that publishes three exams and may be killed at any crash point: ``outbox_child DATABASE INDEX``.

INDEX is the other side: a file of lines ``lane job``, which outlives the process. The first answer for 1.2.2 is
lost after the index took it, that for 1.2.3 before.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from random import Random

from security.clock import SystemClock
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.port import Answer, Job, JobClass
from security.outbox.retry import RetrySettings
from security.outbox.states import Event
from security.store.port import GROUND, Tx
from security.store.sqlite import SqliteStore

LANES = ("1.2.1", "1.2.2", "1.2.3")


class FileKind:
    """Publishes by appending a line to a file."""

    name = "publication"
    endpoint = "index"

    def __init__(self, index: Path) -> None:
        self._index = index

    async def settle(self, job: Job) -> Answer:
        return Answer(event=Event.PREPARED)

    async def send(self, job: Job) -> Answer:
        is_first = job.attempts == 1
        if not (is_first and job.lane == "1.2.3"):
            with self._index.open("a") as out:
                out.write(f"{job.lane} {job.job_id}\n")
        lost = is_first and job.lane != "1.2.1"
        return Answer(event=Event.AMBIGUOUS if lost else Event.ACCEPTED)

    async def query(self, job: Job) -> Answer:
        held = self._index.read_text().splitlines() if self._index.exists() else []
        return Answer(event=Event.FOUND if f"{job.lane} {job.job_id}" in held else Event.ABSENT)


def accept(tx: Tx) -> None:
    """Once, however often the process is started."""
    if tx.row("SELECT COUNT(*) AS jobs FROM outbox_job")["jobs"] == 0:
        for lane in LANES:
            jobs.enqueue(
                tx, tenant="t", lane=lane, kind="publication", job_class=JobClass.P1, now=SystemClock().now()
            )


async def main(database: Path, index: Path) -> None:
    """Work until nothing is left to do."""
    store = await SqliteStore.open(database, [GROUND])
    settings = EngineSettings(slots=2, retry=RetrySettings(base_s=0.01, cap_s=0.02))
    engine = Engine(
        store, {"publication": FileKind(index)}, clock=SystemClock(), rng=Random(os.getpid()), settings=settings
    )
    await store.write(accept)
    while (await engine.snapshot()).oldest:
        await engine.step()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
