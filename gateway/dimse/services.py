"""What the door offers to its services, and what a service must offer to the door: ports, and the plain sinks.

A service never sees a socket or a PDU. Data sets are bytes in the transfer syntax of their request's context.

Invariants:

* what a service raises never reaches the peer: it is answered 0x0110, or the status its answer carries;
* a stored object is answered with what ``Sink.finish`` returned, so it is durable before 0x0000 or it is refused;
* results of a query are asked for one at a time, as fast as the peer reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.dimse.associate import Proposal
from gateway.dimse.command import Command, Status
from gateway.dimse.negotiation import Rejection, Terms
from security.policy import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a connection comes from. ``fingerprint``: SHA-256 of the peer's certificate in lower-case hexadecimal, ""
    without TLS."""

    address: str
    port: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A peer that may associate. ``name``: its name in the configuration; ``roles``: what the policy knows it as."""

    name: str
    terms: Terms
    associations_max: int = 10
    rows_max: int = 100_000
    destinations: frozenset[str] = frozenset()
    roles: frozenset[Role] = frozenset({Role.PACS_PEER})


class Policy(Protocol):
    """Who may associate (T06)."""

    def admit(self, proposal: Proposal, origin: Origin) -> Admitted | Rejection:
        """The judgement of a request; ``proposal.identity`` is what the user says of itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request on an association."""

    peer: Admitted
    origin: Origin
    calling_aet: str
    called_aet: str
    sop_class: str
    transfer_syntax: str
    command: Command


class Sink(Protocol):
    """Where the data set of a C-STORE goes."""

    def write(self, data: memoryview) -> asyncio.Future[None] | None:
        """Take the bytes, copied before this returns. A future: read no more before it is done."""
        ...

    async def finish(self) -> int:
        """The data set is complete; the status to answer."""
        ...

    def abandon(self) -> None:
        """The association ended inside the data set: forget it."""
        ...


class StoreService(Protocol):
    """C-STORE (PS3.4 B)."""

    def begin(self, request: Request) -> Sink:
        """A sink for the object that follows; never waits. What must be refused gets a ``Discard``."""
        ...


class FindService(Protocol):
    """C-FIND (PS3.4 C.4.1, K.4.1)."""

    def find(self, request: Request, identifier: bytes) -> AsyncIterator[bytes]:
        """The matches, encoded.

        Raises:
            Failure: the query is answered with that status.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SubOperations:
    """How far a C-MOVE got."""

    remaining: int
    completed: int
    failed: int = 0
    warning: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An object to send back in a C-GET. ``left``: how many follow. ``pieces``: its data set."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    left: int
    pieces: AsyncIterator[bytes]


class RetrieveService(Protocol):
    """C-GET and C-MOVE (PS3.4 C.4.2, C.4.3)."""

    def get(self, request: Request, identifier: bytes) -> AsyncIterator[Outgoing]:
        """The objects to send back, in order."""
        ...

    def move(self, request: Request, identifier: bytes, destination: str) -> AsyncIterator[SubOperations]:
        """Send them to ``destination``, one of the peer's allowed ones; a report after each."""
        ...


class NormalizedService(Protocol):
    """N-CREATE and N-SET (PS3.7 10.1.3, 10.1.5): Instance Availability Notification, Modality Performed Procedure
    Step."""

    def create(self, request: Request, attributes: bytes, /) -> Coroutine[Any, Any, int]:
        """The status, once the creation is durable."""
        ...

    def set(self, request: Request, modifications: bytes, /) -> Coroutine[Any, Any, int]:
        """The status, once the change is durable."""
        ...


class Failure(Exception):
    """What a service answers instead of a result. ``status``: of the DIMSE response; ``comment``: why, for who reads
    the sender's log, at most 64 characters without a value (PS3.7 C.4); ``error_id``: 0 for none."""

    def __init__(self, status: int, comment: str = "", *, error_id: int = 0) -> None:
        super().__init__(f"status {status:#06x}")
        self.status = status
        self.comment = comment[:64]
        self.error_id = error_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the door serves beside C-ECHO; an operation without its service is answered 0x0211. ``normalized``: by SOP
    class."""

    store: StoreService | None = None
    find: FindService | None = None
    retrieve: RetrieveService | None = None
    normalized: Mapping[str, NormalizedService] = field(default_factory=dict)


class Discard:
    """Takes a data set and keeps nothing of it; answers ``status``."""

    def __init__(self, status: int) -> None:
        self._status = status

    def write(self, data: memoryview) -> None:
        """Drop it."""

    async def finish(self) -> int:
        return self._status

    def abandon(self) -> None:
        """There is nothing to forget."""


class Gather:
    """Takes a data set into memory, at most ``bytes_max``; more is answered 0xA700."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._is_over = False
        self.data = bytearray()

    def write(self, data: memoryview) -> None:
        self._is_over = self._is_over or len(self.data) + len(data) > self._bytes_max
        if self._is_over:
            self.data.clear()
        else:
            self.data += data

    async def finish(self) -> int:
        return Status.OUT_OF_RESOURCES if self._is_over else Status.SUCCESS

    def abandon(self) -> None:
        self.data.clear()


class Pipe:
    """Hands a data set to a reader that waits for it, holding at most ``bytes_max`` and what one read brought.

    Whoever makes one sees to it that somebody reads it: the sender waits for that. ``accepted`` decides the status
    after the reader has had everything. A reader that leaves (``aclose`` of its
    iterator) gets the rest discarded and the sender 0xA700.
    """

    def __init__(self, *, bytes_max: int, accepted: Callable[[], Awaitable[int]]) -> None:
        self._bytes_max = bytes_max
        self._accepted = accepted
        self._held = bytearray()
        self._news = asyncio.Event()
        self._room: asyncio.Future[None] | None = None
        self._is_complete = self._is_broken = self._has_left = False
        self._is_read = asyncio.Event()

    def write(self, data: memoryview) -> asyncio.Future[None] | None:
        if self._has_left:
            return None
        self._held += data
        self._news.set()
        if len(self._held) < self._bytes_max:
            return None
        self._room = self._room or asyncio.get_running_loop().create_future()
        return self._room

    async def finish(self) -> int:
        self._is_complete = True
        self._news.set()
        await self._is_read.wait()
        return Status.OUT_OF_RESOURCES if self._has_left else await self._accepted()

    def abandon(self) -> None:
        self._is_broken = True
        self._news.set()

    async def read(self) -> AsyncIterator[bytes]:
        """The data set, piece by piece.

        Raises:
            EOFError: the sender left before its end.
        """
        done = False
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                piece, self._held = bytes(self._held), bytearray()
                self._make_room()
                if piece:
                    yield piece
                if self._is_broken:
                    raise EOFError("the sender left inside the data set")
                if self._is_complete and not self._held:
                    done = True
                    return
        finally:
            self._has_left = not done
            self._held.clear()
            self._make_room()
            self._is_read.set()

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None
