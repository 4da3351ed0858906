"""The DICOM door of a running world: its exams hear what comes in, the lab PACS is asked."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE

from gateway.dimse.door import Exams, dicom_door
from gateway.dimse.emptying import Emptying
from gateway.lab.phantom import LabObject, LabStudy
from gateway.lab.ris import LabExam
from gateway.settings import DicomPeerSettings, DicomSettings
from indexer.ports import StudySource
from security.store.port import Row
from tests.fixtures.rejections import KO, body
from tests.support.dimse import send
from tests.support.world import TENANT, World

EXPLICIT = "1.2.840.10008.1.2.1"
MPPS = "1.2.840.10008.3.1.2.3.3"
IAN = "1.2.840.10008.5.1.4.33"
AET, NOTES = "POTERNE", "POTERNE_IOCM"
EVERYTHING = ["storage", "rejection-notes", "mpps", "availability"]


def imaged(one: LabExam, *, instances: int = 3, **patient: str) -> LabStudy:
    """What the modality made for the first study of the exam."""
    p = one.patient
    facts = {
        "patient_id": p.ipp,
        "name": f"{p.birth_name}^{p.first_given_name}",
        "birth_date": f"{p.birth_date:%Y%m%d}",
        "sex": p.sex,
    }
    made = LabStudy(study_uid=one.studies[0], accession=one.orders[0].accession_number, **{**facts, **patient})
    made.add_series("CT", instances=instances)
    return made


def named(one: LabExam, **changes: str) -> dict[str, str]:
    """The patient of an exam as a rejection note or a step names them."""
    p = one.patient
    facts = {
        "PatientID": p.ipp,
        "PatientName": f"{p.birth_name}^{p.first_given_name}",
        "PatientBirthDate": f"{p.birth_date:%Y%m%d}",
        "PatientSex": p.sex,
    }
    return facts | changes


@dataclass
class ImagingDoor:
    """The open door, and its senders. ``emptying``: the one look, at a moment of the test's choice."""

    w: World
    port: int
    folder: Path
    emptying: Emptying
    sources: list[StudySource] = field(default_factory=list)

    async def store(self, objects: Sequence[LabObject], *, aet: str = "SCU") -> list[int]:
        """C-STORE images to the storage AE."""
        wanted = [(str(one.sop_class), str(one.sop_instance), EXPLICIT, body(one.data)) for one in objects]
        return await asyncio.to_thread(send, self.port, wanted, aet=aet)

    async def note(
        self, part10: bytes, *, called: str = NOTES, aet: str = "SCU", sop_class: str = KO
    ) -> tuple[int, str]:
        """C-STORE a note by pynetdicom; status and Error Comment, (-1, "") when the association was refused."""
        return await asyncio.to_thread(_stored, self.port, part10, called, aet, sop_class)

    async def by_storescu(self, file: Path, *, called: str = NOTES) -> subprocess.CompletedProcess[str]:
        """C-STORE a file by DCMTK."""
        command = [
            "/usr/bin/storescu",
            "-v",
            "-R",
            "-aet",
            "SCU",
            "-aec",
            called,
            "127.0.0.1",
            str(self.port),
            str(file),
        ]
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
        )

    async def n_create(self, sop_class: str, uid: str, made: Dataset, *, aet: str = "SCU") -> tuple[int, str]:
        """N-CREATE; status and Error Comment, (-1, "") when its class was not accepted."""
        return await self._normalized(sop_class, aet, lambda one: one.send_n_create(made, sop_class, uid or None))

    async def n_set(self, uid: str, made: Dataset, *, aet: str = "SCU", sop_class: str = MPPS) -> tuple[int, str]:
        return await self._normalized(sop_class, aet, lambda one: one.send_n_set(made, sop_class, uid))

    async def _normalized(self, sop_class: str, aet: str, ask: Callable[[Any], Any]) -> tuple[int, str]:
        def work() -> tuple[int, str]:
            entity = AE(ae_title=aet)
            entity.add_requested_context(sop_class)
            association = entity.associate("127.0.0.1", self.port, ae_title=AET)
            if not association.is_established:
                return -1, ""
            try:
                if not association.accepted_contexts:
                    return -1, ""
                status, _ = ask(association)
                return status.Status, str(status.get("ErrorComment", ""))
            finally:
                association.release()

        return await asyncio.to_thread(work)

    async def empty(self, *, after_s: float = 31.0) -> None:
        """Time passes, and the inbox is looked through."""
        self.w.clock.advance(after_s)
        await self.emptying.step()

    async def rows(self) -> list[Row]:
        return await self.w.store.read(lambda tx: tx.rows("SELECT * FROM received_object ORDER BY object_id"))

    async def files(self) -> list[str]:
        """Names in the folder of received objects."""
        found = (self.folder / "received").glob("[0-9a-f][0-9a-f]/*")
        return sorted(path.name for path in found)

    async def timeline(self, study: str) -> list[tuple[str, str]]:
        rows = await self.w.store.read(
            lambda tx: tx.rows(
                "SELECT kind, summary FROM evidence WHERE study_uid = :s ORDER BY evidence_id", s=study
            )
        )
        return [(row["kind"], row["summary"]) for row in rows]

    async def audited(self, event: str) -> list[Row]:
        return await self.w.store.read(
            lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = :e ORDER BY seq", e=event)
        )


