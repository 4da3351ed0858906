"""Audit repositories for tests: Debian's rsyslog, a syslog receiver that is strict and may misbehave, a FHIR one."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from security.keys.lab_pki import PemPair

RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin:/bin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def rsyslog(folder: Path, *, pair: PemPair, ca: Path, port: int) -> AsyncIterator[Path]:
    """rsyslog with TLS that asks for a certificate; yields the file of what it received, one message per line."""
    assert RSYSLOGD is not None
    got = folder / "received"
    conf = folder / "rsyslog.conf"
    conf.write_text(f"""\
global(workDirectory="{folder}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{ca}"
  defaultNetstreamDriverCertFile="{pair.certificate}" defaultNetstreamDriverKeyFile="{pair.key}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
template(name="whole" type="string" string="%pri%|%app-name%|%msgid%|%hostname%|%msg%\\n")
ruleset(name="keep") {{ action(type="omfile" file="{got}" template="whole") }}
input(type="imtcp" port="{port}" address="127.0.0.1" ruleset="keep" supportOctetCountedFraming="on")
""")
    process = await asyncio.create_subprocess_exec(
        RSYSLOGD, "-n", "-f", str(conf), "-i", str(folder / "pid"), stderr=asyncio.subprocess.PIPE
    )
    try:
        await _listening(port)
        yield got
    finally:
        process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    for _ in range(300):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


class Syslog:
    """A receiver that enforces RFC 5425 framing. ``mood``: "good"; "reset" takes a batch, then cuts the connection;
    "deaf" cuts it at once after the handshake."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.messages: list[bytes] = []
        self.mood = "good"
        self._context = context
        self.connections = 0

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._take, "127.0.0.1", port, ssl=self._context)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        mood = self.mood
        with suppress(OSError, asyncio.IncompleteReadError):
            while mood != "deaf":
                digits = await reader.readuntil(b" ")
                assert digits[:-1].isdigit() > (digits[:1] == b"0"), "MSG-LEN is a number without leading zero"
                self.messages.append(await reader.readexactly(int(digits)))
                if mood == "reset":
                    break
        if mood == "good":
            writer.close()
        else:
            writer.transport.abort()


class Fhir:
    """POST AuditEvent and batch Bundles. ``statuses``: what the next requests get, first in first out, then 200."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.bundles = 0
        self.statuses: list[int] = []

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        app = web.Application(client_max_size=32 * 1024 * 1024)
        app.router.add_post("/fhir/AuditEvent", self._one)
        app.router.add_post("/fhir", self._many)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _one(self, request: web.Request) -> web.Response:
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        self.events.append(await request.json())
        return web.Response(status=201)

    async def _many(self, request: web.Request) -> web.Response:
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        entries = (await request.json())["entry"]
        self.events += [one["resource"] for one in entries]
        self.bundles += 1
        answer = {"resourceType": "Bundle", "type": "batch-response",
                  "entry": [{"response": {"status": "201 Created"}} for _ in entries]}  # fmt: skip
        return web.json_response(answer)
