"""What the frozen protocol says beyond the draw itself: to what end, of which frame, by which grid and rules.

The document is the one that the draw hashes: ``objective``, ``source``, ``grid``, ``na_counts_as_evaluated``,
``double_review_percent``, ``site``, ``has_refusal_register`` stand beside ``strata``. What is not stated takes the
stricter value: without an objective a draw is illustrative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from sampler.draw.protocol import Stratum, protocol_of
from sampler.figures.rate import Objective
from sampler.frame.building import Source
from security.errors import BadInput

FRAMES: Mapping[Source, str] = {"PERFORMED": "performed exams", "REQUESTED": "requested exams"}
"""How a rate names its frame, in plain English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """``grid``: the code of the grid. ``double_review_percent``: of cases read by two."""

    objective: Objective
    source: Source
    site: str
    grid: str
    strata: tuple[Stratum, ...]
    na_counts_as_evaluated: bool
    double_review_percent: int
    has_refusal_register: bool

    @property
    def frame(self) -> str:
        """The frame's name, as every rate carries it; in English, the key of its words."""
        return FRAMES[self.source]


def terms_of(document: Mapping[str, Any]) -> Terms:
    """The terms that a protocol states.

    Raises:
        BadInput: ``protocol-terms`` which member, and what it must be; ``E_PROTOCOL`` as the draw says.
    """
    share = document.get("double_review_percent", 0)
    if not isinstance(share, int) or isinstance(share, bool) or not 0 <= share <= 100:
        raise _bad("double_review_percent", "a whole number from 0 to 100")
    return Terms(
        objective=cast("Objective", _one_of(document, "objective", get_args(Objective), "illustrative")),
        source=cast("Source", _one_of(document, "source", get_args(Source), "PERFORMED")),
        site=_text(document, "site"),
        grid=_text(document, "grid"),
        strata=protocol_of(document).strata,
        na_counts_as_evaluated=_flag(document, "na_counts_as_evaluated"),
        double_review_percent=share,
        has_refusal_register=_flag(document, "has_refusal_register"),
    )


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
