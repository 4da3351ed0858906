"""What a site did in a period, as the gateway heard of it: the facts that a peer audit is framed on.

Invariants:

* an exam stands once, as its newest report that counts states it: a valid one before a held one before one withdrawn;
  a replaced report says nothing;
* its day is that of the performance, else of the report, in the tenant's zone;
* reads only, page by page; a patient's values are looked at for an objection and go no further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from indexer.consent import Consents
from indexer.ledger import HeldReport, Ledger
from indexer.orders import Orders, StoredOrder
from indexer.persons import Persons
from security.clock import to_ms
from security.identity import PatientIdentity
from security.store.port import ReadTx

PAGE = 500
_RANKS = {"withdrawn": 0, "held": 1, "valid": 2}
_OPPOSED = "patient-opposed"
_SKEW = timedelta(days=1)  # a report is never received long before what it tells, whatever its sender's clock says
ORDERED_BEFORE = timedelta(days=400)
"""How long before its exam a request may have been made to be looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From the first day to the last, both included, in ``zone``."""

    first: date
    last: date
    zone: ZoneInfo

    def holds(self, day: date) -> bool:
        """Whether a day is of the period."""
        return self.first <= day <= self.last

    def day(self, at: datetime) -> date:
        """The day of a moment, in the zone."""
        return at.astimezone(self.zone).date()

    @property
    def begins(self) -> datetime:
        """Its first moment."""
        return datetime.combine(self.first, time(), tzinfo=self.zone)

    @property
    def ends(self) -> datetime:
        """The first moment after it."""
        return datetime.combine(self.last + timedelta(days=1), time(), tzinfo=self.zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedExam:
    """One exam of which a report speaks. ``standing``: valid, held or withdrawn. ``practitioner``: who is responsible
    for the report, ``site``: who performed; "" where not stated."""

    study: str
    day: date
    modality: str
    practitioner: str
    site: str
    standing: str
    is_opposed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedRequest:
    """One request. ``status``: as ``OrderStatus``. ``decider``: who answered it, "" where nobody is stated."""

    order_no: int
    day: date
    status: str
    study: str
    modality: str
    decider: str
    is_opposed: bool


class Activity:
    """The activity of one tenant. ``objections``: identifiers of patients (INS, local) and exams (StudyInstanceUID)
    that the site was asked to leave out, beside those whose opposition is registered."""

    def __init__(
        self, *, tenant: str, ledger: Ledger, domain: str = "", objections: AbstractSet[str] = frozenset()
    ) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._consents = Consents(ledger)
        self._persons = Persons(ledger, domain=domain)
        self._orders = Orders(ledger)
        self._objections = objections
        self._known: dict[tuple[PatientIdentity, ...], bool] = {}

    def exams(self, tx: ReadTx, period: Period, *, after: int) -> tuple[list[tuple[int, ReportedExam]], int]:
        """The exams of one page of reports, each with the number of its report, and the number to go on after;
        0 at the end. Exams outside the period are among them: their reports came since it began."""
        rows = tx.rows(
            "SELECT * FROM report WHERE tenant = :tenant AND report_no > :after AND received_at >= :since"
            " AND status <> 'replaced' ORDER BY report_no LIMIT :page",
            tenant=self._tenant,
            after=after,
            since=to_ms(period.begins - _SKEW),
            page=PAGE,
        )
        found = []
        for row in rows:
            held = self._ledger.held(tx, row)
            found += [(int(row["report_no"]), one) for one in self._told(tx, held, period)]
        return found, int(rows[-1]["report_no"]) if len(rows) == PAGE else 0

    def _told(self, tx: ReadTx, held: HeldReport, period: Period) -> Iterator[ReportedExam]:
        stated = held.stated
        report, envelope = stated.report, stated.envelope
        at = report.service_start or report.effective_time or held.received_at
        signer = report.legal_authenticator or next(iter(report.authors), None)
        is_opposed = held.reason == _OPPOSED or self._is_opposed(tx, (envelope, report.patient))
        for study in report.studies:
            standing = "held" if held.status == "valid" and held.contested.get(study) else held.status
            yield ReportedExam(
                study=study,
                day=period.day(at),
                modality=report.modalities[0].code if report.modalities else "",
                practitioner=signer.identifier if signer else "",
                site=report.performer.identifier if report.performer else "",
                standing=standing,
                is_opposed=is_opposed or study in self._objections,
            )

    def requests(self, tx: ReadTx, period: Period) -> list[StatedRequest]:
        """The requests made in the period or in the year before it, oldest first."""
        found = []
        for order in self._orders.requested_between(tx, self._tenant, period.begins - ORDERED_BEFORE, period.ends):
            stated = order.facts
            found.append(
                StatedRequest(
                    order_no=order.order_no,
                    day=period.day(order.requested_at),
                    status=order.status.value,
                    study=stated.study or "",
                    modality=stated.modality,
                    decider=_decider(order),
                    is_opposed=self._is_opposed(tx, [event.patient for event in order.events])
                    or stated.study in self._objections,
                )
            )
        return found

    def steps(self, tx: ReadTx, period: Period) -> list[tuple[str, str]]:
        """Study and status of every performed procedure step that began in the period."""
        rows = tx.rows(
            "SELECT s.study_uid, p.status FROM performed_step p JOIN performed_step_study s"
            " ON s.tenant = p.tenant AND s.step_uid = p.step_uid"
            " WHERE p.tenant = :tenant AND p.begun_at >= :since AND p.begun_at < :until"
            " ORDER BY s.study_uid, p.status",
            tenant=self._tenant,
            since=to_ms(period.begins),
            until=to_ms(period.ends),
        )
        return [(row["study_uid"], row["status"]) for row in rows]

    def indexed(self, tx: ReadTx) -> set[str]:
        """The studies whose newest entry a query showed as approved."""
        rows = tx.rows(
            "SELECT e.study_uid FROM entry e WHERE e.tenant = :tenant AND e.status = 'Approved' AND NOT EXISTS"
            " (SELECT 1 FROM entry later WHERE later.tenant = e.tenant AND later.study_uid = e.study_uid"
            " AND later.version > e.version)",
            tenant=self._tenant,
        )
        return {row["study_uid"] for row in rows}

    def trials(self, tx: ReadTx) -> set[str]:
        """The studies that we invented ourselves."""
        rows = tx.rows("SELECT study_uid FROM trial WHERE tenant = :tenant", tenant=self._tenant)
        return {row["study_uid"] for row in rows}

    def _is_opposed(self, tx: ReadTx, patients: Iterable[PatientIdentity]) -> bool:
        """Whether the person objects, under any identity stated or that the register ties to it."""
        stated = tuple(dict.fromkeys(patients))
        if stated not in self._known:
            every = (*stated, *(self._persons.current(tx, self._tenant, one) for one in stated))
            named = {local.value for one in every for local in (*one.local_ids, *one.tied)}
            named |= {one.ins.matricule for one in every if one.ins}
            self._known[stated] = not named.isdisjoint(self._objections) or self._consents.is_opposed(
                tx, self._tenant, every
            )
        return self._known[stated]


def newest(told: Iterable[tuple[int, ReportedExam]], into: dict[str, tuple[int, int, ReportedExam]]) -> None:
    """Keep of each study what counts: the better standing, then the later report. One objection is enough."""
    for number, one in told:
        rank = (_RANKS[one.standing], number)
        before = into.get(one.study)
        is_opposed = one.is_opposed or (before is not None and before[2].is_opposed)
        best = one if before is None or rank > before[:2] else before[2]
        into[one.study] = (*max(rank, before[:2] if before else rank), replace(best, is_opposed=is_opposed))


def _decider(order: StoredOrder) -> str:
    deciding = order.deciding
    said = deciding.stated.decider if deciding else None
    said = said or order.facts.decider
    return said.identifier if said else ""
