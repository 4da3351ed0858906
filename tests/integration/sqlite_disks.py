"""Disks that misbehave, as SQLite file systems (VFS) under the production library.

``PowerSwitch`` remembers what each file is sure to hold and what was written since its last fsync, so that a power
cut can be taken at any operation: of every unsynced write a random part of its sectors has reached the disk.
``FailingDisk`` refuses to fsync when told. Both register themselves as the default for new connections.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

SECTOR = 512


class _DefaultVfs(apsw.VFS):
    """A file system that is the default while the ``with`` block runs."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "unix", makedefault=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.unregister()


@dataclass(slots=True)
class _Contents:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # offset and data; no data: cut off at offset
    synced: bool = False

    def sync(self) -> None:
        for offset, data in self.pending:
            _apply(self.durable, offset, data)
        self.pending.clear()
        self.synced = True

    def after_a_cut(self, chance: random.Random) -> bytes | None:
        """What the disk holds when the power fails now; None: the name itself is lost."""
        if not self.synced and chance.random() < 0.5:
            return None
        image = bytearray(self.durable)
        survival = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for offset, data in self.pending:
            if not data:
                if chance.random() < survival:
                    _apply(image, offset, b"")
                continue
            start = offset
            while start < offset + len(data):
                end = min(start - start % SECTOR + SECTOR, offset + len(data))
                if chance.random() < survival:
                    _apply(image, start, data[start - offset : end - offset])
                start = end
        return bytes(image)


def _apply(image: bytearray, offset: int, data: bytes) -> None:
    if not data:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class PowerSwitch(_DefaultVfs):
    """Records every write, truncation and fsync; ``on_operation`` is called after each, in the thread that made it."""

    def __init__(self, on_operation: Callable[[PowerSwitch], None]) -> None:
        super().__init__("power-switch")
        self.files: dict[str, _Contents] = {}
        self.on_operation = on_operation

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _RecordedFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.files.pop(Path(filename).name, None)
        self.on_operation(self)

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files as a power cut at this moment leaves them."""
        images = {name: contents.after_a_cut(chance) for name, contents in self.files.items()}
        return {name: image for name, image in images.items() if image is not None}


class _RecordedFile(apsw.VFSFile):
    def __init__(self, switch: PowerSwitch, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._switch = switch
        super().__init__("unix", name, flags)
        self._contents = switch.files.setdefault(Path(path).name, _Contents())

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._contents.pending.append((offset, bytes(data)))
        self._switch.on_operation(self._switch)

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._contents.pending.append((newsize, b""))
        self._switch.on_operation(self._switch)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._contents.sync()
        self._switch.on_operation(self._switch)


class FailingDisk(_DefaultVfs):
    """Counts fsyncs; refuses those of files whose name ends with ``broken``, as a dying disk does."""

    def __init__(self) -> None:
        super().__init__("failing-disk")
        self.broken: str | None = None
        self.syncs = 0
        self.refused = 0

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _UnsureFile(self, path, name, flags)


class _UnsureFile(apsw.VFSFile):
    def __init__(self, disk: FailingDisk, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:
        if self._disk.broken is not None and self._path.endswith(self._disk.broken):
            self._disk.refused += 1
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
        self._disk.syncs += 1
