"""A person decides about a held exam: what they see, what they may accept, and that nothing else follows from it."""

from __future__ import annotations

import asyncio
import re
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient, build_adt_consent
from indexer import gate, release
from indexer.release import HeldExam
from indexer.study import Unknown
from security.errors import BadInput, Refused
from security.outbox.states import State
from security.store.port import Tx
from tests.support.world import TENANT, World, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
ARCS = "1.2.250.1.213.4.5.9"
WHY = "compared both sources at the desk: the same person"


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as made:
        yield made


def envelope(**changes: object) -> LabExam:
    """The exam under a PID that states something else; the matricule stays."""
    patient = replace(EXAM.patient, ins=EXAM.patient.matricule)
    return replace(EXAM, patient=patient, envelope_patient=replace(patient, **changes))


def another(number: int, **changes: object) -> LabExam:
    """Another exam of the same patient."""
    order = LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}")
    base = replace(EXAM, studies=(f"{ARCS}.2.{number}",), orders=(order,), document_id=f"{ARCS}.1.{number}")
    return replace(base, **changes)


async def look(w: World, study: str = STUDY) -> HeldExam | None:
    return await w.store.read(lambda tx: release.look(tx, w.admission, study))


async def shown(w: World, study: str = STUDY) -> HeldExam:
    held = await look(w, study)
    assert held is not None
    return held


async def accept(w: World, seen: str, *, study: str = STUDY, actor: str = "Odile Garde", why: str = WHY) -> None:
    def work(tx: Tx) -> None:
        release.release(tx, w.admission, study, actor=actor, reason=why, seen=seen, now=w.clock.now())

    await w.store.write(work)


async def try_again(w: World, study: str = STUDY, why: str = "the source was corrected") -> State:
    return await w.store.write(
        lambda tx: release.retry(tx, w.admission, study, actor="Odile Garde", reason=why, now=w.clock.now())
    )


async def kinds_of_evidence(w: World, study: str = STUDY) -> list[str]:
    rows = await w.store.read(
        lambda tx: tx.rows("SELECT kind FROM evidence WHERE study_uid = :study ORDER BY evidence_id", study=study)
    )
    return [row["kind"] for row in rows]


async def state(w: World, study: str = STUDY) -> tuple[State, str]:
    job = await w.last(study)
    return job.state, job.reason


# -- before the acknowledgement -----------------------------------------------------------------------------------


async def test_ff19_an_exam_held_by_its_message_goes_out_once_a_person_accepted_the_difference(w: World) -> None:
    w.pacs.hold(EXAM)
    assert "MSA|AE" in await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await w.settle()
    held = await shown(w)
    assert held.releasable
    assert [one.code for one in held.conflicts] == ["identity-birth-name"]
    hl7, cda = held.sources
    assert (hl7.source, hl7.values["birth name"]) == ("HL7", "FANTOME-SPECTRE")
    assert (cda.source, cda.values["birth name"]) == ("CDA", "FANTÔME")
    assert list(hl7.values) == list(release.FIELDS)
    assert w.index.switches.counts["ITI-41"] == 0

    await accept(w, held.seen)
    assert await look(w) is None
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED
    assert w.index.switches.counts["ITI-41"] == 1
    assert "released" in await kinds_of_evidence(w)


