"""Large foreign objects at rest: sealed files in a folder of their own, durable before anybody hears of it (I1, T07).

A file is ``magic (8) ‖ object id (16) ‖ length (2) ‖ sealed key ‖ segments``. The key is the object's own, random,
and sealed by the tenant's vault. A segment is AES-256-GCM over at most 256 KiB; its nonce is its number and whether
it is the last, so that a segment that was cut off, moved or swapped does not open (T65).

Invariants:

* a name is made of hashes only, never of anything a peer sent;
* what has its final name is complete and on stable storage: written under another name, ``fdatasync``, rename,
  ``fsync`` of the folder; only then may a row speak of it;
* a failed ``fsync`` is final (F03): the spool takes nothing more until it is opened anew;
* files have mode 0600, folders 0700; symbolic links are not followed.

Leaves to others: rows, what an object is, when it may go.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from security.crash import crash_point
from security.errors import Broken, Unavailable
from security.seal import KEY_BYTES, TAG_BYTES, Vault

SEGMENT_BYTES = 256 * 1024  # small enough that many objects at once stay cheap to hold
MAGIC = b"POTERNE\x01"
_ID_BYTES = 16
_LENGTH = struct.Struct(">H")
_NONCE = struct.Struct(">QI")  # number of the segment, 1 for the last
_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}\.[0-9a-f]{64}", re.ASCII)
_PARTS = "part"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """The folder of one tenant. Methods block: call them off the event loop, each draft from one thread at a time."""

    def __init__(self, folder: Path, *, tenant: str, vault: Vault, free_bytes_min: int = 0) -> None:
        self._folder = folder
        self._tenant = tenant
        self._vault = vault
        self._free_bytes_min = free_bytes_min
        self._is_broken = False

    @classmethod
    def open(cls, folder: Path, *, tenant: str, vault: Vault, free_bytes_min: int = 0) -> Spool:
        """The spool in ``folder``, made if it is not there; what was unfinished when the process died is removed.

        Raises:
            Broken: ``spool-place`` the folder cannot be made or used, or others may change it.
        """
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
            if not folder.is_dir() or folder.is_symlink() or status.st_mode & 0o077 or status.st_uid != os.geteuid():
                raise _misplaced(folder, "is no folder of this service's user alone")
            for name in (_PARTS, *(f"{number:02x}" for number in range(256))):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
            for part in (folder / _PARTS).iterdir():
                part.unlink()
            _sync_folder(folder)
        except OSError as error:
            raise _misplaced(folder, error.strerror or "cannot be used") from error
        return cls(folder, tenant=tenant, vault=vault, free_bytes_min=free_bytes_min)

    def has_room(self) -> bool:
        """Whether an object may be begun: the spool is sound, and the disk keeps its reserve."""
        try:
            status = os.statvfs(self._folder)
        except OSError:
            return False
        return not self._is_broken and status.f_bavail * status.f_frsize > self._free_bytes_min

    def draft(self) -> Draft:
        """A new object, nameless until ``place``.

        Raises:
            Unavailable: ``spool-full``. Broken: ``spool-broken``.
        """
        identity = secrets.token_bytes(_ID_BYTES)
        key = secrets.token_bytes(KEY_BYTES)
        sealed = self._vault.seal(self._tenant, _context(identity), key)
        with self.judged(is_final=False):
            path = self._folder / _PARTS / identity.hex()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o600)
            head = MAGIC + identity + _LENGTH.pack(len(sealed)) + sealed
            return Draft(self, path, descriptor, head, AESGCM(key))

    def place(self, drafts: Iterable[tuple[Draft, str]]) -> None:
        """Give closed drafts their names, durably; what had a name before is replaced (it has the same content).

        Raises:
            Broken: ``spool-broken``; Unavailable: ``spool-full``; none of them may be acknowledged.
        """
        with self.judged(is_final=True):
            folders = set()
            for draft, name in drafts:
                assert _NAME.fullmatch(name), "a name is made of hashes"
                draft.path.rename(self._folder / name)
                draft.is_placed = True
                folders.add(name[:2])
            crash_point("spool-renamed")
            for folder in folders:
                _sync_folder(self._folder / folder)
            crash_point("spool-folder-synced")

    def names(self) -> Iterator[str]:
        """Every object that has a name.

        Raises:
            Broken: ``spool-broken`` the folders cannot be listed.
        """
        with self.judged(is_final=False):
            for number in range(256):
                for file in (self._folder / f"{number:02x}").iterdir():
                    name = f"{number:02x}/{file.name}"
                    if _NAME.fullmatch(name):
                        yield name

    def read(self, name: str) -> Iterator[bytes]:
        """The object's bytes, piece by piece.

        Raises:
            Broken: ``spool-unreadable`` it is gone, cut, altered, or sealed under another key.
        """
        if not _NAME.fullmatch(name):
            raise _unreadable(name)
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(self._folder / name, "rb", opener=lambda path, _: os.open(path, flags)) as file:
                yield from self._opened(name, file.read)
        except (OSError, InvalidTag, struct.error) as error:
            raise _unreadable(name) from error

    def _opened(self, name: str, read: object) -> Iterator[bytes]:
        assert callable(read)
        magic, identity = read(len(MAGIC)), read(_ID_BYTES)
        if magic != MAGIC:
            raise _unreadable(name)
        (length,) = _LENGTH.unpack(read(_LENGTH.size))
        key = AESGCM(self._vault.open(self._tenant, _context(identity), read(length)))
        number, sealed = 0, read(SEGMENT_BYTES + TAG_BYTES)
        while True:
            following = read(SEGMENT_BYTES + TAG_BYTES)
            yield key.decrypt(_NONCE.pack(number, not following), sealed, identity)
            if not following:
                return
            number, sealed = number + 1, following

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects that are needed here no more; one that is gone already is no fault.

        Raises:
            Broken: ``spool-broken``.
        """
        with self.judged(is_final=False):
            for name in names:
                assert _NAME.fullmatch(name), "a name is made of hashes"
                (self._folder / name).unlink(missing_ok=True)

    def quarantine_unreadable(self, name: str) -> None:
        """Take a file that does not open, or is not what its name says, out of the way, keeping its bytes.

        Raises:
            Broken: ``spool-broken``; Unavailable: ``spool-full``.
        """
        folder = self._folder / "unreadable"
        with self.judged(is_final=False):
            folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / name).rename(folder / name.replace("/", "-"))

    @contextlib.contextmanager
    def judged(self, *, is_final: bool) -> Iterator[None]:
        """Turns an error of the disk into a fault. ``is_final``: after it nothing here can be trusted any more."""
        if self._is_broken:
            raise _broken("an earlier fsync failed")
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise Unavailable(
                    "the disk of received objects is full", code="spool-full", hint="free space on its file system"
                ) from error
            self._is_broken = self._is_broken or is_final
            raise _broken(error.strerror or "input/output error") from error


