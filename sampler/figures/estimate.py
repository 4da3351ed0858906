"""Rates over drawn cases: weights for unequal chances, clusters for the items of one case (peer audit §6.5, §6.6).

Invariants:

* the estimate is Σ w c / Σ w e over the drawn cases: exactly 1 when every answer conforms, exactly 0 when none does;
* the interval is that of cases, not of answers: answers of one case are correlated;
* it lies in [0, 1] and contains the estimate;
* the quantile is Student's with (cases − strata) degrees of freedom: with 8 cases the normal one covers less than it
  says (docs/measured.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sampler.figures import special
from sampler.figures.interval import CONFIDENCE, Interval, clopper_pearson, normal_quantile, proportion
from sampler.figures.rate import Basis, Rate
from security.errors import BadInput

LOGIT_ABOVE = Fraction(9, 10)
WEIGHTED = "weighted"
SIMULATED = "simulated-weights"
LONE = "lone-case-in-a-stratum"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnCase:
    """One drawn case: ``conform`` of ``evaluated`` answers; ``probability`` that it was drawn; its stratum."""

    id: str
    stratum: str
    probability: Fraction
    conform: int
    evaluated: int

    def __post_init__(self) -> None:
        if not 0 <= self.conform <= self.evaluated or not 0 < self.probability <= 1:
            raise BadInput(
                f"case {self.id}: {self.conform} of {self.evaluated} answers",
                code="bad-case",
                hint="0 ≤ conform ≤ evaluated, 0 < probability ≤ 1",
            )


def hajek(values: Sequence[int], weights: Sequence[float]) -> float:
    """Σ w y / Σ w.

    Raises:
        BadInput: ``bad-case`` no value, or a weight that is not positive.
    """
    if not values or len(values) != len(weights) or min(weights) <= 0:
        raise BadInput("values and weights", code="bad-case", hint="as many as values, all positive")
    return math.fsum(w * y for w, y in zip(weights, values, strict=True)) / math.fsum(weights)


def kish(weights: Sequence[float]) -> float:
    """(Σ w)² / Σ w²: as how many equally weighted cases these count."""
    return math.fsum(weights) ** 2 / math.fsum(w * w for w in weights)


def design_effect(standard_error: float, *, conform: int, evaluated: int) -> float | None:
    """The variance against that of as many independent answers, p(1−p)/n; None when there is none."""
    independent = conform * (evaluated - conform) / evaluated**3
    return standard_error**2 / independent if independent else None


def rate(
    cases: Sequence[DrawnCase], sizes: Mapping[str, int], basis: Basis, *, confidence: float = CONFIDENCE
) -> Rate | None:
    """The rate of answers that conform over the frame; None when no case has an answer.

    Every drawn case is given, those without an evaluated answer too: they belong to the design. ``sizes``: of each
    stratum in the frame. Variance: Taylor's of a ratio, by stratum, (1−n/N) n/(n−1) Σ (w d − mean)², d = c − R e.

    Raises:
        BadInput: ``bad-strata``.
    """
    drawn: dict[str, list[DrawnCase]] = {}
    for case in cases:
        drawn.setdefault(case.stratum, []).append(case)
    is_whole = sum(sizes.values()) == basis.population and drawn.keys() == sizes.keys()
    if not is_whole or any(len(of) > sizes[one] for one, of in drawn.items()):
        raise BadInput(
            f"cases of {len(drawn)} strata, {len(sizes)} strata in a frame of {basis.population}",
            code="bad-strata",
            hint="give every stratum's size; each has a drawn case, and no more cases than units",
        )
    evaluated = sum(case.evaluated for case in cases)
    if not evaluated:
        return None
    denominator = sum((case.evaluated / case.probability for case in cases), Fraction(0))
    estimate = sum((case.conform / case.probability for case in cases), Fraction(0)) / denominator
    conform = sum(case.conform for case in cases)
    error = _standard_error(drawn, sizes, float(estimate), float(denominator))
    told = {
        WEIGHTED: len({case.probability for case in cases}) > 1,
        LONE: any(len(of) == 1 < sizes[one] for one, of in drawn.items()) and len(cases) > len(drawn),
    }
    return Rate(
        basis=basis,
        estimate=estimate,
        interval=_interval(cases, estimate, error, len(cases) - len(drawn), sizes, confidence=confidence),
        conform=conform,
        evaluated=evaluated,
        cases=sum(case.evaluated > 0 for case in cases),
        standard_error=error,
        design_effect=design_effect(error, conform=conform, evaluated=evaluated),
        notes=tuple(note for note, holds in told.items() if holds),
    )


def _standard_error(
    drawn: Mapping[str, Sequence[DrawnCase]], sizes: Mapping[str, int], estimate: float, denominator: float
) -> float:
    """A stratum of a single case shows no variance: the largest that answers in [0, 1] can have stands in for it."""
    variance, many = 0.0, [case for cases in drawn.values() for case in cases]
    usual = sum(case.evaluated for case in many) / len(many)
    for stratum, cases in drawn.items():
        n, population = len(cases), sizes[stratum]
        if n == population:
            continue
        if n == 1:
            widest = max(cases[0].evaluated, usual) / float(cases[0].probability)
            variance += (1 - 1 / population) * widest**2 / 4  # a share in [0, 1] varies by 1/4 at most
            continue
        residues = [(case.conform - estimate * case.evaluated) / float(case.probability) for case in cases]
        mean = math.fsum(residues) / n
        variance += (1 - n / population) * n / (n - 1) * math.fsum((one - mean) ** 2 for one in residues)
    return math.sqrt(variance) / denominator


def _interval(
    cases: Sequence[DrawnCase],
    estimate: Fraction,
    error: float,
    degrees: int,
    sizes: Mapping[str, int],
    *,
    confidence: float,
) -> Interval:
    normal_quantile(confidence)
    whole = sum(sizes.values())
    if len(cases) == whole:
        return Interval(low=float(estimate), high=float(estimate), method="census", confidence=confidence)
    if degrees < 1:
        return Interval(low=0.0, high=1.0, method="single-case", confidence=confidence)
    if error < _NOTHING:
        return _without_variance(cases, estimate, whole, len(sizes), confidence=confidence)
    quantile = special.t_quantile(degrees, (1 + confidence) / 2)
    p = float(estimate)
    if estimate > LOGIT_ABOVE:
        middle, half = math.log(p / (1 - p)), quantile * error / (p * (1 - p))
        low, high = (1 / (1 + math.exp(-min(max(middle + s * half, -700), 700))) for s in (-1, 1))
        return Interval(low=min(low, p), high=max(high, p), method="cluster-logit", confidence=confidence)
    return Interval(
        low=max(0.0, p - quantile * error),
        high=min(1.0, p + quantile * error),
        method="cluster",
        confidence=confidence,
    )


_NOTHING = 1e-12
"""A standard error below this is rounding: the cases showed no variance."""


def _without_variance(
    cases: Sequence[DrawnCase], estimate: Fraction, population: int, strata: int, *, confidence: float
) -> Interval:
    """Cases that are all alike show no variance; what n of n alike says of the rest of the frame is asked instead.

    All alike on a share between 0 and 1: both ends by that share of the rest at most, as wide as the two one-sided
    answers."""
    n = sum(case.evaluated > 0 for case in cases)
    if strata == 1:
        alike = proportion(n, n, population=population, confidence=confidence).low
    else:
        alike = clopper_pearson(n, n, confidence=confidence).low
    p = float(estimate)
    return Interval(low=p * alike, high=1 - (1 - p) * alike, method="cluster-no-variance", confidence=confidence)
