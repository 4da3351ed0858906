"""Secret files: who may open them, what they hold (T60)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from security.errors import Broken
from security.secrets import create_kek, create_private, read_kek, read_secret


def _file(folder: Path, data: bytes = b"geheim\n", mode: int = 0o400) -> Path:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o500])
def test_a_private_file_is_read_as_it_is(tmp_path: Path, mode: int) -> None:
    assert read_secret(_file(tmp_path, mode=mode), what="password") == b"geheim\n"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601, 0o610])
def test_t60_a_file_that_others_may_access_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path, mode=mode)
    with pytest.raises(Broken) as caught:
        read_secret(path, what="password of the PACS")
    assert caught.value.code == "secret-exposed"
    assert str(path) in str(caught.value)
    assert "password of the PACS" in str(caught.value)
    assert "chmod 400" in caught.value.hint
    assert "geheim" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_t60_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path)
    os.chown(path, 65534, 65534)
    with pytest.raises(Broken) as caught:
        read_secret(path, what="password")
    assert caught.value.code == "secret-exposed"


def test_a_link_is_followed_and_its_target_judged(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(_file(tmp_path))
    assert read_secret(link, what="password") == b"geheim\n"
    (tmp_path / "secret").chmod(0o644)
    with pytest.raises(Broken) as caught:
        read_secret(link, what="password")
    assert caught.value.code == "secret-exposed"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="nowhere") as caught:
        read_secret(tmp_path / "nowhere", what="password")
    assert caught.value.code == "secret-unreadable"


@pytest.mark.parametrize("data", [b"", b"x" * 65537])
def test_an_empty_or_endless_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Broken) as caught:
        read_secret(_file(tmp_path, data), what="password")
    assert caught.value.code == "secret-unusable"


def test_a_directory_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, code in (("folder", "secret-unreadable"), ("pipe", "secret-unusable")):
        with pytest.raises(Broken) as caught:
            read_secret(tmp_path / name, what="password")
        assert caught.value.code == code


@pytest.mark.parametrize(
    "data",
    [bytes(range(32)), b"000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F\n"],
    ids=["raw", "hexadecimal"],
)
def test_a_key_encryption_key_is_read_raw_or_as_hexadecimal(tmp_path: Path, data: bytes) -> None:
    assert read_kek(_file(tmp_path, data)) == bytes(range(32))


@pytest.mark.parametrize("data", [b"x" * 31, b"x" * 33, b"g" * 64, "é".encode() * 32, b"00" * 31, b"00" * 33])
def test_a_key_encryption_key_of_another_form_is_refused_without_showing_it(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Broken) as caught:
        read_kek(_file(tmp_path, data))
    assert caught.value.code == "secret-unusable"
    assert data.decode() not in str(caught.value)


def test_a_new_key_encryption_key_is_private_random_and_readable(tmp_path: Path) -> None:
    first, second = create_kek(tmp_path / "a"), create_kek(tmp_path / "b")
    assert read_kek(tmp_path / "a") == first
    assert first != second
    assert stat.filemode((tmp_path / "a").stat().st_mode) == "-rw-------"


def test_a_key_encryption_key_is_never_overwritten(tmp_path: Path) -> None:
    kek = create_kek(tmp_path / "kek")
    with pytest.raises(Broken) as caught:
        create_kek(tmp_path / "kek")
    assert caught.value.code == "secret-exists"
    assert read_kek(tmp_path / "kek") == kek


def test_a_private_file_is_not_created_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "link", b"data")
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_file_and_its_name_are_on_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int]] = []
    flush = os.fsync

    def recorded(fd: int) -> None:
        status = os.fstat(fd)
        flushed.append(("folder" if stat.S_ISDIR(status.st_mode) else "file", status.st_ino))
        flush(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    create_private(tmp_path / "kek", b"data")
    assert flushed == [("file", (tmp_path / "kek").stat().st_ino), ("folder", tmp_path.stat().st_ino)]


@pytest.mark.parametrize(
    "key", [bytes(32), b"\xff" * 32, b"changeme" * 4, b"0123456789abcdef"[:13] * 2 + b"012345", b"0" * 64, b"a1" * 32]
)
def test_ff44_a_key_that_nobody_drew_at_random_is_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(Broken) as caught:
        read_kek(_file(tmp_path, key))
    assert caught.value.code == "secret-default"


def test_no_key_drawn_at_random_is_taken_for_a_default_one(tmp_path: Path) -> None:
    for number in range(200):
        assert create_kek(tmp_path / f"{number}") == read_kek(tmp_path / f"{number}")
