"""When a job is called again."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from security.outbox.port import Answer, Job, JobClass
from security.outbox.retry import RetrySettings, backoff_s, is_exhausted, not_before, retry_after_s
from security.outbox.states import Event, State

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DEFAULTS = RetrySettings()


class Highest:
    """Draws the upper end."""

    def uniform(self, a: float, b: float, /) -> float:
        return b


def job(tries: int = 1) -> Job:
    return Job(
        job_id=1, tenant="t", lane="1.2.3", kind="k", job_class=JobClass.P1, state=State.SENT, reason="", detail="", epoch=3,
        attempts=1, tries=tries, accepted_at=NOON, deadline=None, sent_at=NOON,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tries", "ceiling"),
    [(0, 2.0), (1, 2.0), (2, 4.0), (3, 8.0), (9, 512.0), (10, 900.0), (11, 900.0), (5000, 900.0), (10**9, 900.0)],
)
def test_ff24_the_window_doubles_from_two_seconds_to_fifteen_minutes(tries: int, ceiling: float) -> None:
    assert backoff_s(tries, Highest(), DEFAULTS) == ceiling


def test_ff24_delays_are_spread_over_the_whole_window() -> None:
    rng = random.Random(24)
    delays = [backoff_s(4, rng, DEFAULTS) for _ in range(4000)]
    assert 0.0 <= min(delays) < 0.1
    assert 15.9 < max(delays) <= 16.0
    assert 7.7 < sum(delays) / len(delays) < 8.3


@pytest.mark.parametrize(
    ("wish", "granted"),
    [
        (-5.0, 1.0),
        (0.0, 1.0),
        (1.0, 1.0),
        (90.0, 90.0),
        (3600.0, 3600.0),
        (86400.0, 3600.0),
        (math.inf, 3600.0),
        (math.nan, 1.0),
    ],
)
def test_a_retry_after_is_kept_between_one_second_and_one_hour(wish: float, granted: float) -> None:
    assert retry_after_s(wish, DEFAULTS) == granted


@pytest.mark.parametrize("event", [Event.TRANSIENT, Event.NOT_YET, Event.UNCLEAR, Event.ABSENT])
def test_an_answer_without_result_waits(event: Event) -> None:
    due = not_before(Answer(event=event), job(3), now=NOON, rng=Highest(), settings=DEFAULTS)
    assert due == NOON + timedelta(seconds=8)


@pytest.mark.parametrize("event", [Event.PREPARED, Event.ACCEPTED, Event.AMBIGUOUS, Event.FOUND])
def test_an_answer_with_a_next_step_is_followed_at_once(event: Event) -> None:
    assert not_before(Answer(event=event), job(3), now=NOON, rng=Highest(), settings=DEFAULTS) is None


def test_the_peers_wish_counts_before_the_back_off() -> None:
    answer = Answer(event=Event.TRANSIENT, retry_after_s=120.0)
    assert not_before(answer, job(1), now=NOON, rng=Highest(), settings=DEFAULTS) == NOON + timedelta(seconds=120)


def test_the_kinds_own_moment_counts_first() -> None:
    answer = Answer(event=Event.UNCLEAR, not_before=NOON + timedelta(minutes=10), retry_after_s=1.0)
    assert not_before(answer, job(1), now=NOON, rng=Highest(), settings=DEFAULTS) == NOON + timedelta(minutes=10)


def test_f11_no_wait_is_longer_than_an_hour_so_a_longer_one_betrays_a_clock_jump() -> None:
    answer = Answer(event=Event.NOT_YET, not_before=NOON + timedelta(days=2))
    assert not_before(answer, job(1), now=NOON, rng=Highest(), settings=DEFAULTS) == NOON + timedelta(hours=1)


def test_i20_five_thousand_fruitless_tries_need_a_person() -> None:
    assert not is_exhausted(Answer(event=Event.TRANSIENT), job(4999), DEFAULTS)
    assert is_exhausted(Answer(event=Event.TRANSIENT), job(5000), DEFAULTS)
    assert not is_exhausted(Answer(event=Event.UNCLEAR), job(5000), DEFAULTS)
