"""Reading the queue by lane: which job speaks for each, newest change first, and how many there are.

The job that speaks for a lane is the one that stops it (the first BLOCKED or DEAD one), else the newest unfinished
one, else the newest published one; cancelled and superseded jobs say nothing of their own. Nothing of this is stored:
it is read off the jobs, by partial indexes.

Invariants:

* a page is read in the order of (changed_at, job_id) from an index, never sorted from everything;
* a job that does not speak for its lane is in no page and in no count.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from security.clock import from_ms, to_ms
from security.outbox.jobs import job_of
from security.outbox.port import Job
from security.outbox.states import STOPPED, TERMINAL, State
from security.store.port import ReadTx, Row

OPEN = tuple(state for state in State if state not in TERMINAL)
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaking:
    """The job that speaks for a lane, and when it last changed."""

    job: Job
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One run of speaking jobs: of one state, and of one reason (unfinished) or kind (published)."""

    tenant: str
    state: State
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which part of the order: changed at or after ``since``, and behind ``before``, a (changed_at, job_id) that is
    not part of it; in milliseconds."""

    since: int = 0
    before: tuple[int, int] = (_LAST, _LAST)

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None, cursor: tuple[int, int] | None) -> Span:
        """The span between two moments, ``until`` not included, behind the last job of the page before; None leaves
        an end open."""
        ends = [(_LAST, _LAST) if until is None else (to_ms(until) - 1, _LAST), cursor or (_LAST, _LAST)]
        return cls(since=0 if since is None else to_ms(since), before=min(ends))

    def holds(self, one: Speaking) -> bool:
        """Whether a job lies in it."""
        at = to_ms(one.changed_at)
        return at >= self.since and (at, one.job.job_id) < self.before


def tenants(tx: ReadTx) -> list[str]:
    """Every tenant that ever had a job."""
    return list(_distinct(tx, "SELECT tenant AS next FROM outbox_job WHERE tenant > :last ORDER BY tenant LIMIT 1"))


def reasons(tx: ReadTx, tenant: str, state: State) -> list[str]:
    """The reasons of the tenant's unfinished jobs in a state, "" included."""
    sql = (
        "SELECT reason AS next FROM outbox_job WHERE tenant = :tenant AND state = :state AND reason > :last"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY reason LIMIT 1"
    )
    without = tx.rows(
        "SELECT job_id FROM outbox_job WHERE tenant = :tenant AND state = :state AND reason = ''"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') LIMIT 1",
        tenant=tenant,
        state=state.value,
    )
    return [""] * bool(without) + list(_distinct(tx, sql, tenant=tenant, state=state.value))


def kinds(tx: ReadTx, tenant: str) -> list[str]:
    """The kinds of the tenant's published jobs."""
    sql = (
        "SELECT kind AS next FROM outbox_job WHERE tenant = :tenant AND kind > :last AND state = 'PUBLISHED'"
        " ORDER BY kind LIMIT 1"
    )
    return list(_distinct(tx, sql, tenant=tenant))


def newest(tx: ReadTx, slices: Iterable[Slice], span: Span, *, limit: int) -> list[Speaking]:
    """Up to ``limit`` speaking jobs of the slices, newest change first."""
    runs = [_run(tx, one, span, limit) for one in slices]
    rows = heapq.merge(*runs, key=lambda row: (row["changed_at"], row["job_id"]), reverse=True)
    return [Speaking(job=job_of(row), changed_at=from_ms(row["changed_at"])) for row in islice(rows, limit)]


def of_lane(tx: ReadTx, tenant: str, lane: str) -> list[Speaking]:
    """Every job of one lane, in order, those that say nothing included."""
    rows = tx.rows(
        "SELECT * FROM outbox_job WHERE tenant = :tenant AND lane = :lane ORDER BY job_id", tenant=tenant, lane=lane
    )
    return [Speaking(job=job_of(row), changed_at=from_ms(row["changed_at"])) for row in rows]


def counts(tx: ReadTx, tenant: str, *, usual: str) -> Mapping[tuple[State, str], int]:
    """Lanes of the tenant by what their speaking job is: (state, reason), and (PUBLISHED, kind).

    Of the published, those of the ``usual`` kind are not counted: they are the lanes ever published, a figure kept as
    it happens, less those that speak through another job.
    """
    found = _open_counts(tx, tenant)
    published = tx.row("SELECT lanes FROM outbox_published WHERE tenant = :tenant", tenant=tenant)
    if published is None:
        return found
    others = {kind: _speaking_of_kind(tx, tenant, kind) for kind in kinds(tx, tenant) if kind != usual}
    found |= {(State.PUBLISHED, kind): number for kind, number in others.items()}
    found[State.PUBLISHED, usual] = published["lanes"] - _reopened(tx, tenant) - sum(others.values())
    return found


