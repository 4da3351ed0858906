"""``poterne case build|review|check|package``: one exam made into a case, as the site's data manager does it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    XRayRadiationDoseSRStorage,
)

from gateway.lab.ris import LabExam, LabPatient, build_cda
from sampler.pseudonym.keys import CampaignKeys, Pseudonyms, Subject
from tests.acceptance.test_commands import poterne
from tests.fixtures.pdf import pdf

STUDY = "1.2.826.0.1.3680043.10.777.1"
PATIENT = LabPatient(
    birth_name="LEBREMENT-ŒUVRARD", first_given_name="ZOÉ", given_names="ZOÉ ANNE", used_name="KERVADEC"
)
EXAM = replace(LabExam(patient=PATIENT), studies=(STUDY,), doctor=("QUILLEVERE", "Maxence"))
REPORT = pdf(
    [
        (60, 780, "Compte rendu de scanner thoracique"),
        (60, 740, "Mme Zoé KERVADEC, dossier IPP9001"),
        (60, 720, "Scanner du 08/01/2026, nodule de 12 mm."),
        (60, 700, "Dr Maxence QUILLEVERE"),
    ]
)
SEGMENTS = [
    "MSH|^~\\&|RIS|SITE|POTERNE|SITE|20260108091000+0100||OMI^O23^OMI_O23|C1|P|2.5.1|||||FRA|UNICODE UTF-8",
    "PID|||IPP9001^^^SITE^PI||KERVADEC^ZOÉ^^^^^L||19610412|F",
    "ORC|NW|OPN9001|||||||20260107110000+0100|||899900000025^AUTRUCHON^Luce",
    "OBR|1|OPN9001||24627-2^Scanner thoracique^LN|||||||||Toux depuis le 06/01/2026",
]
ORDER = "\r".join(SEGMENTS)
MARKERS = (
    b"KERVADEC",
    b"LEBREMENT",
    b"QUILLEVERE",
    b"AUTRUCHON",
    b"IPP9001",
    b"OPN9001",
    b"ACN9001",
    b"19610412",
    STUDY.encode(),
)


def dicom(folder: Path, number: int, sop_class: str, **values: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, f"{STUDY}.9.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID, made.SOPInstanceUID = sop_class, f"{STUDY}.9.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, f"{STUDY}.{sop_class[-3:].strip('.')}"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = (
        "KERVADEC^ZOÉ",
        "IPP9001",
        "19610412",
        "F",
    )
    made.StudyDate = made.SeriesDate = made.ContentDate = "20260108"
    made.AccessionNumber, made.ReferringPhysicianName = "ACN9001", "AUTRUCHON^Luce"
    made.Modality, made.InstanceNumber = "CT", number
    for name, value in values.items():
        setattr(made, name, value)
    path = folder / f"{number}.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def pixels(rows: int = 40, columns: int = 50) -> dict[str, object]:
    values = np.arange(rows * columns, dtype=np.uint16)
    return {
        "Rows": rows, "Columns": columns, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelData": values.tobytes(),
    }  # fmt: skip


def code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def dose_sr(folder: Path) -> Path:
    number = Dataset()
    number.RelationshipType, number.ValueType = "CONTAINS", "NUM"
    number.ConceptNameCodeSequence = [code("113813", "CT Dose Length Product Total")]
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "845.3", [code("mGy.cm", "mGy.cm", "UCUM")]
    number.MeasuredValueSequence = [measured]
    return dicom(
        folder, 4, XRayRadiationDoseSRStorage,
        Modality="SR", ValueType="CONTAINER", ContinuityOfContent="SEPARATE", CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED", ConceptNameCodeSequence=[code("113701", "X-Ray Radiation Dose Report")],
        ContentSequence=[number],
    )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "exam"
    folder.mkdir()
    body = {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "BodyPartExamined": "CHEST"}
    dicom(folder, 1, CTImageStorage, **body, **pixels())
    dicom(folder, 2, CTImageStorage, **body, **pixels())
    dicom(folder, 3, UltrasoundImageStorage, **{**pixels(), "Modality": "US"})
    dose_sr(folder)
    document = build_cda(EXAM).decode()
    start, end = document.index("<component>"), document.rindex("</component>") + len("</component>")
    text = base64.b64encode(REPORT).decode()
    body_of = f'<component><nonXMLBody><text mediaType="application/pdf" representation="B64">{text}</text></nonXMLBody></component>'
    (tmp_path / "report.xml").write_text(document[:start] + body_of + document[end:])
    (tmp_path / "order.hl7").write_text(ORDER)
    key = tmp_path / "site.key"
    key.write_text(hashlib.sha256(b"a site's own").hexdigest())
    key.chmod(0o600)
    return {"folder": folder, "case": tmp_path / "case", "key": key, "root": tmp_path}


def build(site: dict[str, Any], *more: str, lang: str = "en") -> Any:
    root = site["root"]
    return poterne(
        "case", "build", str(site["case"]), "--images", str(site["folder"]), "--site-key", str(site["key"]),
        "--campaign", "C-2026", "--unit", "u1", "--patient-id", "IPP9001", "--authority", PATIENT.ipp_issuer,
        "--report", str(root / "report.xml"), "--request", str(root / "order.hl7"), *more, lang=lang,
    )  # fmt: skip


def step(site: dict[str, Any], name: str, *more: str, lang: str = "en") -> Any:
    return poterne("case", name, str(site["case"]), "--site-key", str(site["key"]), *more, lang=lang)


def facts(ran: Any) -> Any:
    return json.loads(ran.stdout)


def test_an_exam_becomes_a_case_step_by_step(site: dict[str, Any]) -> None:
    built = build(site)
    assert built.returncode == 0, built.stderr
    assert "3 images can leave" in built.stdout
    assert "image 3 waits for a person" in built.stdout
    assert "images of this modality often hold burnt-in text" in built.stdout
    assert stat.S_IMODE(os.stat(site["case"]).st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in site["case"].iterdir())
    out = site["root"] / "case.zip"
    early = step(site, "package", "--out", str(out))
    assert early.returncode != 0
    assert "1 images wait for a person; nobody confirmed" in early.stderr
    assert not out.exists()
    assert step(site, "check").returncode == 1
    masked = step(site, "review", "--image", "3", "--mask", "0,0,50,10", "--by", "Data Manager")
    assert masked.returncode == 1, "report and request still wait"
    read = step(site, "review", "--read", "--by", "Data Manager")
    assert (read.returncode, read.stdout) == (0, "Nothing waits for a person.\n")
    assert facts(step(site, "check", "--json"))["ready"] is True
    packed = step(site, "package", "--out", str(out), "--json")
    assert packed.returncode == 0, packed.stderr
    told = facts(packed)
    pseudonyms = Pseudonyms(
        CampaignKeys.derive(hashlib.sha256(b"a site's own").digest(), "C-2026"),
        Subject(authority=PATIENT.ipp_issuer, id="IPP9001"),
    )
    assert (told["images"], told["patient"], told["studies"]) == (4, pseudonyms.patient_id, [pseudonyms.uid(STUDY)])
    assert told["texts"] == {
        "report": True,
        "pages": 1,
        "covers": told["texts"]["covers"],
        "requests": 1,
        "age": "064Y",
    }
    look_into(out, pseudonyms)
    again = step(site, "package", "--out", str(out))
    assert again.returncode != 0
    assert "is there already" in again.stderr


def look_into(out: Path, pseudonyms: Pseudonyms) -> None:
    with zipfile.ZipFile(out) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name, content in parts.items():
        assert not [
            marker for marker in MARKERS if marker in content or marker.decode().encode("utf-16-le") in content
        ], name
    sums = dict(reversed(line.split("  ")) for line in parts.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    made = [dcmread(BytesIO(content)) for name, content in parts.items() if name.startswith("images/")]
    assert {one.StudyInstanceUID for one in made} == {pseudonyms.uid(STUDY)}
    ct = next(one for one in made if one.Modality == "CT" and one.InstanceNumber == 1)
    assert ct.PixelData == pixels()["PixelData"]
    assert ct.StudyDate == pseudonyms.shifted_date("20260108")
    ultrasound = next(one for one in made if one.Modality == "US")
    assert (ultrasound.pixel_array[:10] == 0).all()
    assert (ultrasound.pixel_array[10:] == np.arange(2000, dtype=np.uint16).reshape(40, 50)[10:]).all()
    (request,) = json.loads(parts["request.json"])
    assert request["procedure"]["meaning"] == "Scanner thoracique"
    assert request["requester"] == "médecin demandeur 1"
    assert json.loads(parts["dose.json"]) == [
        {
            "code": "113813",
            "meaning": "CT Dose Length Product Total",
            "source": "sr",
            "unit": "mGy.cm",
            "value": "845.3",
        }
    ]
    with Image.open(BytesIO(parts["report/page-01.png"])) as page:
        assert page.size == (1240, 1754)


def test_the_same_case_is_the_same_package(site: dict[str, Any]) -> None:
    build(site)
    step(site, "review", "--image", "3", "--read", "--by", "DM")
    for name in ("a.zip", "b.zip"):
        assert step(site, "package", "--out", str(site["root"] / name)).returncode == 0
    assert (site["root"] / "a.zip").read_bytes() == (site["root"] / "b.zip").read_bytes()


def test_boxes_are_changed_by_a_person_but_not_off_a_known_value(site: dict[str, Any]) -> None:
    build(site)
    boxes = json.loads((site["case"] / "boxes.json").read_text())
    edited = site["root"] / "edited.json"
    edited.write_text(json.dumps([one for one in boxes if one["why"] != "name"]))
    refused = step(site, "review", "--boxes", str(edited), "--read", "--by", "DM")
    assert refused.returncode != 0
    assert "page 1 of the report still shows a value of the original" in refused.stderr
    assert json.loads((site["case"] / "boxes.json").read_text()) == boxes
    more = [*boxes, {"page": 1, "box": {"left": 10, "top": 10, "right": 60, "bottom": 30}}]
    edited.write_text(json.dumps(more))
    assert facts(step(site, "review", "--boxes", str(edited), "--by", "DM", "--json"))["boxes"] == len(boxes) + 1
    edited.write_text(json.dumps([{"page": 3, "box": {"left": 10, "top": 10, "right": 60, "bottom": 30}}]))
    off = step(site, "review", "--boxes", str(edited), "--by", "DM")
    assert "cover-off-page" in off.stderr


def test_what_may_not_leave_is_left_out_and_said(site: dict[str, Any]) -> None:
    dicom(site["folder"], 5, EncapsulatedPDFStorage, Modality="DOC", MIMETypeOfEncapsulatedDocument="application/pdf",
          EncapsulatedDocument=REPORT + b"\0")  # fmt: skip
    built = build(site, lang="fr")
    assert built.returncode == 0, built.stderr
    assert "l’image 5 est écartée" in built.stdout
    step(site, "review", "--image", "3", "--read", "--by", "DM")
    packed = facts(step(site, "package", "--out", str(site["root"] / "case.zip"), "--json"))
    assert packed["images_left_out"] == {"class-not-allowed": 1}


def test_ff50_an_object_of_another_patient_stands_in_the_way(site: dict[str, Any]) -> None:
    dicom(site["folder"], 6, ComprehensiveSRStorage, PatientID="IPP-OTHER", Modality="SR")
    built = build(site)
    assert built.returncode == 1
    assert "its PatientID is none of the patient's whose exam was drawn" in built.stdout
    step(site, "review", "--image", "3", "--read", "--by", "DM")
    assert step(site, "package", "--out", str(site["root"] / "case.zip")).returncode != 0
    assert not list(site["root"].glob("case.zip*"))


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--image", "3"], "case-no-name"),
        (["--image", "9", "--by", "DM"], "case-no-image"),
        (["--mask", "0,0,5,5", "--by", "DM"], "case-mask"),
        (["--image", "3", "--mask", "0,0,5", "--by", "DM"], "case-mask"),
    ],
)
def test_a_decision_that_cannot_be_is_refused(site: dict[str, Any], more: list[str], code: str) -> None:
    build(site)
    ran = step(site, "review", *more)
    assert ran.returncode != 0
    assert code in ran.stderr


def test_a_unit_that_was_not_drawn_makes_no_case(site: dict[str, Any]) -> None:
    transcript = site["root"] / "transcript.json"
    body = {"campaign": "C-2026", "frame": {"root": "00"}}
    transcript.write_text(json.dumps({"body": {**body, "final": {"CT": ["u7", "u8"]}}}))
    ran = build(site, "--transcript", str(transcript))
    assert ran.returncode != 0
    assert "case-not-drawn" in ran.stderr
    assert not site["case"].exists()
    transcript.write_text(json.dumps({"body": {**body, "final": {"CT": ["u7", "u1"]}}}))
    assert build(site, "--transcript", str(transcript)).returncode == 0
