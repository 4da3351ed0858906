"""Who is missing from the frame of performed exams: refused, substituted and cancelled requests (peer audit §6.7).

Invariants:

* a rate of performed exams alone says "accepted requests only";
* refused requests that were not drawn widen the answer to bounds, they are never thought conformant.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from security.errors import BadInput

ACCEPTED_ONLY = "accepted-requests-only"
"""The note of a rate on a site without a register of refusals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One frame: its size and the rate found in it."""

    size: int
    share: Fraction

    def __post_init__(self) -> None:
        if self.size < 0 or not 0 <= self.share <= 1:
            raise BadInput(f"{self.size} requests", code="bad-frame", hint="a size, and a share in [0, 1]")


def combined(parts: list[Part]) -> Fraction:
    """The rate over frames that do not overlap, each by its size.

    Raises:
        BadInput: ``bad-frame`` nothing in them.
    """
    size = sum(part.size for part in parts)
    if not size:
        raise BadInput("empty frames", code="bad-frame", hint="at least one request")
    return sum((part.size * part.share for part in parts), Fraction(0)) / size


def bounds(seen: Part, unseen: int) -> tuple[Fraction, Fraction]:
    """What the rate over all would be if nothing, or everything, conformed in the ``unseen`` requests.

    Raises:
        BadInput: ``bad-frame``.
    """
    nothing, everything = Part(size=unseen, share=Fraction(0)), Part(size=unseen, share=Fraction(1))
    return combined([seen, nothing]), combined([seen, everything])


def worst_case(conform: int, evaluated: int, replaced: int) -> Fraction:
    """The share if every replaced case had not conformed: printed beside a replacement rate above a tenth.

    Raises:
        BadInput: ``bad-frame``.
    """
    if not 0 <= conform <= evaluated or replaced < 0 or evaluated + replaced == 0:
        raise BadInput(f"{conform} of {evaluated}", code="bad-frame", hint="0 ≤ conform ≤ evaluated, one case")
    return Fraction(conform, evaluated + replaced)
