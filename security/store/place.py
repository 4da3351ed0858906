"""Where a database is, and what that place must offer: a local file system, private files, one writer; or a server
that is safe to talk to.

Invariants:

* a network file system is refused: neither its locks nor its fsync are to be trusted (FF-26);
* the database file is created with mode 0600 and its name is durable before anything is written into it;
* one process at a time holds the writer's lock, which the kernel drops when that process dies (F26);
* a server on another machine is reached by TLS alone, its certificate and name verified.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import stat
from dataclasses import dataclass, field
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
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPlace:
    """A schema of a PostgreSQL database, and how to get there.

    ``host``: a name, an address, or the folder of a Unix socket. ``schema``: holds every table, made by the writer.
    ``ca_file`` makes the connection TLS with a verified peer, and is required beyond this machine;
    ``certificate_file`` and ``key_file`` are ours; ``crl_file``: revocation lists of all its authorities. Times in
    seconds. The password is never part of a text.

    Raises:
        Broken: ``store-place`` another machine without ``ca_file``, or a schema with a strange name.
    """

    host: str
    port: int = 5432
    database: str
    user: str
    password: str = field(default="", repr=False)
    schema: str = "poterne"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    crl_file: Path | None = None
    connect_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise Broken(
                f"{self.schema!r} is no name for a schema",
                code="store-place",
                hint="lower-case letters, digits and underscores, at most 63",
            )
        if self.ca_file is None and not is_this_machine(self.host):
            raise Broken(
                f"{self}: a server on another machine is reached by TLS only",
                code="store-place",
                hint="name the authority that signed the server's certificate (ca_file)",
            )

    def __str__(self) -> str:
        return f"PostgreSQL {self.host}:{self.port}/{self.database}.{self.schema}"


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is the folder of a Unix socket or a loopback address, without asking a name server."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
