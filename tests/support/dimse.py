"""A DICOM door for tests: a listener with services of the test's choice, an inbox on a real database and spool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from ipaddress import ip_network
from pathlib import Path
from ssl import SSLContext
from typing import Any, Self

import psutil

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
        vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
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


class DoorProcess:
    """A door in a process of its own (``tests.integration.dimse_child``)."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self._watched = psutil.Process(process.pid)

    @classmethod
    def start(cls, folder: Path, *, environment: Mapping[str, str] | None = None, **options: object) -> Self:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "tests.integration.dimse_child", str(folder), json.dumps(options)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | dict(environment or {}),
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.stdout.close()
            raise RuntimeError(f"the door ended with {process.wait()} before it listened")
        return cls(process, int(line))

    @property
    def rss(self) -> int:
        """Resident bytes now."""
        return int(self._watched.memory_info().rss)

    @property
    def peak(self) -> int:
        """The most resident bytes so far (VmHWM)."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the kernel states no VmHWM")

    @property
    def cpu_s(self) -> float:
        """Seconds of processor so far."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    @property
    def threads(self) -> int:
        return int(self._watched.num_threads())

    @property
    def descriptors(self) -> int:
        return int(self._watched.num_fds())

    def stop(self) -> int:
        """SIGTERM, then wait; its exit code. Idempotent."""
        self.process.terminate()
        return self.wait()

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit code, once it ended."""
        code = self.process.wait(timeout_s)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def echo_s(port: int, *, address: str = "127.0.0.1", aet: str = "SCU") -> float:
    """Seconds that an honest peer's association, C-ECHO and release take, from the source address given."""
    from pynetdicom import AE  # here: a door in a process of its own does without the library, and is measured so

    entity = AE(ae_title=aet)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context("1.2.840.10008.1.1")
    began = time.monotonic()
    association = entity.associate("127.0.0.1", port, ae_title=AET, bind_address=(address, 0))
    try:
        assert association.is_established, "the honest peer was not let in"
        assert association.send_c_echo().get("Status") == 0
    finally:
        association.release()
    return time.monotonic() - began


def send(port: int, objects: Iterable[tuple[str, str, str, bytes]], *, aet: str = "SCU", **more: Any) -> list[int]:
    """C-STORE each (SOP class, instance, transfer syntax, data set) on one association; their statuses. The data sets go
    out as they are; -1 where the association broke."""
    from pynetdicom import AE

    wanted = list(objects)
    entity = AE(ae_title=aet)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 60
    entity.maximum_pdu_size = more.get("pdu", 16_382)
    for sop_class, syntax in dict.fromkeys((one[0], one[2]) for one in wanted):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=AET, **more.get("how", {}))
    if not association.is_established:
        return [-1] * len(wanted)
    try:
        return [_stored(association, number, *one) for number, one in enumerate(wanted, 1)]
    finally:
        if association.is_established:
            association.release()


def _stored(association: Any, number: int, sop_class: str, sop: str, syntax: str, body: bytes) -> int:
    """One C-STORE by pynetdicom's own message classes, without a Dataset."""
    from pydicom.uid import UID
    from pynetdicom.dimse_primitives import C_STORE

    if not association.is_established:
        return -1
    context = association._get_valid_context(sop_class, syntax, "scu", allow_conversion=False)
    request = C_STORE()
    request.MessageID, request.Priority = number, 2
    request.AffectedSOPClassUID = UID(sop_class)
    request.AffectedSOPInstanceUID = UID(sop)
    request.DataSet = BytesIO(body)
    association._reactor_checkpoint.clear()
    try:
        association.dimse.send_msg(request, context.context_id)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()
    return -1 if answer is None else int(answer.Status)
