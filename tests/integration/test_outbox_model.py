"""Lanes and versions as a state machine: whatever order people, kinds and deaths come in, the laws hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import apsw
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from security.errors import Refused
from security.outbox import jobs
from security.outbox.port import Answer, Job, JobClass
from security.outbox.states import ANSWERS, IN_FLIGHT, TERMINAL, Event, State
from security.store.port import Row
from tests.integration.outbox_lab import NOON, SITE, InlineTx, open_store

KINDS = {"publication": "index", "notice": "other"}
SETTLED = st.sampled_from([Event.PREPARED] * 4 + sorted(ANSWERS[State.SETTLING]))
SENT = st.sampled_from([None, None, Event.AMBIGUOUS, *sorted(ANSWERS[State.SENT])])
QUERIED = st.sampled_from(sorted(ANSWERS[State.UNKNOWN]))
KIND_NAMES = ["publication", "publication", "notice"]
PERMITS = {"index": 9, "other": 9}
SETTLES = dict.fromkeys(KIND_NAMES, 3)


def template() -> Path:
    """A database with every migration, made once."""
    path = Path(tempfile.mkdtemp(prefix="outbox-model-")) / "template.db"

    async def make() -> None:
        await (await open_store(path)).close()

    asyncio.run(make())
    return path


class Lanes(RuleBasedStateMachine):
    """Two lanes, two kinds, workers that answer late or never."""

    template: Path
    held = Bundle("held")

    @initialize()
    def open(self) -> None:
        copy = self.template.with_name("model.db")
        shutil.copy(self.template, copy)
        self.connection = apsw.Connection(str(copy))
        self.connection.pragma("synchronous", "OFF")
        self.tx = InlineTx(self.connection)
        self.now = NOON
        self.accepted = 0
        self.sent: dict[str, list[int]] = {}
        self.doubt: dict[int, str] = {}  # what we know of each job's bytes at the peer

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def rows(self) -> list[Row]:
        return self.tx.rows("SELECT * FROM outbox_job ORDER BY job_id")

    @rule(lane=st.sampled_from("ab"), kind=st.sampled_from(KIND_NAMES), job_class=st.sampled_from(JobClass))
    def accept(self, lane: str, kind: str, job_class: JobClass) -> None:
        jobs.enqueue(self.tx, tenant=SITE, lane=lane, kind=kind, job_class=job_class, now=self.now)
        self.accepted += 1

    @rule(target=held, rounds=st.integers(1, 4), settled=SETTLED, sent=SENT, queried=QUERIED)
    def work(self, rounds: int, settled: Event, sent: Event | None, queried: Event) -> object:
        """Workers claim, begin what is ready and answer; a send may also stay without its answer."""
        said = {State.SETTLING: settled, State.SENT: sent, State.UNKNOWN: queried, State.ACCEPTED: queried}
        seen: list[Job] = []
        for _ in range(rounds):
            claimed = jobs.claim(
                self.tx, owner="me", now=self.now, limit=3, kinds=KINDS, permits=PERMITS, spare=8, settles=SETTLES
            )
            begun = [self.begin(job) if job.state is State.LEASED else job for job in claimed]
            for job in begun:
                event = said[job.state]
                if event is not None:
                    self.answer(job, event, None)
            seen += [*claimed, *begun]
        return multiple(*seen)

    def begin(self, job: Job) -> Job:
        sent = jobs.attempt(self.tx, job, now=self.now)
        assert sent is not None
        self.sent.setdefault(job.lane, []).append(job.job_id)
        assert self.doubt.get(job.job_id, "absent") == "absent", "I9: sent again without a clean absence"
        self.doubt[job.job_id] = "open"
        return sent

    @rule(job=held, choice=st.integers(0, 99), wait_s=st.sampled_from([None, 5, 500]))
    def late_answer(self, job: Job, choice: int, wait_s: int | None) -> None:
        """Also long after the lease was lost, and more than once: only the current claim may change anything."""
        if job.state in ANSWERS:
            events = sorted(ANSWERS[job.state])
            self.answer(job, events[choice % len(events)], wait_s)

    def answer(self, job: Job, event: Event, wait_s: int | None) -> None:
        before = self.rows()
        is_current = any(row["job_id"] == job.job_id and row["lease_epoch"] == job.epoch for row in before)
        due = None if wait_s is None else self.now + timedelta(seconds=wait_s)
        after = jobs.apply(self.tx, job, Answer(event=event, reason="told"), now=self.now, not_before=due)
        assert (after is not None) is is_current, "I8"
        if not is_current:
            assert self.rows() == before, "I8"
        elif event in {Event.TRANSIENT, Event.REFUSED, Event.HELD, Event.ABSENT}:
            self.doubt[job.job_id] = "absent"

    @rule()
    def die(self) -> None:
        jobs.sweep(self.tx, now=self.now, held=(), deaths_max=3, wait_max=timedelta(hours=1))
        assert not self.tx.rows("SELECT job_id FROM outbox_job WHERE lease_owner IS NOT NULL")

    @rule(seconds=st.sampled_from([-7200, 1, 60, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(choice=st.integers(0, 99), gives_up=st.booleans())
    def person(self, choice: int, gives_up: bool) -> None:
        rows = self.rows()
        if not rows:
            return
        row = rows[choice % len(rows)]
        act = jobs.discard if gives_up else jobs.lift
        try:
            state = act(self.tx, tenant=SITE, job_id=row["job_id"], now=self.now, actor="operator", reason="told")
        except Refused:
            assert self.rows() == rows
        else:
            is_open = self.doubt.get(row["job_id"]) == "open"
            assert state is (State.CANCELLED if gives_up else State.UNKNOWN if is_open else State.SETTLING), "I9"

    @invariant()
    def the_states_add_up(self) -> None:
        figures = jobs.snapshot(self.tx)
        assert sum(figures.counts.values()) == figures.accepted == self.accepted, "I3"

    @invariant()
    def a_lane_has_one_job_in_flight_and_keeps_its_order(self) -> None:
        rows = self.rows()
        assert all(n == 1 for n in Counter(row["lane"] for row in rows if row["state"] in IN_FLIGHT).values()), "I4"
        for sent in self.sent.values():
            assert sent == sorted(sent), "I4"

    @invariant()
    def a_finished_job_never_comes_back(self) -> None:
        first_end: dict[int, str] = {}
        for row in self.tx.rows("SELECT job_id, to_state FROM outbox_history ORDER BY job_id, seq"):
            assert row["job_id"] not in first_end, row
            if row["to_state"] in TERMINAL:
                first_end[row["job_id"]] = row["to_state"]

    @invariant()
    def what_may_have_reached_the_peer_is_never_superseded(self) -> None:
        """But by the index itself, which shows what came after it (``outdated``, after a restore)."""
        told = self.tx.rows("SELECT job_id FROM outbox_history WHERE event = :event", event=Event.OUTDATED)
        gone = {row["job_id"] for row in self.rows() if row["state"] == State.SUPERSEDED}
        gone -= {row["job_id"] for row in told}
        assert not {job_id for job_id in gone if self.doubt.get(job_id) == "open"}

    @invariant()
    def unknown_becomes_ready_by_absence_only(self) -> None:
        ways = self.tx.rows(
            "SELECT DISTINCT event FROM outbox_history WHERE from_state = 'UNKNOWN' AND to_state = 'READY'"
        )
        assert [row["event"] for row in ways] in ([], [Event.ABSENT]), "I9"


def test_whatever_happens_in_whatever_order_the_laws_of_the_lane_hold() -> None:
    Lanes.template = template()
    try:
        machine = Lanes.TestCase
        machine.settings = settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        )
        machine("runTest").runTest()
    finally:
        shutil.rmtree(Lanes.template.parent)
