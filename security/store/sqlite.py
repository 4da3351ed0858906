"""SQLite as the durable store, through apsw and its own recent library.

Invariants:

* WAL, ``synchronous=FULL``: a result is handed out only after the commit that holds it was fsynced (I1, F02);
* one thread owns the only writing connection and every checkpoint; readers never block it (FF-26);
* works that wait together share one commit, each in its own savepoint; a single work never waits for company;
* a failed fsync or any other I/O error is final (F03): the group is refused, and so is every later write until
  the store is opened anew. What was refused may still turn up after a restart, as after any lost answer;
* a full disk or a foreign lock is not final (F04): the group is refused as ``Unavailable``, the next may succeed.

Leaves to others: what a database's directory must offer (``place``), which migrations there are (``schema``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import apsw

from security.clock import SystemClock, to_ms
from security.crash import crash_point
from security.errors import Broken, Fault, Refused, Unavailable
from security.store import place
from security.store.port import Component, ReadTx, Row, Tx, Value
from security.store.schema import Applied, known_migrations, pending
from security.store.works import Done as _Done
from security.store.works import Failed as _Failed
from security.store.works import Job as _Job
from security.store.works import Jobs, next_group
from security.store.works import again as _again
from security.store.works import refuse as _refuse
from security.store.works import run as _run

T = TypeVar("T")

LIBRARY_MIN = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL database (WAL-reset defect)
GROUP_MAX = 64
READERS = 4
BUSY_MS = 5_000
CHECKPOINT_PAGES = 1_000
RESET_PAGES = 16_000  # 64 MiB of WAL: start it over, and wait a little for readers that still look at it
RESET_WAIT_MS = 100
JOURNAL_BYTES_MAX = 64 * 1024 * 1024

# What is wrong with the statement or its values, as opposed to the engine.
_STATEMENT = (
    apsw.SQLError,
    apsw.MismatchError,
    apsw.RangeError,
    apsw.TooBigError,
    apsw.BindingsError,
    apsw.AuthError,
)
_PASSING = (apsw.FullError, apsw.BusyError, apsw.LockedError)
_DAMAGE = (apsw.CorruptError, apsw.NotADBError)


class _Transaction:
    """``Tx`` over one connection, usable only while its work runs."""

    __slots__ = ("_connection", "engine_error")

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection: apsw.Connection | None = connection
        self.engine_error: apsw.Error | None = None

    def rows(self, sql: str, /, **params: Value) -> list[Row]:
        with self._running() as connection:
            cursor = connection.execute(sql, params)
            first = next(cursor, None)
            if first is None:
                return []
            names = [column[0] for column in cursor.get_description()]
            return [dict(zip(names, row, strict=True)) for row in (first, *cursor)]

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
        with self._running() as connection:
            for _ in connection.execute(sql, params):
                pass
            return connection.changes()

    def end(self) -> None:
        """The work is over: whoever kept this object can do no harm with it."""
        self._connection = None

    @contextlib.contextmanager
    def _running(self) -> Iterator[apsw.Connection]:
        if self._connection is None:
            raise Broken(
                "a transaction was used after its work had ended",
                code="store-statement",
                hint="this is a defect: report it",
            )
        try:
            yield self._connection
        except apsw.ConstraintError as error:
            raise Refused(
                f"the data forbids it: {error}",
                code="store-constraint",
                hint="this is a defect: report it with what was done",
            ) from error
        except _STATEMENT as error:
            raise Broken(
                f"the statement is wrong: {error}", code="store-statement", hint="this is a defect: report it"
            ) from error
        except apsw.Error as error:
            self.engine_error = error
            raise _engine_fault(error) from error


class _Writer:
    """The thread that owns the writing connection. After ``fault`` is set it only refuses."""

    def __init__(self, connection: apsw.Connection, name: str) -> None:
        self.fault: Fault | None = None
        self._connection = connection
        self._wal_pages = 0
        self._jobs: Jobs = queue.SimpleQueue()
        connection.set_wal_hook(self._note_wal)
        # A daemon: a process that ends without close() must not hang on it; the file survives that (I12).
        self._thread = threading.Thread(target=self._serve, name=f"write {name}", daemon=True)
        self._thread.start()

    def put(self, job: _Job | None) -> None:
        """Queue a work; None ends the thread after what was queued before."""
        self._jobs.put(job)

    def finish(self) -> None:
        """Wait for the thread's end and close its connection."""
        self._thread.join()
        if self.fault is not None:  # a device that failed is not written to again: the WAL stays for the next start
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()

    def _serve(self) -> None:
        while group := next_group(self._jobs, GROUP_MAX):
            if self.fault is None:
                self._commit(group)
                self._checkpoint()
            else:
                _refuse(group, self.fault)

    def _commit(self, group: list[_Job]) -> None:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._attempt(job.work) for job in group]
            crash_point("store-before-commit")
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - supervision edge: nobody may wait for a writer that died
            fault = _engine_fault(error)
            if isinstance(fault, Broken):
                self.fault = fault
            _roll_back(connection)
            _refuse(group, fault)
            return
        crash_point("store-after-commit")
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, _Done):
                job.future.set_result(outcome.result)
            else:
                job.future.set_exception(outcome.error)

    def _attempt(self, work: Callable[[Tx], Any]) -> _Done | _Failed:
        """Run one work in its savepoint. Raises ``apsw.Error`` when the engine, not the work, failed."""
        self._connection.execute("SAVEPOINT work")
        tx = _Transaction(self._connection)
        outcome: _Done | _Failed
        try:
            outcome = _Done(_run(work, tx))
        except BaseException as error:  # noqa: BLE001 - supervision edge: it goes to whoever awaits this work
            outcome = _Failed(error)
        tx.end()
        if tx.engine_error is not None:  # also when the work swallowed it: the transaction may be gone
            raise tx.engine_error
        if isinstance(outcome, _Failed):
            self._connection.execute("ROLLBACK TO work")
        self._connection.execute("RELEASE work")
        return outcome

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint(self) -> None:
        """Move the WAL into the database when it has grown; after the answers, so that nobody waits for it."""
        if self._wal_pages < CHECKPOINT_PAGES or self.fault is not None:
            return
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE if self._wal_pages < RESET_PAGES else apsw.SQLITE_CHECKPOINT_TRUNCATE
        self._wal_pages = 0  # set again by the next commit
        self._connection.set_busy_timeout(RESET_WAIT_MS)  # a long reader must not become everybody's wait
        try:
            self._connection.wal_checkpoint("main", mode)
        except _PASSING:
            pass  # a reader is in the way or the disk is full: the WAL is durable as it is, try later
        except apsw.Error as error:
            self.fault = _engine_fault(error)
        self._connection.set_busy_timeout(BUSY_MS)


