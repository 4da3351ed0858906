"""A manifest as the Key Object Selection document of the drim-m profile (drim-m §4, PS3.3 A.35.4, PS3.16 TID 2010).

The bytes are written directly, element by element: a manifest of 1,300 instances is some 12,000 elements, and a
Dataset of them costs thirty times as much as this text (design §7). pydicom reads the result in the tests.

Invariants:

* the same manifest and imprint give the same bytes;
* Part 10, Explicit VR Little Endian, ISO_IR 192, 128 zero bytes before DICM (T12);
* text that says who the patient is, or which order this is, is written whole or the manifest is refused; other
  text is cut to what its VR allows;
* every rule is checked before a byte is written; each refusal has its own code (FF-18).

Content Template Sequence (0040,A504) is written although drim-m §4 and the national samples lack it: the object
definition (PS3.3 A.35.4) prescribes TID 2010, so the condition of this type 1C attribute is met; IHE lists it
(ihe §1.1); ``dciodvfy`` accepts both forms, dcmtk warns without it.

Not carried: which images a key-image note points at (drim-m §4, KIN). The PACS's answer does not say it; the note
itself is listed among the instances.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import cache
from itertools import chain
from typing import Literal

from pydicom.uid import UID

from indexer.manifest import Imprint, StudyManifest, study_offset
from indexer.report import Order, Organization
from indexer.study import Instance, Series
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from security.ins import INS_AUTHORITIES

SOP_CLASS = Uid("1.2.840.10008.5.1.4.1.1.88.59")  # Key Object Selection Document Storage
IMPLEMENTATION_CLASS = Uid("2.25.209798084462358246962033229286572570553")
IMPLEMENTATION_VERSION = "POTERNE"
_TRANSFER_SYNTAX = Uid("1.2.840.10008.1.2.1")  # Explicit VR Little Endian
_SERIES_NUMBER, _INSTANCE_NUMBER = 59, 1  # as in the national samples

ValueType = Literal["IMAGE", "WAVEFORM", "COMPOSITE"]

_IMAGES_BY_ANOTHER_NAME = frozenset(  # PS3.3 image IODs whose SOP class is not called "… Image Storage"
    {
        "1.2.840.10008.5.1.4.1.1.6.2",  # Enhanced US Volume
        "1.2.840.10008.5.1.4.1.1.77.1.5.8",  # Ophthalmic OCT B-scan Volume Analysis
        "1.2.840.10008.5.1.4.1.1.81.1",  # Ophthalmic Thickness Map
        "1.2.840.10008.5.1.4.1.1.82.1",  # Corneal Topography Map
    }
)

_LONG_LENGTH = frozenset({"OB", "SQ", "UR", "UT"})  # of those written here, VRs with a 32-bit length (PS3.5 7.1.2)
_CHARACTERS_MAX = {"SH": 16, "LO": 64, "PN": 64, "LT": 10240}  # PS3.5 6.2, per value or PN component group
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DA = re.compile(r"[0-9]{8}", re.ASCII)
_TM = re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)
_BASE = re.compile(r"https?://[!-~]+", re.ASCII)

Element = tuple[int, bytes]  # tag as 0xGGGGEEEE, and the whole encoded element


def encode(manifest: StudyManifest, made: Imprint) -> bytes:
    """The manifest as a Part 10 file. ``made.series_uid`` must be there.

    Raises:
        BadInput: ``kos-no-ins``, ``kos-authority``, ``kos-no-trait``, ``kos-no-accession``, ``kos-no-instance``,
            ``kos-duplicate-instance``, ``kos-retrieve-base``, ``kos-text``, ``bad-uid`` an issuer is not an OID;
            the message names what, never a value.
    """
    ins = _checked(manifest)
    created = made.created_at.astimezone(timezone(study_offset(manifest, made)))
    dataset = _elements(
        _general(manifest, made, created),
        _patient(manifest.patient, ins),
        (_sq(0x0040A370, [_request(order, manifest.study) for order in manifest.orders]), _evidence(manifest)),
        _content(manifest),
    )
    meta = _elements(
        (
            _element(0x00020001, "OB", b"\x00\x01"),
            _ui(0x00020002, SOP_CLASS),
            _ui(0x00020003, made.unique_id),
            _ui(0x00020010, _TRANSFER_SYNTAX),
            _ui(0x00020012, IMPLEMENTATION_CLASS),
            _fixed(0x00020013, "SH", IMPLEMENTATION_VERSION),
        )
    )
    length = _element(0x00020000, "UL", struct.pack("<I", len(meta)))[1]
    return b"".join((bytes(128), b"DICM", length, meta, dataset))


@cache
def value_type(sop_class: str) -> ValueType:
    """Value type of a reference to an instance of this class (PS3.3 C.18.3 to C.18.5).

    By the registered name, retired classes included; a private class is a COMPOSITE: nothing says it is an image.
    """
    name = UID(sop_class).name
    if "Image Storage" in name or sop_class in _IMAGES_BY_ANOTHER_NAME:
        return "IMAGE"
    return "WAVEFORM" if "Waveform Storage" in name else "COMPOSITE"


# -- the rules ---------------------------------------------------------------------------------------------------


def _checked(manifest: StudyManifest) -> Ins:
    """The INS, once the manifest keeps every rule without which the document would be wrong."""
    ins, traits = manifest.patient.ins, manifest.patient.traits
    if ins is None or ins.status != "VALI" or not ins.matricule:
        raise _refused("kos-no-ins", "the patient has no qualified INS")
    if ins.oid not in INS_AUTHORITIES:
        raise _refused("kos-authority", "the INS has an unknown assigning authority")
    if not (traits.birth_name and traits.first_given_name and traits.sex and traits.birth_date):
        raise _refused("kos-no-trait", "birth name, first given name, sex or birth date is missing")
    if not manifest.orders or not all(order.accession_number for order in manifest.orders):
        raise _refused("kos-no-accession", "an order without accession number, or no order")
    if not manifest.series or not all(series.instances for series in manifest.series):
        raise _refused("kos-no-instance", "a series without instances, or no series")
    uids = [instance.sop_instance for series in manifest.series for instance in series.instances]
    if len(set(uids)) != len(uids) or len({series.uid for series in manifest.series}) != len(manifest.series):
        raise _refused("kos-duplicate-instance", "a series or an instance is listed twice")
    if not _BASE.fullmatch(manifest.address.base) or "/studies" in manifest.address.base:
        raise _refused("kos-retrieve-base", "the WADO-RS base is not an http(s) address without /studies")
    return ins


def _refused(code: str, why: str) -> BadInput:
    return BadInput(
        f"no manifest document can be made: {why}",
        code=code,
        hint="correct the report, the PACS or the tenant's settings, then release the exam",
    )


# -- the parts of the data set -----------------------------------------------------------------------------------


def _general(manifest: StudyManifest, made: Imprint, created: datetime) -> Iterable[Element]:
    """SOP Common, General Study, Key Object Document Series and General Equipment, without the patient."""
    day, time = created.strftime("%Y%m%d"), created.strftime("%H%M%S")
    yield _fixed(0x00080005, "CS", "ISO_IR 192")
    yield from (_fixed(tag, "DA", day) for tag in (0x00080012, 0x00080021, 0x00080023))
    yield from (_fixed(tag, "TM", time) for tag in (0x00080013, 0x00080031, 0x00080033))
    yield _ui(0x00080016, SOP_CLASS)
    yield _ui(0x00080018, made.unique_id)
    yield _fixed(0x00080020, "DA", manifest.date if _DA.fullmatch(manifest.date) else "")
    yield _fixed(0x00080030, "TM", manifest.time if _TM.fullmatch(manifest.time) else "")
    yield _fixed(0x00080050, "SH", "")  # each accession number stands with its order, in (0040,A370)
    yield _fixed(0x00080060, "CS", "KO")
    yield _cut(0x00080070, "LO", made.manufacturer)
    yield _institution(manifest.institution)
    yield _referring_physician(manifest.referring_physician)
    yield _fixed(0x00080201, "SH", created.strftime("%z"))
    yield _cut(0x00081030, "LO", manifest.description)
    yield _sq(0x00081111, ())
    yield _ui(0x0020000D, manifest.study)
    yield _ui(0x0020000E, _series_uid(made))
    yield _cut(0x00200010, "SH", manifest.study_id)
    yield _fixed(0x00200011, "IS", str(_SERIES_NUMBER))
    yield _fixed(0x00200013, "IS", str(_INSTANCE_NUMBER))


def _series_uid(made: Imprint) -> Uid:
    if made.series_uid is None:
        raise _refused("kos-no-series", "the document's own series has no UID")
    return made.series_uid


def _patient(patient: PatientIdentity, ins: Ins) -> Iterable[Element]:
    """Patient and Patient Study: the qualified identity, with the local identifiers beside it."""
    traits = patient.traits
    yield _whole(0x00100010, "PN", _pn(traits.birth_name, traits.first_given_name), "patient's name")
    yield from _patient_id(ins)
    yield _fixed(0x00100030, "DA", f"{traits.birth_date:%Y%m%d}" if traits.birth_date else "")
    yield _fixed(0x00100040, "CS", traits.sex if traits.sex in {"M", "F"} else "O")
    if used := _used_name(traits):
        yield _whole(0x00101001, "PN", used, "used name")
    typed = _fixed(0x00100022, "CS", "TEXT")
    locals_ = [_elements(_local_id(local), (typed,)) for local in patient.local_ids]
    yield _sq(0x00101002, [_elements(_patient_id(ins), (typed,)), *locals_])
    if traits.birthplace:
        yield _whole(0x00104000, "LT", traits.birthplace, "birthplace code")


def _patient_id(ins: Ins) -> Iterable[Element]:
    yield _whole(0x00100020, "LO", ins.matricule, "INS matricule")
    yield _fixed(0x00100021, "LO", INS_AUTHORITIES[ins.oid].label)
    yield _issuer(0x00100024, ins.oid)


def _local_id(local: LocalId) -> Iterable[Element]:
    yield _whole(0x00100020, "LO", local.value, "local patient identifier")
    if local.issuer:
        yield _issuer(0x00100024, local.issuer)


def _pn(family: str, given: str) -> str:
    if any(delimiter in family + given for delimiter in "^="):
        raise _refused("kos-text", "a name holds a delimiter of PN")
    return f"{family}^{given}"


def _used_name(traits: Traits) -> str:
    """FAMILY^GIVEN, ^GIVEN or FAMILY^, "" when no name is used beside that of birth."""
    used = _pn(traits.used_name, traits.used_given_name)
    return "" if used == "^" else used


def _institution(institution: Organization) -> Element:
    """XON as the profile lays it out: name, then the identifier in component 10. The name may be cut, not the
    identifier."""
    tail = "^" * 9 + institution.identifier
    name = _clean(institution.name).replace("^", " ")[: max(0, _CHARACTERS_MAX["LO"] - len(tail))]
    return _whole(0x00080080, "LO", name.rstrip() + tail, "institution identifier")


def _referring_physician(name: str) -> Element:
    """Left empty rather than cut: a cut name is the name of another."""
    fits = not _CONTROL.search(name) and "\\" not in name and len(name) <= _CHARACTERS_MAX["PN"]
    return _fixed(0x00080090, "PN", name if fits else "")


def _request(order: Order, study: Uid) -> bytes:
    """One item of Referenced Request Sequence."""
    elements = [
        _whole(0x00080050, "SH", order.accession_number, "accession number"),
        _sq(0x00081110, ()),
        _ui(0x0020000D, study),
        _fixed(0x00321060, "LO", ""),
        _sq(0x00321064, ()),
        _fixed(0x00401001, "SH", ""),
        _whole(0x00402016, "LO", order.placer_number, "placer order number"),
        _fixed(0x00402017, "LO", ""),
    ]
    if order.accession_issuer:
        elements.append(_issuer(0x00080051, order.accession_issuer))
    if order.placer_issuer:
        elements.append(_issuer(0x00400026, order.placer_issuer))
    return _elements(elements)


def _evidence(manifest: StudyManifest) -> Element:
    """Current Requested Procedure Evidence Sequence: the whole study, each series with its own RetrieveURL."""
    base = f"{manifest.address.base.rstrip('/')}/studies/{manifest.study}/series/"

    def series_item(series: Series) -> bytes:
        elements = [
            _fixed(0x00081190, "UR", base + series.uid),
            _sq(0x00081199, [_reference(instance) for instance in series.instances]),
            _ui(0x0020000E, series.uid),
        ]
        if series.number is not None:
            elements.append(_fixed(0x00200011, "IS", str(series.number)))
        if manifest.address.location:
            elements.append(_ui(0x0040E011, Uid(manifest.address.location)))
        return _elements(elements)

    listed = _sq(0x00081115, [series_item(series) for series in manifest.series])
    return _sq(0x0040A375, [_elements((listed, _ui(0x0020000D, manifest.study)))])


def _reference(instance: Instance) -> bytes:
    """SOP Instance Reference with the profile's InstanceNumber."""
    elements = [_ui(0x00081150, instance.sop_class), _ui(0x00081155, instance.sop_instance)]
    if instance.number is not None:
        elements.append(_fixed(0x00200013, "IS", str(instance.number)))
    return _elements(elements)


