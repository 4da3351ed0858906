"""Who receives alerts: a mail relay that speaks STARTTLS or TLS, and an HTTP receiver; both real, on loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword


@dataclass
class Relay:
    """A mail relay. ``answer``: said to each message instead of taking it, when set."""

    port: int = 0
    answer: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:
        if self.answer:
            return self.answer
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(message_from_bytes(content, policy=policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"


def _allows(password: str) -> Callable[..., AuthResult]:
    def authenticate(*words: Any) -> AuthResult:
        given = words[-1]
        right = isinstance(given, LoginPassword) and given.password == password.encode()
        return AuthResult(success=right, handled=False)

    return authenticate


@asynccontextmanager
async def relay(
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    whole: bool = False,
    password: str = "",
    port: int = 0,
) -> AsyncIterator[Relay]:
    """A relay on 127.0.0.1. With a certificate it asks for STARTTLS, with ``whole`` for TLS from the first byte."""
    made = Relay()
    context = None
    if certificate and key:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

    sessions: list[SMTP] = []

    def protocol() -> SMTP:
        session = SMTP(
            made,
            hostname="relay.fantome.example",
            tls_context=None if whole else context,
            require_starttls=context is not None and not whole,
            auth_required=bool(password),
            authenticator=_allows(password) if password else None,
            loop=asyncio.get_running_loop(),
        )
        sessions.append(session)
        return session

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=context if whole else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()
        for session in sessions:  # it forgets its connection when a peer refuses its certificate
            for transport in (session.transport, session._original_transport):
                if transport is not None:
                    transport.abort()
        await asyncio.sleep(0)


@dataclass
class Receiver:
    """An HTTP receiver. ``status``: what it answers."""

    url: str = ""
    port: int = 0
    status: int = 204
    location: str = ""
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=self.status, headers=headers)


@asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """An HTTP receiver on 127.0.0.1."""
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.port = runner.addresses[0][1]
    made.url = f"http://127.0.0.1:{made.port}/hook"
    try:
        yield made
    finally:
        await runner.cleanup()
