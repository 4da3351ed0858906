"""A foreign Bundle as a manifest: whatever can be understood is, departures are those of ``profile``.

Invariants:

* nobody's identity is guessed: the patient is whom every subject means; two patients, or two national numbers of one,
  refuse the document; an INS is read without a status, which no document states;
* no instance is dropped: a UID that is none, or an instance without SOP class, refuses the document; what is listed
  twice is listed once;
* series and instances come back by (number, UID), whatever their order (ihe §1.3).

Decisions where a document departs:

* a Bundle whose identifier is no UID gets one derived from that identifier, or from its bytes without one;
* an issuer or Retrieve Location that is no OID is kept as it stands: FHIR can write it again, a KOS cannot;
* a series without a WADO Endpoint is fetched where the study is, else at the only WADO Endpoint of the Bundle;
* an order stated only in basedOn counts; words without a code are not made a code;
* of several given names the first is the first given name and all are the list; gender ``other`` is U.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta, timezone

from indexer.fhir import vocabulary as v
from indexer.fhir.document import (
    Document,
    Json,
    coded,
    extensions,
    has_code,
    ins_stated,
    is_of_type,
    is_wado,
    opened,
    record,
    records,
    study_uids,
    text,
    uid,
    whole,
)
from indexer.fhir.profile import deviations
from indexer.manifest import Imprint, StudyManifest, derived_uid
from indexer.reading import Reading
from indexer.report import Coded, Order, Organization
from indexer.study import Address, Instance, KeyNote, Series
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid

_STARTED = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(T(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]+)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2}))?",
    re.ASCII,
)
_SEX = {"male": "M", "female": "F", "other": "U", "unknown": "U"}
_SIDES = {  # DICOM CID 244, and FHIR's own example value set
    "7771000": "L",
    "419161000": "L",
    "24028007": "R",
    "419465000": "R",
    "51440002": "B",
}


def read(data: bytes) -> Reading:
    """The document as a manifest of form ``fhir``, profile ``mado``, with every deviation ``check`` finds.

    Raises:
        BadInput: ``json-…`` it is no JSON that is read here; ``fhir-not-bundle``, ``fhir-too-many-entries``,
            ``fhir-bundle-type``, ``fhir-one-study``, ``fhir-study-uid``, ``fhir-timestamp``, ``fhir-two-patients``,
            ``fhir-two-ins``, ``fhir-no-instance``, ``fhir-uid``, ``fhir-sop-class``: it is no manifest of
            one study of one patient.
    """
    document = opened(data)
    if text(document.bundle, "type") not in {"document", "collection"}:
        raise _refused("fhir-bundle-type", "the Bundle is neither a document nor a collection")
    study = _study(document)
    created = _created(document)
    zone = _zone(text(study, "started")) or _fixed(created)
    listed = _listed(study)
    address, *each = _addresses(document, study, [series for series, _ in listed.values()])
    started = _da_tm(text(study, "started"), zone)
    series = [
        _series(one, stated, instances, None if where == address else where, zone)
        for (one, (stated, instances)), where in zip(listed.items(), each, strict=True)
    ]
    manifest = StudyManifest(
        study=_study_uid(study),
        date=started[0],
        time=started[1],
        description=text(study, "description"),
        study_id="",
        referring_physician=text(record(study, "referrer"), "display"),
        patient=_patient(document, study),
        orders=tuple(_orders(document, study)),
        series=tuple(sorted(series, key=lambda one: (_rank(one.number), one.uid))),
        procedures=tuple(_concepts(records(study, "procedureCode"))),
        regions=tuple(
            _concepts(record(one, "valueCodeableConcept") for one in extensions(study, v.REGION_EXTENSION))
        ),
        institution=_institution(document),
        address=address,
        viewer_url=_viewer(document, study),
    )
    return Reading(
        manifest=manifest,
        imprint=Imprint(
            unique_id=_unique_id(document, data),
            series_uid=None,
            created_at=created,
            zone=zone,
            manufacturer=text(_creator(document), "manufacturer"),
        ),
        form="fhir",
        profile="mado",
        deviations=deviations(document),
    )


def _refused(code: str, why: str) -> BadInput:
    return BadInput(
        f"the FHIR document is no manifest: {why}",
        code=code,
        hint="the sender must write one document Bundle for one study of one patient",
    )


# -- the document ------------------------------------------------------------------------------------------------


def _unique_id(document: Document, data: bytes) -> Uid:
    identifier = record(document.bundle, "identifier")
    value = text(identifier, "value")
    if not value:
        return derived_uid("fhir-bundle", hashlib.sha256(data).hexdigest())
    return uid(value) or derived_uid("fhir-bundle", text(identifier, "system"), value)


def _created(document: Document) -> datetime:
    """When the document says it was made."""
    stated = (
        text(document.bundle, "timestamp"),
        *(text(one, "date") for one in document.of_type("Composition")),
    )
    for one in stated:
        try:
            made = datetime.fromisoformat(one)
        except ValueError:
            continue
        if made.tzinfo is not None:
            return made
    raise _refused("fhir-timestamp", "nothing says when it was made, with a time and an offset")


def _fixed(moment: datetime) -> timezone:
    return timezone(moment.utcoffset() or timedelta())


def _creator(document: Document) -> Json:
    devices = document.of_type("Device")
    made = (one for one in devices if has_code(record(one, "type"), v.DEVICE_TYPE, v.MADO_CREATOR))
    return next(made, devices[0] if len(devices) == 1 else {})


def _institution(document: Document) -> Organization:
    """The organization among the authors, else the creator's owner, else the only one there is."""
    authors = [
        one for work in document.of_type("Composition") for one in document.targets(work, "author", inside=work)
    ]
    creator = _creator(document)
    owner = document.target(record(creator, "owner"), inside=creator)
    listed = document.of_type("Organization")
    candidates = [*authors, *([owner] if owner else []), *(listed if len(listed) == 1 else [])]
    found = next((one for one in candidates if text(one, "resourceType") == "Organization"), {})
    identifier = next((one for one in records(found, "identifier") if text(one, "value")), {})
    return Organization(
        identifier=text(identifier, "value"),
        system=v.oid_of(text(identifier, "system")),
        name=text(found, "name"),
    )


