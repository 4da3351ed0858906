"""What an HTTP listener says to what is no HTTP."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from security.runner import Runner

MARK = b"FANTOME"


async def _there(_request: web.Request) -> web.Response:
    return web.Response(text="there")


async def _asked(request: bytes) -> bytes:
    app = web.Application()
    app.router.add_get("/", _there)
    runner = Runner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(request)
        async with asyncio.timeout(5):
            answer = await reader.read(65_536)
        writer.close()
        return answer
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "request_",
    [
        MARK + b" " + MARK + b"\r\n\r\n",
        b"GET /" + MARK + b" " + MARK + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + MARK + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + MARK + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + MARK + b": \x01" + MARK + b"\r\n\r\n",
        b"GET /" + MARK * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_t34_a_line_that_is_no_http_is_refused_and_not_quoted(request_: bytes) -> None:
    answer = await _asked(request_)
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert MARK not in answer


async def test_what_is_http_is_served() -> None:
    answer = await _asked(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"there")
