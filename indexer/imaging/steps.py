"""Performed procedure steps (PS3.4 F.7, IHE RAD-6 and RAD-7): what a modality says it is doing for an exam.

Invariants:

* a step goes from IN PROGRESS to COMPLETED or DISCONTINUED, and is never changed afterwards, by nobody;
* a final status is said of the exam only when the step names the exam's own patient;
* a step about an exam of which no report speaks is kept, and nothing else happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from indexer import gate
from indexer.decision import Arrival
from indexer.imaging.identity import Identity
from indexer.ledger import Ledger
from indexer.study import PacsPatient
from security.clock import from_ms, to_ms
from security.errors import Refused
from security.identity import Uid
from security.store.port import ReadTx, Tx


class StepStatus(StrEnum):
    """Performed Procedure Step Status (0040,0252)."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Performed:
    """What a modality performed so far, as it counts."""

    series: int
    instances: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStep:
    """A step as its N-CREATE states it. ``studies``: of Scheduled Step Attributes Sequence, at least one."""

    uid: Uid
    studies: tuple[Uid, ...]
    patient: PacsPatient
    performed: Performed


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """What an N-SET states, None where it is silent. ``reason``: code why it was discontinued (CID 9300)."""

    status: StepStatus | None = None
    performed: Performed | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformedStep:
    """A step as it stands. ``ended_at``: when its final status came; ``reason``: of a discontinued one; ``studies``:
    how many it names, over which ``performed`` is counted."""

    uid: str
    status: StepStatus
    peer: str
    begun_at: datetime
    ended_at: datetime | None
    performed: Performed
    reason: str
    studies: int


_PATIENT = TypeAdapter(PacsPatient)
_KINDS = {
    StepStatus.IN_PROGRESS: "step-begun",
    StepStatus.COMPLETED: "step-completed",
    StepStatus.DISCONTINUED: "step-discontinued",
}
_ARRIVALS = {
    StepStatus.COMPLETED: Arrival.IMAGES_ARRIVED,
    StepStatus.DISCONTINUED: Arrival.STEP_DISCONTINUED,
}


