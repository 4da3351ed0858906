"""States, guards, rights and conflicts of a campaign of peer audit."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.campaign.conflict import Declaration, require_assigned, require_free, voting
from sampler.campaign.lifecycle import (
    CASE_STEPS,
    DONE,
    SHOWN,
    STEPS,
    CaseFacts,
    CaseState,
    Facts,
    State,
    case_step,
    step,
)
from sampler.campaign.rights import RIGHTS, Extent, Right, extent, require
from security.errors import Refused
from security.policy import PEOPLE, Role

ORDER = [
    "DRAFT", "PROTOCOL_FROZEN", "FRAME_COMMITTED", "SEED_REVEALED", "DRAWN", "IN_REVIEW", "REPORT_DRAFT",
    "CONTRADICTORY", "COMMISSION", "DECIDED", "FOLLOW_UP", "CLOSED",
]  # fmt: skip
READY = Facts(
    signatures=frozenset({"site-lead", "lead-auditor"}),
    has_frame=True,
    committed=frozenset({"auditor", "site"}),
    revealed=frozenset({"auditor", "site"}),
    is_transcript_signed=True,
    cases=(CaseState.LOCKED, CaseState.REPLACED, CaseState.WITHDRAWN),
    has_site_answered=True,
)


def test_a_campaign_goes_its_way_from_draft_to_closed():
    for source, target in itertools.pairwise(ORDER):
        assert step(State(source), State(target), READY).target == target


@pytest.mark.parametrize(
    ("source", "target", "facts"),
    [
        ("DRAFT", "PROTOCOL_FROZEN", {"signatures": frozenset({"site-lead"})}),
        ("DRAFT", "PROTOCOL_FROZEN", {"signatures": frozenset({"lead-auditor", "secretariat"})}),
        ("PROTOCOL_FROZEN", "FRAME_COMMITTED", {"has_frame": False}),
        ("FRAME_COMMITTED", "SEED_REVEALED", {"committed": frozenset({"site"}), "revealed": frozenset({"site"})}),
        ("FRAME_COMMITTED", "SEED_REVEALED", {"revealed": frozenset({"site"})}),
        ("SEED_REVEALED", "DRAWN", {"is_transcript_signed": False}),
        ("DRAWN", "IN_REVIEW", {"is_transcript_signed": False}),
        ("DRAWN", "IN_REVIEW", {"cases": ()}),
        *(
            ("IN_REVIEW", "REPORT_DRAFT", {"cases": (CaseState.LOCKED, state)})
            for state in CaseState
            if state not in DONE
        ),
        ("IN_REVIEW", "REPORT_DRAFT", {"cases": ()}),
        ("CONTRADICTORY", "COMMISSION", {"has_site_answered": False}),
        ("COMMISSION", "DECIDED", {"undecided": 1}),
        ("FOLLOW_UP", "CLOSED", {"open_follow_ups": 1}),
        ("SEED_REVEALED", "DRAW_VOIDED", {"is_transcript_signed": True}),
        ("SUSPENDED", "IN_REVIEW", {"suspended_from": State.DRAWN}),
    ],
)
def test_a_step_whose_guard_is_open_is_refused_with_what_is_missing(source, target, facts):
    with pytest.raises(Refused) as refused:
        step(State(source), State(target), replace(READY, **facts))
    assert refused.value.code == "guard"
    assert refused.value.hint.startswith("first: ")


def test_no_other_step_exists():
    onward = {(one, two) for one, two in itertools.pairwise(ORDER)}
    aside = {
        *((one, "SUSPENDED") for one in ORDER[:-1]),
        *(("SUSPENDED", one) for one in ORDER[:-1]),
        *((one, "CANCELLED") for one in (*ORDER[:9], "DRAW_VOIDED", "SUSPENDED")),
        ("FRAME_COMMITTED", "DRAW_VOIDED"),
        ("SEED_REVEALED", "DRAW_VOIDED"),
        ("DRAW_VOIDED", "FRAME_COMMITTED"),
    }
    assert {(str(one.source), str(one.target)) for one in STEPS} == onward | aside
    for source in State:
        for target in State:
            if (source, target) not in onward | aside:
                with pytest.raises(Refused) as refused:
                    step(source, target, READY)
                assert refused.value.code == "no-such-step"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(list(State)), max_size=30), st.data())
def test_whatever_is_asked_no_case_is_shown_before_a_signed_transcript(asked, data):
    state, facts, is_signed = State.DRAFT, Facts(), False
    for target in asked:
        facts = replace(
            facts,
            signatures=data.draw(st.sampled_from([frozenset(), READY.signatures])),
            has_frame=data.draw(st.booleans()),
            committed=data.draw(st.sampled_from([frozenset(), READY.committed])),
            revealed=data.draw(st.sampled_from([frozenset(), READY.revealed])),
            is_transcript_signed=is_signed or data.draw(st.booleans()),
            cases=data.draw(st.sampled_from([(), (CaseState.OPENED,), READY.cases])),
            suspended_from=state if state is not State.SUSPENDED else facts.suspended_from,
        )
        try:
            step(state, target, facts)
        except Refused:
            continue
        if target is State.DRAWN:
            is_signed = True
        if target is State.SUSPENDED:
            facts = replace(facts, suspended_from=state)
        state = target
        assert state not in SHOWN or is_signed


def test_cases_are_shown_in_review_and_in_the_contradictory_step_alone():
    assert {"IN_REVIEW", "CONTRADICTORY"} == SHOWN
    for campaign in State:
        facts = CaseFacts(campaign=campaign, is_transcript_signed=True, has_auditor=True)
        if campaign in SHOWN:
            case_step(CaseState.ASSIGNED, CaseState.OPENED, facts)
        else:
            with pytest.raises(Refused):
                case_step(CaseState.ASSIGNED, CaseState.OPENED, facts)


@pytest.mark.parametrize(
    ("source", "target", "facts"),
    [
        ("PREPARING", "READY", {"is_site_checked": False}),
        ("READY", "ASSIGNED", {"has_auditor": False}),
        ("ASSIGNED", "OPENED", {"is_transcript_signed": False}),
        ("OPENED", "REVIEWED", {"reviews": 0}),
        ("REVIEWED", "LOCKED", {"disagreements": 2}),
    ],
)
def test_a_case_waits_for_what_guards_its_step(source, target, facts):
    good = CaseFacts(
        campaign=State.IN_REVIEW, is_transcript_signed=True, is_site_checked=True, has_auditor=True, reviews=1
    )
    case_step(CaseState(source), CaseState(target), good)
    with pytest.raises(Refused) as refused:
        case_step(CaseState(source), CaseState(target), replace(good, **facts))
    assert refused.value.code == "guard"


def test_a_locked_replaced_or_withdrawn_case_stays_so():
    for state in DONE:
        assert CASE_STEPS[state] == ()
        for target in CaseState:
            with pytest.raises(Refused) as refused:
                case_step(state, target, CaseFacts(campaign=State.IN_REVIEW))
            assert refused.value.code == "no-such-step"


def test_the_table_of_rights_is_the_published_one():
    site, data, lead, auditor = Role.SITE_LEAD, Role.SITE_DATA_MANAGER, Role.LEAD_AUDITOR, Role.AUDITOR
    assert extent(site, Right.SIGN_PROTOCOL)
    assert extent(lead, Right.SIGN_PROTOCOL)
    assert extent(Role.SECRETARIAT, Right.WRITE_PROTOCOL)
    assert not extent(Role.SECRETARIAT, Right.SIGN_PROTOCOL)
    assert set(RIGHTS[Right.BUILD_FRAME]) == {data}
    assert set(RIGHTS[Right.SIGN_FRAME]) == {site}
    assert set(RIGHTS[Right.CONTRIBUTE_SEED]) == {site, lead, Role.SECRETARIAT}
    assert set(RIGHTS[Right.RE_IDENTIFY]) == {site, data}
    assert RIGHTS[Right.READ_CASE] == {
        site: Extent.OWN, data: Extent.OWN, lead: Extent.CAMPAIGN, auditor: Extent.ASSIGNED,
        Role.COMMISSION: Extent.REFERRED,
    }  # fmt: skip
    assert set(RIGHTS[Right.ANSWER_CASES]) == {lead, auditor}
    assert set(RIGHTS[Right.ASK_REPLACEMENT]) == {site, auditor}
    assert set(RIGHTS[Right.APPROVE_REPLACEMENT]) == {lead}
    assert set(RIGHTS[Right.QUALIFY_FINALLY]) == {Role.COMMISSION}
    assert extent(Role.STEERING, Right.READ_AGGREGATES) is Extent.K_RULE
    assert set(RIGHTS[Right.READ_PRACTITIONERS]) == {site, lead, Role.COMMISSION}


def test_the_operator_of_the_gateway_sees_and_does_nothing_of_a_case():
    assert {right for right in Right if extent(Role.OPERATOR, right)} == {Right.OPERATE}
    with pytest.raises(Refused) as refused:
        require(Role.OPERATOR, Right.READ_CASE)
    assert refused.value.code == "no-right"


def test_every_right_is_somebodys_and_nobody_else_is_a_machine():
    assert set(RIGHTS) == set(Right)
    assert all(RIGHTS[right] and set(RIGHTS[right]) <= PEOPLE for right in Right)


NAMES = st.sampled_from(["a1", "a2", "a3"])
SITES = st.frozensets(st.sampled_from(["s1", "s2"]))
WHO = st.frozensets(st.sampled_from(["p1", "p2", "p3"]))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(lambda n, s, p: Declaration(person=n, sites=s, practitioners=p), NAMES, SITES, WHO), max_size=4
    ),
    NAMES,
    st.sampled_from(["s1", "s2"]),
    st.sampled_from(["p1", "p2", "p3"]),
)
def test_t52_nobody_sees_a_case_they_have_a_link_with_or_declared_nothing_for(declared, person, site, practitioner):
    theirs = [one for one in declared if one.person == person]
    is_free = bool(theirs) and not any(site in one.sites or practitioner in one.practitioners for one in theirs)
    if is_free:
        require_free(person, declared, site=site, practitioner=practitioner)
        return
    with pytest.raises(Refused) as refused:
        require_free(person, declared, site=site, practitioner=practitioner)
    assert refused.value.code == ("conflict-of-interest" if theirs else "no-declaration")


def test_t52_a_case_is_seen_by_whom_it_is_assigned_to():
    require_assigned("a1", {"a1", "a2"})
    with pytest.raises(Refused) as refused:
        require_assigned("a3", {"a1", "a2"})
    assert refused.value.code == "not-assigned"


def test_a_member_linked_to_the_site_neither_votes_nor_counts():
    declared = [Declaration(person="m1"), Declaration(person="m2", sites=frozenset({"s1"})), Declaration(person="m3")]
    assert voting(["m1", "m2", "m3", "m4", "m1"], declared, site="s1", quorum=2) == ("m1", "m3")
    with pytest.raises(Refused) as refused:
        voting(["m1", "m2"], declared, site="s1", quorum=2)
    assert refused.value.code == "no-quorum"
