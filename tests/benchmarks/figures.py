"""What a benchmark prints: its figures, the machine they were measured on, and the ratio to a named rival.

Every figure comes from the run that prints it. ``POTERNE_BENCH_JSON`` names a file that receives the same as JSON,
one object per benchmark, under its title.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import apsw
import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value. ``ratios``: by the name of a rival measured in the same run, this value over the rival's."""

    what: str
    value: float
    unit: str
    ratios: Mapping[str, float] = field(default_factory=dict)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def machine() -> dict[str, str | int | float]:
    """Where the run took place."""
    return {
        "cpus": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
    }


def publish(title: str, figures: Sequence[Figure], *, conditions: str) -> None:
    """Print the figures, and add them to the JSON file when one is asked for."""
    here = machine()
    print(f"\n{title}\n  {', '.join(f'{name} {value}' for name, value in here.items())}\n  {conditions}")
    for figure in figures:
        ratios = "; ".join(f"{factor:.3g} × {rival}" for rival, factor in figure.ratios.items())
        print(f"  {figure.what:<58} {_short(figure.value):>9} {figure.unit:<11} {ratios}".rstrip())
    if target := os.environ.get("POTERNE_BENCH_JSON"):
        _add(
            Path(target),
            title,
            {"machine": here, "conditions": conditions, "figures": [asdict(figure) for figure in figures]},
        )


def _add(path: Path, title: str, result: dict[str, object]) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, title: result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _short(value: float) -> str:
    """Three significant digits, whole numbers above a hundred."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
