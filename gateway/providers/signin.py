"""People who leave for an identity provider and come back: the relying party (OpenID Connect, T43).

Invariants:

* a login that has left is held in memory for five minutes and taken out when anything comes back under its state,
  whatever is found wrong with it;
* an ID token is judged whole, though it came over a trusted channel; where the provider vouches for tokens, it is
  asked about the one that came with it, and silence lets nobody in (T44).
"""

from __future__ import annotations

import secrets
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from gateway.providers.channel import Channel
from gateway.providers.keys import PublishedKeys
from gateway.providers.vouching import Vouching
from gateway.settings import IdentityProviderSettings
from security.clock import Clock
from security.tokens import signin
from security.tokens.header import ID_TOKEN_TYPES, read_header
from security.tokens.issuer import Algorithm
from security.tokens.signin import Client, Identified, Pending

_PENDING_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Where the browser goes, and the cookie by which it is known when it comes back."""

    url: str
    browser: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Who came back, and the page they wanted. ``is_proof``: they were asked to prove themselves once more."""

    who: Identified
    back: str
    is_proof: bool


class RelyingParty:
    """Us at one provider. ``title``: its name for people."""

    def __init__(self, name: str, settings: IdentityProviderSettings, tls: ssl.SSLContext, clock: Clock) -> None:
        self._channel = Channel(settings, tls)
        self._keys = PublishedKeys(name, self._channel.keyring, clock)
        self._clock = clock
        self._settings = settings
        self._vouching = (
            Vouching(self._channel.introspection, clock, yes_s=0.0) if settings.introspection_url else None
        )
        self.title = settings.title or name
        self._pending: OrderedDict[str, Pending] = OrderedDict()
        self.client = Client(
            name=name,
            issuer=settings.issuer,
            authorization_url=settings.authorization_url,
            client_id=settings.client_id,
            redirect_uri=settings.redirect_uri,
            algorithms=frozenset(map(Algorithm, settings.algorithms)),
            scopes=tuple(settings.login_scopes),
            acr=settings.login_level,
            skew_s=settings.skew_s,
            life_s_max=settings.token_life_max_s,
        )

    def begin(self, back: str, *, browser: str = "", anew: bool = False) -> Departure:
        """Send a browser off. ``back``: the page it wanted; ``browser``: what its cookie holds already; ``anew``: the
        person must prove to be there once more."""
        url, pending = signin.begin(
            self.client,
            back=back,
            now=self._clock.monotonic(),
            new=secrets.token_urlsafe,
            browser=browser,
            since=self._clock.now() if anew else None,
        )
        while len(self._pending) >= _PENDING_MAX:
            self._pending.popitem(last=False)
        self._pending[pending.state] = pending
        return Departure(url=url, browser=pending.browser)

    async def finish(self, query: Sequence[tuple[str, str]], browser: str) -> Arrival:
        """Who came back with this query and this cookie.

        Raises:
            Refused: ``signin-…``, ``token-…``.
            Unavailable: ``provider-…``.
        """
        pending = self._pending.pop(signin.stated_state(query), None)
        code = signin.returned_code(self.client, query, pending, browser=browser, now=self._clock.monotonic())
        assert pending is not None  # as returned_code found
        if not signin.stated_issuer(query) and await self._must_state_issuer():
            raise signin.unnamed()
        id_token, access_token = await self._channel.tokens(signin.code_grant(self.client, code, pending))
        header = read_header(id_token, algorithms=self.client.algorithms, types=ID_TOKEN_TYPES)
        who = signin.identified(
            self.client,
            id_token,
            header,
            keyring=await self._keys.ring_for(header),
            pending=pending,
            access_token=access_token,
            now=self._clock.now(),
        )
        if self._settings.userinfo_url:
            who = signin.with_userinfo(who, await self._channel.userinfo(access_token))
        if self._vouching:
            signin.vouched(who, await self._vouching.of(access_token))
        return Arrival(who=who, back=pending.back, is_proof=pending.since is not None)

    async def _must_state_issuer(self) -> bool:
        """Whether an answer without ``iss`` is none of this provider's; it is asked only when one came."""
        return self._settings.answer_iss == "always" or await self._channel.states_issuer()

    @property
    def departure_for_good(self) -> str:
        """Where to send a browser that signed out here, so that it is signed out there too and sent back to our login
        (OpenID Connect RP-Initiated Logout §2); "" when the provider has no such page."""
        if not self._settings.end_session_url:
            return ""
        home = self.client.redirect_uri.removesuffix(f"/{self.client.name}/back")
        asked = {"client_id": self.client.client_id, "post_logout_redirect_uri": home}
        return f"{self._settings.end_session_url}?{urlencode(asked)}"


def parties(
    settings: Mapping[str, IdentityProviderSettings],
    tls: Callable[[str], ssl.SSLContext | None],
    clock: Clock,
) -> dict[str, RelyingParty]:
    """Us at each provider where people sign in. ``tls``: the context of a link by its key."""
    made = {}
    for name, provider in settings.items():
        context = tls(f"identity_providers.{name}")
        if provider.authorization_url:
            assert context is not None  # the section names a certificate, a key and authorities, all of them required
            made[name] = RelyingParty(name, provider, context, clock)
    return made
