"""Floods of requests: buckets by principal and by address, worked by hand; then over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from security.flood import Buckets, Measure, throttled

SLOW = Measure(per_second=2.0, burst=3)


def test_a_burst_is_served_then_each_half_second_one() -> None:
    buckets = Buckets(SLOW)
    assert [buckets.wait("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.wait("a", 10.25) == 0.25
    assert buckets.wait("a", 10.5) == 0.0
    assert buckets.wait("a", 10.5) == 0.5
    assert [buckets.wait("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]  # a rest gives the burst, not more


def test_each_has_its_own_and_a_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(SLOW)
    assert [buckets.wait("a", 10.0) for _ in range(4)][-1] == 0.5
    assert buckets.wait("b", 10.0) == 0.0
    assert buckets.wait("a", 5.0) == 0.5


def test_what_is_remembered_is_bounded() -> None:
    buckets = Buckets(SLOW, remembered_max=100)
    for number in range(1_000):
        buckets.wait(f"{number}", 1.0)
    assert len(buckets) == 100


@given(st.lists(st.floats(0, 0.4), min_size=1, max_size=200))
def test_no_rhythm_gets_more_than_the_measure(pauses: list[float]) -> None:
    buckets, now, served = Buckets(SLOW), 0.0, 0
    for pause in pauses:
        now += pause
        served += buckets.wait("a", now) == 0.0
    assert served <= SLOW.burst + SLOW.per_second * now + 1e-6


@asynccontextmanager
async def _serving(principal: Measure, address: Measure) -> AsyncIterator[str]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="served")

    app = web.Application(middlewares=[throttled(principal, address, time.monotonic)])
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def _ask(session: aiohttp.ClientSession, url: str, token: str) -> tuple[int, str]:
    async with session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, answer.headers.get("Retry-After", "")


async def test_t33_who_floods_is_told_to_wait_and_the_others_are_served() -> None:
    async with (
        _serving(Measure(per_second=0.5, burst=20), Measure(per_second=0.5, burst=60)) as url,
        aiohttp.ClientSession() as session,
    ):
        flood = await asyncio.gather(*(_ask(session, url, "one") for _ in range(200)))
        assert [status for status, _ in flood].count(200) in {20, 21}
        assert {wait for status, wait in flood if status == 429} <= {"1", "2"}
        for other in range(30):  # the address of both has not paid for what was refused
            assert (await _ask(session, url, f"other-{other}"))[0] == 200


async def test_t33_a_new_token_with_each_request_is_held_to_the_measure_of_its_address() -> None:
    async with (
        _serving(Measure(per_second=0.5, burst=20), Measure(per_second=0.5, burst=60)) as url,
        aiohttp.ClientSession() as session,
    ):
        answers = [(await _ask(session, url, f"{number}"))[0] for number in range(100)]
        assert answers[:60] == [200] * 60
        assert answers.count(429) >= 30
