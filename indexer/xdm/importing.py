"""An exam of an XDM archive taken into the ledger, so that the box can go on from there.

Invariants:

* one exam is one transaction: its whole version chain, its reports, evidence, audit record and job, or nothing; what
  is known already changes nothing, so an import may be repeated or taken up again at any time;
* nothing is sent for an import: the job that follows asks the PACS and the index, and the database is marked as one
  that the index may know more than (``reconciliation.rows.mark_restored``), so that what was withdrawn or replaced
  meanwhile is found before anything of it goes out;
* a report that an archive names is not the report: it keeps its exam valid, under the identity and the flags that
  were published, until the report itself comes (``Admission.admit``) or one that replaces it, or it is withdrawn;
* the identity gate judges an imported exam as it judges a message: its KOS stands where a report's CDA does, METADATA
  and CR.TXT where the envelope does; whatever holds a message holds the exam;
* a report known here is never tied to an exam of another patient on an archive's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from indexer import hiding
from indexer.admission import ARCHIVE_LINK, WITHDRAWN_ELSEWHERE, Admission, Carrier
from indexer.decision import Arrival
from indexer.ledger import HeldReport, StatedReport
from indexer.manifest import Edition, derived_uid, outline
from indexer.ports import EntryFound, Submission
from indexer.reconciliation import rows
from indexer.report import DocumentId, Report
from indexer.xdm.layout import Link
from indexer.xdm.reading import Version
from security import audit
from security.errors import BadInput
from security.identity import Uid
from security.outbox.port import JobClass
from security.store.port import ReadTx, Tx

ZONE = "ops"
_STATUSES = frozenset({"Approved", "Deprecated", "Deleted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Every version of one exam, oldest first, each with its number and its status in the index."""

    study: Uid
    versions: tuple[tuple[int, str, Version], ...]

    @property
    def newest(self) -> Version:
        return self.versions[-1][2]

    @property
    def is_withdrawn(self) -> bool:
        return self.versions[-1][1] == "Deleted"


def chain(versions: Sequence[Version]) -> Chain:
    """The versions of one exam in their order: by the moment of submission, numbered as their sets say where all of
    them do and it fits, else from 1. Where an archive says no status, the last is approved and the others deprecated.

    Raises:
        BadInput: ``xdm-status``; ``xdm-twice`` two sets hold one document.
    """
    ordered = sorted(versions, key=lambda one: (one.submitted_at, one.number or 0))
    if len({one.imprint.unique_id for one in ordered}) != len(ordered):
        raise _refused("xdm-twice", "two submission sets hold the same document")
    stated = [one.number for one in ordered if one.number is not None]
    is_numbered = len(stated) == len(ordered) and stated == sorted(set(stated))
    numbers = stated if is_numbered else list(range(1, len(ordered) + 1))
    last = len(ordered) - 1
    statuses = [one.status or ("Approved" if at == last else "Deprecated") for at, one in enumerate(ordered)]
    if not set(statuses) <= _STATUSES:
        raise _refused("xdm-status", "the archive states an availabilityStatus that nobody knows")
    # An export that runs beside the gateway may have met a version just before it was replaced.
    statuses = ["Deprecated" if one == "Approved" and at < last else one for at, one in enumerate(statuses)]
    return Chain(study=ordered[0].manifest.study, versions=tuple(zip(numbers, statuses, ordered, strict=True)))


def known(tx: ReadTx, tenant: str, found: Chain) -> tuple[tuple[int, str, Version], ...]:
    """The versions of the chain that the ledger lacks.

    Raises:
        BadInput: ``xdm-known-otherwise`` it holds others, or these under other numbers; ``xdm-elsewhere`` a document
            of the chain is that of another exam here.
    """
    here = rows.known_uids(tx, tenant, found.study)
    listed = {str(one.imprint.unique_id): number for number, _, one in found.versions}
    missing = tuple(one for one in found.versions if str(one[2].imprint.unique_id) not in here)
    if not missing:
        return ()
    is_prefix = all(listed.get(uid) == number for uid, number in here.items())
    if not is_prefix or any(number <= max(here.values(), default=0) for number, _, _ in missing):
        raise _refused("xdm-known-otherwise", "the database holds other versions of the exam: nothing is changed")
    for _, _, one in missing:
        if tx.rows(
            "SELECT 1 FROM manifest WHERE tenant = :tenant AND unique_id = :uid",
            tenant=tenant,
            uid=str(one.imprint.unique_id),
        ):
            raise _refused("xdm-elsewhere", "a document of the exam is that of another exam here")
    return missing


