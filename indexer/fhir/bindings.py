"""The required bindings of FHIR R4 on the elements a manifest has: the codes, and who does not keep to them.

Source of every value set: HL7 FHIR 4.0.1, the page of the resource or datatype and its value set of that version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from indexer.fhir.document import Document, Json
from indexer.reading import Deviation

SOURCE = "HL7 FHIR value sets with a required binding"
VERSION = "4.0.1"

_VALUE_SETS: Mapping[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "administrative-gender": "male female other unknown",
        "bundle-type": "document message transaction transaction-response batch batch-response history searchset"
        " collection",
        "composition-attestation-mode": "personal professional legal official",
        "composition-status": "preliminary final amended entered-in-error",
        "device-nametype": "udi-label-name user-friendly-name patient-reported-name manufacturer-name"
        " model-name other",
        "device-status": "active inactive entered-in-error unknown",
        "document-relationship-type": "replaces transforms signs appends",
        "endpoint-status": "active suspended error off entered-in-error test",
        "identifier-use": "usual official temp secondary old",
        "imagingstudy-status": "registered available cancelled entered-in-error unknown",
        "list-mode": "working snapshot changes",
        "name-use": "usual official temp nickname anonymous old maiden",
        "narrative-status": "generated extensions additional empty",
        "request-intent": "proposal plan directive order original-order reflex-order filler-order instance-order"
        " option",
        "request-priority": "routine urgent asap stat",
        "request-status": "draft active on-hold revoked completed entered-in-error unknown",
    }.items()
}

_BINDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Bundle": (("type", "bundle-type"), ("identifier.use", "identifier-use")),
    "Composition": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("status", "composition-status"),
        ("attester.mode", "composition-attestation-mode"),
        ("relatesTo.code", "document-relationship-type"),
        ("section.text.status", "narrative-status"),
        ("section.mode", "list-mode"),
    ),
    "Device": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("status", "device-status"),
        ("deviceName.type", "device-nametype"),
    ),
    "Endpoint": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("status", "endpoint-status"),
    ),
    "ImagingStudy": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("status", "imagingstudy-status"),
        ("basedOn.identifier.use", "identifier-use"),
    ),
    "Organization": (("text.status", "narrative-status"), ("identifier.use", "identifier-use")),
    "Patient": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("name.use", "name-use"),
        ("gender", "administrative-gender"),
    ),
    "ServiceRequest": (
        ("text.status", "narrative-status"),
        ("identifier.use", "identifier-use"),
        ("status", "request-status"),
        ("intent", "request-intent"),
        ("priority", "request-priority"),
    ),
}


def faults(document: Document) -> Iterator[Deviation]:
    """Every code outside the value set that binds its element, as ``fhir-binding``; ``detail`` names the set."""
    yield from _of("Bundle", "Bundle", document.bundle)
    for where, resource in document.resources:
        yield from _of(str(resource.get("resourceType")), where, resource)


def _of(kind: str, where: str, resource: Json) -> Iterator[Deviation]:
    for path, name in _BINDINGS.get(kind, ()):
        for place, code in _values(resource, path.split("."), where):
            if isinstance(code, str) and code not in _VALUE_SETS[name]:
                yield Deviation(rule="fhir-binding", where=place, detail=name)


def _values(value: object, path: list[str], where: str) -> Iterator[tuple[str, object]]:
    """What stands at the end of the path, through every list on the way."""
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _values(one, path, f"{where}[{place}]")
    elif not path:
        yield where, value
    elif isinstance(value, dict) and path[0] in value:
        yield from _values(value[path[0]], path[1:], f"{where}.{path[0]}")
