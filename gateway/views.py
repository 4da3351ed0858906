"""What ``poterne exam``, ``queue``, ``pacs inbox`` and ``shadow`` print: read-only, from the database alone, also
while the gateway runs. No patient value is printed: the sealed ones stay sealed.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import typer

from gateway import account
from gateway.components import COMPONENTS
from gateway.continuity import drills
from gateway.continuity.copies import Exposure
from gateway.hl7 import inbox, reasons
from gateway.i18n import Words
from gateway.orders import orders
from gateway.settings import Settings
from gateway.stores import store_place
from gateway.terms import engine_settings, exposed
from gateway.web import details, vocabulary
from indexer import advice, exams, shadow, timeline
from indexer.exchanges import reveal, rows
from indexer.ledger import Ledger, tenants_of
from security.clock import SystemClock
from security.errors import Refused
from security.identity import Uid
from security.outbox import jobs, pace
from security.outbox.forecast import Forecast
from security.outbox.port import Job
from security.seal import Vault
from security.secrets import read_kek, read_previous_kek
from security.store.opening import open_store
from security.store.port import Store

LINES_MAX = 100
"""Exams a list shows; the rest is counted, and all of it is in ``--json``."""
_URGENT = (timeline.ExamState.FAILED, timeline.ExamState.HELD)


@asynccontextmanager
async def reading(settings: Settings, words: Words) -> AsyncIterator[Store]:
    """The gateway's database, only to read.

    Raises:
        Refused: ``no-database`` no gateway has run yet.
    """
    place = store_place(settings.gateway_store())
    if isinstance(place, Path) and not place.exists():
        raise Refused(
            words("there is no database yet at {path}", path=place),
            code="no-database",
            hint=words("the first start makes it: poterne serve"),
        )
    store = await open_store(place, COMPONENTS, read_only=True)
    try:
        yield store
    finally:
        await store.close()


def one_tenant(settings: Settings, wanted: str, words: Words) -> str:
    """The tenant that is meant: the one named, or the only one.

    Raises:
        Refused: ``tenant-needed``, ``unknown-tenant``.
    """
    known = ", ".join(settings.tenants)
    if not wanted and len(settings.tenants) != 1:
        raise Refused(
            words("several legal entities are configured"),
            code="tenant-needed",
            hint=words("name one with --tenant: {known}", known=known),
        )
    name = wanted or next(iter(settings.tenants))
    if name not in settings.tenants:
        raise Refused(
            words("no legal entity is called {name}", name=name),
            code="unknown-tenant",
            hint=words("known: {keys}", keys=known),
        )
    return name


async def exam(
    settings: Settings,
    study_uid: str,
    words: Words,
    *,
    tenant: str,
    as_json: bool,
    with_exchanges: bool = False,
    in_clear: bool = False,
) -> int:
    """Print one exam's timeline; 1 when no tenant knows the study. ``with_exchanges``: what was said between us and
    the index, masked; ``in_clear``: not masked, by right and on record.

    Raises:
        Refused: ``reveal-not-allowed``.
    """
    study = str(Uid(study_uid))
    async with reading(settings, words) as store:
        known = await store.read(lambda tx: tenants_of(tx, study))
        if tenant and tenant not in known:
            one_tenant(settings, tenant, words)
        asked = [tenant] if tenant else known
        if len(asked) > 1:
            typer.echo(
                words(
                    "{study} is known to several tenants: {tenants} → name one with --tenant",
                    study=study,
                    tenants=", ".join(asked),
                ),
                err=True,
            )
            return 2
        told = await store.read(lambda tx: account.read(tx, asked[0], study)) if asked else None
        if told is None or not told.exam.steps:
            typer.echo(_unknown(study, tenant, known, words), err=True)
            return 1
        shown = await _masked(settings, store, asked[0], study) if with_exchanges and not in_clear else {}
    if in_clear:
        shown = await _in_clear(settings, asked[0], study)
    zone = _zone(settings, asked[0])
    if as_json:
        typer.echo(json.dumps(plain(account.facts(told, shown, words, zone)), ensure_ascii=False))
        return 0
    lines = [
        exam_text(told.exam, words, zone.key, is_paused=told.is_paused),
        *account.lines(told, shown, words, zone),
    ]
    typer.echo("\n".join(lines))
    return 0


async def _masked(settings: Settings, store: Store, tenant: str, study: str) -> dict[int, account.Sides]:
    """Every exchange of the exam that is kept, masked."""
    file = settings.gateway_store().kek_file
    vault = await Vault.load(store, read_kek(file), (), SystemClock(), previous=read_previous_kek(file))
    opened = await store.read(lambda tx: rows.opened(tx, Ledger(vault), tenant, study))
    return {one.listed.number: account.masked_sides(reveal.mask(one)) for one in opened}


async def _in_clear(settings: Settings, tenant: str, study: str) -> dict[int, account.Sides]:
    """Every exchange of the exam that is kept, as it was: the gateway asks for the right and records the look."""
    async with orders(settings) as order:
        told = await order("reveal", {"tenant": tenant, "study": study})
    return {
        one["number"]: account.clear_sides(
            base64.b64decode(one["request"]),
            base64.b64decode(one["answer"]),
            cut=one["cut"],
            withheld=one["withheld"],
        )
        for one in told
    }


def _zone(settings: Settings, tenant: str) -> ZoneInfo:
    """Where the tenant's clock hangs; UTC for one that is no longer configured."""
    return ZoneInfo(settings.tenants[tenant].timezone if tenant in settings.tenants else "UTC")


