"""One circuit breaker per endpoint: how many calls it may carry now.

Pure state; monotonic seconds come from the caller (I17). It limits calls and nothing else: what a job becomes
is decided by its answer, so a job that finds the breaker open is not claimed and loses no attempt (F05).

```
          5 failures in 30 s, or half of the last 20
  CLOSED ───────────────────────────────────────────▶ OPEN
    ▲                                                 │  ▲
    │ the probe succeeds       10 s, then ×2 to 5 min │  │ the probe fails
    │                                                 ▼  │
    └────────────────────────────────────────────── HALF-OPEN
```

Invariants:

* at most ``calls_max`` calls at once, so one slow peer cannot take every slot (I15);
* a peer that says "later" is left alone for as long as it says, an hour at most, and carries half as many calls
  afterwards; every ``ramp_s`` without such a word it carries one more (additive increase, multiplicative decrease);
* half-open carries one probe; after it succeeds the limit doubles from 1 every ``ramp_s`` (no herd);
* a call that proves nothing (a query that came too early) frees its place and changes nothing;
* a call begun before the breaker opened and ending while it is half-open counts as the probe: it is as fresh.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What the breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Verdict(StrEnum):
    """What one finished call says about the endpoint."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """Thresholds; times in seconds (I20)."""

    failures: int = 5
    window_s: float = 30.0
    sample: int = 20
    share: float = 0.5
    probe_s: float = 10.0
    probe_max_s: float = 300.0
    calls_max: int = 4
    ramp_s: float = 30.0
    wait_max_s: float = 3600.0


class Breaker:
    """The state of one endpoint. Not thread-safe: it lives on the engine's event loop."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._recent: deque[tuple[float, bool]] = deque(maxlen=max(settings.sample, settings.failures))
        self._in_flight = 0
        self._opened_at: float | None = None
        self._pause_s = settings.probe_s
        self._ramp_from: float | None = None
        self._quiet_until: float | None = None
        self._busy_limit, self._busy_at = settings.calls_max, 0.0

    def mode(self, now: float) -> Mode:
        """Where the breaker stands at ``now``."""
        if self._opened_at is None:
            return Mode.CLOSED
        return Mode.OPEN if now < self._opened_at + self._pause_s else Mode.HALF_OPEN

    def permits(self, now: float) -> int:
        """How many further calls may begin at ``now``."""
        mode = self.mode(now)
        if mode is Mode.OPEN or (self._quiet_until is not None and now < self._quiet_until):
            return 0
        limit = 1 if mode is Mode.HALF_OPEN else self._limit(now)
        return max(0, limit - self._in_flight)

    def begin(self) -> None:
        """A permitted call begins; exactly one ``end`` must follow."""
        self._in_flight += 1

    def end(self, verdict: Verdict, now: float, *, wait_s: float | None = None) -> bool:
        """The call is over; whether it shows that a peer that was away is back. ``wait_s``: the peer's own wish to be
        left alone for so many seconds (Retry-After)."""
        self._in_flight -= 1
        if wait_s is not None:
            self._spare(wait_s, now)
        if verdict is Verdict.NEUTRAL:
            return False
        is_failure = verdict is Verdict.FAILURE
        match self.mode(now):
            case Mode.OPEN:
                return False  # begun before it opened: tells nothing new
            case Mode.HALF_OPEN if is_failure:
                self._opened_at = now
                self._pause_s = min(self._pause_s * 2, self._settings.probe_max_s)
            case Mode.HALF_OPEN:
                self._opened_at, self._pause_s, self._ramp_from = None, self._settings.probe_s, now
                self._recent.clear()
                return True
            case Mode.CLOSED:
                self._recent.append((now, is_failure))
                if self._is_failing(now):
                    self._opened_at = now
        return False

    def _spare(self, wait_s: float, now: float) -> None:
        """One wish counts once, however many calls were under way and brought it."""
        until = now + min(max(wait_s, 0.0), self._settings.wait_max_s)
        if self._quiet_until is None or now >= self._quiet_until:
            self._busy_limit, self._busy_at = max(1, self._limit(now) // 2), until
        self._quiet_until = max(until, self._quiet_until or until)

    def _limit(self, now: float) -> int:
        settings = self._settings
        since_busy = max(0.0, now - self._busy_at)
        limit = min(self._busy_limit + int(since_busy / settings.ramp_s), settings.calls_max)
        if self._ramp_from is None:
            return limit
        doublings = min(int((now - self._ramp_from) / settings.ramp_s), 30)
        return int(min(2**doublings, limit))

    def _is_failing(self, now: float) -> bool:
        settings = self._settings
        burst = sum(failed for at, failed in self._recent if at > now - settings.window_s)
        latest = list(self._recent)[-settings.sample :]
        share = sum(failed for _, failed in latest) / settings.sample if len(latest) == settings.sample else 0.0
        return burst >= settings.failures or share >= settings.share
