"""Everything one tenant consists of, made from its settings: its way in, its jobs, its peers, what follows its PACS.

Holds no rule of its own; opens nothing: adapters connect when they are first asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

from gateway.certificates.watch import TrustedLinks
from gateway.hl7.intake import Intake
from gateway.pacs.changes import ChangeFollower
from gateway.pacs.orthanc import OrthancPeer
from gateway.pacs.probe import Peer, WeeklyProbe
from gateway.pacs.source import PacsSource
from gateway.peers import index_client, pacs_peer, pacs_source, set_signer
from gateway.settings import IndexXds, PacsOrthanc, Settings, TenantSettings, TrialSettings
from gateway.telemetry import Metrics
from indexer import codes, completeness, gate, withdrawal
from indexer.admission import Admission
from indexer.assemble import Site
from indexer.exchanges.recorded import Recorded
from indexer.exchanges.rows import Keeping
from indexer.ledger import Ledger
from indexer.mhd.client import MhdClient
from indexer.publication import Policy, Publication
from indexer.reconciliation.look import Lookout
from indexer.reconciliation.round import AfterRestore, Bounds, Reconciler
from indexer.report import Coded, Organization
from indexer.study import Address
from indexer.trial import Plan, Trial, TrialSource
from indexer.withdrawal import Withdrawal
from indexer.xds.client import XdsClient
from indexer.xds.metadata import Publisher
from security.clock import Clock
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.outbox.port import JobKind
from security.seal import Vault
from security.store.port import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every tenant of a gateway stands on. ``nudge``: there may be work. ``room``: a message may be taken in."""

    settings: Settings
    store: Store
    vault: Vault
    ledger: Ledger
    clock: Clock
    metrics: Metrics
    nudge: Callable[[], None]
    room: Callable[[], bool]
    happened: Happened
    observe_date: Callable[[str], Callable[[str, datetime], None]]
    links: TrustedLinks