class SqliteStore:
    """``security.store.port.Store`` on one SQLite file. Made by ``open``."""

    def __init__(self, path: Path, writer: apsw.Connection | None, lock: int | None) -> None:
        self.path = path
        self._idle = deque(_connect(path, read_only=True) for _ in range(READERS))
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix=f"read {path.name}")
        self._writer = None if writer is None else _Writer(writer, path.name)
        self._lock = lock
        self._closed = False
        self._door = threading.Lock()  # nothing is submitted behind the end
        self._finishing = threading.Lock()

    @classmethod
    async def open(cls, path: Path, components: Sequence[Component], *, read_only: bool = False) -> Self:
        """Open the database at ``path``, creating, checking and migrating it when this is the writer.

        ``components``: every owner of tables in it, in order of migration, ``port.GROUND`` first. A reader may open
        beside the writer; it neither checks nor changes the file.

        Raises:
            Broken: ``store-library``, ``store-place``, ``store-locked``, ``store-damaged``, ``store-settings``,
                ``store-edited``, ``store-newer``, ``store-older`` (reader: migrations missing),
                ``store-migration``.
            Unavailable: ``store-full``, ``store-busy``.
        """
        return await asyncio.to_thread(cls._open, path, components, read_only=read_only)

    @classmethod
    def _open(cls, path: Path, components: Sequence[Component], *, read_only: bool) -> Self:
        _require_library(apsw.sqlite_lib_version())
        with contextlib.ExitStack() as undo, _opening(path):
            place.require_local(path.parent)
            lock = None
            if not read_only:
                lock = place.take_lock(path)
                undo.callback(os.close, lock)
            place.require_file(path, create=not read_only)
            connection = _connect(path, read_only=read_only)
            undo.callback(connection.close)
            if read_only:
                _require_migrated(connection, components)
                connection.close()
                store = cls(path, None, None)
            else:
                _check(connection)
                _migrate(connection, components)
                store = cls(path, connection, lock)
            undo.pop_all()
            return store

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction; returns its result once the commit is durable.

        A caller that is cancelled while waiting abandons the answer, not the work.

        Raises:
            Fault: whatever ``work`` raised (its changes are undone).
            Unavailable: ``store-full``, ``store-busy``: nothing was kept, the same work may succeed later.
            Broken: ``store-broken``, ``store-damaged`` the engine failed; ``store-closed``.
            Refused: ``store-read-only``.
        """
        if self._writer is None:
            raise Refused(
                f"{self.path} was opened for reading",
                code="store-read-only",
                hint="open the store for writing, in the one process that may",
            )
        job = _Job(work=work)
        with self._door:
            self._require_open()
            self._writer.put(job)
        return cast("T", await asyncio.shield(asyncio.wrap_future(job.future)))

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        """Run ``work`` on a consistent view that never blocks the writer.

        Raises:
            Fault: whatever ``work`` raised.
            Broken: ``store-damaged``, ``store-broken`` the file cannot be read; ``store-closed``.
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
            raise Broken(f"the store {self.path} is closed", code="store-closed", hint="this is a defect: report it")

    def _finish(self) -> None:
        with self._finishing:
            self._pool.shutdown()
            while self._idle:
                self._idle.pop().close()
            if self._writer is not None:  # last, so that the writer's is the connection that empties the WAL
                self._writer.finish()
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _look(self, work: Callable[[ReadTx], T]) -> T:
        connection = self._idle.pop()  # as many connections as threads: never empty
        tx = _Transaction(connection)
        try:
            connection.execute("BEGIN")
            return _run(work, tx)
        finally:
            tx.end()
            _roll_back(connection)
            self._idle.append(connection)
            if isinstance(tx.engine_error, _DAMAGE) and self._writer is not None:
                self._writer.fault = _engine_fault(tx.engine_error)  # a damaged page stops writing too (F12)


