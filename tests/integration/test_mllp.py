"""The MLLP listener on real sockets: order, limits, and no acknowledgement that was not earned (FF-11)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.hl7.ack import AckCode, build_ack
from gateway.hl7.mllp import MllpClient, MllpLimits, MllpServer, Peer, frame, serve_mllp
from security.clock import SystemClock
from security.errors import Unavailable
from security.parse.hl7 import parse_message
from tests.fixtures.reports import LabExam, build_oru

_SHORT = MllpLimits(
    frame_bytes_max=100_000, idle_s=0.3, frame_s=0.3, write_s=0.5, drain_s=0.5, connections_max=4,
    connections_per_address_max=3,
)  # fmt: skip


async def _echo(message: bytes, _peer: Peer) -> bytes:
    request = parse_message(message)
    return build_ack(request, AckCode.ACCEPT, control_id="A", at=SystemClock().now())


@contextlib.asynccontextmanager
async def _raw(server: MllpServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection, for peers that misbehave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _message(control_id: str) -> bytes:
    return b"MSH|^~\\&|RIS|A|P|A|20260108||ORU^R01^ORU_R01|%s|P|2.5\r" % control_id.encode()


def _asked(answer: bytes) -> tuple[str, str]:
    msa = parse_message(answer).segments("MSA")[0]
    return msa.text(1), msa.text(2)


async def _until(condition: object, seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]  # any zero-argument callable
        assert time.monotonic() < deadline, "condition not met in time"
        await asyncio.sleep(0.01)


async def test_messages_of_one_connection_are_answered_in_order() -> None:
    async with (
        await serve_mllp("127.0.0.1", 0, _echo) as server,
        await MllpClient.connect("127.0.0.1", server.port) as client,
    ):
        answers = [_asked(await client.send(_message(str(n)))) for n in range(20)]
    assert answers == [("AA", str(n)) for n in range(20)]


async def test_ff11_a_hundred_reports_on_two_interleaved_sockets_give_a_hundred_answers_without_cross_talk() -> None:
    seen: list[str] = []

    async def handle(message: bytes, peer: Peer) -> bytes:
        seen.append(parse_message(message).header.text(10))
        await asyncio.sleep(0)
        return await _echo(message, peer)

    async def sender(port: int, name: str) -> list[tuple[str, str]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stream = b"".join(frame(build_oru(LabExam(), control_id=f"{name}{n}")) for n in range(50))
        for at in range(0, len(stream), 997):  # no piece ends where a message does
            writer.write(stream[at : at + 997])
            await writer.drain()
            await asyncio.sleep(0)
        answers = [await reader.readuntil(b"\x1c\r") for _ in range(50)]
        writer.close()
        await writer.wait_closed()
        return [_asked(answer[1:-2]) for answer in answers]

    async with await serve_mllp("127.0.0.1", 0, handle) as server:
        a, b = await asyncio.gather(sender(server.port, "a"), sender(server.port, "b"))
    assert a == [("AA", f"a{n}") for n in range(50)]
    assert b == [("AA", f"b{n}") for n in range(50)]
    assert len(seen) == len(set(seen)) == 100


async def test_ff11_a_message_of_five_megabytes_is_accepted() -> None:
    message = _message("BIG") + b"OBX|1|ED|||" + b"A" * 5_000_000 + b"\r"
    async with (
        await serve_mllp("127.0.0.1", 0, _echo) as server,
        await MllpClient.connect("127.0.0.1", server.port) as client,
    ):
        assert _asked(await client.send(message)) == ("AA", "BIG")


async def test_a_second_message_waits_until_the_first_is_answered() -> None:
    release, active, most = asyncio.Event(), 0, 0

    async def handle(message: bytes, peer: Peer) -> bytes:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await release.wait()
        active -= 1
        return await _echo(message, peer)

    async with await serve_mllp("127.0.0.1", 0, handle) as server, _raw(server) as (reader, writer):
        writer.write(frame(_message("1")) + frame(_message("2")))
        await _until(lambda: active == 1)
        release.set()
        answers = [_asked((await reader.readuntil(b"\x1c\r"))[1:-2]) for _ in range(2)]
    assert (answers, most) == ([("AA", "1"), ("AA", "2")], 1)


async def test_no_answer_is_written_before_the_handler_returns() -> None:
    release = asyncio.Event()

    async def handle(message: bytes, peer: Peer) -> bytes:
        await release.wait()
        return await _echo(message, peer)

    async with await serve_mllp("127.0.0.1", 0, handle) as server, _raw(server) as (reader, writer):
        writer.write(frame(_message("1")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        release.set()
        assert await reader.read(1) == b"\x0b"


async def test_a_handler_that_fails_leaves_the_message_unanswered_and_others_served() -> None:
    async def handle(message: bytes, peer: Peer) -> bytes:
        if b"|BAD|" in message:
            raise RuntimeError("FANTÔME must not be logged")
        return await _echo(message, peer)

    async with await serve_mllp("127.0.0.1", 0, handle) as server:
        async with await MllpClient.connect("127.0.0.1", server.port) as client:
            with pytest.raises(Unavailable) as caught:
                await client.send(_message("BAD"))
            assert caught.value.code == "mllp-no-answer"
        async with await MllpClient.connect("127.0.0.1", server.port) as client:
            assert _asked(await client.send(_message("GOOD"))) == ("AA", "GOOD")


async def test_a_failing_handlers_text_is_not_logged() -> None:
    async def handle(_message: bytes, _peer: Peer) -> bytes:
        raise RuntimeError("FANTÔME")

    with capture_logs() as logged:
        async with await serve_mllp("127.0.0.1", 0, handle) as server, _raw(server) as (reader, writer):
            writer.write(frame(_message("1")))
            assert await reader.read() == b""
    assert [(line["event"], line["error"]) for line in logged] == [("mllp connection dropped", "RuntimeError")]
    assert "FANT" not in str(logged)


@pytest.mark.parametrize(
    ("bytes_sent", "code", "asked"),
    [
        (b"\x0b" + _message("BIG") + b"x" * 300_000, "mllp-too-large", "BIG"),
        (b"\x0b" + _message("ENDS") + b"\x1c\n", "mllp-bad-end", "ENDS"),
        (b"\x0b" + _message("MIX") + b"\x0b", "mllp-start-inside", "MIX"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 2_000, "mllp-junk", "UNKNOWN"),
    ],
)
async def test_ff11_a_broken_frame_gets_a_rejection_and_the_connection_ends(
    bytes_sent: bytes, code: str, asked: str
) -> None:
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=_SHORT) as server, _raw(server) as (reader, writer):
        writer.write(bytes_sent)
        await writer.drain()
        answer = await reader.read()
    assert _asked(answer[1:-2]) == ("AR", asked)
    assert f"|{code}|".encode() in answer


async def test_an_idle_connection_is_closed() -> None:
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=_SHORT) as server, _raw(server) as (reader, _):
        started = time.monotonic()
        assert await reader.read() == b""
        assert 0.2 < time.monotonic() - started < 2


async def test_t02_a_slow_sender_is_cut_at_the_deadline_of_the_whole_frame() -> None:
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=_SHORT) as server, _raw(server) as (reader, writer):
        ended = asyncio.ensure_future(reader.read())
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"\x0b" + b"M" * 200:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                if ended.done():
                    break
        assert time.monotonic() - started < 2
        with contextlib.suppress(ConnectionError):
            assert await ended == b""
        await _until(lambda: server.connections == 0)


async def test_t02_blanks_between_frames_do_not_keep_a_connection_alive() -> None:
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=_SHORT) as server, _raw(server) as (_, writer):
        await _until(lambda: server.connections == 1)
        started = time.monotonic()
        while server.connections:
            assert time.monotonic() - started < 2
            writer.write(b"\r")
            await asyncio.sleep(0.02)


async def test_t03_connections_are_capped_per_address() -> None:
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=_SHORT) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_raw(server)) for _ in range(3)]
        await _until(lambda: server.connections == 3)
        async with _raw(server) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        clients[0][1].write(frame(_message("1")))
        assert _asked((await clients[0][0].readuntil(b"\x1c\r"))[1:-2]) == ("AA", "1")
        clients[1][1].transport.abort()
        await _until(lambda: server.connections == 2)
        async with _raw(server) as (reader, writer):
            writer.write(frame(_message("2")))
            assert _asked((await reader.readuntil(b"\x1c\r"))[1:-2]) == ("AA", "2")


async def test_t03_connections_are_capped_in_total_and_a_freed_place_is_given_again() -> None:
    limits = MllpLimits(connections_max=1, connections_per_address_max=9)
    async with await serve_mllp("127.0.0.1", 0, _echo, limits=limits) as server:
        async with _raw(server):
            await _until(lambda: server.connections == 1)
            async with await MllpClient.connect("127.0.0.1", server.port) as refused:
                with pytest.raises(Unavailable):
                    await refused.send(_message("1"))
        await _until(lambda: server.connections == 0)
        async with await MllpClient.connect("127.0.0.1", server.port) as client:
            assert _asked(await client.send(_message("2"))) == ("AA", "2")


async def test_a_peer_that_does_not_read_its_answer_is_dropped() -> None:
    async def handle(_message: bytes, _peer: Peer) -> bytes:
        return b"x" * 50_000_000  # more than any socket buffer

    async with await serve_mllp("127.0.0.1", 0, handle, limits=_SHORT) as server, _raw(server) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's own transport
        writer.write(frame(_message("1")))
        await _until(lambda: server.connections == 1)
        await _until(lambda: server.connections == 0)


async def test_closing_lets_the_message_in_hand_be_answered() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def handle(message: bytes, peer: Peer) -> bytes:
        begun.set()
        await release.wait()
        return await _echo(message, peer)

    server = await serve_mllp("127.0.0.1", 0, handle)
    async with _raw(server) as (reader, writer), _raw(server) as (idle_reader, _):
        writer.write(frame(_message("LAST")))
        await begun.wait()
        closing = asyncio.ensure_future(server.close())
        with contextlib.suppress(ConnectionError):
            assert await idle_reader.read() == b""
        assert not closing.done()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", writer.get_extra_info("peername")[1])
        release.set()
        assert _asked((await reader.readuntil(b"\x1c\r"))[1:-2]) == ("AA", "LAST")
        await closing
        assert await reader.read() == b""
    assert server.connections == 0
    await server.close()


async def test_closing_does_not_wait_for_ever() -> None:
    async def handle(_message: bytes, _peer: Peer) -> bytes:
        await asyncio.Event().wait()
        return b""

    server = await serve_mllp("127.0.0.1", 0, handle, limits=MllpLimits(drain_s=0.2))
    async with _raw(server) as (reader, writer):
        writer.write(frame(_message("STUCK")))
        await _until(lambda: bool(server._busy))
        started = time.monotonic()
        await server.close()
        assert 0.1 < time.monotonic() - started < 2
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def test_small_answers_are_not_delayed() -> None:
    """TCP_NODELAY: fifty round trips take no delayed acknowledgement of 40 ms each."""
    async with (
        await serve_mllp("127.0.0.1", 0, _echo) as server,
        await MllpClient.connect("127.0.0.1", server.port) as client,
    ):
        started = time.monotonic()
        for n in range(50):
            await client.send(_message(str(n)))
        assert time.monotonic() - started < 1.5


async def test_a_client_says_that_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        await MllpClient.connect("127.0.0.1", port)
    assert caught.value.code == "mllp-unreachable"


async def test_a_client_gives_up_on_a_silent_listener_and_its_connection() -> None:
    async def handle(message: bytes, peer: Peer) -> bytes:
        await asyncio.sleep(0.3)  # within the second message's time
        return await _echo(message, peer)

    async with (
        await serve_mllp("127.0.0.1", 0, handle) as server,
        await MllpClient.connect("127.0.0.1", server.port, timeout_s=0.2) as client,
    ):
        for control_id in ("1", "2"):  # the late answer to 1 must not pass for the answer to 2
            with pytest.raises(Unavailable):
                await client.send(_message(control_id))


_LISTENER = """
import asyncio, sys
from gateway.hl7.mllp import serve_mllp

async def handle(message, peer):
    return b"MSH|^~\\\\&|A\\rMSA|AA|1\\r"

async def main():
    server = await serve_mllp("127.0.0.1", 0, handle)
    print(server.port, flush=True)
    await asyncio.sleep(20)

asyncio.run(main())
"""


@pytest.mark.parametrize(("point", "answered"), [("message-received", False), ("ack-written", True)])
def test_f01_the_points_of_a_power_cut_stand_before_the_work_and_after_the_answer(
    point: str, answered: bool, tmp_path: Path
) -> None:
    script = tmp_path / "listener.py"
    script.write_text(_LISTENER)
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"POTERNE_CRASH_AT": point, "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, socket.create_connection(("127.0.0.1", int(process.stdout.readline())), timeout=10) as peer:
        peer.sendall(frame(_message("1")))
        got = b""
        with contextlib.suppress(ConnectionError):
            while chunk := peer.recv(4_096):
                got += chunk
        assert process.wait(timeout=10) == -signal.SIGKILL
    assert (b"MSA|AA|1" in got) is answered
