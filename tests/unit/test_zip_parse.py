"""The door for ZIP archives: honest ones are read as the standard library wrote them, hostile ones are refused."""

from __future__ import annotations

import io
import random
import stat
import struct
import subprocess
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.errors import BadInput
from security.parse.zip import Limits, ZipArchive

FILES = {"KA202601/INDEX.HTM": b"<html/>", "KA202601/IHE_XDM/SS000001/KOS_1_1.DCM": bytes(range(256)) * 40}


def made(files: Mapping[str, bytes] = FILES, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def read(data: bytes, *, limits: Limits | None = None) -> dict[str, bytes]:
    archive = ZipArchive(io.BytesIO(data), limits=limits)
    return {entry.name: archive.read(entry) for entry in archive.entries}


def refusal(data: bytes, *, limits: Limits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        read(data, limits=limits)
    assert "KOS_1" not in str(caught.value)
    return caught.value.code


def central(name: bytes = b"a", *, at: int = 0, size: int = 1, packed: int = 1, crc: int = 0, **more: int) -> bytes:
    """One header of the central directory (APPNOTE 4.3.12)."""
    field = {"made_by": 20, "flags": 0, "method": 0, "disk": 0, "external": 0, **more}
    return (
        struct.pack(
            "<4s6H3L5H2L",
            b"PK\x01\x02", field["made_by"], 20, field["flags"], field["method"], 0, 33, crc, packed, size,
            len(name), 0, 0, field["disk"], 0, field["external"], at,
        )
        + name
    )  # fmt: skip


def local(name: bytes = b"a", data: bytes = b"x", *, size: int | None = None, crc: int | None = None, **more: int):
    field = {"flags": 0, "method": 0, **more}
    stated = len(data) if size is None else size
    checksum = zlib.crc32(data) if crc is None else crc
    return (
        struct.pack(
            "<4s5H3L2H",
            b"PK\x03\x04", 20, field["flags"], field["method"], 0, 33, checksum, len(data), stated, len(name), 0,
        )
        + name
        + data
    )  # fmt: skip


def ended(body: bytes, directory: bytes, entries: int, *, comment: bytes = b"") -> bytes:
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, entries, entries, len(directory), len(body), len(comment))
    return body + directory + end + comment


def single(name: bytes = b"a", data: bytes = b"x", **more: int) -> bytes:
    """An archive with one stored entry of that name."""
    return ended(local(name, data), central(name, size=len(data), packed=len(data), crc=zlib.crc32(data), **more), 1)


# -- honest archives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_the_standard_library_wrote_is_read(method: int) -> None:
    assert read(made(method=method)) == FILES


def test_an_archive_made_without_seeking_is_read() -> None:
    """Sizes behind the data (bit 3), as Java and pipes write them."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    out = Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert read(out.getvalue()) == FILES


def test_a_zip64_archive_is_read() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(b"x")
    assert read(out.getvalue()) == {"a": b"x"}
    many = {f"f{n}": b"" for n in range(65_600)}
    assert len(ZipArchive(io.BytesIO(made(many, method=zipfile.ZIP_STORED))).entries) == 65_600


def test_info_zip_and_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "KA" / "IHE_XDM").mkdir(parents=True)
    (tmp_path / "KA" / "IHE_XDM" / "CR.TXT").write_bytes(b"1.2;3")
    subprocess.run(["zip", "-qr", "a.zip", "KA"], cwd=tmp_path, check=True)
    assert read((tmp_path / "a.zip").read_bytes()) == {"KA/IHE_XDM/CR.TXT": b"1.2;3"}


def test_backslashes_are_slashes() -> None:
    assert list(read(single(b"KA\\IHE_XDM\\CR.TXT"))) == ["KA/IHE_XDM/CR.TXT"]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,2}\.x", fullmatch=True), st.binary(max_size=2000), max_size=6
    )
)
def test_law_written_and_read_is_the_same(files: dict[str, bytes]) -> None:
    assert read(made(files)) == files


# -- hostile archives --------------------------------------------------------------------------------------------

HOSTILE: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "no archive": (lambda: b"MZ" + b"\0" * 200, "zip-form"),
    "empty": (lambda: b"", "zip-form"),
    "cut at its end": (lambda: made()[:-30], "zip-form"),
    "bytes behind its end": (lambda: made() + b"x", "zip-form"),
    "bytes before its beginning": (lambda: b"#!/bin/sh\n" + made(), "zip-layout"),
    "cut in the middle": (lambda: made()[:200] + made()[260:], "zip-layout"),
    "absolute": (lambda: single(b"/etc/passwd"), "zip-name"),
    "drive letter": (lambda: single(b"C:\\x"), "zip-name"),
    "traversal": (lambda: single(b"a/../../etc/passwd"), "zip-name"),
    "traversal by backslashes": (lambda: single(b"a\\..\\..\\x"), "zip-name"),
    "dot": (lambda: single(b"a/./b"), "zip-name"),
    "double slash": (lambda: single(b"a//b"), "zip-name"),
    "NUL": (lambda: single(b"a.txt\0.dcm"), "zip-name"),
    "newline": (lambda: single(b"a\nb"), "zip-name"),
    "not ASCII": (lambda: single("é".encode()), "zip-name"),
    "no name": (lambda: single(b""), "zip-name"),
    "trailing dot": (lambda: single(b"a."), "zip-name"),
    "long name": (lambda: single(b"a" * 241), "zip-name"),
    "deep": (lambda: single(b"/".join([b"a"] * 13)), "zip-name"),
    "symbolic link": (lambda: single(made_by=3 << 8, external=(stat.S_IFLNK | 0o777) << 16), "zip-special"),
    "device": (lambda: single(made_by=3 << 8, external=(stat.S_IFCHR | 0o600) << 16), "zip-special"),
    "encrypted": (lambda: single(flags=1), "zip-encrypted"),
    "encrypted directory": (lambda: single(flags=0x2000), "zip-encrypted"),
    "another disk": (lambda: single(disk=1), "zip-disks"),
    "LZMA": (lambda: single(method=14), "zip-method"),
    "duplicate": (
        lambda: ended(
            local() + local(),
            central(crc=zlib.crc32(b"x")) + central(at=32, crc=zlib.crc32(b"x")),
            2,
        ),
        "zip-duplicate",
    ),
    "upper and lower case": (lambda: made({"A/x": b"1", "a/X": b"2"}), "zip-duplicate"),
    "file and folder": (lambda: made({"a": b"1", "a/b": b"2"}), "zip-duplicate"),
    "overlapping entries": (
        lambda: ended(local(), central(crc=zlib.crc32(b"x")) + central(b"b", crc=zlib.crc32(b"x")), 2),
        "zip-layout",
    ),
    "an entry inside another": (
        lambda: ended(
            local(b"a", local(b"b")),
            central(b"a", size=32, packed=32, crc=zlib.crc32(local(b"b")))
            + central(b"b", at=31, crc=zlib.crc32(b"x")),
            2,
        ),
        "zip-layout",
    ),
    "hidden bytes": (
        lambda: ended(local() + b"hidden", central(crc=zlib.crc32(b"x")), 1),
        "zip-layout",
    ),
    "another name in the local header": (
        lambda: ended(local(b"b"), central(b"a", crc=zlib.crc32(b"x")), 1),
        "zip-layout",
    ),
    "another size in the local header": (
        lambda: ended(local(size=2), central(crc=zlib.crc32(b"x")), 1),
        "zip-layout",
    ),
    "two sizes of a stored entry": (lambda: ended(local(), central(size=5), 1), "zip-layout"),
    "more entries counted than listed": (
        lambda: ended(local(), central(crc=zlib.crc32(b"x")), 2),
        "zip-layout",
    ),
    "fewer entries counted than listed": (lambda: ended(local(), central() + central(b"b"), 1), "zip-layout"),
    "entry behind the directory": (lambda: ended(local(), central(at=10_000), 1), "zip-layout"),
    "64-bit size without its field": (
        lambda: ended(local(), central(size=0xFFFFFFFF, packed=0xFFFFFFFF), 1),
        "zip-layout",
    ),
    "wrong checksum": (lambda: ended(local(crc=7), central(crc=7), 1), "zip-content"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_t07_t08_a_hostile_archive_is_refused_by_its_rule(name: str) -> None:
    build, code = HOSTILE[name]
    assert refusal(build()) == code


def test_t08_a_bomb_is_refused_by_what_it_states_before_a_byte_is_inflated() -> None:
    bomb = made({"a": bytes(30 * 1024 * 1024)})
    assert len(bomb) < 40_000
    tracemalloc.start()
    try:
        assert refusal(bomb) == "zip-limit"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_t08_a_bomb_that_lies_about_its_size_is_cut_off_at_what_it_stated() -> None:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(bytes(50 * 1024 * 1024)) + packed.flush()
    lying = ended(
        local(b"a", data, size=1000, crc=0, method=8),
        central(b"a", size=1000, packed=len(data), method=8),
        1,
    )
    tracemalloc.start()
    try:
        assert refusal(lying) == "zip-content"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_t08_many_small_bombs_are_refused_by_their_sum() -> None:
    files = {f"f{n}": bytes(60_000) for n in range(50)}
    assert refusal(made(files), limits=Limits(total=1_000_000)) == "zip-limit"
    assert refusal(made(files), limits=Limits(entries=49)) == "zip-limit"
    assert refusal(made(files), limits=Limits(entry=50_000)) == "zip-limit"


def test_bytes_behind_the_end_of_deflated_data_are_refused() -> None:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(b"x") + packed.flush() + b"hidden"
    archive = ended(
        local(b"a", data, size=1, crc=zlib.crc32(b"x"), method=8),
        central(b"a", size=1, packed=len(data), crc=zlib.crc32(b"x"), method=8),
        1,
    )
    assert refusal(archive) == "zip-content"


def test_one_bad_entry_leaves_the_others_readable() -> None:
    data = bytearray(made({"a": b"first" * 9, "b": b"second" * 9}, method=zipfile.ZIP_STORED))
    data[data.index(b"first")] ^= 1
    archive = ZipArchive(io.BytesIO(bytes(data)))
    first, second = archive.entries
    with pytest.raises(BadInput):
        archive.read(first)
    assert archive.read(second) == b"second" * 9


def test_a_thousand_random_changes_end_in_a_refusal_or_in_the_same_content() -> None:
    """Whatever a byte is changed to, nothing but ``BadInput`` comes out, quickly, and no content that was not there."""
    rng, honest = random.Random(11), made()
    began = time.monotonic()
    for _ in range(1000):
        data = bytearray(honest)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            found = read(bytes(data))
        except BadInput:
            continue
        assert sorted(found.values()) == sorted(FILES.values())
    assert time.monotonic() - began < 10
