"""The composition root: the one place where packages meet. Builds adapters, stores and services from settings;
holds no rule of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway import control
from gateway.alerts.certificates import certificate_ends
from gateway.alerts.clock import ClockWatch
from gateway.alerts.conditions import Kind
from gateway.alerts.watch import AlertWatch, channels
from gateway.asked import Asked
from gateway.campaigns import Campaigns
from gateway.certificates.http import still_believed
from gateway.certificates.links import feed_links, link_of
from gateway.certificates.links import links as tls_links
from gateway.certificates.page import page_of
from gateway.certificates.watch import TrustedLinks, certificate_changed
from gateway.components import COMPONENTS, FEEDS
from gateway.continuity import copies, drills
from gateway.dimse import inbox as received
from gateway.dimse.door import Exams, dicom_door
from gateway.dimse.storage import Storage
from gateway.disk import DiskGuard
from gateway.facts import Facts, Operation, Say, fact
from gateway.feeds.delivery import Feeds
from gateway.frames import Frames
from gateway.hl7.mllp import MllpLimits, serve_mllp
from gateway.hl7.senders import Senders
from gateway.inventory import Inventory
from gateway.lifecycle import unless
from gateway.nightly import Nightly
from gateway.operations import Operations
from gateway.pacs.changes import nudge_route
from gateway.providers.signin import parties
from gateway.reception import Reception
from gateway.sealing import Sealing, rotated
from gateway.settings import (
    AuditSettings,
    CertificatesSettings,
    IndexNodeSettings,
    Settings,
    StoreSettings,
    TenantSettings,
    address,
)
from gateway.stores import control_place, store_place
from gateway.telemetry import Metrics, Snapshot
from gateway.tenancy import Ground, Tenant, keeping, open_tenant
from gateway.terms import declared, engine_settings, exposed
from gateway.trail import TrailKeeper
from gateway.web.console import mount_console
from gateway.web.health import build_ops_app
from gateway.whitelist.rows import troubles as white_list_troubles
from gateway.whitelist.watch import WhiteListWatch, no_white_list
from indexer.exchanges import rows as exchanges
from indexer.ledger import Ledger
from indexer.registry.app import start as start_node
from indexer.registry.credentials import Credentials
from indexer.registry.node import REGISTRY, IndexNode
from indexer.timeline import SHADOW
from security import rotation
from security.accounts import SEALED_UNDER
from security.audit.refusals import Refusals
from security.clock import Clock, SystemClock, to_ms
from security.errors import Broken, Fault, Unavailable
from security.flood import Measure, throttled
from security.keys.authority import Authority
from security.keys.signer import pinned_certificates
from security.listener import listening, opening
from security.outbox import jobs
from security.outbox.engine import Engine
from security.outbox.states import TERMINAL
from security.policy import Action, Refusal, Tell, Zone
from security.runner import Runner
from security.seal import Vault
from security.secrets import read_kek
from security.store.opening import open_store
from security.store.port import GROUND, Component, ReadTx, Store, Tx
from security.xmlsig.verifying import Trust

log = structlog.get_logger()

_OPS_DRAIN_S = 2.0
_PRINCIPAL, _ADDRESS = Measure(per_second=200.0, burst=400), Measure(per_second=800.0, burst=1_600)
_LIFT_AGAIN_S = 1.0
_FORGET_EVERY_S = 3600.0


class Gateway:
    """One running gateway: every tenant's doors, one engine, and what watches over them. Built by ``house``."""

    def __init__(
        self,
        *,
        ground: Ground,
        tenants: Mapping[str, Tenant],
        engine: Engine,
        watch: AlertWatch,
        disk: DiskGuard | None,
        trail: TrailKeeper,
        feeds: Feeds,
        reception: Reception,
        refusals: Refusals,
        white_list: WhiteListWatch | None = None,
    ) -> None:
        self._ground = ground
        self._white_list = white_list
        self._settings = ground.settings
        self._store = ground.store
        self._clock = ground.clock
        self._tenants = tenants
        self._engine = engine
        self._watch = watch
        self._disk = disk
        self._trail = trail
        self._storages: dict[str, Storage] = {}
        self._inventory = Inventory(trail, self._storages, ground.clock)
        self._feeds = feeds
        self._reception = reception
        self._refusals = refusals
        self._campaigns = Campaigns(
            store=ground.store, vault=ground.vault, clock=ground.clock, tenants=frozenset(tenants)
        )
        self._sealing = Sealing(
            store=ground.store,
            vault=ground.vault,
            kek_file=ground.settings.gateway_store().kek_file,
            clock=ground.clock,
            in_use=frozenset({*tenants, SEALED_UNDER}),
            adopt=trail.adopt,
        )
        self.operations = Operations(
            tenants=tenants,
            store=ground.store,
            clock=ground.clock,
            nudge=ground.nudge,
        )
        self._frames = Frames(tenants=tenants, store=ground.store, ledger=ground.ledger, clock=ground.clock)
        self._asked = Asked(self.operations, reveal_users=frozenset(ground.settings.exchanges.reveal_users)).by_name()

    def orders(self) -> Mapping[str, Operation]:
        """What commands may ask for."""
        own = {"white-list-look": self._look_for_white_list, "reconcile": self._reconcile}
        return {
            **self._asked,
            **self._reception.orders(),
            **self._trail.operations(),
            **self._sealing.by_name(),
            **self._frames.by_name(),
            **self._campaigns.by_name(),
            **own,
        }

    async def work(self, stop: asyncio.Event) -> None:
        """Carry out jobs, follow and probe the PACS, watch disk and state, until ``stop``."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._engine.run(stop), name="engine")
            tasks.create_task(self._go_live(stop), name="go-live")
            tasks.create_task(self._watch.run(stop), name="alerts")
            tasks.create_task(self._trail.run(stop), name="audit-trail")
            tasks.create_task(self._refusals.run(stop), name="refusals")
            tasks.create_task(self._feeds.run(stop), name="audit-feed")
            tasks.create_task(self._forget(stop), name="exchanges")
            tasks.create_task(self._ground.links.run(stop, self._certificate_changed), name="certificates")
            if self._white_list:
                tasks.create_task(self._white_list.run(stop), name="white-list")
            if self._disk:
                tasks.create_task(self._disk.run(stop), name="disk")
            for tenant in self._tenants.values():
                tasks.create_task(self._nightly(tenant).run(stop), name=f"reconcile-{tenant.name}")
                for pacs, follower in tenant.followers.items():
                    tasks.create_task(follower.run(stop), name=f"changes-{tenant.name}-{pacs}")
                for number, probe in enumerate(tenant.probes):
                    tasks.create_task(probe.run(stop), name=f"probe-{tenant.name}-{number}")

    async def _reconcile(self, facts: Facts, say: Say) -> dict[str, Any]:
        """As the operation of that name, and what the gateway checks of its own with it. A mass withdrawal takes two
        persons (T46)."""
        if facts.get("withdraw_up_to") is not None:
            tenant = fact(facts, "tenant")
            self.operations.require_live(tenant)  # else the agreement is used up for nothing
            await self._reception.agreed(facts, Action.UNPUBLISH_ALL, tenant=tenant)
        found = await self._asked["reconcile"](facts, say)
        stock = await self._inventory.take(found["tenant"])
        return {**found, **stock.facts(), "changed": found["changed"] + stock.changed}

    async def _look_for_white_list(self, facts: Facts, _hear: Say) -> dict[str, Any]:
        if self._white_list is None:
            raise no_white_list()
        outcome = await self._white_list.look(actor=str(facts.get("actor", "")))
        return {"is_new": outcome.is_new, "boxes": len(outcome.found.content.boxes)}

    async def _certificate_changed(self, key: str, shown: str) -> None:
        await self._store.write(lambda tx: certificate_changed(tx, self._clock.now(), key, shown))

    def _nightly(self, tenant: Tenant) -> Nightly:
        return Nightly(
            tenant.reconciler,
            tenant=tenant.name,
            settings=tenant.settings,
            store=self._store,
            clock=self._clock,
            stopped=lambda: self._watch.happened(Kind.MASS_WITHDRAWAL, tenant=tenant.name, subject=""),
            beside=self._inventory.nightly,
        )

    async def _go_live(self, stop: asyncio.Event) -> None:
        """What shadow mode kept back goes on as soon as its tenant is live, beside everything else: 100,000 jobs took
        36 s. A full disk is waited for; what is left at a stop is lifted at the next start."""
        for tenant in self._tenants.values():
            if tenant.settings.mode != "live":
                log.warning("shadow-mode", tenant=tenant.name, hint="nothing of this tenant is sent")
                continue
            for kind in tenant.kinds:
                lifted = 1
                while lifted and not stop.is_set():
                    try:
                        lifted = await self._store.write(partial(self._lift_shadow, kind=kind))
                    except Unavailable as fault:
                        log.warning("shadow-not-lifted", tenant=tenant.name, code=fault.code)
                        await unless(stop, asyncio.sleep(_LIFT_AGAIN_S))
                    else:
                        self._ground.nudge()

    async def _forget(self, stop: asyncio.Event) -> None:
        """Let go, hourly, of the exchanges with the index that are older than what was set."""
        kept = keeping(self._settings)
        while not stop.is_set():
            for tenant in self._tenants:
                gone = 1
                while gone and not stop.is_set():
                    try:
                        gone = await self._store.write(
                            partial(exchanges.prune, tenant=tenant, keeping=kept, now=self._clock.now())
                        )
                    except Unavailable as fault:  # the disk is full: in an hour again
                        log.warning("exchanges-not-pruned", tenant=tenant, code=fault.code)
                        gone = 0
            await unless(stop, asyncio.sleep(_FORGET_EVERY_S))

    def _lift_shadow(self, tx: Tx, *, kind: str) -> int:
        return jobs.lift_reason(tx, kind=kind, reason=SHADOW, now=self._clock.now())

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[Mapping[str, str]]:
        """Open the MLLP and DICOM listeners of every tenant, the ops listener and the socket of commands; yields
        name → bound address."""
        bound: dict[str, str] = {}
        async with AsyncExitStack() as stack:
            for name, tenant in self._tenants.items():
                if tenant.settings.hl7.listen:
                    bound[f"hl7:{name}"] = await self._open_hl7(stack, tenant)
                if tenant.settings.dicom.listen:
                    bound[f"dicom:{name}"] = await self._open_dicom(stack, tenant)
            if self._settings.ops.listen:
                bound["ops"] = await self._open_ops(stack)
            await stack.enter_async_context(
                control.listening(control_place(self._settings), self.orders(), tell=self._refusals.tell)
            )
            for door, where in bound.items():
                log.info("door-open", door=door, address=where)
            yield bound

    async def _open_hl7(self, stack: AsyncExitStack, tenant: Tenant) -> str:
        hl7 = tenant.settings.hl7
        host, port = address(hl7.listen)
        limits = MllpLimits(
            frame_bytes_max=hl7.message_bytes_max,
            idle_s=hl7.idle_s,
            frame_s=hl7.frame_s,
            connections_max=hl7.connections_max,
            connections_per_address_max=hl7.connections_per_address_max,
        )
        senders = Senders(tenant=tenant.name, networks=hl7.networks)
        with opening(f"tenants.{tenant.name}.hl7.listen", hl7.listen, hl7.interface):
            server = await serve_mllp(
                host,
                port,
                tenant.intake.handle,
                limits=limits,
                senders=senders,
                interface=hl7.interface,
                tell=self._refusals.tell,
            )
        stack.push_async_callback(server.close)
        return _shown(server.sockets[0].getsockname())

    async def _open_dicom(self, stack: AsyncExitStack, tenant: Tenant) -> str:
        dicom = tenant.settings.dicom
        with opening(f"tenants.{tenant.name}.dicom.listen", dicom.listen, dicom.interface):
            listener = await stack.enter_async_context(
                dicom_door(
                    dicom,
                    tenant=tenant.name,
                    store=self._store,
                    vault=self._ground.vault,
                    clock=self._clock,
                    room=self._ground.room,
                    free_bytes_min=self._settings.disk.reserve_bytes,
                    observe=self._ground.metrics.dicom,
                    exams=Exams(admission=tenant.admission, sources=tenant.sources, nudge=self._ground.nudge),
                    link=self._ground.links.link(f"tenants.{tenant.name}.dicom"),
                    kept_by=partial(self._storages.__setitem__, tenant.name),
                )
            )
        return _shown(listener.address)

    async def _open_ops(self, stack: AsyncExitStack) -> str:
        tell = self._refusals.tell
        app = build_ops_app(ready=self._ready, metrics=self._ground.metrics, snapshot=self._snapshot, tell=tell)
        ops = self._settings.ops
        host, port = address(ops.listen)
        app.middlewares.insert(0, _measured(Zone.OPS, tell))
        app.add_routes(
            [
                nudge_route(
                    {
                        (tenant.name, pacs): follower
                        for tenant in self._tenants.values()
                        for pacs, follower in tenant.followers.items()
                    }
                )
            ]
        )
        mount_console(
            app,
            self.operations,
            self._reception,
            idle_s=ops.session_idle_s,
            hosts={host, *ops.names},
            clock=self._clock,
            tell=tell,
            parties=parties(self._settings.identity_providers, self._ground.links.context, self._clock),
        )
        runner = Runner(
            app,
            access_log=None,
            shutdown_timeout=_OPS_DRAIN_S,
            auto_decompress=False,  # a small body must not become a large one (T24)
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        with opening("ops.listen", ops.listen, ops.interface):
            open_at = listening(host, port, interface=ops.interface)
        page = self._ground.links.page
        await web.SockSite(runner, open_at, ssl_context=page.context if page else None).start()
        return _shown(runner.addresses[0])

    async def _ready(self) -> Mapping[str, str]:
        """Ready means: the store takes writes."""
        now = to_ms(self._clock.now())

        def rewrite(tx: Tx) -> None:
            tx.change(
                "INSERT INTO readiness (one, asked_at) VALUES (1, :now)"
                " ON CONFLICT (one) DO UPDATE SET asked_at = excluded.asked_at",
                now=now,
            )

        try:
            await self._store.write(rewrite)
        except Fault as fault:
            return {"store": fault.code}
        return {"store": ""}

    async def _snapshot(self) -> Snapshot:
        """The queue's figures, from the database (I18)."""
        figures = await self._store.read(jobs.snapshot)
        now, seconds = self._clock.now(), self._clock.monotonic()
        return Snapshot(
            depth={key: count for key, count in figures.counts.items() if key[1] not in TERMINAL},
            oldest_age_s={key: max((now - since).total_seconds(), 0.0) for key, since in figures.oldest.items()},
            blocked=figures.blocked,
            lags=figures.lags,
            lag_sum_s=figures.lag_sum_s,
            paused=tuple(pause.tenant for pause in figures.paused),
            ahead=await self._engine.forecasts(),
            exposed_s={
                (one.tenant, data_class): one.seconds
                for one in await self._store.read(lambda tx: exposed(self._settings, tx, self._clock.now()))
                for data_class in copies.DATA_CLASSES
            },
            declared_s=declared(self._settings),
            drilled_s={name: (one.rpo_s, one.rto_s) for name, one in (await self._store.read(drills.last)).items()},
            received={
                key: (number, max((now - since).total_seconds(), 0.0))
                for key, (number, since) in (await self._store.read(received.oldest)).items()
            },
            feeds={
                name: (one.records, one.oldest_s)
                for name, one in (await self._store.read(self._feeds.waiting)).items()
            },
            breakers={name: breaker.mode(seconds).value for name, breaker in self._engine.breakers.items()},
        )


