"""How many cases: for a precision, for a discovery, for a check that accepts or rejects (peer audit §6.1, §6.2).

Invariants:

* a size is rounded up, and never above the frame;
* discovery is decided on integers: C(N−D, n)/C(N, n) against the risk, exactly.
"""

from __future__ import annotations

import math
from fractions import Fraction

from sampler.figures import special
from sampler.figures.interval import CONFIDENCE, normal_quantile
from security.errors import BadInput


def precision(p: float, half_width: float, *, population: int | None = None, confidence: float = CONFIDENCE) -> int:
    """Cases that give ± ``half_width`` around an expected share ``p``; ``population`` None: a very large frame.

    Raises:
        BadInput: ``bad-plan``, ``bad-confidence``.
    """
    endless = endless_precision(p, half_width, confidence=confidence)
    if population is None:
        return math.ceil(endless)
    if population < 1:
        raise _bad(f"a frame of {population}")
    return min(population, math.ceil(endless / (1 + (endless - 1) / population)))


def endless_precision(p: float, half_width: float, *, confidence: float = CONFIDENCE) -> float:
    """n0 = z² p(1−p)/d², of a frame without end.

    Raises:
        BadInput: ``bad-plan``, ``bad-confidence``.
    """
    if not 0 < p < 1 or not 0 < half_width < 1:
        raise _bad(f"an expected share of {p} ± {half_width}")
    return normal_quantile(confidence) ** 2 * p * (1 - p) / half_width**2


def discovery(population: int, defects: int, *, risk: Fraction = Fraction(1, 20)) -> int:
    """The fewest cases that miss all ``defects`` of a frame with probability ``risk`` at most.

    Raises:
        BadInput: ``bad-plan``.
    """
    if not 1 <= defects <= population or not 0 < risk < 1:
        raise _bad(f"{defects} defects in a frame of {population} at risk {risk}")
    high = 1
    while not _is_found(population, defects, high, risk):
        high = min(2 * high, population)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_found(population, defects, middle, risk) else (middle, high)
    return high


def _is_found(population: int, defects: int, n: int, risk: Fraction) -> bool:
    few, many = sorted((n, defects))  # C(N−D, n)/C(N, n) = C(N−n, D)/C(N, D)
    return math.comb(population - many, few) * risk.denominator <= math.comb(population, few) * risk.numerator


def discovery_endless(share: Fraction, *, risk: Fraction = Fraction(1, 20)) -> int:
    """The same of a frame without end, of which ``share`` is defective: (1 − share)^n ≤ risk.

    Raises:
        BadInput: ``bad-plan``.
    """
    if not 0 < share <= 1 or not 0 < risk < 1:
        raise _bad(f"a share of {share} at risk {risk}")
    if share == 1:
        return 1
    n = max(1, math.ceil(math.log(risk) / math.log1p(-float(share))) - 1)
    while (1 - share) ** n > risk:
        n += 1
    return n


def nothing_found(n: int, *, risk: float = 0.05) -> float:
    """The share of defects that n cases without one leave possible, one-sided: 1 − risk^(1/n).

    Raises:
        BadInput: ``bad-plan``.
    """
    if n < 1 or not 0 < risk < 1:
        raise _bad(f"{n} cases at risk {risk}")
    return -math.expm1(math.log(risk) / n)


def acceptance(n: int, accept: int, share: float) -> float:
    """The probability that n cases of a lot with this share of defects show at most ``accept`` (ISO 2859-1 style).

    It answers "take the lot", not "how conformant": for service checks alone.

    Raises:
        BadInput: ``bad-plan``.
    """
    if not 0 <= accept <= n or n < 1 or not 0 <= share <= 1:
        raise _bad(f"accept {accept} of {n} at {share}")
    return special.binomial_share(accept, n, share)


def _bad(what: str) -> BadInput:
    return BadInput(what, code="bad-plan", hint="shares between 0 and 1, counts that fit in the frame")
