"""What a withdrawal job means: the index must not show our entry of this study any more (ITI-57, drim-m §5 TD3.3c).

Invariants:

* the entry that is approved *now* is withdrawn: also one that landed without our knowing (F07, FF-22);
* nothing is concluded from silence: an index that gives no clean answer is asked again, for as long as it takes;
* ``send`` sends what ``settle`` stored, byte for byte, on every attempt, and after an ambiguous answer only once a
  query showed that the entry is still approved (I5, I9);
* what was withdrawn is no predecessor: whoever publishes the study again begins anew.

Older versions that the entry had replaced stay deprecated at the index. Whether an exam ought to be withdrawn is
decided by whoever calls ``request``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from indexer import standing
from indexer.ledger import Ledger
from indexer.manifest import derived_uid
from indexer.ports import EntryAbsent, EntryAnswer, EntryFound, EntryUnknown, NationalIndex, StatusChange
from indexer.timeline import SHADOW
from indexer.xds import vocabulary as xds
from indexer.xds.metadata import Publisher, status_change
from security.clock import Clock, to_ms
from security.errors import Broken
from security.outbox import jobs
from security.outbox.port import Answer, Job, JobClass
from security.outbox.states import Event
from security.store.port import ReadTx, Store, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The tenant's part of a withdrawal. ``mode``: in shadow nothing real is asked of the index.
    ``deleted_status``: availabilityStatus by which the profile says "withdrawn"."""

    tenant: str
    mode: Literal["live", "shadow"]
    publisher: Publisher
    patience: standing.Patience
    deleted_status: str = xds.STATUS_DELETED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the store says about one study. ``serial``: of the next request this job prepares."""

    sendings: standing.Sendings
    is_trial: bool
    serial: int


_NOTHING = Answer(event=Event.UNNEEDED, reason="never-published", detail="the index shows nothing of ours")


def job_kind(tenant: str) -> str:
    """The registered name of a tenant's withdrawal jobs."""
    return f"withdraw:{tenant}"


def request(tx: Tx, ledger: Ledger, *, tenant: str, study: str, actor: str, reason: str, now: datetime) -> int:
    """Ask for the withdrawal of a study's entry; the ``job_id``. ``reason``: one sentence without patient values.

    Whatever of the study was not sent yet is not sent any more (I10). What allows it to be published again is for the
    caller to settle, in the same transaction.
    """
    ledger.note(tx, tenant, study, kind="withdrawal-asked", summary=f"by {actor}: {reason}", now=now)
    return jobs.enqueue(
        tx, tenant=tenant, lane=study, kind=job_kind(tenant), job_class=JobClass.P0, now=now, actor=actor
    )


