"""What commands that act print: pause, trial exam, probe, backload. The acting itself is the gateway's
(``gateway.operations``), running or built here for the moment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import typer

from gateway import archives, backload, drift, orders, terms
from gateway.continuity import commands as continuity
from gateway.continuity import drills
from gateway.facts import operator
from gateway.i18n import N_, Words
from gateway.pacs.probe import report_from, report_text
from gateway.settings import Settings
from gateway.views import reading
from gateway.web import vocabulary
from security.errors import Refused, Unavailable
from security.policy import Action

_STEPS: Mapping[str, str] = {
    "started": N_("The trial exam {study} is on its way."),
    "indexed": N_("The index shows it."),
    "withdrawal-asked": N_("Its withdrawal is asked for."),
    "withdrawn": N_("The index shows it no more."),
    "held": N_("It is held: {reason}. {missing}"),
    "failed": N_("It failed: {reason}. {missing}"),
    "late": N_("It takes too long ({reason}). {missing}"),
}


def _actor() -> str:
    """Who asks, as the audit record says it."""
    return operator()


async def pause(settings: Settings, words: Words, *, tenant: str, reason: str) -> int:
    """Let nothing of the tenant begin."""
    async with orders.orders(settings) as order:
        await order("pause", {"tenant": tenant, "actor": _actor(), "reason": reason})
    typer.echo(words("{tenant} is paused: nothing of it begins until poterne queue resume.", tenant=tenant))
    return 0


async def resume(settings: Settings, words: Words, *, tenant: str) -> int:
    """Let the tenant's exams go on."""
    async with orders.orders(settings) as order:
        await order("resume", {"tenant": tenant, "actor": _actor()})
    typer.echo(words("{tenant} goes on.", tenant=tenant))
    return 0


_EXAM_ORDERS: dict[str, str] = {
    "retry": N_("{study} is tried again now."),
    "withdraw": N_("{study} leaves the index, and stays out until poterne exam republish."),
    "republish": N_("{study} is looked at again, and published if its reports and the PACS allow it."),
    "publish": N_("{study} waits for no more images: it is published with those that are there."),
}


async def about_exam(settings: Settings, words: Words, what: str, *, tenant: str, study: str, reason: str) -> int:
    """Try an exam again (``retry``), take it out of the index (``withdraw``), let it back (``republish``) or wait for
    no more of its images (``publish``).

    Raises:
        Unavailable: ``not-running``. Refused, BadInput: as the operation says.
    """
    async with orders.orders(settings) as order:
        await order(what, {"tenant": tenant, "study": study, "actor": _actor(), "reason": reason})
    typer.echo(words(_EXAM_ORDERS[what], study=study))
    return 0


async def selftest(
    settings: Settings,
    words: Words,
    *,
    tenant: str,
    send: bool,
    keep: bool,
    withdraw: str,
    limit_s: float,
    as_json: bool,
) -> int:
    """Publish a trial exam, see it indexed, withdraw it; 1 when anything else happens.

    Raises:
        Unavailable: ``not-running``: the exam takes the way of every exam, through the running gateway.
    """
    if not orders.is_running(settings):
        raise Unavailable(
            "the gateway is not running",
            code="not-running",
            hint="start it: poterne serve; the trial goes through it",
        )
    facts: dict[str, Any] = {"tenant": tenant, "actor": _actor(), "limit_s": str(limit_s)}

    def hear(step: Mapping[str, Any]) -> None:
        if as_json:
            typer.echo(json.dumps(step, ensure_ascii=False))
            return
        said = words(
            _STEPS[step["what"]],
            study=step["study"],
            reason=vocabulary.reason(step["reason"], words),
            missing=words(step["missing"]),
        )
        typer.echo(f"  {step['seconds']:8.2f} s  {'✓' if step['is_good'] else '✗'}  {said}")

    async with orders.orders(settings) as order:
        if withdraw:
            went_well = await order("take-back", facts | {"study": withdraw}, hear)
        else:
            went_well = await order("try-out", facts | {"send": send, "keep": keep}, hear)
    return 0 if went_well else 1


async def probe(settings: Settings, words: Words, *, tenant: str, pacs: str, as_json: bool) -> int:
    """Find out what each PACS is able to do; 1 when one gave no record.

    Raises:
        Refused: ``unknown-pacs``.
    """
    known = settings.tenants[tenant].pacs
    if pacs and pacs not in known:
        raise Refused(
            words("{tenant} has no PACS called {pacs}", tenant=tenant, pacs=pacs),
            code="unknown-pacs",
            hint=words("known: {keys}", keys=", ".join(known)),
        )
    names = [pacs] if pacs else list(known)
    failed = False
    async with orders.orders(settings) as order:
        for name in names:
            facts = await order("probe", {"tenant": tenant, "pacs": name})
            report = report_from(facts)
            failed = failed or bool(report.fault)
            typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else report_text(report, words))
    return 1 if failed else 0


