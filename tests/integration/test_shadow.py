"""Shadow mode: everything but the sending, then for real, then back; nothing twice, nothing lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder
from indexer import timeline, withdrawal
from indexer.ledger import evidence_of
from indexer.publication import job_kind
from indexer.shadow import ShadowReport, shadow_report
from indexer.timeline import ExamState
from security.outbox import jobs
from security.outbox.states import State
from security.store.port import ReadTx
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
ARCS = "1.2.250.1.213.4.5.9"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        made.restart("shadow")
        yield made


def another(number: int) -> LabExam:
    order = LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}")
    return replace(EXAM, studies=(f"{ARCS}.2.{number}",), orders=(order,), document_id=f"{ARCS}.1.{number}")


async def go_live(w: World) -> int:
    """What a start in live mode does."""
    w.restart("live")
    return await w.store.write(
        lambda tx: jobs.lift_reason(tx, kind=job_kind(TENANT), reason=timeline.SHADOW, now=w.clock.now())
    )


async def exam(w: World, study: str = STUDY) -> timeline.Exam:
    def work(tx: ReadTx) -> timeline.Exam:
        return timeline.compose(
            study,
            evidence_of(tx, TENANT, study),
            jobs.lane_jobs(tx, tenant=TENANT, lane=study),
            jobs.lane_history(tx, tenant=TENANT, lane=study),
        )

    return await w.store.read(work)


def asked(w: World) -> int:
    return w.index.switches.counts.total()


async def report_of(w: World) -> ShadowReport:
    return await w.store.read(lambda tx: shadow_report(tx, TENANT, w.clock.now() - timedelta(days=1)))


async def test_in_shadow_mode_an_exam_is_made_ready_and_no_request_reaches_the_index(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    assert asked(w) == 0
    assert await w.count("manifest") == 1
    assert await w.count("outbox_attempt") == 0
    seen = await exam(w)
    assert (seen.state, seen.reason) == (ExamState.WAITING, "shadow-mode")
    assert seen.missing == timeline.MISSING["shadow-mode"]


async def test_in_shadow_mode_the_gate_holds_as_in_earnest(w: World) -> None:
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await w.report(EXAM)
    await w.settle()
    assert (await exam(w)).state is ExamState.HELD


async def test_going_live_settles_anew_and_sends_each_exam_once(w: World) -> None:
    w.pacs.hold(EXAM, instances=3)
    await w.report(EXAM)
    await w.settle()
    w.pacs.hold(EXAM, instances=5)
    assert await go_live(w) == 1
    await w.settle()
    assert (await exam(w)).state is ExamState.INDEXED
    assert w.index.switches.counts["ITI-41"] == 1
    rows = await w.store.read(lambda tx: tx.rows("SELECT version, instances FROM manifest ORDER BY version"))
    assert [tuple(row.values()) for row in rows] == [(1, 3), (2, 5)]
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]
    assert await go_live(w) == 0
    await w.settle()
    assert w.index.switches.counts["ITI-41"] == 1


async def test_going_live_asks_the_pacs_again_and_holds_what_disagrees_now(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await go_live(w)
    await w.settle()
    assert (await exam(w)).reason == "identity-name"
    assert w.index.switches.counts["ITI-41"] == 0


async def test_back_in_shadow_mode_a_new_version_waits_and_the_index_keeps_the_old_one(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    await go_live(w)
    await w.settle()
    before = asked(w)
    w.restart("shadow")
    w.pacs.hold(EXAM, instances=9)
    await w.report(replace(EXAM, document_id=f"{ARCS}.1.2", replaces=EXAM.document_id, version_number=2))
    await w.settle()
    assert asked(w) == before
    assert (await exam(w)).reason == "shadow-mode"
    await go_live(w)
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved", "Deprecated"] or [
        status for _, status in await w.entries(EXAM)
    ] == ["Deprecated", "Approved"]


async def test_in_shadow_mode_the_same_content_as_the_index_showed_last_is_not_made_again(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await go_live(w)
    await w.settle()
    before = asked(w)
    w.restart("shadow")
    await w.report(replace(EXAM, document_id=f"{ARCS}.1.2", replaces=EXAM.document_id, version_number=2))
    await w.settle()
    assert asked(w) == before
    assert await w.count("manifest") == 1
    assert (await exam(w)).state is ExamState.INDEXED


async def test_a_job_in_doubt_is_not_asked_after_in_shadow_mode_and_is_once_live(w: World) -> None:
    w.pacs.hold(EXAM)
    w.restart("live")
    w.index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=("ITI-41",), times=1))
    await w.report(EXAM)
    await w.engine.step()
    await w.engine.step()
    assert (await w.last(STUDY)).state is State.UNKNOWN
    before = asked(w)
    w.restart("shadow")
    await w.settle(rounds=5)
    assert asked(w) == before
    assert (await w.last(STUDY)).state is State.UNKNOWN
    await go_live(w)
    await w.settle()
    assert (await exam(w)).state is ExamState.INDEXED
    assert w.index.switches.counts["ITI-41"] == 1


async def test_a_prepared_job_does_not_leave_in_shadow_mode_and_goes_out_once_when_live(w: World) -> None:
    w.pacs.hold(EXAM)
    w.restart("live")
    await w.report(EXAM)
    await w.engine.step()
    assert (await w.last(STUDY)).state is State.READY
    w.restart("shadow")
    await w.settle()
    assert asked(w) == 0
    assert (await exam(w)).reason == "shadow-mode"
    await go_live(w)
    await w.settle()
    assert (await exam(w)).state is ExamState.INDEXED
    assert w.index.switches.counts["ITI-41"] == 1


async def test_the_shadow_report_says_what_would_have_gone_out_and_why_not_the_rest(w: World) -> None:
    ready, held, waiting = EXAM, another(2), another(3)
    w.pacs.hold(ready, instances=4)
    w.pacs.hold(held, name="REVENANT^ODETTE")
    for one in (ready, held, waiting):
        await w.report(one)
    await w.settle(rounds=6)
    told = await report_of(w)
    assert [one.study for one in told.ready] == [STUDY]
    assert (told.series, told.instances) == (1, 4)
    assert told.document_bytes == told.ready[0].document_bytes > 500
    assert 0 <= told.ready[0].seconds < 60
    assert told.held == {"identity-name": 1}
    assert told.waiting == {"pacs-has-no-such-study": 1}
    assert told.failed == {}


async def test_the_shadow_report_names_what_the_gate_warns_of_without_its_values(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.restart("shadow")
        w.pacs.hold(EXAM)
        w.pacs.hold(another(2))
        await w.report(another(2))
        patient = replace(EXAM.patient, ins=EXAM.patient.matricule, birthplace="75112")
        await w.report(replace(EXAM, patient=patient))
        await w.settle()
        warned = {one.study: one.warnings for one in (await report_of(w)).ready}
        assert warned[another(2).studies[0]] == ()
        assert len(warned[STUDY]) == 1
        assert "birthplace" in warned[STUDY][0]
        assert "75112" not in warned[STUDY][0]


async def test_what_changed_before_the_moment_is_not_in_the_shadow_report(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    w.clock.advance(2 * 86_400)
    assert (await report_of(w)).ready == ()


async def test_a_withdrawal_that_waits_is_not_told_as_an_exam_that_would_have_gone_out(w: World) -> None:
    w.pacs.hold(EXAM)
    w.restart("live")
    await w.report(EXAM)
    await w.settle()
    w.restart("shadow")
    await w.store.write(
        lambda tx: withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=STUDY, actor="Odile Garde", reason="asked by mail", now=w.clock.now()
        )
    )
    before = asked(w)
    await w.settle()
    told = await report_of(w)
    assert (told.ready, told.waiting) == ((), {"shadow-mode": 1})
    assert asked(w) == before
