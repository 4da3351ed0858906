"""The shell around the outbox: claims jobs, asks their kinds, commits what they answer.

Every claim makes exactly one call of the kind and ends with one commit; what comes next is claimed again at once.
For a send the order is: commit the attempt (LEASED → SENT), then let bytes leave, then commit the outcome. Death
between any two of these lines leaves a row from which the next start continues (I11, I12):

```
claim ─▶ LEASED ─▶ [attempt row] SENT ─▶ kind.send ─▶ [outcome, effects, history, audit]
           └─ died: READY            └──── died: UNKNOWN, the peer is asked first (I9)
```

Invariants:

* no network call inside a transaction, no transaction around a call (I2);
* what a kind raises, or does not answer in time, is never success: SETTLING is held for a person (or looked at
  again when it was only slow), a send becomes UNKNOWN, a query stays open;
* cancellation keeps an outcome that is already known and nothing else: the rest is what a crash leaves;
* a store that cannot commit for now (full disk) stops the work where it stands until it can; a broken store ends
  the process;
* starting is recovering: the first round takes back every lease found (FF-25), later rounds the forgotten ones.

The engine does not know what a job means; logs carry tenant, study, job and reason, never a patient.
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from security.clock import Clock
from security.crash import crash_point
from security.errors import Broken, Fault, Unavailable
from security.outbox import jobs, pace
from security.outbox.breaker import Breaker, BreakerSettings, Verdict
from security.outbox.forecast import Forecast
from security.outbox.port import Answer, Job, JobClass, JobKind
from security.outbox.retry import RetrySettings, Uniform, is_exhausted, not_before
from security.outbox.states import ANSWERS, Event, State
from security.store.port import Store, Tx

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_ON_FAULT = {
    State.SETTLING: Event.HELD,
    State.SENT: Event.AMBIGUOUS,
    State.UNKNOWN: Event.UNCLEAR,
    State.ACCEPTED: Event.UNCLEAR,
}
_TELLING = frozenset({State.PUBLISHED, State.SETTLING, State.UNKNOWN, State.RETRY_WAIT, State.BLOCKED, State.DEAD})
"""States a log line tells of when a job comes to them, or stays in them for a new reason."""
_ON_SILENCE = {**_ON_FAULT, State.SETTLING: Event.NOT_YET}
_VERDICTS = {
    Event.TRANSIENT: Verdict.FAILURE,
    Event.AMBIGUOUS: Verdict.FAILURE,
    Event.UNCLEAR: Verdict.NEUTRAL,  # too early, or no clean answer: says nothing sure about the peer
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Bounds of the engine; times in seconds (I20).

    ``slots``: calls at once over all kinds. ``call_s``: time limit of one call, above every time-out of its own.
    ``deaths_max``: consecutive deaths that make poison. ``idle_s``: longest sleep between two rounds. ``sweep_s``:
    time between two sweeps of forgotten leases. ``spare_share``: share of the slots that old exams (P3) may have, one
    at least; none while a new exam is foretold to be late.
    """

    slots: int = 8
    call_s: float = 600.0
    deaths_max: int = 3
    spare_share: float = 0.2
    idle_s: float = 1.0
    sweep_s: float = 60.0
    retry: RetrySettings = field(default_factory=RetrySettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    @property
    def calls(self) -> int:
        """Calls that one endpoint carries at once when all is well."""
        return min(self.slots, self.breaker.calls_max)


class Engine:
    """One incarnation of the worker of one store.

    Args:
        kinds: by name; jobs of a kind that is not registered wait untouched.
        rng: source of jitter.
        owner: unique name of this incarnation; made at random unless given.
    """

    def __init__(
        self,
        store: Store,
        kinds: Mapping[str, JobKind],
        *,
        clock: Clock,
        rng: Uniform,
        settings: EngineSettings | None = None,
        owner: str | None = None,
    ) -> None:
        self._store = store
        self._kinds = dict(kinds)
        self._endpoints = {name: kind.endpoint for name, kind in kinds.items()}
        self._clock = clock
        self._rng = rng
        self._settings = settings or EngineSettings()
        self._owner = owner or secrets.token_hex(8)
        self._held: set[int] = set()
        self._settling: Counter[str] = Counter()
        self._settles_max = max(1, self._settings.slots // (2 * max(1, len(set(self._endpoints.values())))))
        self._wake = asyncio.Event()
        self._swept_at: float | None = None
        self._is_pressed = False
        self._returned: set[str] = set()
        self.breakers: Mapping[str, Breaker] = {
            endpoint: Breaker(self._settings.breaker) for endpoint in sorted(set(self._endpoints.values()))
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish the calls that are under way.

        Raises:
            ExceptionGroup: the store is broken; the process must end (what is not settled is picked up at the
                next start).
        """
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._nudge_on(stop), name="outbox-stop")
            try:
                while not stop.is_set():
                    self._wake.clear()
                    try:
                        claimed = await self._claim()
                    except Unavailable as error:  # the disk is full: look again, it may not be for ever (F04)
                        _log.warning("outbox-store-unavailable", code=error.code, detail=str(error))
                        claimed = []
                    for job in claimed:
                        tasks.create_task(self._carry(job), name=f"outbox-job-{job.job_id}")
                    if not claimed:
                        await self._sleep()
            finally:
                watcher.cancel()

    async def step(self) -> int:
        """One round: claim what is due, carry it out, return how many calls were made."""
        claimed = await self._claim()
        async with asyncio.TaskGroup() as tasks:
            for job in claimed:
                tasks.create_task(self._carry(job), name=f"outbox-job-{job.job_id}")
        return len(claimed)

    def nudge(self) -> None:
        """There may be work: look now. To be called on the event loop, after the commit that made the work."""
        self._wake.set()

    async def forecasts(self) -> dict[str, Forecast]:
        """What lies ahead of every tenant that has unfinished jobs, from the database (I18)."""
        calls = self._settings.calls
        return await self._store.read(lambda tx: pace.all_ahead(tx, now=self._clock.now(), calls=calls))

    async def snapshot(self) -> jobs.Snapshot:
        """The figures of the queue, from the database (I18)."""
        return await self._store.read(jobs.snapshot)

    # ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _claim(self) -> list[Job]:
        await self._sweep_when_due()
        limit = self._settings.slots - len(self._held)
        if limit <= 0:
            return []
        seconds = self._clock.monotonic()
        permits = {endpoint: breaker.permits(seconds) for endpoint, breaker in self.breakers.items()}
        settles = {kind: self._settles_max - self._settling[kind] for kind in self._kinds}
        spare = 0 if self._is_pressed else max(1, int(self._settings.slots * self._settings.spare_share))

        back = frozenset(self._returned)

        def work(tx: Tx) -> list[Job]:
            now = self._clock.now()
            if back:
                jobs.hasten_withdrawals(tx, kinds=[k for k, endpoint in self._endpoints.items() if endpoint in back])
            return jobs.claim(
                tx,
                owner=self._owner,
                now=now,
                limit=limit,
                kinds=self._endpoints,
                permits=permits,
                settles=settles,
                spare=spare,
            )

        claimed = await self._store.write(work)
        self._returned -= back
        for job in claimed:
            self._held.add(job.job_id)
            if job.state is State.SETTLING:
                self._settling[job.kind] += 1
            else:
                self.breakers[self._endpoints[job.kind]].begin()
        if claimed:
            crash_point("claim-committed")
        return claimed

    async def _sweep_when_due(self) -> None:
        seconds = self._clock.monotonic()
        if self._swept_at is not None and seconds < self._swept_at + self._settings.sweep_s:
            return
        held = frozenset(self._held)
        wait_max = timedelta(seconds=self._settings.retry.wait_max_s)

        def work(tx: Tx) -> list[Job]:
            now = self._clock.now()
            pace.prune(tx, now=now)
            jobs.age(tx, now=now)
            return jobs.sweep(tx, now=now, held=held, deaths_max=self._settings.deaths_max, wait_max=wait_max)

        taken_back = await self._store.write(work)
        self._swept_at = seconds
        await self._look_ahead()
        for job in taken_back:
            _log.warning("outbox-lease-taken-back", **_names(job), state=job.state.value)

    async def _look_ahead(self) -> None:
        """Foretell, keep what was foretold, and hold old exams back while a new one would be late."""
        ahead = await self.forecasts()

        def keep(tx: Tx) -> None:
            now = self._clock.now()
            for tenant, found in ahead.items():
                pace.predict(tx, tenant=tenant, found=found, now=now)

        await self._store.write(keep)
        self._is_pressed = any(found.late[JobClass.P1] for found in ahead.values())

    async def _sleep(self) -> None:
        now = self._clock.now()
        try:
            due = await self._store.read(lambda tx: jobs.next_due(tx, now=now))
        except Unavailable as error:  # a server that is away: look again at the usual pace (F16)
            _log.warning("outbox-store-unavailable", code=error.code)
            due = None
        idle_s = self._settings.idle_s
        wait_s = idle_s if due is None else min(idle_s, max((due - now).total_seconds(), 0.001))
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _nudge_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.nudge()

    # ── one job ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _carry(self, job: Job) -> None:
        verdict, wait_s = Verdict.NEUTRAL, None
        is_call = job.state is not State.SETTLING
        try:
            if job.state is State.LEASED:
                leased = job
                sent = await self._persist(lambda tx: jobs.attempt(tx, leased, now=self._clock.now()))
                if sent is None:
                    self._report_dropped(job, "attempt")
                    return
                crash_point("attempt-committed")
                job = sent
            began = self._clock.monotonic()
            answer = await self._ask(job)
            busy_s = self._clock.monotonic() - began if is_call else 0.0
            verdict, wait_s = _VERDICTS.get(answer.event, Verdict.SUCCESS), answer.retry_after_s
            if is_exhausted(answer, job, self._settings.retry):
                answer = Answer(event=Event.REFUSED, reason="tries-exhausted", detail=answer.reason)
            await self._conclude(job, answer, busy_s)
        finally:
            self._held.discard(job.job_id)
            if not is_call:
                self._settling[job.kind] -= 1
            else:
                endpoint = self._endpoints[job.kind]
                if self.breakers[endpoint].end(verdict, self._clock.monotonic(), wait_s=wait_s):
                    self._returned.add(endpoint)
            self.nudge()

    async def _ask(self, job: Job) -> Answer:
        """The kind's answer, or what its silence or its defect amounts to."""
        kind = self._kinds[job.kind]
        call = {State.SETTLING: kind.settle, State.SENT: kind.send}.get(job.state, kind.query)
        try:
            async with asyncio.timeout(self._settings.call_s):
                answer = await call(job)
        except TimeoutError:
            _log.warning("outbox-call-silent", **_names(job), state=job.state.value)
            return Answer(event=_ON_SILENCE[job.state], reason="no-answer-in-time")
        except Unavailable as error:  # the kind could not read the store: silence, not a defect (F16)
            _log.warning("outbox-call-unavailable", **_names(job), state=job.state.value, code=error.code)
            return Answer(event=_ON_SILENCE[job.state], reason=error.code)
        except Exception as error:  # noqa: BLE001 - supervision edge: a defect of a kind becomes a state people see
            return self._internal_fault(job, error)
        if answer.event not in ANSWERS[job.state]:
            return self._internal_fault(job, _foreign_answer(job, answer))
        return answer

    async def _conclude(self, job: Job, answer: Answer, busy_s: float) -> None:
        stage = {State.SETTLING: "settle", State.SENT: "answer"}.get(job.state, "query")
        crash_point("answer-received" if job.state is State.SENT else f"{stage}-before-commit")
        try:
            state = await self._commit(job, answer, busy_s)
        except Exception as error:  # noqa: BLE001 - supervision edge: the effects failed, so the answer did not happen
            state = await self._commit(job, self._internal_fault(job, error), busy_s)
        crash_point("outcome-committed" if job.state is State.SENT else f"{stage}-committed")
        if state is None:
            self._report_dropped(job, answer.event.value)
        elif state in _TELLING and (state is not job.state or answer.reason != job.reason):
            tell = _log.info if state is State.PUBLISHED else _log.warning
            tell("job-state", **_names(job), state=state.value, reason=answer.reason, detail=answer.detail)
        elif state is State.DEAD:
            _log.error("outbox-job-dead", **_names(job), code=answer.reason)

    async def _commit(self, job: Job, answer: Answer, busy_s: float) -> State | None:
        now = self._clock.now()
        due = not_before(answer, job, now=now, rng=self._rng, settings=self._settings.retry)
        return await self._persist(lambda tx: jobs.apply(tx, job, answer, now=now, not_before=due, busy_s=busy_s))

    async def _persist(self, work: Callable[[Tx], _T]) -> _T:
        """Commit, also when the waiter is cancelled meanwhile; a store that is only full now is tried again."""
        while True:
            try:
                return await _kept(self._store.write(work))
            except Unavailable as error:
                _log.warning("outbox-store-unavailable", code=error.code)
                await asyncio.sleep(self._settings.idle_s)

    def _internal_fault(self, job: Job, error: Exception) -> Answer:
        """What a defect amounts to. A ``Fault`` speaks for itself; any other text might quote a patient."""
        what = str(error) if isinstance(error, Fault) else type(error).__name__
        _log.error("outbox-internal-fault", **_names(job), state=job.state.value, error=what, at=_place(error))
        return Answer(event=_ON_FAULT[job.state], reason="internal-fault", detail=what)

    def _report_dropped(self, job: Job, event: str) -> None:
        """Somebody else changed the job meanwhile: our view of it is void (I8)."""
        _log.warning("outbox-answer-dropped", **_names(job), epoch=job.epoch, event_dropped=event)


async def _kept(write: Coroutine[None, None, _T]) -> _T:
    """Finish a commit even when its waiter is cancelled: an outcome that is known must not be forgotten."""
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        if not writing.cancelled():
            writing.exception()  # seen: the cancellation counts, and an unsaved outcome is what a crash leaves
        raise


def _names(job: Job) -> dict[str, str | int]:
    return {"tenant": job.tenant, "lane": job.lane, "kind": job.kind, "job_id": job.job_id}


def _place(error: Exception) -> str:
    """File and line of the innermost frame: where to look, without the values that were there."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _foreign_answer(job: Job, answer: Answer) -> Broken:
    return Broken(
        f"the kind {job.kind} answered {answer.event!r} to a job in {job.state}",
        code="impossible-answer",
        hint="this is a defect of the kind: report it",
    )
