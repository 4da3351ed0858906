"""The rules of a FHIR manifest: FHIR R4 itself, and the profiles of IHE MADO (trial use, ihe §2.1 to 2.3)."""

from __future__ import annotations

from indexer.rules import Rule

_R4 = "FHIR R4 4.0.1"
_MADO = "IHE RAD MADO 0.1.0 (trial use)"
_SEND = "write the resource again from its source"


def _error(id_: str, clause: str, says: str, remedy: str) -> Rule:
    return Rule(id=id_, severity="error", clause=clause, says=says, remedy=remedy)


def _warning(id_: str, clause: str, says: str, remedy: str) -> Rule:
    return Rule(id=id_, severity="warning", clause=clause, says=says, remedy=remedy)


def _note(id_: str, clause: str, says: str, remedy: str) -> Rule:
    return Rule(id=id_, severity="note", clause=clause, says=says, remedy=remedy)


RULES: tuple[Rule, ...] = (
    # -- FHIR R4 ---------------------------------------------------------------------------------------------
    _error(
        "fhir-not-bundle",
        f"{_MADO}, MadoFhirBundle",
        "A manifest is one Bundle.",
        "send the Bundle itself, as application/fhir+json",
    ),
    _error(
        "fhir-too-many-entries",
        "limit of this reader",
        "A manifest has at most 1,000 entries.",
        "write one manifest for each study, its orders and its addresses",
    ),
    _error(
        "fhir-structure",
        f"{_R4}, resource definitions",
        "Every element is one that FHIR R4 defines, of its type and in its number.",
        "remove, rename or complete the element; write R4, not R5",
    ),
    _error(
        "fhir-binding",
        f"{_R4} 4.1 (required bindings)",
        "A code with a required binding is one of its value set.",
        "use a code of the value set",
    ),
    _warning(
        "fhir-full-url",
        f"{_R4} 2.36.4 (Bundle.entry.fullUrl)",
        "Each entry has a fullUrl that is urn:uuid:, urn:oid: or an http(s) address.",
        "give each resource a urn:uuid: of its own and refer to it by that",
    ),
    _error(
        "fhir-duplicate-full-url",
        f"{_R4} bdl-7",
        "No two entries have the same fullUrl.",
        "give each resource an address of its own",
    ),
    _error(
        "fhir-reference",
        f"{_R4} 2.36.4 (references in a Bundle), 3.3 (documents)",
        "What a resource of the document refers to stands in the document.",
        "add the resource, or correct the reference",
    ),
    # -- MADO: the Bundle ------------------------------------------------------------------------------------
    _error(
        "fhir-bundle-type",
        f"{_MADO}, MadoFhirBundle.type",
        "The Bundle is of type document.",
        "write a document Bundle with a Composition first",
    ),
    _warning(
        "fhir-collection",
        f"{_MADO}, MadoFhirBundle.type (collection until spring 2026)",
        "The Bundle is of type document, no longer a collection.",
        "write a document Bundle with a Composition first",
    ),
    _error(
        "fhir-identifier",
        f"{_MADO}, MadoFhirBundle.identifier 1..1",
        "The Bundle has an identifier with a value.",
        "give the document a UID, that of the KOS when there is one",
    ),
    _warning(
        "fhir-identifier-uid",
        f"{_MADO}, MadoFhirBundle.identifier; {_R4} bdl-9",
        "The Bundle's identifier is a UID: system urn:ietf:rfc:3986, value urn:oid:…",
        "give the document a UID, that of the KOS when there is one",
    ),
    _error(
        "fhir-timestamp",
        f"{_MADO}, MadoFhirBundle.timestamp 1..1",
        "The Bundle says when it was made.",
        "write Bundle.timestamp",
    ),
    _error(
        "fhir-total",
        f"{_MADO}, MadoFhirBundle.total 0..0; {_R4} bdl-1",
        "The Bundle has no total.",
        "leave Bundle.total out: it belongs to searches",
    ),
    # -- MADO: Composition and makers ------------------------------------------------------------------------
    _error(
        "fhir-composition",
        f"{_MADO}, MadoFhirBundle.entry:composition 1..1; {_R4} bdl-11",
        "The first entry is a Composition, the only one.",
        "write the Composition first",
    ),
    _error(
        "fhir-composition-text",
        f"{_MADO}, MadoComposition.text 1..1",
        "The Composition has a narrative that is not empty, and so has each section.",
        "write the narrative for people",
    ),
    _error(
        "fhir-composition-identifier",
        f"{_MADO}, MadoComposition.identifier 1..1",
        "The Composition's identifier is that of the Bundle.",
        "write the same identifier in both",
    ),
    _error(
        "fhir-composition-event",
        f"{_MADO}, MadoComposition.event.detail",
        "The Composition's event refers to the ImagingStudy, once.",
        "write Composition.event.detail with one reference to the ImagingStudy",
    ),
    _error(
        "fhir-author",
        f"{_MADO}, MadoComposition.author (source-device 1..1, source-organization 1..1)",
        "The authors are exactly one Device and one Organization, both in the Bundle.",
        "name the device that made the manifest and its organization",
    ),
    _error(
        "fhir-creator",
        f"{_MADO}, MadoFhirBundle.entry:creator 1..1, MadoCreator.type",
        "The Bundle has exactly one Device of type mado-creator.",
        "add the Device of the software that made the manifest",
    ),
    _error(
        "fhir-organization-name",
        f"{_MADO}, MadoCreatorOrganization.name 1..1",
        "The organization that made the manifest has a name.",
        "write Organization.name",
    ),
    # -- MADO: the study -------------------------------------------------------------------------------------
    _error(
        "fhir-one-study",
        f"{_MADO}, MadoFhirBundle.entry:imaging-study 1..1",
        "The Bundle has exactly one ImagingStudy.",
        "write one manifest for each study",
    ),
    _error(
        "fhir-study-uid",
        f"{_MADO}, MadoImagingStudy.identifier:study-instance-uid 1..1",
        "The ImagingStudy has exactly one Study Instance UID.",
        "write the Study Instance UID as the identifier of type DCM 110180",
    ),
    _warning(
        "fhir-study-uid-form",
        f"{_MADO}, MadoStudyInstanceUidIdentifier",
        "The Study Instance UID is of type DCM 110180, in system urn:dicom:uid, with a value urn:oid:…",
        "write type, system and value in this form",
    ),
    _error(
        "fhir-subject",
        f"{_MADO}, MadoImagingStudy.subject 1..1 (MadoPatient)",
        "ImagingStudy.subject is a Patient of the Bundle.",
        "add the Patient and refer to it",
    ),
    _error(
        "fhir-two-patients",
        f"{_MADO}, MadoFhirBundle.entry:patient 0..1",
        "Every subject of the Bundle is the same Patient, and there is only one.",
        "write one manifest for one patient",
    ),
    _error(
        "fhir-two-ins",
        "identity: one national number for one person",
        "A Patient has at most one INS.",
        "keep the qualified INS of the person alone",
    ),
    _warning(
        "fhir-issuer",
        f"{_MADO}, mapping to KOS (0010,0024), (0008,0051), (0040,0026)",
        "The system of a patient, accession or order number is an OID, as urn:oid:…",
        "name the issuer by its OID: a KOS cannot carry another URI",
    ),
    _error(
        "fhir-accession",
        f"{_MADO}, MadoRequestedProcedure.identifier:accessionNumber 1..1",
        "Each ServiceRequest has one accession number (ACSN).",
        "write the accession number with its type",
    ),
    _warning(
        "fhir-several-accessions",
        f"{_MADO}, MadoImagingStudy.basedOn:order 0..1",
        "At most one accession number stands in ImagingStudy.basedOn.",
        "with several orders, refer to each ServiceRequest without repeating its number",
    ),
    _warning(
        "fhir-started",
        f"{_MADO}, mapping to KOS (0008,0020), (0008,0030)",
        "A start names at least a day.",
        "write the full date: DICOM has none without month or day",
    ),
    _error(
        "fhir-procedure-text",
        f"{_MADO}, mado-reqproc-1",
        "Each procedureCode has a text or a display.",
        "write the words of the procedure beside its code",
    ),
    _warning(
        "fhir-uncoded",
        f"{_MADO}, mapping to KOS (CODE items)",
        "A procedure, a region or a document title has a code.",
        "write a code: words alone do not survive the conversion to KOS, and no search finds them",
    ),
    _warning(
        "fhir-code-system",
        f"{_R4} 4.3 (code systems)",
        "A code system that has a URL is named by it.",
        "write the URL, not the urn:oid:",
    ),
    _warning(
        "fhir-region",
        f"{_MADO}, MadoAnatomicalRegionExtension (CID IHE-MADO1)",
        "An anatomic region of the study is one of the ten of MADO.",
        "name the coarse region; finer ones belong to the series' bodySite",
    ),
    _error(
        "fhir-number-of-series",
        f"{_MADO}, MadoImagingStudy.numberOfSeries 1..1",
        "numberOfSeries is the number of series listed.",
        "count again",
    ),
    _error(
        "fhir-number-of-instances",
        f"{_MADO}, MadoImagingStudy.series.numberOfInstances 1..1",
        "numberOfInstances is the number of instances listed, in each series and, where stated, in the study.",
        "count again",
    ),
    _error(
        "fhir-no-instance",
        f"{_MADO}, MadoImagingStudy.series.instance 1..*",
        "The study lists a series, and each series an instance.",
        "list every instance shared, leave empty series out",
    ),
    _error(
        "fhir-uid",
        "DICOM PS3.5 9.1",
        "Each series and each instance has a UID.",
        _SEND,
    ),
    _error(
        "fhir-duplicate-uid",
        "DICOM PS3.3 C.12.1.1",
        "No series and no instance is listed twice.",
        "list each once",
    ),
    _error(
        "fhir-sop-class",
        f"{_R4} ImagingStudy.series.instance.sopClass 1..1",
        "Each instance has a SOP Class UID.",
        _SEND,
    ),
    _warning(
        "fhir-sop-class-form",
        f"{_R4} ImagingStudy.series.instance.sopClass",
        "The SOP class is in system urn:ietf:rfc:3986 with a code urn:oid:…",
        "write system and code in this form",
    ),
    # -- MADO: the addresses ---------------------------------------------------------------------------------
    _error(
        "fhir-series-endpoint",
        f"{_MADO}, MadoImagingStudy.series.endpoint:wado 1..*",
        "Each series refers to a WADO Endpoint of the Bundle.",
        "write the Endpoint at each series, not at the study",
    ),
    _note(
        "fhir-several-endpoints",
        f"{_MADO}, MadoImagingStudy.series.endpoint:wado 1..*",
        "Of several WADO Endpoints of one series the first is kept.",
        "put the address that readers should use first",
    ),
    _error(
        "fhir-retrieve-location",
        f"{_MADO}, MadoWadoEndpoint.extension:retrieveLocationUID 1..1",
        "A WADO Endpoint has one Retrieve Location UID.",
        "write the OID of the image source in the extension",
    ),
    _warning(
        "fhir-retrieve-location-uid",
        "DICOM PS3.3 (0040,E011) Retrieve Location UID",
        "A Retrieve Location UID is an OID.",
        "write the OID of the image source; a KOS cannot carry another text",
    ),
    _warning(
        "fhir-endpoint-address",
        f"{_MADO}, MadoWadoEndpoint.address; ihe §1.5",
        "The address of a WADO Endpoint is an http(s) base, without /studies and without a slash at its end.",
        "write the base alone: readers append /studies and the UIDs",
    ),
    _warning(
        "fhir-endpoint-payload",
        f"{_MADO}, MadoWadoEndpoint.payloadType",
        'The payload of a WADO Endpoint is the code none, with the text "DICOM WADO-RS".',
        "write payloadType in this form",
    ),
    # -- hints -----------------------------------------------------------------------------------------------
    _note(
        "fhir-must-support",
        f"{_MADO}, Must Support: populated when known",
        "What the source knows is told.",
        "write the element when its value is known",
    ),
)
