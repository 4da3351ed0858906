"""Making XML signatures: enveloped in the element they sign, or over objects they hold themselves."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from security.keys.signer import LEGACY_ALGORITHM, Signer
from security.xmlsig.vocabulary import (
    DIGEST_URIS,
    DS,
    ENVELOPED,
    EXC_C14N,
    NS_DS,
    SIGNATURE_URIS,
    DigestName,
    canonical,
    lifted,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One ds:Reference to write. ``type``: its Type, "" for none; ``transforms``: their algorithms, in order."""

    uri: str
    digest: bytes
    type: str = ""
    transforms: Sequence[str] = ()


def digest_name(signer: Signer) -> DigestName:
    """The digest that goes with a signer: SHA-1 with the legacy algorithm only."""
    return "sha1" if signer.algorithm == LEGACY_ALGORITHM else "sha256"


def digest(signer: Signer, data: bytes) -> bytes:
    """The digest of ``data`` as this signer's signatures state it."""
    return hashlib.new(digest_name(signer), data, usedforsecurity=digest_name(signer) != "sha1").digest()


def put_digest(parent: etree._Element, namespace: str, signer: Signer, value: bytes) -> None:
    """DigestMethod and DigestValue under ``parent``."""
    etree.SubElement(parent, f"{{{namespace}}}DigestMethod", Algorithm=DIGEST_URIS[digest_name(signer)])
    etree.SubElement(parent, f"{{{namespace}}}DigestValue").text = _base64(value)


def signature(
    signer: Signer, *, c14n: str, references: Iterable[Reference], signature_id: str = ""
) -> etree._Element:
    """A ds:Signature with its SignedInfo and KeyInfo; its value waits for ``seal``."""
    made = etree.Element(DS + "Signature", nsmap={"ds": NS_DS})
    if signature_id:
        made.set("Id", signature_id)
    info = etree.SubElement(made, DS + "SignedInfo")
    etree.SubElement(info, DS + "CanonicalizationMethod", Algorithm=c14n)
    etree.SubElement(info, DS + "SignatureMethod", Algorithm=SIGNATURE_URIS[signer.algorithm])
    for one in references:
        put_reference(info, signer, one)
    etree.SubElement(made, DS + "SignatureValue")
    data = etree.SubElement(etree.SubElement(made, DS + "KeyInfo"), DS + "X509Data")
    etree.SubElement(data, DS + "X509Certificate").text = _base64(signer.certificate.public_bytes(Encoding.DER))
    return made


def put_reference(parent: etree._Element, signer: Signer, one: Reference) -> None:
    """A ds:Reference under SignedInfo or a Manifest."""
    element = etree.SubElement(parent, DS + "Reference", URI=one.uri)
    if one.type:
        element.set("Type", one.type)
    if one.transforms:
        transforms = etree.SubElement(element, DS + "Transforms")
        for algorithm in one.transforms:
            etree.SubElement(transforms, DS + "Transform", Algorithm=algorithm)
    put_digest(element, NS_DS, signer, one.digest)


def seal(made: etree._Element, signer: Signer) -> None:
    """Sign the SignedInfo, where it stands now, and write the value.

    Raises:
        Broken: ``certificate-expired``, ``certificate-not-yet-valid``.
    """
    info, value = made[0], made[1]
    value.text = _base64(_raw(signer, signer.sign(canonical(lifted(info), info[0].get("Algorithm", "")))))


def sign_enveloped(element: etree._Element, *, element_id: str, signer: Signer, at: int) -> None:
    """Put a signature of ``element``, whose id attribute is ``element_id``, into it as its child number ``at``.

    Raises:
        Broken: ``certificate-expired``, ``certificate-not-yet-valid``.
    """
    signed = Reference(
        uri=f"#{element_id}",
        digest=digest(signer, canonical(lifted(element), EXC_C14N)),
        transforms=(ENVELOPED, EXC_C14N),
    )
    made = signature(signer, c14n=EXC_C14N, references=(signed,))
    element.insert(at, made)
    seal(made, signer)


def _raw(signer: Signer, value: bytes) -> bytes:
    """XML-DSig wants r and s of ECDSA side by side (RFC 4050 §3.3, XML-DSig 1.1 §6.4.3), X.509 wants DER."""
    key = signer.certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return value
    r, s = decode_dss_signature(value)
    size = (key.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
