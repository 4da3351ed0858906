"""T64: the wall clock of a running gateway is set elsewhere and back; nothing is lost, nothing goes out twice."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from gateway.lab.exams import DemoExam, demo_exams, numbered
from gateway.lab.site import Site
from tests.acceptance.test_kill import SETTINGS, _indexed

SEEN = {
    "-2h": {"clock-stepped", "trust tenants.site.index: certificate-not-yet-valid"},
    "+400d": {"certificate tenants.site.index.certificate_file", "exposed"},
}
"""The alerts of each step. Set forward, a clock is known by what it does: certificates end, work is late."""
_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def _library() -> str:
    found = sorted(Path("/").glob(_LIBRARIES.lstrip("/")))
    if not found and os.environ.get("CI") == "true":
        pytest.fail("faketime is not installed")
    if not found:
        pytest.skip("faketime is not installed")
    return str(found[0])


class Wall:
    """The wall clock of one process, ``offset`` away from ours; its monotonic clock is the true one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        self.set("+0")

    def set(self, offset: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.replace(self._file)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


async def _alerts(site: Site) -> list[dict[str, object]]:
    code, printed = await site.command(
        "audit", "show", "--between", "2000-01-01", "2100-01-01", "--event", "alert.opened", "--json"
    )
    assert code == 0, printed
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.full
@pytest.mark.orthanc
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", ["-2h", "+400d"])
async def test_t64_while_the_clock_is_wrong_reports_are_kept_and_once_it_is_right_each_exam_is_published_once(
    tmp_path: Path, step: str
) -> None:
    wall = Wall(tmp_path)
    async with Site(tmp_path / "site", settings=SETTINGS | {"alerts": {"every_s": 0.5}}) as site:
        await site.start_pacs()  # by REST: the reactor of pynetdicom does not run under faketime
        await site.start_index()
        gateway = await site.start_gateway(wall.environ)
        template = demo_exams()[0]
        exams: list[DemoExam] = [numbered(template, 800 + number) for number in range(3)]
        for exam in exams:
            await site.load(exam.images())

        async def report(exam: DemoExam) -> None:
            assert b"\rMSA|AA|" in await site.report(exam.message)

        await report(exams[0])
        await _indexed(site, exams[0])
        wall.set(step)
        await asyncio.sleep(1.5)
        await report(exams[1])
        async with asyncio.timeout(30):
            while not SEEN[step] <= {str(one["detail"]) for one in await _alerts(site)}:
                await asyncio.sleep(0.5)
        assert gateway.process.returncode is None
        wall.set("+0")
        await report(exams[2])
        for exam in exams:
            await _indexed(site, exam)
            assert len(await site.entries(patient=exam.patient_cx, study=exam.study)) == 1
        assert await gateway.end() == 0
