"""What the index is told: ``lcm:SubmitObjectsRequest`` of the drim-m profile (submission, withdrawal); our queries.

Invariants:

* children stand in the order of rim.xsd: every Slot before Name, every Classification before ExternalIdentifier
  (the national samples break this, and a validating registry refuses them);
* times are UTC, ids derive from the edition: the same edition gives the same bytes;
* only a qualified INS is published: anything else is refused here too, whatever the gate said before;
* a value that HL7 would read as structure is escaped (HL7 v2.5 §2.7);
* a withdrawal speaks for the patient and the source that the published bytes name, whatever is known since.

Left to others: the XAdES signature document of the submission set is not written yet, so a submission holds the
manifest alone; secret connection (CONNEXION_SECRETE) belongs to the VIHF token, not to the metadata.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lxml import etree

from indexer.codes import table
from indexer.manifest import Context, Edition, StudyManifest
from indexer.ports import StatusChange, Submission
from indexer.report import Coded, Professional, Visibility
from indexer.xds import vocabulary as xds
from security.errors import BadInput, Broken
from security.identity import Ins, PatientIdentity, Uid
from security.parse.xml import parse_xml

_NAMESPACE = uuid.UUID("0b1c8f0e-9d2a-5a57-8a3e-6c1d0f4e7b92")  # of every entry id made here; never change it

_PERSONS = "1.2.250.1.71.4.2.1"  # national identifiers of professionals and devices
_TITLE = "Reference d'Objets d'un Examen d'Imagerie"
_COMMENTS = "KOS"
_WITHDRAWAL = "Suppression"

_KOS_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
_NOT_ACQUIRED = frozenset(  # PS3.3 C.7.3.1.1.1 modalities of objects made from images, not by acquisition
    {"ASMT", "ANN", "DOC", "FID", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTINTENT", "RTPLAN", "RTRAD"}
    | {"RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "STAIN", "TEXTUREMAP"}
)
_HL7_ESCAPES = str.maketrans({"\\": "\\E\\", "^": "\\S\\", "&": "\\T\\", "|": "\\F\\", "~": "\\R\\"})
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Who publishes: the tenant's part of the metadata.

    ``device_id``, ``device_name``, ``manufacturer``: the box, author of manifest and set. ``institution_id``:
    identifier of the structure (FINESS with its prefix…) in the scheme of OID ``institution_system``.
    ``source_id``: OID of the box. ``content_type``: XDSSubmissionSet.contentTypeCode. ``facility_type``,
    ``practice_setting``: used when no report states one. ``study_uid_issuer``: OID written as authority of the
    StudyInstanceUID, "" for none.
    """

    device_id: str
    device_name: str
    manufacturer: str
    institution_name: str
    institution_id: str
    institution_system: str = "1.2.250.1.71.4.2.2"
    source_id: str
    content_type: Coded
    facility_type: Coded
    practice_setting: Coded
    study_uid_issuer: str = ""


def submission(
    manifest: StudyManifest, context: Context, edition: Edition, kos: bytes, publisher: Publisher
) -> Submission:
    """Metadata and document of one version, ready to be stored (drim-m §5, IHE ITI TF-3 4.2, RAD-68).

    Raises:
        BadInput: ``metadata-ins-not-qualified``; ``unknown-code`` a confidentiality no table lists;
            ``metadata-character`` a value holds a control character.
    """
    entry_id, set_id = _entry_id(edition), _set_id(edition)
    request = etree.Element(f"{{{xds.NS_LCM}}}SubmitObjectsRequest", nsmap={"lcm": xds.NS_LCM, "rim": xds.NS_RIM})
    objects = etree.SubElement(request, _rim("RegistryObjectList"))
    try:
        objects.append(
            _submission_set(
                set_id,
                unique_id=edition.submission_id,
                created_at=edition.created_at,
                comments=f"Version {edition.version}",
                patient_id=_patient_id(manifest),
                source_id=publisher.source_id,
                publisher=publisher,
            )
        )
        objects.append(_document_entry(manifest, context, edition, kos, publisher))
        member = _association(edition, xds.HAS_MEMBER, set_id, entry_id)
        member.append(_slot("SubmissionSetStatus", "Original"))
        objects.append(member)
        if edition.replaces is not None:
            objects.append(_association(edition, xds.RPLC, entry_id, edition.replaces))
    except ValueError:  # lxml's refusal quotes nothing, yet its cause may
        raise BadInput(
            f"metadata of study {manifest.study}: a value holds a character that XML forbids",
            code="metadata-character",
            hint="the source system must remove control characters from the report's header or the PACS record",
        ) from None
    return Submission(
        unique_id=str(edition.unique_id),
        metadata=_serialised(request),
        documents={entry_id: kos},
    )


