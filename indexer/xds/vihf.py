"""The assertion that accompanies a request to the national index: VIHF, a SAML 2.0 assertion (drim-m §6).

Invariants:

* an assertion is made for one request: a fresh id, valid for minutes, signed with the SIGN key (enveloped);
* it speaks for a machine (INDIRECTE, role AUTOMATE) unless the report names the person it publishes for;
* ``subject-id`` names the software, never the patient (the national samples put the patient there);
* a reader believes what was signed alone, and of a signer it was told of.

Inferred, because no public text says it: the name of the attribute of a secret connection, that 3.0 and 4.0 differ in
VIHF_Version only, and that a query by uniqueId may leave ``resource-id`` out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from lxml import etree

from indexer.codes import table
from indexer.report import Coded, Professional
from indexer.xds.vocabulary import NS_WSSE
from security.errors import BadInput
from security.keys.signer import Signer
from security.xmlsig.signing import sign_enveloped
from security.xmlsig.verifying import Trust, verify_enveloped

NS_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
VALIDITY = timedelta(minutes=5)
SKEW = timedelta(seconds=60)
_SAML = f"{{{NS_SAML}}}"
_NS_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_HL7 = "{urn:hl7-org:v3}"
_XSI_TYPE = f"{{{_NS_XSI}}}type"
_X509_NAME = "urn:oasis:names:tc:SAML:1.1:nameid-format:X509SubjectName"
_TLS_CLIENT = "urn:oasis:names:tc:SAML:2.0:ac:classes:TLSClient"
_SECTORS = "1.2.250.1.71.4.2.4"
_PURPOSE = Coded(code="normal", system="1.2.250.1.213.1.1.4.248", display="Accès normal")
SUBJECT_ID = "urn:oasis:names:tc:xspa:1.0:subject:subject-id"
RESOURCE_ID = "urn:oasis:names:tc:xacml:2.0:resource:resource-id"
PURPOSE_OF_USE = "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse"
ROLE = "urn:oasis:names:tc:xacml:2.0:subject:role"
CONFIDENTIALITY = "urn:oasis:names:tc:xacml:2.0:resource:confidentiality-code"
SECRET = "CONNEXION_SECRETE"  # noqa: S105  a flag of the report
_NEEDED = frozenset(
    {
        "VIHF_Version",
        "Authentification_Mode",
        "Ressource_URN",
        "Identifiant_Structure",
        SUBJECT_ID,
        PURPOSE_OF_USE,
        ROLE,
    }
)
_VERSIONS = frozenset({"3.0", "4.0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The tenant's part of every assertion. ``sector``: code of the sector of activity (SA01…); ``software``,
    ``model``, ``software_version``: of this gateway; ``homologation``: LPS_ID_HOMOLOGATION_DMP, "" for none."""

    version: Literal["3.0", "4.0"]
    sector: str
    structure_id: str
    lps_id: str
    software: str
    model: str
    software_version: str
    homologation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one request is about. ``patient_id``: CX under which the index knows the patient, "" when the request
    names none; ``is_secret``: CONNEXION_SECRETE; ``sender``: on whose behalf the report came (PRT-4 SB)."""

    patient_id: str = ""
    is_secret: bool = False
    sender: Professional | None = None

    def __repr__(self) -> str:
        return "Errand(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vihf:
    """A genuine assertion. ``attributes``: values, or codes, by name; never logged: it may name a patient."""

    assertion_id: str
    expires_at: datetime
    attributes: Mapping[str, tuple[str, ...]]

    def __repr__(self) -> str:
        return "Vihf(…)"


def security_header(claims: Claims, errand: Errand, *, assertion_id: str, now: datetime, signer: Signer) -> bytes:
    """The wsse:Security header block that holds a new assertion. ``assertion_id``: an NCName nobody used before.

    Raises:
        BadInput: ``vihf-character`` a value holds a control character.
        Broken: ``certificate-expired``, ``certificate-not-yet-valid``.
    """
    try:
        assertion = _assertion(claims, errand, assertion_id, now, signer.certificate)
    except ValueError:
        raise BadInput(
            "VIHF: a value holds a character that XML forbids",
            code="vihf-character",
            hint="correct [tenants.<name>.index] and [tenants.<name>.publisher], or the sender of the report",
        ) from None
    sign_enveloped(assertion, element_id=assertion_id, signer=signer, at=1)
    header = etree.Element(f"{{{NS_WSSE}}}Security", nsmap={"wsse": NS_WSSE})
    header.append(assertion)
    return etree.tostring(header, encoding="UTF-8", xml_declaration=False)


def read_security_header(header: etree._Element | None, *, trust: Trust, now: datetime) -> Vihf:
    """The assertion of a wsse:Security header, where it stands in the message it came in.

    Raises:
        BadInput: ``vihf-missing``, ``vihf-shape``, ``vihf-not-valid-now``, ``vihf-attributes``, ``signature-…``.
    """
    held = [] if header is None else list(header.iter(_SAML + "Assertion"))
    if len(held) != 1 or held[0].getparent() is not header:
        raise _bad("missing", f"{len(held)} assertions, exactly one is wanted, in the wsse:Security header")
    signed = verify_enveloped(held[0], id_name="ID", trust=trust, at=now)
    if signed.tag != _SAML + "Assertion" or signed.get("Version") != "2.0":
        raise _bad("shape", "no SAML 2.0 assertion was signed")
    expires_at = _valid_until(signed, now)
    attributes = dict(_attributes(signed))
    missing = sorted(_NEEDED - attributes.keys())
    if missing:
        raise _bad("attributes", f"without {', '.join(name.rpartition(':')[2] for name in missing)}")
    if not set(attributes["VIHF_Version"]) <= _VERSIONS:
        raise _bad("attributes", "a VIHF_Version other than 3.0 and 4.0")
    return Vihf(assertion_id=signed.get("ID", ""), expires_at=expires_at, attributes=attributes)


# -- writing -----------------------------------------------------------------------------------------------------


def _assertion(
    claims: Claims, errand: Errand, assertion_id: str, now: datetime, certificate: x509.Certificate
) -> etree._Element:
    own = {"ID": assertion_id, "Version": "2.0", "IssueInstant": _instant(now)}
    made = etree.Element(_SAML + "Assertion", own, nsmap={"saml": NS_SAML, "xsi": _NS_XSI})
    etree.SubElement(made, _SAML + "Issuer", Format=_X509_NAME).text = certificate.subject.rfc4514_string()
    subject = etree.SubElement(made, _SAML + "Subject")
    etree.SubElement(subject, _SAML + "NameID").text = _name_id(claims, errand)
    validity = {"NotBefore": _instant(now - SKEW), "NotOnOrAfter": _instant(now + VALIDITY)}
    etree.SubElement(made, _SAML + "Conditions", validity)
    authenticated = etree.SubElement(made, _SAML + "AuthnStatement", AuthnInstant=_instant(now))
    context = etree.SubElement(authenticated, _SAML + "AuthnContext")
    etree.SubElement(context, _SAML + "AuthnContextClassRef").text = _TLS_CLIENT
    statement = etree.SubElement(made, _SAML + "AttributeStatement")
    for name, value in _texts(claims, errand):
        _attribute(statement, name).text = value
    _coded(statement, PURPOSE_OF_USE, "PurposeOfUse", _PURPOSE)
    for role in _roles(errand):
        _coded(statement, ROLE, "Role", role)
    return made


def _texts(claims: Claims, errand: Errand) -> Iterator[tuple[str, str]]:
    yield "VIHF_Version", claims.version
    yield "Authentification_Mode", "INDIRECTE"
    yield "Secteur_Activite", f"{claims.sector}^{_SECTORS}"
    yield "Ressource_URN", "urn:dmp"
    yield SUBJECT_ID, f"{claims.software} {claims.model}"
    yield "Identifiant_Structure", _structure(claims, errand)
    yield "LPS_ID", claims.lps_id
    yield "LPS_Nom", claims.software
    yield "LPS_Version", claims.software_version
    if claims.homologation:
        yield "LPS_ID_HOMOLOGATION_DMP", claims.homologation
    if errand.patient_id:
        yield RESOURCE_ID, errand.patient_id
    if errand.is_secret:
        yield CONFIDENTIALITY, SECRET


def _structure(claims: Claims, errand: Errand) -> str:
    """The structure the report was sent for, the tenant's own where none is stated."""
    sent_for = errand.sender.organization if errand.sender else None
    return sent_for.identifier if sent_for and sent_for.identifier else claims.structure_id


