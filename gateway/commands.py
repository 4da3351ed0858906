"""What commands that act print: pause, trial exam, probe, backload. The acting itself is the gateway's
(``gateway.operations``), running or built here for the moment.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import typer

from gateway import backload, wiring
from gateway.i18n import N_, Words
from gateway.pacs.probe import report_from, report_text
from gateway.settings import Settings
from gateway.views import reading
from gateway.web import vocabulary
from security.errors import Refused, Unavailable

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
    return f"operator:{getpass.getuser()} (command line)"


async def pause(settings: Settings, words: Words, *, tenant: str, reason: str) -> int:
    """Let nothing of the tenant begin."""
    async with wiring.orders(settings) as order:
        await order("pause", {"tenant": tenant, "actor": _actor(), "reason": reason})
    typer.echo(words("{tenant} is paused: nothing of it begins until poterne queue resume.", tenant=tenant))
    return 0


async def resume(settings: Settings, words: Words, *, tenant: str) -> int:
    """Let the tenant's exams go on."""
    async with wiring.orders(settings) as order:
        await order("resume", {"tenant": tenant, "actor": _actor()})
    typer.echo(words("{tenant} goes on.", tenant=tenant))
    return 0


_EXAM_ORDERS: dict[str, str] = {
    "retry": N_("{study} is tried again now."),
    "withdraw": N_("{study} leaves the index, and stays out until poterne exam republish."),
    "republish": N_("{study} is looked at again, and published if its reports and the PACS allow it."),
}


async def about_exam(settings: Settings, words: Words, what: str, *, tenant: str, study: str, reason: str) -> int:
    """Try an exam again (``retry``), take it out of the index (``withdraw``) or let it back (``republish``).

    Raises:
        Unavailable: ``not-running``. Refused, BadInput: as the operation says.
    """
    async with wiring.orders(settings) as order:
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
    if not wiring.is_running(settings):
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

    async with wiring.orders(settings) as order:
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
    async with wiring.orders(settings) as order:
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
        async with wiring.orders(settings) as order:

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
