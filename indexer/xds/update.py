"""ITI-57 that changes who may see an entry of ours (drim-m §5 TD3.3a, TD3.3b; ITI TF-2 3.57.4.1.3.3.1).

The whole entry goes again, as it was published, with the new confidentiality and what the registry added to it. The
document stays, so a signature of the set that brought it stays true and is not made again: the new set brings no
document that could be signed. When this goes instead of a new version of the manifest, ``indexer.revision`` says.
"""

from __future__ import annotations

from datetime import datetime

from lxml import etree

from indexer.ports import EntryVersion, StatusChange, Submission
from indexer.report import Visibility
from indexer.xds import vocabulary as xds
from indexer.xds.ebrim import Parts, association, derived, rim, serialised, slot, submit_objects
from indexer.xds.metadata import Publisher, confidentiality, update_set
from security.errors import Broken
from security.identity import Uid
from security.parse.xml import parse_xml

_COMMENTS = "Mise à jour"
_IDENTIFIED = rim("ExternalIdentifier")


def metadata_update(
    published: Submission,
    current: EntryVersion,
    *,
    unique_id: Uid,
    created_at: datetime,
    level: str,
    visibility: Visibility,
    publisher: Publisher,
) -> StatusChange:
    """The request that makes ``level`` and ``visibility`` those of the entry.

    ``published``: the version as it was submitted; ``current``: its newest version in the index; ``unique_id``:
    XDSSubmissionSet.uniqueId of this request, of this request alone.

    Raises:
        BadInput: ``unknown-code`` a level no table lists.
        Broken: ``published-unreadable``.
    """
    key = str(unique_id)
    set_id, entry_id = derived(key, "submission-set"), derived(key, "entry")
    request, objects = submit_objects()
    objects.append(
        update_set(
            set_id, published, unique_id=unique_id, created_at=created_at, publisher=publisher, comments=_COMMENTS
        )
    )
    entry = _published_entry(published)
    entry.set("id", entry_id)
    entry.set("lid", current.logical_id)
    last_slot = entry.findall(rim("Slot"))[-1]
    last_slot.addnext(slot("repositoryUniqueId", current.repository))
    reclassify(entry, level, visibility)
    objects.append(entry)
    objects.append(
        association(
            derived(key, "association", xds.HAS_MEMBER),
            xds.HAS_MEMBER,
            set_id,
            entry_id,
            (("SubmissionSetStatus", "Original"), (xds.SLOT_PREVIOUS_VERSION, str(current.version))),
        )
    )
    return StatusChange(unique_id=published.unique_id, entry_uuid=current.entry_uuid, metadata=serialised(request))


def _published_entry(published: Submission) -> etree._Element:
    """The entry of the manifest in a stored submission."""
    stored = parse_xml(published.metadata, what="stored submission")
    for entry in stored.iter(rim("ExtrinsicObject")):
        named = {(i.get("identificationScheme"), i.get("value")) for i in entry.iterchildren(_IDENTIFIED)}
        if (xds.ENTRY_UNIQUE_ID, published.unique_id) in named:
            return entry
    raise Broken(
        "a stored submission holds no entry of its own document",
        code="published-unreadable",
        hint="this is a defect or a damaged store: keep the database and report it",
    )


def reclassify(entry: etree._Element, level: str, visibility: Visibility) -> None:
    """Other confidentiality codes in the place of the old ones; every owner named by the entry's id."""
    entry_id = entry.get("id", "")
    for old in list(entry.iterchildren(rim("Classification"))):
        old.set("classifiedObject", entry_id)
        if old.get("classificationScheme") == xds.ENTRY_CONFIDENTIALITY_CODE:
            entry.remove(old)
    for identifier in entry.iterchildren(_IDENTIFIED):
        identifier.set("registryObject", entry_id)
    made = etree.Element(rim("ExtrinsicObject"), id=entry_id)
    Parts(made, "update").coded(xds.ENTRY_CONFIDENTIALITY_CODE, *confidentiality(level, visibility))
    first = entry.find(_IDENTIFIED)
    assert first is not None, "an entry has a patientId and a uniqueId"
    for classification in list(made):
        first.addprevious(classification)
