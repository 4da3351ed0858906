"""What a PACS says about one study: the frozen answer of every adapter, and its three forms.

``Found``: the PACS listed the study, its series and all its instances. ``Absent``: a clean empty answer from a
peer that proved itself alive in the same exchange. ``Unknown``: anything else (FF-54). Nothing is ever
concluded from ``Unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass

from indexer.report import Coded
from security.identity import Uid, masked


@dataclass(frozen=True, slots=True, kw_only=True)
class PacsPatient:
    """Patient module as the PACS answers it, decoded to Unicode, otherwise untouched.

    ``name``: PN with its carets; ``birth_date``: YYYYMMDD or ""; ``sex``: M, F, O or "".
    """

    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str

    def __repr__(self) -> str:
        return f"PacsPatient({masked(self.patient_id)}, {masked(self.name)})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyNote:
    """What a Key Object Selection instance of the study says (PS3.16 TID 2010): its document title (CID 7010, DCM),
    its Key Object Description, "" for none, and the SOP instances it points at, in its order."""

    title: Coded
    description: str = ""
    references: tuple[Uid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One SOP instance. ``number``/``frames``: InstanceNumber, NumberOfFrames, None when the PACS is silent.
    ``note``: what a key-image note says, None for every other object and when the PACS does not tell."""

    sop_class: Uid
    sop_instance: Uid
    number: int | None = None
    frames: int | None = None
    note: KeyNote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where images are fetched. ``base``: WADO-RS base URI without ``/studies``; ``location``: Retrieve Location
    UID, OID of the image source, "" for none; ``ae_title``: Retrieve AE Title, "" for none."""

    base: str
    location: str = ""
    ae_title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series with its instances, at least one, ordered by (number, UID).

    ``date``, ``time``: SeriesDate and SeriesTime as ``Study`` has them, "" when silent. ``body_part``:
    BodyPartExamined; ``region``: the coded region it stands for. ``laterality``: L, R, B or "".
    ``address``: where this series alone is fetched, None when as the whole study.
    """

    uid: Uid
    modality: str
    instances: tuple[Instance, ...]
    number: int | None = None
    description: str = ""
    body_part: str = ""
    date: str = ""
    time: str = ""
    region: Coded | None = None
    laterality: str = ""
    address: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study. ``date``: YYYYMMDD or ""; ``time``: HHMMSS[.ffffff] or ""; series ordered by (number, UID)."""

    uid: Uid
    patient: PacsPatient
    accession_number: str
    date: str
    time: str
    series: tuple[Series, ...]
    description: str = ""
    study_id: str = ""
    referring_physician: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The study as the PACS holds it now."""

    study: Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The PACS is alive and has no such study. ``evidence``: how that was established; ``is_proven``: in the same
    exchange it found a study that it is known to hold, so that it is no emptied or restored one (FF-54)."""

    evidence: str
    is_proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No conclusion. ``reason``: stable code; ``detail``: one sentence, no patient data."""

    reason: str
    detail: str


StudyAnswer = Found | Absent | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStudy:
    """One study of a day's list: enough to know that it exists, nothing that names a patient.

    ``time``: StudyTime, HHMMSS[.ffffff] or ""; ``modalities``: ModalitiesInStudy in order, empty when the PACS is
    silent; ``has_accession``: it carries an AccessionNumber.
    """

    uid: Uid
    time: str = ""
    modalities: tuple[str, ...] = ()
    has_accession: bool = False


CalendarAnswer = tuple[ListedStudy, ...] | Unknown