@asynccontextmanager
async def house(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything a gateway needs, closed in reverse order at the end."""
    clock, place = SystemClock(), settings.gateway_store()
    async with AsyncExitStack() as stack:
        store = await _store(stack, place, COMPONENTS)
        await _rewrapped(store, place.kek_file, clock)
        vault = await Vault.load(store, read_kek(place.kek_file), [*settings.tenants, SEALED_UNDER], clock)
        for name, number in (await store.read(jobs.tenants_at_work)).items():
            if name not in settings.tenants:
                log.warning(
                    "tenant-not-configured", tenant=name, unfinished=number, hint="add it, or nobody sends these"
                )
        disk = _disk(settings, place.path) if place.path else None
        clock_watch = ClockWatch(clock)
        page, bell = page_of(settings.ops, clock), _Bell()
        links = TrustedLinks(tls_links(settings), settings.certificates, clock, page=page)
        feeds = _feeds(stack, settings.audit, "audit", store=store, clock=clock, bell=bell, links=links)
        watch = AlertWatch(
            store,
            channels(settings, links.context),
            clock=clock,
            clock_watch=clock_watch,
            disk=disk,
            certificates=lambda: certificate_ends(settings),
            every_s=settings.alerts.every_s,
            remind_s=settings.alerts.remind_s,
            offset_max_s=settings.clock.offset_max_s,
            calls=engine_settings(settings).calls,
            inbox=lambda tx, now: _inbox(settings, tx, now),
            feeds=feeds.late,
            trust=lambda tx: (*links.troubles(), *white_list_troubles(tx)),
            exposed=lambda tx, now: {one.tenant: (int(one.seconds), one.stage) for one in exposed(settings, tx, now)},
        )
        ground = Ground(
            settings=settings,
            store=store,
            vault=vault,
            ledger=Ledger(vault),
            clock=clock,
            metrics=Metrics(),
            nudge=bell.ring,
            room=lambda: not (disk and disk.refuses()),
            happened=lambda what, *, tenant, subject: watch.happened(Kind(what), tenant=tenant, subject=subject),
            observe_date=clock_watch.observer,
            links=links,
        )
        tenants = {name: await _tenant(stack, name, asked, ground) for name, asked in settings.tenants.items()}
        engine = Engine(
            store,
            {**{name: kind for one in tenants.values() for name, kind in one.kinds.items()}, **feeds.kinds},
            clock=clock,
            rng=random.SystemRandom(),
            settings=engine_settings(settings),
            owner=f"{socket.gethostname()}-{uuid.uuid4()}",
        )
        bell.engine = engine
        trail = TrailKeeper(
            store,
            kek=read_kek(place.kek_file),
            settings=settings.audit,
            clock=clock,
            altered=lambda kind: watch.happened(Kind.AUDIT, tenant="", subject=kind),
            configuration=_digest(settings),
        )
        reception = Reception.over(
            store,
            vault,
            clock,
            tenants=settings.tenants,
            alarm=lambda tenant, account: watch.happened(Kind.BREAK_GLASS, tenant=tenant, subject=account),
            issuer=partial(_issuer, settings),
            providers={
                name: one.issuer for name, one in settings.identity_providers.items() if one.authorization_url
            },
        )
        refusals = Refusals(store=store, clock=clock)
        stack.push_async_callback(refusals.close)
        yield Gateway(
            ground=ground,
            refusals=refusals,
            tenants=tenants,
            engine=engine,
            watch=watch,
            disk=disk,
            reception=reception,
            trail=trail,
            feeds=feeds,
            white_list=_white_list(settings, store, clock),
        )


async def _rewrapped(store: Store, kek_file: Path, clock: Clock) -> None:
    """Go on with a rotation of the key-encryption key that ended in the middle."""
    done = await rotation.finish(store, kek_file, lambda tx, many: rotated(tx, clock.now(), many, "poterne"))
    if done:
        log.info("kek-rotated", keys=done, hint="the old key is kept beside: poterne certs keys show")


def _white_list(settings: Settings, store: Store, clock: Clock) -> WhiteListWatch | None:
    asked = settings.white_list
    return WhiteListWatch(asked, settings.certificates, store=store, clock=clock) if asked else None


async def _tenant(stack: AsyncExitStack, name: str, settings: TenantSettings, ground: Ground) -> Tenant:
    """One tenant, closed with ``stack``. One that cannot be built stops the start: a gateway that runs without it
    would look well while its reports stay with their senders; ``poterne check`` tells before a restart.

    Raises:
        Broken: a key, certificate or password of it cannot be used.
    """
    try:
        return await stack.enter_async_context(open_tenant(name, settings, ground))
    except Broken as fault:
        raise Broken(f"tenants.{name}: {fault.args[0]}", code=fault.code, hint=fault.hint) from fault


class _Bell:
    """Wakes the engine, which is built last: its kinds need what rings."""

    engine: Engine | None = None

    def ring(self) -> None:
        if self.engine is not None:
            self.engine.nudge()


def _disk(settings: Settings, database: Path) -> DiskGuard:
    return DiskGuard(database, low_bytes=settings.disk.low_bytes, reserve_bytes=settings.disk.reserve_bytes)


class IndexHouse:
    """One running index node."""

    def __init__(
        self,
        node: IndexNode,
        settings: IndexNodeSettings,
        credentials: Credentials | None,
        *,
        links: TrustedLinks,
        trail: TrailKeeper,
        feeds: Feeds,
        engine: Engine,
        refusals: Refusals,
    ) -> None:
        self._refusals = refusals
        self._trail = trail
        self._feeds = feeds
        self._engine = engine
        self._node = node
        self._settings = settings
        self._credentials = credentials
        self._links = links

    async def work(self, stop: asyncio.Event) -> None:
        """Beside its door, a node keeps its audit trail, its certificate, and whom it believes, current."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._links.run(stop, _note_certificate), name="certificates")
            tasks.create_task(self._trail.run(stop), name="audit-trail")
            tasks.create_task(self._refusals.run(stop), name="refusals")
            if self._feeds.kinds:
                tasks.create_task(self._feeds.run(stop), name="audit-feed")
                tasks.create_task(self._engine.run(stop), name="engine")

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[Mapping[str, str]]:
        """Open the node's listener."""
        host, port = address(self._settings.listen)
        tell = self._refusals.tell
        link = self._links.link("index_node")
        context = link.context if link else None
        with opening("index_node.listen", self._settings.listen, self._settings.interface):
            running = await start_node(
                self._node,
                host=host,
                port=port,
                interface=self._settings.interface,
                tls=context,
                middlewares=(
                    _measured(Zone.PEERS, tell),
                    *((still_believed(link.trust, zone=Zone.PEERS, tell=tell),) if link else ()),
                ),
                credentials=self._credentials,
                tell=tell,
            )
        try:
            where = f"{host}:{running.port}"
            log.info("door-open", door="index", address=where, tls=context is not None)
            yield {"index": where}
        finally:
            await running.close()


@asynccontextmanager
async def index_house(
    settings: IndexNodeSettings, certificates: CertificatesSettings | None = None
) -> AsyncIterator[IndexHouse]:
    """Everything an index node needs. ``certificates``: as its configuration has them."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await _store(stack, settings.store, (GROUND, REGISTRY, FEEDS))
        await _rewrapped(store, settings.store.kek_file, clock)
        vault = await Vault.load(store, read_kek(settings.store.kek_file), [settings.tenant], clock)
        node = IndexNode(
            store,
            vault,
            clock,
            tenant=settings.tenant,
            repository_unique_id=settings.repository_unique_id,
            resubmission=settings.resubmission,
        )
        known = (*link_of("index_node", settings), *feed_links("index_node.audit", settings.audit))
        own = {link.key: link for link in known}
        links = TrustedLinks(own, certificates or CertificatesSettings(), clock)
        bell = _Bell()
        feeds = _feeds(stack, settings.audit, "index_node.audit", store=store, clock=clock, bell=bell, links=links)
        bell.engine = Engine(store, feeds.kinds, clock=clock, rng=random.SystemRandom())
        trail = TrailKeeper(
            store,
            kek=read_kek(settings.store.kek_file),
            settings=settings.audit,
            clock=clock,
            configuration=_digest(settings),
        )
        believed = _credentials(settings, clock)
        refusals = Refusals(store=store, clock=clock)
        stack.push_async_callback(refusals.close)
        yield IndexHouse(
            node,
            settings,
            believed,
            links=links,
            trail=trail,
            feeds=feeds,
            engine=bell.engine,
            refusals=refusals,
        )


def _feeds(
    stack: AsyncExitStack,
    settings: AuditSettings,
    key: str,
    *,
    store: Store,
    clock: Clock,
    bell: _Bell,
    links: TrustedLinks,
) -> Feeds:
    """The feeds of a section, closed with ``stack``."""
    feeds = Feeds(
        settings.feed,
        store=store,
        clock=clock,
        nudge=bell.ring,
        secure=lambda name: links.context(f"{key}.feed.{name}"),
    )
    stack.push_async_callback(feeds.close)
    return feeds


def _digest(settings: Settings | IndexNodeSettings) -> str:
    """SHA-256 of a configuration, so that a record can say that it changed without saying what it is."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()


def _measured(zone: Zone, tell: Tell) -> Middleware:
    """Holds each requester of a listener to a measure that no honest one reaches (T33)."""

    def over(address: str) -> None:
        tell(Refusal(zone=zone, reason="too-many-requests", address=address))

    return throttled(_PRINCIPAL, _ADDRESS, SystemClock().monotonic, over)


def _credentials(settings: IndexNodeSettings, clock: Clock) -> Credentials | None:
    """Who the node believes, None when it asks for no assertion."""
    if settings.assertion_certificates_file is None:
        return None
    certificates = pinned_certificates(settings.assertion_certificates_file)
    return Credentials(Trust(certificates=certificates, accepts_sha1=settings.assertion_sha1), clock)


async def _store(stack: AsyncExitStack, settings: StoreSettings, components: Sequence[Component]) -> Store:
    store = await open_store(store_place(settings), components)
    stack.push_async_callback(store.close)
    return store


def _inbox(settings: Settings, tx: ReadTx, now: datetime) -> Mapping[tuple[str, str], int]:
    """Received objects that ask for a person: not shown by the PACS for too long, in quarantine, or gone."""
    found: dict[tuple[str, str], int] = {}
    for name, tenant in settings.tenants.items():
        if tenant.dicom.listen:
            before = now - timedelta(seconds=tenant.dicom.unconfirmed_s)
            found[name, "unconfirmed"] = received.unconfirmed(tx, name, before=before)
            found[name, "quarantined"] = received.held(tx, name).quarantined
            found[name, "lost"] = received.lost(tx, name)
    return found


async def _note_certificate(key: str, shown: str) -> None:
    """A node's audit trail is of its entries; its log says which certificate it shows."""
    log.info("certificate-changed", link=key, sha256=shown)


def _issuer(settings: Settings) -> Authority | None:
    """Who certifies people; its key is read when it is asked."""
    folder = settings.certificates.people_authority
    return Authority.open(folder) if folder else None


def _shown(bound: tuple[object, ...]) -> str:
    host, port = bound[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
