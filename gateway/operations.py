"""What people may have done to exams: the console's desk, and what commands ask of the running gateway.

Each is one transaction of the rooms below, then a word to the engine that there may be work. Who asks is part of the
audit record: an account of the console, or the user of a command on this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from gateway.alerts import rows as alert_rows
from gateway.alerts.texts import headline
from gateway.continuity import copies, drills, xdm
from gateway.i18n import words
from gateway.pacs.probe import ProbeReport, run_probe
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
from security.errors import Refused
from security.identity import Uid
from security.outbox import jobs
from security.outbox.port import JobClass
from security.store.port import Store, Tx

T = TypeVar("T")
ZONE = "ops"


class Operations:
    """The desk of one gateway (``gateway.web.desk.Desk``).

    ``nudge``: tells the engine that there may be work.
    """

    def __init__(
        self,
        *,
        tenants: Mapping[str, Tenant],
        store: Store,
        clock: Clock,
        nudge: Callable[[], None],
    ) -> None:
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
        """Compare PACS, database and index, and mend what differs.

        Raises:
            Refused: as ``require_live``.
        """
        self.require_live(tenant)
        return await self._tenant(tenant).reconciler.run(window, withdraw_up_to=withdraw_up_to, progress=progress)

    def require_live(self, tenant: str) -> None:
        """What a reconciliation needs before anything is asked or used up for it.

        Raises:
            Refused: ``reconcile-shadow``, or there is no such tenant.
        """
        if self._tenant(tenant).settings.mode == "shadow":
            raise Refused(
                f"tenant {tenant} is in shadow mode: the index must hear nothing of it",
                code="reconcile-shadow",
                hint="reconcile once it is live; until then: poterne shadow, poterne backload",
            )

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
