"""A PostgreSQL server for tests: Debian's, in a folder of its own, on a Unix socket alone, with real fsync.

One server serves the session (of each xdist worker); a test gets a schema of its own, dropped at its end. A test
that kills or changes the server starts one for itself (``Server.start``).
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg
import pytest

from security.store.place import PostgresPlace

USER = "poterne"
DATABASE = "poterne"
_numbers = itertools.count(1)


def binaries() -> Path | None:
    """The newest server that is installed, None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def need_postgres() -> Path:
    """Skip without Debian's PostgreSQL, fail where CI must have it."""
    where = binaries()
    if where is None:
        reason = "no PostgreSQL server on this machine (apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return where


@dataclass
class Server:
    """One server process and its folder."""

    bin: Path
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    watch: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, **settings: str) -> Server:
        """A new, empty server; whoever starts it stops it. A server refuses to run as root, so root lends it a user."""
        server = cls(need_postgres(), Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), dict(settings))
        try:
            if os.geteuid() == 0:
                user = pwd.getpwnam("postgres")
                os.chown(server.folder, user.pw_uid, user.pw_gid)
            command = [server.bin / "initdb", "-D", server.folder / "data", "-U", USER, "-A", "trust", "--no-sync"]
            subprocess.run(
                [*command, "--encoding=UTF8", "--locale=C"], check=True, capture_output=True, **server._as_user()
            )
            server.up()
            with server.connect("postgres") as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            server.remove()
            raise
        return server

    def up(self) -> None:
        """Start the process and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "32MB",
            "max_connections": "60",
            "fsync": "on",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        deadline = time.monotonic() + 30
        while True:
            with open(self.folder / "server.log", "ab") as log:
                self.process = subprocess.Popen(
                    [self.bin / "postgres", "-D", self.folder / "data", *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **self._as_user(),
                )
            while self.process.poll() is None:  # a predecessor that was killed may still hold its shared memory
                try:
                    self.connect("postgres").close()
                except psycopg.OperationalError:
                    assert time.monotonic() < deadline, self.log()
                    time.sleep(0.02)
                else:
                    self._watch(self.process.pid)
                    return
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL every process of the server: what a power cut leaves to a disk that keeps its word."""
        assert self.process is not None
        self._unwatch()
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for one in family:
            if one.is_running():
                one.kill()
        self.process.wait()

    def down(self) -> None:
        """Stop at once, the clean way for the files; sessions are cut."""
        self._unwatch()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def remove(self) -> None:
        """Stop and leave nothing behind."""
        self.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        """A superuser's session."""
        port = int(self.settings.get("port", 5432))
        return psycopg.connect(host=str(self.folder), port=port, dbname=database, user=USER, autocommit=True)

    def place(self, schema: str) -> PostgresPlace:
        return PostgresPlace(host=str(self.folder), database=DATABASE, user=USER, schema=schema)

    def cut(self, place: PostgresPlace) -> int:
        """End every session of Poterne on the schema's database that is not ours; how many."""
        with self.connect(place.database) as connection:
            return len(
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'poterne %'"
                ).fetchall()
            )

    def _watch(self, pid: int) -> None:
        """Whatever ends this process, even SIGKILL, closes a pipe, and with it the server."""
        script = 'read -r _; kill -QUIT "$0"; sleep 1; rm -rf "$1"'
        self.watch = subprocess.Popen(["sh", "-c", script, str(pid), str(self.folder)], stdin=subprocess.PIPE)

    def _unwatch(self) -> None:
        if self.watch is not None:
            self.watch.kill()
            self.watch.communicate()
            self.watch = None

    def _as_user(self) -> dict[str, object]:
        if os.geteuid() != 0:
            return {"cwd": self.folder}
        user = pwd.getpwnam("postgres")
        return {"cwd": self.folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The session's server."""
    server = Server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres_place(postgres_server: Server) -> Iterator[PostgresPlace]:
    """A schema of the test's own, not there yet; what it becomes is dropped at the end."""
    place = postgres_server.place(f"test_{next(_numbers)}")
    yield place
    with postgres_server.connect() as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {place.schema} CASCADE")


def other_schema(place: PostgresPlace, name: str) -> PostgresPlace:
    """Another schema of the same server, for whoever needs two databases; dropped with the server."""
    return replace(place, schema=f"{place.schema}_{name}")
