"""From the exported tables alone a stranger recomputes every figure: csv, math, and the formulas of the page."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from fractions import Fraction

import pytest

from sampler import export
from sampler.campaign.drawn import drawn_of
from sampler.campaign.lifecycle import CaseState
from sampler.campaign.results import DrawnCase, results
from sampler.campaign.terms import terms_of
from sampler.draw.protocol import protocol_of
from sampler.grids.answers import complete
from sampler.grids.findings import Finding
from tests.support.peer_audit import Auditor, frame, grid, protocol, transcript

HEAD = {"campaign": "C-2026-7", "title": "t"}
WORDS = ("comment", "evidence", "approved_by")


def made(document=None, *, conform=0.9, with_words=False, replacements=()):
    document = document or protocol()
    whole = frame()
    body = transcript(document, replacements=replacements)["body"]
    cases = [
        DrawnCase(
            id=one.unit,
            stratum=one.stratum,
            practitioner=one.practitioner,
            probability=one.chance.probability,
            error=one.chance.error,
            state=CaseState.REPLACED if one.reason else CaseState.LOCKED,
            reviews=() if one.reason else (complete(grid(), "case", Auditor(number, conform).answers()),),
            reason=one.reason,
        )
        for number, one in enumerate(drawn_of(whole, body, protocol_of(document).strata))
    ]
    service = complete(grid(), "service", Auditor(99).answers("service"))
    findings = [Finding(id="F1", requirement="ORG-03", origin="document", text="@SUM(1)", severity="major")]
    found = results(grid(), terms_of(document), whole.strata, cases, service=service, findings=findings)
    return export.files(
        export.Exported(
            head=HEAD,
            grid=grid(),
            results=found,
            cases=cases,
            service=service,
            findings=findings,
            with_words=with_words,
        )
    )


def table(files, name):
    return list(csv.DictReader(io.StringIO(files[name].decode("utf-8"), newline="")))


def student(degrees, confidence):
    """The quantile by Simpson's rule and bisection: no library of statistics."""
    scale = math.gamma((degrees + 1) / 2) / math.sqrt(degrees * math.pi) / math.gamma(degrees / 2)

    def upto(t):
        steps = 4_000
        h = t / steps
        ends = sum(
            (1 if i in {0, steps} else 4 if i % 2 else 2) * (1 + (i * h) ** 2 / degrees) ** (-(degrees + 1) / 2)
            for i in range(steps + 1)
        )
        return 0.5 + scale * ends * h / 3

    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upto(middle) < (1 + confidence) / 2 else (low, middle)
    return low


def recomputed(files, code, stratum=""):
    """Estimate, standard error and interval of one indicator, from the tables of strata, cases and answers."""
    sizes = {row["stratum"]: int(row["size"]) for row in table(files, "strata.csv")}
    counted = {
        row["case"]: (row["stratum"], Fraction(int(row["chance_numerator"]), int(row["chance_denominator"])))
        for row in table(files, "cases.csv")
        if row["counts"] == "1" and stratum in {"", row["stratum"]}
    }
    conform, evaluated = defaultdict(int), defaultdict(int)
    for row in table(files, "answers.csv"):
        if row["indicator"] == code and row["case"] in counted and row["answer"] in {"C", "NC"}:
            evaluated[row["case"]] += 1
            conform[row["case"]] += row["answer"] == "C"
    whole = sum(Fraction(evaluated[case]) / chance for case, (_, chance) in counted.items())
    estimate = sum(Fraction(conform[case]) / chance for case, (_, chance) in counted.items()) / whole
    variance, strata = 0.0, sorted({of for of, _ in counted.values()})
    for name in strata:
        inside = [case for case, (of, _) in counted.items() if of == name]
        n = len(inside)
        parts = [float(conform[case] - estimate * evaluated[case]) / float(counted[case][1]) for case in inside]
        mean = sum(parts) / n
        if n < sizes[name]:
            variance += (1 - n / sizes[name]) * n / (n - 1) * sum((part - mean) ** 2 for part in parts)
    error = math.sqrt(variance) / float(whole)
    p, t = float(estimate), student(len(counted) - len(strata), 0.95)
    if p > 0.9:
        middle, half = math.log(p / (1 - p)), t * error / (p * (1 - p))
        ends = tuple(1 / (1 + math.exp(-(middle + sign * half))) for sign in (-1, 1))
    else:
        ends = max(0.0, p - t * error), min(1.0, p + t * error)
    return estimate, error, ends


