"""A manifest as the document Bundle of IHE MADO (FHIR R4, trial use 0.1.0 of July 2026; ihe §2.1 to 2.3).

Plain dictionaries in the order of FHIR's elements, then one JSON text: objects of ``fhir.resources`` say the same for
many times the cost (``make bench``), and the tests build the same Bundle with them.

Invariants:

* the same manifest and imprint give the same bytes; every id is the UUIDv5 of the document's own UID and a role;
* text that says who the patient is, which order this is, or which code, is written whole or the manifest is refused;
  text for people loses what XML forbids;
* an INS that its source calls anything but qualified is written nowhere; a status that nobody stated (an identity
  read from a document) is taken;
* every rule is checked before a byte is written; each refusal has its own code.

Decisions where the profiles are silent or at odds:

* with one order, ImagingStudy.basedOn carries its accession number beside the reference; with several it only refers
  to each ServiceRequest, as a KOS leaves (0008,0050) empty then;
* the category stands in both code systems HL7 Europe has published; Composition.title is the study's description;
* the referring physician is ImagingStudy.referrer.display, the text of DICOM unchanged;
* laterality is of DICOM CID 244, as in the KOS; a BodyPartExamined without coded region is bodySite.display.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any

from indexer.fhir import datatypes as d
from indexer.fhir import vocabulary as v
from indexer.fhir.narrative import printable, series_narrative, study_narrative
from indexer.manifest import Imprint, StudyManifest, study_offset
from indexer.report import Order
from indexer.study import Address, Instance, Series
from security.identity import Ins, PatientIdentity, Traits, Uid
from security.ins import INS_AUTHORITIES

Resource = dict[str, Any]

_NAMESPACE = uuid.UUID("a2c0f5c5-0e55-5f0b-8f0e-5a3f6f2b9d47")  # of every resource id made here; never change it
_HTTP = re.compile(r"https?://[!-~]+", re.ASCII)


_GENDER = {"M": "male", "F": "female", "U": "unknown"}
_SIDES = {
    "L": {"system": v.SNOMED, "code": "7771000", "display": "Left"},
    "R": {"system": v.SNOMED, "code": "24028007", "display": "Right"},
    "B": {"system": v.SNOMED, "code": "51440002", "display": "Bilateral"},
}
_ACCESSION_TYPE = {
    "coding": [
        {"system": v.IDENTIFIER_TYPE, "code": v.ACCESSION},
        {"system": v.DCM, "code": v.ACCESSION_NUMBER, "display": "Accession Number"},
    ]
}


def encode(manifest: StudyManifest, made: Imprint) -> bytes:
    """The manifest as ``application/fhir+json``, UTF-8, no blank between members. ``made.series_uid`` has no place.

    Raises:
        BadInput: ``fhir-no-patient``, ``fhir-authority``, ``fhir-no-accession``, ``fhir-no-instance``,
            ``fhir-duplicate-instance``, ``fhir-series-modality``, ``fhir-retrieve-base``, ``fhir-no-location``,
            ``fhir-viewer-url``, ``fhir-no-institution``, ``fhir-system``, ``fhir-text``; the message names what,
            never a value.
    """
    _check(manifest)
    return json.dumps(_Writer.of(manifest, made).bundle(), ensure_ascii=False, separators=(",", ":")).encode()


# -- the rules ---------------------------------------------------------------------------------------------------


def _check(manifest: StudyManifest) -> None:
    """Every rule on the manifest as a whole; those on one text stand where it is written."""
    ins = written_ins(manifest.patient)
    if ins is None and not manifest.patient.local_ids:
        raise d.refused("fhir-no-patient", "the patient has neither a qualified INS nor a local identifier")
    if ins is not None and ins.oid not in INS_AUTHORITIES:
        raise d.refused("fhir-authority", "the INS has an unknown assigning authority")
    if any(local.issuer in INS_AUTHORITIES for local in manifest.patient.local_ids):
        raise d.refused("fhir-authority", "a local identifier names an authority of the INS as its issuer")
    if not all(order.accession_number for order in manifest.orders):
        raise d.refused("fhir-no-accession", "an order has no accession number")
    if not printable(manifest.institution.name):
        raise d.refused("fhir-no-institution", "the institution that makes the manifest has no name")
    _check_series(manifest.series)
    _check_addresses(manifest)


def _check_series(listed: Sequence[Series]) -> None:
    if not listed or not all(series.instances for series in listed):
        raise d.refused("fhir-no-instance", "a series without instances, or no series")
    uids = [instance.sop_instance for series in listed for instance in series.instances]
    if len(set(uids)) != len(uids) or len({series.uid for series in listed}) != len(listed):
        raise d.refused("fhir-duplicate-instance", "a series or an instance is listed twice")
    if not all(printable(series.modality) for series in listed):
        raise d.refused("fhir-series-modality", "a series has no modality")


def _check_addresses(manifest: StudyManifest) -> None:
    for address in addresses(manifest):
        if address.base and (not _HTTP.fullmatch(address.base) or "/studies" in address.base):
            raise d.refused("fhir-retrieve-base", "the WADO-RS base is not an http(s) address without /studies")
        if not printable(address.location):
            raise d.refused("fhir-no-location", "the image source has no Retrieve Location UID")
    if manifest.viewer_url and not _HTTP.fullmatch(manifest.viewer_url):
        raise d.refused("fhir-viewer-url", "the viewer's address is not an http(s) address")


def written_ins(patient: PatientIdentity) -> Ins | None:
    """The INS, where it may be written: qualified, or read from a document, which states no status."""
    ins = patient.ins
    return ins if ins is not None and ins.matricule and ins.status in {"VALI", ""} else None


def addresses(manifest: StudyManifest) -> list[Address]:
    """The addresses in use, each once: the study's own first, then in the order of the series."""
    used = {_address(manifest, series): None for series in manifest.series}
    own = _comparable(manifest.address)
    return [own, *(one for one in used if one != own)] if own in used else list(used)


