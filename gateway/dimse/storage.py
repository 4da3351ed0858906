"""C-STORE into the inbox: from the socket to a sealed file and a committed row, and only then 0x0000 (I1, FF-01).

Bytes are gathered into pieces on the event loop; everything else (sealing, hashing, looking at the structure,
writing, ``fdatasync``) happens in a few threads, a piece at a time and in order for each object. Objects that are
complete at the same moment share their renames, the ``fsync`` of their folders and one transaction.

Invariants:

* 0x0000 is answered after file, folder and row are on stable storage; whatever fails before is a failure status;
* an object in hand holds at most two pieces and one segment in memory (about 1.5 MiB), whatever its size (FF-06);
* an object that cannot be read is quarantined with its bytes and its reason, and disturbs no other (FF-08);
* what a crash left complete but without a row gets its row at the next start, or at the next check; what it left
  incomplete is removed;
* a check looks while no object is being placed or let go, so that each file and its row are seen together.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import structlog

from gateway.dimse import inbox
from gateway.dimse.command import Status
from gateway.dimse.part10 import Meta, read_head, write_head
from gateway.dimse.services import Discard, Failure, Request, Sink
from gateway.dimse.verdict import Keeping, Verdict, judge
from indexer.notes import KEY_OBJECT_SELECTION
from security.clock import Clock
from security.crash import crash_point
from security.errors import BadInput, Broken, Fault, Unavailable
from security.parse.dataset import DataSetWalk
from security.parse.identifiers import Identifiers
from security.spool import Draft, Spool
from security.store.port import Store, Tx

log = structlog.get_logger()

T = TypeVar("T")

PIECE_BYTES = 512 * 1024
THREADS = 4
GROUP_MAX = 64
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one peer may store. ``is_strict``: what breaks a rule is refused and not kept."""

    is_strict: bool = False
    objects_per_hour: int = 1_000_000
    bytes_per_hour: int = 1024**4


class Quota:
    """What a peer stored within the last hour, in steps of a minute (T16)."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._minutes: deque[tuple[float, int, int]] = deque()

    def is_used_up(self, now: float) -> bool:
        """Whether nothing more may be begun."""
        while self._minutes and self._minutes[0][0] <= now - _HOUR_S:
            self._minutes.popleft()
        return (
            sum(number for _, number, _ in self._minutes) >= self._terms.objects_per_hour
            or sum(size for _, _, size in self._minutes) >= self._terms.bytes_per_hour
        )

    def take(self, now: float, *, objects: int = 0, size: int = 0) -> None:
        """Count what came."""
        minute = now - now % 60
        if self._minutes and self._minutes[-1][0] == minute:
            _, had, bytes_ = self._minutes.pop()
            objects, size = objects + had, size + bytes_
        self._minutes.append((minute, objects, size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A complete object on stable storage, still without a name."""

    identifiers: Identifiers
    fault: BadInput | None
    digest: bytes
    size: int


class Examination:
    """What a data set is, found while it goes by."""

    def __init__(self, transfer_syntax: str) -> None:
        self._walk = DataSetWalk(transfer_syntax, what="received object")
        self._digest = hashlib.sha256(transfer_syntax.encode("ascii", "replace") + b"\0")
        self._fault: BadInput | None = None
        self._size = 0

    def feed(self, piece: bytes | bytearray) -> None:
        """The next bytes."""
        self._size += len(piece)
        self._digest.update(piece)
        self._try(lambda: self._walk.feed(piece))

    def end(self) -> Examined:
        """There are no more."""
        self._try(self._walk.close)
        return Examined(
            identifiers=self._walk.identifiers, fault=self._fault, digest=self._digest.digest(), size=self._size
        )

    def _try(self, look: Callable[[], None]) -> None:
        if self._fault is None:
            try:
                look()
            except BadInput as fault:
                self._fault = fault


