"""From a received HL7 message to its answer: parse, gate, commit everything at once, then acknowledge.

Invariants:

* the answer is written only after message, report, evidence, audit row and jobs are durable in one transaction;
* the same message again (same sender, MSH-10 and bytes) gets the first answer again and has no further effect;
* the same report by another message is one effect;
* a message that cannot be taken is kept, sealed, with the reason, and disturbs nobody else;
* an identity conflict is stored, holds every exam the report speaks of, and is answered AE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

import structlog

from gateway.hl7.ack import AckCode, build_ack, fault_problem
from gateway.hl7.oru import MessageRefused, ReportMessage, read_oru
from indexer import gate
from indexer.ledger import HeldReport, Ledger, StatedReport, digest
from indexer.publication import job_kind
from security import audit
from security.clock import Clock, to_ms
from security.errors import BadInput
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from security.parse.hl7 import Message, Problem, parse_message
from security.seal import Vault
from security.store.port import Store, Tx

log = structlog.get_logger()

ZONE = "pacs"
_REJECTED = frozenset(
    {"unsupported-type", "unsupported-event", "unsupported-processing", "unsupported-version", "second-header"}
)
"""Problems that make a message none of ours (AR); the others are faults of its content (AE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Received:
    """One message as it arrived: its bytes, what identifies it, and its parsed form if it has one."""

    raw: bytes
    at: datetime
    message: Message | None
    sender: str
    control_id: str
    message_type: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """What was answered: MSA-1, the code of the first reason against the message, the bytes."""

    code: str
    reason: str
    ack: bytes


class Intake:
    """The HL7 door of one tenant; ``handle`` is what the MLLP server calls."""

    def __init__(
        self,
        *,
        tenant: str,
        store: Store,
        vault: Vault,
        ledger: Ledger,
        rules: gate.Rules,
        timezone: tzinfo,
        fallback_charset: str,
        clock: Clock,
        enqueued: Callable[[], None],
        observe: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._vault = vault
        self._ledger = ledger
        self._rules = rules
        self._timezone = timezone
        self._fallback = fallback_charset
        self._clock = clock
        self._enqueued = enqueued
        self._observe = observe

    async def handle(self, raw: bytes, _peer: object = None) -> bytes:
        """The acknowledgement of one message, durable before it is returned.

        Raises:
            Broken: nothing could be stored, so nothing may be answered: the sender must send again.
        """
        message: Message | None = None
        try:
            message = parse_message(raw, fallback=self._fallback)
            stated = read_oru(message, timezone=self._timezone)
            received = _received(raw, message, self._clock.now())
            answered = await self._store.write(lambda tx: self._take(tx, received, stated))
        except BadInput as fault:
            problems = fault.problems if isinstance(fault, MessageRefused) else (fault_problem(fault),)
            received = _received(raw, message, self._clock.now())
            answered = await self._store.write(lambda tx: self._refuse(tx, received, problems))
        self._observe(answered.code)
        self._enqueued()
        if answered.code != AckCode.ACCEPT:
            log.warning(
                "hl7-refused",
                tenant=self._tenant,
                code=answered.code,
                reason=answered.reason,
                sender=received.sender,
                control_id=received.control_id,
            )
        return answered.ack

    def _refuse(self, tx: Tx, received: _Received, problems: Sequence[Problem]) -> _Answered:
        """Keep a message that is not usable and answer with every reason against it."""
        rejected = received.message is None or any(problem.code in _REJECTED for problem in problems)
        code = AckCode.REJECT if rejected else AckCode.ERROR
        return self._first_answer(tx, received) or self._answer(tx, received, code, problems)

    def _take(self, tx: Tx, received: _Received, stated: ReportMessage) -> _Answered:
        """Everything a readable report message changes, inside one transaction."""
        given = self._first_answer(tx, received)
        if given:
            return given
        content = StatedReport(envelope=stated.envelope, report=stated.report)
        known = self._ledger.report(tx, self._tenant, str(stated.report.document_id))
        is_repeat = known is not None and known[1] == digest(content)  # a sender may repeat with a new MSH-7
        against = self._against(tx, received, stated, is_repeat=is_repeat)
        if against:
            return self._answer(tx, received, AckCode.ERROR, (against,))
        if known and not is_repeat:
            problem = Problem(
                code="wrong-version",
                text="this document id was received before with other content; a new version needs a new id",
            )
            return self._answer(tx, received, AckCode.ERROR, (problem,))
        verdict = gate.before_ack(
            envelope=stated.envelope,
            report=stated.report,
            held=self._ledger.held_for(tx, self._tenant, content),
            rules=self._rules,
        )
        if known:
            verdict = self._again(tx, received, content, known[0], verdict)
        else:
            self._record(tx, received, content, verdict, stated.notes)
        problems = [_conflict_problem(conflict) for conflict in verdict.conflicts if conflict.severity == "hold"]
        code = AckCode.ERROR if verdict.holds else AckCode.ACCEPT
        report_id = "" if known else str(stated.report.document_id)
        return self._answer(tx, received, code, problems, report_id=report_id)

    def _against(self, tx: Tx, received: _Received, stated: ReportMessage, *, is_repeat: bool) -> Problem | None:
        """What makes a readable report message unusable here, or None."""
        if not is_repeat and self._control_id_in_use(tx, received):
            return Problem(
                code="control-id-reused",
                segment="MSH",
                sequence=1,
                field=10,
                text="MSH-10 was used for another message that was taken; send this one under a new control id",
            )
        if stated.order_control == "CA" or stated.result_status == "D":
            return Problem(
                code="withdrawal-unsupported",
                segment="ORC",
                sequence=1,
                field=1,
                text="this gateway cannot withdraw a report yet; the message is kept and nothing was changed",
            )
        return None

    def _again(
        self, tx: Tx, received: _Received, content: StatedReport, known: HeldReport, verdict: gate.Verdict
    ) -> gate.Verdict:
        """The same report by another message, or the same with another time stamp: one effect, judged again.

        What the envelope says may have changed: a conflict holds a report that was valid, its absence releases one
        that was held, and one that the PACS contradicts settles again, because the PACS may have been corrected.
        """
        for study in content.report.studies:
            self._note(tx, study, "report-received-again", f"by message {received.control_id}", received)
        if known.status == "valid" and not verdict.holds:
            if known.contested:
                self._enqueue(tx, content.report.studies, State.SETTLING, received)
            return verdict
        if known.status not in {"valid", "held"}:
            return gate.Verdict()
        if known.status == "held" and verdict.holds:
            return verdict
        self._ledger.restate(
            tx, self._tenant, content, status="held" if verdict.holds else "valid", reason=verdict.reason
        )
        self._follow(tx, received, content, verdict)
        return verdict

    def _record(
        self, tx: Tx, received: _Received, content: StatedReport, verdict: gate.Verdict, notes: Sequence[Problem]
    ) -> None:
        """A report seen for the first time: the row, its evidence, and what follows from it."""
        report = content.report
        status = "held" if verdict.holds else "valid"
        if status == "valid" and self._ledger.is_replaced(tx, self._tenant, content):
            status = "replaced"  # its successor overtook it on the way
        self._ledger.add_report(
            tx,
            self._tenant,
            content,
            zone=ZONE,
            control_id=received.control_id,
            status=status,
            reason=verdict.reason,
            now=received.at,
        )
        told = [f"report {report.document_id} by message {received.control_id}"]
        told += [f"replaces {report.replaces}"] if report.replaces else []
        told += [f"{note.code}: {note.text}" for note in notes]
        for study in report.studies:
            self._note(tx, study, "report-received", "; ".join(told), received)
        self._follow(tx, received, content, verdict)

    def _follow(self, tx: Tx, received: _Received, content: StatedReport, verdict: gate.Verdict) -> None:
        """One job per exam the report touches, those of the report it replaces included; conflicts are noted."""
        report = content.report
        studies = list(report.studies)
        if report.replaces and not verdict.holds:
            left = self._ledger.replace_report(tx, self._tenant, str(report.replaces))
            for study in left:
                self._note(
                    tx, study, "report-replaced", f"report {report.replaces} by {report.document_id}", received
                )
            studies += left
        if verdict.conflicts:
            kind = "identity-conflict" if verdict.holds else "identity-warning"
            for study in report.studies:
                self._ledger.note_conflicts(
                    tx, self._tenant, study, kind=kind, conflicts=verdict.conflicts, now=received.at
                )
        state = State.BLOCKED if verdict.holds else State.SETTLING
        self._enqueue(tx, studies, state, received, reason=verdict.reason, detail=verdict.summary())

    def _note(self, tx: Tx, study: str, kind: str, summary: str, received: _Received) -> None:
        self._ledger.note(tx, self._tenant, study, kind=kind, summary=summary, now=received.at)

    def _enqueue(
        self,
        tx: Tx,
        studies: Sequence[str],
        state: State,
        received: _Received,
        *,
        reason: str = "",
        detail: str = "",
    ) -> None:
        for study in dict.fromkeys(studies):
            jobs.enqueue(
                tx,
                tenant=self._tenant,
                lane=study,
                kind=job_kind(self._tenant),
                job_class=JobClass.P1,
                now=received.at,
                state=state,
                reason=reason,
                detail=detail,
            )

    def _first_answer(self, tx: Tx, received: _Received) -> _Answered | None:
        """What was answered to exactly this message before, or None."""
        row = tx.row(
            "SELECT ack_code, reason, ack FROM hl7_message WHERE tenant = :tenant AND sender = :sender"
            " AND control_id = :control_id AND digest = :digest",
            tenant=self._tenant,
            sender=received.sender,
            control_id=received.control_id,
            digest=received.digest,
        )
        return _Answered(code=row["ack_code"], reason=row["reason"], ack=row["ack"]) if row else None

    def _control_id_in_use(self, tx: Tx, received: _Received) -> bool:
        return bool(
            tx.rows(
                "SELECT message_id FROM hl7_message WHERE tenant = :tenant AND sender = :sender"
                " AND control_id = :control_id AND report_id <> '' LIMIT 1",
                tenant=self._tenant,
                sender=received.sender,
                control_id=received.control_id,
            )
        )

    def _answer(
        self,
        tx: Tx,
        received: _Received,
        code: AckCode,
        problems: Sequence[Problem],
        *,
        report_id: str = "",
    ) -> _Answered:
        """Store the message with its answer, and the audit row of having given it."""
        key = hashlib.sha256(received.sender.encode() + b"\0" + received.digest).hexdigest()
        ack = build_ack(
            received.message,
            code,
            control_id=key[:20].upper(),
            at=received.at.astimezone(self._timezone),
            problems=problems,
        )
        reason = problems[0].code if problems else ""
        tx.change(
            "INSERT INTO hl7_message (tenant, zone, sender, control_id, digest, received_at, message_type, ack_code,"
            " reason, report_id, ack, content) VALUES (:tenant, :zone, :sender, :control_id, :digest, :now,"
            " :message_type, :code, :reason, :report_id, :ack, :content)",
            tenant=self._tenant,
            zone=ZONE,
            sender=received.sender,
            control_id=received.control_id,
            digest=received.digest,
            now=to_ms(received.at),
            message_type=received.message_type,
            code=code.value,
            reason=reason,
            report_id=report_id,
            ack=ack,
            content=self._vault.seal(self._tenant, f"hl7_message.content/{key}", received.raw),
        )
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._tenant,
                zone=ZONE,
                at=received.at,
                event="hl7.received" if code is AckCode.ACCEPT else "hl7.refused",
                actor=f"pacs-peer {received.sender}",
                outcome=0 if code is AckCode.ACCEPT else 4,
                object_type="hl7-message",
                object_id=received.control_id,
                detail=reason,
            ),
        )
        return _Answered(code=code.value, reason=reason, ack=ack)


def _received(raw: bytes, message: Message | None, at: datetime) -> _Received:
    header = message.header if message else None
    return _Received(
        raw=raw,
        at=at,
        message=message,
        sender=_shown(f"{header.text(3)}|{header.text(4)}") if header else "",
        control_id=_shown(header.text(10)) if header else "",
        message_type=_shown(f"{header.text(9)}^{header.text(9, 2)}") if header else "",
        digest=hashlib.sha256(raw).digest(),
    )


def _shown(text: str) -> str:
    """A header value as it may stand in a row, a log line or on a terminal: bounded, nothing but print."""
    return "".join(c if c.isprintable() else "�" for c in text)[:199]


def _conflict_problem(conflict: gate.Conflict) -> Problem:
    """The conflict as an ERR may show it: named, its values masked."""
    code = "ins-missing" if conflict.code == "identity-ins-missing" else "ins-conflict"
    return Problem(code=code, text=f"{conflict.code}: {conflict.summary()}")
