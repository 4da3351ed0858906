"""What shadow mode would have sent: exams that are ready and wait for the tenant to go live. Rows in, values out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from indexer.exams import LIMIT_MAX, Line, Wanted, find
from indexer.ledger import evidence_of
from indexer.timeline import SHADOW, ExamState, deciding_job, is_withdrawal
from security.outbox import jobs
from security.outbox.port import Job
from security.store.port import ReadTx


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """One exam that would have been published. ``document_bytes``: of its manifest; ``seconds``: from the report that
    asked for it to ready; ``warnings``: what the gate only warns of, values masked."""

    study: str
    series: int
    instances: int
    document_bytes: int
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowReport:
    """What became of the exams that changed since a moment. ``held``, ``waiting``, ``failed``: exams by reason."""

    tenant: str
    since: datetime
    ready: tuple[Ready, ...]
    held: Mapping[str, int]
    waiting: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def series(self) -> int:
        """Series of every exam that would have been published."""
        return sum(one.series for one in self.ready)

    @property
    def instances(self) -> int:
        """Instances of every exam that would have been published."""
        return sum(one.instances for one in self.ready)

    @property
    def document_bytes(self) -> int:
        """Bytes of every manifest that would have been sent."""
        return sum(one.document_bytes for one in self.ready)


def shadow_report(tx: ReadTx, tenant: str, since: datetime) -> ShadowReport:
    """What the tenant would have published of the exams that changed since, oldest first; why not the rest."""
    reasons: dict[ExamState, Counter[str]] = {
        state: Counter() for state in (ExamState.HELD, ExamState.WAITING, ExamState.FAILED)
    }
    ready: list[Ready] = []
    for state, by_reason in reasons.items():
        for line in _all(tx, Wanted(tenant=tenant, state=state, since=since, limit=LIMIT_MAX)):
            job = deciding_job(jobs.lane_jobs(tx, tenant=tenant, lane=line.study)) if line.reason == SHADOW else None
            if job and not is_withdrawal(job.kind):
                ready.append(_ready(tx, line, job))
            else:
                by_reason[line.reason] += 1
    return ShadowReport(
        tenant=tenant,
        since=since,
        ready=tuple(reversed(ready)),
        held=dict(reasons[ExamState.HELD]),
        waiting=dict(reasons[ExamState.WAITING]),
        failed=dict(reasons[ExamState.FAILED]),
    )


def _all(tx: ReadTx, wanted: Wanted) -> Iterator[Line]:
    while True:
        page = find(tx, wanted)
        yield from page.lines
        if not page.next:
            return
        wanted = replace(wanted, before=page.next)


def _ready(tx: ReadTx, line: Line, job: Job) -> Ready:
    built = tx.rows(
        "SELECT series, instances, document_bytes FROM manifest"
        " WHERE tenant = :tenant AND job_id = :job_id ORDER BY version DESC LIMIT 1",
        tenant=line.tenant,
        job_id=job.job_id,
    )
    row = built[0] if built else {"series": 0, "instances": 0, "document_bytes": 0}
    warned = [
        one.summary
        for one in evidence_of(tx, line.tenant, line.study)
        if one.kind == "identity-warning" and one.at >= job.accepted_at
    ]
    return Ready(
        study=line.study,
        series=row["series"],
        instances=row["instances"],
        document_bytes=row["document_bytes"],
        seconds=(line.changed_at - job.accepted_at).total_seconds(),
        warnings=tuple(dict.fromkeys(warned)),
    )
