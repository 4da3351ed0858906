"""Pages about who may do what: accounts, what two persons agree on, emergencies.

Invariants:

* what changes something here needs a proof minutes old (the policy's step-up);
* no page shows a code, a password or a secret of an account; those are printed by ``poterne accounts``, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any, Final

from aiohttp import web

from gateway.i18n import N_
from gateway.web import vocabulary
from gateway.web.console import views
from gateway.web.console.entrance import Reception
from gateway.web.desk import Desk
from gateway.web.shell import ALLOWED, SESSION, Shell, see_other
from security.accounts.consents import NEEDING_TWO
from security.accounts.glass import Code
from security.clock import Clock
from security.errors import BadInput, Refused
from security.policy import Action, Role

_NAME = "{name:[a-z0-9][a-z0-9._-]*}"
_NUMBER = "{number:[1-9][0-9]{0,17}}"
_HOURS: Final = ("1", "2", "4")

DONE: Final[Mapping[str, str]] = {
    "locked": N_("Locked. Nobody signs in as this account, and its sessions are over."),
    "unlocked": N_("Unlocked. It may sign in again."),
    "asked": N_("Asked for. Another person must agree within the hour."),
    "given": N_("Agreed. It may be done once within the hour."),
}


class Agreements:
    """The handlers."""

    def __init__(self, *, shell: Shell, desk: Desk, reception: Reception, clock: Clock) -> None:
        self._shell = shell
        self._desk = desk
        self._reception = reception
        self._clock = clock

    def routes(self) -> list[tuple[str, str, Any, Action]]:
        """Method, path, handler and the action it is for the policy."""
        return [
            ("GET", "/accounts", self.accounts, Action.ACCOUNT_READ),
            ("POST", f"/accounts/{_NAME}/lock", self.lock, Action.ACCOUNT_CHANGE),
            ("POST", f"/accounts/{_NAME}/unlock", self.unlock, Action.ACCOUNT_CHANGE),
            ("GET", "/two-persons", self.consents, Action.CONSENT_READ),
            ("POST", "/two-persons", self.ask, Action.CONSENT_ASK),
            ("POST", f"/two-persons/{_NUMBER}", self.give, Action.CONSENT_GIVE),
            ("GET", "/emergency", self.emergency, Action.GLASS_BREAK),
            ("POST", "/emergency", self.break_glass, Action.GLASS_BREAK),
        ]

    # -- accounts ------------------------------------------------------------------------------------------

    async def accounts(self, request: web.Request) -> web.Response:
        """Every account."""
        return await self._accounts(request)

    async def _accounts(self, request: web.Request, *, refused: str = "") -> web.Response:
        return self._shell.page(
            request,
            "accounts.html",
            status=409 if refused else 200,
            at=f"{self._shell.prefix}/accounts",
            section="accounts",
            accounts=await self._reception.register.every(),
            roles=vocabulary.ROLES,
            states=vocabulary.ACCOUNT_STATES,
            order=list(Role),
            done=DONE.get(request.query.get("done", ""), ""),
            refused=refused,
        )

    async def lock(self, request: web.Request) -> web.Response:
        """Nobody signs in as this account."""
        try:
            await self._reception.register.lock(request.match_info["name"], actor=_actor(request))
        except Refused as fault:
            return await self._accounts(request, refused=self._said(request, fault))
        return see_other(f"{self._shell.prefix}/accounts", done="locked")

    async def unlock(self, request: web.Request) -> web.Response:
        """It may sign in again."""
        try:
            await self._reception.register.unlock(request.match_info["name"], actor=_actor(request))
        except Refused as fault:
            return await self._accounts(request, refused=self._said(request, fault))
        return see_other(f"{self._shell.prefix}/accounts", done="unlocked")

    # -- two persons ---------------------------------------------------------------------------------------

    async def consents(self, request: web.Request) -> web.Response:
        """What waits for a second person."""
        return await self._consents(request)

    async def _consents(
        self, request: web.Request, *, refused: str = "", errors: Mapping[str, str] | None = None, text: str = ""
    ) -> web.Response:
        said, now = self._shell.words(request), self._clock.now()
        session = request[SESSION]
        found = [
            (one, views.moment(one.expires_at, now, UTC, said))
            for one in await self._reception.consents.open()
            if one.tenant in {"", session.tenant} or not session.tenant
        ]
        return self._shell.page(
            request,
            "two-persons.html",
            status=409 if refused else 400 if errors else 200,
            at=f"{self._shell.prefix}/two-persons",
            section="two-persons",
            found=found,
            acts=[(action.value, vocabulary.ACTS[action.value]) for action in NEEDING_TWO],
            words=vocabulary.ACTS,
            tenants=views.of_session(await self._desk.tenants(), session.tenant),
            done=DONE.get(request.query.get("done", ""), ""),
            refused=refused,
            errors=errors or {},
            text=text,
        )

    async def ask(self, request: web.Request) -> web.Response:
        """Ask for something that takes two."""
        form = await request.post()
        text = " ".join(str(form.get("reason", "")).split())
        try:
            await self._reception.consents.ask(
                str(form.get("action", "")),
                tenant=str(form.get("tenant", "")),
                reason=text,
                account=request[SESSION].name,
            )
        except BadInput as fault:
            field = "action" if fault.code == "consent-action" else "reason"
            return await self._consents(request, errors={field: vocabulary.FAULTS[fault.code]}, text=text)
        except Refused as fault:
            return await self._consents(request, refused=self._said(request, fault))
        return see_other(f"{self._shell.prefix}/two-persons", done="asked")

    async def give(self, request: web.Request) -> web.Response:
        """Agree, as the second person."""
        try:
            await self._reception.consents.give(int(request.match_info["number"]), account=request[SESSION].name)
        except Refused as fault:
            return await self._consents(request, refused=self._said(request, fault))
        return see_other(f"{self._shell.prefix}/two-persons", done="given")

    # -- emergencies ---------------------------------------------------------------------------------------

    async def emergency(self, request: web.Request) -> web.Response:
        """What breaking the glass means, and the form."""
        return await self._emergency(request)

    async def _emergency(
        self, request: web.Request, *, errors: Mapping[str, str] | None = None, text: str = ""
    ) -> web.Response:
        return self._shell.page(
            request,
            "emergency.html",
            status=400 if errors else 200,
            at=f"{self._shell.prefix}/emergency",
            section="emergency",
            tenants=views.of_session(await self._desk.tenants(), request[SESSION].tenant),
            tenant=request.query.get("tenant", ""),
            codes=[(code.value, vocabulary.EMERGENCIES[code.value]) for code in Code],
            hours=_HOURS,
            errors=errors or {},
            text=text,
        )

    async def break_glass(self, request: web.Request) -> web.Response:
        """Open, for some hours, what the role does not."""
        form = await request.post()
        session = request[SESSION]
        tenant = str(form.get("tenant", ""))
        if tenant not in views.of_session(await self._desk.tenants(), session.tenant):
            raise web.HTTPNotFound
        text = " ".join(str(form.get("reason", "")).split())
        hours = str(form.get("hours", ""))
        try:
            await self._reception.glass.open(
                session.name,
                tenant=tenant,
                code=str(form.get("code", "")),
                reason=text,
                hours=float(hours) if hours in _HOURS else 0.0,
            )
        except BadInput as fault:
            field = {"glass-code": "code", "glass-hours": "hours"}.get(fault.code, "reason")
            return await self._emergency(request, errors={field: vocabulary.FAULTS[fault.code]}, text=text)
        return see_other(f"{self._shell.prefix}/held", done="glass-broken")

    def _said(self, request: web.Request, fault: Refused) -> str:
        return vocabulary.fault(fault, self._shell.words(request))


def _actor(request: web.Request) -> str:
    return f"{request[ALLOWED].role}:{request[SESSION].name}"
