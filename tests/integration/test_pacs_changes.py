"""The change log of a real Orthanc, followed into a real store: late images, lost timers, restored databases."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import aiohttp
import apsw
import pytest
import structlog
from aiohttp import web

from gateway.components import COMPONENTS
from gateway.lab.orthanc import OrthancProcess
from gateway.lab.phantom import LabStudy
from gateway.lab.ris import LabExam, LabOrder
from gateway.pacs.changes import Change, ChangeFollower, Cursor, Page, nudge_route, unread
from gateway.pacs.orthanc import OrthancPeer, OrthancSource
from indexer.completeness import Policy
from indexer.ledger import Ledger, evidence_of
from indexer.manifest import instances_of
from indexer.publication import job_kind
from security.errors import Unavailable
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from security.seal import Vault
from security.store.port import ReadTx, Tx
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import Hands
from tests.support.pacs import need_orthanc, new_uid, orthanc_peer
from tests.support.world import TENANT, World, world

pytestmark = pytest.mark.orthanc

PACS = "orthanc"
STABLE_S = 1
NUMBERS = count(1)  # no clock: its digits grow with the machine's uptime, and an AccessionNumber has 16 characters


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancProcess]:
    """An Orthanc that calls a study stable after a second."""
    need_orthanc()
    process = OrthancProcess.start(tmp_path_factory.mktemp("quick"), StableAge=STABLE_S)
    yield process
    end(process)


def end(orthanc: OrthancProcess) -> None:
    """As a power cut would: its own stop takes seconds."""
    orthanc._process.kill()
    orthanc._process.wait()


def exam_with_images() -> tuple[LabExam, LabStudy]:
    """A report and the study it speaks of, nobody else's."""
    number = str(next(NUMBERS))
    exam = replace(
        LabExam(),
        studies=(new_uid(),),
        orders=(LabOrder(accession_number=f"ACN{number}", placer_number=f"OPN{number}"),),
        document_id=f"1.2.250.1.213.4.5.9.1.{number}",
    )
    person = exam.patient
    study = LabStudy(
        study_uid=exam.studies[0],
        patient_id=person.ipp,
        name=f"{person.birth_name}^{person.first_given_name}",
        birth_date=f"{person.birth_date:%Y%m%d}",
        sex=person.sex,
        accession=exam.orders[0].accession_number,
        date="20260108",
    )
    return exam, study


@dataclass
class Site:
    """A world that asks a real Orthanc, and follows its changes."""

    w: World
    orthanc: OrthancProcess
    follower: ChangeFollower
    observed: list[str]
    made: list[ChangeFollower]

    def another_follower(self, peer: OrthancPeer | None = None, **changes: object) -> ChangeFollower:
        made = ChangeFollower(
            tenant=TENANT,
            peer=peer or orthanc_peer(self.orthanc),
            ledger=self.w.ledger,
            clock=self.w.clock,
            **{"store": self.w.store, "observe": self.observed.append, **changes},  # type: ignore[arg-type]
        )
        self.made.append(made)
        return made

    def load(self, study: LabStudy, instances: int) -> None:
        """One more series of that study arrives."""
        series = study.add_series("CT", instances=instances)
        self.orthanc.load(one.data for one in study.objects if one.series == series)

    async def follow_until(self, kind: str, study: str) -> None:
        """Look until Orthanc logged such a change of ``study`` and all was read."""
        seen_from = len(self.logged(kind, study))
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            is_there = len(self.logged(kind, study)) > seen_from
            while not (await self.follower.look()).is_last:
                pass
            if is_there:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"Orthanc never logged {kind}")

    async def catch_up(self, follower: ChangeFollower | None = None) -> int:
        """Read the log to its end; how many changes."""
        read = 0
        while True:
            look = await (follower or self.follower).look()
            read += look.changes
            if look.is_last:
                return read

    def logged(self, kind: str, study: str) -> list[int]:
        with self.orthanc._session() as session:
            known = session.post(f"{self.orthanc.url}/tools/lookup", data=study, timeout=5).json()
            identifiers = {entry["ID"] for entry in known}
            rows = session.get(f"{self.orthanc.url}/changes?since=0&limit=100000", timeout=5).json()["Changes"]
        return [row["Seq"] for row in rows if row["ChangeType"] == kind and row["ID"] in identifiers]

    async def cursor(self) -> Cursor | None:
        def work(tx: ReadTx) -> Cursor | None:
            row = tx.row("SELECT seq, mark FROM pacs_cursor WHERE tenant = 'site' AND pacs = 'orthanc'")
            return Cursor(seq=row["seq"], mark=row["mark"]) if row else None

        return await self.w.store.read(work)

    async def turn_back(self, cursor: Cursor) -> None:
        """As if what follows ``cursor`` had not been read."""

        def work(tx: Tx) -> None:
            tx.change("UPDATE pacs_cursor SET seq = :seq, mark = :mark", seq=cursor.seq, mark=cursor.mark)

        await self.w.store.write(work)

    async def evidence(self, study: str) -> list[str]:
        return [e.kind for e in await self.w.store.read(lambda tx: evidence_of(tx, TENANT, study))]


