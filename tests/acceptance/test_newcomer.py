"""A newcomer's way from ``poterne init`` to live, beside a real Orthanc, by the commands alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.hl7.mllp import MllpClient
from gateway.lab import raw_query
from gateway.lab.exams import DemoExam, demo_exams, numbered
from gateway.lab.orthanc import OrthancProcess
from tests.support.pacs import need_orthanc

pytestmark = pytest.mark.orthanc

EXAMS = demo_exams()[:3]
LATE = numbered(EXAMS[0], 41)


class Newcomer:
    """One folder, and what its person does in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "site" / "poterne.toml"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.bound: dict[str, str] = {}

    def poterne(self, *words: str, conf: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words, *(("--conf", str(self.conf)) if conf else ())],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
            env=os.environ | {"LC_ALL": "en_GB.UTF-8"},
        )

    def begin(self, orthanc: OrthancProcess) -> subprocess.CompletedProcess[str]:
        """Answer the questions of ``poterne init`` beforehand."""
        answers = {
            "tenant": "fantome",
            "name": "Centre d'imagerie FANTÔME",
            "institution_id": "101999999",
            "url": orthanc.url,
            "username": orthanc.username,
            "password": orthanc.password,
            "index_listen": f"127.0.0.1:{free_port()}",
            "hl7_listen": "127.0.0.1:0",
            "ops_listen": "127.0.0.1:0",
            "platform": "yes",
        }
        given = [word for key, value in answers.items() for word in ("--answer", f"{key}={value}")]
        made = self.poterne("init", str(self.conf.parent), "--no-input", *given, conf=False)
        assert made.returncode == 0, made.stderr
        return made

    def done(self, *words: str) -> str:
        ran = self.poterne(*words)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def start(self, *words: str) -> None:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        with (self.folder / f"{'-'.join(words)}.log").open("ab") as log:
            self.running[words[0]] = process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", *words, "--conf", str(self.conf), "--ready-file", str(ready)],
                stdout=log,
                stderr=log,
            )
        until(lambda: ready.exists() or process.poll() is not None, 20)
        assert process.poll() is None, Path(log.name).read_text()
        self.bound |= json.loads(ready.read_text())

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0

    async def report(self, *exams: DemoExam) -> None:
        """Send reports as the RIS does."""
        host, _, port = self.bound["hl7:fantome"].rpartition(":")
        async with await MllpClient.connect(host, int(port)) as client:
            for exam in exams:
                assert "MSA|AA|" in (await client.send(exam.message)).decode()

    def entries(self, exam: DemoExam) -> list[str]:
        """The documents that the index shows for an exam, asked by raw SOAP."""
        source = next(line for line in self.conf.read_text().splitlines() if line.startswith("source_id")).split('"')[
            1
        ]
        ran = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                raw_query.__file__,
                f"http://{self.bound['index']}/xds/registry",
                "--patient",
                exam.patient_cx,
                "--reference",
                f"{exam.study}^^^&{source}&ISO^urn:ihe:iti:xds:2016:studyInstanceUID",
            ],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return [json.loads(line)["unique_id"] for line in ran.stdout.splitlines()]

    def stands(self) -> dict[str, int]:
        return json.loads(self.done("queue", "--json"))["exams"]


def until(holds: Callable[[], bool], within_s: float = 15) -> None:
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    one = Newcomer(tmp_path)
    yield one
    for process in one.running.values():
        process.kill()
        process.wait()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[OrthancProcess]:
    need_orthanc()
    process = OrthancProcess.start(tmp_path / "orthanc")
    yield process
    process.stop()


async def test_a_newcomer_publishes_in_shadow_mode_then_for_real_each_exam_once(
    newcomer: Newcomer, orthanc: OrthancProcess
) -> None:
    for exam in (*EXAMS, LATE):
        orthanc.load(exam.images())
    made = newcomer.begin(orthanc)
    assert "The PACS answers." in made.stdout
    assert orthanc.password not in made.stdout + newcomer.conf.read_text()

    newcomer.start("index", "serve")
    newcomer.start("serve")
    looked = newcomer.poterne("doctor")
    assert looked.returncode == 0, looked.stdout

    await newcomer.report(*EXAMS)
    until(lambda: len(json.loads(newcomer.done("shadow", "--json"))[0]["ready"]) == len(EXAMS))
    told = newcomer.done("shadow")
    assert all(exam.study in told for exam in EXAMS)
    assert "3 exams would have been published" in told
    assert [newcomer.entries(exam) for exam in EXAMS] == [[], [], []]
    refused = newcomer.poterne("selftest")
    assert (refused.returncode, "[trial-shadow-mode]" in refused.stderr) == (2, True)

    newcomer.stop("serve")
    written = newcomer.conf.read_text()
    assert written.count('mode = "shadow"') == 1
    newcomer.conf.write_text(written.replace('mode = "shadow"', 'mode = "live"'))
    newcomer.start("serve")
    until(lambda: newcomer.stands() == {"indexed": len(EXAMS)})
    first = [newcomer.entries(exam) for exam in EXAMS]
    assert [len(found) for found in first] == [1, 1, 1]

    tried = [json.loads(line) for line in newcomer.done("selftest", "--json").splitlines()]
    assert [step["what"] for step in tried] == ["started", "indexed", "withdrawal-asked", "withdrawn"]
    assert newcomer.stands() == {"indexed": len(EXAMS), "withdrawn": 1}

    newcomer.done("queue", "pause", "--reason", "maintenance of the index")
    await newcomer.report(LATE)
    until(lambda: newcomer.stands().get("waiting") == 1)
    assert "maintenance of the index" in newcomer.done("queue")
    assert newcomer.entries(LATE) == []
    newcomer.done("queue", "resume")
    until(lambda: newcomer.stands().get("indexed") == len(EXAMS) + 1)
    assert len(newcomer.entries(LATE)) == 1
    assert [newcomer.entries(exam) for exam in EXAMS] == first


async def test_old_reports_are_taken_in_after_a_look_at_what_that_would_do(
    newcomer: Newcomer, orthanc: OrthancProcess
) -> None:
    exam, known, without = EXAMS
    for one in EXAMS:
        orthanc.load(one.images())
    folder = newcomer.folder / "reports"
    folder.mkdir()
    for one in (exam, known):
        (folder / f"{one.number}.hl7").write_bytes(one.message)
    (folder / "notes.txt").write_text("no report")
    newcomer.begin(orthanc)
    newcomer.start("serve")
    await newcomer.report(known)
    period = ("backload", "--from", "2026-01-11", "--to", "2026-01-13", "--reports", str(folder), "--json")

    seen = json.loads(newcomer.done(*period))
    assert seen["studies"] == {exam.study: "to-load", known.study: "under-way", without.study: "without-report"}
    assert (seen["left"], list(seen["unusable"])) == (1, [str(folder / "notes.txt")])
    assert sum(newcomer.stands().values()) == 1

    assert json.loads(newcomer.done(*period, "--go"))["answers"] == {"AA": 1}
    assert json.loads(newcomer.done(*period, "--go"))["answers"] == {}
    assert sum(newcomer.stands().values()) == 2

    newcomer.stop("serve")
    orthanc.stop()
    silent = newcomer.poterne("backload", "--from", "2026-01-01", "--to", "2026-01-31", "--json")
    assert silent.returncode == 1
    days = json.loads(silent.stdout)["unknown_days"]
    assert len(days) == 31
    assert sum(why == "not-asked" for why in days.values()) == 28