def status_change(
    published: Submission,
    entry_uuid: str,
    *,
    unique_id: Uid,
    created_at: datetime,
    new_status: str,
    publisher: Publisher,
) -> StatusChange:
    """ITI-57 that moves the approved entry of a published version to ``new_status`` (TF-2 3.57, drim-m §5 TD3.3c).

    ``published``: the version as it was submitted; ``entry_uuid``: its entry as the index shows it now;
    ``unique_id``: XDSSubmissionSet.uniqueId of this request, of this request alone.

    Raises:
        Broken: ``published-unreadable`` the stored submission names no patient or no source.
    """
    set_id = _derived(str(unique_id), "submission-set")
    request = etree.Element(f"{{{xds.NS_LCM}}}SubmitObjectsRequest", nsmap={"lcm": xds.NS_LCM, "rim": xds.NS_RIM})
    objects = etree.SubElement(request, _rim("RegistryObjectList"))
    stored = parse_xml(published.metadata, what="stored submission")
    objects.append(
        _submission_set(
            set_id,
            unique_id=unique_id,
            created_at=created_at,
            comments=_WITHDRAWAL,
            patient_id=_identified(stored, xds.ENTRY_PATIENT_ID),
            source_id=_identified(stored, xds.SET_SOURCE_ID),
            publisher=publisher,
        )
    )
    change = etree.SubElement(
        objects,
        _rim("Association"),
        id=_derived(str(unique_id), "association", xds.UPDATE_AVAILABILITY_STATUS),
        associationType=xds.UPDATE_AVAILABILITY_STATUS,
        sourceObject=set_id,
        targetObject=entry_uuid,
    )
    change.append(_slot(xds.SLOT_ORIGINAL_STATUS, xds.STATUS_APPROVED))
    change.append(_slot(xds.SLOT_NEW_STATUS, new_status))
    return StatusChange(unique_id=published.unique_id, entry_uuid=entry_uuid, metadata=_serialised(request))


def _identified(stored: etree._Element, scheme: str) -> str:
    """The value of the only external identifier of that scheme in a stored submission."""
    values = [
        identifier.get("value", "")
        for identifier in stored.iter(_rim("ExternalIdentifier"))
        if identifier.get("identificationScheme") == scheme
    ]
    if len(values) != 1 or not values[0]:
        raise Broken(
            "a stored submission does not name one patient and one source",
            code="published-unreadable",
            hint="this is a defect or a damaged store: keep the database and report it",
        )
    return values[0]


def stored_query_get_documents(unique_id: str) -> bytes:
    """Body of ITI-18 GetDocuments by uniqueId, whole entries wanted (ITI TF-2 3.18.4.1.2.3.7.5)."""
    request = etree.Element(f"{{{xds.NS_QUERY}}}AdhocQueryRequest", nsmap={"query": xds.NS_QUERY, "rim": xds.NS_RIM})
    etree.SubElement(
        request,
        f"{{{xds.NS_QUERY}}}ResponseOption",
        returnType=xds.RETURN_LEAF_CLASS,
        returnComposedObjects="true",
    )
    query = etree.SubElement(request, _rim("AdhocQuery"), id=xds.GET_DOCUMENTS)
    quoted = unique_id.replace("'", "''")
    query.append(_slot("$XDSDocumentEntryUniqueId", f"('{quoted}')"))
    return _serialised(request)


