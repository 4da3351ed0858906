"""The rows of received objects (``received_object``); this module is their only writer.

Invariants:

* a row is written after its file is durable, and committed before the sender hears 0x0000 (I1);
* the same bytes of the same instance are one row, however often they come; other bytes under the same SOP Instance
  UID, or the same UID in another series, are a row of their own, a new revision: nothing is overwritten (FF-09);
* bytes that came once under a wrong name and then under their own leave the quarantine;
* what a row says of the sender and its identifiers is print of bounded length; content stays in the sealed file;
* the audit row of what arrived commits with it (I16), one for each peer, study and outcome of a commit;
* a row whose file is gone says so, until its bytes come again or the PACS shows the object;
* a key object is unread until somebody looked whether it is a rejection note; a row goes only when what it speaks of
  stands elsewhere: in the PACS, or in the rows of rejections.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gateway.dimse.verdict import Keeping
from security import audit
from security.clock import from_ms, to_ms
from security.parse.identifiers import Identifiers
from security.store.port import ReadTx, Row, Tx

ZONE = "pacs"
_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)  # its characters alone: forms are judged elsewhere
QUIET_MS = 30_000
"""How long no object of a study must have come before its exam is told and the PACS is asked for them."""


class News(StrEnum):
    """What an arrival was."""

    NEW = "new"
    SAME = "same"  # these bytes were there already
    REVISION = "revision"  # another object under a SOP Instance UID that was there already


class ObjectKind(StrEnum):
    """What an object is to us."""

    OBJECT = "object"  # an image, or what else belongs to a study
    KEY_OBJECT = "key-object"  # a key object that nobody read yet
    NOTE = "note"  # the same, sent as a rejection note
    DONE = "done"  # what it says stands in other rows: its file may go


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
    kind: ObjectKind = ObjectKind.OBJECT


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
            _uid(arrival.identifiers.study) if is_kept_well else "",
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
        " reason = CASE WHEN :keeping = 'stored' THEN '' ELSE reason END, kind = :kind,"
        " peer = CASE WHEN peer = '' THEN :peer ELSE peer END,"
        " keeping = CASE WHEN :keeping = 'stored' THEN 'stored' ELSE keeping END, lost_at = NULL"
        " WHERE tenant = :tenant AND object_key = :key AND digest = :digest",
        keeping=arrival.keeping.value,
        tenant=tenant,
        key=key,
        digest=arrival.digest,
        kind=arrival.kind.value,
        peer=arrival.peer,
        now=now,
    )
    if known:
        if arrival.keeping is Keeping.STORED and arrival.kind is ObjectKind.OBJECT:
            _look_later(tx, tenant, _uid(said.study), now=now, is_new=False)
        return News.SAME
    sop = _uid(said.sop)
    before = tx.rows(
        "SELECT MAX(revision) AS last FROM received_object"
        " WHERE tenant = :tenant AND sop_uid = :sop AND sop_uid <> ''",
        tenant=tenant,
        sop=sop,
    )[0]["last"]
    tx.change(
        "INSERT INTO received_object (tenant, zone, object_key, digest, file, keeping, reason, study_uid, series_uid,"
        " sop_uid, sop_class, transfer_syntax, size_bytes, revision, peer, calling_aet, address, received_at,"
        " last_received_at, copies, kind) VALUES (:tenant, :zone, :key, :digest, :file, :keeping, :reason, :study,"
        " :series, :sop, :sop_class, :syntax, :size, :revision, :peer, :aet, :address, :now, :now, 1, :kind)",
        tenant=tenant,
        zone=ZONE,
        key=key,
        digest=arrival.digest,
        file=file_name(tenant, arrival),
        keeping=arrival.keeping.value,
        reason=arrival.reason,
        study=_uid(said.study),
        series=_uid(said.series),
        sop=sop,
        sop_class=_uid(said.sop_class),
        syntax=_shown(arrival.transfer_syntax),
        size=arrival.size,
        revision=(before or 0) + 1,
        peer=arrival.peer,
        aet=_shown(arrival.calling_aet),
        address=arrival.address,
        now=now,
        kind=arrival.kind.value,
    )
    if arrival.keeping is Keeping.STORED and arrival.kind is ObjectKind.OBJECT:
        _look_later(tx, tenant, _uid(said.study), now=now, is_new=True)
    return News.REVISION if before else News.NEW


def files(tx: ReadTx, tenant: str) -> set[str]:
    """The names of every file that a row speaks of."""
    return {row["file"] for row in tx.rows("SELECT file FROM received_object WHERE tenant = :tenant", tenant=tenant)}


# -- whose file is gone ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A received object whose file is gone."""

    study: str
    sop: str
    file: str


