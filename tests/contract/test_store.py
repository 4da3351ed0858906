"""The conformance suite of ``security.store.port.Store``: what every engine must do, on the real engine."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from security.errors import Broken, Refused
from security.store.port import ReadTx, Store, Tx
from tests.contract.store_parts import add_note, echoes, notes
from tests.contract.store_parts.engines import BOTH, Engine, fresh

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest) -> Engine:
    return fresh(request.param, request)


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    store = await engine.open()
    yield store
    await store.close()


class Gate:
    """A work that stops the writer until told, so that what is submitted meanwhile waits together."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def work(self, tx: Tx, then: Callable[[Tx], object] = lambda _: None) -> object:
        result = then(tx)
        self.entered.set()
        assert self.opened.wait(30)
        return result


async def test_a_write_returns_what_its_work_returned(store: Store) -> None:
    assert await store.write(partial(add_note, number=7)) == 7


async def test_every_kind_of_value_comes_back_as_it_was(store: Store) -> None:
    def work(tx: Tx) -> object:
        tx.change(
            "INSERT INTO value (number, real, text, blob) VALUES (:number, :real, :text, :blob)",
            number=-(2**63),
            real=0.1,
            text="Élodie \u0001 🩻",
            blob=b"\x00\xff",
        )
        tx.change("INSERT INTO value (number, real, text, blob) VALUES (NULL, NULL, NULL, NULL)")
        return tx.rows("SELECT * FROM value ORDER BY number IS NULL")

    assert await store.write(work) == [
        {"number": -9223372036854775808, "real": 0.1, "text": "Élodie \u0001 🩻", "blob": b"\x00\xff"},
        {"number": None, "real": None, "text": None, "blob": None},
    ]


async def test_a_text_that_cannot_be_kept_as_it_is_is_refused(engine: Engine, store: Store) -> None:
    def add(tx: Tx) -> object:
        return tx.rows("INSERT INTO value (text) VALUES (:text) RETURNING text", text="FANTOME\0Zoé")

    if engine.keeps_nul:
        assert await store.write(add) == [{"text": "FANTOME\0Zoé"}]
        return
    with pytest.raises(Refused) as caught:
        await store.write(add)
    assert caught.value.code == "store-value"
    assert "FANTOME" not in str(caught.value)


async def test_sums_averages_and_comparisons_are_plain_numbers(store: Store) -> None:
    def work(tx: Tx) -> object:
        tx.change("INSERT INTO value (number) VALUES (1), (2), (:big)", big=2**62)
        return tx.row(
            "SELECT SUM(number) AS total, AVG(number) AS mean, COUNT(*) AS n, MAX(number) = :big AS is_big,"
            " (SELECT AVG(number) FROM value WHERE number < 3) AS half FROM value WHERE number < 4 OR number = :big",
            big=2**62,
        )

    row = await store.write(work)
    assert row == {"total": 2**62 + 3, "mean": pytest.approx(2**62 / 3), "n": 3, "is_big": 1, "half": 1.5}
    assert {type(value) for value in row.values()} <= {int, float}


async def test_what_looks_like_a_parameter_in_a_text_or_a_comment_is_none(store: Store) -> None:
    sql = """SELECT ':a' AS "x:b", 'it''s :c %s %' AS y, :d AS z /* :e */ -- :f"""
    assert await store.read(lambda tx: tx.rows(sql, d="$1")) == [{"x:b": ":a", "y": "it's :c %s %", "z": "$1"}]


async def test_a_statement_that_is_wrong_is_a_fault_and_leaves_the_store_at_work(store: Store) -> None:
    with pytest.raises(Broken) as caught:
        await store.write(lambda tx: tx.change("INSERT INTO nothing VALUES (1)"))
    assert caught.value.code == "store-statement"
    assert await store.write(partial(add_note, number=1)) == 1


async def test_returning_gives_rows_and_change_counts_them(store: Store) -> None:
    def work(tx: Tx) -> object:
        made = tx.rows("INSERT INTO note (number, tenant, body) VALUES (1, 't', 'a'), (2, 't', 'b') RETURNING number")
        none = tx.change("UPDATE note SET body = 'c' WHERE number = 99")
        both = tx.change("UPDATE note SET body = 'c'")
        return made, none, both

    assert await store.write(work) == ([{"number": 1}, {"number": 2}], 0, 2)


async def test_a_row_that_is_not_there_is_none(store: Store) -> None:
    assert await store.read(lambda tx: tx.row("SELECT * FROM note WHERE number = :n", n=1)) is None


