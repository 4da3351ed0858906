"""PACS for tests: the lab PACS, the machine's Orthanc, and invented exams to put into them.

Fixtures are imported by name from a ``conftest.py`` or a test module. One Orthanc serves the whole session, so a
test uses studies of its own (``invented``) and never deletes others'.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.lab.orthanc import OrthancProcess, available
from gateway.lab.pacs import LabPacs
from gateway.lab.pacs_http import LabPacsHttp
from gateway.lab.phantom import LabStudy
from gateway.pacs.dicomweb import DicomWebPeer, DicomWebSource
from gateway.pacs.dimse import DimsePeer, DimseSource
from gateway.pacs.orthanc import OrthancPeer, OrthancSource
from gateway.pacs.source import PacsSource
from security.identity import Uid


def need_orthanc() -> None:
    """Skip without Debian's Orthanc, fail where CI must have it."""
    if available() is None:
        reason = "no Orthanc on this machine (apt-get install orthanc)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def new_uid() -> str:
    """A UID nobody used before."""
    return f"2.25.{uuid.uuid4().int}"


def invented(**changes: str) -> LabStudy:
    """An empty exam of an invented person, with a UID of its own."""
    facts = {
        "study_uid": new_uid(),
        "patient_id": f"IPP{uuid.uuid4().hex[:8]}",
        "issuer": "CHU-FANTÔME",
        "name": "FANTÔME-ÇIÈRÊS^Zoé Anaïs",
        "birth_date": "19700228",
        "sex": "F",
        "accession": "ACC-0001",
        "date": "20260112",
        "time": "093015",
        "description": "Scanner thoracique à l'été",
        "referring_physician": "MÉDECIN^Noëlle",
    }
    return LabStudy(**(facts | changes))


def control_in(pacs: LabPacs | OrthancProcess) -> Uid:
    """A study that this PACS holds from now on and that proves its absences (``control_study``)."""
    control = invented()
    control.add_series("CT", instances=1)
    pacs.load(made.data for made in control.objects)
    return control.uid


def dimse_peer(*, port: int, called_aet: str, **changes: object) -> DimsePeer:
    """A peer on loopback with deadlines for tests."""
    facts = {"name": "pacs", "host": "127.0.0.1", "calling_aet": "POTERNE", "timeout_s": 20.0, "deadline_s": 60.0}
    return DimsePeer(**(facts | {"port": port, "called_aet": called_aet} | changes))  # type: ignore[arg-type]


def orthanc_peer(orthanc: OrthancProcess | LabPacsHttp, **changes: object) -> OrthancPeer:
    """That Orthanc by REST, or the lab's face of one."""
    known = isinstance(orthanc, OrthancProcess)
    facts = {
        "name": "orthanc",
        "url": orthanc.url,
        "username": orthanc.username if known else "",
        "password": orthanc.password if known else "",
        "timeout_s": 20.0,
        "deadline_s": 60.0,
    }
    return OrthancPeer(**(facts | changes))  # type: ignore[arg-type]


def dicomweb_peer(url: str, **changes: object) -> DicomWebPeer:
    """A QIDO-RS service on loopback with deadlines for tests."""
    facts = {"name": "dicomweb", "url": url, "timeout_s": 20.0, "deadline_s": 60.0}
    return DicomWebPeer(**(facts | changes))  # type: ignore[arg-type]


def source_of(peer: DimsePeer | DicomWebPeer | OrthancPeer) -> PacsSource:
    """The adapter of that peer."""
    match peer:
        case DimsePeer():
            return DimseSource(peer)
        case DicomWebPeer():
            return DicomWebSource(peer)
        case OrthancPeer():
            return OrthancSource(peer)


@pytest.fixture
def lab_pacs(tmp_path: Path) -> Iterator[LabPacs]:
    """An empty lab PACS of the test's own."""
    with LabPacs(tmp_path / "lab-pacs") as pacs:
        yield pacs


@pytest.fixture
def lab_pacs_http(lab_pacs: LabPacs) -> Iterator[LabPacsHttp]:
    """The same lab PACS by HTTP."""
    with LabPacsHttp(lab_pacs) as face:
        yield face


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancProcess]:
    """The session's Orthanc."""
    need_orthanc()
    process = OrthancProcess.start(tmp_path_factory.mktemp("orthanc"))
    yield process
    process.stop()