def take(tx: Tx, admission: Admission, found: Chain, *, source: str, actor: str, now: datetime, marks: bool) -> str:
    """Write the exam; ``known`` when there was nothing new, ``withdrawn`` of one that was, ``held`` with doubts, else
    ``imported``. ``source``: names the archive; ``marks``: also note that the index may know more.

    Raises:
        BadInput: as ``known``.
    """
    missing = known(tx, admission.tenant, found)
    if not missing:
        return "known"
    study, ledger, tenant = found.study, admission.ledger, admission.tenant
    held = _link_reports(tx, admission, found, now)
    for number, status, one in missing:
        ledger.add_manifest(
            tx,
            job_id=0,
            manifest=one.manifest,
            context=one.context,
            edition=_edition(tenant, number, one),
            content_hash=_content(tenant, number, one),
            submission=Submission(
                unique_id=str(one.imprint.unique_id), metadata=one.metadata, documents=one.documents
            ),
            outline=outline(one.manifest, one.context),
        )
        entry = EntryFound(entry_uuid=one.entry_uuid, unique_id=str(one.imprint.unique_id), status=status)
        ledger.add_entry(tx, tenant, study, version=number, entry=entry, now=now)
        if one.revised_hash and _is_proven(tenant, number, one):
            hidden = hiding.of(one.context)
            ledger.note_shown(
                tx, tenant, study, version=number, shown=hidden, content_hash=one.revised_hash, told=hidden
            )
    told = f"{len(missing)} versions from {source}"
    notes = sorted({note for _, _, one in missing for note in one.notes})
    ledger.note(tx, tenant, study, kind="imported", summary="; ".join([told, *notes]), now=now)
    _audit(tx, tenant, study, actor=actor, detail=told, now=now)
    if marks:
        rows.mark_restored(tx, now=now)
    admission.announce(tx, study, Arrival.LOOK, Carrier(control_id="", zone=ZONE, at=now, job_class=JobClass.P3))
    if found.is_withdrawn:
        return "withdrawn"
    return "held" if held else "imported"


def _edition(tenant: str, number: int, one: Version) -> Edition:
    made = one.imprint
    return Edition(
        tenant=tenant,
        version=number,
        created_at=made.created_at,
        unique_id=made.unique_id,
        series_uid=made.series_uid or made.unique_id,
        submission_id=made.unique_id,
    )


def _content(tenant: str, number: int, one: Version) -> str:
    """The content hash that the archive claims, where the document's identifier proves it: it derives from the hash.
    Else a mark that is no hash, so that the report, once it has come, publishes its own content."""
    return one.content_hash if _is_proven(tenant, number, one) else f"adopted:{one.imprint.unique_id}"


def _is_proven(tenant: str, number: int, one: Version) -> bool:
    proven = derived_uid("document", tenant, str(one.manifest.study), str(number), one.content_hash)
    return one.content_hash != "" and proven == one.imprint.unique_id


# -- the reports -------------------------------------------------------------------------------------------------


def _link_reports(tx: Tx, admission: Admission, found: Chain, now: datetime) -> bool:
    """Store what the archive says of the exam's reports; whether one of them holds the exam."""
    counting = {link.report for link in found.newest.links}
    is_held = False
    for _, _, one in found.versions:
        for link in one.links:
            if link.report not in counting:
                _note_replaced(tx, admission, one, link)
    for link in found.newest.links:
        is_held |= _link(tx, admission, found, link.report, named="named", now=now)
    if not found.newest.links:
        stand_in = DocumentId(root=derived_uid("archived-report", str(found.newest.imprint.unique_id)))
        is_held |= _link(tx, admission, found, stand_in, named="unnamed", now=now)
    return is_held


def _note_replaced(tx: Tx, admission: Admission, one: Version, link: Link) -> None:
    """A report of an earlier version that counts no more: known, so that it is not taken for a new one."""
    ledger, tenant = admission.ledger, admission.tenant
    if ledger.report(tx, tenant, str(link.report)) is None:
        stated = _stated(one, link.report)
        ledger.add_report(
            tx,
            tenant,
            stated,
            zone=ZONE,
            control_id="",
            status="replaced",
            reason="",
            now=one.imprint.created_at,
            link="named",
        )
    elif _is_link(tx, admission, str(link.report)):
        ledger.set_report_status(tx, tenant, str(link.report), "replaced")