def _address(manifest: StudyManifest, series: Series) -> Address:
    return _comparable(series.address or manifest.address)


def _comparable(address: Address) -> Address:
    """What of an address a Bundle carries."""
    return Address(base=address.base.rstrip("/"), location=address.location)


# -- the resources -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """One Bundle in the making. ``endpoints``: id of the WADO Endpoint by address, in the order of the entries."""

    manifest: StudyManifest
    made: Imprint
    offset: timezone
    created: str
    title: str
    endpoints: dict[Address, str]

    @classmethod
    def of(cls, manifest: StudyManifest, made: Imprint) -> _Writer:
        seconds = study_offset(manifest, made).total_seconds()
        offset = timezone(timedelta(minutes=round(seconds / 60)))  # FHIR has no offset finer than a minute
        listed = addresses(manifest)
        return cls(
            manifest=manifest,
            made=made,
            offset=offset,
            created=made.created_at.astimezone(offset).isoformat(),
            title=printable(manifest.description) or f"Examen d'imagerie {manifest.study}",
            endpoints={
                address: _id(made.unique_id, "Endpoint", address.base, address.location) for address in listed
            },
        )

    def bundle(self) -> Resource:
        resources = [
            self._composition(),
            self._imaging_study(),
            self._patient(),
            *(self._wado_endpoint(address) for address in self.endpoints),
            *self._viewer_endpoint(),
            self._device(),
            self._organization(),
            *(self._service_request(place, order) for place, order in enumerate(self.manifest.orders)),
        ]
        return {
            "resourceType": "Bundle",
            "id": self._id("Bundle"),
            "meta": {"profile": [v.BUNDLE_PROFILE]},
            "identifier": self._document_identifier(),
            "type": "document",
            "timestamp": self.created,
            "entry": [{"fullUrl": v.URN_UUID + one["id"], "resource": one} for one in resources],
        }

    def _id(self, role: str, *parts: str) -> str:
        return _id(self.made.unique_id, role, *parts)

    def _reference(self, role: str, *parts: str) -> Resource:
        return {"reference": v.URN_UUID + self._id(role, *parts), "type": role}

    def _document_identifier(self) -> Resource:
        return {"system": v.URI, "value": v.URN_OID + self.made.unique_id}

    def _composition(self) -> Resource:
        manifest = self.manifest
        text = study_narrative(manifest, title=self.title, started=self._started(manifest.date, manifest.time))
        return {
            **self._head("Composition", v.COMPOSITION_PROFILE),
            "language": "fr",
            "text": text,
            "identifier": self._document_identifier(),
            "status": "final",
            "type": {
                "coding": [
                    {
                        "system": v.LOINC,
                        "code": v.DIAGNOSTIC_IMAGING_STUDY,
                        "display": "Diagnostic imaging study",
                    }
                ]
            },
            "category": [{"coding": [{"system": system, "code": v.MEDICAL_IMAGING} for system in v.CATEGORIES]}],
            "subject": self._reference("Patient"),
            "date": self.created,
            "author": [self._reference("Device"), self._reference("Organization")],
            "title": self.title,
            "event": [{"detail": [self._reference("ImagingStudy")]}],
            "section": [
                {
                    "title": "Série" if series.number is None else f"Série {series.number}",
                    "text": series_narrative(series),
                    "entry": [self._endpoint_of(series)],
                }
                for series in manifest.series
            ],
        }

    def _imaging_study(self) -> Resource:
        manifest = self.manifest
        modalities = dict.fromkeys(d.code(one.modality, "modality") for one in manifest.series)
        referrer = printable(manifest.referring_physician)
        return d.stated(
            {
                **self._head("ImagingStudy", v.IMAGING_STUDY_PROFILE),
                "extension": [
                    {"url": v.REGION_EXTENSION, "valueCodeableConcept": d.concept(region)}
                    for region in manifest.regions
                ],
                "identifier": [
                    {
                        "type": {
                            "coding": [
                                {"system": v.DCM, "code": v.STUDY_INSTANCE_UID, "display": "Study Instance UID"}
                            ]
                        },
                        "system": v.DICOM_UID,
                        "value": v.URN_OID + manifest.study,
                    }
                ],
                "status": "available",
                "modality": [{"system": v.DCM, "code": code} for code in modalities],
                "subject": self._reference("Patient"),
                "started": self._started(manifest.date, manifest.time),
                "basedOn": [self._based_on(place, order) for place, order in enumerate(manifest.orders)],
                "referrer": {"display": referrer} if referrer else {},
                "endpoint": [self._reference("Endpoint", "viewer")] if manifest.viewer_url else [],
                "numberOfSeries": len(manifest.series),
                "numberOfInstances": sum(len(one.instances) for one in manifest.series),
                "procedureCode": [d.procedure(one) for one in manifest.procedures],
                "description": printable(manifest.description),
                "series": [self._series(one) for one in manifest.series],
            }
        )

    def _series(self, series: Series) -> Resource:
        body_part = printable(series.body_part)
        site = d.coding(series.region) if series.region else d.stated({"display": body_part})
        return d.stated(
            {
                "uid": series.uid,
                "number": d.unsigned(series.number),
                "modality": {"system": v.DCM, "code": series.modality},
                "description": printable(series.description),
                "numberOfInstances": len(series.instances),
                "endpoint": [self._endpoint_of(series)],
                "bodySite": site,
                "laterality": _SIDES.get(series.laterality),
                "started": self._started(series.date, series.time),
                "instance": [_instance(one) for one in series.instances],
            }
        )

    def _endpoint_of(self, series: Series) -> Resource:
        return {"reference": v.URN_UUID + self.endpoints[_address(self.manifest, series)], "type": "Endpoint"}

    def _patient(self) -> Resource:
        patient = self.manifest.patient
        return d.stated(
            {
                **self._head("Patient", v.PATIENT_PROFILE),
                "extension": _birthplace(patient.traits),
                "identifier": list(_patient_identifiers(patient)),
                "name": list(_names(patient.traits)),
                "gender": _GENDER.get(patient.traits.sex, "other") if patient.traits.sex else "",
                "birthDate": patient.traits.birth_date.isoformat() if patient.traits.birth_date else "",
            }
        )

    def _wado_endpoint(self, address: Address) -> Resource:
        located: Resource = (
            {"address": address.base}
            if address.base
            else {
                "address": v.NO_ADDRESS,
                "_address": {"extension": [{"url": v.DATA_ABSENT_REASON, "valueCode": "unknown"}]},
            }
        )
        return {
            "resourceType": "Endpoint",
            "id": self.endpoints[address],
            "meta": {"profile": [v.WADO_ENDPOINT_PROFILE]},
            "extension": [
                {
                    "url": v.LOCATION_EXTENSION,
                    "valueString": d.whole(address.location, "Retrieve Location UID"),
                }
            ],
            "status": "active",
            "connectionType": {"system": v.CONNECTION_TYPE, "code": v.WADO_RS},
            "payloadType": [{"coding": [{"system": v.PAYLOAD_TYPE, "code": "none"}], "text": "DICOM WADO-RS"}],
            **located,
        }

    def _viewer_endpoint(self) -> Iterable[Resource]:
        if self.manifest.viewer_url:
            yield {
                "resourceType": "Endpoint",
                "id": self._id("Endpoint", "viewer"),
                "meta": {"profile": [v.VIEWER_ENDPOINT_PROFILE]},
                "status": "active",
                "connectionType": {"system": v.VIEWER_CONNECTION_TYPE, "code": v.WEB_VIEWER},
                "payloadType": [{"coding": [{"system": v.PAYLOAD_TYPE, "code": "none"}]}],
                "payloadMimeType": ["text/html"],
                "address": self.manifest.viewer_url,
            }

    def _device(self) -> Resource:
        return d.stated(
            {
                **self._head("Device", v.CREATOR_PROFILE),
                "manufacturer": printable(self.made.manufacturer),
                "type": {"coding": [{"system": v.DEVICE_TYPE, "code": v.MADO_CREATOR}]},
                "owner": self._reference("Organization"),
            }
        )

    def _organization(self) -> Resource:
        institution = self.manifest.institution
        number = institution.identifier
        identifier = d.identifier(institution.system, number, "institution identifier") if number else None
        return d.stated(
            {
                **self._head("Organization", v.ORGANIZATION_PROFILE),
                "identifier": [identifier] if identifier else [],
                "name": printable(institution.name),
            }
        )

    def _service_request(self, place: int, order: Order) -> Resource:
        identifiers = [_accession(order)]
        if order.placer_number:
            placer = d.identifier(order.placer_issuer, order.placer_number, "placer order number")
            identifiers.append({"type": {"coding": [{"system": v.IDENTIFIER_TYPE, "code": v.PLACER}]}, **placer})
        return {
            "resourceType": "ServiceRequest",
            "id": self._id("ServiceRequest", str(place)),
            "meta": {"profile": [v.PROCEDURE_PROFILE]},
            "identifier": identifiers,
            "status": "completed",
            "intent": "order",
            "category": [{"coding": [{"system": v.SNOMED, "code": "363679005", "display": "Imaging"}]}],
            "subject": self._reference("Patient"),
        }

    def _based_on(self, place: int, order: Order) -> Resource:
        reference = self._reference("ServiceRequest", str(place))
        return {**reference, "identifier": _accession(order)} if len(self.manifest.orders) == 1 else reference

    def _head(self, kind: str, profile: str) -> Resource:
        return {"resourceType": kind, "id": self._id(kind), "meta": {"profile": [profile]}}

    def _started(self, date_: str, moment: str) -> str:
        """FHIR dateTime of DA and TM at the document's offset: the day alone without a time, "" without a day."""
        day, clock = d.day(date_), d.clock(moment)
        return f"{day}T{clock}{d.offset(self.offset)}" if day and clock else day


