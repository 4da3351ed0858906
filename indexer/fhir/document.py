"""A foreign Bundle, walked without trust: typed members or none, entries by their addresses, references resolved.

Invariants:

* a member of another JSON type than asked for is as good as absent; saying so is the structure check's business;
* a reference is resolved inside the Bundle only (and inside ``contained`` for ``#id``), never fetched;
* ``where`` is a path of element names and places, never a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from indexer.fhir import vocabulary as v
from indexer.report import Coded
from security.errors import BadInput
from security.identity import Uid
from security.ins import INS_AUTHORITIES
from security.parse.json import parse_json

Json = Mapping[str, Any]

ENTRIES_MAX = 1000  # a study of a thousand orders and addresses; each entry costs the structure check some 50 µs

_NOTHING: Json = {}


def text(record: Json, key: str) -> str:
    """A text member, "" when there is none."""
    value = record.get(key)
    return value if isinstance(value, str) else ""


def whole(record: Json, key: str) -> int | None:
    """An integer member."""
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def record(parent: Json, key: str) -> Json:
    """An object member, an empty one when there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else _NOTHING


def records(parent: Json, key: str) -> list[Json]:
    """The objects of a list member."""
    value = parent.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def extensions(parent: Json, url: str) -> list[Json]:
    """The extensions of one URL."""
    return [one for one in records(parent, "extension") if text(one, "url") == url]


def has_code(concept: Json, system: str, code: str) -> bool:
    """Whether a CodeableConcept holds the coding."""
    return any(text(one, "system") == system and text(one, "code") == code for one in records(concept, "coding"))


def is_of_type(identifier: Json, code: str) -> bool:
    """Whether an Identifier is of a type of v2-0203 (or, for an accession number, of DCM)."""
    kind = record(identifier, "type")
    return has_code(kind, v.IDENTIFIER_TYPE, code) or (
        code == v.ACCESSION and has_code(kind, v.DCM, v.ACCESSION_NUMBER)
    )


def coded(coding: Json, words: str = "") -> Coded | None:
    """A Coding as the house has it, None without a code. ``words``: text of the concept, where it has no display."""
    code = text(coding, "code")
    if not code:
        return None
    display = text(coding, "display") or ("" if words == code else words)
    return Coded(code=code, system=v.oid_of(text(coding, "system")), display=display)


def is_urn(value: str) -> bool:
    """Whether the text is a UID as ``urn:oid:``."""
    return value.startswith(v.URN_OID) and uid(value) is not None


def uid(stated: str) -> Uid | None:
    """A UID, bare or as ``urn:oid:``, None when it is none."""
    try:
        return Uid(stated.removeprefix(v.URN_OID))
    except BadInput:
        return None


def ins_stated(patient: Json) -> list[tuple[str, str]]:
    """The national identities of a Patient, as (matricule, authority), each once."""
    stated = ((text(one, "value"), v.oid_of(text(one, "system"))) for one in records(patient, "identifier"))
    return list(dict.fromkeys((value, system) for value, system in stated if value and system in INS_AUTHORITIES))


def study_uids(study: Json) -> list[tuple[Json, Uid | None]]:
    """The identifiers of an ImagingStudy that are meant as its Study Instance UID, each with what it says."""
    meant = (
        one
        for one in records(study, "identifier")
        if text(one, "system") == v.DICOM_UID or has_code(record(one, "type"), v.DCM, v.STUDY_INSTANCE_UID)
    )
    return [(one, uid(text(one, "value"))) for one in meant]


def is_wado(endpoint: Json) -> bool:
    """Whether an Endpoint is one of WADO-RS."""
    return text(record(endpoint, "connectionType"), "code") == v.WADO_RS


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One Bundle. ``resources``: those of its entries, each with its path, in order; ``by_address``: by what a
    reference may say: fullUrl, or type and id."""

    bundle: Json
    resources: tuple[tuple[str, Json], ...] = ()
    by_address: Mapping[str, Json] = field(default_factory=dict)

    def of_type(self, kind: str) -> list[Json]:
        """The resources of one type."""
        return [one for _, one in self.resources if text(one, "resourceType") == kind]

    def target(self, reference: Json, *, inside: Json) -> Json | None:
        """The resource a Reference means, None when the Bundle lacks it. ``inside``: whose ``contained`` counts."""
        address = text(reference, "reference")
        if address.startswith("#"):
            return next((one for one in records(inside, "contained") if text(one, "id") == address[1:]), None)
        return self.by_address.get(address)

    def subjects(self) -> list[Json]:
        """The patients that the Composition, the studies and the orders are about, each resource once."""
        about = [one for kind in ("Composition", "ImagingStudy", "ServiceRequest") for one in self.of_type(kind)]
        found = (self.target(record(one, "subject"), inside=one) for one in about)
        return list({id(one): one for one in found if one is not None}.values())

    def wado(self, parent: Json, *, study: Json) -> list[Json]:
        """The WADO Endpoints that a series, or the study itself, refers to."""
        return [one for one in self.targets(parent, "endpoint", inside=study) if is_wado(one)]

    def targets(self, parent: Json, key: str, *, inside: Json) -> list[Json]:
        """The resources that a list of references means, unresolved ones left out."""
        found = (self.target(one, inside=inside) for one in records(parent, key))
        return [one for one in found if one is not None]


def opened(data: bytes) -> Document:
    """The JSON of a Bundle, whatever it holds.

    Raises:
        BadInput: ``json-…`` of ``security.parse``; ``fhir-not-bundle`` it is another JSON; ``fhir-too-many-entries``
            it has more than ``ENTRIES_MAX``.
    """
    value = parse_json(data, what="FHIR manifest")
    if not isinstance(value, dict) or text(value, "resourceType") != "Bundle":
        raise BadInput(
            "the FHIR document is not a Bundle",
            code="fhir-not-bundle",
            hint="a manifest is a Bundle of type document, as application/fhir+json",
        )
    if isinstance(value.get("entry"), list) and len(value["entry"]) > ENTRIES_MAX:
        raise BadInput(
            f"the Bundle has {len(value['entry'])} entries, at most {ENTRIES_MAX} are read",
            code="fhir-too-many-entries",
            hint="write one manifest for each study: its entries are one study, its orders and its addresses",
        )
    resources = tuple(_resources(value))
    return Document(bundle=value, resources=resources, by_address=_addresses(value, resources))


def _addresses(bundle: Json, resources: tuple[tuple[str, Json], ...]) -> dict[str, Json]:
    """By fullUrl, and by type and id where only one resource has them: an absolute reference to another server never
    means a resource of the same id here. Of two of the same fullUrl the first counts; the check names the second."""
    found: dict[str, Json] = {}
    for entry in records(bundle, "entry"):
        if text(entry, "fullUrl"):
            found.setdefault(text(entry, "fullUrl"), record(entry, "resource"))
    relative = Counter(_relative(resource) for _, resource in resources)
    for _, resource in resources:
        if text(resource, "id") and relative[_relative(resource)] == 1:
            found.setdefault(_relative(resource), resource)
    return found


def _relative(resource: Json) -> str:
    return f"{text(resource, 'resourceType')}/{text(resource, 'id')}"


def _resources(bundle: Json) -> Iterator[tuple[str, Json]]:
    for place, entry in enumerate(bundle["entry"] if isinstance(bundle.get("entry"), list) else []):
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
            yield f"Bundle.entry[{place}].resource", entry["resource"]
