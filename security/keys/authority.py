"""A certification authority of one's own, for laboratories and closed networks: pairs, requests of others, lists of
what was revoked. A public network has its own; for that one there is ``request``.

Certificates satisfy ``VERIFY_X509_STRICT``: critical keyUsage on the authority, key identifiers on both, and names
of servers in subjectAltName only (security §2).

Invariants:

* keys are made here, on P-256, in files of mode 0600 that must not exist yet; none is ever printed or moved;
* what was revoked stays so: a new list holds every entry of the last one and a higher number (RFC 5280 §5.2.3);
* a request is certified for its own name and hosts only when its signature is that of its key (RFC 2986 §4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from security.errors import BadInput, Broken, Refused
from security.keys.signer import key_algorithm
from security.secrets import create_private, read_secret, replace_private

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
BOTH = (SERVER_AUTH, CLIENT_AUTH)
_BEFORE = timedelta(hours=1)  # clocks of peers may be a little behind
_STEM = "ca"
UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the library raises on a certificate, list or answer that it cannot read to its end."""

_KEYS = (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)


@dataclass(frozen=True, slots=True, kw_only=True)
class PemPair:
    """A certificate and its private key, both in PEM form; the key file has mode 0600."""

    certificate: Path
    key: Path


class Authority:
    """A self-signed authority on P-256 whose files stand in one folder: ``ca.pem``, ``ca.crl`` and its key."""

    def __init__(
        self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, stem: str = _STEM
    ) -> None:
        self.certificate = folder / f"{stem}.pem"
        self.revocations = folder / f"{stem}.crl"
        self._folder = folder
        self._issuer = certificate
        self._key = key

    @classmethod
    def create(
        cls, folder: Path, *, now: datetime, name: str, organization: str, days: int = 3650, keep_key: bool = True
    ) -> Self:
        """A new authority, valid from an hour before ``now``, with an empty list of what it revoked.

        Raises:
            Refused: ``authority-exists``.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = distinguished(name, organization)
        certificate = (
            _builder(subject, subject, key.public_key(), now - _BEFORE, now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = cls(folder, certificate, key)
        if keep_key:
            _create(folder / f"{_STEM}.key", _private(key))
        _create(made.certificate, certificate.public_bytes(Encoding.PEM))
        made.revoke((), now=now, days=days)
        return made

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The authority that ``create`` made there.

        Raises:
            Broken: ``no-authority``; those of ``read_secret`` for its key.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / f"{_STEM}.pem").read_bytes())
        except (OSError, ValueError) as error:
            raise Broken(
                f"{folder} holds no authority", code="no-authority", hint="make one: poterne certs ca init"
            ) from error
        key = load_pem_private_key(read_secret(folder / f"{_STEM}.key", what="key of the authority"), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise Broken(
                f"{folder}: {_STEM}.key is not the key of {_STEM}.pem",
                code="no-authority",
                hint="put back the two that were made together",
            )
        return cls(folder, certificate, key)

    def issue(
        self,
        name: str,
        *,
        not_before: datetime,
        not_after: datetime,
        hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
        purposes: tuple[x509.ObjectIdentifier, ...] = BOTH,
        organization: str = "",
        unit: str = "",
    ) -> PemPair:
        """A leaf certificate ``<name>.pem`` with its key ``<name>.key`` in the authority's folder.

        ``hosts``: names and IP addresses of subjectAltName. ``purposes``: extendedKeyUsage, none for a pair that
        only signs. ``unit``: organizationalUnitName.

        Raises:
            Refused: ``authority-exists`` the name was issued already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = distinguished(name, organization or self._organization(), unit)
        certificate = self._certified(subject, key.public_key(), (not_before, not_after), hosts, purposes)
        pair = PemPair(certificate=self._folder / f"{name}.pem", key=self._folder / f"{name}.key")
        _create(pair.key, _private(key))
        _create(pair.certificate, certificate.public_bytes(Encoding.PEM))
        return pair

    def certify(
        self, request: bytes, *, not_before: datetime, not_after: datetime, purposes: Iterable[x509.ObjectIdentifier]
    ) -> bytes:
        """The certificate, in PEM form, for a PKCS #10 request of somebody else: its name and its hosts.

        Raises:
            BadInput: ``request-unusable`` it is none, its signature is not its key's, or its key is too weak.
        """
        try:
            asked = x509.load_pem_x509_csr(request)
        except ValueError:
            raise BadInput("no certificate request in PEM form", code="request-unusable", hint=_REQUEST) from None
        key = asked.public_key()
        if not asked.is_signature_valid or key_algorithm(key) is None:
            raise BadInput("the request is not signed by its own, strong key", code="request-unusable", hint=_REQUEST)
        try:
            stated = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            stated = x509.SubjectAlternativeName([])
        hosts = (*stated.get_values_for_type(x509.DNSName), *map(str, stated.get_values_for_type(x509.IPAddress)))
        made = self._certified(asked.subject, key, (not_before, not_after), hosts, tuple(purposes))
        return made.public_bytes(Encoding.PEM)

    def revoke(self, certificates: Iterable[x509.Certificate], *, now: datetime, days: int = 30) -> Path:
        """A new list: everything revoked so far and ``certificates``, good for ``days`` days. It replaces the file.

        Raises:
            BadInput: ``not-ours`` another authority issued one of them.
        """
        old = x509.load_pem_x509_crl(self.revocations.read_bytes()) if self.revocations.exists() else None
        number, held = 1, dict[int, datetime]()
        if old is not None:  # an empty one is false
            number += old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            held = {entry.serial_number: entry.revocation_date_utc for entry in old}
        for certificate in certificates:
            if not is_issuer(self._issuer, certificate):
                raise BadInput(
                    "another authority issued this certificate", code="not-ours", hint="ask the one that issued it"
                )
            held.setdefault(certificate.serial_number, now)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._issuer.subject)
            .last_update(now - _BEFORE)
            .next_update(now + timedelta(days=days))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial, at in held.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
            builder = builder.add_revoked_certificate(entry)
        replace_private(self.revocations, builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        return self.revocations

    def _organization(self) -> str:
        return str(self._issuer.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)

    def _certified(
        self,
        subject: x509.Name,
        key: object,
        validity: tuple[datetime, datetime],
        hosts: Iterable[str],
        purposes: tuple[x509.ObjectIdentifier, ...],
    ) -> x509.Certificate:
        assert isinstance(key, _KEYS)
        builder = (
            _builder(subject, self._issuer.subject, key, *validity)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        names = [general_name(host) for host in hosts]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, SHA256())


def is_issuer(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether ``issuer`` signed ``certificate``, by name and by signature (RFC 5280 §6.1.3)."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def request(key: ec.EllipticCurvePrivateKey, subject: x509.Name, hosts: Iterable[str]) -> bytes:
    """A PKCS #10 request in PEM form (RFC 2986), to be taken to the authority that counts."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    names = [general_name(host) for host in hosts]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A new key on P-256 in a file of mode 0600.

    Raises:
        Refused: ``authority-exists`` the file is there already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    _create(path, _private(key))
    return key


def distinguished(common_name: str, organization: str, unit: str = "") -> x509.Name:
    """O, OU when there is one, CN."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)]
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def general_name(host: str) -> x509.GeneralName:
    """A host of subjectAltName: an address or a name."""
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: object, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    assert isinstance(key, _KEYS)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
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


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _create(path: Path, data: bytes) -> None:
    try:
        create_private(path, data)
    except FileExistsError:
        raise Refused(
            f"{path} exists already", code="authority-exists", hint="keep it, or choose another name or folder"
        ) from None


_REQUEST = "ask its maker for a PKCS #10 request signed with an EC key on P-256 or P-384, or RSA of 2048 bits or more"
