"""The entry for foreign tables (RFC 4180 and what spreadsheets make of it): caps, one encoding, one header.

Invariants:

* every failure is ``BadInput`` with a ``csv-…`` code that names the line; no message quotes a cell;
* every row has exactly the header's cells, as texts; a byte order mark and blank lines are passed over;
* the separator is that of the header line: comma, semicolon (French spreadsheets) or tab;
* what ``written`` put before a cell so that no spreadsheet takes it for a formula is taken off again.

What the cells mean is left to the caller.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from security.errors import BadInput

BYTES_MAX = 8 * 1024 * 1024
ROWS_MAX = 200_000
CELL_MAX = 8_192
SEPARATORS = ",;\t"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a cell for a formula, full-width forms included (OWASP, CSV injection)."""
GUARD = "'"
"""Put before such a cell: spreadsheets show it as text."""

Table = list[dict[str, str]]


def parse_csv(data: bytes, *, what: str, required: Sequence[str], limit: int = BYTES_MAX) -> Table:
    """The rows of a table, cells by the names of its header; columns beyond ``required`` are kept.

    Raises:
        BadInput: ``csv-too-large``, ``csv-not-utf8``, ``csv-header``, ``csv-row``, ``csv-too-many-rows``.
    """
    if len(data) > limit:
        raise _bad(f"{what}: {len(data)} bytes, at most {limit} are read", code="csv-too-large")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise _bad(f"{what}: byte {cause.start} is not UTF-8", code="csv-not-utf8") from None
    if "\0" in text:
        raise _bad(f"{what}: a zero byte", code="csv-not-utf8")
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(SEPARATORS, key=first.count), strict=True)
    try:
        return _rows(reader, required, what)
    except csv.Error as cause:
        raise _bad(f"{what}, line {reader.line_num}: {cause}", code="csv-row") from None


def _rows(reader: Iterable[list[str]], required: Sequence[str], what: str) -> Table:
    rows = iter(reader)
    header = [name.strip() for name in next(rows, [])]
    missing = [name for name in required if name not in header]
    if missing or len(set(header)) != len(header):
        raise _bad(
            f"{what}: the header lacks {', '.join(missing)}" if missing else f"{what}: a column stands twice",
            code="csv-header",
        )
    table: Table = []
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(header):
            raise _bad(f"{what}, row {number}: {len(row)} cells, {len(header)} columns", code="csv-row")
        if max(map(len, row)) > CELL_MAX:
            raise _bad(f"{what}, row {number}: a cell above {CELL_MAX} characters", code="csv-row")
        if len(table) == ROWS_MAX:
            raise _bad(f"{what}: more than {ROWS_MAX} rows", code="csv-too-many-rows")
        table.append(dict(zip(header, map(_bare, row), strict=True)))
    return table


def _bare(cell: str) -> str:
    return cell[1:] if cell.startswith(GUARD) and cell[1:].startswith((*FORMULA, GUARD)) else cell


def _guarded(cell: str) -> str:
    return GUARD + cell if cell.startswith((*FORMULA, GUARD)) else cell


def written(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """A table that opens in a spreadsheet without becoming a formula (T30), UTF-8, RFC 4180.

    ``parse_csv`` reads back exactly these cells."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for row in rows:
        writer.writerow([_guarded(cell) for cell in row])
    return out.getvalue().encode("utf-8")


def _bad(what: str, *, code: str) -> BadInput:
    return BadInput(
        what, code=code, hint="a UTF-8 table with one header line, RFC 4180, or as a spreadsheet saves CSV"
    )
