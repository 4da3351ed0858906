"""What reading a manifest document gives, whatever its form: the manifest, its imprint, and what was out of rule.

A reader is tolerant: whatever can be understood is understood, each departure from the rules is a ``Deviation``.
What cannot be taken for a sharing manifest at all (another object, an IOCM rejection note, two studies) is refused
with ``BadInput`` whose ``code`` is the id of the rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexer.manifest import Imprint, StudyManifest

Profile = Literal["xds-i", "drim-m", "mado"]
Form = Literal["kos", "fhir"]
CodeSet = Literal["99IHE", "DCM"]
"""MADO's concepts: the temporary codes of the trial implementation, or those of DICOM (CP-2595)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One departure from ``rule`` (an id of ``indexer.rules``). ``where``: path inside the document; ``detail``: what
    stands there instead, never a value that names a patient."""

    rule: str
    where: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One document, read. ``codes``: the MADO code set it uses, None in other profiles."""

    manifest: StudyManifest
    imprint: Imprint
    form: Form
    profile: Profile
    codes: CodeSet | None = None
    deviations: tuple[Deviation, ...] = ()
