"""The DICOM door of one legal entity, as its settings describe it: spool, inbox, listener, certificates, audit, and
who carries what comes in on to the exams.

Holds no rule of its own. What happens to associations is counted and written to the audit trail a second later, one
row for each kind and address: a flood of refused calls must not become a flood of rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.certificates.link import TrustedLink
from gateway.dimse.availability import IAN, AvailabilityService
from gateway.dimse.command import Status
from gateway.dimse.emptying import Emptying
from gateway.dimse.inbox import ZONE
from gateway.dimse.limits import Limits
from gateway.dimse.listener import DimseListener
from gateway.dimse.negotiation import Terms
from gateway.dimse.notes import Notes
from gateway.dimse.peers import KnownPeer, PeerTable
from gateway.dimse.services import Admitted, Failure, NormalizedService, Request, Services
from gateway.dimse.steps import MPPS, StepService
from gateway.dimse.storage import Storage
from gateway.dimse.storage import Terms as StorageTerms
from gateway.settings import DicomPeerSettings, DicomSettings, address
from indexer.admission import Admission
from indexer.notes import KEY_OBJECT_SELECTION
from indexer.ports import StudySource
from security import audit
from security.clock import Clock
from security.errors import Broken, Fault, Unavailable
from security.seal import Vault
from security.spool import Spool
from security.store.port import Store, Tx

log = structlog.get_logger()

_AUDIT_EVERY_S = 1.0
_ADDRESSES_MAX = 1000
_ATTRIBUTES_BYTES_MAX = 4 * 1024**2  # a notice of 20,000 instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Exams:
    """To whom the door tells what came in. ``sources``: every PACS of the tenant; ``nudge``: there may be work."""

    admission: Admission
    sources: Sequence[StudySource]
    nudge: Callable[[], None]


class AssociationTrail:
    """Audit rows of associations, gathered: what happened, from where, to whom, how often since the last row."""

    def __init__(self, *, tenant: str, store: Store, clock: Clock) -> None:
        self._tenant = tenant
        self._store = store
        self._clock = clock
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    def note(self, event: str, *, peer: str = "", origin: str = "", why: str = "") -> None:
        """Count one; beyond a thousand addresses between two rows they are counted together."""
        key = (event, peer, origin, why)
        if key not in self._counts and len(self._counts) >= _ADDRESSES_MAX:
            key = (event, peer, "many", why)
        self._counts[key] += 1

    async def run(self) -> None:
        """Write what was counted, every second."""
        while True:
            await asyncio.sleep(_AUDIT_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write what was counted; what cannot be written now is kept for the next time."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._store.write(lambda tx: self._append(tx, counts))
        except Fault as fault:
            log.warning("dimse-audit-delayed", code=fault.code)
            self._counts += counts

    def _append(self, tx: Tx, counts: Counter[tuple[str, str, str, str]]) -> None:
        for (event, peer, origin, why), number in counts.items():
            audit.append(
                tx,
                audit.AuditRecord(
                    tenant=self._tenant,
                    zone=ZONE,
                    at=self._clock.now(),
                    event=f"dicom.association-{event}",
                    actor=f"pacs-peer {peer}".strip(),
                    outcome=0 if event == "accepted" else 4,
                    object_type="address",
                    object_id=origin,
                    detail=f"{number} {why}".strip(),
                ),
            )


@asynccontextmanager
async def dicom_door(
    settings: DicomSettings,
    *,
    tenant: str,
    store: Store,
    vault: Vault,
    clock: Clock,
    room: Callable[[], bool],
    free_bytes_min: int,
    observe: Callable[[str, str], None],
    exams: Exams,
    link: TrustedLink | None = None,
    kept_by: Callable[[Storage], None] = lambda _storage: None,
) -> AsyncIterator[DimseListener]:
    """The open door. ``room``: whether anything may be taken in; ``observe``: what happened, for the metrics;
    ``kept_by``: told once who keeps what comes in;
    ``link``: its certificate and whom it believes, None for a listener that speaks plain DICOM.

    Raises:
        Broken: ``spool-place``, or a peer's certificate that cannot be read.
        OSError: the address cannot be bound.
    """
    assert settings.folder is not None  # a listener without one is refused when the configuration is read
    folder = settings.folder
    host, port = address(settings.listen)
    async with AsyncExitStack() as stack:
        spool = await asyncio.to_thread(Spool.open, folder, tenant=tenant, vault=vault, free_bytes_min=free_bytes_min)
        storage = Storage(
            tenant=tenant,
            store=store,
            spool=spool,
            terms={name: _storing(peer) for name, peer in settings.peers.items()},
            clock=clock,
            room=room,
            observe=lambda outcome: observe("object", outcome),
            notes_aet=settings.notes_ae_title,
            titles={peer.aet: name for name, peer in settings.peers.items()},
        )
        notes = _notes(settings, storage, exams, store=store, clock=clock)
        storage.key_objects = notes
        stack.push_async_callback(storage.close)
        await storage.start()
        kept_by(storage)
        trail = AssociationTrail(tenant=tenant, store=store, clock=clock)
        stack.push_async_callback(trail.write)
        await _background(stack, trail.run(), name=f"dicom-audit-{tenant}")
        emptying = Emptying(
            admission=exams.admission,
            store=store,
            storage=storage,
            key_objects=notes,
            sources=exams.sources,
            clock=clock,
            nudge=exams.nudge,
        )
        await _background(stack, emptying.run(), name=f"dicom-inbox-{tenant}")
        listener = await DimseListener.open(
            host,
            port,
            PeerTable(
                [_known(name, peer) for name, peer in settings.peers.items()],
                called_aet=settings.ae_title,
                is_secured=link is not None,
                notes_aet=settings.notes_ae_title,
            ),
            _services(storage, exams, store=store, clock=clock, room=room),
            limits=Limits(
                gathered_bytes_max=_ATTRIBUTES_BYTES_MAX,
                pdu_bytes_max=settings.pdu_bytes_max,
                idle_s=settings.idle_s,
                connections_max=settings.connections_max,
                connections_per_address_max=settings.connections_per_address_max,
            ),
            tls=link.context if link else None,
            judge=link.trust if link else None,
            observe=observe,
            trail=trail.note,
            interface=settings.interface,
        )
        stack.push_async_callback(listener.close)
        yield listener


def _notes(settings: DicomSettings, storage: Storage, exams: Exams, *, store: Store, clock: Clock) -> Notes:
    return Notes(
        admission=exams.admission,
        store=store,
        peers=[name for name, peer in settings.peers.items() if "rejection-notes" in peer.may],
        read_object=storage.read_object,
        clock=clock,
        nudge=exams.nudge,
    )


class WhileRoom:
    """A normalized service that takes nothing while the disk keeps its reserve, or the store cannot take it: the
    sender is told to come again (PS3.7 C.5.26)."""

    def __init__(self, service: NormalizedService, room: Callable[[], bool]) -> None:
        self._service = service
        self._room = room

    async def create(self, request: Request, attributes: bytes) -> int:
        """As the service."""
        return await self._taken(self._service.create(request, attributes))

    async def set(self, request: Request, modifications: bytes) -> int:
        """As the service."""
        return await self._taken(self._service.set(request, modifications))

    async def _taken(self, work: Coroutine[object, object, int]) -> int:
        if not self._room():
            work.close()
            raise Failure(Status.RESOURCE_LIMITATION, "no room: send it again later")
        try:
            return await work
        except Unavailable as fault:
            raise Failure(Status.RESOURCE_LIMITATION, "not kept: send it again later") from fault


def _services(storage: Storage, exams: Exams, *, store: Store, clock: Clock, room: Callable[[], bool]) -> Services:
    """What the door serves; which peer may ask for what, the peer's terms say."""
    admission, nudge = exams.admission, exams.nudge
    steps = StepService(admission=admission, store=store, clock=clock, nudge=nudge)
    availability = AvailabilityService(admission=admission, store=store, clock=clock, nudge=nudge)
    return Services(store=storage, normalized={MPPS: WhileRoom(steps, room), IAN: WhileRoom(availability, room)})


