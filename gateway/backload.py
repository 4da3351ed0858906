"""``poterne backload``: exams of a past period, at the lowest priority, after a look at what that would do.

An exam is published on a validated report, old or new. So the period is asked of the PACS day by day, each study is
looked up in what we hold, and the reports a folder holds (one HL7 message per file, as the RIS exports them) are
matched with the studies that lack one. Those messages go in by the same door as any other: same gate, same answers,
the same message twice is one effect, so a run that was cut short is simply run again.

Invariants:

* nothing is changed without ``go``;
* a day the PACS does not answer cleanly is named and left out: a short list is never taken for a whole one; after
  three such days in a row the rest is not asked any more and named likewise;
* the most recent exams go first: they are the priors that will be looked for.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.hl7.reading import MessageRefused
from gateway.hl7.report_message import read_report_message
from gateway.i18n import N_, Words
from gateway.peers import pacs_source
from gateway.settings import TenantSettings
from indexer.study import Unknown
from indexer.timeline import ExamState, deciding_job, exam_state
from security.errors import BadInput
from security.outbox import jobs
from security.parse.hl7 import parse_message
from security.store.port import ReadTx

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
SILENT_DAYS_MAX = 3
LINES_MAX = 50
"""Files a list shows; the rest is counted, and all of them are in ``--json``."""
_NOT_ASKED = "not-asked"
Order = Callable[[str], Awaitable[tuple[str, str]]]
"""One message in Base64 → the code of its answer and the reason against it."""


class Stand(StrEnum):
    """Where a study of the period stands."""

    INDEXED = "indexed"
    UNDER_WAY = "under-way"
    WITHDRAWN = "withdrawn"
    TO_LOAD = "to-load"
    WITHOUT_REPORT = "without-report"


_SAID = {
    Stand.INDEXED: N_("already in the index"),
    Stand.UNDER_WAY: N_("under way: waiting, held or failed"),
    Stand.WITHDRAWN: N_("withdrawn: left as they are"),
    Stand.TO_LOAD: N_("with a report in the folder: to be queued, at the lowest priority"),
    Stand.WITHOUT_REPORT: N_("without a report: let the RIS export or send their reports"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the PACS. ``unknown``: why its list is not known, "" when it is."""

    day: date
    studies: tuple[str, ...]
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFile:
    """One message of the folder. ``unusable``: why it cannot be read as a report, "" when it can."""

    path: Path
    studies: tuple[str, ...]
    unusable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a run would do. ``files``: to be sent, most recent exam first; ``left``: readable reports that are not
    sent, about other exams or about those that are known."""

    days: tuple[Day, ...]
    stands: dict[str, Stand]
    files: tuple[ReportFile, ...]
    left: int
    unusable: tuple[ReportFile, ...]

    @property
    def counts(self) -> Counter[Stand]:
        return Counter(self.stands.values())

    @property
    def unknown(self) -> tuple[Day, ...]:
        return tuple(day for day in self.days if day.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of the messages that were sent: files by code of the answer, and those not answered AA."""

    answers: Counter[str]
    refused: tuple[tuple[Path, str], ...]


async def ask_pacs(
    tenant: TenantSettings, first: date, last: date, progress: Callable[[date], None] = lambda _day: None
) -> tuple[Day, ...]:
    """Every day of the period, most recent first, as all PACS of the tenant list it."""
    sources = [pacs_source(name, pacs) for name, pacs in tenant.pacs.items()]
    try:
        days: list[Day] = []
        for day in _days(first, last):
            if len(days) >= SILENT_DAYS_MAX and all(one.unknown for one in days[-SILENT_DAYS_MAX:]):
                days.append(Day(day=day, studies=(), unknown=_NOT_ASKED))
                continue
            progress(day)
            lists = await asyncio.gather(*(source.studies_on(day) for source in sources))
            unknown = next((f"{one.reason}: {one.detail}" for one in lists if isinstance(one, Unknown)), "")
            studies = dict.fromkeys(s.uid for one in lists if not isinstance(one, Unknown) for s in one)
            days.append(Day(day=day, studies=() if unknown else tuple(studies), unknown=unknown))
        return tuple(days)
    finally:
        for source in sources:
            await source.close()


def read_reports(folder: Path, tenant: TenantSettings) -> list[ReportFile]:
    """Every file of the folder, read as one HL7 message with a report."""
    return [_read(path, tenant) for path in sorted(folder.rglob("*")) if path.is_file()]


def known_stands(tx: ReadTx, tenant: str, studies: Sequence[str]) -> dict[str, Stand]:
    """The studies that we have a job for, and where they stand."""
    stands = {}
    for study in studies:
        job = deciding_job(jobs.lane_jobs(tx, tenant=tenant, lane=study))
        if job is not None:
            state = exam_state(job)
            stands[study] = {
                ExamState.INDEXED: Stand.INDEXED,
                ExamState.ACCEPTED: Stand.INDEXED,
                ExamState.WITHDRAWN: Stand.WITHDRAWN,
            }.get(state, Stand.UNDER_WAY)
    return stands


