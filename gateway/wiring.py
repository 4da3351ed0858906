"""The composition root: the one place where packages meet. Builds adapters, stores and services from settings;
holds no rule of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from zoneinfo import ZoneInfo

import structlog
from aiohttp import web

from gateway.components import COMPONENTS
from gateway.hl7.intake import Intake
from gateway.hl7.mllp import MllpLimits, serve_mllp
from gateway.pacs.dimse import DimsePeer, DimseSource
from gateway.pacs.orthanc import OrthancPeer, OrthancSource
from gateway.settings import (
    IndexNodeSettings,
    PacsOrthanc,
    PacsSettings,
    Settings,
    StoreSettings,
    TenantSettings,
    address,
)
from gateway.telemetry import Metrics, Snapshot
from gateway.web.health import build_ops_app
from indexer import codes, gate
from indexer.assemble import Site
from indexer.ledger import Ledger
from indexer.publication import Policy, Publication
from indexer.registry.app import start as start_node
from indexer.registry.node import REGISTRY, IndexNode
from indexer.report import Coded, Organization
from indexer.xds.client import XdsClient, XdsEndpoint
from indexer.xds.metadata import Publisher
from security.clock import SystemClock, to_ms
from security.errors import Broken, Fault
from security.identity import Uid
from security.keys import tls
from security.outbox import jobs
from security.outbox.engine import Engine, EngineSettings
from security.outbox.retry import RetrySettings
from security.outbox.states import TERMINAL
from security.seal import Vault
from security.secrets import read_kek, read_secret
from security.store.port import Component, Tx
from security.store.sqlite import GROUND, SqliteStore

log = structlog.get_logger()

_LOOPBACK = "loopback only: the guarded doors are not built yet"


class Gateway:
    """One running gateway: every tenant's doors, one engine. Built by ``house``."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: SqliteStore,
        vault: Vault,
        ledger: Ledger,
        engine: Engine,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._vault = vault
        self._ledger = ledger
        self._engine = engine
        self._metrics = metrics
        self._clock = SystemClock()

    async def work(self, stop: asyncio.Event) -> None:
        """Carry out jobs until ``stop``."""
        await self._engine.run(stop)

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[Mapping[str, str]]:
        """Open the MLLP listener of every tenant and the ops listener; yields name → bound address."""
        bound: dict[str, str] = {}
        async with AsyncExitStack() as stack:
            for name, tenant in self._settings.tenants.items():
                if tenant.hl7.listen:
                    bound[f"hl7:{name}"] = await self._open_hl7(stack, name, tenant)
            if self._settings.ops.listen:
                bound["ops"] = await self._open_ops(stack)
            for door, where in bound.items():
                log.info("door-open", door=door, address=where, note=_LOOPBACK)
            yield bound

    async def _open_hl7(self, stack: AsyncExitStack, name: str, tenant: TenantSettings) -> str:
        intake = Intake(
            tenant=name,
            store=self._store,
            vault=self._vault,
            ledger=self._ledger,
            rules=_rules(tenant),
            timezone=ZoneInfo(tenant.timezone),
            fallback_charset=tenant.hl7.fallback_charset,
            clock=self._clock,
            enqueued=self._engine.nudge,
            observe=self._metrics.hl7_message,
        )
        host, port = address(tenant.hl7.listen)
        limits = MllpLimits(
            frame_bytes_max=tenant.hl7.message_bytes_max,
            idle_s=tenant.hl7.idle_s,
            frame_s=tenant.hl7.frame_s,
            connections_max=tenant.hl7.connections_max,
            connections_per_address_max=tenant.hl7.connections_per_address_max,
        )
        with _binding(f"tenants.{name}.hl7.listen", tenant.hl7.listen):
            server = await serve_mllp(host, port, intake.handle, limits=limits)
        stack.push_async_callback(server.close)
        return _shown(server.sockets[0].getsockname())

    async def _open_ops(self, stack: AsyncExitStack) -> str:
        app = build_ops_app(ready=self._ready, metrics=self._metrics, snapshot=self._snapshot)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, port = address(self._settings.ops.listen)
        with _binding("ops.listen", self._settings.ops.listen):
            await web.TCPSite(runner, host, port).start()
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
            breakers={name: breaker.mode(seconds).value for name, breaker in self._engine.breakers.items()},
        )


