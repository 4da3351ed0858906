"""What ``poterne campaign`` reads, asks and prints. The acting is the gateway's (``gateway.campaigns``), running or
built here for the moment.

Invariants:

* a file is read and its form checked before anything is asked; a transcript is verified by both ways first;
* answers are taken as a whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from gateway import draws, orders
from gateway.i18n import Words
from gateway.settings import Settings
from sampler.campaign.drawn import drawn_of, practitioners_of
from sampler.draw import checks, verifier
from sampler.draw.protocol import protocol_of
from sampler.draw.units import commit
from sampler.figures import display
from sampler.grids import answers as answering
from sampler.grids.grid import COLUMNS, Grid, document_of, grid_of, grid_of_table
from sampler.report.texts import NOT_CALCULABLE, STATES
from security.conf import conf_dir
from security.errors import BadInput, Broken
from security.parse.csv import parse_csv
from security.parse.json import parse_json
from security.secrets import replace_private

FINDING_COLUMNS = ("id", "requirement", "origin", "severity", "text")
_READ_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """On whose settings, in which words, for which legal entity, campaign, role and name."""

    settings: Settings
    words: Words
    tenant: str
    campaign: str
    role: str
    name: str

    def facts(self, **more: Any) -> dict[str, Any]:
        """What every order states, and ``more``."""
        told = {"tenant": self.tenant, "campaign": self.campaign, "role": self.role, "name": self.name}
        return {**told, **more}


async def _ask(asker: Asker, operation: str, **more: Any) -> Any:
    async with orders.orders(asker.settings) as order:
        return await order(operation, asker.facts(**more))


async def _done(asker: Asker, operation: str, **more: Any) -> int:
    found = await _ask(asker, operation, **more)
    status = await _ask(asker, "campaign-status")
    said = asker.words(STATES[status["state"]])
    typer.echo(asker.words("{campaign}: {state}", campaign=asker.campaign, state=said))
    if isinstance(found, dict):
        typer.echo(asker.words.count("answers about {n} case taken", "answers about {n} cases taken", len(found)))
    return 0


# -- from draft to draw ----------------------------------------------------------------------------------------


async def new(asker: Asker, *, title: str, domain: str, body: str, grid: str, head: Path | None) -> int:
    """Open a campaign under a grid: the name of one that ships, or a file.

    Raises:
        BadInput: ``grid-shape``, ``csv-…``, ``json-…``.
        Broken: ``campaign-file``.
    """
    stated = document_of(_grid(grid, head))
    return await _done(asker, "campaign-open", title=title, domain=domain, body=body, grid=stated)


def _grid(told: str, head: Path | None) -> Grid:
    path = Path(told)
    if not path.suffix:
        path = conf_dir() / "grids" / f"{path.name}.json"
    if path.suffix == ".csv":
        if head is None:
            raise BadInput(
                "a grid as a table lacks its head",
                code="grid-shape",
                hint="--head FILE.json with code, version, title, status and indicators",
            )
        return grid_of_table(_object(head), parse_csv(_read(path), what=path.name, required=COLUMNS))
    return grid_of(_object(path))


async def freeze(asker: Asker, protocol: Path, signed: Sequence[str]) -> int:
    """Freeze the protocol under the names of those who signed, ROLE=NAME each."""
    signatures = dict(_pair(one) for one in signed)
    return await _done(asker, "campaign-freeze", protocol=_object(protocol), signatures=signatures)


async def frame(asker: Asker, table: Path) -> int:
    """Commit to the frame: its root and how many units each practitioner has in each stratum."""
    whole = commit(draws.rows(table))
    code = await _done(asker, "campaign-frame", root=whole.root.hex(), strata=practitioners_of(whole))
    typer.echo(
        asker.words("{size} units, root {root}", size=asker.words.number(len(whole.units)), root=whole.root.hex())
    )
    return code


async def draw(asker: Asker, transcript: Path, table: Path, key: str) -> int:
    """Take over a draw, or the same one with more replacements; 1 when its transcript does not verify."""
    told, units = _object(transcript), list(draws.rows(table))
    verdict = checks.check(told, rows=units, key=key)
    apart = verifier.verify(verifier.Given(told, units, (), key))
    failed = sorted({*verdict.failed, *(step for step, outcome, _ in apart if outcome == "failed")})
    if failed:
        typer.echo(asker.words("failing step: {steps}", steps=", ".join(failed)), err=True)
        return 1
    body = told["body"]
    cases = drawn_of(commit(units), body, protocol_of(body["protocol"]).strata)
    stated = [
        {
            "unit": one.unit,
            "stratum": one.stratum,
            "practitioner": one.practitioner,
            "probability": str(one.chance.probability),
            "error": one.chance.error,
            "reason": one.reason,
            "follows": one.follows,
        }
        for one in cases
    ]
    return await _done(asker, "campaign-draw", transcript=told, drawn=stated, key=key)


# -- states, auditors, answers -----------------------------------------------------------------------------------


async def move(asker: Asker, target: str) -> int:
    """Take the campaign one step."""
    return await _done(asker, "campaign-move", target=target)


async def cases(asker: Asker, target: str, named: Sequence[str]) -> int:
    """Take cases one step; all that are not done when none is named."""
    return await _done(asker, "campaign-case", target=target, cases=await _cases(asker, named))


async def assign(asker: Asker, auditors: Sequence[str], named: Sequence[str]) -> int:
    """Give cases to auditors; all that are not done when none is named."""
    return await _done(asker, "campaign-assign", auditors=list(auditors), cases=await _cases(asker, named))


async def _cases(asker: Asker, named: Sequence[str]) -> list[str]:
    if named:
        return list(named)
    status = await _ask(asker, "campaign-status")
    return [one["case"] for one in status["cases"] if one["state"] not in {"LOCKED", "REPLACED", "WITHDRAWN"}]


async def declare(asker: Asker, sites: Sequence[str], practitioners: Sequence[str]) -> int:
    """Keep what one declares of one's links."""
    return await _done(asker, "campaign-declare", sites=list(sites), practitioners=list(practitioners))


