"""From a published exam to an index that does not show it any more: real store, real index node, turned clock."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam
from indexer import withdrawal
from indexer.ledger import evidence_of
from indexer.timeline import ExamState, deciding_job, exam_state
from security.outbox import jobs
from security.outbox.states import State
from tests.contract.store_parts.engines import BOTH, fresh
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
SECOND = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9777")


@pytest.fixture(params=["xds", "mhd"])
async def w(request: pytest.FixtureRequest, tmp_path: Path):
    async with world(tmp_path, door=request.param) as made:
        yield made


async def publish(w: World, exam: LabExam = EXAM) -> None:
    w.pacs.hold(exam)
    await w.report(exam)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def add_images(w: World) -> None:
    """More images and a second report: the content changes."""
    w.pacs.hold(EXAM, instances=5)
    await w.report(SECOND)


async def ask(w: World) -> int:
    """Somebody asks for the exam's withdrawal."""
    now = w.clock.now()
    return await w.store.write(
        lambda tx: withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=STUDY, actor="operator", reason="wrong exam", now=now
        )
    )


async def state_of(w: World) -> ExamState:
    job = deciding_job(await w.jobs_of(STUDY))
    assert job is not None
    return exam_state(job)


async def kinds_noted(w: World) -> list[str]:
    return [e.kind for e in await w.store.read(lambda tx: evidence_of(tx, TENANT, STUDY))]


async def test_a_published_exam_is_withdrawn_and_people_see_it(w: World) -> None:
    await publish(w)
    await ask(w)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert await w.entries(EXAM) == []
    assert await state_of(w) is ExamState.WITHDRAWN
    assert (await kinds_noted(w))[-3:] == ["withdrawal-asked", "withdrawal-built", "withdrawn"]
    assert w.index.switches.counts[w.take_back] == 1


async def test_what_was_never_published_needs_no_withdrawal_and_no_request(w: World) -> None:
    await w.report(EXAM)
    await w.settle(rounds=3)
    await ask(w)
    await w.settle()
    first, last = await w.jobs_of(STUDY)
    assert (first.state, last.state, last.reason) == (State.SUPERSEDED, State.CANCELLED, "never-published")
    assert w.index.switches.counts == {}


async def test_i10_a_withdrawal_overrides_what_was_not_sent_yet(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=(w.provide,)))
    await add_images(w)
    await w.settle(rounds=2)
    await ask(w)
    w.index.switches.set()
    await w.settle()
    _, correction, last = await w.jobs_of(STUDY)
    assert (correction.state, last.state) == (State.SUPERSEDED, State.PUBLISHED)
    assert await w.entries(EXAM) == []


async def test_i10_a_withdrawal_passes_an_exam_that_is_held(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, name="SOMEBODY^ELSE")
    await w.report(SECOND)
    await w.settle()
    assert (await w.last(STUDY)).state is State.BLOCKED
    await ask(w)
    await w.settle()
    assert await w.entries(EXAM) == []


async def test_i10_what_is_refused_while_a_withdrawal_waits_gives_way_to_it(w: World) -> None:
    await publish(w)
    w.index.switches.set(
        Switch(name=Fault.DELAY, seconds=0.4, on=(w.provide,)),
        Switch(name=Fault.REFUSE, code="XDSPatientIdDoesNotMatch", on=(w.provide,)),
    )
    await add_images(w)
    await w.engine.step()
    sending = asyncio.create_task(w.engine.step())
    async with asyncio.timeout(5):
        while (await w.last(STUDY)).state is not State.SENT:
            await asyncio.sleep(0.01)
    await ask(w)
    await sending
    await w.settle()
    _, correction, last = await w.jobs_of(STUDY)
    assert (correction.state, last.state) == (State.SUPERSEDED, State.PUBLISHED)
    assert await w.entries(EXAM) == []


@pytest.mark.parametrize("fault", [Fault.COMMIT_THEN_RESET, Fault.HTML_MAINTENANCE, Fault.EMPTY_200, Fault.HTTP_503])
async def test_f07_an_ambiguous_answer_is_asked_about_before_anything_is_sent_again(w: World, fault: Fault) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=fault, seconds=1, on=(w.take_back,), times=1))
    await ask(w)
    await w.settle()
    assert await state_of(w) is ExamState.WITHDRAWN
    assert await w.entries(EXAM) == []
    assert w.index.switches.counts[w.take_back] == (1 if fault is Fault.COMMIT_THEN_RESET else 2)


async def test_i05_every_attempt_carries_the_same_bytes(w: World, monkeypatch) -> None:
    sent: list[bytes] = []
    true = w.client.update_status

    async def noting(change):
        sent.append(change.metadata)
        return await true(change)

    monkeypatch.setattr(w.client, "update_status", noting)
    await publish(w)
    w.index.switches.set(Switch(name=Fault.EMPTY_200, on=(w.take_back,), times=2))
    await ask(w)
    await w.settle()
    assert len(sent) == 3
    assert len(set(sent)) == 1
    assert await w.count("withdrawal") == 1


async def test_f09_an_index_that_shows_it_for_a_while_is_not_asked_twice(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=6))
    await ask(w)
    await w.settle(step_s=1.0)
    assert await state_of(w) is ExamState.WITHDRAWN
    assert w.index.switches.counts[w.take_back] == 1


async def test_ff54_an_index_that_does_not_answer_decides_nothing(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.HTML_MAINTENANCE, on=(w.query,)))
    await ask(w)
    await w.settle(rounds=8)
    waiting = await w.last(STUDY)
    assert waiting.state is State.SETTLING
    assert waiting.reason.startswith("index-")
    assert w.take_back not in w.index.switches.counts
    w.index.switches.set()
    await w.settle()
    assert await state_of(w) is ExamState.WITHDRAWN


