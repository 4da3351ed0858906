"""What each event of the house is called in the words of DICOM PS3.15 A.5 and IHE ITI-20: one table.

Invariants:

* every event that the house records has a row (a test reads the source for them); one without is told as application
  activity rather than not at all;
* a row says whether the words of a record may be told: only where they are codes and counts by construction, never
  what a person wrote;
* steps of the queue that act on nothing outside are not told: the trail itself keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One coded value. ``system``: as PS3.15 names it; ``uri``: as FHIR does."""

    value: str
    system: str
    uri: str
    display: str


def _dcm(value: str, display: str) -> Code:
    return Code(value=value, system="DCM", uri="http://dicom.nema.org/resources/ontology/DCM", display=display)


def _iti(value: str, display: str) -> Code:
    return Code(value=value, system="IHE Transactions", uri="urn:ihe:event-type-code", display=display)


ACTIVITY: Final = _dcm("110100", "Application Activity")
LOG_USED: Final = _dcm("110101", "Audit Log Used")
ACCESSED: Final = _dcm("110103", "DICOM Instances Accessed")
TRANSFERRED: Final = _dcm("110104", "DICOM Instances Transferred")
EXPORT: Final = _dcm("110106", "Export")
IMPORT: Final = _dcm("110107", "Import")
NETWORK: Final = _dcm("110108", "Network Entry")
PATIENT_RECORD: Final = _dcm("110110", "Patient Record")
PROCEDURE_RECORD: Final = _dcm("110111", "Procedure Record")
QUERY: Final = _dcm("110112", "Query")
ALERT: Final = _dcm("110113", "Security Alert")
AUTHENTICATION: Final = _dcm("110114", "User Authentication")

_START = _dcm("110120", "Application Start")
_STOP = _dcm("110121", "Application Stop")
_LOGIN = _dcm("110122", "Login")
_LOGOUT = _dcm("110123", "Logout")
_ATTACH = _dcm("110124", "Attach")
_NODE_AUTHENTICATION = _dcm("110126", "Node Authentication")
_EMERGENCY = _dcm("110127", "Emergency Override Started")
_NETWORK_CONFIGURATION = _dcm("110128", "Network Configuration")
_SECURITY_CONFIGURATION = _dcm("110129", "Security Configuration")
_RESTRICTED = _dcm("110132", "Use of Restricted Function")
_ROLES = _dcm("110136", "Security Roles Changed")
_ATTRIBUTES = _dcm("110137", "User security Attributes Changed")

SOURCE: Final = _dcm("110153", "Source Role ID")
DESTINATION: Final = _dcm("110152", "Destination Role ID")
APPLICATION: Final = _dcm("110150", "Application")

STUDY: Final = _dcm("110180", "Study Instance UID")
_RFC3881 = "http://terminology.hl7.org/CodeSystem/object-role"
PATIENT_NUMBER: Final = Code(value="2", system="RFC-3881", uri=_RFC3881, display="Patient Number")
REPORT_NUMBER: Final = Code(value="9", system="RFC-3881", uri=_RFC3881, display="Report Number")
SEARCH: Final = Code(value="10", system="RFC-3881", uri=_RFC3881, display="Search Criteria")
URI: Final = Code(value="12", system="RFC-3881", uri=_RFC3881, display="URI")


