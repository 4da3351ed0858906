"""A grid: the items that an audit asks, and the indicators they count for. Data, never code (peer audit §4).

Invariants:

* an item's code stands once; each has its text in French and English, its level and what may serve as evidence;
* an indicator stands on items of cases alone, and each that is named has a title;
* two grids with the same content have the same digest, whatever format they were read from.

The grids in ``conf/grids`` are this project's wording; a body's own is imported from JSON or CSV.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args
from unicodedata import category

from security.errors import BadInput
from security.parse.csv import Table

Level = Literal["case", "service"]
LANGUAGES = ("fr", "en")
COLUMNS = ("code", "section", "level", "indicator", "mandatory", "evidence", "fr", "en", "anchor")
"""The header of a grid as CSV; ``evidence`` holds words apart by blanks."""
_CODE = re.compile(r"[A-Z][A-Z0-9]{0,11}(?:-[A-Z0-9]{1,12})?")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,31}")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,31}")
_YES = {"1": True, "true": True, "oui": True, "yes": True, "0": False, "false": False, "non": False, "no": False}
TEXT_MAX = 1_000
ITEMS_MAX = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question. ``indicator``: what it counts for, "" for none; ``evidence``: kinds of proof; ``anchor``: the law
    or guide that it rests on, "" for none."""

    code: str
    section: str
    level: Level
    indicator: str
    is_mandatory: bool
    evidence: tuple[str, ...]
    text: Mapping[str, str]
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A version of a grid. ``indicators``: code → title by language, in order; ``status``: whose wording it is."""

    code: str
    version: str
    title: Mapping[str, str]
    status: Mapping[str, str]
    indicators: Mapping[str, Mapping[str, str]]
    items: tuple[Item, ...]

    def item(self, code: str) -> Item | None:
        """The item of that code."""
        return next((one for one in self.items if one.code == code), None)

    def of_level(self, level: Level) -> tuple[Item, ...]:
        """The items of cases, or those of the service."""
        return tuple(one for one in self.items if one.level == level)

    @property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal."""
        return hashlib.sha256(_canonical(document_of(self))).hexdigest()

    @property
    def reference(self) -> str:
        """Code, version and the beginning of the digest: what a campaign freezes."""
        return f"{self.code}|{self.version}|{self.digest[:16]}"


def grid_of(document: Any) -> Grid:
    """The grid that a JSON document states.

    Raises:
        BadInput: ``grid-shape`` what is wrong, and where.
    """
    head = _object(document, "grid")
    listed = head.get("items")
    if not isinstance(listed, list):
        raise _bad("items is no list")
    indicators = _indicators(head.get("indicators"))
    return Grid(
        code=_matching(head.get("code"), _CODE, "code"),
        version=_matching(head.get("version"), _VERSION, "version"),
        title=_spoken(head.get("title"), "title"),
        status=_spoken(head.get("status"), "status"),
        indicators=indicators,
        items=_checked([_item(one, f"items[{number}]") for number, one in enumerate(listed)], indicators),
    )


def grid_of_table(head: Mapping[str, Any], rows: Table) -> Grid:
    """The grid of a CSV table (``COLUMNS``) under a head that gives code, version, title, status and indicators.

    Raises:
        BadInput: ``grid-shape``.
    """
    items = []
    for number, row in enumerate(rows):
        mandatory = _YES.get(row["mandatory"].strip().lower())
        if mandatory is None:
            raise _bad(f"row {number + 2}: mandatory is neither yes nor no")
        cells = {name: row[name].strip() for name in COLUMNS}
        items.append(cells | {"mandatory": mandatory, "evidence": cells["evidence"].split()})
    return grid_of({**head, "items": items})


