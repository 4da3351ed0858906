"""``python -m tests.mutants [NAME…] [--jobs N]``: every planted defect must turn its tests red.

Exit codes: 0 all caught, 1 a defect survived or the unmodified tests are not green, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic

from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.planting import Run, copied, try_defect, try_nothing


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Plant each defect; its tests must fail."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="defects to plant; all when none is named")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="copies tested at once (2)")
    given = parser.parse_args(arguments)
    known = {defect.name: defect for defect in DEFECTS}
    unknown = sorted(set(given.names) - known.keys())
    if unknown or given.jobs < 1:
        parser.error(f"no such defect: {', '.join(unknown)}" if unknown else "--jobs is at least 1")
    return report([known[name] for name in dict.fromkeys(given.names)] or list(DEFECTS), jobs=given.jobs)


def report(defects: Sequence[Defect], *, jobs: int) -> int:
    """Plant each defect and say what came of it; the exit code."""
    begun = monotonic()
    tests = list(dict.fromkeys(test for defect in defects for test in defect.tests))
    with copied() as snapshot:
        clean = try_nothing(tests, root=snapshot)
        if not clean.is_green:
            print(clean.output)
            print("the unmodified checkout is not green on these tests: nothing was planted")
            return 1
        print(f"unmodified checkout: {clean.last_words}", flush=True)
        survivors = 0
        width = max(len(defect.name) for defect in defects)
        with ThreadPoolExecutor(jobs) as pool:
            runs = pool.map(partial(try_defect, root=snapshot), defects)
            for defect, run in zip(defects, runs, strict=True):
                survivors += not run.is_red
                print(_line(defect, run, width), flush=True)
    print(f"{len(defects) - survivors} passed, {survivors} failed in {monotonic() - begun:.0f} s")
    return 1 if survivors else 0


def _line(defect: Defect, run: Run, width: int) -> str:
    if run.is_red:
        return f"caught    {defect.name:<{width}}  {defect.guards:<8}  {run.seconds:5.1f} s"
    why = "its tests stay green" if run.is_green else f"no test failed (exit code {run.code}): {run.last_words}"
    return f"SURVIVED  {defect.name:<{width}}  {defect.guards:<8}  {run.seconds:5.1f} s  {why}"


if __name__ == "__main__":
    sys.exit(main())
