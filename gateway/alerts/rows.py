"""The rows of alerts, and the only code that changes them. Plain functions of a transaction.

Invariants:

* of one condition (tenant, kind, subject) at most one alert is open;
* an alert opens together with one delivery row per channel that must hear of it, and with its audit row; what a
  channel was told stands there, so that a restart neither tells twice nor forgets;
* rows are never deleted: they are the memory of what the person on call was told.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.alerts.conditions import (
    EVENT_LASTS,
    EVENTS,
    QUIET,
    Condition,
    Kind,
    Known,
    Occasion,
    is_past,
    occasion,
)
from security import audit
from security.clock import from_ms, to_ms
from security.outbox import jobs
from security.outbox.states import State
from security.store.port import ReadTx, Row, Tx

_RETRY_BASE_S = 30
_RETRY_CAP_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What the database says is wrong with the queue: parts of ``conditions.Figures``."""

    held: Mapping[tuple[str, str], int]
    failed: Mapping[tuple[str, str], int]
    late: Mapping[tuple[str, str], int]
    paused: Mapping[str, datetime]


def queue(tx: ReadTx, *, now: datetime) -> Queue:
    """Unfinished exams by tenant and reason: held, failed, late."""
    held: dict[tuple[str, str], int] = {}
    failed: dict[tuple[str, str], int] = {}
    late: dict[tuple[str, str], int] = {}
    for row in tx.rows(
        "SELECT tenant, state, reason, COUNT(*) AS exams, SUM(CASE WHEN deadline < :now THEN 1 ELSE 0 END) AS late"
        " FROM outbox_job WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') AND tenant <> :house"
        " GROUP BY tenant, state, reason ORDER BY tenant, state, reason",
        now=to_ms(now),
        house=jobs.HOUSE,
    ):
        key = (row["tenant"], row["reason"])
        match State(row["state"]):
            case State.BLOCKED:
                held[key] = held.get(key, 0) + row["exams"]
            case State.DEAD:
                failed[key] = failed.get(key, 0) + row["exams"]
            case _ if row["late"]:
                late[key] = late.get(key, 0) + row["late"]
    paused = {pause.tenant: pause.at for pause in jobs.paused(tx)}
    return Queue(held=held, failed=failed, late=late, paused=paused)


def reconcile(tx: Tx, found: Iterable[Condition], *, now: datetime, channels: Collection[str]) -> None:
    """Make the open alerts those that were found: open, restate, close after ``QUIET``; events end by themselves."""
    open_now = {(row["tenant"], row["kind"], row["subject"]): row for row in _open(tx)}
    for condition in found:
        row = open_now.pop(condition.key, None)
        if row is None:
            row = _insert(tx, condition, now=now)
        else:
            tx.change(
                "UPDATE alert SET measure = :measure, stage = :stage, why = :why, seen_at = :now"
                " WHERE alert_id = :alert_id",
                measure=condition.measure,
                stage=condition.stage,
                why=json.dumps(dict(condition.why), sort_keys=True),
                now=to_ms(now),
                alert_id=row["alert_id"],
            )
        _must_hear(tx, row["alert_id"], channels)
    for row in open_now.values():
        lasts = EVENT_LASTS if Kind(row["kind"]) in EVENTS else QUIET
        if is_past(from_ms(row["seen_at"]), lasts, now=now):
            _close(tx, row, now=now)


