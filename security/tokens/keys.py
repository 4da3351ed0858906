"""What an issuer publishes as its keys (JWKS, RFC 7517), and which of them a token was signed with.

Invariants:

* public keys for signatures alone: symmetric ones and those for encryption are left out;
* a document that shows a private key is refused whole: whoever holds that key may have signed anything;
* a key serves the algorithms of its kind, and the one it is marked with when it is: RSA of 2048 bits or more, and the
  curve of its ES algorithm;
* no two keys have one name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from security.errors import BadInput
from security.parse.json import member, parse_json
from security.tokens.header import Header
from security.tokens.issuer import Algorithm, refused

JWKS_BYTES_MAX: Final = 256 * 1024
_KEYS_MAX: Final = 64
_RSA_BITS_MIN: Final = 2048
_RSA_BITS_MAX: Final = 8192
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_RSA: Final = frozenset({Algorithm.PS256, Algorithm.PS384, Algorithm.RS256})
_CURVES: Final[Mapping[object, frozenset[Algorithm]]] = {
    "P-256": frozenset({Algorithm.ES256}),
    "P-384": frozenset({Algorithm.ES384}),
}
_KEPT: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """One public key. ``jwk``: its members that make the key; ``algorithms``: what it may have signed with."""

    kid: str
    algorithms: frozenset[Algorithm]
    jwk: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """The keys of one issuer."""

    keys: tuple[VerificationKey, ...]

    def key(self, header: Header) -> VerificationKey:
        """The key that the header means: of its name, or, when it names none, the only one that fits.

        Raises:
            Refused: ``token-key`` there is none, or not one alone.
        """
        fitting = [
            key
            for key in self.keys
            if header.algorithm in key.algorithms and (not header.kid or key.kid == header.kid)
        ]
        if len(fitting) != 1:
            raise refused("no key of the issuer is the one meant", code="token-key")
        return fitting[0]


def read_keyring(data: bytes) -> Keyring:
    """The usable keys of a JWKS.

    Raises:
        BadInput: ``jwks-…``, ``json-…``.
    """
    listed = member(parse_json(data, what="JWKS", limit=JWKS_BYTES_MAX), "keys", list, what="JWKS")
    if len(listed) > _KEYS_MAX:
        raise _bad(f"more than {_KEYS_MAX} keys", code="jwks-too-many")
    if any(isinstance(one, dict) and _PRIVATE & one.keys() for one in listed):
        raise _bad("it shows a private key", code="jwks-private")
    found = tuple(key for one in listed if isinstance(one, dict) and (key := _key(one)))
    names = [key.kid for key in found if key.kid]
    if len(names) != len(set(names)):
        raise _bad("two keys have one name", code="jwks-duplicate")
    if not found:
        raise _bad("it holds no public key for signatures that is good enough", code="jwks-empty")
    return Keyring(keys=found)


def _key(jwk: Mapping[str, Any]) -> VerificationKey | None:
    """The key of one entry, None when it is none for us."""
    kept = _KEPT.get(str(jwk.get("kty")))
    operations = jwk.get("key_ops", ["verify"])
    if (
        kept is None
        or jwk.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    if not all(isinstance(jwk.get(name), str) for name in kept):
        return None
    if jwk["kty"] == "RSA":
        able = _RSA if _RSA_BITS_MIN <= _bits(jwk["n"]) <= _RSA_BITS_MAX else frozenset()
    else:
        able = _CURVES.get(jwk["crv"], frozenset())
    if "alg" in jwk:
        able = frozenset(one for one in able if one.value == jwk["alg"])
    kid = jwk.get("kid", "")
    if not able or not isinstance(kid, str):
        return None
    return VerificationKey(kid=kid, algorithms=able, jwk={name: jwk[name] for name in kept})


def _bits(number: str) -> int:
    """The length of a Base64urlUInt (RFC 7518 §2), 0 for what is none."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
    except (binascii.Error, ValueError):
        return 0


def _bad(reason: str, *, code: str) -> BadInput:
    return BadInput(f"JWKS: {reason}", code=code, hint="the issuer must publish its public signing keys (RFC 7517)")
