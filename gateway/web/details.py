"""What a timeline, an exchange and the next step say, in the reader's language.

The floors below write one plain English sentence beside a code. A sentence that stands below is said in French as it
is; one with values in it is recognised by its template, its values put into the French one. A sentence of a version
before, or of nobody, is shown as it was written.
"""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from typing import Final

from gateway.i18n import N_, Words
from gateway.web import vocabulary
from indexer.advice import Next, What
from indexer.questions import Answered
from indexer.timeline import Step

TEMPLATES: Final = (
    N_("version {version}"),
    N_("version {version} is {status} in the index"),
    N_("version {version} is {status}"),
    N_("version {version}: {series} series, {instances} instances"),
    N_("version {version}: {series} series, {instances} instances, replaces the approved entry"),
    N_("version {version} has this content, as the index showed it last"),
    N_("the index does not show version {version} any more"),
    N_("of version {version}, approved in the index"),
    N_("report {report} is held"),
    N_("report {report} is contradicted by the PACS about study {study}: {code}"),
    N_("report {report} is no longer contradicted"),
    N_("the PACS contradicts report {report} about study {study}"),
    N_("sent {sends} times, and no query ever showed it"),
    N_("asked {sends} times, and still approved"),
    N_("the index accepted it but does not show it; the same bytes go again"),
    N_("the index may have accepted it but does not show it; the same bytes go again"),
    N_("{pacs} took in images"),
    N_("by {who}: {why}"),
    N_("ORC-1 {control} by message {message}"),
    N_("report {report} by message {message}"),
    N_("report {report} by {document}"),
    N_("version {version} was withdrawn at the index"),
    N_("asked by {who}: an invented exam of the test patient, not for care"),
    N_("report {report} by message {message}; replaces {document}"),
    N_("by message {message}"),
    N_("more than {n} bytes of answer"),
    N_("SOAP Fault {fault} under HTTP {status}"),
    N_("HTTP {status} without a SOAP message: address, certificate or route, not the exam"),
)
"""Sentences of the floors below that hold values."""

SENTENCES: Final = (
    N_("the database was restored, and the index did not tell what it holds of the study"),
    N_("the index shows a forgotten entry, and the PACS does not tell what of"),
    N_("the index shows nothing of ours"),
    N_("nothing is asked of the index"),
    N_("prepared before the tenant went to shadow mode"),
    N_("no stored bytes for this job"),
    N_("the index is not asked"),
    N_("the index still shows it"),
    N_("the entry has another entryUUID than the one the request names"),
    N_("the index still shows it; the same bytes go again"),
    N_("the index does not show it yet"),
    N_("an earlier version may still appear in the index"),
    N_("the index does not show an entry it showed before"),
    N_("nobody waited for its end"),
    N_("the patient opposed before the report came"),
    N_("the answer does not relate to our MessageID"),
)
"""Sentences of the floors below without values, beside those of ``indexer.decision``."""

_FORMS: Final = dict.fromkeys(("version", "series", "instances", "sends", "n"), "[0-9]+") | {"status": r"\w+"}
_NAME = re.compile(r"\\\{(\w+)\\\}")


def _matcher(template: str) -> re.Pattern[str]:
    return re.compile(_NAME.sub(lambda name: f"(?P<{name[1]}>{_FORMS.get(name[1], '.+?')})", re.escape(template)))


_MASKED = r"∅|\w?…\([0-9]+\)"
_CONFLICT: Final = re.compile(
    rf"(?P<field>[\w ]+(?: \(same [a-z, -]+\))?): (?P<left_source>.+?) (?P<left>{_MASKED}),"
    rf" (?P<right_source>.+?) (?P<right>{_MASKED})"
)
"""One conflict as ``indexer.gate`` names it, its values masked."""

_MATCHERS: Final = tuple((template, _matcher(template)) for template in TEMPLATES)

OUTCOMES: Final = {
    "": N_("no answer yet"),
    "accepted": N_("accepted"),
    "found": N_("found"),
    "absent": N_("not found"),
    "ambiguous": N_("no clear answer"),
    "crashed": N_("the gateway stopped meanwhile"),
    "prepared": N_("answered"),
    "unneeded": N_("answered"),
    "not-yet": N_("answered"),
    "held": N_("answered"),
    "poison": N_("stopped its worker several times"),
    "timeout": N_("the index answers too late"),
    "connect-timeout": N_("the index does not answer"),
    "connection-lost": N_("connection to the index lost"),
    "no-connection": N_("no connection to the index"),
    "name-not-found": N_("name of the index unknown to the DNS"),
    "tls-refused": N_("TLS refused between the index and us"),
    "answer-too-large": N_("answer of the index too large"),
    "cancelled": N_("given up"),
    "transient": N_("the index asks to come back later"),
    "refused": N_("refused"),
}
"""What came of an exchange, beside the reasons of exams."""

