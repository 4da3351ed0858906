"""Probes of the peers: each PACS, each index, the clock between us, who receives the alerts."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import uuid
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509

from gateway.alerts.certificates import certificate_ends, certificate_files
from gateway.alerts.clock import offset_s
from gateway.alerts.watch import channels
from gateway.doctor.context import Context, Probe
from gateway.doctor.findings import Finding, Said, Verdict, failed, ok, say, warning
from gateway.i18n import N_
from gateway.peers import index_client, pacs_source
from gateway.settings import PacsOrthanc, PacsSettings, Settings
from indexer import timeline
from indexer.ports import EntryAbsent, EntryUnknown
from indexer.study import Absent, Found, StudyAnswer, Unknown
from security.identity import Uid
from security.secrets import read_secret

_ORTHANC_MIN = (1, 9, 4)  # the first with /tools/bulk-content
_EXPIRES_SOON = timedelta(days=30)
_LIMIT_S = 30.0


def _impossible() -> str:
    """A UID that nobody ever gave (ITU-T X.667), new each time."""
    return f"2.25.{uuid.uuid4().int}"


# ── PACS ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _pacs_of(settings: Settings) -> Iterable[str]:
    return (f"{tenant}/{name}" for tenant, held in settings.tenants.items() for name in held.pacs)


def _pacs(settings: Settings, subject: str) -> tuple[str, PacsSettings]:
    tenant, _, name = subject.partition("/")
    return name, settings.tenants[tenant].pacs[name]


async def _ask(context: Context, subject: str, study: str) -> tuple[StudyAnswer, int]:
    """The PACS's answer about one study, and the round trip in milliseconds."""
    name, pacs = _pacs(context.settings, subject)
    tenant, _, _ = subject.partition("/")
    source = pacs_source(name, pacs, (await context.links()).context(f"tenants.{tenant}.pacs.{name}"))
    began = time.monotonic()
    try:
        answer = await source.find(Uid(study))
    finally:
        took_ms = round((time.monotonic() - began) * 1000)
        await source.close()
    return answer, took_ms


async def pacs(context: Context, subject: str) -> Finding:
    """It answers cleanly that it has no study of a UID that nobody ever gave."""
    answer, took_ms = await _ask(context, subject, _impossible())
    match answer:
        case Absent():
            return ok(N_("answers in {ms} ms"), ms=took_ms)
        case Found():
            return failed(
                say(N_("it shows a study for a UID that nobody ever gave: its answers mean nothing")),
                say(N_("Ask its vendor: a query by StudyInstanceUID must return that study alone.")),
            )
        case Unknown():
            return _inconclusive(answer)


async def control(context: Context, subject: str) -> Finding:
    """It shows its control study."""
    _, settings = _pacs(context.settings, subject)
    if not settings.control_study:
        return warning(
            say(N_("none is configured: an emptied PACS would look like one without the study")),
            say(N_("Name a study that it will always hold: control_study.")),
        )
    answer, took_ms = await _ask(context, subject, settings.control_study)
    match answer:
        case Found():
            return ok(N_("shown in {ms} ms"), ms=took_ms)
        case Absent():
            return failed(
                say(N_("it does not hold its control study")),
                say(N_("It may have been emptied or restored; or name another study: control_study.")),
            )
        case Unknown():
            return _inconclusive(answer)


def _inconclusive(answer: Unknown) -> Finding:
    reason = f"pacs-{answer.reason}"
    return failed(say(N_("no clean answer")), Said(text=timeline.missing(reason)), f"{reason}: {answer.detail}")


def _orthancs(settings: Settings) -> Iterable[str]:
    return (name for name in _pacs_of(settings) if isinstance(_pacs(settings, name)[1], PacsOrthanc))


