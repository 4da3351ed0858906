"""The watch: looks at the state every so often, keeps the alerts in the database right, tells the channels.

One task looks, one per channel tells: a channel that hangs delays nobody. Both begin again after a fault of the
database; when that lasts, the engine takes the process down (F03).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from gateway.alerts import rows
from gateway.alerts.channels import Channel, Mail, Webhook
from gateway.alerts.clock import ClockWatch
from gateway.alerts.conditions import EVENTS, Condition, Figures, Kind, conditions
from gateway.alerts.rows import Notice
from gateway.alerts.texts import Speaker
from gateway.disk import DiskGuard
from gateway.i18n import words
from gateway.settings import Settings
from security.clock import Clock
from security.errors import Broken, Fault
from security.outbox import pace
from security.store.port import ReadTx, Store, Tx

log = structlog.get_logger()


class AlertWatch:
    """The alerts of one gateway. ``disk``: None when the database is on another machine. ``certificates``: ends of
    those that the configuration names, asked at each look. ``calls``: how many
    calls an index may carry at once. ``exposed``, ``inbox``, ``feeds``: as in ``Figures``."""

    def __init__(
        self,
        store: Store,
        channels: Sequence[Channel],
        *,
        clock: Clock,
        clock_watch: ClockWatch,
        disk: DiskGuard | None,
        certificates: Callable[[], Mapping[str, datetime]],
        every_s: float,
        remind_s: float,
        offset_max_s: float,
        calls: int,
        exposed: Callable[[ReadTx, datetime], Mapping[str, tuple[int, int]]] = lambda _tx, _now: {},
        trust: Callable[[ReadTx], Collection[str]] = lambda _tx: (),
        inbox: Callable[[ReadTx, datetime], Mapping[tuple[str, str], int]] = lambda _tx, _now: {},
        feeds: Callable[[ReadTx], Mapping[str, int]] = lambda _tx: {},
    ) -> None:
        self._store = store
        self._channels = tuple(channels)
        self._names = tuple(channel.name for channel in channels)
        self._clock = clock
        self._clock_watch = clock_watch
        self._disk = disk
        self._certificates = certificates
        self._every_s = every_s
        self._remind = timedelta(seconds=remind_s)
        self._offset_max_s = offset_max_s
        self._calls = calls
        self._exposed = exposed
        self._trust = trust
        self._inbox = inbox
        self._feeds = feeds
        self._events: list[Condition] = []
        self._due = asyncio.Event()
        self._news = {channel.name: asyncio.Event() for channel in channels}
        self._unnoted: dict[str, tuple[Sequence[Notice], datetime]] = {}

    def happened(self, kind: Kind, *, tenant: str, subject: str) -> None:
        """An event took place (``conditions.EVENTS``): it is stored and told with the next look, which comes now.

        Raises:
            Broken: ``not-an-event``.
        """
        if kind not in EVENTS:
            raise Broken(f"{kind} is no event", code="not-an-event", hint="this is a defect: report it")
        self._events.append(Condition(tenant=tenant, kind=kind, subject=subject, measure=1))
        self._due.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Look and tell until ``stop``; the channels are closed then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(stop, "look", self.look, nudge=self._due), name="alerts")
                telling = [
                    tasks.create_task(self._keep_telling(stop, channel), name=f"alerts-{channel.name}")
                    for channel in self._channels
                ]
                await stop.wait()
                for task in telling:
                    task.cancel()  # what was not told is in the database: the next start tells it
            if self._events:  # they stand nowhere else
                await self._without_fault("stop", self.look)
        finally:
            for channel in self._channels:
                await channel.close()

    async def look(self) -> None:
        """One look: what is wrong now becomes, restates or closes its alerts, in one transaction."""
        self._due.clear()
        now = self._clock.now()
        stepped_s = self._clock_watch.stepped_back_s()
        if stepped_s:
            log.warning("clock-set-back", seconds=round(stepped_s, 1))
            self._events.append(Condition(tenant="", kind=Kind.CLOCK_STEPPED, subject="", measure=1))
        queue = await self._store.read(lambda tx: rows.queue(tx, now=now))
        ahead = await self._store.read(lambda tx: pace.all_ahead(tx, now=now, calls=self._calls))
        exposed = await self._store.read(lambda tx: self._exposed(tx, now))
        inbox = await self._store.read(lambda tx: self._inbox(tx, now))
        trust = await self._store.read(self._trust)
        found = conditions(
            Figures(
                trust=trust,
                exposed=exposed,
                inbox=inbox,
                feeds=await self._store.read(self._feeds),
                now=now,
                held=queue.held,
                failed=queue.failed,
                late=queue.late,
                at_risk={tenant: sum(found.late.values()) for tenant, found in ahead.items()},
                paused=queue.paused,
                disk_stage=int(self._disk.level) if self._disk else 0,
                disk_free=self._disk.spare() if self._disk else 0,
                clock_offset_s=self._clock_watch.offsets(),
                certificates=await asyncio.to_thread(self._certificates),
            ),
            offset_max_s=self._offset_max_s,
        )
        events = tuple(self._events)

        def keep(tx: Tx) -> None:
            rows.reconcile(tx, found, now=now, channels=self._names)
            for event in events:
                rows.happened(tx, event, now=now, channels=self._names)

        await self._store.write(keep)
        del self._events[: len(events)]
        for news in self._news.values():
            news.set()

    async def tell(self, channel: Channel) -> bool:
        """Tell one channel what it must know now; whether there was anything that it took.

        Raises:
            Fault: it could not be noted that the channel took it: nothing more is told before it is, or it would be
                told again each time.
        """
        await self._note_told(channel.name)
        now = self._clock.now()
        wanted = await self._store.read(lambda tx: rows.notices(tx, channel.name, now=now, remind=self._remind))
        if not wanted:
            return False
        try:
            await channel.tell(wanted, now=now)
        except Fault as fault:
            log.warning("alerts-not-delivered", channel=channel.name, alerts=len(wanted), fault=fault)
            failed_at = self._clock.now()
            code = fault.code
            await self._store.write(lambda tx: rows.not_told(tx, channel.name, wanted, now=failed_at, failure=code))
            return False
        log.info("alerts-delivered", channel=channel.name, alerts=len(wanted))
        self._unnoted[channel.name] = wanted, now
        await self._note_told(channel.name)
        return True

    async def _note_told(self, channel: str) -> None:
        if channel not in self._unnoted:
            return
        sent, at = self._unnoted[channel]
        await self._store.write(lambda tx: rows.told(tx, channel, sent, now=at))
        del self._unnoted[channel]

    async def _keep_telling(self, stop: asyncio.Event, channel: Channel) -> None:
        news = self._news[channel.name]

        async def told() -> None:
            news.clear()
            await self.tell(channel)

        await self._repeat(stop, f"tell-{channel.name}", told, nudge=news)

    async def _without_fault(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Fault as fault:
            log.warning("alerts-interrupted", at=what, fault=fault)

    async def _repeat(
        self,
        stop: asyncio.Event,
        what: str,
        work: Callable[[], Awaitable[None]],
        *,
        nudge: asyncio.Event,
    ) -> None:
        while not stop.is_set():
            await self._without_fault(what, work)
            waits = [asyncio.ensure_future(event.wait()) for event in (stop, nudge)]
            _, rest = await asyncio.wait(waits, timeout=self._every_s, return_when=asyncio.FIRST_COMPLETED)
            for wait in rest:
                wait.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await wait


Secure = Callable[[str], ssl.SSLContext | None]


def channels(settings: Settings, secure: Secure) -> list[Channel]:
    """The channels of a configuration. ``secure``: the context of a link by its key, None where it has none."""
    alerts = settings.alerts
    zones = {name: ZoneInfo(tenant.timezone) for name, tenant in settings.tenants.items()}
    speaker = Speaker(
        words=words(alerts.language),
        zones=dict(zones),
        default_zone=next(iter(zones.values()), ZoneInfo("UTC")),
        console_url=alerts.console_url,
    )
    made: list[Channel] = []
    if alerts.mail:
        made.append(Mail(alerts.mail, speaker, secure("alerts.mail")))
    if alerts.webhook:
        made.append(Webhook(alerts.webhook, speaker, secure("alerts.webhook")))
    return made
