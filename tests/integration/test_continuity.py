"""Backup and restore of a gateway's database, and what is exposed between two backups."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.components import COMPONENTS
from gateway.continuity import archive, copies, drills
from gateway.continuity.commands import back_up, mark_restored, restore
from gateway.continuity.copies import Exposure, Standby, standby_lag
from gateway.settings import Settings, StoreSettings
from security import audit
from security.errors import BadInput, Broken, Refused
from security.secrets import create_kek, read_kek
from security.store.opening import open_store
from security.store.port import Store
from tests.contract.store_parts.engines import fresh

NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    create_kek(tmp_path / "kek")
    return Settings(store=StoreSettings(path=tmp_path / "gateway.db", kek_file=tmp_path / "kek"))


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    made = tmp_path / "poterne.toml"
    made.write_text('[log]\nlevel = "info"\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "site.toml").write_text("")
    return made


def opened(settings: Settings):
    assert settings.store
    assert settings.store.path
    return open_store(settings.store.path, COMPONENTS)


async def record(store: Store, number: int, *, at: datetime = NOW, tenant: str = "site") -> None:
    await store.write(
        lambda tx: audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone="ops",
                at=at,
                event="test",
                actor="test",
                outcome=0,
                object_type="study",
                object_id=str(number),
                detail="",
            ),
        )
    )


async def records(settings: Settings) -> list[str]:
    store = await opened(settings)
    try:
        return await store.read(
            lambda tx: [
                row["object_id"]
                for row in tx.rows("SELECT object_id FROM audit_record WHERE event = 'test' ORDER BY seq")
            ]
        )
    finally:
        await store.close()


async def made(settings: Settings, conf: Path, tmp_path: Path) -> Path:
    """A backup that holds record 1, of a database that holds 1 and 2."""
    store = await opened(settings)
    await record(store, 1)
    back_up(settings, conf, tmp_path / "backup.tar", with_key=False)  # beside the open writer
    await record(store, 2)
    await store.close()
    return tmp_path / "backup.tar"


def in_thread(work: Callable[[], object]):
    return asyncio.to_thread(work)


async def test_a_backup_made_beside_the_writer_brings_back_what_it_held_and_keeps_what_was_there(
    settings: Settings, conf: Path, tmp_path: Path
) -> None:
    file = await made(settings, conf, tmp_path)
    with pytest.raises(Refused, match="restore-occupied"):
        await in_thread(lambda: restore(settings, file, replace=False))
    done = await in_thread(lambda: restore(settings, file, replace=True))
    assert await records(settings) == ["1"]
    assert done.kept.exists()
    assert sorted(p.relative_to(done.configuration).as_posix() for p in done.configuration.rglob("*.toml")) == [
        "conf.d/site.toml",
        "poterne.toml",
    ]


async def test_a_restored_database_knows_that_the_index_may_know_more(
    settings: Settings, conf: Path, tmp_path: Path
) -> None:
    file = await made(settings, conf, tmp_path)
    await in_thread(lambda: restore(settings, file, replace=True))
    store = await opened(settings)
    assert len(await store.read(lambda tx: tx.rows("SELECT * FROM restored"))) == 1
    await store.close()


async def test_the_mark_alone_is_for_databases_restored_by_other_tools(settings: Settings) -> None:
    await (await opened(settings)).close()
    await mark_restored(settings)
    store = await opened(settings)
    assert len(await store.read(lambda tx: tx.rows("SELECT * FROM restored"))) == 1
    await store.close()


async def test_the_key_is_inside_only_when_it_is_asked_for(settings: Settings, conf: Path, tmp_path: Path) -> None:
    file = await made(settings, conf, tmp_path)
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["backup.json", "gateway.db", "poterne.toml", "conf.d/site.toml"]
    back_up(settings, conf, tmp_path / "with.tar", with_key=True)
    assert archive.read(tmp_path / "with.tar", kek=None).has_key
    kek = read_kek(tmp_path / "kek")
    assert kek not in file.read_bytes()


async def test_a_backup_is_private_and_never_overwritten(settings: Settings, conf: Path, tmp_path: Path) -> None:
    file = await made(settings, conf, tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    with pytest.raises(Refused, match="backup-exists"):
        back_up(settings, conf, file, with_key=False)
    assert file.read_bytes() == before


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
async def test_f12_a_backup_with_one_changed_byte_is_refused_and_nothing_is_touched(
    settings: Settings, conf: Path, tmp_path: Path, at: float
) -> None:
    file = await made(settings, conf, tmp_path)
    data = bytearray(file.read_bytes())
    with tarfile.open(file) as tar:
        member = tar.getmember("gateway.db")
    data[member.offset_data + int(at * member.size)] ^= 0x01
    (tmp_path / "changed.tar").write_bytes(data)
    with pytest.raises(BadInput, match="backup-damaged"):
        await in_thread(lambda: restore(settings, tmp_path / "changed.tar", replace=True))
    assert await records(settings) == ["1", "2"]


async def test_a_backup_that_was_cut_is_refused(settings: Settings, conf: Path, tmp_path: Path) -> None:
    file = await made(settings, conf, tmp_path)
    (tmp_path / "cut.tar").write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(BadInput, match="backup-damaged"):
        archive.read(tmp_path / "cut.tar", kek=read_kek(tmp_path / "kek"))


async def test_a_backup_without_a_listed_member_is_refused(settings: Settings, conf: Path, tmp_path: Path) -> None:
    file = await made(settings, conf, tmp_path)
    with tarfile.open(file) as whole, tarfile.open(tmp_path / "less.tar", "w") as less:
        for member in whole:
            if member.name != "poterne.toml":
                less.addfile(member, whole.extractfile(member))
    with pytest.raises(BadInput, match="backup-damaged"):
        archive.read(tmp_path / "less.tar", kek=read_kek(tmp_path / "kek"))


async def test_a_backup_of_another_key_is_refused(settings: Settings, conf: Path, tmp_path: Path) -> None:
    file = await made(settings, conf, tmp_path)
    with pytest.raises(BadInput, match="backup-key"):
        archive.read(file, kek=b"o" * 32)


def forged(tmp_path: Path, kek: bytes, name: str, *, kind: bytes = tarfile.REGTYPE) -> Path:
    """An archive with a further member, its head rewritten to list it under the right key."""
    file, data = tmp_path / "forged.tar", b"x"
    listed = {n: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": 1} for n in ("gateway.db", name)}
    head = {"form": archive.FORM, "made_at": "", "last_audit_no": 0, "members": listed}
    told = json.dumps({"head": head, "hmac": archive._mac(head, kek)}).encode()
    with tarfile.open(file, "w") as tar:
        for member, content in (("backup.json", told), ("gateway.db", data), (name, data)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            if member == name:
                info.type = kind
                info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return file


@pytest.mark.parametrize("name", ["../evil", "/evil", "conf.d/../../evil.toml", "conf.d/a/b.toml", "other"])
def test_t21_a_member_with_a_path_of_its_own_is_refused_and_written_nowhere(tmp_path: Path, name: str) -> None:
    into = tmp_path / "in" / "side"
    into.mkdir(parents=True)
    with pytest.raises(BadInput, match="backup-form"):
        archive.read(forged(tmp_path, bytes(range(32)), name), kek=bytes(range(32)), into=into)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["forged.tar", "in", "side"]


def test_t21_a_link_is_no_member(tmp_path: Path) -> None:
    into = tmp_path / "side"
    into.mkdir()
    file = forged(tmp_path, bytes(range(32)), "poterne.toml", kind=tarfile.SYMTYPE)
    with pytest.raises(BadInput, match="backup-damaged"):
        archive.read(file, kek=bytes(range(32)), into=into)
    assert not (into / "poterne.toml").is_symlink()


async def test_a_database_that_a_gateway_runs_on_is_not_replaced(
    settings: Settings, conf: Path, tmp_path: Path
) -> None:
    file = await made(settings, conf, tmp_path)
    store = await opened(settings)
    with pytest.raises(Broken, match="store-locked"):
        await in_thread(lambda: restore(settings, file, replace=True))
    await record(store, 3)
    await store.close()
    assert await records(settings) == ["1", "2", "3"]


# -- drills ------------------------------------------------------------------------------------------------------


async def test_a_drill_counts_the_audit_records_and_touches_nothing(
    settings: Settings, conf: Path, tmp_path: Path
) -> None:
    file = await made(settings, conf, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = await asyncio.to_thread(drills.rehearse, settings, file)
    assert (done.records, done.last_audit_no) == (2, 1)  # the record that it was restored is one of them
    assert sorted(tmp_path.rglob("*")) == before
    assert await records(settings) == ["1", "2"]


async def test_a_drill_of_a_copy_with_an_altered_audit_record_fails(
    settings: Settings, conf: Path, tmp_path: Path
) -> None:
    store = await opened(settings)
    await record(store, 1)
    await store.write(lambda tx: tx.change("UPDATE audit_record SET actor = 'somebody else'"))
    back_up(settings, conf, tmp_path / "backup.tar", with_key=False)
    await store.close()
    with pytest.raises(Broken, match="drill-audit"):
        await asyncio.to_thread(drills.rehearse, settings, tmp_path / "backup.tar")


async def test_what_a_drill_measured_is_kept_for_each_tenant_with_the_work_that_its_backup_lacked(
    settings: Settings,
) -> None:
    store = await opened(settings)
    await record(store, 1)
    await record(store, 2, at=NOW + timedelta(minutes=10))
    now = NOW + timedelta(minutes=15)
    for last_no, rto_s in ((0, 30.0), (1, 20.0)):
        await store.write(
            lambda tx, no=last_no, rto_s=rto_s: drills.keep(tx, DECLARED, rto_s=rto_s, last_audit_no=no, now=now)
        )
    (kept,) = (await store.read(drills.last)).values()
    assert (kept.tenant, kept.at, kept.rto_s, kept.rpo_s) == ("site", now, 20.0, 300.0)
    await store.close()


# -- exposure ----------------------------------------------------------------------------------------------------

DECLARED = {"site": (3600.0, 900.0)}


async def exposed(store: Store, now: datetime, *, is_postgres: bool = False) -> Exposure:
    found = await store.read(lambda tx: copies.exposures(tx, DECLARED, now=now, is_postgres=is_postgres))
    return found[0]


async def test_exposure_is_the_age_of_the_oldest_work_that_no_verified_copy_holds(settings: Settings) -> None:
    store = await opened(settings)
    assert (await exposed(store, NOW)).seconds == 0
    await record(store, 1)
    await record(store, 2, at=NOW + timedelta(minutes=10))
    assert (await exposed(store, NOW + timedelta(minutes=20))).seconds == 1200
    await store.write(lambda tx: copies.note(tx, now=NOW, last_audit_no=1, digest="d"))
    assert (await exposed(store, NOW + timedelta(minutes=20))).seconds == 600
    await store.write(lambda tx: copies.note(tx, now=NOW, last_audit_no=2, digest="e"))
    assert (await exposed(store, NOW + timedelta(days=9))).seconds == 0
    await store.write(lambda tx: copies.note(tx, now=NOW, last_audit_no=1, digest="d"))
    assert (await exposed(store, NOW + timedelta(days=9))).seconds == 0
    await store.close()


async def test_a_person_is_warned_at_half_of_the_rpo_and_again_at_the_whole_of_it(settings: Settings) -> None:
    store = await opened(settings)
    await record(store, 1)
    stages = [(await exposed(store, NOW + timedelta(seconds=s))).stage for s in (1799, 1800, 3599, 3600)]
    assert stages == [0, 1, 1, 2]
    await store.close()


def test_a_synchronous_standby_leaves_nothing_exposed_an_asynchronous_one_its_lag() -> None:
    assert standby_lag(()) is None
    assert standby_lag((Standby(sync_state="async", lag_s=4.5), Standby(sync_state="async", lag_s=2.0))) == 2.0
    assert standby_lag((Standby(sync_state="async", lag_s=None),)) == 0.0
    assert standby_lag((Standby(sync_state="async", lag_s=9.0), Standby(sync_state="sync", lag_s=1.0))) == 0.0


@pytest.mark.postgres
async def test_postgres_without_a_standby_is_exposed_like_a_file(request: pytest.FixtureRequest) -> None:
    engine = fresh("postgres", request)
    store = await open_store(engine.place, COMPONENTS)
    await record(store, 1)
    assert (await exposed(store, NOW + timedelta(seconds=30), is_postgres=True)).seconds == 30
    await store.close()
