"""What of a tenant is on no second copy yet: the exposure of its RPO, computed from the database (I18).

Every change of state commits with its audit record (I16), so the oldest audit record that the newest verified
copy lacks dates the oldest work that a lost machine takes along. A standby of PostgreSQL counts as a copy while it
streams: with a synchronous one nothing is exposed, with an asynchronous one what it has not flushed yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx

DATA_CLASSES: Final = ("D2", "D3", "D4")
"""Publication intents, acknowledgements of the index, audit trail (reliability §1): one database, one commit."""
WARN_AT: Final = 0.5
"""Share of the RPO from which a person is warned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What one tenant stands to lose. ``seconds``: age of the oldest work on no second copy; ``copied_at``: when the
    newest copy was verified, None for never; ``rpo_s``, ``rto_s``: what the tenant declared."""

    tenant: str
    seconds: float
    copied_at: datetime | None
    rpo_s: float
    rto_s: float

    @property
    def stage(self) -> int:
        """0 all is well, 1 half of the RPO is used up, 2 it is breached."""
        return int(self.seconds >= WARN_AT * self.rpo_s) + int(self.seconds >= self.rpo_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """One row of pg_stat_replication. ``lag_s``: flush_lag, None while idle or not shown to us."""

    sync_state: str
    lag_s: float | None


def note(tx: Tx, *, now: datetime, last_audit_no: int, digest: str) -> None:
    """Record the newest verified copy. An older one never takes the place of a newer."""
    tx.change(
        "INSERT INTO copy (one, at, last_audit_no, digest) VALUES (1, :now, :last, :digest)"
        " ON CONFLICT (one) DO UPDATE SET at = excluded.at, last_audit_no = excluded.last_audit_no,"
        " digest = excluded.digest WHERE excluded.last_audit_no >= copy.last_audit_no",
        now=to_ms(now),
        last=last_audit_no,
        digest=digest,
    )


def exposures(
    tx: ReadTx, declared: Mapping[str, tuple[float, float]], *, now: datetime, is_postgres: bool
) -> tuple[Exposure, ...]:
    """Every tenant's exposure. ``declared``: RPO and RTO in seconds by tenant."""
    copied = tx.row("SELECT at, last_audit_no FROM copy")
    behind = standby_lag(_standbys(tx)) if is_postgres else None
    return tuple(
        Exposure(
            tenant=tenant,
            seconds=exposed(tx, tenant, copied["last_audit_no"] if copied else 0, now) if behind is None else behind,
            copied_at=from_ms(copied["at"]) if copied else None,
            rpo_s=rpo_s,
            rto_s=rto_s,
        )
        for tenant, (rpo_s, rto_s) in declared.items()
    )


def standby_lag(standbys: tuple[Standby, ...]) -> float | None:
    """Seconds that the best standby is behind, None without one. Pure."""
    if any(one.sync_state in {"sync", "quorum"} for one in standbys):
        return 0.0
    return min((one.lag_s or 0.0 for one in standbys), default=None)


def exposed(tx: ReadTx, tenant: str, last_audit_no: int, now: datetime) -> float:
    """Age in seconds of the tenant's oldest audit record after that number, 0 without one."""
    row = tx.rows(
        "SELECT at FROM audit_record WHERE seq > :last AND tenant = :tenant ORDER BY seq LIMIT 1",
        last=last_audit_no,
        tenant=tenant,
    )
    return max((now - from_ms(row[0]["at"])).total_seconds(), 0.0) if row else 0.0


def _standbys(tx: ReadTx) -> tuple[Standby, ...]:
    rows = tx.rows(
        "SELECT sync_state, CAST(EXTRACT(EPOCH FROM flush_lag) AS double precision) AS lag_s FROM pg_stat_replication"
        " WHERE state = 'streaming'"
    )
    return tuple(Standby(sync_state=row["sync_state"], lag_s=row["lag_s"]) for row in rows)
