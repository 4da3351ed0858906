"""The indexer's rows: exams, reports, evidence, manifests, entries.

Invariants:

* every function works inside the caller's transaction, so that a fact, its timeline entry and its job commit
  together or not at all;
* identity-bearing columns are sealed under (tenant, column, row); equality look-ups go by blind index;
* a manifest's submitted bytes are written once and read back unchanged (FF-21).

Deciding what the facts mean is left to ``gate``, ``assemble`` and ``publication``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from indexer import hiding
from indexer.gate import Conflict, Held, Share
from indexer.hiding import Marks
from indexer.manifest import Context, Edition, StudyManifest, document_hash, from_blob, to_blob
from indexer.ports import EntryFound, Submission
from indexer.report import Professional, Report, Visibility
from indexer.study import Study
from security.clock import from_ms, to_ms
from security.identity import Ins, LocalId, PatientIdentity, Uid
from security.seal import Vault
from security.store.port import ReadTx, Row, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedReport:
    """A report together with the identity its envelope stated (PID), which alone carries the INS status."""

    envelope: PatientIdentity
    report: Report

    @property
    def patients(self) -> tuple[PatientIdentity, PatientIdentity]:
        """The patient as the envelope and as the report state them."""
        return self.envelope, self.report.patient

    @property
    def local_ids(self) -> tuple[LocalId, ...]:
        """By what the patient is known locally: every identifier of the report, and those of the envelope that name
        their issuer; then what the register ties to them."""
        envelope, patient = self.patients
        stated = (*patient.local_ids, *(local for local in envelope.local_ids if local.issuer))
        return tuple(dict.fromkeys((*stated, *patient.tied, *envelope.tied)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldReport:
    """A stored report: what it states, when it came and where it stands.

    ``contested``: why the PACS contradicts it, by study; judged again each time that study settles. ``link``: the
    report never came itself: an archive named it (``named``), or an exam without one (``unnamed``), and what it
    states is what the archived document does (``indexer.xdm``); "" for a report that came.
    """

    report_id: str
    status: str
    reason: str
    contested: Mapping[str, str]
    stated: StatedReport
    received_at: datetime
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One dated fact, without patient values."""

    at: datetime
    kind: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The newest version a query showed in the index. ``content_hash``: as its metadata stand now; ``told``: what we
    told of whom it is hidden from since the index last confirmed a request of ours; ``shown``: what it showed then;
    None where that was not recorded. ``outline``: of an imported one (``manifest.outline``). ``job_id``: of the job
    that made it, 0 for one that was adopted or imported."""

    version: int
    unique_id: str
    entry_uuid: str
    content_hash: str
    job_id: int
    outline: str = ""
    document_hash: str = ""
    told: Marks | None = None
    shown: Marks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A version whose bytes are stored and that no query has shown yet. ``told``: as ``Published.told``."""

    version: int
    job_id: int
    unique_id: str
    content_hash: str
    document_hash: str = ""
    told: Marks | None = None

    @property
    def shown(self) -> Marks | None:
        """No query confirmed it: nothing was shown."""
        return None

    @property
    def outline(self) -> str:
        """What is imported was shown."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """Submitted bytes as stored: metadata, then each document by id."""

    __pydantic_config__ = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    metadata: bytes
    documents: tuple[tuple[str, bytes], ...]
    is_secret: bool = False
    sender: Professional | None = None


_OPENED_MAX = 256
"""Reports kept as they were opened last: more than the witnesses of one report."""
_STATED = TypeAdapter(StatedReport)
_REPORT = TypeAdapter(Report)
_PARTS = TypeAdapter(_Parts)
_CONFLICTS = TypeAdapter(tuple[Conflict, ...])
_STUDY = TypeAdapter(Study)

Moment = Literal["message", "pacs"]
"""Which of the gate's two moments a waiver speaks of: before the acknowledgement, or when the PACS has answered."""


def evidence_of(tx: ReadTx, tenant: str, study: str) -> list[Evidence]:
    """The exam's facts, oldest first."""
    rows = tx.rows(
        "SELECT at, kind, summary FROM evidence WHERE tenant = :tenant AND study_uid = :study ORDER BY evidence_id",
        tenant=tenant,
        study=study,
    )
    return [Evidence(at=from_ms(row["at"]), kind=row["kind"], summary=row["summary"]) for row in rows]


def tenants_of(tx: ReadTx, study: str) -> list[str]:
    """The tenants that know the study."""
    rows = tx.rows("SELECT tenant FROM exam WHERE study_uid = :study ORDER BY tenant", study=study)
    return [row["tenant"] for row in rows]


