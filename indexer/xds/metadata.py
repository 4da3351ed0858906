"""What the index is told: ``lcm:SubmitObjectsRequest`` of a submission or a withdrawal, in a dialect; our queries.

Invariants:

* ids derive from the edition: the same edition gives the same bytes, but for a signature (an EC key signs anew each
  time), so the bytes are made once and stored;
* where the network knows patients by their INS, only a qualified one is published: anything else is refused here
  too, whatever the gate said before. A INS that is not qualified is written nowhere;
* a signed submission has a second document that signs the set and names the first one by its digest (drim-m §5);
* a withdrawal speaks for the patient and the source that the published bytes name, whatever is known since.

Left to others: secret connection (CONNEXION_SECRETE) belongs to the assertion (``indexer.xds.vihf``), not to the
metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from indexer.codes import displayed, table
from indexer.manifest import Context, Edition, StudyManifest, derived_uid
from indexer.ports import StatusChange, Submission
from indexer.report import Coded, Visibility
from indexer.xds import vocabulary as xds
from indexer.xds.dialect import DRIM_M, Dialect, Form, FormName
from indexer.xds.ebrim import Parts, association, cx, derived, dtm, hl7, person, rim, serialised, slot, submit_objects
from indexer.xds.ebrim import text as named
from indexer.xds.setsignature import PURPOSE, SetSigner, signature_document
from security.errors import BadInput, Broken
from security.identity import PatientIdentity, Uid
from security.parse.xml import parse_xml

_PERSONS = "1.2.250.1.71.4.2.1"  # national identifiers of professionals and devices
_WITHDRAWAL = "Suppression"
_NOT_ACQUIRED = frozenset(  # PS3.3 C.7.3.1.1.1 modalities of objects made from images, not by acquisition
    {"ASMT", "ANN", "DOC", "FID", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTINTENT", "RTPLAN", "RTRAD"}
    | {"RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "STAIN", "TEXTUREMAP"}
)
_SIGNATURE_CLASS = Coded(code="urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1", system="URN", display="Digital Signature")
_SIGNATURE_TYPE = Coded(code="E1762", system="ASTM", display="Full Document")
_SIGNATURE_FORMAT = Coded(code="http://www.w3.org/2000/09/xmldsig#", system="URN", display="Default Signature Style")


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
    manifest: StudyManifest,
    context: Context,
    edition: Edition,
    document: bytes,
    publisher: Publisher,
    *,
    dialect: Dialect = DRIM_M,
    form: FormName = "kos",
    sign: SetSigner | None = None,
) -> Submission:
    """Metadata and documents of one version, ready to be stored (drim-m §5, IHE ITI TF-3 4.2, RAD-68).

    ``document``: the manifest in the given ``form``. ``sign``: signs the set in a second document; None for none.

    Raises:
        BadInput: ``metadata-ins-not-qualified``, ``metadata-no-patient-id``; ``unknown-code`` a confidentiality no
            table lists; ``metadata-character`` a value holds a control character.
        Broken: ``certificate-expired``, ``certificate-not-yet-valid`` of the certificate that signs.
    """
    entry_id, set_id, signature_id = (_urn(edition, role) for role in ("entry", "submission-set", "signature"))
    subject = patient_id(manifest, dialect)
    request, objects = submit_objects()
    documents = {entry_id: document}
    try:
        objects.append(
            submission_set(
                set_id,
                unique_id=edition.submission_id,
                created_at=edition.created_at,
                title=dialect.title,
                comments=f"Version {edition.version}",
                patient_id=subject,
                source_id=publisher.source_id,
                publisher=publisher,
            )
        )
        about = _About(manifest, context, edition, publisher, dialect)
        objects.append(_manifest_entry(entry_id, about, document, dialect.forms[form]))
        if sign is not None:
            documents[signature_id] = signature = _signature(edition, document, sign)
            objects.append(_signature_entry(signature_id, about, signature))
        for member in documents:
            objects.append(_member(edition, set_id, member))
        if sign is not None:
            objects.append(
                _association(edition, xds.SIGNS, signature_id, set_id, (("SubmissionSetStatus", "Original"),))
            )
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
        metadata=serialised(request),
        documents=documents,
        is_secret=context.visibility.secret_connection,
    )


def patient_named(metadata: bytes) -> str:
    """The CX of the patient that a stored request names.

    Raises:
        Broken: ``published-unreadable``.
    """
    return _identified(parse_xml(metadata, what="stored request"), xds.SET_PATIENT_ID)


def is_of(metadata: bytes, patient: str) -> bool:
    """Whether a stored request is of the patient of this CX: the same number of the same authority, however else the
    box that wrote it states them. One that names nobody is not said to be somebody else's."""
    stored = parse_xml(metadata, what="stored request")
    named = {
        _number(identifier.get("value", ""))
        for identifier in stored.iter(rim("ExternalIdentifier"))
        if identifier.get("identificationScheme") == xds.SET_PATIENT_ID
    }
    return not named or _number(patient) in named


