"""The rows of the outbox, and the only code that changes them. Plain functions of a transaction, no waiting.

Invariants:

* one function, ``_move``, changes a job's state: it takes the row of the state table, writes the job, its history
  row and its audit row, all in the caller's transaction (I3, I16);
* ``lease_epoch`` grows by one with every change of a row and is part of every ``WHERE``: who read an older row
  changes nothing (I8). It also numbers the history;
* a lane is served in ``job_id`` order: a job is claimable only while no earlier job of its (tenant, lane) is
  unfinished, so at most one job of a lane is in flight (I4). BLOCKED and DEAD jobs stop their lane too; what
  normally clears them is a newer job, which supersedes every job of its (tenant, lane, kind) of which the peer
  holds nothing: the newer job's ``settle`` reads everything again. It inherits their urgency. A P0 job (withdrawal,
  opposition) does the same to jobs of other kinds that were asked as less urgent: what it overrides is not sent any
  more, however much it was hastened meanwhile (I10);
* ``in_doubt`` is 1 while bytes may have left and no answer or query has told what became of them. Such a job is
  never superseded nor sent again before a query says ABSENT, also not when a person revives it (I9);
* while a tenant is paused nothing of it begins to settle or to be sent, withdrawals included: the pause is read by
  the transaction that would begin it, so what begins after the pause was committed does not exist (FF-46). What was
  sent before is still asked after, because that changes nothing outside.

Leases carry no stamp. A row's ``lease_owner`` names the incarnation of the process that works on it; the store's
exclusive lock proves that there is only one, so at its start every lease is an orphan, and later every lease that
it does not remember (``sweep``). No wall clock can expire a lease (F11, I17); a hung call ends by the engine's own
monotonic time limit. Several gateways on one PostgreSQL will add a table of incarnations stamped with the
database's time, and sweep the leases of silent ones; fencing and everything else here stay as they are.

A poll that says what the last one said (NOT_YET, UNCLEAR, same reason) is no change of state: it moves
``not_before`` and leaves no history, or a month of waiting would bury the row that matters.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from security import audit
from security.clock import from_ms, to_ms
from security.errors import Broken, Refused
from security.outbox import pace
from security.outbox.port import Answer, Job, JobClass
from security.outbox.states import TABLE, UNSENT, Event, State, transition
from security.store.port import ReadTx, Row, Tx

ENGINE = "poterne"
"""Actor of every change that no person asked for."""
HOUSE = ""
"""Tenant of the jobs that are no exam's: the feeds of the audit trail. They are counted among no publications, and
their own steps leave history but no audit row: a feed would feed itself. What a person does to one is recorded."""

TARGETS: Mapping[JobClass, timedelta | None] = {
    JobClass.P0: timedelta(minutes=15),
    JobClass.P1: timedelta(minutes=60),
    JobClass.P2: timedelta(hours=24),
    JobClass.P3: None,
}
"""Time from acceptance to deadline, by class (reliability §4)."""

_NEVER = 2**63 - 1
_WAKE_MAX = 200
"""Waiting jobs that one claim makes due: many claims follow each other when many wait."""
LAG_BOUNDS_S = (10, 30, 60, 120, 300, 600, 1800, 3600, 14_400, 86_400)
"""Upper bounds of the histogram of publication lags, in seconds; 3600 is the service level (reliability §5)."""
_FIRST = frozenset({State.RECEIVING, State.SETTLING, State.READY, State.BLOCKED})
_CLAIMABLE = (State.SETTLING, State.READY, State.RETRY_WAIT, State.UNKNOWN, State.ACCEPTED)
_OUTWARD = frozenset({State.SENT, State.ACCEPTED, State.PUBLISHED, State.UNKNOWN, State.DEAD})
_PROGRESS = frozenset({Event.RECEIVED, Event.PREPARED, Event.ACCEPTED, Event.FOUND, Event.LIFTED, Event.REOPENED})
_POLLS = frozenset({Event.NOT_YET, Event.UNCLEAR})
_OLD_EXAMS = "\0old-exams"  # no endpoint is called so
_BEGINNING = frozenset({State.SETTLING, State.READY, State.RETRY_WAIT})
"""States from which a claim begins something new; the other claimable ones only ask after what was sent."""
_DOUBTFUL = frozenset({State.SENT, State.UNKNOWN, State.ACCEPTED})
_AUDIT_OUTCOME = {State.RETRY_WAIT: 4, State.UNKNOWN: 4, State.BLOCKED: 4, State.DEAD: 8}  # PS3.15 A.5.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A tenant of which nothing begins: who stopped it, when and why."""

    tenant: str
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The figures of the queue as the database holds them (I18).

    ``counts``: jobs by class and state, finished ones included. ``oldest``: acceptance of the oldest unfinished
    job by class. ``blocked``: BLOCKED jobs by reason. ``accepted``: jobs ever accepted, counted from the history;
    equal to the sum of ``counts`` (I3). ``paused``: tenants of which nothing begins.
    """

    counts: Mapping[tuple[JobClass, State], int]
    oldest: Mapping[JobClass, datetime]
    blocked: Mapping[str, int]
    accepted: int
    lags: Mapping[float, int]
    lag_sum_s: float
    paused: tuple[Pause, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of a job's history. ``from_state`` is None for the first."""

    job_id: int
    at: datetime
    from_state: State | None
    event: str
    to_state: State
    reason: str
    detail: str


