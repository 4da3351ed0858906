"""Documents as files: whole or not at all, never over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.manifests import documents
from security.errors import BadInput, Refused


def test_a_document_is_for_its_owner_alone_and_no_part_of_it_stays(tmp_path: Path):
    documents.save({tmp_path / "a.dcm": b"one", tmp_path / "b.json": b"two"}, force=False)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.dcm": b"one", "b.json": b"two"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_file_that_comes_into_being_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "a.dcm"
    monkeypatch.setattr(documents, "check_free", lambda *_paths, **_force: place.write_bytes(b"another's"))

    with pytest.raises(Refused) as raised:
        documents.save({place: b"ours"}, force=False)

    assert raised.value.code == "file-exists"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.dcm": b"another's"}


def test_when_one_of_two_cannot_be_made_neither_is_there(tmp_path: Path):
    with pytest.raises(Refused) as raised:
        documents.save({tmp_path / "a.dcm": b"one", tmp_path / "absent" / "b.json": b"two"}, force=False)

    assert raised.value.code == "file-unwritable"
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_counts_as_a_file_and_force_replaces_the_link_not_its_goal(tmp_path: Path):
    goal, link = tmp_path / "goal", tmp_path / "a.dcm"
    link.symlink_to(goal)
    with pytest.raises(Refused):
        documents.save({link: b"one"}, force=False)

    documents.save({link: b"one"}, force=True)

    assert (link.is_symlink(), link.read_bytes(), goal.exists()) == (False, b"one", False)


def test_a_folder_is_never_replaced(tmp_path: Path):
    (tmp_path / "a.dcm").mkdir()
    with pytest.raises(Refused) as raised:
        documents.save({tmp_path / "a.dcm": b"one"}, force=True)
    assert raised.value.code == "file-exists"


def test_what_is_too_large_or_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents, "BYTES_MAX", 4)
    (tmp_path / "four").write_bytes(b"1234")
    (tmp_path / "five").write_bytes(b"12345")

    assert documents.load(tmp_path / "four") == b"1234"
    with pytest.raises(BadInput) as large:
        documents.load(tmp_path / "five")
    with pytest.raises(Refused) as absent:
        documents.load(tmp_path / "absent")
    assert (large.value.code, absent.value.code) == ("document-too-large", "file-unreadable")
