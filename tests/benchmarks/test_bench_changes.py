"""How fast a change log is caught up with: from a real Orthanc to committed jobs, against one GET per change."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from gateway.lab.orthanc import OrthancProcess
from gateway.lab.phantom import LabStudy
from gateway.lab.ris import LabExam, LabOrder
from gateway.pacs.changes import ChangeFollower
from security.store.port import ReadTx, Tx
from tests.benchmarks.figures import Figure, publish
from tests.support.pacs import need_orthanc, orthanc_peer
from tests.support.world import TENANT, World, world

pytestmark = [pytest.mark.bench, pytest.mark.orthanc, pytest.mark.timeout(600)]

EXAMS = 500
ROUNDS = 5
OURS = "ChangeFollower: pages, bulk-content, evidence, job, audit and cursor committed"
RIVAL = "requests: pages of 100, one GET /studies/{id} per StableStudy, nothing kept"


def _exams() -> list[LabExam]:
    arcs = "1.2.250.1.213.4.5.9"
    return [
        replace(
            LabExam(),
            studies=(f"{arcs}.2.{number}",),
            orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
            document_id=f"{arcs}.1.{number}",
        )
        for number in range(EXAMS)
    ]


def _image(exam: LabExam) -> bytes:
    person = exam.patient
    study = LabStudy(
        study_uid=exam.studies[0],
        patient_id=person.ipp,
        name=f"{person.birth_name}^{person.first_given_name}",
        birth_date=f"{person.birth_date:%Y%m%d}",
        sex=person.sex,
        accession=exam.orders[0].accession_number,
    )
    study.add_series("CT")
    return study.objects[0].data


def _fill(orthanc: OrthancProcess, exams: list[LabExam]) -> None:
    """Every exam's image by REST, four at once; then wait until Orthanc called each study stable."""
    images = [_image(exam) for exam in exams]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda image: orthanc.load([image]), images))
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        with orthanc._session() as session:
            rows = session.get(f"{orthanc.url}/changes?since=0&limit=100000", timeout=30).json()["Changes"]
        if sum(row["ChangeType"] == "StableStudy" for row in rows) == EXAMS:
            return
        time.sleep(0.5)
    raise AssertionError("Orthanc did not call every study stable")


@asynccontextmanager
async def _reported(folder: Path, exams: list[LabExam]) -> AsyncIterator[World]:
    """A world in which every exam is reported and nothing is under way."""
    async with world(folder) as w:
        for exam in exams:
            await w.report(exam)
        yield w


async def _ours(w: World, orthanc: OrthancProcess) -> float:
    def start_again(tx: Tx) -> None:
        tx.change("UPDATE outbox_job SET state = 'PUBLISHED'")
        tx.change("DELETE FROM pacs_cursor")
        tx.change("INSERT INTO pacs_cursor VALUES ('site', 'orthanc', 0, '', 0, 0)")

    def begun(tx: ReadTx) -> int:
        return len(tx.rows("SELECT 1 FROM outbox_job WHERE state = 'SETTLING'"))

    await w.store.write(start_again)
    follower = ChangeFollower(
        tenant=TENANT, peer=orthanc_peer(orthanc), store=w.store, ledger=w.ledger, clock=w.clock
    )
    try:
        started = time.perf_counter()
        while not (await follower.look()).is_last:
            pass
        took = time.perf_counter() - started
    finally:
        await follower.close()
    assert await w.store.read(begun) == EXAMS
    return EXAMS / took


def _rival(orthanc: OrthancProcess) -> float:
    """As most scripts on Orthanc's REST interface read its changes."""
    started, since, found = time.perf_counter(), 0, set()
    with requests.Session() as session:
        session.trust_env = False
        session.auth = (orthanc.username, orthanc.password)
        while True:
            page = session.get(f"{orthanc.url}/changes", params={"since": since, "limit": 100}, timeout=30).json()
            for change in page["Changes"]:
                if change["ChangeType"] == "StableStudy":
                    study = session.get(f"{orthanc.url}/studies/{change['ID']}", timeout=30).json()
                    found.add(study["MainDicomTags"]["StudyInstanceUID"])
            since = page["Last"]
            if page["Done"]:
                break
    assert len(found) == EXAMS
    return EXAMS / (time.perf_counter() - started)


async def test_bench_exams_read_from_changes_per_second(tmp_path: Path) -> None:
    need_orthanc()
    exams = _exams()
    orthanc = await asyncio.to_thread(OrthancProcess.start, tmp_path / "orthanc", StableAge=1)
    try:
        await asyncio.to_thread(_fill, orthanc, exams)
        async with _reported(tmp_path, exams) as w:
            rates: dict[str, list[float]] = {OURS: [], RIVAL: []}
            for _ in range(ROUNDS):
                rates[OURS].append(await _ours(w, orthanc))
                rates[RIVAL].append(await asyncio.to_thread(_rival, orthanc))
    finally:
        await asyncio.to_thread(orthanc.stop)
    ours, rival = (statistics.median(found) for found in rates.values())
    spread = ", ".join(f"{min(found):.0f}-{max(found):.0f}" for found in rates.values())
    publish(
        "changes",
        [
            Figure(what=OURS, value=ours, unit="exams/s", ratios={"the rival": ours / rival}),
            Figure(what=RIVAL, value=rival, unit="exams/s"),
        ],
        conditions=f"{EXAMS} reported exams of one image in a real Orthanc, every change of their arrival in its log; "
        f"median of {ROUNDS} ({spread})",
    )
    assert min(ours, rival) > 0