# -- faults ------------------------------------------------------------------------------------------------


def _engine_fault(error: BaseException) -> Fault:
    """What an engine error means to the caller. SQLite's own words name tables and columns, never values."""
    if isinstance(error, apsw.FullError):
        return Unavailable(
            "the disk of the database is full: nothing was written",
            code="store-full",
            hint="free space on that file system; work goes on by itself",
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Unavailable(
            f"another programme holds the database for more than {BUSY_MS / 1000:g} s: {error}",
            code="store-busy",
            hint="find out which programme has the file open (fuser) and stop it",
        )
    if isinstance(error, _DAMAGE):
        return Broken(
            f"the database is damaged: {error}",
            code="store-damaged",
            hint="stop the service, keep the file, restore the last backup or replica, then reconcile",
        )
    code = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", 0), type(error).__name__)
    return Broken(
        f"the database engine failed ({code}): {error}",
        code="store-broken",
        hint="read the kernel's log for the disk, then restart the service: it checks the database when it opens",
    )


def _roll_back(connection: apsw.Connection) -> None:
    """Leave no transaction behind; the engine may have ended it by itself."""
    if connection.in_transaction:
        with contextlib.suppress(apsw.Error):  # a transaction that cannot be undone dies with the connection
            connection.execute("ROLLBACK")


# -- opening -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[None]:
    """While opening, what the engine and the system refuse speaks of the file."""
    try:
        yield
    except apsw.Error as error:
        raise _again(_engine_fault(error), f"{path}: ") from error
    except OSError as error:
        raise Broken(
            f"{path}: {error.strerror} ({error.filename})",
            code="store-place",
            hint="the service's user must own the directory and every file of the database",
        ) from error


def _require_library(version: str) -> None:
    if tuple(int(part) for part in version.split(".")[:3]) < LIBRARY_MIN:
        raise Broken(
            f"SQLite {version} can corrupt a database in WAL mode",
            code="store-library",
            hint=f"install apsw {'.'.join(map(str, LIBRARY_MIN))} or newer, which brings its own library",
        )


def _connect(path: Path, *, read_only: bool) -> apsw.Connection:
    """One connection with the settings every one must have, each read back.

    Raises:
        Broken: ``store-settings`` the engine did not take one.
    """
    settings: dict[str, int | str] = {"busy_timeout": BUSY_MS, "mmap_size": 0, "foreign_keys": 1, "trusted_schema": 0}
    if read_only:
        settings |= {"query_only": 1}
    else:
        settings |= {"journal_mode": "wal", "synchronous": 2, "journal_size_limit": JOURNAL_BYTES_MAX}
        settings |= {"wal_autocheckpoint": 0}  # checkpoints are the writer's, so that their errors are seen
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE
    with contextlib.ExitStack() as undo:
        connection = apsw.Connection(str(path), flags=flags)
        undo.callback(connection.close)
        for name, wanted in settings.items():
            connection.execute(f"PRAGMA {name} = {wanted}")
            got = connection.pragma(name)
            if got != wanted:
                raise Broken(
                    f"{path}: the engine did not take {name} = {wanted} (it has {got})",
                    code="store-settings",
                    hint="the file system or the library lacks something a safe database needs",
                )
        undo.pop_all()
    return connection


def _check(connection: apsw.Connection) -> None:
    findings = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    if findings != ["ok"]:
        raise apsw.CorruptError("quick_check: " + "; ".join(findings))


def _require_migrated(connection: apsw.Connection, components: Sequence[Component]) -> None:
    """Refuse to read a database that is not exactly what this programme knows."""
    missing = pending(known_migrations(components, "sqlite"), _applied(connection))
    if missing:
        raise Broken(
            f"the database lacks the migration {missing[0]}",
            code="store-older",
            hint="start the service once: the writer migrates",
        )


def _migrate(connection: apsw.Connection, components: Sequence[Component]) -> None:
    """Bring the database to what this programme knows, each migration in one transaction."""
    missing = pending(known_migrations(components, "sqlite"), _applied(connection))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migration (component TEXT NOT NULL, number INTEGER NOT NULL,"
        " name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL,"
        " PRIMARY KEY (component, number)) STRICT"
    )
    for step in missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for _ in connection.execute(step.sql):
                pass
            connection.execute(
                "INSERT INTO schema_migration VALUES (?, ?, ?, ?, ?)",
                (step.component, step.number, step.name, step.sha256, to_ms(SystemClock().now())),
            )
            connection.execute("COMMIT")
        except (apsw.SQLError, apsw.ConstraintError) as error:
            raise Broken(
                f"the migration {step} failed and was undone: {error}",
                code="store-migration",
                hint="go back to the version that was running; report this",
            ) from error
        finally:
            _roll_back(connection)


def _applied(connection: apsw.Connection) -> list[Applied]:
    table = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migration'")
    if next(table, None) is None:
        return []
    rows = connection.execute("SELECT component, number, name, sha256 FROM schema_migration ORDER BY rowid")
    return [Applied(component=c, number=n, name=name, sha256=sha) for c, n, name, sha in rows]
