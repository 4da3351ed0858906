"""Which stratum a row belongs to, by the protocol; strata that are too small are merged before the commit (§8.5).

A stratum of the protocol may say whom it takes: ``modalities``, ``sites``, ``states`` (of requests); the first that
takes a row has it. One that says nothing takes the modality that bears its name. ``merge_into`` names where it goes
when the frame holds fewer than five of it.

Invariants: after merging no stratum is smaller than ``UNITS_MIN``; the outcome depends on the sizes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sampler.draw.protocol import Protocol
from security.errors import BadInput

UNITS_MIN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Whom a stratum takes; an empty set takes everybody."""

    stratum: str
    modalities: frozenset[str]
    sites: frozenset[str]
    states: frozenset[str]
    merge_into: str

    def takes(self, *, modality: str, site: str, state: str) -> bool:
        """Whether a row is its."""
        return (
            (not self.modalities or modality in self.modalities)
            and (not self.sites or site in self.sites)
            and (not self.states or state in self.states)
        )


def rules_of(protocol: Protocol) -> tuple[Rule, ...]:
    """The rules of a protocol, in its order. Raises BadInput ``frame-protocol``."""
    return tuple(_rule(one) for one in protocol.document["strata"])


def _rule(stated: Mapping[str, Any]) -> Rule:
    found = {name: _texts(stated, name) for name in ("modalities", "sites", "states")}
    merge_into = stated.get("merge_into", "")
    if not isinstance(merge_into, str):
        raise _bad(stated["id"], "merge_into is no string")
    if not any(found.values()):
        found["modalities"] = frozenset({stated["id"]})
    return Rule(stratum=stated["id"], merge_into=merge_into, **found)


def _texts(stated: Mapping[str, Any], name: str) -> frozenset[str]:
    value = stated.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _bad(stated["id"], f"{name} is no list of strings")
    return frozenset(value)


def stratum_of(rules: Sequence[Rule], *, modality: str, site: str, state: str = "") -> str:
    """The first stratum that takes such a row, "" when none does."""
    return next((rule.stratum for rule in rules if rule.takes(modality=modality, site=site, state=state)), "")


def merged(sizes: Mapping[str, int], rules: Sequence[Rule]) -> dict[str, str]:
    """Small stratum → the one that takes its units, at the end of all merging.

    The smallest goes first (a tie by id): where its rule says, else to the smallest of the others.

    Raises:
        BadInput: ``frame-small`` the whole frame has fewer than ``UNITS_MIN`` units.
    """
    wanted = {rule.stratum: rule.merge_into for rule in rules}
    now = {stratum: size for stratum, size in sizes.items() if size}
    into: dict[str, str] = {}
    while now:
        size, small = min((size, stratum) for stratum, size in now.items())
        if size >= UNITS_MIN:
            break
        del now[small]
        if not now:
            raise BadInput(
                f"the frame holds {size} units, fewer than {UNITS_MIN}",
                code="frame-small",
                hint="widen the period: so few exams would point at persons",
            )
        target = wanted.get(small, "")
        if target not in now:
            target = min((other, stratum) for stratum, other in now.items())[1]
        now[target] += size
        into[small] = target
    return {small: _end(into, small) for small in into}


def _end(into: Mapping[str, str], stratum: str) -> str:
    while stratum in into:
        stratum = into[stratum]
    return stratum


def _bad(stratum: str, what: str) -> BadInput:
    return BadInput(f"protocol, stratum {stratum}: {what}", code="frame-protocol", hint="correct the protocol")