def _is_link(tx: ReadTx, admission: Admission, report_id: str) -> bool:
    held = admission.ledger.report(tx, admission.tenant, report_id)
    return held is not None and held[0].link != "" and held[0].status in {"valid", "held"}


def _link(tx: Tx, admission: Admission, found: Chain, report: DocumentId, *, named: str, now: datetime) -> bool:
    """One report that counts; whether it holds the exam."""
    ledger, tenant = admission.ledger, admission.tenant
    stated = _stated(found.newest, report)
    there = ledger.report(tx, tenant, str(report))
    if there is not None:
        if _is_the_same(there[0], stated, found.study):
            return there[0].status == "held"
        if there[0].link and _is_one_patient(there[0].stated, stated):
            return _widen(tx, admission, there[0], stated)
        stand_in = DocumentId(root=derived_uid("archived-report", str(found.newest.imprint.unique_id)))
        stated, named = _stated(found.newest, stand_in), "unnamed"
    verdict = admission.judge(tx, stated)
    reason = ARCHIVE_LINK if there is not None else verdict.reason
    if found.is_withdrawn:
        reason = WITHDRAWN_ELSEWHERE
    ledger.add_report(
        tx,
        tenant,
        stated,
        zone=ZONE,
        control_id="",
        status="held" if reason else "valid",
        reason=reason,
        now=found.newest.imprint.created_at,
        link=named,
    )
    if verdict.conflicts:
        kind = "identity-conflict" if verdict.holds else "identity-warning"
        ledger.note_conflicts(tx, tenant, found.study, kind=kind, conflicts=verdict.conflicts, now=now)
    return bool(reason)


def _is_the_same(held: HeldReport, stated: StatedReport, study: Uid) -> bool:
    return study in held.stated.report.studies and _is_one_patient(held.stated, stated)


def _is_one_patient(held: StatedReport, stated: StatedReport) -> bool:
    ours, theirs = held.report.patient.ins, stated.report.patient.ins
    if ours and theirs:
        return (ours.matricule, ours.oid) == (theirs.matricule, theirs.oid)
    return not set(held.local_ids).isdisjoint(stated.local_ids)


def _widen(tx: Tx, admission: Admission, held: HeldReport, stated: StatedReport) -> bool:
    """One report on several exams, of which the archive holds a set each: its link speaks of this one too."""
    first, more = held.stated.report, stated.report
    report = replace(
        first,
        studies=tuple(dict.fromkeys((*first.studies, *more.studies))),
        orders=tuple(dict.fromkeys((*first.orders, *more.orders))),
    )
    content = replace(held.stated, report=report)
    admission.ledger.widen(tx, admission.tenant, content, zone=ZONE, now=held.received_at)
    return held.status == "held"


def _stated(one: Version, document_id: DocumentId) -> StatedReport:
    """The report as far as what was published tells it."""
    manifest, context = one.manifest, one.context
    report = Report(
        document_id=document_id,
        set_id="",
        version_number=None,
        replaces=None,
        patient=one.patients.document,
        studies=(manifest.study,),
        orders=manifest.orders,
        authors=(),
        legal_authenticator=context.legal_authenticator,
        performer=None,
        procedure=next(iter(manifest.procedures), None),
        procedures_local=manifest.procedures[1:],
        regions=manifest.regions or one.regions,
        service_start=context.service_start,
        service_stop=context.service_stop,
        facility_type=context.facility_type,
        practice_setting=context.practice_setting,
        confidentiality=context.confidentiality,
        language=context.language,
        effective_time=one.imprint.created_at,
        visibility=context.visibility,
    )
    return StatedReport(envelope=one.patients.stated, report=report)


def _audit(tx: Tx, tenant: str, study: str, *, actor: str, detail: str, now: datetime) -> None:
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=tenant,
            zone=ZONE,
            at=now,
            event="exam.imported",
            actor=actor,
            outcome=0,
            object_type="study",
            object_id=study,
            detail=detail,
        ),
    )


def _refused(code: str, why: str) -> BadInput:
    return BadInput(why, code=code, hint="compare both boxes with the index: poterne reconcile, poterne exam")
