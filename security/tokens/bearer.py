"""An access token becomes a subject of the policy (IUA ITI-72, RFC 8705, RFC 9068).

Invariants:

* a token counts only from the peer whose certificate it names (``cnf.x5t#S256``); where the network's token is a
  bearer, only from a peer that showed a verified certificate, and only while its issuer says it is active (T42);
* a confirmation that is there is checked, whatever the issuer's rule asks;
* a role comes from the table of the issuer, and never one that is an account's;
* purposes that contradict each other, or that nobody mapped, are refused: breaking the glass is done here, by a
  person who is asked why.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from security.policy import Purpose, Role, Subject
from security.tokens.claims import Claims, Expected, read_claims, text_claim
from security.tokens.header import Header
from security.tokens.issuer import GRANTABLE, Binding, Issuer, refused
from security.tokens.keys import Keyring
from security.tokens.signature import signed_payload

PURPOSES: Final[Mapping[str, Purpose]] = {"TREAT": Purpose.TREATMENT}
"""Of HL7 v3 PurposeOfUse; the others are not granted by a token."""
_CODINGS_MAX: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Who shows a token that is believed, and what for. ``needs_introspection``: only if its issuer agrees now;
    ``patient``, ``document``: what ``extensions.ihe_bppc`` limits it to, "" for no limit."""

    subject: Subject
    purpose: Purpose
    claims: Claims
    needs_introspection: bool
    patient: str = ""
    document: str = ""


def judge(
    token: str, header: Header, *, issuer: Issuer, keyring: Keyring, certificate: bytes, now: datetime
) -> Bearer:
    """What a token is good for. ``header``: as ``read_header`` gave it under the issuer's algorithms;
    ``certificate``: that of the peer (DER), as TLS verified it, b"" without one.

    Raises:
        Refused: ``token-…``.
    """
    payload = signed_payload(token, keyring.key(header), header)
    expected = Expected(
        issuer=issuer.issuer, audience=issuer.audience, skew_s=issuer.skew_s, life_s_max=issuer.life_s_max
    )
    claims = read_claims(payload, expected, now=now)
    check_binding(claims.all, issuer.binding, certificate)
    if not issuer.scopes <= set(text_claim(claims.all, "scope").split(" ")):
        raise refused("the token's scope does not cover this", code="token-scope", hint="ask for the scope")
    iua, bppc = _extension(claims, "ihe_iua"), _extension(claims, "ihe_bppc")
    return Bearer(
        subject=Subject(
            name=f"{issuer.name}:{claims.subject}",
            roles=frozenset({_role(iua, issuer)}),
            tenant=issuer.tenant,
        ),
        purpose=_purpose(iua, issuer),
        claims=claims,
        needs_introspection=issuer.binding is Binding.INTROSPECTION,
        patient=text_claim(bppc, "patient_id"),
        document=text_claim(bppc, "doc_id"),
    )


def thumbprint(certificate: bytes) -> str:
    """``x5t#S256`` of a certificate in DER form (RFC 8705 §3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()


def check_binding(claims: Mapping[str, Any], binding: Binding, certificate: bytes) -> None:
    """Whether who shows the token is who it was issued to.

    Raises:
        Refused: ``token-no-certificate``, ``token-unbound``, ``token-of-another``.
    """
    if not certificate:
        raise refused("the connection shows no certificate", code="token-no-certificate", hint="connect with it")
    confirmation = claims.get("cnf")
    if confirmation is None and binding is Binding.INTROSPECTION:
        return
    stated = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(stated, str) or len(confirmation or {}) != 1:
        raise refused("the token is not bound to a certificate", code="token-unbound")
    if not hmac.compare_digest(stated.encode(), thumbprint(certificate).encode()):
        raise refused("the token was issued to another certificate", code="token-of-another")


def _extension(claims: Claims, name: str) -> Mapping[str, Any]:
    """A member of ``extensions`` (IUA §3.71), empty when absent."""
    extensions = claims.all.get("extensions", {})
    found = extensions.get(name, {}) if isinstance(extensions, dict) else None
    if not isinstance(found, dict):
        raise refused("extensions are no objects", code="token-claims")
    return found


def _codes(iua: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """System and code of the FHIR Codings of one member."""
    codings = iua.get(name, [])
    codings = [codings] if isinstance(codings, dict) else codings
    if (
        not isinstance(codings, list)
        or len(codings) > _CODINGS_MAX
        or not all(isinstance(one, dict) for one in codings)
    ):
        raise refused(f"{name} is no list of codings", code="token-claims")
    return [(text_claim(one, "system"), text_claim(one, "code")) for one in codings]


def _role(iua: Mapping[str, Any], issuer: Issuer) -> Role:
    stated = _codes(iua, "subject_role")
    mapped = [issuer.roles.get(f"{system}|{code}") or issuer.roles.get(code) for system, code in stated]
    role = next((one for one in mapped if one), None) if stated else issuer.role
    if role is None or role not in GRANTABLE:
        raise refused("the token gives no role here", code="token-role", hint="have the role mapped, or ask for it")
    return role


def _purpose(iua: Mapping[str, Any], issuer: Issuer) -> Purpose:
    stated = _codes(iua, "purpose_of_use")
    found = {PURPOSES.get(code) for _, code in stated} if stated else {issuer.purpose}
    purpose = found.pop() if len(found) == 1 else None
    if purpose is None:
        raise refused("the token's purpose is not one that is served", code="token-purpose")
    return purpose
