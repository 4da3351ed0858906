"""The back channel to one identity provider: its configured addresses, over mutual TLS, and nothing else.

Invariants:

* whatever goes wrong on the way or in the answer's form is ``Unavailable``: nobody is let in on it (T44);
* a redirect is an answer like any other wrong one; an answer has a cap and the exchange a deadline;
* we prove ourselves by our certificate, and beside it by a secret from a file when the provider wants one.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from gateway.certificates.fetch import Answer, Fetcher
from gateway.settings import IdentityProviderSettings
from security.errors import BadInput, Refused, Unavailable
from security.parse.json import parse_json
from security.secrets import read_secret
from security.tokens.introspection import ANSWER_BYTES_MAX
from security.tokens.keys import JWKS_BYTES_MAX, Keyring, read_keyring
from security.tokens.signin import states_issuer

TIMEOUT_S: Final = 5.0
_TOKEN = re.compile(r"[!-~]+", re.ASCII)
"""What may stand in a header after Bearer (RFC 6749 §A.12, without the blank)."""
_FORM: Final = "application/x-www-form-urlencoded"


class Channel:
    """One provider. ``tls``: the context of its link, with our certificate and its authorities."""

    def __init__(self, settings: IdentityProviderSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._fetcher = Fetcher(settings.networks, timeout_s=TIMEOUT_S)

    async def keyring(self) -> Keyring:
        """Its published keys.

        Raises:
            Unavailable: ``provider-…``.
        """
        answer = await self._ask(self._settings.jwks_url, bytes_max=JWKS_BYTES_MAX)
        try:
            return read_keyring(_good(answer))
        except BadInput as fault:
            raise _unusable(fault.code) from fault

    async def states_issuer(self) -> bool:
        """Whether its metadata say that ``iss`` is in what it sends back (OpenID Connect Discovery §4).

        Raises:
            Unavailable: ``provider-…``.
        """
        place = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = await self._ask(place, bytes_max=ANSWER_BYTES_MAX)
        try:
            return states_issuer(_object(_good(answer)), self._settings.issuer)
        except BadInput as fault:
            raise _unusable(fault.code) from fault

    async def introspection(self, token: str) -> bytes:
        """Its answer about a token (RFC 7662 §2).

        Raises:
            Unavailable: ``provider-…``.
        """
        form = {"token": token, "token_type_hint": "access_token", "client_id": self._settings.client_id}
        answer = await self._ask(self._settings.introspection_url, form=form, bytes_max=ANSWER_BYTES_MAX)
        return _good(answer)

    async def tokens(self, grant: Mapping[str, str]) -> tuple[str, str]:
        """ID token and access token for a code (OpenID Connect Core §3.1.3).

        Raises:
            Refused: ``signin-code`` the provider does not take the code.
            Unavailable: ``provider-…``.
        """
        answer = await self._ask(self._settings.token_url, form=grant, bytes_max=ANSWER_BYTES_MAX)
        if answer.status in {400, 401}:
            raise Refused("the provider does not take the code", code="signin-code", hint="begin the login again")
        said = _object(_good(answer))
        given = said.get("id_token"), said.get("access_token"), said.get("token_type")
        match given:
            case (str(id_token), str(access_token), str(kind)) if kind.lower() == "bearer":
                if _TOKEN.fullmatch(id_token) and _TOKEN.fullmatch(access_token):
                    return id_token, access_token
        raise _unusable("no identity and no bearer token")

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """What it says of the person (OpenID Connect Core §5.3), as JSON.

        Raises:
            Unavailable: ``provider-…``.
        """
        answer = await self._ask(
            self._settings.userinfo_url,
            headers={"Authorization": f"Bearer {access_token}"},
            bytes_max=ANSWER_BYTES_MAX,
        )
        return _object(_good(answer))

    async def _ask(
        self,
        url: str,
        *,
        bytes_max: int,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        try:
            return await self._fetcher.ask(
                url,
                tls=self._tls,
                bytes_max=bytes_max,
                body=urlencode(form).encode() if form is not None else None,
                content_type=_FORM if form is not None else "",
                headers={**(headers or {}), **(self._secret() if form is not None else {})},
            )
        except (BadInput, Refused) as fault:
            raise _unusable(fault.code) from fault

    def _secret(self) -> Mapping[str, str]:
        """``client_secret_basic`` (RFC 6749 §2.3.1) when there is a secret, read each time: it may change."""
        file = self._settings.client_secret_file
        if file is None:
            return {}
        secret = read_secret(file, what="secret at the identity provider").strip().decode("utf-8", "strict")
        pair = f"{quote(self._settings.client_id, safe='')}:{quote(secret, safe='')}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _good(answer: Answer) -> bytes:
    if answer.status != 200:
        raise _unusable(f"HTTP {answer.status}")
    return answer.body


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        said = parse_json(data, what="answer of the identity provider", limit=ANSWER_BYTES_MAX)
    except BadInput as fault:
        raise _unusable(fault.code) from fault
    if not isinstance(said, dict):
        raise _unusable("no object")
    return said


def _unusable(why: str) -> Unavailable:
    return Unavailable(
        f"the identity provider's answer cannot be used ({why})",
        code="provider-answer",
        hint="ask who runs it; until it answers, nobody is let in through it",
    )
