"""The figures of a campaign: from locked cases, answers and findings to rates, coverage and counts. Pure.

Invariants:

* only the answers of locked cases count; of two reviews of a case the first submitted is the case's, the second
  serves the agreement of readers alone;
* a campaign whose draw was illustrative has counts and no rate: ``Illustrative`` carries none;
* a rate of performed exams at a site without a register of refusals says so;
* the table by stratum is blanked by the k rule before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from sampler.campaign.lifecycle import CaseState
from sampler.campaign.terms import Terms
from sampler.draw.selection import FRAME_ERRORS, RATE_MAX
from sampler.figures import estimate, frames, indicator
from sampler.figures.agreement import Agreement, agreement
from sampler.figures.blanking import Cell, Key, blanked, with_sums
from sampler.figures.indicator import Counts
from sampler.figures.rate import Basis, Illustrative, Rate, basis
from sampler.grids.answers import Answer
from sampler.grids.findings import SEVERITIES, Finding
from sampler.grids.grid import Grid

REPLACED_MAX = Fraction(str(RATE_MAX))
"""The share of missing cases above which the worst case is printed beside the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnCase:
    """One drawn case. ``reviews``: submitted answers, first submitted first; ``error``: of a simulated chance;
    ``reason``: why it was replaced, "" otherwise."""

    id: str
    stratum: str
    practitioner: str
    probability: Fraction
    error: float
    state: CaseState
    reviews: tuple[tuple[Answer, ...], ...] = ()
    reason: str = ""

    @property
    def counts(self) -> bool:
        """Whether its answers are part of the figures."""
        return self.state is CaseState.LOCKED and bool(self.reviews)

    @property
    def is_missing(self) -> bool:
        """Whether it was drawn and nobody answered for it; a case out of scope was an error of the frame instead."""
        left = self.state in {CaseState.REPLACED, CaseState.WITHDRAWN}
        return left and self.reason not in FRAME_ERRORS


