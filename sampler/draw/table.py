"""FRAME.csv: the header ``unit,stratum,practitioner``, a row for each unit, in any order.

Invariants:

* what is written begins no cell with a sign that a spreadsheet takes for a formula (T30): such a token is refused;
* what is written is in the frame's order and needs no quotes, so equal frames are equal files;
* reading keeps cells as they are: whether one is a token is for ``units`` to say.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from sampler.draw import faults
from sampler.draw.units import Frame, Unit
from security.errors import BadInput

HEADER = ("unit", "stratum", "practitioner")
FORMULA = ("-",)
"""Of the signs that begin a formula, the one that a token may begin with."""


def rows_of(lines: Iterable[str]) -> Iterator[Unit]:
    """The units of a table. Empty lines are passed over.

    Raises:
        BadInput: ``frame-table`` the header is another one, a row has not three cells, or the lines are no CSV.
    """
    reader = csv.reader(lines)
    try:
        if tuple(next(reader, ())) != HEADER:
            raise _bad("line 1 is not unit,stratum,practitioner")
        for row in reader:
            if len(row) == len(HEADER):
                yield Unit(*row)
            elif row:
                raise _bad(f"line {reader.line_num} has {len(row)} cells")
    except csv.Error as cause:
        raise _bad(f"line {reader.line_num} is no CSV: {cause}") from None


def lines_of(frame: Frame) -> Iterator[str]:
    """The table of a frame, line by line. Raises BadInput ``E_TOKEN`` for a cell that would pass for a formula."""
    yield ",".join(HEADER) + "\n"
    for number, one in enumerate(frame.units, start=1):
        if any(cell.startswith(FORMULA) for cell in one):
            raise faults.refused(faults.TOKEN, f"frame, row {number}: a cell begins with the sign of a formula")
        yield ",".join(one) + "\n"


def _bad(what: str) -> BadInput:
    return BadInput(
        f"frame: {what}", code="frame-table", hint="the first line is unit,stratum,practitioner; RFC 4180"
    )
