"""The policy in front of real sockets: HTTP routes, DIMSE services, MLLP connections."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.hl7.mllp import serve_mllp
from gateway.hl7.senders import Senders
from gateway.telemetry import Metrics, Snapshot
from gateway.web.health import ROUTES, build_ops_app
from security.gatekeeper import policed
from security.policy import NOBODY, Action, Opens, Role, Subject, Zone
from security.policy import TABLE as RULES
from tests.fixtures.dicom_objects import CT, EXPLICIT, ROOT, data_set
from tests.support.dimse import door, peer
from tests.support.dimse_raw import ECHO, RawScu


async def _ready():
    return {}


async def _figures():
    return Snapshot()


@asynccontextmanager
async def served(app: web.Application):
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
            yield http
    finally:
        await runner.cleanup()


def ops(subject: Subject) -> web.Application:
    app = build_ops_app(ready=_ready, metrics=Metrics(), snapshot=_figures, who=lambda _request: subject)

    async def reached(_request: web.Request) -> web.Response:
        return web.Response(text="reached")

    for path in ("/", "/console"):
        app.router.add_get(path, reached)
    app.router.add_post("/pacs/{tenant}/{pacs}/nudge", reached)
    return app


async def test_t46_what_is_not_public_answers_nobody_on_the_ops_listener():
    async with served(ops(NOBODY)) as http:
        for (method, path), action in ROUTES.items():
            public = RULES[action].opens is Opens.EVERYBODY
            async with http.request(method, re.sub(r"{\w+}", "x", path)) as answer:
                assert (answer.status == 200) is public, (method, path)
                if not public and method != "HEAD":
                    assert (await answer.json())["code"] == "denied"


async def test_t46_a_service_account_reads_the_figures_and_an_auditor_does_not():
    for role, status in ((Role.SERVICE, 200), (Role.AUDITOR, 403), (Role.GATEWAY_PEER, 403)):
        async with (
            served(ops(Subject(name="x", roles=frozenset({role})))) as http,
            http.get("/metrics") as answer,
        ):
            assert answer.status == status


async def test_t46_a_route_that_nobody_stated_answers_nobody_not_even_this_machine():
    app = ops(Subject(name="x", roles=frozenset(Role), is_local=True))

    async def reached(_request: web.Request) -> web.Response:
        return web.Response(text="reached")

    app.router.add_get("/new", reached)
    async with served(app) as http, http.get("/new") as answer:
        assert (answer.status, "reached" in await answer.text()) == (403, False)


async def test_t27_no_header_makes_a_subject():
    forged = {
        "X-Client-Cert": "x", "X-SSL-Client-Verify": "SUCCESS", "X-Forwarded-For": "127.0.0.1",
        "Forwarded": "for=127.0.0.1", "Authorization": "Bearer x", "X-Remote-User": "operator",
    }  # fmt: skip

    async def reached(_request: web.Request) -> web.Response:
        return web.Response(text="reached")

    app = web.Application(middlewares=[policed({("GET", "/figures"): Action.METRICS_READ}, zone=Zone.OPS)])
    app.router.add_get("/figures", reached)
    async with served(app) as http, http.get("/figures", headers=forged) as answer:
        assert answer.status == 403


async def test_t46_a_dicom_peer_without_the_role_stores_nothing_and_is_told_so(tmp_path):
    stranger = peer(roles=frozenset({Role.GATEWAY_PEER}))
    async with door(tmp_path / "door", peers=(stranger,)) as opened:

        def ask() -> int:
            with RawScu(opened.port) as scu:
                scu.associate([(CT, [EXPLICIT]), (ECHO, [EXPLICIT])])
                return scu.store(1, CT, f"{ROOT}.1.1.1", data_set())

        assert await asyncio.to_thread(ask) == 0x0124  # refused: not authorized (PS3.7 C.5)
        assert await opened.rows() == []


@pytest.mark.parametrize(("networks", "answered"), [((), False), (("192.0.2.0/24",), False)])
async def test_t63_an_mllp_connection_from_where_nobody_may_send_is_closed_unread(monkeypatch, networks, answered):
    """The senders judge the address of the connection; here every connection counts as one from 198.51.100.7."""
    told = []

    async def handle(message: bytes, _peer: object) -> bytes:
        told.append(message)
        return b"MSH|^~\\&|A|B|C|D|20260108||ACK|1|P|2.5\rMSA|AA|1\r"

    senders = Senders(tenant="site", networks=networks)
    judge = senders.admit
    monkeypatch.setattr(senders, "admit", lambda _address: judge("198.51.100.7"))
    server = await serve_mllp("127.0.0.1", 0, handle, senders=senders)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x0bMSH|^~\\&|RIS|A|P|A|20260108||ORU^R01|1|P|2.5\r\x1c\x0d")
        try:
            answer = await asyncio.wait_for(reader.read(100), 5)
        except ConnectionError:
            answer = b""
        assert bool(answer) is answered
        assert told == []
        writer.transport.abort()
    finally:
        await server.close()
