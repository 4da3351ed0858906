"""New metadata for an entry that stays: hidden and shown again through a real index, and every way that can go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from lxml import etree

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, build_mdm
from indexer import exclusion
from indexer.ledger import evidence_of
from indexer.ports import EntryFound, EntryVersion
from indexer.report import Visibility
from indexer.xds import vocabulary as v
from indexer.xds.update import metadata_update
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from tests.support.reconciling import reconciler_of
from tests.support.world import TENANT, World, world

EXAM = LabExam(flags={**LabExam().flags, "INVISIBLE_REP_LEGAUX": "Y"})
STUDY = EXAM.studies[0]
OPEN = {**EXAM.flags, "INVISIBLE_PATIENT": "N", "MODIF_CONF_CODE": "Y"}
OPENED = replace(EXAM, document_id=f"{EXAM.document_id}.2", replaces=EXAM.document_id, flags=OPEN)
HIDDEN = replace(
    EXAM,
    document_id=f"{EXAM.document_id}.3",
    replaces=OPENED.document_id,
    flags={**OPEN, "MASQUE_PS": "Y", "INVISIBLE_PATIENT": "Y"},
)
RIM = f"{{{v.NS_RIM}}}"


@pytest.fixture
async def w(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, updates_metadata=True) as made:
        made.pacs.hold(EXAM)
        yield made


async def shown(w: World) -> EntryFound:
    """The approved entry of the newest manifest, as the index tells it."""
    rows = await w.store.read(lambda tx: tx.rows("SELECT unique_id FROM manifest ORDER BY version DESC LIMIT 1"))
    entry = await w.client.find_document(rows[0]["unique_id"])
    assert isinstance(entry, EntryFound)
    assert entry.status == "Approved"
    return entry


async def told(w: World) -> list[str]:
    facts = await w.store.read(lambda tx: evidence_of(tx, TENANT, STUDY))
    return [fact.summary for fact in facts if fact.kind == "update-refused"]


async def requests(w: World) -> list[dict[str, object]]:
    return [dict(row) for row in await w.store.read(lambda tx: tx.rows("SELECT * FROM revision ORDER BY serial"))]


async def publish(w: World) -> EntryFound:
    await w.report(EXAM)
    await w.settle()
    return await shown(w)


async def test_an_exam_is_shown_and_hidden_again_by_metadata_alone(w: World) -> None:
    first = await publish(w)
    assert first.codes == {"N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    await w.report(OPENED, order_control="RO")
    await w.settle()
    second = await shown(w)
    assert second.codes == {"N", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    await w.report(HIDDEN, order_control="RO")
    await w.settle()
    third = await shown(w)
    assert third.codes == {"N", "MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    assert len({first.entry_uuid, second.entry_uuid, third.entry_uuid}) == 3
    assert [one.revision.version for one in (first, second, third) if one.revision] == [1, 2, 3]
    assert {first.unique_id, second.unique_id, third.unique_id} == {first.unique_id}
    assert await w.count("manifest") == 1
    assert w.index.switches.counts["ITI-41"] == 1
    assert [status for _, status in await w.entries(EXAM)].count("Approved") == 1
    assert (await w.last(STUDY)).state is State.PUBLISHED


async def test_off_the_same_history_replaces_the_manifest(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.pacs.hold(EXAM)
        await publish(w)
        await w.report(OPENED, order_control="RO")
        await w.settle()
        assert (await shown(w)).codes == {"N", "INVISIBLE_REPRESENTANTS_LEGAUX"}
        assert await w.count("manifest") == 2
        assert w.index.switches.counts["ITI-57"] == 0


async def test_mhd_knows_no_such_transaction_and_replaces(tmp_path: Path) -> None:
    async with world(tmp_path, door="mhd", updates_metadata=True) as w:
        w.pacs.hold(EXAM)
        assert (await publish(w)).codes == {"N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"}
        await w.report(OPENED, order_control="RO")
        await w.settle()
        assert (await shown(w)).codes == {"N", "INVISIBLE_REPRESENTANTS_LEGAUX"}
        assert await w.count("manifest") == 2


async def test_i06_images_that_came_too_are_a_new_manifest_and_never_an_update(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=5)
    await w.report(OPENED, order_control="RO")
    await w.settle()
    assert await w.count("manifest") == 2
    assert await w.count("revision") == 0
    assert (await shown(w)).codes == {"N", "INVISIBLE_REPRESENTANTS_LEGAUX"}


async def test_what_must_be_hidden_does_not_wait_for_images_still_arriving(w: World) -> None:
    await publish(w)
    w.pacs.hold(EXAM, instances=5)
    await w.report(HIDDEN)
    began = w.clock.now()
    await w.settle(rounds=8)
    assert "MASQUE_PS" in ((await shown(w)).codes or ())
    assert (w.clock.now() - began).total_seconds() < 30


async def test_the_strictest_of_the_valid_reports_counts(w: World) -> None:
    """Two reports on one study with different flags, one withdrawn."""
    await publish(w)
    second = replace(EXAM, document_id=f"{EXAM.document_id}.9", flags={**OPEN, "MASQUE_PS": "Y"})
    await w.report(second)
    await w.settle()
    everything = {"N", "MASQUE_PS", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    assert (await shown(w)).codes == everything
    await w.raw(build_mdm(EXAM, control_id="T4", event="T04", order_control="CA", result_status="D"))
    await w.settle()
    assert (await shown(w)).codes == {"N", "MASQUE_PS", "INVISIBLE_REPRESENTANTS_LEGAUX"}
    assert await w.count("manifest") == 1


async def test_i09_an_update_whose_answer_was_lost_is_asked_for_and_sent_once(w: World) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.COMMIT_THEN_RESET, on=("ITI-57",), times=1))
    await w.report(HIDDEN)
    await w.settle()
    assert "MASQUE_PS" in ((await shown(w)).codes or ())
    assert w.index.switches.counts["ITI-57"] == 1
    assert [one["outcome"] for one in await requests(w)] == ["confirmed"]


async def test_ff21_an_update_that_never_arrived_goes_again_byte_for_byte(w: World, monkeypatch) -> None:
    await publish(w)
    sent: list[bytes] = []
    send = w.client.update_status

    async def keeping(change):  # type: ignore[no-untyped-def]
        sent.append(change.metadata)
        return await send(change)

    monkeypatch.setattr(w.client, "update_status", keeping)
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=("ITI-57",), times=1))
    await w.report(HIDDEN)
    await w.settle()
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert "MASQUE_PS" in ((await shown(w)).codes or ())
    assert await w.count("manifest") == 1


@pytest.mark.parametrize("code", ["XDSMetadataUpdateOperationError", "UnmodifiableMetadataError"])
async def test_an_index_that_does_not_know_updates_gets_the_manifest_and_is_not_asked_again(
    w: World, code: str
) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.REFUSE, on=("ITI-57",), code=code))
    await w.report(HIDDEN)
    await w.settle()
    assert "MASQUE_PS" in ((await shown(w)).codes or ())
    assert await w.count("manifest") == 2
    assert code in (await told(w))[0]
    w.index.switches.set()
    await w.report(replace(HIDDEN, document_id="1.2.3.77", replaces=HIDDEN.document_id, flags=OPEN))
    await w.settle()
    assert await w.count("manifest") == 3, "remembered"
    w.clock.advance(31 * 86400)
    await w.report(replace(HIDDEN, document_id="1.2.3.78", replaces="1.2.3.77", flags=HIDDEN.flags))
    await w.settle()
    assert await w.count("manifest") == 3, "asked again after a month"
    assert "MASQUE_PS" in ((await shown(w)).codes or ())


@pytest.mark.parametrize("code", ["LocalPolicyRestrictionError", "XDSMetadataUpdateError", "NobodyKnowsThisError"])
async def test_a_refusal_of_one_entry_replaces_that_manifest_and_is_not_held_against_the_index(
    w: World, code: str
) -> None:
    await publish(w)
    w.index.switches.set(Switch(name=Fault.REFUSE, on=("ITI-57",), code=code))
    await w.report(HIDDEN)
    await w.settle()
    assert "MASQUE_PS" in ((await shown(w)).codes or ())
    assert await w.count("manifest") == 2
    assert await w.count("revision_refusal") == 0
    w.index.switches.set()
    await w.report(replace(HIDDEN, document_id="1.2.3.77", replaces=HIDDEN.document_id, flags=OPEN))
    await w.settle()
    assert await w.count("manifest") == 2


async def test_an_answer_without_an_effect_is_no_effect(w: World, monkeypatch) -> None:
    """An index that says yes and changes nothing: the exam does not stay visible."""
    await publish(w)
    send = w.client.update_status

    async def nodding(change):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(w.client, "find_document", as_it_was)
        return await send(change)

    before = await shown(w)

    async def as_it_was(unique_id):  # type: ignore[no-untyped-def]
        return before if unique_id == before.unique_id else await find(unique_id)

    find = w.client.find_document
    monkeypatch.setattr(w.client, "update_status", nodding)
    await w.report(HIDDEN)
    await w.settle(rounds=40)
    assert w.index.switches.counts["ITI-57"] == 2
    assert "update-without-effect" in (await told(w))[0]
    assert await w.count("revision_refusal") == 1


async def hidden_by_others(w: World) -> None:
    """Somebody masks the entry at the index, not by a message of ours."""
    entry = await shown(w)
    published = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 1))
    assert published is not None
    assert isinstance(entry.revision, EntryVersion)
    change = metadata_update(
        published,
        entry.revision,
        unique_id=Uid("2.25.4711"),
        created_at=w.clock.now(),
        level="N",
        visibility=Visibility(masked_to_professionals=True, invisible_to_patient=True, invisible_to_guardians=True),
        publisher=w.policy.publisher,
    )
    await w.client.update_status(change)


@pytest.mark.parametrize("updates", [True, False], ids=["update", "replace"])
async def test_what_somebody_else_hid_is_not_shown_again_by_us(tmp_path: Path, updates: bool) -> None:
    async with world(tmp_path, updates_metadata=updates) as w:
        w.pacs.hold(EXAM)
        await publish(w)
        await hidden_by_others(w)
        await w.report(OPENED, order_control="RO")
        await w.settle()
        assert (await shown(w)).codes == {"N", "MASQUE_PS", "INVISIBLE_REPRESENTANTS_LEGAUX"}
        w.pacs.hold(EXAM, instances=4)
        w.clock.advance(5)
        again = replace(OPENED, document_id="1.2.3.99", replaces="", flags=OPEN)
        await w.report(again)
        await w.settle()
        assert "MASQUE_PS" in ((await shown(w)).codes or ())


async def test_a_person_who_takes_it_out_and_lets_it_back_gets_what_the_reports_say(w: World) -> None:
    await publish(w)
    await hidden_by_others(w)
    for act in (exclusion.withdraw, exclusion.republish):
        now = w.clock.now()
        await w.store.write(
            lambda tx, act=act, now=now: act(  # type: ignore[misc]
                tx, w.admission, STUDY, actor="operator:ana", reason="as agreed at the desk", now=now
            )
        )
        await w.settle()
    assert (await shown(w)).codes == {"N", "INVISIBLE_PATIENT", "INVISIBLE_REPRESENTANTS_LEGAUX"}


async def test_what_hides_more_goes_before_whatever_is_new_and_after_what_must_leave(w: World) -> None:
    await publish(w)
    now = w.clock.now()
    await w.report(HIDDEN)
    hiding = await w.last(STUDY)
    await w.store.write(
        lambda tx: jobs.enqueue(tx, tenant=TENANT, lane="1.2.3", kind="publish:site", job_class=JobClass.P1, now=now)
    )
    (other,) = await w.jobs_of("1.2.3")
    assert hiding.job_class is other.job_class is JobClass.P1
    assert hiding.deadline is not None
    assert other.deadline is not None
    assert hiding.deadline < other.deadline
    await w.settle()
    await w.report(replace(HIDDEN, document_id="1.2.3.77", replaces=HIDDEN.document_id, flags=OPEN))
    loosening = await w.last(STUDY)
    assert loosening.deadline is not None
    assert loosening.deadline > w.clock.now(), "to show more is in no hurry"


async def test_a_withdrawal_after_an_update_withdraws_the_entry_as_it_is_now(w: World) -> None:
    await publish(w)
    await w.report(OPENED, order_control="RO")
    await w.settle()
    await w.raw(build_mdm(OPENED, control_id="T4", event="T04", order_control="CA", result_status="D"))
    await w.settle()
    assert await w.entries(EXAM) == []


async def test_f22_a_forgotten_update_is_recognised_and_not_sent_again(w: World) -> None:
    """The database is a day old: the index tells what its entry hides, and the report comes again."""
    await publish(w)
    rows = await w.store.read(lambda tx: tx.rows("SELECT * FROM entry"))
    await w.report(OPENED, order_control="RO")
    await w.settle()

    def forget(tx) -> None:  # type: ignore[no-untyped-def]
        tx.change("DELETE FROM revision")
        tx.change(
            "UPDATE entry SET content_hash = NULL, told = NULL, shown = :shown, entry_uuid = :uuid",
            shown=rows[0]["shown"],
            uuid=rows[0]["entry_uuid"],
        )

    await w.store.write(forget)
    now = w.clock.now()
    await w.store.write(
        lambda tx: jobs.enqueue(tx, tenant=TENANT, lane=STUDY, kind="publish:site", job_class=JobClass.P1, now=now)
    )
    await w.settle()
    last = await w.last(STUDY)
    assert (last.state, last.reason) == (State.CANCELLED, "already-indexed")
    assert w.index.switches.counts["ITI-57"] == 1
    assert await w.count("manifest") == 1


async def test_the_request_revises_the_approved_entry_and_keeps_the_document(w: World) -> None:
    first = await publish(w)
    await w.report(HIDDEN)
    await w.settle()
    (row,) = await requests(w)
    assert row["entry_uuid"] == first.entry_uuid
    sealed = row["request"]
    assert isinstance(sealed, bytes)
    request = etree.fromstring(w.vault.open(TENANT, f"revision.request/{row['job_id']}/1", sealed))
    (entry,) = request.iter(f"{RIM}ExtrinsicObject")
    assert first.revision is not None
    assert entry.get("lid") == first.revision.logical_id
    published = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 1))
    assert published is not None
    (before,) = etree.fromstring(published.metadata).iter(f"{RIM}ExtrinsicObject")
    for name in ("hash", "size", "creationTime"):
        (mine,), (theirs,) = (
            one.xpath(f"*[local-name()='Slot'][@name='{name}']//text()[normalize-space()]") for one in (entry, before)
        )
        assert mine == theirs


async def _told_of_the_queue(w: World) -> list[str]:
    rows = await w.store.read(
        lambda tx: tx.rows("SELECT event FROM audit_record WHERE event LIKE 'job.%' ORDER BY seq")
    )
    return [row["event"] for row in rows if row["event"].startswith(("job.sent", "job.published"))]


@pytest.mark.parametrize(("door", "first", "then"), [("xds", "iti-41", "iti-57"), ("mhd", "iti-65", "iti-65")])
async def test_the_audit_trail_tells_by_which_transaction_each_job_went(
    tmp_path: Path, door: Literal["xds", "mhd"], first: str, then: str
) -> None:
    async with world(tmp_path, door=door, updates_metadata=True) as w:
        w.pacs.hold(EXAM)
        await publish(w)
        assert await _told_of_the_queue(w) == [f"job.sent.{first}", f"job.published.{first}"]
        await w.report(OPENED, order_control="RO")
        await w.settle()
        assert await _told_of_the_queue(w) == [
            *(f"job.{what}.{first}" for what in ("sent", "published")),
            *(f"job.{what}.{then}" for what in ("sent", "published")),
        ]
        await w.raw(build_mdm(OPENED, control_id="T", event="T04", order_control="CA", result_status="D"))
        await w.settle()
        assert (await _told_of_the_queue(w))[4:] == [f"job.sent.{then}", f"job.published.{then}"]


async def shown_by_others(w: World) -> None:
    """Somebody takes the masks off at the index, which the reports still ask for."""
    entry = await shown(w)
    published = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 1))
    assert published is not None
    assert isinstance(entry.revision, EntryVersion)
    change = metadata_update(
        published,
        entry.revision,
        unique_id=Uid("2.25.4712"),
        created_at=w.clock.now(),
        level="N",
        visibility=Visibility(),
        publisher=w.policy.publisher,
    )
    await w.client.update_status(change)
    assert (await shown(w)).codes == {"N"}


@pytest.mark.parametrize("updates", [True, False], ids=["update", "replace"])
async def test_a_reconciliation_hides_again_what_somebody_else_showed(tmp_path: Path, updates: bool) -> None:
    async with world(tmp_path, updates_metadata=updates) as w:
        w.pacs.hold(EXAM)
        hidden = (await publish(w)).codes
        reconciler = reconciler_of(w)
        assert (await reconciler.run(None)).counts["in-step"] == 1
        await shown_by_others(w)
        found = await reconciler.run(None)
        assert (found.counts["visibility-differs"], found.looked_at, found.changed) == (1, 1, 1)
        await w.settle()
        assert (await shown(w)).codes == hidden
        assert [status for _, status in await w.entries(EXAM)].count("Approved") == 1
        assert await w.count("manifest") == (1 if updates else 2)
        again = await reconciler.run(None)
        assert (again.counts["in-step"], again.looked_at, again.changed) == (1, 1, 0)
