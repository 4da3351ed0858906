"""Signed tree heads: what the trail was at a moment, under a key that is not in the trail.

A head says how many records there are, the root over all of them, the root over those that came since the head before
(so that what was altered later is found in its place), and when; Ed25519 over these words.

Invariants:

* heads are made of rows that are committed, in their order; a head is never changed, and none is made for nothing;
* a head needs only the leaves since the head before it;
* each key but the first is vouched for by the one before: whoever knows an old key knows whether the newest is ours;
* private keys are stored wrapped (AES key wrap, RFC 3394) by the key-encryption key alone.

Writing heads down outside is left to ``witness``, checking them to ``verifying``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from security.audit.tree import Frontier, root_of
from security.clock import from_ms, to_ms
from security.errors import Broken
from security.store.port import ReadTx, Row, Store, Tx

SEGMENT_MAX = 10_000
"""Records of one head at most: a trail that had none yet gets several."""
KEY_AGE_MAX = timedelta(days=365)
_VOUCH = b"poterne tree head key 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One signed tree head. ``size``: records covered; ``last_seq``: the number of the last one; ``root`` of all,
    ``segment`` of those since the head before; ``key``: the public key that signed, 32 bytes."""

    size: int
    last_seq: int
    root: bytes
    segment: bytes
    at: datetime
    key: bytes
    signature: bytes

    def signed(self) -> bytes:
        """The bytes under the signature."""
        said = {
            "at": to_ms(self.at),
            "last_seq": self.last_seq,
            "root": self.root.hex(),
            "segment": self.segment.hex(),
            "size": self.size,
        }
        return b"poterne tree head 1\n" + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()

    def is_signed(self) -> bool:
        """Whether ``signature`` is that of ``key`` over the head."""
        return _is_signed(self.key, self.signature, self.signed())


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the trail. ``public``: 32 bytes; ``vouched``: by the key before it, b"" for the first."""

    number: int
    public: bytes
    created_at: datetime
    vouched: bytes


def heads(tx: ReadTx, *, after: datetime | None = None) -> list[Head]:
    """The heads made later than ``after``, or every one; ascending."""
    since = -1 if after is None else to_ms(after)
    return [_head(row) for row in tx.rows("SELECT * FROM audit_head WHERE at > :since ORDER BY size", since=since)]


def covering(tx: ReadTx, seq: int) -> Head | None:
    """The first head that covers a record, None when none does yet."""
    rows = tx.rows("SELECT * FROM audit_head WHERE last_seq >= :seq ORDER BY size LIMIT 1", seq=seq)
    return _head(rows[0]) if rows else None


def between(tx: ReadTx, after: int, until: int) -> list[Head]:
    """The heads of a size above ``after``, up to ``until``, ascending."""
    found = tx.rows(
        "SELECT * FROM audit_head WHERE size > :after AND size <= :until ORDER BY size", after=after, until=until
    )
    return [_head(row) for row in found]


def newest(tx: ReadTx) -> Head | None:
    """The last head, None before the first."""
    rows = tx.rows("SELECT * FROM audit_head ORDER BY size DESC LIMIT 1")
    return _head(rows[0]) if rows else None


def keys(tx: ReadTx) -> list[Key]:
    """Every key, oldest first."""
    return [
        Key(
            number=row["number"],
            public=row["public"],
            created_at=from_ms(row["created_at"]),
            vouched=row["vouched"],
        )
        for row in tx.rows("SELECT number, public, created_at, vouched FROM audit_key ORDER BY number")
    ]


def vouched_for(keys: Iterable[Key], trusted: Iterable[bytes]) -> frozenset[bytes]:
    """Every key that one of the trusted ones vouches for, through those between, the trusted ones included."""
    known = set(trusted)
    before: bytes | None = None
    for key in keys:
        if before in known and before is not None and _is_signed(before, key.vouched, _VOUCH + key.public):
            known.add(key.public)
        before = key.public
    return frozenset(known)


class Sealer:
    """Makes the heads of one database. ``kek``: its key-encryption key; ``records`` or ``every``, whichever comes
    first, is when a head is due."""

    def __init__(
        self, store: Store, *, kek: bytes, records: int = 1_000, every: timedelta = timedelta(seconds=60)
    ) -> None:
        self._store = store
        self._keks: tuple[bytes, ...] = (kek,)
        self._records = records
        self._every = every

    async def step(self, now: datetime, *, at_once: bool = False) -> list[Head]:
        """The heads that were due; durable when this returns.

        Raises:
            Broken: ``audit-key`` the stored key does not open under the key-encryption key; as ``Store.write``.
        """
        if not await self._store.read(lambda tx: self._is_due(tx, now, at_once=at_once)):
            return []
        private = await self._store.write(lambda tx: self._key(tx, now))
        made: list[Head] = []
        while head := await self._store.write(lambda tx: _advance(tx, private, now)):
            made.append(head)
        return made

    def _is_due(self, tx: ReadTx, now: datetime, *, at_once: bool) -> bool:
        last = newest(tx)
        since = last.last_seq if last else 0
        rows = tx.rows("SELECT seq, at FROM audit_record WHERE seq > :since ORDER BY seq LIMIT 1", since=since)
        if not rows:
            return False
        waiting = tx.rows("SELECT MAX(seq) AS seq FROM audit_record")[0]["seq"] - since
        return at_once or waiting >= self._records or now - from_ms(rows[0]["at"]) >= self._every

    def _key(self, tx: Tx, now: datetime) -> Ed25519PrivateKey:
        """The key that signs now: made when there is none, followed by another when it is old."""
        rows = tx.rows("SELECT * FROM audit_key ORDER BY number DESC LIMIT 1")
        if rows and now - from_ms(rows[0]["created_at"]) < KEY_AGE_MAX:
            return self._opened(rows[0])
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        tx.change(
            "INSERT INTO audit_key (number, public, wrapped, created_at, vouched)"
            " VALUES (:number, :public, :wrapped, :created_at, :vouched)",
            number=rows[0]["number"] + 1 if rows else 1,
            public=public,
            wrapped=aes_key_wrap(self._keks[0], private.private_bytes_raw()),
            created_at=to_ms(now),
            vouched=self._opened(rows[0]).sign(_VOUCH + public) if rows else b"",
        )
        return private

    def adopt(self, kek: bytes) -> None:
        """Wrap under ``kek`` from now on: the key-encryption key is being changed, the one before still opens."""
        self._keks = (kek, self._keks[0])

    def _opened(self, row: Row) -> Ed25519PrivateKey:
        raw = b""
        for kek in self._keks:
            with contextlib.suppress(InvalidUnwrap):
                raw = aes_key_unwrap(kek, row["wrapped"])
        if not raw:
            raise Broken(
                f"the key {row['number']} of the audit trail does not open under this key-encryption key",
                code="audit-key",
                hint="give the key file that belongs to this database; it is kept apart from the backups",
            )
        private = Ed25519PrivateKey.from_private_bytes(raw)
        if private.public_key().public_bytes_raw() != row["public"]:
            raise Broken(
                f"the key {row['number']} of the audit trail is not the one that was written down",
                code="audit-key",
                hint="the database was altered: keep a copy of it, then run poterne audit verify --witness",
            )
        return private


def _advance(tx: Tx, private: Ed25519PrivateKey, now: datetime) -> Head | None:
    """The next head, over at most ``SEGMENT_MAX`` records; None when every record is under one."""
    before = tx.rows("SELECT size, last_seq, frontier FROM audit_head ORDER BY size DESC LIMIT 1")
    tree = Frontier.of(before[0]["size"], before[0]["frontier"]) if before else Frontier()
    since = before[0]["last_seq"] if before else 0
    rows = tx.rows(
        "SELECT seq, leaf FROM audit_record WHERE seq > :since ORDER BY seq LIMIT :many",
        since=since,
        many=SEGMENT_MAX,
    )
    if not rows:
        return None
    for row in rows:
        tree.add(row["leaf"])
    unsigned = Head(
        size=tree.size,
        last_seq=rows[-1]["seq"],
        root=tree.root(),
        segment=root_of(row["leaf"] for row in rows),
        at=from_ms(to_ms(now)),
        key=private.public_key().public_bytes_raw(),
        signature=b"",
    )
    signature = private.sign(unsigned.signed())
    tx.change(
        "INSERT INTO audit_head (size, last_seq, root, segment, frontier, at, key, signature)"
        " VALUES (:size, :last_seq, :root, :segment, :frontier, :at, :key, :signature)",
        size=unsigned.size,
        last_seq=unsigned.last_seq,
        root=unsigned.root,
        segment=unsigned.segment,
        frontier=tree.packed(),
        at=to_ms(unsigned.at),
        key=unsigned.key,
        signature=signature,
    )
    return _head(tx.rows("SELECT * FROM audit_head WHERE size = :size", size=unsigned.size)[0])


def leaves_until(tx: ReadTx, head: Head) -> Sequence[bytes]:
    """The leaf hashes that a head covers, in order."""
    rows = tx.rows("SELECT leaf FROM audit_record WHERE seq <= :last ORDER BY seq", last=head.last_seq)
    return [row["leaf"] for row in rows]


def _head(row: Row) -> Head:
    return Head(
        size=row["size"],
        last_seq=row["last_seq"],
        root=row["root"],
        segment=row["segment"],
        at=from_ms(row["at"]),
        key=row["key"],
        signature=row["signature"],
    )


def _is_signed(key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
