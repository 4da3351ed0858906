"""The rows of received objects (``received_object``); this module is their only writer.

Invariants:

* a row is written after its file is durable, and committed before the sender hears 0x0000 (I1);
* the same bytes of the same instance are one row, however often they come; other bytes under the same SOP Instance
  UID, or the same UID in another series, are a row of their own, a new revision: nothing is overwritten (FF-09);
* bytes that came once under a wrong name and then under their own leave the quarantine;
* what a row says of the sender and its identifiers is print of bounded length; content stays in the sealed file;
* the audit row of what arrived commits with it (I16), one for each peer, study and outcome of a commit.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.dimse.verdict import Keeping
from security import audit
from security.clock import to_ms
from security.parse.dataset import Identifiers
from security.store.port import ReadTx, Tx

ZONE = "pacs"


class News(StrEnum):
    """What an arrival was."""

    NEW = "new"
    SAME = "same"  # these bytes were there already
    REVISION = "revision"  # another object under a SOP Instance UID that was there already


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One object, complete and sealed. ``digest``: SHA-256 of transfer syntax and data set bytes. ``size``: bytes of
    the data set."""

    peer: str
    calling_aet: str
    address: str
    identifiers: Identifiers
    transfer_syntax: str
    digest: bytes
    size: int
    keeping: Keeping
    reason: str
    at: datetime


def object_key(tenant: str, said: Identifiers) -> str:
    """SHA-256 over tenant, study, series and instance, each after its length (T07, FF-09)."""
    hashed = hashlib.sha256()
    for part in (tenant, said.study, said.series, said.sop):
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(len(raw).to_bytes(4, "big") + raw)
    return hashed.hexdigest()


def file_name(tenant: str, arrival: Arrival) -> str:
    """The name in the spool; objects of one study share a folder."""
    study = hashlib.sha256(f"{tenant}\0{arrival.identifiers.study}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{study[:2]}/{object_key(tenant, arrival.identifiers)}.{arrival.digest.hex()}"


def record(tx: Tx, tenant: str, arrivals: Sequence[Arrival]) -> list[News]:
    """Write what arrived, and its audit rows."""
    news = [_record(tx, tenant, arrival) for arrival in arrivals]
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for arrival, what in zip(arrivals, news, strict=True):
        is_kept_well = arrival.keeping is Keeping.STORED
        counts[
            arrival.peer,
            _shown(arrival.identifiers.study) if is_kept_well else "",
            "dicom.received" if is_kept_well else "dicom.quarantined",
            arrival.reason or (what.value if what is News.REVISION else ""),
        ] += 1
    for (peer, study, event, why), number in counts.items():
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=arrivals[0].at,
                event=event,
                actor=f"pacs-peer {peer}",
                outcome=0 if event == "dicom.received" else 4,
                object_type="study",
                object_id=study,
                detail=f"{number} {why}".strip(),
            ),
        )
    return news


def _record(tx: Tx, tenant: str, arrival: Arrival) -> News:
    said, key, now = arrival.identifiers, object_key(tenant, arrival.identifiers), to_ms(arrival.at)
    known = tx.change(
        "UPDATE received_object SET copies = copies + 1, last_received_at = :now,"
        " reason = CASE WHEN :keeping = 'stored' THEN '' ELSE reason END,"
        " keeping = CASE WHEN :keeping = 'stored' THEN 'stored' ELSE keeping END"
        " WHERE tenant = :tenant AND object_key = :key AND digest = :digest",
        keeping=arrival.keeping.value,
        tenant=tenant,
        key=key,
        digest=arrival.digest,
        now=now,
    )
    if known:
        return News.SAME
    sop = _shown(said.sop)
    before = tx.rows(
        "SELECT MAX(revision) AS last FROM received_object"
        " WHERE tenant = :tenant AND sop_uid = :sop AND sop_uid <> ''",
        tenant=tenant,
        sop=sop,
    )[0]["last"]
    tx.change(
        "INSERT INTO received_object (tenant, zone, object_key, digest, file, keeping, reason, study_uid, series_uid,"
        " sop_uid, sop_class, transfer_syntax, size_bytes, revision, peer, calling_aet, address, received_at,"
        " last_received_at, copies) VALUES (:tenant, :zone, :key, :digest, :file, :keeping, :reason, :study, :series,"
        " :sop, :sop_class, :syntax, :size, :revision, :peer, :aet, :address, :now, :now, 1)",
        tenant=tenant,
        zone=ZONE,
        key=key,
        digest=arrival.digest,
        file=file_name(tenant, arrival),
        keeping=arrival.keeping.value,
        reason=arrival.reason,
        study=_shown(said.study),
        series=_shown(said.series),
        sop=sop,
        sop_class=_shown(said.sop_class),
        syntax=_shown(arrival.transfer_syntax),
        size=arrival.size,
        revision=(before or 0) + 1,
        peer=arrival.peer,
        aet=_shown(arrival.calling_aet),
        address=arrival.address,
        now=now,
    )
    return News.REVISION if before else News.NEW


def files(tx: ReadTx, tenant: str) -> set[str]:
    """The names of every file that a row speaks of."""
    return {row["file"] for row in tx.rows("SELECT file FROM received_object WHERE tenant = :tenant", tenant=tenant)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the inbox of one tenant holds."""

    stored: int
    quarantined: int
    size_bytes: int


def held(tx: ReadTx, tenant: str) -> Held:
    """Counts for people."""
    rows = tx.rows(
        "SELECT keeping, COUNT(*) AS number, SUM(size_bytes) AS size FROM received_object WHERE tenant = :tenant"
        " GROUP BY keeping",
        tenant=tenant,
    )
    numbers = {row["keeping"]: int(row["number"]) for row in rows}
    return Held(
        stored=numbers.get(Keeping.STORED, 0),
        quarantined=numbers.get(Keeping.QUARANTINED, 0),
        size_bytes=sum(int(row["size"]) for row in rows),
    )


def _shown(text: str) -> str:
    """A foreign text as it may stand in a row or on a terminal."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:128]
