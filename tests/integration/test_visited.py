"""Servers that need not know who calls, a PACS behind HTTP, a mail relay, a receiver of alerts: a revoked one is refused
(security §2)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web

from gateway.alerts.channels import Channel, Mail, Webhook
from gateway.alerts.texts import Speaker
from gateway.certificates.link import TrustedLink
from gateway.certificates.links import Link, visit_of
from gateway.certificates.watch import TrustedLinks
from gateway.i18n import words
from gateway.pacs.door import Inconclusive
from gateway.pacs.http import HttpExchange
from gateway.peers import pacs_peer
from gateway.settings import (
    CertificatesSettings,
    ConfigurationError,
    MailSettings,
    PacsDicomWeb,
    PacsOrthanc,
    WebhookSettings,
    load,
)
from gateway.settings.certificates import LanRevocationSettings
from security.clock import SystemClock
from security.errors import Unavailable
from security.keys.lab_pki import PemPair
from tests.support.pki import Pki, certificate, responding, serving
from tests.support.receivers import relay
from tests.unit.configuration import TEXT, write

SEVERAL = {"orthanc": PacsOrthanc, "dicomweb": PacsDicomWeb}


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.revoke()
    return made


def asked(pki: Pki, **more: Any) -> LanRevocationSettings:
    return LanRevocationSettings(**({"crl_file": pki.crl} | more))


def served(pki: Pki, own: PemPair | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = own or pki.pair("server")
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def application() -> web.Application:
    app = web.Application()

    async def system(_request: web.Request) -> web.Response:
        return web.json_response({"Name": "PHANTOM"})

    async def hook(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    app.add_routes([web.get("/system", system), web.post("/hook", hook)])
    return app


def trusted(section: Any) -> TrustedLink:
    found = next(visit_of("test", section), None)
    assert found is not None
    return TrustedLink(found, clock=SystemClock(), grace_s=0)


class _Uncut:
    """A question that nobody cuts."""

    left_s = 30.0

    def on_cut(self, _cut: Callable[[], None]) -> None:
        pass


def ask(section: PacsOrthanc | PacsDicomWeb, secure: ssl.SSLContext) -> str:
    """What became of one request to a PACS."""
    peer = pacs_peer("main", section, secure)
    with HttpExchange.open(peer, _Uncut(), media_types=("application/json",)) as exchange:  # type: ignore[arg-type]
        try:
            return str(exchange.json("GET", "/system").value["Name"])
        except Inconclusive as fault:
            return fault.reason


@pytest.mark.parametrize("kind", SEVERAL)
async def test_a_revoked_pacs_behind_http_is_not_believed(pki: Pki, kind: str) -> None:
    async with serving(application(), tls=served(pki)) as port:
        section = SEVERAL[kind](
            kind=kind, url=f"https://127.0.0.1:{port}", ca_file=pki.ca, revocation=asked(pki, unknown="deny")
        )
        link = trusted(section)
        assert await asyncio.to_thread(ask, section, link.context) == "PHANTOM"
        pki.revoke(pki.pair("server"))
        link.look()
        assert await asyncio.to_thread(ask, section, link.context) == "unreachable"


async def test_a_pacs_of_another_authority_or_name_is_not_believed(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    other.revoke()
    named = pki.pair("named", hosts=("pacs.fantome.example",))
    for authority, tls in ((other, served(pki)), (pki, served(pki, named))):
        async with serving(application(), tls=tls) as port:
            section = PacsOrthanc(
                kind="orthanc", url=f"https://127.0.0.1:{port}", ca_file=authority.ca, revocation=asked(authority)
            )
            assert await asyncio.to_thread(ask, section, trusted(section).context) == "unreachable"


async def test_a_pacs_known_by_ocsp_alone_is_asked_about_and_refused_once_revoked(pki: Pki) -> None:
    async with serving(application(), tls=served(pki)) as port, responding(pki) as responder:
        section = PacsOrthanc(
            kind="orthanc",
            url=f"https://127.0.0.1:{port}",
            ca_file=pki.ca,
            revocation=LanRevocationSettings(unknown="deny", ocsp_url=responder.url),
        )
        found: Link = next(visit_of("pacs", section))
        settings = CertificatesSettings(networks=["127.0.0.0/8"], refresh_s=1.0)
        links = TrustedLinks({"pacs": found}, settings, SystemClock())
        await links.settle()
        context = links.context("pacs")
        assert context is not None
        assert await asyncio.to_thread(ask, section, context) == "PHANTOM"
        responder.revoked.add(certificate(pki.pair("server")).serial_number)
        again = TrustedLinks({"pacs": found}, settings, SystemClock())
        await again.settle()
        context = again.context("pacs")
        assert context is not None
        assert await asyncio.to_thread(ask, section, context) == "unreachable"


def speaker() -> Speaker:
    return Speaker(words=words("en"), zones={}, default_zone=ZoneInfo("UTC"), console_url="")


async def told(channel: Channel) -> str:
    try:
        await channel.test(now=datetime.now(UTC))
    except Unavailable as fault:
        return fault.code
    finally:
        await channel.close()
    return "taken"


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_revoked_mail_relay_gets_no_alert(pki: Pki, security: str) -> None:
    pair = pki.pair("server")
    async with relay(certificate=pair.certificate, key=pair.key, whole=security == "tls") as there:
        section = MailSettings(
            host="127.0.0.1", port=there.port, security=security, ca_file=pki.ca, revocation=asked(pki),
            sender="poterne@fantome.example", recipients=["garde@fantome.example"],
        )  # fmt: skip
        link = trusted(section)
        assert await told(Mail(section, speaker(), link.context)) == "taken"
        pki.revoke(pair)
        link.look()
        assert await told(Mail(section, speaker(), link.context)) == "alert-not-delivered"
        assert len(there.mails) == 1


async def test_a_revoked_receiver_gets_no_alert(pki: Pki) -> None:
    async with serving(application(), tls=served(pki)) as port:
        section = WebhookSettings(url=f"https://127.0.0.1:{port}/hook", ca_file=pki.ca, revocation=asked(pki))
        link = trusted(section)
        assert await told(Webhook(section, speaker(), link.context)) == "taken"
        pki.revoke(pki.pair("server"))
        link.look()
        assert await told(Webhook(section, speaker(), link.context)) == "alert-not-delivered"


def test_where_nothing_speaks_of_revocation_the_library_judges_alone(pki: Pki) -> None:
    section = PacsOrthanc(kind="orthanc", url="https://pacs.fantome.example", ca_file=pki.ca)
    assert list(visit_of("pacs", section)) == []
    clear = PacsOrthanc(kind="orthanc", url="http://127.0.0.1:8042", ca_file=pki.ca, revocation=asked(pki))
    assert list(visit_of("pacs", clear)) == []


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ('revocation.crl_urls = ["https://crl.fantome.example/a.crl"]', {"revocation"}),
        ('revocation.unknown = "deny"', {"revocation"}),
        ('revocation.unknown = "allow"', set()),
    ],
)
def test_lists_without_the_authorities_that_sign_them_are_refused_by_key(
    tmp_path: Path, section: str, keys: set[str]
) -> None:
    webhook = f'\n[alerts.webhook]\nurl = "https://hook.fantome.example/a"\n{section}\n'
    path = write(tmp_path, TEXT + webhook)
    found: set[str] = set()
    try:
        load(path, {})
    except ConfigurationError as refused:
        found = {one.key.removeprefix("alerts.webhook.") for one in refused.problems}
    assert found == keys