# -- the patient and the orders ----------------------------------------------------------------------------------


def _patient(document: Document, study: Json) -> PatientIdentity:
    """Whom the study is about: a Patient of the Bundle, or the identifier that stands for one."""
    if len(document.subjects()) > 1:
        raise _refused("fhir-two-patients", "its parts are about different patients")
    subject = record(study, "subject")
    patient = document.target(subject, inside=study) or {"identifier": [record(subject, "identifier")]}
    national = ins_stated(patient)
    if len(national) > 1:
        raise _refused("fhir-two-ins", "the patient has two national numbers")
    ins = Ins(matricule=national[0][0], oid=national[0][1], status="") if national else None
    identifiers = ((text(one, "value"), v.oid_of(text(one, "system"))) for one in records(patient, "identifier"))
    return PatientIdentity(
        traits=_traits(patient),
        ins=ins,
        local_ids=tuple(
            LocalId(value=value, issuer=issuer)
            for value, issuer in identifiers
            if value and (value, issuer) not in national
        ),
    )


def _traits(patient: Json) -> Traits:
    names = records(patient, "name")
    born = next((one for one in names if text(one, "use") == "official"), None)
    born = born or next((one for one in names if text(one, "use") in {"", "maiden"}), {})
    used = next((one for one in names if text(one, "use") == "usual"), {})
    listed = next((text(one, "valueString") for one in extensions(born, v.GIVEN_NAMES_EXTENSION)), "")
    given = _given(born)
    return Traits(
        birth_name=text(born, "family"),
        first_given_name=given[0] if given else "",
        given_names=listed or (" ".join(given) if len(given) > 1 else ""),
        used_name=text(used, "family"),
        used_given_name=" ".join(_given(used)),
        sex=_SEX.get(text(patient, "gender"), ""),
        birth_date=_day(text(patient, "birthDate")),
        birthplace=_birthplace(patient),
    )


