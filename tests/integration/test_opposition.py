"""An opposition stops everything of the patient that has not reached the index, whatever came first and however the
patient was named, and touches nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.lab.ris import LabExam, LabPatient, build_adt_consent, build_mdm
from indexer.ledger import evidence_of
from indexer.publication import job_kind
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from tests.fixtures.reports import build_cda, build_oru, changed
from tests.integration.test_messages import OTHER, other_exam, said
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
SITE_2 = "1.2.250.1.213.4.5.9.40"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def kinds(w: World, study: str = STUDY) -> list[str]:
    return [one.kind for one in await w.store.read(lambda tx: evidence_of(tx, TENANT, study))]


async def says(w: World, opposition: str, patient: LabPatient | None = None, *, id_: str) -> None:
    w.clock.advance(5)
    sent = build_adt_consent(patient, opposition=opposition, at=said(w), sent_at=said(w), control_id=id_)
    assert "MSA|AA|" in await w.raw(sent)


async def test_i10_an_opposition_takes_an_exam_out_although_a_new_version_waits(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    del w.pacs.studies[STUDY]
    second = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9002")
    await w.report(second)
    await w.settle(rounds=3)
    await says(w, "IO", id_="C1")
    w.pacs.hold(EXAM, instances=5)
    await w.settle()
    assert await w.entries(EXAM) == []
    assert (await w.last(STUDY)).kind == f"withdraw:{TENANT}"
    await says(w, "INO", id_="C2")
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_i10_an_indexed_exam_of_an_opposed_patient_takes_no_new_images(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    await says(w, "IO", id_="C1")
    w.pacs.hold(EXAM, instances=5)
    await settle_anew(w)
    assert await w.entries(EXAM) == []
    assert ((await w.last(STUDY)).state, (await w.last(STUDY)).reason) == (State.BLOCKED, "patient-opposed")
    await says(w, "INO", id_="C2")
    await w.settle()
    assert [status for _, status in await w.entries(EXAM)] == ["Approved"]


async def test_i10_a_report_replaced_while_its_patient_opposes_does_not_come_back_when_that_ends(w: World) -> None:
    """The correction is taken back before the opposition ends: the report it replaced stays replaced."""
    w.pacs.hold(EXAM)
    await says(w, "IO", id_="C1")
    await w.report(EXAM)
    second = replace(EXAM, document_id="1.2.250.1.213.4.5.9.1.9002", replaces=EXAM.document_id)
    await w.report(second, control_id="M2", order_control="RO")
    taken = build_mdm(second, control_id="M3", event="T04", order_control="CA", result_status="D")
    assert "MSA|AA|" in await w.raw(taken)
    late = build_mdm(EXAM, control_id="M4", event="T04", order_control="CA", result_status="D")
    assert "MSA|AE|" in await w.raw(late)
    await says(w, "INO", id_="C2")
    await w.settle()
    assert await w.entries(EXAM) == []
    rows = await w.store.read(lambda tx: tx.rows("SELECT status FROM report ORDER BY report_no"))
    assert [row["status"] for row in rows] == ["replaced", "withdrawn"]


async def settle_anew(w: World) -> None:
    """What a PACS that announces new images asks for."""
    await w.store.write(
        lambda tx: jobs.enqueue(
            tx,
            tenant=TENANT,
            lane=STUDY,
            kind=job_kind(TENANT),
            job_class=JobClass.P2,
            now=w.clock.now(),
        )
    )
    await w.settle()


async def test_i10_the_same_opposition_under_more_identities_reaches_every_report(w: World) -> None:
    elsewhere = replace(other_exam(2), patient=LabPatient(ipp="IPP77", ipp_issuer=SITE_2))
    await w.report(elsewhere)
    await says(w, "IO", LabPatient(ins=None), id_="C1")
    await says(w, "IO", id_="C2")
    assert (await w.last(elsewhere.studies[0])).reason == "patient-opposed"


@pytest.mark.parametrize("first", ["report", "opposition"])
async def test_i10_an_opposition_finds_the_report_by_the_number_its_envelope_states(w: World, first: str) -> None:
    cda = changed(build_cda(EXAM), '<id root="1.2.250.1.213.4.5.9.4" extension="IPP9001"/>', "")
    if first == "report":
        await w.raw(build_oru(EXAM, cda=cda, control_id="R1"))
    await says(w, "IO", LabPatient(ins=None), id_="C1")
    if first == "opposition":
        await w.raw(build_oru(EXAM, cda=cda, control_id="R1"))
    assert (await w.last(STUDY)).reason == "patient-opposed"


async def test_an_opposition_is_not_shown_on_the_exam_of_who_shares_a_bare_number(w: World) -> None:
    bare = replace(OTHER, ipp="IPP9001", ipp_issuer="")
    stranger = other_exam(3, bare)
    await w.report(stranger)
    await says(w, "IO", LabPatient(ipp_issuer=""), id_="C1")
    assert "patient-opposed" not in await kinds(w, stranger.studies[0])


async def test_ff19_who_opposes_is_still_a_witness_of_whose_number_it_is(w: World) -> None:
    await w.report(EXAM)
    await says(w, "IO", LabPatient(ipp="", ipp_issuer=""), id_="C1")
    assert (await w.last(STUDY)).reason == "patient-opposed"
    stranger = other_exam(3, replace(OTHER, ipp="IPP9001"))
    assert "MSA|AE|" in await w.report(stranger)
    assert (await w.last(stranger.studies[0])).reason == "identity-ins"


async def test_i10_an_opposition_dated_to_the_day_counts_over_a_word_of_that_morning(w: World) -> None:
    day = said(w)[:8]
    w.clock.advance(5)
    ino = build_adt_consent(opposition="INO", at=said(w), sent_at=said(w), control_id="C1")
    await w.raw(ino)
    w.clock.advance(5)
    await w.raw(build_adt_consent(opposition="IO", at=day, sent_at=said(w), control_id="C2"))
    await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "patient-opposed"


async def test_i10_an_opposition_is_not_refused_for_a_trait_nobody_needs(w: World) -> None:
    spoilt = changed(build_adt_consent(opposition="IO"), "|19610412|", "|1961|")
    assert "MSA|AA|" in await w.raw(spoilt)
    await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "patient-opposed"


async def test_an_end_of_opposition_whose_date_cannot_be_read_is_refused(w: World) -> None:
    await says(w, "IO", id_="C1")
    w.clock.advance(60)
    unread = build_adt_consent(opposition="INO", at="HIER", sent_at=said(w), control_id="C2")
    assert "MSA|AE|" in await w.raw(unread)
    await w.report(EXAM)
    assert (await w.last(STUDY)).reason == "patient-opposed"