def _stored(port: int, part10: bytes, called: str, aet: str, sop_class: str) -> tuple[int, str]:
    from io import BytesIO

    from pydicom import dcmread
    from pydicom.uid import UID
    from pynetdicom.dimse_primitives import C_STORE

    entity = AE(ae_title=aet)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(sop_class, EXPLICIT)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    if not association.is_established:
        return -1, ""
    try:
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = UID(sop_class)
        request.AffectedSOPInstanceUID = dcmread(BytesIO(part10), stop_before_pixels=True, force=True).SOPInstanceUID
        request.DataSet = BytesIO(body(part10))
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        return int(answer.Status), str(answer.ErrorComment or "")
    finally:
        association.release()


@asynccontextmanager
async def imaging_door(
    w: World,
    folder: Path,
    *,
    sources: Sequence[StudySource] = (),
    room: Callable[[], bool] = lambda: True,
) -> AsyncIterator[ImagingDoor]:
    """The door of ``w``: SCU may send everything, SCANNER1 images alone. The inbox is looked through only on demand."""
    asked: list[StudySource] = list(sources) or [w.pacs]
    made: list[Emptying] = []
    settings = DicomSettings(
        listen="127.0.0.1:0",
        folder=folder / "received",
        notes_ae_title=NOTES,
        peers={
            "pacs": DicomPeerSettings(aet="SCU", networks=["127.0.0.1/32"], may=EVERYTHING),
            "scanner": DicomPeerSettings(aet="SCANNER1", networks=["127.0.0.1/32"]),
            "second": DicomPeerSettings(aet="SCANNER2", networks=["127.0.0.1/32"], may=["mpps"]),
        },
    )

    async def never(self: Emptying) -> None:
        made.append(self)
        await asyncio.Event().wait()

    running, Emptying.run = Emptying.run, never  # type: ignore[method-assign]
    try:
        async with dicom_door(
            settings,
            tenant=TENANT,
            store=w.store,
            vault=w.vault,
            clock=w.clock,
            room=room,
            free_bytes_min=0,
            observe=lambda _what, _outcome: None,
            exams=Exams(admission=w.admission, sources=asked, nudge=w.engine.nudge),
        ) as listener:
            await asyncio.sleep(0)
            yield ImagingDoor(w=w, port=listener.port, folder=folder, emptying=made[0], sources=asked)
    finally:
        Emptying.run = running  # type: ignore[method-assign]
