"""The k rule: which cells of a published table are blanked (peer audit §8.5).

Invariants:

* a cell of fewer than 5 cases or 3 practitioners is never shown, sums in the margins included;
* no blanked cell follows from the shown ones and the sums: it is tried by linear algebra over the whole table, not
  line by line;
* the blanked cells of a line whose sum is shown hold 5 cases together at least.

The table is two-way: rows, columns, their sums and the grand total.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from security.errors import BadInput

CASES_MIN = 5
PRACTITIONERS_MIN = 3
TOTAL = ""
"""The row or column of the sums."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Cases, and the practitioners they are of."""

    cases: int
    practitioners: frozenset[str]

    @property
    def is_enough(self) -> bool:
        """Whether the k rule lets it be shown."""
        return self.cases >= CASES_MIN and len(self.practitioners) >= PRACTITIONERS_MIN


def with_sums(cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """The table with the sums of its rows and columns and the grand total; cells left out are empty.

    Raises:
        BadInput: ``bad-table`` a row or column without a name.
    """
    if not cells or any(TOTAL in key for key in cells):
        raise BadInput("a table without cells or names", code="bad-table", hint="name every row and column")
    rows, columns = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    empty = Cell(cases=0, practitioners=frozenset())
    whole = {(row, column): cells.get((row, column), empty) for row in rows for column in columns}
    for row in rows:
        whole[row, TOTAL] = _sum([whole[row, column] for column in columns])
    for column in (*columns, TOTAL):
        whole[TOTAL, column] = _sum([whole[row, column] for row in rows])
    return whole


def _sum(cells: list[Cell]) -> Cell:
    return Cell(
        cases=sum(cell.cases for cell in cells),
        practitioners=frozenset().union(*(cell.practitioners for cell in cells)),
    )


def blanked(table: Mapping[Key, Cell]) -> frozenset[Key]:
    """The cells not to show of a table with its sums: those too small, and as many others as keep them secret.

    Raises:
        BadInput: ``bad-table`` the table lacks its sums.
    """
    if (TOTAL, TOTAL) not in table:
        raise BadInput("a table without its sums", code="bad-table", hint="add them first")
    hidden = {key for key, cell in table.items() if not cell.is_enough}
    while weak := _weak_line(table, hidden):
        shown = [key for key in weak if key not in hidden]
        # the sums last: a reader misses them most; then the smallest that holds a case at all
        hidden.add(min(shown, key=lambda key: (TOTAL in key, table[key].cases == 0, table[key].cases, key)))
    return frozenset(hidden)


def _lines(table: Mapping[Key, Cell]) -> list[list[Key]]:
    by_row: dict[str, list[Key]] = {}
    by_column: dict[str, list[Key]] = {}
    for key in sorted(table):
        by_row.setdefault(key[0], []).append(key)
        by_column.setdefault(key[1], []).append(key)
    return [*by_row.values(), *by_column.values()]


def _weak_line(table: Mapping[Key, Cell], hidden: set[Key]) -> list[Key] | None:
    """A line with a cell to show that must be blanked too; None when nothing hidden can be found out."""
    lines = _lines(table)
    for line in lines:
        inside = [key for key in line if key in hidden]
        parts = [key for key in inside if TOTAL not in key]
        is_sum_shown = len(parts) == len(inside)
        if inside and len(inside) < len(line) and is_sum_shown and sum(table[k].cases for k in parts) < CASES_MIN:
            return line
    found = derivable(table, hidden)
    for line in lines:
        if any(key in found for key in line) and any(key not in hidden for key in line):
            return line
    return None


def derivable(table: Mapping[Key, Cell], hidden: set[Key] | frozenset[Key]) -> set[Key]:
    """The hidden cells that follow from the shown ones and the sums, by elimination over the lines' equations."""
    order = sorted(hidden)
    place = {key: i for i, key in enumerate(order)}
    matrix: list[list[Fraction]] = []
    for line in _lines(table):
        row = [Fraction(0)] * len(order)
        ending = max(line, key=lambda key: key.count(TOTAL))
        for key in line:
            if key in place:
                row[place[key]] = Fraction(-1 if key == ending else 1)
        if any(row):
            matrix.append(row)
    return {order[_only(row)] for row in _reduced(matrix) if sum(value != 0 for value in row) == 1}


def _only(row: list[Fraction]) -> int:
    return next(i for i, value in enumerate(row) if value)


def _reduced(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The reduced echelon form: a row with one entry is a cell that is determined, and every such cell has one."""
    rows, top = [row[:] for row in matrix], 0
    for column in range(len(matrix[0]) if matrix else 0):
        pivot = next((i for i in range(top, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[top], rows[pivot] = rows[pivot], rows[top]
        lead = rows[top][column]
        rows[top] = [value / lead for value in rows[top]]
        for i, row in enumerate(rows):
            if i != top and row[column]:
                factor = row[column]
                rows[i] = [value - factor * base for value, base in zip(row, rows[top], strict=True)]
        top += 1
    return rows[:top]
