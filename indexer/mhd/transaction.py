"""The transaction Bundle of ITI-65: written from a stored submission, read into ebRIM objects (ITI TF-2 3.65).

Invariants:

* what is written is a pure function of what was stored before the first attempt: the same submission gives the same
  bytes on every attempt, and one that an XDS door prepared can leave by this one (I5, FF-21);
* a document's bytes stand in the Bundle as they were stored; as a FHIR document they are spliced in as text, never
  parsed and written anew;
* the slicing is closed: an entry that MHD does not list is refused (3.65.4.1.2), and so is one this index does not
  keep, each by name;
* a replacement is said twice, by relatesTo of the new document and by the PATCH of the old one's status, or it is
  refused.

MHD leaves open how a document is withdrawn without a successor. Here it is the same transaction with a List and the
PATCH alone, which sets the status to entered-in-error.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from indexer.fhir import vocabulary as fhir
from indexer.mhd import mapping
from indexer.mhd import vocabulary as mhd
from indexer.mhd.values import Resource, item, items, text, unfit
from indexer.ports import StatusChange, Submission
from indexer.xds import vocabulary as xds
from indexer.xds.objects import (
    Association,
    DocumentEntry,
    Slot,
    SubmissionSet,
    canonical_reference,
    read_submission,
)
from indexer.xds.objects import Submission as Objects
from security.errors import BadInput, Broken
from security.parse.json import parse_json
from security.parse.mime import base64_strict
from security.parse.xml import parse_xml

FhirDocuments = Literal["bundle", "binary"]
"""How a FHIR document travels: as itself (option FHIR Document Publish) or serialised in a Binary."""

BYTES_MAX = 32 * 1024 * 1024
ENTRIES_MAX = 256
_NAMESPACE = uuid.UUID("5a8f5f0b-5c53-5f0e-9f0e-1a2b40d6c3a7")  # of every fullUrl made here; never change it
_REFERENCE = "DocumentReference/"


# -- writing -----------------------------------------------------------------------------------------------------


def provide_bundle(submission: Submission, *, fhir_documents: FhirDocuments = "binary") -> tuple[bytes, int]:
    """The ITI-65 request of a submission, and how many entries it has.

    Raises:
        Broken: ``published-unreadable`` the stored metadata is not a submission of ours.
    """
    objects = _stored(submission.metadata)
    (found,) = objects.sets
    documents = {canonical_reference(name): content for name, content in submission.documents.items()}
    replaced = [a.target for a in objects.associations if a.type in {xds.RPLC, xds.XFRM_RPLC}]
    written = [_list_entry(found, members=[one.id for one in objects.entries])]
    tail: list[str] = []
    for entry in objects.entries:
        content = documents[entry.id]
        is_bundle = fhir_documents == "bundle" and entry.mime_type == mhd.FHIR_JSON
        url = _full_url(entry.id, "document")
        relations = [a for a in objects.associations if a.source == entry.id and a.type != xds.SIGNS]
        shown = _without_digest(entry) if is_bundle else entry
        reference = mapping.document_reference(shown, url=url, relations=relations, reference=_named)
        written.append(_entry("DocumentReference", entry.id, reference))
        if is_bundle:
            tail.append(_spliced(url, content))
        else:
            binary = {"resourceType": "Binary", "contentType": entry.mime_type}
            tail.append(_text(_entry("Binary", url, binary | {"data": base64.b64encode(content).decode("ascii")})))
    written += [_patch_entry(target, mhd.SUPERSEDED) for target in replaced]
    return _bundle([*map(_text, written), *tail])


def withdrawal_bundle(change: StatusChange) -> tuple[bytes, int]:
    """The ITI-65 request that moves an entry to the status of what is withdrawn, and how many entries it has.

    Raises:
        Broken: as ``provide_bundle``.
    """
    objects = _stored(change.metadata)
    (found,) = objects.sets
    (moved,) = objects.associations
    return _bundle([_text(_list_entry(found, members=[])), _text(_patch_entry(moved.target, mhd.IN_ERROR))])


def patch(status: str) -> Resource:
    """FHIRPath Patch of DocumentReference.status (FHIR R4 3.1.0.12.2.1)."""
    part = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": mhd.STATUS_PATH},
        {"name": "value", "valueCode": status},
    ]
    return {
        "resourceType": "Parameters",
        "meta": {"profile": [mhd.PATCH_PARAMETERS]},
        "parameter": [{"name": "operation", "part": part}],
    }


def _stored(metadata: bytes) -> Objects:
    try:
        objects = read_submission(parse_xml(metadata, what="stored submission"))
    except BadInput as cause:
        raise _unreadable() from cause
    if len(objects.sets) != 1:
        raise _unreadable()
    return objects


def _unreadable() -> Broken:
    return Broken(
        "a stored submission cannot be read back",
        code="published-unreadable",
        hint="this is a defect or a damaged store: keep the database and report it",
    )


def _without_digest(entry: DocumentEntry) -> DocumentEntry:
    """A FHIR document is not bytes: MHD wants neither hash nor size of one (3.65.4.1.2.1)."""
    return replace(entry, slots=tuple(slot for slot in entry.slots if slot.name not in {"hash", "size"}))


def _named(target: str) -> str:
    """How an entry of the index is referred to: as its search told us, else by its entryUUID."""
    return target if target.startswith(_REFERENCE) else _REFERENCE + mapping.bare_id(target)


def _full_url(entry_id: str, role: str) -> str:
    return f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps([entry_id, role]))}"


def _list_entry(found: SubmissionSet, *, members: Sequence[str]) -> Resource:
    return _entry("List", found.id, mapping.submission_list(found, members=members))


def _entry(kind: str, full_url: str, resource: Resource) -> Resource:
    return {"fullUrl": full_url, "resource": resource, "request": {"method": "POST", "url": kind}}


def _patch_entry(target: str, status: str) -> Resource:
    named = _named(target)
    return {
        "fullUrl": _full_url(named, "patch"),
        "resource": patch(status),
        "request": {"method": "PATCH", "url": named},
    }


def _spliced(url: str, content: bytes) -> str:
    """The entry of a FHIR document whose text stands as it was stored."""
    document = content.decode("utf-8")
    request = _text({"method": "POST", "url": "Bundle"})
    return f'{{"fullUrl":{json.dumps(url)},"resource":{document},"request":{request}}}'


def _bundle(entries: Sequence[str]) -> tuple[bytes, int]:
    head = _text({"resourceType": "Bundle", "meta": {"profile": [mhd.PROVIDE_BUNDLE]}, "type": "transaction"})
    return f'{head[:-1]},"entry":[{",".join(entries)}]}}'.encode(), len(entries)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Provided:
    """One ITI-65 request, read. ``objects``: what ITI-41 (or, when ``withdraws``, ITI-57) would have brought;
    ``documents``: bytes by the id of their entry; ``entries``: what each entry of the Bundle was, in order, as kind
    and the id of the object that answers for it."""

    objects: Objects
    documents: Mapping[str, bytes]
    entries: tuple[tuple[str, str], ...]
    withdraws: bool


@dataclass(slots=True)
class _Slices:
    """The entries of a Bundle by slice, each with its fullUrl."""

    lists: list[tuple[str, Resource]] = field(default_factory=list)
    references: list[tuple[str, Resource]] = field(default_factory=list)
    documents: dict[str, Resource] = field(default_factory=dict)
    patches: dict[str, str] = field(default_factory=dict)
    others: dict[str, Resource] = field(default_factory=dict)
    order: list[tuple[str, str]] = field(default_factory=list)


def read_bundle(data: bytes, *, deleted_status: str = xds.STATUS_DELETED) -> Provided:
    """The objects and documents of an ITI-65 request.

    Raises:
        BadInput: ``json-…``; ``mhd-structure`` it is no transaction Bundle of MHD; else the XDS error code of the
            rule that it breaks.
    """
    bundle = parse_json(data, what="ITI-65 request", limit=BYTES_MAX)
    slices = _sliced(bundle)
    full_url, submitted = slices.lists[0]
    found = mapping.set_of(submitted, set_id="set-1", resolve=slices.others.get)
    entries: dict[str, DocumentEntry] = {}
    documents: dict[str, bytes] = {}
    for number, (url, reference) in enumerate(slices.references, start=1):
        entry = mapping.entry_of(reference, entry_id=f"entry-{number}", resolve=slices.others.get)
        documents[entry.id] = _document(slices, reference, entry)
        entries[url] = entry
    if slices.documents:
        raise structure(f"{len(slices.documents)} documents that no DocumentReference names")
    _check_members(submitted, list(entries))
    associations = [*_memberships(found, entries.values()), *_relations(slices, entries)]
    replaced = {a.target for a in associations if a.type == xds.RPLC}
    withdrawn = _patched(slices, replaced)
    if withdrawn and entries:
        raise unfit(
            "one transaction either brings documents or withdraws some", code="XDSMetadataUpdateOperationError"
        )
    associations += [_withdrawal(found.id, target, deleted_status) for target in withdrawn]
    kinds = {full_url: found.id} | {url: entry.id for url, entry in entries.items()}
    return Provided(
        objects=Objects(sets=(found,), entries=tuple(entries.values()), associations=tuple(associations)),
        documents=documents,
        entries=tuple((kind, _answering(kind, url, kinds, slices, entries)) for kind, url in slices.order),
        withdraws=bool(withdrawn),
    )


def structure(what: str) -> BadInput:
    """The refusal of a Bundle that has not the shape of ITI-65."""
    return unfit(f"ITI-65: {what}", code="mhd-structure")


def _sliced(bundle: Any) -> _Slices:
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "transaction":
        raise structure("the request is no Bundle of type transaction")
    profiles = item(bundle, "meta", "Bundle").get("profile", [])
    if not isinstance(profiles, list) or mhd.PROVIDE_BUNDLES.isdisjoint(p for p in profiles if isinstance(p, str)):
        raise structure("Bundle.meta.profile names none of the ProvideBundle profiles of MHD")
    entries = items(bundle, "entry", "Bundle")
    if len(entries) > ENTRIES_MAX:
        raise structure(f"{len(entries)} entries, at most {ENTRIES_MAX} are taken")
    slices = _Slices()
    for number, entry in enumerate(entries, start=1):
        _slice(slices, entry, f"Bundle.entry[{number}]")
    if len(slices.lists) != 1:
        raise structure(f"{len(slices.lists)} SubmissionSet Lists, exactly one is needed")
    urls = [url for _, url in slices.order]
    if len(set(urls)) < len(urls):
        raise structure("two entries share one fullUrl, or one resource is patched twice")
    return slices


def _slice(slices: _Slices, entry: Resource, where: str) -> None:
    """Put one entry where it belongs."""
    resource, request = item(entry, "resource", where), item(entry, "request", where)
    kind, method = text(resource, "resourceType", where), text(request, "method", where)
    full_url, url = text(entry, "fullUrl", where), text(request, "url", where)
    if not full_url and method != "PATCH":
        raise structure(f"{where} has no fullUrl")
    match kind, method:
        case "List", "POST" if _list_code(resource, where) == mhd.SUBMISSION_SET_CODE and url == kind:
            slices.lists.append((full_url, resource))
        case "List", "POST" | "PUT" if _list_code(resource, where) == mhd.FOLDER_CODE:
            raise unfit(f"{where}: this index does not keep Folders")
        case "DocumentReference", "POST" if url == kind:
            slices.references.append((full_url, resource))
        case "Binary" | "Bundle", "POST" if url == kind:
            slices.documents[full_url] = resource
        case "Parameters", "PATCH" if url.startswith(_REFERENCE):
            full_url = url
            slices.patches[url] = _patched_status(resource, where)
        case "Patient", "POST" | "PUT" | "GET":
            slices.others[full_url] = resource
        case _:
            raise structure(f"{where} is none of the entries that MHD lists (closed slicing)")
    slices.order.append((kind, full_url))


def _list_code(resource: Resource, where: str) -> str:
    codings = items(item(resource, "code", where), "coding", where)
    return next((text(c, "code", where) for c in codings if c.get("system") == mhd.LIST_TYPES), "")


def _patched_status(parameters: Resource, where: str) -> str:
    """The status that a FHIRPath Patch sets; anything else it may do is refused."""
    operations = items(parameters, "parameter", where)
    parts = {text(p, "name", where): p for p in items(operations[0], "part", where)} if len(operations) == 1 else {}
    path = parts.get("path", {}).get("valueString")
    if (
        parts.keys() != {"type", "path", "value"}
        or parts["type"].get("valueCode") != "replace"
        or path not in {mhd.STATUS_PATH, "status"}
    ):
        raise structure(f"{where} is no patch that replaces {mhd.STATUS_PATH}")
    return text(parts["value"], "valueCode", where)


def _document(slices: _Slices, reference: Resource, entry: DocumentEntry) -> bytes:
    """The bytes that a DocumentReference names, taken out of what is left."""
    where = "DocumentReference.content.attachment"
    attachment = item(items(reference, "content", where)[0], "attachment", where)
    if "data" in attachment:
        raise structure(f"{where} carries data; ITI-65 wants a url")
    if entry.value("size") == "0" and text(attachment, "hash", where) == mhd.DELAYED_ASSEMBLY_HASH:
        raise unfit("this index keeps stable documents only, no delayed assembly")
    resource = slices.documents.pop(text(attachment, "url", where), None)
    if resource is None:
        raise unfit(f"{where}.url names no document of the transaction", code="XDSMissingDocument")
    if resource["resourceType"] == "Bundle":
        return fhir_document(resource, entry)
    if text(resource, "contentType", "Binary") != entry.mime_type:
        raise unfit(f"Binary.contentType differs from {where}.contentType")
    return base64_strict(text(resource, "data", "Binary").encode())


def fhir_document(bundle: Resource, entry: DocumentEntry) -> bytes:
    """A FHIR document as the bytes that this index keeps: its JSON without blanks, members in their order."""
    if bundle.get("type") != "document" or entry.mime_type != mhd.FHIR_JSON:
        raise structure("a Bundle that is a document needs type document, and its reference application/fhir+json")
    if entry.value("hash") or entry.value("size"):
        raise structure("the attachment of a FHIR document states hash or size")
    return _text(bundle).encode()


def _check_members(submitted: Resource, urls: Sequence[str]) -> None:
    listed = [text(item(one, "item", "List.entry"), "reference", "List") for one in items(submitted, "entry", "List")]
    if sorted(listed) != sorted(urls):
        raise structure("List.entry does not name each DocumentReference of the transaction once, and no other")


def _memberships(found: SubmissionSet, entries: Iterable[DocumentEntry]) -> Iterator[Association]:
    original = (Slot(name="SubmissionSetStatus", values=("Original",)),)
    for number, entry in enumerate(entries, start=1):
        yield Association(
            id=f"member-{number}", type=xds.HAS_MEMBER, source=found.id, target=entry.id, slots=original
        )


def _relations(slices: _Slices, entries: Mapping[str, DocumentEntry]) -> Iterator[Association]:
    where = "DocumentReference.relatesTo"
    for whose, (url, reference) in enumerate(slices.references, start=1):
        for number, relation in enumerate(items(reference, "relatesTo", where), start=1):
            kind = mhd.RELATIONS.get(text(relation, "code", where))
            target = text(item(relation, "target", where), "reference", where)
            if kind is None:
                raise unfit(f"{where}.code is none of FHIR's")
            yield Association(
                id=f"relation-{whose}-{number}",
                type=kind,
                source=entries[url].id,
                target=entries[target].id if target in entries else entry_uuid_at(target),
            )


def entry_uuid_at(reference: str) -> str:
    """The entryUUID of ``DocumentReference/<id>``; an id that this index never gives becomes one that nothing has."""
    bare = reference.removeprefix(_REFERENCE)
    return canonical_reference(fhir.URN_UUID + bare) if _is_uuid(bare) else f"urn:uuid:{uuid.UUID(int=0)}"


def _is_uuid(text_: str) -> bool:
    try:
        return str(uuid.UUID(text_)) == text_.lower()
    except ValueError:
        return False


def _patched(slices: _Slices, replaced: set[str]) -> list[str]:
    """The entryUUIDs that are withdrawn; those that are replaced are patched and related, both or neither."""
    superseded = {entry_uuid_at(url) for url, status in slices.patches.items() if status == mhd.SUPERSEDED}
    withdrawn = [entry_uuid_at(url) for url, status in slices.patches.items() if status == mhd.IN_ERROR]
    if superseded != replaced:
        raise unfit(
            "relatesTo replaces and the PATCH of the old status to superseded go together, for the same document",
            code="XDSMetadataUpdateOperationError",
        )
    if len(superseded) + len(withdrawn) != len(slices.patches):
        raise unfit(
            "a PATCH sets a status that is neither superseded nor entered-in-error",
            code="XDSMetadataUpdateOperationError",
        )
    return withdrawn


def _withdrawal(set_id: str, target: str, deleted_status: str) -> Association:
    return Association(
        id=f"withdrawal-{mapping.bare_id(target)}",
        type=xds.UPDATE_AVAILABILITY_STATUS,
        source=set_id,
        target=target,
        slots=(
            Slot(name=xds.SLOT_ORIGINAL_STATUS, values=(xds.STATUS_APPROVED,)),
            Slot(name=xds.SLOT_NEW_STATUS, values=(deleted_status,)),
        ),
    )


def _answering(
    kind: str, url: str, kinds: Mapping[str, str], slices: _Slices, entries: Mapping[str, DocumentEntry]
) -> str:
    """Id of the object that answers for an entry of the request: for a document, its entry."""
    if url in kinds:
        return kinds[url]
    if kind == "Parameters":
        return entry_uuid_at(url)
    for reference_url, reference in slices.references:
        content = items(reference, "content", "DocumentReference")[0]
        if text(item(content, "attachment", "content"), "url", "attachment") == url:
            return entries[reference_url].id
    return ""
