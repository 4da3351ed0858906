"""The runner of every HTTP listener: an aiohttp application whose answers to what is no HTTP quote nothing of it.

Invariant: what a client sent stands in no answer that no handler of ours made; the library would repeat the line that
it could not read (T34). Routes, middlewares and TLS are the caller's.
"""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


class _Connection(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        said = None if message is None else f"{HTTPStatus(status).phrase}\n"
        return super().handle_error(request, status, exc, said)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """``web.AppRunner`` with connections of ours."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        made.__class__ = _Server  # it has no place for a class of ours; the class adds no state
        return made
