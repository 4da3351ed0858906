"""``poterne support-bundle``: what somebody far away needs to help, and no patient.

Invariants:

* what goes in is chosen field by field; nothing is taken whole and cleaned afterwards, and no sealed value is opened;
* a study appears as a keyed hash, equal within one bundle and to nothing outside it: the key is thrown away;
* free text stays out, whoever wrote it: details, summaries, a person's reasons, log lines that are not ours;
* the archive is made new, mode 0600, and says itself what it holds and why.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import io
import json
import platform
import re
import secrets
import ssl
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway import doctor, i18n
from gateway.components import COMPONENTS
from gateway.i18n import N_, Words
from gateway.settings import ConfigurationError, Section, Settings, WebhookSettings, load
from gateway.stores import store_place
from security.errors import Broken, Fault
from security.secrets import create_private
from security.store.opening import open_store
from security.store.port import ReadTx, Store

JOBS = 200
LOG_BYTES = 4 * 1024 * 1024
LOG_LINES = 5_000
_REMOVED = "[removed]"
_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
_MESSAGE_TYPE = re.compile(r"[A-Z]{3}\^[A-Z][0-9]{2}", re.ASCII)
_STAMP = re.compile(r"[0-9T:.+Z-]{10,35}", re.ASCII)
_PLACE = re.compile(r"[a-zA-Z0-9_./<>: -]{1,160}", re.ASCII)
_MASKED = frozenset(
    {"name", "institution_name", "username", "user", "sender", "recipients", "trial", "device_name", "device_id"}
    | {"control_study"}
)
"""Keys of the configuration whose value names somebody, or somebody's study."""