def _instance(instance: Instance) -> Resource:
    """One instance; a key-image note tells its title and its description (ihe §2.2)."""
    extensions: list[Resource] = []
    frames = d.unsigned(instance.frames)
    if frames is not None:
        extensions.append({"url": v.FRAMES_EXTENSION, "valueInteger": frames})
    described = ""
    if instance.note is not None:
        extensions.append({"url": v.TITLE_EXTENSION, "valueCodeableConcept": d.concept(instance.note.title)})
        described = printable(instance.note.description)
    made: Resource = {"extension": extensions} if extensions else {}
    made["uid"] = instance.sop_instance
    made["sopClass"] = {"system": v.URI, "code": v.URN_OID + instance.sop_class}
    number = d.unsigned(instance.number)
    if number is not None:
        made["number"] = number
    if described:
        made["title"] = described
    return made


def _patient_identifiers(patient: PatientIdentity) -> Iterable[Resource]:
    ins = written_ins(patient)
    if ins is not None:
        kind = {"coding": [{"system": v.IDENTIFIER_TYPE, "code": v.NATIONAL}]}
        yield {"use": "official", "type": kind, **d.identifier(ins.oid, ins.matricule, "INS matricule")}
    for local in patient.local_ids:
        kind = {"coding": [{"system": v.IDENTIFIER_TYPE, "code": v.LOCAL}]}
        yield {"use": "usual", "type": kind, **d.identifier(local.issuer, local.value, "local patient identifier")}