async def test_two_rows_where_one_is_asked_for_are_a_fault(store: Store) -> None:
    with pytest.raises(Broken, match="2 rows where at most one can be") as caught:
        await store.read(lambda tx: tx.row("SELECT 1 AS n UNION ALL SELECT 2"))
    assert caught.value.code == "store-statement"


async def test_a_parameter_that_is_missing_is_an_error_and_not_null(store: Store) -> None:
    with pytest.raises(KeyError):
        await store.write(lambda tx: tx.change("INSERT INTO value (text) VALUES (:text)"))
    assert await store.read(lambda tx: tx.rows("SELECT * FROM value")) == []


async def test_a_value_that_looks_like_sql_is_just_a_value(store: Store) -> None:
    text = "'); DROP TABLE note; --"
    await store.write(lambda tx: tx.change("INSERT INTO note VALUES (1, 't', :text)", text=text))
    assert await store.read(lambda tx: tx.rows("SELECT body FROM note")) == [{"body": "'); DROP TABLE note; --"}]


async def test_a_work_that_raises_leaves_no_trace(store: Store) -> None:
    def work(tx: Tx) -> None:
        add_note(tx, 1)
        raise Refused("not now", code="not-now")

    with pytest.raises(Refused, match="not now"):
        await store.write(work)
    assert await store.read(notes) == []


