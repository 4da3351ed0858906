"""What may be shown of an exchange: names of elements, attributes, slots and members, and words that are no values.

Nothing here comes from a patient, a site or an exam: each is written in a standard or in our own code tables.
Constants only; ``indexer.exchanges.masking`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from indexer.codes import TableName
from indexer.fhir import vocabulary as fhir
from indexer.mhd import vocabulary as mhd
from indexer.xds import vocabulary as xds

MEDIA_TYPES: Final = frozenset(
    {
        "application/soap+xml",
        "application/xop+xml",
        "multipart/related",
        "application/fhir+json",
        "application/json",
        "application/x-www-form-urlencoded",
        "text/html",
        "text/plain",
        "text/xml",
        "application/xml",
    }
)

# -- XML ---------------------------------------------------------------------------------------------------------

ELEMENTS: Final[Mapping[str, frozenset[str]]] = {
    xds.NS_SOAP12: frozenset(
        {"Envelope", "Header", "Body", "Fault", "Code", "Subcode", "Value", "Reason", "Text", "Detail"}
    ),
    xds.NS_WSA: frozenset({"Action", "MessageID", "RelatesTo", "To", "ReplyTo", "FaultTo", "Address"}),
    xds.NS_XOP: frozenset({"Include"}),
    xds.NS_XDSB: frozenset({"ProvideAndRegisterDocumentSetRequest", "Document"}),
    xds.NS_LCM: frozenset({"SubmitObjectsRequest"}),
    xds.NS_QUERY: frozenset({"AdhocQueryRequest", "AdhocQueryResponse", "ResponseOption"}),
    xds.NS_RS: frozenset({"RegistryResponse", "RegistryErrorList", "RegistryError"}),
    xds.NS_RIM: frozenset(
        {
            "RegistryObjectList",
            "ExtrinsicObject",
            "RegistryPackage",
            "Association",
            "Classification",
            "ExternalIdentifier",
            "ObjectRef",
            "AdhocQuery",
            "Slot",
            "ValueList",
            "Value",
            "Name",
            "Description",
            "LocalizedString",
            "VersionInfo",
        }
    ),
}
"""Local names by namespace."""

PREFIXES: Final[Mapping[str | None, frozenset[str]]] = dict.fromkeys(
    (None, "soap", "s", "wsa", "a", "xop", "xdsb", "lcm", "query", "rs", "rim", "ns2", "ns3", "ns4"),
    frozenset(ELEMENTS),
)
"""Namespaces that a prefix may be shown for: another prefix is written anew."""

ATTRIBUTES: Final = frozenset(
    {
        "id",
        "lid",
        "home",
        "status",
        "mimeType",
        "objectType",
        "associationType",
        "sourceObject",
        "targetObject",
        "classificationScheme",
        "classificationNode",
        "classifiedObject",
        "nodeRepresentation",
        "identificationScheme",
        "registryObject",
        "name",
        "value",
        "returnType",
        "returnComposedObjects",
        "requestId",
        "errorCode",
        "codeContext",
        "location",
        "severity",
        "highestSeverity",
        "versionName",
        "href",
        "isOpaque",
        "charset",
        f"{{{xds.NS_SOAP12}}}mustUnderstand",
        "{http://www.w3.org/XML/1998/namespace}lang",
    }
)

_URNS = (
    *(value for value in vars(xds).values() if isinstance(value, str) and value.startswith(("urn:", "http"))),
    *(
        f"urn:ihe:iti:2007:{name}"
        for name in ("ProvideAndRegisterDocumentSet-bResponse", "RegistryStoredQueryResponse")
    ),
    *(f"urn:ihe:iti:2010:{name}" for name in ("UpdateDocumentSetResponse",)),
)
WORDS: Final = frozenset(
    {
        *_URNS,
        *(
            word
            for words in (("true", "false", "0", "1"), ("LeafClass", "ObjectRef"), ("Original",))
            for word in words
        ),
        *("fr-FR", "en-US", "FR", "EN", "UTF-8", "art", "1.1"),
        *("application/dicom", "text/xml", "application/fhir+json"),
    }
)
"""Attribute values, addressing and slot values that are words of a standard."""

SLOTS: Final[Mapping[str, str]] = {
    "creationTime": "moment",
    "submissionTime": "moment",
    "languageCode": "word",
    "hash": "",
    "size": "count",
    "repositoryUniqueId": "oid",
    "serviceStartTime": "",
    "serviceStopTime": "",
    "sourcePatientId": "",
    "sourcePatientInfo": "",
    "legalAuthenticator": "",
    "authorPerson": "",
    "authorInstitution": "",
    "authorRole": "",
    "authorSpecialty": "",
    "codingScheme": "oid",
    "documentAvailability": "word",
    "URI": "",
    xds.SLOT_REFERENCE_ID_LIST: "",
    xds.SLOT_ORIGINAL_STATUS: "word",
    xds.SLOT_NEW_STATUS: "word",
    xds.SLOT_PREVIOUS_VERSION: "count",
    xds.SLOT_ASSOCIATION_PROPAGATION: "word",
    "SubmissionSetStatus": "word",
    "$XDSDocumentEntryUniqueId": "query-oid",
    "$XDSDocumentEntryPatientId": "",
    "$XDSDocumentEntryReferenceIdList": "",
    "$XDSDocumentEntryStatus": "",
}
"""How a value of each known slot must be spelt to be shown; "" never."""

OID_IDENTIFIERS: Final = frozenset({xds.ENTRY_UNIQUE_ID, xds.SET_UNIQUE_ID, xds.SET_SOURCE_ID})
"""Identification schemes whose value names a document, a set or its sender; patientId is none of them."""

CODE_TABLES: Final[Mapping[str, TableName]] = {
    xds.ENTRY_CLASS_CODE: "class",
    xds.ENTRY_TYPE_CODE: "type",
    xds.ENTRY_CONFIDENTIALITY_CODE: "confidentiality",
    xds.ENTRY_FORMAT_CODE: "format",
    xds.ENTRY_FACILITY_TYPE_CODE: "facility-type",
    xds.ENTRY_PRACTICE_SETTING_CODE: "practice-setting",
}
"""Where a code of each classification must stand to be shown. Event codes say what was examined: never."""

FAULT_CODES: Final = frozenset({"Sender", "Receiver", "MustUnderstand", "VersionMismatch", "DataEncodingUnknown"})

ERROR_CODES: Final = (
    xds.TRANSIENT_CODES
    | xds.ALREADY_THERE_CODES
    | xds.CHANGED_MEANWHILE_CODES
    | xds.INTERNAL_CODES
    | xds.LASTING_CODES
)

# -- JSON --------------------------------------------------------------------------------------------------------

RESOURCES: Final = frozenset(
    {"Bundle", "List", "DocumentReference", "Binary", "Parameters", "OperationOutcome", "Patient", "Practitioner"}
    | {"PractitionerRole", "Organization", "Device"}
)

MEMBERS: Final = frozenset(
    {
        "resourceType",
        "type",
        "meta",
        "profile",
        "entry",
        "fullUrl",
        "resource",
        "request",
        "response",
        "method",
        "url",
    }
    | {"status", "location", "etag", "lastModified", "outcome", "issue", "severity", "code", "details", "diagnostics"}
    | {"coding", "system", "display", "text", "identifier", "masterIdentifier", "value", "use", "mode", "title"}
    | {"date", "subject", "source", "note", "item", "reference", "contained", "extension", "description", "content"}
    | {"attachment", "contentType", "language", "size", "hash", "creation", "format", "context", "event", "period"}
    | {"facilityType", "practiceSetting", "sourcePatientInfo", "related", "relatesTo", "target", "securityLabel"}
    | {"category", "author", "authenticator", "data", "parameter", "operation", "part", "name", "valueCode"}
    | {"valueString", "valueIdentifier", "valueReference", "valueCodeableConcept", "total", "link", "relation"}
    | {"search", "id", "expression"}
)
"""Names of members that may be shown."""

UUID_MEMBERS: Final = frozenset({"fullUrl", "url", "reference", "location"})

JSON_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "resourceType": RESOURCES,
    "type": frozenset({"transaction", "transaction-response", "searchset", "batch", "batch-response"}),
    "method": frozenset({"POST", "PUT", "PATCH", "GET", "DELETE"}),
    "status": frozenset({mhd.CURRENT, mhd.SUPERSEDED, mhd.IN_ERROR}),
    "severity": frozenset({"fatal", "error", "warning", "information"}),
    "code": frozenset(
        {"invalid", "structure", "required", "value", "invariant", "security", "login", "forbidden", "processing"}
        | {"not-supported", "duplicate", "not-found", "conflict", "transient", "lock-error", "exception", "timeout"}
        | {"throttled", "informational", "business-rule", "incomplete", mhd.SUBMISSION_SET_CODE, *mhd.RELATIONS}
    ),
    "profile": frozenset(
        {mhd.PROVIDE_RESPONSE, mhd.SUBMISSION_SET, mhd.DOCUMENT_REFERENCE, mhd.PATCH_PARAMETERS, *mhd.PROVIDE_BUNDLES}
    ),
    "system": frozenset({fhir.URI, mhd.LIST_TYPES, mhd.IDENTIFIER_TYPES, *fhir.URL_BY_OID.values()}),
    "url": frozenset({mhd.SOURCE_ID, mhd.DESIGNATION_TYPE, mhd.AUTHOR_ORG, mhd.MODALITY, mhd.BODY_SITE}),
    "contentType": frozenset({"application/dicom", "text/xml", "application/fhir+json"}),
    "mode": frozenset({"working"}),
    "use": frozenset({"official", "usual"}),
    "name": frozenset({"operation", "type", "path", "value"}),
    "valueCode": frozenset({"replace", mhd.CURRENT, mhd.SUPERSEDED, mhd.IN_ERROR}),
    "valueString": frozenset({mhd.STATUS_PATH}),
    "relation": frozenset({"self", "next"}),
}
"""By member: the words that may be shown."""
