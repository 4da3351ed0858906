"""Senders that nobody here wrote, and objects of every kind: what they send is kept byte for byte (FF-04, FF-05)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from gateway.dimse.limits import Limits
from gateway.lab.orthanc import OrthancProcess
from security.errors import BadInput
from security.parse.dicom import parse_untrusted
from tests.corpus import corpus
from tests.fixtures.dicom_objects import BIG_ENDIAN, CT, DEFLATED, EXPLICIT, IMPLICIT, ROOT, data_set, element, part10
from tests.support.dimse import AET, Door, DoorProcess, data_set_of, door, peer, send
from tests.support.dimse_raw import RawScu
from tests.support.pacs import need_orthanc

MIB = 1024**2
DCMJS = Path(__file__).parents[1] / "support/dcmjs"


def need(path: str, package: str) -> str:
    """The path of a tool; without it the test skips, or fails where CI must have it."""
    if not Path(path).exists():
        _lacking(f"no {path} on this machine (apt-get install {package})")
    return path


def _lacking(reason: str) -> None:
    (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


async def run(*command: object) -> str:
    """What a command says; it must succeed."""
    done = await asyncio.to_thread(
        subprocess.run, [str(part) for part in command], capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Six images of an invented person, in three syntaxes."""
    made = []
    for number, syntax in enumerate((EXPLICIT, EXPLICIT, IMPLICIT, IMPLICIT, BIG_ENDIAN, EXPLICIT), 1):
        body = data_set(number, syntax=syntax, pixels=os.urandom(512 * number))
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(part10(body, sop=f"{ROOT}.1.1.{number}", syntax=syntax))
        made.append(path)
    return made


async def assert_kept(opened: Door, files: list[Path]) -> None:
    kept = {row["sop_uid"]: (row["keeping"], data_set_of(opened.bytes_of(row))) for row in await opened.rows()}
    assert kept == {f"{ROOT}.1.1.{path.stem}": ("stored", data_set_of(path.read_bytes())) for path in files}


@pytest.mark.dcmtk
async def test_storescu_and_dcmsend_of_dcmtk(tmp_path: Path, files: list[Path]) -> None:
    storescu, dcmsend = need("/usr/bin/storescu", "dcmtk"), need("/usr/bin/dcmsend", "dcmtk")
    async with door(tmp_path / "d") as opened:
        assert "Received Echo Response (Success)" in await run(
            "/usr/bin/echoscu", "-v", "-aec", AET, "127.0.0.1", opened.port
        )
        plain = [path for path in files if path.stem in "126"]  # it converts the others to what we prefer
        await run(storescu, "-R", "-aec", AET, "127.0.0.1", opened.port, *plain)
        await assert_kept(opened, plain)
        await run(dcmsend, "-aec", AET, "127.0.0.1", opened.port, *plain)
        await assert_kept(opened, plain)
        assert {row["copies"] for row in await opened.rows()} == {2}


@pytest.mark.dcmtk
async def test_storescu_with_long_pdus(tmp_path: Path, files: list[Path]) -> None:
    storescu = need("/usr/bin/storescu", "dcmtk")
    big = tmp_path / "7.dcm"
    big.write_bytes(part10(data_set(7, pixels=os.urandom(20 * MIB)), sop=f"{ROOT}.1.1.7"))
    async with door(tmp_path / "d") as opened:
        await run(
            storescu, "-pdu", 131_072, "--max-send-pdu", 131_072, "-R", "-aec", AET, "127.0.0.1", opened.port, big
        )
        await assert_kept(opened, [big])


async def test_pynetdicom(tmp_path: Path, files: list[Path]) -> None:
    objects = [(CT, f"{ROOT}.1.1.{n}", EXPLICIT, data_set_of(files[n - 1].read_bytes())) for n in (1, 2, 6)]
    async with door(tmp_path / "d") as opened:
        assert await asyncio.to_thread(send, opened.port, objects) == [0, 0, 0]
        await assert_kept(opened, [files[0], files[1], files[5]])


