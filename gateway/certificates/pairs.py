"""A new pair for one of our links: asked for, received, tried, put in place of the old one, taken back.

The folder of one pair holds ``next.key``, ``next.csr``, ``next.pem`` until the switch, ``previous.key`` and
``previous.pem`` after it.

Invariants:

* a key is made here, mode 0600, and never leaves: what is shown or sent is a request or a certificate;
* a certificate is received only for the key that waits for it, when it is valid now, for what the link does, names
  what the request named, and its chain is complete up to a self-signed authority;
* nothing is switched that was not rehearsed, byte for byte, unless a person says why;
* files are replaced whole, the key first; a running gateway that meets the two half-way keeps the pair it has.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.certificates.links import Pair, Side
from security.errors import BadInput, Broken, Refused
from security.keys.authority import distinguished, is_issuer, new_key, request
from security.keys.revocation import CHAIN_MAX, certificates_in
from security.secrets import create_private, read_secret, replace_private

_PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """The folder in which one pair is renewed."""

    pair: Pair
    folder: Path

    @classmethod
    def of(cls, pair: Pair, certificates: Path | None) -> Renewal:
        """``certificates``: the folder of the configuration.

        Raises:
            Broken: ``certificates-folder`` it names none.
        """
        if certificates is None:
            raise Broken(
                "the configuration names no folder for new pairs",
                code="certificates-folder",
                hint="set certificates.folder",
            )
        return cls(pair=pair, folder=certificates / "pairs" / pair.key)

    @property
    def key(self) -> Path:
        """The key that waits for its certificate, or for the switch."""
        return self.folder / "next.key"

    @property
    def csr(self) -> Path:
        """The request for it."""
        return self.folder / "next.csr"

    @property
    def certificate(self) -> Path:
        """The certificate that waits for the switch, with its chain."""
        return self.folder / "next.pem"

    @property
    def previous(self) -> tuple[Path, Path]:
        """Certificate and key that were in use before the last switch."""
        return self.folder / "previous.pem", self.folder / "previous.key"

    @property
    def _rehearsed(self) -> Path:
        return self.folder / "rehearsed"

    def ask(self, *, name: str, organization: str, unit: str, hosts: tuple[str, ...]) -> Path:
        """A new key and the request for its certificate.

        Raises:
            Refused: ``authority-exists`` a key waits already.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = new_key(self.key)
        create_private(self.csr, request(key, distinguished(name, organization, unit), hosts))
        return self.csr

    def receive(
        self, data: bytes, *, side: Side | None, authorities: tuple[x509.Certificate, ...], now: datetime
    ) -> x509.Certificate:
        """Take the certificate for the waiting key. ``data``: PEM, the certificate first, then its issuers; ``side``:
        None for a pair that only signs; ``authorities``: more that may complete the chain.

        Raises:
            Broken: those of ``read_secret``: no key waits. BadInput: ``certificate-…``, by what is wrong with it.
        """
        key = load_pem_private_key(read_secret(self.key, what="waiting key"), password=None)
        shown = certificates_in(data)
        if not shown:
            raise _bad("unusable", "the file holds no certificate")
        own = shown[0]
        if own.public_key() != key.public_key():
            raise _bad("key", "it is not for the key that waits: its request was another")
        if now > own.not_valid_after_utc:
            raise _bad("expired", f"it expired at {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if now < own.not_valid_before_utc:
            raise _bad("early", f"it is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
        self._require_names(own)
        if side is not None and not _may(own, side):
            raise _bad("purpose", f"it may not be used as a {side} (extendedKeyUsage)")
        if not _is_complete(own, (*shown[1:], *authorities)):
            raise _bad("chain", "its chain is not complete: no self-signed authority at its end")
        replace_private(self.certificate, data)
        self._rehearsed.unlink(missing_ok=True)
        return own

    def _require_names(self, own: x509.Certificate) -> None:
        asked = x509.load_pem_x509_csr(self.csr.read_bytes())
        wanted, found = _common_names(asked.subject), _common_names(own.subject)
        if wanted != found:
            raise _bad("name", f"it is for {', '.join(found) or 'nobody'}, asked for was {', '.join(wanted)}")
        missing = _hosts(asked) - _hosts(own)
        if missing:
            raise _bad("host", f"it lacks the host {', '.join(sorted(missing))}")

    def waiting(self) -> Pair:
        """The pair that waits, for a rehearsal.

        Raises:
            Refused: ``nothing-waits``.
        """
        if not self.key.exists() or not self.certificate.exists():
            raise Refused(
                f"no new pair waits for {self.pair.key}",
                code="nothing-waits",
                hint="poterne certs csr, then poterne certs import",
            )
        return Pair(key=self.pair.key, kind=self.pair.kind, certificate_file=self.certificate, key_file=self.key)

    def note_rehearsed(self) -> None:
        """The pair that waits, as it is now, was tried and served."""
        replace_private(self._rehearsed, self._state().encode())

    def switch(self, *, unrehearsed: bool) -> None:
        """Put the pair that waits in place of the one in use, which becomes the previous one.

        Raises:
            Refused: ``nothing-waits``, ``not-rehearsed``. Broken: those of ``read_secret``.
        """
        self.waiting()
        is_tried = self._rehearsed.exists() and self._rehearsed.read_bytes() == self._state().encode()
        if not is_tried and not unrehearsed:
            raise Refused(
                f"the new pair of {self.pair.key} was not tried as it is now",
                code="not-rehearsed",
                hint="poterne certs rehearse; or, with a reason, switch --unrehearsed",
            )
        certificate, key = self.previous
        replace_private(certificate, self.pair.certificate_file.read_bytes())
        replace_private(key, read_secret(self.pair.key_file, what="key in use"))
        self._put(self.certificate, self.key)
        for path in (self.certificate, self.key, self.csr, self._rehearsed):
            path.unlink(missing_ok=True)

    def roll_back(self) -> None:
        """Put the previous pair back; the one that was in use becomes the previous one.

        Raises:
            Refused: ``nothing-previous``.
        """
        certificate, key = self.previous
        if not certificate.exists() or not key.exists():
            raise Refused(
                f"no previous pair of {self.pair.key} is kept", code="nothing-previous", hint="it was never switched"
            )
        kept = self.pair.certificate_file.read_bytes(), read_secret(self.pair.key_file, what="key in use")
        self._put(certificate, key)
        replace_private(certificate, kept[0])
        replace_private(key, kept[1])

    def _put(self, certificate: Path, key: Path) -> None:
        replace_private(self.pair.key_file, read_secret(key, what="new key"))
        replace_private(self.pair.certificate_file, certificate.read_bytes())

    def _state(self) -> str:
        data = self.certificate.read_bytes() + read_secret(self.key, what="waiting key")
        return hashlib.sha256(data).hexdigest()


def _may(certificate: x509.Certificate, side: Side) -> bool:
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return _PURPOSES[side] in purposes


def _is_complete(certificate: x509.Certificate, others: tuple[x509.Certificate, ...]) -> bool:
    current = certificate
    for _ in range(CHAIN_MAX):
        if current.subject == current.issuer:
            return is_issuer(current, current)
        issuer = next((one for one in others if is_issuer(one, current)), None)
        if issuer is None:
            return False
        current = issuer
    return False


def _common_names(name: x509.Name) -> list[str]:
    return [str(one.value) for one in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _hosts(of: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    try:
        names = of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def _bad(code: str, message: str) -> BadInput:
    return BadInput(
        f"the certificate is refused: {message}",
        code=f"certificate-{code}",
        hint="ask the authority for the right one; the key goes on waiting",
    )


def described(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, as people compare it."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
