"""What of a tenant goes into an XDM archive: every version that the index was seen to hold, oldest first.

Invariants:

* read page by page in the order of their making, so that memory holds one exam at a time however many there are;
* documents are the bytes that were sent, and so are their metadata, save whom the index hides the exam from now
  (``metadata.Stamp.hidden``); what is not a KOS or has no bytes here (an adopted entry) is
  named in ``LeftOut``, never passed over;
* a trial exam of ours is nobody's and stays out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer import hiding
from indexer.hiding import Marks
from indexer.ledger import HeldReport, Ledger
from indexer.ports import Submission
from indexer.xdm import layout, metadata
from indexer.xdm.layout import Link
from indexer.xdm.metadata import Stamp
from indexer.xds import vocabulary as xds
from indexer.xds.objects import read_submission
from security.clock import from_ms, to_ms
from security.errors import BadInput
from security.identity import Uid
from security.parse.xml import parse_xml
from security.store.port import ReadTx, Row

PAGE = 50
_STATUSES = {"Approved": xds.STATUS_APPROVED, "Deprecated": xds.STATUS_DEPRECATED, "Deleted": xds.STATUS_DELETED}
_DICOM = "application/dicom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which exams. ``until``: made by then; ``since``: of which something was shown then or later; ``studies``: none
    for all."""

    tenant: str
    until: datetime
    since: datetime | None = None
    studies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One version to write. ``made_at``: aware UTC. ``is_newest``: no later one was shown. ``revised_hash``: as
    ``metadata.Stamp``; ``hidden``: from whom, as told and shown last, where that is not what was sent with it."""

    study: str
    version: int
    made_at: datetime
    entry_uuid: str
    status: str
    content_hash: str
    is_newest: bool
    revised_hash: str = ""
    hidden: Marks | None = None

    @property
    def place(self) -> tuple[int, str, int]:
        """Where it stands in the order of all."""
        return to_ms(self.made_at), self.study, self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A version that cannot be written, and why (code)."""

    study: str
    version: int
    reason: str


def page(tx: ReadTx, wanted: Wanted, after: tuple[int, str, int] | None) -> list[Published]:
    """Up to ``PAGE`` versions behind ``after``, None for the first ones."""
    if wanted.studies:
        rows = [row for study in sorted(set(wanted.studies)) for row in _rows(tx, wanted, study, None)]
        found = sorted(map(_published, rows), key=lambda one: one.place)
        return [one for one in found if after is None or one.place > after][:PAGE]
    return [_published(row) for row in _rows(tx, wanted, "", after)]


def _rows(tx: ReadTx, wanted: Wanted, study: str, after: tuple[int, str, int] | None) -> Sequence[Row]:
    at, last, version = after or (-1, "", 0)
    return tx.rows(
        "SELECT e.study_uid, e.version, e.entry_uuid, e.status, m.created_at, m.content_hash,"
        " e.content_hash AS revised_hash, e.shown, COALESCE(e.told, m.marks) AS told, m.marks,"
        " NOT EXISTS (SELECT 1 FROM entry later WHERE later.tenant = e.tenant AND later.study_uid = e.study_uid"
        " AND later.version > e.version) AS is_newest"
        " FROM entry e JOIN manifest m ON m.tenant = e.tenant AND m.study_uid = e.study_uid"
        " AND m.version = e.version WHERE e.tenant = :tenant AND (:study = '' OR e.study_uid = :study)"
        " AND m.created_at <= :until AND (m.created_at > :at OR (m.created_at = :at AND (e.study_uid > :last"
        " OR (e.study_uid = :last AND e.version > :version))))"
        " AND EXISTS (SELECT 1 FROM entry shown WHERE shown.tenant = e.tenant AND shown.study_uid = e.study_uid"
        " AND shown.confirmed_at >= :since)"
        " AND NOT EXISTS (SELECT 1 FROM trial t WHERE t.tenant = e.tenant AND t.study_uid = e.study_uid)"
        " ORDER BY m.created_at, e.study_uid, e.version LIMIT :most",
        tenant=wanted.tenant,
        study=study,
        until=to_ms(wanted.until),
        at=at,
        last=last,
        version=version,
        since=to_ms(wanted.since) if wanted.since else 0,
        most=PAGE if not study else 10_000,
    )


