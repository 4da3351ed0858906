"""``OrthancSource``: asks Orthanc through its REST interface.

Invariants:

* the wire is that of ``gateway.pacs.http``: capped, status 200, ``application/json``;
* ``Absent`` only after a clean empty look-up, then a clean ``/system``, then, when a control study is
  configured, that study found (FF-54); everything else that is not the whole study is ``Unknown``; an empty day
  needs the same proof.

Which calls, measured on Orthanc 1.10.1 with 1,300 CT instances of 131 kB (2 cores, SQLite index, loopback):
``/tools/bulk-content`` with metadata 0.06 s (SOP class from the index, no file read) · one
``/instances/{id}/metadata/SopClassUid`` each 0.87 s · ``/studies/{id}/instances-tags?simplify`` 0.17 s, but it
reads every file and grows with enhanced multi-frame headers · ``/studies/{id}/instances`` 0.05 s without SOP
classes · ``/studies/{id}/shared-tags`` 0.1 s, SOP class only if all instances share it. Hence bulk-content
(Orthanc ≥ 1.9.4).

Beyond that, one ``/series/{id}/module`` per series (Laterality is not in the index) and one ``/instances/{id}/tags``
per key-image note: each reads one file.

Texts come as UTF-8, converted by Orthanc from each file's character set; ``DefaultEncoding`` of Orthanc decides
where a file states none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from gateway.bridge import Call
from gateway.pacs import door
from gateway.pacs.door import Inconclusive
from gateway.pacs.http import HttpExchange, HttpPeer
from gateway.pacs.source import PacsSource
from indexer.study import Absent, Found, Instance, KeyNote, ListedStudy, PacsPatient, Series, Study, StudyAnswer
from security.errors import BadInput
from security.identity import Uid
from security.parse.json import member

_MEDIA_TYPES = ("application/json",)
_NAMED = ("/studies/", "/series/", "/instances/")  # below these stands what the peer named a moment ago


@dataclass(frozen=True, slots=True, kw_only=True)
class OrthancPeer(HttpPeer):
    """One Orthanc."""


class OrthancSource(PacsSource):
    """A PACS behind Orthanc's REST interface (``indexer.ports.StudySource`` and ``StudyCalendar``)."""

    def __init__(self, peer: OrthancPeer) -> None:
        super().__init__(peer.name, workers=peer.questions_max, deadline_s=peer.deadline_s)
        self._peer = peer

    def _ask(self, call: Call, study: Uid) -> StudyAnswer:
        with OrthancClient.session(self._peer, call) as orthanc:
            try:
                found = orthanc.lookup_study(study)
                if not found:
                    return self._absent(orthanc)
                if len(found) > 1:  # Orthanc keeps one study per (PatientID, StudyInstanceUID)
                    raise Inconclusive("ambiguous-study", f"{len(found)} patients share this StudyInstanceUID")
                return Found(study=_study(orthanc, study, found[0]))
            except BadInput as shape:
                raise Inconclusive("bad-answer", shape.args[0]) from None

    def _list(self, call: Call, day: date) -> tuple[ListedStudy, ...]:
        with OrthancClient.session(self._peer, call) as orthanc:
            try:
                studies = orthanc.find("Study", day)
                if not studies:
                    self._absent(orthanc)
                return _calendar(day, studies, orthanc.find("Series", day))
            except BadInput as shape:
                raise Inconclusive("bad-answer", shape.args[0]) from None

    def _absent(self, orthanc: OrthancClient) -> Absent:
        """Orthanc found nothing; it must now prove itself alive and whole.

        Raises:
            Inconclusive: ``control-missing``, or what makes an answer unclean.
        """
        version = orthanc.version()
        evidence = f"search: empty; /system: Orthanc {version}"
        if self._peer.control is None:
            return Absent(evidence=evidence)
        if len(orthanc.lookup_study(self._peer.control)) != 1:
            raise Inconclusive("control-missing", "the peer lacks its control study too: its database is not whole")
        return Absent(evidence=f"{evidence}; control study: found", is_proven=True)


