"""``ChangeFollower``: reads Orthanc's change log, so that late images are seen without a new report.

Invariants:

* the cursor moves in the transaction that holds what the page led to, or neither does: a page is taken once, or
  again after a crash, never skipped;
* a change only ever makes us look at the PACS again (``indexer.publication`` then compares the content and sends
  nothing when it is the same): nothing is held or withdrawn because of one, and nothing at all happens for a study
  of which no valid report speaks (its report will ask);
* a log that is not the one we read before (database restored or replaced) is read again from its beginning, behind
  what is new;
* an Orthanc that is down is waited for; no page of its answers can end the follower.

What counts (measured on Orthanc 1.10.1): ``StableStudy``, which comes ``StableAge`` seconds after the last instance
and again after later ones. The timer behind it is lost when Orthanc restarts (FF-13): a study that received
instances and was not called stable within ``QUIET`` is looked at then, by a due time that our database keeps.

``Last`` of an answer without changes is the highest number the log ever gave; ``Last`` of ``/changes?last`` is the
number of the newest row left, and falls when the newest study is deleted. Only the former shows a log that went
backwards. The row at the cursor is asked for again with every page and compared with what we read there: a
restored database soon passes our cursor, with other changes under the same numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web

from gateway.bridge import Bridge, Call
from gateway.lifecycle import unless
from gateway.pacs.door import Inconclusive
from gateway.pacs.http import HttpExchange
from gateway.pacs.orthanc import OrthancPeer
from indexer import sightings
from indexer.ledger import Ledger, is_reported
from indexer.publication import job_kind
from security.clock import Clock, to_ms
from security.crash import crash_point
from security.errors import BadInput, Unavailable
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.parse.json import member
from security.store.port import ReadTx, Store, Tx

log = structlog.get_logger()

T = TypeVar("T")

PAGE: Final = 1000
QUIET: Final = timedelta(minutes=10)
_STABLE: Final = "StableStudy"
_ARRIVED: Final = "NewInstance"  # a new series or study has one
_LOOKS_APART_S: Final = 1.0
_WAIT_MAX_S: Final = 60.0
_RIPE_MAX: Final = 500
_SEQ_MAX: Final = 2**63 - 1  # what a database keeps, Orthanc's and ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last change read. ``seq``: 0 before the first. ``mark``: ``Change.mark`` of it, "" when never seen.
    ``replay_until``: changes up to this number are those of a log that is read again from its beginning."""

    seq: int
    mark: str
    replay_until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the log. ``resource``: Orthanc's identifier of what changed."""

    seq: int
    kind: str
    resource: str
    date: str

    @property
    def mark(self) -> str:
        """What tells this change from another one under the same number."""
        return hashlib.sha256(f"{self.kind}|{self.resource}|{self.date}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One answer of ``/changes``, ascending. ``last``: see the module."""

    changes: tuple[Change, ...]
    is_last: bool
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Studies by StudyInstanceUID, as Orthanc states it. ``stable``: to be looked at now; ``arriving``: instances
    came and Orthanc waits for more. A study that was stable and grows again is both."""

    stable: frozenset[str] = frozenset()
    arriving: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found. ``changes``: read and taken. ``is_last``: there was no more to read then."""

    changes: int
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    cursor: Cursor | None
    has_ripe: bool


def unread(page: Page, cursor: Cursor) -> tuple[Change, ...] | None:
    """The changes of ``page`` after ``cursor``; None when the log is another one than ``cursor`` was read from.

    ``page`` was asked for from the row at the cursor on. That row may be gone: Orthanc forgets the changes of what
    is deleted.
    """
    if not page.changes:
        return None if page.last < cursor.seq else ()
    first, *others = page.changes
    if first.seq != cursor.seq:
        return page.changes
    return tuple(others) if cursor.mark in {"", first.mark} else None


class ChangeLog:
    """The calls that read the log. Raises ``Inconclusive``, or ``BadInput`` for a wrong shape."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    def changes(self, *, since: int, limit: int) -> Page:
        """``GET /changes``: up to ``limit`` changes numbered above ``since``."""
        return _page(self._exchange.json("GET", f"/changes?since={since}&limit={limit}").value, since)

    def newest(self) -> Cursor:
        """``GET /changes?last``: where the log ends now."""
        page = _page(self._exchange.json("GET", "/changes?last").value, -1)
        if page.changes:
            return Cursor(seq=page.changes[-1].seq, mark=page.changes[-1].mark)
        return Cursor(seq=page.last, mark="")

    def touched(self, changes: Iterable[Change]) -> Touched:
        """``POST /tools/bulk-content`` at study level, once: the studies behind the changes that count.

        Orthanc climbs from an instance to its study and leaves out what is deleted since (Orthanc ≥ 1.9.4).
        """
        wanted = {change.resource: change.kind for change in changes if change.kind in {_ARRIVED, _STABLE}}
        if not wanted:
            return Touched()
        body = {"Resources": list(wanted), "Level": "Study", "Metadata": False}
        answer = self._exchange.json("POST", "/tools/bulk-content", json=body).value
        if not isinstance(answer, list):
            raise Inconclusive("bad-answer", "bulk-content did not answer a list")
        stable, arriving = set(), set()
        for entry in answer:
            tags = member(entry, "MainDicomTags", dict, what="bulk-content")
            try:
                study = Uid(str(tags.get("StudyInstanceUID", "")))
            except BadInput:
                continue  # no report can speak of it
            is_stable = member(entry, "IsStable", bool, what="bulk-content")
            if is_stable or wanted.get(member(entry, "ID", str, what="bulk-content")) == _STABLE:
                stable.add(study)
            if not is_stable:
                arriving.add(study)
        return Touched(stable=frozenset(stable), arriving=frozenset(arriving))


def _page(answer: Any, since: int) -> Page:
    changes = tuple(
        Change(
            seq=member(row, "Seq", int, what="/changes"),
            kind=member(row, "ChangeType", str, what="/changes"),
            resource=member(row, "ID", str, what="/changes"),
            date=member(row, "Date", str, what="/changes"),
        )
        for row in member(answer, "Changes", list, what="/changes")
    )
    last = member(answer, "Last", int, what="/changes")
    numbers = [since, *(change.seq for change in changes)]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise Inconclusive("bad-answer", "/changes is not in ascending order")
    if max(last, *numbers) > _SEQ_MAX:
        raise Inconclusive("bad-answer", "/changes holds a number that no log of Orthanc reaches")
    is_last = member(answer, "Done", bool, what="/changes")
    if not changes and not is_last:
        raise Inconclusive("bad-answer", "/changes is empty, yet not at its end")
    return Page(changes=changes, is_last=is_last, last=last)


class ChangeFollower:
    """Follows the log of one PACS for one tenant.

    Args:
        peer: the Orthanc; its ``deadline_s`` bounds one look.
        every_s: seconds between two looks.
        enqueued: called after a commit that made work.
        observe: called with ``pacs-reset`` when the log is another one than before.
    """

    def __init__(
        self,
        *,
        tenant: str,
        peer: OrthancPeer,
        store: Store,
        ledger: Ledger,
        clock: Clock,
        every_s: float = 10.0,
        page: int = PAGE,
        quiet: timedelta = QUIET,
        enqueued: Callable[[], None] = lambda: None,
        observe: Callable[[str], None] = lambda _what: None,
    ) -> None:
        self._tenant = tenant
        self._peer = peer
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._every_s = every_s
        self._page = page
        self._quiet = quiet
        self._enqueued = enqueued
        self._observe = observe
        self._bridge = Bridge(f"{peer.name}-changes", workers=1)
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """There may be changes: look now, at most once a second. To be called on the event loop."""
        self._nudged.set()

    async def close(self) -> None:
        """Cut what is under way and end the thread."""
        await self._bridge.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop``. A PACS that does not answer, or a full disk, is waited for.

        Raises:
            Broken: the store cannot be used any more.
        """
        failures, reason = 0, ""
        while not stop.is_set():
            self._nudged.clear()
            try:
                seen = await unless(stop, self.look())
            except Unavailable as fault:
                failures, seen = failures + 1, None
                if fault.code != reason:
                    log.warning("pacs-changes-unread", **self._names(), reason=fault.code, detail=fault.args[0])
                reason = fault.code
            else:
                if failures:
                    log.info("pacs-changes-read-again", **self._names(), failures=failures)
                failures, reason = 0, ""
            if seen is None or seen.is_last or not seen.changes:  # a log that gets no further is not asked at once
                await self._rest(stop, min(_WAIT_MAX_S, self._every_s * 2 ** min(failures, 10)))

    async def look(self) -> Look:
        """Read one page and carry out what it means; then what fell due meanwhile.

        Raises:
            Unavailable: no page was read, or it could not be stored: nothing changed.
        """
        known = await self._store.read(self._known)
        if known.cursor is None:
            start = await self._ask(_newest)
            await self._store.write(lambda tx: self._move(tx, start))
            log.info("pacs-changes-begin", **self._names(), seq=start.seq)
            return Look(changes=0, is_last=True)
        cursor = known.cursor
        page, touched = await self._ask(lambda changes: self._read(changes, cursor))
        changes = unread(page, cursor)
        if changes is None:
            return await self._begin_again(cursor)
        if changes or known.has_ripe:
            await self._take(cursor, changes, touched)
        return Look(changes=len(changes), is_last=page.is_last)

    async def _ask(self, question: Callable[[ChangeLog], T]) -> T:
        def work(call: Call) -> T:
            with HttpExchange.open(self._peer, call, media_types=("application/json",)) as exchange:
                return question(ChangeLog(exchange))

        try:
            return await self._bridge.run(work, deadline_s=self._peer.deadline_s)
        except Inconclusive as none:
            raise _unread(none.reason, none.detail) from None
        except BadInput as shape:
            raise _unread("bad-answer", shape.args[0]) from None

    def _read(self, changes: ChangeLog, cursor: Cursor) -> tuple[Page, Touched]:
        page = changes.changes(since=max(0, cursor.seq - 1), limit=self._page + 1)
        return page, changes.touched(unread(page, cursor) or ())

    async def _begin_again(self, cursor: Cursor) -> Look:
        end = await self._ask(_newest)
        await self._store.write(lambda tx: self._move(tx, Cursor(seq=0, mark="", replay_until=end.seq)))
        log.warning("pacs-reset", **self._names(), read_until=cursor.seq, log_ends=end.seq)
        self._observe("pacs-reset")
        return Look(changes=0, is_last=False)

    async def _take(self, cursor: Cursor, changes: tuple[Change, ...], touched: Touched) -> None:
        now = self._clock.now()
        after = replace(cursor, seq=changes[-1].seq, mark=changes[-1].mark) if changes else cursor
        urgency = JobClass.P1 if after.seq > cursor.replay_until else JobClass.P2

        def work(tx: Tx) -> int:
            self._move(tx, after)
            due = sorted(touched.stable.union(self._ripe(tx, now)))
            for study in due:
                self._forget(tx, study)
            self._await_quiet(tx, touched.arriving, now)
            return sum(self._look_again(tx, study, urgency, now) for study in due)

        begun = await self._store.write(work)
        crash_point("changes-committed")
        if begun:
            self._enqueued()

    # ── inside a transaction ─────────────────────────────────────────────────────────────────────────────────

    def _known(self, tx: ReadTx) -> _Known:
        row = tx.row(
            "SELECT seq, mark, replay_until FROM pacs_cursor WHERE tenant = :tenant AND pacs = :pacs", **self._names()
        )
        return _Known(
            cursor=Cursor(**row) if row else None,
            has_ripe=bool(self._ripe(tx, self._clock.now())),
        )

    def _move(self, tx: Tx, cursor: Cursor) -> None:
        tx.change(
            "INSERT INTO pacs_cursor (tenant, pacs, seq, mark, replay_until, at)"
            " VALUES (:tenant, :pacs, :seq, :mark, :replay_until, :now) ON CONFLICT (tenant, pacs) DO UPDATE"
            " SET seq = excluded.seq, mark = excluded.mark, replay_until = excluded.replay_until, at = excluded.at",
            **self._names(),
            seq=cursor.seq,
            mark=cursor.mark,
            replay_until=cursor.replay_until,
            now=to_ms(self._clock.now()),
        )

    def _look_again(self, tx: Tx, study: str, urgency: JobClass, now: datetime) -> bool:
        """Have the PACS asked about a reported exam, unless that is about to happen; whether a job was made."""
        kind = job_kind(self._tenant)
        if not is_reported(tx, self._tenant, study) or jobs.settles_next(
            tx, tenant=self._tenant, lane=study, kind=kind, now=now
        ):
            return False
        self._ledger.note(
            tx, self._tenant, study, kind="pacs-changed", summary=f"{self._peer.name} took in images", now=now
        )
        jobs.enqueue(tx, tenant=self._tenant, lane=study, kind=kind, job_class=urgency, now=now)
        return True

    def _await_quiet(self, tx: Tx, studies: Iterable[str], now: datetime) -> None:
        for study in sorted(studies):
            if is_reported(tx, self._tenant, study):
                sightings.arriving(tx, self._tenant, study, now=now)
                tx.change(
                    "INSERT INTO pacs_arriving (tenant, pacs, study_uid, due_at)"
                    " VALUES (:tenant, :pacs, :study, :due) ON CONFLICT (tenant, pacs, study_uid)"
                    " DO UPDATE SET due_at = excluded.due_at",
                    **self._names(),
                    study=study,
                    due=to_ms(now + self._quiet),
                )

    def _ripe(self, tx: ReadTx, now: datetime) -> list[str]:
        """Studies that have been quiet long enough; a due time no clock of today would have written counts too."""
        rows = tx.rows(
            "SELECT study_uid FROM pacs_arriving WHERE tenant = :tenant AND pacs = :pacs"
            " AND (due_at <= :now OR due_at > :latest) ORDER BY due_at LIMIT :limit",
            **self._names(),
            now=to_ms(now),
            latest=to_ms(now + self._quiet),
            limit=_RIPE_MAX,
        )
        return [row["study_uid"] for row in rows]

    def _forget(self, tx: Tx, study: str) -> None:
        tx.change(
            "DELETE FROM pacs_arriving WHERE tenant = :tenant AND pacs = :pacs AND study_uid = :study",
            **self._names(),
            study=study,
        )

    def _names(self) -> dict[str, str]:
        return {"tenant": self._tenant, "pacs": self._peer.name}

    async def _rest(self, stop: asyncio.Event, wait_s: float) -> None:
        """Until ``wait_s`` passed, a nudge (a second at least, then) or ``stop``."""
        stopped = asyncio.create_task(stop.wait())
        nudged = asyncio.create_task(self._nudged.wait())
        try:
            await asyncio.wait({stopped}, timeout=min(_LOOKS_APART_S, wait_s))
            await asyncio.wait(
                {stopped, nudged}, timeout=max(0.0, wait_s - _LOOKS_APART_S), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopped.cancel()
            nudged.cancel()


def nudge_route(followers: Mapping[tuple[str, str], ChangeFollower]) -> web.RouteDef:
    """``POST /pacs/{tenant}/{pacs}/nudge``, without a body: that PACS has something new. 204, or 404 for a PACS
    nobody follows. It says nothing and asks for one look at most a second, so it needs no guard of its own."""

    async def nudge(request: web.Request) -> web.Response:
        follower = followers.get((request.match_info["tenant"], request.match_info["pacs"]))
        if follower is None:
            raise web.HTTPNotFound
        if request.can_read_body:
            raise web.HTTPBadRequest
        follower.nudge()
        return web.Response(status=204)

    handler: Callable[[web.Request], Awaitable[web.Response]] = nudge
    return web.post("/pacs/{tenant}/{pacs}/nudge", handler)


def _newest(changes: ChangeLog) -> Cursor:
    return changes.newest()


def _unread(reason: str, detail: str) -> Unavailable:
    return Unavailable(
        f"/changes was not read: {detail}",
        code=reason,
        hint="look at the PACS; what was missed is read when it answers",
    )
