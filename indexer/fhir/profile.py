"""A Bundle held against FHIR R4 and the profiles of IHE MADO: every departure from ``indexer.rules.fhir`` as data.

Invariants:

* any JSON of a Bundle is checked to its end: a fault hides no other, except below what is missing altogether;
* nothing is fetched and no terminology is asked: of codes only the required bindings and MADO's regions are checked;
* a deviation tells where and what kind, no value of the document.

Left to others: what the document means (``reader``), which of several readings of MADO a community follows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from indexer.codes import table
from indexer.fhir import bindings, structure
from indexer.fhir import vocabulary as v
from indexer.fhir.document import (
    Document,
    Json,
    extensions,
    has_code,
    ins_stated,
    is_of_type,
    is_urn,
    is_wado,
    opened,
    record,
    records,
    study_uids,
    text,
    uid,
    whole,
)
from indexer.reading import Deviation
from security.errors import BadInput
from security.identity import Uid

_FULL_URL = re.compile(r"(urn:(uuid|oid):|https?://)\S+", re.ASCII)
_BASE = re.compile(r"https?://[!-~]+(?<!/)", re.ASCII)
_FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?", re.ASCII)
_KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"


def check(data: bytes) -> tuple[Deviation, ...]:
    """Every departure of the document from R4 and MADO, none for a Bundle of ours whose source told all.

    Raises:
        BadInput: ``json-…`` of ``security.parse``: it is no JSON that is read here.
    """
    try:
        document = opened(data)
    except BadInput as cause:
        if not cause.code.startswith("fhir-"):
            raise
        return (Deviation(rule=cause.code, where="Bundle"),)
    return deviations(document)


def deviations(document: Document) -> tuple[Deviation, ...]:
    """Every departure of a Bundle that is already open."""
    return tuple(
        chain(
            structure.faults(document.bundle),
            bindings.faults(document),
            _addresses(document),
            _references(document),
            _bundle(document.bundle),
            _composition(document),
            _makers(document),
            _patients(document),
            _orders(document),
            _endpoints(document),
            _codes(document),
            _study(document),
        )
    )


def _at(rule: str, where: str, detail: str = "") -> Deviation:
    return Deviation(rule=rule, where=where, detail=detail)


def _hints(where: str, resource: Json, names: Iterable[str]) -> Iterator[Deviation]:
    """Must Support elements that are silent."""
    yield from (_at("fhir-must-support", f"{where}.{name}") for name in names if not resource.get(name))


# -- the Bundle and its addresses --------------------------------------------------------------------------------


def _bundle(bundle: Json) -> Iterator[Deviation]:
    identifier = record(bundle, "identifier")
    if not text(identifier, "value"):
        yield _at("fhir-identifier", "Bundle.identifier")
    elif text(identifier, "system") != v.URI or not is_urn(text(identifier, "value")):
        yield _at("fhir-identifier-uid", "Bundle.identifier")
    kind = text(bundle, "type")
    if kind == "collection":
        yield _at("fhir-collection", "Bundle.type")
    elif kind != "document":
        yield _at("fhir-bundle-type", "Bundle.type")
    if not text(bundle, "timestamp"):
        yield _at("fhir-timestamp", "Bundle.timestamp")
    if "total" in bundle:
        yield _at("fhir-total", "Bundle.total")


def _addresses(document: Document) -> Iterator[Deviation]:
    seen: set[str] = set()
    for place, entry in enumerate(records(document.bundle, "entry")):
        address = text(entry, "fullUrl")
        if address in seen:
            yield _at("fhir-duplicate-full-url", f"Bundle.entry[{place}].fullUrl")
        elif not _FULL_URL.fullmatch(address):
            yield _at("fhir-full-url", f"Bundle.entry[{place}].fullUrl")
        seen.add(address)


def _references(document: Document) -> Iterator[Deviation]:
    """References to nothing. What only informs may point to another server, what the document is made of may not."""
    for where, resource in document.resources:
        in_document = text(resource, "resourceType") == "Composition"
        for place, reference in _walk(resource, where):
            address = text(reference, "reference")
            if document.target(reference, inside=resource) is None and (
                in_document or not address.startswith(("http://", "https://"))
            ):
                yield _at("fhir-reference", f"{place}.reference")


def _walk(value: object, where: str) -> Iterator[tuple[str, Json]]:
    """Every object with a ``reference`` in words, with its path."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield where, value
        for name, one in value.items():
            if isinstance(one, dict | list):
                yield from _walk(one, f"{where}.{name}")
    elif isinstance(value, list):
        for place, one in enumerate(value):
            if isinstance(one, dict | list):
                yield from _walk(one, f"{where}[{place}]")


