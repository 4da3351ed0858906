"""The statistics of 10,000 answers: from answers to every rate, interval, table and the export, beside plain counting."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from sampler import export
from sampler.campaign.lifecycle import CaseState
from sampler.campaign.results import DrawnCase, results
from sampler.campaign.terms import terms_of
from sampler.figures import inclusion
from tests.support.peer_audit import Auditor, grid, protocol

pytestmark = pytest.mark.bench
CASES = 244  # of 41 items: 10,004 answers


def best_of(many, work):
    """Seconds of the fastest of several runs, and what the last one gave."""
    best, given = float("inf"), None
    for _ in range(many):
        since = time.perf_counter()
        given = work()
        best = min(best, time.perf_counter() - since)
    return best, given


def test_statistics_of_ten_thousand_answers():
    half = CASES // 2
    document = protocol(strata=[{"id": name, "n": half, "mode": "srs"} for name in ("CT", "MR")])
    cases = [
        DrawnCase(
            id=f"k{n:04d}", stratum="CT" if n % 2 else "MR", practitioner=f"p{n % 12}", probability=Fraction(half, 5_000),
            error=0.0, state=CaseState.LOCKED, reviews=(tuple(Auditor(n).answers()),),
        )
        for n in range(CASES)
    ]  # fmt: skip
    sizes, terms = {"CT": 5_000, "MR": 5_000}, terms_of(document)
    answers = sum(len(case.reviews[0]) for case in cases)
    items = {code: {one.code for one in grid().items if one.indicator == code} for code in grid().indicators}

    def counted():
        return {
            code: [
                sum(one.verdict == said for case in cases for one in case.reviews[0] if one.item in inside)
                for said in ("C", "NC")
            ]
            for code, inside in items.items()
        }

    plain, _ = best_of(5, counted)
    whole, found = best_of(5, lambda: results(grid(), terms, sizes, cases))
    told = export.Exported(head={}, grid=grid(), results=found, cases=cases, service=(), findings=())
    written, files = best_of(3, lambda: export.files(told))
    chances, _ = best_of(3, lambda: inclusion.cap([3 + n % 40 for n in range(100)], 40))
    replays, _ = best_of(1, lambda: inclusion.replayed([24, 14, 10, 6, 4, 2], 4, limit=2))
    assert answers == 10_004
    assert all(one.rate for one in found.indicators)
    print(
        f"\n{answers} answers of {CASES} cases: figures {whole * 1e3:.0f} ms (counting alone {plain * 1e3:.0f} ms),"
    )
    print(f"export {written * 1e3:.0f} ms, {sum(map(len, files.values())) / 1024:.0f} KiB;")
    print(
        f"chances of 40 cases of 100 practitioners {chances * 1e3:.0f} ms, 20,000 replays of 60 units {replays:.2f} s"
    )
