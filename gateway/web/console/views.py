"""Values as templates show them: moments, ages, states and links. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, Literal
from urllib.parse import urlencode

from gateway.i18n import N_, Words
from gateway.web import details, vocabulary
from gateway.web.desk import OpenAlert, TenantFacts
from gateway.web.details import visible
from gateway.web.vocabulary import StateWord
from indexer.advice import Next, next_step
from indexer.exams import Counts, Line, Wanted
from indexer.exchanges.rows import Listed
from indexer.gate import folded
from indexer.release import HeldExam, Identity
from indexer.timeline import OVER, Exam, ExamState

UID: Final = r"[0-9.]{1,64}"
LINES: Final = 50
STEPS_MAX: Final = 200
_CODE_MAX: Final = 100
_YEARS: Final = range(1900, 2200)
_RETRYABLE: Final = frozenset({ExamState.WAITING, ExamState.HELD, ExamState.FAILED})
_BY_ANOTHER_MESSAGE: Final = frozenset({"not-for-index", "patient-opposed", "shadow-mode"})
_ABOUT_IDENTITY: Final = ("identity-", "accession-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in time. ``iso``: for machines; ``text``: in the tenant's zone; ``away``: how long ago, or until."""

    iso: str
    text: str
    away: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One exam in a list. ``compare``: the page of its two identities, "" when it is not about them."""

    tenant: str
    study: str
    state: str
    word: StateWord
    code: str
    reason: str
    missing: str
    changed: Moment
    next_try: Moment | None
    late: Moment | None
    url: str
    compare: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """How many exams are in one state ("" for all), and the link that shows them."""

    state: str
    word: StateWord | None
    number: int
    url: str
    current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step of the timeline. ``delta``: time since the step before it, "" for the first."""

    at: Moment
    what: str
    kind: str
    detail: str
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRow:
    """One exchange with the index. ``number``: 0, and ``url``: "", when its bytes are not kept."""

    number: int
    at: Moment
    transaction: str
    address: str
    took: str
    status: str
    outcome: str
    sizes: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One field of an identity, a value for each source, "" when it is silent."""

    label: str
    mark: Literal["same", "spelt", "differs"]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictView:
    """One conflict in words, with what would be accepted."""

    title: str
    field: str
    left_source: str
    left: str
    right_source: str
    right: str
    check: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseView:
    """A tenant whose sending a person stopped."""

    tenant: str
    title: str
    who: str
    since: Moment
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An open alert."""

    text: str
    since: Moment


def moment(at: datetime, now: datetime, zone: tzinfo, said: Words) -> Moment:
    """``at`` in words."""
    return Moment(
        iso=at.astimezone(UTC).isoformat(timespec="seconds"),
        text=said.moment(at, zone),
        away=said.span(max(1.0, abs((now - at).total_seconds()))),
    )


def of_session(tenants: Mapping[str, TenantFacts], tenant: str) -> Mapping[str, TenantFacts]:
    """The legal entities of a person. ``tenant``: the one they belong to, "" for all."""
    return {name: facts for name, facts in tenants.items() if tenant in {"", name}}


def row(line: Line, now: datetime, facts: TenantFacts | None, said: Words, prefix: str) -> Row:
    """One line of a list."""
    zone = facts.zone if facts else UTC
    unfinished = line.state not in OVER
    late = line.deadline if unfinished and line.deadline and line.deadline < now else None
    about_identity = line.state is ExamState.HELD and is_about_identity(line.reason)
    return Row(
        tenant=line.tenant,
        study=line.study,
        state=line.state.value,
        word=vocabulary.STATES[line.state.value],
        code=line.reason,
        reason=vocabulary.reason(line.reason, said),
        missing=said(line.missing),
        changed=moment(line.changed_at, now, zone, said),
        next_try=moment(line.next_try, now, zone, said) if line.next_try and unfinished else None,
        late=moment(late, now, zone, said) if late else None,
        url=f"{prefix}/exams/{line.tenant}/{line.study}",
        compare=f"{prefix}/held/{line.tenant}/{line.study}" if about_identity else "",
    )


