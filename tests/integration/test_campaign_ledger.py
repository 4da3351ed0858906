"""Campaigns of peer audit on every engine: acts, versions, guards, and that nothing is altered unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.components import COMPONENTS
from sampler.campaign.conflict import Declaration
from sampler.campaign.drawn import drawn_of, practitioners_of
from sampler.campaign.lifecycle import CaseState, State
from sampler.draw.protocol import protocol_of
from sampler.grids.answers import Answer
from sampler.grids.findings import Finding
from sampler.ledger.acts import Acts
from sampler.ledger.held import SITE_ANSWER, Held
from sampler.ledger.reviews import Reviews
from sampler.ledger.rows import Actor, Rows
from security.clock import SystemClock
from security.errors import BadInput, Refused
from security.seal import Vault
from security.store.port import Store
from tests.contract.store_parts.engines import BOTH, fresh
from tests.support.peer_audit import NOW, Auditor, frame, grid, protocol, transcript

C = "C-2026-7"
SECRETARY = Actor(role="secretariat", name="s-1")
LEAD = Actor(role="lead-auditor", name="l-1")
DATA = Actor(role="site-data-manager", name="d-1")
ANNA, BERT = Actor(role="auditor", name="a-1"), Actor(role="auditor", name="a-2")
COMMISSION = Actor(role="commission", name="m-1")
SIGNED = {"site-lead": "h-1", "lead-auditor": "l-1"}


@dataclass
class Desk:
    store: Store
    held: Held
    acts: Acts
    reviews: Reviews

    async def do(self, act: Any, *args: Any, **more: Any) -> Any:
        return await self.store.write(lambda tx: act(tx, C, *args, now=NOW, **more))

    async def ask(self, question: Any, *args: Any) -> Any:
        return await self.store.read(lambda tx: question(tx, C, *args))


@pytest.fixture(params=BOTH)
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    store = await fresh(request.param, request).open(components=COMPONENTS)
    vault = await Vault.load(store, bytes(range(32)), ["site", "other"], SystemClock())
    held = Held(Rows(vault, "site"))
    acts = Acts(held)
    yield Desk(store, held, acts, Reviews(held, acts))
    await store.close()


async def opened(desk: Desk, **other: Any) -> None:
    await desk.do(desk.acts.open, title="Imagerie 2026", domain="RAD", body="G4", grid=grid(), actor=SECRETARY)
    document = protocol(**other)
    hashed = protocol_of(document).hash.hex()
    await desk.do(desk.acts.freeze, document, protocol_hash=hashed, signatures=SIGNED, actor=SECRETARY)


async def drawn(desk: Desk) -> list[str]:
    await opened(desk)
    whole = frame()
    await desk.do(desk.acts.frame, root=whole.root.hex(), strata=practitioners_of(whole), actor=DATA)
    made = transcript()
    cases = drawn_of(whole, made["body"], protocol_of(protocol()).strata)
    await desk.do(desk.acts.draw, made, cases, actor=LEAD)
    return [one.unit for one in cases]


async def in_review(desk: Desk) -> list[str]:
    cases = await drawn(desk)
    await desk.do(desk.acts.move, State.IN_REVIEW, actor=LEAD)
    for who in (ANNA, BERT, LEAD):
        await desk.do(desk.reviews.declare, Declaration(person=who.name), actor=who)
    for case in cases:
        for state in (CaseState.PREPARING, CaseState.READY):
            await desk.do(desk.acts.move_case, case, state, actor=DATA)
        await desk.do(desk.reviews.assign, case, [ANNA.name], actor=LEAD)
        await desk.do(desk.acts.move_case, case, CaseState.OPENED, actor=ANNA)
    return cases


async def answer(desk: Desk, case: str, answers: list[Answer], actor: Actor = ANNA) -> int:
    return await desk.do(desk.reviews.review, case, answers, leads=[LEAD.name], actor=actor)


async def test_a_campaign_from_draft_to_decided(desk):
    cases = await in_review(desk)
    assert len(cases) == 9
    for number, case in enumerate(cases):
        await answer(desk, case, Auditor(number).answers())
        await desk.do(desk.acts.move_case, case, CaseState.LOCKED, actor=LEAD)
    await answer(desk, "service", Auditor(99).answers("service"))
    finding = Finding(id="F-1", requirement="ORG-03", origin="document", text="no register", severity="major")
    await desk.do(desk.reviews.find, finding, actor=LEAD)
    found = await desk.ask(desk.held.results)
    assert (found.cases, found.population, found.nonconformities) == (9, 105, 1)
    assert {one.code: one.rate.cases for one in found.indicators}["DEM"] == 9
    for state in (State.REPORT_DRAFT, State.CONTRADICTORY):
        await desk.do(desk.acts.move, state, actor=LEAD)
    with pytest.raises(Refused, match="not yet COMMISSION"):
        await desk.do(desk.acts.move, State.COMMISSION, actor=LEAD)
    site = Actor(role="site-lead", name="h-1")
    await desk.do(desk.reviews.follow_up, SITE_ANSWER, {"text": "d'accord"}, actor=site)
    await desk.do(desk.acts.move, State.COMMISSION, actor=LEAD)
    with pytest.raises(Refused, match="not yet DECIDED"):
        await desk.do(desk.acts.move, State.DECIDED, actor=COMMISSION)
    members = ["m-1", "m-2", "m-3"]
    for name in members:
        sites = frozenset({"site-7"}) if name == "m-3" else frozenset()
        who = Actor(role="commission", name=name)
        await desk.do(desk.reviews.declare, Declaration(person=name, sites=sites), actor=who)
    word = {"severity": "minor", "motive": "registre en cours", "doctrine": "D-4", "members": members}
    with pytest.raises(Refused) as refused:
        await desk.do(desk.reviews.qualify, "F-1", "requalified", **word, quorum=3, actor=COMMISSION)
    assert refused.value.code == "no-quorum"
    await desk.do(desk.reviews.qualify, "F-1", "requalified", **word, quorum=2, actor=COMMISSION)
    await desk.do(desk.acts.move, State.DECIDED, actor=COMMISSION)
    (after,) = await desk.ask(desk.held.findings)
    assert (after.state, after.severity, after.final) == ("requalified", "major", "minor")
    held = await desk.ask(desk.held.rows.one, "finding", "F-1")
    assert (held.version, held.content["voters"]) == (2, ["m-1", "m-2"])
    assert await desk.ask(desk.held.rows.altered) == []


async def test_each_version_is_recorded_in_the_trail_with_its_digest(desk):
    await opened(desk)
    rows = await desk.store.read(lambda tx: tx.rows("SELECT * FROM campaign_row ORDER BY created_at, kind, version"))
    trail = await desk.store.read(
        lambda tx: tx.rows(
            "SELECT event, actor, detail FROM audit_record WHERE object_type = 'campaign' ORDER BY seq"
        )
    )
    assert {row["detail"] for row in trail} == {
        f"{row['kind']} {row['id']} {row['version']} sha256 {row['digest'].hex()}" for row in rows
    }
    assert [row["event"] for row in trail] == [
        "campaign.opened",
        "campaign.opened",
        "campaign.moved",
        "campaign.frozen",
    ]
    assert {row["actor"] for row in trail} == {"secretariat s-1"}


async def test_t54_a_corrected_review_is_a_new_version_and_both_stay(desk):
    case = (await in_review(desk))[0]
    assert await answer(desk, case, [Answer(item="CR-01", verdict="C")]) == 1
    told = [Answer(item="CR-01", verdict="NC", comment="x", evidence=("note:1",))]
    assert await answer(desk, case, told) == 2
    versions = await desk.ask(desk.held.rows.history, "review", f"{case}/{ANNA.name}")
    first = [next(one for one in held.content["answers"] if one["item"] == "CR-01")["verdict"] for held in versions]
    assert first == ["C", "NC"]
    reviews = await desk.ask(desk.held.reviews)
    assert [who for who, _ in reviews[case]] == [ANNA.name]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE campaign_row SET digest = :other WHERE kind = 'review'", "content"),
        ("DELETE FROM campaign_row WHERE kind = 'review'", "row-gone"),
        ("UPDATE campaign_row SET content = :other WHERE kind = 'review'", "unreadable"),
        (
            "DELETE FROM audit_record WHERE object_type = 'campaign' AND detail LIKE 'review %'",
            "no-record",
        ),
    ],
)
async def test_t54_a_review_altered_after_its_submission_is_found(desk, statement, reason):
    case = (await in_review(desk))[0]
    await answer(desk, case, [Answer(item="CR-01", verdict="C")])
    other = {"other": b"\x01" * 32} if ":other" in statement else {}
    assert await desk.store.write(lambda tx: tx.change(statement, **other)) == 1
    (found,) = await desk.ask(desk.held.rows.altered)
    assert (found.kind, found.id, found.version, found.reason) == ("review", f"{case}/{ANNA.name}", 1, reason)


async def test_a_row_whose_record_was_erased_at_the_end_of_its_retention_is_not_called_altered(desk):
    await opened(desk)
    sql = "UPDATE audit_record SET is_erased = 1, object_id = '', detail = '' WHERE object_type = 'campaign'"
    await desk.store.write(lambda tx: tx.change(sql))
    assert await desk.ask(desk.held.rows.altered) == []


async def test_t54_one_who_has_the_keys_and_writes_another_answer_is_found_by_the_trail(desk):
    case = (await in_review(desk))[0]
    await answer(desk, case, [Answer(item="CR-01", verdict="NC", comment="x", evidence=("note:1",))])
    rows = desk.held.rows
    id_ = f"{case}/{ANNA.name}"

    def forge(tx: Any) -> None:
        import hashlib
        import json

        from sampler.ledger.rows import _canonical, _place

        (held,) = rows.history(tx, C, "review", id_)
        content = json.loads(json.dumps(held.content).replace('"NC"', '"C"'))
        data = _canonical(content)
        tx.change(
            "UPDATE campaign_row SET digest = :digest, content = :content WHERE kind = 'review'",
            digest=hashlib.sha256(data).digest(),
            content=rows._vault.seal("site", _place(C, "review", id_, 1), data),
        )

    await desk.store.write(forge)
    (found,) = await desk.ask(rows.altered)
    assert (found.id, found.reason) == (id_, "record")


async def test_auditors_of_long_and_dotted_names_never_write_over_each_other(desk):
    cases = await drawn(desk)
    await desk.do(desk.acts.move, State.IN_REVIEW, actor=LEAD)
    people = [Actor(role="auditor", name="n" * 40 + end) for end in (".1", ".2")]
    for who in people:
        await desk.do(desk.reviews.declare, Declaration(person=who.name), actor=who)
    for state in (CaseState.PREPARING, CaseState.READY):
        await desk.do(desk.acts.move_case, cases[0], state, actor=DATA)
    await desk.do(desk.reviews.assign, cases[0], [who.name for who in people], actor=LEAD)
    await desk.do(desk.acts.move_case, cases[0], CaseState.OPENED, actor=people[0])
    for who in people:
        assert await answer(desk, cases[0], [Answer(item="CR-01", verdict="C")], who) == 1
    assert [who for who, _ in (await desk.ask(desk.held.reviews))[cases[0]]] == [who.name for who in people]
    with pytest.raises(BadInput) as refused:
        await desk.do(desk.reviews.declare, Declaration(person="a b"), actor=Actor(role="auditor", name="a b"))
    assert refused.value.code == "bad-id"


async def test_two_who_change_the_same_version_collide(desk):
    await opened(desk)
    head = await desk.ask(desk.held.the, "campaign")
    write = lambda tx: desk.held.rows.add(  # noqa: E731
        tx, C, "campaign", "it", dict(head.content), event="campaign.moved", actor=LEAD, now=NOW, after=head.version
    )
    await desk.store.write(write)
    with pytest.raises(Refused) as refused:
        await desk.store.write(write)
    assert refused.value.code == "changed-meanwhile"


async def test_what_is_refused_leaves_nothing_behind(desk):
    case = (await in_review(desk))[0]
    count = "SELECT (SELECT COUNT(*) FROM campaign_row) AS rows, (SELECT COUNT(*) FROM audit_record) AS records"
    before = await desk.store.read(lambda tx: dict(tx.row(count)))
    for actor, code in ((BERT, "not-assigned"), (DATA, "no-right"), (Actor(role="operator", name="o"), "no-right")):
        with pytest.raises(Refused) as refused:
            await answer(desk, case, [Answer(item="CR-01", verdict="C")], actor)
        assert refused.value.code == code
    with pytest.raises(BadInput) as broken:
        await answer(desk, case, [Answer(item="CR-01", verdict="NC")])
    assert broken.value.code == "answers-rules"
    assert await desk.store.read(lambda tx: dict(tx.row(count))) == before


async def test_t52_a_link_declared_later_closes_the_case(desk):
    case = (await in_review(desk))[0]
    await desk.do(desk.reviews.declare, Declaration(person=ANNA.name, sites=frozenset({"site-7"})), actor=ANNA)
    with pytest.raises(Refused) as refused:
        await answer(desk, case, [Answer(item="CR-01", verdict="C")])
    assert refused.value.code == "conflict-of-interest"
    with pytest.raises(Refused) as refused:
        await desk.do(desk.reviews.declare, Declaration(person=ANNA.name), actor=BERT)
    assert refused.value.code == "not-ones-own"


async def test_two_reviews_that_differ_are_arbitrated_before_the_case_is_locked(desk):
    cases = await drawn(desk)
    await desk.do(desk.acts.move, State.IN_REVIEW, actor=LEAD)
    for who in (ANNA, BERT):
        await desk.do(desk.reviews.declare, Declaration(person=who.name), actor=who)
    case = cases[0]
    for state in (CaseState.PREPARING, CaseState.READY):
        await desk.do(desk.acts.move_case, case, state, actor=DATA)
    await desk.do(desk.reviews.assign, case, [ANNA.name, BERT.name], actor=LEAD)
    await desk.do(desk.acts.move_case, case, CaseState.OPENED, actor=ANNA)
    await answer(desk, case, [Answer(item="CR-01", verdict="C")])
    await answer(desk, case, [Answer(item="CR-01", verdict="NC", comment="x", evidence=("note:1",))], BERT)
    with pytest.raises(Refused, match="not yet LOCKED"):
        await desk.do(desk.acts.move_case, case, CaseState.LOCKED, actor=LEAD)
    for state in (CaseState.ARBITRATION, CaseState.LOCKED):
        await desk.do(desk.acts.move_case, case, state, actor=LEAD)
    with pytest.raises(Refused) as refused:
        await answer(desk, case, [Answer(item="CR-01", verdict="C")])
    assert refused.value.code == "review-closed"


async def test_a_replaced_case_leaves_and_the_next_one_enters(desk):
    cases = await drawn(desk)
    out = cases[0]
    wish = [{"stratum": "CT", "out": out, "reason": "IMAGES_UNAVAILABLE"}]
    made = transcript(replacements=wish)
    after = drawn_of(frame(), made["body"], protocol_of(protocol()).strata)
    with pytest.raises(Refused) as refused:
        await desk.do(desk.acts.replace, made, after, actor=ANNA)
    assert refused.value.code == "no-right"
    await desk.do(desk.acts.replace, made, after, actor=LEAD)
    held = {one.id: one for one in await desk.ask(desk.held.cases)}
    (new,) = set(held) - set(cases)
    assert (held[out].state, held[out].reason, held[new].state) == ("REPLACED", "IMAGES_UNAVAILABLE", "SELECTED")
    assert held[new].stratum == "CT"
    other = transcript(protocol(), replacements=wish)
    other["body"]["seed"] = "00" * 32
    with pytest.raises(Refused) as refused:
        await desk.do(desk.acts.replace, other, after, actor=LEAD)
    assert refused.value.code == "other-draw"


async def test_a_draw_of_another_campaign_frame_protocol_or_number_is_not_taken(desk):
    await opened(desk)
    whole = frame()
    await desk.do(desk.acts.frame, root=whole.root.hex(), strata=practitioners_of(whole), actor=DATA)
    for made in (
        transcript(protocol(campaign="C-other")),
        transcript(protocol(objective="discovery")),
        transcript(draw_no=2),
    ):
        with pytest.raises(Refused) as refused:
            await desk.do(desk.acts.draw, made, [], actor=LEAD)
        assert refused.value.code == "other-draw"
    with pytest.raises(Refused) as refused:
        await desk.do(desk.acts.frame, root="00", strata=practitioners_of(whole), actor=DATA)
    assert refused.value.code == "frame-exists"


async def test_a_voided_draw_goes_back_to_the_frame_under_the_next_number(desk):
    await opened(desk)
    whole = frame()
    await desk.do(desk.acts.frame, root=whole.root.hex(), strata=practitioners_of(whole), actor=DATA)
    for state in (State.DRAW_VOIDED, State.FRAME_COMMITTED):
        await desk.do(desk.acts.move, state, actor=LEAD)
    made = transcript(draw_no=2)
    await desk.do(desk.acts.draw, made, drawn_of(whole, made["body"], protocol_of(protocol()).strata), actor=LEAD)
    assert await desk.ask(desk.held.state) is State.DRAWN


async def test_a_suspended_campaign_resumes_where_it_was_and_nowhere_else(desk):
    await drawn(desk)
    await desk.do(desk.acts.move, State.SUSPENDED, actor=LEAD)
    with pytest.raises(Refused) as refused:
        await desk.do(desk.acts.move, State.IN_REVIEW, actor=LEAD)
    assert refused.value.code == "guard"
    await desk.do(desk.acts.move, State.DRAWN, actor=LEAD)
    assert await desk.ask(desk.held.state) is State.DRAWN


async def test_a_protocol_is_signed_by_two_persons_in_two_roles(desk):
    await desk.do(desk.acts.open, title="t", domain="RAD", body="b", grid=grid(), actor=SECRETARY)
    for signed, code in (
        ({"site-lead": "x", "lead-auditor": "x"}, "same-person"),
        ({"site-lead": "x"}, "guard"),
        ({"site-lead": "x", "auditor": "y"}, "no-right"),
    ):
        with pytest.raises(Refused) as refused:
            await desk.do(desk.acts.freeze, protocol(), protocol_hash="0", signatures=signed, actor=SECRETARY)
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        await desk.do(desk.acts.freeze, protocol(grid="RT-1"), protocol_hash="0", signatures=SIGNED, actor=SECRETARY)
    assert refused.value.code == "other-grid"


async def test_one_tenant_knows_nothing_of_anothers_campaigns(desk):
    await opened(desk)
    other = Held(Rows(desk.held.rows._vault, "other"))
    assert await desk.store.read(other.rows.campaigns) == []
    with pytest.raises(Refused) as refused:
        await desk.store.read(lambda tx: other.state(tx, C))
    assert refused.value.code == "unknown-campaign"


async def test_no_content_lies_in_clear(desk):
    case = (await in_review(desk))[0]
    told = [Answer(item="CR-07", verdict="NC", comment="zzz-marker", evidence=("note:1",))]
    await answer(desk, case, told)
    rows = await desk.store.read(lambda tx: tx.rows("SELECT content FROM campaign_row"))
    trail = await desk.store.read(lambda tx: tx.rows("SELECT detail FROM audit_record"))
    assert not any(b"zzz-marker" in row["content"] for row in rows)
    assert not any("zzz-marker" in row["detail"] for row in trail)


def test_the_ledger_changes_and_deletes_nothing():
    from importlib import resources

    sources = [one.read_text() for one in resources.files("sampler.ledger").iterdir() if one.name.endswith(".py")]
    assert not any(word in source for source in sources for word in ("UPDATE campaign", "DELETE FROM"))
