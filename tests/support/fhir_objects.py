"""The same Bundle by the plain route: one object of ``fhir.resources`` for each element, then its own JSON.

The reference of the direct writer: slow, typed, and written from the profiles, not from ``indexer.fhir.bundle``. Only
the ids and the narratives are those of the writer.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from fhir.resources.R4B.address import Address as FhirAddress
from fhir.resources.R4B.bundle import Bundle, BundleEntry
from fhir.resources.R4B.codeableconcept import CodeableConcept
from fhir.resources.R4B.coding import Coding
from fhir.resources.R4B.composition import Composition, CompositionEvent, CompositionSection
from fhir.resources.R4B.device import Device
from fhir.resources.R4B.domainresource import DomainResource
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.extension import Extension
from fhir.resources.R4B.fhirprimitiveextension import FHIRPrimitiveExtension
from fhir.resources.R4B.humanname import HumanName
from fhir.resources.R4B.identifier import Identifier
from fhir.resources.R4B.imagingstudy import ImagingStudy, ImagingStudySeries, ImagingStudySeriesInstance
from fhir.resources.R4B.meta import Meta
from fhir.resources.R4B.narrative import Narrative
from fhir.resources.R4B.organization import Organization
from fhir.resources.R4B.patient import Patient
from fhir.resources.R4B.reference import Reference
from fhir.resources.R4B.servicerequest import ServiceRequest

from indexer.fhir.bundle import _id
from indexer.fhir.narrative import series_narrative, study_narrative
from indexer.manifest import Imprint, StudyManifest, study_offset
from indexer.report import Coded, Order
from indexer.study import Address, Instance, Series

MADO = "https://profiles.ihe.net/RAD/MADO/"
DCM, SNOMED = "http://dicom.nema.org/resources/ontology/DCM", "http://snomed.info/sct"
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
PAYLOAD = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
SYSTEMS = {
    "1.2.840.10008.2.16.4": DCM,
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "2.16.840.1.113883.6.96": SNOMED,
}
LATERALITY = {"L": ("7771000", "Left"), "R": ("24028007", "Right"), "B": ("51440002", "Bilateral")}
GENDER = {"M": "male", "F": "female", "U": "unknown", "": None}


def by_objects(manifest: StudyManifest, made: Imprint) -> bytes:
    """What ``indexer.fhir.encode`` gives, for a manifest that tells its date and time."""
    return _Objects(manifest, made).bundle().model_dump_json().encode()


class _Objects:
    def __init__(self, manifest: StudyManifest, made: Imprint) -> None:
        self.manifest, self.made = manifest, made
        self.zone = timezone(timedelta(minutes=round(study_offset(manifest, made).total_seconds() / 60)))
        self.created = made.created_at.astimezone(self.zone)

    def bundle(self) -> Bundle:
        manifest = self.manifest
        addresses = dict.fromkeys(self.address(one) for one in manifest.series)
        resources = [
            self.composition(),
            self.study(),
            self.patient(),
            *(self.wado(one) for one in addresses),
            *([self.viewer()] if manifest.viewer_url else []),
            self.device(),
            self.organization(),
            *(self.request(place, order) for place, order in enumerate(manifest.orders)),
        ]
        return Bundle(
            id=self.id("Bundle"),
            meta=self.meta("MadoFhirBundle"),
            identifier=self.document(),
            type="document",
            timestamp=self.created,
            entry=[BundleEntry(fullUrl=f"urn:uuid:{one.id}", resource=one) for one in resources],
        )

    def id(self, *parts: str) -> str:
        return _id(self.made.unique_id, *parts)

    def meta(self, profile: str) -> Meta:
        return Meta(profile=[f"{MADO}StructureDefinition/{profile}"])

    def document(self) -> Identifier:
        return Identifier(system="urn:ietf:rfc:3986", value=f"urn:oid:{self.made.unique_id}")

    def refer(self, *parts: str, identifier: Identifier | None = None) -> Reference:
        return Reference(reference=f"urn:uuid:{self.id(*parts)}", type=parts[0], identifier=identifier)

    def address(self, series: Series) -> Address:
        stated = series.address or self.manifest.address
        return Address(base=stated.base.rstrip("/"), location=stated.location)

    def moment(self, day: str, clock: str) -> datetime | None:
        if not day:
            return None
        form = "%Y%m%d%H%M%S.%f" if "." in clock else "%Y%m%d%H%M%S"
        return datetime.strptime(day + clock, form).replace(tzinfo=self.zone)

    def composition(self) -> DomainResource:
        manifest = self.manifest
        started = self.moment(manifest.date, manifest.time)
        narrative = study_narrative(
            manifest, title=manifest.description, started=started.isoformat() if started else ""
        )
        europe = "CodeSystem/eehrxf-document-priority-category-cs"
        return Composition(
            id=self.id("Composition"),
            meta=self.meta("MadoComposition"),
            language="fr",
            text=Narrative(**narrative),
            identifier=self.document(),
            status="final",
            type=CodeableConcept(
                coding=[Coding(system="http://loinc.org", code="18748-4", display="Diagnostic imaging study")]
            ),
            category=[
                CodeableConcept(
                    coding=[
                        Coding(system=f"http://hl7.eu/fhir/{part}/{europe}", code="Medical-Imaging")
                        for part in ("health-data-api", "eu-health-data-api")
                    ]
                )
            ],
            subject=self.refer("Patient"),
            date=self.created,
            author=[self.refer("Device"), self.refer("Organization")],
            title=manifest.description,
            event=[CompositionEvent(detail=[self.refer("ImagingStudy")])],
            section=[
                CompositionSection(
                    title=f"Série {one.number}", text=Narrative(**series_narrative(one)), entry=[self.endpoint(one)]
                )
                for one in manifest.series
            ],
        )

    def endpoint(self, series: Series) -> Reference:
        address = self.address(series)
        return Reference(reference=f"urn:uuid:{self.id('Endpoint', address.base, address.location)}", type="Endpoint")

    def study(self) -> DomainResource:
        manifest = self.manifest
        uid_type = CodeableConcept(coding=[Coding(system=DCM, code="110180", display="Study Instance UID")])
        alone = len(manifest.orders) == 1
        return ImagingStudy(
            id=self.id("ImagingStudy"),
            meta=self.meta("MadoImagingStudy"),
            extension=[
                Extension(
                    url=f"{MADO}StructureDefinition/MadoAnatomicalRegionExtension", valueCodeableConcept=concept(one)
                )
                for one in manifest.regions
            ],
            identifier=[Identifier(type=uid_type, system="urn:dicom:uid", value=f"urn:oid:{manifest.study}")],
            status="available",
            modality=[Coding(system=DCM, code=one) for one in manifest.modalities],
            subject=self.refer("Patient"),
            started=self.moment(manifest.date, manifest.time),
            basedOn=[
                self.refer("ServiceRequest", str(place), identifier=accession(order) if alone else None)
                for place, order in enumerate(manifest.orders)
            ],
            referrer=Reference(display=manifest.referring_physician),
            endpoint=[self.refer("Endpoint", "viewer")] if manifest.viewer_url else None,
            numberOfSeries=len(manifest.series),
            numberOfInstances=sum(len(one.instances) for one in manifest.series),
            procedureCode=[
                CodeableConcept(coding=[coding(one)], text=one.display or one.code) for one in manifest.procedures
            ],
            description=manifest.description,
            series=[self.series(one) for one in manifest.series],
        )

    def series(self, series: Series) -> ImagingStudySeries:
        site = coding(series.region) if series.region else Coding(display=series.body_part or None)
        side = LATERALITY.get(series.laterality)
        return ImagingStudySeries(
            uid=series.uid,
            number=series.number,
            modality=Coding(system=DCM, code=series.modality),
            description=series.description or None,
            numberOfInstances=len(series.instances),
            endpoint=[self.endpoint(series)],
            bodySite=site,
            laterality=Coding(system=SNOMED, code=side[0], display=side[1]) if side else None,
            started=self.moment(series.date, series.time),
            instance=[instance(one) for one in series.instances],
        )

    def patient(self) -> DomainResource:
        patient, traits = self.manifest.patient, self.manifest.patient.traits
        assert patient.ins is not None
        fr = "https://hl7.fr/ig/fhir/core/StructureDefinition/"
        commune = Coding(
            system="https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM", code=traits.birthplace
        )
        born = FhirAddress(extension=[Extension(url=fr + "fr-core-address-insee-code", valueCoding=commune)])
        listed = Extension(url=fr + "fr-core-patient-birth-list-given-name", valueString=traits.given_names)
        return Patient(
            id=self.id("Patient"),
            meta=self.meta("MadoPatient"),
            extension=[
                Extension(url="http://hl7.org/fhir/StructureDefinition/patient-birthPlace", valueAddress=born)
            ],
            identifier=[
                number(patient.ins.oid, patient.ins.matricule, kind="NI", use="official"),
                *(number(one.issuer, one.value, kind="MR", use="usual") for one in patient.local_ids),
            ],
            name=[
                HumanName(
                    extension=[listed], use="official", family=traits.birth_name, given=[traits.first_given_name]
                ),
                HumanName(use="usual", family=traits.used_name, given=[traits.used_given_name]),
            ],
            gender=GENDER[traits.sex],
            birthDate=traits.birth_date,
        )

    def wado(self, address: Address) -> DomainResource:
        absent = Extension(url="http://hl7.org/fhir/StructureDefinition/data-absent-reason", valueCode="unknown")
        return Endpoint(
            id=self.id("Endpoint", address.base, address.location),
            meta=self.meta("MadoWadoEndpoint"),
            extension=[
                Extension(
                    url=f"{MADO}StructureDefinition/MadoRetrieveLocationUIDExtension", valueString=address.location
                )
            ],
            status="active",
            connectionType=Coding(
                system="http://terminology.hl7.org/CodeSystem/endpoint-connection-type", code="dicom-wado-rs"
            ),
            payloadType=[CodeableConcept(coding=[Coding(system=PAYLOAD, code="none")], text="DICOM WADO-RS")],
            address=address.base or "http://notspecified",
            address__ext=None if address.base else FHIRPrimitiveExtension(extension=[absent]),
        )

    def viewer(self) -> DomainResource:
        return Endpoint(
            id=self.id("Endpoint", "viewer"),
            meta=self.meta("MadoWebViewerEndpoint"),
            status="active",
            connectionType=Coding(system=f"{MADO}CodeSystem/MadoEndpointConnectionTypes", code="web-viewer"),
            payloadType=[CodeableConcept(coding=[Coding(system=PAYLOAD, code="none")])],
            payloadMimeType=["text/html"],
            address=self.manifest.viewer_url,
        )

    def device(self) -> DomainResource:
        return Device(
            id=self.id("Device"),
            meta=self.meta("MadoCreator"),
            manufacturer=self.made.manufacturer,
            type=CodeableConcept(coding=[Coding(system=f"{MADO}CodeSystem/MadoDeviceType", code="mado-creator")]),
            owner=self.refer("Organization"),
        )

    def organization(self) -> DomainResource:
        institution = self.manifest.institution
        return Organization(
            id=self.id("Organization"),
            meta=self.meta("MadoCreatorOrganization"),
            identifier=[Identifier(system=f"urn:oid:{institution.system}", value=institution.identifier)],
            name=institution.name,
        )

    def request(self, place: int, order: Order) -> DomainResource:
        return ServiceRequest(
            id=self.id("ServiceRequest", str(place)),
            meta=self.meta("MadoRequestedProcedure"),
            identifier=[accession(order), number(order.placer_issuer, order.placer_number, kind="PLAC")],
            status="completed",
            intent="order",
            category=[CodeableConcept(coding=[Coding(system=SNOMED, code="363679005", display="Imaging")])],
            subject=self.refer("Patient"),
        )


def instance(stated: Instance) -> ImagingStudySeriesInstance:
    extensions = []
    if stated.frames is not None:
        extensions.append(Extension(url=f"{MADO}StructureDefinition/MadoNumberOfFrames", valueInteger=stated.frames))
    if stated.note is not None:
        extensions.append(
            Extension(
                url=f"{MADO}StructureDefinition/MadoKeyObjectDocumentTitle",
                valueCodeableConcept=concept(stated.note.title),
            )
        )
    return ImagingStudySeriesInstance(
        extension=extensions or None,
        uid=stated.sop_instance,
        sopClass=Coding(system="urn:ietf:rfc:3986", code=f"urn:oid:{stated.sop_class}"),
        number=stated.number,
        title=stated.note.description if stated.note else None,
    )


def accession(order: Order) -> Identifier:
    return Identifier(
        type=CodeableConcept(
            coding=[
                Coding(system=V2_0203, code="ACSN"),
                Coding(system=DCM, code="121022", display="Accession Number"),
            ]
        ),
        system=f"urn:oid:{order.accession_issuer}",
        value=order.accession_number,
    )


def number(issuer: str, value: str, *, kind: str, use: str | None = None) -> Identifier:
    kinds = CodeableConcept(coding=[Coding(system=V2_0203, code=kind)])
    return Identifier(use=use, type=kinds, system=f"urn:oid:{issuer}", value=value)


def coding(coded: Coded) -> Coding:
    system = SYSTEMS.get(coded.system, f"urn:oid:{coded.system}")
    return Coding(system=system, code=coded.code, display=coded.display or None)


def concept(coded: Coded) -> CodeableConcept:
    return CodeableConcept(coding=[coding(coded)])
