"""A KOS held against every rule of its profile (``indexer.rules.kos``): what the reader had to understand, and what
the standard asks beyond that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from indexer.kos import concepts
from indexer.kos.classes import value_type
from indexer.kos.document import Document, opened
from indexer.kos.nodes import Node
from indexer.kos.persons import entity
from indexer.kos.reader import reading
from indexer.kos.tree import REFERENCES, Group, Library, Reference
from indexer.reading import Deviation, Profile
from indexer.rules.kos import RULES
from security.errors import BadInput
from security.identity import Uid
from security.ins import INS_AUTHORITIES

_IDS = frozenset(rule.id for rule in RULES)
_TYPE_1 = (
    "SOPClassUID",
    "StudyInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "ContentDate",
    "ContentTime",
)
_TYPE_1_TERMS = (("Modality", "KO"), ("ValueType", "CONTAINER"), ("ContinuityOfContent", "SEPARATE"))
_TYPE_2 = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "Manufacturer",
    "ReferringPhysicianName",
    "StudyID",
    "ReferencedPerformedProcedureStepSequence",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
)
_REQUEST_TYPE_2 = (
    "AccessionNumber",
    "ReferencedStudySequence",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
)
_FOREIGN = frozenset({0x0028, 0x5400, 0x7FE0, *range(0x5000, 0x5020, 2), *range(0x6000, 0x6020, 2)})
_OFFSET = re.compile(r"[+-][0-9]{4}", re.ASCII)
_AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}", re.ASCII)


def check(data: bytes, *, profile: Profile | None = None) -> tuple[Deviation, ...]:
    """Everything in ``data`` that is out of rule. ``profile``: the one it is held against, None for its own.

    A document that is refused has its refusal as the one deviation.

    Raises:
        BadInput: ``dicom-…`` it is no DICOM object at all.
    """
    try:
        document = opened(data)
        if profile is not None:
            document = replace(document, profile=profile)
        reading(document)
    except BadInput as fault:
        if fault.code not in _IDS:
            raise
        return (Deviation(rule=fault.code, where="", detail=""),)
    for rules in _COMMON + _OWN[document.profile]:
        rules(document)
    return document.found.deviations()


# -- every profile -----------------------------------------------------------------------------------------------


def _attributes(document: Document) -> None:
    root = document.root
    for name in _TYPE_1:
        if not root.text(name):
            root.note("kos-type-1", name)
    for name, term in _TYPE_1_TERMS:
        if root.text(name) != term:
            root.note("kos-type-1", name, f"not {term}")
    for name in _TYPE_2:
        if not root.has(name):
            root.note("kos-type-2", name)


def _strange(document: Document) -> None:
    """What does not belong to this object."""
    root = document.root
    for name in ("CompletionFlag", "VerificationFlag"):
        if root.has(name):
            root.note("kos-general", name)
    if root.has("IdenticalDocumentsSequence"):
        root.note("kos-identical-documents", "IdenticalDocumentsSequence")
    for group in sorted({tag >> 16 for tag in root.data.keys()} & _FOREIGN):  # noqa: SIM118 -- of a Dataset
        root.note("kos-foreign", f"group {group:04X}")


def _study(document: Document) -> None:
    root = document.root
    own, series = root.text("StudyInstanceUID"), root.text("SeriesInstanceUID")
    if own and own != document.study:
        root.note("kos-study-mismatch", "StudyInstanceUID")
    if not series:
        root.note("kos-no-series", "SeriesInstanceUID")
    elif any(series == one.uid for one in document.series):
        root.note("kos-own-series", "SeriesInstanceUID")


def _requests(document: Document) -> None:
    pairs = set[tuple[str, ...]]()
    for item in document.root.items("ReferencedRequestSequence"):
        for name in _REQUEST_TYPE_2:
            if not item.has(name):
                item.note("kos-type-2", name)
        if item.text("StudyInstanceUID") != document.study:
            item.note("kos-request-study", "StudyInstanceUID")
        pair = (  # a number is what its issuer calls so
            item.text("AccessionNumber"),
            entity(item.item("IssuerOfAccessionNumberSequence")),
            item.text("PlacerOrderNumberImagingServiceRequest"),
            entity(item.item("OrderPlacerIdentifierSequence")),
        )
        if pair in pairs:
            item.note("kos-request-twice")
        pairs.add(pair)


def _tree(document: Document) -> None:
    listed, tree = _listed(document), document.tree
    referred = {one.sop_instance for one in tree.references if one.sop_instance is not None}
    _compare(document, listed, referred, "kos-evidence-tree", "ContentSequence")
    for one in tree.references:
        _reference(document, one)
    template = document.root.item("ContentTemplateSequence")
    if document.profile != "drim-m" and (template is None or template.text("TemplateIdentifier") != "2010"):
        document.root.note("kos-template", "ContentTemplateSequence")
    for node in _below(document.root):
        _item(node)


def _listed(document: Document) -> set[Uid]:
    return {one.sop_instance for series in document.series for one in series.instances}


def _compare(document: Document, listed: set[Uid], found: set[Uid], rule: str, where: str) -> None:
    if missing := len(listed - found):
        document.root.note(rule, where, f"{missing} of the evidence are missing")
    if strange := len(found - listed):
        document.root.note(rule, where, f"{strange} are not in the evidence")


def _reference(document: Document, one: Reference) -> None:
    if one.sop_class is not None and one.value_type != value_type(one.sop_class):
        document.found.add("kos-value-type", one.where, f"{one.value_type} for {value_type(one.sop_class)}")


def _below(node: Node) -> Iterator[Node]:
    """Every content item, the ones of the library after those that stand beside it."""
    level = list(node.items("ContentSequence"))
    while level:
        yield from level
        level = [below for one in level for below in one.items("ContentSequence")]


def _item(node: Node) -> None:
    kind, relationship = node.text("ValueType"), node.text("RelationshipType")
    deep = node.path.count("/") > 0
    if node.has("ReferencedContentItemIdentifier"):
        node.note("kos-by-reference")
    elif kind in REFERENCES or kind == "CONTAINER":
        if relationship != "CONTAINS":
            node.note("kos-relationship", "RelationshipType")
    elif not relationship or (deep and relationship != "HAS ACQ CONTEXT"):
        node.note("kos-relationship", "RelationshipType")
    pointed = node.item("ReferencedSOPSequence")
    if pointed is not None and pointed.has("PurposeOfReferenceCodeSequence"):
        pointed.note("kos-purpose")


def _library(document: Document) -> None:
    """MADO has its title and a library, the other profiles neither."""
    described = document.profile == "mado"
    if {document.title == concepts.TITLE, document.tree.library is not None} != {described}:
        document.root.note("kos-library", "ContentSequence")


# -- what profiles demand ----------------------------------------------------------------------------------------


def _single_accession(document: Document) -> None:
    """AccessionNumber of the study: the only one, empty as soon as there are several."""
    root = document.root
    stated = {
        (number, entity(item.item("IssuerOfAccessionNumberSequence")))
        for item in root.items("ReferencedRequestSequence")
        if (number := item.text("AccessionNumber"))
    }
    own = root.text("AccessionNumber")
    if own and stated and (len(stated) > 1 or own not in {number for number, _ in stated}):
        root.note("kos-accession", "AccessionNumber", f"{len(stated)} stated by the requests")
    if not own and len(stated) == 1:
        root.note("kos-accession", "AccessionNumber", "empty although there is one")


def _no_accession_of_study(document: Document) -> None:
    if document.root.text("AccessionNumber"):
        document.root.note("kos-accession", "AccessionNumber", "not empty")


def _every_accession(document: Document) -> None:
    root = document.root
    requests = list(root.items("ReferencedRequestSequence"))
    if not requests:
        root.note("kos-no-accession", "ReferencedRequestSequence")
    for item in requests:
        if not item.text("AccessionNumber"):
            item.note("kos-no-accession", "AccessionNumber")


def _issuers(document: Document) -> None:
    root = document.root
    for node in (root, *root.items("OtherPatientIDsSequence")):
        if node.text("PatientID") and not _issuer(node, "IssuerOfPatientIDQualifiersSequence"):
            node.note("kos-patient-issuer", "IssuerOfPatientIDQualifiersSequence")
    for node in (root, *root.items("ReferencedRequestSequence")):
        if node.text("AccessionNumber") and not _issuer(node, "IssuerOfAccessionNumberSequence"):
            node.note("kos-accession-issuer", "IssuerOfAccessionNumberSequence")
        placer = node.text("PlacerOrderNumberImagingServiceRequest")
        if placer and not _issuer(node, "OrderPlacerIdentifierSequence"):
            node.note("kos-placer-issuer", "OrderPlacerIdentifierSequence")
    primary = root.text("PatientID"), entity(root.item("IssuerOfPatientIDQualifiersSequence"))
    others = {
        (item.text("PatientID"), entity(item.item("IssuerOfPatientIDQualifiersSequence")))
        for item in root.items("OtherPatientIDsSequence")
    }
    if primary[0] and primary not in others:
        root.note("kos-other-ids", "OtherPatientIDsSequence")


def _issuer(node: Node, name: str) -> bool:
    item = node.item(name)
    return item is not None and bool(item.text("UniversalEntityID"))


def _timezone(document: Document) -> None:
    if not _OFFSET.fullmatch(document.root.text("TimezoneOffsetFromUTC")):
        document.root.note("kos-timezone", "TimezoneOffsetFromUTC")


def _equipment(document: Document) -> None:
    root = document.root
    if root.has("Manufacturer") and not root.text("Manufacturer"):
        root.note("kos-required", "Manufacturer")
    if not root.text("InstitutionName").partition("^")[0]:
        root.note("kos-institution", "InstitutionName")
    for name in ("StudyDate", "StudyTime"):
        if root.has(name) and not root.text(name):
            root.note("kos-study-date", name)


def _location(document: Document) -> None:
    for one in document.series:
        try:
            Uid(one.address.location)
        except BadInput:
            one.node.note("kos-location", "RetrieveLocationUID")


def _ae_title(document: Document) -> None:
    for one in document.series:
        if not _AE_TITLE.fullmatch(one.address.ae_title):
            one.node.note("kos-ae-title", "RetrieveAETitle")


def _address(document: Document) -> None:
    for one in document.series:
        if one.url is None and not one.node.text("RetrieveURL"):
            one.node.note("kos-retrieve-none", "RetrieveURL")


def _ins(document: Document) -> None:
    root = document.root
    issuer = entity(root.item("IssuerOfPatientIDQualifiersSequence"))
    if root.text("PatientID") and issuer not in INS_AUTHORITIES:
        root.note("kos-authority" if issuer else "kos-no-ins", "IssuerOfPatientIDQualifiersSequence")
    family, given, *_ = (*root.text("PatientName").split("^"), "")
    traits = (("PatientName", family and given), ("PatientSex", root.text("PatientSex")))
    for name, value in (*traits, ("PatientBirthDate", root.text("PatientBirthDate"))):
        if root.has(name) and not value:
            root.note("kos-no-trait", name)


def _description(document: Document) -> None:
    """The Image Library against the evidence."""
    library = document.tree.library
    if len(document.tree.sets) > 1:
        document.root.note("kos-codes-mixed", "ContentSequence")
    if library is None:
        return
    found = {
        entry.reference.sop_instance
        for group in library.groups
        for entry in group.entries
        if entry.reference.sop_instance is not None
    }
    _compare(document, _listed(document), found, "kos-evidence-library", library.where)
    if not library.modalities:
        document.found.add("kos-library-modality", library.where)
    if not library.regions:
        document.found.add("kos-no-region", library.where)
    _groups(document, library)


def _groups(document: Document, library: Library) -> None:
    sizes = {one.uid: len(one.instances) for one in document.series}
    seen = set[Uid]()
    for group in library.groups:
        if group.uid is None or group.uid not in sizes or group.uid in seen:
            document.found.add("kos-group", group.where, "without a listed series of its own")
            continue
        seen.add(group.uid)
        _group(document, group, sizes[group.uid])
    if missing := len(sizes.keys() - seen):
        document.found.add("kos-group", library.where, f"{missing} series without a group")
    if library.count != len(sizes):
        document.found.add("kos-count", library.where, "series")


def _group(document: Document, group: Group, size: int) -> None:
    if group.count != size:
        document.found.add("kos-count", group.where, "instances")
    for entry in group.entries:
        _reference(document, entry.reference)


_Check = Callable[[Document], None]
_COMMON: tuple[_Check, ...] = (_attributes, _strange, _study, _requests, _tree, _library)
_OWN: dict[Profile, tuple[_Check, ...]] = {
    "xds-i": (_single_accession, _location, _ae_title),
    "drim-m": (_no_accession_of_study, _every_accession, _timezone, _address, _ins),
    "mado": (
        _single_accession,
        _every_accession,
        _issuers,
        _timezone,
        _equipment,
        _location,
        _description,
    ),
}
