"""Every worked number of the statistics of a peer audit, against its literal."""

from __future__ import annotations

from fractions import Fraction
from typing import get_type_hints

import pytest

from sampler.figures import agreement, comparison, estimate, frames, inclusion, interval, planning, rate, strata
from security.errors import BadInput, Refused

SIZES = [24, 14, 10, 6, 4, 2]


def ends(found: interval.Interval) -> tuple[float, float]:
    return round(found.low, 4), round(found.high, 4)


def basis(population: int) -> rate.Basis:
    return rate.Basis(frame="performed exams", population=population, objective="estimate")


@pytest.mark.parametrize(
    ("p", "d", "population", "endless", "n"),
    [
        (0.90, 0.05, 800, 138.29, 119),
        (0.90, 0.05, 20_000, 138.29, 138),
        (0.95, 0.03, 3_000, 202.74, 190),
        (0.50, 0.10, 120, 96.04, 54),
        (0.90, 0.10, None, 34.57, 35),
    ],
)
def test_the_size_for_a_precision(p, d, population, endless, n):
    assert round(planning.endless_precision(p, d), 2) == endless
    assert planning.precision(p, d, population=population) == n


def test_a_size_is_never_above_the_frame():
    assert planning.precision(0.5, 0.001, population=7) == 7
    assert planning.precision(0.5, 0.9, population=1) == 1


@pytest.mark.parametrize(
    ("population", "defects", "exact", "binomial"),
    [(500, 10, 129, 149), (500, 25, 56, 59), (120, 6, 47, 59), (3_000, 30, 284, 299), (3_000, 150, 58, 59)],
)
def test_the_size_for_a_discovery(population, defects, exact, binomial):
    assert planning.discovery(population, defects) == exact
    assert planning.discovery_endless(Fraction(defects, population)) == binomial


def test_one_defect_in_a_million_is_found_by_ninety_five_hundredths_of_them():
    assert planning.discovery(1_000_000, 1) == 950_000
    assert planning.discovery(10, 10) == 1


@pytest.mark.parametrize(("n", "bound"), [(4, 0.527), (10, 0.259), (30, 0.095), (60, 0.049), (100, 0.030)])
def test_the_bound_that_cases_without_a_finding_leave(n, bound):
    assert planning.nothing_found(n) == pytest.approx(bound, abs=5e-4)


@pytest.mark.parametrize(("share", "accepted"), [(0.025, 0.985), (0.05, 0.789), (0.10, 0.177)])
def test_a_check_of_eighty_that_accepts_five(share, accepted):
    assert round(planning.acceptance(80, 5, share), 3) == accepted


@pytest.mark.parametrize(
    ("x", "n", "wilson", "clopper_pearson"),
    [
        (28, 30, (0.7868, 0.9815), (0.7793, 0.9918)),
        (30, 30, (0.8865, 1), (0.8843, 1)),
        (95, 100, (0.8882, 0.9785), (0.8872, 0.9836)),
        (3, 4, (0.3006, 0.9544), (0.1941, 0.9937)),
        (4, 4, (0.5101, 1), (0.3976, 1)),
    ],
)
def test_intervals_of_one_proportion(x, n, wilson, clopper_pearson):
    assert ends(interval.wilson(x, n)) == wilson
    assert ends(interval.clopper_pearson(x, n)) == clopper_pearson


def test_four_of_four_estimate_nothing():
    assert round(interval.wilson(4, 4).low, 2) == 0.51
    assert round(interval.clopper_pearson(4, 4).low, 2) == 0.40


def test_intervals_in_a_frame_of_120():
    assert ends(interval.wilson(28, 30, population=120)) == (0.8117, 0.9785)
    exact = interval.hypergeometric(28, 30, 120)
    assert (exact.low, exact.high) == (96 / 120, 118 / 120)
    exact = interval.hypergeometric(30, 30, 120)
    assert (exact.low, exact.high) == (108 / 120, 1)
    exact = interval.hypergeometric(4, 4, 60)
    assert (exact.low, exact.high) == (25 / 60, 1)


