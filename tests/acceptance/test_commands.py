"""What commands say and answer when something is not as it should be: exit codes, both languages, JSON."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from contextvars import copy_context
from pathlib import Path
from unittest.mock import patch

import pytest

from gateway import cli, orders
from gateway.lab.ris import LabExam, build_oru
from gateway.settings import load

PACS = "http://127.0.0.1:9"  # the port that discards: nobody listens
ANSWERS = (
    *("--answer", "tenant=fantome", "--answer", "name=Centre FANTÔME", "--answer", "institution_id=101999999"),
    *("--answer", f"url={PACS}", "--answer", "hl7_listen=127.0.0.1:0", "--answer", "ops_listen=127.0.0.1:0"),
    *("--no-input", "--no-probe"),
)


Ran = subprocess.CompletedProcess[str]


def poterne(*words: str, lang: str = "en") -> Ran:
    """The command, from its entry point, in this process; its log is left as the tests have it."""
    out, error, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, {"LC_ALL": f"{lang}.UTF-8"}),
        patch.object(sys, "argv", ["poterne", *words]),
        patch("gateway.telemetry.configure_logging"),
        redirect_stdout(out),
        redirect_stderr(error),
    ):
        try:
            copy_context().run(cli.main)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    return Ran(args=words, returncode=code, stdout=out.getvalue(), stderr=error.getvalue())


def process(*words: str, lang: str = "en") -> Ran:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *words],
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        check=False,
        env=os.environ | {"LC_ALL": f"{lang}.UTF-8"},
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a gateway that has never run."""
    folder = tmp_path_factory.mktemp("empty") / "site"
    made = poterne("init", str(folder), *ANSWERS)
    assert made.returncode == 0, made.stderr
    return folder / "poterne.toml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a gateway that has a database and does not run."""
    folder = tmp_path_factory.mktemp("commands") / "site"
    assert poterne("init", str(folder), *ANSWERS).returncode == 0
    conf = folder / "poterne.toml"
    for words in (("pause", "--reason", "first look"), ("resume",)):
        assert poterne("queue", *words, "--conf", str(conf)).returncode == 0
    return conf


@pytest.mark.parametrize("words", [("queue",), ("shadow",), ("exam", "1.2.3")])
def test_before_the_first_start_a_command_says_what_makes_the_database(empty: Path, words: tuple[str, ...]) -> None:
    french = poterne(*words, "--conf", str(empty), lang="fr_FR")
    english = poterne(*words, "--conf", str(empty), "--lang", "en", lang="fr_FR")

    assert (french.returncode, english.returncode) == (2, 2)
    assert "le premier démarrage la crée\N{NO-BREAK SPACE}: poterne serve" in french.stderr
    assert "the first start makes it: poterne serve" in english.stderr
    assert not (empty.parent / "poterne.db").exists()


