"""What was asked of which PACS about an exam, and the kind of its answer: a run of the same answer is one row.

Short facts without a patient: nothing of what a study holds is kept here but how much of it there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from indexer.ports import StudySource
from indexer.study import Absent, Found, StudyAnswer, Unknown
from security.clock import Clock, from_ms, to_ms
from security.identity import Uid
from security.store.port import ReadTx, Row, Tx

KEPT_MAX = 100
"""Runs of answers kept of one exam, the newest: a PACS that says now this, now that, fills nothing."""

Kind = Literal["found", "absent", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question and its answer. ``seconds``: how long it took."""

    pacs: str
    answer: StudyAnswer
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The same answer of one PACS, ``times`` times in a row. ``reason``: of unknown; ``series``, ``instances``: of
    found; ``seconds``: of the last question."""

    pacs: str
    kind: Kind
    reason: str
    series: int
    instances: int
    first_at: datetime
    last_at: datetime
    times: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreeing:
    """Several PACS hold the study, and not the same one."""

    names: tuple[str, ...]


async def ask(sources: Sequence[StudySource], study: Uid, clock: Clock) -> list[Asked]:
    """Ask every PACS at once."""

    async def one(source: StudySource) -> Asked:
        began = clock.monotonic()
        answer = await source.find(study)
        return Asked(pacs=source.name, answer=answer, seconds=clock.monotonic() - began)

    return list(await asyncio.gather(*map(one, sources)))


def combine(answers: Sequence[tuple[str, StudyAnswer]]) -> StudyAnswer | Disagreeing:
    """One answer from every PACS of the tenant. Only clean answers count, and those that hold the study must hold
    the same: a part of a study, or another patient's, is never published because one PACS was silent. An absence is
    proven when every PACS proved its own."""
    unknown = [(name, answer) for name, answer in answers if isinstance(answer, Unknown)]
    if unknown:
        name, first = unknown[0]
        return Unknown(reason=first.reason, detail=f"{name}: {first.detail}")
    found = [(name, answer) for name, answer in answers if isinstance(answer, Found)]
    if any(answer != found[0][1] for _, answer in found):
        return Disagreeing(names=tuple(name for name, _ in found))
    if found:
        return found[0][1]
    absent = [(name, answer) for name, answer in answers if isinstance(answer, Absent)]
    return Absent(
        evidence="; ".join(f"{name}: {answer.evidence}" for name, answer in absent),
        is_proven=bool(absent) and all(answer.is_proven for _, answer in absent),
    )


def note(tx: Tx, tenant: str, study: str, asked: Sequence[Asked], *, now: datetime) -> None:
    """Count what each answered, or add it where it is another answer than the one before."""
    for one in asked:
        kind, reason, series, instances = _facts(one.answer)
        told = {"kind": kind, "reason": reason, "series": series, "instances": instances}
        before = tx.row(
            "SELECT * FROM pacs_answer WHERE tenant = :tenant AND study_uid = :study AND pacs = :pacs"
            " ORDER BY answer_id DESC LIMIT 1",
            tenant=tenant,
            study=study,
            pacs=one.pacs,
        )
        duration_ms = round(one.seconds * 1000)
        if before is not None and all(before[name] == value for name, value in told.items()):
            tx.change(
                "UPDATE pacs_answer SET times = times + 1, last_at = :now, duration_ms = :duration"
                " WHERE answer_id = :answer",
                now=to_ms(now),
                duration=duration_ms,
                answer=before["answer_id"],
            )
            continue
        tx.change(
            "INSERT INTO pacs_answer (tenant, study_uid, pacs, kind, reason, series, instances, first_at, last_at,"
            " times, duration_ms) VALUES (:tenant, :study, :pacs, :kind, :reason, :series, :instances, :now, :now, 1,"
            " :duration)",
            tenant=tenant,
            study=study,
            pacs=one.pacs,
            kind=kind,
            reason=reason,
            series=series,
            instances=instances,
            now=to_ms(now),
            duration=duration_ms,
        )
        tx.change(
            "DELETE FROM pacs_answer WHERE tenant = :tenant AND study_uid = :study AND answer_id <= (SELECT answer_id"
            " FROM pacs_answer WHERE tenant = :tenant AND study_uid = :study ORDER BY answer_id DESC"
            " LIMIT 1 OFFSET :most)",
            tenant=tenant,
            study=study,
            most=KEPT_MAX,
        )


def answers(tx: ReadTx, tenant: str, study: str) -> list[Answered]:
    """What the PACS answered about the exam, oldest first."""
    rows = tx.rows(
        "SELECT * FROM pacs_answer WHERE tenant = :tenant AND study_uid = :study ORDER BY answer_id",
        tenant=tenant,
        study=study,
    )
    return [_answered(row) for row in rows]


def _answered(row: Row) -> Answered:
    return Answered(
        pacs=row["pacs"],
        kind=row["kind"],
        reason=row["reason"],
        series=row["series"],
        instances=row["instances"],
        first_at=from_ms(row["first_at"]),
        last_at=from_ms(row["last_at"]),
        times=row["times"],
        seconds=row["duration_ms"] / 1000,
    )


def _facts(answer: StudyAnswer) -> tuple[Kind, str, int, int]:
    match answer:
        case Found(study=study):
            return "found", "", len(study.series), sum(len(one.instances) for one in study.series)
        case Absent():
            return "absent", "", 0, 0
        case Unknown(reason=reason):
            return "unknown", reason, 0, 0