class Draft:
    """An object that is being written. ``discard`` it whatever happens: once placed, that does nothing."""

    def __init__(self, spool: Spool, path: Path, descriptor: int, head: bytes, key: AESGCM) -> None:
        self.path = path
        self.is_placed = False
        self._spool = spool
        self._descriptor = descriptor
        self._head = head
        self._key = key
        self._identity = head[len(MAGIC) : len(MAGIC) + _ID_BYTES]
        self._rest = bytearray()
        self._number = 0

    def add(self, data: bytes | bytearray) -> None:
        """The next bytes.

        Raises:
            Unavailable: ``spool-full``. Broken: ``spool-broken``.
        """
        self._rest += data
        with self._spool.judged(is_final=False):
            while len(self._rest) > SEGMENT_BYTES:
                with memoryview(self._rest) as view:
                    self._write(view[:SEGMENT_BYTES], is_last=False)
                del self._rest[:SEGMENT_BYTES]

    def close(self) -> None:
        """There is no more: on stable storage when this returns, still without a name.

        Raises:
            Unavailable: ``spool-full``. Broken: ``spool-broken``.
        """
        with self._spool.judged(is_final=False):
            self._write(self._rest, is_last=True)
            self._rest = bytearray()
        crash_point("spool-written")
        try:
            with self._spool.judged(is_final=True):
                os.fdatasync(self._descriptor)
        finally:
            self._release()
        crash_point("spool-synced")

    def discard(self) -> None:
        """Forget it. Idempotent."""
        self._release()
        if not self.is_placed:
            self.path.unlink(missing_ok=True)

    def _write(self, plain: bytearray | memoryview, *, is_last: bool) -> None:
        nonce = _NONCE.pack(self._number, is_last)
        self._number += 1
        data = memoryview(self._head + self._key.encrypt(nonce, plain, self._identity))
        self._head = b""
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _context(identity: bytes) -> str:
    return f"spool.key/{identity.hex()}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _misplaced(folder: Path, why: str) -> Broken:
    return Broken(
        f"{folder}: {why}",
        code="spool-place",
        hint="a folder on a local disk, mode 0700, owned by the service's user; its parent must exist",
    )


def _broken(why: str) -> Broken:
    return Broken(
        f"received objects cannot be written: {why}",
        code="spool-broken",
        hint="check the disk and its mount, then restart the service: nothing that was confirmed is lost",
    )


def _unreadable(name: str) -> Broken:
    return Broken(
        f"the received object {name[:16]}… does not open: gone, altered, or sealed under another key",
        code="spool-unreadable",
        hint="check the disk; ask the sender for the object again",
    )