@dataclass(frozen=True, slots=True, kw_only=True)
class IndicatorResult:
    """One indicator. ``rate``: None when nothing was evaluated; ``worst``: if every missing case had failed it, None
    at a tenth of missing cases or fewer."""

    code: str
    counts: Counts
    rate: Rate | Illustrative | None
    worst: Fraction | None
    readers: Agreement | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything a report shows. ``replaced``: drawn cases that left, out of scope excepted.

    ``by_stratum``: the rate by (stratum, indicator), None where the k rule blanks it or
    nothing was evaluated; empty where there is one stratum, or the draw was illustrative."""

    terms: Terms
    population: int
    sizes: Mapping[str, int]
    cases: int
    replaced: int
    practitioners: int
    indicators: tuple[IndicatorResult, ...]
    grid_counts: Counts
    coverage: Fraction | None
    read_twice: int
    nonconformities: int
    by_severity: Mapping[str, int]
    by_stratum: Mapping[Key, Rate | None]
    is_simulated: bool


def results(
    grid: Grid,
    terms: Terms,
    sizes: Mapping[str, int],
    cases: Sequence[DrawnCase],
    *,
    service: Sequence[Answer] = (),
    findings: Sequence[Finding] = (),
) -> Results:
    """The figures of a campaign. ``sizes``: of each stratum in the frame; ``service``: answers about the service.

    Raises:
        BadInput: ``bad-strata`` a stratum of the frame has no drawn case, or there are more cases than units.
    """
    counted = [case for case in cases if case.counts]
    replaced = sum(case.is_missing for case in cases)
    every = indicator.count(
        [one.verdict for case in counted for one in case.reviews[0]] + [one.verdict for one in service]
    )
    items = {code: frozenset(one.code for one in grid.items if one.indicator == code) for code in grid.indicators}
    base = basis(frame=terms.frame, population=sum(sizes.values()), objective=terms.objective)
    by_stratum: dict[Key, Rate | None] = {}
    if isinstance(base, Basis) and len(sizes) > 1:
        for code, asked in items.items():
            by_stratum |= _by_stratum(code, asked, base, sizes, counted)
    return Results(
        terms=terms,
        population=sum(sizes.values()),
        sizes=dict(sizes),
        cases=len(counted),
        replaced=replaced,
        practitioners=len({case.practitioner for case in counted}),
        indicators=tuple(
            _indicator(code, asked, base, sizes, counted, notes=_notes(terms, counted), replaced=replaced)
            for code, asked in items.items()
        ),
        grid_counts=every,
        coverage=indicator.coverage(every, na_counts_as_evaluated=terms.na_counts_as_evaluated),
        read_twice=sum(len(case.reviews) > 1 for case in counted),
        nonconformities=indicator.nonconformities(one.state for one in findings),
        by_severity={
            severity: sum((one.final or one.severity) == severity for one in findings if one.state != "withdrawn")
            for severity in SEVERITIES
        },
        by_stratum=by_stratum,
        is_simulated=any(case.error > 0 for case in counted),
    )


def _indicator(
    code: str,
    items: frozenset[str],
    base: Basis | Illustrative,
    sizes: Mapping[str, int],
    cases: Sequence[DrawnCase],
    *,
    notes: Sequence[str],
    replaced: int,
) -> IndicatorResult:
    counts = indicator.count(one.verdict for case in cases for one in case.reviews[0] if one.item in items)
    rate: Rate | Illustrative | None = None
    worst = None
    if isinstance(base, Illustrative):
        rate = base
    elif cases:
        rate = estimate.rate([_drawn(case, items) for case in cases], sizes, base)
        if rate and replaced and Fraction(replaced, len(cases) + replaced) > REPLACED_MAX:
            worst = _worst(counts, Fraction(counts.evaluated, len(cases)), replaced)
    if isinstance(rate, Rate):
        rate = replace(rate, notes=(*rate.notes, *notes))
    return IndicatorResult(code=code, counts=counts, rate=rate, worst=worst, readers=_readers(cases, items))


def _worst(counts: Counts, per_case: Fraction, replaced: int) -> Fraction:
    """Every replaced case taken for one that has as many answers as the others, none of them conformant."""
    return Fraction(counts.conform) / (counts.evaluated + per_case * replaced)


def _notes(terms: Terms, cases: Sequence[DrawnCase]) -> list[str]:
    told = []
    if terms.source == "PERFORMED" and not terms.has_refusal_register:
        told.append(frames.ACCEPTED_ONLY)
    if any(case.error > 0 for case in cases):
        told.append(estimate.SIMULATED)
    return told


def _drawn(case: DrawnCase, items: frozenset[str]) -> estimate.DrawnCase:
    counts = indicator.count(one.verdict for one in case.reviews[0] if one.item in items)
    return estimate.DrawnCase(
        id=case.id,
        stratum=case.stratum,
        probability=case.probability,
        conform=counts.conform,
        evaluated=counts.evaluated,
    )


def _readers(cases: Sequence[DrawnCase], items: frozenset[str]) -> Agreement | None:
    """Of items that both readers evaluated; None when there is none."""
    table = [[0, 0], [0, 0]]
    for case in cases:
        if len(case.reviews) < 2:
            continue
        second = {one.item: one.verdict for one in case.reviews[1]}
        for one in case.reviews[0]:
            pair = (one.verdict, second.get(one.item, "NE"))
            if one.item in items and {"C", "NC"}.issuperset(pair):
                table[pair[0] == "NC"][pair[1] == "NC"] += 1
    return agreement(table) if sum(map(sum, table)) else None


def _by_stratum(
    code: str, items: frozenset[str], base: Basis, sizes: Mapping[str, int], cases: Sequence[DrawnCase]
) -> dict[Key, Rate | None]:
    """The rate of each stratum; None where the k rule blanks it. The sum is the indicator's own rate, shown."""
    inside = {stratum: [case for case in cases if case.stratum == stratum] for stratum in sizes}
    answered = {
        stratum: [case for case in theirs if _drawn(case, items).evaluated] for stratum, theirs in inside.items()
    }
    cells = {
        (stratum, code): Cell(cases=len(theirs), practitioners=frozenset(case.practitioner for case in theirs))
        for stratum, theirs in answered.items()
    }
    hidden = blanked(with_sums(cells))
    found: dict[Key, Rate | None] = {}
    for stratum, size in sizes.items():
        alone = replace(base, population=size)
        is_hidden = (stratum, code) in hidden
        found[stratum, code] = (
            None
            if is_hidden
            else estimate.rate([_drawn(one, items) for one in inside[stratum]], {stratum: size}, alone)
        )
    return found
