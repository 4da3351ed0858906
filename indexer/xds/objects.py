"""What an index keeps, as frozen values: DocumentEntry, SubmissionSet, Association, in the shapes of ebRIM 3.0.

Invariants:

* reading takes the children of an object in any order (samples in the field write a Slot after the
  Classifications, drim-m §5) and the classification of a package inside it or beside it; writing always follows
  the order of rim.xsd;
* ``element`` of what was read loses nothing that XDS gives a meaning to (ITI TF-3 4.2);
* references ``urn:uuid:…`` are lower case from reading on, so that they compare as text.

Whether the values make sense is for ``validate``; this module only refuses what has no ebRIM shape at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from lxml import etree

from indexer.xds import vocabulary as v
from security.errors import BadInput

_RIM = f"{{{v.NS_RIM}}}"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_HINT = "send rim objects as rim.xsd (ebRS 3.0) describes them"
_R = TypeVar("_R", bound="RegistryObject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One LocalizedString."""

    value: str
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """A code (``scheme``, ``code``, Slot codingScheme), an author (``scheme`` and Slots) or a kind (``node``).

    ``owner``: classifiedObject as the sender stated it, "" when it did not.
    """

    id: str = ""
    scheme: str = ""
    node: str = ""
    code: str = ""
    owner: str = ""
    slots: tuple[Slot, ...] = ()
    name: tuple[Text, ...] = ()

    def values(self, slot: str) -> tuple[str, ...]:
        """Every value under a slot name."""
        return tuple(value for s in self.slots if s.name == slot for value in s.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalIdentifier:
    """``owner``: registryObject as the sender stated it, "" when it did not."""

    id: str = ""
    scheme: str
    value: str
    owner: str = ""
    name: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryObject:
    """What the three kinds share. ``id``: entryUUID, or a symbolic id before the registry assigned one.
    ``kept_at``: when an index took it, milliseconds since 1970, 0 before that.

    ``repr`` shows the id only: the rest describes a patient.
    """

    id: str
    logical_id: str = ""
    home: str = ""
    status: str = ""
    version: str = ""
    slots: tuple[Slot, ...] = ()
    name: tuple[Text, ...] = ()
    description: tuple[Text, ...] = ()
    classifications: tuple[Classification, ...] = ()
    identifiers: tuple[ExternalIdentifier, ...] = ()
    kept_at: int = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id})"

    def values(self, slot: str) -> tuple[str, ...]:
        """Every value under a slot name."""
        return tuple(value for s in self.slots if s.name == slot for value in s.values)

    def value(self, slot: str) -> str:
        """The first value under a slot name, "" when there is none."""
        return next(iter(self.values(slot)), "")

    def classified(self, scheme: str) -> tuple[Classification, ...]:
        """Every classification of one scheme, in order."""
        return tuple(c for c in self.classifications if c.scheme == scheme)

    def identifier(self, scheme: str) -> str:
        """The value of an external identifier, "" when there is none."""
        return next((i.value for i in self.identifiers if i.scheme == scheme), "")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DocumentEntry(RegistryObject):
    """rim:ExtrinsicObject (ITI TF-3 4.2.3.2)."""

    mime_type: str = ""
    object_type: str = ""

    @property
    def unique_id(self) -> str:
        return self.identifier(v.ENTRY_UNIQUE_ID)

    @property
    def patient_id(self) -> str:
        return self.identifier(v.ENTRY_PATIENT_ID)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SubmissionSet(RegistryObject):
    """rim:RegistryPackage classified as a submission set (ITI TF-3 4.2.3.3)."""

    @property
    def unique_id(self) -> str:
        return self.identifier(v.SET_UNIQUE_ID)

    @property
    def patient_id(self) -> str:
        return self.identifier(v.SET_PATIENT_ID)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Association(RegistryObject):
    """rim:Association: ``source`` does ``type`` to ``target`` (ITI TF-3 4.2.2)."""

    type: str
    source: str
    target: str


