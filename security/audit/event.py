"""One audit record as a FHIR R4 AuditEvent, after the patterns of IHE Basic Audit (BALP) where one fits. Pure.

Invariants:

* the same row of ``vocabulary`` gives both forms, so a reader of either sees the same event;
* ``source.observer`` is the agent that records (BALP val-audit-source);
* a patient is a logical reference by blind index, never a value; one event, one patient at most;
* a batch is a Bundle of POST entries, in the order of the trail.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from security.audit import vocabulary as v
from security.audit.message import (
    ENGINE,
    HASHED,
    Participant,
    Source,
    access_point,
    details,
    object_code,
    participants,
)
from security.audit.record import AuditRecord

Json = dict[str, Any]

_REST = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_ENTITY = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_PURPOSE = "urn:poterne:purpose-of-use"
_READS = frozenset({"index.document-read", "index.resource-read"})
_SEARCHES = frozenset({"index.references-found", "index.lists-found"})


def audit_event(record: AuditRecord, source: Source, *, number: int) -> Json:
    """The AuditEvent. ``number``: of the record in its trail."""
    row = v.row_of(record.event)
    made: Json = {
        "resourceType": "AuditEvent",
        **_pattern(record),
        "type": _coding(row.event),
        "subtype": [_coding(code) for code in (*row.types, v.kind_of_code(record.event))],
        "action": row.action,
        "recorded": record.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": str(record.outcome),
        "agent": [_agent(one) for one in participants(record, source)],
        "source": {
            **({"site": source.site} if source.site else {}),
            "observer": {"display": source.name},
            "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
        },
        "entity": [_object(record, row, number)],
    }
    if record.event in _READS | _SEARCHES:
        made["type"] = {"system": _REST, "code": "rest", "display": "RESTful Operation"}
        made["subtype"].insert(
            0, {"system": _INTERACTION, "code": "read" if record.event in _READS else "search-type"}
        )
    if record.event in _READS:
        made["action"] = "R"
    if record.purpose:
        made["purposeOfEvent"] = [{"coding": [{"system": _PURPOSE, "code": record.purpose}]}]
    if record.patient:
        made["entity"].append(
            {
                "what": {"identifier": {"system": "urn:poterne:blind-index", "value": record.patient}},
                "type": {"system": _ENTITY, "code": "1", "display": "Person"},
                "role": {"system": _ROLE, "code": "1", "display": "Patient"},
                "name": HASHED,
            }
        )
    return made


def batch(events: Iterable[Json]) -> Json:
    """The Bundle that carries several (RESTful ATNA): each is created, in this order."""
    return {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{"resource": one, "request": {"method": "POST", "url": "AuditEvent"}} for one in events],
    }


def _pattern(record: AuditRecord) -> Json:
    """The BALP profile that the event meets; none is claimed for the others."""
    if record.patient and record.event in _READS:
        return {"meta": {"profile": [_BALP + "PatientRead"]}}
    return {}


def _agent(one: Participant) -> Json:
    role = {"coding": [_coding(one.role)]}
    made: Json = {"type": role, "who": {"display": one.user}, "requestor": one.asks}
    if one.other and one.other != ENGINE:
        made["altId"] = one.other
    if one.address:
        made["network"] = {"address": one.address, "type": access_point(one.address)}
    return made


def _object(record: AuditRecord, row: v.Row, number: int) -> Json:
    code, kind, role = object_code(record)
    value = record.object_id or record.object_type
    told = [{"type": name, "valueString": said} for name, said in details(record, row, number)]
    made: Json = {
        "type": {"system": _ENTITY, "code": kind},
        "role": {"system": _ROLE, "code": role},
        "detail": told,
    }
    if record.object_type == "query":  # a query is told as what it asked, here its digest (sev-1: no name beside it)
        made["query"] = base64.b64encode(value.encode()).decode("ascii")
        return made
    system = "urn:dicom:uid" if code is v.STUDY else "urn:poterne:" + record.object_type
    shown = f"urn:oid:{value}" if code is v.STUDY else value
    return made | {"what": {"identifier": {"system": system, "value": shown}}, "name": record.object_type}


def _coding(code: v.Code) -> Json:
    return {"system": code.uri, "code": code.value, "display": code.display}
