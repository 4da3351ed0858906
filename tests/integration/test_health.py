"""The ops listener on a real socket."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import structlog
from aiohttp import web

from gateway.telemetry import Metrics, Snapshot
from gateway.web.health import build_ops_app
from security.errors import Broken, Unavailable
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from security.store.port import GROUND
from security.store.sqlite import SqliteStore

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)


async def all_ready():
    return {"store": "", "engine": ""}


async def empty():
    return Snapshot()


@asynccontextmanager
async def ops(*, ready=all_ready, snapshot=empty, metrics=None, answer_s=5.0):
    """A client's session towards a running ops listener."""
    app = build_ops_app(ready=ready, metrics=metrics or Metrics(), snapshot=snapshot, answer_s=answer_s)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield session
    finally:
        await runner.cleanup()


async def test_a_running_process_is_live():
    async with ops() as session, session.get("/live") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "live"})


async def test_it_is_ready_when_nothing_says_otherwise():
    async with ops() as session, session.get("/ready") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "reasons": {}})


async def test_what_is_not_ready_is_named_with_its_reason():
    async def ready():
        return {"store": "", "kek": "key-encryption key cannot be read"}

    async with ops(ready=ready) as session, session.get("/ready") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": {"kek": "key-encryption key cannot be read"}}


async def test_t34_a_fault_while_asking_shows_its_code_and_nothing_else():
    async def ready():
        raise Broken("/var/lib/poterne/secret-path is gone", code="store-broken", hint="")

    async with ops(ready=ready) as session, session.get("/ready") as answer:
        assert (answer.status, await answer.json()) == (503, {"ready": False, "reasons": {"self": "store-broken"}})


async def test_a_store_that_hangs_makes_it_not_ready_in_bounded_time():
    async def ready():
        await asyncio.Event().wait()

    async with ops(ready=ready, answer_s=0.05) as session, session.get("/ready") as answer:
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": {"self": "no answer within 0.05 s"}}


async def test_live_answers_while_ready_hangs():
    async def ready():
        await asyncio.Event().wait()

    async with ops(ready=ready, answer_s=0.5) as session:
        waiting = asyncio.create_task(session.get("/ready"))
        async with session.get("/live") as answer:
            assert answer.status == 200
        assert not waiting.done()
        (await waiting).release()


async def test_the_metrics_are_in_prometheus_text_format():
    metrics = Metrics()
    metrics.hl7_message("AA")

    async with ops(metrics=metrics) as session, session.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'hl7_messages_total{code="AA"} 1.0' in await answer.text()


@pytest.mark.parametrize("error", [Unavailable("x", code="store-busy"), TimeoutError()])
async def test_the_metrics_page_survives_a_database_that_cannot_be_read(error):
    async def snapshot():
        raise error

    async with ops(snapshot=snapshot) as session, session.get("/metrics") as answer:
        assert answer.status == 200
        assert "queue_readable 0.0" in await answer.text()


@pytest.mark.parametrize("path", ["/live", "/ready", "/metrics", "/nowhere"])
async def test_every_answer_carries_the_security_headers_and_no_library_name(path):
    async with ops() as session, session.get(path) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Server"] == "poterne"


async def test_ff48_an_unknown_address_gets_a_problem_document_with_the_next_step():
    async with ops() as session, session.get("/patients/FANTOME") as answer:
        problem = json.loads(await answer.text())

    assert (answer.status, answer.content_type) == (404, "application/problem+json")
    assert problem.pop("instance").startswith("urn:uuid:")
    assert problem == {
        "type": "urn:poterne:problem:not-found",
        "title": "Adresse inconnue / Unknown address",
        "status": 404,
        "code": "not-found",
        "next": "ask /live, /ready or /metrics",
    }


async def test_ff48_a_wrong_method_is_told_which_are_allowed():
    async with ops() as session, session.post("/live", data=b"x") as answer:
        problem = json.loads(await answer.text())

    assert (answer.status, problem["code"]) == (405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD"}


async def test_ff48_t34_an_unexpected_error_shows_an_instance_found_in_the_log_and_no_detail():
    async def ready():
        raise ValueError("FANTOME-CANARY-7421")

    with structlog.testing.capture_logs() as logs:
        async with ops(ready=ready) as session, session.get("/ready") as answer:
            text = await answer.text()

    assert answer.status == 500
    assert "FANTOME-CANARY-7421" not in text
    assert [entry["instance"] for entry in logs] == [json.loads(text)["instance"]]


async def test_i18_the_figures_come_from_the_database_and_are_the_same_after_a_restart(tmp_path):
    path = tmp_path / "state.db"
    pages = []
    for start in ("first", "second"):
        store = await SqliteStore.open(path, [GROUND])
        try:
            if start == "first":
                await store.write(_queue)

            async def snapshot(store=store):
                figures = await store.read(jobs.snapshot)
                return Snapshot(
                    depth=figures.counts,
                    oldest_age_s={key: (LATER - since).total_seconds() for key, since in figures.oldest.items()},
                    blocked=figures.blocked,
                )

            async with ops(snapshot=snapshot) as session, session.get("/metrics") as answer:
                pages.append({line for line in (await answer.text()).splitlines() if line.startswith(QUEUE)})
        finally:
            await store.close()

    assert pages[0] == pages[1]
    assert {
        'queue_depth{class="P1",state="SETTLING"} 1.0',
        'queue_depth{class="P0",state="BLOCKED"} 1.0',
        'queue_oldest_unpublished_age_seconds{class="P1"} 90.0',
        'lane_blocked{reason="identity-birth-date"} 1.0',
    } <= pages[0]


QUEUE = ("queue_", "lane_blocked")


def _queue(tx):
    """One job waiting, one blocked."""
    common = {"tenant": "fantome", "kind": "publication"}
    jobs.enqueue(tx, lane="2.25.1", job_class=JobClass.P1, now=NOON, **common)
    jobs.enqueue(
        tx,
        lane="2.25.2",
        job_class=JobClass.P0,
        now=NOON,
        state=State.BLOCKED,
        reason="identity-birth-date",
        **common,
    )
