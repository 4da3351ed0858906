"""A consistent copy of a SQLite database that is in use, and the check of one (SQLite Online Backup API, apsw).

Invariants:

* the copy holds one moment: what is committed while it is made is in it whole or not at all;
* the source is opened to read, also beside the writer of another process, and never changed;
* a copy counts once ``integrity_check`` and ``foreign_key_check`` found nothing and it is on stable storage.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from security.errors import Broken

_PAGES_AT_ONCE = 2_000


def copy(source: Path, target: Path) -> None:
    """Copy the database ``source`` to the new private file ``target``, as one file without journal.

    Raises:
        Broken: ``store-copy`` it cannot be read or written; nothing is left of the target.
    """
    made = False
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        made = True
        _copy(source, target)
        _sync(target)
    except (apsw.Error, OSError) as error:
        if made:
            target.unlink(missing_ok=True)
        raise Broken(
            f"{source} could not be copied to {target}: {error}",
            code="store-copy",
            hint="make room on that file system, or choose another folder; then run it again",
        ) from error


def _copy(source: Path, target: Path) -> None:
    read, write = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY), apsw.Connection(str(target))
    try:
        read.set_busy_timeout(30_000)
        read.execute("BEGIN")  # one moment, however long the copying takes: a WAL reader never stops the writer
        read.execute("SELECT COUNT(*) FROM sqlite_schema").fetchall()
        with write.backup("main", read, "main") as backup:
            while not backup.done:
                backup.step(_PAGES_AT_ONCE)
        write.pragma("journal_mode", "delete")
    finally:
        write.close()
        read.close()


def verify(database: Path) -> None:
    """Check a copy as a whole.

    Raises:
        Broken: ``store-damaged``.
    """
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        findings = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
        findings = [] if findings == ["ok"] else findings
        findings += [f"foreign key of {row[0]}" for row in connection.execute("PRAGMA foreign_key_check")][:5]
    except apsw.Error as error:
        findings = [str(error)]
    finally:
        connection.close()
    if findings:
        raise Broken(
            f"{database} is damaged: {'; '.join(findings)}",
            code="store-damaged",
            hint="use an older backup, and look at the disk",
        )


def newest_audit_no(database: Path) -> int:
    """The number of the newest audit record in a copy, 0 when there is none."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM audit_record").fetchall()
        return int(str(rows[0][0]))
    finally:
        connection.close()


def _sync(path: Path) -> None:
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
