"""What a kind of job must offer, and the words in which it answers.

The engine calls exactly one method of the kind per claim, chosen by the job's state:

=================  ==========  ====================================================================
state              method      question
=================  ==========  ====================================================================
SETTLING           ``settle``  is everything there, and what exactly will be sent?
READY (→ SENT)     ``send``    send the stored bytes; what did the peer say?
UNKNOWN, ACCEPTED  ``query``   does the peer hold it? (asked before any re-send, I9)
=================  ==========  ====================================================================

The engine commits the answer's ``effects`` in the same transaction as the state change, its history row and
its audit row (I2, I7, I16). A kind never writes state itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from security.outbox.states import Event, State
from security.store.port import Tx


class JobClass(IntEnum):
    """Scheduling class (reliability §4); the lower number goes first."""

    P0 = 0  # withdrawal, opposition, wrong-patient correction
    P1 = 1  # new exam or new version
    P2 = 2  # metadata refresh, replay
    P3 = 3  # back-loading of old exams


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One intended effect for one lane, as claimed.

    ``lane``: the study (StudyInstanceUID); one job in flight per (tenant, lane), in ``job_id`` order. ``epoch``:
    fencing number, one more with every change of the row; a write with an older one changes nothing (I8).
    ``attempts``: sends begun. ``tries``: claims since the job last came nearer its end, this one included; it
    grows through NOT_YET, UNCLEAR, TRANSIENT, AMBIGUOUS, ABSENT and deaths, so every waiting may grow with it.
    """

    job_id: int
    tenant: str
    lane: str
    kind: str
    job_class: JobClass
    state: State
    reason: str
    detail: str
    epoch: int
    attempts: int
    tries: int
    accepted_at: datetime
    deadline: datetime | None
    sent_at: datetime | None  # start of the last attempt; None before the first
    not_before: datetime | None = None  # it waits until then; None: it does not wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one call of a kind concluded.

    ``event``: the row of the state table to take, one of ``states.ANSWERS``. ``reason``: stable code (words joined
    by hyphens) for people and metrics; ``detail``: one sentence, no patient data. ``not_before``: earliest next
    call (None: the engine's own back-off, or at once when there is nothing to wait for); the engine asks again
    within an hour whatever it says, because a wall clock may be wrong (I17). ``retry_after_s``: the peer's own
    wish, clamped by the engine. ``effects``: changes to commit with the transition. ``request``: of PREPARED, the
    transaction that the bytes are for, as the audit trail is to tell it (``ITI-41``); "" for none.
    """

    event: Event
    reason: str = ""
    detail: str = ""
    not_before: datetime | None = None
    retry_after_s: float | None = None
    effects: Callable[[Tx], None] | None = None
    request: str = ""


class JobKind(Protocol):
    """One registered kind of job.

    ``endpoint`` names the peer behind ``send`` and ``query``: one circuit breaker each. Methods raise nothing
    they can name: a fault of a peer is an ``Answer``. What they do raise is treated by the engine as ``BLOCKED`` with
    reason ``internal-fault`` (SETTLING), as an unknown outcome (SENT) or as no answer (UNKNOWN, ACCEPTED), never as
    success. A send must be repeatable with the same bytes: it may be called again after a query said ABSENT.
    """

    name: str
    endpoint: str

    async def settle(self, job: Job) -> Answer: ...

    async def send(self, job: Job) -> Answer: ...

    async def query(self, job: Job) -> Answer: ...