class Happened(Protocol):
    """Tells the person on call of something that a PACS did."""

    def __call__(self, what: str, *, tenant: str, subject: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The parts of one tenant. ``trial``: None when no test patient is configured."""

    name: str
    settings: TenantSettings
    admission: Admission
    intake: Intake
    kinds: Mapping[str, JobKind]
    sources: Sequence[PacsSource]
    peers: Mapping[str, Peer]
    followers: Mapping[str, ChangeFollower]
    probes: tuple[WeeklyProbe, ...]
    reconciler: Reconciler
    trial: Trial | None


@asynccontextmanager
async def open_tenant(name: str, settings: TenantSettings, ground: Ground) -> AsyncIterator[Tenant]:
    """One tenant, its adapters closed at the end of the block."""
    async with AsyncExitStack() as stack:
        secure = ground.links.context
        client = index_client(
            settings, ground.observe_date(name), clock=ground.clock, secure=secure(f"tenants.{name}.index")
        )
        stack.push_async_callback(client.aclose)
        called = {pacs: (asked, secure(f"tenants.{name}.pacs.{pacs}")) for pacs, asked in settings.pacs.items()}
        sources = [pacs_source(pacs, *how) for pacs, how in called.items()]
        peers = {pacs: pacs_peer(pacs, *how) for pacs, how in called.items()}
        followers = {
            pacs: _follower(name, peer, asked, ground)
            for pacs, asked in settings.pacs.items()
            if isinstance(asked, PacsOrthanc) and asked.changes and isinstance(peer := peers[pacs], OrthancPeer)
        }
        for closing in (*sources, *followers.values()):
            stack.push_async_callback(closing.close)
        policy = _policy(name, settings, ground)
        plan = _plan(name, settings.trial, settings, policy.rules) if settings.trial else None
        publication = Publication(
            policy=policy,
            store=ground.store,
            ledger=ground.ledger,
            sources=sources,
            index=client,
            clock=ground.clock,
            trial=(TrialSource(plan=plan, store=ground.store, ledger=ground.ledger),) if plan else (),
            observe=_observer(ground.metrics),
        )
        withdraw = Withdrawal(
            terms=withdrawal.Terms(
                tenant=name, mode=settings.mode, publisher=policy.publisher, patience=policy.patience
            ),
            store=ground.store,
            ledger=ground.ledger,
            index=client,
            clock=ground.clock,
            observe=_observer(ground.metrics),
        )
        reconciler = _reconciler(settings, ground, policy, sources, client)
        admission = Admission(tenant=name, ledger=ground.ledger, rules=policy.rules)
        yield Tenant(
            name=name,
            settings=settings,
            admission=admission,
            intake=Intake(
                tenant=name,
                store=ground.store,
                vault=ground.vault,
                admission=admission,
                ledger=ground.ledger,
                timezone=policy.timezone,
                fallback_charset=settings.hl7.fallback_charset,
                clock=ground.clock,
                enqueued=ground.nudge,
                observe=ground.metrics.hl7_message,
                room=ground.room,
            ),
            kinds={
                kind.name: Recorded(
                    AfterRestore(kind, reconciler),
                    store=ground.store,
                    ledger=ground.ledger,
                    clock=ground.clock,
                    keeping=keeping(ground.settings),
                )
                for kind in (publication, withdraw)
            },
            reconciler=reconciler,
            sources=sources,
            peers=peers,
            followers=followers,
            probes=tuple(_probe(name, peer, ground) for peer in peers.values()),
            trial=Trial(plan=plan, ledger=ground.ledger) if plan else None,
        )


def keeping(settings: Settings) -> Keeping:
    """How much is kept of the exchanges with the index."""
    asked = settings.exchanges
    return Keeping(days=asked.keep_days, per_exam_max=asked.per_exam_max)


def _reconciler(
    settings: TenantSettings,
    ground: Ground,
    policy: Policy,
    sources: Sequence[PacsSource],
    client: XdsClient | MhdClient,
) -> Reconciler:
    asked = settings.reconciliation
    lookout = Lookout(
        policy=policy,
        store=ground.store,
        ledger=ground.ledger,
        sources=sources,
        index=client,
        search=client,
        clock=ground.clock,
    )
    bounds = Bounds(
        number_max=asked.withdrawals_max,
        share_max=asked.withdrawals_share_max,
        kept=timedelta(days=asked.kept_days),
        runs_max=asked.kept_runs,
    )
    return Reconciler(lookout, sources, bounds, nudge=ground.nudge)


def _follower(name: str, peer: OrthancPeer, settings: PacsOrthanc, ground: Ground) -> ChangeFollower:
    return ChangeFollower(
        tenant=name,
        peer=peer,
        store=ground.store,
        ledger=ground.ledger,
        clock=ground.clock,
        every_s=settings.changes_every_s,
        enqueued=ground.nudge,
        observe=lambda what: ground.happened(what, tenant=name, subject=peer.name),
    )


def _probe(name: str, peer: Peer, ground: Ground) -> WeeklyProbe:
    return WeeklyProbe(
        tenant=name,
        peer=peer,
        store=ground.store,
        clock=ground.clock,
        observe=lambda what: ground.happened(what, tenant=name, subject=peer.name),
    )


def _observer(metrics: Metrics) -> Callable[[str, str], None]:
    """Counts what publication asks of its peers."""

    def observe(peer: str, outcome: str) -> None:
        (metrics.pacs_question if peer == "pacs" else metrics.index_request)(outcome)

    return observe


def _policy(name: str, tenant: TenantSettings, ground: Ground) -> Policy:
    settings = ground.settings
    return Policy(
        tenant=name,
        timezone=ZoneInfo(tenant.timezone),
        site=site_of(tenant),
        publisher=_publisher(tenant),
        rules=gate.Rules(**tenant.identity.model_dump(), domain=tenant.patient_domain),
        visibility=timedelta(seconds=settings.outbox.visibility_s),
        pacs_retry_base_s=settings.outbox.pacs_retry_base_s,
        pacs_retry_cap_s=settings.outbox.pacs_retry_cap_s,
        mode=tenant.mode,
        profile=tenant.profile,
        form=tenant.form,
        hiding=frozenset(tenant.dicom.hiding_titles),
        signer=set_signer(tenant.index, ground.clock),
        completeness=_completeness(tenant),
        updates_metadata=isinstance(tenant.index, IndexXds) and tenant.index.metadata_update,
    )


def _completeness(tenant: TenantSettings) -> completeness.Policy:
    """Design §4: in drim-m a validated report alone publishes; elsewhere the images decide too, unless it is set."""
    asked = tenant.completeness
    usual: Literal["report", "evidence"] = "report" if tenant.profile == "drim-m" else "evidence"
    return completeness.Policy(
        by=usual if asked.by == "profile" else asked.by,
        apart=timedelta(seconds=asked.apart_s),
        idle=timedelta(seconds=asked.idle_s),
        ceiling=timedelta(seconds=asked.ceiling_s),
    )


def site_of(tenant: TenantSettings) -> Site:
    """The tenant's part of a manifest: who makes it, where its images are fetched."""
    publisher = tenant.publisher
    return Site(
        institution=Organization(
            identifier=publisher.institution_id,
            system=publisher.institution_system,
            name=publisher.institution_name,
        ),
        address=Address(
            base=tenant.images.retrieve_base,
            location=tenant.images.retrieve_location,
            ae_title=tenant.images.retrieve_aet,
        ),
    )


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


def _plan(name: str, patient: TrialSettings, tenant: TenantSettings, rules: gate.Rules) -> Plan:
    return Plan(
        tenant=name,
        mode=tenant.mode,
        patient=PatientIdentity(
            traits=Traits(
                birth_name=patient.birth_name,
                first_given_name=patient.first_given_name,
                sex=patient.sex,
                birth_date=date.fromisoformat(patient.birth_date),
                birthplace=patient.birthplace,
            ),
            ins=Ins(matricule=patient.matricule, oid=patient.ins_oid, status="VALI")
            if patient.matricule and patient.ins_oid
            else None,
            local_ids=(LocalId(value=patient.patient_id, issuer=tenant.patient_domain),)
            if patient.patient_id
            else (),
        ),
        source_id=tenant.publisher.source_id,
        timezone=ZoneInfo(tenant.timezone),
        rules=rules,
    )
