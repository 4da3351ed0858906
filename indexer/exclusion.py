"""A person takes an exam out of the index, lets it back, or publishes it without waiting for more images.

Invariants:

* the person's word stands until a person takes it back: no report, image or order brings the exam back by itself;
* the word, its evidence, its audit record and what follows (``admission``) commit together;
* a reason is given, and quotes nothing of the patient (``release``).

Who may do it is left to whoever asks.
"""

from __future__ import annotations

from datetime import datetime

from indexer import presence, release
from indexer.admission import Admission
from indexer.timeline import WAITING_FOR_IMAGES, deciding_job
from security.errors import Refused
from security.outbox import jobs
from security.store.port import Tx


def withdraw(tx: Tx, admission: Admission, study: str, *, actor: str, reason: str, now: datetime) -> None:
    """Take the exam out of the index and keep it out.

    Raises:
        Refused: ``unknown-exam``; ``already-out`` a person has done so before.
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    why = _why(tx, admission, study, reason)
    before = presence.of(tx, admission.tenant, study).kept_out_by
    if before:
        raise Refused(
            f"exam {study} is already kept out of the index",
            code="already-out",
            hint="its timeline says who took it out and why",
        )
    _record(tx, admission, study, event="exam.taken-out", kind="taken-out", actor=actor, why=why, now=now)
    admission.keep_out(tx, study, actor=actor, now=now)


def republish(tx: Tx, admission: Admission, study: str, *, actor: str, reason: str, now: datetime) -> None:
    """Let the exam back, and look at it again in any case: it goes out anew when reports and PACS allow it.

    Raises:
        Refused: ``unknown-exam``.
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    why = _why(tx, admission, study, reason)
    _record(tx, admission, study, event="exam.let-in", kind="let-in", actor=actor, why=why, now=now)
    admission.let_in(tx, study, actor=actor, now=now)


def publish(tx: Tx, admission: Admission, study: str, *, actor: str, reason: str, now: datetime) -> None:
    """Wait for no more images: the exam goes out with those that are there, when reports and PACS allow it.

    Raises:
        Refused: ``unknown-exam``; ``not-waiting-for-images``.
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    why = _why(tx, admission, study, reason)
    job = deciding_job(jobs.lane_jobs(tx, tenant=admission.tenant, lane=study))
    if job is None or job.reason not in WAITING_FOR_IMAGES:
        raise Refused(
            f"exam {study} does not wait for images",
            code="not-waiting-for-images",
            hint="its timeline says what it waits for, if anything",
        )
    _record(tx, admission, study, event="exam.hurried", kind="hurried", actor=actor, why=why, now=now)
    admission.hurry(tx, study, actor=actor, now=now)


def _why(tx: Tx, admission: Admission, study: str, reason: str) -> str:
    if not admission.ledger.is_exam(tx, admission.tenant, study):
        raise Refused(f"no report speaks of study {study}", code="unknown-exam", hint="check the StudyInstanceUID")
    return release.checked_reason(tx, admission, study, reason)


def _record(
    tx: Tx, admission: Admission, study: str, *, event: str, kind: str, actor: str, why: str, now: datetime
) -> None:
    admission.ledger.note(tx, admission.tenant, study, kind=kind, summary=f"{why} ({actor})", now=now)
    release.audit_exam(tx, admission, study, event=event, actor=actor, detail=why, now=now)
