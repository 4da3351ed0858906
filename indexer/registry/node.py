"""The index node: ITI-41, ITI-42, ITI-57, ITI-18 and ITI-43 on one Store, and the same entries for its FHIR door.

Invariants:

* a submission is kept whole or not at all: bytes, entries, locator, associations, deprecations and audit rows are
  one transaction, and the answer is Success only after its commit is durable;
* a refused submission changes nothing;
* whatever describes a patient is sealed; patients are found by blind index;
* a retrieval opens each document once, and no more of them than one answer may hold;
* one transaction decides on what it sees: two submissions for the same uniqueId, or two replacements of one
  document, cannot both win.

The same submission again (same set, same uniqueIds, same bytes) is refused as a duplicate unless the policy says
otherwise; either way nothing is added (FF-21). New metadata of a document (ITI-57) are a new version beside the older
ones, which stay Deprecated. A withdrawn document (ITI-57) is not shown, not given out and not replaced any more, in
none of its versions; its rows stay. Left to others: who may ask (doors), audit of queries and retrievals (doors, they
know who asks), Folders, on-demand documents, status changes other than a withdrawal.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeVar

from lxml import etree

from indexer.registry import lookup, rows
from indexer.registry.answers import (
    QueryAnswer,
    RegistryAnswer,
    RegistryError,
    RetrieveAnswer,
    RetrievedDocument,
    XdsRefusal,
)
from indexer.registry.fhir import door
from indexer.registry.fhir.search import Search
from indexer.registry.queries import StoredQuery, parse_query
from indexer.registry.reads import Reading
from indexer.registry.revision import (
    Current,
    previous_versions,
    propagates,
    revision_conflicts,
    revision_faults,
)
from indexer.registry.rows import AssociationRow, DocumentRow, ObjectRow
from indexer.registry.update import update_conflicts, update_faults
from indexer.registry.validate import (
    Held,
    conflicts,
    document_faults,
    faults,
    is_resubmission,
    patient_of,
    sha1,
    shown_id,
)
from indexer.xds import soap
from indexer.xds import vocabulary as v
from indexer.xds.objects import (
    Association,
    DocumentEntry,
    Kept,
    RegistryObject,
    Submission,
    SubmissionSet,
    canonical_reference,
    read_submission,
    resolved,
    serialised,
    with_slots,
)
from security import audit
from security.audit import AuditRecord
from security.clock import Clock, to_ms
from security.crash import crash_point
from security.errors import BadInput, Broken
from security.seal import Vault
from security.store.port import Component, ReadTx, Store, Tx

_XDSB = f"{{{v.NS_XDSB}}}"
REGISTRY = Component(name="registry", package="indexer.registry")
OBJECTS_MAX = 5_000  # of one patient that a query may look at or return
DOCUMENTS_MAX = 64  # per ITI-43 request
ANSWER_BYTES_MAX = 64 * 1024 * 1024  # per ITI-43 answer, all documents together; one alone always fits
_PAGE = "registry.page"  # what a sealed link is bound to
T = TypeVar("T")
_HINT = "send the element that the action names (ITI TF-2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A sound submission, every id assigned, ready to be written."""

    submission: Submission
    patient_key: bytes
    rows: tuple[ObjectRow | AssociationRow | DocumentRow, ...]