# ── what others ask for ──────────────────────────────────────────────────────────────────────────────────────


def enqueue(
    tx: Tx,
    *,
    tenant: str,
    lane: str,
    kind: str,
    job_class: JobClass,
    now: datetime,
    deadline: datetime | None = None,
    state: State = State.SETTLING,
    reason: str = "",
    detail: str = "",
    actor: str = ENGINE,
) -> int:
    """Accept one intent; returns its ``job_id``. Older jobs that it makes pointless become SUPERSEDED.

    ``deadline``: None means the target of the class. ``state``: where it begins: RECEIVING, SETTLING, READY (its
    bytes stored by this transaction) or BLOCKED (with the reason).

    Raises:
        Broken: ``bad-first-state``.
    """
    if state not in _FIRST:
        raise Broken(f"a job cannot begin in {state}", code="bad-first-state", hint="this is a defect: report it")
    target = TARGETS[job_class]
    if deadline is None and target is not None:
        deadline = now + target
    urgency, due = int(job_class), _NEVER if deadline is None else to_ms(deadline)
    for row in _open_in_lane(tx, tenant, lane):
        if not _is_replaceable(row):
            continue
        if row["kind"] == kind:
            urgency, due = min(urgency, row["job_class"]), min(due, row["deadline"])
        elif not job_class == JobClass.P0 < row["asked_class"]:
            continue
        _move(tx, row, Event.REPLACED, now=now, reason="newer-job", actor=actor)
    row = _only(
        tx.row(
            "INSERT INTO outbox_job (tenant, lane, kind, job_class, asked_class, state, reason, detail, accepted_at,"
            " deadline, not_before, attempts, tries, deaths, died_in, in_doubt, lease_epoch, changed_at)"
            " VALUES (:tenant, :lane, :kind, :job_class, :job_class, :state, :reason, :detail, :now, :deadline,"
            " 0, 0, 0, 0, '', 0, 0, :now) RETURNING *",
            tenant=tenant,
            lane=lane,
            kind=kind,
            job_class=urgency,
            state=state.value,
            reason=reason,
            detail=detail,
            now=to_ms(now),
            deadline=due,
        )
    )
    _hasten_lane(tx, row)
    _record(tx, row, came_from="", event="enqueued", now=now, actor=actor)
    if tenant != HOUSE:
        pace.count(tx, tenant=tenant, job_class=urgency, now=now, accepted=1)
    return int(row["job_id"])


def received(tx: Tx, *, tenant: str, job_id: int, now: datetime) -> State:
    """The study is there to look at: RECEIVING → SETTLING.

    Raises:
        Refused: ``unknown-job``, ``wrong-job-state``.
    """
    return _ordered(tx, _find(tx, tenant, job_id), Event.RECEIVED, now=now, reason="", actor=ENGINE)


def lift(tx: Tx, *, tenant: str, job_id: int, now: datetime, actor: str, reason: str = "lifted") -> State:
    """The reason for holding is gone, or a person revives a dead job.

    Returns SETTLING, or UNKNOWN when its bytes may have left: then the peer is asked before anything else (I9).

    Raises:
        Refused: ``unknown-job``, ``wrong-job-state`` (only BLOCKED and DEAD can be lifted).
    """
    row = _find(tx, tenant, job_id)
    event = Event.REOPENED if row["in_doubt"] else Event.LIFTED
    return _ordered(tx, row, event, now=now, reason=reason, actor=actor)


def lift_reason(tx: Tx, *, kind: str, reason: str, now: datetime, actor: str = ENGINE, limit: int = 500) -> int:
    """Lift up to ``limit`` jobs of the kind that are held for this reason, longest held first; how many it lifted.

    Their target begins anew: a deadline that passed while they were meant to stand still is nobody's delay. New
    exams (P1) become replays (P2), so that a backlog does not go before what arrives from now on; the order is kept.
    To be called until it answers 0: each call is one bounded transaction.
    """
    rows: list[Row] = []
    for tenant in _tenants_of(tx, kind):
        rows += tx.rows(
            "SELECT * FROM outbox_job WHERE tenant = :tenant AND state = 'BLOCKED' AND reason = :reason"
            " AND kind = :kind AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
            " ORDER BY changed_at, job_id LIMIT :room",
            tenant=tenant,
            reason=reason,
            kind=kind,
            room=limit - len(rows),
        )
    for row in rows:
        _move(tx, row, Event.LIFTED, now=now, reason=f"{reason}-ended", actor=actor)
        urgency = JobClass.P2 if row["job_class"] == JobClass.P1 else JobClass(row["job_class"])
        target = TARGETS[urgency]
        tx.change(
            "UPDATE outbox_job SET job_class = :job_class, deadline = :deadline, lease_epoch = lease_epoch + 1"
            " WHERE job_id = :job_id",
            job_class=int(urgency),
            deadline=_NEVER if target is None else to_ms(now + target),
            job_id=row["job_id"],
        )
    return len(rows)


