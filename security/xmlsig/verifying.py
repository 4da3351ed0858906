"""Verifying XML signatures: see the package for what holds. Every refusal is ``BadInput`` ``signature-…``."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from security.errors import BadInput
from security.keys.signer import LEGACY_ALGORITHM
from security.keys.signer import verify as verify_value
from security.parse.mime import base64_strict
from security.parse.xml import parse_xml
from security.xmlsig.vocabulary import (
    C14N,
    CANONICALISATIONS,
    DIGESTS,
    DS,
    ENVELOPED,
    EXC_C14N,
    FILTER2,
    NS_EXC,
    SIGNATURES,
    canonical,
    lifted,
)

_ID_NAMES = frozenset({"id", "assertionid", "responseid", "requestid"})  # whatever a schema might call an id
_XML_ATTRIBUTE = "{http://www.w3.org/XML/1998/namespace}"
_PREFIX_LIST = f"{{{NS_EXC}}}InclusiveNamespaces"
_HINT = "the signer must sign anew, in the profile's own form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose signatures count. ``certificates``: the signing ones themselves, not their authorities."""

    certificates: tuple[x509.Certificate, ...]
    accepts_sha1: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One ds:Reference as it was signed or held in a signed Manifest. ``digest``: name and value."""

    uri: str
    type: str
    transforms: tuple[tuple[str, tuple[str, ...]], ...]
    digest: tuple[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a signature over its own objects covers: each signed element by the reference's Type, read again from
    the bytes that were digested. ``signature_id``: as stated, not signed."""

    certificate: x509.Certificate
    signature_id: str
    elements: Mapping[str, etree._Element] = field(repr=False)


def verify_enveloped(element: etree._Element, *, id_name: str, trust: Trust, at: datetime) -> etree._Element:
    """What the signature inside ``element`` signs: that element, without the signature, from the digested bytes.

    ``id_name``: the attribute that is the id of this kind of element.

    Raises:
        BadInput: ``signature-…``.
    """
    found = list(element.iter(DS + "Signature"))
    if len(found) != 1 or found[0].getparent() is not element:
        raise bad("missing", f"{len(found)} Signatures, exactly one is wanted, as a child of what it signs")
    forbid_comments(element)
    only_holder(element, element.get(id_name, ""))
    info, _ = signed_info(found[0], trust, at)
    if found[0].find(DS + "Object") is not None:
        raise bad("shape", "an enveloped signature holds no Object")
    references = [read_reference(one, trust) for one in info.iterchildren(DS + "Reference")]
    if len(references) != 1 or references[0].uri != f"#{element.get(id_name)}":
        raise bad("reference", "the signature does not sign exactly the element it stands in")
    (enveloped, *rest), one = references[0].transforms or (("", ()),), references[0]
    if enveloped != (ENVELOPED, ()) or len(rest) > 1:
        raise bad("transform", "the transforms are not enveloped-signature and one canonicalisation")
    copy = lifted(element)
    cut(next(copy.iterchildren(DS + "Signature")))
    return digested(copy, element, one, rest[0] if rest else (C14N, ()))


def verify_objects(document: bytes, *, trust: Trust, at: datetime, what: str) -> Signed:
    """A document whose root is a ds:Signature over elements inside its own Objects.

    Raises:
        BadInput: ``xml-…``, ``signature-…``.
    """
    root = parse_xml(document, what=what)
    if root.tag != DS + "Signature" or len(list(root.iter(DS + "Signature"))) != 1:
        raise bad("missing", "the root is not the only Signature of the document")
    forbid_comments(root)
    info, certificate = signed_info(root, trust, at)
    elements: dict[str, etree._Element] = {}
    for one in (read_reference(element, trust) for element in info.iterchildren(DS + "Reference")):
        if not one.type or one.type in elements:
            raise bad("reference", "a Reference has no Type, or two have the same")
        if len(one.transforms) > 1:
            raise bad("transform", "more than one canonicalisation")
        target = _object_child(root, one.uri)
        elements[one.type] = digested(
            lifted(target), target, one, one.transforms[0] if one.transforms else (C14N, ())
        )
    if not elements:
        raise bad("reference", "nothing is signed")
    return Signed(certificate=certificate, signature_id=root.get("Id", ""), elements=elements)