def is_reported(tx: ReadTx, tenant: str, study: str) -> bool:
    """Whether a valid report speaks of the study."""
    found = tx.rows(
        "SELECT 1 FROM report_study s JOIN report r ON r.tenant = s.tenant AND r.report_id = s.report_id"
        " WHERE s.tenant = :tenant AND s.study_uid = :study AND r.status = 'valid' LIMIT 1",
        tenant=tenant,
        study=study,
    )
    return bool(found)


def _same_ins(left: StatedReport, right: StatedReport) -> bool:
    ins, other = left.report.patient.ins, right.report.patient.ins
    return ins is not None and other is not None and ins.matricule == other.matricule


def digest(stated: StatedReport) -> bytes:
    """SHA-256 of what the CDA says: the same document by another message has the same, whatever its envelope's flags
    and sender."""
    document = replace(stated.report, visibility=Visibility(), sender=None)
    return hashlib.sha256(_REPORT.dump_json(document)).digest()


class Ledger:
    """The rows of one installation; each call names its tenant."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened = lru_cache(maxsize=_OPENED_MAX)(self._open)

    @property
    def vault(self) -> Vault:
        """What seals the rows."""
        return self._vault

    # -- reports -------------------------------------------------------------------------------------------

    def report(self, tx: ReadTx, tenant: str, report_id: str) -> tuple[HeldReport, bytes] | None:
        """One report and the digest of its content, or None."""
        row = tx.row(
            "SELECT * FROM report WHERE tenant = :tenant AND report_id = :report_id",
            tenant=tenant,
            report_id=report_id,
        )
        return (self._report(tx, row), row["digest"]) if row else None

    def reports_of(self, tx: ReadTx, tenant: str, study: Uid) -> list[HeldReport]:
        """Every report of the study, oldest first, whatever its status."""
        return [
            self._report(tx, row)
            for row in tx.rows(
                "SELECT r.* FROM report_study s JOIN report r ON r.tenant = s.tenant AND r.report_id = s.report_id"
                " WHERE s.tenant = :tenant AND s.study_uid = :study ORDER BY r.report_no",
                tenant=tenant,
                study=study,
            )
        ]

    def held_for(self, tx: ReadTx, tenant: str, stated: StatedReport) -> list[Held]:
        """What we already hold that shares an identifier with ``stated``, for the gate.

        Reports of the same study count whether valid or held, their traits too; for the same INS or the same
        local identifier only undisputed ones do, so that a doubtful report never blocks its neighbours; one that only
        its patient's opposition holds is not in doubt. A doubtful report that this one replaces is no witness of
        traits (that is how a source corrects itself), yet whoever replaces a report must speak of the same person: it
        shares the "study" whatever its status.
        """
        report = stated.report
        itself, replaced = str(report.document_id), str(report.replaces)
        shares: dict[str, tuple[HeldReport, set[Share]]] = {}

        def add(reports: Sequence[HeldReport], share: Share) -> None:
            for held in reports:
                doubtful = (held.status == "held" and held.reason != "patient-opposed") or held.contested
                corrected = held.report_id == replaced and doubtful
                is_itself = held.report_id == itself and not held.link  # what a link states, another document said
                if held.status in {"valid", "held"} and not is_itself and not corrected:
                    shares.setdefault(held.report_id, (held, set()))[1].add(share)

        for study in report.studies:
            of_study = self.reports_of(tx, tenant, study)
            add(of_study, "study")
            add([held for held in of_study if _same_ins(held.stated, stated)], "ins")
        if report.patient.ins:
            add(self._undisputed_by_ins(tx, tenant, report.patient.ins), "ins")
        for local in stated.local_ids:
            add(self._undisputed_by_local_id(tx, tenant, local), "local-id")
        predecessor = self.report(tx, tenant, replaced) if report.replaces else None
        if predecessor:
            shares.setdefault(replaced, (predecessor[0], set()))[1].add("study")
        return [
            Held(patient=held.stated.report.patient, source=f"report {held.report_id}", shares=frozenset(names))
            for held, names in shares.values()
        ]

    def _undisputed_by_ins(self, tx: ReadTx, tenant: str, ins: Ins) -> list[HeldReport]:
        rows = tx.rows(
            "SELECT * FROM report WHERE tenant = :tenant AND ins_blind = :blind"
            " AND (status = 'valid' OR (status = 'held' AND reason = 'patient-opposed'))"
            " AND NOT EXISTS (SELECT 1 FROM report_study s WHERE s.tenant = report.tenant"
            " AND s.report_id = report.report_id AND s.contested <> '') ORDER BY report_no DESC LIMIT 50",
            tenant=tenant,
            blind=self.ins_blind(tenant, ins),
        )
        return [self._held(row, {}) for row in rows]

    def _undisputed_by_local_id(self, tx: ReadTx, tenant: str, local: LocalId) -> list[HeldReport]:
        rows = tx.rows(
            "SELECT r.* FROM report_local_id l JOIN report r ON r.tenant = l.tenant AND r.report_id = l.report_id"
            " WHERE l.tenant = :tenant AND l.local_blind = :blind"
            " AND (r.status = 'valid' OR (r.status = 'held' AND r.reason = 'patient-opposed'))"
            " AND NOT EXISTS (SELECT 1 FROM report_study s WHERE s.tenant = r.tenant"
            " AND s.report_id = r.report_id AND s.contested <> '') ORDER BY r.report_no DESC LIMIT 50",
            tenant=tenant,
            blind=self.local_blind(tenant, local),
        )
        return [self._held(row, {}) for row in rows]

    def reports_of_patient(self, tx: ReadTx, tenant: str, patient: PatientIdentity) -> list[HeldReport]:
        """Every report that states the patient's INS or one of the local identifiers, oldest first, whatever its
        status."""
        ids: set[str] = set()
        if patient.ins:
            ids |= {
                row["report_id"]
                for row in tx.rows(
                    "SELECT report_id FROM report WHERE tenant = :tenant AND ins_blind = :blind",
                    tenant=tenant,
                    blind=self.ins_blind(tenant, patient.ins),
                )
            }
        for local in patient.local_ids:
            ids |= {
                row["report_id"]
                for row in tx.rows(
                    "SELECT report_id FROM report_local_id WHERE tenant = :tenant AND local_blind = :blind",
                    tenant=tenant,
                    blind=self.local_blind(tenant, local),
                )
            }
        rows = [
            row
            for report_id in ids
            if (
                row := tx.row(
                    "SELECT * FROM report WHERE tenant = :tenant AND report_id = :report_id",
                    tenant=tenant,
                    report_id=report_id,
                )
            )
        ]
        return [self._report(tx, row) for row in sorted(rows, key=lambda row: int(row["report_no"]))]

    def held(self, tx: ReadTx, row: Row) -> HeldReport:
        """The report of a row of ``report``, for rooms that page through them."""
        return self._report(tx, row)

    def is_exam(self, tx: ReadTx, tenant: str, study: str) -> bool:
        """Whether any report spoke of the study."""
        row = tx.row(
            "SELECT study_uid FROM exam WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
        )
        return row is not None

    def add_report(
        self,
        tx: Tx,
        tenant: str,
        stated: StatedReport,
        *,
        zone: str,
        control_id: str,
        status: str,
        reason: str,
        now: datetime,
        link: str = "",
    ) -> None:
        """Store a report seen for the first time, and the exams it speaks of."""
        tx.change(
            "INSERT INTO report (tenant, report_id, received_at, control_id, status, reason, replaces, digest,"
            " ins_blind, content, link) VALUES (:tenant, :report_id, :now, :control_id, :status, :reason, :replaces,"
            " :digest, :ins_blind, :content, :link)",
            now=to_ms(now),
            control_id=control_id,
            status=status,
            reason=reason,
            link=link,
            **self._said(tenant, stated),
        )
        self._index_studies(tx, tenant, stated, zone=zone, now=now)
        self._index_local_ids(tx, tenant, stated)

    def confirm(
        self,
        tx: Tx,
        tenant: str,
        stated: StatedReport,
        *,
        zone: str,
        control_id: str,
        status: str,
        reason: str,
        now: datetime,
    ) -> None:
        """A report that was known by its link alone has come: its content takes the place of the archive's word."""
        tx.change(
            "UPDATE report SET received_at = :now, control_id = :control_id, status = :status, reason = :reason,"
            " replaces = :replaces, digest = :digest, ins_blind = :ins_blind, content = :content, link = ''"
            " WHERE tenant = :tenant AND report_id = :report_id",
            now=to_ms(now),
            control_id=control_id,
            status=status,
            reason=reason,
            **self._said(tenant, stated),
        )
        self._index_studies(tx, tenant, stated, zone=zone, now=now)
        self._index_local_ids(tx, tenant, stated)

    def _said(self, tenant: str, stated: StatedReport) -> dict[str, Any]:
        """The columns that follow from what a report says."""
        report = stated.report
        report_id = str(report.document_id)
        return {
            "tenant": tenant,
            "report_id": report_id,
            "replaces": str(report.replaces or ""),
            "digest": digest(stated),
            "ins_blind": self.ins_blind(tenant, report.patient.ins),
            "content": self._vault.seal(tenant, f"report.content/{report_id}", _STATED.dump_json(stated)),
        }

    def widen(self, tx: Tx, tenant: str, stated: StatedReport, *, zone: str, now: datetime) -> None:
        """A report known by its link speaks of further exams."""
        report_id = str(stated.report.document_id)
        tx.change(
            "UPDATE report SET content = :content WHERE tenant = :tenant AND report_id = :report_id",
            tenant=tenant,
            report_id=report_id,
            content=self._vault.seal(tenant, f"report.content/{report_id}", _STATED.dump_json(stated)),
        )
        self._index_studies(tx, tenant, stated, zone=zone, now=now)
        self._index_local_ids(tx, tenant, stated)

    def replace_unnamed(self, tx: Tx, tenant: str, study: str, *, by: str) -> int:
        """A report of the study has come: what stood for one that an archive did not name counts no more. ``by``: the
        report."""
        return tx.change(
            "UPDATE report SET status = 'replaced', reason = '' WHERE tenant = :tenant AND link = 'unnamed'"
            " AND (status = 'valid' OR (status = 'held' AND reason IN ('archive-link', 'withdrawn-elsewhere')))"
            " AND report_id <> :by AND report_id IN (SELECT report_id FROM report_study"
            " WHERE tenant = :tenant AND study_uid = :study)",
            tenant=tenant,
            study=study,
            by=by,
        )

    def _index_studies(self, tx: Tx, tenant: str, stated: StatedReport, *, zone: str, now: datetime) -> None:
        for study in stated.report.studies:
            tx.change(
                "INSERT INTO exam (tenant, study_uid, zone, first_seen_at) VALUES (:tenant, :study, :zone, :now)"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                study=study,
                zone=zone,
                now=to_ms(now),
            )
            tx.change(
                "INSERT INTO report_study (tenant, study_uid, report_id, contested)"
                " VALUES (:tenant, :study, :report_id, '')"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                study=study,
                report_id=str(stated.report.document_id),
            )

    def restate(self, tx: Tx, tenant: str, stated: StatedReport, *, status: str, reason: str) -> None:
        """The same report under an envelope that says something else: what it states now, and where it stands."""
        report_id = str(stated.report.document_id)
        tx.change(
            "UPDATE report SET status = :status, reason = :reason, content = :content"
            " WHERE tenant = :tenant AND report_id = :report_id",
            tenant=tenant,
            report_id=report_id,
            status=status,
            reason=reason,
            content=self._vault.seal(tenant, f"report.content/{report_id}", _STATED.dump_json(stated)),
        )
        self._index_local_ids(tx, tenant, stated)

    def set_report_status(self, tx: Tx, tenant: str, report_id: str, status: str, reason: str = "") -> bool:
        """Move a report to ``status``; False when no such report is stored."""
        return (
            tx.change(
                "UPDATE report SET status = :status, reason = :reason"
                " WHERE tenant = :tenant AND report_id = :report_id",
                tenant=tenant,
                report_id=report_id,
                status=status,
                reason=reason,
            )
            == 1
        )

    def is_replaced(self, tx: ReadTx, tenant: str, stated: StatedReport) -> bool:
        """Whether a report of the same person that we hold says it replaces this one, which arrives after it. One
        that is in doubt replaces nothing; one that only its patient holds back does."""
        return any(
            held.status in {"valid", "replaced", "withdrawn"} or held.reason == "patient-opposed"
            for held in self.replacements_of(tx, tenant, stated)
        )

    def replacements_of(self, tx: ReadTx, tenant: str, stated: StatedReport) -> list[HeldReport]:
        """The reports of the same person that say they replace this one, oldest first, whatever their status."""
        rows = tx.rows(
            "SELECT * FROM report WHERE tenant = :tenant AND replaces = :report_id AND ins_blind = :blind"
            " ORDER BY report_no",
            tenant=tenant,
            report_id=str(stated.report.document_id),
            blind=self.ins_blind(tenant, stated.report.patient.ins),
        )
        return [self._report(tx, row) for row in rows]

    def contest(self, tx: Tx, tenant: str, report_id: str, *, study: str, reason: str) -> None:
        """Note that the PACS contradicts the report about this study, or with "" that it no longer does."""
        tx.change(
            "UPDATE report_study SET contested = :reason WHERE tenant = :tenant AND report_id = :report_id"
            " AND study_uid = :study",
            tenant=tenant,
            report_id=report_id,
            study=study,
            reason=reason,
        )

    def replace_report(self, tx: Tx, tenant: str, report_id: str) -> list[Uid]:
        """Mark a report as replaced; the studies it spoke of, empty when it is not stored."""
        if not self.set_report_status(tx, tenant, report_id, "replaced"):
            return []
        rows = tx.rows(
            "SELECT study_uid FROM report_study WHERE tenant = :tenant AND report_id = :report_id",
            tenant=tenant,
            report_id=report_id,
        )
        return [Uid(row["study_uid"]) for row in rows]

    # -- evidence ------------------------------------------------------------------------------------------

    def note(self, tx: Tx, tenant: str, study: str, *, kind: str, summary: str, now: datetime) -> None:
        """Add a dated fact without patient values to the exam's timeline."""
        self._note(tx, tenant, study, kind=kind, summary=summary, now=now, sealed=None)

    def note_conflicts(
        self, tx: Tx, tenant: str, study: str, *, kind: str, conflicts: tuple[Conflict, ...], now: datetime
    ) -> None:
        """Add the conflicts: their names in clear, both values of each under seal."""
        summary = "; ".join(conflict.summary() for conflict in conflicts)
        sealed = self._vault.seal(tenant, f"evidence.sealed/{study}", _CONFLICTS.dump_json(conflicts))
        self._note(tx, tenant, study, kind=kind, summary=summary, now=now, sealed=sealed)

    def conflicts(self, tx: ReadTx, tenant: str, study: str) -> tuple[Conflict, ...]:
        """Every conflict noted for the exam, oldest first, with both values: only for who may read them."""
        rows = tx.rows(
            "SELECT sealed FROM evidence WHERE tenant = :tenant AND study_uid = :study AND sealed IS NOT NULL"
            " ORDER BY evidence_id",
            tenant=tenant,
            study=study,
        )
        place = f"evidence.sealed/{study}"
        return tuple(
            conflict
            for row in rows
            for conflict in _CONFLICTS.validate_json(self._vault.open(tenant, place, row["sealed"]))
        )

    # -- what a person decided -----------------------------------------------------------------------------

    def mark(self, tenant: str, conflict: Conflict) -> bytes:
        """Blind index of a conflict: its code and field, its two values, and what kind of source stated each."""
        sides = [conflict.left_source.split()[0], conflict.left, conflict.right_source.split()[0], conflict.right]
        return self._vault.blind(tenant, "waiver", json.dumps([conflict.code, conflict.field, *sides]))

    def waivers(self, tx: ReadTx, tenant: str, report_id: str, study: str, moment: Moment) -> frozenset[bytes]:
        """Marks of the conflicts of this report about this study that a person accepted and nothing ended."""
        rows = tx.rows(
            "SELECT seen FROM waiver WHERE tenant = :tenant AND report_id = :report_id AND study_uid = :study"
            " AND moment = :moment AND ended_at IS NULL",
            tenant=tenant,
            report_id=report_id,
            study=study,
            moment=moment,
        )
        return frozenset(row["seen"] for row in rows)

    def waive(
        self,
        tx: Tx,
        tenant: str,
        conflict: Conflict,
        *,
        report_id: str,
        study: str,
        moment: Moment,
        actor: str,
        reason: str,
        now: datetime,
    ) -> None:
        """Record that a person accepted exactly this conflict of this report about this study."""
        tx.change(
            "INSERT INTO waiver (tenant, report_id, study_uid, moment, code, seen, at, actor, reason)"
            " VALUES (:tenant, :report_id, :study, :moment, :code, :seen, :now, :actor, :reason)"
            " ON CONFLICT DO NOTHING",
            tenant=tenant,
            report_id=report_id,
            study=study,
            moment=moment,
            code=conflict.code,
            seen=self.mark(tenant, conflict),
            now=to_ms(now),
            actor=actor,
            reason=reason,
        )

    def end_waivers(self, tx: Tx, tenant: str, *, report_id: str, study: str, moment: Moment, now: datetime) -> None:
        """What was accepted counts no more: something else is stated now."""
        tx.change(
            "UPDATE waiver SET ended_at = :now WHERE tenant = :tenant AND report_id = :report_id"
            " AND study_uid = :study AND moment = :moment AND ended_at IS NULL",
            tenant=tenant,
            report_id=report_id,
            study=study,
            moment=moment,
            now=to_ms(now),
        )

    def keep_pacs(self, tx: Tx, tenant: str, study: Study, *, now: datetime) -> None:
        """Keep, sealed, the identity a PACS states that contradicts a report about the study."""
        tx.change(
            "INSERT INTO pacs_identity (tenant, study_uid, at, content) VALUES (:tenant, :study, :now, :content)"
            " ON CONFLICT (tenant, study_uid) DO UPDATE SET at = excluded.at, content = excluded.content",
            tenant=tenant,
            study=study.uid,
            now=to_ms(now),
            content=self._vault.seal(
                tenant, f"pacs_identity.content/{study.uid}", _STUDY.dump_json(replace(study, series=()))
            ),
        )

    def forget_pacs(self, tx: Tx, tenant: str, study: str) -> None:
        """The PACS contradicts nobody about the study any more."""
        tx.change(
            "DELETE FROM pacs_identity WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
        )

    def pacs_said(self, tx: ReadTx, tenant: str, study: str) -> Study | None:
        """The study, without its series, as the PACS stated it when it last contradicted a report, or None."""
        row = tx.row(
            "SELECT content FROM pacs_identity WHERE tenant = :tenant AND study_uid = :study",
            tenant=tenant,
            study=study,
        )
        if row is None:
            return None
        return _STUDY.validate_json(self._vault.open(tenant, f"pacs_identity.content/{study}", row["content"]))

    # -- manifests and entries -----------------------------------------------------------------------------

    def next_version(self, tx: ReadTx, tenant: str, study: str) -> int:
        """One more than the highest version ever stored for the study."""
        row = tx.row(
            "SELECT COALESCE(MAX(version), 0) + 1 AS version FROM manifest"
            " WHERE tenant = :tenant AND study_uid = :study",
            tenant=tenant,
            study=study,
        )
        return int(row["version"]) if row else 1

    def add_manifest(
        self,
        tx: Tx,
        *,
        job_id: int,
        manifest: StudyManifest,
        context: Context,
        edition: Edition,
        content_hash: str,
        submission: Submission,
        outline: str = "",
    ) -> None:
        """Store one version: its content and exactly the bytes that will be sent. One without documents stands for an
        entry whose bytes we no longer have: nothing is known of what we once told about it.
        Of an imported one, also its ``outline``."""
        key = f"{manifest.study}/{edition.version}"
        parts = _Parts(
            metadata=submission.metadata,
            documents=tuple(submission.documents.items()),
            is_secret=submission.is_secret,
            sender=submission.sender,
        )
        tx.change(
            "INSERT INTO manifest (tenant, study_uid, version, job_id, content_hash, document_hash, marks, unique_id,"
            " created_at, replaces, content, submission, series, instances, document_bytes, outline) VALUES (:tenant,"
            " :study, :version, :job_id, :content_hash, :document_hash, :marks, :unique_id, :created_at, :replaces,"
            " :content, :submission, :series, :instances, :document_bytes, :outline)",
            tenant=edition.tenant,
            study=manifest.study,
            version=edition.version,
            job_id=job_id,
            content_hash=content_hash,
            document_hash=document_hash(manifest, context) if submission.documents else "",
            marks=hiding.text(hiding.of(context)) if submission.documents else "",
            unique_id=submission.unique_id,
            created_at=to_ms(edition.created_at),
            replaces=edition.replaces,
            content=self._vault.seal(edition.tenant, f"manifest.content/{key}", to_blob(manifest, context)),
            submission=self._vault.seal(edition.tenant, f"manifest.submission/{key}", _PARTS.dump_json(parts)),
            series=len(manifest.series),
            instances=sum(len(one.instances) for one in manifest.series),
            document_bytes=sum(len(document) for document in submission.documents.values()),
            outline=outline,
        )

    def submission_of(self, tx: ReadTx, tenant: str, job_id: int) -> tuple[int, Submission] | None:
        """The newest version prepared by the job, byte for byte as stored, or None."""
        row = tx.row(
            "SELECT study_uid, version, unique_id, submission FROM manifest"
            " WHERE tenant = :tenant AND job_id = :job_id ORDER BY version DESC LIMIT 1",
            tenant=tenant,
            job_id=job_id,
        )
        return (row["version"], self._submission(tenant, row)) if row else None

    def submission_at(self, tx: ReadTx, tenant: str, study: str, version: int) -> Submission | None:
        """One version as it was submitted, byte for byte, or None."""
        row = tx.row(
            "SELECT study_uid, version, unique_id, submission FROM manifest"
            " WHERE tenant = :tenant AND study_uid = :study AND version = :version",
            tenant=tenant,
            study=study,
            version=version,
        )
        return self._submission(tenant, row) if row else None

    def manifest_at(self, tx: ReadTx, tenant: str, study: str, version: int) -> tuple[StudyManifest, Context] | None:
        """What one version says, or None."""
        row = tx.row(
            "SELECT content FROM manifest WHERE tenant = :tenant AND study_uid = :study AND version = :version",
            tenant=tenant,
            study=study,
            version=version,
        )
        place = f"manifest.content/{study}/{version}"
        return from_blob(self._vault.open(tenant, place, row["content"])) if row else None

    def add_entry(self, tx: Tx, tenant: str, study: str, *, version: int, entry: EntryFound, now: datetime) -> None:
        """Record what a query showed: this version is there, so none before it is approved any more."""
        tx.change(
            "UPDATE entry SET status = 'Deprecated' WHERE tenant = :tenant AND study_uid = :study"
            " AND version < :version AND status = 'Approved'",
            tenant=tenant,
            study=study,
            version=version,
        )
        tx.change(
            "INSERT INTO entry (tenant, study_uid, version, unique_id, entry_uuid, status, confirmed_at)"
            " VALUES (:tenant, :study, :version, :unique_id, :entry_uuid, :status, :now)"
            " ON CONFLICT (tenant, study_uid, version) DO UPDATE"
            " SET entry_uuid = excluded.entry_uuid, status = excluded.status, confirmed_at = excluded.confirmed_at",
            tenant=tenant,
            study=study,
            version=version,
            unique_id=entry.unique_id,
            entry_uuid=entry.entry_uuid,
            status=entry.status,
            now=to_ms(now),
        )

    def mark_withdrawn(self, tx: Tx, tenant: str, study: str, *, version: int, now: datetime) -> None:
        """Record that the index no longer shows this version because we withdrew it."""
        tx.change(
            "UPDATE entry SET status = 'Deleted', confirmed_at = :now"
            " WHERE tenant = :tenant AND study_uid = :study AND version = :version",
            tenant=tenant,
            study=study,
            version=version,
            now=to_ms(now),
        )

    def prepared_since(self, tx: ReadTx, tenant: str, study: str) -> list[Prepared]:
        """Every version newer than the newest a query showed, newest first: the index may hold one of them."""
        rows = tx.rows(
            "SELECT version, job_id, unique_id, content_hash, document_hash, marks FROM manifest"
            " WHERE tenant = :tenant AND study_uid = :study AND version > (SELECT COALESCE(MAX(version), 0)"
            " FROM entry WHERE tenant = :tenant AND study_uid = :study) ORDER BY version DESC",
            tenant=tenant,
            study=study,
        )
        return [
            Prepared(
                version=row["version"],
                job_id=row["job_id"],
                unique_id=row["unique_id"],
                content_hash=row["content_hash"],
                document_hash=row["document_hash"],
                told=hiding.read(row["marks"]),
            )
            for row in rows
        ]

    def published(self, tx: ReadTx, tenant: str, study: str) -> Published | None:
        """The newest version the index was seen to hold, or None: also when that one was withdrawn, because what it
        had replaced is no predecessor either."""
        row = tx.row(
            "SELECT e.version, e.unique_id, e.entry_uuid, e.status, e.shown, m.document_hash, m.outline, m.job_id,"
            " COALESCE(e.content_hash, m.content_hash) AS content_hash, COALESCE(e.told, m.marks) AS told"
            " FROM entry e JOIN manifest m"
            " ON m.tenant = e.tenant AND m.study_uid = e.study_uid AND m.version = e.version"
            " WHERE e.tenant = :tenant AND e.study_uid = :study ORDER BY e.version DESC LIMIT 1",
            tenant=tenant,
            study=study,
        )
        if row is None or row["status"] == "Deleted":
            return None
        return Published(
            version=row["version"],
            unique_id=row["unique_id"],
            entry_uuid=row["entry_uuid"],
            content_hash=row["content_hash"],
            job_id=row["job_id"],
            outline=row["outline"],
            document_hash=row["document_hash"],
            told=self._told(tx, tenant, study, row),
            shown=hiding.read(row["shown"]),
        )

    def _told(self, tx: ReadTx, tenant: str, study: str, row: Row) -> Marks | None:
        """What was told of the entry since its last confirmation, by requests of unknown outcome too."""
        confirmed = hiding.read(row["told"])
        if confirmed is None:
            return None
        unconfirmed = tx.rows(
            "SELECT told FROM revision WHERE tenant = :tenant AND study_uid = :study AND version = :version"
            " AND outcome = ''",
            tenant=tenant,
            study=study,
            version=row["version"],
        )
        return confirmed.union(*(one["told"].split() for one in unconfirmed))

    def note_shown(
        self,
        tx: Tx,
        tenant: str,
        study: str,
        *,
        version: int,
        shown: Marks | None,
        content_hash: str | None = None,
        told: Marks | None = None,
    ) -> None:
        """The index shows the entry of this version with the metadata we mean: what was told before is over.
        ``shown``: its marks, None where it does not tell them; ``content_hash``, ``told``: as the metadata stand now,
        None for those that came with the manifest."""
        tx.change(
            "UPDATE entry SET content_hash = :content_hash, told = :told, shown = :shown"
            " WHERE tenant = :tenant AND study_uid = :study AND version = :version",
            tenant=tenant,
            study=study,
            version=version,
            content_hash=content_hash,
            told=None if told is None else hiding.text(told),
            shown=None if shown is None else hiding.text(shown),
        )
        tx.change(
            "UPDATE revision SET outcome = 'confirmed' WHERE tenant = :tenant AND study_uid = :study"
            " AND version = :version AND outcome = ''",
            tenant=tenant,
            study=study,
            version=version,
        )

    def is_trial(self, tx: ReadTx, tenant: str, study: str) -> bool:
        """Whether we invented the exam ourselves, for the test patient."""
        row = tx.row(
            "SELECT study_uid FROM trial WHERE tenant = :tenant AND study_uid = :study", tenant=tenant, study=study
        )
        return row is not None

    # -- inside --------------------------------------------------------------------------------------------

    def _submission(self, tenant: str, row: Row) -> Submission:
        key = f"manifest.submission/{row['study_uid']}/{row['version']}"
        parts = _PARTS.validate_json(self._vault.open(tenant, key, row["submission"]))
        return Submission(
            unique_id=row["unique_id"],
            metadata=parts.metadata,
            documents=dict(parts.documents),
            is_secret=parts.is_secret,
            sender=parts.sender,
        )

    def _index_local_ids(self, tx: Tx, tenant: str, stated: StatedReport) -> None:
        """An identifier once stated stays."""
        for local in stated.local_ids:
            tx.change(
                "INSERT INTO report_local_id (tenant, local_blind, report_id) VALUES (:tenant, :blind, :report_id)"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                blind=self.local_blind(tenant, local),
                report_id=str(stated.report.document_id),
            )

    def _report(self, tx: ReadTx, row: Row) -> HeldReport:
        contested = tx.rows(
            "SELECT study_uid, contested FROM report_study WHERE tenant = :tenant AND report_id = :report_id"
            " AND contested <> ''",
            tenant=row["tenant"],
            report_id=row["report_id"],
        )
        return self._held(row, {one["study_uid"]: one["contested"] for one in contested})

    def _held(self, row: Row, contested: Mapping[str, str]) -> HeldReport:
        return HeldReport(
            report_id=row["report_id"],
            status=row["status"],
            reason=row["reason"],
            contested=contested,
            received_at=from_ms(row["received_at"]),
            link=row["link"],
            stated=self._opened(row["tenant"], row["report_id"], row["content"]),
        )

    def _open(self, tenant: str, report_id: str, sealed: bytes) -> StatedReport:
        """What the sealed bytes say: the reports of one patient are opened once, however often they are weighed."""
        return _STATED.validate_json(self._vault.open(tenant, f"report.content/{report_id}", sealed))

    def _note(
        self, tx: Tx, tenant: str, study: str, *, kind: str, summary: str, now: datetime, sealed: bytes | None
    ) -> None:
        tx.change(
            "INSERT INTO evidence (tenant, study_uid, at, kind, summary, sealed)"
            " VALUES (:tenant, :study, :at, :kind, :summary, :sealed)",
            tenant=tenant,
            study=study,
            at=to_ms(now),
            kind=kind,
            summary=summary,
            sealed=sealed,
        )

    def ins_blind(self, tenant: str, ins: Ins | None) -> bytes:
        """Blind index of the matricule."""
        return self._vault.blind(tenant, "ins", ins.matricule if ins else "")

    def local_blind(self, tenant: str, local: LocalId) -> bytes:
        """Blind index of a local identifier with its issuer."""
        return self._vault.blind(tenant, "local-id", f"{local.issuer}|{local.value}")
