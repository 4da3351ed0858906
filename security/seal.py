"""Sealed columns and blind indexes: what a stolen database file or backup does not tell (T65).

A sealed value is ``version (1 byte) ‖ key id (2) ‖ nonce (12) ‖ AES-256-GCM ciphertext and tag``. The tenant and a
context such as ``report.content/<id>`` are authenticated with it, so that a value copied to another row, column or
tenant does not open.

Invariants:

* each tenant has its own 256-bit sealing and blinding keys, made at random, stored only wrapped (AES key wrap,
  RFC 3394) by the key-encryption key, which is in a file apart from the database and its backups;
* every stored key must open under the given key-encryption key before any new one is made: a wrong one never
  leaves keys behind;
* nonces are random, 96 bits: a sealing key is good for 2³² values (NIST SP 800-38D §8.3).

Leaves to others: normalising what is looked up (the caller gives NFC text), who may see what was opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from security.clock import Clock, to_ms
from security.errors import Broken
from security.store.port import ReadTx, Store, Tx

VERSION = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 3
KEY_ID_MAX = 65_535
PURPOSES = ("seal", "blind")


@dataclass(frozen=True, slots=True)
class _KeyName:
    tenant: str
    purpose: str
    key_id: int


_Keys = Mapping[_KeyName, bytes]


class Vault:
    """Opens and closes sealed values, and computes blind indexes, for every tenant that has keys in the database.

    A tenant's newest sealing key seals, each of its keys opens. Its blinding key stays: a second would hide what
    was indexed under the first.
    """

    def __init__(self, keys: _Keys) -> None:
        newest = {(name.tenant, name.purpose): name.key_id for name in sorted(keys, key=lambda name: name.key_id)}
        self._newest = {tenant: key_id for (tenant, purpose), key_id in newest.items() if purpose == "seal"}
        self._sealing = {(n.tenant, n.key_id): AESGCM(key) for n, key in keys.items() if n.purpose == "seal"}
        self._blinding = {n.tenant: key for n, key in keys.items() if n.purpose == "blind" and n.key_id == 1}

    @classmethod
    async def load(
        cls, store: Store, kek: bytes, tenants: Iterable[str], clock: Clock, *, previous: bytes | None = None
    ) -> Self:
        """The vault of a database, with keys made and stored for tenants that have none.

        ``previous``: the key-encryption key before, while a rotation to ``kek`` may be unfinished.

        Raises:
            Broken: ``seal-wrong-kek`` a stored key does not open under ``kek``, or it is not 32 bytes.
        """
        if len(kek) != KEY_BYTES:
            raise Broken("the key-encryption key has not 32 bytes", code="seal-wrong-kek", hint=_KEK_HINT)
        wanted = {_KeyName(tenant, purpose, 1) for tenant in tenants for purpose in PURPOSES}
        keks = (kek,) if previous is None else (kek, previous)
        keys = await store.read(lambda tx: _stored(tx, keks))
        if not wanted <= keys.keys():
            keys = await store.write(lambda tx: _complete(tx, keks, wanted, to_ms(clock.now())))
        return cls(keys)

    async def renew(self, store: Store, kek: bytes, tenant: str, clock: Clock, note: Callable[[Tx], None]) -> int:
        """Seal from now on under a new key of ``tenant``; its number. What was sealed before opens as before.

        ``note``: writes the audit record, in the same transaction.

        Raises:
            Broken: ``seal-no-key``; ``seal-keys-full`` 65,535 keys were made.
        """
        if tenant not in self._newest:
            raise _no_key(tenant)
        key = secrets.token_bytes(KEY_BYTES)

        def work(tx: Tx) -> int:
            rows = tx.rows("SELECT key_id FROM data_key WHERE tenant = :tenant AND purpose = 'seal'", tenant=tenant)
            name = _KeyName(tenant, "seal", max(row["key_id"] for row in rows) + 1)
            if name.key_id > KEY_ID_MAX:
                raise Broken("no number is left for a key", code="seal-keys-full", hint="move the tenant elsewhere")
            _insert(tx, kek, name, key, to_ms(clock.now()))
            note(tx)
            return name.key_id

        key_id = await store.write(work)
        self._sealing[tenant, key_id] = AESGCM(key)
        self._newest[tenant] = key_id
        return key_id

    async def erase(self, store: Store, tenant: str, note: Callable[[Tx], None]) -> int:
        """Destroy every key of ``tenant``; how many. Nothing that was sealed for it opens again, by anybody.

        The wrapped keys are overwritten before they are deleted; copies in backups and in pages the engine no longer
        uses are worth nothing once the key-encryption key of their time is destroyed too.

        Raises:
            Broken: ``seal-no-key``.
        """
        if tenant not in self._newest:
            raise _no_key(tenant)

        def work(tx: Tx) -> int:
            tx.change("UPDATE data_key SET wrapped = :zeros WHERE tenant = :tenant", zeros=bytes(40), tenant=tenant)
            gone = tx.change("DELETE FROM data_key WHERE tenant = :tenant", tenant=tenant)
            note(tx)
            return gone

        gone = await store.write(work)
        self._newest.pop(tenant)
        self._blinding.pop(tenant, None)
        for name in [name for name in self._sealing if name[0] == tenant]:
            del self._sealing[name]
        return gone

    def seal(self, tenant: str, context: str, plaintext: bytes) -> bytes:
        """The sealed form of ``plaintext``: 31 bytes longer, different each time.

        Raises:
            Broken: ``seal-no-key``.
        """
        if tenant not in self._newest:
            raise _no_key(tenant)
        key_id = self._newest[tenant]
        header = VERSION + key_id.to_bytes(2, "big")
        nonce = secrets.token_bytes(NONCE_BYTES)
        body = self._sealing[tenant, key_id].encrypt(nonce, plaintext, _bound(header, tenant, context))
        return header + nonce + body

    def open(self, tenant: str, context: str, sealed: bytes) -> bytes:
        """What was sealed for this tenant and context.

        Raises:
            Broken: ``seal-broken`` one bit is not as it was sealed, or it was sealed for another tenant or
                context; ``seal-no-key``.
        """
        if tenant not in self._newest:
            raise _no_key(tenant)
        header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        nonce, body = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        if len(body) < TAG_BYTES or header[:1] != VERSION:
            raise _broken(tenant, context)
        try:
            key = self._sealing[tenant, int.from_bytes(header[1:], "big")]
            return key.decrypt(nonce, body, _bound(header, tenant, context))
        except (KeyError, InvalidTag):
            raise _broken(tenant, context) from None

    def blind(self, tenant: str, field: str, value: str) -> bytes:
        """Blind index of ``value`` (NFC text) in ``field``: HMAC-SHA-256 under the tenant's key, 32 bytes.

        Raises:
            Broken: ``seal-no-key``.
        """
        if tenant not in self._blinding:
            raise _no_key(tenant)
        return hmac.digest(self._blinding[tenant], _prefixed(field) + value.encode(), hashlib.sha256)


_KEK_HINT = "give the key file that belongs to this database; it is kept apart from the backups"


def _stored(tx: ReadTx, keks: Sequence[bytes]) -> dict[_KeyName, bytes]:
    keys: dict[_KeyName, bytes] = {}
    for row in tx.rows("SELECT tenant, purpose, key_id, wrapped FROM data_key"):
        key = _unwrapped(row["wrapped"], keks)
        if key is None:
            raise Broken(
                f"the {row['purpose']} key {row['key_id']} of tenant {row['tenant']} does not open under this"
                " key-encryption key",
                code="seal-wrong-kek",
                hint=_KEK_HINT,
            )
        keys[_KeyName(row["tenant"], row["purpose"], row["key_id"])] = key
    return keys


def _unwrapped(wrapped: bytes, keks: Sequence[bytes]) -> bytes | None:
    for kek in keks:
        with contextlib.suppress(InvalidUnwrap):
            return aes_key_unwrap(kek, wrapped)
    return None


def _complete(tx: Tx, keks: Sequence[bytes], wanted: Iterable[_KeyName], now: int) -> dict[_KeyName, bytes]:
    keys = _stored(tx, keks)
    for name in wanted:
        if name not in keys:
            keys[name] = secrets.token_bytes(KEY_BYTES)
            _insert(tx, keks[0], name, keys[name], now)
    return keys


def _insert(tx: Tx, kek: bytes, name: _KeyName, key: bytes, now: int) -> None:
    tx.change(
        "INSERT INTO data_key (tenant, purpose, key_id, wrapped, created_at)"
        " VALUES (:tenant, :purpose, :key_id, :wrapped, :now)",
        tenant=name.tenant,
        purpose=name.purpose,
        key_id=name.key_id,
        wrapped=aes_key_wrap(kek, key),
        now=now,
    )


def _bound(header: bytes, tenant: str, context: str) -> bytes:
    return header + _prefixed(tenant) + context.encode()


def _prefixed(text: str) -> bytes:
    """Length, then text: no two pairs of texts give the same bytes."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


def _broken(tenant: str, context: str) -> Broken:
    return Broken(
        f"the sealed value {context} of tenant {tenant} does not open: altered, moved or sealed under another key",
        code="seal-broken",
        hint="check the database against its backup; the audit trail says who last changed the row",
    )


def _no_key(tenant: str) -> Broken:
    return Broken(
        f"there is no key for tenant {tenant!r}",
        code="seal-no-key",
        hint="name the tenant in the configuration of this process",
    )