def hasten(tx: Tx, *, tenant: str, job_id: int, now: datetime, actor: str, reason: str) -> State:
    """A person does not want to wait for the next try: the job is due now, in the state where it waits.

    Raises:
        Refused: ``unknown-job``, ``wrong-job-state`` it does not wait for a time, or is being worked on.
    """
    row = _find(tx, tenant, job_id)
    moved = tx.row(
        "UPDATE outbox_job SET not_before = 0, changed_at = :now, lease_epoch = lease_epoch + 1"
        " WHERE job_id = :job_id AND lease_owner IS NULL"
        " AND state IN ('SETTLING', 'READY', 'UNKNOWN', 'ACCEPTED', 'RETRY_WAIT') RETURNING *",
        now=to_ms(now),
        job_id=row["job_id"],
    )
    if moved is None:
        raise _wrong_state(row, "hastened")
    _record(tx, moved, came_from=row["state"], event="hastened", now=now, actor=actor, why=reason)
    return State(moved["state"])


def pause(tx: Tx, *, tenant: str, actor: str, reason: str, now: datetime) -> None:
    """From this commit on nothing of the tenant begins to settle or to be sent, also after a restart.

    Raises:
        Refused: ``already-paused``.
    """
    inserted = tx.change(
        "INSERT INTO outbox_pause (tenant, at, actor, reason) VALUES (:tenant, :now, :actor, :reason)"
        " ON CONFLICT (tenant) DO NOTHING",
        tenant=tenant,
        now=to_ms(now),
        actor=actor,
        reason=reason,
    )
    if not inserted:
        raise Refused(f"tenant {tenant} is already paused", code="already-paused", hint="see who paused it, and why")
    _audit_pause(tx, tenant, event="queue.paused", actor=actor, detail=reason, now=now)


def resume(tx: Tx, *, tenant: str, actor: str, now: datetime) -> None:
    """What waited begins again.

    Raises:
        Refused: ``not-paused``.
    """
    if not tx.change("DELETE FROM outbox_pause WHERE tenant = :tenant", tenant=tenant):
        raise Refused(f"tenant {tenant} is not paused", code="not-paused", hint="somebody else has resumed it")
    _audit_pause(tx, tenant, event="queue.resumed", actor=actor, detail="", now=now)


def paused(tx: ReadTx) -> list[Pause]:
    """Every tenant that is paused now, by name."""
    return [
        Pause(tenant=row["tenant"], at=from_ms(row["at"]), actor=row["actor"], reason=row["reason"])
        for row in tx.rows("SELECT * FROM outbox_pause ORDER BY tenant")
    ]


def discard(tx: Tx, *, tenant: str, job_id: int, now: datetime, actor: str, reason: str) -> State:
    """A person gives the job up; its lane goes on with the next one.

    Raises:
        Refused: ``unknown-job``, ``wrong-job-state`` (a finished job, or one in flight).
    """
    return _ordered(tx, _find(tx, tenant, job_id), Event.DISCARDED, now=now, reason=reason, actor=actor)


def restored(tx: Tx, *, now: datetime) -> int:
    """The database is an older copy, put back: whatever stood ready to be sent when it was made may have been sent
    since, so the peer is asked before its bytes leave (I9); how many jobs that are. What was already sent is asked
    after anyway, and what settles decides anew."""
    rows = tx.rows("SELECT * FROM outbox_job WHERE state IN ('READY', 'LEASED', 'RETRY_WAIT') ORDER BY job_id")
    for row in rows:
        moved = _move(tx, row, Event.RESTORED, now=now, reason="restored")
        if moved is not None:
            _begin_attempt(tx, moved, now=now)
            _end_attempt(tx, moved, Event.RESTORED, now=now, detail="restored")
    return len(rows)


def settles_next(tx: ReadTx, *, tenant: str, lane: str, kind: str, now: datetime) -> bool:
    """Whether a job of that kind in the lane waits for nothing but its turn to be decided: what the world shows once
    this transaction is over is what it will see."""
    found = tx.rows(
        "SELECT 1 FROM outbox_job WHERE tenant = :tenant AND lane = :lane AND kind = :kind AND state = 'SETTLING'"
        " AND lease_owner IS NULL AND not_before <= :now LIMIT 1",
        tenant=tenant,
        lane=lane,
        kind=kind,
        now=to_ms(now),
    )
    return bool(found)


def lane_jobs(tx: ReadTx, *, tenant: str, lane: str) -> list[Job]:
    """Every job of a lane, finished ones included, in order."""
    sql = "SELECT * FROM outbox_job WHERE tenant = :tenant AND lane = :lane ORDER BY job_id"
    return [job_of(row) for row in tx.rows(sql, tenant=tenant, lane=lane)]


def lane_history(tx: ReadTx, *, tenant: str, lane: str) -> list[Change]:
    """Every change of every job of a lane, oldest first."""
    rows = tx.rows(
        "SELECT past.* FROM outbox_history AS past JOIN outbox_job AS job ON job.job_id = past.job_id"
        " WHERE job.tenant = :tenant AND job.lane = :lane ORDER BY past.at, past.job_id, past.seq",
        tenant=tenant,
        lane=lane,
    )
    return [
        Change(
            job_id=row["job_id"],
            at=from_ms(row["at"]),
            from_state=State(row["from_state"]) if row["from_state"] else None,
            event=row["event"],
            to_state=State(row["to_state"]),
            reason=row["reason"],
            detail=row["detail"],
        )
        for row in rows
    ]