def document_of(grid: Grid) -> dict[str, Any]:
    """The grid as a JSON document; ``grid_of`` reads it back."""
    return {
        "code": grid.code,
        "version": grid.version,
        "title": dict(grid.title),
        "status": dict(grid.status),
        "indicators": [{"code": code, **title} for code, title in grid.indicators.items()],
        "items": [
            {
                "code": one.code,
                "section": one.section,
                "level": one.level,
                "indicator": one.indicator or None,
                "mandatory": one.is_mandatory,
                "evidence": list(one.evidence),
                **one.text,
                "anchor": one.anchor or None,
            }
            for one in grid.items
        ],
    }


def rows_of(grid: Grid) -> list[tuple[str, ...]]:
    """The items as rows under ``COLUMNS``."""
    return [
        (
            one.code,
            one.section,
            one.level,
            one.indicator,
            "1" if one.is_mandatory else "0",
            " ".join(one.evidence),
            one.text["fr"],
            one.text["en"],
            one.anchor,
        )
        for one in grid.items
    ]


def is_plain(text: str) -> bool:
    """Whether a text is one line without control and format characters; no-break spaces are French typography."""
    return not any(category(one)[0] == "C" for one in text)


def _item(stated: Any, where: str) -> Item:
    one = _object(stated, where)
    level, evidence = one.get("level"), one.get("evidence")
    if level not in get_args(Level):
        raise _bad(f"{where}: level is neither case nor service")
    if not isinstance(one.get("mandatory"), bool):
        raise _bad(f"{where}: mandatory is neither true nor false")
    if not isinstance(evidence, list) or not evidence:
        raise _bad(f"{where}: evidence is no list of at least one kind")
    return Item(
        code=_matching(one.get("code"), _CODE, f"{where}: code"),
        section=_matching(one.get("section"), _CODE, f"{where}: section"),
        level=cast("Level", level),
        indicator=_matching(one["indicator"], _CODE, f"{where}: indicator") if one.get("indicator") else "",
        is_mandatory=one["mandatory"],
        evidence=tuple(_matching(kind, _WORD, f"{where}: evidence") for kind in evidence),
        text=_spoken(one, where),
        anchor=_text(one["anchor"], f"{where}: anchor") if one.get("anchor") else "",
    )


def _indicators(stated: Any) -> dict[str, Mapping[str, str]]:
    if not isinstance(stated, list):
        raise _bad("indicators is no list")
    found: dict[str, Mapping[str, str]] = {}
    for number, one in enumerate(stated):
        where = f"indicators[{number}]"
        code = _matching(_object(one, where).get("code"), _CODE, f"{where}: code")
        if code in found:
            raise _bad(f"{where}: {code} stands twice")
        found[code] = _spoken(one, where)
    return found


def _checked(items: Sequence[Item], indicators: Iterable[str]) -> tuple[Item, ...]:
    if not 0 < len(items) <= ITEMS_MAX:
        raise _bad(f"{len(items)} items")
    known, seen = set(indicators), set()
    for one in items:
        if one.code in seen:
            raise _bad(f"{one.code} stands twice")
        seen.add(one.code)
        if one.indicator and (one.level != "case" or one.indicator not in known):
            raise _bad(f"{one.code}: indicator {one.indicator} has no title, or the item is not one of cases")
    unused = known - {one.indicator for one in items}
    if unused:
        raise _bad(f"indicator {min(unused)} has no item")
    return tuple(items)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{where} is no object")
    return value


def _spoken(value: Any, where: str) -> dict[str, str]:
    one = _object(value, where)
    return {lang: _text(one.get(lang), f"{where}: {lang}") for lang in LANGUAGES}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > TEXT_MAX or not is_plain(value):
        raise _bad(f"{where} is no text of 1 to {TEXT_MAX} characters on one line")
    return value.strip()


def _matching(value: Any, pattern: re.Pattern[str], where: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(f"{where} does not match {pattern.pattern}")
    return value


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _bad(what: str) -> BadInput:
    return BadInput(f"grid: {what}", code="grid-shape", hint="see conf/grids and docs/peer-audit.md for the form")
