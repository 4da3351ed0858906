"""The trail on its way to an audit repository outside: real rsyslog, a receiver that misbehaves, a FHIR one."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from lxml import etree

from gateway.components import FEEDS
from gateway.feeds import rows
from gateway.feeds.delivery import BATCH, Feeds
from gateway.settings import FeedFhir, FeedSettings, FeedSyslog
from security.audit import AuditRecord, append
from security.audit.heads import Sealer
from security.audit.witness import read_line
from security.keys.tls import client_context, server_context
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.retry import RetrySettings
from security.store.port import GROUND, Store, Tx
from security.store.sqlite import SqliteStore
from tests.integration.outbox_lab import Hands
from tests.support.audit_receivers import RSYSLOGD, Fhir, Syslog, free_port, rsyslog
from tests.support.pki import Pki

KEK = bytes(range(32))


@dataclass
class Site:
    """A database with a trail, its feeds and the engine that carries them."""

    store: Store
    feeds: Feeds
    engine: Engine
    clock: Hands

    async def write(self, many: int, *, event: str = "index.retrieved", detail: str = "Success") -> None:
        def work(tx: Tx) -> None:
            for number in range(many):
                append(
                    tx,
                    AuditRecord(
                        tenant="chu", zone="index", at=self.clock.now(), event=event, actor="gateway-peer", outcome=0,
                        object_type="document", object_id=f"1.2.{number}", detail=detail, patient="5a" * 32,
                    ),
                )  # fmt: skip

        await self.store.write(work)

    async def turn(self, rounds: int = 12, *, seconds: float = 30.0) -> None:
        for _ in range(rounds):
            await self.feeds.step()
            await self.engine.step()
            self.clock.advance(seconds)

    async def cursor(self) -> rows.Cursor:
        return await self.store.read(lambda tx: rows.cursor(tx, "soc"))

    async def count(self) -> int:
        return (await self.store.read(lambda tx: tx.rows("SELECT COUNT(*) AS n FROM audit_record")))[0]["n"]


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


@pytest.fixture
async def sites(tmp_path: Path, pki: Pki) -> AsyncIterator:
    opened: list[Site] = []

    async def make(settings: FeedSettings) -> Site:
        store = await SqliteStore.open(tmp_path / "store.sqlite", [GROUND, FEEDS])
        clock, own = Hands(), pki.pair("poterne")
        feeds = Feeds(
            {"soc": settings},
            store=store,
            clock=clock,
            nudge=lambda: None,
            secure=lambda _name: client_context(own.certificate, own.key, pki.ca),
        )
        engine = Engine(
            store, feeds.kinds, clock=clock, rng=random.Random(1),
            settings=EngineSettings(retry=RetrySettings(base_s=1.0, cap_s=5.0)),
        )  # fmt: skip
        opened.append(Site(store, feeds, engine, clock))
        return opened[-1]

    yield make
    for site in opened:
        await site.feeds.close()
        await site.store.close()


def syslog_settings(pki: Pki, port: int) -> FeedSyslog:
    own = pki.pair("poterne")
    return FeedSyslog.model_construct(
        kind="syslog", host="localhost", port=port, ca_file=pki.ca, certificate_file=own.certificate,
        key_file=own.key, source_id="poterne-1", site_id="clinique-fantome", every_s=10.0, alert_after_s=900.0,
        connect_s=5.0, total_s=20.0,
    )  # fmt: skip


def fhir_settings(port: int) -> FeedFhir:
    return FeedFhir.model_construct(
        kind="fhir", url=f"http://127.0.0.1:{port}/fhir", source_id="poterne-1", site_id="", every_s=10.0,
        alert_after_s=900.0, connect_s=5.0, total_s=20.0,
    )  # fmt: skip


def numbers(messages: list[bytes]) -> list[int]:
    """The number that each message gives its record."""
    found = []
    for one in messages:
        root = etree.fromstring(one[one.index(b"<?xml") :])
        told = {
            d.get("type"): base64.b64decode(d.get("value")).decode() for d in root.iter("ParticipantObjectDetail")
        }
        found.append(int(told["record"]))
    return found


def receiver(pki: Pki) -> Syslog:
    own = pki.pair("repository")
    return Syslog(server_context(own.certificate, own.key, pki.ca))


@pytest.mark.skipif(RSYSLOGD is None, reason="needs Debian's rsyslog and rsyslog-gnutls")
async def test_rsyslog_takes_the_trail_over_tls_in_its_order(sites, pki, tmp_path):
    port, folder = free_port(), tmp_path / "rsyslog"
    folder.mkdir()
    site = await sites(syslog_settings(pki, port))
    await site.write(40)
    site.clock.advance(60)

    async with rsyslog(folder, pair=pki.pair("repository"), ca=pki.ca, port=port) as got:
        await site.turn()
        for _ in range(100):
            if got.exists() and got.read_bytes().count(b"\n") >= 40:
                break
            await asyncio.sleep(0.1)
        lines = got.read_bytes().splitlines()

    assert [line.split(b"|")[:4] for line in lines] == [[b"85", b"poterne", b"IHE+RFC-3881", b"poterne-1"]] * 40
    assert numbers([line.split(b"|", 4)[4] for line in lines]) == list(range(1, 41))
    assert (await site.cursor()).delivered == 40


async def test_ff43_a_repository_that_is_away_for_an_hour_costs_waiting_alone_and_is_told_of(sites, pki):
    port, there = free_port(), receiver(pki)
    site = await sites(syslog_settings(pki, port))
    await site.write(BATCH + 20)
    site.clock.advance(60)

    await site.turn(rounds=125)

    assert (await site.cursor()).delivered == 0
    assert (await site.store.read(site.feeds.waiting))["soc"].records == BATCH + 20
    assert (await site.store.read(site.feeds.late))["soc"] >= 3_600
    async with there.listening(port):
        await site.turn()
    assert numbers(there.messages) == list(range(1, BATCH + 21))
    assert await site.store.read(site.feeds.late) == {}
    assert (await site.store.read(site.feeds.waiting))["soc"].records == 0


async def test_ff43_a_batch_whose_fate_is_unknown_goes_again_and_the_next_one_waits(sites, pki):
    port, there = free_port(), receiver(pki)
    site = await sites(syslog_settings(pki, port))
    await site.write(5)
    site.clock.advance(60)
    there.mood = "reset"

    async with there.listening(port):
        await site.turn(rounds=1)
        await site.turn(rounds=1)
        assert (await site.cursor()).delivered == 0
        there.mood, first = "good", len(there.messages)
        await site.write(3)
        await site.turn()

    sent = numbers(there.messages[first:])
    assert sent == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (await site.cursor()).delivered == 8


async def test_ff43_a_feed_never_feeds_itself(sites, pki):
    port, there = free_port(), receiver(pki)
    site = await sites(syslog_settings(pki, port))
    await site.write(5)
    site.clock.advance(60)

    async with there.listening(port):
        await site.turn(rounds=30)

    assert await site.count() == 5
    assert there.connections == 1
    history = await site.store.read(lambda tx: jobs.lane_history(tx, tenant=jobs.HOUSE, lane="audit-feed:soc"))
    assert [one.to_state.value for one in history][-1] == "PUBLISHED"


async def test_signed_heads_go_with_their_records(sites, pki):
    port, there = free_port(), receiver(pki)
    site = await sites(syslog_settings(pki, port))
    await site.write(5)
    head = (await Sealer(site.store, kek=KEK).step(site.clock.now() + timedelta(minutes=2), at_once=True))[-1]
    site.clock.advance(120)

    async with there.listening(port):
        await site.turn()

    last = etree.fromstring(there.messages[-1][there.messages[-1].index(b"<?xml") :])
    told = {d.get("type"): base64.b64decode(d.get("value")).decode() for d in last.iter("ParticipantObjectDetail")}
    assert len(there.messages) == 6
    assert read_line(told["words"], where="message") == head


async def test_t34_twenty_markers_planted_in_words_and_reasons_reach_no_repository(sites, pki):
    port, there = free_port(), receiver(pki)
    site = await sites(syslog_settings(pki, port))
    markers = [f"MARQUEUR-{number}" for number in range(20)]
    for event in ("exam.released", "exam.taken-out", "queue.paused", "break-glass.opened"):
        await site.write(1, event=event, detail=" ".join(markers))
    site.clock.advance(60)

    async with there.listening(port):
        await site.turn()

    said = b"".join(there.messages)
    words = [
        base64.b64decode(d.get("value")).decode()
        for one in there.messages
        for d in etree.fromstring(one[one.index(b"<?xml") :]).iter("ParticipantObjectDetail")
    ]
    assert len(there.messages) == 4
    assert not [mark for mark in markers if mark.encode() in said or mark in " ".join(words)]


async def test_fhir_takes_batches_and_refusals_stop_nothing_but_their_own_feed(sites):
    port, there = free_port(), Fhir()
    site = await sites(fhir_settings(port))
    await site.write(7)
    site.clock.advance(60)
    there.statuses = [503, 422]

    async with there.listening(port):
        await site.turn(rounds=80)

    assert [one["entity"][0]["what"]["identifier"]["value"] for one in there.events] == [f"1.2.{n}" for n in range(7)]
    assert there.bundles == 1
    assert (await site.cursor()).delivered == 7
    assert json.dumps(there.events).count("110106") == 7


async def test_a_server_of_another_authority_gets_nothing(sites, pki, tmp_path):
    port, other = free_port(), Pki(tmp_path / "other")
    there = receiver(other)
    site = await sites(syslog_settings(pki, port))
    await site.write(3)
    site.clock.advance(60)

    async with there.listening(port):
        await site.turn()

    assert there.messages == []
    assert (await site.cursor()).delivered == 0
