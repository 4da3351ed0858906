"""The vectors beside the repository: statistics and the published interim table."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from sampler.figures import (
    agreement,
    comparison,
    display,
    estimate,
    frames,
    inclusion,
    indicator,
    interval,
    planning,
    strata,
)
from sampler.figures import rate as rates
from tests.corpus import corpus

pytestmark = pytest.mark.corpus
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def vectors():
    return json.loads(corpus("audit", "statistics-vectors.json").read_text(encoding="utf-8"))


def near(value):
    return pytest.approx(value, abs=TOLERANCE)


def test_sizes(vectors):
    for one in vectors["sample_size"]:
        assert round(planning.endless_precision(one["p"], one["d"], confidence=one["conf"]), 2) == one["n0"]
        assert planning.precision(one["p"], one["d"], population=one["N"], confidence=one["conf"]) == one["n"]
    for one in vectors["discovery"]:
        risk = Fraction(str(one["beta"]))
        assert planning.discovery(one["N"], one["D"], risk=risk) == one["n"]
        assert planning.discovery_endless(Fraction(one["D"], one["N"]), risk=risk) == one["n_binomial"]
    for n, bound in vectors["zero_findings_upper95"]:
        assert planning.nothing_found(n) == near(bound)


def test_intervals(vectors):
    seen = set()
    for one in vectors["intervals"]:
        x, n = one["x"], one["n"]
        computed = {
            "wilson": lambda x=x, n=n: interval.wilson(x, n),
            "clopper_pearson": lambda x=x, n=n: interval.clopper_pearson(x, n),
            "wilson_fpc": lambda x=x, n=n, one=one: interval.wilson(x, n, population=one["N"]),
            "hypergeometric_exact": lambda x=x, n=n, one=one: interval.hypergeometric(x, n, one["N"]),
        }
        for name in one.keys() & computed.keys():
            found = computed[name]()
            assert (found.low, found.high) == (near(one[name][0]), near(one[name][1])), (one, name)
            seen.add(name)
    assert seen == {"wilson", "clopper_pearson", "wilson_fpc", "hypergeometric_exact"}


def test_strata(vectors):
    one = vectors["stratified"]
    given = [strata.Stratum(id=name, size=size, drawn=n, conform=x) for name, size, n, x in one["strata"]]
    base = rates.Basis(frame="f", population=sum(part.size for part in given), objective="estimate")
    found = strata.stratified(given, base, half_rule=False)
    assert float(found.estimate) == near(one["estimate"])
    assert float(Fraction(found.conform, found.evaluated)) == near(one["unweighted"])
    assert found.standard_error == near(one["se"])
    assert strata.effective_size(found) == pytest.approx(one["n_eff"], abs=5e-3)
    assert (found.interval.low, found.interval.high) == tuple(map(near, one["wilson_n_eff"]))
    for plan in vectors["allocation"]:
        turned = dict(reversed(plan["sizes"].items()))
        for sizes in (plan["sizes"], turned):
            assert strata.allocate(sizes, plan["n"], minimum=plan["min"]) == plan["expect"]


def test_chances_and_weights(vectors):
    one, other = vectors["cap_inclusion"], vectors["cap_hajek"]
    chances = inclusion.cap(one["sizes"], one["n"]).case
    by_size = dict(zip(one["sizes"], chances, strict=True))
    assert list(chances) == [near(c) for c in one["case_pi"]]
    assert [c * size for size, c in by_size.items()] == [near(c) for c in one["practitioner_pi"]]
    weights = [1 / by_size[size] for size, _ in other["sample"]]
    assert weights == [pytest.approx(weight, abs=5e-4) for weight in other["weights"]]
    assert estimate.hajek([y for _, y in other["sample"]], weights) == near(other["estimate"])
    assert estimate.kish(weights) == pytest.approx(other["kish_n"], abs=5e-4)


def test_clusters_readers_and_frames(vectors):
    one = vectors["ratio_cluster"]
    n, population = len(one["cases"]), one["N"]
    cases = [
        estimate.DrawnCase(id=str(i), stratum="s", probability=Fraction(n, population), conform=c, evaluated=e)
        for i, (c, e) in enumerate(one["cases"])
    ]
    found = estimate.rate(
        cases, {"s": population}, rates.Basis(frame="f", population=population, objective="estimate")
    )
    assert float(found.estimate) == near(one["estimate"])
    assert found.standard_error == near(one["se"])
    assert found.design_effect == pytest.approx(one["deff"], abs=5e-4)
    two = agreement.agreement(vectors["agreement"]["table"])
    assert [float(two.agreement), float(two.kappa), float(two.ac1)] == [
        near(vectors["agreement"][name]) for name in ("po", "kappa", "ac1")
    ]
    bias = vectors["coverage_bias"]
    accepted, refused = (
        frames.Part(size=size, share=Fraction(str(share))) for size, share in (bias["accepted"], bias["refused"])
    )
    assert float(frames.combined([accepted, refused])) == bias["all_requests"]
    assert [float(end) for end in frames.bounds(accepted, refused.size)] == bias["bounds_if_refused_unseen"]


def test_the_published_interim_table():
    table = json.loads(corpus("audit", "interim-2024-indicators.json").read_text(encoding="utf-8"))
    rows = table["rows"]
    assert len(rows) == 10
    for row in rows:
        counts, shown = row["synthetic_counts"], row["display"]
        grid = counts["requirements"]
        evaluated = indicator.Counts(
            conform=grid["evaluated"] - grid["nonconformant"],
            nonconform=grid["nonconformant"],
            not_applicable=grid["not_applicable"],
            not_evaluated=grid["total"] - grid["evaluated"] - grid["not_applicable"],
        )
        assert display.percent(indicator.coverage(evaluated)) == shown["pct"]
        assert str(indicator.nonconformities(["open"] * grid["nonconformant"])) == shown["nc"]
        for code in ("DEM", "CR", "JUS"):
            answers = [verdict for verdict, many in counts[code].items() for _ in range(many)]
            assert display.ratio(indicator.indicator(indicator.count(answers))) == shown[code]
    trend = comparison.spearman(
        [Fraction(row["nonconformities"]) for row in rows], [Fraction(row["grid_evaluated_pct"]) for row in rows]
    )
    assert (round(trend.rho, 2), round(trend.p_value, 2)) == (0.42, 0.22)