@asynccontextmanager
async def house(settings: Settings) -> AsyncIterator[Gateway]:
    """Everything a gateway needs, closed in reverse order at the end."""
    clock, place = SystemClock(), settings.gateway_store()
    async with AsyncExitStack() as stack:
        store = await _store(stack, place, COMPONENTS)
        vault = await Vault.load(store, read_kek(place.kek_file), settings.tenants, clock)
        for name, number in (await store.read(jobs.tenants_at_work)).items():
            if name not in settings.tenants:
                log.warning(
                    "tenant-not-configured", tenant=name, unfinished=number, hint="add it, or nobody sends these"
                )
        ledger = Ledger(vault)
        metrics = Metrics()
        kinds: dict[str, Publication] = {}
        for name, tenant in settings.tenants.items():
            client = XdsClient(_endpoint(tenant))
            stack.push_async_callback(client.aclose)
            sources = [_source(pacs_name, pacs) for pacs_name, pacs in tenant.pacs.items()]
            for source in sources:
                stack.push_async_callback(source.close)
            kind = Publication(
                policy=_policy(name, tenant, settings),
                store=store,
                ledger=ledger,
                sources=sources,
                index=client,
                clock=clock,
                observe=_observer(metrics),
            )
            kinds[kind.name] = kind
        engine = Engine(
            store,
            kinds,
            clock=clock,
            rng=random.SystemRandom(),
            settings=_engine_settings(settings),
            owner=f"{socket.gethostname()}-{uuid.uuid4()}",
        )
        yield Gateway(settings=settings, store=store, vault=vault, ledger=ledger, engine=engine, metrics=metrics)


class IndexHouse:
    """One running index node."""

    def __init__(self, node: IndexNode, settings: IndexNodeSettings) -> None:
        self._node = node
        self._settings = settings

    async def work(self, stop: asyncio.Event) -> None:
        """A node has no work of its own beside its door."""
        await stop.wait()

    @asynccontextmanager
    async def doors(self) -> AsyncIterator[Mapping[str, str]]:
        """Open the node's listener."""
        host, port = address(self._settings.listen)
        context = _server_tls(self._settings)
        with _binding("index_node.listen", self._settings.listen):
            running = await start_node(self._node, host=host, port=port, tls=context)
        try:
            where = f"{host}:{running.port}"
            log.info("door-open", door="index", address=where, tls=context is not None, note=_LOOPBACK)
            yield {"index": where}
        finally:
            await running.close()


