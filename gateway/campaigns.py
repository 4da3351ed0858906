"""What may be asked of the campaigns of a peer audit, by commands now and by pages later: JSON in, JSON out.

Each order is one transaction of ``sampler.ledger``. Who a command acts for is what its user states: the record says
both the role and name that were stated and the user of this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from fractions import Fraction
from hashlib import sha256
from typing import Any, TypeVar

from gateway.facts import Facts, Operation, Say, fact, texts
from gateway.i18n import LANGUAGES, words
from sampler import export
from sampler.campaign.chances import Chance
from sampler.campaign.conflict import Declaration
from sampler.campaign.drawn import Drawn
from sampler.campaign.lifecycle import CaseState, State
from sampler.campaign.rights import Extent, Right
from sampler.draw import checks
from sampler.draw.canonical import canonical
from sampler.draw.protocol import protocol_of
from sampler.figures.blanking import is_enough
from sampler.grids.answers import answer_of
from sampler.grids.findings import Finding
from sampler.grids.grid import Level, grid_of
from sampler.grids.questionnaire import questionnaire_of, response_of
from sampler.grids.structure import faults
from sampler.ledger.acts import Acts
from sampler.ledger.held import SERVICE, SITE_ANSWER, Held, require
from sampler.ledger.reviews import Reviews
from sampler.ledger.rows import Actor, Rows
from sampler.report.page import Report, page
from security import audit
from security.clock import Clock
from security.errors import BadInput, Broken, Refused
from security.seal import Vault
from security.store.port import ReadTx, Store, Tx

T = TypeVar("T")
_DECIDED = frozenset({State.DECIDED, State.FOLLOW_UP, State.CLOSED})


class Campaigns:
    """The campaigns of one gateway. ``tenants``: those that are configured."""

    def __init__(self, *, store: Store, vault: Vault, clock: Clock, tenants: Collection[str]) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._tenants = tenants

    def by_name(self) -> Mapping[str, Operation]:
        """What commands may ask for."""
        return {
            "campaign-list": self._list,
            "campaign-open": self._open,
            "campaign-freeze": self._freeze,
            "campaign-frame": self._frame,
            "campaign-draw": self._draw,
            "campaign-move": self._move,
            "campaign-case": self._case,
            "campaign-declare": self._declare,
            "campaign-assign": self._assign,
            "campaign-review": self._review,
            "campaign-find": self._find,
            "campaign-qualify": self._qualify,
            "campaign-answer": self._answer,
            "campaign-status": self._status,
            "campaign-figures": self._figures,
            "campaign-export": self._export,
            "campaign-report": self._report,
            "campaign-verify": self._verify,
        }

    # -- acts ------------------------------------------------------------------------------------------------

    async def _open(self, facts: Facts, _hear: Say) -> None:
        grid = grid_of(facts.get("grid"))
        told: dict[str, Any] = {name: fact(facts, name) for name in ("title", "domain", "body")}
        await self._do(facts, lambda desk, tx, to: desk.acts.open(tx, to.campaign, **told, grid=grid, **to.who))

    async def _freeze(self, facts: Facts, _hear: Say) -> None:
        protocol = protocol_of(facts.get("protocol"))
        signatures = _mapping(facts, "signatures")
        if protocol.campaign != fact(facts, "campaign"):
            raise BadInput("the protocol names another campaign", code="bad-fact", hint="correct its member campaign")
        await self._do(
            facts,
            lambda desk, tx, to: desk.acts.freeze(
                tx, to.campaign, protocol.document, protocol_hash=protocol.hash.hex(), signatures=signatures, **to.who
            ),
        )

    async def _frame(self, facts: Facts, _hear: Say) -> None:
        root, strata = fact(facts, "root"), _mapping(facts, "strata")
        await self._do(
            facts, lambda desk, tx, to: desk.acts.frame(tx, to.campaign, root=root, strata=strata, **to.who)
        )

    async def _draw(self, facts: Facts, _hear: Say) -> None:
        transcript, drawn = _mapping(facts, "transcript"), [_drawn(one) for one in facts["drawn"]]
        verdict = await asyncio.to_thread(checks.check, transcript, key=str(facts.get("key", "")))
        if verdict.failed:
            raise Refused(
                f"the transcript fails: {', '.join(verdict.failed)}",
                code="draw-not-verified",
                hint="poterne draw verify says why",
            )

        def act(desk: _Desk, tx: Tx, to: _To) -> None:
            is_drawn = desk.held.state(tx, to.campaign) in {State.DRAWN, State.IN_REVIEW}
            (desk.acts.replace if is_drawn else desk.acts.draw)(tx, to.campaign, transcript, drawn, **to.who)

        await self._do(facts, act)

    async def _move(self, facts: Facts, _hear: Say) -> None:
        target = _one_of(State, fact(facts, "target"))
        await self._do(facts, lambda desk, tx, to: desk.acts.move(tx, to.campaign, target, **to.who))

    async def _case(self, facts: Facts, _hear: Say) -> None:
        target, cases = _one_of(CaseState, fact(facts, "target")), texts(facts, "cases")

        def act(desk: _Desk, tx: Tx, to: _To) -> None:
            for case in cases:
                desk.acts.move_case(tx, to.campaign, case, target, **to.who)

        await self._do(facts, act)

    async def _declare(self, facts: Facts, _hear: Say) -> None:
        links = {name: frozenset(_strings(facts, name)) for name in ("sites", "practitioners")}
        said = Declaration(person=fact(facts, "name"), **links)
        await self._do(facts, lambda desk, tx, to: desk.reviews.declare(tx, to.campaign, said, **to.who))

    async def _assign(self, facts: Facts, _hear: Say) -> None:
        cases, auditors = texts(facts, "cases"), texts(facts, "auditors")

        def act(desk: _Desk, tx: Tx, to: _To) -> None:
            for case in cases:
                desk.reviews.assign(tx, to.campaign, case, auditors, **to.who)

        await self._do(facts, act)

    async def _review(self, facts: Facts, _hear: Say) -> dict[str, int]:
        """Answers of one auditor about many cases, all of them or none."""
        given = {case: [answer_of(row) for row in rows] for case, rows in _mapping(facts, "answers").items()}
        leads = _strings(facts, "leads")

        def act(desk: _Desk, tx: Tx, to: _To) -> dict[str, int]:
            taken = {}
            for case, answers in given.items():
                try:
                    taken[case] = desk.reviews.review(tx, to.campaign, case, answers, leads=leads, **to.who)
                except BadInput as fault:
                    raise BadInput(f"{case[:64]}: {fault.args[0]}", code=fault.code, hint=fault.hint) from None
            return taken

        return await self._do(facts, act)

    async def _find(self, facts: Facts, _hear: Say) -> None:
        """State findings, all of them or none."""
        listed = facts.get("findings")
        found = [_finding(one) for one in (listed if isinstance(listed, list) else [])]

        def act(desk: _Desk, tx: Tx, to: _To) -> None:
            for one in found:
                desk.reviews.find(tx, to.campaign, one, **to.who)

        await self._do(facts, act)

    async def _qualify(self, facts: Facts, _hear: Say) -> None:
        decision: Any = fact(facts, "decision")
        told: dict[str, Any] = {name: str(facts.get(name, "")) for name in ("severity", "motive", "doctrine")}
        members, quorum = texts(facts, "members"), int(facts["quorum"])
        await self._do(
            facts,
            lambda desk, tx, to: desk.reviews.qualify(
                tx, to.campaign, fact(facts, "finding"), decision, **told, members=members, quorum=quorum, **to.who
            ),
        )

    async def _answer(self, facts: Facts, _hear: Say) -> None:
        said = {"text": fact(facts, "text")}
        await self._do(
            facts, lambda desk, tx, to: desk.reviews.follow_up(tx, to.campaign, SITE_ANSWER, said, **to.who)
        )

    # -- looking ---------------------------------------------------------------------------------------------

    async def _list(self, facts: Facts, _hear: Say) -> list[dict[str, Any]]:
        desk = self._desk(facts)

        def work(tx: ReadTx) -> list[dict[str, Any]]:
            heads = {one: desk.held.the(tx, one, "campaign").content for one in desk.held.rows.campaigns(tx)}
            return [{"campaign": one, "title": head["title"], "state": head["state"]} for one, head in heads.items()]

        return await self._store.read(work)

    async def _status(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        desk, campaign = self._desk(facts), fact(facts, "campaign")

        def work(tx: ReadTx) -> dict[str, Any]:
            head = desk.held.the(tx, campaign, "campaign").content
            cases = desk.held.cases(tx, campaign)
            return {
                "campaign": campaign,
                **{name: head[name] for name in ("title", "domain", "body", "state", "draw_no")},
                "grid": desk.held.grid(tx, campaign).reference,
                "cases": [
                    {"case": one.id, "stratum": one.stratum, "state": one.state, "reviews": len(one.reviews)}
                    for one in cases
                ],
                "findings": [
                    {
                        "finding": one.id,
                        "requirement": one.requirement,
                        "state": one.state,
                        "calls_now": one.calls_now,
                    }
                    for one in desk.held.findings(tx, campaign)
                ],
            }

        return await self._store.read(work)

    async def _figures(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        desk, campaign = self._desk(facts), fact(facts, "campaign")
        reach = require(_actor(facts), Right.READ_AGGREGATES)
        told = await self._store.read(lambda tx: _exported(desk.held, tx, campaign))
        found = told.results
        if reach is Extent.K_RULE and not is_enough(found.cases, found.practitioners):
            raise Refused(
                f"{found.cases} cases of {found.practitioners} practitioners",
                code="k-rule",
                hint="5 cases and 3 practitioners at least in what is shown to you",
            )
        whole = export.document(told)
        kept = ("objective", "frame", "nonconformities", "grid", "figures", "by_stratum")
        return {"campaign": campaign, "cases": told.results.cases, **{name: whole[name] for name in kept}}

    async def _export(self, facts: Facts, _hear: Say) -> dict[str, str]:
        """Name → text of every file; the record of it is durable before they are returned."""
        desk, campaign = self._desk(facts), fact(facts, "campaign")
        actor = _actor(facts)
        require(actor, Right.READ_CASE)
        told = await self._noted(
            facts, lambda tx: _exported(desk.held, tx, campaign, with_words=bool(facts.get("with_words")))
        )
        made = await asyncio.to_thread(export.files, told)
        if facts.get("with_words"):
            made |= await self._store.read(lambda tx: _questionnaires(desk.held, tx, campaign))
        return {name: content.decode() for name, content in made.items()}

    async def _report(self, facts: Facts, _hear: Say) -> str:
        desk, campaign, lang = self._desk(facts), fact(facts, "campaign"), fact(facts, "lang")
        require(_actor(facts), Right.READ_CASE)
        if lang not in LANGUAGES:
            raise BadInput("no such language", code="bad-fact", hint="fr, en")
        report = await self._noted(facts, lambda tx: _reported(desk.held, tx, campaign))
        return await asyncio.to_thread(page, report, words(lang), lang=lang)

    async def _verify(self, facts: Facts, _hear: Say) -> list[dict[str, Any]]:
        desk, campaign = self._desk(facts), fact(facts, "campaign")
        return await self._store.read(lambda tx: [asdict(one) for one in desk.held.rows.altered(tx, campaign)])

    # -- how -------------------------------------------------------------------------------------------------

    def _desk(self, facts: Facts) -> _Desk:
        tenant = fact(facts, "tenant")
        if tenant not in self._tenants:
            raise Refused(
                f"no legal entity {tenant[:64]}", code="unknown-tenant", hint="see [tenants] in the settings"
            )
        return _Desk(Held(Rows(self._vault, tenant)))

    async def _do(self, facts: Facts, act: Callable[[_Desk, Tx, _To], T]) -> T:
        desk = self._desk(facts)
        to = _To(fact(facts, "campaign"), {"actor": _actor(facts), "now": self._clock.now()})
        return await self._store.write(lambda tx: act(desk, tx, to))

    async def _noted(self, facts: Facts, look: Callable[[ReadTx], T]) -> T:
        record = audit.AuditRecord(
            tenant=fact(facts, "tenant"), zone="audit", at=self._clock.now(), event="campaign.exported",
            actor=str(_actor(facts)), outcome=0, object_type="campaign-export", object_id=fact(facts, "campaign"),
            purpose="peer-audit",
        )  # fmt: skip

        def work(tx: Tx) -> T:
            found = look(tx)
            audit.append(tx, record)
            return found

        return await self._store.write(work)


class _Desk:
    """The rooms of one tenant."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.acts = Acts(held)
        self.reviews = Reviews(held, self.acts)