async def load_back(
    settings: Settings,
    words: Words,
    *,
    tenant: str,
    first: date,
    last: date,
    reports: Path | None,
    go: bool,
    as_json: bool,
    progress: Callable[[str], None],
) -> int:
    """Preview a backload, and with ``go`` do it; 1 when a day is not known or a message was not taken."""
    if last < first:
        raise Refused(
            words("--to is before --from"), code="backload-period", hint=words("give the first day, then the last")
        )
    of = settings.tenants[tenant]
    days = await backload.ask_pacs(of, first, last, lambda day: progress(day.isoformat()))
    studies = [study for day in days for study in day.studies]
    async with reading(settings, words) as store:
        known = await store.read(lambda tx: backload.known_stands(tx, tenant, studies))
    found = backload.preview(days, known, backload.read_reports(reports, of) if reports else [])
    loaded = None
    if go:
        async with orders.orders(settings) as order:

            async def take(message: str) -> tuple[str, str]:
                code, reason = await order("take", {"tenant": tenant, "message": message})
                return code, reason

            loaded = await backload.load(found, take, lambda number, of_all: progress(f"{number}/{of_all}"))
    if as_json:
        typer.echo(json.dumps(backload.facts(found, loaded), ensure_ascii=False))
    else:
        for line in backload.preview_text(found, words, first=first, last=last):
            typer.echo(line)
        for line in backload.loaded_text(loaded, words) if loaded else ():
            typer.echo(line)
        if not go:
            typer.echo(words("Nothing was queued. To do it, add --go."))
    return 1 if found.unknown or (loaded and loaded.refused) else 0


async def reconcile(
    settings: Settings,
    words: Words,
    *,
    tenant: str,
    first: date | None,
    last: date | None,
    withdraw_up_to: int | None,
    consent: int | None,
    as_json: bool,
    progress: Callable[[str], None],
) -> int:
    """Compare PACS, database and index; 1 when the run stopped, or a day or a peer gave no clean answer.

    Raises:
        Refused: ``reconcile-period``; ``reconcile-shadow``; ``two-persons`` for ``withdraw_up_to``, as
            ``Reception.agreed``.
    """
    if (first is None) != (last is None) or (first and last and last < first):
        raise Refused(
            words("--from and --to belong together, the first day before the last"),
            code="reconcile-period",
            hint=words("give both, or neither for every exam"),
        )
    facts: dict[str, Any] = {"tenant": tenant, "withdraw_up_to": withdraw_up_to, "consent": consent}
    if first and last:
        facts |= {"first": first.isoformat(), "last": last.isoformat()}
    async with orders.orders(settings) as order:
        found = await order("reconcile", facts, progress)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        for line in (*drift.text(found, words), *drift.own(found, words)):
            typer.echo(line)
    return 1 if drift.needs_a_person(found) else 0


async def back_up(
    settings: Settings,
    words: Words,
    *,
    conf: Path | None,
    file: Path,
    with_key: bool,
    consent: int | None,
    as_json: bool,
) -> int:
    """Write a backup, check it, and let the gateway note it. The key leaves only when two persons agreed (T46).

    Raises:
        Refused, Broken: as ``gateway.continuity.commands.back_up``, and for ``with_key`` as ``Reception.agreed``.
    """
    continuity.require_place(settings, file)
    async with orders.orders(settings) as order:
        if with_key:
            await order("consent-use", {"action": Action.KEYS_EXPORT, "consent": consent})
        made = await asyncio.to_thread(continuity.back_up, settings, conf, file, with_key=with_key)
        await order("backed-up", {"last_audit_no": str(made.last_audit_no), "digest": made.digest})
    if as_json:
        facts = asdict(made) | {"file": str(made.file)}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return 0
    size = words.number(made.bytes)
    typer.echo(
        words(
            "{file}: {size} bytes, read back and checked. SHA-256 {digest}",
            file=made.file,
            size=size,
            digest=made.digest,
        )
    )
    if made.has_key:
        typer.echo(words("It HOLDS THE KEY: whoever has this file can read patients. Lock it away."))
    else:
        typer.echo(
            words(
                "It does not hold the key file {path}: keep that one elsewhere, without it this backup is of no use.",
                path=settings.gateway_store().kek_file,
            )
        )
    return 0


