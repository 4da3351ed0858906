"""Rotating and destroying the keys of what is sealed: on real stores, in a real gateway, killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.sealing import Sealing
from security import rotation
from security.audit.heads import Sealer
from security.clock import SystemClock
from security.errors import Broken, Refused
from security.seal import Vault
from security.secrets import create_kek, previous_kek_file, read_kek, read_previous_kek
from security.store.port import GROUND, Store, Tx
from security.store.sqlite import SqliteStore

TENANTS = ("chu-nord", "clinique-sud")
ACTOR = {"actor": "operator:demo (command line)"}


@asynccontextmanager
async def _store(folder: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(folder / "store.sqlite", [GROUND])
    try:
        yield store
    finally:
        await store.close()


def _silent(_tx: Tx, _many: int) -> None:
    pass


async def _filled(folder: Path) -> bytes:
    """A database with keys of two tenants and of the audit trail; something sealed in it."""
    create_kek(folder / "kek")
    async with _store(folder) as store:
        vault = await Vault.load(store, read_kek(folder / "kek"), TENANTS, SystemClock())
        await _desk(store, vault, folder).by_name()["keys-renew"]({**ACTOR, "tenant": "chu-nord"}, print)
        await Sealer(store, kek=read_kek(folder / "kek"), every=timedelta(0)).step(SystemClock().now())
        return vault.seal("chu-nord", "report.content/1", b"ELODIE")


def _desk(store: Store, vault: Vault, folder: Path, *, in_use: tuple[str, ...] = ()) -> Sealing:
    return Sealing(
        store=store, vault=vault, kek_file=folder / "kek", clock=SystemClock(), in_use=in_use, adopt=lambda _kek: None
    )


async def _events(store: Store) -> list[tuple[str, str, str]]:
    rows = await store.read(lambda tx: tx.rows("SELECT event, object_id, detail FROM audit_record ORDER BY seq"))
    return [(row["event"], row["object_id"], row["detail"]) for row in rows]


async def test_after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing(tmp_path: Path) -> None:
    sealed, old = await _filled(tmp_path), read_kek(tmp_path / "kek")
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, old, TENANTS, SystemClock())
        orders = _desk(store, vault, tmp_path).by_name()
        assert await orders["keys-rotate"](ACTOR, print) == {
            "wrapped": 6
        }  # 2 x (seal, blind), one renewed, one of the trail
        new = read_kek(tmp_path / "kek")
        assert new != old
        assert vault.open("chu-nord", "report.content/1", sealed) == b"ELODIE"
        again = await Vault.load(store, new, TENANTS, SystemClock())
        assert again.open("chu-nord", "report.content/1", sealed) == b"ELODIE"
        with pytest.raises(Broken) as caught:
            await Vault.load(store, old, TENANTS, SystemClock())
        assert caught.value.code == "seal-wrong-kek"
        await Sealer(store, kek=new).step(SystemClock().now(), at_once=True)  # the trail's own key opens too
        shown = await orders["keys-show"]({}, print)
        assert (shown["current"], shown["previous"], shown["has_previous"]) == (6, 0, True)
        assert ("kek.rotated", "key-encryption key", "6 keys") in await _events(store)


async def test_the_old_key_is_kept_read_only_and_goes_only_when_nothing_needs_it(tmp_path: Path) -> None:
    await _filled(tmp_path)
    old = read_kek(tmp_path / "kek")
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, old, TENANTS, SystemClock())
        orders = _desk(store, vault, tmp_path).by_name()
        assert rotation.begin(tmp_path / "kek")
        assert read_previous_kek(tmp_path / "kek") == old
        assert previous_kek_file(tmp_path / "kek").stat().st_mode & 0o777 == 0o400
        with pytest.raises(Refused) as caught:
            await orders["keys-forget"](ACTOR, print)
        assert caught.value.code == "kek-in-use"
        assert await orders["keys-rotate"](ACTOR, print) == {"wrapped": 6}  # goes on, makes no third key
        with pytest.raises(Refused) as caught:
            await orders["keys-rotate"](ACTOR, print)
        assert caught.value.code == "kek-previous-kept"
        await orders["keys-forget"](ACTOR, print)
        assert not previous_kek_file(tmp_path / "kek").exists()
        assert [event for event, _, _ in await _events(store)][-2:] == ["kek.rotated", "kek.previous-removed"]


async def test_a_key_that_neither_opens_stops_the_rotation_and_both_files_stay(tmp_path: Path) -> None:
    await _filled(tmp_path)
    old = read_kek(tmp_path / "kek")
    async with _store(tmp_path) as store:
        await store.write(lambda tx: tx.change("UPDATE data_key SET wrapped = :w WHERE key_id = 2", w=bytes(40)))
        assert rotation.begin(tmp_path / "kek")
        with pytest.raises(Broken) as caught:
            await rotation.finish(store, tmp_path / "kek", _silent)
        assert caught.value.code == "seal-wrong-kek"
        assert read_previous_kek(tmp_path / "kek") == old


async def test_the_trail_goes_on_under_the_new_key_without_a_restart(tmp_path: Path) -> None:
    await _filled(tmp_path)
    async with _store(tmp_path) as store:
        sealer = Sealer(store, kek=read_kek(tmp_path / "kek"))
        vault = await Vault.load(store, read_kek(tmp_path / "kek"), TENANTS, SystemClock())
        desk = Sealing(
            store=store, vault=vault, kek_file=tmp_path / "kek", clock=SystemClock(), in_use=(), adopt=sealer.adopt
        )
        await desk.by_name()["keys-rotate"](ACTOR, print)
        assert await sealer.step(SystemClock().now(), at_once=True)


_ROTATE = """
import asyncio, sys
from pathlib import Path
from gateway.sealing import Sealing
from security.clock import SystemClock
from security import rotation
from security.store.port import GROUND
from security.store.sqlite import SqliteStore
async def main(folder):
    store = await SqliteStore.open(folder / "store.sqlite", [GROUND])
    rotation.begin(folder / "kek")
    await rotation.finish(store, folder / "kek", lambda tx, many: None)
    await store.close()
