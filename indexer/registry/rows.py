"""Every SQL statement the index node runs, and nothing else.

Invariants (proved by tests/unit/test_registry_rows.py on the statements, and by tests/integration/test_registry.py
on those really run):

* each statement carries ``tenant`` and ``patient_key``, the distribution column of a sharded store (design §6),
  or touches the locator alone;
* values are bound, never written into a statement;
* what describes a patient is sealed before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from indexer.registry.validate import Held, HeldObject
from indexer.xds import vocabulary as v
from security.store.port import ReadTx, Row, Tx, Value

LOCATE = "SELECT patient_key FROM registry_locator WHERE tenant = :tenant AND id = :id"
ADD_LOCATOR = "INSERT INTO registry_locator (tenant, id, patient_key) VALUES (:tenant, :id, :patient_key)"
ADD_OBJECT = (
    "INSERT INTO registry_object (tenant, patient_key, entry_uuid, kind, unique_id, logical_id, version, status,"
    " object_type, hash, size, submitted_at, content) VALUES (:tenant, :patient_key, :entry_uuid, :kind, :unique_id,"
    " :logical_id, :version, :status, :object_type, :hash, :size, :submitted_at, :content)"
)
ADD_ASSOCIATION = (
    "INSERT INTO registry_association (tenant, patient_key, entry_uuid, type, source, target, submitted_at, content)"
    " VALUES (:tenant, :patient_key, :entry_uuid, :type, :source, :target, :submitted_at, :content)"
)
ADD_DOCUMENT = (
    "INSERT INTO registry_document (tenant, patient_key, unique_id, mime_type, content)"
    " VALUES (:tenant, :patient_key, :unique_id, :mime_type, :content)"
)
OBJECT = (
    "SELECT entry_uuid, kind, unique_id, logical_id, version, status, object_type, hash, size, submitted_at,"
    " content FROM registry_object WHERE tenant = :tenant AND patient_key = :patient_key"
    " AND (entry_uuid = :id OR unique_id = :id) ORDER BY version DESC LIMIT 1"
)
OBJECTS = (
    "SELECT entry_uuid, kind, status, submitted_at, content FROM registry_object"
    " WHERE tenant = :tenant AND patient_key = :patient_key AND kind = :kind"
    " ORDER BY submitted_at, entry_uuid LIMIT :most"
)
ASSOCIATIONS = (
    "SELECT entry_uuid, content FROM registry_association"
    " WHERE tenant = :tenant AND patient_key = :patient_key AND (source = :id OR target = :id)"
    " ORDER BY submitted_at, entry_uuid LIMIT :most"
)
DEPENDANTS = (
    "SELECT source FROM registry_association WHERE tenant = :tenant AND patient_key = :patient_key"
    " AND target = :id AND type IN (:apnd, :xfrm)"
)
CHANGE_STATUS = (
    "UPDATE registry_object SET status = :new"
    " WHERE tenant = :tenant AND patient_key = :patient_key AND entry_uuid = :id AND status = :approved"
)
CHANGE_VERSIONS = (
    "UPDATE registry_object SET status = :new"
    " WHERE tenant = :tenant AND patient_key = :patient_key AND logical_id = :logical_id"
)
DOCUMENT = (
    "SELECT mime_type, content FROM registry_document"
    " WHERE tenant = :tenant AND patient_key = :patient_key AND unique_id = :id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRow:
    """A SubmissionSet or DocumentEntry to add. ``version``: of its metadata; ``content``: sealed canonical ebRIM."""

    entry_uuid: str
    kind: str
    unique_id: str
    logical_id: str
    version: int
    object_type: str
    hash: str
    size: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRow:
    """An Association to add. ``content``: sealed canonical ebRIM."""

    entry_uuid: str
    type: str
    source: str
    target: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document to add. ``content``: sealed bytes."""

    unique_id: str
    mime_type: str
    content: bytes


def locate(tx: ReadTx, tenant: str, identifier: str) -> bytes | None:
    """The patient key of whatever has this entryUUID or uniqueId, None when nothing has."""
    row = tx.row(LOCATE, tenant=tenant, id=identifier)
    return None if row is None else bytes(row["patient_key"])


