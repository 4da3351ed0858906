"""T65: who steals a backup has ciphertext: twenty marked patients, everything that the gateway keeps of them."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.continuity import archive
from gateway.continuity.commands import back_up, restore
from gateway.lab.ris import LabRequest, build_adt_consent, build_adt_identity, build_omi
from gateway.settings import Settings, StoreSettings
from security.errors import BadInput
from security.secrets import create_kek, read_kek
from tests.support.marked import MARKED, found
from tests.support.world import World, world


@pytest_asyncio.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def _settings(w: World, folder: Path) -> Settings:
    (folder / "kek").write_text(bytes(range(32)).hex())
    (folder / "kek").chmod(0o600)
    assert isinstance(w.store.path, Path)
    return Settings(store=StoreSettings(path=w.store.path, kek_file=folder / "kek"))


@pytest.mark.timeout(180)
async def test_t65_a_stolen_backup_shows_none_of_twenty_marked_patients_and_opens_with_no_other_key(
    w: World, tmp_path: Path
) -> None:
    for number, one in enumerate(MARKED):
        if number % 4:  # every fourth exam waits for its images
            w.pacs.hold(one.exam)
        for message in (
            build_omi(LabRequest(study=one.study), patient=one.patient, control_id=f"O{number}"),
            build_adt_consent(one.patient, control_id=f"C{number}"),
            build_adt_identity(one.patient, event="A31", control_id=f"I{number}"),
        ):
            assert "MSA|A" in await w.raw(message)
        if number % 5:
            assert "MSA|AA" in await w.report(one.exam, control_id=f"R{number}")
        else:
            stranger = MARKED[number + 1].patient  # held: its envelope names another person
            assert "MSA|AE" in await w.report(replace(one.exam, envelope_patient=stranger), control_id=f"R{number}")
            await w.raw(b"PID|1||" + one.word.encode())  # kept among what was not taken
    await w.settle()
    settings = _settings(w, tmp_path)
    stolen = tmp_path / "poterne.backup"
    await asyncio.to_thread(lambda: back_up(settings, None, stolen, with_key=False))

    raw = stolen.read_bytes()
    assert all(one.study.encode() in raw for one in MARKED), "it is their backup"
    shown = found(raw)
    with tarfile.open(stolen) as tar:
        for member in tar.getmembers():
            inside = tar.extractfile(member)
            assert inside is not None
            shown |= found(inside.read())
    assert shown == set()
    assert read_kek(tmp_path / "kek") not in raw

    create_kek(tmp_path / "other")
    thief = Settings(store=StoreSettings(path=tmp_path / "thief.db", kek_file=tmp_path / "other"))
    with pytest.raises(BadInput):
        await asyncio.to_thread(lambda: restore(thief, stolen, replace=False))
    assert not (tmp_path / "thief.db").exists()
    with pytest.raises(BadInput):
        archive.read(stolen, kek=read_kek(tmp_path / "other"))