@pytest.mark.parametrize(
    ("words", "code", "french", "english"),
    [
        (("shadow", "--tenant", "nobody"), 2, "aucune entité juridique ne s’appelle nobody", "called nobody"),
        (("exam", "1.2.3", "--tenant", "nobody"), 2, "aucune entité juridique ne s’appelle nobody", "called nobody"),
        (("queue", "pause", "--reason", "x", "--tenant", "nobody"), 2, "s’appelle nobody", "known: fantome"),
        (("exam", "abc"), 2, "Ce n’est pas un StudyInstanceUID", "This is no StudyInstanceUID"),
        (("exam", "1.2.3"), 1, "aucun compte rendu n’a parlé de cet examen", "no report has spoken of this study"),
        (("queue", "resume"), 2, "rien à reprendre", "nothing to resume"),
        (("selftest",), 2, "La passerelle ne tourne pas", "The gateway is not running"),
        (("pacs", "probe", "nope"), 2, "n’a pas de PACS appelé nope", "has no PACS called nope"),
        (("backload", "--from", "2026-01-02", "--to", "2026-01-01"), 2, "--to est avant", "--to is before"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_language_of_the_person(
    site: Path, words: tuple[str, ...], code: int, french: str, english: str
) -> None:
    for lang, expected in (("fr", french), ("en", english)):
        ran = poterne(*words, "--conf", str(site), "--lang", lang)
        assert (ran.returncode, expected in ran.stderr) == (code, True), ran.stderr
        assert ran.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ("queue", "--lang", "de"),
        ("backload", "--from", "02/01/2026", "--to", "2026-01-03"),
        ("backload", "--from", "2026-01-01", "--to", "2026-01-03", "--reports", "/nowhere"),
        ("queue", "pause"),
    ],
)
def test_bad_usage_is_2_and_does_nothing(site: Path, words: tuple[str, ...]) -> None:
    ran = poterne(*words, "--conf", str(site))

    assert (ran.returncode, ran.stdout) == (2, "")


def test_a_message_that_was_not_taken_is_listed_with_its_reason_in_both_languages(site: Path) -> None:
    conf = ("--conf", str(site))
    assert "Aucun message" in poterne("queue", "refused", *conf, lang="fr").stdout
    message = b"MSH|^~\\&|RIS|SITE|C|D|20260101||SIU^S12|APPOINTMENT-1|P|2.5\rPID|1||IPP9||FANTOME^ODETTE\r"

    async def arrive() -> list[str]:
        async with orders.orders(load(site, {})) as order:
            told: list[str] = await order(
                "take", {"tenant": "fantome", "message": base64.b64encode(message).decode()}
            )
            return told

    assert asyncio.run(arrive()) == ["AR", "unsupported-type"]
    french, english = (poterne("queue", "refused", *conf, lang=lang).stdout for lang in ("fr", "en"))
    assert "APPOINTMENT-1" in french
    assert "the gateway does not read this type of message" in english
    assert "[unsupported-type]" in french
    assert "the gateway" not in french
    assert "FANTOME" not in french + english
    (kept,) = json.loads(poterne("queue", "refused", "--json", *conf).stdout)
    assert (kept["message_type"], kept["code"], kept["reason"]) == ("SIU^S12", "AR", "unsupported-type")


def test_an_exam_is_taken_out_and_let_back_by_a_person_with_a_reason(tmp_path: Path) -> None:
    site, exam = tmp_path / "site" / "poterne.toml", LabExam()
    assert poterne("init", str(site.parent), *ANSWERS).returncode == 0
    conf = ("--conf", str(site))

    async def arrive() -> list[str]:
        async with orders.orders(load(site, {})) as order:
            message = base64.b64encode(build_oru(exam)).decode()
            told: list[str] = await order("take", {"tenant": "fantome", "message": message})
            return told

    assert asyncio.run(arrive())[0] in {"AA", "AE"}
    study = exam.studies[0]
    assert poterne("exam", "withdraw", study, *conf).returncode == 2, "a reason is asked for"
    unknown = poterne("exam", "withdraw", "1.2.3", "--reason", "a wrong number", *conf)
    assert (unknown.returncode, "[unknown-exam]" in unknown.stderr) == (2, True)

    out = poterne("exam", "withdraw", study, "--reason", "asked for by the radiologist", *conf, lang="fr")
    assert (out.returncode, study in out.stdout) == (0, True)
    again = poterne("exam", "withdraw", study, "--reason", "asked for by the radiologist", *conf)
    assert (again.returncode, "[already-out]" in again.stderr) == (2, True)
    back = poterne("exam", "republish", study, "--reason", "it was another exam", *conf)
    assert (back.returncode, study in back.stdout) == (0, True)
    told = json.loads(poterne("exam", study, "--json", *conf).stdout)
    assert {"taken-out", "let-in"} <= {step["what"] for step in told["steps"]}


def test_a_pause_is_seen_with_who_and_why_by_people_and_programs_and_is_not_taken_twice(site: Path) -> None:
    conf = ("--conf", str(site))
    assert poterne("queue", "pause", "--reason", "maintenance", *conf).returncode == 0
    again = poterne("queue", "pause", "--reason", "another", *conf)
    told, facts = poterne("queue", *conf), json.loads(poterne("queue", "--json", *conf).stdout)
    assert poterne("queue", "resume", *conf).returncode == 0

    assert (again.returncode, "[already-paused]" in again.stderr) == (2, True)
    assert "PAUSED  fantome" in told.stdout
    assert "maintenance" in told.stdout
    assert (facts["exams"], facts["open"]) == ({}, [])
    assert [(pause["tenant"], pause["reason"]) for pause in facts["paused"]] == [("fantome", "maintenance")]


def test_facts_have_their_shape_when_there_is_nothing_yet(site: Path) -> None:
    shown = json.loads(poterne("shadow", "--json", "--conf", str(site)).stdout)
    checked = poterne("check", "--json", "--conf", str(site))

    assert [(one["tenant"], one["ready"], one["held"]) for one in shown] == [("fantome", [], {})]
    assert (checked.returncode, json.loads(checked.stdout)["usable"]) == (0, True)


def test_a_pacs_that_does_not_answer_is_1_and_named(site: Path) -> None:
    probed = poterne("pacs", "probe", "--json", "--conf", str(site))
    listed = poterne("backload", "--from", "2026-01-01", "--to", "2026-01-01", "--conf", str(site))

    assert (probed.returncode, json.loads(probed.stdout)["pacs"]) == (1, "principal")
    assert json.loads(probed.stdout)["fault"]
    assert listed.returncode == 1
    assert "the PACS gave no clean list" in listed.stdout


def test_init_without_a_person_ends_and_names_what_lacks(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = process("init", str(tmp_path / "site"), "--no-input")

    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--answer name=… --answer institution_id=…" in ran.stderr
    assert time.monotonic() - began < 10
    assert not (tmp_path / "site").exists()


def test_init_twice_leaves_the_first_as_it_is(site: Path) -> None:
    before = site.read_bytes()
    ran = poterne("init", str(site.parent), *ANSWERS)

    assert (ran.returncode, "[init-exists]" in ran.stderr) == (2, True)
    assert site.read_bytes() == before


def test_a_second_gateway_and_a_taken_port_are_2_and_say_what_to_do(site: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = site.read_text().replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{taken.getsockname()[1]}"', 1)
        other = site.with_name("taken.toml")
        other.write_text(text)
        other.chmod(0o600)
        refused = process("serve", "--conf", str(other))
    assert (refused.returncode, "[door-unavailable]" in refused.stderr) == (2, True), refused.stderr

    ready = tmp_path / "ready"
    first = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "serve", "--conf", str(site), "--ready-file", str(ready)],
        stderr=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 20
        while not ready.exists():
            assert time.monotonic() < ends
            time.sleep(0.05)
        second = process("serve", "--conf", str(site), lang="fr_FR")
    finally:
        first.terminate()
        first.wait(25)
    assert (second.returncode, "Un autre processus écrit dans cette base" in second.stderr) == (2, True)
    assert str(first.pid) in second.stderr


def test_an_index_node_that_is_not_described_is_2(site: Path) -> None:
    lines = site.read_text().splitlines()
    kept = lines[: lines.index("[index_node]")]
    bare = site.with_name("bare.toml")
    bare.write_text("\n".join(kept))
    bare.chmod(0o600)

    ran = poterne("index", "serve", "--conf", str(bare))

    assert (ran.returncode, "[index_node]" in ran.stderr) == (2, True)