def retrieve_request(repository: str, unique_id: str) -> bytes:
    """Body of ITI-43 for one document of the repository with this repositoryUniqueId."""
    request = etree.Element(f"{{{xds.NS_XDSB}}}RetrieveDocumentSetRequest", nsmap={"xdsb": xds.NS_XDSB})
    wanted = etree.SubElement(request, f"{{{xds.NS_XDSB}}}DocumentRequest")
    etree.SubElement(wanted, f"{{{xds.NS_XDSB}}}RepositoryUniqueId").text = repository
    etree.SubElement(wanted, f"{{{xds.NS_XDSB}}}DocumentUniqueId").text = unique_id
    return _serialised(request)


# -- the two objects ---------------------------------------------------------------------------------------------


def _submission_set(
    set_id: str,
    *,
    unique_id: Uid,
    created_at: datetime,
    comments: str,
    patient_id: str,
    source_id: str,
    publisher: Publisher,
) -> etree._Element:
    package = etree.Element(_rim("RegistryPackage"), id=set_id)
    package.append(_slot("submissionTime", _dtm(created_at)))
    package.append(_text("Name", _TITLE))
    package.append(_text("Description", comments))
    parts = _Parts(package, set_id, "set")
    parts.author(xds.SET_AUTHOR, publisher)
    parts.coded(xds.SET_CONTENT_TYPE_CODE, publisher.content_type)
    parts.classification(classificationNode=xds.SET_NODE)
    parts.identifier("XDSSubmissionSet.patientId", xds.SET_PATIENT_ID, patient_id)
    parts.identifier("XDSSubmissionSet.sourceId", xds.SET_SOURCE_ID, source_id)
    parts.identifier("XDSSubmissionSet.uniqueId", xds.SET_UNIQUE_ID, str(unique_id))
    return package


def _document_entry(
    manifest: StudyManifest, context: Context, edition: Edition, kos: bytes, publisher: Publisher
) -> etree._Element:
    entry_id = _entry_id(edition)
    entry = etree.Element(
        _rim("ExtrinsicObject"), id=entry_id, mimeType="application/dicom", objectType=xds.STABLE_DOCUMENT
    )
    entry.append(_slot("creationTime", _dtm(edition.created_at)))
    entry.append(_slot("languageCode", context.language))
    if context.legal_authenticator is not None:
        entry.append(_slot("legalAuthenticator", _person(context.legal_authenticator)))
    for name, moment in (("serviceStartTime", context.service_start), ("serviceStopTime", context.service_stop)):
        if moment is not None:
            entry.append(_slot(name, _dtm(moment)))
    entry.append(_slot("sourcePatientId", _source_patient_id(manifest)))
    entry.append(_slot("sourcePatientInfo", *_source_patient_info(manifest.patient)))
    # SHA-1 is the metadata's checksum (ITI TF-3 4.2.3.2.10), not a protection.
    entry.append(_slot("hash", hashlib.sha1(kos, usedforsecurity=False).hexdigest()))
    entry.append(_slot("size", str(len(kos))))
    entry.append(_slot(xds.SLOT_REFERENCE_ID_LIST, *_references(manifest, publisher)))
    entry.append(_text("Name", _TITLE))
    entry.append(_text("Description", _COMMENTS))
    parts = _Parts(entry, entry_id, "entry")
    parts.author(xds.ENTRY_AUTHOR, publisher)
    parts.coded(xds.ENTRY_CLASS_CODE, table("class").coded("31"))
    parts.coded(xds.ENTRY_TYPE_CODE, table("type").coded("IMG-KOS"))
    parts.coded(xds.ENTRY_CONFIDENTIALITY_CODE, *_confidentiality(context.confidentiality, context.visibility))
    parts.coded(xds.ENTRY_FORMAT_CODE, table("format").coded(_KOS_CLASS))
    parts.coded(xds.ENTRY_FACILITY_TYPE_CODE, context.facility_type or publisher.facility_type)
    parts.coded(xds.ENTRY_PRACTICE_SETTING_CODE, context.practice_setting or publisher.practice_setting)
    parts.coded(xds.ENTRY_EVENT_CODE_LIST, *manifest.regions, *_modalities(manifest.modalities))
    parts.identifier("XDSDocumentEntry.patientId", xds.ENTRY_PATIENT_ID, _patient_id(manifest))
    parts.identifier("XDSDocumentEntry.uniqueId", xds.ENTRY_UNIQUE_ID, str(edition.unique_id))
    return entry


