"""How many calls an endpoint may carry."""

from __future__ import annotations

from security.outbox.breaker import Breaker, BreakerSettings, Mode, Verdict

OK, BAD, NEUTRAL = Verdict.SUCCESS, Verdict.FAILURE, Verdict.NEUTRAL


def breaker() -> Breaker:
    return Breaker(BreakerSettings())


def calls(it: Breaker, verdict: Verdict, *moments: float) -> None:
    for now in moments:
        it.begin()
        it.end(verdict, now)


def opened_at_zero() -> Breaker:
    it = breaker()
    calls(it, BAD, 0, 0, 0, 0, 0)
    return it


def test_it_opens_at_the_fifth_failure_within_thirty_seconds() -> None:
    it = breaker()
    calls(it, BAD, 0, 5, 10, 15)
    assert it.mode(16) is Mode.CLOSED
    calls(it, BAD, 29)
    assert it.mode(29) is Mode.OPEN


def test_it_stays_closed_when_five_failures_take_longer() -> None:
    it = breaker()
    calls(it, BAD, 0, 10, 20, 25, 31)
    assert it.mode(31) is Mode.CLOSED


def test_it_opens_when_half_of_the_last_twenty_failed_however_slowly() -> None:
    it = breaker()
    for start in range(0, 900, 100):
        calls(it, OK, start)
        calls(it, BAD, start + 50)
    assert it.mode(900) is Mode.CLOSED
    calls(it, OK, 900)
    calls(it, BAD, 950)
    assert it.mode(950) is Mode.OPEN


def test_an_open_breaker_permits_nothing_for_ten_seconds_then_one_probe() -> None:
    it = opened_at_zero()
    assert it.permits(9.9) == 0
    assert it.mode(10) is Mode.HALF_OPEN
    assert it.permits(10) == 1
    it.begin()
    assert it.permits(10) == 0


def test_each_failed_probe_doubles_the_pause_up_to_five_minutes() -> None:
    it, now, pauses = opened_at_zero(), 0.0, []
    for _ in range(7):
        pause = next(seconds for seconds in range(1000) if it.permits(now + seconds))
        pauses.append(pause)
        now += pause
        calls(it, BAD, now)
    assert pauses == [10, 20, 40, 80, 160, 300, 300]


def test_after_a_good_probe_the_limit_doubles_every_thirty_seconds() -> None:
    it = opened_at_zero()
    calls(it, OK, 10)
    assert [it.permits(now) for now in (10, 39, 40, 69, 70, 100, 9999)] == [1, 1, 2, 2, 4, 4, 4]


def test_a_good_probe_resets_the_pause() -> None:
    it = opened_at_zero()
    calls(it, BAD, 10)
    calls(it, OK, 30)
    calls(it, BAD, 31, 31, 31, 31, 31)
    assert it.permits(40.9) == 0
    assert it.permits(41) == 1


def test_a_probe_that_proves_nothing_gives_its_place_to_the_next() -> None:
    it = opened_at_zero()
    calls(it, NEUTRAL, 10)
    assert it.mode(10) is Mode.HALF_OPEN
    assert it.permits(10) == 1


def test_a_failure_that_began_before_it_opened_does_not_lengthen_the_pause() -> None:
    it = breaker()
    it.begin()
    calls(it, BAD, 0, 0, 0, 0, 0)
    it.end(BAD, 5)
    assert it.permits(10) == 1


def test_i15_a_slow_endpoint_never_holds_more_than_four_calls() -> None:
    it = breaker()
    for _ in range(4):
        it.begin()
    assert it.permits(0) == 0


def test_ff24_a_peer_that_says_later_is_left_alone_by_everybody_and_carries_half_as_much_afterwards() -> None:
    it = breaker()
    it.begin()
    it.end(BAD, 100, wait_s=60)
    assert [it.permits(now) for now in (100, 159.9, 160, 189, 190, 220, 900)] == [0, 0, 2, 2, 3, 4, 4]


def test_one_word_of_later_counts_once_however_many_calls_brought_it() -> None:
    it = breaker()
    for _ in range(4):
        it.begin()
    for _ in range(4):
        it.end(BAD, 100, wait_s=60)
    assert it.permits(160) == 2


def test_no_peer_is_left_alone_for_more_than_an_hour_at_its_word() -> None:
    it = breaker()
    it.begin()
    it.end(BAD, 0, wait_s=10**9)
    assert (it.permits(3599), it.permits(3600)) == (0, 2)


def test_it_says_once_that_a_peer_is_back() -> None:
    it = opened_at_zero()
    it.begin()
    assert it.end(OK, 11)
    it.begin()
    assert not it.end(OK, 12)
