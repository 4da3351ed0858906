"""Time enters here and nowhere else, so that tests and simulations can turn the hands.

Wall time stamps records and is compared with deadlines; monotonic time measures leases and timeouts (I17).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The two times a decision may need."""

    def now(self) -> datetime:
        """The wall time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin, never backwards."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970-01-01T00:00:00Z of an aware datetime; the form every table stores."""
    return int(moment.timestamp() * 1000)


def from_ms(milliseconds: int) -> datetime:
    """The aware UTC datetime of a stored stamp."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
