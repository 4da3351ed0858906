"""What a planted defect is, and the short forms in which the rooms state theirs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

Guards = Literal["identity", "loss", "access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One edit that removes a guard. ``tests``: pytest node ids, at least one must turn red."""

    name: str
    guards: Guards
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _defect(guards: Guards, name: str, file: str, old: str, new: str, tests: tuple[str, ...]) -> Defect:
    return Defect(name=name, guards=guards, file=file, old=old, new=new, tests=tests)


identity, loss, access = (partial(_defect, guards) for guards in ("identity", "loss", "access"))


def _of(kind: str, area: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{kind}/test_{area}.py::{name}" for name in names)


unit, integration, contract, acceptance = (
    partial(_of, kind) for kind in ("unit", "integration", "contract", "acceptance")
)
