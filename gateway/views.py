"""What ``poterne exam`` and ``poterne queue`` print: read-only, from the database alone, also while the gateway
runs. No patient value is printed: the sealed ones stay sealed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer

from gateway.components import COMPONENTS
from gateway.settings import Settings
from indexer import timeline
from indexer.ledger import evidence_of, tenants_of
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import Job
from security.outbox.states import State
from security.store.port import ReadTx
from security.store.sqlite import SqliteStore


@asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(settings.gateway_store().path, COMPONENTS, read_only=True)
    try:
        yield store
    finally:
        await store.close()


def read_exam(tx: ReadTx, tenant: str, study: str) -> timeline.Exam:
    """One exam as people see it."""
    return timeline.compose(
        study,
        evidence_of(tx, tenant, study),
        jobs.lane_jobs(tx, tenant=tenant, lane=study),
        jobs.lane_history(tx, tenant=tenant, lane=study),
    )


async def exam(settings: Settings, study_uid: str, *, tenant: str, as_json: bool) -> int:
    """Print one exam's timeline; 1 when no tenant knows the study."""
    study = str(Uid(study_uid))
    async with _reading(settings) as store:
        tenants = [tenant] if tenant else await store.read(lambda tx: tenants_of(tx, study))
        if len(tenants) > 1:
            typer.echo(
                f"{study} is known to several tenants: {', '.join(tenants)} → name one with --tenant", err=True
            )
            return 2
        seen = await store.read(lambda tx: read_exam(tx, tenants[0], study)) if tenants else None
    if tenant and (seen is None or not seen.steps):
        async with _reading(settings) as store:
            others = await store.read(lambda tx: tenants_of(tx, study))
        if others:
            typer.echo(f"tenant {tenant} does not know {study}; {', '.join(others)} does", err=True)
            return 1
    if seen is None or not seen.steps:
        typer.echo(f"{study}: no report has spoken of this study → check the StudyInstanceUID and the RIS", err=True)
        return 1
    typer.echo(json.dumps(_plain(asdict(seen)), ensure_ascii=False) if as_json else exam_text(seen))
    return 0


def exam_text(seen: timeline.Exam) -> str:
    """The timeline as lines for a terminal."""
    lines = [f"{seen.study}  {seen.state.upper()}" + (f"  ({seen.reason})" if seen.reason else "")]
    start = seen.steps[0].at
    lines += [
        f"  {step.at:%Y-%m-%d %H:%M:%S}  +{(step.at - start).total_seconds():7.3f} s  {step.what:<18} {step.detail}"
        for step in seen.steps
    ]
    if seen.missing:
        lines.append(f"  missing: {seen.missing}")
    if seen.next_try:
        lines.append(f"  next try: {seen.next_try:%Y-%m-%d %H:%M:%S} UTC")
    return "\n".join("".join(c if c.isprintable() else "�" for c in line).rstrip() for line in lines)


async def queue(settings: Settings, *, as_json: bool) -> int:
    """Print the queue: how many exams in each state, and each unfinished one with its reason."""
    async with _reading(settings) as store:
        open_jobs = await store.read(jobs.open_jobs)
        counted = await store.read(jobs.snapshot)
    counts = Counter[str]()
    for (_, state), number in counted.counts.items():
        counts[state.value] += number
    if as_json:
        typer.echo(
            json.dumps(
                _plain({"jobs": dict(counts), "open": [_open_row(job) for job in open_jobs]}), ensure_ascii=False
            )
        )
        return 0
    exams = Counter(timeline.EXAM_STATE[job.state].value for job in open_jobs)
    indexed = counts.get(State.PUBLISHED, 0)
    typer.echo("  ".join(f"{state} {number}" for state, number in sorted(exams.items())) or "nothing is waiting")
    typer.echo(f"published so far: {indexed}")
    now = datetime.now(UTC)
    for job in open_jobs:
        age_s = (now - job.accepted_at).total_seconds()
        due = f", next try {job.not_before:%H:%M:%S} UTC" if job.not_before else ""
        stands = timeline.EXAM_STATE[job.state]
        typer.echo(f"  {job.tenant}  {job.lane}  {stands:<8} {job.reason:<28} since {age_s:,.0f} s{due}")
    return 0


def _open_row(job: Job) -> dict[str, Any]:
    return {
        "tenant": job.tenant,
        "study": job.lane,
        "exam_state": timeline.EXAM_STATE[job.state].value,
        "job_state": job.state.value,
        "reason": job.reason,
        "attempts": job.attempts,
        "accepted_at": job.accepted_at,
        "next_try": job.not_before,
    }


def _plain(value: Any) -> Any:
    """Aware times as ISO 8601, the rest as it is."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
