"""What the directory of a database must offer: a local file system, private files, one writer.

Invariants:

* a network file system is refused: neither its locks nor its fsync are to be trusted (FF-26);
* the database file is created with mode 0600 and its name is durable before anything is written into it;
* one process at a time holds the writer's lock, which the kernel drops when that process dies (F26).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from security.errors import Broken
from security.secrets import create_private

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "panfs", "smb3", "smbfs"}
    | {"fuse.ceph", "fuse.cephfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"}
)
"""Names under which Linux mounts file systems that live on another machine."""


def file_system(path: Path, mountinfo: str) -> str:
    """Type of the file system that holds ``path`` (absolute, resolved), "" when no line covers it.

    ``mountinfo``: text in the form of proc(5) ``/proc/pid/mountinfo``. The longest mount point that covers the
    path wins, the later line between equals (a mount on top of a mount).
    """
    best, kind = -1, ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = _unescape(before.split(" ")[4])
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), after.split(" ")[0]
    return kind


def require_local(folder: Path) -> None:
    """Refuse a directory on a network file system, or one that is not there.

    Raises:
        Broken: ``store-place``.
    """
    if not folder.is_dir():
        raise Broken(
            f"the directory {folder} of the database does not exist",
            code="store-place",
            hint="create it on a local disk, owned by the service's user, mode 0700",
        )
    kind = file_system(folder.resolve(), MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    if kind in NETWORK:
        raise Broken(
            f"the directory {folder} is on a network file system ({kind}), which can lose acknowledged work",
            code="store-place",
            hint="put the database on a local disk; copy it elsewhere with a backup or a replica",
        )


def require_file(path: Path, *, create: bool) -> None:
    """Make sure ``path`` is a private regular file; ``create`` makes an absent one, durably.

    Raises:
        Broken: ``store-place`` absent and not to be created, not a regular file, or open to others.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            create_private(path, b"")
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise Broken(
            f"there is no database at {path}", code="store-place", hint="check the path; only a writer creates it"
        ) from None
    if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
        raise Broken(
            f"{path} is not a regular file that only its owner may access ({stat.filemode(status.st_mode)})",
            code="store-place",
            hint=f"chmod 600 {path}, after finding out who could read it meanwhile",
        )


def take_lock(path: Path) -> int:
    """Become the only writer of the database: an open descriptor that holds the lock until it is closed.

    Raises:
        Broken: ``store-locked`` another writer is at work.
    """
    lock = path.with_name(path.name + ".lock")
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise Broken(
            f"process {holder or '(unknown)'} is writing to {path} (lock {lock.name})",
            code="store-locked",
            hint="stop that process, or let it do this work; never delete the lock file",
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def _unescape(text: str) -> str:
    """proc(5) writes blank, tab, newline and backslash of a path as three octal digits."""
    for escaped, plain in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escaped, plain)
    return text
