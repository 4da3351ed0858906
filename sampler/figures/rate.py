"""What may be printed as a rate, and what must stand beside it.

Invariants:

* a ``Rate`` carries its numerator and denominator, the number of cases n, the frame's size N and name, the method
  of its interval; nothing else prints a rate;
* a ``Rate`` stands on a ``Basis``, and no ``Basis`` can be had of an illustrative draw: ``basis`` then gives
  ``Illustrative``, which has cases and no rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sampler.figures.interval import Interval
from security.errors import Refused

Objective = Literal["estimate", "discovery", "illustrative"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Illustrative:
    """A draw of a few cases to talk about: it estimates nothing."""

    frame: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What rates stand on: a frame, by name, its size, and a draw that gave each unit a known chance."""

    frame: str
    population: int
    objective: Objective

    def __post_init__(self) -> None:
        if self.objective == "illustrative":
            raise Refused(
                f"the draw from {self.frame} was declared illustrative: it prints no rate",
                code="illustrative-no-rate",
                hint="show the cases; a rate needs a protocol whose objective is to estimate",
            )


def basis(*, frame: str, population: int, objective: Objective) -> Basis | Illustrative:
    """What a draw of this objective gives: a basis for rates, or none."""
    if objective == "illustrative":
        return Illustrative(frame=frame)
    return Basis(frame=frame, population=population, objective=objective)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """An estimate with everything that must be printed beside it.

    ``conform``, ``evaluated``: answers counted; ``cases``: drawn cases that have any; ``estimate``: of the frame, in
    [0, 1]; ``standard_error``: None where the cases show none; ``design_effect``: variance against that of as many
    independent answers, None where there is none to compare; ``notes``: codes of what a reader must know.
    """

    basis: Basis
    estimate: Fraction
    interval: Interval
    conform: int
    evaluated: int
    cases: int
    standard_error: float | None = None
    design_effect: float | None = None
    notes: tuple[str, ...] = ()
