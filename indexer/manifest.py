"""``StudyManifest``: the frozen description of one study at one version, the source of every document form.

Invariants:

* built from identifiers and codes only, never from a Dataset;
* two manifests with the same content have the same ``content_hash``, whatever their version or the moment
  they were made (I6);
* ``unique_id`` derives from (tenant, study, version, content hash): the same content never gets a second id
  by a retry, another content never gets the same (I5, FF-17).
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from pydantic import TypeAdapter

from indexer.report import Coded, Order, Organization, Professional, Visibility
from indexer.study import Address, Series
from security.identity import PatientIdentity, Uid

_NAMESPACE = uuid.UUID("7f0c1f1e-5d0a-5c39-9a53-0f2f3e1b6d11")  # of every UUIDv5 made here; never change it


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyManifest:
    """What the world may know of one study. Which of it a document form carries, its own module says.

    ``patient``: the identity the exam is published under (profile drim-m: with a qualified INS; elsewhere the first
    local identifier names the patient). ``orders``: those this study fulfils. ``procedures``: what was done, the
    leading code first. ``regions``: coarse anatomic regions of the whole study. ``address``: where the images are
    fetched. ``institution``: who made the manifest. ``viewer_url``: opaque address that shows the study, "" for none.
    """

    study: Uid
    date: str
    time: str
    description: str
    study_id: str
    referring_physician: str
    patient: PatientIdentity
    orders: tuple[Order, ...]
    series: tuple[Series, ...]
    procedures: tuple[Coded, ...]
    regions: tuple[Coded, ...]
    institution: Organization
    address: Address
    viewer_url: str = ""

    @property
    def modalities(self) -> tuple[str, ...]:
        """DICOM modality codes of the series, each once, in series order."""
        return tuple(dict.fromkeys(series.modality for series in self.series))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the index is told about the manifest beside its content: drim-m §5 metadata that come from the
    valid reports of the study. ``authors``: the doctors; the authoring device is a setting of the tenant."""

    visibility: Visibility
    confidentiality: str
    legal_authenticator: Professional | None
    facility_type: Coded | None
    practice_setting: Coded | None
    service_start: datetime | None
    service_stop: datetime | None
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One version of one study's manifest: made once, stored, never recomputed.

    ``created_at``: aware. ``unique_id``: SOPInstanceUID of the KOS = XDSDocumentEntry.uniqueId.
    ``series_uid``: SeriesInstanceUID of the KOS. ``submission_id``: XDSSubmissionSet.uniqueId.
    ``replaces``: entryUUID (``urn:uuid:…``) of the approved entry this one replaces, None for a first one.
    """

    tenant: str
    version: int
    created_at: datetime
    unique_id: Uid
    series_uid: Uid
    submission_id: Uid
    replaces: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Imprint:
    """What one document says of its own making.

    ``unique_id``: SOPInstanceUID of a KOS, Bundle.identifier of a FHIR document: the same for both forms of one
    version. ``series_uid``: SeriesInstanceUID of the KOS, None in a form that has none. ``created_at``: aware.
    ``zone``: of every date and time written; a reader gives a fixed offset. ``manufacturer``: of this software.
    """

    unique_id: Uid
    series_uid: Uid | None
    created_at: datetime
    zone: tzinfo
    manufacturer: str


def imprint(edition: Edition, *, zone: tzinfo, manufacturer: str) -> Imprint:
    """How every document form of one edition is signed off."""
    return Imprint(
        unique_id=edition.unique_id,
        series_uid=edition.series_uid,
        created_at=edition.created_at,
        zone=zone,
        manufacturer=manufacturer,
    )


def study_offset(manifest: StudyManifest, made: Imprint) -> timedelta:
    """The offset from UTC of every date and time a document writes: the zone's at StudyDate and StudyTime, at the
    moment of making when the study states none (TimezoneOffsetFromUTC covers all of a data set, PS3.3 C.12.1.1.8)."""
    stated = f"{manifest.date}{manifest.time.partition('.')[0]:0<6}"
    try:
        moment = datetime.strptime(stated, "%Y%m%d%H%M%S").replace(tzinfo=made.zone)
    except ValueError:  # the PACS states no date, or one that is none
        moment = made.created_at.astimezone(made.zone)
    offset = moment.utcoffset()
    return offset if offset is not None else timedelta()


def plain(value: Any) -> Any:
    """A JSON form of our frozen values: dataclass → object, datetime and date → ISO 8601, tuple → list.

    A field at its default is left out, so that a field which a later version adds changes no hash of what is silent
    about it: an upgrade replaces nothing at the index.
    """
    if is_dataclass(value) and not isinstance(value, type):
        stated = ((f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default)
        return {name: plain(one) for name, one in stated}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    return value


def content_hash(manifest: StudyManifest, context: Context) -> str:
    """SHA-256, lower-case hex, over everything the index and its readers would see, no moment of making."""
    text = json.dumps([plain(manifest), plain(context)], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def outline(manifest: StudyManifest, context: Context) -> str:
    """SHA-256, lower-case hex, over what a KOS and its metadata tell of the content whoever wrote them: the patient,
    the orders, the images, and from whom they are hidden."""
    patient, hidden = manifest.patient, context.visibility
    traits = patient.traits
    images = sorted((str(one.uid), sorted(str(i.sop_instance) for i in one.instances)) for one in manifest.series)
    told = [
        manifest.study,
        [patient.ins.matricule, patient.ins.oid] if patient.ins else sorted(i.value for i in patient.local_ids[:1]),
        [traits.birth_name, traits.first_given_name, traits.sex, plain(traits.birth_date)],
        sorted(order.accession_number for order in manifest.orders),
        images,
        [hidden.masked_to_professionals, hidden.invisible_to_patient, hidden.invisible_to_guardians],
        context.confidentiality,
    ]
    return hashlib.sha256(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def document_hash(manifest: StudyManifest, context: Context) -> str:
    """As ``content_hash``, whoever the exam is hidden from: contents that share it differ in nothing but that, and
    new metadata (ITI-57) make one of the other."""
    flags = context.visibility
    plain_flags = Visibility(secret_connection=flags.secret_connection, for_index=flags.for_index)
    return content_hash(manifest, replace(context, confidentiality="N", visibility=plain_flags))


def derived_uid(*parts: str) -> Uid:
    """UID under 2.25 (PS3.5 B.2) from the UUIDv5 of the parts: same parts, same UID."""
    return Uid(f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps(parts)).int}")


def edition(
    *, tenant: str, study: Uid, version: int, content: str, created_at: datetime, replaces: str | None
) -> Edition:
    """The identifiers of one version, all derived from (tenant, study, version, content hash)."""
    key = (tenant, str(study), str(version), content)
    return Edition(
        tenant=tenant,
        version=version,
        created_at=created_at,
        unique_id=derived_uid("document", *key),
        series_uid=derived_uid("series", *key),
        submission_id=derived_uid("submission-set", *key),
        replaces=replaces,
    )


_CONTENT = TypeAdapter(tuple[StudyManifest, Context])


def to_blob(manifest: StudyManifest, context: Context) -> bytes:
    """One compact blob for a store: JSON, deflated. 1,300 instances take about 10 kB."""
    return zlib.compress(_CONTENT.dump_json((manifest, context)))


def from_blob(blob: bytes) -> tuple[StudyManifest, Context]:
    """What ``to_blob`` kept."""
    return _CONTENT.validate_json(zlib.decompress(blob))


def instances_of(manifest: StudyManifest) -> frozenset[Uid]:
    """Every SOP Instance UID it lists."""
    return frozenset(one.sop_instance for series in manifest.series for one in series.instances)


def only_adds_images(manifest: StudyManifest, context: Context, shown: tuple[StudyManifest, Context]) -> bool:
    """Whether it lists every image of ``shown`` and more, and all that is not read off the images is the same."""
    others = {content_hash(replace(one, series=(), regions=()), said) for one, said in ((manifest, context), shown)}
    return len(others) == 1 and instances_of(shown[0]) < instances_of(manifest)
