"""The ``ops`` listener: is the process alive, may work be sent to it, what do its figures say.

Invariants:

* every answer carries the security headers, and none the name or version of a library; what is no HTTP is refused
  before it comes here, in the library's words;
* reasons and problems hold neither secret nor patient value: reasons are words of our own, a fault shows its
  code and hint, an unexpected error its correlation id, found again in the log (FF-48, T34);
* a question about health ends in bounded time, also when the store does not answer.

Who may ask what stands in the policy (``security.policy``); ``ROUTES`` says which action each address is. The
console, when it is mounted here, guards its own pages.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.telemetry import Metrics, Snapshot
from security.errors import Fault
from security.gatekeeper import HEALTH_ROUTES, Routes, Who, peer, policed
from security.policy import Action, Role, Tell, Zone, untold

Ready = Callable[[], Awaitable[Mapping[str, str]]]
TakeSnapshot = Callable[[], Awaitable[Snapshot]]

log = structlog.get_logger()

_ANSWER_S: Final = 5.0
_REQUEST_BYTES_MAX: Final = 16 * 1024  # a form of the console
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "poterne",
    "X-Content-Type-Options": "nosniff",
}
_PROBLEMS: Final = {
    404: ("Adresse inconnue / Unknown address", "not-found", "ask /live, /ready or /metrics"),
    405: ("Méthode refusée / Method not allowed", "method-not-allowed", "use GET"),
    500: ("Erreur interne / Internal error", "internal-fault", "look for the instance in the log and report it"),
}
ROUTES: Final[Routes] = {
    **HEALTH_ROUTES,
    ("GET", "/metrics"): Action.METRICS_READ,
    ("HEAD", "/metrics"): Action.METRICS_READ,
    ("POST", "/pacs/{tenant}/{pacs}/nudge"): Action.PACS_NUDGE,
    ("GET", "/"): Action.PAGE_OPEN,
    ("HEAD", "/"): Action.PAGE_OPEN,
    ("GET", "/console"): Action.PAGE_OPEN,
    ("HEAD", "/console"): Action.PAGE_OPEN,
}
"""What each address of the listener is, before the console's own."""
_SERVICES: Final = peer(Role.SERVICE)
_REFUSED: Final = ("Demande refusée / Request refused", "refused", "use GET without a body")


def build_ops_app(
    *,
    ready: Ready,
    metrics: Metrics,
    snapshot: TakeSnapshot,
    answer_s: float = _ANSWER_S,
    who: Who = _SERVICES,
    tell: Tell = untold,
) -> web.Application:
    """The application of the ``ops`` listener.

    Args:
        metrics: the process's counters, and the form of the page.
        ready: name of each dependency → "" when it is ready, else the reason why not.
        snapshot: the queue's figures, read from the database now (I18).
        who: whose request it is.
        tell: told of each refusal.
        answer_s: seconds either of them may take before the answer is "not ready" or "not readable".
    """

    async def live(_request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def is_ready(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(answer_s):
                states = await ready()
        except TimeoutError:
            states = {"self": f"no answer within {answer_s:g} s"}
        except Fault as fault:
            states = {"self": fault.code}
        missing = {name: reason for name, reason in states.items() if reason}
        return web.json_response({"ready": not missing, "reasons": missing}, status=503 if missing else 200)

    async def figures(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(answer_s):
                taken = await snapshot()
        except (TimeoutError, Fault) as error:
            log.warning("queue-unreadable", error=error)
            taken = None
        return web.Response(body=metrics.page(taken), headers={"Content-Type": METRICS_TYPE})

    gatekeeper = policed(ROUTES, zone=Zone.OPS, who=who, tell=tell)
    app = web.Application(middlewares=[_problems, gatekeeper], client_max_size=_REQUEST_BYTES_MAX)
    app.on_response_prepare.append(_add_headers)
    app.router.add_get("/live", live)
    app.router.add_get("/ready", is_ready)
    app.router.add_get("/metrics", figures)
    return app


METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    stated = response.headers.get("Cache-Control", _HEADERS["Cache-Control"])  # a static file of the console
    response.headers.update({**_HEADERS, "Cache-Control": stated})


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as a problem document (RFC 9457)."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        response = _problem(refusal.status, instance=uuid.uuid4())
        if "Allow" in refusal.headers:
            response.headers["Allow"] = refusal.headers["Allow"]
        return response
    except Exception:  # supervision edge: logged under the instance, answered without detail
        instance = uuid.uuid4()
        log.exception("ops-request-failed", instance=instance.urn)
        return _problem(500, instance=instance)


def _problem(status: int, *, instance: uuid.UUID) -> web.Response:
    title, code, next_step = _PROBLEMS.get(status, _REFUSED)
    problem = {
        "type": f"urn:poterne:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "next": next_step,
        "instance": instance.urn,
    }
    return web.json_response(problem, status=status, content_type="application/problem+json")
