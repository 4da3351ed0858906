"""A million: units drawn, a frame built, a transcript verified by strangers; each in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sampler.draw import verifier
from sampler.draw.drawing import draw
from sampler.draw.protocol import protocol_of
from sampler.draw.seed import contributions_of
from sampler.draw.transcript import Times, body_of, revealed_of, sign
from sampler.draw.units import Unit, commit
from sampler.frame.building import performed
from sampler.frame.rows import PerformedExam
from tests.benchmarks.figures import Figure, publish
from tests.fixtures import plain_draw

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1700)]

UNITS = 1_000_000
PEOPLE = 200
STRATA = ("CT", "MG", "MR", "RX")
GIVEN = {role: plain_draw.nonce(role) for role in ("auditor", "site")}
PROTOCOL = {
    "spec": "drim-draw/1",
    "campaign": "BENCH",
    "strata": [{"id": one, "n": 10, "mode": "cap", "max_per_practitioner": 1} for one in STRATA],
}
DAY = date(2026, 3, 3)


def rows() -> list[tuple[str, str, str]]:
    return plain_draw.frame(UNITS, people=PEOPLE, strata=STRATA)


def measured(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    done = work()
    return time.process_time() - begun, done


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(told: Any) -> None:
    """Commit, draw, prove and sign a million units."""
    units = [Unit(*row) for row in rows()]
    before = peak_mib()
    agreed = protocol_of(PROTOCOL)
    committed_s, frame = measured(lambda: commit(units))
    drawn_s, drawn = measured(lambda: draw(frame, agreed, draw_no=1, contributions=contributions_of(GIVEN)))
    revealed = revealed_of({"draw_no": 1, "contributions": GIVEN})
    times = Times(committed_at="2026-03-03T08:00:00Z", revealed_at="2026-03-03T09:00:00Z")
    body, _ = body_of(frame, agreed, revealed, times=times, software="bench")
    signed_s, transcript = measured(lambda: sign(body, Ed25519PrivateKey.generate(), frame=frame))
    told.send(
        {"committed_s": committed_s, "drawn_s": drawn_s, "signed_s": signed_s, "mib": peak_mib(), "before": before,
         "seed": drawn.seed.hex(), "selected": body["selected"], "transcript": json.dumps(transcript)}
    )  # fmt: skip


def plain(told: Any) -> None:
    """The same by the plain reference: root and orders."""
    units = rows()
    begun = time.process_time()
    seed = plain_draw.seed(units, PROTOCOL, 1, GIVEN)
    selected = {one["id"]: [row[0] for row in head(units, seed, one)] for one in PROTOCOL["strata"]}
    told.send({"s": time.process_time() - begun, "mib": peak_mib(), "seed": seed.hex(), "selected": selected})


def head(units: list[tuple[str, str, str]], seed: bytes, stratum: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The cases of one stratum: the plain walk stops at the first walk, which holds them all."""
    taken, seen = [], set()
    for row in plain_draw.order(units, seed, {**stratum, "mode": "srs"}):
        if row[2] not in seen and len(taken) < stratum["n"]:
            seen.add(row[2])
            taken.append(row)
    return taken


def strangers(told: Any, transcript: str) -> None:
    """The stand-alone verifier with the whole frame."""
    units = rows()
    taken_s, found = measured(lambda: list(verifier.verify(verifier.Given(json.loads(transcript), units))))
    told.send(
        {"s": taken_s, "mib": peak_mib(), "failed": [step for step, outcome, _ in found if outcome == "failed"]}
    )


def exams() -> Iterator[PerformedExam]:
    for number in range(UNITS):
        yield PerformedExam(
            study=f"1.2.250.1.999.77.{number}",
            day=DAY,
            modality=STRATA[number % 4],
            practitioner=f"8999{number % PEOPLE:07}",
            opposes=number % 500 == 0,
        )


def framing(told: Any) -> None:
    """A frame of a million exams from rows to root."""
    agreed = protocol_of(PROTOCOL)
    rows_s, given = measured(lambda: list(exams()))
    before = peak_mib()
    built_s, built = measured(lambda: performed(given, agreed, bytes(32)))
    told.send(
        {"rows_s": rows_s, "built_s": built_s, "mib": peak_mib(), "before": before, "size": len(built.frame.units)}
    )


def apart(work: Callable[..., None], *arguments: Any) -> dict[str, Any]:
    """What the work tells from a process of its own: its peak is nobody else's."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(there, *arguments))
    child.start()
    there.close()
    told: dict[str, Any] = here.recv()
    child.join()
    assert child.exitcode == 0
    return told


def test_a_million_units_are_drawn_and_verified_by_strangers() -> None:
    mine, theirs = apart(ours), apart(plain)
    assert (mine["seed"], mine["selected"]) == (theirs["seed"], theirs["selected"])
    found = apart(strangers, mine["transcript"])
    assert found["failed"] == []
    whole_s = mine["committed_s"] + mine["drawn_s"]
    publish(
        "Draw",
        [
            Figure(what="1 M units committed: tokens, order, root", value=mine["committed_s"], unit="s"),
            Figure(what="40 cases of them drawn, four strata, cap 1", value=mine["drawn_s"], unit="s"),
            Figure(what="both", value=whole_s, unit="s", ratios={"plain reference": whole_s / theirs["s"]}),
            Figure(what="40 proofs and the signature", value=mine["signed_s"], unit="s"),
            Figure(what="peak memory", value=mine["mib"], unit="MiB", ratios={"plain": mine["mib"] / theirs["mib"]}),
            Figure(what="rows alone", value=mine["before"], unit="MiB"),
            Figure(what="stand-alone verifier with the frame", value=found["s"], unit="s"),
            Figure(what="its peak memory", value=found["mib"], unit="MiB"),
        ],
        conditions=f"{UNITS:,} units, {PEOPLE} practitioners; each in a process of its own; CPU seconds",
    )


def test_a_frame_of_a_million_exams_is_built() -> None:
    found = apart(framing)
    assert found["size"] == UNITS - UNITS // 500
    publish(
        "Frame",
        [
            Figure(what="1 M exams to the committed frame", value=found["built_s"], unit="s"),
            Figure(what="peak memory", value=found["mib"], unit="MiB"),
            Figure(what="rows alone", value=found["before"], unit="MiB"),
        ],
        conditions=f"{UNITS:,} exams, {PEOPLE} practitioners, one in 500 objects; in a process of its own; CPU seconds",
    )
