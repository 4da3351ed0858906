"""What the store says about one study, and the part of it that decides (``decision.Facts``).

Reads only. The same reading serves whoever lets something arrive (``admission``), whoever settles a job
(``publication``) and, in part, whoever compares by night (``reconciliation``): all decide from the same facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from indexer import hiding, presence, standing
from indexer.consent import Consents
from indexer.decision import Facts
from indexer.gate import in_domain
from indexer.imaging import rejections
from indexer.ledger import HeldReport, Ledger
from indexer.persons import Persons
from indexer.presence import Presence
from security.identity import Uid
from security.store.port import ReadTx

_COUNTING = frozenset({"valid", "held"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One study. ``reports``: whatever their status, the patient of each as the register has them now. ``waived``:
    marks of the conflicts with the PACS that a person accepted, by report. ``is_opposed``: the patient of a report
    that counts or is held opposes the index. ``is_misplaced``: what the index may show stands under an identifier
    that leads to none of the patients of the valid reports. ``is_trial``: we invented it (``indexer.trial``).
    ``rejected``: instances that notes we obeyed reject, with their titles."""

    reports: Sequence[HeldReport]
    waived: Mapping[str, frozenset[bytes]]
    sendings: standing.Sendings
    next_version: int
    is_opposed: bool
    is_misplaced: bool
    is_trial: bool
    presence: Presence
    rejected: Mapping[Uid, frozenset[str]]

    @property
    def valid(self) -> list[HeldReport]:
        """The reports that count, oldest first."""
        return [one for one in self.reports if one.status == "valid"]

    @property
    def is_linked(self) -> bool:
        """Whether a report that counts is known by its link alone, from an archive."""
        return any(one.link for one in self.valid)

    @property
    def doubtful(self) -> HeldReport | None:
        """The newest report that is held."""
        return next((one for one in reversed(self.reports) if one.status == "held"), None)

    @property
    def is_hidden_too_little(self) -> bool:
        """Whether the index was told to hide less than the valid reports do now: it must hear of it soon."""
        sent = [*(version for version, _ in self.sendings.attempted), self.sendings.published]
        told = next((one.told for one in sent if one is not None), None)
        return told is not None and any(
            not hiding.marks(one.stated.report.confidentiality, one.stated.report.visibility) <= told
            for one in self.valid
        )

    def facts(self, study: str, now: datetime) -> Facts:
        """What decides as long as neither the PACS nor the index were asked."""
        contested = (why for one in self.valid for other, why in one.contested.items() if other != study)
        return Facts(
            valid=len(self.valid),
            held=self.doubtful.reason if self.doubtful else "",
            contested=next(contested, ""),
            is_opposed=self.is_opposed,
            is_for_index=all(one.stated.report.visibility.for_index for one in self.valid),
            is_kept_out=bool(self.presence.kept_out_by),
            may_be_shown=self.sendings.published is not None or bool(self.sendings.attempted),
            is_misplaced=self.is_misplaced,
            is_announced=self.presence.announced_at is not None,
            absent_for=self.presence.absent_for(now),
            absent=self.presence.absent,
        )


def read(tx: ReadTx, tenant: str, study: Uid, *, ledger: Ledger, consents: Consents, persons: Persons) -> Known:
    """Everything the store says about the study."""
    stated = reports(tx, tenant, study, ledger=ledger, persons=persons)
    sendings = standing.sendings(tx, ledger, tenant, study)
    return Known(
        reports=stated,
        waived={one.report_id: ledger.waivers(tx, tenant, one.report_id, study, "pacs") for one in stated},
        sendings=sendings,
        next_version=ledger.next_version(tx, tenant, study),
        is_opposed=is_opposed(tx, tenant, stated, consents=consents, persons=persons),
        is_misplaced=_is_misplaced(tx, tenant, study, sendings, stated, ledger=ledger, persons=persons),
        is_trial=ledger.is_trial(tx, tenant, study),
        presence=presence.of(tx, tenant, study),
        rejected=rejections.rejected(tx, tenant, study),
    )


def reports(tx: ReadTx, tenant: str, study: Uid, *, ledger: Ledger, persons: Persons) -> list[HeldReport]:
    """Every report of the study, the patient of each that counts or is held as the register has them now."""
    stated = ledger.reports_of(tx, tenant, study)
    return [as_known(tx, persons, tenant, one) if one.status in _COUNTING else one for one in stated]


def is_opposed(
    tx: ReadTx, tenant: str, stated: Sequence[HeldReport], *, consents: Consents, persons: Persons
) -> bool:
    """Whether the patient of a report that counts or is held opposes, under any identity known of them."""
    return any(
        consents.is_opposed(tx, tenant, (*one.stated.patients, persons.current(tx, tenant, one.stated.envelope)))
        for one in stated
        if one.status in _COUNTING
    )


def _is_misplaced(
    tx: ReadTx,
    tenant: str,
    study: Uid,
    sendings: standing.Sendings,
    stated: Sequence[HeldReport],
    *,
    ledger: Ledger,
    persons: Persons,
) -> bool:
    """Whether the index may show the exam under an identifier of the patient domain that now leads to nobody the
    valid reports speak of: only the register can part the two, and where it never spoke nothing is opened."""
    domain = persons.domain
    patients = [one.stated.report.patient for one in stated if one.status == "valid"]
    if not domain or not any(persons.has_spoken(tx, tenant, one.local_ids) for one in patients):
        return False
    meant = {local for one in patients for local in in_domain(one, domain)}
    versions = [version.version for version, _ in sendings.attempted]
    versions += [sendings.published.version] if sendings.published else []
    for stored in (ledger.manifest_at(tx, tenant, study, version) for version in versions):
        under = in_domain(stored[0].patient, domain)[:1] if stored else ()
        if stored and under:
            now = persons.current(tx, tenant, replace(stored[0].patient, local_ids=under))
            if meant.isdisjoint(now.local_ids):
                return True
    return False


def as_known(tx: ReadTx, persons: Persons, tenant: str, held: HeldReport) -> HeldReport:
    """The report with its patient as the register has them now."""
    report = held.stated.report
    patient = persons.current(tx, tenant, report.patient, since=held.received_at)
    if patient == report.patient:
        return held
    return replace(held, stated=replace(held.stated, report=replace(report, patient=patient)))
