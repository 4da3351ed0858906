"""A deterministic simulation of the outbox, with an oracle.

The real engine and the real rows on real SQLite; clock, randomness, index and death of the process come from one
seed. The oracle knows nothing of the engine: it reads the tables and the index, after every round, and says
whether I3, I4, I5, I7, I9 and I16 hold; at the end, with all faults gone, everything must come to an end (I11).

A red seed is reproduced by ``run(template, seed)``.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import apsw
import pytest

from security.audit.verifying import verify
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.port import JobClass
from security.outbox.states import IN_FLIGHT, TERMINAL, Event, State
from tests.integration.outbox_lab import NOON, SITE, Died, Hands, Index, InlineStore, Publication, Site, open_store

LANES = [f"1.2.250.9.{n}" for n in range(5)]
MOODS = ["good"] * 6 + ["lost", "lost", "dropped", "down", "busy", "refuse", "hold"]
ROUNDS = 120
BEFORE = NOON - timedelta(days=30)
"""Before any row that a clock set back could write: nobody makes heads of the trail here, so none is overdue."""


@dataclass
class World:
    """One seed's world."""

    seed: int
    rng: Random
    connection: apsw.Connection
    site: Site
    accepted: int = 0
    deaths: int = 0
    may_die: bool = True

    @classmethod
    def of(cls, seed: int, connection: apsw.Connection) -> World:
        rng = Random(seed)
        clock = Hands()
        index = Index(clock)
        store = InlineStore(connection)
        kind = Publication(store, index, clock, rng)
        return cls(seed, rng, connection, Site(store=store, clock=clock, index=index, kind=kind, rng=rng))

    def incarnation(self) -> Engine:
        """A new process: a new view of the same disk, a new engine that remembers nothing."""
        mortal = InlineStore(self.connection, lambda: self.may_die and self.rng.random() < 0.01)

        async def pause() -> None:
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
            mortal.die_by_fate()

        self.site.kind.store, self.site.kind.pause = mortal, pause
        settings = EngineSettings(slots=self.rng.choice([1, 3, 8]))
        return self.site.engine(settings, store=mortal)

    async def round(self, engine: Engine) -> Engine:
        """One round; the next incarnation if this one died of it."""
        try:
            await engine.step()
        except BaseException as error:  # a dead task takes its siblings with it: a group of Died
            if not _is_death(error):
                raise
            self.deaths += 1
            await self.restored()
            return self.incarnation()
        return engine

    async def restored(self) -> None:
        """Now and then the dead process comes back on a copy made just before its death: nobody knows what of the
        ready jobs was sent since, so they are asked after first."""
        if self.rng.random() < 0.2:
            now = self.site.clock.now()
            await InlineStore(self.connection).write(lambda tx: jobs.restored(tx, now=now))
            self.site.index.overtaken |= {lane for lane in LANES if self.rng.random() < 0.3}

    async def happen(self) -> None:
        """Something outside the engine happens."""
        site, rng = self.site, self.rng
        match rng.randrange(8):
            case 0 | 1 | 2:
                await site.accept(rng.choice(LANES), JobClass(rng.randrange(4)))
                self.accepted += 1
            case 3:
                site.index.mood.extend(rng.choices(MOODS, k=3))
            case 4:
                site.index.is_up = rng.random() < 0.7
            case 5:
                site.clock.jump(timedelta(seconds=rng.choice([-7200, -90, 90, 7200])))
            case 6:
                await self.person()
            case _:
                pass
        site.clock.advance(rng.choice([0.0, 0.1, 1.0, 15.0, 400.0]))

    async def person(self, *, gives_up: float = 0.3) -> None:
        """Somebody looks after the jobs that need a person."""
        for row in await self.site.rows("SELECT job_id FROM outbox_job WHERE state IN ('BLOCKED', 'DEAD')"):
            job_id, now = row["job_id"], self.site.clock.now()
            act = jobs.discard if self.rng.random() < gives_up else jobs.lift
            await self.site.store.write(
                lambda tx, act=act, job_id=job_id, now=now: act(
                    tx, tenant=SITE, job_id=job_id, now=now, actor="operator", reason="looked-at"
                )
            )


def _is_death(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_death(inner) for inner in error.exceptions)
    return isinstance(error, Died)


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────────────────