async def export_xdm(
    settings: Settings,
    words: Words,
    *,
    tenant: str,
    target: Path,
    since: date | None,
    studies: Sequence[str],
    as_json: bool,
    progress: Callable[[str], None],
) -> int:
    """Write XDM archives; 1 when a version had to be left out.

    Raises:
        Refused, Broken: as ``gateway.continuity.xdm.export``.
    """
    facts: dict[str, Any] = {
        "tenant": tenant,
        "target": str(target),
        "since": since.isoformat() if since else "",
        "studies": list(studies),
        "actor": _actor(),
    }
    async with orders.orders(settings) as order:
        made = await order("export-xdm", facts, progress)
    _told(made, archives.exported(made, words), as_json=as_json)
    return 1 if made["left_out"] else 0


async def import_xdm(
    settings: Settings,
    words: Words,
    *,
    tenant: str,
    files: Sequence[Path],
    apply: bool,
    as_json: bool,
    progress: Callable[[str], None],
) -> int:
    """Look at XDM archives, and with ``apply`` take them in; 1 when a set was refused or an exam is held.

    Raises:
        Refused: as ``gateway.continuity.xdm.bring_in``.
    """
    facts: dict[str, Any] = {
        "tenant": tenant,
        "files": [str(file) for file in files],
        "apply": apply,
        "actor": _actor(),
    }
    async with orders.orders(settings) as order:
        done = await order("import-xdm", facts, progress)
    _told(done, archives.imported(done, words), as_json=as_json)
    return 1 if done["refused"] or done["counts"].get("held") else 0


def _told(facts: Mapping[str, Any], lines: Iterable[str], *, as_json: bool) -> None:
    for line in (json.dumps(facts, ensure_ascii=False),) if as_json else lines:
        typer.echo(line)


async def drill_restore(settings: Settings, words: Words, *, file: Path, as_json: bool) -> int:
    """Put a backup back beside the gateway, measure, compare with what is declared; 1 when that is not met.

    Raises:
        BadInput, Refused, Broken: as ``gateway.continuity.drills.rehearse``.
    """
    done = await asyncio.to_thread(drills.rehearse, settings, file)
    async with orders.orders(settings) as order:
        told = await order("drilled", {"rto_s": str(done.rto_s), "last_audit_no": str(done.last_audit_no)})
    declared = terms.declared(settings)
    measured = [
        one | {"rpo_declared_s": declared[one["tenant"]][0], "rto_declared_s": declared[one["tenant"]][1]}
        for one in told
    ]
    if as_json:
        typer.echo(json.dumps(asdict(done) | {"tenants": measured}, ensure_ascii=False))
    else:
        typer.echo(
            words(
                "The backup of {when} came up: {records} audit records, each as it was written. The copy is gone"
                " again.",
                when=done.made_at,
                records=words.number(done.records),
            )
        )
        for one in measured:
            typer.echo(
                words(
                    "{tenant}: back after {rto} (declared RTO {rto_declared}); the backup lacks the work of {rpo}"
                    " (declared RPO {rpo_declared})",
                    tenant=one["tenant"],
                    rto=words.span(one["rto_s"]),
                    rto_declared=words.span(one["rto_declared_s"]),
                    rpo=words.span(one["rpo_s"]),
                    rpo_declared=words.span(one["rpo_declared_s"]),
                )
            )
        typer.echo(words("Not measured: the way to a spare machine, the start of the service, the reconciliation."))
    is_met = all(one["rto_s"] <= one["rto_declared_s"] and one["rpo_s"] <= one["rpo_declared_s"] for one in measured)
    return 0 if is_met else 1


def restore(settings: Settings, words: Words, *, file: Path | None, replace: bool, as_json: bool) -> int:
    """Put a backup in its place; without ``file`` only note that the database was restored by other tools.

    Raises:
        BadInput, Refused, Broken: as ``gateway.continuity.commands.restore``.
    """
    if file is None:
        asyncio.run(continuity.mark_restored(settings))
        typer.echo(words("Noted. Now: poterne serve, then poterne reconcile for each legal entity."))
        return 0
    done = continuity.restore(settings, file, replace=replace)
    if as_json:
        facts = {name: None if value is None else str(value) for name, value in asdict(done).items()}
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return 0
    typer.echo(words("{path} is what it was at {when}.", path=done.database, when=done.made_at))
    if done.kept:
        typer.echo(words("What was there is kept: {path}", path=done.kept))
    typer.echo(words("The configuration of the backup, to compare: {path}", path=done.configuration))
    typer.echo(
        words(
            "Now: poterne serve, then poterne reconcile for each legal entity, and let the RIS send its reports since"
            " then again."
        )
    )
    return 0
