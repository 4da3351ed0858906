"""An XDM archive of many exams written and read, into a file and into PostgreSQL: time for each exam, and memory that
does not grow with their number."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from gateway.lab.ris import LabExam
from indexer import kos
from indexer.assemble import assemble
from indexer.manifest import content_hash, edition, imprint
from indexer.ports import EntryFound
from indexer.study import Study
from indexer.xds.metadata import submission
from security.store.place import PostgresPlace
from security.store.port import Tx
from tests.benchmarks.figures import Figure, publish
from tests.support import archives
from tests.support.reconciling import another_box, lab_exam
from tests.support.world import TENANT, World, world

EXAMS = int(os.environ.get("POTERNE_BENCH_EXAMS", "2000"))
pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]


def shown(w: World, tx: Tx, exam: LabExam, study: Study) -> None:
    """What the ledger holds once the exam was published: the engine and the index are not what is measured."""
    stated = w.ledger.reports_of(tx, TENANT, study.uid)[0].stated
    manifest, context = assemble([stated.report], stated.envelope.ins, study, w.policy.site)
    digest, now = content_hash(manifest, context), w.clock.now().replace(microsecond=0)
    made = edition(tenant=TENANT, study=study.uid, version=1, content=digest, created_at=now, replaces=None)
    signed = imprint(made, zone=w.policy.timezone, manufacturer=w.policy.publisher.manufacturer)
    document = kos.encode(manifest, signed, profile="drim-m")
    w.ledger.add_manifest(
        tx,
        job_id=0,
        manifest=manifest,
        context=context,
        edition=made,
        content_hash=digest,
        submission=submission(manifest, context, made, document, w.policy.publisher),
    )
    entry = EntryFound(entry_uuid=f"urn:uuid:{exam.studies[0]}", unique_id=str(made.unique_id), status="Approved")
    w.ledger.add_entry(tx, TENANT, study.uid, version=1, entry=entry, now=now)


async def test_an_archive_of_many_exams(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    process = psutil.Process()

    def rss_mib() -> float:
        return process.memory_info().rss / 2**20

    async with world(tmp_path) as w:
        began = time.perf_counter()
        for number in range(EXAMS):
            exam = lab_exam(number)
            held = w.pacs.hold(exam, instances=20)
            await w.report(exam)
            await w.store.write(lambda tx, exam=exam, held=held: shown(w, tx, exam, held))
            w.pacs.studies.clear()
        made_s = time.perf_counter() - began
        before, began = rss_mib(), time.perf_counter()
        made = await archives.export(w, tmp_path / "many.zip")
        export_s, export_mib = time.perf_counter() - began, rss_mib() - before
        assert (made.exams, made.left_out) == (EXAMS, ())
        async with another_box(w, tmp_path / "b") as b:
            before, began = rss_mib(), time.perf_counter()
            taken = await archives.bring_in(b, tmp_path / "many.zip")
            import_s, import_mib = time.perf_counter() - began, rss_mib() - before
            assert taken.counts == {"imported": EXAMS}
        async with another_box(w, tmp_path / "c", place=postgres_place) as c:
            before, began = rss_mib(), time.perf_counter()
            taken = await archives.bring_in(c, tmp_path / "many.zip")
            postgres_s, postgres_mib = time.perf_counter() - began, rss_mib() - before
            assert taken.counts == {"imported": EXAMS}
    publish(
        "XDM archives",
        [
            Figure(what="exams", value=EXAMS, unit="exams"),
            Figure(what="making them before", value=made_s / EXAMS * 1000, unit="ms per exam"),
            Figure(what="archive", value=made.archives[0].bytes / 1024 / EXAMS, unit="KiB per exam"),
            Figure(what="export", value=export_s / EXAMS * 1000, unit="ms per exam"),
            Figure(what="memory that the export added", value=export_mib, unit="MiB"),
            Figure(what="import", value=import_s / EXAMS * 1000, unit="ms per exam"),
            Figure(what="memory that the import added", value=import_mib, unit="MiB"),
            Figure(what="import into PostgreSQL", value=postgres_s / EXAMS * 1000, unit="ms per exam"),
            Figure(what="memory that this import added", value=postgres_mib, unit="MiB"),
        ],
        conditions="20 instances an exam, one version each, SQLite unless it says otherwise, one process",
    )
