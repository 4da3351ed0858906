"""The listener: connections let in or dropped before any work is done for them, watched, and ended in order.

Invariants:

* a connection beyond a cap, or from a banned address, is closed before a task, a handshake or a byte (T03);
* the TLS handshake runs beside everybody else's, under its own deadline (T04);
* a certificate that is no longer believed ends its connection within ``_JUDGE_S``;
* a slot is taken and given back in one place, by the connection's own task;
* ``close`` takes no more, lets requests in hand be answered for ``drain_s``, then aborts and drops the rest.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import structlog

from gateway.dimse.associate import Proposal
from gateway.dimse.association import Association
from gateway.dimse.exchange import perform
from gateway.dimse.limits import Limits
from gateway.dimse.negotiation import CONGESTED, LOCAL_LIMIT, Rejection
from gateway.dimse.services import Admitted, Origin, Policy, Services
from security.keys.tls import Judge
from security.listener import listening

log = structlog.get_logger()

_BUFFER_BYTES = 64 * 1024  # what one connection may have done for it before the next has its turn
_LOOK_S = 0.1
_JUDGE_S = 5.0
_ACCEPT_AGAIN_S = 0.1
_ADDRESSES_MAX = 1024


class Bans:
    """Addresses that broke the protocol too often lately; at most so many are remembered, the oldest go first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def note(self, address: str, now: float) -> bool:
        """One more offence; whether the address is banned now."""
        recent = [at for at in self._seen.pop(address, []) if at > now - self._limits.hostile_within_s]
        self._seen[address] = [*recent, now][-self._limits.hostile_max :]
        while len(self._seen) > _ADDRESSES_MAX:
            self._seen.popitem(last=False)
        return self.holds(address, now)

    def holds(self, address: str, now: float) -> bool:
        """Whether the address is banned."""
        offences = self._seen.get(address, [])
        return len(offences) >= self._limits.hostile_max and now < offences[-1] + self._limits.ban_s


Observe = Callable[[str, str], None]
"""What happened and its outcome, by names of a fixed set; for the metrics."""


class Trail(Protocol):
    """Takes what the audit trail must hold of associations."""

    def __call__(self, event: str, *, peer: str = "", origin: str = "", why: str = "") -> None: ...


def _forget(event: str, *, peer: str = "", origin: str = "", why: str = "") -> None:
    """A listener without an audit trail: of tests and measurements."""


