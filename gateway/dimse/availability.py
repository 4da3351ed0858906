"""Instance Availability Notification (PS3.4 annex R, IHE RAD-49): N-CREATE of what the PACS says it can deliver."""

from __future__ import annotations

from collections.abc import Callable

from gateway.dimse.attributes import attributes, instance_of, required_uid, text
from gateway.dimse.command import Status
from gateway.dimse.inbox import ZONE
from gateway.dimse.services import Failure, Request
from indexer.admission import Admission, Carrier
from indexer.imaging import availability
from indexer.imaging.availability import Availability, Notice
from indexer.kos.nodes import Node
from security import audit
from security.clock import Clock
from security.errors import Refused
from security.identity import Uid
from security.store.port import Store, Tx

IAN = "1.2.840.10008.5.1.4.33"


class AvailabilityService:
    """IAN of one tenant (``services.NormalizedService``): notice, evidence, audit row and the question to the PACS
    are one transaction, durable before 0x0000."""

    def __init__(self, *, admission: Admission, store: Store, clock: Clock, nudge: Callable[[], None]) -> None:
        self._admission = admission
        self._store = store
        self._clock = clock
        self._nudge = nudge

    async def create(self, request: Request, attributes_: bytes) -> int:
        """Keep a notice; have the PACS asked."""
        notice = _notice(instance_of(request), attributes(request, attributes_))
        try:
            await self._store.write(lambda tx: self._keep(tx, request, notice))
        except Refused as fault:
            raise Failure(Status.DUPLICATE_INSTANCE, "this notice exists") from fault
        self._nudge()
        return Status.SUCCESS

    async def set(self, request: Request, modifications: bytes) -> int:  # noqa: ARG002
        """A notice is never changed (PS3.4 R.3)."""
        raise Failure(Status.UNRECOGNIZED_OPERATION, "a notice is created, never changed")

    def _keep(self, tx: Tx, request: Request, notice: Notice) -> None:
        now, tenant, ledger = self._clock.now(), self._admission.tenant, self._admission.ledger
        availability.record(tx, ledger, tenant, notice, peer=request.peer.name, zone=ZONE, now=now)
        if notice.arrival is not None:
            by = Carrier(control_id=notice.uid, zone=ZONE, at=now)
            self._admission.announce(tx, notice.study, notice.arrival, by)
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=now,
                event="dicom.availability",
                actor=f"pacs-peer {request.peer.name}",
                outcome=0,
                object_type="study",
                object_id=notice.study,
                detail=f"{notice.retrievable} of {len(notice.instances)}",
            ),
        )


def _notice(uid: Uid, node: Node) -> Notice:
    instances: dict[Uid, Availability] = {}
    for series in node.items("ReferencedSeriesSequence"):
        for one in series.items("ReferencedSOPSequence"):
            said = text(one, "InstanceAvailability")
            if said not in set(Availability):
                raise Failure(Status.INVALID_ATTRIBUTE_VALUE, "InstanceAvailability is none of its four values")
            instances[required_uid(one, "ReferencedSOPInstanceUID")] = Availability(said)
    if not instances:
        raise Failure(Status.MISSING_ATTRIBUTE, "ReferencedSOPSequence names no instance")
    return Notice(uid=uid, study=required_uid(node, "StudyInstanceUID"), instances=instances)