async def orthanc(context: Context, subject: str) -> Finding:
    """Its version against the floor."""
    _, settings = _pacs(context.settings, subject)
    assert isinstance(settings, PacsOrthanc)  # as _orthancs chose
    headers = {}
    if settings.username and settings.password_file:
        password = read_secret(settings.password_file, what="PACS password").strip()
        headers["Authorization"] = f"Basic {b64encode(settings.username.encode() + b':' + password).decode()}"
    context_ = ssl.create_default_context(cafile=settings.ca_file)
    try:
        async with (
            aiohttp.ClientSession(
                headers=headers, timeout=aiohttp.ClientTimeout(total=15), trust_env=False
            ) as session,
            session.get(f"{settings.url}/system", allow_redirects=False, ssl=context_) as answer,
        ):
            if answer.status in {401, 403}:
                return failed(
                    say(N_("no clean answer")),
                    Said(text=timeline.missing("pacs-unauthorised")),
                    f"HTTP {answer.status}",
                )
            said = await answer.json(content_type=None)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return failed(
            say(N_("no clean answer")), Said(text=timeline.missing("pacs-unreachable")), type(error).__name__
        )
    version = str(said.get("Version", "")) if isinstance(said, dict) else ""
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if version != "mainline" and numbers < _ORTHANC_MIN:
        return failed(
            say(N_("{version} is too old"), version=version or "?"),
            say(N_("Orthanc {floor} or newer is needed."), floor=".".join(map(str, _ORTHANC_MIN))),
        )
    return ok("{version}", version=version)


# ── index ────────────────────────────────────────────────────────────────────────────────────────────────────


async def index(context: Context, subject: str) -> Finding:
    """ITI-18, or ITI-67, by a uniqueId that nobody ever gave is answered cleanly with nothing."""
    secure = (await context.links()).context(f"tenants.{subject}.index")
    client = index_client(context.settings.tenants[subject], secure=secure)
    began = time.monotonic()
    try:
        answer = await client.find_document(_impossible())
    finally:
        took_ms = round((time.monotonic() - began) * 1000)
        await client.aclose()
    match answer:
        case EntryAbsent():
            return ok(N_("answers in {ms} ms"), ms=took_ms)
        case EntryUnknown():
            reason = f"index-{answer.reason}"
            return failed(
                say(N_("no clean answer")), Said(text=timeline.missing(reason)), f"{reason}: {answer.detail}"
            )
        case _:
            return failed(
                say(N_("it shows an entry for an identifier that nobody ever gave: its answers mean nothing")),
                say(N_("Ask whoever runs the index; publish nothing meanwhile.")),
            )


def _over_tls(settings: Settings) -> Iterable[str]:
    return (name for name, tenant in settings.tenants.items() if urlsplit(tenant.index.address).scheme == "https")


async def index_certificate(context: Context, subject: str) -> Finding:
    """The certificate the index shows is trusted, and how long it lasts."""
    try:
        ends = await _peer_certificate_end(context, f"tenants.{subject}.index")
    except ssl.SSLError as error:
        return failed(
            say(N_("no TLS connection")),
            say(N_("Compare ca_file with the authority of the index, and our certificate with what it expects.")),
            error.reason or type(error).__name__,
        )
    except OSError as error:
        return failed(
            say(N_("no connection")), Said(text=timeline.missing("index-no-connection")), type(error).__name__
        )
    return _expiry(ends, context.now, say(N_("Tell whoever runs the index.")))


