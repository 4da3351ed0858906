"""What moves a campaign from draft to draw and from state to state: each act asks the tables, then writes versions.

Invariants:

* an act is one transaction: what it writes, its audit records and the new state commit together or not at all;
* the tables of states and rights are asked before anything is written;
* a draw is taken over only when it is this campaign's: same protocol, frame and number.

Whoever calls has made sure who acts, and that a transcript was verified; here it is asked what that role may do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sampler.campaign import lifecycle
from sampler.campaign.drawn import Drawn
from sampler.campaign.lifecycle import CaseFacts, CaseState, Facts, State
from sampler.campaign.rights import Right
from sampler.campaign.terms import terms_of
from sampler.grids.grid import Grid, document_of, is_plain
from sampler.ledger.held import ONE, Held, require
from sampler.ledger.rows import Actor, Version
from security.errors import BadInput, Refused
from security.store.port import ReadTx, Tx


class Acts:
    """The acts on one tenant's campaigns and on the states of their cases."""

    def __init__(self, held: Held) -> None:
        self._held = held

    def open(
        self, tx: Tx, campaign: str, *, title: str, domain: str, body: str, grid: Grid, actor: Actor, now: datetime
    ) -> None:
        """A campaign in ``DRAFT``, under one version of one grid.

        Raises:
            Refused: ``no-right``, ``campaign-exists``.
            BadInput: ``bad-id``, ``bad-campaign``.
        """
        require(actor, Right.WRITE_PROTOCOL)
        if self._held.rows.one(tx, campaign, "campaign", ONE):
            raise Refused(f"there is a campaign {campaign}", code="campaign-exists", hint="choose another id")
        for name, value in (("title", title), ("domain", domain), ("body", body)):
            if not value.strip() or len(value) > 200 or not is_plain(value):
                raise BadInput(f"campaign: {name}", code="bad-campaign", hint="a text of 1 to 200 characters")
        head = {"title": title, "domain": domain, "body": body, "state": State.DRAFT, "draw_no": 1}
        self._held.rows.add(tx, campaign, "campaign", ONE, head, event="campaign.opened", actor=actor, now=now)
        self._held.rows.add(
            tx, campaign, "grid", ONE, document_of(grid), event="campaign.opened", actor=actor, now=now
        )

    def freeze(
        self,
        tx: Tx,
        campaign: str,
        document: Mapping[str, Any],
        *,
        protocol_hash: str,
        signatures: Mapping[str, str],
        actor: Actor,
        now: datetime,
    ) -> None:
        """Freeze the protocol under the names of those who signed it, by role; two roles are two persons.

        Raises:
            Refused: ``unknown-campaign``, ``no-right``, ``no-such-step``, ``guard``, ``other-grid``, ``same-person``.
            BadInput: ``protocol-terms``.
        """
        grid = self._held.grid(tx, campaign)
        if terms_of(document).grid != grid.code:
            raise Refused(
                f"the protocol asks for another grid than {grid.code}", code="other-grid", hint="one grid each"
            )
        for role in signatures:
            require(Actor(role=role, name=signatures[role]), Right.SIGN_PROTOCOL)
        if len(set(signatures.values())) != len(signatures):
            raise Refused(
                "one person signed twice", code="same-person", hint="site and auditors sign, each their own"
            )
        content = {"document": document, "hash": protocol_hash, "signatures": dict(signatures)}
        self._move(
            tx, campaign, State.PROTOCOL_FROZEN, actor=actor, now=now, facts=Facts(signatures=frozenset(signatures))
        )
        self._held.rows.add(tx, campaign, "protocol", ONE, content, event="campaign.frozen", actor=actor, now=now)

    def frame(
        self,
        tx: Tx,
        campaign: str,
        *,
        root: str,
        strata: Mapping[str, Mapping[str, int]],
        actor: Actor,
        now: datetime,
    ) -> None:
        """Commit to a frame: its root, and how many units each practitioner has in each stratum.

        Raises:
            Refused: ``unknown-campaign``, ``frame-exists``, ``no-right``, ``no-such-step``, ``guard``.
        """
        if self._held.rows.one(tx, campaign, "frame", ONE):
            raise Refused(
                "a frame is committed to once", code="frame-exists", hint="another frame is another campaign"
            )
        sizes = {stratum: sum(theirs.values()) for stratum, theirs in strata.items()}
        self._move(
            tx,
            campaign,
            State.FRAME_COMMITTED,
            actor=actor,
            now=now,
            facts=Facts(has_frame=bool(sum(sizes.values()))),
        )
        content = {
            "root": root,
            "sizes": sizes,
            "practitioners": {name: dict(theirs) for name, theirs in strata.items()},
        }
        self._held.rows.add(tx, campaign, "frame", ONE, content, event="campaign.framed", actor=actor, now=now)

    def draw(
        self,
        tx: Tx,
        campaign: str,
        transcript: Mapping[str, Any],
        drawn: Sequence[Drawn],
        *,
        actor: Actor,
        now: datetime,
    ) -> None:
        """Take over a draw whose signed transcript was verified: its cases, in the order they were drawn.

        Raises:
            Refused: ``unknown-campaign``, ``no-right``, ``no-such-step``, ``guard``, ``other-draw`` another campaign,
                frame, protocol or number than this one's; ``draw-voided``.
        """
        body = transcript["body"]
        self._require_same(tx, campaign, body)
        parties = frozenset(body["commitments"]), frozenset(body["contributions"])
        self._move(
            tx,
            campaign,
            State.SEED_REVEALED,
            actor=actor,
            now=now,
            facts=Facts(committed=parties[0], revealed=parties[1]),
        )
        self._held.rows.add(tx, campaign, "transcript", ONE, transcript, event="campaign.drawn", actor=actor, now=now)
        for place, one in enumerate(drawn, start=1):
            self._enter(tx, campaign, place, one, actor=actor, now=now)
        self._move(tx, campaign, State.DRAWN, actor=actor, now=now)

    def replace(
        self,
        tx: Tx,
        campaign: str,
        transcript: Mapping[str, Any],
        drawn: Sequence[Drawn],
        *,
        actor: Actor,
        now: datetime,
    ) -> None:
        """Take over the verified transcript of the same draw with more replacements: cases leave, others enter.

        Raises:
            Refused: ``no-right``, ``guard`` the draw is not there yet or the review is over, ``other-draw``,
                ``no-such-step`` a case that leaves was answered already.
        """
        require(actor, Right.APPROVE_REPLACEMENT)
        state = self._held.state(tx, campaign)
        if state not in {State.DRAWN, State.IN_REVIEW}:
            raise Refused(f"a campaign in {state} replaces no case", code="guard", hint="first: DRAWN or IN_REVIEW")
        self._require_same(tx, campaign, transcript["body"])
        if transcript["body"]["seed"] != self._held.the(tx, campaign, "transcript").content["body"]["seed"]:
            raise Refused("the transcript has another seed", code="other-draw", hint="replacements keep the seed")
        self._held.rows.add(tx, campaign, "transcript", ONE, transcript, event="campaign.drawn", actor=actor, now=now)
        for place, one in enumerate(drawn, start=1):
            held = self._held.rows.one(tx, campaign, "case", one.unit)
            if held is None:
                self._enter(tx, campaign, place, one, actor=actor, now=now)
            elif one.reason and held.content["state"] != CaseState.REPLACED:
                also = {"reason": one.reason, "follows": one.follows}
                self.step_case(tx, campaign, held, CaseState.REPLACED, actor=actor, now=now, also=also)

    def _enter(self, tx: Tx, campaign: str, place: int, one: Drawn, *, actor: Actor, now: datetime) -> None:
        content = {
            "unit": one.unit,
            "place": place,
            "stratum": one.stratum,
            "practitioner": one.practitioner,
            "probability": [one.chance.probability.numerator, one.chance.probability.denominator],
            "error": one.chance.error,
            "state": CaseState.REPLACED if one.reason else CaseState.SELECTED,
            "reason": one.reason,
            "follows": one.follows,
        }
        self._held.rows.add(tx, campaign, "case", one.unit, content, event="campaign.drawn", actor=actor, now=now)

    def _require_same(self, tx: ReadTx, campaign: str, body: Mapping[str, Any]) -> None:
        head, protocol, frame = (self._held.the(tx, campaign, kind) for kind in ("campaign", "protocol", "frame"))
        stated = (body.get("campaign"), body.get("draw_no"), body.get("protocol_hash"), body["frame"].get("root"))
        ours = (campaign, head.content["draw_no"], protocol.content["hash"], frame.content["root"])
        if body.get("voided"):
            raise Refused(
                "the draw was voided", code="draw-voided", hint="campaign move to DRAW_VOIDED, then draw anew"
            )
        if stated != ours:
            names = ("campaign", "draw number", "protocol", "frame")
            other = ", ".join(name for name, a, b in zip(names, stated, ours, strict=True) if a != b)
            raise Refused(
                f"the transcript is of another {other}",
                code="other-draw",
                hint="it must be the draw of this campaign",
            )

    def move(self, tx: Tx, campaign: str, target: State, *, actor: Actor, now: datetime) -> None:
        """Take a campaign one step further, aside or back, as the table of steps allows.

        Raises:
            Refused: ``unknown-campaign``, ``no-right``, ``no-such-step``, ``guard``, ``own-act``.
        """
        own = {State.PROTOCOL_FROZEN, State.SEED_REVEALED, State.DRAWN}
        if target in own and self._held.state(tx, campaign) is not State.SUSPENDED:
            raise Refused(
                f"{target} is reached by freezing or drawing", code="own-act", hint="campaign freeze, campaign draw"
            )
        self._move(tx, campaign, target, actor=actor, now=now)

    def _move(
        self, tx: Tx, campaign: str, target: State, *, actor: Actor, now: datetime, facts: Facts | None = None
    ) -> None:
        head = self._held.the(tx, campaign, "campaign")
        source = State(head.content["state"])
        known = self._held.facts(tx, campaign)
        if facts:
            stated = {name: value for name, value in asdict(facts).items() if value != getattr(Facts(), name)}
            known = replace(known, **stated)
        step = lifecycle.step(source, target, known)
        require(actor, step.right)
        content = {name: value for name, value in head.content.items() if name != "suspended_from"}
        content |= {"state": target} | ({"suspended_from": source} if target is State.SUSPENDED else {})
        if target is State.DRAW_VOIDED:
            content["draw_no"] = head.content["draw_no"] + 1
        self._held.rows.add(
            tx, campaign, "campaign", ONE, content, event="campaign.moved", actor=actor, now=now, after=head.version
        )

    def move_case(self, tx: Tx, campaign: str, case: str, target: CaseState, *, actor: Actor, now: datetime) -> None:
        """Take a case one step further. READY is the site's word that a person checked it; OPENED the auditor's own.

        Raises:
            Refused: ``unknown-case``, ``no-right``, ``no-such-step``, ``guard``, ``own-act``, ``not-assigned``,
                ``no-declaration``, ``conflict-of-interest``.
        """
        held = self._held.case(tx, campaign, case)
        if target in {CaseState.ASSIGNED, CaseState.REVIEWED, CaseState.REPLACED}:
            raise Refused(
                f"{target} is reached by assigning, reviewing or drawing",
                code="own-act",
                hint="campaign assign, answers, draw",
            )
        if target is CaseState.OPENED:
            self._held.require_may_see(tx, campaign, held, actor)
        else:
            is_site = target in {CaseState.PREPARING, CaseState.READY}
            require(actor, Right.RE_IDENTIFY if is_site else Right.CONDUCT)
        self.step_case(tx, campaign, held, target, actor=actor, now=now)

    def step_case(
        self,
        tx: Tx,
        campaign: str,
        held: Version,
        target: CaseState,
        *,
        actor: Actor,
        now: datetime,
        reviews: int = 0,
        also: Mapping[str, Any] | None = None,
    ) -> None:
        """The step itself, once its right was asked. Raises Refused ``no-such-step``, ``guard``."""
        source = CaseState(held.content["state"])
        facts = CaseFacts(
            campaign=self._held.state(tx, campaign),
            is_transcript_signed=bool(self._held.rows.one(tx, campaign, "transcript", ONE)),
            is_site_checked=target is CaseState.READY,  # the act itself is the site's word, kept under its name
            has_auditor=target is CaseState.ASSIGNED,
            reviews=reviews,
            disagreements=self._held.disagreements(tx, campaign, held.id) if source is CaseState.REVIEWED else 0,
        )
        lifecycle.case_step(source, target, facts)
        self._held.rows.add(
            tx,
            campaign,
            "case",
            held.id,
            {**held.content, **(also or {}), "state": target},
            event="campaign.case-moved",
            actor=actor,
            now=now,
            after=held.version,
        )
