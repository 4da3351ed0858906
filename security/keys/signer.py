"""Signing with a key that belongs to a certificate, whatever holds the key (PEM files now).

Invariants:

* a signer exists only when its key is that of its certificate;
* nothing is signed outside the certificate's validity, at the time of the injected clock (F14);
* SHA-1 is used with an RSA key and on demand alone, for peers that know nothing better;
* otherwise the algorithm follows from the key and is named as in X.509 (RFC 4055, RFC 5758): a
  verifier never takes it from the data. ECDSA signatures are DER (RFC 3279 §2.2.3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from security.clock import Clock
from security.errors import BadInput, Broken
from security.secrets import read_secret

LEGACY_ALGORITHM = "sha1WithRSAEncryption"
RSA_BITS_MIN = 2048  # what the national authority issues; new keys of ours are EC


class Signer(Protocol):
    """Signs for one legal entity."""

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate whose key signs."""
        ...

    @property
    def algorithm(self) -> str:
        """``sha256WithRSAEncryption``, ``ecdsa-with-SHA256``, ``ecdsa-with-SHA384``; ``sha1WithRSAEncryption`` when
        it was asked for."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data``.

        Raises:
            Broken: ``certificate-expired``, ``certificate-not-yet-valid``.
        """
        ...


class PemSigner:
    """``Signer`` on an RSA or EC key in an unencrypted PEM file of its owner."""

    def __init__(
        self, certificate: Path, key: Path, clock: Clock, *, digest: Literal["sha256", "sha1"] = "sha256"
    ) -> None:
        """Load both files. ``digest``: ``sha1`` for an RSA key and a peer that demands it.

        Raises:
            Broken: those of ``read_secret`` for the key; ``key-unusable``, ``key-mismatch``,
                ``certificate-expired``, ``certificate-not-yet-valid``.
        """
        self._clock = clock
        self._path = certificate
        self.certificate = _certificate(certificate)
        try:
            private = load_pem_private_key(read_secret(key, what="signing key"), password=None)
        except (ValueError, TypeError):  # TypeError: it is encrypted
            raise Broken(
                f"{key} is not an unencrypted private key in PEM form",
                code="key-unusable",
                hint="convert it (openssl pkey) and protect the file by its mode",
            ) from None
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise Broken(f"{key} is neither an RSA nor an EC key", code="key-unusable", hint=_KEY_HINT)
        if private.public_key() != self.certificate.public_key():
            raise Broken(
                f"the key {key} is not the key of the certificate {certificate}",
                code="key-mismatch",
                hint="give the pair that was issued together",
            )
        algorithm = key_algorithm(private.public_key())
        if algorithm is None:
            raise Broken(f"{key} is too weak or on an unusual curve", code="key-unusable", hint=_KEY_HINT)
        if digest == "sha1":
            if not isinstance(private, rsa.RSAPrivateKey):
                raise Broken(
                    f"{key}: SHA-1 is for RSA keys alone", code="key-unusable", hint='set the digest to "sha256"'
                )
            algorithm = LEGACY_ALGORITHM
        self.algorithm = algorithm
        self._private = private
        self._require_valid()

    @property
    def der(self) -> bytes:
        """The certificate in DER form."""
        return self.certificate.public_bytes(Encoding.DER)

    def sign(self, data: bytes) -> bytes:
        self._require_valid()
        if isinstance(self._private, rsa.RSAPrivateKey):
            return self._private.sign(data, padding.PKCS1v15(), _HASHES[self.algorithm])
        return self._private.sign(data, ec.ECDSA(_HASHES[self.algorithm]))

    def _require_valid(self) -> None:
        now, certificate = self._clock.now(), self.certificate
        if now > certificate.not_valid_after_utc:
            raise Broken(
                f"the certificate {self._path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                code="certificate-expired",
                hint="install the renewed certificate and its key",
            )
        if now < certificate.not_valid_before_utc:
            raise Broken(
                f"the certificate {self._path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
                code="certificate-not-yet-valid",
                hint="check the clock of this machine",
            )


class SigningPair:
    """The files of a certificate and its key, read again when they change: a renewed pair needs no restart."""

    def __init__(
        self, certificate: Path, key: Path, clock: Clock, *, digest: Literal["sha256", "sha1"] = "sha256"
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._digest = digest
        self._read: tuple[tuple[int, int], PemSigner] | None = None

    def signer(self) -> PemSigner:
        """The signer as the files are now: whoever makes one signature takes it once.

        Raises:
            Broken: as ``PemSigner`` does.
        """
        try:
            stamp = (self._certificate.stat().st_mtime_ns, self._key.stat().st_mtime_ns)
        except OSError as error:
            raise Broken(
                f"{error.filename} cannot be read: {error.strerror}",
                code="key-unusable",
                hint="put the certificate and its key back",
            ) from error
        if self._read is None or self._read[0] != stamp:
            try:
                signer = PemSigner(self._certificate, self._key, self._clock, digest=self._digest)
            except Broken as fault:
                if self._read is None or fault.code != "key-mismatch":
                    raise
                return self._read[1]  # two files are replaced one after the other: the pair that fits goes on
            self._read = (stamp, signer)
        return self._read[1]


def verify(
    certificate: x509.Certificate, algorithm: str, data: bytes, signature: bytes, *, accepts_sha1: bool = False
) -> None:
    """Check a signature with a certificate that is already trusted; says nothing of the certificate itself.
    ``accepts_sha1``: an RSA key may also have signed with SHA-1.

    Raises:
        BadInput: ``signature-algorithm`` ``algorithm`` is not the one of the certificate's key;
            ``signature-invalid``.
    """
    public = certificate.public_key()
    fits = key_algorithm(public)
    is_legacy = accepts_sha1 and fits == "sha256WithRSAEncryption" and algorithm == LEGACY_ALGORITHM
    if algorithm != fits and not is_legacy:
        raise BadInput(
            f"a signature {algorithm[:40]!r} is not accepted from this certificate's key",
            code="signature-algorithm",
            hint="sign with the algorithm of the key",
        )
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, data, padding.PKCS1v15(), _HASHES[algorithm])
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, data, ec.ECDSA(_HASHES[algorithm]))
    except InvalidSignature:
        raise BadInput(
            "the signature does not belong to these bytes and this certificate",
            code="signature-invalid",
            hint="the bytes were altered, or signed with another key",
        ) from None


def key_algorithm(key: PublicKeyTypes) -> str | None:
    """The one algorithm a key may sign with; None for a key that may not sign."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        return "sha256WithRSAEncryption"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    return None


_CURVES = {"secp256r1": "ecdsa-with-SHA256", "secp384r1": "ecdsa-with-SHA384"}
_HASHES: dict[str, HashAlgorithm] = {
    "sha256WithRSAEncryption": SHA256(),
    LEGACY_ALGORITHM: SHA1(),  # noqa: S303  named by a site that must
    "ecdsa-with-SHA256": SHA256(),
    "ecdsa-with-SHA384": SHA384(),
}
_KEY_HINT = f"use an EC key on P-256 or P-384, or RSA of at least {RSA_BITS_MIN} bits"


def pinned_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM file, for whoever believes exactly these.

    Raises:
        Broken: ``key-unusable``.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise Broken(
            f"{path} holds no readable certificates in PEM form",
            code="key-unusable",
            hint="give the certificates one after the other, in PEM form",
        ) from error


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Broken(
            f"{path} is not a readable certificate in PEM form",
            code="key-unusable",
            hint="give the certificate as it was issued, in PEM form",
        ) from error
