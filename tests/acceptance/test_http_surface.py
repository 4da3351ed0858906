"""What both HTTP listeners of a running site answer to requests that schemathesis makes up from their documents: nothing
undocumented, and never 500 (T20 to T28).

The console is asked without an account, and as an operator: forms without their token change nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from gateway.lab.person import LabPerson
from gateway.lab.site import Site
from tests.support.openapi import DOORS, FOLDER, written

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,unsupported_method"
"""Not what Allow says: an address may be of two templates, and Allow then tells the methods of both."""
EXAMPLES_FULL = 150


@pytest.mark.parametrize("door", DOORS)
def test_the_document_is_that_of_the_routes_that_are_there(door: str) -> None:
    assert (FOLDER / f"{DOORS[door]}.json").read_text(encoding="utf-8") == written(door)


def ask(door: str, url: str, *more: str, examples: int, folder: Path) -> str:
    """Ask a listener by its document: each limit of each parameter, and so many ``examples`` at random of each address;
    what was not answered as documented, "" when everything was."""
    phases = "coverage,fuzzing" if examples else "coverage"
    report = folder / f"{DOORS[door]}.json"
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(FOLDER / f"{DOORS[door]}.json"), "--url", url),
        *("--checks", CHECKS, "--phases", phases, "--max-examples", str(examples or 1), "--no-color"),
        *("--continue-on-failure", "--seed", "7", "--request-timeout", "20", "--max-redirects", "0"),
        *("--exclude-path", "/console"),  # only leads to /console/, whose application answers for its other methods
        *(
            "--suppress-health-check",
            "all",
            "--warnings",
            "off",
            "--report",
            "json",
            "--report-json-path",
            str(report),
        ),
        *more,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**environ, "NO_PROXY": "*"},
        timeout=900,
    )
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested is not None, done.stdout[-3000:] + done.stderr[-3000:]
    print(f"\n{door}: {tested[0]}")
    return done.stdout[-12_000:] if done.returncode else ""


async def signed_in(ops: str, person: LabPerson) -> str:
    """The Cookie header of a session."""
    headers = {"Origin": f"http://{ops}"}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers) as http:
        async with http.get(f"http://{ops}/console/login") as answer:
            csrf = re.search(r'name="csrf" value="([^"]+)"', await answer.text())
        assert csrf is not None
        form = {
            "csrf": csrf[1],
            "name": person.name,
            "password": person.password,
            "code": person.code(datetime.now(UTC)),
        }
        async with http.post(f"http://{ops}/console/login", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
        return "; ".join(f"{one.key}={one.value}" for one in http.cookie_jar)


async def surface(folder: Path, examples: int) -> None:
    async with Site(folder / "site") as site:
        await site.start_pacs(prefer_orthanc=False)
        index = await site.start_index()
        gateway = await site.start_gateway()
        ops = gateway.bound["ops"]
        cookie = await signed_in(ops, await site.person("ola", "operator"))
        own = folder / "own.pem"
        own.write_bytes(site._pairs["gateway"].certificate.read_bytes() + site._pairs["gateway"].key.read_bytes())
        failures = []
        for door, url, more in (
            ("ops", f"http://{ops}", ()),
            ("ops", f"http://{ops}", ("-H", f"Cookie:{cookie}", "-H", f"Origin:http://{ops}")),
            (
                "index node",
                f"https://{index.bound['index']}",
                ("--tls-verify", str(site._authority.certificate), "--request-cert", str(own)),
            ),
        ):
            failures.append(await asyncio.to_thread(ask, door, url, *more, examples=examples, folder=folder))
        assert not any(failures), "\n".join(failures)
        for log in (gateway.log, index.log):
            events = [json.loads(line) for line in log.read_text().splitlines()]
            ours = [one for one in events if one.get("logger") != "aiohttp.server"]  # what is no HTTP is its to tell
            assert [one for one in ours if one["level"] in {"error", "critical"} or "exception" in one] == []


@pytest.mark.timeout(600)
async def test_nothing_that_schemathesis_makes_up_gets_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    await surface(tmp_path, 0)


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_many_requests_that_schemathesis_makes_up_get_documented_answers(tmp_path: Path) -> None:
    await surface(tmp_path, EXAMPLES_FULL)
