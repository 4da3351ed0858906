"""What people see of an exam: its state in words, and every dated fact in order.

The exam's state is never stored: it is read off the jobs of its lane (design: *exam state* is what people
see, *job state* is the engine's). Pure: rows in, values out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.ledger import Evidence
from indexer.questions import Answered
from security.outbox.jobs import Change
from security.outbox.port import Job
from security.outbox.states import STOPPED, State


class ExamState(StrEnum):
    """Where an exam stands, for people."""

    WAITING = "waiting"
    HELD = "held"
    SENDING = "sending"
    ACCEPTED = "accepted"
    INDEXED = "indexed"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


EXAM_STATE: dict[State, ExamState] = {
    State.RECEIVING: ExamState.WAITING,
    State.SETTLING: ExamState.WAITING,
    State.READY: ExamState.WAITING,
    State.RETRY_WAIT: ExamState.WAITING,
    State.BLOCKED: ExamState.HELD,
    State.LEASED: ExamState.SENDING,
    State.SENT: ExamState.SENDING,
    State.UNKNOWN: ExamState.SENDING,
    State.ACCEPTED: ExamState.ACCEPTED,
    State.PUBLISHED: ExamState.INDEXED,
    State.DEAD: ExamState.FAILED,
}
"""CANCELLED and SUPERSEDED jobs say nothing of their own: the job before or after them does. ``exam_state`` knows
the two exceptions."""

SHADOW = "shadow-mode"
"""Reason of an exam that is ready and not sent, because its tenant only rehearses: it waits, nobody has to act."""

WAITING_FOR_IMAGES = frozenset({"images-arriving", "images-step-in-progress", "images-expected"})
"""Reasons of an exam whose images are not complete (``completeness``): it goes on by itself or by a person's word."""

OVER = frozenset({ExamState.INDEXED, ExamState.WITHDRAWN})
"""States in which nothing is missing."""


def exam_state(job: Job) -> ExamState:
    """What a job says of its exam.

    Raises:
        KeyError: a CANCELLED or SUPERSEDED job says nothing.
    """
    if job.state is State.BLOCKED and job.reason == SHADOW:
        return ExamState.WAITING
    if job.state is State.PUBLISHED and is_withdrawal(job.kind):
        return ExamState.WITHDRAWN
    return EXAM_STATE[job.state]