def _content(manifest: StudyManifest) -> Iterable[Element]:
    """SR Document Content: the title, one reference per instance, the description."""
    contains = _fixed(0x0040A010, "CS", "CONTAINS")
    items = []
    for instance in chain.from_iterable(series.instances for series in manifest.series):
        reference = _elements((_ui(0x00081150, instance.sop_class), _ui(0x00081155, instance.sop_instance)))
        kind = _fixed(0x0040A040, "CS", value_type(instance.sop_class))
        items.append(_elements((_sq(0x00081199, (reference,)), contains, kind)))
    description = (
        contains,
        _fixed(0x0040A040, "CS", "TEXT"),
        _concept("113012", "Key Object Description"),
        _fixed(0x0040A160, "UT", _description(manifest)),
    )
    yield _fixed(0x0040A040, "CS", "CONTAINER")
    yield _concept("113030", "Manifest")
    yield _fixed(0x0040A050, "CS", "SEPARATE")
    yield _sq(0x0040A504, (_elements((_fixed(0x00080105, "CS", "DCMR"), _fixed(0x0040DB00, "CS", "2010"))),))
    yield _sq(0x0040A730, [*items, _elements(description)])


def _description(manifest: StudyManifest) -> str:
    """The text for people, laid out as the national demonstrator does: the one place with modalities (drim-m §4)."""
    lines = [f"Examen : {_clean(manifest.description)}"]
    if manifest.procedures:
        lines.append(f"Acte = {_clean(manifest.procedures[0].display or manifest.procedures[0].code)}")
    lines += [f"Série-{one.uid} : {_clean(one.modality)} @  : {_clean(one.description)}" for one in manifest.series]
    return "\r\n".join(lines)