async def check(world: World) -> None:
    """What must hold after every round."""
    rows = await world.site.rows("SELECT * FROM outbox_job ORDER BY job_id")
    held = world.site.index.entries
    assert len(rows) == world.accepted, "I3: a job was lost or invented"
    flying = Counter(row["lane"] for row in rows if row["state"] in IN_FLIGHT)
    assert not flying or max(flying.values()) == 1, "I4: two jobs of a lane in flight"
    for lane in LANES:
        order = [job for where, _, job, _ in held if where == lane]
        assert order == sorted(order), "I4: versions reached the index out of order"
    assert all(times == 1 for times in Counter(uid for _, uid, _, _ in held).values()), "I5: the same document twice"
    assert all(times == 1 for times in Counter(job for _, _, job, _ in held).values()), "I5: one intent, two entries"
    entries = {row["job_id"] for row in await world.site.rows("SELECT job_id FROM lab_entry")}
    published = {row["job_id"] for row in rows if row["state"] == State.PUBLISHED}
    assert published == entries, "I7: published without its entry, or the other way round"
    assert published <= {job for _, _, job, _ in held}, "I7: published and not in the index"


async def check_memory(world: World) -> None:
    """What the written memory must say, once at the end."""
    sql = "SELECT job_id, attempt_no, outcome FROM outbox_attempt ORDER BY job_id, attempt_no"
    attempts = await world.site.rows(sql)
    for row, then in pairwise(attempts):
        if row["job_id"] == then["job_id"] and row["outcome"] not in {"transient", "held", "refused"}:
            assert (row["job_id"], row["attempt_no"]) in world.site.index.denied, "I9: sent again without asking"
    strays = await world.site.rows(
        "SELECT job_id FROM outbox_job AS job WHERE state <> (SELECT to_state FROM outbox_history AS past"
        " WHERE past.job_id = job.job_id ORDER BY seq DESC LIMIT 1)"
    )
    assert strays == [], "I16: a state that the history does not know"
    counted = await world.site.rows(
        "SELECT (SELECT COUNT(*) FROM audit_record) AS audits, (SELECT COUNT(*) FROM outbox_history) AS changes"
    )
    assert counted[0]["audits"] == counted[0]["changes"], "I16: a change without its audit row"
    findings = (await verify(world.site.store, witness=None, now=BEFORE)).findings
    assert findings == (), findings


async def run(template: Path, seed: int) -> tuple[list[dict], Counter[str], int]:
    """One world from its beginning to its end; its jobs, what happened to them, and the number of deaths."""
    path = template.with_name(f"seed-{seed}.db")
    shutil.copy(template, path)
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "OFF")  # the process dies here, not the machine
    try:
        world = World.of(seed, connection)
        engine = world.incarnation()
        for _ in range(ROUNDS):
            await world.happen()
            engine = await world.round(engine)
            await check(world)
        world.may_die, world.site.index.is_up = False, True
        world.site.index.mood.clear()
        engine = world.incarnation()
        for _ in range(200):
            await world.person(gives_up=0.0)
            engine = await world.round(engine)
            await check(world)
            world.site.clock.advance(900)
            rows = await world.site.rows("SELECT * FROM outbox_job")
            ends = {row["state"] for row in rows}
            if ends <= TERMINAL:
                break
        assert ends <= TERMINAL, f"I11: did not come to an end: {ends}"
        await check_memory(world)
        told = await world.site.rows("SELECT event FROM outbox_history")
        return rows, Counter(row["event"] for row in told), world.deaths
    finally:
        connection.close()
        path.unlink()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database with every migration, copied for each seed."""
    path = tmp_path_factory.mktemp("simulation") / "template.db"

    async def make() -> None:
        await (await open_store(path)).close()

    asyncio.run(make())
    return path


@pytest.mark.parametrize("seed", range(30))
def test_no_fault_schedule_breaks_an_invariant(template: Path, seed: int) -> None:
    asyncio.run(run(template, seed))


def test_the_simulation_is_the_same_at_every_run(template: Path) -> None:
    assert asyncio.run(run(template, 7)) == asyncio.run(run(template, 7))


def test_the_simulation_does_meet_the_faults_it_is_made_for(template: Path) -> None:
    states: Counter[str] = Counter()
    events: Counter[str] = Counter()
    deaths = 0
    for seed in range(5):
        rows, told, died = asyncio.run(run(template, seed))
        states.update(row["state"] for row in rows)
        events += told
        deaths += died
    assert deaths > 20
    assert events[Event.RESTORED] > 5, events
    assert events[Event.OUTDATED] > 5, events
    assert all(states[state] > 5 for state in (State.PUBLISHED, State.SUPERSEDED)), states


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, 5000, 500))
def test_no_fault_schedule_breaks_an_invariant_in_thousands(template: Path, first: int) -> None:
    for seed in range(1000 + first, 1500 + first):
        asyncio.run(run(template, seed))