# -- the Composition and the makers ------------------------------------------------------------------------------


def _composition(document: Document) -> Iterator[Deviation]:
    found = document.of_type("Composition")
    first = document.resources[0][1] if document.resources else {}
    is_first = len(found) == 1 and found[0] is first
    if not is_first and (found or text(document.bundle, "type") == "document"):
        yield _at("fhir-composition", "Bundle.entry", f"{len(found)} Compositions")
    if not is_first:
        return
    if not _told(first):
        yield _at("fhir-composition-text", "Composition.text")
    for place, section in enumerate(records(first, "section")):
        if not _told(section):
            yield _at("fhir-composition-text", f"Composition.section[{place}].text")
    own, outer = record(first, "identifier"), record(document.bundle, "identifier")
    if outer and (text(own, "system"), text(own, "value")) != (text(outer, "system"), text(outer, "value")):
        yield _at("fhir-composition-identifier", "Composition.identifier")
    details = [one for event in records(first, "event") for one in document.targets(event, "detail", inside=first)]
    if [text(one, "resourceType") for one in details].count("ImagingStudy") != 1:
        yield _at("fhir-composition-event", "Composition.event.detail")
    authors = document.targets(first, "author", inside=first)
    if sorted(text(one, "resourceType") for one in authors) != ["Device", "Organization"]:
        yield _at("fhir-author", "Composition.author")


def _told(narrated: Json) -> bool:
    narrative = record(narrated, "text")
    return bool(text(narrative, "div")) and text(narrative, "status") != "empty"


def _makers(document: Document) -> Iterator[Deviation]:
    creators = [
        one for one in document.of_type("Device") if has_code(record(one, "type"), v.DEVICE_TYPE, v.MADO_CREATOR)
    ]
    if len(creators) != 1:
        yield _at("fhir-creator", "Bundle.entry", f"{len(creators)} creators")
    for creator in creators:
        yield from _hints("Device", creator, ("manufacturer", "owner"))
    for organization in document.of_type("Organization"):
        if not text(organization, "name"):
            yield _at("fhir-organization-name", "Organization.name")
        yield from _hints("Organization", organization, ("identifier",))
        yield from _issuers("Organization", records(organization, "identifier"))


# -- who and why -------------------------------------------------------------------------------------------------


def _patients(document: Document) -> Iterator[Deviation]:
    patients = document.of_type("Patient")
    people = {id(one) for one in (*patients, *document.subjects())}
    if len(people) > 1:
        yield _at("fhir-two-patients", "Patient", f"{len(people)} patients")
    for patient in patients:
        yield from _hints("Patient", patient, ("identifier", "name", "gender", "birthDate"))
        yield from _issuers("Patient", records(patient, "identifier"))
        if len(ins_stated(patient)) > 1:
            yield _at("fhir-two-ins", "Patient.identifier")


def _issuers(where: str, identifiers: Iterable[Json]) -> Iterator[Deviation]:
    for place, identifier in enumerate(identifiers):
        system = text(identifier, "system")
        if not system:
            yield _at("fhir-must-support", f"{where}.identifier[{place}].system")
        elif not (system.startswith(v.URN_OID) and v.is_oid(v.oid_of(system))):
            yield _at("fhir-issuer", f"{where}.identifier[{place}].system")


def _orders(document: Document) -> Iterator[Deviation]:
    for place, request in enumerate(document.of_type("ServiceRequest")):
        identifiers = records(request, "identifier")
        where = f"ServiceRequest[{place}]"
        if sum(is_of_type(one, v.ACCESSION) and bool(text(one, "value")) for one in identifiers) != 1:
            yield _at("fhir-accession", f"{where}.identifier")
        yield from _issuers(where, identifiers)


