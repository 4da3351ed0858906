"""How long the backlog of one tenant takes, and which of it will be late (reliability §5). Pure.

Symbols of the sheet and their names here: B_k ``Bucket.jobs``, w_k = S̄_k / p_k ``Effort.mean_s`` (seconds of the
index's attention that one published job costs, failed calls included, so p_k needs no figure of its own), c
``calls``, λ_k ``arrivals`` per second, ρ ``load``.

Invariants:

* what is too little to judge by is not judged by: under ``SAMPLES_MIN`` published jobs the prior stands;
* minutes without a publication say nothing of effort: an index that is away makes no job dearer;
* jobs of a more urgent class that arrive meanwhile go first, so they slow the others down and not the reverse;
* an index that is away is taken to stay away as long again as it already was: an outage of half an hour warns of
  what is due within the next half, before it is late;
* infinity is said as infinity, with the growth per hour beside it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from security.clock import to_ms
from security.outbox.port import JobClass

HALF_LIFE_MIN = 15.0
SAMPLES_MIN = 20
CHECKED_MAX = 20
"""Finished predictions by which the forecast judges itself."""
ERROR_MAX = 0.2
"""Median absolute error above which the forecast calls itself unreliable."""
OUTAGES = (timedelta(), timedelta(hours=1), timedelta(hours=4))
"""Ends of an outage for which the drain time is told."""
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What happened to one class of one tenant in one minute. ``minute``: since 1970 UTC; ``busy_ms``: sum of the
    calls to the index that ended in it."""

    minute: int
    job_class: JobClass
    accepted: int = 0
    published: int = 0
    busy_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Jobs of one class whose deadline lies in one minute; None: they have no deadline."""

    job_class: JobClass
    minute: int | None
    jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Seconds of the index's attention per published job: mean, and what one minute in ten stays under or exceeds."""

    mean_s: float
    p10_s: float
    p90_s: float


PRIOR = Effort(mean_s=1.0, p10_s=0.2, p90_s=4.0)
"""Before anything was measured: a query and a submission of half a second each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A prediction that has come to its end: the seconds foretold, and those it took."""

    predicted_s: float
    actual_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One look ahead.

    ``backlog``: jobs that wait for nothing but their turn, by class. ``drain_s``: seconds until all of them and
    what arrives meanwhile are done, at the tenth, the mean and the ninetieth of the effort; infinite when more
    arrives than leaves. ``after_outage_s``: the mean when the index only comes back after that long. ``late``: jobs
    whose deadline lies ahead and will be missed, by class; ``overdue``: those whose deadline has passed.
    ``growth_per_h``: jobs by which the backlog grows, 0.0 when it does not. ``away``: for how long the index has
    published nothing though it was called. ``is_measured``: the effort is this tenant's own. ``error``: median
    absolute error of the last finished predictions, None before the first.
    """

    backlog: Mapping[JobClass, int]
    drain_s: tuple[float, float, float]
    after_outage_s: Mapping[timedelta, float]
    late: Mapping[JobClass, int]
    overdue: Mapping[JobClass, int]
    growth_per_h: float
    load: float
    away: timedelta
    is_measured: bool
    error: float | None = None

    @property
    def is_reliable(self) -> bool:
        """Whether its own past does not speak against it."""
        return self.error is None or self.error <= ERROR_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a forecast is made from. ``minutes``: of the last hours; ``fruitful``: the newest that published
    something; ``usual_per_s``: arrivals by class at this hour of the week, as the median of earlier weeks; ``calls``:
    how many calls the index may carry at once."""

    now: datetime
    backlog: Sequence[Bucket]
    minutes: Sequence[Minute]
    fruitful: Sequence[Minute]
    calls: int
    usual_per_s: Mapping[JobClass, float] = field(default_factory=dict)
    checks: Sequence[Check] = ()


def forecast(evidence: Evidence) -> Forecast:
    """Look ahead from what is known now."""
    measured = effort(evidence.fruitful)
    cost = measured or PRIOR
    by_class = arrivals(evidence)
    rate = sum(by_class.values())
    jobs = sum(bucket.jobs for bucket in evidence.backlog)
    away = away_for(evidence.minutes, now=evidence.now)
    load = rate * cost.mean_s / evidence.calls
    return Forecast(
        backlog={k: sum(b.jobs for b in evidence.backlog if b.job_class is k) for k in JobClass},
        drain_s=(
            drain(jobs, rate, cost.p10_s / evidence.calls),
            drain(jobs, rate, cost.mean_s / evidence.calls),
            drain(jobs, rate, cost.p90_s / evidence.calls),
        ),
        after_outage_s={
            end: end.total_seconds() + drain(jobs + rate * end.total_seconds(), rate, cost.mean_s / evidence.calls)
            for end in OUTAGES
        },
        late=late(evidence.backlog, by_class, cost.mean_s / evidence.calls, now=evidence.now, away=away),
        overdue={
            k: sum(b.jobs for b in evidence.backlog if b.job_class is k and _room_s(b, evidence.now) < 0)
            for k in JobClass
        },
        growth_per_h=max(0.0, rate - evidence.calls / cost.mean_s) * 3600,
        load=load,
        away=away,
        is_measured=measured is not None,
        error=_error(evidence.checks),
    )