# -- the encoding (PS3.5 7.1.2) ----------------------------------------------------------------------------------


def _elements(*parts: Iterable[Element]) -> bytes:
    """The elements in the order of their tags: a data set, or the content of an item."""
    return b"".join(encoded for _, encoded in sorted(chain.from_iterable(parts)))


def _element(tag: int, vr: str, value: bytes) -> Element:
    """One element whose value already has an even length."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode("ascii"))
    if vr in _LONG_LENGTH:
        return tag, head + struct.pack("<HI", 0, len(value)) + value
    if len(value) > 0xFFFF:
        raise _refused("kos-text", f"a value of ({tag >> 16:04X},{tag & 0xFFFF:04X}) is too long")
    return tag, head + struct.pack("<H", len(value)) + value


def _sq(tag: int, items: Iterable[bytes]) -> Element:
    """A sequence of items, each given by its content."""
    return _element(tag, "SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items))


def _ui(tag: int, uid: Uid) -> Element:
    value = uid.encode("ascii")
    return _element(tag, "UI", value + b"\0" * (len(value) % 2))


def _fixed(tag: int, vr: str, text: str) -> Element:
    """Text that is ours, or already has the form of its VR."""
    value = text.encode()
    return _element(tag, vr, value + b" " * (len(value) % 2))


def _cut(tag: int, vr: str, text: str) -> Element:
    """Text for people: what the VR forbids becomes a blank, what is too long is cut."""
    return _fixed(tag, vr, _clean(text)[: _CHARACTERS_MAX[vr]].rstrip())


def _whole(tag: int, vr: str, text: str, what: str) -> Element:
    """Text that identifies: written as it is, or not at all. ``what`` names it in the refusal."""
    if len(text) > _CHARACTERS_MAX[vr]:
        raise _refused("kos-text", f"the {what} has more than {_CHARACTERS_MAX[vr]} characters")
    if _CONTROL.search(text) or "\\" in text:
        raise _refused("kos-text", f"the {what} holds a character that {vr} forbids")
    return _fixed(tag, vr, text)


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text).replace("\\", " ").strip()


def _issuer(tag: int, oid: str) -> Element:
    """A sequence of one universal entity: an OID (HL7v2 Hierarchic Designator Macro, PS3.3 10.14)."""
    return _sq(tag, (_elements((_fixed(0x00400032, "UT", Uid(oid)), _fixed(0x00400033, "CS", "ISO"))),))


def _concept(code: str, meaning: str) -> Element:
    """Concept Name Code Sequence with a code of DCM."""
    parts = (_fixed(0x00080100, "SH", code), _fixed(0x00080102, "SH", "DCM"), _fixed(0x00080104, "LO", meaning))
    return _sq(0x0040A043, (_elements(parts),))
