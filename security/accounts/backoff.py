"""How long failed tries make one wait: a decision on their number. Pure.

Four tries are free: people mistype. From the fifth on the wait begins at a minute and doubles up to an hour; an hour
after the last wait nothing is remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

FREE: Final = 4
FIRST_S: Final = 60.0
LONGEST_S: Final = 3600.0
FORGOTTEN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """The failed tries of one who, whatever it is: an account, an address, a browser."""

    failures: int
    not_before: datetime
    last_at: datetime


def waits_s(tries: Tries | None, now: datetime) -> float:
    """Seconds until the next try is judged."""
    return max(0.0, (tries.not_before - now).total_seconds()) if tries else 0.0


def after_a_try(tries: Tries | None, now: datetime) -> Tries:
    """What is remembered once another try was made; a good one is taken back by ``forgiven``."""
    counts = tries is not None and max(tries.last_at, tries.not_before) + FORGOTTEN > now
    failures = (tries.failures if tries is not None and counts else 0) + 1
    wait_s = min(LONGEST_S, FIRST_S * 2 ** min(failures - FREE - 1, 16)) if failures > FREE else 0.0
    return Tries(failures=failures, not_before=now + timedelta(seconds=wait_s), last_at=now)


def forgiven(tries: Tries) -> Tries | None:
    """The last try was a good one: it counts no more, and nothing is waited for."""
    if tries.failures <= 1:
        return None
    return Tries(failures=tries.failures - 1, not_before=tries.last_at, last_at=tries.last_at)
