"""Alerts from the database to a real mail relay and a real HTTP receiver, also when these are away."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.alerts import rows
from gateway.alerts.channels import Channel, Mail, Webhook, signature
from gateway.alerts.clock import ClockWatch
from gateway.alerts.conditions import Kind
from gateway.alerts.texts import Speaker
from gateway.alerts.watch import AlertWatch
from gateway.components import COMPONENTS
from gateway.disk import DiskGuard
from gateway.hl7.mllp import MllpClient
from gateway.i18n import words
from gateway.lab.ris import LabExam, build_oru
from gateway.settings import MailSettings, WebhookSettings, load
from gateway.wiring import house
from security.errors import Broken, Unavailable
from security.keys.lab_pki import LabAuthority, PemPair
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import State
from security.store.opening import open_store
from security.store.port import Store
from tests.integration.outbox_lab import Hands
from tests.support.receivers import receiver, relay
from tests.unit.configuration import TEXT, write

STUDY = "1.2.250.1.213.4.5.9.2.77"
SPEAKER = Speaker(
    words=words("fr"), zones={}, default_zone=ZoneInfo("Europe/Paris"), console_url="https://console.example/"
)


@dataclass
class Site:
    folder: Path
    store: Store
    clock: Hands
    clock_watch: ClockWatch

    def watch(self, *channels: Channel) -> AlertWatch:
        """A watch as a fresh process has it."""
        return AlertWatch(
            self.store,
            channels,
            clock=self.clock,
            clock_watch=self.clock_watch,
            disk=DiskGuard(self.folder / "gateway.db", low_bytes=0, reserve_bytes=0),
            certificates=dict,
            every_s=0.05,
            remind_s=86_400,
            calls=4,
            offset_max_s=2.0,
        )

    async def hold(self, number: int, *, reason: str = "identity-pacs-name", state: State = State.BLOCKED) -> None:
        await self.store.write(
            lambda tx: jobs.enqueue(
                tx,
                tenant="chu",
                lane=f"{STUDY}.{number}",
                kind="publish",
                job_class=JobClass.P1,
                now=self.clock.now(),
                state=state,
                reason=reason,
            )
        )

    async def release(self, number: int) -> None:
        def discard(tx) -> None:
            (job,) = jobs.lane_jobs(tx, tenant="chu", lane=f"{STUDY}.{number}")
            jobs.discard(tx, tenant="chu", job_id=job.job_id, now=self.clock.now(), actor="test", reason="given-up")

        await self.store.write(discard)

    async def alerts(self) -> list[tuple[str, str, int]]:
        found = await self.store.read(rows.open_alerts)
        return [(one.condition.kind.value, one.condition.subject, one.condition.measure) for one in found]


ENGINES = pytest.mark.parametrize(
    "site", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    clock = Hands()
    is_file = getattr(request, "param", "sqlite") == "sqlite"
    place = tmp_path / "gateway.db" if is_file else request.getfixturevalue("postgres_place")
    store = await open_store(place, COMPONENTS)
    yield Site(folder=tmp_path, store=store, clock=clock, clock_watch=ClockWatch(clock))
    await store.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PemPair]:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    authority = LabAuthority.create(tmp_path_factory.mktemp("pki"), now=now)
    pair = authority.issue("relay", not_before=now - timedelta(hours=1), not_after=now + timedelta(days=1))
    return authority.certificate, pair


def mail(port: int, *, ca: Path | None = None, security: str = "none", **more: object) -> Mail:
    stated = {"sender": "poterne@fantome.example", "recipients": ["a@fantome.example", "b@fantome.example"]}
    settings = MailSettings(host="127.0.0.1", port=port, security=security, ca_file=ca, **stated, **more)
    made = Mail(settings, SPEAKER)
    _MADE.append(made)
    return made


_MADE: list[Mail] = []


@pytest.fixture(autouse=True)
async def _no_thread_is_left() -> AsyncIterator[None]:
    yield
    while _MADE:
        await _MADE.pop().close()


def hook(url: str, secret: Path | None = None) -> Webhook:
    return Webhook(WebhookSettings(url=url, secret_file=secret), SPEAKER)


async def test_a_held_exam_is_told_by_mail_over_starttls_without_any_patient_or_study(site: Site, pki) -> None:
    ca, pair = pki
    await site.hold(1)
    async with relay(certificate=pair.certificate, key=pair.key) as post:
        channel = mail(post.port, ca=ca, security="starttls")
        watch = site.watch(channel)
        await watch.look()
        assert await watch.tell(channel)
    (told,) = post.mails
    assert post.recipients == [["a@fantome.example", "b@fantome.example"]]
    assert told["Subject"] == "Poterne: 1 examen retenu\u00a0: identity-pacs-name"
    assert told["Auto-Submitted"] == "auto-generated"
    text = told.get_content()
    assert "* [chu] 1 examen retenu\u00a0: identity-pacs-name (nouveau)" in text
    assert "https://console.example/" in text
    assert STUDY not in bytes(told).decode()


async def test_a_relay_of_another_authority_is_never_given_the_mail(site: Site, pki, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    other = LabAuthority.create(tmp_path / "other", now=datetime.now(UTC))
    await site.hold(1)
    async with relay(certificate=pki[1].certificate, key=pki[1].key) as post:
        channel = mail(post.port, ca=other.certificate, security="starttls")
        watch = site.watch(channel)
        await watch.look()
        assert not await watch.tell(channel)
    assert post.mails == []


async def test_a_relay_without_starttls_is_never_given_the_mail_in_clear(site: Site) -> None:
    await site.hold(1)
    async with relay() as post:
        with pytest.raises(Unavailable) as caught:
            await mail(post.port, security="starttls").test(now=site.clock.now())
    assert caught.value.code == "alert-not-delivered"
    assert post.mails == []


async def test_a_relay_that_asks_for_a_password_over_starttls_gets_it(site: Site, pki, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("not-a-real-password\n")
    (tmp_path / "password").chmod(0o600)
    login = {"username": "poterne", "password_file": tmp_path / "password"}
    async with relay(certificate=pki[1].certificate, key=pki[1].key, password="not-a-real-password") as post:
        await mail(post.port, ca=pki[0], security="starttls", **login).test(now=site.clock.now())
    assert post.mails[0]["Subject"].startswith("TEST Poterne")


async def test_a_relay_that_speaks_tls_from_the_first_byte_is_reached(site: Site, pki) -> None:
    async with relay(certificate=pki[1].certificate, key=pki[1].key, whole=True) as post:
        await mail(post.port, ca=pki[0], security="tls").test(now=site.clock.now())
    assert len(post.mails) == 1


@ENGINES
async def test_a_webhook_gets_one_signed_object(site: Site, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("webhook-key\n")
    (tmp_path / "key").chmod(0o600)
    await site.hold(1)
    await site.hold(2)
    await site.hold(3, reason="internal-fault")
    async with receiver() as service:
        channel = hook(service.url, tmp_path / "key")
        watch = site.watch(channel)
        await watch.look()
        assert await watch.tell(channel)
        assert not await watch.tell(channel), "it knows all there is to know"
    (body,), (headers,) = service.bodies, service.headers
    expected = "sha256=" + signature(b"webhook-key", headers["X-Poterne-Timestamp"], body)
    assert headers["X-Poterne-Signature"] == expected
    told = json.loads(body)
    assert [(one["kind"], one["subject"], one["measure"], one["occasion"]) for one in told["alerts"]] == [
        ("held", "identity-pacs-name", 2, "opened"),
        ("held", "internal-fault", 1, "opened"),
    ]
    assert STUDY.encode() not in body


async def test_a_redirect_is_not_followed(site: Site) -> None:
    async with receiver() as service, receiver() as elsewhere:
        service.status, service.location = 307, elsewhere.url
        with pytest.raises(Unavailable, match="HTTP 307"):
            await hook(service.url).test(now=site.clock.now())
    assert elsewhere.bodies == []


async def test_what_is_over_is_told_once_and_only_after_it_was_quiet(site: Site) -> None:
    await site.hold(1)
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        await watch.look()
        await watch.tell(channel)
        await site.release(1)
        await watch.look()
        assert await site.alerts() == [("held", "identity-pacs-name", 1)], "it may come back at once"
        site.clock.advance(301)
        await watch.look()
        await watch.tell(channel)
        await watch.tell(channel)
    assert await site.alerts() == []
    assert [json.loads(body)["alerts"][0]["occasion"] for body in service.bodies] == ["opened", "closed"]


@ENGINES
async def test_more_of_the_same_is_told_when_it_has_grown_much_and_otherwise_once_a_day(site: Site) -> None:
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        for number in range(1, 6):
            await site.hold(number)
            await watch.look()
            await watch.tell(channel)
        site.clock.advance(86_401)
        await watch.look()
        await watch.tell(channel)
    told = [json.loads(body)["alerts"][0] for body in service.bodies]
    assert [(one["occasion"], one["measure"]) for one in told] == [("opened", 1), ("worse", 5), ("still", 5)]


async def test_a_restart_neither_tells_twice_nor_forgets(site: Site) -> None:
    await site.hold(1)
    async with receiver() as service:
        first = hook(service.url)
        watch = site.watch(first)
        await watch.look()
        await watch.tell(first)
        await site.hold(2, reason="not-for-index")
        await watch.look()  # and the process dies before it tells

        second = hook(service.url)
        anew = site.watch(second)
        await anew.look()
        await anew.tell(second)
        await anew.tell(second)
    told = [[one["subject"] for one in json.loads(body)["alerts"]] for body in service.bodies]
    assert told == [["identity-pacs-name"], ["not-for-index"]]


async def test_a_receiver_that_was_down_for_an_hour_is_told_once_when_it_is_back(site: Site) -> None:
    async with receiver() as gone:
        port = gone.port
    channel = hook(f"http://127.0.0.1:{port}/hook")
    watch = site.watch(channel)
    await site.hold(1)
    tries = 0
    for _ in range(60):
        await watch.look()
        assert not await watch.tell(channel)
        site.clock.advance(60)
    row = (await site.store.read(lambda tx: tx.rows("SELECT attempts, failure FROM alert_delivery")))[0]
    tries = row["attempts"]
    assert 5 <= tries <= 10, "later and later, at most every 15 minutes"
    assert row["failure"] == "alert-not-delivered"

    async with receiver(port) as service:
        for _ in range(30):
            site.clock.advance(60)
            await watch.look()
            await watch.tell(channel)
    (body,) = service.bodies
    assert [(one["kind"], one["occasion"]) for one in json.loads(body)["alerts"]] == [("held", "opened")]


@ENGINES
async def test_what_opened_and_closed_while_nobody_could_be_told_is_told_once_as_over(site: Site) -> None:
    async with receiver() as gone:
        port = gone.port
    channel = hook(f"http://127.0.0.1:{port}/hook")
    watch = site.watch(channel)
    await site.hold(1)
    await watch.look()
    await watch.tell(channel)
    await site.release(1)
    site.clock.advance(3600)
    await watch.look()
    async with receiver(port) as service:
        await watch.tell(channel)
        await watch.tell(channel)
    (body,) = service.bodies
    assert [one["occasion"] for one in json.loads(body)["alerts"]] == ["closed"]


async def test_a_dead_relay_disturbs_neither_the_webhook_nor_the_looks_nor_the_stop(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the call, nobody says a word
        async with receiver() as service:
            watch = site.watch(mail(silent.getsockname()[1]), hook(service.url))
            stop = asyncio.Event()
            running = asyncio.create_task(watch.run(stop))
            async with asyncio.timeout(5):
                for number in (1, 2):
                    await site.hold(number, reason=f"reason-{number}")
                    while len(service.bodies) < number:
                        await asyncio.sleep(0.02)
                stop.set()
                await running


async def test_the_watch_ends_when_it_is_asked_to(site: Site) -> None:
    async with receiver() as service:
        watch = site.watch(hook(service.url))
        stop = asyncio.Event()
        running = asyncio.create_task(watch.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        async with asyncio.timeout(2):
            await running


@ENGINES
async def test_an_event_is_told_once_and_shown_for_a_day(site: Site) -> None:
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        watch.happened(Kind.PACS_RESET, tenant="chu", subject="main")
        for _ in range(3):
            await watch.look()
            await watch.tell(channel)
        assert await site.alerts() == [("pacs-reset", "main", 1)]
        site.clock.advance(86_401)
        await watch.look()
        await watch.tell(channel)
    assert await site.alerts() == []
    assert len(service.bodies) == 1
    with pytest.raises(Broken):
        watch.happened(Kind.HELD, tenant="chu", subject="x")


async def test_an_event_is_stored_at_once_while_the_watch_runs(site: Site) -> None:
    watch = site.watch()
    watch._every_s = 60
    stop = asyncio.Event()
    running = asyncio.create_task(watch.run(stop))
    await asyncio.sleep(0.1)
    watch.happened(Kind.PACS_CHANGED, tenant="chu", subject="main")
    async with asyncio.timeout(3):
        while await site.alerts() != [("pacs-changed", "main", 1)]:
            await asyncio.sleep(0.02)
    stop.set()
    await running


async def test_t64_a_clock_set_back_is_an_alert(site: Site) -> None:
    watch = site.watch()
    await watch.look()
    site.clock.jump(timedelta(hours=-2))
    await watch.look()
    assert await site.alerts() == [("clock-stepped", "", 1)]


async def test_late_exams_are_an_alert_and_held_ones_are_not_late_too(site: Site) -> None:
    await site.hold(1)
    await site.hold(2, state=State.SETTLING, reason="pacs-has-no-such-study")
    site.clock.advance(3601)
    await site.watch().look()
    assert await site.alerts() == [("held", "identity-pacs-name", 1), ("late", "", 1)]


async def test_an_index_that_is_away_is_told_of_before_the_first_exam_is_late(site: Site) -> None:
    minute = int(site.clock.now().timestamp()) // 60
    sql = "INSERT INTO outbox_minute VALUES (:tenant, :minute, 1, 0, :published, 9)"
    for back, published in ((45, 30), (1, 0)):
        await site.store.write(
            lambda tx, b=back, p=published: tx.change(sql, tenant="chu", minute=minute - b, published=p)
        )
    await site.hold(1, state=State.READY, reason="")
    site.clock.advance(20 * 60)  # due in 40 minutes, the index away for 64
    await site.watch().look()
    assert await site.alerts() == [("at-risk", "", 1)]


@ENGINES
async def test_opening_and_closing_leave_audit_rows(site: Site) -> None:
    await site.hold(1)
    watch = site.watch()
    await watch.look()
    await site.release(1)
    site.clock.advance(301)
    await watch.look()
    events = await site.store.read(
        lambda tx: [
            (row["event"], row["detail"])
            for row in tx.rows("SELECT event, detail FROM audit_record WHERE object_type = 'alert' ORDER BY seq")
        ]
    )
    assert events == [("alert.opened", "held identity-pacs-name"), ("alert.closed", "held identity-pacs-name")]


async def test_a_channel_configured_later_is_not_told_old_stories(site: Site) -> None:
    await site.hold(1)
    await site.watch().look()
    await site.release(1)
    site.clock.advance(301)
    await site.watch().look()
    async with receiver() as service:
        channel = hook(service.url)
        watch = site.watch(channel)
        await watch.look()
        assert not await watch.tell(channel)
    assert service.bodies == []


async def test_a_held_report_reaches_the_person_on_call_through_the_whole_gateway(tmp_path: Path) -> None:
    async with receiver() as service:
        text = TEXT.replace("127.0.0.1:9090", "127.0.0.1:0").replace("127.0.0.1:2575", "127.0.0.1:0")
        text += f"[disk]\nlow_bytes = {2**20}\nreserve_bytes = {2**20}\n"
        text += f'[alerts]\nevery_s = 0.1\n[alerts.webhook]\nurl = "{service.url}"\n'
        async with house(load(write(tmp_path, text), {})) as gateway:
            stop = asyncio.Event()
            working = asyncio.create_task(gateway.work(stop))
            async with gateway.doors() as bound, asyncio.timeout(10):
                host, _, port = bound["hl7:fantome"].rpartition(":")
                async with await MllpClient.connect(host, int(port)) as client:
                    assert b"\rMSA|AE|" in await client.send(build_oru(LabExam(), control_id="M1"))
                while b'"held"' not in b"".join(service.bodies):
                    await asyncio.sleep(0.05)
                assert (tmp_path / "poterne.db.reserve").exists()
            stop.set()
            await working
    told = [alert for body in service.bodies for alert in json.loads(body)["alerts"]]
    (alert,) = (one for one in told if one["kind"] == "held")
    assert (alert["tenant"], alert["subject"]) == ("fantome", "identity-test-authority")
    assert alert["text"] == "1 examen retenu\u00a0: identity-test-authority"
    everything = b"".join(service.bodies).decode()
    patient = LabExam().patient
    for value in (patient.birth_name, patient.ipp, str(patient.matricule), LabExam().studies[0]):
        assert value not in everything
