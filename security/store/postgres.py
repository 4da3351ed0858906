"""PostgreSQL as the durable store, through psycopg.

Invariants:

* a result is handed out only after the server said COMMIT, without a warning, to the transaction that holds it, with
  ``fsync``, ``full_page_writes`` and ``synchronous_commit`` in force (I1, F02);
* one thread owns the only writing connection; readers look at snapshots of their own and never block it;
* works that wait together share one commit, each in its own savepoint; a single work never waits for company;
* one process at a time writes to a schema: a session's advisory lock keeps others out, and the row of
  ``store_writer``, changed in every transaction that changes anything, proves it: who finds another incarnation there
  refuses for ever (F16, F26), who finds fewer commits than were acknowledged refuses too: the server lost them in a
  failover;
* a lost connection is not final: the writer connects again by itself. Works that ran without their COMMIT were not
  kept and are refused as ``Unavailable``; when the loss hit the COMMIT itself, the row of ``store_writer`` tells
  whether it counted, and their awaiters get the truth. Only when the server does not come back in time they get
  ``store-outcome-unknown``: like an answer lost on a network, what was refused may still turn up. Whoever writes
  copes with that as with a crash: the engine's changes carry the lease epoch (I8), the intake's the message's digest;
* a statement that fails spoils a PostgreSQL transaction. A work that catches such a fault and goes on is undone and
  run once more, each of its statements in a savepoint of its own: a work changes nothing but its transaction;
* no fault carries a value: PostgreSQL's details quote rows, so of its words only names of objects go on.

A session lives as long as its connection: a pooler between us must pool sessions, not transactions.

Leaves to others: where the server is (``place``), which migrations there are (``schema``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import queue
import re
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8BinaryDumper, NumericBinaryLoader
from psycopg.types.string import StrBinaryDumper

from security.clock import SystemClock, to_ms
from security.crash import crash_point
from security.errors import Broken, Fault, Refused, Unavailable
from security.store.place import PostgresPlace
from security.store.port import Component, ReadTx, Row, Tx, Value
from security.store.schema import Applied, known_migrations, pending
from security.store.works import Done, Failed, Job, Jobs, again, next_group, refuse, run, settle

T = TypeVar("T")
Connection = psycopg.Connection[Any]

SERVER_MIN = 15
GROUP_MAX = 64
READERS = 4
LOCK_WAIT_S = 1.0  # a server needs a moment to notice that the process that held the lock is dead
BACK_WITHIN_S = 5.0  # how long works wait for a server that went away, counted from its loss
OUTCOME_WITHIN_S = 60.0  # how long works wait to learn what became of their COMMIT: a takeover takes that long
RETRY_S = (0.05, 1.0)  # first and longest pause between two attempts to connect

_STATEMENT_MS, _LOCK_MS, _IDLE_MS = 60_000, 5_000, 120_000
_BEGIN = "BEGIN; SAVEPOINT work"
_PLAIN_COLLATIONS = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8"})
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
"""Shutdown, crash of a neighbour, start-up, session time-outs: the connection is gone (so is class 08)."""
_BUSY = frozenset({"40001", "40P01", "53300", "55P03", "57014"})
"""Serialization, deadlock, too many connections, lock not available, statement cancelled or too slow."""
_DAMAGE = frozenset({"XX001", "XX002"})
_NOT_LET_IN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|not permitted to log in|does not exist"
    r"|certificate"
)
_TOKEN = re.compile(
    r"'(?:[^']|'')*' | \"(?:[^\"]|\"\")*\" | --[^\n]* | /\*.*?\*/ | :: | :([A-Za-z_][A-Za-z0-9_]*)",
    re.VERBOSE | re.DOTALL,
)


# -- statements and values ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def translate(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement with ``:name`` parameters as PostgreSQL numbers them, and the names in order of ``$1``, ``$2``…

    Strings, quoted names, comments and ``::`` casts stay as they are.
    """
    numbers: dict[str, int] = {}

    def placed(match: re.Match[str]) -> str:
        name = match[1]
        return match[0] if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    return _TOKEN.sub(placed, sql), tuple(numbers)


class _PlainNumber(NumericBinaryLoader):
    """SUM and AVG of integers are numeric: an int when integral, else a float, as SQLite answers."""

    def load(self, data: Buffer) -> Any:
        number = super().load(data)
        return int(number) if number.is_finite() and number == number.to_integral_value() else float(number)


