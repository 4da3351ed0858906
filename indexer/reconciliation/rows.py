"""The rows of reconciliation: what was learnt of each exam, the runs, their drift. Functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from security.clock import from_ms, to_ms
from security.outbox import jobs
from security.store.port import ReadTx, Row, Tx

RESUMED_WITHIN = timedelta(hours=24)
"""How old a run that was cut short may be to be taken up again: later the world has moved on."""
_UNFINISHED = ("days", "exams", "withdrawals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Days of the exams (StudyDate), both included."""

    first: date
    last: date

    @property
    def widened(self) -> Window:
        """One day more at each end: a study's date may have been corrected, or lie in another time zone."""
        return Window(first=self.first - timedelta(days=1), last=self.last + timedelta(days=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as stored. ``window``: None for every exam. ``cursor``: the next day (ISO), or the last study."""

    run_id: int
    tenant: str
    window: Window | None
    started_at: datetime
    state: str
    cursor: str
    looked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One finding. ``study``: or ``day:YYYY-MM-DD``."""

    study: str
    case: str
    action: str
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What earlier looks learnt of an exam. ``is_search_due``: the database was restored since the index was last
    searched for what it holds about the study."""

    absent_since: datetime | None
    is_search_due: bool


def memory(tx: ReadTx, tenant: str, study: str) -> Memory:
    """What is remembered of the exam."""
    row = tx.row(
        "SELECT absent_at, searched_at FROM reconciled WHERE tenant = :tenant AND study_uid = :study",
        tenant=tenant,
        study=study,
    )
    restored = tx.row("SELECT at FROM restored")
    return Memory(
        absent_since=from_ms(row["absent_at"]) if row and row["absent_at"] is not None else None,
        is_search_due=restored is not None and (row is None or row["searched_at"] <= restored["at"]),
    )


def remember(
    tx: Tx,
    tenant: str,
    study: str,
    *,
    day: str,
    absent_since: datetime | None,
    searched_at: datetime | None,
    looked_at: datetime | None = None,
) -> None:
    """Keep what a look learnt. ``day``: "", ``searched_at`` and ``looked_at``: None keep what is known."""
    tx.change(
        "INSERT INTO reconciled (tenant, study_uid, day, absent_at, searched_at, looked_at)"
        " VALUES (:tenant, :study, :day, :absent_at, :searched_at, :looked_at)"
        " ON CONFLICT (tenant, study_uid) DO UPDATE"
        " SET day = CASE WHEN excluded.day = '' THEN reconciled.day ELSE excluded.day END,"
        " absent_at = excluded.absent_at,"
        " searched_at = CASE WHEN excluded.searched_at = 0 THEN reconciled.searched_at ELSE excluded.searched_at END,"
        " looked_at = CASE WHEN excluded.looked_at = 0 THEN reconciled.looked_at ELSE excluded.looked_at END",
        tenant=tenant,
        study=study,
        day=day,
        absent_at=None if absent_since is None else to_ms(absent_since),
        searched_at=0 if searched_at is None else to_ms(searched_at),
        looked_at=0 if looked_at is None else to_ms(looked_at),
    )


def listed_on(tx: Tx, tenant: str, study: str, day: str) -> bool:
    """Note the day on which a PACS lists the study; False when no report ever spoke of it."""
    if not tx.rows("SELECT 1 FROM exam WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study):
        return False
    tx.change(
        "INSERT INTO reconciled (tenant, study_uid, day, absent_at, searched_at)"
        " VALUES (:tenant, :study, :day, NULL, 0)"
        " ON CONFLICT (tenant, study_uid) DO UPDATE SET day = excluded.day",
        tenant=tenant,
        study=study,
        day=day,
    )
    return True


def mark_restored(tx: Tx, *, now: datetime) -> None:
    """Note that the database is a restored copy: the index may know more than it does, also of what stood ready."""
    jobs.restored(tx, now=now)
    tx.change(
        "INSERT INTO restored (one, at) VALUES (1, :now) ON CONFLICT (one) DO UPDATE SET at = excluded.at",
        now=to_ms(now),
    )


def next_exams(tx: ReadTx, run: Run, *, limit: int, unseen_for: timedelta | None = None) -> list[str]:
    """The studies to look at next, real ones, in their order. With a window: of its days, those never looked at,
    those a PACS was last seen without, and with ``unseen_for`` those not looked at for as long, however old."""
    span = run.window.widened if run.window else None
    rows = tx.rows(
        "SELECT e.study_uid FROM exam e LEFT JOIN reconciled r ON r.tenant = e.tenant AND r.study_uid = e.study_uid"
        " WHERE e.tenant = :tenant AND e.study_uid > :cursor AND NOT EXISTS (SELECT 1 FROM trial t"
        " WHERE t.tenant = e.tenant AND t.study_uid = e.study_uid)"
        " AND (:every = 1 OR r.study_uid IS NULL OR r.day = '' OR r.absent_at IS NOT NULL"
        " OR r.day BETWEEN :first AND :last OR r.looked_at < :unseen) ORDER BY e.study_uid LIMIT :most",
        tenant=run.tenant,
        cursor=run.cursor,
        every=int(span is None),
        first=f"{span.first:%Y%m%d}" if span else "",
        last=f"{span.last:%Y%m%d}" if span else "",
        unseen=0 if unseen_for is None else to_ms(run.started_at - unseen_for),
        most=limit,
    )
    return [row["study_uid"] for row in rows]


# -- runs ------------------------------------------------------------------------------------------------------


def begin(tx: Tx, tenant: str, window: Window | None, *, now: datetime) -> Run:
    """The run of this window that was cut short, or a new one."""
    first, last = (window.first.isoformat(), window.last.isoformat()) if window else ("", "")
    rows = tx.rows("SELECT * FROM reconciliation WHERE tenant = :tenant ORDER BY run_id DESC LIMIT 1", tenant=tenant)
    for row in rows:
        is_same = (row["first_day"], row["last_day"]) == (first, last) and row["state"] in _UNFINISHED
        if is_same and timedelta() <= now - from_ms(row["started_at"]) < RESUMED_WITHIN:
            return _run(row)
    made = tx.rows(
        "INSERT INTO reconciliation (tenant, first_day, last_day, started_at, ended_at, state, cursor, looked_at)"
        " VALUES (:tenant, :first, :last, :now, NULL, :state, :cursor, 0) RETURNING *",
        tenant=tenant,
        first=first,
        last=last,
        now=to_ms(now),
        state="days" if window else "exams",
        cursor=window.widened.first.isoformat() if window else "",
    )
    return _run(made[0])


def advance(
    tx: Tx, run_id: int, *, state: str, cursor: str, looked_at: int, ended_at: datetime | None = None
) -> None:
    """How far the run has come."""
    tx.change(
        "UPDATE reconciliation SET state = :state, cursor = :cursor, looked_at = :looked_at, ended_at = :ended_at"
        " WHERE run_id = :run_id",
        run_id=run_id,
        state=state,
        cursor=cursor,
        looked_at=looked_at,
        ended_at=None if ended_at is None else to_ms(ended_at),
    )


def note(tx: Tx, run_id: int, found: Drift) -> None:
    """Keep one finding of a run."""
    tx.change(
        "INSERT INTO drift (run_id, study_uid, case_name, action, is_done)"
        " VALUES (:run_id, :study, :case_name, :action, :is_done)"
        " ON CONFLICT (run_id, study_uid, case_name) DO UPDATE SET is_done = excluded.is_done",
        run_id=run_id,
        study=found.study,
        case_name=found.case,
        action=found.action,
        is_done=int(found.is_done),
    )


def findings(tx: ReadTx, run_id: int) -> list[Drift]:
    """Everything the run found other than in step, by case and study."""
    rows = tx.rows("SELECT * FROM drift WHERE run_id = :run_id ORDER BY case_name, study_uid", run_id=run_id)
    return [
        Drift(study=row["study_uid"], case=row["case_name"], action=row["action"], is_done=bool(row["is_done"]))
        for row in rows
    ]


def prune(tx: Tx, tenant: str, *, before: datetime, runs_max: int) -> int:
    """Forget runs and their findings that are older than ``before``, or older than the newest ``runs_max``; how many
    runs. The newest one stays, and one that is not finished yet while it may be taken up again: all are figures, what
    was done stands in each exam's timeline."""
    old = tx.rows(
        "SELECT run_id FROM reconciliation WHERE tenant = :tenant AND ended_at IS NOT NULL"
        " AND run_id < (SELECT MAX(run_id) FROM reconciliation WHERE tenant = :tenant)"
        " AND (ended_at < :before OR run_id NOT IN (SELECT run_id FROM reconciliation WHERE tenant = :tenant"
        " ORDER BY run_id DESC LIMIT :most))"
        " UNION SELECT run_id FROM reconciliation WHERE tenant = :tenant AND ended_at IS NULL"
        " AND started_at < :before AND run_id < (SELECT MAX(run_id) FROM reconciliation WHERE tenant = :tenant)",
        tenant=tenant,
        before=to_ms(before),
        most=runs_max,
    )
    for row in old:
        tx.change("DELETE FROM drift WHERE run_id = :run_id", run_id=row["run_id"])
        tx.change("DELETE FROM reconciliation WHERE run_id = :run_id", run_id=row["run_id"])
    return len(old)


def last_end(tx: ReadTx, tenant: str) -> datetime | None:
    """When a run of the tenant last ended, None for never."""
    row = tx.row("SELECT MAX(ended_at) AS at FROM reconciliation WHERE tenant = :tenant", tenant=tenant)
    return from_ms(row["at"]) if row and row["at"] is not None else None


def known_uids(tx: ReadTx, tenant: str, study: str) -> Mapping[str, int]:
    """Version by uniqueId of everything we stored for the study."""
    rows = tx.rows(
        "SELECT unique_id, version FROM manifest WHERE tenant = :tenant AND study_uid = :study",
        tenant=tenant,
        study=study,
    )
    return {row["unique_id"]: row["version"] for row in rows}


def newest_status(tx: ReadTx, tenant: str, study: str) -> tuple[int, str, str] | None:
    """Version, uniqueId and status of the newest entry of ours that the index was seen to hold, or None."""
    row = tx.row(
        "SELECT version, unique_id, status FROM entry WHERE tenant = :tenant AND study_uid = :study"
        " ORDER BY version DESC LIMIT 1",
        tenant=tenant,
        study=study,
    )
    return (row["version"], row["unique_id"], row["status"]) if row else None


def _run(row: Row) -> Run:
    window = (
        Window(first=date.fromisoformat(row["first_day"]), last=date.fromisoformat(row["last_day"]))
        if row["first_day"]
        else None
    )
    return Run(
        run_id=row["run_id"],
        tenant=row["tenant"],
        window=window,
        started_at=from_ms(row["started_at"]),
        state=row["state"],
        cursor=row["cursor"],
        looked_at=row["looked_at"],
    )