def _number(stated: str) -> tuple[str, str]:
    """CX.1 and the OID of CX.4."""
    components = stated.split("^")
    authority = components[3].split("&") if len(components) > 3 else []
    return components[0], authority[1] if len(authority) > 1 else ""


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
    set_id = derived(str(unique_id), "submission-set")
    request, objects = submit_objects()
    objects.append(update_set(set_id, published, unique_id=unique_id, created_at=created_at, publisher=publisher))
    objects.append(
        association(
            derived(str(unique_id), "association", xds.UPDATE_AVAILABILITY_STATUS),
            xds.UPDATE_AVAILABILITY_STATUS,
            set_id,
            entry_uuid,
            ((xds.SLOT_ORIGINAL_STATUS, xds.STATUS_APPROVED), (xds.SLOT_NEW_STATUS, new_status)),
        )
    )
    return StatusChange(unique_id=published.unique_id, entry_uuid=entry_uuid, metadata=serialised(request))


def update_set(
    set_id: str,
    published: Submission,
    *,
    unique_id: Uid,
    created_at: datetime,
    publisher: Publisher,
    comments: str = _WITHDRAWAL,
) -> etree._Element:
    """The SubmissionSet of an ITI-57 about something published: same patient, same source.

    Raises:
        Broken: ``published-unreadable`` the stored submission names no patient or no source.
    """
    stored = parse_xml(published.metadata, what="stored submission")
    return submission_set(
        set_id,
        unique_id=unique_id,
        created_at=created_at,
        title=DRIM_M.title,
        comments=comments,
        patient_id=_identified(stored, xds.SET_PATIENT_ID),
        source_id=_identified(stored, xds.SET_SOURCE_ID),
        publisher=publisher,
    )


def _identified(stored: etree._Element, scheme: str) -> str:
    """The value of the only external identifier of that scheme in a stored submission."""
    values = [
        identifier.get("value", "")
        for identifier in stored.iter(rim("ExternalIdentifier"))
        if identifier.get("identificationScheme") == scheme
    ]
    if len(values) != 1 or not values[0]:
        raise Broken(
            "a stored submission does not name one patient and one source",
            code="published-unreadable",
            hint="this is a defect or a damaged store: keep the database and report it",
        )
    return values[0]


def stored_query_get_documents(*unique_ids: str) -> bytes:
    """Body of ITI-18 GetDocuments by uniqueId, a Value for each, whole entries wanted (ITI TF-2 3.18.4.1.2.3.7.5)."""
    request = etree.Element(f"{{{xds.NS_QUERY}}}AdhocQueryRequest", nsmap={"query": xds.NS_QUERY, "rim": xds.NS_RIM})
    etree.SubElement(
        request,
        f"{{{xds.NS_QUERY}}}ResponseOption",
        returnType=xds.RETURN_LEAF_CLASS,
        returnComposedObjects="true",
    )
    query = etree.SubElement(request, rim("AdhocQuery"), id=xds.GET_DOCUMENTS)
    query.append(slot("$XDSDocumentEntryUniqueId", *(f"({_literal(unique_id)})" for unique_id in unique_ids)))
    return serialised(request)


def stored_query_by_reference(patient: str, study: Uid, issuer: str, statuses: Iterable[str]) -> bytes:
    """Body of ITI-18 FindDocumentsByReferenceId: the patient's documents that refer to the study, whole entries
    wanted (ITI TF-2 3.18.4.1.2.3.7.14). ``patient``: CX. ``issuer``: OID written as authority of the
    StudyInstanceUID, "" for none."""
    request = etree.Element(f"{{{xds.NS_QUERY}}}AdhocQueryRequest", nsmap={"query": xds.NS_QUERY, "rim": xds.NS_RIM})
    etree.SubElement(
        request,
        f"{{{xds.NS_QUERY}}}ResponseOption",
        returnType=xds.RETURN_LEAF_CLASS,
        returnComposedObjects="true",
    )
    query = etree.SubElement(request, rim("AdhocQuery"), id=xds.FIND_DOCUMENTS_BY_REFERENCE_ID)
    named_statuses = ",".join(f"'{status}'" for status in statuses)
    for name, value in (
        ("PatientId", _literal(patient)),
        ("Status", f"({named_statuses})"),
        ("ReferenceIdList", f"({_literal(cx(str(study), issuer, xds.REFERENCE_STUDY))})"),
    ):
        query.append(slot(f"$XDSDocumentEntry{name}", value))
    return serialised(request)


