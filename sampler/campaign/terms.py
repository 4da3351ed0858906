"""What the frozen protocol says beyond the draw itself: to what end, of which frame, by which grid and rules.

The document is the one that the draw hashes: ``objective``, ``source``, ``grid``, ``na_counts_as_evaluated``,
``double_review_percent``, ``site``, ``has_refusal_register`` stand beside ``strata``. What is not stated takes the
stricter value: without an objective a draw is illustrative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sampler.figures.rate import Objective
from security.errors import BadInput

Source = Literal["PERFORMED", "REQUESTED"]
Mode = Literal["srs", "cap", "two_stage"]
FRAME_NAMES: Mapping[Source, str] = {"PERFORMED": "performed exams", "REQUESTED": "requested exams"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumPlan:
    """``n`` cases of a stratum. ``cap``: cases of one practitioner in a round, 0 for no limit."""

    id: str
    n: int
    mode: Mode
    cap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """``grid``: the code of the grid. ``double_review_percent``: of cases read by two."""

    objective: Objective
    source: Source
    site: str
    grid: str
    strata: tuple[StratumPlan, ...]
    na_counts_as_evaluated: bool
    double_review_percent: int
    has_refusal_register: bool

    @property
    def frame(self) -> str:
        """The frame's name, as every rate carries it; in English, the key of its words."""
        return FRAME_NAMES[self.source]


def terms_of(document: Mapping[str, Any]) -> Terms:
    """The terms that a protocol states.

    Raises:
        BadInput: ``protocol-terms`` which member, and what it must be.
    """
    strata = document.get("strata")
    if not isinstance(strata, list) or not strata:
        raise _bad("strata", "a list of at least one stratum")
    share = document.get("double_review_percent", 0)
    if not isinstance(share, int) or isinstance(share, bool) or not 0 <= share <= 100:
        raise _bad("double_review_percent", "a whole number from 0 to 100")
    return Terms(
        objective=cast("Objective", _one_of(document, "objective", get_args(Objective), "illustrative")),
        source=cast("Source", _one_of(document, "source", get_args(Source), "PERFORMED")),
        site=_text(document, "site"),
        grid=_text(document, "grid"),
        strata=tuple(_plan(one) for one in strata),
        na_counts_as_evaluated=_flag(document, "na_counts_as_evaluated"),
        double_review_percent=share,
        has_refusal_register=_flag(document, "has_refusal_register"),
    )


def _plan(stated: Any) -> StratumPlan:
    one = stated if isinstance(stated, dict) else {}
    n, cap, name = one.get("n"), one.get("max_per_practitioner", 0), one.get("id")
    if not isinstance(name, str) or not name:
        raise _bad("strata", "objects with an id")
    if not all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in (n, cap)):
        raise _bad(f"strata: n or max_per_practitioner of {name[:64]}", "a whole number")
    mode = cast("Mode", _one_of(one, "mode", get_args(Mode), ""))
    if mode == "cap" and not cap:
        raise _bad(f"strata: max_per_practitioner of {name[:64]}", "1 or more")
    return StratumPlan(id=name, n=cast("int", n), mode=mode, cap=cast("int", cap) if mode == "cap" else 0)


def _one_of(document: Mapping[str, Any], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = document.get(name, default)
    if value not in allowed:
        raise _bad(name, f"one of {', '.join(allowed)}")
    return str(value)


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name, "")
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 64:
        raise _bad(name, "a text of 1 to 64 characters")
    return value


def _flag(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name, False)
    if not isinstance(value, bool):
        raise _bad(name, "true or false")
    return value


def _bad(name: str, wanted: str) -> BadInput:
    return BadInput(f"protocol: {name[:80]}", code="protocol-terms", hint=f"it must be {wanted}")
