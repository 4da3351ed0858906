"""Reading the evidence: which instances a KOS shares, and where each series is fetched.

Invariants:

* every instance listed is kept, once; what cannot be named refuses the whole document;
* an address is understood wherever writers have put it (series, study item, root), with or without the path of the
  study behind the base.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from indexer.kos.coded import Schemes
from indexer.kos.nodes import Node, refusal
from indexer.report import Coded
from indexer.study import Address, Instance, KeyNote
from security.identity import Uid

_URL = re.compile(r"(?P<base>.*?)(?P<tail>/studies(/(?P<study>[^/]*)(/series(/(?P<series>[^/]*))?)?)?)?")
_HTTP = re.compile(r"https?://[!-~]+", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """A RetrieveURL taken apart. ``level``: series, study or root; ``tail``: "", "/studies" or down to "/series"."""

    base: str
    study: str
    series: str
    tail: str
    slash: bool
    level: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """One series of the evidence. ``number``: drim-m's SeriesNumber."""

    uid: Uid
    node: Node
    instances: tuple[Instance, ...]
    number: int | None
    url: Url | None
    address: Address


@dataclass(slots=True)
class _Notes:
    """Key-image notes told beside the images they point at (drim-m §4, KIN): by SOP instance of the note."""

    titles: dict[Uid, tuple[Coded, str]] = field(default_factory=dict)
    references: dict[Uid, list[Uid]] = field(default_factory=dict)


def evidence(root: Node, codes: Schemes) -> tuple[Uid, tuple[ListedSeries, ...]]:
    """The study and its series, in document order.

    Raises:
        BadInput: ``kos-no-study``, ``kos-several-studies``, ``kos-no-instance``, ``kos-uid``.
    """
    items = list(root.items("CurrentRequestedProcedureEvidenceSequence"))
    study = _study(root, items)
    read = _Reader(root, codes, _Notes(), set())
    listed: dict[Uid, ListedSeries] = {}
    instances: dict[Uid, list[Instance]] = {}
    for item in items:
        for node in item.items("ReferencedSeriesSequence"):
            one = read.series(node, item)
            if one is None:
                continue
            if one.uid in listed:
                node.note("kos-duplicate-instance", "SeriesInstanceUID")
            listed.setdefault(one.uid, one)
            instances.setdefault(one.uid, []).extend(one.instances)
    if not listed:
        raise refusal("kos-no-instance", "its evidence lists no instance")
    whole = (replace(one, instances=tuple(instances[one.uid])) for one in listed.values())
    return study, tuple(_noted(whole, read.notes, root))


def _study(root: Node, items: list[Node]) -> Uid:
    """The one study of the evidence; what stands at its level and belongs to each series is noted."""
    studies = dict.fromkeys(uid for item in items if (uid := item.uid("StudyInstanceUID")) is not None)
    if not studies:
        raise refusal("kos-no-study", "its evidence names no study")
    if len(studies) > 1:
        raise refusal("kos-several-studies", f"its evidence names {len(studies)} studies")
    if len(items) > 1:
        root.note("kos-evidence-items", "CurrentRequestedProcedureEvidenceSequence", f"{len(items)} items")
    for node in (root, *items):
        if node.has("RetrieveURL"):
            node.note("kos-retrieve-level", "RetrieveURL")
    return next(iter(studies))


@dataclass(frozen=True, slots=True)
class _Reader:
    root: Node
    codes: Schemes
    notes: _Notes
    seen: set[Uid]

    def series(self, node: Node, study: Node) -> ListedSeries | None:
        """One series, None when it lists no instance that was not listed before."""
        uid = node.uid("SeriesInstanceUID")
        if uid is None:
            raise refusal("kos-uid", f"{node.path} has no SeriesInstanceUID")
        instances = []
        for item in node.items("ReferencedSOPSequence"):
            instance = self._instance(item)
            if instance.sop_instance in self.seen:
                item.note("kos-duplicate-instance", "ReferencedSOPInstanceUID")
                continue
            self.seen.add(instance.sop_instance)
            instances.append(instance)
        if not instances:
            node.note("kos-series-empty", "ReferencedSOPSequence")
            return None
        url = _url(node, study, self.root)
        return ListedSeries(
            uid=uid,
            node=node,
            instances=tuple(instances),
            number=whole_number(node, "SeriesNumber"),
            url=url,
            address=Address(
                base=url.base if url is not None else "",
                location=_above("RetrieveLocationUID", node, study, self.root),
                ae_title=_above("RetrieveAETitle", node, study, self.root),
            ),
        )

    def _instance(self, item: Node) -> Instance:
        sop_class, uid = item.uid("ReferencedSOPClassUID"), item.uid("ReferencedSOPInstanceUID")
        if sop_class is None or uid is None:
            raise refusal("kos-uid", f"{item.path} lacks a SOP class or a SOP instance")
        for nested in item.items("ReferencedSOPSequence"):
            note, title = nested.uid("ReferencedSOPInstanceUID"), nested.item("ConceptNameCodeSequence")
            if note is None or title is None:
                nested.note("kos-note", detail="without instance or title")
                continue
            told = nested.item("ContentSequence")
            description = told.text("TextValue") if told is not None else ""
            self.notes.titles.setdefault(note, (self.codes.coded(title), description))
            self.notes.references.setdefault(note, []).append(uid)
        return Instance(sop_class=sop_class, sop_instance=uid, number=whole_number(item, "InstanceNumber"))


def _noted(listed: Iterable[ListedSeries], notes: _Notes, root: Node) -> Iterable[ListedSeries]:
    """The series, each key-image note with what was told of it elsewhere."""
    left = dict(notes.titles)
    for series in listed:
        told = []
        for one in series.instances:
            if one.sop_instance in left:
                title, description = left.pop(one.sop_instance)
                references = tuple(dict.fromkeys(notes.references[one.sop_instance]))
                told.append(replace(one, note=KeyNote(title=title, description=description, references=references)))
            else:
                told.append(one)
        yield replace(series, instances=tuple(told))
    for _ in left:
        root.note("kos-note", "CurrentRequestedProcedureEvidenceSequence", "of an object that is not listed")


def whole_number(node: Node, name: str) -> int | None:
    """An IS or a number written as text; None when absent."""
    value = node.text(name)
    if not value:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,11}", value, re.ASCII):
        node.note("kos-number", name)
        return None
    return int(value)


def _above(name: str, node: Node, study: Node, root: Node) -> str:
    """A series attribute that some writers state once for the whole study."""
    if value := node.text(name):
        return value
    for upper in (study, root):
        if value := upper.text(name):
            upper.note("kos-place", name, "belongs to each series")
            return value
    return ""


def is_http(url: str) -> bool:
    """Whether this is an http(s) address without blanks."""
    return _HTTP.fullmatch(url) is not None


def _url(node: Node, study: Node, root: Node) -> Url | None:
    for level, one in (("series", node), ("study", study), ("root", root)):
        stated = one.text("RetrieveURL")
        if not stated:
            continue
        if not is_http(stated):
            one.note("kos-retrieve-http", "RetrieveURL")
            return None
        bare = stated.rstrip("/")
        read = _URL.fullmatch(bare)
        if read is None:  # the expression ends in what fits anything
            raise refusal("kos-retrieve-http", f"{one.at('RetrieveURL')} cannot be taken apart")
        return Url(
            base=read["base"].rstrip("/"),
            study=read["study"] or "",
            series=read["series"] or "",
            tail="/series" if read["series"] else "/studies" if read["tail"] else "",
            slash=bare != stated,
            level=level,
            where=one.at("RetrieveURL"),
        )
    return None
