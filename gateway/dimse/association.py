"""One connection of the door in asyncio: bytes between the socket and ``protocol``, deadlines, back-pressure.

Reading is a callback without a task switch: a fragment goes from the shared buffer straight to its sink. Each
complete message wakes the connection's one task, which performs it and answers.

Invariants:

* a deadline runs for everything the peer owes (its request, a header, a body, the next message, the room to write)
  and stands still while we are the ones who make it wait;
* while a sink has no room nothing is read, so the peer's socket fills up and not our memory;
* whatever ends the connection, a sink that was not finished is abandoned.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Protocol, cast

import structlog

from gateway.dimse.access import refusal
from gateway.dimse.associate import ContextAnswer, Proposal
from gateway.dimse.command import Command, Field, Status
from gateway.dimse.limits import Limits
from gateway.dimse.negotiation import Rejection, negotiate
from gateway.dimse.pdu import Fragment
from gateway.dimse.protocol import (
    Aborted,
    Acceptor,
    Answered,
    Asked,
    Broke,
    Cancelled,
    Happening,
    ReleaseWanted,
    Requested,
)
from gateway.dimse.services import Admitted, Discard, Gather, Origin, Request, Services, Sink
from gateway.dimse.states import State

log = structlog.get_logger()

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)  # Linux; lost after each acknowledgement, so set again
_DROPPED_MAX = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A complete request, to be performed."""

    request: Request
    context: ContextAnswer
    sink: Sink | None


class Host(Protocol):
    """What a connection asks of its listener. ``buffer``: where every connection's bytes are read into."""

    limits: Limits
    services: Services
    buffer: memoryview

    def admit(self, association: Association, proposal: Proposal) -> Admitted | Rejection:
        """The judgement of a request, every cap considered."""
        ...

    def broke(self, association: Association, rule: str) -> None:
        """The peer broke the protocol."""
        ...

    def note(self, association: Association, event: str) -> None:
        """Something that the audit trail must hold."""
        ...