class _To:
    """Which campaign, by whom and when."""

    def __init__(self, campaign: str, who: dict[str, Any]) -> None:
        self.campaign = campaign
        self.who = who


def _exported(held: Held, tx: ReadTx, campaign: str, *, with_words: bool = False) -> export.Exported:
    head = held.the(tx, campaign, "campaign").content
    found = held.results(tx, campaign)
    grid, transcript = held.grid(tx, campaign), held.the(tx, campaign, "transcript").content
    service = held.reviews(tx, campaign).get(SERVICE, [])
    return export.Exported(
        head={
            "campaign": campaign,
            **{name: head[name] for name in ("title", "domain", "body", "state")},
            "grid_reference": grid.reference,
            "protocol_hash": transcript["body"]["protocol_hash"],
            "frame_root": transcript["body"]["frame"]["root"],
            "transcript_sha256": _digest(transcript),
        },
        grid=grid,
        results=found,
        cases=held.cases(tx, campaign),
        service=service[0][1] if service else (),
        findings=held.findings(tx, campaign),
        with_words=with_words,
    )


def _reported(held: Held, tx: ReadTx, campaign: str) -> Report:
    told = _exported(held, tx, campaign)
    return Report(
        campaign=campaign,
        title=str(told.head["title"]),
        body=str(told.head["body"]),
        state=State(told.head["state"]),
        is_draft=told.head["state"] not in _DECIDED,
        grid=told.grid,
        results=told.results,
        findings=told.findings,
        transcript_hash=str(told.head["transcript_sha256"]),
        protocol_hash=str(told.head["protocol_hash"]),
        frame_root=str(told.head["frame_root"]),
    )


