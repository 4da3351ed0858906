"""Running a stored query over what one patient has in the index (ITI TF-2 3.18.4.1.2.3).

Invariants:

* a ``Chart`` sees one patient: nothing reached through it can belong to another (design §6);
* an answer is whole or an error: a cap that is reached gives XDSTooManyResults, never a shortened list;
* what was withdrawn is shown only to a query that names its status.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from indexer.registry import rows
from indexer.registry.answers import RegistryError, XdsRefusal
from indexer.registry.queries import StoredQuery, fitting_entries, fitting_sets
from indexer.xds import vocabulary as v
from indexer.xds.objects import (
    Association,
    DocumentEntry,
    Kept,
    SubmissionSet,
    read_association,
    read_entry,
    read_set,
)
from security.parse.xml import parse_xml
from security.seal import Vault
from security.store.port import ReadTx, Row


def object_context(entry_uuid: str) -> str:
    """What a sealed set or entry is bound to."""
    return f"registry.object/{entry_uuid}"


def association_context(entry_uuid: str) -> str:
    """What a sealed association is bound to."""
    return f"registry.association/{entry_uuid}"


def document_context(unique_id: str) -> str:
    """What a sealed document is bound to."""
    return f"registry.document/{unique_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One patient's part of the index, open for reading. ``most``: cap on what one look may return."""

    tx: ReadTx
    vault: Vault
    tenant: str
    patient_key: bytes
    most: int

    def entries(self) -> list[DocumentEntry]:
        """Every entry, oldest first."""
        return [o for o in self._objects("entry") if isinstance(o, DocumentEntry)]

    def sets(self) -> list[SubmissionSet]:
        """Every submission set, oldest first."""
        return [o for o in self._objects("set") if isinstance(o, SubmissionSet)]

    def one(self, identifier: str) -> DocumentEntry | SubmissionSet | None:
        """The set or entry with that entryUUID or uniqueId."""
        row = rows.find_object(self.tx, self.tenant, self.patient_key, identifier)
        return None if row is None else self._object(row)

    def documents(self, ids: Iterable[str]) -> list[DocumentEntry]:
        """The entries among these ids that were not withdrawn, each once."""
        found = [self.one(identifier) for identifier in dict.fromkeys(ids)]
        shown = (o for o in found if isinstance(o, DocumentEntry) and o.status in v.SHOWN_STATUSES)
        return list({o.id: o for o in shown}.values())

    def source_of(self, entry_uuid: str) -> str:
        """XDSSubmissionSet.sourceId of the set that brought the entry, "" when there is none."""
        brought = [
            self.one(link.source)
            for link in self.associations([entry_uuid])
            if link.type == v.HAS_MEMBER
            and link.target == entry_uuid
            and link.values("SubmissionSetStatus") == ("Original",)
        ]
        return brought[0].identifier(v.SET_SOURCE_ID) if len(brought) == 1 and brought[0] is not None else ""

    def associations(self, ids: Iterable[str]) -> list[Association]:
        """The associations from or to any of these entryUUIDs, each once."""
        found: dict[str, Association] = {}
        for identifier in dict.fromkeys(ids):
            listed = rows.list_associations(self.tx, self.tenant, self.patient_key, identifier, most=self.most + 1)
            for row in listed:
                sealed = self.vault.open(self.tenant, association_context(row["entry_uuid"]), row["content"])
                found[row["entry_uuid"]] = read_association(parse_xml(sealed, what="stored Association"))
            self.capped(found)
        return list(found.values())

    def capped(self, found: Iterable[object]) -> None:
        """Refuse when there is more than one answer may hold."""
        if sum(1 for _ in found) > self.most:
            raise XdsRefusal(
                RegistryError(code="XDSTooManyResults", context=f"more than {self.most} objects; narrow the query")
            )

    def _objects(self, kind: str) -> list[DocumentEntry | SubmissionSet]:
        listed = rows.list_objects(self.tx, self.tenant, self.patient_key, kind, most=self.most + 1)
        self.capped(listed)
        return [self._object(row) for row in listed]

    def _object(self, row: Row) -> DocumentEntry | SubmissionSet:
        xml = self.vault.open(self.tenant, object_context(row["entry_uuid"]), row["content"])
        element = parse_xml(xml, what="stored registry object")
        found = read_entry(element) if row["kind"] == "entry" else read_set(element)
        return replace(found, status=row["status"], kept_at=row["submitted_at"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """A tenant's whole index, open for reading; every way into it leads through one patient."""

    tx: ReadTx
    vault: Vault
    tenant: str
    most: int

    def chart(self, patient_key: bytes) -> Chart:
        """The part of the patient with that key."""
        return Chart(tx=self.tx, vault=self.vault, tenant=self.tenant, patient_key=patient_key, most=self.most)

    def chart_of(self, identifier: str) -> Chart | None:
        """The part of whoever has something with that entryUUID or uniqueId."""
        patient_key = rows.locate(self.tx, self.tenant, identifier)
        return None if patient_key is None else self.chart(patient_key)

    def document(self, chart: Chart, unique_id: str) -> bytes | None:
        """The bytes of a document, None when they lie elsewhere."""
        row = rows.find_document(self.tx, self.tenant, chart.patient_key, unique_id)
        return None if row is None else self.vault.open(self.tenant, document_context(unique_id), row["content"])


def patient_key(vault: Vault, tenant: str, patient: tuple[str, str]) -> bytes:
    """The key of a patient's rows: a blind index of (assigning authority, identifier)."""
    authority, identifier = patient
    value = unicodedata.normalize("NFC", f"{identifier}^^^&{authority}&ISO")
    return vault.blind(tenant, "registry.patient", value)


def run(query: StoredQuery, chart: Chart) -> list[Kept]:
    """What the query finds in one patient's part of the index.

    Raises:
        XdsRefusal: XDSTooManyResults.
    """
    return _RUN[query.id](query, chart)


def _find_documents(query: StoredQuery, chart: Chart) -> list[Kept]:
    return [*fitting_entries(query, chart.entries())]


def _find_submission_sets(query: StoredQuery, chart: Chart) -> list[Kept]:
    return [*fitting_sets(query, chart.sets())]


def _get_documents(query: StoredQuery, chart: Chart) -> list[Kept]:
    return [*chart.documents(query.ids)]


def _get_associations(query: StoredQuery, chart: Chart) -> list[Kept]:
    return [*chart.associations(query.ids)]


def _get_documents_and_associations(query: StoredQuery, chart: Chart) -> list[Kept]:
    found = chart.documents(query.ids)
    return [*found, *chart.associations(e.id for e in found)]


def _get_submission_sets(query: StoredQuery, chart: Chart) -> list[Kept]:
    members = [a for a in chart.associations(query.ids) if a.type == v.HAS_MEMBER and a.target in query.ids]
    sets = [chart.one(source) for source in dict.fromkeys(a.source for a in members)]
    return [*(s for s in sets if s is not None), *members]


def _get_submission_set_and_contents(query: StoredQuery, chart: Chart) -> list[Kept]:
    found = chart.one(query.ids[0])
    if not isinstance(found, SubmissionSet):
        return []
    members = [a for a in chart.associations([found.id]) if a.type == v.HAS_MEMBER]
    entries = fitting_entries(query, chart.documents(a.target for a in members))
    shown = {e.id for e in entries}
    return [found, *entries, *(a for a in members if a.target in shown)]


def _get_related_documents(query: StoredQuery, chart: Chart) -> list[Kept]:
    asked = chart.documents(query.ids)
    links = [a for a in chart.associations(e.id for e in asked) if a.type in query.association_types]
    ends = [end for a in links for end in (a.source, a.target)]
    related = chart.documents(ends)
    shown = {e.id for e in related}
    return [*related, *(a for a in links if {a.source, a.target} <= shown)]


_RUN: dict[str, Callable[[StoredQuery, Chart], list[Kept]]] = {
    v.FIND_DOCUMENTS: _find_documents,
    v.FIND_DOCUMENTS_BY_REFERENCE_ID: _find_documents,
    v.FIND_SUBMISSION_SETS: _find_submission_sets,
    v.GET_DOCUMENTS: _get_documents,
    v.GET_ASSOCIATIONS: _get_associations,
    v.GET_DOCUMENTS_AND_ASSOCIATIONS: _get_documents_and_associations,
    v.GET_SUBMISSION_SETS: _get_submission_sets,
    v.GET_SUBMISSION_SET_AND_CONTENTS: _get_submission_set_and_contents,
    v.GET_RELATED_DOCUMENTS: _get_related_documents,
}
