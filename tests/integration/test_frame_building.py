"""From messages to a draw: exams published through the real spine, requests, steps, objections; then frame, draw,
replacement, and every number of the four counts explained.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import linkage
from gateway.components import COMPONENTS
from gateway.frames import build
from gateway.lab.ris import LabExam, LabOrder, LabPatient, LabRequest, build_adt_consent, build_omi
from indexer.activity import Period
from indexer.imaging.steps import NewStep, Performed, StepChange, Steps, StepStatus
from indexer.study import ListedStudy, PacsPatient, Unknown
from sampler.draw import checks, verifier
from sampler.draw.protocol import protocol_of
from sampler.draw.table import rows_of
from sampler.draw.transcript import Times, body_of, revealed_of, sign, written
from sampler.draw.units import commit
from security.errors import Refused
from security.identity import Uid
from security.seal import Vault
from tests.contract.store_parts.engines import BOTH, fresh
from tests.fixtures import plain_draw
from tests.support.world import TENANT, ZONE, MemoryPacs, World, world

ARCS = "1.2.250.1.213.4.5.9"
DAY = date(2026, 1, 8)
PERFORMED_AT = datetime(2026, 1, 8, 9, 30, tzinfo=ZONE)
PERIOD = Period(first=DAY, last=DAY, zone=ZONE)
SITES = ("990000017", "990000025")
PROTOCOL = {
    "spec": "drim-draw/1",
    "campaign": "CAMP-2026",
    "strata": [
        {"id": "SITE-A", "n": 4, "mode": "cap", "max_per_practitioner": 1, "sites": [SITES[0]]},
        {"id": "SITE-B", "n": 3, "mode": "srs", "sites": [SITES[1]]},
    ],
}
REQUESTS = PROTOCOL | {
    "source": "REQUESTED",
    "strata": [
        {"id": "DONE", "n": 2, "mode": "srs", "states": ["performed"]},
        {
            "id": "NOT-DONE",
            "n": 2,
            "mode": "srs",
            "states": ["refused", "cancelled", "substituted", "discontinued", "open"],
        },
    ],
}
GIVEN = {role: plain_draw.nonce(role) for role in ("auditor", "site")}


@dataclass
class Calendar:
    """The studies of the PACS in memory by their day. ``silent``: it gives no clean list."""

    pacs: MemoryPacs
    name: str = "main"
    silent: bool = False
    hidden: set[str] = field(default_factory=set)

    async def studies_on(self, day: date):
        if self.silent:
            return Unknown(reason="timeout", detail="")
        return tuple(
            ListedStudy(uid=one.uid, time=one.time)
            for one in self.pacs.studies.values()
            if one.date == f"{day:%Y%m%d}" and one.uid not in self.hidden
        )


def lab_exam(number: int, *, doctor: int | None = None) -> LabExam:
    patient = LabPatient(
        first_given_name=f"ODETTE{'ABCDEFGHIJ'[number % 10]}",
        birth_date=date(1940, 1, 1) + timedelta(days=31 * (number // 900)),
        rank=1 + number % 900,
        ipp=f"IPP{number}",
    )
    return LabExam(
        patient=patient,
        studies=(f"{ARCS}.2.{number}",),
        orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
        document_id=f"{ARCS}.1.{number}",
        set_id=f"{ARCS}.3.{number}",
        structure_id=SITES[number % 3 == 0],
        doctor_id=f"8999000001{number % 12 if doctor is None else doctor:02}",
    )


def lab_request(number: int, **changes: str) -> LabRequest:
    facts = {"placer": f"OPN{number}", "accession": f"ACN{number}", "study": f"{ARCS}.2.{number}"}
    return LabRequest(**(facts | changes))


async def step(w: World, study: str, status: StepStatus) -> None:
    """A modality's word about an exam."""
    steps = Steps(tenant=TENANT, ledger=w.ledger, rules=w.policy.rules)
    patient = PacsPatient(patient_id="", issuer="", name="", birth_date="", sex="")
    uid, nothing = Uid(f"{study}.77"), Performed(series=1, instances=3)

    def work(tx) -> None:
        new = NewStep(uid=uid, studies=(Uid(study),), patient=patient, performed=nothing)
        steps.create(tx, new, peer="CT1", zone="pacs", now=PERFORMED_AT)
        steps.change(tx, uid, StepChange(status=status), now=PERFORMED_AT)

    await w.store.write(work)


