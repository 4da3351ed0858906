"""The exams A–Z of the national scenario table, as people live them: reports by MLLP, images in a PACS that is asked by
DICOM, entries in a real index node asked in SOAP. Every file is our own invention under the letters of the table.

What the table expects is inferred where the official matrix could not be read (drim-m §14).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from gateway.hl7.mllp import MllpClient, serve_mllp
from gateway.lab.orthanc import OrthancProcess
from gateway.lab.pacs import LabPacs
from gateway.lab.phantom import LabStudy
from gateway.lab.ris import LabExam, LabOrder, LabPatient, LabRequest, build_mdm, build_omi, build_oru
from gateway.pacs.source import PacsSource
from indexer.ports import EntryFound
from indexer.timeline import ExamState, deciding_job, exam_state
from tests.fixtures.rejections import TITLES, note
from tests.integration.test_dimse_senders import need
from tests.support.imaging import ImagingDoor, imaged, imaging_door, named
from tests.support.pacs import control_in, dimse_peer, lab_pacs, new_uid, orthanc, orthanc_peer, source_of
from tests.support.world import TENANT, World, world

__all__ = ["lab_pacs", "orthanc"]
ARCS = "1.2.250.1.213.4.5.9"
PATIENT = LabPatient(ipp="IPP-SCENES")
FLAGS = LabExam().flags
Build = Callable[..., bytes]


def exam(rank: int, **changes: object) -> LabExam:
    """The exam of a letter: its study, order and report share a number."""
    number = f"1{rank:02d}"
    facts: dict[str, object] = {
        "patient": PATIENT,
        "studies": (f"{ARCS}.2.{number}",),
        "orders": (LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
        "document_id": f"{ARCS}.1.4{rank:02d}",
        "set_id": f"{ARCS}.3.4{rank:02d}",
    }
    return LabExam(**(facts | changes))  # type: ignore[arg-type]


@dataclass
class Scene:
    """The place where an exam is played: the sender, the PACS, the index."""

    w: World
    pacs: LabPacs
    sender: MllpClient
    sent: int = 0
    held: dict[str, LabStudy] = field(default_factory=dict)
    source: PacsSource | None = None

    async def say(self, build: Build, one: LabExam, **words: object) -> str:
        """One message; MSA-1 and the reasons of its answer."""
        self.sent += 1
        ack = (await self.sender.send(build(one, control_id=f"S{self.sent}", **words))).decode()
        await self.w.settle()
        return ack

    def image(self, one: LabExam, *, series: int = 1, instances: int = 2, study: int = 0, keys: bool = False) -> None:
        """What the modality stored; ``keys``: and a key object selection in a series of its own."""
        made = LabStudy(
            study_uid=one.studies[study],
            patient_id=one.patient.ipp,
            name=f"{one.patient.birth_name}^{one.patient.first_given_name}",
            birth_date=f"{one.patient.birth_date:%Y%m%d}",
            sex=one.patient.sex,
            accession=one.orders[study].accession_number,
        )
        for _ in range(series):
            made.add_series("CT", instances=instances)
        self.held[one.studies[study]] = made
        for stored in made.objects:
            self.pacs.store(stored.data)
        if keys:
            self.pacs.store(_key_object(made.objects[0].data))

    async def shown(self, one: LabExam) -> list[str]:
        """Statuses of every entry of the patient that the index holds."""
        return sorted(status for _, status in await self.w.entries(one))

    async def codes(self, study: str) -> frozenset[str]:
        """Whom the approved entry of the study is hidden from, as the index tells it."""
        rows = await self.w.store.read(
            lambda tx: tx.rows(
                "SELECT unique_id FROM manifest WHERE study_uid = :s ORDER BY version DESC LIMIT 1", s=study
            )
        )
        entry = await self.w.client.find_document(rows[0]["unique_id"])
        assert isinstance(entry, EntryFound)
        assert entry.status == "Approved"
        return entry.codes or frozenset()

    async def stands(self, study: str) -> tuple[ExamState | None, str]:
        job = deciding_job(await self.w.jobs_of(study))
        return (exam_state(job), job.reason) if job else (None, "")

    async def manifest(self, study: str) -> tuple[int, int, bytes]:
        """Series, instances and metadata of the newest version."""
        rows = await self.w.store.read(
            lambda tx: tx.rows(
                "SELECT version, series, instances FROM manifest WHERE study_uid = :s ORDER BY version DESC LIMIT 1",
                s=study,
            )
        )
        sent = await self.w.store.read(lambda tx: self.w.ledger.submission_at(tx, TENANT, study, rows[0]["version"]))
        assert sent is not None
        return rows[0]["series"], rows[0]["instances"], sent.metadata


def _key_object(image: bytes) -> bytes:
    """A Key Object Selection Document beside the image (PS3.3 A.35.4), as far as a PACS lists it."""
    made = dcmread(BytesIO(image))
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        delattr(made, keyword)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.59"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{made.StudyInstanceUID}.9.1"
    made.SeriesInstanceUID, made.Modality, made.SeriesNumber = f"{made.StudyInstanceUID}.9", "KO", 9
    out = BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture
async def scene(tmp_path: Path, lab_pacs: LabPacs, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """A parameter says whether the index takes new metadata of an entry (ITI-57)."""
    updates = getattr(request, "param", False)
    source = source_of(dimse_peer(port=lab_pacs.port, called_aet=lab_pacs.aet, control=control_in(lab_pacs)))
    async with (
        world(tmp_path, source=source, updates_metadata=updates) as w,
        await serve_mllp("127.0.0.1", 0, w.intake.handle) as door,
        await MllpClient.connect("127.0.0.1", door.port) as sender,
    ):
        yield Scene(w=w, pacs=lab_pacs, sender=sender, source=source)
    await source.close()


NOMINAL = dict(zip("ABCDEHJKLNOPRSTVXYZ", range(1, 27), strict=False))
SHAPES = {"A": (3, 1, True), "H": (1, 617, False), "S": (2, 160, False), "J": (2, 62, False)}
"""Series, instances in each, and whether there is a key object: exam A carries one, H has 617 images, S 320, J 124."""


@pytest.mark.parametrize("letter", list(NOMINAL))
async def test_the_nominal_exams_are_published_once_with_every_image(scene: Scene, letter: str) -> None:
    one = exam(NOMINAL[letter])
    series, instances, keys = SHAPES.get(letter, (1, 2, False))
    scene.image(one, series=series, instances=instances, keys=keys)
    assert "MSA|AA|" in await scene.say(build_mdm if letter in "LC" else build_oru, one)
    assert await scene.shown(one) == ["Approved"]
    listed = await scene.manifest(one.studies[0])
    assert listed[:2] == (series + keys, series * instances + keys)
    assert b"INVISIBLE_PATIENT" in listed[2]


async def test_e_guardians_who_may_see_it_are_not_named_among_those_who_may_not(scene: Scene) -> None:
    one = exam(5, flags={**FLAGS, "INVISIBLE_REP_LEGAUX": "N"})
    scene.image(one)
    await scene.say(build_oru, one)
    _, _, metadata = await scene.manifest(one.studies[0])
    assert b"INVISIBLE_PATIENT" in metadata
    assert b"INVISIBLE_REPRESENTANTS_LEGAUX" not in metadata


async def test_f_one_report_of_two_studies_is_two_entries_each_with_its_own_order(scene: Scene) -> None:
    orders = tuple(LabOrder(accession_number=f"ACN{n}", placer_number="OPN107") for n in (106, 107))
    one = exam(7, studies=(f"{ARCS}.2.106", f"{ARCS}.2.107"), orders=orders)
    scene.image(one, study=0)
    scene.image(one, study=1)
    await scene.say(build_oru, one)
    assert await scene.shown(one) == ["Approved", "Approved"]
    for study, own, other in ((0, b"ACN106", b"ACN107"), (1, b"ACN107", b"ACN106")):
        _, _, metadata = await scene.manifest(one.studies[study])
        assert own in metadata
        assert other not in metadata


@pytest.mark.parametrize("scene", [False, True], ids=["replaced", "updated"], indirect=True)
async def test_g_a_second_report_and_an_update_leave_one_active_entry(scene: Scene) -> None:
    first = exam(7, document_id=f"{ARCS}.1.407")
    second = replace(first, document_id=f"{ARCS}.1.408")
    updated = replace(
        first,
        document_id=f"{ARCS}.1.409",
        replaces=first.document_id,
        version_number=2,
        flags={**FLAGS, "INVISIBLE_PATIENT": "N", "MODIF_CONF_CODE": "Y"},
    )
    scene.image(first)
    await scene.say(build_mdm, first)
    await scene.say(build_oru, second)
    assert (await scene.shown(first)).count("Approved") == 1
    await scene.say(build_mdm, updated, event="T10", order_control="RO", parent=first.document_id)
    assert (await scene.shown(first)).count("Approved") == 1
    assert "INVISIBLE_PATIENT" in await scene.codes(first.studies[0]), "the second report still hides it"
    await scene.say(build_mdm, second, event="T04", order_control="CA", result_status="D")
    assert (await scene.shown(first)).count("Approved") == 1
    assert "INVISIBLE_PATIENT" not in await scene.codes(first.studies[0])
    updates = scene.w.policy.updates_metadata
    assert await scene.w.count("manifest") == (1 if updates else 2)
    assert scene.w.index.switches.counts["ITI-57"] == (1 if updates else 0)


@pytest.mark.parametrize("envelope", ["MDM", "ORU"])
async def test_i_an_exam_that_is_unpublished_leaves_the_index(scene: Scene, envelope: str) -> None:
    one = exam(9)
    scene.image(one)
    await scene.say(build_oru, one)
    assert await scene.shown(one) == ["Approved"]
    if envelope == "MDM":
        ack = await scene.say(build_mdm, one, event="T04", order_control="CA", result_status="D")
    else:
        ack = await scene.say(build_oru, one, order_control="CA", result_status="D")
    assert "MSA|AA|" in ack
    assert await scene.shown(one) == []
    assert await scene.stands(one.studies[0]) == (ExamState.WITHDRAWN, "")


async def test_m_another_person_under_the_same_matricule_is_not_published(scene: Scene) -> None:
    before = exam(12)
    scene.image(before)
    await scene.say(build_oru, before)
    stranger = replace(PATIENT, birth_name="REVENANT", first_given_name="PAUL", sex="M", ins=PATIENT.matricule)
    one = exam(13, patient=stranger)
    scene.image(one, instances=1)
    ack = await scene.say(build_oru, one)
    assert "MSA|AE|" in ack
    assert "904^" in ack
    assert (await scene.stands(one.studies[0]))[0] is ExamState.HELD
    assert await scene.shown(before) == ["Approved"], "the exam that was right stays"


async def test_q_several_manifests_of_one_exam_are_versions_of_one_entry(scene: Scene) -> None:
    one = exam(17)
    for version, instances in enumerate((1, 2, 3), start=1):
        scene.image(one, instances=instances)
        words = {"order_control": "RO"} if version > 1 else {}
        newer = replace(
            one,
            document_id=f"{one.document_id}.{version}",
            version_number=version,
            replaces=f"{one.document_id}.{version - 1}" if version > 1 else "",
        )
        assert "MSA|AA|" in await scene.say(build_oru, newer, **words)
    assert await scene.shown(one) == ["Approved", "Deprecated", "Deprecated"]
    assert (await scene.manifest(one.studies[0]))[1] == 3


@pytest.fixture
async def door(scene: Scene, tmp_path: Path) -> AsyncIterator[ImagingDoor]:
    """The site's DICOM door, rejection notes under an AE title of their own."""
    async with imaging_door(scene.w, tmp_path, sources=[scene.source] if scene.source else []) as opened:
        yield opened