class Writing:
    """One object in a worker thread: examined, sealed and written as it comes."""

    def __init__(self, spool: Spool, meta: Meta) -> None:
        self._spool = spool
        self._meta = meta
        self._examination = Examination(meta.transfer_syntax)
        self.draft: Draft | None = None

    def add(self, piece: bytes | bytearray) -> Draft:
        """The next bytes of the data set."""
        if self.draft is None:
            self.draft = self._spool.draft()
            self.draft.add(write_head(self._meta))
            crash_point("dimse-object-begun")
        self._examination.feed(piece)
        self.draft.add(piece)
        return self.draft

    def end(self, piece: bytes | bytearray) -> Examined:
        """The last bytes; durable when this returns."""
        self.add(piece).close()
        return self._examination.end()

    def discard(self) -> None:
        """Forget what was not placed."""
        if self.draft is not None:
            self.draft.discard()


class InboxSink:
    """The sink of one object (``services.Sink``)."""

    def __init__(self, storage: Storage, request: Request, writing: Writing) -> None:
        self._storage = storage
        self._request = request
        self._writing = writing
        self._piece = bytearray()
        self._job: asyncio.Future[Any] | None = None
        self._room: asyncio.Task[None] | None = None  # the next piece waits for the thread
        self._fault: Fault | None = None
        self._is_over = False

    def write(self, data: memoryview) -> asyncio.Future[None] | None:
        if self._fault is not None:
            return None
        self._piece += data
        if len(self._piece) < PIECE_BYTES:
            return None
        if self._job is None or self._job.done():
            self._start()
            return None
        if self._room is None or self._room.done():
            self._room = asyncio.create_task(self._make_room(), name="dimse-room")
        return self._room

    async def _make_room(self) -> None:
        await self._settled()
        if self._fault is None and not self._is_over:
            self._start()

    def _start(self) -> None:
        piece, self._piece = self._piece, bytearray()
        if self._job is not None:
            self._note(self._job)
        self._job = self._storage.in_thread(lambda: self._writing.add(piece))

    async def _settled(self) -> None:
        """The piece in the thread is done with."""
        if self._job is not None:
            await asyncio.wait({self._job})
            self._note(self._job)

    def _note(self, job: asyncio.Future[Any]) -> None:
        error = job.exception()
        if isinstance(error, Fault):
            self._fault = self._fault or error
            self._piece = bytearray()
        elif error is not None:
            raise error

    async def finish(self) -> int:
        try:
            if self._room is not None:
                await self._room  # pieces go to the thread in order
            await self._settled()
            if self._fault is None:
                piece = self._piece
                ending = self._storage.in_thread(lambda: self._writing.end(piece))
                self._job = ending
                await self._settled()
            if self._fault is not None:
                raise self._fault
            return await self._storage.keep(self._request, self._hand_over(), ending.result())
        except (Unavailable, Broken) as fault:
            self._storage.failed()
            log.warning("dimse-not-stored", peer=self._request.peer.name, code=fault.code, hint=fault.hint)
            return Status.OUT_OF_RESOURCES if isinstance(fault, Unavailable) else Status.PROCESSING_FAILURE

    def _hand_over(self) -> Draft:
        """From here on the storage answers for the draft: an association that ends now takes nothing back."""
        self._is_over = True
        assert self._writing.draft is not None
        return self._writing.draft

    def abandon(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._piece = bytearray()
            self._storage.discard(self._writing, self._job)


class KeyObjects(Protocol):
    """Who reads key objects."""

    async def take(self, one: inbox.Unread) -> None:
        """Read it, and do what it says if it is a rejection note.

        Raises:
            Failure: it was set aside, or is not allowed; its sender is told.
            Unavailable, Broken: it is still unread.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Files against rows. ``adopted``: files that were given the row they lacked, ``quarantined`` those of them that
    a person must look at; ``put_aside``: files that do not open, or bear another object's name; ``lost``: rows whose
    file is gone."""

    files: int
    adopted: int
    quarantined: int
    put_aside: int
    lost: tuple[inbox.Lost, ...]

    @property
    def changed(self) -> int:
        """How many files stand otherwise than before."""
        return self.adopted + self.put_aside


class Storage:
    """The store service of one tenant (``services.StoreService``). ``observe``: what became of each object.
    ``notes_aet``: where rejection notes are sent; ``titles``: name of a peer by its AE title, for what a crash left
    without its row; ``key_objects``: who reads them, None for nobody (set once, before
    the first association)."""

    key_objects: KeyObjects | None = None

    def __init__(
        self,
        *,
        tenant: str,
        store: Store,
        spool: Spool,
        terms: Mapping[str, Terms],
        clock: Clock,
        room: Callable[[], bool] = lambda: True,
        observe: Callable[[str], None] = lambda _outcome: None,
        notes_aet: str = "",
        titles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._titles = titles
        self._notes_aet = notes_aet
        self._placing = asyncio.Lock()  # no file goes while another of its name comes
        self._tenant = tenant
        self._store = store
        self._spool = spool
        self._terms = terms
        self._quotas = {name: Quota(asked) for name, asked in terms.items()}
        self._clock = clock
        self._room = room
        self._observe = observe
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dimse-spool")
        self._complete: asyncio.Queue[_Kept] = asyncio.Queue()
        self._committer: asyncio.Task[None] | None = None
        self._discards: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Give rows to what a crash left without, then take objects."""
        await self.check()
        self._committer = asyncio.create_task(self._commit_groups(), name="dimse-committer")

    async def close(self) -> None:
        """End the threads; every sink is finished or abandoned by now."""
        if self._committer is not None:
            self._committer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._committer
        await asyncio.gather(*self._discards)
        self._threads.shutdown(wait=True)

    def begin(self, request: Request) -> Sink:
        """Where an object goes: the inbox, or nowhere when there is no room or no quota for it."""
        quota, now = self._quotas[request.peer.name], self._clock.monotonic()
        if quota.is_used_up(now) or not self._room() or not self._spool.has_room():
            log.warning("dimse-no-room", peer=request.peer.name)
            self._observe("no-room")
            return Discard(Status.OUT_OF_RESOURCES)
        quota.take(now, objects=1)
        meta = Meta(
            sop_class=request.sop_class,
            sop_instance=request.command.sop_instance,
            transfer_syntax=request.transfer_syntax,
            source_aet=request.calling_aet,
        )
        return InboxSink(self, request, Writing(self._spool, meta))

    def failed(self) -> None:
        """An object could not be kept."""
        self._observe("failed")

    def in_thread(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``work`` in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def keep(self, request: Request, draft: Draft, examined: Examined) -> int:
        """Name and record a complete object; the status for its sender.

        Raises:
            Unavailable, Broken: it may not be acknowledged.
        """
        self._quotas[request.peer.name].take(self._clock.monotonic(), size=examined.size)
        verdict = judge(
            examined.identifiers,
            sop_class=request.command.sop_class,
            sop_instance=request.command.sop_instance,
            fault=examined.fault,
            is_strict=self._terms[request.peer.name].is_strict,
        )
        if verdict.keeping is not Keeping.STORED:
            log.warning("dimse-object", peer=request.peer.name, keeping=verdict.keeping.value, reason=verdict.reason)
        if verdict.keeping is Keeping.REFUSED:
            self._observe("refused")
            await self.in_thread(draft.discard)
            return verdict.status
        arrival = _arrival(
            examined, verdict, request, self._clock.now(), kind=self._kind(request.called_aet, examined.identifiers)
        )
        kept = _Kept(arrival=arrival, draft=draft, done=asyncio.get_running_loop().create_future())
        self._complete.put_nowait(kept)
        news = await kept.done
        self._observe(news.value if verdict.keeping is Keeping.STORED else verdict.keeping.value)
        crash_point("dimse-object-committed")
        if verdict.keeping is Keeping.STORED:
            await self._read(arrival)
        elif arrival.kind is inbox.ObjectKind.NOTE and verdict.status == Status.SUCCESS:
            raise Failure(Status.CANNOT_UNDERSTAND, f"kept, not obeyed: {verdict.reason}")
        return verdict.status

    async def _read(self, arrival: inbox.Arrival) -> None:
        """Have a key object read before its sender is answered."""
        if arrival.kind is inbox.ObjectKind.OBJECT or self.key_objects is None:
            return
        one = await self._store.read(lambda tx: inbox.unread_of(tx, self._tenant, arrival))
        if one is not None:
            await self.key_objects.take(one)
            crash_point("dimse-note-taken")

    async def release(
        self, objects: Sequence[inbox.Kept], *, why: str, also: Callable[[Tx], None] = lambda _tx: None
    ) -> None:
        """Forget objects that stand elsewhere, rows first: a file that a crash leaves behind gets its row again at
        the next start, and is looked for in the PACS again. ``also``: what follows, in the same transaction.

        Raises:
            Unavailable, Broken: nothing was forgotten.
        """

        def work(tx: Tx) -> None:
            inbox.release(tx, self._tenant, objects, why=why, now=self._clock.now())
            also(tx)

        async with self._placing:
            await self._store.write(work)
            crash_point("dimse-object-released")
            await self.in_thread(lambda: self._spool.remove([one.file for one in objects]))

    def read_object(self, file: str) -> bytes:
        """A kept object as a Part 10 file; blocks.

        Raises:
            Broken: ``spool-unreadable``.
        """
        return b"".join(self._spool.read(file))

    def discard(self, writing: Writing, job: asyncio.Future[Any] | None) -> None:
        """Forget an unfinished object, once the thread is done with it."""

        async def later() -> None:
            if job is not None:
                await asyncio.wait({job})
                job.exception()  # whatever it was: nobody waits for this object any more
            await self.in_thread(writing.discard)

        if job is not None:
            task = asyncio.get_running_loop().create_task(later(), name="dimse-discard")
            self._discards.add(task)
            task.add_done_callback(self._discards.discard)

    # ── commits ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _commit_groups(self) -> None:
        """Settle what is complete, everything that waits at once; nobody waits for company."""
        while True:
            group = [await self._complete.get()]
            while len(group) < GROUP_MAX and not self._complete.empty():
                group.append(self._complete.get_nowait())
            try:
                news = await self._settle(group)
            except Fault as fault:
                await self._fail(group, fault)
            except Exception as error:  # supervision edge: nobody in the group is answered 0x0000
                log.exception("dimse-commit-failed")
                await self._fail(group, Broken(type(error).__name__, code="dimse-commit", hint="read the log"))
            else:
                for kept, what in zip(group, news, strict=True):
                    kept.settle(what)

    async def _fail(self, group: list[_Kept], fault: Fault) -> None:
        for kept in group:
            await self.in_thread(kept.draft.discard)
            kept.fail(type(fault)(fault.args[0], code=fault.code, hint=fault.hint))

    async def _settle(self, group: list[_Kept]) -> list[inbox.News]:
        named = [(kept.draft, inbox.file_name(self._tenant, kept.arrival)) for kept in group]
        arrivals = [kept.arrival for kept in group]
        async with self._placing:
            await self.in_thread(lambda: self._spool.place(named))
            return await self._store.write(lambda tx: inbox.record(tx, self._tenant, arrivals))

    def _kind(self, called_aet: str, said: Identifiers) -> inbox.ObjectKind:
        if self._notes_aet and called_aet == self._notes_aet:
            return inbox.ObjectKind.NOTE
        is_key_object = said.sop_class == KEY_OBJECT_SELECTION
        return inbox.ObjectKind.KEY_OBJECT if is_key_object else inbox.ObjectKind.OBJECT

    # ── files against rows ───────────────────────────────────────────────────────────────────────────────────────

    async def check(self) -> Checked:
        """Compare the files with their rows: a file without row is given one or put aside, a row without file is
        marked (reliability §6 c). A second check of the same changes nothing.

        Raises:
            Unavailable, Broken: of store or spool.
        """
        async with self._placing:
            known = await self._store.read(lambda tx: inbox.files(tx, self._tenant))
            present = await self.in_thread(lambda: set(self._spool.names()))
            now = self._clock.now()
            lost = await self._store.write(lambda tx: inbox.note_lost(tx, self._tenant, present, now=now))
        became = Counter([await self._adopt(name) for name in sorted(present - known)])
        return Checked(
            files=len(present),
            adopted=became[Keeping.STORED] + became[Keeping.QUARANTINED],
            quarantined=became[Keeping.QUARANTINED],
            put_aside=became[None],
            lost=tuple(lost),
        )

    async def _adopt(self, name: str) -> Keeping | None:
        """A row for a complete object that has none: it was not acknowledged, or the database is older than it. None:
        it was put aside."""
        async with self._placing:
            try:
                meta, examined = await self.in_thread(lambda: _examine(self._spool, name))
            except Broken as fault:
                log.warning("dimse-orphan-unreadable", code=fault.code)
                await self.in_thread(lambda: self._spool.quarantine_unreadable(name))
                return None
            arrival = self._found(meta, examined)
            if inbox.file_name(self._tenant, arrival) != name:
                log.warning("dimse-orphan-misnamed")
                await self.in_thread(lambda: self._spool.quarantine_unreadable(name))
                return None
            await self._store.write(lambda tx: inbox.record(tx, self._tenant, [arrival]))
        log.info("dimse-orphan-adopted", keeping=arrival.keeping.value)
        return arrival.keeping

    def _found(self, meta: Meta, examined: Examined) -> inbox.Arrival:
        """The arrival of an object that was found again, as its head tells."""
        verdict = judge(
            examined.identifiers,
            sop_class=meta.sop_class,
            sop_instance=meta.sop_instance,
            fault=examined.fault,
            is_strict=False,
        )
        return inbox.Arrival(
            peer=self._titles.get(meta.source_aet, ""),
            calling_aet=meta.source_aet,
            address="",
            identifiers=examined.identifiers,
            transfer_syntax=meta.transfer_syntax,
            digest=examined.digest,
            size=examined.size,
            keeping=verdict.keeping,
            reason=verdict.reason,
            at=self._clock.now(),
            kind=self._kind("", examined.identifiers),
        )


class _Kept:
    """A complete object that waits for its name and row."""

    __slots__ = ("arrival", "done", "draft")

    def __init__(self, *, arrival: inbox.Arrival, draft: Draft, done: asyncio.Future[inbox.News]) -> None:
        self.arrival = arrival
        self.draft = draft
        self.done = done

    def settle(self, news: inbox.News) -> None:
        if not self.done.done():
            self.done.set_result(news)

    def fail(self, fault: Fault) -> None:
        if not self.done.done():
            self.done.set_exception(fault)


def _arrival(
    examined: Examined, verdict: Verdict, request: Request, at: datetime, *, kind: inbox.ObjectKind
) -> inbox.Arrival:
    return inbox.Arrival(
        peer=request.peer.name,
        calling_aet=request.calling_aet,
        address=request.origin.address,
        identifiers=examined.identifiers,
        transfer_syntax=request.transfer_syntax,
        digest=examined.digest,
        size=examined.size,
        keeping=verdict.keeping,
        reason=verdict.reason,
        at=at,
        kind=kind,
    )


def _examine(spool: Spool, name: str) -> tuple[Meta, Examined]:
    """What a sealed file holds, read to its end.

    Raises:
        Broken: ``spool-unreadable``.
    """
    pieces = spool.read(name)
    try:
        first = next(pieces)
        meta, begins = read_head(first)
    except (StopIteration, ValueError) as error:
        raise Broken(
            f"the received object {name[:16]}… has no head",
            code="spool-unreadable",
            hint="ask the sender for the object again",
        ) from error
    examination = Examination(meta.transfer_syntax)
    examination.feed(first[begins:])
    for piece in pieces:
        examination.feed(piece)
    return meta, examination.end()
