"""A run of reconciliation, and what a restored database needs before it publishes again.

Invariants:

* a run can be taken up where it stopped: its cursor is written once the effects of a batch are, and a batch that is
  looked at again finds them done (reliability §6);
* a transaction holds one batch (``BATCH`` exams) and no waiting; every effect goes through the exam's lane;
* withdrawals wait until the run has seen everything; more than a person let it withdraws nothing and stops;
* a second run on an unchanged world changes nothing (I19).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial

from indexer import publication, withdrawal
from indexer.ports import StudyCalendar
from indexer.reconciliation import rows
from indexer.reconciliation.decision import NOT_REPORTED, Action, Shown, Verdict, is_mass, judge
from indexer.reconciliation.look import Lookout, Picture
from indexer.reconciliation.rows import Drift, Run, Window
from indexer.study import Unknown
from security.crash import crash_point
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import Answer, Job, JobClass, JobKind
from security.outbox.states import Event
from security.store.port import Tx

BATCH = 50
ACTOR = "reconciliation"
DAY_UNKNOWN = "day-unknown"
"""Case of a day that a PACS did not list cleanly."""
_AGAIN_MAX = 3
"""Looks at one exam within one batch: an adopted entry may ask for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a run may withdraw by itself, and what is kept of it. ``number_max``: exams; ``share_max``: of those
    it looked at; ``kept``, ``runs_max``: for how long, and of how many runs."""

    number_max: int = 20
    share_max: float = 0.01
    kept: timedelta = timedelta(days=400)
    runs_max: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run found. ``state``: ``done``, or ``stopped`` before a mass withdrawal. ``asked``: questions by
    ``pacs`` and ``index``. ``changed``: effects carried out."""

    tenant: str
    state: str
    looked_at: int
    counts: Mapping[str, int]
    drift: tuple[Drift, ...]
    asked: Mapping[str, int]
    seconds: float

    @property
    def changed(self) -> int:
        return sum(one.is_done for one in self.drift)


