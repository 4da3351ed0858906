"""The signature document of a submission set: XAdES 1.1.1 over a manifest of digests (drim-m §5).

A ds:Manifest names the set and each signed document by ``urn:oid:<uniqueId>``; the signature covers that Manifest and
the XAdES SignedProperties. The set itself has no bytes to digest, so its digest is the sample's placeholder.

Inferred from one national sample: the ids, the c14n with comments, CertDigest in the XAdES namespace. A reader does
not look at what the signature leaves out (purpose, Id).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from indexer.report import Coded
from security.errors import BadInput
from security.keys.signer import Signer
from security.xmlsig.signing import Reference, digest, put_digest, put_reference, seal, signature
from security.xmlsig.verifying import Stated, Trust, is_digest_of, read_reference, verify_objects
from security.xmlsig.vocabulary import C14N, C14N_WITH_COMMENTS, DS, TYPE_MANIFEST, canonical, lifted

PURPOSE = Coded(code="1.2.840.10065.1.12.1.14", system="1.2.840.10065.1.12", display="Source")
_NS_XADES = "http://uri.etsi.org/01903/v1.1.1#"
_XADES = f"{{{_NS_XADES}}}"
_TYPE_PROPERTIES = _NS_XADES + "SignedProperties"
_MANIFEST_ID = "IHEManifest"
_PROPERTIES_ID = "S0-SignedProperties"
_NO_DIGEST = b"\x00"  # "AA==": a submission set has no bytes of its own

SetSigner = Signer
"""Who signs submission sets; its algorithm also fixes the digest of the documents."""


def signature_document(
    signature_id: str, *, set_unique_id: str, signed: Mapping[str, bytes], signing_time: datetime, sign: SetSigner
) -> bytes:
    """The document. ``signature_id``: its own uniqueId; ``signed``: documents of the set by uniqueId;
    ``signing_time``: aware.

    Raises:
        Broken: ``certificate-expired``, ``certificate-not-yet-valid``.
    """
    objects = (
        _purpose(signature_id),
        _manifest(set_unique_id, signed, sign),
        _properties(signature_id, signing_time, sign),
    )
    covered = ((_MANIFEST_ID, TYPE_MANIFEST, objects[1][0]), (_PROPERTIES_ID, _TYPE_PROPERTIES, objects[2][0][0]))
    references = [
        Reference(uri=f"#{name}", type=kind, digest=digest(sign, canonical(lifted(element), C14N)))
        for name, kind, element in covered
    ]
    made = signature(sign, c14n=C14N_WITH_COMMENTS, references=references, signature_id=signature_id)
    made.extend(objects)
    seal(made, sign)
    return etree.tostring(made, encoding="UTF-8", xml_declaration=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSet:
    """What a genuine signature document names: each reference by its URN."""

    references: Mapping[str, Stated]

    def covers(self, unique_id: str, document: bytes) -> bool:
        """Whether these bytes were signed as the document of that uniqueId."""
        stated = self.references.get(f"urn:oid:{unique_id}")
        return stated is not None and is_digest_of(stated, document)


def read_signature(document: bytes, *, trust: Trust, at: datetime) -> SignedSet:
    """What a signature document vouches for. ``at``: when the signer's certificate must be valid.

    Raises:
        BadInput: ``xml-…``, ``signature-…``: no genuine signature of a trusted certificate over a Manifest and
            XAdES properties that name that certificate.
    """
    signed = verify_objects(document, trust=trust, at=at, what="signature document")
    if signed.elements.keys() != {TYPE_MANIFEST, _TYPE_PROPERTIES}:
        raise _bad("not exactly a Manifest and its XAdES properties are signed", "reference")
    _check_properties(signed.elements[_TYPE_PROPERTIES], signed.certificate.public_bytes(Encoding.DER), trust)
    references: dict[str, Stated] = {}
    manifest = signed.elements[TYPE_MANIFEST]
    for element in manifest.iterchildren(etree.Element):
        one = read_reference(element, trust)
        if manifest.tag != DS + "Manifest" or element.tag != DS + "Reference" or one.uri in references:
            raise _bad("the Manifest holds something else than one Reference per document", "shape")
        if one.transforms:
            raise _bad("a document is signed through a transform", "transform")
        references[one.uri] = one
    return SignedSet(references=references)


def _purpose(signature_id: str) -> etree._Element:
    held = etree.Element(DS + "Object", nsmap={"ds": DS[1:-1]})
    properties = etree.SubElement(held, DS + "SignatureProperties")
    own = {"Id": "purposeOfSignature", "Target": f"#{signature_id}"}
    etree.SubElement(properties, DS + "SignatureProperty", own).text = PURPOSE.code
    return held


def _manifest(set_unique_id: str, signed: Mapping[str, bytes], sign: SetSigner) -> etree._Element:
    held = etree.Element(DS + "Object", nsmap={"ds": DS[1:-1]})
    manifest = etree.SubElement(held, DS + "Manifest", Id=_MANIFEST_ID)
    put_reference(manifest, sign, Reference(uri=f"urn:oid:{set_unique_id}", digest=_NO_DIGEST))
    for unique_id, document in signed.items():
        put_reference(manifest, sign, Reference(uri=f"urn:oid:{unique_id}", digest=digest(sign, document)))
    return held


def _properties(signature_id: str, signing_time: datetime, sign: SetSigner) -> etree._Element:
    held = etree.Element(DS + "Object", nsmap={"ds": DS[1:-1]})
    qualifying = etree.SubElement(
        held, _XADES + "QualifyingProperties", Target=f"#{signature_id}", nsmap={"xades": _NS_XADES}
    )
    properties = etree.SubElement(qualifying, _XADES + "SignedProperties", Id=_PROPERTIES_ID)
    stated = etree.SubElement(properties, _XADES + "SignedSignatureProperties")
    etree.SubElement(stated, _XADES + "SigningTime").text = f"{signing_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    one = etree.SubElement(etree.SubElement(stated, _XADES + "SigningCertificate"), _XADES + "Cert")
    der = sign.certificate.public_bytes(Encoding.DER)
    put_digest(etree.SubElement(one, _XADES + "CertDigest"), _NS_XADES, sign, digest(sign, der))
    issued = etree.SubElement(one, _XADES + "IssuerSerial")
    etree.SubElement(issued, DS + "X509IssuerName").text = sign.certificate.issuer.rfc4514_string()
    etree.SubElement(issued, DS + "X509SerialNumber").text = str(sign.certificate.serial_number)
    policy = etree.SubElement(stated, _XADES + "SignaturePolicyIdentifier")
    etree.SubElement(policy, _XADES + "SignaturePolicyImplied")
    return held


def _check_properties(properties: etree._Element, certificate: bytes, trust: Trust) -> None:
    """XAdES: the certificate of the signer is itself signed, so that no other one with the same key passes for it."""
    digests = list(properties.iter(_XADES + "CertDigest"))
    if properties.tag != _XADES + "SignedProperties" or len(digests) != 1:
        raise _bad("the properties name no certificate, or several", "shape")
    copy = etree.Element(DS + "Reference")
    for child in digests[0].iterchildren(etree.Element):
        made = etree.SubElement(copy, DS + etree.QName(child).localname, {str(k): str(v) for k, v in child.items()})
        made.text = child.text
    if not is_digest_of(read_reference(copy, trust), certificate):
        raise _bad("the properties name another certificate", "signer")


def _bad(message: str, code: str) -> BadInput:
    return BadInput(
        f"XML signature: {message}", code=f"signature-{code}", hint="the signer must follow the profile (XAdES 1.1.1)"
    )
