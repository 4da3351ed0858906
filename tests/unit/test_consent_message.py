"""What an ADT of PAM-FR says about the patient and the index, and every reason when it cannot be used."""

from __future__ import annotations

from datetime import datetime

import pytest

from gateway.hl7.consent_message import EVENTS, ConsentMessage
from gateway.hl7.messages import read_message
from gateway.hl7.reading import MessageRefused
from gateway.lab.ris import LabPatient, build_adt_consent
from indexer.consent import Opposition, Reading
from security.parse.hl7 import parse_message
from tests.fixtures.reports import PARIS, RECEIVED, changed

SAID = datetime(2026, 1, 8, 8, 0, tzinfo=PARIS)


def _read(raw: bytes) -> ConsentMessage:
    stated = read_message(parse_message(raw), timezone=PARIS, received_at=RECEIVED)
    assert isinstance(stated, ConsentMessage)
    return stated


def _reasons(raw: bytes) -> list[tuple[str, str, int, int]]:
    with pytest.raises(MessageRefused) as caught:
        _read(raw)
    return [(p.code, p.segment, p.sequence, p.field) for p in caught.value.problems]


@pytest.mark.parametrize("opposition", ["IO", "INO"])
@pytest.mark.parametrize("reading", ["IC", "INC"])
@pytest.mark.parametrize("event", sorted(EVENTS))
def test_the_four_kinds_of_consent_are_read_from_every_event_that_carries_them(
    opposition: str, reading: str, event: str
) -> None:
    statement = _read(build_adt_consent(opposition=opposition, reading=reading, event=event)).statement
    assert statement is not None
    patient, consent = statement
    assert patient.ins is not None
    assert (consent.opposition, consent.reading) == (Opposition(opposition), Reading(reading))
    assert (consent.record_status, consent.record_at) == ("ACTIF", SAID)
    assert (consent.opposition_at, consent.reading_at) == (SAID, SAID)


def test_a_statement_without_a_date_or_of_the_future_is_as_old_as_its_message() -> None:
    for opposition, at in (("INO", ""), ("INO", "20270101"), ("IO", ""), ("IO", "2026013x")):
        statement = _read(build_adt_consent(opposition=opposition, at=at, sent_at="20260108073000+0100")).statement
        assert statement is not None
        assert statement[1].opposition_at == datetime(2026, 1, 8, 7, 30, tzinfo=PARIS)


@pytest.mark.parametrize("silent", ["", "NA"])
def test_an_admission_that_says_nothing_of_the_index_states_nothing(silent: str) -> None:
    assert _read(build_adt_consent(opposition=silent, reading=silent, record_status="")).statement is None
    assert _read(build_adt_consent(with_zfa=False)).statement is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (build_adt_consent(opposition="OUI"), ("unknown-value", "ZFA", 1, 9)),
        (build_adt_consent(reading="OUI"), ("unknown-value", "ZFA", 1, 11)),
        (build_adt_consent() + b"ZFA|ACTIF\r", ("several-values", "ZFA", 2, 0)),
        (build_adt_consent(LabPatient(ins=None, ipp_issuer="")), ("unknown-patient", "PID", 1, 3)),
        (build_adt_consent(processing="D"), ("unsupported-processing", "MSH", 1, 11)),
        (build_adt_consent(event="A03"), ("unsupported-event", "MSH", 1, 9)),
        (changed(build_adt_consent(), "|2.5^FRA^2.11|", "|2.2|"), ("unsupported-version", "MSH", 1, 12)),
    ],
)
def test_each_fault_of_a_consent_is_named_with_its_place(raw: bytes, reason: tuple[str, str, int, int]) -> None:
    assert _reasons(raw) == [reason]