def read_reference(
    element: etree._Element, trust: Trust, *, filtered: Callable[[etree._Element], tuple[str, ...]] | None = None
) -> Stated:
    """A ds:Reference of a SignedInfo or a Manifest, its algorithms checked. ``filtered``: reads the parameters of a
    transform of XPath Filter 2.0, None where none is accepted.

    Raises:
        BadInput: ``signature-digest-method``, ``signature-transform``, ``signature-shape``.
    """
    transforms, method, value = (element.find(DS + name) for name in ("Transforms", "DigestMethod", "DigestValue"))
    algorithm = "" if method is None else method.get("Algorithm", "")
    name = DIGESTS.get(algorithm, "")
    if not name or (name == "sha1" and not trust.accepts_sha1):
        raise bad("digest-method", "a digest algorithm that is not accepted")
    found = () if transforms is None else transforms.iterchildren(etree.Element)
    listed = tuple(_transform(one, filtered) for one in found)
    return Stated(
        uri=element.get("URI", ""),
        type=element.get("Type", ""),
        transforms=listed,
        digest=(name, octets(value)),
    )


def is_digest_of(stated: Stated, data: bytes) -> bool:
    """Whether a reference states the digest of ``data``."""
    name, value = stated.digest
    return hmac.compare_digest(hashlib.new(name, data, usedforsecurity=name != "sha1").digest(), value)


def signed_info(element: etree._Element, trust: Trust, at: datetime) -> tuple[etree._Element, x509.Certificate]:
    """The SignedInfo, read again from the bytes whose signature is genuine, and by whom."""
    children = [child.tag for child in element.iterchildren(etree.Element)]
    head = [DS + "SignedInfo", DS + "SignatureValue"]
    if children[:2] != head or not {*children[2:]} <= {DS + "KeyInfo", DS + "Object"}:
        raise bad("shape", "a Signature holds SignedInfo, SignatureValue, KeyInfo and Objects")
    info = element[0]
    method, signing = info.find(DS + "CanonicalizationMethod"), info.find(DS + "SignatureMethod")
    if method is None or signing is None or len(method) or len(signing):
        raise bad("shape", "SignedInfo without its two methods, or methods with parameters")
    c14n, algorithm = method.get("Algorithm", ""), SIGNATURES.get(signing.get("Algorithm", ""), "")
    if c14n not in CANONICALISATIONS:
        raise bad("canonicalisation", "a canonicalisation that is not accepted")
    if not algorithm or (algorithm == LEGACY_ALGORITHM and not trust.accepts_sha1):
        raise bad("algorithm", "a signature algorithm that is not accepted")
    certificate = _certificate(element, trust, at)
    _no_inherited(info, c14n)
    data = canonical(lifted(info), c14n)
    value = _der(certificate, octets(element.find(DS + "SignatureValue")))
    verify_value(certificate, algorithm, data, value, accepts_sha1=trust.accepts_sha1)
    return parse_xml(data, what="SignedInfo"), certificate