@pytest.mark.parametrize("conform", [0.7, 0.93])
def test_a_stranger_recomputes_every_rate_and_interval_from_the_tables(conform):
    files = made(conform=conform)
    rows = table(files, "figures.csv")
    seen = set()
    for row in rows:
        if row["method"] not in {"cluster", "cluster-logit"}:
            continue
        estimate, error, (low, high) = recomputed(files, row["indicator"], row["stratum"])
        assert Fraction(int(row["estimate_numerator"]), int(row["estimate_denominator"])) == estimate
        assert float(row["standard_error"]) == pytest.approx(error, abs=1e-12)
        assert (float(row["low"]), float(row["high"])) == (
            pytest.approx(low, abs=1e-7),
            pytest.approx(high, abs=1e-7),
        )
        seen.add(row["indicator"])
    assert {"DEM", "JUS", "REA", "CR"} <= seen


def test_a_stranger_recounts_coverage_indicators_and_findings():
    files = made()
    told = json.loads(files["campaign.json"])
    answers = [row["answer"] for row in table(files, "answers.csv")]
    assert len(answers) == 9 * 41 + 14
    evaluated = answers.count("C") + answers.count("NC")
    assert Fraction(*told["grid"]["coverage"]) == Fraction(evaluated, len(answers) - answers.count("NA"))
    for row in told["figures"]:
        own = [one["answer"] for one in table(files, "answers.csv") if one["indicator"] == row["indicator"]]
        assert (own.count("C"), own.count("NC")) == (row["conform"], row["nonconform"])
    assert told["nonconformities"] == sum(row["state"] != "withdrawn" for row in table(files, "findings.csv")) == 1


def test_when_every_case_conforms_the_end_is_that_of_so_many_cases_alike():
    files = made(conform=1.0)
    (row,) = [one for one in table(files, "figures.csv") if (one["indicator"], one["stratum"]) == ("CR", "")]
    # two strata: Clopper–Pearson of 9 cases of 9, 0.025^(1/9)
    assert (row["method"], row["estimate"], row["high"]) == ("cluster-no-variance", "1.0", "1.0")
    assert float(row["low"]) == pytest.approx(0.025 ** (1 / 9), abs=1e-12)


def test_every_printed_rate_has_cases_frame_size_and_method():
    for row in table(made(), "figures.csv"):
        if row["estimate"]:
            assert all(row[name] for name in ("low", "high", "method", "cases", "population", "frame", "confidence"))


def test_an_illustrative_campaign_exports_no_rate():
    files = made(protocol(objective="illustrative"))
    rows = table(files, "figures.csv")
    assert len(rows) == 5
    assert all(row["estimate"] == row["low"] == row["method"] == "" for row in rows)
    assert all(int(row["conform"]) > 0 for row in rows)
    told = json.loads(files["campaign.json"])
    assert all(one["rate"] is None for one in told["figures"])
    assert told["by_stratum"] == []


def test_json_and_tables_say_the_same():
    files = made(with_words=True, replacements=[])
    told = json.loads(files["campaign.json"])
    for name in ("strata", "cases"):
        assert told[name] == table(files, f"{name}.csv")
    rows = table(files, "answers.csv")
    assert [{**row, "comment": row["comment"].removeprefix("'")} for row in rows] == told["answers"]


def test_practitioners_are_in_no_file_and_words_only_where_asked_for():
    plain, wordy = made(), made(with_words=True)
    assert not any(b"p-a" in content for content in (*plain.values(), *wordy.values()))
    assert not any(name in table(plain, "answers.csv")[0] for name in WORDS)
    assert not any("écart" in content.decode() or "SUM" in content.decode() for content in plain.values())
    assert any(row["comment"] for row in table(wordy, "answers.csv"))


def test_t30_comments_of_auditors_are_no_formulas():
    files = made(with_words=True)
    comments = [row["comment"] for row in table(files, "answers.csv") if row["comment"]]
    assert comments
    assert set(comments) == {"'=écart constaté"}
    assert table(files, "findings.csv")[0]["text"] == "'@SUM(1)"


def test_a_replaced_case_is_listed_and_does_not_count():
    out = transcript()["body"]["selected"]["CT"][0]
    files = made(replacements=[{"stratum": "CT", "out": out, "reason": "CORRUPT"}])
    (row,) = [one for one in table(files, "cases.csv") if one["case"] == out]
    assert (row["state"], row["counts"], row["reason"]) == ("REPLACED", "0", "CORRUPT")
    assert out not in {one["case"] for one in table(files, "answers.csv")}
