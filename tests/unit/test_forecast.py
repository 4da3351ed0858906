"""What lies ahead of a queue, against figures worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.outbox.forecast import PRIOR, Bucket, Check, Evidence, Minute, drain, effort, forecast, late
from security.outbox.port import JobClass

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MINUTE = int(NOW.timestamp()) // 60
P0, P1, P2, P3 = JobClass


def minutes(count: int, *, accepted: int = 0, published: int = 0, busy_ms: int = 0, job_class: JobClass = P1) -> list:
    return [
        Minute(minute=MINUTE - back, job_class=job_class, accepted=accepted, published=published, busy_ms=busy_ms)
        for back in range(1, count + 1)
    ]


def test_the_worked_example_of_the_sheet_drains_in_96_minutes() -> None:
    """9,070 jobs, 0.42 new ones per second, 2 done per second: 9070 / (2 - 0.42) = 5,740 s."""
    assert drain(9070, 0.42, 0.5) == pytest.approx(5740.5, abs=0.1)


def test_more_arriving_than_leaving_never_drains_and_grows() -> None:
    seen = forecast(
        Evidence(
            now=NOW,
            backlog=[Bucket(job_class=P1, minute=MINUTE + 60, jobs=10)],
            minutes=minutes(120, accepted=120, published=60, busy_ms=60_000),
            fruitful=minutes(120, accepted=120, published=60, busy_ms=60_000),
            calls=1,
        )
    )
    assert (seen.drain_s[1], seen.load > 1) == (math.inf, True)
    assert seen.growth_per_h == pytest.approx((2 - 1) * 3600, rel=0.01)


def test_effort_is_seconds_of_the_index_per_published_job_failed_calls_included() -> None:
    found = effort(minutes(10, published=3, busy_ms=6000))
    assert found is not None
    assert (found.mean_s, found.p10_s, found.p90_s) == pytest.approx((2.0, 2.0, 2.0))


def test_minutes_in_which_the_index_was_away_make_no_job_dearer_and_old_ones_still_count() -> None:
    away = [Minute(minute=MINUTE - back, job_class=P1, busy_ms=3_600_000) for back in range(1, 60)]
    before = [replace(one, minute=one.minute - 500) for one in minutes(10, published=3, busy_ms=6000)]
    found = effort([*before, *away])
    assert found is not None
    assert found.mean_s == pytest.approx(2.0)


def test_nineteen_published_jobs_are_too_few_to_judge_by() -> None:
    assert effort(minutes(19, published=1, busy_ms=500)) is None
    assert effort(minutes(20, published=1, busy_ms=500)) is not None
    assert not forecast(Evidence(now=NOW, backlog=[], minutes=[], fruitful=[], calls=4)).is_measured
    assert PRIOR.mean_s == 1.0


def test_steady_arrivals_are_read_as_their_rate_and_a_usual_hour_counts_when_it_is_more() -> None:
    steady = Evidence(
        now=NOW, backlog=[], minutes=minutes(120, accepted=30), fruitful=minutes(120, accepted=30), calls=4
    )
    assert forecast(steady).load == pytest.approx(0.5 * PRIOR.mean_s / 4, rel=0.01)
    usual = Evidence(now=NOW, backlog=[], minutes=[], fruitful=[], calls=4, usual_per_s={P1: 2.0})
    assert forecast(usual).load == pytest.approx(0.5)


def test_the_urgent_class_goes_first_and_what_is_behind_it_is_late() -> None:
    """One job per second. 100 withdrawals due in 15 minutes, 3,600 exams due in an hour: 100 of these miss it, less the
    sixty seconds by which the minute of a deadline is rounded up."""
    queue = [Bucket(job_class=P1, minute=MINUTE + 60, jobs=3600), Bucket(job_class=P0, minute=MINUTE + 15, jobs=100)]
    assert late(queue, {}, 1.0, now=NOW, away=timedelta()) == {P0: 0, P1: 40, P2: 0, P3: 0}


def test_jobs_without_a_deadline_are_never_late_and_passed_ones_are_overdue_instead() -> None:
    seen = forecast(
        Evidence(
            now=NOW,
            backlog=[
                Bucket(job_class=P3, minute=None, jobs=10_000),
                Bucket(job_class=P1, minute=MINUTE - 2, jobs=7),
            ],
            minutes=[],
            fruitful=[],
            calls=1,
        )
    )
    assert (sum(seen.late.values()), seen.overdue) == (0, {P0: 0, P1: 7, P2: 0, P3: 0})
    assert seen.backlog == {P0: 0, P1: 7, P2: 0, P3: 10_000}


def test_an_outage_of_half_an_hour_warns_of_what_is_due_within_the_next_half() -> None:
    away = [*minutes(60, published=1, busy_ms=100)[30:], *minutes(30, busy_ms=1)]
    queue = [Bucket(job_class=P1, minute=MINUTE + due, jobs=1) for due in (10, 20, 40, 50)]
    seen = forecast(Evidence(now=NOW, backlog=queue, minutes=away, fruitful=away, calls=4))
    assert (seen.away, seen.late[P1]) == (timedelta(minutes=30), 2)


def test_an_index_that_publishes_is_not_away() -> None:
    at_work = minutes(9, published=1, busy_ms=9)
    assert forecast(Evidence(now=NOW, backlog=[], minutes=at_work, fruitful=at_work, calls=4)).away == timedelta()
    assert (
        forecast(
            Evidence(now=NOW, backlog=[], minutes=minutes(9, accepted=1), fruitful=minutes(9, accepted=1), calls=4)
        ).away
        == timedelta()
    )


def test_an_outage_costs_its_time_and_what_arrives_meanwhile() -> None:
    """T(x) = x + (B + λx) / (μ - λ): one hour away, 0.5 per second, one done per second, nothing waiting: 3600 + 3600."""
    seen = forecast(Evidence(now=NOW, backlog=[], minutes=[], fruitful=[], calls=1, usual_per_s={P1: 0.5}))
    assert seen.after_outage_s[timedelta()] == 0
    assert seen.after_outage_s[timedelta(hours=1)] == pytest.approx(3600 + 1800 / 0.5)


def test_a_forecast_that_was_wrong_says_so() -> None:
    def judged(*checks: tuple[float, float]) -> tuple[float | None, bool]:
        told = [Check(predicted_s=said, actual_s=was) for said, was in checks]
        seen = forecast(Evidence(now=NOW, backlog=[], minutes=[], fruitful=[], calls=1, checks=told))
        return seen.error, seen.is_reliable

    assert judged() == (None, True)
    assert judged((100, 100), (110, 100), (900, 100)) == (pytest.approx(0.1), True)
    assert judged((150, 100), (100, 200)) == (pytest.approx(0.5), False)


@given(
    jobs=st.integers(0, 10_000),
    rate=st.floats(0, 0.9),
    more=st.integers(1, 1000),
    calls=st.integers(1, 8),
)
def test_a_longer_queue_never_drains_sooner_and_more_calls_never_later(
    jobs: int, rate: float, more: int, calls: int
) -> None:
    assert drain(jobs + more, rate, 1 / calls) >= drain(jobs, rate, 1 / calls)
    assert drain(jobs, rate, 1 / (calls + 1)) <= drain(jobs, rate, 1 / calls)


@given(
    st.lists(
        st.builds(
            Bucket,
            job_class=st.sampled_from(JobClass),
            minute=st.none() | st.integers(MINUTE - 60, MINUTE + 600),
            jobs=st.integers(1, 500),
        ),
        max_size=30,
    )
)
def test_every_job_is_at_most_once_late_or_overdue(queue: list[Bucket]) -> None:
    seen = forecast(Evidence(now=NOW, backlog=queue, minutes=[], fruitful=[], calls=2))
    for job_class in JobClass:
        waiting = sum(b.jobs for b in queue if b.job_class is job_class and b.minute is not None)
        assert seen.late[job_class] + seen.overdue[job_class] <= waiting