async def reject(scene: Scene, door: ImagingDoor, sender: str, told: bytes, folder: Path) -> bool:
    """A rejection note by C-STORE, of DCMTK or pynetdicom; whether it was taken."""
    if sender == "storescu":
        need("/usr/bin/storescu", "dcmtk")
        file = folder / "note.dcm"
        file.write_bytes(told)
        done = await door.by_storescu(file)
        taken = done.returncode == 0 and "Success" in done.stdout + done.stderr
    else:
        taken = (await door.note(told))[0] == 0
    await scene.w.settle()
    return taken


@pytest.mark.parametrize("title", list(TITLES))
@pytest.mark.parametrize("sender", ["pynetdicom", pytest.param("storescu", marks=pytest.mark.dcmtk)])
async def test_u_rejected_instances_leave_the_manifest_and_the_last_one_takes_the_exam_out(
    scene: Scene, door: ImagingDoor, sender: str, title: str, tmp_path: Path
) -> None:
    one = exam(21)
    scene.image(one, instances=3)
    await scene.say(build_oru, one)
    rejected = scene.held[one.studies[0]].objects
    scene.pacs.delete_study(one.studies[0])
    for stored in rejected[1:]:
        scene.pacs.store(stored.data)
    first = note({one.studies[0]: rejected[:1]}, title=title, uid=f"{ARCS}.9.1", **named(one))
    assert await reject(scene, door, sender, first, tmp_path)
    assert await scene.shown(one) == ["Approved", "Deprecated"]
    assert (await scene.manifest(one.studies[0]))[1] == 2
    scene.pacs.delete_study(one.studies[0])
    rest = note({one.studies[0]: rejected[1:]}, title=title, uid=f"{ARCS}.9.2", **named(one))
    assert await reject(scene, door, sender, rest, tmp_path)
    assert "Approved" not in await scene.shown(one)
    assert await scene.stands(one.studies[0]) == (ExamState.WITHDRAWN, "")