class DimseListener:
    """One listening address."""

    def __init__(
        self,
        policy: Policy,
        services: Services,
        *,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        judge: Judge | None = None,
        observe: Observe = lambda _what, _outcome: None,
        trail: Trail | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.services = services
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._policy = policy
        self._tls = tls
        self._judge = judge
        self._observe = observe
        self._trail = trail or _forget
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._open: set[Association] = set()
        self._per_address: Counter[str] = Counter()
        self._per_peer: Counter[str] = Counter()
        self._bans = Bans(self.limits)
        self._closing = False

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        policy: Policy,
        services: Services,
        *,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        judge: Judge | None = None,
        observe: Observe = lambda _what, _outcome: None,
        trail: Trail | None = None,
        interface: str = "",
    ) -> Self:
        """Listen on ``host``:``port`` (0: any free port) until ``close``. ``judge``: asked again about each open
        connection's certificate; ``interface``: the only one on which peers reach us, "" for any.

        Raises:
            OSError: the address cannot be bound.
        """
        listener = cls(policy, services, limits=limits, tls=tls, judge=judge, observe=observe, trail=trail)
        opened = listening(host, port, interface=interface, backlog=listener.limits.backlog)
        listener._listening = opened
        listener._watchers = [
            asyncio.create_task(listener._accept(opened), name="dimse-accept"),
            asyncio.create_task(listener._watch(), name="dimse-watch"),
            asyncio.create_task(listener._judge_again(), name="dimse-judge"),
        ]
        return listener

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._listening is not None
        host, port = self._listening.getsockname()[:2]
        return host, port

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.address[1]

    @property
    def connections(self) -> int:
        """How many are open now, handshakes included."""
        return len(self._tasks)

    async def close(self) -> None:
        """End everything. Idempotent."""
        self._closing = True
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        for association in list(self._open):
            if not association.is_busy:
                association.stop()
        busy = set(self._tasks)
        if busy:
            _, late = await asyncio.wait(busy, timeout=self.limits.drain_s)
            for association in list(self._open):
                association.stop()
            for task in late:
                log.warning("dimse-drain-deadline-passed", task=task.get_name())
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ── for a connection (``association.Host``) ──────────────────────────────────────────────────────────────

    def admit(self, association: Association, proposal: Proposal) -> Admitted | Rejection:
        """The policy's judgement, and the cap of the peer."""
        judged = CONGESTED if self._closing else self._policy.admit(proposal, association.origin)
        if isinstance(judged, Admitted):
            if self._per_peer[judged.name] < judged.associations_max:
                self._per_peer[judged.name] += 1
                self._observe("association", "accepted")
                self._trail("accepted", peer=judged.name, origin=association.origin.address)
                return judged
            judged = LOCAL_LIMIT
        log.warning("dimse-association-rejected", address=association.origin.address, why=judged.why)
        self._observe("association", "rejected")
        self._trail("rejected", origin=association.origin.address, why=judged.why)
        return judged

    def broke(self, association: Association, rule: str) -> None:
        """Log what the peer did; too often, and its address is banned for a while."""
        address = association.origin.address
        banned = self._bans.note(address, asyncio.get_running_loop().time())
        log.warning("dimse-violation", address=address, peer=association.peer_name, rule=rule, banned=banned)
        self._observe("association", "violation")
        self._trail("violation", peer=association.peer_name, origin=address)

    def note(self, association: Association, event: str) -> None:
        """Into the audit trail."""
        self._trail(event, peer=association.peer_name, origin=association.origin.address)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _accept(self, opened: socket.socket) -> None:
        """Take connections; what is over a cap is closed here and now."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, where = await loop.sock_accept(opened)
            except OSError as error:  # no descriptor left, or the peer gone already: others still wait
                log.warning("dimse-accept-failed", error=error.errno)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            address, port = where[:2]
            full = (
                len(self._tasks) >= self.limits.connections_max
                or self._per_address[address] >= self.limits.connections_per_address_max
            )
            if full or self._bans.holds(address, loop.time()):
                connection.close()
                self._observe("association", "dropped")
                self._trail("dropped", origin=address)
                continue
            self._per_address[address] += 1
            origin = Origin(address=address, port=port)
            task = asyncio.create_task(self._serve(connection, origin), name=f"dimse {address}:{port}")
            self._tasks.add(task)

    async def _watch(self) -> None:
        """Look at every deadline, often enough that none matters less."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = loop.time()
            for association in list(self._open):
                try:
                    association.check(now)
                except Exception:  # supervision edge: this connection ends, every other keeps its deadline
                    log.exception("dimse-deadline-not-looked-at", address=association.origin.address)
                    association.drop()

    async def _judge_again(self) -> None:
        """End each association whose certificate is no longer believed (security §2), also amid a message."""
        while self._judge is not None:
            await asyncio.sleep(_JUDGE_S)
            for association in list(self._open):
                why = self._judge.refuses(association.certificate)
                if why:
                    log.warning("dimse-no-longer-believed", address=association.origin.address, why=why)
                    self._observe("association", "no-longer-believed")
                    where = association.origin.address
                    self._trail("rejected", peer=association.peer_name, origin=where, why=f"certificate {why}")
                    association.stop()

    async def _serve(self, connection: socket.socket, origin: Origin) -> None:
        """The one task of a connection: handshake, requests in turn, and its slot given back."""
        association: Association | None = None
        try:
            association = await self._handshake(connection, origin)
            if association is not None:
                self._open.add(association)
                await self._converse(association)
        except Exception:  # supervision edge: this connection ends, others go on
            log.exception("dimse-connection-dropped", address=origin.address)
        finally:
            if association is not None:
                association.stop()
                self._open.discard(association)
                if association.peer is not None:
                    self._per_peer -= Counter({association.peer.name: 1})
                self._observe("ended", association.ended_by)
            self._per_address -= Counter({origin.address: 1})
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)

    async def _handshake(self, connection: socket.socket, origin: Origin) -> Association | None:
        """The connection's protocol; None when its TLS handshake failed or took too long."""
        loop = asyncio.get_running_loop()
        if self._tls is None:
            _, association = await loop.connect_accepted_socket(lambda: Association(self, origin), connection)
            return association
        try:
            _, association = await loop.connect_accepted_socket(
                lambda: Association(self, origin),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self.limits.handshake_s,
                ssl_shutdown_timeout=self.limits.closing_s,
            )
        except OSError as error:  # ssl.SSLError, resets and the deadline are
            reason = getattr(error, "reason", None) or type(error).__name__
            hint = "plain DICOM on the TLS listener?" if reason in _NO_TLS else ""
            log.warning("dimse-handshake-failed", address=origin.address, reason=reason, hint=hint)
            self._observe("association", "handshake-failed")
            return None
        return association

    async def _converse(self, association: Association) -> None:
        while (operation := await association.next_operation()) is not None:
            await perform(
                association,
                operation,
                self.services,
                lambda what, status: self._observe(what, "success" if status == 0 else "failure"),
            )
            if self._closing:
                association.stop()
        with suppress(TimeoutError):  # ``check`` ends it before
            async with asyncio.timeout(self.limits.closing_s + 2 * _LOOK_S + self.limits.write_s):
                await association.gone.wait()


_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
