"""What a readable report changes: the one way in, whoever brings it (a message, a person's release, a replay).

An exam's whole life comes through here too: reports withdrawn, orders cancelled, oppositions, merges and corrections
of patients, a person's word. What follows for the exam is read off ``decision``.

Invariants:

* everything happens inside the caller's transaction: report, evidence, conflicts and jobs, or nothing;
* the same report again is one effect, judged again; where two envelopes of one document state different flags, the
  stricter of the two counts from then on, and only a report that replaces it can state less;
* a report that the gate holds is stored, and holds every exam it speaks of; so is one whose patient opposed;
* what must leave the index is asked for in the transaction of the event that says so, before anything else of the
  exam (I10); a report once withdrawn or replaced never comes back by itself, whatever is said late or again.

Who may bring a report, and what is answered, is left to the doors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from indexer import gate, knowledge, presence, sightings, standing, withdrawal
from indexer.assemble import strictest
from indexer.consent import Consent, Consents, with_issuer
from indexer.decision import ANNOUNCING, ENDING, MOVING, Arrival, Do, decide
from indexer.imaging.rejections import Rejections
from indexer.ledger import HeldReport, Ledger, StatedReport, digest
from indexer.persons import Persons, Statement, is_recognisable
from indexer.publication import job_kind
from indexer.report import Report
from security.identity import PatientIdentity, Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import TERMINAL, State
from security.store.port import ReadTx, Tx

WITHDRAWN_ELSEWHERE = "withdrawn-elsewhere"
"""Why a report of an exam is held that the index, or an archive, says was withdrawn, and we know of no reason."""
ARCHIVE_LINK = "archive-link"
"""Why an exam is held whose archive names a report that is another patient's, or about other exams."""
_UNTIL_A_REPORT = frozenset({WITHDRAWN_ELSEWHERE, ARCHIVE_LINK})
"""Reasons that no word about the patient lifts: another report does, or a person."""
_NEVER_CORRECTED = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What brought a report. ``control_id``: MSH-10 of its message; ``job_class``: urgency of what follows."""

    control_id: str
    zone: str
    at: datetime
    job_class: JobClass = JobClass.P1


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """Whether the report's id is known. ``is_repeat``: with the same content, or by its link alone and about the same
    exams."""

    held: HeldReport | None
    is_repeat: bool


class Admission:
    """The way into one tenant's exams."""

    def __init__(self, *, tenant: str, ledger: Ledger, rules: gate.Rules) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._rules = rules
        self._consents = Consents(ledger)
        self._persons = Persons(ledger, domain=rules.domain)
        self._rejections = Rejections(tenant=tenant, ledger=ledger, rules=rules)

    @property
    def tenant(self) -> str:
        """Whose exams these are."""
        return self._tenant

    @property
    def ledger(self) -> Ledger:
        """Where they are written."""
        return self._ledger

    @property
    def rules(self) -> gate.Rules:
        """What the tenant weighs."""
        return self._rules

    def acquaintance(self, tx: ReadTx, content: StatedReport) -> Acquaintance:
        """What we know of this document id."""
        known = self._ledger.report(tx, self._tenant, str(content.report.document_id))
        if known is None:
            return Acquaintance(held=None, is_repeat=False)
        held = known[0]
        if held.link:
            is_same = set(held.stated.report.studies) <= set(content.report.studies)
        else:
            is_same = digest(held.stated) == digest(content)
        return Acquaintance(held=held, is_repeat=is_same)

    def is_circular(self, tx: ReadTx, report: Report) -> bool:
        """Whether the report replaces one that says it replaces this one: if both were obeyed, none would be left."""
        known = self._ledger.report(tx, self._tenant, str(report.replaces)) if report.replaces else None
        return known is not None and known[0].stated.report.replaces == report.document_id

    def admit(self, tx: Tx, content: StatedReport, by: Carrier, *, notes: Sequence[str] = ()) -> gate.Verdict:
        """Judge the report and carry out what follows. ``notes``: what was read another way, for the timeline.

        The report is new, or one we know with the same content (``acquaintance``).
        """
        known = self._ledger.report(tx, self._tenant, str(content.report.document_id))
        if known and known[0].link:
            return self._confirm(tx, content, by, known[0])
        if known:
            for study in content.report.studies:
                self._note(tx, by, study, "report-received-again", f"by message {by.control_id}")
            return self._judge_again(tx, by, _obeying_both(known[0].stated, content), known[0])
        replaced = self._ledger.report(tx, self._tenant, str(content.report.replaces))
        if replaced:
            content = _keeping_masks(content, replaced[0].stated)
        for study in content.report.studies:
            for held in self._ledger.reports_of(tx, self._tenant, study):
                if held.link == "unnamed" and held.status == "valid":
                    content = _keeping_masks(content, held.stated)
        verdict = self.judge(tx, content)
        self._record(tx, by, content, verdict, notes)
        self._tighten_replacements(tx, by, content)
        return verdict

    def _confirm(self, tx: Tx, content: StatedReport, by: Carrier, link: HeldReport) -> gate.Verdict:
        """A report that an archive named has come. It is judged beside what the archive says of the patient; where
        the two differ, the exam is held and the archive's word stays until the sources agree."""
        if link.status not in {"valid", "held"}:
            return gate.Verdict()
        content = _obeying_both(link.stated, content)
        verdict = self.judge(tx, content)
        for study in content.report.studies:
            kind = "report-contradicts-archive" if verdict.conflicts and verdict.holds else "report-confirmed"
            self._note(tx, by, study, kind, f"report {link.report_id} by message {by.control_id}")
        if verdict.conflicts and verdict.holds:
            self._ledger.set_report_status(tx, self._tenant, link.report_id, "held", verdict.reason)
            self._follow(tx, by, link.stated, verdict)
            return verdict
        stays_held = link.status == "held" and link.reason == WITHDRAWN_ELSEWHERE and not verdict.holds
        status, reason = ("held", link.reason) if stays_held else (self._status(tx, content, verdict), verdict.reason)
        self._ledger.confirm(
            tx,
            self._tenant,
            content,
            zone=by.zone,
            control_id=by.control_id,
            status=status,
            reason=reason,
            now=by.at,
        )
        self._follow(tx, by, content, verdict)
        return verdict

    def _tighten_replacements(self, tx: Tx, by: Carrier, content: StatedReport) -> None:
        """Reports that overtook the one they replace keep its masks as well, from the moment these are known."""
        for held in self._ledger.replacements_of(tx, self._tenant, content):
            kept = _keeping_masks(held.stated, content)
            if kept == held.stated:
                continue
            self._ledger.restate(tx, self._tenant, kept, status=held.status, reason=held.reason)
            if held.status == "valid":
                self._enqueue(tx, by, kept.report.studies, State.SETTLING, is_urgent=True)
            self._tighten_replacements(tx, by, kept)

    def heed(self, tx: Tx, consent: Consent, patient: PatientIdentity, by: Carrier) -> None:
        """Keep what the patient decided. Every report that an opposition holds from now on, or no longer, is judged
        again, and its exams say so.

        An exam that the index shows is withdrawn; when the patient takes it back, it is published anew.
        """
        tied = self._persons.current(tx, self._tenant, patient)
        known = replace(patient, local_ids=with_issuer((*tied.local_ids, *tied.tied)))
        reports = self._ledger.reports_of_patient(tx, self._tenant, known) if consent.opposition else []
        before = self._opposed(tx, reports)
        self._consents.record(tx, self._tenant, consent, patient, control_id=by.control_id, now=by.at)
        after = self._opposed(tx, reports)
        changed = [held for held in reports if (held.report_id in before) != (held.report_id in after)]
        noted = {study: held.report_id in after for held in changed for study in held.stated.report.studies}
        for study, is_opposed in noted.items():
            kind = "patient-opposed" if is_opposed else "patient-not-opposed"
            self._note(tx, by, study, kind, f"by message {by.control_id}")
        for held in changed:
            if held.reason in _UNTIL_A_REPORT:
                self._follow_on(tx, by, held.stated.report.studies, Arrival.OPPOSITION, held=held.reason)
            elif held.report_id not in after:
                self._judge_again(tx, by, held.stated, held)
            elif held.status == "valid" or held.reason == "patient-opposed":
                self._opposing(tx, by, held)
            elif held.status == "held":
                self._follow_on(tx, by, held.stated.report.studies, Arrival.OPPOSITION, held=held.reason)

    def _opposed(self, tx: ReadTx, reports: Sequence[HeldReport]) -> frozenset[str]:
        """Those whose patient opposes now; each identity is looked up once, however many reports state it."""
        found: dict[tuple[PatientIdentity, ...], bool] = {}
        for held in reports:
            patients = held.stated.patients
            if patients not in found:
                found[patients] = self._is_opposed(tx, held.stated)
        return frozenset(held.report_id for held in reports if found[held.stated.patients])

    def _is_opposed(self, tx: ReadTx, stated: StatedReport) -> bool:
        """Whether the patient opposes, under any identity stated or that the register ties to it."""
        tied = self._persons.current(tx, self._tenant, stated.envelope)
        return self._consents.is_opposed(tx, self._tenant, (*stated.patients, tied))

    def _opposing(self, tx: Tx, by: Carrier, held: HeldReport) -> gate.Verdict:
        """Hold a report for its patient's word alone: what else may be said against it is asked when that ends."""
        verdict = gate.Verdict(is_opposed=True)
        self._ledger.restate(tx, self._tenant, held.stated, status="held", reason=verdict.reason)
        self._follow(tx, by, held.stated, verdict)
        return verdict

    def reconsider(self, tx: Tx, held: HeldReport, by: Carrier) -> gate.Verdict:
        """Judge a held report again as it was stated last, because a person decided or something else has changed."""
        return self._judge_again(tx, by, held.stated, held)

    def judge(self, tx: ReadTx, content: StatedReport) -> gate.Verdict:
        """The gate's verdict, less what a person accepted, and whether the patient opposed under any identity the
        message states."""
        report_id = str(content.report.document_id)
        known = self._ledger.report(tx, self._tenant, report_id)
        came_at = known[0].received_at if known else None
        waived = frozenset[bytes].intersection(
            *(self._ledger.waivers(tx, self._tenant, report_id, study, "message") for study in content.report.studies)
        )
        verdict = gate.accepting(
            self._weighed(tx, content, came_at), lambda conflict: self._ledger.mark(self._tenant, conflict) in waived
        )
        return replace(verdict, is_opposed=self._is_opposed(tx, content))

    def _weighed(self, tx: ReadTx, content: StatedReport, came_at: datetime | None) -> gate.Verdict:
        """What the gate says. Where the register spoke of the patient, the message is weighed as it is, and as the
        register has the patient now against everybody who has the same identifiers, the register itself included.
        What the register says without an INS need not be the same in every trait, but of a person known by them."""
        envelope, report = content.envelope, content.report
        person = self._persons.person(tx, self._tenant, content.local_ids)
        if person is None:
            held = self._ledger.held_for(tx, self._tenant, content)
            return gate.before_ack(envelope=envelope, report=report, held=held, rules=self._rules)
        now = self.as_known(tx, content, came_at)
        witnesses = [
            replace(one, patient=self._persons.current(tx, self._tenant, one.patient))
            for one in self._ledger.held_for(tx, self._tenant, now)
        ]
        if person.stated is not None:
            ins, theirs = report.patient.ins, person.stated.ins
            is_same = ins is not None and theirs is not None and ins.matricule == theirs.matricule
            is_unsure = (ins is None or theirs is None) and not is_recognisable(report.patient, person.stated)
            shares: frozenset[gate.Share] = frozenset({"local-id", "ins"} if is_same or is_unsure else {"local-id"})
            witnesses.append(gate.Held(patient=person.stated, source="identity register", shares=shares))
        itself = gate.before_ack(envelope=envelope, report=report, held=(), rules=self._rules)
        others = gate.before_ack(envelope=now.envelope, report=now.report, held=witnesses, rules=self._rules)
        return gate.Verdict(conflicts=tuple(dict.fromkeys((*itself.conflicts, *others.conflicts))))

    def as_known(self, tx: ReadTx, content: StatedReport, came_at: datetime | None) -> StatedReport:
        """The same, both its patients as the register has them now. ``came_at``: when the report first came, None for
        one that comes now: it must agree with what the register says, nothing in it is corrected."""
        since = came_at or _NEVER_CORRECTED
        envelope, patient = (self._persons.current(tx, self._tenant, one, since=since) for one in content.patients)
        return replace(content, envelope=envelope, report=replace(content.report, patient=patient))

    # -- what ends or changes an exam ------------------------------------------------------------------------

    def withdraw_report(self, tx: Tx, content: StatedReport, by: Carrier) -> str:
        """A source takes a report back (MDM^T04, ORC CA, OBX-11 D); "" when it is so, also when it was before.

        Else why not: ``unknown-report``; ``wrong-version`` another report replaced it: that one is to be withdrawn;
        ``ins-conflict`` the withdrawal names another patient than the report.
        """
        report_id = str(content.report.document_id)
        known = self._ledger.report(tx, self._tenant, report_id)
        if known is None:
            return "unknown-report"
        held = known[0]
        if held.status == "withdrawn":
            return ""
        if not _is_same_patient(*(self.as_known(tx, one, None) for one in (held.stated, content))):
            return "ins-conflict"
        if held.status == "replaced":
            return "wrong-version"
        self._ledger.set_report_status(tx, self._tenant, report_id, "withdrawn")
        studies = held.stated.report.studies
        for study in studies:
            self._note(tx, by, study, "report-withdrawn", f"report {report_id} by message {by.control_id}")
        self._follow_on(tx, by, studies, Arrival.REPORT_WITHDRAWN)
        return ""

    def announce(self, tx: Tx, study: str, arrived: Arrival, by: Carrier) -> None:
        """An order or the PACS says that the exam changed or ended: the PACS is asked, and its answer decides.

        ``arrived``: what is in ``ANNOUNCING`` lets one clean absence count (design §4). Nothing happens to
        an exam without a report, nor by what ends exams to one that is neither in the index nor on its way.
        """
        if not self._ledger.is_exam(tx, self._tenant, study):
            return
        if arrived in ENDING and not self._is_open(tx, study):
            return
        if arrived in ANNOUNCING:
            presence.announce(tx, self._tenant, study, now=by.at)
        self._follow_on(tx, by, [study], arrived)

    def hurry(self, tx: Tx, study: str, *, actor: str, now: datetime) -> None:
        """A person does not want the exam to wait for more images: it goes out with those that are there."""
        sightings.hurry(tx, self._tenant, study, actor=actor)
        self._follow_on(tx, _by_hand(now), [study], Arrival.PERSON_HURRIED, actor=actor)

    def _is_open(self, tx: ReadTx, study: str) -> bool:
        """Whether anything of the exam is in the index, or may be, or is under way."""
        if any(job.state not in TERMINAL for job in jobs.lane_jobs(tx, tenant=self._tenant, lane=study)):
            return True
        sent = standing.sendings(tx, self._ledger, self._tenant, study)
        return sent.published is not None or bool(sent.attempted)

    def correct(self, tx: Tx, stated: Statement, by: Carrier) -> None:
        """The register of patients merges two identities, undoes that, or corrects one: every report of theirs is
        judged again. One that turns out to be another person's leaves the index first (P0) and is held; one of the
        same person goes out again as the register has them now (FF-28).

        Reports under an identifier that was merged are judged first: where the two persons differ, these are in
        doubt, and no witness any more against those of the person whose identifier it always was."""
        if not self._persons.counts(stated):
            return
        tied = dict.fromkeys((*self._persons.tied(tx, self._tenant, stated), *stated.local_ids))
        patient = PatientIdentity(traits=stated.patient.traits, local_ids=tuple(tied))
        reports = [
            held
            for held in self._ledger.reports_of_patient(tx, self._tenant, patient)
            if held.status in {"valid", "held"}
        ]
        before = {held.report_id: self.as_known(tx, held.stated, held.received_at) for held in reports}
        if not self._persons.record(tx, self._tenant, stated, control_id=by.control_id):
            return
        stays = {
            held.report_id: self._persons.is_survivor(tx, self._tenant, held.stated.report.patient)
            for held in reports
        }
        for held in sorted(reports, key=lambda one: stays[one.report_id]):
            is_changed = self.as_known(tx, held.stated, held.received_at) != before[held.report_id]
            self._corrected(tx, by, held, stated, is_changed=is_changed)

    def _corrected(self, tx: Tx, by: Carrier, held: HeldReport, stated: Statement, *, is_changed: bool) -> None:
        """One report after the register's word."""
        verdict = self.judge(tx, held.stated)
        status, studies = self._status(tx, held.stated, verdict), held.stated.report.studies
        is_moved = (status, verdict.reason) != (held.status, held.reason)
        if held.reason in _UNTIL_A_REPORT or (not is_moved and not is_changed):
            return
        for study in studies:
            self._note(tx, by, study, f"identity-{stated.kind}", f"by message {by.control_id}")
        if is_moved:
            self._ledger.restate(tx, self._tenant, held.stated, status=status, reason=verdict.reason)
        if verdict.conflicts and verdict.holds:
            for study in studies:
                self._ledger.note_conflicts(
                    tx, self._tenant, study, kind="identity-conflict", conflicts=verdict.conflicts, now=by.at
                )
        if is_moved or status == "valid":
            left = self._out_of_doubt(tx, by, held.stated.report, verdict)
            self._follow_on(tx, by, [one for one in left if one not in studies], Arrival.REPORT)
            self._follow_on(tx, by, studies, Arrival.IDENTITY, held=verdict.reason, detail=verdict.summary())

    def _out_of_doubt(self, tx: Tx, by: Carrier, report: Report, verdict: gate.Verdict) -> list[Uid]:
        """What a report that came while its patient was in doubt could not replace then, it replaces now; the studies
        that one spoke of."""
        for study in () if verdict.holds else report.studies:
            self._ledger.replace_unnamed(tx, self._tenant, study, by=str(report.document_id))
        older = self._ledger.report(tx, self._tenant, str(report.replaces)) if report.replaces else None
        if older is None or verdict.is_in_doubt or older[0].status not in {"valid", "held"}:
            return []
        return self._replace(tx, by, report)

    def keep_out(self, tx: Tx, study: str, *, actor: str, now: datetime) -> None:
        """A person takes the exam out of the index, until a person lets it back."""
        presence.keep_out(tx, self._tenant, study, actor=actor)
        self._follow_on(tx, _by_hand(now), [study], Arrival.PERSON_WITHDREW, actor=actor)

    def let_in(self, tx: Tx, study: str, *, actor: str, now: datetime) -> None:
        """A person lets the exam back: it is published anew when reports and PACS allow it."""
        presence.let_in(tx, self._tenant, study)
        self._follow_on(tx, _by_hand(now), [study], Arrival.PERSON_REPUBLISHED, actor=actor)

    def _follow_on(
        self,
        tx: Tx,
        by: Carrier,
        studies: Sequence[str],
        arrived: Arrival,
        *,
        held: str = "",
        detail: str = "",
        actor: str = jobs.ENGINE,
    ) -> None:
        """What an arrival means for each exam. ``held``: why the report that brought it holds them, "" when it does
        not: the exam stops for it unless it leaves the index, and is seen to stop when somebody must act."""
        for study in dict.fromkeys(studies):
            self._rejections.settle(tx, Uid(study), now=by.at)
            known = knowledge.read(
                tx,
                self._tenant,
                Uid(study),
                ledger=self._ledger,
                consents=self._consents,
                persons=self._persons,
            )
            facts = known.facts(study, by.at)
            said = decide(facts, arrived)
            stops = held or (said.reason if said.do is Do.HOLD else "")
            if said.do is Do.WITHDRAW:
                withdrawal.request(
                    tx,
                    self._ledger,
                    tenant=self._tenant,
                    study=study,
                    actor=actor,
                    reason=said.words,
                    now=by.at,
                )
                stops = facts.held
                if facts.is_opposed or facts.is_kept_out or not (stops or said.reason in MOVING):
                    continue
            elif said.do is Do.NOTHING and arrived is Arrival.PERSON_WITHDREW:
                self._drop(tx, study, by, actor=actor)
                continue
            state = State.BLOCKED if stops else State.SETTLING
            self._enqueue(
                tx,
                by,
                [study],
                state,
                reason=stops,
                detail=detail if held else said.words,
                actor=actor,
                is_urgent=known.is_hidden_too_little,
            )

    def _drop(self, tx: Tx, study: str, by: Carrier, *, actor: str) -> None:
        """What a person took out and the index does not show: nothing of it goes out any more."""
        withdrawal.request(
            tx, self._ledger, tenant=self._tenant, study=study, actor=actor, reason="taken out by a person", now=by.at
        )

    def _judge_again(self, tx: Tx, by: Carrier, content: StatedReport, known: HeldReport) -> gate.Verdict:
        """A report we know, by another message, with another time stamp, or after its patient spoke.

        What the envelope says may have changed: a conflict holds a report that was valid, its absence releases one
        that was held, a stricter flag goes out, and a report that the PACS contradicts settles again, because the
        PACS may have been corrected. What is kept is what was stated last: a person who compares must see that.
        """
        if known.status not in {"valid", "held"}:
            return gate.Verdict()
        verdict = self.judge(tx, content)
        status = self._status(tx, content, verdict)
        if verdict.reason not in {"", "patient-opposed"}:
            self._end_waivers(tx, by, content)
        is_stricter = strictest([content.report.visibility]) != strictest([known.stated.report.visibility])
        is_moved = (status, verdict.reason) != (known.status, known.reason)
        is_restated = content != known.stated
        if is_moved or is_restated:
            self._ledger.restate(tx, self._tenant, content, status=status, reason=verdict.reason)
        if is_moved or (is_restated and verdict.holds):
            self._follow(tx, by, content, verdict)
        elif status == "valid" and (known.contested or is_stricter):
            self._enqueue(tx, by, content.report.studies, State.SETTLING, is_urgent=is_stricter)
        return verdict

    def _status(self, tx: ReadTx, content: StatedReport, verdict: gate.Verdict) -> str:
        """Where a report stands after a verdict; one whose successor overtook it on the way is replaced."""
        if verdict.holds:
            return "held"
        return "replaced" if self._ledger.is_replaced(tx, self._tenant, content) else "valid"

    def _end_waivers(self, tx: Tx, by: Carrier, content: StatedReport) -> None:
        for study in content.report.studies:
            self._ledger.end_waivers(
                tx,
                self._tenant,
                report_id=str(content.report.document_id),
                study=study,
                moment="message",
                now=by.at,
            )

    def _record(
        self, tx: Tx, by: Carrier, content: StatedReport, verdict: gate.Verdict, notes: Sequence[str]
    ) -> None:
        """A report seen for the first time: the row, its evidence, and what follows from it."""
        report = content.report
        status = self._status(tx, content, verdict)
        self._ledger.add_report(
            tx,
            self._tenant,
            content,
            zone=by.zone,
            control_id=by.control_id,
            status=status,
            reason=verdict.reason,
            now=by.at,
        )
        told = [f"report {report.document_id} by message {by.control_id}"]
        told += [f"replaces {report.replaces}"] if report.replaces else []
        told += notes
        for study in report.studies:
            self._note(tx, by, study, "report-received", "; ".join(told))
            if verdict.is_opposed:
                self._note(tx, by, study, "patient-opposed", "the patient opposed before the report came")
        self._follow(tx, by, content, verdict)

    def _follow(self, tx: Tx, by: Carrier, content: StatedReport, verdict: gate.Verdict) -> None:
        """One job per exam the report touches, those of the report it replaces included; conflicts are noted."""
        report = content.report
        studies = list(report.studies)
        if report.replaces and not verdict.is_in_doubt:  # whoever opposes still has one report, the newer one
            left = self._replace(tx, by, report)
            if verdict.holds:
                self._follow_on(tx, by, [one for one in left if one not in studies], Arrival.REPORT)
            else:
                studies += left
        for study in () if verdict.holds else report.studies:
            self._ledger.replace_unnamed(tx, self._tenant, study, by=str(report.document_id))
        if verdict.conflicts:
            kind = "identity-conflict" if verdict.holds else "identity-warning"
            for study in report.studies:
                self._ledger.note_conflicts(
                    tx, self._tenant, study, kind=kind, conflicts=verdict.conflicts, now=by.at
                )
        self._follow_on(
            tx, by, studies, Arrival.REPORT, held=verdict.reason if verdict.holds else "", detail=verdict.summary()
        )

    def _replace(self, tx: Tx, by: Carrier, report: Report) -> list[Uid]:
        """The report takes the place of the one it names; the studies that one spoke of."""
        left = self._ledger.replace_report(tx, self._tenant, str(report.replaces))
        for study in left:
            self._note(tx, by, study, "report-replaced", f"report {report.replaces} by {report.document_id}")
        return left

    def _note(self, tx: Tx, by: Carrier, study: str, kind: str, summary: str) -> None:
        self._ledger.note(tx, self._tenant, study, kind=kind, summary=summary, now=by.at)

    def _enqueue(
        self,
        tx: Tx,
        by: Carrier,
        studies: Sequence[str],
        state: State,
        *,
        reason: str = "",
        detail: str = "",
        actor: str = jobs.ENGINE,
        is_urgent: bool = False,
    ) -> None:
        """``is_urgent``: the exam is shown to somebody it must be hidden from: right after what must leave the index
        (P0), before whatever else is new."""
        for study in dict.fromkeys(studies):
            jobs.enqueue(
                tx,
                tenant=self._tenant,
                lane=study,
                kind=job_kind(self._tenant),
                job_class=min(by.job_class, JobClass.P1) if is_urgent else by.job_class,
                now=by.at,
                deadline=by.at if is_urgent else None,
                state=state,
                reason=reason,
                detail=detail,
                actor=actor,
            )


