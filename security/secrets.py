"""Secrets come from files that only their owner may open; nothing else is a secret's home (T60).

Invariants:

* what is judged is the file that was opened, not the name that was looked up;
* a file is owned by this process's user or by root, and neither group nor others may access it;
* no message holds a byte of a secret.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from security.errors import Broken

SECRET_BYTES_MAX = 64 * 1024
KEK_BYTES = 32
KEK_DISTINCT_MIN = 14  # of 32 random bytes fewer than 14 are distinct less than once in 10^20


def read_secret(path: Path, *, what: str) -> bytes:
    """The bytes of a secret file, as they are (a text secret may end with a newline).

    ``what``: what the secret is for, as the operator knows it. A symbolic link is followed: its target is judged.

    Raises:
        Broken: ``secret-unreadable``, ``secret-exposed``, ``secret-unusable`` (not a regular file, empty, too long).
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise Broken(
            f"{what}: cannot open {path}: {error.strerror}",
            code="secret-unreadable",
            hint="create the file, owned by the service's user, mode 0400",
        ) from error
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Broken(f"{what}: {path} is not a regular file", code="secret-unusable", hint="name a file")
        if status.st_mode & 0o077 or status.st_uid not in {os.geteuid(), 0}:
            raise Broken(
                f"{what}: {path} is open to others ({stat.filemode(status.st_mode)}, owner {status.st_uid})",
                code="secret-exposed",
                hint="treat the secret as known and replace it; then chown it to the service's user and chmod 400",
            )
        data = file.read(SECRET_BYTES_MAX + 1)
    if not 0 < len(data) <= SECRET_BYTES_MAX:
        raise Broken(
            f"{what}: {path} holds {'nothing' if not data else f'more than {SECRET_BYTES_MAX} bytes'}",
            code="secret-unusable",
            hint="write the secret into the file",
        )
    return data


def read_kek(path: Path) -> bytes:
    """The key-encryption key: 32 bytes, stored raw or as 64 hexadecimal digits.

    Raises:
        Broken: as ``read_secret``; ``secret-unusable`` for any other form; ``secret-default`` for zeros, a repeated
            pattern and whatever else nobody drew at random.
    """
    data = read_secret(path, what="key-encryption key")
    key = data if len(data) == KEK_BYTES else _hexadecimal(data.strip())
    if key is not None and len(set(key)) >= KEK_DISTINCT_MIN:
        return key
    if key is not None:
        raise Broken(
            f"key-encryption key: {path} holds no random key",
            code="secret-default",
            hint="make one: poterne init; or 32 bytes of /dev/urandom, mode 0400",
        )
    raise Broken(
        f"key-encryption key: {path} holds neither 32 bytes nor 64 hexadecimal digits",
        code="secret-unusable",
        hint="restore the key that was kept apart from the backups; a new one cannot open existing data",
    )


def _hexadecimal(digits: bytes) -> bytes | None:
    try:
        return bytes.fromhex(digits.decode("ascii")) if len(digits) == 2 * KEK_BYTES else None
    except ValueError:
        return None  # the same refusal as any other form, without a byte of it


def previous_kek_file(path: Path) -> Path:
    """Where the key-encryption key before the one in ``path`` lies while anything needs it."""
    return path.with_name(path.name + ".previous")


def read_previous_kek(path: Path) -> bytes | None:
    """The key-encryption key before the one in ``path``, None when none is kept.

    Raises:
        Broken: as ``read_kek``.
    """
    previous = previous_kek_file(path)
    return read_kek(previous) if previous.exists() else None


def create_kek(path: Path) -> bytes:
    """Make a new key-encryption key in a file that must not exist yet; durable when this returns.

    Raises:
        Broken: ``secret-exists``.
    """
    kek = secrets.token_bytes(KEK_BYTES)
    try:
        create_private(path, kek.hex().encode() + b"\n")
    except FileExistsError:
        raise Broken(
            f"key-encryption key: {path} exists already",
            code="secret-exists",
            hint="keep it: data sealed under it can be opened with nothing else",
        ) from None
    return kek


def create_private(path: Path, data: bytes) -> None:
    """Create a file of mode 0600 with ``data``; the file and its name are durable when this returns.

    Raises:
        FileExistsError: something has that name, be it a dangling link.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - the descriptor made exclusively, not the name
        file.write(data)
        file.flush()
        os.fsync(fd)
    _sync_name(path)


def replace_private(path: Path, data: bytes) -> None:
    """Put ``data`` in place of a file, mode 0600, whole or not at all; durable when this returns."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    create_private(part, data)
    part.replace(path)
    _sync_name(path)


def _sync_name(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its writer