def _questionnaires(held: Held, tx: ReadTx, campaign: str) -> dict[str, bytes]:
    """The grid and every review as FHIR R4, one Bundle of each."""
    grid, reviews, made = held.grid(tx, campaign), held.reviews(tx, campaign), []
    for one in held.rows.all(tx, campaign, "review"):
        case, auditor = one.content["case"], one.content["auditor"]
        level: Level = "service" if case == SERVICE else "case"
        answers = dict(reviews[case])[auditor]
        made.append(response_of(grid, level, answers, case=case, auditor=auditor, authored=one.created_at))
    bundles = {
        "questionnaires.fhir.json": [questionnaire_of(grid, "case"), questionnaire_of(grid, "service")],
        "responses.fhir.json": made,
    }
    return {name: _bundle(resources) for name, resources in bundles.items()}


def _bundle(resources: list[dict[str, Any]]) -> bytes:
    wrong = [said for one in resources for said in faults(one)]
    if wrong:
        raise Broken(
            f"a questionnaire is not FHIR R4: {wrong[0]}", code="questionnaire-structure", hint="a defect: report it"
        )
    entries = [{"resource": one} for one in resources]
    return export.told({"resourceType": "Bundle", "type": "collection", "entry": entries})


def _digest(transcript: Mapping[str, Any]) -> str:
    return sha256(canonical(transcript["body"], what="transcript")).hexdigest()