def _open_counts(tx: ReadTx, tenant: str) -> dict[tuple[State, str], int]:
    """Unfinished jobs by state and reason, less those for which another one speaks: few lanes have two."""
    rows = tx.rows(
        "SELECT state, reason, COUNT(*) AS jobs FROM outbox_job WHERE tenant = :tenant"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') GROUP BY state, reason",
        tenant=tenant,
    )
    found = Counter({(State(row["state"]), str(row["reason"])): int(row["jobs"]) for row in rows})
    crowded = tx.rows(
        "SELECT lane FROM outbox_job WHERE tenant = :tenant"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') GROUP BY lane HAVING COUNT(*) > 1",
        tenant=tenant,
    )
    for lane in crowded:
        together = tx.rows(
            "SELECT state, reason FROM outbox_job WHERE tenant = :tenant AND lane = :lane"
            " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY job_id",
            tenant=tenant,
            lane=lane["lane"],
        )
        speaking = next((row for row in together if row["state"] in STOPPED), together[-1])
        found.subtract((State(row["state"]), str(row["reason"])) for row in together if row is not speaking)
    return {key: number for key, number in found.items() if number}


def _reopened(tx: ReadTx, tenant: str) -> int:
    """Lanes that were published and have an unfinished job now."""
    row = tx.row(
        "SELECT COUNT(*) AS lanes FROM (SELECT DISTINCT lane FROM outbox_job WHERE tenant = :tenant"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')) AS busy"
        " WHERE (SELECT 1 FROM outbox_job AS past WHERE past.tenant = :tenant AND past.lane = busy.lane"
        " AND past.state = 'PUBLISHED' LIMIT 1) = 1",
        tenant=tenant,
    )
    return int(row["lanes"]) if row else 0


def _speaking_of_kind(tx: ReadTx, tenant: str, kind: str) -> int:
    row = tx.row(
        "SELECT COUNT(*) AS jobs FROM outbox_job AS job WHERE tenant = :tenant AND kind = :kind"
        " AND state = 'PUBLISHED' AND NOT EXISTS (SELECT 1 FROM outbox_job AS busy WHERE busy.tenant = job.tenant"
        " AND busy.lane = job.lane AND busy.state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED'))"
        " AND NOT EXISTS (SELECT 1 FROM outbox_job AS later WHERE later.tenant = job.tenant"
        " AND later.lane = job.lane AND later.job_id > job.job_id AND later.state = 'PUBLISHED')",
        tenant=tenant,
        kind=kind,
    )
    return int(row["jobs"]) if row else 0


_RUN_OF_STOPPED = (
    "SELECT * FROM outbox_job AS job WHERE tenant = :tenant AND state = :state AND reason = :label"
    " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
    " AND changed_at >= :since AND changed_at <= :at"
    " AND (changed_at < :at OR job_id < :job_id)"
    " AND NOT EXISTS (SELECT 1 FROM outbox_job AS ahead WHERE ahead.tenant = job.tenant AND ahead.lane = job.lane"
    " AND ahead.job_id < job.job_id AND ahead.state IN ('BLOCKED', 'DEAD')"
    " AND ahead.state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED'))"
    " ORDER BY changed_at DESC, job_id DESC LIMIT :limit"
)
_RUN_OF_MOVING = (
    "SELECT * FROM outbox_job AS job WHERE tenant = :tenant AND state = :state AND reason = :label"
    " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
    " AND changed_at >= :since AND changed_at <= :at"
    " AND (changed_at < :at OR job_id < :job_id)"
    " AND NOT EXISTS (SELECT 1 FROM outbox_job AS other WHERE other.tenant = job.tenant AND other.lane = job.lane"
    " AND (other.job_id > job.job_id OR other.state IN ('BLOCKED', 'DEAD'))"
    " AND other.state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED'))"
    " ORDER BY changed_at DESC, job_id DESC LIMIT :limit"
)
_RUN_OF_PUBLISHED = (
    "SELECT * FROM outbox_job AS job WHERE tenant = :tenant AND state = :state AND kind = :label"
    " AND state = 'PUBLISHED'"
    " AND changed_at >= :since AND changed_at <= :at"
    " AND (changed_at < :at OR job_id < :job_id)"
    " AND NOT EXISTS (SELECT 1 FROM outbox_job AS busy WHERE busy.tenant = job.tenant AND busy.lane = job.lane"
    " AND busy.state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED'))"
    " AND NOT EXISTS (SELECT 1 FROM outbox_job AS later WHERE later.tenant = job.tenant AND later.lane = job.lane"
    " AND later.job_id > job.job_id AND later.state = 'PUBLISHED')"
    " ORDER BY changed_at DESC, job_id DESC LIMIT :limit"
)


def _run(tx: ReadTx, one: Slice, span: Span, limit: int) -> list[Row]:
    """The newest of a slice, straight from its index."""
    moving = _RUN_OF_PUBLISHED if one.state is State.PUBLISHED else _RUN_OF_MOVING
    return tx.rows(
        _RUN_OF_STOPPED if one.state in STOPPED else moving,
        tenant=one.tenant,
        state=one.state.value,
        label=one.label,
        since=span.since,
        at=span.before[0],
        job_id=span.before[1],
        limit=limit,
    )


def _distinct(tx: ReadTx, sql: str, **params: str) -> Iterator[str]:
    """The distinct values of an index's leading column, one seek each."""
    last = ""
    while row := tx.row(sql, last=last, **params):
        last = str(row["next"])
        yield last
