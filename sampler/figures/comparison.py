"""Sites beside each other: funnel limits and rank correlation (peer audit §6.9, §7).

Invariants:

* nothing ranks sites: a point is inside the limits, or outside of one of them;
* a published cell stands on five sites at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sampler.figures import special
from security.errors import BadInput, Refused

SITES_MIN = 5
LIMITS = (0.95, 0.998)
Place = Literal["inside", "outside-95", "outside-99.8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """``conform`` of ``cases`` at one site, by its label in the campaign."""

    label: str
    conform: int
    cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least and the most of ``cases`` that chance explains at this confidence."""

    cases: int
    low: int
    high: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """Every site in the order of its label, where it lies, and the pooled share they are held against."""

    target: Fraction
    places: tuple[tuple[Site, Place], ...]


def limits(cases: int, target: Fraction, *, confidence: float) -> Limit:
    """Exact binomial limits: the smallest count that the lower tail does not reject, the largest of the upper.

    Raises:
        BadInput: ``bad-funnel``.
    """
    if cases < 1 or not 0 <= target <= 1 or not 0 < confidence < 1:
        raise BadInput(f"{cases} cases around {target}", code="bad-funnel", hint="a case, a share in [0, 1]")
    tail, p = (1 - confidence) / 2, float(target)
    return Limit(
        cases=cases,
        low=_least(cases, p, tail),
        high=cases - _least(cases, 1 - p, tail),  # the upper tail of X is the lower one of cases − X
        confidence=confidence,
    )


def _least(cases: int, p: float, tail: float) -> int:
    """The smallest x with P(X ≤ x) ≥ tail."""
    low, high = 0, cases
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if special.binomial_share(middle, cases, p) >= tail else (middle + 1, high)
    return low


def funnel(sites: Sequence[Site], *, target: Fraction | None = None) -> Funnel:
    """Where each site lies around the pooled share, or a given one.

    Raises:
        Refused: ``too-few-sites``.
        BadInput: ``bad-funnel``.
    """
    if len(sites) < SITES_MIN:
        raise Refused(f"{len(sites)} sites", code="too-few-sites", hint="five sites at least in what is published")
    if any(not 0 <= one.conform <= one.cases or one.cases < 1 for one in sites):
        raise BadInput("a site's counts", code="bad-funnel", hint="0 ≤ conform ≤ cases, one case at least")
    if target is None:
        target = Fraction(sum(one.conform for one in sites), sum(one.cases for one in sites))
    places = tuple((one, _place(one, target)) for one in sorted(sites, key=lambda one: one.label))
    return Funnel(target=target, places=places)


def _place(site: Site, target: Fraction) -> Place:
    inner, outer = (limits(site.cases, target, confidence=confidence) for confidence in LIMITS)
    if not outer.low <= site.conform <= outer.high:
        return "outside-99.8"
    return "inside" if inner.low <= site.conform <= inner.high else "outside-95"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of n pairs, and Student's p-value for none."""

    rho: float
    p_value: float
    n: int


def spearman(left: Sequence[Fraction], right: Sequence[Fraction]) -> Correlation:
    """Of pairs, ties by mean rank.

    Raises:
        BadInput: ``bad-pairs`` fewer than three, or a side without variance.
    """
    n = len(left)
    if n < 3 or len(right) != n or len(set(left)) < 2 or len(set(right)) < 2:
        raise BadInput(f"{n} pairs", code="bad-pairs", hint="three pairs at least, both sides varying")
    a, b = _ranks(left), _ranks(right)
    middle = Fraction(n + 1, 2)
    cross = sum(((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)), Fraction(0))
    spread = sum(((x - middle) ** 2 for x in a), Fraction(0)) * sum(((y - middle) ** 2 for y in b), Fraction(0))
    rho = float(cross) / math.sqrt(spread)
    if cross * cross == spread:
        return Correlation(rho=math.copysign(1.0, rho), p_value=0.0, n=n)
    t = rho * math.sqrt((n - 2) / (1 - rho * rho))
    return Correlation(rho=rho, p_value=2 * special.t_share(n - 2, -abs(t)), n=n)


def _ranks(values: Sequence[Fraction]) -> list[Fraction]:
    ordered = sorted(values)
    return [ordered.index(value) + Fraction(ordered.count(value) + 1, 2) for value in values]
