"""Reconciliation: PACS × ledger × index, on a real store, a real index node and a turned clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, build_adt_identity
from indexer import exams, exclusion, withdrawal
from indexer.ports import EntryFound
from indexer.reconciliation import rows
from indexer.reconciliation.round import Bounds, Reconciler, Report
from indexer.reconciliation.rows import Window
from indexer.study import Unknown
from indexer.timeline import ExamState
from security.identity import Uid
from security.outbox.port import JobClass
from security.outbox.states import State
from tests.support.reconciling import Calendar, lab_exam, reconciler_of, restored, snapshot
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
HOUR = 3600.0


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


async def publish(w: World, exam: LabExam = EXAM, *, instances: int = 3) -> None:
    w.pacs.hold(exam, instances=instances)
    await w.report(exam)
    await w.settle()
    assert (await w.last(exam.studies[0])).state is State.PUBLISHED


async def everything(w: World) -> list[int]:
    tables = ("outbox_job", "evidence", "manifest", "entry", "report", "withdrawal", "audit_record")
    return [await w.count(table) for table in tables]


async def unchanged_by_a_second_run(w: World, reconciler: Reconciler) -> Report:
    """I19."""
    before = await everything(w)
    again = await reconciler.run(None)
    assert again.changed == 0
    assert await everything(w) == before
    return again


async def test_an_exam_on_which_all_three_agree_costs_one_question_each_and_changes_nothing(w: World) -> None:
    await publish(w)
    found = await unchanged_by_a_second_run(w, reconciler_of(w))
    assert found.counts == {"in-step": 1}
    assert found.asked == {"pacs": 1, "index": 1}


async def test_ff16_a_study_that_grew_unseen_is_replaced_and_the_second_run_changes_nothing(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=5)
    reconciler = reconciler_of(w)
    found = await reconciler.run(None)
    assert (found.counts["content-differs"], found.changed) == (1, 1)
    assert (await w.last(STUDY)).job_class is JobClass.P2
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Deprecated", "Approved"]
    assert (await unchanged_by_a_second_run(w, reconciler)).counts == {"in-step": 1}


async def test_ff16_one_of_three_series_gone_unannounced_is_replaced_and_all_gone_is_withdrawn(w: World) -> None:
    held = w.pacs.hold(EXAM)
    three = tuple(
        replace(
            held.series[0],
            uid=Uid(f"{STUDY}.{number}"),
            instances=tuple(
                replace(one, sop_instance=Uid(f"{STUDY}.{number}.{one.number}")) for one in held.series[0].instances
            ),
        )
        for number in (1, 2, 3)
    )
    w.pacs.studies[Uid(STUDY)] = replace(held, series=three)
    await w.report(EXAM)
    await w.settle()
    w.pacs.studies[Uid(STUDY)] = replace(held, series=three[:2])
    reconciler = reconciler_of(w)
    assert (await reconciler.run(None)).changed == 1
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Deprecated", "Approved"]
    shown = await w.store.read(lambda tx: w.ledger.manifest_at(tx, TENANT, STUDY, 2))
    assert shown is not None
    assert [one.uid for one in shown[0].series] == [f"{STUDY}.1", f"{STUDY}.2"]
    del w.pacs.studies[Uid(STUDY)]
    await reconciler.run(None)
    w.clock.advance(HOUR + 60)
    await reconciler.run(None)
    await w.settle()
    assert "Approved" not in [status for _, status in await w.entries(EXAM)]


async def test_ff16_gone_from_the_pacs_is_withdrawn_after_two_absences_an_hour_apart(w: World) -> None:
    await publish(w)
    del w.pacs.studies[STUDY]
    reconciler = reconciler_of(w)
    assert (await reconciler.run(None)).counts["absent-once"] == 1
    w.clock.advance(HOUR - 60)
    assert (await reconciler.run(None)).counts["absent-too-soon"] == 1
    assert await w.entries(EXAM) != []
    w.clock.advance(120)
    assert (await reconciler.run(None)).counts["absent-twice"] == 1
    assert (await w.last(STUDY)).job_class is JobClass.P0
    await w.settle()
    assert await w.entries(EXAM) == []
    assert (await unchanged_by_a_second_run(w, reconciler)).counts["withdrawn"] == 1


async def test_i19_an_exam_that_a_person_took_out_before_it_was_ever_shown_is_no_work_of_any_night(w: World) -> None:
    await w.report(EXAM)
    now = w.clock.now()
    await w.store.write(
        lambda tx: exclusion.withdraw(tx, w.admission, STUDY, actor="operator:ana", reason="wrong exam", now=now)
    )
    w.pacs.hold(EXAM)
    await w.settle()
    reconciler = reconciler_of(w)
    for _ in range(2):
        found = await unchanged_by_a_second_run(w, reconciler)
        assert found.counts == {"kept-out": 1, "in-step": 0}
        w.clock.advance(25 * HOUR)


async def test_ff28_an_exam_whose_patient_the_register_merged_is_in_step_and_no_night_replaces_it(w: World) -> None:
    """The night reads the patient as whoever publishes does, else it finds another content night after night."""
    await publish(w)
    twin = replace(EXAM.patient, ipp="IPP-TWIN")
    sent_at = w.clock.now().strftime("%Y%m%d%H%M%S%z")
    merged = build_adt_identity(twin, event="A40", prior=EXAM.patient, sent_at=sent_at, control_id="M1")
    assert "MSA|AA|" in await w.raw(merged)
    await w.settle()
    assert (await unchanged_by_a_second_run(w, reconciler_of(w))).counts == {"in-step": 1}


async def test_an_exam_seen_again_between_two_absences_begins_anew(w: World) -> None:
    await publish(w)
    held = w.pacs.studies.pop(Uid(STUDY))
    reconciler = reconciler_of(w)
    await reconciler.run(None)
    w.pacs.studies[STUDY] = held
    w.clock.advance(HOUR)
    await reconciler.run(None)
    del w.pacs.studies[STUDY]
    w.clock.advance(HOUR)
    assert (await reconciler.run(None)).counts["absent-once"] == 1


async def test_ff54_a_pacs_that_does_not_answer_withdraws_nothing_however_long(w: World) -> None:
    await publish(w)
    w.pacs.answer = Unknown(reason="unreachable", detail="nobody answers")
    reconciler = reconciler_of(w)
    for _ in range(3):
        assert (await reconciler.run(None)).counts["pacs-unknown"] == 1
        w.clock.advance(2 * HOUR)
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_ff54_an_absence_between_two_silences_is_remembered_and_still_needs_its_second(w: World) -> None:
    await publish(w)
    held = w.pacs.studies.pop(Uid(STUDY))
    reconciler = reconciler_of(w)
    await reconciler.run(None)
    w.pacs.answer = Unknown(reason="unreachable", detail="nobody answers")
    w.clock.advance(2 * HOUR)
    assert (await reconciler.run(None)).counts["pacs-unknown"] == 1
    w.pacs.answer, w.pacs.studies[STUDY] = None, held
    assert (await reconciler.run(None)).counts == {"in-step": 1}


async def test_an_absence_from_a_pacs_without_control_study_proves_nothing(w: World) -> None:
    await publish(w)
    del w.pacs.studies[STUDY]
    w.pacs.is_proven = False
    reconciler = reconciler_of(w)
    for _ in range(2):
        assert (await reconciler.run(None)).counts["pacs-unproven"] == 1
        w.clock.advance(2 * HOUR)
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_an_index_that_does_not_answer_changes_nothing(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=5)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE))
    found = await reconciler_of(w).run(None)
    assert (found.counts["index-unknown"], found.changed) == (1, 0)


async def test_more_withdrawals_than_a_person_let_withdraw_nothing_and_stop(w: World) -> None:
    exams = [lab_exam(n) for n in range(1, 5)]
    for exam in exams:
        await publish(w, exam)
    for exam in exams[:3]:
        del w.pacs.studies[exam.studies[0]]
    reconciler = reconciler_of(w, bounds=Bounds(number_max=2, share_max=1.0))
    await reconciler.run(None)
    w.clock.advance(HOUR + 1)
    before = await everything(w)
    stopped = await reconciler.run(None)
    assert (stopped.state, stopped.counts["absent-twice"], stopped.changed) == ("stopped", 3, 0)
    assert await everything(w) == before
    accepted = await reconciler.run(None, withdraw_up_to=3)
    assert (accepted.state, accepted.changed) == ("done", 3)
    await w.settle()
    assert [len(await w.entries(exam)) for exam in exams] == [0, 0, 0, 1]


async def test_a_share_of_all_exams_is_a_mass_withdrawal_too(w: World) -> None:
    exams = [lab_exam(n) for n in range(1, 5)]
    for exam in exams:
        await publish(w, exam)
    w.pacs.studies.clear()
    reconciler = reconciler_of(w, bounds=Bounds(number_max=100, share_max=0.5))
    await reconciler.run(None)
    w.clock.advance(HOUR + 1)
    assert (await reconciler.run(None)).state == "stopped"


async def test_a_run_that_was_cut_short_goes_on_where_it_stopped(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    exams = [lab_exam(n) for n in range(1, 6)]
    for exam in exams:
        await publish(w, exam)
    monkeypatch.setattr("indexer.reconciliation.round.BATCH", 2)
    reconciler = reconciler_of(w)

    class Cut(Exception):
        pass

    def cut(told: str) -> None:
        if told == "4":
            raise Cut

    with pytest.raises(Cut):
        await reconciler.run(None, progress=cut)
    found = await reconciler_of(w).run(None)
    assert (found.looked_at, found.counts, found.asked) == (5, {"in-step": 5}, {"pacs": 1, "index": 1})


async def test_a_window_lists_what_the_pacs_holds_and_no_report_speaks_of(w: World) -> None:
    await publish(w)
    w.pacs.hold(lab_exam(7))
    window = Window(first=date(2026, 1, 8), last=date(2026, 1, 8))
    found = await reconciler_of(w).run(window)
    assert found.counts == {"without-report": 1, "in-step": 1}
    assert found.asked == {"pacs": 3 + 1, "index": 1}  # the day, its neighbours, and one exam
    other = await reconciler_of(w).run(Window(first=date(2025, 1, 8), last=date(2025, 1, 8)))
    assert (other.looked_at, other.counts) == (0, {"in-step": 0})


async def test_ff16_an_old_exam_that_drifted_is_found_by_night_once_it_was_not_looked_at_for_long(w: World) -> None:
    await publish(w)
    reconciler, month = reconciler_of(w), timedelta(days=30)
    assert (await reconciler.run(None)).looked_at == 1
    w.pacs.hold(EXAM, instances=5)
    tonight = Window(first=date(2026, 5, 1), last=date(2026, 5, 7))  # the exam is of January
    w.clock.advance(29 * 86_400)
    assert (await reconciler.run(tonight, unseen_for=month)).looked_at == 0
    w.clock.advance(2 * 86_400)
    assert (await reconciler.run(tonight)).looked_at == 0  # a person asked for these days alone
    w.pacs.answer = Unknown(reason="unreachable", detail="no route")
    silent = await reconciler.run(tonight, unseen_for=month)
    assert (silent.looked_at, silent.changed) == (1, 0)
    w.pacs.answer = None
    found = await reconciler.run(tonight, unseen_for=month)
    assert (found.counts["content-differs"], found.changed) == (1, 1)
    await w.settle()
    assert (await reconciler.run(tonight, unseen_for=month)).looked_at == 0


async def test_a_day_the_pacs_does_not_list_is_named_and_nothing_is_concluded(w: World) -> None:
    await publish(w)
    reconciler = reconciler_of(w)
    reconciler._calendars = [Calendar(w.pacs, is_silent=True)]
    found = await reconciler.run(Window(first=date(2026, 1, 8), last=date(2026, 1, 8)))
    assert found.counts == {"day-unknown": 3, "in-step": 1}


async def test_what_runs_found_is_forgotten_by_age_and_by_number_the_newest_never(w: World) -> None:
    w.pacs.hold(lab_exam(7))  # each run lists it as without report
    window = Window(first=date(2026, 1, 8), last=date(2026, 1, 8))
    reconciler = reconciler_of(w, bounds=Bounds(share_max=1.0, kept=timedelta(days=10), runs_max=3))
    for _ in range(5):
        await reconciler.run(window)
        w.clock.advance(HOUR)
    assert (await w.count("reconciliation"), await w.count("drift")) == (3, 3)
    w.clock.advance(11 * 24 * HOUR)
    await reconciler.run(window)
    assert (await w.count("reconciliation"), await w.count("drift")) == (1, 1)


def second(exam: LabExam, number: int = 1) -> LabExam:
    """A further report about the exam."""
    return replace(exam, document_id=f"{exam.document_id}.{number}")


async def withdraw(w: World, exam: LabExam) -> None:
    now, study = w.clock.now(), exam.studies[0]
    await w.store.write(
        lambda tx: withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=study, actor="operator", reason="wrong exam", now=now
        )
    )
    await w.settle()


def copy_of(w: World, folder: Path) -> Path:
    snapshot(folder / "gateway.db", folder / "copy.db")
    return folder / "copy.db"


async def test_f22_ff22_a_version_published_after_the_backup_is_adopted_under_its_own_number(
    w: World, tmp_path: Path
) -> None:
    await publish(w)
    copy = copy_of(w, tmp_path)
    w.pacs.hold(EXAM, instances=5)
    reconciler = reconciler_of(w)
    await reconciler.run(None)
    await w.settle()
    async with restored(w, copy, tmp_path) as again:
        reconciler = reconciler_of(again)
        found = await reconciler.run(None)
        assert (found.counts["entry-adopted"], found.changed) == (1, 1)
        await unchanged_by_a_second_run(again, reconciler)
        again.pacs.hold(EXAM, instances=6)
        await reconciler.run(None)
        await again.settle()
        assert [status for _, status in await again.entries(EXAM)] == ["Deprecated", "Deprecated", "Approved"]
        versions = await again.store.read(lambda tx: sorted(rows.known_uids(tx, TENANT, STUDY).values()))
        assert versions == [1, 2, 3]


async def test_f22_a_forgotten_entry_of_other_content_is_adopted_and_then_replaced(w: World, tmp_path: Path) -> None:
    await publish(w)
    copy = copy_of(w, tmp_path)
    w.pacs.hold(EXAM, instances=5)
    await w.report(second(EXAM))
    await w.settle()
    async with restored(w, copy, tmp_path) as again:
        again.pacs.hold(EXAM, instances=6)
        found = await reconciler_of(again).run(None)
        assert (found.counts["entry-adopted"], found.counts["content-differs"]) == (1, 1)
        await again.settle()
        assert [status for _, status in await again.entries(EXAM)] == ["Deprecated", "Deprecated", "Approved"]


async def test_f22_a_forgotten_entry_that_the_pacs_cannot_explain_is_waited_for(w: World, tmp_path: Path) -> None:
    copy = copy_of(w, tmp_path)
    await publish(w)
    async with restored(w, copy, tmp_path) as again:
        reconciler_of(again)
        again.pacs.answer = Unknown(reason="unreachable", detail="nobody answers")
        await again.report(EXAM)
        await again.settle(rounds=5)
        assert (await again.last(STUDY)).reason == "adoption-waits"
        again.pacs.answer = None
        await again.settle()
        assert [status for _, status in await again.entries(EXAM)] == ["Approved"]


async def test_f22_what_was_adopted_can_be_withdrawn(w: World, tmp_path: Path) -> None:
    await publish(w)
    copy = copy_of(w, tmp_path)
    w.pacs.hold(EXAM, instances=5)
    await w.report(second(EXAM))
    await w.settle()
    async with restored(w, copy, tmp_path) as again:
        reconciler_of(again)
        await withdraw(again, EXAM)  # the kind itself adopts before it settles
        assert [status for _, status in await again.entries(EXAM)] == ["Deprecated"]  # the first version, replaced


async def test_f22_an_exam_that_the_backup_never_knew_is_adopted_when_its_report_comes_again(
    w: World, tmp_path: Path
) -> None:
    copy = copy_of(w, tmp_path)
    await publish(w)
    async with restored(w, copy, tmp_path) as again:
        reconciler = reconciler_of(again)
        window = Window(first=date(2026, 1, 8), last=date(2026, 1, 8))
        assert (await reconciler.run(window)).counts["without-report"] == 1
        await again.report(EXAM)
        await again.settle()
        assert (await again.last(STUDY)).state is State.PUBLISHED
        listed = await again.store.read(lambda tx: exams.find(tx, exams.Wanted(tenant=TENANT)).lines)
        assert [(one.study, one.state) for one in listed] == [(STUDY, ExamState.INDEXED)]
        assert [status for _, status in await again.entries(EXAM)] == ["Approved"]
        assert (await unchanged_by_a_second_run(again, reconciler)).counts == {"in-step": 1}


async def test_f22_withdrawn_after_the_backup_stays_withdrawn_until_another_report(w: World, tmp_path: Path) -> None:
    await publish(w)
    copy = copy_of(w, tmp_path)
    await withdraw(w, EXAM)
    async with restored(w, copy, tmp_path) as again:
        reconciler = reconciler_of(again)
        assert (await reconciler.run(None)).counts["withdrawal-adopted"] == 1
        await unchanged_by_a_second_run(again, reconciler)
        again.pacs.hold(EXAM, instances=9)
        await reconciler.run(None)
        await again.settle()
        assert await again.entries(EXAM) == []
        await again.report(replace(second(EXAM), replaces=EXAM.document_id))
        await again.settle()
        assert [status for _, status in await again.entries(EXAM)] == ["Approved"]


async def test_f22_withdrawn_after_the_backup_and_its_report_sent_again_is_held(w: World, tmp_path: Path) -> None:
    copy = copy_of(w, tmp_path)
    await publish(w)
    await withdraw(w, EXAM)
    async with restored(w, copy, tmp_path) as again:
        reconciler_of(again)
        await again.report(EXAM)
        await again.settle()
        assert await again.entries(EXAM) == []
        assert (await again.last(STUDY)).reason == "withdrawn-elsewhere"


async def test_f22_after_a_restore_nothing_is_published_while_the_index_cannot_be_searched(
    w: World, tmp_path: Path
) -> None:
    copy = copy_of(w, tmp_path)
    await publish(w)
    async with restored(w, copy, tmp_path) as again:
        reconciler_of(again)
        again.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-18",)))
        await again.report(EXAM)
        await again.settle(rounds=5)
        assert (await again.last(STUDY)).reason == "index-unknown"
        assert again.index.switches.counts["ITI-41"] == 1


@pytest.mark.parametrize("other", [{"device_id": "another-box"}, {"institution_id": "222222222"}])
async def test_f22_another_sources_manifest_of_the_study_is_neither_adopted_nor_replaced_nor_withdrawn(
    w: World, tmp_path: Path, other: dict[str, str]
) -> None:
    copy = copy_of(w, tmp_path)
    theirs = replace(w.policy, publisher=replace(w.policy.publisher, **other))
    ours, w.policy = w.policy, theirs
    w.restart("live")
    await publish(w, instances=5)
    ((foreign, _),) = await w.entries(EXAM)
    async with restored(w, copy, tmp_path) as again:
        again.policy = ours
        again.pacs.hold(EXAM, instances=3)
        reconciler = reconciler_of(again)
        await again.report(EXAM)
        await again.settle()
        own = await again.store.read(lambda tx: rows.known_uids(tx, TENANT, STUDY))
        assert list(own.values()) == [1]
        assert await again.entries(EXAM) == [(foreign, "Approved"), (next(iter(own)), "Approved")]
        assert (await unchanged_by_a_second_run(again, reconciler)).counts == {"in-step": 1}
        again.pacs.hold(EXAM, instances=4)
        await reconciler.run(None)
        await again.settle()
        await withdraw(again, EXAM)
        left = dict(await again.entries(EXAM))
        assert [uid for uid, status in left.items() if status == "Approved"] == [foreign]


# -- what stood ready when the backup was made ---------------------------------------------------------------------


async def ready(w: World, exam: LabExam = EXAM) -> None:
    """Reported and prepared, its bytes stored, nothing sent."""
    w.pacs.hold(exam)
    await w.report(exam)
    await w.engine.step()
    assert (await w.last(exam.studies[0])).state is State.READY


@pytest.mark.parametrize("door", ["xds", "mhd"])
async def test_f22_i09_what_stood_ready_and_was_sent_since_is_found_and_not_sent_again(
    tmp_path: Path, door: str
) -> None:
    async with world(tmp_path, door=door) as w:
        await ready(w)
        copy = copy_of(w, tmp_path)
        await w.settle()
        async with restored(w, copy, tmp_path) as again:
            reconciler_of(again)
            assert (await again.last(STUDY)).state is State.UNKNOWN
            await again.settle()
            assert (await again.last(STUDY)).state is State.PUBLISHED
            assert again.index.switches.counts[again.provide] == 1
            assert [status for _, status in await again.entries(EXAM)] == ["Approved"]


async def test_f22_what_stood_ready_and_never_left_goes_out_once_the_index_is_sure(w: World, tmp_path: Path) -> None:
    await ready(w)
    async with restored(w, copy_of(w, tmp_path), tmp_path) as again:
        reconciler_of(again)
        await again.settle()
        assert (await again.last(STUDY)).state is State.PUBLISHED
        assert again.index.switches.counts["ITI-41"] == 1
        assert [status for _, status in await again.entries(EXAM)] == ["Approved"]


@pytest.mark.parametrize("was_sent", [True, False])
async def test_f22_what_stood_ready_is_not_sent_when_the_index_holds_what_came_after_it(
    w: World, tmp_path: Path, was_sent: bool
) -> None:
    await ready(w)
    copy = copy_of(w, tmp_path)
    if was_sent:
        await w.settle()
    w.pacs.hold(EXAM, instances=5)
    await w.report(second(EXAM))  # takes the place of what was not sent
    await w.settle()
    before = await w.entries(EXAM)
    async with restored(w, copy, tmp_path) as again:
        reconciler = reconciler_of(again)
        await again.settle()
        assert [job.state for job in await again.jobs_of(STUDY)] == [
            State.SUPERSEDED,
            State.PUBLISHED,
        ]  # adopted, so it is listed as indexed
        assert await again.entries(EXAM) == before
        assert again.index.switches.counts["ITI-41"] == 1 + was_sent
        await again.report(second(EXAM))
        await again.settle()
        assert (await unchanged_by_a_second_run(again, reconciler)).counts == {"in-step": 1}


async def test_f22_what_stood_ready_and_was_withdrawn_since_stays_withdrawn(w: World, tmp_path: Path) -> None:
    await ready(w)
    copy = copy_of(w, tmp_path)
    await w.settle()
    await withdraw(w, EXAM)
    async with restored(w, copy, tmp_path) as again:
        reconciler = reconciler_of(again)
        await again.settle()
        await reconciler.run(None)
        await again.settle()
        assert await again.entries(EXAM) == []
        assert again.index.switches.counts["ITI-41"] == 1


async def test_f22_a_withdrawal_that_stood_ready_takes_out_what_was_published_since(w: World, tmp_path: Path) -> None:
    await publish(w)
    now = w.clock.now()
    await w.store.write(
        lambda tx: withdrawal.request(
            tx, w.ledger, tenant=TENANT, study=STUDY, actor="operator", reason="wrong exam", now=now
        )
    )
    await w.engine.step()
    assert (await w.last(STUDY)).state is State.READY
    copy = copy_of(w, tmp_path)
    await w.settle()
    w.pacs.hold(EXAM, instances=5)
    await w.report(second(EXAM))
    await w.settle()
    assert len(await w.entries(EXAM)) == 1
    async with restored(w, copy, tmp_path) as again:
        reconciler_of(again)
        await again.settle()
        assert await again.entries(EXAM) == []


async def test_f22_by_mhd_a_version_published_after_the_backup_is_found_by_patient_and_study_and_adopted(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, door="mhd") as w:
        await publish(w)
        copy = copy_of(w, tmp_path)
        w.pacs.hold(EXAM, instances=5)
        await reconciler_of(w).run(None)
        await w.settle()
        before = await w.entries(EXAM)
        async with restored(w, copy, tmp_path) as again:
            reconciler = reconciler_of(again)
            found = await reconciler.run(None)
            assert (found.counts["entry-adopted"], found.changed) == (1, 1)
            await unchanged_by_a_second_run(again, reconciler)
            assert await again.entries(EXAM) == before
            await withdraw(again, EXAM)
            assert "Approved" not in {status for _, status in await again.entries(EXAM)}


def of_one_patient(number: int) -> LabExam:
    """One exam of the same invented patient."""
    return replace(lab_exam(number), patient=EXAM.patient)


@pytest.mark.parametrize(
    ("door", "exam", "asked"),
    [("xds", lab_exam, 4), ("xds", of_one_patient, 1), ("mhd", lab_exam, 1), ("mhd", of_one_patient, 1)],
)
async def test_the_index_is_asked_for_many_exams_at_once_by_xds_for_those_of_one_patient(
    tmp_path: Path, door: str, exam: Callable[[int], LabExam], asked: int
) -> None:
    async with world(tmp_path, door=door) as w:
        for number in range(1, 5):
            await publish(w, exam(number))
        found = await unchanged_by_a_second_run(w, reconciler_of(w))
        assert (found.counts, found.asked) == ({"in-step": 4}, {"pacs": 4, "index": asked})


async def test_what_a_list_of_documents_leaves_out_is_asked_for_alone_before_it_counts_as_missing(w: World) -> None:
    for number in range(1, 4):
        await publish(w, of_one_patient(number))
    reconciler = reconciler_of(w)
    whole = w.client.find_documents

    async def first_only(unique_ids):  # a registry that reads a list no further than its first value
        return await whole(unique_ids[:1])

    w.client.find_documents = first_only
    found = await reconciler.run(None)
    assert (found.counts, found.asked["index"]) == ({"in-step": 3}, 1 + 2)


def hiding_more(exam: LabExam) -> LabExam:
    """Its report again, now hidden from professionals."""
    flags = {**exam.flags, "MASQUE_PS": "Y", "MODIF_CONF_CODE": "Y"}
    return replace(exam, document_id=f"{exam.document_id}.1", replaces=exam.document_id, flags=flags)


async def hidden_from_professionals(w: World, exams: Sequence[LabExam]) -> int:
    """Of how many the index says so, by what it answers for the entry it approves."""
    hidden = 0
    for exam in exams:
        shown = [uid for uid, status in await w.entries(exam) if status == "Approved"]
        entries = [await w.client.find_document(uid) for uid in shown]
        hidden += bool(entries) and all(
            isinstance(one, EntryFound) and "MASQUE_PS" in (one.codes or ()) for one in entries
        )
    return hidden


async def drill(w: World, folder: Path, *, exams: int, later: int) -> dict[str, float]:
    """``exams`` published, a copy, ``later`` events of four sorts, the copy restored, reconciled, the reports of the
    lost time sent again. Returns what it found, each counted at the index."""
    first = [lab_exam(n) for n in range(exams)]
    for exam in first:
        w.pacs.hold(exam)
        await w.report(exam)
    await w.settle(rounds=5 * exams)
    copy = copy_of(w, folder)
    part = later // 4
    fresh = [lab_exam(exams + n) for n in range(later - 3 * part)]
    grown, gone, masked = first[:part], first[part : 2 * part], first[2 * part : 3 * part]
    for exam in fresh:
        w.pacs.hold(exam)
        await w.report(exam)
    for exam in grown:
        w.pacs.hold(exam, instances=5)
        await w.report(second(exam))
    for exam in masked:
        await w.report(hiding_more(exam))
    now = w.clock.now()
    for exam in gone:
        study = exam.studies[0]
        await w.store.write(
            lambda tx, study=study: withdrawal.request(
                tx, w.ledger, tenant=TENANT, study=study, actor="operator", reason="wrong", now=now
            )
        )
    await w.settle(rounds=5 * (exams + later))
    async with restored(w, copy, folder) as again:
        reconciler = reconciler_of(again)
        began = time.perf_counter()
        found = await reconciler.run(Window(first=date(2026, 1, 8), last=date(2026, 1, 8)))
        await again.settle(rounds=5 * (exams + later))
        seconds = time.perf_counter() - began
        assert found.state == "done"
        assert found.counts["without-report"] == len(fresh)
        opened = len(masked) - await hidden_from_professionals(again, masked)
        for exam in fresh:  # what the database never saw: the RIS sends its last day again
            await again.report(exam)
        for exam in grown:
            await again.report(second(exam))
        for exam in masked:
            await again.report(hiding_more(exam))
        await again.settle(rounds=5 * (exams + later))
        opened = max(opened, len(masked) - await hidden_from_professionals(again, masked))
        await unchanged_by_a_second_run(again, reconciler)
        wanted = [exam for exam in (*first, *fresh) if exam not in gone]
        approved = {
            exam.studies[0]: [status for _, status in await again.entries(exam)].count("Approved")
            for exam in (*first, *fresh)
        }
        indexed = {
            exam.studies[0]
            for exam in wanted
            if (newest := await again.store.read(lambda tx, e=exam: rows.newest_status(tx, TENANT, e.studies[0])))
            and newest[2] == "Approved"
        }
        return {
            "missing": sum(approved[exam.studies[0]] == 0 or exam.studies[0] not in indexed for exam in wanted),
            "duplicate": sum(number > 1 for number in approved.values()),
            "withdrawn by mistake": sum(approved[exam.studies[0]] == 0 for exam in wanted),
            "back after withdrawal": sum(approved[exam.studies[0]] > 0 for exam in gone),
            "shown to whom they were hidden from": opened,
            "seconds": seconds,
        }


NOTHING_LOST = {
    "missing": 0,
    "duplicate": 0,
    "withdrawn by mistake": 0,
    "back after withdrawal": 0,
    "shown to whom they were hidden from": 0,
}


async def test_f22_restore_drill(w: World, tmp_path: Path) -> None:
    found = await drill(w, tmp_path, exams=20, later=12)
    print(f"\nrestore drill, 20 exams and 12 events: {found}")
    assert {name: found[name] for name in NOTHING_LOST} == NOTHING_LOST


@pytest.mark.full
@pytest.mark.timeout(900)
async def test_f22_restore_drill_of_500_exams_and_200_events(w: World, tmp_path: Path) -> None:
    found = await drill(w, tmp_path, exams=500, later=200)
    print(f"\nrestore drill, 500 exams and 200 events: {found}")
    assert {name: found[name] for name in NOTHING_LOST} == NOTHING_LOST
