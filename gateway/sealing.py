"""The keys of what is sealed, as commands ask for them: where they stand, changing and destroying them.

Each order leaves its record in the audit trail, and the running vault follows what the database holds. The keys of a
configured legal entity are not destroyed: it has to be taken out of the configuration first, so that nothing still
works for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.facts import Facts, Operation, Say, fact
from security import audit, rotation
from security.clock import Clock
from security.errors import Refused
from security.seal import Vault
from security.secrets import read_kek
from security.store.port import Store, Tx

ROTATED, RENEWED, ERASED, FORGOTTEN = "kek.rotated", "data-key.renewed", "data-key.erased", "kek.previous-removed"


class Sealing:
    """The keys of one gateway. ``in_use``: tenants whose keys may not be destroyed; ``adopt``: told of a new
    key-encryption key before anything is wrapped under it."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        kek_file: Path,
        clock: Clock,
        in_use: Collection[str],
        adopt: Callable[[bytes], None],
    ) -> None:
        self._store = store
        self._vault = vault
        self._file = kek_file
        self._clock = clock
        self._in_use = in_use
        self._adopt = adopt
        self._one_at_a_time = asyncio.Lock()

    def by_name(self) -> Mapping[str, Operation]:
        """What commands may ask for."""
        return {
            "keys-show": self._show,
            "keys-rotate": self._rotate,
            "keys-renew": self._renew,
            "keys-erase": self._erase,
            "keys-forget": self._forget,
        }

    async def _show(self, _facts: Facts, _hear: Say) -> dict[str, Any]:
        stands = await self._store.read(lambda tx: rotation.standing(tx, self._file))
        keys = await self._store.read(
            lambda tx: tx.rows(
                "SELECT tenant, COUNT(*) AS many, MAX(created_at) AS newest FROM data_key WHERE purpose = 'seal'"
                " GROUP BY tenant ORDER BY tenant"
            )
        )
        return {
            "current": stands.current,
            "previous": stands.previous,
            "has_previous": stands.has_previous,
            "tenants": {row["tenant"]: {"keys": row["many"], "newest_ms": row["newest"]} for row in keys},
        }

    async def _rotate(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        async with self._one_at_a_time:
            is_new = await asyncio.to_thread(rotation.begin, self._file)
            if is_new:
                self._adopt(read_kek(self._file))
            done = await rotation.finish(
                self._store, self._file, lambda tx, many: rotated(tx, self._clock.now(), many, fact(facts, "actor"))
            )
            if not done:
                raise Refused(
                    "the last rotation is complete and its old key is still kept",
                    code="kek-previous-kept",
                    hint="keep a copy of it as long as backups made before; then poterne certs keys forget",
                )
            return {"wrapped": done}

    async def _renew(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        async with self._one_at_a_time:
            tenant, kek = fact(facts, "tenant"), read_kek(self._file)
            number = await self._vault.renew(
                self._store, kek, tenant, self._clock, lambda tx: self._note(tx, facts, RENEWED, tenant)
            )
            return {"tenant": tenant, "key": number}

    async def _erase(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        tenant, reason = fact(facts, "tenant"), fact(facts, "reason")
        if tenant in self._in_use:
            raise Refused(
                f"{tenant} is configured: its keys are in use",
                code="tenant-configured",
                hint="take its section out of the configuration and restart, then destroy its keys",
            )
        async with self._one_at_a_time:
            gone = await self._vault.erase(
                self._store, tenant, lambda tx: self._note(tx, facts, ERASED, tenant, reason)
            )
            return {"tenant": tenant, "keys": gone}

    async def _forget(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        async with self._one_at_a_time:
            actor = fact(facts, "actor")
            await rotation.forget_previous(
                self._store, self._file, lambda tx: _of_kek(tx, self._clock.now(), FORGOTTEN, actor, "")
            )
            return {}

    def _note(self, tx: Tx, facts: Facts, event: str, tenant: str, detail: str = "") -> None:
        actor = fact(facts, "actor")
        record = _record(self._clock.now(), event, actor, "tenant", tenant, tenant=tenant, detail=detail)
        audit.append(tx, record)


def rotated(tx: Tx, now: datetime, many: int, actor: str) -> None:
    """Record that so many stored keys are under the new key-encryption key."""
    _of_kek(tx, now, ROTATED, actor, f"{many} keys")


def _of_kek(tx: Tx, now: datetime, event: str, actor: str, detail: str) -> None:
    audit.append(tx, _record(now, event, actor, "key", "key-encryption key", detail=detail))


def _record(
    now: datetime, event: str, actor: str, kind: str, name: str, *, tenant: str = "", detail: str = ""
) -> audit.AuditRecord:
    return audit.AuditRecord(
        tenant=tenant, zone="host", at=now, event=event, actor=actor, outcome=0, object_type=kind, object_id=name,
        detail=detail,
    )  # fmt: skip
