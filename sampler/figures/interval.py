"""Intervals for one proportion.

Invariants:

* an interval lies in [0, 1] and contains the observed proportion (``agresti_coull`` alone leaves [0, 1]);
* its end is exactly 0 (or 1) when nothing (or everything) conformed;
* ``proportion`` chooses: exact hypergeometric for more than a tenth of a frame of at most 20,000 units, else Wilson.

Which cases are counted is left to ``estimate``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sampler.figures import special
from security.errors import BadInput

Method = Literal[
    "wilson",
    "wilson-finite",
    "hypergeometric",
    "clopper-pearson",
    "agresti-coull",
    "wilson-effective",
    "cluster",
    "cluster-logit",
    "cluster-no-variance",
    "census",
    "single-case",
    "bounds",
]

CONFIDENCE = 0.95
EXACT_MAX = 20_000
"""The largest frame that the exact hypergeometric interval is offered for by default."""
EXACT_SHARE = Fraction(1, 10)
AGRESTI_COULL_MIN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """``low`` to ``high``, and how it was computed."""

    low: float
    high: float
    method: Method
    confidence: float = CONFIDENCE

    def __contains__(self, value: float | Fraction) -> bool:
        return self.low <= value <= self.high


def normal_quantile(confidence: float) -> float:
    """The quantile z of a two-sided interval: 1.959964 at 0.95.

    Raises:
        BadInput: ``bad-confidence``.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"confidence {confidence}", code="bad-confidence", hint="a number between 0 and 1, as 0.95")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def checked(x: int, n: int, population: int | None = None) -> None:
    """That 0 ≤ x ≤ n, 0 < n ≤ N.

    Raises:
        BadInput: ``bad-counts``.
    """
    if not 0 <= x <= n or n == 0 or (population is not None and population < n):
        raise BadInput(
            f"{x} of {n} in a frame of {'unknown size' if population is None else population}",
            code="bad-counts",
            hint="0 ≤ conform ≤ drawn, 0 < drawn ≤ frame",
        )


def wilson_real(p: float, n: float, *, confidence: float, method: Method) -> Interval:
    """Wilson's interval for a proportion seen in ``n`` observations, ``n`` any positive number (effective size)."""
    z = normal_quantile(confidence)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The ends contain p by algebra; the minimum and maximum keep that through rounding.
    low = 0.0 if p == 0 else min(max(0.0, centre - half), p)
    high = 1.0 if p == 1 else max(min(1.0, centre + half), p)
    return Interval(low=low, high=high, method=method, confidence=confidence)


def wilson(x: int, n: int, *, population: int | None = None, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval; in a frame of N units with n* = n(N−1)/(N−n) in place of n, a census being certain.

    Raises:
        BadInput: ``bad-counts``, ``bad-confidence``.
    """
    checked(x, n, population)
    if population is None:
        return wilson_real(x / n, n, confidence=confidence, method="wilson")
    if population == n:
        return Interval(low=x / n, high=x / n, method="census", confidence=confidence)
    effective = n * (population - 1) / (population - n)
    return wilson_real(x / n, effective, confidence=confidence, method="wilson-finite")


def clopper_pearson(x: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """The conservative binomial interval, by quantiles of the beta distribution.

    Raises:
        BadInput: ``bad-counts``, ``bad-confidence``.
    """
    checked(x, n)
    normal_quantile(confidence)
    tail = (1 - confidence) / 2
    return Interval(
        low=0.0 if x == 0 else special.beta_quantile(x, n - x + 1, tail),
        high=1.0 if x == n else special.beta_quantile(x + 1, n - x, 1 - tail),
        method="clopper-pearson",
        confidence=confidence,
    )


def agresti_coull(x: int, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Wald's interval around the centre of Wilson's: it may leave [0, 1] near the ends.

    Raises:
        BadInput: ``bad-counts``, ``bad-confidence``; ``too-few-cases`` fewer than 40.
    """
    checked(x, n)
    if n < AGRESTI_COULL_MIN:
        raise BadInput(f"{n} cases", code="too-few-cases", hint="Agresti–Coull needs 40 cases: use Wilson")
    z = normal_quantile(confidence)
    centre = (x + z * z / 2) / (n + z * z)
    half = z * math.sqrt(centre * (1 - centre) / (n + z * z))
    return Interval(low=centre - half, high=centre + half, method="agresti-coull", confidence=confidence)


def hypergeometric(x: int, n: int, population: int, *, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval for n units drawn without replacement from N: every K of N that neither tail rejects.

    A tail that equals (1 − confidence)/2 to nine digits is not rejected: the error is on the wide side.

    Raises:
        BadInput: ``bad-counts``, ``bad-confidence``.
    """
    checked(x, n, population)
    normal_quantile(confidence)
    tail = (1 - confidence) / 2 * (1 - 1e-9)
    least, most = x, population - (n - x)

    def is_low_enough(k: int) -> bool:
        return _upper_tail(x, n, k, population) > tail

    def is_high_enough(k: int) -> bool:
        return _upper_tail(n - x, n, population - k, population) > tail

    low, high = least, most
    while low < high:  # the upper tail grows with K: smallest K that it does not reject
        middle = (low + high) // 2
        low, high = (low, middle) if is_low_enough(middle) else (middle + 1, high)
    first = low
    low, high = least, most
    while low < high:  # and the lower tail falls: largest K
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_high_enough(middle) else (low, middle - 1)
    return Interval(low=first / population, high=low / population, method="hypergeometric", confidence=confidence)


def _upper_tail(x: int, n: int, k: int, population: int) -> float:
    """P(X ≥ x) when n of N are drawn and k of N conform."""
    top = min(n, k)
    if x > top:
        return 0.0
    i = np.arange(max(x, n + k - population, 0), top + 1)
    terms = _log_choose(k, i) + _log_choose(population - k, n - i) - _log_choose(population, n)
    return float(min(1.0, np.exp(terms).sum()))


def _log_choose(n: int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    parts: NDArray[np.float64] = special.log_gamma(n + 1) - special.log_gamma(k + 1) - special.log_gamma(n - k + 1)
    return parts


def proportion(x: int, n: int, *, population: int | None, confidence: float = CONFIDENCE) -> Interval:
    """The interval of one plain draw by the default rule of this module. ``population`` None: unknown, thought large.

    Raises:
        BadInput: ``bad-counts``, ``bad-confidence``.
    """
    checked(x, n, population)
    if population is None or Fraction(n, population) <= EXACT_SHARE:
        return wilson(x, n, confidence=confidence)
    if population <= EXACT_MAX:
        return hypergeometric(x, n, population, confidence=confidence)
    return wilson(x, n, population=population, confidence=confidence)
