"""The accepting side of one association, without a socket: bytes in → happenings out, decisions in → bytes out.

``Acceptor`` joins framing, the state table and the assembly of messages (PS3.7 8.1, annex F).

Invariants:

* every PDU and every decision passes the table of ``states``; what it does not allow aborts the association;
* a data set is passed on fragment by fragment, never gathered; a command set is gathered up to 64 KiB;
* one operation at a time: until its final answer only a cancellation, or the answer to what we invoked, may come;
* after an abort nothing that still arrives is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.dimse.associate import Acceptance, ContextAnswer, Proposal, acceptance_pdu, read_request
from gateway.dimse.command import COMMAND_BYTES_MAX, Command, Field, read_command
from gateway.dimse.pdu import (
    HEADER_BYTES,
    RELEASE_RP,
    AbortReason,
    Fragment,
    Pdu,
    PduReader,
    PduType,
    Violation,
    abort_pdu,
    data_pdus,
    reject_pdu,
)
from gateway.dimse.states import TABLE, Action, Event, State

PDU_OUT_BYTES_MAX = 128 * 1024  # what we send in one PDU, whatever the peer would take
PDU_OUT_BYTES_MIN = 64  # a peer that takes less cannot be served


@dataclass(frozen=True, slots=True)
class Requested:
    """The peer wants an association: decide."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Asked:
    """A request is complete; when it ``has_data``, its fragments follow."""

    command: Command
    context: ContextAnswer


