"""The lab PACS seen by DCMTK, and across a kill: the side that tests lean on is itself tested."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from gateway.lab.pacs import LabPacs, PacsProcess
from gateway.pacs.dimse import DimseSource
from gateway.pacs.orthanc import OrthancPeer
from indexer.study import Found
from tests.support.pacs import dicomweb_peer, dimse_peer, invented, lab_pacs, source_of

__all__ = ["lab_pacs"]  # fixtures of this module


def dcmtk(tool: str, *arguments: str) -> str:
    """Run a DCMTK program by its full path (pynetdicom installs others of the same names)."""
    path = Path("/usr/bin") / tool
    if not path.exists():
        reason = f"no {path} on this machine (apt-get install dcmtk)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.dcmtk
def test_dcmtk_gets_an_echo(lab_pacs: LabPacs):
    assert "Received Echo Response (Success)" in dcmtk(
        "echoscu", "-v", "-aec", "LABPACS", "127.0.0.1", str(lab_pacs.port)
    )


@pytest.mark.dcmtk
def test_dcmtk_stores_and_finds_at_every_level(lab_pacs: LabPacs, tmp_path: Path):
    study = invented(
        patient_id="IPP777", name="TEST-DUPONT^Zoe", issuer="CHU", referring_physician="", description=""
    )
    series = study.add_series("CT", instances=2)
    study.add_series("MR")
    study.write(tmp_path / "files")
    port = str(lab_pacs.port)
    dcmtk("storescu", "-aec", "LABPACS", "127.0.0.1", port, "+sd", str(tmp_path / "files"))

    def found(*keys: str) -> str:
        asked = [part for key in keys for part in ("-k", key)]
        return dcmtk("findscu", "-v", "-S", "-aec", "LABPACS", "127.0.0.1", port, *asked)

    by_name = found(
        "QueryRetrieveLevel=STUDY", "PatientName=TEST-D*", "StudyInstanceUID", "NumberOfStudyRelatedInstances"
    )
    by_list = found("QueryRetrieveLevel=STUDY", f"StudyInstanceUID=1.2.3\\{study.uid}", "PatientID")
    by_date = found("QueryRetrieveLevel=STUDY", "StudyDate=20260101-20260131", "StudyInstanceUID")
    images = found(
        "QueryRetrieveLevel=IMAGE", f"StudyInstanceUID={study.uid}", f"SeriesInstanceUID={series}", "SOPInstanceUID"
    )
    nothing = found("QueryRetrieveLevel=STUDY", "PatientName=PERSONNE*", "StudyInstanceUID")

    assert study.uid in by_name
    assert "[3 ]" in by_name or "[3]" in by_name
    assert "[IPP777]" in by_list
    assert study.uid in by_date
    assert all(made.sop_instance in images for made in study.objects[:2])
    assert study.objects[2].sop_instance not in images
    assert "Find Response: 1 (Pending)" not in nothing
    assert "Received Final Find Response (Success)" in nothing


@pytest.mark.dcmtk
def test_an_image_query_without_its_series_is_refused(lab_pacs: LabPacs):
    answer = dcmtk(
        "findscu", "-v", "-S", "-aec", "LABPACS", "127.0.0.1", str(lab_pacs.port),
        "-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=1.2.3", "-k", "SOPInstanceUID",
    )  # fmt: skip

    assert "DataSetDoesNotMatchSOPClass" in answer or "0xa900" in answer


async def test_ff01_what_the_lab_pacs_acknowledged_survives_a_kill(tmp_path: Path):
    study = invented()
    study.add_series("DX", instances=2)
    first = PacsProcess.start(tmp_path / "pacs")
    first.load(study.write(tmp_path / "files"))
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    second = PacsProcess.start(tmp_path / "pacs")
    source = DimseSource(dimse_peer(port=second.port, called_aet=second.aet))

    answer = await source.find(study.uid)

    await source.close()
    assert isinstance(answer, Found)
    assert len(answer.study.series[0].instances) == 2
    assert second.stop() == 0


async def test_the_lab_pacs_in_its_own_process_is_reached_by_its_three_doors(tmp_path: Path):
    study = invented()
    study.add_series("DX", instances=2)
    process = PacsProcess.start(tmp_path / "pacs")
    process.load(study.write(tmp_path / "files"))
    web, rest = process.settings("dicomweb"), process.settings("orthanc")
    peers = (
        dimse_peer(port=process.settings()["port"], called_aet=process.settings()["called_aet"]),
        dicomweb_peer(web["url"]),
        OrthancPeer(name="rest", url=rest["url"]),
    )
    sources = [source_of(peer) for peer in peers]

    answers = [await source.find(study.uid) for source in sources]

    for source in sources:
        await source.close()
    assert process.stop() == 0
    assert isinstance(answers[0], Found)
    assert answers[1] == answers[2] == answers[0]