def _literal(value: str) -> str:
    """A text as a parameter of a stored query (ITI TF-2 3.18.4.1.2.3.5)."""
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def adopted(*, unique_id: str, patient: str, source_id: str) -> Submission:
    """What stands for a submission whose bytes we no longer have, so that its entry can be withdrawn: whose it is and
    who made it, no document. It is never sent."""
    request, objects = submit_objects()
    for scheme, value in ((xds.SET_PATIENT_ID, patient), (xds.SET_SOURCE_ID, source_id)):
        etree.SubElement(objects, rim("ExternalIdentifier"), identificationScheme=scheme, value=value)
    return Submission(unique_id=unique_id, metadata=serialised(request), documents={})


def retrieve_request(repository: str, unique_id: str) -> bytes:
    """Body of ITI-43 for one document of the repository with this repositoryUniqueId."""
    request = etree.Element(f"{{{xds.NS_XDSB}}}RetrieveDocumentSetRequest", nsmap={"xdsb": xds.NS_XDSB})
    wanted = etree.SubElement(request, f"{{{xds.NS_XDSB}}}DocumentRequest")
    etree.SubElement(wanted, f"{{{xds.NS_XDSB}}}RepositoryUniqueId").text = repository
    etree.SubElement(wanted, f"{{{xds.NS_XDSB}}}DocumentUniqueId").text = unique_id
    return serialised(request)


# -- the objects -------------------------------------------------------------------------------------------------


def submission_set(
    set_id: str,
    *,
    unique_id: Uid,
    created_at: datetime,
    title: str,
    comments: str,
    patient_id: str,
    source_id: str,
    publisher: Publisher,
) -> etree._Element:
    """The SubmissionSet of any request of ours (ITI TF-3 4.2.3.3)."""
    package = etree.Element(rim("RegistryPackage"), id=set_id)
    package.append(slot("submissionTime", dtm(created_at)))
    package.append(named("Name", title))
    package.append(named("Description", comments))
    parts = Parts(package, "set")
    parts.author(xds.SET_AUTHOR, author_person=_device(publisher), institution=_institution(publisher))
    parts.coded(xds.SET_CONTENT_TYPE_CODE, publisher.content_type)
    parts.classification(classificationNode=xds.SET_NODE)
    parts.identifier("XDSSubmissionSet.patientId", xds.SET_PATIENT_ID, patient_id)
    parts.identifier("XDSSubmissionSet.sourceId", xds.SET_SOURCE_ID, source_id)
    parts.identifier("XDSSubmissionSet.uniqueId", xds.SET_UNIQUE_ID, str(unique_id))
    return package


@dataclass(frozen=True, slots=True)
class _About:
    """What both entries of a submission speak of."""

    manifest: StudyManifest
    context: Context
    edition: Edition
    publisher: Publisher
    dialect: Dialect


def _manifest_entry(entry_id: str, about: _About, document: bytes, form: Form) -> etree._Element:
    manifest, context, dialect, publisher = about.manifest, about.context, about.dialect, about.publisher
    entry = _entry(entry_id, form.mime_type)
    moments = (context.service_start, context.service_stop)
    _entry_slots(entry, about, document, language=context.language, moments=moments)
    entry.append(named("Name", dialect.title))
    entry.append(named("Description", form.comments))
    parts = Parts(entry, "entry")
    parts.author(xds.ENTRY_AUTHOR, author_person=_device(publisher), institution=_institution(publisher))
    parts.coded(xds.ENTRY_CLASS_CODE, dialect.class_code)
    parts.coded(xds.ENTRY_TYPE_CODE, _type_code(manifest, dialect))
    parts.coded(xds.ENTRY_CONFIDENTIALITY_CODE, *confidentiality(context.confidentiality, context.visibility))
    parts.coded(xds.ENTRY_FORMAT_CODE, form.format_code)
    _settings(parts, about)
    parts.coded(xds.ENTRY_EVENT_CODE_LIST, *_events(manifest, dialect))
    _identifiers(parts, about, str(about.edition.unique_id))
    return entry