def _name_id(claims: Claims, errand: Errand) -> str:
    return errand.sender.identifier if errand.sender and errand.sender.identifier else _structure(claims, errand)


def _roles(errand: Errand) -> Iterator[Coded]:
    if errand.sender is None or errand.sender.profession is None:
        yield table("role").coded("AUTOMATE")
        return
    yield errand.sender.profession


def _coded(statement: etree._Element, name: str, tag: str, value: Coded) -> None:
    """A CE of HL7 v3 as an attribute's value (XSPA)."""
    own = {"code": value.code, "codeSystem": value.system, "displayName": value.display or value.code}
    holder = _attribute(statement, name)
    etree.SubElement(holder, _HL7 + tag, {_XSI_TYPE: "hl7:CE", **own}, nsmap={"hl7": _HL7[1:-1]})


def _attribute(statement: etree._Element, name: str) -> etree._Element:
    return etree.SubElement(etree.SubElement(statement, _SAML + "Attribute", Name=name), _SAML + "AttributeValue")


def _instant(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- reading -----------------------------------------------------------------------------------------------------


def _valid_until(assertion: etree._Element, now: datetime) -> datetime:
    """NotOnOrAfter, once both bounds hold and lie close enough together for a request of one moment."""
    conditions = list(assertion.iterchildren(_SAML + "Conditions"))
    stated = [_moment(conditions[0].get(name, "")) for name in ("NotBefore", "NotOnOrAfter")] if conditions else []
    if len(conditions) != 1 or None in stated:
        raise _bad("shape", "no Conditions with NotBefore and NotOnOrAfter")
    since, until = (one for one in stated if one is not None)
    if not since - SKEW <= now < until + SKEW or until - since > 12 * VALIDITY:
        raise _bad("not-valid-now", "the assertion is not valid at this time, or for longer than an hour")
    return until


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _attributes(assertion: etree._Element) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and values of each attribute; a coded value is its code. A name stands once."""
    seen: dict[str, list[str]] = {}
    for element in assertion.iterfind(f"{_SAML}AttributeStatement/{_SAML}Attribute"):
        values = seen.setdefault(element.get("Name", ""), [])
        for value in element.iterchildren(_SAML + "AttributeValue"):
            coded = [child.get("code", "") for child in value.iterchildren(etree.Element)]
            values += coded or [(value.text or "").strip()]
    yield from ((name, tuple(values)) for name, values in seen.items())


def _bad(code: str, message: str) -> BadInput:
    return BadInput(
        f"VIHF: {message}", code=f"vihf-{code}", hint="the caller must send an assertion made for this request"
    )