class _ZeroOrOne(psycopg.adapt.Loader):
    """A comparison's answer is 0 or 1, as in SQLite."""

    format = pq.Format.BINARY

    def load(self, data: Buffer) -> int:
        return bytes(data)[0]


def _adapt(connection: Connection) -> None:
    """Every integer travels as bigint and every text as text, so that one statement has one plan."""
    adapters = connection.adapters
    for kind in (int, bool):
        adapters.register_dumper(kind, Int8BinaryDumper)
    adapters.register_dumper(str, StrBinaryDumper)
    adapters.register_loader("numeric", _PlainNumber)
    adapters.register_loader("bool", _ZeroOrOne)


# -- transactions ------------------------------------------------------------------------------------------


class _RunAgainError(BaseException):
    """A work went on after a fault of a statement: it must be run again, statement by statement."""


class _Transaction:
    """``Tx`` over one connection, usable only while its work runs.

    ``careful``: each statement in a savepoint of its own, so that the work may go on after a fault.
    """

    __slots__ = ("_careful", "_connection", "engine_fault", "is_spoiled")

    def __init__(self, connection: Connection, *, careful: bool = False) -> None:
        self._connection: Connection | None = connection
        self._careful = careful
        self.is_spoiled = False
        self.engine_fault: Fault | None = None

    def rows(self, sql: str, /, **params: Value) -> list[Row]:
        return cast("list[Row]", self._execute(sql, params).fetchall())

    def row(self, sql: str, /, **params: Value) -> Row | None:
        rows = self.rows(sql, **params)
        if len(rows) > 1:
            raise Broken(
                f"{len(rows)} rows where at most one can be",
                code="store-statement",
                hint="this is a defect: report it with the statement of the cause",
            )
        return rows[0] if rows else None

    def change(self, sql: str, /, **params: Value) -> int:
        return max(self._execute(sql, params).rowcount, 0)

    def end(self) -> None:
        """The work is over: whoever kept this object can do no harm with it."""
        self._connection = None

    def _execute(self, sql: str, params: dict[str, Value]) -> psycopg.Cursor[Any]:
        if self._connection is None:
            raise Broken(
                "a transaction was used after its work had ended",
                code="store-statement",
                hint="this is a defect: report it",
            )
        if self.is_spoiled:
            raise _RunAgainError
        statement, names = translate(sql)
        values = [params[name] for name in names]
        try:
            if self._careful:
                self._connection.execute("SAVEPOINT statement")
            cursor = self._connection.execute(statement, values, binary=True)
            if self._careful:
                self._connection.execute("RELEASE statement")
        except (psycopg.Error, UnicodeEncodeError, OverflowError) as error:
            fault = _statement_fault(error)
            if fault is None:
                fault = self.engine_fault = _engine_fault(error)
            elif self._careful:
                self._connection.execute("ROLLBACK TO statement; RELEASE statement")
            else:
                self.is_spoiled = True
        else:
            return cursor
        raise fault  # outside the handler: the engine's own error quotes values, and must not travel as context


