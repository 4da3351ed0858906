"""Tokens in front of HTTP: ``tokened`` asks for one before every handler of an application, then the one policy.

Invariants:

* exactly one ``Authorization`` header counts, of scheme Bearer (RFC 6750 §2.1); a token in an address or a form is
  never looked at;
* any failure of the token is 401 with its code (IUA ITI-72), so that ``token-expired`` can be renewed; an issuer that
  cannot be asked is 503: never a yes;
* a log line has the code and the mark of a token, never the token.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.certificates.http import peer_certificate
from gateway.providers.tokens import ResourceServer, mark
from security.errors import Fault, Refused, Unavailable
from security.gatekeeper import Routes, action_of, denied, fingerprint_of, resource_of
from security.policy import Allow, Deny, Reason, Refusal, Tell, Zone, decide, untold
from security.tokens.bearer import Bearer
from security.tokens.issuer import refused

log = structlog.get_logger()

BEARER: Final = web.RequestKey("bearer", Bearer)
"""Where a handler finds what the token says, to hold its patient and document against what it serves."""


def tokened(routes: Routes, *, zone: Zone, server: ResourceServer, tell: Tell = untold) -> Middleware:
    """The middleware that asks for a token, then the policy, before every handler of one application. ``tell``: of
    each refusal, an issuer's (introspection) and the policy's too."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            return await handler(request)
        token = ""
        try:
            token = _token(request)
            bearer = await server.judge(token, peer_certificate(request))
        except (Refused, Unavailable) as fault:
            log.warning("token-refused", zone=zone, code=fault.code, token=mark(token) if token else "")
            tell(
                Refusal(
                    zone=zone,
                    reason=fault.code,
                    action=action_of(request, routes) or "",
                    actor=_shown(request),
                    address=request.remote or "",
                    event="token.refused",
                )
            )
            return _unauthorised(fault) if isinstance(fault, Refused) else _unavailable(fault)
        action = action_of(request, routes)
        judged = (
            decide(bearer.subject, bearer.purpose, action, resource_of(request), zone)
            if action
            else Deny(reason=Reason.NO_RULE)
        )
        if isinstance(judged, Allow):
            request[BEARER] = bearer
            return await handler(request)
        log.warning("request-denied", zone=zone, action=action or "", reason=judged.reason, token=mark(token))
        tell(
            Refusal(
                zone=zone,
                reason=judged.reason,
                action=action or "",
                actor=bearer.subject.name,
                address=request.remote or "",
            )
        )
        return denied()

    return middleware


def _shown(request: web.Request) -> str:
    """The certificate behind a token that was refused: what the token says of anybody counts for nothing."""
    shown = fingerprint_of(request)
    return f"certificate {shown[:16]}" if shown else ""


def _token(request: web.Request) -> str:
    stated = request.headers.getall("Authorization", [])
    if not stated:
        raise refused("no token is shown", code="token-absent", hint="send it as Authorization: Bearer …")
    scheme, _, token = stated[0].partition(" ")
    if len(stated) != 1 or scheme.lower() != "bearer" or not token:
        raise refused("not one bearer token is shown", code="token-form")
    return token


def _unauthorised(fault: Refused) -> web.Response:
    error = "insufficient_scope" if fault.code == "token-scope" else "invalid_token"
    challenge = "Bearer" if fault.code == "token-absent" else f'Bearer error="{error}"'
    return _problem(fault, 401, "Jeton refusé / Token refused", {"WWW-Authenticate": challenge})


def _unavailable(fault: Unavailable) -> web.Response:
    return _problem(
        fault, 503, "Fournisseur d'identité injoignable / Identity provider unavailable", {"Retry-After": "5"}
    )


def _problem(fault: Fault, status: int, title: str, headers: Mapping[str, str]) -> web.Response:
    """A problem document (RFC 9457) of a code and what to do, nothing else."""
    problem = {
        "type": f"urn:poterne:problem:{fault.code}",
        "title": title,
        "status": status,
        "code": fault.code,
        "next": fault.hint,
        "instance": uuid.uuid4().urn,
    }
    return web.json_response(
        problem,
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **headers},
    )