def is_about_identity(reason: str) -> bool:
    """Whether a person decides on it by comparing two identities."""
    return reason.startswith(_ABOUT_IDENTITY)


def may_retry(exam: Exam) -> bool:
    """Whether trying again now means anything for this exam."""
    return exam.state in _RETRYABLE and exam.reason not in _BY_ANOTHER_MESSAGE


def tiles(counts: Counts, wanted: Wanted, prefix: str) -> list[Tile]:
    """All exams, then each state, in the order people look at them."""
    kept = {"tenant": wanted.tenant} if wanted.tenant else {}
    every = Tile(
        state="",
        word=None,
        number=sum(counts.by_state.values()),
        url=_url(prefix, kept),
        current=wanted.state is None,
    )
    return [
        every,
        *(
            Tile(
                state=state.value,
                word=vocabulary.STATES[state.value],
                number=counts.by_state.get(state, 0),
                url=_url(prefix, {**kept, "state": state.value}),
                current=wanted.state is state,
            )
            for state in map(ExamState, vocabulary.STATES)
        ),
    ]


def wanted_exams(query: Mapping[str, str], tenants: Mapping[str, TenantFacts]) -> tuple[Wanted, dict[str, str]]:
    """What the filters ask for, and by field what cannot be read, said later."""
    errors: dict[str, str] = {}
    stated = {key: value.strip() for key, value in query.items()}
    tenant = stated.get("tenant", "")
    if tenant and tenant not in tenants:
        errors["tenant"] = N_("No tenant has this name.")
    state = stated.get("state", "")
    if state and state not in set(ExamState):
        errors["state"] = N_("No state has this name.")
    study = stated.get("study", "")
    if study and not re.fullmatch(UID, study, re.ASCII):
        errors["study"] = N_("A StudyInstanceUID holds digits and dots only, 64 at most.")
    reason = stated.get("reason", "")
    if len(reason) > _CODE_MAX or not reason.isprintable():
        errors["reason"] = N_("No reason has this name.")
    zone = tenants[tenant].zone if tenant in tenants else next((facts.zone for facts in tenants.values()), UTC)
    days = {key: _day(key, stated.get(key, ""), zone, errors) for key in ("since", "until")}
    until = days["until"]
    if not errors and days["since"] and until and until < days["since"]:
        errors["until"] = N_("The last day lies before the first one.")
    if errors:
        return Wanted(limit=LINES), errors
    return (
        Wanted(
            tenant=tenant,
            state=ExamState(state) if state else None,
            reason=reason,
            study=study,
            since=days["since"],
            until=until + timedelta(days=1) if until else None,
            before=stated.get("before", ""),
            limit=LINES,
        ),
        {},
    )


