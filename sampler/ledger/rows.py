"""Versioned rows of a campaign, sealed, each with its digest in the audit trail (T54).

Invariants:

* a change is a new version; no row is changed or deleted, and two who change the same version collide;
* the row and its audit record, which states the digest of its content, commit together;
* whoever alters a row afterwards is found: its content no longer gives the digest that the signed trail holds, or a
  row that the trail knows is gone.

What a row means is left to ``acts``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sampler.draw.units import TOKEN
from security import audit
from security.clock import from_ms, to_ms
from security.errors import BadInput, Broken, Refused
from security.seal import Vault
from security.store.port import ReadTx, Row, Tx

Kind = Literal[
    "campaign", "grid", "protocol", "frame", "transcript", "case", "declaration", "assignment", "review", "finding",
    "follow-up",
]  # fmt: skip
Event = Literal[
    "campaign.opened", "campaign.moved", "campaign.frozen", "campaign.framed", "campaign.drawn",
    "campaign.case-moved", "campaign.declared", "campaign.assigned", "campaign.reviewed", "campaign.found",
    "campaign.decided", "campaign.followed-up",
]  # fmt: skip
Json = Mapping[str, Any]
ID = re.compile(rf"{TOKEN.pattern}(?:/{TOKEN.pattern})?")
"""One token, or two of which the stroke tells where the first ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts: a role of the house, and the name by which the person is known here. ``via``: how they were known to
    be that person, "" for a signed-in one."""

    role: str
    name: str
    via: str = ""

    def __str__(self) -> str:
        return f"{self.role} {self.name}" + (f" ({self.via})" if self.via else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of one thing."""

    kind: str
    id: str
    version: int
    created_at: datetime
    created_by: str
    content: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """A row that is not as it was written. ``reason``: ``unreadable``, ``content``, ``record`` (the trail states
    another digest), ``no-record`` or ``row-gone``."""

    kind: str
    id: str
    version: int
    reason: str


