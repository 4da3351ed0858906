"""The KOS of IHE MADO: a manifest with an Image Library that describes every series (PS3.16 TID 1600, ihe §1.3).

Decisions:

* issuers, Retrieve Location UID, study date and time, a coarse region and each series' modality are demanded;
  RetrieveURL is the WADO-RS base, left out when the site has none;
* a series' Target Region is its coded region, else BodyPartExamined as text;
* Display URI is (0040,E012) with DICOM's codes, the private element of the trial with its temporary ones;
* NUM counts, descriptors as children of their instance: the form of CP-2595, not that of the early samples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from indexer.codes import table
from indexer.kos import concepts
from indexer.kos.classes import value_type
from indexer.kos.concepts import CONCEPT_CODE, DCM, SIDES, coded, concept, mado_concept, unit
from indexer.kos.encoding import (
    CHARACTERS_MAX,
    Element,
    clean,
    date,
    element,
    elements,
    fixed,
    refused,
    sq,
    time,
    ui,
    whole,
)
from indexer.kos.patient import primary
from indexer.kos.variant import (
    ACQUISITION,
    CONTAINS,
    MODIFIER,
    RELATED,
    Variant,
    address_of,
    check_base,
    check_instances,
    item,
    location,
    no_instance_element,
    nothing,
    reference,
    references,
)
from indexer.manifest import StudyManifest
from indexer.reading import CodeSet
from indexer.report import Coded, Organization
from indexer.study import Instance, KeyNote, Series
from security.identity import Ins, LocalId, Uid

PRIVATE_CREATOR = "IHE_MADO_PRIVATE"  # of the trial's Display URI
_SEPARATE = fixed(0x0040A050, "CS", "SEPARATE")
_VIEWER = re.compile(r"https?://[!-~]+", re.ASCII)


def variant(codes: CodeSet) -> Variant:
    """The profile in one code set."""
    return Variant(
        patient=_patient,
        national=nothing,
        accession=True,
        institution=_institution,
        series=_series,
        instance=no_instance_element,
        study=lambda manifest: _display_uri(manifest.viewer_url, codes),
        title=mado_concept(concepts.TITLE, codes),
        items=lambda manifest: _items(manifest, codes),
        codes=_codes,
    )


# -- the rules ---------------------------------------------------------------------------------------------------


def _patient(manifest: StudyManifest) -> Ins | LocalId:
    """The identifier that names the patient, once the manifest keeps the profile's rules."""
    first = primary(manifest.patient)
    if not all(local.issuer for local in manifest.patient.local_ids):
        raise refused("kos-patient-issuer", "a local patient identifier has no issuer")
    if not manifest.orders or not all(order.accession_number for order in manifest.orders):
        raise refused("kos-no-accession", "an order without accession number, or no order")
    if not all(order.accession_issuer for order in manifest.orders):
        raise refused("kos-accession-issuer", "an accession number has no issuer")
    if not all(order.placer_issuer for order in manifest.orders if order.placer_number):
        raise refused("kos-placer-issuer", "a placer order number has no issuer")
    if not date(manifest.date) or not time(manifest.time):
        raise refused("kos-study-date", "the study has no date or no time")
    if not clean(manifest.institution.name):
        raise refused("kos-institution", "the institution that makes the manifest has no name")
    check_instances(manifest)
    if not manifest.regions:
        raise refused("kos-no-region", "no report states an anatomic region and no series has a known body part")
    if not all(clean(series.modality) for series in manifest.series):
        raise refused("kos-series-modality", "a series has no modality")
    return first


# -- the parts of the data set -----------------------------------------------------------------------------------


def _institution(institution: Organization) -> Element:
    """XON with its assigning authority: the name may be cut, the identifier not (ihe §1.1)."""
    tail = ""
    if institution.identifier:
        authority = f"&{Uid(institution.system)}&ISO" if institution.system else ""
        tail = f"^^^^^{authority}^^^^{institution.identifier}"
    name = clean(institution.name).replace("^", " ")[: max(0, CHARACTERS_MAX["LO"] - len(tail))]
    return whole(0x00080080, "LO", name.rstrip() + tail, "institution identifier")


def _series(manifest: StudyManifest, series: Series) -> Iterable[Element]:
    address = address_of(manifest, series)
    yield location(address.location)
    if address.base:
        check_base(address.base)
        yield fixed(0x00081190, "UR", address.base.rstrip("/"))


def _display_uri(url: str, codes: CodeSet) -> Iterable[Element]:
    """The address that shows the study (0040,E012), or the private element of the trial."""
    if not url:
        return
    if not _VIEWER.fullmatch(url):
        raise refused("kos-viewer-url", "the viewer's address is not an http(s) address")
    value = url.encode("ascii")
    padded = value + b" " * (len(value) % 2)
    if codes == "DCM":
        yield element(0x0040E012, "UR", padded)
        return
    yield fixed(0x000D0010, "LO", PRIVATE_CREATOR)
    yield element(0x000D1001, "UR", padded)


