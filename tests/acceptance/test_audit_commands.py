"""``poterne audit``: who did what, and that nobody changed it since; beside a running gateway, and without one."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from security.audit.tree import includes
from security.audit.witness import read_line
from tests.acceptance.test_commands import ANSWERS, poterne


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A gateway that does not run, with a few records and a witness."""
    assert poterne("init", str(tmp_path / "site"), *ANSWERS).returncode == 0
    made = tmp_path / "site" / "poterne.toml"
    made.write_text(made.read_text().replace("[audit]\n", f'[audit]\nwitness_file = "{tmp_path / "witness"}"\n', 1))
    for what in (("pause", "--reason", "first look"), ("resume",), ("pause", "--reason", "second look")):
        assert poterne("queue", *what, "--conf", str(made)).returncode == 0
    return made


def database(conf: Path) -> Path:
    return conf.parent / "poterne.db"


def shown(conf: Path, *more: str) -> list[dict[str, object]]:
    ran = poterne("audit", "show", "--between", "2020-01-01", "2100-01-01", "--json", *more, "--conf", str(conf))
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_who_did_what_is_answered_and_the_question_is_part_of_the_trail(conf: Path) -> None:
    assert [entry["event"] for entry in shown(conf, "--event", "queue.*")] == [
        "queue.paused",
        "queue.resumed",
        "queue.paused",
    ]
    asked = shown(conf, "--event", "audit.read")
    assert len(asked) == 2
    assert str(asked[0]["detail"]).endswith("event queue.*")
    assert "(command line)" in str(asked[0]["actor"])
    assert [entry["seq"] for entry in shown(conf, "--rows", "2")] == [1, 2]


def test_a_moment_that_is_none_is_refused(conf: Path) -> None:
    ran = poterne("audit", "show", "--between", "yesterday", "2100-01-01", "--conf", str(conf))
    assert ran.returncode == 2
    assert "bad-moment" in ran.stderr


def test_a_trail_as_it_was_written_then_one_that_was_changed(conf: Path) -> None:
    ran = poterne("audit", "verify", "--json", "--conf", str(conf))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["is_intact"], found["records"], found["covered"], found["witnessed"]) == (True, 3, 3, 1)
    with sqlite3.connect(database(conf)) as opened:
        assert opened.execute("UPDATE audit_record SET actor = 'operator:nobody' WHERE seq = 2").rowcount == 1
    ran = poterne("audit", "verify", "--conf", str(conf), lang="fr")
    assert ran.returncode == 1
    assert "edited       2-2  le contenu a été modifié après son écriture" in ran.stdout
    assert "La trace a été altérée." in ran.stdout


def test_a_stranger_checks_the_proof_of_a_record(conf: Path) -> None:
    line = poterne("audit", "head", "--json", "--conf", str(conf)).stdout.strip()
    proof = json.loads(poterne("audit", "prove", "2", "--conf", str(conf)).stdout)
    head = read_line(proof["head"], where="the proof")
    assert line == proof["head"]
    assert json.loads(proof["record"])["event"] == "queue.resumed"
    path = [bytes.fromhex(one) for one in proof["path"]]
    assert includes(
        root=head.root, size=head.size, leaf=bytes.fromhex(proof["leaf"]), index=proof["index"], path=path
    )
    ran = poterne("audit", "prove", "99", "--conf", str(conf))
    assert ran.returncode == 2
    assert "no-record" in ran.stderr


def test_a_restore_is_told_by_the_trail_and_an_old_copy_put_back_by_hand_is_not(conf: Path, tmp_path: Path) -> None:
    file = tmp_path / "poterne.backup"
    assert poterne("backup", str(file), "--conf", str(conf)).returncode == 0
    yesterday = database(conf).read_bytes()
    for what in (("resume",), ("pause", "--reason", "third look")):
        assert poterne("queue", *what, "--conf", str(conf)).returncode == 0
    assert poterne("audit", "verify", "--conf", str(conf)).returncode == 0
    assert poterne("restore", str(file), "--replace", "--conf", str(conf)).returncode == 0
    ran = poterne("audit", "verify", "--conf", str(conf))
    assert ran.returncode == 0, ran.stdout
    assert "restored" in ran.stdout
    database(conf).write_bytes(yesterday)
    ran = poterne("audit", "verify", "--conf", str(conf))
    assert ran.returncode == 1
    assert "rolled-back" in ran.stdout
