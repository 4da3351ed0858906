"""What the SQLite store demands before it works: library, place, settings, migrations (F21, F26, FF-26)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from security.errors import Broken
from security.store import place, sqlite
from security.store.port import GROUND, Component
from security.store.sqlite import SqliteStore
from tests.contract.store_parts import NOTES

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /srv rw,relatime shared:20 - xfs /dev/vdb rw
41 40 0:36 / /srv/nas\\040share rw,relatime - nfs4 nas:/export rw,vers=4.2
42 40 0:37 / /srv/win rw - cifs //nas/share rw
43 40 0:38 / /srv/over rw - ext4 /dev/vdc rw
44 43 0:39 / /srv/over rw - fuse.sshfs host:/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/poterne", "ext4"),
        ("/srv/data", "xfs"),
        ("/srvdata", "ext4"),
        ("/srv/nas share", "nfs4"),
        ("/srv/nas share/db", "nfs4"),
        ("/srv/win/db", "cifs"),
        ("/srv/over/db", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_its_innermost_mount(path: str, kind: str) -> None:
    assert place.file_system(Path(path), MOUNTINFO) == kind


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "smb3", "9p", "fuse.sshfs"])
async def test_ff26_a_database_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:40 / {tmp_path.resolve()} rw - {kind} nas:/x rw\n")
    monkeypatch.setattr(place, "MOUNTS", mounts)
    with pytest.raises(Broken, match=kind) as caught:
        await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
    assert caught.value.code == "store-place"
    assert not (tmp_path / "store.sqlite").exists()


@pytest.mark.parametrize(
    ("version", "refused"), [("3.40.1", True), ("3.51.2", True), ("3.51.3", False), ("3.54.1", False)]
)
async def test_a_library_that_can_corrupt_a_wal_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, refused: bool
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    if refused:
        with pytest.raises(Broken) as caught:
            await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
        assert caught.value.code == "store-library"
    else:
        await (await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])).close()


async def test_a_new_database_is_private(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
    modes = {file.name: stat.filemode(file.stat().st_mode) for file in tmp_path.iterdir()}
    await store.close()
    assert set(modes) >= {"store.sqlite", "store.sqlite-wal", "store.sqlite.lock"}
    assert set(modes.values()) == {"-rw-------"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
async def test_a_database_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "store.sqlite"
    await (await SqliteStore.open(path, [GROUND])).close()
    path.chmod(mode)
    with pytest.raises(Broken) as caught:
        await SqliteStore.open(path, [GROUND])
    assert caught.value.code == "store-place"


async def test_a_database_behind_a_link_is_refused(tmp_path: Path) -> None:
    await (await SqliteStore.open(tmp_path / "real.sqlite", [GROUND])).close()
    (tmp_path / "store.sqlite").symlink_to(tmp_path / "real.sqlite")
    with pytest.raises(Broken, match="not a regular file"):
        await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="does not exist") as caught:
        await SqliteStore.open(tmp_path / "nowhere" / "store.sqlite", [GROUND])
    assert caught.value.hint.startswith("create it")


async def test_a_reader_does_not_create_a_database(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="there is no database"):
        await SqliteStore.open(tmp_path / "store.sqlite", [GROUND], read_only=True)
    assert list(tmp_path.iterdir()) == []


async def test_a_failed_opening_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database, and long enough to be looked at" * 20)
    path.chmod(0o600)
    for _ in range(2):
        with pytest.raises(Broken) as caught:
            await SqliteStore.open(path, [GROUND])
        assert caught.value.code == "store-damaged"


async def test_synchronous_is_really_full_and_the_log_is_a_wal(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    store = await SqliteStore.open(path, [GROUND])

    def settings(tx: object) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "busy_timeout", "wal_autocheckpoint")
        return {name: tx.rows(f"PRAGMA {name}")[0] for name in names}  # type: ignore[attr-defined]

    assert await store.write(settings) == {
        "journal_mode": {"journal_mode": "wal"},
        "synchronous": {"synchronous": 2},
        "foreign_keys": {"foreign_keys": 1},
        "mmap_size": {"mmap_size": 0},
        "busy_timeout": {"timeout": 5000},
        "wal_autocheckpoint": {"wal_autocheckpoint": 0},
    }
    await store.close()


async def test_a_setting_that_the_engine_does_not_take_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", -1)  # SQLite makes 0 of it
    with pytest.raises(Broken, match="did not take busy_timeout") as caught:
        await SqliteStore.open(tmp_path / "store.sqlite", [GROUND])
    assert caught.value.code == "store-settings"


# -- migrations --------------------------------------------------------------------------------------------


Release = Callable[[str, dict[str, str]], Component]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Writes a package with migrations, as one release of a component would bring it."""
    monkeypatch.syspath_prepend(tmp_path / "packages")

    def write(package: str, files: dict[str, str]) -> Component:
        folder = tmp_path / "packages" / package / "migrations" / "sqlite"
        folder.mkdir(parents=True)
        (tmp_path / "packages" / package / "__init__.py").touch()
        for name, text in files.items():
            (folder / name).write_text(text)
        return Component(name="parts", package=package)

    return write


