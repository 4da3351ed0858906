"""A desk that holds frozen values, and a running console over it: what the pages do with what the house says.

What the house itself says is the matter of the tests of ``indexer.exams``, ``indexer.release`` and the operations.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.providers.signin import RelyingParty
from gateway.reception import Reception
from gateway.telemetry import Metrics, Snapshot
from gateway.web.console import mount_console
from gateway.web.desk import Desk, OpenAlert, TenantFacts
from gateway.web.health import build_ops_app
from indexer.exams import Counts, Line, Page, Wanted
from indexer.exchanges.reveal import Masked, mask
from indexer.exchanges.rows import Listed, Opened
from indexer.gate import Conflict
from indexer.release import REASON_MIN, WHY_NOT, HeldExam, Identity
from indexer.timeline import Exam, ExamState, Step, missing
from security.accounts import ACCOUNTS
from security.accounts.password import Passwords
from security.clock import Clock
from security.errors import BadInput, Refused
from security.outbox.jobs import Pause
from security.policy import Refusal
from security.store.opening import open_store
from security.store.port import GROUND
from tests.support.people import People, Someone, people

PERSON = "jeanne.martin"

PARIS = ZoneInfo("Europe/Paris")
ROOT = "1.2.250.1.213.4.5.9.2"
HELD = f"{ROOT}.4000000000000000000000000000000001"
STRANGE = '<img src=x onerror="document.title=1">'


@dataclass
class ShelfDesk:
    """The desk. ``asked``: every call that an audit trail would show, in order."""

    clock: Clock
    facts: dict[str, TenantFacts] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    exams: dict[tuple[str, str], Exam] = field(default_factory=dict)
    identities: dict[tuple[str, str], HeldExam] = field(default_factory=dict)
    said: dict[tuple[str, str, int], Opened] = field(default_factory=dict)
    open_alerts: list[OpenAlert] = field(default_factory=list)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    fails: Exception | None = None

    async def tenants(self) -> dict[str, TenantFacts]:
        if self.fails:
            raise self.fails
        return dict(self.facts)

    async def counts(self, tenant: str) -> Counts:
        lines = [line for line in self.lines if tenant in {"", line.tenant}]
        by_state = {state: sum(line.state is state for line in lines) for state in ExamState}
        stopped = [(line.state, line.reason) for line in lines if line.reason]
        return Counts(by_state=by_state, by_reason={key: stopped.count(key) for key in stopped})

    async def page(self, wanted: Wanted) -> Page:
        start = int(wanted.before or 0)
        found = [line for line in self.lines if _fits(line, wanted)]
        shown = tuple(found[start : start + wanted.limit])
        return Page(lines=shown, next=str(start + wanted.limit) if len(found) > start + wanted.limit else "")

    async def exam(self, tenant: str, study: str) -> Exam | None:
        return self.exams.get((tenant, study))

    async def exchanges(self, tenant: str, study: str) -> Sequence[Listed]:
        return [one.listed for (of, about, _), one in self.said.items() if (of, about) == (tenant, study)]

    async def exchange(self, tenant: str, study: str, number: int) -> Masked | None:
        found = self.said.get((tenant, study, number))
        return mask(found) if found else None

    async def reveal(
        self, tenant: str, study: str, *, actor: str, numbers: Sequence[int] | None, has_right: bool
    ) -> Sequence[Opened]:
        if not has_right:
            raise Refused("not for you", code="reveal-not-allowed", hint="ask for the right")
        self.asked.append(("revealed", tenant, study, actor))
        return [self.said[tenant, study, n] for n in numbers or () if (tenant, study, n) in self.said]

    async def held(self, tenant: str, study: str, *, actor: str, by_glass: bool = False) -> HeldExam | None:
        self.asked.append(("shown in an emergency" if by_glass else "shown", tenant, study, actor))
        return self.identities.get((tenant, study))

    async def release(self, tenant: str, study: str, *, actor: str, reason: str, seen: str) -> None:
        held = self.identities.get((tenant, study))
        _check(reason)
        if held is None or held.seen != seen:
            raise Refused("the exam changed", code="changed-meanwhile", hint="look again")
        if not held.releasable:
            raise Refused("nobody may accept this", code="not-releasable", hint="correct the source")
        self.asked.append(("released", tenant, study, actor, reason))
        del self.identities[tenant, study]
        self._set(tenant, study, ExamState.WAITING, "")

    async def retry(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        _check(reason)
        if self.exams[tenant, study].reason == "not-for-index":
            raise Refused("the report forbids it", code="not-retriable", hint="replace the report")
        self.asked.append(("retried", tenant, study, actor, reason))
        self._set(tenant, study, ExamState.WAITING, "")

    async def withdraw(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        _check(reason)
        if self.exams[tenant, study].reason == "kept-out":
            raise Refused("it is out already", code="already-out", hint="its timeline says who")
        self.asked.append(("withdrawn", tenant, study, actor, reason))
        self._set(tenant, study, ExamState.HELD, "kept-out")

    async def republish(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        _check(reason)
        self.asked.append(("republished", tenant, study, actor, reason))
        self._set(tenant, study, ExamState.WAITING, "")

    async def pause(self, tenant: str, *, actor: str, reason: str) -> None:
        self.asked.append(("paused", tenant, actor, reason))
        pause = Pause(tenant=tenant, at=self.clock.now(), actor=actor, reason=reason)
        self.facts[tenant] = replace(self.facts[tenant], paused=pause)

    async def resume(self, tenant: str, *, actor: str) -> None:
        self.asked.append(("resumed", tenant, actor))
        self.facts[tenant] = replace(self.facts[tenant], paused=None)

    async def alerts(self, lang: str) -> Sequence[OpenAlert]:
        return list(self.open_alerts)

    def put(self, tenant: str, study: str, state: ExamState, reason: str = "", **more: object) -> None:
        """One exam, changed ``minutes`` ago."""
        minutes = int(str(more.pop("minutes", 3)))
        at = self.clock.now() - timedelta(minutes=minutes)
        due = self.clock.now() + timedelta(seconds=90) if state is ExamState.WAITING and reason else None
        line = Line(
            tenant=tenant,
            study=study,
            state=state,
            reason=reason,
            missing=missing(reason),
            changed_at=at,
            next_try=due,
            deadline=at - timedelta(minutes=1) if more.get("late") else None,
        )
        self.lines = sorted([*self.lines, line], key=lambda one: one.changed_at, reverse=True)
        self.exams[tenant, study] = Exam(
            study=study,
            state=state,
            reason=reason,
            missing=missing(reason),
            next_try=due,
            attempts=1 if state in {ExamState.INDEXED, ExamState.ACCEPTED, ExamState.SENDING} else 0,
            seconds_to_index=42.5 if state is ExamState.INDEXED else None,
            steps=tuple(_steps(state, reason, at)),
        )

    def _set(self, tenant: str, study: str, state: ExamState, reason: str) -> None:
        self.lines = [line for line in self.lines if (line.tenant, line.study) != (tenant, study)]
        self.put(tenant, study, state, reason, minutes=0)


def _check(reason: str) -> None:
    if len(reason) < REASON_MIN:
        raise BadInput("the reason says too little", code="reason-too-short", hint="say more")
    if "FANTOME" in reason:
        raise BadInput("the reason quotes the patient", code="reason-names-patient", hint="say it without")


def _fits(line: Line, wanted: Wanted) -> bool:
    return (
        wanted.tenant in {"", line.tenant}
        and wanted.state in {None, line.state}
        and wanted.reason in {"", line.reason}
        and wanted.study in {"", line.study}
        and (wanted.since is None or line.changed_at >= wanted.since)
        and (wanted.until is None or line.changed_at < wanted.until)
    )


def _steps(state: ExamState, reason: str, at: datetime) -> list[Step]:
    steps = [
        Step(at=at - timedelta(seconds=42), what="report-received", detail="by message MSG-1; document 1.2.3"),
        Step(at=at - timedelta(seconds=41), what="settling", detail=""),
    ]
    if state in {ExamState.INDEXED, ExamState.ACCEPTED, ExamState.SENDING}:
        steps += [
            Step(at=at - timedelta(seconds=9), what="manifest-built", detail="version 1: 2 series, 412 instances"),
            Step(at=at - timedelta(seconds=9), what="ready", detail="version 1"),
            Step(at=at - timedelta(seconds=8), what="sent", detail=""),
        ]
    ends = {
        ExamState.HELD: "blocked",
        ExamState.FAILED: "dead",
        ExamState.ACCEPTED: "accepted",
        ExamState.INDEXED: "published",
        ExamState.WAITING: "settling",
    }
    if state in ends:
        steps.append(Step(at=at, what=ends[state], detail=reason))
    return steps


def identities(study: str = HELD, *, releasable: bool = True) -> HeldExam:
    """A held exam of the FANTÔME family: the PACS has another first given name and another birth date."""
    stated = {
        "birth name": "FANTÔME",
        "first given name": "ODETTE",
        "given names": "ODETTE MARIE",
        "used name": "REVENANT",
        "sex": "F",
        "birth date": "19540308",
        "birthplace": "62193",
        "INS": "254036219301284",
        "INS authority": "1.2.250.1.213.1.4.8",
        "INS status": "VALI",
        "local id": "IPP-4711",
        "accession": "ACN-2026-0817",
    }
    pacs = {
        **dict.fromkeys(stated, ""),
        "birth name": "FANTOME",
        "first given name": "COLETTE",
        "sex": "F",
        "birth date": "19540803",
        "local id": "IPP-4711",
        "accession": "ACN-2026-0817",
    }
    pair = {"left_source": "CDA", "right_source": "PACS", "severity": "hold"}
    conflicts = (
        Conflict(code="identity-name", field="name", left="FANTÔME^ODETTE", right="FANTOME^COLETTE", **pair),
        Conflict(code="identity-birth-date", field="birth date", left="19540308", right="19540803", **pair),
    )
    if not releasable:
        conflicts = (
            Conflict(
                code="identity-ins-status",
                field="INS status",
                left_source="HL7",
                left="PROV",
                right_source="rule",
                right="VALI",
                severity="hold",
            ),
        )
    reason = conflicts[0].code
    return HeldExam(
        tenant="site",
        study=study,
        reason=reason,
        missing=missing(reason),
        sources=(
            Identity(source="HL7", values=stated),
            Identity(source="CDA", values=stated),
            Identity(source="PACS", values=pacs),
        ),
        conflicts=conflicts,
        studies=(study,),
        releasable=releasable,
        why_not="" if releasable else WHY_NOT[reason],
        seen="5f" * 32,
    )


def stocked(clock: Clock) -> ShelfDesk:
    """A few dozen exams in all states, one tenant live and one rehearsing, an alert."""
    desk = ShelfDesk(clock=clock)
    desk.facts = {
        "site": TenantFacts(title="Hôpital FANTÔME", zone=PARIS, mode="live"),
        "clinique": TenantFacts(title="Clinique du REVENANT", zone=PARIS, mode="shadow"),
    }
    for number in range(22):
        desk.put("site", f"{ROOT}.1{number:033}", ExamState.INDEXED, minutes=40 + 7 * number)
    waits = ("pacs-has-no-such-study", "pacs-unreachable", "index-no-connection", "not-visible-yet")
    for number, reason in enumerate(waits):
        desk.put("site", f"{ROOT}.2{number:033}", ExamState.WAITING, reason, minutes=4 + number, late=number == 1)
    for number in range(3):
        desk.put("clinique", f"{ROOT}.3{number:033}", ExamState.WAITING, "shadow-mode", minutes=15 + number)
    desk.put("site", HELD, ExamState.HELD, "identity-name", minutes=55)
    stops = ("identity-ins-status", "pacs-disagree", "internal-fault", "not-for-index", "entry-missing")
    for number, reason in enumerate(stops, 2):
        desk.put("site", f"{ROOT}.4{number:033}", ExamState.HELD, reason, minutes=60 * number)
    desk.put("site", f"{ROOT}.5{1:033}", ExamState.FAILED, "internal-fault", minutes=90, late=True)
    desk.put("site", f"{ROOT}.6{1:033}", ExamState.SENDING, minutes=0)
    desk.put("site", f"{ROOT}.7{1:033}", ExamState.ACCEPTED, minutes=1)
    desk.put("site", f"{ROOT}.8{1:033}", ExamState.WITHDRAWN, minutes=600)
    desk.identities["site", HELD] = identities()
    desk.said["site", f"{ROOT}.1{0:033}", 1] = said_to_the_index(clock.now())
    unqualified = f"{ROOT}.4{2:033}"
    desk.identities["site", unqualified] = identities(unqualified, releasable=False)
    desk.open_alerts = [
        OpenAlert(
            kind="late",
            subject="",
            tenant="site",
            opened_at=clock.now() - timedelta(minutes=20),
            text="3 examens en retard",
        )
    ]
    return desk


def said_to_the_index(at: datetime) -> Opened:
    """A query of an invented exam and its answer."""
    request = (
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Header/><s:Body>'
        b'<q:AdhocQueryRequest xmlns:q="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0">'
        b'<q:ResponseOption returnType="LeafClass"/></q:AdhocQueryRequest></s:Body></s:Envelope>'
    )
    listed = Listed(
        number=1,
        transaction="ITI-18",
        url="https://index.fantome.example/xds/registry",
        job_id=1,
        attempt=1,
        began_at=at - timedelta(seconds=3),
        ended_at=at - timedelta(seconds=2),
        http_status=200,
        outcome="index-unreadable-answer",
        detail="HTTP 200",
        request_type="application/soap+xml; charset=UTF-8",
        answer_type="text/html",
        request_bytes=len(request),
        answer_bytes=900,
    )
    return Opened(listed=listed, request=request, answer=b"<html>Maintenance</html>", withheld=2100)


async def _ready() -> dict[str, str]:
    return {}


async def _figures() -> Snapshot:
    return Snapshot()


class Served(str):
    """The address of a running console, and who may sign in there."""

    __slots__ = ("alarms", "people", "refusals", "someone")
    people: People
    someone: Someone | None
    alarms: list[tuple[str, str]]
    refusals: list[Refusal]


@asynccontextmanager
async def console(
    desk: Desk,
    *,
    roles: tuple[str, ...] = ("operator", "identity-officer"),
    tenant: str = "",
    idle_s: float = 900.0,
    clock: Clock,
    tls: ssl.SSLContext | None = None,
    parties: Callable[[str], Mapping[str, RelyingParty]] | None = None,
) -> AsyncIterator[Served]:
    """The ops listener with the console on a port of its own; its address. ``roles``: of Jeanne Martin, who is
    enrolled; none of them: nobody is. ``tls``: it is opened as ``localhost``, another site than the 127.0.0.1 of an
    identity provider; ``parties``: those, for the address of the console."""
    with TemporaryDirectory(prefix="poterne-shelf-") as folder:
        store = await open_store(Path(folder) / "accounts.db", (GROUND, ACCOUNTS))
        runner = None
        try:
            made = await people(store, clock)
            someone = await made.enrolled(PERSON, *roles, tenant=tenant) if roles else None
            alarms: list[tuple[str, str]] = []
            refusals: list[Refusal] = []
            reception = Reception.over(
                store,
                made.vault,
                clock,
                tenants=("site", "clinique"),
                alarm=lambda *told: alarms.append(told),
                passwords=Passwords(memory_kib=64),
            )
            app = build_ops_app(ready=_ready, metrics=Metrics(), snapshot=_figures)
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            served = Served(f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}")
            mount_console(
                app,
                desk,
                reception,
                idle_s=idle_s,
                hosts={"127.0.0.1"},
                clock=clock,
                parties=parties(served) if parties else {},
                tell=refusals.append,
            )
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1 if tls else 60.0)
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=tls).start()
            served.people, served.someone, served.alarms, served.refusals = made, someone, alarms, refusals
            yield served
        finally:
            if runner is not None:
                await runner.cleanup()
            await store.close()
