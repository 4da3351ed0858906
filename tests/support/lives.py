"""One world for thousands of histories: opened once, emptied between two of them, everything on one thread.

The store is the real one, statement for statement, commit for commit; left out is what a history does not need: the
fsync, and the threads, so that a history runs the same way at every run. What a history finds is what the template
holds. A process can be made to die at any of its transactions: a new one comes up on what was committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import apsw

from gateway.components import COMPONENTS
from gateway.lab.index import LabIndex
from gateway.lab.ris import LabPatient
from indexer import gate
from indexer.xds.client import XdsClient
from security.clock import to_ms
from security.outbox.states import State
from security.seal import Vault
from security.store.port import ReadTx, Row, Store, Tx
from security.store.sqlite import SqliteStore
from security.store.works import Job
from tests.integration.outbox_lab import Died, Hands
from tests.support.world import TENANT, World, find_entries, index_client, kinds_of, make_policy, new_engine, wired

T = TypeVar("T")
ROUNDS_MAX = 400
"""Rounds until everything stands still: nothing that comes to an end takes as many."""
SOON_MS = 600_000
"""What is due later than this is not waited for: a second absence."""
QUIET = frozenset({State.SETTLING, State.BLOCKED, State.DEAD})
"""States in which a job may stay: nothing of it is under way."""


class OneThread(SqliteStore):
    """The real store, its works carried out on the caller's thread and never fsynced."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        await asyncio.sleep(0)  # as for the thread: another task may come first
        assert self._writer is not None
        job = Job(work=work)
        self._writer._commit([job])
        self._writer._checkpoint()
        result: T = job.future.result()
        return result

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        await asyncio.sleep(0)
        return self._look(work)

    @property
    def connection(self) -> apsw.Connection:
        """The writing connection."""
        assert self._writer is not None
        return self._writer._connection


class Mortal:
    """A process's view of the store that dies before or after its n-th commit; what was committed stays."""

    def __init__(self, store: Store, commits: int, *, before: bool) -> None:
        self._store, self._left, self._before = store, commits, before

    async def write(self, work: Callable[[Tx], T]) -> T:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and self._before):
            raise Died
        result = await self._store.write(work)
        if self._left == 0:
            raise Died
        return result

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        if self._left <= 0:
            raise Died
        return await self._store.read(work)

    async def close(self) -> None:
        """The store outlives its processes."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """A beginning of histories: the moment, and what each database held then, beside its writing connection."""

    began: datetime
    copies: list[tuple[apsw.Connection, apsw.Connection]]


@dataclass
class Lives:
    """The parts that are opened once. ``templates``: beginnings of histories, by name."""

    clock: Hands
    store: OneThread
    vault: Vault
    index: LabIndex
    client: XdsClient
    eyes: aiohttp.ClientSession
    templates: dict[str, Template] = field(default_factory=dict)

    @classmethod
    async def open(cls, folder: Path) -> Lives:
        """Open everything in ``folder``, empty."""
        clock = Hands()
        store = await OneThread.open(folder / "gateway.db", COMPONENTS)
        vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
        index = await LabIndex(folder / "index", clock=clock, store=OneThread).__aenter__()
        client = index_client(index, "xds")
        assert isinstance(client, XdsClient)
        eyes = aiohttp.ClientSession()
        lives = cls(clock=clock, store=store, vault=vault, index=index, client=client, eyes=eyes)
        for connection in (store.connection, lives.index_connection):
            connection.pragma("synchronous", "OFF")  # no power is cut here
        return lives

    @property
    def index_connection(self) -> apsw.Connection:
        """The writing connection of the index's database."""
        assert isinstance(self.index._store, OneThread)
        return self.index._store.connection

    def keep(self, name: str) -> None:
        """What is there now is a beginning of histories."""
        copies = []
        for connection in (self.store.connection, self.index_connection):
            copy = apsw.Connection(":memory:")
            _copy(connection, copy)
            copies.append((copy, connection))
        self.templates[name] = Template(began=self.clock.now(), copies=copies)

    def begin(self, name: str, **policy_changes: Any) -> World:
        """A history's world: the databases as they were kept, the clock set back, nobody remembers anything."""
        template = self.templates[name]
        for copy, connection in template.copies:
            _copy(copy, connection)
        self.clock.jump(template.began - self.clock.now())  # the index still counts the seconds of the last history
        self.index.switches.set()
        return self.world(**policy_changes)

    def world(self, **policy_changes: Any) -> World:
        """A gateway on what the databases hold now."""
        policy = replace(make_policy(gate.Rules(test_identity="off"), 10.0), **policy_changes)
        return wired(self.clock, self.store, self.vault, self.index, self.client, policy=policy)

    async def entries(self, patient: LabPatient) -> list[dict[str, Any]]:
        """What the index holds of a patient, asked over the wire past every fault that is switched on."""
        faults = self.index.switches.on
        self.index.switches.set()
        try:
            asked = f"{patient.matricule}^^^&{patient.ins_oid}&ISO^NH"
            return await find_entries(self.eyes, f"{self.index.url}/registry", asked)
        finally:
            self.index.switches.set(*faults)

    async def dies(self, w: World, commits: int, *, before: bool, rounds: int = 12) -> bool:
        """A process that works on the world and dies before or after its n-th commit; whether it came to that. What
        it had sent arrives; the next process finds what was committed, leases included."""
        mortal = Mortal(self.store, commits, before=before)
        kinds = kinds_of(w.policy, mortal, w.ledger, sources=[w.pacs], index=w.client, clock=self.clock)
        engine = new_engine(mortal, kinds, self.clock)
        is_dead = False
        try:
            for _ in range(rounds):
                await engine.step()
                self.clock.advance(1)
        except BaseException as error:  # a dead task takes its siblings with it: a group of Died
            if not is_death(error):
                raise
            is_dead = True
            await asyncio.sleep(0.005)  # what is on the wire reaches the index
        w.restart("live")
        return is_dead

    async def close(self) -> None:
        """Close everything."""
        await self.eyes.close()
        await self.client.aclose()
        await self.index.__aexit__()
        await self.store.close()
        for template in self.templates.values():
            for copy, _ in template.copies:
                copy.close()


async def rest(w: World) -> None:
    """Let time pass from one due moment to the next until nothing changes any more but by a far date, a person or an
    event: whoever waits was asked twice and said the same."""
    said: list[tuple[int, str, str]] = []
    for _ in range(ROUNDS_MAX):
        now = to_ms(w.clock.now())
        rows = await w.store.read(_unfinished)
        if any(row["not_before"] <= now for row in rows) and await w.engine.step():
            continue
        later = min((row["not_before"] for row in rows if row["not_before"] > now), default=None)
        is_quiet = {row["state"] for row in rows} <= QUIET
        waiting = [(row["job_id"], row["state"], row["reason"]) for row in rows]
        if is_quiet and (later is None or later - now > SOON_MS or waiting == said):
            return
        said = waiting
        w.clock.advance(2.0 if later is None or not is_quiet else (later - now) / 1000)
    raise AssertionError(f"no rest: {waiting}")


def _unfinished(tx: ReadTx) -> list[Row]:
    return tx.rows(
        "SELECT job_id, state, reason, not_before FROM outbox_job"
        " WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY job_id"
    )


def is_death(error: BaseException) -> bool:
    """Whether the simulated process died, and nothing else happened."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_death(inner) for inner in error.exceptions)
    return isinstance(error, Died)


def _copy(source: apsw.Connection, target: apsw.Connection) -> None:
    with target.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(-1)
