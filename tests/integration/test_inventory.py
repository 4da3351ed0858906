"""What the gateway checks of its own with a reconciliation: received files against rows, the trail against its heads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import drift
from gateway.dimse import inbox
from gateway.dimse.storage import Checked
from gateway.i18n import words
from gateway.inventory import Inventory
from gateway.settings import AuditSettings
from gateway.trail import TrailKeeper
from security.clock import SystemClock
from security.store.port import Tx
from tests.integration.test_dimse_storage import named, send
from tests.support.dimse import TENANT, Door, data_set_of, door

T = TypeVar("T")
KEK = bytes(range(32))
RUN = {"state": "done", "counts": {"in-step": 0}}
"""What a reconciliation without a finding says."""


def nothing(files: int) -> Checked:
    return Checked(files=files, adopted=0, quarantined=0, put_aside=0, lost=())


def inventory(opened: Door, **audit: Any) -> Inventory:
    settings = AuditSettings(**audit)
    trail = TrailKeeper(opened.store, kek=KEK, settings=settings, clock=SystemClock())
    return Inventory(trail, {TENANT: opened.storage}, SystemClock())


async def facts(opened: Door, **audit: Any) -> dict[str, Any]:
    return {**RUN, **(await inventory(opened, **audit).take(TENANT)).facts()}


async def forget(opened: Door, sop: str) -> None:
    await opened.store.write(lambda tx: tx.change("DELETE FROM received_object WHERE sop_uid = :sop", sop=sop))


def file_of(folder: Path, row: Any) -> Path:
    return folder / "received" / row["file"]


async def test_files_and_rows_that_agree_and_a_trail_as_written_ask_for_nobody(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(1), named(2)]) == [0, 0]
        found = await facts(opened)
        assert found["received"] == {"files": 2, "adopted": 0, "quarantined": 0, "put_aside": 0, "lost": ()}
        assert not drift.needs_a_person(found)


async def test_a_file_without_its_row_is_given_one_by_a_running_door_and_the_second_check_changes_nothing(
    tmp_path: Path,
) -> None:
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(1), named(2)]) == [0, 0]
        await forget(opened, named(1)[1])
        found = await opened.storage.check()
        assert (found.files, found.adopted, found.changed, found.lost) == (2, 1, 1, ())
        again = next(row for row in await opened.rows() if row["sop_uid"] == named(1)[1])
        assert (again["keeping"], data_set_of(opened.bytes_of(again))) == ("stored", named(1)[2])
        assert await opened.storage.check() == nothing(2)


async def test_a_row_without_its_file_is_named_and_alarms_until_its_bytes_come_again(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(1), named(2)]) == [0, 0]
        first, _ = await opened.rows()
        file_of(tmp_path / "d", first).unlink()
        for _ in range(2):
            found = await facts(opened)
            assert [one["sop"] for one in found["received"]["lost"]] == [named(1)[1]]
            assert drift.needs_a_person(found)
            assert any(named(1)[1] in line for line in drift.own(found, words("fr")))
            assert await opened.store.read(lambda tx: inbox.lost(tx, TENANT)) == 1
        trail = await opened.store.read(
            lambda tx: tx.rows("SELECT object_id FROM audit_record WHERE event = 'dicom.lost'")
        )
        assert [row["object_id"] for row in trail] == [first["study_uid"]], "told once"
        (lying,) = await opened.store.read(lambda tx: inbox.lying(tx, TENANT, limit=5))
        assert (lying.number, lying.lost) == (2, 1)
        assert await send(opened, [named(1)]) == [0]
        assert await opened.store.read(lambda tx: inbox.lost(tx, TENANT)) == 0
        assert await opened.storage.check() == nothing(2)


async def test_a_file_under_another_objects_name_is_put_aside_and_speaks_for_nobody(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(1)]) == [0]
        (row,) = await opened.rows()
        stray = tmp_path / "d/received/00" / ("2" * 64 + "." + "3" * 64)
        stray.write_bytes(file_of(tmp_path / "d", row).read_bytes())
        found = await facts(opened)
        assert (found["received"]["adopted"], found["received"]["put_aside"]) == (0, 1)
        assert drift.needs_a_person(found)
        assert [(one["copies"], one["lost_at"]) for one in await opened.rows()] == [(1, None)]
        assert len(list((tmp_path / "d/received/unreadable").iterdir())) == 1
        assert await opened.storage.check() == nothing(1)


async def test_a_check_never_sees_an_object_between_its_file_and_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(tmp_path / "d") as opened:
        at_work, go_on = asyncio.Event(), asyncio.Event()
        write = opened.store.write

        async def slowly(work: Callable[[Tx], T]) -> T:
            monkeypatch.undo()
            at_work.set()  # the file has its name, the row is not written
            await go_on.wait()
            return await write(work)

        monkeypatch.setattr(opened.store, "write", slowly)
        sending = asyncio.create_task(send(opened, [named(1)]))
        await at_work.wait()
        checking = asyncio.create_task(opened.storage.check())
        await asyncio.sleep(0.2)
        go_on.set()
        assert await sending == [0]
        assert await checking == nothing(1)
        assert [row["copies"] for row in await opened.rows()] == [1]


async def test_an_altered_audit_record_is_told_with_the_run(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(1)]) == [0]
        await opened.store.write(lambda tx: tx.change("UPDATE audit_record SET actor = 'nobody' WHERE seq = 1"))
        found = await facts(opened)
        assert [one["kind"] for one in found["trail"]["findings"]] == ["edited"]
        assert drift.needs_a_person(found)
        assert any("ALTÉRÉE (edited)" in line for line in drift.own(found, words("fr")))


async def test_what_could_not_be_checked_never_passes_as_checked(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        (tmp_path / "witness").write_text("no head\n")
        (tmp_path / "d/received/7f").rmdir()
        found = await facts(opened, witness_file=tmp_path / "witness")
        assert (found["received"], found["trail"]) == (None, None)
        assert found["unchecked"] == {"received": "spool-broken", "trail": "witness-line"}
        assert drift.needs_a_person(found)
        assert any("les fichiers des objets reçus [spool-broken]" in line for line in drift.own(found, words("fr")))


async def test_runs_of_one_night_share_one_verification_of_the_trail_and_a_person_gets_a_new_one(
    tmp_path: Path,
) -> None:
    async with door(tmp_path / "d") as opened:
        own = inventory(opened)
        for _ in range(3):
            await own.nightly(TENANT)
        await own.take(TENANT)
        made = await opened.store.read(
            lambda tx: tx.rows("SELECT actor FROM audit_record WHERE event = 'audit.verified'")
        )
        assert [row["actor"] for row in made] == ["reconciliation"] * 2
