"""What was said to the index: kept with its outcome, sealed, pruned; shown masked, in clear by right and on record."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.asked import Asked
from gateway.lab.index import Fault, Switch
from gateway.lab.ris import LabExam, LabOrder, LabPatient
from indexer import exclusion, questions
from indexer.exchanges import reveal, rows
from indexer.exchanges.recorded import Recorded
from indexer.exchanges.rows import Keeping
from indexer.study import Absent, Unknown
from indexer.wire import TAPED_MAX
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.vocabulary import NS_WSSE
from security.errors import Broken, Refused
from security.seal import Vault
from security.store.port import ReadTx
from tests.integration.test_support_cases import conf_of, exam_command
from tests.support.house import operations
from tests.support.world import TENANT, World, kinds_of, world

EXAM = LabExam()
STUDY = EXAM.studies[0]
ACTOR = "operator:Jeanne Martin"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(params=["xds", "mhd"])
async def w(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(tmp_path, door=request.param) as one:
        yield one


async def published(w: World, exam: LabExam = EXAM) -> None:
    w.pacs.hold(exam)
    assert "MSA|AA|" in await w.report(exam)
    await w.settle()


async def opened(w: World, study: str = STUDY) -> list[rows.Opened]:
    return await w.store.read(lambda tx: rows.opened(tx, w.ledger, TENANT, study))


async def trail(w: World) -> list[tuple[str, str, int, str]]:
    def work(tx: ReadTx) -> list[tuple[str, str, int, str]]:
        asked = "SELECT * FROM audit_record WHERE event LIKE 'exam.exchanges-%' ORDER BY seq"
        return [(row["event"], row["actor"], row["outcome"], row["detail"]) for row in tx.rows(asked)]

    return await w.store.read(work)


# -- what is kept ------------------------------------------------------------------------------------------------


async def test_every_transaction_of_a_life_is_kept_as_it_was(w: World) -> None:
    await published(w)
    now = w.clock.now()
    await w.store.write(
        lambda tx: exclusion.withdraw(tx, w.admission, STUDY, actor=ACTOR, reason="no longer wanted here", now=now)
    )
    await w.settle()
    kept = await opened(w)
    assert [one.listed.transaction for one in kept][:2] == [w.provide, w.query]
    assert kept[-2].listed.transaction == {"ITI-57": "ITI-57"}.get(w.take_back, "ITI-65 PATCH")
    for one in kept:
        assert (len(one.request), len(one.answer)) == (one.listed.request_bytes, one.listed.answer_bytes)
        assert (one.listed.http_status, one.cut, one.withheld) == (200, 0, 0)
    assert (EXAM.patient.matricule or "").encode() in kept[0].request


async def test_what_is_stored_already_is_not_stored_again(w: World) -> None:
    await published(w)

    def sizes(tx: ReadTx) -> tuple[int, int]:
        (sent,) = tx.rows(
            "SELECT LENGTH(content) AS n, request_bytes FROM exchange WHERE name = :name", name=w.provide
        )
        return sent["n"], sent["request_bytes"]

    kept, whole = await w.store.read(sizes)
    assert whole > 10_000
    assert kept < whole / 2
    submission = await w.store.read(lambda tx: w.ledger.submission_at(tx, TENANT, STUDY, 1))
    assert submission is not None
    assert all(EXAM.patient.ipp.encode() not in row for row in await raw_rows(w))


async def raw_rows(w: World) -> list[bytes]:
    return await w.store.read(lambda tx: [row["content"] for row in tx.rows("SELECT content FROM exchange")])


async def test_a_cut_answer_keeps_what_came_and_why(w: World) -> None:
    w.index.switches.set(Switch(name=Fault.DROP_BEFORE, on=(w.provide,), times=1))
    await published(w)
    first = (await opened(w))[0]
    assert (first.listed.transaction, first.listed.outcome) == (w.provide, "connection-lost")
    assert (first.listed.http_status, first.answer) == (0, b"")
    assert first.listed.detail.startswith("ClientOSError")


async def test_of_an_answer_that_stops_half_way_the_part_that_came_is_kept(tmp_path: Path) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        await request.read()
        answer = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Length": str(TAPED_MAX * 3)})
        await answer.prepare(request)
        await answer.write(b"x" * (TAPED_MAX + 100))
        request.transport.abort()  # type: ignore[union-attr]
        return answer

    app = web.Application()
    app.router.add_post("/{rest:.*}", half)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with world(tmp_path) as w:
        w.client = XdsClient(XdsEndpoint(registry_url=url, repository_url=url, repository_unique_id="1.2.3.4"))
        w.restart("live")
        w.pacs.hold(EXAM)
        await w.report(EXAM)
        await w.settle(rounds=2)
        await w.client.aclose()
        one = (await opened(w))[0]
    await runner.cleanup()
    assert (one.listed.http_status, one.listed.outcome) == (200, "connection-lost")
    assert TAPED_MAX <= one.listed.answer_bytes <= TAPED_MAX + 100
    assert (one.answer, one.cut) == (b"x" * TAPED_MAX, one.listed.answer_bytes - TAPED_MAX)


async def test_an_attempt_in_which_the_process_died_is_told_without_bytes(w: World) -> None:
    await published(w)
    await w.store.write(lambda tx: tx.change("DELETE FROM exchange"))
    told = await w.store.read(lambda tx: rows.listed(tx, TENANT, STUDY))
    assert [(one.number, one.attempt, one.outcome) for one in told] == [(0, 1, "accepted")]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_an_exam_keeps_its_newest_exchanges_and_none_that_is_too_old(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("postgres_place") if engine == "postgres" else None
    async with world(tmp_path, place=place) as w:
        keeping = Keeping(days=30, per_exam_max=3)
        bare = kinds_of(w.policy, w.store, w.ledger, sources=[w.pacs], index=w.client, clock=w.clock)
        for kind in bare.values():
            assert isinstance(kind, Recorded)
            kind._keeping = keeping
        w.engine._kinds = bare
        w.index.switches.set(Switch(name=Fault.BUSY, on=("ITI-41",), times=4))
        await published(w)
        w.clock.advance(120)
        await w.settle()
        kept = await opened(w)
        assert len(kept) == 3
        assert kept[-1].listed.transaction == "ITI-18"
        now = w.clock.now()
        assert await w.store.write(lambda tx: rows.prune(tx, TENANT, keeping, now=now)) == 0
        later = now + timedelta(days=31)
        assert await w.store.write(lambda tx: rows.prune(tx, TENANT, keeping, now=later)) == 3
        assert await w.count("exchange") == 0


async def test_without_the_tenants_key_nothing_of_it_can_be_read(w: World) -> None:
    await published(w)
    await w.store.write(lambda tx: tx.change("DELETE FROM data_key WHERE tenant = :tenant", tenant=TENANT))
    w.ledger._vault = await Vault.load(w.store, bytes(range(32)), [TENANT], w.clock)
    with pytest.raises(Broken):
        await opened(w)


async def test_of_the_assertion_beside_a_request_nothing_but_its_digest_is_kept(tmp_path: Path) -> None:
    secret = f'<wsse:Security xmlns:wsse="{NS_WSSE}"><Signature>c2VjcmV0LXNpZ25hdHVyZQ==</Signature></wsse:Security>'
    async with world(tmp_path) as w:
        w.client = XdsClient(
            XdsEndpoint(
                registry_url=f"{w.index.url}/registry",
                repository_url=f"{w.index.url}/repository",
                repository_unique_id=w.index.repository_unique_id,
            ),
            assertion=lambda _: secret.encode(),
        )
        w.restart("live")
        await published(w)
        await w.client.aclose()
        kept = await opened(w)
    assert [(one.listed.transaction, one.listed.outcome) for one in kept] == [
        ("ITI-41", "accepted"),
        ("ITI-18", "found"),
    ]
    for one in kept:
        assert b"c2VjcmV0LXNpZ25hdHVyZQ" not in one.request + one.answer
        assert one.withheld == len(secret)
        assert hashlib.sha256(secret.encode()).hexdigest().encode() in one.request
        assert "SHA-256" not in reveal.mask(one).request  # a comment is masked like any other


# -- what a PACS was asked ---------------------------------------------------------------------------------------


async def test_the_same_answer_of_a_pacs_is_counted_and_another_is_added(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.pacs.answer = Unknown(reason="timeout", detail="silence")
        await w.report(EXAM)
        await w.settle(rounds=12)
        asked = w.pacs.asked
        w.pacs.answer = None
        w.pacs.hold(EXAM, instances=4)
        await w.settle()
        told = await w.store.read(lambda tx: questions.answers(tx, TENANT, STUDY))
    assert [(one.kind, one.reason, one.series, one.instances, one.times) for one in told] == [
        ("unknown", "timeout", 0, 0, asked),
        ("found", "", 1, 4, 1),
    ]
    assert asked > 2
    assert told[0].first_at < told[0].last_at


async def test_a_pacs_that_says_now_this_now_that_fills_nothing(tmp_path: Path) -> None:
    silent, absent = Unknown(reason="timeout", detail=""), Absent(evidence="none")
    async with world(tmp_path) as w:
        await w.report(EXAM)
        now = w.clock.now()
        for n in range(questions.KEPT_MAX + 20):
            asked = [questions.Asked(pacs="main", answer=absent if n % 2 else silent, seconds=0.1)]
            await w.store.write(partial(questions.note, tenant=TENANT, study=STUDY, asked=asked, now=now))
        told = await w.store.read(lambda tx: questions.answers(tx, TENANT, STUDY))
    assert (len(told), told[-1].kind) == (questions.KEPT_MAX, "absent")


# -- who may read ------------------------------------------------------------------------------------------------


async def test_who_has_the_right_reads_the_bytes_and_is_on_record_before(w: World) -> None:
    await published(w)
    desk = operations(tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake)
    shown = await desk.reveal(TENANT, STUDY, actor=ACTOR, numbers=[1], has_right=True)
    assert (EXAM.patient.matricule or "").encode() in shown[0].request
    assert await trail(w) == [(reveal.READ, ACTOR, 0, f"exchanges 1 {w.provide}")]


async def test_a_look_that_cannot_be_recorded_shows_nothing(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await published(w)
    desk = operations(tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake)

    def fails(*_args: object, **_words: object) -> None:
        raise Broken("no record", code="audit-broken", hint="mend it")

    monkeypatch.setattr("security.audit.append", fails)
    with pytest.raises(Broken):
        await desk.reveal(TENANT, STUDY, actor=ACTOR, numbers=None, has_right=True)


async def test_t46_who_has_no_right_reads_nothing_and_the_try_is_on_record(w: World) -> None:
    await published(w)
    desk = operations(tenant=TENANT, store=w.store, clock=w.clock, admission=w.admission, intake=w.intake)
    with pytest.raises(Refused) as caught:
        await desk.reveal(TENANT, STUDY, actor=ACTOR, numbers=None, has_right=False)
    assert caught.value.code == "reveal-not-allowed"
    assert await trail(w) == [(reveal.REFUSED, ACTOR, 4, "")]


@pytest.mark.parametrize("user", ["somebody-else", ME])
async def test_t46_a_command_reads_in_clear_only_for_a_user_named_in_the_configuration(w: World, user: str) -> None:
    await published(w)
    desk = operations(
        tenant=TENANT,
        store=w.store,
        clock=w.clock,
        admission=w.admission,
        intake=w.intake,
    )
    order = Asked(desk, reveal_users=frozenset({ME})).by_name()["reveal"]
    facts = {"tenant": TENANT, "study": STUDY, "user": user}
    if user != ME:
        with pytest.raises(Refused):
            await order(facts, lambda _: None)
        return
    told = await order(facts, lambda _: None)
    assert [one["number"] for one in told] == [one.listed.number for one in await opened(w)]


@pytest.mark.parametrize("may_read", [True, False])
async def test_the_command_reveals_to_whom_it_may_and_says_why_not_otherwise(tmp_path: Path, may_read: bool) -> None:
    async with world(tmp_path) as w:
        await published(w)
    conf_of(tmp_path, reveal_users=(ME,) if may_read else ("somebody-else",))
    ran = await exam_command(tmp_path, "--reveal")
    matricule = EXAM.patient.matricule or ""
    if may_read:
        assert ran.returncode == 0, ran.stderr
        assert matricule in ran.stdout
    else:
        assert ran.returncode != 0
        assert "[exchanges] reveal_users" in ran.stderr
        assert matricule not in ran.stdout + ran.stderr
    async with world(tmp_path) as again:
        event = reveal.READ if may_read else reveal.REFUSED
        assert [(one[0], one[1]) for one in await trail(again)] == [(event, f"operator:{ME} (command line)")]


# -- no patient in what everybody sees -----------------------------------------------------------------------------

MARKED = 20


def marked(n: int) -> tuple[LabExam, list[str]]:
    """An exam of its own, and every value of it that names its patient."""
    letter = "ABCDEFGHIJKLMNOPQRST"[n]
    patient = LabPatient(
        birth_name=f"ZQ{letter}NOMZQ",
        first_given_name=f"ZQ{letter}PRENOMZQ",
        given_names=f"ZQ{letter}PRENOMZQ ZQ{letter}AUTREZQ",
        used_name=f"ZQ{letter}USAGEZQ",
        birth_date=date(1930 + n, 3, 17),
        rank=100 + n,
        ipp=f"ZQIPP{letter}77",
    )
    order = LabOrder(accession_number=f"ZQACN{letter}77", placer_number=f"ZQOPN{letter}77")
    number = 8000 + n
    arcs = EXAM.studies[0].rsplit(".", 2)[0]
    exam = replace(
        EXAM,
        patient=patient,
        orders=(order,),
        studies=(f"{arcs}.2.{number}",),
        document_id=f"{arcs}.1.{number}",
        set_id=f"{arcs}.3.{number}",
    )
    values = [
        patient.birth_name, patient.first_given_name, f"ZQ{letter}AUTREZQ", patient.used_name,
        patient.matricule or "", (patient.matricule or "")[:13], patient.ipp, order.accession_number,
        order.placer_number, f"{patient.birth_date:%Y%m%d}", f"{patient.birth_date:%Y-%m-%d}",
    ]  # fmt: skip
    return exam, values


async def test_twenty_marked_patients_stand_in_nothing_that_is_masked_nor_in_the_log(w: World) -> None:
    values: list[str] = []
    masked: list[str] = []
    clear = b""
    with capture_logs() as log:
        for n in range(MARKED):
            exam, found = marked(n)
            values += found
            if n % 4 == 3:
                w.index.switches.set(
                    Switch(name=Fault.REFUSE, code="XDSRegistryMetadataError", on=(w.provide,), times=1)
                )
            await published(w, exam)
            for one in await opened(w, exam.studies[0]):
                shown = reveal.mask(one)
                masked += [shown.request, shown.answer, repr(one), repr(shown.listed)]
                clear += one.request + one.answer
    assert len(masked) > MARKED * 4
    seen = "\n".join(masked) + json.dumps(log, default=str)
    assert [one for one in values if one in seen] == []
    assert sum(one.encode() in clear for one in values) > MARKED * 5
