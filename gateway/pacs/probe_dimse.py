"""What a DICOM node accepts and how it answers, observed without reading anything about a patient.

It asks for a study nobody has and, when one is configured, for the control study, whose values are looked at and
not kept. It stores, moves and changes nothing: C-GET and C-MOVE are proposed, never asked for. Associations are few,
each is released.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # the library makes these names at import
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from gateway.bridge import Call
from gateway.pacs.capability import PARALLEL_MAX, Capability, stated
from gateway.pacs.dimse import DimsePeer, associated
from gateway.pacs.door import Inconclusive
from security.errors import BadInput
from security.identity import Uid
from security.parse.dicom import charsets, text

_PROPOSED: Final = {
    StudyRootQueryRetrieveInformationModelFind: "Study Root FIND",
    Verification: "Verification",
    PatientRootQueryRetrieveInformationModelFind: "Patient Root FIND",
    StudyRootQueryRetrieveInformationModelGet: "Study Root GET",
    StudyRootQueryRetrieveInformationModelMove: "Study Root MOVE",
}
_SYNTAXES: Final = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_EXTENDED: Final = ("relational-queries", "date-time-matching", "fuzzy-matching")  # PS3.4 C.5.1.1.1, byte by byte
_STUDY_COUNTS: Final = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
_SERIES_COUNTS: Final = ("NumberOfSeriesRelatedInstances",)
_ROWS_MAX: Final = 20
_QUESTIONS: Final = 3


def observe(call: Call, peer: DimsePeer, nobody: Uid, parallel: bool, silence_s: float) -> Capability:  # noqa: FBT001
    """The record of one node. ``nobody``: a study that no PACS has. ``parallel``: also count associations at once;
    one is left without a question for ``silence_s`` seconds.

    Raises:
        Inconclusive: it takes no association, or breaks it off.
    """
    seen: dict[str, Any] = {"features": {}}
    with ExitStack() as held:
        first = held.enter_context(associated(peer, call, contexts=_contexts(), extended=_extended()))
        _note_negotiation(seen, first)
        question = _Probing(call=call, association=first)
        if question.note_empty(seen, nobody) and question.note_control(seen, peer):
            asked_at = time.monotonic()
            if parallel:
                seen["parallel"] = 1 + _opened(held, peer, call)
            _wait(call, silence_s - (time.monotonic() - asked_at))
            seen["silence"] = "kept" if first.is_established else "closed"
        else:
            first.abort()  # it still answers, or is gone: there is nothing to release
    return Capability(kind="dimse", **seen)


def _contexts() -> list[PresentationContext]:
    """One context per class and transfer syntax: of several in one context, the peer names one only."""
    return [build_context(each, syntax) for each in _PROPOSED for syntax in _SYNTAXES]


def _extended() -> SOPClassExtendedNegotiation:
    asked = SOPClassExtendedNegotiation()
    asked.sop_class_uid = StudyRootQueryRetrieveInformationModelFind
    asked.service_class_application_information = bytes([1] * len(_EXTENDED))
    return asked


def _note_negotiation(seen: dict[str, Any], association: Association) -> None:
    accepted = sorted(
        f"{_PROPOSED[UID(context.abstract_syntax or '')]}: {UID(context.transfer_syntax[0]).name}"
        for context in association.accepted_contexts
    )
    classes = {context.abstract_syntax for context in association.accepted_contexts}
    granted = association.acceptor.sop_class_extended.get(StudyRootQueryRetrieveInformationModelFind, b"")
    seen["contexts"] = tuple(accepted)
    seen["product"] = stated(str(association.acceptor.implementation_version_name or ""))
    seen["features"] = {
        "c-get": StudyRootQueryRetrieveInformationModelGet in classes,
        "c-move": StudyRootQueryRetrieveInformationModelMove in classes,
        "patient-root": PatientRootQueryRetrieveInformationModelFind in classes,
        **{name: granted[place : place + 1] == b"\x01" for place, name in enumerate(_EXTENDED)},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probing:
    """The questions of the first association."""

    call: Call
    association: Association

    def note_empty(self, seen: dict[str, Any], nobody: Uid) -> bool:
        """How a study nobody has is answered, and how fast; whether the association can be asked further."""
        times = []
        for _ in range(_QUESTIONS):
            asked_at = time.monotonic()
            outcome, _rows = self._find("STUDY", (), StudyInstanceUID=nobody)
            times.append(time.monotonic() - asked_at)
            seen["empty"] = "ignores-keys" if outcome == "rows" else outcome
            if outcome != "empty":
                return _is_over(outcome)
        seen["round_trip_ms"] = round(min(times) * 1000)
        return True

    def note_control(self, seen: dict[str, Any], peer: DimsePeer) -> bool:
        """What it says of the control study: counts, character set, no value; whether it can be asked further."""
        if peer.control is None:
            seen["control"] = "not-configured"
            return True
        keys = (*_STUDY_COUNTS, "PatientName", "StudyDescription")
        outcome, rows = self._find("STUDY", keys, StudyInstanceUID=peer.control)
        if outcome != "rows":
            seen["control"] = "missing" if outcome == "empty" else outcome
            return _is_over(outcome)
        row = rows[0]
        seen["control"] = "found" if str(row.get("StudyInstanceUID", "")).strip("\0 ") == peer.control else "missing"
        _note_charset(seen, row, default=peer.default_charset)
        outcome, series = self._find("SERIES", _SERIES_COUNTS, StudyInstanceUID=peer.control)
        seen["counts"] = (*_filled(row, _STUDY_COUNTS), *_filled(series[0] if series else Dataset(), _SERIES_COUNTS))
        return _is_over(outcome)

    def _find(self, level: str, keys: tuple[str, ...], **unique: str) -> tuple[str, list[Dataset]]:
        """``empty``, ``rows``, ``ignores-keys`` (it never ends: the association is of no more use), ``aborted`` or
        the status; and the rows, ``_ROWS_MAX`` at most."""
        identifier = Dataset()
        identifier.SpecificCharacterSet = ""
        identifier.QueryRetrieveLevel = level
        for key in keys:
            setattr(identifier, key, "")
        for key, value in unique.items():
            setattr(identifier, key, value)
        rows: list[Dataset] = []
        for status, answer in self.association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind):
            code = status.get("Status")
            if code == 0x0000:
                return ("rows" if rows else "empty"), rows
            if code not in (0xFF00, 0xFF01):
                return ("aborted" if code is None else f"status-0x{code:04X}"), rows
            if self.call.left_s == 0 or (level == "STUDY" and len(rows) == _ROWS_MAX):
                return "ignores-keys", rows
            if answer is not None and len(rows) < _ROWS_MAX:
                rows.append(answer)
        return "aborted", rows


def _is_over(outcome: str) -> bool:
    """Whether the peer said its last word on a question, so that the association can take another."""
    return outcome in {"empty", "rows"} or outcome.startswith("status-")


def _note_charset(seen: dict[str, Any], row: Dataset, *, default: str) -> None:
    named = row.get("SpecificCharacterSet") or "none"
    seen["charset"] = stated(named if isinstance(named, str) else "\\".join(named))
    try:
        charset = charsets(row, default=default)
        texts = [text(row, tag_for_keyword(key) or 0, charset=charset) for key in ("PatientName", "StudyDescription")]
    except BadInput:
        seen["charset_fits"] = False
        return
    seen["charset_fits"] = all(each.exact and "\ufffd" not in each.value for each in texts)


def _filled(row: Dataset, keywords: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(keyword for keyword in keywords if str(row.get(keyword) or "").strip())


def _opened(held: ExitStack, peer: DimsePeer, call: Call) -> int:
    """How many more associations it takes, up to ``PARALLEL_MAX`` with the first; they stay open in ``held``."""
    for opened in range(PARALLEL_MAX - 1):
        try:
            held.enter_context(associated(peer, call))
        except Inconclusive:
            return opened
    return PARALLEL_MAX - 1


def _wait(call: Call, seconds: float) -> None:
    """Let time pass, unless the call is given up."""
    cut = threading.Event()
    call.on_cut(cut.set)
    cut.wait(max(0.0, seconds))
