"""An authorization code becomes an identity: the checks of an OpenID Connect relying party (RFC 9700, T43).

Invariants:

* authorization code with PKCE S256, ``state`` and ``nonce``; no implicit flow, no password grant;
* one redirect address for each issuer, compared as text; what comes back is taken once, within minutes, by the
  browser that left;
* its ``iss``, when it states one, is the issuer it left for; it states one whenever that issuer says it does
  (RFC 9207 §2.4);
* no parameter appears twice;
* an identity is ``(iss, sub)`` of an ID token that names our client and the nonce of this very login.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from security.errors import BadInput, Refused
from security.tokens.claims import Claims, Expected, read_claims, text_claim
from security.tokens.header import Header
from security.tokens.introspection import Introspected
from security.tokens.issuer import Algorithm, refused
from security.tokens.keys import Keyring
from security.tokens.signature import signed_payload

PENDING_S: Final = 300.0
ANSWER: Final = frozenset({"state", "code", "iss", "error", "id_token", "access_token", "token_type"})
"""Parameters of what comes back that are looked at; the last three must not be there."""
Words = Callable[[], str]
"""Gives a new text of 256 unguessable bits in base64url, 43 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Us at one provider. ``acr``: the level of proof asked for and demanded, "" for any."""

    name: str
    issuer: str
    authorization_url: str
    client_id: str
    redirect_uri: str
    algorithms: frozenset[Algorithm]
    scopes: tuple[str, ...] = ("openid",)
    acr: str = ""
    skew_s: int = 60
    life_s_max: int = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A login that has left for the provider. ``until``: on the monotonic clock; ``browser``: what the cookie of the
    browser that left holds; ``since``: the moment after which the person must have proved to be there, None for any
    time."""

    state: str
    nonce: str
    verifier: str
    browser: str
    back: str
    until: float
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Who came back, as the provider says: ``subject`` is its ``sub``, unique within ``issuer``."""

    issuer: str
    subject: str
    claims: Mapping[str, Any]


def begin(
    client: Client, *, back: str, now: float, new: Words, browser: str = "", since: datetime | None = None
) -> tuple[str, Pending]:
    """The address to send the browser to, and what to remember of it. ``browser``: what its cookie holds already,
    from a login in another tab, "" for a new one; ``since``: the person must prove to be there after this moment."""
    pending = Pending(
        state=new(),
        nonce=new(),
        verifier=new(),
        browser=browser or new(),
        back=back,
        until=now + PENDING_S,
        since=since,
    )
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "scope": " ".join(client.scopes),
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": challenge(pending.verifier),
        "code_challenge_method": "S256",
    }
    if client.acr:
        asked["acr_values"] = client.acr
    if since is not None:
        asked |= {"prompt": "login", "max_age": "0"}
    return f"{client.authorization_url}?{urlencode(asked)}", pending


def challenge(verifier: str) -> str:
    """``code_challenge`` of a verifier under S256 (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def stated_state(query: Sequence[tuple[str, str]]) -> str:
    """``state`` of what came back.

    Raises:
        Refused: ``signin-parameters``.
    """
    return _once(query).get("state", "")


def returned_code(
    client: Client, query: Sequence[tuple[str, str]], pending: Pending | None, *, browser: str, now: float
) -> str:
    """The code of what came back. ``pending``: what is remembered under its state, taken out by the caller already.

    Raises:
        Refused: ``signin-parameters``, ``signin-state``, ``signin-browser``, ``signin-issuer``, ``signin-declined``.
    """
    said = _once(query)
    if pending is None or now >= pending.until or not same(said.get("state", ""), pending.state):
        raise _refused("this login was not begun here, is over, or was used", code="signin-state")
    if not same(browser, pending.browser):
        raise _refused("another browser began this login", code="signin-browser")
    if said.get("iss", client.issuer) != client.issuer:
        raise _refused("the answer is not of the provider that was asked", code="signin-issuer")
    if "error" in said:
        raise _refused("the provider let nobody in", code="signin-declined")
    if not said.get("code") or said.keys() & ANSWER - {"state", "code", "iss"}:
        raise _refused("the answer is not an authorization code", code="signin-parameters")
    return said["code"]


def stated_issuer(query: Sequence[tuple[str, str]]) -> str:
    """``iss`` of what came back, "" when it states none.

    Raises:
        Refused: ``signin-parameters``.
    """
    return _once(query).get("iss", "")


def unnamed() -> Refused:
    """What an answer without ``iss`` gets that must have one (RFC 9207 §2.4)."""
    return _refused("the answer does not say of which provider it is", code="signin-issuer")


def states_issuer(metadata: Mapping[str, Any], issuer: str) -> bool:
    """Whether a provider's metadata say that its answers state ``iss`` (RFC 9207 §3; absent is no).

    Raises:
        BadInput: ``provider-metadata`` they are another issuer's (RFC 8414 §3.3), or say neither.
    """
    stated = metadata.get("authorization_response_iss_parameter_supported", False)
    if metadata.get("issuer") != issuer or not isinstance(stated, bool):
        raise BadInput(
            "the metadata are not those of this provider",
            code="provider-metadata",
            hint='compare issuer with what it publishes, or set answer_iss = "always"',
        )
    return stated


def code_grant(client: Client, code: str, pending: Pending) -> dict[str, str]:
    """The form that trades the code (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": client.redirect_uri,
        "client_id": client.client_id,
        "code_verifier": pending.verifier,
    }


def identified(
    client: Client,
    id_token: str,
    header: Header,
    *,
    keyring: Keyring,
    pending: Pending,
    access_token: str,
    now: datetime,
) -> Identified:
    """Who the ID token says came (OpenID Connect Core §3.1.3.7).

    Raises:
        Refused: ``token-…``, ``signin-nonce``, ``signin-client``, ``signin-level``, ``signin-old-proof``,
            ``signin-access-token``.
    """
    payload = signed_payload(id_token, keyring.key(header), header)
    expected = Expected(
        issuer=client.issuer, audience=client.client_id, skew_s=client.skew_s, life_s_max=client.life_s_max
    )
    claims = read_claims(payload, expected, now=now)
    if not same(text_claim(claims.all, "nonce"), pending.nonce):
        raise _refused("the identity belongs to another login", code="signin-nonce")
    _judge_party(client, claims)
    if client.acr and text_claim(claims.all, "acr") != client.acr:
        raise _refused("the person proved less than is asked", code="signin-level")
    if pending.since is not None and not _is_after(claims.all, pending.since.timestamp() - client.skew_s):
        raise _refused("the person was not asked again", code="signin-old-proof")
    if "at_hash" in claims.all and claims.all["at_hash"] != _half_hash(access_token, header.algorithm):
        raise _refused("the identity came with another access token", code="signin-access-token")
    return Identified(issuer=claims.issuer, subject=claims.subject, claims=claims.all)


def with_userinfo(who: Identified, told: Mapping[str, Any]) -> Identified:
    """With what the provider's userinfo says of the same person (OpenID Connect Core §5.3.2).

    Raises:
        Refused: ``signin-userinfo`` it speaks of somebody else.
    """
    if told.get("sub") != who.subject:
        raise _refused("userinfo speaks of somebody else", code="signin-userinfo")
    return Identified(issuer=who.issuer, subject=who.subject, claims={**told, **who.claims})


def vouched(who: Identified, said: Introspected) -> None:
    """Whether the provider says yes, now, of the access token that came with this identity (RFC 7662 §2.2).

    Raises:
        Refused: ``token-inactive``, ``token-disagreed``.
    """
    if not said.is_active:
        raise refused("its issuer does not vouch for the token", code="token-inactive")
    if said.members.get("sub", who.subject) != who.subject or said.members.get("iss", who.issuer) != who.issuer:
        raise refused("its issuer speaks of another token", code="token-disagreed")


def same(one: str, other: str) -> bool:
    """Whether two texts are the same and not empty, in a time that says nothing."""
    return bool(one) and hmac.compare_digest(
        one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass")
    )


def _is_after(claims: Mapping[str, Any], moment: float) -> bool:
    """Whether ``auth_time`` is there and not before ``moment``, seconds since 1970."""
    proved = claims.get("auth_time")
    return isinstance(proved, int | float) and not isinstance(proved, bool) and proved >= moment


def _judge_party(client: Client, claims: Claims) -> None:
    """``azp`` is us; it must be there when others are addressed too."""
    party = text_claim(claims.all, "azp")
    if (party and party != client.client_id) or (len(claims.audiences) > 1 and not party):
        raise _refused("the identity was issued to another client", code="signin-client")


def _half_hash(access_token: str, algorithm: Algorithm) -> str:
    """``at_hash``: the left half of the hash that the signature's algorithm uses."""
    digest = (hashlib.sha384 if algorithm.value.endswith("384") else hashlib.sha256)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _once(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    found = dict(query)
    if len(found) != len(query):
        raise _refused("a parameter appears twice", code="signin-parameters")
    return found


def _refused(why: str, *, code: str) -> Refused:
    return refused(why, code=code, hint="begin the login again")
