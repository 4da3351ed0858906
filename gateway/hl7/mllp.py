"""MLLP: frames of HL7 v2 messages over TCP (HL7 v2.5 appendix C; FF-11).

``Framer`` is the pure core: bytes in, messages out, nothing shared between connections. ``serve_mllp`` is the
shell: one task per connection, one message at a time, in order.

Invariants:

* the answer is written only after ``handle`` returned, so an acknowledged message is wherever ``handle`` put it;
* a ``handle`` that raises leaves the message unanswered and the connection closed: the sender repeats it;
* a broken frame is answered AR, to its control id where its MSH can be read, and the connection is closed: after
  a lost boundary nothing on it can be trusted;
* connections, bytes in a frame, bytes between frames and every waiting time are bounded;
* a connection from where nobody may send is closed before a byte of it is read;
* log lines hold addresses, sizes and codes, never content.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from gateway.hl7.ack import AckCode, build_ack, fault_problem
from gateway.hl7.senders import Senders
from security.clock import Clock, SystemClock
from security.crash import crash_point
from security.errors import BadInput, Fault, Unavailable
from security.listener import BACKLOG, listening
from security.parse.hl7 import parse_message
from security.policy import Action, Refusal, Tell, Zone, untold

_log = structlog.get_logger(__name__)

_START, _END = b"\x0b", b"\x1c\x0d"
_FS = _END[0]
_READ = 65_536
_HEAD = 4_096  # bytes of a broken frame searched for its MSH
_HINT = "send each message as VT, message, FS, CR, without these bytes inside"


def frame(message: bytes) -> bytes:
    """VT, the message, FS CR."""
    return _START + message + _END


class Framer:
    """The byte stream of one connection, cut into messages.

    White space between frames is free; other bytes there are counted in ``junk`` and dropped, up to a limit.
    After a ``BadInput`` the stream has lost its boundaries and the framer takes nothing more.
    """

    def __init__(self, *, frame_bytes_max: int, junk_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._junk_bytes_max = junk_bytes_max
        self._buffer = bytearray()
        self._searched = 0  # bytes of the open frame known to hold no VT and no FS
        self.open = False  # inside a frame
        self.junk = 0

    @property
    def head(self) -> bytes:
        """The first line of the open frame, as far as it came: where its MSH would be."""
        return re.split(rb"[\r\n]", bytes(self._buffer[:_HEAD]).lstrip(b"\r\n"), maxsplit=1)[0] if self.open else b""

    def receive(self, data: bytes) -> None:
        """Take what the peer sent; call ``next_message`` until it returns None before the next."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """The next complete message, None when more bytes are needed.

        Raises:
            BadInput: ``mllp-junk``, ``mllp-too-large``, ``mllp-bad-end`` (FS without CR), ``mllp-start-inside``
                (VT before the end: two messages would mix).
        """
        if not self.open and not self._skip_to_start():
            return None
        end = self._buffer.find(_FS, self._searched)
        size = len(self._buffer) if end < 0 else end
        if self._buffer.find(_START, self._searched, size) >= 0:
            raise BadInput("a frame starts inside another", code="mllp-start-inside", hint=_HINT)
        if size > self._frame_bytes_max:
            raise BadInput(
                f"a frame of more than {self._frame_bytes_max} bytes",
                code="mllp-too-large",
                hint="send a smaller report, or raise the limit on both sides",
            )
        self._searched = size
        if end < 0 or end + 1 == len(self._buffer):
            return None
        if not self._buffer.startswith(_END, end):
            raise BadInput("FS is not followed by CR", code="mllp-bad-end", hint=_HINT)
        message = bytes(self._buffer[:end])
        del self._buffer[: end + len(_END)]
        self.open = False
        return message

    def _skip_to_start(self) -> bool:
        """Drop what stands before VT, and VT; whether there was one."""
        start = self._buffer.find(_START)
        before = self._buffer[:start] if start >= 0 else self._buffer
        self.junk += len(bytes(before).strip(b"\r\n \t"))
        del self._buffer[: start + 1 if start >= 0 else len(self._buffer)]
        if self.junk > self._junk_bytes_max:
            raise BadInput(f"{self.junk} bytes outside any frame", code="mllp-junk", hint=_HINT)
        self.open = start >= 0
        self._searched = 0
        return self.open


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpLimits:
    """Bounds of the listener. ``frame_s`` runs from VT to FS CR, whatever trickles in; ``idle_s`` from the end of
    one message to the start of the next, whatever stands between them."""

    frame_bytes_max: int = 20 * 1024 * 1024
    junk_bytes_max: int = 1_024
    connections_max: int = 64
    connections_per_address_max: int = 8
    idle_s: float = 600.0
    frame_s: float = 60.0
    write_s: float = 10.0
    drain_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection."""

    address: str
    port: int