async def _background(stack: AsyncExitStack, work: object, *, name: str) -> None:
    """A task that ends with the door."""
    assert asyncio.iscoroutine(work)
    task: asyncio.Task[None] = asyncio.create_task(work, name=name)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


def _storing(peer: DicomPeerSettings) -> StorageTerms:
    return StorageTerms(
        is_strict=peer.strict, objects_per_hour=peer.objects_per_hour, bytes_per_hour=peer.bytes_per_hour
    )


def _known(name: str, peer: DicomPeerSettings) -> KnownPeer:
    key_objects = Terms(stores=True, only=frozenset({KEY_OBJECT_SELECTION}), deflated=peer.deflated)
    may_reject = "rejection-notes" in peer.may
    terms = Terms(stores=True, deflated=peer.deflated)
    if "storage" not in peer.may:
        terms = key_objects if may_reject else Terms()
    services = {uid for service, uid in (("mpps", MPPS), ("availability", IAN)) if service in peer.may}
    return KnownPeer(
        aet=peer.aet,
        networks=tuple(ip_network(network) for network in peer.networks),
        fingerprint=_fingerprint(peer.certificate_file) if peer.certificate_file else "",
        admitted=Admitted(
            name=name, terms=replace(terms, services=frozenset(services)), associations_max=peer.associations_max
        ),
        notes=key_objects if may_reject else None,
    )


def _fingerprint(path: Path) -> str:
    """SHA-256 of the first certificate of a PEM file.

    Raises:
        Broken: ``peer-certificate``.
    """
    try:
        certificate = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise Broken(
            f"{path} holds no certificate that can be read", code="peer-certificate", hint="name a PEM file"
        ) from error
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
