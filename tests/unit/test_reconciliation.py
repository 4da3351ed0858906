"""The table of reconciliation, over every combination of facts; when a night is due; what a run tells."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from gateway import drift
from gateway.i18n import words
from gateway.nightly import is_due
from indexer.reconciliation.decision import CASES, Action, Facts, Pacs, Reports, Shown, is_mass, judge

NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)
SINCE = (None, NOW - timedelta(minutes=59), NOW - timedelta(minutes=60))


def every() -> Iterator[Facts]:
    flags = (False, True)
    for busy, stopped, adopt, withdrawn, kept_out, otherwise, reports, pacs, shown, since in product(
        flags, flags, flags, flags, flags, flags, Reports, Pacs, Shown, SINCE
    ):
        yield Facts(
            is_busy=busy,
            is_stopped=stopped,
            can_adopt=adopt,
            is_withdrawn=withdrawn,
            reports=reports,
            pacs=pacs,
            shown=shown,
            absent_since=since,
            now=NOW,
            is_kept_out=kept_out,
            is_shown_otherwise=otherwise,
        )


def test_i10_what_a_person_took_out_is_published_by_no_night_and_taken_out_where_it_shows() -> None:
    for facts in every():
        if facts.is_kept_out:
            said = judge(facts)
            assert said.action is not Action.PUBLISH
            if facts.shown is Shown.APPROVED and not facts.is_busy:
                assert said.action is Action.WITHDRAW


def test_a_lane_at_work_and_a_silent_index_change_nothing() -> None:
    for facts in every():
        if facts.is_busy or facts.shown is Shown.UNKNOWN:
            assert judge(facts).action is Action.LEAVE


def test_ff54_only_two_proven_absences_an_hour_apart_withdraw_what_is_reported() -> None:
    for facts in every():
        is_otherwise_out = facts.is_withdrawn or facts.is_kept_out
        if judge(facts).action is Action.WITHDRAW and facts.reports is Reports.VALID and not is_otherwise_out:
            assert facts.pacs is Pacs.ABSENT
            assert facts.absent_since == NOW - timedelta(minutes=60)


def test_only_what_the_index_shows_approved_is_withdrawn() -> None:
    assert {f.shown for f in every() if judge(f).action is Action.WITHDRAW} == {Shown.APPROVED}


def test_i10_what_was_withdrawn_or_must_not_be_seen_is_never_published() -> None:
    for facts in every():
        if judge(facts).action is Action.PUBLISH:
            assert not facts.is_withdrawn
            assert facts.reports is Reports.VALID
            assert facts.pacs in {Pacs.SAME, Pacs.OTHER, Pacs.CONTRADICTED}
            assert facts.shown in {Shown.NOTHING, Shown.APPROVED}


def test_an_entry_that_was_forgotten_is_adopted_before_anything_else_is_done() -> None:
    for facts in every():
        if facts.shown is Shown.AHEAD and not facts.is_busy:
            assert judge(facts).action is (Action.ADOPT if facts.can_adopt else Action.LEAVE)


def test_every_case_of_the_table_can_happen_and_is_told_in_both_languages() -> None:
    assert {judge(facts).case for facts in every()} == set(CASES)
    assert set(drift.SAID) == set(CASES) | {"without-report", "day-unknown"}


@pytest.mark.parametrize(
    ("withdrawals", "looked_at", "expected"),
    [(0, 0, False), (2, 2, False), (3, 300, False), (3, 299, True), (20, 10_000, False), (21, 10_000, True)],
)
def test_a_mass_withdrawal_is_a_number_or_a_share_from_three_on(
    withdrawals: int, looked_at: int, *, expected: bool
) -> None:
    assert is_mass(withdrawals, looked_at, number_max=20, share_max=0.01) is expected


PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [
        ("2026-01-08T02:30+01:00", "2026-01-07T03:20+01:00", False),
        ("2026-01-08T03:00+01:00", "2026-01-07T03:20+01:00", True),
        ("2026-01-08T03:30+01:00", "2026-01-08T03:20+01:00", False),
        ("2026-01-08T15:00+01:00", "2026-01-07T03:20+01:00", True),  # it was down by night
    ],
)
def test_a_night_is_due_once_from_its_hour_on(now: str, last: str, *, expected: bool) -> None:
    ended = datetime.fromisoformat(last)
    assert is_due(datetime.fromisoformat(now), ended, hour=3, zone=PARIS) is expected
    assert not is_due(datetime.fromisoformat(now), ended, hour=-1, zone=PARIS)


def found(state: str, counts: dict[str, int]) -> dict[str, object]:
    studies = [{"study": f"2.25.{n}", "case": case} for case, number in counts.items() for n in range(number)]
    return {
        "tenant": "site",
        "state": state,
        "looked_at": 9,
        "counts": counts,
        "drift": studies,
        "asked": {"pacs": 9, "index": 9},
        "seconds": 2.0,
    }


def test_a_report_counts_each_case_and_names_its_studies() -> None:
    lines = list(drift.text(found("done", {"in-step": 8, "content-differs": 1}), words("en")))
    assert lines[1].split() == ["8", "PACS,", "database", "and", "index", "agree", "[in-step]"]
    assert lines[2].endswith("[content-differs]")
    assert lines[3].strip() == "2.25.0"
    assert len(lines) == 4


@pytest.mark.parametrize("lang", ["fr", "en"])
def test_a_stopped_run_says_what_to_do(lang: str) -> None:
    stopped = found("stopped", {"absent-twice": 30})
    assert "--withdraw-up-to" in list(drift.text(stopped, words(lang)))[-1]
    assert drift.needs_a_person(stopped)
    assert not drift.needs_a_person(found("done", {"in-step": 9}))
    assert drift.needs_a_person(found("done", {"pacs-unknown": 1}))
