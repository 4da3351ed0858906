"""The cases of a verified draw: who was selected, who left and who followed, each with its chance. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sampler.campaign.chances import Chance, chances
from sampler.draw.protocol import Stratum
from sampler.draw.units import Frame
from security.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One unit that the draw gave. ``reason``, ``follows``: it was replaced, why and by whom; "" otherwise."""

    unit: str
    stratum: str
    practitioner: str
    chance: Chance
    reason: str = ""
    follows: str = ""


def practitioners_of(frame: Frame) -> dict[str, dict[str, int]]:
    """By stratum, how many units each practitioner has."""
    return {stratum: dict(Counter(one.practitioner for one in frame.of(stratum))) for stratum in frame.strata}


def drawn_of(frame: Frame, body: Mapping[str, Any], strata: Sequence[Stratum]) -> list[Drawn]:
    """The cases of the transcript's body, selected first, then those who followed, in their order.

    Raises:
        BadInput: ``draw-unknown-unit`` the transcript is not of this frame; ``bad-inclusion``.
    """
    sizes = practitioners_of(frame)
    by_stratum = {plan.id: chances(plan, sizes.get(plan.id, {})) for plan in strata if plan.n}
    found: dict[str, Drawn] = {}

    def enter(unit: str) -> None:
        one = frame.find(unit)
        if one is None or one.stratum not in by_stratum:
            raise BadInput(
                "the transcript draws a unit that the frame does not have",
                code="draw-unknown-unit",
                hint="give the frame that was committed to",
            )
        chance = by_stratum[one.stratum][one.practitioner]
        found[unit] = Drawn(unit=unit, stratum=one.stratum, practitioner=one.practitioner, chance=chance)

    for units in body["selected"].values():
        for unit in units:
            enter(unit)
    for one in body["replacements"]:
        enter(one["in"])
        found[one["out"]] = replace(found[one["out"]], reason=one["reason"], follows=one["in"])
    return list(found.values())