class Withdrawal:
    """The ``JobKind`` of one tenant."""

    def __init__(
        self,
        *,
        terms: Terms,
        store: Store,
        ledger: Ledger,
        index: NationalIndex,
        clock: Clock,
        observe: Callable[[str, str], None] = lambda _what, _outcome: None,
    ) -> None:
        self.name = job_kind(terms.tenant)
        self.endpoint = f"index:{terms.tenant}"
        self._terms = terms
        self._store = store
        self._ledger = ledger
        self._index = index
        self._clock = clock
        self._observe = observe

    # -- settle --------------------------------------------------------------------------------------------

    async def settle(self, job: Job) -> Answer:
        """Which entry the index shows, and the request that withdraws it."""
        known = await self._store.read(lambda tx: self._known(tx, job))
        if not known.sendings.published and not known.sendings.attempted:
            return _NOTHING
        if self._terms.mode == "shadow" and not known.is_trial:
            return Answer(event=Event.HELD, reason=SHADOW, detail="nothing is asked of the index")
        found = await standing.newest(
            job, known.sendings, self._find, patience=self._terms.patience, clock=self._clock
        )
        match found:
            case standing.Shown():
                return await self._shown(job, known, found)
            case standing.Missing(version=version):
                return self._gone(job, version, None)
            case _:
                return found or _NOTHING

    async def _shown(self, job: Job, known: _Known, shown: standing.Shown) -> Answer:
        match shown.entry.status:
            case "Approved":
                return await self._prepare(job, known, shown)
            case "Deleted":
                return self._gone(job, shown.version, shown.entry)
            case _:
                return self._deprecated(job, shown.version, shown.entry)

    def _gone(self, job: Job, version: int, entry: EntryFound | None) -> Answer:
        """The index does not show it any more, whoever saw to that."""
        detail = f"the index does not show version {version} any more"
        return Answer(event=Event.FOUND, detail=detail, effects=self._withdrawn(job, version, entry, detail))

    def _withdrawn(self, job: Job, version: int, entry: EntryFound | None, said: str) -> Callable[[Tx], None]:
        now = self._clock.now()

        def learn(tx: Tx) -> None:
            if entry is not None:
                self._ledger.add_entry(tx, job.tenant, job.lane, version=version, entry=entry, now=now)
            self._ledger.mark_withdrawn(tx, job.tenant, job.lane, version=version, now=now)
            self._ledger.note(tx, job.tenant, job.lane, kind="withdrawn", summary=said, now=now)

        return learn

    def _deprecated(self, job: Job, version: int, entry: EntryFound) -> Answer:
        """Only an approved entry can be withdrawn, and it was not we who replaced this one."""
        now = self._clock.now()
        return Answer(
            event=Event.HELD,
            reason="entry-deprecated-by-others",
            detail=f"version {version} is {entry.status} in the index",
            effects=lambda tx: self._ledger.add_entry(
                tx, job.tenant, job.lane, version=version, entry=entry, now=now
            ),
        )

    async def _prepare(self, job: Job, known: _Known, shown: standing.Shown) -> Answer:
        published = await self._store.read(
            lambda tx: self._ledger.submission_at(tx, job.tenant, job.lane, shown.version)
        )
        if published is None:
            raise Broken(
                f"version {shown.version} of study {job.lane} was sent, and its bytes are not stored",
                code="submission-missing",
                hint="this is a defect or a damaged store: keep the database and report it",
            )
        now = self._clock.now()
        change = status_change(
            published,
            shown.entry.entry_uuid,
            unique_id=derived_uid("withdrawal", job.tenant, job.lane, str(job.job_id), str(known.serial)),
            created_at=now.replace(microsecond=0),
            new_status=self._terms.deleted_status,
            publisher=self._terms.publisher,
        )

        def effects(tx: Tx) -> None:
            self._ledger.add_entry(tx, job.tenant, job.lane, version=shown.version, entry=shown.entry, now=now)
            self._store_request(tx, job, change, serial=known.serial, version=shown.version, now=now)
            self._ledger.note(
                tx,
                job.tenant,
                job.lane,
                kind="withdrawal-built",
                summary=f"of version {shown.version}, approved in the index",
                now=now,
            )

        return Answer(
            event=Event.PREPARED,
            detail=f"version {shown.version}",
            effects=effects,
            request=self._index.updates,
        )

    async def _find(self, unique_id: str) -> EntryAnswer:
        entry = await self._index.find_document(unique_id)
        self._observe("index", type(entry).__name__.lower())
        return entry

    # -- send and query ------------------------------------------------------------------------------------

    async def send(self, job: Job) -> Answer:
        """ITI-57 with the stored bytes. In shadow mode nothing leaves."""
        if await self._stays_silent(job):
            return Answer(event=Event.HELD, reason=SHADOW, detail="prepared before the tenant went to shadow mode")
        stored = await self._store.read(lambda tx: self._stored_request(tx, job))
        if stored is None:
            return Answer(event=Event.HELD, reason="submission-missing", detail="no stored bytes for this job")
        answer = await self._index.update_status(stored[1])
        self._observe("index", type(answer).__name__.lower())
        return standing.sent(answer)

    async def query(self, job: Job) -> Answer:
        """ITI-18 by uniqueId: has the index stopped showing it? In shadow mode it is not asked."""
        if await self._stays_silent(job):
            later = self._clock.now() + timedelta(seconds=self._terms.patience.retry_cap_s)
            return Answer(event=Event.UNCLEAR, reason=SHADOW, detail="the index is not asked", not_before=later)
        stored = await self._store.read(lambda tx: self._stored_request(tx, job))
        if stored is None:
            return Answer(event=Event.UNCLEAR, reason="submission-missing", detail="no stored bytes for this job")
        return await self._seen(job, *stored)

    async def _seen(self, job: Job, version: int, change: StatusChange) -> Answer:
        said = f"the index does not show version {version} any more"
        match await self._find(change.unique_id):
            case EntryAbsent():
                return Answer(event=Event.FOUND, detail=said, effects=self._withdrawn(job, version, None, said))
            case EntryFound(status="Deleted") as entry:
                return Answer(event=Event.FOUND, detail=said, effects=self._withdrawn(job, version, entry, said))
            case EntryFound(status="Approved") as entry:
                return await self._still_shown(job, change, entry)
            case EntryFound() as entry:
                return self._deprecated(job, version, entry)
            case EntryUnknown(reason=reason, detail=detail):
                return Answer(event=Event.UNCLEAR, reason=f"index-{reason}", detail=detail)

    async def _stays_silent(self, job: Job) -> bool:
        if self._terms.mode == "live":
            return False
        return not await self._store.read(lambda tx: self._ledger.is_trial(tx, job.tenant, job.lane))

    async def _still_shown(self, job: Job, change: StatusChange, entry: EntryFound) -> Answer:
        """The entry counts as not withdrawn only once the index had time to hide it (F09), and never for ever."""
        now = self._clock.now()
        if self._terms.patience.is_too_early(job, job.sent_at or job.accepted_at, now=now):
            return Answer(
                event=Event.UNCLEAR,
                reason="still-visible",
                detail="the index still shows it",
                not_before=now + self._terms.patience.visibility / 20,
            )
        if entry.entry_uuid != change.entry_uuid:
            return Answer(
                event=Event.HELD,
                reason="entry-changed-by-others",
                detail="the entry has another entryUUID than the one the request names",
            )
        sends = await self._store.read(lambda tx: jobs.doubtful_sends(tx, job_id=job.job_id))
        if sends >= standing.SENDS_MAX:
            return Answer(
                event=Event.HELD, reason="never-withdrawn", detail=f"asked {sends} times, and still approved"
            )
        return Answer(
            event=Event.ABSENT, reason="still-in-index", detail="the index still shows it; the same bytes go again"
        )

    # -- rows ----------------------------------------------------------------------------------------------

    def _known(self, tx: ReadTx, job: Job) -> _Known:
        row = tx.row(
            "SELECT COUNT(*) AS requests FROM withdrawal WHERE tenant = :tenant AND job_id = :job_id",
            tenant=job.tenant,
            job_id=job.job_id,
        )
        return _Known(
            sendings=standing.sendings(tx, self._ledger, job.tenant, job.lane),
            is_trial=self._ledger.is_trial(tx, job.tenant, job.lane),
            serial=1 + (row["requests"] if row else 0),
        )

    def _store_request(
        self, tx: Tx, job: Job, change: StatusChange, *, serial: int, version: int, now: datetime
    ) -> None:
        tx.change(
            "INSERT INTO withdrawal (tenant, job_id, serial, study_uid, version, unique_id, entry_uuid, created_at,"
            " request) VALUES (:tenant, :job_id, :serial, :study, :version, :unique_id, :entry_uuid, :now, :request)",
            tenant=job.tenant,
            job_id=job.job_id,
            serial=serial,
            study=job.lane,
            version=version,
            unique_id=change.unique_id,
            entry_uuid=change.entry_uuid,
            now=to_ms(now),
            request=self._ledger.vault.seal(job.tenant, _place(job.job_id, serial), change.metadata),
        )

    def _stored_request(self, tx: ReadTx, job: Job) -> tuple[int, StatusChange] | None:
        """The version that the job's newest request withdraws, and that request."""
        row = tx.row(
            "SELECT * FROM withdrawal WHERE tenant = :tenant AND job_id = :job_id ORDER BY serial DESC LIMIT 1",
            tenant=job.tenant,
            job_id=job.job_id,
        )
        if row is None:
            return None
        metadata = self._ledger.vault.open(job.tenant, _place(job.job_id, row["serial"]), row["request"])
        return row["version"], StatusChange(
            unique_id=row["unique_id"], entry_uuid=row["entry_uuid"], metadata=metadata
        )


def request_at(
    tx: ReadTx, ledger: Ledger, tenant: str, job_id: int, serial: int | None = None
) -> tuple[int, bytes] | None:
    """One request of a job, byte for byte as stored, with its serial; without ``serial`` the newest; or None."""
    row = tx.row(
        "SELECT serial, request FROM withdrawal WHERE tenant = :tenant AND job_id = :job_id"
        " AND (:any = 1 OR serial = :serial) ORDER BY serial DESC LIMIT 1",
        tenant=tenant,
        job_id=job_id,
        any=int(serial is None),
        serial=serial or 0,
    )
    if row is None:
        return None
    return row["serial"], ledger.vault.open(tenant, _place(job_id, row["serial"]), row["request"])


def _place(job_id: int, serial: int) -> str:
    return f"withdrawal.request/{job_id}/{serial}"