def effort(minutes: Iterable[Minute]) -> Effort | None:
    """The effort of the newest minutes that published something, however long ago that was, those a quarter of an
    hour older weighing half as much; None for too few jobs."""
    by_minute: dict[int, tuple[int, int]] = {}
    for one in minutes:
        published, busy_ms = by_minute.get(one.minute, (0, 0))
        by_minute[one.minute] = (published + one.published, busy_ms + one.busy_ms)
    told = {minute: counts for minute, counts in by_minute.items() if counts[0]}
    if sum(published for published, _ in told.values()) < SAMPLES_MIN:
        return None
    newest = max(told)
    costs = sorted(
        (busy_ms / published / 1000, published * 0.5 ** ((newest - minute) / HALF_LIFE_MIN))
        for minute, (published, busy_ms) in told.items()
    )
    whole = sum(weight for _, weight in costs)
    mean = sum(cost * weight for cost, weight in costs) / whole
    return Effort(
        mean_s=max(mean, 0.001),
        p10_s=max(min(_quantile(costs, 0.1 * whole), mean), 0.001),
        p90_s=max(_quantile(costs, 0.9 * whole), mean, 0.001),
    )


def away_for(minutes: Iterable[Minute], *, now: datetime) -> timedelta:
    """For how long calls have led to no publication; zero when none was made since the last one."""
    told = sorted(minutes, key=lambda one: one.minute)
    published = [one.minute for one in told if one.published]
    vain = [one.minute for one in told if one.busy_ms and not (published and one.minute <= published[-1])]
    if not vain:
        return timedelta()
    since = published[-1] + 1 if published else vain[0]
    return max(timedelta(), timedelta(seconds=now.timestamp() - since * 60))


def arrivals(evidence: Evidence) -> dict[JobClass, float]:
    """New jobs per second by class: what the last minutes brought, or what this hour of the week usually brings,
    whichever is more."""
    now_minute = to_ms(evidence.now) // _MINUTE_MS
    # The sum over all whole minutes of 2^(-age / half-life): what one job per minute for ever would add up to.
    whole = 1 / (1 - 0.5 ** (1 / HALF_LIFE_MIN))
    recent = dict.fromkeys(JobClass, 0.0)
    for one in evidence.minutes:
        if one.minute < now_minute:  # the minute that runs is not over
            recent[one.job_class] += one.accepted * 0.5 ** ((now_minute - 1 - one.minute) / HALF_LIFE_MIN)
    return {k: max(recent[k] / whole / 60, evidence.usual_per_s.get(k, 0.0)) for k in JobClass}


def drain(jobs: float, rate: float, seconds_each: float) -> float:
    """Seconds until ``jobs`` and what arrives at ``rate`` per second meanwhile are done, one every
    ``seconds_each``; infinite when no fewer arrive than leave."""
    if jobs <= 0:
        return 0.0
    idle = 1 - rate * seconds_each
    return jobs * seconds_each / idle if idle > 0 else math.inf


def late(
    backlog: Iterable[Bucket],
    by_class: Mapping[JobClass, float],
    seconds_each: float,
    *,
    now: datetime,
    away: timedelta,
) -> dict[JobClass, int]:
    """Jobs that will be done behind a deadline that is still ahead, by class, when they are done in the order of the
    queue, class first, then the earliest deadline, beginning when the index has been ``away`` as long again."""
    found = dict.fromkeys(JobClass, 0)
    ahead = 0
    ordered = sorted(backlog, key=lambda b: (b.job_class, math.inf if b.minute is None else b.minute))
    for bucket in ordered:
        room_s = _room_s(bucket, now)
        if 0 <= room_s < math.inf:
            more_urgent = sum(by_class.get(k, 0.0) for k in JobClass if k < bucket.job_class)
            # how many jobs, more urgent arrivals aside, are done by the end of that minute
            in_time = (
                max(0.0, room_s - away.total_seconds()) / seconds_each * max(0.0, 1 - more_urgent * seconds_each)
            )
            found[bucket.job_class] += bucket.jobs - min(bucket.jobs, max(0, math.floor(in_time) - ahead))
        ahead += bucket.jobs
    return found


def _room_s(bucket: Bucket, now: datetime) -> float:
    """Seconds to the end of the bucket's minute, negative when it is over, infinite without a deadline."""
    return math.inf if bucket.minute is None else (bucket.minute + 1) * 60 - now.timestamp()


def _error(checks: Sequence[Check]) -> float | None:
    done = [abs(c.predicted_s - c.actual_s) / c.actual_s for c in checks if c.actual_s > 0]
    return statistics.median(done) if done else None


def _quantile(costs: Sequence[tuple[float, float]], upto: float) -> float:
    """The cost at which the weights of the dearer ones begin to exceed ``upto``."""
    seen = 0.0
    for cost, weight in costs:
        seen += weight
        if seen >= upto:
            return cost
    return costs[-1][0]
