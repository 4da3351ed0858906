"""The KOS of the drim-m profile (drim-m §4): a qualified INS, an address for each series, key-image notes.

Decisions:

* a key-image note stands inside the evidence of every image it points at, as the national sample has it; what a note
  says that points at no listed image is not carried;
* InstanceNumber and SeriesNumber in the evidence are the profile's additions to standard items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from indexer.kos.concepts import CONCEPT_NAME, KEY_OBJECT_DESCRIPTION, MANIFEST, coded, concept
from indexer.kos.encoding import CHARACTERS_MAX, Element, clean, elements, fixed, refused, sq, ui, whole
from indexer.kos.patient import national_elements, qualified
from indexer.kos.variant import (
    CONTAINS,
    RELATED,
    Variant,
    address_of,
    check_base,
    check_instances,
    item,
    location,
    nothing,
    references,
)
from indexer.manifest import StudyManifest
from indexer.report import Coded, Organization
from indexer.study import Instance, KeyNote, Series
from security.identity import Ins, Uid


def _patient(manifest: StudyManifest) -> Ins:
    ins, traits = qualified(manifest.patient), manifest.patient.traits
    if not (traits.birth_name and traits.first_given_name and traits.sex and traits.birth_date):
        raise refused("kos-no-trait", "birth name, first given name, sex or birth date is missing")
    if not manifest.orders or not all(order.accession_number for order in manifest.orders):
        raise refused("kos-no-accession", "an order without accession number, or no order")
    check_instances(manifest)
    for address in {address_of(manifest, series) for series in manifest.series}:
        check_base(address.base)
    return ins


def _institution(institution: Organization) -> Element:
    """XON as the profile lays it out: name, then the identifier in component 10. The name may be cut, not the
    identifier."""
    tail = "^" * 9 + institution.identifier
    name = clean(institution.name).replace("^", " ")[: max(0, CHARACTERS_MAX["LO"] - len(tail))]
    return whole(0x00080080, "LO", name.rstrip() + tail, "institution identifier")


def _series(manifest: StudyManifest, series: Series) -> Iterable[Element]:
    address = address_of(manifest, series)
    yield fixed(0x00081190, "UR", f"{address.base.rstrip('/')}/studies/{manifest.study}/series/{series.uid}")
    if series.number is not None:
        yield fixed(0x00200011, "IS", str(series.number))
    if address.location:
        yield location(address.location)


def _instance(manifest: StudyManifest) -> Callable[[Instance], Iterable[Element]]:
    noted: dict[Uid, list[bytes]] = defaultdict(list)
    for series in manifest.series:
        for instance in series.instances:
            if instance.note is not None:
                encoded = _note(series.uid, instance, instance.note)
                for uid in dict.fromkeys(instance.note.references):
                    noted[uid].append(encoded)

    def elements_of(instance: Instance) -> Iterable[Element]:
        if instance.number is not None:
            yield fixed(0x00200013, "IS", str(instance.number))
        if instance.sop_instance in noted:
            yield sq(0x00081199, noted[instance.sop_instance])

    return elements_of


def _note(series: Uid, instance: Instance, note: KeyNote) -> bytes:
    """A key-image note, told beside an image it points at."""
    parts = [ui(0x00081155, instance.sop_instance), ui(0x0020000E, series), coded(CONCEPT_NAME, note.title)]
    if note.description:
        parts.append(sq(RELATED, (elements((fixed(0x0040A160, "UT", note.description),)),)))
    return elements(parts)


def _items(manifest: StudyManifest) -> Iterable[bytes]:
    yield from references(manifest.series)
    text = fixed(0x0040A160, "UT", _description(manifest))
    yield item("TEXT", CONTAINS, concept(KEY_OBJECT_DESCRIPTION), text)


def _description(manifest: StudyManifest) -> str:
    """The text for people, laid out as the national demonstrator does: the one place with modalities (drim-m §4)."""
    lines = [f"Examen : {clean(manifest.description)}"]
    if manifest.procedures:
        lines.append(f"Acte = {clean(manifest.procedures[0].display or manifest.procedures[0].code)}")
    lines += [f"Série-{one.uid} : {clean(one.modality)} @  : {clean(one.description)}" for one in manifest.series]
    return "\r\n".join(lines)


def _codes(manifest: StudyManifest) -> Iterable[Coded]:
    return (one.note.title for series in manifest.series for one in series.instances if one.note is not None)


VARIANT = Variant(
    patient=_patient,
    national=lambda manifest: national_elements(manifest.patient.traits),
    accession=False,  # each accession number stands with its order, in (0040,A370)
    institution=_institution,
    series=_series,
    instance=_instance,
    study=nothing,
    title=concept(MANIFEST),
    items=_items,
    codes=_codes,
)
