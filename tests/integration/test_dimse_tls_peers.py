"""DICOM over TLS with DCMTK and pynetdicom on the other side, both ways (FF-41, PS3.15 B.12)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification  # type: ignore[attr-defined]

from gateway.dimse.listener import DimseListener
from gateway.dimse.negotiation import Terms
from gateway.dimse.services import Request, Services
from gateway.pacs.dimse import DimsePeer, DimseSource
from gateway.settings import DicomSettings, PacsDimse
from indexer.study import Absent, Unknown
from security.identity import Uid
from security.keys.lab_pki import CLIENT_AUTH, SERVER_AUTH, PemPair
from tests.fixtures.dicom_objects import ROOT, data_set, part10
from tests.support.dimse import AET, PeerTable, door, peer
from tests.support.pki import Pki, der

DAY = timedelta(days=1)
pytestmark = pytest.mark.dcmtk


@pytest.fixture(scope="module", autouse=True)
def dcmtk() -> None:
    if not Path("/usr/bin/storescu").exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no DCMTK on this machine")


class People(Pki):
    """The door, one good client, and those who must not come in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "pki")
        stranger = Pki(folder / "other")
        self.own = self.pair("own")
        self.clients = {
            "good": self.pair("good"),
            "wrong-ca": stranger.pair("good"),
            "revoked": self.pair("revoked"),
            "expired": self.pair("expired", not_before=self.now - 2 * DAY, not_after=self.now - DAY),
            "server-only": self.pair("for-servers", purposes=(SERVER_AUTH,)),
        }
        self.revoke(self.clients["revoked"])
        self.other_ca = stranger.ca


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("people"))


async def called(tool: str, *arguments: object) -> int:
    command = [f"/usr/bin/{tool}", *map(str, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, timeout=30)
    return done.returncode


def shown(pair: PemPair | None, people: People) -> list[object]:
    if pair is None:
        return ["+tla", "+cf", people.ca]
    return ["+tls", pair.key, pair.certificate, "+cf", people.ca]


def table(people: People) -> PeerTable:
    """Every client is configured as the peer SCU: what keeps one out is its certificate alone."""
    fingerprints = {name: hashlib.sha256(der(pair)).hexdigest() for name, pair in people.clients.items()}
    return PeerTable(
        [peer("SCU", fingerprint=value) for value in fingerprints.values()], called_aet=AET, is_secured=True
    )


@pytest.fixture
async def listener(people: People) -> AsyncIterator[DimseListener]:
    link = people.trusted(people.own, kind="dicom")
    async with await DimseListener.open(
        "127.0.0.1", 0, table(people), Services(), tls=link.context, judge=link.trust
    ) as opened:
        yield opened


@pytest.mark.parametrize(
    ("who", "passes"),
    [
        ("good", True),
        ("wrong-ca", False),
        ("revoked", False),
        ("expired", False),
        ("server-only", False),
        ("", False),
    ],
)
async def test_ff41_dcmtk_calls_our_door_with_and_without_a_good_certificate(
    people: People, listener: DimseListener, who: str, passes: bool
) -> None:
    how = shown(people.clients.get(who), people)
    code = await called("echoscu", *how, "-aet", "SCU", "-aec", AET, "127.0.0.1", listener.port)
    assert (code == 0) is passes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("who", "passes"),
    [
        ("good", True),
        ("wrong-ca", False),
        ("revoked", False),
        ("expired", False),
        ("server-only", False),
        ("", False),
    ],
)
async def test_ff41_pynetdicom_calls_our_door_by_either_version(
    people: People, listener: DimseListener, version: ssl.TLSVersion, who: str, passes: bool
) -> None:
    def echo() -> bool:
        context = ssl.create_default_context(cafile=people.ca)
        context.minimum_version = context.maximum_version = version
        if who:
            context.load_cert_chain(people.clients[who].certificate, people.clients[who].key)
        entity = AE("SCU")
        entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = 5
        entity.add_requested_context(Verification)
        association = entity.associate("127.0.0.1", listener.port, ae_title=AET, tls_args=(context, "127.0.0.1"))
        if not association.is_established:
            return False
        status = association.send_c_echo().get("Status")
        association.release()
        return status == 0

    assert await asyncio.to_thread(echo) is passes


@pytest.mark.parametrize(
    ("profile", "passes"),
    [("+px", True), ("+py", True), ("+pz", True), ("+pb", False), ("+pa", False), ("plain", False)],
    ids=["bcp195", "bcp195-nd", "bcp195-ex", "basic", "aes", "plain"],
)
async def test_dcmtks_profiles_of_today_connect_and_the_retired_ones_do_not(
    people: People, listener: DimseListener, profile: str, passes: bool
) -> None:
    how = [] if profile == "plain" else [*shown(people.clients["good"], people), profile]
    code = await called("echoscu", *how, "-aet", "SCU", "-aec", AET, "127.0.0.1", listener.port)
    assert (code == 0) is passes


async def test_dcmtk_stores_by_tls_and_a_revoked_sender_stores_nothing(people: People, tmp_path: Path) -> None:
    link = people.trusted(people.own, kind="dicom")
    file = tmp_path / "1.dcm"
    file.write_bytes(part10(data_set(), sop=f"{ROOT}.1.1.1"))
    known = tuple(
        peer("SCU", fingerprint=hashlib.sha256(der(people.clients[name])).hexdigest()) for name in ("good", "revoked")
    )
    async with door(tmp_path / "d", peers=known, tls=link.context) as opened:
        where = ["-aet", "SCU", "-aec", AET, "127.0.0.1", opened.port, file]
        assert await called("storescu", *shown(people.clients["revoked"], people), *where) != 0
        assert await opened.rows() == []
        assert await called("storescu", *shown(people.clients["good"], people), *where) == 0
        assert len(await opened.rows()) == 1


