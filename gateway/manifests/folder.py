"""DICOM files of a folder, one header at a time: what a manifest needs of each, and nothing of its pixels.

Invariants:

* files come in the order of their paths, so that the same folder gives the same manifest;
* what is no DICOM file, a DICOMDIR, and what is no regular file (a pipe would wait for ever) is told as ``Skipped``;
  a DICOM file that cannot be read is an error: its instance would be missing from the manifest;
* identity text that does not fit its character set is refused (FF-10); in a description U+FFFD may stand;
* one header is held at a time; links to folders are not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import MediaStorageDirectoryStorage

from gateway.i18n import N_
from indexer.kos.concepts import SCHEMES
from indexer.notes import KEY_OBJECT_SELECTION, note
from indexer.report import Coded, Order
from indexer.study import Instance
from security.errors import BadInput
from security.identity import LocalId, Uid
from security.parse.dicom import charsets, parse_untrusted, text

NOT_DICOM = N_("no DICOM file")
DICOMDIR = N_("a DICOMDIR: what it lists is read from the files themselves")
NOT_REGULAR = N_("no regular file")
OUTPUT = N_("the file that is to be written")

_STUDY = ("StudyDate", "StudyTime", "StudyDescription", "StudyID", "ReferringPhysicianName", "TimezoneOffsetFromUTC")
_SERIES = ("SeriesNumber", "SeriesDescription", "BodyPartExamined", "SeriesDate", "SeriesTime")
_SCHEMES = {designator: oid for oid, designator in SCHEMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is not part of the study. ``why``: one of the texts above."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedPatient:
    """The patient as one file states them, decoded, otherwise untouched; never in a message.

    ``issuer``: OID, "" when the file names none, or only a label.
    """

    patient_id: str
    issuer: str
    name: str
    birth_name: str
    birth_date: str
    sex: str
    others: tuple[LocalId, ...] = ()

    def __repr__(self) -> str:
        return "StatedPatient(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What one instance says. ``study_facts``, ``series_facts``: pairs of DICOM keyword and value, "" when silent."""

    path: Path
    study: Uid
    series: Uid
    modality: str
    instance: Instance
    patient: StatedPatient
    study_facts: tuple[tuple[str, str], ...]
    series_facts: tuple[tuple[str, str], ...]
    laterality: str
    orders: tuple[Order, ...]
    procedures: tuple[Coded, ...]


@dataclass(frozen=True, slots=True)
class DataSetItem:
    """A data set as pydicom reads it (``indexer.notes.Item``). ``charset``: where it states none of its own."""

    data_set: Dataset
    charset: tuple[str, ...]

    def text(self, keyword: str) -> str:
        """The value of an element, "" when absent."""
        return text(self.data_set, tag_for_keyword(keyword) or 0, charset=self.charset).value

    def exact(self, keyword: str) -> str:
        """The same, unharmed.

        Raises:
            BadInput: ``undecodable-identity``.
        """
        found = text(self.data_set, tag_for_keyword(keyword) or 0, charset=self.charset)
        if not found.exact or not found.value.isprintable():
            raise BadInput(
                f"{keyword} does not fit its character set",
                code="undecodable-identity",
                hint="correct (0008,0005) where the images come from, or name the set with --charset",
            )
        return found.value

    def items(self, keyword: str) -> Sequence[DataSetItem]:
        """The items of a sequence, none when absent."""
        if keyword not in self.data_set or self.data_set[keyword].VR != "SQ":
            return []
        return [DataSetItem(item, self.charset) for item in self.data_set[keyword].value or ()]


def files_of(paths: Sequence[Path]) -> Iterator[Path]:
    """Every file named, and every file of every folder named, at any depth, in the order of their paths."""
    for named in paths:
        if not named.is_dir():
            yield named
            continue
        for folder, folders, names in os.walk(named):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))