def _actor(facts: Facts) -> Actor:
    user = str(facts.get("user", ""))
    return Actor(
        role=fact(facts, "role"), name=fact(facts, "name"), via=f"command line, {user}" if user else "command line"
    )


def _drawn(stated: Any) -> Drawn:
    one = _mapping({"drawn": stated}, "drawn")
    chance = Chance(probability=Fraction(str(one["probability"])), error=float(one["error"]))
    names = ("unit", "stratum", "practitioner", "reason", "follows")
    return Drawn(**{name: str(one[name]) for name in names}, chance=chance)


def _finding(stated: Any) -> Finding:
    one = _mapping({"finding": stated}, "finding")
    words_of: dict[str, Any] = {name: fact(one, name) for name in ("id", "requirement", "origin", "text", "severity")}
    return Finding(**words_of, cites=tuple(_strings(one, "cites")))


def _mapping(facts: Facts, name: str) -> dict[str, Any]:
    value = facts.get(name)
    if not isinstance(value, dict):
        raise BadInput(
            f"{name} is no object", code="bad-fact", hint="see docs/peer-audit.md for the form of the file"
        )
    return value


def _strings(facts: Facts, name: str) -> list[str]:
    return texts(facts, name) if facts.get(name) else []


S = TypeVar("S", State, CaseState)


def _one_of(kind: type[S], word: str) -> S:
    try:
        return kind(word)
    except ValueError:
        raise BadInput(f"{word[:40]} is no state", code="bad-fact", hint=", ".join(kind)) from None
