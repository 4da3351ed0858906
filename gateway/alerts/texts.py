"""What alerts say, in the words of one language: for a mail, a program or the console. No patient, no study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from gateway.alerts.conditions import Condition, Kind, Occasion
from gateway.alerts.rows import Notice
from gateway.i18n import N_, Words
from indexer import timeline

_LATE_REASONS_MAX = 5

_OCCASIONS = {
    Occasion.OPENED: N_("new"),
    Occasion.WORSE: N_("worse"),
    Occasion.STILL: N_("still so"),
    Occasion.CLOSED: N_("over"),
}

_ADVICE = {
    Kind.LATE: N_("Look at what they wait for: poterne queue."),
    Kind.AT_RISK: N_(
        "The index takes less than arrives, or is away. poterne queue tells how long the backlog takes; tell the"
        " index's operator."
    ),
    Kind.PAUSED: N_("If the work that asked for the pause is over, resume: poterne resume."),
    Kind.CLOCK: N_("Compare this machine's time service (chronyc tracking, timedatectl) with the index's."),
    Kind.CLOCK_STEPPED: N_("Look at this machine's time service; leases and time limits are not affected."),
    Kind.CERTIFICATE: N_("Install the renewed certificate and its key, then run: poterne check."),
    Kind.PACS_RESET: N_(
        "Its database was restored or replaced: make sure that it still holds its studies. Nothing was withdrawn."
    ),
    Kind.PACS_CHANGED: N_("Compare with the last record: poterne pacs probe."),
    Kind.MASS_WITHDRAWAL: N_(
        "Nothing was withdrawn. Look at the list, poterne reconcile, and at the PACS; if the list is right, run it"
        " again with --withdraw-up-to."
    ),
    Kind.BREAK_GLASS: N_("Ask the person named in the audit trail, and check that it was an emergency."),
    Kind.INBOX: N_("See which ones: poterne pacs inbox. Nothing is deleted before the PACS shows it."),
    Kind.TRUST: N_("Look at it: poterne certs show, poterne certs whitelist show (docs/certificates.md)."),
    Kind.AUDIT: N_("Keep a copy of the database as it is, then look: poterne audit verify."),
    Kind.FEED: N_(
        "Nothing is lost: the trail keeps it and sends it later. Look at the repository and its certificate."
    ),
    Kind.EXPOSED: N_("Make a backup now: poterne backup FILE. Look at the task that makes it every night."),
}


def headline(condition: Condition, words: Words) -> str:
    """One line: what is wrong, how much of it."""
    return _HEADLINES[condition.kind](condition, words)


def _disk(condition: Condition, words: Words) -> str:
    if condition.stage > 1:
        return words("the disk of the database is full: no report is taken in, publication goes on")
    return words(
        "little room on the disk of the database: {mebibytes} MiB free before the reserve",
        mebibytes=words.number(max(condition.measure, 0) // 1024**2),
    )


def _certificate(condition: Condition, words: Words) -> str:
    if condition.measure < 0:
        return words("a certificate has expired: {key}", key=condition.subject)
    return words.count(
        "a certificate expires in {n} day: {key}",
        "a certificate expires in {n} days: {key}",
        condition.measure,
        key=condition.subject,
    )


def _inbox(condition: Condition, words: Words) -> str:
    number = condition.measure
    match condition.subject:
        case "quarantined":
            return words.count(
                "{n} received object is in quarantine", "{n} received objects are in quarantine", number
            )
        case "lost":
            return words.count(
                "the file of {n} received object is gone", "the files of {n} received objects are gone", number
            )
        case _:
            return words.count(
                "{n} received object is not shown by the PACS",
                "{n} received objects are not shown by the PACS",
                number,
            )


_HEADLINES: dict[Kind, Callable[[Condition, Words], str]] = {
    Kind.HELD: lambda c, words: words.count(
        "{n} exam is held: {reason}", "{n} exams are held: {reason}", c.measure, reason=c.subject
    ),
    Kind.FAILED: lambda c, words: words.count(
        "{n} exam failed: {reason}", "{n} exams failed: {reason}", c.measure, reason=c.subject
    ),
    Kind.AT_RISK: lambda c, words: words.count(
        "{n} exam will be late as things are", "{n} exams will be late as things are", c.measure
    ),
    Kind.LATE: lambda c, words: words.count("{n} exam is late", "{n} exams are late", c.measure),
    Kind.PAUSED: lambda c, words: words("publication has been paused for {span}", span=words.span(c.measure)),
    Kind.DISK: _disk,
    Kind.CLOCK: lambda c, words: words(
        "our clock is off by {seconds} s from the index's", seconds=words.number(c.measure / 1000)
    ),
    Kind.CLOCK_STEPPED: lambda _, words: words("the clock of this machine was set back"),
    Kind.CERTIFICATE: _certificate,
    Kind.PACS_RESET: lambda c, words: words("the change log of the PACS {pacs} began again", pacs=c.subject),
    Kind.PACS_CHANGED: lambda c, words: words("the PACS {pacs} no longer answers as it did", pacs=c.subject),
    Kind.MASS_WITHDRAWAL: lambda _, words: words(
        "the reconciliation stopped: it would have withdrawn more exams than one run may"
    ),
    Kind.FEED: lambda c, words: words.count(
        "the audit repository {name} has lacked records for {n} minute",
        "the audit repository {name} has lacked records for {n} minutes",
        c.measure // 60,
        name=c.subject,
    ),
    Kind.AUDIT: lambda c, words: words("the audit trail is not as it was written: {kind}", kind=c.subject),
    Kind.BREAK_GLASS: lambda c, words: words(
        "{account} broke the glass: for some hours they may do what their role does not", account=c.subject
    ),
    Kind.INBOX: _inbox,
    Kind.TRUST: lambda c, words: words("trust is not up to date: {subject}", subject=c.subject),
    Kind.EXPOSED: lambda c, words: (
        words(
            "the work of {span} would be lost with this machine: more than the declared RPO",
            span=words.span(c.measure),
        )
        if c.stage > 1
        else words(
            "the work of {span} would be lost with this machine: half of the declared RPO is used up",
            span=words.span(c.measure),
        )
    ),
}


def advice(condition: Condition, words: Words) -> str:
    """What to do, "" when there is nothing to say beyond the headline."""
    match condition.kind:
        case Kind.HELD | Kind.FAILED:
            return words(timeline.missing(condition.subject))
        case Kind.DISK if condition.stage > 1:
            return words(
                "Free space on the file system of the database. Senders were told to send again later; intake resumes"
                " by itself."
            )
        case Kind.DISK:
            return words("Free space on the file system of the database, or enlarge it.")
        case Kind.INBOX if condition.subject == "lost":
            return words(
                "Check the disk of received objects, and let their senders send them again: poterne pacs inbox names"
                " the studies."
            )
        case Kind.LATE:
            reasons = sorted(condition.why.items(), key=lambda item: (-item[1], item[0]))[:_LATE_REASONS_MAX]
            causes = ", ".join(f"{reason or '-'} × {exams}" for reason, exams in reasons)
            return f"{causes}. {words(_ADVICE[Kind.LATE])}"
        case kind:
            return words(_ADVICE[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """How one site tells of its alerts. ``zones``: time zone by tenant; ``console_url``: "" for no link."""

    words: Words
    zones: dict[str, tzinfo]
    default_zone: tzinfo
    console_url: str

    def subject(self, notices: Sequence[Notice]) -> str:
        """One line for all of them."""
        open_ = [notice for notice in notices if notice.occasion is not Occasion.CLOSED]
        first = (open_ or notices)[0]
        said = headline(first.known.condition, self.words)
        if not open_:
            said = self.words("over: {headline}", headline=said)
        rest = len(notices) - 1
        return f"Poterne: {said}" + (f" (+{rest})" if rest else "")

    def body(self, notices: Sequence[Notice]) -> str:
        """The text of a mail."""
        blocks = [self._block(notice) for notice in notices]
        blocks.append(
            self.words("Details, with the rights to see them: {url}", url=self.console_url)
            if self.console_url
            else self.words("Details, on the machine of the gateway: poterne queue, poterne doctor")
        )
        return "\n\n".join(blocks) + "\n"

    def document(self, notices: Sequence[Notice]) -> dict[str, Any]:
        """The same for a program: codes and numbers beside the text."""
        return {
            "subject": self.subject(notices),
            "console": self.console_url,
            "alerts": [
                {
                    "id": notice.known.alert_id,
                    "occasion": notice.occasion.value,
                    "tenant": notice.known.condition.tenant,
                    "kind": notice.known.condition.kind.value,
                    "subject": notice.known.condition.subject,
                    "measure": notice.known.condition.measure,
                    "reasons": dict(notice.known.condition.why),
                    "opened_at": notice.known.opened_at.isoformat(),
                    "closed_at": notice.known.closed_at.isoformat() if notice.known.closed_at else None,
                    "text": headline(notice.known.condition, self.words),
                    "advice": advice(notice.known.condition, self.words),
                }
                for notice in notices
            ],
        }

    def _block(self, notice: Notice) -> str:
        condition, known = notice.known.condition, notice.known
        where = f"[{condition.tenant}] " if condition.tenant else ""
        lines = [
            f"* {where}{headline(condition, self.words)} ({self.words(_OCCASIONS[notice.occasion])})",
            self._when(known.opened_at, known.closed_at, condition.tenant),
        ]
        if notice.occasion is not Occasion.CLOSED:
            lines.append(advice(condition, self.words))
        return "\n  ".join(line for line in lines if line)

    def _when(self, opened_at: datetime, closed_at: datetime | None, tenant: str) -> str:
        zone = self.zones.get(tenant, self.default_zone)
        since = self.words.moment(opened_at, zone)
        if closed_at is None:
            return self.words("since {moment}", moment=since)
        return self.words("from {begin} to {end}", begin=since, end=self.words.moment(closed_at, zone))
