"""Reading the content tree: references, procedures, the text for people, the Image Library of MADO.

Invariants:

* descriptors of an instance are understood as its children and as the siblings just before it (ihe §1.5);
* a count is understood as NUM and as text;
* nothing is concluded from the order of items but that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from indexer.kos import concepts
from indexer.kos.coded import Name, Schemes, name_of
from indexer.kos.nodes import Node
from indexer.reading import CodeSet
from indexer.report import Coded
from indexer.study import KeyNote
from security.identity import Uid

REFERENCES = frozenset({"IMAGE", "WAVEFORM", "COMPOSITE"})
_SIDES: Mapping[str, str] = MappingProxyType(
    {one.code: side for side, one in concepts.SIDES.items()} | {"G-A100": "R", "G-A101": "L", "G-A102": "B"}
)
_DESCRIPTORS = frozenset(
    {
        concepts.INSTANCE_NUMBER,
        concepts.FRAMES,
        concepts.DOCUMENT_TITLE,
        concepts.KEY_OBJECT_DESCRIPTION,
    }
)
_INTEGER = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference of the tree or the library."""

    value_type: str
    sop_class: Uid | None
    sop_instance: Uid | None
    where: str


@dataclass(slots=True, kw_only=True)
class Entry:
    """One instance of the library with its descriptors."""

    reference: Reference
    number: int | None = None
    frames: int | None = None
    title: Coded | None = None
    description: str = ""

    def note(self) -> KeyNote | None:
        """What it says of a key-image note."""
        return None if self.title is None else KeyNote(title=self.title, description=self.description)


@dataclass(slots=True, kw_only=True)
class Group:
    """One series of the library, None or "" where it is silent."""

    where: str
    uid: Uid | None = None
    modality: str = ""
    number: int | None = None
    date: str = ""
    time: str = ""
    description: str = ""
    region: Coded | None = None
    body_part: str = ""
    laterality: str = ""
    count: int | None = None
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Library:
    """The Image Library."""

    where: str
    modalities: list[str] = field(default_factory=list)
    regions: list[Coded] = field(default_factory=list)
    count: int | None = None
    groups: list[Group] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Tree:
    """The content of a KOS. ``sets``: the MADO code sets its concepts are written in."""

    references: list[Reference] = field(default_factory=list)
    procedures: list[Coded] = field(default_factory=list)
    text: str = ""
    library: Library | None = None
    sets: set[CodeSet] = field(default_factory=set)


def tree(root: Node, codes: Schemes) -> Tree:
    """The content tree, whatever of it is understood."""
    read = _Reader(codes, Tree())
    for node in root.items("ContentSequence"):
        read.top(node)
    if not read.tree.text and root.text("TextValue"):
        root.note("kos-place", "TextValue", "belongs to a TEXT item")
        read.tree.text = root.text("TextValue")
    return read.tree


