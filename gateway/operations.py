"""What people may have done to exams: the console's desk, and what commands ask of the running gateway.

Each is one transaction of the rooms below, then a word to the engine that there may be work. Who asks is part of the
audit record: an account of the console, or the user of a command on this machine.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from gateway.alerts import rows as alert_rows
from gateway.alerts.texts import headline
from gateway.continuity import copies, drills, xdm
from gateway.i18n import words
from gateway.pacs.probe import ProbeReport, report_facts, run_probe
from gateway.tenancy import Tenant
from gateway.web.desk import OpenAlert, TenantFacts
from indexer import exams, exclusion, release, timeline, trial
from indexer.exchanges import reveal, rows
from indexer.exchanges.reveal import Masked
from indexer.exchanges.rows import Listed, Opened
from indexer.reconciliation.round import Report
from indexer.reconciliation.rows import Window
from indexer.xdm.export import Wanted
from security import audit
from security.clock import Clock
from security.errors import BadInput, Refused
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.store.port import Store, Tx

T = TypeVar("T")
Facts = Mapping[str, Any]
Say = Callable[[Any], None]
ZONE = "ops"
_OTHER_VERSION = "command and gateway differ in version: restart the service"


class Operations:
    """The desk of one gateway (``gateway.web.desk.Desk``).

    ``nudge``: tells the engine that there may be work. ``reveal_users``: users of this machine who may read exchanges
    in clear by a command.
    """

    def __init__(
        self,
        *,
        tenants: Mapping[str, Tenant],
        store: Store,
        clock: Clock,
        nudge: Callable[[], None],
        reveal_users: frozenset[str] = frozenset(),
    ) -> None:
        self._reveal_users = reveal_users
        self._tenants = tenants
        self._store = store
        self._clock = clock
        self._nudge = nudge

    # -- looking -----------------------------------------------------------------------------------------------

    async def tenants(self) -> Mapping[str, TenantFacts]:
        """Every tenant of the configuration."""
        pauses = {pause.tenant: pause for pause in await self._store.read(jobs.paused)}
        return {
            name: TenantFacts(
                title=tenant.settings.name,
                zone=ZoneInfo(tenant.settings.timezone),
                mode=tenant.settings.mode,
                paused=pauses.get(name),
            )
            for name, tenant in self._tenants.items()
        }

    async def counts(self, tenant: str) -> exams.Counts:
        """Exams by state and reason."""
        return await self._store.read(lambda tx: exams.counts(tx, tenant))

    async def page(self, wanted: exams.Wanted) -> exams.Page:
        """One page of exams."""
        return await self._store.read(lambda tx: exams.find(tx, wanted))

    async def exam(self, tenant: str, study: str) -> timeline.Exam | None:
        """One exam with its timeline, None when nobody knows it."""
        seen = await self._store.read(lambda tx: exams.one(tx, tenant, study))
        return seen if seen.steps else None

    async def alerts(self, lang: str) -> Sequence[OpenAlert]:
        """What asks for a person now."""
        return [
            OpenAlert(
                kind=alert.condition.kind.value,
                subject=alert.condition.subject,
                tenant=alert.condition.tenant,
                opened_at=alert.opened_at,
                text=headline(alert.condition, words(lang)),
            )
            for alert in await self._store.read(alert_rows.open_alerts)
        ]

    async def held(self, tenant: str, study: str, *, actor: str, by_glass: bool = False) -> release.HeldExam | None:
        """Both identities of a held exam; the record of this look is durable before they are returned."""
        admission = self._tenant(tenant).admission
        event = "break-glass.identity-read" if by_glass else "exam.identity-read"

        def work(tx: Tx) -> release.HeldExam | None:
            shown = release.look(tx, admission, study)
            if shown is not None:
                self._audit(tx, tenant, event, actor, study, detail=shown.reason)
            return shown

        return await self._store.write(work)

    async def exchanges(self, tenant: str, study: str) -> Sequence[Listed]:
        """What was said between us and the index about an exam, without the bytes."""
        return await self._store.read(lambda tx: rows.listed(tx, tenant, study))

    async def exchange(self, tenant: str, study: str, number: int) -> Masked | None:
        """One exchange, masked; None when it is not kept."""
        ledger = self._tenant(tenant).admission.ledger
        found = await self._store.read(lambda tx: rows.opened(tx, ledger, tenant, study, [number]))
        return await asyncio.to_thread(reveal.mask, found[0]) if found else None

    async def reveal(
        self, tenant: str, study: str, *, actor: str, numbers: Sequence[int] | None, has_right: bool
    ) -> Sequence[Opened]:
        """Exchanges in clear; the record of this look is durable before they are returned."""
        ledger, now = self._tenant(tenant).admission.ledger, self._clock.now()
        if not has_right:
            await self._store.write(lambda tx: reveal.refuse(tx, tenant, study, actor=actor, now=now))
            raise Refused(
                "the exchanges of this exam are not shown in clear to you",
                code="reveal-not-allowed",
                hint="command line: the user must be named in [exchanges] reveal_users; console: the identity officer"
                " may. Without the right they are shown masked",
            )
        return await self._store.write(
            lambda tx: reveal.reveal(tx, ledger, tenant, study, actor=actor, numbers=numbers, now=now)
        )

    # -- acting ------------------------------------------------------------------------------------------------

    async def release(self, tenant: str, study: str, *, actor: str, reason: str, seen: str) -> None:
        """Accept the conflicts that were shown."""
        admission, now = self._tenant(tenant).admission, self._clock.now()
        await self._act(
            lambda tx: release.release(tx, admission, study, actor=actor, reason=reason, seen=seen, now=now)
        )

    async def retry(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Try an exam again now."""
        admission, now = self._tenant(tenant).admission, self._clock.now()
        await self._act(lambda tx: release.retry(tx, admission, study, actor=actor, reason=reason, now=now))

    async def withdraw(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Take an exam out of the index and keep it out."""
        admission, now = self._tenant(tenant).admission, self._clock.now()
        await self._act(lambda tx: exclusion.withdraw(tx, admission, study, actor=actor, reason=reason, now=now))

    async def republish(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Let an exam back into the index."""
        admission, now = self._tenant(tenant).admission, self._clock.now()
        await self._act(lambda tx: exclusion.republish(tx, admission, study, actor=actor, reason=reason, now=now))

    async def publish(self, tenant: str, study: str, *, actor: str, reason: str) -> None:
        """Publish an exam with the images that are there."""
        admission, now = self._tenant(tenant).admission, self._clock.now()
        await self._act(lambda tx: exclusion.publish(tx, admission, study, actor=actor, reason=reason, now=now))

    async def pause(self, tenant: str, *, actor: str, reason: str) -> None:
        """Let nothing of the tenant begin."""
        self._tenant(tenant)
        now = self._clock.now()
        await self._act(lambda tx: jobs.pause(tx, tenant=tenant, actor=actor, reason=reason, now=now))

    async def resume(self, tenant: str, *, actor: str) -> None:
        """Let the tenant's exams go on."""
        self._tenant(tenant)
        now = self._clock.now()
        await self._act(lambda tx: jobs.resume(tx, tenant=tenant, actor=actor, now=now))

    async def take(self, tenant: str, message: bytes) -> tuple[str, str]:
        """One HL7 message at the lowest priority: the code of its answer, and the reason against it."""
        return await self._tenant(tenant).intake.take(message, job_class=JobClass.P3)

    def try_out(
        self, tenant: str, *, actor: str, send: bool, keep: bool, limit_s: float
    ) -> AsyncIterator[trial.Step]:
        """Publish a trial exam, see it indexed, withdraw it unless ``keep``."""
        return trial.play(
            self._trial(tenant),
            self._store,
            self._clock,
            actor=actor,
            send=send,
            keep=keep,
            limit_s=limit_s,
            nudge=self._nudge,
        )

    def take_back(self, tenant: str, study: str, *, actor: str, limit_s: float) -> AsyncIterator[trial.Step]:
        """Withdraw a trial exam that was kept."""
        return trial.take_back(
            self._trial(tenant), self._store, self._clock, Uid(study), actor=actor, limit_s=limit_s, nudge=self._nudge
        )

    async def reconcile(
        self,
        tenant: str,
        window: Window | None,
        *,
        withdraw_up_to: int | None = None,
        progress: Callable[[str], None] = lambda _told: None,
    ) -> Report:
        """Compare PACS, database and index, and mend what differs."""
        found = self._tenant(tenant)
        if found.settings.mode == "shadow":
            raise Refused(
                f"tenant {tenant} is in shadow mode: the index must hear nothing of it",
                code="reconcile-shadow",
                hint="reconcile once it is live; until then: poterne shadow, poterne backload",
            )
        return await found.reconciler.run(window, withdraw_up_to=withdraw_up_to, progress=progress)

    async def backed_up(self, *, last_audit_no: int, digest: str) -> None:
        """Note that a verified copy of the database exists, up to that audit record."""
        now = self._clock.now()

        def work(tx: Tx) -> None:
            copies.note(tx, now=now, last_audit_no=last_audit_no, digest=digest)
            said = f"up to record {last_audit_no}"
            self._audit(tx, "", "store.backed-up", "poterne", digest, object_type="backup", detail=said)

        await self._store.write(work)

    async def export_xdm(
        self,
        tenant: str,
        target: Path,
        *,
        since: date | None,
        studies: Sequence[str],
        actor: str,
        say: Callable[[str], None],
    ) -> xdm.Exported:
        """Write what the index holds of the tenant into XDM archives."""
        found = self._tenant(tenant)
        publisher, now = found.settings.publisher, self._clock.now()
        zone = ZoneInfo(found.settings.timezone)
        begins = datetime.combine(since, time(), tzinfo=zone) if since else None
        return await xdm.export(
            self._store,
            found.admission,
            self._clock,
            Wanted(tenant=tenant, until=now, since=begins, studies=tuple(studies)),
            target,
            sender=xdm.Sender(
                institution=publisher.institution_name,
                identifier=publisher.institution_id,
                software=publisher.manufacturer,
            ),
            actor=actor,
            say=say,
        )

    async def import_xdm(
        self, tenant: str, files: Sequence[Path], *, apply: bool, actor: str, say: Callable[[str], None]
    ) -> xdm.Imported:
        """Read XDM archives, and with ``apply`` take the exams that the database lacks."""
        found = self._tenant(tenant)
        done = await xdm.bring_in(self._store, found.admission, self._clock, files, apply=apply, actor=actor, say=say)
        self._nudge()
        return done

    async def drilled(self, *, rto_s: float, last_audit_no: int) -> tuple[drills.Drill, ...]:
        """Keep what a restore drill measured, with the age of the work that its backup lacked."""
        now = self._clock.now()
        declared = {
            name: (t.settings.continuity.rpo_s, t.settings.continuity.rto_s) for name, t in self._tenants.items()
        }
        return await self._store.write(
            lambda tx: drills.keep(tx, declared, rto_s=rto_s, last_audit_no=last_audit_no, now=now)
        )

    async def probe(self, tenant: str, pacs: str) -> ProbeReport:
        """Find out what a PACS is able to do, and keep the record."""
        peers = self._tenant(tenant).peers
        if pacs not in peers:
            raise Refused(
                f"tenant {tenant} has no PACS called {pacs}", code="unknown-pacs", hint=f"known: {', '.join(peers)}"
            )
        return await run_probe(tenant=tenant, peer=peers[pacs], store=self._store, clock=self._clock)

    # -- for commands ------------------------------------------------------------------------------------------

    def by_name(  # noqa: C901  one small function for each command
        self,
    ) -> Mapping[str, Callable[[Facts, Say], Awaitable[Any]]]:
        """What commands may ask for, JSON in and out (``gateway.control``)."""

        async def pause(facts: Facts, _say: Say) -> None:
            await self.pause(_fact(facts, "tenant"), actor=_fact(facts, "actor"), reason=_fact(facts, "reason"))

        async def resume(facts: Facts, _say: Say) -> None:
            await self.resume(_fact(facts, "tenant"), actor=_fact(facts, "actor"))

        def about_exam(act: Callable[..., Awaitable[None]]) -> Callable[[Facts, Say], Awaitable[None]]:
            async def asked(facts: Facts, _say: Say) -> None:
                where = (_fact(facts, "tenant"), _fact(facts, "study"))
                await act(*where, actor=_fact(facts, "actor"), reason=_fact(facts, "reason"))

            return asked

        async def take(facts: Facts, _say: Say) -> list[str]:
            try:
                message = base64.b64decode(_fact(facts, "message"), validate=True)
            except binascii.Error:
                raise BadInput("message is not Base64", code="bad-fact", hint=_OTHER_VERSION) from None
            return list(await self.take(_fact(facts, "tenant"), message))

        async def try_out(facts: Facts, say: Say) -> bool:
            steps = self.try_out(
                _fact(facts, "tenant"),
                actor=_fact(facts, "actor"),
                send=facts.get("send") is True,
                keep=facts.get("keep") is True,
                limit_s=float(_fact(facts, "limit_s")),
            )
            return await _said(steps, say)

        async def take_back(facts: Facts, say: Say) -> bool:
            steps = self.take_back(
                _fact(facts, "tenant"),
                _fact(facts, "study"),
                actor=_fact(facts, "actor"),
                limit_s=float(_fact(facts, "limit_s")),
            )
            return await _said(steps, say)

        async def probe(facts: Facts, _say: Say) -> Facts:
            return report_facts(await self.probe(_fact(facts, "tenant"), _fact(facts, "pacs")))

        async def reconcile(facts: Facts, say: Say) -> Facts:
            days = (facts.get("first"), facts.get("last"))
            window = Window(first=_day(days[0]), last=_day(days[1])) if any(days) else None
            up_to = facts.get("withdraw_up_to")
            found = await self.reconcile(
                _fact(facts, "tenant"),
                window,
                withdraw_up_to=up_to if isinstance(up_to, int) else None,
                progress=say,
            )
            return asdict(found) | {"changed": found.changed}

        async def reveal(facts: Facts, _say: Say) -> list[Facts]:
            found = await self.reveal(
                _fact(facts, "tenant"),
                _fact(facts, "study"),
                actor=f"operator:{_fact(facts, 'user')} (command line)",
                numbers=None,
                has_right=_fact(facts, "user") in self._reveal_users,
            )
            return [
                {
                    "number": one.listed.number,
                    "request": _base64(one.request),
                    "answer": _base64(one.answer),
                    "cut": one.cut,
                    "withheld": one.withheld,
                }
                for one in found
            ]

        async def backed_up(facts: Facts, _say: Say) -> None:
            await self.backed_up(last_audit_no=int(_fact(facts, "last_audit_no")), digest=_fact(facts, "digest"))

        async def export_xdm(facts: Facts, say: Say) -> Facts:
            since = facts.get("since")
            made = await self.export_xdm(
                _fact(facts, "tenant"),
                Path(_fact(facts, "target")),
                since=_day(since) if since else None,
                studies=_texts(facts, "studies"),
                actor=_fact(facts, "actor"),
                say=say,
            )
            return asdict(made)

        async def import_xdm(facts: Facts, say: Say) -> Facts:
            done = await self.import_xdm(
                _fact(facts, "tenant"),
                [Path(one) for one in _texts(facts, "files")],
                apply=facts.get("apply") is True,
                actor=_fact(facts, "actor"),
                say=say,
            )
            return asdict(done)

        async def drilled(facts: Facts, _say: Say) -> list[Facts]:
            made = await self.drilled(
                rto_s=float(_fact(facts, "rto_s")), last_audit_no=int(_fact(facts, "last_audit_no"))
            )
            return [{"tenant": one.tenant, "rto_s": one.rto_s, "rpo_s": one.rpo_s} for one in made]

        return {
            "export-xdm": export_xdm,
            "import-xdm": import_xdm,
            "backed-up": backed_up,
            "drilled": drilled,
            "reveal": reveal,
            "reconcile": reconcile,
            "pause": pause,
            "resume": resume,
            "retry": about_exam(self.retry),
            "withdraw": about_exam(self.withdraw),
            "republish": about_exam(self.republish),
            "publish": about_exam(self.publish),
            "take": take,
            "try-out": try_out,
            "take-back": take_back,
            "probe": probe,
        }

    # -- inside ------------------------------------------------------------------------------------------------

    async def _act(self, work: Callable[[Tx], T]) -> T:
        done = await self._store.write(work)
        self._nudge()
        return done

    def _tenant(self, name: str) -> Tenant:
        if name not in self._tenants:
            raise Refused(
                f"no legal entity is called {name}",
                code="unknown-tenant",
                hint="known: " + ", ".join(sorted(self._tenants)),
            )
        return self._tenants[name]

    def _trial(self, name: str) -> trial.Trial:
        found = self._tenant(name).trial
        if found is None:
            raise Refused(
                f"tenant {name} has no test patient",
                code="no-trial-patient",
                hint=f"describe the one the index gave for tests in [tenants.{name}.trial], then restart",
            )
        return found

    def _audit(
        self,
        tx: Tx,
        tenant: str,
        event: str,
        actor: str,
        object_id: str,
        *,
        object_type: str = "study",
        detail: str = "",
        outcome: int = 0,
    ) -> None:
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=self._clock.now(),
                event=event,
                actor=actor,
                outcome=outcome,
                object_type=object_type,
                object_id=object_id,
                detail=detail,
            ),
        )


async def _said(steps: AsyncIterator[trial.Step], say: Say) -> bool:
    """Say every step; whether all went well."""
    went_well = True
    async for step in steps:
        went_well = went_well and step.is_good
        say(asdict(step))
    return went_well


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _day(told: object) -> date:
    try:
        return date.fromisoformat(str(told))
    except ValueError:
        raise BadInput("a day is not YYYY-MM-DD", code="bad-fact", hint=_OTHER_VERSION) from None


def _texts(facts: Facts, name: str) -> list[str]:
    value = facts.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise BadInput(f"{name} is no list of texts", code="bad-fact", hint=_OTHER_VERSION)
    return value


def _fact(facts: Facts, name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} is missing", code="bad-fact", hint=_OTHER_VERSION)
    return value
