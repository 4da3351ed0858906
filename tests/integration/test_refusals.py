"""Who was not let in stands in the audit trail, and a flood of refusals is a handful of records."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway.hl7.mllp import MllpLimits, serve_mllp
from gateway.settings import load
from security.audit.refusals import TOLD_MAX, Refusals
from security.errors import Unavailable
from security.flood import Measure, throttled
from security.gatekeeper import peer, policed
from security.policy import Action, Refusal, Role, Zone
from security.store.port import Store
from tests.contract.store_parts.engines import fresh
from tests.integration.outbox_lab import Hands
from tests.integration.registry_lab import running as index_node
from tests.integration.test_gatekeeper import served
from tests.integration.test_surroundings import door, serving
from tests.unit.configuration import TEXT, write

DENIED = Refusal(zone=Zone.OPS, reason="role", action=Action.EXAM_RELEASE, actor="account:paul", address="192.0.2.7")


@pytest_asyncio.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    opened = await fresh("sqlite", request).open()
    try:
        yield opened
    finally:
        await opened.close()


async def kept(store: Store) -> list[tuple[str, str, str]]:
    """Actor, address and words of each record, oldest first."""
    rows = await store.read(
        lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = 'access.denied' ORDER BY seq")
    )
    assert all((row["outcome"], row["object_id"]) == (4, row["address"]) for row in rows)
    return [(row["actor"], row["address"], row["detail"]) for row in rows]


async def test_t33_the_first_refusal_is_recorded_at_once_and_the_same_again_once_a_minute_with_its_number(
    store: Store,
):
    clock = Hands()
    refusals = Refusals(store=store, clock=clock)
    refusals.tell(DENIED)
    await refusals.write()
    first = ("account:paul", "192.0.2.7", "1 role exam.release")
    assert await kept(store) == [first]
    for _ in range(59):
        for _ in range(200):
            refusals.tell(DENIED)
        clock.advance(1)
        await refusals.write()
    assert await kept(store) == [first], "the minute is not over"
    clock.advance(1)
    await refusals.write()
    assert await kept(store) == [first, ("account:paul", "192.0.2.7", "11800 role exam.release")]
    refusals.tell(DENIED)
    await refusals.close()
    assert (await kept(store))[-1] == first, "what was counted when the process ends is told too"


async def test_t33_a_flood_from_a_hundred_thousand_addresses_is_told_in_few_records_and_counted_whole(store: Store):
    clock = Hands()
    refusals = Refusals(store=store, clock=clock)
    for minute in range(2):
        for number in range(50_000):
            refusals.tell(Refusal(zone=Zone.PEERS, reason="not-signed-in", address=f"2001:db8::{minute}:{number:x}"))
        refusals.tell(replace(DENIED, actor=f"account:{minute}"))
        await refusals.write()
        clock.advance(60)
        await refusals.write()
    found = await kept(store)
    assert len(found) <= 2 * (TOLD_MAX + 3)
    assert sum(int(words.split(" ")[0]) for _, _, words in found) == 100_002
    assert [who for who, _, _ in found if who != "nobody"] == ["account:0", "account:1"], (
        "a name is not hidden by a crowd"
    )
    assert Counter(address for _, address, _ in found)["many"] >= 2


async def test_what_cannot_be_recorded_now_is_recorded_later(store: Store, monkeypatch: pytest.MonkeyPatch):
    refusals = Refusals(store=store, clock=Hands())
    refusals.tell(DENIED)

    async def full(_work: object) -> None:
        raise Unavailable("the disk is full", code="disk-full", hint="make room")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write", full)
        await refusals.write()
        refusals.tell(DENIED)
    await refusals.write()
    assert await kept(store) == [("account:paul", "192.0.2.7", "2 role exam.release")]


async def test_each_refusal_of_the_policy_over_http_is_told_with_who_where_and_what():
    told: list[Refusal] = []
    over: list[str] = []
    routes = {("GET", "/metrics"): Action.METRICS_READ, ("GET", "/exams"): Action.EXAM_RELEASE}
    app = web.Application(
        middlewares=[
            throttled(Measure(per_second=1, burst=3), Measure(per_second=1, burst=9), lambda: 0.0, over.append),
            policed(routes, zone=Zone.OPS, who=peer(Role.SERVICE), tell=told.append),
        ]
    )

    async def reached(_request: web.Request) -> web.Response:
        return web.Response(text="reached")

    for path in ("/metrics", "/exams", "/stated-by-nobody"):
        app.router.add_get(path, reached)
    async with served(app) as http:
        statuses = []
        for path in ("/metrics", "/exams", "/stated-by-nobody", "/metrics", "/nowhere"):
            async with http.get(path) as answer:
                statuses.append(answer.status)
    assert statuses == [200, 403, 403, 429, 429]
    assert told == [
        Refusal(zone=Zone.OPS, reason="not-signed-in", action="exam.release", address="127.0.0.1"),
        Refusal(zone=Zone.OPS, reason="no-rule", address="127.0.0.1"),
    ]
    assert over == ["127.0.0.1", "127.0.0.1"]


async def test_a_refused_mllp_connection_is_told_by_reason_and_legal_entity(monkeypatch: pytest.MonkeyPatch):
    told: list[Refusal] = []

    async def handle(_message: bytes, _peer: object) -> bytes:
        raise AssertionError("nothing is taken")

    async def send(port: int, sent: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(1000), 5)
        writer.transport.abort()

    async with await serve_mllp("127.0.0.1", 0, handle, tell=told.append) as server:
        await send(server.port, b"GET / HTTP/1.1\r\n" + b"x" * 2000)
        monkeypatch.setattr(server, "_limits", MllpLimits(connections_max=0))
        await send(server.port, b"")
        monkeypatch.setattr(server, "_limits", MllpLimits())
        monkeypatch.setattr(server._senders, "admit", lambda _address: False)
        await send(server.port, b"")
    where = {"zone": Zone.PACS, "action": Action.HL7_SEND, "address": "127.0.0.1"}
    assert told == [Refusal(reason=why, **where) for why in ("mllp-junk", "connections", "other-network")]


@pytest.mark.timeout(120)
async def test_a_running_gateway_keeps_the_refusals_of_its_doors_in_its_trail(tmp_path):
    text = TEXT.replace("127.0.0.1:9090", "127.0.0.1:0").replace("127.0.0.1:2575", "127.0.0.1:0")
    async with serving(load(write(tmp_path, text), {})) as running:
        host, port = door(running, "ops")
        async with aiohttp.ClientSession(f"http://{host}:{port}") as http:
            for _ in range(3):
                async with http.post(
                    "/console/tenants/fantome/pause", headers={"Origin": f"http://{host}:{port}"}
                ) as no:
                    assert no.status == 403
            async with http.post("/console/logout", headers={"Origin": "https://elsewhere.example"}) as no:
                assert no.status == 403
            async with http.get("/console/", allow_redirects=False) as login:
                assert login.status == 303, "the way to the login is no refusal"
        reader, writer = await asyncio.open_connection(*door(running, "hl7:fantome"))
        writer.write(b"x" * 2000)
        await reader.read(1000)
        writer.close()
        await asyncio.sleep(2.5)
        store = running.gateway._store
        counted: Counter[tuple[str, str]] = Counter()
        for row in await store.read(lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = 'access.denied'")):
            number, _, said = row["detail"].partition(" ")
            counted[row["zone"], said] += int(number)
    assert counted[("ops", "other-origin session.keep")] == 1
    assert counted[("pacs", "mllp-junk hl7.send")] == 1
    assert 1 <= counted[("ops", "not-signed-in tenant.pause")] <= 3, "the first at once, the others with the minute"
    assert len(counted) == 3


async def test_the_index_node_tells_of_a_peer_without_a_certificate(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Over loopback everybody is this machine; here nobody is."""
    monkeypatch.setattr("security.gatekeeper.is_from_this_machine", lambda _request: False)
    told: list[Refusal] = []
    async with index_node(tmp_path, tell=told.append) as peer_, aiohttp.ClientSession(peer_.base) as http:
        for path, status in (("/live", 200), ("/fhir/metadata", 403)):
            async with http.get(path) as answer:
                assert answer.status == status
    assert told == [Refusal(zone=Zone.PEERS, reason="not-signed-in", action="index.use", address="127.0.0.1")]