def test_z_is_that_of_two_sides():
    assert round(interval.normal_quantile(0.95), 6) == 1.959964
    with pytest.raises(BadInput) as refused:
        interval.normal_quantile(1.0)
    assert refused.value.code == "bad-confidence"


def test_agresti_coull_asks_for_forty_cases_and_may_leave_the_unit():
    with pytest.raises(BadInput) as refused:
        interval.agresti_coull(28, 30)
    assert refused.value.code == "too-few-cases"
    assert interval.agresti_coull(50, 50).high > 1


@pytest.mark.parametrize(
    ("n", "population", "method"),
    [
        (30, None, "wilson"),
        (30, 300, "wilson"),
        (31, 300, "hypergeometric"),
        (2_001, 20_000, "hypergeometric"),
        (2_101, 20_001, "wilson-finite"),
    ],
)
def test_the_default_interval_is_exact_above_a_tenth_of_a_frame_up_to_twenty_thousand(n, population, method):
    assert interval.proportion(n - 1, n, population=population).method == method


def test_a_whole_frame_leaves_no_doubt():
    assert ends(interval.hypergeometric(7, 9, 9)) == (round(7 / 9, 4), round(7 / 9, 4))
    assert interval.wilson(7, 9, population=9).method == "census"


EXAMPLE = (
    strata.Stratum(id="CT", size=900, drawn=30, conform=28),
    strata.Stratum(id="MG", size=300, drawn=20, conform=20),
    strata.Stratum(id="RX", size=2_400, drawn=50, conform=45),
)


def test_three_strata():
    found = strata.stratified(EXAMPLE, basis(3_600), half_rule=False)
    assert round(float(found.estimate), 4) == 0.9167
    assert Fraction(found.conform, found.evaluated) == Fraction(93, 100)
    assert round(found.standard_error, 4) == 0.0305
    assert round(strata.effective_size(found), 1) == 82.2
    assert ends(found.interval) == (0.8368, 0.9593)
    assert found.notes == ()


def test_a_stratum_without_variance_widens_the_interval_and_says_so():
    plain, leant = (strata.stratified(EXAMPLE, basis(3_600), half_rule=rule) for rule in (False, True))
    assert leant.estimate == plain.estimate
    assert leant.interval.low < plain.interval.low < plain.interval.high < leant.interval.high
    assert leant.notes == ("half-rule",)
    # by hand: W² (1−f) p(1−p)/n with p = 20.5/21, n = 20 is what MG adds
    added = (300 / 3_600) ** 2 * (1 - 20 / 300) * (20.5 / 21) * (0.5 / 21) / 20
    assert leant.standard_error**2 - plain.standard_error**2 == pytest.approx(added)


def test_strata_that_all_conform_still_leave_doubt():
    full = [strata.Stratum(id=name, size=500, drawn=20, conform=20) for name in "ab"]
    found = strata.stratified(full, basis(1_000))
    assert found.estimate == found.interval.high == 1
    assert 0.85 < found.interval.low < 0.95


def test_strata_must_make_up_the_frame():
    with pytest.raises(BadInput) as refused:
        strata.stratified(EXAMPLE, basis(3_601))
    assert refused.value.code == "bad-strata"


@pytest.mark.parametrize(("n", "given"), [(40, (10, 3, 26, 1)), (6, (1, 1, 3, 1))])
def test_a_proportional_allocation(n, given):
    sizes = {"CT": 900, "MG": 300, "RX": 2_400, "RI": 12}
    assert tuple(strata.allocate(sizes, n).values()) == given


def test_a_small_stratum_keeps_its_case_while_there_are_as_many_cases_as_strata():
    assert strata.allocate({"a": 300, "aa": 1, "b": 1}, 3) == {"a": 1, "aa": 1, "b": 1}
    assert strata.allocate({"a": 300, "aa": 1, "b": 1}, 2) == {"a": 1, "aa": 0, "b": 1}


def test_neyman_follows_size_times_deviation():
    deviations = {"CT": Fraction(1, 10), "RX": Fraction(3, 10)}
    assert strata.neyman({"CT": 900, "RX": 300}, deviations, 40) == {"CT": 20, "RX": 20}


