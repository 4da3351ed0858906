"""C-STORE into the inbox: what is answered, what is kept, what is never lost (FF-01, FF-08, FF-09, T07, T08, T16)."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dimse import inbox, storage
from security.errors import Broken, Unavailable
from security.seal import Vault
from security.spool import SEGMENT_BYTES, Spool
from security.store.place import PostgresPlace
from tests.fixtures.dicom_objects import CT, DEFLATED, EXPLICIT, ROOT, data_set, deflated, element, nested
from tests.support.dimse import Door, DoorProcess, StorageTerms, data_set_of, door, peer
from tests.support.dimse_raw import RawScu

MIB = 1024**2
Objects = list[tuple[str, str, bytes]]
"""SOP class, SOP instance and data set, as the command names them."""


def named(number: int, **changes: object) -> tuple[str, str, bytes]:
    sop = f"{ROOT}.1.1.{number}"
    return CT, sop, data_set(number, **({"sop": sop} | changes))  # type: ignore[arg-type]


def sent(port: int, objects: Objects, *, syntax: str = EXPLICIT, aet: str = "SCU", pdu: int = 65_536) -> list[int]:
    """Each on one association; their statuses."""
    with RawScu(port) as scu:
        classes = list(dict.fromkeys(sop_class for sop_class, _, _ in objects))
        results = scu.associate([(sop_class, [syntax]) for sop_class in classes], aet=aet)
        assert set(results.values()) == {0}, scu.answer
        statuses = [
            scu.store(2 * classes.index(sop_class) + 1, sop_class, sop, body, pdu=pdu)
            for sop_class, sop, body in objects
        ]
        assert scu.release()
        return statuses


async def send(opened: Door, objects: Objects, **how: object) -> list[int]:
    return await asyncio.to_thread(sent, opened.port, objects, **how)  # type: ignore[arg-type]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB; skipped where nothing can be mounted, except where CI must."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        reason = f"no small file system can be mounted: {mounted.stderr.strip()}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_what_is_answered_0000_has_its_bytes_its_row_and_its_audit_row(tmp_path: Path) -> None:
    objects = [named(number, pixels=os.urandom(700_000 * (number % 3))) for number in range(1, 7)]
    async with door(tmp_path / "d") as opened:
        assert await send(opened, objects) == [0] * 6
        rows = await opened.rows()
        assert [data_set_of(opened.bytes_of(row)) for row in rows] == [body for _, _, body in objects]
        assert {(row["keeping"], row["peer"], row["study_uid"], row["copies"]) for row in rows} == {
            ("stored", "scu", f"{ROOT}.1", 1)
        }
        assert [row["size_bytes"] for row in rows] == [len(body) for _, _, body in objects]
        trail = await opened.store.read(lambda tx: tx.rows("SELECT event, object_id, actor FROM audit_record"))
    assert {(row["event"], row["object_id"], row["actor"]) for row in trail} == {
        ("dicom.received", f"{ROOT}.1", "pacs-peer scu")
    }


async def test_the_same_on_postgresql(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    async with door(tmp_path / "d", place=postgres_place) as opened:
        assert await send(opened, [named(1), named(2), named(1)]) == [0, 0, 0]
        assert [(row["sop_uid"], row["copies"]) for row in await opened.rows()] == [
            (f"{ROOT}.1.1.1", 2),
            (f"{ROOT}.1.1.2", 1),
        ]
        assert await opened.held() == inbox.Held(
            stored=2, quarantined=0, size_bytes=len(data_set(1)) + len(data_set(2))
        )


async def test_t65_no_byte_of_an_object_lies_on_the_disk_in_clear(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        await send(opened, [named(1)])
    for file in (tmp_path / "d").rglob("*"):
        if file.is_file():
            assert b"PHANTOM^ZOE" not in file.read_bytes(), file
            assert file.stat().st_mode & 0o077 == 0, file


async def test_t12_what_we_keep_has_an_empty_preamble(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        await send(opened, [named(1)])
        (row,) = await opened.rows()
        assert opened.bytes_of(row)[:132] == bytes(128) + b"DICM"


# ── FF-01 ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(120)
async def test_ff01_a_full_disk_is_answered_a700_and_what_was_answered_0000_survives_a_kill(
    tmp_path: Path, small_disk: Path
) -> None:
    await asyncio.to_thread(_fill, tmp_path / "d", small_disk)
    async with door(tmp_path / "d") as opened:
        rows = await opened.rows()
        kept = {row["sop_uid"]: data_set_of(opened.bytes_of(row)) for row in rows}
    objects = {sop: body for _, sop, body in _big()}
    assert 2 <= len(kept) < len(objects)
    assert kept == {sop: objects[sop] for sop in kept}


def _big() -> Objects:
    return [named(number, pixels=bytes([number]) * MIB) for number in range(1, 21)]


def _fill(folder: Path, disk: Path) -> None:
    folder.mkdir(mode=0o700)
    (disk / "received").mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", str(disk / "received"), str(_made(folder / "received"))], check=True)
    try:
        with DoorProcess.start(folder) as running:
            statuses = sent(running.port, _big())
            running.process.kill()
        assert set(statuses) == {0x0000, 0xA700}
        good = [sop for status, (_, sop, _) in zip(statuses, _big(), strict=True) if status == 0]
        _copy_out(folder / "received", folder / "kept")
    finally:
        subprocess.run(["umount", str(folder / "received")], check=True)
    (folder / "received").rmdir()
    (folder / "kept").rename(folder / "received")
    assert good


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _copy_out(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


async def test_ff01_no_room_is_answered_a700_before_anything_is_written(tmp_path: Path) -> None:
    async with door(tmp_path / "d", free_bytes_min=1 << 60) as opened:
        assert await send(opened, [named(1, pixels=bytes(3 * MIB))]) == [0xA700]
        assert await opened.rows() == []
    assert [file for file in (tmp_path / "d/received").rglob("*") if file.is_file()] == []


async def test_f03_a_failed_fsync_is_never_answered_0000_and_ends_the_taking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with door(tmp_path / "d") as opened:
        with monkeypatch.context() as broken:
            broken.setattr("security.spool.os.fdatasync", fail)
            assert await send(opened, [named(1)]) == [0x0110]
        assert await send(opened, [named(2)]) == [0xA700]
        assert await opened.rows() == []
    async with door(tmp_path / "d") as healed:
        assert await send(healed, [named(1)]) == [0]


async def test_f03_a_failed_fsync_of_the_folder_fails_the_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with door(tmp_path / "d") as opened:
        with monkeypatch.context() as broken:
            broken.setattr("security.spool._sync_folder", _raise_eio)
            assert await send(opened, [named(1)]) == [0x0110]
        assert await opened.rows() == []


def _raise_eio(_folder: Path) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Unavailable("the database is full", code="store-full", hint=""), 0xA700),
        (Broken("the database is broken", code="store-broken", hint=""), 0x0110),
    ],
)
async def test_ff01_without_its_row_an_object_is_not_answered_0000_and_is_found_again_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async with door(tmp_path / "d") as opened:

        async def refuse(_work: object) -> None:
            raise fault

        monkeypatch.setattr(opened.store, "write", refuse)
        assert await send(opened, [named(1)]) == [status]
        monkeypatch.undo()
    async with door(tmp_path / "d") as again:
        (row,) = await again.rows()
        assert (row["peer"], row["keeping"], row["calling_aet"]) == ("", "stored", "SCU")
        assert data_set_of(again.bytes_of(row)) == named(1)[2]
        assert await send(again, [named(1)]) == [0]
        assert len(await again.rows()) == 1


async def test_an_association_that_ends_inside_an_object_leaves_nothing(tmp_path: Path) -> None:
    def leave(port: int) -> None:
        with RawScu(port) as scu:
            scu.associate([(CT, [EXPLICIT])])
            scu.store(1, CT, f"{ROOT}.1.1.1", data_set(pixels=bytes(3 * MIB)), first=2 * MIB)

    async with door(tmp_path / "d") as opened:
        await asyncio.to_thread(leave, opened.port)
        parts = tmp_path / "d/received/part"
        async with asyncio.timeout(5):
            while any(parts.iterdir()) or opened.listener.connections:
                await asyncio.sleep(0.02)
        assert await opened.rows() == []


async def test_a_stop_lets_the_object_in_hand_be_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    examine = storage.Writing.end

    def slowly(writing: storage.Writing, piece: bytes) -> storage.Examined:
        loop.call_soon_threadsafe(begun.set)
        import time

        time.sleep(0.5)
        return examine(writing, piece)

    monkeypatch.setattr(storage.Writing, "end", slowly)
    async with door(tmp_path / "d") as opened:
        sending = asyncio.create_task(asyncio.to_thread(_one, opened.port))
        await begun.wait()
    assert await sending == 0
    async with door(tmp_path / "d") as again:
        assert len(await again.rows()) == 1


def _one(port: int) -> int:
    with RawScu(port) as scu:
        scu.associate([(CT, [EXPLICIT])])
        return scu.store(1, *named(1))


# ── FF-08, T07 to T13: what is wrong with an object ──────────────────────────────────────────────────────────

EVIL = ["/etc/x", "../../x", "1.2\0.3", "1..2", ".", "1" * 65, "1.2.", "１.2"]


def _damaged() -> dict[str, tuple[tuple[str, str, bytes], str, int]]:
    """Name → object, reason and status."""
    sop = f"{ROOT}.1.1.1"
    body = data_set(1)
    wrong: dict[str, tuple[bytes, str, int]] = {
        "truncated": (body[:-100], "dicom-truncated", 0xC210),
        "lying-length": (
            data_set(1, after=[element(0x7FE10010, "OB", b"abc", length=0xFFFFFFF0)]),
            "dicom-truncated",
            0xC210,
        ),
        "bad-vr": (body.replace(b"CS\x02\0CT", b"??\x02\0CT"), "dicom-malformed", 0xC210),
        "depth-200": (data_set(1, after=[nested(200)]), "dicom-too-deep", 0xC210),
        "depth-5000": (data_set(1, after=[nested(5000)]), "dicom-too-deep", 0xC210),
        "empty": (b"", "dicom-malformed", 0xC210),
        "text": (b"this is no DICOM at all, nor anything like it", "dicom-malformed", 0xC210),
        "no-study": (data_set(1, study=""), "no-study-uid", 0),
        "no-series": (data_set(1, series=""), "no-series-uid", 0),
        "no-sop": (data_set(1, sop=""), "no-sop-uid", 0),
        "other-sop": (data_set(1, sop=f"{ROOT}.1.1.2"), "sop-mismatch", 0xA900),
        "other-class": (data_set(1, sop_class="1.2.840.10008.5.1.4.1.1.4"), "sop-mismatch", 0xA900),
        "huge-image": (data_set(1, before=[element(0x00280010, "US", b"\xff\xff")]), "", 0),
        "leading-zero": (data_set(1, study="1.2.03.4"), "", 0),
        "odd-length": (data_set(1, after=[element(0x7FE10010, "OB", b"abc")]), "", 0),
        "blank-padded": (data_set(1, study="1.2.3 "), "", 0),
    }
    wrong |= {
        f"evil-{number}": (data_set(1, study=text.encode("utf-8").decode("latin-1")), "bad-study-uid", 0)
        for number, text in enumerate(EVIL)
    }
    return {name: ((CT, sop, body), reason, status) for name, (body, reason, status) in wrong.items()}


async def test_t34_words_in_the_place_of_a_uid_reach_no_row(tmp_path: Path) -> None:
    body = data_set(1, study="FANTOME^ODETTE", series="FANTOME", sop="ODETTE", sop_class="ODETTE^1961")
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [(CT, "ODETTE", body), named(7)]) == [0xA900, 0]
        (row, _) = await opened.rows()
        assert row["keeping"] == "quarantined"
        assert [row[column] for column in ("study_uid", "series_uid", "sop_uid", "sop_class")] == [""] * 4
        assert not [word for word in ("FANTOME", "ODETTE") if word in str(dict(row) | {"file": ""})]
        assert data_set_of(opened.bytes_of(row)) == body


@pytest.mark.parametrize("name", [name for name in _damaged() if name != "evil-7"])
async def test_ff08_a_wrong_object_is_kept_with_its_reason_and_disturbs_no_neighbour(
    tmp_path: Path, name: str
) -> None:
    wrong, reason, status = _damaged()[name]
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [named(7), wrong, named(8)]) == [0, status, 0]
        rows = {
            row["reason"]: row
            for row in await opened.rows()
            if row["sop_uid"] not in {f"{ROOT}.1.1.7", f"{ROOT}.1.1.8"}
        }
        assert set(rows) == {reason}
        assert rows[reason]["keeping"] == ("quarantined" if reason else "stored")
        assert data_set_of(opened.bytes_of(rows[reason])) == wrong[2]
        held = await opened.held()
        assert (held.stored, held.quarantined) == ((2, 1) if reason else (3, 0))
        assert all(file.is_relative_to(tmp_path) for file in (tmp_path / "d").rglob("*"))
    names = {file.name for file in (tmp_path / "d/received").rglob("*") if file.is_file()}
    assert all(set(name) <= set("0123456789abcdef.") and len(name) == 129 for name in names)


async def test_strict_peers_get_c000_and_nothing_is_kept(tmp_path: Path) -> None:
    strict = {"scu": StorageTerms(is_strict=True)}
    damaged = _damaged()
    async with door(tmp_path / "d", storing=strict) as opened:
        for name in ("truncated", "no-study", "leading-zero", "evil-1"):
            assert await send(opened, [damaged[name][0]]) == [0xC000], name
        assert await opened.rows() == []
        assert await send(opened, [named(1)]) == [0]


async def test_t08_a_bomb_is_quarantined_and_held_nowhere(tmp_path: Path) -> None:
    bomb = deflated(data_set(1, pixels=bytes(400 * MIB)))
    assert len(bomb) < MIB

    def attack() -> tuple[list[int], int]:
        with DoorProcess.start(tmp_path / "d") as running:
            sent(running.port, [named(5)])
            before = running.peak
            statuses = sent(running.port, [(CT, f"{ROOT}.1.1.1", bomb)], syntax=DEFLATED)
            grown = running.peak - before
            assert running.stop() == 0
            return statuses, grown

    statuses, grown = await asyncio.to_thread(attack)
    assert statuses == [0xC210]
    assert grown <= 64 * MIB
    async with door(tmp_path / "d") as opened:
        assert [(row["reason"], row["size_bytes"]) for row in await opened.rows()] == [
            ("", len(data_set(5))),
            ("dicom-bomb", len(bomb)),
        ]


async def test_bytes_under_a_wrong_name_leave_the_quarantine_when_they_come_under_their_own(tmp_path: Path) -> None:
    sop_class, sop, body = named(1)
    async with door(tmp_path / "d") as opened:
        assert await send(opened, [(sop_class, f"{ROOT}.9", body)]) == [0xA900]
        assert await send(opened, [(sop_class, sop, body)]) == [0]
        (row,) = await opened.rows()
        assert (row["keeping"], row["reason"], row["copies"]) == ("stored", "", 2)


# ── FF-09 ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_ff09_twenty_at_once_are_one_and_other_bytes_or_another_series_are_others(tmp_path: Path) -> None:
    one = named(1)
    altered = (CT, one[1], data_set(1, pixels=b"\1" * 512))
    moved = (CT, one[1], data_set(1, series=f"{ROOT}.1.2"))
    async with door(tmp_path / "d") as opened:
        twenty = await asyncio.gather(*(send(opened, [one] * 5) for _ in range(4)))
        assert twenty == [[0] * 5] * 4
        assert await send(opened, [altered, moved, one]) == [0, 0, 0]
        rows = await opened.rows()
        assert [(row["revision"], row["copies"]) for row in rows] == [(1, 21), (2, 1), (3, 1)]
        assert [data_set_of(opened.bytes_of(row)) for row in rows] == [one[2], altered[2], moved[2]]
        trail = await opened.store.read(lambda tx: tx.rows("SELECT detail FROM audit_record"))
        assert sum(row["detail"].endswith("revision") for row in trail) == 2


async def test_objects_that_are_complete_together_share_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    settle = storage.Storage._settle

    async def slowly(self: storage.Storage, group: list[storage._Kept]) -> list[inbox.News]:
        groups.append(len(group))
        await asyncio.sleep(0.05)
        return await settle(self, group)

    monkeypatch.setattr(storage.Storage, "_settle", slowly)
    async with door(tmp_path / "d") as opened:
        await asyncio.gather(*(send(opened, [named(10 * n + k) for k in range(4)], aet="SCU") for n in range(1, 5)))
        assert len(await opened.rows()) == 16
    assert max(groups) >= 2
    assert sum(groups) == 16


# ── T16 ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_t16_a_peer_beyond_its_quota_gets_a700_and_others_do_not(tmp_path: Path) -> None:
    quotas = {
        "scu": StorageTerms(objects_per_hour=3),
        "other": StorageTerms(),
        "wide": StorageTerms(bytes_per_hour=900),
    }
    peers = (peer(), peer("OTHER"), peer("WIDE"))
    async with door(tmp_path / "d", peers=peers, storing=quotas) as opened:
        assert await send(opened, [named(number) for number in range(1, 6)]) == [0, 0, 0, 0xA700, 0xA700]
        assert await send(opened, [named(6)], aet="OTHER") == [0]
        assert await send(opened, [named(7), named(8), named(9)], aet="WIDE") == [0, 0, 0xA700]
        assert opened.observed.count(("object", "no-room")) == 3


def test_t16_the_quota_forgets_what_is_older_than_an_hour() -> None:
    quota = storage.Quota(StorageTerms(objects_per_hour=2))
    quota.take(0.0, objects=1)
    quota.take(30.0, objects=1)
    assert quota.is_used_up(59 * 60)
    assert not quota.is_used_up(62 * 60)


# ── the spool itself ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    async with door(tmp_path / "for-its-keys") as opened:
        vault: Vault = opened.spool._vault
    return Spool.open(tmp_path / "spool", tenant="site", vault=vault)


def placed(spool: Spool, data: bytes) -> str:
    draft = spool.draft()
    for start in range(0, len(data), 100_000):
        draft.add(data[start : start + 100_000])
    draft.close()
    name = "ab/" + "0" * 64 + "." + "1" * 64
    spool.place([(draft, name)])
    draft.discard()
    return name


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
def test_what_was_placed_is_read_back(spool: Spool, size: int) -> None:
    data = os.urandom(size)
    assert b"".join(spool.read(placed(spool, data))) == data


@pytest.mark.parametrize("harm", ["cut-segment", "cut-tail", "flip", "swap", "empty"])
def test_t65_an_object_that_was_cut_altered_or_reordered_does_not_open(
    spool: Spool, tmp_path: Path, harm: str
) -> None:
    name = placed(spool, bytes(3 * SEGMENT_BYTES + 10))
    file = tmp_path / "spool" / name
    whole = bytearray(file.read_bytes())
    sealed = SEGMENT_BYTES + 16
    head = len(whole) - 3 * sealed - 26
    match harm:
        case "cut-segment":
            del whole[head + 2 * sealed :]
        case "cut-tail":
            del whole[-1:]
        case "flip":
            whole[head + 5] ^= 1
        case "swap":
            whole[head : head + 2 * sealed] = whole[head + sealed : head + 2 * sealed] + whole[head : head + sealed]
        case "empty":
            whole.clear()
    file.write_bytes(whole)
    with pytest.raises(Broken) as refused:
        list(spool.read(name))
    assert refused.value.code in {"spool-unreadable", "seal-broken"}


def test_t07_a_name_that_is_no_hash_is_never_opened(spool: Spool) -> None:
    for name in ("../../etc/passwd", "ab/../x", "ab/" + "g" * 64 + "." + "1" * 64, ""):
        with pytest.raises(Broken):
            list(spool.read(name))


def test_a_link_in_place_of_an_object_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    name = placed(spool, b"abc")
    file = tmp_path / "spool" / name
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Broken):
        list(spool.read(name))


def test_a_folder_that_others_may_enter_is_refused(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "open", tmp_path / "file", tmp_path / "absent" / "below"):
        with pytest.raises(Broken) as refused:
            Spool.open(place, tenant="site", vault=spool._vault)
        assert refused.value.code == "spool-place"


async def test_an_orphan_that_does_not_open_is_put_aside_with_its_bytes(tmp_path: Path) -> None:
    async with door(tmp_path / "d") as opened:
        await send(opened, [named(1)])
    stray = tmp_path / "d/received/00" / ("2" * 64 + "." + "3" * 64)
    stray.write_bytes(b"POTERNE\x01 and then nonsense")
    async with door(tmp_path / "d") as again:
        assert len(await again.rows()) == 1
    assert [file.read_bytes()[:7] for file in (tmp_path / "d/received/unreadable").iterdir()] == [b"POTERNE"]
