"""From the valid reports of a study and the PACS's answer to the manifest and its context.

Invariants:

* the newest report that states a thing gives it, start and stop together; orders and regions are the
  union; visibility and confidentiality are the strictest of all valid reports (a right that one report takes away,
  no other gives back);
* a series whose body part the table ``body-part`` knows has its coded region, unless the PACS states one; the coarse
  regions of these are those of the study where no report states any;
* every instance the PACS lists is in the manifest: what a consumer may see is decided elsewhere;
* the order in which the PACS lists series and instances changes nothing (I6).

Whether the sources agree on the patient is ``indexer.gate``'s question, asked before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from indexer.codes import table
from indexer.hiding import LEVELS
from indexer.manifest import Context, StudyManifest
from indexer.report import Coded, Order, Organization, Report, Visibility
from indexer.study import Address, Series, Study
from security.errors import BadInput
from security.identity import Ins, PatientIdentity

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The tenant's part of a manifest."""

    institution: Organization
    address: Address


def assemble(
    reports: Sequence[Report], envelope_ins: Ins | None, study: Study, site: Site, *, domain: str = ""
) -> tuple[StudyManifest, Context]:
    """The manifest of ``study`` and its context.

    ``reports``: the valid ones, oldest first, at least one. ``envelope_ins``: the INS of the newest envelope, the
    only place where its status is stated. ``domain``: OID of the register whose identifier names the patient instead
    (``gate.Rules.domain``); no INS is published then.

    Raises:
        BadInput: ``identity-ins-missing``, ``identity-ins`` a report is about another INS;
            ``identity-patient-id-missing``, ``identity-patient-id`` the same of the domain's identifier;
            ``accession-unknown`` no order of the reports is this study's; ``confidentiality-unknown``.
    """
    newest = reports[-1]
    patient = _named_locally(reports, study, domain) if domain else _named_by_ins(reports, envelope_ins, study)
    orders = dict.fromkeys(order for report in reports for order in orders_of(report, study))
    if not orders:
        raise _refused(study, "none of the orders reported is the one the PACS holds", "accession-unknown")
    series = tuple(map(placed, ordered(study.series)))
    stated = tuple(dict.fromkeys(region for report in reports for region in report.regions))
    timed = _newest(reports, lambda report: report if report.service_start is not None else None) or newest
    manifest = StudyManifest(
        study=study.uid,
        date=study.date,
        time=study.time,
        description=study.description,
        study_id=study.study_id,
        referring_physician=study.referring_physician,
        patient=patient,
        orders=tuple(orders),
        series=series,
        procedures=_procedures(reports),
        regions=stated or coarse(series),
        institution=site.institution,
        address=site.address,
    )
    context = Context(
        visibility=strictest(report.visibility for report in reports),
        confidentiality=_strictest_code(reports, study),
        legal_authenticator=_newest(reports, lambda report: report.legal_authenticator),
        facility_type=_newest(reports, lambda report: report.facility_type),
        practice_setting=_newest(reports, lambda report: report.practice_setting),
        service_start=timed.service_start,
        service_stop=timed.service_stop,
        language=newest.language,
    )
    return manifest, context


def _named_by_ins(reports: Sequence[Report], envelope_ins: Ins | None, study: Study) -> PatientIdentity:
    if envelope_ins is None:
        raise _refused(study, "no INS was stated for it", "identity-ins-missing")
    if any((r.patient.ins and r.patient.ins.matricule) != envelope_ins.matricule for r in reports):
        raise _refused(study, "its reports are about more than one INS", "identity-ins")
    newest = reports[-1].patient
    return PatientIdentity(traits=newest.traits, ins=envelope_ins, local_ids=newest.local_ids)


def _named_locally(reports: Sequence[Report], study: Study, domain: str) -> PatientIdentity:
    """The patient with the identifier of ``domain`` first, which names them."""
    stated = [{local.value for local in report.patient.local_ids if local.issuer == domain} for report in reports]
    if not all(len(values) == 1 for values in stated):
        raise _refused(
            study, "a report states no single identifier of the patient domain", "identity-patient-id-missing"
        )
    if len(set.union(*stated)) != 1:
        raise _refused(study, "its reports are about more than one patient", "identity-patient-id")
    newest = reports[-1].patient
    naming = [local for local in newest.local_ids if local.issuer == domain]
    others = [local for local in newest.local_ids if local.issuer != domain]
    return PatientIdentity(traits=newest.traits, local_ids=(*dict.fromkeys(naming), *others))


def orders_of(report: Report, study: Study) -> tuple[Order, ...]:
    """The report's orders that ``study`` fulfils: all of them when it is the only study, else those with the
    accession number the PACS holds for it (exam F: one report, two orders, two studies)."""
    if len(report.studies) == 1:
        return report.orders
    return tuple(order for order in report.orders if order.accession_number == study.accession_number)


def strictest(visibilities: Iterable[Visibility]) -> Visibility:
    """What remains visible when every one of them is obeyed.

    ``changes_confidentiality`` speaks of a message, not of the exam: it is never carried over.
    """
    stated = tuple(visibilities)
    return Visibility(
        masked_to_professionals=any(v.masked_to_professionals for v in stated),
        invisible_to_patient=any(v.invisible_to_patient for v in stated),
        invisible_to_guardians=any(v.invisible_to_guardians for v in stated),
        secret_connection=any(v.secret_connection for v in stated),
        for_index=all(v.for_index for v in stated),
    )


def _strictest_code(reports: Sequence[Report], study: Study) -> str:
    codes = {report.confidentiality for report in reports}
    if not codes <= set(LEVELS):
        raise _refused(study, "a report states an unknown confidentialityCode", "confidentiality-unknown")
    return max(codes, key=LEVELS.index)


def _procedures(reports: Sequence[Report]) -> tuple[Coded, ...]:
    """The procedure of the newest report that states one, and its local codes behind it."""
    stating = next((report for report in reversed(reports) if report.procedure is not None), None)
    if stating is None or stating.procedure is None:
        return ()
    return tuple(dict.fromkeys((stating.procedure, *stating.procedures_local)))


def _newest(reports: Sequence[Report], stated: Callable[[Report], T | None]) -> T | None:
    """The value of the newest report that states one."""
    return next((value for report in reversed(reports) if (value := stated(report)) is not None), None)


def ordered(series: Iterable[Series]) -> tuple[Series, ...]:
    """Series, and instances in each, by (number, UID); those without a number last."""
    ranked = sorted(series, key=lambda one: (_rank(one.number), one.uid))
    return tuple(
        replace(one, instances=tuple(sorted(one.instances, key=lambda i: (_rank(i.number), i.sop_instance))))
        for one in ranked
    )


def placed(series: Series) -> Series:
    """The series with the coded region that BodyPartExamined stands for (PS3.16 Annex L)."""
    known = table("body-part")
    code = known.aliases.get(series.body_part.strip().upper())
    return series if series.region is not None or code is None else replace(series, region=known.coded(code))


def coarse(series: Iterable[Series]) -> tuple[Coded, ...]:
    """The coarse regions in which the series' regions lie, in series order (CID IHE-MADO1)."""
    fine = table("body-part")
    regions = [one.region for one in series if one.region is not None and one.region.system == fine.system]
    codes = [fine.coarse[region.code] for region in regions if region.code in fine.coarse]
    return tuple(table("region").coded(code) for code in dict.fromkeys(codes))


def _rank(number: int | None) -> float:
    return math.inf if number is None else number


def _refused(study: Study, why: str, code: str) -> BadInput:
    return BadInput(f"study {study.uid}: {why}", code=code, hint="correct the report in the source and send it again")
