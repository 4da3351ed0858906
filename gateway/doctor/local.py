"""Probes of this machine: database, disk, files, versions, queue, doors."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import platform
import re
import ssl
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp

from gateway.alerts import rows
from gateway.dimse import inbox as received
from gateway.disk import DiskGuard, Level, level_of
from gateway.doctor.context import Context, Probe
from gateway.doctor.findings import Finding, Verdict, failed, of_fault, ok, say, warning
from gateway.i18n import N_
from gateway.settings import Settings, address
from security.clock import SystemClock, from_ms
from security.errors import Unavailable
from security.seal import Vault
from security.secrets import read_kek, read_previous_kek
from security.store.port import ReadTx, Row

FLOORS = {
    "python": (3, 11),
    "pydicom": (3, 0, 2),
    "pynetdicom": (3, 0, 4),
    "apsw": (3, 51, 3),  # its number begins with that of its SQLite
    "openssl": (3, 0),
}
"""The least version of each that is safe: advisories against older ones are known (libraries' release notes)."""

SERVER_MIN = 15
_LATE_S = 3600


# ── database ─────────────────────────────────────────────────────────────────────────────────────────────────


async def store(context: Context, _subject: str) -> Finding:
    """It opens for reading, and has exactly the migrations of this version."""
    database = context.database
    if context.store_fault is not None:
        if database is not None and not database.exists() and database.parent.is_dir():
            return warning(say(N_("there is no database yet")), say(N_("The first start makes it: poterne serve.")))
        return of_fault(context.store_fault)
    return ok(N_("readable, every migration applied"))


async def integrity(context: Context, _subject: str) -> Finding:
    """SQLite: quick_check. PostgreSQL: version, and what a commit promises."""
    if context.store is None:
        return _no_store()
    if context.database is None:
        return _server(await context.store.read(_server_settings))
    found = await context.store.read(lambda tx: tx.rows("PRAGMA quick_check(1)"))
    said = str(next(iter(found[0].values()))) if found else ""
    if said != "ok":
        return failed(
            say(N_("the database is damaged")),
            say(N_("Stop the service, keep the file, restore the last backup, then reconcile.")),
            said,
        )
    return ok(N_("no damage found"))


def _server_settings(tx: ReadTx) -> dict[str, str]:
    found: list[Row] = tx.rows(
        "SELECT name, setting FROM pg_settings WHERE name IN"
        " ('server_version_num', 'synchronous_commit', 'fsync', 'full_page_writes', 'synchronous_standby_names')"
    )
    lag = tx.rows(
        "SELECT COALESCE(MAX(EXTRACT(EPOCH FROM replay_lag)), 0) AS lag_s, COUNT(*) AS standbys"
        " FROM pg_stat_replication"
    )[0]
    return {row["name"]: row["setting"] for row in found} | {
        "lag_s": f"{float(lag['lag_s']):.1f}",
        "standbys": str(lag["standbys"]),
    }


def _server(settings: dict[str, str]) -> Finding:
    version = int(settings["server_version_num"]) // 10_000
    unsafe = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if settings[name] == "off"]
    if version < SERVER_MIN or unsafe:
        return failed(
            say(N_("the database server is too old, or may lose what it confirmed")),
            say(
                N_("PostgreSQL {version} or newer; none of these settings off: {names}"),
                version=SERVER_MIN,
                names=", ".join(unsafe) or "-",
            ),
            f"PostgreSQL {version}",
        )
    return ok(
        N_("PostgreSQL {version}, synchronous_commit {commit}, {standbys} standbys, lag {lag} s"),
        version=version,
        commit=settings["synchronous_commit"],
        standbys=settings["standbys"],
        lag=settings["lag_s"],
    )


async def kek(context: Context, _subject: str) -> Finding:
    """The key file opens every key that the database holds."""
    if context.store is None:
        return _no_store()
    file = context.settings.gateway_store().kek_file
    await Vault.load(context.store, read_kek(file), (), SystemClock(), previous=read_previous_kek(file))
    return ok(N_("it opens every key of the database"))


async def queue(context: Context, _subject: str) -> Finding:
    """How many exams wait, are held or failed, and since when."""
    if context.store is None:
        return _no_store()
    seen = await context.store.read(lambda tx: rows.queue(tx, now=context.now))
    oldest = await context.store.read(_oldest)
    held, failed_, late = (sum(counts.values()) for counts in (seen.held, seen.failed, seen.late))
    figures = {
        "held": held,
        "failed": failed_,
        "late": late,
        "hours": 0 if oldest is None else round((context.now - from_ms(oldest)).total_seconds() / _LATE_S, 1),
    }
    text = N_("held: {held}, failed: {failed}, late: {late}; the oldest waits for {hours} h")
    if failed_ or late:
        return warning(say(text, **figures), say(N_("See why: poterne queue.")))
    return ok(text, **figures)


