"""The words of the console for what the floors below name by codes. A code without a word is shown as it is.

What an exam lacks stands in ``indexer.timeline``; here are the short names: states, reasons, steps of a timeline,
sources, fields, conflicts and refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.i18n import N_, Words
from security.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class StateWord:
    """A state for people: word, shape (never colour alone), and what it means."""

    word: str
    shape: str
    meaning: str


STATES: Final[Mapping[str, StateWord]] = {
    "waiting": StateWord(
        word=N_("Waiting"),
        shape="○",
        meaning=N_("Something is not there yet. Poterne tries again by itself."),
    ),
    "held": StateWord(
        word=N_("Held"),
        shape="■",
        meaning=N_("Poterne stopped the exam for a named reason. A person must act."),
    ),
    "failed": StateWord(
        word=N_("Failed"),
        shape="▲",
        meaning=N_("The exam broke its task several times. A person must decide."),
    ),
    "sending": StateWord(
        word=N_("Sending"),
        shape="▶",
        meaning=N_("The manifest is on its way, or the index is being asked whether it arrived."),
    ),
    "accepted": StateWord(
        word=N_("Accepted"),
        shape="◐",
        meaning=N_("The index said yes. A query must still show the entry."),
    ),
    "indexed": StateWord(
        word=N_("Indexed"),
        shape="●",
        meaning=N_("A query showed the entry in the index. Nothing is left to do."),
    ),
    "withdrawn": StateWord(
        word=N_("Withdrawn"),
        shape="◇",
        meaning=N_("The entry was withdrawn from the index on demand."),
    ),
}
"""In the order people look at them."""

REASONS: Final[Mapping[str, str]] = {
    "exam-ended": N_("the end of the exam was announced, and its images are gone"),
    "images-gone": N_("the images are gone from the PACS"),
    "lifted": N_("let go on"),
    "never-published": N_("never published"),
    "newer-job": N_("a newer task took its place"),
    "not-in-index": N_("not in the index"),
    "shadow-mode-ended": N_("shadow mode ended"),
    "still-in-index": N_("still in the index"),
    "wrong-patient": N_("another person's exam"),
    "patient-moved": N_("the patient's identifier was merged: published anew under the surviving one"),
    "index-XDSPatientIdDoesNotMatch": N_("the index refused: patients do not match"),
    "index-XDSUnknownPatientId": N_("the index refused: patient unknown there"),
    "index-contradictory-answer": N_("the index contradicts itself"),
    "index-already-there": N_("the index says that it has it already"),
    "index-other-objects": N_("the index answered about something else"),
    "index-query-failed": N_("the index could not be asked"),
    "accession-unknown": N_("accession number unknown to the report"),
    "already-indexed": N_("the index already shows this content"),
    "entry-changed-by-others": N_("entry changed by somebody else"),
    "entry-deprecated-by-others": N_("entry deprecated by somebody else"),
    "entry-missing": N_("entry gone from the index"),
    "identity-birth-date": N_("birth dates differ"),
    "identity-birth-date-missing": N_("no birth date"),
    "identity-birth-name": N_("birth names differ"),
    "identity-birth-name-missing": N_("no birth name"),
    "identity-birthplace": N_("birthplaces differ"),
    "identity-first-given-name": N_("first given names differ"),
    "identity-first-given-name-missing": N_("no first given name"),
    "identity-ins": N_("INS differ"),
    "identity-ins-authority": N_("INS authority unknown or different"),
    "identity-ins-digits": N_("the INS does not fit sex or birth date"),
    "identity-ins-key": N_("wrong INS key"),
    "identity-ins-missing": N_("no INS"),
    "identity-ins-renumbered": N_("the INS was renumbered"),
    "identity-ins-status": N_("INS not qualified"),
    "identity-local-id": N_("patient identifiers (IPP) differ"),
    "identity-name": N_("names differ"),
    "identity-patient-id": N_("identifiers that name the patient differ"),
    "identity-patient-id-missing": N_("no identifier of the patient domain"),
    "identity-sex": N_("sexes differ"),
    "identity-sex-missing": N_("no sex"),
    "identity-test-authority": N_("INS of a test authority"),
    "index-answer-too-large": N_("answer of the index too large"),
    "index-connect-timeout": N_("the index does not answer"),
    "index-connection-lost": N_("connection to the index lost"),
    "index-name-not-found": N_("name of the index unknown to the DNS"),
    "index-no-connection": N_("no connection to the index"),
    "index-timeout": N_("the index answers too late"),
    "index-certificate-expired": N_("certificate that signs our requests expired"),
    "index-certificate-not-yet-valid": N_("certificate that signs our requests not valid yet"),
    "sign-certificate-expired": N_("certificate that signs our submissions expired"),
    "sign-certificate-not-yet-valid": N_("certificate that signs our submissions not valid yet"),
    "metadata-no-patient-id": N_("no identifier under which the index knows the patient"),
    "index-tls-refused": N_("TLS refused between the index and us"),
    "adoption-waits": N_("restored: the PACS must tell of a forgotten entry"),
    "index-unknown": N_("restored: the index must be searched first"),
    "index-unreadable-answer": N_("unreadable answer of the index"),
    "internal-fault": N_("defect of Poterne"),
    "never-shown": N_("never shown by the index"),
    "never-withdrawn": N_("never withdrawn by the index"),
    "entry-changed": N_("entry changed meanwhile"),
    "update-refused": N_("new metadata refused by the index"),
    "no-valid-report": N_("no valid report"),
    "not-for-index": N_("the report forbids publication"),
    "not-visible-yet": N_("not visible in the index yet"),
    "pacs-bad-answer": N_("unreadable answer of the PACS"),
    "pacs-control-missing": N_("the PACS lacks its control study"),
    "pacs-witness-missing": N_("the PACS lacks this exam and others"),
    "pacs-disagree": N_("several PACS disagree"),
    "pacs-has-no-such-study": N_("not in the PACS yet"),
    "pacs-refused": N_("the PACS refuses our association"),
    "pacs-timeout": N_("the PACS answers too late"),
    "pacs-too-large": N_("answer of the PACS too large"),
    "pacs-unauthorised": N_("the PACS refuses our password"),
    "pacs-unreachable": N_("the PACS does not answer"),
    "patient-opposed": N_("the patient is opposed"),
    "paused": N_("tenant paused"),
    "shadow-mode": N_("shadow mode: ready, not sent"),
    "still-visible": N_("still shown after its withdrawal"),
    "submission-missing": N_("stored bytes missing"),
    "poison": N_("stopped its worker several times"),
    "tries-exhausted": N_("tried as often as allowed"),
    "no-answer-in-time": N_("no answer in time"),
    "worker-died": N_("interrupted by a stop"),
    "confidentiality-unknown": N_("unknown confidentiality code"),
    "metadata-character": N_("a character the index refuses"),
    "kept-out": N_("taken out by a person"),
    "images-arriving": N_("images may still be arriving"),
    "images-step-in-progress": N_("a modality is still at work"),
    "images-expected": N_("listed images not in the PACS"),
    "pacs-absent-once": N_("no longer in the PACS"),
    "pacs-absent-many": N_("many exams gone from the PACS"),
    "pacs-unproven": N_("not in a PACS that proves nothing"),
    "all-rejected": N_("every image was rejected"),
    "archive-link": N_("imported with another exam's report"),
    "withdrawn-elsewhere": N_("withdrawn at the index, reason forgotten here"),
}

STEPS: Final[Mapping[str, str]] = {
    # evidence
    "consent-received": N_("consent received"),
    "entry-deprecated": N_("entry deprecated at the index"),
    "entry-adopted": N_("forgotten entry adopted"),
    "entry-found": N_("entry found in the index"),
    "entry-revised": N_("metadata of the entry revised"),
    "update-built": N_("new metadata prepared"),
    "update-refused": N_("new metadata refused by the index"),
    "identity-conflict": N_("identities in conflict"),
    "identity-warning": N_("identities differ, tolerated"),
    "hurried": N_("publication asked for by a person, with the images that are there"),
    "images-complete": N_("images complete"),
    "images-seen": N_("images seen in the PACS"),
    "manifest-built": N_("manifest built"),
    "exam-cancelled-in-ris": N_("exam cancelled in the RIS"),
    "exam-changed-in-ris": N_("exam changed in the RIS"),
    "order-accepted": N_("order accepted"),
    "order-cancelled": N_("order cancelled"),
    "order-changed": N_("order changed"),
    "order-received": N_("order received"),
    "order-refused": N_("order refused"),
    "order-substituted": N_("order replaced by another"),
    "pacs-answer": N_("answer of the PACS"),
    "pacs-changed": N_("the PACS took in images"),
    "images-available": N_("images can be retrieved, says the PACS"),
    "images-rejected": N_("images rejected"),
    "images-unavailable": N_("images cannot be retrieved, says the PACS"),
    "objects-received": N_("images received by DICOM"),
    "rejection-refused": N_("rejection note not obeyed: another patient"),
    "step-begun": N_("acquisition begun"),
    "step-completed": N_("acquisition completed"),
    "step-discontinued": N_("acquisition discontinued"),
    "patient-not-opposed": N_("the patient is no longer opposed"),
    "patient-opposed": N_("the patient is opposed"),
    "identity-corrected": N_("identity corrected by the register"),
    "identity-merged": N_("identities merged by the register"),
    "identity-unlinked": N_("merge of identities undone"),
    "let-in": N_("let back into the index by a person"),
    "taken-out": N_("taken out of the index by a person"),
    "reconciled": N_("difference found by reconciliation"),
    "released": N_("released by a person"),
    "imported": N_("imported from an archive"),
    "report-confirmed": N_("report of an imported exam received"),
    "report-contradicts-archive": N_("report contradicts the archive"),
    "report-contested": N_("report contested"),
    "report-received": N_("report received"),
    "report-received-again": N_("same report received again"),
    "report-replaced": N_("report replaced"),
    "report-withdrawn": N_("report withdrawn by its source"),
    "retried": N_("tried again by a person"),
    "trial-started": N_("trial exam started"),
    "withdrawal-adopted": N_("withdrawal seen at the index"),
    "withdrawal-asked": N_("withdrawal asked for"),
    "withdrawal-built": N_("withdrawal prepared"),
    "withdrawn": N_("withdrawn from the index"),
    # states of a job
    "accepted": N_("accepted by the index"),
    "blocked": N_("held"),
    "cancelled": N_("cancelled, nothing to send"),
    "dead": N_("failed"),
    "leased": N_("taken up for sending"),
    "published": N_("shown by the index"),
    "ready": N_("ready to be sent"),
    "receiving": N_("waiting for images"),
    "retry_wait": N_("will be sent again"),
    "sent": N_("sent"),
    "settling": N_("being prepared"),
    "shadow-mode": N_("ready, not sent (shadow mode)"),
    "superseded": N_("replaced by a newer task"),
    "unknown": N_("outcome unknown: the index is asked"),
}

SOURCES: Final[Mapping[str, str]] = {
    "CDA": N_("Report (CDA)"),
    "HL7": N_("Message (HL7)"),
    "PACS": N_("PACS"),
    "order": N_("Order"),
    "identity register": N_("Identity register (ADT)"),
    "rule": N_("rule"),
    "INS digits": N_("digits of the INS"),
}
_OF_REPORT = re.compile(r"(?:(HL7|CDA) of )?report (.+)")

FIELDS: Final[Mapping[str, str]] = {
    "INS": N_("INS"),
    "INS authority": N_("INS authority"),
    "INS key": N_("INS key"),
    "INS status": N_("INS status"),
    "accession": N_("accession number"),
    "birth date": N_("birth date"),
    "birth name": N_("birth name"),
    "birthplace": N_("birthplace"),
    "first given name": N_("first given name"),
    "given names": N_("given names"),
    "ins": N_("INS"),
    "local id": N_("patient identifier (IPP)"),
    "month of birth": N_("month of birth"),
    "name": N_("name"),
    "patient id": N_("identifier that names the patient"),
    "sex": N_("sex"),
    "sex of birth": N_("sex"),
    "used name": N_("used name"),
    "year of birth": N_("year of birth"),
}

SHARES: Final[Mapping[str, str]] = {
    "accession": N_("same accession number"),
    "ins": N_("same INS"),
    "local-id": N_("same patient identifier (IPP)"),
    "study": N_("same study"),
}
"""What a report has in common with what it contradicts (``indexer.gate.Share``)."""
_TIED = re.compile(r"(?P<field>[\w ]+) \(same (?P<shares>[a-z, -]+)\)")

CHECKS: Final[Mapping[str, str]] = {
    "accession": N_(
        "Ask for the order: does the accession number of the PACS belong to this exam of this patient? If the"
        " modality worked on another entry of its worklist, correct the PACS."
    ),
    "birth date": N_("Read the birth date on the identity document, then correct the source that is wrong."),
    "birth name": N_(
        "Compare with the identity document: same birth name, or another person of the same family? Maiden and used"
        " names are often exchanged."
    ),
    "birthplace": N_(
        "Read the INSEE code of the birthplace in the identity record; a commune may have changed code."
    ),
    "first given name": N_("Compare with the identity document: a second given name is no first given name."),
    "given names": N_("Compare with the identity document: order and number of given names."),
    "local id": N_(
        "Look the patient identifier up in the identity server: two identifiers of one person (merge them), or two"
        " persons (one of the sources is wrong)?"
    ),
    "name": N_(
        "Compare the name in the PACS with the identity document: used name, inversion, homonym, or an exam stored"
        " under another patient?"
    ),
    "sex": N_("Read the sex in the identity record, then correct the source that is wrong."),
}
"""By field: what a person checks before accepting."""

CHECK_INS: Final = N_(
    "Open the patient in the identity server: an INS is never accepted by eye, it is qualified there and sent again."
)

FAULTS: Final[Mapping[str, str]] = {
    "account-exists": N_("There is an account of this name already."),
    "account-name": N_("This is no name of an account: 2 to 40 lower-case letters, digits, '.', '-', '_'."),
    "account-person": N_("This is no name of a person: 2 to 80 characters on one line."),
    "consent-action": N_("Nothing of that name takes two persons."),
    "consent-own": N_("The second person is another one: ask a colleague."),
    "consent-reason": N_("Say why, on one line of 10 to 500 characters."),
    "glass-code": N_("Choose why."),
    "glass-hours": N_("An emergency lasts at most four hours."),
    "glass-reason": N_("Say why, on one line of 10 to 500 characters."),
    "last-security-officer": N_("This is the last security officer: make another one first."),
    "not-allowed": N_("The role of this account does not allow it."),
    "password-long": N_("The password is too long: at most 256 characters."),
    "password-obvious": N_("This password is easy to guess: take several words that have nothing to do with you."),
    "password-short": N_("The password is too short: at least 12 characters."),
    "totp-wrong": N_(
        "This is not the code of now: take the one the authenticator shows. If it never fits, look at the clocks."
    ),
    "unknown-account": N_("No account has this name: poterne accounts list."),
    "unknown-consent": N_("No such agreement is open: it is good for an hour, and once."),
    "changed-meanwhile": N_(
        "Something about this exam changed after the page was shown, or somebody else decided first. Nothing was"
        " done: compare again what stands here now."
    ),
    "not-releasable": N_("No person may accept this conflict: correct it at its source, then send the report again."),
    "not-retriable": N_("Trying again cannot help: a new message, or the patient, must say otherwise first."),
    "nothing-to-retry": N_("This exam is not under way: there is nothing to try again."),
    "already-out": N_("A person has taken this exam out of the index before: its timeline says who, and why."),
    "unknown-exam": N_("No report speaks of this exam: check the StudyInstanceUID."),
    "wrong-job-state": N_("This exam is being worked on at this moment: look again in a few seconds."),
    "reason-too-short": N_("Say why in at least 10 characters: who reads the trail later must understand it."),
    "reason-too-long": N_("The reason is too long: 500 characters at most."),
    "reason-unseen": N_(
        "The reason held a character that nobody sees, often from a copied text. It is taken out below: read the"
        " reason again, then send it."
    ),
    "bad-cursor": N_("This page of the list is not there: begin again at the newest exams."),
    "reason-names-patient": N_(
        "The reason quotes a name, a date or a number of the patient. Say it without: it is read by people who may"
        " not see them."
    ),
}


_FAMILIES: Final = (
    ("index-soap-", N_("the index answered with a fault of its own: {code}")),
    ("index-http-", N_("the index answered with HTTP {code}")),
    ("index-", N_("the index answered {code}")),
    ("pacs-", N_("no clean answer of the PACS: {code}")),
    ("sign-", N_("what signs our submissions is not valid: {code}")),
    ("identity-", N_("identities in conflict: {code}")),
    ("accession-", N_("accession number in doubt: {code}")),
    ("metadata-", N_("the metadata cannot be written: {code}")),
)
"""What a reason says that has no words of its own, by its prefix. ``{code}``: the rest of it."""


def reason(code: str, said: Words) -> str:
    """A reason in short words."""
    if code in REASONS:
        return said(REASONS[code])
    for prefix, text in _FAMILIES:
        if code.startswith(prefix):
            return said(text, code=code.removeprefix(prefix))
    return code


def step(kind: str, said: Words) -> str:
    """The name of a step of the timeline."""
    return said(STEPS.get(kind, kind))


def source(name: str, said: Words) -> str:
    """A source, with its report where there are several."""
    of_report = _OF_REPORT.fullmatch(name)
    if of_report is None:
        return said(SOURCES.get(name, name))
    kind, number = of_report.groups()
    if kind is None:
        return said(N_("Report {number}"), number=number)
    return said(N_("{source} of report {number}"), source=said(SOURCES[kind]), number=number)


def field(name: str, said: Words) -> str:
    """A field of an identity, and by what the two that differ in it are tied."""
    tied = _TIED.fullmatch(name)
    if tied is None:
        return said(FIELDS.get(name, name))
    shares = ", ".join(said(SHARES.get(one, one)) for one in tied["shares"].split(", "))
    return f"{said(FIELDS.get(tied['field'], tied['field']))} ({shares})"


def check(name: str, said: Words) -> str:
    """What to check when a field differs."""
    head = name.partition(" (")[0]
    return said(CHECK_INS if head.lower().startswith("ins") else CHECKS.get(head, ""))


def fault(problem: Fault, said: Words) -> str:
    """A refusal in words; one without words of its own says code, sentence and hint as they are."""
    return said(FAULTS[problem.code]) if problem.code in FAULTS else str(problem)


def person(actor: str) -> str:
    """The name in ``role:name``."""
    return actor.partition(":")[2] or actor


ROLES: Final[Mapping[str, str]] = {
    "operator": N_("operator"),
    "security-officer": N_("security officer"),
    "identity-officer": N_("identity officer"),
    "radiologist": N_("radiologist"),
    "site-lead": N_("site lead"),
    "site-data-manager": N_("site data manager"),
    "lead-auditor": N_("lead auditor"),
    "auditor": N_("auditor"),
    "commission": N_("commission"),
    "secretariat": N_("secretariat"),
    "steering": N_("steering committee"),
    "service": N_("service (a machine)"),
}
"""Roles that an account may have, for people."""

ACCOUNT_STATES: Final[Mapping[str, str]] = {
    "invited": N_("invited"),
    "active": N_("active"),
    "locked": N_("locked"),
}
"""Where an account stands, for people."""

ACTS: Final[Mapping[str, str]] = {
    "keys.export": N_("put the key into a backup"),
    "exams.unpublish-all": N_("withdraw many exams in one reconciliation"),
    "case.re-identify": N_("re-identify cases of an audit"),
}
"""What takes two persons, for people."""

EMERGENCIES: Final[Mapping[str, str]] = {
    "patient-waiting": N_("a patient is waiting"),
    "no-identity-officer": N_("no identity officer can be reached"),
    "outage": N_("the usual way does not work"),
}
"""Why the glass is broken, for people."""