class Association(asyncio.BufferedProtocol):
    """The protocol of one accepted connection; ``operations`` is what its task lives on."""

    def __init__(self, host: Host, origin: Origin) -> None:
        self.origin = origin
        self.peer: Admitted | None = None
        self.ended_by = ""
        self.gone = asyncio.Event()
        self.certificate = b""
        self._host = host
        self._limits = host.limits
        self._loop = asyncio.get_running_loop()
        self._core = Acceptor(pdu_bytes_max=host.limits.pdu_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._proposal: Proposal | None = None
        self._asked: tuple[Request, ContextAnswer] | None = None
        self._sink: Sink | None = None
        self._next: asyncio.Queue[Operation | None] = asyncio.Queue()
        self._answer: asyncio.Future[Command | None] | None = None
        self._cancelled = 0  # message id + 1 of the request that was taken back
        self._release_wanted = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._write_deadline = inf
        self._mark = 0
        self._dropped_bytes = 0
        self._held_since = 0.0
        self._end = self._loop.time() + self._limits.association_s
        self._deadline = self._loop.time() + self._limits.request_s
        self._owed = "request"

    # ── callbacks of asyncio ─────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=256 * 1024)
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = transport.get_extra_info("ssl_object")
        shown = secured.getpeercert(binary_form=True) if secured is not None else None
        if shown:  # now, before the first byte of a request can be judged without it
            self.certificate = shown
            self.origin = replace(self.origin, fingerprint=hashlib.sha256(shown).hexdigest())

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """The listener's one buffer: what is read is used up before the next connection reads."""
        return self._host.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if _QUICKACK is not None and self._socket is not None:
            with contextlib.suppress(OSError):  # the peer has just gone: reading will say so
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        for happening in self._core.receive(self._host.buffer[:nbytes]):
            self._on(happening)
        self._set_deadline()
        if self._core.state is State.CLOSING:
            # What still comes is dropped, so that a reset does not take our last word with it; not for ever.
            self._dropped_bytes += nbytes
            if self._dropped_bytes > _DROPPED_MAX and self._transport is not None:
                self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._finish("closed")
        self._writable.set()
        self.gone.set()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._write_deadline = self._loop.time() + self._limits.write_s

    def resume_writing(self) -> None:
        self._writable.set()
        self._write_deadline = inf

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    def _on(self, happening: Happening) -> None:
        if isinstance(happening, Fragment):
            self._take(happening)
            return
        match happening:
            case Asked(command, context):
                self._begin(command, context)
            case Requested(proposal):
                self._decide(proposal)
            case Answered(command):
                self._answered(command)
            case Cancelled(message_id):
                self._cancelled = message_id + 1
            case ReleaseWanted():
                self._wind_up()
            case Aborted():
                self._finish("aborted")
                self.drop()
            case Broke(pdu, rule):
                self._write(pdu)
                self._host.broke(self, rule)
                self._close("violation")
                if self._transport is not None and self._transport.can_write_eof():
                    self._transport.write_eof()  # nothing more will be said: who reads learns it now

    def _wind_up(self) -> None:
        """The peer wants to end: now, or after the answer it still gets."""
        self._release_wanted = True
        if not self._core.is_performing:
            self._release()

    def _decide(self, proposal: Proposal) -> None:
        self._proposal = proposal
        judged = self._host.admit(self, proposal)
        if isinstance(judged, Rejection):
            self._write(self._core.reject(judged.result, judged.source, judged.reason))
            self._close("rejected")
            return
        self.peer = judged
        answer = negotiate(proposal, judged.terms, pdu_bytes_max=self._limits.pdu_bytes_max)
        self._write(self._core.accept(answer, peer_bytes_max=proposal.pdu_bytes_max))

    def _begin(self, command: Command, context: ContextAnswer) -> None:
        """A request came; choose where its data set goes."""
        assert self.peer is not None
        assert self._proposal is not None
        request = Request(
            peer=self.peer,
            origin=self.origin,
            calling_aet=self._proposal.calling_aet,
            called_aet=self._proposal.called_aet,
            sop_class=context.abstract_syntax,
            transfer_syntax=context.transfer_syntax,
            command=command,
        )
        self._cancelled = 0
        self._asked = (request, context)
        if not command.has_data:
            self._ready()
        elif command.field != Field.C_STORE:
            self._sink = Gather(self._limits.gathered_bytes_max)
        elif status := refusal(self.peer, command.field):
            self._sink = Discard(status)
        elif self._host.services.store is None or not self.peer.terms.stores:
            self._sink = Discard(Status.UNRECOGNIZED_OPERATION)
        elif command.sop_class != context.abstract_syntax:
            self._sink = Discard(Status.REFUSED_SOP_CLASS)
        else:
            self._sink = self._host.services.store.begin(request)

    def _take(self, fragment: Fragment) -> None:
        assert self._sink is not None
        room = self._sink.write(fragment.data)
        if fragment.is_last:
            self._ready()
        elif room is not None:
            self._hold(room)

    def _ready(self) -> None:
        assert self._asked is not None
        (request, context), self._asked = self._asked, None
        sink, self._sink = self._sink, None
        self._next.put_nowait(Operation(request=request, context=context, sink=sink))

    def _hold(self, room: asyncio.Future[None]) -> None:
        """Read nothing until the sink has room; the peer's deadline stands still meanwhile."""
        if self._held_since or self._transport is None or self._transport.is_closing():
            return
        self._held_since = self._loop.time()
        self._transport.pause_reading()
        room.add_done_callback(self._resume)

    def _resume(self, _room: asyncio.Future[None]) -> None:
        self._deadline += self._loop.time() - self._held_since
        self._held_since = 0.0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────

    def _set_deadline(self) -> None:
        reader, now = self._core.reader, self._loop.time()
        if self._core.state is State.CLOSING:
            return
        if not reader.is_between:
            if reader.mark != self._mark:
                self._mark = reader.mark
                body_s = max(self._limits.body_s, reader.left / self._limits.body_bytes_per_s)
                self._deadline = now + (body_s if reader.left else self._limits.header_s)
                self._owed = "body" if reader.left else "header"
        elif self._core.is_performing and not self._core.awaits_answer:
            self._deadline = inf
        elif self._core.is_amid_message or self._core.awaits_answer:
            self._deadline, self._owed = now + self._limits.message_s, "message"
        elif self._core.state is State.ESTABLISHED:
            self._deadline, self._owed = now + self._limits.idle_s, "next message"

    def check(self, now: float) -> None:
        """End the connection when a deadline has passed; the listener calls this often."""
        if self._held_since and now < self._end:
            return
        owed = self._owed if now >= self._deadline else "room" if now >= self._write_deadline else ""
        if now >= self._end:
            owed = "end"
        if not owed:
            return
        if self._core.state is not State.CLOSING:
            log.warning("dimse-too-slow", address=self.origin.address, peer=self.peer_name, owed=owed)
            self._write(self._core.abort())
        self._finish("too slow")
        self.drop()

    # ── for the task of this connection ──────────────────────────────────────────────────────────────────────

    @property
    def peer_name(self) -> str:
        """The configured name of the peer, "" before it was admitted."""
        return self.peer.name if self.peer else ""

    @property
    def is_busy(self) -> bool:
        """A request is being performed."""
        return self._core.is_performing

    @property
    def is_over(self) -> bool:
        """Nothing can be sent any more."""
        return self.ended_by != ""

    def note(self, event: str) -> None:
        """Have it in the audit trail, with who this peer is."""
        self._host.note(self, event)

    def is_cancelled(self, request: Request) -> bool:
        """Whether the peer took the request back, or left."""
        return self.is_over or self._cancelled == request.command.message_id + 1

    async def next_operation(self) -> Operation | None:
        """The next complete request, None when the association is over."""
        return None if self.is_over and self._next.empty() else await self._next.get()

    async def respond(
        self, context: ContextAnswer, command: bytes, data: bytes | None = None, *, is_final: bool
    ) -> None:
        """Send a response; waits while the peer does not read."""
        if self.is_over:
            return
        self._write(self._core.answer(context.context_id, command, data, is_final=is_final))
        if is_final:
            if self._release_wanted:
                self._release()
            self._set_deadline()
        else:
            await asyncio.sleep(0)  # a quick service must leave others, and a cancellation, their turn
        await self._writable.wait()

    def context_for(self, sop_class: str, transfer_syntax: str) -> ContextAnswer | None:
        """The context in which an object can be sent back, None when the peer takes none such."""
        role = self._proposal.roles.get(sop_class) if self._proposal else None
        return self._core.context_of(sop_class, transfer_syntax) if role and role.scp else None

    async def invoke(
        self, context: ContextAnswer, message_id: int, command: bytes, pieces: Callable[[], Awaitable[bytes | None]]
    ) -> Command | None:
        """Send a sub-operation and its data set; its answer, None when the association ended."""
        if self.is_over:
            return None
        self._answer = self._loop.create_future()
        self._write(self._core.invoke(context.context_id, message_id, command))
        piece = await pieces()
        while piece is not None:
            following = await pieces()
            if self.is_over:
                return None
            for pdu in self._core.data(context.context_id, piece, is_last=following is None):
                self._write(pdu)
            await asyncio.sleep(0)
            await self._writable.wait()
            piece = following
        self._set_deadline()
        return None if self.is_over else await self._answer

    def stop(self) -> None:
        """We end it: at a stop of the house."""
        if not self.is_over:
            self._write(self._core.abort())
            self._finish("stopped")
        self.drop()

    def drop(self) -> None:
        """Let the socket go once what was written has left; at once when the peer does not read, or again."""
        if self._transport is None:
            return
        if self._writable.is_set() and not self._transport.is_closing():
            self._transport.close()
        else:
            self._transport.abort()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────

    def _release(self) -> None:
        self._write(self._core.release())
        self._close("released")

    def _close(self, why: str) -> None:
        """Wait for the peer to close (PS3.8 9.1.5), no longer than ``closing_s``."""
        self._finish(why)
        self._deadline, self._owed = self._loop.time() + self._limits.closing_s, "close"

    def _finish(self, why: str) -> None:
        """No more operations; idempotent, the first reason stands."""
        if not self.ended_by:
            self.ended_by = why
        if self._sink is not None:
            self._sink.abandon()
            self._sink = None
        self._answered(None)
        self._next.put_nowait(None)

    def _answered(self, command: Command | None) -> None:
        """What we invoked is answered, or never will be."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(command)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
