"""Who may do what in a campaign (peer audit §3): one table, in the roles of the house.

Invariants:

* whoever is not in the row of a right does not have it;
* nobody but the site re-identifies; the operator of the gateway sees no case;
* auditors see practitioners' pseudonyms only as lead auditor (§8.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from security.errors import Refused
from security.policy import Role


class Right(StrEnum):
    """What may be done or seen."""

    WRITE_PROTOCOL = "write-protocol"
    SIGN_PROTOCOL = "sign-protocol"
    BUILD_FRAME = "build-frame"
    SIGN_FRAME = "sign-frame"
    CONTRIBUTE_SEED = "contribute-seed"
    RE_IDENTIFY = "re-identify"
    READ_CASE = "read-case"
    ANSWER_CASES = "answer-cases"
    ANSWER_SERVICE = "answer-service"
    ASK_REPLACEMENT = "ask-replacement"
    APPROVE_REPLACEMENT = "approve-replacement"
    STATE_FINDING = "state-finding"
    QUALIFY_FINALLY = "qualify-finally"
    READ_AGGREGATES = "read-aggregates"
    READ_PRACTITIONERS = "read-practitioners"
    CONDUCT = "conduct"
    DECIDE = "decide"
    OPERATE = "operate"


class Extent(StrEnum):
    """How far a right reaches."""

    ALL = "all"
    OWN = "own"  # of one's own site
    ASSIGNED = "assigned"  # cases assigned to oneself
    CAMPAIGN = "campaign"  # of the campaign one works in
    REFERRED = "referred"  # cases referred to the commission
    K_RULE = "k-rule"  # aggregates under the k rule


_LEAD, _AUDITOR = Role.LEAD_AUDITOR, Role.AUDITOR
_SITE, _DATA = Role.SITE_LEAD, Role.SITE_DATA_MANAGER

RIGHTS: Final[Mapping[Right, Mapping[Role, Extent]]] = MappingProxyType(
    {
        Right.WRITE_PROTOCOL: {Role.SECRETARIAT: Extent.ALL},
        Right.SIGN_PROTOCOL: {_SITE: Extent.OWN, _LEAD: Extent.CAMPAIGN},
        Right.BUILD_FRAME: {_DATA: Extent.OWN},
        Right.SIGN_FRAME: {_SITE: Extent.OWN},
        Right.CONTRIBUTE_SEED: {_SITE: Extent.OWN, _LEAD: Extent.CAMPAIGN, Role.SECRETARIAT: Extent.ALL},
        Right.RE_IDENTIFY: {_SITE: Extent.OWN, _DATA: Extent.OWN},
        Right.READ_CASE: {
            _SITE: Extent.OWN,
            _DATA: Extent.OWN,
            _LEAD: Extent.CAMPAIGN,
            _AUDITOR: Extent.ASSIGNED,
            Role.COMMISSION: Extent.REFERRED,
        },
        Right.ANSWER_CASES: {_LEAD: Extent.CAMPAIGN, _AUDITOR: Extent.ASSIGNED},
        Right.ANSWER_SERVICE: {_SITE: Extent.OWN, _LEAD: Extent.CAMPAIGN, _AUDITOR: Extent.CAMPAIGN},
        Right.ASK_REPLACEMENT: {_SITE: Extent.OWN, _AUDITOR: Extent.ASSIGNED},
        Right.APPROVE_REPLACEMENT: {_LEAD: Extent.CAMPAIGN},
        Right.STATE_FINDING: {_LEAD: Extent.CAMPAIGN, _AUDITOR: Extent.CAMPAIGN},
        Right.QUALIFY_FINALLY: {Role.COMMISSION: Extent.ALL},
        Right.READ_AGGREGATES: {
            _SITE: Extent.OWN,
            _DATA: Extent.OWN,
            _LEAD: Extent.CAMPAIGN,
            _AUDITOR: Extent.CAMPAIGN,
            Role.COMMISSION: Extent.ALL,
            Role.SECRETARIAT: Extent.ALL,
            Role.STEERING: Extent.K_RULE,
        },
        Right.READ_PRACTITIONERS: {_SITE: Extent.OWN, _LEAD: Extent.CAMPAIGN, Role.COMMISSION: Extent.ALL},
        Right.CONDUCT: {_LEAD: Extent.CAMPAIGN, Role.SECRETARIAT: Extent.ALL},
        Right.DECIDE: {Role.COMMISSION: Extent.ALL},
        Right.OPERATE: {Role.OPERATOR: Extent.ALL},
    }
)


def extent(role: Role, right: Right) -> Extent | None:
    """How far the role's right reaches; None when it has none."""
    return RIGHTS[right].get(role)


def require(role: Role, right: Right) -> Extent:
    """The extent of the role's right.

    Raises:
        Refused: ``no-right``.
    """
    found = extent(role, right)
    if found is None:
        who = ", ".join(sorted(RIGHTS[right]))
        raise Refused(f"{role} may not {right}", code="no-right", hint=f"this is for {who}")
    return found
