"""Pairs that sign, a clock that stands still, and Debian's xmlsec1: for whoever tests signatures."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS = {"ours": "rsa", "other": "rsa", "p256": "p256", "p384": "p384"}
xmlsec1 = pytest.mark.skipif(shutil.which("xmlsec1") is None, reason="needs Debian's xmlsec1")


class Hand:
    """A clock that stands still."""

    def __init__(self, moment: datetime = NOW) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def pair(folder: Path, name: str, kind: str = "rsa") -> Pair:
    key = {
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Poterne lab {name}")])
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(NOW - timedelta(days=30)).not_valid_after(NOW + timedelta(days=3650))
        .sign(key, SHA256())
    )  # fmt: skip
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    made.key.chmod(0o600)
    return made
