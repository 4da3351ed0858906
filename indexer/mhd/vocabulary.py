"""The words of MHD: profiles, codes, extensions, resource names (IHE ITI MHD 4.2, FHIR R4). Constants only.

What FHIR and MADO themselves name stands in ``indexer.fhir.vocabulary``, what XDS names in
``indexer.xds.vocabulary``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from indexer.xds import vocabulary as xds

FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"

_MHD = "https://profiles.ihe.net/ITI/MHD/"
_PROFILE = _MHD + "StructureDefinition/"
PROVIDE_BUNDLE = _PROFILE + "IHE.MHD.Comprehensive.ProvideBundle"
PROVIDE_BUNDLES = frozenset(
    _PROFILE + f"IHE.MHD.{level}.ProvideBundle" for level in ("Minimal", "UnContained.Comprehensive", "Comprehensive")
)
PROVIDE_RESPONSE = _PROFILE + "IHE.MHD.ProvideDocumentBundleResponse"
FIND_RESPONSE = _PROFILE + "IHE.MHD.FindDocumentReferencesComprehensiveResponseMessage"
FIND_LISTS_RESPONSE = _PROFILE + "IHE.MHD.FindDocumentListsResponseMessage"
SUBMISSION_SET = _PROFILE + "IHE.MHD.Comprehensive.SubmissionSet"
DOCUMENT_REFERENCE = _PROFILE + "IHE.MHD.Comprehensive.DocumentReference"
PATCH_PARAMETERS = _PROFILE + "IHE.MHD.Patch.Parameters"
RESPONDER = "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder"
RECIPIENT = "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentRecipient"

SOURCE_ID = _PROFILE + "ihe-sourceId"
DESIGNATION_TYPE = _PROFILE + "ihe-designationType"
AUTHOR_ORG = _PROFILE + "ihe-authorOrg"
HOME_COMMUNITY_ID = _PROFILE + "ihe-homeCommunityId"
_R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-DocumentReference."
MODALITY = _R5 + "modality"
BODY_SITE = _R5 + "bodySite"
CONTENT_PROFILE = _R5 + "content.profile"

LIST_TYPES = _MHD + "CodeSystem/MHDlistTypes"
SUBMISSION_SET_CODE, FOLDER_CODE = "submissionset", "folder"
IDENTIFIER_TYPES = _MHD + "CodeSystem/IHE.MHD.MHDIdentifierType"
UNIQUE_ID, ENTRY_UUID = "uniqueId", "entryUUID"

FORMAT_CODE_OIDS = ("1.3.6.1.4.1.19376.1.2.7.1", "1.3.6.1.4.1.19376.1.2.3")
"""OIDs under which XDS speaks of the format codes of IHE, the one of MADO first."""

CURRENT, SUPERSEDED, IN_ERROR = "current", "superseded", "entered-in-error"
STATUS_PATH = "DocumentReference.status"
STATUSES: Mapping[str, str] = MappingProxyType(
    {CURRENT: xds.STATUS_APPROVED, SUPERSEDED: xds.STATUS_DEPRECATED, IN_ERROR: xds.STATUS_DELETED}
)
"""availabilityStatus by DocumentReference.status. MHD knows the first two; that a withdrawn document is
entered-in-error is our reading of FHIR R4 (a document that should not have been)."""

RELATIONS: Mapping[str, str] = MappingProxyType(
    {"replaces": xds.RPLC, "transforms": xds.XFRM, "appends": xds.APND, "signs": xds.SIGNS}
)
"""Association type by DocumentReference.relatesTo.code (XFRM_RPLC is written as replaces)."""

DELAYED_ASSEMBLY_HASH = "2jmj7l5rSw0yVb/vlWAYkK/YBwk="  # SHA-1 of nothing, with size 0
FHIR_DOCUMENT_NOT_SUPPORTED = "FHIRDocumentNotSupported"
