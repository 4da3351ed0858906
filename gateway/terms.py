"""What the configuration means for the engine, and for what may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gateway.continuity import copies
from gateway.settings import Settings
from security.outbox.engine import EngineSettings
from security.outbox.retry import RetrySettings
from security.store.port import ReadTx


def engine_settings(settings: Settings) -> EngineSettings:
    """The bounds of the engine, as the configuration sets them."""
    outbox = settings.outbox
    return EngineSettings(
        slots=outbox.slots,
        call_s=outbox.lease_s,
        retry=RetrySettings(base_s=outbox.retry_base_s, cap_s=outbox.retry_cap_s),
    )


def declared(settings: Settings) -> Mapping[str, tuple[float, float]]:
    """RPO and RTO in seconds that each tenant declared."""
    return {name: (one.continuity.rpo_s, one.continuity.rto_s) for name, one in settings.tenants.items()}


def exposed(settings: Settings, tx: ReadTx, now: datetime) -> tuple[copies.Exposure, ...]:
    """What of each tenant is on no second copy."""
    is_postgres = settings.gateway_store().postgres is not None
    return copies.exposures(tx, declared(settings), now=now, is_postgres=is_postgres)