def test_the_chances_of_one_case_a_practitioner():
    found = inclusion.cap(SIZES, 4).case
    assert [round(one * size, 4) for one, size in zip(found, SIZES, strict=True)] == [
        0.9632, 0.8891, 0.8076, 0.6297, 0.4613, 0.2491,
    ]  # fmt: skip
    assert [round(one, 4) for one in found] == [0.0401, 0.0635, 0.0808, 0.1049, 0.1153, 0.1246]
    assert round(found[3], 5) == 0.10495
    assert [round(one, 4) for one in inclusion.two_stage(SIZES, 4).case] == [
        0.0278, 0.0476, 0.0667, 0.1111, 0.1667, 0.3333,
    ]  # fmt: skip
    assert round(float(inclusion.plain(60, 4)), 4) == 0.0667


def test_weights_of_four_practitioners():
    chances = dict(zip(SIZES, inclusion.cap(SIZES, 4).case, strict=True))
    weights = [1 / chances[size] for size in (24, 14, 10, 6)]
    assert [round(weight, 3) for weight in weights] == [24.917, 15.746, 12.383, 9.529]
    assert round(estimate.hajek([1, 1, 0, 1], weights), 4) == 0.8021
    assert round(estimate.kish(weights), 3) == 3.518


EIGHT = [(9, 10), (10, 10), (7, 9), (8, 8), (10, 10), (5, 10), (9, 9), (10, 10)]


def drawn(cases, population, stratum="all"):
    return [
        estimate.DrawnCase(
            id=f"c{i}", stratum=stratum, probability=Fraction(len(cases), population), conform=c, evaluated=e
        )
        for i, (c, e) in enumerate(cases)
    ]


def test_the_items_of_eight_cases():
    found = estimate.rate(drawn(EIGHT, 200), {"all": 200}, basis(200))
    assert round(float(found.estimate), 4) == 0.8947
    assert round(found.standard_error, 4) == 0.0641
    assert round(found.design_effect, 1) == 3.3
    assert (found.conform, found.evaluated, found.cases) == (68, 76, 8)
    assert found.interval.method == "cluster"
    # Student's quantile with 7 degrees of freedom is 2.364624
    assert found.interval.low == pytest.approx(0.894737 - 2.364624 * 0.064088, abs=1e-5)
    assert found.interval.high == 1


def test_above_nine_tenths_the_interval_is_on_the_logit_scale():
    found = estimate.rate(drawn([(10, 10)] * 7 + [(8, 10)], 200), {"all": 200}, basis(200))
    assert found.interval.method == "cluster-logit"
    assert 0 < found.interval.low < found.estimate < found.interval.high < 1


def test_cases_that_all_conform_leave_the_doubt_of_their_number():
    found = estimate.rate(drawn([(10, 10)] * 30, 120), {"all": 120}, basis(120))
    assert (found.estimate, found.interval.low, found.interval.high) == (1, 108 / 120, 1)
    assert found.interval.method == "cluster-no-variance"


def test_one_case_says_nothing_of_the_others():
    found = estimate.rate(drawn([(9, 10)], 120), {"all": 120}, basis(120))
    assert (found.interval.low, found.interval.high, found.interval.method) == (0, 1, "single-case")


def test_a_stratum_of_one_case_gets_the_largest_variance_it_can_have():
    cases = [
        *drawn(EIGHT, 200, "CT"),
        estimate.DrawnCase(id="m", stratum="MR", probability=Fraction(1, 12), conform=10, evaluated=10),
    ]
    found = estimate.rate(cases, {"CT": 200, "MR": 12}, basis(212))
    weight = 25 * 76 + 12 * 10
    assert found.estimate == Fraction(25 * 68 + 12 * 10, weight)
    residues = [25 * (c - float(found.estimate) * e) for c, e in EIGHT]
    mean = sum(residues) / 8
    known = (1 - 8 / 200) * 8 / 7 * sum((one - mean) ** 2 for one in residues)
    lone = (1 - 1 / 12) * (12 * 10) ** 2 / 4
    assert found.standard_error == pytest.approx(((known + lone) ** 0.5) / weight)
    assert found.notes == ("weighted", "lone-case-in-a-stratum")
    assert found.interval.method == "cluster-logit"