class Flow(StrEnum):
    """Where data go, as seen from the process that records."""

    NONE = "none"  # nothing travels: the actor and the process
    OUT = "out"  # from the process to the actor, or to whom the process calls
    IN = "in"  # from the actor to the process


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one event is. ``action``: EventActionCode; ``types``: EventTypeCode; ``flow``: of data;
    ``tells_words``: the detail of a record holds codes and counts alone; ``is_told``: False for what stays here."""

    event: Code
    action: str
    types: tuple[Code, ...] = ()
    flow: Flow = Flow.NONE
    tells_words: bool = False
    is_told: bool = True


def _local(value: str) -> Code:
    return Code(value=value, system="poterne", uri="urn:poterne:audit-event", display=value)


def _row(event: Code, action: str, *types: Code, flow: Flow = Flow.NONE, words: bool = False) -> Row:
    return Row(event=event, action=action, types=types, flow=flow, tells_words=words)


_INNER = Row(event=ACTIVITY, action="E", is_told=False)
_ITI_18, _ITI_43 = _iti("ITI-18", "Registry Stored Query"), _iti("ITI-43", "Retrieve Document Set")
_ITI_41 = _iti("ITI-41", "Provide and Register Document Set-b")
_ITI_57 = _iti("ITI-57", "Update Document Set")
_ITI_65 = _iti("ITI-65", "Provide Document Bundle")
_ITI_66, _ITI_67 = _iti("ITI-66", "Find Document Lists"), _iti("ITI-67", "Find Document References")
_ITI_68 = _iti("ITI-68", "Retrieve Document")
_REQUESTS = {"": _row(EXPORT, "R", flow=Flow.OUT, words=True)} | {
    f".{code.value.lower()}": _row(EXPORT, action, code, flow=Flow.OUT, words=True)
    for code, action in ((_ITI_41, "R"), (_ITI_57, "U"), (_ITI_65, "R"))
}
"""What goes to the index, by the transaction that the job says; without one, of a job before there were names."""
_PERSON = _row(PATIENT_RECORD, "U")
_ACCOUNT = _row(ALERT, "E", _ATTRIBUTES, words=True)

TABLE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        # the process
        "application.started": _row(ACTIVITY, "E", _START, words=True),
        "application.stopped": _row(ACTIVITY, "E", _STOP, words=True),
        "configuration.changed": _row(ALERT, "E", _SECURITY_CONFIGURATION, words=True),
        "certificate.changed": _row(ALERT, "E", _SECURITY_CONFIGURATION, words=True),
        "white-list.changed": _row(ALERT, "E", _SECURITY_CONFIGURATION, words=True),
        "white-list.refused": _row(ALERT, "E", _SECURITY_CONFIGURATION, words=True),
        "store.restored": _row(ALERT, "E", _RESTRICTED, words=True),
        "store.backed-up": _row(EXPORT, "R", words=True),
        "frame.built": _row(EXPORT, "R", words=True),
        "campaign.forgotten": _row(ALERT, "E", _SECURITY_CONFIGURATION),
        "case.opened": _row(EXPORT, "R"),
        "alert.opened": _row(ALERT, "E", words=True),
        "alert.closed": _row(ALERT, "E", words=True),
        "pacs.probed": _row(ACTIVITY, "E", words=True),
        "access.denied": _row(ALERT, "E", _NODE_AUTHENTICATION, words=True),
        # the trail
        "audit.read": _row(LOG_USED, "R"),
        "audit.verified": _row(LOG_USED, "R", words=True),
        "audit.head": _row(ACTIVITY, "E", words=True),
        "audit.erased": _row(LOG_USED, "D", words=True),
        # people
        "signin.refused": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "token.refused": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "session.opened": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "session.refused": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "session.proved": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "session.not-proved": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "session.closed": _row(AUTHENTICATION, "E", _LOGOUT, words=True),
        "console.opened": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "console.refused": _row(AUTHENTICATION, "E", _LOGIN, words=True),
        "account.roles-changed": _row(ALERT, "E", _ROLES, words=True),
        **{
            f"account.{what}": _ACCOUNT
            for what in (
                "added", "bootstrap", "certificate-bound", "certificates-revoked", "enrolled", "invited", "locked",
                "password-changed", "provider-bound", "provider-unbound", "reset", "unlocked",
            )
        },
        "break-glass.identity-read": _row(PATIENT_RECORD, "R", _EMERGENCY),
        "break-glass.opened": _row(ALERT, "E", _EMERGENCY),
        **{f"consent.{what}": _row(ALERT, "E", _RESTRICTED) for what in ("asked", "given", "used")},
        "queue.paused": _row(ACTIVITY, "E"),
        "queue.resumed": _row(ACTIVITY, "E"),
        # exams: what persons do to them and see of them
        "exam.identity-read": _row(PATIENT_RECORD, "R", words=True),
        "exam.exchanges-read": _row(PATIENT_RECORD, "R", words=True),
        "exam.exchanges-refused": _row(ALERT, "E", _RESTRICTED),
        "exam.imported": _row(IMPORT, "C", flow=Flow.IN),
        "xdm.exported": _row(EXPORT, "R", flow=Flow.OUT, words=True),
        **{f"exam.{what}": _PERSON for what in ("hurried", "let-in", "released", "retried", "taken-out")},
        # the peer audit: what persons do in a campaign
        **{
            f"campaign.{what}": _row(ACTIVITY, "E")
            for what in (
                "assigned", "case-moved", "decided", "declared", "drawn", "followed-up", "found", "framed", "frozen",
                "moved", "opened", "reviewed",
            )
        },
        "campaign.exported": _row(EXPORT, "R", flow=Flow.OUT),
        "trial.started": _row(ACTIVITY, "E"),
        "trial.withdrawn": _row(ACTIVITY, "E"),
        # doors of the PACS and the RIS
        "dicom.association-accepted": _row(NETWORK, "E", _ATTACH, words=True),
        "dicom.association-rejected": _row(ALERT, "E", _NODE_AUTHENTICATION, words=True),
        "dicom.association-dropped": _row(ALERT, "E", _NODE_AUTHENTICATION, words=True),
        "dicom.association-violation": _row(ALERT, "E", _NODE_AUTHENTICATION, words=True),
        "dicom.association-operation-denied": _row(ALERT, "E", _RESTRICTED, words=True),
        "dicom.association-move-refused": _row(ALERT, "E", _RESTRICTED, words=True),
        "dicom.availability": _row(PROCEDURE_RECORD, "U", flow=Flow.IN, words=True),
        "dicom.quarantined": _row(TRANSFERRED, "C", flow=Flow.IN, words=True),
        "dicom.lost": _row(ACCESSED, "D", words=True),
        "dicom.received": _row(TRANSFERRED, "C", flow=Flow.IN, words=True),
        "dicom.rejection-noted": _row(PROCEDURE_RECORD, "U", flow=Flow.IN, words=True),
        "dicom.released": _row(ACCESSED, "D", words=True),
        "dicom.step": _row(PROCEDURE_RECORD, "U", flow=Flow.IN, words=True),
        "hl7.received": _row(PATIENT_RECORD, "C", flow=Flow.IN, words=True),
        "hl7.refused": _row(PATIENT_RECORD, "C", flow=Flow.IN, words=True),
        # the queue: what went to the index, and what became of it
        **{
            f"job.{what}{request}": row
            for what in ("sent", "accepted", "published", "unknown", "dead")
            for request, row in _REQUESTS.items()
        },
        **{
            f"job.{what}": _INNER
            for what in (
                "blocked", "cancelled", "leased", "ready", "receiving", "retry_wait", "settling", "superseded",
            )
        },
        # the index node
        "index.registered": _row(IMPORT, "C", _ITI_41, flow=Flow.IN),
        "index.deprecated": _row(PATIENT_RECORD, "U", _ITI_41),
        "index.revised": _row(PATIENT_RECORD, "U", _ITI_57, flow=Flow.IN),
        "index.withdrawn": _row(PATIENT_RECORD, "D", _ITI_57, flow=Flow.IN),
        "index.queried": _row(QUERY, "E", _ITI_18, words=True),
        "index.retrieved": _row(EXPORT, "R", _ITI_43, flow=Flow.OUT, words=True),
        "index.lists-found": _row(QUERY, "E", _ITI_66, words=True),
        "index.references-found": _row(QUERY, "E", _ITI_67, words=True),
        "index.document-read": _row(EXPORT, "R", _ITI_68, flow=Flow.OUT, words=True),
        "index.resource-read": _row(PATIENT_RECORD, "R", words=True),
    }
)  # fmt: skip
_UNKNOWN = _row(ACTIVITY, "E")


def row_of(event: str) -> Row:
    """The row of an event; application activity under its own name when there is none."""
    found = TABLE.get(event)
    return found if found is not None else Row(event=_UNKNOWN.event, action="E", types=(_local(event),))


def kind_of_code(event: str) -> Code:
    """The event's name in the house, as a code beside those of the standard."""
    return _local(event)
