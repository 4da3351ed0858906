"""From a PACS's rows to ``indexer.study``: what every adapter checks before it says ``Found``.

Invariants:

* identity text is exact or there is no answer: ``undecodable-identity`` (FF-10); in a comment U+FFFD may stand;
* each UID is a UID, each series has instances, no UID appears twice, all belong to the study asked for;
* counts a PACS states are never looked at: what counts is the list of instances (FF-14);
* a key-image note that could be told a moment later makes the answer ``Unknown``, so that a manifest never loses
  what it said before to a passing fault; a peer that does not tell it, or tells no note, leaves ``note`` None: the
  instance is listed all the same, and an exam does not wait for ever for a remark on its images.

Pure; each adapter owns its wire. ``Inconclusive`` never leaves the adapters: it becomes ``Unknown``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

from indexer.notes import KEY_OBJECT_SELECTION, NOTES_MAX, Item, note
from indexer.study import Instance, KeyNote, ListedStudy, PacsPatient, Series, Study, Unknown
from security.errors import BadInput
from security.identity import Uid

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")  # ASCII: int() reads every script's digits
_PASSING = re.compile(r"timeout|unreachable|http-(408|429|50[^1]|5[^0].)")  # reasons that a second try may not meet
_SIDES = frozenset({"L", "R", "B"})  # PS3.3 C.7.3.1.1.1 and C.10.4


class Inconclusive(Exception):
    """No conclusion about the study. ``reason``: stable code; ``detail``: one sentence without patient data."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def answer(self) -> Unknown:
        return Unknown(reason=self.reason, detail=self.detail)


def uid(value: str, *, keyword: str) -> Uid:
    """The UID in a peer's answer.

    Raises:
        Inconclusive: ``bad-answer`` empty or no UID.
    """
    try:
        return Uid(value)
    except BadInput:
        raise Inconclusive("bad-answer", f"the answer holds an empty or invalid {keyword}") from None


def same_study(answered: str, asked: Uid) -> None:
    """A row belongs to the study asked for; silence is allowed below the study level.

    Raises:
        Inconclusive: ``wrong-study`` the peer ignored the key (FF-12).
    """
    if answered and answered.strip("\0 ") != asked:
        raise Inconclusive("wrong-study", "the peer answered with a study that was not asked for")


def identity(value: str, *, exact: bool, keyword: str) -> str:
    """Text that decides who the patient is, unharmed.

    Raises:
        Inconclusive: ``undecodable-identity`` (FF-10).
    """
    if not exact or "\ufffd" in value or not value.isprintable():
        raise Inconclusive(
            "undecodable-identity",
            f"{keyword} does not fit its character set: correct (0008,0005) in the PACS, or default_charset here",
        )
    return value


def number(value: str) -> int | None:
    """An integer string (IS), None when empty or malformed: it orders and describes, it identifies nothing."""
    digits = value.strip("\0 ")
    return int(digits) if _INTEGER.fullmatch(digits) else None


def instance(
    *, sop_class: str, sop_instance: str, number_text: str, frames_text: str, told: KeyNote | None = None
) -> Instance:
    """One instance as the peer lists it. Raises ``Inconclusive`` (``bad-answer``)."""
    return Instance(
        sop_class=uid(sop_class, keyword="SOPClassUID"),
        sop_instance=uid(sop_instance, keyword="SOPInstanceUID"),
        number=number(number_text),
        frames=number(frames_text),
        note=told,
    )


def notes(sop_classes: Mapping[str, str], ask: Callable[[str], Item]) -> dict[str, KeyNote]:
    """What the key-image notes among these instances say, by their keys.

    ``sop_classes``: SOPClassUID of each instance, by the key the adapter asks it by; at most ``NOTES_MAX`` are asked.

    Raises:
        Inconclusive: a note is not told now and may be told later.
    """
    found = {}
    for key in sorted(key for key, sop_class in sop_classes.items() if sop_class == KEY_OBJECT_SELECTION)[:NOTES_MAX]:
        try:
            told = note(ask(key))
        except BadInput:
            continue
        except Inconclusive as silent:
            if _PASSING.fullmatch(silent.reason):
                raise
            continue
        if told is not None:
            found[key] = told
    return found


def series(
    *,
    series_uid: str,
    modality: str,
    number_text: str,
    description: str,
    body_part: str,
    instances: Iterable[Instance],
    date: str = "",
    time: str = "",
    laterality: str = "",
) -> Series:
    """One series with its instances in order. Raises ``Inconclusive`` (``bad-answer``)."""
    ordered = tuple(sorted(instances, key=lambda each: (_order(each.number), each.sop_instance)))
    if not ordered:
        raise Inconclusive("bad-answer", "the peer lists a series without instances")
    return Series(
        uid=uid(series_uid, keyword="SeriesInstanceUID"),
        modality=modality,
        number=number(number_text),
        description=description,
        body_part=body_part,
        date=date,
        time=time,
        laterality=laterality if laterality in _SIDES else "",
        instances=ordered,
    )


def study(
    *,
    study_uid: Uid,
    patient: PacsPatient,
    accession_number: str,
    date: str,
    time: str,
    description: str,
    study_id: str,
    referring_physician: str,
    series: Sequence[Series],
) -> Study:
    """The whole study, series in order. Raises ``Inconclusive`` (``bad-answer``)."""
    if not series:
        raise Inconclusive("bad-answer", "the peer lists a study without series")
    _once((each.uid for each in series), keyword="SeriesInstanceUID")
    _once((one.sop_instance for each in series for one in each.instances), keyword="SOPInstanceUID")
    return Study(
        uid=study_uid,
        patient=patient,
        accession_number=accession_number,
        date=date,
        time=time,
        description=description,
        study_id=study_id,
        referring_physician=referring_physician,
        series=tuple(sorted(series, key=lambda each: (_order(each.number), each.uid))),
    )


def listed(
    *, asked: date, study_uid: str, study_date: str, study_time: str, modalities: Iterable[str], accession_number: str
) -> ListedStudy:
    """One study of a day's list.

    Raises:
        Inconclusive: ``wrong-date`` the peer ignored the key, so its list is not that of the day; ``bad-answer``.
    """
    if study_date != f"{asked:%Y%m%d}":
        raise Inconclusive("wrong-date", "the peer listed a study of a day that was not asked for")
    return ListedStudy(
        uid=uid(study_uid, keyword="StudyInstanceUID"),
        time=study_time,
        modalities=tuple(sorted({each for each in modalities if each})),
        has_accession=bool(accession_number),
    )


def calendar(rows: Iterable[ListedStudy]) -> tuple[ListedStudy, ...]:
    """The day's list in order; a study under two patients stands once: ``find`` says what is wrong with it."""
    return tuple(sorted({each.uid: each for each in rows}.values(), key=lambda each: (each.time, each.uid)))


def _order(stated: int | None) -> float:
    return float("inf") if stated is None else stated


def _once(uids: Iterable[Uid], *, keyword: str) -> None:
    listed = list(uids)
    if len(set(listed)) != len(listed):
        raise Inconclusive("bad-answer", f"the peer lists one {keyword} twice")