async def test_a_work_that_lets_stop_iteration_out_does_not_hang_its_caller(store: Store) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await store.write(lambda _: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await store.read(lambda _: next(iter(())))


async def test_data_that_break_a_constraint_are_refused_without_naming_them(store: Store) -> None:
    await store.write(partial(add_note, number=1))
    with pytest.raises(Refused) as caught:
        await store.write(lambda tx: tx.change("INSERT INTO note VALUES (1, 't', 'FANTOME')"))
    assert caught.value.code == "store-constraint"
    assert "FANTOME" not in str(caught.value)


async def test_a_reference_to_nothing_is_refused(store: Store) -> None:
    with pytest.raises(Refused):
        await store.write(lambda tx: tx.change("INSERT INTO echo VALUES (5, 't')"))


async def test_a_work_may_catch_a_constraint_and_go_on(store: Store) -> None:
    def work(tx: Tx) -> str:
        add_note(tx, 1)
        try:
            add_note(tx, 1)
        except Refused:
            add_note(tx, 2)
        return "went on"

    assert await store.write(work) == "went on"
    assert await store.read(notes) == [1, 2]
    assert await store.read(echoes) == [1, 2]


async def test_the_failure_of_one_work_leaves_its_neighbours_whole(store: Store) -> None:
    def failing(tx: Tx) -> None:
        add_note(tx, 2)
        raise Refused("not now", code="not-now")

    gate = Gate()
    first = asyncio.create_task(store.write(gate.work))
    await asyncio.to_thread(gate.entered.wait, 30)
    neighbours = [
        asyncio.create_task(store.write(work))
        for work in (partial(add_note, number=1), failing, partial(add_note, number=3))
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    answers = await asyncio.gather(first, *neighbours, return_exceptions=True)

    assert answers[1] == 1
    assert isinstance(answers[2], Refused)
    assert answers[3] == 3
    assert await store.read(notes) == [1, 3]


async def test_works_run_in_the_order_in_which_they_were_submitted(store: Store) -> None:
    order: list[int] = []
    await asyncio.gather(*(store.write(lambda _, n=n: order.append(n)) for n in range(200)))
    assert order == list(range(200))


async def test_a_reader_never_waits_for_the_writer_and_sees_only_what_is_committed(store: Store) -> None:
    gate = Gate()
    writing = asyncio.create_task(store.write(partial(gate.work, then=partial(add_note, number=1))))
    await asyncio.to_thread(gate.entered.wait, 30)
    async with asyncio.timeout(5):
        assert await store.read(notes) == []
    gate.opened.set()
    await writing
    assert await store.read(notes) == [1]


async def test_what_a_read_sees_does_not_change_while_it_looks(store: Store) -> None:
    looked, written = threading.Event(), threading.Event()

    def twice(tx: ReadTx) -> tuple[list[int], list[int]]:
        before = notes(tx)
        looked.set()
        assert written.wait(30)
        return before, notes(tx)

    reading = asyncio.create_task(store.read(twice))
    await asyncio.to_thread(looked.wait, 30)
    await store.write(partial(add_note, number=1))
    written.set()
    assert await reading == ([], [])


async def test_a_read_cannot_change_anything(store: Store) -> None:
    with pytest.raises(Broken):
        await store.read(lambda tx: tx.rows("INSERT INTO note VALUES (1, 't', 'x') RETURNING number"))
    assert await store.read(notes) == []


async def test_a_transaction_kept_beyond_its_work_is_useless(store: Store) -> None:
    kept = [await store.write(lambda tx: tx), await store.read(lambda tx: tx)]
    for tx in kept:
        with pytest.raises(Broken, match="after its work had ended"):
            tx.rows("SELECT 1")


async def test_a_cancelled_caller_abandons_the_answer_and_not_the_work(store: Store) -> None:
    gate = Gate()
    running = asyncio.create_task(store.write(partial(gate.work, then=partial(add_note, number=1))))
    await asyncio.to_thread(gate.entered.wait, 30)
    waiting = asyncio.create_task(store.write(partial(add_note, number=2)))
    await asyncio.sleep(0)
    running.cancel()
    waiting.cancel()
    gate.opened.set()
    for task in (running, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.write(partial(add_note, number=3))
    assert await store.read(notes) == [1, 2, 3]


async def test_close_finishes_what_was_submitted_and_leaves_no_thread(engine: Engine) -> None:
    before = set(threading.enumerate())
    store = await engine.open()
    submitted = [asyncio.create_task(store.write(partial(add_note, number=n))) for n in range(150)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*submitted) == list(range(150))
    assert {t.name for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio_")} == set()


async def test_close_may_be_called_twice_and_refuses_what_comes_later(engine: Engine) -> None:
    store = await engine.open()
    await asyncio.gather(store.close(), store.close())
    await store.close()
    for use in (store.write, store.read):
        with pytest.raises(Broken) as caught:
            await use(lambda _: None)
        assert caught.value.code == "store-closed"


async def test_what_was_written_is_there_after_opening_again(engine: Engine) -> None:
    store = await engine.open()
    await store.write(partial(add_note, number=1))
    await store.close()
    store = await engine.open()
    assert await store.read(notes) == [1]
    await store.close()


async def test_a_reader_beside_the_writer_sees_its_commits_and_cannot_write(engine: Engine, store: Store) -> None:
    reader = await engine.open(read_only=True)
    await store.write(partial(add_note, number=1))
    assert await reader.read(notes) == [1]
    with pytest.raises(Refused) as caught:
        await reader.write(partial(add_note, number=2))
    assert caught.value.code == "store-read-only"
    await reader.close()


async def test_f26_a_second_writer_is_refused_until_the_first_has_closed(engine: Engine) -> None:
    first = await engine.open()
    with pytest.raises(Broken) as caught:
        await engine.open()
    assert caught.value.code == "store-locked"
    assert str(os.getpid()) in str(caught.value)
    assert await first.write(partial(add_note, number=1)) == 1
    await first.close()
    await (await engine.open()).close()


async def test_f26_a_second_process_is_refused_while_the_first_lives_and_served_once_it_is_dead(
    engine: Engine,
) -> None:
    with _child(engine, writers=1) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(Broken) as caught:
            await engine.open()
        assert caught.value.code == "store-locked"
        child.kill()
        child.stdout.read()
    await (await engine.open()).close()


@pytest.mark.parametrize(
    "point", ["store-before-commit#1", "store-before-commit#5", "store-after-commit#1", "store-after-commit#5"]
)
async def test_f01_a_process_killed_around_its_commit_keeps_what_it_acknowledged(engine: Engine, point: str) -> None:
    with _child(engine, writers=3, POTERNE_CRASH_AT=point) as child:
        acknowledged = _acknowledged(child)
    assert child.returncode == -9
    await _assert_kept(engine, acknowledged)


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
async def test_f01_a_process_killed_at_any_moment_keeps_what_it_acknowledged(engine: Engine, kills: int) -> None:
    moments = random.Random(20261122)
    acknowledged: set[int] = set()
    for _ in range(kills):
        with _child(engine, writers=8) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            threading.Timer(moments.uniform(0.0, 0.15), child.kill).start()
            acknowledged |= _acknowledged(child)
        await _assert_kept(engine, acknowledged)
    assert len(acknowledged) > 10 * kills


def _child(engine: Engine, *, writers: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.contract.store_parts.child", engine.name, engine.told(), str(writers)],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def _acknowledged(child: subprocess.Popen[str]) -> set[int]:
    assert child.stdout is not None
    return {int(line) for line in child.stdout if line.strip() not in {"", "open"}}


async def _assert_kept(engine: Engine, acknowledged: set[int]) -> None:
    store = await engine.open()
    kept = await store.read(notes)
    assert acknowledged <= set(kept)
    assert kept == await store.read(echoes)
    await store.close()


async def test_a_single_write_does_not_wait_for_company(store: Store) -> None:
    started = time.perf_counter()
    for number in range(20):
        await store.write(partial(add_note, number=number))
    assert time.perf_counter() - started < 5  # twenty fsyncs, nothing else
