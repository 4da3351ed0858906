"""The rows of exchanges: written with the outcome they led to, sealed, pruned by number and by age.

Invariants:

* a row commits with the answer that its exchange led to, or not at all;
* what is sealed is bound to its exam: one tenant's key gone, and all of it is gone;
* an exam keeps its newest exchanges, and none older than the days that were set.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from indexer import withdrawal
from indexer.exchanges.parts import Part, from_blob, join, split, to_blob
from indexer.ledger import Ledger
from indexer.ports import Submission
from indexer.timeline import is_withdrawal
from indexer.wire import Exchange
from security.clock import from_ms, to_ms
from security.outbox.port import Job
from security.store.port import ReadTx, Row, Tx

_TYPE_MAX, _TEXT_MAX = 200, 300
_PRUNED_AT_ONCE = 200
_LENGTH = 4
"""Bytes that say how long the request's parts are, before them and the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How much is kept: of each exam the newest ``per_exam_max``, nothing older than ``days``."""

    days: int = 365
    per_exam_max: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One exchange as it will be stored. ``content``: sealed."""

    exchange: Exchange
    outcome: str
    detail: str
    attempt: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One exchange without its bytes. ``number``: 0 for an attempt of which no exchange is kept: the process died in
    it, or it was pruned. ``http_status``: 0 when no answer began. ``outcome``: "" while nothing is known.
    ``answer_kept``: bytes of the answer that are kept."""

    number: int
    transaction: str
    url: str
    job_id: int
    attempt: int
    began_at: datetime
    ended_at: datetime | None
    http_status: int
    outcome: str
    detail: str
    request_type: str
    answer_type: str
    request_bytes: int
    answer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The bytes of one exchange: patient data, for who may read them, or for masking. ``withheld``: bytes of a
    credential that are in neither."""

    listed: Listed
    request: bytes = field(repr=False)
    answer: bytes = field(repr=False)
    withheld: int = 0

    @property
    def cut(self) -> int:
        """Bytes of the answer that came and are not kept."""
        return self.listed.answer_bytes - len(self.answer)


# -- writing -----------------------------------------------------------------------------------------------------


def stored_of(tx: ReadTx, ledger: Ledger, job: Job) -> Mapping[str, bytes]:
    """What the job will send, by the name under which it is stored already."""
    if is_withdrawal(job.kind):
        request = withdrawal.request_at(tx, ledger, job.tenant, job.job_id)
        return {f"withdrawal/{job.job_id}/{request[0]}": request[1]} if request else {}
    found = ledger.submission_of(tx, job.tenant, job.job_id)
    return _submitted(*found) if found else {}


def _submitted(version: int, submission: Submission) -> dict[str, bytes]:
    place = f"manifest/{version}"
    documents = {f"{place}/document/{name}": data for name, data in submission.documents.items()}
    return {f"{place}/metadata": submission.metadata} | documents


def keep(
    ledger: Ledger, job: Job, exchange: Exchange, stored: Mapping[str, bytes], *, outcome: str, detail: str
) -> Kept:
    """The exchange, sealed. ``outcome``: what the job made of it; a failure of the wire says it better."""
    answer = exchange.answer.replace(exchange.credential, b"") if exchange.credential else exchange.answer
    parts = split(exchange.request, stored, exchange.credential)
    blob = to_blob(parts)
    body = len(blob).to_bytes(_LENGTH, "big") + blob + answer
    return Kept(
        exchange=exchange,
        outcome=exchange.failure or outcome,
        detail=exchange.detail if exchange.failure else detail,
        attempt=job.attempts,
        content=ledger.vault.seal(job.tenant, _place(job.lane), zlib.compress(body)),
    )


def add(tx: Tx, job: Job, kept: Sequence[Kept], keeping: Keeping) -> None:
    """Store them, and let go what is beyond ``keeping``."""
    for one in kept:
        exchange = one.exchange
        tx.change(
            "INSERT INTO exchange (tenant, study_uid, job_id, attempt_no, name, url, began_at, ended_at, http_status,"
            " outcome, detail, request_type, answer_type, request_bytes, answer_bytes, content) VALUES (:tenant,"
            " :study, :job_id, :attempt, :name, :url, :began_at, :ended_at, :http_status, :outcome, :detail,"
            " :request_type, :answer_type, :request_bytes, :answer_bytes, :content)",
            tenant=job.tenant,
            study=job.lane,
            job_id=job.job_id,
            attempt=one.attempt,
            name=exchange.transaction,
            url=exchange.url[:_TEXT_MAX],
            began_at=to_ms(exchange.began_at),
            ended_at=to_ms(exchange.ended_at),
            http_status=exchange.http_status,
            outcome=one.outcome[:_TYPE_MAX],
            detail=one.detail[:_TEXT_MAX],
            request_type=exchange.request_type[:_TYPE_MAX],
            answer_type=exchange.answer_type[:_TYPE_MAX],
            request_bytes=len(exchange.request),
            answer_bytes=exchange.answer_bytes,
            content=one.content,
        )
    if kept:
        tx.change(
            "DELETE FROM exchange WHERE tenant = :tenant AND study_uid = :study AND exchange_id <= (SELECT"
            " exchange_id FROM exchange WHERE tenant = :tenant AND study_uid = :study ORDER BY exchange_id DESC"
            " LIMIT 1 OFFSET :most)",
            tenant=job.tenant,
            study=job.lane,
            most=keeping.per_exam_max,
        )


def prune(tx: Tx, tenant: str, keeping: Keeping, *, now: datetime) -> int:
    """Let go some of what is too old; how many. To be called until it answers 0: each call is one bounded
    transaction."""
    return tx.change(
        "DELETE FROM exchange WHERE exchange_id IN (SELECT exchange_id FROM exchange WHERE tenant = :tenant"
        " AND ended_at < :oldest ORDER BY ended_at LIMIT :some)",
        tenant=tenant,
        oldest=to_ms(now - timedelta(days=keeping.days)),
        some=_PRUNED_AT_ONCE,
    )


# -- reading -----------------------------------------------------------------------------------------------------


def listed(tx: ReadTx, tenant: str, study: str) -> list[Listed]:
    """Every exchange of the exam, and every attempt without one, oldest first."""
    exchanges = [
        _listed(row)
        for row in tx.rows(
            "SELECT exchange_id, name, url, job_id, attempt_no, began_at, ended_at, http_status, outcome, detail,"
            " request_type, answer_type, request_bytes, answer_bytes FROM exchange WHERE tenant = :tenant"
            " AND study_uid = :study ORDER BY exchange_id",
            tenant=tenant,
            study=study,
        )
    ]
    sent = {(one.job_id, one.attempt) for one in exchanges if one.transaction not in _QUESTIONS}
    attempts = tx.rows(
        "SELECT a.*, job.kind FROM outbox_attempt a JOIN outbox_job job ON job.job_id = a.job_id"
        " WHERE job.tenant = :tenant AND job.lane = :study ORDER BY a.started_at, a.job_id, a.attempt_no",
        tenant=tenant,
        study=study,
    )
    bare = [_attempt(row) for row in attempts if (row["job_id"], row["attempt_no"]) not in sent]
    return sorted([*exchanges, *bare], key=lambda one: one.began_at)


_QUESTIONS = frozenset({"ITI-18", "ITI-67"})


def opened(tx: ReadTx, ledger: Ledger, tenant: str, study: str, numbers: Sequence[int] | None = None) -> list[Opened]:
    """The exchanges with their bytes, oldest first; ``numbers``: these alone.

    Raises:
        Broken: ``exchange-broken``, ``seal-broken``.
    """
    rows = tx.rows(
        "SELECT * FROM exchange WHERE tenant = :tenant AND study_uid = :study ORDER BY exchange_id",
        tenant=tenant,
        study=study,
    )
    return [_opened(tx, ledger, row) for row in rows if numbers is None or row["exchange_id"] in numbers]


def _opened(tx: ReadTx, ledger: Ledger, row: Row) -> Opened:
    tenant, study = row["tenant"], row["study_uid"]
    body = zlib.decompress(ledger.vault.open(tenant, _place(study), row["content"]))
    end = _LENGTH + int.from_bytes(body[:_LENGTH], "big")
    parts = from_blob(body[_LENGTH:end])
    return Opened(
        listed=_listed(row),
        request=join(parts, _named(tx, ledger, tenant, study, parts)),
        answer=body[end:],
        withheld=sum(part.length for part in parts if part.kind == "withheld"),
    )


def _named(tx: ReadTx, ledger: Ledger, tenant: str, study: str, parts: Sequence[Part]) -> dict[str, bytes]:
    """What the parts name, as it is stored."""
    found: dict[str, bytes] = {}
    for place in {"/".join(part.name.split("/")[:3]) for part in parts if part.kind == "stored"}:
        kind, first, second = place.split("/")
        if kind == "withdrawal":
            request = withdrawal.request_at(tx, ledger, tenant, int(first), int(second))
            found |= {place: request[1]} if request else {}
        else:
            submission = ledger.submission_at(tx, tenant, study, int(first))
            found |= _submitted(int(first), submission) if submission else {}
    return found


def _listed(row: Row) -> Listed:
    return Listed(
        number=row["exchange_id"],
        transaction=row["name"],
        url=row["url"],
        job_id=row["job_id"],
        attempt=row["attempt_no"],
        began_at=from_ms(row["began_at"]),
        ended_at=from_ms(row["ended_at"]),
        http_status=row["http_status"],
        outcome=row["outcome"],
        detail=row["detail"],
        request_type=row["request_type"],
        answer_type=row["answer_type"],
        request_bytes=row["request_bytes"],
        answer_bytes=row["answer_bytes"],
    )


def _attempt(row: Row) -> Listed:
    return Listed(
        number=0,
        transaction="ITI-57" if is_withdrawal(row["kind"]) else "ITI-41",
        url="",
        job_id=row["job_id"],
        attempt=row["attempt_no"],
        began_at=from_ms(row["started_at"]),
        ended_at=None if row["ended_at"] is None else from_ms(row["ended_at"]),
        http_status=0,
        outcome=row["outcome"],
        detail=row["detail"],
        request_type="",
        answer_type="",
        request_bytes=0,
        answer_bytes=0,
    )


def _place(study: str) -> str:
    return f"exchange.content/{study}"
