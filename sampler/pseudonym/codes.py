"""The published meanings of published codes (PS3.16 and the terminologies it draws on)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

_SCHEMES = ("DCM", "SCT", "LN", "UCUM", "RADLEX", "FMA", "UMLS", "NCIt", "MDC", "NEU", "BARI", "IBSI")


@cache
def _meanings() -> Mapping[tuple[str, str], str]:
    from pydicom.sr._concepts_dict import concepts  # noqa: PLC0415 - large, and only coded objects need it

    found: Any = concepts  # scheme → keyword → code → (meaning, contexts)
    return {
        (scheme, code): meaning
        for scheme in _SCHEMES
        for codes in found[scheme].values()
        for code, (meaning, _contexts) in codes.items()
    }


def is_published_scheme(scheme: str) -> bool:
    """Whether a coding scheme is one of those whose codes are published; all others are somebody's own."""
    return scheme in _SCHEMES or scheme in {"SRT", "SNM3", "I10", "CCAM", "LOINC"}


def published(scheme: str, code: str) -> str | None:
    """The meaning that the standard prints for a code, None for a local code or one we do not know."""
    return _meanings().get((scheme, code)) if scheme in _SCHEMES and code else None