def _oldest(tx: ReadTx) -> int | None:
    row = tx.rows(
        "SELECT MIN(accepted_at) AS oldest FROM outbox_job"
        " WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED', 'BLOCKED', 'DEAD')"
    )[0]
    return None if row["oldest"] is None else int(row["oldest"])


async def alerts(context: Context, _subject: str) -> Finding:
    """Whether people are told."""
    if context.store is None:
        return _no_store()
    settings = context.settings.alerts
    open_now = len(await context.store.read(rows.open_alerts))
    untold = await context.store.read(
        lambda tx: tx.rows(
            "SELECT channel, COUNT(*) AS alerts FROM alert_delivery WHERE done = 0 AND failure <> ''"
            " GROUP BY channel ORDER BY channel"
        )
    )
    if settings.mail is None and settings.webhook is None:
        return warning(
            say(N_("nobody is told when something is wrong")), say(N_("Describe [alerts.mail] or [alerts.webhook]."))
        )
    if untold:
        return warning(
            say(N_("some alerts could not be delivered yet")),
            say(N_("Look at that channel: poterne doctor --send-test.")),
            ", ".join(f"{row['channel']}: {row['alerts']}" for row in untold),
        )
    return ok(N_("open: {number}, all told"), number=open_now)


def _no_store() -> Finding:
    return warning(say(N_("not looked at: the database cannot be read")))


# ── machine ──────────────────────────────────────────────────────────────────────────────────────────────────


async def disk(context: Context, _subject: str) -> Finding:
    """Room on the file system of the database."""
    if context.database is None:
        return ok(N_("the database is on a server: look at its disk there"))
    limits = context.settings.disk
    guard = DiskGuard(context.database, low_bytes=limits.low_bytes, reserve_bytes=limits.reserve_bytes)
    spare = await asyncio.to_thread(guard.spare)
    level = level_of(spare, low_bytes=limits.low_bytes, stop_bytes=limits.reserve_bytes // 4, before=Level.OK)
    free = {"mebibytes": max(spare, 0) // 1024**2}
    if level is Level.OK:
        return ok(N_("{mebibytes} MiB free beyond the reserve"), **free)
    remedy = say(N_("Free space on the file system of the database, or enlarge it."))
    if level is Level.LOW:
        return warning(say(N_("little room: {mebibytes} MiB free beyond the reserve"), **free), remedy)
    return failed(say(N_("full: no report is taken in, publication goes on")), remedy)


async def files(context: Context, _subject: str) -> Finding:
    """Nobody else may read the database nor change its folder."""
    if context.database is None:
        return ok(N_("the database is on a server"))
    wrong = await asyncio.to_thread(_open_to_others, context.database)
    if wrong:
        return failed(
            say(N_("open to others: {paths}"), paths=", ".join(wrong)),
            say(N_("chmod 600 for files, 700 for the folder, after finding out who could read them meanwhile.")),
        )
    return ok(N_("private"))


def _open_to_others(database: Path) -> list[str]:
    wrong = []
    if database.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong.append(str(database.parent))
    for suffix in ("", "-wal", "-shm", ".lock", ".reserve"):
        path = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_IMODE(path.lstat().st_mode) & 0o077:
                wrong.append(str(path))
    return wrong


async def versions(_context: Context, subject: str) -> Finding:
    """One library against its floor."""
    stated = _version(subject)
    floor = FLOORS[subject]
    shown = ".".join(map(str, floor))
    if _numbers(stated) < floor:
        return failed(
            say(N_("{version} is older than {floor}, and known to be unsafe"), version=stated, floor=shown),
            say(N_("Install the locked versions of the release.")),
        )
    return ok("{version}", version=stated)


def _version(subject: str) -> str:
    match subject:
        case "python":
            return platform.python_version()
        case "openssl":
            return ssl.OPENSSL_VERSION.split()[1]
        case _:
            return importlib.metadata.version(subject)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


async def zones(context: Context, subject: str) -> Finding:
    """The rules of the tenant's time zone are there."""
    zone = ZoneInfo(context.settings.tenants[subject].timezone)
    return ok(N_("now {moment}"), moment=f"{context.now.astimezone(zone):%Y-%m-%d %H:%M %z}")


# ── doors ────────────────────────────────────────────────────────────────────────────────────────────────────


async def process(context: Context, _subject: str) -> Finding:
    """Whether the gateway runs."""
    if context.database is None:
        return ok(N_("the database is on a server: see the doors below"))
    writer = context.writer()
    if writer is None:
        return warning(say(N_("the gateway is not running")), say(N_("Start it: poterne serve.")))
    return ok(N_("running, process {pid}"), pid=writer)


async def hl7_door(context: Context, subject: str) -> Finding:
    """The listener where the RIS sends its reports takes a connection."""
    return await _door(context, context.settings.tenants[subject].hl7.listen)


async def dicom_door(context: Context, subject: str) -> Finding:
    """The listener where DICOM objects arrive takes a connection; what it holds."""
    opened = await _door(context, context.settings.tenants[subject].dicom.listen)
    if opened.verdict is not Verdict.OK or context.store is None:
        return opened
    inbox = await context.store.read(lambda tx: received.held(tx, subject))
    figures = {
        "stored": inbox.stored,
        "quarantined": inbox.quarantined,
        "mebibytes": inbox.size_bytes // 1024**2,
    }
    text = N_("open; objects: {stored}, in quarantine: {quarantined}, {mebibytes} MiB")
    if inbox.quarantined:
        return warning(
            say(text, **figures), say(N_("Find the reasons in the log (dimse-object) and tell the sender's maker."))
        )
    return ok(text, **figures)


async def _door(context: Context, listen: str) -> Finding:
    host, port = address(listen)
    began = time.monotonic()
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        if context.database is not None and context.writer() is None:
            return warning(say(N_("closed: the gateway is not running")), say(N_("Start it: poterne serve.")))
        return failed(
            say(N_("nothing answers at {address}"), address=listen),
            say(N_("Restart the service and read its log.")),
            type(error).__name__,
        )
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ok(N_("open at {address} ({ms} ms)"), address=listen, ms=round((time.monotonic() - began) * 1000))


async def ops_door(context: Context, _subject: str) -> Finding:
    """The ops listener says that the gateway is ready."""
    listen = context.settings.ops.listen
    opened = await _door(context, listen)
    if opened.verdict is not Verdict.OK:
        return opened
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=8), trust_env=False) as session,
            session.get(f"http://{listen}/ready", allow_redirects=False) as answer,
        ):
            said = await answer.json()
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unavailable(
            f"/ready does not answer ({type(error).__name__})", code="ops-silent", hint="read the service's log"
        ) from error
    reasons = said.get("reasons") if isinstance(said, dict) else None
    if answer.status != 200 or reasons:
        return failed(
            say(N_("the gateway says that it is not ready")),
            say(N_("Read its log; correct what it names.")),
            ", ".join(f"{name}: {reason}" for name, reason in (reasons or {}).items()),
        )
    return ok(N_("ready"))


