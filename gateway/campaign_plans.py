"""What ``poterne campaign plan|combine|compare`` compute and print: sizes before a campaign, several exports after.

They need neither configuration nor database: numbers and the ``campaign.json`` of exports.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import typer

from gateway.i18n import N_, Words
from sampler.figures import comparison, display, frames, planning, strata
from security.errors import BadInput, Broken
from security.parse.json import parse_json

PLACES: Mapping[str, str] = {
    "inside": N_("within what chance explains"),
    "outside-95": N_("outside of the 95 % limits"),
    "outside-99.8": N_("outside of the 99.8 % limits"),
}


def precision(words: Words, *, share: float, half_width: float, population: int | None, as_json: bool) -> int:
    """Cases for an estimate ± a half width."""
    n = planning.precision(share, half_width, population=population)
    return _told({"n": n}, words.count("{n} case", "{n} cases", n), as_json=as_json)


def discovery(words: Words, *, population: int, defects: int, risk: str, as_json: bool) -> int:
    """Cases that find at least one defect, but for the risk; and what n without any leaves possible."""
    n = planning.discovery(population, defects, risk=_ratio(risk))
    bound = planning.nothing_found(n, risk=float(_ratio(risk)))
    told = words(
        "{n} cases; without a defect among them at most {share} of the frame may have one", n=n, share=f"{bound:.3f}"
    )
    return _told({"n": n, "upper_bound": bound}, told, as_json=as_json)


def allocation(*, n: int, sizes: Sequence[str], minimum: int, as_json: bool) -> int:
    """Cases of each stratum, in proportion to its size."""
    given = strata.allocate({name: _whole(size) for name, size in map(_pair, sizes)}, n, minimum=minimum)
    return _told(given, "\n".join(f"{name:<16} {many}" for name, many in given.items()), as_json=as_json)


def acceptance(words: Words, *, n: int, accept: int, share: float, as_json: bool) -> int:
    """How often a check of a service accepts a lot with this share of defects."""
    found = planning.acceptance(n, accept, share)
    told = words("accepted with probability {p}: it says to take the lot, not how conformant it is", p=f"{found:.3f}")
    return _told({"probability": found}, told, as_json=as_json)


def combine(
    words: Words, performed: Path, *, indicator: str, refused: Path | None, unseen: int | None, as_json: bool
) -> int:
    """The rate over all requests from a frame of performed exams and one of refused requests, or its bounds.

    Raises:
        BadInput: ``bad-export``, ``bad-frame``; neither or both of ``refused`` and ``unseen`` were given.
    """
    if (refused is None) == (unseen is None):
        raise BadInput("refused requests", code="bad-frame", hint="either --refused EXPORT or --unseen NUMBER")
    seen = _part(performed, indicator)
    if refused is not None:
        whole = frames.combined([seen, _part(refused, indicator)])
        told = words("over all requests: {rate}", rate=display.ratio(whole, lang=words.lang))
        return _told({"estimate": [whole.numerator, whole.denominator]}, told, as_json=as_json)
    low, high = frames.bounds(seen, unseen or 0)
    told = words(
        "over all requests: between {low} and {high}, the refused ones were not drawn",
        low=display.decimals(low, 4, lang=words.lang),
        high=display.decimals(high, 4, lang=words.lang),
    )
    ends = {"low": [low.numerator, low.denominator], "high": [high.numerator, high.denominator]}
    return _told(ends, told, as_json=as_json)


def compare(words: Words, exports: Sequence[Path], *, indicator: str, as_json: bool) -> int:
    """Audits around their pooled rate, on a funnel of exact limits; no ranking.

    Answers of one case resemble each other: each audit counts as many answers as its design effect leaves of them.

    Raises:
        BadInput: ``bad-export``, ``bad-funnel``.
        Refused: ``too-few-sites`` fewer than five.
    """
    told = [_export(path) for path in exports]
    sites = [_site(one, _figure(one, indicator)) for one in told]
    found = comparison.funnel(sites)
    counts = [Fraction(one["nonconformities"]) for one in told]
    covered = [display.exact(one["grid"]["coverage"] or [0, 1]) for one in told]
    can = len(told) > 2 and len(set(counts)) > 1 and len(set(covered)) > 1
    trend = comparison.spearman(counts, covered) if can else None
    facts = {
        "target": [found.target.numerator, found.target.denominator],
        "places": {site.label: place for site, place in found.places},
        "nonconformities_with_coverage": {"rho": trend.rho, "p_value": trend.p_value, "n": trend.n}
        if trend
        else None,
    }
    lines = [words("pooled: {rate}", rate=display.ratio(found.target, lang=words.lang))]
    lines += [
        f"  {site.label:<24} {site.conform}/{site.cases}  {words(PLACES[place])}" for site, place in found.places
    ]
    return _told(facts, "\n".join(lines), as_json=as_json)


def _site(told: Mapping[str, Any], figure: Mapping[str, Any]) -> comparison.Site:
    rate = figure["rate"]
    if rate is None:
        raise BadInput("an audit without a rate", code="bad-export", hint="illustrative audits are not compared")
    evaluated = figure["conform"] + figure["nonconform"]
    effective = max(1, math.floor(evaluated / max(1.0, rate["design_effect"] or 1.0)))
    conform = round(display.exact(rate["estimate"]) * effective)
    return comparison.Site(label=str(told["campaign"]), conform=conform, cases=effective)


def _part(path: Path, indicator: str) -> frames.Part:
    told = _export(path)
    rate = _figure(told, indicator)["rate"]
    if rate is None:
        raise BadInput(f"{path.name} has no rate of {indicator}", code="bad-export", hint="an estimate is needed")
    return frames.Part(size=told["frame"]["size"], share=display.exact(rate["estimate"]))


def _figure(told: Mapping[str, Any], indicator: str) -> Mapping[str, Any]:
    for one in told["figures"]:
        if one["indicator"] == indicator:
            found: Mapping[str, Any] = one
            return found
    raise BadInput(f"no indicator {indicator[:20]}", code="bad-export", hint="one of the grid's, as DEM")


def _export(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}", code="campaign-file", hint="give a campaign.json") from error
    found = parse_json(data, what=path.name, limit=64 * 1024 * 1024)
    wanted = {"campaign", "figures", "frame", "nonconformities", "grid"}
    if not isinstance(found, dict) or not wanted <= found.keys():
        raise BadInput(f"{path.name} is no export", code="bad-export", hint="give the campaign.json of an export")
    return found


def _pair(told: str) -> tuple[str, str]:
    name, _, value = told.partition("=")
    if not name or not value:
        raise BadInput(f"{told[:40]} is not NAME=NUMBER", code="bad-plan", hint="as CT=900")
    return name, value


def _whole(told: str) -> int:
    if not told.isascii() or not told.isdigit():
        raise BadInput(f"{told[:20]} is no number", code="bad-plan", hint="a whole number, as CT=900")
    return int(told)


def _ratio(told: str) -> Fraction:
    try:
        return Fraction(told)
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"{told[:20]} is no share", code="bad-plan", hint="as 0.05 or 1/20") from None


def _told(facts: Mapping[str, Any], text: str, *, as_json: bool) -> int:
    typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else text)
    return 0
