"""The probe against real PACS: what it observes, what it must not do, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import structlog

from gateway.components import COMPONENTS
from gateway.lab.orthanc import OrthancProcess
from gateway.lab.pacs import LabPacs, PacsFault
from gateway.lab.pacs_http import LabPacsHttp
from gateway.lab.phantom import LabStudy
from gateway.pacs import capability
from gateway.pacs.capability import Capability
from gateway.pacs.dimse import DimsePeer
from gateway.pacs.probe import WeeklyProbe, probe, run_probe
from security.errors import Unavailable
from security.identity import Uid
from security.store.sqlite import SqliteStore
from tests.integration.outbox_lab import Hands
from tests.support.pacs import (
    dicomweb_peer,
    dimse_peer,
    invented,
    lab_pacs,
    lab_pacs_http,
    new_uid,
    orthanc,
    orthanc_peer,
)

__all__ = ["lab_pacs", "lab_pacs_http", "orthanc"]  # fixtures of this module


@pytest.fixture
def control() -> LabStudy:
    study = invented()
    study.add_series("CT", instances=3)
    return study


def lab_peer(pacs: LabPacs, control: LabStudy | None = None, **changes: object) -> DimsePeer:
    if control is not None:
        pacs.load(one.data for one in control.objects)
        changes["control"] = control.uid
    return dimse_peer(port=pacs.port, called_aet=pacs.aet, **changes)


async def quick_probe(peer, **changes) -> Capability:
    return await probe(peer, **{"silence_s": 0.1, **changes})


async def test_ff12_a_node_is_described_by_what_it_accepted_and_answered(lab_pacs: LabPacs, control: LabStudy):
    found = await quick_probe(lab_peer(lab_pacs, control))

    assert found.contexts == (
        "Study Root FIND: Explicit VR Little Endian",
        "Study Root FIND: Implicit VR Little Endian",
        "Verification: Explicit VR Little Endian",
        "Verification: Implicit VR Little Endian",
    )
    assert found.product.startswith("PYNETDICOM")
    assert not any(found.features.values())
    assert set(found.features) >= {"c-get", "c-move", "relational-queries"}
    assert found.counts == (
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "NumberOfSeriesRelatedInstances",
    )
    assert (found.empty, found.control, found.silence, found.parallel) == ("empty", "found", "kept", 8)
    assert found.round_trip_ms is not None


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (PacsFault.NO_COUNTS, {"counts": ()}),
        (PacsFault.LATIN1, {"charset": "ISO_IR 100", "charset_fits": True}),
        (PacsFault.LATIN1_UNLABELLED, {"charset": "none", "charset_fits": True}),  # default_charset fits
        (PacsFault.LATIN1_MISLABELLED, {"charset": "ISO_IR 192", "charset_fits": False}),
        (PacsFault.EMPTY, {"control": "missing", "counts": None, "charset": ""}),
        (PacsFault.IGNORES_KEYS, {"empty": "ignores-keys"}),
        (PacsFault.PENDING_FOREVER, {"empty": "empty", "control": "ignores-keys"}),
        (PacsFault.FAIL_STATUS, {"empty": "empty", "control": "status-0xC001"}),
        (PacsFault.ABORT_MID_FIND, {"control": "aborted", "silence": ""}),
    ],
)
async def test_ff12_each_quirk_is_seen(
    lab_pacs: LabPacs, control: LabStudy, fault: PacsFault, expected: dict[str, object]
):
    peer = lab_peer(lab_pacs, control)
    lab_pacs.fault = fault

    found = await quick_probe(peer, parallel=False)

    assert {name: getattr(found, name) for name in expected} == expected


async def test_ff12_the_number_of_associations_a_node_takes_at_once_is_found(lab_pacs: LabPacs):
    lab_pacs._entity.maximum_associations = 2

    found = await quick_probe(lab_peer(lab_pacs))

    assert found.parallel == 2
    assert [one.values for one in capability.meanings(found, questions_max=4) if "parallel" in one.values] == [
        {"parallel": 2}
    ]


async def test_a_node_that_closes_an_idle_association_is_seen(lab_pacs: LabPacs):
    lab_pacs._entity.network_timeout = 0.3

    found = await probe(lab_peer(lab_pacs), parallel=False, silence_s=1.5)

    assert found.silence == "closed"


async def test_the_probe_asks_for_nobody_and_for_the_control_study_alone(
    lab_pacs: LabPacs, control: LabStudy, monkeypatch: pytest.MonkeyPatch
):
    other = invented()
    other.add_series("CT")
    lab_pacs.load(one.data for one in other.objects)
    asked = []
    answering = LabPacs.matches

    def watched(self, level, keys):
        rows = answering(self, level, keys)
        asked.append((keys["StudyInstanceUID"], {row["StudyInstanceUID"] for row in rows}))
        return rows

    monkeypatch.setattr(LabPacs, "matches", watched)

    await quick_probe(lab_peer(lab_pacs, control))

    assert {study for study, _ in asked if study != control.uid} & {other.uid, ""} == set()
    assert {row for _, rows in asked for row in rows} == {control.uid}
    assert len(asked) <= 6


@pytest.mark.parametrize(("fault", "code"), [(PacsFault.REFUSE, "refused"), (PacsFault.HANG, "timeout")])
async def test_a_node_that_does_not_answer_leaves_no_record(
    lab_pacs: LabPacs, store: SqliteStore, fault: PacsFault, code: str
):
    lab_pacs.fault = fault
    peer = lab_peer(lab_pacs, timeout_s=5.0, deadline_s=0.5)

    report = await run_probe(tenant="nord", peer=peer, store=store, clock=Hands(), silence_s=0.1)

    assert (report.fault, report.capability) == (code, None)
    assert await store.read(lambda tx: capability.latest(tx, tenant="nord", pacs=peer.name)) is None


async def test_nothing_stays_open_after_a_probe(lab_pacs: LabPacs, control: LabStudy):
    peer = lab_peer(lab_pacs, control)
    await quick_probe(peer)
    ends = time.monotonic() + 5

    def ours() -> list[object]:
        open_now = psutil.Process().net_connections(kind="tcp")
        return [one for one in open_now if one.raddr and lab_pacs.port in {one.raddr.port, one.laddr.port}]

    def workers() -> list[str]:
        return [each.name for each in threading.enumerate() if each.name.startswith("bridge-")]

    while (ours() or workers()) and time.monotonic() < ends:
        await asyncio.sleep(0.05)
    assert (ours(), workers()) == ([], [])


@pytest.mark.orthanc
async def test_ff12_orthanc_is_described_by_rest_and_by_dicom(orthanc: OrthancProcess, control: LabStudy):
    orthanc.load(one.data for one in control.objects)

    by_rest = await quick_probe(orthanc_peer(orthanc, control=control.uid))
    peer = dimse_peer(port=orthanc.dicom_port, called_aet=orthanc.aet, control=control.uid)
    by_dicom = await quick_probe(peer, parallel=False)

    assert by_rest.product.startswith("Orthanc 1.")
    assert by_rest.features == {"bulk-content": True, "changes": True}
    assert (by_rest.empty, by_rest.control, by_rest.parallel) == ("empty", "found", 8)
    assert (by_dicom.features["c-get"], by_dicom.features["c-move"]) == (True, True)
    assert "Study Root FIND: Explicit VR Little Endian" in (by_dicom.contexts or ())
    assert (by_dicom.control, by_dicom.charset, by_dicom.charset_fits) == ("found", "ISO_IR 192", True)


@pytest.mark.orthanc
async def test_ff12_a_dicomweb_server_is_described_by_its_paging_and_counts(
    orthanc: OrthancProcess, control: LabStudy
):
    orthanc.load(one.data for one in control.objects)
    peer = dicomweb_peer(
        f"{orthanc.url}/dicom-web", username=orthanc.username, password=orthanc.password, control=control.uid
    )

    found = await quick_probe(peer)

    assert (found.kind, found.empty, found.control, found.parallel) == ("dicomweb", "empty", "found", 8)
    assert (found.features["limit"], found.features["offset"]) == (True, True)
    assert found.counts == ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")


async def test_ff12_a_dicomweb_server_that_ignores_offset_is_seen(
    lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp, control: LabStudy
):
    lab_pacs.load(one.data for one in control.objects)
    lab_pacs.fault = PacsFault.IGNORES_OFFSET

    found = await quick_probe(dicomweb_peer(lab_pacs_http.dicomweb_url, control=control.uid), parallel=False)

    assert found.features["offset"] is False


@pytest.mark.orthanc
async def test_a_wrong_password_is_named(orthanc: OrthancProcess):
    with pytest.raises(Unavailable) as refused:
        await probe(orthanc_peer(orthanc, password="wrong"))

    assert refused.value.code == "unauthorised"


@pytest.mark.dcmtk
async def test_ff12_dcmtks_node_is_described_with_its_limit(tmp_path: Path):
    executable = shutil.which("dcmqrscp")
    if executable is None:
        pytest.skip("no dcmqrscp on this machine (apt-get install dcmtk)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "db").mkdir()
    conf = tmp_path / "dcmqrscp.cfg"
    conf.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 3\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {tmp_path / 'db'} RW (10, 100mb) ANY\nAETable END\n"
    )
    node = subprocess.Popen([executable, "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        peer = dimse_peer(port=port, called_aet="QR", timeout_s=5.0)
        found = None
        ends = time.monotonic() + 10
        while found is None and time.monotonic() < ends:
            try:
                found = await quick_probe(peer)
            except Unavailable:
                await asyncio.sleep(0.1)
    finally:
        node.kill()
        node.wait()
    assert found is not None
    assert (found.product, found.empty) == ("OFFIS_DCMTK_367", "empty")
    assert 0 < (found.parallel or 0) <= 4
    assert found.features["c-move"] is True


# ── kept and compared ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = await SqliteStore.open(tmp_path / "gateway.db", COMPONENTS)
    yield made
    await made.close()


async def test_a_second_probe_tells_what_changed_since_the_first(
    lab_pacs: LabPacs, control: LabStudy, store: SqliteStore
):
    peer, clock = lab_peer(lab_pacs, control), Hands()
    first = await run_probe(tenant="nord", peer=peer, store=store, clock=clock, parallel=False, silence_s=0.1)
    clock.advance(60)
    lab_pacs.fault = PacsFault.NO_COUNTS

    second = await run_probe(tenant="nord", peer=peer, store=store, clock=clock, parallel=False, silence_s=0.1)

    assert (first.previous, first.differences) == (None, ())
    assert second.previous == first.at
    assert [one.what for one in second.differences] == ["counts"]


async def test_no_patient_value_is_in_the_record(lab_pacs: LabPacs, store: SqliteStore):
    study = invented(name="FANTÔME-SECRET^Zoé", patient_id="IPP-SECRET", description="SECRET")
    study.add_series("CT")

    await run_probe(
        tenant="nord", peer=lab_peer(lab_pacs, study), store=store, clock=Hands(), parallel=False, silence_s=0.1
    )

    kept = await store.read(lambda tx: tx.rows("SELECT record FROM pacs_capability"))
    assert len(kept) == 1
    assert not any(each in kept[0]["record"] for each in ("SECRET", "FANTÔME", "19700228", study.uid))


async def test_the_weekly_probe_waits_a_week_and_tells_what_changed(
    lab_pacs: LabPacs, lab_pacs_http: LabPacsHttp, control: LabStudy, store: SqliteStore
):
    lab_pacs.load(one.data for one in control.objects)
    clock, observed = Hands(), []
    weekly = WeeklyProbe(
        tenant="nord",
        peer=dicomweb_peer(lab_pacs_http.dicomweb_url, control=control.uid),
        store=store,
        clock=clock,
        observe=observed.append,
    )
    assert await weekly.step() is not None
    clock.advance(timedelta(days=6, hours=23).total_seconds())
    assert await weekly.step() is None
    lab_pacs.fault = PacsFault.NO_COUNTS
    clock.advance(7200)

    with structlog.testing.capture_logs() as logged:
        assert await weekly.step() is not None

    assert observed == ["pacs-changed"]
    assert [entry["what"] for entry in logged if entry["event"] == "pacs-changed"] == ["counts"]
    assert await weekly.step() is None


async def test_the_weekly_probe_outlives_a_pacs_that_is_down(store: SqliteStore):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    clock, stop = Hands(), asyncio.Event()
    weekly = WeeklyProbe(
        tenant="nord",
        peer=dimse_peer(port=port, called_aet="NOBODY", control=Uid(new_uid())),
        store=store,
        clock=clock,
        every_s=0.05,
    )

    with structlog.testing.capture_logs() as logged:
        running = asyncio.create_task(weekly.run(stop))
        await asyncio.sleep(0.5)
        assert not running.done()
        stop.set()
        await asyncio.wait_for(running, 5)

    assert {entry["reason"] for entry in logged if entry["event"] == "pacs-not-probed"} == {"unreachable"}
