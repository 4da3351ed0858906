"""Merges, their undo and corrections where no INS is stated and a register's own identifier names the patient.

HL7 in, a PACS in memory that says what the test lets it say, a real store and a real index node, which refuses a
replacement across two patients. Invented persons: ODETTE FANTÔME has the number IPP-A and, by a second admission,
IPP-C; PAUL REVENANT has IPP-B.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.ris import (
    LabExam,
    LabOrder,
    LabPatient,
    build_adt_consent,
    build_adt_identity,
    build_mdm,
    build_oru,
)
from indexer import gate
from indexer.assemble import Site
from indexer.ledger import evidence_of
from indexer.publication import job_kind
from indexer.report import Organization
from indexer.study import Address
from indexer.timeline import ExamState, deciding_job, exam_state
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from tests.integration.test_messages import said
from tests.support.reconciling import reconciler_of
from tests.support.world import TENANT, World, find_documents, world

DOMAIN = LabPatient().ipp_issuer
SITE = Site(
    institution=Organization(identifier="101999999", system="1.2.250.1.71.4.2.2", name="Centre FANTÔME"),
    address=Address(base="https://images.fantome.example/wado", location="1.2.250.1.999.7.1", ae_title="FANTOME"),
)
ODETTE = LabPatient(ipp="IPP-A", ins=None)
PAUL = LabPatient(ipp="IPP-B", ins=None, birth_name="REVENANT", first_given_name="PAUL", given_names="PAUL", sex="M",
                  used_name="", birth_date=date(1954, 3, 2))  # fmt: skip
ODETTE_AGAIN = replace(ODETTE, ipp="IPP-C")
OF_ODETTE = LabExam(patient=ODETTE)
OF_PAUL = LabExam(
    patient=PAUL,
    studies=("1.2.250.1.213.4.5.9.2.9002",),
    orders=(LabOrder(accession_number="ACN9002", placer_number="OPN9002"),),
    document_id="1.2.250.1.213.4.5.9.1.9002",
    set_id="1.2.250.1.213.4.5.9.3.9002",
)
HERS, HIS = OF_ODETTE.studies[0], OF_PAUL.studies[0]


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, rules=gate.Rules(domain=DOMAIN), profile="xds-i", site=SITE) as made:
        for exam in (OF_ODETTE, OF_PAUL):
            made.pacs.hold(exam)
            assert "MSA|AA|" in await made.report(exam)
        await made.settle()
        assert await seen(made) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}
        yield made


async def seen(w: World) -> dict[str, list[str]]:
    """What the index shows of each number, asked over the wire; numbers of which it shows nothing are left out."""
    found = {
        ipp: sorted(status for _, status in await find_documents(w.index.url + "/registry", f"{ipp}^^^&{DOMAIN}&ISO"))
        for ipp in ("IPP-A", "IPP-B", "IPP-C")
    }
    return {ipp: statuses for ipp, statuses in found.items() if statuses}


async def stands(w: World, study: str = HERS) -> tuple[ExamState | None, str]:
    job = deciding_job(await w.jobs_of(study))
    return (exam_state(job), job.reason) if job else (None, "")


async def adt(w: World, patient: LabPatient, event: str, *, prior: LabPatient | None = None, id_: str) -> None:
    w.clock.advance(5)
    sent = build_adt_identity(patient, event=event, prior=prior, sent_at=said(w), control_id=id_)
    assert "MSA|AA|" in await w.raw(sent)
    await w.settle()


async def look(w: World, study: str = HERS) -> None:
    now = w.clock.now()
    await w.store.write(
        lambda tx: jobs.enqueue(tx, tenant=TENANT, lane=study, kind=job_kind(TENANT), job_class=JobClass.P2, now=now)
    )
    await w.settle()


async def newest(w: World, study: str = HERS) -> bytes:
    """Metadata of the newest version of a study, as submitted."""

    def read(tx: Any) -> bytes:
        sent = w.ledger.submission_at(tx, TENANT, study, w.ledger.next_version(tx, TENANT, study) - 1)
        assert sent is not None
        return sent.metadata

    return await w.store.read(read)


# -- merges ------------------------------------------------------------------------------------------------------------


async def test_ff28_a_merge_moves_the_exam_to_the_surviving_number_and_touches_nobody_else(w: World) -> None:
    for id_ in ("M1", "M2"):
        await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_=id_)
    assert await seen(w) == {"IPP-C": ["Approved"], "IPP-B": ["Approved"]}
    assert await stands(w) == (ExamState.INDEXED, "")
    assert b"IPP-A" not in await newest(w)
    assert await w.count("manifest") == 3, "the same merge again changes nothing, and nothing of his is sent"
    kinds = [job.kind.partition(":")[0] for job in await w.jobs_of(HERS)]
    assert kinds.count("withdraw") == 1


async def test_ff28_the_undo_takes_the_exam_back_under_its_first_number(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    await adt(w, ODETTE_AGAIN, "A37", prior=ODETTE, id_="U1")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}
    assert b"IPP-C" not in await newest(w)


async def test_ff28_an_undone_merge_leaves_the_index_first_whatever_the_pacs_still_says(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    w.pacs.hold(OF_ODETTE, patient_id="IPP-C")  # it obeyed the merge, and does not hear of the undo
    await look(w)
    assert await stands(w) == (ExamState.INDEXED, "")
    await adt(w, ODETTE_AGAIN, "A37", prior=ODETTE, id_="U1")
    assert await seen(w) == {"IPP-B": ["Approved"]}
    assert await stands(w) == (ExamState.HELD, "identity-patient-id")
    withdrawn = [job for job in await w.jobs_of(HERS) if job.kind.startswith("withdraw")]
    assert [job.job_class for job in withdrawn] == [JobClass.P0, JobClass.P0]
    w.pacs.hold(OF_ODETTE)
    await look(w)
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}


async def test_ff28_a_merge_into_another_person_holds_the_moved_exam_and_leaves_theirs(w: World) -> None:
    await adt(w, PAUL, "A40", prior=ODETTE, id_="M1")
    assert await seen(w) == {"IPP-B": ["Approved"]}
    assert await stands(w) == (ExamState.HELD, "identity-birth-name")
    assert await stands(w, HIS) == (ExamState.INDEXED, "")
    assert await w.count("manifest") == 2, "nothing of hers was made under his number"
    await adt(w, PAUL, "A37", prior=ODETTE, id_="U1")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}
    assert await stands(w) == (ExamState.INDEXED, "")


async def test_ff28_merged_the_other_way_round_it_is_the_other_exam_that_is_held(w: World) -> None:
    await adt(w, ODETTE, "A40", prior=PAUL, id_="M1")
    assert await seen(w) == {"IPP-A": ["Approved"]}
    assert await stands(w) == (ExamState.INDEXED, "")
    assert await stands(w, HIS) == (ExamState.HELD, "identity-birth-name")


async def test_ff28_a_circle_of_merges_ends_at_the_last_survivor_with_one_entry(w: World) -> None:
    third = replace(ODETTE, ipp="IPP-D")
    for number, (into, prior) in enumerate([(ODETTE_AGAIN, ODETTE), (third, ODETTE_AGAIN), (ODETTE, third)]):
        await adt(w, into, "A40", prior=prior, id_=f"M{number}")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}


async def test_ff28_the_entry_under_the_old_number_stays_until_the_pacs_lets_the_new_one_be_made(w: World) -> None:
    w.pacs.hold(OF_ODETTE, patient_id="IPP-ELSE")
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    assert await stands(w) == (ExamState.HELD, "identity-patient-id")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}, "the same person's, under a merged number"
    w.pacs.hold(OF_ODETTE, patient_id="IPP-C")
    await look(w)
    assert await seen(w) == {"IPP-C": ["Approved"], "IPP-B": ["Approved"]}


async def test_ff28_a_merge_before_the_pacs_obeys_it_and_after_are_both_the_same_person(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    w.pacs.hold(OF_ODETTE, patient_id="IPP-C")
    await look(w)
    assert await stands(w) == (ExamState.INDEXED, "")
    assert await w.count("manifest") == 3


async def test_a_report_is_withdrawn_under_the_number_that_survived(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    stranger = replace(OF_ODETTE, patient=PAUL)
    withdrawal = {"event": "T04", "order_control": "CA", "result_status": "D"}
    assert "|ins-conflict|" in await w.raw(build_mdm(stranger, control_id="T0", **withdrawal))
    moved = replace(OF_ODETTE, patient=ODETTE_AGAIN)
    assert "MSA|AA|" in await w.raw(build_mdm(moved, control_id="T1", **withdrawal))
    await w.settle()
    assert await seen(w) == {"IPP-B": ["Approved"]}


async def test_a_report_replaced_under_the_surviving_number_replaces_the_entry(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    correction = replace(
        OF_ODETTE, patient=ODETTE_AGAIN, document_id=f"{OF_ODETTE.document_id}.2", replaces=OF_ODETTE.document_id
    )
    w.pacs.hold(OF_ODETTE, instances=5)
    assert "MSA|AA|" in await w.raw(build_oru(correction, control_id="R2", order_control="RO"))
    await w.settle()
    assert await seen(w) == {"IPP-C": ["Approved", "Deprecated"], "IPP-B": ["Approved"]}


async def test_i10_an_opposition_under_the_surviving_number_reaches_what_was_merged_into_it(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    w.clock.advance(5)
    opposes = build_adt_consent(ODETTE_AGAIN, opposition="IO", at=said(w), sent_at=said(w), control_id="C1")
    assert "MSA|AA|" in await w.raw(opposes)
    await w.settle()
    assert await seen(w) == {"IPP-B": ["Approved"]}


async def test_i10_an_opposition_under_a_merged_number_holds_what_comes_under_the_survivor(w: World) -> None:
    w.clock.advance(5)
    opposes = build_adt_consent(ODETTE, opposition="IO", at=said(w), sent_at=said(w), control_id="C1")
    assert "MSA|AA|" in await w.raw(opposes)
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    late = replace(
        OF_ODETTE,
        patient=ODETTE_AGAIN,
        studies=("1.2.250.1.213.4.5.9.2.9003",),
        document_id="1.2.250.1.213.4.5.9.1.9003",
        orders=(LabOrder(accession_number="ACN9003"),),
    )
    w.pacs.hold(late)
    await w.report(late)
    await w.settle()
    assert await stands(w, late.studies[0]) == (ExamState.HELD, "patient-opposed")
    assert await seen(w) == {"IPP-B": ["Approved"]}


async def test_i19_a_reconciliation_after_a_merge_finds_nothing_to_do(w: World) -> None:
    await adt(w, ODETTE_AGAIN, "A40", prior=ODETTE, id_="M1")
    before = await w.count("outbox_job")
    report = await reconciler_of(w).run(None)
    assert report.counts == {"in-step": 2}
    assert await w.count("outbox_job") == before


# -- corrections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["A08", "A31"])
async def test_a_corrected_name_goes_out_under_the_same_number_once_the_pacs_agrees(w: World, event: str) -> None:
    right = replace(ODETTE, first_given_name="COLETTE", given_names="COLETTE MARIE")
    await adt(w, right, event, id_="C1")
    assert await stands(w) == (ExamState.HELD, "identity-name")
    w.pacs.hold(OF_ODETTE, name="FANTÔME^COLETTE")
    await look(w)
    assert await seen(w) == {"IPP-A": ["Approved", "Deprecated"], "IPP-B": ["Approved"]}
    assert b"COLETTE" in await newest(w)
    assert b"ODETTE" not in (await newest(w)).replace(b"COLETTE", b"")


async def test_ff19_a_report_that_disagrees_with_the_register_s_name_is_held(w: World) -> None:
    right = replace(ODETTE, first_given_name="COLETTE", given_names="COLETTE MARIE")
    await adt(w, right, "A31", id_="C1")
    late = replace(
        OF_ODETTE,
        studies=("1.2.250.1.213.4.5.9.2.9003",),
        document_id="1.2.250.1.213.4.5.9.1.9003",
        orders=(LabOrder(accession_number="ACN9003"),),
    )
    w.pacs.hold(late)
    ack = await w.report(late)
    assert "MSA|AE|" in ack
    assert await stands(w, late.studies[0]) == (ExamState.HELD, "identity-first-given-name")


async def test_ff19_another_person_under_the_same_number_takes_the_exam_out_until_it_is_put_right(w: World) -> None:
    await adt(w, replace(PAUL, ipp="IPP-A"), "A31", id_="C1")
    assert await seen(w) == {"IPP-B": ["Approved"]}
    assert await stands(w) == (ExamState.HELD, "identity-birth-name")
    kinds = [one.kind for one in await w.store.read(lambda tx: evidence_of(tx, TENANT, Uid(HERS)))]
    assert "identity-corrected" in kinds
    await adt(w, ODETTE, "A31", id_="C2")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}


async def test_a_correction_without_an_identifier_of_the_domain_corrects_nothing(w: World) -> None:
    await adt(w, replace(PAUL, ipp="IPP-A", ipp_issuer="1.2.250.1.999.77"), "A31", id_="C1")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}
    assert await w.count("person_statement") == 0


async def test_a_number_of_another_register_s_merge_says_nothing_of_the_domain(w: World) -> None:
    """IPP-A there and IPP-A here are two numbers: one number in two registers is two persons."""
    elsewhere = "1.2.250.1.999.77"
    into, prior = replace(PAUL, ipp_issuer=elsewhere), replace(ODETTE, ipp_issuer=elsewhere)
    await adt(w, into, "A40", prior=prior, id_="M1")
    assert await seen(w) == {"IPP-A": ["Approved"], "IPP-B": ["Approved"]}


# -- profile drim-m, whose registers may speak without an INS ----------------------------------------------------------


async def test_ff28_a_merge_without_an_ins_into_somebody_else_holds_the_exam(tmp_path: Path) -> None:
    known = LabExam(patient=replace(ODETTE, ins=""))
    async with world(tmp_path) as w:
        w.pacs.hold(known)
        await w.report(known)
        await w.settle()
        assert [status for _, status in await w.entries(known)] == ["Approved"]
        await adt(w, PAUL, "A40", prior=ODETTE, id_="M1")
        assert await w.entries(known) == []
        assert await stands(w) == (ExamState.HELD, "identity-birth-name")
        await adt(w, PAUL, "A37", prior=ODETTE, id_="U1")
        assert [status for _, status in await w.entries(known)] == ["Approved"]
