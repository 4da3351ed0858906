"""What a publication job means: gather, decide, send exactly the stored bytes, confirm by query.

One job stands for one intent: *the index should show this study as the valid reports and the PACS describe it*.
Its content is decided in ``settle`` from what is known then, and never again afterwards.

Invariants:

* what is to be done is read off ``decision``, step by step: nothing is prepared while a report of the study is held,
  or an opposition of the report (DESTDMP = N), of the patient (ZFA) or an inconclusive PACS answer stands (FF-19,
  FF-54, I10); an entry that must go is taken out by a withdrawal job, asked for in the same transaction;
* the same content as the index already shows sends nothing (I6); changed content names the entry that is
  approved *now* (FF-22); where only whom it is hidden from changed, that entry gets new metadata (``revision``);
* whether the images are complete is read off ``completeness``: an exam waits for them, never for ever, and the
  evidence that decided stands on its timeline in the transaction that keeps the version (FF-13, FF-15);
* in shadow mode everything happens but the sending, and no request of any kind reaches the index: what is ready
  waits BLOCKED with its bytes stored, and is settled anew when the tenant goes live;
* ``send`` sends what ``settle`` stored, byte for byte, on every attempt (I5, FF-21).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal
from zoneinfo import ZoneInfo

from indexer import (
    completeness,
    fhir,
    gate,
    hiding,
    knowledge,
    kos,
    presence,
    questions,
    sightings,
    standing,
    waiting,
    withdrawal,
    witness,
)
from indexer.assemble import Site, assemble
from indexer.consent import Consents
from indexer.decision import ABSENCE_APART, MOVING, Decision, Do, Facts, Index, Pacs, decide
from indexer.hiding import Marks
from indexer.imaging import rejections
from indexer.knowledge import Known
from indexer.ledger import HeldReport, Ledger
from indexer.manifest import (
    Context,
    Edition,
    Imprint,
    StudyManifest,
    content_hash,
    document_hash,
    edition,
    imprint,
    outline,
)
from indexer.persons import Persons
from indexer.ports import EntryAbsent, EntryAnswer, EntryFound, EntryUnknown, NationalIndex, StudySource, Submission
from indexer.questions import Disagreeing
from indexer.reading import Profile
from indexer.report import Professional
from indexer.revision import Content, Revision, Revisions, compared, target
from indexer.study import Absent, Found, Study, StudyAnswer, Unknown
from indexer.timeline import SHADOW
from indexer.xds.dialect import DIALECTS, FormName
from indexer.xds.metadata import Publisher, is_of, patient_id, submission
from indexer.xds.setsignature import SetSigner
from security.clock import Clock
from security.errors import BadInput, Broken
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import Answer, Job
from security.outbox.states import Event, State
from security.store.port import ReadTx, Store, Tx

_BY_REPORT = completeness.Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The tenant's part of the decision.

    ``visibility``: how long an entry the index accepted, or may have accepted, can stay invisible to queries
    before it counts as absent (F09). ``pacs_retry_*``: how soon a PACS that does not have the study, or did
    not answer, is asked again: doubling from base to cap. ``mode``: ``shadow`` sends nothing. ``profile``: the
    network's rules for document and metadata; ``form``: in which the manifest is written; ``hiding``:
    titles of rejection notes whose instances no manifest lists; ``signer``: who signs the
    submission set, asked for each one, None for nobody. ``completeness``: what says that the
    images are complete. ``updates_metadata``: the index takes new
    metadata of an entry (ITI-57); where it does not, every change is a new version of the manifest.
    """

    tenant: str
    timezone: ZoneInfo
    site: Site
    publisher: Publisher
    rules: gate.Rules
    visibility: timedelta
    pacs_retry_base_s: float
    pacs_retry_cap_s: float
    mode: Literal["live", "shadow"] = "live"
    profile: Profile = "drim-m"
    form: FormName = "kos"
    hiding: frozenset[str] = rejections.HIDING
    signer: Callable[[], SetSigner] | None = None
    completeness: completeness.Policy = _BY_REPORT
    updates_metadata: bool = False

    @property
    def patience(self) -> standing.Patience:
        """How long the tenant waits for what does not come at once."""
        return standing.Patience(
            visibility=self.visibility, retry_base_s=self.pacs_retry_base_s, retry_cap_s=self.pacs_retry_cap_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Predecessor:
    """What a new version follows: the entry approved now, None when the index holds none of ours. ``context``: of the
    new version, hidden as far as the entry is by others; ``effects``: what was learnt on the way."""

    entry_uuid: str | None
    context: Context
    effects: Callable[[Tx], None] | None = None


def job_kind(tenant: str) -> str:
    """The registered name of a tenant's publication jobs."""
    return f"publish:{tenant}"


class Publication:
    """The ``JobKind`` of one tenant. ``sources``: every PACS of the tenant, which alone say what a real study holds;
    ``trial``: who says it of a trial exam, and of nothing else."""

    def __init__(
        self,
        *,
        policy: Policy,
        store: Store,
        ledger: Ledger,
        sources: Sequence[StudySource],
        index: NationalIndex,
        clock: Clock,
        trial: Sequence[StudySource] = (),
        observe: Callable[[str, str], None] = lambda _what, _outcome: None,
    ) -> None:
        self.name = job_kind(policy.tenant)
        self.endpoint = f"index:{policy.tenant}"
        self._policy = policy
        self._dialect = DIALECTS[policy.profile]
        self._store = store
        self._ledger = ledger
        self._consents = Consents(ledger)
        self._persons = Persons(ledger, domain=policy.rules.domain)
        self._revisions = Revisions(terms=policy, store=store, ledger=ledger, clock=clock, kind=self.name)
        self._sources = sources
        self._trial = trial
        self._index = index
        self._clock = clock
        self._observe = observe

    # -- settle --------------------------------------------------------------------------------------------

    async def settle(self, job: Job) -> Answer:
        """Decide what will be sent, or why nothing can be yet."""
        study_uid, asked_at = Uid(job.lane), self._clock.now()
        known = await self._store.read(lambda tx: self._known(tx, study_uid))
        facts = known.facts(study_uid, asked_at)
        said = decide(facts)
        if said.do is not Do.ASK:
            stopped = self._stopping(job, known, said)
            over = partial(sightings.decided, tenant=job.tenant, study=job.lane)  # a later wait is a new one
            return replace(stopped, effects=_all(stopped.effects, over))
        sources = self._trial if known.is_trial else self._sources
        asked = await questions.ask(sources, study_uid, self._clock)
        note = partial(questions.note, tenant=job.tenant, study=job.lane, asked=asked, now=self._clock.now())
        answer = questions.combine([(one.pacs, one.answer) for one in asked])
        if facts.may_be_shown and isinstance(answer, Absent) and not answer.is_proven:
            proved = await witness.proved(asked, sources, store=self._store, tenant=job.tenant, study=study_uid)
            answer = questions.combine(proved)
        answered = await self._told(job, known, facts, answer, asked_at)
        return replace(answered, effects=_all(note, answered.effects))

    async def _told(
        self, job: Job, known: Known, facts: Facts, answer: StudyAnswer | Disagreeing, asked_at: datetime
    ) -> Answer:
        """What the answer of the PACS, asked then, means."""
        self._observe("pacs", type(answer).__name__.lower())
        match answer:
            case Unknown(reason=reason, detail=detail):
                facts = replace(facts, pacs=Pacs.UNKNOWN, pacs_reason=f"pacs-{reason}")
            case Absent(evidence=detail, is_proven=is_proven):
                counts = is_proven or not facts.may_be_shown
                facts = replace(facts, pacs=Pacs.ABSENT if counts else Pacs.UNPROVEN)
            case Disagreeing(names=names):
                facts, detail = replace(facts, pacs=Pacs.DISAGREE), f"{' and '.join(names)} hold different studies"
            case Found(study=study):
                shown = rejections.shown(study, known.rejected, self._policy.hiding)
                if shown is None:
                    facts, detail = replace(facts, pacs=Pacs.REJECTED), "every instance of the study was rejected"
                    answered = self._without_images(job, known, decide(facts), facts, detail)
                    return self._in_sight(job, known, answered, asked_at)
                facts = replace(facts, pacs=Pacs.FOUND)
                answered = await self._prepare(job, known, shown, facts)
                return self._in_sight(job, known, answered, asked_at)
        return self._without_images(job, known, decide(facts), facts, detail)

    def _in_sight(self, job: Job, known: Known, answered: Answer, asked_at: datetime) -> Answer:
        """The PACS showed the study: what put it in question before is answered."""
        if not known.presence.is_in_question:
            return answered
        seen = partial(presence.seen, tenant=job.tenant, study=job.lane, asked_at=asked_at)
        return replace(answered, effects=_all(seen, answered.effects))

    def _stopping(self, job: Job, known: Known, said: Decision, detail: str = "") -> Answer:
        """What a decision that sends nothing means to the job: another one takes the entry out, a reason holds it, or
        there is nothing to do."""
        match said.do:
            case Do.WITHDRAW:
                take_out = partial(self._take_out, job=job, said=said)
                return Answer(event=Event.UNNEEDED, reason=said.reason, detail=said.words, effects=take_out)
            case Do.HOLD:
                told = _about(known, said) or detail or said.words
                return Answer(event=Event.HELD, reason=said.reason, detail=told)
            case _:
                return Answer(event=Event.UNNEEDED, reason=said.reason, detail=said.words)

    def _take_out(self, tx: Tx, *, job: Job, said: Decision) -> None:
        now = self._clock.now()
        if said.reason in {"exam-ended", "images-gone", "all-rejected"}:
            presence.ended(tx, job.tenant, job.lane)
        withdrawal.request(
            tx, self._ledger, tenant=job.tenant, study=job.lane, actor=jobs.ENGINE, reason=said.words, now=now
        )
        if said.reason in MOVING:  # behind the withdrawal, in the lane's order
            jobs.enqueue(
                tx, tenant=job.tenant, lane=job.lane, kind=self.name, job_class=job.job_class, now=now, deadline=now
            )

    def _without_images(self, job: Job, known: Known, said: Decision, facts: Facts, detail: str) -> Answer:
        """The PACS gave nothing to publish. A proven absence of what is in the index is remembered: the second one
        counts (FF-54)."""
        now = self._clock.now()
        is_waiting = said.do is Do.WAIT
        answer = self._ask_again(job, said.reason, detail) if is_waiting else self._stopping(job, known, said, detail)
        if facts.pacs is not Pacs.ABSENT or not facts.may_be_shown or said.do is Do.WITHDRAW:
            return answer
        note = partial(presence.lacks, tenant=job.tenant, study=job.lane, now=now)
        if is_waiting:
            since = known.presence.absent_at or now
            answer = replace(answer, not_before=max(since + ABSENCE_APART, now + timedelta(seconds=1)))
        return replace(answer, effects=_all(note, answer.effects))

    def _ask_again(self, job: Job, reason: str, detail: str) -> Answer:
        return self._policy.patience.again(job, reason=reason, detail=detail, now=self._clock.now())

    async def _prepare(self, job: Job, known: Known, study: Study, facts: Facts) -> Answer:
        """The PACS has it: judge, assemble, compare with the index, encode."""
        now = self._clock.now()
        valid = known.valid
        judged = [(one, self._judged(one, study, known)) for one in valid]
        judge = partial(self._note_judgement, job=job, study=study, judged=judged, now=now)
        contradicted = next((verdict for _, verdict in judged if verdict.holds), None)
        if contradicted:
            said = decide(replace(facts, contradiction=contradicted.reason))
            return replace(self._stopping(job, known, said, contradicted.summary()), effects=judge)
        try:
            manifest, context = assemble(
                [one.stated.report for one in valid],
                valid[-1].stated.envelope.ins,
                study,
                self._policy.site,
                domain=self._policy.rules.domain,
            )
            patient = patient_id(manifest, self._dialect)
        except BadInput as fault:
            return Answer(event=Event.HELD, reason=fault.code, detail=str(fault), effects=judge)
        digest = content_hash(manifest, context)
        images = await self._images(job, known, manifest, context, facts)
        if isinstance(images, Answer):
            return images  # the judgement is made again then, and noted once
        content = Content(
            context=context,
            digest=digest,
            document=document_hash(manifest, context),
            outlined=outline(manifest, context) if known.is_linked else "",
        )
        predecessor = await self._predecessor(job, known, content, facts, patient=patient)
        if isinstance(predecessor, Answer):
            if predecessor.event is Event.NOT_YET:
                return predecessor
            return replace(predecessor, effects=_all(judge, predecessor.effects, images.ends))
        version = edition(
            tenant=self._policy.tenant,
            study=manifest.study,
            version=known.next_version,
            content=digest,
            created_at=now.replace(microsecond=0),
            replaces=predecessor.entry_uuid,
        )
        answer = await self._encode(
            job, manifest, content, predecessor.context, version, sender=valid[-1].stated.report.sender
        )
        if answer.event is Event.PREPARED:
            answer = replace(answer, effects=_all(answer.effects, images.tells))
            answer = replace(answer, event=Event.HELD, reason=SHADOW) if self._is_silent(known) else answer
        return replace(answer, effects=_all(judge, predecessor.effects, answer.effects))

    async def _images(
        self, job: Job, known: Known, manifest: StudyManifest, context: Context, facts: Facts
    ) -> Answer | waiting.Ready:
        """Whether the exam waits for its images. A trial exam has all it will ever have; one that the index shows to
        somebody it must be hidden from waits for nothing."""
        is_urgent = known.is_hidden_too_little
        return await waiting.images(
            job,
            manifest,
            context,
            facts,
            published=None if is_urgent else known.sendings.published,
            policy=_BY_REPORT if known.is_trial or is_urgent else self._policy.completeness,
            store=self._store,
            ledger=self._ledger,
            now=self._clock.now(),
        )

    def _is_silent(self, known: Known) -> bool:
        """Whether the index must hear nothing of the study. A trial exam was asked for to be sent."""
        return self._policy.mode == "shadow" and not known.is_trial

    async def _stays_silent(self, job: Job) -> bool:
        if self._policy.mode == "live":
            return False
        return not await self._store.read(lambda tx: self._ledger.is_trial(tx, job.tenant, job.lane))

    def _judged(self, held: HeldReport, study: Study, known: Known) -> gate.Verdict:
        """What the PACS says against a report, less what a person accepted."""
        waived = known.waived[held.report_id]
        found = gate.against_pacs(report=held.stated.report, study=study, rules=self._policy.rules)
        return gate.accepting(found, lambda one: self._ledger.mark(self._policy.tenant, one) in waived)

    async def _predecessor(  # noqa: PLR0911 - one return an effect of the table
        self, job: Job, known: Known, content: Content, facts: Facts, *, patient: str
    ) -> _Predecessor | Answer:
        """What the index shows of the versions it may hold; new metadata for it where they are enough; or why not to
        go on (FF-22). ``patient``: CX under which it would be published. In shadow mode, what it showed last."""
        if self._is_silent(known):
            return _as_recorded(known.sendings, content)
        found = await standing.newest(
            job, known.sendings, self._find, patience=self._policy.patience, clock=self._clock
        )
        if isinstance(found, Answer):
            return found
        index = await self._compared(job, found, content, patient)
        base = None
        if index is Index.VISIBILITY and isinstance(found, standing.Shown):
            base = await self._revisions.base(job, found, content)
        said = decide(replace(facts, index=index, can_update=base is not None))
        learn = partial(self._learn, job=job, found=found, content=content, index=index, now=self._clock.now())
        if said.do is Do.PUBLISH:
            return _Predecessor(entry_uuid=None, context=content.context)
        if said.do is Do.UPDATE and base is not None and isinstance(found, standing.Shown):
            answer = await self._revisions.prepare(job, base, found, content, next_version=known.next_version)
            return replace(answer, effects=_all(learn, answer.effects), request=self._index.updates)
        if said.do is Do.REPLACE and isinstance(found, standing.Shown):
            hidden = hiding.hidden_further(content.context, target(found, content.own))
            return _Predecessor(entry_uuid=found.entry.entry_uuid, context=hidden, effects=learn)
        stopped = self._stopping(job, known, said)
        answer = replace(stopped, effects=_all(learn, stopped.effects))
        if said.reason == "already-indexed" and isinstance(found, standing.Shown) and not found.known.job_id:
            return replace(answer, event=Event.FOUND)  # it was adopted or imported: no job has said so yet
        return answer

    async def _compared(
        self, job: Job, found: standing.Shown | standing.Missing | None, content: Content, patient: str
    ) -> Index:
        """What the index shows, beside what would be published. An entry is replaced by one of the same patient
        identifier only (ITI TF-3 4.2.2.2.3)."""
        index = compared(found, content)
        if not isinstance(found, standing.Shown) or index not in {Index.OTHER, Index.VISIBILITY}:
            return index
        version = found.version
        sent = await self._store.read(lambda tx: self._ledger.submission_at(tx, job.tenant, job.lane, version))
        return index if sent is None or is_of(sent.metadata, patient) else Index.ELSEWHERE

    def _learn(
        self,
        tx: Tx,
        *,
        job: Job,
        found: standing.Shown | standing.Missing | None,
        content: Content,
        index: Index,
        now: datetime,
    ) -> None:
        if not isinstance(found, standing.Shown):
            return
        self._ledger.add_entry(tx, job.tenant, job.lane, version=found.version, entry=found.entry, now=now)
        if index is Index.SAME and not content.outlined:  # what a link alone says is not the content
            self._ledger.note_shown(
                tx,
                job.tenant,
                job.lane,
                version=found.version,
                content_hash=content.digest,
                told=content.own,
                shown=_marks(found.entry),
            )

    async def _find(self, unique_id: str) -> EntryAnswer:
        entry = await self._index.find_document(unique_id)
        self._observe("index", type(entry).__name__.lower())
        return entry

    async def _encode(
        self,
        job: Job,
        manifest: StudyManifest,
        content: Content,
        context: Context,
        version: Edition,
        *,
        sender: Professional | None,
    ) -> Answer:
        """The bytes of one version, and the effect that stores them. ``context``: of the entry, hidden no less than
        ``content`` says."""
        policy = self._policy

        made = imprint(version, zone=policy.timezone, manufacturer=policy.publisher.manufacturer)
        try:
            document = await asyncio.to_thread(_written, manifest, made, policy)
            sent = submission(
                manifest,
                context,
                version,
                document,
                policy.publisher,
                dialect=self._dialect,
                form=policy.form,
                sign=policy.signer() if policy.signer else None,
            )
            sent = replace(sent, sender=sender)
        except Broken as fault:  # the certificate that signs: the exam goes on by itself once it was renewed
            return self._ask_again(job, f"sign-{fault.code}", str(fault.args[0]))
        except BadInput as fault:
            return Answer(event=Event.HELD, reason=fault.code, detail=str(fault))

        instances = sum(len(series.instances) for series in manifest.series)
        built_at = self._clock.now()

        def effects(tx: Tx) -> None:
            self._ledger.add_manifest(
                tx,
                job_id=job.job_id,
                manifest=manifest,
                context=content.context,
                edition=version,
                content_hash=content.digest,
                submission=sent,
            )
            self._ledger.note(
                tx,
                policy.tenant,
                manifest.study,
                kind="manifest-built",
                summary=f"version {version.version}: {len(manifest.series)} series, {instances} instances"
                + (", replaces the approved entry" if version.replaces else ""),
                now=built_at,
            )

        return Answer(
            event=Event.PREPARED,
            detail=f"version {version.version}",
            effects=effects,
            request=self._index.provides,
        )

    def _note_judgement(
        self, tx: Tx, *, job: Job, study: Study, judged: list[tuple[HeldReport, gate.Verdict]], now: datetime
    ) -> None:
        """What the PACS says against each report about this study, and what that means for its other studies."""
        if any(verdict.holds for _, verdict in judged):
            self._ledger.keep_pacs(tx, job.tenant, study, now=now)
        else:
            self._ledger.forget_pacs(tx, job.tenant, job.lane)
        for held, verdict in judged:
            reason = verdict.reason if verdict.holds else ""
            if verdict.holds:
                self._ledger.end_waivers(
                    tx, job.tenant, report_id=held.report_id, study=job.lane, moment="pacs", now=now
                )
            if verdict.conflicts:
                kind = "identity-conflict" if verdict.holds else "identity-warning"
                self._ledger.note_conflicts(tx, job.tenant, job.lane, kind=kind, conflicts=verdict.conflicts, now=now)
            if reason == held.contested.get(job.lane, ""):
                continue
            self._ledger.contest(tx, job.tenant, held.report_id, study=job.lane, reason=reason)
            for other in held.stated.report.studies:
                if other != job.lane:
                    self._reconsider(tx, job, held, study=other, reason=reason, now=now)

    def _reconsider(self, tx: Tx, job: Job, held: HeldReport, *, study: Uid, reason: str, now: datetime) -> None:
        """Another study of a report that the PACS contradicts, or no longer contradicts, about ``job.lane``."""
        said = f"contradicted by the PACS about study {job.lane}: {reason}" if reason else "no longer contradicted"
        self._ledger.note(
            tx, job.tenant, study, kind="report-contested", summary=f"report {held.report_id} is {said}", now=now
        )
        jobs.enqueue(
            tx,
            tenant=job.tenant,
            lane=study,
            kind=self.name,
            job_class=job.job_class,
            now=now,
            state=State.BLOCKED if reason else State.SETTLING,
            reason=reason,
        )

    def _known(self, tx: ReadTx, study: Uid) -> Known:
        return knowledge.read(
            tx, self._policy.tenant, study, ledger=self._ledger, consents=self._consents, persons=self._persons
        )

    # -- send and query ------------------------------------------------------------------------------------

    async def send(self, job: Job) -> Answer:
        """ITI-41, or ITI-57 for new metadata, with the stored bytes. In shadow mode nothing leaves."""
        if await self._stays_silent(job):
            return Answer(event=Event.HELD, reason=SHADOW, detail="prepared before the tenant went to shadow mode")
        stored = await self._store.read(lambda tx: self._request(tx, job))
        if stored is None:
            return Answer(event=Event.HELD, reason="submission-missing", detail="no stored bytes for this job")
        if isinstance(stored, Revision):
            answer = await self._index.update_status(stored.change)
            self._observe("index", type(answer).__name__.lower())
            return self._revisions.sent(job, stored, answer)
        answer = await self._index.provide_and_register(stored[1])
        self._observe("index", type(answer).__name__.lower())
        return standing.sent(answer)

    def _request(self, tx: ReadTx, job: Job) -> tuple[int, Submission] | Revision | None:
        """What the job prepared last."""
        submitted = self._ledger.submission_of(tx, job.tenant, job.job_id)
        revised = self._revisions.prepared(tx, job)
        is_newer = revised is not None and (submitted is None or submitted[0] < revised.next_version)
        return revised if is_newer else submitted

    async def query(self, job: Job) -> Answer:
        """ITI-18 by uniqueId: does the index show the version this job sent? In shadow mode it is not asked."""
        if await self._stays_silent(job):
            later = self._clock.now() + timedelta(seconds=self._policy.pacs_retry_cap_s)
            return Answer(event=Event.UNCLEAR, reason=SHADOW, detail="the index is not asked", not_before=later)
        stored = await self._store.read(lambda tx: self._request(tx, job))
        if stored is None:
            return Answer(event=Event.UNCLEAR, reason="submission-missing", detail="no stored bytes for this job")
        if isinstance(stored, Revision):
            return await self._revisions.seen(job, stored, await self._find(stored.change.unique_id))
        return await self._confirmed(job, stored[0], await self._find(stored[1].unique_id))

    async def _confirmed(self, job: Job, version: int, entry: EntryAnswer) -> Answer:
        """What a query for the manifest of this version means to the job."""
        now = self._clock.now()

        def learn(tx: Tx) -> None:
            if isinstance(entry, EntryFound):
                self._ledger.add_entry(tx, job.tenant, job.lane, version=version, entry=entry, now=now)
                if entry.status == "Approved":
                    self._ledger.note_shown(tx, job.tenant, job.lane, version=version, shown=_marks(entry))
                self._ledger.note(
                    tx,
                    job.tenant,
                    job.lane,
                    kind="entry-found",
                    summary=f"version {version} is {entry.status} in the index",
                    now=now,
                )

        match entry:
            case EntryFound(status="Approved"):
                return Answer(event=Event.FOUND, detail=f"version {version} is Approved", effects=learn)
            case EntryFound(status=status):
                return Answer(
                    event=Event.HELD,
                    reason="entry-deprecated-by-others",
                    detail=f"version {version} is {status} in the index",
                    effects=learn,
                )
            case EntryUnknown(reason=reason, detail=detail):
                return Answer(event=Event.UNCLEAR, reason=f"index-{reason}", detail=detail)
            case EntryAbsent():
                return await self._not_shown(job)

    async def _not_shown(self, job: Job) -> Answer:
        """Absence counts only once the index had time to show it (F09), and never for ever."""
        if self._policy.patience.is_too_early(job, job.sent_at or job.accepted_at, now=self._clock.now()):
            return Answer(
                event=Event.UNCLEAR,
                reason="not-visible-yet",
                detail="the index does not show it yet",
                not_before=self._clock.now() + self._policy.visibility / 20,
            )
        sends = await self._store.read(lambda tx: jobs.doubtful_sends(tx, job_id=job.job_id))
        if sends >= standing.SENDS_MAX:
            return Answer(
                event=Event.HELD, reason="never-shown", detail=f"sent {sends} times, and no query ever showed it"
            )
        said = "accepted" if job.state is State.ACCEPTED else "may have accepted"
        return Answer(
            event=Event.ABSENT,
            reason="not-in-index",
            detail=f"the index {said} it but does not show it; the same bytes go again",
        )


def _written(manifest: StudyManifest, made: Imprint, policy: Policy) -> bytes:
    """The document of one version, in the tenant's form."""
    return (
        fhir.encode(manifest, made) if policy.form == "fhir" else kos.encode(manifest, made, profile=policy.profile)
    )


def _about(known: Known, said: Decision) -> str:
    """Which report a hold speaks of, "" when it is none's alone."""
    if known.doubtful and said.reason == known.doubtful.reason:
        return f"report {known.doubtful.report_id} is held"
    contested = ((one, other) for one in known.valid for other, why in one.contested.items() if why == said.reason)
    return next((f"the PACS contradicts report {one.report_id} about study {other}" for one, other in contested), "")


def _marks(entry: EntryFound) -> Marks | None:
    """What the index shows of whom the entry is hidden from, None where it does not tell."""
    return None if entry.codes is None else hiding.stated(entry.codes)


def _as_recorded(known: standing.Sendings, content: Content) -> _Predecessor | Answer:
    """The predecessor by what a query showed last, without asking."""
    if known.published is None:
        return _Predecessor(entry_uuid=None, context=content.context)
    if content.is_of(known.published):
        return Answer(
            event=Event.UNNEEDED,
            reason="already-indexed",
            detail=f"version {known.published.version} has this content, as the index showed it last",
        )
    return _Predecessor(entry_uuid=known.published.entry_uuid, context=content.context)


def _all(*effects: Callable[[Tx], None] | None) -> Callable[[Tx], None]:
    def together(tx: Tx) -> None:
        for effect in effects:
            if effect is not None:
                effect(tx)

    return together
