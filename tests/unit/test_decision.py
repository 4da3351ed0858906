"""The table that decides what is done about an exam: each row by an example, and the laws that hold for all facts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.decision import ABSENT_MAX, TABLE, Arrival, Do, Facts, Index, Pacs, decide

HOUR = timedelta(hours=1)
SHOWN = Facts(valid=1, may_be_shown=True)
NEW = Facts(valid=1)


def said(facts: Facts, arrived: Arrival = Arrival.LOOK) -> tuple[Do, str]:
    found = decide(facts, arrived)
    assert found.words
    return found.do, found.reason


@pytest.mark.parametrize(
    ("facts", "arrived", "expected"),
    [
        (Facts(valid=1, is_kept_out=True, may_be_shown=True), Arrival.LOOK, (Do.WITHDRAW, "kept-out")),
        (Facts(valid=1, is_kept_out=True), Arrival.IMAGES_ARRIVED, (Do.NOTHING, "kept-out")),
        (Facts(valid=1, is_kept_out=True), Arrival.REPORT, (Do.HOLD, "kept-out")),
        (Facts(held="patient-opposed", is_opposed=True, may_be_shown=True), Arrival.OPPOSITION,
         (Do.WITHDRAW, "patient-opposed")),
        (Facts(held="identity-ins", may_be_shown=True), Arrival.IDENTITY, (Do.WITHDRAW, "wrong-patient")),
        (Facts(held="identity-ins", may_be_shown=True), Arrival.REPORT, (Do.HOLD, "identity-ins")),
        (Facts(valid=1, is_misplaced=True, may_be_shown=True), Arrival.LOOK, (Do.WITHDRAW, "wrong-patient")),
        (Facts(valid=1, is_misplaced=True, is_opposed=True, may_be_shown=True), Arrival.IDENTITY,
         (Do.WITHDRAW, "patient-opposed")),
        (Facts(valid=1, may_be_shown=True, pacs=Pacs.FOUND, index=Index.ELSEWHERE), Arrival.LOOK,
         (Do.WITHDRAW, "patient-moved")),
        (Facts(valid=1, may_be_shown=True, pacs=Pacs.FOUND, index=Index.ELSEWHERE, contradiction="identity-name"),
         Arrival.LOOK, (Do.HOLD, "identity-name")),
        (Facts(may_be_shown=True), Arrival.REPORT_WITHDRAWN, (Do.WITHDRAW, "no-valid-report")),
        (Facts(held="identity-sex", may_be_shown=True), Arrival.REPORT_WITHDRAWN, (Do.WITHDRAW, "no-valid-report")),
        (Facts(), Arrival.REPORT_WITHDRAWN, (Do.NOTHING, "no-valid-report")),
        (Facts(valid=1, is_opposed=True), Arrival.LOOK, (Do.HOLD, "patient-opposed")),
        (Facts(valid=1, contested="identity-name"), Arrival.LOOK, (Do.HOLD, "identity-name")),
        (Facts(valid=1, is_for_index=False), Arrival.LOOK, (Do.HOLD, "not-for-index")),
        (Facts(valid=2, is_for_index=False, may_be_shown=True), Arrival.REPORT, (Do.WITHDRAW, "not-for-index")),
        (NEW, Arrival.REPORT, (Do.ASK, "pacs")),
        (Facts(valid=1, pacs=Pacs.UNKNOWN, pacs_reason="pacs-timeout", may_be_shown=True, is_announced=True,
               absent_for=9 * HOUR), Arrival.ORDER_CANCELLED, (Do.WAIT, "pacs-timeout")),
        (Facts(valid=1, pacs=Pacs.DISAGREE, may_be_shown=True), Arrival.LOOK, (Do.HOLD, "pacs-disagree")),
        (Facts(valid=1, pacs=Pacs.ABSENT), Arrival.LOOK, (Do.WAIT, "pacs-has-no-such-study")),
        (Facts(valid=1, pacs=Pacs.ABSENT, may_be_shown=True), Arrival.LOOK, (Do.WAIT, "pacs-absent-once")),
        (Facts(valid=1, pacs=Pacs.ABSENT, may_be_shown=True, absent_for=HOUR - timedelta(milliseconds=1)),
         Arrival.LOOK, (Do.WAIT, "pacs-absent-once")),
        (Facts(valid=1, pacs=Pacs.ABSENT, may_be_shown=True, absent_for=HOUR), Arrival.LOOK,
         (Do.WITHDRAW, "images-gone")),
        (Facts(valid=1, pacs=Pacs.ABSENT, may_be_shown=True, is_announced=True), Arrival.LOOK,
         (Do.WITHDRAW, "exam-ended")),
        (Facts(valid=1, pacs=Pacs.ABSENT, may_be_shown=True, absent_for=HOUR, absent=ABSENT_MAX + 1), Arrival.LOOK,
         (Do.HOLD, "pacs-absent-many")),
        (Facts(valid=1, pacs=Pacs.UNPROVEN, may_be_shown=True, absent_for=9 * HOUR), Arrival.LOOK,
         (Do.HOLD, "pacs-unproven")),
        (Facts(valid=1, pacs=Pacs.UNPROVEN, may_be_shown=True, is_announced=True), Arrival.LOOK,
         (Do.WAIT, "pacs-unproven")),
        (Facts(valid=1, pacs=Pacs.REJECTED, may_be_shown=True), Arrival.LOOK, (Do.WITHDRAW, "all-rejected")),
        (Facts(valid=1, pacs=Pacs.REJECTED), Arrival.LOOK, (Do.WAIT, "all-rejected")),
        (Facts(valid=1, pacs=Pacs.FOUND, contradiction="identity-sex"), Arrival.LOOK, (Do.HOLD, "identity-sex")),
        (Facts(valid=1, pacs=Pacs.FOUND), Arrival.LOOK, (Do.ASK, "index")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.NONE), Arrival.LOOK, (Do.PUBLISH, "")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.SAME), Arrival.LOOK, (Do.NOTHING, "already-indexed")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.OTHER), Arrival.LOOK, (Do.REPLACE, "")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.VISIBILITY), Arrival.LOOK, (Do.REPLACE, "")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.VISIBILITY, can_update=True), Arrival.LOOK, (Do.UPDATE, "")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.DEPRECATED), Arrival.LOOK,
         (Do.HOLD, "entry-deprecated-by-others")),
        (Facts(valid=1, pacs=Pacs.FOUND, index=Index.MISSING), Arrival.LOOK, (Do.HOLD, "entry-missing")),
    ],
)  # fmt: skip
def test_each_row_of_the_table(facts: Facts, arrived: Arrival, expected: tuple[Do, str]) -> None:
    assert said(facts, arrived) == expected


REASONS = st.sampled_from(["", "identity-ins", "identity-name"])
FACTS = st.builds(
    Facts,
    valid=st.integers(0, 2),
    held=REASONS,
    contested=REASONS,
    is_opposed=st.booleans(),
    is_for_index=st.booleans(),
    is_kept_out=st.booleans(),
    may_be_shown=st.booleans(),
    pacs=st.sampled_from(Pacs),
    pacs_reason=st.just("pacs-timeout"),
    is_announced=st.booleans(),
    absent_for=st.sampled_from([None, timedelta(), HOUR, 9 * HOUR, -HOUR]),
    absent=st.integers(0, 2 * ABSENT_MAX),
    contradiction=REASONS,
    index=st.sampled_from(Index),
    can_update=st.booleans(),
)
ARRIVALS = st.sampled_from(Arrival)


@given(FACTS, ARRIVALS)
def test_i10_nothing_goes_out_of_an_exam_that_must_not_be_seen(facts: Facts, arrived: Arrival) -> None:
    if facts.is_kept_out or facts.is_opposed or not facts.valid or not facts.is_for_index or facts.held:
        assert said(facts, arrived)[0] in {Do.WITHDRAW, Do.HOLD, Do.NOTHING}


@given(FACTS, ARRIVALS)
def test_i10_what_the_index_may_show_leaves_it_when_nobody_may_see_it(facts: Facts, arrived: Arrival) -> None:
    if facts.may_be_shown and (facts.is_kept_out or facts.is_opposed):
        assert said(facts, arrived)[0] is Do.WITHDRAW


@given(FACTS, ARRIVALS)
def test_ff54_the_pacs_withdraws_only_by_a_clean_absence_announced_or_lasting(facts: Facts, arrived: Arrival) -> None:
    do, reason = said(facts, arrived)
    if do is Do.WITHDRAW and reason in {"exam-ended", "images-gone"}:
        assert facts.pacs is Pacs.ABSENT
        assert facts.is_announced or (facts.absent_for or timedelta()) >= HOUR


@given(FACTS, ARRIVALS)
def test_what_the_index_cannot_show_is_never_withdrawn(facts: Facts, arrived: Arrival) -> None:
    assert facts.may_be_shown or said(facts, arrived)[0] is not Do.WITHDRAW


@given(FACTS, ARRIVALS)
def test_i06_a_version_is_made_only_of_found_images_beside_what_the_index_shows(
    facts: Facts, arrived: Arrival
) -> None:
    if said(facts, arrived)[0] in {Do.PUBLISH, Do.REPLACE, Do.UPDATE}:
        assert facts.pacs is Pacs.FOUND
        assert facts.index in {Index.NONE, Index.OTHER, Index.VISIBILITY}
        assert not facts.contradiction


def test_every_row_is_said_in_words() -> None:
    assert len({row.words for row in TABLE}) >= len(TABLE) - 4
