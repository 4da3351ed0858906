"""DICOM over TLS: who gets through, what a stalled handshake costs, and renewed certificates (T04, T06, FF-07)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.dimse.limits import Limits
from gateway.dimse.pdu import Pdu, PduType
from gateway.dimse.peers import KnownPeer
from security.keys.lab_pki import LabAuthority, PemPair
from security.keys.tls import CurrentContext, client_context, server_context
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set, part10
from tests.support.dimse import AET, door, peer
from tests.support.dimse_raw import RawScu

NOW = datetime.now(UTC)
TODAY = {"not_before": NOW - timedelta(hours=1), "not_after": NOW + timedelta(days=1)}


class Pki:
    """One authority, the door's pair, two modalities and a stranger."""

    def __init__(self, folder: Path) -> None:
        self.authority = LabAuthority.create(folder / "pki", now=NOW)
        stranger = LabAuthority.create(folder / "other", now=NOW)
        self.ca = self.authority.certificate
        self.own = self.authority.issue("own", **TODAY)
        self.scanner = self.authority.issue("scanner", **TODAY)
        self.other = self.authority.issue("other", **TODAY)
        self.expired = self.authority.issue(
            "expired", not_before=NOW - timedelta(days=2), not_after=NOW - timedelta(days=1)
        )
        self.foreign = stranger.issue("foreign", **TODAY)

    def context(self, own: PemPair | None = None) -> CurrentContext:
        pair = own or self.own
        return CurrentContext(server_context(pair.certificate, pair.key, self.ca))

    def client(self, pair: PemPair) -> ssl.SSLContext:
        return client_context(pair.certificate, pair.key, self.ca)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def fingerprint(pair: PemPair) -> str:
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def known(pki: Pki) -> tuple[KnownPeer, ...]:
    return (peer("SCANNER", fingerprint=fingerprint(pki.scanner)), peer("OTHER", fingerprint=fingerprint(pki.other)))


def outcome(port: int, context: ssl.SSLContext | None, aet: str) -> str:
    """``served``, the rejection's octets, or ``cut``."""
    try:
        with RawScu(port, tls=context) as scu:
            if scu.associate([(CT, [EXPLICIT])], aet=aet) == {1: 0}:
                status = scu.store(1, CT, f"{ROOT}.1.1.1", data_set(pixels=os.urandom(2_000_000)))
                return "served" if status == 0 else f"{status:04x}"
            if isinstance(scu.answer, Pdu) and scu.answer.type is PduType.ASSOCIATE_RJ:
                return scu.answer.body.hex()
    except (ssl.SSLError, OSError):
        pass
    return "cut"


async def test_t06_certificate_title_and_network_must_be_those_of_one_peer(tmp_path: Path, pki: Pki) -> None:
    async with door(tmp_path / "d", peers=known(pki), tls=pki.context()) as opened:

        async def tried(pair: PemPair | None, aet: str) -> str:
            context = pki.client(pair) if pair else None
            return await asyncio.to_thread(outcome, opened.port, context, aet)

        assert await tried(pki.scanner, "SCANNER") == "served"
        assert await tried(pki.other, "OTHER") == "served"
        assert await tried(pki.other, "SCANNER") == "00010103"
        assert await tried(pki.scanner, "NOBODY") == "00010103"
        assert await tried(pki.expired, "SCANNER") == "cut"
        assert await tried(pki.foreign, "SCANNER") == "cut"
        assert await tried(None, "SCANNER") == "cut"
        assert [row["peer"] for row in await opened.rows()] == ["scanner", "other"]


async def test_t06_without_tls_the_network_counts_and_the_title_called(tmp_path: Path) -> None:
    one = KnownPeer(aet="SCU", networks=(ip_network("127.0.0.2/32"),), fingerprint="", admitted=peer().admitted)
    async with door(tmp_path / "d", peers=(one,)) as opened:

        def tried(source: str, aet: str, called: str = AET) -> str:
            with RawScu(opened.port, source=source) as scu:
                scu.associate([(CT, [EXPLICIT])], aet=aet, called=called)
                assert isinstance(scu.answer, Pdu)
                return scu.answer.body.hex() if scu.answer.type is PduType.ASSOCIATE_RJ else "served"

        assert await asyncio.to_thread(tried, "127.0.0.2", "SCU") == "served"
        assert await asyncio.to_thread(tried, "127.0.0.1", "SCU") == "00010103"
        assert await asyncio.to_thread(tried, "127.0.0.2", "scu") == "00010103"
        assert await asyncio.to_thread(tried, "127.0.0.2", "SCU", "OTHERPACS") == "00010107"


