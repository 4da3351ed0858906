"""The one policy: who may do what, where, for what purpose. Expected values are worked by hand from the role list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dimse.access import ACTIONS, refusal
from gateway.dimse.command import Field, Status
from gateway.dimse.negotiation import Terms
from gateway.dimse.services import Admitted
from gateway.hl7.senders import Senders
from security.policy import (
    INSTALLATION,
    MACHINES,
    NOBODY,
    PEOPLE,
    TABLE,
    Action,
    Allow,
    Deny,
    Opens,
    Purpose,
    Reason,
    Resource,
    Role,
    Subject,
    Zone,
    decide,
)
from tests.support.access import MISSING, PAGE, entries, page

O, I, S = Role.OPERATOR, Role.IDENTITY_OFFICER, Role.SECURITY_OFFICER  # noqa: E741


def ask(action, *roles, zone=Zone.OPS, purpose=Purpose.OPERATION, tenant="", resource=INSTALLATION, **more):
    subject = Subject(name="jeanne", roles=frozenset(roles), tenant=tenant, **more)
    return decide(subject, purpose, action, resource, zone)


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (Action.EXAM_READ, {O, I}),
        (Action.EXAM_RETRY, {O, I}),
        (Action.EXAM_WITHDRAW, {O, I}),
        (Action.IDENTITY_READ, {I}),
        (Action.EXAM_RELEASE, {I}),
        (Action.TENANT_PAUSE, {O}),
        (Action.ACCOUNT_READ, {S}),
        (Action.ACCOUNT_CHANGE, {S}),
        (Action.AUDIT_READ, {S}),
        (Action.METRICS_READ, {O, S, Role.SERVICE}),
        (Action.PACS_NUDGE, {Role.PACS_PEER, Role.SERVICE}),
        (Action.CONSENT_GIVE, {S, I, Role.SITE_LEAD, Role.SITE_DATA_MANAGER}),
    ],
)
def test_t46_each_action_of_the_console_is_for_these_roles_alone(action, allowed):
    judged = {role for role in Role if isinstance(ask(action, role, is_fresh=True), Allow)}
    assert judged == allowed


def test_t46_an_operator_never_reads_pixels_nor_cases_in_any_zone_for_any_purpose():
    for action in (Action.IMAGE_READ, Action.CASE_READ, Action.CASE_REIDENTIFY):
        for zone in Zone:
            for purpose in Purpose:
                judged = ask(action, O, S, zone=zone, purpose=purpose, is_local=True, is_fresh=True, seconded_by="x")
                assert isinstance(judged, Deny), (action, zone, purpose)


def test_t46_who_coordinates_or_audits_cannot_re_identify():
    for role in (Role.LEAD_AUDITOR, Role.AUDITOR, Role.COMMISSION, Role.SECRETARIAT, Role.STEERING):
        judged = ask(Action.CASE_REIDENTIFY, role, purpose=Purpose.PEER_AUDIT, is_fresh=True, seconded_by="x")
        assert judged == Deny(reason=Reason.ROLE)


@pytest.mark.parametrize(
    ("action", "role", "purpose"),
    [
        (Action.KEYS_EXPORT, S, Purpose.OPERATION),
        (Action.UNPUBLISH_ALL, I, Purpose.OPERATION),
        (Action.CASE_REIDENTIFY, Role.SITE_LEAD, Purpose.PEER_AUDIT),
    ],
)
def test_t46_export_of_keys_unpublish_all_and_re_identification_take_two_persons(action, role, purpose):
    alone = ask(action, role, purpose=purpose, is_fresh=True)
    with_oneself = ask(action, role, purpose=purpose, is_fresh=True, seconded_by="jeanne")
    assert alone == with_oneself == Deny(reason=Reason.SECOND_PERSON)
    assert ask(action, role, purpose=purpose, is_fresh=True, seconded_by="paul") == Allow(role=role)
    assert ask(action, role, purpose=purpose, seconded_by="paul") == Deny(reason=Reason.STEP_UP)


def test_t47_breaking_the_glass_opens_identities_to_an_operator_and_nothing_else():
    opened = {
        action
        for action in Action
        for zone in Zone
        if isinstance(judged := ask(action, O, zone=zone, purpose=Purpose.BREAK_GLASS, is_fresh=True), Allow)
        and judged.by_glass
    }
    assert opened == {Action.IDENTITY_READ}
    assert ask(Action.IDENTITY_READ, O) == Deny(reason=Reason.ROLE)
    assert ask(Action.IDENTITY_READ, S, purpose=Purpose.BREAK_GLASS) == Deny(reason=Reason.ROLE)


def test_t46_an_action_without_a_rule_is_denied_to_everybody():
    everything = Subject(name="x", roles=frozenset(Role), is_local=True, is_fresh=True, seconded_by="y")
    judged = decide(everything, Purpose.OPERATION, Action.EXAM_READ, INSTALLATION, Zone.OPS, table={})
    assert judged == Deny(reason=Reason.NO_RULE)


def test_t46_every_action_has_a_rule():
    assert set(TABLE) == set(Action)


def test_t63_no_action_of_the_console_is_possible_in_another_zone():
    for action in (Action.EXAM_READ, Action.IDENTITY_READ, Action.TENANT_PAUSE, Action.METRICS_READ):
        for zone in set(Zone) - {Zone.OPS}:
            assert ask(action, *Role, zone=zone, is_local=True) == Deny(reason=Reason.ZONE)


def test_t28_another_legal_entitys_exam_is_denied_and_the_own_one_is_not():
    own, other = Resource(tenant="a", id="1.2"), Resource(tenant="b", id="1.2")
    assert ask(Action.EXAM_READ, O, tenant="a", resource=own) == Allow(role=O)
    assert ask(Action.EXAM_READ, O, tenant="a", resource=other) == Deny(reason=Reason.TENANT)
    assert ask(Action.EXAM_READ, O, resource=other) == Allow(role=O)


def test_ff44_nothing_but_health_and_public_pages_is_open_to_nobody():
    opened = {
        a for a in Action for z in Zone if isinstance(decide(NOBODY, Purpose.OPERATION, a, INSTALLATION, z), Allow)
    }
    assert opened == {Action.HEALTH_READ, Action.PAGE_OPEN}


def test_this_machine_reads_figures_sends_reports_and_orders_but_sees_no_exam():
    local = Subject(is_local=True)
    opened = {
        a for a in Action for z in Zone if isinstance(decide(local, Purpose.OPERATION, a, INSTALLATION, z), Allow)
    }
    assert opened == {
        Action.HEALTH_READ, Action.PAGE_OPEN, Action.METRICS_READ, Action.PACS_NUDGE, Action.INDEX_USE,
        Action.HL7_SEND, Action.HOST_ORDER,
    }  # fmt: skip


def test_machines_and_people_share_no_role():
    assert set(Role) == MACHINES | PEOPLE
    assert not MACHINES & PEOPLE


@settings(max_examples=200)
@given(
    subject=st.builds(
        Subject,
        name=st.sampled_from(["", "a", "b"]),
        roles=st.frozensets(st.sampled_from(Role)),
        tenant=st.sampled_from(["", "t", "u"]),
        is_local=st.booleans(),
        is_fresh=st.booleans(),
        seconded_by=st.sampled_from(["", "a", "b"]),
    ),
    purpose=st.sampled_from(Purpose),
    action=st.sampled_from(Action),
    tenant=st.sampled_from(["", "t", "u"]),
    zone=st.sampled_from(Zone),
    fewer=st.frozensets(st.sampled_from(Role)),
)
def test_t46_taking_roles_away_never_opens_anything(subject, purpose, action, tenant, zone, fewer):
    less = Subject(
        name=subject.name,
        roles=subject.roles - fewer,
        tenant=subject.tenant,
        is_local=subject.is_local,
        is_fresh=subject.is_fresh,
        seconded_by=subject.seconded_by,
    )
    resource = Resource(tenant=tenant)
    if isinstance(decide(less, purpose, action, resource, zone), Allow):
        assert isinstance(decide(subject, purpose, action, resource, zone), Allow)


# -- every way in --------------------------------------------------------------------------------------------------


async def test_t46_every_route_and_service_is_an_action_that_its_zone_knows():
    """A route somebody adds without thinking of who may use it must break this test."""
    found = entries()
    assert len(found) > 40
    assert [one for one in found if one.action is None] == []
    assert [one for one in found if one.zone not in TABLE[one.action].zones] == []
    assert MISSING not in page(found)


async def test_t46_the_public_routes_are_few():
    public = {one.what for one in entries() if TABLE[one.action].opens is Opens.EVERYBODY and "HEAD" not in one.what}
    assert public == {
        "GET /live", "GET /ready", "GET /", "GET /console", "GET /console/static/{name}", "GET /console/accessibility",
        "GET /console/login", "POST /console/login", "POST /console/login/certificate", "GET /console/enrol",
        "POST /console/enrol", "POST /console/enrol/finish", "GET /console/login/{provider}",
        "GET /console/login/{provider}/back", "GET /console/login/{provider}/enter", "GET /console/login/{provider}/out",
    }  # fmt: skip


async def test_t46_the_page_of_who_may_do_what_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == page(entries()), "run: python -m tests.support.access"


# -- DIMSE, MLLP ---------------------------------------------------------------------------------------------------


def test_t46_a_pacs_peer_may_ask_for_every_service_and_a_peer_without_the_role_for_none():
    pacs = Admitted(name="modality", terms=Terms(stores=True))
    other = Admitted(name="modality", terms=Terms(stores=True), roles=frozenset({Role.GATEWAY_PEER}))
    assert {refusal(pacs, field) for field in ACTIONS} == {Status.SUCCESS}
    assert {refusal(other, field) for field in ACTIONS} == {Status.NOT_AUTHORIZED}


def test_t46_a_command_that_is_no_action_is_performed_for_nobody():
    pacs = Admitted(name="modality", terms=Terms(stores=True))
    for field in set(Field) - set(ACTIONS):
        assert refusal(pacs, field) == Status.UNRECOGNIZED_OPERATION == 0x0211


@pytest.mark.parametrize(
    ("networks", "address", "admitted"),
    [
        ((), "127.0.0.1", True),
        ((), "::1", True),
        ((), "192.0.2.7", False),
        (("192.0.2.0/24",), "192.0.2.7", True),
        (("192.0.2.0/24",), "192.0.3.7", False),
        (("2001:db8::/32",), "2001:db8::7", True),
        (("192.0.2.7",), "", False),
        (("192.0.2.7",), "fe80::1%eth0", False),
    ],
)
def test_t63_hl7_comes_from_this_machine_and_from_the_networks_that_are_named(networks, address, admitted):
    assert Senders(tenant="site", networks=networks).admit(address) is admitted
