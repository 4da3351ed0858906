"""A DICOM door for tests: a listener with services of the test's choice, an inbox on a real database and spool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from ssl import SSLContext

from gateway.components import COMPONENTS
from gateway.dimse import inbox
from gateway.dimse.limits import Limits
from gateway.dimse.listener import DimseListener
from gateway.dimse.negotiation import Terms
from gateway.dimse.peers import KnownPeer, PeerTable
from gateway.dimse.services import Admitted, Services
from gateway.dimse.storage import Storage
from gateway.dimse.storage import Terms as StorageTerms
from security.clock import SystemClock
from security.seal import Vault
from security.spool import Spool
from security.store.opening import StorePlace, open_store
from security.store.port import Row, Store

TENANT = "site"
AET = "POTERNE"
LOOPBACK = (ip_network("127.0.0.0/8"),)
STORES = Terms(stores=True, deflated=True)


def peer(aet: str = "SCU", *, terms: Terms = STORES, fingerprint: str = "", **changes: object) -> KnownPeer:
    """A peer on loopback."""
    admitted = Admitted(name=aet.lower(), terms=terms, **changes)  # type: ignore[arg-type]
    return KnownPeer(aet=aet, networks=LOOPBACK, fingerprint=fingerprint, admitted=admitted)


@dataclass(kw_only=True)
class Door:
    """A running door and what it keeps."""

    listener: DimseListener
    store: Store
    spool: Spool
    storage: Storage
    observed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listener.port

    async def rows(self) -> list[Row]:
        """Every received object, oldest first."""
        return await self.store.read(lambda tx: tx.rows("SELECT * FROM received_object ORDER BY object_id"))

    async def held(self) -> inbox.Held:
        return await self.store.read(lambda tx: inbox.held(tx, TENANT))

    def bytes_of(self, row: Row) -> bytes:
        """The Part 10 file of a row."""
        return b"".join(self.spool.read(row["file"]))


def data_set_of(part10: bytes) -> bytes:
    """What follows the file meta information of a Part 10 file (PS3.10 7.1)."""
    return part10[data_set_offset(part10) :]


def data_set_offset(part10: bytes) -> int:
    assert part10[128:132] == b"DICM"
    assert part10[132:138] == b"\2\0\0\0UL"
    return 144 + int.from_bytes(part10[140:144], "little")


@asynccontextmanager
async def door(
    folder: Path,
    *,
    place: StorePlace | None = None,
    peers: tuple[KnownPeer, ...] | None = None,
    storing: Mapping[str, StorageTerms] | None = None,
    limits: Limits | None = None,
    tls: SSLContext | None = None,
    services: Services | None = None,
    free_bytes_min: int = 0,
    port: int = 0,
) -> AsyncIterator[Door]:
    """A door with an inbox in ``folder``, closed in order at the end."""
    clock = SystemClock()
    known = peers if peers is not None else (peer(), peer("STORESCU"), peer("DCMSEND"), peer("ECHOSCU"))
    folder.mkdir(mode=0o700, exist_ok=True, parents=True)
    store = await open_store(place or folder / "door.db", COMPONENTS)
    try:
        vault = await Vault.load(store, b"k" * 32, [TENANT], clock)
        spool = Spool.open(folder / "received", tenant=TENANT, vault=vault, free_bytes_min=free_bytes_min)
        terms = {one.admitted.name: StorageTerms() for one in known} | dict(storing or {})
        observed: list[tuple[str, str]] = []
        storage = Storage(
            tenant=TENANT,
            store=store,
            spool=spool,
            terms=terms,
            clock=clock,
            observe=lambda outcome: observed.append(("object", outcome)),
        )
        await storage.start()
        try:
            offered = services or Services(store=storage)
            table = PeerTable(known, called_aet=AET, is_secured=tls is not None)
            async with await DimseListener.open(
                "127.0.0.1",
                port,
                table,
                offered,
                limits=limits,
                tls=tls,
                observe=lambda what, outcome: observed.append((what, outcome)),
            ) as listener:
                yield Door(listener=listener, store=store, spool=spool, storage=storage, observed=observed)
        finally:
            await storage.close()
    finally:
        await store.close()
