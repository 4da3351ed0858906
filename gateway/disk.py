"""What the disk of the database must keep free: who stops first when it fills up, and who goes on (FF-45, F04).

A reserve file beside the database holds space that nobody else can take. While it stands, *spare* is what the file
system has free; once it was given up, what is free beyond the reserve. In the order of a disk that fills up:

1. ``LOW``: spare is under ``low_bytes``; an alert goes out, nothing else changes;
2. ``RESERVED``: spare is under a quarter of the reserve, room for a message in hand; no report is taken in any more,
   each sender is told to send again later, and publication goes on;
3. almost nothing is free: the file is given up, so that the queue and the audit trail can still commit.

Each level ends by itself, with 5 % more room than began it; with the third the file is taken again.

Where a file system compresses or copies on write, allocating does not reserve: the levels hold there as well, only
the last commits may then find the disk full and wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from enum import IntEnum
from pathlib import Path

import structlog

from security.errors import Broken

log = structlog.get_logger()

LOOK_S = 1.0
_MORE = 1.05
_BLOCK = 512  # of st_blocks, whatever the file system's own (stat(2))


class Level(IntEnum):
    """How much room there is, worse upwards."""

    OK = 0
    LOW = 1
    RESERVED = 2


def level_of(spare: int, *, low_bytes: int, stop_bytes: int, before: Level) -> Level:
    """The level that ``spare`` bytes mean after ``before``: a level is left with 5 % more than what began it."""

    def under(bytes_: int, level: Level) -> bool:
        return spare < (bytes_ * _MORE if before >= level else bytes_)

    if under(stop_bytes, Level.RESERVED):
        return Level.RESERVED
    return Level.LOW if under(low_bytes, Level.LOW) else Level.OK


class DiskGuard:
    """Watches the file system of one database. ``reserve_bytes`` 0: no reserve, no refusal."""

    def __init__(self, database: Path, *, low_bytes: int, reserve_bytes: int) -> None:
        self._folder = database.parent
        self._reserve = database.with_name(database.name + ".reserve")
        self._low = low_bytes
        self._reserve_bytes = reserve_bytes
        self._level = Level.OK

    @property
    def level(self) -> Level:
        """As last looked at."""
        return self._level

    def spare(self) -> int:
        """Bytes that may be used before the reserve is touched; negative once it is.

        Raises:
            Broken: ``disk-unreadable`` the folder of the database cannot be asked.
        """
        return self._free() + self._held() - self._reserve_bytes

    def refuses(self) -> bool:
        """Whether nothing new may be taken in now; asks the file system, whatever was seen before."""
        return self._judge() is Level.RESERVED

    def look(self) -> Level:
        """Judge the room; give the reserve up or take it again."""
        level = self._judge()
        held = self._held()
        if held and self._free() < self._reserve_bytes // 16:
            self._give_up(held)
        elif not self._stands() and level is not Level.RESERVED:
            self._take()
        return level

    async def run(self, stop: asyncio.Event) -> None:
        """Look every second until ``stop``."""
        while not stop.is_set():
            await asyncio.to_thread(self.look)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    def _judge(self) -> Level:
        level = level_of(self.spare(), low_bytes=self._low, stop_bytes=self._reserve_bytes // 4, before=self._level)
        if level is not self._level:
            say = log.warning if level > self._level else log.info
            say("disk-level", level=level.name.lower(), before=self._level.name.lower())
        self._level = level
        return level

    def _free(self) -> int:
        try:
            status = os.statvfs(self._folder)
        except OSError as error:
            raise Broken(
                f"{self._folder}: {error.strerror}",
                code="disk-unreadable",
                hint="the folder of the database must exist, on a mounted disk",
            ) from error
        return status.f_bavail * status.f_frsize

    def _held(self) -> int:
        """Bytes of the reserve that stand allocated, also while it is being taken: a message that comes then is not
        refused for the room that the reserve itself takes."""
        if self._stands():
            return self._reserve_bytes
        status = self._file()
        return min(status.st_blocks * _BLOCK, self._reserve_bytes) if status else 0

    def _stands(self) -> bool:
        status = self._file()
        return status is not None and status.st_size == self._reserve_bytes

    def _file(self) -> os.stat_result | None:
        """The reserve file, None when there is none or something else has its name."""
        try:
            status = self._reserve.lstat()
        except FileNotFoundError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def _give_up(self, held: int) -> None:
        try:
            self._reserve.unlink()
        except OSError as error:
            log.warning("disk-reserve-not-given-up", error=os.strerror(error.errno or 0))
        else:
            log.warning("disk-reserve-given-up", bytes=held, hint="free space on the file system of the database")

    def _take(self) -> None:
        """Allocate the reserve, when there is room for it."""
        if not self._reserve_bytes:
            return
        try:
            self._reserve.unlink(missing_ok=True)  # of another size, or half made when the process died
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._reserve_bytes)
            finally:
                os.close(fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._reserve.unlink()
            log.warning("disk-reserve-not-taken", error=os.strerror(error.errno or 0))