def _unknown(study: str, tenant: str, known: Sequence[str], words: Words) -> str:
    if tenant and known:
        return words(
            "tenant {tenant} does not know {study}; {others} does",
            tenant=tenant,
            study=study,
            others=", ".join(known),
        )
    return words("{study}: no report has spoken of this study → check the StudyInstanceUID and the RIS", study=study)


def exam_text(seen: timeline.Exam, words: Words, zone: str, *, is_paused: bool = False) -> str:
    """The timeline as lines for a terminal, times in ``zone``."""
    where = ZoneInfo(zone)
    state = words(vocabulary.STATES[seen.state.value].word).upper()
    cause = advice.cause(seen, is_paused=is_paused)
    lines = [f"{seen.study}  {state}" + (f"  {_reason(cause, words)}" if cause else "")]
    start = seen.steps[0].at
    names = [vocabulary.step(step.what, words) for step in seen.steps]
    width = max(map(len, names))
    lines += [
        f"  {step.at.astimezone(where):%Y-%m-%d %H:%M:%S}  +{(step.at - start).total_seconds():7.3f} s"
        f"  {name:<{width}}  {details.told(step, words)}"
        for step, name in zip(seen.steps, names, strict=True)
    ]
    step = details.next_step(advice.next_step(seen, is_paused=is_paused), words, where)
    lines.append("  " + words("What comes next: {step}", step=step))
    return "\n".join(account.printable(line) for line in lines)


def _reason(code: str, words: Words) -> str:
    """Its short words, and the code that documents and metrics know."""
    said = vocabulary.reason(code, words)
    return f"[{code}]" if said == code else f"{said} [{code}]"


async def queue(settings: Settings, words: Words, *, as_json: bool) -> int:
    """Print the queue: how many exams in each state, what is paused, and each unfinished exam with its reason."""
    async with reading(settings, words) as store:
        open_jobs = await store.read(jobs.open_jobs)
        counts = await store.read(lambda tx: exams.counts(tx, ""))
        paused = await store.read(jobs.paused)
        calls, now = engine_settings(settings).calls, datetime.now(UTC)
        ahead = await store.read(lambda tx: pace.all_ahead(tx, now=now, calls=calls))
        exposures = await store.read(lambda tx: exposed(settings, tx, now))
        drilled = await store.read(drills.last)
    if as_json:
        facts = {
            "exams": {state.value: number for state, number in counts.by_state.items()},
            "paused": [asdict(pause) for pause in paused],
            "ahead": {tenant: _ahead_facts(found) for tenant, found in ahead.items()},
            "exposure": [asdict(one) for one in exposures],
            "drills": [asdict(one) for one in drilled.values()],
            "open": [_open_row(job) for job in open_jobs],
        }
        typer.echo(json.dumps(plain(facts), ensure_ascii=False))
        return 0
    for tenant, found in ahead.items():
        if sum(found.backlog.values()):
            typer.echo(account.printable(_ahead_line(tenant, found, words)))
    for one in exposures:
        typer.echo(account.printable(_exposure_line(settings, one, words)))
        typer.echo(account.printable(_drill_line(settings, one.tenant, drilled.get(one.tenant), words)))
    for line in _queue_lines(settings, open_jobs, counts, paused, words):
        typer.echo(account.printable(line))
    return 0


