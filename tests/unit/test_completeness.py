"""The table that says whether the images of an exam are complete: each row by an example, and the laws."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.completeness import (
    TABLE,
    Availability,
    By,
    Complete,
    Evidence,
    Incomplete,
    PerformedStep,
    Policy,
    Said,
    Stage,
    decide,
)
from security.identity import Uid

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy(by="evidence", apart=5 * MINUTE, idle=10 * MINUTE, ceiling=45 * MINUTE)
ALONE = replace(POLICY, by="report")
ONE, TWO, THREE = (Uid(f"1.2.3.{n}") for n in (1, 2, 3))


def step(status: str, instances: int = 0, at: datetime = NOON) -> PerformedStep:
    return PerformedStep(status=cast("Any", status), at=at, instances=instances)


def notice(*instances: Uid, at: datetime = NOON) -> Availability:
    return Availability(at=at, instances=frozenset(instances))


def seen(**words: object) -> Evidence:
    """Two images, the same for twenty minutes, waited for as long."""
    words["said"] = Said(steps=words.pop("steps", ()), notices=words.pop("notices", ()))  # type: ignore[arg-type]
    stated = {"stage": Stage.FIRST, "held": frozenset({ONE, TWO}), "same_since": NOON - 20 * MINUTE}
    return Evidence(**{**stated, "waits_since": NOON - 20 * MINUTE, **words})  # type: ignore[arg-type]


FRESH = {"same_since": NOON, "waits_since": NOON}
RUNNING, OVER = step("IN PROGRESS"), step("COMPLETED", 2)


@pytest.mark.parametrize(
    ("evidence", "policy", "by"),
    [
        (seen(hurried_by="operator:ana", steps=(RUNNING,), **FRESH), POLICY, By.PERSON),
        (seen(stage=Stage.NEITHER, steps=(RUNNING,), **FRESH), POLICY, By.CHANGE),
        (seen(steps=(RUNNING,), **FRESH), ALONE, By.REPORT),
        (seen(steps=(OVER,), **FRESH), POLICY, By.STEPS),
        (seen(steps=(OVER, step("DISCONTINUED", 9)), **FRESH), POLICY, By.STEPS),
        (seen(notices=(notice(ONE), notice(TWO)), **FRESH), POLICY, By.AVAILABILITY),
        (seen(steps=(step("COMPLETED", 3),), notices=(notice(ONE, TWO, at=NOON + MINUTE),), **FRESH),
         POLICY, By.AVAILABILITY),
        (seen(same_since=NOON - 10 * MINUTE), POLICY, By.COUNT),
        (seen(steps=(step("DISCONTINUED", 9),)), POLICY, By.COUNT),
        (seen(steps=(step("COMPLETED"),)), POLICY, By.COUNT),
        (seen(stage=Stage.LATE), ALONE, By.COUNT),
        (seen(waits_since=NOON - 45 * MINUTE, same_since=NOON), POLICY, By.CEILING),
        (seen(waits_since=NOON - 45 * MINUTE, steps=(RUNNING,)), POLICY, By.CEILING),
        (seen(waits_since=NOON - 45 * MINUTE, steps=(step("COMPLETED", 3),)), POLICY, By.CEILING),
    ],
)  # fmt: skip
def test_each_row_that_completes(evidence: Evidence, policy: Policy, by: By) -> None:
    found = decide(evidence, policy, NOON)
    assert isinstance(found, Complete)
    assert found.by is by


@pytest.mark.parametrize(
    ("evidence", "reason", "minutes"),
    [
        (seen(steps=(RUNNING, OVER)), "images-step-in-progress", 25),
        (seen(stage=Stage.LATE, steps=(RUNNING,)), "images-step-in-progress", 25),
        (seen(steps=(step("COMPLETED", 3),)), "images-expected", 10),
        (seen(notices=(notice(ONE, THREE),)), "images-expected", 10),
        (seen(steps=(step("COMPLETED", 3),), notices=(notice(ONE, at=NOON - MINUTE),)), "images-expected", 10),
        (seen(same_since=NOON - 4 * MINUTE), "images-arriving", 6),
        (seen(arrived_at=NOON - MINUTE), "images-arriving", 9),
        (seen(waits_since=NOON - 44 * MINUTE, same_since=NOON), "images-arriving", 1),
        (seen(stage=Stage.LATE, steps=(OVER,), notices=(notice(ONE, TWO),), **FRESH), "images-arriving", 10),
    ],
)
def test_each_row_that_waits_and_until_when(evidence: Evidence, reason: str, minutes: int) -> None:
    found = decide(evidence, POLICY, NOON)
    assert isinstance(found, Incomplete)
    assert (found.reason, found.next_look) == (reason, NOON + minutes * MINUTE)


def test_ff14_a_list_with_one_too_many_waits_for_the_ceiling_and_one_too_few_is_a_hint() -> None:
    assert isinstance(decide(seen(steps=(step("COMPLETED", 3),), **FRESH), POLICY, NOON), Incomplete)
    later = seen(steps=(step("COMPLETED", 3),), waits_since=NOON - 45 * MINUTE)
    found = decide(later, POLICY, NOON)
    assert isinstance(found, Complete)
    assert "lacks images" in found.words, "why it had waited is said"
    assert isinstance(decide(seen(steps=(step("COMPLETED", 1),), **FRESH), POLICY, NOON), Complete)


SPANS = st.integers(0, 90).map(lambda n: n * MINUTE)
UIDS = st.frozensets(st.sampled_from([ONE, TWO, THREE]))
STEPS = st.lists(
    st.builds(
        PerformedStep,
        status=st.sampled_from(["IN PROGRESS", "COMPLETED", "DISCONTINUED"]),
        at=SPANS.map(lambda ago: NOON - ago),
        instances=st.integers(0, 3),
    ),
    max_size=3,
).map(tuple)
NOTICES = st.lists(UIDS.map(lambda held: notice(*held)), max_size=2).map(tuple)
EVIDENCE = st.builds(
    Evidence,
    stage=st.sampled_from([Stage.FIRST, Stage.LATE]),
    held=UIDS,
    same_since=SPANS.map(lambda ago: NOON - ago),
    waits_since=SPANS.map(lambda ago: NOON - ago),
    arrived_at=st.none() | SPANS.map(lambda ago: NOON - ago),
    said=st.builds(Said, steps=STEPS, notices=NOTICES),
)


def due(evidence: Evidence, now: datetime = NOON) -> datetime:
    """When it goes out if nothing else happens: now, or the next look."""
    found = decide(evidence, POLICY, now)
    return now if isinstance(found, Complete) else found.next_look


@given(EVIDENCE, SPANS)
def test_more_confirming_evidence_never_delays(evidence: Evidence, later: timedelta) -> None:
    before = decide(evidence, POLICY, NOON)
    said = evidence.said
    left = len(evidence.held) - sum(one.instances for one in evidence.completed)
    more = [replace(said, notices=(*said.notices, notice(*evidence.held)))] if evidence.held else []
    more += [replace(said, steps=(*said.steps, step("COMPLETED", left)))] if left > 0 else []
    for confirmed in more:
        assert due(replace(evidence, said=confirmed)) <= due(evidence)
    hurried = decide(replace(evidence, hurried_by="operator:ana"), POLICY, NOON)
    assert isinstance(hurried, Complete)
    if isinstance(before, Complete):
        assert isinstance(decide(evidence, POLICY, NOON + later), Complete), "time alone undoes nothing"


@given(EVIDENCE)
def test_nothing_goes_out_while_a_step_is_in_progress_before_the_ceiling(evidence: Evidence) -> None:
    said = replace(evidence.said, steps=(*evidence.said.steps, RUNNING))
    found = decide(replace(evidence, said=said), POLICY, NOON)
    is_over = evidence.waits_since + POLICY.ceiling <= NOON
    assert isinstance(found, Complete) is is_over
    assert not isinstance(found, Complete) or found.by is By.CEILING


@given(EVIDENCE)
def test_it_is_always_decided_by_the_ceiling(evidence: Evidence) -> None:
    at_the_end = evidence.waits_since + POLICY.ceiling
    assert isinstance(decide(evidence, POLICY, max(NOON, at_the_end)), Complete)
    found = decide(evidence, POLICY, NOON)
    assert isinstance(found, Complete) or NOON < found.next_look <= at_the_end


def test_every_row_is_said_in_words_of_its_own() -> None:
    assert len({row.words for row in TABLE}) == len(TABLE)
