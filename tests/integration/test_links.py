"""TLS links kept current while they carry traffic: revocation, renewal, both sides, HTTP and DICOM (FF-40, T27)."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.certificates.http import Handler, peer_certificate, still_believed
from gateway.certificates.link import TrustedLink
from gateway.certificates.watch import TrustedLinks
from gateway.dimse.listener import DimseListener
from gateway.dimse.services import Services
from gateway.settings import CertificatesSettings, RevocationSettings
from indexer.wire import HttpReply, Wire
from security.clock import SystemClock
from security.errors import Broken
from tests.fixtures.dicom_objects import CT, EXPLICIT
from tests.support.dimse import AET, PeerTable, peer
from tests.support.dimse_raw import RawScu
from tests.support.pki import DAY, Pki, certificate, der, put, responding, serving

PORTS = web.AppKey("ports", list)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def application(link: TrustedLink) -> web.Application:
    app = web.Application(middlewares=[still_believed(link.trust)])
    ports: list[int] = []
    app[PORTS] = ports

    @web.middleware
    async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
        ports.append(request.transport.get_extra_info("peername")[1] if request.transport else 0)
        return await handler(request)

    app.middlewares.insert(0, noted)

    async def greet(request: web.Request) -> web.Response:
        shown = peer_certificate(request)
        return web.json_response({"bytes": len(shown), "peer": str(request.remote)})

    app.add_routes([web.get("/", greet)])
    return app


def wire(context: ssl.SSLContext) -> Wire:
    return Wire(
        tls=context,
        connect_timeout_s=5.0,
        total_timeout_s=10.0,
        response_bytes_max=4096,
        observe_date=lambda _header, _at: None,
    )


async def asked(client: Wire, port: int) -> str:
    answer = await client.exchange("GET", f"https://127.0.0.1:{port}/", headers={}, transaction="test")
    return str(answer.http_status) if isinstance(answer, HttpReply) else answer.reason


async def test_ff41_a_revoked_client_is_refused_at_its_next_request_on_a_connection_that_is_kept(pki: Pki) -> None:
    server = pki.trusted(pki.pair("server"))
    app = application(server)
    async with serving(app, tls=server.context) as port:
        connector = aiohttp.TCPConnector(ssl=pki.client(pki.pair("client")), limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.get(f"https://127.0.0.1:{port}/") as first:
                assert first.status == 200
                await first.read()
            began = time.monotonic()
            pki.revoke(pki.pair("client"))
            server.look()
            async with session.get(f"https://127.0.0.1:{port}/") as second:
                assert second.status == 403
                assert "revoked" in await second.text()
            assert len(set(app[PORTS])) == 1 < len(app[PORTS])  # the same connection
            assert time.monotonic() - began < 60
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"https://127.0.0.1:{port}/")


async def test_a_running_site_takes_a_new_list_within_a_minute(pki: Pki) -> None:
    key = "index_node"
    links = TrustedLinks({key: pki.link(pki.pair("server"))}, CertificatesSettings(), SystemClock())
    stop = asyncio.Event()
    task = asyncio.create_task(links.run(stop, told=_unheard))
    link = links.by_key[key]
    try:
        async with serving(application(link), tls=link.context) as port:
            client = wire(pki.client(pki.pair("client")))
            assert await asked(client, port) == "200"
            began = time.monotonic()
            pki.revoke(pki.pair("client"))
            async with asyncio.timeout(60):
                while await asked(client, port) == "200":
                    await asyncio.sleep(0.2)
            print(f"refused {time.monotonic() - began:.1f} s after the list was replaced")
            await client.aclose()
    finally:
        stop.set()
        await task


async def _unheard(_key: str, _shown: str) -> None: ...


async def test_a_revoked_server_is_refused_by_our_call_also_on_a_connection_that_is_kept(pki: Pki) -> None:
    server = pki.trusted(pki.pair("server"))
    ours = pki.trusted(pki.pair("client"), side="client", kind="index")
    async with serving(application(server), tls=server.context) as port:
        client = wire(ours.context)
        assert await asked(client, port) == "200"
        pki.revoke(pki.pair("server"))
        ours.look()
        assert await asked(client, port) == "tls-refused"
        await client.aclose()


async def test_a_host_that_is_not_in_the_certificate_is_refused_by_our_call(pki: Pki) -> None:
    server = pki.trusted(pki.pair("server", hosts=("elsewhere.fantome.example",)))
    ours = pki.trusted(pki.pair("client"), side="client", kind="index")
    async with serving(application(server), tls=server.context) as port:
        client = wire(ours.context)
        assert await asked(client, port) == "tls-refused"
        await client.aclose()


@pytest.mark.parametrize(("seconds", "every"), [(6.0, 1.0), pytest.param(60.0, 5.0, marks=pytest.mark.full)])
async def test_ff40_a_pair_is_rotated_under_traffic_without_one_failure(
    pki: Pki, seconds: float, every: float
) -> None:
    """50 requests/s by HTTP, 5 associations/s by DICOM, both sides renewed in turn."""
    own = pki.pair("own")
    ours = pki.pair("ours")
    spares = [pki.pair(f"spare{number}") for number in range(4)]
    server, client_link = pki.trusted(own), pki.trusted(ours, side="client", kind="index")
    scu = pki.pair("scu")
    fingerprints = {"SCU": _fingerprint(scu)}
    table = PeerTable(
        [peer(aet, fingerprint=value) for aet, value in fingerprints.items()], called_aet=AET, is_secured=True
    )
    outcomes: list[str] = []
    shown: set[str] = set()

    async def requests(port: int, client: Wire, until: float) -> None:
        begun = asyncio.get_running_loop().time()
        for number in itertools.count():
            at = begun + number / 50
            if at > until:
                return
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            outcomes.append(await asked(client, port))

    def associate(port: int) -> str:
        with RawScu(port, tls=pki.client(scu)) as caller:
            accepted = caller.associate([(CT, [EXPLICIT])]) == {1: 0}
            secured = caller.socket
            assert isinstance(secured, ssl.SSLSocket)
            shown.add(str(secured.getpeercert()["serialNumber"]))  # type: ignore[index]
        return "200" if accepted else "rejected"

    async def associations(port: int, until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            began = asyncio.get_running_loop().time()
            try:
                outcomes.append(await asyncio.to_thread(associate, port))
            except OSError as error:
                outcomes.append(type(error).__name__)
            await asyncio.sleep(max(0.0, began + 0.2 - asyncio.get_running_loop().time()))

    async def rotations(until: float) -> int:
        turned = 0
        for spare in itertools.cycle(spares):
            await asyncio.sleep(every)
            if asyncio.get_running_loop().time() > until:
                return turned
            put(spare, own)
            server.look()
            put(spare, ours)
            client_link.look()
            turned += 1
        return turned

    async with (
        serving(application(server), tls=server.context) as port,
        await DimseListener.open(
            "127.0.0.1", 0, table, Services(), tls=server.context, judge=server.trust
        ) as listener,
    ):
        client = wire(client_link.context)
        until = asyncio.get_running_loop().time() + seconds
        _, _, turned = await asyncio.gather(
            requests(port, client, until), associations(listener.port, until), rotations(until)
        )
        await client.aclose()
    assert set(outcomes) == {"200"}
    assert len(outcomes) >= 50 * seconds * 0.9
    assert turned >= 3
    assert len(shown) >= 2
    print(f"{turned} rotations of both sides, {len(outcomes)} requests and associations, 0 failures")


def _fingerprint(pair: object) -> str:
    import hashlib

    return hashlib.sha256(der(pair)).hexdigest()  # type: ignore[arg-type]


async def test_ff40_a_new_pair_that_cannot_be_used_leaves_the_old_one_and_says_why(pki: Pki, tmp_path: Path) -> None:
    own = pki.pair("own")
    link = pki.trusted(own)
    good = own.certificate.read_bytes()
    other = pki.pair("other")
    expired = pki.pair("expired", not_before=pki.now - timedelta(days=3), not_after=pki.now - timedelta(days=1))
    for pair, code in ((other, "key-mismatch"), (expired, "key-mismatch")):
        own.certificate.write_bytes(pair.certificate.read_bytes())  # the key stays
        link.look()
        assert link.fault == code
    put(expired, own)
    link.look()
    assert link.fault == "certificate-expired"
    async with serving(application(link), tls=link.context) as port:
        client = wire(pki.client(pki.pair("client")))
        assert await asked(client, port) == "200"
        await client.aclose()
    own.certificate.write_bytes(good)


async def test_t27_headers_that_speak_of_a_certificate_say_nothing(pki: Pki) -> None:
    server = pki.trusted(pki.pair("server"))
    stolen = pki.pair("stolen")
    pki.revoke(stolen)
    server.look()
    text = certificate(pki.pair("client")).public_bytes(_pem()).decode().replace("\n", "%0A")
    spoofed = dict.fromkeys(("X-Client-Cert", "X-SSL-Client-Cert", "X-Forwarded-Client-Cert"), text)
    spoofed |= {"Forwarded": "for=10.0.0.1", "X-Forwarded-For": "10.0.0.1", "X-SSL-Client-Verify": "SUCCESS"}
    async with serving(application(server), tls=server.context) as port, aiohttp.ClientSession() as session:
        url = f"https://127.0.0.1:{port}/"
        async with session.get(url, ssl=pki.client(pki.pair("client")), headers=spoofed) as answer:
            assert (await answer.json())["peer"] == "127.0.0.1"
        with pytest.raises(aiohttp.ClientError):
            await session.get(url, ssl=pki.client(stolen), headers=spoofed)
    async with (
        serving(application(server)) as port,  # no TLS at all: a header does not make a certificate
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/", headers=spoofed) as answer,
    ):
        assert answer.status == 403


def _pem():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.PEM


# ── DICOM ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_revoked_dicom_peer_is_ended_amid_its_association(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.dimse.listener._JUDGE_S", 0.1)
    link = pki.trusted(pki.pair("own"), kind="dicom")
    scanner, other = pki.pair("scanner"), pki.pair("other")
    table = PeerTable(
        [peer("SCANNER", fingerprint=_fingerprint(scanner)), peer("OTHER", fingerprint=_fingerprint(other))],
        called_aet=AET,
        is_secured=True,
    )
    async with await DimseListener.open(
        "127.0.0.1", 0, table, Services(), tls=link.context, judge=link.trust
    ) as listener:
        with (
            await asyncio.to_thread(RawScu, listener.port, tls=pki.client(scanner)) as revoked,
            await asyncio.to_thread(RawScu, listener.port, tls=pki.client(other)) as honest,
        ):
            assert await asyncio.to_thread(revoked.associate, [(CT, [EXPLICIT])], aet="SCANNER") == {1: 0}
            assert await asyncio.to_thread(honest.associate, [(CT, [EXPLICIT])], aet="OTHER") == {1: 0}
            pki.revoke(scanner)
            link.look()
            assert (await asyncio.to_thread(_next_pdu, revoked.socket))[:1] in {b"\x07", b""}  # A-ABORT, or cut
            assert await asyncio.to_thread(honest.echo, 1) == 0

        def again() -> dict[int, int]:
            with suppress(OSError), RawScu(listener.port, tls=pki.client(scanner)) as scu:
                return scu.associate([(CT, [EXPLICIT])], aet="SCANNER")
            return {}

        assert await asyncio.to_thread(again) == {}


def _next_pdu(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    with suppress(ConnectionError, ssl.SSLError):
        return connection.recv(10)
    return b""


# ── sources of revocation ────────────────────────────────────────────────────────────────────────────────────


def near(**more: object) -> CertificatesSettings:
    return CertificatesSettings(networks=["127.0.0.0/8"], **more)  # type: ignore[arg-type]


async def test_lists_are_fetched_kept_for_the_next_start_and_an_outage_changes_nothing(
    pki: Pki, tmp_path: Path
) -> None:
    served = {"status": 200}

    async def lists(_request: web.Request) -> web.Response:
        return web.Response(status=served["status"], body=pki.crl.read_bytes())

    app = web.Application()
    app.add_routes([web.get("/ca.crl", lists)])
    stolen = pki.pair("stolen")
    pki.revoke(stolen)
    async with serving(app) as port:
        revocation = RevocationSettings(crl_urls=[f"http://127.0.0.1:{port}/ca.crl"])
        link = {"k": pki.link(pki.pair("own"), revocation=revocation)}
        links = TrustedLinks(link, near(folder=tmp_path / "kept"), SystemClock())
        assert links.by_key["k"].trust.refuses(der(pki.pair("a"))) == "revocation-unknown"
        await links.refresh()
        assert links.by_key["k"].trust.refuses(der(pki.pair("a"))) == ""
        served["status"] = 503
        links._due["k"].lists_at = 0.0
        await links.refresh()
        assert links.by_key["k"].trust.refuses(der(pki.pair("a"))) == ""
    again = TrustedLinks(link, near(folder=tmp_path / "kept"), SystemClock())
    assert again.by_key["k"].trust.refuses(der(pki.pair("a"))) == ""
    assert again.by_key["k"].trust.refuses(der(stolen)) == "revoked"


async def test_ocsp_a_peer_seen_first_is_asked_about_and_its_next_try_passes(pki: Pki) -> None:
    async with responding(pki) as responder:
        revocation = RevocationSettings(ocsp_url=responder.url)
        links = TrustedLinks({"k": pki.link(pki.pair("own"), revocation=revocation)}, near(), SystemClock())
        link = links.by_key["k"]
        async with serving(application(link), tls=link.context) as port:
            client = wire(pki.client(pki.pair("client")))
            assert await asked(client, port) != "200"
            await links.refresh()
            assert await asked(client, port) == "200"
            responder.revoked.add(certificate(pki.pair("client")).serial_number)
            links._due["k"].answers.clear()
            await links.refresh()
            assert await asked(client, port) == "403"
            await client.aclose()
        assert responder.asked == 2


async def test_ocsp_an_outage_is_the_rule_of_the_link(pki: Pki) -> None:
    async with responding(pki) as responder:
        responder.status = 500
        shown = der(pki.pair("client"))
        for unknown, verdict in (("deny", "revocation-unknown"), ("allow", "")):
            revocation = RevocationSettings(ocsp_url=responder.url, unknown=unknown)  # type: ignore[arg-type]
            links = TrustedLinks({"k": pki.link(pki.pair("own"), revocation=revocation)}, near(), SystemClock())
            trust = links.by_key["k"].trust
            assert trust.refuses(shown) == verdict
            await links.refresh()
            assert trust.refuses(shown) == verdict
        assert responder.asked == 2


def test_a_bundle_that_is_gone_stops_the_start_by_name(pki: Pki) -> None:
    pki.ca.unlink()
    with pytest.raises(Broken) as refused:
        pki.trusted(pki.pair("own"))
    assert refused.value.code == "tls-unusable"
    assert "ca.pem" in str(refused.value)


class _Set(SystemClock):
    """A clock that somebody sets; seconds go on as they do."""

    by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by


def test_t64_a_clock_that_is_wrong_while_a_list_changes_ends_nothing_and_mends_itself(pki: Pki) -> None:
    clock, server = _Set(), pki.pair("server")
    link = pki.trusted(server, clock=clock)
    before = link.context.generation
    for step, code in ((-timedelta(hours=2), "certificate-not-yet-valid"), (400 * DAY, "certificate-expired")):
        clock.by = step
        pki.revoke(pki.pair("client"))
        link.look()
        assert (link.fault, link.context.generation) == (code, before), "it goes on with what it has, and says so"
        assert link.trust.refuses(der(pki.pair("client"))) != "", "a peer that was revoked is refused all the same"
        clock.by = timedelta()
        link.look()
        assert link.fault == ""
        before = link.context.generation


def test_a_pair_that_is_not_valid_yet_is_served_once_it_is(pki: Pki) -> None:
    clock, old = _Set(), pki.pair("server")
    link = pki.trusted(old, clock=clock)
    coming = pki.pair("coming", not_before=pki.now + timedelta(hours=1))
    for source, place in ((coming.key, old.key), (coming.certificate, old.certificate)):
        place.write_bytes(source.read_bytes())
    told: list[str] = []
    link.look(lambda _key, shown: told.append(shown))
    assert (link.fault, told) == ("certificate-not-yet-valid", [])
    clock.by = timedelta(hours=2)
    link.look(lambda _key, shown: told.append(shown))
    assert (link.fault, len(told)) == ("", 1)
