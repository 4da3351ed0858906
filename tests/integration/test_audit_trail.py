"""The trail on a real database: heads, an outside witness, and every manipulation found in its place (security §4)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.settings import AuditSettings
from gateway.trail import TrailKeeper
from security.audit import AuditRecord, append, leaf
from security.audit.heads import KEY_AGE_MAX, SEGMENT_MAX, Head, Sealer, heads, keys, leaves_until
from security.audit.record import RESTORED
from security.audit.trail import Question, ask, erase, note_question
from security.audit.tree import consistency_path, extends, includes, inclusion_path
from security.audit.verifying import Kind, Report, verify
from security.audit.witness import WitnessFile, line, read, read_line
from security.clock import SystemClock
from security.errors import BadInput, Broken, Refused, Unavailable
from security.store.port import GROUND, Store, Tx
from security.store.sqlite import SqliteStore

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEK = bytes(range(32))


def record(number: int, at: datetime = NOON, **fields: str) -> AuditRecord:
    return replace(
        AuditRecord(
            tenant="chu-nord", zone="ops", at=at, event="exam.shown", actor=f"radiologist:{number % 7}",
            outcome=0, object_type="study", object_id=f"1.2.250.1.{number}",
        ),
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@dataclass
class Trail:
    """A database with a trail, its sealer and its witness."""

    store: Store
    sealer: Sealer
    witness: WitnessFile
    place: Path
    now: datetime = NOON

    async def write(self, many: int, *, event: str = "exam.shown") -> None:
        first = (await self.store.read(lambda tx: tx.rows("SELECT COUNT(*) AS n FROM audit_record")))[0]["n"]

        def work(tx: Tx) -> None:
            for number in range(first, first + many):
                append(tx, record(number, self.now, event=event))

        await self.store.write(work)

    async def seal(self) -> list[Head]:
        self.now += timedelta(minutes=1)
        made = await self.sealer.step(self.now, at_once=True)
        self.witness.add(made)
        return made

    async def verified(self) -> Report:
        return await verify(self.store, witness=read(self.place / "witness"), now=self.now)

    async def change(self, sql: str) -> None:
        def work(tx: Tx) -> None:
            for statement in sql.split(";"):
                assert tx.change(statement) >= 0

        await self.store.write(work)


@asynccontextmanager
async def opened(place: Path) -> AsyncIterator[Trail]:
    store = await SqliteStore.open(place / "store.sqlite", [GROUND])
    try:
        yield Trail(store, Sealer(store, kek=KEK), WitnessFile(place / "witness"), place)
    finally:
        await store.close()


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[Trail]:
    """Three heads over ten records each, then three records that no head covers yet."""
    async with opened(tmp_path) as ready:
        for _ in range(3):
            await ready.write(10)
            await ready.seal()
        await ready.write(3)
        yield ready


def places(report: Report) -> list[tuple[Kind, int, int]]:
    return [(finding.kind, finding.first, finding.last) for finding in report.findings]


async def test_what_was_written_is_found_as_it_was_written(trail: Trail) -> None:
    report = await trail.verified()
    assert report.is_intact
    assert (report.records, report.covered, report.heads, report.witnessed) == (33, 30, 3, 3)


async def swap(trail: Trail, one: int, other: int) -> None:
    """Records ``one`` and ``other`` change places, their leaves with them."""

    def work(tx: Tx) -> None:
        tx.change("UPDATE audit_record SET seq = -1 WHERE seq = :one", one=one)
        tx.change("UPDATE audit_record SET seq = :one WHERE seq = :other", one=one, other=other)
        tx.change("UPDATE audit_record SET seq = :other WHERE seq = -1", other=other)

    await trail.store.write(work)


async def put_in(trail: Trail) -> None:
    """A forged record between the fifth and the sixth, everything after it renumbered."""

    def work(tx: Tx) -> None:
        tx.change("UPDATE audit_record SET seq = -seq - 1 WHERE seq > 5")
        tx.change("UPDATE audit_record SET seq = -seq WHERE seq < 0")
        forged = record(99)
        append(tx, forged)
        newest = tx.rows("SELECT MAX(seq) AS seq FROM audit_record")[0]["seq"]
        tx.change("UPDATE audit_record SET seq = 6 WHERE seq = :newest", newest=newest)

    await trail.store.write(work)


async def forge(trail: Trail) -> None:
    """Record 15 gets other content and the leaf that goes with it."""
    forged = record(15, actor="nobody")

    def work(tx: Tx) -> None:
        tx.change(
            "UPDATE audit_record SET actor = 'nobody', object_id = :study, at = :at, leaf = :leaf WHERE seq = 15",
            study=forged.object_id,
            at=int(NOON.timestamp() * 1000),
            leaf=leaf(forged),
        )

    await trail.store.write(work)


def by_sql(sql: str) -> Callable[[Trail], Awaitable[None]]:
    async def apply(trail: Trail) -> None:
        await trail.change(sql)

    return apply


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param(
            by_sql("UPDATE audit_record SET outcome = 8 WHERE seq = 15"), (Kind.EDITED, 15, 15), id="one-bit-flipped"
        ),
        pytest.param(forge, (Kind.CHANGED, 11, 20), id="content-and-leaf-forged"),
        pytest.param(by_sql("DELETE FROM audit_record WHERE seq = 15"), (Kind.DELETED, 15, 15), id="deleted"),
        pytest.param(
            by_sql(
                "DELETE FROM audit_record WHERE seq = 15;UPDATE audit_record SET seq = -(seq - 1) WHERE seq > 15;"
                "UPDATE audit_record SET seq = -seq WHERE seq < 0"
            ),
            (Kind.CHANGED, 11, 20),
            id="deleted-and-renumbered",
        ),
        pytest.param(lambda trail: swap(trail, 13, 17), (Kind.CHANGED, 11, 20), id="reordered"),
        pytest.param(put_in, (Kind.CHANGED, 1, 10), id="inserted"),
        pytest.param(
            by_sql("DELETE FROM audit_record WHERE seq > 25"), (Kind.TRUNCATED, 26, 30), id="tail-truncated"
        ),
        pytest.param(
            by_sql("DELETE FROM audit_record WHERE seq > 20;DELETE FROM audit_head WHERE size > 20"),
            (Kind.ROLLED_BACK, 21, 30),
            id="tail-and-heads-truncated",
        ),
        pytest.param(
            by_sql("UPDATE audit_head SET signature = zeroblob(64) WHERE size = 20"),
            (Kind.HEAD_FORGED, 11, 20),
            id="signature-of-a-head",
        ),
        pytest.param(
            by_sql("UPDATE audit_head SET root = zeroblob(32) WHERE size = 20"),
            (Kind.HEAD_FORGED, 11, 20),
            id="root-of-a-head",
        ),
    ],
)
async def test_every_manipulation_is_found_in_its_place(
    trail: Trail, how: Callable[[Trail], Awaitable[None]], expected: tuple[Kind, int, int]
) -> None:
    await how(trail)
    report = await trail.verified()
    assert not report.is_intact
    assert expected in places(report)


async def test_two_manipulations_in_two_segments_are_both_found(trail: Trail) -> None:
    await swap(trail, 2, 3)
    await swap(trail, 22, 23)
    assert [place for place in places(await trail.verified()) if place[0] is Kind.CHANGED] == [
        (Kind.CHANGED, 1, 10),
        (Kind.CHANGED, 21, 30),
    ]


async def test_an_edit_of_a_record_no_head_covers_yet_is_found(trail: Trail) -> None:
    await trail.change("UPDATE audit_record SET actor = 'nobody' WHERE seq = 32")
    assert places(await trail.verified()) == [(Kind.EDITED, 32, 32)]


async def test_a_trail_rewritten_under_a_key_of_its_own_is_not_believed(trail: Trail) -> None:
    """Who has the database and makes new heads with a new key changes every root, and nobody vouches for the key."""
    await forge(trail)
    await trail.change("DELETE FROM audit_head;DELETE FROM audit_key")
    forger = Sealer(trail.store, kek=b"\x01" * 32)
    assert await forger.step(trail.now, at_once=True)
    found = {finding.kind for finding in (await trail.verified()).findings}
    assert {Kind.KEY_UNKNOWN, Kind.REWRITTEN} <= found


async def test_yesterdays_copy_is_known_by_the_witness_and_by_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as before:
        await before.write(10)
        await before.seal()
    copy = tmp_path / "yesterday.sqlite"
    shutil.copy(tmp_path / "store.sqlite", copy)
    async with opened(tmp_path) as today:
        await today.write(10)
        today.now += timedelta(hours=1)
        await today.seal()
    shutil.copy(copy, tmp_path / "store.sqlite")
    async with opened(tmp_path) as rolled:
        rolled.now += timedelta(hours=2)
        assert (await verify(rolled.store, witness=None, now=NOON)).is_intact
        assert places(await rolled.verified()) == [(Kind.ROLLED_BACK, 11, 20)]
        await rolled.write(3)
        await rolled.seal()
        assert places(await rolled.verified()) == [(Kind.ROLLED_BACK, 13, 20)]


async def test_a_restore_that_the_trail_tells_of_is_told_and_is_no_manipulation(tmp_path: Path) -> None:
    async with opened(tmp_path) as before:
        await before.write(10)
        await before.seal()
    copy = tmp_path / "yesterday.sqlite"
    shutil.copy(tmp_path / "store.sqlite", copy)
    async with opened(tmp_path) as today:
        await today.write(10)
        today.now += timedelta(hours=1)
        await today.seal()
    shutil.copy(copy, tmp_path / "store.sqlite")
    async with opened(tmp_path) as restored:
        restored.now += timedelta(hours=2)
        await restored.write(1, event=RESTORED)
        await restored.seal()
        report = await restored.verified()
        assert places(report) == [(Kind.RESTORED, 11, 20)]
        assert report.is_intact
        await restored.change("DELETE FROM audit_record WHERE seq = 4")
        assert not (await restored.verified()).is_intact


async def test_records_that_wait_too_long_for_a_head_are_named(trail: Trail) -> None:
    trail.now += timedelta(minutes=20)
    assert places(await trail.verified()) == [(Kind.UNSEALED, 31, 33)]


async def test_a_head_is_due_after_a_minute_or_a_thousand_records_and_not_for_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as trail:
        assert await trail.sealer.step(NOON + timedelta(days=1)) == []
        await trail.write(999)
        assert await trail.sealer.step(NOON + timedelta(seconds=59)) == []
        assert [head.size for head in await trail.sealer.step(NOON + timedelta(seconds=60))] == [999]
        assert await trail.sealer.step(NOON + timedelta(hours=1)) == []
        trail.now = NOON + timedelta(hours=2)
        await trail.write(1000)
        assert [head.size for head in await trail.sealer.step(trail.now)] == [1999]


async def test_a_trail_without_heads_gets_them_by_segments(tmp_path: Path) -> None:
    async with opened(tmp_path) as trail:
        await trail.write(SEGMENT_MAX + 5)
        assert [head.size for head in await trail.seal()] == [SEGMENT_MAX, SEGMENT_MAX + 5]
        assert (await trail.verified()).is_intact


async def test_a_stranger_checks_one_record_and_that_nothing_was_taken_back(trail: Trail) -> None:
    made = await trail.store.read(heads)
    covered = await trail.store.read(lambda tx: leaves_until(tx, made[2]))
    path = inclusion_path(covered, 14)
    assert includes(root=made[2].root, size=30, leaf=covered[14], index=14, path=path)
    proof = consistency_path(covered, 10)
    assert extends(older=(10, made[0].root), newer=(30, made[2].root), path=proof)


async def test_an_old_key_vouches_for_the_next(trail: Trail) -> None:
    trail.now += KEY_AGE_MAX
    await trail.write(1)
    await trail.seal()
    known = await trail.store.read(keys)
    assert [key.number for key in known] == [1, 2]
    assert (await trail.verified()).is_intact
    await trail.change("UPDATE audit_key SET vouched = zeroblob(64) WHERE number = 2")
    report = await verify(trail.store, witness=read(trail.place / "witness")[:3], now=trail.now)
    assert (Kind.KEY_UNKNOWN, 31, 34) in places(report)


async def test_another_key_encryption_key_signs_nothing(trail: Trail) -> None:
    with pytest.raises(Broken) as caught:
        await Sealer(trail.store, kek=b"\x02" * 32).step(trail.now, at_once=True)
    assert caught.value.code == "audit-key"


async def test_the_witness_writes_each_head_once_also_after_a_crash(trail: Trail) -> None:
    made, place = await trail.store.read(heads), trail.place / "witness"
    whole = place.read_text()
    place.write_text(whole[:-40])
    assert WitnessFile(place).add(made) == 1
    assert WitnessFile(place).add(made) == 0
    found = [text for text in place.read_text().splitlines() if text.endswith("}")]
    assert [read_line(text, where="line").size for text in found] == [10, 20, 30]


async def test_a_line_cut_by_a_crash_is_named_with_its_number(trail: Trail) -> None:
    place = trail.place / "witness"
    place.write_text(place.read_text() + '{"size":40\n')
    with pytest.raises(BadInput, match="line 4 is not a head") as caught:
        read(place)
    assert caught.value.code == "witness-line"


async def test_a_line_under_another_signature_is_refused(trail: Trail) -> None:
    head = replace((await trail.store.read(heads))[0], size=11)
    with pytest.raises(BadInput, match="signature"):
        read_line(line(head), where="the line")


def test_a_witness_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        WitnessFile(tmp_path / "absent" / "witness").add(
            [Head(size=1, last_seq=1, root=b"", segment=b"", at=NOON, key=b"", signature=b"")]
        )
    assert caught.value.code == "witness-unwritable"


async def test_who_saw_what_is_answered_by_study_by_person_and_by_moment(trail: Trail) -> None:
    between = Question(since=NOON, until=NOON + timedelta(days=1))
    by_study = await trail.store.read(lambda tx: ask(tx, replace(between, object_id="1.2.250.1.8")))
    assert [(one.seq, one.record.actor if one.record else "") for one in by_study] == [(9, "radiologist:1")]
    by_person = await trail.store.read(lambda tx: ask(tx, replace(between, actor="radiologist:3", rows=2)))
    assert [one.seq for one in by_person] == [4, 11]
    onwards = await trail.store.read(lambda tx: ask(tx, replace(between, actor="radiologist:3", after=11)))
    assert [one.seq for one in onwards] == [18, 25, 32]
    assert await trail.store.read(lambda tx: ask(tx, replace(between, event="exam.*", until=NOON))) == []
    assert len(await trail.store.read(lambda tx: ask(tx, replace(between, event="exam.*")))) == 33
    assert await trail.store.read(lambda tx: ask(tx, replace(between, event="login.*"))) == []


async def test_a_question_to_the_trail_is_recorded(trail: Trail) -> None:
    question = Question(since=NOON, until=NOON + timedelta(days=1), object_id="1.2.250.1.8")
    await trail.store.write(lambda tx: note_question(tx, question, actor="security-officer:a", now=trail.now))
    last = (await trail.store.read(lambda tx: ask(tx, replace(question, object_id=""))))[-1]
    assert last.record is not None
    assert (last.record.event, last.record.actor) == ("audit.read", "security-officer:a")
    assert last.record.detail == "between 2026-11-22T12:00:00Z/2026-11-23T12:00:00Z, object 1.2.250.1.8"


async def test_who_asks_the_keeper_is_recorded_before_the_answer(trail: Trail) -> None:
    keeper = TrailKeeper(trail.store, kek=KEK, settings=AuditSettings(), clock=SystemClock())
    question = Question(since=NOON, until=NOON + timedelta(days=1), object_id="1.2.250.1.8")
    assert [one.seq for one in await keeper.show(question, actor="security-officer:a")] == [9]
    asked = replace(question, object_id="", event="audit.read", until=NOON + timedelta(days=36525))
    found = await trail.store.read(lambda tx: ask(tx, asked))
    assert [one.record.actor for one in found if one.record] == ["security-officer:a"]


async def test_the_keeper_tells_of_an_altered_trail_and_records_what_it_found(trail: Trail) -> None:
    told: list[str] = []
    settings = AuditSettings(witness_file=trail.place / "witness")
    keeper = TrailKeeper(trail.store, kek=KEK, settings=settings, clock=SystemClock(), altered=told.append)
    assert (await keeper.verify(actor="poterne")).is_intact
    await trail.change("UPDATE audit_record SET outcome = 8 WHERE seq = 15")
    assert not (await keeper.verify(actor="poterne")).is_intact
    assert told == ["edited"]
    rows = await trail.store.read(
        lambda tx: tx.rows("SELECT outcome, detail FROM audit_record WHERE event = 'audit.verified' ORDER BY seq")
    )
    assert [(row["outcome"], row["detail"].partition(": ")[2]) for row in rows] == [(0, "as written"), (8, "edited")]


async def test_a_witness_that_was_damaged_is_told_and_stops_nothing(trail: Trail) -> None:
    told: list[str] = []
    place = trail.place / "witness"
    place.write_text("nonsense\n" + place.read_text())
    settings = AuditSettings(witness_file=place)
    keeper = TrailKeeper(trail.store, kek=KEK, settings=settings, clock=SystemClock(), altered=told.append)
    stop = asyncio.Event()
    running = asyncio.create_task(keeper.run(stop))
    while not told:
        await asyncio.sleep(0.01)
    stop.set()
    await running
    assert told[0] == "witness-line"


async def test_a_witness_that_is_gone_is_told_and_not_taken_for_none(trail: Trail) -> None:
    settings = AuditSettings(witness_file=trail.place / "witness")
    keeper = TrailKeeper(trail.store, kek=KEK, settings=settings, clock=SystemClock())
    assert (await keeper.verify(actor="poterne")).witnessed is not None
    (trail.place / "witness").unlink()
    with pytest.raises(Unavailable) as caught:
        await keeper.verify(actor="poterne")
    assert caught.value.code == "witness-unwritable"


async def test_the_witness_is_given_what_it_lacks_and_no_more(trail: Trail) -> None:
    made = await trail.store.read(heads)
    after = WitnessFile(trail.place / "witness").last()
    assert after == made[-1].at
    assert await trail.store.read(lambda tx: heads(tx, after=made[0].at)) == made[1:]


async def test_erased_content_leaves_a_trail_that_is_still_true(trail: Trail) -> None:
    later = trail.now + timedelta(days=3653)
    cut = NOON + timedelta(seconds=90)
    done = await trail.store.write(
        lambda tx: erase(tx, before=cut, newest_kept=30, actor="security-officer:a", now=later)
    )
    assert done == 20
    again = await trail.store.write(
        lambda tx: erase(tx, before=cut, newest_kept=30, actor="security-officer:a", now=later)
    )
    assert again == 0
    await trail.sealer.step(later, at_once=True)
    report = await verify(trail.store, witness=read(trail.place / "witness"), now=later)
    assert report.findings == ()
    rows = await trail.store.read(lambda tx: tx.rows("SELECT actor, object_id FROM audit_record WHERE seq <= 20"))
    assert {(row["actor"], row["object_id"]) for row in rows} == {("", "")}


async def test_a_row_marked_erased_without_a_record_of_it_is_a_manipulation(trail: Trail) -> None:
    await trail.change("UPDATE audit_record SET is_erased = 1, actor = '' WHERE seq = 15")
    assert places(await trail.verified()) == [(Kind.EDITED, 15, 15)]


async def test_nothing_is_erased_before_its_time(trail: Trail) -> None:
    with pytest.raises(Refused) as caught:
        await trail.store.write(
            lambda tx: erase(tx, before=trail.now + timedelta(1), newest_kept=30, actor="a", now=trail.now)
        )
    assert caught.value.code == "retention-future"
