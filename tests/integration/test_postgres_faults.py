"""PostgreSQL store when the server dies, sessions are cut, answers are lost, another writer comes, the disk is full."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from security.errors import Broken, Refused, Unavailable
from security.outbox.engine import EngineSettings
from security.outbox.retry import RetrySettings
from security.outbox.states import State
from security.store import postgres
from security.store.opening import open_store
from security.store.place import PostgresPlace
from security.store.port import GROUND, ReadTx, Store, Tx
from security.store.postgres import translate
from tests.contract.store_parts import NOTES, add_note, echoes, notes
from tests.integration import outbox_lab
from tests.support.postgres import Server

pytestmark = pytest.mark.postgres

PARTS = [GROUND, NOTES]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that the tests may kill."""
    server = Server.start()
    yield server
    server.remove()


@pytest.fixture
def place(own_server: Server) -> Iterator[PostgresPlace]:
    place = own_server.place(f"faults_{time.monotonic_ns()}")
    yield place
    if own_server.process is None or own_server.process.poll() is not None:
        own_server.up()
    with own_server.connect() as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {place.schema} CASCADE")


@pytest.fixture
async def store(place: PostgresPlace) -> AsyncIterator[Store]:
    store = await open_store(place, PARTS)
    yield store
    await store.close()


def cut_then(server: Server, place: PostgresPlace, tx: Tx, number: int) -> int:
    """A work in the middle of which every session is cut; it goes on as if nothing had happened."""
    add_note(tx, number)
    server.cut(place)
    return add_note(tx, number + 1)


# ── a connection that is gone ────────────────────────────────────────────────────────────────────────────────


async def test_a_server_that_restarts_between_two_works_is_not_noticed(store: Store, own_server: Server) -> None:
    await store.write(partial(add_note, number=1))
    assert await store.read(notes) == [1]
    own_server.down()
    own_server.up()
    assert await store.write(partial(add_note, number=2)) == 2
    assert await store.read(notes) == [1, 2]