async def _peer_certificate_end(context: Context, key: str) -> datetime:
    link = (await context.links()).link(key)
    if link is None:
        raise ssl.SSLError("no certificate is configured")
    _, writer = await asyncio.open_connection(link.link.host, link.link.port, ssl=link.context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


async def own_certificate(context: Context, subject: str) -> Finding:
    """How long one of our own certificates lasts."""
    ends = await asyncio.to_thread(certificate_ends, context.settings)
    if subject not in ends:
        return failed(say(N_("the file holds no certificate")), say(N_("Run: poterne check.")))
    remedy = say(N_("Install the renewed certificate and its key, then run: poterne check."))
    return _expiry(ends[subject], context.now, remedy)


def _expiry(ends: datetime, now: datetime, remedy: Said) -> Finding:
    days = (ends - now) // timedelta(days=1)
    if ends <= now:
        return failed(say(N_("expired on {day}"), day=f"{ends:%Y-%m-%d}"), remedy)
    valid = say(N_("valid until {day} ({days} days)"), day=f"{ends:%Y-%m-%d}", days=days)
    if ends - now < _EXPIRES_SOON:
        return warning(valid, remedy)
    return Finding(verdict=Verdict.OK, cause=valid)


async def clock(context: Context, subject: str) -> Finding:
    """Our clock against the Date header of the index (FF-42)."""
    measured: list[float] = []

    def observe(header: str, at: datetime) -> None:
        offset = offset_s(header, at)
        if offset is not None:
            measured.append(offset)

    secure = (await context.links()).context(f"tenants.{subject}.index")
    client = index_client(context.settings.tenants[subject], observe, secure=secure)
    try:
        await client.find_document(_impossible())
    finally:
        await client.aclose()
    if not measured:
        return warning(say(N_("not measured: the index did not say what time it is")))
    allowed = context.settings.clock.offset_max_s
    seconds = round(measured[-1], 1)
    if abs(measured[-1]) > allowed:
        return warning(
            say(N_("off by {seconds} s from the index's"), seconds=seconds),
            say(N_("Compare this machine's time service (chronyc tracking, timedatectl) with the index's.")),
        )
    return ok(N_("{seconds} s from the index's, measured to the second"), seconds=seconds)


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────


def _channels(settings: Settings) -> Iterable[str]:
    return (name for name in ("mail", "webhook") if getattr(settings.alerts, name))


async def channel(context: Context, subject: str) -> Finding:
    """The relay or receiver takes a connection; with ``--send-test`` a message marked TEST."""
    host, port = _receiver(context.settings, subject)
    if context.send_test:
        made = {one.name: one for one in channels(context.settings, (await context.links()).context)}
        try:
            await made[subject].test(now=datetime.now(UTC))
        finally:
            for one in made.values():
                await one.close()
        return ok(N_("a message marked TEST was taken"))
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return failed(
            say(N_("nothing answers at {address}"), address=f"{host}:{port}"),
            say(N_("Look at its address, its certificate and its account under [alerts].")),
            type(error).__name__,
        )
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ok(N_("reachable; to see a message arrive: poterne doctor --send-test"))


def _receiver(settings: Settings, subject: str) -> tuple[str, int]:
    mail, webhook = settings.alerts.mail, settings.alerts.webhook
    if subject == "mail" and mail:
        return mail.host, mail.port
    parts = urlsplit(webhook.url if webhook else "")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


PROBES = (
    Probe(name="pacs", what=N_("PACS {subject}"), run=pacs, subjects=_pacs_of, limit_s=_LIMIT_S),
    Probe(
        name="control-study",
        what=N_("control study of the PACS {subject}"),
        run=control,
        subjects=_pacs_of,
        limit_s=_LIMIT_S,
    ),
    Probe(
        name="orthanc", what=N_("version of the Orthanc {subject}"), run=orthanc, subjects=_orthancs, limit_s=_LIMIT_S
    ),
    Probe(
        name="index",
        what=N_("index of {subject}"),
        run=index,
        subjects=lambda settings: settings.tenants,
        limit_s=_LIMIT_S,
    ),
    Probe(
        name="index-certificate",
        what=N_("certificate of the index of {subject}"),
        run=index_certificate,
        subjects=_over_tls,
    ),
    Probe(
        name="certificate",
        what=N_("our certificate {subject}"),
        run=own_certificate,
        subjects=lambda settings: (key for key, _ in certificate_files(settings)),
    ),
    Probe(
        name="clock",
        what=N_("clock, against the index of {subject}"),
        run=clock,
        subjects=lambda settings: settings.tenants,
        limit_s=_LIMIT_S,
    ),
    Probe(name="channel", what=N_("alerts by {subject}"), run=channel, subjects=_channels, limit_s=_LIMIT_S),
)