async def test_ff22_a_version_that_landed_unseen_is_the_one_that_is_withdrawn(w: World) -> None:
    await publish(w)
    await add_images(w)
    w.index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=(w.provide,)))
    await w.engine.step()
    await w.engine.step()
    correction = await w.last(STUDY)
    assert correction.state is State.UNKNOWN
    await ask(w)
    w.index.switches.set()
    await w.settle()
    assert await state_of(w) is ExamState.WITHDRAWN
    assert "Approved" not in [status for _, status in await w.entries(EXAM)]


@pytest.mark.parametrize("engine", BOTH)
async def test_a_withdrawn_exam_may_be_published_again_as_a_new_one(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    async with world(tmp_path, place=fresh(engine, request).place) as w:
        await _there_and_back_twice(w)


async def _there_and_back_twice(w: World) -> None:
    await publish(w)
    await ask(w)
    await w.settle()
    await add_images(w)
    await w.settle()
    assert (await w.last(STUDY)).state is State.PUBLISHED
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    assert await state_of(w) is ExamState.INDEXED
    await ask(w)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert w.index.switches.counts[w.take_back] == 2


async def test_a_second_withdrawal_finds_nothing_to_do(w: World) -> None:
    await publish(w)
    await ask(w)
    await w.settle()
    await ask(w)
    await w.settle()
    assert (await w.last(STUDY)).reason == "never-published"
    assert await state_of(w) is ExamState.WITHDRAWN
    assert w.index.switches.counts[w.take_back] == 1


async def test_an_entry_somebody_else_replaced_is_for_a_person(w: World) -> None:
    await publish(w)
    await ask(w)

    async def deprecated(unique_id: str):
        found = await type(w.client).find_document(w.client, unique_id)
        return replace(found, status="Deprecated")

    w.client.find_document = deprecated
    await w.settle()
    assert (await w.last(STUDY)).reason == "entry-deprecated-by-others"
    assert w.take_back not in w.index.switches.counts


async def test_an_entry_that_lastingly_disappeared_counts_as_withdrawn(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.INVISIBLE, seconds=1e6))
    await ask(w)
    await w.settle(rounds=3)
    assert (await w.last(STUDY)).reason == "entry-missing"
    await w.settle()
    assert await state_of(w) is ExamState.WITHDRAWN
    assert w.take_back not in w.index.switches.counts


async def test_ff24_an_index_that_takes_it_and_never_hides_it_is_not_asked_for_ever(w: World, monkeypatch) -> None:
    await publish(w)
    found = await w.client.find_document((await w.entries(EXAM))[0][0])

    async def always(_unique_id: str):
        return found

    monkeypatch.setattr(w.client, "find_document", always)
    await ask(w)
    await w.settle(rounds=600, step_s=20.0)
    held = await w.last(STUDY)
    assert (held.state, held.reason) == (State.BLOCKED, "never-withdrawn")
    assert w.index.switches.counts[w.take_back] <= 10


async def test_a_refusal_for_good_waits_for_a_person(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.REFUSE, code="LocalPolicyRestrictionError", on=(w.take_back,)))
    await ask(w)
    await w.settle()
    dead = await w.last(STUDY)
    assert (dead.state, dead.reason) == (State.DEAD, "index-LocalPolicyRestrictionError")
    w.index.switches.set()
    now = w.clock.now()
    await w.store.write(lambda tx: jobs.lift(tx, tenant=TENANT, job_id=dead.job_id, now=now, actor="operator"))
    await w.settle()
    assert await w.entries(EXAM) == []
    assert await w.count("withdrawal") == 2


async def test_in_shadow_mode_the_index_hears_nothing_of_a_withdrawal(w: World) -> None:
    await publish(w)
    before = dict(w.index.switches.counts)
    w.restart("shadow")
    await ask(w)
    await w.settle(rounds=6)
    waiting = await w.last(STUDY)
    assert (waiting.state, waiting.reason) == (State.BLOCKED, "shadow-mode")
    assert dict(w.index.switches.counts) == before
    w.restart("live")
    now = w.clock.now()
    kind = withdrawal.job_kind(TENANT)
    assert await w.store.write(lambda tx: jobs.lift_reason(tx, kind=kind, reason="shadow-mode", now=now)) == 1
    await w.settle()
    assert await w.entries(EXAM) == []


@pytest.mark.parametrize("point", ["attempt-committed", "request-sent"])
async def test_f01_kill_in_the_middle_of_a_withdrawal_is_healed_by_a_restart(tmp_path: Path, point: str) -> None:
    async with world(tmp_path) as w:
        await publish(w)
        await ask(w)
        await w.store.close()
        command = [sys.executable, "-m", "tests.integration.withdrawal_child", str(tmp_path / "gateway.db")]
        command += [f"{w.index.url}/registry", f"{w.index.url}/repository", w.index.repository_unique_id]
        for environment, code in (({"POTERNE_CRASH_AT": point}, -9), ({}, 0)):
            child = await asyncio.create_subprocess_exec(
                *command,
                env=os.environ | environment,
                cwd=Path(__file__).parents[2],
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            async with asyncio.timeout(20):
                assert await child.wait() == code
        assert await w.entries(EXAM) == []
        sends = 2 if point == "attempt-committed" else 1
        assert w.index.switches.counts[w.take_back] <= sends
