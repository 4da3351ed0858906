"""The identifiers that the whole house protects, as frozen values.

Invariants:

* an invalid value cannot exist: construction raises ``BadInput``;
* ``repr`` and ``str`` of anything that identifies a patient are masked; reading the attribute is the one
  explicit way to the value;
* comparison rules live in ``indexer.gate``, arithmetic of the matricule in ``security.ins``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Self

from pydantic_core import CoreSchema, core_schema

from security.errors import BadInput

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)
_UID_TRIM = "\0 "  # PS3.5 6.2 pads UI with NUL; the field pads it with blanks too


class Uid(str):
    """A DICOM unique identifier (PS3.5 9.1): digits and dots, at most 64 characters, no leading zeros.

    Raises:
        BadInput: ``bad-uid`` when the text, trimmed of NUL and blank padding, breaks the rule.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        trimmed = text.strip(_UID_TRIM)
        if len(trimmed) > 64 or not _UID.fullmatch(trimmed):
            raise BadInput(
                f"not a DICOM unique identifier: {len(trimmed)} characters",  # the text itself may be anything
                code="bad-uid",
                hint="the sender must use digits and dots, at most 64 characters, no component with a leading zero",
            )
        return super().__new__(cls, trimmed)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        """Lets stored values be read back through the same check."""
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema())


def masked(value: str | None) -> str:
    """A first letter and the length at most: enough to find one's way in a log, not to know a person. Digits (a
    matricule begins with the sex) and one or two characters (a sex, a code) are hidden whole."""
    if not value:
        return "∅"
    first = value[0] if len(value) > 2 and value[0].isalpha() else ""
    return f"{first}…({len(value)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ins:
    """National health identity (INS): the matricule, its assigning authority, its qualification status.

    ``matricule``: 15 characters, key included (NIR or NIA; Corsica keeps its 2A/2B). ``oid``: assigning
    authority, drim-m §11. ``status``: PID-32; only ``VALI`` makes the identity usable.
    """

    matricule: str
    oid: str
    status: str

    def __repr__(self) -> str:
        return f"Ins({masked(self.matricule)}, {self.oid}, {self.status or '∅'})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalId:
    """Identifier given by one establishment (IPP). ``issuer`` is an OID, or "" when the source names none."""

    value: str
    issuer: str

    def __repr__(self) -> str:
        return f"LocalId({masked(self.value)}, {self.issuer or '∅'})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Identity traits as a source states them, before any folding of case or accents.

    ``sex``: M, F, U or "" when the source is silent. ``birthplace``: INSEE code or "". ``given_names``: the
    list of birth given names, first one included, "" when unknown.
    """

    birth_name: str
    first_given_name: str
    given_names: str = ""
    used_name: str = ""
    used_given_name: str = ""
    sex: str = ""
    birth_date: date | None = None
    birthplace: str = ""

    def __repr__(self) -> str:
        return f"Traits({masked(self.birth_name)}, {masked(self.first_given_name)}, {self.sex or '∅'})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientIdentity:
    """One patient as one source states them.

    ``tied``: what no source states: further identifiers that the identity register ties to ``local_ids``. They tell
    whose something is; they name nobody and are never published.
    """

    traits: Traits
    ins: Ins | None = None
    local_ids: tuple[LocalId, ...] = ()
    tied: tuple[LocalId, ...] = ()
