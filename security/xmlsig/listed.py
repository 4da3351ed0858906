"""Verifying a document that carries its own XAdES-BASELINE-B signature, cut out by XPath Filter 2.0 (drim-m §10,
ETSI EN 319 132-1, W3C xmldsig-filter2): the white list of a network.

On top of what the package promises:

* the one Signature is a child of the root and signs the whole document but itself, nothing else and nothing less:
  the expression of the filter is one of a short list that says exactly that, so no XPath of the sender is run;
* the signed properties state the digest of the certificate that signed, and are of this signature;
* the signer is believed by the caller, who is shown the certificate: KeyInfo only proposes;
* nothing stands before or after the root, and no Object holds anything but the properties.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from security.keys.revocation import read_certificate
from security.parse.xml import parse_xml
from security.xmlsig.verifying import (
    Stated,
    Trust,
    bad,
    cut,
    digested,
    forbid_comments,
    octets,
    only_holder,
    read_reference,
    signed_info,
)
from security.xmlsig.vocabulary import C14N, DIGESTS, DS, EXC_C14N, FILTER2, NS_DS, lifted

XADES = "{http://uri.etsi.org/01903/v1.3.2#}"
TYPE_PROPERTIES = "http://uri.etsi.org/01903#SignedProperties"
SIZE_MAX = 8 * 1024 * 1024
_XPATH = f"{{{FILTER2}}}XPath"
_WHOLE_BUT_ITSELF = frozenset(
    {
        "/descendant::{ds}:Signature",
        "//{ds}:Signature",
        "here()/ancestor::{ds}:Signature[1]",
    }
)
"""Subtracted, each leaves the whole document without its one Signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What was signed, read again from the digested bytes, by whom and, as the signer says, when."""

    root: etree._Element = field(repr=False)
    certificate: x509.Certificate
    signed_at: datetime


def verify_listed(document: bytes, *, believes: Callable[[x509.Certificate], str], at: datetime, what: str) -> Listed:
    """The document without its signature. ``believes``: why a certificate may not sign it, "" when it may.

    Raises:
        BadInput: ``xml-…``, ``signature-…``.
    """
    root = parse_xml(document, what=what, limit=SIZE_MAX)
    found = list(root.iter(DS + "Signature"))
    if len(found) != 1 or found[0].getparent() is not root:
        raise bad("missing", f"{len(found)} Signatures, exactly one is wanted, as a child of the root")
    _alone(root)
    forbid_comments(root)
    properties = _properties(found[0])
    certificate = _signer(found[0], properties, believes)
    info, _ = signed_info(found[0], Trust(certificates=(certificate,)), at)
    trust = Trust(certificates=())
    references = [read_reference(one, trust, filtered=_filter) for one in info.iterchildren(DS + "Reference")]
    of_document = [one for one in references if not one.type and one.uri == ""]
    of_properties = [one for one in references if one.type == TYPE_PROPERTIES]
    if any(one.get("URI") is None for one in info.iterchildren(DS + "Reference")):
        raise bad("reference", "a reference to what only the receiver could know")
    if len(references) != 2 or len(of_document) != 1 or len(of_properties) != 1:
        raise bad("reference", "the document and the signed properties are not what is signed, once each")
    signed = _whole(root, of_document[0])
    stated = _signed_properties(properties, of_properties[0])
    return Listed(root=signed, certificate=certificate, signed_at=_signing_time(stated))


def _alone(root: etree._Element) -> None:
    """A reference to the whole document also covers what stands beside the root; nothing does."""
    if root.getprevious() is not None or root.getnext() is not None:
        raise bad("comment", "something stands before or after the document")


def _properties(signature: etree._Element) -> etree._Element:
    """The SignedProperties of the one Object."""
    objects = signature.findall(DS + "Object")
    held = list(objects[0].iterchildren()) if len(objects) == 1 else []
    if len(held) != 1 or held[0].tag != XADES + "QualifyingProperties":
        raise bad("shape", "not exactly one Object with the qualifying properties alone")
    signed = held[0].findall(XADES + "SignedProperties")
    target = signature.get("Id", "")
    if len(signed) != 1 or not target or held[0].get("Target") != f"#{target}":
        raise bad("shape", "the properties are not those of this signature")
    return signed[0]


def _signer(
    signature: etree._Element, properties: etree._Element, believes: Callable[[x509.Certificate], str]
) -> x509.Certificate:
    """The one certificate of KeyInfo whose digest the signed properties state, when the caller believes it."""
    path = f"{XADES}SignedSignatureProperties/{XADES}SigningCertificateV2/{XADES}Cert/{XADES}CertDigest"
    stated = properties.findall(path)
    if len(stated) != 1:
        raise bad("signer", "the signed properties do not state one signing certificate")
    method, value = stated[0].find(DS + "DigestMethod"), stated[0].find(DS + "DigestValue")
    name = DIGESTS.get("" if method is None else method.get("Algorithm", ""), "")
    if name not in {"sha256", "sha384", "sha512"}:
        raise bad("digest-method", "the digest of the signing certificate is of an algorithm that is not accepted")
    wanted = octets(value)
    for element in signature.iterfind(f"{DS}KeyInfo/{DS}X509Data/{DS}X509Certificate"):
        shown = read_certificate(octets(element))
        if hmac.compare_digest(hashlib.new(name, shown.public_bytes(Encoding.DER)).digest(), wanted):
            why = believes(shown)
            if why:
                raise bad("signer", f"the signer is not believed: {why}")
            return shown
    raise bad("signer", "the certificate that signed is not in KeyInfo")


def _whole(root: etree._Element, one: Stated) -> etree._Element:
    """The document without its signature, once its digest is the one that was signed."""
    (filtered, expression), *rest = one.transforms or (("", ()),)
    if filtered != FILTER2 or expression != ("subtract",) or rest != [(EXC_C14N, ())]:
        raise bad("transform", "the transforms are not a subtraction of the signature, then exclusive c14n")
    copy = lifted(root)
    cut(next(copy.iterchildren(DS + "Signature")))
    return digested(copy, root, one, rest[0])


def _signed_properties(properties: etree._Element, one: Stated) -> etree._Element:
    identifier = properties.get("Id", "")
    if one.uri != f"#{identifier}":
        raise bad("reference", "the properties that are signed are not those of this signature")
    only_holder(properties, identifier)
    if len(one.transforms) > 1:
        raise bad("transform", "more than one canonicalisation of the properties")
    method = one.transforms[0] if one.transforms else (C14N, ())
    return digested(lifted(properties), properties, one, method)


def _signing_time(properties: etree._Element) -> datetime:
    text = properties.findtext(f"{XADES}SignedSignatureProperties/{XADES}SigningTime", "")
    try:
        stated = datetime.fromisoformat(text.strip())
    except ValueError:
        raise bad("shape", "the signing time cannot be read") from None
    if stated.tzinfo is None:
        raise bad("shape", "the signing time has no zone")
    return stated


def _filter(transform: etree._Element) -> tuple[str, ...]:
    """``("subtract",)`` for a filter that subtracts exactly the signature."""
    held = list(transform.iterchildren(etree.Element))
    if len(held) != 1 or held[0].tag != _XPATH or held[0].get("Filter") != "subtract" or len(held[0]):
        raise bad("transform", "a filter that is not one subtraction")
    expression = "".join((held[0].text or "").split())
    prefixes = [prefix for prefix, uri in held[0].nsmap.items() if prefix and uri == NS_DS]
    if not any(expression == form.format(ds=prefix) for form in _WHOLE_BUT_ITSELF for prefix in prefixes):
        raise bad("transform", "a filter that does not subtract the signature, and it alone")
    return ("subtract",)
