"""Two readers of the same cases (peer audit §6.8).

Raw agreement, Cohen's kappa and Gwet's AC1 stand together: kappa collapses when nearly everything conforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from security.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """``kappa`` is None when chance alone would agree always, ``ac1`` never is. ``pairs``: answers read twice."""

    pairs: int
    agreement: Fraction
    kappa: Fraction | None
    ac1: Fraction


def agreement(table: Sequence[Sequence[int]]) -> Agreement:
    """Of a square table, first reader by row, second by column, two or more categories.

    Raises:
        BadInput: ``bad-table``.
    """
    size, pairs = len(table), sum(map(sum, table))
    if size < 2 or any(len(row) != size or min(row) < 0 for row in table) or not pairs:
        raise BadInput(f"{size} rows", code="bad-table", hint="a square table of counts, two categories, not empty")
    same = Fraction(sum(table[k][k] for k in range(size)), pairs)
    rows = [Fraction(sum(row), pairs) for row in table]
    columns = [Fraction(sum(row[k] for row in table), pairs) for k in range(size)]
    chance = sum((a * b for a, b in zip(rows, columns, strict=True)), Fraction(0))
    middle = [(a + b) / 2 for a, b in zip(rows, columns, strict=True)]
    gwet = sum((q * (1 - q) for q in middle), Fraction(0)) / (size - 1)
    return Agreement(
        pairs=pairs,
        agreement=same,
        kappa=(same - chance) / (1 - chance) if chance != 1 else None,
        ac1=(same - gwet) / (1 - gwet),
    )
