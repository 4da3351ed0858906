"""Who may do what, where: one table in front of every HTTP route, every DIMSE service and every HL7 message.

``decide(subject, purpose, action, resource, zone)`` is the only judge (T28, T46). Pure: no clock, no store; whoever
asks brings a subject whose facts (roles, fresh proof, second person) were established at the edge.

Invariants:

* deny by default: an action without a rule is denied to everybody, also to itself in another zone;
* no rule and no setting opens an action to everybody that shows or changes an exam;
* a subject of one legal entity never reaches another's resource;
* what needs two persons is denied to the second when it is the first;
* breaking the glass opens only what a rule says, to the roles it says, and every such ``Allow`` says so (T47).

Leaves to others: who the subject is (accounts, certificates, tokens), what is told to the person, the audit record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a subject is at work here; the one list for policy, pages, tokens and audit."""

    OPERATOR = "operator"
    SECURITY_OFFICER = "security-officer"
    IDENTITY_OFFICER = "identity-officer"
    RADIOLOGIST = "radiologist"
    PACS_PEER = "pacs-peer"
    GATEWAY_PEER = "gateway-peer"
    INDEX_PEER = "index-peer"
    SITE_LEAD = "site-lead"
    SITE_DATA_MANAGER = "site-data-manager"
    LEAD_AUDITOR = "lead-auditor"
    AUDITOR = "auditor"
    COMMISSION = "commission"
    SECRETARIAT = "secretariat"
    STEERING = "steering"
    SERVICE = "service"


MACHINES: Final = frozenset({Role.PACS_PEER, Role.GATEWAY_PEER, Role.INDEX_PEER, Role.SERVICE})
"""Roles of systems; every other role is a person's."""
PEOPLE: Final = frozenset(Role) - MACHINES


class Zone(StrEnum):
    """A network zone with listeners of its own; ``host`` is the machine itself (commands beside the database)."""

    PACS = "pacs"
    PEERS = "peers"
    CLINIC = "clinic"
    AUDIT = "audit"
    OPS = "ops"
    HOST = "host"


class Purpose(StrEnum):
    """Why it is asked for."""

    OPERATION = "operation"  # running the service
    TREATMENT = "treatment"  # care of the patient
    PEER_AUDIT = "peer-audit"  # sampled quality review
    BREAK_GLASS = "break-glass"  # an emergency, with a reason code, for a few hours at most


class Action(StrEnum):
    """What may be asked for. The word before the dot is the kind of resource."""

    HEALTH_READ = "health.read"
    METRICS_READ = "metrics.read"
    PAGE_OPEN = "page.open"
    SESSION_KEEP = "session.keep"
    SESSION_PROVE = "session.prove"
    PASSWORD_CHANGE = "password.change"  # noqa: S105  an action, not a password
    EXAM_READ = "exam.read"
    EXAM_RETRY = "exam.retry"
    EXAM_WITHDRAW = "exam.withdraw"
    EXAM_REPUBLISH = "exam.republish"
    EXAM_RELEASE = "exam.release"
    IDENTITY_READ = "identity.read"
    EXCHANGE_REVEAL = "exchange.reveal"
    TENANT_PAUSE = "tenant.pause"
    ACCOUNT_READ = "account.read"
    ACCOUNT_CHANGE = "account.change"
    GLASS_BREAK = "glass.break"
    CONSENT_READ = "consent.read"
    CONSENT_ASK = "consent.ask"
    CONSENT_GIVE = "consent.give"
    KEYS_EXPORT = "keys.export"
    UNPUBLISH_ALL = "exams.unpublish-all"
    CASE_REIDENTIFY = "case.re-identify"
    CASE_READ = "case.read"
    IMAGE_READ = "image.read"
    AUDIT_READ = "audit.read"
    INDEX_USE = "index.use"
    PACS_NUDGE = "pacs.nudge"
    DICOM_ECHO = "dicom.echo"
    DICOM_STORE = "dicom.store"
    DICOM_FIND = "dicom.find"
    DICOM_RETRIEVE = "dicom.retrieve"
    DICOM_NOTIFY = "dicom.notify"
    HL7_SEND = "hl7.send"
    HOST_ORDER = "host.order"


class Reason(StrEnum):
    """Why not; the order in which they are looked for."""

    NO_RULE = "no-rule"
    ZONE = "other-zone"
    NOT_SIGNED_IN = "not-signed-in"
    ROLE = "role"
    PURPOSE = "purpose"
    TENANT = "other-tenant"
    STEP_UP = "step-up"
    SECOND_PERSON = "second-person"


