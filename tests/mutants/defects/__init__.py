"""The planted defects: one small edit each, and the tests that must notice it. One module for each room.

``old`` stands exactly once in ``file``. ``tests`` are node ids without parameters, the fast ones of those that
notice.
"""

from __future__ import annotations

from tests.mutants.defects import (
    access,
    accounts,
    archives,
    audit,
    campaign,
    cases,
    completeness,
    dimse,
    doors,
    draws,
    exams,
    exchanges,
    federation,
    feed,
    fhir,
    gate,
    hl7,
    imaging,
    index,
    keys,
    kos,
    leaks,
    lives,
    manifests,
    merges,
    mhd,
    outbox,
    pacs,
    protection,
    pseudonym,
    reconciliation,
    registry,
    service,
    signatures,
    store,
    tokens,
    trust,
)
from tests.mutants.defects.defect import Defect

__all__ = ["DEFECTS", "Defect"]

_ROOMS = (
    gate,
    exams,
    lives,
    completeness,
    imaging,
    kos,
    federation,
    feed,
    fhir,
    index,
    manifests,
    mhd,
    registry,
    hl7,
    pacs,
    dimse,
    access,
    accounts,
    tokens,
    doors,
    service,
    exchanges,
    signatures,
    outbox,
    merges,
    store,
    protection,
    pseudonym,
    reconciliation,
    archives,
    audit,
    campaign,
    cases,
    trust,
    keys,
    leaks,
    draws,
)

DEFECTS: tuple[Defect, ...] = tuple(defect for room in _ROOMS for defect in room.DEFECTS)