class _Fence:
    """The row by which a writer knows itself: its incarnation, and how many commits it made."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.commits = 0

    def take(self, connection: Connection) -> None:
        """Become the writer of a database whose lock is held."""
        connection.execute(
            "INSERT INTO store_writer (one, incarnation, taken_at, commits) VALUES (1, $1, $2, 0) ON CONFLICT (one)"
            " DO UPDATE SET incarnation = excluded.incarnation, taken_at = excluded.taken_at, commits = 0",
            [self.incarnation, to_ms(SystemClock().now())],
        )

    def seal(self, connection: Connection) -> bool:
        """Count the commit that comes next; whether there is anything to commit.

        Raises:
            Broken: ``store-taken``.
        """
        cursor = connection.execute(
            f"UPDATE store_writer SET commits = {self.commits + 1}"  # noqa: S608 - a number and hexadecimal digits of our own
            f" WHERE one = 1 AND incarnation = '{self.incarnation}' AND pg_current_xact_id_if_assigned() IS NOT NULL;"
            " SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS has_changes"
        )
        is_counted = cursor.rowcount == 1
        cursor.nextset()
        answer = cursor.fetchone()
        has_changes = bool(answer and answer["has_changes"])
        if has_changes and not is_counted:
            raise _taken("the database has another writer now")
        return has_changes

    def resume(self, connection: Connection) -> bool:
        """Go on after a lost connection, its lock held again; whether a COMMIT without answer counted.

        Ends with a commit of its own: what it found is as durable as that commit.

        Raises:
            Broken: ``store-taken`` another process wrote meanwhile; ``store-behind`` acknowledged commits are gone.
        """
        row = connection.execute("SELECT incarnation, commits FROM store_writer").fetchone()
        if row is None or row["incarnation"] != self.incarnation:
            raise _taken("another process wrote to the database while the connection was lost")
        if row["commits"] < self.commits:
            raise Broken(
                f"the server lacks {self.commits - row['commits']} commits that it had acknowledged",
                code="store-behind",
                hint="a standby that was behind took over: make replication synchronous, then restart and reconcile",
            )
        counted = bool(row["commits"] > self.commits)
        self.commits = row["commits"]
        _durably(connection, "UPDATE store_writer SET taken_at = $1", [to_ms(SystemClock().now())])
        return counted


def _durably(
    connection: Connection, statement: str, values: Sequence[Value] | None = None, *, prepare: bool | None = None
) -> psycopg.Cursor[Any]:
    """Run a statement that commits. A server whose synchronous standby is away waits for it, however long; when
    somebody cancels that wait, the commit is on one machine alone, and the server says so in a warning only.

    Raises:
        Unavailable: ``store-outcome-unknown``.
    """
    warnings: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            warnings.append(diagnostic.sqlstate or "")

    connection.add_notice_handler(note)
    try:
        cursor = connection.execute(statement, values, prepare=prepare)
    finally:
        connection.remove_notice_handler(note)
    if warnings:
        raise Unavailable(
            f"the server warned while the works were committed ({', '.join(warnings)}): a failover may lose them",
            code="store-outcome-unknown",
            hint="bring the synchronous standby back, and cancel no session that waits for it (wait_event SyncRep)",
        )
    return cursor


def _taken(what: str) -> Broken:
    return Broken(
        what, code="store-taken", hint="leave one process running; restart the other only after it has ended"
    )


class _Writer:
    """The thread that owns the writing connection. After ``fault`` is set it only refuses."""

    def __init__(self, place: PostgresPlace, connection: Connection, fence: _Fence) -> None:
        self.fault: Fault | None = None
        self._place = place
        self._connection: Connection | None = connection
        self._fence = fence
        self._lost_at = 0.0
        self._jobs: Jobs = queue.SimpleQueue()
        # A daemon: a process that ends without close() must not hang on it; the server survives that (I12).
        self._thread = threading.Thread(target=self._serve, name=f"write {place.database}", daemon=True)
        self._thread.start()

    def put(self, job: Job | None) -> None:
        """Queue a work; None ends the thread after what was queued before."""
        self._jobs.put(job)

    def finish(self) -> None:
        """Wait for the thread's end, give the lock back and close the connection."""
        self._thread.join()
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):  # the lock ends with the session anyway
                self._connection.execute("SELECT pg_advisory_unlock_all()")
            self._connection.close()
            self._connection = None

    def _serve(self) -> None:
        while group := next_group(self._jobs, GROUP_MAX):
            if self.fault is None:
                try:
                    self._carry(group)
                except BaseException as error:  # noqa: BLE001 - supervision edge: nobody may wait for a writer that died
                    fault = _engine_fault(error)
                    self._drop()
                    if isinstance(fault, Broken):
                        self.fault = fault
                    refuse([job for job in group if not job.future.done()], fault)
            else:
                refuse(group, self.fault)

    def _carry(self, group: Sequence[Job]) -> None:
        """Run and commit one group. What it raises is the answer to those of its works that have none."""
        connection = self._begun()
        try:
            outcomes = self._run(connection, group)
            has_changes = self._fence.seal(connection)
            crash_point("store-before-commit")
        except Unavailable as fault:
            if fault.code == "store-unreachable":
                raise
            connection.execute("ROLLBACK")
            refuse(group, fault)
            return
        try:
            said = _durably(connection, "COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if not _is_lost(error):
                raise
            self._drop()
            if not self._outcome():
                raise _unreachable("while the works were committed, and did not keep them") from None
        else:
            if said != "COMMIT":
                raise Broken(
                    f"the server answered {said} to COMMIT: nothing was kept",
                    code="store-broken",
                    hint="this is a defect: report it; then restart the service",
                )
            self._fence.commits += has_changes
        crash_point("store-after-commit")
        settle(group, outcomes)

    def _run(self, connection: Connection, group: Sequence[Job]) -> list[Done | Failed]:
        outcomes: list[Done | Failed] = []
        for job in group:
            if outcomes:
                connection.execute("RELEASE work; SAVEPOINT work")
            outcomes.append(_attempt(connection, job.work))
        return outcomes

    def _begun(self) -> Connection:
        """A connection whose transaction has begun; a connection found dead is made anew first.

        Raises:
            Unavailable: ``store-unreachable``, ``store-busy``.
            Broken: ``store-taken``, ``store-behind``, ``store-locked``.
        """
        if self._connection is not None:
            try:
                self._connection.execute(_BEGIN)
            except psycopg.Error as error:
                if not _is_lost(error):
                    raise
                self._drop()
            else:
                return self._connection
        connection, _ = self._back(self._lost_at + BACK_WITHIN_S)
        connection.execute(_BEGIN)
        return connection

    def _outcome(self) -> bool:
        """Whether the COMMIT that lost its answer counted.

        Raises:
            Unavailable: ``store-outcome-unknown`` the server did not come back in time.
            Broken: as ``_back``.
        """
        try:
            return self._back(self._lost_at + OUTCOME_WITHIN_S)[1]
        except Unavailable:
            raise Unavailable(
                "the connection to the database was lost while the works were committed: they may or may not be kept",
                code="store-outcome-unknown",
                hint="bring the server back; work goes on by itself, and what was kept is recognised",
            ) from None

    def _back(self, until: float) -> tuple[Connection, bool]:
        """Connect again, with growing pauses until ``until`` (monotonic), once at least."""
        pause, longest = RETRY_S
        while True:
            try:
                connection = _connect(self._place, self._fence.incarnation)
                with contextlib.ExitStack() as undo:
                    undo.callback(connection.close)
                    _require_server(connection)
                    _lock(connection, self._place, self._fence.incarnation)
                    counted = self._fence.resume(connection)
                    undo.pop_all()
            except (psycopg.Error, Unavailable) as error:
                fault = error if isinstance(error, Unavailable) else _engine_fault(error)
                if isinstance(fault, Broken) or time.monotonic() + pause > until:
                    raise fault from None
                time.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self._connection = connection
                return connection, counted

    def _drop(self) -> None:
        """The connection is not to be trusted any more: the lock goes with it."""
        if self._connection is not None:
            self._connection.close()
            self._connection, self._lost_at = None, time.monotonic()


def _attempt(connection: Connection, work: Callable[[Tx], Any], *, careful: bool = False) -> Done | Failed:
    """Run one work in the savepoint ``work``. Raises when the engine, not the work, failed."""
    tx = _Transaction(connection, careful=careful)
    outcome: Done | Failed
    try:
        outcome = Done(run(work, tx))
    except BaseException as error:  # noqa: BLE001 - supervision edge: it goes to whoever awaits this work
        outcome = Failed(error)
    tx.end()
    if tx.engine_fault is not None:  # also when the work swallowed it: the transaction may be gone
        raise tx.engine_fault
    if tx.is_spoiled and (isinstance(outcome, Done) or isinstance(outcome.error, _RunAgainError)):
        connection.execute("ROLLBACK TO work")
        return _attempt(connection, work, careful=True)
    if isinstance(outcome, Failed):
        connection.execute("ROLLBACK TO work")
    return outcome


class PostgresStore:
    """``security.store.port.Store`` on one schema of a PostgreSQL database. Made by ``open``."""

    def __init__(self, place: PostgresPlace, first: Connection | None, writer: _Writer | None) -> None:
        self.place = place
        self._name = _incarnation()
        self._idle: deque[Connection | None] = deque([first, *[None] * (READERS - 1)])
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix=f"read {place.database}")
        self._writer = writer
        self._closed = False
        self._door = threading.Lock()  # nothing is submitted behind the end
        self._finishing = threading.Lock()

    @classmethod
    async def open(cls, place: PostgresPlace, components: Sequence[Component], *, read_only: bool = False) -> Self:
        """Open the schema of ``place``; the writer creates, checks and migrates it.

        ``components``: every owner of tables in it, in order of migration, ``port.GROUND`` first. A reader may open
        beside the writer; it neither checks nor changes anything.

        Raises:
            Broken: ``store-place`` (no such database, no right to it, a way to it that is not safe),
                ``store-credentials``, ``store-library``, ``store-settings``, ``store-locked``, ``store-edited``,
                ``store-newer``, ``store-older`` (reader: migrations missing), ``store-migration``.
            Unavailable: ``store-unreachable``, ``store-standby``, ``store-full``, ``store-busy``.
        """
        return await asyncio.to_thread(cls._open, place, components, read_only=read_only)

    @classmethod
    def _open(cls, place: PostgresPlace, components: Sequence[Component], *, read_only: bool) -> Self:
        with contextlib.ExitStack() as undo, _opening(place):
            if read_only:
                reader = _connect(place, _incarnation(), read_only=True)
                undo.callback(reader.close)
                _require_migrated(reader, components)
                store = cls(place, reader, None)
            else:
                fence = _Fence(_incarnation())
                connection = _connect(place, fence.incarnation)
                undo.callback(connection.close)
                _require_server(connection)
                _lock(connection, place, fence.incarnation)
                _migrate(connection, place, components)
                fence.take(connection)
                store = cls(place, None, _Writer(place, connection, fence))
            undo.pop_all()
            return store

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction; returns its result once the commit is durable.

        A caller that is cancelled while waiting abandons the answer, not the work.

        Raises:
            Fault: whatever ``work`` raised (its changes are undone).
            Unavailable: ``store-full``, ``store-busy``, ``store-unreachable``: nothing was kept, the same work may
                succeed later; ``store-outcome-unknown``: it may have been kept.
            Broken: ``store-taken``, ``store-locked``, ``store-behind``, ``store-damaged``, ``store-broken``: for
                ever; ``store-closed``.
            Refused: ``store-read-only``.
        """
        if self._writer is None:
            raise Refused(
                f"{self.place} was opened for reading",
                code="store-read-only",
                hint="open the store for writing, in the one process that may",
            )
        job = Job(work=work)
        with self._door:
            self._require_open()
            self._writer.put(job)
        return cast("T", await asyncio.shield(asyncio.wrap_future(job.future)))

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        """Run ``work`` on a consistent view that never blocks the writer.

        Raises:
            Fault: whatever ``work`` raised.
            Unavailable: ``store-unreachable``, ``store-busy``.
            Broken: ``store-damaged``, ``store-broken``; ``store-closed``.
        """
        with self._door:
            self._require_open()
            future = self._pool.submit(self._look, work)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Finish what was submitted, then close. Idempotent."""
        with self._door:
            if not self._closed and self._writer is not None:
                self._writer.put(None)
            self._closed = True
        await asyncio.to_thread(self._finish)

    def _require_open(self) -> None:
        if self._closed:
            raise Broken(f"the store {self.place} is closed", code="store-closed", hint="this is a defect: report it")

    def _finish(self) -> None:
        with self._finishing:
            self._pool.shutdown()
            while self._idle:
                connection = self._idle.pop()
                if connection is not None:
                    connection.close()
            if self._writer is not None:
                self._writer.finish()

    def _look(self, work: Callable[[ReadTx], T]) -> T:
        connection = self._idle.pop()  # as many places as threads: never empty
        try:
            connection = self._looking(connection)
            tx = _Transaction(connection)
            try:
                return run(work, tx)
            except _RunAgainError:
                raise Broken(
                    "a read went on after its statement had failed", code="store-statement", hint="report this defect"
                ) from None
            finally:
                tx.end()
                _roll_back(connection)
                if (
                    tx.engine_fault is not None
                    and tx.engine_fault.code == "store-damaged"
                    and self._writer is not None
                ):
                    self._writer.fault = tx.engine_fault  # a damaged page stops writing too (F12)
        finally:
            self._idle.append(connection)

    def _looking(self, connection: Connection | None) -> Connection:
        """A reader's connection with its snapshot; one found dead is made anew."""
        fault: Fault
        try:
            if connection is not None and not connection.closed:
                try:
                    connection.execute("BEGIN")
                except psycopg.Error as error:
                    if not _is_lost(error):
                        raise
                    connection.close()
                else:
                    return connection
            connection = _connect(self.place, self._name, read_only=True)
            connection.execute("BEGIN")
        except psycopg.Error as error:
            fault = _engine_fault(error)
        else:
            return connection
        raise fault


