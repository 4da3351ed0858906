"""The short code tables that the metadata need, read from ``conf/codes``: one file per table, with its source.

Invariants:

* a table holds only what we name ourselves; a code that a report states with its display passes untouched and is
  not looked up here;
* a code that a table lacks is refused with the nearest one it has, never guessed.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from indexer.report import Coded
from security.conf import conf_dir
from security.errors import BadInput, Broken

TableName = Literal[
    "modality",
    "region",
    "confidentiality",
    "visibility",
    "facility-type",
    "practice-setting",
    "class",
    "type",
    "format",
    "body-part",
    "mado-99ihe",
    "mado-dcm",
    "format-ihe",
    "study",
    "specialty",
    "procedure-loinc",
    "procedure-ccam",
    "role",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTable:
    """One code system's part that we use. ``codes``: display by code; ``aliases``: code by other spelling;
    ``coarse``: by code, that of a coarser table it belongs under."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: str
    version: str
    system: str
    codes: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    coarse: Mapping[str, str] = field(default_factory=dict)

    def coded(self, code: str) -> Coded:
        """The code, in its right spelling, with its display.

        Raises:
            BadInput: ``unknown-code`` the table has no such code.
        """
        code = self.aliases.get(code, code)
        if code in self.codes:
            return Coded(code=code, system=self.system, display=self.codes[code])
        near = difflib.get_close_matches(code, [*self.codes, *self.aliases], n=1, cutoff=0.0)
        raise BadInput(
            f"{code!r} is not in the code table {self.system} (version {self.version})",
            code="unknown-code",
            hint=f"did you mean {near[0]!r}? known: {', '.join(sorted(self.codes))}" if near else "",
        )


_TABLE = TypeAdapter(CodeTable)


@cache
def table(name: TableName) -> CodeTable:
    """The table of ``conf/codes/<name>.toml``, read once.

    Raises:
        Broken: ``conf-missing``; ``conf-broken`` the file is not what this version ships.
    """
    path = conf_dir() / "codes" / f"{name}.toml"
    try:
        read = _TABLE.validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as cause:
        raise Broken(
            f"the code table {path} cannot be read ({type(cause).__name__})",
            code="conf-broken",
            hint="install this version again",
        ) from cause
    if not read.codes or not {*read.aliases.values(), *read.coarse} <= set(read.codes):
        raise Broken(
            f"the code table {path} is empty or speaks of a code it lacks",
            code="conf-broken",
            hint="install this version again",
        )
    return read


_SHOWN: tuple[TableName, ...] = ("modality", "region", "procedure-loinc", "procedure-ccam")


def displayed(value: Coded) -> Coded:
    """The value with a display: its own untouched, else that of our table of its system, else the code itself."""
    if value.display:
        return value
    known = (table(name) for name in _SHOWN)
    found = next(
        (one.codes[value.code] for one in known if one.system == value.system and value.code in one.codes), ""
    )
    return Coded(code=value.code, system=value.system, display=found or value.code)
