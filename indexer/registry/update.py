"""The rules of ITI-57 Update Document Set, as far as this index takes it: withdrawing documents (ITI TF-2 3.57).

One request moves approved entries of one patient to the status of what is withdrawn, by one association
UpdateAvailabilityStatus each. Two questions, both pure: is the request sound in itself (``update_faults``), and does
it fit what is held (``update_conflicts``). Each answers with every reason it finds, an empty tuple meaning none.

Invariants:

* only the source that submitted an entry withdraws it: XDSSubmissionSet.sourceId is the same;
* nothing comes back: an entry that is not Approved takes no status change.

Left to others: new versions of an entry's metadata (``revision``); status of associations and Folders, which is
refused (``XDSMetadataUpdateOperationError``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from indexer.registry.answers import RegistryError
from indexer.registry.validate import Held, HeldObject, set_faults, shown_id
from indexer.xds import vocabulary as v
from indexer.xds.objects import Association, Submission


def update_faults(
    submission: Submission, *, patient_authorities: frozenset[str], deleted_status: str
) -> tuple[RegistryError, ...]:
    """Why the request is not sound in itself. ``deleted_status``: the only status an entry may be moved to."""
    return (
        *set_faults(submission, patient_authorities=patient_authorities),
        *_operation_faults(submission),
        *(
            fault
            for number, change in enumerate(submission.associations, start=1)
            for fault in _change_faults(submission, change, f"Association[{number}]", deleted_status)
        ),
    )


def update_conflicts(
    submission: Submission, patient_key: bytes, held: Held, sources: Mapping[str, str]
) -> tuple[RegistryError, ...]:
    """Why a sound request does not fit what the index holds. ``sources``: the sourceId under which each entry it
    names was submitted, by entryUUID."""
    return tuple(_conflicts(submission, patient_key, held, sources))


def _operation_faults(submission: Submission) -> Iterator[RegistryError]:
    if not submission.associations:
        yield _operation("nothing to update: no Association")
    if len({change.target for change in submission.associations}) < len(submission.associations):
        yield _operation("one object is named twice")


def _change_faults(
    submission: Submission, change: Association, where: str, deleted_status: str
) -> Iterator[RegistryError]:
    if change.type != v.UPDATE_AVAILABILITY_STATUS:
        yield _operation("an update this index does not know", where)
        return
    if change.source not in {found.id for found in submission.sets}:
        yield _wrong("the source is not the SubmissionSet", where)
    if change.values(v.SLOT_ORIGINAL_STATUS) != (v.STATUS_APPROVED,):
        yield _wrong(f"{v.SLOT_ORIGINAL_STATUS} is not Approved", where)
    if change.values(v.SLOT_NEW_STATUS) != (deleted_status,):
        yield _wrong(f"{v.SLOT_NEW_STATUS} is not {deleted_status}", where)


def _conflicts(
    submission: Submission, patient_key: bytes, held: Held, sources: Mapping[str, str]
) -> Iterator[RegistryError]:
    for taken in sorted({found.unique_id for found in submission.sets} & held.taken):
        yield RegistryError(
            code="XDSDuplicateUniqueIdInRegistry", context=f"the uniqueId {shown_id(taken)} is in use in this index"
        )
    for taken in sorted({found.id for found in submission.objects} & held.taken):
        yield _wrong(f"the id {shown_id(taken)} is in use in this index", "")
    asking = submission.sets[0].identifier(v.SET_SOURCE_ID)
    for number, change in enumerate(submission.associations, start=1):
        yield from _target_conflicts(
            change,
            held.objects.get(change.target),
            whose=patient_key,
            is_theirs=sources.get(change.target) == asking,
            where=f"Association[{number}]",
        )


def _target_conflicts(
    change: Association, target: HeldObject | None, *, whose: bytes, is_theirs: bool, where: str
) -> Iterator[RegistryError]:
    """What is wrong first is said alone: who may not touch an entry learns nothing about it."""
    shown = shown_id(change.target)
    if target is None or not target.is_entry or target.entry_uuid != change.target:
        yield RegistryError(
            code="UnresolvedReferenceException", context=f"{shown} is no document of this index", location=where
        )
    elif target.patient_key != whose:
        yield RegistryError(
            code="XDSPatientIDReconciliationError", context=f"{shown} belongs to another patient", location=where
        )
    elif not is_theirs:
        yield RegistryError(
            code="LocalPolicyRestrictionError",
            context=f"{shown} was submitted by another source, which alone withdraws it",
            location=where,
        )
    elif target.status != v.STATUS_APPROVED:
        yield _wrong(f"{shown} is not Approved", where)


def _operation(context: str, location: str = "") -> RegistryError:
    return RegistryError(code="XDSMetadataUpdateOperationError", context=context, location=location)


def _wrong(context: str, location: str) -> RegistryError:
    return RegistryError(code="XDSMetadataUpdateError", context=context, location=location)
