"""What an issuer says of a token now (RFC 7662, IUA ITI-102), and how long that may be believed.

Invariants:

* only ``"active": true``, the truth value, is yes; a yes that speaks of another issuer, audience, subject or
  certificate than the token is no yes;
* a yes is kept at most 60 s and never past ``exp``; one without ``exp`` is not kept; a no is kept at most 5 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from security.parse.json import member, parse_json
from security.tokens.bearer import Bearer, check_binding
from security.tokens.issuer import Binding, Issuer, refused

ANSWER_BYTES_MAX: Final = 64 * 1024
YES_S_MAX: Final = 60.0
NO_S_MAX: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspected:
    """One answer. ``keep_s``: seconds it may be believed without asking again."""

    is_active: bool
    keep_s: float
    members: Mapping[str, Any]


def read_answer(data: bytes, *, now: datetime, yes_s: float = YES_S_MAX) -> Introspected:
    """The answer of an introspection endpoint. ``yes_s``: how long a yes may be kept, at most 60 s.

    Raises:
        BadInput: ``json-…`` it is none.
    """
    found = parse_json(data, what="introspection", limit=ANSWER_BYTES_MAX)
    if not member(found, "active", bool, what="introspection"):
        return Introspected(is_active=False, keep_s=NO_S_MAX, members={})
    expires_at = found.get("exp")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        return Introspected(is_active=True, keep_s=0.0, members=found)
    left_s = expires_at - now.timestamp()
    if left_s <= 0:
        return Introspected(is_active=False, keep_s=NO_S_MAX, members={})
    return Introspected(is_active=True, keep_s=min(yes_s, YES_S_MAX, left_s), members=found)


def agree(said: Introspected, bearer: Bearer, issuer: Issuer, certificate: bytes) -> None:
    """Whether the answer is a yes about this very token.

    Raises:
        Refused: ``token-inactive``, ``token-disagreed``, ``token-of-another``, ``token-unbound``.
    """
    if not said.is_active:
        raise refused("its issuer does not vouch for the token", code="token-inactive")
    audiences = said.members.get("aud", issuer.audience)
    several = [audiences] if isinstance(audiences, str) else audiences
    is_same = (
        said.members.get("iss", issuer.issuer) == issuer.issuer
        and said.members.get("sub", bearer.claims.subject) == bearer.claims.subject
        and isinstance(several, list)
        and issuer.audience in several
    )
    if not is_same:
        raise refused("its issuer speaks of another token", code="token-disagreed")
    if "cnf" in said.members:
        check_binding(said.members, Binding.CERTIFICATE, certificate)
