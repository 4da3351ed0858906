"""What ``poterne draw frame`` and ``forget`` do and print: a frame asked of the gateway, written, its account told.

Invariants: FRAME.csv and the counts hold pseudonyms and numbers alone; each is written whole, mode 0600.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import typer

from gateway import draws, faults, orders, views
from gateway.facts import operator
from gateway.i18n import N_, Words
from gateway.settings import Settings
from security.errors import BadInput

_REFUSALS = (draws.REFUSAL, "frame-small")
_REASONS: Mapping[str, str] = {
    "report-held": N_("report held"),
    "report-withdrawn": N_("report withdrawn"),
    "patient-objection": N_("the patient objects"),
    "trial-exam": N_("trial exam"),
    "no-stratum": N_("no stratum of the protocol takes it"),
    "no-report": N_("no report came"),
    "out-of-period": N_("performed outside the period"),
    "refused": N_("request refused"),
    "cancelled": N_("request cancelled"),
    "substituted": N_("request substituted"),
    "discontinued": N_("examination discontinued"),
    "in-progress": N_("examination under way"),
    "open": N_("request without examination"),
}
_SOURCES: Mapping[str, str] = {
    "RIS": N_("requests (RIS)"),
    "PACS": N_("studies (PACS)"),
    "MPPS": N_("examinations (modalities)"),
    "INDEX": N_("published exams (index)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for, and where it goes."""

    protocol: Path
    first: date
    last: date
    out: Path
    counts: Path | None
    objections: Path | None


async def run(settings: Settings, words: Words, wish: Wish, *, tenant: str, as_json: bool) -> int:
    """Build, write, tell. Exit code 0; 1 when no frame can be committed: the code says why.

    Raises:
        Fault: a file has not its form, or cannot be read or written; the gateway refuses.
    """
    name = views.one_tenant(settings, tenant, words)
    facts = {
        "tenant": name,
        "protocol": draws.read_json(wish.protocol),
        "first": wish.first.isoformat(),
        "last": wish.last.isoformat(),
        "objections": draws.read_lines(wish.objections) if wish.objections else [],
        "actor": operator(),
    }
    try:
        async with orders.orders(settings) as order:
            built = await order("frame-build", facts)
    except BadInput as fault:
        if not fault.code.startswith(_REFUSALS):
            raise
        if as_json:
            typer.echo(json.dumps({"ok": False, "code": fault.code, "what": fault.args[0], "hint": fault.hint}))
        typer.echo(faults.told(fault, words), err=True)
        return 1
    draws.write(wish.out, built["frame"].encode("ascii"))
    account = built["account"]
    if wish.counts:
        draws.write(wish.counts, (json.dumps(account, indent=1, sort_keys=True) + "\n").encode())
    if as_json:
        typer.echo(json.dumps(account))
        return 0
    for line in told(account, words):
        typer.echo(line)
    typer.echo(words("frame written: {path}", path=wish.out))
    return 0


async def forget(settings: Settings, words: Words, campaign: str, *, tenant: str, reason: str, as_json: bool) -> int:
    """Have what turns a campaign's pseudonyms back destroyed. Raises Refused ``campaign-unknown``."""
    facts = {
        "tenant": views.one_tenant(settings, tenant, words),
        "campaign": campaign,
        "reason": reason,
        "actor": operator(),
    }
    async with orders.orders(settings) as order:
        done = await order("campaign-forget", facts)
    if as_json:
        typer.echo(json.dumps({"campaign": campaign, **done}))
        return 0
    typer.echo(
        words("campaign {campaign}: its secret and {n} frames are destroyed", campaign=campaign, n=done["frames"])
    )
    typer.echo(words("backups made before still hold them, sealed: destroy those, or the key they are sealed under"))
    return 0


def told(account: Mapping[str, Any], words: Words) -> Iterator[str]:
    """The account as lines for a person."""
    yield words(
        "{size} units of {people} practitioners, root {root}",
        size=words.number(account["size"]),
        people=words.number(account["practitioners"]),
        root=account["root"],
    )
    for stratum, size in account["strata"].items():
        yield words("  stratum {stratum}: {size}", stratum=stratum, size=words.number(size))
    for small, into in account["merged"].items():
        yield words("  stratum {small} had fewer than 5 units: they went to {into}", small=small, into=into)
    if account["merged"]:
        yield words("  freeze a protocol without the merged strata before anybody commits")
    if account["without_practitioner"]:
        yield words("  {n} of them without a stated practitioner", n=words.number(account["without_practitioner"]))
    if account["exclusions"]:
        yield words("left out:")
        yield from _reasons(account["exclusions"], words)
    for one in account["counts"]:
        yield from _count(one, words)


def _count(one: Mapping[str, Any], words: Words) -> Iterator[str]:
    of = words(_SOURCES[one["of"]])
    if one["number"] is None:
        yield words("{of}: no clean answer ({why}); explain it", of=of, why=one["why"])
        return
    numbers = {
        "number": words.number(one["number"]),
        "inside": words.number(one["in_frame"]),
        "gap": one["gap_percent"],
    }
    yield words("{of}: {number}, of which {inside} in the frame; gap {gap} %", of=of, **numbers)
    yield from _reasons(one["reasons"], words)
    if one["missing"]:
        yield words("  {n} of the frame are not there", n=words.number(one["missing"]))
    if one["needs_words"]:
        yield words("  above 2 %: explain it to the audit body")


def _reasons(reasons: Mapping[str, int], words: Words) -> Iterator[str]:
    for reason, number in reasons.items():
        yield f"  {words.number(number):>8}  {words(_REASONS[reason])}"