@asynccontextmanager
async def site(folder: Path, orthanc: OrthancProcess, **policy: object) -> AsyncIterator[Site]:
    source = OrthancSource(orthanc_peer(orthanc))
    try:
        async with world(folder, source=source, **policy) as w:
            here = Site(w=w, orthanc=orthanc, follower=None, observed=[], made=[])  # type: ignore[arg-type]
            here.follower = here.another_follower()
            await here.follower.look()  # begins where the log ends now
            try:
                yield here
            finally:
                for follower in here.made:
                    await follower.close()
    finally:
        await source.close()


@pytest.fixture
async def here(tmp_path: Path, quick: OrthancProcess) -> AsyncIterator[Site]:
    async with site(tmp_path, quick) as made:
        yield made


async def test_ff13_images_that_come_after_the_publication_make_one_replace_never_a_second_create(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 2)
    await here.w.report(exam)
    await here.w.settle()
    assert [status for _, status in await here.w.entries(exam)] == ["Approved"]

    here.load(study, 3)  # the scanner had paused
    await here.follow_until("StableStudy", study.uid)
    await here.w.settle()

    assert sorted(status for _, status in await here.w.entries(exam)) == ["Approved", "Deprecated"]
    assert await here.w.count("manifest") == 2
    assert "2 series, 5 instances, replaces the approved entry" in await newest_manifest(here, study.uid)
    assert "pacs-changed" in await here.evidence(study.uid)


async def newest_manifest(here: Site, study: str) -> str:
    told = await here.w.store.read(lambda tx: evidence_of(tx, TENANT, study))
    return [e.summary for e in told if e.kind == "manifest-built"][-1]


async def test_ff15_five_late_batches_in_ten_minutes_make_at_most_two_replaces_and_one_entry_that_lists_them_all(
    tmp_path: Path, quick: OrthancProcess
) -> None:
    minute = timedelta(minutes=1)
    policy = Policy(by="report", apart=5 * minute, idle=10 * minute, ceiling=45 * minute)
    async with site(tmp_path, quick, completeness=policy) as here:
        exam, study = exam_with_images()
        here.load(study, 1)
        await here.w.report(exam)
        await here.w.settle(step_s=0.1)
        for _ in range(5):  # each is called stable: each would be a replacement
            here.load(study, 1)
            await here.follow_until("StableStudy", study.uid)
            await here.w.settle(step_s=0.1)
            here.w.clock.advance(120)
        for _ in range(12):
            await here.w.settle(step_s=0.1)
            here.w.clock.advance(60)

        statuses = [status for _, status in await here.w.entries(exam)]
        assert statuses.count("Approved") == 1
        assert 1 <= statuses.count("Deprecated") <= 2
        versions = len(statuses)
        listed = await here.w.store.read(lambda tx: here.w.ledger.manifest_at(tx, TENANT, study.uid, versions))
        assert listed is not None
        assert instances_of(listed[0]) == {one.sop_instance for one in study.objects}
        assert len(study.objects) == 6


async def test_i06_a_change_that_changes_nothing_sends_nothing(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 2)
    await here.w.report(exam)
    await here.w.settle()

    await here.follow_until("StableStudy", study.uid)  # of the images that are published already
    await here.w.settle()

    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED, State.CANCELLED]
    assert await here.w.count("manifest") == 1