@pytest.mark.orthanc
async def test_orthanc(tmp_path: Path, files: list[Path]) -> None:
    need_orthanc()
    sent = [path for path in files if path.stem in "126"]
    async with door(tmp_path / "d", peers=(peer(OrthancProcess.aet),)) as opened:
        modality = {"DicomModalities": {"door": [AET, "127.0.0.1", opened.port]}}
        orthanc = await asyncio.to_thread(OrthancProcess.start, tmp_path / "orthanc", **modality)
        try:
            await asyncio.to_thread(orthanc.load, sent)
            await asyncio.to_thread(_orthanc_sends, orthanc)
        finally:
            await asyncio.to_thread(orthanc.stop)
        await assert_kept(opened, sent)


def _orthanc_sends(orthanc: OrthancProcess) -> None:
    with requests.Session() as session:
        session.trust_env, session.auth = False, (orthanc.username, orthanc.password)
        assert session.post(f"{orthanc.url}/modalities/door/echo", data="{}", timeout=30).status_code == 200
        for study in session.get(f"{orthanc.url}/studies", timeout=30).json():
            session.post(f"{orthanc.url}/modalities/door/store", data=study, timeout=60).raise_for_status()


@pytest.fixture(scope="module")
def dcmjs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dcmjs-dimse from its locked list, in a folder of its own."""
    folder = tmp_path_factory.mktemp("dcmjs")
    for name in ("package.json", "package-lock.json", "send.js"):
        shutil.copy(DCMJS / name, folder / name)
    if shutil.which("npm") is None or shutil.which("node") is None:
        _lacking("no npm and node on this machine (apt-get install npm)")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=110)
    if done.returncode:
        _lacking(f"dcmjs-dimse cannot be installed: {done.stderr[-300:]}")
    return folder


async def test_dcmjs(tmp_path: Path, files: list[Path], dcmjs: Path) -> None:
    async with door(tmp_path / "d") as opened:
        said = await run("node", dcmjs / "send.js", opened.port, AET, *files[:2])
        answers = [line for line in said.splitlines() if line.startswith(("echo", "store"))]
        assert answers == ["echo 0", "store 0", "store 0"]
        rows = await opened.rows()
        assert {row["sop_uid"] for row in rows} == {f"{ROOT}.1.1.1", f"{ROOT}.1.1.2"}
        assert {row["keeping"] for row in rows} == {"stored"}


# ── FF-04 and FF-05: kinds ───────────────────────────────────────────────────────────────────────────────────


async def test_ff04_130_classes_a_private_one_and_a_vendors_syntax_are_kept(tmp_path: Path) -> None:
    classes = [f"1.2.840.10008.5.1.4.1.1.{number}" for number in range(1, 131)] + ["1.2.840.113619.4.30"]
    vendor = "1.2.840.113619.5.2"

    def store(port: int) -> list[int]:
        statuses = []
        for start in range(0, len(classes), 100):
            with RawScu(port) as scu:
                some = classes[start : start + 100]
                accepted = scu.associate([(sop_class, [EXPLICIT]) for sop_class in some] + [(CT, [vendor])])
                assert set(accepted.values()) == {0}
                for number, sop_class in enumerate(some):
                    sop = f"{ROOT}.2.{start + number}"
                    statuses.append(
                        scu.store(2 * number + 1, sop_class, sop, data_set(1, sop=sop, sop_class=sop_class))
                    )
                statuses.append(
                    scu.store(2 * len(some) + 1, CT, f"{ROOT}.3.1", data_set(1, sop=f"{ROOT}.3.1", syntax=IMPLICIT))
                )
        return statuses

    async with door(tmp_path / "d") as opened:
        assert set(await asyncio.to_thread(store, opened.port)) == {0}
        rows = await opened.rows()
        assert {row["sop_class"] for row in rows} == {*classes}
        assert len(rows) == 132
        assert {row["keeping"] for row in rows} == {"stored"}
        assert [row["transfer_syntax"] for row in rows].count(vendor) == 1


@pytest.mark.parametrize("pdu", [40, 255, 16_384, 4 * MIB])
async def test_fragments_and_pdus_of_any_size_carry_the_same_bytes(tmp_path: Path, pdu: int) -> None:
    body = data_set(1, pixels=os.urandom(30_001 if pdu < 300 else 9 * MIB))

    def store(port: int) -> int:
        with RawScu(port) as scu:
            scu.associate([(CT, [EXPLICIT])])
            return scu.store(1, CT, f"{ROOT}.1.1.1", body, pdu=pdu)

    async with door(tmp_path / "d", limits=Limits(pdu_bytes_max=4 * MIB)) as opened:
        assert await asyncio.to_thread(store, opened.port) == 0
        (row,) = await opened.rows()
        assert data_set_of(opened.bytes_of(row)) == body


async def test_a_deflated_object_is_kept_as_it_came(tmp_path: Path) -> None:
    body = data_set(1, syntax=DEFLATED, pixels=os.urandom(50_000))
    async with door(tmp_path / "d") as opened:

        def store() -> int:
            with RawScu(opened.port) as scu:
                scu.associate([(CT, [DEFLATED])])
                return scu.store(1, CT, f"{ROOT}.1.1.1", body)

        assert await asyncio.to_thread(store) == 0
        (row,) = await opened.rows()
        assert (row["keeping"], data_set_of(opened.bytes_of(row))) == ("stored", body)


@pytest.mark.timeout(180)
async def test_ff06_large_objects_at_once_in_512_mebibytes(tmp_path: Path) -> None:
    """Four of 60 MiB at once in the default run, by memory of one process with a ceiling."""
    await _large(tmp_path, sizes=[60] * 4, growth=48)


@pytest.mark.full
@pytest.mark.timeout(1200)
async def test_ff06_two_gibibytes_and_four_of_500_mebibytes_in_512_mebibytes(tmp_path: Path) -> None:
    await _large(tmp_path, sizes=[2048, 500, 500, 500, 500], growth=64)


async def _large(folder: Path, *, sizes: list[int], growth: int) -> None:
    def store(port: int, number: int, size: int) -> int:
        head = data_set(number, pixels=b"")[:-12]
        pixels = element(0x7FE00010, "OW", b"", length=size * MIB)
        with RawScu(port, source=f"127.0.0.{number + 1}") as scu:
            scu.associate([(CT, [EXPLICIT])])
            return scu.store_pieces(1, CT, f"{ROOT}.1.1.{number}", [head + pixels, *[bytes(MIB)] * size])

    def attack() -> tuple[list[int], int]:
        with DoorProcess.start(folder / "d", memory=512 * MIB) as running, ThreadPoolExecutor(8) as pool:
            before = running.peak
            statuses = list(pool.map(lambda one: store(running.port, *one), enumerate(sizes, 1)))
            grown = running.peak - before
            assert running.stop() == 0
        return statuses, grown

    statuses, grown = await asyncio.to_thread(attack)
    assert statuses == [0] * len(sizes)
    assert grown <= growth * MIB, f"{grown / MIB:.0f} MiB more"
    async with door(folder / "d") as opened:
        rows = await opened.rows()
        head = len(data_set(1, pixels=b""))
        assert sorted(row["size_bytes"] for row in rows) == sorted(size * MIB + head for size in sizes)
        for row in rows:
            assert sum(len(piece) for piece in opened.spool.read(row["file"])) > row["size_bytes"]


# ── the material beside the repository ───────────────────────────────────────────────────────────────────────


def _readable() -> Iterator[tuple[Path, str, str, str, bytes]]:
    """Every Part 10 file of the material: path, class, instance, syntax, data set."""
    for path in sorted(corpus("dicom").rglob("*")):
        raw = path.read_bytes() if path.is_file() else b""
        if raw[128:132] != b"DICM" or raw[132:138] != b"\2\0\0\0UL":
            continue
        meta = parse_meta(raw)
        if all(meta.get(tag) for tag in (0x00020002, 0x00020003, 0x00020010)):
            yield path, meta[0x00020002], meta[0x00020003], meta[0x00020010], data_set_of(raw)


def parse_meta(raw: bytes) -> dict[int, str]:
    """Group 2 by hand: the reader of the product is what is tested."""
    position, end, found = 144, 144 + int.from_bytes(raw[140:144], "little"), dict[int, str]()
    while position < end:
        tag = int.from_bytes(raw[position : position + 2], "little") << 16
        tag |= int.from_bytes(raw[position + 2 : position + 4], "little")
        is_long = raw[position + 4 : position + 6] in {b"OB", b"UN"}
        size = int.from_bytes(
            raw[position + 8 : position + 12] if is_long else raw[position + 6 : position + 8], "little"
        )
        value = position + (12 if is_long else 8)
        found[tag] = raw[value : value + size].decode("latin-1").strip("\0 ")
        position = value + size
    return found


@pytest.mark.corpus
@pytest.mark.timeout(180)
async def test_every_file_of_the_material_arrives_byte_for_byte(tmp_path: Path) -> None:
    found = list(_readable())
    assert len(found) > 350

    def store(port: int) -> list[int]:
        statuses = []
        for _, sop_class, sop, syntax, body in found:
            with RawScu(port) as scu:
                assert scu.associate([(sop_class, [syntax])]) == {1: 0}, (sop_class, syntax)
                statuses.append(scu.store(1, sop_class, sop, body))
        return statuses

    async with door(tmp_path / "d") as opened:
        statuses = await asyncio.to_thread(store, opened.port)
        rows = {(row["transfer_syntax"], data_set_of(opened.bytes_of(row))): row for row in await opened.rows()}
    outcomes: Counter[str] = Counter()
    for (path, _, _, syntax, body), status in zip(found, statuses, strict=True):
        row = rows[syntax, body]  # whatever the status: the bytes are there
        assert (status == 0) == (row["keeping"] == "stored") or row["reason"].startswith("no-"), (path, status)
        outcomes[row["reason"] or "stored"] += 1
        if row["keeping"] == "stored":
            _agrees(path)
    print(f"\n{len(found)} files: {dict(outcomes)}")
    assert outcomes["stored"] >= 330


def _agrees(path: Path) -> None:
    """What we call whole, the strict parser of the house does not call cut."""
    code = ""
    try:
        parse_untrusted(path, what=path.name)
    except BadInput as fault:
        code = fault.code
    assert code not in {"dicom-truncated", "dicom-too-deep"}, path


@pytest.mark.corpus
@pytest.mark.dcmtk
@pytest.mark.timeout(180)
async def test_dcmtk_sends_the_material_and_all_of_it_is_stored(tmp_path: Path) -> None:
    dcmsend = need("/usr/bin/dcmsend", "dcmtk")
    sets = ("ct-series", "mr-series", "us-xa-multiframe", "cr-dx-mg", "wg04-transfer-syntaxes", "rt")
    files = [path for name in sets for path in corpus("dicom", name).rglob("*") if path.suffix == ".dcm"]
    async with door(tmp_path / "d") as opened:
        report = tmp_path / "report.txt"
        await run(dcmsend, "-aec", AET, "--no-halt", "--create-report-file", report, "127.0.0.1", opened.port, *files)
        said = report.read_text()
        accepted = said.count("0x0000 (Success)") or int(
            next(line for line in said.splitlines() if "status SUCCESS" in line).rsplit(":", 1)[1]
        )
        held = await opened.held()
        copies = sum(row["copies"] for row in await opened.rows())
        assert copies >= accepted >= 190
        assert held.quarantined == 0
