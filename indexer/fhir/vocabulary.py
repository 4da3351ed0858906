"""The words of FHIR R4 and of IHE MADO: code systems, extensions, profiles, and how an OID becomes a URI.

HL7 FHIR 4.0.1 and the terminology it names; IHE RAD MADO 0.1.0 (trial use, 2026-07). Constants and two pure
functions: a code system or an issuer is an OID inside the house (``Coded.system``, ``LocalId.issuer``) and a URI in
FHIR. A system without a URL of its own is its OID as ``urn:oid:``; what is no OID is left as it is, so that a URI
that somebody else wrote survives the way back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

MEDIA_TYPE = "application/fhir+json"

# -- code systems ------------------------------------------------------------------------------------------------
DCM = "http://dicom.nema.org/resources/ontology/DCM"
DCMUID = "http://dicom.nema.org/resources/ontology/DCMUID"
LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
ICD_10 = "http://hl7.org/fhir/sid/icd-10"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
CONNECTION_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
PAYLOAD_TYPE = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
FORMAT_CODE = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"
CATEGORIES = (  # the two spellings HL7 Europe has published, R4 first: readers look for either
    "http://hl7.eu/fhir/health-data-api/CodeSystem/eehrxf-document-priority-category-cs",
    "http://hl7.eu/fhir/eu-health-data-api/CodeSystem/eehrxf-document-priority-category-cs",
)
DICOM_UIDS = (
    "http://dicom.nema.org/resources/CodeSystem/DICOM_UIDs"  # of the published samples; DCMUID is DICOM's own
)

OID_DCM = "1.2.840.10008.2.16.4"
OID_LOINC = "2.16.840.1.113883.6.1"
OID_SNOMED = "2.16.840.1.113883.6.96"

URL_BY_OID: Mapping[str, str] = MappingProxyType(
    {
        OID_DCM: DCM,
        "1.2.840.10008.2.6.1": DCMUID,
        OID_LOINC: LOINC,
        OID_SNOMED: SNOMED,
        "2.16.840.1.113883.6.8": UCUM,
        "2.16.840.1.113883.6.3": ICD_10,
        "2.16.840.1.113883.5.25": CONFIDENTIALITY,
        "2.16.840.1.113883.18.108": IDENTIFIER_TYPE,
    }
)
"""Code systems that FHIR names by a URL, by OID. One to one."""
_OID_BY_URL = {url: oid for oid, url in URL_BY_OID.items()}

# -- identifiers -------------------------------------------------------------------------------------------------
URI = "urn:ietf:rfc:3986"  # Identifier.system of a value that is itself a URI
DICOM_UID = "urn:dicom:uid"  # Identifier.system of a Study Instance UID
URN_OID = "urn:oid:"
URN_UUID = "urn:uuid:"

STUDY_INSTANCE_UID = "110180"  # DCM
ACCESSION_NUMBER = "121022"  # DCM, beside v2-0203 ACSN
ACCESSION, PLACER, FILLER = "ACSN", "PLAC", "FILL"  # v2-0203
NATIONAL, LOCAL = "NI", "MR"  # v2-0203

# -- MADO --------------------------------------------------------------------------------------------------------
_MADO = "https://profiles.ihe.net/RAD/MADO/"
_PROFILE = _MADO + "StructureDefinition/"
BUNDLE_PROFILE = _PROFILE + "MadoFhirBundle"
COMPOSITION_PROFILE = _PROFILE + "MadoComposition"
IMAGING_STUDY_PROFILE = _PROFILE + "MadoImagingStudy"
PATIENT_PROFILE = _PROFILE + "MadoPatient"
WADO_ENDPOINT_PROFILE = _PROFILE + "MadoWadoEndpoint"
VIEWER_ENDPOINT_PROFILE = _PROFILE + "MadoWebViewerEndpoint"
CREATOR_PROFILE = _PROFILE + "MadoCreator"
ORGANIZATION_PROFILE = _PROFILE + "MadoCreatorOrganization"
PROCEDURE_PROFILE = _PROFILE + "MadoRequestedProcedure"
FHIR_DOCUMENT_PROFILE = _PROFILE + "MadoFhirDocumentReference"
KOS_DOCUMENT_PROFILE = _PROFILE + "MadoDicomKosDocumentReference"
REGION_EXTENSION = _PROFILE + "MadoAnatomicalRegionExtension"
FRAMES_EXTENSION = _PROFILE + "MadoNumberOfFrames"
TITLE_EXTENSION = _PROFILE + "MadoKeyObjectDocumentTitle"
LOCATION_EXTENSION = _PROFILE + "MadoRetrieveLocationUIDExtension"
DEVICE_TYPE = _MADO + "CodeSystem/MadoDeviceType"
VIEWER_CONNECTION_TYPE = _MADO + "CodeSystem/MadoEndpointConnectionTypes"
WADO_RS = "dicom-wado-rs"  # in CONNECTION_TYPE
WEB_VIEWER = "web-viewer"  # in VIEWER_CONNECTION_TYPE
MADO_CREATOR = "mado-creator"  # in DEVICE_TYPE
NO_ADDRESS = "http://notspecified"  # Endpoint.address, 1..1, where only a Retrieve Location UID is known

FORMAT_FHIR_MANIFEST = "urn:ihe:rad:MADO:fhir-manifest:2026"  # in FORMAT_CODE
DIAGNOSTIC_IMAGING_STUDY = "18748-4"  # LOINC: Composition.type
MEDICAL_IMAGING = "Medical-Imaging"  # in each of CATEGORIES

# -- extensions of HL7 and HL7 France ----------------------------------------------------------------------------
DATA_ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
BIRTHPLACE_EXTENSION = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
_FR = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
INSEE_EXTENSION = _FR + "fr-core-address-insee-code"
GIVEN_NAMES_EXTENSION = _FR + "fr-core-patient-birth-list-given-name"
COMMUNES = "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+", re.ASCII)


def url_of(system: str) -> str:
    """The URI of a code system or an issuer: its URL, else ``urn:oid:`` and the OID; any other text unchanged."""
    if system in URL_BY_OID:
        return URL_BY_OID[system]
    return URN_OID + system if _OID.fullmatch(system) else system


def oid_of(url: str) -> str:
    """What ``url_of`` was given: the OID of a known URL or of a ``urn:oid:``; any other text unchanged."""
    return _OID_BY_URL.get(url) or url.removeprefix(URN_OID)


def is_oid(text: str) -> bool:
    """Whether the text is an OID in dotted form, with at least two components (Recommendation ITU-T X.660)."""
    return _OID.fullmatch(text) is not None