def last_attempts(tx: ReadTx, *, tenant: str, lane: str) -> dict[int, datetime]:
    """Start of the last attempt of each job of the lane whose bytes may ever have left, by job_id."""
    rows = tx.rows(
        "SELECT a.job_id, MAX(a.started_at) AS at FROM outbox_attempt AS a JOIN outbox_job AS job"
        " ON job.job_id = a.job_id WHERE job.tenant = :tenant AND job.lane = :lane GROUP BY a.job_id",
        tenant=tenant,
        lane=lane,
    )
    return {row["job_id"]: from_ms(row["at"]) for row in rows}


def doubtful_sends(tx: ReadTx, *, job_id: int) -> int:
    """How many attempts of the job the peer took or may have taken."""
    row = tx.row(
        "SELECT COUNT(*) AS sends FROM outbox_attempt WHERE job_id = :job_id"
        " AND outcome IN ('accepted', 'ambiguous', 'crashed')",
        job_id=job_id,
    )
    return int(_only(row)["sends"])


def tenants_at_work(tx: ReadTx) -> dict[str, int]:
    """How many unfinished jobs each tenant has; those of the house are nobody's."""
    rows = tx.rows(
        "SELECT tenant, COUNT(*) AS jobs FROM outbox_job"
        " WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') AND tenant <> :house GROUP BY tenant",
        house=HOUSE,
    )
    return {row["tenant"]: row["jobs"] for row in rows}


def forget(tx: Tx, *, lane: str, keep: int) -> int:
    """Let go of the house's finished jobs in a lane but the newest ``keep``, with their history; how many."""
    old = tx.rows(
        "SELECT job_id FROM outbox_job WHERE tenant = :house AND lane = :lane"
        " AND state IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY job_id DESC LIMIT 500 OFFSET :keep",
        house=HOUSE,
        lane=lane,
        keep=keep,
    )
    for row in old:
        tx.change("DELETE FROM outbox_attempt WHERE job_id = :job_id", job_id=row["job_id"])
        tx.change("DELETE FROM outbox_history WHERE job_id = :job_id", job_id=row["job_id"])
        tx.change("DELETE FROM outbox_job WHERE job_id = :job_id", job_id=row["job_id"])
    return len(old)


def open_jobs(tx: ReadTx) -> list[Job]:
    """Every unfinished job of every tenant, in schedule order."""
    return [
        job_of(row)
        for row in tx.rows(
            "SELECT * FROM outbox_job WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
            " ORDER BY job_class, deadline, job_id"
        )
    ]


def snapshot(tx: ReadTx) -> Snapshot:
    """The figures of the whole queue."""
    counts: dict[tuple[JobClass, State], int] = {}
    for row in tx.rows("SELECT job_class, state, COUNT(*) AS jobs FROM outbox_job GROUP BY job_class, state"):
        counts[JobClass(row["job_class"]), State(row["state"])] = row["jobs"]
    oldest = tx.rows(
        "SELECT job_class, MIN(accepted_at) AS oldest FROM outbox_job"
        " WHERE state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') GROUP BY job_class"
    )
    blocked = tx.rows("SELECT reason, COUNT(*) AS jobs FROM outbox_job WHERE state = 'BLOCKED' GROUP BY reason")
    accepted = _only(tx.row("SELECT COUNT(*) AS jobs FROM outbox_history WHERE from_state = ''"))
    return Snapshot(
        counts=counts,
        oldest={JobClass(row["job_class"]): from_ms(row["oldest"]) for row in oldest},
        blocked={row["reason"]: row["jobs"] for row in blocked},
        accepted=accepted["jobs"],
        lags={
            (math.inf if row["bound_s"] == _NEVER else float(row["bound_s"])): row["jobs"]
            for row in tx.rows("SELECT bound_s, SUM(jobs) AS jobs FROM outbox_lag GROUP BY bound_s")
        },
        lag_sum_s=_only(tx.row("SELECT COALESCE(SUM(lag_ms), 0) AS ms FROM outbox_lag"))["ms"] / 1000,
        paused=tuple(paused(tx)),
    )


# ── what the engine asks for ─────────────────────────────────────────────────────────────────────────────────


def claim(
    tx: Tx,
    *,
    owner: str,
    now: datetime,
    limit: int,
    kinds: Mapping[str, str],
    permits: Mapping[str, int],
    settles: Mapping[str, int],
    spare: int,
) -> list[Job]:
    """Lease up to ``limit`` due jobs for ``owner``: class first, then earliest deadline, then age.

    ``kinds``: endpoint by name of kind; jobs of other kinds are left alone. ``permits``: calls that each endpoint
    may begin now; SETTLING does not call it and is not counted. ``settles``: how many jobs of each kind may begin
    to settle now, so that one kind whose sources hang leaves room for its sends and for the others (I15). ``spare``:
    how many calls for old exams (P3) may be in hand at once: they have what others leave, no more (reliability §4).

    A job that a newer one of its lane overtook while it was in flight gives way here instead of being sent (I10).
    Nothing of a paused tenant begins (FF-46).

    Returns jobs in SETTLING, LEASED, UNKNOWN or ACCEPTED.
    """
    _wake(tx, now=now)
    heads: list[Row] = []
    stopped = {pause.tenant for pause in paused(tx)}
    for kind, endpoint in kinds.items():
        is_stopped = bool(stopped) and stopped.issuperset(_tenants_of(tx, kind))
        for state in _CLAIMABLE:
            room = min(limit, settles[kind] if state is State.SETTLING else permits[endpoint])
            is_beginning = state in _BEGINNING
            if room > 0 and not (is_stopped and is_beginning):
                besides_paused = bool(stopped) and is_beginning
                heads += _heads(tx, kind=kind, state=state, limit=room, besides_paused=besides_paused)
    heads.sort(key=lambda row: (row["job_class"], row["deadline"], row["job_id"]))
    left = {_OLD_EXAMS: spare - _in_hand(tx, JobClass.P3), **permits}
    claimed: list[Job] = []
    for row in heads:
        if len(claimed) == limit:
            break
        needs = _needs(row, kinds)
        if any(left[need] <= 0 for need in needs) or _give_way(tx, row, now=now):
            continue
        leased = _lease(tx, row, owner=owner, now=now)
        if leased is not None:
            claimed.append(job_of(leased))
            for need in needs:
                left[need] -= 1
    return claimed


