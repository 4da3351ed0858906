"""The one door for foreign ZIP archives (APPNOTE.TXT 6.3): every entry is checked before the first byte is inflated.

Invariants:

* nothing is ever written to a disk by a name of the archive, and names that could lead out of a folder are refused
  all the same: absolute, ``..``, drive letters, control characters, anything but ASCII;
* local and central headers say the same, entries neither overlap nor leave room for hidden bytes between them, so two
  readers cannot see two archives;
* sizes are caps, not promises: an entry inflates to exactly what it states or is refused, and what it may state is
  bounded by entry, by ratio and in all (bombs, quines);
* encrypted entries, links and devices, several disks and any method but stored and deflated are refused;
* a message names the number of the entry and the rule, never a name of the archive.

Defects of one entry's content (checksum, cut data) raise when that entry is read; all others refuse the archive.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from security.errors import BadInput

_END: Final = struct.Struct("<4s4H2LH")  # 4.3.16
_LOCATOR: Final = struct.Struct("<4sLQL")  # 4.3.15
_END64: Final = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_LOCAL: Final = struct.Struct("<4s5H3L2H")  # 4.3.7
_ZIP64: Final = 0x0001
_COMMENT_MAX: Final = 0xFFFF
_DESCRIPTORS: Final = frozenset({12, 16, 20, 24})  # 4.3.9: with or without signature, 32 or 64 bits
_ENCRYPTED: Final = 0x0001 | 0x0040 | 0x2000  # bits 0, 6, 13
_DESCRIBED_LATER: Final = 0x0008
_STORED, _DEFLATED = 0, 8
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9 ._()+,=@-]*[A-Za-z0-9_()+,=@-])?|\._[A-Za-z0-9_.-]+", re.ASCII)
_CHUNK: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may be. ``entries``: their number; ``entry``: bytes of one, inflated; ``total``: of all;
    ``ratio``: inflated to compressed bytes, once ``entry`` is above ``free`` bytes; ``directory``: bytes of the
    central directory."""

    entries: int = 500_000
    entry: int = 32 * 1024 * 1024
    total: int = 64 * 1024 * 1024 * 1024
    ratio: int = 100
    free: int = 64 * 1024
    directory: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive. ``name``: with ``/`` between its parts; ``at``: where its header stands."""

    name: str
    size: int
    compressed: int
    crc: int
    method: int
    flags: int
    at: int

    def __repr__(self) -> str:
        return f"Entry({self.size} bytes at {self.at})"


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the central directory stands and how many entries it lists."""

    at: int
    size: int
    entries: int


