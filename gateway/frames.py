"""Frames of a peer audit, built from what the gateway knows, held against RIS, PACS, modalities and index.

Invariants:

* the frame is built and kept in this order: keys, rows, frame, counts, row in the database and record in the trail;
  what is given out holds pseudonyms and counts alone;
* a unit is turned back for the site's own commands only, and each time stands in the trail;
* a PACS that does not answer cleanly for every day has no number: it is told, and never taken for zero.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway import linkage
from gateway.facts import OTHER_VERSION, Facts, Operation, Say, day, fact
from gateway.tenancy import Tenant
from indexer.activity import Activity, Period, ReportedExam, StatedRequest, newest
from indexer.ledger import Ledger
from indexer.ports import StudyCalendar
from indexer.study import Unknown
from sampler.draw.protocol import Protocol, protocol_of
from sampler.draw.table import lines_of
from sampler.frame.building import Built, performed, requested
from sampler.frame.counts import Count, Listed, count
from sampler.frame.rows import PerformedExam, Request, RequestState, Standing, state_of
from security import audit
from security.clock import Clock
from security.errors import BadInput, Refused
from security.identity import Uid
from security.store.port import Store, Tx

ZONE = "ops"
OUT_OF_PERIOD = "out-of-period"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the gateway knows of a period. ``exams``: also those outside it whose report came since it began."""

    period: Period
    exams: Mapping[str, ReportedExam]
    requests: Sequence[StatedRequest]
    steps: Sequence[tuple[str, str]]
    indexed: frozenset[str]
    trials: frozenset[str]


class Frames:
    """Builds the frames of one gateway's tenants."""

    def __init__(self, *, tenants: Mapping[str, Tenant], store: Store, ledger: Ledger, clock: Clock) -> None:
        self._tenants = tenants
        self._store = store
        self._ledger = ledger
        self._clock = clock

    def by_name(self) -> Mapping[str, Operation]:
        """What commands may ask for."""
        return {"frame-build": self._build, "case-open": self._open, "campaign-forget": self._forget}

    def _tenant(self, facts: Facts) -> Tenant:
        tenant = self._tenants.get(fact(facts, "tenant"))
        if tenant is None:
            raise Refused(
                "no legal entity of this name",
                code="unknown-tenant",
                hint="known: " + ", ".join(sorted(self._tenants)),
            )
        return tenant

    async def _forget(self, facts: Facts, _say: Say) -> dict[str, Any]:
        """Destroy what turns a campaign's pseudonyms back; the trail keeps who did it and why."""
        tenant, campaign = self._tenant(facts).name, fact(facts, "campaign")
        record = audit.AuditRecord(
            tenant=tenant,
            zone=ZONE,
            at=self._clock.now(),
            event="campaign.forgotten",
            actor=fact(facts, "actor"),
            outcome=0,
            object_type="campaign",
            object_id=campaign,
            detail=fact(facts, "reason"),
        )

        def work(tx: Tx) -> int:
            linkage.keys_of(tx, self._ledger.vault, tenant, campaign)
            audit.append(tx, record)
            return linkage.destroy(tx, tenant, campaign)

        return {"frames": await self._store.write(work)}

    async def _open(self, facts: Facts, _say: Say) -> dict[str, Any]:
        return await opened(
            self._store,
            self._ledger,
            self._clock,
            tenant=self._tenant(facts).name,
            campaign=fact(facts, "campaign"),
            root=fact(facts, "root"),
            unit=fact(facts, "unit"),
            actor=fact(facts, "actor"),
        )

    async def _build(self, facts: Facts, _say: Say) -> dict[str, Any]:
        tenant = self._tenant(facts)
        objections = facts.get("objections", [])
        if not isinstance(objections, list) or not all(isinstance(one, str) for one in objections):
            raise BadInput("objections is no list of texts", code="bad-fact", hint=OTHER_VERSION)
        period = Period(
            first=day(facts.get("first")), last=day(facts.get("last")), zone=ZoneInfo(tenant.settings.timezone)
        )
        return await build(
            self._store,
            self._ledger,
            self._clock,
            tenant=tenant.name,
            protocol=protocol_of(facts.get("protocol")),
            period=period,
            calendars=tenant.sources,
            domain=tenant.settings.patient_domain,
            objections=frozenset(objections),
            actor=fact(facts, "actor"),
        )


