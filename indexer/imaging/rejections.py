"""Rejection notes (IHE RAD TF-2 4.66, IOCM): the rows, whether each is obeyed, and what a manifest may still list.

What a note does, by its title: every one of them has the PACS asked, and the PACS's answer decides; nothing is
withdrawn on a note alone. 113001 (quality), 113037 (patient safety) and 113038 (wrong worklist entry) say that the
instances must not be shown: while such a note stands, no manifest lists them, also when a PACS that does not hide
them still answers with them. 113039 (retention expired) says that right images are being deleted: the PACS's answer
alone tells which are left, and what is stored again later is shown again. Which titles hide is a setting.

Invariants:

* a note is obeyed only for the patient whom the exam's reports name; else all of it is refused, kept, and told;
* a note about an exam of which no report speaks waits, and is judged when a report comes;
* the same note again is one effect; a refused one is judged again; another content under its UID is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from indexer import gate
from indexer.imaging.identity import Identity
from indexer.kos.rejection import TITLES, RejectionNote
from indexer.ledger import Ledger
from indexer.study import PacsPatient, Series, Study
from security.clock import from_ms, to_ms
from security.identity import Uid
from security.store.port import ReadTx, Row, Tx

HIDING = frozenset({"113001", "113037", "113038"})
"""Titles whose instances no manifest lists, unless the tenant sets others."""
OTHER_PATIENT = "rejection-other-patient"
OTHER_CONTENT = "rejection-other-content"
_DCM = frozenset({"DCM", "1.2.840.10008.2.16.4"})
_PATIENT = TypeAdapter(PacsPatient)


class Standing(StrEnum):
    """Where a note stands about a study."""

    WAITING = "waiting"  # no report says yet whose exam it is
    OBEYED = "obeyed"
    REFUSED = "refused"  # a person looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a note. ``reason``: stable code, "" unless refused. ``studies``: exams whose PACS is to be asked
    now."""

    standing: Standing
    reason: str = ""
    studies: tuple[Uid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedNote:
    """A refused note, for people."""

    note: str
    study: str
    title: str
    peer: str
    received_at: datetime
    reason: str


class Rejections:
    """The notes of one tenant."""

    def __init__(self, *, tenant: str, ledger: Ledger, rules: gate.Rules) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._identity = Identity(tenant=tenant, ledger=ledger, rules=rules)

    def take(self, tx: Tx, note: RejectionNote, *, peer: str, zone: str, now: datetime) -> Outcome:
        """Keep a note and judge it; note it on the exams it is about."""
        known = {one.study: self._row(tx, one.study, note.unique_id) for one in note.studies}
        if any(row is not None and not self._is_same(row, note) for row in known.values()):
            return Outcome(standing=Standing.REFUSED, reason=OTHER_CONTENT)
        if all(row is not None and row["standing"] == Standing.OBEYED for row in known.values()):
            return Outcome(standing=Standing.OBEYED)
        verdicts = {study: self._identity.judge(tx, study, note.patient) for study in known}
        is_refused = any(verdict is not None and verdict.holds for verdict in verdicts.values())
        touched = []
        for study, verdict in verdicts.items():
            standing = Standing.WAITING if verdict is None else Standing.OBEYED
            standing = Standing.REFUSED if is_refused else standing
            self._put(tx, note, study, standing, peer=peer, zone=zone, now=now)
            before = known[study]
            if verdict is not None and (before is None or before["standing"] != standing):
                self._tell(tx, study, self._found(tx, study, note.unique_id), verdict, now=now)
                touched += [study] if standing is Standing.OBEYED else []
        if is_refused:
            return Outcome(standing=Standing.REFUSED, reason=OTHER_PATIENT)
        standing = Standing.WAITING if None in verdicts.values() else Standing.OBEYED
        return Outcome(standing=standing, studies=tuple(touched))

    def settle(self, tx: Tx, study: Uid, *, now: datetime) -> None:
        """Judge what waited for a report of this study."""
        for row in tx.rows(
            "SELECT * FROM rejection WHERE tenant = :tenant AND study_uid = :study AND standing = 'waiting'",
            tenant=self._tenant,
            study=study,
        ):
            verdict = self._identity.judge(tx, study, self._patient(row))
            if verdict is None:
                return
            standing = Standing.REFUSED if verdict.holds else Standing.OBEYED
            tx.change(
                "UPDATE rejection SET standing = :standing, reason = :reason"
                " WHERE tenant = :tenant AND study_uid = :study AND note_uid = :note",
                tenant=self._tenant,
                study=study,
                note=row["note_uid"],
                standing=standing.value,
                reason=OTHER_PATIENT if verdict.holds else "",
            )
            self._tell(tx, study, {**row, "standing": standing.value}, verdict, now=now)

    # -- inside ------------------------------------------------------------------------------------------------

    def _row(self, tx: ReadTx, study: Uid, note: Uid) -> Row | None:
        return tx.row(
            "SELECT * FROM rejection WHERE tenant = :tenant AND study_uid = :study AND note_uid = :note",
            tenant=self._tenant,
            study=study,
            note=note,
        )

    def _found(self, tx: ReadTx, study: Uid, note: Uid) -> Row:
        row = self._row(tx, study, note)
        assert row is not None
        return row

    def _put(
        self,
        tx: Tx,
        note: RejectionNote,
        study: Uid,
        standing: Standing,
        *,
        peer: str,
        zone: str,
        now: datetime,
    ) -> None:
        instances = _instances_of(note, study)
        tx.change(
            "INSERT INTO rejection (tenant, zone, study_uid, note_uid, title, peer, received_at, standing, reason,"
            " number, instances, patient) VALUES (:tenant, :zone, :study, :note, :title, :peer, :now, :standing,"
            " :reason, :number, :instances, :patient) ON CONFLICT (tenant, study_uid, note_uid) DO UPDATE"
            " SET standing = excluded.standing, reason = excluded.reason, peer = excluded.peer",
            tenant=self._tenant,
            zone=zone,
            study=study,
            note=note.unique_id,
            title=note.title,
            peer=peer,
            now=to_ms(now),
            standing=standing.value,
            reason=OTHER_PATIENT if standing is Standing.REFUSED else "",
            number=len(instances),
            instances=_packed(instances),
            patient=self._ledger.vault.seal(
                self._tenant, _place(study, note.unique_id), _PATIENT.dump_json(note.patient)
            ),
        )

    def _is_same(self, row: Row, note: RejectionNote) -> bool:
        return (
            row["title"] == note.title
            and _unpacked(row["instances"]) == _instances_of(note, row["study_uid"])
            and self._patient(row) == note.patient
        )

    def _patient(self, row: Row) -> PacsPatient:
        place = _place(row["study_uid"], row["note_uid"])
        return _PATIENT.validate_json(self._ledger.vault.open(self._tenant, place, row["patient"]))

    def _tell(self, tx: Tx, study: Uid, row: Row, verdict: gate.Verdict, *, now: datetime) -> None:
        """The note on the timeline of its exam; a patient who is not the exam's with both values, under seal."""
        is_obeyed = row["standing"] == Standing.OBEYED
        self._ledger.note(
            tx,
            self._tenant,
            study,
            kind="images-rejected" if is_obeyed else "rejection-refused",
            summary=f"{row['title']} {TITLES[row['title']]}: {row['number']} instances, by note {row['note_uid']}"
            f" of {row['peer']}",
            now=now,
        )
        if verdict.conflicts:
            self._ledger.note_conflicts(
                tx, self._tenant, study, kind="identity-warning", conflicts=verdict.conflicts, now=now
            )


def rejected(tx: ReadTx, tenant: str, study: str) -> dict[Uid, frozenset[str]]:
    """Instances of the study that obeyed notes reject, with the titles under which they do."""
    found: dict[Uid, frozenset[str]] = {}
    for row in tx.rows(
        "SELECT title, instances FROM rejection WHERE tenant = :tenant AND study_uid = :study"
        " AND standing = 'obeyed'",
        tenant=tenant,
        study=study,
    ):
        for instance in _unpacked(row["instances"]):
            found[instance] = found.get(instance, frozenset()) | {row["title"]}
    return found


def refused(tx: ReadTx, tenant: str) -> list[RefusedNote]:
    """Notes that were not obeyed, oldest first."""
    return [
        RefusedNote(
            note=row["note_uid"],
            study=row["study_uid"],
            title=row["title"],
            peer=row["peer"],
            received_at=from_ms(row["received_at"]),
            reason=row["reason"],
        )
        for row in tx.rows(
            "SELECT * FROM rejection WHERE tenant = :tenant AND standing = 'refused' ORDER BY received_at, note_uid",
            tenant=tenant,
        )
    ]


def shown(study: Study, rejected: Mapping[Uid, frozenset[str]], hiding: frozenset[str]) -> Study | None:
    """The study without what no manifest lists: instances rejected under a title that hides, by a note we obeyed or
    by one that the PACS lists in the study itself, and such notes. None: nothing is left."""
    hidden = {instance for instance, titles in rejected.items() if titles & hiding}
    notes = set()
    for series in study.series:
        for one in series.instances:
            if one.note is not None and one.note.title.system in _DCM and one.note.title.code in TITLES:
                notes.add(one.sop_instance)
                hidden |= set(one.note.references) if one.note.title.code in hiding else set()
    if not hidden and not notes:
        return study
    left = tuple(kept for series in study.series if (kept := _without(series, hidden | notes)) is not None)
    return replace(study, series=left) if left else None


def _without(series: Series, hidden: set[Uid]) -> Series | None:
    left = []
    for one in series.instances:
        if one.sop_instance in hidden:
            continue
        if one.note is not None and not hidden.isdisjoint(one.note.references):
            kept = tuple(pointed for pointed in one.note.references if pointed not in hidden)
            left.append(replace(one, note=replace(one.note, references=kept)))
        else:
            left.append(one)
    return replace(series, instances=tuple(left)) if left else None


def _instances_of(note: RejectionNote, study: str) -> tuple[Uid, ...]:
    return next(one.instances for one in note.studies if one.study == study)


def _packed(instances: Iterable[str]) -> bytes:
    return zlib.compress("\n".join(instances).encode("ascii"))


def _unpacked(blob: bytes) -> tuple[Uid, ...]:
    return tuple(Uid(line) for line in zlib.decompress(blob).decode("ascii").split("\n"))


def _place(study: str, note: str) -> str:
    return f"rejection.patient/{study}/{note}"
