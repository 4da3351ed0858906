"""White lists of invented boxes, signed by an authority of tests with lxml, hashlib and ``cryptography`` alone: none of
the code that verifies them makes them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from gateway.whitelist.verification import Signer
from security.keys.authority import distinguished
from tests.support.pki import Pki

NS = "https://github.com/ansforge/DRIM-M_DATA"
DS = "http://www.w3.org/2000/09/xmldsig#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
FILTER2 = "http://www.w3.org/2002/06/xmldsig-filter2"
EXC = "http://www.w3.org/2001/10/xml-exc-c14n#"
SHA256_URI = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA512_URI = "http://www.w3.org/2001/04/xmlenc#sha512"
SIGNER = Signer(common_name="Liste Blanche ESSAI", unit="999999999999999")


class ListSigner:
    """An RSA key as the network's signer has, with its certificate."""

    def __init__(
        self, pki: Pki, *, name: str = SIGNER.common_name, unit: str = SIGNER.unit, **changes: datetime
    ) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        asked = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(distinguished(name, "Réseau d'essai", unit))
            .sign(self.key, SHA256())
        )
        now = datetime.now(UTC)
        facts = {"not_before": now - timedelta(days=10), "not_after": now + timedelta(days=10)} | changes
        pem = pki.authority.certify(asked.public_bytes(Encoding.PEM), purposes=(), **facts)
        self.certificate = x509.load_pem_x509_certificate(pem)

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data, padding.PKCS1v15(), SHA256())

    def write(self, folder: Path) -> tuple[Path, Path]:
        key, cert = folder / "list-signer.key", folder / "list-signer.pem"
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        cert.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return key, cert


def boxes(count: int = 3, **changes: str) -> dict[str, str]:
    """Names by identifier."""
    return {str(number): f"Centre FANTÔME {number}" for number in range(1, count + 1)} | changes


def unsigned(named: Mapping[str, str] | None = None, *, generated: datetime | None = None) -> bytes:
    """A list in the network's own form."""
    moment = (generated or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    entries = "".join(
        f"\n        <Domaine>\n            <Identifiant>{key}</Identifiant>\n"
        f"            <db>db{key}.reseau.example</db>\n            <vi>vi{key}.reseau.example</vi>\n"
        f"            <Denomination>{name}</Denomination>\n"
        f"            <DNCertificatOperateur>CN=db{key}.reseau.example,OU=999999999999999,O=ESSAI,C=FR"
        f"</DNCertificatOperateur>\n            <SupportContact>support@reseau.example</SupportContact>\n"
        f"            <DateMAJ>2026-01-02T03:04:05Z</DateMAJ>\n        </Domaine>"
        for key, name in (named or boxes()).items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>'
        f'<ListeBlancheDRIM-M xmlns="{NS}" versionFormat="1.0.0">\n    <DateDeGeneration>{moment}</DateDeGeneration>\n'
        f"    <ListeDomaines>{entries}\n    </ListeDomaines>\n</ListeBlancheDRIM-M>"
    ).encode()


def c14n(element: etree._Element) -> bytes:
    alone = etree.fromstring(etree.tostring(element, with_tail=False))
    return etree.tostring(alone, method="c14n", exclusive=True)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def signed(
    document: bytes,
    signer: ListSigner,
    *,
    signing_time: datetime | None = None,
    xpath: str = "/descendant::ds:Signature",
    operation: str = "subtract",
    shown: x509.Certificate | None = None,
    digest_of: x509.Certificate | None = None,
    with_properties: bool = True,
    target: str = "#xades-list",
) -> bytes:
    """The list with its XAdES-BASELINE-B signature as its last child."""
    root = etree.fromstring(document)
    whole = b64(hashlib.sha256(c14n(root)).digest())
    moment = (signing_time or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cert = (digest_of or signer.certificate).public_bytes(Encoding.DER)
    properties = (
        f'<xades:SignedProperties Id="xades-list-props"><xades:SignedSignatureProperties>'
        f"<xades:SigningTime>{moment}</xades:SigningTime><xades:SigningCertificateV2><xades:Cert><xades:CertDigest>"
        f'<ds:DigestMethod Algorithm="{SHA512_URI}"/><ds:DigestValue>{b64(hashlib.sha512(cert).digest())}'
        f"</ds:DigestValue></xades:CertDigest></xades:Cert></xades:SigningCertificateV2>"
        f"</xades:SignedSignatureProperties></xades:SignedProperties>"
    )
    made = etree.fromstring(
        f'<ds:Signature xmlns:ds="{DS}" Id="xades-list"><ds:SignedInfo>'
        f'<ds:CanonicalizationMethod Algorithm="{EXC}"/>'
        f'<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>'
        f'<ds:Reference Id="r1" Type="" URI=""><ds:Transforms><ds:Transform Algorithm="{FILTER2}">'
        f'<f2:XPath xmlns:f2="{FILTER2}" Filter="{operation}">{xpath}</f2:XPath></ds:Transform>'
        f'<ds:Transform Algorithm="{EXC}"/></ds:Transforms><ds:DigestMethod Algorithm="{SHA256_URI}"/>'
        f"<ds:DigestValue>{whole}</ds:DigestValue></ds:Reference>"
        f'<ds:Reference Type="http://uri.etsi.org/01903#SignedProperties" URI="#xades-list-props"><ds:Transforms>'
        f'<ds:Transform Algorithm="{EXC}"/></ds:Transforms><ds:DigestMethod Algorithm="{SHA256_URI}"/>'
        f"<ds:DigestValue/></ds:Reference></ds:SignedInfo><ds:SignatureValue/>"
        f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>"
        f"{b64((shown or signer.certificate).public_bytes(Encoding.DER))}</ds:X509Certificate></ds:X509Data>"
        f'</ds:KeyInfo><ds:Object><xades:QualifyingProperties xmlns:xades="{XADES}" Target="{target}">'
        f"{properties}</xades:QualifyingProperties></ds:Object></ds:Signature>"
    )
    root.append(made)
    info = made[0]
    held = made.find(f".//{{{XADES}}}SignedProperties")
    info[3].find(f"{{{DS}}}DigestValue").text = b64(hashlib.sha256(c14n(held)).digest())
    if not with_properties:
        info.remove(info[3])
    made[1].text = b64(signer.sign(c14n(info)))
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=False)