def _association(edition: Edition, kind: str, source: str, target: str) -> etree._Element:
    return etree.Element(
        _rim("Association"),
        id=_urn(edition, "association", kind),
        associationType=kind,
        sourceObject=source,
        targetObject=target,
    )


# -- values ------------------------------------------------------------------------------------------------------


def _ins(manifest: StudyManifest) -> Ins:
    ins = manifest.patient.ins
    if ins is None or ins.status != "VALI":
        raise BadInput(
            f"study {manifest.study}: the patient has no qualified INS",
            code="metadata-ins-not-qualified",
            hint="qualify the identity (PID-32 = VALI) in the source system and send the report again",
        )
    return ins


def _patient_id(manifest: StudyManifest) -> str:
    ins = _ins(manifest)
    return _cx(ins.matricule, ins.oid, "NH")


def _source_patient_id(manifest: StudyManifest) -> str:
    """The first local identifier whose issuer is known; the INS where there is none, as the national samples do."""
    for local in manifest.patient.local_ids:
        if local.issuer:
            return _cx(local.value, local.issuer, "PI")
    ins = _ins(manifest)
    return _cx(ins.matricule, ins.oid, "PI")


def _source_patient_info(patient: PatientIdentity) -> Iterable[str]:
    traits = patient.traits
    yield f"PID-5|{_hl7(traits.birth_name)}^{_hl7(traits.first_given_name)}^^^^^L"
    if traits.birth_date is not None:
        yield f"PID-7|{traits.birth_date:%Y%m%d}"
    if traits.sex:
        yield f"PID-8|{_hl7(traits.sex)}"
    if traits.birthplace:
        yield f"PID-11|^^^^^^BDL^^{_hl7(traits.birthplace)}"


def _references(manifest: StudyManifest, publisher: Publisher) -> Iterable[str]:
    """CXi values: accession numbers, the study, placer orders; each once."""
    orders = manifest.orders
    accessions = [_cx(o.accession_number, o.accession_issuer, xds.REFERENCE_ACCESSION) for o in orders]
    placed = [_cx(o.placer_number, o.placer_issuer, xds.REFERENCE_ORDER) for o in orders if o.placer_number]
    study = _cx(str(manifest.study), publisher.study_uid_issuer, xds.REFERENCE_STUDY)
    return dict.fromkeys([*accessions, study, *placed])


def _confidentiality(code: str, visibility: Visibility) -> Iterable[Coded]:
    yield table("confidentiality").coded(code)
    hidden_from = table("visibility")
    if visibility.masked_to_professionals:
        yield hidden_from.coded("MASQUE_PS")
    if visibility.invisible_to_patient:
        yield hidden_from.coded("INVISIBLE_PATIENT")
    if visibility.invisible_to_guardians:
        yield hidden_from.coded("INVISIBLE_REP_LEGAUX")


def _modalities(codes: Iterable[str]) -> Iterable[Coded]:
    """The acquisition modalities (RAD TF-3 4.68.4.1.2.3.2); a code that our table lacks shows itself."""
    known = table("modality")
    for code in codes:
        if code not in _NOT_ACQUIRED:
            yield Coded(code=code, system=known.system, display=known.codes.get(code, code))