def _given(name: Json) -> list[str]:
    given = name.get("given")
    return [one for one in given if isinstance(one, str) and one] if isinstance(given, list) else []


def _day(stated: str) -> date | None:
    """A full date, None for less."""
    try:
        return date.fromisoformat(stated) if len(stated) == 10 else None
    except ValueError:
        return None


def _birthplace(patient: Json) -> str:
    for place in extensions(patient, v.BIRTHPLACE_EXTENSION):
        for insee in extensions(record(place, "valueAddress"), v.INSEE_EXTENSION):
            return text(record(insee, "valueCoding"), "code")
    return ""


def _orders(document: Document, study: Json) -> Iterable[Order]:
    """The orders: every ServiceRequest, then what only ImagingStudy.basedOn states."""
    orders = [_order(records(one, "identifier")) for one in document.of_type("ServiceRequest")]
    known = {(one.accession_number, one.accession_issuer) for one in orders}
    based = (_order([record(one, "identifier")]) for one in records(study, "basedOn"))
    orders += [one for one in based if (one.accession_number, one.accession_issuer) not in known]
    return (one for one in orders if one.accession_number or one.placer_number)


def _order(identifiers: list[Json]) -> Order:
    accession, placer = _numbered(identifiers, v.ACCESSION), _numbered(identifiers, v.PLACER)
    return Order(
        accession_number=accession[0],
        accession_issuer=accession[1],
        placer_number=placer[0],
        placer_issuer=placer[1],
    )


def _numbered(identifiers: Iterable[Json], kind: str) -> tuple[str, str]:
    found = next((one for one in identifiers if is_of_type(one, kind) and text(one, "value")), {})
    return text(found, "value"), v.oid_of(text(found, "system"))


# -- the study ---------------------------------------------------------------------------------------------------


def _study(document: Document) -> Json:
    studies = document.of_type("ImagingStudy")
    if len(studies) != 1:
        raise _refused("fhir-one-study", f"it has {len(studies)} studies")
    return studies[0]


def _study_uid(study: Json) -> Uid:
    stated = {value for _, value in study_uids(study)}
    found = stated.pop() if len(stated) == 1 else None
    if found is None:
        raise _refused("fhir-study-uid", "the study has no Study Instance UID, or several")
    return found


def _listed(study: Json) -> dict[Uid, tuple[Json, list[Instance]]]:
    """Every series by its UID, with its instances; of what is listed twice the first counts."""
    found: dict[Uid, tuple[Json, list[Instance]]] = {}
    seen: set[Uid] = set()
    for series in records(study, "series"):
        _, instances = found.setdefault(_uid(series), (series, []))
        for stated in records(series, "instance"):
            instance = _instance(stated)
            if instance.sop_instance not in seen:
                seen.add(instance.sop_instance)
                instances.append(instance)
    found = {one: (series, instances) for one, (series, instances) in found.items() if instances}
    if not found:
        raise _refused("fhir-no-instance", "it lists no instance")
    return found


def _series(listed: Uid, series: Json, instances: list[Instance], address: Address | None, zone: timezone) -> Series:
    """One series. ``address``: where it alone is fetched."""
    site = record(series, "bodySite")
    region = coded(site)
    day, moment = _da_tm(text(series, "started"), zone)
    return Series(
        uid=listed,
        modality=text(record(series, "modality"), "code"),
        instances=tuple(sorted(instances, key=lambda one: (_rank(one.number), one.sop_instance))),
        number=whole(series, "number"),
        description=text(series, "description"),
        body_part="" if region else text(site, "display"),
        date=day,
        time=moment,
        region=region,
        laterality=_SIDES.get(text(record(series, "laterality"), "code"), ""),
        address=address,
    )


