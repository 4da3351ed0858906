"""White lists in the store: each one that was taken, as it came, and how the last look ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from gateway.whitelist.verification import VerifiedList
from security import audit
from security.clock import from_ms, to_ms
from security.store.port import ReadTx, Tx

KEPT = 10
ZONE = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A list that was taken."""

    document: bytes
    generated_at: datetime
    signed_at: datetime
    taken_at: datetime
    signer: str
    boxes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the last look for a list ended. ``code``: "" well; ``since``: since when it ends like that."""

    at: datetime
    code: str
    since: datetime


def held(tx: ReadTx, count: int = 1) -> tuple[Held, ...]:
    """The lists taken last, the one in use first."""
    rows = tx.rows("SELECT * FROM white_list ORDER BY white_list_id DESC LIMIT :count", count=count)
    return tuple(
        Held(
            document=bytes(row["document"]),
            generated_at=from_ms(row["generated_at"]),
            signed_at=from_ms(row["signed_at"]),
            taken_at=from_ms(row["taken_at"]),
            signer=row["signer"],
            boxes=row["boxes"],
        )
        for row in rows
    )


def take(tx: Tx, document: bytes, found: VerifiedList, *, now: datetime, actor: str, detail: str) -> None:
    """Put a verified list into use, with its audit row; of older ones the last few are kept."""
    tx.change(
        "INSERT INTO white_list (document, sha256, generated_at, signed_at, taken_at, signer, boxes)"
        " VALUES (:document, :sha256, :generated_at, :signed_at, :taken_at, :signer, :boxes)",
        document=document,
        sha256=hashlib.sha256(document).digest(),
        generated_at=to_ms(found.content.generated_at),
        signed_at=to_ms(found.signed_at),
        taken_at=to_ms(now),
        signer=found.signer,
        boxes=len(found.content.boxes),
    )
    tx.change(
        "DELETE FROM white_list WHERE white_list_id NOT IN"
        " (SELECT white_list_id FROM white_list ORDER BY white_list_id DESC LIMIT :kept)",
        kept=KEPT,
    )
    _audit(tx, now, "white-list.changed", actor=actor, outcome=0, detail=detail)


def note_look(tx: Tx, *, now: datetime, code: str, actor: str) -> None:
    """How a look ended; a refusal that is new has an audit row."""
    before = look(tx)
    since = before.since if before and before.code == code else now
    if code and (before is None or before.code != code):
        _audit(tx, now, "white-list.refused", actor=actor, outcome=8, detail=code)
    tx.change(
        "INSERT INTO white_list_look (one, looked_at, code, since) VALUES (1, :at, :code, :since)"
        " ON CONFLICT (one) DO UPDATE SET looked_at = excluded.looked_at, code = excluded.code,"
        " since = excluded.since",
        at=to_ms(now),
        code=code,
        since=to_ms(since),
    )


def look(tx: ReadTx) -> Look | None:
    """How the last look ended, None before the first."""
    row = tx.row("SELECT * FROM white_list_look")
    return None if row is None else Look(at=from_ms(row["looked_at"]), code=row["code"], since=from_ms(row["since"]))


def troubles(tx: ReadTx) -> tuple[str, ...]:
    """Why no newer list was taken at the last look, as ``white-list: code``."""
    last = look(tx)
    return (f"white-list: {last.code}",) if last and last.code else ()


def _audit(tx: Tx, now: datetime, event: str, *, actor: str, outcome: int, detail: str) -> None:
    audit.append(
        tx,
        audit.AuditRecord(
            tenant="",
            zone=ZONE,
            at=now,
            event=event,
            actor=actor,
            outcome=outcome,
            object_type="white-list",
            object_id="",
            detail=detail,
        ),
    )
