"""The rules a submission must meet before the index keeps anything of it (ITI TF-3 4.2; TF-2 3.41.4.1.3, 3.42.4.1.3).

Three questions, all pure: is the submission sound in itself (``faults``), do the documents fit their metadata
(``document_faults``), and does it fit what is already held (``conflicts``). Each answers with every reason it
finds, an empty tuple meaning none.

Invariants:

* a reason names the attribute and the object by ordinal, never a value (uniqueIds and entryUUIDs excepted: they
  identify documents);
* nothing here decides by the order of Slots, Classifications or objects.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from indexer.registry.answers import RegistryError
from indexer.xds import vocabulary as v
from indexer.xds.objects import (
    Association,
    Classification,
    DocumentEntry,
    RegistryObject,
    Submission,
    SubmissionSet,
)

_OID = r"[0-2](?:\.(?:0|[1-9][0-9]*))+"
_OID_TEXT = re.compile(_OID, re.ASCII)
_UNIQUE_ID = re.compile(_OID + r"(?:\^[^\s^]{1,16})?", re.ASCII)  # TF-3 4.2.3.2: OID, or OID^extension (CDA)
_UUID_URN = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CX = re.compile(rf"([^\s^&|~][^^&|~]*)\^\^\^[^^&|~]*&({_OID})&ISO(?:\^[A-Z0-9]{{1,5}})?")
_CXI = re.compile(rf"[^^&]+\^\^\^(?:[^^&]*&{_OID}&ISO|[^^&]*)\^[^^&]+(?:\^[^^]+)?")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)  # RFC 5646
_MIME = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+", re.ASCII)  # RFC 6838 §4.2
_SHA1 = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)
_SIZE = re.compile(r"[0-9]{1,18}", re.ASCII)
_PID = re.compile(r"PID-[0-9]{1,2}\|.*", re.ASCII | re.DOTALL)
_DTM_SHAPE = re.compile(r"\d{4}(?:\d\d){0,5}", re.ASCII)
_DTM_REST = "00000101000000"

_METADATA = "XDSRegistryMetadataError"
_REPLACING = frozenset({v.RPLC, v.XFRM_RPLC})
_ABOUT_HELD = _REPLACING | {v.APND, v.XFRM}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldObject:
    """What the index knows of one object. ``patient_key``: whose it is. ``is_entry``: False for a set. ``version``:
    of its metadata."""

    entry_uuid: str
    unique_id: str
    logical_id: str
    version: int
    patient_key: bytes
    is_entry: bool
    status: str
    object_type: str
    hash: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the index holds under the ids a submission names. ``taken``: every such id in use, whatever by."""

    objects: Mapping[str, HeldObject]
    taken: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """One Slot: must it be there, may it hold several values, what must each look like."""

    fits: Callable[[str], bool]
    wanted: str
    required: bool = False
    many: bool = False


def moment(text: str) -> datetime | None:
    """The start of a DTM ``YYYY[MM[DD[hh[mm[ss]]]]]`` (UTC by definition, TF-3 table 4.2.3.1.7-2), None if it is
    none. The value is naive: it is compared with its like only."""
    if not _DTM_SHAPE.fullmatch(text):
        return None
    try:
        return datetime.strptime(text + _DTM_REST[len(text) :], "%Y%m%d%H%M%S")  # noqa: DTZ007 - see the contract
    except ValueError:
        return None


def patient_of(cx: str) -> tuple[str, str] | None:
    """(assigning authority OID, identifier) of a CX ``id^^^&OID&ISO[^type]``, None if it is none.

    The type is no part of the identity: the national index writes ``^NH``, IHE forbids it (drim-m §5).
    """
    match = _CX.fullmatch(cx)
    return (match[2], match[1].rstrip()) if match and len(cx) <= 256 else None


