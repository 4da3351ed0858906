"""Whom we believe, and for what: the frozen rules of one issuer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from security.errors import Refused
from security.policy import Purpose, Role

SKEW_S_MAX: Final = 60
TOKEN_BYTES_MAX: Final = 8 * 1024
GRANTABLE: Final = frozenset({Role.RADIOLOGIST, Role.GATEWAY_PEER})
"""Roles that a token may give; every other one is of an account here (T46)."""


class Algorithm(StrEnum):
    """Signature algorithms that an issuer may be configured with (RFC 7518 §3.1); no symmetric one, no ``none``."""

    PS256 = "PS256"
    PS384 = "PS384"
    ES256 = "ES256"
    ES384 = "ES384"
    RS256 = "RS256"


class Binding(StrEnum):
    """What ties a token to who shows it (T42)."""

    CERTIFICATE = "certificate"  # RFC 8705 §3: cnf.x5t#S256 is the peer's certificate
    INTROSPECTION = (
        "introspection"  # a bearer token of a network that has no other: mTLS peer, and its issuer is asked
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """One issuer of access tokens.

    ``issuer``: its ``iss``, compared as text; ``audience``: what ``aud`` must hold; ``scopes``: all of them must be
    in ``scope``; ``roles``: role by ``system|code`` or ``code`` of ``extensions.ihe_iua.subject_role``; ``role``: the
    one of a token that states none, None to refuse it; ``purpose``: likewise; ``tenant``: whose resources its tokens
    may reach, "" for all.
    """

    name: str
    issuer: str
    audience: str
    algorithms: frozenset[Algorithm]
    binding: Binding = Binding.CERTIFICATE
    skew_s: int = SKEW_S_MAX
    life_s_max: int = 3600
    scopes: frozenset[str] = frozenset()
    roles: Mapping[str, Role] = field(default_factory=dict)
    role: Role | None = None
    purpose: Purpose | None = None
    tenant: str = ""


def refused(why: str, *, code: str, hint: str = "ask the issuer for a new token") -> Refused:
    """A refusal that says what rule was broken and nothing of the token."""
    return Refused(why, code=code, hint=hint)
