"""How indicators, coverage and non-conformities are counted and written."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sampler.figures import comparison, display, indicator, interval
from sampler.figures.blanking import TOTAL, Cell, blanked, derivable, with_sums
from security.errors import BadInput

# The published interim table of ten audits: non-conformities, coverage in percent, indicators in hundredths.
TEN = [
    (27, 83, 99, 98, 97),
    (39, 52, 86, 98, 100),
    (79, 77, 91, 96, 96),
    (18, 83, 95, 94, 88),
    (68, 79, 97, 97, 100),
    (9, 83, 92, 97, 91),
    (13, 72, 94, 88, 100),
    (4, 57, 84, 75, 88),
    (0, 41, 91, 93, 100),
    (74, 86, 89, 75, 100),
]


@pytest.mark.parametrize(
    ("value", "french"),
    [
        (Fraction(97, 100), "0,97/1"),
        (Fraction(1), "1"),
        (Fraction(0), "0/1"),
        (Fraction(1, 201), "0,00/1"),
        (Fraction(199, 200), "0,99/1"),
        (Fraction(9_999, 10_000), "0,99/1"),
        (Fraction(125, 1_000), "0,13/1"),
        (Fraction(1, 2), "0,50/1"),
        (Fraction(665, 1_000), "0,67/1"),
        (None, "non calculable"),
    ],
)
def test_an_indicator_is_written_with_two_decimals_half_up_and_never_as_a_false_one(value, french):
    assert display.ratio(value) == french


def test_english_has_a_point():
    assert display.ratio(Fraction(97, 100), lang="en") == "0.97/1"
    assert display.ratio(None, lang="en") == "not calculable"


@pytest.mark.parametrize(
    ("value", "written"), [(Fraction(79, 102), "77%"), (Fraction(399, 400), "99%"), (Fraction(1), "100%")]
)
def test_a_percentage_has_no_decimals_and_is_never_a_false_hundred(value, written):
    assert display.percent(value) == written


def test_a_written_interval_contains_the_computed_one():
    found = interval.Interval(low=0.8368, high=0.9593, method="wilson")
    assert display.span(found) == "0,83–0,96"
    assert display.span(interval.Interval(low=0.0, high=1.0, method="wilson"), lang="en") == "0–1"


def test_na_and_ne_are_in_neither_part_of_an_indicator():
    counts = indicator.count(["C"] * 9 + ["NC"] + ["NA"] * 5 + ["NE"] * 3)
    assert indicator.indicator(counts) == Fraction(9, 10)
    assert indicator.indicator(indicator.count(["NA", "NE"])) is None


def test_coverage_leaves_out_what_does_not_apply_unless_told_otherwise():
    counts = indicator.Counts(conform=60, nonconform=20, not_applicable=10, not_evaluated=10)
    assert indicator.coverage(counts) == Fraction(80, 90)
    assert indicator.coverage(counts, na_counts_as_evaluated=True) == Fraction(90, 100)
    assert indicator.coverage(indicator.Counts(not_applicable=3)) is None


def test_withdrawn_findings_do_not_count():
    assert indicator.nonconformities(["open", "maintained", "withdrawn", "requalified"]) == 3


def test_negative_counts_are_refused():
    with pytest.raises(BadInput) as refused:
        indicator.Counts(conform=-1)
    assert refused.value.code == "bad-counts"


def test_the_ten_published_audits_come_back_from_counts():
    written = []
    for found, covered, *hundredths in TEN:
        grid = indicator.Counts(conform=2 * covered - found, nonconform=found, not_evaluated=200 - 2 * covered)
        shares = [
            indicator.indicator(indicator.Counts(conform=h, nonconform=100 - h, not_applicable=7)) for h in hundredths
        ]
        written.append((found, display.percent(indicator.coverage(grid)), *map(display.ratio, shares)))
    assert written == [
        (27, "83%", "0,99/1", "0,98/1", "0,97/1"),
        (39, "52%", "0,86/1", "0,98/1", "1"),
        (79, "77%", "0,91/1", "0,96/1", "0,96/1"),
        (18, "83%", "0,95/1", "0,94/1", "0,88/1"),
        (68, "79%", "0,97/1", "0,97/1", "1"),
        (9, "83%", "0,92/1", "0,97/1", "0,91/1"),
        (13, "72%", "0,94/1", "0,88/1", "1"),
        (4, "57%", "0,84/1", "0,75/1", "0,88/1"),
        (0, "41%", "0,91/1", "0,93/1", "1"),
        (74, "86%", "0,89/1", "0,75/1", "1"),
    ]


def test_the_totals_of_the_ten_audits():
    found, covered, request, report, justified = ([Fraction(row[i]) for row in TEN] for i in range(5))
    assert sum(found) == 331
    assert (display.decimals(display.mean(found), 1), display.decimals(display.median(found), 1)) == ("33,1", "22,5")
    assert (display.decimals(display.mean(covered), 1), display.median(covered)) == ("71,3", 78)
    for shares, mean, median, low in (
        (request, "0,918", "0,915", 3),
        (report, "0,911", "0,950", 3),
        (justified, "0,960", "0,985", 2),
    ):
        assert display.decimals(display.mean(shares) / 100, 3) == mean
        assert display.decimals(display.median(shares) / 100, 3) == median
        assert sum(share < 90 for share in shares) == low
    assert sum(share == 100 for share in justified) == 5
    trend = comparison.spearman(found, covered)
    assert (round(trend.rho, 2), round(trend.p_value, 2), trend.n) == (0.42, 0.22, 10)


def cell(cases, *practitioners):
    return Cell(cases=cases, practitioners=frozenset(practitioners))


def test_a_small_cell_takes_a_second_one_of_its_row_and_column_with_it():
    table = with_sums(
        {
            ("CT", "north"): cell(12, *"abcd"),
            ("CT", "south"): cell(9, *"abc"),
            ("CT", "east"): cell(8, *"abc"),
            ("MR", "north"): cell(3, *"abc"),
            ("MR", "south"): cell(7, *"abc"),
            ("MR", "east"): cell(11, *"abc"),
        }
    )
    hidden = blanked(table)
    assert hidden == {("MR", "north"), ("MR", "south"), ("CT", "north"), ("CT", "south")}
    assert derivable(table, hidden) == set()


def test_a_cell_of_many_cases_and_two_practitioners_is_blanked():
    table = with_sums({("CT", str(i)): cell(20, "a", "b") if i == 0 else cell(20, *"abc") for i in range(4)})
    assert ("CT", "0") in blanked(table)


def test_sums_that_are_too_small_are_blanked_too():
    table = with_sums({("CT", "north"): cell(2, "a"), ("MR", "north"): cell(30, *"abc")})
    hidden = blanked(table)
    assert {("CT", "north"), ("CT", TOTAL), ("MR", "north"), ("MR", TOTAL)} <= hidden
    assert derivable(table, hidden) == set()


def test_a_table_that_is_large_everywhere_is_shown_whole():
    assert blanked(with_sums({(a, b): cell(5, *"abc") for a in "xy" for b in "uv"})) == frozenset()


def test_a_table_without_its_sums_is_refused():
    for wrong in (
        lambda: blanked({("a", "b"): cell(1, "a")}),
        lambda: with_sums({}),
        lambda: with_sums({("", "b"): cell(1)}),
    ):
        with pytest.raises(BadInput) as refused:
            wrong()
        assert refused.value.code == "bad-table"
