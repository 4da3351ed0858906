"""The coded concepts of a KOS: those of DICOM, those of MADO in both code sets, and how code systems are named.

Invariants:

* a code system with a registered DICOM designator is written by it; another by a private designator made from its
  OID, which Coding Scheme Identification Sequence (0008,0110) resolves again (PS3.3 C.12.1.1.1);
* MADO's own concepts are named by their meaning and looked up in ``conf/codes/mado-*.toml``: the one place that
  changes when a code does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from indexer.codes import TableName, table
from indexer.kos.encoding import Element, clean, element, elements, fixed, refused, sq, ui
from indexer.reading import CodeSet
from indexer.report import Coded
from security.identity import Uid

DCM = "1.2.840.10008.2.16.4"
SCT = "2.16.840.1.113883.6.96"
SCHEMES: Mapping[str, str] = MappingProxyType(
    {
        DCM: "DCM",
        SCT: "SCT",
        "2.16.840.1.113883.6.1": "LN",
        "2.16.840.1.113883.6.8": "UCUM",
        "2.16.840.1.113883.6.256": "RADLEX",
        "2.16.840.1.113883.6.3": "I10",
        "2.16.840.1.113883.6.12": "C4",
    }
)
"""Designator by OID of the code systems met here (PS3.16 8)."""

CONCEPT_NAME, CONCEPT_CODE = 0x0040A043, 0x0040A168

MANIFEST = "113030"
SIGNED_MANIFEST = "113031"
KEY_OBJECT_DESCRIPTION = "113012"
PROCEDURE_CODE = "121023"
IMAGE_LIBRARY, IMAGE_LIBRARY_GROUP = "111028", "126200"
MODALITY, TARGET_REGION, LATERALITY = "121139", "123014", "111027"
SERIES_UID, SERIES_NUMBER = "112002", "113607"
INSTANCE_NUMBER, FRAMES, DOCUMENT_TITLE = "113609", "121140", "121144"

TITLE = "Manifest with Description"
SERIES_DATE, SERIES_TIME, SERIES_DESCRIPTION = "Series Date", "Series Time", "Series Description"
SERIES_INSTANCES, STUDY_SERIES = "Number of Series Related Instances", "Number of Study Related Series"

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        MANIFEST: "Manifest",
        KEY_OBJECT_DESCRIPTION: "Key Object Description",
        PROCEDURE_CODE: "Procedure Code",
        IMAGE_LIBRARY: "Image Library",
        IMAGE_LIBRARY_GROUP: "Image Library Group",
        MODALITY: "Modality",
        TARGET_REGION: "Target Region",
        LATERALITY: "Image Laterality",
        SERIES_UID: "Series Instance UID",
        SERIES_NUMBER: "Series Number",
        INSTANCE_NUMBER: "Instance Number",
        FRAMES: "Number of Frames",
        DOCUMENT_TITLE: "Document Title",
    }
)
"""Code meaning by code of DCM (PS3.16 D)."""

SIDES: Mapping[str, Coded] = MappingProxyType(
    {
        "R": Coded(code="24028007", system=SCT, display="Right"),
        "L": Coded(code="7771000", system=SCT, display="Left"),
        "B": Coded(code="51440002", system=SCT, display="Right and left"),
    }
)
"""CID 244 by Laterality (0020,0060)."""

_TABLES: Mapping[CodeSet, TableName] = MappingProxyType({"99IHE": "mado-99ihe", "DCM": "mado-dcm"})


@cache
def mado_codes(codes: CodeSet) -> Mapping[str, str]:
    """Meaning by code of MADO's own concepts in one code set."""
    return table(_TABLES[codes]).codes


@cache
def concept(code: str) -> Element:
    """Concept Name Code Sequence with a code of DCM."""
    return sq(CONCEPT_NAME, (_code(code, "DCM", MEANINGS[code]),))


@cache
def mado_concept(meaning: str, codes: CodeSet) -> Element:
    """Concept Name Code Sequence with the code of a concept of MADO."""
    (code,) = (code for code, stated in mado_codes(codes).items() if stated == meaning)
    return sq(CONCEPT_NAME, (_code(code, codes, meaning),))


def coded(tag: int, value: Coded) -> Element:
    """A sequence of one code."""
    if not value.code or not value.system:
        raise refused("kos-text", "a code lacks its value or its system")
    return sq(tag, (_code(value.code, designator(value.system), value.display or value.code),))


def unit(tag: int, code: str) -> Element:
    """Measurement Units Code Sequence with an annotation of UCUM, such as ``{series}``."""
    return sq(tag, (_code(code, "UCUM", code.strip("{}")),))


def designator(system: str) -> str:
    """How a code names its system: the registered designator, else a private one made from the OID."""
    if system in SCHEMES:
        return SCHEMES[system]
    if len(system) <= 16 and not system[:1].isdigit():
        return system  # a designator already: a reader met one that nothing resolves
    return f"99{hashlib.sha256(system.encode()).hexdigest()[:8].upper()}"


def identifications(values: Iterable[Coded]) -> tuple[Element, ...]:
    """Coding Scheme Identification Sequence for the systems that have no registered designator, if there are any."""
    private = sorted({one.system for one in values if designator(one.system) not in {one.system, *SCHEMES.values()}})
    if not private:
        return ()
    items = [elements((fixed(0x00080102, "SH", designator(oid)), ui(0x0008010C, Uid(oid)))) for oid in private]
    return (sq(0x00080110, items),)


def _code(code: str, scheme: str, meaning: str) -> bytes:
    """One item of a code sequence (PS3.3 8.8). A value that SH cannot hold goes to Long Code Value."""
    if any(character in code + scheme for character in "\\\r\n\x1b") or not code.strip():
        raise refused("kos-text", "a code holds a character that SH forbids")
    value = code.encode()
    stated = (
        fixed(0x00080100, "SH", code)
        if len(code) <= 16
        else element(0x00080119, "UC", value + b" " * (len(value) % 2))
    )
    return elements(
        (stated, fixed(0x00080102, "SH", scheme), fixed(0x00080104, "LO", (clean(meaning) or code)[:64].rstrip()))
    )
