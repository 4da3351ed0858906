"""New metadata for an entry that stays (ITI-57): only whom an exam is hidden from changed (drim-m §2, §5).

Invariants:

* only whom the exam is hidden from may differ: a document that differs is replaced (``compared``);
* what is revised is the entry that the index shows approved now, with the whole metadata of the version we submitted;
* the bytes that ``prepare`` stores go on every attempt; after an ambiguous answer they go again only once a query
  showed that the entry is as before (I5, I9);
* it is done when a query shows the entry hiding all that the reports hide: an answer is not enough;
* an index that does not take it gets the new version of the manifest instead, once and at once: an exam never stays
  more visible than its reports say for want of this transaction. One that does not know it at all is not asked again
  for ``ASKED_AGAIN_AFTER``; why is said in the timeline.

When it goes instead of a replacement is ``decision``'s; the job is ``publication``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from indexer import hiding, standing
from indexer.decision import Index
from indexer.hiding import Marks
from indexer.ledger import Ledger, Prepared, Published
from indexer.manifest import Context, derived_uid
from indexer.ports import (
    EntryAbsent,
    EntryAnswer,
    EntryFound,
    EntryUnknown,
    IndexAnswer,
    Rejected,
    StatusChange,
    Submission,
)
from indexer.xds import vocabulary as xds
from indexer.xds.metadata import Publisher
from indexer.xds.update import metadata_update
from security.clock import Clock, from_ms, to_ms
from security.outbox import jobs
from security.outbox.port import Answer, Job
from security.outbox.states import Event
from security.store.port import ReadTx, Store, Tx

ASKED_AGAIN_AFTER = timedelta(days=30)
"""How long an index that does not know the transaction is spared it: its operator may have renewed it since."""
UNSUPPORTED_CODES = frozenset(
    {"XDSMetadataUpdateOperationError", "UnmodifiableMetadataError", "soap-sender", "http-404", "http-405"}
)
"""Refusals that speak of the transaction, not of one entry."""
_SENDS_MAX = 2
"""Sends without effect before the manifest is replaced instead."""
_TRANSIENT_MAX = 3
"""Attempts that end in the index's own internal error before the manifest is replaced instead."""
_REFUSED = "update-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What would be published now. ``digest``: of all of it; ``document``: whoever it is hidden from; ``outlined``:
    of all that an archive tells of it, while a report is known by its link alone, else ""."""

    context: Context
    digest: str
    document: str
    outlined: str = ""

    def is_of(self, known: Prepared | Published) -> bool:
        """Whether that version has this content."""
        return known.content_hash == self.digest or (self.outlined != "" and known.outline == self.outlined)

    @property
    def own(self) -> Marks:
        """What the valid reports hide."""
        return hiding.of(self.context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One stored request. ``entry_uuid``: the entry it names; ``next_version``: a manifest from this version on was
    made after it; ``told``: marks of the reports; ``hidden``: of the request."""

    serial: int
    version: int
    next_version: int
    content_hash: str
    told: Marks
    hidden: Marks
    change: StatusChange


class _Terms(Protocol):
    """The part of the tenant's policy that is used here."""

    @property
    def publisher(self) -> Publisher: ...

    @property
    def updates_metadata(self) -> bool: ...

    @property
    def patience(self) -> standing.Patience: ...


def target(shown: standing.Shown, own: Marks) -> Marks:
    """What the index should hide: what the reports say, and what others hid there."""
    codes = shown.entry.codes
    return own if codes is None else hiding.wanted(own, shown=hiding.stated(codes), told=shown.known.told)


def compared(found: standing.Shown | standing.Missing | None, content: Content) -> Index:
    """What the index shows, beside what would be published."""
    if found is None:
        return Index.NONE
    if isinstance(found, standing.Missing):
        return Index.MISSING
    if found.entry.status != "Approved":
        return Index.DEPRECATED
    is_same = content.is_of(found.known)
    if not is_same and (found.known.document_hash != content.document or found.entry.codes is None):
        return Index.OTHER
    return Index.SAME if _is_hidden_as_meant(found, content, is_same=is_same) else Index.VISIBILITY


def _is_hidden_as_meant(found: standing.Shown, content: Content, *, is_same: bool) -> bool:
    """Whether the entry hides what it should, or what it did when the index confirmed the same (which may tell codes
    in a way of its own). An index that tells none, and what was sent before marks were recorded, are believed."""
    known, codes = found.known, found.entry.codes
    if is_same and (codes is None or known.told is None):
        return True
    shown = hiding.stated(codes or ())
    return shown == target(found, content.own) or (is_same and shown == known.shown)


