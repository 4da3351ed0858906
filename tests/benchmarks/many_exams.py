"""Exams that are published already, written straight into ledger and index: as many as a site makes in ten years.

One exam is published by the parts themselves; the others are that one under other identifiers, of a patient each. A
run of reconciliation that finds them all in step proves that they are what the parts would have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gateway.lab import index as lab
from gateway.lab.ris import LabExam
from indexer.assemble import assemble
from indexer.ledger import StatedReport
from indexer.manifest import content_hash, edition
from indexer.ports import EntryFound
from indexer.registry import lookup, rows
from indexer.xds import vocabulary as xds
from indexer.xds.ebrim import cx
from indexer.xds.metadata import adopted
from indexer.xds.objects import DocumentEntry, serialised
from security.identity import PatientIdentity, Uid
from security.seal import Vault
from security.secrets import read_kek
from security.store.port import ReadTx, Store, Tx
from tests.support.reconciling import lab_exam
from tests.support.world import TENANT, World

AT_ONCE = 500


async def publish_many(w: World, folder: Path, exams: int) -> None:
    """``exams`` of them, in step at PACS, ledger and index."""
    first = lab_exam(0)
    w.pacs.hold(first)
    await w.report(first)
    await w.settle()
    stated = (await w.store.read(lambda tx: w.ledger.reports_of(tx, TENANT, Uid(first.studies[0]))))[0].stated
    index: Store = w.index._store
    vault = await Vault.load(index, read_kek(folder / "index" / "kek"), [lab.TENANT], w.clock)
    entry = await index.read(lambda tx: _published(tx, vault))
    for start in range(1, exams, AT_ONCE):
        some = [lab_exam(number) for number in range(start, min(start + AT_ONCE, exams))]
        uids = await w.store.write(lambda tx, some=some: [_known(tx, w, exam, first, stated) for exam in some])
        await index.write(lambda tx, some=some, uids=uids: _held(tx, vault, entry, some, uids))


def _published(tx: ReadTx, vault: Vault) -> DocumentEntry:
    row = tx.rows("SELECT patient_key FROM registry_object WHERE kind = 'entry'")[0]
    chart = lookup.Chart(tx=tx, vault=vault, tenant=lab.TENANT, patient_key=bytes(row["patient_key"]), most=10)
    return chart.entries()[0]


def _known(tx: Tx, w: World, exam: LabExam, first: LabExam, stated: StatedReport) -> str:
    """Report, manifest and confirmed entry of one exam; its uniqueId."""
    study, now = Uid(exam.studies[0]), w.clock.now()
    held = w.pacs.hold(replace(exam, orders=first.orders))

    def own(patient: PatientIdentity) -> PatientIdentity:
        ins = replace(patient.ins, matricule=exam.patient.matricule) if patient.ins else None
        traits = replace(patient.traits, birthplace=exam.patient.birthplace)
        local = tuple(replace(one, value=exam.patient.ipp) for one in patient.local_ids)
        return replace(patient, traits=traits, ins=ins, local_ids=local)

    report = replace(
        stated.report,
        document_id=replace(stated.report.document_id, root=exam.document_id),
        studies=(study,),
        patient=own(stated.report.patient),
    )
    own_stated = StatedReport(envelope=own(stated.envelope), report=report)
    w.ledger.add_report(tx, TENANT, own_stated, zone="clinic", control_id="BENCH", status="valid", reason="", now=now)
    manifest, context = assemble([report], own_stated.envelope.ins, held, w.policy.site, domain="")
    digest = content_hash(manifest, context)
    made = edition(
        tenant=TENANT, study=study, version=1, content=digest, created_at=now.replace(microsecond=0), replaces=None
    )
    unique_id = str(made.unique_id)
    patient = _patient(exam)
    w.ledger.add_manifest(
        tx,
        job_id=0,
        manifest=manifest,
        context=context,
        edition=made,
        content_hash=digest,
        submission=adopted(unique_id=unique_id, patient=patient, source_id=w.policy.publisher.source_id),
    )
    shown = EntryFound(entry_uuid=_entry_uuid(exam), unique_id=unique_id, status="Approved")
    w.ledger.add_entry(tx, TENANT, study, version=1, entry=shown, now=now)
    return unique_id


def _held(tx: Tx, vault: Vault, entry: DocumentEntry, exams: Sequence[LabExam], uids: Sequence[str]) -> None:
    """The entries as the index node keeps them."""
    for exam, uid in zip(exams, uids, strict=True):
        values = {xds.ENTRY_UNIQUE_ID: uid, xds.ENTRY_PATIENT_ID: _patient(exam)}
        identifiers = tuple(replace(one, value=values.get(one.scheme, one.value)) for one in entry.identifiers)
        own = replace(entry, id=_entry_uuid(exam), logical_id=_entry_uuid(exam), identifiers=identifiers)
        row = rows.ObjectRow(
            entry_uuid=own.id,
            kind="entry",
            unique_id=uid,
            logical_id=own.id,
            version=1,
            object_type=own.object_type,
            hash=own.value("hash"),
            size=int(own.value("size")),
            content=vault.seal(lab.TENANT, lookup.object_context(own.id), serialised(own)),
        )
        key = lookup.patient_key(vault, lab.TENANT, (exam.patient.ins_oid, str(exam.patient.matricule)))
        rows.add(tx, lab.TENANT, key, [row], submitted_at=0)


def _patient(exam: LabExam) -> str:
    return cx(str(exam.patient.matricule), exam.patient.ins_oid, "NH")


def _entry_uuid(exam: LabExam) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{int(exam.studies[0].rpartition('.')[2]):012d}"
