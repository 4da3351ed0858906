"""What is held of a campaign: its rows as values, and the facts that guards ask about. Reads alone."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from sampler.campaign import rights
from sampler.campaign.conflict import Declaration, require_assigned, require_free
from sampler.campaign.lifecycle import CaseState, Facts, State
from sampler.campaign.results import DrawnCase, Results, results
from sampler.campaign.rights import Right
from sampler.campaign.terms import Terms, terms_of
from sampler.grids.answers import Answer
from sampler.grids.findings import Finding
from sampler.grids.grid import Grid, grid_of
from sampler.ledger.rows import Actor, Kind, Rows, Version
from security.errors import Refused
from security.policy import Role
from security.store.port import ReadTx

SERVICE = "service"
"""The id under which reviews of the service stand beside those of cases."""
ONE = "it"
"""The id of what a campaign has one of."""
SITE_ANSWER = "site-answer"
"""The follow-up that is the site's answer in the contradictory step."""


class Held:
    """One tenant's campaigns as their newest rows say them."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def the(self, tx: ReadTx, campaign: str, kind: Kind) -> Version:
        """What a campaign has one of: its head, grid, protocol, frame or transcript.

        Raises:
            Refused: ``unknown-campaign``; ``guard`` it has none yet.
        """
        found = self.rows.one(tx, campaign, kind, ONE)
        if found is None:
            code = "unknown-campaign" if kind in {"campaign", "grid"} else "guard"
            raise Refused(
                f"campaign {campaign[:64]} has no {kind}", code=code, hint="campaign status shows what there is"
            )
        return found

    def case(self, tx: ReadTx, campaign: str, case: str) -> Version:
        """One drawn case. Raises Refused ``unknown-case``."""
        found = self.rows.one(tx, campaign, "case", case)
        if found is None:
            raise Refused(
                f"campaign {campaign[:64]} has no case {case[:64]}", code="unknown-case", hint="campaign status"
            )
        return found

    def state(self, tx: ReadTx, campaign: str) -> State:
        """Where the campaign is. Raises Refused ``unknown-campaign``."""
        return State(self.the(tx, campaign, "campaign").content["state"])

    def terms(self, tx: ReadTx, campaign: str) -> Terms:
        """What the frozen protocol says. Raises Refused ``guard`` before it is frozen."""
        return terms_of(self.the(tx, campaign, "protocol").content["document"])

    def grid(self, tx: ReadTx, campaign: str) -> Grid:
        """The campaign's grid. Raises Refused ``unknown-campaign``."""
        return grid_of(self.the(tx, campaign, "grid").content)

    def facts(self, tx: ReadTx, campaign: str) -> Facts:
        """What the guards ask about, as the rows say it."""
        head = self.the(tx, campaign, "campaign").content
        follow_ups = self.rows.all(tx, campaign, "follow-up")
        return Facts(
            has_frame=bool(self.rows.one(tx, campaign, "frame", ONE)),
            is_transcript_signed=bool(self.rows.one(tx, campaign, "transcript", ONE)),
            cases=tuple(CaseState(case.content["state"]) for case in self.rows.all(tx, campaign, "case")),
            has_site_answered=any(one.id == SITE_ANSWER for one in follow_ups),
            undecided=sum(one.content["state"] == "open" for one in self.rows.all(tx, campaign, "finding")),
            open_follow_ups=sum(one.content.get("state") == "open" for one in follow_ups),
            suspended_from=State(head["suspended_from"]) if "suspended_from" in head else None,
        )

    def declarations(self, tx: ReadTx, campaign: str) -> list[Declaration]:
        """What each person declared last."""
        return [
            Declaration(
                person=one.id,
                sites=frozenset(one.content["sites"]),
                practitioners=frozenset(one.content["practitioners"]),
            )
            for one in self.rows.all(tx, campaign, "declaration")
        ]

    def require_may_see(self, tx: ReadTx, campaign: str, held: Version, actor: Actor) -> None:
        reach = require(actor, Right.ANSWER_CASES)
        self.require_free(tx, campaign, held, actor.name)
        if reach is rights.Extent.ASSIGNED:
            assigned = self.rows.one(tx, campaign, "assignment", held.id)
            require_assigned(actor.name, assigned.content["auditors"] if assigned else ())

    def require_free(self, tx: ReadTx, campaign: str, held: Version, person: str) -> None:
        site = self.terms(tx, campaign).site
        require_free(person, self.declarations(tx, campaign), site=site, practitioner=held.content["practitioner"])

    def reviews(self, tx: ReadTx, campaign: str) -> dict[str, list[tuple[str, tuple[Answer, ...]]]]:
        """By case (and ``service``): each auditor's answers, who submitted first first."""
        found: dict[str, list[tuple[str, tuple[Answer, ...]]]] = {}
        first = self.rows.first(tx, campaign, "review")
        for one in sorted(self.rows.all(tx, campaign, "review"), key=lambda one: (first[one.id], one.id)):
            answers = tuple(answer_of_row(stated) for stated in one.content["answers"])
            found.setdefault(one.content["case"], []).append((one.content["auditor"], answers))
        return found

    def disagreements(self, tx: ReadTx, campaign: str, case: str) -> int:
        """On how many items the reviews of a case differ, where each says conformant or not."""
        given = [
            {one.item: one.verdict for one in answers} for _, answers in self.reviews(tx, campaign).get(case, [])
        ]
        told = [{item: verdict for item, verdict in one.items() if verdict in {"C", "NC"}} for one in given]
        return sum(len({one[item] for one in told if item in one}) > 1 for item in set().union(*told))

    def cases(self, tx: ReadTx, campaign: str) -> list[DrawnCase]:
        """The drawn cases in the order they were drawn, replaced ones too."""
        reviews = self.reviews(tx, campaign)
        rows = sorted(self.rows.all(tx, campaign, "case"), key=lambda one: one.content["place"])
        return [
            DrawnCase(
                id=one.id,
                stratum=one.content["stratum"],
                practitioner=one.content["practitioner"],
                probability=Fraction(*one.content["probability"]),
                error=one.content["error"],
                state=CaseState(one.content["state"]),
                reviews=tuple(answers for _, answers in reviews.get(one.id, [])),
                reason=one.content["reason"],
            )
            for one in rows
        ]

    def findings(self, tx: ReadTx, campaign: str) -> list[Finding]:
        """The findings by id, as they stand."""
        return [finding_of(one) for one in self.rows.all(tx, campaign, "finding")]

    def results(self, tx: ReadTx, campaign: str) -> Results:
        """The figures as they stand now, of the strata that the protocol draws from.

        Raises:
            Refused: ``unknown-campaign``, ``guard`` nothing was drawn.
            BadInput: ``bad-strata`` a stratum has no locked case yet.
        """
        self.the(tx, campaign, "transcript")
        terms, sizes = self.terms(tx, campaign), self.the(tx, campaign, "frame").content["sizes"]
        service = self.reviews(tx, campaign).get(SERVICE, [])
        return results(
            self.grid(tx, campaign),
            terms,
            {plan.id: sizes[plan.id] for plan in terms.strata if plan.n},
            self.cases(tx, campaign),
            service=service[0][1] if service else (),
            findings=self.findings(tx, campaign),
        )


def answer_of_row(stated: Mapping[str, Any]) -> Answer:
    """The answer that a row holds."""
    return Answer(**{**stated, "evidence": tuple(stated["evidence"])})


def finding_of(held: Version) -> Finding:
    """The finding that a row holds."""
    stated = {name: held.content[name] for name in Finding.__dataclass_fields__}
    return Finding(**stated | {"cites": tuple(stated["cites"])})


def require(actor: Actor, right: Right) -> rights.Extent:
    """How far the actor's right reaches. Raises Refused ``no-right``."""
    try:
        role = Role(actor.role)
    except ValueError:
        raise Refused(f"{actor.role[:40]} is no role", code="no-right", hint=f"one of {', '.join(Role)}") from None
    return rights.require(role, right)