def attempt(tx: Tx, job: Job, *, now: datetime) -> Job | None:
    """LEASED → SENT with its attempt row: from this commit on bytes may leave. None: the lease was lost; or since the
    claim the tenant was paused, then the job is READY again, or a newer job overtook it, then it gives way (I10)."""
    row = _current(tx, job)
    is_overtaken = row is not None and _is_overtaken(tx, row)
    if row and (is_overtaken or _is_paused(tx, job.tenant)):
        released = _move(tx, row, Event.RELEASED, now=now, reason="newer-job" if is_overtaken else "paused")
        if released:
            _give_way(tx, released, now=now)
        return None
    sent = row and _move(tx, row, Event.ATTEMPTED, now=now, owner=row["lease_owner"])
    if not sent:
        return None
    _begin_attempt(tx, sent, now=now)
    return job_of(sent)


def apply(
    tx: Tx, job: Job, answer: Answer, *, now: datetime, not_before: datetime | None, busy_s: float = 0.0
) -> State | None:
    """Take the answer and end the lease; the state after, or None when the lease was lost: nothing changes (I8).
    ``busy_s``: how long the peer was asked for it; 0 for SETTLING.

    The answer's effects run in this transaction (I2, I7).

    Raises:
        Broken: ``impossible-transition``. Whatever the effects raise; nothing is changed then.
    """
    row = _current(tx, job)
    moved = row and _move(
        tx,
        row,
        answer.event,
        now=now,
        reason=answer.reason,
        detail=answer.detail,
        not_before=not_before,
        request=answer.request,
    )
    if not moved:
        return None
    if busy_s:
        pace.count(tx, tenant=job.tenant, job_class=job.job_class, now=now, busy_ms=max(round(busy_s * 1000), 1))
    if job.state is State.SENT:
        _end_attempt(tx, moved, answer.event, now=now, detail=answer.reason)
    if answer.effects is not None:
        answer.effects(tx)
    if _give_way(tx, moved, now=now):
        return State.SUPERSEDED
    return State(moved["state"])


def sweep(tx: Tx, *, now: datetime, held: Collection[int], deaths_max: int, wait_max: timedelta) -> list[Job]:
    """Take back every lease that nobody holds, and cut waits that only a clock jump can explain.

    ``held``: jobs this incarnation is working on; empty at its start. ``deaths_max``: consecutive deaths in one
    state that make a job DEAD(poison) (F20). ``wait_max``: the longest wait the engine ever writes; a later stamp
    is due now (F11).

    Returns the jobs taken back, as they are afterwards.
    """
    taken: list[Job] = []
    for row in tx.rows("SELECT * FROM outbox_job WHERE lease_owner IS NOT NULL ORDER BY job_id"):
        if row["job_id"] in held:
            continue
        is_poison = _deaths(row, Event.CRASHED)[0] >= deaths_max
        event, reason = (Event.POISON, "poison") if is_poison else (Event.CRASHED, "worker-died")
        moved = _move(tx, row, event, now=now, reason=reason)
        if moved is None:
            continue
        if row["state"] == State.SENT:
            _end_attempt(tx, moved, event, now=now, detail=reason)
        taken.append(job_of(moved))
    tx.change(
        "UPDATE outbox_job SET not_before = :now WHERE not_before > :latest AND lease_owner IS NULL"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')",
        now=to_ms(now),
        latest=to_ms(now + wait_max),
    )
    return taken


def age(tx: Tx, *, now: datetime, limit: int = 500) -> int:
    """The starvation guard: what was to be done within a day and has waited half of it goes with the new exams from
    now on, its deadline kept (reliability §4); how many did."""
    target = TARGETS[JobClass.P2] or timedelta()
    return tx.change(
        "UPDATE outbox_job SET job_class = 1, lease_epoch = lease_epoch + 1 WHERE job_id IN (SELECT job_id FROM"
        " outbox_job WHERE job_class = 2 AND deadline <= :half AND lease_owner IS NULL"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY deadline, job_id LIMIT :limit)",
        half=to_ms(now + target / 2),
        limit=limit,
    )


def hasten_withdrawals(tx: Tx, *, kinds: Collection[str]) -> int:
    """The peer is back: what is most urgent does not wait for the next try that was fixed while it was away; how many
    jobs that are."""
    return sum(
        tx.change(
            "UPDATE outbox_job SET not_before = 0 WHERE kind = :kind AND job_class = 0 AND state = 'RETRY_WAIT'"
            " AND lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')",
            kind=kind,
        )
        for kind in kinds
    )


