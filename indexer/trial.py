"""The trial exam: an invented exam of the test patient that is published, confirmed and withdrawn on demand.

It goes the whole way of a real exam, save for its two ends: we write the report, and we say what the PACS holds.

Invariants:

* the study is one that we make up at ``start``, a fresh UID each time: no caller, message or setting names it, so no
  real exam ever takes the way of a trial (table ``trial``, whose only writer is here);
* the patient is one of a test authority: a matricule of real people is refused, whatever is configured; where a local
  identifier names patients, no authority tells a test from a person, and the configured identifier is trusted;
* the tenant's identity rules hold for it, save the one that keeps test patients out (``test_identity``);
* for a trial study only ``TrialSource`` is asked, and it answers for no other study;
* it says of itself that it is a test, in its descriptions and in every row.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Literal

from indexer import gate, publication, timeline, withdrawal
from indexer.ledger import Ledger, StatedReport, evidence_of
from indexer.manifest import derived_uid
from indexer.report import DocumentId, Order, Report
from indexer.study import Absent, Found, Instance, PacsPatient, Series, Study, StudyAnswer
from indexer.timeline import ExamState
from security import audit
from security.clock import Clock, to_ms
from security.errors import Refused
from security.identity import LocalId, PatientIdentity, Uid
from security.ins import INS_AUTHORITIES
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import TERMINAL
from security.store.port import ReadTx, Store, Tx

_TITLE = "ESSAI TECHNIQUE / TEST - PAS POUR LE SOIN"  # LO, 64 characters at most
_SECONDARY_CAPTURE = Uid("1.2.840.10008.5.1.4.1.1.7")  # PS3.4 B.5
_ZONE = "trial"

What = Literal["started", "indexed", "withdrawal-asked", "withdrawn", "held", "failed", "late"]
_WORDS: Mapping[ExamState, What] = {ExamState.INDEXED: "indexed", ExamState.WITHDRAWN: "withdrawn"}
_STUCK: Mapping[ExamState, What] = {ExamState.HELD: "held", ExamState.FAILED: "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The tenant's part of a trial. ``patient``: the test patient, by INS with status VALI, or by one
    identifier of ``rules.domain``; ``source_id``: OID of the box, issuer of the numbers we invent; ``rules``:
    those of real exams."""

    tenant: str
    mode: Literal["live", "shadow"]
    patient: PatientIdentity
    source_id: str
    timezone: tzinfo
    rules: gate.Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How far a trial came. ``seconds``: since the step before. ``is_good``: what was hoped for."""

    what: What
    study: Uid
    seconds: float
    is_good: bool
    reason: str = ""
    missing: str = ""


class Trial:
    """One tenant's trial exams."""

    def __init__(self, *, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger

    def start(self, tx: Tx, *, actor: str, now: datetime, send: bool = False) -> Uid:
        """Invent an exam and let it be published; its StudyInstanceUID.

        ``send``: in shadow mode too.

        Raises:
            Refused: ``trial-shadow-mode``; ``trial-real-patient`` the patient is not of a test authority;
                ``trial-patient`` the identity rules hold it.
        """
        if self._plan.mode == "shadow" and not send:
            raise Refused(
                f"tenant {self._plan.tenant} is in shadow mode: a trial exam would be sent for real",
                code="trial-shadow-mode",
                hint="say --send when the index shall really hear of the test patient, or go live first",
            )
        stated = self._stated(now)
        self._judge(tx, stated)
        (study,) = stated.report.studies
        tenant, report_id = self._plan.tenant, str(stated.report.document_id)
        self._ledger.add_report(tx, tenant, stated, zone=_ZONE, control_id=_ZONE, status="valid", reason="", now=now)
        tx.change(
            "INSERT INTO trial (tenant, study_uid, report_id, at, actor)"
            " VALUES (:tenant, :study, :report_id, :now, :actor)",
            tenant=tenant,
            study=study,
            report_id=report_id,
            now=to_ms(now),
            actor=actor,
        )
        said = f"asked by {actor}: an invented exam of the test patient, not for care"
        self._ledger.note(tx, tenant, study, kind="trial-started", summary=said, now=now)
        self._audit(tx, "trial.started", study, actor, now)
        jobs.enqueue(
            tx,
            tenant=tenant,
            lane=study,
            kind=publication.job_kind(tenant),
            job_class=JobClass.P1,
            now=now,
            actor=actor,
        )
        return study

    def withdraw(self, tx: Tx, study: str, *, actor: str, now: datetime) -> int:
        """Take a trial exam back, whatever became of it; the ``job_id``.

        Raises:
            Refused: ``unknown-trial`` the study is not a trial exam of this tenant.
        """
        tenant = self._plan.tenant
        report_id = _report_of(tx, tenant, study)
        if report_id is None:
            raise Refused(
                f"study {study} is not a trial exam of tenant {tenant}",
                code="unknown-trial",
                hint="only an exam that a trial made can be taken back this way",
            )
        self._ledger.set_report_status(tx, tenant, report_id, "withdrawn")
        self._audit(tx, "trial.withdrawn", study, actor, now)
        return withdrawal.request(
            tx, self._ledger, tenant=tenant, study=study, actor=actor, reason="end of the trial", now=now
        )

    def exam(self, tx: ReadTx, study: str) -> timeline.Exam:
        """Where a trial exam stands."""
        tenant = self._plan.tenant
        return timeline.compose(
            study,
            evidence_of(tx, tenant, study),
            jobs.lane_jobs(tx, tenant=tenant, lane=study),
            jobs.lane_history(tx, tenant=tenant, lane=study),
        )

    def is_over(self, tx: ReadTx, study: str) -> bool:
        """Whether nothing is left to do for the study."""
        return all(job.state in TERMINAL for job in jobs.lane_jobs(tx, tenant=self._plan.tenant, lane=study))

    def _stated(self, now: datetime) -> StatedReport:
        """The report of an exam that exists nowhere."""
        source, run = self._plan.source_id, uuid.uuid4()
        number = run.hex[:8].upper()
        # the index's own identifier of the test patient, else one that we invent: a PACS must name somebody
        named = self._plan.patient.local_ids or (LocalId(value=f"ESSAI-{number}", issuer=source),)
        patient = replace(self._plan.patient, local_ids=named)
        return StatedReport(
            envelope=patient,
            report=Report(
                document_id=DocumentId(root=derived_uid("trial-report", str(run))),
                set_id="",
                version_number=None,
                replaces=None,
                patient=patient,
                studies=(Uid(f"2.25.{run.int}"),),
                orders=(
                    Order(
                        accession_number=f"ESSAI{number}",
                        accession_issuer=source,
                        placer_number=f"ESSAI{number}",
                        placer_issuer=source,
                    ),
                ),
                authors=(),
                legal_authenticator=None,
                performer=None,
                procedure=None,
                service_start=now,
                service_stop=now,
                title=_TITLE,
                effective_time=now,
            ),
        )

    def _judge(self, tx: ReadTx, stated: StatedReport) -> None:
        ins = stated.envelope.ins
        authority = INS_AUTHORITIES.get(ins.oid) if ins else None
        if not self._plan.rules.domain and (authority is None or authority.production):
            raise Refused(
                "the trial patient has no matricule of a test authority",
                code="trial-real-patient",
                hint="configure the test patient that the index gave, never a real person",
            )
        verdict = gate.before_ack(
            envelope=stated.envelope,
            report=stated.report,
            held=self._ledger.held_for(tx, self._plan.tenant, stated),
            rules=replace(self._plan.rules, test_identity="off"),
        )
        if verdict.holds:
            raise Refused(
                f"the trial patient is refused by the identity rules: {verdict.reason} ({verdict.summary()})",
                code="trial-patient",
                hint="correct the test patient in the configuration; docs/identity.md explains the rules",
            )

    def _audit(self, tx: Tx, event: str, study: str, actor: str, now: datetime) -> None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._plan.tenant,
                zone=_ZONE,
                at=now,
                event=event,
                actor=actor,
                outcome=0,
                object_type="study",
                object_id=study,
            ),
        )