# -- the addresses of the images ---------------------------------------------------------------------------------


def _endpoints(document: Document) -> Iterator[Deviation]:
    for place, endpoint in enumerate(filter(is_wado, document.of_type("Endpoint"))):
        where = f"Endpoint[{place}]"
        stated = [text(one, "valueString") for one in extensions(endpoint, v.LOCATION_EXTENSION)]
        if len(stated) != 1 or not stated[0]:
            yield _at("fhir-retrieve-location", f"{where}.extension")
        elif not v.is_oid(stated[0]):
            yield _at("fhir-retrieve-location-uid", f"{where}.extension")
        base = text(endpoint, "address")
        absent = base == v.NO_ADDRESS and extensions(record(endpoint, "_address"), v.DATA_ABSENT_REASON)
        if not absent and (not _BASE.fullmatch(base) or "/studies" in base or base == v.NO_ADDRESS):
            yield _at("fhir-endpoint-address", f"{where}.address")
        payloads = records(endpoint, "payloadType")
        if not any(has_code(one, v.PAYLOAD_TYPE, "none") and text(one, "text") for one in payloads):
            yield _at("fhir-endpoint-payload", f"{where}.payloadType")


# -- the codes ---------------------------------------------------------------------------------------------------


def _codes(document: Document) -> Iterator[Deviation]:
    """Coded values of the study: regions, procedures, body sites, titles of key-image notes."""
    for study in document.of_type("ImagingStudy"):
        for place, procedure in enumerate(records(study, "procedureCode")):
            where = f"ImagingStudy.procedureCode[{place}]"
            if not text(procedure, "text") and not any(text(one, "display") for one in records(procedure, "coding")):
                yield _at("fhir-procedure-text", where)
            yield from _concept(where, procedure)
        known = table("region").codes
        for place, extension in enumerate(extensions(study, v.REGION_EXTENSION)):
            where = f"ImagingStudy.extension[{place}]"
            concept = record(extension, "valueCodeableConcept")
            yield from _concept(where, concept)
            coarse = any(has_code(concept, v.SNOMED, code) for code in known)
            if records(concept, "coding") and not coarse:
                yield _at("fhir-region", where)
        for path, series in _series(study):
            yield from _system(f"{path}.bodySite", record(series, "bodySite"))
            for place, instance in enumerate(records(series, "instance")):
                for title in extensions(instance, v.TITLE_EXTENSION):
                    concept = record(title, "valueCodeableConcept")
                    yield from _concept(f"{path}.instance[{place}].extension", concept)


def _concept(where: str, concept: Json) -> Iterator[Deviation]:
    if not any(text(one, "code") for one in records(concept, "coding")):
        yield _at("fhir-uncoded", where)
    for coding in records(concept, "coding"):
        yield from _system(f"{where}.coding", coding)


def _system(where: str, coding: Json) -> Iterator[Deviation]:
    system = text(coding, "system")
    if system.startswith(v.URN_OID) and v.url_of(v.oid_of(system)) != system:
        yield _at("fhir-code-system", f"{where}.system", v.url_of(v.oid_of(system)))


# -- the study ---------------------------------------------------------------------------------------------------


def _series(study: Json) -> Iterator[tuple[str, Json]]:
    for place, series in enumerate(records(study, "series")):
        yield f"ImagingStudy.series[{place}]", series


def _study(document: Document) -> Iterator[Deviation]:
    studies = document.of_type("ImagingStudy")
    if len(studies) != 1:
        yield _at("fhir-one-study", "Bundle.entry", f"{len(studies)} studies")
        return
    study = studies[0]
    yield from _study_uid(study)
    subject = document.target(record(study, "subject"), inside=study)
    if subject is None or text(subject, "resourceType") != "Patient":
        yield _at("fhir-subject", "ImagingStudy.subject")
    numbers = [one for one in records(study, "basedOn") if is_of_type(record(one, "identifier"), v.ACCESSION)]
    if len(numbers) > 1:
        yield _at("fhir-several-accessions", "ImagingStudy.basedOn")
    yield from _started("ImagingStudy", study)
    yield from _counts(study)
    yield from _uids(study)
    expected = ("modality", "started", "description", "procedureCode")
    yield from _hints("ImagingStudy", study, expected)
    if not extensions(study, v.REGION_EXTENSION):
        yield _at("fhir-must-support", "ImagingStudy.extension (anatomic region)")
    for where, series in _series(study):
        yield from _one_series(document, study, where, series)


