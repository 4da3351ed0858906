"""The body of a request to the index node: capped, in its plain form, in time, whichever door it came to."""

from __future__ import annotations

import asyncio

from aiohttp import web

BODY_BYTES_MAX = 32 * 1024 * 1024
BODY_TIMEOUT_S = 60.0


async def read_body(request: web.Request) -> bytes:
    """The whole body (aiohttp itself answers 413 above the application's cap); never decompressed (T24)."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise web.HTTPUnsupportedMediaType(text="Content-Encoding is not accepted here\n")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not arrive in time\n") from None
