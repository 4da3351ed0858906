"""Indicators, coverage and non-conformities from counts (peer audit §7).

Invariants:

* ``NA`` and ``NE`` are in neither part of an indicator;
* nothing evaluated gives None, never 0;
* non-conformities count findings, never answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from security.errors import BadInput

NONCONFORMITY_OUT = "withdrawn"
"""The only state in which a finding does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often each answer was given."""

    conform: int = 0
    nonconform: int = 0
    not_applicable: int = 0
    not_evaluated: int = 0

    def __post_init__(self) -> None:
        if min(self.conform, self.nonconform, self.not_applicable, self.not_evaluated) < 0:
            raise BadInput("a count of answers is negative", code="bad-counts", hint="count again")

    @property
    def evaluated(self) -> int:
        """Answers that say conformant or not."""
        return self.conform + self.nonconform

    @property
    def total(self) -> int:
        """Every answer due."""
        return self.evaluated + self.not_applicable + self.not_evaluated


def count(verdicts: Iterable[str]) -> Counts:
    """How often each of C, NC, NA and NE was given. Raises KeyError for another answer."""
    seen = {"C": 0, "NC": 0, "NA": 0, "NE": 0}
    for verdict in verdicts:
        seen[verdict] += 1
    return Counts(conform=seen["C"], nonconform=seen["NC"], not_applicable=seen["NA"], not_evaluated=seen["NE"])


def indicator(counts: Counts) -> Fraction | None:
    """C / (C + NC); None when nothing was evaluated."""
    return Fraction(counts.conform, counts.evaluated) if counts.evaluated else None


def coverage(counts: Counts, *, na_counts_as_evaluated: bool = False) -> Fraction | None:
    """The share of the grid that was evaluated: (C + NC) / (total − NA), or (C + NC + NA) / total.

    None when nothing was due. Which of the two the bodies mean is not published: a setting."""
    part = counts.evaluated + (counts.not_applicable if na_counts_as_evaluated else 0)
    whole = counts.total - (0 if na_counts_as_evaluated else counts.not_applicable)
    return Fraction(part, whole) if whole else None


def nonconformities(states: Iterable[str]) -> int:
    """How many findings count, of their states."""
    return sum(state != NONCONFORMITY_OUT for state in states)