def _ahead_facts(found: Forecast) -> dict[str, Any]:
    """Infinity is no JSON: null says that the backlog grows."""
    return {
        "backlog": {k.name: number for k, number in found.backlog.items()},
        "drain_s": [None if math.isinf(seconds) else round(seconds, 1) for seconds in found.drain_s],
        "predicted_late": {k.name: number for k, number in found.late.items()},
        "overdue": {k.name: number for k, number in found.overdue.items()},
        "growth_per_hour": round(found.growth_per_h, 1),
        "index_away_s": round(found.away.total_seconds()),
        "measured": found.is_measured,
        "error": None if found.error is None else round(found.error, 3),
    }


def _ahead_line(tenant: str, found: Forecast, words: Words) -> str:
    """How long the backlog takes and what of it will be late, in one line."""
    jobs_ahead = words.count(
        "{tenant}: {n} exam waits for its turn", "{tenant}: {n} exams wait for their turn",
        sum(found.backlog.values()), tenant=tenant,
    )  # fmt: skip
    told = [jobs_ahead]
    best, mean, worst = found.drain_s
    if found.away:
        told.append(words("the index has published nothing for {span}", span=words.span(found.away.total_seconds())))
    if math.isinf(mean):
        told.append(words("the backlog grows by {n} an hour", n=words.number(round(found.growth_per_h))))
    elif math.isinf(worst):
        told.append(words("done in {span} at the earliest", span=words.span(best)))
    else:
        told.append(words("done in {best} to {worst}", best=words.span(best), worst=words.span(worst)))
    if late := sum(found.late.values()):
        told.append(words.count("{n} will be late", "{n} will be late", late))
    if not found.is_measured:
        told.append(words("not measured yet: a guess"))
    elif not found.is_reliable:
        told.append(words("the last forecasts were wrong by {n} %", n=words.number(round(100 * (found.error or 0)))))
    return ", ".join(told)


def _exposure_line(settings: Settings, found: Exposure, words: Words) -> str:
    """What a lost machine would take along, beside what was declared."""
    told = [
        words(
            "{tenant}: on no second copy: the work of {span} (declared RPO {rpo}, RTO {rto})",
            tenant=found.tenant,
            span=words.span(found.seconds),
            rpo=words.span(found.rpo_s),
            rto=words.span(found.rto_s),
        )
    ]
    if found.copied_at:
        told.append(words("last backup {when}", when=words.moment(found.copied_at, _zone(settings, found.tenant))))
    else:
        told.append(words("no backup yet"))
    if found.stage:
        told.append(words("make a backup now: poterne backup FILE"))
    return ", ".join(told)


def _drill_line(settings: Settings, tenant: str, found: drills.Drill | None, words: Words) -> str:
    """What the last drill measured of what is declared."""
    if found is None:
        return words("{tenant}: no restore drill yet: poterne drill restore FILE", tenant=tenant)
    return words(
        "{tenant}: restore drill {when}: back after {rto}, without the work of {rpo}",
        tenant=tenant,
        when=words.moment(found.at, _zone(settings, tenant)),
        rto=words.span(found.rto_s),
        rpo=words.span(found.rpo_s),
    )


def _queue_lines(
    settings: Settings, open_jobs: Sequence[Job], counts: exams.Counts, paused: Sequence[jobs.Pause], words: Words
) -> Iterator[str]:
    numbers = {state.value: number for state, number in counts.by_state.items()}
    told = [
        f"{words(state.word)} {words.number(numbers[name])}"
        for name, state in vocabulary.STATES.items()
        if numbers.get(name)
    ]
    yield "   ".join(told) or words("No exam yet.")
    for pause in paused:
        yield words(
            "PAUSED  {tenant}, since {when}, by {who}: {why}",
            tenant=pause.tenant,
            when=words.moment(pause.at, _zone(settings, pause.tenant)),
            who=vocabulary.person(pause.actor),
            why=pause.reason,
        )
    now = datetime.now(UTC)
    shown = sorted(open_jobs, key=lambda job: timeline.exam_state(job) not in _URGENT)[:LINES_MAX]
    yield from columns([_queue_row(job, now, _zone(settings, job.tenant), words) for job in shown])
    if len(open_jobs) > LINES_MAX:
        yield words("  … and {n} more: --json lists them all", n=words.number(len(open_jobs) - LINES_MAX))