Handler = Callable[[bytes, Peer], Awaitable[bytes]]
"""One message without framing → its acknowledgement, without framing."""


async def serve_mllp(
    host: str,
    port: int,
    handle: Handler,
    *,
    limits: MllpLimits | None = None,
    clock: Clock | None = None,
    senders: Senders | None = None,
    interface: str = "",
    tell: Tell = untold,
) -> MllpServer:
    """Listen on ``host``:``port`` (0: any free port) until ``close``. ``senders``: who may send, else this machine;
    ``interface``: the only one on which they reach us, "" for any; ``tell``: of each refusal.

    Raises:
        OSError: the address cannot be bound.
    """
    server = MllpServer(
        handle,
        limits=limits or MllpLimits(),
        clock=clock or SystemClock(),
        senders=senders or Senders(),
        tell=tell,
    )
    await server.start(listening(host, port, interface=interface))
    return server


class MllpServer:
    """A listener and its connections; ``serve_mllp`` makes it, ``close`` or ``async with`` ends it."""

    def __init__(
        self, handle: Handler, *, limits: MllpLimits, clock: Clock, senders: Senders, tell: Tell = untold
    ) -> None:
        self._handle = handle
        self._limits = limits
        self._clock = clock
        self._senders = senders
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()  # between a complete message and its written answer
        self._per_address: Counter[str] = Counter()
        self._closing = False

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The listening sockets."""
        return self._server.sockets if self._server is not None else ()

    @property
    def port(self) -> int:
        """The port of the first listening socket."""
        return int(self.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._tasks)

    async def start(self, opened: socket.socket) -> None:
        self._server = await asyncio.start_server(self._connected, sock=opened, limit=_READ, backlog=BACKLOG)

    async def close(self) -> None:
        """Accept no more, let messages in hand be answered for ``drain_s``, then drop what is left. Idempotent."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for task in self._tasks - self._busy:
            task.cancel()
        if self._busy:
            _, late = await asyncio.wait(set(self._busy), timeout=self._limits.drain_s)
            for task in late:
                _log.warning("mllp drain deadline passed", task=task.get_name())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._server is not None:
            await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Admit or drop one connection, and clean up after it (the task is made by ``start_server``)."""
        task = asyncio.current_task()
        assert task is not None
        address, port = (writer.get_extra_info("peername") or ("", 0))[:2]
        peer = Peer(address=address, port=port)
        full = (
            len(self._tasks) >= self._limits.connections_max
            or self._per_address[address] >= self._limits.connections_per_address_max
        )
        if full or self._closing or not self._senders.admit(address):
            _log.warning("mllp connection refused", address=address, open=len(self._tasks), full=full)
            if not self._closing:
                self._refused(peer, "connections" if full else "other-network")
            writer.transport.abort()
            return
        task.set_name(f"mllp {address}:{port}")
        self._tasks.add(task)
        self._per_address[address] += 1
        try:
            await self._converse(reader, writer, peer, task)
        except Exception as error:  # noqa: BLE001 - supervision edge: this connection ends unanswered, others go on
            _log.error("mllp connection dropped", address=address, **_described(error))
        finally:
            writer.transport.abort()  # what had to be written was drained
            self._tasks.discard(task)
            self._busy.discard(task)
            self._per_address -= Counter({address: 1})

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer, task: asyncio.Task[None]
    ) -> None:
        """Messages and answers in turn, until either side has enough."""
        writer.transport.set_write_buffer_limits(high=0)  # drain() then waits for the last byte
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        framer = Framer(frame_bytes_max=self._limits.frame_bytes_max, junk_bytes_max=self._limits.junk_bytes_max)
        while not self._closing:
            try:
                message = await self._next(reader, framer, peer)
            except BadInput as fault:
                _log.warning("mllp frame refused", address=peer.address, code=fault.code)
                self._refused(peer, fault.code)
                await self._write(writer, self._refusal(framer.head, fault))
                await self._linger(reader, writer)
                return
            if message is None:
                return
            self._busy.add(task)
            crash_point("message-received")
            await self._write(writer, await self._handle(message, peer))
            crash_point("ack-written")
            self._busy.discard(task)

    async def _next(self, reader: asyncio.StreamReader, framer: Framer, peer: Peer) -> bytes | None:
        """The next message of the connection, None when it is over: closed by the peer, idle or too slow."""
        loop = asyncio.get_running_loop()
        deadline, opened = loop.time() + self._limits.idle_s, False
        while (message := framer.next_message()) is None:
            if framer.open and not opened:
                deadline, opened = loop.time() + self._limits.frame_s, True
            try:
                async with asyncio.timeout_at(deadline):
                    data = await reader.read(_READ)
            except TimeoutError:
                _log.warning("mllp too slow" if opened else "mllp idle", address=peer.address)
                return None
            except ConnectionError:
                data = b""
            if not data:
                if opened:
                    _log.warning("mllp peer left inside a frame", address=peer.address)
                return None
            framer.receive(data)
        return message

    async def _write(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        """Hand the framed answer to the kernel entirely, within ``write_s``."""
        async with asyncio.timeout(self._limits.write_s):
            writer.write(frame(answer))
            await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Drop what the peer still sends for at most ``write_s``: a reset now would take the answer with it."""
        writer.write_eof()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._limits.write_s):
                while await reader.read(_READ):
                    pass

    def _refused(self, peer: Peer, reason: str) -> None:
        """Into the audit trail."""
        self._tell(
            Refusal(
                zone=Zone.PACS,
                reason=reason,
                action=Action.HL7_SEND,
                address=peer.address,
                tenant=self._senders.tenant,
            )
        )

    def _refusal(self, head: bytes, fault: BadInput) -> bytes:
        """AR for a frame that never was a message, to its control id when its MSH can be read."""
        try:
            request = parse_message(head)
        except BadInput:
            request = None
        return build_ack(
            request,
            AckCode.REJECT,
            control_id=secrets.token_hex(10),
            at=self._clock.now(),
            problems=[fault_problem(fault)],
        )