async def test_f16_works_of_a_cut_session_were_not_kept_and_their_askers_know(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    await store.write(partial(add_note, number=1))
    cut = asyncio.create_task(store.write(lambda tx: cut_then(own_server, place, tx, 10)))
    after = [asyncio.create_task(store.write(partial(add_note, number=n))) for n in (2, 3)]
    with pytest.raises(Unavailable) as caught:
        await cut
    assert caught.value.code == "store-unreachable"
    for task in after:
        await asyncio.wait([task])
        if task.exception() is not None:  # it shared the group
            assert isinstance(task.exception(), Unavailable)
    kept = {1} | {number for task, number in zip(after, (2, 3), strict=True) if task.exception() is None}
    assert set(await store.read(notes)) == kept
    assert await store.write(partial(add_note, number=4)) == 4


async def test_f16_a_work_that_swallows_the_loss_is_not_taken_for_done(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    def careless(tx: Tx) -> str:
        try:
            cut_then(own_server, place, tx, 10)
        except Unavailable:
            return "done"
        return "not reached"

    with pytest.raises(Unavailable):
        await store.write(careless)
    assert await store.read(notes) == []


async def test_f16_a_read_of_a_cut_session_fails_and_the_next_one_works(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    def cut(tx: ReadTx) -> object:
        notes(tx)
        own_server.cut(place)
        return notes(tx)

    with pytest.raises(Unavailable) as caught:
        await store.read(cut)
    assert caught.value.code == "store-unreachable"
    assert await store.read(notes) == []


async def test_f16_while_the_server_is_away_works_are_refused_in_time_and_go_on_once_it_is_back(
    store: Store, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BACK_WITHIN_S", 0.3)
    own_server.down()
    for use in (partial(store.write, partial(add_note, number=1)), partial(store.read, notes)):
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await use()
        assert caught.value.code == "store-unreachable"
        assert time.monotonic() - started < 3
    own_server.up()
    assert await store.write(partial(add_note, number=2)) == 2
    assert await store.read(notes) == [2]


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
async def test_f01_a_server_killed_under_load_keeps_what_was_acknowledged(
    store: Store, own_server: Server, kills: int
) -> None:
    acknowledged: set[int] = set()
    refused: list[str] = []
    numbers = itertools.count(1)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            number = next(numbers)
            try:
                await store.write(partial(add_note, number=number))
            except Unavailable as fault:
                refused.append(fault.code)
            else:
                acknowledged.add(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(write())
        for _ in range(kills):
            before = len(acknowledged)
            while len(acknowledged) < before + 100:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.up)
        stop.set()
    kept = await store.read(notes)
    assert acknowledged <= set(kept)
    assert kept == await store.read(echoes)
    assert set(refused) <= {"store-unreachable"}  # the server came back: nobody was left in doubt
    assert set(kept) == acknowledged


async def test_f16_an_engine_outlives_its_server_and_holds_nothing_for_a_person(
    own_server: Server, place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BACK_WITHIN_S", 0.1)
    store = await outbox_lab.open_store(place)
    site = outbox_lab.Site.on(store)
    ids = [await site.accept(f"1.2.{n}") for n in range(6)]
    site.kind.pause = outage = Outage(own_server, store)
    stop = asyncio.Event()
    engine = site.engine(EngineSettings(idle_s=0.02, sweep_s=0.0, retry=RetrySettings(base_s=0.01, cap_s=0.02)))
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(engine.run(stop))
        async with asyncio.timeout(20):
            await outage.over.wait()
            while {await site.state(one) for one in ids} != {State.PUBLISHED}:
                assert not working.done()
                site.clock.advance(1.0)
                await asyncio.sleep(0.01)
        stop.set()
    assert "BLOCKED" not in {state for one in ids for state in await site.history(one)}
    assert all(sum(1 for _, _, job, _ in site.index.entries if job == one) == 1 for one in ids)
    await store.close()


class Outage:
    """Called in the middle of calls to the outside: at the third, the server goes away for a moment, and the call needs
    the store just then."""

    def __init__(self, server: Server, store: Store) -> None:
        self._server = server
        self._store = store
        self._calls = 0
        self.over = asyncio.Event()

    async def __call__(self) -> None:
        self._calls += 1
        if self._calls == 3:
            await asyncio.to_thread(self._server.down)
            try:
                await self._store.read(lambda tx: tx.rows("SELECT 1"))
            finally:
                await asyncio.sleep(0.4)
                await asyncio.to_thread(self._server.up)
                self.over.set()


# ── an answer that is lost ───────────────────────────────────────────────────────────────────────────────────


class Between:
    """Stands between the store and the server's socket. ``lose``: what becomes of the next COMMIT: "answer" lets it
    through and cuts before its answer, "question" cuts before it gets there. ``closed``: nobody gets through."""

    def __init__(self, server: Server) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="between-", dir="/tmp"))
        self._target = str(server.folder / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self.lose = ""
        self.closed = False
        self._ended = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def end(self) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join(10)
        self._listener.close()
        (self.folder / ".s.PGSQL.5432").unlink()
        self.folder.rmdir()

    def _accept(self) -> None:
        while not self._ended:
            if not select.select([self._listener], [], [], 0.02)[0]:
                continue
            client, _ = self._listener.accept()
            if self.closed:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._threads.append(threading.Thread(target=self._carry, args=(client, server), daemon=True))
            self._threads[-1].start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while not self._ended:
                for ready in select.select([client, server], [], [], 0.02)[0]:
                    try:
                        data = ready.recv(65536)
                        if not data:
                            return
                        if ready is client and b"COMMIT\0" in data and self.lose:
                            lost, self.lose = self.lose, ""
                            if lost == "answer":
                                server.sendall(data)
                                server.recv(65536)
                            return
                        (server if ready is client else client).sendall(data)
                    except OSError:
                        return


@pytest.fixture
def between(own_server: Server) -> Iterator[Between]:
    between = Between(own_server)
    yield between
    between.end()


@pytest.fixture
async def far(place: PostgresPlace, between: Between) -> AsyncIterator[Store]:
    store = await open_store(replace(place, host=str(between.folder)), PARTS)
    yield store
    await store.close()


async def test_a_commit_whose_answer_was_lost_is_found_done_and_answered(far: Store, between: Between) -> None:
    await far.write(partial(add_note, number=1))
    between.lose = "answer"
    assert await far.write(partial(add_note, number=2)) == 2
    assert await far.write(partial(add_note, number=3)) == 3
    assert await far.read(notes) == [1, 2, 3]


async def test_a_commit_that_never_arrived_is_found_undone_and_refused(far: Store, between: Between) -> None:
    await far.write(partial(add_note, number=1))
    between.lose = "question"
    with pytest.raises(Unavailable) as caught:
        await far.write(partial(add_note, number=2))
    assert caught.value.code == "store-unreachable"
    assert await far.read(notes) == [1]
    assert await far.write(partial(add_note, number=2)) == 2


@pytest.mark.parametrize("lose", ["answer", "question"])
async def test_a_commit_of_which_nothing_can_be_learnt_is_said_to_be_unknown(
    far: Store, between: Between, monkeypatch: pytest.MonkeyPatch, lose: str
) -> None:
    monkeypatch.setattr(postgres, "OUTCOME_WITHIN_S", 0.2)
    between.closed, between.lose = True, lose
    with pytest.raises(Unavailable) as caught:
        await far.write(partial(add_note, number=1))
    assert caught.value.code == "store-outcome-unknown"
    between.closed = False
    assert await far.write(partial(add_note, number=2)) == 2
    assert await far.read(notes) == ([1, 2] if lose == "answer" else [2])


async def test_f16_a_commit_without_answer_is_not_taken_for_done_because_another_writer_committed(
    far: Store, between: Between, place: PostgresPlace
) -> None:
    await far.write(partial(add_note, number=1))
    between.closed, between.lose = True, "question"
    lost = asyncio.create_task(far.write(partial(add_note, number=2)))
    other = await open_store(place, PARTS)
    for number in (11, 12, 13):
        await other.write(partial(add_note, number=number))
    await other.close()
    between.closed = False
    with pytest.raises(Broken) as caught:
        await lost
    assert caught.value.code == "store-taken"


# ── another writer ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    await store.write(partial(add_note, number=1))
    with own_server.connect() as connection:
        connection.autocommit = True
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            await asyncio.sleep(0.2)
            writing = asyncio.create_task(store.write(partial(add_note, number=2)))
            async with asyncio.timeout(10):
                while not connection.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                ).fetchall():
                    await asyncio.sleep(0.02)
            with pytest.raises(Unavailable) as caught:
                await writing
            assert caught.value.code == "store-outcome-unknown"
        finally:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
    assert await store.write(partial(add_note, number=3)) == 3
    assert await store.read(notes) == [1, 2, 3]


async def test_f16_a_writer_whose_place_was_taken_refuses_for_ever(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    await store.write(partial(add_note, number=1))
    own_server.cut(place)
    other = await open_store(place, PARTS)
    assert await other.write(partial(add_note, number=2)) == 2
    for number in (3, 4):
        with pytest.raises(Broken) as caught:
            await store.write(partial(add_note, number=number))
        assert caught.value.code == "store-locked"
    await other.close()
    with pytest.raises(Broken):
        await store.write(partial(add_note, number=5))
    assert await store.read(notes) == [1, 2]


async def test_f16_a_writer_that_came_and_went_meanwhile_is_noticed(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    own_server.cut(place)
    other = await open_store(place, PARTS)
    await other.write(partial(add_note, number=2))
    await other.close()
    with pytest.raises(Broken) as caught:
        await store.write(partial(add_note, number=3))
    assert caught.value.code == "store-taken"
    assert await store.read(notes) == [2]


async def test_f26_even_with_its_session_alive_a_writer_that_was_replaced_commits_nothing(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    with own_server.connect() as connection:
        connection.execute(f"UPDATE {place.schema}.store_writer SET incarnation = 'another'")
    with pytest.raises(Broken) as caught:
        await store.write(partial(add_note, number=3))
    assert caught.value.code == "store-taken"
    assert await store.read(notes) == []


async def test_f16_a_server_that_lacks_acknowledged_commits_is_refused(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    for number in (1, 2, 3):
        await store.write(partial(add_note, number=number))
    with own_server.connect() as connection:  # what an asynchronous standby looks like after taking over
        connection.execute(f"UPDATE {place.schema}.store_writer SET commits = commits - 2")
    own_server.cut(place)
    with pytest.raises(Broken, match="lacks 2 commits") as caught:
        await store.write(partial(add_note, number=4))
    assert caught.value.code == "store-behind"


# ── space, values, statements ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(own_server: Server) -> Iterator[Path]:
    """A file system of 8 MiB that the server may write to."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = own_server.folder / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no mount here: {mounted.stderr.strip()}")
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_f04_a_full_disk_refuses_writes_and_they_work_again_once_there_is_space(
    own_server: Server, place: PostgresPlace, small_disk: Path
) -> None:
    store = await open_store(place, PARTS)
    with own_server.connect() as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.execute(f"ALTER TABLE {place.schema}.value SET TABLESPACE small")
        connection.execute(f"ALTER TABLE {place.schema}.value ALTER COLUMN blob SET STORAGE EXTERNAL")
    (small_disk / "ballast").write_bytes(bytes(6 * 1024 * 1024))

    def padded(tx: Tx, number: int) -> int:
        tx.change("INSERT INTO value (number, blob) VALUES (:n, :blob)", n=number, blob=bytes(200_000))
        return add_note(tx, number)

    acknowledged: list[int] = []

    async def write_on() -> None:
        for number in range(1, 100):
            acknowledged.append(await store.write(partial(padded, number=number)))

    with pytest.raises(Unavailable) as caught:
        await write_on()
    assert caught.value.code == "store-full"
    assert acknowledged
    assert await store.read(notes) == acknowledged
    (small_disk / "ballast").unlink()
    assert await store.write(partial(padded, number=500)) == 500
    assert await store.read(notes) == [*acknowledged, 500]
    await store.close()
    with own_server.connect() as connection:
        connection.execute(f"DROP SCHEMA {place.schema} CASCADE")
        connection.execute("CHECKPOINT")
        connection.execute("DROP TABLESPACE small")


async def test_a_row_that_someone_else_holds_makes_the_store_busy_and_not_broken(
    store: Store, own_server: Server, place: PostgresPlace
) -> None:
    await store.write(partial(add_note, number=1))
    with own_server.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(f"SELECT * FROM {place.schema}.note FOR UPDATE")
        with pytest.raises(Unavailable) as caught:
            await store.write(
                lambda tx: (tx.change("SET LOCAL lock_timeout = 50"), tx.change("UPDATE note SET body = 'x'"))
            )
        assert caught.value.code == "store-busy"
        with pytest.raises(Unavailable):
            await store.write(_swallow_what_another_holds)
        connection.execute("ROLLBACK")
    assert await store.write(lambda tx: tx.change("UPDATE note SET body = 'x'")) == 1


def _swallow_what_another_holds(tx: Tx) -> str:
    add_note(tx, 2)
    tx.change("SET LOCAL lock_timeout = 50")
    try:
        tx.change("UPDATE note SET body = 'y' WHERE number = 1")
    except Unavailable:
        return "done"
    return "not reached"


async def test_a_fault_of_a_statement_quotes_no_row_not_even_as_context(store: Store) -> None:
    await store.write(lambda tx: tx.change("INSERT INTO note VALUES (1, 't', 'FANTOME')"))
    for sql in (
        "INSERT INTO note VALUES (1, 't', 'FANTOME')",
        "INSERT INTO note (number, body) VALUES (2, 'FANTOME')",
        "UPDATE note SET number = body::bigint",
    ):
        with pytest.raises((Refused, Broken)) as caught:
            await store.write(lambda tx, sql=sql: tx.change(sql))
        error: BaseException | None = caught.value
        while error is not None:
            assert "FANTOME" not in str(error)
            error = error.__cause__ or error.__context__


async def test_a_work_that_caught_a_fault_of_a_statement_is_run_again_from_its_beginning(store: Store) -> None:
    runs: list[int] = []

    def work(tx: Tx) -> int:
        runs.append(tx.change("INSERT INTO note VALUES (1, 't', 'a')"))
        for number in (1, 2, 1, 3):
            try:
                add_note(tx, number)
            except Refused:
                continue
        return len(tx.rows("SELECT number FROM note"))

    assert await store.write(work) == 3
    assert runs == [1, 1]
    assert await store.read(notes) == [1, 2, 3]
    assert await store.read(echoes) == [2, 3]


@pytest.mark.parametrize(
    ("sql", "translated", "names"),
    [
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1", ("a", "b")),
        ("SELECT ':a' || :b", "SELECT ':a' || $1", ("b",)),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', $1", ("b",)),
        ('SELECT ":a" FROM t', 'SELECT ":a" FROM t', ()),
        ("SELECT :a::text", "SELECT $1::text", ("a",)),
        ("SELECT 1 -- :a\n, :b", "SELECT 1 -- :a\n, $1", ("b",)),
        ("SELECT /* :a */ :b", "SELECT /* :a */ $1", ("b",)),
        ("SELECT 5 % 3, '%s'", "SELECT 5 % 3, '%s'", ()),
        ("SELECT * FROM t WHERE a=:a AND b=:a_2", "SELECT * FROM t WHERE a=$1 AND b=$2", ("a", "a_2")),
    ],
)
def test_parameters_are_numbered_and_nothing_else_is_touched(
    sql: str, translated: str, names: tuple[str, ...]
) -> None:
    assert translate(sql) == (translated, names)
