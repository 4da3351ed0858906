"""A person decides about an exam that is held: what they are shown, what they may accept, what follows.

Invariants:

* a person may accept that two spellings or traits denote the same person; never that an unqualified or inconsistent
  national identity is published: only the codes of ``RELEASABLE`` can be accepted (drim-m §11, docs/identity.md);
* what is accepted is exactly what was shown: ``seen`` stands for every value of it, and anything that changed since
  refuses the release;
* waivers, the reports' new standing, evidence, audit record and jobs commit together or not at all;
* a release is all or nothing: every conflict that holds the exam, or none.

Who may do this, and the record that they looked, is left to whoever asks.
"""

from __future__ import annotations

import hmac
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from indexer import gate
from indexer.admission import Admission, Carrier
from indexer.gate import Conflict
from indexer.ledger import HeldReport, Moment
from indexer.publication import job_kind
from indexer.study import Study
from indexer.timeline import ExamState, deciding_job, exam_state, missing
from security import audit
from security.errors import BadInput, Refused
from security.identity import PatientIdentity, Uid
from security.ins import digits_disagree
from security.outbox import jobs
from security.outbox.port import Job, JobClass
from security.outbox.states import State
from security.store.port import ReadTx, Tx

FIELDS = (
    "birth name",
    "first given name",
    "given names",
    "used name",
    "sex",
    "birth date",
    "birthplace",
    "INS",
    "INS authority",
    "INS status",
    "local id",
    "accession",
)
"""Names of the values of an ``Identity``, in the order in which people read them."""

RELEASABLE = frozenset(
    {
        "identity-birth-name",
        "identity-first-given-name",
        "identity-sex",
        "identity-birth-date",
        "identity-birthplace",
        "identity-local-id",
        "identity-name",
        "identity-ins-renumbered",
        "accession-unknown",
    }
)
"""Disagreements that a person who has compared the sources may accept. Everything else must be corrected."""

REASON_MIN, REASON_MAX = 10, 500
_ZONE = "ops"
_CORRECT = "correct it at its source, then let the RIS send the report again"
_ABSENCE = f"a mandatory trait is missing, and nobody can accept an absence: {_CORRECT}"
WHY_NOT: dict[str, str] = {
    "identity-ins-missing": f"no INS is stated, and nothing is published without one: {_CORRECT}",
    "identity-patient-id": f"the identifier that names the patient in the index differs between sources: {_CORRECT}",
    "identity-patient-id-missing": f"no single identifier of the patient domain is stated: {_CORRECT}",
    "identity-birth-name-missing": _ABSENCE,
    "identity-first-given-name-missing": _ABSENCE,
    "identity-sex-missing": _ABSENCE,
    "identity-birth-date-missing": _ABSENCE,
    "identity-ins-status": f"the INS is not qualified (VALI): {_CORRECT}",
    "identity-ins-authority": f"the authority of the INS is unknown, or the sources name two: {_CORRECT}",
    "identity-ins-key": f"the key of the matricule is wrong, so it is nobody's: {_CORRECT}",
    "identity-ins-digits": "the matricule contradicts the sex or the birth date: one of them is wrong or not this"
    f" person's; {_CORRECT}",
    "identity-ins": f"two different INS are two persons until their register says otherwise: {_CORRECT}",
    "identity-test-authority": "the matricule is one of the test authority: only the setting test_identity allows it",
    "patient-opposed": "the patient opposes being in the index: only the patient can take that back",
    "not-for-index": "the report says that it is not for the index: only a report that replaces it can say otherwise",
    "other-study": "the PACS contradicts a report of this exam about another study: open that one, decide there",
    "several-studies": "none of the orders of a report on several studies is this study's: which one it fulfils"
    f" cannot be told; {_CORRECT}",
    "pacs-not-kept": "what the PACS said is not kept any more: try again, then compare what it says now",
    "not-identity": "no identity is in question here: do what is said to be missing, then try again",
}
"""Why an exam cannot be released, and what to do instead, by code."""

