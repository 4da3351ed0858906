"""The trial exam: the whole way there and back on a real store and a real index node, and for nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient
from indexer.gate import Rules
from indexer.ledger import evidence_of
from indexer.study import Absent, Found
from indexer.timeline import ExamState
from indexer.trial import Step, Trial, TrialSource, play, take_back
from security.errors import Refused
from security.identity import Ins, Uid
from security.outbox.states import State
from tests.contract.store_parts.engines import BOTH, fresh
from tests.support.world import TENANT, World, find_documents, trial_plan, world

PATIENT = LabPatient(birth_name="ESSAI-FANTÔME", first_given_name="TANTALE", rank=77)
CX = f"{PATIENT.matricule}^^^&{PATIENT.ins_oid}&ISO^NH"


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path, rules=Rules()) as made:
        yield made


def trial(w: World, **changes: object) -> Trial:
    return Trial(plan=trial_plan(w.policy, **changes), ledger=w.ledger)


async def start(w: World, **words: object) -> Uid:
    now = w.clock.now()
    return await w.store.write(lambda tx: trial(w).start(tx, actor="operator", now=now, **words))


async def withdraw(w: World, study: str) -> int:
    now = w.clock.now()
    return await w.store.write(lambda tx: trial(w).withdraw(tx, study, actor="operator", now=now))


async def shown(w: World) -> list[tuple[str, str]]:
    return await find_documents(f"{w.index.url}/registry", CX)


@contextlib.asynccontextmanager
async def running(w: World):
    """The engine at work, its clock running fast."""

    async def run() -> None:
        while True:
            await w.engine.step()
            w.clock.advance(0.5)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def all_of(steps) -> list[Step]:
    return [step async for step in steps]


@pytest.mark.parametrize("engine", BOTH)
async def test_a_trial_is_published_confirmed_and_withdrawn(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    async with world(tmp_path, rules=Rules(), place=fresh(engine, request).place) as w:
        async with running(w):
            steps = await all_of(play(trial(w), w.store, w.clock, actor="operator", poll_s=0.01))
        assert [step.what for step in steps] == ["started", "indexed", "withdrawal-asked", "withdrawn"]
        assert all(step.is_good for step in steps)
        assert await shown(w) == []
        assert w.pacs.asked == 0


async def test_a_trial_may_stay_until_somebody_takes_it_back(w: World) -> None:
    async with running(w):
        steps = await all_of(play(trial(w), w.store, w.clock, actor="operator", keep=True, poll_s=0.01))
        assert [step.what for step in steps] == ["started", "indexed"]
        assert [status for _, status in await shown(w)] == ["Approved"]
        back = await all_of(take_back(trial(w), w.store, w.clock, steps[0].study, actor="operator", poll_s=0.01))
    assert [step.what for step in back] == ["withdrawal-asked", "withdrawn"]
    assert await shown(w) == []


async def test_a_trial_says_in_every_row_that_it_is_one(w: World) -> None:
    study = await start(w)
    await w.settle()
    rows = await w.store.read(lambda tx: tx.rows("SELECT zone FROM exam WHERE study_uid = :study", study=study))
    assert [row["zone"] for row in rows] == ["trial"]
    facts = await w.store.read(lambda tx: evidence_of(tx, TENANT, study))
    assert facts[0].kind == "trial-started"
    assert "not for care" in facts[0].summary
    found = await TrialSource(plan=trial_plan(w.policy), store=w.store, ledger=w.ledger).find(study)
    assert isinstance(found, Found)
    assert "ESSAI" in found.study.description
    assert "PAS POUR LE SOIN" in found.study.series[0].description
    assert [len(one.instances) for one in found.study.series] == [1]


async def test_each_run_is_an_exam_of_its_own(w: World) -> None:
    first, second = await start(w), await start(w)
    await w.settle()
    assert first != second
    assert len(await shown(w)) == 2


async def test_the_trial_source_answers_for_no_other_study(w: World) -> None:
    await start(w)
    exam = LabExam()
    w.pacs.hold(exam)
    await w.report(exam)
    source = TrialSource(plan=trial_plan(w.policy), store=w.store, ledger=w.ledger)
    assert isinstance(await source.find(Uid(exam.studies[0])), Absent)
    assert isinstance(await source.find(Uid("2.25.1")), Absent)


async def test_the_door_for_trials_lets_no_real_exam_through(w: World) -> None:
    """A report of a test patient that came by message stays held, whatever trials ran before or beside it."""
    study = await start(w)
    await w.settle()
    exam = LabExam(patient=PATIENT, orders=(LabOrder(accession_number="ACN77"),))
    w.pacs.hold(exam)
    assert "MSA|AE" in await w.report(exam)
    await w.settle()
    held = await w.last(exam.studies[0])
    assert (held.state, held.reason) == (State.BLOCKED, "identity-test-authority")
    named = replace(exam, studies=(str(study),), document_id="1.2.250.1.213.4.5.9.1.9555")
    assert "MSA|AE" in await w.report(named)
    await w.settle()
    assert (await w.last(study)).state is State.BLOCKED
    assert len(await shown(w)) == 1


async def test_a_real_exam_is_never_asked_of_the_trial_source(tmp_path: Path) -> None:
    """What the PACS does not have is not there, though a trial of the same person is under way."""
    async with world(tmp_path) as w:
        study = await start(w)
        exam = LabExam(patient=PATIENT, orders=(LabOrder(accession_number="ACN78"),))
        assert "MSA|AA" in await w.report(exam)
        await w.settle(rounds=8)
        assert (await w.last(study)).state is State.PUBLISHED
        waiting = await w.last(exam.studies[0])
        assert (waiting.state, waiting.reason) == (State.SETTLING, "pacs-has-no-such-study")
        assert w.pacs.asked > 0
        assert len(await shown(w)) == 1


@pytest.mark.parametrize("oid", ["1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.9", "1.2.3"])
async def test_a_real_patient_is_refused_as_a_trial_patient(w: World, oid: str) -> None:
    plan = trial_plan(w.policy)
    assert plan.patient.ins is not None
    real = replace(plan.patient, ins=Ins(matricule=plan.patient.ins.matricule, oid=oid, status="VALI"))
    with pytest.raises(Refused) as caught:
        await w.store.write(lambda tx: trial(w, patient=real).start(tx, actor="operator", now=w.clock.now()))
    assert caught.value.code == "trial-real-patient"
    assert await w.count("outbox_job") == 0


async def test_the_identity_rules_hold_for_the_trial_patient_too(w: World) -> None:
    plan = trial_plan(w.policy)
    wrong = replace(plan.patient, traits=replace(plan.patient.traits, sex="M"))
    with pytest.raises(Refused) as caught:
        await w.store.write(lambda tx: trial(w, patient=wrong).start(tx, actor="operator", now=w.clock.now()))
    assert caught.value.code == "trial-patient"
    assert "identity-ins-digits" in str(caught.value)
    assert "TANTALE" not in str(caught.value)
    assert await w.count("report") == 0


async def test_in_shadow_mode_a_trial_is_refused_unless_it_is_said_aloud(w: World) -> None:
    w.restart("shadow")
    shadow = trial(w, mode="shadow")
    with pytest.raises(Refused) as caught:
        await w.store.write(lambda tx: shadow.start(tx, actor="operator", now=w.clock.now()))
    assert caught.value.code == "trial-shadow-mode"
    async with running(w):
        steps = await all_of(play(shadow, w.store, w.clock, actor="operator", send=True, poll_s=0.01))
    assert [step.what for step in steps] == ["started", "indexed", "withdrawal-asked", "withdrawn"]
    assert w.index.switches.counts["ITI-41"] == 1


async def test_only_a_trial_can_be_taken_back_this_way(w: World) -> None:
    exam = LabExam()
    await w.report(exam)
    with pytest.raises(Refused) as caught:
        await withdraw(w, exam.studies[0])
    assert caught.value.code == "unknown-trial"


async def test_a_trial_that_the_index_refuses_says_so_and_leaves_nothing_behind(w: World) -> None:
    w.index.switches.set(Switch(name=Fault.REFUSE, code="XDSUnknownPatientId", on=("ITI-41",)))
    async with running(w):
        steps = await all_of(play(trial(w), w.store, w.clock, actor="operator", poll_s=0.01))
    assert [(step.what, step.is_good) for step in steps] == [
        ("started", True),
        ("failed", False),
        ("withdrawal-asked", True),
        ("withdrawn", True),
    ]
    assert steps[1].reason == "index-XDSUnknownPatientId"
    assert await shown(w) == []


async def test_a_trial_that_gets_nowhere_ends_in_time_and_is_withdrawn_all_the_same(w: World) -> None:
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE))
    async with running(w):
        steps = await all_of(play(trial(w), w.store, w.clock, actor="operator", limit_s=30.0, poll_s=0.01))
        assert [step.what for step in steps] == ["started", "late", "withdrawal-asked", "late"]
        w.index.switches.set()
        study = steps[0].study
        async with asyncio.timeout(10):
            while not await w.store.read(lambda tx: trial(w).is_over(tx, study)):
                await asyncio.sleep(0.01)
    assert await shown(w) == []


async def test_f01_a_trial_survives_a_restart(w: World) -> None:
    study = await start(w)
    w.restart("live")
    await w.settle()
    exam = await w.store.read(lambda tx: trial(w).exam(tx, study))
    assert exam.state is ExamState.INDEXED
    await withdraw(w, study)
    w.restart("live")
    await w.settle()
    exam = await w.store.read(lambda tx: trial(w).exam(tx, study))
    assert exam.state is ExamState.WITHDRAWN


async def test_what_the_trial_publishes_names_the_test_patient_alone(w: World) -> None:
    await start(w)
    await w.settle()
    ((unique_id, _),) = await shown(w)
    kos = await w.client.retrieve_document(unique_id, w.index.repository_unique_id)
    assert b"ESSAI TECHNIQUE" in kos
    assert (PATIENT.matricule or "").encode() in kos
