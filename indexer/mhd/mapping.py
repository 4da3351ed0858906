"""DocumentEntry ↔ DocumentReference, SubmissionSet ↔ List: the one home of XDS on FHIR (ITI MHD 4.2, ihe.md §4.2).

Invariants:

* both doors of an index keep the same entry: what came as ebRIM is written as FHIR here, what came as FHIR is read
  into the same ebRIM objects here, and ``entry_of(document_reference(e))`` says what ``e`` says;
* modality and body site are written twice, in ``context.event`` (eventCodeList) and in the extensions of MADO, and
  read from either, each code once;
* whoever is named stands inside the resource (contained): nothing is fetched to read it.

What XDS says and this writing leaves out: authorRole, authorSpecialty, authorTelecommunication, intendedRecipient and
slots of other names. What FHIR says and XDS has no word for is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer.fhir import vocabulary as fhir
from indexer.mhd import values
from indexer.mhd import vocabulary as mhd
from indexer.mhd.values import Resource, extensions, item, items, text, unfit
from indexer.xds import vocabulary as xds
from indexer.xds.objects import Association, Classification, DocumentEntry, ExternalIdentifier, Slot, SubmissionSet
from indexer.xds.objects import Text as Localized

Resolve = Callable[[str], Resource | None]
"""What a reference inside a transaction leads to, None when it leads out of it."""

_NAMES = {
    xds.ENTRY_PATIENT_ID: "XDSDocumentEntry.patientId",
    xds.ENTRY_UNIQUE_ID: "XDSDocumentEntry.uniqueId",
    xds.SET_PATIENT_ID: "XDSSubmissionSet.patientId",
    xds.SET_SOURCE_ID: "XDSSubmissionSet.sourceId",
    xds.SET_UNIQUE_ID: "XDSSubmissionSet.uniqueId",
}


def bare_id(entry_uuid: str) -> str:
    """The FHIR id of an object of the index: its entryUUID without ``urn:uuid:``."""
    return entry_uuid.removeprefix(fhir.URN_UUID)


def status_of(entry: DocumentEntry) -> str:
    """DocumentReference.status of an entry's availabilityStatus: current before an index gave one; what was withdrawn
    (by whatever status its network says so) is entered-in-error."""
    if not entry.status:
        return mhd.CURRENT
    return next((word for word, urn in mhd.STATUSES.items() if urn == entry.status), mhd.IN_ERROR)


# -- from ebRIM to FHIR ------------------------------------------------------------------------------------------


class _Contained:
    """The contained resources of one resource, numbered as they come."""

    def __init__(self) -> None:
        self.resources: list[Resource] = []

    def add(self, kind: str, content: Resource) -> Resource:
        """A reference to a new contained resource."""
        name = f"{kind.lower()}{len(self.resources) + 1}"
        self.resources.append({"resourceType": kind, "id": name} | content)
        return {"reference": f"#{name}"}


def document_reference(
    entry: DocumentEntry,
    *,
    url: str,
    relations: Sequence[Association] = (),
    reference: Callable[[str], str] = lambda target: f"DocumentReference/{bare_id(target)}",
) -> Resource:
    """The DocumentReference of an entry. ``url``: of its document; ``relations``: associations that start at it;
    ``reference``: how the target of one is named."""
    inside = _Contained()
    authors = [who for one in entry.classified(xds.ENTRY_AUTHOR) for who in _authors(one, inside)]
    context = _context(entry, inside)
    made: Resource = {"resourceType": "DocumentReference", "meta": {"profile": [mhd.DOCUMENT_REFERENCE]}}
    signers = [inside.add("Practitioner", values.person_of_xcn(p)[0]) for p in entry.values("legalAuthenticator")]
    if inside.resources:
        made["contained"] = inside.resources
    unique_id = values.unique_id_value(entry.unique_id)
    made |= {
        "extension": _extensions(entry),
        "masterIdentifier": values.typed_identifier(mhd.UNIQUE_ID, unique_id),
        "identifier": [
            # once more: MADO wants the master identifier repeated (mado-docref-1)
            values.typed_identifier(mhd.UNIQUE_ID, unique_id),
            values.typed_identifier(mhd.ENTRY_UUID, {"system": fhir.URI, "value": entry.id}),
        ],
        "status": status_of(entry),
        "type": _concept(entry, xds.ENTRY_TYPE_CODE),
        "category": _concepts(entry, xds.ENTRY_CLASS_CODE),
        "subject": {"identifier": values.identifier_of_cx(entry.patient_id)},
        "author": authors,
        "authenticator": signers[0] if signers else {},
        "relatesTo": [_relation(one, reference) for one in relations if one.type in _RELATION_CODES],
        "description": _localized(entry.description),
        "securityLabel": _concepts(entry, xds.ENTRY_CONFIDENTIALITY_CODE),
        "content": [_content(entry, url)],
        "context": context,
    }
    return {name: value for name, value in made.items() if value not in ("", [], {})}


_RELATION_CODES = {urn: code for code, urn in mhd.RELATIONS.items()} | {xds.XFRM_RPLC: "replaces"}


def _relation(association: Association, reference: Callable[[str], str]) -> Resource:
    return {"code": _RELATION_CODES[association.type], "target": {"reference": reference(association.target)}}


def _content(entry: DocumentEntry, url: str) -> Resource:
    digest, size = entry.value("hash"), entry.value("size")
    attachment = {
        "contentType": entry.mime_type,
        "language": entry.value("languageCode"),
        "url": url,
        "size": int(size) if size else "",
        "hash": values.base64_of_hex(digest) if digest else "",
        "title": _localized(entry.name),
        "creation": values.moment_of_dtm(entry.value("creationTime")),
    }
    stated = {name: value for name, value in attachment.items() if value != ""}
    formats = entry.classified(xds.ENTRY_FORMAT_CODE)
    made: Resource = {"attachment": stated}
    if formats:
        made["format"] = _coding(formats[0])
        if formats[0].code == fhir.FORMAT_FHIR_MANIFEST:
            made["extension"] = [{"url": mhd.CONTENT_PROFILE, "valueCanonical": fhir.BUNDLE_PROFILE}]
    return made


def _context(entry: DocumentEntry, inside: _Contained) -> Resource:
    period = {
        name: values.moment_of_dtm(moment)
        for name, slot in (("start", "serviceStartTime"), ("end", "serviceStopTime"))
        if (moment := entry.value(slot))
    }
    patient = values.patient_of_info(entry.value("sourcePatientId"), entry.values("sourcePatientInfo"))
    made = {
        "event": _concepts(entry, xds.ENTRY_EVENT_CODE_LIST),
        "period": period,
        "facilityType": _concept(entry, xds.ENTRY_FACILITY_TYPE_CODE),
        "practiceSetting": _concept(entry, xds.ENTRY_PRACTICE_SETTING_CODE),
        "sourcePatientInfo": inside.add("Patient", patient) if patient else {},
        "related": [values.related_of_cxi(one) for one in entry.values(xds.SLOT_REFERENCE_ID_LIST)],
    }
    return {name: value for name, value in made.items() if value not in ([], {})}


def _extensions(entry: DocumentEntry) -> list[Resource]:
    """Modality and body site where MADO wants them: acquisition modalities, then the rest of eventCodeList that is
    anatomy (SNOMED CT)."""
    made: list[Resource] = []
    if entry.home:
        made.append({"url": mhd.HOME_COMMUNITY_ID, "valueUri": entry.home})
    for event in entry.classified(xds.ENTRY_EVENT_CODE_LIST):
        value = {"coding": [_coding(event)]}
        if is_modality(event):
            made.append({"url": mhd.MODALITY, "valueCodeableConcept": value})
        elif is_region(event):
            made.append({"url": mhd.BODY_SITE, "extension": [{"url": "concept", "valueCodeableConcept": value}]})
    return made


def is_modality(event: Classification) -> bool:
    """Whether a code of eventCodeList is a modality (DCM)."""
    return fhir.OID_DCM in event.values("codingScheme")


def is_region(event: Classification) -> bool:
    """Whether a code of eventCodeList may be an anatomic region (SNOMED CT)."""
    return fhir.OID_SNOMED in event.values("codingScheme")


def _authors(author: Classification, inside: _Contained) -> Iterable[Resource]:
    """One author: the person or device, with the structure it acts for."""
    persons, structures = author.values("authorPerson"), author.values("authorInstitution")
    institution = inside.add("Organization", values.organization_of_xon(structures[0])) if structures else None
    if not persons:
        return [institution] if institution else []
    content, is_device = values.person_of_xcn(persons[0])
    if is_device:
        return [inside.add("Device", content | ({"owner": institution} if institution else {}))]
    person = inside.add("Practitioner", content)
    if institution is None:
        return [person]
    return [inside.add("PractitionerRole", {"practitioner": person, "organization": institution})]


def submission_list(found: SubmissionSet, *, members: Sequence[str]) -> Resource:
    """The List of a submission set. ``members``: references to its DocumentReferences."""
    inside = _Contained()
    authors = [who for one in found.classified(xds.SET_AUTHOR)[:1] for who in _authors(one, inside)]
    is_structure = bool(inside.resources) and inside.resources[-1]["resourceType"] == "Organization"
    source = {"extension": [{"url": mhd.AUTHOR_ORG, "valueReference": authors[0]}]} if is_structure else None
    patient = found.patient_id
    made: Resource = {
        "resourceType": "List",
        "meta": {"profile": [mhd.SUBMISSION_SET]},
        "contained": inside.resources,
        "extension": [
            {
                "url": mhd.SOURCE_ID,
                "valueIdentifier": {
                    "system": fhir.URI,
                    "value": fhir.URN_OID + found.identifier(xds.SET_SOURCE_ID),
                },
            },
            *(
                {"url": mhd.DESIGNATION_TYPE, "valueCodeableConcept": {"coding": [_coding(code)]}}
                for code in found.classified(xds.SET_CONTENT_TYPE_CODE)
            ),
        ],
        "identifier": [
            values.typed_identifier(mhd.UNIQUE_ID, values.unique_id_value(found.unique_id)),
            values.typed_identifier(mhd.ENTRY_UUID, {"system": fhir.URI, "value": found.id}),
        ],
        "status": mhd.CURRENT,
        "mode": "working",
        "title": _localized(found.name),
        "code": {"coding": [{"system": mhd.LIST_TYPES, "code": mhd.SUBMISSION_SET_CODE}]},
        "subject": {"identifier": values.identifier_of_cx(patient)},
        "date": values.moment_of_dtm(found.value("submissionTime")),
        "source": source or (authors[0] if authors else {}),
        "note": [{"text": comments}] if (comments := _localized(found.description)) else [],
        "entry": [{"item": {"reference": member}} for member in members],
    }
    return {name: value for name, value in made.items() if value not in ("", [], {})}


def _coding(code: Classification) -> Resource:
    scheme = next(iter(code.values("codingScheme")), "")
    return values.coding(code.code, scheme, code.name[0].value if code.name else "")


def _concepts(found: DocumentEntry, scheme: str) -> list[Resource]:
    return [{"coding": [_coding(code)]} for code in found.classified(scheme)]


def _concept(found: DocumentEntry, scheme: str) -> Resource:
    return next(iter(_concepts(found, scheme)), {})


def _localized(texts: Sequence[Localized]) -> str:
    return texts[0].value if texts else ""


# -- from FHIR to ebRIM ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """The parts of an object while it is read."""

    slots: list[Slot] = field(default_factory=list)
    classifications: list[Classification] = field(default_factory=list)
    identifiers: list[ExternalIdentifier] = field(default_factory=list)

    def slot(self, name: str, *stated: str) -> None:
        told = tuple(value for value in stated if value)
        if told:
            self.slots.append(Slot(name=name, values=told))

    def code(self, scheme: str, coding: Any, where: str) -> None:
        code, system, display = values.coded(coding, where)
        self.classifications.append(
            Classification(
                scheme=scheme,
                code=code,
                slots=(Slot(name="codingScheme", values=(system,)),),
                name=(Localized(value=display),),
            )
        )

    def author(self, scheme: str, person: str, institution: str) -> None:
        stated = (("authorPerson", person), ("authorInstitution", institution))
        slots = tuple(Slot(name=name, values=(value,)) for name, value in stated if value)
        if slots:
            self.classifications.append(Classification(scheme=scheme, slots=slots))

    def identifier(self, scheme: str, value: str) -> None:
        name = (Localized(value=_NAMES[scheme]),)
        self.identifiers.append(ExternalIdentifier(scheme=scheme, value=value, name=name))


def entry_of(resource: Resource, *, entry_id: str, resolve: Resolve = lambda _reference: None) -> DocumentEntry:
    """The DocumentEntry of a DocumentReference; its status must be current, all else is the index's to
    say.

    ``entry_id``: its id when it states no entryUUID; ``resolve``: for references that leave the resource.

    Raises:
        BadInput: an element has not its shape, or a patient cannot be identified; the code is XDS's own.
    """
    where = "DocumentReference"
    if text(resource, "status", where) != mhd.CURRENT:
        raise unfit(f"{where}.status is not current, as that of a new document must be")
    draft = _Draft()
    attachment, form = _attachment(resource, where)
    draft.slot("creationTime", _dtm(attachment, "creation", f"{where}.content.attachment"))
    draft.slot("languageCode", text(attachment, "language", where))
    if digest := text(attachment, "hash", where):
        draft.slot("hash", values.hex_of_base64(digest, f"{where}.content.attachment.hash"))
    size = attachment.get("size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise unfit(f"{where}.content.attachment.size is no number of bytes")
    draft.slot("size", "" if size is None else str(size))
    reach = _reach(resource, resolve, where)
    context = item(resource, "context", where)
    _read_context(draft, context, reach, f"{where}.context")
    _read_authors(draft, resource, reach, where)
    _read_codes(draft, resource, form, where)
    draft.identifier(
        xds.ENTRY_UNIQUE_ID,
        values.unique_id_of(item(resource, "masterIdentifier", where), f"{where}.masterIdentifier"),
    )
    draft.identifier(xds.ENTRY_PATIENT_ID, patient_id_of(resource, reach, where))
    return DocumentEntry(
        id=entry_uuid_of(resource, where) or entry_id,
        mime_type=text(attachment, "contentType", where),
        object_type=xds.STABLE_DOCUMENT,
        slots=tuple(draft.slots),
        name=_said(text(attachment, "title", where)),
        description=_said(text(resource, "description", where)),
        classifications=tuple(draft.classifications),
        identifiers=tuple(draft.identifiers),
    )


def set_of(resource: Resource, *, set_id: str, resolve: Resolve = lambda _reference: None) -> SubmissionSet:
    """The SubmissionSet of a List. Arguments and refusals as ``entry_of``."""
    where = "List"
    draft = _Draft()
    reach = _reach(resource, resolve, where)
    draft.slot("submissionTime", _dtm(resource, "date", where))
    source = item(resource, "source", where)
    organization = ""
    for extension in extensions(source, mhd.AUTHOR_ORG, where):
        organization = _institution(item(extension, "valueReference", where), reach, where)
    person, institution = _author(source, reach, where) if text(source, "reference", where) else ("", "")
    draft.author(xds.SET_AUTHOR, person, institution or organization)
    for extension in extensions(resource, mhd.DESIGNATION_TYPE, where):
        concept = item(extension, "valueCodeableConcept", where)
        draft.code(xds.SET_CONTENT_TYPE_CODE, values.concept_coding(concept, where), f"{where} designationType")
    for extension in extensions(resource, mhd.SOURCE_ID, where):
        value = text(item(extension, "valueIdentifier", where), "value", where)
        draft.identifier(xds.SET_SOURCE_ID, value.removeprefix(fhir.URN_OID))
    draft.identifier(xds.SET_UNIQUE_ID, _set_unique_id(resource, where))
    draft.identifier(xds.SET_PATIENT_ID, patient_id_of(resource, reach, where))
    notes = [text(note, "text", where) for note in items(resource, "note", where)]
    return SubmissionSet(
        id=entry_uuid_of(resource, where) or set_id,
        slots=tuple(draft.slots),
        name=_said(text(resource, "title", where)),
        description=_said(notes[0] if notes else ""),
        classifications=(*draft.classifications, Classification(node=xds.SET_NODE)),
        identifiers=tuple(draft.identifiers),
    )


def patient_id_of(resource: Resource, reach: Resolve, where: str) -> str:
    """CX of the subject: its identifier, or that of the Patient it refers to within the same message.

    Raises:
        BadInput: ``XDSUnknownPatientId`` it names nobody that this index can tell from another.
    """
    subject = item(resource, "subject", where)
    identifier = item(subject, "identifier", where)
    if identifier:
        return values.cx_of(identifier, f"{where}.subject.identifier")
    patient = reach(text(subject, "reference", where))
    if patient is None:
        raise unfit(
            f"{where}.subject has no identifier, and its reference leads out of the message",
            code="XDSUnknownPatientId",
        )
    named = [
        one for one in items(patient, "identifier", where) if str(one.get("system", "")).startswith(fhir.URN_OID)
    ]
    if len(named) != 1:
        raise unfit(
            f"{where}.subject refers to a Patient with {len(named)} identifiers under an OID, exactly one is needed",
            code="XDSUnknownPatientId",
        )
    return values.cx_of(named[0], f"{where}.subject")


def entry_uuid_of(resource: Resource, where: str) -> str:
    """The entryUUID among the identifiers, lower case, "" when it states none."""
    for identifier in items(resource, "identifier", where):
        if _is_typed(identifier, mhd.ENTRY_UUID, where):
            return text(identifier, "value", where).lower()
    return ""


def _is_typed(identifier: Resource, kind: str, where: str) -> bool:
    stated = items(item(identifier, "type", where), "coding", where)
    return any(one.get("code") == kind and one.get("system") == mhd.IDENTIFIER_TYPES for one in stated)


def _set_unique_id(resource: Resource, where: str) -> str:
    identifiers = items(resource, "identifier", where)
    typed = [one for one in identifiers if _is_typed(one, mhd.UNIQUE_ID, where)]
    if len(typed) != 1:
        raise unfit(f"{where}.identifier: {len(typed)} of type uniqueId, exactly one is needed")
    return values.unique_id_of(typed[0], f"{where}.identifier")


def _attachment(resource: Resource, where: str) -> tuple[Resource, Resource]:
    """The only attachment and its format."""
    content = items(resource, "content", where)
    if len(content) != 1:
        raise unfit(f"{where}.content: {len(content)} of them, exactly one is needed")
    return item(content[0], "attachment", where), item(content[0], "format", where)


def _reach(resource: Resource, resolve: Resolve, where: str) -> Resolve:
    """What a reference of ``resource`` leads to, contained resources first."""
    contained = {f"#{one.get('id')}": one for one in items(resource, "contained", where)}
    return lambda reference: contained.get(reference) or (resolve(reference) if reference[:1] != "#" else None)


def _read_context(draft: _Draft, context: Resource, reach: Resolve, where: str) -> None:
    period = item(context, "period", where)
    draft.slot("serviceStartTime", _dtm(period, "start", f"{where}.period"))
    draft.slot("serviceStopTime", _dtm(period, "end", f"{where}.period"))
    patient = reach(text(item(context, "sourcePatientInfo", where), "reference", where))
    stated = item(item(context, "sourcePatientInfo", where), "identifier", where)
    source_id, info = values.info_of_patient(patient, f"{where}.sourcePatientInfo") if patient else ("", ())
    draft.slot("sourcePatientId", values.cx_of(stated, f"{where}.sourcePatientInfo") if stated else source_id)
    draft.slot("sourcePatientInfo", *info)
    references = [values.cxi_of(one, f"{where}.related") for one in items(context, "related", where)]
    draft.slot(xds.SLOT_REFERENCE_ID_LIST, *dict.fromkeys(references))
    for name, scheme in (
        ("facilityType", xds.ENTRY_FACILITY_TYPE_CODE),
        ("practiceSetting", xds.ENTRY_PRACTICE_SETTING_CODE),
    ):
        if concept := item(context, name, where):
            draft.code(scheme, values.concept_coding(concept, f"{where}.{name}"), f"{where}.{name}")


def _read_codes(draft: _Draft, resource: Resource, form: Resource, where: str) -> None:
    if concept := item(resource, "type", where):
        draft.code(xds.ENTRY_TYPE_CODE, values.concept_coding(concept, f"{where}.type"), f"{where}.type")
    for name, scheme in (
        ("category", xds.ENTRY_CLASS_CODE),
        ("securityLabel", xds.ENTRY_CONFIDENTIALITY_CODE),
    ):
        for concept in items(resource, name, where):
            draft.code(scheme, values.concept_coding(concept, f"{where}.{name}"), f"{where}.{name}")
    if form:
        draft.code(xds.ENTRY_FORMAT_CODE, form, f"{where}.content.format")
    events = [
        values.concept_coding(one, f"{where}.context.event")
        for one in items(item(resource, "context", where), "event", where)
    ]
    events += _extended_events(resource, where)
    seen: set[tuple[str, str]] = set()
    for event in events:
        code, system, _ = values.coded(event, f"{where}.context.event")
        if (code, system) not in seen:
            seen.add((code, system))
            draft.code(xds.ENTRY_EVENT_CODE_LIST, event, f"{where}.context.event")


def _extended_events(resource: Resource, where: str) -> list[Resource]:
    """The codings of the extensions modality and bodySite."""
    found = [item(one, "valueCodeableConcept", where) for one in extensions(resource, mhd.MODALITY, where)]
    for site in extensions(resource, mhd.BODY_SITE, where):
        found += [item(one, "valueCodeableConcept", where) for one in extensions(site, "concept", where)]
    return [values.concept_coding(one, f"{where}.extension") for one in found]


def _read_authors(draft: _Draft, resource: Resource, reach: Resolve, where: str) -> None:
    for author in items(resource, "author", where):
        draft.author(xds.ENTRY_AUTHOR, *_author(author, reach, f"{where}.author"))
    if signer := item(resource, "authenticator", where):
        person = _reached(signer, reach, f"{where}.authenticator")
        if person.get("resourceType") in _PERSONS:
            draft.slot("legalAuthenticator", values.xcn_of(person, f"{where}.authenticator"))


_PERSONS = frozenset({"Practitioner", "Device", "Patient"})


def _author(reference: Resource, reach: Resolve, where: str) -> tuple[str, str]:
    """AuthorPerson and authorInstitution of one author."""
    who = _reached(reference, reach, where)
    match who.get("resourceType"):
        case "Organization":
            return "", values.xon_of(who, where)
        case "Device":
            owner = item(who, "owner", where)
            return values.xcn_of(who, where), _institution(owner, reach, where) if owner else ""
        case "PractitionerRole":
            person, structure = item(who, "practitioner", where), item(who, "organization", where)
            return (
                values.xcn_of(_reached(person, reach, where), where) if person else "",
                _institution(structure, reach, where) if structure else "",
            )
        case "Practitioner" | "Patient":
            return values.xcn_of(who, where), ""
    raise unfit(f"{where} is a resource that is no author")


def _institution(reference: Resource, reach: Resolve, where: str) -> str:
    return values.xon_of(_reached(reference, reach, where), where)


def _reached(reference: Resource, reach: Resolve, where: str) -> Resource:
    found = reach(text(reference, "reference", where))
    if found is None:
        raise unfit(f"{where} refers to something outside the message, where this index does not look")
    return found


def _dtm(holder: Mapping[str, Any], key: str, where: str) -> str:
    stated = text(holder, key, where)
    return values.dtm_of_moment(stated, f"{where}.{key}") if stated else ""


def _said(value: str) -> tuple[Localized, ...]:
    return (Localized(value=value),) if value else ()
