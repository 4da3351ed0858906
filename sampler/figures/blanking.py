"""The k rule: which cells of a published table are blanked (peer audit §8.5).

Invariants:

* a cell of fewer than 5 cases or 3 practitioners is never shown, sums in the margins included;
* no such cell follows from the shown ones and the sums: it is tried by linear algebra over the whole table, not line
  by line; a larger cell that is blanked for its sake may follow;
* the blanked cells of a line whose sum is shown hold 5 cases together at least.

The table is two-way: rows, columns, their sums and the grand total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

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
        return is_enough(self.cases, len(self.practitioners))


def is_enough(cases: int, practitioners: int) -> bool:
    """Whether so many cases of so many practitioners may be shown (§8.5)."""
    return cases >= CASES_MIN and practitioners >= PRACTITIONERS_MIN


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
    small = {key for key, cell in table.items() if not cell.is_enough}
    hidden = set(small)
    while weak := _weak_lines(table, small, hidden):
        open_ = Counter(key for line in weak for key in line if key not in hidden)
        # The cell that helps most lines; sums last, a reader misses them most; the smallest that holds a case at all.
        hidden.add(
            min(open_, key=lambda key: (-open_[key], TOTAL in key, table[key].cases == 0, table[key].cases, key))
        )
    return frozenset(hidden)


def _lines(table: Iterable[Key]) -> list[list[Key]]:
    """Rows and columns, each with its sum last."""
    by_line: dict[tuple[int, str], list[Key]] = {}
    for key in sorted(table, key=lambda key: (key.count(TOTAL), key)):
        by_line.setdefault((0, key[0]), []).append(key)
        by_line.setdefault((1, key[1]), []).append(key)
    return list(by_line.values())


def _weak_lines(table: Mapping[Key, Cell], small: set[Key], hidden: set[Key]) -> list[list[Key]]:
    """The lines in which one cell more must be blanked; none when no small cell can be found out."""
    lines = [line for line in _lines(table) if any(key not in hidden for key in line)]
    for line in lines:
        parts = [key for key in line if key in hidden]
        if parts and line[-1] not in hidden and sum(table[key].cases for key in parts) < CASES_MIN:
            return [line]
    found = derivable(table, hidden) & small
    if not found:
        return []
    alone = [line for line in lines if sum(key in hidden for key in line) == 1]
    return alone or [line for line in lines if any(key in found for key in line)]


def derivable(table: Iterable[Key], hidden: AbstractSet[Key]) -> set[Key]:
    """The hidden cells that follow from the shown ones and the sums, by elimination over the lines' equations.

    A row of the reduced form with one entry is a cell that is determined, and every such cell has one."""
    order = sorted(hidden)
    place = {key: i for i, key in enumerate(order)}
    matrix: list[list[int]] = []
    for line in _lines(table):
        row = [0] * len(order)
        for key in line:
            if key in place:
                row[place[key]] = -1 if key == line[-1] else 1
        if any(row):
            matrix.append(row)
    reduced = _reduced(matrix)
    return {order[next(i for i, value in enumerate(row) if value)] for row in reduced if sum(map(abs, row)) == 1}


def _reduced(matrix: list[list[int]]) -> list[list[int]]:
    """The reduced echelon form. The equations are those of a network (each cell in two lines): every pivot is ±1, so
    that integers suffice."""
    rows, top = matrix, 0
    for column in range(len(matrix[0]) if matrix else 0):
        pivot = next((i for i in range(top, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[top], rows[pivot] = rows[pivot], rows[top]
        base = rows[top] = [value * rows[top][column] for value in rows[top]]
        for i, row in enumerate(rows):
            if i != top and row[column]:
                factor = row[column]
                rows[i] = [value - factor * other for value, other in zip(row, base, strict=True)]
        top += 1
    return rows[:top]
