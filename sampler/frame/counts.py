"""The frame held against what others count for the period: RIS, PACS, modalities (MPPS) and index (peer-audit §5.1).

A draw cannot see exams that were left out of the frame; these counts can. Every source lists studies, and each
study it lists is either in the frame or is named under the reason why it is not.

Invariants:

* for every source, number = in the frame + Σ of its reasons; and the frame's size = in the frame + missing there;
* a source that was not asked, or did not answer cleanly, has no number: it is never taken for zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Of = Literal["RIS", "PACS", "MPPS", "INDEX"]
SOURCES: tuple[Of, ...] = ("RIS", "PACS", "MPPS", "INDEX")
GAP_MAX = Fraction(2, 100)
NO_REPORT = "no-report"
"""A study that a source lists and of which no report ever came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One study, or one request without study, as a source lists it. ``reason``: why that source itself counts it as
    not performed or not reported, "" when it does not."""

    study: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What one source counts. ``number`` None: not known, ``why``. ``missing``: units of the frame that it lacks."""

    of: Of
    number: int | None
    in_frame: int = 0
    missing: int = 0
    reasons: Mapping[str, int]
    why: str = ""

    def gap(self, size: int) -> Fraction | None:
        """The difference to the frame, as a share of the frame."""
        return None if self.number is None else Fraction(abs(self.number - size), size)

    def needs_words(self, size: int) -> bool:
        """Whether a person must explain it: the gap is above 2 %, or the source gave no number."""
        gap = self.gap(size)
        return gap is None or gap > GAP_MAX


def count(
    of: Of, listed: Iterable[Listed] | None, *, studies: Collection[str], left_out: Mapping[str, str], why: str = ""
) -> Count:
    """One source held against the frame.

    ``listed``: what it lists, None when that is not known, for the reason ``why``. ``studies``: those of the frame.
    ``left_out``: study → why the frame does not hold it. A study listed twice counts once.
    """
    if listed is None:
        return Count(of=of, number=None, reasons={}, why=why)
    by_study: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    for one in listed:
        if one.study:
            by_study[one.study] = by_study.get(one.study) or one.reason
        else:
            reasons[one.reason or NO_REPORT] += 1
    in_frame = sum(study in studies for study in by_study)
    for study, reason in by_study.items():
        if study not in studies:
            reasons[left_out.get(study) or reason or NO_REPORT] += 1
    return Count(
        of=of,
        number=in_frame + reasons.total(),
        in_frame=in_frame,
        missing=len(studies) - in_frame,
        reasons=dict(sorted(reasons.items())),
    )
