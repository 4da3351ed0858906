"""The policy in front of HTTP: which action a route is, who asks, and no answer without an ``Allow``.

Each listener states its routes once, as (method, canonical path) → action; a route that is not stated is denied.

Invariants:

* the subject is what the connection itself shows: this machine's loopback, or a certificate that TLS has verified;
  no header is believed (T27);
* a request the router has refused by itself (404, 405) keeps that answer: it reaches no handler;
* a refusal says neither whether the thing exists nor who may have it.

A listener with sessions or tokens brings its own ``who``. What a mounted sub-application serves is its own matter:
it stands behind a gatekeeper of its own.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from security.policy import (
    NOBODY,
    Action,
    Allow,
    Purpose,
    Reason,
    Refusal,
    Resource,
    Role,
    Subject,
    Tell,
    Zone,
    decide,
    untold,
)

log = logging.getLogger(__name__)

Routes = Mapping[tuple[str, str], Action]
Who = Callable[[web.Request], Subject]
TENANT_IN_PATH: Final = "tenant"
HEALTH_ROUTES: Final[Routes] = {
    (method, path): Action.HEALTH_READ for path in ("/live", "/ready") for method in ("GET", "HEAD")
}
"""What every listener with probes says of them."""


def action_of(request: web.Request, routes: Routes) -> Action | None:
    """The action of a resolved request, None for a route nobody stated."""
    route = request.match_info.route
    if route.resource is None:
        return None
    return routes.get((route.method, route.resource.canonical))


def resource_of(request: web.Request) -> Resource:
    """What the address names."""
    return Resource(tenant=request.match_info.get(TENANT_IN_PATH, ""))


def is_from_this_machine(request: web.Request) -> bool:
    """Whether the connection comes over this machine's loopback."""
    peername: Any = request.transport.get_extra_info("peername") if request.transport else None
    try:
        return ipaddress.ip_address(str(peername[0]).partition("%")[0]).is_loopback
    except (ValueError, TypeError, IndexError):  # closed meanwhile, or no network address
        return False


def fingerprint_of(request: web.Request) -> str:
    """SHA-256 of the certificate that the peer showed and TLS verified, lower-case hexadecimal; "" without one."""
    secured = request.transport.get_extra_info("ssl_object") if request.transport else None
    shown = secured.getpeercert(binary_form=True) if secured is not None else None
    return hashlib.sha256(shown).hexdigest() if shown else ""


def peer(role: Role) -> Who:
    """The subject of a listener whose verified certificates are all of one ``role``."""

    def who(request: web.Request) -> Subject:
        shown = fingerprint_of(request)
        if not shown:
            return Subject(is_local=is_from_this_machine(request))
        return Subject(name=f"certificate {shown[:16]}", roles=frozenset({role}))

    return who


def policed(routes: Routes, *, zone: Zone, who: Who = lambda _request: NOBODY, tell: Tell = untold) -> Middleware:
    """The middleware that asks the policy before every handler of one application. ``tell``: of each refusal."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = request.match_info
        if found.http_exception is not None or len(found.apps) > 1:
            return await handler(request)
        action = action_of(request, routes)
        subject = who(request)
        judged = decide(subject, Purpose.OPERATION, action, resource_of(request), zone) if action else Reason.NO_RULE
        if isinstance(judged, Allow):
            return await handler(request)
        reason = judged if isinstance(judged, Reason) else judged.reason
        log.warning("request-denied", extra={"zone": zone, "action": action or "", "reason": reason})
        tell(Refusal(zone=zone, reason=reason, action=action or "", actor=subject.name, address=request.remote or ""))
        return denied()

    return middleware


def denied() -> web.Response:
    """403 as a problem document (RFC 9457)."""
    problem = {
        "type": "urn:poterne:problem:denied",
        "title": "Accès refusé / Access denied",
        "status": 403,
        "code": "denied",
        "next": "present the certificate or account that this address asks for",
        "instance": uuid.uuid4().urn,
    }
    return web.json_response(problem, status=403, content_type="application/problem+json")
