"""What an ADT of PAM-FR says: about the patient and the national index (segment ZFA, drim-m §2), and about who the
patient is: merge (A40), its undo (A37), correction (A08, A31; IHE ITI TF-2 3.30).

Invariants:

* an opposition that cannot be read refuses the message: silence would publish what somebody forbade. One that can is
  taken whatever is wrong with the patient's traits: its identifiers tell whose it is;
* a statement without a date of its own is as old as its message. One that forbids counts from the end of the day or
  hour it is dated to, one that permits from its start and never at a date that cannot be read;
* a merge or an undo names both patients by a local identifier with its issuer, or it is refused: whom it concerns
  must not be guessed. Whether a correction says for sure whom it corrects is asked where it is taken
  (``indexer.persons``): the tenant's profile decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import TypeVar

from gateway.hl7.reading import Reading
from indexer import consent
from indexer.consent import Consent, Opposition
from indexer.persons import Kind, Statement
from security.identity import LocalId, PatientIdentity, Traits
from security.parse.hl7 import Message, Segment

VERSIONS = frozenset({"2.5", "2.5.1", "2.6"})
EVENTS = frozenset({"A01", "A04", "A05", "A28", "A31"})
"""Events of PAM-FR that carry ZFA: admission, external patient, pre-admission, identity created and updated."""
CORRECTIONS = frozenset({"A08", "A31"})
MERGE, UNLINK = "A40", "A37"
IDENTITY_EVENTS = CORRECTIONS | {MERGE, UNLINK}
_TRAITS = frozenset({("PID", 5), ("PID", 7), ("PID", 8)})
_INSTANT = timedelta(milliseconds=1)
_SPANS = {  # by the digits of a time stamp: how long what it names lasts, less the instant in which the next begins
    4: timedelta(days=366) - _INSTANT,
    6: timedelta(days=31) - _INSTANT,
    8: timedelta(days=1) - _INSTANT,
    10: timedelta(hours=1) - _INSTANT,
    12: timedelta(minutes=1) - _INSTANT,
}
_SILENT = frozenset({"", "NA"})  # "not applicable" is seen where nobody asked the patient
_T = TypeVar("_T", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentMessage:
    """One ADT, read. ``statement``: whose consent and what it is, None when it says nothing about the index;
    ``identity``: what it says of who the patient is, None when it does not."""

    statement: tuple[PatientIdentity, Consent] | None
    identity: Statement | None = None


def read_consent_message(message: Message, *, timezone: tzinfo, received_at: datetime) -> ConsentMessage:
    """The consent that an ADT states. ``received_at`` stands for a time that the message does not state, or states in
    the future.

    Raises:
        MessageRefused: with every reason.
    """
    reading = _ConsentReading(message, timezone, received_at)
    said_at = min(reading.moment(message.header, 7) or received_at, received_at)
    event = message.header.text(9, 2)
    if event in {MERGE, UNLINK}:
        identity = reading.two_patients(event, said_at)
        return reading.whole(ConsentMessage(statement=None, identity=identity))
    segments = message.segments("ZFA")
    if len(segments) > 1:
        reading.add(segments[1], 0, "several-values", "Consent: expected one ZFA segment")
    stated = reading.consent(segments[0], said_at) if segments else None
    identity = reading.correction(said_at) if event in CORRECTIONS else None
    if stated is None:
        return reading.whole(ConsentMessage(statement=None, identity=identity))
    patient = reading.patient()
    if stated.opposition is Opposition.OPPOSED:
        reading.forgive_traits()
    pid = message.segment("PID")
    if pid is not None and patient.ins is None and not consent.with_issuer(patient.local_ids):
        reading.add(pid, 3, "unknown-patient", "Patient: expected an INS, or a local identifier with its issuer")
    return reading.whole(ConsentMessage(statement=(patient, stated), identity=identity))


class _ConsentReading(Reading):
    """An ADT under reading."""

    def __init__(self, message: Message, timezone: tzinfo, received_at: datetime) -> None:
        super().__init__(message, timezone, versions=VERSIONS)
        self.received_at = received_at

    def forgive_traits(self) -> None:
        """What is wrong with names, birth date and sex is no reason against the message."""
        self.problems = [one for one in self.problems if (one.segment, one.field) not in _TRAITS]

    def correction(self, said_at: datetime) -> Statement | None:
        """Whom PID describes now. None when PID has no local identifier of a named issuer, or cannot be read whole:
        what is not clear corrects nothing, and no ADT was ever refused for it."""
        before = len(self.problems)
        patient = self.patient() if self.message.segment("PID") is not None else None
        is_clear = len(self.problems) == before
        del self.problems[before:]
        if patient is None or not is_clear or not consent.with_issuer(patient.local_ids):
            return None
        return Statement(kind=Kind.CORRECTED, at=said_at, received_at=self.received_at, patient=patient)

    def two_patients(self, event: str, said_at: datetime) -> Statement | None:
        """PID and MRG of a merge; the two PID of an undo."""
        pids = self.message.segments("PID")
        second, field = ("MRG", 1) if event == MERGE else ("PID", 3)
        others = self.message.segments(second) if event == MERGE else pids[1:]
        if len(others) != 1 or (event == MERGE and len(pids) != 1):
            self.missing(second, "exactly two patients: one message for each merge or undo")
            return None
        prior = self._local_ids(others[0], field)
        patient = self.patient() if event == MERGE else self._bare(pids[0])
        for segment, number, found in ((pids[0], 3, patient.local_ids), (others[0], field, prior)):
            if not consent.with_issuer(found):
                self.add(segment, number, "unknown-patient", "Patient: expected a local identifier with its issuer")
        kind = Kind.MERGED if event == MERGE else Kind.UNLINKED
        return Statement(kind=kind, at=said_at, received_at=self.received_at, patient=patient, prior=prior)

    def _bare(self, pid: Segment) -> PatientIdentity:
        """An undo says nothing of names: it only takes identifiers apart."""
        return PatientIdentity(traits=Traits(birth_name="", first_given_name=""), local_ids=self._local_ids(pid, 3))

    @staticmethod
    def _local_ids(segment: Segment, field: int) -> tuple[LocalId, ...]:
        """Identifiers of type PI; MRG-1 may leave the type out."""
        return tuple(
            LocalId(value=cx.component(1), issuer=cx.component(4, 2))
            for cx in segment.field(field)
            if cx.component(1) and cx.component(5) in {"PI", ""}
        )

    def consent(self, zfa: Segment, said_at: datetime) -> Consent | None:
        """What ZFA states, None when all of it is silent."""
        opposition = self._stated(zfa, 9, "Opposition to feeding", {one.value: one for one in Opposition})
        reading = self._stated(zfa, 11, "Consent to reading", {one.value: one for one in consent.Reading})
        if opposition is None and reading is None and zfa.text(1) in _SILENT:
            return None
        if opposition is Opposition.NOT_OPPOSED and zfa.text(10) and self.moment(zfa, 10) is None:
            self.add(zfa, 10, "bad-value", "Date of the end of an opposition: expected YYYYMMDD[HHMM[SS]][±ZZZZ]")
        return Consent(
            record_status="" if zfa.text(1) in _SILENT else zfa.text(1),
            record_at=self._date(zfa, 2, said_at),
            opposition=opposition,
            opposition_at=self._date(zfa, 10, said_at, is_late=opposition is Opposition.OPPOSED),
            reading=reading,
            reading_at=self._date(zfa, 12, said_at, is_late=reading is consent.Reading.NOT_CONSENTED),
        )

    def _stated(self, zfa: Segment, field: int, what: str, values: Mapping[str, _T]) -> _T | None:
        text = zfa.text(field).strip().upper()
        if text in _SILENT:
            return None
        if text not in values:
            self.add(zfa, field, "unknown-value", f"{what}: expected {' or '.join(values)}")
        return values.get(text)

    def _date(self, zfa: Segment, field: int, said_at: datetime, *, is_late: bool = False) -> datetime:
        """When it was said; ``is_late``: the last moment that the date may mean, for one that tells no hour."""
        moment = min(self.moment(zfa, field) or said_at, said_at)
        digits = re.match(r"\d*", zfa.text(field), re.ASCII)
        if is_late and digits and moment < said_at:
            moment = min(moment + _SPANS.get(len(digits[0]), timedelta()), said_at)
        return moment
