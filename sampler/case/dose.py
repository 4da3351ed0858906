"""The figures of dose of a case, from Radiation Dose SR objects (PS3.16 TID 10001, 10011) and from the CDA report.

Only numbers with the codes below are told, with their unit (UCUM). The codes are DCM's (PS3.16 annex D).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree
from pydicom import Dataset

FIGURES: Mapping[str, str] = {
    "113813": "CT Dose Length Product Total",
    "113830": "Mean CTDIvol",
    "113838": "DLP",
    "113722": "Dose Area Product Total",
    "113725": "Dose (RP) Total",
    "113730": "Total Fluoro Time",
    "113731": "Total Number of Radiographic Frames",
    "111637": "Accumulated Average Glandular Dose",
    "113507": "Administered activity",
}
SR_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.68"})
"""X-Ray Radiation Dose SR, Radiopharmaceutical Radiation Dose SR."""
ITEMS_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number as stated. ``source``: ``sr`` or ``report``."""

    code: str
    meaning: str
    value: str
    unit: str
    source: str


def of_sr(data_set: Dataset) -> tuple[Figure, ...]:
    """The figures of one Dose SR, in the order of its content."""
    return tuple(_content(data_set))


def _content(data_set: Dataset) -> Iterator[Figure]:
    """Depth first, without recursion."""
    waiting = [data_set]
    for _ in range(ITEMS_MAX):
        if not waiting:
            return
        item = waiting.pop()
        waiting.extend(reversed(item.get("ContentSequence") or ()))
        code = _code(item, "ConceptNameCodeSequence")
        if item.get("ValueType") != "NUM" or code not in FIGURES:
            continue
        for measured in item.get("MeasuredValueSequence") or ():
            yield Figure(
                code=code,
                meaning=FIGURES[code],
                value=str(measured.get("NumericValue", "")),
                unit=_code(measured, "MeasurementUnitsCodeSequence"),
                source="sr",
            )


def _code(item: Dataset, keyword: str) -> str:
    coded = item.get(keyword) or ()
    return next((str(one.get("CodeValue", "")) for one in coded), "")


def of_report(root: etree._Element) -> tuple[Figure, ...]:
    """The figures of a rewritten CDA report: observations with one of the codes and a physical quantity."""
    found = []
    for observation in root.iter("{urn:hl7-org:v3}observation"):
        code = observation.find("{urn:hl7-org:v3}code")
        value = observation.find("{urn:hl7-org:v3}value")
        if code is not None and value is not None and (name := code.get("code", "")) in FIGURES:
            found.append(
                Figure(
                    code=name,
                    meaning=FIGURES[name],
                    value=value.get("value", ""),
                    unit=value.get("unit", ""),
                    source="report",
                )
            )
    return tuple(found)
