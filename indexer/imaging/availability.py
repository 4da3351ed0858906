"""Instance Availability Notifications (PS3.4 annex R, IHE RAD-49): which instances the PACS says it can deliver.

Invariants:

* a notice is a fact with its moment, never changed; the same notice again is refused as known;
* what it says has the PACS asked: ONLINE or NEARLINE because images arrived, UNAVAILABLE as at any other look
  (nothing is concluded from the notice), OFFLINE alone not at all: such images are still there.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from indexer.decision import Arrival
from indexer.ledger import Ledger
from security.clock import from_ms, to_ms
from security.errors import Refused
from security.identity import Uid
from security.store.port import ReadTx, Tx


class Availability(StrEnum):
    """Instance Availability (0008,0056)."""

    ONLINE = "ONLINE"
    NEARLINE = "NEARLINE"
    OFFLINE = "OFFLINE"
    UNAVAILABLE = "UNAVAILABLE"


RETRIEVABLE = frozenset({Availability.ONLINE, Availability.NEARLINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notification about one study."""

    uid: Uid
    study: Uid
    instances: Mapping[Uid, Availability]

    @property
    def retrievable(self) -> int:
        """How many of its instances can be had."""
        return sum(one in RETRIEVABLE for one in self.instances.values())

    @property
    def arrival(self) -> Arrival | None:
        """What it means for the exam, None for nothing."""
        if self.retrievable:
            return Arrival.IMAGES_ARRIVED
        return Arrival.IMAGES_UNAVAILABLE if Availability.UNAVAILABLE in self.instances.values() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNotice:
    """A notice with who sent it and when."""

    notice: Notice
    peer: str
    received_at: datetime


def record(tx: Tx, ledger: Ledger, tenant: str, notice: Notice, *, peer: str, zone: str, now: datetime) -> None:
    """Keep a notice, and note it on its exam if there is one.

    Raises:
        Refused: ``notice-known``.
    """
    if tx.row(
        "SELECT notice_uid FROM availability_notice WHERE tenant = :tenant AND notice_uid = :notice",
        tenant=tenant,
        notice=notice.uid,
    ):
        raise Refused("this notice exists", code="notice-known", hint="each notice has a UID of its own")
    lines = "\n".join(f"{uid} {one.value}" for uid, one in sorted(notice.instances.items()))
    tx.change(
        "INSERT INTO availability_notice (tenant, zone, notice_uid, study_uid, peer, received_at, number,"
        " retrievable, instances)"
        " VALUES (:tenant, :zone, :notice, :study, :peer, :now, :number, :retrievable, :instances)",
        tenant=tenant,
        zone=zone,
        notice=notice.uid,
        study=notice.study,
        peer=peer,
        now=to_ms(now),
        number=len(notice.instances),
        retrievable=notice.retrievable,
        instances=zlib.compress(lines.encode("ascii")),
    )
    if ledger.is_exam(tx, tenant, notice.study):
        ledger.note(
            tx,
            tenant,
            notice.study,
            kind="images-available" if notice.retrievable else "images-unavailable",
            summary=f"notice {notice.uid} of {peer}: {notice.retrievable} of {len(notice.instances)} instances"
            " can be retrieved",
            now=now,
        )


def notices(tx: ReadTx, tenant: str, study: str) -> list[StoredNotice]:
    """Every notice about the study, oldest first."""
    rows = tx.rows(
        "SELECT * FROM availability_notice WHERE tenant = :tenant AND study_uid = :study"
        " ORDER BY received_at, notice_uid",
        tenant=tenant,
        study=study,
    )
    return [
        StoredNotice(
            notice=Notice(
                uid=Uid(row["notice_uid"]), study=Uid(row["study_uid"]), instances=_instances(row["instances"])
            ),
            peer=row["peer"],
            received_at=from_ms(row["received_at"]),
        )
        for row in rows
    ]


def _instances(blob: bytes) -> dict[Uid, Availability]:
    pairs = (line.split(" ") for line in zlib.decompress(blob).decode("ascii").split("\n"))
    return {Uid(uid): Availability(said) for uid, said in pairs}