def happened(tx: Tx, condition: Condition, *, now: datetime, channels: Collection[str]) -> None:
    """An event took place: open its alert, or count it once more."""
    row = next((row for row in _open(tx) if (row["tenant"], row["kind"], row["subject"]) == condition.key), None)
    if row is None:
        row = _insert(tx, condition, now=now)
    else:
        tx.change(
            "UPDATE alert SET measure = measure + 1, seen_at = :now WHERE alert_id = :alert_id",
            now=to_ms(now),
            alert_id=row["alert_id"],
        )
    _must_hear(tx, row["alert_id"], channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One alert that a channel must be told of now."""

    known: Known
    occasion: Occasion


def notices(tx: ReadTx, channel: str, *, now: datetime, remind: timedelta) -> tuple[Notice, ...]:
    """Everything the channel must be told now, oldest alert first; nothing while it rests after a failure.

    A rest that is longer than any was written by a clock that was wrong: it is over (T64).
    """
    rows = tx.rows(
        "SELECT a.*, d.told_at, d.told_stage, d.not_before FROM alert_delivery AS d"
        " JOIN alert AS a ON a.alert_id = d.alert_id"
        " WHERE d.channel = :channel AND d.done = 0 ORDER BY a.alert_id",
        channel=channel,
    )
    wanted = [(row, _known(row)) for row in rows]
    due = [
        (row, Notice(known=known, occasion=why))
        for row, known in wanted
        if (why := occasion(known, now=now, remind=remind))
    ]
    if any(not to_ms(now) < row["not_before"] <= to_ms(now) + _RETRY_CAP_S * 1000 for row, _ in due):
        return tuple(notice for _, notice in due)
    return ()


def told(tx: Tx, channel: str, sent: Sequence[Notice], *, now: datetime) -> None:
    """The channel took them."""
    for notice in sent:
        is_event = notice.known.condition.kind in EVENTS
        tx.change(
            "UPDATE alert_delivery SET told_at = :now, told_stage = :stage, attempts = 0, not_before = 0,"
            " failure = '', done = :done WHERE alert_id = :alert_id AND channel = :channel",
            now=to_ms(now),
            stage=notice.known.condition.stage,
            done=int(notice.occasion is Occasion.CLOSED or is_event),
            alert_id=notice.known.alert_id,
            channel=channel,
        )


def not_told(tx: Tx, channel: str, sent: Sequence[Notice], *, now: datetime, failure: str) -> None:
    """The channel did not take them: try later and later, at most every 15 minutes."""
    for notice in sent:
        row = tx.row(
            "SELECT attempts FROM alert_delivery WHERE alert_id = :alert_id AND channel = :channel",
            alert_id=notice.known.alert_id,
            channel=channel,
        )
        attempts = int(row["attempts"]) + 1 if row else 1
        rest = timedelta(seconds=min(_RETRY_BASE_S * 2 ** min(attempts - 1, 10), _RETRY_CAP_S))
        tx.change(
            "UPDATE alert_delivery SET attempts = :attempts, not_before = :not_before, failure = :failure"
            " WHERE alert_id = :alert_id AND channel = :channel",
            attempts=attempts,
            not_before=to_ms(now + rest),
            failure=failure,
            alert_id=notice.known.alert_id,
            channel=channel,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert that is open."""

    condition: Condition
    opened_at: datetime


def open_alerts(tx: ReadTx) -> tuple[Alert, ...]:
    """Every open alert, oldest first."""
    return tuple(Alert(condition=_condition(row), opened_at=from_ms(row["opened_at"])) for row in _open(tx))


def _open(tx: ReadTx) -> list[Row]:
    return tx.rows("SELECT * FROM alert WHERE closed_at IS NULL ORDER BY alert_id")


def _insert(tx: Tx, condition: Condition, *, now: datetime) -> Row:
    row = tx.rows(
        "INSERT INTO alert (tenant, kind, subject, measure, stage, why, opened_at, seen_at)"
        " VALUES (:tenant, :kind, :subject, :measure, :stage, :why, :now, :now) RETURNING *",
        tenant=condition.tenant,
        kind=condition.kind.value,
        subject=condition.subject,
        measure=condition.measure,
        stage=condition.stage,
        why=json.dumps(dict(condition.why), sort_keys=True),
        now=to_ms(now),
    )[0]
    _audit(tx, row, event="alert.opened", now=now)
    return row


def _must_hear(tx: Tx, alert_id: int, channels: Collection[str]) -> None:
    for channel in channels:
        tx.change(
            "INSERT INTO alert_delivery (alert_id, channel, told_stage, attempts, not_before, failure, done)"
            " VALUES (:alert_id, :channel, 0, 0, 0, '', 0) ON CONFLICT (alert_id, channel) DO NOTHING",
            alert_id=alert_id,
            channel=channel,
        )


def _close(tx: Tx, row: Row, *, now: datetime) -> None:
    tx.change(
        "UPDATE alert SET closed_at = :now WHERE alert_id = :alert_id", now=to_ms(now), alert_id=row["alert_id"]
    )
    _audit(tx, row, event="alert.closed", now=now)


def _audit(tx: Tx, row: Row, *, event: str, now: datetime) -> None:
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=row["tenant"],
            zone="ops",
            at=now,
            event=event,
            actor="poterne",
            outcome=0,
            object_type="alert",
            object_id=str(row["alert_id"]),
            detail=f"{row['kind']} {row['subject']}".strip(),
        ),
    )


def _condition(row: Row) -> Condition:
    return Condition(
        tenant=row["tenant"],
        kind=Kind(row["kind"]),
        subject=row["subject"],
        measure=row["measure"],
        stage=row["stage"],
        why=json.loads(row["why"]),
    )


def _known(row: Row) -> Known:
    return Known(
        alert_id=row["alert_id"],
        condition=_condition(row),
        opened_at=from_ms(row["opened_at"]),
        closed_at=None if row["closed_at"] is None else from_ms(row["closed_at"]),
        told_at=None if row["told_at"] is None else from_ms(row["told_at"]),
        told_stage=row["told_stage"],
    )