def _queue_row(job: Job, now: datetime, zone: tzinfo, words: Words) -> tuple[str, ...]:
    return (
        job.tenant,
        job.lane,
        words(vocabulary.STATES[timeline.exam_state(job).value].word),
        words("for {span}", span=words.span((now - job.accepted_at).total_seconds())),
        _reason(job.reason, words) if job.reason else "",
        words("next try {when}", when=words.moment(job.not_before, zone)) if job.not_before else "",
    )


def columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows as lines, every column as wide as its longest text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))


async def refused(settings: Settings, words: Words, *, tenant: str, limit: int, as_json: bool) -> int:
    """Print the HL7 messages that were last answered other than AA: they are kept, and nothing of them was lost."""
    name = one_tenant(settings, tenant, words)
    async with reading(settings, words) as store:
        kept = await store.read(lambda tx: inbox.refused(tx, name, limit))
    if as_json:
        typer.echo(json.dumps([plain(asdict(one)) for one in kept], ensure_ascii=False))
        return 0
    if not kept:
        typer.echo(words("No message was refused."))
    zone = ZoneInfo(settings.tenants[name].timezone)
    for one in kept:
        why = words(reasons.TEXTS[one.reason]) if one.reason in reasons.TEXTS else one.reason
        told = f"{words.moment(one.at, zone)}  {one.code}  {one.message_type:<8}  {one.sender}  {one.control_id}"
        typer.echo(account.printable(f"{told}  {why} [{one.reason}]"))
    return 0


async def shadow_report(settings: Settings, words: Words, *, tenant: str, days: int, as_json: bool) -> int:
    """Print what would have been published.

    Raises:
        Refused: ``unknown-tenant``.
    """
    since = datetime.now(UTC) - timedelta(days=days)
    names = [one_tenant(settings, tenant, words)] if tenant else list(settings.tenants)
    async with reading(settings, words) as store:
        reports = [await store.read(partial(shadow.shadow_report, tenant=name, since=since)) for name in names]
    if as_json:
        typer.echo(json.dumps([plain(asdict(one)) for one in reports], ensure_ascii=False))
        return 0
    for report in reports:
        for line in _shadow_lines(settings, report, words):
            typer.echo(account.printable(line))
    return 0


def _shadow_lines(settings: Settings, report: shadow.ShadowReport, words: Words) -> Iterator[str]:
    since = words.moment(report.since, _zone(settings, report.tenant))
    yield words("{tenant}: since {when}", tenant=report.tenant, when=since)
    is_live = settings.tenants[report.tenant].mode == "live"
    if is_live:
        yield words("  This site is live: what is ready is sent.")
    if report.ready or not is_live:
        yield words.count(
            "  {n} exam would have been published ({instances} images, {size} kB of manifests)",
            "  {n} exams would have been published ({instances} images, {size} kB of manifests)",
            len(report.ready),
            instances=words.number(report.instances),
            size=words.number(round(report.document_bytes / 1000, 1)),
        )
    width = max((len(one.study) for one in report.ready), default=0)
    for one in report.ready[:LINES_MAX]:
        yield f"    {one.study:<{width}}  " + ", ".join(_ready_facts(one, words))
        for warning in one.warnings:
            yield f"      ! {warning}"
    if len(report.ready) > LINES_MAX:
        yield words("  … and {n} more: --json lists them all", n=words.number(len(report.ready) - LINES_MAX))
    for state, by_reason in (("held", report.held), ("waiting", report.waiting), ("failed", report.failed)):
        for reason, number in sorted(by_reason.items()):
            stands = words(vocabulary.STATES[state].word).lower()
            yield f"  {words.number(number):>5} × {stands}, {_reason(reason, words)}"


def _ready_facts(one: shadow.Ready, words: Words) -> tuple[str, ...]:
    return (
        words.count("{n} series", "{n} series", one.series),
        words.count("{n} image", "{n} images", one.instances),
        words.count("{n} byte", "{n} bytes", one.document_bytes),
        words("ready after {seconds} s", seconds=words.number(round(one.seconds, 1))),
    )


def _open_row(job: Job) -> dict[str, Any]:
    return {
        "tenant": job.tenant,
        "study": job.lane,
        "exam_state": timeline.exam_state(job).value,
        "job_state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "accepted_at": job.accepted_at,
        "next_try": job.not_before,
    }


def plain(value: Any) -> Any:
    """Aware times as ISO 8601, the rest as it is."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
