"""Our clock against others': the index's Date headers, and time that ran backwards (FF-42, T64)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from security.clock import Clock

_HALF_A_SECOND = 0.5  # a Date header says the second that has begun: on average half of it has passed
FRESH = timedelta(hours=1)
STEP_S = 1.0


def offset_s(header: str, at: datetime) -> float | None:
    """Our clock minus the peer's in seconds, ± 0.5 s and the way of the answer; None for no readable Date.

    ``at``: when the answer arrived, by our clock.
    """
    try:
        stated = parsedate_to_datetime(header)
    except ValueError:
        return None
    if stated.tzinfo is None:
        stated = stated.replace(tzinfo=UTC)
    return (at - stated).total_seconds() - _HALF_A_SECOND


class ClockWatch:
    """What was last measured against each tenant's index, and whether our clock was set back meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._measured: dict[str, tuple[float, datetime]] = {}
        self._seen = (clock.now(), clock.monotonic())

    def observer(self, tenant: str) -> Callable[[str, datetime], None]:
        """What ``XdsClient`` calls with each Date header of the tenant's index."""

        def observe(header: str, at: datetime) -> None:
            offset = offset_s(header, at)
            if offset is not None:
                self._measured[tenant] = (offset, at)

        return observe

    def offsets(self) -> dict[str, float]:
        """The offset of each tenant that was measured within the last hour."""
        now = self._clock.now()
        return {name: offset for name, (offset, at) in self._measured.items() if abs(now - at) <= FRESH}

    def stepped_back_s(self) -> float:
        """Seconds by which the clock was set back since the last call; 0 for up to one second."""
        before, counted = self._seen
        self._seen = now, monotonic = self._clock.now(), self._clock.monotonic()
        lost = (monotonic - counted) - (now - before).total_seconds()
        return lost if lost > STEP_S else 0.0
