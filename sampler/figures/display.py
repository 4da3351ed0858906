"""How figures are written (peer audit §7): two decimals half up, a comma in French, and 1 for exactly 1.

Invariants:

* what is written is decided on exact ratios;
* nothing below 1 is written as 1, nothing below the whole as 100 %;
* the ends of an interval are rounded outwards: what is written contains what was computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from sampler.figures.interval import Interval

NOT_CALCULABLE = {"fr": "non calculable", "en": "not calculable"}


def ratio(value: Fraction | None, *, lang: str = "fr") -> str:
    """``0,97/1``; exactly 1 is ``1``, exactly 0 ``0/1`` (a rare success ``0,00/1``), nothing ``non calculable``."""
    if value is None:
        return NOT_CALCULABLE[lang]
    if value == 1:
        return "1"
    if value == 0:
        return "0/1"
    return f"{decimals(Fraction(min(_half_up(value * 100), 99), 100), 2, lang=lang)}/1"


def percent(value: Fraction | None, *, lang: str = "fr") -> str:
    """``83%``, without decimals, half up; 100 for exactly the whole."""
    if value is None:
        return NOT_CALCULABLE[lang]
    return f"{100 if value == 1 else min(_half_up(value * 100), 99)}%"


def span(interval: Interval, *, lang: str = "fr") -> str:
    """``0,83–0,96``: the lower end rounded down, the upper up."""
    low = math.floor(Fraction(interval.low) * 100)
    high = math.ceil(Fraction(interval.high) * 100)
    return f"{_point(low, lang)}–{_point(high, lang)}"


def exact(pair: Sequence[int]) -> Fraction:
    """A ratio that was written as numerator and denominator."""
    return Fraction(*pair)


def mean(values: list[Fraction]) -> Fraction:
    """The unweighted mean of audits: to be labelled so."""
    return sum(values, Fraction(0)) / len(values)


def median(values: list[Fraction]) -> Fraction:
    """The median of audits, the mean of the two in the middle when they are even in number."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def decimals(value: Fraction, places: int, *, lang: str = "fr") -> str:
    """``value`` to some decimals, half up (away from zero)."""
    scaled = _half_up(abs(value) * 10**places)
    whole, rest = divmod(scaled, 10**places)
    sign = "-" if value < 0 and scaled else ""
    mark = "," if lang == "fr" else "."
    return f"{sign}{whole}{mark}{rest:0{places}d}" if places else f"{sign}{whole}"


def _half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


def _point(hundredths: int, lang: str) -> str:
    return str(hundredths // 100) if hundredths in {0, 100} else decimals(Fraction(hundredths, 100), 2, lang=lang)
