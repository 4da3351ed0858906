"""The one door to the JOSE library (joserfc): a signature under one key and one algorithm, both chosen here.

The library has a list of algorithms of its own when it is given none, so it is always given one; it judges neither
the header's members nor the claims: ``header`` and ``claims`` do.
"""

from __future__ import annotations

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from security.tokens.header import Header
from security.tokens.issuer import refused
from security.tokens.keys import VerificationKey


def signed_payload(token: str, key: VerificationKey, header: Header) -> bytes:
    """The payload of a token that this key signed.

    Raises:
        Refused: ``token-signature``.
    """
    try:
        jwk = dict(key.jwk)
        public = RSAKey.import_key(jwk) if key.jwk["kty"] == "RSA" else ECKey.import_key(jwk)  # type: ignore[arg-type]
        return jws.deserialize_compact(token, public, algorithms=[header.algorithm.value]).payload or b""
    except (JoseError, ValueError) as error:
        raise refused("the signature is not this issuer's", code="token-signature") from error