def next_due(tx: ReadTx, *, now: datetime) -> datetime | None:
    """The first moment after ``now`` at which a waiting job becomes due; None when none waits."""
    row = tx.row(
        "SELECT MIN(not_before) AS due FROM outbox_job WHERE not_before > :now AND lease_owner IS NULL"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')",
        now=to_ms(now),
    )
    return None if row is None or row["due"] is None else from_ms(row["due"])


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def job_of(row: Row) -> Job:
    return Job(
        job_id=row["job_id"],
        tenant=row["tenant"],
        lane=row["lane"],
        kind=row["kind"],
        job_class=JobClass(row["job_class"]),
        state=State(row["state"]),
        reason=row["reason"],
        detail=row["detail"],
        epoch=row["lease_epoch"],
        attempts=row["attempts"],
        tries=row["tries"],
        accepted_at=from_ms(row["accepted_at"]),
        deadline=None if row["deadline"] == _NEVER else from_ms(row["deadline"]),
        sent_at=None if row["sent_at"] is None else from_ms(row["sent_at"]),
        not_before=from_ms(row["not_before"]) if row["not_before"] else None,
    )


def _only(row: Row | None) -> Row:
    if row is None:
        raise Broken("a statement that always answers gave no row", code="store-broken", hint="report it")
    return row


def _find(tx: ReadTx, tenant: str, job_id: int) -> Row:
    sql = "SELECT * FROM outbox_job WHERE tenant = :tenant AND job_id = :job_id"
    row = tx.row(sql, tenant=tenant, job_id=job_id)
    if row is None:
        raise Refused(f"tenant {tenant} has no job {job_id}", code="unknown-job", hint="list the jobs of the exam")
    return row


def _current(tx: ReadTx, job: Job) -> Row | None:
    sql = "SELECT * FROM outbox_job WHERE job_id = :job_id AND lease_epoch = :epoch"
    return tx.row(sql, job_id=job.job_id, epoch=job.epoch)


def _open_in_lane(tx: ReadTx, tenant: str, lane: str) -> list[Row]:
    sql = (
        "SELECT * FROM outbox_job WHERE tenant = :tenant AND lane = :lane"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY job_id"
    )
    return tx.rows(sql, tenant=tenant, lane=lane)


def _hasten_lane(tx: Tx, row: Row) -> None:
    """What stands before an urgent job in its lane goes with its urgency: the lane is served in order, and nobody's
    deadline waits for an old exam's turn."""
    tx.change(
        "UPDATE outbox_job SET job_class = :job_class, lease_epoch = lease_epoch + 1"
        " WHERE tenant = :tenant AND lane = :lane AND job_id < :job_id AND job_class > :job_class"
        " AND lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')",
        tenant=row["tenant"],
        lane=row["lane"],
        job_id=row["job_id"],
        job_class=row["job_class"],
    )


def _is_replaceable(row: Row) -> bool:
    return row["state"] in UNSENT or (row["state"] == State.DEAD and not row["in_doubt"])


def _give_way(tx: Tx, row: Row, *, now: datetime) -> bool:
    """Let a newer job of the lane take the place of one of which the peer holds nothing; whether it did (I10)."""
    if not _is_replaceable(row) or row["state"] == State.RECEIVING or not _is_overtaken(tx, row):
        return False
    return _move(tx, row, Event.REPLACED, now=now, reason="newer-job") is not None


def _is_overtaken(tx: ReadTx, row: Row) -> bool:
    """Whether a newer unfinished job of the lane makes this one pointless."""
    newer = tx.rows(
        "SELECT job_id FROM outbox_job WHERE tenant = :tenant AND lane = :lane AND job_id > :job_id"
        " AND (kind = :kind OR asked_class = 0 AND asked_class < :asked_class)"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') LIMIT 1",
        tenant=row["tenant"],
        lane=row["lane"],
        kind=row["kind"],
        asked_class=row["asked_class"],
        job_id=row["job_id"],
    )
    return bool(newer)


def _wake(tx: Tx, *, now: datetime) -> None:
    """What waited until now waits no longer: ``not_before`` becomes 0, most urgent class first, not all at once. So a
    claim reads the due jobs alone, however many others still wait (F23)."""
    any_due = tx.rows(
        "SELECT job_id FROM outbox_job WHERE not_before BETWEEN 1 AND :now AND lease_owner IS NULL"
        " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') LIMIT 1",
        now=to_ms(now),
    )
    room = _WAKE_MAX if any_due else 0
    for job_class in JobClass:
        if room <= 0:
            break
        room -= tx.change(
            "UPDATE outbox_job SET not_before = 0 WHERE job_id IN (SELECT job_id FROM outbox_job"
            " WHERE job_class = :job_class AND not_before > 0 AND not_before <= :now AND lease_owner IS NULL"
            " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY not_before LIMIT :most)",
            job_class=int(job_class),
            now=to_ms(now),
            most=room,
        )