_NEVER_RETRIED = frozenset({"not-for-index", "patient-opposed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One patient as one source states them. ``values``: field of ``FIELDS`` → value, "" where it is silent."""

    source: str
    values: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Identity({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldExam:
    """One held exam with everything a person needs to decide: patient values, for who may read them.

    ``conflicts``: those that hold, empty when nothing disagrees any more. ``studies``: what a release lets go on,
    this exam first. ``why_not``: "" when ``releasable``. ``seen``: stands for everything shown, to be handed back.
    """

    tenant: str
    study: str
    reason: str
    missing: str
    sources: tuple[Identity, ...]
    conflicts: tuple[Conflict, ...]
    studies: tuple[str, ...]
    releasable: bool
    why_not: str
    seen: str

    def __repr__(self) -> str:
        return f"HeldExam({self.tenant}, {self.study}, {self.reason}, releasable={self.releasable})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doubt:
    """One report that is in question, and what contradicts it. ``moment``: which comparison says so."""

    held: HeldReport
    moment: Moment
    verdict: gate.Verdict

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(conflict for conflict in self.verdict.conflicts if conflict.severity == "hold")

    def studies(self, study: str) -> tuple[str, ...]:
        """What the doubt holds: before the acknowledgement the whole report, else this study alone."""
        return self.held.stated.report.studies if self.moment == "message" else (Uid(study),)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A held exam as the store shows it: its reports that count, those in question, what the PACS said."""

    study: str
    job: Job
    reports: Sequence[HeldReport]
    doubts: Sequence[_Doubt]
    pacs: Study | None


# -- looking -----------------------------------------------------------------------------------------------------


def look(tx: ReadTx, admission: Admission, study: str) -> HeldExam | None:
    """The exam with its identities side by side, or None when it is not held."""
    case = _case(tx, admission, study)
    return _shown(tx, admission, case) if case else None


def _case(tx: ReadTx, admission: Admission, study: str) -> _Case | None:
    tenant, ledger = admission.tenant, admission.ledger
    job = deciding_job(jobs.lane_jobs(tx, tenant=tenant, lane=study))
    if job is None or exam_state(job) is not ExamState.HELD:
        return None
    reports = [one for one in ledger.reports_of(tx, tenant, Uid(study)) if one.status in {"valid", "held"}]
    pacs = ledger.pacs_said(tx, tenant, study)
    doubts = [doubt for held in reports if (doubt := _doubt(tx, admission, held, study, pacs))]
    return _Case(study=study, job=job, reports=reports, doubts=doubts, pacs=pacs)


def _shown(tx: ReadTx, admission: Admission, case: _Case) -> HeldExam:
    why_not = _why_not(case, admission.rules)
    studies = [case.study, *(study for doubt in case.doubts for study in doubt.studies(case.study))]
    shown = HeldExam(
        tenant=admission.tenant,
        study=case.study,
        reason=case.job.reason,
        missing=missing(case.job.reason),
        sources=tuple(_sources(tx, admission, case)),
        conflicts=tuple(_conflicts(case.doubts)),
        studies=tuple(dict.fromkeys(studies)),
        releasable=not why_not,
        why_not=WHY_NOT[why_not] if why_not else "",
        seen="",
    )
    return replace(shown, seen=_seal_of(admission, shown, case))


def _doubt(tx: ReadTx, admission: Admission, held: HeldReport, study: str, pacs: Study | None) -> _Doubt | None:
    """What holds this report about this study, judged now; None when nothing does."""
    if held.status == "held":
        return _Doubt(held=held, moment="message", verdict=admission.judge(tx, held.stated))
    if not held.contested.get(study) or pacs is None:
        return None
    known = admission.as_known(tx, held.stated, held.received_at)
    found = gate.against_pacs(report=known.report, study=pacs, rules=admission.rules)
    waived = admission.ledger.waivers(tx, admission.tenant, held.report_id, study, "pacs")
    accepted = gate.accepting(found, lambda one: admission.ledger.mark(admission.tenant, one) in waived)
    return _Doubt(held=held, moment="pacs", verdict=accepted)


def _why_not(case: _Case, rules: gate.Rules) -> str:
    """Code of what forbids the release, "" when a person may decide it. The gravest first."""
    if any(doubt.verdict.is_opposed for doubt in case.doubts):
        return "patient-opposed"
    forbidden = [one.code for doubt in case.doubts for one in doubt.conflicts if one.code not in RELEASABLE]
    if forbidden:
        return forbidden[0]
    if any(other != case.study for held in case.reports for other in held.contested):
        return "other-study"
    return _why_not_these(case, rules) if case.doubts else _why_no_doubt(case)


def _why_not_these(case: _Case, rules: gate.Rules) -> str:
    if any(_is_inconsistent(doubt.held, rules) for doubt in case.doubts):
        return "identity-ins-digits"
    return "several-studies" if any(_lacks_its_order(doubt, case.pacs) for doubt in case.doubts) else ""


def _why_no_doubt(case: _Case) -> str:
    if any(held.contested for held in case.reports):
        return "pacs-not-kept"
    return case.job.reason if case.job.reason in WHY_NOT else "not-identity"


def _is_inconsistent(held: HeldReport, rules: gate.Rules) -> bool:
    """Whether the traits that would be published contradict the matricule: the gate has only asked the envelope's."""
    ins, traits = held.stated.envelope.ins, held.stated.report.patient.traits
    if ins is None or rules.nir_digits != "hold":
        return False
    return bool(list(digits_disagree(ins.matricule, traits.sex, traits.birth_date)))


def _lacks_its_order(doubt: _Doubt, pacs: Study | None) -> bool:
    """Whether a report on several studies states no order with the accession number the PACS holds for this one."""
    report = doubt.held.stated.report
    if doubt.moment == "message" or pacs is None or len(report.studies) == 1:
        return False
    return pacs.accession_number not in {order.accession_number for order in report.orders}


def _sources(tx: ReadTx, admission: Admission, case: _Case) -> Iterator[Identity]:
    """Each source in question, then every other report that contradicts or shares the exam, then the PACS."""
    doubtful = [doubt.held for doubt in case.doubts] or list(case.reports)
    several = len(doubtful) > 1
    for held in doubtful:
        accession = ", ".join(order.accession_number for order in held.stated.report.orders)
        yield _identity(_named("HL7", held, several=several), held.stated.envelope)
        yield _identity(_named("CDA", held, several=several), held.stated.report.patient, accession)
    named = {conflict.right_source for doubt in case.doubts for conflict in doubt.conflicts}
    named |= {f"report {held.report_id}" for held in case.reports}
    told = {f"report {held.report_id}" for held in doubtful}
    for doubt in case.doubts:
        for witness in admission.ledger.held_for(tx, admission.tenant, doubt.held.stated):
            if witness.source in named and witness.source not in told:
                told.add(witness.source)
                yield _identity(witness.source, witness.patient)
    if case.pacs is not None:
        yield _pacs_identity(case.pacs)


def _named(source: str, held: HeldReport, *, several: bool) -> str:
    return f"{source} of report {held.report_id}" if several else source


def _conflicts(doubts: Sequence[_Doubt]) -> Iterator[Conflict]:
    """The conflicts that hold, their sources named as ``_sources`` names them."""
    several = len(doubts) > 1
    for doubt in doubts:
        for one in doubt.conflicts:
            left, right = (
                _named(source, doubt.held, several=several and source in {"HL7", "CDA"})
                for source in (one.left_source, one.right_source)
            )
            yield replace(one, left_source=left, right_source=right)


def _identity(source: str, patient: PatientIdentity, accession: str = "") -> Identity:
    traits, ins = patient.traits, patient.ins
    values = (
        traits.birth_name,
        traits.first_given_name,
        traits.given_names,
        " ".join(part for part in (traits.used_name, traits.used_given_name) if part),
        traits.sex,
        f"{traits.birth_date:%Y%m%d}" if traits.birth_date else "",
        traits.birthplace,
        ins.matricule if ins else "",
        ins.oid if ins else "",
        ins.status if ins else "",
        ", ".join(local.value for local in patient.local_ids),
        accession,
    )
    return Identity(source=source, values=dict(zip(FIELDS, values, strict=True)))


def _pacs_identity(study: Study) -> Identity:
    """A PACS does not say whether a name is of birth or used: it stands where it is compared first."""
    patient = study.patient
    family, given, *_ = (*patient.name.partition("=")[0].split("^"), "")
    stated = {
        "birth name": family,
        "first given name": given,
        "sex": patient.sex,
        "birth date": patient.birth_date,
        "local id": patient.patient_id,
        "accession": study.accession_number,
    }
    return Identity(source="PACS", values=dict.fromkeys(FIELDS, "") | stated)


def _seal_of(admission: Admission, shown: HeldExam, case: _Case) -> str:
    """A keyed digest of everything shown, of where its reports stand and of the very hold: it tells nothing without
    the values, and is worth nothing once the exam went on, also when the same difference comes back."""
    standing = [[held.report_id, held.status, held.reason, dict(held.contested)] for held in case.reports]
    hold = [case.job.job_id, case.job.epoch]
    text = json.dumps([asdict(shown), standing, hold], sort_keys=True, ensure_ascii=False)
    return admission.ledger.vault.blind(admission.tenant, "release.seen", text).hex()


# -- deciding ----------------------------------------------------------------------------------------------------


def release(
    tx: Tx, admission: Admission, study: str, *, actor: str, reason: str, seen: str, now: datetime
) -> tuple[str, ...]:
    """Accept what was shown; the exam goes on. Returns the studies that do.

    Raises:
        Refused: ``changed-meanwhile`` what was shown is not what stands now, or somebody else has decided;
            ``not-releasable``.
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    case = _case(tx, admission, study)
    shown = _shown(tx, admission, case) if case else None
    if case is None or shown is None or not hmac.compare_digest(shown.seen.encode(), seen.encode(errors="replace")):
        raise Refused(
            f"exam {study} is not as it was shown",
            code="changed-meanwhile",
            hint="somebody else has decided, or a source has changed: look at it again",
        )
    if not shown.releasable:
        raise Refused(f"exam {study} cannot be released", code="not-releasable", hint=shown.why_not)
    why = _checked(reason, shown.sources)
    for doubt in case.doubts:
        for other in doubt.studies(study):
            for conflict in doubt.conflicts:
                admission.ledger.waive(
                    tx,
                    admission.tenant,
                    conflict,
                    report_id=doubt.held.report_id,
                    study=other,
                    moment=doubt.moment,
                    actor=actor,
                    reason=why,
                    now=now,
                )
    codes = ", ".join(dict.fromkeys(one.code for one in shown.conflicts)) or "nothing disagrees any more"
    for other in shown.studies:
        admission.ledger.note(
            tx, admission.tenant, other, kind="released", summary=f"{codes}: {why} ({actor})", now=now
        )
    audit_exam(tx, admission, study, event="exam.released", actor=actor, detail=f"{codes}: {why}", now=now)
    _go_on(tx, admission, case, actor=actor, now=now)
    return shown.studies


def retry(tx: Tx, admission: Admission, study: str, *, actor: str, reason: str, now: datetime) -> State:
    """Try a waiting, held or failed exam again now: a held report is judged anew, a held or failed job settles anew,
    a waiting one is due at once. What is in question stays in question: nothing is accepted by trying.

    Raises:
        Refused: ``nothing-to-retry``, ``not-retriable`` another message or the patient must say otherwise, or the
            tenant must go live; ``wrong-job-state`` it is being worked on.
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    tenant = admission.tenant
    job = deciding_job(jobs.lane_jobs(tx, tenant=tenant, lane=study))
    state = exam_state(job) if job else None
    if job is None or state in {ExamState.INDEXED, ExamState.WITHDRAWN}:
        raise Refused(f"exam {study} is not under way", code="nothing-to-retry", hint="look at its timeline")
    if job.reason in _NEVER_RETRIED or (state is ExamState.WAITING and job.state is State.BLOCKED):
        raise Refused(
            f"exam {study} cannot be tried again",
            code="not-retriable",
            hint=WHY_NOT.get(job.reason) or missing(job.reason),
        )
    reports = admission.ledger.reports_of(tx, tenant, Uid(study))
    pacs = admission.ledger.pacs_said(tx, tenant, study)
    known = _Case(study=study, job=job, reports=reports, doubts=[], pacs=pacs)
    why = _checked(reason, list(_sources(tx, admission, known)))
    admission.ledger.note(tx, tenant, study, kind="retried", summary=f"{why} ({actor})", now=now)
    audit_exam(tx, admission, study, event="exam.retried", actor=actor, detail=f"{job.reason}: {why}", now=now)
    for held in reversed(reports):
        _reconsidered(tx, admission, held.report_id, _carrier(job, now))
    after = deciding_job(jobs.lane_jobs(tx, tenant=tenant, lane=study))
    if after is None or after.job_id != job.job_id:
        return after.state if after else State.CANCELLED
    if job.state in {State.BLOCKED, State.DEAD}:
        return jobs.lift(tx, tenant=tenant, job_id=job.job_id, now=now, actor=actor, reason="retried")
    return jobs.hasten(tx, tenant=tenant, job_id=job.job_id, now=now, actor=actor, reason="retried")


def _go_on(tx: Tx, admission: Admission, case: _Case, *, actor: str, now: datetime) -> None:
    """Held reports take their place as on any admission; the exam settles anew."""
    by = _carrier(case.job, now)
    for doubt in reversed(case.doubts):  # a successor first: what it replaces is no witness against it
        if doubt.moment == "message" and _reconsidered(tx, admission, doubt.held.report_id, by).holds:
            raise Refused(
                f"exam {case.study} is still held",
                code="changed-meanwhile",
                hint="what was accepted is not all that holds it: look at it again",
            )
    if all(doubt.moment == "pacs" for doubt in case.doubts):
        jobs.enqueue(
            tx,
            tenant=admission.tenant,
            lane=case.study,
            kind=job_kind(admission.tenant),
            job_class=by.job_class,
            now=now,
            actor=actor,
        )


def _reconsidered(tx: Tx, admission: Admission, report_id: str, by: Carrier) -> gate.Verdict:
    """The report judged again, if it is still held."""
    known = admission.ledger.report(tx, admission.tenant, report_id)
    if known is None or known[0].status != "held":
        return gate.Verdict()
    return admission.reconsider(tx, known[0], by)


def _carrier(job: Job, now: datetime) -> Carrier:
    return Carrier(control_id="", zone=_ZONE, at=now, job_class=JobClass(min(job.job_class, JobClass.P1)))


def checked_reason(tx: ReadTx, admission: Admission, study: str, reason: str) -> str:
    """The reason a person gives about an exam, as it may be kept: it quotes nothing that its reports state.

    Raises:
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    reports = admission.ledger.reports_of(tx, admission.tenant, Uid(study))
    stated = [patient for held in reports for patient in held.stated.patients]
    return _checked(reason, [_identity("report", patient) for patient in stated])


def _checked(reason: str, sources: Sequence[Identity]) -> str:
    """The reason as it may stand in a timeline and in the audit trail.

    Raises:
        BadInput: ``reason-too-short``, ``reason-too-long``, ``reason-names-patient``.
    """
    text = " ".join(reason.split())
    if len(text) < REASON_MIN:
        raise BadInput(
            "the reason says too little",
            code="reason-too-short",
            hint=f"say in at least {REASON_MIN} characters what was compared, with which result",
        )
    if len(text) > REASON_MAX or not text.isprintable():
        raise BadInput("the reason is too long", code="reason-too-long", hint=f"use at most {REASON_MAX} characters")
    if any(_quotes(text, source) for source in sources):
        raise BadInput(
            "the reason quotes a value of the patient",
            code="reason-names-patient",
            hint="say it without names, dates and numbers of the patient: it is read by who may not see them",
        )
    return text


_MONTHS = (
    "janvier january", "fevrier february", "mars march", "avril april", "mai may", "juin june", "juillet july",
    "aout august", "septembre september", "octobre october", "novembre november", "decembre december",
)  # fmt: skip


def _quotes(text: str, source: Identity) -> bool:
    """Whether the text names the patient: a whole name, a part of the birth or used name, a number, the birth date.
    Names of one or two letters are let pass: too many sentences hold them."""
    plain = unicodedata.normalize("NFKC", text)
    words, digits = _spaced(plain), re.sub(r"\D", "", plain)
    names = [source.values[field] for field in ("birth name", "first given name", "used name")]
    parts = _spaced(f"{source.values['birth name']} {source.values['used name']}").split()
    names += [part for part in parts if len(part) > 3]
    names += [part for field in ("local id", "accession") for part in source.values[field].split(", ")]
    numbers = [source.values["INS"], source.values["INS"][:13]]
    return (
        any(len(name) > 2 and _spaced(name) in words for name in names)
        or any(number and number in digits for number in numbers)
        or _dates_back_to(source.values["birth date"], words, digits)
    )


def _dates_back_to(born: str, words: str, digits: str) -> bool:
    """Whether the text states the day ``born`` (YYYYMMDD), in digits or in words, the year in full or not."""
    if len(born) != 8:
        return False
    year, month, day = born[:4], born[4:6], born[6:]
    months = "|".join([f"0?{int(month)}", *_MONTHS[int(month) - 1].upper().split()])
    spelt = rf" 0?{int(day)}(?:ER|ST|ND|RD|TH)? (?:{months}) (?:{year}|{year[2:]}) "
    turned = (
        rf" (?:{months}) 0?{int(day)}(?:ST|ND|RD|TH)? (?:{year}|{year[2:]}) | {year} 0?{int(month)} 0?{int(day)} "
    )
    return bool(re.search(f"{spelt}|{turned}", words)) or any(one in digits for one in (born, f"{day}{month}{year}"))


def _spaced(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", gate.folded(text)), ""])


def audit_exam(
    tx: Tx, admission: Admission, study: str, *, event: str, actor: str, detail: str, now: datetime
) -> None:
    """The audit record of what a person did to an exam."""
    audit.append(
        tx,
        audit.AuditRecord(
            tenant=admission.tenant,
            zone=_ZONE,
            at=now,
            event=event,
            actor=actor,
            outcome=0,
            object_type="study",
            object_id=study,
            detail=detail,
        ),
    )