def _person(professional: Professional) -> str:
    """XCN of a professional (HL7 v2.5 §2.A.88) with the national identifier type."""
    parts = [professional.identifier, professional.family, professional.given]
    return f"{'^'.join(map(_hl7, parts))}^^^^^^&{_hl7(professional.system)}&ISO^D^^^IDNPS"


def _cx(value: str, authority: str, kind: str) -> str:
    """CX, or CXi when ``kind`` is a URN: ``value^^^&authority&ISO^kind``."""
    issued = f"&{_hl7(authority)}&ISO" if authority else ""
    return f"{_hl7(value)}^^^{issued}^{kind}"


def _hl7(text: str) -> str:
    return text.translate(_HL7_ESCAPES)


def _dtm(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _entry_id(edition: Edition) -> str:
    return _urn(edition, "entry")


def _set_id(edition: Edition) -> str:
    return _urn(edition, "submission-set")


def _urn(edition: Edition, *role: str) -> str:
    """An id that only this object of this edition has."""
    return _derived(str(edition.unique_id), *role)


def _derived(unique_id: str, *role: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps([unique_id, *role]))}"


# -- ebRIM -------------------------------------------------------------------------------------------------------


class _Parts:
    """Appends classifications, then external identifiers, to one registry object, numbering their ids."""

    def __init__(self, owner: etree._Element, owner_id: str, prefix: str) -> None:
        self._owner = owner
        self._owner_id = owner_id
        self._prefix = prefix
        self._count = 0

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._prefix}-{self._count:02}"

    def classification(self, **attributes: str) -> etree._Element:
        fixed = {"id": self._next_id(), "classifiedObject": self._owner_id}
        return etree.SubElement(self._owner, _rim("Classification"), fixed | attributes)

    def coded(self, scheme: str, *values: Coded) -> None:
        for value in values:
            element = self.classification(classificationScheme=scheme, nodeRepresentation=value.code)
            element.append(_slot("codingScheme", value.system))
            element.append(_text("Name", value.display or value.code))

    def author(self, scheme: str, publisher: Publisher) -> None:
        device = [publisher.device_id, publisher.device_name, publisher.manufacturer]
        element = self.classification(classificationScheme=scheme, nodeRepresentation="")
        element.append(_slot("authorPerson", f"{'^'.join(map(_hl7, device))}^^^^^^&{_PERSONS}&ISO^U^^^EI"))
        element.append(
            _slot(
                "authorInstitution",
                f"{_hl7(publisher.institution_name)}^^^^^&{_hl7(publisher.institution_system)}&ISO"
                f"^IDNST^^^{_hl7(publisher.institution_id)}",
            )
        )

    def identifier(self, name: str, scheme: str, value: str) -> None:
        element = etree.SubElement(
            self._owner,
            _rim("ExternalIdentifier"),
            id=self._next_id(),
            registryObject=self._owner_id,
            identificationScheme=scheme,
            value=value,
        )
        element.append(_text("Name", name))


def _slot(name: str, *values: str) -> etree._Element:
    slot = etree.Element(_rim("Slot"), name=name)
    value_list = etree.SubElement(slot, _rim("ValueList"))
    for value in values:
        etree.SubElement(value_list, _rim("Value")).text = value
    return slot


def _text(name: str, value: str) -> etree._Element:
    element = etree.Element(_rim(name))
    etree.SubElement(element, _rim("LocalizedString"), {_XML_LANG: "FR", "value": value})
    return element


def _rim(name: str) -> str:
    return f"{{{xds.NS_RIM}}}{name}"


def _serialised(element: etree._Element) -> bytes:
    etree.cleanup_namespaces(element)
    return etree.tostring(element, encoding="UTF-8", xml_declaration=False)
