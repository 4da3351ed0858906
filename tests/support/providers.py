"""An identity provider on loopback, with a site that trusts it: real TLS on both sides, every switch at hand."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from aiohttp import web

from gateway.certificates.link import TrustedLink
from gateway.certificates.links import link_of
from gateway.lab.provider import LabClient, LabProvider
from gateway.providers.signin import RelyingParty
from gateway.providers.tokens import ResourceServer, TokenIssuer, token_issuer
from gateway.settings import IdentityProviderSettings, RevocationSettings
from security.clock import Clock, SystemClock
from security.keys.lab_pki import PemPair
from security.keys.tls import server_context
from security.tokens.bearer import thumbprint
from tests.support.pki import Pki, der

AUDIENCE = "https://poterne.example/images"
PERSON = "899700000001"
BACK = "https://poterne.example/console/login/psc/back"
SECRET = "a secret of the tests: %+&"
IUA = {
    "ihe_iua": {
        "subject_role": [{"system": "urn:roles", "code": "doctor"}],
        "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
    }
}


class Late:
    """The machine's clock, turned forward by hand."""

    def __init__(self) -> None:
        self.by = 0.0
        self._real = SystemClock()

    def now(self) -> datetime:
        return self._real.now() + timedelta(seconds=self.by)

    def monotonic(self) -> float:
        return self._real.monotonic() + self.by


@dataclass(kw_only=True)
class Stage:
    """``peer``, ``thief``: pairs of the two who call our images."""

    pki: Pki
    provider: LabProvider
    clock: Late
    own: PemPair
    peer: PemPair
    thief: PemPair
    folder: Path

    def settings(self, **changes: Any) -> IdentityProviderSettings:
        at = self.provider.issuer
        facts: dict[str, Any] = {
            "issuer": at,
            "jwks_url": f"{at}/jwks",
            "algorithms": ["ES256", "PS256"],
            "client_id": "poterne",
            "ca_file": self.pki.ca,
            "certificate_file": self.own.certificate,
            "key_file": self.own.key,
            "networks": ["127.0.0.0/8"],
            "revocation": RevocationSettings(crl_file=self.pki.crl),
            "audience": AUDIENCE,
            "roles": {"urn:roles|doctor": "radiologist"},
            "introspection_url": f"{at}/introspect",
            "authorization_url": f"{at}/authorize",
            "token_url": f"{at}/token",
            "userinfo_url": f"{at}/userinfo",
            "end_session_url": f"{at}/end_session",
            "redirect_uri": BACK,
            "login_level": "eidas1",
        }
        return IdentityProviderSettings(**facts | changes)

    def tls(self, settings: IdentityProviderSettings) -> ssl.SSLContext:
        (link,) = link_of("identity_providers.psc", settings)
        return TrustedLink(link, clock=SystemClock(), grace_s=0).context

    def issuer(self, **changes: Any) -> TokenIssuer:
        settings = self.settings(**changes)
        return token_issuer("psc", settings, self.tls(settings), self.clock)

    def server(self, **changes: Any) -> ResourceServer:
        return ResourceServer([self.issuer(**changes)], self.clock)

    def party(self, name: str = "psc", **changes: Any) -> RelyingParty:
        settings = self.settings(**changes)
        return RelyingParty(name, settings, self.tls(settings), self.clock)

    def at(self, console: str, clock: Clock | None = None, **changes: Any) -> RelyingParty:
        """Us at this provider, for a console at that address: it is registered there for the way back."""
        back = f"{console}/console/login/psc/back"
        held = self.provider.clients["poterne"]
        self.provider.register(replace(held, redirect_uri=back))
        settings = self.settings(redirect_uri=back, **changes)
        return RelyingParty("psc", settings, self.tls(settings), clock or self.clock)

    def token(self, **claims: Any) -> str:
        facts = {"cnf": {"x5t#S256": thumbprint(der(self.peer))}, "extensions": IUA} | claims
        return self.provider.access_token(subject=PERSON, client_id="peer", audience=AUDIENCE, **facts)

    @asynccontextmanager
    async def door(self, app: web.Application) -> AsyncIterator[str]:
        """The application behind mutual TLS; its address."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        own = self.pki.pair("door")
        try:
            await web.TCPSite(
                runner, "127.0.0.1", 0, ssl_context=server_context(own.certificate, own.key, self.pki.ca)
            ).start()
            yield f"https://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def get(
        self, url: str, token: str = "", *, who: PemPair | None = None, **headers: str
    ) -> tuple[int, Any, Any]:
        stated = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.pki.client(who or self.peer))) as session,
            session.get(url, headers={**stated, **headers}) as answer,
        ):
            said = await answer.json() if answer.content_type.endswith("json") else await answer.text()
            return answer.status, said, answer.headers

    async def browse(self, url: str) -> list[tuple[str, str]]:
        """What a browser that follows ``url`` to the provider brings back: the query of the redirect."""
        context = ssl.create_default_context(cafile=self.pki.ca)
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            assert answer.status == 302, await answer.text()
            place = answer.headers["Location"]
            assert place.startswith(BACK + "?")
            return parse_qsl(urlsplit(place).query, keep_blank_values=True)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    pki = Pki(folder / "pki")
    pki.revoke()
    own, peer, thief = pki.pair("poterne"), pki.pair("peer"), pki.pair("thief")

    def registered(name: str, pair: PemPair, **facts: str) -> LabClient:
        return LabClient(client_id=name, certificate=hashlib.sha256(der(pair)).hexdigest(), **facts)

    provider = LabProvider(pair=pki.pair("provider"), ca=pki.ca, at_the_browser=PERSON)
    provider.register(registered("poterne", own, redirect_uri=BACK))
    provider.register(registered("peer", peer))
    provider.people[PERSON] = {"SubjectRefPro": {"exercices": [{"activities": []}]}, "given_name": "Ada"}
    async with provider:
        yield Stage(pki=pki, provider=provider, clock=Late(), own=own, peer=peer, thief=thief, folder=folder)
    await asyncio.sleep(0.1)  # the last connections of TLS say goodbye
