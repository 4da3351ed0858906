"""The form of a token and its header, judged before any key is touched (T40).

Invariants:

* a token is three parts of canonical base64url, at most 8 KiB (RFC 7515 §3.1, §2);
* a header has ``alg``, and beside it nothing but ``kid``, ``typ``, ``cty`` and thumbprints: what would bring a key or
  its address (``jwk``, ``jku``, ``x5c``, ``x5u``) or change how it is read (``crit``, ``b64``, ``zip``) is refused;
* ``alg`` is one that the issuer is configured with; no member appears twice;
* a ``kid`` looks like a name: it is only ever compared.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from security.errors import BadInput
from security.parse.json import parse_json
from security.tokens.issuer import TOKEN_BYTES_MAX, Algorithm, refused

ACCESS_TOKEN_TYPES: Final = frozenset({"jwt", "at+jwt"})  # RFC 7519 §5.1, RFC 9068 §2.1
ID_TOKEN_TYPES: Final = frozenset({"jwt"})
_MEMBERS: Final = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
_KEY_BRINGERS: Final = frozenset({"jwk", "jku", "x5c", "x5u"})
_KID: Final = re.compile(r"(?!/)(?!.*\.\.)[A-Za-z0-9._~+/=:-]{1,128}", re.ASCII)
_PART: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header says. ``kid``: "" when it names no key."""

    algorithm: Algorithm
    kid: str


def read_header(token: str, *, algorithms: Collection[Algorithm], types: Collection[str]) -> Header:
    """The header of a JWS in compact form. ``types``: the ``typ`` it may have; none is one of them.

    Raises:
        Refused: ``token-too-large``, ``token-form``, ``token-header``, ``token-header-key``, ``token-algorithm``,
            ``token-type``, ``token-key-name``.
    """
    first, _, _ = _parts(token)
    members = _object(first, "header", code="token-header")
    if members.keys() & _KEY_BRINGERS:
        raise refused("the header brings a key or its address", code="token-header-key")
    if not members.keys() <= _MEMBERS:
        raise refused("the header has a member that is not understood", code="token-header")
    stated = members.get("alg")
    algorithm = next((one for one in algorithms if one.value == stated), None)
    if algorithm is None:
        raise refused("the algorithm is none of this issuer's", code="token-algorithm")
    kind = members.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in types:
        raise refused("the token is of another type", code="token-type")
    if members.get("cty", "JWT") != "JWT":
        raise refused("the token holds something else than claims", code="token-type")
    kid = members.get("kid", "")
    if not isinstance(kid, str) or ("kid" in members and not _KID.fullmatch(kid)):
        raise refused("the header names its key in a form that no key here has", code="token-key-name")
    return Header(algorithm=algorithm, kid=kid)


def stated_issuer(token: str) -> str:
    """What the token says in ``iss``, not verified: good for choosing whose rules judge it, and for nothing else.

    Raises:
        Refused: ``token-too-large``, ``token-form``, ``token-claims``, ``token-issuer``.
    """
    _, second, _ = _parts(token)
    issuer = _object(second, "claims", code="token-claims").get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise refused("the token names no issuer", code="token-issuer")
    return issuer


def _parts(token: str) -> tuple[str, str, str]:
    if len(token) > TOKEN_BYTES_MAX:
        raise refused(f"the token has more than {TOKEN_BYTES_MAX} characters", code="token-too-large")
    parts = token.split(".")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise refused("the token is no signed JWT in compact form", code="token-form")
    if not all(_is_canonical(part) for part in parts):
        raise refused("the token is not encoded as base64url asks", code="token-form")
    return parts[0], parts[1], parts[2]


def _is_canonical(part: str) -> bool:
    """Whether the text is the one way to write its bytes (RFC 4648 §3.5)."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return False
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode() == part


def _object(part: str, what: str, *, code: str) -> dict[str, Any]:
    data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    try:
        found = parse_json(data, what=what, limit=TOKEN_BYTES_MAX)
    except BadInput as fault:
        raise refused(f"the token's {what} cannot be read ({fault.code})", code=code) from None
    if not isinstance(found, dict):
        raise refused(f"the token's {what} is no object", code=code)
    return found
