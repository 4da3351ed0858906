"""Opening a PostgreSQL store: what a server must offer, how it is reached, one writer, migrations."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.settings import StoreSettings
from gateway.settings.models import PostgresSettings
from gateway.stores import store_place
from security.errors import Broken, Unavailable
from security.keys.lab_pki import CLIENT_AUTH, SERVER_AUTH, LabAuthority
from security.store import postgres
from security.store.opening import open_store
from security.store.place import PostgresPlace
from security.store.port import GROUND, Component, Store
from security.store.postgres import PostgresStore
from tests.contract.store_parts import NOTES, add_note
from tests.support.postgres import DATABASE, USER, Server

pytestmark = pytest.mark.postgres

PARTS = [GROUND, NOTES]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server whose settings the tests change."""
    server = Server.start()
    yield server
    server.remove()


@pytest.fixture
def restarted(own_server: Server) -> Iterator[Callable[..., PostgresPlace]]:
    """Start the own server with these settings; afterwards with none."""

    def restart(**settings: str) -> PostgresPlace:
        own_server.down()
        own_server.settings = settings
        own_server.up()
        return own_server.place("poterne")

    yield restart
    own_server.down()
    (own_server.folder / "data" / "standby.signal").unlink(missing_ok=True)
    own_server.settings = {}
    own_server.up()


async def _refused(place: PostgresPlace, *, read_only: bool = False) -> Broken | Unavailable:
    with pytest.raises((Broken, Unavailable)) as caught:
        await (await open_store(place, PARTS, read_only=read_only)).close()
    return caught.value


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
async def test_f02_a_server_that_could_lose_what_it_acknowledged_is_refused(
    restarted: Callable[..., PostgresPlace], setting: str
) -> None:
    fault = await _refused(restarted(**{setting: "off"}))
    assert (type(fault), fault.code) == (Broken, "store-settings")
    assert f"{setting} = off" in str(fault)