async def test_t04_a_silent_client_delays_nobody_and_is_let_go(tmp_path: Path, pki: Pki) -> None:
    async with door(tmp_path / "d", peers=known(pki), tls=pki.context(), limits=Limits(handshake_s=1.0)) as opened:
        silent = [socket.create_connection(("127.0.0.1", opened.port)) for _ in range(8)]
        try:
            await asyncio.sleep(0.1)
            began = time.monotonic()
            assert await asyncio.to_thread(outcome, opened.port, pki.client(pki.scanner), "SCANNER") == "served"
            assert time.monotonic() - began < 0.5 + 0.5  # the object itself included
            async with asyncio.timeout(4):
                while opened.listener.connections:
                    await asyncio.sleep(0.05)
            assert opened.observed.count(("association", "handshake-failed")) == 8
        finally:
            for connection in silent:
                connection.close()


async def test_a_renewed_context_serves_the_new_certificate_and_trusts_by_the_new_list(
    tmp_path: Path, pki: Pki
) -> None:
    """Security §3: a client that is no longer trusted is refused at once, also one that could resume."""
    context = pki.context()
    renewed = LabAuthority.create(tmp_path / "new-pki", now=NOW)
    own, scanner = renewed.issue("own", **TODAY), renewed.issue("scanner", **TODAY)
    peers = (peer("SCANNER", fingerprint=fingerprint(pki.scanner)), peer("NEW", fingerprint=fingerprint(scanner)))
    async with door(tmp_path / "d", peers=peers, tls=context) as opened:
        assert await asyncio.to_thread(outcome, opened.port, pki.client(pki.scanner), "SCANNER") == "served"
        context.exchange(server_context(own.certificate, own.key, renewed.certificate))
        assert await asyncio.to_thread(outcome, opened.port, pki.client(pki.scanner), "SCANNER") == "cut"
        new = client_context(scanner.certificate, scanner.key, renewed.certificate)
        assert await asyncio.to_thread(outcome, opened.port, new, "NEW") == "served"


@pytest.mark.dcmtk
async def test_dcmtk_over_tls(tmp_path: Path, pki: Pki) -> None:
    if not Path("/usr/bin/storescu").exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no DCMTK on this machine")
    body = data_set()
    file = tmp_path / "1.dcm"
    file.write_bytes(part10(body, sop=f"{ROOT}.1.1.1"))

    async def dcmtk(tool: str, *arguments: object) -> int:
        command = [f"/usr/bin/{tool}", *map(str, arguments)]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=30)
        return done.returncode

    async with door(tmp_path / "d", peers=known(pki), tls=pki.context()) as opened:
        shown = ["+tls", pki.scanner.key, pki.scanner.certificate, "+cf", pki.ca]
        called = ["-aet", "SCANNER", "-aec", AET, "127.0.0.1", opened.port]
        assert await dcmtk("echoscu", *shown, *called) == 0
        assert await dcmtk("echoscu", *shown, "+px", *called) == 0
        assert await dcmtk("storescu", *shown, *called, file) == 0
        assert await dcmtk("echoscu", "+tla", "+cf", pki.ca, *called) != 0
        assert await dcmtk("echoscu", *called) != 0
        assert len(await opened.rows()) == 1


async def test_tls_on_the_plain_listener_is_an_abort_that_says_so(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:

        def greet() -> bytes:
            with socket.create_connection(("127.0.0.1", opened.port), timeout=5) as connection:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                with contextlib.suppress(ConnectionError):
                    return connection.recv(64)
            return b""

        assert (await asyncio.to_thread(greet))[:1] == b"\x07"
