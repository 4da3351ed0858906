"""One exam seen from three sides: ledger, PACS, index.

Invariants:

* the index is searched by reference where the entry we know is not the one it approves, and once for every exam of a
  restored database: a forgotten entry is adopted, never published beside (F22);
* an entry is ours when the device that made it and the structure it acts for are; the version of a forgotten one is
  the one whose derived uniqueId it has, else the next free one: a version is never used for other content
  (design §4);
* in all, one question an exam to the PACS, and to the index one for those exams of a batch that it can be asked for
  together (of one patient, or all); more only where they disagree. A list of documents only ever shows: what it
  leaves out is asked for alone, before it counts as absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from indexer import gate, knowledge, presence, revision, standing
from indexer.admission import WITHDRAWN_ELSEWHERE
from indexer.assemble import assemble
from indexer.consent import Consents
from indexer.decision import Index
from indexer.imaging import rejections
from indexer.ledger import HeldReport, Ledger, Prepared, Published
from indexer.manifest import Context, StudyManifest, content_hash, document_hash, edition, outline
from indexer.persons import Persons
from indexer.ports import EntryAbsent, EntryFound, EntryUnknown, IndexSearch, Listed, NationalIndex, StudySource
from indexer.publication import Policy
from indexer.questions import Disagreeing, combine
from indexer.reconciliation import rows
from indexer.reconciliation.decision import Facts, Pacs, Reports, Shown
from indexer.study import Absent, Found, Study, Unknown
from indexer.withdrawal import job_kind as withdrawal_kind
from indexer.xds.dialect import DIALECTS
from indexer.xds.ebrim import cx
from indexer.xds.metadata import adopted
from security.clock import Clock
from security.errors import BadInput
from security.identity import Uid
from security.outbox import jobs
from security.outbox.states import STOPPED, TERMINAL
from security.store.port import ReadTx, Store, Tx

PARALLEL = 8
"""Exams of a batch that are asked for at once."""
_VERSIONS_TRIED = 64
_NONE_SHOWN: Mapping[str, EntryFound] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What the store says of one study."""

    is_busy: bool
    is_stopped: bool
    reports: list[HeldReport]
    waived: Mapping[str, frozenset[bytes]]
    is_opposed: bool
    is_kept_out: bool
    newest: tuple[int, str, str] | None
    published: Published | None
    attempted: Prepared | None
    next_version: int
    uids: Mapping[str, int]
    memory: rows.Memory
    rejected: Mapping[Uid, frozenset[str]]

    @property
    def candidates(self) -> list[tuple[str, int]]:
        """UniqueId and version of what the index may show, the newest first."""
        known = [(one.unique_id, one.version) for one in (self.attempted, self.published) if one]
        if self.published is None and self.newest:
            version, unique_id, _ = self.newest
            known.append((unique_id, version))
        return known

    def known(self, version: int) -> Published | Prepared | None:
        """What the store says of the version, None when it is neither the published nor the last attempted one."""
        known = (one for one in (self.published, self.attempted) if one and one.version == version)
        return next(known, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a manifest of the study would hold now, and what of it is compared with the index."""

    manifest: StudyManifest
    meant: revision.Content

    @property
    def context(self) -> Context:
        return self.meant.context

    @property
    def digest(self) -> str:
        return self.meant.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The facts of one exam, and what their effects need. ``entry``: of ``version``, as the index shows it;
    ``forgotten``: entries of ours that we do not know, oldest first."""

    study: Uid
    facts: Facts
    ours: Ours
    content: Content | None
    day: str
    is_searched: bool
    entry: EntryFound | None = None
    version: int = 0
    forgotten: tuple[Listed, ...] = ()


class Lookout:
    """Looks at the exams of one tenant."""

    def __init__(
        self,
        *,
        policy: Policy,
        store: Store,
        ledger: Ledger,
        sources: Sequence[StudySource],
        index: NationalIndex,
        search: IndexSearch,
        clock: Clock,
    ) -> None:
        self.policy = policy
        self.store = store
        self.ledger = ledger
        self.clock = clock
        self._sources = sources
        self._index = index
        self._search = search
        self._consents = Consents(ledger)
        self._persons = Persons(ledger, domain=policy.rules.domain)
        self._slots = asyncio.Semaphore(PARALLEL)
        self.asked = {"pacs": 0, "index": 0}

    async def look(self, studies: Sequence[Uid]) -> list[Picture]:
        """The exams as all three show them now."""
        known = await self.store.read(lambda tx: [self._ours(tx, study) for study in studies])
        listed = await self._listed(known)
        return list(
            await asyncio.gather(
                *(self._look(study, ours, listed) for study, ours in zip(studies, known, strict=True))
            )
        )

    async def _look(self, study: Uid, ours: Ours, listed: Mapping[str, EntryFound]) -> Picture:
        if ours.is_busy:
            return self._picture(study, ours, pacs=Pacs.UNKNOWN, shown=Shown.UNKNOWN)
        async with self._slots:
            return await self.seen(study, ours, listed)

    async def seen(
        self, study: Uid, ours: Ours | None = None, listed: Mapping[str, EntryFound] = _NONE_SHOWN
    ) -> Picture:
        """One exam, also while its lane is at work. ``listed``: entries that the index just showed."""
        known = await self.store.read(lambda tx: self._ours(tx, study)) if ours is None else ours
        (pacs, content, day), (shown, entry, version) = await asyncio.gather(
            self._pacs(study, known), self._shown(known, listed)
        )
        stored = known.known(version)
        is_otherwise = False
        if pacs is Pacs.OTHER and content is not None and stored is not None and content.meant.is_of(stored):
            pacs = Pacs.SAME
            is_otherwise = entry is not None and is_visibility(version, stored, entry, content)
        picture = self._picture(
            study, known, pacs=pacs, shown=shown, content=content, day=day, entry=entry, version=version
        )
        picture = replace(picture, facts=replace(picture.facts, is_shown_otherwise=is_otherwise))
        if not self._must_search(known, shown):
            return picture
        return await self._searched(picture)

    @staticmethod
    def _must_search(ours: Ours, shown: Shown) -> bool:
        """Whether the entry that counts may be one we do not know."""
        if shown is Shown.UNKNOWN or not ours.reports:
            return False
        return ours.memory.is_search_due or shown in {Shown.DEPRECATED, Shown.MISSING}

    def _ours(self, tx: ReadTx, study: Uid) -> Ours:
        tenant = self.policy.tenant
        in_lane = [job for job in jobs.lane_jobs(tx, tenant=tenant, lane=study) if job.state not in TERMINAL]
        reports = knowledge.reports(tx, tenant, study, ledger=self.ledger, persons=self._persons)
        sent = jobs.last_attempts(tx, tenant=tenant, lane=study)
        attempted = [one for one in self.ledger.prepared_since(tx, tenant, study) if one.job_id in sent]
        return Ours(
            is_busy=any(job.state not in STOPPED or job.kind == withdrawal_kind(tenant) for job in in_lane),
            is_stopped=bool(in_lane),
            reports=reports,
            waived={one.report_id: self.ledger.waivers(tx, tenant, one.report_id, study, "pacs") for one in reports},
            is_opposed=knowledge.is_opposed(tx, tenant, reports, consents=self._consents, persons=self._persons),
            is_kept_out=presence.is_kept_out(tx, tenant, study),
            newest=rows.newest_status(tx, tenant, study),
            published=self.ledger.published(tx, tenant, study),
            attempted=attempted[0] if attempted else None,
            next_version=self.ledger.next_version(tx, tenant, study),
            uids=rows.known_uids(tx, tenant, study),
            memory=rows.memory(tx, tenant, study),
            rejected=rejections.rejected(tx, tenant, study),
        )

    def is_changed(self, tx: ReadTx, picture: Picture) -> bool:
        """Whether the store says of the exam what it did not when the picture was taken."""
        now = self._ours(tx, picture.study)
        then = picture.ours
        stood = [[(one.report_id, one.status) for one in side.reports] for side in (now, then)]
        return (now.is_busy, now.is_kept_out, now.newest, stood[0]) != (
            then.is_busy,
            then.is_kept_out,
            then.newest,
            stood[1],
        )

    # -- the PACS ------------------------------------------------------------------------------------------------

    async def _pacs(self, study: Uid, ours: Ours) -> tuple[Pacs, Content | None, str]:
        found = await asyncio.gather(*(source.find(study) for source in self._sources))
        self.asked["pacs"] += len(found)
        match combine(list(zip((source.name for source in self._sources), found, strict=True))):
            case Unknown():
                return Pacs.UNKNOWN, None, ""
            case Disagreeing():
                return Pacs.CONTRADICTED, None, ""
            case Absent(is_proven=is_proven):
                return Pacs.ABSENT if is_proven else Pacs.UNPROVEN, None, ""
            case Found(study=held):
                listed = rejections.shown(held, ours.rejected, self.policy.hiding)
                if listed is None:  # what it holds may be listed by nobody: as if it held nothing
                    return Pacs.ABSENT, None, held.date
                return *self._compared(listed, ours), held.date

    def _compared(self, held: Study, ours: Ours) -> tuple[Pacs, Content | None]:
        """What a manifest would hold now; whether the index shows the same is for the caller to compare."""
        valid = [one for one in ours.reports if one.status == "valid"]
        speaking = valid or ours.reports[-1:]
        if not speaking:
            return Pacs.OTHER, None
        if any(self._is_contradicted(one, held, ours) for one in valid):
            return Pacs.CONTRADICTED, None
        try:
            manifest, context = assemble(
                [one.stated.report for one in speaking],
                speaking[-1].stated.envelope.ins,
                held,
                self.policy.site,
                domain=self.policy.rules.domain,
            )
        except BadInput:
            return Pacs.CONTRADICTED, None
        meant = revision.Content(
            context=context,
            digest=content_hash(manifest, context),
            document=document_hash(manifest, context),
            outlined=outline(manifest, context) if any(one.link for one in valid) else "",
        )
        content = Content(manifest=manifest, meant=meant)
        return Pacs.OTHER, content

    def _is_contradicted(self, held: HeldReport, study: Study, ours: Ours) -> bool:
        found = gate.against_pacs(report=held.stated.report, study=study, rules=self.policy.rules)
        waived = ours.waived[held.report_id]
        return gate.accepting(found, lambda one: self.ledger.mark(self.policy.tenant, one) in waived).holds

    # -- the index -----------------------------------------------------------------------------------------------

    async def _listed(self, known: Sequence[Ours]) -> Mapping[str, EntryFound]:
        """What the index shows of the newest version of each exam, by uniqueId."""
        together: dict[str, list[str]] = {}
        for ours in known:
            if ours.candidates and not ours.is_busy:
                patient = "" if self._search.spans_patients else next(iter(self._patients(ours.reports)), "")
                together.setdefault(patient, []).append(ours.candidates[0][0])
        lists = [unique_ids for unique_ids in together.values() if len(unique_ids) > 1]
        self.asked["index"] += len(lists)
        found = await asyncio.gather(*(self._search.find_documents(unique_ids) for unique_ids in lists))
        return {unique_id: entry for one in found for unique_id, entry in one.items()}

    async def _shown(self, ours: Ours, listed: Mapping[str, EntryFound]) -> tuple[Shown, EntryFound | None, int]:
        """What the index shows of the newest version it may hold."""
        for unique_id, version in ours.candidates:
            if (known := listed.get(unique_id)) is not None:
                return Shown(known.status.lower()), known, version
            self.asked["index"] += 1
            match await self._index.find_document(unique_id):
                case EntryUnknown():
                    return Shown.UNKNOWN, None, 0
                case EntryFound(status=status) as entry:
                    return Shown(status.lower()), entry, version
                case EntryAbsent():
                    continue
        return (Shown.MISSING if ours.published else Shown.NOTHING), None, 0

    async def _searched(self, picture: Picture) -> Picture:
        """The same picture after a search by reference."""
        listed: dict[str, Listed] = {}
        for patient in self._patients(picture.ours.reports):
            self.asked["index"] += 1
            found = await self._search.find_by_reference(
                patient, picture.study, self.policy.publisher.study_uid_issuer
            )
            if isinstance(found, EntryUnknown):
                facts = replace(picture.facts, shown=Shown.UNKNOWN)
                return replace(picture, facts=facts, is_searched=False)
            listed |= {one.entry.unique_id: replace(one, patient=patient) for one in found if self._is_ours(one)}
        picture = replace(picture, is_searched=True)
        forgotten = sorted(
            (one for uid, one in listed.items() if uid not in picture.ours.uids),
            key=lambda one: (one.created, one.entry.status == "Approved", one.entry.unique_id),
        )
        if forgotten:
            facts = replace(picture.facts, shown=Shown.AHEAD, can_adopt=picture.content is not None)
            return replace(picture, facts=facts, forgotten=tuple(forgotten))
        known = [(version, listed[uid].entry) for uid, version in picture.ours.uids.items() if uid in listed]
        version, newest = max(known, key=lambda one: one[0], default=(0, None))
        if newest and newest.status == "Deleted" and picture.facts.shown in {Shown.MISSING, Shown.NOTHING}:
            facts = replace(picture.facts, shown=Shown.DELETED)
            return replace(picture, facts=facts, entry=newest, version=version)
        return picture

    def _is_ours(self, listed: Listed) -> bool:
        """Whether this gateway made the entry, for this legal entity: two boxes of one make may call themselves the
        same, and one box serves several entities."""
        publisher = self.policy.publisher
        return (listed.author, listed.institution) == (publisher.device_id, publisher.institution_id)

    def _picture(
        self,
        study: Uid,
        ours: Ours,
        *,
        pacs: Pacs,
        shown: Shown,
        content: Content | None = None,
        day: str = "",
        entry: EntryFound | None = None,
        version: int = 0,
    ) -> Picture:
        return Picture(
            study=study,
            facts=Facts(
                is_busy=ours.is_busy,
                is_stopped=ours.is_stopped,
                can_adopt=False,
                is_withdrawn=ours.newest is not None and ours.newest[2] == "Deleted",
                reports=_reports(ours, study),
                pacs=pacs,
                shown=shown,
                absent_since=ours.memory.absent_since,
                now=self.clock.now(),
                is_kept_out=ours.is_kept_out,
            ),
            ours=ours,
            content=content,
            day=day,
            is_searched=False,
            entry=entry,
            version=version,
        )

    def _patients(self, reports: Sequence[HeldReport]) -> list[str]:
        """Every identifier under which the index may know the patient, as CX, newest report first, each once."""
        domain, kind = self.policy.rules.domain, DIALECTS[self.policy.profile].patient_id_type
        named: list[str] = []
        for one in reversed(reports):
            patient = one.stated.report.patient
            if domain:
                named += [cx(local.value, domain, kind) for local in one.stated.local_ids if local.issuer == domain]
            elif patient.ins is not None:
                named.append(cx(patient.ins.matricule, patient.ins.oid, kind))
        return list(dict.fromkeys(named))

    # -- adoption ------------------------------------------------------------------------------------------------

    def adopt(self, tx: Tx, picture: Picture) -> None:
        """Write the newest forgotten entry into the ledger, as what the index shows."""
        content, newest = picture.content, picture.forgotten[-1]
        assert content is not None, "the table adopts only what can be"
        tenant, now, entry = self.policy.tenant, self.clock.now(), newest.entry
        made = partial(
            edition, tenant=tenant, study=picture.study, created_at=now.replace(microsecond=0), replaces=None
        )
        first = picture.ours.next_version
        tried = range(1, first + _VERSIONS_TRIED)
        same = next(
            (n for n in tried if str(made(version=n, content=content.digest).unique_id) == entry.unique_id), 0
        )
        version = same if same >= first else first - 1 + len(picture.forgotten)
        digest = content.digest if same else f"adopted:{entry.unique_id}"
        self.ledger.add_manifest(
            tx,
            job_id=0,
            manifest=content.manifest,
            context=content.context,
            edition=made(version=version, content=digest),
            content_hash=digest,
            submission=adopted(
                unique_id=entry.unique_id, patient=newest.patient, source_id=self.policy.publisher.source_id
            ),
        )
        self.ledger.add_entry(tx, tenant, picture.study, version=version, entry=entry, now=now)
        self.note(tx, picture.study, "entry-adopted", f"version {version} is {entry.status} in the index")
        if entry.status == "Deleted":
            self.hold_reports(tx, picture)

    def mark_withdrawn(self, tx: Tx, picture: Picture) -> None:
        """The index says that our entry was withdrawn: so it is, and nothing brings it back by itself."""
        tenant, version, now = self.policy.tenant, picture.version, self.clock.now()
        assert picture.entry is not None, "an entry was shown as withdrawn"
        self.ledger.add_entry(tx, tenant, picture.study, version=version, entry=picture.entry, now=now)
        self.ledger.mark_withdrawn(tx, tenant, picture.study, version=version, now=now)
        self.note(tx, picture.study, "withdrawal-adopted", f"version {version} was withdrawn at the index")
        self.hold_reports(tx, picture)

    def hold_reports(self, tx: Tx, picture: Picture) -> None:
        """Only another report, or a person, publishes again what was withdrawn and why is not known here."""
        for report in picture.ours.reports:
            if report.status == "valid":
                self.ledger.set_report_status(tx, self.policy.tenant, report.report_id, "held", WITHDRAWN_ELSEWHERE)

    def note(self, tx: Tx, study: Uid, kind: str, summary: str) -> None:
        """One line of the exam's timeline."""
        self.ledger.note(tx, self.policy.tenant, study, kind=kind, summary=summary, now=self.clock.now())


def is_visibility(version: int, stored: Published | Prepared, entry: EntryFound, content: Content) -> bool:
    """Whether the index hides the entry from others than we mean, or from fewer."""
    shown = standing.Shown(version=version, known=stored, entry=entry)
    return revision.compared(shown, content.meant) is Index.VISIBILITY


def _reports(ours: Ours, study: Uid) -> Reports:
    """What the reports say together; a contradiction about another study holds all of them."""
    valid = [one for one in ours.reports if one.status == "valid"]
    if any(one.status == "held" and one.reason != "patient-opposed" for one in ours.reports):
        return Reports.HELD
    if ours.is_opposed or any(one.status == "held" for one in ours.reports):
        return Reports.OPPOSED
    if not valid:
        return Reports.NONE
    is_contested = any(other != study for one in valid for other in one.contested)
    hidden = not all(one.stated.report.visibility.for_index for one in valid)
    return Reports.HELD if is_contested or hidden else Reports.VALID
