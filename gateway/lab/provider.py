"""The identity provider in the laboratory: OpenID Connect and OAuth over HTTPS, behind switches that make it lie.

It holds state and keeps the rules: registered clients with one exact redirect address, PKCE S256, codes that are good
once and for a minute, back-channel clients known by the certificate TLS verified (RFC 8705 §2) and by their secret
when they have one, introspection (RFC 7662) for such clients alone, access tokens bound to the client's certificate.
A switch that is off is not in the way. Nobody types a password: ``at_the_browser`` is who would.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlencode

from aiohttp import web

from gateway.lab.jws import LabKey, encoded
from security.clock import Clock, SystemClock
from security.keys.authority import PemPair

CODE_S: Final = 60
TOKEN_S: Final = 300
ELSEWHERE: Final = "https://another-provider.example"
_ISS_SUPPORTED: Final = "authorization_response_iss_parameter_supported"
_HUGE: Final = 4 * 1024 * 1024


class Switch(StrEnum):
    """How the provider misbehaves."""

    WRONG_STATE = "wrong-state"
    WRONG_NONCE = "wrong-nonce"
    WRONG_ISS = "wrong-iss"  # of the answer to the browser (mix-up)
    NO_ISS = "no-iss"
    MIXED_ISSUER = "mixed-issuer"  # of the ID token
    OTHER_AUD = "other-aud"
    OTHER_PARTY = "other-party"  # azp
    EXPIRED = "expired"
    ALG_NONE = "alg-none"
    ALG_HS256 = "alg-hs256"
    OTHER_AT_HASH = "other-at-hash"
    METADATA_OTHER = "metadata-other"  # another issuer's
    OLD_PROOF = "old-proof"  # auth_time: nobody was asked again
    LOW_LEVEL = "low-level"  # acr
    OTHER_PERSON = "other-person"  # userinfo
    CODE_REPLAY = "code-replay"  # a used code is taken again
    TOKEN_LINES = "token-lines"  # noqa: S105  a switch: the access token holds a line break
    TOKEN_DOWN = "token-down"  # noqa: S105  a switch
    KEYS_DOWN = "keys-down"
    KEYS_HUGE = "keys-huge"
    KEYS_ELSEWHERE = "keys-elsewhere"  # a redirect
    INTROSPECTION_DOWN = "introspection-down"
    INTROSPECTION_SLOW = "introspection-slow"
    INTROSPECTION_HUGE = "introspection-huge"
    INTROSPECTION_ELSEWHERE = "introspection-elsewhere"
    INTROSPECTION_PAGE = "introspection-page"  # 200 with HTML
    INTROSPECTION_OTHER = "introspection-other"  # yes, about somebody else


@dataclass(frozen=True, slots=True, kw_only=True)
class LabClient:
    """One registered client. ``certificate``: SHA-256 of it (DER), hexadecimal; ``secret``: "" for none."""

    client_id: str
    redirect_uri: str = ""
    certificate: str = ""
    secret: str = ""


@dataclass(slots=True, kw_only=True)
class _Code:
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    subject: str
    level: str
    asked_anew: bool
    until: float
    tokens: list[str] | None = None  # None: not used yet


@dataclass(slots=True, kw_only=True)
class _Issued:
    claims: Mapping[str, Any]
    is_revoked: bool = False


@dataclass(kw_only=True)
class LabProvider:
    """One provider. ``people``: what userinfo says, by ``sub``; ``counts``: requests by path; ``seconds``: of a slow
    answer; ``shows_page``: a person clicks there, as on a real page, before the browser is sent back;
    ``states_support``: its metadata say that it states ``iss`` (None: they are silent about it,
    a text: no yes and no no)."""

    pair: PemPair
    ca: Path
    clients: dict[str, LabClient] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    at_the_browser: str = ""
    clock: Clock = field(default_factory=SystemClock)
    switches: set[Switch] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 30.0
    shows_page: bool = False
    states_support: bool | str | None = True
    issuer: str = ""
    keys: list[LabKey] = field(default_factory=lambda: [LabKey.create("first")])
    _codes: dict[str, _Code] = field(default_factory=dict)
    _issued: dict[str, _Issued] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1, on the port it had before when it had one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.certificate, self.pair.key)
        context.load_verify_locations(cafile=self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL  # browsers have none
        before = int(self.issuer.rpartition(":")[2]) if self.issuer else port
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", before, ssl_context=context)
        await site.start()
        self.issuer = self.issuer or f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Gone, as a machine is that was switched off; what was issued stays known."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def register(self, client: LabClient) -> None:
        """Know a client."""
        self.clients[client.client_id] = client

    def rotate(self, kid: str) -> None:
        """Sign with a new key; the old ones are not published any more."""
        self.keys = [LabKey.create(kid)]

    def revoke(self, subject: str) -> None:
        """The session of a person ends."""
        for issued in self._issued.values():
            if issued.claims["sub"] == subject:
                issued.is_revoked = True

    def access_token(self, *, subject: str, client_id: str, audience: str, **claims: Any) -> str:
        """A token as this provider issues it; ``claims``: beside or instead of its own, None to leave one out."""
        now = int(self.clock.now().timestamp())
        all_claims = {
            "iss": self.issuer, "sub": subject, "client_id": client_id, "aud": audience, "iat": now,
            "exp": now + TOKEN_S, "jti": secrets.token_hex(8), "scope": "openid",
        } | claims  # fmt: skip
        stated = {name: value for name, value in all_claims.items() if value is not None}
        token = self.keys[0].token(stated, typ="at+jwt")
        self._issued[token] = _Issued(claims=stated)
        return token

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        app = web.Application()
        for method, path, handler in (
            ("GET", "/authorize", self._authorize),
            ("POST", "/token", self._token),
            ("POST", "/introspect", self._introspect),
            ("GET", "/userinfo", self._userinfo),
            ("GET", "/jwks", self._jwks),
            ("GET", "/end_session", self._end_session),
            ("GET", "/.well-known/openid-configuration", self._metadata),
        ):
            app.router.add_route(method, path, self._counted(handler))
        return app

    def _counted(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def counted(request: web.Request) -> web.StreamResponse:
            self.counts[request.path] += 1
            return await handler(request)

        return counted

    async def _authorize(self, request: web.Request) -> web.StreamResponse:
        asked = request.query
        client = self.clients.get(asked.get("client_id", ""))
        if client is None or not client.redirect_uri or asked.get("redirect_uri") != client.redirect_uri:
            return web.Response(status=400, text="unknown client or redirect address")
        said = {"state": asked.get("state", ""), "iss": self.issuer}
        is_right = (
            asked.get("response_type") == "code"
            and asked.get("code_challenge_method") == "S256"
            and len(asked.get("code_challenge", "")) == 43
            and asked.get("state")
            and asked.get("nonce")
            and "openid" in asked.get("scope", "").split(" ")
        )
        if not is_right:
            said["error"] = "invalid_request"
        elif self.at_the_browser not in self.people:
            said["error"] = "access_denied"
        else:
            said["code"] = code = secrets.token_urlsafe(24)
            self._codes[code] = _Code(
                client_id=client.client_id,
                redirect_uri=client.redirect_uri,
                challenge=asked["code_challenge"],
                nonce=asked["nonce"],
                subject=self.at_the_browser,
                level=asked.get("acr_values", ""),
                asked_anew=asked.get("prompt") == "login" and asked.get("max_age") == "0",
                until=self.clock.monotonic() + CODE_S,
            )
        said |= {"iss": ELSEWHERE} if Switch.WRONG_ISS in self.switches else {}
        said |= {"state": "another"} if Switch.WRONG_STATE in self.switches else {}
        if Switch.NO_ISS in self.switches:
            del said["iss"]
        back = f"{client.redirect_uri}?{urlencode(said)}"
        if self.shows_page:
            page = f'<!doctype html><html lang="en"><title>Lab</title><a id="go" href="{escape(back)}">Go back</a>'
            return web.Response(text=page, content_type="text/html")
        return web.Response(status=302, headers={"Location": back})

    async def _token(self, request: web.Request) -> web.StreamResponse:
        if Switch.TOKEN_DOWN in self.switches:
            return web.Response(status=503)
        form = await request.post()
        client = self._client(request)
        if client is None:
            return _error(401, "invalid_client")
        if form.get("grant_type") == "client_credentials":
            token = self.access_token(
                subject=client.client_id,
                client_id=client.client_id,
                audience=str(form.get("resource", "")),
                cnf={"x5t#S256": encoded(bytes.fromhex(client.certificate))},
            )
            return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S})
        held = self._codes.get(str(form.get("code", "")))
        if form.get("grant_type") != "authorization_code" or held is None or not self._fits(held, client, form):
            return _error(400, "invalid_grant")
        if held.tokens is not None and Switch.CODE_REPLAY not in self.switches:
            for token in held.tokens:  # RFC 6749 §4.1.2: what it gave before is taken back
                self._issued[token].is_revoked = True
            return _error(400, "invalid_grant")
        access = self.access_token(subject=held.subject, client_id=client.client_id, audience=client.client_id)
        held.tokens = [*(held.tokens or []), access]
        return web.json_response(
            {
                "access_token": access + "\r\nX: y\ud800" * (Switch.TOKEN_LINES in self.switches),
                "token_type": "Bearer",
                "expires_in": TOKEN_S,
                "id_token": self._id_token(held, access),
            }
        )

    def _fits(self, held: _Code, client: LabClient, form: Mapping[str, Any]) -> bool:
        verifier = str(form.get("code_verifier", "")).encode("ascii", "replace")
        return (
            held.client_id == client.client_id == form.get("client_id", client.client_id)
            and held.redirect_uri == form.get("redirect_uri")
            and held.challenge == encoded(hashlib.sha256(verifier).digest())
            and self.clock.monotonic() < held.until
        )

    def _id_token(self, held: _Code, access: str) -> str:
        on, now = self.switches, int(self.clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": ELSEWHERE if Switch.MIXED_ISSUER in on else self.issuer,
            "sub": held.subject,
            "aud": "another-client" if Switch.OTHER_AUD in on else held.client_id,
            "azp": "another-client" if Switch.OTHER_PARTY in on else held.client_id,
            "iat": now - (7200 if Switch.EXPIRED in on else 0),
            "exp": now + (-3600 if Switch.EXPIRED in on else TOKEN_S),
            "nonce": "of-another-login" if Switch.WRONG_NONCE in on else held.nonce,
            "at_hash": encoded(hashlib.sha256((access + "x" * (Switch.OTHER_AT_HASH in on)).encode()).digest()[:16]),
        }
        if held.asked_anew:
            claims["auth_time"] = now - (3600 if Switch.OLD_PROOF in on else 0)
        if held.level:
            claims["acr"] = "low" if Switch.LOW_LEVEL in on else held.level
        header = {"alg": "none"} if Switch.ALG_NONE in on else {"alg": "HS256"} if Switch.ALG_HS256 in on else {}
        return self.keys[0].token(claims, **header)

    async def _introspect(self, request: web.Request) -> web.StreamResponse:
        for switch, answer in (
            (Switch.INTROSPECTION_DOWN, web.json_response({"active": True}, status=503)),
            (Switch.INTROSPECTION_ELSEWHERE, web.Response(status=307, headers={"Location": f"{self.issuer}/jwks"})),
            (Switch.INTROSPECTION_PAGE, web.Response(text="<html>maintenance</html>", content_type="text/html")),
            (Switch.INTROSPECTION_HUGE, web.json_response({"active": True, "filler": "x" * _HUGE})),
        ):
            if switch in self.switches:
                return answer
        if Switch.INTROSPECTION_SLOW in self.switches:
            await asyncio.sleep(self.seconds)
        form = await request.post()
        if self._client(request) is None:
            return _error(401, "invalid_client")
        issued = self._issued.get(str(form.get("token", "")))
        if issued is None or issued.is_revoked or self.clock.now().timestamp() >= issued.claims["exp"]:
            return web.json_response({"active": False})
        other = {"sub": "somebody-else"} if Switch.INTROSPECTION_OTHER in self.switches else {}
        return web.json_response({"active": True, **issued.claims, **other})

    async def _userinfo(self, request: web.Request) -> web.StreamResponse:
        issued = self._issued.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if issued is None or issued.is_revoked:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        subject = issued.claims["sub"]
        shown = "somebody-else" if Switch.OTHER_PERSON in self.switches else subject
        return web.json_response({**self.people.get(subject, {}), "sub": shown})

    async def _jwks(self, _request: web.Request) -> web.StreamResponse:
        if Switch.KEYS_DOWN in self.switches:
            return web.Response(status=503)
        if Switch.KEYS_ELSEWHERE in self.switches:
            return web.Response(status=302, headers={"Location": f"{self.issuer}/jwks?again"})
        filler = {"filler": "x" * _HUGE} if Switch.KEYS_HUGE in self.switches else {}
        return web.json_response({"keys": [key.jwk for key in self.keys], **filler})

    async def _end_session(self, request: web.Request) -> web.StreamResponse:
        self.revoke(self.at_the_browser)
        self.at_the_browser = ""
        return web.Response(text=f"signed out of {request.query.get('client_id', '')}")

    async def _metadata(self, _request: web.Request) -> web.StreamResponse:
        at = self.issuer
        stated = {} if self.states_support is None else {_ISS_SUPPORTED: self.states_support}
        return web.json_response(
            {
                **stated,
                "issuer": ELSEWHERE if Switch.METADATA_OTHER in self.switches else at,
                "authorization_endpoint": f"{at}/authorize",
                "token_endpoint": f"{at}/token",
                "introspection_endpoint": f"{at}/introspect",
                "userinfo_endpoint": f"{at}/userinfo",
                "jwks_uri": f"{at}/jwks",
                "end_session_endpoint": f"{at}/end_session",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [key.algorithm for key in self.keys],
                "code_challenge_methods_supported": ["S256"],
                "tls_client_certificate_bound_access_tokens": True,
                "token_endpoint_auth_methods_supported": ["tls_client_auth", "client_secret_basic"],
            }
        )

    def _client(self, request: web.Request) -> LabClient | None:
        """The client whose certificate the connection shows, and whose secret the request, when it has one."""
        secured = request.transport.get_extra_info("ssl_object") if request.transport else None
        shown = secured.getpeercert(binary_form=True) if secured is not None else None
        digest = hashlib.sha256(shown).hexdigest() if shown else ""
        client = next((one for one in self.clients.values() if digest and one.certificate == digest), None)
        if client is None or (client.secret and _basic(request) != (client.client_id, client.secret)):
            return None
        return client


def _basic(request: web.Request) -> tuple[str, str]:
    """User and password of ``client_secret_basic``."""
    stated = request.headers.get("Authorization", "")
    try:
        user, _, password = base64.b64decode(stated.removeprefix("Basic "), validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return unquote(user), unquote(password)


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": code}, status=status)