def _roll_back(connection: Connection) -> None:
    """Leave no transaction behind; a connection that cannot do that is closed."""
    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()


# -- faults ------------------------------------------------------------------------------------------------


def _statement_fault(error: Exception) -> Fault | None:
    """What is wrong with a statement or its values; None when the engine, not the statement, failed."""
    if not isinstance(error, psycopg.Error) or (
        isinstance(error, psycopg.DataError) and error.sqlstate in {None, "22021"}
    ):
        return Refused(
            "a value cannot be stored: a text with NUL or half a surrogate pair, or a number beyond 64 bits",
            code="store-value",
            hint="the value must be refused or cleaned where it comes in",
        )
    if isinstance(error, psycopg.IntegrityError):
        return Refused(
            f"the data forbids it: {type(error).__name__} {error.diag.table_name}.{error.diag.constraint_name}",
            code="store-constraint",
            hint="this is a defect: report it with what was done",
        )
    if isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError) or (
        error.sqlstate in {"25006", "25P02"}  # a change in a read
    ):
        # Class 42 speaks of names; the other classes may quote a value.
        names = f": {error.diag.message_primary}" if (error.sqlstate or "").startswith("42") else ""
        return Broken(
            f"the statement is wrong ({type(error).__name__}{names})",
            code="store-statement",
            hint="this is a defect: report it",
        )
    return None


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, and with it everything that was not committed."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state in _LOST or state.startswith("08")