def _described(error: Exception) -> dict[str, str]:
    """What a log may say of any exception: its type, our code, the place; its text may hold values."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.name}:{place.lineno}"
    return {"error": type(error).__name__, "code": error.code if isinstance(error, Fault) else "", "where": where}


class MllpClient:
    """One connection to an MLLP listener; one message at a time. Use ``connect`` in ``async with``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, timeout_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._timeout_s = timeout_s
        self._framer = Framer(frame_bytes_max=1024 * 1024, junk_bytes_max=0)

    @classmethod
    async def connect(cls, host: str, port: int, *, timeout_s: float = 10.0) -> Self:
        """Open a connection; ``timeout_s`` bounds this and each ``send``.

        Raises:
            Unavailable: ``mllp-unreachable``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:  # TimeoutError is one
            raise Unavailable(
                f"no connection to {host}:{port}",
                code="mllp-unreachable",
                hint="start the gateway, or correct the address of its HL7 listener",
            ) from error
        return cls(reader, writer, timeout_s=timeout_s)

    async def send(self, message: bytes) -> bytes:
        """Send one message, framing added; returns its acknowledgement, framing removed.

        Raises:
            Unavailable: ``mllp-no-answer`` the peer closed or stayed silent: the message may have been taken.
            BadInput: the answer is no MLLP frame.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                self._writer.write(frame(message))
                await self._writer.drain()
                while (answer := self._framer.next_message()) is None:
                    data = await self._reader.read(_READ)
                    if not data:
                        raise ConnectionResetError
                    self._framer.receive(data)
        except OSError as error:  # resets and TimeoutError
            self._writer.transport.abort()  # a late answer must not meet the next message
            raise Unavailable(
                "no acknowledgement came back",
                code="mllp-no-answer",
                hint="send the same message again: it is taken once",
            ) from error
        return answer

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):  # the peer was faster
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