async def busy_day(w: World, *, exams: int, refused: int) -> None:
    """``exams`` reported, ordered, performed, held by the PACS and published; ``refused`` requests that were not.

    Then one of each trouble: a patient who objects, a report without images, a report withdrawn, a study without a
    report, a request cancelled, one substituted, one whose examination was discontinued, one that nobody answered.
    """

    async def request(number: int, exam: LabExam, **changes: str) -> None:
        message = build_omi(
            lab_request(number, **changes),
            patient=exam.patient,
            control_id=f"O{number}{changes}",
            sent_at="20260108091500+0100" if changes else "20260108091000+0100",
        )
        assert "MSA|AA" in await w.raw(message)

    for number in range(exams):
        exam = lab_exam(number)
        if number != 1:  # its images are not there yet
            w.pacs.hold(exam)
        await request(number, exam)
        await step(w, exam.studies[0], StepStatus.COMPLETED)
        assert "MSA|AA" in await w.report(exam)
    objecting = lab_exam(2)
    assert "MSA|AA" in await w.raw(build_adt_consent(objecting.patient, opposition="IO", control_id="A2"))
    for number in range(10_000, 10_000 + refused):
        await request(number, lab_exam(number))
        await request(number, lab_exam(number), control="UA", decider_id=f"8999000001{number % 12:02}")
    w.pacs.hold(lab_exam(20_000))  # a study of which no report came
    for number, control in ((20_001, "CA"), (20_002, "RP"), (20_003, "NW"), (20_004, "NW")):
        await request(number, lab_exam(number))
        if control != "NW":
            await request(number, lab_exam(number), control=control)
    await step(w, f"{ARCS}.2.20003", StepStatus.DISCONTINUED)
    await w.settle(rounds=40 + exams)


async def framed(w: World, protocol=PROTOCOL, **more):
    calendars = more.pop("calendars", [Calendar(w.pacs)])
    return await build(
        w.store,
        w.ledger,
        w.clock,
        tenant=TENANT,
        protocol=protocol_of(protocol),
        period=more.pop("period", PERIOD),
        calendars=calendars,
        actor="operator:test",
        **more,
    )


async def from_messages_to_draw(w: World, *, exams: int, refused: int) -> None:
    await busy_day(w, exams=exams, refused=refused)
    built = await framed(w)
    account, frame = built["account"], commit(rows_of(built["frame"].splitlines(keepends=True)))

    # exams reported, less the one whose patient objects
    assert account["size"] == exams - 1
    assert account["exclusions"] == {"patient-objection": 1}
    assert account["practitioners"] == 12
    sites = Counter(number % 3 == 0 for number in range(exams) if number != 2)
    assert account["strata"] == {"SITE-A": sites[False], "SITE-B": sites[True]}
    assert account["root"] == frame.root.hex()

    counts = {one["of"]: one for one in account["counts"]}
    for one in counts.values():  # every number is explained
        assert one["number"] == one["in_frame"] + sum(one["reasons"].values())
        assert account["size"] == one["in_frame"] + one["missing"]
    assert counts["RIS"] | {"needs_words": None, "gap_percent": None} == {
        "of": "RIS", "number": exams + refused + 4, "in_frame": exams - 1, "missing": 0, "why": "",
        "reasons": {
            "cancelled": 1, "discontinued": 1, "open": 1, "patient-objection": 1, "refused": refused, "substituted": 1,
        },
        "needs_words": None, "gap_percent": None,
    }  # fmt: skip
    assert counts["PACS"]["reasons"] == {"no-report": 1, "patient-objection": 1}
    assert (counts["PACS"]["number"], counts["PACS"]["missing"]) == (exams, 1)
    assert counts["MPPS"]["reasons"] == {"discontinued": 1, "patient-objection": 1}
    assert (counts["MPPS"]["number"], counts["MPPS"]["missing"]) == (exams + 1, 0)
    assert counts["INDEX"]["reasons"] == {}  # the objection took the exam out of the index
    assert (counts["INDEX"]["number"], counts["INDEX"]["missing"]) == (exams - 2, 1)
    assert account["requests"] == {
        "cancelled": 1, "discontinued": 1, "open": 1, "performed": exams, "refused": refused, "substituted": 1,
    }  # fmt: skip

    # draw, replace, verify by both ways
    agreed = protocol_of(PROTOCOL)
    times = Times(committed_at="2026-01-09T08:00:00Z", revealed_at="2026-01-09T09:00:00Z")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

    def drawn(replacements):
        revealed = revealed_of({"draw_no": 1, "contributions": GIVEN, "replacements": replacements})
        body, _ = body_of(frame, agreed, revealed, times=times, software="poterne test")
        return json.loads(written(sign(body, key, frame=frame)))

    first = drawn([])
    cases = first["body"]["selected"]["SITE-A"]
    people = {frame.find(unit).practitioner for unit in cases}
    assert len(people) == 4  # four cases of four practitioners
    whole = drawn([{"stratum": "SITE-A", "out": cases[1], "reason": "IMAGES_UNAVAILABLE"}])
    assert whole["body"]["final"]["SITE-A"][1] not in cases
    assert checks.check(whole, rows=frame.units).failed == []
    apart = verifier.verify(verifier.Given(whole, list(frame.units)))
    assert {outcome for _, outcome, _ in apart} == {"ok"}

    # the site alone finds the exam of a case again; what is packaged from it begins here
    links = await w.store.read(lambda tx: linkage.linked(tx, w.vault, TENANT, "CAMP-2026", account["root"]))
    study = links.units[cases[0]]
    exam = lab_exam(int(study.rsplit(".", 1)[1]))
    assert links.practitioners[frame.find(cases[0]).practitioner] == exam.doctor_id
    assert exam.structure_id == SITES[0]

    # the second frame sees what was refused
    second = (await framed(w, REQUESTS))["account"]
    assert second["strata"] == {"DONE": exams - 1, "NOT-DONE": refused + 4}
    assert second["exclusions"] == {"patient-objection": 1}