def _study_uid(study: Json) -> Iterator[Deviation]:
    stated = study_uids(study)
    if len({value for _, value in stated}) != 1 or stated[0][1] is None:
        yield _at("fhir-study-uid", "ImagingStudy.identifier")
    elif len(stated) > 1 or not all(
        text(one, "system") == v.DICOM_UID
        and text(one, "value").startswith(v.URN_OID)
        and has_code(record(one, "type"), v.DCM, v.STUDY_INSTANCE_UID)
        for one, _ in stated
    ):
        yield _at("fhir-study-uid-form", "ImagingStudy.identifier")


def _started(where: str, resource: Json) -> Iterator[Deviation]:
    started = text(resource, "started")
    if started and not _FULL_DATE.fullmatch(started):
        yield _at("fhir-started", f"{where}.started")


def _counts(study: Json) -> Iterator[Deviation]:
    listed = records(study, "series")
    if whole(study, "numberOfSeries") != len(listed):
        yield _at("fhir-number-of-series", "ImagingStudy.numberOfSeries", f"{len(listed)} listed")
    if not listed:
        yield _at("fhir-no-instance", "ImagingStudy.series")
    total = 0
    for where, series in _series(study):
        instances = len(records(series, "instance"))
        total += instances
        if not instances:
            yield _at("fhir-no-instance", f"{where}.instance")
        if whole(series, "numberOfInstances") != instances:
            yield _at("fhir-number-of-instances", f"{where}.numberOfInstances", f"{instances} listed")
    if "numberOfInstances" in study and whole(study, "numberOfInstances") != total:
        yield _at("fhir-number-of-instances", "ImagingStudy.numberOfInstances", f"{total} listed")


def _uids(study: Json) -> Iterator[Deviation]:
    """UIDs that are none or listed twice (one with urn:oid: is no FHIR id: the structure tells), SOP classes."""
    seen: Counter[tuple[str, Uid]] = Counter()
    for where, series in _series(study):
        yield from _one_uid(seen, "series", where, series)
        for place, instance in enumerate(records(series, "instance")):
            path = f"{where}.instance[{place}]"
            yield from _one_uid(seen, "instance", path, instance)
            sop_class = record(instance, "sopClass")
            if uid(text(sop_class, "code")) is None:
                yield _at("fhir-sop-class", f"{path}.sopClass")
            elif text(sop_class, "system") != v.URI or not is_urn(text(sop_class, "code")):
                yield _at("fhir-sop-class-form", f"{path}.sopClass")


def _one_uid(seen: Counter[tuple[str, Uid]], kind: str, where: str, resource: Json) -> Iterator[Deviation]:
    found = uid(text(resource, "uid"))
    if found is None:
        yield _at("fhir-uid", f"{where}.uid")
        return
    seen[kind, found] += 1
    if seen[kind, found] > 1:
        yield _at("fhir-duplicate-uid", f"{where}.uid")


def _one_series(document: Document, study: Json, where: str, series: Json) -> Iterator[Deviation]:
    """The addresses of a series, and what is silent in it."""
    addresses = document.wado(series, study=study)
    if not addresses:
        yield _at("fhir-series-endpoint", f"{where}.endpoint")
    elif len(addresses) > 1:
        yield _at("fhir-several-endpoints", f"{where}.endpoint")
    yield from _started(where, series)
    expected = ("description", "bodySite", "started")
    yield from _hints(where, series, expected)
    instances = records(series, "instance")
    for holder, silent in ((where, [series]), (f"{where}.instance", instances)):
        if any(whole(one, "number") is None for one in silent):
            yield _at("fhir-must-support", f"{holder}.number")
    for place, instance in enumerate(instances):
        is_note = uid(text(record(instance, "sopClass"), "code")) == _KEY_OBJECT
        if is_note and not extensions(instance, v.TITLE_EXTENSION):
            yield _at("fhir-must-support", f"{where}.instance[{place}].extension (document title)")