def gather(tx: ReadTx, tenant: str, ids: Iterable[str]) -> Held:
    """What the index holds under each of these ids."""
    objects: dict[str, HeldObject] = {}
    taken: set[str] = set()
    for identifier in ids:
        patient_key = locate(tx, tenant, identifier)
        if patient_key is None:
            continue
        taken.add(identifier)
        row = tx.row(OBJECT, tenant=tenant, patient_key=patient_key, id=identifier)
        if row is not None:
            objects[identifier] = HeldObject(
                entry_uuid=row["entry_uuid"],
                unique_id=row["unique_id"],
                logical_id=row["logical_id"],
                version=row["version"],
                patient_key=patient_key,
                is_entry=row["kind"] == "entry",
                status=row["status"],
                object_type=row["object_type"],
                hash=row["hash"],
                size=row["size"],
            )
    return Held(objects=objects, taken=frozenset(taken))


def add(
    tx: Tx,
    tenant: str,
    patient_key: bytes,
    added: Iterable[ObjectRow | AssociationRow | DocumentRow],
    *,
    submitted_at: int,
) -> None:
    """Write the rows of one submission, approved, and make their ids known to the locator."""
    whose: dict[str, Value] = {"tenant": tenant, "patient_key": patient_key}
    for row in added:
        match row:
            case ObjectRow():
                tx.change(
                    ADD_OBJECT,
                    **whose,
                    **asdict(row),
                    status=v.STATUS_APPROVED,
                    submitted_at=submitted_at,
                )
                tx.change(ADD_LOCATOR, **whose, id=row.entry_uuid)
                if row.version == 1:  # a later version is found by the same uniqueId
                    tx.change(ADD_LOCATOR, **whose, id=row.unique_id)
            case AssociationRow():
                tx.change(ADD_ASSOCIATION, **whose, **asdict(row), submitted_at=submitted_at)
                tx.change(ADD_LOCATOR, **whose, id=row.entry_uuid)
            case DocumentRow():
                tx.change(ADD_DOCUMENT, **whose, **asdict(row))


def deprecate(tx: Tx, tenant: str, patient_key: bytes, entry_uuid: str) -> list[str]:
    """Deprecate an entry and whatever was appended to it or made from it (TF-3 4.2.2.2); the entryUUIDs changed."""
    changed: list[str] = []
    waiting = [entry_uuid]
    while waiting:
        identifier = waiting.pop()
        if change_status(
            tx, tenant, patient_key, identifier, v.STATUS_DEPRECATED
        ):  # one that was deprecated before had its dependants deprecated with it
            changed.append(identifier)
            found = tx.rows(
                DEPENDANTS, tenant=tenant, patient_key=patient_key, id=identifier, apnd=v.APND, xfrm=v.XFRM
            )
            waiting += [row["source"] for row in found]
    return changed


def change_status(tx: Tx, tenant: str, patient_key: bytes, entry_uuid: str, new: str) -> bool:
    """Move an approved entry to another status; False when it is not approved."""
    changed = tx.change(
        CHANGE_STATUS, tenant=tenant, patient_key=patient_key, id=entry_uuid, approved=v.STATUS_APPROVED, new=new
    )
    return changed == 1


def change_versions(tx: Tx, tenant: str, patient_key: bytes, logical_id: str, new: str) -> None:
    """Move every version of an entry to another status, whatever theirs was."""
    tx.change(CHANGE_VERSIONS, tenant=tenant, patient_key=patient_key, logical_id=logical_id, new=new)


def find_object(tx: ReadTx, tenant: str, patient_key: bytes, identifier: str) -> Row | None:
    """The set or entry of this patient with that entryUUID, or the newest version with that uniqueId."""
    return tx.row(OBJECT, tenant=tenant, patient_key=patient_key, id=identifier)


def list_objects(tx: ReadTx, tenant: str, patient_key: bytes, kind: str, *, most: int) -> list[Row]:
    """At most ``most`` sets or entries of a patient, oldest first."""
    return tx.rows(OBJECTS, tenant=tenant, patient_key=patient_key, kind=kind, most=most)


def list_associations(tx: ReadTx, tenant: str, patient_key: bytes, identifier: str, *, most: int) -> list[Row]:
    """At most ``most`` associations from or to an object, oldest first."""
    return tx.rows(ASSOCIATIONS, tenant=tenant, patient_key=patient_key, id=identifier, most=most)


def find_document(tx: ReadTx, tenant: str, patient_key: bytes, unique_id: str) -> Row | None:
    """The sealed bytes of a document and their media type."""
    return tx.row(DOCUMENT, tenant=tenant, patient_key=patient_key, id=unique_id)
