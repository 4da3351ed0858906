"""By whom a command has something done: the running gateway, else one that is built here meanwhile.

Whoever only reads, or finds the gateway running, does not load the house: that takes seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from gateway import control
from gateway.facts import Facts, Say
from gateway.settings import Settings
from gateway.stores import control_place

Order = Callable[..., Awaitable[Any]]
"""``order(operation, facts, hear)``: as ``gateway.control.ask``."""


def is_running(settings: Settings) -> bool:
    """Whether a gateway on this machine listens for commands."""
    return control.is_running(control_place(settings))


@asynccontextmanager
async def orders(settings: Settings) -> AsyncIterator[Order]:
    """Who carries commands out until the end of the block.

    Raises:
        Broken: ``store-locked`` a gateway runs elsewhere on this database.
    """
    if await asyncio.to_thread(is_running, settings):
        yield partial(control.ask, control_place(settings))
        return
    from gateway.wiring import house  # noqa: PLC0415  the whole house, only when nobody else is there

    async with house(settings) as gateway:
        operations = gateway.orders()

        async def order(operation: str, facts: Facts, hear: Say = control.deaf) -> Any:
            return await operations[operation]({**facts, "user": control.user_name(os.getuid())}, hear)

        yield order
