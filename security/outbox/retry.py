"""When to call again: full jitter, a peer's Retry-After, and the point where waiting longer needs a person.

Pure: randomness and time come from the caller; the engine owns the waiting.

Invariants:

* full jitter: a delay is uniform in [0, min(cap, base·2^n)] (reliability §2), so jobs that failed together do
  not come back together (FF-24);
* no wait is longer than ``wait_max_s``: a longer one is cut, the kind is asked again and may say "not yet"
  again. A stamp further ahead than this can only come from a clock that has jumped (F11);
* giving up is counted in tries, never in days: a clock that jumps a year must not end a single job (I17).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from security.outbox.port import Answer, Job
from security.outbox.states import Event

_DOUBLINGS_MAX = 62  # beyond this 2^n says nothing more: every cap is long reached


class Uniform(Protocol):
    """The one draw that jitter needs; ``random.Random`` satisfies it."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between ``a`` and ``b``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """Bounds of every waiting time, in seconds, and of the number of fruitless claims (I20).

    ``tries_max``: fruitless claims after which a transient failure becomes a person's decision. At the cap a
    wait lasts 7.5 min on average, so 5,000 are about 26 days.
    """

    base_s: float = 2.0
    cap_s: float = 900.0
    retry_after_min_s: float = 1.0
    retry_after_max_s: float = 3600.0
    wait_max_s: float = 3600.0
    tries_max: int = 5000


_WAITING = frozenset({Event.NOT_YET, Event.UNCLEAR, Event.TRANSIENT, Event.ABSENT})
"""Answers after which the job waits. ABSENT is one of them: a peer that swallows every send must not be sent to
in a tight loop. After any other answer the next step follows at once."""


def backoff_s(tries: int, rng: Uniform, settings: RetrySettings) -> float:
    """A full-jitter delay in seconds after the ``tries``-th (from 1) fruitless claim."""
    doublings = min(max(tries - 1, 0), _DOUBLINGS_MAX)
    return rng.uniform(0.0, min(settings.cap_s, settings.base_s * 2.0**doublings))


def retry_after_s(wish_s: float, settings: RetrySettings) -> float:
    """The peer's wish (RFC 9110 §10.2.3) within our bounds; a wish that is no number counts as the shortest."""
    if not wish_s > settings.retry_after_min_s:  # also NaN
        return settings.retry_after_min_s
    return min(wish_s, settings.retry_after_max_s)


def not_before(answer: Answer, job: Job, *, now: datetime, rng: Uniform, settings: RetrySettings) -> datetime | None:
    """The moment from which ``job`` may be claimed again after ``answer``; None means at once.

    The kind's own moment counts first, then the peer's Retry-After, then full jitter.
    """
    latest = now + timedelta(seconds=settings.wait_max_s)
    if answer.not_before is not None:
        return min(answer.not_before, latest)
    if answer.event not in _WAITING:
        return None
    if answer.retry_after_s is not None:
        wait_s = retry_after_s(answer.retry_after_s, settings)
    else:
        wait_s = backoff_s(job.tries, rng, settings)
    return min(now + timedelta(seconds=wait_s), latest)


def is_exhausted(answer: Answer, job: Job, settings: RetrySettings) -> bool:
    """A failure that retrying has not cured for ``tries_max`` claims: a person must decide."""
    return answer.event is Event.TRANSIENT and job.tries >= settings.tries_max