async def test_a_release_names_who_and_why_and_no_value_of_the_patient(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await accept(w, (await shown(w)).seen)
    rows = await w.store.read(
        lambda tx: tx.rows(
            "SELECT summary AS said FROM evidence UNION ALL SELECT detail FROM audit_record"
            " UNION ALL SELECT detail FROM outbox_history"
        )
    )
    told = "\n".join(row["said"] for row in rows)
    assert "Odile Garde" in told
    assert WHY in told
    for value in ("SPECTRE", "FANTÔME", "ODETTE", EXAM.patient.matricule, EXAM.patient.ipp):
        assert value not in told
    audited = await w.store.read(lambda tx: tx.rows("SELECT * FROM audit_record WHERE event = 'exam.released'"))
    assert [(row["actor"], row["object_id"]) for row in audited] == [("Odile Garde", STUDY)]


async def test_the_same_report_again_after_its_release_is_taken(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await accept(w, (await shown(w)).seen)
    await w.settle()
    assert "MSA|AA" in await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED


async def test_ff19_the_same_report_under_yet_another_name_holds_again(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await accept(w, (await shown(w)).seen)
    assert "MSA|AE" in await w.report(envelope(birth_name="TOUT-AUTRE"))
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-birth-name")
    assert w.index.switches.counts["ITI-41"] == 0
    assert "MSA|AE" in await w.report(envelope(birth_name="FANTOME-SPECTRE")), (
        "a new conflict ended what was accepted"
    )


async def test_a_held_report_stated_otherwise_meanwhile_refuses_the_release(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    before = await shown(w)
    await w.report(envelope(birth_name="TOUT-AUTRE"))
    with pytest.raises(Refused) as refused:
        await accept(w, before.seen)
    assert refused.value.code == "changed-meanwhile"
    assert (await shown(w)).sources[0].values["birth name"] == "TOUT-AUTRE"
    assert await w.count("waiver") == 0


async def test_of_two_people_at_once_one_releases_and_the_other_is_told(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    seen = (await shown(w)).seen
    ended = await asyncio.gather(
        *(accept(w, seen, actor=who) for who in ("Odile Garde", "Paul Veille")), return_exceptions=True
    )
    refused = [one for one in ended if isinstance(one, Refused)]
    assert [one.code for one in refused] == ["changed-meanwhile"]
    assert (await kinds_of_evidence(w)).count("released") == 1


async def test_a_waiver_never_crosses_to_another_report_or_study(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await accept(w, (await shown(w)).seen)
    patient = replace(EXAM.patient, ins=EXAM.patient.matricule)
    other = another(77, patient=patient, envelope_patient=replace(patient, birth_name="FANTOME-SPECTRE"))
    assert "MSA|AE" in await w.report(other)
    assert await state(w, other.studies[0]) == (State.BLOCKED, "identity-birth-name")


async def test_a_released_report_takes_the_place_of_the_one_it_replaces(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    second = envelope(birth_name="FANTOME-SPECTRE")
    await w.report(replace(second, document_id=f"{ARCS}.1.2", replaces=EXAM.document_id, version_number=2))
    assert (await state(w))[0] is State.BLOCKED
    await accept(w, (await shown(w)).seen)
    rows = await w.store.read(lambda tx: tx.rows("SELECT report_id, status FROM report ORDER BY report_no"))
    assert [row["status"] for row in rows] == ["replaced", "valid"]


async def test_a_report_released_after_its_successor_is_replaced_at_once(w: World) -> None:
    await w.report(replace(EXAM, document_id=f"{ARCS}.1.2", replaces=EXAM.document_id, version_number=2))
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await accept(w, (await shown(w)).seen)
    rows = await w.store.read(lambda tx: tx.rows("SELECT status FROM report ORDER BY report_no"))
    assert [row["status"] for row in rows] == ["valid", "replaced"]


async def test_a_release_lets_every_study_of_the_report_go_on_and_says_so(w: World) -> None:
    studies = (STUDY, f"{ARCS}.2.2")
    orders = (LabOrder(), LabOrder(accession_number="ACN2", placer_number="OPN2"))
    await w.report(replace(envelope(birth_name="FANTOME-SPECTRE"), studies=studies, orders=orders))
    held = await shown(w)
    assert held.studies == studies
    await accept(w, held.seen)
    for study in studies:
        assert (await state(w, study))[0] is State.SETTLING
        assert "released" in await kinds_of_evidence(w, study)


@pytest.mark.parametrize(
    ("exam", "code"),
    [
        (envelope(ins_status="PROV"), "identity-ins-status"),
        (replace(EXAM, patient=LabPatient(ins=None)), "identity-ins-missing"),
        (replace(EXAM, patient=LabPatient(ins_oid="1.2.3.4")), "identity-ins-authority"),
        (replace(EXAM, patient=LabPatient(ins="261046311304200")), "identity-ins-key"),
        (replace(EXAM, patient=LabPatient(ins="161046311304205")), "identity-ins-digits"),
        (envelope(ins=LabPatient(rank=43).matricule), "identity-ins"),
    ],
)
async def test_ff19_an_unqualified_or_inconsistent_ins_is_never_released(w: World, exam: LabExam, code: str) -> None:
    assert "MSA|AE" in await w.report(exam)
    held = await shown(w)
    assert code in {one.code for one in held.conflicts}
    assert not held.releasable
    assert held.why_not in release.WHY_NOT.values()
    with pytest.raises(Refused) as refused:
        await accept(w, held.seen)
    assert refused.value.code == "not-releasable"
    assert (await state(w))[0] is State.BLOCKED
    assert await w.count("waiver") == 0


async def test_a_matricule_of_the_test_authority_is_never_released(tmp_path: Path) -> None:
    async with world(tmp_path, rules=gate.Rules()) as w:
        await w.report(envelope(birth_name="FANTOME-SPECTRE"))
        held = await shown(w)
        assert not held.releasable
        assert held.why_not == release.WHY_NOT["identity-test-authority"]


async def test_a_published_sex_that_contradicts_the_matricule_is_never_released(w: World) -> None:
    patient = replace(EXAM.patient, ins=EXAM.patient.matricule)
    await w.report(replace(EXAM, patient=replace(patient, sex="M"), envelope_patient=patient))
    held = await shown(w)
    assert [one.code for one in held.conflicts] == ["identity-sex"]
    assert held.why_not == release.WHY_NOT["identity-ins-digits"]


# -- what the PACS says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"patient_id": "AUTRE-IPP"},
        {"name": "REVENANT^ODETTE"},
        {"birth_date": "19610413"},
        {"sex": "M"},
    ],
)
async def test_ff19_an_exam_the_pacs_contradicts_goes_out_once_a_person_accepted_it(
    w: World, said: dict[str, str]
) -> None:
    w.pacs.hold(EXAM, **said)
    await w.report(EXAM)
    await w.settle()
    held = await shown(w)
    assert held.releasable
    pacs = held.sources[-1]
    assert pacs.source == "PACS"
    assert set(said.values()) & {pacs.values["local id"], pacs.values["birth date"], pacs.values["sex"]} or (
        pacs.values["birth name"] == "REVENANT"
    )
    await accept(w, held.seen)
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED
    assert w.index.switches.counts["ITI-41"] == 1
    assert await w.count("pacs_identity") == 0, "what was kept to compare is forgotten"


async def test_ff19_another_accession_number_may_be_accepted(w: World) -> None:
    w.pacs.studies[STUDY] = replace(w.pacs.hold(EXAM), accession_number="ACN-AUTRE")
    await w.report(EXAM)
    await w.settle()
    held = await shown(w)
    assert [one.code for one in held.conflicts] == ["accession-unknown"]
    await accept(w, held.seen)
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED


async def test_ff19_a_pacs_that_says_something_else_than_what_was_accepted_holds_again(w: World) -> None:
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await w.report(EXAM)
    await w.settle()
    held = await shown(w)
    w.pacs.hold(EXAM, name="SPECTRE^ODETTE")
    await accept(w, held.seen)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-name")
    assert w.index.switches.counts["ITI-41"] == 0
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await try_again(w)
    await w.settle()
    assert (await state(w))[0] is State.BLOCKED, "a new conflict ended what was accepted"


async def test_a_pacs_that_changed_since_it_was_shown_refuses_the_release(w: World) -> None:
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await w.report(EXAM)
    await w.settle()
    before = await shown(w)
    w.pacs.hold(EXAM, name="SPECTRE^ODETTE")
    await try_again(w)
    await w.settle()
    with pytest.raises(Refused) as refused:
        await accept(w, before.seen)
    assert refused.value.code == "changed-meanwhile"


async def test_an_exam_held_by_what_the_pacs_says_of_another_study_is_decided_there(w: World) -> None:
    studies = (STUDY, f"{ARCS}.2.2")
    orders = (LabOrder(), LabOrder(accession_number="ACN2", placer_number="OPN2"))
    exam = replace(EXAM, studies=studies, orders=orders)
    w.pacs.hold(exam, name="REVENANT^ODETTE")
    second = w.pacs.hold(replace(exam, studies=studies[1:], orders=orders[1:]))
    assert second.uid == studies[1]
    await w.report(exam)
    await w.settle()
    elsewhere = await shown(w, studies[1])
    assert elsewhere.why_not == release.WHY_NOT["other-study"]
    await accept(w, (await shown(w)).seen)
    await w.settle()
    assert [(await state(w, study))[0] for study in studies] == [State.PUBLISHED, State.PUBLISHED]


async def test_a_release_while_the_pacs_is_silent_waits_for_its_answer(w: World) -> None:
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await w.report(EXAM)
    await w.settle()
    w.pacs.answer = Unknown(reason="timeout", detail="no answer in time")
    await accept(w, (await shown(w)).seen)
    await w.settle(rounds=6)
    assert await state(w) == (State.SETTLING, "pacs-timeout")


# -- reasons ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "code"),
    [
        ("vu", "reason-too-short"),
        ("x" * 501, "reason-too-long"),
        ("Mme Fantôme est venue au guichet", "reason-names-patient"),
        ("née le 12/04/1961, pièce d'identité vue", "reason-names-patient"),
        ("née le 12 avril 1961, pièce d'identité vue", "reason-names-patient"),
        ("née le 12.4.61, pièce d'identité vue", "reason-names-patient"),
        ("born April 12th 1961, identity card seen", "reason-names-patient"),
        ("née le １２/０４/１９６１, pièce d'identité vue", "reason-names-patient"),
        ("née 1961-4-12, pièce d'identité vue", "reason-names-patient"),
        ("c'est bien l'IPP9001 du dossier papier", "reason-names-patient"),
        ("Mme Dupont a été appelée ce matin", "reason-names-patient"),
    ],
)
async def test_a_reason_says_enough_and_never_who_the_patient_is(w: World, why: str, code: str) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    with pytest.raises(BadInput) as refused:
        await accept(w, (await shown(w)).seen, why=why)
    assert refused.value.code == code
    assert (await state(w))[0] is State.BLOCKED


# -- trying again -------------------------------------------------------------------------------------------------


async def test_trying_again_lifts_a_hold_that_no_identity_explains(w: World) -> None:
    w.pacs.hold(EXAM)
    w.index.switches.set(Switch(name=Fault.REFUSE, code="SomethingNew", on=("ITI-41",)))
    await w.report(EXAM)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "index-SomethingNew")
    w.index.switches.set()
    held = await shown(w)
    assert not held.releasable
    assert held.why_not == release.WHY_NOT["not-identity"]
    assert await try_again(w) is State.SETTLING
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED
    assert "retried" in await kinds_of_evidence(w)


async def test_trying_again_judges_a_held_report_anew(w: World) -> None:
    w.pacs.hold(EXAM)
    first = another(1, patient=replace(EXAM.patient, first_given_name="ODILE", given_names="ODILE"))
    await w.report(replace(first, patient=replace(first.patient, ins=EXAM.patient.matricule)))
    assert "MSA|AE" in await w.report(EXAM)
    await w.store.write(lambda tx: tx.change("UPDATE report SET status = 'withdrawn' WHERE status = 'valid'"))
    assert (await shown(w)).releasable, "nothing disagrees any more"
    await try_again(w)
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED


async def test_trying_again_accepts_nothing(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    await try_again(w)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-birth-name")
    assert await w.count("waiver") == 0


async def test_trying_a_waiting_exam_again_asks_the_pacs_at_once(w: World) -> None:
    await w.report(EXAM)
    await w.engine.step()
    asked = w.pacs.asked
    assert await w.engine.step() == 0
    await try_again(w)
    await w.engine.step()
    assert w.pacs.asked == asked + 1


async def test_what_only_a_message_can_change_is_not_tried_again(w: World) -> None:
    await w.report(replace(EXAM, flags={**EXAM.flags, "DESTDMP": "N"}))
    await w.settle()
    assert await state(w) == (State.BLOCKED, "not-for-index")
    held = await shown(w)
    assert held.why_not == release.WHY_NOT["not-for-index"]
    with pytest.raises(Refused) as refused:
        await try_again(w)
    assert refused.value.code == "not-retriable"


async def test_an_indexed_exam_is_neither_looked_at_nor_tried_again(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(EXAM)
    await w.settle()
    assert await look(w) is None
    with pytest.raises(Refused) as refused:
        await try_again(w)
    assert refused.value.code == "nothing-to-retry"


def test_every_code_of_the_gate_is_either_releasable_or_says_why_not() -> None:
    source = Path(gate.__file__).read_text(encoding="utf-8")
    mandatory = {f"identity-{name}" for name in ("ins", "birth-name", "first-given-name", "sex", "birth-date")}
    codes = set(re.findall(r'"(identity-[a-z-]+|accession-unknown)"', source))
    codes |= mandatory | {f"{code}-missing" for code in mandatory}
    assert codes - release.RELEASABLE - release.WHY_NOT.keys() == set()
    assert release.RELEASABLE & release.WHY_NOT.keys() == set()


async def test_nothing_shown_of_a_held_exam_tells_a_value_in_its_repr(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    held = await shown(w)
    assert TENANT in repr(held)
    for text in (repr(held), repr(held.sources), repr(held.conflicts)):
        assert "SPECTRE" not in text
        assert str(EXAM.patient.matricule) not in text


async def test_two_held_reports_of_one_exam_are_released_together_under_their_own_names(w: World) -> None:
    w.pacs.hold(EXAM)
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    second = envelope(birth_name="FANTOME-REVENANT")
    await w.report(replace(second, document_id=f"{ARCS}.1.2"))
    held = await shown(w)
    assert [one.source for one in held.sources] == [
        f"{source} of report {ARCS}.1.{number}" for number in ("9001", "2") for source in ("HL7", "CDA")
    ]
    assert {one.left_source for one in held.conflicts} == {f"HL7 of report {ARCS}.1.{n}" for n in ("9001", "2")}
    await accept(w, held.seen)
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED


async def test_a_person_who_opposes_is_not_released(w: World) -> None:
    await w.report(envelope(birth_name="FANTOME-SPECTRE"))
    seen = await shown(w)
    assert seen.releasable
    await w.raw(build_adt_consent(EXAM.patient, control_id="ADT-1", opposition="IO"))
    held = await shown(w)
    assert (held.releasable, held.why_not) == (False, release.WHY_NOT["patient-opposed"])
    with pytest.raises(Refused):
        await accept(w, seen.seen)


def fresh(folder: Path) -> Path:
    """A folder of its own for each example."""
    made = folder / uuid.uuid4().hex
    made.mkdir()
    return made


_NAMES = st.sampled_from(["FANTÔME", "FANTOME-SPECTRE", "REVENANT", "SPECTRE"])
_PLACES = st.sampled_from(["63113", "75112"])
_Stated = tuple[str, str, str]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accepted=st.tuples(_NAMES, _PLACES, st.sampled_from(["ODETTE", "ODILE"])),
    later=st.tuples(_NAMES, _PLACES, st.sampled_from(["ODETTE", "ODILE"])),
)
def test_ff19_an_exam_holds_again_exactly_when_its_message_says_a_difference_nobody_accepted(
    tmp_path: Path, accepted: _Stated, later: _Stated
) -> None:
    def differences(stated: _Stated) -> set[str]:
        truth = ("FANTÔME", "63113", "ODETTE")
        return {value for value, own in zip(stated, truth, strict=True) if value != own}

    def sent(stated: _Stated) -> LabExam:
        return envelope(birth_name=stated[0], birthplace=stated[1], first_given_name=stated[2])

    async def play() -> None:
        async with world(fresh(tmp_path)) as w:
            await w.report(sent(accepted))
            if differences(accepted):
                await accept(w, (await shown(w)).seen)
            ack = await w.report(sent(later))
            assert ("MSA|AE" in ack) == bool(differences(later) - differences(accepted))
            assert ((await state(w))[0] is State.BLOCKED) == ("MSA|AE" in ack)

    asyncio.run(play())


_SAID = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["FANTOME^ODETTE", "REVENANT^ODETTE", "SPECTRE^ODETTE"]),
        "birth_date": st.sampled_from(["19610412", "19610413", "19610414"]),
        "patient_id": st.sampled_from(["IPP9001", "AUTRE"]),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accepted=_SAID, later=_SAID)
def test_ff19_an_exam_holds_again_exactly_when_the_pacs_says_a_difference_nobody_accepted(
    tmp_path: Path, accepted: dict[str, str], later: dict[str, str]
) -> None:
    truth = {"name": "FANTOME^ODETTE", "birth_date": "19610412", "patient_id": "IPP9001"}
    assume(accepted != truth)

    async def play() -> None:
        async with world(fresh(tmp_path)) as w:
            w.pacs.hold(EXAM, **accepted)
            await w.report(EXAM)
            await w.engine.step()
            seen = (await shown(w)).seen
            w.pacs.hold(EXAM, **later)
            await accept(w, seen)
            await w.engine.step()
            new = set(later.items()) - set(accepted.items()) - set(truth.items())
            assert ((await state(w))[0] is State.BLOCKED) == bool(new)

    asyncio.run(play())


NIR, NIA = "1.2.250.1.213.1.4.8", "1.2.250.1.213.1.4.9"


async def test_a_provisional_number_that_became_a_nir_may_be_accepted(w: World) -> None:
    before = another(2, patient=LabPatient(ins_oid=NIA, rank=41))
    after = replace(EXAM, patient=LabPatient(ins_oid=NIR))
    w.pacs.hold(after)
    assert "MSA|AA" in await w.report(before)
    assert "MSA|AE" in await w.report(after)
    held = await shown(w)
    assert [one.code for one in held.conflicts] == ["identity-ins-renumbered"]
    assert held.sources[-1].values["INS authority"] == NIA
    await accept(w, held.seen)
    await w.settle()
    assert (await state(w))[0] is State.PUBLISHED


@pytest.mark.parametrize(
    "earlier",
    [
        another(2, patient=LabPatient(ins_oid=NIR, rank=41)),
        another(2, patient=LabPatient(ins_oid=NIA, rank=41, first_given_name="ODILE", given_names="ODILE")),
        another(2, patient=LabPatient(ins_oid=NIA, rank=41), studies=(STUDY,)),
        another(2, patient=LabPatient(rank=41)),
    ],
    ids=["two NIR", "another trait", "the same study", "a test authority"],
)
async def test_ff19_any_other_two_ins_are_never_released(w: World, earlier: LabExam) -> None:
    await w.report(earlier)
    await w.report(replace(EXAM, patient=LabPatient(ins_oid=NIR)))
    held = await shown(w)
    assert "identity-ins" in {one.code for one in held.conflicts}
    assert held.why_not == release.WHY_NOT["identity-ins"]


async def test_ff19_the_same_number_of_another_register_is_not_what_was_accepted(w: World) -> None:
    study = w.pacs.hold(EXAM, issuer="1.2.250.1.999.7")
    await w.report(EXAM)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-local-id")
    held = await shown(w)
    assert "1.2.250.1.999.7" in held.conflicts[0].right, "who compares sees which register"
    other = replace(study, patient=replace(study.patient, issuer="1.2.250.1.999.8"))
    w.pacs.studies[study.uid] = other
    await accept(w, held.seen)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-local-id")
    assert w.index.switches.counts["ITI-41"] == 0


async def test_what_was_shown_once_does_not_release_the_same_difference_when_it_comes_back(w: World) -> None:
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await w.report(EXAM)
    await w.settle()
    seen = (await shown(w)).seen
    await accept(w, seen)
    w.pacs.hold(EXAM, name="SPECTRE^ODETTE")
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-name")
    w.pacs.hold(EXAM, name="REVENANT^ODETTE")
    await try_again(w)
    await w.settle()
    assert await state(w) == (State.BLOCKED, "identity-name")
    with pytest.raises(Refused) as refused:
        await accept(w, seen)
    assert refused.value.code == "changed-meanwhile"