def _keeping_masks(report: StatedReport, replaced: StatedReport) -> StatedReport:
    """A correction under the masks of what it replaces, unless it says that it changes them (MODIF_CONF_CODE = Y,
    drim-m §2): whom a report was hidden from is not undone by silence. DESTDMP is what the correction says."""
    stated = report.report.visibility
    if stated.changes_confidentiality:
        return report
    kept = replace(strictest([replaced.report.visibility, stated]), for_index=stated.for_index)
    return replace(report, report=replace(report.report, visibility=kept))


def _obeying_both(known: StatedReport, again: StatedReport) -> StatedReport:
    """The report as it was stated last, under the flags that obey both envelopes."""
    stated = (known.report.visibility, again.report.visibility)
    changes = any(one.changes_confidentiality for one in stated)
    visibility = replace(strictest(stated), changes_confidentiality=changes)
    sender = again.report.sender or known.report.sender
    return replace(again, report=replace(again.report, visibility=visibility, sender=sender))


def _is_same_patient(held: StatedReport, stated: StatedReport) -> bool:
    """Whether a withdrawal speaks of the patient of the report: the same INS in report and in envelope, wherever both
    state one; without any, a local identifier in common."""
    pairs = [(one.ins, other.ins) for one in held.patients for other in stated.patients]
    numbers = [(one.matricule, other.matricule) for one, other in pairs if one and other]
    if numbers:
        return all(one == other for one, other in numbers)
    return not set(held.local_ids).isdisjoint(stated.local_ids)


def _by_hand(now: datetime) -> Carrier:
    return Carrier(control_id="", zone="ops", at=now)