def _names(traits: Traits) -> Iterable[Resource]:
    """The name of birth, then the used one; the list of given names as HL7 France lays it out."""
    given_names = [{"url": v.GIVEN_NAMES_EXTENSION, "valueString": traits.given_names}] if traits.given_names else []
    for use, extension, family, given in (
        ("official", given_names, traits.birth_name, traits.first_given_name),
        ("usual", [], traits.used_name, traits.used_given_name),
    ):
        for text in (family, given, *(one["valueString"] for one in extension)):
            if text:
                d.whole(text, "patient's name")
        if family or given or extension:
            yield d.stated({"extension": extension, "use": use, "family": family, "given": [given] if given else []})


def _birthplace(traits: Traits) -> list[Resource]:
    """The INSEE code of the birthplace, as HL7 France lays it out."""
    if not traits.birthplace:
        return []
    code = {"system": v.COMMUNES, "code": d.code(traits.birthplace, "birthplace code")}
    address = {"extension": [{"url": v.INSEE_EXTENSION, "valueCoding": code}]}
    return [{"url": v.BIRTHPLACE_EXTENSION, "valueAddress": address}]


def _accession(order: Order) -> Resource:
    return {
        "type": _ACCESSION_TYPE,
        **d.identifier(order.accession_issuer, order.accession_number, "accession number"),
    }


def _id(document: Uid, *parts: str | Sequence[str]) -> str:
    return str(uuid.uuid5(_NAMESPACE, json.dumps((document, *parts))))