FIRST = "CREATE TABLE part (number INTEGER PRIMARY KEY, tenant TEXT NOT NULL) STRICT;"
SECOND = "ALTER TABLE part ADD COLUMN colour TEXT; UPDATE part SET colour = 'grey'; SELECT * FROM part;"


async def test_f21_a_newer_release_migrates_what_an_older_one_wrote(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "store.sqlite"
    old = release("poterne_test_r1", {"0001_part.sql": FIRST})
    new = release("poterne_test_r2", {"0001_part.sql": FIRST, "0002_colour.sql": SECOND})
    store = await SqliteStore.open(path, [GROUND, old])
    await store.write(lambda tx: tx.change("INSERT INTO part VALUES (1, 't')"))
    await store.close()
    store = await SqliteStore.open(path, [GROUND, new])
    assert await store.read(lambda tx: tx.rows("SELECT * FROM part")) == [
        {"number": 1, "tenant": "t", "colour": "grey"}
    ]
    recorded = await store.read(
        lambda tx: tx.rows("SELECT number, name FROM schema_migration WHERE component = 'parts' ORDER BY number")
    )
    assert recorded == [{"number": 1, "name": "part"}, {"number": 2, "name": "colour"}]
    await store.close()


async def test_f21_an_older_release_refuses_a_database_of_a_newer_one(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "store.sqlite"
    new = release("poterne_test_n2", {"0001_part.sql": FIRST, "0002_colour.sql": SECOND})
    old = release("poterne_test_n1", {"0001_part.sql": FIRST})
    await (await SqliteStore.open(path, [GROUND, new])).close()
    for read_only in (False, True):
        with pytest.raises(Broken, match="parts/0002_colour") as caught:
            await SqliteStore.open(path, [GROUND, old], read_only=read_only)
        assert caught.value.code == "store-newer"


async def test_f21_a_migration_that_was_edited_is_refused(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "store.sqlite"
    await (await SqliteStore.open(path, [GROUND, release("poterne_test_e1", {"0001_part.sql": FIRST})])).close()
    edited = release("poterne_test_e2", {"0001_part.sql": FIRST + " "})
    with pytest.raises(Broken, match="parts/0001_part") as caught:
        await SqliteStore.open(path, [GROUND, edited])
    assert caught.value.code == "store-edited"


async def test_f21_a_reader_refuses_a_database_that_still_has_to_migrate(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "store.sqlite"
    await (await SqliteStore.open(path, [GROUND])).close()
    parts = release("poterne_test_o1", {"0001_part.sql": FIRST})
    with pytest.raises(Broken, match="lacks the migration parts/0001_part") as caught:
        await SqliteStore.open(path, [GROUND, parts], read_only=True)
    assert caught.value.code == "store-older"


async def test_f21_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "store.sqlite"
    broken = release(
        "poterne_test_b1", {"0001_part.sql": FIRST, "0002_bad.sql": "CREATE TABLE half (a INTEGER); NONSENSE;"}
    )
    with pytest.raises(Broken, match="parts/0002_bad") as caught:
        await SqliteStore.open(path, [GROUND, broken])
    assert caught.value.code == "store-migration"
    store = await SqliteStore.open(path, [GROUND, release("poterne_test_b2", {"0001_part.sql": FIRST})])
    tables = await store.read(lambda tx: tx.rows("SELECT name FROM sqlite_schema WHERE name = 'half'"))
    assert tables == []
    await store.close()


@pytest.mark.parametrize(
    "names", [["0002_part.sql"], ["0001_part.sql", "0003_more.sql"], ["part.sql"], ["0001_a.sql", "0001_b.sql"]]
)
async def test_f21_numbers_that_are_missing_or_double_are_refused(
    tmp_path: Path, release: Release, names: list[str]
) -> None:
    package = "poterne_test_g_" + "_".join(name.removesuffix(".sql") for name in names)
    parts = release(package, dict.fromkeys(names, "SELECT 1;"))
    with pytest.raises(Broken) as caught:
        await SqliteStore.open(tmp_path / "store.sqlite", [GROUND, parts])
    assert caught.value.code == "store-migrations"


async def test_every_table_of_the_ground_is_strict_and_names_its_tenant(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND, NOTES])
    tables = await store.read(
        lambda tx: tx.rows("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    )
    await store.close()
    assert {"data_key", "audit_record"} <= {table["name"] for table in tables}
    assert [table["name"] for table in tables if "STRICT" not in table["sql"]] == []
    without = [table["name"] for table in tables if "tenant" not in table["sql"]]
    assert without == ["schema_migration", "audit_key", "audit_head", "value"]  # one trail for the installation


def test_the_lock_file_names_its_holder(tmp_path: Path) -> None:
    fd = place.take_lock(tmp_path / "store.sqlite")
    assert (tmp_path / "store.sqlite.lock").read_text() == f"{os.getpid()}\n"
    os.close(fd)