@pytest.mark.parametrize(("default", "ours"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
async def test_f02_a_commit_waits_for_the_disk_whatever_the_servers_default(
    restarted: Callable[..., PostgresPlace], default: str, ours: str
) -> None:
    store = await open_store(restarted(synchronous_commit=default), PARTS)
    seen = await store.write(lambda tx: tx.row("SELECT current_setting('synchronous_commit') AS it"))
    assert seen == {"it": ours}
    await store.close()


async def test_a_standby_is_not_written_to(own_server: Server, restarted: Callable[..., PostgresPlace]) -> None:
    own_server.down()
    (own_server.folder / "data" / "standby.signal").touch()
    fault = await _refused(restarted(hot_standby="on"))
    assert (type(fault), fault.code) == (Unavailable, "store-standby")


@pytest.mark.parametrize(
    ("options", "said"),
    [("ENCODING LATIN1 LOCALE 'C'", "server_encoding"), ("LOCALE_PROVIDER icu ICU_LOCALE 'fr'", "collation")],
)
async def test_a_database_that_sorts_or_stores_text_in_another_way_is_refused(
    postgres_server: Server, options: str, said: str
) -> None:
    with postgres_server.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS other")
        connection.execute(f"CREATE DATABASE other TEMPLATE template0 {options}")
    fault = await _refused(replace(postgres_server.place("poterne"), database="other"))
    assert (type(fault), fault.code) == (Broken, "store-settings")
    assert said in str(fault)


async def test_an_older_server_is_refused(postgres_place: PostgresPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "SERVER_MIN", 99)
    assert (await _refused(postgres_place)).code == "store-library"


# ── the way there ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrong_password_is_told_apart_and_never_repeated(postgres_server: Server) -> None:
    hba = postgres_server.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'right-one'")
        hba.write_text("local all guest scram-sha-256\n" + before)
        connection.execute("SELECT pg_reload_conf()")
    place = replace(postgres_server.place("guest"), user="guest", password="wrong-one")
    fault = await _refused(place)
    hba.write_text(before)
    assert (type(fault), fault.code) == (Broken, "store-credentials")
    assert "wrong-one" not in f"{fault} {place} {place!r}"


async def test_a_server_that_is_not_there_is_unavailable_and_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fault = await _refused(PostgresPlace(host="127.0.0.1", port=port, database="d", user="u"))
    assert (type(fault), fault.code) == (Unavailable, "store-unreachable")
    assert f"127.0.0.1:{port}/d.poterne" in str(fault)


async def test_a_user_without_the_right_to_make_the_schema_is_told_so(postgres_server: Server) -> None:
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
    fault = await _refused(replace(postgres_server.place("theirs"), user="stranger"))
    assert (type(fault), fault.code) == (Broken, "store-place")
    assert "permission denied" in str(fault)


@pytest.mark.parametrize("host", ["db.example", "192.0.2.7", "localhost.example", "2001:db8::7"])
def test_another_machine_is_not_reached_without_tls(host: str) -> None:
    with pytest.raises(Broken, match="TLS only") as caught:
        PostgresPlace(host=host, database="poterne", user="poterne")
    assert caught.value.code == "store-place"


@pytest.mark.parametrize("schema", ["", "a;drop", "Upper", "a" * 64, 'q"'])
def test_a_schema_with_a_strange_name_is_refused(schema: str) -> None:
    with pytest.raises(Broken, match="no name for a schema"):
        PostgresPlace(host="/run", database="poterne", user="poterne", schema=schema)


async def test_the_servers_certificate_and_name_are_verified(
    tmp_path: Path, restarted: Callable[..., PostgresPlace], own_server: Server
) -> None:
    now = datetime.now(UTC)
    today = {"not_before": now - timedelta(hours=1), "not_after": now + timedelta(days=1)}
    ours, others = (LabAuthority.create(tmp_path / name, now=now) for name in ("ours", "others"))
    pair = ours.issue("localhost", **today, hosts=("localhost",), purposes=(SERVER_AUTH,))
    client = ours.issue("poterne", **today, purposes=(CLIENT_AUTH,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = {}
    for name, source in {
        "ssl_cert_file": pair.certificate,
        "ssl_key_file": pair.key,
        "ssl_ca_file": ours.certificate,
    }.items():
        files[name] = shutil.copy(source, own_server.folder / f"{name}.pem")
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(files[name], user.pw_uid, user.pw_gid)
    hba = own_server.folder / "data" / "pg_hba.conf"
    hba.write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")
    restarted(listen_addresses="127.0.0.1", port=str(port), ssl="on", **files)
    place = PostgresPlace(
        host="localhost", port=port, database=DATABASE, user=USER, ca_file=ours.certificate,
        certificate_file=client.certificate, key_file=client.key,
    )  # fmt: skip

    store = await open_store(place, PARTS)
    tls = await store.write(lambda tx: tx.row("SELECT ssl AS it FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    await store.close()
    assert tls == {"it": 1}
    fault = await _refused(replace(place, ca_file=others.certificate))
    assert (fault.code, "certificate verify failed" in str(fault)) == ("store-credentials", True)
    fault = await _refused(replace(place, host="127.0.0.1"))
    assert "does not match host name" in str(fault)
    ours.revoke([], now=now, days=30)
    store = await open_store(replace(place, crl_file=ours.revocations), PARTS)
    await store.close()
    ours.revoke([x509.load_pem_x509_certificate(pair.certificate.read_bytes())], now=now, days=30)
    fault = await _refused(replace(place, crl_file=ours.revocations))
    assert (fault.code, "certificate verify failed" in str(fault)) == ("store-credentials", True)


def test_settings_lead_to_the_place_with_the_password_from_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("s3cret\n")
    server = PostgresSettings(host="/run/postgresql", database="p", user="u", password_file=secret)
    place = store_place(StoreSettings.model_construct(path=None, postgres=server, kek_file=secret))
    assert isinstance(place, PostgresPlace)
    assert (place.host, place.port, place.password) == ("/run/postgresql", 5432, "s3cret")
    assert "s3cret" not in repr(place)
    file = StoreSettings.model_construct(path=tmp_path / "a.db", postgres=None, kek_file=secret)
    assert store_place(file) == tmp_path / "a.db"


# ── one writer, migrations ───────────────────────────────────────────────────────────────────────────────────


async def test_f26_the_refusal_names_who_writes(postgres_place: PostgresPlace, postgres_server: Server) -> None:
    first = await open_store(postgres_place, PARTS)
    with postgres_server.connect() as connection:
        (session,) = connection.execute(
            "SELECT l.pid FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid"
            " WHERE l.locktype = 'advisory' AND a.application_name LIKE %s",
            [f"poterne % {os.getpid()} {socket.gethostname()}"[:63]],
        ).fetchall()
    fault = await _refused(postgres_place)
    assert fault.code == "store-locked"
    assert f"server process {session[0]}, since 20" in str(fault)
    await first.close()


async def test_two_schemas_of_one_database_have_a_writer_each(
    postgres_place: PostgresPlace, postgres_server: Server
) -> None:
    other = replace(postgres_place, schema=f"{postgres_place.schema}_b")
    stores = [await open_store(place, PARTS) for place in (postgres_place, other)]
    for number, store in enumerate(stores):
        await store.write(lambda tx, n=number: add_note(tx, n))
        assert await store.read(lambda tx: [r["number"] for r in tx.rows("SELECT number FROM note")]) == [number]
        await store.close()
    with postgres_server.connect() as connection:
        connection.execute(f"DROP SCHEMA {other.schema} CASCADE")


Release = Callable[[str, dict[str, str]], Component]


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """Writes a package with migrations, as one release of a component would bring it."""
    monkeypatch.syspath_prepend(tmp_path / "packages")

    def write(package: str, files: dict[str, str]) -> Component:
        folder = tmp_path / "packages" / package / "migrations" / "postgres"
        folder.mkdir(parents=True)
        (tmp_path / "packages" / package / "__init__.py").touch()
        for name, text in files.items():
            (folder / name).write_text(text)
        return Component(name="parts", package=package)

    return write


FIRST = "CREATE TABLE part (number BIGINT PRIMARY KEY, tenant TEXT NOT NULL);"
SECOND = "ALTER TABLE part ADD COLUMN colour TEXT; UPDATE part SET colour = 'grey'; SELECT * FROM part;"


async def _opened(place: PostgresPlace, component: Component) -> Store:
    return await PostgresStore.open(place, [GROUND, component])


async def test_f21_a_newer_release_migrates_what_an_older_one_wrote(
    postgres_place: PostgresPlace, release: Release
) -> None:
    store = await _opened(postgres_place, release("poterne_pg_r1", {"0001_part.sql": FIRST}))
    await store.write(lambda tx: tx.change("INSERT INTO part VALUES (1, 't')"))
    await store.close()
    new = release("poterne_pg_r2", {"0001_part.sql": FIRST, "0002_colour.sql": SECOND})
    with pytest.raises(Broken) as caught:
        await PostgresStore.open(postgres_place, [GROUND, new], read_only=True)
    assert caught.value.code == "store-older"
    store = await _opened(postgres_place, new)
    assert await store.read(lambda tx: tx.rows("SELECT * FROM part")) == [
        {"number": 1, "tenant": "t", "colour": "grey"}
    ]
    await store.close()


async def test_f21_a_database_of_a_newer_or_another_release_is_refused(
    postgres_place: PostgresPlace, release: Release
) -> None:
    new = release("poterne_pg_n2", {"0001_part.sql": FIRST, "0002_colour.sql": SECOND})
    await (await _opened(postgres_place, new)).close()
    old = release("poterne_pg_n1", {"0001_part.sql": FIRST})
    edited = release("poterne_pg_n3", {"0001_part.sql": FIRST + "-- edited", "0002_colour.sql": SECOND})
    for component, code in ((old, "store-newer"), (edited, "store-edited")):
        with pytest.raises(Broken) as caught:
            await _opened(postgres_place, component)
        assert caught.value.code == code
    await (await _opened(postgres_place, new)).close()


async def test_f21_a_migration_that_fails_leaves_the_database_as_it_was(
    postgres_place: PostgresPlace, release: Release
) -> None:
    broken = release(
        "poterne_pg_b1", {"0001_part.sql": FIRST, "0002_colour.sql": SECOND + "INSERT INTO nowhere VALUES (1);"}
    )
    with pytest.raises(Broken) as caught:
        await _opened(postgres_place, broken)
    assert caught.value.code == "store-migration"
    assert "parts/0002_colour" in str(caught.value)
    store = await _opened(postgres_place, release("poterne_pg_b2", {"0001_part.sql": FIRST}))
    assert await store.read(lambda tx: tx.rows("SELECT * FROM part")) == []
    await store.close()


async def test_a_reader_of_a_schema_that_is_not_there_makes_none(
    postgres_place: PostgresPlace, postgres_server: Server
) -> None:
    assert (await _refused(postgres_place, read_only=True)).code == "store-older"
    with postgres_server.connect() as connection:
        sql = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
        assert connection.execute(sql, [postgres_place.schema]).fetchone() is None
