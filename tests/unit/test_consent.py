"""What counts of everything that a patient said about the index."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.lab.ris import LabPatient
from indexer.consent import Consent, Opposition, Reading, _current, _Statement
from security.identity import Ins, PatientIdentity, Traits

_START = datetime(2026, 1, 8, tzinfo=UTC)
_MATRICULE = LabPatient().matricule or ""
_ANOTHER = LabPatient(rank=43).matricule or ""


def _statement(
    hour: int, opposition: Opposition | None, matricule: str, status: str, reading: Reading | None
) -> _Statement:
    at = _START + timedelta(hours=hour)
    ins = Ins(matricule=matricule, oid="1.2.250.1.213.1.4.10", status=status) if matricule else None
    return _Statement(
        patient=PatientIdentity(traits=Traits(birth_name="FANTÔME", first_given_name="ODETTE"), ins=ins),
        consent=Consent(opposition=opposition, opposition_at=at, reading=reading, reading_at=at),
    )


_STATEMENTS = st.builds(
    _statement,
    st.integers(min_value=0, max_value=5),
    st.sampled_from([None, *Opposition]),
    st.sampled_from([_MATRICULE, _ANOTHER, ""]),
    st.sampled_from(["VALI", "PROV", ""]),
    st.sampled_from([None, *Reading]),
)


@given(said=st.lists(_STATEMENTS, max_size=6), order=st.randoms(use_true_random=False))
def test_what_counts_does_not_depend_on_the_order_of_arrival(said, order) -> None:
    shuffled = list(said)
    order.shuffle(shuffled)
    assert _current(said) == _current(shuffled)


@given(said=st.lists(_STATEMENTS, max_size=6), hour=st.integers(min_value=0, max_value=9))
def test_i10_another_opposition_always_opposes_unless_a_later_word_took_it_back(said, hour) -> None:
    opposition = _statement(hour, Opposition.OPPOSED, _MATRICULE, "VALI", None)
    ends = [
        one
        for one in said
        if one.consent.opposition is Opposition.NOT_OPPOSED
        and one.consent.opposition_at > opposition.consent.opposition_at
        and one.patient.ins is not None
        and (one.patient.ins.matricule, one.patient.ins.status) == (_MATRICULE, "VALI")
    ]
    assert _current([*said, opposition]).is_opposed or ends


@given(
    said=st.lists(
        _STATEMENTS.filter(lambda one: one.patient.ins and one.patient.ins.matricule == _MATRICULE), max_size=6
    ),
    hour=st.integers(min_value=0, max_value=9),
)
def test_ff19_a_word_under_an_unqualified_or_other_identity_never_ends_an_opposition(said, hour) -> None:
    opposition = _statement(3, Opposition.OPPOSED, _MATRICULE, "VALI", None)
    for matricule, status in ((_MATRICULE, "PROV"), (_MATRICULE, ""), (_ANOTHER, "VALI"), ("", "")):
        end = _statement(hour, Opposition.NOT_OPPOSED, matricule, status, None)
        assert _current([*said, opposition, end]).is_opposed == _current([*said, opposition]).is_opposed


def test_of_two_answers_of_one_moment_the_stricter_counts() -> None:
    now = _current(
        [
            _statement(1, Opposition.NOT_OPPOSED, _MATRICULE, "VALI", Reading.NOT_CONSENTED),
            _statement(1, Opposition.OPPOSED, _MATRICULE, "VALI", Reading.CONSENTED),
        ]
    )
    assert (now.opposition, now.reading) == (Opposition.OPPOSED, Reading.NOT_CONSENTED)


def test_the_newest_word_counts_for_each_question_by_itself() -> None:
    now = _current(
        [
            _statement(2, None, _MATRICULE, "VALI", Reading.CONSENTED),
            _statement(1, Opposition.NOT_OPPOSED, _MATRICULE, "VALI", Reading.NOT_CONSENTED),
        ]
    )
    assert (now.opposition, now.opposition_at) == (Opposition.NOT_OPPOSED, _START + timedelta(hours=1))
    assert (now.reading, now.reading_at) == (Reading.CONSENTED, _START + timedelta(hours=2))
