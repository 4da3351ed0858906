"""A token and the certificate of the connection become a subject of the policy, or a refusal (T40–T44)."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.providers.channel import Channel
from gateway.providers.keys import PublishedKeys
from gateway.providers.vouching import Vouching
from gateway.settings import IdentityProviderSettings
from security.clock import Clock
from security.policy import Purpose, Role
from security.tokens.bearer import Bearer, judge
from security.tokens.header import ACCESS_TOKEN_TYPES, read_header, stated_issuer
from security.tokens.introspection import agree
from security.tokens.issuer import Algorithm, Binding, Issuer, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """One issuer at work. ``vouching``: None when it is not asked about each token."""

    rules: Issuer
    keys: PublishedKeys
    vouching: Vouching | None


def token_issuer(name: str, settings: IdentityProviderSettings, tls: ssl.SSLContext, clock: Clock) -> TokenIssuer:
    """The issuer that a section describes."""
    channel = Channel(settings, tls)
    return TokenIssuer(
        rules=rules(name, settings),
        keys=PublishedKeys(name, channel.keyring, clock),
        vouching=Vouching(channel.introspection, clock, yes_s=settings.introspection_cache_s)
        if settings.introspection_url
        else None,
    )


def rules(name: str, settings: IdentityProviderSettings) -> Issuer:
    """What its tokens must be."""
    return Issuer(
        name=name,
        issuer=settings.issuer,
        audience=settings.audience,
        algorithms=frozenset(map(Algorithm, settings.algorithms)),
        binding=Binding(settings.binding),
        skew_s=settings.skew_s,
        life_s_max=settings.token_life_max_s,
        scopes=frozenset(settings.scopes),
        roles={code: Role(role) for code, role in settings.roles.items()},
        role=Role(settings.role) if settings.role else None,
        purpose=Purpose(settings.purpose) if settings.purpose else None,
        tenant=settings.tenant,
    )


class ResourceServer:
    """Judges the tokens of every configured issuer."""

    def __init__(self, issuers: Iterable[TokenIssuer], clock: Clock) -> None:
        self._issuers = {one.rules.issuer: one for one in issuers}
        self._clock = clock

    async def judge(self, token: str, certificate: bytes) -> Bearer:
        """Who shows this token over a connection of this verified certificate (DER, b"" without).

        Raises:
            Refused: ``token-…``.
            Unavailable: ``provider-…`` its issuer cannot be asked: nobody is let in.
        """
        found = self._issuers.get(stated_issuer(token))
        if found is None:
            raise refused("the token is of another issuer", code="token-issuer")
        rules_ = found.rules
        header = read_header(token, algorithms=rules_.algorithms, types=ACCESS_TOKEN_TYPES)
        ring = await found.keys.ring_for(header)
        now = self._clock.now()
        bearer = judge(token, header, issuer=rules_, keyring=ring, certificate=certificate, now=now)
        if found.vouching is not None:
            agree(await found.vouching.of(token), bearer, rules_, certificate)
        elif bearer.needs_introspection:
            raise refused("its issuer cannot be asked about the token", code="token-inactive")
        return bearer

    def forget(self, token: str) -> None:
        """A session with this token ended."""
        for issuer in self._issuers.values():
            if issuer.vouching is not None:
                issuer.vouching.forget(token)


def mark(token: str) -> str:
    """How a log names a token: the first 12 hexadecimal digits of its SHA-256 (FF-39)."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()[:12]
