"""Modality Performed Procedure Step (PS3.4 F.7): N-CREATE and N-SET of the steps that modalities perform.

Invariants:

* a step begins IN PROGRESS; once its status is final it is never changed (0x0110, Error ID 0xA710);
* only the peer that created a step changes it;
* row, evidence, audit row and the question to the PACS are one transaction, durable before 0x0000.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.dimse.attributes import attributes, instance_of, patient, required_uid, text
from gateway.dimse.command import Status
from gateway.dimse.inbox import ZONE
from gateway.dimse.services import Failure, Request
from indexer.admission import Admission, Carrier
from indexer.imaging.steps import NewStep, Performed, StepChange, Steps, StepStatus
from indexer.kos.nodes import Node
from security import audit
from security.clock import Clock
from security.errors import Refused
from security.identity import Uid
from security.store.port import Store, Tx

MPPS = "1.2.840.10008.3.1.2.3.3"
_STUDIES_MAX = 64
_CODE = re.compile(r"[0-9A-Za-z._-]{1,16}", re.ASCII)
_MAY_NO_LONGER_BE_UPDATED = 0xA710
_REFUSALS = {
    "step-known": (Status.DUPLICATE_INSTANCE, "this step exists", 0),
    "step-unknown": (Status.NO_SUCH_INSTANCE, "no such step", 0),
    "step-ended": (
        Status.PROCESSING_FAILURE,
        "Performed Procedure Step Object may no longer be updated",
        _MAY_NO_LONGER_BE_UPDATED,
    ),
}


class StepService:
    """MPPS of one tenant (``services.NormalizedService``)."""

    def __init__(self, *, admission: Admission, store: Store, clock: Clock, nudge: Callable[[], None]) -> None:
        self._admission = admission
        self._store = store
        self._clock = clock
        self._nudge = nudge
        self._steps = Steps(tenant=admission.tenant, ledger=admission.ledger, rules=admission.rules)

    async def create(self, request: Request, attributes_: bytes) -> int:
        """Keep a step that begins (PS3.4 F.7.2.1)."""
        step = _new_step(instance_of(request), attributes(request, attributes_))

        def work(tx: Tx) -> None:
            now = self._clock.now()
            self._steps.create(tx, step, peer=request.peer.name, zone=ZONE, now=now)
            self._audit(tx, request, step.uid, StepStatus.IN_PROGRESS)

        return await self._carried_out(work)

    async def set(self, request: Request, modifications: bytes) -> int:
        """Change a step (PS3.4 F.7.2.2)."""
        uid, change = instance_of(request), _change(attributes(request, modifications))

        def work(tx: Tx) -> None:
            now = self._clock.now()
            if self._steps.peer_of(tx, uid) not in {"", request.peer.name}:
                raise Failure(Status.NOT_AUTHORIZED, "another peer created this step")
            by = Carrier(control_id=uid, zone=ZONE, at=now)
            for study, arrived in self._steps.change(tx, uid, change, now=now).items():
                self._admission.announce(tx, study, arrived, by)
            self._audit(tx, request, uid, change.status or StepStatus.IN_PROGRESS)

        return await self._carried_out(work)

    async def _carried_out(self, work: Callable[[Tx], None]) -> int:
        try:
            await self._store.write(work)
        except Refused as fault:
            status, comment, error_id = _REFUSALS[fault.code]
            raise Failure(status, comment, error_id=error_id) from fault
        self._nudge()
        return Status.SUCCESS

    def _audit(self, tx: Tx, request: Request, uid: Uid, status: StepStatus) -> None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._admission.tenant,
                zone=ZONE,
                at=self._clock.now(),
                event="dicom.step",
                actor=f"pacs-peer {request.peer.name}",
                outcome=0,
                object_type="step",
                object_id=uid,
                detail=status.value,
            ),
        )


def _new_step(uid: Uid, node: Node) -> NewStep:
    status = text(node, "PerformedProcedureStepStatus")
    if status != StepStatus.IN_PROGRESS:
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, "a step begins with the status IN PROGRESS")
    scheduled = list(node.items("ScheduledStepAttributesSequence"))
    if not scheduled:
        raise Failure(Status.MISSING_ATTRIBUTE, "ScheduledStepAttributesSequence is missing")
    if len(scheduled) > _STUDIES_MAX:
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, f"more than {_STUDIES_MAX} scheduled steps")
    studies = tuple(required_uid(item, "StudyInstanceUID") for item in scheduled)
    return NewStep(uid=uid, studies=studies, patient=patient(node), performed=_performed(node))


def _change(node: Node) -> StepChange:
    stated = text(node, "PerformedProcedureStepStatus")
    if stated and stated not in set(StepStatus):
        raise Failure(Status.INVALID_ATTRIBUTE_VALUE, "PerformedProcedureStepStatus is none of its three values")
    reason = node.item("PerformedProcedureStepDiscontinuationReasonCodeSequence")
    code = text(reason, "CodeValue") if reason is not None else ""
    return StepChange(
        status=StepStatus(stated) if stated else None,
        performed=_performed(node) if node.has("PerformedSeriesSequence") else None,
        reason=code if _CODE.fullmatch(code) else "",
    )


def _performed(node: Node) -> Performed:
    """Series and instances of Performed Series Sequence."""
    series = list(node.items("PerformedSeriesSequence"))
    names = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
    return Performed(
        series=len(series), instances=sum(1 for one in series for name in names for _ in one.items(name))
    )