class IndexNode:
    """One tenant's registry and repository.

    ``resubmission``: what the same submission again gets, an error (as most registries answer) or ``success``.
    ``patient_authorities``: OIDs that may assign a patientId, empty for any. ``deleted_status``: availabilityStatus
    of what was withdrawn, the only one that ITI-57 may ask for.
    """

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock,
        *,
        tenant: str,
        repository_unique_id: str,
        home: str = "",
        resubmission: Literal["success", "duplicate-error"] = "duplicate-error",
        patient_authorities: frozenset[str] = frozenset(),
        deleted_status: str = v.STATUS_DELETED,
        objects_max: int = OBJECTS_MAX,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._tenant = tenant
        self._repository = repository_unique_id
        self._home = home
        self._resubmission = resubmission
        self._patient_authorities = patient_authorities
        self.deleted_status = deleted_status
        self._objects_max = objects_max
        self._answer_bytes_max = answer_bytes_max

    async def ready(self) -> None:
        """Return when the store answers. Raises what the store raises."""
        await self._store.read(lambda tx: rows.locate(tx, self._tenant, ""))

    async def provide_and_register(self, envelope: soap.Envelope) -> RegistryAnswer:
        """ITI-41.

        Raises:
            BadInput: the body is another element, or its documents cannot be read.
        """
        _expect(envelope.body, _XDSB + "ProvideAndRegisterDocumentSetRequest")
        request = envelope.body.find(f"{{{v.NS_LCM}}}SubmitObjectsRequest")
        if request is None:
            raise BadInput("ITI-41 without lcm:SubmitObjectsRequest", code="xds-body", hint=_HINT)
        found = soap.documents(envelope.body, envelope.attachments)
        documents = {canonical_reference(name): content for name, content in found.items()}
        return await self._submit(request, documents)

    async def register(self, envelope: soap.Envelope) -> RegistryAnswer:
        """ITI-42: entries whose documents lie in a repository they name. Raises ``BadInput`` for another body."""
        _expect(envelope.body, f"{{{v.NS_LCM}}}SubmitObjectsRequest")
        return await self._submit(envelope.body, None)

    async def update(self, envelope: soap.Envelope) -> RegistryAnswer:
        """ITI-57: documents are withdrawn, or their metadata revised, by who submitted them. Raises ``BadInput`` for
        another body."""
        _expect(envelope.body, f"{{{v.NS_LCM}}}SubmitObjectsRequest")
        try:
            request = read_submission(envelope.body)
        except BadInput as shapeless:
            return _shapeless(shapeless)
        if not request.entries:
            return await self.withdraw(request)
        wrong = revision_faults(request, patient_authorities=self._patient_authorities)
        return await self._change(request, wrong, self._revise)

    async def withdraw(self, request: Submission) -> RegistryAnswer:
        """Move the entries that the associations of ``request`` name to the status of what is withdrawn."""
        wrong = update_faults(
            request, patient_authorities=self._patient_authorities, deleted_status=self.deleted_status
        )
        return await self._change(request, wrong, self._withdraw)

    async def _change(
        self,
        request: Submission,
        wrong: tuple[RegistryError, ...],
        write: Callable[[Tx, _Prepared], RegistryAnswer],
    ) -> RegistryAnswer:
        if wrong:
            return RegistryAnswer(errors=wrong)
        prepared = self._prepare(request, None, follows=previous_versions(request))
        answer = await self._store.write(lambda tx: write(tx, prepared))
        crash_point("registry-committed")
        return answer

    async def stored_query(self, envelope: soap.Envelope) -> QueryAnswer:
        """ITI-18."""
        try:
            query = parse_query(envelope.body)
            found, patients = await self._store.read(lambda tx: self._find(tx, query))
        except XdsRefusal as refused:
            return QueryAnswer(errors=refused.errors)
        except BadInput as unreadable:
            return QueryAnswer(errors=(RegistryError(code="XDSRegistryError", context=unreadable.args[0]),))
        return QueryAnswer(objects=tuple(found), leaf=query.leaf, patients=patients)

    async def retrieve(self, envelope: soap.Envelope) -> RetrieveAnswer:
        """ITI-43. Raises ``BadInput`` for another body, none or too many documents asked.

        A document named twice is answered once; one that does not fit beside those before it is an
        XDSRepositoryOutOfResources, to be asked for in another request.
        """
        _expect(envelope.body, _XDSB + "RetrieveDocumentSetRequest")
        wanted = list(envelope.body.iterchildren(_XDSB + "DocumentRequest"))
        if not 1 <= len(wanted) <= DOCUMENTS_MAX:
            raise BadInput(
                f"ITI-43 with {len(wanted)} DocumentRequests, 1 to {DOCUMENTS_MAX}",
                code="xds-body",
                hint="ask in several requests",
            )
        asked = dict.fromkeys(
            (
                _child(r, "HomeCommunityId") or self._home,
                _child(r, "RepositoryUniqueId"),
                _child(r, "DocumentUniqueId"),
            )
            for r in wanted
        )
        results = await self._store.read(lambda tx: self._retrieve_all(tx, asked))
        return RetrieveAnswer(
            repository=self._repository,
            home=self._home,
            errors=tuple(r for r in results if isinstance(r, RegistryError)),
            documents=tuple(r for r in results if isinstance(r, RetrievedDocument)),
        )

    # -- submissions ---------------------------------------------------------------------------------------------

    async def _submit(self, request: etree._Element, documents: Mapping[str, bytes] | None) -> RegistryAnswer:
        try:
            submission = read_submission(request)
        except BadInput as shapeless:
            return _shapeless(shapeless)
        return await self.submit(submission, documents)

    async def submit(self, submission: Submission, documents: Mapping[str, bytes] | None) -> RegistryAnswer:
        """Keep a submission whole or not at all. ``documents``: bytes by the id of their entry, None when they lie in
        the repositories that the entries name."""
        wrong = faults(
            submission, patient_authorities=self._patient_authorities, registered_elsewhere=documents is None
        )
        if documents is not None:
            wrong += document_faults(submission, documents)
        if wrong:
            return RegistryAnswer(errors=wrong)
        prepared = self._prepare(submission, documents)
        answer = await self._store.write(lambda tx: self._keep(tx, prepared))
        crash_point("registry-committed")
        return answer

    def _prepare(
        self,
        submission: Submission,
        documents: Mapping[str, bytes] | None,
        *,
        follows: Mapping[str, int] = MappingProxyType({}),
    ) -> _Prepared:
        """Assign ids, complete what the repository completes (TF-2 3.41.4.1.3), seal. ``follows``: by the id of a
        revised entry, the version before."""
        patient_key = self._patient_key(patient_of(submission.sets[0].patient_id) or ("", ""))
        bytes_of = {e.unique_id: documents[e.id] for e in submission.entries} if documents is not None else {}
        completed = replace(
            submission,
            entries=tuple(
                with_slots(
                    e,
                    {
                        "hash": sha1(bytes_of[e.unique_id]),
                        "size": str(len(bytes_of[e.unique_id])),
                        "repositoryUniqueId": self._repository,
                    },
                )
                if e.unique_id in bytes_of
                else e
                for e in submission.entries
            ),
        )
        versions = {entry_id: version + 1 for entry_id, version in follows.items()}
        final = resolved(completed, _new_id, versions=versions)
        return _Prepared(
            submission=final,
            patient_key=patient_key,
            rows=(
                *map(self._object_row, final.subjects),
                *map(self._association_row, final.associations),
                *(
                    DocumentRow(
                        unique_id=e.unique_id,
                        mime_type=e.mime_type,
                        content=self._vault.seal(
                            self._tenant, lookup.document_context(e.unique_id), bytes_of[e.unique_id]
                        ),
                    )
                    for e in final.entries
                    if e.unique_id in bytes_of
                ),
            ),
        )

    def _object_row(self, found: SubmissionSet | DocumentEntry) -> ObjectRow:
        entry = found if isinstance(found, DocumentEntry) else None
        return ObjectRow(
            entry_uuid=found.id,
            kind="set" if entry is None else "entry",
            unique_id=found.unique_id,
            logical_id=found.logical_id,
            version=int(found.version),
            object_type="" if entry is None else entry.object_type,
            hash="" if entry is None else entry.value("hash").lower(),
            size=0 if entry is None else int(entry.value("size")),
            content=self._sealed(lookup.object_context(found.id), found),
        )

    def _association_row(self, found: Association) -> AssociationRow:
        return AssociationRow(
            entry_uuid=found.id,
            type=found.type,
            source=found.source,
            target=found.target,
            content=self._sealed(lookup.association_context(found.id), found),
        )

    def _sealed(self, context: str, found: Kept) -> bytes:
        kept = replace(found, home=self._home, status=v.STATUS_APPROVED)
        return self._vault.seal(self._tenant, context, serialised(kept))

    def _keep(self, tx: Tx, prepared: _Prepared) -> RegistryAnswer:
        """Decide on what the index holds now, and write."""
        submission, patient_key = prepared.submission, prepared.patient_key
        named = {o.id for o in submission.objects} | {o.unique_id for o in submission.subjects}
        held = rows.gather(tx, self._tenant, named | {a.target for a in submission.associations})
        if self._resubmission == "success" and is_resubmission(submission, patient_key, held):
            return RegistryAnswer()
        wrong = conflicts(submission, patient_key, held)
        if wrong:
            return RegistryAnswer(errors=wrong)
        rows.add(tx, self._tenant, patient_key, prepared.rows, submitted_at=to_ms(self._clock.now()))
        for association in submission.associations:
            if association.type in {v.RPLC, v.XFRM_RPLC}:
                for entry_uuid in rows.deprecate(tx, self._tenant, patient_key, association.target):
                    self._audit(tx, "index.deprecated", entry_uuid)
        for entry in submission.entries:
            self._audit(tx, "index.registered", entry.unique_id)
        crash_point("registry-written")
        return RegistryAnswer(registered=tuple(o.id for o in submission.objects))

    def _withdraw(self, tx: Tx, prepared: _Prepared) -> RegistryAnswer:
        """Decide on what the index holds now, move the entries, keep the request beside them."""
        request, patient_key = prepared.submission, prepared.patient_key
        targets = {change.target for change in request.associations}
        held = rows.gather(
            tx, self._tenant, targets | {o.id for o in request.objects} | {o.unique_id for o in request.sets}
        )
        chart = self._chart(tx, patient_key)
        sources = {target: chart.source_of(target) for target in targets & held.objects.keys()}
        wrong = update_conflicts(request, patient_key, held, sources)
        if wrong:
            return RegistryAnswer(errors=wrong)
        rows.add(tx, self._tenant, patient_key, prepared.rows, submitted_at=to_ms(self._clock.now()))
        for target in sorted(targets):
            rows.change_versions(tx, self._tenant, patient_key, held.objects[target].logical_id, self.deleted_status)
            self._audit(tx, "index.withdrawn", target)
        crash_point("registry-written")
        return RegistryAnswer(registered=tuple(o.id for o in request.objects))

    def _revise(self, tx: Tx, prepared: _Prepared) -> RegistryAnswer:
        """Decide on what the index holds now, deprecate the version before, put the new one in its place."""
        request, patient_key = prepared.submission, prepared.patient_key
        lids = {entry.logical_id for entry in request.entries}
        held = rows.gather(
            tx, self._tenant, lids | {o.id for o in request.objects} | {o.unique_id for o in request.sets}
        )
        chart = self._chart(tx, patient_key)
        current = {lid: found for lid in lids if (found := self._current(tx, chart, held, lid)) is not None}
        wrong = revision_conflicts(request, patient_key, held, current)
        if wrong:
            return RegistryAnswer(errors=wrong)
        added: list[ObjectRow | AssociationRow | DocumentRow] = [*prepared.rows]
        for entry in request.entries:
            before = current[entry.logical_id].held.entry_uuid
            rows.change_status(tx, self._tenant, patient_key, before, v.STATUS_DEPRECATED)
            if propagates(request, entry.id):
                added += self._propagated(chart, before, entry.id)
            self._audit(tx, "index.revised", entry.unique_id)
        rows.add(tx, self._tenant, patient_key, added, submitted_at=to_ms(self._clock.now()))
        crash_point("registry-written")
        return RegistryAnswer(registered=tuple(o.id for o in request.objects))

    def _current(self, tx: ReadTx, chart: lookup.Chart, held: Held, lid: str) -> Current | None:
        """The newest version of an entry of this patient."""
        first = held.objects.get(lid)
        if first is None or first.patient_key != chart.patient_key:
            return None
        newest = rows.gather(tx, self._tenant, [first.unique_id]).objects[first.unique_id]
        entry = chart.one(newest.entry_uuid)
        if not isinstance(entry, DocumentEntry):
            return None
        return Current(held=newest, entry=entry, source=chart.source_of(newest.entry_uuid))

    def _propagated(self, chart: lookup.Chart, before: str, after: str) -> list[AssociationRow]:
        """The associations of the version before, but for how it came and was changed, again for the new one."""
        return [
            self._association_row(
                replace(
                    link,
                    id=(made := _new_id()),
                    logical_id=made,
                    source=after if link.source == before else link.source,
                    target=after if link.target == before else link.target,
                )
            )
            for link in chart.associations([before])
            if link.type not in {v.HAS_MEMBER, v.UPDATE_AVAILABILITY_STATUS}
        ]

    def _audit(self, tx: Tx, event: str, object_id: str) -> None:
        audit.append(
            tx,
            AuditRecord(
                tenant=self._tenant,
                zone="index",
                at=self._clock.now(),
                event=event,
                actor="index-peer",
                outcome=0,
                object_type="document",
                object_id=object_id,
            ),
        )

    # -- reading -------------------------------------------------------------------------------------------------

    async def look(self, work: Callable[[lookup.Holdings], T]) -> T:
        """Run ``work`` over what the index holds, in one reading transaction."""
        return await self._store.read(lambda tx: work(self._holdings(tx)))

    async def record(self, reading: Reading) -> None:
        """Write that somebody read; durable when this returns, before the answer leaves.

        Raises:
            Fault: as ``Store.write``; the answer must then not be given.
        """
        records = reading.records(self._tenant, self._clock.now())

        def work(tx: Tx) -> None:
            for one in records:
                audit.append(tx, one)

        await self._store.write(work)

    def digest(self, asked: str) -> str:
        """A question as its record keeps it: keyed, because a bare hash of what names a patient can be guessed."""
        return self._vault.blind(self._tenant, "registry.question", asked).hex()

    async def find_entries(self, search: Search) -> list[RegistryObject]:
        """ITI-67: the entries that meet a search. Raises ``XdsRefusal``: XDSTooManyResults."""
        return await self.look(lambda holdings: door.find_entries(holdings, search))

    def patient_id(self, patient: tuple[str, str]) -> str:
        """The id under which the FHIR door speaks of a patient (authority, identifier): it tells neither."""
        return self._patient_key(patient).hex()

    def seal_page(self, text: str) -> str:
        """A search as a link of ours carries it: nobody reads it, and only this index continues it."""
        return base64.urlsafe_b64encode(self._vault.seal(self._tenant, _PAGE, text.encode())).decode("ascii")

    def open_page(self, token: str) -> str:
        """The search of a link. Raises ``XdsRefusal`` for one that this index did not make."""
        try:
            return self._vault.open(
                self._tenant, _PAGE, base64.b64decode(token, altchars=b"-_", validate=True)
            ).decode()
        except (Broken, ValueError):
            raise XdsRefusal(
                RegistryError(code="XDSRegistryError", context="_page is no link of this index")
            ) from None

    def _patient_key(self, patient: tuple[str, str]) -> bytes:
        return lookup.patient_key(self._vault, self._tenant, patient)

    def _holdings(self, tx: ReadTx) -> lookup.Holdings:
        return lookup.Holdings(tx=tx, vault=self._vault, tenant=self._tenant, most=self._objects_max)

    def _chart(self, tx: ReadTx, patient_key: bytes) -> lookup.Chart:
        return self._holdings(tx).chart(patient_key)

    def _find(self, tx: ReadTx, query: StoredQuery) -> tuple[list[Kept], tuple[str, ...]]:
        if query.ids:
            located = (rows.locate(tx, self._tenant, identifier) for identifier in query.ids)
            keys = list(dict.fromkeys(key for key in located if key is not None))
        else:
            keys = [self._patient_key(query.patient)]
        if query.leaf and len(keys) > 1:
            raise XdsRefusal(
                RegistryError(code="XDSResultNotSinglePatient", context="the ids belong to several patients")
            )
        found: list[Kept] = []
        for key in keys:
            chart = self._chart(tx, key)
            found += lookup.run(query, chart)
            chart.capped(found)
        return found, tuple(key.hex() for key in keys)

    def _retrieve_all(
        self, tx: ReadTx, asked: Iterable[tuple[str, str, str]]
    ) -> list[RetrievedDocument | RegistryError]:
        results: list[RetrievedDocument | RegistryError] = []
        room: int | None = None  # None until a first document is in: that one fits whatever its size
        for home, repository, unique_id in asked:
            result = self._retrieve(tx, home, repository, unique_id, room=room)
            if isinstance(result, RetrievedDocument):
                room = (self._answer_bytes_max if room is None else room) - len(result.content)
            results.append(result)
        return results

    def _retrieve(
        self, tx: ReadTx, home: str, repository: str, unique_id: str, *, room: int | None
    ) -> RetrievedDocument | RegistryError:
        """``room``: bytes the document may have, None for any; judged on the index's size, before it is read."""
        if home != self._home:
            return RegistryError(code="XDSUnknownCommunity", context="another home community", location=self._home)
        if repository != self._repository:
            return RegistryError(
                code="XDSUnknownRepositoryId", context="another repository", location=self._repository
            )
        patient_key = rows.locate(tx, self._tenant, unique_id)
        entry = None if patient_key is None else rows.find_object(tx, self._tenant, patient_key, unique_id)
        if entry is not None and room is not None and entry["size"] > room:
            return RegistryError(
                code="XDSRepositoryOutOfResources",
                context=f"one answer holds {self._answer_bytes_max} bytes: ask for {shown_id(unique_id)} separately",
                location=self._repository,
            )
        row = None if patient_key is None else rows.find_document(tx, self._tenant, patient_key, unique_id)
        if row is None or entry is None or entry["status"] not in v.SHOWN_STATUSES:
            return RegistryError(
                code="XDSDocumentUniqueIdError",
                context=f"no document {shown_id(unique_id)} in this repository",
                location=self._repository,
            )
        content = self._vault.open(self._tenant, lookup.document_context(unique_id), row["content"])
        patient = "" if patient_key is None else patient_key.hex()
        return RetrievedDocument(unique_id=unique_id, mime_type=row["mime_type"], content=content, patient=patient)


def _new_id() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def _shapeless(bad: BadInput) -> RegistryAnswer:
    return RegistryAnswer(errors=(RegistryError(code="XDSRegistryMetadataError", context=bad.args[0]),))


def _expect(body: etree._Element, tag: str) -> None:
    if body.tag != tag:
        raise BadInput(f"the body is no {etree.QName(tag).localname}", code="xds-body", hint=_HINT)


def _child(request: etree._Element, name: str) -> str:
    return soap.text(request.find(_XDSB + name))
