"""Where threads meet the loop: blocking libraries (pynetdicom, requests) run here and nowhere else.

Invariants:

* one bounded pool per peer: a peer that hangs uses up its own threads, nobody else's;
* the deadline covers the whole call, waiting for a thread included; when it passes, or the caller is
  cancelled, the caller goes on at once and the call's ``cut`` functions run, which must wake the thread;
* no thread outlives its call for long: what blocks must be reachable by ``cut`` or bounded by its own timeout.

A thread cannot be stopped from outside (style §6): hence ``cut``, which shuts the socket it waits on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from security.clock import Clock, SystemClock
from security.errors import Unavailable

T = TypeVar("T")
Args = TypeVarTuple("Args")

log = logging.getLogger(__name__)


class Call:
    """One call as its thread sees it: how long it may still take, and what wakes it."""

    def __init__(self, clock: Clock, deadline_s: float) -> None:
        self._clock = clock
        self._ends = clock.monotonic() + deadline_s
        self._lock = threading.Lock()
        self._cuts: list[Callable[[], None]] = []
        self._is_cut = False

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, 0 once it passed or the call was cut."""
        return 0.0 if self._is_cut else max(0.0, self._ends - self._clock.monotonic())

    def on_cut(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called when the call is given up, or now if it already was.

        ``wake`` runs on the event loop's thread: it must not block (shut a socket, set an event) nor raise
        anything but ``OSError``.
        """
        with self._lock:
            self._cuts.append(wake)
            now = self._is_cut
        if now:
            _wake(wake)

    def cut(self) -> None:
        """Give the call up: wake whatever its thread waits on."""
        with self._lock:
            self._is_cut = True
            cuts = tuple(self._cuts)
        for wake in cuts:
            _wake(wake)


class Bridge:
    """A bounded pool of threads for one peer.

    Args:
        name: the peer's name, for threads and messages.
        workers: threads, that is calls at once.
        waiting_max: calls that may wait for a thread; one more is refused.
    """

    def __init__(self, name: str, *, workers: int, waiting_max: int = 256, clock: Clock | None = None) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=f"bridge-{name}")
        self._live: dict[Future[Any], Call] = {}
        self._live_max = workers + waiting_max
        self._closed = False

    async def run(self, work: Callable[[Call, *Args], T], /, *args: *Args, deadline_s: float) -> T:
        """``work(call, *args)`` in a thread of this peer, finished within ``deadline_s`` seconds.

        Raises:
            Unavailable: ``timeout`` the deadline passed; ``busy`` too many calls wait; ``closed`` the bridge
                is closed. Whatever ``work`` raises passes through.
        """
        if self._closed:
            raise Unavailable(
                f"the bridge to {self.name} is closed",
                code="closed",
                hint="the process is stopping; ask again when it runs",
            )
        if len(self._live) >= self._live_max:
            raise Unavailable(
                f"{len(self._live)} calls to {self.name} are under way or waiting",
                code="busy",
                hint="the peer answers too slowly for this load; look at its state",
            )
        call = Call(self._clock, deadline_s)
        future: Future[T] = self._pool.submit(work, call, *args)
        self._live[future] = call
        future.add_done_callback(lambda done: self._live.pop(done, None))
        waited = asyncio.timeout(deadline_s)
        try:
            async with waited:
                return await asyncio.wrap_future(future)
        except TimeoutError:
            if not waited.expired():
                raise  # the work's own
            raise Unavailable(
                f"{self.name} did not finish within {deadline_s:g} s",
                code="timeout",
                hint="look at the peer; the same question may succeed later",
            ) from None
        finally:
            if not future.done():
                call.cut()
            del future  # it holds the exception whose traceback holds this frame: a cycle, and what the work held

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Cut every call and wait at most ``grace_s`` for the threads. Idempotent."""
        self._closed = True
        late = dict(self._live)
        for call in late.values():
            call.cut()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if late:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await asyncio.gather(*map(asyncio.wrap_future, late), return_exceptions=True)
        stuck = sum(not future.done() for future in late)
        if stuck:
            log.warning("bridge %s: %d calls still hold their threads after %g s", self.name, stuck, grace_s)
            return
        self._pool.shutdown(wait=True)  # the threads are idle: they end at once


def _wake(wake: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # the socket is closed already: nothing waits on it
        wake()