class ZipArchive:
    """The files of one archive, folders left out. ``file`` must be seekable and stay open.

    Raises:
        BadInput: ``zip-form``, ``zip-layout``, ``zip-disks``, ``zip-limit``, ``zip-name``, ``zip-duplicate``,
            ``zip-encrypted``, ``zip-special``, ``zip-method``.
    """

    def __init__(self, file: BinaryIO, *, limits: Limits | None = None) -> None:
        self._file = file
        self._limits = limits or Limits()
        file.seek(0, 2)
        directory = _directory(file, file.tell())
        if directory.entries > self._limits.entries or directory.size > self._limits.directory:
            raise _refused("zip-limit", "too many entries")
        listed = list(self._central(directory))
        self._check_places(listed, directory.at)
        self._starts = {one.at: start for one, start in self._placed}
        self.entries = tuple(one for one in listed if not one.name.endswith("/"))
        _check_names(listed)

    def read(self, entry: Entry) -> bytes:
        """The content of one entry, whole and checked.

        Raises:
            BadInput: ``zip-content`` it is not what its header states.
        """
        self._file.seek(self._starts[entry.at])
        data = self._file.read(entry.size) if entry.method == _STORED else self._inflated(entry)
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise _refused("zip-content", "an entry is not what its header states (length or checksum)")
        return data

    def _inflated(self, entry: Entry) -> bytes:
        inflater, left, parts, size = zlib.decompressobj(-zlib.MAX_WBITS), entry.compressed, list[bytes](), 0
        try:
            while left and not inflater.eof:
                chunk = self._file.read(min(_CHUNK, left))
                if not chunk:
                    break
                left -= len(chunk)
                parts.append(inflater.decompress(chunk, entry.size + 1 - size))
                size += len(parts[-1])
                if size > entry.size or inflater.unconsumed_tail:
                    raise _refused("zip-content", "an entry inflates to more than it states")
        except zlib.error:
            raise _refused("zip-content", "an entry cannot be inflated") from None
        if left or not inflater.eof or inflater.unused_data:
            raise _refused("zip-content", "an entry is cut, or holds bytes behind its end")
        return b"".join(parts)

    # -- the central directory -----------------------------------------------------------------------------------

    def _central(self, directory: _Directory) -> Iterator[Entry]:
        self._file.seek(directory.at)
        data = memoryview(self._file.read(directory.size))
        if len(data) != directory.size:
            raise _refused("zip-layout", "the central directory is cut")
        at, total = 0, 0
        for number in range(1, directory.entries + 1):
            entry, at = self._header(data, at, number)
            total += entry.size
            if total > self._limits.total:
                raise _refused("zip-limit", "its entries are too large together")
            yield entry
        if at != len(data):
            raise _refused("zip-layout", "the central directory holds more than the entries it counts")

    def _header(self, data: memoryview, at: int, number: int) -> tuple[Entry, int]:
        if at + _CENTRAL.size > len(data):
            raise _refused("zip-layout", f"the header of entry {number} is cut")
        (sign, made_by, _need, flags, method, _time, _day, crc, packed, size, *rest) = _CENTRAL.unpack_from(data, at)
        name_len, extra_len, comment_len, disk, _internal, external, offset = rest
        start = at + _CENTRAL.size
        end = start + name_len + extra_len + comment_len
        if sign != b"PK\x01\x02" or end > len(data):
            raise _refused("zip-layout", f"the header of entry {number} is none, or cut")
        raw, extra = bytes(data[start : start + name_len]), bytes(data[start + name_len : end - comment_len])
        size, packed, offset = _widened(extra, (size, packed, offset), number)
        if disk:
            raise _refused("zip-disks", f"entry {number} stands on another disk")
        if flags & _ENCRYPTED:
            raise _refused("zip-encrypted", f"entry {number} is encrypted")
        _check_kind(made_by >> 8, external, number)
        name = _name(raw, number)
        self._check_size(size, packed, method, number)
        return Entry(name, size, packed, crc, method, flags, offset), end

    def _check_size(self, size: int, packed: int, method: int, number: int) -> None:
        limits = self._limits
        if method not in {_STORED, _DEFLATED}:
            raise _refused("zip-method", f"entry {number} is compressed by another method than deflate")
        if method == _STORED and size != packed:
            raise _refused("zip-layout", f"entry {number} is stored and states two sizes")
        if size > limits.entry or (size > limits.free and size > limits.ratio * packed):
            raise _refused("zip-limit", f"entry {number} would inflate to {size} bytes")

    # -- the entries in their places -----------------------------------------------------------------------------

    def _check_places(self, listed: list[Entry], end: int) -> None:
        """Entries stand behind each other, each under a local header that says what the directory says."""
        placed: list[tuple[Entry, int]] = []
        at = 0
        described = False
        for entry in sorted(listed, key=lambda one: one.at):
            gap = entry.at - at
            if gap and not (described and gap in _DESCRIPTORS):
                raise _refused("zip-layout", "entries overlap, or bytes stand hidden between them")
            start = self._data_start(entry, end)
            placed.append((entry, start))
            at, described = start + entry.compressed, bool(entry.flags & _DESCRIBED_LATER)
        gap = end - at
        if gap and not (described and gap in _DESCRIPTORS):
            raise _refused("zip-layout", "entries overlap the directory, or bytes stand hidden before it")
        self._placed = placed

    def _data_start(self, entry: Entry, end: int) -> int:
        if entry.at + _LOCAL.size > end:
            raise _refused("zip-layout", "an entry stands behind the directory")
        self._file.seek(entry.at)
        header = _exactly(self._file, _LOCAL.size)
        sign, _need, flags, method, _time, _day, crc, packed, size, name_len, extra_len = _LOCAL.unpack(header)
        raw, extra = _exactly(self._file, name_len), _exactly(self._file, extra_len)
        if sign != b"PK\x03\x04" or (flags, method) != (entry.flags, entry.method):
            raise _refused("zip-layout", "a local header is none, or contradicts the directory")
        if _name(raw, 0) != entry.name:
            raise _refused("zip-layout", "a local header names another file than the directory")
        if not flags & _DESCRIBED_LATER:
            size, packed, _ = _widened(extra, (size, packed, 0), 0)
            if (size, packed, crc) != (entry.size, entry.compressed, entry.crc):
                raise _refused("zip-layout", "a local header states another size than the directory")
        return entry.at + _LOCAL.size + len(raw) + len(extra)


