"""The ways out: one mail or one HTTP POST for everything a channel must be told now.

Invariants:

* TLS is verified; a redirect is not followed; no proxy variable is read;
* everything ends in bounded time;
* the same telling sent again after a crash bears the same identifier, so that its receiver can tell.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import socket
import ssl
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import structlog

from gateway.alerts.rows import Notice
from gateway.alerts.texts import Speaker
from gateway.bridge import Bridge, Call
from gateway.settings import MailSettings, WebhookSettings
from security.errors import Fault, Unavailable
from security.secrets import read_secret

log = structlog.get_logger()

CALL_S = 15.0
SIGNATURE = "X-Poterne-Signature"
TIMESTAMP = "X-Poterne-Timestamp"
DELIVERY = "X-Poterne-Delivery"


class Channel(Protocol):
    """One way to tell people."""

    name: str

    async def tell(self, notices: Sequence[Notice], *, now: datetime) -> None:
        """Tell all of them at once.

        Raises:
            Unavailable: ``alert-not-delivered``, ``timeout``: later it may work.
            Broken: a secret cannot be read.
        """
        ...

    async def test(self, *, now: datetime) -> None:
        """Send one message marked TEST. Raises as ``tell``."""
        ...

    async def close(self) -> None:
        """Give up what is under way. Idempotent."""
        ...


class Mail:
    """Alerts by e-mail, through one relay."""

    name = "mail"

    def __init__(self, settings: MailSettings, speaker: Speaker, secure: ssl.SSLContext | None = None) -> None:
        """``secure``: the context that judges the relay, None for the library's own."""
        self._settings = settings
        self._secure = secure
        self._speaker = speaker
        self._bridge = Bridge("mail", workers=1)

    async def close(self) -> None:
        await self._bridge.close()

    async def tell(self, notices: Sequence[Notice], *, now: datetime) -> None:
        await self._send(self._speaker.subject(notices), self._speaker.body(notices), _identifier(notices), now)

    async def test(self, *, now: datetime) -> None:
        words = self._speaker.words
        body = words("This is a test of the alerts of Poterne. Nothing is wrong.")
        await self._send(
            f"TEST Poterne: {words('test of the alerts')}", f"{body}\n", f"test-{now.timestamp():.0f}", now
        )

    async def _send(self, subject: str, body: str, identifier: str, now: datetime) -> None:
        settings = self._settings
        message = EmailMessage(policy=SMTP)
        message["From"] = settings.sender
        message["To"] = ", ".join(settings.recipients)
        message["Subject"] = subject
        message["Date"] = format_datetime(now)
        message["Message-ID"] = f"<{identifier}@{settings.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no absence notice comes back
        message.set_content(body)
        try:
            await self._bridge.run(self._hand_over, message, deadline_s=CALL_S)
        except (
            smtplib.SMTPException,
            OSError,
            ValueError,
        ) as error:  # a password or a challenge smtplib cannot encode
            raise _not_delivered(self.name, error) from error

    def _hand_over(self, call: Call, message: EmailMessage) -> None:
        settings = self._settings
        context = self._secure or _tls(settings.ca_file)
        if settings.security == "tls":
            relay: smtplib.SMTP = _TlsRelay(call, settings.host, settings.port, timeout=CALL_S, context=context)
        else:
            relay = _Relay(call, settings.host, settings.port, timeout=CALL_S)
        with relay:
            if settings.security == "starttls":
                relay.starttls(context=context)
            if settings.username and settings.password_file:
                password = read_secret(settings.password_file, what="mail password").decode().strip()
                relay.login(settings.username, password)
            if call.left_s == 0:  # given up meanwhile, and to be told again
                raise TimeoutError
            refused = relay.send_message(message)
        if refused:  # the others have it; to send again would tell them twice
            log.warning("alert-recipients-refused", number=len(refused))


class _Relay(smtplib.SMTP):
    """A connection that wakes its thread when the call is given up."""

    def __init__(self, call: Call, *words: Any, **more: Any) -> None:
        call.on_cut(self._cut)
        super().__init__(*words, **more)

    def _cut(self) -> None:
        if self.sock is not None:
            self.sock.shutdown(socket.SHUT_RDWR)


class _TlsRelay(_Relay, smtplib.SMTP_SSL):
    """The same, TLS from the first byte."""


class Webhook:
    """Alerts by HTTP POST of one JSON object, signed when a key is configured.

    The signature is HMAC-SHA-256 over the timestamp, a full stop and the body; its header reads ``sha256=<hex>``.
    """

    name = "webhook"

    def __init__(self, settings: WebhookSettings, speaker: Speaker, secure: ssl.SSLContext | None = None) -> None:
        """``secure``: as for mail."""
        self._settings = settings
        self._secure = secure
        self._speaker = speaker

    async def tell(self, notices: Sequence[Notice], *, now: datetime) -> None:
        await self._post(self._speaker.document(notices), _identifier(notices), now)

    async def test(self, *, now: datetime) -> None:
        document = {
            "subject": f"TEST Poterne: {self._speaker.words('test of the alerts')}",
            "alerts": [],
            "test": True,
        }
        await self._post(document, f"test-{now.timestamp():.0f}", now)

    async def close(self) -> None:
        """Nothing stays open between two posts."""

    async def _post(self, document: dict[str, object], identifier: str, now: datetime) -> None:
        body = json.dumps(document, ensure_ascii=False).encode()
        timestamp = str(int(now.timestamp()))
        headers = {"Content-Type": "application/json", TIMESTAMP: timestamp, DELIVERY: identifier}
        if self._settings.secret_file:
            key = read_secret(self._settings.secret_file, what="webhook key").strip()
            headers[SIGNATURE] = "sha256=" + signature(key, timestamp, body)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._secure or _tls(self._settings.ca_file)),
                    timeout=aiohttp.ClientTimeout(total=CALL_S),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                ) as session,
                session.post(self._settings.url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise _not_delivered(self.name, error) from error
        if not 200 <= status < 300:
            raise _refused(self.name, f"HTTP {status}")


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """HMAC-SHA-256 in lower-case hexadecimal."""
    return hmac.digest(key, timestamp.encode() + b"." + body, hashlib.sha256).hex()


def _identifier(notices: Sequence[Notice]) -> str:
    """The same for the same alerts on the same occasions at the same stages."""
    told = [
        (
            notice.known.alert_id,
            notice.known.opened_at.isoformat(),
            notice.occasion,
            notice.known.condition.stage,
            notice.known.told_at.isoformat() if notice.known.told_at else "",
        )
        for notice in notices
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _not_delivered(channel: str, error: BaseException) -> Fault:
    """Of a relay's own words only the reply code is told: its text may quote addresses."""
    code = getattr(error, "smtp_code", None)
    said = f"{type(error).__name__} {code}" if isinstance(code, int) else type(error).__name__
    return _refused(channel, said)


def _refused(channel: str, said: str) -> Fault:
    return Unavailable(
        f"alerts by {channel} are not delivered ({said})",
        code="alert-not-delivered",
        hint=f"look at [alerts.{channel}] and try: poterne doctor --send-test; they are sent when it answers",
    )