async def test_an_exam_that_waits_for_its_images_is_looked_at_as_soon_as_they_are_complete(here: Site) -> None:
    exam, study = exam_with_images()
    await here.w.report(exam)
    await here.w.engine.step()
    waiting = await here.w.last(study.uid)
    assert (waiting.reason, waiting.not_before and waiting.not_before > here.w.clock.now()) == (
        "pacs-has-no-such-study",
        True,
    )

    here.load(study, 1)
    await here.follow_until("StableStudy", study.uid)
    await here.w.engine.step()  # no time has passed

    before, now = await here.w.jobs_of(study.uid)
    assert (before.state, now.state) == (State.SUPERSEDED, State.READY)


async def test_ff13_images_completed_while_the_pacs_is_being_asked_are_asked_for_again(here: Site) -> None:
    exam, study = exam_with_images()
    await here.w.report(exam)

    def claim(tx: Tx) -> int:
        kind = job_kind(TENANT)
        now = here.w.clock.now()
        return len(
            jobs.claim(
                tx, owner="me", now=now, limit=1, kinds={kind: "e"}, permits={"e": 1}, spare=8, settles={kind: 1}
            )
        )

    assert await here.w.store.write(claim) == 1  # its question is under way
    here.load(study, 1)
    await here.follow_until("StableStudy", study.uid)

    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.SUPERSEDED, State.SETTLING]


async def test_several_changes_of_one_exam_make_one_job(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 3)
    await here.w.report(exam)
    await here.w.settle()

    while len(here.logged("StableStudy", study.uid)) < 1:
        await asyncio.sleep(0.1)
    here.load(study, 2)
    while len(here.logged("StableStudy", study.uid)) < 2:
        await asyncio.sleep(0.1)
    before = await here.cursor()
    assert await here.catch_up() > 5
    await here.turn_back(before)
    assert await here.catch_up() > 5  # the job before has not begun

    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED, State.SETTLING]
    assert (await here.evidence(study.uid)).count("pacs-changed") == 1


async def test_a_study_that_nobody_reported_leaves_no_trace(here: Site) -> None:
    _, study = exam_with_images()
    here.load(study, 1)

    await here.follow_until("StableStudy", study.uid)

    assert await here.w.count("outbox_job") == await here.w.count("exam") == await here.w.count("pacs_arriving") == 0
    assert (await here.cursor()).seq >= here.logged("StableStudy", study.uid)[-1]


async def test_a_follower_without_a_cursor_begins_where_the_log_ends(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 1)
    await here.w.report(exam)
    await here.w.settle()
    newcomer = here.another_follower(replace(orthanc_peer(here.orthanc), name="newcomer"))

    assert await here.catch_up(newcomer) == 0
    here.load(study, 1)

    assert await here.catch_up(newcomer) >= 2  # the new series and its instance, nothing before


async def test_small_pages_read_what_one_page_reads(here: Site) -> None:
    _, earlier = exam_with_images()
    here.load(earlier, 1)
    await here.catch_up()  # a page begins with the row at the cursor, when there is one
    start = (await here.cursor()).seq
    small = here.another_follower(page=3)
    _, study = exam_with_images()
    here.load(study, 10)

    looks = [await small.look() for _ in range(3)]

    assert [(look.changes, look.is_last) for look in looks] == [(3, False)] * 3
    await here.catch_up(small)
    assert (await here.cursor()).seq >= start + 12


class Interrupted:
    """A store that dies between the work that makes a job and its commit."""

    def __init__(self, store) -> None:
        self._store = store
        self.dies = True

    async def read(self, work):
        return await self._store.read(work)

    async def write(self, work):
        def cut(tx):
            before = tx.rows("SELECT job_id FROM outbox_job")
            done = work(tx)
            if self.dies and tx.rows("SELECT job_id FROM outbox_job") != before:
                raise Unavailable("the disk is full", code="store-full", hint="")
            return done

        return await self._store.write(cut)


async def test_f01_the_cursor_and_what_it_led_to_commit_together_or_not_at_all(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 1)
    await here.w.report(exam)
    await here.w.settle()
    while not here.logged("StableStudy", study.uid):
        await asyncio.sleep(0.1)
    before = await here.cursor()
    store = Interrupted(here.w.store)
    dying = here.another_follower(store=store)

    with pytest.raises(Unavailable):
        await dying.look()

    assert await here.cursor() == before
    assert len(await here.w.jobs_of(study.uid)) == 1
    assert "pacs-changed" not in await here.evidence(study.uid)
    store.dies = False
    await dying.look()
    assert (await here.cursor()).seq > before.seq
    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED, State.SETTLING]