def _signature_entry(entry_id: str, about: _About, document: bytes) -> etree._Element:
    """The entry of the signature document: drim-m §5 "Second document". The doctor signs, as the metadata say it."""
    made_at, doctor, publisher = about.edition.created_at, about.context.legal_authenticator, about.publisher
    entry = _entry(entry_id, "text/xml")
    _entry_slots(entry, about, document, language="art", moments=(made_at, made_at))
    entry.append(named("Name", PURPOSE.display))
    entry.append(named("Description", ""))
    parts = Parts(entry, "signature")
    signatory = _device(publisher) if doctor is None else person(doctor)
    parts.author(xds.ENTRY_AUTHOR, author_person=signatory, institution=_institution(publisher))
    parts.coded(xds.ENTRY_CLASS_CODE, _SIGNATURE_CLASS)
    parts.coded(xds.ENTRY_TYPE_CODE, _SIGNATURE_TYPE)
    hidden = Visibility(masked_to_professionals=True, invisible_to_patient=True)
    parts.coded(xds.ENTRY_CONFIDENTIALITY_CODE, *confidentiality("N", hidden))
    parts.coded(xds.ENTRY_FORMAT_CODE, _SIGNATURE_FORMAT)
    _settings(parts, about)
    parts.coded(xds.ENTRY_EVENT_CODE_LIST, PURPOSE)
    _identifiers(parts, about, str(_signature_uid(about.edition)))
    return entry


def _entry(entry_id: str, mime_type: str) -> etree._Element:
    return etree.Element(rim("ExtrinsicObject"), id=entry_id, mimeType=mime_type, objectType=xds.STABLE_DOCUMENT)


def _entry_slots(
    entry: etree._Element,
    about: _About,
    document: bytes,
    *,
    language: str,
    moments: tuple[datetime | None, datetime | None],
) -> None:
    """Every Slot of an entry; ``moments``: start and stop of the service."""
    manifest, dialect = about.manifest, about.dialect
    entry.append(slot("creationTime", dtm(about.edition.created_at)))
    entry.append(slot("languageCode", language))
    if about.context.legal_authenticator is not None:
        entry.append(slot("legalAuthenticator", person(about.context.legal_authenticator)))
    for name, moment in zip(("serviceStartTime", "serviceStopTime"), moments, strict=True):
        if moment is not None:
            entry.append(slot(name, dtm(moment)))
    entry.append(slot("sourcePatientId", _source_patient_id(manifest, dialect)))
    entry.append(slot("sourcePatientInfo", *_source_patient_info(manifest.patient, dialect)))
    # SHA-1 is the metadata's checksum (ITI TF-3 4.2.3.2.10), not a protection.
    entry.append(slot("hash", hashlib.sha1(document, usedforsecurity=False).hexdigest()))
    entry.append(slot("size", str(len(document))))
    entry.append(slot(xds.SLOT_REFERENCE_ID_LIST, *_references(manifest, about.publisher)))


def _settings(parts: Parts, about: _About) -> None:
    context, publisher = about.context, about.publisher
    parts.coded(xds.ENTRY_FACILITY_TYPE_CODE, context.facility_type or publisher.facility_type)
    setting = about.dialect.practice_setting or context.practice_setting or publisher.practice_setting
    parts.coded(xds.ENTRY_PRACTICE_SETTING_CODE, setting)


def _identifiers(parts: Parts, about: _About, unique_id: str) -> None:
    parts.identifier("XDSDocumentEntry.patientId", xds.ENTRY_PATIENT_ID, patient_id(about.manifest, about.dialect))
    parts.identifier("XDSDocumentEntry.uniqueId", xds.ENTRY_UNIQUE_ID, unique_id)


def _member(edition: Edition, set_id: str, entry_id: str) -> etree._Element:
    first = entry_id == _urn(edition, "entry")
    role = ("association", xds.HAS_MEMBER) if first else ("association", xds.HAS_MEMBER, "signature")
    return association(_urn(edition, *role), xds.HAS_MEMBER, set_id, entry_id, (("SubmissionSetStatus", "Original"),))


def _association(
    edition: Edition, kind: str, source: str, target: str, slots: tuple[tuple[str, str], ...] = ()
) -> etree._Element:
    return association(_urn(edition, "association", kind), kind, source, target, slots)


def _signature(edition: Edition, document: bytes, sign: SetSigner) -> bytes:
    return signature_document(
        str(_signature_uid(edition)),
        set_unique_id=str(edition.submission_id),
        signed={str(edition.unique_id): document},
        signing_time=edition.created_at,
        sign=sign,
    )


def _signature_uid(edition: Edition) -> Uid:
    return derived_uid("signature", str(edition.unique_id))


# -- values ------------------------------------------------------------------------------------------------------


