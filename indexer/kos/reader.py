"""A KOS of any maker as the manifest it stands for (PS3.3 C.17.6, IHE RAD TF-3 4.68, MADO, drim-m §4).

Invariants:

* whatever can be understood is understood, each departure is a ``Deviation`` (FF-18); nothing listed is dropped;
* what a document does not say is not invented, but for one thing: a modality that only one kind of equipment makes
  is taken from the SOP class, and noted;
* what encode writes, read gives back, but for ``indexer.kos.carried.LOSES``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from indexer.kos.classes import modality
from indexer.kos.document import Document, opened
from indexer.kos.evidence import ListedSeries, Url, is_http
from indexer.kos.nodes import Node, refusal
from indexer.kos.persons import day, institution, orders, patient
from indexer.kos.tree import Entry, Group, described
from indexer.manifest import Imprint, StudyManifest
from indexer.reading import Profile, Reading
from indexer.study import Address, Instance, KeyNote, Series
from security.identity import Uid

_TM = re.compile(r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>0[0-9]|1[0-4])(?P<minutes>[0-5][0-9])", re.ASCII)
_TAILS: Mapping[Profile, str] = {"drim-m": "/series", "xds-i": "", "mado": ""}


def read(data: bytes) -> Reading:
    """The manifest in ``data``, its imprint, its profile and its deviations.

    Raises:
        BadInput: as ``indexer.kos.document.opened``; ``kos-content-date`` nothing says when it was made.
    """
    return reading(opened(data))


def reading(document: Document) -> Reading:
    """The reading of an opened document.

    Raises:
        BadInput: ``kos-content-date``.
    """
    root = document.root
    manifest = _manifest(document)
    made = _imprint(document)
    return Reading(
        manifest=manifest,
        imprint=made,
        form="kos",
        profile=document.profile,
        codes=document.codes,
        deviations=root.found.deviations(),
    )


def _manifest(document: Document) -> StudyManifest:
    root, library = document.root, document.tree.library
    address = document.series[0].address
    return StudyManifest(
        study=document.study,
        date=day(root, "StudyDate"),
        time=time(root, "StudyTime"),
        description=root.text("StudyDescription"),
        study_id=root.text("StudyID"),
        referring_physician=root.text("ReferringPhysicianName"),
        patient=patient(root, national=document.profile == "drim-m"),
        orders=orders(root),
        series=tuple(_series(document, address)),
        procedures=tuple(dict.fromkeys(document.tree.procedures)),
        regions=tuple(dict.fromkeys(library.regions)) if library is not None else (),
        institution=institution(root),
        address=address,
        viewer_url=_viewer(root),
    )


def time(node: Node, name: str) -> str:
    """A time as HHMMSS[.ffffff]; "" when absent or none."""
    value = node.text(name)
    if value and not _TM.fullmatch(value):
        node.note("kos-date", name)
        return ""
    return value


def _series(document: Document, common: Address) -> Iterable[Series]:
    library = document.tree.library
    groups = {group.uid: group for group in library.groups if group.uid is not None} if library is not None else {}
    told = {uid: (kind, text) for uid, kind, text in described(document.tree.text)}
    for listed in document.series:
        _retrieval(document, listed)
        series = _described(listed, groups.get(listed.uid), told.get(listed.uid, ("", "")))
        if not series.modality:
            series = replace(series, modality=_inferred(document, listed))
        if document.profile == "drim-m" and series.number is None:
            listed.node.note("kos-series-number", "SeriesNumber")
        yield series if listed.address == common else replace(series, address=listed.address)


def _described(listed: ListedSeries, group: Group | None, told: tuple[str, str]) -> Series:
    """The series with what the library says of it, else the text for people."""
    if group is None:
        kind, text = told
        return Series(
            uid=listed.uid, modality=kind, instances=listed.instances, number=listed.number, description=text
        )
    entries = {entry.reference.sop_instance: entry for entry in group.entries}
    return Series(
        uid=listed.uid,
        modality=group.modality,
        instances=tuple(_instance(one, entries.get(one.sop_instance)) for one in listed.instances),
        number=group.number if group.number is not None else listed.number,
        description=group.description,
        body_part=group.body_part,
        date=group.date,
        time=group.time,
        region=group.region,
        laterality=group.laterality,
    )


def _instance(one: Instance, entry: Entry | None) -> Instance:
    if entry is None:
        return one
    said = entry.note()
    known = one.note.references if one.note is not None else ()
    note = KeyNote(title=said.title, description=said.description, references=known) if said is not None else one.note
    number = entry.number if entry.number is not None else one.number
    return replace(one, number=number, frames=entry.frames, note=note)


def _inferred(document: Document, listed: ListedSeries) -> str:
    """The modality that the SOP classes leave no doubt about; XDS-I has no place for another word on it."""
    kinds = {modality(one.sop_class) for one in listed.instances}
    kind = kinds.pop() if len(kinds) == 1 else ""
    detail = "taken from the SOP class" if kind else ""
    if document.tree.library is not None:
        listed.node.note("kos-series-modality", detail=detail)
    elif document.profile == "drim-m":
        listed.node.note("kos-modality", detail=detail)
    return kind


def _retrieval(document: Document, listed: ListedSeries) -> None:
    """What is out of rule in the address of one series."""
    url, node = listed.url, listed.node
    if url is None:
        return
    if url.slash:
        node.note("kos-retrieve-slash", "RetrieveURL")
    if url.level == "series" and url.tail != _TAILS[document.profile]:
        node.note("kos-retrieve-form", "RetrieveURL", f"ends in {url.tail or 'the base'}")
    if _elsewhere(url, document.study, listed.uid):
        node.note("kos-retrieve-other", "RetrieveURL")


def _elsewhere(url: Url, study: Uid, series: Uid) -> bool:
    return bool((url.study and url.study != study) or (url.series and url.level == "series" and url.series != series))


def _viewer(root: Node) -> str:
    """Display URI: the attribute, or the private element of the trial; in the study item, or elsewhere above."""
    study = root.item("CurrentRequestedProcedureEvidenceSequence")
    for node in (study, root):
        if node is None:
            continue
        for tag in (0x0040E012, *_trial(node)):
            if value := node.text_at(tag, "DisplayURI"):
                if node is root:
                    root.note("kos-place", "DisplayURI", "belongs to the study item")
                if not is_http(value):
                    node.note("kos-viewer-url", "DisplayURI")
                return value
    return ""


def _trial(node: Node) -> Iterable[int]:
    """Where the private element stands: its block is the one that the creator reserved (PS3.5 7.8.1)."""
    for block in range(0x10, 0x100):
        creator = 0x000D0000 | block
        if creator in node.data and node.text_at(creator, "PrivateCreator") == "IHE_MADO_PRIVATE":
            yield 0x000D0000 | block << 8 | 0x01


def _imprint(document: Document) -> Imprint:
    root = document.root
    zone = _zone(root)
    return Imprint(
        unique_id=document.unique_id,
        series_uid=root.uid("SeriesInstanceUID"),
        created_at=_moment(root).replace(tzinfo=zone),
        zone=zone,
        manufacturer=root.text("Manufacturer"),
    )


def _zone(root: Node) -> timezone:
    """That of TimezoneOffsetFromUTC, UTC where the document states none."""
    stated = root.text("TimezoneOffsetFromUTC")
    read = _OFFSET.fullmatch(stated)
    if read is None:
        if stated:
            root.note("kos-date", "TimezoneOffsetFromUTC")
        return UTC
    offset = timedelta(hours=int(read["hours"]), minutes=int(read["minutes"]))
    return timezone(-offset if read["sign"] == "-" else offset)


def _moment(root: Node) -> datetime:
    """When the document says that it was made, without its zone."""
    for kind in ("Content", "InstanceCreation"):
        stated, moment = day(root, f"{kind}Date"), time(root, f"{kind}Time")
        whole, _, fraction = moment.partition(".")
        try:
            return datetime.strptime(f"{stated}{whole:0<6}{fraction:0<6}", "%Y%m%d%H%M%S%f")  # noqa: DTZ007 -- given next
        except ValueError:
            root.note("kos-date", f"{kind}Date")
    raise refusal("kos-content-date", "neither ContentDate nor InstanceCreationDate says when it was made")