def note_lost(tx: Tx, tenant: str, present: Collection[str], *, now: datetime) -> list[Lost]:
    """Mark the objects whose file is not among ``present``, unmark those whose file is there again; every one that is
    lost. Of an object that is done with, the file may be gone."""
    rows = tx.rows(
        "SELECT object_id, study_uid, sop_uid, file, lost_at FROM received_object"
        " WHERE tenant = :tenant AND kind <> 'done' ORDER BY object_id",
        tenant=tenant,
    )
    news: Counter[str] = Counter()
    for row in rows:
        is_lost = row["file"] not in present
        if is_lost == (row["lost_at"] is not None):
            continue
        tx.change(
            "UPDATE received_object SET lost_at = :at WHERE tenant = :tenant AND object_id = :object_id",
            tenant=tenant,
            object_id=row["object_id"],
            at=to_ms(now) if is_lost else None,
        )
        news[row["study_uid"]] += is_lost
    for study, number in news.items():
        if number:
            audit.append(
                tx,
                audit.AuditRecord(
                    tenant=tenant,
                    zone=ZONE,
                    at=now,
                    event="dicom.lost",
                    actor="poterne",
                    outcome=8,
                    object_type="study",
                    object_id=study,
                    detail=f"{number} files are gone",
                ),
            )
    return [
        Lost(study=row["study_uid"], sop=row["sop_uid"], file=row["file"])
        for row in rows
        if row["file"] not in present
    ]


def lost(tx: ReadTx, tenant: str) -> int:
    """How many received objects have no file any more."""
    row = tx.row(
        "SELECT COUNT(*) AS number FROM received_object WHERE tenant = :tenant AND lost_at IS NOT NULL", tenant=tenant
    )
    return int(row["number"]) if row else 0