class Opens(StrEnum):
    """Whom a rule lets in beside its roles."""

    EVERYBODY = "everybody"
    SIGNED_IN = "signed-in"
    THIS_MACHINE = "this-machine"
    ROLES = "roles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who asks.

    ``name``: of account, peer or service, "" for nobody. ``tenant``: the one legal entity it belongs to, "" for the
    whole installation. ``is_local``: it speaks from this machine. ``is_fresh``: it proved itself minutes ago.
    ``seconded_by``: who else asked for exactly this.
    """

    name: str = ""
    roles: frozenset[Role] = frozenset()
    tenant: str = ""
    is_local: bool = False
    is_fresh: bool = False
    seconded_by: str = ""


NOBODY: Final = Subject()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What is asked for. ``tenant``: whose it is, "" for the installation's; ``id``: which one, "" for any."""

    tenant: str = ""
    id: str = ""


INSTALLATION: Final = Resource()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """It may be done. ``role``: the one that allows it, None for what needs none; ``by_glass``: only because the
    glass was broken, which is recorded under a code of its own and alarmed."""

    role: Role | None
    by_glass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """It may not be done."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Who was not let in, for the audit trail.

    ``reason``: a code of ours; ``actor``: the name of a subject that proved it, "" for nobody; ``action``: "" when
    nothing was asked for yet; ``event``: under which the trail keeps it.
    """

    zone: Zone
    reason: str
    action: str = ""
    actor: str = ""
    address: str = ""
    tenant: str = ""
    event: str = "access.denied"


Tell = Callable[[Refusal], None]
"""Takes a refusal on its way into the audit trail."""


def untold(_refusal: Refusal) -> None:
    """Of a door without a trail: of tests and of the laboratory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of the table.

    ``purposes``: for which it may be asked. ``step_up``: only after a proof minutes old. ``two_persons``: only when
    another one asked for it too. ``glass``: roles to which breaking the glass opens it.
    """

    zones: frozenset[Zone]
    roles: frozenset[Role] = frozenset()
    opens: Opens = Opens.ROLES
    purposes: frozenset[Purpose] = frozenset({Purpose.OPERATION})
    step_up: bool = False
    two_persons: bool = False
    glass: frozenset[Role] = frozenset()


def _rule(
    *zones: Zone,
    roles: tuple[Role, ...] = (),
    opens: Opens = Opens.ROLES,
    step_up: bool = False,
    two_persons: bool = False,
) -> Rule:
    return Rule(zones=frozenset(zones), roles=frozenset(roles), opens=opens, step_up=step_up, two_persons=two_persons)


_HTTP: Final = (Zone.PEERS, Zone.CLINIC, Zone.AUDIT, Zone.OPS)
_PAGES: Final = (Zone.CLINIC, Zone.AUDIT, Zone.OPS)
_CONSENTERS: Final = (Role.SECURITY_OFFICER, Role.IDENTITY_OFFICER, Role.SITE_LEAD, Role.SITE_DATA_MANAGER)

