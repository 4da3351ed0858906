"""What was seen of the images of an exam that waits for them: the rows behind ``completeness``.

Invariants:

* one row for each exam that waits: the set the PACS listed last, the first and the last of the looks that saw it,
  since when the exam waits. When it is looked at again follows from these rows, so a restart loses nothing (FF-13);
* a date that lies ahead of the clock (somebody turned it back, I17) becomes now at the next look: a wait may begin
  anew, it cannot become endless.

What follows is ``completeness``'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from indexer.completeness import Evidence, Said, Stage
from security.clock import from_ms, to_ms
from security.identity import Uid
from security.store.port import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What the row says. ``digest``: of the set seen last, empty before the first look."""

    digest: bytes = b""
    first_at: datetime | None = None
    arrived_at: datetime | None = None
    waits_since: datetime | None = None
    hurried_by: str = ""

    def evidence(self, held: frozenset[Uid], stage: Stage, said: Said, now: datetime) -> Evidence:
        """The evidence once the PACS listed ``held`` now."""
        since = self.first_at if self.digest == digest(held) else None
        return Evidence(
            stage=stage,
            held=held,
            same_since=min(since or now, now),
            waits_since=min(self.waits_since or now, now),
            arrived_at=self.arrived_at and min(self.arrived_at, now),
            hurried_by=self.hurried_by,
            said=said,
        )


def digest(held: Iterable[Uid]) -> bytes:
    """SHA-256 of a set of SOP Instance UIDs."""
    return hashlib.sha256("\n".join(sorted(held)).encode()).digest()


def of(tx: ReadTx, tenant: str, study: str) -> Sighting:
    """What was seen of an exam that waits; nothing of another one."""
    row = tx.row("SELECT * FROM sighting WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study)
    if row is None:
        return Sighting()
    return Sighting(
        digest=row["digest"] or b"",
        first_at=_moment(row["first_at"]),
        arrived_at=_moment(row["arrived_at"]),
        waits_since=_moment(row["waits_since"]),
        hurried_by=row["hurried_by"],
    )


def saw(tx: Tx, tenant: str, study: str, evidence: Evidence, *, now: datetime) -> bool:
    """Keep what the PACS listed now for an exam that waits; whether it is another set than the last look saw."""
    seen = digest(evidence.held)
    before = tx.row(
        "SELECT digest FROM sighting WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
    )
    tx.change(
        "INSERT INTO sighting (tenant, study_uid, digest, instances, first_at, last_at, waits_since)"
        " VALUES (:tenant, :study, :digest, :instances, :first, :now, :waits) ON CONFLICT (tenant, study_uid)"
        " DO UPDATE SET digest = excluded.digest, instances = excluded.instances, first_at = excluded.first_at,"
        " last_at = excluded.last_at, waits_since = excluded.waits_since,"
        " arrived_at = CASE WHEN sighting.arrived_at > :now THEN :now ELSE sighting.arrived_at END",
        tenant=tenant,
        study=study,
        digest=seen,
        instances=len(evidence.held),
        first=to_ms(evidence.same_since),
        waits=to_ms(evidence.waits_since),
        now=to_ms(now),
    )
    return before is None or before["digest"] != seen


def arriving(tx: Tx, tenant: str, study: str, *, now: datetime) -> None:
    """A sign that images of an exam we know came in."""
    _set(tx, tenant, study, "arrived_at", to_ms(now))


def hurry(tx: Tx, tenant: str, study: str, *, actor: str) -> None:
    """A person does not want the exam to wait for more images."""
    _set(tx, tenant, study, "hurried_by", actor)


def decided(tx: Tx, tenant: str, study: str) -> None:
    """The wait is over: a later one is a new story."""
    tx.change("DELETE FROM sighting WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study)


def _set(tx: Tx, tenant: str, study: str, column: str, value: str | int) -> None:
    tx.change(
        f"INSERT INTO sighting (tenant, study_uid, {column}) VALUES (:tenant, :study, :value)"  # noqa: S608 - our own columns
        f" ON CONFLICT (tenant, study_uid) DO UPDATE SET {column} = excluded.{column}",
        tenant=tenant,
        study=study,
        value=value,
    )


def _moment(value: int | None) -> datetime | None:
    return None if value is None else from_ms(value)
