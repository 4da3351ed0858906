"""A manifest as the bytes of a Key Object Selection document (PS3.3 A.35.4, PS3.16 TID 2010).

The bytes are written directly, element by element: a manifest of 1,300 instances is some 12,000 elements, and a
Dataset of them costs thirty times as much as this text (design §7). pydicom reads the result in the tests.

Invariants:

* the same manifest, imprint and profile give the same bytes;
* Part 10, Explicit VR Little Endian, ISO_IR 192, 128 zero bytes before DICM (T12);
* only the strict form is written: a rule of the profile that the manifest cannot keep refuses it by its own code
  (FF-18).

Content Template Sequence (0040,A504) is written although drim-m §4 and the national samples lack it: the object
definition (PS3.3 A.35.4) prescribes TID 2010, so the condition of this type 1C attribute is met; IHE lists it
(ihe §1.1); ``dciodvfy`` accepts both forms, dcmtk warns without it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime, timezone

from indexer.kos import drim_m, mado, xds_i
from indexer.kos.classes import SOP_CLASS
from indexer.kos.concepts import identifications
from indexer.kos.encoding import (
    CHARACTERS_MAX,
    CONTROL,
    Element,
    cut,
    date,
    element,
    elements,
    fixed,
    issuer,
    refused,
    sq,
    time,
    ui,
    whole,
)
from indexer.kos.patient import patient_elements
from indexer.kos.variant import RELATED, Variant, accession, request
from indexer.manifest import Imprint, StudyManifest, study_offset
from indexer.reading import CodeSet, Profile
from indexer.study import Series
from security.identity import Uid

IMPLEMENTATION_CLASS = Uid("2.25.209798084462358246962033229286572570553")
IMPLEMENTATION_VERSION = "POTERNE"
_TRANSFER_SYNTAX = Uid("1.2.840.10008.1.2.1")  # Explicit VR Little Endian
_SERIES_NUMBER, _INSTANCE_NUMBER = 59, 1  # as in the national samples


def encode(manifest: StudyManifest, made: Imprint, *, profile: Profile = "drim-m", codes: CodeSet = "DCM") -> bytes:
    """The manifest as a Part 10 file of ``profile``. ``made.series_uid`` must be there; ``codes``: of MADO alone.

    Raises:
        BadInput: its code is the id of the rule in ``indexer.rules.kos`` that the manifest cannot keep, or
            ``bad-uid`` where an issuer is not an OID; the message names what, never a value.
    """
    variant = _variant(profile, codes)
    first = variant.patient(manifest)
    created = made.created_at.astimezone(timezone(study_offset(manifest, made)))
    orders = [request(order, manifest.study) for order in dict.fromkeys(manifest.orders)]
    return _file(
        made.unique_id,
        elements(
            _general(manifest, made, created),
            (variant.institution(manifest.institution),),
            _accession(manifest, variant),
            identifications(variant.codes(manifest)),
            patient_elements(manifest.patient, first),
            variant.national(manifest),
            (sq(0x0040A370, orders),) if orders else (),
            (_evidence(manifest, variant),),
            _content(manifest, variant),
        ),
    )


def _variant(profile: Profile, codes: CodeSet) -> Variant:
    if profile == "mado":
        return mado.variant(codes)
    return {"drim-m": drim_m.VARIANT, "xds-i": xds_i.VARIANT}[profile]


def _file(unique_id: Uid, dataset: bytes) -> bytes:
    """The data set behind its file meta information (PS3.10 7.1)."""
    meta = elements(
        (
            element(0x00020001, "OB", b"\x00\x01"),
            ui(0x00020002, SOP_CLASS),
            ui(0x00020003, unique_id),
            ui(0x00020010, _TRANSFER_SYNTAX),
            ui(0x00020012, IMPLEMENTATION_CLASS),
            fixed(0x00020013, "SH", IMPLEMENTATION_VERSION),
        )
    )
    length = element(0x00020000, "UL", struct.pack("<I", len(meta)))[1]
    return b"".join((bytes(128), b"DICM", length, meta, dataset))


def _general(manifest: StudyManifest, made: Imprint, created: datetime) -> Iterable[Element]:
    """SOP Common, General Study, Key Object Document Series and General Equipment, without what a profile decides."""
    day, moment = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    yield fixed(0x00080005, "CS", "ISO_IR 192")
    yield from (fixed(tag, "DA", day) for tag in (0x00080012, 0x00080021, 0x00080023))
    yield from (fixed(tag, "TM", moment) for tag in (0x00080013, 0x00080031, 0x00080033))
    yield ui(0x00080016, SOP_CLASS)
    yield ui(0x00080018, made.unique_id)
    yield fixed(0x00080020, "DA", date(manifest.date))
    yield fixed(0x00080030, "TM", time(manifest.time))
    yield fixed(0x00080060, "CS", "KO")
    yield cut(0x00080070, "LO", made.manufacturer)
    yield _referring_physician(manifest.referring_physician)
    yield fixed(0x00080201, "SH", created.strftime("%z"))
    yield cut(0x00081030, "LO", manifest.description)
    yield sq(0x00081111, ())
    yield ui(0x0020000D, manifest.study)
    yield ui(0x0020000E, _series_uid(made))
    yield cut(0x00200010, "SH", manifest.study_id)
    yield fixed(0x00200011, "IS", str(_SERIES_NUMBER))
    yield fixed(0x00200013, "IS", str(_INSTANCE_NUMBER))


def _series_uid(made: Imprint) -> Uid:
    if made.series_uid is None:
        raise refused("kos-no-series", "the document's own series has no UID")
    return made.series_uid


def _referring_physician(name: str) -> Element:
    """Left empty rather than cut: a cut name is the name of another."""
    fits = not CONTROL.search(name) and "\\" not in name and len(name) <= CHARACTERS_MAX["PN"]
    return fixed(0x00080090, "PN", name if fits else "")


def _accession(manifest: StudyManifest, variant: Variant) -> Iterable[Element]:
    """AccessionNumber of the study: the only one, empty as soon as there are several (ihe §1.1)."""
    order = accession(manifest) if variant.accession else None
    if order is None:
        yield fixed(0x00080050, "SH", "")
        return
    yield whole(0x00080050, "SH", order.accession_number, "accession number")
    if order.accession_issuer:
        yield issuer(0x00080051, order.accession_issuer)


def _evidence(manifest: StudyManifest, variant: Variant) -> Element:
    """Current Requested Procedure Evidence Sequence: the whole study, each series with its own address."""
    added = variant.instance(manifest)

    def series_item(series: Series) -> bytes:
        listed = [
            elements((ui(0x00081150, one.sop_class), ui(0x00081155, one.sop_instance)), added(one))
            for one in series.instances
        ]
        return elements(variant.series(manifest, series), (sq(0x00081199, listed), ui(0x0020000E, series.uid)))

    listed = sq(0x00081115, [series_item(series) for series in manifest.series])
    return sq(0x0040A375, [elements((listed, ui(0x0020000D, manifest.study)), variant.study(manifest))])


def _content(manifest: StudyManifest, variant: Variant) -> Iterable[Element]:
    """SR Document Content: the title, and the items of TID 2010 as the profile has them."""
    yield fixed(0x0040A040, "CS", "CONTAINER")
    yield variant.title
    yield fixed(0x0040A050, "CS", "SEPARATE")
    yield sq(0x0040A504, (elements((fixed(0x00080105, "CS", "DCMR"), fixed(0x0040DB00, "CS", "2010"))),))
    yield sq(RELATED, list(variant.items(manifest)))
