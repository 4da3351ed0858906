"""Signing in at an identity provider: a browser leaves for it, comes back, and is let in as an account or told why.

Invariants (T32, T43):

* who comes back is let in as the one account that was linked to them beforehand, with the roles of that account: what
  a provider claims beside the identity gives nothing;
* what comes back from another site is only asked again, by a page of ours: cookies that never leave our site are
  there then, so that the session before ends and a proof finds its session;
* the cookie by which the browser is known again is sent to this host alone, from pages of ours alone;
* every refusal is told to the audit trail; its page says what to do and its code, and an outage lets nobody in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from aiohttp import web

from gateway.i18n import N_
from gateway.providers.signin import Arrival, RelyingParty
from gateway.web.console.entrance import Entrance
from gateway.web.session import cookie_of, cookie_path
from gateway.web.shell import SESSION, Problem, Shell, see_other
from security.accounts.entry import Entry, TooManyTries
from security.errors import Fault, Refused
from security.policy import Action, Refusal, Tell, Zone
from security.tokens.signin import ANSWER, PENDING_S

log = structlog.get_logger()

AWAY_COOKIE: Final = "poterne-away"
_PROVIDER = "{provider:[a-z][a-z0-9_-]*}"
_AWAY = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)

_OVER = Problem(
    title=N_("This sign-in is over"),
    text=N_(
        "It was begun in another browser, more than five minutes ago, or it was used already. Nobody was signed in."
    ),
    next_step=N_("Begin again from the sign-in page, and stay in this window until you are back."),
)
_DECLINED = Problem(
    title=N_("The identity provider did not sign you in"),
    text=N_("You gave up there, or it refuses this service to you. Nobody was signed in."),
    next_step=N_("Begin again. If it refuses again, ask who runs the identity provider, or use password and code."),
)
_LEVEL = Problem(
    title=N_("You proved less than is asked here"),
    text=N_("The identity provider knows you, but not by the means that this site demands, or not as of now."),
    next_step=N_("Begin again and sign in there with your card or its application, also if it still knows you."),
)
_CLOCKS = Problem(
    title=N_("The clocks do not agree"),
    text=N_("What the identity provider said of you is out of date, or of the future. Nobody was signed in."),
    next_step=N_("Begin again. If it stays so, tell who runs the gateway: poterne doctor compares the clocks."),
)
_UNLINKED = Problem(
    title=N_("No account is linked to you"),
    text=N_(
        "The identity provider knows you, but no account that may sign in here is linked to this identity. Roles come"
        " from the account alone."
    ),
    next_step=N_(
        "Give the identifier above to the security officer, who links it on the server: poterne accounts link."
    ),
)
_OTHER_PERSON = Problem(
    title=N_("This is not the person of this session"),
    text=N_("Somebody else proved to be there at the identity provider. Nothing was done."),
    next_step=N_("Sign out there, then prove again as yourself; or sign out here."),
)
_MISMATCH = Problem(
    title=N_("The identity provider's answer does not fit this sign-in"),
    text=N_("It is for somebody else, from somebody else, or was changed on its way. Nobody was signed in."),
    next_step=N_(
        "Begin again once, from the sign-in page. If it happens again, do not go on: give the code above and the"
        " reference below to who runs the gateway, and use password and code meanwhile."
    ),
)
_SILENT = Problem(
    title=N_("The identity provider does not answer"),
    text=N_("It is silent, or what it says cannot be used. Until it answers, nobody is let in through it."),
    next_step=N_(
        "Wait a minute and begin again, or use password and code. If it lasts, run poterne doctor on the server."
    ),
)
_TOO_MANY = Problem(
    title=N_("Too many tries"),
    text=N_("Too many people without an account came from this address. This one was not looked at."),
    next_step=N_("Wait as long as said above, or use password and code now."),
)
_TOLD: Final[Mapping[str, Problem]] = {
    **dict.fromkeys(("signin-state", "signin-parameters", "signin-browser", "signin-code"), _OVER),
    **dict.fromkeys(("token-expired", "token-not-yet", "token-from-the-future"), _CLOCKS),
    **dict.fromkeys(("signin-level", "signin-old-proof"), _LEVEL),
    "signin-declined": _DECLINED,
}
"""By code; every other refusal is an answer that does not fit."""


class Federation:
    """The handlers of one zone's sign-in at identity providers. ``parties``: us at each of them, by name; ``tell``:
    of each refusal."""

    def __init__(
        self,
        *,
        shell: Shell,
        entrance: Entrance,
        entry: Entry,
        parties: Mapping[str, RelyingParty],
        tell: Tell,
    ) -> None:
        self._shell = shell
        self._entrance = entrance
        self._entry = entry
        self._parties = parties
        self._tell = tell

    def routes(self) -> list[tuple[str, str, Any, Action]]:
        """Method, path, handler and the action it is for the policy."""
        return [
            ("GET", f"/login/{_PROVIDER}", self.leave, Action.PAGE_OPEN),
            ("GET", f"/login/{_PROVIDER}/back", self.come_back, Action.PAGE_OPEN),
            ("GET", f"/login/{_PROVIDER}/enter", self.enter, Action.PAGE_OPEN),
            ("GET", f"/login/{_PROVIDER}/out", self.leave_for_good, Action.PAGE_OPEN),
            ("GET", f"/prove/{_PROVIDER}", self.leave_to_prove, Action.SESSION_PROVE),
        ]

    async def leave(self, request: web.Request) -> web.Response:
        """To the provider, to sign in."""
        return self._depart(request, anew=False)

    async def leave_to_prove(self, request: web.Request) -> web.Response:
        """To the provider, to be asked once more."""
        return self._depart(request, anew=True)

    def _depart(self, request: web.Request, *, anew: bool) -> web.Response:
        held = request.cookies.get(cookie_of(request, AWAY_COOKIE), "")  # of another tab: its login stays good
        departure = self._party(request).begin(
            request.query.get("back", ""), browser=held if _AWAY.fullmatch(held) else "", anew=anew
        )
        response = see_other(departure.url)
        response.set_cookie(
            cookie_of(request, AWAY_COOKIE),
            departure.browser,
            path=cookie_path(request, self._shell.prefix),
            max_age=int(PENDING_S),
            httponly=True,
            secure=request.secure,
            samesite="Strict",
        )
        return response

    async def come_back(self, request: web.Request) -> web.Response:
        """The redirect address. The browser comes from another site and brings no cookie that is ours alone: a page
        of ours asks once more."""
        party = self._party(request)
        told = [(name, value) for name, value in request.query.items() if name in ANSWER]
        return self._shell.page(
            request,
            "arrival.html",
            section="",
            onward=f"{self._shell.prefix}/login/{party.client.name}/enter?{urlencode(told)}",
            title=party.title,
        )

    async def enter(self, request: web.Request) -> web.Response:
        """Judge what came back: a session, a proof, or a refusal."""
        party = self._party(request)
        browser = request.cookies.get(cookie_of(request, AWAY_COOKIE), "")
        try:
            arrival = await party.finish(list(request.query.items()), browser)
        except Fault as fault:  # also a secret of ours that cannot be read: nobody is told where it lies
            return self._refused(request, party, fault)
        if arrival.is_proof and SESSION in request:
            return await self._prove(request, arrival)
        who = arrival.who
        try:
            account = await self._entry.by_provider(who.issuer, who.subject, self._entrance.place(request))
        except TooManyTries as wait:
            return self._too_many(request, wait)
        except Refused:
            said = self._shell.words(request)
            told = said("Your identifier at {provider}: {subject}", provider=party.title, subject=who.subject)
            return self._problem(request, 403, _UNLINKED, told)
        return self._entrance.let_in(request, account, arrival.back, provider=party.client.name)

    async def _prove(self, request: web.Request, arrival: Arrival) -> web.Response:
        name, who = request[SESSION].name, arrival.who
        try:
            await self._entry.prove_by_provider(name, who.issuer, who.subject, self._entrance.place(request))
        except Refused:
            return self._problem(request, 403, _OTHER_PERSON)
        return self._entrance.let_on(request, arrival.back)

    def _refused(self, request: web.Request, party: RelyingParty, fault: Fault) -> web.Response:
        name, address = party.client.name, request.remote or ""
        log.warning("signin-refused", provider=name, code=fault.code, address=address, error=fault)
        self._tell(
            Refusal(
                zone=Zone.OPS, reason=fault.code, actor=f"provider {name}", address=address, event="signin.refused"
            )
        )
        told = self._shell.words(request)("Code: {code}", code=fault.code)
        if not isinstance(fault, Refused):
            response = self._problem(request, 503, _SILENT, told)
            response.headers["Retry-After"] = "60"
            return response
        return self._problem(request, 403, _TOLD.get(fault.code, _MISMATCH), told)

    def _problem(self, request: web.Request, status: int, problem: Problem, detail: str = "") -> web.Response:
        """A page whose request is good once: another language is asked for at the sign-in page."""
        at = f"{self._shell.prefix}/login"
        return self._shell.problem(request, status, problem=problem, detail=detail, at=at)

    def _too_many(self, request: web.Request, wait: TooManyTries) -> web.Response:
        said = self._shell.words(request)
        told = said("Wait {span}, then try again.", span=said.span(wait.wait_s))
        response = self._problem(request, 429, _TOO_MANY, told)
        response.headers["Retry-After"] = str(int(wait.wait_s) + 1)
        return response

    async def leave_for_good(self, request: web.Request) -> web.Response:
        """To the provider's page for signing out, after ours."""
        where = self._party(request).departure_for_good
        if not where:
            raise web.HTTPNotFound
        return see_other(where)

    def _party(self, request: web.Request) -> RelyingParty:
        party = self._parties.get(request.match_info["provider"])
        if party is None:
            raise web.HTTPNotFound
        return party
