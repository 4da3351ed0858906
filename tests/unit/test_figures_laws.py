"""Laws that every figure of a peer audit keeps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sampler.figures import agreement, display, estimate, frames, inclusion, interval, planning, rate, strata
from sampler.figures.blanking import CASES_MIN, TOTAL, Cell, blanked, derivable, with_sums

FEW = settings(max_examples=60, deadline=None)
COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(n, 400)))
SIZES = st.lists(st.integers(1, 30), min_size=2, max_size=7)


def intervals(x: int, n: int, population: int) -> list[interval.Interval]:
    return [
        interval.wilson(x, n),
        interval.wilson(x, n, population=population),
        interval.clopper_pearson(x, n),
        interval.hypergeometric(x, n, population),
        interval.proportion(x, n, population=population),
    ]


@FEW
@given(COUNTS)
def test_every_interval_contains_what_was_seen_and_stays_in_the_unit(counts):
    x, n, population = counts
    for found in intervals(x, n, population):
        assert 0 <= found.low <= found.high <= 1
        assert found.low <= x / n <= found.high
        assert found.low == 0 if x == 0 else found.low > 0
        assert found.high == 1 if x == n else found.high < 1


@FEW
@given(COUNTS)
def test_the_interval_of_what_does_not_conform_mirrors_that_of_what_does(counts):
    x, n, population = counts
    for found, mirrored in zip(intervals(x, n, population), intervals(n - x, n, population), strict=True):
        assert found.low == pytest.approx(1 - mirrored.high, abs=1e-9)
        assert found.high == pytest.approx(1 - mirrored.low, abs=1e-9)


@FEW
@given(COUNTS)
def test_one_success_more_never_lowers_an_end(counts):
    x, n, population = counts
    assume(x < n)
    for less, more in zip(intervals(x, n, population), intervals(x + 1, n, population), strict=True):
        assert less.low <= more.low + 1e-12
        assert less.high <= more.high + 1e-12


@FEW
@given(COUNTS)
def test_clopper_pearson_is_never_the_shorter_one_to_the_exact_interval_of_a_frame(counts):
    x, n, population = counts
    wide, exact = interval.clopper_pearson(x, n), interval.hypergeometric(x, n, population)
    assert wide.low <= exact.low + 1 / population
    assert wide.high >= exact.high - 1 / population


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 24))), st.sampled_from([0.8, 0.95]))
def test_the_exact_interval_covers_every_truth_as_often_as_it_says(frame, confidence):
    from math import comb

    n, population = frame
    found = [interval.hypergeometric(x, n, population, confidence=confidence) for x in range(n + 1)]
    for truth in range(population + 1):
        chance = [
            Fraction(comb(truth, x) * comb(population - truth, n - x), comb(population, n)) for x in range(n + 1)
        ]
        covered = sum(c for c, one in zip(chance, found, strict=True) if one.low <= truth / population <= one.high)
        assert covered >= Fraction(str(confidence))


@FEW
@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 500), min_size=1, max_size=6), st.data()
)
def test_an_allocation_adds_up_and_asks_for_no_more_than_there_is(sizes, data):
    n = data.draw(st.integers(1, sum(sizes.values())))
    given_ = strata.allocate(sizes, n)
    assert sum(given_.values()) == n
    assert all(0 <= given_[one] <= sizes[one] for one in sizes)
    if n >= len(sizes):
        assert min(given_.values()) >= 1
    assert given_ == strata.allocate(dict(reversed(sizes.items())), n)


@FEW
@given(COUNTS)
def test_one_stratum_is_a_plain_draw(counts):
    x, n, population = counts
    assume(n > 1)
    base = rate.Basis(frame="f", population=population, objective="estimate")
    found = strata.stratified([strata.Stratum(id="s", size=population, drawn=n, conform=x)], base)
    assert found.estimate == Fraction(x, n)
    assert found.interval == interval.proportion(x, n, population=population)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.data())
def test_the_chances_of_a_stratum_add_up_to_its_cases(sizes, data):
    n = data.draw(st.integers(1, len(sizes)))
    for chances in (inclusion.cap, inclusion.two_stage):
        found = chances(sizes, n).case
        assert sum(c * size for c, size in zip(found, sizes, strict=True)) == pytest.approx(n, abs=1e-10)
        assert all(0 < c <= 1 for c in found)
    capped = inclusion.cap(sizes, n).case
    for (big, c), (small, d) in (
        (a, b) for a in zip(sizes, capped, strict=True) for b in zip(sizes, capped, strict=True)
    ):
        if big >= small:  # a case of a busier practitioner is never likelier, the practitioner never less likely
            assert c <= d + 1e-12
            assert c * big >= d * small - 1e-12


def _exact_cap(sizes: list[int], n: int) -> list[Fraction]:
    """∫₀¹ N v^(N−1) P(at most n−1 others) dv, a polynomial in v: integrated exactly."""

    def times(a, b):
        out = [Fraction(0)] * (len(a) + len(b) - 1)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                out[i + j] += x * y
        return out

    found = []
    for own, size in enumerate(sizes):
        states = [[Fraction(1)]] + [[Fraction(0)]] * (n - 1)
        for other, many in enumerate(sizes):
            if other == own:
                continue
            stay, come = (
                [Fraction(0)] * many + [Fraction(1)],
                [Fraction(1)] + [Fraction(0)] * (many - 1) + [Fraction(-1)],
            )
            moved = [times(state, stay) for state in states]
            for k in range(1, n):
                one, two = moved[k], times(states[k - 1], come)
                width = max(len(one), len(two))
                moved[k] = [(one[i] if i < len(one) else 0) + (two[i] if i < len(two) else 0) for i in range(width)]
            states = moved
        total = Fraction(0)
        for state in states:
            total += sum((c * size / (size + i) for i, c in enumerate(state)), Fraction(0))
        found.append(total / size)
    return found


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.data())
def test_the_integral_of_the_cap_is_that_of_the_polynomial(sizes, data):
    n = data.draw(st.integers(1, len(sizes)))
    exact = _exact_cap(sizes, n)
    for found, wanted in zip(inclusion.cap(sizes, n).case, exact, strict=True):
        assert found == pytest.approx(float(wanted), abs=1e-10)


def test_replays_agree_with_the_formula_within_their_own_error():
    sizes = [24, 14, 10, 6, 4, 2]
    for chances, is_two_stage in ((inclusion.cap, False), (inclusion.two_stage, True)):
        seen = inclusion.replayed(sizes, 4, limit=1, is_two_stage=is_two_stage, replays=20_000)
        for found, error, wanted in zip(seen.case, seen.simulation_error, chances(sizes, 4).case, strict=True):
            assert 0 < error < 0.004
            assert abs(found - wanted) < 4.5 * error


@settings(max_examples=15, deadline=None)
@given(SIZES, st.integers(1, 4), st.data())
def test_replays_of_any_cap_draw_n_cases_each_time(sizes, limit, data):
    n = data.draw(st.integers(1, sum(sizes)))
    seen = inclusion.replayed(sizes, n, limit=limit, replays=50)
    assert sum(c * size for c, size in zip(seen.case, sizes, strict=True)) == pytest.approx(n)
    if n == sum(sizes):
        assert seen.case == (1.0,) * len(sizes)
        assert seen.simulation_error == (0.0,) * len(sizes)


CASE = st.integers(0, 10).flatmap(lambda e: st.tuples(st.integers(0, e), st.just(e)))


@FEW
@given(st.lists(st.tuples(CASE, st.fractions(Fraction(1, 50), 1)), min_size=1, max_size=12), st.integers(0, 40))
def test_a_rate_contains_its_estimate_and_stays_in_the_unit(cases, more):
    population = len(cases) + more
    found = estimate.rate(
        [
            estimate.DrawnCase(id=str(i), stratum="s", probability=chance, conform=c, evaluated=e)
            for i, ((c, e), chance) in enumerate(cases)
        ],
        {"s": population},
        rate.Basis(frame="f", population=population, objective="estimate"),
    )
    if not sum(e for (_, e), _ in cases):
        assert found is None
        return
    assert 0 <= found.interval.low <= found.estimate + Fraction(1, 10**12)
    assert found.estimate - Fraction(1, 10**12) <= found.interval.high <= 1
    assert (found.estimate == 1) == (found.conform == found.evaluated)
    assert (found.estimate == 0) == (found.conform == 0)


@FEW
@given(st.lists(CASE, min_size=2, max_size=12), st.integers(0, 400))
def test_equal_chances_give_the_ratio_of_the_totals_and_its_textbook_variance(cases, more):
    population, n = len(cases) + more, len(cases)
    conform, evaluated = sum(c for c, _ in cases), sum(e for _, e in cases)
    assume(evaluated and more)
    found = estimate.rate(
        [
            estimate.DrawnCase(id=str(i), stratum="s", probability=Fraction(n, population), conform=c, evaluated=e)
            for i, (c, e) in enumerate(cases)
        ],
        {"s": population},
        rate.Basis(frame="f", population=population, objective="estimate"),
    )
    assert found.estimate == Fraction(conform, evaluated)
    residues = sum((c - found.estimate * e) ** 2 for c, e in cases) / (n - 1)
    variance = (1 - Fraction(n, population)) / n / Fraction(evaluated, n) ** 2 * residues
    assert found.standard_error**2 == pytest.approx(float(variance), abs=1e-12)


@FEW
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_a_discovery_is_the_fewest_that_suffice(frame):
    from math import comb

    population, defects = frame
    n = planning.discovery(population, defects)
    assert Fraction(comb(population - defects, n), comb(population, n)) <= Fraction(1, 20)
    assert n == 1 or Fraction(comb(population - defects, n - 1), comb(population, n - 1)) > Fraction(1, 20)


@FEW
@given(st.fractions(0, 1))
def test_nothing_below_one_is_written_as_one_and_nothing_above_as_less(value):
    written = display.ratio(value)
    assert (written == "1") == (value == 1)
    assert (written == "0/1") == (value == 0)
    shown = Fraction(written.removesuffix("/1").replace(",", "."))
    assert abs(shown - value) <= Fraction(1, 100)
    assert (display.percent(value) == "100%") == (value == 1)


@FEW
@given(st.integers(0, 500), st.integers(0, 500), st.fractions(0, 1), st.fractions(0, 1))
def test_the_bounds_of_an_undrawn_frame_hold_whatever_is_in_it(seen, unseen, share, truth):
    assume(seen + unseen)
    part = frames.Part(size=seen, share=share)
    low, high = frames.bounds(part, unseen)
    assert low <= frames.combined([part, frames.Part(size=unseen, share=truth)]) <= high


@FEW
@given(st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3))
def test_agreement_does_not_depend_on_who_reads_first(table):
    assume(sum(map(sum, table)))
    turned = [list(column) for column in zip(*table, strict=True)]
    found = agreement.agreement(table)
    assert agreement.agreement(turned) == found
    assert found.agreement <= 1
    assert found.ac1 <= 1


SMALL = st.builds(
    lambda n, who: Cell(cases=n, practitioners=frozenset(who if n else "")),
    st.one_of(st.integers(0, 8), st.integers(5, 40)),
    st.sets(st.sampled_from("abcdef"), min_size=1),
)


def _follows_from_what_is_shown(table, hidden, key) -> bool:
    """Whether no other table of rationals shows the same cells with another value at ``key`` (numpy's ranks)."""
    order = sorted(hidden)
    lines = []
    for axis in (0, 1):
        for name in sorted({cell[axis] for cell in table}):
            ending = (name, TOTAL) if axis == 0 else (TOTAL, name)
            lines.append([(cell[axis] == name) * (-1 if cell == ending else 1) for cell in order])
    unit = [[int(cell == key) for cell in order]]
    return np.linalg.matrix_rank(np.array(lines)) == np.linalg.matrix_rank(np.array(lines + unit))


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from("xyz"), st.sampled_from("tuvw")), SMALL, min_size=1))
def test_no_small_cell_follows_from_what_is_shown(cells):
    table = with_sums(cells)
    hidden = blanked(table)
    small = {key for key, one in table.items() if not one.is_enough}
    assert small <= hidden
    assert derivable(table, hidden).isdisjoint(small)
    assert not any(_follows_from_what_is_shown(table, hidden, key) for key in small)
    for axis in (0, 1):
        for name in {key[axis] for key in table}:
            line = [key for key in table if key[axis] == name]
            ending = (name, TOTAL) if axis == 0 else (TOTAL, name)
            parts = [key for key in line if key in hidden]
            if parts and ending not in hidden:
                assert sum(table[key].cases for key in parts) >= CASES_MIN


def test_what_follows_is_found_by_elimination_and_by_ranks_alike():
    table = with_sums({(a, b): Cell(cases=9, practitioners=frozenset("abc")) for a in "xyz" for b in "tuvw"})
    square = {(a, b) for a in "xy" for b in "tu"}
    for hidden in (square, square | {("z", "t")}, square - {("x", "t")}, {("x", "t"), ("y", "u")}):
        assert derivable(table, hidden) == {key for key in hidden if _follows_from_what_is_shown(table, hidden, key)}
    assert derivable(table, square) == set()
    assert derivable(table, square | {("z", "t")}) == {("z", "t")}
