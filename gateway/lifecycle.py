"""The life of the process: stores open → workers → doors open → ready; and back in reverse.

Crash-only: start-up is the recovery path (I12), so a stop by SIGKILL costs time and nothing else. A graceful
stop closes the doors first, lets the work in hand finish within ``stop_grace_s``, then cancels it. A second
signal skips the grace.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


class House(Protocol):
    """What the composition root built."""

    def doors(self) -> AbstractAsyncContextManager[Mapping[str, str]]:
        """Open every configured listener; yields name → bound ``host:port``."""
        ...

    async def work(self, stop: asyncio.Event) -> None:
        """Carry out jobs until ``stop`` is set and the job in hand is settled."""
        ...


async def serve(
    house: House,
    *,
    stop_grace_s: float,
    announce: Callable[[Mapping[str, str]], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Run the house until SIGTERM, SIGINT or ``stop``. A dead worker takes the process down loudly."""
    stop = stop or asyncio.Event()
    hurry = asyncio.Event()

    def asked_to_stop() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    try:
        draining = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            worker = tasks.create_task(house.work(draining), name="worker")
            async with house.doors() as bound:
                announce(bound)
                log.info("started", version=version("poterne"), doors=sorted(bound))
                stopping = tasks.create_task(stop.wait(), name="stop")
                await asyncio.wait({stopping, worker}, return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
            log.info("stopping", grace_s=stop_grace_s)
            draining.set()
            hurried = tasks.create_task(hurry.wait(), name="hurry")
            await asyncio.wait({worker, hurried}, timeout=stop_grace_s, return_when=asyncio.FIRST_COMPLETED)
            hurried.cancel()
            if not worker.done():
                log.warning("stop-grace-passed", task=worker.get_name(), grace_s=stop_grace_s)
                worker.cancel()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        log.info("stopped")


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What ``work`` returns; None when ``stop`` came first. ``work`` is cancelled then: it must lose nothing by it,
    as what asks a peer and keeps its answer in one transaction does.
    """
    doing = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({doing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
    return None if doing.cancelled() else doing.result()
