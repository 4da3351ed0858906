"""``poterne selftest attack`` against a site that runs: every attack, what it got, the exit code."""

from __future__ import annotations

import asyncio
import json
import socket
import socketserver
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.attack.corpus import CORPUS
from gateway.lab.ris import LabExam, build_mdm
from gateway.lab.site import Site
from tests.acceptance.test_commands import poterne
from tests.unit.configuration import write


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.timeout(300)
async def test_a_running_site_stops_every_attack_of_the_command_and_takes_reports_afterwards(tmp_path: Path) -> None:
    doors = {kind: f"127.0.0.1:{_free_port()}" for kind in ("hl7", "ops", "dicom")}
    sections = {
        "ops": {"listen": doors["ops"]},
        "tenants.site.hl7": {"listen": doors["hl7"]},
        "tenants.site.dicom": {
            "listen": doors["dicom"],
            "folder": str(tmp_path / "received"),
            "segment": "trusted-lan",
        },
        "tenants.site.dicom.peers.scanner": {"aet": "SCANNER1", "networks": ["127.0.0.1"]},
    }
    async with Site(tmp_path / "site", settings=sections) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        gateway = await site.start_gateway()

        code, printed = await site.command("selftest", "attack", "--json")
        told = json.loads(printed)
        assert (code, told["through"]) == (0, 0), [one for one in told["attacks"] if not one["is_held"]]
        sent = Counter(one["door"].split(" ")[0] for one in told["attacks"])
        wanted = Counter(attack.door for attack in CORPUS if attack.door in doors) + Counter(dict.fromkeys(doors, 1))
        assert sent == wanted
        got = {one["attack"]: one["got"] for one in told["attacks"] if one["door"].startswith("hl7")}
        assert got == {
            "nul-in-message": "MSA AE",
            "no-msh": "MSA AR",
            "no-type": "MSA AR",
            "frame-without-end": "closed",
            "no-frame-at-all": "closed",
            "silent-connections": "in-service",
        }

        code, printed = await site.command("selftest", "attack", "--at", f"hl7={doors['hl7']}", "--lang", "fr")
        assert code == 0
        assert len(printed.splitlines()) == 7
        assert b"MSA|AA" in await site.report(build_mdm(LabExam())), "an honest sender is served afterwards"
        journal = await asyncio.to_thread(gateway.log.read_text)
        assert "Traceback" not in journal


class _Gullible(socketserver.BaseRequestHandler):
    """Says yes to whatever comes."""

    def handle(self) -> None:
        self.request.settimeout(0.2)
        with suppress(OSError):
            while self.request.recv(65_536):
                pass
        with suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def test_a_door_that_takes_everything_is_named_attack_by_attack_and_the_exit_code_is_1(tmp_path: Path) -> None:
    conf = str(write(tmp_path))
    with _Server(("127.0.0.1", 0), _Gullible) as gullible:
        threading.Thread(target=gullible.serve_forever, daemon=True).start()
        ran = poterne("selftest", "attack", "--at", f"ops=127.0.0.1:{gullible.server_address[1]}", "--conf", conf)
        gullible.shutdown()
    *lines, last = ran.stdout.splitlines()
    attacks = sum(attack.door == "ops" for attack in CORPUS)
    assert ran.returncode == 1
    assert sum("GOT THROUGH" in line and "HTTP 200" in line for line in lines) == attacks
    assert last == f"{attacks + 1} attacks, {attacks} got through"


def test_nothing_but_this_machine_is_attacked_at_anybodys_word(tmp_path: Path) -> None:
    conf = str(write(tmp_path))
    elsewhere = poterne("selftest", "attack", "--at", "ops=192.0.2.1:80", "--conf", conf)
    nonsense = poterne("selftest", "attack", "--at", "smtp=127.0.0.1:25", "--conf", conf)
    assert (elsewhere.returncode, "[attack-elsewhere]" in elsewhere.stderr) == (2, True)
    assert (nonsense.returncode, "[attack-door]" in nonsense.stderr) == (2, True)