def _certificate(element: etree._Element, trust: Trust, at: datetime) -> x509.Certificate:
    """The trusted certificate that KeyInfo names; the only one when it names none. KeyInfo only chooses."""
    shown = [octets(one) for one in element.iterfind(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate")]
    known = {one.public_bytes(Encoding.DER): one for one in trust.certificates}
    chosen = [known[one] for one in dict.fromkeys(shown) if one in known] if shown else list(trust.certificates)
    if len(chosen) != 1:
        raise bad("signer", "the certificate is not one of those trusted here")
    if not chosen[0].not_valid_before_utc <= at <= chosen[0].not_valid_after_utc:
        raise bad("certificate-expired", "the certificate of the signer is not valid at this time")
    return chosen[0]


def _der(certificate: x509.Certificate, value: bytes) -> bytes:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return value
    size = (key.key_size + 7) // 8
    if len(value) != 2 * size:
        raise bad("invalid", "an ECDSA signature of another length than the key's")
    return encode_dss_signature(int.from_bytes(value[:size], "big"), int.from_bytes(value[size:], "big"))


def digested(
    copy: etree._Element, original: etree._Element, one: Stated, method: tuple[str, tuple[str, ...]]
) -> etree._Element:
    """The element that the canonical bytes spell, once they have the digest that was signed.

    Raises:
        BadInput: ``signature-digest``, ``signature-transform``, ``signature-canonicalisation``.
    """
    algorithm, prefixes = method
    if algorithm not in CANONICALISATIONS:
        raise bad("transform", "a transform that is not accepted")
    _no_inherited(original, algorithm)
    data = canonical(copy, algorithm, prefixes)
    if not is_digest_of(one, data):
        raise bad("digest", "the signed element was altered, or is not the one that was signed")
    return parse_xml(data, what="signed element")


def _transform(
    element: etree._Element, filtered: Callable[[etree._Element], tuple[str, ...]] | None
) -> tuple[str, tuple[str, ...]]:
    """Algorithm and, for exclusive canonicalisation, the prefixes of InclusiveNamespaces."""
    algorithm = element.get("Algorithm", "")
    if element.tag != DS + "Transform":
        raise bad("shape", "Transforms hold something else")
    if algorithm == FILTER2 and filtered is not None:
        return algorithm, filtered(element)
    parameters = list(element.iterchildren(etree.Element))
    if not parameters:
        return algorithm, ()
    prefixes = tuple(parameters[0].get("PrefixList", "").split())
    if len(parameters) > 1 or parameters[0].tag != _PREFIX_LIST or not algorithm.startswith(EXC_C14N):
        raise bad("transform", "a transform with parameters that are not accepted")
    if "#default" in prefixes:
        raise bad("transform", "InclusiveNamespaces with #default")
    return algorithm, prefixes


def _object_child(root: etree._Element, uri: str) -> etree._Element:
    """The element inside an Object that a same-document reference names, by string: ids may begin with a digit."""
    if not uri.startswith("#") or len(uri) < 2:
        raise bad("reference", "a reference that leaves the document")
    holders = [one for one in root.iter(etree.Element) if one.get("Id") == uri[1:]]
    if len(holders) != 1 or not any(parent.tag == DS + "Object" for parent in holders[0].iterancestors()):
        raise bad("reference", f"{len(holders)} elements have the id that is signed, or it is in no Object")
    only_holder(holders[0], uri[1:])
    return holders[0]


def only_holder(element: etree._Element, value: str) -> None:
    """Nothing else in the whole document may be taken for the element of that id."""
    named = [
        one
        for one in element.getroottree().iter(etree.Element)
        for name, stated in one.attrib.items()
        if etree.QName(name).localname.lower() in _ID_NAMES and stated.strip() == value
    ]
    if not value or named != [element]:
        raise bad("duplicate-id", "the id of the signed element is missing or not its own")


def _no_inherited(element: etree._Element, algorithm: str) -> None:
    """Inclusive canonicalisation also digests xml: attributes of ancestors; no profile of ours has any."""
    inclusive = not algorithm.startswith(EXC_C14N)
    if inclusive and any(str(n).startswith(_XML_ATTRIBUTE) for a in element.iterancestors() for n in a.attrib):
        raise bad("canonicalisation", "an xml: attribute above what is signed")


def forbid_comments(element: etree._Element) -> None:
    """Nothing that one reader sees and another does not.

    Raises:
        BadInput: ``signature-comment``.
    """
    if next(element.iter(etree.Comment, etree.ProcessingInstruction, etree.Entity), None) is not None:
        raise bad("comment", "a comment or processing instruction inside what is signed")


def cut(element: etree._Element) -> None:
    """Remove an element and nothing else: text behind it stays."""
    parent, before = element.getparent(), element.getprevious()
    assert parent is not None, "a signature that stands inside what it signs"
    if before is None:
        parent.text = (parent.text or "") + (element.tail or "")
    else:
        before.tail = (before.tail or "") + (element.tail or "")
    element.tail = None
    parent.remove(element)


def octets(element: etree._Element | None) -> bytes:
    """Base64 as XML signatures write it: folded anywhere."""
    if element is None or len(element):
        raise bad("shape", "a value is missing or holds elements")
    return base64_strict("".join((element.text or "").split()).encode("ascii", "replace"))


def bad(code: str, message: str) -> BadInput:
    """A refusal of a signature."""
    return BadInput(f"XML signature: {message}", code=f"signature-{code}", hint=_HINT)