# -- what becomes of it ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A key object that nobody read yet. ``is_note``: it was sent as a rejection note."""

    object_id: int
    file: str
    peer: str
    size: int
    study: str
    is_note: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object of a study. ``is_alone``: no other bytes came under its SOP Instance UID."""

    object_id: int
    file: str
    study: str
    series: str
    sop: str
    is_alone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DueStudy:
    """A study whose objects the PACS is to be asked for now. ``is_told``: its exam knows of them; ``tries``: how
    often the PACS was asked since the last one came."""

    study: str
    is_told: bool
    tries: int


def unread_of(tx: ReadTx, tenant: str, arrival: Arrival) -> Unread | None:
    """The row of an arrival, None once it was read."""
    row = tx.row(
        "SELECT * FROM received_object WHERE tenant = :tenant AND object_key = :key AND digest = :digest"
        " AND kind IN ('key-object', 'note')",
        tenant=tenant,
        key=object_key(tenant, arrival.identifiers),
        digest=arrival.digest,
    )
    return None if row is None else replace(_unread(row), peer=arrival.peer)


def unread(tx: ReadTx, tenant: str, *, before: datetime, limit: int) -> list[Unread]:
    """Key objects that came before that moment and that nobody read, oldest first."""
    rows = tx.rows(
        "SELECT * FROM received_object WHERE tenant = :tenant AND kind IN ('key-object', 'note')"
        " AND keeping = 'stored' AND last_received_at < :before ORDER BY object_id LIMIT :limit",
        tenant=tenant,
        before=to_ms(before),
        limit=limit,
    )
    return [_unread(row) for row in rows]


def _unread(row: Row) -> Unread:
    return Unread(
        object_id=row["object_id"],
        file=row["file"],
        peer=row["peer"],
        size=row["size_bytes"],
        study=row["study_uid"],
        is_note=row["kind"] == ObjectKind.NOTE,
    )


def read_as(tx: Tx, tenant: str, one: Unread, kind: ObjectKind, *, reason: str = "", now: datetime) -> None:
    """Somebody read it: an object like others, or done with; ``reason``: why it is set aside for a person instead."""
    tx.change(
        "UPDATE received_object SET kind = :kind, keeping = :keeping, reason = :reason"
        " WHERE tenant = :tenant AND object_id = :object_id",
        tenant=tenant,
        object_id=one.object_id,
        kind=kind.value,
        keeping=(Keeping.QUARANTINED if reason else Keeping.STORED).value,
        reason=reason,
    )
    if kind is ObjectKind.OBJECT and not reason:
        _look_later(tx, tenant, one.study, now=to_ms(now), is_new=True)


def done(tx: ReadTx, tenant: str, *, limit: int) -> list[Kept]:
    """What stands elsewhere by now."""
    rows = tx.rows(
        "SELECT * FROM received_object WHERE tenant = :tenant AND kind = 'done' ORDER BY object_id LIMIT :limit",
        tenant=tenant,
        limit=limit,
    )
    return [_kept(row, is_alone=True) for row in rows]


def stored_of(tx: ReadTx, tenant: str, study: str) -> list[Kept]:
    """The study's objects that stand nowhere else as far as we know."""
    rows = tx.rows(
        "SELECT o.*, (SELECT COUNT(*) FROM received_object other WHERE other.tenant = o.tenant"
        " AND other.sop_uid = o.sop_uid) AS same FROM received_object o WHERE o.tenant = :tenant"
        " AND o.study_uid = :study AND o.keeping = 'stored' AND o.kind = 'object' ORDER BY o.object_id",
        tenant=tenant,
        study=study,
    )
    return [_kept(row, is_alone=row["same"] == 1) for row in rows]


def _kept(row: Row, *, is_alone: bool) -> Kept:
    return Kept(
        object_id=row["object_id"],
        file=row["file"],
        study=row["study_uid"],
        series=row["series_uid"],
        sop=row["sop_uid"],
        is_alone=is_alone,
    )


def release(tx: Tx, tenant: str, objects: Sequence[Kept], *, why: str, now: datetime) -> None:
    """Forget objects that stand elsewhere; one audit row for each study."""
    for one in objects:
        tx.change(
            "DELETE FROM received_object WHERE tenant = :tenant AND object_id = :object_id",
            tenant=tenant,
            object_id=one.object_id,
        )
    for study, number in Counter(one.study for one in objects).items():
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=now,
                event="dicom.released",
                actor="poterne",
                outcome=0,
                object_type="study",
                object_id=study,
                detail=f"{number} {why}",
            ),
        )


def _look_later(tx: Tx, tenant: str, study: str, *, now: int, is_new: bool) -> None:
    """Have the study looked at once no more of it came for a while; what is known already changes nothing."""
    tx.change(
        "INSERT INTO received_study (tenant, study_uid, told, due_at, tries) VALUES (:tenant, :study, 0, :due, 0)"
        " ON CONFLICT (tenant, study_uid) DO UPDATE SET"
        " told = CASE WHEN :is_new = 1 THEN 0 ELSE received_study.told END,"
        " due_at = CASE WHEN :is_new = 1 THEN excluded.due_at ELSE received_study.due_at END,"
        " tries = CASE WHEN :is_new = 1 THEN 0 ELSE received_study.tries END",
        tenant=tenant,
        study=study,
        due=now + QUIET_MS,
        is_new=int(is_new),
    )


