"""One audit record as a DICOM audit message (PS3.15 A.5), XML in UTF-8. Pure.

Invariants:

* one message says one event of at most one patient; the patient is named by blind index, never by a value;
* what a person wrote is not told: only where ``vocabulary`` says that the words are codes and counts;
* whatever stands in a record becomes legal XML: characters that XML does not have are shown as U+FFFD;
* the order of elements is that of the standard's schema.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass

from lxml import etree

from security.audit import vocabulary as v
from security.audit.record import AuditRecord

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'  # without a line's end: receivers write one message a line
HASHED = "blind index"
ENGINE = "poterne"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who records. ``name``: of the node (AuditSourceID); ``site``: of its enterprise (AuditEnterpriseSiteID)."""

    name: str
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One party to an event. ``role``: RoleIDCode; ``address``: network access point, "" when none is known."""

    user: str
    other: str = ""
    asks: bool
    role: v.Code
    address: str = ""


def participants(record: AuditRecord, source: Source) -> tuple[Participant, ...]:
    """The acting party, then the process that records; one of them when they are the same."""
    flow = v.row_of(record.event).flow
    roles = {
        v.Flow.NONE: (v.APPLICATION, v.APPLICATION),
        v.Flow.OUT: (v.DESTINATION, v.SOURCE),
        v.Flow.IN: (v.SOURCE, v.DESTINATION),
    }[flow]
    if record.actor == ENGINE:
        role = v.SOURCE if flow is v.Flow.OUT else v.APPLICATION
        return (Participant(user=source.name, other=ENGINE, asks=True, role=role),)
    who = Participant(
        user=record.actor or "unknown", other=record.peer, asks=True, role=roles[0], address=record.address
    )
    return who, Participant(user=source.name, other=ENGINE, asks=False, role=roles[1])


def object_code(record: AuditRecord) -> tuple[v.Code, str, str]:
    """ParticipantObjectIDTypeCode, -TypeCode and -TypeCodeRole of what the record is about."""
    if record.object_type == "study":
        return v.STUDY, "2", "3"
    if record.object_type == "document":
        return v.REPORT_NUMBER, "2", "3"
    if record.object_type == "query":
        return v.SEARCH, "2", "24"
    if record.object_type == "account":
        return v.URI, "1", "11"
    return v.URI, "2", "4"


def audit_message(record: AuditRecord, source: Source, *, number: int) -> bytes:
    """The message. ``number``: of the record in its trail; with the source it names the event for ever."""
    row = v.row_of(record.event)
    root = etree.Element("AuditMessage")
    event = etree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=row.action,
        EventDateTime=_moment(record),
        EventOutcomeIndicator=str(record.outcome),
    )
    _coded(event, "EventID", row.event)
    for code in (*row.types, v.kind_of_code(record.event)):
        _coded(event, "EventTypeCode", code)
    for one in participants(record, source):
        _participant(root, one)
    recorder = etree.SubElement(root, "AuditSourceIdentification", AuditSourceID=_legal(source.name))
    if source.site:
        recorder.set("AuditEnterpriseSiteID", _legal(source.site))
    _object(root, record, row, number)
    if record.patient:
        patient = etree.SubElement(
            root,
            "ParticipantObjectIdentification",
            ParticipantObjectID=record.patient,
            ParticipantObjectTypeCode="1",
            ParticipantObjectTypeCodeRole="1",
            ParticipantObjectSensitivity=HASHED,
        )
        _coded(patient, "ParticipantObjectIDTypeCode", v.PATIENT_NUMBER)
        etree.SubElement(patient, "ParticipantObjectName").text = HASHED
    return _DECLARATION + etree.tostring(root, encoding="UTF-8", xml_declaration=False)


def _object(root: etree._Element, record: AuditRecord, row: v.Row, number: int) -> None:
    code, kind, role = object_code(record)
    found = etree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_legal(record.object_id or record.object_type),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _coded(found, "ParticipantObjectIDTypeCode", code)
    etree.SubElement(found, "ParticipantObjectName").text = _legal(record.object_type)
    for name, value in details(record, row, number):
        encoded = base64.b64encode(value.encode()).decode("ascii")
        etree.SubElement(found, "ParticipantObjectDetail", type=name, value=encoded)


def details(record: AuditRecord, row: v.Row, number: int) -> tuple[tuple[str, str], ...]:
    """What else may be told of the object, by name."""
    said = {
        "record": str(number),
        "tenant": record.tenant,
        "zone": record.zone,
        "purposeOfUse": record.purpose,
        "words": record.detail if row.tells_words else "",
    }
    return tuple((name, value) for name, value in said.items() if value)


def access_point(address: str) -> str:
    """NetworkAccessPointTypeCode (PS3.15 A.5.2.6): "2" for an IP address, else "1", a machine's name."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return "1"
    return "2"


def _participant(root: etree._Element, one: Participant) -> None:
    made = etree.SubElement(
        root,
        "ActiveParticipant",
        UserID=_legal(one.user),
        UserIsRequestor="true" if one.asks else "false",
    )
    if one.other:
        made.set("AlternativeUserID", _legal(one.other))
    if one.address:
        made.set("NetworkAccessPointID", _legal(one.address))
        made.set("NetworkAccessPointTypeCode", access_point(one.address))
    _coded(made, "RoleIDCode", one.role)


def _coded(into: etree._Element, name: str, code: v.Code) -> None:
    said = {"csd-code": code.value, "codeSystemName": code.system, "originalText": code.display}
    etree.SubElement(into, name, said)


def _moment(record: AuditRecord) -> str:
    return record.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