def _engine_fault(error: BaseException) -> Fault:
    """What an error of the engine means to the caller."""
    if isinstance(error, Fault):
        return error
    if not isinstance(error, psycopg.Error):
        return Broken(
            f"the writer of the store failed: {type(error).__name__}",
            code="store-broken",
            hint="this is a defect: report it; then restart the service",
        )
    if _is_lost(error):
        return _unreachable("before the works were committed: nothing was kept")
    return _server_fault(error.sqlstate or "", f"{type(error).__name__}, SQLSTATE {error.sqlstate}")


def _server_fault(state: str, what: str) -> Fault:
    if state == "53100":
        return Unavailable(
            "the disk of the database server is full: nothing was written",
            code="store-full",
            hint="free space on the server; work goes on by itself",
        )
    if state in _BUSY:
        return Unavailable(
            f"the database server did not do it now: {what}",
            code="store-busy",
            hint="find out which session stands in the way (pg_stat_activity)",
        )
    if state in _DAMAGE:
        return Broken(
            f"the database is damaged: {what}",
            code="store-damaged",
            hint="stop the service, keep the server's files, restore or fail over, then reconcile",
        )
    return Broken(
        f"the database engine failed: {what}",
        code="store-broken",
        hint="read the server's log, then restart the service: it checks the server when it opens",
    )