class Steps:
    """The steps of one tenant."""

    def __init__(self, *, tenant: str, ledger: Ledger, rules: gate.Rules) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._identity = Identity(tenant=tenant, ledger=ledger, rules=rules)

    def create(self, tx: Tx, step: NewStep, *, peer: str, zone: str, now: datetime) -> None:
        """Keep a step that begins.

        Raises:
            Refused: ``step-known``.
        """
        if self._status(tx, step.uid) is not None:
            raise Refused("this step exists", code="step-known", hint="change it with N-SET")
        tx.change(
            "INSERT INTO performed_step (tenant, zone, step_uid, status, peer, begun_at, changed_at, ended_at,"
            " series, instances, reason, patient) VALUES (:tenant, :zone, :step, 'IN PROGRESS', :peer, :now, :now,"
            " NULL, :series, :instances, '', :patient)",
            tenant=self._tenant,
            zone=zone,
            step=step.uid,
            peer=peer,
            now=to_ms(now),
            series=step.performed.series,
            instances=step.performed.instances,
            patient=self._ledger.vault.seal(self._tenant, _place(step.uid), _PATIENT.dump_json(step.patient)),
        )
        for study in dict.fromkeys(step.studies):
            tx.change(
                "INSERT INTO performed_step_study (tenant, study_uid, step_uid) VALUES (:tenant, :study, :step)",
                tenant=self._tenant,
                study=study,
                step=step.uid,
            )
            self._tell(tx, study, step.uid, StepStatus.IN_PROGRESS, now=now)

    def change(self, tx: Tx, uid: Uid, change: StepChange, *, now: datetime) -> dict[Uid, Arrival]:
        """Carry out an N-SET; what it means for each exam of the step's own patient.

        Raises:
            Refused: ``step-unknown``; ``step-ended`` its status is final.
        """
        status = self._status(tx, uid)
        if status is None:
            raise Refused("no such step", code="step-unknown", hint="create it first")
        if status is not StepStatus.IN_PROGRESS:
            raise Refused("this step has ended", code="step-ended", hint="create another one")
        after = change.status or status
        done = change.performed
        tx.change(
            "UPDATE performed_step SET status = :status, changed_at = :now, ended_at = :ended, reason = :reason,"
            " series = COALESCE(:series, series), instances = COALESCE(:instances, instances)"
            " WHERE tenant = :tenant AND step_uid = :step",
            tenant=self._tenant,
            step=uid,
            status=after.value,
            now=to_ms(now),
            ended=None if after is StepStatus.IN_PROGRESS else to_ms(now),
            reason=change.reason,
            series=done.series if done else None,
            instances=done.instances if done else None,
        )
        if after is StepStatus.IN_PROGRESS:
            return {}
        studies = [study for study in self._studies(tx, uid) if self._tell(tx, study, uid, after, now=now)]
        return dict.fromkeys(studies, _ARRIVALS[after])

    def peer_of(self, tx: ReadTx, uid: Uid) -> str:
        """Who created the step, "" when nobody did."""
        row = tx.row(
            "SELECT peer FROM performed_step WHERE tenant = :tenant AND step_uid = :step",
            tenant=self._tenant,
            step=uid,
        )
        return row["peer"] if row else ""

    # -- inside ------------------------------------------------------------------------------------------------

    def _status(self, tx: ReadTx, uid: Uid) -> StepStatus | None:
        row = tx.row(
            "SELECT status FROM performed_step WHERE tenant = :tenant AND step_uid = :step",
            tenant=self._tenant,
            step=uid,
        )
        return StepStatus(row["status"]) if row else None

    def _studies(self, tx: ReadTx, uid: Uid) -> list[Uid]:
        rows = tx.rows(
            "SELECT study_uid FROM performed_step_study WHERE tenant = :tenant AND step_uid = :step"
            " ORDER BY study_uid",
            tenant=self._tenant,
            step=uid,
        )
        return [Uid(row["study_uid"]) for row in rows]

    def _tell(self, tx: Tx, study: Uid, uid: Uid, status: StepStatus, *, now: datetime) -> bool:
        """Note the step on the exam, and the warning when it is somebody else's; whether it is the exam's own."""
        row = tx.row(
            "SELECT * FROM performed_step WHERE tenant = :tenant AND step_uid = :step", tenant=self._tenant, step=uid
        )
        assert row is not None
        patient = _PATIENT.validate_json(self._ledger.vault.open(self._tenant, _place(uid), row["patient"]))
        verdict = self._identity.judge(tx, study, patient)
        if verdict is None:
            return False
        told = f"step {uid} of {row['peer']}: {row['series']} series, {row['instances']} instances"
        told += f", reason {row['reason']}" if row["reason"] else ""
        self._ledger.note(tx, self._tenant, study, kind=_KINDS[status], summary=told, now=now)
        if verdict.conflicts and status is not StepStatus.IN_PROGRESS:
            self._ledger.note_conflicts(
                tx, self._tenant, study, kind="identity-warning", conflicts=verdict.conflicts, now=now
            )
        return not verdict.holds


def performed_steps(tx: ReadTx, tenant: str, study: str) -> list[PerformedStep]:
    """Every step that names the study, oldest first."""
    rows = tx.rows(
        "SELECT p.*, (SELECT COUNT(*) FROM performed_step_study o WHERE o.tenant = s.tenant"
        " AND o.step_uid = s.step_uid) AS studies"
        " FROM performed_step_study s JOIN performed_step p ON p.tenant = s.tenant"
        " AND p.step_uid = s.step_uid WHERE s.tenant = :tenant AND s.study_uid = :study"
        " ORDER BY p.begun_at, p.step_uid",
        tenant=tenant,
        study=study,
    )
    return [
        PerformedStep(
            uid=row["step_uid"],
            status=StepStatus(row["status"]),
            peer=row["peer"],
            begun_at=from_ms(row["begun_at"]),
            ended_at=None if row["ended_at"] is None else from_ms(row["ended_at"]),
            performed=Performed(series=row["series"], instances=row["instances"]),
            reason=row["reason"],
            studies=row["studies"],
        )
        for row in rows
    ]


def _place(uid: str) -> str:
    return f"performed_step.patient/{uid}"