@pytest.mark.parametrize(("point", "is_taken"), [("store-before-commit", False), ("changes-committed", True)])
async def test_f01_killed_at_any_point_a_page_is_taken_once(
    tmp_path: Path, quick: OrthancProcess, point: str, is_taken: bool
) -> None:
    exam, study = exam_with_images()
    async with site(tmp_path, quick) as here:
        here.load(study, 1)
        await here.w.report(exam)
        await here.w.settle()
        while not here.logged("StableStudy", study.uid):
            await asyncio.sleep(0.1)

    async def follow(**environment: str) -> int | None:
        arguments = [str(tmp_path / "gateway.db"), quick.url, quick.username, quick.password]
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.changes_child",
            *arguments,
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
        )
        return await asyncio.wait_for(child.wait(), 30)

    def jobs_made() -> list[str]:
        connection = apsw.Connection(str(tmp_path / "gateway.db"))
        try:
            return [row[0] for row in connection.execute("SELECT state FROM outbox_job ORDER BY job_id")]
        finally:
            connection.close()

    assert await follow(POTERNE_CRASH_AT=point) == -signal.SIGKILL
    assert jobs_made() == ["PUBLISHED", "SETTLING"][: 1 + is_taken]
    assert await follow() == 0
    assert jobs_made() == ["PUBLISHED", "SETTLING"]


async def test_ff13_a_restart_that_loses_orthancs_timer_does_not_lose_the_images(tmp_path: Path) -> None:
    need_orthanc()
    orthanc = OrthancProcess.start(tmp_path / "orthanc", StableAge=3600)
    try:
        async with site(tmp_path, orthanc) as here:
            exam, study = exam_with_images()
            here.load(study, 1)
            await here.w.report(exam)
            await here.w.settle()
            here.load(study, 1)
            await here.catch_up()  # arriving; Orthanc waits an hour for more
            end(orthanc)
            orthanc = OrthancProcess.start(tmp_path / "orthanc", StableAge=3600)
            again = here.another_follower(orthanc_peer(orthanc))

            await here.catch_up(again)
            assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED]
            here.w.clock.advance(601)
            await here.catch_up(again)

            assert here.observed == []
            assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED, State.SETTLING]
            assert await here.w.count("pacs_arriving") == 0
    finally:
        end(orthanc)


async def test_a_pacs_restored_or_replaced_is_read_again_from_its_beginning(here: Site, tmp_path: Path) -> None:
    exam, study = exam_with_images()
    other = OrthancProcess.start(tmp_path / "other", StableAge=STABLE_S)
    try:
        here.load(study, 20)  # the log we know is longer than the other's
        await here.w.report(exam)
        await here.w.settle()
        await here.catch_up()
        other.load(one.data for one in study.objects[:1])
        known = LogOf(other)
        while not known.has("StableStudy"):
            await asyncio.sleep(0.1)
        elsewhere = here.another_follower(orthanc_peer(other))

        with structlog.testing.capture_logs() as logged:
            read = await here.catch_up(elsewhere)

        assert here.observed == ["pacs-reset"]
        assert "pacs-reset" in [entry["event"] for entry in logged]
        assert read >= 4  # what is there was read, from its first change on
        again = await here.w.last(study.uid)
        assert (again.state, again.job_class) == (State.SETTLING, JobClass.P2)  # new exams go first
        assert await here.catch_up(elsewhere) == 0
        assert here.observed == ["pacs-reset"]
    finally:
        end(other)


@dataclass
class LogOf:
    """The change log of an Orthanc."""

    orthanc: OrthancProcess

    def has(self, kind: str) -> bool:
        with self.orthanc._session() as session:
            rows = session.get(f"{self.orthanc.url}/changes?since=0&limit=1000", timeout=5).json()["Changes"]
        return any(row["ChangeType"] == kind for row in rows)


async def test_an_exam_whose_only_report_is_held_is_left_alone(here: Site) -> None:
    exam, study = exam_with_images()
    stranger = replace(exam.patient, birth_name="REVENANT-TEST")
    assert "|AE|" in await here.w.report(replace(exam, envelope_patient=stranger))
    here.load(study, 1)

    await here.follow_until("StableStudy", study.uid)

    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.BLOCKED]
    assert "pacs-changed" not in await here.evidence(study.uid)


