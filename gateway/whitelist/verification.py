"""Whether a document is the network's white list, signed by the one who signs it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway.whitelist.document import WhiteList, white_list
from security.errors import BadInput
from security.keys.revocation import Trust
from security.xmlsig.listed import verify_listed

_AHEAD_MAX = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Who signs: its common name and organizational unit, both."""

    common_name: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedList:
    """A list whose signature holds. ``signer``: its name (RFC 4514)."""

    content: WhiteList
    signer: str
    signed_at: datetime


def verified(document: bytes, *, signer: Signer, trust: Trust, now: datetime) -> VerifiedList:
    """The list in ``document``.

    Raises:
        BadInput: ``xml-…``, ``signature-…``, ``white-list-…``; ``white-list-future`` it is of a day that is to come.
    """

    def believes(certificate: x509.Certificate) -> str:
        return _not_the_signer(certificate, signer) or trust.refuses(certificate.public_bytes(Encoding.DER))

    found = verify_listed(document, believes=believes, at=now, what="white list")
    content = white_list(found.root)
    if content.generated_at > now + _AHEAD_MAX or found.signed_at > now + _AHEAD_MAX:
        raise BadInput(
            "white list: it was made in the future",
            code="white-list-future",
            hint="compare this machine's clock, then tell whoever publishes the list",
        )
    return VerifiedList(content=content, signer=found.certificate.subject.rfc4514_string(), signed_at=found.signed_at)


def _not_the_signer(certificate: x509.Certificate, signer: Signer) -> str:
    """Why a certificate is not the pinned signer's: each name exactly once, and a key that may sign documents."""
    for oid, wanted in ((NameOID.COMMON_NAME, signer.common_name), (NameOID.ORGANIZATIONAL_UNIT_NAME, signer.unit)):
        if [one.value for one in certificate.subject.get_attributes_for_oid(oid)] != [wanted]:
            return "another name"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return "no key usage"
    return "" if usage.digital_signature or usage.content_commitment else "a key for another use"
