"""What the profiles share, and the one value in which they differ.

A ``Variant`` names the parts of the document that a profile decides; ``indexer.kos.writer`` puts them together with
those that all profiles have alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from indexer.kos.classes import value_type
from indexer.kos.encoding import Element, elements, fixed, issuer, refused, sq, ui, whole
from indexer.manifest import StudyManifest
from indexer.report import Coded, Order, Organization
from indexer.study import Address, Instance, Series
from security.identity import Ins, LocalId, Uid

CONTAINS, ACQUISITION, MODIFIER = (
    fixed(0x0040A010, "CS", name) for name in ("CONTAINS", "HAS ACQ CONTEXT", "HAS CONCEPT MOD")
)
RELATED = 0x0040A730  # Content Sequence
_BASE = re.compile(r"https?://[!-~]+", re.ASCII)
_AE_TITLE = re.compile(r"[!-~]([ -~]{0,14}[!-~])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One profile's part of the document.

    ``patient``: checks the manifest against the profile's rules and gives the identifier that names the patient.
    ``national``: further elements of the Patient module. ``accession``: whether a single accession number stands in
    (0008,0050) too. ``series``, ``instance``: elements of their evidence items beside the standard's. ``study``:
    elements of the evidence's study item. ``title``: Concept Name. ``items``: content of each item of the tree.
    ``codes``: the coded values written, whose systems may need to be identified.
    """

    patient: Callable[[StudyManifest], Ins | LocalId]
    national: Callable[[StudyManifest], Iterable[Element]]
    accession: bool
    institution: Callable[[Organization], Element]
    series: Callable[[StudyManifest, Series], Iterable[Element]]
    instance: Callable[[StudyManifest], Callable[[Instance], Iterable[Element]]]
    study: Callable[[StudyManifest], Iterable[Element]]
    title: Element
    items: Callable[[StudyManifest], Iterable[bytes]]
    codes: Callable[[StudyManifest], Iterable[Coded]]


def nothing(_manifest: StudyManifest) -> tuple[()]:
    """The part of a profile that adds nothing."""
    return ()


def no_instance_element(_manifest: StudyManifest) -> Callable[[Instance], tuple[()]]:
    """Evidence of an instance as the standard has it, without addition."""
    return lambda _instance: ()


def item(kind: str, relationship: Element, *parts: Element) -> bytes:
    """One content item (PS3.3 C.17.3.2.1)."""
    return elements((fixed(0x0040A040, "CS", kind), relationship, *parts))


def references(series: Iterable[Series]) -> Iterable[bytes]:
    """The flat tree of TID 2010: one item for each instance, without purpose of reference."""
    for one in series:
        for instance in one.instances:
            yield item(value_type(instance.sop_class), CONTAINS, reference(instance))


def reference(instance: Instance) -> Element:
    """Referenced SOP Sequence of a content item."""
    return sq(0x00081199, (elements((ui(0x00081150, instance.sop_class), ui(0x00081155, instance.sop_instance))),))


def check_instances(manifest: StudyManifest) -> None:
    """Something is listed, and nothing twice.

    Raises:
        BadInput: ``kos-no-instance``, ``kos-duplicate-instance``.
    """
    if not manifest.series or not all(series.instances for series in manifest.series):
        raise refused("kos-no-instance", "a series without instances, or no series")
    uids = [instance.sop_instance for series in manifest.series for instance in series.instances]
    if len(set(uids)) != len(uids) or len({series.uid for series in manifest.series}) != len(manifest.series):
        raise refused("kos-duplicate-instance", "a series or an instance is listed twice")


def check_base(base: str) -> None:
    """``base`` is an http(s) address that ``/studies`` can be appended to.

    Raises:
        BadInput: ``kos-retrieve-base``.
    """
    if not _BASE.fullmatch(base) or "/studies" in base:
        raise refused("kos-retrieve-base", "the WADO-RS base is not an http(s) address without /studies")


def address_of(manifest: StudyManifest, series: Series) -> Address:
    """Where this series is fetched."""
    return series.address or manifest.address


def ae_title(title: str) -> Element:
    """Retrieve AE Title (0008,0054).

    Raises:
        BadInput: ``kos-ae-title``.
    """
    if not _AE_TITLE.fullmatch(title) or "\\" in title:
        raise refused("kos-ae-title", "the image source has no Retrieve AE Title of 1 to 16 characters")
    return fixed(0x00080054, "AE", title)


def location(uid: str) -> Element:
    """Retrieve Location UID (0040,E011).

    Raises:
        BadInput: ``kos-location``.
    """
    if not uid:
        raise refused("kos-location", "the image source has no Retrieve Location UID")
    return ui(0x0040E011, Uid(uid))


def accession(manifest: StudyManifest) -> Order | None:
    """The order whose accession number stands for the whole study: None when there are several, or none."""
    distinct = {(order.accession_number, order.accession_issuer): order for order in manifest.orders}
    stated = [order for order in distinct.values() if order.accession_number]
    return stated[0] if len(stated) == 1 else None


def request(order: Order, study: Uid) -> bytes:
    """One item of Referenced Request Sequence."""
    parts = [
        whole(0x00080050, "SH", order.accession_number, "accession number"),
        sq(0x00081110, ()),
        ui(0x0020000D, study),
        fixed(0x00321060, "LO", ""),
        sq(0x00321064, ()),
        fixed(0x00401001, "SH", ""),
        whole(0x00402016, "LO", order.placer_number, "placer order number"),
        fixed(0x00402017, "LO", ""),
    ]
    if order.accession_issuer:
        parts.append(issuer(0x00080051, order.accession_issuer))
    if order.placer_issuer:
        parts.append(issuer(0x00400026, order.placer_issuer))
    return elements(parts)
