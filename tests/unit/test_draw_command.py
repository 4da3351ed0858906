"""``poterne draw``: files in, a transcript out, exit codes, words in two languages."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from gateway import draws, faults
from gateway.cli import app
from sampler.draw import checks, notes, verifier
from sampler.draw import faults as refusals
from sampler.draw.table import lines_of
from sampler.draw.transcript import written
from security.errors import Fault
from tests.corpus import corpus
from tests.unit.test_draw_checks import AGREED, FRAME, GIVEN, SEEDS, TIMES, WHOLE, flip, voided

CLI = CliRunner()
KEY = bytes(range(32))


@pytest.fixture
def shelf(tmp_path):
    """Files of a draw."""
    (tmp_path / "frame.csv").write_text("".join(lines_of(FRAME)))
    (tmp_path / "protocol.json").write_text(json.dumps(AGREED))
    (tmp_path / "seeds.json").write_text(json.dumps(SEEDS))
    (tmp_path / "times.json").write_text(
        json.dumps({"committed_at": TIMES.committed_at, "revealed_at": TIMES.revealed_at})
    )
    key = tmp_path / "key"
    key.write_text(KEY.hex() + "\n")
    key.chmod(0o600)
    return tmp_path


def run(shelf, *more, out="t.json", lang="en"):
    files = [str(shelf / name) for name in ("frame.csv", "protocol.json", "seeds.json")]
    return CLI.invoke(app, ["draw", "run", *files, "--out", str(shelf / out), "--lang", lang, *map(str, more)])


def verify(shelf, *more, name="t.json", lang="en"):
    return CLI.invoke(app, ["draw", "verify", str(shelf / name), "--lang", lang, *map(str, more)])


def test_a_draw_is_run_signed_and_verified_by_both_ways(shelf):
    done = run(shelf, "--key", shelf / "key", "--times", shelf / "times.json", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["key"] == "file"
    assert facts["selected"] == WHOLE["body"]["selected"]
    told = verify(shelf, "--frame", shelf / "frame.csv", "--public-key", facts["public_key"], "--strict", "--json")
    assert told.exit_code == 0
    found = json.loads(told.stdout)
    assert (found["ok"], found["failed"], found["differing"], found["notes"]) == (True, [], [], [])
    assert [one["outcome"] for one in found["steps"]] == ["ok"] * len(checks.STEPS)


def test_the_same_inputs_give_the_same_bytes_in_two_processes(shelf):
    for out in ("one.json", "two.json"):
        command = [sys.executable, "-m", "gateway.cli", "draw", "run", "frame.csv", "protocol.json", "seeds.json"]
        command += ["--key", "key", "--times", "times.json", "--out", out]
        environ = os.environ | {"PYTHONHASHSEED": out.replace("one.json", "1").replace("two.json", "2")}
        done = subprocess.run(command, cwd=shelf, check=True, timeout=60, capture_output=True, env=environ)
        assert done.returncode == 0
    assert (shelf / "one.json").read_bytes() == (shelf / "two.json").read_bytes()


def test_without_a_key_a_throw_away_one_signs_and_that_is_said(shelf):
    done = run(shelf)
    assert done.exit_code == 0
    assert "throw-away key" in done.stderr
    assert "for want of --times" in done.stderr
    assert verify(shelf, "--frame", shelf / "frame.csv").exit_code == 0
    assert json.loads(run(shelf, "--json").stdout)["key"] == "throw-away"


@pytest.mark.parametrize("form", ["pem", "raw"])
def test_a_key_may_be_pem_or_raw(shelf, form):
    key = Ed25519PrivateKey.from_private_bytes(KEY)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (shelf / "key").write_bytes(pem if form == "pem" else KEY)
    facts = json.loads(run(shelf, "--key", shelf / "key", "--json").stdout)
    assert facts["public_key"] == key.public_key().public_bytes_raw().hex()


@pytest.mark.parametrize(
    ("data", "mode", "code"),
    [(b"no key", 0o600, "draw-key"), (KEY[:31], 0o600, "draw-key"), (KEY, 0o644, "secret-exposed")],
)
def test_a_key_that_is_none_or_that_others_may_read_signs_nothing(shelf, data, mode, code):
    (shelf / "key").write_bytes(data)
    (shelf / "key").chmod(mode)
    done = run(shelf, "--key", shelf / "key")
    assert isinstance(done.exception, Fault)
    assert done.exception.code == code
    assert not (shelf / "t.json").exists()


def test_one_party_that_reveals_something_else_gets_no_draw(shelf):
    committed = {"auditor": "0" * 64, "site": "0" * 64}
    (shelf / "seeds.json").write_text(json.dumps(SEEDS | {"commitments": committed}))
    done = run(shelf, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["code"] == "E_COMMIT_MISMATCH"
    assert not (shelf / "t.json").exists()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("unit,stratum,practitioner\n", "E_EMPTY_FRAME"),
        ("unit,stratum,practitioner\na,CT,p\na,CT,p\n", "E_DUPLICATE_UNIT"),
        ("unit,stratum,practitioner\na|b,CT,p\n", "E_TOKEN"),
        ("unit,stratum,practitioner\nDUPONT Zoé,CT,p\n", "E_TOKEN"),
        ("unit,stratum,practitioner\na,CT,p\n", "E_N_GT_STRATUM"),
    ],
)
def test_a_frame_that_cannot_be_drawn_from_ends_with_1_its_code_and_french_words(shelf, text, code):
    (shelf / "frame.csv").write_bytes(text.encode("latin-1"))
    done = run(shelf, lang="fr")
    assert done.exit_code == 1
    assert f"[{code}]" in done.stderr
    assert not (shelf / "t.json").exists()
    assert "DUPONT" not in done.output


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("seeds.json", b"{", "json-syntax"),
        ("seeds.json", b"{}", "json-shape"),
        ("seeds.json", b"[]", "json-shape"),
        ("protocol.json", b'{"spec": 1, "spec": 2}', "json-duplicate-member"),
        ("frame.csv", b"a,b\n", "frame-table"),
        ("protocol.json", None, "draw-file"),
        ("frame.csv", None, "draw-file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(shelf, name, data, code):
    (shelf / name).unlink()
    if data is not None:
        (shelf / name).write_bytes(data)
    done = run(shelf)
    assert isinstance(done.exception, Fault)  # main tells it and ends with 2
    assert done.exception.code == code


def test_a_fault_of_a_file_ends_the_command_with_2(shelf):
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "draw", "verify", str(shelf / "none.json")],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"LC_ALL": "fr_FR.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "Un fichier ne peut être lu ou écrit." in done.stderr
    assert "none.json" in done.stderr


def test_the_transcript_never_replaces_a_file_that_was_read(shelf):
    (shelf / "before.json").write_bytes(written(voided()))
    (shelf / "seeds.json").write_text(json.dumps(SEEDS | {"draw_no": 2}))
    done = run(shelf, "--prev", shelf / "before.json", out="before.json")
    assert done.exception.code == "draw-out"
    assert (shelf / "before.json").read_bytes() == written(voided())


def test_a_folder_that_is_not_there_leaves_no_half_file(shelf):
    done = run(shelf, out="no/t.json")
    assert done.exception.code == "draw-file"


def test_a_voided_draw_is_written_and_the_next_one_follows_it(shelf):
    committed = {role: WHOLE["body"]["commitments"][role] for role in GIVEN}
    stopped = {"draw_no": 1, "commitments": committed, "contributions": {"auditor": GIVEN["auditor"]}}
    (shelf / "seeds.json").write_text(json.dumps(stopped | {"voided": {"by": "site", "reason": "NO_REVEAL"}}))
    assert run(shelf, out="first.json").exit_code == 0
    (shelf / "seeds.json").write_text(json.dumps(SEEDS | {"draw_no": 2}))
    assert run(shelf, "--prev", shelf / "first.json").exit_code == 0
    told = verify(shelf, "--frame", shelf / "frame.csv", "--prev", shelf / "first.json", "--json")
    assert (told.exit_code, json.loads(told.stdout)["failed"]) == (0, [])


def test_t50_the_failing_step_is_named_in_both_languages(shelf):
    whole = copy.deepcopy(WHOLE)
    whole["body"]["contributions"]["site"] = flip(whole["body"]["contributions"]["site"])
    (shelf / "t.json").write_bytes(written(whole))
    done = verify(shelf, lang="fr")
    assert done.exit_code == 1
    assert "étape en échec\u00a0: commitments, seed, signature" in done.stderr
    assert "failing step: commitments, seed, signature" in verify(shelf).stderr
    assert json.loads(verify(shelf, "--json").stdout)["failed"] == ["commitments", "seed", "signature"]


def test_what_is_unchecked_passes_unless_strictness_is_asked(shelf):
    (shelf / "t.json").write_bytes(written(WHOLE))
    assert verify(shelf).exit_code == 0
    assert verify(shelf, "--strict").exit_code == 1


def test_ways_that_differ_are_told_and_fail(shelf, monkeypatch):
    (shelf / "t.json").write_bytes(written(WHOLE))
    monkeypatch.setitem(verifier.CHECKS, "seed", lambda given: verifier.need(False, "planted"))
    done = verify(shelf, "--frame", shelf / "frame.csv")
    assert done.exit_code == 1
    assert "the two verifiers differ about: seed" in done.stderr


def test_the_stand_alone_verifier_is_handed_out_whole(shelf):
    told = CLI.invoke(app, ["draw", "verifier"]).stdout
    assert told == draws.source()
    (shelf / "v.py").write_text(told)
    (shelf / "t.json").write_bytes(written(WHOLE))
    command = [sys.executable, "-I", "-S", "v.py", "t.json", "--frame", "frame.csv"]
    assert subprocess.run(command, cwd=shelf, capture_output=True, timeout=60, check=False).returncode == 0


def test_every_step_note_and_refusal_has_words_for_people():
    assert tuple(draws.STEPS) == checks.STEPS
    assert tuple(draws.NOTES) == notes.NOTES
    codes = {value for value in vars(refusals).values() if isinstance(value, str) and value.startswith(draws.REFUSAL)}
    assert codes == set(refusals._HINTS)
    assert codes <= faults.FAULTS.keys()


@pytest.mark.corpus
@pytest.mark.parametrize("number", range(6))
def test_the_published_vectors_come_out_of_the_command(tmp_path, number):
    vector = json.loads(corpus("audit", "draw-vectors.json").read_text())["vectors"][number]
    rows = [
        "unit,stratum,practitioner",
        *(f"{o['unit']},{o['stratum']},{o['practitioner']}" for o in vector["frame"]),
    ]
    (tmp_path / "frame.csv").write_text("\n".join(rows))
    (tmp_path / "protocol.json").write_text(json.dumps(vector["protocol"]))
    seeds = {name: vector[name] for name in ("draw_no", "contributions", "commitments", "beacon")}
    seeds["replacements"] = vector["expect"].get("replacement_log", [])
    (tmp_path / "seeds.json").write_text(json.dumps(seeds))
    done = run(tmp_path, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["seed"] == vector["expect"]["seed"]
    assert facts["selected"] == vector["expect"]["selected"]
    assert facts["final"] == vector["expect"].get("final", vector["expect"]["selected"])
    assert verify(tmp_path, "--frame", tmp_path / "frame.csv").exit_code == 0