def _directory(file: BinaryIO, length: int) -> _Directory:
    """The end record, its comment reaching exactly to the end of the file, and the 64-bit one where it points."""
    tail_at = max(0, length - _END.size - _COMMENT_MAX)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and not _ends(tail, at):
        at = tail.rfind(b"PK\x05\x06", 0, at + 3)
    if at < 0:
        raise _refused("zip-form", "the file is no ZIP archive, or its end is missing")
    _sign, disk, first, here, entries, size, offset, _comment = _END.unpack_from(tail, at)
    end = tail_at + at
    found = _Directory(at=offset, size=size, entries=entries)
    if _LOCATOR.size <= at and tail.startswith(b"PK\x06\x07", at - _LOCATOR.size):
        found, end, here = _directory64(file, tail, at - _LOCATOR.size, end - _LOCATOR.size)
    if disk or first or here != found.entries:
        raise _refused("zip-disks", "the archive spans several disks")
    if found.at + found.size != end:
        raise _refused("zip-layout", "something stands before the archive, or between its directory and its end")
    return found


def _directory64(file: BinaryIO, tail: bytes, locator_at: int, locator: int) -> tuple[_Directory, int, int]:
    _sign, disk, place, disks = _LOCATOR.unpack_from(tail, locator_at)
    if disk or disks > 1 or place + _END64.size != locator:
        raise _refused("zip-layout", "the 64-bit end record is not where it is said to be")
    file.seek(place)
    sign, length, _by, _need, disk, first, here, entries, size, offset = _END64.unpack(_exactly(file, _END64.size))
    if sign != b"PK\x06\x06" or length != _END64.size - 12 or disk or first:
        raise _refused("zip-layout", "the 64-bit end record is none")
    return _Directory(at=offset, size=size, entries=entries), place, here


def _ends(tail: bytes, at: int) -> bool:
    if at + _END.size > len(tail):
        return False
    comment = int.from_bytes(tail[at + 20 : at + 22], "little")
    return len(tail) == at + _END.size + comment


def _widened(extra: bytes, fields: tuple[int, int, int], number: int) -> tuple[int, int, int]:
    """Size, compressed size and offset, from the 64-bit extra field where the 32-bit one is full (4.5.3)."""
    at = 0
    wide: bytes | None = None
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _ZIP64:
            if wide is not None:
                raise _refused("zip-layout", f"entry {number} states its 64-bit size twice")
            wide = extra[at + 4 : at + 4 + length]
        at += 4 + length
    values: list[int] = []
    for field in fields:
        if field != 0xFFFFFFFF:
            values.append(field)
            continue
        if wide is None or len(wide) < 8:
            raise _refused("zip-layout", f"entry {number} lacks its 64-bit size")
        values.append(int.from_bytes(wide[:8], "little"))
        wide = wide[8:]
    return values[0], values[1], values[2]


def _check_kind(system: int, external: int, number: int) -> None:
    """Only files and folders: a link, a device or a pipe has no place here."""
    kind = stat.S_IFMT(external >> 16)
    if system in {3, 19} and kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise _refused("zip-special", f"entry {number} is a link or a device")


def _name(raw: bytes, number: int) -> str:
    """The name with ``/`` between its parts. Windows programmes of old wrote a backslash."""
    try:
        name = raw.decode("ascii").replace("\\", "/")
    except UnicodeDecodeError:
        raise _refused("zip-name", f"entry {number} has a name that is not ASCII") from None
    parts = name.removesuffix("/").split("/")
    if len(name) > 240 or len(parts) > 12 or not all(_PART.fullmatch(part) for part in parts):
        raise _refused("zip-name", f"entry {number} has a name that leads elsewhere or is none")
    return name


def _check_names(listed: list[Entry]) -> None:
    """No two entries are one file to a system that ignores case, and no file is another's folder."""
    seen: set[str] = set()
    folders: set[str] = set()
    files: set[str] = set()
    for entry in listed:
        folded = entry.name.removesuffix("/").casefold()
        if folded in seen:
            raise _refused("zip-duplicate", "two entries have one name (but for upper and lower case)")
        seen.add(folded)
        (folders if entry.name.endswith("/") else files).add(folded)
        while "/" in folded:
            folded = folded.rpartition("/")[0]
            folders.add(folded)
    if not files.isdisjoint(folders):
        raise _refused("zip-duplicate", "an entry is a file and a folder")


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _refused("zip-layout", "the archive is cut")
    return data


def _refused(code: str, why: str) -> BadInput:
    return BadInput(
        f"ZIP archive: {why}", code=code, hint="let the sender make the archive again, or look at it by hand"
    )
