"""What leaves a campaign so that a stranger recomputes every figure: tables and one JSON document. Pure.

Invariants:

* from ``strata.csv``, ``cases.csv`` and ``answers.csv`` each figure of ``figures.csv`` follows by the formulas of
  docs/peer-audit.md (a test does it with nothing but the csv module);
* chances are written with all their digits, ratios as two integers: nothing is rounded on the way;
* practitioners are in no file; comments and evidence only where they are asked for;
* no cell is a formula to a spreadsheet (T30).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sampler.campaign.results import DrawnCase, IndicatorResult, Results
from sampler.figures.agreement import Agreement
from sampler.figures.interval import Interval
from sampler.figures.rate import Rate
from sampler.grids.answers import Answer
from sampler.grids.findings import Finding
from sampler.grids.grid import Grid
from security.parse.csv import written

STRATA = ("stratum", "size", "drawn", "mode", "max_per_practitioner")
CASES = ("case", "stratum", "state", "counts", "chance_numerator", "chance_denominator", "chance_error", "reason")
ANSWERS = ("case", "item", "level", "indicator", "answer", "reason")
SAID = ("comment", "evidence", "approved_by")
FINDINGS = ("finding", "requirement", "origin", "severity", "state", "final")
FIGURES = (
    "indicator", "stratum", "conform", "nonconform", "not_applicable", "not_evaluated", "estimate_numerator",
    "estimate_denominator", "estimate", "low", "high", "confidence", "method", "standard_error", "design_effect",
    "cases", "population", "frame", "notes",
)  # fmt: skip
_HIDDEN = "blanked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What is exported. ``head``: campaign, title, body, state, grid and the hash of the transcript, for the JSON;
    ``service``: answers about the service; ``with_words``: comments and evidence too."""

    head: Mapping[str, Any]
    grid: Grid
    results: Results
    cases: Sequence[DrawnCase]
    service: Sequence[Answer]
    findings: Sequence[Finding]
    with_words: bool = False


def files(what: Exported) -> dict[str, bytes]:
    """Name → content of every file."""
    said = SAID if what.with_words else ()
    tables: dict[str, tuple[Sequence[str], list[Sequence[str]]]] = {
        "strata.csv": (STRATA, list(_strata(what.results))),
        "cases.csv": (CASES, [_case(one) for one in what.cases]),
        "answers.csv": ((*ANSWERS, *said), list(_answers(what))),
        "findings.csv": ((*FINDINGS, "text") if said else FINDINGS, [_finding(one, what) for one in what.findings]),
        "figures.csv": (FIGURES, list(_figures(what.results))),
    }
    made = {name: written(header, rows) for name, (header, rows) in tables.items()}
    made["campaign.json"] = told(document(what))
    return made


def told(document: Mapping[str, Any]) -> bytes:
    """A JSON document as a file."""
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def document(what: Exported) -> dict[str, Any]:
    """The same as one JSON document."""
    counts = what.results.grid_counts
    said = (*ANSWERS, *SAID) if what.with_words else ANSWERS
    findings = (*FINDINGS, "text") if what.with_words else FINDINGS
    return {
        **what.head,
        "objective": what.results.terms.objective,
        "frame": {"name": what.results.terms.frame, "size": what.results.population},
        "na_counts_as_evaluated": what.results.terms.na_counts_as_evaluated,
        "strata": _objects(STRATA, _strata(what.results)),
        "cases": _objects(CASES, map(_case, what.cases)),
        "answers": _objects(said, _answers(what)),
        "findings": _objects(findings, (_finding(one, what) for one in what.findings)),
        "nonconformities": what.results.nonconformities,
        "grid": {
            "conform": counts.conform,
            "nonconform": counts.nonconform,
            "not_applicable": counts.not_applicable,
            "not_evaluated": counts.not_evaluated,
            "coverage": _ratio(what.results.coverage),
        },
        "figures": [figure(one) for one in what.results.indicators],
        "by_stratum": [
            {"stratum": stratum, "indicator": code, "rate": rate_json(rate)}
            for (stratum, code), rate in what.results.by_stratum.items()
        ],
    }