async def test_deleting_the_newest_study_is_no_reset(here: Site) -> None:
    _, study = exam_with_images()
    here.load(study, 2)
    await here.follow_until("StableStudy", study.uid)
    before = await here.cursor()

    here.orthanc.delete_study(study.uid)
    assert await here.catch_up() == 0

    assert here.observed == []
    assert await here.cursor() == before
    _, later = exam_with_images()
    here.load(later, 1)
    assert await here.catch_up() >= 3


async def test_an_orthanc_that_is_down_is_waited_for_and_nothing_it_logged_is_skipped(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 1)
    await here.w.report(exam)
    await here.w.settle()
    peer = replace(orthanc_peer(here.orthanc), timeout_s=0.3, deadline_s=1.0)
    follower = here.another_follower(peer, every_s=0.1)
    before, stop = await here.cursor(), asyncio.Event()
    here.orthanc._process.send_signal(signal.SIGSTOP)  # it takes the connection and says nothing
    try:
        with structlog.testing.capture_logs() as logged:
            running = asyncio.create_task(follower.run(stop))
            await asyncio.sleep(1.2)
            assert not running.done()
        assert [e["reason"] for e in logged if e["event"] == "pacs-changes-unread"] == ["unreachable"]
        assert await here.cursor() == before
    finally:
        here.orthanc._process.send_signal(signal.SIGCONT)
    ends = time.monotonic() + 10
    while len(await here.w.jobs_of(study.uid)) < 2 and time.monotonic() < ends:
        await asyncio.sleep(0.1)
    stop.set()
    await running

    assert [job.state for job in await here.w.jobs_of(study.uid)] == [State.PUBLISHED, State.SETTLING]


async def test_a_nudge_makes_a_look_at_once_and_only_a_known_pacs_takes_one(here: Site) -> None:
    exam, study = exam_with_images()
    await here.w.report(exam)
    await here.w.engine.step()  # it waits for its images
    follower = here.another_follower(every_s=600.0)
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    async with serving({(TENANT, PACS): follower}) as url, aiohttp.ClientSession(url) as session:
        here.load(study, 1)
        while not here.logged("StableStudy", study.uid):
            await asyncio.sleep(0.1)
        started = time.monotonic()
        async with session.post(f"/pacs/{TENANT}/{PACS}/nudge") as answer:
            assert (answer.status, await answer.read()) == (204, b"")
        while len(await here.w.jobs_of(study.uid)) < 2:
            assert time.monotonic() < started + 5
            await asyncio.sleep(0.05)
        for path, body, status in [
            (f"/pacs/{TENANT}/elsewhere/nudge", None, 404),
            (f"/pacs/{TENANT}/{PACS}/nudge", b"x", 400),
        ]:
            async with session.post(path, data=body) as answer:
                assert answer.status == status
        async with session.get(f"/pacs/{TENANT}/{PACS}/nudge") as answer:
            assert answer.status == 405
    stop.set()
    await asyncio.wait_for(running, 2)


