"""From a received HL7 message to its answer: parse, read, carry out and commit everything at once, then acknowledge.

Invariants:

* the answer is written only after message, effects, evidence, audit row and jobs are durable in one transaction;
* the same message again (same sender, MSH-10 and bytes) gets the first answer again and has no further effect;
* the same report by another message, or in another envelope, is one effect;
* a message that cannot be taken is kept, sealed, with the reason, and disturbs nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import tzinfo

import structlog

from gateway.hl7.ack import AckCode, build_ack, fault_problem
from gateway.hl7.consent_message import ConsentMessage
from gateway.hl7.handlers import Handlers
from gateway.hl7.inbox import Answered, Inbox, Outcome, Received, received
from gateway.hl7.messages import Stated, read_message
from gateway.hl7.order_message import OrderMessage
from gateway.hl7.reading import MessageRefused
from gateway.hl7.report_message import ReportMessage
from indexer.admission import Admission
from indexer.ledger import Ledger
from security.clock import Clock
from security.errors import BadInput
from security.outbox.port import JobClass
from security.parse.hl7 import Message, Problem, parse_message
from security.seal import Vault
from security.store.port import Store, Tx

log = structlog.get_logger()

_REJECTED = frozenset(
    {"unsupported-type", "unsupported-event", "unsupported-processing", "unsupported-version", "second-header"}
)
"""Problems that make a message none of ours (AR); the others are faults of its content (AE)."""


class Intake:
    """The HL7 door of one tenant; ``handle`` is what the MLLP server calls."""

    def __init__(
        self,
        *,
        tenant: str,
        store: Store,
        vault: Vault,
        admission: Admission,
        ledger: Ledger,
        timezone: tzinfo,
        fallback_charset: str,
        clock: Clock,
        enqueued: Callable[[], None],
        observe: Callable[[str], None] = lambda _code: None,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._inbox = Inbox(tenant=tenant, vault=vault, timezone=timezone)
        self._handlers = Handlers(tenant=tenant, inbox=self._inbox, admission=admission, ledger=ledger)
        self._timezone = timezone
        self._fallback = fallback_charset
        self._clock = clock
        self._enqueued = enqueued
        self._observe = observe
        self._room = room

    async def handle(self, raw: bytes, _peer: object = None) -> bytes:
        """The acknowledgement of one message, durable before it is returned.

        Raises:
            Broken: nothing could be stored, so nothing may be answered: the sender must send again.
        """
        return (await self._answer(raw, JobClass.P1)).ack

    async def take(self, raw: bytes, *, job_class: JobClass) -> tuple[str, str]:
        """The same for a message that a person brings, with the urgency of what follows: MSA-1 of its answer, and the
        code of the first reason against it, "" for none."""
        answered = await self._answer(raw, job_class)
        return answered.code, answered.reason

    async def _answer(self, raw: bytes, job_class: JobClass) -> Answered:
        if not self._room():
            return self._postpone(raw)
        message: Message | None = None
        at = self._clock.now()
        try:
            message = parse_message(raw, fallback=self._fallback)
            stated = read_message(message, timezone=self._timezone, received_at=at)
            arrived = received(raw, message, at, job_class=job_class)
            answered = await self._store.write(lambda tx: self._take(tx, arrived, stated))
        except BadInput as fault:
            problems = fault.problems if isinstance(fault, MessageRefused) else (fault_problem(fault),)
            arrived = received(raw, message, at, job_class=job_class)
            answered = await self._store.write(lambda tx: self._refuse(tx, arrived, problems))
        self._observe(answered.code)
        self._enqueued()
        if answered.code != AckCode.ACCEPT:
            log.warning(
                "hl7-refused",
                tenant=self._tenant,
                code=answered.code,
                reason=answered.reason,
                hint="poterne queue refused names sender and message",  # not here: a header may hold anything (T34)
            )
        return answered

    def _postpone(self, raw: bytes) -> Answered:
        """There is no room: nothing is kept and the sender is told so, or what it believes safe would be lost."""
        try:
            message = parse_message(raw, fallback=self._fallback)
        except BadInput:
            message = None
        at = self._clock.now()
        problem = Problem(code="no-room", text="disk full: nothing was kept; send this message again later")
        ack = build_ack(
            message,
            AckCode.ERROR,
            control_id=hashlib.sha256(raw + str(at).encode()).hexdigest()[:20].upper(),
            at=at.astimezone(self._timezone),
            problems=(problem,),
        )
        self._observe(AckCode.ERROR.value)
        log.warning("hl7-refused", tenant=self._tenant, code=AckCode.ERROR.value, reason=problem.code)
        return Answered(code=AckCode.ERROR.value, reason=problem.code, ack=ack)

    def _take(self, tx: Tx, arrived: Received, stated: Stated) -> Answered:
        """Everything a readable message changes, inside one transaction."""
        given = self._inbox.first_answer(tx, arrived)
        return given or self._inbox.answer(tx, arrived, self._outcome(tx, arrived, stated))

    def _outcome(self, tx: Tx, arrived: Received, stated: Stated) -> Outcome:
        match stated:
            case ReportMessage():
                return self._handlers.report(tx, arrived, stated)
            case OrderMessage():
                return self._handlers.orders(tx, arrived, stated)
            case ConsentMessage():
                return self._handlers.consent(tx, arrived, stated)

    def _refuse(self, tx: Tx, arrived: Received, problems: Sequence[Problem]) -> Answered:
        """Keep a message that is not usable and answer with every reason against it."""
        rejected = arrived.message is None or any(problem.code in _REJECTED for problem in problems)
        code = AckCode.REJECT if rejected else AckCode.ERROR
        given = self._inbox.first_answer(tx, arrived)
        return given or self._inbox.answer(tx, arrived, Outcome(code=code, problems=problems))
