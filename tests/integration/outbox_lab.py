"""A small world for the outbox: hands of a clock, an index that can misbehave, and a kind that publishes to it.

The index is stateful and knows nothing of jobs: it holds what reached it, in order, and counts what a real one
would suffer from (the same document twice). The kind stores a random identifier at settling and re-uses what is
stored, as publication does; so an identifier that changes between two attempts shows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

import apsw

from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.port import Answer, Job, JobClass
from security.outbox.states import Event, State
from security.store import opening
from security.store.opening import StorePlace
from security.store.port import GROUND, ReadTx, Row, Store, Tx, Value

T = TypeVar("T")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SITE = "clinique-test"


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._wall, self._seconds = NOON, 0.0

    def now(self) -> datetime:
        return self._wall

    def monotonic(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self._seconds += seconds
        self._wall += timedelta(seconds=seconds)

    def jump(self, step: timedelta) -> None:
        """Somebody sets the wall clock; no time passes."""
        self._wall += step


@dataclass
class Index:
    """What the other side holds. ``mood``: what it does with the next sends, first in first out, then "good"."""

    clock: Hands
    is_up: bool = True
    visible_after_s: float = 0.0
    mood: deque[str] = field(default_factory=deque)
    entries: list[tuple[str, str, int, float]] = field(default_factory=list)  # lane, uid, job, its own seconds
    calls: list[tuple[str, int]] = field(default_factory=list)  # what, job
    denied: set[tuple[int, int]] = field(default_factory=set)  # job, attempt of which a query said ABSENT
    overtaken: set[str] = field(default_factory=set)  # lanes of which it holds what a restored database forgot

    def submit(self, lane: str, uid: str, job_id: int) -> str:
        """Take a document, or not; "lost" takes it and says nothing, "dropped" does neither."""
        mood = self.mood.popleft() if self.mood else "good"
        if not self.is_up:
            return "down"
        if mood in {"good", "lost"}:
            self.entries.append((lane, uid, job_id, self.clock.monotonic()))
        return mood

    def shows(self, uid: str) -> bool:
        """Does a query find it now?"""
        now = self.clock.monotonic()
        return any(held == uid and at + self.visible_after_s <= now for _, held, _, at in self.entries)

    def sends(self, job_id: int) -> int:
        return self.calls.count(("send", job_id))


_SAID = {
    "good": Answer(event=Event.ACCEPTED),
    "lost": Answer(event=Event.AMBIGUOUS, reason="connection-reset"),
    "dropped": Answer(event=Event.AMBIGUOUS, reason="connection-reset"),
    "down": Answer(event=Event.TRANSIENT, reason="no-connection"),
    "busy": Answer(event=Event.TRANSIENT, reason="http-503", retry_after_s=120.0),
    "refuse": Answer(event=Event.REFUSED, reason="XDSMissingDocument"),
    "hold": Answer(event=Event.HELD, reason="unknown-code"),
}


async def no_pause() -> None:
    """What a kind waits for when nothing stops it."""


class Gate:
    """A pause in the middle of a call, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


@dataclass
class Publication:
    """A kind: settles with a fresh identifier, sends what is stored, asks by identifier."""

    store: Store
    index: Index
    clock: Hands
    rng: Random
    visibility_s: float = 0.0
    pause: Callable[[], Awaitable[None]] = no_pause
    name: str = "publication"
    endpoint: str = "index"

    async def settle(self, job: Job) -> Answer:
        await self.pause()
        uid = f"2.25.{self.rng.getrandbits(64)}"

        def keep(tx: Tx) -> None:
            sql = "INSERT INTO lab_document (job_id, uid) VALUES (:job_id, :uid)"
            tx.change(sql, job_id=job.job_id, uid=uid)

        return Answer(event=Event.PREPARED, effects=keep)

    async def send(self, job: Job) -> Answer:
        uid = await self._uid(job)
        self.index.calls.append(("send", job.job_id))
        await self.pause()
        said = _SAID[self.index.submit(job.lane, uid, job.job_id)]
        await self.pause()
        return said

    async def query(self, job: Job) -> Answer:
        uid = await self._uid(job)
        self.index.calls.append(("query", job.job_id))
        await self.pause()
        if not self.index.is_up:
            return Answer(event=Event.UNCLEAR, reason="no-connection")
        if self.index.shows(uid):
            sql = "INSERT INTO lab_entry (job_id, uid) VALUES (:job_id, :uid)"
            return Answer(event=Event.FOUND, effects=lambda tx: _only_change(tx, sql, job.job_id, uid))
        if job.lane in self.index.overtaken:
            self.index.overtaken.discard(job.lane)
            return Answer(event=Event.OUTDATED, reason="restored-behind")
        assert job.sent_at is not None
        visible_at = job.sent_at + timedelta(seconds=self.visibility_s)
        if self.clock.now() < visible_at:
            return Answer(event=Event.UNCLEAR, reason="too-early", not_before=visible_at)
        self.index.denied.add((job.job_id, job.attempts))
        return Answer(event=Event.ABSENT, reason="not-shown")

    async def _uid(self, job: Job) -> str:
        def work(tx: ReadTx) -> str:
            # The last one settled: a job that was lifted is settled anew.
            row = tx.rows("SELECT uid FROM lab_document WHERE job_id = :id ORDER BY no DESC LIMIT 1", id=job.job_id)
            return str(row[0]["uid"])

        return await self.store.read(work)