def _with_hl7(settings: Settings) -> Iterable[str]:
    return (name for name, tenant in settings.tenants.items() if _is_known(tenant.hl7.listen))


def _with_dicom(settings: Settings) -> Iterable[str]:
    return (name for name, tenant in settings.tenants.items() if _is_known(tenant.dicom.listen))


def _with_ops(settings: Settings) -> Iterable[str]:
    return ("",) if _is_known(settings.ops.listen) else ()


def _is_known(listen: str) -> bool:
    """Whether a door is configured at a port of its own; which free one port 0 became, only the process knows."""
    return bool(listen) and address(listen)[1] != 0


PROBES = (
    Probe(name="store", what=N_("database"), run=store),
    Probe(name="integrity", what=N_("integrity of the database"), run=integrity, limit_s=30.0),
    Probe(name="kek", what=N_("key file"), run=kek),
    Probe(name="disk", what=N_("disk"), run=disk),
    Probe(name="files", what=N_("rights of the files"), run=files),
    Probe(name="version", what=N_("version of {subject}"), run=versions, subjects=lambda _settings: FLOORS),
    Probe(name="zone", what=N_("time zone of {subject}"), run=zones, subjects=lambda settings: settings.tenants),
    Probe(name="process", what=N_("gateway"), run=process),
    Probe(name="hl7", what=N_("arrival of reports, {subject}"), run=hl7_door, subjects=_with_hl7),
    Probe(name="dicom", what=N_("arrival of DICOM objects, {subject}"), run=dicom_door, subjects=_with_dicom),
    Probe(name="ops", what=N_("ops listener"), run=ops_door, subjects=_with_ops),
    Probe(name="queue", what=N_("queue"), run=queue),
    Probe(name="alerts", what=N_("alerts"), run=alerts),
)
