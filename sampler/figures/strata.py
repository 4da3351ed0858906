"""Strata: how many cases each gets, and the rate of the whole (peer audit §6.4).

Invariants:

* an allocation adds up to n and takes no more of a stratum than it has;
* the estimate weighs each stratum by its share of the frame, never by its share of the sample;
* a stratum in which all or nothing conformed has no variance to show: half a success and half a failure stand in for
  it, in the variance alone, and the rate says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sampler.figures.interval import CONFIDENCE, Interval, checked, proportion, wilson_real
from sampler.figures.rate import Basis, Rate
from security.errors import BadInput

HALF_RULE = "half-rule"
"""The note of a rate whose variance needed the half success and failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """``drawn`` of ``size`` units, ``conform`` of them conformant."""

    id: str
    size: int
    drawn: int
    conform: int

    def __post_init__(self) -> None:
        checked(self.conform, self.drawn, self.size)

    @property
    def share(self) -> Fraction:
        """Conformant of drawn."""
        return Fraction(self.conform, self.drawn)


def allocate(sizes: Mapping[str, int], n: int, *, minimum: int = 1) -> dict[str, int]:
    """Shares n cases in proportion to the strata's sizes, each at least ``minimum`` while n allows it.

    Raises:
        BadInput: ``bad-allocation``.
    """
    return _rounded(sizes, dict.fromkeys(sizes, Fraction(1)), n, minimum=minimum)


def neyman(
    sizes: Mapping[str, int], deviations: Mapping[str, Fraction], n: int, *, minimum: int = 1
) -> dict[str, int]:
    """Shares n cases in proportion to size × standard deviation: the least variance; such a sample must be weighted.

    Raises:
        BadInput: ``bad-allocation``.
    """
    if sizes.keys() != deviations.keys() or min(deviations.values(), default=0) < 0:
        raise _bad("each stratum needs its standard deviation, none negative")
    return _rounded(sizes, deviations, n, minimum=minimum)


def _rounded(sizes: Mapping[str, int], per_unit: Mapping[str, Fraction], n: int, *, minimum: int) -> dict[str, int]:
    mass = {one: size * Fraction(per_unit[one]) for one, size in sizes.items()}
    whole = sum(mass.values(), Fraction(0))
    if not sizes or min(sizes.values()) < 1 or not 1 <= n <= sum(sizes.values()) or minimum < 0 or whole == 0:
        raise _bad(f"{n} cases of {len(sizes)} strata, at least {minimum} each")
    ideal = {one: n * part / whole for one, part in mass.items()}
    given = {one: min(max(math.floor(ideal[one]), minimum), sizes[one]) for one in sizes}
    while sum(given.values()) < n:
        open_ = [one for one in sizes if given[one] < sizes[one]]
        given[min(open_, key=lambda one: (given[one] - ideal[one], one))] += 1
    while sum(given.values()) > n:
        # Of those above their floor first: a stratum without a case leaves the frame without a rate.
        taken = [one for one in sizes if given[one] > minimum] or [one for one in sizes if given[one] > 0]
        given[min(taken, key=lambda one: (ideal[one] - given[one], one))] -= 1
    return given


def _bad(what: str) -> BadInput:
    return BadInput(what, code="bad-allocation", hint="1 ≤ n ≤ the frame's size, no empty stratum: merge small ones")


def stratified(
    strata: Sequence[Stratum], basis: Basis, *, half_rule: bool = True, confidence: float = CONFIDENCE
) -> Rate:
    """The rate of a frame drawn stratum by stratum, one answer a case; Wilson's interval on the effective size.

    One stratum is a plain draw and gets that interval. ``half_rule`` False leaves the stand-in out.

    Raises:
        BadInput: ``bad-strata`` strata that do not make up the frame, or one of a single case without the half rule.
    """
    if not strata or sum(one.size for one in strata) != basis.population:
        raise BadInput(
            f"strata of {sum(one.size for one in strata)} units in a frame of {basis.population}",
            code="bad-strata",
            hint="every unit of the frame is in one stratum, and each stratum has a drawn case",
        )
    estimate = sum((one.size * one.share for one in strata), Fraction(0)) / basis.population
    variance = sum((_variance(one, basis.population, half_rule=half_rule) for one in strata), Fraction(0))
    leant = half_rule and any(_is_extreme(one) for one in strata)
    return Rate(
        basis=basis,
        estimate=estimate,
        interval=_interval(strata, estimate, variance, basis, confidence=confidence),
        conform=sum(one.conform for one in strata),
        evaluated=sum(one.drawn for one in strata),
        cases=sum(one.drawn for one in strata),
        standard_error=math.sqrt(variance),
        notes=(HALF_RULE,) if leant and len(strata) > 1 else (),
    )


def _interval(
    strata: Sequence[Stratum], estimate: Fraction, variance: Fraction, basis: Basis, *, confidence: float
) -> Interval:
    if len(strata) == 1:
        only = strata[0]
        return proportion(only.conform, only.drawn, population=only.size, confidence=confidence)
    if variance == 0:
        return Interval(low=float(estimate), high=float(estimate), method="census", confidence=confidence)
    spread = estimate * (1 - estimate)
    if spread == 0:  # all or nothing everywhere: the stand-ins are all there is to measure by
        leant = sum((one.size * _leant(one) for one in strata), Fraction(0)) / basis.population
        spread = leant * (1 - leant)
    return wilson_real(float(estimate), float(spread / variance), confidence=confidence, method="wilson-effective")


def effective_size(rate: Rate) -> float:
    """p(1−p)/var: as how many plainly drawn cases this rate is worth."""
    assert rate.standard_error
    return float(rate.estimate * (1 - rate.estimate)) / rate.standard_error**2


def _is_extreme(one: Stratum) -> bool:
    return one.share in {0, 1} and one.drawn < one.size


def _leant(one: Stratum) -> Fraction:
    return (one.conform + Fraction(1, 2)) / (one.drawn + 1)


def _variance(one: Stratum, population: int, *, half_rule: bool) -> Fraction:
    """W² (1−f) p(1−p)/(n−1); with the stand-in of one observation more, /n."""
    if one.drawn == one.size:
        return Fraction(0)
    is_leant = half_rule and _is_extreme(one)
    if one.drawn == 1 and not is_leant:
        raise BadInput(f"one case in stratum {one.id}", code="bad-strata", hint="two cases show a variance")
    share = _leant(one) if is_leant else one.share
    degrees = one.drawn if is_leant else one.drawn - 1
    return Fraction(one.size, population) ** 2 * (1 - Fraction(one.drawn, one.size)) * share * (1 - share) / degrees
