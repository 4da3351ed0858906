"""Who may pass: every request to a zone's pages goes through here before its handler sees it.

Invariants (T32, T46):

* every request is an action of the policy (``security.policy``); a route that is none answers nobody;
* what the policy denies is neither shown nor done, and another legal entity's is answered as what does not exist;
* what changes something needs our origin and, inside a session, the session's token;
* a form is what our own pages send, UTF-8 and whole within seconds, or no handler sees it (T24, T25).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.i18n import N_
from gateway.web.session import Session, Sessions, carries, comes_from_us, cookie_of, names_our_host
from gateway.web.shell import ALLOWED, SESSION, Problem, Shell, see_other
from security.accounts.account import Account
from security.gatekeeper import Routes, action_of, resource_of
from security.policy import NOBODY, TABLE, Deny, Opens, Purpose, Reason, Refusal, Tell, Zone, decide, untold

_OVER = Problem(
    title=N_("Your session is over"),
    text=N_("Nobody clicked for a while, or the gateway was restarted. Nothing was done."),
    next_step=N_("Sign in again, open the exam, and do it once more."),
)
_PROVE_FIRST = Problem(
    title=N_("Prove first that it is you"),
    text=N_("This is sensitive, and your last proof is more than five minutes old. Nothing was done."),
    next_step=N_("Open the page again: it asks for the code of your authenticator; then do it once more."),
)
_OTHER_ROLE = Problem(
    title=N_("Your role does not allow this"),
    text=N_("The roles of your account do not include it. Nothing was shown and nothing done."),
    next_step=N_(
        "Ask a colleague who has the role. If care depends on it and nobody can be reached, an operator finds the"
        " page Emergency in the menu."
    ),
)
_READING = frozenset({"GET", "HEAD"})
_FORM = "application/x-www-form-urlencoded"
_FORM_S = 10.0


Standing = Callable[[str], Awaitable[Account | None]]
"""An account as it is now, None when it may have no session."""
Emergency = Callable[[str, str], Awaitable[object | None]]
"""The broken glass of an account at a legal entity, None when it is whole."""


def guard(
    shell: Shell,
    sessions: Sessions,
    *,
    hosts: Collection[str],
    routes: Routes,
    zone: Zone,
    standing: Standing,
    emergency: Emergency,
    tell: Tell = untold,
) -> Middleware:
    """The checks of one zone. ``hosts``: names it answers to; ``routes``: what each address is; ``tell``: of each
    refusal but the ways to the login and to a fresh proof."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = partial(_tell, tell, request, zone, routes)
        if not names_our_host(request, hosts):
            refused("other-host")
            return shell.problem(request, 421)
        session = await _session(request, sessions, standing)
        if session:
            request[SESSION] = session
        if request.match_info.http_exception is None:  # else the router has its own refusal
            refusal = await _refusal(shell, request, routes, zone, emergency, refused)
            if refusal:
                return refusal
        return await handler(request)

    return middleware


def _tell(tell: Tell, request: web.Request, zone: Zone, routes: Routes, reason: str) -> None:
    """Of a refusal, with the account behind the session."""
    session = request.get(SESSION)
    who = f"account:{session.name}" if session else ""
    action = action_of(request, routes) or ""
    tell(Refusal(zone=zone, reason=reason, action=action, actor=who, address=request.remote or ""))


async def _session(request: web.Request, sessions: Sessions, standing: Standing) -> Session | None:
    """The session of the request, unless its account was locked or changed since."""
    token = request.cookies.get(cookie_of(request), "")
    session = sessions.find(token, clicked="HX-Request" not in request.headers)
    if session is None:
        return None
    account = await standing(session.name)
    if account is None or account.version != session.version:
        sessions.close(token)
        return None
    return session


async def _refusal(  # noqa: PLR0917
    shell: Shell,
    request: web.Request,
    routes: Routes,
    zone: Zone,
    emergency: Emergency,
    refused: Callable[[str], None],
) -> web.Response | None:
    """Why the request may not pass; None when it may."""
    changes = request.method not in _READING
    action = action_of(request, routes)
    if _is_ahead_of_a_click(request):
        return shell.problem(request, 403)
    if action is None or (changes and not comes_from_us(request)):
        refused(Reason.NO_RULE if action is None else "other-origin")
        return shell.problem(request, 403)
    session = request.get(SESSION)
    subject = session.subject if session else NOBODY
    about = resource_of(request)
    judged = decide(subject, Purpose.OPERATION, action, about, zone)
    if isinstance(judged, Deny) and judged.reason is Reason.ROLE and await emergency(subject.name, about.tenant):
        judged = decide(subject, Purpose.BREAK_GLASS, action, about, zone)
    if isinstance(judged, Deny):
        if judged.reason is not Reason.STEP_UP and (changes or judged.reason is not Reason.NOT_SIGNED_IN):
            refused(judged.reason)
        return _denied(shell, request, judged.reason)
    request[ALLOWED] = judged
    if changes:
        await _read_form(request)
        is_open = TABLE[action].opens is Opens.EVERYBODY  # its form has a token of its own
        if session is not None and not is_open and not await _has_token(request, session):
            refused("form-token")
            return shell.problem(request, 403)
    return None


def _denied(shell: Shell, request: web.Request, reason: Reason) -> web.Response:
    if reason is Reason.NOT_SIGNED_IN:
        return _to_login(shell, request)
    if reason is Reason.STEP_UP:
        return _to_proof(shell, request)
    if reason is Reason.TENANT:
        return shell.problem(request, 404)
    return shell.problem(request, 403, problem=_OTHER_ROLE if reason is Reason.ROLE else None)


def _is_ahead_of_a_click(request: web.Request) -> bool:
    """Whether the browser asks by itself for what a person may open next: that is no look of theirs to record."""
    return "prefetch" in request.headers.get("Sec-Purpose", "")


async def _read_form(request: web.Request) -> None:
    """Read the form, for who asks for it later.

    Raises:
        HTTPException: 408, 413, 415, or 400 when its bytes are not UTF-8.
    """
    if (
        request.content_type != _FORM
        or (request.charset or "utf-8").lower() != "utf-8"
        or "Content-Encoding" in request.headers
    ):
        raise web.HTTPUnsupportedMediaType
    try:
        async with asyncio.timeout(_FORM_S):
            await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except ValueError:
        raise web.HTTPBadRequest from None


async def _has_token(request: web.Request, session: Session) -> bool:
    form = await request.post()
    return carries(session.csrf, str(form.get("csrf", "")))


def _to_proof(shell: Shell, request: web.Request) -> web.Response:
    """Ask for a proof first; a form that was sent is not sent again: the person does it once more."""
    if request.method in _READING:
        return see_other(f"{shell.prefix}/prove", back=str(request.rel_url))
    return shell.problem(request, 403, problem=_PROVE_FIRST)


def _to_login(shell: Shell, request: web.Request) -> web.Response:
    if request.method not in _READING:
        return shell.problem(request, 403, problem=_OVER)
    login = f"{shell.prefix}/login"
    was_open = {"over": "1"} if cookie_of(request) in request.cookies else {}
    if "HX-Request" in request.headers:
        return web.Response(status=403, headers={"HX-Redirect": f"{login}?over=1"})
    return see_other(login, back=str(request.rel_url.without_query_params("done")), **was_open)