class OrthancClient:
    """The calls we need, typed; one question long. Raises ``Inconclusive``, or ``BadInput`` for a wrong shape."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    @classmethod
    @contextmanager
    def session(cls, peer: OrthancPeer, call: Call) -> Iterator[OrthancClient]:
        """A client whose sockets are shut when ``call`` is cut."""
        with HttpExchange.open(peer, call, media_types=_MEDIA_TYPES) as exchange:
            yield cls(exchange)

    def version(self) -> str:
        """``GET /system``: proof of life."""
        return member(self._json("GET", "/system"), "Version", str, what="/system")

    def lookup_study(self, study: Uid) -> list[str]:
        """``POST /tools/lookup``: Orthanc's identifiers of the studies with this UID."""
        matches = _list(self._json("POST", "/tools/lookup", data=study.encode()), what="/tools/lookup")
        studies = [
            member(match, "ID", str, what="/tools/lookup")
            for match in matches
            if member(match, "Type", str, what="/tools/lookup") == "Study"
        ]
        if matches and not studies:
            raise Inconclusive("bad-answer", "the peer knows this UID, yet not as that of a study")
        return studies

    def study(self, orthanc_id: str) -> dict[str, Any]:
        """``GET /studies/{id}``."""
        return _object(self._json("GET", f"/studies/{orthanc_id}"), what="/studies/{id}")

    def patient_module(self, orthanc_id: str) -> dict[str, Any]:
        """``GET /studies/{id}/module-patient``: has IssuerOfPatientID, which the index does not keep."""
        return _object(self._json("GET", f"/studies/{orthanc_id}/module-patient?simplify"), what="module-patient")

    def series(self, orthanc_id: str) -> list[Any]:
        """``GET /studies/{id}/series``, expanded."""
        return _list(self._json("GET", f"/studies/{orthanc_id}/series"), what="/studies/{id}/series")

    def instances(self, orthanc_id: str) -> list[Any]:
        """``POST /tools/bulk-content``: every instance of the study with its metadata, from the index."""
        body = {"Resources": [orthanc_id], "Level": "Instance", "Metadata": True}
        return _list(self._json("POST", "/tools/bulk-content", json=body), what="/tools/bulk-content")

    def series_module(self, series_id: str) -> dict[str, Any]:
        """``GET /series/{id}/module``: has Laterality, which the index does not keep."""
        return _object(self._json("GET", f"/series/{series_id}/module?simplify"), what="/series/{id}/module")

    def note(self, instance_id: str) -> SimplifiedItem:
        """``GET /instances/{id}/tags``: the whole data set of a key-image note."""
        path = f"/instances/{instance_id}/tags?simplify"
        return SimplifiedItem(_object(self._json("GET", path), what="/instances/{id}/tags"))

    def find(self, level: str, day: date) -> list[Any]:
        """``POST /tools/find``: everything of a level on a StudyDate, expanded; no ``Limit``, so never cut short."""
        body = {"Level": level, "Expand": True, "Query": {"StudyDate": f"{day:%Y%m%d}"}}
        return _list(self._json("POST", "/tools/find", json=body), what="/tools/find")

    def _json(self, method: str, path: str, **body: Any) -> Any:
        return self._exchange.json(method, path, listed=path.startswith(_NAMED), **body).value


@dataclass(frozen=True, slots=True)
class SimplifiedItem:
    """A data set as Orthanc simplifies it (``indexer.notes.Item``)."""

    tags: dict[str, Any]

    def text(self, keyword: str) -> str:
        """The value of an element, "" when absent."""
        return _tag(self.tags, keyword)

    def items(self, keyword: str) -> Sequence[SimplifiedItem]:
        """The items of a sequence, none when absent."""
        listed = self.tags.get(keyword, [])
        return [SimplifiedItem(_object(each, what=keyword)) for each in _list(listed, what=keyword)]