class Revisions:
    """The metadata updates of one tenant. ``kind``: of the job that replaces the manifest where one is refused."""

    def __init__(self, *, terms: _Terms, store: Store, ledger: Ledger, clock: Clock, kind: str) -> None:
        self._terms = terms
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._kind = kind

    async def base(self, job: Job, found: standing.Shown, content: Content) -> Submission | None:
        """The version as submitted, whose entry can be revised; None when it cannot."""
        if not self._terms.updates_metadata or found.entry.revision is None or found.entry.codes is None:
            return None
        return await self._store.read(lambda tx: self._base(tx, job, found.version, content))

    def _base(self, tx: ReadTx, job: Job, version: int, content: Content) -> Submission | None:
        refused = tx.row("SELECT at FROM revision_refusal WHERE tenant = :tenant", tenant=job.tenant)
        if refused is not None and self._clock.now() < from_ms(refused["at"]) + ASKED_AGAIN_AFTER:
            return None
        before = tx.row(
            "SELECT serial FROM revision WHERE tenant = :tenant AND study_uid = :study AND version = :version"
            " AND content_hash = :content_hash AND outcome = 'refused' LIMIT 1",
            tenant=job.tenant,
            study=job.lane,
            version=version,
            content_hash=content.digest,
        )
        published = self._ledger.submission_at(tx, job.tenant, job.lane, version)
        return published if before is None and published is not None and published.documents else None

    async def prepare(
        self, job: Job, base: Submission, found: standing.Shown, content: Content, *, next_version: int
    ) -> Answer:
        """The request, and the effect that stores it. ``base``: of ``base``."""
        assert found.entry.revision is not None, "an entry without a revision has no base"
        now = self._clock.now()
        hidden = target(found, content.own)
        serial = 1 + await self._store.read(lambda tx: _requests(tx, job))
        change = metadata_update(
            base,
            found.entry.revision,
            unique_id=derived_uid("revision", job.tenant, job.lane, str(job.job_id), str(serial)),
            created_at=now.replace(microsecond=0),
            level=hiding.level_of(hidden),
            visibility=hiding.visibility_of(hidden, content.context.visibility),
            publisher=self._terms.publisher,
        )
        made = Revision(
            serial=serial,
            version=found.version,
            next_version=next_version,
            content_hash=content.digest,
            told=content.own,
            hidden=hidden,
            change=change,
        )
        said = f"of version {found.version}: only whom it is hidden from differs"

        def effects(tx: Tx) -> None:
            self._add(tx, job, made, now=now)
            self._note(tx, job, "update-built", said, now)

        return Answer(event=Event.PREPARED, detail=f"metadata of version {found.version}", effects=effects)

    def sent(self, job: Job, made: Revision, answer: IndexAnswer) -> Answer:
        """What the index's answer to the request means to the job."""
        if isinstance(answer, Rejected):
            is_internal = not xds.INTERNAL_CODES.isdisjoint(answer.codes) and job.attempts >= _TRANSIENT_MAX
            if answer.lasting or not answer.known or is_internal:
                forgets = UNSUPPORTED_CODES.isdisjoint(answer.codes)
                return self._replaced(job, made, "+".join(answer.codes), is_remembered=not forgets)
        return standing.sent(answer)

    async def seen(self, job: Job, made: Revision, entry: EntryAnswer) -> Answer:
        """What a query for the document means to the job: does its entry hide what the reports hide?"""
        match entry:
            case EntryFound(status="Approved"):
                return await self._approved(job, made, entry)
            case EntryFound(status=status):
                now = self._clock.now()
                return Answer(
                    event=Event.HELD,
                    reason="entry-deprecated-by-others",
                    detail=f"version {made.version} is {status} in the index",
                    effects=lambda tx: self._ledger.add_entry(
                        tx, job.tenant, job.lane, version=made.version, entry=entry, now=now
                    ),
                )
            case EntryUnknown(reason=reason, detail=detail):
                return Answer(event=Event.UNCLEAR, reason=f"index-{reason}", detail=detail)
            case EntryAbsent():
                if self._is_too_early(job):
                    return self._later("not-visible-yet", "the index does not show the entry")
                return self._anew(job, "the index does not show the entry")

    async def _approved(self, job: Job, made: Revision, entry: EntryFound) -> Answer:
        shown = None if entry.codes is None else hiding.stated(entry.codes)
        is_another = entry.entry_uuid != made.change.entry_uuid
        if shown is not None and made.told <= shown and (is_another or shown == made.hidden):
            return self._done(job, made, entry, shown)
        if job.reason == "index-changed-meanwhile":
            if is_another:
                return self._anew(job, "the entry was changed by somebody else")
            return self._replaced(job, made, "changed-meanwhile", is_remembered=False)
        if self._is_too_early(job):
            return self._later("not-visible-yet", "the index shows the entry as it was")
        sends = await self._store.read(lambda tx: jobs.doubtful_sends(tx, job_id=job.job_id))
        if is_another or sends >= _SENDS_MAX:
            return self._replaced(job, made, "update-without-effect", is_remembered=True)
        said = "the entry is as it was; the same bytes go again"
        return Answer(event=Event.ABSENT, reason="not-in-index", detail=said)

    def _done(self, job: Job, made: Revision, entry: EntryFound, shown: Marks) -> Answer:
        now = self._clock.now()
        said = f"metadata of version {made.version} are as the reports say"

        def effects(tx: Tx) -> None:
            tenant, study = job.tenant, job.lane
            self._ledger.add_entry(tx, tenant, study, version=made.version, entry=entry, now=now)
            self._ledger.note_shown(
                tx,
                tenant,
                study,
                version=made.version,
                content_hash=made.content_hash,
                told=made.told,
                shown=shown,
            )
            self._note(tx, job, "entry-revised", said, now)

        return Answer(event=Event.FOUND, detail=said, effects=effects)

    def _replaced(self, job: Job, made: Revision, why: str, *, is_remembered: bool) -> Answer:
        """The manifest goes anew, with the urgency of this job."""
        now = self._clock.now()
        said = f"the index did not take new metadata of version {made.version} ({why}): the manifest is replaced"

        def effects(tx: Tx) -> None:
            tx.change(
                "UPDATE revision SET outcome = 'refused' WHERE tenant = :tenant AND job_id = :job_id"
                " AND serial = :serial",
                tenant=job.tenant,
                job_id=job.job_id,
                serial=made.serial,
            )
            if is_remembered:
                tx.change(
                    "INSERT INTO revision_refusal (tenant, at, why) VALUES (:tenant, :now, :why)"
                    " ON CONFLICT (tenant) DO UPDATE SET at = excluded.at, why = excluded.why",
                    tenant=job.tenant,
                    now=to_ms(now),
                    why=why,
                )
            self._note(tx, job, _REFUSED, said, now)
            self._again(tx, job, now)

        return Answer(event=Event.HELD, reason=_REFUSED, detail=said, effects=effects)

    def _anew(self, job: Job, said: str) -> Answer:
        """Not as it was when this was prepared: what is to be done is decided again."""
        now = self._clock.now()
        return Answer(
            event=Event.HELD, reason="entry-changed", detail=said, effects=lambda tx: self._again(tx, job, now)
        )

    def _again(self, tx: Tx, job: Job, now: datetime) -> None:
        jobs.enqueue(
            tx, tenant=job.tenant, lane=job.lane, kind=self._kind, job_class=job.job_class, now=now, deadline=now
        )

    def _later(self, reason: str, detail: str) -> Answer:
        wait = self._terms.patience.visibility / 20
        return Answer(event=Event.UNCLEAR, reason=reason, detail=detail, not_before=self._clock.now() + wait)

    def _is_too_early(self, job: Job) -> bool:
        return self._terms.patience.is_too_early(job, job.sent_at or job.accepted_at, now=self._clock.now())

    # -- rows ----------------------------------------------------------------------------------------------

    def _note(self, tx: Tx, job: Job, kind: str, summary: str, now: datetime) -> None:
        self._ledger.note(tx, job.tenant, job.lane, kind=kind, summary=summary, now=now)

    def _add(self, tx: Tx, job: Job, made: Revision, *, now: datetime) -> None:
        tx.change(
            "INSERT INTO revision (tenant, job_id, serial, study_uid, version, next_version, unique_id, entry_uuid,"
            " content_hash, told, hidden, created_at, request) VALUES (:tenant, :job_id, :serial, :study, :version,"
            " :next_version, :unique_id, :entry_uuid, :content_hash, :told, :hidden, :now, :request)",
            tenant=job.tenant,
            job_id=job.job_id,
            serial=made.serial,
            study=job.lane,
            version=made.version,
            next_version=made.next_version,
            unique_id=made.change.unique_id,
            entry_uuid=made.change.entry_uuid,
            content_hash=made.content_hash,
            told=hiding.text(made.told),
            hidden=hiding.text(made.hidden),
            now=to_ms(now),
            request=self._ledger.vault.seal(job.tenant, _place(job.job_id, made.serial), made.change.metadata),
        )

    def prepared(self, tx: ReadTx, job: Job) -> Revision | None:
        """The newest request that the job prepared, byte for byte as stored, or None."""
        row = tx.row(
            "SELECT * FROM revision WHERE tenant = :tenant AND job_id = :job_id ORDER BY serial DESC LIMIT 1",
            tenant=job.tenant,
            job_id=job.job_id,
        )
        if row is None:
            return None
        metadata = self._ledger.vault.open(job.tenant, _place(job.job_id, row["serial"]), row["request"])
        return Revision(
            serial=row["serial"],
            version=row["version"],
            next_version=row["next_version"],
            content_hash=row["content_hash"],
            told=frozenset(row["told"].split()),
            hidden=frozenset(row["hidden"].split()),
            change=StatusChange(unique_id=row["unique_id"], entry_uuid=row["entry_uuid"], metadata=metadata),
        )


def _requests(tx: ReadTx, job: Job) -> int:
    row = tx.row(
        "SELECT COUNT(*) AS requests FROM revision WHERE tenant = :tenant AND job_id = :job_id",
        tenant=job.tenant,
        job_id=job.job_id,
    )
    return int(row["requests"]) if row else 0


def _place(job_id: int, serial: int) -> str:
    return f"revision.request/{job_id}/{serial}"