NEXT: Final = {
    What.SHOWN: N_("Nothing to do: the index shows the exam."),
    What.OUT: N_("Nothing to do: the exam is out of the index."),
    What.LIVE: N_("Nothing to do: the exam is sent once this legal entity goes live."),
    What.RESUME: N_("Somebody must resume this legal entity: console, page Exams, or poterne queue resume."),
    What.ASK_PACS: N_("Nothing to do: Poterne asks the PACS again {when}."),
    What.ASK_INDEX: N_("Nothing to do: Poterne asks the index {when} whether it shows the exam."),
    What.SEND_AGAIN: N_("Nothing to do: Poterne asks the index again {when}."),
    What.GO_ON: N_("Nothing to do: Poterne goes on by itself {when}."),
    What.MEND: N_("Somebody must act: {advice}. Next try {when}."),
    What.COMPARE: N_("The sources differ about the patient (console, page Held): {advice}."),
    What.DECIDE: N_("Somebody must act: {advice}."),
    What.MESSAGE: N_("The source must correct and send again: {advice}."),
    What.CONSENT: N_("Nothing to do here: {advice}."),
}
"""One sentence for each kind of next step. ``{when}``: at a time, or now."""


def told(step: Step, said: Words) -> str:
    """The detail of a step: its reason in words, then its sentence."""
    if step.answered is not None:
        return _answered(step.answered, said)
    named = vocabulary.reason(step.reason, said) if step.reason and step.reason != step.what else ""
    detail = sentence(visible(step.detail), said)
    return said(N_("{reason}: {detail}"), reason=named, detail=detail) if named and detail else named or detail


def visible(text: str) -> str:
    """A text from outside, a character that nobody sees by its number: two values that differ by it alone must not
    look the same, nor one stand in another order than it is written (T31)."""
    return "".join(one if one.isprintable() else f"‹U+{ord(one):04X}›" for one in text)


def sentence(text: str, said: Words) -> str:
    """A sentence of the floors below."""
    whole = said(text)
    if not text or whole != text:
        return whole
    for template, matcher in _MATCHERS:
        found = matcher.fullmatch(text)
        if found is not None:
            return said(template, **{name: _value(name, value, said) for name, value in found.groupdict().items()})
    conflicts = [_CONFLICT.fullmatch(part) for part in text.split("; ")]
    return "; ".join(_conflict(one, said) for one in conflicts if one) if all(conflicts) else text


def _conflict(found: re.Match[str], said: Words) -> str:
    return said(
        N_("{field}: {left_source} {left}, {right_source} {right}"),
        field=vocabulary.field(found["field"], said),
        left_source=vocabulary.source(found["left_source"], said),
        left=found["left"],
        right_source=vocabulary.source(found["right_source"], said),
        right=found["right"],
    )


def _value(name: str, value: str, said: Words) -> str:
    if name == "who":
        return vocabulary.person(value)
    return vocabulary.reason(value, said) if name == "code" else sentence(value, said) if name == "why" else value


def _answered(one: Answered, said: Words) -> str:
    """What a PACS answered, how often and how fast."""
    match one.kind:
        case "found":
            what = said(
                N_("{pacs} holds {series} series, {instances} images"),
                pacs=one.pacs,
                series=said.number(one.series),
                instances=said.number(one.instances),
            )
        case "absent":
            what = said(N_("{pacs} does not have the study"), pacs=one.pacs)
        case _:
            reason = vocabulary.reason(f"pacs-{one.reason}", said)
            what = said(N_("{pacs} gave no clean answer: {reason}"), pacs=one.pacs, reason=reason)
    took = said(N_("{seconds} s"), seconds=said.number(round(one.seconds, 3)))
    if one.times == 1:
        return f"{what} ({took})"
    times = said.count("asked {n} time", "asked {n} times", one.times)
    return f"{what} ({took}; {times})"


def outcome(code: str, said: Words) -> str:
    """What came of an exchange, in words."""
    return said(OUTCOMES[code]) if code in OUTCOMES else vocabulary.reason(code, said)


def took(began: datetime, ended: datetime | None, said: Words) -> str:
    """How long an exchange took, "" while it is open."""
    if ended is None:
        return ""
    return said(N_("{seconds} s"), seconds=said.number(round((ended - began).total_seconds(), 3)))


def sizes(request: int, answer: int, said: Words) -> str:
    """Bytes asked and answered."""
    return said(N_("{request} → {answer} bytes"), request=said.number(request), answer=said.number(answer))


def next_step(step: Next, said: Words, zone: tzinfo) -> str:
    """The next step in one sentence."""
    when = said(N_("at {moment}"), moment=said.moment(step.at, zone)) if step.at else said(N_("now"))
    return said(NEXT[step.what], when=when, advice=said(step.advice))
