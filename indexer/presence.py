"""What stands about an exam besides its reports: a person's word that it stay out of the index, an announced end, and
since when the PACS lacks it.

Invariants:

* an announcement (OMI^O23 CA, a rejection note) stands until a PACS was seen to hold the study after it; so does the
  first clean absence: what a PACS shows again begins anew;
* a person's word stands until a person takes it back.

What follows is ``decision``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What stands about one exam now. ``kept_out_by``: the person, "" for nobody; ``absent``: how many exams of the
    tenant its PACS was seen to lack, unannounced."""

    kept_out_by: str = ""
    announced_at: datetime | None = None
    absent_at: datetime | None = None
    absent: int = 0

    @property
    def is_in_question(self) -> bool:
        """Whether a sight of the study would say something new."""
        return self.announced_at is not None or self.absent_at is not None

    def absent_for(self, now: datetime) -> timedelta | None:
        """How long the PACS has lacked it; None before the first clean absence."""
        return None if self.absent_at is None else now - self.absent_at


def of(tx: ReadTx, tenant: str, study: str) -> Presence:
    """What stands about the exam."""
    row = tx.row("SELECT * FROM presence WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study)
    lacking = tx.row(
        "SELECT COUNT(*) AS exams FROM presence WHERE tenant = :tenant AND absent_at IS NOT NULL"
        " AND announced_at IS NULL",
        tenant=tenant,
    )
    if row is None:
        return Presence(absent=lacking["exams"] if lacking else 0)
    return Presence(
        kept_out_by=row["kept_out_by"],
        announced_at=None if row["announced_at"] is None else from_ms(row["announced_at"]),
        absent_at=None if row["absent_at"] is None else from_ms(row["absent_at"]),
        absent=lacking["exams"] if lacking else 0,
    )


def is_kept_out(tx: ReadTx, tenant: str, study: str) -> bool:
    """Whether a person's word keeps the exam out of the index."""
    row = tx.row(
        "SELECT kept_out_by FROM presence WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
    )
    return row is not None and row["kept_out_by"] != ""


def keep_out(tx: Tx, tenant: str, study: str, *, actor: str) -> None:
    """A person wants the exam out of the index."""
    _set(tx, tenant, study, "kept_out_by", actor)


def let_in(tx: Tx, tenant: str, study: str) -> None:
    """A person lets the exam back."""
    _set(tx, tenant, study, "kept_out_by", "")


def announce(tx: Tx, tenant: str, study: str, *, now: datetime) -> None:
    """Somebody said that the exam, or a part of it, is gone."""
    _set(tx, tenant, study, "announced_at", to_ms(now))


def lacks(tx: Tx, tenant: str, study: str, *, now: datetime) -> None:
    """A clean answer without the study; the first one since it was seen is kept."""
    _set(tx, tenant, study, "absent_at", to_ms(now), only_first=True)


def seen(tx: Tx, tenant: str, study: str, *, asked_at: datetime) -> None:
    """The PACS holds the study: an announcement made before it was asked is answered, an absence over."""
    tx.change(
        "UPDATE presence SET absent_at = NULL,"
        " announced_at = CASE WHEN announced_at <= :asked THEN NULL ELSE announced_at END"
        " WHERE tenant = :tenant AND study_uid = :study",
        tenant=tenant,
        study=study,
        asked=to_ms(asked_at),
    )


def ended(tx: Tx, tenant: str, study: str) -> None:
    """The exam is out of the index because its images are gone: what comes later is a new story."""
    tx.change(
        "UPDATE presence SET absent_at = NULL, announced_at = NULL WHERE tenant = :tenant AND study_uid = :study",
        tenant=tenant,
        study=study,
    )


def _set(tx: Tx, tenant: str, study: str, column: str, value: str | int, *, only_first: bool = False) -> None:
    stays = f"COALESCE(presence.{column}, excluded.{column})" if only_first else f"excluded.{column}"
    tx.change(
        f"INSERT INTO presence (tenant, study_uid, {column}) VALUES (:tenant, :study, :value)"  # noqa: S608 - our own columns
        f" ON CONFLICT (tenant, study_uid) DO UPDATE SET {column} = {stays}",
        tenant=tenant,
        study=study,
        value=value,
    )
