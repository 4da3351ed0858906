"""The rules of a new version of a DocumentEntry's metadata (ITI-57, ITI TF-2 3.57.4.1.3.3.1).

The request holds one SubmissionSet and, for each entry it revises, the whole entry with its logicalId, and the
HasMember association that brings it with the number of the version it follows. Two questions, both pure, as in
``update``: is the request sound (``revision_faults``), does it fit what is held (``revision_conflicts``).

Invariants:

* a version follows the newest one, which is Approved: of two revisions of one version the second is refused;
* the document stays: uniqueId, objectType, mimeType, hash, size, repositoryUniqueId cannot be revised;
* only the source that submitted an entry revises it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from indexer.registry.answers import RegistryError
from indexer.registry.validate import Held, HeldObject, faults, shown_id
from indexer.xds import vocabulary as v
from indexer.xds.objects import Association, DocumentEntry, Submission

_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_BYTES = ("hash", "size", "repositoryUniqueId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The newest version of an entry. ``source``: the sourceId under which it came."""

    held: HeldObject
    entry: DocumentEntry
    source: str


def revision_faults(submission: Submission, *, patient_authorities: frozenset[str]) -> tuple[RegistryError, ...]:
    """Why the request is not sound in itself; an empty tuple when it is."""
    return (
        *faults(submission, patient_authorities=patient_authorities, registered_elsewhere=True),
        *_operation_faults(submission),
    )


def previous_versions(submission: Submission) -> dict[str, int]:
    """The version each entry of a sound request follows, by the entry's id in the message."""
    return {
        link.target: int(link.values(v.SLOT_PREVIOUS_VERSION)[0])
        for link in submission.associations
        if _is_number(link)
    }


def propagates(submission: Submission, entry_id: str) -> bool:
    """Whether the associations of the version before are to hold for the new one (yes when nothing is said)."""
    return all(
        link.values(v.SLOT_ASSOCIATION_PROPAGATION) in {(), ("yes",)}
        for link in submission.associations
        if link.target == entry_id
    )


def revision_conflicts(
    submission: Submission, patient_key: bytes, held: Held, current: Mapping[str, Current]
) -> tuple[RegistryError, ...]:
    """Why a sound request does not fit what the index holds. ``current``: the newest version by logicalId."""
    taken = {o.id for o in submission.objects} | {o.unique_id for o in submission.sets}
    return (
        *(
            RegistryError(code="XDSDuplicateUniqueIdInRegistry", context=f"{shown_id(one)} is in use in this index")
            for one in sorted(taken & held.taken)
        ),
        *(
            error
            for number, entry in enumerate(submission.entries, start=1)
            for error in _entry_conflicts(
                submission,
                entry,
                held,
                current.get(entry.logical_id),
                whose=patient_key,
                where=f"DocumentEntry[{number}]",
            )
        ),
    )


def _operation_faults(submission: Submission) -> Iterator[RegistryError]:
    if any(link.type != v.HAS_MEMBER for link in submission.associations):
        yield _error("XDSMetadataUpdateOperationError", "a new version comes with its HasMember association alone")
    for lid, count in Counter(entry.logical_id for entry in submission.entries).items():
        if not lid.startswith("urn:uuid:"):
            yield _error("XDSMetadataUpdateError", "an entry without the logicalId (lid) of what it revises")
        elif count > 1:
            yield _error("XDSMetadataUpdateOperationError", "one entry is revised twice in one message")
    for number, link in enumerate(submission.associations, start=1):
        if link.type == v.HAS_MEMBER and not _is_number(link):
            yield _error(
                "XDSMetadataVersionError", f"{v.SLOT_PREVIOUS_VERSION} is not one number", f"Association[{number}]"
            )
        if link.values(v.SLOT_ASSOCIATION_PROPAGATION) not in {(), ("yes",), ("no",)}:
            yield _error("XDSMetadataUpdateError", f"{v.SLOT_ASSOCIATION_PROPAGATION} is neither yes nor no")


def _is_number(link: Association) -> bool:
    stated = link.values(v.SLOT_PREVIOUS_VERSION)
    return len(stated) == 1 and _NUMBER.fullmatch(stated[0]) is not None


def _entry_conflicts(
    submission: Submission,
    entry: DocumentEntry,
    held: Held,
    current: Current | None,
    *,
    whose: bytes,
    where: str,
) -> Iterator[RegistryError]:
    """What is wrong first is said alone: who may not touch an entry learns nothing about it."""
    there = held.objects.get(entry.logical_id)
    if there is None or not there.is_entry or there.logical_id != entry.logical_id:
        yield _error("UnresolvedReferenceException", f"{shown_id(entry.logical_id)} is no logicalId here", where)
    elif there.patient_key != whose or current is None:
        yield _error("XDSPatientIDReconciliationError", "the entry belongs to another patient", where)
    elif current.source != submission.sets[0].identifier(v.SET_SOURCE_ID):
        yield _error(
            "LocalPolicyRestrictionError", "the entry was submitted by another source, which alone revises it", where
        )
    elif current.held.version != previous_versions(submission)[entry.id]:
        yield _error("XDSMetadataVersionError", f"the newest version is {current.held.version}", where)
    elif current.held.status != v.STATUS_APPROVED:
        yield _error("XDSMetadataUpdateError", "the newest version is not Approved", where)
    else:
        yield from _identity_conflicts(entry, current.entry, where)


def _identity_conflicts(entry: DocumentEntry, before: DocumentEntry, where: str) -> Iterator[RegistryError]:
    if entry.unique_id != before.unique_id:
        yield _error("XDSMetadataIdentifierError", "the uniqueId cannot be revised", where)
    if entry.object_type != before.object_type:
        yield _error("XDSObjectTypeError", "the objectType cannot be revised", where)
    if entry.mime_type != before.mime_type or any(
        entry.value(name).lower() != before.value(name).lower() for name in _BYTES
    ):
        yield _error("UnmodifiableMetadataError", f"mimeType, {', '.join(_BYTES)} cannot be revised", where)


def _error(code: str, context: str, location: str = "") -> RegistryError:
    return RegistryError(code=code, context=context, location=location)
