"""A manifest as FHIR R4: the document Bundle of IHE MADO, its reader and its check (ihe §2).

Invariants:

* ``encode`` writes what ``check`` finds no error or warning in, and every id it writes derives from the document's
  UID;
* ``read(encode(manifest))`` is the manifest, but for ``LOSES`` and ``NARROWS``, and ``encode`` of that gives the same
  bytes;
* nothing here claims conformity: MADO's FHIR part is trial use, and ``check`` covers the rules of
  ``indexer.rules.fhir``, no terminology.

``vocabulary`` names systems and profiles for other FHIR
doors too; ``structure`` is the one door of ``fhir.resources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from indexer.fhir.bundle import encode
from indexer.fhir.profile import check
from indexer.fhir.reader import read

__all__ = ["LOSES", "NARROWS", "check", "encode", "read"]

LOSES: Mapping[str, str] = MappingProxyType(
    {
        "study_id": "ImagingStudy has no Study ID",
        "address.ae_title": "Endpoint has no AE title",
        "series.address.ae_title": "Endpoint has no AE title",
        "series.body_part": "where a coded region stands for it: bodySite is one coding",
        "series.instances.note.references": "MADO lists a key-image note, not the images it points at",
        "patient.ins.status": "no document states it; an INS that is not qualified is not written at all",
    }
)
"""What of a manifest a Bundle does not carry, and why. A path names a field below ``StudyManifest``."""

NARROWS: Mapping[str, str] = MappingProxyType(
    {
        "address": "the study's own is not written where every series has another",
        "address.base": "written without a slash at its end",
        "institution.system": "not written without an identifier; so for the issuer of a number that is none",
        "date": "no day of the calendar is left out; so for series",
        "time": "left out without a day; zero minutes and seconds stand for those it lacks; so for series",
        "series.number": "left out below 0 and above 2147483647; so for instances and frames",
        "series.laterality": "left out when none of L, R, B",
        "patient.traits.sex": "what is none of M, F, U is other, and comes back as U",
        "description": "control characters become blanks, blanks at the edges go; so for every text for people",
    }
)
"""Values of fields that are carried, yet not in every form."""