def figure(one: IndicatorResult) -> dict[str, Any]:
    """One indicator; ``rate`` is null when nothing was evaluated or the draw was illustrative."""
    return {
        "indicator": one.code,
        "conform": one.counts.conform,
        "nonconform": one.counts.nonconform,
        "not_applicable": one.counts.not_applicable,
        "not_evaluated": one.counts.not_evaluated,
        "rate": rate_json(one.rate if isinstance(one.rate, Rate) else None),
        "worst_case": _ratio(one.worst),
        "readers": _readers(one.readers),
    }


def rate_json(rate: Rate | None) -> dict[str, Any] | None:
    """A rate with everything that must stand beside it."""
    if rate is None:
        return None
    return {
        "estimate": _ratio(rate.estimate),
        "low": rate.interval.low,
        "high": rate.interval.high,
        "confidence": rate.interval.confidence,
        "method": rate.interval.method,
        "standard_error": rate.standard_error,
        "design_effect": rate.design_effect,
        "cases": rate.cases,
        "population": rate.basis.population,
        "frame": rate.basis.frame,
        "notes": list(rate.notes),
    }


def _ratio(value: Any) -> list[int] | None:
    return None if value is None else [value.numerator, value.denominator]


def _readers(found: Agreement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "pairs": found.pairs,
        "agreement": _ratio(found.agreement),
        "kappa": _ratio(found.kappa),
        "ac1": _ratio(found.ac1),
    }


def _objects(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[dict[str, str]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _strata(results: Results) -> Iterable[Sequence[str]]:
    plans = {plan.id: plan for plan in results.terms.strata}
    for stratum, size in results.sizes.items():
        plan = plans[stratum]
        yield stratum, str(size), str(plan.n), plan.mode, str(plan.cap)


def _case(one: DrawnCase) -> Sequence[str]:
    return (
        one.id,
        one.stratum,
        one.state,
        "1" if one.counts else "0",
        str(one.probability.numerator),
        str(one.probability.denominator),
        repr(one.error),
        one.reason,
    )


def _answers(what: Exported) -> Iterable[Sequence[str]]:
    """The answers that count: of each locked case the first review, and those about the service."""
    items = {item.code: item for item in what.grid.items}
    given = [(one.id, one.reviews[0]) for one in what.cases if one.counts] + [("service", tuple(what.service))]
    for case, answers in given:
        for one in answers:
            item = items[one.item]
            row = (case, one.item, item.level, item.indicator, one.verdict, one.reason)
            yield (*row, one.comment, " ".join(one.evidence), one.approved_by) if what.with_words else row


def _finding(one: Finding, what: Exported) -> Sequence[str]:
    row = (one.id, one.requirement, one.origin, one.severity, one.state, one.final)
    return (*row, one.text) if what.with_words else row


def _figures(results: Results) -> Iterable[Sequence[str]]:
    for one in results.indicators:
        counts = one.counts
        told = (counts.conform, counts.nonconform, counts.not_applicable, counts.not_evaluated)
        yield (one.code, "", *map(str, told), *_rate(one.rate if isinstance(one.rate, Rate) else None))
    for (stratum, code), rate in results.by_stratum.items():
        conform = (str(rate.conform), str(rate.evaluated - rate.conform)) if rate else (_HIDDEN, _HIDDEN)
        yield (code, stratum, *conform, "", "", *_rate(rate))


def _rate(rate: Rate | None) -> Sequence[str]:
    if rate is None:
        return ("",) * 13
    interval: Interval = rate.interval
    return (
        str(rate.estimate.numerator),
        str(rate.estimate.denominator),
        repr(float(rate.estimate)),
        repr(interval.low),
        repr(interval.high),
        repr(interval.confidence),
        interval.method,
        "" if rate.standard_error is None else repr(rate.standard_error),
        "" if rate.design_effect is None else repr(rate.design_effect),
        str(rate.cases),
        str(rate.basis.population),
        rate.basis.frame,
        " ".join(rate.notes),
    )