_BY_A_PERSON = frozenset({"lifted", "reopened", "discarded"})
_LOG_CODES = frozenset(
    {"level", "tenant", "code", "reason", "state", "kind", "channel", "door", "pacs", "task", "before", "outcome"}
)
_LOG_NUMBERS = frozenset({"attempts", "number", "seconds", "bytes", "alerts", "unfinished", "grace_s", "jobs"})
_PACKAGES = (
    *("aiohttp", "apsw", "cryptography", "lxml", "poterne", "psycopg", "pydantic", "pydicom", "pynetdicom"),
    *("requests", "structlog", "tzdata"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One file of the archive. ``why``: what it is for."""

    name: str
    why: str
    content: Any


async def make(
    conf: Path | None,
    environ: Mapping[str, str],
    *,
    out: Path | None = None,
    log_file: Path | None = None,
    lang: str = i18n.DEFAULT,
) -> Path:
    """Make the archive; its path. ``out``: a new file, by default in the working directory.

    Raises:
        ConfigurationError: the configuration cannot be used: it says what to correct.
        Broken: ``bundle-exists`` something has that name; ``bundle-place`` it cannot be written there.
    """
    settings = load(conf, environ)
    now = datetime.now(UTC)
    words = i18n.words(lang)
    examination = await doctor.examine(conf, environ)
    parts = [
        _Part(name="doctor.json", why=N_("what poterne doctor found"), content=examination.facts(words)),
        _Part(
            name="configuration.json",
            why=N_("the configuration in effect, without secrets and names"),
            content=_plain(settings),
        ),
        _Part(name="versions.json", why=N_("versions of what runs"), content=_versions()),
    ]
    missing = ""
    try:
        parts += await _of_database(settings)
    except Fault as fault:
        missing = f"database: {fault.code}"
    if log_file is not None:
        parts.append(
            _Part(name="log.json", why=N_("last lines of the log: events and codes"), content=_log(log_file))
        )
    place = out or Path(f"poterne-support-{now:%Y%m%d-%H%M%S}.tar.gz")
    _write(place, _archive(parts, now=now, missing=missing, words=words))
    return place


async def run(
    conf: Path | None, environ: Mapping[str, str], *, out: Path | None, log_file: Path | None, lang: str
) -> tuple[int, str]:
    """Make the archive; exit code and what to print."""
    words = i18n.words(lang)
    try:
        place = await make(conf, environ, out=out, log_file=log_file, lang=lang)
    except ConfigurationError as error:
        return 2, "".join(f"{problem}\n" for problem in error.problems)
    return 0, words("{path}: read MANIFEST.json in it before you send it", path=place) + "\n"


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────


def _plain(value: Any, key: str = "") -> Any:
    """A setting as it may be shown. Secrets are files: their paths stay, what is in them was never read."""
    if key in _MASKED and value:
        return _REMOVED
    if isinstance(value, WebhookSettings):  # whoever knows the whole address may post there
        parts = urlsplit(value.url)
        value = value.model_copy(update={"url": f"{parts.scheme}://{parts.netloc}/{_REMOVED}"})
    if isinstance(value, Section):
        return {name: _plain(getattr(value, name), name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, Path) else value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION, "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "-"
    return found


async def _of_database(settings: Settings) -> list[_Part]:
    if settings.store is None:
        return []
    key = secrets.token_bytes(32)

    def hashed(study: str) -> str:
        return hmac.digest(key, study.encode(), hashlib.sha256).hex()[:16]

    store: Store = await open_store(store_place(settings.store), COMPONENTS, read_only=True)
    try:
        return [
            _Part(name=f"{name}.json", why=why, content=await store.read(read))
            for name, why, read in (
                ("migrations", N_("migrations of the database"), _migrations),
                ("queue", N_("the queue in figures"), _queue),
                ("jobs", N_("the last jobs and their history, studies hashed"), lambda tx: _jobs(tx, hashed)),
                ("messages", N_("HL7 messages in figures, by answer and reason"), _messages),
                ("alerts", N_("alerts and what became of them"), _alerts),
                ("pacs", N_("what each PACS was found able to do"), _capabilities),
            )
        ]
    finally:
        await store.close()


def _migrations(tx: ReadTx) -> list[Any]:
    return [dict(row) for row in tx.rows("SELECT component, number, name, sha256, applied_at FROM schema_migration")]


def _queue(tx: ReadTx) -> list[Any]:
    rows = tx.rows(
        "SELECT tenant, kind, job_class, state, reason, COUNT(*) AS jobs, MIN(accepted_at) AS oldest,"
        " MIN(deadline) AS deadline, MAX(attempts) AS attempts FROM outbox_job"
        " GROUP BY tenant, kind, job_class, state, reason ORDER BY tenant, state, reason"
    )
    return [dict(row) | {"reason": _reason(row["reason"], row["state"])} for row in rows]


def _jobs(tx: ReadTx, hashed: Callable[[str], str]) -> list[Any]:
    jobs = tx.rows(
        "SELECT job_id, tenant, lane, kind, job_class, state, reason, accepted_at, deadline, not_before, attempts,"
        " tries, deaths, in_doubt FROM outbox_job ORDER BY job_id DESC LIMIT :jobs",
        jobs=JOBS,
    )
    told = []
    for job in jobs:
        past = tx.rows(
            "SELECT at, from_state, event, to_state, reason FROM outbox_history WHERE job_id = :job_id ORDER BY seq",
            job_id=job["job_id"],
        )
        attempts = tx.rows(
            "SELECT attempt_no, started_at, ended_at, outcome FROM outbox_attempt WHERE job_id = :job_id"
            " ORDER BY attempt_no",
            job_id=job["job_id"],
        )
        shown = {name: value for name, value in job.items() if name != "lane"}
        told.append(
            shown
            | {
                "study": hashed(job["lane"]),
                "reason": _reason(job["reason"], job["state"]),
                "history": [dict(row) | {"reason": _reason(row["reason"], row["event"])} for row in past],
                "attempts_made": [dict(row) for row in attempts],
            }
        )
    return told


def _reason(reason: str, said_with: str) -> str:
    """A reason code of ours; what a person wrote is not shown."""
    if said_with.lower() in _BY_A_PERSON or said_with == "CANCELLED":
        return _REMOVED if reason else ""
    return _code(reason)


def _code(text: str) -> str:
    return text if not text or (_CODE.fullmatch(text) and len(text) <= 64) else _REMOVED


def _messages(tx: ReadTx) -> list[Any]:
    rows = tx.rows(
        "SELECT tenant, message_type, ack_code, reason, COUNT(*) AS messages, MAX(received_at) AS last"
        " FROM hl7_message GROUP BY tenant, message_type, ack_code, reason ORDER BY tenant, message_type, reason"
    )
    counted: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        kind = row["message_type"] if _MESSAGE_TYPE.fullmatch(row["message_type"]) else _REMOVED
        key = (row["tenant"], kind, row["ack_code"], _code(row["reason"]))
        one = counted.setdefault(
            key, dict(zip(("tenant", "type", "answer", "reason"), key, strict=True)) | {"messages": 0, "last": 0}
        )
        one["messages"] += row["messages"]
        one["last"] = max(one["last"], row["last"])
    return list(counted.values())


def _alerts(tx: ReadTx) -> dict[str, Any]:
    alerts = tx.rows(
        "SELECT alert_id, tenant, kind, subject, measure, stage, opened_at, seen_at, closed_at FROM alert"
        " ORDER BY alert_id DESC LIMIT 500"
    )
    deliveries = tx.rows(
        "SELECT alert_id, channel, told_at, told_stage, attempts, failure, done FROM alert_delivery"
        " ORDER BY alert_id DESC, channel LIMIT 1000"
    )
    return {"alerts": [dict(row) for row in alerts], "deliveries": [dict(row) for row in deliveries]}


def _capabilities(tx: ReadTx) -> list[Any]:
    rows = tx.rows("SELECT tenant, pacs, at, record FROM pacs_capability ORDER BY at DESC LIMIT 50")
    return [dict(row) | {"record": json.loads(row["record"])} for row in rows]


def _log(file: Path) -> dict[str, Any]:
    """Events of our own JSON log: stamp, level, event and codes; of an error its types and places."""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - LOG_BYTES))
        lines = log.read().splitlines()[-LOG_LINES:]
    kept = [line for raw in lines if (line := _log_line(raw))]
    return {"lines": kept, "left_out": len(lines) - len(kept)}


def _log_line(raw: bytes) -> dict[str, Any] | None:
    try:
        fields = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not _is(_CODE, fields.get("event")) or not _is(_STAMP, fields.get("ts")):
        return None
    shown: dict[str, Any] = {"ts": fields["ts"], "event": fields["event"]}
    shown |= {key: value for key, value in fields.items() if key in _LOG_CODES and _is(_CODE, value)}
    shown |= {key: value for key, value in fields.items() if key in _LOG_NUMBERS and isinstance(value, int | float)}
    told = fields.get("exception")
    if isinstance(told, list):
        shown["exception"] = [_error(one) for one in told if isinstance(one, dict)]
    return shown


def _error(told: Mapping[str, Any]) -> dict[str, Any]:
    at = told.get("at")
    return {
        "type": told["type"] if isinstance(told.get("type"), str) and told["type"].isidentifier() else _REMOVED,
        "at": [place for place in at if _is(_PLACE, place)] if isinstance(at, list) else [],
    }


def _is(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


# ── archive ──────────────────────────────────────────────────────────────────────────────────────────────────


def _archive(parts: list[_Part], *, now: datetime, missing: str, words: Words) -> bytes:
    files = {
        part.name: json.dumps(part.content, ensure_ascii=False, indent=1, default=str).encode() for part in parts
    }
    manifest = {
        "made_at": now.isoformat(timespec="seconds"),
        "poterne": importlib.metadata.version("poterne"),
        "promise": words(
            "No patient value: no name, no identifier, no date of birth, no accession number, no text of a report."
            " Studies are hashed under a key that was thrown away. No password, no key."
        ),
        "missing": missing,
        "files": [
            {
                "name": part.name,
                "why": words(part.why),
                "bytes": len(files[part.name]),
                "sha256": hashlib.sha256(files[part.name]).hexdigest(),
            }
            for part in parts
        ],
    }
    first = {"MANIFEST.json": json.dumps(manifest, ensure_ascii=False, indent=1).encode()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in (first | files).items():
            member = tarfile.TarInfo(f"poterne-support/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, int(now.timestamp())
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _write(place: Path, data: bytes) -> None:
    try:
        create_private(place, data)
    except FileExistsError:
        raise Broken(f"{place} exists already", code="bundle-exists", hint="name another file with --out") from None
    except OSError as error:
        raise Broken(
            f"{place}: {error.strerror}", code="bundle-place", hint="name a file in a folder you may write to"
        ) from error