def _list(value: Any, *, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Inconclusive("bad-answer", f"{what} did not answer a list")
    return value


def _texts(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise Inconclusive("bad-answer", "a list of identifiers holds something else")
    return values


def _object(value: Any, *, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Inconclusive("bad-answer", f"{what} did not answer an object")
    return value


def _tag(tags: dict[str, Any], keyword: str) -> str:
    """A tag of a simplified answer, "" when Orthanc holds none (it lists a tag only when it has a value)."""
    value = tags.get(keyword, "")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _study(orthanc: OrthancClient, asked: Uid, orthanc_id: str) -> Study:
    tags = member(orthanc.study(orthanc_id), "MainDicomTags", dict, what="/studies/{id}")
    door.same_study(_tag(tags, "StudyInstanceUID") or "-", asked)
    patient = orthanc.patient_module(orthanc_id)

    def identity(found: dict[str, Any], keyword: str) -> str:
        return door.identity(_tag(found, keyword), exact=True, keyword=keyword)

    return door.study(
        study_uid=asked,
        patient=PacsPatient(
            patient_id=identity(patient, "PatientID"),
            issuer=identity(patient, "IssuerOfPatientID"),
            name=identity(patient, "PatientName"),
            birth_date=identity(patient, "PatientBirthDate"),
            sex=identity(patient, "PatientSex"),
        ),
        accession_number=identity(tags, "AccessionNumber"),
        date=_tag(tags, "StudyDate"),
        time=_tag(tags, "StudyTime"),
        description=_tag(tags, "StudyDescription"),
        study_id=_tag(tags, "StudyID"),
        referring_physician=_tag(tags, "ReferringPhysicianName"),
        series=_series(orthanc, orthanc.series(orthanc_id), orthanc.instances(orthanc_id)),
    )


def _series(orthanc: OrthancClient, listed: list[Any], bulk: list[Any]) -> list[Series]:
    """Joins the two listings; they are two moments, so they must agree."""
    members: defaultdict[str, list[Instance]] = defaultdict(list)
    identifiers: defaultdict[str, set[str]] = defaultdict(set)
    for entry in bulk:
        identifiers[member(entry, "ParentSeries", str, what="bulk-content")].add(
            member(entry, "ID", str, what="bulk-content")
        )
    stated = {
        member(entry, "ID", str, what="series"): set(_texts(member(entry, "Instances", list, what="series")))
        for entry in listed
    }
    if stated != identifiers:
        raise Inconclusive("changing", "instances came or went while the study was read")
    notes = door.notes({_sop_instance(entry): _sop_class(entry) for entry in bulk}, _note_by_uid(orthanc, bulk))
    for entry in bulk:
        members[member(entry, "ParentSeries", str, what="bulk-content")].append(_instance(entry, notes))
    return [
        door.series(
            series_uid=_tag(tags, "SeriesInstanceUID"),
            modality=_tag(tags, "Modality"),
            number_text=_tag(tags, "SeriesNumber"),
            description=_tag(tags, "SeriesDescription"),
            body_part=_tag(tags, "BodyPartExamined"),
            date=_tag(tags, "SeriesDate"),
            time=_tag(tags, "SeriesTime"),
            laterality=_tag(orthanc.series_module(identifier), "Laterality"),
            instances=members[identifier],
        )
        for entry in listed
        for tags in [member(entry, "MainDicomTags", dict, what="series")]
        for identifier in [member(entry, "ID", str, what="series")]
    ]


def _note_by_uid(orthanc: OrthancClient, bulk: list[Any]) -> Callable[[str], SimplifiedItem]:
    """Asks for a note by its SOPInstanceUID, which orders the same at every PACS."""
    identifiers = {_sop_instance(entry): member(entry, "ID", str, what="bulk-content") for entry in bulk}
    return lambda uid: orthanc.note(identifiers[uid])


def _sop_instance(entry: Any) -> str:
    return _tag(member(entry, "MainDicomTags", dict, what="bulk-content"), "SOPInstanceUID")


def _sop_class(entry: Any) -> str:
    return _tag(member(entry, "Metadata", dict, what="bulk-content"), "SopClassUid")


def _instance(entry: Any, notes: dict[str, KeyNote]) -> Instance:
    tags = member(entry, "MainDicomTags", dict, what="bulk-content")
    uid = _sop_instance(entry)
    return door.instance(
        sop_class=_sop_class(entry),
        sop_instance=uid,
        number_text=_tag(tags, "InstanceNumber"),
        frames_text=_tag(tags, "NumberOfFrames"),
        told=notes.get(uid),
    )


def _calendar(day: date, studies: list[Any], series: list[Any]) -> tuple[ListedStudy, ...]:
    """The studies of the day; their modalities stand in the series alone."""
    modalities: defaultdict[str, set[str]] = defaultdict(set)
    for entry in series:
        tags = member(entry, "MainDicomTags", dict, what="/tools/find")
        modalities[member(entry, "ParentStudy", str, what="/tools/find")].add(_tag(tags, "Modality"))
    return door.calendar(
        door.listed(
            asked=day,
            study_uid=_tag(tags, "StudyInstanceUID"),
            study_date=_tag(tags, "StudyDate"),
            study_time=_tag(tags, "StudyTime"),
            modalities=modalities[member(entry, "ID", str, what="/tools/find")],
            accession_number=_tag(tags, "AccessionNumber"),
        )
        for entry in studies
        for tags in [member(entry, "MainDicomTags", dict, what="/tools/find")]
    )
