"""``indexer.xds.client`` against real servers on real sockets that answer as each test scripts them."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from indexer.ports import (
    Accepted,
    Ambiguous,
    EntryAbsent,
    EntryFound,
    EntryUnknown,
    NotSent,
    Rejected,
    Submission,
)
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.soap import Envelope, decode, documents, encode_response, include
from security.errors import BadInput, Broken, Unavailable
from security.keys.lab_pki import LabAuthority, PemPair
from security.keys.tls import client_context, server_context

SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
ENTRY_UUID = "urn:uuid:33333333-3333-4333-8333-333333333333"
METADATA = b'<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'
SUBMISSION = Submission(unique_id="2.25.1", metadata=METADATA, documents={"urn:uuid:d": b"\x00" * 128 + b"DICM"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def registry_response(status: str = SUCCESS) -> bytes:
    return f'<rs:RegistryResponse xmlns:rs="{RS}" status="{status}"/>'.encode()


def answer(
    request: Envelope, body: bytes, *, mtom: bool = True, attachments: dict[str, bytes] | None = None
) -> web.Response:
    content_type, data = encode_response(
        action=request.action + "Response",
        relates_to=request.message_id,
        message_id="urn:uuid:99999999-9999-4999-8999-999999999999",
        body=body,
        attachments=attachments or {},
        mtom=mtom,
    )
    return web.Response(body=data, headers={"Content-Type": content_type})


async def received(request: web.Request) -> Envelope:
    return decode(request.headers["Content-Type"], await request.read())


@asynccontextmanager
async def index(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers every POST by ``handler``; yields its address."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/xds", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"{'https' if tls else 'http'}://{host}:{port}/xds"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(
    url: str,
    *,
    tls: ssl.SSLContext | None = None,
    connect_timeout_s: float = 2.0,
    total_timeout_s: float = 5.0,
    response_bytes_max: int = 1024 * 1024,
) -> AsyncIterator[XdsClient]:
    made = XdsClient(
        XdsEndpoint(
            registry_url=url,
            repository_url=url,
            repository_unique_id="2.25.8000",
            tls=tls,
            connect_timeout_s=connect_timeout_s,
            total_timeout_s=total_timeout_s,
            response_bytes_max=response_bytes_max,
        )
    )
    try:
        yield made
    finally:
        await made.aclose()


def reset(request: web.Request) -> None:
    """Close the connection under the request with a RST instead of a FIN."""
    assert request.transport is not None
    sock = request.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


# -- what goes out, what comes back ------------------------------------------------------------------------------


async def test_a_submission_arrives_unchanged_and_its_success_is_accepted() -> None:
    seen: list[tuple[Envelope, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((await received(request), await request.read()))
        return answer(seen[-1][0], registry_response())

    async with index(handler) as url, client(url) as xds:
        assert await xds.provide_and_register(SUBMISSION) == Accepted()
    ((envelope, data),) = seen
    assert envelope.action == "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
    assert METADATA in data
    assert documents(envelope.body, envelope.attachments) == dict(SUBMISSION.documents)


async def test_ff21_a_second_attempt_carries_the_same_metadata_and_document_under_another_message_id() -> None:
    seen: list[tuple[Envelope, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((await received(request), await request.read()))
        return answer(seen[-1][0], registry_response())

    async with index(handler) as url, client(url) as xds:
        await xds.provide_and_register(SUBMISSION)
        await xds.provide_and_register(SUBMISSION)
    (first, first_bytes), (second, second_bytes) = seen
    assert first.message_id != second.message_id
    assert all(
        METADATA in data and SUBMISSION.documents["urn:uuid:d"] in data for data in (first_bytes, second_bytes)
    )


async def test_a_large_submission_passes() -> None:
    large = Submission(unique_id="2.25.1", metadata=METADATA, documents={"d": bytes(range(256)) * 20_000})

    async def handler(request: web.Request) -> web.Response:
        envelope = await received(request)
        assert documents(envelope.body, envelope.attachments) == dict(large.documents)
        return answer(envelope, registry_response())

    async with index(handler) as url, client(url) as xds:
        assert await xds.provide_and_register(large) == Accepted()


async def test_a_document_is_found_by_query() -> None:
    entry = (
        f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rim="{RIM}" status="{SUCCESS}"><rim:RegistryObjectList>'
        f'<rim:ExtrinsicObject id="{ENTRY_UUID}" status="urn:oasis:names:tc:ebxml-regrep:StatusType:Approved">'
        '<rim:ExternalIdentifier identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab" value="2.25.1"/>'
        "</rim:ExtrinsicObject></rim:RegistryObjectList></query:AdhocQueryResponse>"
    )

    async def handler(request: web.Request) -> web.Response:
        envelope = await received(request)
        assert envelope.action == "urn:ihe:iti:2007:RegistryStoredQuery"
        assert request.content_type == "application/soap+xml"
        return answer(envelope, entry.encode(), mtom=False)

    async with index(handler) as url, client(url) as xds:
        assert await xds.find_document("2.25.1") == EntryFound(
            entry_uuid=ENTRY_UUID, unique_id="2.25.1", status="Approved"
        )


async def test_a_clean_empty_answer_means_absent() -> None:
    empty = (
        f'<query:AdhocQueryResponse xmlns:query="{QUERY}" xmlns:rim="{RIM}" status="{SUCCESS}">'
        "<rim:RegistryObjectList/></query:AdhocQueryResponse>"
    )

    async def handler(request: web.Request) -> web.Response:
        return answer(await received(request), empty.encode(), mtom=False)

    async with index(handler) as url, client(url) as xds:
        assert await xds.find_document("2.25.1") == EntryAbsent()


async def test_a_document_is_retrieved() -> None:
    async def handler(request: web.Request) -> web.Response:
        envelope = await received(request)
        assert envelope.action == "urn:ihe:iti:2007:RetrieveDocumentSet"
        body = (
            f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{XDSB}">{registry_response().decode()}<xdsb:DocumentResponse>'
            "<xdsb:RepositoryUniqueId>2.25.8000</xdsb:RepositoryUniqueId>"
            "<xdsb:DocumentUniqueId>2.25.1</xdsb:DocumentUniqueId><xdsb:mimeType>application/dicom</xdsb:mimeType>"
            f"<xdsb:Document>{include('doc@index').decode()}</xdsb:Document>"
            "</xdsb:DocumentResponse></xdsb:RetrieveDocumentSetResponse>"
        )
        return answer(envelope, body.encode(), attachments={"doc@index": b"DICM\x00\xff"})

    async with index(handler) as url, client(url) as xds:
        assert await xds.retrieve_document("2.25.1", "2.25.8000") == b"DICM\x00\xff"


async def test_t26_only_the_configured_repository_is_asked() -> None:
    async with client("http://127.0.0.1:9/xds") as xds:
        with pytest.raises(BadInput) as caught:
            await xds.retrieve_document("2.25.1", "2.25.666")
    assert caught.value.code == "XDSUnknownRepositoryId"


# -- nothing left ------------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_a_refused_connection_means_not_sent() -> None:
    async with client(f"http://127.0.0.1:{closed_port()}/xds") as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
        assert isinstance(outcome, NotSent)
        assert outcome.reason == "no-connection"
        assert isinstance(await xds.find_document("2.25.1"), EntryUnknown)
        with pytest.raises(Unavailable):
            await xds.retrieve_document("2.25.1", "2.25.8000")


async def test_a_connection_that_does_not_come_about_means_not_sent_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]  # fill the accept queue: later SYNs are dropped
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with client(f"http://127.0.0.1:{port}/xds", connect_timeout_s=0.3) as xds:
                begin = time.monotonic()
                outcome = await xds.provide_and_register(SUBMISSION)
        finally:
            for filler in fillers:
                filler.close()
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "connect-timeout"
    assert time.monotonic() - begin < 3


# -- nobody knows ------------------------------------------------------------------------------------------------


async def test_f07_a_reset_after_the_request_was_read_is_ambiguous_and_nothing_is_sent_again() -> None:
    requests = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        await request.read()
        reset(request)
        return web.Response()

    async with index(handler) as url, client(url) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "connection-lost"
    assert requests == 1


async def test_f07_a_reset_on_a_kept_connection_is_ambiguous_and_nothing_is_sent_again() -> None:
    requests = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        envelope = await received(request)
        if requests == 2:
            reset(request)
        return answer(envelope, registry_response())

    async with index(handler) as url, client(url) as xds:
        assert await xds.provide_and_register(SUBMISSION) == Accepted()
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert requests == 2


async def test_f06_a_slow_index_is_ambiguous_in_time() -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(30)
        return web.Response()

    async with index(handler) as url, client(url, total_timeout_s=0.4) as xds:
        begin = time.monotonic()
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "timeout"
    assert time.monotonic() - begin < 3


async def test_f06_an_answer_that_drips_is_ambiguous_in_time() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "application/soap+xml"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    async with index(handler) as url, client(url, total_timeout_s=0.4) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "timeout"


async def test_f10_an_answer_cut_in_the_middle_is_ambiguous() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "application/soap+xml", "Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"<soap:Envelope")
        reset(request)
        return response

    async with index(handler) as url, client(url) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "connection-lost"


async def test_f10_a_maintenance_page_under_http_200_is_ambiguous() -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="<html>maintenance</html>", content_type="text/html")

    async with index(handler) as url, client(url) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "unreadable-answer"


async def test_f10_bytes_that_are_no_http_are_ambiguous() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"http://127.0.0.1:{port}/xds") as xds:
            assert isinstance(await xds.provide_and_register(SUBMISSION), Ambiguous)


async def test_t24_a_compressed_answer_is_not_inflated() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        envelope = await received(request)
        plain = answer(envelope, registry_response(), mtom=False)
        return web.Response(
            body=gzip.compress(bytes(plain.body)),  # type: ignore[arg-type]  # bytes, set by answer()
            headers={"Content-Type": plain.headers["Content-Type"], "Content-Encoding": "gzip"},
        )

    async with index(handler) as url, client(url) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "unreadable-answer"


async def test_t24_an_answer_over_the_cap_is_ambiguous() -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b" " * 300_000, content_type="application/soap+xml")

    async with index(handler) as url, client(url, response_bytes_max=100_000) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Ambiguous)
    assert outcome.reason == "answer-too-large"


# -- clear refusals ----------------------------------------------------------------------------------------------


async def test_a_busy_index_says_when_to_come_back() -> None:
    async def handler(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=503, headers={"Retry-After": "17"})

    async with index(handler) as url, client(url) as xds:
        assert await xds.provide_and_register(SUBMISSION) == Rejected(
            lasting=False, known=True, codes=("http-503",), detail="HTTP 503", retry_after_s=17.0
        )


async def test_t26_a_redirect_is_not_followed() -> None:
    reached = False

    async def elsewhere(request: web.Request) -> web.Response:
        nonlocal reached
        reached = True
        return web.Response()

    async with index(elsewhere) as other:

        async def handler(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(status=307, headers={"Location": other})

        async with index(handler) as url, client(url) as xds:
            outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, Rejected)
    assert (outcome.codes, outcome.known) == (("http-307",), False)
    assert not reached


async def test_t26_proxy_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)

    async def handler(request: web.Request) -> web.Response:
        return answer(await received(request), registry_response())

    async with index(handler) as url, client(url) as xds:
        assert await xds.provide_and_register(SUBMISSION) == Accepted()


async def test_closing_twice_is_harmless() -> None:
    async with client("http://127.0.0.1:9/xds") as xds:
        assert isinstance(await xds.find_document("2.25.1"), EntryUnknown)
        await xds.aclose()
        await xds.aclose()


@pytest.mark.parametrize(
    "url", ["http://index.example/xds", "http://10.0.0.1/xds", "https://index.example/xds", "ftp://127.0.0.1/", "xds"]
)
def test_an_address_without_mutual_tls_is_refused_at_configuration(url: str) -> None:
    with pytest.raises(Broken) as caught:
        XdsEndpoint(registry_url=url, repository_url=url, repository_unique_id="2.25.8000")
    assert caught.value.code == "index-address"


# -- crash point -------------------------------------------------------------------------------------------------


async def test_f01_the_crash_point_stands_after_the_index_has_answered(tmp_path: Path) -> None:
    committed = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        envelope = await received(request)
        committed.set()
        return answer(envelope, registry_response())

    script = tmp_path / "send.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, sys
            from indexer.ports import Submission
            from indexer.xds.client import XdsClient, XdsEndpoint

            async def main(url):
                xds = XdsClient(XdsEndpoint(registry_url=url, repository_url=url, repository_unique_id="2.25.8000"))
                await xds.provide_and_register(Submission(unique_id="2.25.1", metadata=b"<a/>", documents={"d": b"x"}))
                print("came back")

            asyncio.run(main(sys.argv[1]))
            """
        )
    )
    async with index(handler) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            url,
            env={
                "POTERNE_CRASH_AT": "request-sent",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PATH": "/usr/bin",
            },
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert process.returncode == -9
    assert out == b""
    assert committed.is_set()