class TrialSource:
    """What a PACS would say if it held the trial exams: one series, one Secondary Capture that exists nowhere."""

    def __init__(self, *, plan: Plan, store: Store, ledger: Ledger) -> None:
        self.name = _ZONE
        self._plan = plan
        self._store = store
        self._ledger = ledger

    async def find(self, study: Uid) -> StudyAnswer:
        """``Found`` for a trial exam, ``Absent`` for every other."""
        stated = await self._store.read(lambda tx: self._stated(tx, study))
        if stated is None:
            return Absent(evidence="not a trial exam", is_proven=True)
        return Found(study=_invented(study, stated.report, self._plan.timezone))

    def _stated(self, tx: ReadTx, study: Uid) -> StatedReport | None:
        report_id = _report_of(tx, self._plan.tenant, study)
        known = self._ledger.report(tx, self._plan.tenant, report_id) if report_id else None
        return known[0].stated if known else None


async def play(
    trial: Trial,
    store: Store,
    clock: Clock,
    *,
    actor: str,
    send: bool = False,
    keep: bool = False,
    limit_s: float = 900.0,
    nudge: Callable[[], None] = lambda: None,
    poll_s: float = 0.2,
) -> AsyncIterator[Step]:
    """Publish a trial exam, see it indexed, withdraw it unless ``keep``; one step as each thing happens.

    An exam that does not come through is withdrawn all the same: the index may hold it. ``limit_s``: how long each of
    the two may take; ``nudge``: wakes the engine after a commit.

    Raises:
        Refused: as ``Trial.start``.
    """
    began, now = clock.monotonic(), clock.now()
    study = await store.write(lambda tx: trial.start(tx, actor=actor, now=now, send=send))
    nudge()
    yield Step(what="started", study=study, seconds=clock.monotonic() - began, is_good=True)
    yield await _end(trial, store, clock, study, hoped=ExamState.INDEXED, limit_s=limit_s, poll_s=poll_s)
    if not keep:
        async for step in take_back(
            trial, store, clock, study, actor=actor, limit_s=limit_s, nudge=nudge, poll_s=poll_s
        ):
            yield step


