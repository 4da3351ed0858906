"""Auditors and what they state: declarations, assignments, reviews, findings, and the commission's word.

Invariants:

* nobody answers about a case they have a link with, or that is not theirs;
* a review of a locked case is not taken; one that corrects another is a new version of it;
* a finding that was decided is corrected by nobody but the commission.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sampler.campaign.conflict import Declaration, voting
from sampler.campaign.lifecycle import CaseState, State
from sampler.campaign.rights import Right
from sampler.grids.answers import Answer, checked
from sampler.grids.findings import ORIGINS, SEVERITIES, Finding, decide
from sampler.grids.findings import State as FindingState
from sampler.ledger.acts import Acts
from sampler.ledger.held import SERVICE, SITE_ANSWER, Held, finding_of, require
from sampler.ledger.rows import Actor
from security.errors import BadInput, Refused
from security.store.port import Tx


class Reviews:
    """What auditors and commission state about one tenant's campaigns."""

    def __init__(self, held: Held, acts: Acts) -> None:
        self._held = held
        self._acts = acts

    def declare(self, tx: Tx, campaign: str, declaration: Declaration, *, actor: Actor, now: datetime) -> None:
        """Keep what a person says of their links, or that there are none.

        Raises:
            Refused: ``unknown-campaign``, ``not-ones-own``.
        """
        self._held.the(tx, campaign, "campaign")
        if declaration.person != actor.name:
            raise Refused("a declaration for somebody else", code="not-ones-own", hint="each declares for oneself")
        content = {"sites": sorted(declaration.sites), "practitioners": sorted(declaration.practitioners)}
        self._held.rows.add(
            tx, campaign, "declaration", actor.name, content, event="campaign.declared", actor=actor, now=now
        )

    def assign(
        self, tx: Tx, campaign: str, case: str, auditors: Sequence[str], *, actor: Actor, now: datetime
    ) -> None:
        """Give a case to auditors who declared that nothing links them with it.

        Raises:
            Refused: ``unknown-case``, ``no-right``, ``no-declaration``, ``conflict-of-interest``, ``no-such-step``.
            BadInput: ``bad-assignment``.
        """
        require(actor, Right.CONDUCT)
        held = self._held.case(tx, campaign, case)
        if not auditors or len(set(auditors)) != len(auditors):
            raise BadInput("assignment", code="bad-assignment", hint="one auditor or two, each once")
        for person in auditors:
            self._held.require_free(tx, campaign, held, person)
        self._acts.step_case(tx, campaign, held, CaseState.ASSIGNED, actor=actor, now=now)
        self._held.rows.add(
            tx,
            campaign,
            "assignment",
            case,
            {"auditors": list(auditors)},
            event="campaign.assigned",
            actor=actor,
            now=now,
        )

    def review(
        self,
        tx: Tx,
        campaign: str,
        case: str,
        answers: Sequence[Answer],
        *,
        leads: Collection[str],
        actor: Actor,
        now: datetime,
    ) -> int:
        """Take the submitted answers of one auditor about a case, or about the service; the version they have.

        Raises:
            Refused: ``unknown-case``, ``no-right``, ``review-closed``, and as a case that is opened.
            BadInput: ``answers-rules``.
        """
        grid = self._held.grid(tx, campaign)
        state = self._held.state(tx, campaign)
        level: Any = SERVICE if case == SERVICE else "case"
        if state is not State.IN_REVIEW:
            raise Refused(
                f"a campaign in {state} takes no answers", code="review-closed", hint="it must be IN_REVIEW"
            )
        held = None
        if case == SERVICE:
            require(actor, Right.ANSWER_SERVICE)
        else:
            held = self._held.case(tx, campaign, case)
            self._held.require_may_see(tx, campaign, held, actor)
            if held.content["state"] not in {CaseState.OPENED, CaseState.REVIEWED}:
                raise Refused(
                    f"case {case} is {held.content['state']}",
                    code="review-closed",
                    hint="a case is answered once opened",
                )
        taken = checked(grid, level, answers, leads=frozenset(leads))
        content = {
            "case": case,
            "auditor": actor.name,
            "grid": grid.reference,
            "answers": [asdict(one) for one in taken],
        }
        number = self._held.rows.add(
            tx,
            campaign,
            "review",
            f"{case}/{actor.name}",
            content,
            event="campaign.reviewed",
            actor=actor,
            now=now,
        )
        if held and held.content["state"] == CaseState.OPENED:
            self._acts.step_case(tx, campaign, held, CaseState.REVIEWED, actor=actor, now=now, reviews=1)
        return number

    def find(self, tx: Tx, campaign: str, finding: Finding, *, actor: Actor, now: datetime) -> None:
        """State a finding, or correct one that is still open.

        Raises:
            Refused: ``unknown-campaign``, ``no-right``, ``already-decided``.
            BadInput: ``bad-finding``.
        """
        require(actor, Right.STATE_FINDING)
        items = {item.code for item in self._held.grid(tx, campaign).items}
        is_shaped = finding.origin in ORIGINS and finding.severity in SEVERITIES and finding.state == "open"
        if finding.requirement not in items or not is_shaped or not finding.text.strip():
            raise BadInput(
                f"finding {finding.id[:64]}",
                code="bad-finding",
                hint="an item of the grid, an origin, a severity, a text",
            )
        held = self._held.rows.one(tx, campaign, "finding", finding.id)
        if held and held.content["state"] != "open":
            raise Refused(
                f"finding {finding.id} is decided", code="already-decided", hint="the commission corrects it"
            )
        self._held.rows.add(
            tx, campaign, "finding", finding.id, asdict(finding), event="campaign.found", actor=actor, now=now
        )

    def qualify(
        self,
        tx: Tx,
        campaign: str,
        finding: str,
        decision: FindingState,
        *,
        severity: Any,
        motive: str,
        doctrine: str,
        members: Sequence[str],
        quorum: int,
        actor: Actor,
        now: datetime,
    ) -> None:
        """The commission's word on a finding; members linked to the site neither vote nor count.

        Raises:
            Refused: ``no-right``, ``guard`` the campaign is not before the commission, ``no-quorum``,
                ``unknown-finding``, ``already-decided``.
            BadInput: ``bad-decision``.
        """
        require(actor, Right.QUALIFY_FINALLY)
        state = self._held.state(tx, campaign)
        if state is not State.COMMISSION:
            raise Refused(
                f"a campaign in {state} is not before the commission", code="guard", hint="first: COMMISSION"
            )
        held = self._held.rows.one(tx, campaign, "finding", finding)
        if held is None:
            raise Refused(f"no finding {finding[:64]}", code="unknown-finding", hint="campaign status lists them")
        site = self._held.terms(tx, campaign).site
        voters = voting(members, self._held.declarations(tx, campaign), site=site, quorum=quorum)
        after = decide(finding_of(held), decision, severity=severity, motive=motive, doctrine=doctrine)
        content = asdict(after) | {"voters": list(voters)}
        self._held.rows.add(
            tx,
            campaign,
            "finding",
            finding,
            content,
            event="campaign.decided",
            actor=actor,
            now=now,
            after=held.version,
        )

    def follow_up(
        self, tx: Tx, campaign: str, id_: str, content: Mapping[str, Any], *, actor: Actor, now: datetime
    ) -> None:
        """Keep a follow-up, its proof, or the site's answer in the contradictory step (id ``site-answer``).

        Raises:
            Refused: ``unknown-campaign``, ``no-right``.
        """
        require(actor, Right.ANSWER_SERVICE if id_ == SITE_ANSWER else Right.CONDUCT)
        self._held.the(tx, campaign, "campaign")
        self._held.rows.add(
            tx, campaign, "follow-up", id_, content, event="campaign.followed-up", actor=actor, now=now
        )