def _rank(number: int | None) -> float:
    return math.inf if number is None else number


def _instance(instance: Json) -> Instance:
    sop_class = uid(text(record(instance, "sopClass"), "code"))
    if sop_class is None:
        raise _refused("fhir-sop-class", "an instance has no SOP Class UID")
    frames = next((whole(one, "valueInteger") for one in extensions(instance, v.FRAMES_EXTENSION)), None)
    titles = _concepts(record(one, "valueCodeableConcept") for one in extensions(instance, v.TITLE_EXTENSION))
    title = next(iter(titles), None)
    return Instance(
        sop_class=sop_class,
        sop_instance=_uid(instance),
        number=whole(instance, "number"),
        frames=frames,
        note=KeyNote(title=title, description=text(instance, "title")) if title else None,
    )


def _uid(listed: Json) -> Uid:
    found = uid(text(listed, "uid"))
    if found is None:
        raise _refused("fhir-uid", "a series or an instance has no UID")
    return found


def _concepts(concepts: Iterable[Json]) -> Iterable[Coded]:
    """The first code of each concept; one with words alone is left out."""
    for concept in concepts:
        codings = (coded(one, text(concept, "text")) for one in records(concept, "coding"))
        first = next((one for one in codings if one is not None), None)
        if first is not None:
            yield first


# -- where the images are ----------------------------------------------------------------------------------------


def _addresses(document: Document, study: Json, listed: Iterable[Json]) -> list[Address]:
    """The address of each series, the study's own first: the first WADO Endpoint of the Bundle that a series uses."""
    everywhere = [one for one in document.of_type("Endpoint") if is_wado(one)]
    common = document.wado(study, study=study) or (everywhere if len(everywhere) == 1 else [])
    used = [next(iter(document.wado(one, study=study) or common), {}) for one in listed]
    own = next((one for one in everywhere if any(one is each for each in used)), used[0])
    return [_address(one) for one in (own, *used)]


def _address(endpoint: Json) -> Address:
    stated = text(endpoint, "address")
    base = "" if stated == v.NO_ADDRESS else stated.partition("/studies")[0].rstrip("/")
    location = next((text(one, "valueString") for one in extensions(endpoint, v.LOCATION_EXTENSION)), "")
    return Address(base=base, location=location.removeprefix(v.URN_OID))


def _viewer(document: Document, study: Json) -> str:
    """The address of the study's viewer, "" for none."""
    for endpoint in document.targets(study, "endpoint", inside=study):
        kind, shown = record(endpoint, "connectionType"), endpoint.get("payloadMimeType")
        if text(kind, "code") == v.WEB_VIEWER or (isinstance(shown, list) and shown == ["text/html"]):
            return text(endpoint, "address")
    return ""


# -- moments -----------------------------------------------------------------------------------------------------


def _zone(started: str) -> timezone | None:
    """The offset of a dateTime, None when it states none."""
    moment = _moment(started)
    return _fixed(moment) if moment is not None else None


def _moment(started: str) -> datetime | None:
    """A dateTime with time and offset, to the second."""
    stated = _STARTED.fullmatch(started)
    if stated is None or stated["clock"] is None:
        return None
    try:
        return datetime.fromisoformat(f"{stated['day']}T{stated['clock']}{stated['zone']}")
    except ValueError:
        return None


def _da_tm(started: str, zone: timezone) -> tuple[str, str]:
    """DA and TM of a dateTime in the document's one offset; "" for what it does not state."""
    stated, moment = _STARTED.fullmatch(started), _moment(started)
    if stated is None:
        return "", ""
    if moment is None:
        return (stated["day"].replace("-", ""), "") if _day(stated["day"]) else ("", "")
    try:
        local = moment.astimezone(zone)
    except OverflowError:  # the first or the last day that there is
        local = moment
    return local.strftime("%Y%m%d").zfill(8), local.strftime("%H%M%S") + (stated["fraction"] or "")[:7]
