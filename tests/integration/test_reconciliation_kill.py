"""SIGKILL in the middle of a run of reconciliation, in a real process on a real database and index (F01, I19)."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import apsw
import pytest

from tests.integration.reconcile_child import EXAMS, GONE, GROWN, pacs_of_child
from tests.support.reconciling import lab_exam, reconciler_of
from tests.support.world import World, world


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


async def reconcile(w: World, database: Path, **environment: str) -> tuple[int, str]:
    """Run the child; its return code and what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.reconcile_child",
        str(database),
        w.index.url,
        str(w.clock.monotonic()),
        cwd=Path(__file__).parents[2],
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode or 0, out.decode().strip()


def rows_of(database: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(database))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "point",
    [
        "reconcile-carried-out#1",
        "reconcile-carried-out#3",
        "reconcile-advanced#2",
        "reconcile-advanced#4",
        "reconcile-withdrawn#1",
    ],
)
async def test_f01_i19_a_run_that_is_killed_goes_on_where_it_was_and_asks_for_everything_once(
    w: World, tmp_path: Path, point: str
) -> None:
    for number in EXAMS:
        w.pacs.hold(lab_exam(number))
        await w.report(lab_exam(number))
    await w.settle(rounds=200)
    gone = {number: w.pacs.studies.pop(lab_exam(number).studies[0]) for number in GONE}
    assert (await reconciler_of(w).run(None)).counts["absent-once"] == len(gone)
    w.clock.advance(3601)
    await w.store.close()
    database = tmp_path / "gateway.db"

    assert (await reconcile(w, database, POTERNE_CRASH_AT=point))[0] == -9
    code, said = await reconcile(w, database)
    assert (code, said.split()[0]) == (0, "done")
    runs = rows_of(database, "SELECT state, looked_at FROM reconciliation ORDER BY run_id")
    assert runs == [("done", len(EXAMS)), ("done", len(EXAMS))], "the killed run was taken up, not begun anew"
    asked = rows_of(
        database,
        "SELECT lane, kind, COUNT(*) FROM outbox_job WHERE state = 'SETTLING' GROUP BY lane, kind ORDER BY lane",
    )
    assert asked == sorted(
        [(lab_exam(n).studies[0], "publish:site", 1) for n in GROWN]
        + [(lab_exam(n).studies[0], "withdraw:site", 1) for n in GONE]
    )
    assert (await reconcile(w, database)) == (0, "done 0"), "I19"
    assert len(pacs_of_child().studies) == len(EXAMS) - len(GONE)