def _published(row: Row) -> Published:
    told, shown, revised = hiding.read(row["told"]), hiding.read(row["shown"]), row["revised_hash"] or ""
    hidden = None if told is None else told | (shown or frozenset())
    return Published(
        study=row["study_uid"],
        version=row["version"],
        made_at=from_ms(row["created_at"]),
        entry_uuid=row["entry_uuid"],
        status=row["status"],
        content_hash=row["content_hash"],
        is_newest=bool(row["is_newest"]),
        revised_hash=revised if revised != row["content_hash"] else "",
        hidden=hidden if hidden != hiding.read(row["marks"]) else None,
    )


def files(tx: ReadTx, ledger: Ledger, tenant: str, one: Published, number: int) -> dict[str, bytes] | LeftOut:
    """The files of one version as set ``number`` of its month, by name."""
    sent = ledger.submission_at(tx, tenant, one.study, one.version)
    if sent is None or not sent.documents:
        return LeftOut(study=one.study, version=one.version, reason="no-document")
    try:
        links = layout.told(tuple(_links(ledger.reports_of(tx, tenant, Uid(one.study)), one)))
        return _laid_out(one, sent, links, number)
    except BadInput as fault:
        return LeftOut(study=one.study, version=one.version, reason=fault.code)


def _laid_out(one: Published, sent: Submission, links: bytes, number: int) -> dict[str, bytes]:
    entries = read_submission(parse_xml(sent.metadata, what="stored submission")).entries
    folder = layout.set_name(number)
    made, stamps = dict[str, bytes](), dict[str, Stamp]()
    for entry in entries:
        is_manifest = entry.unique_id == sent.unique_id
        if is_manifest and entry.mime_type != _DICOM:
            raise BadInput(
                "the manifest is no KOS", code="not-a-kos", hint="the layout has room for DICOM manifests only"
            )
        if entry.id not in sent.documents:  # of an import: a signature that was not there
            continue
        name = layout.manifest_name(number) if is_manifest else layout.signature_name(number)
        made[name] = sent.documents[entry.id]
        stamps[entry.id] = Stamp(
            uri=f"{folder}/{name}",
            entry_uuid=one.entry_uuid if is_manifest else "",
            status=_STATUSES.get(one.status, "") if is_manifest else "",
            content_hash=one.content_hash if is_manifest else "",
            revised_hash=one.revised_hash if is_manifest else "",
            hidden=one.hidden if is_manifest else None,
        )
    found = {layout.METADATA: metadata.stamped(sent.metadata, stamps), **made}
    return found | ({layout.REPORTS: links} if links else {})


def _links(reports: Sequence[HeldReport], one: Published) -> Iterator[Link]:
    """The reports of a version: those that count, of the newest; of an earlier one, those that had come by then.
    Where none counts any more, the last of them, so that an importing box knows it."""
    named = [report for report in reports if report.link != "unnamed"]
    if one.is_newest:
        counting = [report for report in named if report.status == "valid"]
        chosen = counting or [report for report in named if report.status == "held"] or named[-1:]
    else:
        chosen = [report for report in named if report.received_at <= one.made_at and report.status != "held"]
    for report in chosen:
        stated = report.stated
        ins = stated.report.patient.ins or stated.envelope.ins
        local = next((local for local in stated.local_ids if local.issuer), None) or next(
            iter(stated.local_ids), None
        )
        yield Link(
            report=stated.report.document_id,
            matricule=ins.matricule if ins else "",
            ins_oid=ins.oid if ins else "",
            local_id=local.value if local else "",
            local_issuer=local.issuer if local else "",
        )
