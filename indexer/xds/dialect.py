"""What each network wants to read in the metadata of a manifest: one frozen value per profile.

``DRIM_M``: drim-m §5. ``XDS_I``: IHE RAD TF-3 4.68.4.1.2.3. ``MADO``: the same with what MADO adds (RAD
TF supplement, trial implementation). IHE leaves classCode, and the typeCode of a study without a procedure, to the
affinity domain: we write LOINC 18748-4 there, which is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from indexer.codes import table
from indexer.report import Coded

FormName = Literal["kos", "fhir"]
_KOS_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One document form of a manifest. ``comments``: XDSDocumentEntry.comments."""

    mime_type: str
    format_code: Coded
    comments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """``needs_ins``: a patient without a qualified INS is refused; else the first local identifier of a known issuer
    names them. ``patient_id_type``, ``source_id_type``: CX.5, "" for none (IHE allows none in patientId).
    ``is_typed_by_procedure``: the leading procedure is the typeCode, ``type_code`` stands where there is none.
    ``practice_setting``: of every exam, None where the report or the tenant says it. ``has_procedures``: procedures
    stand in the eventCodeList. ``has_birthplace``: sourcePatientInfo holds PID-11."""

    title: str
    class_code: Coded
    type_code: Coded
    is_typed_by_procedure: bool
    needs_ins: bool
    patient_id_type: str
    source_id_type: str
    practice_setting: Coded | None
    has_procedures: bool
    has_birthplace: bool
    forms: Mapping[FormName, Form]


_FORMS: Mapping[FormName, Form] = {
    "kos": Form(mime_type="application/dicom", format_code=table("format").coded(_KOS_CLASS), comments="KOS"),
    "fhir": Form(
        mime_type="application/fhir+json",
        format_code=table("format-ihe").coded("urn:ihe:rad:MADO:fhir-manifest:2026"),
        comments="FHIR",
    ),
}

DRIM_M = Dialect(
    title="Reference d'Objets d'un Examen d'Imagerie",
    class_code=table("class").coded("31"),
    type_code=table("type").coded("IMG-KOS"),
    is_typed_by_procedure=False,
    needs_ins=True,
    patient_id_type="NH",
    source_id_type="PI",
    practice_setting=None,
    has_procedures=False,
    has_birthplace=True,
    forms=_FORMS,
)

XDS_I = Dialect(
    title="Imaging manifest",
    class_code=table("study").coded("18748-4"),
    type_code=table("study").coded("18748-4"),
    is_typed_by_procedure=True,
    needs_ins=False,
    patient_id_type="",
    source_id_type="",
    practice_setting=table("specialty").coded("394914008"),
    has_procedures=False,
    has_birthplace=False,
    forms=_FORMS,
)

MADO = replace(XDS_I, has_procedures=True)

DIALECTS: Mapping[str, Dialect] = {"drim-m": DRIM_M, "xds-i": XDS_I, "mado": MADO}
"""By the profile's name in the settings."""
