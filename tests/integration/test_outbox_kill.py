"""SIGKILL at the outbox's named points, in a real process on a real database (F01, FF-25)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apsw
import pytest

POINTS = [
    "claim-committed",
    "settle-before-commit",
    "settle-committed",
    "attempt-committed",
    "answer-received",
    "outcome-committed",
    "query-before-commit",
    "query-committed",
]
PATHS = [f"{point}#{n}" for point in POINTS for n in (1, 3)]


def publish(place: Path, **environment: str) -> int:
    """Run the child in ``place``; its return code."""
    command = [
        sys.executable,
        "-m",
        "tests.integration.outbox_child",
        str(place / "outbox.db"),
        str(place / "index.txt"),
    ]
    root = Path(__file__).parents[2]
    return subprocess.run(
        command, check=False, cwd=root, env=os.environ | environment, timeout=60, capture_output=True
    ).returncode


def assert_each_exam_is_published_once(place: Path) -> None:
    held = (place / "index.txt").read_text().splitlines()
    assert Counter(held) == {"1.2.1 1": 1, "1.2.2 2": 1, "1.2.3 3": 1}
    connection = apsw.Connection(str(place / "outbox.db"))
    try:
        rows = connection.execute("SELECT lane, state FROM outbox_job ORDER BY job_id").fetchall()
    finally:
        connection.close()
    assert rows == [("1.2.1", "PUBLISHED"), ("1.2.2", "PUBLISHED"), ("1.2.3", "PUBLISHED")]


def test_the_points_at_which_we_kill_are_the_points_there_are(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    assert publish(tmp_path, POTERNE_CRASH_TRACE=str(trace)) == 0
    assert {point for point in trace.read_text().split() if not point.startswith("store-")} == set(POINTS)
    assert_each_exam_is_published_once(tmp_path)


@pytest.mark.parametrize("point", PATHS)
def test_ff25_killed_at_any_point_every_exam_is_published_once(tmp_path: Path, point: str) -> None:
    assert publish(tmp_path, POTERNE_CRASH_AT=point) == -9
    assert publish(tmp_path) == 0
    assert_each_exam_is_published_once(tmp_path)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_f01_killed_at_every_passage_of_every_point_every_exam_is_published_once(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    assert publish(tmp_path, POTERNE_CRASH_TRACE=str(trace)) == 0
    passages = Counter(trace.read_text().split())
    for point, times in passages.items():
        for n in range(1, times + 1):
            place = tmp_path / f"{point}-{n}"
            place.mkdir()
            assert publish(place, POTERNE_CRASH_AT=f"{point}#{n}") in {-9, 0}  # 0: this run took fewer rounds
            assert publish(place) == 0
            assert_each_exam_is_published_once(place)
