"""The levels of a filling disk, and the reserve file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.disk import DiskGuard, Level, level_of
from security.errors import Broken

LIMITS = {"low_bytes": 2000, "stop_bytes": 100}


@pytest.mark.parametrize(
    ("spare", "before", "level"),
    [
        (2000, Level.OK, Level.OK),
        (1999, Level.OK, Level.LOW),
        (2099, Level.LOW, Level.LOW),
        (2100, Level.LOW, Level.OK),
        (100, Level.LOW, Level.LOW),
        (99, Level.LOW, Level.RESERVED),
        (104, Level.RESERVED, Level.RESERVED),
        (105, Level.RESERVED, Level.LOW),
        (5000, Level.RESERVED, Level.OK),
        (-1, Level.OK, Level.RESERVED),
    ],
)
def test_a_level_is_left_with_more_room_than_began_it(spare: int, before: Level, level: Level) -> None:
    assert level_of(spare, before=before, **LIMITS) is level


@given(st.integers(-10, 5000), st.sampled_from(Level))
def test_the_same_room_seen_twice_is_the_same_level(spare: int, before: Level) -> None:
    once = level_of(spare, before=before, **LIMITS)
    assert level_of(spare, before=once, **LIMITS) is once


def test_the_reserve_is_allocated_and_private(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "poterne.db", low_bytes=2**20, reserve_bytes=2**20)

    assert guard.look() is Level.OK
    made = (tmp_path / "poterne.db.reserve").stat()
    assert (made.st_size, stat.S_IMODE(made.st_mode)) == (2**20, 0o600)
    assert made.st_blocks * 512 >= 2**20
    assert not guard.refuses()


def test_a_reserve_of_another_size_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "poterne.db.reserve").write_bytes(b"half made")

    DiskGuard(tmp_path / "poterne.db", low_bytes=2**20, reserve_bytes=2**20).look()

    assert (tmp_path / "poterne.db.reserve").stat().st_size == 2**20


def test_without_a_reserve_nothing_is_allocated_nor_refused(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "poterne.db", low_bytes=2**60, reserve_bytes=0)

    assert guard.look() is Level.LOW
    assert not guard.refuses()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_named_fault(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "gone" / "poterne.db", low_bytes=1, reserve_bytes=1)

    with pytest.raises(Broken) as caught:
        guard.look()
    assert caught.value.code == "disk-unreadable"