class Rows:
    """The rows of one tenant's campaigns."""

    def __init__(self, vault: Vault, tenant: str) -> None:
        self._vault = vault
        self._tenant = tenant

    def add(
        self,
        tx: Tx,
        campaign: str,
        kind: Kind,
        id_: str,
        content: Json,
        *,
        event: Event,
        actor: Actor,
        now: datetime,
        after: int | None = None,
    ) -> int:
        """Write the next version; its number. ``after``: the version that was read, None for whichever is newest.

        Raises:
            BadInput: ``bad-id`` the campaign or the id is no token.
            Refused: ``changed-meanwhile`` another version came since.
        """
        for token in (campaign, id_):
            if not ID.fullmatch(token):
                raise BadInput(f"an id of {kind}", code="bad-id", hint="1 to 64 letters, digits, dots, dashes, _")
        newest = self._newest(tx, campaign, kind, id_)
        if after is not None and after != newest:
            raise Refused(
                f"{kind} {id_} is at version {newest}, not {after}",
                code="changed-meanwhile",
                hint="read it again and repeat what you wanted",
            )
        data = _canonical(content)
        digest, version = hashlib.sha256(data).digest(), newest + 1
        tx.change(
            "INSERT INTO campaign_row (tenant, campaign, kind, id, version, created_at, created_by, digest, content)"
            " VALUES (:tenant, :campaign, :kind, :id, :version, :at, :by, :digest, :content)",
            tenant=self._tenant,
            campaign=campaign,
            kind=kind,
            id=id_,
            version=version,
            at=to_ms(now),
            by=str(actor),
            digest=digest,
            content=self._vault.seal(self._tenant, _place(campaign, kind, id_, version), data),
        )
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=self._tenant, zone="audit", at=now, event=event, actor=str(actor), outcome=0,
                object_type="campaign", object_id=campaign, detail=_told(kind, id_, version, digest),
                purpose="peer-audit",
            ),
        )  # fmt: skip
        return version

    def one(self, tx: ReadTx, campaign: str, kind: Kind, id_: str) -> Version | None:
        """The newest version of one thing."""
        return next(iter(self._read(tx, campaign, kind, id_)), None)

    def all(self, tx: ReadTx, campaign: str, kind: Kind) -> list[Version]:
        """The newest version of each thing of a kind, by id."""
        rows = tx.rows(
            "SELECT r.* FROM campaign_row r JOIN (SELECT id, MAX(version) AS version FROM campaign_row"
            " WHERE tenant = :tenant AND campaign = :campaign AND kind = :kind GROUP BY id) n"
            " ON n.id = r.id AND n.version = r.version"
            " WHERE r.tenant = :tenant AND r.campaign = :campaign AND r.kind = :kind ORDER BY r.id",
            tenant=self._tenant,
            campaign=campaign,
            kind=kind,
        )
        return [self._opened(row) for row in rows]

    def first(self, tx: ReadTx, campaign: str, kind: Kind) -> dict[str, datetime]:
        """When each thing of a kind came, by id."""
        rows = tx.rows(
            "SELECT id, created_at FROM campaign_row"
            " WHERE tenant = :tenant AND campaign = :campaign AND kind = :kind AND version = 1",
            tenant=self._tenant,
            campaign=campaign,
            kind=kind,
        )
        return {row["id"]: from_ms(row["created_at"]) for row in rows}

    def history(self, tx: ReadTx, campaign: str, kind: Kind, id_: str) -> list[Version]:
        """Every version of one thing, oldest first."""
        return self._read(tx, campaign, kind, id_)[::-1]

    def campaigns(self, tx: ReadTx) -> list[str]:
        """The ids of the tenant's campaigns."""
        rows = tx.rows(
            "SELECT DISTINCT campaign FROM campaign_row WHERE tenant = :tenant ORDER BY campaign", tenant=self._tenant
        )
        return [row["campaign"] for row in rows]

    def altered(self, tx: ReadTx, campaign: str) -> list[Altered]:
        """The rows that are not as they were written, and those the trail knows that are gone.

        The trail itself is verified by ``security.audit.verifying``."""
        recorded = {
            row["detail"]
            for row in tx.rows(
                "SELECT detail FROM audit_record WHERE tenant = :tenant AND object_type = 'campaign'"
                " AND object_id = :campaign AND is_erased = 0",
                tenant=self._tenant,
                campaign=campaign,
            )
        }
        erased = tx.row("SELECT COALESCE(MAX(at), -1) AS until FROM audit_record WHERE is_erased = 1")
        until = erased["until"] if erased else -1
        known = {tuple(detail.split(" ")[:3]): detail for detail in recorded}
        found = []
        seen: set[tuple[str, ...]] = set()
        for row in tx.rows(
            "SELECT * FROM campaign_row WHERE tenant = :tenant AND campaign = :campaign ORDER BY kind, id, version",
            tenant=self._tenant,
            campaign=campaign,
        ):
            key = (row["kind"], row["id"], str(row["version"]))
            seen.add(key)
            reason = self._wrong(row, known.get(key))
            if reason == "no-record" and row["created_at"] <= until:
                continue  # its record's retention ended: nothing holds it any more, and nothing contradicts it
            if reason:
                found.append(Altered(kind=key[0], id=key[1], version=row["version"], reason=reason))
        gone = sorted(known.keys() - seen)
        return found + [Altered(kind=key[0], id=key[1], version=int(key[2]), reason="row-gone") for key in gone]

    def _wrong(self, row: Row, recorded: str | None) -> str:
        place = _place(row["campaign"], row["kind"], row["id"], row["version"])
        try:
            data = self._vault.open(self._tenant, place, row["content"])
        except Broken as fault:
            if fault.code != "seal-broken":
                raise
            return "unreadable"
        if hashlib.sha256(data).digest() != row["digest"]:
            return "content"
        if recorded is None:
            return "no-record"
        return "" if recorded == _told(row["kind"], row["id"], row["version"], row["digest"]) else "record"

    def _newest(self, tx: ReadTx, campaign: str, kind: Kind, id_: str) -> int:
        row = tx.row(
            "SELECT COALESCE(MAX(version), 0) AS newest FROM campaign_row"
            " WHERE tenant = :tenant AND campaign = :campaign AND kind = :kind AND id = :id",
            tenant=self._tenant,
            campaign=campaign,
            kind=kind,
            id=id_,
        )
        return row["newest"] if row else 0

    def _read(self, tx: ReadTx, campaign: str, kind: Kind, id_: str) -> list[Version]:
        rows = tx.rows(
            "SELECT * FROM campaign_row WHERE tenant = :tenant AND campaign = :campaign AND kind = :kind AND id = :id"
            " ORDER BY version DESC",
            tenant=self._tenant,
            campaign=campaign,
            kind=kind,
            id=id_,
        )
        return [self._opened(row) for row in rows]

    def _opened(self, row: Row) -> Version:
        place = _place(row["campaign"], row["kind"], row["id"], row["version"])
        return Version(
            kind=row["kind"],
            id=row["id"],
            version=row["version"],
            created_at=from_ms(row["created_at"]),
            created_by=row["created_by"],
            content=json.loads(self._vault.open(self._tenant, place, row["content"])),
        )


def _place(campaign: str, kind: str, id_: str, version: int) -> str:
    return f"campaign_row.content/{campaign}/{kind}/{id_}/{version}"


def _told(kind: str, id_: str, version: int, digest: bytes) -> str:
    return f"{kind} {id_} {version} sha256 {digest.hex()}"


def _canonical(content: Json) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
