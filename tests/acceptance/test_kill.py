"""kill -9 at every named step of the main job: nothing acknowledged is lost, nothing is entered twice (F01).

One run learns the steps a report passes between its arrival and the index; then one gateway per step is killed
there, restarted, and must end with exactly one entry. The RIS does what a RIS does: without an answer it sends the
same message again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.lab.exams import DemoExam, demo_exams, numbered
from gateway.lab.site import Site
from security.errors import Unavailable

SETTINGS = {"outbox": {"visibility_s": 1.0, "retry_base_s": 0.2, "pacs_retry_base_s": 0.5}}


async def _report(site: Site, exam: DemoExam) -> bytes | None:
    """The answer to the report, None when the connection broke before one came."""
    try:
        return await site.report(exam.message)
    except (OSError, Unavailable, asyncio.IncompleteReadError):
        return None


async def _indexed(site: Site, exam: DemoExam) -> dict[str, object]:
    """Wait until the exam is indexed; its facts."""
    async with asyncio.timeout(40):
        while True:
            code, printed = await site.command("exam", exam.study, "--json")
            seen = json.loads(printed) if code == 0 else {"state": "", "steps": [], "printed": printed}
            if seen["state"] == "indexed":
                return seen
            await asyncio.sleep(0.2)


async def _steps(site: Site, exam: DemoExam, trace: Path) -> list[tuple[str, int]]:
    """Every step one report passes, with its number since the start of the process."""
    gateway = await site.start_gateway({"POTERNE_CRASH_TRACE": str(trace)})
    await asyncio.sleep(1.0)
    before = Counter(trace.read_text().split()) if trace.exists() else Counter()
    assert await _report(site, exam)
    await _indexed(site, exam)
    await gateway.end()
    after = Counter(trace.read_text().split())
    return [(name, number) for name in after for number in range(before[name] + 1, after[name] + 1)]


@pytest.mark.timeout(600)
async def test_f01_kill_at_every_named_step_loses_nothing_and_enters_nothing_twice(tmp_path: Path) -> None:
    await _kill_everywhere(tmp_path, _first_and_last)


@pytest.mark.full
@pytest.mark.timeout(1800)
async def test_f01_kill_at_every_passage_of_every_step(tmp_path: Path) -> None:
    await _kill_everywhere(tmp_path, lambda steps: steps)


async def _kill_everywhere(folder: Path, chosen: Callable[[list[tuple[str, int]]], list[tuple[str, int]]]) -> None:
    async with Site(folder, settings=SETTINGS) as site:
        await site.start_pacs(prefer_orthanc=False)
        await site.start_index()
        template = demo_exams()[0]
        first = numbered(template, 900)
        await site.load(first.images())
        steps = await _steps(site, first, folder / "trace")
        assert {
            "message-received",
            "store-before-commit",
            "store-after-commit",
            "attempt-committed",
            "request-sent",
            "answer-received",
            "outcome-committed",
            "ack-written",
        } <= {name for name, _ in steps}
        for number, (name, nth) in enumerate(chosen(steps)):
            exam = numbered(template, 901 + number)
            await site.load(exam.images())
            await _die_and_heal(site, exam, f"{name}#{nth}")


async def _die_and_heal(site: Site, exam: DemoExam, step: str) -> None:
    doomed = await site.start_gateway({"POTERNE_CRASH_AT": step})
    ack = await _report(site, exam)
    async with asyncio.timeout(20):
        assert await doomed.process.wait() == -9, f"{step} was never reached"
    healed = await site.start_gateway()
    while ack is None:
        ack = await _report(site, exam)
    assert b"\rMSA|AA|" in ack, f"{step}: {ack!r}"
    assert await _report(site, exam) == ack, f"{step}: the same message got another answer"
    await _indexed(site, exam)
    entries = await site.entries(patient=exam.patient_cx, study=exam.study)
    assert len(entries) == 1, f"{step}: {entries}"
    await healed.end()


def _first_and_last(steps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    ends: dict[str, list[int]] = {}
    for name, number in steps:
        ends.setdefault(name, []).append(number)
    return [(name, number) for name, numbers in ends.items() for number in sorted({numbers[0], numbers[-1]})]