def _heads(tx: ReadTx, *, kind: str, state: State, limit: int, besides_paused: bool) -> list[Row]:
    return tx.rows(
        "SELECT * FROM outbox_job AS job WHERE kind = :kind AND state = :state AND not_before = 0"
        " AND lease_owner IS NULL AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED')"
        " AND NOT EXISTS (SELECT 1 FROM outbox_job AS ahead WHERE ahead.tenant = job.tenant"
        " AND ahead.lane = job.lane AND ahead.job_id < job.job_id"
        " AND ahead.state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED'))"
        " AND (:besides_paused = 0 OR tenant NOT IN (SELECT tenant FROM outbox_pause))"
        " ORDER BY job_class, deadline, job_id LIMIT :limit",
        kind=kind,
        state=state.value,
        besides_paused=int(besides_paused),
        limit=limit,
    )


def _needs(row: Row, kinds: Mapping[str, str]) -> list[str]:
    """What a claim of the job takes one of: a call of its endpoint; a place among the old exams, when it begins
    something (what was sent is asked after in any case: it keeps its lane occupied)."""
    called = [] if row["state"] == State.SETTLING else [kinds[row["kind"]]]
    is_old = row["job_class"] == JobClass.P3 and row["state"] in _BEGINNING
    return [*called, *([_OLD_EXAMS] if is_old else [])]


def _in_hand(tx: ReadTx, job_class: JobClass) -> int:
    """How many jobs of the class are being worked on."""
    row = tx.row(
        "SELECT COUNT(*) AS jobs FROM outbox_job WHERE lease_owner IS NOT NULL AND job_class = :job_class",
        job_class=int(job_class),
    )
    return int(_only(row)["jobs"])


def _tenants_of(tx: ReadTx, kind: str) -> Iterator[str]:
    """The tenants that have unfinished jobs of the kind: one seek each, usually one."""
    last = ""
    while True:
        row = tx.row(
            "SELECT tenant FROM outbox_job WHERE kind = :kind AND tenant > :last"
            " AND state NOT IN ('PUBLISHED', 'CANCELLED', 'SUPERSEDED') ORDER BY tenant LIMIT 1",
            kind=kind,
            last=last,
        )
        if row is None:
            return
        last = str(row["tenant"])
        yield last


def _lease(tx: Tx, row: Row, *, owner: str, now: datetime) -> Row | None:
    if row["state"] == State.RETRY_WAIT:
        due = _move(tx, row, Event.DUE, now=now)
        return due and _lease(tx, due, owner=owner, now=now)
    if row["state"] == State.READY:
        return _move(tx, row, Event.CLAIMED, now=now, owner=owner)
    return tx.row(
        "UPDATE outbox_job SET lease_owner = :owner, lease_epoch = lease_epoch + 1, tries = tries + 1"
        " WHERE job_id = :job_id AND lease_epoch = :epoch RETURNING *",
        owner=owner,
        job_id=row["job_id"],
        epoch=row["lease_epoch"],
    )


def _ordered(tx: Tx, row: Row, event: Event, *, now: datetime, reason: str, actor: str) -> State:
    """Carry out what someone outside the engine asks for, or say why it cannot be."""
    moved = _move(tx, row, event, now=now, reason=reason, actor=actor) if (row["state"], event) in TABLE else None
    if moved is None:
        raise _wrong_state(row, event)
    return State(moved["state"])


def _wrong_state(row: Row, event: str) -> Refused:
    return Refused(
        f"job {row['job_id']} is {row['state']}: it cannot be {event}",
        code="wrong-job-state",
        hint="wait until it leaves this state, then look at it again",
    )


def _deaths(row: Row, event: Event) -> tuple[int, str]:
    """Consecutive deaths, and in which state: any other way out of that state ends the row of deaths, so three
    power cuts in a month do not make poison, while a send that kills is not excused by the queries between."""
    if event in {Event.CRASHED, Event.POISON}:
        return (row["deaths"] if row["died_in"] == row["state"] else 0) + 1, row["state"]
    if event in {Event.LIFTED, Event.REOPENED} or row["died_in"] == row["state"]:
        return 0, ""
    return row["deaths"], row["died_in"]


def _move(
    tx: Tx,
    row: Row,
    event: Event,
    *,
    now: datetime,
    reason: str = "",
    detail: str = "",
    actor: str = ENGINE,
    owner: str | None = None,
    not_before: datetime | None = None,
    request: str = "",
) -> Row | None:
    """Take one row of the state table; the job afterwards, or None when it is no longer as ``row`` shows it."""
    after = transition(State(row["state"]), event)
    deaths, died_in = _deaths(row, event)
    keeps_doubt = bool(row["in_doubt"]) and event in {Event.POISON, Event.DISCARDED}
    tries = 0 if event in _PROGRESS else row["tries"] + (event is Event.CLAIMED)
    is_attempt = event in {Event.ATTEMPTED, Event.RESTORED}
    is_news = not (event in _POLLS and reason == row["reason"])
    moved = tx.row(
        "UPDATE outbox_job SET state = :state, reason = :reason, detail = :detail, not_before = :not_before,"
        " attempts = :attempts, tries = :tries, deaths = :deaths, died_in = :died_in, in_doubt = :in_doubt,"
        " sent_at = :sent_at, changed_at = :changed_at, request_name = :request, lease_owner = :owner,"
        " lease_epoch = lease_epoch + 1"
        " WHERE job_id = :job_id AND lease_epoch = :epoch RETURNING *",
        state=after.value,
        reason=reason,
        detail=detail,
        not_before=0 if not_before is None else to_ms(not_before),
        attempts=row["attempts"] + is_attempt,
        tries=tries,
        deaths=deaths,
        died_in=died_in,
        in_doubt=int(after in _DOUBTFUL or keeps_doubt),
        sent_at=to_ms(now) if is_attempt else row["sent_at"],
        changed_at=to_ms(now) if is_news else row["changed_at"],
        request=request or row["request_name"],
        owner=owner,
        job_id=row["job_id"],
        epoch=row["lease_epoch"],
    )
    if moved is not None and after is State.PUBLISHED and row["tenant"] != HOUSE:
        _count_lag(tx, tenant=row["tenant"], lag_ms=max(to_ms(now) - row["accepted_at"], 0))
        _count_lane(tx, row)
        pace.count(tx, tenant=row["tenant"], job_class=row["job_class"], now=now, published=1)
    if moved is not None and is_news:
        _record(tx, moved, came_from=row["state"], event=event.value, now=now, actor=actor)
    return moved