# -- TLS ---------------------------------------------------------------------------------------------------------


def authority(folder: Path) -> LabAuthority:
    folder.mkdir()
    return LabAuthority.create(folder, now=datetime.now(UTC))


def issued(ca: LabAuthority, name: str) -> PemPair:
    now = datetime.now(UTC)
    return ca.issue(name, not_before=now - timedelta(hours=1), not_after=now + timedelta(hours=1))


def contexts(tmp_path: Path, *, index_of: str, gateway_of: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client context; both sides trust the authority ``ours``, the certificates are of those named."""
    cas = {"ours": authority(tmp_path / "ours"), "other": authority(tmp_path / "other")}
    server, caller = issued(cas[index_of], "index"), issued(cas[gateway_of], "gateway")
    trusted = cas["ours"].certificate
    return (
        server_context(server.certificate, server.key, trusted),
        client_context(caller.certificate, caller.key, trusted),
    )


async def accepting(request: web.Request) -> web.Response:
    return answer(await received(request), registry_response())


async def test_mutual_tls_with_the_right_authority_is_accepted(tmp_path: Path) -> None:
    server, ours = contexts(tmp_path, index_of="ours", gateway_of="ours")
    async with index(accepting, tls=server) as url, client(url, tls=ours) as xds:
        assert await xds.provide_and_register(SUBMISSION) == Accepted()


async def test_f14_an_index_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    server, ours = contexts(tmp_path, index_of="other", gateway_of="ours")
    async with index(accepting, tls=server) as url, client(url, tls=ours) as xds:
        outcome = await xds.provide_and_register(SUBMISSION)
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "tls-refused"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_f14_an_index_that_refuses_our_certificate_got_nothing(tmp_path: Path, version: ssl.TLSVersion) -> None:
    server, ours = contexts(tmp_path, index_of="ours", gateway_of="other")
    ours.minimum_version = ours.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = threading.Thread(target=refuse_one, args=(listener, server))
        refusing.start()
        async with client(f"https://127.0.0.1:{listener.getsockname()[1]}/xds", tls=ours) as xds:
            outcome = await xds.provide_and_register(SUBMISSION)
        refusing.join()
    assert isinstance(outcome, NotSent)
    assert outcome.reason == "tls-refused"


async def test_f14_a_refusal_of_our_certificate_that_looks_like_a_reset_is_never_a_success(
    tmp_path: Path,
) -> None:
    server, ours = contexts(tmp_path, index_of="ours", gateway_of="other")
    async with index(accepting, tls=server) as url, client(url, tls=ours) as xds:  # asyncio's TLS resets, no alert
        assert isinstance(await xds.provide_and_register(SUBMISSION), Ambiguous | NotSent)


def refuse_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Refuse one client in the handshake as common servers do: send the alert, drain what comes, close."""
    connection, _ = listener.accept()
    connection.settimeout(5)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    with connection:
        for _ in range(10):
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
            except ssl.SSLError:
                break
        connection.sendall(outgoing.read())
        while connection.recv(65536):
            pass
