"""An authority of tests with people it issued to, lists it published, and an OCSP responder that may misbehave."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.certificates.link import TrustedLink
from gateway.certificates.links import Kind, Link, Pair, Side
from gateway.settings import RevocationSettings
from security.clock import Clock, SystemClock
from security.keys.lab_pki import LabAuthority, PemPair
from security.keys.tls import client_context

DAY = timedelta(days=1)


def certificate(pair: PemPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def der(pair: PemPair) -> bytes:
    return certificate(pair).public_bytes(Encoding.DER)


class Pki:
    """One authority; pairs by name, valid today unless said otherwise."""

    def __init__(self, folder: Path) -> None:
        self.now = datetime.now(UTC)
        self.authority = LabAuthority.create(folder, now=self.now)
        self.ca = self.authority.certificate
        self.crl = self.authority.revocations
        self._pairs: dict[str, PemPair] = {}

    def pair(self, name: str, **changes: object) -> PemPair:
        if name not in self._pairs:
            facts = {"not_before": self.now - timedelta(minutes=30), "not_after": self.now + DAY} | changes
            self._pairs[name] = self.authority.issue(name, **facts)  # type: ignore[arg-type]
        return self._pairs[name]

    def revoke(self, *pairs: PemPair, days: int = 30, at: datetime | None = None) -> None:
        self.authority.revoke([certificate(pair) for pair in pairs], now=at or datetime.now(UTC), days=days)

    def client(self, pair: PemPair) -> ssl.SSLContext:
        return client_context(pair.certificate, pair.key, self.ca)

    def link(
        self,
        own: PemPair,
        *,
        side: Side = "server",
        kind: Kind = "index-node",
        host: str = "127.0.0.1",
        port: int = 0,
        revocation: RevocationSettings | None = None,
    ) -> Link:
        return Link(
            key=f"{kind}.test",
            kind=kind,
            pair=Pair(key=f"{kind}.test", kind=kind, certificate_file=own.certificate, key_file=own.key),
            side=side,
            ca_file=self.ca,
            revocation=revocation or RevocationSettings(crl_file=self.crl),
            host=host,
            port=port,
        )

    def trusted(self, own: PemPair, *, clock: Clock | None = None, **how: object) -> TrustedLink:
        return TrustedLink(self.link(own, **how), clock=clock or SystemClock(), grace_s=0)  # type: ignore[arg-type]


def put(pair: PemPair, into: PemPair) -> None:
    """Replace the files of ``into``, the key first."""
    for source, target in ((pair.key, into.key), (pair.certificate, into.certificate)):
        part = target.with_suffix(".part")
        shutil.copy(source, part)
        part.chmod(0o600)
        part.replace(target)


@dataclass(kw_only=True)
class Responder:
    """An OCSP responder on loopback. ``revoked``: serial numbers; the rest: how it misbehaves."""

    pki: Pki
    url: str = ""
    revoked: set[int] = field(default_factory=set)
    asked: int = 0
    status: int = 200
    nonce: bool = True
    other_nonce: bool = False
    signer: PemPair | None = None
    age: timedelta = timedelta()
    other_serial: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.status != 200:
            return web.Response(status=self.status)
        return web.Response(body=self.made(await request.read()), content_type="application/ocsp-response")

    def made(self, question: bytes) -> bytes:
        asked = ocsp.load_der_ocsp_request(question)
        issuer = x509.load_pem_x509_certificate(self.pki.ca.read_bytes())
        now = datetime.now(UTC) - self.age
        is_revoked = asked.serial_number in self.revoked
        status = ocsp.OCSPCertStatus.REVOKED if is_revoked else ocsp.OCSPCertStatus.GOOD
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=asked.issuer_name_hash,
            issuer_key_hash=asked.issuer_key_hash,
            serial_number=asked.serial_number + self.other_serial,
            algorithm=asked.hash_algorithm,
            cert_status=status,
            this_update=now,
            next_update=now + timedelta(hours=1),
            revocation_time=now if is_revoked else None,
            revocation_reason=None,
        )
        shown = asked.extensions.get_extension_for_class(x509.OCSPNonce).value
        if self.nonce:
            builder = builder.add_extension(x509.OCSPNonce(b"x" * 32) if self.other_nonce else shown, critical=False)
        if self.signer is None:
            key, by = self.pki.authority._key, issuer
        else:
            from cryptography.hazmat.primitives.serialization import load_pem_private_key

            by = certificate(self.signer)
            key = load_pem_private_key(self.signer.key.read_bytes(), None)  # type: ignore[assignment]
            builder = builder.certificates([by])
        return (
            builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by).sign(key, SHA256()).public_bytes(Encoding.DER)
        )


@asynccontextmanager
async def serving(app: web.Application, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """An HTTP server on loopback; its port."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def responding(pki: Pki) -> AsyncIterator[Responder]:
    responder = Responder(pki=pki)
    app = web.Application()
    app.add_routes([web.post("/ocsp", responder.answer)])
    async with serving(app) as port:
        responder.url = f"http://127.0.0.1:{port}/ocsp"
        yield responder


def delegate(pki: Pki) -> PemPair:
    """A responder that the authority delegated (RFC 6960 §4.2.2.2)."""
    return pki.pair("responder", purposes=(ExtendedKeyUsageOID.OCSP_SIGNING,))


def texts(lines: Iterable[object]) -> str:
    return "\n".join(map(str, lines))