# ── our calls ────────────────────────────────────────────────────────────────────────────────────────────────


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def storescp(people: People, own: PemPair, folder: Path) -> Iterator[int]:
    """DCMTK's server behind TLS: it demands our certificate; its port. (Its query server, dcmqrscp, has no TLS.)"""
    port = free_port()
    command = ["/usr/bin/storescp", "+tls", own.key, own.certificate, "+cf", people.ca, "-rc", "-od", folder, port]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = datetime.now(UTC) + timedelta(seconds=15)
        while datetime.now(UTC) < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                threading.Event().wait(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def source(people: People, own: PemPair, port: int, *, host: str = "127.0.0.1") -> DimseSource:
    link = people.trusted(own, side="client", kind="pacs")
    return DimseSource(
        DimsePeer(
            name="p", host=host, port=port, called_aet="QRSCP", calling_aet="POTERNE", timeout_s=5.0, deadline_s=10.0,
            tls=link.context,
        )
    )  # fmt: skip


async def asked(people: People, own: PemPair, port: int, **how: str) -> object:
    asking = source(people, own, port, **how)
    try:
        return await asking.find(Uid(f"{ROOT}.9"))
    finally:
        await asking.close()


async def test_ff41_our_call_reaches_dcmtks_server_by_tls_and_a_bad_certificate_of_either_side_does_not(
    people: People, tmp_path: Path
) -> None:
    """storescp takes the association and refuses the query, which it cannot serve: that is what reached it."""
    good = people.clients["good"]
    with storescp(people, people.pair("pacs"), tmp_path) as port:
        reached = await asked(people, good, port)
        assert isinstance(reached, Unknown)
        assert (reached.reason, "Study Root FIND" in reached.detail) == ("refused", True)
        stopped = await asked(people, people.clients["wrong-ca"], port)
        assert isinstance(stopped, Unknown)
        assert stopped.reason != "refused"
    with storescp(people, people.clients["revoked"], tmp_path) as port:
        stopped = await asked(people, good, port)
        assert isinstance(stopped, Unknown)
        assert stopped.reason == "unreachable"


class Nothing:
    """A query service that knows no study."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, _request: Request, _identifier: bytes) -> AsyncIterator[bytes]:
        self.asked += 1
        for nothing in ():
            yield nothing


async def test_dcmtks_findscu_asks_our_door_by_tls_with_a_good_certificate_only(people: People) -> None:
    link, service = people.trusted(people.own, kind="dicom"), Nothing()
    terms = Terms(services=frozenset({StudyRootQueryRetrieveInformationModelFind}))
    known = [
        peer("SCU", terms=terms, fingerprint=hashlib.sha256(der(people.clients[who])).hexdigest())
        for who in ("good", "revoked", "expired")
    ]
    policy = PeerTable(known, called_aet=AET, is_secured=True)
    async with await DimseListener.open(
        "127.0.0.1", 0, policy, Services(find=service), tls=link.context, judge=link.trust
    ) as opened:
        key = ["-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
        where = ["-aet", "SCU", "-aec", AET, "127.0.0.1", opened.port]
        assert await called("findscu", *shown(people.clients["good"], people), *key, *where) == 0
        assert service.asked == 1
        for who in ("revoked", "wrong-ca", "expired"):
            assert await called("findscu", *shown(people.clients[who], people), *key, *where) != 0
        assert service.asked == 1


async def test_ff41_a_pacs_that_must_not_be_believed_is_not_asked(people: People, tmp_path: Path) -> None:
    wrong = {
        "revoked": people.clients["revoked"],
        "expired": people.clients["expired"],
        "client-only": people.pair("for-clients", purposes=(CLIENT_AUTH,)),
        "other-host": people.pair("elsewhere", hosts=("elsewhere.example",)),
        "wrong-ca": people.clients["wrong-ca"],
    }
    for name, pair in wrong.items():
        with pynetdicom_pacs(pair) as (port, asked_for):
            answer = await asked(people, people.clients["good"], port)
            assert isinstance(answer, Unknown), name
            assert asked_for == [], name
    with pynetdicom_pacs(people.own) as (port, asked_for):
        assert isinstance(await asked(people, people.clients["good"], port), Absent)
        assert asked_for


@contextmanager
def pynetdicom_pacs(pair: PemPair) -> Iterator[tuple[int, list[str]]]:
    """A PACS that asks for no certificate, and what it was asked."""
    asked_for: list[str] = []

    def find(event: evt.Event) -> Iterator[tuple[int, None]]:
        asked_for.append(event.assoc.requestor.ae_title)
        yield 0x0000, None

    entity = AE("QRSCP")
    entity.acse_timeout = 2
    entity.supported_contexts = []
    for needed in (Verification, StudyRootQueryRetrieveInformationModelFind):
        entity.add_supported_context(needed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=[(evt.EVT_C_FIND, find)]
    )
    try:
        yield server.socket.getsockname()[1], asked_for
    finally:
        server.shutdown()


def test_plain_dicom_is_for_a_segment_that_is_marked() -> None:
    listening = {"listen": "127.0.0.1:104", "folder": "in", "peers": {"a": {"aet": "A", "networks": ["10.0.0.1"]}}}
    assert [key for key, _, _ in DicomSettings.between(listening)] == ["segment"]
    assert [*DicomSettings.between(listening | {"segment": "trusted-lan"})] == []
    assert [key for key, _, _ in PacsDimse.between({"host": "10.0.0.9"})] == ["segment"]
    for fine in ({"segment": "trusted-lan"}, {"certificate_file": "own.pem"}, {"host": "127.0.0.1"}):
        assert [*PacsDimse.between({"host": "10.0.0.9"} | fine)] == []
