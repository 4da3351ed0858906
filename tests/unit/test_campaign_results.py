"""From drawn cases and answers to the figures of a campaign."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sampler.campaign.chances import chances
from sampler.campaign.lifecycle import CaseState
from sampler.campaign.results import DrawnCase, results
from sampler.campaign.terms import terms_of
from sampler.draw.protocol import Stratum
from sampler.figures.rate import Illustrative, Rate
from sampler.grids.answers import Answer, complete
from sampler.grids.findings import Finding
from sampler.grids.grid import grid_of
from security.conf import conf_dir
from security.errors import BadInput
from security.parse.json import parse_json

RAD = grid_of(parse_json((conf_dir() / "grids" / "rad-1.json").read_bytes(), what="grid"))
DEM = [one.code for one in RAD.items if one.indicator == "DEM"]
EIGHT = [(9, 10), (10, 10), (7, 9), (8, 8), (10, 10), (5, 10), (9, 9), (10, 10)]
PROTOCOL = {
    "spec": "drim-draw/1", "campaign": "C1", "site": "s1", "grid": "RAD-1", "objective": "estimate",
    "strata": [{"id": "CT", "n": 8, "mode": "srs"}],
}  # fmt: skip


def answers(conform, evaluated):
    """Answers to the items of the request: so many conform of so many evaluated, the others not applicable."""
    given = [Answer(item=code, verdict="C") for code in DEM[:conform]]
    given += [Answer(item=code, verdict="NC", comment="x", evidence=("note:1",)) for code in DEM[conform:evaluated]]
    given += [Answer(item=code, verdict="NA", reason="CONTEXT") for code in DEM[evaluated:]]
    return complete(RAD, "case", given)


def case(number, conform=10, evaluated=10, **other):
    stated = {
        "id": f"k{number}", "stratum": "CT", "practitioner": f"p{number}", "probability": Fraction(8, 200), "error": 0.0,
        "state": CaseState.LOCKED, "reviews": (answers(conform, evaluated),),
    }  # fmt: skip
    return DrawnCase(**(stated | other))


def run(cases, protocol=PROTOCOL, sizes=None, **other):
    return results(RAD, terms_of(protocol), sizes or {"CT": 200}, cases, **other)


def test_the_items_of_eight_drawn_cases_become_a_rate_with_everything_beside_it():
    found = run([case(i, c, e) for i, (c, e) in enumerate(EIGHT)]).indicators[0]
    assert found.code == "DEM"
    rate = found.rate
    assert isinstance(rate, Rate)
    assert (round(float(rate.estimate), 4), round(rate.standard_error, 4)) == (0.8947, 0.0641)
    assert (rate.basis.frame, rate.basis.population, rate.cases) == ("performed exams", 200, 8)
    assert rate.notes == ("accepted-requests-only",)
    assert found.counts.not_applicable == 4
    assert found.worst is None


def test_a_site_with_a_register_of_refusals_has_no_such_words():
    found = run([case(i) for i in range(8)], PROTOCOL | {"has_refusal_register": True})
    assert found.indicators[0].rate.notes == ()
    asked = run([case(i) for i in range(8)], PROTOCOL | {"source": "REQUESTED"})
    assert (asked.indicators[0].rate.notes, asked.indicators[0].rate.basis.frame) == ((), "requested exams")


def test_an_illustrative_campaign_has_counts_and_no_rate():
    for protocol in (
        PROTOCOL | {"objective": "illustrative"},
        {k: v for k, v in PROTOCOL.items() if k != "objective"},
    ):
        found = run([case(i) for i in range(4)], protocol)
        assert all(isinstance(one.rate, Illustrative) for one in found.indicators)
        assert not any(hasattr(one.rate, "estimate") for one in found.indicators)
        assert found.indicators[0].counts.conform == 40
        assert found.by_stratum == {}


def test_only_locked_cases_count():
    for state in set(CaseState) - {CaseState.LOCKED}:
        found = run([case(0), case(1, 0, 10, state=state)])
        assert (found.cases, found.indicators[0].counts.conform, found.indicators[0].counts.nonconform) == (1, 10, 0)


def test_findings_are_counted_apart_from_answers():
    findings = [
        Finding(
            id=str(i), requirement="ORG-03", origin="document", text="x", severity=severity, state=state, final=final
        )
        for i, (severity, state, final) in enumerate(
            [
                ("major", "open", ""),
                ("major", "requalified", "minor"),
                ("critical", "withdrawn", ""),
                ("minor", "maintained", "minor"),
            ]
        )
    ]
    found = run([case(0, 2, 10)], findings=findings)
    assert found.nonconformities == 3
    assert found.by_severity == {"minor": 2, "major": 1, "critical": 0}
    assert run([case(0, 2, 10)]).nonconformities == 0


def test_coverage_is_over_the_whole_grid_cases_and_service():
    service = complete(
        RAD, "service", [Answer(item="ORG-01", verdict="C"), Answer(item="ORG-10", verdict="NA", reason="CONTEXT")]
    )
    found = run([case(0), case(1)], service=service)
    # two cases of 41 items, 10 evaluated each; 14 items of the service, 1 evaluated, 1 not applicable
    assert found.coverage == Fraction(21, 2 * 41 + 14 - 1)
    told = run([case(0), case(1)], PROTOCOL | {"na_counts_as_evaluated": True}, service=service)
    assert told.coverage == Fraction(22, 2 * 41 + 14)


def test_many_replaced_cases_bring_the_worst_case():
    kept = [case(i) for i in range(8)]
    gone = [case(9, state=CaseState.REPLACED, reviews=(), reason="CORRUPT")]
    found = run([*kept, *gone]).indicators[0]
    assert found.worst == Fraction(80, 90)
    for state, reason, missing in (("WITHDRAWN", "", 1), ("REPLACED", "OUT_OF_SCOPE", 0)):
        other = [case(9, state=CaseState(state), reviews=(), reason=reason)]
        assert run([*kept, *other]).replaced == missing
        assert (run([*kept, *other]).indicators[0].worst is not None) == bool(missing)
    few = run([*(case(i) for i in range(9)), *gone]).indicators[0]
    assert few.worst is None


def test_two_readers_of_a_case_agree_or_not_and_the_first_counts():
    first, second = answers(9, 10), answers(8, 10)
    found = run([case(0, reviews=(first, second)), case(1)]).indicators[0]
    assert (found.counts.conform, found.counts.nonconform) == (19, 1)
    assert (found.readers.pairs, found.readers.agreement) == (10, Fraction(9, 10))
    assert run([case(0), case(1)]).indicators[0].readers is None


TWO = PROTOCOL | {"strata": [{"id": "CT", "n": 6, "mode": "srs"}, {"id": "MR", "n": 6, "mode": "srs"}]}


def test_a_stratum_of_few_practitioners_is_blanked_with_another():
    sizes = {"CT": 60, "MR": 60}
    wide = [case(i, probability=Fraction(1, 10)) for i in range(6)]
    narrow = [case(i + 6, stratum="MR", practitioner=f"q{i % 2}", probability=Fraction(1, 10)) for i in range(6)]
    shown = [case(i + 6, stratum="MR", probability=Fraction(1, 10)) for i in range(6)]
    assert run([*wide, *narrow], TWO, sizes).by_stratum["MR", "DEM"] is None
    assert run([*wide, *narrow], TWO, sizes).by_stratum["CT", "DEM"] is None
    table = run([*wide, *shown], TWO, sizes).by_stratum
    assert {key: rate.basis.population for key, rate in table.items() if rate} == {
        ("CT", "DEM"): 60,
        ("MR", "DEM"): 60,
    }


def test_cases_of_unequal_chances_are_weighted():
    cases = [
        case(i, c, 10, probability=chance)
        for i, (c, chance) in enumerate([(10, Fraction(1, 20)), (10, Fraction(1, 20)), (5, Fraction(1, 10))])
    ]
    rate = run(cases).indicators[0].rate
    assert rate.estimate == (20 * 10 + 20 * 10 + 10 * 5) / Fraction(20 * 10 + 20 * 10 + 10 * 10)
    assert "weighted" in rate.notes


def test_chances_follow_the_plan():
    sizes = {"a": 24, "b": 14, "c": 10, "d": 6, "e": 4, "f": 2}
    plans = {mode: Stratum(id="RT", n=4, mode=mode, cap=int(mode == "cap")) for mode in ("srs", "cap", "two_stage")}
    assert {one.probability for one in chances(plans["srs"], sizes).values()} == {Fraction(4, 60)}
    assert round(float(chances(plans["cap"], sizes)["a"].probability), 4) == 0.0401
    assert round(float(chances(plans["two_stage"], sizes)["f"].probability), 4) == 0.3333
    raised = chances(Stratum(id="RT", n=8, mode="cap", cap=1), sizes, replays=400)
    assert sum(one.probability * sizes[who] for who, one in raised.items()) == pytest.approx(8)
    assert all(one.error >= 0 for one in raised.values())
    assert max(one.error for one in raised.values()) > 0


def test_a_simulated_chance_is_said_beside_the_rate():
    assert "simulated-weights" in run([case(i, error=0.001) for i in range(8)]).indicators[0].rate.notes


@pytest.mark.parametrize(
    "change",
    [
        {"objective": "prove"}, {"source": "ALL"}, {"site": ""}, {"grid": 7},
        {"na_counts_as_evaluated": "no"}, {"double_review_percent": 101},
    ],
)  # fmt: skip
def test_terms_that_say_nothing_clear_are_refused(change):
    with pytest.raises(BadInput) as refused:
        terms_of(PROTOCOL | change)
    assert refused.value.code == "protocol-terms"
