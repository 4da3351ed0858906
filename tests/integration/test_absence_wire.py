"""FF-54 on the wire: five ways in which a PACS fails to answer withdraw nothing, a real deletion withdraws one exam.

C-FIND, QIDO-RS and Orthanc's REST, without control study; Orthanc itself stands behind a relay that fails for it, and
another, empty Orthanc is what a restore of nothing leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.lab.orthanc import OrthancProcess
from gateway.lab.pacs import LabPacs, PacsFault
from gateway.pacs.source import PacsSource
from indexer.timeline import ExamState
from tests.integration.test_absence import an_hour, cancel, look, shown, stands
from tests.support.imaging import imaged
from tests.support.pacs import (
    dicomweb_peer,
    dimse_peer,
    lab_pacs,
    lab_pacs_http,
    orthanc,
    orthanc_peer,
    source_of,
)
from tests.support.reconciling import lab_exam
from tests.support.world import World, world

__all__ = ["lab_pacs", "lab_pacs_http", "orthanc"]  # fixtures of this module

FAULTS = [PacsFault.REFUSE, PacsFault.HANG, PacsFault.ABORT_MID_FIND, PacsFault.FAIL_STATUS, PacsFault.EMPTY]
DOORS = ["dimse-lab", "dicomweb-lab", "rest-lab", pytest.param("rest-orthanc", marks=pytest.mark.orthanc)]
STAYS, GOES = lab_exam(9301), lab_exam(9302)


@dataclass
class Relay:
    """Between the gateway and Orthanc. ``empty``: the port of one that holds nothing."""

    upstream: int
    empty: int
    fault: PacsFault | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            match self.fault:
                case PacsFault.REFUSE:
                    pass
                case PacsFault.HANG:
                    while await reader.read(1024):
                        pass
                case PacsFault.FAIL_STATUS:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(
                        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    await writer.drain()
                case fault:
                    await self._pass_on(reader, writer, fault)
        writer.transport.abort() if self.fault is not PacsFault.FAIL_STATUS else writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: PacsFault | None
    ) -> None:
        port = self.empty if fault is PacsFault.EMPTY else self.upstream
        from_orthanc, to_orthanc = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while data := await reader.read(65536):
                to_orthanc.write(data)
                await to_orthanc.drain()
            to_orthanc.close()

        asking = asyncio.create_task(ask())
        while data := await from_orthanc.read(65536):
            writer.write(data[: len(data) // 2] if fault is PacsFault.ABORT_MID_FIND else data)
            await writer.drain()
            if fault is PacsFault.ABORT_MID_FIND:
                break
        asking.cancel()
        to_orthanc.close()


@dataclass
class Site:
    """A published site before a PACS that can be broken."""

    w: World
    breaks: Callable[[PacsFault | None], None]
    deletes: Callable[[str], None]


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    door, _, behind = request.param.partition("-")
    fault = request.node.callspec.params.get("fault")
    deadline_s = 0.7 if fault is PacsFault.HANG else 30.0
    if behind == "lab":
        node: LabPacs = request.getfixturevalue("lab_pacs")
        face = request.getfixturevalue("lab_pacs_http")
        peer = {
            "dimse": dimse_peer(port=node.port, called_aet=node.aet, deadline_s=deadline_s),
            "dicomweb": dicomweb_peer(face.dicomweb_url, deadline_s=deadline_s),
            "rest": orthanc_peer(face, deadline_s=deadline_s),
        }[door]
        async with published(tmp_path, source_of(peer), node) as w:
            yield Site(w=w, breaks=lambda fault: setattr(node, "fault", fault), deletes=node.delete_study)
        return
    full: OrthancProcess = request.getfixturevalue("orthanc")
    empty = OrthancProcess.start(tmp_path / "empty", AuthenticationEnabled=False)  # takes the other one's password
    try:
        relay = Relay(upstream=full.http_port, empty=empty.http_port)
        server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with published(tmp_path, source_of(orthanc_peer(full, url=url, deadline_s=deadline_s)), full) as w:
            yield Site(w=w, breaks=lambda fault: setattr(relay, "fault", fault), deletes=full.delete_study)
        server.close()
    finally:
        empty.stop()
        for exam in (STAYS, GOES):
            full.delete_study(exam.studies[0])


@asynccontextmanager
async def published(folder: Path, source: PacsSource, node: LabPacs | OrthancProcess) -> AsyncIterator[World]:
    """Both exams in the PACS and in the index."""
    node.load(one.data for exam in (STAYS, GOES) for one in imaged(exam).objects)
    try:
        async with world(folder, source=source) as w:
            for exam in (STAYS, GOES):
                assert "MSA|AA|" in await w.report(exam)
                await w.settle()
            assert await shown(w, STAYS, GOES) == [1, 1]
            yield w
    finally:
        await source.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("site", DOORS, indirect=True)
async def test_ff54_no_failure_of_a_pacs_withdraws_anything_announced_or_not(site: Site, fault: PacsFault) -> None:
    w = site.w
    site.breaks(fault)
    for _ in range(2):
        for exam in (STAYS, GOES):
            w.clock.advance(1850)
            await look(w, exam, rounds=2)
    await w.raw(cancel(GOES))
    await w.settle(rounds=2)
    state, reason = await stands(w, GOES)
    assert (state, reason.startswith("pacs-")) == (ExamState.WAITING, True), reason
    if fault is PacsFault.EMPTY:
        assert reason == "pacs-witness-missing"
    assert w.index.switches.counts["ITI-57"] == 0, "no withdrawal was ever sent"
    assert await shown(w, STAYS, GOES) == [1, 1]
    site.breaks(None)
    await w.settle()
    assert [await look(w, exam) for exam in (STAYS, GOES)] == [(ExamState.INDEXED, "")] * 2


@pytest.mark.parametrize("site", DOORS, indirect=True)
async def test_ff54_a_real_deletion_withdraws_exactly_that_exam(site: Site) -> None:
    w = site.w
    site.deletes(GOES.studies[0])
    assert await look(w, GOES) == (ExamState.WAITING, "pacs-absent-once")
    assert await shown(w, STAYS, GOES) == [1, 1]
    await an_hour(w, GOES)
    await an_hour(w, STAYS)
    assert await shown(w, STAYS, GOES) == [1, 0]
    assert w.index.switches.counts["ITI-57"] == 1
