"""What the FHIR door answers: outcomes, transaction responses, searchsets, the CapabilityStatement (FHIR R4, MHD).

Invariants:

* an error carries its XDS code in ``details.coding``, as MHD reuses them, and the HTTP status of its kind;
* no outcome holds a patient's value: contexts name rules and places (``indexer.registry.answers``);
* the CapabilityStatement names what the tables of ``search`` hold and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from indexer.mhd import mapping, values
from indexer.mhd import vocabulary as mhd
from indexer.registry.answers import RegistryError
from indexer.registry.fhir.search import ENTRY_PARAMETERS, LIST_PARAMETERS, Parameter
from indexer.xds import vocabulary as v
from indexer.xds.objects import Association, DocumentEntry, SubmissionSet

Resource = dict[str, Any]

_CONFLICT = frozenset(
    {
        *v.ALREADY_THERE_CODES,
        "XDSRegistryDeprecatedDocumentError",
        "XDSMetadataUpdateError",
        "XDSMetadataVersionError",
    }
)
_KINDS = {  # HTTP status and IssueType of an XDS code; what is not listed is the sender's content: 422, processing
    "LocalPolicyRestrictionError": (403, "forbidden"),
    "UnresolvedReferenceException": (422, "not-found"),
    "XDSTooManyResults": (400, "too-costly"),
    "XDSRegistryError": (400, "invalid"),
    "XDSStoredQueryMissingParam": (400, "required"),
    "XDSStoredQueryParamNumber": (400, "invalid"),
    "XDSRepositoryOutOfResources": (503, "transient"),
    "mhd-structure": (400, "structure"),
}


def status_of(errors: Sequence[RegistryError]) -> int:
    """The HTTP status of a failure with these errors: that of the first."""
    code = errors[0].code if errors else ""
    if code in _CONFLICT:
        return 409
    return 400 if code.startswith(("json-", "mime-")) else _KINDS.get(code, (422, ""))[0]


def outcome(errors: Iterable[RegistryError]) -> Resource:
    """The OperationOutcome of a failure."""
    return {"resourceType": "OperationOutcome", "issue": [_issue(error) for error in errors]}


def _issue(error: RegistryError) -> Resource:
    kind = "conflict" if error.code in _CONFLICT else _KINDS.get(error.code, (0, "processing"))[1]
    return {
        "severity": "error",
        "code": "duplicate" if error.code in v.ALREADY_THERE_CODES else kind,
        "details": {"coding": [{"code": error.code}], "text": error.code},
        "diagnostics": f"{error.location}: {error.context}" if error.location else error.context,
    }


def transaction_response(entries: Iterable[tuple[str, str]], ids: Mapping[str, str]) -> Resource:
    """The answer to ITI-65: one entry for each of the request, in its order. ``entries``: kind and id as
    ``transaction.Provided`` has them; ``ids``: entryUUID by that id, the same where none was assigned."""
    made = []
    for kind, name in entries:
        bare = mapping.bare_id(ids.get(name, name))
        match kind:
            case "Parameters":
                response = {"status": "200 OK", "location": f"DocumentReference/{bare}"}
            case "Patient":
                response = {"status": "200 OK"}  # read, not kept: this index names patients by identifier
            case "Bundle":
                response = {"status": "201 Created", "location": f"Binary/{bare}"}
            case _:
                response = {"status": "201 Created", "location": f"{kind}/{bare}"}
        made.append({"response": response})
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [mhd.PROVIDE_RESPONSE]},
        "type": "transaction-response",
        "entry": made,
    }


def searchset(
    resources: Sequence[Resource], *, base: str, total: int, links: Mapping[str, str], profile: str
) -> Resource:
    """A page of a search."""
    made: Resource = {
        "resourceType": "Bundle",
        "meta": {"profile": [profile]},
        "type": "searchset",
        "total": total,
        "link": [{"relation": relation, "url": url} for relation, url in links.items()],
    }
    entries = [
        {"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in resources
    ]
    return made | ({"entry": entries} if entries else {})


def entry_resource(entry: DocumentEntry, relations: Sequence[Association], *, base: str, patient_id: str) -> Resource:
    """The DocumentReference of an entry as this index shows it."""
    bare = mapping.bare_id(entry.id)
    made = mapping.document_reference(entry, url=f"{base}/Binary/{bare}", relations=relations)
    return _kept(made, bare, entry.kept_at, patient_id) | {"date": _instant(entry.kept_at)}


def set_resource(found: SubmissionSet, members: Sequence[str], *, patient_id: str) -> Resource:
    """The List of a submission set as this index shows it. ``members``: entryUUIDs."""
    references = [f"DocumentReference/{mapping.bare_id(member)}" for member in members]
    made = mapping.submission_list(found, members=references)
    return _kept(made, mapping.bare_id(found.id), found.kept_at, patient_id)


def _kept(made: Resource, bare: str, kept_at: int, patient_id: str) -> Resource:
    made["meta"] = {**made["meta"], "lastUpdated": _instant(kept_at)}
    made["subject"] = {"reference": f"Patient/{patient_id}", **made["subject"]}
    return {"resourceType": made["resourceType"], "id": bare} | made


def binary(content_type: str, content: bytes, bare: str) -> Resource:
    """A document as a Binary resource, for who asks for FHIR."""
    data = values.base64_of(content)
    return {"resourceType": "Binary", "id": bare, "contentType": content_type, "data": data}


def capability(base: str) -> Resource:
    """The CapabilityStatement: this is what is there, and no claim of conformity."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-28",
        "kind": "instance",
        "software": {"name": "Poterne"},
        "implementation": {"description": "Index of imaging manifests: MHD beside XDS.b", "url": base},
        "fhirVersion": "4.0.1",
        "format": [mhd.FHIR_JSON],
        "rest": [
            {
                "mode": "server",
                "documentation": "ITI-65 as a transaction of the Comprehensive profile (every element that XDS.b "
                "requires), ITI-66, ITI-67 by GET and POST _search, ITI-68. A search names a patient or an "
                "identifier, and the status. JSON only.",
                "resource": [
                    _resource("DocumentReference", ENTRY_PARAMETERS),
                    _resource("List", LIST_PARAMETERS),
                    {"type": "Binary", "interaction": [{"code": "read"}]},
                ],
                "interaction": [{"code": "transaction"}],
            }
        ],
    }


def _resource(kind: str, parameters: Mapping[str, Parameter]) -> Resource:
    return {
        "type": kind,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [
            {"name": name, "type": one.kind, "documentation": one.meaning} for name, one in parameters.items()
        ],
    }


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03}Z"