async def build(
    store: Store,
    ledger: Ledger,
    clock: Clock,
    *,
    tenant: str,
    protocol: Protocol,
    period: Period,
    calendars: Sequence[StudyCalendar],
    domain: str = "",
    objections: frozenset[str] = frozenset(),
    actor: str,
) -> dict[str, Any]:
    """The frame as FRAME.csv (``frame``) and its account; kept with its links, and recorded.

    Raises:
        BadInput: as ``sampler.frame.building`` says; ``frame-period`` the last day is before the first.
    """
    if period.last < period.first:
        raise BadInput("the last day is before the first", code="frame-period", hint="--from, then --to")
    source = protocol.document.get("source", "PERFORMED")
    activity = Activity(tenant=tenant, ledger=ledger, domain=domain, objections=objections)
    keys = await store.write(
        lambda tx: linkage.made_keys(tx, ledger.vault, tenant, protocol.campaign, now=clock.now())
    )
    known = await _known(store, activity, period)
    in_pacs, silent = await _pacs(calendars, period)
    requests = _requests(known)
    if source == "REQUESTED":
        built = await asyncio.to_thread(requested, requests, protocol, keys.campaign)
    else:
        built = await asyncio.to_thread(performed, _exams(known), protocol, keys.campaign)
    counts = [] if source == "REQUESTED" else _counts(built, known, requests, in_pacs, silent)
    account = _account(built, protocol, known, requests, counts)

    def kept(tx: Tx) -> None:
        linkage.keep(
            tx,
            ledger.vault,
            tenant,
            protocol.campaign,
            root=built.frame.root.hex(),
            source=built.source,
            account=account,
            names=list(built.links.values()),
            practitioners=list(built.practitioners.values()),
            actor=actor,
            now=clock.now(),
        )
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=clock.now(),
                event="frame.built",
                actor=actor,
                outcome=0,
                object_type="campaign",
                object_id=protocol.campaign,
                detail=f"{built.source} {len(built.frame.units)} units, root {built.frame.root.hex()}",
            ),
        )

    await store.write(kept)
    return {"frame": "".join(lines_of(built.frame)), "account": account}


async def opened(
    store: Store, ledger: Ledger, clock: Clock, *, tenant: str, campaign: str, root: str, unit: str, actor: str
) -> dict[str, Any]:
    """A drawn unit turned back for the site that prepares its case: study, patient, the campaign's keys; recorded.

    Raises:
        Refused: ``campaign-unknown``, ``frame-unknown``, ``unit-unknown``, ``unit-without-images`` in a
            frame of requests, ``case-without-report`` when no valid report tells whose exam it is.
    """

    def work(tx: Tx) -> dict[str, Any]:
        study = linkage.linked(tx, ledger.vault, tenant, campaign, root).units.get(unit)
        if study is None:
            raise Refused("the frame has no such unit", code="unit-unknown", hint="see the transcript's list 'final'")
        if study.startswith("request/"):
            raise Refused(
                "the unit is a request, not an exam", code="unit-without-images", hint="read its order alone"
            )
        told = [held.stated for held in ledger.reports_of(tx, tenant, Uid(study)) if held.status == "valid"]
        ids = [
            one for stated in reversed(told) for one in stated.envelope.local_ids + stated.report.patient.local_ids
        ]
        if not ids:
            raise Refused(
                "no valid report tells the patient's identifier at the site",
                code="case-without-report",
                hint="the report was withdrawn since: ask for a replacement of the case",
            )
        ins = [stated.envelope.ins.matricule for stated in told if stated.envelope.ins]
        keys = linkage.keys_of(tx, ledger.vault, tenant, campaign)
        audit.append(
            tx,
            audit.AuditRecord(
                tenant=tenant,
                zone=ZONE,
                at=clock.now(),
                event="case.opened",
                actor=actor,
                outcome=0,
                object_type="study",
                object_id=study,
                detail=f"campaign {campaign}, unit {unit}",
            ),
        )
        return {
            "study": study,
            "authority": ids[0].issuer,
            "patient_id": ids[0].value,
            "other_ids": sorted({*ins, *(one.value for one in ids)} - {ids[0].value}),
            "keys": {name: getattr(keys, name).hex() for name in ("uid", "pid", "date", "campaign")},
        }

    return await store.write(work)


async def _known(store: Store, activity: Activity, period: Period) -> Known:
    best: dict[str, tuple[int, int, ReportedExam]] = {}
    after, is_first = 0, True
    while after or is_first:
        start, is_first = after, False
        told, after = await store.read(lambda tx, at=start: activity.exams(tx, period, after=at))  # type: ignore[misc]
        newest(told, best)
    requests, steps, indexed, trials = await store.read(
        lambda tx: (
            activity.requests(tx, period),
            activity.steps(tx, period),
            frozenset(activity.indexed(tx)),
            frozenset(activity.trials(tx)),
        )
    )
    exams = {study: one for study, (_, _, one) in best.items()}
    return Known(period=period, exams=exams, requests=requests, steps=steps, indexed=indexed, trials=trials)