async def take_back(
    trial: Trial,
    store: Store,
    clock: Clock,
    study: Uid,
    *,
    actor: str,
    limit_s: float = 900.0,
    nudge: Callable[[], None] = lambda: None,
    poll_s: float = 0.2,
) -> AsyncIterator[Step]:
    """Withdraw a trial exam and see it gone; one step as each thing happens.

    Raises:
        Refused: as ``Trial.withdraw``.
    """
    began, now = clock.monotonic(), clock.now()
    await store.write(lambda tx: trial.withdraw(tx, study, actor=actor, now=now))
    nudge()
    yield Step(what="withdrawal-asked", study=study, seconds=clock.monotonic() - began, is_good=True)
    yield await _end(trial, store, clock, study, hoped=ExamState.WITHDRAWN, limit_s=limit_s, poll_s=poll_s)


async def _end(
    trial: Trial,
    store: Store,
    clock: Clock,
    study: Uid,
    *,
    hoped: Literal[ExamState.INDEXED, ExamState.WITHDRAWN],
    limit_s: float,
    poll_s: float,
) -> Step:
    """Wait until the exam stands where it was hoped to, or where only a person gets it further, or too long."""
    began = clock.monotonic()
    while True:
        exam, is_over = await store.read(lambda tx: (trial.exam(tx, study), trial.is_over(tx, study)))
        seconds = clock.monotonic() - began
        is_nothing = is_over and hoped is ExamState.WITHDRAWN  # nothing had reached the index
        if exam.state is hoped or is_nothing:
            return Step(what=_WORDS[hoped], study=study, seconds=seconds, is_good=True)
        if exam.state in _STUCK or seconds >= limit_s:
            return Step(
                what=_STUCK.get(exam.state, "late"),
                study=study,
                seconds=seconds,
                is_good=False,
                reason=exam.reason,
                missing=exam.missing,
            )
        await asyncio.sleep(poll_s)


def _report_of(tx: ReadTx, tenant: str, study: str) -> str | None:
    """The report we wrote about a trial exam; None for every other study."""
    row = tx.row(
        "SELECT report_id FROM trial WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
    )
    return str(row["report_id"]) if row else None


def _invented(study: Uid, report: Report, timezone: tzinfo) -> Study:
    patient, order = report.patient, report.orders[0]
    assert report.service_start is not None, "_stated wrote it"
    made = report.service_start.astimezone(timezone)
    instance = Instance(sop_class=_SECONDARY_CAPTURE, sop_instance=derived_uid("trial-instance", study), number=1)
    return Study(
        uid=study,
        patient=PacsPatient(
            patient_id=patient.local_ids[0].value,
            issuer=patient.local_ids[0].issuer,
            name=f"{patient.traits.birth_name}^{patient.traits.first_given_name}",
            birth_date=f"{patient.traits.birth_date:%Y%m%d}" if patient.traits.birth_date else "",
            sex=patient.traits.sex,
        ),
        accession_number=order.accession_number,
        date=f"{made:%Y%m%d}",
        time=f"{made:%H%M%S}",
        description=_TITLE,
        series=(
            Series(
                uid=derived_uid("trial-series", study),
                modality="OT",
                number=1,
                description=_TITLE,
                instances=(instance,),
            ),
        ),
    )
