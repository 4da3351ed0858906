"""What an ADT of PAM-FR says about the patient and the national index: segment ZFA (drim-m §2).

Invariants:

* an opposition that cannot be read refuses the message: silence would publish what somebody forbade. One that can is
  taken whatever is wrong with the patient's traits: its identifiers tell whose it is;
* a statement without a date of its own is as old as its message. One that forbids counts from the end of the day or
  hour it is dated to, one that permits from its start and never at a date that cannot be read.
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
from security.identity import PatientIdentity
from security.parse.hl7 import Message, Segment

VERSIONS = frozenset({"2.5", "2.5.1", "2.6"})
EVENTS = frozenset({"A01", "A04", "A05", "A28", "A31"})
"""Events of PAM-FR that carry ZFA: admission, external patient, pre-admission, identity created and updated."""
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
    """One ADT, read: whose consent and what it is; None when it says nothing about the index."""

    statement: tuple[PatientIdentity, Consent] | None


def read_consent_message(message: Message, *, timezone: tzinfo, received_at: datetime) -> ConsentMessage:
    """The consent that an ADT states. ``received_at`` stands for a time that the message does not state, or states in
    the future.

    Raises:
        MessageRefused: with every reason.
    """
    reading = _ConsentReading(message, timezone, versions=VERSIONS)
    said_at = min(reading.moment(message.header, 7) or received_at, received_at)
    segments = message.segments("ZFA")
    if len(segments) > 1:
        reading.add(segments[1], 0, "several-values", "Consent: expected one ZFA segment")
    stated = reading.consent(segments[0], said_at) if segments else None
    if stated is None:
        return reading.whole(ConsentMessage(statement=None))
    patient = reading.patient()
    if stated.opposition is Opposition.OPPOSED:
        reading.forgive_traits()
    pid = message.segment("PID")
    if pid is not None and patient.ins is None and not consent.with_issuer(patient.local_ids):
        reading.add(pid, 3, "unknown-patient", "Patient: expected an INS, or a local identifier with its issuer")
    return reading.whole(ConsentMessage(statement=(patient, stated)))


class _ConsentReading(Reading):
    """An ADT under reading."""

    def forgive_traits(self) -> None:
        """What is wrong with names, birth date and sex is no reason against the message."""
        self.problems = [one for one in self.problems if (one.segment, one.field) not in _TRAITS]

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