@asynccontextmanager
async def index_house(settings: IndexNodeSettings) -> AsyncIterator[IndexHouse]:
    """Everything an index node needs."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        store = await _store(stack, settings.store, (GROUND, REGISTRY))
        vault = await Vault.load(store, read_kek(settings.store.kek_file), [settings.tenant], clock)
        node = IndexNode(
            store,
            vault,
            clock,
            tenant=settings.tenant,
            repository_unique_id=settings.repository_unique_id,
            resubmission=settings.resubmission,
        )
        yield IndexHouse(node, settings)


async def _store(stack: AsyncExitStack, settings: StoreSettings, components: Sequence[Component]) -> SqliteStore:
    store = await SqliteStore.open(settings.path, components)
    stack.push_async_callback(store.close)
    return store


def _observer(metrics: Metrics) -> Callable[[str, str], None]:
    """Counts what publication asks of its peers."""

    def observe(peer: str, outcome: str) -> None:
        (metrics.pacs_question if peer == "pacs" else metrics.index_request)(outcome)

    return observe


def _engine_settings(settings: Settings) -> EngineSettings:
    outbox = settings.outbox
    return EngineSettings(
        slots=outbox.slots,
        call_s=outbox.lease_s,
        retry=RetrySettings(base_s=outbox.retry_base_s, cap_s=outbox.retry_cap_s),
    )


def _endpoint(tenant: TenantSettings) -> XdsEndpoint:
    index = tenant.index
    context = None
    if index.certificate_file and index.key_file and index.ca_file:
        context = tls.client_context(index.certificate_file, index.key_file, index.ca_file)
    return XdsEndpoint(
        registry_url=index.registry_url,
        repository_url=index.repository_url,
        repository_unique_id=index.repository_unique_id,
        tls=context,
        connect_timeout_s=index.connect_timeout_s,
        total_timeout_s=index.total_timeout_s,
        response_bytes_max=index.response_bytes_max,
    )


def _server_tls(settings: IndexNodeSettings) -> ssl.SSLContext | None:
    if settings.certificate_file and settings.key_file and settings.ca_file:
        return tls.server_context(settings.certificate_file, settings.key_file, settings.ca_file)
    return None


def _publisher(tenant: TenantSettings) -> Publisher:
    publisher = tenant.publisher
    return Publisher(
        device_id=publisher.device_id,
        device_name=publisher.device_name,
        manufacturer=publisher.manufacturer,
        institution_name=publisher.institution_name,
        institution_id=publisher.institution_id,
        institution_system=publisher.institution_system,
        source_id=publisher.source_id,
        content_type=Coded(
            code=publisher.content_type_code,
            system=publisher.content_type_system,
            display=publisher.content_type_display,
        ),
        facility_type=codes.table("facility-type").coded(publisher.facility_type),
        practice_setting=codes.table("practice-setting").coded(publisher.practice_setting),
        study_uid_issuer=publisher.source_id,
    )


def _rules(tenant: TenantSettings) -> gate.Rules:
    return gate.Rules(**tenant.identity.model_dump())


def _policy(name: str, tenant: TenantSettings, settings: Settings) -> Policy:
    publisher = tenant.publisher
    return Policy(
        tenant=name,
        timezone=ZoneInfo(tenant.timezone),
        site=Site(
            institution=Organization(
                identifier=publisher.institution_id,
                system=publisher.institution_system,
                name=publisher.institution_name,
            ),
            retrieve_base=tenant.images.retrieve_base,
            retrieve_location=tenant.images.retrieve_location,
        ),
        publisher=_publisher(tenant),
        rules=_rules(tenant),
        visibility=timedelta(seconds=settings.outbox.visibility_s),
        pacs_retry_base_s=settings.outbox.pacs_retry_base_s,
        pacs_retry_cap_s=settings.outbox.pacs_retry_cap_s,
    )


def _source(name: str, pacs: PacsSettings) -> OrthancSource | DimseSource:
    control = Uid(pacs.control_study) if pacs.control_study else None
    if isinstance(pacs, PacsOrthanc):
        password = (
            read_secret(pacs.password_file, what="PACS password").decode().strip() if pacs.password_file else ""
        )
        return OrthancSource(
            OrthancPeer(
                name=name,
                url=pacs.url,
                username=pacs.username,
                password=password,
                timeout_s=pacs.timeout_s,
                deadline_s=pacs.deadline_s,
                control=control,
            )
        )
    return DimseSource(
        DimsePeer(
            name=name,
            host=pacs.host,
            port=pacs.port,
            called_aet=pacs.called_aet,
            calling_aet=pacs.calling_aet,
            default_charset=pacs.default_charset,
            timeout_s=pacs.timeout_s,
            deadline_s=pacs.deadline_s,
            control=control,
        )
    )


@contextmanager
def _binding(key: str, listen: str) -> Iterator[None]:
    """Names the setting and the address of a door that cannot be opened."""
    try:
        yield
    except OSError as error:
        raise Broken(
            f"{key}: {listen} cannot be opened: {os.strerror(error.errno or 0)}",
            code="door-unavailable",
            hint="stop what listens there, or choose another address",
        ) from error


def _shown(bound: tuple[object, ...]) -> str:
    host, port = bound[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