def _event(state: State, request: str) -> str:
    """The audit event of a state: of one in which bytes have left, with the transaction that these were."""
    return f"job.{state.value.lower()}" + (f".{request.lower()}" if request and state in _OUTWARD else "")


def _record(
    tx: Tx, row: Row, *, came_from: str, event: str, now: datetime, actor: str, why: str | None = None
) -> None:
    """History and audit row of a change. ``why``: a person's words; None: the job's own reason says it."""
    reason = row["reason"] if why is None else why
    tx.change(
        "INSERT INTO outbox_history (tenant, job_id, seq, at, from_state, event, to_state, reason, detail)"
        " VALUES (:tenant, :job_id, :seq, :at, :from_state, :event, :to_state, :reason, :detail)",
        tenant=row["tenant"],
        job_id=row["job_id"],
        seq=row["lease_epoch"],
        at=to_ms(now),
        from_state=came_from,
        event=event,
        to_state=row["state"],
        reason=reason,
        detail=row["detail"] if why is None else "",
    )
    if row["tenant"] == HOUSE and actor == ENGINE:
        return
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=row["tenant"],
            zone="outbox",
            at=now,
            event=_event(State(row["state"]), row["request_name"]),
            actor=actor,
            outcome=_AUDIT_OUTCOME.get(State(row["state"]), 0),
            object_type="study",
            object_id=row["lane"],
            detail=f"job {row['job_id']} {row['kind']}: {event}" + (f", {reason}" if reason else ""),
        ),
    )


def _count_lag(tx: Tx, *, tenant: str, lag_ms: int) -> None:
    """One more job published this long after its acceptance: a histogram kept with the rows it counts (I18)."""
    bound_s = next((bound for bound in LAG_BOUNDS_S if lag_ms <= bound * 1000), _NEVER)
    tx.change(
        "INSERT INTO outbox_lag (tenant, bound_s, jobs, lag_ms) VALUES (:tenant, :bound_s, 1, :lag_ms)"
        " ON CONFLICT (tenant, bound_s) DO UPDATE"
        " SET jobs = outbox_lag.jobs + 1, lag_ms = outbox_lag.lag_ms + excluded.lag_ms",
        tenant=tenant,
        bound_s=bound_s,
        lag_ms=lag_ms,
    )


def _count_lane(tx: Tx, row: Row) -> None:
    """One more lane, when this is the first of its jobs to be published."""
    earlier = tx.rows(
        "SELECT job_id FROM outbox_job WHERE tenant = :tenant AND lane = :lane AND state = 'PUBLISHED'"
        " AND job_id <> :job_id LIMIT 1",
        tenant=row["tenant"],
        lane=row["lane"],
        job_id=row["job_id"],
    )
    if not earlier:
        tx.change(
            "INSERT INTO outbox_published (tenant, lanes) VALUES (:tenant, 1)"
            " ON CONFLICT (tenant) DO UPDATE SET lanes = outbox_published.lanes + 1",
            tenant=row["tenant"],
        )


def _is_paused(tx: ReadTx, tenant: str) -> bool:
    return bool(tx.rows("SELECT tenant FROM outbox_pause WHERE tenant = :tenant", tenant=tenant))


def _audit_pause(tx: Tx, tenant: str, *, event: str, actor: str, detail: str, now: datetime) -> None:
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=tenant,
            zone="outbox",
            at=now,
            event=event,
            actor=actor,
            outcome=0,
            object_type="tenant",
            object_id=tenant,
            detail=detail,
        ),
    )


def _begin_attempt(tx: Tx, row: Row, *, now: datetime) -> None:
    tx.change(
        "INSERT INTO outbox_attempt (tenant, job_id, attempt_no, epoch, started_at, outcome, detail)"
        " VALUES (:tenant, :job_id, :attempt_no, :epoch, :now, '', '')",
        tenant=row["tenant"],
        job_id=row["job_id"],
        attempt_no=row["attempts"],
        epoch=row["lease_epoch"],
        now=to_ms(now),
    )


def _end_attempt(tx: Tx, row: Row, event: Event, *, now: datetime, detail: str) -> None:
    tx.change(
        "UPDATE outbox_attempt SET ended_at = :now, outcome = :outcome, detail = :detail"
        " WHERE job_id = :job_id AND attempt_no = :attempt_no",
        now=to_ms(now),
        outcome=event.value,
        detail=detail,
        job_id=row["job_id"],
        attempt_no=row["attempts"],
    )