Kept = DocumentEntry | SubmissionSet | Association


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The content of one lcm:SubmitObjectsRequest.

    ``foreign``: names of what it also holds and this index does not keep (Folder, unclassified RegistryPackage,
    classification of an absent object, other ebRIM elements).
    """

    sets: tuple[SubmissionSet, ...]
    entries: tuple[DocumentEntry, ...]
    associations: tuple[Association, ...]
    foreign: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[SubmissionSet | DocumentEntry, ...]:
        """What names a patient and has a uniqueId."""
        return (*self.sets, *self.entries)

    @property
    def objects(self) -> tuple[Kept, ...]:
        """Everything that gets an entryUUID."""
        return (*self.sets, *self.entries, *self.associations)


def read_submission(request: etree._Element) -> Submission:
    """The objects of a lcm:SubmitObjectsRequest element.

    Raises:
        BadInput: ``ebrim-structure`` it is another element, or holds no RegistryObjectList, or an element of it
            lacks what the schema requires.
    """
    if request.tag != f"{{{v.NS_LCM}}}SubmitObjectsRequest":
        raise _shapeless("the request is no lcm:SubmitObjectsRequest", request)
    objects = request.find(_RIM + "RegistryObjectList")
    if objects is None:
        raise _shapeless("lcm:SubmitObjectsRequest holds no rim:RegistryObjectList", request)
    beside: dict[str, list[Classification]] = {}
    for child in objects.iterfind(_RIM + "Classification"):
        classification = _classification(child)
        beside.setdefault(classification.owner, []).append(classification)
    sets: list[SubmissionSet] = []
    entries: list[DocumentEntry] = []
    associations: list[Association] = []
    foreign: list[str] = []
    for child in objects.iterchildren(tag=etree.Element):
        kind = etree.QName(child).localname if child.tag.startswith(_RIM) else "foreign element"
        match kind:
            case "ExtrinsicObject":
                entries.append(_with(read_entry(child), beside))
            case "Association":
                associations.append(read_association(child))
            case "RegistryPackage":
                package = _with(read_set(child), beside)
                nodes = {c.node for c in package.classifications if c.node}
                if v.SET_NODE in nodes:
                    sets.append(package)
                else:
                    foreign.append("Folder" if v.FOLDER_NODE in nodes else "unclassified RegistryPackage")
            case "Classification" | "ObjectRef":
                pass  # attached above; a reference only announces an id that an association names too
            case _:
                foreign.append(kind)
    foreign += ["classification of an absent object"] * bool(beside)
    return Submission(
        sets=tuple(sets), entries=tuple(entries), associations=tuple(associations), foreign=tuple(foreign)
    )


def _with(found: _R, beside: dict[str, list[Classification]]) -> _R:
    """``found`` with the classifications that stand beside it."""
    return replace(found, classifications=(*found.classifications, *beside.pop(found.id, ())))


def read_entry(element: etree._Element) -> DocumentEntry:
    """The DocumentEntry of a rim:ExtrinsicObject. Raises ``BadInput`` ``ebrim-structure``."""
    return _read(
        DocumentEntry,
        element,
        mime_type=element.get("mimeType", "").strip(),
        object_type=_reference(element, "objectType"),
    )


def read_set(element: etree._Element) -> SubmissionSet:
    """The package of a rim:RegistryPackage. Raises ``BadInput`` ``ebrim-structure``."""
    return _read(SubmissionSet, element)


def read_association(element: etree._Element) -> Association:
    """The Association of a rim:Association. Raises ``BadInput`` ``ebrim-structure``."""
    return _read(
        Association,
        element,
        type=_needed(element, "associationType"),
        source=canonical_reference(_needed(element, "sourceObject")),
        target=canonical_reference(_needed(element, "targetObject")),
    )


def canonical_reference(text: str) -> str:
    """An id as it is compared: ``urn:uuid:`` URNs are case-insensitive (RFC 4122 §3), others are not."""
    return text.lower() if text[:9].lower() == "urn:uuid:" else text


def resolved(
    submission: Submission, new_id: Callable[[], str], *, versions: Mapping[str, int] = MappingProxyType({})
) -> Submission:
    """The submission with every symbolic id replaced by a new entryUUID, references included (ITI TF-2 3.42.4.1.3).

    Every object is version 1 of something new, but those in ``versions``, which keep the logicalId they state.
    Classifications and identifiers get ids of their own as well: the schema wants one on each.
    """
    names = {o.id: o.id if o.id.startswith("urn:uuid:") else new_id() for o in submission.objects}

    def renamed(found: _R) -> _R:
        return replace(
            found,
            id=names[found.id],
            logical_id=found.logical_id if found.id in versions else names[found.id],
            version=str(versions.get(found.id, 1)),
            classifications=tuple(replace(c, id=new_id()) for c in found.classifications),
            identifiers=tuple(replace(i, id=new_id()) for i in found.identifiers),
        )

    return replace(
        submission,
        sets=tuple(map(renamed, submission.sets)),
        entries=tuple(map(renamed, submission.entries)),
        associations=tuple(
            replace(renamed(a), source=names.get(a.source, a.source), target=names.get(a.target, a.target))
            for a in submission.associations
        ),
    )


def with_slots(entry: DocumentEntry, added: Mapping[str, str]) -> DocumentEntry:
    """The entry with single-valued slots set, replacing those of the same name."""
    kept = tuple(slot for slot in entry.slots if slot.name not in added)
    return replace(entry, slots=(*kept, *(Slot(name=n, values=(value,)) for n, value in added.items())))


def element(kept: Kept) -> etree._Element:
    """The ebRIM element of an object, children in schema order."""
    match kept:
        case DocumentEntry():
            own = {"mimeType": kept.mime_type, "objectType": kept.object_type}
            root = etree.Element(_RIM + "ExtrinsicObject", own, nsmap={"rim": v.NS_RIM})
        case SubmissionSet():
            root = etree.Element(_RIM + "RegistryPackage", nsmap={"rim": v.NS_RIM})
        case Association():
            own = {"associationType": kept.type, "sourceObject": kept.source, "targetObject": kept.target}
            root = etree.Element(_RIM + "Association", own, nsmap={"rim": v.NS_RIM})
    root.set("id", kept.id)
    for attribute, value in (("lid", kept.logical_id), ("home", kept.home), ("status", kept.status)):
        if value:
            root.set(attribute, value)
    _put_slots(root, kept.slots)
    _put_text(root, "Name", kept.name)
    _put_text(root, "Description", kept.description)
    if kept.version:
        etree.SubElement(root, _RIM + "VersionInfo", versionName=kept.version)
    for c in kept.classifications:
        _put_classification(root, c, kept.id)
    for i in kept.identifiers:
        own = {"identificationScheme": i.scheme, "value": i.value, "registryObject": kept.id, "id": i.id}
        _put_text(etree.SubElement(root, _RIM + "ExternalIdentifier", own), "Name", i.name)
    return root


def serialised(kept: Kept) -> bytes:
    """The canonical XML (C14N 1.0) of an object; ``read_entry`` and its neighbours read it back."""
    return etree.tostring(element(kept), method="c14n")


def _put_classification(root: etree._Element, c: Classification, owner: str) -> None:
    own = {"classifiedObject": owner, "id": c.id}
    if c.node:
        own["classificationNode"] = c.node
    if c.scheme:
        own |= {"classificationScheme": c.scheme, "nodeRepresentation": c.code}
    child = etree.SubElement(root, _RIM + "Classification", own)
    _put_slots(child, c.slots)
    _put_text(child, "Name", c.name)


def _put_slots(root: etree._Element, slots: Iterable[Slot]) -> None:
    for slot in slots:
        values = etree.SubElement(etree.SubElement(root, _RIM + "Slot", name=slot.name), _RIM + "ValueList")
        for value in slot.values:
            etree.SubElement(values, _RIM + "Value").text = value


def _put_text(root: etree._Element, tag: str, texts: Iterable[Text]) -> None:
    strings = tuple(texts)
    if not strings:
        return
    parent = etree.SubElement(root, _RIM + tag)
    for text in strings:
        child = etree.SubElement(parent, _RIM + "LocalizedString", value=text.value)
        if text.language:
            child.set(_LANG, text.language)


def _read(kind: type[_R], element: etree._Element, **own: Any) -> _R:
    """An object of ``kind``: the fields every kind has, and its own."""
    version = element.find(_RIM + "VersionInfo")
    return kind(
        id=canonical_reference(_needed(element, "id")),
        logical_id=_reference(element, "lid"),
        home=element.get("home", "").strip(),
        status=element.get("status", "").strip(),
        version="" if version is None else version.get("versionName", "").strip(),
        slots=_slots(element),
        name=_texts(element, "Name"),
        description=_texts(element, "Description"),
        classifications=tuple(_classification(c) for c in element.iterfind(_RIM + "Classification")),
        identifiers=tuple(_identifier(i) for i in element.iterfind(_RIM + "ExternalIdentifier")),
        **own,
    )


def _classification(element: etree._Element) -> Classification:
    return Classification(
        id=element.get("id", "").strip(),
        scheme=_reference(element, "classificationScheme"),
        node=_reference(element, "classificationNode"),
        code=element.get("nodeRepresentation", "").strip(),
        owner=_reference(element, "classifiedObject"),
        slots=_slots(element),
        name=_texts(element, "Name"),
    )


def _identifier(element: etree._Element) -> ExternalIdentifier:
    return ExternalIdentifier(
        id=element.get("id", "").strip(),
        scheme=canonical_reference(_needed(element, "identificationScheme")),
        value=_needed(element, "value"),
        owner=_reference(element, "registryObject"),
        name=_texts(element, "Name"),
    )


def _slots(element: etree._Element) -> tuple[Slot, ...]:
    return tuple(
        Slot(name=_needed(slot, "name"), values=tuple(map(text_of, slot.iterfind(f"{_RIM}ValueList/{_RIM}Value"))))
        for slot in element.iterfind(_RIM + "Slot")
    )


def text_of(element: etree._Element) -> str:
    """The text of an element that may hold text only, blanks around it cut.

    Raises:
        BadInput: ``ebrim-structure`` it has children; a comment would hide half of a value from one reader and
            not from the next.
    """
    if len(element):
        raise _shapeless(f"rim:{etree.QName(element).localname} may hold text only", element)
    return (element.text or "").strip()


def _texts(element: etree._Element, tag: str) -> tuple[Text, ...]:
    return tuple(
        Text(value=string.get("value", "").strip(), language=string.get(_LANG, "").strip())
        for string in element.iterfind(f"{_RIM}{tag}/{_RIM}LocalizedString")
    )


def _reference(element: etree._Element, attribute: str) -> str:
    return canonical_reference(element.get(attribute, "").strip())


def _needed(element: etree._Element, attribute: str) -> str:
    value = element.get(attribute, "").strip()
    if not value:
        raise _shapeless(f"{etree.QName(element).localname} without @{attribute}", element)
    return value


def _shapeless(what: str, element: etree._Element) -> BadInput:
    return BadInput(f"{what} (line {element.sourceline})", code="ebrim-structure", hint=_HINT)