def due(tx: ReadTx, tenant: str, *, now: datetime, latest: datetime, limit: int) -> list[DueStudy]:
    """Studies to look at now; a due time beyond ``latest`` was written by a clock that was wrong, and counts too."""
    rows = tx.rows(
        "SELECT * FROM received_study WHERE tenant = :tenant AND (due_at <= :now OR due_at > :latest)"
        " ORDER BY due_at LIMIT :limit",
        tenant=tenant,
        now=to_ms(now),
        latest=to_ms(latest),
        limit=limit,
    )
    return [DueStudy(study=row["study_uid"], is_told=bool(row["told"]), tries=row["tries"]) for row in rows]


def told(tx: Tx, tenant: str, study: str) -> None:
    """The exam knows of the study's objects."""
    tx.change(
        "UPDATE received_study SET told = 1 WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
    )


def ask_again(tx: Tx, tenant: str, one: DueStudy, *, at: datetime) -> None:
    """Look at the study then, unless more of it came meanwhile; no more when nothing of it is left."""
    left = tx.row(
        "SELECT 1 AS one FROM received_object WHERE tenant = :tenant AND study_uid = :study AND keeping = 'stored'"
        " AND kind = 'object' LIMIT 1",
        tenant=tenant,
        study=one.study,
    )
    if left is None:
        tx.change(
            "DELETE FROM received_study WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=one.study
        )
        return
    tx.change(
        "UPDATE received_study SET due_at = :due, tries = tries + 1"
        " WHERE tenant = :tenant AND study_uid = :study AND told = 1",
        tenant=tenant,
        study=one.study,
        due=to_ms(at),
    )


# -- for people ------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lying:
    """Objects that lie in the inbox since ``since``, of one study when stored, of one reason when in quarantine.
    ``lost``: of how many of them the file is gone."""

    keeping: Keeping
    study: str
    reason: str
    peer: str
    number: int
    size_bytes: int
    since: datetime
    lost: int


def lying(tx: ReadTx, tenant: str, *, limit: int) -> list[Lying]:
    """What lies there, oldest first."""
    rows = tx.rows(
        "SELECT keeping, study_uid, reason, peer, COUNT(*) AS number, SUM(size_bytes) AS size,"
        " MIN(received_at) AS since, COUNT(lost_at) AS lost FROM received_object"
        " WHERE tenant = :tenant AND kind <> 'done'"
        " GROUP BY keeping, study_uid, reason, peer ORDER BY since LIMIT :limit",
        tenant=tenant,
        limit=limit,
    )
    return [
        Lying(
            keeping=Keeping(row["keeping"]),
            study=row["study_uid"],
            reason=row["reason"],
            peer=row["peer"],
            number=int(row["number"]),
            size_bytes=int(row["size"]),
            since=from_ms(row["since"]),
            lost=int(row["lost"]),
        )
        for row in rows
    ]


def unconfirmed(tx: ReadTx, tenant: str, *, before: datetime) -> int:
    """How many objects came before that moment and stand in no PACS as far as we know."""
    row = tx.row(
        "SELECT COUNT(*) AS number FROM received_object WHERE tenant = :tenant AND keeping = 'stored'"
        " AND kind <> 'done' AND received_at < :before",
        tenant=tenant,
        before=to_ms(before),
    )
    return int(row["number"]) if row else 0


def oldest(tx: ReadTx) -> dict[tuple[str, str], tuple[int, datetime]]:
    """By tenant and keeping: how many objects, and when the oldest came."""
    rows = tx.rows(
        "SELECT tenant, keeping, COUNT(*) AS number, MIN(received_at) AS since FROM received_object"
        " WHERE kind <> 'done' GROUP BY tenant, keeping"
    )
    return {(row["tenant"], row["keeping"]): (int(row["number"]), from_ms(row["since"])) for row in rows}


def _uid(text: str) -> str:
    """A UID as a row names it, "" for what is none: the words that stand in its place may be a patient's (T34); which
    object it is says its key."""
    return text if _UID.fullmatch(text) else ""


def _shown(text: str) -> str:
    """A foreign text as it may stand in a row or on a terminal."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)[:128]
