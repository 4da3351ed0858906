"""The rows that forecasts are made from, counted as things happen (I18), and the predictions they led to.

Invariants:

* one row per tenant, class and minute in which something happened, written by the transaction that made it happen;
* rows older than ``KEPT`` go with the next sweep: they are figures, not the memory of what the index holds (I13);
* a prediction is judged when every job that waited when it was made is done or stopped by a reason of its own.
"""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta

from security.clock import from_ms, to_ms
from security.outbox.forecast import CHECKED_MAX, Bucket, Check, Evidence, Forecast, Minute, forecast
from security.outbox.port import JobClass
from security.store.port import ReadTx, Row, Tx

RECENT = timedelta(hours=2)
"""Minutes that the arrivals are read from: eight half-lives."""
FRUITFUL_MAX = 200
KEPT = timedelta(weeks=5)
WEEKS = 4
PREDICTED_MIN = 20
"""Backlogs of fewer jobs are not worth judging a forecast by."""
_NEVER = 2**63 - 1
_MINUTE_MS = 60_000


def count(
    tx: Tx, *, tenant: str, job_class: int, now: datetime, accepted: int = 0, published: int = 0, busy_ms: int = 0
) -> None:
    """Add to the figures of this minute."""
    tx.change(
        "INSERT INTO outbox_minute (tenant, minute, job_class, accepted, published, busy_ms)"
        " VALUES (:tenant, :minute, :job_class, :accepted, :published, :busy_ms)"
        " ON CONFLICT (tenant, minute, job_class) DO UPDATE"
        " SET accepted = outbox_minute.accepted + excluded.accepted,"
        " published = outbox_minute.published + excluded.published,"
        " busy_ms = outbox_minute.busy_ms + excluded.busy_ms",
        tenant=tenant,
        minute=to_ms(now) // _MINUTE_MS,
        job_class=job_class,
        accepted=accepted,
        published=published,
        busy_ms=busy_ms,
    )


def ahead(tx: ReadTx, *, tenant: str, now: datetime, calls: int) -> Forecast:
    """What lies ahead of one tenant. ``calls``: how many calls its index may carry at once."""
    return forecast(
        Evidence(
            now=now,
            backlog=backlog(tx, tenant=tenant, now=now),
            minutes=_minutes(tx, tenant, now - RECENT, now),
            fruitful=_fruitful(tx, tenant),
            calls=calls,
            usual_per_s=_usual(tx, tenant, now),
            checks=_checks(tx, tenant),
        )
    )


def all_ahead(tx: ReadTx, *, now: datetime, calls: int) -> dict[str, Forecast]:
    """What lies ahead of every tenant that has unfinished jobs, or an unjudged prediction."""
    rows = tx.rows(
        "SELECT DISTINCT tenant FROM outbox_job WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
        " AND tenant <> ''"  # the house's own work is no publication
        " UNION SELECT tenant FROM outbox_prediction WHERE drained_at IS NULL"
    )
    return {row["tenant"]: ahead(tx, tenant=row["tenant"], now=now, calls=calls) for row in rows}


def backlog(tx: ReadTx, *, tenant: str, now: datetime) -> list[Bucket]:
    """The jobs that wait for nothing but their turn or the index, by class and minute of their deadline. A job that
    is not to be looked at before ``now`` because something is missing (SETTLING) is none of them."""
    rows = tx.rows(
        "SELECT job_class, CASE WHEN deadline = :never THEN -1 ELSE deadline / 60000 END AS minute, COUNT(*) AS jobs"
        " FROM outbox_job WHERE tenant = :tenant"
        " AND state IN ('SETTLING', 'READY', 'LEASED', 'SENT', 'UNKNOWN', 'RETRY_WAIT')"
        " AND (state <> 'SETTLING' OR not_before <= :now) GROUP BY 1, 2",
        tenant=tenant,
        never=_NEVER,
        now=to_ms(now),
    )
    return [
        Bucket(
            job_class=JobClass(row["job_class"]),
            minute=None if row["minute"] < 0 else row["minute"],
            jobs=row["jobs"],
        )
        for row in rows
    ]


