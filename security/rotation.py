"""Rotation of the key-encryption key: a new one in its file, every stored key wrapped again, the old one kept aside.

The old key lies beside the new one (``<file>.previous``, mode 0400) from before the first change until somebody takes
it away: nothing that is wrapped is ever without the key that opens it, wherever the process is killed.

Invariants:

* the old key is on stable storage under its own name before the new one takes its place, in one rename;
* a wrapped key is replaced in a transaction by the same key under the new one, or stays as it was;
* what opens under neither key stops the rotation, and both files stay;
* beginning again goes on where the last try ended;
* the old key goes only when no stored key needs it.

Leaves to others: which process holds opened keys, who asked, the audit record.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from security.crash import crash_point
from security.errors import Broken, Refused
from security.secrets import (
    KEK_BYTES,
    create_private,
    previous_kek_file,
    read_kek,
    read_previous_kek,
    replace_private,
)
from security.store.port import ReadTx, Store, Tx

WRAPPED_IN = ("data_key", "audit_key")
"""Every table of the ground floor whose column ``wrapped`` is a key under the key-encryption key (RFC 3394)."""
BATCH = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many stored keys are under the key in use, and under the one before; whether that one still lies there."""

    current: int
    previous: int
    has_previous: bool


def begin(file: Path) -> bool:
    """Put a new key in ``file``, the old one beside it; False when a rotation has begun already.

    Raises:
        Broken: ``kek-place`` the folder takes no file; as ``read_kek``.
    """
    current, previous = read_kek(file), previous_kek_file(file)
    try:
        kept = read_previous_kek(file)
        if kept is not None and kept != current:
            return False
        if kept is None:
            create_private(previous, current.hex().encode() + b"\n")
        previous.chmod(0o400)
        crash_point("kek-kept")
        replace_private(file, secrets.token_bytes(KEK_BYTES).hex().encode() + b"\n")
    except OSError as error:
        raise Broken(
            f"{file.parent}: {error.strerror}",
            code="kek-place",
            hint=f"let the service write there, or put the old key in {previous.name} and a new one in {file.name}"
            " yourself, and restart",
        ) from error
    crash_point("kek-replaced")
    return True


async def finish(store: Store, file: Path, note: Callable[[Tx, int], None]) -> int:
    """Wrap again, some at a time, every key that is still under the old one; how many there were. Without an old key
    there is nothing to do. ``note``: writes the audit record of so many keys, in their transaction.

    Raises:
        Broken: ``seal-wrong-kek`` a stored key opens under neither; as ``read_kek``.
    """
    old = read_previous_kek(file)
    if old is None:
        return 0
    new, done = read_kek(file), 0

    def some(tx: Tx) -> int:
        if changed := _rewrap(tx, new, old):
            note(tx, changed)
        return changed

    while changed := await store.write(some):
        done += changed
        crash_point("kek-rewrapped")
    return done


def standing(tx: ReadTx, file: Path) -> Standing:
    """Where the rotation stands.

    Raises:
        Broken: as ``finish``.
    """
    new, old = read_kek(file), read_previous_kek(file)
    under = [_is_under(wrapped, new, old) for table in WRAPPED_IN for wrapped in _rows(tx, table)]
    return Standing(current=under.count(True), previous=under.count(False), has_previous=old is not None)


async def forget_previous(store: Store, file: Path, note: Callable[[Tx], None]) -> None:
    """Remove the old key. What was backed up before the rotation opens with a copy of it or not at all.

    Raises:
        Refused: ``kek-in-use`` stored keys are under it; ``no-previous-kek``. Broken: as ``finish``.
    """

    def allowed(tx: Tx) -> None:
        stands = standing(tx, file)
        if not stands.has_previous:
            raise Refused("no old key is kept", code="no-previous-kek", hint="nothing is to be done")
        if stands.previous or read_previous_kek(file) == read_kek(file):
            raise Refused(
                f"{stands.previous} stored keys still need the old key",
                code="kek-in-use",
                hint="finish the rotation first: poterne certs keys rotate",
            )
        note(tx)

    await store.write(allowed)
    previous_kek_file(file).unlink()


def _rewrap(tx: Tx, new: bytes, old: bytes) -> int:
    changed = 0
    for table in WRAPPED_IN:
        for wrapped in _rows(tx, table):
            if changed == BATCH:
                return changed
            if _is_under(wrapped, new, old):
                continue
            again = aes_key_wrap(new, aes_key_unwrap(old, wrapped))
            sql = f"UPDATE {table} SET wrapped = :again WHERE wrapped = :was"  # noqa: S608 - names of ours
            changed += tx.change(sql, again=again, was=wrapped)
    return changed


def _rows(tx: ReadTx, table: str) -> list[bytes]:
    return [row["wrapped"] for row in tx.rows(f"SELECT wrapped FROM {table}")]  # noqa: S608 - names of ours


def _is_under(wrapped: bytes, new: bytes, old: bytes | None) -> bool:
    """Whether a stored key opens under the new key; False: under the old one."""
    for key in (new, old):
        if key is None:
            continue
        try:
            aes_key_unwrap(key, wrapped)
        except InvalidUnwrap:
            continue
        return key is new
    raise Broken(
        "a stored key opens neither under the key-encryption key nor under the one before",
        code="seal-wrong-kek",
        hint="give the key file that belongs to this database; both key files stay as they are",
    )
