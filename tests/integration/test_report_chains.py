"""Reports that replace each other in any order: one is left, and none is lost or swallows somebody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import permutations
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam, LabPatient, build_adt_consent
from tests.integration.test_messages import OTHER, said
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
FIRST, SECOND, THIRD = (f"1.2.250.1.213.4.5.9.1.{number}" for number in (9001, 9002, 9003))
CHAIN = (
    EXAM,
    replace(EXAM, document_id=SECOND, replaces=FIRST),
    replace(EXAM, document_id=THIRD, replaces=SECOND),
)


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def standing(w: World, report_id: str) -> str:
    known = await w.store.read(lambda tx: w.ledger.report(tx, TENANT, report_id))
    assert known is not None
    return known[0].status


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_of_a_chain_of_corrections_the_last_is_left_in_any_order_of_arrival(
    w: World, order: tuple[int, ...]
) -> None:
    w.pacs.hold(EXAM)
    for number in order:
        one = CHAIN[number]
        assert "MSA|AA|" in await w.report(one, order_control="RO" if one.replaces else "NW")
        await w.settle()
    assert [await standing(w, one) for one in (FIRST, SECOND, THIRD)] == ["replaced", "replaced", "valid"]
    assert [status for _, status in await w.entries(EXAM)].count("Approved") == 1


OPPOSED_ORDERS = [order for order in permutations(("first", "second", "IO", "INO")) if order[::-1].index("INO") == 0]


@pytest.mark.parametrize("order", OPPOSED_ORDERS, ids="-".join)
async def test_i10_an_opposition_that_ends_leaves_the_correction_in_any_order(w: World, order: Sequence[str]) -> None:
    w.pacs.hold(EXAM)
    opposed = False
    for what in order:
        w.clock.advance(5)
        if what in {"IO", "INO"}:
            opposed = what == "IO"
            sent = build_adt_consent(opposition=what, at=said(w), sent_at=said(w), control_id=what)
            assert "MSA|AA|" in await w.raw(sent)
        else:
            one = CHAIN[what == "second"]
            assert "MSA|AA|" in await w.report(one, order_control="RO" if one.replaces else "NW")
        await w.settle()
        assert not opposed or await w.entries(EXAM) == []
    assert [await standing(w, one) for one in (FIRST, SECOND)] == ["replaced", "valid"]
    assert [status for _, status in await w.entries(EXAM)].count("Approved") == 1


async def test_ff19_a_correction_during_an_opposition_still_speaks_of_the_same_person(w: World) -> None:
    await w.report(EXAM)
    w.clock.advance(5)
    await w.raw(build_adt_consent(opposition="IO", at=said(w), sent_at=said(w)))
    other_birth = LabPatient(birth_date=date(1961, 4, 21))
    assert "MSA|AE|" in await w.report(replace(CHAIN[1], patient=other_birth), order_control="RO")
    assert await standing(w, FIRST) == "held"


async def test_a_report_that_says_it_replaces_itself_is_refused_and_not_swallowed(w: World) -> None:
    for number, control in enumerate(("NW", "RO")):
        ack = await w.report(replace(EXAM, replaces=FIRST), order_control=control, control_id=f"S{number}")
        assert "MSA|AE|" in ack
        assert "wrong-version" in ack
    assert await w.count("report") == 0


async def test_two_reports_that_say_they_replace_each_other_do_not_both_disappear(w: World) -> None:
    await w.report(CHAIN[1], order_control="RO")
    ack = await w.report(replace(EXAM, replaces=SECOND), order_control="RO")
    assert "MSA|AE|" in ack
    assert "wrong-version" in ack
    assert await standing(w, SECOND) == "valid"


async def test_ff19_nobody_replaces_a_report_without_ins_of_another_person(w: World) -> None:
    nameless = LabPatient(ins=None)
    await w.report(replace(EXAM, patient=nameless))
    thief = replace(CHAIN[1], patient=replace(OTHER, ipp="IPP9007"), studies=("1.2.250.1.213.4.5.9.2.7",))
    assert "MSA|AE|" in await w.report(thief, order_control="RO")
    assert await standing(w, FIRST) == "held"


async def test_a_correction_that_adds_the_ins_replaces_the_report_that_lacked_it(w: World) -> None:
    await w.report(replace(EXAM, patient=LabPatient(ins=None)))
    assert "MSA|AA|" in await w.report(CHAIN[1], order_control="RO")
    assert await standing(w, FIRST) == "replaced"


@pytest.mark.parametrize("moment", ["00010101000000+1200", "99991231235959-1200", "0001", "99991231235959"])
async def test_t31_a_time_at_the_edge_of_the_calendar_is_answered(w: World, moment: str) -> None:
    w.pacs.hold(EXAM)
    ack = await w.report(replace(EXAM, start=moment, stop=moment), sent_at=moment)
    assert "MSA|A" in ack
    await w.settle(rounds=4)


@pytest.mark.parametrize("spoilt", ["1.2." + "7" * 6000, "1.2.3\u009b31m"], ids=["too-long", "terminal"])
async def test_t31_a_document_id_that_no_row_and_no_terminal_should_hold_is_refused(w: World, spoilt: str) -> None:
    assert "MSA|AE|" in await w.report(replace(EXAM, document_id=spoilt))
    assert "MSA|AE|" in await w.report(replace(EXAM, document_extension=spoilt))
    assert await w.count("report") == 0


SILENT: dict[str, str] = {}
MASKED = {**EXAM.flags, "MASQUE_PS": "Y"}
UNMASKED = {**EXAM.flags, "MASQUE_PS": "N"}


async def is_masked(w: World, report_id: str) -> bool:
    known = await w.store.read(lambda tx: w.ledger.report(tx, TENANT, report_id))
    assert known is not None
    return known[0].stated.report.visibility.masked_to_professionals


async def is_shown_masked(w: World) -> bool:
    """Whether the newest submission hides the exam from professionals."""
    jobs_of = await w.jobs_of(STUDY)
    sent = [await w.store.read(lambda tx, job=job: w.ledger.submission_of(tx, TENANT, job.job_id)) for job in jobs_of]
    return b"MASQUE_PS" in [one for one in sent if one][-1][1].metadata


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("flags", [SILENT, UNMASKED], ids=["silent", "says no"])
async def test_a_mask_survives_corrections_that_do_not_say_they_change_it_in_any_order(
    w: World, order: tuple[int, ...], flags: dict[str, str]
) -> None:
    w.pacs.hold(EXAM)
    chain = [replace(CHAIN[0], flags=MASKED), *(replace(one, flags=flags) for one in CHAIN[1:])]
    for number in order:
        one = chain[number]
        assert "MSA|AA|" in await w.report(one, order_control="RO" if one.replaces else "NW")
        await w.settle()
    assert [await is_masked(w, one) for one in (FIRST, SECOND, THIRD)] == [True, True, True]
    assert await is_shown_masked(w)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "overtaken"])
async def test_a_mask_is_taken_off_by_a_correction_that_says_so(w: World, order: tuple[int, ...]) -> None:
    w.pacs.hold(EXAM)
    chain = [replace(CHAIN[0], flags=MASKED), replace(CHAIN[1], flags={**UNMASKED, "MODIF_CONF_CODE": "Y"})]
    for number in order:
        one = chain[number]
        assert "MSA|AA|" in await w.report(one, order_control="RO" if one.replaces else "NW")
        await w.settle()
    assert not await is_masked(w, SECOND)
    assert not await is_shown_masked(w)