def preview(days: tuple[Day, ...], known: dict[str, Stand], files: Sequence[ReportFile]) -> Preview:
    """What a run would do: pure."""
    when = {study: day.day for day in days for study in day.studies}
    wanted = [
        file
        for file in files
        if not file.unusable and any(study in when and study not in known for study in file.studies)
    ]
    with_report = {study for file in wanted for study in file.studies}
    stands = {
        study: known.get(study, Stand.TO_LOAD if study in with_report else Stand.WITHOUT_REPORT) for study in when
    }
    newest = sorted(wanted, key=lambda file: max(when[s] for s in file.studies if s in when), reverse=True)
    return Preview(
        days=days,
        stands=stands,
        files=tuple(newest),
        left=sum(not file.unusable for file in files) - len(wanted),
        unusable=tuple(file for file in files if file.unusable),
    )


async def load(found: Preview, order: Order, progress: Callable[[int, int], None] = lambda _n, _of: None) -> Loaded:
    """Send the messages, one after the other; what each was answered."""
    answers: Counter[str] = Counter()
    refused = []
    for number, file in enumerate(found.files, start=1):
        message = base64.b64encode(await asyncio.to_thread(file.path.read_bytes)).decode()
        code, reason = await order(message)
        answers[code] += 1
        if code != "AA":
            refused.append((file.path, reason))
        progress(number, len(found.files))
    return Loaded(answers=answers, refused=tuple(refused))


def facts(found: Preview, loaded: Loaded | None) -> dict[str, Any]:
    """Preview and result as JSON values."""
    told: dict[str, Any] = {
        "studies": dict(found.stands),
        "counts": dict(found.counts),
        "unknown_days": {day.day.isoformat(): day.unknown for day in found.unknown},
        "files": [str(file.path) for file in found.files],
        "left": found.left,
        "unusable": {str(file.path): file.unusable for file in found.unusable},
    }
    if loaded is not None:
        told["answers"] = dict(loaded.answers)
        told["refused"] = {str(path): reason for path, reason in loaded.refused}
    return told


def preview_text(found: Preview, words: Words, *, first: date, last: date) -> Iterator[str]:
    """The preview as lines for a person."""
    yield words.count(
        "From {first} to {last}: {n} exam in the PACS",
        "From {first} to {last}: {n} exams in the PACS",
        len(found.stands),
        first=first.isoformat(),
        last=last.isoformat(),
    )
    for stand in Stand:
        number = found.counts[stand]
        if number:
            yield f"  {words.number(number):>8}  {words(_SAID[stand])}"
    for since, until, why in _runs(found.unknown):
        if why == _NOT_ASKED:
            yield words("  {since} to {until}: not asked, the PACS gives no clean list", since=since, until=until)
        else:
            yield words("  {day}: the PACS gave no clean list ({why}); run this day again", day=since, why=why)
    if found.left:
        yield words.count(
            "  {n} report of the folder is left: its exam is known already, or not of this period",
            "  {n} reports of the folder are left: their exams are known already, or not of this period",
            found.left,
        )
    for file in found.unusable[:LINES_MAX]:
        yield words("  {file}: not usable as a report ({why})", file=file.path, why=file.unusable)
    yield from _rest(len(found.unusable), words)


def loaded_text(loaded: Loaded, words: Words) -> Iterator[str]:
    """What became of the messages, as lines for a person."""
    taken = loaded.answers["AA"]
    yield words.count("{n} report taken in (AA)", "{n} reports taken in (AA)", taken)
    for path, reason in loaded.refused[:LINES_MAX]:
        yield words("  {file}: refused or held ({why})", file=path, why=reason)
    yield from _rest(len(loaded.refused), words)


def _runs(days: Sequence[Day]) -> Iterator[tuple[str, str, str]]:
    """First day, last day and why; days not asked together, the others one by one."""
    asked = [day for day in days if day.unknown != _NOT_ASKED]
    skipped = [day.day for day in days if day.unknown == _NOT_ASKED]
    for day in asked:
        yield day.day.isoformat(), day.day.isoformat(), day.unknown
    if skipped:
        yield min(skipped).isoformat(), max(skipped).isoformat(), _NOT_ASKED


def _rest(number: int, words: Words) -> Iterator[str]:
    if number > LINES_MAX:
        yield words("  … and {n} more: --json lists them all", n=words.number(number - LINES_MAX))


def _days(first: date, last: date) -> Iterator[date]:
    """Most recent first."""
    day = last
    while day >= first:
        yield day
        day -= timedelta(days=1)


def _read(path: Path, tenant: TenantSettings) -> ReportFile:
    if path.stat().st_size > MESSAGE_BYTES_MAX:
        return ReportFile(path=path, studies=(), unusable="too-large")
    try:
        message = parse_message(path.read_bytes(), fallback=tenant.hl7.fallback_charset)
        stated = read_report_message(message, timezone=ZoneInfo(tenant.timezone), received_at=datetime.now(UTC))
    except MessageRefused as refused:
        return ReportFile(path=path, studies=(), unusable=", ".join(dict.fromkeys(p.code for p in refused.problems)))
    except BadInput as fault:
        return ReportFile(path=path, studies=(), unusable=fault.code)
    return ReportFile(path=path, studies=tuple(str(study) for study in stated.report.studies))