TABLE: Final[Mapping[Action, Rule]] = {
    # every zone of pages
    Action.HEALTH_READ: _rule(*_HTTP, opens=Opens.EVERYBODY),
    Action.PAGE_OPEN: _rule(*_PAGES, opens=Opens.EVERYBODY),
    Action.SESSION_KEEP: _rule(*_PAGES, opens=Opens.SIGNED_IN),
    Action.SESSION_PROVE: _rule(*_PAGES, opens=Opens.SIGNED_IN),
    Action.PASSWORD_CHANGE: _rule(*_PAGES, opens=Opens.SIGNED_IN, step_up=True),
    # ops: the console
    Action.METRICS_READ: _rule(
        Zone.OPS, roles=(Role.OPERATOR, Role.SECURITY_OFFICER, Role.SERVICE), opens=Opens.THIS_MACHINE
    ),
    Action.PACS_NUDGE: _rule(Zone.OPS, roles=(Role.PACS_PEER, Role.SERVICE), opens=Opens.THIS_MACHINE),
    Action.EXAM_READ: _rule(Zone.OPS, roles=(Role.OPERATOR, Role.IDENTITY_OFFICER)),
    Action.EXAM_RETRY: _rule(Zone.OPS, roles=(Role.OPERATOR, Role.IDENTITY_OFFICER)),
    Action.EXAM_WITHDRAW: _rule(Zone.OPS, roles=(Role.OPERATOR, Role.IDENTITY_OFFICER)),
    Action.EXAM_REPUBLISH: _rule(Zone.OPS, roles=(Role.OPERATOR, Role.IDENTITY_OFFICER)),
    Action.IDENTITY_READ: Rule(
        zones=frozenset({Zone.OPS}),
        roles=frozenset({Role.IDENTITY_OFFICER}),
        purposes=frozenset({Purpose.OPERATION, Purpose.BREAK_GLASS}),
        glass=frozenset({Role.OPERATOR}),
    ),
    Action.EXAM_RELEASE: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER,)),
    Action.EXCHANGE_REVEAL: _rule(Zone.OPS, roles=(Role.IDENTITY_OFFICER,)),
    Action.TENANT_PAUSE: _rule(Zone.OPS, roles=(Role.OPERATOR,)),
    Action.ACCOUNT_READ: _rule(Zone.OPS, roles=(Role.SECURITY_OFFICER,)),
    Action.ACCOUNT_CHANGE: _rule(Zone.OPS, roles=(Role.SECURITY_OFFICER,), step_up=True),
    Action.GLASS_BREAK: _rule(Zone.OPS, roles=(Role.OPERATOR,), step_up=True),
    Action.CONSENT_READ: _rule(Zone.OPS, roles=_CONSENTERS),
    Action.CONSENT_ASK: _rule(Zone.OPS, roles=_CONSENTERS, step_up=True),
    Action.CONSENT_GIVE: _rule(Zone.OPS, roles=_CONSENTERS, step_up=True),
    Action.AUDIT_READ: _rule(Zone.OPS, roles=(Role.SECURITY_OFFICER,)),
    # two persons, wherever it is carried out
    Action.KEYS_EXPORT: _rule(Zone.OPS, Zone.HOST, roles=(Role.SECURITY_OFFICER,), step_up=True, two_persons=True),
    Action.UNPUBLISH_ALL: _rule(
        Zone.OPS,
        Zone.HOST,
        roles=(Role.IDENTITY_OFFICER, Role.SECURITY_OFFICER),
        step_up=True,
        two_persons=True,
    ),
    Action.CASE_REIDENTIFY: Rule(
        zones=frozenset({Zone.OPS, Zone.HOST}),
        roles=frozenset({Role.SITE_LEAD, Role.SITE_DATA_MANAGER}),
        purposes=frozenset({Purpose.PEER_AUDIT}),
        step_up=True,
        two_persons=True,
    ),
    # peers, clinic, audit
    Action.INDEX_USE: _rule(Zone.PEERS, roles=(Role.GATEWAY_PEER, Role.INDEX_PEER), opens=Opens.THIS_MACHINE),
    Action.IMAGE_READ: Rule(
        zones=frozenset({Zone.PEERS, Zone.CLINIC}),
        roles=frozenset({Role.GATEWAY_PEER, Role.RADIOLOGIST}),
        purposes=frozenset({Purpose.TREATMENT}),
    ),
    Action.CASE_READ: Rule(
        zones=frozenset({Zone.AUDIT}),
        roles=frozenset({Role.AUDITOR, Role.LEAD_AUDITOR}),
        purposes=frozenset({Purpose.PEER_AUDIT}),
    ),
    # pacs
    Action.DICOM_ECHO: _rule(Zone.PACS, roles=(Role.PACS_PEER,)),
    Action.DICOM_STORE: _rule(Zone.PACS, roles=(Role.PACS_PEER,)),
    Action.DICOM_FIND: _rule(Zone.PACS, roles=(Role.PACS_PEER,)),
    Action.DICOM_RETRIEVE: _rule(Zone.PACS, roles=(Role.PACS_PEER,)),
    Action.DICOM_NOTIFY: _rule(Zone.PACS, roles=(Role.PACS_PEER,)),
    Action.HL7_SEND: _rule(Zone.PACS, roles=(Role.SERVICE,), opens=Opens.THIS_MACHINE),
    # host
    Action.HOST_ORDER: _rule(Zone.HOST, opens=Opens.THIS_MACHINE),
}
"""The policy. ``docs/access.md`` is generated from it and from the routes that are really there."""


def decide(  # noqa: PLR0911  one return per reason, in their order
    subject: Subject,
    purpose: Purpose,
    action: Action,
    resource: Resource,
    zone: Zone,
    *,
    table: Mapping[Action, Rule] = TABLE,
) -> Allow | Deny:
    """Whether it may be done. ``table``: another one only in tests."""
    rule = table.get(action)
    if rule is None:
        return Deny(reason=Reason.NO_RULE)
    if zone not in rule.zones:
        return Deny(reason=Reason.ZONE)
    if rule.opens is Opens.EVERYBODY:
        return Allow(role=None)
    allowed = _by_role(subject, purpose, rule)
    if isinstance(allowed, Deny):
        return allowed
    if subject.tenant and resource.tenant and subject.tenant != resource.tenant:
        return Deny(reason=Reason.TENANT)
    if rule.step_up and not subject.is_fresh:
        return Deny(reason=Reason.STEP_UP)
    if rule.two_persons and subject.seconded_by in {"", subject.name}:
        return Deny(reason=Reason.SECOND_PERSON)
    return allowed


def _by_role(subject: Subject, purpose: Purpose, rule: Rule) -> Allow | Deny:
    """Whether roles and purpose are right."""
    if rule.opens is Opens.THIS_MACHINE and subject.is_local:
        return Allow(role=None)
    if not subject.name:
        return Deny(reason=Reason.NOT_SIGNED_IN)
    if rule.opens is Opens.SIGNED_IN:
        return Allow(role=None)
    if purpose not in rule.purposes:
        return Deny(reason=Reason.PURPOSE)
    by_glass = purpose is Purpose.BREAK_GLASS
    wanted = rule.glass if by_glass else rule.roles
    mine = next((role for role in Role if role in wanted & subject.roles), None)
    return Allow(role=mine, by_glass=by_glass) if mine else Deny(reason=Reason.ROLE)
