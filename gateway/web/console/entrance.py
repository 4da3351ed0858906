"""The ways into the console and out of it: sign in, enrol with a one-time code, prove to be there, another password.

Invariants:

* a sign-in gives a new session and ends the one before it; a proof gives the session a new id (T32);
* every wrong sign-in is answered alike, whatever was wrong (T33);
* a code, a password or a secret is never shown again and stands in no address.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, Protocol

import structlog
from aiohttp import web

from gateway.i18n import N_
from gateway.providers.signin import RelyingParty
from gateway.web import vocabulary
from gateway.web.desk import Desk
from gateway.web.session import Sessions, carries, cookie_of, cookie_path, neighbourhood, way_back
from gateway.web.shell import SESSION, Shell, see_other
from security.accounts import totp
from security.accounts.account import Account
from security.accounts.consents import Consents
from security.accounts.entry import Entry, Place, TooManyTries
from security.accounts.glass import BrokenGlass
from security.accounts.register import Register
from security.errors import BadInput, Refused
from security.gatekeeper import fingerprint_of
from security.policy import Action

log = structlog.get_logger()

_LOGIN_COOKIE: Final = "poterne-login"
_KNOWN_COOKIE: Final = "poterne-known"
_KNOWN_S = 30 * 24 * 3600
_FORM_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_FIELD_OF = {
    "account-name": "name",
    "account-exists": "name",
    "account-person": "person",
    "password-short": "password",
    "password-long": "password",
    "password-obvious": "password",
    "totp-wrong": "totp",
}


class Reception(Protocol):
    """The accounts behind the pages."""

    @property
    def entry(self) -> Entry: ...

    @property
    def register(self) -> Register: ...

    @property
    def consents(self) -> Consents: ...

    @property
    def glass(self) -> BrokenGlass: ...


class Entrance:
    """The handlers of one zone's entrance."""

    def __init__(
        self,
        *,
        shell: Shell,
        desk: Desk,
        sessions: Sessions,
        reception: Reception,
        parties: Mapping[str, RelyingParty],
    ) -> None:
        self._parties = parties
        self._shell = shell
        self._desk = desk
        self._sessions = sessions
        self._reception = reception

    def routes(self) -> list[tuple[str, str, Any, Action]]:
        """Method, path, handler and the action it is for the policy."""
        return [
            ("GET", "/login", self.login, Action.PAGE_OPEN),
            ("POST", "/login", self.enter, Action.PAGE_OPEN),
            ("POST", "/login/certificate", self.enter_by_certificate, Action.PAGE_OPEN),
            ("GET", "/enrol", self.enrol, Action.PAGE_OPEN),
            ("POST", "/enrol", self.begin, Action.PAGE_OPEN),
            ("POST", "/enrol/finish", self.finish, Action.PAGE_OPEN),
            ("POST", "/logout", self.leave, Action.SESSION_KEEP),
            ("POST", "/stay", self.stay, Action.SESSION_KEEP),
            ("GET", "/prove", self.proof, Action.SESSION_PROVE),
            ("POST", "/prove", self.prove, Action.SESSION_PROVE),
            ("GET", "/password", self.password, Action.PASSWORD_CHANGE),
            ("POST", "/password", self.change, Action.PASSWORD_CHANGE),
        ]

    # -- signing in ----------------------------------------------------------------------------------------

    async def login(self, request: web.Request) -> web.Response:
        """The form."""
        if SESSION in request:
            return see_other(f"{self._shell.prefix}/")
        return await self._login_form(request, back=request.query.get("back", ""), over="over" in request.query)

    async def _login_form(
        self,
        request: web.Request,
        *,
        back: str,
        name: str = "",
        over: bool = False,
        errors: Mapping[str, str] | None = None,
        wait: str = "",
        status: int = 200,
    ) -> web.Response:
        prefix = self._shell.prefix
        return self._open_form(
            request,
            "login.html",
            status=status,
            at=f"{prefix}/login",
            back=way_back(back, prefix),
            stated=name,
            over=over,
            left="out" in request.query,
            errors=errors or {},
            wait=wait,
            is_empty=await self._reception.entry.is_empty(),
            has_certificate=bool(fingerprint_of(request)),
            parties=self._parties,
            still_in=self._still_in(request),
        )

    def _still_in(self, request: web.Request) -> str:
        """The provider at which who just signed out here is still signed in, as far as we can tell."""
        party = self._parties.get(request.query.get("out", ""))
        return party.client.name if party and party.departure_for_good else ""

    async def enter(self, request: web.Request) -> web.Response:
        """Open a session for who has the password and the code of an account."""
        form = await request.post()
        if not self._is_our_form(request, form):
            return self._shell.problem(request, 403)
        back, name = str(form.get("back", "")), str(form.get("name", ""))
        password, code = str(form.get("password", "")), str(form.get("code", ""))
        try:
            account = await self._reception.entry.by_password(name, password, code, self.place(request))
        except TooManyTries as wait:
            return await self._too_many(request, wait, back=back, name=name)
        except Refused:
            wrong = {"name": N_("Name, password and code do not fit together, or this account may not sign in.")}
            return await self._login_form(request, back=back, name=name, errors=wrong, status=403)
        return self.let_in(request, account, back)

    async def enter_by_certificate(self, request: web.Request) -> web.Response:
        """Open a session for the account that the connection's certificate stands for."""
        form = await request.post()
        shown = fingerprint_of(request)
        if not shown or not self._is_our_form(request, form):
            return self._shell.problem(request, 403)
        back = str(form.get("back", ""))
        try:
            account = await self._reception.entry.by_certificate(shown, self.place(request))
        except Refused:
            wrong = {"name": N_("The certificate of your browser stands for no account that may sign in.")}
            return await self._login_form(request, back=back, errors=wrong, status=403)
        return self.let_in(request, account, back)

    async def _too_many(self, request: web.Request, wait: TooManyTries, *, back: str, name: str) -> web.Response:
        log.warning("console-login-throttled", address=request.remote or "")
        span = self._shell.words(request).span(wait.wait_s)
        response = await self._login_form(request, back=back, name=name, wait=span, status=429)
        response.headers["Retry-After"] = str(int(wait.wait_s) + 1)
        return response

    def let_in(self, request: web.Request, account: Account, back: str, *, provider: str = "") -> web.Response:
        """A new session; the one this browser had is over. ``provider``: who vouched for the person."""
        prefix = self._shell.prefix
        self._sessions.close(request.cookies.get(cookie_of(request), ""))
        token = self._sessions.open(account, provider=provider)
        session = self._sessions.find(token, clicked=True)
        where = way_back(back, prefix)
        response = see_other(f"{prefix}/{session.home}" if session and where == f"{prefix}/" else where)
        self._give(request, response, token)
        response.set_cookie(
            _KNOWN_COOKIE,
            self._reception.entry.browser_cookie(account.name),
            max_age=_KNOWN_S,
            path=f"{prefix}/login",
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        response.del_cookie(_LOGIN_COOKIE, path=prefix)
        return response

    def _give(self, request: web.Request, response: web.Response, token: str) -> None:
        response.set_cookie(
            cookie_of(request),
            token,
            path=cookie_path(request, self._shell.prefix),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )

    async def leave(self, request: web.Request) -> web.Response:
        """Sign out."""
        self._sessions.close(request.cookies.get(cookie_of(request), ""))
        session = request[SESSION]
        await self._reception.entry.left(session.name, self.place(request))
        response = see_other(f"{self._shell.prefix}/login", out=session.provider or "1")
        response.del_cookie(cookie_of(request), path=cookie_path(request, self._shell.prefix))
        return response

    async def stay(self, request: web.Request) -> web.Response:
        """A person says that they are still there."""
        self._sessions.find(request.cookies.get(cookie_of(request), ""), clicked=True)
        return web.Response(status=204)

    # -- enrolling -----------------------------------------------------------------------------------------

    async def enrol(self, request: web.Request) -> web.Response:
        """Ask for the one-time code."""
        return self._open_form(request, "enrol.html", at=f"{self._shell.prefix}/enrol", errors={}, wait="")

    async def begin(self, request: web.Request) -> web.Response:
        """A good code opens the form of the account."""
        form = await request.post()
        if not self._is_our_form(request, form):
            return self._shell.problem(request, 403)
        code = str(form.get("code", ""))
        try:
            await self._reception.entry.try_code(self.place(request))
            return await self._enrolment(request, code)
        except TooManyTries as wait:
            span = self._shell.words(request).span(wait.wait_s)
            at = f"{self._shell.prefix}/enrol"
            return self._open_form(request, "enrol.html", status=429, at=at, errors={}, wait=span)
        except Refused:
            return self._bad_code(request)

    async def finish(self, request: web.Request) -> web.Response:
        """Set the proofs of the account, and come in."""
        form = await request.post()
        if not self._is_our_form(request, form):
            return self._shell.problem(request, 403)
        code, name, person = (str(form.get(key, "")) for key in ("code", "name", "person"))
        try:
            account = await self._reception.register.enrol(
                code,
                name=name,
                person=person,
                new_password=str(form.get("password", "")),
                totp_code=str(form.get("totp", "")),
            )
        except (BadInput, Refused) as fault:
            if fault.code == "code-not-good":
                return self._bad_code(request)
            wrong = {_FIELD_OF.get(fault.code, "password"): vocabulary.FAULTS[fault.code]}
            return await self._enrolment(request, code, name=name, person=person, errors=wrong, status=400)
        return self.let_in(request, account, "")

    def _bad_code(self, request: web.Request) -> web.Response:
        wrong = {"code": N_("This code is not good, or not any more: ask for a new one.")}
        return self._open_form(
            request, "enrol.html", status=403, at=f"{self._shell.prefix}/enrol", errors=wrong, wait=""
        )

    async def _enrolment(
        self,
        request: web.Request,
        code: str,
        *,
        name: str = "",
        person: str = "",
        errors: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> web.Response:
        offer = await self._reception.register.offer(code)
        shown = offer.account.name if offer.account else name
        return self._open_form(
            request,
            "enrolment.html",
            status=status,
            at=f"{self._shell.prefix}/enrol",
            code=code,
            account=offer.account,
            name=shown,
            person=person,
            secret=totp.spelt(offer.secret),
            link=totp.link(offer.secret, shown or "poterne"),
            errors=errors or {},
        )

    # -- proving -------------------------------------------------------------------------------------------

    async def proof(self, request: web.Request) -> web.Response:
        """Ask for a code of now."""
        return self._proof(request, back=request.query.get("back", ""))

    def _proof(
        self,
        request: web.Request,
        *,
        back: str,
        errors: Mapping[str, str] | None = None,
        wait: str = "",
        status: int = 200,
    ) -> web.Response:
        prefix = self._shell.prefix
        return self._shell.page(
            request,
            "prove.html",
            status=status,
            at=f"{prefix}/prove",
            section="",
            back=way_back(back, prefix),
            party=self._parties.get(request[SESSION].provider),
            errors=errors or {},
            wait=wait,
        )

    async def prove(self, request: web.Request) -> web.Response:
        """The code of now: what is sensitive may be done for some minutes; the session gets a new id."""
        form = await request.post()
        back = str(form.get("back", ""))
        session = request[SESSION]
        try:
            await self._reception.entry.prove(session.name, str(form.get("code", "")), self.place(request))
        except TooManyTries as wait:
            span = self._shell.words(request).span(wait.wait_s)
            return self._proof(request, back=back, wait=span, status=429)
        except Refused:
            wrong = {"code": N_("This is not the code of now, or it was used already: wait for the next one.")}
            return self._proof(request, back=back, errors=wrong, status=403)
        return self.let_on(request, back)

    def let_on(self, request: web.Request, back: str) -> web.Response:
        """The person has just proved to be there: their session goes on under a new id."""
        response = see_other(way_back(back, self._shell.prefix))
        self._give(request, response, self._sessions.prove(request.cookies.get(cookie_of(request), "")))
        return response

    async def password(self, request: web.Request) -> web.Response:
        """The form of another password."""
        return self._shell.page(request, "password.html", section="", errors={})

    async def change(self, request: web.Request) -> web.Response:
        """Another password; every session of the account is over, also this one."""
        form = await request.post()
        session = request[SESSION]
        try:
            await self._reception.register.change_password(session.name, str(form.get("password", "")))
        except BadInput as fault:
            wrong = {"password": vocabulary.FAULTS[fault.code]}
            at = f"{self._shell.prefix}/password"
            return self._shell.page(request, "password.html", status=400, at=at, section="", errors=wrong)
        self._sessions.close(request.cookies.get(cookie_of(request), ""))
        return see_other(f"{self._shell.prefix}/login", changed="1")

    # -- parts ---------------------------------------------------------------------------------------------

    def _open_form(
        self, request: web.Request, template: str, *, at: str, status: int = 200, **context: Any
    ) -> web.Response:
        """A form before any session, with a token in a cookie of its own."""
        kept = request.cookies.get(_LOGIN_COOKIE, "")  # of another tab: its form stays good
        token = kept if _FORM_TOKEN.fullmatch(kept) else secrets.token_urlsafe(32)
        shown = at if request.method == "POST" else ""
        response = self._shell.page(request, template, status=status, at=shown, section="", csrf=token, **context)
        response.set_cookie(
            _LOGIN_COOKIE,
            token,
            path=self._shell.prefix,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    @staticmethod
    def _is_our_form(request: web.Request, form: Mapping[str, Any]) -> bool:
        return carries(request.cookies.get(_LOGIN_COOKIE, ""), str(form.get("csrf", "")))

    @staticmethod
    def place(request: web.Request) -> Place:
        """Where a try comes from."""
        address = request.remote or ""
        browser = request.cookies.get(_KNOWN_COOKIE, "")
        return Place(address=address, counted_as=neighbourhood(address), browser=browser)