@pytest.mark.parametrize("sender", ["pynetdicom", pytest.param("storescu", marks=pytest.mark.dcmtk)])
async def test_u_a_note_for_another_patient_changes_nothing(
    scene: Scene, door: ImagingDoor, sender: str, tmp_path: Path
) -> None:
    one = exam(21)
    scene.image(one, instances=3)
    await scene.say(build_oru, one)
    scene.pacs.delete_study(one.studies[0])
    rejected = scene.held[one.studies[0]].objects
    told = note({one.studies[0]: rejected}, title="113037", uid=f"{ARCS}.9.1", **named(one, PatientID="IPP-AUTRE"))
    assert not await reject(scene, door, sender, told, tmp_path)
    assert await scene.shown(one) == ["Approved"]


@pytest.mark.parametrize("left", [0, 1, 2])
async def test_w_a_cancelled_order_lets_the_pacs_decide(scene: Scene, left: int) -> None:
    """Nothing left: withdrawn; less left: replaced; all left: nothing to do."""
    one = exam(24)
    scene.image(one, instances=2)
    await scene.say(build_oru, one)
    kept = scene.held[one.studies[0]].objects[:left]
    scene.pacs.delete_study(one.studies[0])
    for stored in kept:
        scene.pacs.store(stored.data)
    request = LabRequest(
        control="CA", study=one.studies[0], accession=one.orders[0].accession_number, exam_change=True
    )
    scene.sent += 1
    ack = (await scene.sender.send(build_omi(request, patient=PATIENT, control_id=f"S{scene.sent}"))).decode()
    assert "MSA|AA|" in ack
    await scene.w.settle()
    expected = {0: [], 1: ["Approved", "Deprecated"], 2: ["Approved"]}
    assert await scene.shown(one) == expected[left]