@pytest.fixture
async def w(tmp_path: Path):
    async with world(tmp_path) as one:
        yield one


async def test_from_messages_to_a_draw_every_number_is_explained(w: World) -> None:
    await from_messages_to_draw(w, exams=48, refused=8)


@pytest.mark.full
@pytest.mark.timeout(1_800)
async def test_from_messages_to_a_draw_of_two_thousand_exams_and_a_hundred_refusals(w: World) -> None:
    await from_messages_to_draw(w, exams=2_000, refused=100)


async def reported(w: World, exams: int) -> None:
    for number in range(exams):
        w.pacs.hold(lab_exam(number))
        assert "MSA|AA" in await w.report(lab_exam(number))


async def test_ff52_the_same_day_again_gives_the_same_frame_and_one_exam_more_another_root(w: World) -> None:
    await reported(w, 12)
    one, again = await framed(w), await framed(w)
    assert one == again
    w.pacs.hold(lab_exam(12))
    await w.report(lab_exam(12))
    assert (await framed(w))["account"]["root"] != one["account"]["root"]


async def test_ff51_another_campaign_of_the_same_exams_shares_no_value(w: World) -> None:
    await reported(w, 12)
    one = await framed(w)
    other = await framed(w, PROTOCOL | {"campaign": "CAMP-2027"})
    cells = [{cell for row in built["frame"].splitlines()[1:] for cell in row.split(",")} for built in (one, other)]
    assert cells[0] & cells[1] == {"SITE-A"}  # four of site B went there


async def test_ff51_what_is_given_out_names_no_exam_and_no_professional(w: World) -> None:
    await reported(w, 12)
    shown = json.dumps(await framed(w))
    for number in range(12):
        assert lab_exam(number).studies[0] not in shown
        assert lab_exam(number).doctor_id not in shown


@pytest.mark.parametrize("named", ["IPP3", f"{ARCS}.2.3", "matricule"])
async def test_a_list_of_objections_leaves_out_patients_by_number_and_exams_by_uid(w: World, named: str) -> None:
    await reported(w, 12)
    wanted = lab_exam(3).patient.matricule if named == "matricule" else named
    account = (await framed(w, objections=frozenset({wanted})))["account"]
    assert account["exclusions"] == {"patient-objection": 1}
    assert account["size"] == 11
    assert wanted not in json.dumps(account)


