"""What a readable report changes: the one way in, whoever brings it (a message, a person's release, a replay).

Invariants:

* everything happens inside the caller's transaction: report, evidence, conflicts and jobs, or nothing;
* the same report again is one effect, judged again; where two envelopes of one document state different flags, the
  stricter of the two counts from then on, and only a report that replaces it can state less;
* a report that the gate holds is stored, and holds every exam it speaks of; so is one whose patient opposed.

Who may bring a report, and what is answered, is left to the doors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from indexer import gate
from indexer.assemble import strictest
from indexer.consent import Consent, Consents, with_issuer
from indexer.ledger import HeldReport, Ledger, StatedReport, digest
from indexer.publication import job_kind
from indexer.report import Report
from security.identity import PatientIdentity
from security.outbox import jobs
from security.outbox.port import JobClass
from security.outbox.states import TERMINAL, State
from security.store.port import ReadTx, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What brought a report. ``control_id``: MSH-10 of its message; ``job_class``: urgency of what follows."""

    control_id: str
    zone: str
    at: datetime
    job_class: JobClass = JobClass.P1


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquaintance:
    """Whether the report's id is known. ``is_repeat``: with the same content."""

    held: HeldReport | None
    is_repeat: bool


class Admission:
    """The way into one tenant's exams."""

    def __init__(self, *, tenant: str, ledger: Ledger, rules: gate.Rules) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._rules = rules
        self._consents = Consents(ledger)

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
        return Acquaintance(held=known[0], is_repeat=digest(known[0].stated) == digest(content))

    def is_circular(self, tx: ReadTx, report: Report) -> bool:
        """Whether the report replaces one that says it replaces this one: if both were obeyed, none would be left."""
        known = self._ledger.report(tx, self._tenant, str(report.replaces)) if report.replaces else None
        return known is not None and known[0].stated.report.replaces == report.document_id

    def admit(self, tx: Tx, content: StatedReport, by: Carrier, *, notes: Sequence[str] = ()) -> gate.Verdict:
        """Judge the report and carry out what follows. ``notes``: what was read another way, for the timeline.

        The report is new, or one we know with the same content (``acquaintance``).
        """
        known = self._ledger.report(tx, self._tenant, str(content.report.document_id))
        if known:
            for study in content.report.studies:
                self._note(tx, by, study, "report-received-again", f"by message {by.control_id}")
            return self._judge_again(tx, by, _obeying_both(known[0].stated, content), known[0])
        replaced = self._ledger.report(tx, self._tenant, str(content.report.replaces))
        if replaced:
            content = _keeping_masks(content, replaced[0].stated)
        verdict = self.judge(tx, content)
        self._record(tx, by, content, verdict, notes)
        self._tighten_replacements(tx, by, content)
        return verdict

    def _tighten_replacements(self, tx: Tx, by: Carrier, content: StatedReport) -> None:
        """Reports that overtook the one they replace keep its masks as well, from the moment these are known."""
        for held in self._ledger.replacements_of(tx, self._tenant, content):
            kept = _keeping_masks(held.stated, content)
            if kept == held.stated:
                continue
            self._ledger.restate(tx, self._tenant, kept, status=held.status, reason=held.reason)
            if held.status == "valid":
                self._enqueue(tx, by, kept.report.studies, State.SETTLING)
            self._tighten_replacements(tx, by, kept)

    def heed(self, tx: Tx, consent: Consent, patient: PatientIdentity, by: Carrier) -> None:
        """Keep what the patient decided. Every report that an opposition holds from now on, or no longer, is judged
        again, and its exams say so.

        An exam that the index shows keeps what it has: it must be withdrawn there, which only evidence asks for. What
        else would go out of it is decided anew (``publication``).
        """
        known = replace(patient, local_ids=with_issuer(patient.local_ids))
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
            self._heed_about(tx, by, held, is_opposed=held.report_id in after)

    def _opposed(self, tx: ReadTx, reports: Sequence[HeldReport]) -> frozenset[str]:
        """Those whose patient opposes now; each identity is looked up once, however many reports state it."""
        found: dict[tuple[PatientIdentity, ...], bool] = {}
        for held in reports:
            patients = held.stated.patients
            if patients not in found:
                found[patients] = self._consents.is_opposed(tx, self._tenant, patients)
        return frozenset(held.report_id for held in reports if found[held.stated.patients])

    def _opposing(self, tx: Tx, by: Carrier, held: HeldReport) -> gate.Verdict:
        """Hold a report for its patient's word alone: what else may be said against it is asked when that ends."""
        verdict = gate.Verdict(is_opposed=True)
        self._ledger.restate(tx, self._tenant, held.stated, status="held", reason=verdict.reason)
        self._follow(tx, by, held.stated, verdict)
        return verdict

    def _heed_about(self, tx: Tx, by: Carrier, held: HeldReport, *, is_opposed: bool) -> None:
        if self._is_open_to_opposition(tx, held):
            verdict = self._opposing(tx, by, held) if is_opposed else self._judge_again(tx, by, held.stated, held)
            if verdict.holds or held.status == "held":
                return
        if held.status == "valid":
            under_way = [study for study in held.stated.report.studies if self._is_under_way(tx, study)]
            self._enqueue(tx, by, under_way, State.SETTLING)

    def _is_open_to_opposition(self, tx: ReadTx, held: HeldReport) -> bool:
        if held.status == "held":
            return held.reason == "patient-opposed"
        shown = (self._ledger.published(tx, self._tenant, study) for study in held.stated.report.studies)
        return held.status == "valid" and not all(shown)

    def _is_under_way(self, tx: ReadTx, study: str) -> bool:
        """Whether something of the study is still to go out, or is held."""
        kind = job_kind(self._tenant)
        lane = jobs.lane_jobs(tx, tenant=self._tenant, lane=study)
        return any(job.kind == kind and job.state not in TERMINAL for job in lane)

    def reconsider(self, tx: Tx, held: HeldReport, by: Carrier) -> gate.Verdict:
        """Judge a held report again as it was stated last, because a person decided or something else has changed."""
        return self._judge_again(tx, by, held.stated, held)

    def judge(self, tx: ReadTx, content: StatedReport) -> gate.Verdict:
        """The gate's verdict, less what a person accepted, and whether the patient opposed under any identity the
        message states."""
        report_id = str(content.report.document_id)
        waived = frozenset[bytes].intersection(
            *(self._ledger.waivers(tx, self._tenant, report_id, study, "message") for study in content.report.studies)
        )
        verdict = gate.accepting(
            gate.before_ack(
                envelope=content.envelope,
                report=content.report,
                held=self._ledger.held_for(tx, self._tenant, content),
                rules=self._rules,
            ),
            lambda conflict: self._ledger.mark(self._tenant, conflict) in waived,
        )
        return replace(verdict, is_opposed=self._consents.is_opposed(tx, self._tenant, content.patients))

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
            self._enqueue(tx, by, content.report.studies, State.SETTLING)
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
        if report.replaces and not verdict.holds:
            left = self._ledger.replace_report(tx, self._tenant, str(report.replaces))
            for study in left:
                self._note(tx, by, study, "report-replaced", f"report {report.replaces} by {report.document_id}")
            studies += left
        if verdict.conflicts:
            kind = "identity-conflict" if verdict.holds else "identity-warning"
            for study in report.studies:
                self._ledger.note_conflicts(
                    tx, self._tenant, study, kind=kind, conflicts=verdict.conflicts, now=by.at
                )
        state = State.BLOCKED if verdict.holds else State.SETTLING
        self._enqueue(tx, by, studies, state, reason=verdict.reason, detail=verdict.summary())

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
    ) -> None:
        for study in dict.fromkeys(studies):
            jobs.enqueue(
                tx,
                tenant=self._tenant,
                lane=study,
                kind=job_kind(self._tenant),
                job_class=by.job_class,
                now=by.at,
                state=state,
                reason=reason,
                detail=detail,
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