def _patient(manifest: StudyManifest, dialect: Dialect) -> tuple[str, str]:
    """(identifier, authority) under which the network knows the patient."""
    ins = manifest.patient.ins
    if ins is not None and ins.status == "VALI":
        return ins.matricule, ins.oid
    if dialect.needs_ins:
        raise BadInput(
            f"study {manifest.study}: the patient has no qualified INS",
            code="metadata-ins-not-qualified",
            hint="qualify the identity (PID-32 = VALI) in the source system and send the report again",
        )
    for local in manifest.patient.local_ids:
        if local.issuer:
            return local.value, local.issuer
    raise BadInput(
        f"study {manifest.study}: the patient has neither a qualified INS nor an identifier of a known issuer",
        code="metadata-no-patient-id",
        hint="the source system must state the assigning authority of PID-3 as an OID",
    )


def patient_id(manifest: StudyManifest, dialect: Dialect) -> str:
    """The CX under which the network knows the patient.

    Raises:
        BadInput: ``metadata-ins-not-qualified``, ``metadata-no-patient-id``.
    """
    return cx(*_patient(manifest, dialect), dialect.patient_id_type)


def _source_patient_id(manifest: StudyManifest, dialect: Dialect) -> str:
    """The first local identifier whose issuer is known; the INS where there is none, as the national samples do."""
    for local in manifest.patient.local_ids:
        if local.issuer:
            return cx(local.value, local.issuer, dialect.source_id_type)
    return cx(*_patient(manifest, dialect), dialect.source_id_type)


def _source_patient_info(patient: PatientIdentity, dialect: Dialect) -> Iterable[str]:
    traits = patient.traits
    yield f"PID-5|{hl7(traits.birth_name)}^{hl7(traits.first_given_name)}^^^^^L"
    if traits.birth_date is not None:
        yield f"PID-7|{traits.birth_date:%Y%m%d}"
    if traits.sex:
        yield f"PID-8|{hl7(traits.sex)}"
    if traits.birthplace and dialect.has_birthplace:
        yield f"PID-11|^^^^^^BDL^^{hl7(traits.birthplace)}"


def _references(manifest: StudyManifest, publisher: Publisher) -> Iterable[str]:
    """CXi values: accession numbers, the study, placer orders; each once."""
    orders = manifest.orders
    accessions = [
        cx(o.accession_number, o.accession_issuer, xds.REFERENCE_ACCESSION) for o in orders if o.accession_number
    ]
    placed = [cx(o.placer_number, o.placer_issuer, xds.REFERENCE_ORDER) for o in orders if o.placer_number]
    study = cx(str(manifest.study), publisher.study_uid_issuer, xds.REFERENCE_STUDY)
    return dict.fromkeys([*accessions, study, *placed])


def confidentiality(code: str, visibility: Visibility) -> Iterator[Coded]:
    """The level and who may not see the document (drim-m §5).

    Raises:
        BadInput: ``unknown-code``.
    """
    yield table("confidentiality").coded(code)
    hidden_from = table("visibility")
    if visibility.masked_to_professionals:
        yield hidden_from.coded("MASQUE_PS")
    if visibility.invisible_to_patient:
        yield hidden_from.coded("INVISIBLE_PATIENT")
    if visibility.invisible_to_guardians:
        yield hidden_from.coded("INVISIBLE_REP_LEGAUX")


def _type_code(manifest: StudyManifest, dialect: Dialect) -> Coded:
    if dialect.is_typed_by_procedure and manifest.procedures:
        return displayed(manifest.procedures[0])
    return dialect.type_code


def _events(manifest: StudyManifest, dialect: Dialect) -> Iterable[Coded]:
    """Regions, acquisition modalities (RAD TF-3 4.68.4.1.2.3.2), procedures where the network wants them."""
    known = table("modality").system
    modalities = (Coded(code=m, system=known) for m in manifest.modalities if m not in _NOT_ACQUIRED)
    procedures = manifest.procedures if dialect.has_procedures else ()
    return dict.fromkeys(map(displayed, (*manifest.regions, *modalities, *procedures)))


def _device(publisher: Publisher) -> str:
    device = [publisher.device_id, publisher.device_name, publisher.manufacturer]
    return f"{'^'.join(map(hl7, device))}^^^^^^&{_PERSONS}&ISO^U^^^EI"


def _institution(publisher: Publisher) -> str:
    return (
        f"{hl7(publisher.institution_name)}^^^^^&{hl7(publisher.institution_system)}&ISO"
        f"^IDNST^^^{hl7(publisher.institution_id)}"
    )


def _urn(edition: Edition, *role: str) -> str:
    """An id that only this object of this edition has."""
    return derived(str(edition.unique_id), *role)
