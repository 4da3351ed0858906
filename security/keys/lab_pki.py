"""A certification authority for the lab and the tests. Every name it writes says so; trust it nowhere else.

Certificates satisfy ``VERIFY_X509_STRICT``: critical keyUsage on the authority, key identifiers on both, and names
of servers in subjectAltName only (security §2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from security.secrets import create_private

ORGANIZATION = "Poterne lab - NOT FOR PRODUCTION"
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True, kw_only=True)
class PemPair:
    """A certificate and its private key, both in PEM form; the key file has mode 0600."""

    certificate: Path
    key: Path


class LabAuthority:
    """A self-signed authority on P-256; its own key lives only in this object."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = folder / "lab-ca.pem"
        self._folder = folder
        self._issuer = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, *, now: datetime) -> Self:
        """A new authority, valid from an hour before ``now`` for ten years; writes ``lab-ca.pem`` into ``folder``.

        Raises:
            FileExistsError: the folder holds one already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Poterne lab CA")
        certificate = (
            _builder(name, name, key.public_key(), now - timedelta(hours=1), now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(folder / "lab-ca.pem", certificate.public_bytes(Encoding.PEM))
        return cls(folder, certificate, key)

    def issue(
        self,
        name: str,
        *,
        not_before: datetime,
        not_after: datetime,
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
        purposes: tuple[x509.ObjectIdentifier, ...] = (SERVER_AUTH, CLIENT_AUTH),
    ) -> PemPair:
        """A leaf certificate ``<name>.pem`` with its key ``<name>.key`` in the authority's folder.

        ``hosts``: names and IP addresses of subjectAltName. ``purposes``: extendedKeyUsage.

        Raises:
            FileExistsError: the name was issued already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(name), self._issuer.subject, key.public_key(), not_before, not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, SHA256())
        )
        pair = PemPair(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        create_private(pair.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        create_private(pair.certificate, certificate.public_bytes(Encoding.PEM))
        return pair


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    not_before: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