class Reconciler:
    """Reconciles one tenant. ``calendars``: every PACS, as one that lists days. ``nudge``: there may be work."""

    def __init__(
        self,
        lookout: Lookout,
        calendars: Sequence[StudyCalendar],
        bounds: Bounds,
        *,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self.lookout = lookout
        self._store = lookout.store
        self._clock = lookout.clock
        self._tenant = lookout.policy.tenant
        self._calendars = calendars
        self._bounds = bounds
        self._nudge = nudge
        self._running = asyncio.Lock()

    async def run(
        self,
        window: Window | None,
        *,
        withdraw_up_to: int | None = None,
        unseen_for: timedelta | None = None,
        progress: Callable[[str], None] = lambda _told: None,
    ) -> Report:
        """One run, or the rest of the one that was cut short. ``withdraw_up_to``: withdrawals a person has seen and
        accepts, instead of the tenant's bounds. ``unseen_for``: exams beside the window that no run looked at for as
        long are looked at too."""
        async with self._running:
            began, asked = self._clock.monotonic(), dict(self.lookout.asked)
            now = self._clock.now()
            run = await self._store.write(lambda tx: rows.begin(tx, self._tenant, window, now=now))
            if run.state == "days":
                run = await self._days(run, progress)
            if run.state == "exams":
                run = await self._exams(run, progress, unseen_for)
            state = await self._withdrawals(run, withdraw_up_to)
            self._nudge()
            drift = await self._store.read(lambda tx: rows.findings(tx, run.run_id))
            return _report(
                run,
                state,
                drift,
                asked={peer: number - asked[peer] for peer, number in self.lookout.asked.items()},
                seconds=self._clock.monotonic() - began,
            )

    # -- the PACS, day by day ----------------------------------------------------------------------------------

    async def _days(self, run: Run, progress: Callable[[str], None]) -> Run:
        assert run.window is not None, "only a run with a window begins with days"
        day, last = date.fromisoformat(run.cursor), run.window.widened.last
        while day <= last:
            progress(day.isoformat())
            lists = await asyncio.gather(*(calendar.studies_on(day) for calendar in self._calendars))
            self.lookout.asked["pacs"] += len(lists)
            is_known = not any(isinstance(one, Unknown) for one in lists)
            studies = list(dict.fromkeys(s.uid for one in lists if not isinstance(one, Unknown) for s in one))
            parts = [studies[n : n + BATCH] for n in range(0, len(studies), BATCH)] or [[]]
            for part in parts:
                await self._store.write(partial(self._listed, run=run, day=day, studies=part))
            after = day + timedelta(days=1)
            await self._store.write(partial(self._day_done, run=run, day=day, after=after, is_known=is_known))
            day = after
        await self._store.write(
            lambda tx: rows.advance(tx, run.run_id, state="exams", cursor="", looked_at=run.looked_at)
        )
        return _at(run, "exams", "")

    def _listed(self, tx: Tx, *, run: Run, day: date, studies: Sequence[Uid]) -> None:
        for study in studies:
            if not rows.listed_on(tx, self._tenant, study, f"{day:%Y%m%d}"):
                found = Drift(study=study, case=NOT_REPORTED, action=Action.LEAVE.value, is_done=False)
                rows.note(tx, run.run_id, found)

    @staticmethod
    def _day_done(tx: Tx, *, run: Run, day: date, after: date, is_known: bool) -> None:
        if not is_known:
            found = Drift(study=f"day:{day}", case=DAY_UNKNOWN, action=Action.LEAVE.value, is_done=False)
            rows.note(tx, run.run_id, found)
        rows.advance(tx, run.run_id, state="days", cursor=after.isoformat(), looked_at=run.looked_at)

    # -- the exams, in their order -----------------------------------------------------------------------------

    async def _exams(self, run: Run, progress: Callable[[str], None], unseen_for: timedelta | None) -> Run:
        while studies := await self._store.read(
            partial(rows.next_exams, run=run, limit=BATCH, unseen_for=unseen_for)
        ):
            rest = [Uid(study) for study in studies]
            for _ in range(_AGAIN_MAX):
                if not rest:
                    break
                seen = [(picture, judge(picture.facts)) for picture in await self.lookout.look(rest)]
                await self._store.write(partial(self._carry_out, run=run, seen=seen))
                crash_point("reconcile-carried-out")
                rest = [picture.study for picture, verdict in seen if verdict.action is Action.ADOPT]
            run = _at(run, "exams", studies[-1], looked_at=run.looked_at + len(studies))
            await self._store.write(
                partial(rows.advance, run_id=run.run_id, state="exams", cursor=run.cursor, looked_at=run.looked_at)
            )
            crash_point("reconcile-advanced")
            progress(str(run.looked_at))
            self._nudge()
        await self._store.write(
            lambda tx: rows.advance(tx, run.run_id, state="withdrawals", cursor="", looked_at=run.looked_at)
        )
        return _at(run, "withdrawals", "")

    def _carry_out(self, tx: Tx, *, run: Run, seen: Sequence[tuple[Picture, Verdict]]) -> None:
        for picture, verdict in seen:
            self.remember(tx, picture, verdict)
            is_done = self._effect(tx, picture, verdict)
            if verdict.case != "in-step":
                found = Drift(study=picture.study, case=verdict.case, action=verdict.action.value, is_done=is_done)
                rows.note(tx, run.run_id, found)

    def _effect(self, tx: Tx, picture: Picture, verdict: Verdict) -> bool:
        """Carry the verdict out, unless its lane began to work since; whether anything was changed."""
        if verdict.action in {Action.LEAVE, Action.WITHDRAW, Action.REMEMBER_ABSENCE} or self._has_moved(tx, picture):
            return False
        match verdict.action:
            case Action.ADOPT:
                self.lookout.adopt(tx, picture)
            case Action.MARK_WITHDRAWN:
                self.lookout.mark_withdrawn(tx, picture)
            case _:
                self.lookout.note(tx, picture.study, "reconciled", f"{verdict.case}: {verdict.why}")
                jobs.enqueue(
                    tx,
                    tenant=self._tenant,
                    lane=picture.study,
                    kind=publication.job_kind(self._tenant),
                    job_class=JobClass.P2,
                    now=self._clock.now(),
                    actor=ACTOR,
                )
        return True

    def _has_moved(self, tx: Tx, picture: Picture) -> bool:
        """Whether the exam is no longer as it was looked at: its lane, its reports or its newest entry."""
        return self.lookout.is_changed(tx, picture)

    def remember(self, tx: Tx, picture: Picture, verdict: Verdict) -> None:
        """Keep what the look learnt of the exam, where it learnt anything."""
        is_gone = picture.facts.pacs.value == "absent"
        since = picture.facts.absent_since
        if verdict.action is Action.REMEMBER_ABSENCE:
            since = picture.facts.now
        elif picture.content is not None or not (is_gone or picture.facts.pacs.value in {"unknown", "unproven"}):
            since = None  # it is there again
        searched = picture.facts.now if picture.is_searched and verdict.case != "adoption-waits" else None
        rows.remember(
            tx,
            self._tenant,
            picture.study,
            day=picture.day,
            absent_since=since,
            searched_at=searched,
            looked_at=None if picture.facts.pacs.value in {"unknown", "unproven"} else picture.facts.now,
        )

    # -- withdrawals, once their number is known ---------------------------------------------------------------

    async def _withdrawals(self, run: Run, withdraw_up_to: int | None) -> str:
        drift = await self._store.read(lambda tx: rows.findings(tx, run.run_id))
        wanted = [one for one in drift if one.action == Action.WITHDRAW.value and not one.is_done]
        if self._is_mass(len(wanted), run.looked_at, withdraw_up_to):
            await self._end(run, "stopped")
            return "stopped"
        for one in wanted:
            (picture,) = await self.lookout.look([Uid(one.study)])
            verdict = judge(picture.facts)
            if verdict.action is Action.WITHDRAW:
                await self._store.write(partial(self._withdraw, run=run, picture=picture, verdict=verdict))
                crash_point("reconcile-withdrawn")
        await self._end(run, "done")
        return "done"

    def _is_mass(self, wanted: int, looked_at: int, withdraw_up_to: int | None) -> bool:
        if withdraw_up_to is not None:
            return wanted > withdraw_up_to
        bounds = self._bounds
        return is_mass(wanted, looked_at, number_max=bounds.number_max, share_max=bounds.share_max)

    async def _end(self, run: Run, state: str) -> None:
        now, bounds = self._clock.now(), self._bounds

        def end(tx: Tx) -> None:
            rows.advance(tx, run.run_id, state=state, cursor="", looked_at=run.looked_at, ended_at=now)
            rows.prune(tx, self._tenant, before=now - bounds.kept, runs_max=bounds.runs_max)

        await self._store.write(end)

    def _withdraw(self, tx: Tx, *, run: Run, picture: Picture, verdict: Verdict) -> None:
        if self._has_moved(tx, picture):
            return
        now = self._clock.now()
        if picture.facts.is_withdrawn and picture.entry is not None:
            self.lookout.ledger.add_entry(
                tx, self._tenant, picture.study, version=picture.version, entry=picture.entry, now=now
            )
        withdrawal.request(
            tx,
            self.lookout.ledger,
            tenant=self._tenant,
            study=picture.study,
            actor=ACTOR,
            reason=verdict.why,
            now=now,
        )
        rows.note(
            tx,
            run.run_id,
            Drift(study=picture.study, case=verdict.case, action=verdict.action.value, is_done=True),
        )


class AfterRestore:
    """A kind of job that first adopts what a restored database forgot of the study (F22): nothing is published beside
    an entry of ours, a withdrawal finds the entry that is approved now, and what was ready when the copy was made is
    not sent once the index holds what came after it. Otherwise the kind itself."""

    def __init__(self, kind: JobKind, reconciler: Reconciler) -> None:
        self.name = kind.name
        self.endpoint = kind.endpoint
        self.send = kind.send
        self._kind = kind
        self._reconciler = reconciler

    async def settle(self, job: Job) -> Answer:
        """As the kind settles, once the index was searched for what it holds about the study."""
        picture = await self._searched(job)
        if picture is not None:
            if waiting := self._waiting(job, picture):
                return waiting
            await self._reconciler.lookout.store.write(partial(self._adopt, picture=picture))
        return await self._kind.settle(job)

    async def query(self, job: Job) -> Answer:
        """As the kind asks, once the index was searched: what it holds of ours that came after this job and was
        forgotten makes the job void, and another of its kind decides anew."""
        picture = await self._searched(job)
        if picture is not None:
            if waiting := self._waiting(job, picture):
                return replace(waiting, event=Event.UNCLEAR)
            is_gone = picture.facts.shown is Shown.DELETED and job.kind == publication.job_kind(job.tenant)
            if picture.facts.shown is Shown.AHEAD or is_gone:
                return Answer(
                    event=Event.OUTDATED,
                    reason="restored-behind",
                    detail="the index shows what was done after the backup",
                    effects=partial(self._outdated, job=job, picture=picture),
                )
            await self._reconciler.lookout.store.write(partial(self._adopt, picture=picture))
        return await self._kind.query(job)

    async def _searched(self, job: Job) -> Picture | None:
        """What the index holds of the study, None when no search is due."""
        lookout, study = self._reconciler.lookout, Uid(job.lane)
        due, is_trial = await lookout.store.read(
            lambda tx: (
                rows.memory(tx, job.tenant, study).is_search_due,
                lookout.ledger.is_trial(tx, job.tenant, study),
            )
        )
        return None if not due or is_trial or lookout.policy.mode == "shadow" else await lookout.seen(study)

    def _waiting(self, job: Job, picture: Picture) -> Answer | None:
        """Why nothing may be concluded yet, None when it may."""
        lookout, facts = self._reconciler.lookout, picture.facts
        if facts.shown is Shown.UNKNOWN:
            reason, detail = "index-unknown", "the index did not tell what it holds of the study"
        elif facts.shown is Shown.AHEAD and not facts.can_adopt:
            reason, detail = "adoption-waits", "the index shows a forgotten entry, and the PACS does not tell what of"
        else:
            return None
        told = f"the database was restored: {detail}"
        return lookout.policy.patience.again(job, reason=reason, detail=told, now=lookout.clock.now())

    def _outdated(self, tx: Tx, *, job: Job, picture: Picture) -> None:
        lookout = self._reconciler.lookout
        self._learn(tx, picture)
        jobs.enqueue(
            tx,
            tenant=job.tenant,
            lane=job.lane,
            kind=job.kind,
            job_class=job.job_class,
            now=lookout.clock.now(),
            actor=ACTOR,
        )

    def _adopt(self, tx: Tx, *, picture: Picture) -> None:
        lookout = self._reconciler.lookout
        if lookout.is_changed(tx, picture):
            return
        self._learn(tx, picture)

    def _learn(self, tx: Tx, picture: Picture) -> None:
        lookout = self._reconciler.lookout
        if picture.facts.shown is Shown.AHEAD:
            lookout.adopt(tx, picture)
        elif picture.facts.shown is Shown.DELETED and not picture.facts.is_withdrawn:
            lookout.mark_withdrawn(tx, picture)
        rows.remember(
            tx,
            lookout.policy.tenant,
            picture.study,
            day=picture.day,
            absent_since=picture.facts.absent_since,
            searched_at=picture.facts.now if picture.is_searched else None,
        )


def _at(run: Run, state: str, cursor: str, *, looked_at: int | None = None) -> Run:
    return Run(
        run_id=run.run_id,
        tenant=run.tenant,
        window=run.window,
        started_at=run.started_at,
        state=state,
        cursor=cursor,
        looked_at=run.looked_at if looked_at is None else looked_at,
    )


def _report(run: Run, state: str, drift: Sequence[Drift], *, asked: Mapping[str, int], seconds: float) -> Report:
    counts = Counter(one.case for one in drift)
    other = {one.study for one in drift if one.case not in {NOT_REPORTED, DAY_UNKNOWN}}
    counts["in-step"] = run.looked_at - len(other)
    return Report(
        tenant=run.tenant,
        state=state,
        looked_at=run.looked_at,
        counts=dict(counts),
        drift=tuple(drift),
        asked=asked,
        seconds=seconds,
    )
