import asyncio
import threading

import pytest

from gateway.bridge import Bridge, Call
from security.errors import Unavailable


def waiting(call: Call) -> str:
    """Blocks until it is cut."""
    woken = threading.Event()
    call.on_cut(woken.set)
    assert woken.wait(20)
    return "woken"


async def test_work_runs_in_a_thread_of_the_peer_and_its_result_comes_back():
    bridge = Bridge("pacs", workers=1)

    def work(call: Call, number: int) -> tuple[int, bool]:
        return number + 1, threading.current_thread().name.startswith("bridge-pacs")

    assert await bridge.run(work, 41, deadline_s=5) == (42, True)
    await bridge.close()


async def test_what_the_work_raises_passes_through():
    bridge = Bridge("pacs", workers=1)

    def work(call: Call) -> None:
        raise TimeoutError("the library's own")

    with pytest.raises(TimeoutError, match="the library's own"):
        await bridge.run(work, deadline_s=5)
    await bridge.close()


async def test_the_deadline_frees_the_caller_and_wakes_the_thread():
    bridge = Bridge("pacs", workers=1)

    with pytest.raises(Unavailable) as raised:
        await bridge.run(waiting, deadline_s=0.1)

    assert raised.value.code == "timeout"
    assert await bridge.run(lambda call: "next", deadline_s=5) == "next"  # the only thread is free again
    await bridge.close()


async def test_a_cancelled_caller_wakes_the_thread():
    bridge = Bridge("pacs", workers=1)
    question = asyncio.create_task(bridge.run(waiting, deadline_s=20), name="question")
    await asyncio.sleep(0.05)
    question.cancel()

    with pytest.raises(asyncio.CancelledError):
        await question

    assert await bridge.run(lambda call: "next", deadline_s=5) == "next"
    await bridge.close()


async def test_waiting_for_a_thread_counts_against_the_deadline():
    bridge = Bridge("pacs", workers=1)
    first = asyncio.create_task(bridge.run(waiting, deadline_s=20), name="first")
    await asyncio.sleep(0.05)
    ran = []

    with pytest.raises(Unavailable) as raised:
        await bridge.run(ran.append, deadline_s=0.1)

    assert raised.value.code == "timeout"
    await bridge.close()
    assert await first == "woken"
    assert ran == []


async def test_one_call_too_many_is_refused_at_once():
    bridge = Bridge("pacs", workers=1, waiting_max=0)
    first = asyncio.create_task(bridge.run(waiting, deadline_s=20), name="first")
    await asyncio.sleep(0.05)

    with pytest.raises(Unavailable) as raised:
        await bridge.run(waiting, deadline_s=20)

    assert raised.value.code == "busy"
    await bridge.close()
    assert await first == "woken"


async def test_a_cut_that_comes_before_the_socket_still_reaches_it():
    bridge = Bridge("pacs", workers=1)
    given_up, reached = threading.Event(), threading.Event()

    def work(call: Call) -> None:
        given_up.wait(20)  # not its own look at the time: a work that ends by itself at the deadline is not cut
        call.on_cut(reached.set)

    with pytest.raises(Unavailable):
        await bridge.run(work, deadline_s=1.0)  # on a busy machine a thread begins late
    given_up.set()
    await bridge.close()
    assert reached.is_set()


async def test_a_closed_bridge_takes_no_calls_and_leaves_no_thread():
    bridge = Bridge("pacs", workers=2)
    await bridge.run(lambda call: None, deadline_s=5)
    await bridge.close()
    await bridge.close()

    with pytest.raises(Unavailable) as raised:
        await bridge.run(waiting, deadline_s=5)

    assert raised.value.code == "closed"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bridge-pacs")]
