"""People who leave for an identity provider and come back: the relying party (OpenID Connect, T43).

Invariants:

* a login that has left is held in memory for five minutes and taken out when anything comes back under its state,
  whatever is found wrong with it;
* an ID token is judged whole, though it came over a trusted channel.
"""

from __future__ import annotations

import secrets
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from gateway.providers.channel import Channel
from gateway.providers.keys import PublishedKeys
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


class RelyingParty:
    """Us at one provider."""

    def __init__(self, name: str, settings: IdentityProviderSettings, tls: ssl.SSLContext, clock: Clock) -> None:
        self._channel = Channel(settings, tls)
        self._keys = PublishedKeys(name, self._channel.keyring, clock)
        self._clock = clock
        self._settings = settings
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

    def begin(self, back: str) -> Departure:
        """Send a browser off. ``back``: the page it wanted."""
        url, pending = signin.begin(self.client, back=back, now=self._clock.monotonic(), new=secrets.token_urlsafe)
        while len(self._pending) >= _PENDING_MAX:
            self._pending.popitem(last=False)
        self._pending[pending.state] = pending
        return Departure(url=url, browser=pending.browser)

    async def finish(self, query: Sequence[tuple[str, str]], browser: str) -> tuple[Identified, str]:
        """Who came back with this query and this cookie, and the page they wanted.

        Raises:
            Refused: ``signin-…``, ``token-…``.
            Unavailable: ``provider-…``.
        """
        pending = self._pending.pop(signin.stated_state(query), None)
        code = signin.returned_code(self.client, query, pending, browser=browser, now=self._clock.monotonic())
        assert pending is not None  # as returned_code found
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
        return who, pending.back

    def departure_for_good(self, home: str) -> str:
        """Where to send a browser that signs out here, so that it is signed out there too (OpenID Connect
        RP-Initiated Logout); ``home`` when the provider has no such page."""
        if not self._settings.end_session_url:
            return home
        asked = {"client_id": self.client.client_id, "post_logout_redirect_uri": home}
        return f"{self._settings.end_session_url}?{urlencode(asked)}"
