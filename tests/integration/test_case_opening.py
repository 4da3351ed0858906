"""From a draw to packages: drawn units turned back at the site, their exams made into cases, each on record."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydicom.uid import CTImageStorage

from gateway import linkage
from gateway.frames import opened
from gateway.lab.ris import build_cda, build_omi
from sampler.case import package, preparation
from sampler.case.preparation import Originals
from sampler.case.work import Decision, Work
from sampler.draw.protocol import protocol_of
from sampler.draw.table import rows_of
from sampler.draw.transcript import Times, body_of, revealed_of, sign, written
from sampler.draw.units import commit
from sampler.pseudonym.keys import CampaignKeys
from security.errors import BadInput, Refused
from tests.acceptance.test_case_preparation import dicom, pixels
from tests.integration.test_frame_building import GIVEN, PROTOCOL, REQUESTS, busy_day, framed, lab_exam, lab_request
from tests.support.world import TENANT, World, world

SEEN = Decision(by="DM", at="2026-01-10T08:00:00+00:00")


@pytest.fixture
async def w(tmp_path: Path):
    (tmp_path / "world").mkdir()
    async with world(tmp_path / "world") as one:
        yield one


def drawn(built: dict, protocol: dict) -> dict:
    frame = commit(rows_of(built["frame"].splitlines(keepends=True)))
    times = Times(committed_at="2026-01-09T08:00:00Z", revealed_at="2026-01-09T09:00:00Z")
    revealed = revealed_of({"draw_no": 1, "contributions": GIVEN, "replacements": []})
    body, _ = body_of(frame, protocol_of(protocol), revealed, times=times, software="poterne test")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return json.loads(written(sign(body, key, frame=frame)))["body"]


async def unveiled(w: World, body: dict, unit: str) -> dict:
    return await opened(
        w.store, w.ledger, w.clock,
        tenant=TENANT, campaign=body["campaign"], root=body["frame"]["root"], unit=unit, actor="operator:dm",
    )  # fmt: skip


def packaged(told: dict, body: dict, unit: str, folder: Path) -> tuple[dict, Path]:
    """The case of one unit, by the parts themselves, as a data manager would have it made."""
    number = int(told["study"].rsplit(".", 1)[1])
    exam = replace(lab_exam(number), level=3)
    images = folder / unit
    images.mkdir(parents=True)
    for one in (1, 2):
        dicom(
            images, one, CTImageStorage,
            StudyInstanceUID=told["study"], SeriesInstanceUID=f"{told['study']}.1", SOPInstanceUID=f"{told['study']}.1.{one}",
            PatientID=told["patient_id"], PatientName=f"{exam.patient.used_name}^{exam.patient.first_given_name}",
            AccessionNumber=f"ACN{number}", BodyPartExamined="CHEST", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            **pixels(),
        )  # fmt: skip
    (folder / f"{unit}.xml").write_bytes(build_cda(exam))
    (folder / f"{unit}.hl7").write_bytes(build_omi(lab_request(number), patient=exam.patient))
    work = Work(
        campaign=body["campaign"], unit=unit, root=body["frame"]["root"], study=told["study"],
        authority=told["authority"], patient_id=told["patient_id"], other_ids=tuple(told["other_ids"]),
        images=preparation.images(sorted(images.iterdir()), study=told["study"], told=lambda _number: None),
        report=str(folder / f"{unit}.xml"), request=str(folder / f"{unit}.hl7"), read=SEEN,
    )  # fmt: skip
    keys = CampaignKeys(**{name: bytes.fromhex(value) for name, value in told["keys"].items()})
    out = folder / f"{unit}.zip"
    return package.write(Originals(work, keys), out, for_viewer=False, told=lambda _number: None), out


@pytest.mark.parametrize(
    ("exams", "refused"),
    [(24, 2), pytest.param(2_000, 100, marks=[pytest.mark.full, pytest.mark.timeout(3_600)])],
)
async def test_drawn_cases_of_four_practitioners_become_packages_in_which_nobody_is_named(
    w: World, tmp_path: Path, exams: int, refused: int
) -> None:
    await busy_day(w, exams=exams, refused=refused)
    body = drawn(await framed(w), PROTOCOL)
    units = body["selected"]["SITE-A"]
    told = [await unveiled(w, body, unit) for unit in units]
    made = [packaged(one, body, unit, tmp_path / "cases") for one, unit in zip(told, units, strict=True)]
    assert len({facts["patient"] for facts, _ in made}) == 4
    assert all(
        (facts["images"], facts["texts"]["report"], facts["texts"]["requests"]) == (2, True, 1) for facts, _ in made
    )
    doctors = {lab_exam(int(one["study"].rsplit(".", 1)[1])).doctor_id for one in told}
    assert len(doctors) == 4
    for (_facts, out), one in zip(made, told, strict=True):
        with zipfile.ZipFile(out) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
        for value in (
            one["study"],
            one["patient_id"],
            *one["other_ids"],
            *doctors,
            "FANTÔME",
            "ODETTE",
            "TEST-DUPONT",
            "RAYON-TEST",
        ):
            assert value.encode() not in content
    rows = await w.store.read(lambda tx: tx.rows("SELECT event, actor, object_id FROM audit_record ORDER BY seq"))
    assert [(row["actor"], row["object_id"]) for row in rows if row["event"] == "case.opened"] == [
        ("operator:dm", one["study"]) for one in told
    ]


async def test_images_of_another_exam_make_no_case(w: World, tmp_path: Path) -> None:
    path = dicom(tmp_path, 1, CTImageStorage, **pixels())
    with pytest.raises(BadInput, match="image 1 is of another study") as refused:
        preparation.images([path], study="1.2.3", told=lambda _number: None)
    assert refused.value.code == "case-other-study"


async def test_ff51_a_unit_that_is_not_of_the_frame_or_no_exam_or_destroyed_is_not_turned_back(w: World) -> None:
    await busy_day(w, exams=30, refused=6)
    body = drawn(await framed(w), PROTOCOL)
    asked = drawn(await framed(w, REQUESTS), REQUESTS)
    for of, unit, code in (
        (body, "0" * 32, "unit-unknown"),
        (body, asked["selected"]["NOT-DONE"][0], "unit-unknown"),
        (asked, asked["selected"]["NOT-DONE"][0], "unit-without-images"),
        ({**body, "frame": {"root": "00"}}, body["selected"]["SITE-A"][0], "frame-unknown"),
    ):
        with pytest.raises(Refused) as refused:
            await unveiled(w, of, unit)
        assert refused.value.code == code
    unit = body["selected"]["SITE-A"][0]
    assert (await unveiled(w, body, unit))["study"]
    await w.store.write(lambda tx: linkage.destroy(tx, TENANT, body["campaign"]))
    with pytest.raises(Refused) as refused:
        await unveiled(w, body, unit)
    assert refused.value.code == "campaign-unknown"