@dataclass(frozen=True, slots=True)
class Answered:
    """The peer answered what we invoked."""

    command: Command


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The peer takes a request back (C-CANCEL)."""

    message_id: int


@dataclass(frozen=True, slots=True)
class ReleaseWanted:
    """The peer wants to end in order."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The peer aborted."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The peer broke the protocol: send ``pdu`` (an A-ABORT), then close. ``rule``: what it broke."""

    pdu: bytes
    rule: str


Happening = Requested | Asked | Fragment | Answered | Cancelled | ReleaseWanted | Aborted | Broke

_EVENTS = {
    PduType.ASSOCIATE_RQ: Event.REQUEST_RECEIVED,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_RECEIVED,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_RECEIVED,
    PduType.RELEASE_RQ: Event.RELEASE_RECEIVED,
    PduType.RELEASE_RP: Event.RELEASE_ANSWER_RECEIVED,
    PduType.ABORT: Event.ABORT_RECEIVED,
}


class Acceptor:
    """One association. ``pdu_bytes_max``: the longest P-DATA PDU taken."""

    def __init__(self, *, pdu_bytes_max: int) -> None:
        self.reader = PduReader(data_bytes_max=pdu_bytes_max)
        self.state = State.IDLE
        self._step(Event.CONNECTED)
        self._request = b""
        self._contexts: dict[int, ContextAnswer] = {}
        self._out_bytes_max = PDU_OUT_BYTES_MAX
        self._command = bytearray()
        self._command_context = 0  # of a command that is not whole, 0 for none
        self._data_context = 0  # of a data set that is not whole, 0 for none
        self._in_hand: int | None = None  # message id of the request that we perform
        self._invoked: int | None = None  # message id of what we asked the peer

    @property
    def is_amid_message(self) -> bool:
        """Part of a message came and the rest is awaited."""
        return bool(self._command_context or self._data_context)

    @property
    def is_performing(self) -> bool:
        """A complete request waits for our answer."""
        return self._in_hand is not None and not self._data_context

    @property
    def awaits_answer(self) -> bool:
        """The peer owes the answer to what we invoked."""
        return self._invoked is not None

    # ── what the peer sends ──────────────────────────────────────────────────────────────────────────────────

    def receive(self, data: memoryview) -> Iterator[Happening]:
        """What came of ``data``. A fragment is valid until the next happening is asked for."""
        try:
            for unit in self.reader.receive(data):
                if self.state in {State.CLOSING, State.IDLE}:
                    return
                happening = self._fragment(unit) if isinstance(unit, Fragment) else self._pdu(unit)
                if happening is not None:
                    yield happening
                if self.state in {State.CLOSING, State.IDLE}:
                    return
        except Violation as broken:
            if self.state not in {State.CLOSING, State.IDLE}:
                self._step(Event.UNKNOWN_RECEIVED)
                yield Broke(abort_pdu(broken.reason), str(broken))

    def _pdu(self, unit: Pdu) -> Happening | None:
        match self._step(_EVENTS[unit.type]):
            case Action.ASK_DECISION:
                self._request = unit.body
                return Requested(read_request(unit.body))
            case Action.ASK_RELEASE:
                return ReleaseWanted()
            case Action.CLOSE | Action.TELL_ABORT:
                return Aborted()
            case Action.SEND_ABORT | Action.SEND_ABORT_TELL:
                return Broke(abort_pdu(AbortReason.UNEXPECTED_PDU), f"a PDU of type {unit.type} out of turn")
            case _:
                return None

    def _fragment(self, fragment: Fragment) -> Happening | None:
        if self.state is not State.ESTABLISHED:  # established is the common case, and the table's plainest line
            self._step(Event.DATA_RECEIVED)
            return Broke(abort_pdu(AbortReason.UNEXPECTED_PDU), "data out of turn")
        if fragment.is_command:
            return self._command_fragment(fragment)
        if fragment.context_id != self._data_context:
            raise Violation("data without a command, or in another presentation context")
        if fragment.is_last:
            self._data_context = 0
        return fragment

    def _command_fragment(self, fragment: Fragment) -> Happening | None:
        context = self._contexts.get(fragment.context_id)
        if context is None:
            raise Violation("a presentation context that was not accepted")
        if self._data_context or self._command_context not in {0, fragment.context_id}:
            raise Violation("a command inside another message")
        self._command_context = fragment.context_id
        self._command += fragment.data
        if len(self._command) > COMMAND_BYTES_MAX:
            raise Violation(f"a command set of more than {COMMAND_BYTES_MAX} bytes")
        if not fragment.is_last:
            return None
        command = read_command(bytes(self._command))
        self._command.clear()
        self._command_context = 0
        return self._assembled(command, context)

    def _assembled(self, command: Command, context: ContextAnswer) -> Happening:
        if command.field == Field.C_CANCEL:
            if command.has_data:
                raise Violation("a cancellation with a data set")
            return Cancelled(command.message_id)
        if command.is_response:
            if self._invoked != command.message_id or command.has_data:
                raise Violation("an answer to nothing we asked")
            self._invoked = None
            return Answered(command)
        if self._in_hand is not None:
            raise Violation("a second operation at once: the window is 1/1")
        self._in_hand = command.message_id
        if command.has_data:
            self._data_context = context.context_id
        return Asked(command, context)

    # ── what we decide ───────────────────────────────────────────────────────────────────────────────────────

    def accept(self, answer: Acceptance, *, peer_bytes_max: int) -> bytes:
        """The A-ASSOCIATE-AC. ``peer_bytes_max``: the longest P-DATA PDU the peer takes, 0 for any."""
        self._step(Event.ACCEPT)
        self._contexts = {context.context_id: context for context in answer.contexts if context.result == 0}
        if peer_bytes_max:
            self._out_bytes_max = max(PDU_OUT_BYTES_MIN, min(PDU_OUT_BYTES_MAX, peer_bytes_max))
        request, self._request = self._request, b""
        return acceptance_pdu(request, answer)

    def reject(self, result: int, source: int, reason: int) -> bytes:
        """The A-ASSOCIATE-RJ; the peer must close."""
        self._step(Event.REJECT)
        return reject_pdu(result, source, reason)

    def answer(self, context_id: int, command: bytes, data: bytes | None = None, *, is_final: bool) -> bytes:
        """The PDUs of a response."""
        self._step(Event.SEND_DATA)
        if is_final:
            self._in_hand = None
        return b"".join(self._message(context_id, command, data))

    def invoke(self, context_id: int, message_id: int, command: bytes) -> bytes:
        """The PDUs of the command of a sub-operation; its data set follows by ``data``."""
        self._step(Event.SEND_DATA)
        self._invoked = message_id
        return b"".join(data_pdus(context_id, command, is_command=True, is_last=True, bytes_max=self._out_bytes_max))

    def data(self, context_id: int, piece: bytes | memoryview, *, is_last: bool) -> Iterator[bytes]:
        """The PDUs of the next piece of a data set."""
        self._step(Event.SEND_DATA)
        return data_pdus(context_id, piece, is_command=False, is_last=is_last, bytes_max=self._out_bytes_max)

    def _message(self, context_id: int, command: bytes, data: bytes | None) -> Iterator[bytes]:
        most = self._out_bytes_max
        yield from data_pdus(context_id, command, is_command=True, is_last=True, bytes_max=most)
        if data is not None:
            yield from data_pdus(context_id, data, is_command=False, is_last=True, bytes_max=most)

    def context_of(self, abstract_syntax: str, transfer_syntax: str) -> ContextAnswer | None:
        """An accepted context for exactly that, None when there is none."""
        return next(
            (
                context
                for context in self._contexts.values()
                if (context.abstract_syntax, context.transfer_syntax) == (abstract_syntax, transfer_syntax)
            ),
            None,
        )

    def release(self) -> bytes:
        """The A-RELEASE-RP; the peer must close."""
        self._step(Event.ANSWER_RELEASE)
        return RELEASE_RP

    def abort(self) -> bytes:
        """An A-ABORT of ours, b"" when there is nothing left to abort."""
        if (self.state, Event.ABORT) not in TABLE:
            return b""
        self._step(Event.ABORT)
        return abort_pdu(AbortReason.NOT_SPECIFIED)

    def _step(self, event: Event) -> Action:
        action, self.state = TABLE[self.state, event]
        return action


assert PDU_OUT_BYTES_MIN > HEADER_BYTES