async def _pacs(calendars: Sequence[StudyCalendar], period: Period) -> tuple[set[str] | None, str]:
    """Every study of the period that the PACS list; None and why when one of them gave no clean list."""
    if not calendars:
        return None, "no-pacs"
    found: set[str] = set()
    for number in range((period.last - period.first).days + 1):
        at: date = period.first + timedelta(days=number)
        for listed in await asyncio.gather(*(one.studies_on(at) for one in calendars)):
            if isinstance(listed, Unknown):
                return None, f"{at.isoformat()}: {listed.reason}"
            found |= {one.uid for one in listed}
    return found, ""


def _exams(known: Known) -> list[PerformedExam]:
    return [
        PerformedExam(
            study=one.study,
            day=one.day,
            modality=one.modality,
            practitioner=one.practitioner,
            site=one.site,
            standing=Standing(one.standing),
            opposes=one.is_opposed,
            is_trial=one.study in known.trials,
        )
        for one in known.exams.values()
        if known.period.holds(one.day)
    ]


def _requests(known: Known) -> list[Request]:
    """The requests made in the period. Who is answerable is who decided, else who performed."""
    steps: dict[str, list[str]] = {}
    for study, status in known.steps:
        steps.setdefault(study, []).append(status)
    found = []
    for one in known.requests:
        exam = known.exams.get(one.study)
        if known.period.holds(one.day):
            is_performed = exam is not None and exam.standing != Standing.WITHDRAWN
            found.append(
                Request(
                    key=str(one.order_no),
                    day=one.day,
                    state=state_of(one.status, is_performed=is_performed, steps=steps.get(one.study, [])),
                    modality=one.modality or (exam.modality if exam else ""),
                    practitioner=one.decider or (exam.practitioner if exam else ""),
                    study=one.study,
                    site=exam.site if exam else "",
                    opposes=one.is_opposed or (exam is not None and exam.is_opposed),
                )
            )
    return found


def _counts(
    built: Built, known: Known, requests: Sequence[Request], in_pacs: set[str] | None, silent: str
) -> list[Count]:
    studies = set(built.links.values())
    outside = {study: OUT_OF_PERIOD for study, one in known.exams.items() if not known.period.holds(one.day)}
    left_out: dict[str, str] = {**outside, **{study: why.value for study, why in built.left_out.items()}}
    ris = [
        Listed(study=one.study, reason="" if one.state is RequestState.PERFORMED else one.state) for one in requests
    ]
    ris += [Listed(study=one.study) for one in known.requests if one.study in studies]
    mpps = [Listed(study=study, reason=_ended(status)) for study, status in known.steps]
    of_index = [Listed(study=study) for study in known.indexed if study in known.exams and study not in outside]
    pacs = None if in_pacs is None else [Listed(study=study) for study in in_pacs]
    return [
        count("RIS", ris, studies=studies, left_out=left_out),
        count("PACS", pacs, studies=studies, left_out=left_out, why=silent),
        count("MPPS", mpps, studies=studies, left_out=left_out),
        count("INDEX", of_index, studies=studies, left_out=left_out),
    ]


def _ended(status: str) -> str:
    return "" if status == "COMPLETED" else status.lower().replace(" ", "-")


def _account(
    built: Built, protocol: Protocol, known: Known, requests: Sequence[Request], counts: Sequence[Count]
) -> dict[str, Any]:
    """What is told of a frame beside its table: numbers, no name of anybody."""
    size = len(built.frame.units)
    gaps = {one.of: one.gap(size) for one in counts}
    return {
        "campaign": protocol.campaign,
        "protocol_hash": protocol.hash.hex(),
        "source": built.source,
        "first": known.period.first.isoformat(),
        "last": known.period.last.isoformat(),
        "root": built.frame.root.hex(),
        "size": size,
        "strata": dict(built.frame.strata),
        "merged": dict(built.merged),
        "practitioners": len(built.practitioners),
        "without_practitioner": built.unstated,
        "exclusions": {why.value: number for why, number in built.exclusions.items()},
        "requests": dict(sorted(Counter(one.state.value for one in requests).items())),
        "counts": [
            {
                "of": one.of,
                "number": one.number,
                "in_frame": one.in_frame,
                "missing": one.missing,
                "reasons": dict(one.reasons),
                "why": one.why,
                "gap_percent": None if (gap := gaps[one.of]) is None else f"{float(gap * 100):.1f}",
                "needs_words": one.needs_words(size),
            }
            for one in counts
        ],
    }
