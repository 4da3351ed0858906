"""What a verified token says, and whether it is for us, now (T41; RFC 7519 §4.1).

Invariants:

* ``iss``, ``aud``, ``exp``, ``iat`` and ``sub`` are there, and of their type: a time is a number, no text and no
  truth value;
* ``iss`` and ``aud`` are compared as text; of several audiences one is ours;
* a clock may be off by ``skew_s``, at most 60 s, in either direction and no more (FF-42);
* a token that lives longer than ``life_s_max`` is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from security.errors import BadInput
from security.parse.json import parse_json
from security.tokens.issuer import SKEW_S_MAX, TOKEN_BYTES_MAX, refused

EXPIRED: Final = "token-expired"
_TEXT_MAX: Final = 256
_AUDIENCES_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the claims must say. Times in seconds."""

    issuer: str
    audience: str
    skew_s: int
    life_s_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Claims that were verified. ``expires_at``, ``issued_at``: seconds since 1970; ``all``: every member."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    expires_at: float
    issued_at: float
    all: Mapping[str, Any]


def read_claims(payload: bytes, expected: Expected, *, now: datetime) -> Claims:
    """The claims of a payload whose signature is good.

    Raises:
        Refused: ``token-claims``, ``token-claim-missing``, ``token-issuer``, ``token-audience``, ``token-expired``,
            ``token-not-yet``, ``token-from-the-future``, ``token-lives-too-long``.
    """
    try:
        found = parse_json(payload, what="claims", limit=TOKEN_BYTES_MAX)
    except BadInput as fault:
        raise refused(f"the token's claims cannot be read ({fault.code})", code="token-claims") from None
    if not isinstance(found, dict):
        raise refused("the token's claims are no object", code="token-claims")
    for name in ("iss", "aud", "exp", "iat", "sub"):
        if found.get(name) in (None, "", []):
            raise refused(f"the token has no {name}", code="token-claim-missing")
    if found["iss"] != expected.issuer:
        raise refused("the token is of another issuer", code="token-issuer")
    audiences = _audiences(found["aud"])
    if expected.audience not in audiences:
        raise refused("the token is for somebody else", code="token-audience")
    expires_at, issued_at = _judge_times(found, expected, now.timestamp())
    return Claims(
        issuer=expected.issuer,
        subject=text_claim(found, "sub"),
        audiences=audiences,
        expires_at=expires_at,
        issued_at=issued_at,
        all=found,
    )


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is one line of text, "" when it is absent.

    Raises:
        Refused: ``token-claims``.
    """
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT_MAX or (value and not value.isprintable()):
        raise refused(f"{name} is not a short text", code="token-claims")
    return value


def _audiences(stated: Any) -> tuple[str, ...]:
    """``aud``, which is a text or a list of texts (RFC 7519 §4.1.3)."""
    several = [stated] if isinstance(stated, str) else stated
    if (
        not isinstance(several, list)
        or len(several) > _AUDIENCES_MAX
        or not all(isinstance(one, str) for one in several)
    ):
        raise refused("aud is neither a text nor a list of some", code="token-claims")
    return tuple(several)


def _judge_times(claims: Mapping[str, Any], expected: Expected, now: float) -> tuple[float, float]:
    skew = min(expected.skew_s, SKEW_S_MAX)
    expires_at, issued_at = _moment(claims, "exp"), _moment(claims, "iat")
    if now >= expires_at + skew:
        raise refused("the token has expired", code=EXPIRED)
    if "nbf" in claims and now < _moment(claims, "nbf") - skew:
        raise refused("the token is not valid yet", code="token-not-yet", hint="compare the clocks")
    if now < issued_at - skew:
        raise refused("the token was issued in the future", code="token-from-the-future", hint="compare the clocks")
    if expires_at - issued_at > expected.life_s_max:
        raise refused("the token lives longer than its issuer may let it", code="token-lives-too-long")
    return expires_at, issued_at


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refused(f"{name} is no number of seconds", code="token-claims")
    return float(value)