def reference(node: Node) -> Reference:
    """What an IMAGE, WAVEFORM or COMPOSITE item points at."""
    pointed = node.item("ReferencedSOPSequence")
    return Reference(
        value_type=node.text("ValueType"),
        sop_class=pointed.uid("ReferencedSOPClassUID") if pointed is not None else None,
        sop_instance=pointed.uid("ReferencedSOPInstanceUID") if pointed is not None else None,
        where=node.path,
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    codes: Schemes
    tree: Tree

    def top(self, node: Node) -> None:
        """One item below the title."""
        kind, name = node.text("ValueType"), self._name(node)
        if kind in REFERENCES:
            self.tree.references.append(reference(node))
        elif kind == "CONTAINER":
            if name.is_(concepts.IMAGE_LIBRARY):
                self._library(node)
            else:
                node.note("kos-item", detail="unknown container")
        elif kind == "TEXT" and name.is_(concepts.KEY_OBJECT_DESCRIPTION):
            self.tree.text = node.text("TextValue")
        elif kind == "CODE" and name.is_(concepts.PROCEDURE_CODE):
            self.tree.procedures.extend(self._value(node))

    def _library(self, node: Node) -> None:
        _continuity(node)
        library = self.tree.library = self.tree.library or Library(where=node.path)
        for one in node.items("ContentSequence"):
            kind, name = one.text("ValueType"), self._name(one)
            if kind == "CONTAINER":
                library.groups.append(self._group(one))
            elif name.is_(concepts.MODALITY):
                library.modalities.extend(value.code for value in self._value(one))
            elif name.is_(concepts.TARGET_REGION):
                library.regions.extend(self._value(one))
            elif name.mado == concepts.STUDY_SERIES:
                library.count = _count(one)
            elif kind in REFERENCES:
                one.note("kos-group", detail="an instance outside a group")

    def _group(self, node: Node) -> Group:
        _continuity(node)
        group, before = Group(where=node.path), dict[str, tuple[Node, Name]]()
        for one in node.items("ContentSequence"):
            kind, name = one.text("ValueType"), self._name(one)
            if kind in REFERENCES:
                group.entries.append(self._entry(one, before))
                before = {}
            elif name.scheme == "DCM" and name.code in _DESCRIPTORS:
                one.note("kos-sibling")
                before[name.code] = (one, name)
            else:
                self._describe(group, one, name)
        return group

    def _describe(self, group: Group, node: Node, name: Name) -> None:
        """One descriptor of a series."""
        if name.is_(concepts.MODALITY):
            group.modality = next((value.code for value in self._value(node)), "")
        elif name.is_(concepts.SERIES_UID):
            group.uid = node.uid("UID")
        elif name.is_(concepts.SERIES_NUMBER):
            group.number = _number(node)
        elif name.is_(concepts.TARGET_REGION):
            group.region = next(iter(self._value(node)), None)
            group.body_part = node.text("TextValue")
        elif name.is_(concepts.LATERALITY):
            group.laterality = next((_SIDES.get(value.code, "") for value in self._value(node)), "")
            if not group.laterality:
                node.note("kos-laterality")
        else:
            _describe_more(group, node, name)

    def _entry(self, node: Node, before: Mapping[str, tuple[Node, Name]]) -> Entry:
        entry = Entry(reference=reference(node))
        own = ((one, self._name(one)) for one in node.items("ContentSequence"))
        for one, name in (*before.values(), *own):
            if name.is_(concepts.INSTANCE_NUMBER):
                entry.number = _number(one)
            elif name.is_(concepts.FRAMES):
                entry.frames = _count(one)
            elif name.is_(concepts.DOCUMENT_TITLE):
                entry.title = next(iter(self._value(one)), None)
            elif name.is_(concepts.KEY_OBJECT_DESCRIPTION):
                entry.description = one.text("TextValue")
        return entry

    def _name(self, node: Node) -> Name:
        name = name_of(node)
        if name.mado:
            if name.set is None:
                node.note("kos-mado-code")
            else:
                self.tree.sets.add(name.set)
        return name

    def _value(self, node: Node) -> Iterator[Coded]:
        return (self.codes.coded(one) for one in node.items("ConceptCodeSequence"))


def _describe_more(group: Group, node: Node, name: Name) -> None:
    """The descriptors that MADO names itself."""
    if name.mado == concepts.SERIES_DATE:
        group.date = node.text("Date") or node.text("TextValue")
    elif name.mado == concepts.SERIES_TIME:
        group.time = node.text("Time") or node.text("TextValue")
    elif name.mado == concepts.SERIES_DESCRIPTION:
        group.description = node.text("TextValue")
    elif name.mado == concepts.SERIES_INSTANCES:
        group.count = _count(node)


def _continuity(node: Node) -> None:
    if not node.text("ContinuityOfContent"):
        node.note("kos-continuity")


def _number(node: Node) -> int | None:
    """A number written as text, or measured."""
    value = node.text("TextValue") or _measured(node)
    if re.fullmatch(r"[+-]?[0-9]{1,11}", value, re.ASCII):
        return int(value)
    node.note("kos-number")
    return None


def _count(node: Node) -> int | None:
    """A count: the value of a NUM, or the first integer of a text (ihe §1.5)."""
    measured = _measured(node)
    if not measured:
        node.note("kos-count-text")
    found = _INTEGER.search(measured or node.text("TextValue"))
    if found is None:
        node.note("kos-number")
        return None
    return int(found[0])


def _measured(node: Node) -> str:
    measured = node.item("MeasuredValueSequence")
    return measured.text("NumericValue") if measured is not None else ""


def described(text: str) -> Iterable[tuple[str, str, str]]:
    """Series UID, modality and description of each line of drim-m's text (drim-m §4)."""
    for line in re.split(r"[\r\n]+", text):  # of DICOM's line ends alone: no other may forge a line
        if found := _LINE.fullmatch(line.strip()):
            yield found["uid"], found["modality"].strip(), found["description"].strip()


_LINE = re.compile(  # "Série-… : CT @  : …" as written today, "Serie-… : CT : …" as the demonstrator wrote it before
    r"S[ée]rie-(?P<uid>[0-9.]{1,64}) :(?P<modality>[^@:]{0,64})(@[^:]{0,64})?:(?P<description>.*)", re.IGNORECASE
)
