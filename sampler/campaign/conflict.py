"""Who must not audit, see or judge what (T52): links between persons, sites and practitioners.

Invariants:

* an auditor linked to the site sees none of its cases, one linked to a practitioner none of theirs;
* without a declaration an auditor sees nothing: silence is no "no";
* it is asked when a case is assigned and again when it is opened;
* a member of the commission who is linked does not vote, and a quorum is of those who may.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from security.errors import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a person declared for one campaign: sites and practitioners (pseudonyms) they have a link with."""

    person: str
    sites: frozenset[str] = frozenset()
    practitioners: frozenset[str] = frozenset()

    def touches(self, *, site: str, practitioner: str = "") -> bool:
        """Whether it names the site, or the practitioner."""
        return site in self.sites or (practitioner != "" and practitioner in self.practitioners)


def require_free(person: str, declarations: Collection[Declaration], *, site: str, practitioner: str) -> None:
    """That the person may see a case of this practitioner at this site.

    Raises:
        Refused: ``no-declaration``, ``conflict-of-interest``.
    """
    theirs = [one for one in declarations if one.person == person]
    if not theirs:
        raise Refused(
            f"{person} declared no links for this campaign",
            code="no-declaration",
            hint="every auditor declares links, or that there are none, before a case is assigned",
        )
    if any(one.touches(site=site, practitioner=practitioner) for one in theirs):
        raise Refused(
            f"{person} has a link with the site or the practitioner of this case",
            code="conflict-of-interest",
            hint="assign the case to another auditor, or have it replaced for CONFLICT_OF_INTEREST",
        )


def require_assigned(person: str, assigned: Collection[str]) -> None:
    """That the case is the person's own.

    Raises:
        Refused: ``not-assigned``.
    """
    if person not in assigned:
        raise Refused(
            f"the case is not assigned to {person}", code="not-assigned", hint="the lead auditor assigns cases"
        )


def voting(
    members: Sequence[str], declarations: Collection[Declaration], *, site: str, quorum: int
) -> tuple[str, ...]:
    """The members of the commission who decide; those linked to the site, or who declared nothing, are recused.

    Raises:
        Refused: ``no-quorum``.
    """
    free = {one.person for one in declarations} - {one.person for one in declarations if one.touches(site=site)}
    present = tuple(one for one in dict.fromkeys(members) if one in free)
    if len(present) < quorum:
        raise Refused(
            f"{len(present)} members may decide, the quorum is {quorum}",
            code="no-quorum",
            hint="members linked to the site do not count; another session, or other members",
        )
    return present