async def answers(asker: Asker, path: Path, leads: Sequence[str]) -> int:
    """Take a file of answers, ``case`` beside the columns of an answer; as a whole or not at all."""
    rows = _rows(path, ("case", "item", "answer"))
    by_case: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        cells = {name: row.get(name, "") for name in answering.COLUMNS}
        by_case.setdefault(row["case"], []).append(cells)
    return await _done(asker, "campaign-review", answers=by_case, leads=list(leads))


async def findings(asker: Asker, path: Path) -> int:
    """State the findings of a file."""
    stated = [
        {name: row[name] for name in FINDING_COLUMNS} | {"cites": row.get("cites", "").split()}
        for row in _rows(path, FINDING_COLUMNS)
    ]
    return await _done(asker, "campaign-find", findings=stated)


async def decide(asker: Asker, finding: str, decision: str, **told: Any) -> int:
    """Keep the commission's word on a finding."""
    return await _done(asker, "campaign-qualify", finding=finding, decision=decision, **told)


async def site_answer(asker: Asker, text: str) -> int:
    """Keep the site's answer in the contradictory step."""
    return await _done(asker, "campaign-answer", text=text)


# -- looking -----------------------------------------------------------------------------------------------------


async def listed(asker: Asker, *, as_json: bool) -> int:
    """Print the campaigns."""
    async with orders.orders(asker.settings) as order:
        found = await order("campaign-list", {"tenant": asker.tenant})
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return 0
    if not found:
        typer.echo(asker.words("There is no campaign."))
    for one in found:
        typer.echo(f"{one['campaign']:<24}  {asker.words(STATES[one['state']]):<24}  {one['title']}")
    return 0


async def status(asker: Asker, *, as_json: bool) -> int:
    """Print where a campaign is; 1 when its rows are not as they were written."""
    found = await _ask(asker, "campaign-status")
    altered = await _ask(asker, "campaign-verify")
    if as_json:
        typer.echo(json.dumps({**found, "altered": altered}, ensure_ascii=False))
        return 1 if altered else 0
    words = asker.words
    typer.echo(f"{found['campaign']}  {found['title']}  ({found['domain']}, {found['body']}, {found['grid']})")
    typer.echo(words(STATES[found["state"]]))
    for one in found["cases"]:
        told = words.count("{n} review", "{n} reviews", one["reviews"])
        typer.echo(f"  {one['case']:<34}  {one['stratum']:<8}  {one['state']:<11}  {told}")
    for one in found["findings"]:
        call = "  " + words("CALL THE SITE NOW") if one["calls_now"] else ""
        typer.echo(f"  {one['finding']:<34}  {one['requirement']:<8}  {one['state']}{call}")
    for one in altered:
        typer.echo(words("ALTERED: {kind} {id}, version {version} ({reason})", **one), err=True)
    return 1 if altered else 0


