"""How probable each drawn case was, of the frame and the plan: the weights of every rate (peer audit §6.5).

Invariant: what a formula gives is computed; what none gives is replayed 20,000 times, with the simulation's error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sampler.draw.protocol import Stratum
from sampler.figures import inclusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """The probability that a case was drawn. ``error``: of its simulation, 0.0 where it was computed."""

    probability: Fraction
    error: float


def chances(plan: Stratum, sizes: Mapping[str, int], *, replays: int = inclusion.REPLAYS) -> dict[str, Chance]:
    """By practitioner, the chance of each case of theirs. ``sizes``: cases of each practitioner in the stratum.

    Raises:
        BadInput: ``bad-inclusion`` the plan asks for more than the stratum holds, or for nothing.
    """
    who = sorted(sizes)
    counts = [sizes[one] for one in who]
    if plan.mode == "srs":
        same = Chance(probability=inclusion.plain(sum(counts), plan.n), error=0.0)
        return dict.fromkeys(who, same)
    found = _found(plan, counts, replays)
    # Binary fractions are exact as they are: what is exported as text gives the same weight back.
    return {
        one: Chance(probability=Fraction(probability), error=error)
        for one, probability, error in zip(who, found.case, found.simulation_error, strict=True)
    }


def _found(plan: Stratum, counts: list[int], replays: int) -> inclusion.Inclusion:
    is_one_round = plan.n <= len(counts)
    if plan.mode == "two_stage" and is_one_round:
        return inclusion.two_stage(counts, plan.n)
    if plan.mode == "cap" and plan.cap == 1 and is_one_round:
        return inclusion.cap(counts, plan.n)
    return inclusion.replayed(
        counts, plan.n, limit=max(plan.cap, 1), is_two_stage=plan.mode == "two_stage", replays=replays
    )
