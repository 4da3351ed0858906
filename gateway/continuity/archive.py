"""The file that ``poterne backup`` writes and ``poterne restore`` reads: a tar of a database copy and what uses it.

``backup.json`` (first): version of the form, when, and SHA-256 and size of every other member, under an HMAC-SHA-256
whose key derives from the key-encryption key. Then ``gateway.db``, ``poterne.toml``, ``conf.d/*.toml``; ``kek`` only
when it was asked for.

Invariants:

* the identity-bearing columns are sealed as in the database: without the key file nobody reads a patient in it;
* a file that was changed, cut or made under another key is refused before anything is put in place;
* members are known by name, counted against what ``backup.json`` says, and written by us: no path of the file is
  followed, nothing is unpacked that is not listed.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from security.errors import BadInput, Broken
from security.parse.json import parse_json

FORM: Final = "poterne-backup-1"
HEAD: Final = "backup.json"
DATABASE: Final = "gateway.db"
KEK: Final = "kek"
_HEAD_BYTES_MAX: Final = 1024 * 1024
_SMALL_BYTES_MAX: Final = 4 * 1024 * 1024
_MEMBERS_MAX: Final = 200
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a backup says about itself. ``members``: SHA-256 and bytes by name."""

    made_at: str
    last_audit_no: int
    members: Mapping[str, tuple[str, int]]

    @property
    def has_key(self) -> bool:
        return KEK in self.members


def write(target: Path, files: Mapping[str, Path], *, kek: bytes, made_at: datetime, last_audit_no: int) -> str:
    """Write the archive to the new file ``target``, mode 0600, on stable storage; its SHA-256.

    Raises:
        Broken: ``backup-write``.
    """
    members = {name: (_digest_of(path), path.stat().st_size) for name, path in files.items()}
    head = {
        "form": FORM,
        "made_at": made_at.isoformat(timespec="seconds"),
        "last_audit_no": last_audit_no,
        "members": {name: {"sha256": digest, "bytes": size} for name, (digest, size) in members.items()},
    }
    told = json.dumps({"head": head, "hmac": _mac(head, kek)}, ensure_ascii=False, indent=1).encode()
    partial = target.with_name(target.name + ".part")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _add(tar, HEAD, io.BytesIO(told), len(told))
                for name, path in files.items():
                    with path.open("rb") as source:
                        _add(tar, name, source, members[name][1])
            out.flush()
            os.fsync(out.fileno())
        partial.rename(target)  # no hard link: many a network share knows none
        _sync(target.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise Broken(
            f"{target}: {error.strerror}",
            code="backup-write",
            hint="choose a new file in a folder of the service's user with enough room",
        ) from error
    return _digest_of(target)


def read(source: Path, *, kek: bytes | None, into: Path | None = None) -> Head:
    """Check the whole archive; with ``into``, an empty folder, also write its members there, mode 0600.

    ``kek``: the key-encryption key, None to take the one inside.

    Raises:
        BadInput: ``backup-form`` no backup of this programme; ``backup-damaged`` a member is not what the head says;
            ``backup-key`` made under another key, or changed.
    """
    try:
        with tarfile.open(source, mode="r:") as tar:
            return _read(tar, kek=kek, into=into)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _damaged(f"{source} cannot be read as a backup ({type(error).__name__})") from error


def _read(tar: tarfile.TarFile, *, kek: bytes | None, into: Path | None) -> Head:
    first = tar.next()
    if first is None or first.name != HEAD or not first.isreg() or first.size > _HEAD_BYTES_MAX:
        raise BadInput("the file is no backup of Poterne", code="backup-form", hint="name a file of poterne backup")
    told, head = _head(_stream(tar, first).read())
    small: dict[str, bytes] = {}
    seen: set[str] = set()
    while (member := tar.next()) is not None:
        expected = head.members.get(member.name)
        if expected is None or member.name in seen or not member.isreg() or member.size != expected[1]:
            raise _damaged("a member of the backup is not the one its head lists")
        seen.add(member.name)
        if member.name != DATABASE and member.size > _SMALL_BYTES_MAX:
            raise _damaged(f"{member.name} is larger than any configuration")
        if _copied(_stream(tar, member), member.name, into, small) != expected[0]:
            raise _damaged(f"{member.name} is not what was backed up")
    if seen != set(head.members) or DATABASE not in seen:
        raise _damaged("the backup is cut short")
    key = kek if kek is not None else _inner_key(small)
    if not hmac.compare_digest(told["hmac"], _mac(told["head"], key)):
        raise BadInput(
            "the backup was made under another key, or was changed",
            code="backup-key",
            hint="give the key file that the database had when it was backed up",
        )
    return head


def _inner_key(small: Mapping[str, bytes]) -> bytes:
    if KEK not in small:
        raise BadInput(
            "no key: the backup holds none",
            code="backup-key",
            hint="put the key file where [store] kek_file says, then restore",
        )
    raw = small[KEK]
    return raw if len(raw) == 32 else bytes.fromhex(raw.decode().strip())


def _head(data: bytes) -> tuple[dict[str, Any], Head]:
    """The head, checked for its form.

    Raises:
        BadInput: ``backup-form``.
    """
    try:
        told: Any = parse_json(data, what=HEAD)
        head = told["head"]
        members = {str(name): (str(one["sha256"]), int(one["bytes"])) for name, one in head["members"].items()}
        is_ours = head["form"] == FORM and isinstance(told["hmac"], str) and len(members) <= _MEMBERS_MAX
        made = Head(made_at=str(head["made_at"]), last_audit_no=int(head["last_audit_no"]), members=members)
    except (BadInput, KeyError, TypeError, ValueError, AttributeError):
        is_ours = False
    if not is_ours or not all(_is_member(name) for name in made.members):
        raise BadInput(
            "the file is no backup that this version knows",
            code="backup-form",
            hint="restore it with the version that wrote it, or a newer one",
        )
    return told, made


def _is_member(name: str) -> bool:
    folder, slash, file = name.rpartition("/")
    if slash:
        return folder == "conf.d" and file.endswith(".toml") and file not in {"", ".toml"} and "\\" not in file
    return name in {DATABASE, KEK, "poterne.toml"}


def _copied(source: IO[bytes], name: str, into: Path | None, small: dict[str, bytes]) -> str:
    """Read one member to its end, write it where it belongs; its SHA-256."""
    digest, kept = hashlib.sha256(), bytearray()
    out: IO[bytes] | None = None
    if into is not None:
        place = into / name
        place.parent.mkdir(mode=0o700, exist_ok=True)
        out = os.fdopen(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb")
    try:
        for chunk in _chunks(source):
            digest.update(chunk)
            if name == KEK:
                kept += chunk
            if out is not None:
                out.write(chunk)
        if out is not None:
            out.flush()
            os.fsync(out.fileno())
    finally:
        if out is not None:
            out.close()
    if name == KEK:
        small[KEK] = bytes(kept)
    return digest.hexdigest()


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise _damaged("a member of the backup is no file")
    return found


def _add(tar: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    tar.addfile(info, source)


def _mac(head: Mapping[str, Any], kek: bytes) -> str:
    key = hmac.digest(kek, b"poterne backup head", "sha256")
    told = json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.new(key, told, "sha256").hexdigest()


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for chunk in _chunks(source):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(what: str) -> BadInput:
    return BadInput(what, code="backup-damaged", hint="use another copy of this backup, or an older one")
