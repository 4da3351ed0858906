"""The words of XDS.b: namespaces, schemes, association types, actions, stored queries, error codes.

IHE ITI TF-3 4.2 (metadata) and TF-2 3.18, 3.41, 3.42, 3.43, 3.57 (transactions), ebRIM/ebRS 3.0. Constants only: what
they mean to the client stands in ``indexer.xds.answers``, to the index node in ``indexer.registry``.
"""

from __future__ import annotations

# -- namespaces --------------------------------------------------------------------------------------------------
NS_RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
NS_LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
NS_QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
NS_RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
NS_XDSB = "urn:ihe:iti:xds-b:2007"
NS_SOAP12 = "http://www.w3.org/2003/05/soap-envelope"
NS_WSA = "http://www.w3.org/2005/08/addressing"
NS_XOP = "http://www.w3.org/2004/08/xop/include"
NS_WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"

WSA_ANONYMOUS = NS_WSA + "/anonymous"
WSA_SOAP_FAULT = NS_WSA + "/soap/fault"

# -- object types (ITI TF-3 4.2.5.1) -----------------------------------------------------------------------------
STABLE_DOCUMENT = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND_DOCUMENT = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"

# -- DocumentEntry: classificationScheme and identificationScheme (ITI TF-3 4.2.5.2) -----------------------------
ENTRY_AUTHOR = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
ENTRY_CLASS_CODE = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
ENTRY_CONFIDENTIALITY_CODE = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
ENTRY_EVENT_CODE_LIST = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
ENTRY_FORMAT_CODE = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
ENTRY_FACILITY_TYPE_CODE = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
ENTRY_PRACTICE_SETTING_CODE = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
ENTRY_TYPE_CODE = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
ENTRY_PATIENT_ID = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
ENTRY_UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"

# -- SubmissionSet -----------------------------------------------------------------------------------------------
SET_NODE = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
SET_AUTHOR = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
SET_CONTENT_TYPE_CODE = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
SET_PATIENT_ID = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
SET_UNIQUE_ID = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
SET_SOURCE_ID = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"

# -- Folder ------------------------------------------------------------------------------------------------------
FOLDER_NODE = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"

# -- slots and the types of a reference (CXi.5) ------------------------------------------------------------------
SLOT_REFERENCE_ID_LIST = "urn:ihe:iti:xds:2013:referenceIdList"
REFERENCE_ACCESSION = "urn:ihe:iti:xds:2013:accession"
REFERENCE_ORDER = "urn:ihe:iti:xds:2013:order"
REFERENCE_STUDY = "urn:ihe:iti:xds:2016:studyInstanceUID"

# -- associations (ITI TF-3 4.2.2) -------------------------------------------------------------------------------
HAS_MEMBER = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
RPLC = "urn:ihe:iti:2007:AssociationType:RPLC"
APND = "urn:ihe:iti:2007:AssociationType:APND"
XFRM = "urn:ihe:iti:2007:AssociationType:XFRM"
XFRM_RPLC = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
SIGNS = "urn:ihe:iti:2007:AssociationType:signs"
UPDATE_AVAILABILITY_STATUS = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"  # ITI TF-2 3.57
SLOT_ORIGINAL_STATUS = "OriginalStatus"
SLOT_NEW_STATUS = "NewStatus"
SLOT_PREVIOUS_VERSION = "PreviousVersion"
SLOT_ASSOCIATION_PROPAGATION = "AssociationPropagation"

# -- status ------------------------------------------------------------------------------------------------------
STATUS_APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
STATUS_DEPRECATED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
STATUS_DELETED = "urn:asip:ci-sis:2010:StatusType:Deleted"  # of the national profile; IHE RMU has none
SHOWN_STATUSES = frozenset({STATUS_APPROVED, STATUS_DEPRECATED})
"""What a stored query without a status shows."""
RESPONSE_SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
RESPONSE_FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
RESPONSE_PARTIAL_SUCCESS = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
SEVERITY_ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
SEVERITY_WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"