def test_nothing_evaluated_gives_no_rate():
    assert estimate.rate(drawn([(0, 0)] * 4, 60), {"all": 60}, basis(60)) is None


def test_a_stratum_without_a_drawn_case_gives_no_rate_of_the_frame():
    with pytest.raises(BadInput) as refused:
        estimate.rate(drawn(EIGHT, 200), {"all": 200, "MG": 30}, basis(230))
    assert refused.value.code == "bad-strata"


def test_two_frames():
    accepted = frames.Part(size=950, share=Fraction("0.95"))
    refused = frames.Part(size=50, share=Fraction("0.40"))
    assert frames.combined([accepted, refused]) == Fraction("0.9225")
    assert frames.bounds(accepted, 50) == (Fraction("0.9025"), Fraction("0.9525"))


def test_replaced_cases_at_their_worst():
    assert frames.worst_case(45, 50, 6) == Fraction(45, 56)


def test_two_readers():
    found = agreement.agreement([[40, 3], [4, 3]])
    assert (found.pairs, found.agreement) == (50, Fraction("0.86"))
    assert (round(float(found.kappa), 4), round(float(found.ac1), 4)) == (0.3816, 0.8191)


def test_readers_who_always_agree_on_one_answer_have_no_kappa():
    found = agreement.agreement([[12, 0], [0, 0]])
    assert (found.agreement, found.kappa, found.ac1) == (1, None, 1)


def test_funnel_limits_are_those_of_the_binomial():
    # binomial(40, 0.9): P(X ≤ 31) = 0.0155 < 0.025 ≤ P(X ≤ 32) = 0.0419; P(X ≥ 40) = 0.0148, P(X ≥ 39) = 0.0805
    inner = comparison.limits(40, Fraction(9, 10), confidence=0.95)
    assert (inner.low, inner.high) == (32, 39)
    # P(X ≤ 28) = 0.0005 < 0.001 ≤ P(X ≤ 29) = 0.0015
    outer = comparison.limits(40, Fraction(9, 10), confidence=0.998)
    assert (outer.low, outer.high) == (29, 40)


def test_a_funnel_names_places_and_no_ranks():
    sites = [
        comparison.Site(label=name, conform=x, cases=40)
        for name, x in zip("edcba", (36, 31, 40, 28, 37), strict=True)
    ]
    found = comparison.funnel(sites, target=Fraction(9, 10))
    assert [(site.label, place) for site, place in found.places] == [
        ("a", "inside"),
        ("b", "outside-99.8"),
        ("c", "outside-95"),
        ("d", "outside-95"),
        ("e", "inside"),
    ]
    with pytest.raises(Refused) as refused:
        comparison.funnel(sites[:4])
    assert refused.value.code == "too-few-sites"


def test_illustrative_draws_have_no_basis_for_a_rate():
    shown = rate.basis(frame="radiotherapy courses", population=60, objective="illustrative")
    assert isinstance(shown, rate.Illustrative)
    assert get_type_hints(rate.Rate)["basis"] is rate.Basis
    assert not issubclass(rate.Illustrative, rate.Basis)
    with pytest.raises(Refused) as refused:
        rate.Basis(frame="radiotherapy courses", population=60, objective="illustrative")
    assert refused.value.code == "illustrative-no-rate"


@pytest.mark.parametrize(("x", "n", "population"), [(3, 2, None), (-1, 2, None), (0, 0, None), (1, 5, 4)])
def test_impossible_counts_are_refused(x, n, population):
    with pytest.raises(BadInput) as refused:
        interval.proportion(x, n, population=population)
    assert refused.value.code == "bad-counts"


@pytest.mark.parametrize(("sizes", "n"), [([], 1), ([3, 0], 1), ([3], 4), ([3], 0)])
def test_impossible_draws_are_refused(sizes, n):
    with pytest.raises(BadInput) as refused:
        inclusion.cap(sizes, n)
    assert refused.value.code == "bad-inclusion"


def test_a_raised_cap_has_no_formula():
    for chances in (inclusion.cap, inclusion.two_stage):
        with pytest.raises(BadInput) as refused:
            chances([3, 3], 3)
        assert refused.value.code == "cap-raised"