def predict(tx: Tx, *, tenant: str, found: Forecast, now: datetime) -> None:
    """Keep what was foretold, when there is enough to foretell and an end to it; judge what has come true."""
    _judge(tx, tenant, now)
    jobs, (_, mean_s, _) = sum(found.backlog.values()), found.drain_s
    if jobs < PREDICTED_MIN or mean_s == float("inf") or found.away:
        return  # nobody can foretell when an index that is away comes back
    tx.change(
        "INSERT INTO outbox_prediction (tenant, made_at, backlog, drain_ms, drained_at)"
        " VALUES (:tenant, :now, :jobs, :drain_ms, NULL) ON CONFLICT (tenant, made_at) DO NOTHING",
        tenant=tenant,
        now=to_ms(now),
        jobs=jobs,
        drain_ms=int(mean_s * 1000),
    )


def prune(tx: Tx, *, now: datetime) -> None:
    """Forget figures that no forecast reads any more."""
    oldest = to_ms(now - KEPT)
    tx.change("DELETE FROM outbox_minute WHERE minute < :minute", minute=oldest // _MINUTE_MS)
    tx.change("DELETE FROM outbox_prediction WHERE made_at < :oldest", oldest=oldest)


def _judge(tx: Tx, tenant: str, now: datetime) -> None:
    """A prediction has come to its end when nothing that was accepted before it waits any more."""
    row = tx.row(
        "SELECT MIN(accepted_at) AS oldest FROM outbox_job WHERE tenant = :tenant"
        " AND state IN ('SETTLING', 'READY', 'LEASED', 'SENT', 'UNKNOWN', 'RETRY_WAIT')"
        " AND (state <> 'SETTLING' OR not_before <= :now)",
        tenant=tenant,
        now=to_ms(now),
    )
    oldest = row["oldest"] if row is not None and row["oldest"] is not None else _NEVER
    tx.change(
        "UPDATE outbox_prediction SET drained_at = :now"
        " WHERE tenant = :tenant AND drained_at IS NULL AND made_at < :oldest AND made_at < :now",
        tenant=tenant,
        oldest=oldest,
        now=to_ms(now),
    )


def _checks(tx: ReadTx, tenant: str) -> list[Check]:
    rows = tx.rows(
        "SELECT made_at, drain_ms, drained_at FROM outbox_prediction WHERE tenant = :tenant"
        " AND drained_at IS NOT NULL ORDER BY made_at DESC LIMIT :most",
        tenant=tenant,
        most=CHECKED_MAX,
    )
    return [
        Check(predicted_s=row["drain_ms"] / 1000, actual_s=(row["drained_at"] - row["made_at"]) / 1000)
        for row in rows
    ]


def _minutes(tx: ReadTx, tenant: str, since: datetime, until: datetime) -> list[Minute]:
    rows = tx.rows(
        "SELECT * FROM outbox_minute WHERE tenant = :tenant AND minute >= :since AND minute <= :until",
        tenant=tenant,
        since=to_ms(since) // _MINUTE_MS,
        until=to_ms(until) // _MINUTE_MS,
    )
    return [_minute(row) for row in rows]


def _fruitful(tx: ReadTx, tenant: str) -> list[Minute]:
    """The newest rows of minutes that published something: an outage makes them older, not fewer."""
    rows = tx.rows(
        "SELECT * FROM outbox_minute WHERE tenant = :tenant AND published > 0"
        " ORDER BY minute DESC, job_class LIMIT :most",
        tenant=tenant,
        most=FRUITFUL_MAX,
    )
    return [_minute(row) for row in rows]


def _minute(row: Row) -> Minute:
    return Minute(
        minute=row["minute"],
        job_class=JobClass(row["job_class"]),
        accepted=row["accepted"],
        published=row["published"],
        busy_ms=row["busy_ms"],
    )


def _usual(tx: ReadTx, tenant: str, now: datetime) -> dict[JobClass, float]:
    """Arrivals per second in this hour of the week: the median of the last four weeks; nothing for a tenant that is
    younger than that."""
    first = tx.row("SELECT MIN(minute) AS first FROM outbox_minute WHERE tenant = :tenant", tenant=tenant)
    weeks = [now - timedelta(weeks=back) for back in range(1, WEEKS + 1)]
    if first is None or first["first"] is None or from_ms(first["first"] * _MINUTE_MS) > weeks[-1]:
        return {}
    by_week: dict[JobClass, list[int]] = {k: [] for k in JobClass}
    for week in weeks:
        hour = week.replace(minute=0, second=0, microsecond=0)
        found = _minutes(tx, tenant, hour, hour + timedelta(minutes=59))
        for job_class, accepted in by_week.items():
            accepted.append(sum(m.accepted for m in found if m.job_class is job_class))
    return {k: statistics.median(accepted) / 3600 for k, accepted in by_week.items()}
