"""A made-up campaign: a frame of two strata, a protocol, a signed draw, and answers to its cases."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sampler.draw.protocol import protocol_of
from sampler.draw.transcript import Times, body_of, revealed_of, sign
from sampler.draw.units import Frame, Unit, commit
from sampler.grids.answers import Answer
from sampler.grids.grid import Grid, grid_of
from security.conf import conf_dir
from security.parse.json import parse_json

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TIMES = Times(committed_at="2026-11-27T08:00:00Z", revealed_at="2026-11-27T09:00:00Z")
SIZES = {"CT": {"p-a": 30, "p-b": 20, "p-c": 10, "p-d": 5}, "MR": {"p-a": 12, "p-e": 12, "p-f": 16}}


def grid(name: str = "rad-1") -> Grid:
    return grid_of(parse_json((conf_dir() / "grids" / f"{name}.json").read_bytes(), what=name))


def frame() -> Frame:
    return commit(
        Unit(f"{stratum.lower()}{number:04d}{who[-1]}", stratum, who)
        for stratum, sizes in SIZES.items()
        for number, who in enumerate(one for who, many in sizes.items() for one in [who] * many)
    )


def protocol(**other: Any) -> dict[str, Any]:
    return {
        "spec": "drim-draw/1", "campaign": "C-2026-7", "grid": "RAD-1", "objective": "estimate", "site": "site-7",
        "strata": [
            {"id": "CT", "n": 6, "mode": "srs"},
            {"id": "MR", "n": 3, "mode": "cap", "max_per_practitioner": 1},
        ],
    } | other  # fmt: skip


def transcript(document: dict[str, Any] | None = None, *, draw_no: int = 1, replacements: Any = ()) -> dict[str, Any]:
    contributions = {"auditor": "11" * 32, "site": "22" * 32}
    seeds = {"draw_no": draw_no, "contributions": contributions, "beacon": None, "replacements": list(replacements)}
    body, _ = body_of(frame(), protocol_of(document or protocol()), revealed_of(seeds), times=TIMES, software="test")
    return sign(body, KEY, frame=frame())


@dataclass(frozen=True)
class Auditor:
    """Answers by chance, from a seed."""

    seed: int
    conform: float = 0.9

    def answers(self, level: Any = "case") -> list[Answer]:
        dice = random.Random(self.seed)
        return [self._answer(dice, item.code) for item in grid().of_level(level)]

    def _answer(self, dice: random.Random, code: str) -> Answer:
        throw = dice.random()
        if throw < 0.05:
            return Answer(item=code)
        if throw < 0.15:
            return Answer(item=code, verdict="NA", reason="CONTEXT")
        if dice.random() < self.conform:
            return Answer(item=code, verdict="C")
        return Answer(item=code, verdict="NC", comment="=écart constaté", evidence=("dicom:2.25.123#4", "note:7"))