async def figures(asker: Asker, *, as_json: bool) -> int:
    """Print the figures as they stand, each rate with cases, frame, interval and method."""
    found = await _ask(asker, "campaign-figures")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return 0
    words, lang = asker.words, asker.words.lang
    if found["objective"] == "illustrative":
        typer.echo(words("Illustrative draw: cases, no rate."))
    absent = "" if found["objective"] == "illustrative" else words(NOT_CALCULABLE)
    for one in found["figures"]:
        answered = f"{one['conform']}/{one['conform'] + one['nonconform']}"
        typer.echo(f"  {one['indicator']:<6}  {answered:<9}  {_rate(one['rate'], words) or absent}")
    coverage = found["grid"]["coverage"]
    shown = display.percent(None if coverage is None else display.exact(coverage), lang=lang)
    typer.echo(words("grid evaluated: {coverage}, non-conformities: {n}", coverage=shown, n=found["nonconformities"]))
    return 0


def _rate(rate: Mapping[str, Any] | None, words: Words) -> str:
    if rate is None:
        return ""
    return words(
        "{rate} ({low} to {high}), {cases} cases of {population} {frame}, {method}",
        rate=display.ratio(display.exact(rate["estimate"]), lang=words.lang),
        low=f"{rate['low']:.4f}",
        high=f"{rate['high']:.4f}",
        cases=rate["cases"],
        population=rate["population"],
        frame=words(rate["frame"]),
        method=rate["method"],
    )


async def export(asker: Asker, folder: Path, *, with_words: bool) -> int:
    """Write the tables and the JSON document from which a stranger recomputes the figures."""
    made = await _ask(asker, "campaign-export", with_words=with_words)
    for name, content in made.items():
        _write(folder / name, content)
    typer.echo(asker.words("written: {path}", path=", ".join(str(folder / name) for name in made)))
    return 0


async def report(asker: Asker, out: Path) -> int:
    """Write the report as one HTML page."""
    _write(out, await _ask(asker, "campaign-report", lang=asker.words.lang))
    typer.echo(asker.words("written: {path}", path=out))
    return 0


# -- files -------------------------------------------------------------------------------------------------------


def _rows(path: Path, required: Sequence[str]) -> list[dict[str, str]]:
    if path.suffix != ".json":
        return parse_csv(_read(path), what=path.name, required=required)
    listed = parse_json(_read(path), what=path.name, limit=_READ_MAX)
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadInput(
            f"{path.name} is no list of objects", code="bad-file", hint=f"objects with {', '.join(required)}"
        )
    for number, one in enumerate(listed):
        if not all(isinstance(one.get(name), str) for name in required):
            raise BadInput(f"{path.name}, [{number}]", code="bad-file", hint=f"texts {', '.join(required)}")
    return [{name: _cell(value) for name, value in one.items()} for one in listed]


def _cell(value: Any) -> str:
    """A member of a JSON row as the cell of a table: null is empty, a list its members apart by blanks."""
    if isinstance(value, list):
        return " ".join(map(_cell, value))
    return "" if value is None else str(value)


def _object(path: Path) -> dict[str, Any]:
    found = parse_json(_read(path), what=path.name, limit=_READ_MAX)
    if not isinstance(found, dict):
        raise BadInput(f"{path.name} is no JSON object", code="bad-file", hint="see docs/peer-audit.md")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Broken(
            f"{path}: {error.strerror}", code="campaign-file", hint="give a file that can be read"
        ) from error


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_private(path, content.encode())
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}", code="campaign-file", hint="give a place to write to") from error


def _pair(told: str) -> tuple[str, str]:
    role, _, name = told.partition("=")
    if not role or not name:
        raise BadInput(f"{told[:40]} is not ROLE=NAME", code="bad-file", hint="--signed site-lead=NAME")
    return role, name
