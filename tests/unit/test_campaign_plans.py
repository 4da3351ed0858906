"""``poterne campaign plan|combine|compare``: numbers in, numbers out, as they are typed."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from tests.acceptance.test_commands import poterne


def run(*words, code=0, lang="en"):
    ran = poterne("campaign", *words, lang=lang)
    assert ran.returncode == code, (words, ran.stdout, ran.stderr)
    return ran


def facts(*words):
    return json.loads(run(*words, "--json").stdout)


def export(
    path, name, *, conform=90, nonconform=10, estimate=(9, 10), size=950, effect=2.0, found=3, coverage=(4, 5)
):
    rate = {"estimate": list(estimate), "design_effect": effect}
    path.write_text(
        json.dumps(
            {
                "campaign": name, "frame": {"size": size}, "nonconformities": found, "grid": {"coverage": list(coverage)},
                "figures": [{"indicator": "DEM", "conform": conform, "nonconform": nonconform, "rate": rate}],
            }
        )
    )  # fmt: skip
    return str(path)


def test_sizes_of_the_published_tables():
    assert facts("plan", "precision", "--share", "0.9", "--half-width", "0.05", "--population", "800") == {"n": 119}
    found = facts("plan", "discovery", "--population", "3000", "--defects", "30")
    assert found["n"] == 284
    assert facts("plan", "allocation", "--n", "40", "CT=900", "MG=300", "RX=2400", "RI=12") == {
        "CT": 10, "MG": 3, "RX": 26, "RI": 1,
    }  # fmt: skip
    found = facts("plan", "acceptance", "--n", "80", "--accept", "5", "--share", "0.05")
    assert round(found["probability"], 3) == 0.789
    assert run("plan", "precision", "--share", "0.9", "--half-width", "0.1", lang="fr").stdout == "35 dossiers\n"


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "precision", "--share", "1", "--half-width", "0.05"),
        ("plan", "discovery", "--population", "10", "--defects", "11"),
        ("plan", "discovery", "--population", "10", "--defects", "1", "--risk", "none"),
        ("plan", "allocation", "--n", "40", "CT=many"),
        ("plan", "allocation", "--n", "40", "CT"),
        ("plan", "allocation", "--n", "40", "CT=9"),
    ],
)
def test_plans_that_make_no_sense_are_refused(words):
    assert "[bad-" in run(*words, code=2).stderr


def test_refused_requests_are_combined_or_bound_the_answer(tmp_path):
    performed = export(tmp_path / "a.json", "A", estimate=(95, 100), size=950)
    refused = export(tmp_path / "b.json", "B", estimate=(40, 100), size=50)
    assert Fraction(*facts("combine", performed, "--refused", refused)["estimate"]) == Fraction("0.9225")
    bounds = facts("combine", performed, "--unseen", "50")
    assert (Fraction(*bounds["low"]), Fraction(*bounds["high"])) == (Fraction("0.9025"), Fraction("0.9525"))
    assert "0,9025 et 0,9525" in run("combine", performed, "--unseen", "50", lang="fr").stdout
    assert "[bad-frame]" in run("combine", performed, code=2).stderr
    assert "[bad-export]" in run("combine", performed, "--unseen", "5", "--indicator", "XX", code=2).stderr


def test_audits_are_compared_by_effective_answers_and_not_ranked(tmp_path):
    paths = [
        export(
            tmp_path / f"{name}.json",
            name,
            conform=c,
            nonconform=100 - c,
            estimate=(c, 100),
            found=i,
            coverage=(i + 4, 10),
        )
        for i, (name, c) in enumerate([("e", 90), ("d", 92), ("c", 62), ("b", 91), ("a", 90)])
    ]
    found = facts("compare", *paths)
    assert list(found["places"]) == ["a", "b", "c", "d", "e"]
    # 100 answers at a design effect of 2 are 50; the pool is 0.852: 31 of 50 lies outside of the 99.8 % limits
    assert {name for name, place in found["places"].items() if place == "outside-99.8"} == {"c"}
    assert found["nonconformities_with_coverage"] == {"rho": 1.0, "p_value": 0.0, "n": 5}
    assert "hors des limites à 99,8 %" in run("compare", *paths, lang="fr").stdout
    assert "[too-few-sites]" in run("compare", *paths[:4], code=2).stderr


def test_a_file_that_is_no_export_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    assert "[bad-export]" in run("compare", str(tmp_path / "x.json"), code=2).stderr
    assert "[campaign-file]" in run("compare", str(tmp_path / "y.json"), code=2).stderr
