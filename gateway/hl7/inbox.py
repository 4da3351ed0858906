"""The rows of received messages and their answers.

Invariants:

* the same message again (same sender, MSH-10 and bytes) is found with the answer it got first;
* content is sealed; what stands in clear names the sender, the message and the reason, never a patient;
* a message and the audit row of having answered it are written together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from gateway.hl7.ack import AckCode, build_ack
from security import audit
from security.clock import from_ms, to_ms
from security.outbox.port import JobClass
from security.parse.hl7 import Message, Problem
from security.seal import Vault
from security.store.port import ReadTx, Tx

ZONE = "pacs"
_KIND = re.compile(r"[A-Z]{3}\^[A-Z][A-Z0-9]{2}", re.ASCII)  # MSH-9: tables 0076 and 0003


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One message as it arrived: its bytes, what identifies it, and its parsed form if it has one. ``job_class``: how
    urgent what follows from it is."""

    raw: bytes
    at: datetime
    message: Message | None
    sender: str
    control_id: str
    message_type: str
    digest: bytes
    job_class: JobClass


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a message came to. ``report_id``: the report it brought in, "" for none."""

    code: AckCode
    problems: Sequence[Problem] = ()
    report_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was answered: MSA-1, the code of the first reason against the message, the bytes."""

    code: str
    reason: str
    ack: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedMessage:
    """A message that was not taken, for people. ``reason``: a code of ``gateway.hl7.reasons``."""

    at: datetime
    sender: str
    control_id: str
    message_type: str
    code: str
    reason: str


def refused(tx: ReadTx, tenant: str, limit: int) -> list[RefusedMessage]:
    """The messages that were last answered other than AA, newest first, at most ``limit``."""
    rows = tx.rows(
        "SELECT received_at, sender, control_id, message_type, ack_code, reason FROM hl7_message"
        " WHERE tenant = :tenant AND ack_code <> 'AA' ORDER BY received_at DESC, message_id DESC LIMIT :limit",
        tenant=tenant,
        limit=limit,
    )
    return [
        RefusedMessage(
            at=from_ms(row["received_at"]),
            sender=row["sender"],
            control_id=row["control_id"],
            message_type=row["message_type"],
            code=row["ack_code"],
            reason=row["reason"],
        )
        for row in rows
    ]


def received(raw: bytes, message: Message | None, at: datetime, *, job_class: JobClass = JobClass.P1) -> Received:
    """A message, known by its header as far as it could be read."""
    header = message.header if message else None
    return Received(
        raw=raw,
        at=at,
        message=message,
        sender=_shown(f"{header.text(3)}|{header.text(4)}") if header else "",
        control_id=_shown(header.text(10)) if header else "",
        message_type=_kind(f"{header.text(9)}^{header.text(9, 2)}") if header else "",
        digest=hashlib.sha256(raw).digest(),
        job_class=job_class,
    )


class Inbox:
    """The received messages of one tenant."""

    def __init__(self, *, tenant: str, vault: Vault, timezone: tzinfo) -> None:
        self._tenant = tenant
        self._vault = vault
        self._timezone = timezone

    def first_answer(self, tx: ReadTx, message: Received) -> Answered | None:
        """What was answered to exactly this message before, or None."""
        row = tx.row(
            "SELECT ack_code, reason, ack FROM hl7_message WHERE tenant = :tenant AND sender = :sender"
            " AND control_id = :control_id AND digest = :digest",
            tenant=self._tenant,
            sender=message.sender,
            control_id=message.control_id,
            digest=message.digest,
        )
        return Answered(code=row["ack_code"], reason=row["reason"], ack=row["ack"]) if row else None

    def is_control_id_in_use(self, tx: ReadTx, message: Received) -> bool:
        """Whether another message of the sender brought in a report under this control id."""
        return bool(
            tx.rows(
                "SELECT message_id FROM hl7_message WHERE tenant = :tenant AND sender = :sender"
                " AND control_id = :control_id AND report_id <> '' LIMIT 1",
                tenant=self._tenant,
                sender=message.sender,
                control_id=message.control_id,
            )
        )

    def answer(self, tx: Tx, message: Received, outcome: Outcome) -> Answered:
        """Store the message with its answer, and the audit row of having given it."""
        key = hashlib.sha256(message.sender.encode() + b"\0" + message.digest).hexdigest()
        ack = build_ack(
            message.message,
            outcome.code,
            control_id=key[:20].upper(),
            at=message.at.astimezone(self._timezone),
            problems=outcome.problems,
        )
        reason = outcome.problems[0].code if outcome.problems else ""
        tx.change(
            "INSERT INTO hl7_message (tenant, zone, sender, control_id, digest, received_at, message_type, ack_code,"
            " reason, report_id, ack, content) VALUES (:tenant, :zone, :sender, :control_id, :digest, :now,"
            " :message_type, :code, :reason, :report_id, :ack, :content)",
            tenant=self._tenant,
            zone=ZONE,
            sender=message.sender,
            control_id=message.control_id,
            digest=message.digest,
            now=to_ms(message.at),
            message_type=message.message_type,
            code=outcome.code.value,
            reason=reason,
            report_id=outcome.report_id,
            ack=ack,
            content=self._vault.seal(self._tenant, f"hl7_message.content/{key}", message.raw),
        )
        is_taken = outcome.code is AckCode.ACCEPT
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._tenant,
                zone=ZONE,
                at=message.at,
                event="hl7.received" if is_taken else "hl7.refused",
                actor=f"pacs-peer {message.sender}",
                outcome=0 if is_taken else 4,
                object_type="hl7-message",
                object_id=message.control_id,
                detail=reason,
            ),
        )
        return Answered(code=outcome.code.value, reason=reason, ack=ack)


def _kind(text: str) -> str:
    """A message type, "" for what has not its form: with shifted fields anything stands there (T34)."""
    return text if _KIND.fullmatch(text) else ""


def _shown(text: str) -> str:
    """A header value as it may stand in a row, a log line or on a terminal: bounded, nothing but print."""
    return "".join(c if c.isprintable() else "�" for c in text)[:199]