rotation.BATCH = 2
asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    "where", ["kek-kept", "kek-replaced", "store-before-commit", "kek-rewrapped", "kek-rewrapped#2"]
)
async def test_t65_a_rotation_killed_anywhere_goes_on_and_loses_no_key(tmp_path: Path, where: str) -> None:
    sealed = await _filled(tmp_path)
    env = os.environ | {"POTERNE_CRASH_AT": where}
    done = subprocess.run([sys.executable, "-c", _ROTATE, str(tmp_path)], env=env, check=False)
    assert done.returncode == -signal.SIGKILL
    async with _store(tmp_path) as store:
        file = tmp_path / "kek"
        between = await Vault.load(store, read_kek(file), TENANTS, SystemClock(), previous=read_previous_kek(file))
        assert between.open("chu-nord", "report.content/1", sealed) == b"ELODIE"
        rotation.begin(file)
        await rotation.finish(store, file, _silent)
        stands = await store.read(lambda tx: rotation.standing(tx, file))
        assert (stands.current, stands.previous) == (6, 0)
        after = await Vault.load(store, read_kek(file), TENANTS, SystemClock())
        assert after.open("chu-nord", "report.content/1", sealed) == b"ELODIE"


async def test_a_new_data_key_seals_and_the_old_one_still_opens(tmp_path: Path) -> None:
    sealed = await _filled(tmp_path)
    assert sealed[1:3] == (2).to_bytes(2, "big")
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, read_kek(tmp_path / "kek"), TENANTS, SystemClock())
        blind = vault.blind("chu-nord", "patient", "1")
        told = await _desk(store, vault, tmp_path).by_name()["keys-renew"]({**ACTOR, "tenant": "chu-nord"}, print)
        assert told == {"tenant": "chu-nord", "key": 3}
        assert vault.seal("chu-nord", "x", b"a")[1:3] == (3).to_bytes(2, "big")
        assert vault.seal("clinique-sud", "x", b"a")[1:3] == (1).to_bytes(2, "big")
        assert vault.open("chu-nord", "report.content/1", sealed) == b"ELODIE"
        assert vault.blind("chu-nord", "patient", "1") == blind
        assert ("data-key.renewed", "chu-nord", "") in await _events(store)


async def test_a_tenant_whose_keys_are_destroyed_opens_nowhere_and_the_others_do(tmp_path: Path) -> None:
    sealed = await _filled(tmp_path)
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, read_kek(tmp_path / "kek"), (), SystemClock())
        kept = vault.seal("clinique-sud", "x", b"kept")
        wrapped = await store.read(lambda tx: tx.rows("SELECT wrapped FROM data_key WHERE tenant = 'chu-nord'"))
        orders = _desk(store, vault, tmp_path, in_use=("clinique-sud",)).by_name()
        facts = {**ACTOR, "tenant": "chu-nord", "reason": "left the network on 2026-11-01"}
        assert await orders["keys-erase"](facts, print) == {"tenant": "chu-nord", "keys": 3}
        for again in (vault, await Vault.load(store, read_kek(tmp_path / "kek"), (), SystemClock())):
            with pytest.raises(Broken) as caught:
                again.open("chu-nord", "report.content/1", sealed)
            assert caught.value.code == "seal-no-key"
            assert again.open("clinique-sud", "x", kept) == b"kept"
        assert ("data-key.erased", "chu-nord", "left the network on 2026-11-01") in await _events(store)
    data = (tmp_path / "store.sqlite").read_bytes()
    assert all(row["wrapped"] not in data for row in wrapped)


async def test_the_keys_of_a_configured_tenant_are_not_destroyed(tmp_path: Path) -> None:
    sealed = await _filled(tmp_path)
    async with _store(tmp_path) as store:
        vault = await Vault.load(store, read_kek(tmp_path / "kek"), (), SystemClock())
        orders = _desk(store, vault, tmp_path, in_use=TENANTS).by_name()
        with pytest.raises(Refused) as caught:
            await orders["keys-erase"]({**ACTOR, "tenant": "chu-nord", "reason": "by mistake"}, print)
        assert caught.value.code == "tenant-configured"
        assert vault.open("chu-nord", "report.content/1", sealed) == b"ELODIE"
