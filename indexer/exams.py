"""Exams as people look for them: how many stand where, and the list, newest first, page by page.

Reads only; the state of an exam is read off its lane, as everywhere (``indexer.timeline``). An exam of which nothing
is left to do and of which nobody outside ever heard is in no list; asked by name it is found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from indexer import questions, timeline
from indexer.ledger import evidence_of
from indexer.timeline import EXAM_STATE, OVER, SHADOW, ExamState, deciding_job, exam_state, is_withdrawal, missing
from security.clock import to_ms
from security.errors import BadInput
from security.outbox import jobs, lanes
from security.outbox.states import State
from security.store.port import ReadTx

LIMIT_MAX = 500
_CURSOR = re.compile(r"[0-9]{1,18}-[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which exams. ``""`` and None: any. ``since`` (included) and ``until`` (not): when the exam last changed.
    ``before``: cursor of the page before (``Page.next``)."""

    tenant: str = ""
    state: ExamState | None = None
    reason: str = ""
    study: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One exam in a list, without patient values."""

    tenant: str
    study: str
    state: ExamState
    reason: str
    missing: str
    changed_at: datetime
    next_try: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page. ``next``: cursor of the following one, "" at the end."""

    lines: tuple[Line, ...]
    next: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Exams by state and, for those that wait, are held or failed, by reason."""

    by_state: Mapping[ExamState, int]
    by_reason: Mapping[tuple[ExamState, str], int]


def counts(tx: ReadTx, tenant: str) -> Counts:
    """How many exams stand where. ``tenant``: "" for all of them."""
    by_state, by_reason = Counter[ExamState](), Counter[tuple[ExamState, str]]()
    for name in [tenant] if tenant else lanes.tenants(tx):
        usual = next((kind for kind in lanes.kinds(tx, name) if not is_withdrawal(kind)), "")
        for (state, label), number in lanes.counts(tx, name, usual=usual).items():
            stands = _exam_state(state, label)
            by_state[stands] += number
            if stands not in OVER:
                by_reason[stands, label] += number
    return Counts(by_state=dict(by_state), by_reason=dict(by_reason))


def one(tx: ReadTx, tenant: str, study: str) -> timeline.Exam:
    """One exam with its timeline; without a step when nobody knows it."""
    return timeline.compose(
        study,
        evidence_of(tx, tenant, study),
        jobs.lane_jobs(tx, tenant=tenant, lane=study),
        jobs.lane_history(tx, tenant=tenant, lane=study),
        questions.answers(tx, tenant, study),
    )


def find(tx: ReadTx, wanted: Wanted) -> Page:
    """One page of what is wanted.

    Raises:
        BadInput: ``bad-cursor``.
    """
    limit = max(1, min(wanted.limit, LIMIT_MAX))
    span = lanes.Span.of(wanted.since, wanted.until, _cursor(wanted.before))
    if wanted.study:
        found = list(_one(tx, wanted, span))
    else:
        found = lanes.newest(tx, _slices(tx, wanted), span, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        lines=tuple(_line(one) for one in found[:limit]),
        next=f"{to_ms(last.changed_at)}-{last.job.job_id}" if last else "",
    )


def _slices(tx: ReadTx, wanted: Wanted) -> Iterator[lanes.Slice]:
    """The runs of jobs that can hold what is wanted."""
    for tenant in [wanted.tenant] if wanted.tenant else lanes.tenants(tx):
        for state in lanes.OPEN:
            if wanted.state and wanted.state not in {EXAM_STATE[state], _exam_state(state, SHADOW)}:
                continue
            for reason in [wanted.reason] if wanted.reason else lanes.reasons(tx, tenant, state):
                if wanted.state in {None, _exam_state(state, reason)}:
                    yield lanes.Slice(tenant=tenant, state=state, label=reason)
        for kind in [] if wanted.reason else lanes.kinds(tx, tenant):
            if wanted.state in {None, _exam_state(State.PUBLISHED, kind)}:
                yield lanes.Slice(tenant=tenant, state=State.PUBLISHED, label=kind)


def _one(tx: ReadTx, wanted: Wanted, span: lanes.Span) -> Iterator[lanes.Speaking]:
    """The exam of that name in each tenant, if it is as wanted."""
    for tenant in [wanted.tenant] if wanted.tenant else lanes.tenants(tx):
        in_lane = lanes.of_lane(tx, tenant, wanted.study)
        speaking = deciding_job([one.job for one in in_lane])
        for one in in_lane[-1:] if speaking is None else [o for o in in_lane if o.job is speaking]:
            line = _line(one)
            if wanted.state in {None, line.state} and wanted.reason in {"", line.reason} and span.holds(one):
                yield one


def _line(one: lanes.Speaking) -> Line:
    job = one.job
    state = ExamState.WAITING if job.state not in EXAM_STATE else exam_state(job)
    waits = state not in OVER
    return Line(
        tenant=job.tenant,
        study=job.lane,
        state=state,
        reason=job.reason if waits else "",
        missing=missing(job.reason) if waits else "",
        changed_at=one.changed_at,
        next_try=job.not_before if waits and state is not ExamState.HELD else None,
        deadline=job.deadline if waits else None,
    )


def _exam_state(state: State, label: str) -> ExamState:
    """The exam state of lanes by what ``lanes`` tells of them: a reason, or the kind of what was published."""
    if state is State.PUBLISHED:
        return ExamState.WITHDRAWN if is_withdrawal(label) else ExamState.INDEXED
    return ExamState.WAITING if state is State.BLOCKED and label == SHADOW else EXAM_STATE[state]


def _cursor(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    if not _CURSOR.fullmatch(text):
        raise BadInput("not a cursor of this list", code="bad-cursor", hint="begin again at the first page")
    at, job_id = text.split("-")
    return int(at), int(job_id)
