"""An issuer of tests: rules, keys, a peer's certificate, and tokens that are good unless told otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from gateway.lab.jws import LabKey
from security.policy import Role
from security.tokens.bearer import Bearer, judge, thumbprint
from security.tokens.header import ACCESS_TOKEN_TYPES, read_header
from security.tokens.issuer import Algorithm, Binding, Issuer
from security.tokens.keys import Keyring, read_keyring

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
CERTIFICATE = b"the certificate of the peer, DER"
OTHER_CERTIFICATE = b"the certificate of another peer, DER"
ISSUER = Issuer(
    name="psc",
    issuer="https://provider.example/realms/care",
    audience="https://poterne.example/images",
    algorithms=frozenset({Algorithm.ES256, Algorithm.RS256, Algorithm.PS256}),
    roles={"urn:roles|doctor": Role.RADIOLOGIST, "gateway": Role.GATEWAY_PEER},
    tenant="chu",
)
BEARER = replace(ISSUER, binding=Binding.INTROSPECTION)


@cache
def key(kid: str = "one", algorithm: str = "ES256") -> LabKey:
    return LabKey.create(kid, algorithm)


def keyring(*keys: LabKey) -> Keyring:
    import json

    return read_keyring(json.dumps({"keys": [one.jwk for one in keys or (key(),)]}).encode())


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims; a change to None leaves one out."""
    found: dict[str, Any] = {
        "iss": ISSUER.issuer,
        "aud": ISSUER.audience,
        "sub": "899700000001",
        "iat": AT - 10,
        "exp": AT + 290,
        "scope": "openid RAD-107",
        "cnf": {"x5t#S256": thumbprint(CERTIFICATE)},
        "extensions": {
            "ihe_iua": {
                "subject_role": [{"system": "urn:roles", "code": "doctor"}],
                "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
            }
        },
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def judged(
    token: str, *, issuer: Issuer = ISSUER, ring: Keyring | None = None, certificate: bytes = CERTIFICATE
) -> Bearer:
    header = read_header(token, algorithms=issuer.algorithms, types=ACCESS_TOKEN_TYPES)
    return judge(token, header, issuer=issuer, keyring=ring or keyring(), certificate=certificate, now=NOW)