async def test_w_a_pacs_that_is_down_decides_nothing(scene: Scene) -> None:
    one = exam(24)
    scene.image(one)
    await scene.say(build_oru, one)
    scene.pacs.stop()
    scene.sent += 1
    request = LabRequest(control="CA", study=one.studies[0], accession=one.orders[0].accession_number)
    await scene.sender.send(build_omi(request, patient=PATIENT, control_id=f"S{scene.sent}"))
    await scene.w.settle(rounds=5)
    assert await scene.shown(one) == ["Approved"]
    assert "ITI-57" not in scene.w.index.switches.counts


@pytest.mark.orthanc
@pytest.mark.parametrize("left", [0, 1, 2])
async def test_w_a_cancelled_order_lets_a_real_pacs_decide(
    tmp_path: Path, orthanc: OrthancProcess, left: int
) -> None:
    """The same against Orthanc: the study deleted there is withdrawn, a smaller one replaced, a whole one kept."""
    one = exam(24, studies=(new_uid(),), document_id=f"{new_uid()}")
    made = imaged(one, instances=2)
    orthanc.load(stored.data for stored in made.objects)
    source = source_of(orthanc_peer(orthanc, control=control_in(orthanc)))
    async with (
        world(tmp_path, source=source) as w,
        await serve_mllp("127.0.0.1", 0, w.intake.handle) as door,
        await MllpClient.connect("127.0.0.1", door.port) as sender,
    ):
        await sender.send(build_oru(one, control_id="S1"))
        await w.settle()
        assert [status for _, status in await w.entries(one)] == ["Approved"]
        orthanc.delete_study(one.studies[0])
        orthanc.load(stored.data for stored in made.objects[:left])
        request = LabRequest(
            control="CA", study=one.studies[0], accession=one.orders[0].accession_number, exam_change=True
        )
        assert b"MSA|AA|" in await sender.send(build_omi(request, patient=PATIENT, control_id="S2"))
        await w.settle()
        expected = {0: [], 1: ["Approved", "Deprecated"], 2: ["Approved"]}
        assert sorted(status for _, status in await w.entries(one)) == expected[left]
    await source.close()


@pytest.mark.orthanc
async def test_u_notes_and_objects_by_the_wire_beside_a_real_pacs(tmp_path: Path, orthanc: OrthancProcess) -> None:
    """Orthanc does not obey rejection notes: what it still holds is not listed; what it holds leaves our inbox."""
    one = exam(21, studies=(new_uid(),), document_id=f"{new_uid()}")
    made = imaged(one)
    orthanc.load(stored.data for stored in made.objects)
    source = source_of(orthanc_peer(orthanc, control=control_in(orthanc)))
    async with world(tmp_path, source=source) as w, imaging_door(w, tmp_path, sources=[source]) as door:
        await w.report(one)
        await w.settle()
        told = note({one.studies[0]: made.objects[:1]}, title="113037", uid=new_uid(), **named(one))
        assert await door.note(told) == (0, "")
        await w.settle()
        rows = await w.store.read(lambda tx: tx.rows("SELECT instances FROM manifest ORDER BY version"))
        assert [row["instances"] for row in rows] == [3, 2]
        assert await door.store(made.objects) == [0, 0, 0]
        await door.empty()
        assert await door.files() == []
    await source.close()