def read(path: Path, *, charset: str) -> Header | Skipped:
    """One file. ``charset``: of text whose file states no character set.

    Raises:
        BadInput: ``dicom-…`` a DICOM file that is damaged; ``bad-uid`` a UID is missing or is none;
            ``undecodable-identity``.
        OSError: the file cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        return Skipped(path=path, why=NOT_REGULAR)
    try:
        found = parse_untrusted(path, what=path.name)
    except BadInput as fault:
        if fault.code != "dicom-not-part10":
            raise
        return Skipped(path=path, why=NOT_DICOM)
    if found.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return Skipped(path=path, why=DICOMDIR)
    return header(path, DataSetItem(found, charsets(found, default=charset)))


def header(path: Path, item: DataSetItem) -> Header:
    """What a data set says. Raises ``BadInput`` as ``read``."""
    sop_class = Uid(item.text("SOPClassUID"))
    return Header(
        path=path,
        study=Uid(item.text("StudyInstanceUID")),
        series=Uid(item.text("SeriesInstanceUID")),
        modality=item.text("Modality"),
        instance=Instance(
            sop_class=sop_class,
            sop_instance=Uid(item.text("SOPInstanceUID")),
            number=_integer(item.text("InstanceNumber")),
            frames=_integer(item.text("NumberOfFrames")),
            note=note(item) if sop_class == KEY_OBJECT_SELECTION else None,
        ),
        patient=_patient(item),
        study_facts=tuple((keyword, item.text(keyword)) for keyword in _STUDY),
        series_facts=tuple((keyword, item.text(keyword)) for keyword in _SERIES),
        laterality=item.text("Laterality") or item.text("ImageLaterality"),
        orders=tuple(dict.fromkeys(_orders(item))),
        procedures=_procedures(item),
    )


def _integer(value: str) -> int | None:
    """An integer string (IS); None when empty or malformed: it orders and describes, it identifies nothing."""
    return int(value) if value.isascii() and value.lstrip("+-").isdigit() and len(value) <= 12 else None


def _patient(item: DataSetItem) -> StatedPatient:
    others = [
        LocalId(value=other.exact("PatientID"), issuer=_patient_issuer(other))
        for other in item.items("OtherPatientIDsSequence")
    ]
    return StatedPatient(
        patient_id=item.exact("PatientID"),
        issuer=_patient_issuer(item),
        name=item.exact("PatientName"),
        birth_name=item.exact("PatientBirthName"),
        birth_date=item.exact("PatientBirthDate"),
        sex=item.exact("PatientSex"),
        others=tuple(each for each in others if each.value and each.issuer),
    )


def _patient_issuer(item: DataSetItem) -> str:
    """OID of who issued a PatientID: of the qualifiers, else of IssuerOfPatientID when that is one."""
    label = item.exact("IssuerOfPatientID")
    return _entity(item, "IssuerOfPatientIDQualifiersSequence") or (label if is_oid(label) else "")


def _entity(item: DataSetItem, keyword: str) -> str:
    """The OID of an issuer (HL7v2 Hierarchic Designator Macro, PS3.3 10.14), "" for none."""
    stated = (
        each.text("UniversalEntityID")
        for each in item.items(keyword)
        if each.text("UniversalEntityIDType") in {"ISO", ""}
    )
    return next((oid for oid in stated if is_oid(oid)), "")


def is_oid(value: str) -> bool:
    """Whether this text names somebody as an OID does."""
    try:
        return "." in Uid(value)
    except BadInput:
        return False


def _orders(item: DataSetItem) -> Iterator[Order]:
    """What a file says of its orders: at its top level, of the request its series answers (PS3.3 10.6), of the
    requests a document answers (PS3.3 C.17.2)."""
    for stated in (item, *item.items("RequestAttributesSequence"), *item.items("ReferencedRequestSequence")):
        accession, placer = stated.exact("AccessionNumber"), stated.exact(_PLACER)
        if accession or placer:
            yield Order(
                accession_number=accession,
                accession_issuer=_entity(stated, "IssuerOfAccessionNumberSequence"),
                placer_number=placer,
                placer_issuer=_entity(stated, "OrderPlacerIdentifierSequence"),
            )


_PLACER = "PlacerOrderNumberImagingServiceRequest"


def _procedures(item: DataSetItem) -> tuple[Coded, ...]:
    """What was done, codes of schemes whose OID is known or stated."""
    stated = {
        each.text("CodingSchemeDesignator"): each.text("CodingSchemeUID")
        for each in item.items("CodingSchemeIdentificationSequence")
    }
    schemes = {designator: oid for designator, oid in stated.items() if is_oid(oid)} | _SCHEMES
    return tuple(
        Coded(
            code=code.text("CodeValue"),
            system=schemes[code.text("CodingSchemeDesignator")],
            display=code.text("CodeMeaning"),
        )
        for code in item.items("ProcedureCodeSequence")
        if code.text("CodeValue") and code.text("CodingSchemeDesignator") in schemes
    )
