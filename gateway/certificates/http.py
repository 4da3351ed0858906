"""The certificate of an HTTP peer, judged again at every request: a connection that is kept alive was judged when
it began (security §2). Headers that speak of certificates say nothing here (T27)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from security.keys.tls import Judge
from security.policy import Refusal, Tell, Zone, untold

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def still_believed(judge: Judge, *, zone: Zone = Zone.PEERS, tell: Tell = untold) -> Middleware:
    """Refuses (403, and the connection ends) a request whose TLS peer is no longer believed. ``tell``: of it."""

    @web.middleware
    async def judged(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = judge.refuses(peer_certificate(request))
        if not why:
            return await handler(request)
        log.warning("peer-no-longer-believed", address=request.remote, why=why)
        tell(Refusal(zone=zone, reason=f"certificate-{why}", address=request.remote or ""))
        refused = web.Response(status=403, text=f"the certificate of this connection is refused: {why}\n")
        refused.force_close()
        return refused

    return judged


def peer_certificate(request: web.Request) -> bytes:
    """The certificate (DER) that the TCP peer itself proved to have, b"" without one."""
    secured = request.transport.get_extra_info("ssl_object") if request.transport else None
    shown = secured.getpeercert(binary_form=True) if secured is not None else None
    return shown or b""