def _pattern(expression: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: expression.fullmatch(text) is not None


_is_oid = _pattern(_OID_TEXT)
_is_urn = _pattern(_UUID_URN)


def _is_dtm(text: str) -> bool:
    return moment(text) is not None


_DTM = "YYYY[MM[DD[hh[mm[ss]]]]] in UTC"
_ENTRY_SLOTS = {
    "creationTime": _Rule(fits=_is_dtm, wanted=_DTM, required=True),
    "serviceStartTime": _Rule(fits=_is_dtm, wanted=_DTM),
    "serviceStopTime": _Rule(fits=_is_dtm, wanted=_DTM),
    "languageCode": _Rule(fits=_pattern(_LANGUAGE), wanted="a language tag (RFC 5646)", required=True),
    "sourcePatientId": _Rule(
        fits=lambda text: patient_of(text) is not None, wanted="CX id^^^&OID&ISO", required=True
    ),
    "sourcePatientInfo": _Rule(fits=_pattern(_PID), wanted="PID-n|value", many=True),
    "hash": _Rule(fits=_pattern(_SHA1), wanted="SHA-1 in 40 hexadecimal digits"),
    "size": _Rule(fits=_pattern(_SIZE), wanted="a number of bytes"),
    "repositoryUniqueId": _Rule(fits=_is_oid, wanted="an OID"),
    v.SLOT_REFERENCE_ID_LIST: _Rule(fits=_pattern(_CXI), wanted="CXi id^^^&OID&ISO^type", many=True),
}
_SET_SLOTS = {
    "submissionTime": _Rule(fits=_is_dtm, wanted=_DTM, required=True),
}
_REGISTERED_SLOTS = ("hash", "size", "repositoryUniqueId")  # needed once the bytes are elsewhere (ITI-42)

# scheme → (attribute, at least, at most); TF-3 table 4.2.3.2-1 and 4.2.3.3-1
_Codes = Mapping[str, tuple[str, int, int]]
_MANY = 10_000
_ENTRY_CODES: _Codes = {
    v.ENTRY_CLASS_CODE: ("classCode", 1, 1),
    v.ENTRY_TYPE_CODE: ("typeCode", 1, 1),
    v.ENTRY_FORMAT_CODE: ("formatCode", 1, 1),
    v.ENTRY_FACILITY_TYPE_CODE: ("healthcareFacilityTypeCode", 1, 1),
    v.ENTRY_PRACTICE_SETTING_CODE: ("practiceSettingCode", 1, 1),
    v.ENTRY_CONFIDENTIALITY_CODE: ("confidentialityCode", 1, _MANY),
    v.ENTRY_EVENT_CODE_LIST: ("eventCodeList", 0, _MANY),
}
_SET_CODES: _Codes = {v.SET_CONTENT_TYPE_CODE: ("contentTypeCode", 1, 1)}
_AUTHOR_SLOTS = frozenset(
    {"authorPerson", "authorInstitution", "authorRole", "authorSpecialty", "authorTelecommunication"}
)


def faults(
    submission: Submission, *, patient_authorities: frozenset[str], registered_elsewhere: bool
) -> tuple[RegistryError, ...]:
    """Why the submission is not sound in itself.

    ``patient_authorities``: OIDs that may assign a patientId, empty for any; there is no patient feed here.
    ``registered_elsewhere``: True for ITI-42, whose entries must say where the bytes are and what they are.
    """
    return (
        *set_faults(submission, patient_authorities=patient_authorities),
        *(e for n, d in enumerate(submission.entries, start=1) for e in _entry_faults(d, f"DocumentEntry[{n}]")),
        *(_registered_faults(submission) if registered_elsewhere else ()),
        *_association_faults(submission),
    )


def set_faults(submission: Submission, *, patient_authorities: frozenset[str]) -> tuple[RegistryError, ...]:
    """What any request is checked for, whatever it asks: one sound SubmissionSet, sound ids, one patient."""
    return (
        *_content_faults(submission),
        *(e for n, s in enumerate(submission.sets, start=1) for e in _set_faults(s, f"SubmissionSet[{n}]")),
        *_id_faults(submission),
        *_patient_faults(submission, patient_authorities),
    )


def _content_faults(submission: Submission) -> Iterator[RegistryError]:
    for name in submission.foreign:
        yield RegistryError(code=_METADATA, context=f"this index does not keep: {name}")
    if len(submission.sets) != 1:
        yield RegistryError(
            code=_METADATA, context=f"exactly one SubmissionSet is needed, {len(submission.sets)} found"
        )


def _entry_faults(entry: DocumentEntry, where: str) -> Iterator[RegistryError]:
    yield from _shared_faults(entry, where, _ENTRY_SLOTS, _ENTRY_CODES, v.ENTRY_AUTHOR)
    yield from _identifier_faults(entry, where, v.ENTRY_UNIQUE_ID, "uniqueId", _pattern(_UNIQUE_ID))
    yield from _identifier_faults(entry, where, v.ENTRY_PATIENT_ID, "patientId", lambda t: patient_of(t) is not None)
    if entry.object_type != v.STABLE_DOCUMENT:
        yield _wrong(where, "objectType is not that of a stable document, the only kind this index keeps")
    if not _MIME.fullmatch(entry.mime_type):
        yield _wrong(where, "mimeType is missing or not type/subtype")
    start, stop = moment(entry.value("serviceStartTime")), moment(entry.value("serviceStopTime"))
    if start and stop and stop < start:
        yield _wrong(where, "serviceStopTime lies before serviceStartTime")


def _registered_faults(submission: Submission) -> Iterator[RegistryError]:
    for number, entry in enumerate(submission.entries, start=1):
        for name in _REGISTERED_SLOTS:
            if not entry.value(name):
                yield _wrong(f"DocumentEntry[{number}]", f"Slot {name} is missing; ITI-42 needs it")


def _set_faults(found: SubmissionSet, where: str) -> Iterator[RegistryError]:
    yield from _shared_faults(found, where, _SET_SLOTS, _SET_CODES, v.SET_AUTHOR)
    yield from _identifier_faults(found, where, v.SET_UNIQUE_ID, "uniqueId", _is_oid)
    yield from _identifier_faults(found, where, v.SET_SOURCE_ID, "sourceId", _is_oid)
    yield from _identifier_faults(found, where, v.SET_PATIENT_ID, "patientId", lambda t: patient_of(t) is not None)


def _shared_faults(
    found: RegistryObject, where: str, slots: Mapping[str, _Rule], codes: _Codes, author: str
) -> Iterator[RegistryError]:
    """What both kinds of object are checked for."""
    yield from _slot_faults(found, where, slots)
    for scheme, (name, least, most) in codes.items():
        given = found.classified(scheme)
        if not least <= len(given) <= most:
            yield _wrong(where, f"{name}: {len(given)} Classifications, {'exactly' if most == 1 else 'at least'} 1")
        for code in given:
            yield from _code_faults(code, where, name)
    for given_author in found.classified(author):
        if not any(slot.name in _AUTHOR_SLOTS and any(slot.values) for slot in given_author.slots):
            yield _wrong(where, "an author says neither person nor institution")
    if any(c.scheme and c.scheme not in codes and c.scheme != author for c in found.classifications):
        yield _wrong(where, "a Classification of a scheme that ITI TF-3 4.2.5.2 does not list")
    if any(c.owner not in {"", found.id} for c in found.classifications):
        yield _wrong(where, "a Classification whose classifiedObject is another object")
    if any(i.owner not in {"", found.id} for i in found.identifiers):
        yield _wrong(where, "an ExternalIdentifier whose registryObject is another object")


def _slot_faults(found: RegistryObject, where: str, slots: Mapping[str, _Rule]) -> Iterator[RegistryError]:
    for name, count in Counter(slot.name for slot in found.slots).items():
        if count > 1:
            yield _wrong(where, f"Slot {name if name in slots else 'of another name'} appears {count} times")
    for name, rule in slots.items():
        values = found.values(name)
        if rule.required and not values:
            yield _wrong(where, f"Slot {name} is missing")
        if len(values) > 1 and not rule.many:
            yield _wrong(where, f"Slot {name} holds {len(values)} values, one expected")
        if not all(map(rule.fits, values)):
            yield _wrong(where, f"Slot {name} is not {rule.wanted}")


def _code_faults(code: Classification, where: str, name: str) -> Iterator[RegistryError]:
    if not code.code:
        yield _wrong(where, f"{name} without @nodeRepresentation")
    if len([value for value in code.values("codingScheme") if value]) != 1:
        yield _wrong(where, f"{name} without exactly one codingScheme")
    if not any(text.value for text in code.name):
        yield _wrong(where, f"{name} without a Name (display)")


def _identifier_faults(
    found: RegistryObject, where: str, scheme: str, name: str, fits: Callable[[str], bool]
) -> Iterator[RegistryError]:
    values = [i.value for i in found.identifiers if i.scheme == scheme]
    if len(values) != 1:
        yield _wrong(where, f"{name}: {len(values)} ExternalIdentifiers, exactly 1")
    if not all(fits(value) and len(value) <= 256 for value in values):
        yield _wrong(where, f"{name} has not the required syntax")


def _id_faults(submission: Submission) -> Iterator[RegistryError]:
    """Ids are unique, and those that claim to be UUIDs are; so are uniqueIds (TF-3 4.2.3)."""
    if len({o.id for o in submission.objects}) < len(submission.objects):
        yield RegistryError(code=_METADATA, context="two objects share one id")
    if any(o.id.startswith("urn:") and not _is_urn(o.id) for o in submission.objects):
        yield RegistryError(code=_METADATA, context="an id starts with urn: and is no urn:uuid: UUID")
    unique_ids = Counter(o.unique_id for o in submission.subjects if o.unique_id)
    for unique_id, count in unique_ids.items():
        if count > 1:
            yield RegistryError(
                code="XDSRegistryDuplicateUniqueIdInMessage",
                context=f"{count} objects share the uniqueId {shown_id(unique_id)}",
            )


def _patient_faults(submission: Submission, known: frozenset[str]) -> Iterator[RegistryError]:
    """One submission speaks of one patient (TF-3 4.2.3.3), identified by a known authority."""
    patients = {patient_of(o.patient_id) for o in submission.subjects}
    if len(patients) > 1:
        yield RegistryError(
            code="XDSPatientIdDoesNotMatch", context="the SubmissionSet and its DocumentEntries name several patients"
        )
    authorities = {patient[0] for patient in patients if patient}
    if known and not authorities <= known:
        yield RegistryError(
            code="XDSUnknownPatientId", context="the assigning authority of patientId is not one of this index"
        )


def _association_faults(submission: Submission) -> Iterator[RegistryError]:
    sets = {o.id for o in submission.sets}
    entries = {o.id for o in submission.entries}
    members: set[str] = set()
    for number, association in enumerate(submission.associations, start=1):
        where = f"Association[{number}]"
        yield from _one_association_faults(association, where, sets, entries)
        if association.type == v.HAS_MEMBER and association.source in sets:
            members.add(association.target)
    for number, entry in enumerate(submission.entries, start=1):
        if entry.id not in members:
            yield _wrong(f"DocumentEntry[{number}]", "no HasMember association from the SubmissionSet")
    replaced = Counter(a.target for a in submission.associations if a.type in _REPLACING)
    for target, count in replaced.items():
        if count > 1:
            yield RegistryError(
                code=_METADATA, context=f"{shown_id(target)} is replaced {count} times in one message"
            )


def _one_association_faults(
    association: Association, where: str, sets: set[str], entries: set[str]
) -> Iterator[RegistryError]:
    inside = association.target in entries or association.target in sets
    if not inside and not _is_urn(association.target):
        yield _wrong(where, "the target is neither in this message nor an entryUUID")
    if association.type == v.HAS_MEMBER:
        if association.source not in sets:
            yield _wrong(where, "the source of HasMember is not the SubmissionSet")
        wanted = "Original" if inside else "Reference"
        if association.values("SubmissionSetStatus") != (wanted,):
            yield _wrong(where, f"SubmissionSetStatus must be {wanted}")
    elif association.type in _ABOUT_HELD:
        if association.source not in entries:
            yield _wrong(where, "the source is not a DocumentEntry of this message")
        if inside:
            yield _wrong(where, "the target must be a document the index already holds")
    elif association.type == v.SIGNS:
        if association.source not in entries:
            yield _wrong(where, "the source of signs is not a DocumentEntry of this message")
    else:
        yield _wrong(where, "an association type this index does not keep")


def document_faults(submission: Submission, documents: Mapping[str, bytes]) -> tuple[RegistryError, ...]:
    """Why the documents of an ITI-41 request do not fit its metadata. ``documents``: bytes by xdsb:Document/@id."""
    return tuple(_document_faults(submission, documents))


def _document_faults(submission: Submission, documents: Mapping[str, bytes]) -> Iterator[RegistryError]:
    for number, entry in enumerate(submission.entries, start=1):
        where = f"DocumentEntry[{number}]"
        content = documents.get(entry.id)
        if content is None:
            yield RegistryError(
                code="XDSMissingDocument", context="no Document has the id of the entry", location=where
            )
            continue
        stated_hash, stated_size = entry.value("hash"), entry.value("size")
        if stated_hash and stated_hash.lower() != sha1(content):
            yield _repository(where, "the hash stated is not the SHA-1 of the bytes received")
        if _SIZE.fullmatch(stated_size) and int(stated_size) != len(content):
            yield _repository(where, f"the size stated is not the {len(content)} bytes received")
    for _ in documents.keys() - {entry.id for entry in submission.entries}:
        yield RegistryError(code="XDSMissingDocumentMetadata", context="a Document without DocumentEntry")


def conflicts(submission: Submission, patient_key: bytes, held: Held) -> tuple[RegistryError, ...]:
    """Why a sound submission does not fit what the index holds. Every entry states its hash and size."""
    return tuple(_conflicts(submission, patient_key, held))


def is_resubmission(submission: Submission, patient_key: bytes, held: Held) -> bool:
    """True when the index holds this very submission: same set, same entries, same bytes, same patient, and nothing
    of it was withdrawn."""
    there = [(o, held.objects.get(o.unique_id)) for o in submission.subjects]
    return all(
        kept is not None
        and kept.patient_key == patient_key
        and kept.is_entry == isinstance(o, DocumentEntry)
        and kept.status in v.SHOWN_STATUSES
        and (not isinstance(o, DocumentEntry) or _same_bytes(o, kept) == (True, True))
        for o, kept in there
    )


def _conflicts(submission: Submission, patient_key: bytes, held: Held) -> Iterator[RegistryError]:
    for number, entry in enumerate(submission.entries, start=1):
        yield from _same_id(entry, held, f"DocumentEntry[{number}]")
    for found in submission.sets:
        if found.unique_id in held.taken:
            yield _duplicate(found.unique_id, "SubmissionSet[1]")
    for taken in sorted({o.id for o in submission.objects} & held.taken):
        yield RegistryError(code=_METADATA, context=f"the id {shown_id(taken)} is in use in this index")
    inside = {o.id: o for o in submission.entries}
    own = inside.keys() | {o.id for o in submission.sets}
    for number, association in enumerate(submission.associations, start=1):
        if association.target not in own:
            source = inside.get(association.source)
            yield from _target_faults(association, source, patient_key, held, f"Association[{number}]")


def _same_id(entry: DocumentEntry, held: Held, where: str) -> Iterator[RegistryError]:
    """A uniqueId is used once; with other bytes the answer names the difference (TF-2 3.42.4.1.3)."""
    if entry.unique_id not in held.taken:
        return
    there = held.objects.get(entry.unique_id)
    same_hash, same_size = _same_bytes(entry, there) if there is not None and there.is_entry else (True, True)
    if same_hash and same_size:
        yield _duplicate(entry.unique_id, where)
    for same, code in ((same_hash, "XDSNonIdenticalHash"), (same_size, "XDSNonIdenticalSize")):
        if not same:
            yield RegistryError(code=code, context=f"{entry.unique_id} is held with other bytes", location=where)


def _same_bytes(entry: DocumentEntry, there: HeldObject) -> tuple[bool, bool]:
    """(same hash, same size); a sound entry states both."""
    return there.hash == entry.value("hash").lower(), there.size == int(entry.value("size"))


def _target_faults(
    association: Association, source: DocumentEntry | None, patient_key: bytes, held: Held, where: str
) -> Iterator[RegistryError]:
    """What an association to something held asks of it (TF-3 4.2.2.2; FF-22)."""
    target = held.objects.get(association.target)
    shown = shown_id(association.target)
    if target is None or (association.type in _ABOUT_HELD and not target.is_entry):
        yield RegistryError(
            code="UnresolvedReferenceException", context=f"{shown} is no document of this index", location=where
        )
        return
    if target.patient_key != patient_key:
        yield RegistryError(
            code="XDSPatientIdDoesNotMatch", context=f"{shown} belongs to another patient", location=where
        )
    if association.type in _ABOUT_HELD and target.status != v.STATUS_APPROVED:
        yield RegistryError(
            code="XDSRegistryDeprecatedDocumentError", context=f"{shown} is not Approved", location=where
        )
    if association.type in _REPLACING and source is not None and source.object_type != target.object_type:
        yield _wrong(where, "a document is replaced by one of the same objectType only")


def sha1(content: bytes) -> str:
    """SHA-1 in lower-case hexadecimal, as XDSDocumentEntry.hash wants it (a check sum, no protection)."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def shown_id(text: str) -> str:
    """An id as a message may show it: nothing but a true OID or UUID leaves the house."""
    return text if _is_urn(text) or _is_oid(text) else f"({len(text)} characters)"


def _duplicate(unique_id: str, where: str) -> RegistryError:
    return RegistryError(
        code="XDSDuplicateUniqueIdInRegistry",
        context=f"the uniqueId {shown_id(unique_id)} is in use in this index",
        location=where,
    )


def _wrong(where: str, context: str) -> RegistryError:
    return RegistryError(code=_METADATA, context=context, location=where)


def _repository(where: str, context: str) -> RegistryError:
    return RegistryError(code="XDSRepositoryMetadataError", context=context, location=where)
