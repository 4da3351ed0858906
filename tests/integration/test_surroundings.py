"""What surrounds the gateway misbehaves: PACS, relays and receivers that break every rule, and a stop in the middle."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import structlog

from gateway.alerts.channels import Webhook
from gateway.alerts.conditions import Kind
from gateway.components import COMPONENTS
from gateway.lifecycle import serve
from gateway.pacs.changes import ChangeFollower
from gateway.pacs.orthanc import OrthancPeer, OrthancSource
from gateway.pacs.probe import WeeklyProbe
from gateway.settings import Settings, WebhookSettings, load
from gateway.wiring import Gateway, house
from indexer.ledger import Ledger
from indexer.publication import job_kind
from indexer.study import StudyAnswer
from indexer.timeline import SHADOW
from security.clock import SystemClock
from security.errors import Broken, Fault, Unavailable
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from security.seal import Vault
from security.store.opening import open_store
from security.store.port import Store, Tx
from tests.contract.store_parts.engines import BOTH, fresh
from tests.integration.outbox_lab import Hands
from tests.integration.test_alerts import SPEAKER, Site, hook, mail, site
from tests.support.receivers import receiver, relay
from tests.support.web import Answer, say, web_server
from tests.unit.configuration import TEXT, write

__all__ = ["site"]  # a fixture of this module

TENANT = "nord"


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def row(seq: int, *, kind: str = "StableStudy", date: str = "20260301T120000") -> dict[str, object]:
    return {"Seq": seq, "ChangeType": kind, "ID": "0" * 40, "Date": date, "ResourceType": "Study"}


def page(*rows: dict[str, object], last: int = 0, done: bool = True) -> bytes:
    return json.dumps({"Changes": rows, "Done": done, "Last": rows[-1]["Seq"] if rows else last}).encode()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = await open_store(tmp_path / "gateway.db", COMPONENTS)
    yield made
    await made.close()


async def follower_of(url: str, store: Store, **changes: Any) -> ChangeFollower:
    clock = Hands()
    peer = OrthancPeer(name="orthanc", url=url, timeout_s=30.0, deadline_s=60.0)
    ledger = Ledger(await Vault.load(store, bytes(range(32)), [TENANT], clock))
    return ChangeFollower(
        tenant=TENANT, peer=peer, store=store, ledger=ledger, clock=clock, **({"every_s": 60.0} | changes)
    )


async def followed(follower: ChangeFollower, seconds: float) -> None:
    """Follow for a while; whatever ends the follower is raised."""
    stop = asyncio.Event()
    running = asyncio.create_task(follower.run(stop))
    try:
        await asyncio.wait({running}, timeout=seconds)
        stop.set()
        await asyncio.wait_for(running, 10)
    finally:
        await follower.close()


# ── the change log ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_log_that_never_gets_further_is_not_asked_without_a_pause(store: Store):
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        say(200, page(row(5), done="last" in handler.path))(handler)

    with web_server(answer) as url:
        await followed(await follower_of(url, store, every_s=0.5), 1.5)

    assert 1 < len(asked) < 6


async def test_two_pacs_behind_one_address_are_not_read_from_the_beginning_without_a_pause(store: Store):
    asked: list[str] = []
    happened: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        if "bulk" in handler.path:
            say(200, b"[]")(handler)
            return
        since = int(handler.path.partition("since=")[2].partition("&")[0] or 4)
        which = f"20260301T12{len(asked) % 60:02}00"
        say(200, page(row(since + 1, date=which), row(since + 2, date=which), done=False))(handler)

    with web_server(answer) as url:
        await followed(await follower_of(url, store, observe=happened.append, every_s=0.5), 1.5)

    assert 1 <= len(happened) < 4
    assert len(asked) < 20


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize(
    "study",
    ["1.2.3\x004", "'; DROP TABLE", "", "x" * 5000, "1.2.250.1.999.77"],
    ids=["nul", "quote", "empty", "long", "right"],
)
async def test_no_study_that_a_log_names_ends_the_follower(study: str, engine: str, request: pytest.FixtureRequest):
    bulk = [{"ID": "0" * 40, "MainDicomTags": {"StudyInstanceUID": study}, "IsStable": True}]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "bulk" in handler.path:
            say(200, json.dumps(bulk).encode())(handler)
        elif "last" in handler.path:
            say(200, page(row(5)))(handler)
        else:
            say(200, page(row(5), row(6)))(handler)

    opened = await fresh(engine, request).open(components=COMPONENTS)
    try:
        with web_server(answer) as url:
            await followed(await follower_of(url, opened, every_s=0.1), 1.0)
        (cursor,) = await opened.read(lambda tx: tx.rows("SELECT seq FROM pacs_cursor"))
    finally:
        await opened.close()
    assert cursor["seq"] == 6


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -1, -(2**63)])
async def test_no_number_of_a_log_ends_the_follower(store: Store, number: int):
    with web_server(say(200, page(row(number)))) as url, structlog.testing.capture_logs() as logged:
        await followed(await follower_of(url, store, every_s=0.1), 0.5)
    assert "pacs-changes-unread" in {entry["event"] for entry in logged}


async def test_a_pacs_that_hangs_does_not_hold_up_the_stop_of_its_follower(store: Store):
    with silent() as port:
        follower = await follower_of(f"http://127.0.0.1:{port}", store)
        stop = asyncio.Event()
        running = asyncio.create_task(follower.run(stop))
        await asyncio.sleep(0.3)
        stop.set()
        with structlog.testing.capture_logs() as logged:
            await asyncio.wait_for(running, 2)
        await follower.close()
    assert logged == []


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("instances", ["[{}]", "[[]]", "[null]", "[3]"])
async def test_a_list_of_instances_that_holds_no_identifiers_is_no_answer(instances: str):
    study = "1.2.250.1.999.77"
    known = {
        "/tools/lookup": [{"ID": "a", "Type": "Study"}],
        "/studies/a": {"MainDicomTags": {"StudyInstanceUID": study}},
        "/studies/a/module-patient": {"PatientID": "IPP1"},
        "/studies/a/series": [{"ID": "s", "Instances": json.loads(instances), "MainDicomTags": {}}],
    }

    def answer(handler: BaseHTTPRequestHandler) -> None:
        say(200, json.dumps(known.get(handler.path.partition("?")[0], [])).encode())(handler)

    assert getattr(await asked(answer, study), "reason", None) == "bad-answer"


async def test_ff54_a_uid_that_a_pacs_knows_of_something_else_is_not_absent():
    known = {"/tools/lookup": [{"ID": "a", "Type": "Series"}], "/system": {"Version": "1.12.1"}}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        say(200, json.dumps(known[handler.path]).encode())(handler)

    assert getattr(await asked(answer, "1.2.250.1.999.77"), "reason", None) == "bad-answer"


async def asked(answer: Answer, study: str) -> StudyAnswer:
    with web_server(answer) as url:
        source = OrthancSource(OrthancPeer(name="orthanc", url=url))
        try:
            return await source.find(Uid(study))
        finally:
            await source.close()


# ── the probe ────────────────────────────────────────────────────────────────────────────────────────────────


def weekly(url: str, store: Store) -> WeeklyProbe:
    peer = OrthancPeer(name="orthanc", url=url, timeout_s=30.0, deadline_s=60.0)
    return WeeklyProbe(tenant=TENANT, peer=peer, store=store, clock=Hands())


@pytest.mark.parametrize("plugins", ["null", "3", "true", "{}", '"text"', "[1, null, {}]"])
async def test_no_list_of_plugins_ends_the_probe(store: Store, plugins: str):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        known = {"/system": b'{"Version": "1.12.1"}', "/plugins": plugins.encode()}
        say(200, known.get(handler.path, b"[]"))(handler)

    with web_server(answer) as url:
        report = await weekly(url, store).step()

    assert report is not None
    assert report.fault == ("" if plugins.startswith("[") else "bad-answer")


async def test_what_a_pacs_calls_itself_is_short_and_printable_in_the_record(store: Store):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        known = {"/system": json.dumps({"Version": "1.12\n\x1b[31m" + "x" * 10_000}).encode(), "/plugins": b"[]"}
        say(200, known.get(handler.path, b"[]"))(handler)

    with web_server(answer) as url:
        report = await weekly(url, store).step()

    assert report is not None
    assert report.capability is not None
    assert report.capability.product.isprintable()
    assert len(report.capability.product) <= 64


async def test_a_pacs_that_hangs_does_not_hold_up_the_stop_of_its_probe(store: Store):
    with silent() as port:
        stop = asyncio.Event()
        running = asyncio.create_task(weekly(f"http://127.0.0.1:{port}", store).run(stop))
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.wait_for(running, 2)
    assert not [thread for thread in threading.enumerate() if "probe" in thread.name]


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────


async def running_for(watch, seconds: float) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(watch.run(stop))
    await asyncio.wait({running}, timeout=seconds)
    stop.set()
    await asyncio.wait_for(running, 12)


async def test_a_webhook_whose_authorities_are_gone_from_the_disk_does_not_end_the_watch(site: Site, tmp_path: Path):
    await site.hold(1)
    settings = WebhookSettings.model_construct(
        url="https://127.0.0.1:9/", secret_file=None, ca_file=tmp_path / "gone.pem"
    )
    channel = Webhook(settings, SPEAKER)
    with pytest.raises(Fault):
        await channel.test(now=site.clock.now())
    await running_for(site.watch(channel), 0.3)


async def test_a_mail_password_with_an_accent_does_not_end_the_watch(site: Site, tmp_path: Path):
    (tmp_path / "password").write_bytes("clé-d'été".encode("latin-1"))
    (tmp_path / "password").chmod(0o600)
    await site.hold(1)
    async with relay(password="other") as post:
        channel = mail(post.port, username="poterne", password_file=tmp_path / "password")
        with pytest.raises(Fault):
            await channel.test(now=site.clock.now())
        await running_for(site.watch(channel), 0.3)
    assert post.mails == []


async def test_an_alert_that_was_told_and_could_not_be_noted_is_not_told_again(site: Site):
    await site.hold(1)
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        await watch.look()
        whole, site.store.write = site.store.write, full  # type: ignore[method-assign]
        for _ in range(3):
            with pytest.raises(Unavailable):
                await watch.tell(channel)
        site.store.write = whole  # type: ignore[method-assign]
        await watch.tell(channel)
        assert len(service.bodies) == 1
        await site.hold(2, reason="identity-pacs-birth-date")
        await watch.look()
        assert await watch.tell(channel)
    told = [alert["subject"] for alert in json.loads(service.bodies[1])["alerts"]]
    assert told == ["identity-pacs-birth-date"]


async def full(_work: Callable[..., Any]) -> None:
    raise Unavailable("the disk of the database is full", code="store-full", hint="free space")


async def test_t64_a_clock_that_was_wrong_for_a_while_neither_silences_a_channel_nor_keeps_an_alert_open(site: Site):
    await site.hold(1)
    site.clock.jump(timedelta(days=400))
    async with receiver() as service:
        service.status = 500
        channel = hook(service.url)
        watch = site.watch(channel)
        await watch.look()
        assert not await watch.tell(channel)
        site.clock.jump(-timedelta(days=400))
        service.status = 204
        assert await watch.tell(channel)
        site.clock.advance(25 * 3600)
        await watch.look()
        assert await watch.tell(channel), "still so, a day later"
        await site.release(1)
        site.clock.advance(600)
        await watch.look()
        assert [kind for kind, _, _ in await site.alerts() if kind == "held"] == []


async def test_t64_an_alert_last_seen_in_the_future_closes_when_what_it_told_of_is_over(site: Site):
    await site.hold(1)
    watch = site.watch()
    site.clock.jump(timedelta(days=400))
    await watch.look()
    site.clock.jump(-timedelta(days=400))
    await site.release(1)
    await watch.look()
    assert [kind for kind, _, _ in await site.alerts() if kind == "held"] == []


async def test_t64_an_open_alert_told_in_the_future_is_told_again_after_a_day(site: Site):
    await site.hold(1)
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        site.clock.jump(timedelta(days=400))
        await watch.look()
        assert await watch.tell(channel)
        site.clock.jump(-timedelta(days=400))
        await watch.look()
        site.clock.advance(86_401)
        await watch.look()
        await watch.tell(channel)
        await watch.tell(channel)
    told = [(one["kind"], one["occasion"]) for body in service.bodies for one in json.loads(body)["alerts"]]
    assert told.count(("held", "opened")) == 1
    assert told.count(("held", "still")) == 1


async def test_what_happened_at_the_moment_of_a_stop_is_kept_and_told_at_the_next_start(site: Site):
    async with receiver() as service:
        channel, stop = hook(service.url), asyncio.Event()
        watch = site.watch(channel)
        running = asyncio.create_task(watch.run(stop))
        await asyncio.sleep(0.2)
        watch.happened(Kind.PACS_RESET, tenant="chu", subject="main")
        stop.set()
        await running
        again = site.watch(channel)
        await again.look()
        await again.tell(channel)
    assert [alert["kind"] for body in service.bodies for alert in json.loads(body)["alerts"]] == ["pacs-reset"]


# ── the whole gateway ────────────────────────────────────────────────────────────────────────────────────────


def configured(folder: Path, *, pacs: int = 1, more: str = "") -> Settings:
    """The usual configuration with both PACS at one port of this machine."""
    text = TEXT.replace("127.0.0.1:9090", "127.0.0.1:0").replace("127.0.0.1:2575", "127.0.0.1:0")
    text = text.replace("127.0.0.1:8042", f"127.0.0.1:{pacs}").replace("port = 11112", f"port = {pacs}")
    text += f"[disk]\nlow_bytes = {2**20}\nreserve_bytes = {2**20}\n{more}"
    return load(write(folder, text), {})


@dataclass
class Running:
    """A gateway that serves. ``bound``: its doors."""

    gateway: Gateway
    bound: dict[str, str]
    stop: asyncio.Event
    task: asyncio.Task[None]

    async def end(self) -> float:
        """Stop it; seconds until it had ended."""
        began = time.monotonic()
        self.stop.set()
        await self.task
        return time.monotonic() - began


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Running]:
    bound: dict[str, str] = {}
    stop, opened = asyncio.Event(), asyncio.Event()

    def announce(doors: Any) -> None:
        bound.update(doors)
        opened.set()

    async with house(settings) as gateway:
        task = asyncio.create_task(serve(gateway, stop_grace_s=20.0, announce=announce, stop=stop))
        await asyncio.wait({task, asyncio.ensure_future(opened.wait())}, return_when=asyncio.FIRST_COMPLETED)
        try:
            yield Running(gateway=gateway, bound=bound, stop=stop, task=task)
        finally:
            stop.set()
            await task


def door(running: Running, name: str) -> tuple[str, int]:
    host, _, port = running.bound[name].rpartition(":")
    return host, int(port)


async def test_a_stop_is_quick_while_every_peer_hangs_and_every_door_is_held_open(tmp_path: Path):
    before = {thread.name for thread in threading.enumerate()}
    with silent() as port:
        more = (
            f'[alerts]\nevery_s = 0.1\n[alerts.webhook]\nurl = "http://127.0.0.1:{port}/x"\n'
            f'[alerts.mail]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
            'sender = "a@fantome.example"\nrecipients = ["b@fantome.example"]\n'
        )
        async with serving(configured(tmp_path, pacs=port, more=more)) as running:
            running.gateway._watch.happened(Kind.PACS_RESET, tenant="fantome", subject="main")
            _, ops = await asyncio.open_connection(*door(running, "ops"))
            ops.write(b"POST /console HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nx")
            _, hl7 = await asyncio.open_connection(*door(running, "hl7:fantome"))
            hl7.write(b"\x0bMSH|")
            await asyncio.sleep(0.7)
            took_s = await running.end()
        ops.close()
        hl7.close()
    assert took_s < 4
    assert not {each.name for each in threading.enumerate() if each.name.startswith("bridge-")} - before
    assert not (tmp_path / "poterne.control").exists()


async def test_f04_a_disk_that_is_full_at_the_start_does_not_end_the_gateway_that_goes_live(tmp_path: Path):
    settings = configured(tmp_path)
    kept_back = await open_store(tmp_path / "poterne.db", COMPONENTS)
    for number in range(3):
        await kept_back.write(partial(_keep_back, lane=f"1.2.250.1.213.4.5.9.2.{number}"))
    await kept_back.close()
    async with house(settings) as gateway:
        stop = asyncio.Event()
        whole, gateway._store.write = gateway._store.write, full  # type: ignore[method-assign]
        working = asyncio.create_task(gateway.work(stop))
        await asyncio.sleep(0.3)
        assert not working.done()
        gateway._store.write = whole  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            while (await gateway._store.read(jobs.snapshot)).blocked:
                await asyncio.sleep(0.05)
        stop.set()
        await working


def _keep_back(tx: Tx, *, lane: str) -> None:
    jobs.enqueue(
        tx,
        tenant="fantome",
        lane=lane,
        kind=job_kind("fantome"),
        job_class=JobClass.P2,
        now=SystemClock().now(),
        state=State.BLOCKED,
        reason=SHADOW,
    )


async def test_ff47_one_legal_entity_that_cannot_be_built_stops_the_start_is_named_and_leaves_nothing_behind(
    tmp_path: Path,
):
    settings = configured(tmp_path)
    (tmp_path / "own.key").write_text("no key")
    with pytest.raises(Broken) as told:
        async with house(settings):
            pytest.fail("it started")
    assert "own.key" in str(told.value)
    assert "fantome" in str(told.value)
    write(tmp_path)
    async with house(settings):
        pass
