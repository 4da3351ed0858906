"""What every engine's one writer has in common: works that wait, their outcomes, and how a group is refused.

Invariants:

* works leave the queue in the order in which they were submitted, and the end of the queue after all of them;
* a work that was submitted cannot be cancelled, only abandoned: its future is running from the first moment;
* every awaiter gets a fault of its own.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from security.errors import Fault
from security.store.port import Tx

T = TypeVar("T")
AnyTx = TypeVar("AnyTx")


@dataclass(slots=True, kw_only=True)
class Job:
    """One submitted work and whoever awaits it."""

    work: Callable[[Tx], Any]
    future: Future[Any] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # from here on it cannot be cancelled, only abandoned


@dataclass(frozen=True, slots=True)
class Done:
    """What a work returned."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """What a work raised; its changes are undone."""

    error: BaseException


Jobs = queue.SimpleQueue[Job | None]
"""Works in order of submission; None is the end."""


def next_group(jobs: Jobs, most: int) -> list[Job]:
    """What waits now, at most ``most``; blocks for the first; empty at the end."""
    job = jobs.get()
    group: list[Job] = []
    while job is not None:
        group.append(job)
        if len(group) == most:
            return group
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return group
    if group:
        jobs.put(None)  # the end came with the last group: meet it again next time
    return group


def run(work: Callable[[AnyTx], T], tx: AnyTx) -> T:
    """Run a work; what it raises passes, except that StopIteration becomes a RuntimeError."""
    try:
        return work(tx)
    except StopIteration as error:  # a future cannot carry it: its awaiter would wait for ever
        raise RuntimeError("a work let StopIteration out") from error


def settle(group: Sequence[Job], outcomes: Sequence[Done | Failed]) -> None:
    """Hand out what each work of a committed group came to."""
    for job, outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, Done):
            job.future.set_result(outcome.result)
        else:
            job.future.set_exception(outcome.error)


def refuse(group: Sequence[Job], fault: Fault) -> None:
    """Give every work of the group the same answer."""
    for job in group:
        job.future.set_exception(again(fault))


def again(fault: Fault, where: str = "") -> Fault:
    """The same fault for one more awaiter: an exception that is raised twice mixes two tracebacks."""
    return type(fault)(where + fault.args[0], code=fault.code, hint=fault.hint)