def _unreachable(when: str) -> Unavailable:
    return Unavailable(
        f"the connection to the database was lost {when}",
        code="store-unreachable",
        hint="bring the database server or the way to it back; work goes on by itself",
    )


# -- opening -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opening(place: PostgresPlace) -> Iterator[None]:
    """While opening, what the server refuses speaks of the place."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == "42501":
            fault: Fault = Broken(
                f"{place}: {error.diag.message_primary}",
                code="store-place",
                hint=f"make {place.user} the owner of the database, or of the schema",
            )
        else:
            fault = again(_engine_fault(error), f"{place}: ")
        raise fault from None


def _incarnation() -> str:
    return secrets.token_hex(8)


def _connect(place: PostgresPlace, incarnation: str, *, read_only: bool = False) -> Connection:
    """One session with the settings every one must have.

    ``incarnation``: hexadecimal digits; with host and process it is the session's name in the server's views.

    Raises:
        Unavailable: ``store-unreachable``. Broken: ``store-credentials``, ``store-place``.
    """
    settings = {
        "search_path": f"{place.schema}, pg_temp",
        "default_transaction_isolation": "repeatable read" if read_only else "read committed",
        "default_transaction_read_only": "on" if read_only else "off",
        "statement_timeout": str(_STATEMENT_MS),
        "lock_timeout": str(_LOCK_MS),
        "idle_in_transaction_session_timeout": str(_IDLE_MS),
        "idle_session_timeout": "0",  # the session holds the lock, however quiet the night
        "tcp_keepalives_idle": "10",  # a machine that fell out of the network does not hold the lock for long
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "jit": "off",
    }
    try:
        connection = psycopg.Connection.connect(
            **_parameters(place, incarnation),
            autocommit=True,
            cursor_factory=psycopg.RawCursor,
            row_factory=dict_row,
            prepare_threshold=1,
        )
    except psycopg.Error as error:
        fault = _connect_fault(place, error)
    else:
        _adapt(connection)
        try:
            connection.execute("".join(f"SET {name} = {value};" for name, value in _quoted(settings)))
            if not read_only:
                connection.execute(
                    "SELECT set_config('synchronous_commit', 'on', false)"
                    " WHERE current_setting('synchronous_commit') <> 'remote_apply'"
                )
        except psycopg.Error:
            connection.close()
            raise
        return connection
    raise fault


def _parameters(place: PostgresPlace, incarnation: str) -> dict[str, Any]:
    """How libpq gets there; a machine or a network that dies is noticed within half a minute."""
    parameters: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "dbname": place.database,
        "user": place.user,
        "password": place.password or None,
        "application_name": f"poterne {incarnation} {os.getpid()} {socket.gethostname()}"[:63],
        "client_encoding": "utf8",
        "connect_timeout": max(2, round(place.connect_timeout_s)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "gssencmode": "disable",
        "sslmode": "prefer",
    }
    if place.ca_file is not None and not place.host.startswith("/"):
        parameters |= {"sslmode": "verify-full", "sslrootcert": place.ca_file, "ssl_min_protocol_version": "TLSv1.2"}
        if place.certificate_file is not None and place.key_file is not None:
            parameters |= {"sslcert": place.certificate_file, "sslkey": place.key_file}
        if place.crl_file is not None:
            parameters |= {"sslcrl": place.crl_file}  # read at each connection; one for every authority
    return parameters


def _quoted(settings: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        yield name, value if name == "search_path" else f"'{value}'"


def _connect_fault(place: PostgresPlace, error: psycopg.Error) -> Fault:
    """Why there is no session. libpq has no codes for that, only words, which name user, database and address; those
    of a server that speaks another language count as unreachable."""
    words = " ".join(str(error).split())
    if _NOT_LET_IN.search(words):
        return Broken(
            f"{place}: {words}",
            code="store-credentials",
            hint="check user, password file, database and certificates, and the server's pg_hba.conf",
        )
    return Unavailable(
        f"{place}: {words}",
        code="store-unreachable",
        hint="check that the server runs, its address and the way to it",
    )


def _require_server(connection: Connection) -> None:
    """Refuse a server that may lose what it acknowledged, or that sorts and stores text in another way.

    Raises:
        Broken: ``store-library``, ``store-settings``.
        Unavailable: ``store-standby``.
    """
    facts = connection.execute(
        "SELECT current_setting('server_version_num') AS version, pg_is_in_recovery()::int AS standby,"
        " current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,"
        " current_setting('synchronous_commit') AS synchronous_commit,"
        " current_setting('server_encoding') AS server_encoding, datcollate AS collation, datlocprovider AS provider"
        " FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert facts is not None
    if int(facts["version"]) // 10_000 < SERVER_MIN:
        raise Broken(
            f"PostgreSQL {int(facts['version']) // 10_000} is older than what this programme is tested with",
            code="store-library",
            hint=f"use PostgreSQL {SERVER_MIN} or newer",
        )
    if facts["standby"]:
        raise Unavailable(
            "the server is a standby: it takes no writes",
            code="store-standby",
            hint="connect to the primary, or promote this one",
        )
    wanted = {
        "fsync": {"on"},
        "full_page_writes": {"on"},
        "synchronous_commit": {"on", "remote_apply"},
        "server_encoding": {"UTF8"},
    }
    for name, values in wanted.items():
        if facts[name] not in values:
            raise Broken(
                f"the server has {name} = {facts[name]}: a safe database needs {' or '.join(sorted(values))}",
                code="store-settings",
                hint="correct postgresql.conf and reload the server; an encoding is chosen with createdb",
            )
    if facts["provider"] == "i" or (facts["provider"] == "c" and facts["collation"] not in _PLAIN_COLLATIONS):
        raise Broken(
            f"the database sorts text by the collation {facts['collation']}, which changes with the operating system"
            " and then corrupts unique indexes",
            code="store-settings",
            hint="createdb --template=template0 --encoding=UTF8 --locale=C NAME",
        )


def lock_key(place: PostgresPlace) -> int:
    """Key of the advisory lock of a schema's writer: 64 bits, signed."""
    digest = hashlib.sha256(f"poterne\0{place.database}\0{place.schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _lock(connection: Connection, place: PostgresPlace, incarnation: str) -> None:
    """Become the only writer.

    Raises:
        Broken: ``store-locked`` another process is at work.
        Unavailable: ``store-busy`` our own lost session still holds the lock.
    """
    key, until = lock_key(place), time.monotonic() + LOCK_WAIT_S
    while True:
        got = connection.execute("SELECT pg_try_advisory_lock($1) AS got", [key], binary=True).fetchone()
        if got is not None and got["got"]:
            return
        if time.monotonic() > until:
            break
        time.sleep(0.02)
    holder = connection.execute(
        "SELECT a.application_name AS name, a.pid::bigint AS pid,"
        " COALESCE(host(a.client_addr), 'this machine') AS address,"
        " to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since"
        " FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.objsubid = 1"
        " AND l.classid::bigint = $1 AND l.objid::bigint = $2",
        [(key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF],
    ).fetchone()
    if holder is None or incarnation in str(holder["name"]):
        raise Unavailable(
            f"{place}: a session that is about to end still holds the writer's lock",
            code="store-busy",
            hint="wait: the server ends it by itself",
        )
    raise Broken(
        f"{place}: {holder['name']!r} at {holder['address']} (server process {holder['pid']}, since {holder['since']}"
        " UTC) is writing to it",
        code="store-locked",
        hint="stop that process, or let it do this work",
    )


def _require_migrated(connection: Connection, components: Sequence[Component]) -> None:
    """Refuse to read a database that is not exactly what this programme knows."""
    missing = pending(known_migrations(components, "postgres"), _applied(connection))
    if missing:
        raise Broken(
            f"the database lacks the migration {missing[0]}",
            code="store-older",
            hint="start the service once: the writer migrates",
        )


def _migrate(connection: Connection, place: PostgresPlace, components: Sequence[Component]) -> None:
    """Bring the schema to what this programme knows, each migration in one transaction."""
    missing = pending(known_migrations(components, "postgres"), _applied(connection))
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = $1", [place.schema]).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {place.schema}")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration (component TEXT NOT NULL, number BIGINT NOT NULL,"
        " name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at BIGINT NOT NULL, PRIMARY KEY (component, number));"
        "CREATE TABLE IF NOT EXISTS store_writer (one BIGINT PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL,"
        " taken_at BIGINT NOT NULL, commits BIGINT NOT NULL)"
    )
    for step in missing:
        fault = None
        connection.execute("BEGIN; SET LOCAL statement_timeout = 0")
        try:
            connection.execute(step.sql)
            connection.execute(
                "INSERT INTO schema_migration VALUES ($1, $2, $3, $4, $5)",
                [step.component, step.number, step.name, step.sha256, to_ms(SystemClock().now())],
            )
        except psycopg.Error as error:
            fault = _statement_fault(error)
            if fault is None:
                raise
            connection.execute("ROLLBACK")
            raise Broken(
                f"the migration {step} failed and was undone: {fault.args[0]}",
                code="store-migration",
                hint="go back to the version that was running; report this",
            ) from None
        connection.execute("COMMIT")


def _applied(connection: Connection) -> list[Applied]:
    found = connection.execute("SELECT to_regclass('schema_migration') IS NOT NULL AS found", binary=True).fetchone()
    if found is None or not found["found"]:
        return []
    rows = connection.execute(
        "SELECT component, number, name, sha256 FROM schema_migration ORDER BY applied_at, component, number"
    )
    return [Applied(**row) for row in rows]