def is_withdrawal(kind: str) -> bool:
    """Whether jobs of this kind take an entry out of the index."""
    return kind.startswith("withdraw:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the timeline, without patient values. ``reason``: its code, "" for none; ``detail``: one sentence,
    plain English; ``answered``: of a PACS, which is said from its facts alone."""

    at: datetime
    what: str
    detail: str
    reason: str = ""
    answered: Answered | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """One exam for people: state, why, what comes next, and how it got there.

    ``seconds_to_index``: from the report that asked for the newest indexed version to the query that showed it.
    """

    study: str
    state: ExamState
    reason: str
    missing: str
    next_try: datetime | None
    attempts: int
    seconds_to_index: float | None
    steps: tuple[Step, ...]


_AGAIN = "tried again by itself"
MISSING: dict[str, str] = {
    "pacs-has-no-such-study": "the PACS does not have this study yet; check that the modality has sent it and that"
    f" the report names the right StudyInstanceUID; {_AGAIN}",
    "pacs-unauthorised": "the PACS refuses our password: correct username and password_file under"
    " [tenants.<name>.pacs.<pacs>], then restart; the exam is tried again by itself",
    "pacs-unreachable": f"nothing answers at the address under [tenants.<name>.pacs.<pacs>]; {_AGAIN}",
    "pacs-refused": "the PACS refuses our association: it must know calling_aet and accept called_aet of"
    f" [tenants.<name>.pacs.<pacs>]; {_AGAIN}",
    "pacs-control-missing": "the PACS answers, yet lacks its control_study: it may have been emptied or restored",
    "pacs-disagree": "several PACS hold this study and not the same one: correct the wrong one, then let the RIS send"
    " the report again",
    "not-for-index": "a valid report says DESTDMP = N; a report that replaces it must allow publication",
    "no-valid-report": "no valid report speaks of this study",
    "kept-out": "a person took this exam out of the index: only a person lets it back (poterne exam republish)",
    "images-arriving": "images may still be arriving; the PACS is looked at again at the time given, and the exam"
    " goes out once it stays the same; a person who knows that nothing is missing can publish it now",
    "images-step-in-progress": "a modality says that it is still at work on this exam (MPPS); the exam goes out once"
    " the step has ended, at the latest after [tenants.<name>.completeness] ceiling_s",
    "images-expected": "the modality or the archive lists images that the PACS does not have: see that they were"
    " sent; the exam goes out without them after [tenants.<name>.completeness] ceiling_s",
    "pacs-absent-once": "the PACS holds nothing of an exam that is in the index; it is asked again an hour later, and"
    " the exam is withdrawn if it is still not there",
    "pacs-absent-many": "many exams vanished from the PACS at once, and nothing is withdrawn for that: look whether"
    " it was emptied or restored; once it holds them again, try again; take out by hand what is really gone",
    "pacs-unproven": "the PACS holds nothing of an exam that is in the index, and nothing proves that it was not"
    " emptied or restored: it has no control_study, and no other exam of the index was found in it; look there, then"
    " take the exam out by hand, or try again once it is back; name a control_study",
    "pacs-witness-missing": "the PACS holds nothing of an exam that is in the index, nor of the one it held most"
    " recently: it may have been emptied or restored; where both are really gone, take one out by hand;"
    f" {_AGAIN}",
    "all-rejected": "every image that the PACS holds of the exam was rejected by a note: it is published once other"
    f" images come; if a note was wrong, see hiding_titles under [tenants.<name>.dicom]; {_AGAIN}",
    "entry-deprecated-by-others": "somebody else deprecated our entry; ask the index who, then decide",
    "entry-missing": "the index no longer shows an entry it showed before; ask the index why, then decide",
    "never-shown": "the index took it many times and never showed it; ask the index what became of it",
    "not-visible-yet": f"the index accepted it; a query does not show it yet; {_AGAIN}",
    "identity-test-authority": "the matricule is one of the test or demonstration authority; only on a test platform,"
    ' set [tenants.<name>.identity] test_identity = "off" and send the report again',
    "identity-ins-status": "the identity is not qualified (PID-32 is not VALI): qualify it, then let the RIS send the"
    " report again",
    "identity-ins-key": "the matricule's key is wrong: correct it at its source, then send the report again",
    "identity-ins-missing": "the message or the report states no INS: complete it, then send the report again",
    "identity-patient-id": "the identifier that names the patient in the index differs between sources: correct it at"
    " its source, then send the report again",
    "identity-patient-id-missing": "the message or the report states no single identifier of the patient domain"
    " ([tenants.<name>] patient_domain): complete it, then send the report again",
    "identity-ins-authority": "the authority of the INS is unknown, or the sources name two: correct it at its"
    " source, then send the report again",
    "identity-ins-digits": "the matricule contradicts the sex or the birth date: correct the source that is wrong,"
    " then send the report again",
    "identity-ins": "two different INS for one message, exam or local identifier, and nobody can accept that: correct"
    " the source that is wrong, then send the report again",
    "identity-ins-renumbered": "this person had a provisional number (NIA) and now has a NIR, or they are two"
    " persons: check both numbers at their source, then release the exam or correct the source that is wrong",
    "accession-unknown": "the accession number of the PACS is none of the report's orders: make sure that it is this"
    " exam, then release it; or correct the PACS or the report, then let the RIS send it again",
    "patient-opposed": "the patient opposes being in the index: nothing goes out unless the patient takes that back",
    "shadow-mode": "it is ready and not sent, because the tenant is in shadow mode; nothing is to be done before"
    ' [tenants.<name>] says mode = "live"',
    "index-unknown": "the database was restored, and the index did not tell yet what it holds of the study;"
    f" {_AGAIN}",
    "adoption-waits": "the database was restored and forgot an entry that the index shows; the PACS must tell what"
    f" of: see that it answers; {_AGAIN}",
    "withdrawn-elsewhere": "the index says that this exam was withdrawn, and the database was restored from before"
    " that: a new report publishes it again",
    "archive-link": "the archive it was imported from names a report that is another patient's or about other exams:"
    " compare both, then release the exam, or let the RIS send its report",
    "paused": "somebody paused this tenant: it goes on by itself once the tenant is resumed",
    "still-visible": f"the index accepted the withdrawal; a query still shows the entry; {_AGAIN}",
    "never-withdrawn": "the index took the withdrawal many times and still shows the entry; ask the index why",
    "update-refused": "the index does not take new metadata of an entry: the manifest is replaced, by itself",
    "entry-changed": f"the entry is not as it was when this was prepared; what to do is decided again, {_AGAIN}",
    "entry-changed-by-others": "somebody else changed our entry while it was withdrawn; ask the index who, then"
    " decide",
    "submission-missing": "the stored bytes of this version are gone: compare the database with its backup, then try"
    " again",
    "poison": "its worker died several times on it: keep the log, report the defect, then try again or let the RIS"
    " send the report again",
    "tries-exhausted": "it was tried as often as allowed: mend what the last step of its timeline names, then try"
    " again",
    "no-answer-in-time": f"a peer did not answer in time; {_AGAIN}",
    "worker-died": f"the gateway stopped while it worked on it; {_AGAIN}",
    "confidentiality-unknown": "a report states a confidentialityCode that no table knows: correct the report, then"
    " send one that replaces it",
    "metadata-character": "a value of the report holds a character that the index cannot take: correct the report,"
    " then send one that replaces it",
    "metadata-no-patient-id": "the patient has neither a qualified INS nor an identifier of a known issuer: complete"
    " PID-3 at its source, then send the report again",
    "index-XDSPatientIdDoesNotMatch": "the index refuses it: the patient of the request is not the patient it knows"
    " under this identifier, or of the entry that is replaced; check the INS at its source, then send the report"
    " again",
    "index-XDSUnknownPatientId": "the index does not know the patient: check the INS at its source, and whether the"
    " index must be told of a patient first; then send the report again",
    "internal-fault": "this is a defect: keep the log and report it",
}
"""What would let the exam go on, by reason; a prefix rule covers the families."""

_FAMILIES: tuple[tuple[str, str], ...] = (
    (
        "identity-",
        (
            "somebody must compare the two values at their sources: if both mean this person, release the exam; if"
            " not, correct the source that is wrong and send the report again, or one that replaces it"
        ),
    ),
    ("pacs-", f"a clean answer of the PACS under [tenants.<name>.pacs.<pacs>]; {_AGAIN}"),
    ("index-tls-refused", f"the index refuses our certificate, or we refuse its own: poterne check; {_AGAIN}"),
    (
        "index-certificate-",
        (
            "what signs our requests is not valid now: renew sign_certificate_file and sign_key_file under"
            f" [tenants.<name>.index]; {_AGAIN}"
        ),
    ),
    (
        "sign-",
        (
            "what signs our submissions is not valid now: renew sign_certificate_file and sign_key_file under"
            f" [tenants.<name>.index]; {_AGAIN}"
        ),
    ),
    ("index-", f"a clean answer of the index under [tenants.<name>.index]; {_AGAIN} unless the exam is held"),
)


def missing(reason: str) -> str:
    """One sentence: what would let the exam go on. Empty when nothing is missing."""
    if reason in MISSING:
        return MISSING[reason]
    return next((text for prefix, text in _FAMILIES if reason.startswith(prefix)), "")


def deciding_job(jobs: Sequence[Job]) -> Job | None:
    """The job whose state is the exam's: the one that stops the lane, because nothing behind it can move; else the
    newest unfinished one; else the newest published one."""
    telling = [job for job in jobs if job.state in EXAM_STATE]
    unfinished = [job for job in telling if job.state is not State.PUBLISHED]
    if unfinished:
        return next((job for job in unfinished if job.state in STOPPED), unfinished[-1])
    return telling[-1] if telling else None


def compose(
    study: str,
    evidence: Sequence[Evidence],
    jobs: Sequence[Job],
    changes: Sequence[Change],
    answers: Sequence[Answered] = (),
) -> Exam:
    """The exam as people see it, its steps oldest first."""
    steps = [
        *(Step(at=e.at, what=e.kind, detail=e.summary) for e in evidence),
        *(Step(at=one.first_at, what="pacs-answer", detail="", answered=one) for one in answers),
        *(
            Step(
                at=change.at,
                what=SHADOW if change.reason == SHADOW else change.to_state.lower(),
                detail=change.detail,
                reason=change.reason,
            )
            for change in changes
        ),
    ]
    job = deciding_job(jobs)
    state = exam_state(job) if job else ExamState.WAITING
    settled = state in OVER
    return Exam(
        study=study,
        state=state,
        reason=job.reason if job and not settled else "",
        missing=missing(job.reason) if job and not settled else "",
        next_try=job.not_before if job and not settled and state is not ExamState.HELD else None,
        attempts=job.attempts if job else 0,
        seconds_to_index=_seconds_to_index(jobs, changes),
        steps=tuple(sorted(steps, key=lambda step: step.at)),
    )


def _seconds_to_index(jobs: Sequence[Job], changes: Sequence[Change]) -> float | None:
    published = [job for job in jobs if job.state is State.PUBLISHED and not is_withdrawal(job.kind)]
    if not published:
        return None
    shown: list[datetime] = [
        c.at for c in changes if c.job_id == published[-1].job_id and c.to_state is State.PUBLISHED
    ]
    return (shown[-1] - published[-1].accepted_at).total_seconds()