# -- wsa:Action of each transaction ------------------------------------------------------------------------------
ITI_41 = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
ITI_42 = "urn:ihe:iti:2007:RegisterDocumentSet-b"
ITI_18 = "urn:ihe:iti:2007:RegistryStoredQuery"
ITI_43 = "urn:ihe:iti:2007:RetrieveDocumentSet"
ITI_57 = "urn:ihe:iti:2010:UpdateDocumentSet"
TRANSACTIONS = {ITI_41: "ITI-41", ITI_42: "ITI-42", ITI_18: "ITI-18", ITI_43: "ITI-43", ITI_57: "ITI-57"}
"""Name of each transaction by its wsa:Action."""

# -- stored queries (ITI TF-2 3.18.4.1.2.4): AdhocQuery/@id ------------------------------------------------------
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_DOCUMENTS_BY_REFERENCE_ID = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
FIND_SUBMISSION_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_DOCUMENTS_AND_ASSOCIATIONS = "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a"
GET_SUBMISSION_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SUBMISSION_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_RELATED_DOCUMENTS = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"

RETURN_LEAF_CLASS = "LeafClass"
RETURN_OBJECT_REF = "ObjectRef"

# -- error codes (ITI TF-3 table 4.2.4.1-2), by what a submitter can do about them -------------------------------
TRANSIENT_CODES = frozenset(
    {
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryNotAvailable",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "XDSUnavailableCommunity",
        "UnavailableRecipient",
    }
)
"""The same bytes may be taken later."""

ALREADY_THERE_CODES = frozenset({"XDSDuplicateUniqueIdInRegistry", "XDSNonIdenticalHash", "XDSNonIdenticalSize"})
"""The index knows this uniqueId. Products answer a resubmission with either family (FF-21), so all mean: ask it."""

CHANGED_MEANWHILE_CODES = frozenset(
    {
        "UnresolvedReferenceException",
        "XDSMetadataUpdateError",
        "XDSMetadataVersionError",
        "XDSRegistryDeprecatedDocumentError",
    }
)
"""Answers to a status change whose entry is no longer as we saw it, perhaps by our own earlier attempt: ask it."""

INTERNAL_CODES = frozenset({"XDSRegistryError", "XDSRepositoryError"})
"""Catch-all "internal error": transient with some products, lasting with others, so a site decides."""

LASTING_CODES = frozenset(
    {
        "FHIRDocumentNotSupported",
        "InvalidDocumentContent",
        "LocalPolicyRestrictionError",
        "ReferencesExistException",
        "UnknownRecipient",
        "UnmodifiableMetadataError",
        "UnresolvedReferenceException",
        "XDSDocumentUniqueIdError",
        "XDSMetadataIdentifierError",
        "XDSMetadataUpdateError",
        "XDSMetadataUpdateOperationError",
        "XDSMetadataVersionError",
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSMissingHomeCommunityId",
        "XDSObjectTypeError",
        "XDSPatientIDReconciliationError",
        "XDSPatientIdDoesNotMatch",
        "XDSRegistryDeprecatedDocumentError",
        "XDSRegistryDuplicateUniqueIdInMessage",
        "XDSRegistryMetadataError",
        "XDSRemoveDocumentsError",
        "XDSRepositoryDuplicateUniqueIdInMessage",
        "XDSRepositoryMetadataError",
        "XDSResultNotSinglePatient",
        "XDSStoredQueryMissingParam",
        "XDSStoredQueryParamNumber",
        "XDSTooManyResults",
        "XDSUnknownCommunity",
        "XDSUnknownPatientId",
        "XDSUnknownRepositoryId",
        "XDSUnknownStoredQuery",
        "XDSUnreferencedObjectException",
    }
)
"""Only other content, or a person, can change the answer."""