@asynccontextmanager
async def serving(followers) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([nudge_route(followers)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_script_for_orthanc_nudges_when_a_study_is_stable(tmp_path: Path) -> None:
    need_orthanc()
    nudged: asyncio.Queue[str] = asyncio.Queue()

    class Ear:
        def nudge(self) -> None:
            nudged.put_nowait("heard")

    async with serving({("north", "main"): Ear()}) as url:
        shipped = (Path(__file__).parents[2] / "conf/orthanc/nudge.lua").read_text(encoding="utf-8")
        assert len(shipped.splitlines()) <= 15
        script = tmp_path / "nudge.lua"
        script.write_text(
            shipped.replace("http://127.0.0.1:9200/pacs/TENANT/PACS/nudge", f"{url}/pacs/north/main/nudge")
        )
        orthanc = await asyncio.to_thread(
            OrthancProcess.start, tmp_path / "orthanc", StableAge=1, LuaScripts=[str(script)]
        )
        try:
            _, study = exam_with_images()
            study.add_series("CT")
            await asyncio.to_thread(orthanc.load, [one.data for one in study.objects])

            assert await asyncio.wait_for(nudged.get(), 10) == "heard"
        finally:
            end(orthanc)


@pytest.mark.parametrize("engine", BOTH)
async def test_changes_are_taken_into_either_database(
    engine, request: pytest.FixtureRequest, quick: OrthancProcess
) -> None:
    store, clock = await fresh(engine, request).open(components=COMPONENTS), Hands()
    vault = await Vault.load(store, bytes(range(32)), [TENANT], clock)
    follower = ChangeFollower(
        tenant=TENANT,
        peer=orthanc_peer(quick),
        store=store,
        ledger=Ledger(vault),
        clock=clock,
        quiet=timedelta(0),  # what arrives is due at the next look
    )
    _, study = exam_with_images()
    study.add_series("CT")

    def know(tx: Tx) -> None:
        tx.change("INSERT INTO exam VALUES ('site', :study, 'ris', 0)", study=study.uid)
        tx.change(
            "INSERT INTO report (tenant, report_id, received_at, control_id, status, reason, replaces, digest,"
            " ins_blind, content) VALUES ('site', 'r', 0, 'm', 'valid', '', '', :bytes, :bytes, :bytes)",
            bytes=b"x",
        )
        tx.change("INSERT INTO report_study VALUES ('site', :study, 'r', '')", study=study.uid)

    def found(tx: ReadTx) -> tuple[object, ...]:
        cursor = tx.row("SELECT seq, replay_until FROM pacs_cursor")
        states = [row["state"] for row in tx.rows("SELECT state FROM outbox_job ORDER BY job_id")]
        kinds = [row["kind"] for row in tx.rows("SELECT kind FROM evidence")]
        arriving = tx.rows("SELECT study_uid FROM pacs_arriving")
        return cursor, states, kinds, [row["study_uid"] for row in arriving]

    try:
        await store.write(know)
        await follower.look()
        await asyncio.to_thread(quick.load, [one.data for one in study.objects])
        await follower.look()
        before, *_, arriving = await store.read(found)
        assert arriving == [study.uid]
        await follower.look()
        after, states, kinds, arriving = await store.read(found)
    finally:
        await follower.close()
        await store.close()
    assert (states, kinds, arriving) == (["SETTLING"], ["pacs-changed"], [])
    assert (after["seq"] >= before["seq"] > 0, after["replay_until"]) == (True, 0)


# ── what a page means, without a PACS ────────────────────────────────────────────────────────────────────────

ROWS = [Change(seq=n, kind="StableStudy", resource=f"r{n}", date="20260301T120000") for n in range(1, 6)]


def page(*changes: Change, last: int = 0, is_last: bool = True) -> Page:
    return Page(changes=changes, is_last=is_last, last=last or (changes[-1].seq if changes else 0))


@pytest.mark.parametrize(
    ("answer", "cursor", "expected"),
    [
        (page(*ROWS[2:]), Cursor(seq=3, mark=ROWS[2].mark), ROWS[3:]),
        (page(*ROWS[3:]), Cursor(seq=3, mark=ROWS[2].mark), ROWS[3:]),  # the row at the cursor is deleted
        (page(last=5), Cursor(seq=5, mark=ROWS[4].mark), []),
        (page(*ROWS), Cursor(seq=0, mark=""), ROWS),
        (page(last=2), Cursor(seq=3, mark=ROWS[2].mark), None),  # the log ends before the cursor
        (page(replace(ROWS[2], date="20260302T090000"), *ROWS[3:]), Cursor(seq=3, mark=ROWS[2].mark), None),
        (page(*ROWS[2:]), Cursor(seq=3, mark=""), ROWS[3:]),  # begun on an empty log
    ],
)
def test_a_page_is_what_follows_the_cursor_or_another_log(answer: Page, cursor: Cursor, expected) -> None:
    found = unread(answer, cursor)
    assert found == (None if expected is None else tuple(expected))


async def test_a_due_time_that_a_wrong_clock_wrote_is_due_now(here: Site) -> None:
    exam, study = exam_with_images()
    here.load(study, 1)
    await here.w.report(exam)
    await here.w.settle()
    await here.follow_until("StableStudy", study.uid)
    await here.w.settle()
    here.load(study, 1)
    here.w.clock.jump(timedelta(days=365))
    await here.catch_up()
    assert await here.w.count("pacs_arriving") == 1

    here.w.clock.jump(timedelta(days=-365))
    await here.catch_up()

    assert await here.w.count("pacs_arriving") == 0
    assert (await here.w.last(study.uid)).state is State.SETTLING
