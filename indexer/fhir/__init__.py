"""A manifest as FHIR R4: the document Bundle of IHE MADO, its reader and its check (ihe §2).

Invariants:

* ``encode`` writes what ``check`` finds no error or warning in, and every id it writes derives from the document's
  UID;
* ``read(encode(manifest))`` is the manifest, without what ``LOSES`` names, and ``encode`` of that gives the same
  bytes;
* nothing here claims conformity: MADO's FHIR part is trial use, and ``check`` covers the rules of
  ``indexer.rules.fhir``, no terminology.

``LOSES`` is what the profiles of MADO have no place for. ``vocabulary`` names systems and profiles for other FHIR
doors too; ``structure`` is the one door of ``fhir.resources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from indexer.fhir.bundle import encode
from indexer.fhir.profile import check
from indexer.fhir.reader import read

__all__ = ["LOSES", "check", "encode", "read"]

LOSES: Mapping[str, str] = MappingProxyType(
    {
        "StudyManifest.study_id": "ImagingStudy has no Study ID",
        "StudyManifest.address, unused": "an address that no series is fetched from",
        "Address.ae_title": "Endpoint has no AE title",
        "Address.base, last slash": "the base is written without it",
        "Series.body_part, beside a region": "bodySite is one coding, the region's",
        "KeyNote.references": "MADO lists a key-image note, not the images it points at",
        "Ins.status": "a document states no qualification; an INS that is not qualified is not written at all",
        "Imprint.series_uid": "a Bundle belongs to no series",
        "issuer, without a number": "of an institution or a placer that has no identifier",
        "date, not a day": "a DA that is no day of the calendar",
        "time, without a day": "a TM alone is no dateTime",
        "time, shortened": "a TM without minutes or seconds gets zero ones",
        "number, out of range": "unsignedInt begins at 0 and ends at 2147483647; so for NumberOfFrames",
        "laterality, other": "a laterality that is none of L, R, B",
        "sex, other": "a sex that is none of M, F, U is other, and comes back as U",
        "text, unprintable": "control characters become blanks, blanks at the edges go, in text for people",
    }
)
"""What of a manifest a Bundle does not carry, and why."""