async def test_a_report_that_was_replaced_counts_by_the_one_that_replaces_it(w: World) -> None:
    await reported(w, 12)
    corrected = replace(
        lab_exam(4, doctor=55), document_id=f"{ARCS}.1.904", version_number=2, replaces=lab_exam(4).document_id
    )
    assert "MSA|AA" in await w.report(corrected)
    account = (await framed(w))["account"]
    assert (account["size"], account["practitioners"]) == (12, 13 - 1)  # 55 came, of the twelve number 4 went
    links = await w.store.read(lambda tx: linkage.linked(tx, w.vault, TENANT, "CAMP-2026", account["root"]))
    assert "899900000155" in links.practitioners.values()
    assert "899900000104" not in links.practitioners.values()


async def test_an_exam_of_another_day_is_in_no_frame_and_named_where_a_source_lists_it(w: World) -> None:
    await reported(w, 12)
    late = replace(lab_exam(12), start="20260107102500+0100", stop="20260107103000+0100")
    w.pacs.hold(late)  # the PACS dates it on the eighth
    await w.report(late)
    account = (await framed(w))["account"]
    assert account["size"] == 12
    assert {one["of"]: one["reasons"] for one in account["counts"]}["PACS"] == {"out-of-period": 1}


async def test_a_pacs_without_a_clean_list_has_no_number_and_asks_for_words(w: World) -> None:
    await reported(w, 12)
    account = (await framed(w, calendars=[Calendar(w.pacs), Calendar(w.pacs, silent=True)]))["account"]
    pacs = next(one for one in account["counts"] if one["of"] == "PACS")
    assert (pacs["number"], pacs["why"], pacs["needs_words"]) == (None, "2026-01-08: timeout", True)


async def test_that_a_frame_was_built_stands_in_the_trail(w: World) -> None:
    await reported(w, 12)
    root = (await framed(w))["account"]["root"]
    rows = await w.store.read(lambda tx: tx.rows("SELECT event, actor, object_id, detail FROM audit_record"))
    (row,) = [row for row in rows if row["event"] == "frame.built"]
    assert (row["actor"], row["object_id"]) == ("operator:test", "CAMP-2026")
    assert root in row["detail"]


async def test_a_destroyed_campaign_can_be_turned_back_by_nobody(w: World) -> None:
    await reported(w, 12)
    root = (await framed(w))["account"]["root"]
    assert await w.store.write(lambda tx: linkage.destroy(tx, TENANT, "CAMP-2026")) == 1
    with pytest.raises(Refused) as refusal:
        await w.store.read(lambda tx: linkage.linked(tx, w.vault, TENANT, "CAMP-2026", root))
    assert refusal.value.code == "campaign-unknown"
    assert (await framed(w))["account"]["root"] != root  # another secret


@pytest.mark.parametrize("engine", BOTH)
async def test_the_links_of_a_frame_are_kept_sealed_on_every_engine(engine: str, request, w: World) -> None:
    store = await fresh(engine, request).open(components=COMPONENTS)
    try:
        vault = await Vault.load(store, bytes(range(32)), ["site"], w.clock)

        def kept(tx) -> bytes:
            keys = linkage.made_keys(tx, vault, "site", "C", now=w.clock.now())
            assert linkage.made_keys(tx, vault, "site", "C", now=w.clock.now()) == keys
            for _ in range(2):
                linkage.keep(
                    tx, vault, "site", "C", root="00", source="PERFORMED", account={"size": 1}, names=["1.2.840.77"],
                    practitioners=["doctor-77"], actor="a", now=w.clock.now(),
                )  # fmt: skip
            return keys.campaign

        key = await store.write(kept)
        found = await store.read(lambda tx: linkage.linked(tx, vault, "site", "C", "00"))
        assert list(found.units.values()) == ["1.2.840.77"]
        stored = await store.read(
            lambda tx: tx.rows("SELECT f.links, s.secret FROM campaign_frame f, campaign_secret s")
        )
        assert len(stored) == 1
        raw = bytes(stored[0]["links"]) + bytes(stored[0]["secret"])
        assert key not in raw
        assert b"1.2.840" not in raw
        with pytest.raises(Refused) as refusal:
            await store.read(lambda tx: linkage.linked(tx, vault, "site", "C", "11"))
        assert refusal.value.code == "frame-unknown"
    finally:
        await store.close()