# -- the tree ----------------------------------------------------------------------------------------------------


def _items(manifest: StudyManifest, codes: CodeSet) -> Iterable[bytes]:
    """TID 2010: procedure codes, one reference for each instance, the library."""
    name = concept(concepts.PROCEDURE_CODE)
    for procedure in manifest.procedures:
        yield item("CODE", MODIFIER, name, coded(CONCEPT_CODE, procedure))
    yield from references(manifest.series)
    library = [
        *(_code(concepts.MODALITY, _modality(code)) for code in dict.fromkeys(_modalities(manifest))),
        *(_code(concepts.TARGET_REGION, region) for region in manifest.regions),
        _number(mado_concept(concepts.STUDY_SERIES, codes), len(manifest.series), "{series}"),
        *(_group(series, codes) for series in manifest.series),
    ]
    yield item("CONTAINER", CONTAINS, concept(concepts.IMAGE_LIBRARY), _SEPARATE, sq(RELATED, library))


def _group(series: Series, codes: CodeSet) -> bytes:
    """Image Library Group: one series (TID 1602)."""
    described = [_code(concepts.MODALITY, _modality(clean(series.modality)))]
    described.append(
        item("UIDREF", ACQUISITION, concept(concepts.SERIES_UID), ui(0x0040A124, series.uid)),
    )
    if series.number is not None:
        described.append(_text(concept(concepts.SERIES_NUMBER), str(series.number)))
    if stated := date(series.date):
        described.append(
            item("DATE", ACQUISITION, mado_concept(concepts.SERIES_DATE, codes), fixed(0x0040A121, "DA", stated))
        )
    if stated := time(series.time):
        described.append(
            item("TIME", ACQUISITION, mado_concept(concepts.SERIES_TIME, codes), fixed(0x0040A122, "TM", stated))
        )
    if series.description:
        described.append(_text(mado_concept(concepts.SERIES_DESCRIPTION, codes), clean(series.description)))
    if series.region is not None:
        described.append(_code(concepts.TARGET_REGION, series.region))
    elif series.body_part:
        described.append(_text(concept(concepts.TARGET_REGION), clean(series.body_part)))
    if series.laterality in SIDES:
        described.append(_code(concepts.LATERALITY, SIDES[series.laterality]))
    described.append(_number(mado_concept(concepts.SERIES_INSTANCES, codes), len(series.instances), "{instances}"))
    described.extend(_entry(instance) for instance in series.instances)
    return item("CONTAINER", CONTAINS, concept(concepts.IMAGE_LIBRARY_GROUP), _SEPARATE, sq(RELATED, described))


def _entry(instance: Instance) -> bytes:
    """Image Library Entry: one instance with its descriptors as children (TID 1601, TID 1609)."""
    described = []
    if instance.number is not None:
        described.append(_text(concept(concepts.INSTANCE_NUMBER), str(instance.number)))
    if instance.frames is not None:
        described.append(_number(concept(concepts.FRAMES), instance.frames, "{frames}"))
    if instance.note is not None:
        described.extend(_note(instance.note))
    parts = (sq(RELATED, described),) if described else ()
    return item(value_type(instance.sop_class), CONTAINS, reference(instance), *parts)


def _note(note: KeyNote) -> Iterable[bytes]:
    yield _code(concepts.DOCUMENT_TITLE, note.title)
    if note.description:
        yield _text(concept(concepts.KEY_OBJECT_DESCRIPTION), note.description)


def _code(name: str, value: Coded) -> bytes:
    return item("CODE", ACQUISITION, concept(name), coded(CONCEPT_CODE, value))


def _text(name: Element, value: str) -> bytes:
    return item("TEXT", ACQUISITION, name, fixed(0x0040A160, "UT", value))


def _number(name: Element, value: int, units: str) -> bytes:
    measured = elements((unit(0x004008EA, units), fixed(0x0040A30A, "DS", str(value))))
    return item("NUM", ACQUISITION, name, sq(0x0040A300, (measured,)))


def _modalities(manifest: StudyManifest) -> Iterable[str]:
    return (clean(modality) for modality in manifest.modalities)


def _modality(code: str) -> Coded:
    return Coded(code=code, system=DCM, display=table("modality").codes.get(code, code))


def _codes(manifest: StudyManifest) -> Iterable[Coded]:
    yield from manifest.procedures
    yield from manifest.regions
    for series in manifest.series:
        if series.region is not None:
            yield series.region
        yield from (one.note.title for one in series.instances if one.note is not None)