def _only_change(tx: Tx, sql: str, job_id: int, uid: str) -> None:
    tx.change(sql, job_id=job_id, uid=uid)


async def open_store(place: StorePlace) -> Store:
    """The real store, with the two tables that the kind's effects write."""
    store = await opening.open_store(place, [GROUND])
    number = "INTEGER PRIMARY KEY" if isinstance(place, Path) else "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

    def tables(tx: Tx) -> None:
        tx.change(
            f"CREATE TABLE IF NOT EXISTS lab_document (no {number}, job_id INTEGER NOT NULL, uid TEXT NOT NULL)"
        )
        tx.change("CREATE TABLE IF NOT EXISTS lab_entry (job_id INTEGER PRIMARY KEY, uid TEXT NOT NULL)")

    await store.write(tables)
    return store


@dataclass
class Site:
    """A store, an index and engines on it."""

    store: Store
    clock: Hands
    index: Index
    kind: Publication
    rng: Random

    @classmethod
    def on(cls, store: Store, seed: int = 1) -> Site:
        clock, rng = Hands(), Random(seed)
        index = Index(clock)
        return cls(store=store, clock=clock, index=index, kind=Publication(store, index, clock, rng), rng=rng)

    def engine(self, settings: EngineSettings | None = None, store: Store | None = None) -> Engine:
        """A new incarnation."""
        kinds = {self.kind.name: self.kind}
        return Engine(store or self.store, kinds, clock=self.clock, rng=self.rng, settings=settings)

    async def accept(self, lane: str, job_class: JobClass = JobClass.P1) -> int:
        """One intent."""
        return await self.store.write(
            lambda tx: jobs.enqueue(
                tx, tenant=SITE, lane=lane, kind="publication", job_class=job_class, now=self.clock.now()
            )
        )

    async def job(self, job_id: int) -> Job:
        sql = "SELECT lane FROM outbox_job WHERE job_id = :job_id"
        lane = (await self.rows(sql, job_id=job_id))[0]["lane"]
        found = await self.store.read(lambda tx: jobs.lane_jobs(tx, tenant=SITE, lane=lane))
        return next(job for job in found if job.job_id == job_id)

    async def state(self, job_id: int) -> State:
        return (await self.job(job_id)).state

    async def history(self, job_id: int) -> list[str]:
        rows = await self.rows("SELECT to_state FROM outbox_history WHERE job_id = :id ORDER BY seq", id=job_id)
        return [row["to_state"] for row in rows]

    async def rows(self, sql: str, **params: int | str) -> list:
        return await self.store.read(lambda tx: tx.rows(sql, **params))


async def settle_down(engine: Engine, rounds: int = 50) -> None:
    """Rounds until nothing is due."""
    for _ in range(rounds):
        if not await engine.step():
            return
    raise AssertionError("the engine did not come to rest")


class InlineTx:
    """A transaction on one apsw connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, /, **params: Value) -> list[Row]:
        cursor = self._connection.execute(sql, params)
        return [
            dict(zip((column[0] for column in cursor.get_description()), values, strict=True)) for values in cursor
        ]

    def row(self, sql: str, /, **params: Value) -> Row | None:
        found = self.rows(sql, **params)
        assert len(found) <= 1
        return found[0] if found else None

    def change(self, sql: str, /, **params: Value) -> int:
        self._connection.execute(sql, params)
        return self._connection.changes()


class Died(BaseException):
    """The simulated process is gone; nothing that it does afterwards reaches the disk."""


class InlineStore:
    """The port on SQLite without threads, so that a simulation is the same at every run; it can die.

    ``fate`` is asked before and after each commit; True means death at that very point.
    """

    def __init__(self, connection: apsw.Connection, fate: Callable[[], bool] = lambda: False) -> None:
        self._connection, self._fate = connection, fate
        self.is_dead = False

    async def write(self, work: Callable[[Tx], T]) -> T:
        self.die_by_fate()
        with self._connection:
            result = work(InlineTx(self._connection))
        self.die_by_fate()
        return result

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        self.die_by_fate()
        return work(InlineTx(self._connection))

    async def close(self) -> None:
        self._connection.close()

    def die_by_fate(self) -> None:
        if self.is_dead or self._fate():
            self.is_dead = True
            raise Died
