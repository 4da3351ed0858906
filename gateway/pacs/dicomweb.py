"""``DicomWebSource``: asks a PACS by QIDO-RS (PS3.18 10.6), its answers in DICOM JSON (PS3.18 F).

Invariants:

* the wire is that of ``gateway.pacs.http``: capped, status 200 or 204, ``application/dicom+json``;
* ``Absent`` only after a clean empty search of the study, then a clean empty search of its series, then, when a
  control study is configured, that study found (FF-54); everything else that is not the whole study is ``Unknown``;
  an empty day needs the control study too;
* a list ends with an empty page, never with a short one: a server may cap pages below the limit asked for, with a
  Warning 299 or without (12, 100 and 1,000 rows are known caps); one that announces more and then gives nothing has
  not given its list. A server that ignores ``offset`` cannot prove its list whole: ``paging-ignored``. A list of
  several pages is read twice, since rows may move between two pages.

Which calls, measured on the plugin 1.7 of Orthanc 1.10.1 (20 series of 10 CT instances, 2 cores, loopback): all
instances of a study by one search 0.15 s, by one search per series 0.20 s. Hence one (10.6.3.3.3 has the series
attributes returned there): what it lists must agree with the search of the series. A key-image note is asked for by
its metadata (10.4.1.1.2), one request each; a server without them tells no note.

Queries are built by hand: that plugin does not decode ``%xx``, and UIDs, dates and tags need no escape.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from pydicom.datadict import tag_for_keyword

from gateway.bridge import Call
from gateway.pacs import door
from gateway.pacs.door import Inconclusive
from gateway.pacs.http import HttpExchange, HttpPeer
from gateway.pacs.source import PacsSource
from indexer.study import Absent, Found, Instance, KeyNote, ListedStudy, PacsPatient, Series, Study, StudyAnswer
from security.errors import BadInput
from security.identity import Uid

PAGE_ROWS = 5000  # 80 JSON values a row were measured, the parser takes a million

_MEDIA_TYPES = ("application/dicom+json", "application/json")
# What a search does not return unasked (PS3.18 tables 10.6.3-3 to 10.6.3-5), and what old servers leave out
_STUDY_FIELDS = ("IssuerOfPatientID", "StudyDescription")
_SERIES_FIELDS = ("SeriesDescription", "BodyPartExamined", "SeriesDate", "SeriesTime", "Laterality")
_INSTANCE_FIELDS = ("SeriesInstanceUID", "NumberOfFrames")
_CALENDAR_FIELDS = ("ModalitiesInStudy",)
_MORE = re.compile("additional results|results exceeded", re.IGNORECASE)  # Warning 299, PS3.18 8.3.4.4
_PN_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")  # PS3.18 F.2.2, in the order of PS3.5 6.2.1

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWebPeer(HttpPeer):
    """One DICOMweb server; ``url`` without ``/studies``. ``rows_max``: rows of one list."""

    rows_max: int = 100_000


class DicomWebSource(PacsSource):
    """A PACS behind QIDO-RS (``indexer.ports.StudySource`` and ``StudyCalendar``)."""

    def __init__(self, peer: DicomWebPeer) -> None:
        super().__init__(peer.name, workers=peer.questions_max, deadline_s=peer.deadline_s)
        self._peer = peer

    def _ask(self, call: Call, study: Uid) -> StudyAnswer:
        with HttpExchange.open(self._peer, call, media_types=_MEDIA_TYPES) as exchange:
            try:
                search = _Search(self._peer, exchange)
                rows = search.study(study)
                if not rows:
                    return search.absent(study)
                if len(rows) > 1:
                    raise Inconclusive("ambiguous-study", "the peer lists several studies under this UID")
                return Found(study=_study(search, study, rows[0]))
            except BadInput as shape:
                raise Inconclusive("bad-answer", shape.args[0]) from None

    def _list(self, call: Call, day: date) -> tuple[ListedStudy, ...]:
        with HttpExchange.open(self._peer, call, media_types=_MEDIA_TYPES) as exchange:
            try:
                search = _Search(self._peer, exchange)
                rows = search.studies(day)
                if not rows:
                    search.check_whole()
            except BadInput as shape:
                raise Inconclusive("bad-answer", shape.args[0]) from None
        return door.calendar(
            door.listed(
                asked=day,
                study_uid=_text(row, "StudyInstanceUID"),
                study_date=_text(row, "StudyDate"),
                study_time=_text(row, "StudyTime"),
                modalities=_text(row, "ModalitiesInStudy").split("\\"),
                accession_number=_text(row, "AccessionNumber"),
            )
            for row in rows
        )


class _Search:
    """The searches of one question. Raises ``Inconclusive``, or ``BadInput`` for what is no JSON."""

    def __init__(self, peer: DicomWebPeer, exchange: HttpExchange) -> None:
        self._peer = peer
        self._exchange = exchange

    def study(self, study: Uid) -> list[Row]:
        """The rows of one study, two at most: none, the one, or one too many."""
        rows = self._page(f"/studies?StudyInstanceUID={study}{_fields(_STUDY_FIELDS)}&limit=2")
        for row in rows:
            door.same_study(door.uid(_text(row, "StudyInstanceUID"), keyword="StudyInstanceUID"), study)
        return rows

    def series(self, study: Uid) -> list[Row]:
        """Every series of a study that was just found."""
        return self._all(f"/studies/{study}/series?{_fields(_SERIES_FIELDS)[1:]}", listed=True)

    def instances(self, study: Uid) -> list[Row]:
        """Every instance of a study that was just found."""
        return self._all(f"/studies/{study}/instances?{_fields(_INSTANCE_FIELDS)[1:]}", listed=True)

    def note(self, study: Uid, series: str, instance: str) -> JsonItem:
        """The metadata of a key-image note that was just listed."""
        rows = self._answer(f"/studies/{study}/series/{series}/instances/{instance}/metadata", listed=True)[0]
        if len(rows) != 1:
            raise Inconclusive("bad-answer", "the metadata of one instance are not one data set")
        return JsonItem(rows[0])

    def studies(self, day: date) -> list[Row]:
        """Every study of a day."""
        return self._all(f"/studies?StudyDate={day:%Y%m%d}{_fields(_CALENDAR_FIELDS)}")

    def absent(self, study: Uid) -> Absent:
        """The peer found nothing; it must now prove itself alive and whole.

        Raises:
            Inconclusive: ``changing``, ``control-missing``, or what makes an answer unclean.
        """
        if self._page(f"/studies/{study}/series?limit=1"):
            raise Inconclusive("changing", "the peer has no such study, yet series of it")
        proof = self.check_whole()
        evidence = f"search of the study: empty; search of its series: empty{proof}"
        return Absent(evidence=evidence, is_proven=bool(proof))

    def check_whole(self) -> str:
        """The control study, when one is configured, is there; says so as evidence.

        Raises:
            Inconclusive: ``control-missing``.
        """
        if self._peer.control is None:
            return ""
        if len(self.study(self._peer.control)) != 1:
            raise Inconclusive("control-missing", "the peer lacks its control study too: its database is not whole")
        return "; control study: found"

    def _all(self, path: str, *, listed: bool = False) -> list[Row]:
        """Every row of a search: its pages up to an empty one."""
        rows, pages = self._pages(path, listed=listed)
        if pages > 1 and self._pages(path, listed=listed)[0] != rows:
            raise Inconclusive("changing", "rows came or went while the list was read page by page")
        return rows

    def _pages(self, path: str, *, listed: bool) -> tuple[list[Row], int]:
        rows: list[Row] = []
        last: list[Row] = []
        pages = 0
        warning = ""
        while True:
            before = warning
            page, warning = self._answer(f"{path}&limit={PAGE_ROWS}&offset={len(rows)}", listed=listed)
            if not page:
                break
            if page == last:
                raise Inconclusive("paging-ignored", "the peer ignores offset, so no list of it is known to be whole")
            if len(rows) + len(page) > self._peer.rows_max:
                raise Inconclusive("too-large", f"more than {self._peer.rows_max} rows")
            rows += page
            last = page
            pages += 1
        if _MORE.search(before):
            raise Inconclusive("warned", "the peer said that there is more, then gave no more: the list is not whole")
        return rows, pages

    def _page(self, path: str) -> list[Row]:
        return self._answer(path)[0]

    def _answer(self, path: str, *, listed: bool = False) -> tuple[list[Row], str]:
        """The rows of one page, and its warning."""
        answer = self._exchange.json("GET", path, listed=listed, may_be_empty=True)
        rows = [] if answer.value is None else answer.value
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Inconclusive("bad-answer", "a search did not answer a list of data sets")
        if not rows and answer.warning:
            raise Inconclusive("warned", "the peer answered an empty list with a warning: it may not be whole")
        return rows, answer.warning


@cache
def _tag(keyword: str) -> str:
    """The name of an attribute in DICOM JSON (PS3.18 F.2.2)."""
    return f"{tag_for_keyword(keyword) or 0:08X}"


def _fields(keywords: tuple[str, ...]) -> str:
    return "".join(f"&includefield={_tag(keyword)}" for keyword in keywords)


def _text(row: Row, keyword: str) -> str:
    """The text of an attribute as DIMSE would give it, "" when it has no value (PS3.18 F.2.5).

    Raises:
        Inconclusive: ``bad-answer`` neither text nor number stands there.
    """
    element = row.get(_tag(keyword), {})
    values = element.get("Value", []) if isinstance(element, dict) else None
    if not isinstance(values, list):
        raise Inconclusive("bad-answer", f"{keyword} is not DICOM JSON")
    return "\\".join(_value(value, keyword) for value in values).strip("\0 ")


def _value(value: Any, keyword: str) -> str:
    match value:
        case None:  # an empty one among several, F.2.5
            return ""
        case str():
            return value
        case int() | float() if not isinstance(value, bool):
            return str(value)
        case {} if all(isinstance(value.get(group, ""), str) for group in _PN_GROUPS):
            return "=".join(value.get(group, "") for group in _PN_GROUPS).rstrip("=")
        case _:
            raise Inconclusive("bad-answer", f"{keyword} is not DICOM JSON")


def _study(search: _Search, asked: Uid, row: Row) -> Study:
    def identity(keyword: str) -> str:
        return door.identity(_text(row, keyword), exact=True, keyword=keyword)

    return door.study(
        study_uid=asked,
        patient=PacsPatient(
            patient_id=identity("PatientID"),
            issuer=identity("IssuerOfPatientID"),
            name=identity("PatientName"),
            birth_date=identity("PatientBirthDate"),
            sex=identity("PatientSex"),
        ),
        accession_number=identity("AccessionNumber"),
        date=_text(row, "StudyDate"),
        time=_text(row, "StudyTime"),
        description=_text(row, "StudyDescription"),
        study_id=_text(row, "StudyID"),
        referring_physician=_text(row, "ReferringPhysicianName"),
        series=_series(search, asked),
    )


def _series(search: _Search, study: Uid) -> list[Series]:
    """Joins the two lists; they are two moments, so they must agree."""
    listed, instances = search.series(study), search.instances(study)
    members: defaultdict[Uid, list[Instance]] = defaultdict(list)
    homes: dict[str, Uid] = {}
    for row in instances:
        door.same_study(_text(row, "StudyInstanceUID"), study)
        homes[_text(row, "SOPInstanceUID")] = door.uid(_text(row, "SeriesInstanceUID"), keyword="SeriesInstanceUID")
    notes = door.notes(
        {_text(row, "SOPInstanceUID"): _text(row, "SOPClassUID") for row in instances},
        lambda instance: search.note(study, homes[instance], door.uid(instance, keyword="SOPInstanceUID")),
    )
    for row in instances:
        members[homes[_text(row, "SOPInstanceUID")]].append(_instance(row, notes))
    rows = [(door.uid(_text(row, "SeriesInstanceUID"), keyword="SeriesInstanceUID"), row) for row in listed]
    if {series_uid for series_uid, _ in rows} != members.keys():
        raise Inconclusive("changing", "series came or went while the study was read")
    for _, row in rows:
        door.same_study(_text(row, "StudyInstanceUID"), study)
    return [
        door.series(
            series_uid=series_uid,
            modality=_text(row, "Modality"),
            number_text=_text(row, "SeriesNumber"),
            description=_text(row, "SeriesDescription"),
            body_part=_text(row, "BodyPartExamined"),
            date=_text(row, "SeriesDate"),
            time=_text(row, "SeriesTime"),
            laterality=_text(row, "Laterality"),
            instances=members[series_uid],
        )
        for series_uid, row in rows
    ]


def _instance(row: Row, notes: Mapping[str, KeyNote]) -> Instance:
    return door.instance(
        sop_class=_text(row, "SOPClassUID"),
        sop_instance=_text(row, "SOPInstanceUID"),
        number_text=_text(row, "InstanceNumber"),
        frames_text=_text(row, "NumberOfFrames"),
        told=notes.get(_text(row, "SOPInstanceUID")),
    )


@dataclass(frozen=True, slots=True)
class JsonItem:
    """A data set in DICOM JSON (``indexer.notes.Item``)."""

    row: Row

    def text(self, keyword: str) -> str:
        """The value of an element, "" when absent."""
        return _text(self.row, keyword)

    def items(self, keyword: str) -> Sequence[JsonItem]:
        """The items of a sequence, none when absent; an empty item may be null (PS3.18 F.2.5)."""
        element = self.row.get(_tag(keyword), {})
        listed = element.get("Value", []) if isinstance(element, dict) else None
        if not isinstance(listed, list) or not all(each is None or isinstance(each, dict) for each in listed):
            raise Inconclusive("bad-answer", f"{keyword} is not DICOM JSON")
        return [JsonItem(each or {}) for each in listed]
