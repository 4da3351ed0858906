"""Whom an exam is hidden from, as a set of marks: one value for what reports state, what the index was told, and what
it shows.

A mark is a confidentialityCode (drim-m §5): the level, and each group that may not see the document. A level counts
as every level below it, so that to hide at least as much is to be a superset, and what two sources hide together is a
union.

Invariants:

* pure; codes that our tables do not list are no marks: they are neither compared nor told;
* the wanted marks never lack one that the index shows and we never told it: whoever else hid the exam (the patient in
  their own record, a colleague) is not overruled by us;
* what we told ourselves may be lifted again, and only by what the valid reports say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from indexer.manifest import Context
from indexer.report import Visibility

Marks = frozenset[str]

LEVELS = "ULMNRV"
"""HL7 v3 Confidentiality, from unrestricted to very restricted."""
_GROUPS = {
    "MASQUE_PS": "masked_to_professionals",
    "INVISIBLE_PATIENT": "invisible_to_patient",
    "INVISIBLE_REPRESENTANTS_LEGAUX": "invisible_to_guardians",
}
_KNOWN = frozenset({*LEVELS, *_GROUPS})


def marks(level: str, visibility: Visibility) -> Marks:
    """What a level and the flags of the reports hide."""
    hidden = {code for code, flag in _GROUPS.items() if getattr(visibility, flag)}
    return frozenset({*_up_to(level), *hidden})


def stated(codes: Iterable[str]) -> Marks:
    """The marks among the confidentiality codes of an entry."""
    known = _KNOWN.intersection(codes)
    return frozenset({*known, *(below for code in known if code in LEVELS for below in _up_to(code))})


def level_of(hidden: Marks) -> str:
    """The highest level; N, the normal one, where none is stated."""
    return max((one for one in hidden if one in LEVELS), key=LEVELS.index, default="N")


def visibility_of(hidden: Marks, stated_: Visibility) -> Visibility:
    """The flags that hide at least ``hidden``, and all that ``stated_`` hides."""
    return replace(stated_, **{flag: getattr(stated_, flag) or code in hidden for code, flag in _GROUPS.items()})


def of(context: Context) -> Marks:
    """What a manifest's context hides."""
    return marks(context.confidentiality, context.visibility)


def hidden_further(context: Context, more: Marks) -> Context:
    """The same context that hides ``more`` as well."""
    return replace(
        context,
        confidentiality=level_of(of(context) | more),
        visibility=visibility_of(more, context.visibility),
    )


def wanted(own: Marks, *, shown: Marks, told: Marks | None) -> Marks:
    """What the index should show: what the reports hide, and what somebody else hid there. ``told``: every mark that
    we told since the index last confirmed one of our requests; None when that was not recorded: then all are ours."""
    return own | (frozenset() if told is None else shown - told)


def text(hidden: Marks) -> str:
    """For a row: the marks in order, "" for none."""
    return " ".join(sorted(hidden))


def read(row: str | None) -> Marks | None:
    """Of a row; None for a row that says nothing."""
    return None if row is None else frozenset(row.split())


def _up_to(level: str) -> str:
    return LEVELS[: LEVELS.index(level) + 1] if level in LEVELS else ""
