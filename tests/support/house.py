"""The real desk over a real store: what a running gateway puts behind its console."""

from __future__ import annotations

from collections.abc import Callable

from gateway.hl7.intake import Intake
from gateway.operations import Operations
from gateway.settings import TenantSettings
from gateway.tenancy import Tenant
from indexer.admission import Admission
from security.clock import Clock
from security.store.port import Store


def operations(
    *,
    tenant: str,
    store: Store,
    clock: Clock,
    admission: Admission,
    intake: Intake,
    nudge: Callable[[], None] = lambda: None,
) -> Operations:
    """The operations of one live tenant without peers of its own."""
    settings = TenantSettings.model_construct(name="Hôpital FANTÔME", mode="live", timezone="Europe/Paris")
    made = Tenant(
        name=tenant,
        settings=settings,
        admission=admission,
        intake=intake,
        kinds={},
        sources=(),
        peers={},
        followers={},
        probes=(),
        reconciler=None,  # no peer, so nothing to compare
        trial=None,
    )
    return Operations(tenants={tenant: made}, store=store, clock=clock, nudge=nudge)
