"""Invented exams as Part 10 objects: what the lab's modalities would have sent to the PACS.

Invariants:

* every person is invented by the caller; text is written in the chosen character set (UTF-8 by default);
* UIDs derive from the study's UID and the object's place in it: the same calls give the same objects;
* pixels are a drawn disc, or those of pydicom's bundled test files (``adopt``), never a real exam.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

from indexer.manifest import derived_uid
from security.identity import Uid
from security.parse.dicom import parse_untrusted

_SIDE = 64  # pixels per side of a drawn image

_CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "CR": ComputedRadiographyImageStorage,
    "MG": DigitalMammographyXRayImageStorageForPresentation,
    "US": UltrasoundImageStorage,
    "NM": NuclearMedicineImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
    "XA": XRayAngiographicImageStorage,
    "OT": SecondaryCaptureImageStorage,
}
_MULTI_FRAME_CLASSES = {
    "CT": EnhancedCTImageStorage,
    "MR": EnhancedMRImageStorage,
    "US": UltrasoundMultiFrameImageStorage,
    "NM": NuclearMedicineImageStorage,
    "XA": XRayAngiographicImageStorage,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabObject:
    """One Part 10 object. ``data``: the whole file."""

    series: Uid
    sop_class: Uid
    sop_instance: Uid
    data: bytes


class LabStudy:
    """Builds one exam, series by series; ``objects`` holds what was made so far.

    Args:
        study_uid: StudyInstanceUID, as the report will name it.
        patient_id: the establishment's identifier (IPP); ``issuer``: its assigning authority.
        name: PN with carets, accents welcome. birth_date: YYYYMMDD. sex: M, F or O.
        accession: AccessionNumber of the order. date, time: of the study, YYYYMMDD and HHMMSS.
        charset: Specific Character Set of every object.
    """

    def __init__(
        self,
        *,
        study_uid: str,
        patient_id: str,
        name: str,
        birth_date: str,
        sex: str,
        accession: str,
        issuer: str = "",
        date: str = "20260112",
        time: str = "093000",
        description: str = "",
        study_id: str = "1",
        referring_physician: str = "",
        charset: str = "ISO_IR 192",
    ) -> None:
        self.uid = Uid(study_uid)
        self.objects: list[LabObject] = []
        self._series_made = 0
        self._common = {
            "SpecificCharacterSet": charset,
            "StudyInstanceUID": self.uid,
            "PatientID": patient_id,
            "IssuerOfPatientID": issuer,
            "PatientName": name,
            "PatientBirthDate": birth_date,
            "PatientSex": sex,
            "AccessionNumber": accession,
            "StudyDate": date,
            "StudyTime": time,
            "SeriesDate": date,
            "SeriesTime": time,
            "StudyDescription": description,
            "StudyID": study_id,
            "ReferringPhysicianName": referring_physician,
        }

    def add_series(
        self,
        modality: str,
        *,
        instances: int = 1,
        frames: int | None = None,
        description: str = "",
        body_part: str = "",
        laterality: str = "",
    ) -> Uid:
        """A new series of drawn images, each of ``frames`` frames (None: single-frame class). Returns its UID."""
        series = self._next_series()
        for number in range(1, instances + 1):
            self.add_image(
                modality,
                series=series,
                number=number,
                frames=frames,
                description=description,
                body_part=body_part,
                laterality=laterality,
            )
        return series

    def add_image(
        self,
        modality: str,
        *,
        series: Uid,
        number: int,
        frames: int | None = None,
        description: str = "",
        body_part: str = "",
        laterality: str = "",
    ) -> LabObject:
        """One more drawn image in ``series``; a series may mix SOP classes."""
        image = Dataset()
        image.SOPClassUID = _CLASSES[modality] if frames is None else _MULTI_FRAME_CLASSES[modality]
        image.SamplesPerPixel = 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.Rows = image.Columns = _SIDE
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.WindowCenter, image.WindowWidth = 1024, 2048
        if frames is not None:
            image.NumberOfFrames = frames
        if laterality:
            image.Laterality = laterality
        image.add_new("PixelData", "OW", b"".join(_disc(number + frame) for frame in range(frames or 1)))
        return self._add(image, modality, series, number, description=description, body_part=body_part)

    def add_note(
        self, title: tuple[str, str], *, description: str = "", references: Sequence[LabObject]
    ) -> LabObject:
        """A key-image note in a series of its own (PS3.16 TID 2010). ``title``: code of CID 7010 and its meaning."""
        note = Dataset()
        note.SOPClassUID = KeyObjectSelectionDocumentStorage
        note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
        note.ConceptNameCodeSequence = [_concept(*title)]
        note.ContentSequence = []
        for one in references:
            pointed, item = Dataset(), Dataset()
            pointed.ReferencedSOPClassUID, pointed.ReferencedSOPInstanceUID = one.sop_class, one.sop_instance
            item.RelationshipType, item.ValueType, item.ReferencedSOPSequence = "CONTAINS", "IMAGE", [pointed]
            note.ContentSequence.append(item)
        if description:
            text = Dataset()
            text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", description
            text.ConceptNameCodeSequence = [_concept("113012", "Key Object Description")]
            note.ContentSequence.append(text)
        return self._add(note, "KO", self._next_series(), 1, description="", body_part="")

    def adopt(self, bundled: str, *, series: Uid | None = None, number: int = 1, description: str = "") -> LabObject:
        """Take the pixels of a test file in pydicom's wheel, say ``CT_small.dcm``, into a (new) series."""
        path = get_testdata_file(bundled, download=False)
        if not isinstance(path, str):
            raise FileNotFoundError(f"pydicom's wheel holds no {bundled}")
        image = parse_untrusted(Path(path), stop_before_pixels=False, what=bundled)
        image.decode()
        return self._add(
            image,
            image.get("Modality", "OT"),
            series or self._next_series(),
            number,
            description=description,
            body_part=image.get("BodyPartExamined", ""),
            transfer_syntax=image.file_meta.TransferSyntaxUID,
        )

    def write(self, folder: Path) -> list[Path]:
        """Every object as a file ``NNNN.dcm`` in ``folder``, which is made if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        return list(self._written(folder))

    def _written(self, folder: Path) -> Iterator[Path]:
        for number, made in enumerate(self.objects, start=1):
            path = folder / f"{number:04d}.dcm"
            path.write_bytes(made.data)
            yield path

    def _next_series(self) -> Uid:
        self._series_made += 1
        return derived_uid("lab-series", self.uid, str(self._series_made))

    def _add(
        self,
        image: Dataset,
        modality: str,
        series: Uid,
        number: int,
        *,
        description: str,
        body_part: str,
        transfer_syntax: UID = ExplicitVRLittleEndian,
    ) -> LabObject:
        image.SeriesInstanceUID = series
        image.SOPInstanceUID = derived_uid("lab-instance", self.uid, str(len(self.objects) + 1))
        image.Modality = modality
        image.InstanceNumber = number
        image.SeriesNumber = self._series_made
        image.SeriesDescription = description
        image.BodyPartExamined = body_part
        for keyword, value in self._common.items():
            setattr(image, keyword, value)
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = transfer_syntax
        out = BytesIO()
        dcmwrite(out, image, enforce_file_format=True)
        made = LabObject(
            series=series,
            sop_class=Uid(image.SOPClassUID),
            sop_instance=Uid(image.SOPInstanceUID),
            data=out.getvalue(),
        )
        self.objects.append(made)
        return made


def _concept(code: str, meaning: str) -> Dataset:
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, "DCM", meaning
    return concept


@lru_cache(maxsize=64)
def _disc(phase: int) -> bytes:
    """One frame, 12 bits in 16, little endian: a bright disc with an insert that moves with ``phase``."""
    centre, insert = _SIDE / 2, _SIDE / 4 + phase % (_SIDE // 2)
    pixels = array("H")
    for row in range(_SIDE):
        for column in range(_SIDE):
            body = (row - centre) ** 2 + (column - centre) ** 2 < (_SIDE * 0.42) ** 2
            lesion = (row - centre) ** 2 + (column - insert) ** 2 < (_SIDE * 0.06) ** 2
            pixels.append(1800 if lesion else 1000 + 4 * row if body else 20)
    return pixels.tobytes()
