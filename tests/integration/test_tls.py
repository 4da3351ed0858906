"""Mutual TLS on loopback with the lab's authority: who gets through, and how."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from security.errors import Broken, Refused
from security.keys.lab_pki import CLIENT_AUTH, SERVER_AUTH, LabAuthority, PemPair
from security.keys.tls import client_context, server_context

NOW = datetime.now(UTC)
TODAY = {"not_before": NOW - timedelta(hours=1), "not_after": NOW + timedelta(days=1)}
PAST = {"not_before": NOW - timedelta(days=2), "not_after": NOW - timedelta(days=1)}
FUTURE = {"not_before": NOW + timedelta(days=1), "not_after": NOW + timedelta(days=2)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> LabAuthority:
    return LabAuthority.create(tmp_path_factory.mktemp("pki"), now=NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> LabAuthority:
    return LabAuthority.create(tmp_path_factory.mktemp("other-pki"), now=NOW)


@pytest.fixture(scope="module")
def gateway(authority: LabAuthority) -> PemPair:
    return authority.issue("gateway", **TODAY, purposes=(SERVER_AUTH,))


@pytest.fixture(scope="module")
def peer(authority: LabAuthority) -> PemPair:
    return authority.issue("peer", **TODAY, purposes=(CLIENT_AUTH,))


@contextlib.asynccontextmanager
async def _listening(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that says "served" to whoever it accepts."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"served")
            await writer.drain()
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _call(port: int, context: ssl.SSLContext, host: str = "localhost") -> tuple[bytes, ssl.SSLObject]:
    """What the server said, and the session. TLS 1.3 shows a refusal of the client only at the first read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    try:
        answer = await reader.readexactly(6)
        return answer, writer.get_extra_info("ssl_object")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _server(pair: PemPair, authority: LabAuthority) -> ssl.SSLContext:
    return server_context(pair.certificate, pair.key, authority.certificate)


def _client(pair: PemPair, authority: LabAuthority) -> ssl.SSLContext:
    return client_context(pair.certificate, pair.key, authority.certificate)


REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_two_sides_of_one_authority_meet(
    authority: LabAuthority, gateway: PemPair, peer: PemPair, version: ssl.TLSVersion
) -> None:
    context = _client(peer, authority)
    context.maximum_version = version
    async with _listening(_server(gateway, authority)) as port:
        answer, session = await _call(port, context)
    assert answer == b"served"
    assert session.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
    assert session.cipher()[0] in {"ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384"}  # type: ignore[index]
    assert not session.session.has_ticket  # type: ignore[union-attr]


async def test_an_address_may_be_the_name(authority: LabAuthority, gateway: PemPair, peer: PemPair) -> None:
    async with _listening(_server(gateway, authority)) as port:
        assert (await _call(port, _client(peer, authority), host="127.0.0.1"))[0] == b"served"


async def test_a_client_without_a_certificate_is_refused(authority: LabAuthority, gateway: PemPair) -> None:
    context = ssl.create_default_context(cafile=authority.certificate)
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, context)


async def test_a_client_of_another_authority_is_refused(
    authority: LabAuthority, stranger: LabAuthority, gateway: PemPair
) -> None:
    alien = stranger.issue("alien", **TODAY)
    context = client_context(alien.certificate, alien.key, authority.certificate)
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, context)


@pytest.mark.parametrize(("name", "validity"), [("peer-expired", PAST), ("peer-early", FUTURE)])
async def test_f14_a_client_outside_its_validity_is_refused(
    authority: LabAuthority, gateway: PemPair, name: str, validity: dict[str, datetime]
) -> None:
    late = authority.issue(name, **validity)
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, _client(late, authority))


async def test_a_client_whose_certificate_is_for_servers_is_refused(
    authority: LabAuthority, gateway: PemPair
) -> None:
    wrong = authority.issue("wrong-purpose-client", **TODAY, purposes=(SERVER_AUTH,))
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, _client(wrong, authority))


