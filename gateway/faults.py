"""Faults as a person at a terminal reads them: in their language, with what to do; below it what exactly failed.

A code without words of its own says sentence and hint as they are, in English.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.i18n import N_, Words
from security.errors import Fault

FAULTS: Final[Mapping[str, str]] = {
    "E_TOKEN": N_("A cell of the frame is no token: 1 to 64 of A-Z a-z 0-9 . _ -"),
    "E_EMPTY_FRAME": N_("The frame is empty: there is nothing to draw."),
    "E_DUPLICATE_UNIT": N_("A unit stands twice in the frame: remove one of its rows before anything is committed."),
    "E_N_GT_STRATUM": N_("More cases are asked for than a stratum holds: freeze a protocol that asks for fewer."),
    "E_COMMIT_MISMATCH": N_("A party revealed something else than it had committed to: the draw is void."),
    "E_BEACON": N_("The public randomness contradicts itself: take the round again, from two sources."),
    "E_CANONICAL": N_("This JSON has no form that can be hashed: no fractions, and names in ASCII."),
    "E_PROTOCOL": N_("The protocol is incomplete or contradicts itself: correct it before it is frozen."),
    "E_CONTRIBUTION": N_("The auditor and the site, and at will the commission, each give 32 bytes in hexadecimal."),
    "E_REPLACEMENT": N_("This replacement does not fit the draw."),
    "E_REASON": N_("Only the closed list of reasons lets a case be replaced."),
    "E_NO_RESERVE": N_("No unit of the stratum is left: the case stays without replacement."),
    "E_SIGNATURE": N_("A replacement needs the signatures of two of the protocol's signers."),
    "E_CHAIN": N_("This draw does not follow the one before: the next number, over the same frame."),
    "E_VOID": N_("A voided draw names the party that stopped it and a reason of the list."),
    "E_TIMES": N_("The times are not UTC moments in their order."),
    "frame-table": N_("FRAME.csv is no table of units: its first line is unit,stratum,practitioner."),
    "frame-small": N_("The whole frame is too small: so few exams would point at persons; widen the period."),
    "frame-protocol": N_("A rule of a stratum in the protocol is none."),
    "frame-period": N_("The last day is before the first."),
    "frame-unknown": N_("The campaign has no frame of this root: see the transcript."),
    "campaign-unknown": N_("This campaign has no keys here: build its frame; or they were destroyed."),
    "draw-text": N_("The list of objections is not UTF-8 text, one identifier a line."),
    "draw-file": N_("A file cannot be read or written."),
    "draw-key": N_("This is no Ed25519 private key."),
    "draw-out": N_("The transcript would replace a file that is read: give it another name."),
    "account-exists": N_("There is an account of this name already."),
    "account-name": N_("This is no name of an account: 2 to 40 lower-case letters, digits, '.', '-', '_'."),
    "account-person": N_("This is no name of a person: 2 to 80 characters on one line."),
    "account-profession": N_("An auditor needs a profession: --profession."),
    "account-roles": N_("One of these roles does not exist, or none was given; a service has no other role."),
    "bootstrap-not-needed": N_(
        "A security officer can sign in already: they add accounts; who lost a proof gets a new code by"
        " poterne accounts reset."
    ),
    "certificate-taken": N_("This certificate stands, or stood, for an account: make a new key and certificate."),
    "consent-missing": N_("The second person has not agreed yet."),
    "dependency-floor": N_("A library is older than what is safe: install the release with its own lock file."),
    "attack-elsewhere": N_("Attacks go to this site alone: this is neither this machine nor one of its listeners."),
    "attack-no-door": N_("No listener is configured: there is nothing to attack."),
    "kek-in-use": N_("Stored keys still need the old key: finish the rotation first, poterne certs keys rotate."),
    "kek-place": N_("The key file cannot be replaced there: see whether the service may write in its folder."),
    "kek-previous-kept": N_(
        "The last rotation is complete, its old key is still kept: copy it away, then poterne certs keys forget."
    ),
    "no-previous-kek": N_("No old key is kept: there is nothing to remove."),
    "seal-no-key": N_("There is no key of this name: poterne certs keys show."),
    "secret-default": N_("A key is no random one: make another with poterne init, and replace it."),
    "tenant-configured": N_(
        "This legal entity is configured, its keys are in use: take its section out first, then restart."
    ),
    "last-security-officer": N_("This is the last security officer: make another one first."),
    "no-issuer": N_(
        "No authority of this site is configured: bind a certificate of another authority with --certificate."
    ),
    "two-persons": N_(
        "Two persons must agree on this first, on the console, page Two persons; then give its number with --consent."
    ),
    "unknown-account": N_("No account has this name: poterne accounts list."),
    "unknown-consent": N_("No such agreement is open: it is good for an hour, and once."),
    "already-paused": N_("Paused already: poterne queue says since when, by whom and why."),
    "bad-uid": N_("This is no StudyInstanceUID: digits and dots, at most 64 characters, no part begins with 0."),
    "control-cut": N_(
        "The gateway ended while it was asked. Look at its log, then ask again: nothing is done twice."
    ),
    "control-not-understood": N_(
        "The running gateway does not know this order: it is another version. Restart the service."
    ),
    "door-unavailable": N_("A door cannot be opened: stop what listens there, or choose another address."),
    "interface-unknown": N_("There is no network interface of this name here: correct the setting interface."),
    "interface-denied": N_(
        "The kernel does not let the service bind to a network interface: give it CAP_NET_RAW (systemd:"
        " AmbientCapabilities=CAP_NET_RAW), or take interface out and load the rules of poterne flows --rules."
    ),
    "no-trial-patient": N_(
        "No test patient: describe the one the index gave for tests in the section [tenants.….trial], then restart."
    ),
    "not-paused": N_("Not paused: there is nothing to resume."),
    "not-retriable": N_("Trying again cannot help: something else must come first."),
    "not-running": N_("The gateway is not running. Start it: poterne serve."),
    "nothing-to-retry": N_(
        "This exam is not under way: there is nothing to try again. poterne exam says where it is."
    ),
    "reason-names-patient": N_("The reason quotes the patient: say it without names, dates and numbers of theirs."),
    "reason-too-long": N_("The reason is too long: 500 characters at most, on one line."),
    "reason-too-short": N_("The reason is too short: at least 10 characters, for those who read it later."),
    "store-credentials": N_("The database refuses user or password: see [store.postgres]."),
    "store-locked": N_("Another process writes in this database: stop it, or let it do this work."),
    "store-unreachable": N_("The database server does not answer: see [store.postgres], then the server."),
    "trial-patient": N_("The test patient breaks an identity rule: correct the section [tenants.….trial]."),
    "trial-real-patient": N_(
        "The test patient has a real matricule: only the one that the index gave for tests is used."
    ),
    "trial-shadow-mode": N_(
        "In shadow mode nothing is sent. With --send the trial exam of the test patient really goes to the index."
    ),
    "unknown-trial": N_("This is no trial exam: only one that poterne selftest made is withdrawn this way."),
    "wrong-job-state": N_("This exam is being worked on at this moment: ask again in a few seconds."),
}


def told(fault: Fault, words: Words) -> str:
    """What a person reads on standard error."""
    if fault.code not in FAULTS:
        return str(fault)
    return f"{words(FAULTS[fault.code])} [{fault.code}]\n  {fault.args[0]}"