def _day(key: str, text: str, zone: tzinfo, errors: dict[str, str]) -> datetime | None:
    """The beginning of a day in ``zone``."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.min
    if day.year not in _YEARS:
        errors[key] = N_("A date is written year-month-day, as in 2026-03-01.")
        return None
    return datetime.combine(day, time(), zone)


def reasons(counts: Counts, selected: str, said: Words) -> list[tuple[str, str]]:
    """The reasons to choose from: those that stop an exam now, and the one selected."""
    codes = {code for (_, code), number in counts.by_reason.items() if code and number} | ({selected} - {""})
    return sorted(((code, vocabulary.reason(code, said)) for code in codes), key=lambda one: one[1])


def steps(exam: Exam, now: datetime, zone: tzinfo, said: Words) -> list[StepRow]:
    """The newest steps first."""
    made: list[StepRow] = []
    before: datetime | None = None
    for one in exam.steps:
        made.append(
            StepRow(
                at=moment(one.at, now, zone, said),
                what=vocabulary.step(one.what, said),
                kind=one.what,
                detail=details.told(one, said),
                delta=_delta(before, one.at, said),
            )
        )
        before = one.at
    return made[::-1]


def exchanges(found: Sequence[Listed], now: datetime, zone: tzinfo, said: Words, prefix: str) -> list[ExchangeRow]:
    """The newest first. ``prefix``: the address of the exam."""
    return [
        ExchangeRow(
            number=one.number,
            at=moment(one.began_at, now, zone, said),
            transaction=one.transaction,
            address=visible(one.url),
            took=details.took(one.began_at, one.ended_at, said),
            status=f"HTTP {one.http_status}" if one.http_status else "",
            outcome=details.outcome(one.outcome, said),
            sizes=details.sizes(one.request_bytes, one.answer_bytes, said) if one.number else "",
            url=f"{prefix}/exchanges/{one.number}" if one.number else "",
        )
        for one in reversed(found)
    ]


def turn(found: Exam, facts: TenantFacts) -> Next:
    """Whose turn it is."""
    return next_step(found, is_paused=facts.paused is not None)


def _delta(before: datetime | None, at: datetime, said: Words) -> str:
    if before is None:
        return ""
    seconds = (at - before).total_seconds()
    return f"+ {said.span(seconds)}" if seconds >= 1 else "+ < 1 s"


def compared(held: HeldExam, said: Words) -> list[FieldRow]:
    """The identities side by side, field by field; a field nobody states is left out."""
    names = dict.fromkeys(name for source in held.sources for name in source.values)
    rows = ((name, tuple(_shown(name, source.values.get(name, "")) for source in held.sources)) for name in names)
    return [
        FieldRow(label=vocabulary.field(name, said), mark=_mark(values), values=values)
        for name, values in rows
        if any(values)
    ]


def _shown(name: str, value: str) -> str:
    """A birth date in the form people read without counting digits."""
    day = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", value, re.ASCII) if name == "birth date" else None
    return "-".join(day.groups()) if day else visible(value)


def _mark(values: Sequence[str]) -> Literal["same", "spelt", "differs"]:
    """How the sources that are not silent agree; the gate's own folding says what is only another spelling."""
    stated = {value for value in values if value}
    if len({folded(value) for value in stated}) > 1:
        return "differs"
    return "spelt" if len(stated) > 1 else "same"


def source_names(sources: Sequence[Identity], said: Words) -> list[str]:
    """The heads of the columns."""
    return [vocabulary.source(one.source, said) for one in sources]


def conflicts(held: HeldExam, said: Words) -> list[ConflictView]:
    """Each conflict that holds, in words."""
    return [
        ConflictView(
            title=vocabulary.reason(one.code, said),
            field=vocabulary.field(one.field, said),
            left_source=vocabulary.source(one.left_source, said),
            left=_shown(one.field, one.left),
            right_source=vocabulary.source(one.right_source, said),
            right=_shown(one.field, one.right),
            check=vocabulary.check(one.field, said),
        )
        for one in held.conflicts
    ]


def pauses(tenants: Mapping[str, TenantFacts], now: datetime, said: Words) -> list[PauseView]:
    """The tenants that are paused."""
    return [
        PauseView(
            tenant=name,
            title=facts.title,
            who=visible(vocabulary.person(facts.paused.actor)),
            since=moment(facts.paused.at, now, facts.zone, said),
            reason=visible(facts.paused.reason),
        )
        for name, facts in tenants.items()
        if facts.paused
    ]


def alerts(
    opened: Sequence[OpenAlert], tenants: Mapping[str, TenantFacts], now: datetime, said: Words
) -> list[AlertView]:
    """The open alerts, the oldest first."""
    return [
        AlertView(
            text=one.text,
            since=moment(one.opened_at, now, tenants[one.tenant].zone if one.tenant in tenants else UTC, said),
        )
        for one in sorted(opened, key=lambda one: one.opened_at)
    ]


def query_of(query: Mapping[str, str], *, before: str = "") -> str:
    """The filters as a query. ``before``: cursor of the page."""
    names = ("tenant", "state", "reason", "study", "since", "until")
    kept = {name: query[name] for name in names if query.get(name)}
    return urlencode({**kept, "before": before} if before else kept)


def _url(prefix: str, query: Mapping[str, str]) -> str:
    return f"{prefix}/?{urlencode(query)}" if query else f"{prefix}/"
