"""What Python runs first in a process that has this folder on PYTHONPATH: defects in a real gateway and a real node.

Where a value with one of the marks ZQQQQ or ZQRRQ passes, an exception is raised that says everything it was given, as a
library would: in the job, in the thread, in the task that nobody waits for, in the finaliser (T34).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from lxml import etree

_MARKS = ("ZQQQQ", "ZQRRQ")
_DEEP = 8


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    match value:
        case str():
            yield value
        case bytes() | bytearray() | memoryview():
            yield bytes(value).decode("latin-1")
        case etree._Element():
            yield etree.tostring(value, encoding="unicode")
        case _ if depth > _DEEP:
            return
        case Mapping():
            for pair in value.items():
                yield from _texts(pair, depth + 1)
        case tuple() | list() | set() | frozenset():
            for item in value:
                yield from _texts(item, depth + 1)
        case _ if dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                yield from _texts(getattr(value, field.name, None), depth + 1)


class _Dying:
    def __init__(self, said: str) -> None:
        self._said = said

    def __del__(self) -> None:
        raise ValueError(self._said)


async def _alone(said: str) -> None:
    raise LookupError(said)


def _judge(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    said = " ".join((*_texts(args), *_texts(tuple(kwargs.values()))))
    if not any(mark in said for mark in _MARKS):
        return
    thread = threading.Thread(target=_crash, args=(said,), name="sabotage")
    thread.start()
    thread.join()
    _Dying(said)
    warnings.warn(said, stacklevel=1)
    with contextlib.suppress(RuntimeError):  # in a thread of the store: there is no loop there
        asyncio.get_running_loop().create_task(_alone(said))
    try:
        raise KeyError(said)
    except KeyError as first:
        raise ExceptionGroup(said, [ValueError(said), OSError(5, said, said)]) from first


def _crash(said: str) -> None:
    raise RuntimeError(said)


def _sabotage(owner: Any, name: str) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        _judge(args, kwargs)
        return await original(self, *args, **kwargs)

    @functools.wraps(original)
    def plain(self: Any, *args: Any, **kwargs: Any) -> Any:
        _judge(args, kwargs)
        return original(self, *args, **kwargs)

    setattr(owner, name, awaited if inspect.iscoroutinefunction(original) else plain)


def _plant() -> None:
    from gateway.dimse.storage import Storage
    from gateway.operations import Operations
    from indexer.admission import Admission
    from indexer.publication import Publication
    from indexer.registry.node import IndexNode
    from security.accounts.entry import Entry

    _sabotage(Admission, "admit")
    _sabotage(Publication, "_prepare")
    _sabotage(Storage, "keep")
    _sabotage(Operations, "pause")
    _sabotage(IndexNode, "stored_query")
    _sabotage(IndexNode, "find_entries")
    for name in [n for n, f in vars(Entry).items() if inspect.iscoroutinefunction(f) and not n.startswith("_")]:
        _sabotage(Entry, name)


if os.environ.get("POTERNE_SABOTAGE") == "T34":
    _plant()
