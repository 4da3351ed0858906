"""Signing with PEM keys: the pair, its validity, and what a signature proves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from security.errors import BadInput, Broken
from security.keys.signer import PemSigner, Signer, verify

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
KEYS = {
    "sha256WithRSAEncryption": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ecdsa-with-SHA256": ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-with-SHA384": ec.generate_private_key(ec.SECP384R1()),
}


class HandClock:
    """A clock whose hand the test turns."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


def _pair(folder: Path, key: CertificateIssuerPrivateKeyTypes, password: bytes | None = None) -> tuple[Path, Path]:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Poterne lab signer")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(END)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    )
    (folder / "sign.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / "sign.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    (folder / "sign.key").chmod(0o600)
    return folder / "sign.pem", folder / "sign.key"


def _signer(folder: Path, algorithm: str, at: datetime = START + timedelta(days=1)) -> PemSigner:
    return PemSigner(*_pair(folder, KEYS[algorithm]), HandClock(at))


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_a_signature_verifies_with_its_certificate(tmp_path: Path, algorithm: str) -> None:
    signer: Signer = _signer(tmp_path, algorithm)
    assert signer.algorithm == algorithm
    verify(signer.certificate, algorithm, b"manifest", signer.sign(b"manifest"))


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_other_bytes_or_another_signature_do_not_verify(tmp_path: Path, algorithm: str) -> None:
    signer = _signer(tmp_path, algorithm)
    signature = signer.sign(b"manifest")
    flipped = bytes([*signature[:-1], signature[-1] ^ 1])
    for data, value in ((b"manifesT", signature), (b"manifest", flipped), (b"manifest", b"")):
        with pytest.raises(BadInput) as caught:
            verify(signer.certificate, algorithm, data, value)
        assert caught.value.code == "signature-invalid"


@pytest.mark.parametrize(
    "claimed", ["none", "ecdsa-with-SHA384", "sha256WithRSAEncryption", "sha1WithRSAEncryption", ""]
)
def test_the_algorithm_is_that_of_the_key_and_not_what_the_data_say(tmp_path: Path, claimed: str) -> None:
    signer = _signer(tmp_path, "ecdsa-with-SHA256")
    with pytest.raises(BadInput) as caught:
        verify(signer.certificate, claimed, b"manifest", signer.sign(b"manifest"))
    assert caught.value.code == "signature-algorithm"


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        (END + timedelta(seconds=1), "certificate-expired"),
        (START - timedelta(seconds=1), "certificate-not-yet-valid"),
    ],
)
def test_f14_a_certificate_outside_its_validity_is_refused(tmp_path: Path, moment: datetime, code: str) -> None:
    with pytest.raises(Broken) as caught:
        _signer(tmp_path, "ecdsa-with-SHA256", at=moment)
    assert caught.value.code == code


def test_f14_a_certificate_that_expires_while_the_process_runs_signs_no_more(tmp_path: Path) -> None:
    clock = HandClock(END - timedelta(seconds=1))
    signer = PemSigner(*_pair(tmp_path, KEYS["ecdsa-with-SHA256"]), clock)
    signer.sign(b"manifest")
    clock.moment = END + timedelta(seconds=1)
    with pytest.raises(Broken) as caught:
        signer.sign(b"manifest")
    assert caught.value.code == "certificate-expired"


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = _pair(tmp_path, KEYS["ecdsa-with-SHA256"])
    other = tmp_path / "other"
    other.mkdir()
    _, key = _pair(other, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(Broken) as caught:
        PemSigner(certificate, key, HandClock(START))
    assert caught.value.code == "key-mismatch"


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA 1024", "secp256k1", "Ed25519"],
)
def test_a_weak_or_unusual_key_is_refused(tmp_path: Path, key: CertificateIssuerPrivateKeyTypes) -> None:
    with pytest.raises(Broken) as caught:
        PemSigner(*_pair(tmp_path, key), HandClock(START))
    assert caught.value.code == "key-unusable"


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="not an unencrypted private key") as caught:
        PemSigner(*_pair(tmp_path, KEYS["ecdsa-with-SHA256"], password=b"geheim"), HandClock(START))
    assert caught.value.code == "key-unusable"


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    certificate, key = _pair(tmp_path, KEYS["ecdsa-with-SHA256"])
    certificate.write_text("not a certificate")
    with pytest.raises(Broken, match=r"sign\.pem is not a readable certificate"):
        PemSigner(certificate, key, HandClock(START))


def test_t60_a_signing_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    certificate, key = _pair(tmp_path, KEYS["ecdsa-with-SHA256"])
    key.chmod(0o644)
    with pytest.raises(Broken) as caught:
        PemSigner(certificate, key, HandClock(START))
    assert caught.value.code == "secret-exposed"