async def _refused_by_client(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost") -> str:
    async with _listening(server) as port:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await _call(port, client, host=host)
    return caught.value.verify_message


async def test_a_server_of_another_authority_is_refused(
    authority: LabAuthority, stranger: LabAuthority, peer: PemPair
) -> None:
    alien = stranger.issue("alien-server", **TODAY)
    reason = await _refused_by_client(_server(alien, authority), _client(peer, authority))
    assert reason == "unable to get local issuer certificate"


async def test_f14_an_expired_server_is_refused(authority: LabAuthority, peer: PemPair) -> None:
    late = authority.issue("server-expired", **PAST)
    assert await _refused_by_client(_server(late, authority), _client(peer, authority)) == "certificate has expired"


async def test_a_server_of_another_name_is_refused(authority: LabAuthority, gateway: PemPair, peer: PemPair) -> None:
    reason = await _refused_by_client(_server(gateway, authority), _client(peer, authority), host="index.example")
    assert "Hostname mismatch" in reason


async def test_a_name_in_the_subject_does_not_stand_for_subject_alt_name(
    authority: LabAuthority, peer: PemPair
) -> None:
    named = authority.issue("index.example", **TODAY, hosts=("elsewhere.example",))
    reason = await _refused_by_client(_server(named, authority), _client(peer, authority), host="index.example")
    assert "Hostname mismatch" in reason


async def test_a_server_whose_certificate_is_for_clients_is_refused(authority: LabAuthority, peer: PemPair) -> None:
    wrong = authority.issue("wrong-purpose-server", **TODAY, purposes=(CLIENT_AUTH,))
    reason = await _refused_by_client(_server(wrong, authority), _client(peer, authority))
    assert "purpose" in reason


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_a_client_that_speaks_only_tls_1_1_is_refused(
    authority: LabAuthority, gateway: PemPair, peer: PemPair
) -> None:
    context = _client(peer, authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, context)


async def test_a_client_that_offers_no_accepted_suite_is_refused(
    authority: LabAuthority, gateway: PemPair, peer: PemPair
) -> None:
    context = _client(peer, authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
    async with _listening(_server(gateway, authority)) as port:
        with pytest.raises(REFUSED):
            await _call(port, context)


def test_the_system_store_is_never_trusted(authority: LabAuthority, gateway: PemPair) -> None:
    for context in (_server(gateway, authority), _client(gateway, authority)):
        trusted = [x509.load_der_x509_certificate(der) for der in context.get_ca_certs(binary_form=True)]
        assert [ca.subject.rfc4514_string() for ca in trusted] == [
            "CN=Poterne lab CA,O=Poterne lab - NOT FOR PRODUCTION"
        ]


def test_t60_a_tls_key_that_others_may_read_is_refused(authority: LabAuthority) -> None:
    pair = authority.issue("exposed", **TODAY)
    pair.key.chmod(0o640)
    with pytest.raises(Broken) as caught:
        _server(pair, authority)
    assert caught.value.code == "secret-exposed"


def test_a_key_that_is_not_the_certificates_is_refused(
    authority: LabAuthority, gateway: PemPair, peer: PemPair
) -> None:
    with pytest.raises(Broken) as caught:
        server_context(gateway.certificate, peer.key, authority.certificate)
    assert caught.value.code == "tls-unusable"


def test_an_authority_that_is_not_there_is_named(gateway: PemPair, tmp_path: Path) -> None:
    with pytest.raises(Broken, match=r"absent\.pem"):
        client_context(gateway.certificate, gateway.key, tmp_path / "absent.pem")


def test_the_labs_files_say_what_they_are_and_its_keys_are_private(authority: LabAuthority, peer: PemPair) -> None:
    certificate = x509.load_pem_x509_certificate(peer.certificate.read_bytes())
    assert certificate.issuer.rfc4514_string() == "CN=Poterne lab CA,O=Poterne lab - NOT FOR PRODUCTION"
    assert stat.filemode(peer.key.stat().st_mode) == "-rw-------"
    with pytest.raises(Refused, match="exists already"):
        authority.issue("peer", **TODAY)
