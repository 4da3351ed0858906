"""Signed tokens of the lab's identity provider, written by hand: also those that nobody should believe."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def encoded(data: bytes) -> str:
    """base64url without padding (RFC 7515 §2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class LabKey:
    """A key of the provider. ``algorithm``: ES256, RS256 or PS256."""

    def __init__(self, private: PrivateKey, *, kid: str, algorithm: str) -> None:
        self.private = private
        self.kid = kid
        self.algorithm = algorithm

    @classmethod
    def create(cls, kid: str, algorithm: str = "ES256") -> Self:
        """A new one."""
        private: PrivateKey = (
            ec.generate_private_key(ec.SECP256R1())
            if algorithm == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )
        return cls(private, kid=kid, algorithm=algorithm)

    @property
    def jwk(self) -> dict[str, str]:
        """Its public half (RFC 7517)."""
        public = self.private.public_key()
        facts = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return facts | {"kty": "RSA", "n": _uint(numbers.n), "e": _uint(numbers.e)}
        point = public.public_numbers()
        return facts | {"kty": "EC", "crv": "P-256", "x": _uint(point.x, 32), "y": _uint(point.y, 32)}

    @property
    def pem(self) -> bytes:
        """Its public half, as a key-confusion attack takes it for a secret."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """A signature as JWS wants it (RFC 7518 §3)."""
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        if self.algorithm == "PS256":
            pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
            return self.private.sign(data, pss, hashes.SHA256())
        return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def token(self, claims: Mapping[str, Any] | bytes, **header: Any) -> str:
        """A token of these claims; ``header``: members beside or instead of ``alg``, ``kid`` and ``typ``, None to
        leave one out. ``alg`` none and HS256 are signed as an attacker would."""
        members = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"} | header
        return self.raw(json.dumps({k: v for k, v in members.items() if v is not None}).encode(), claims)

    def raw(self, header: bytes, claims: Mapping[str, Any] | bytes) -> str:
        """The same with the octets of a header."""
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{encoded(header)}.{encoded(payload)}"
        algorithm = json.loads(header).get("alg")
        if algorithm == "none":
            return f"{signed}."
        data = signed.encode()
        made = hmac.new(self.pem, data, hashlib.sha256).digest() if algorithm == "HS256" else self.sign(data)
        return f"{signed}.{encoded(made)}"


def _uint(number: int, size: int = 0) -> str:
    return encoded(number.to_bytes(size or (number.bit_length() + 7) // 8))
