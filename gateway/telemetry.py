"""What the process says about itself: its log and its metrics.

Invariants of the log:

* one event is one line, whatever was put into it: every character that is not printable is escaped, in JSON so
  that a parser reads back exactly what was logged (T31);
* no patient value and no secret: fields with a telling name are blanked, values that are neither plain nor ours
  show their type only, an exception shows its place and type but the message only of a ``Fault``, whose
  message is clean by contract (FF-39, T34);
* other libraries' records join the same stream from WARNING on, without texts that may quote data.

Invariants of the metrics:

* what describes the queue comes from the database at the moment of the scrape, never from memory (I18);
* no label takes a value from outside: each is folded into a fixed or a bounded set.

The audit trail is elsewhere (``security.audit``) and cannot be switched off.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from structlog.typing import EventDict, WrappedLogger

from gateway.settings import LogSettings
from security.clock import SystemClock
from security.errors import Fault
from security.outbox.forecast import Forecast
from security.outbox.jobs import LAG_BOUNDS_S
from security.outbox.port import JobClass
from security.outbox.states import State

BLANKED: Final = "[removed]"
_TEXT_MAX: Final = 2000
_NESTING_MAX: Final = 6
_FRAMES_MAX: Final = 12
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# fmt: off
SENSITIVE: Final = frozenset({
    # who
    "name", "names", "surname", "family", "familyname", "given", "givenname", "givennames", "firstname", "lastname",
    "firstgivenname", "birthname", "usedname", "usedgivenname", "birthdate", "birthplace", "dateofbirth", "dob",
    "sex", "gender", "street", "postaladdress", "city", "zip", "phone", "telephone", "email",
    # identifiers
    "ins", "nir", "nia", "nss", "ssn", "matricule", "ipp", "mrn", "localid", "localids", "identifier", "identity",
    "traits", "accession", "accessionnumber", "otherpatientids", "otherpatientnames", "sourcepatientid",
    "sourcepatientinfo",
    # whole or quoted contents
    "body", "cda", "comment", "comments", "content", "dataset", "dicom", "document", "er7", "frame", "hl7", "left",
    "message", "obx", "payload", "pid", "pn", "raw", "report", "right", "text", "value", "xml",
    # secrets
    "apikey", "authorization", "cookie", "credential", "credentials", "kek", "key", "passphrase", "password",
    "privatekey", "secret", "setcookie", "token",
})
# fmt: on
"""Field names, in lower case without separators, whose value never reaches the log; nor does any that
begins with ``patient``. A field blanked without need costs a word; one missed costs a person."""


def _is_sensitive(name: str) -> bool:
    folded = re.sub(r"[^a-z0-9]", "", name.lower())
    return folded in SENSITIVE or folded.startswith("patient")


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911  one table, one return per row
    """A value as the log may show it: plain kinds as they are, the rest by the name of its type."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return str(value) if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]}…(+{len(value) - _TEXT_MAX})"
        case Enum():
            return value.name
        case datetime():
            return value.isoformat()
        case Path() | Fault():
            return str(value)
        case bytes() | bytearray():
            return f"<{len(value)} bytes>"
        case Mapping() if depth < _NESTING_MAX:
            return {str(k): BLANKED if _is_sensitive(str(k)) else _plain(v, depth + 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset() if depth < _NESTING_MAX:
            return [_plain(item, depth + 1) for item in value]
        case _:
            return f"<{type(value).__name__}>"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what led to it, as a traceback would tell."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _told(error: BaseException) -> list[dict[str, Any]]:
    """Type and places of an error and its causes. Messages of foreign errors may quote data and stay out."""
    told: list[dict[str, Any]] = []
    for cause in _causes(error):
        frames = traceback.extract_tb(cause.__traceback__)[-_FRAMES_MAX:]
        entry: dict[str, Any] = {"type": type(cause).__name__}
        if isinstance(cause, Fault):
            entry["message"] = str(cause)
        entry["at"] = [f"{'/'.join(Path(f.filename).parts[-2:])}:{f.lineno} {f.name}" for f in frames]
        if isinstance(cause, BaseExceptionGroup):
            entry["of"] = [_told(inner) for inner in cause.exceptions]
        told.append(entry)
    return told


def _error_of(exc_info: Any) -> BaseException | None:
    """The exception meant by the three forms that logging knows: an error, its triple, or True."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return _error_of(exc_info[1])
    return sys.exc_info()[1] if exc_info else None


def _cleaned(_logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
    """The last processor before rendering: stamp and level first, then only what may be shown."""
    error = _error_of(fields.pop("exc_info", None))
    fields.pop("stack_info", None)
    head = {
        "ts": SystemClock().now().isoformat(timespec="milliseconds"),
        "level": method,
        "event": _plain(str(fields.pop("event", ""))),
    }
    shown: EventDict = head | _plain({name: value for name, value in fields.items() if name not in head})
    if error is not None:
        shown["exception"] = _told(error)
    return shown


def _escaped(text: str) -> str:
    """The text with every character that is not printable as its JSON escape: controls, ANSI, bidi, U+2028."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _as_json(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return _escaped(json.dumps(fields, ensure_ascii=False))


def _as_text(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    head = f"{fields.pop('ts')} {fields.pop('level'):<8} {_escaped(fields.pop('event'))}"
    return " ".join([head, *(f"{_escaped(name)}={_word(value)}" for name, value in fields.items())])


def _word(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[^\s\"=]+", value):
        return _escaped(value)
    return _escaped(json.dumps(value, ensure_ascii=False))


class _Forward(logging.Handler):
    """Brings the standard library's records into the same stream.

    Our own packages' records keep their text and their extra fields. Of another library's record the text is
    shown only as its template, and only when it has arguments: a text already filled in may quote a data set
    (pydicom and pynetdicom do).
    """

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "exc_info": record.exc_info}
        if record.name.partition(".")[0] in _OURS:
            event = record.getMessage()
            fields |= {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
        else:
            event = "library-record"
            fields |= {"at": f"{record.module}:{record.lineno}", "said": str(record.msg) if record.args else ""}
        structlog.get_logger().log(min(record.levelno // 10 * 10, logging.CRITICAL), event, **fields)


_OURS: Final = ("gateway", "indexer", "sampler", "security")
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event", "level"}


def configure_logging(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """Send every event, foreign record, warning and unhandled error to ``stream`` (default: standard error)."""
    out = stream or sys.stderr
    as_text = settings.format == "text" or (settings.format == "auto" and out.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _cleaned, _as_text if as_text else _as_json],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    root.setLevel(logging.WARNING)
    for package in _OURS:
        logging.getLogger(package).setLevel(_LEVELS[settings.level])
    sys.excepthook = _unhandled
    threading.excepthook = _unhandled_in_thread
    sys.unraisablehook = _unraisable
    warnings.showwarning = _warned


def _unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        structlog.get_logger().critical("unhandled-error", exc_info=error)


def _unhandled_in_thread(args: threading.ExceptHookArgs) -> None:
    structlog.get_logger().critical(
        "unhandled-error", exc_info=args.exc_value, thread=args.thread and args.thread.name
    )


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    structlog.get_logger().error("unraisable-error", exc_info=args.exc_value)


def _warned(  # noqa: PLR0917  the signature of warnings.showwarning
    message: Warning | str,  # noqa: ARG001  may quote data
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001  the log is the one place
    line: str | None = None,  # noqa: ARG001  the source line says nothing that the place does not
) -> None:
    structlog.get_logger().warning(
        "library-warning", category=category.__name__, at=f"{'/'.join(Path(filename).parts[-2:])}:{lineno}"
    )


BREAKER_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}
_REASONS_MAX: Final = 64
_ACKNOWLEDGMENTS: Final = frozenset({"AA", "AE", "AR"})
_ANSWERS: Final = frozenset({"found", "absent", "unknown"})
_DICOM: Final = {
    "association": frozenset({"accepted", "rejected", "dropped", "violation", "handshake-failed"}),
    "object": frozenset({"new", "same", "revision", "quarantined", "refused", "no-room", "failed"}),
    "ended": frozenset({"released", "aborted", "closed", "too slow", "violation", "rejected", "stopped"}),
}
_OUTCOMES: Final = {
    "accepted": "accepted",
    "rejected": "rejected",
    "notsent": "not-sent",
    "ambiguous": "ambiguous",
    "entryfound": "found",
    "entryabsent": "absent",
    "entryunknown": "unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the database says about the queue at one moment (I18); absent rows count as none.

    ``depth``: jobs not yet over by class and state. ``oldest_age_s``: age of the oldest unpublished job by class.
    ``blocked``: lanes that stand still, by reason. ``lags``: published jobs by
    time from acceptance to publication: bound of ``LAG_BOUNDS_S`` or infinity → jobs at or under it and above the
    bound before.
    ``lag_sum_s``: their sum. ``breakers``: endpoint → ``closed``, ``half-open`` or ``open``; the one field that is
    the running process's own. ``paused``: tenants of which nothing begins.
    ``ahead``: what lies ahead of each tenant. ``exposed_s``: seconds of work on no second copy, by tenant and class
    of data (reliability §1). ``declared_s``: RPO and RTO, by tenant; ``drilled_s``: as the last drill measured them.
    ``received``: objects of the DICOM inbox and age
    of the oldest, by tenant and keeping. ``feeds``: audit records that a repository lacks and age of the oldest, by
    name.
    """

    depth: Mapping[tuple[JobClass, State], int] = field(default_factory=dict)
    oldest_age_s: Mapping[JobClass, float] = field(default_factory=dict)
    blocked: Mapping[str, int] = field(default_factory=dict)
    lags: Mapping[float, int] = field(default_factory=dict)
    lag_sum_s: float = 0.0
    breakers: Mapping[str, str] = field(default_factory=dict)
    paused: tuple[str, ...] = ()
    ahead: Mapping[str, Forecast] = field(default_factory=dict)
    exposed_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    declared_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    drilled_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    received: Mapping[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    feeds: Mapping[str, tuple[int, float]] = field(default_factory=dict)


class Metrics:
    """The process's own counters, and the page that joins them with a snapshot of the database."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._hl7 = Counter(
            "hl7_messages", "HL7 messages answered, by acknowledgment.", ["code"], registry=self.registry
        )
        self._index = Counter("index_requests", "Index exchanges, by outcome.", ["outcome"], registry=self.registry)
        self._pacs = Counter("pacs_questions", "Questions to a PACS, by answer.", ["answer"], registry=self.registry)

        self._dicom = Counter(
            "dicom_events", "DICOM door: associations and objects, by outcome.", ["what", "outcome"],
            registry=self.registry,
        )  # fmt: skip

    def dicom(self, what: str, outcome: str) -> None:
        """Something happened at the DICOM door; what is not of the fixed sets counts as an operation or as other."""
        if what in _DICOM:
            known = outcome if outcome in _DICOM[what] else "other"
            self._dicom.labels(what, known).inc()
        else:
            self._dicom.labels("operation", "success" if outcome == "success" else "failure").inc()

    def hl7_message(self, code: str) -> None:
        """One message was answered with MSA-1 ``code``."""
        self._hl7.labels(code if code in _ACKNOWLEDGMENTS else "other").inc()

    def pacs_question(self, answer: str) -> None:
        """One question to a PACS was answered; ``answer``: the type's name in lower case (indexer.study)."""
        self._pacs.labels(answer if answer in _ANSWERS else "other").inc()

    def index_request(self, outcome: str) -> None:
        """One exchange with the index ended; ``outcome``: the answer type's name in lower case (indexer.ports)."""
        self._index.labels(_OUTCOMES.get(outcome, "other")).inc()

    def page(self, snapshot: Snapshot | None) -> bytes:
        """The page of ``/metrics`` (Prometheus text format 0.0.4). None: the database could not be read; the
        queue's series are then absent rather than stale, and ``queue_readable`` is 0."""
        queue = CollectorRegistry()
        queue.register(_Families(snapshot))
        return generate_latest(self.registry) + generate_latest(queue)


class _Families:
    """A snapshot as metric families."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        readable = GaugeMetricFamily("queue_readable", "1 when the queue's series come from the database now.")
        readable.add_metric([], float(self._snapshot is not None))
        yield readable
        if self._snapshot is not None:
            yield from self._queue(self._snapshot)

    def _queue(self, snapshot: Snapshot) -> Iterable[Metric]:
        depth = GaugeMetricFamily("queue_depth", "Jobs by class and state.", labels=["class", "state"])
        for (job_class, state), count in sorted(snapshot.depth.items()):
            depth.add_metric([job_class.name, state.value], count)
        yield depth
        oldest = GaugeMetricFamily(
            "queue_oldest_unpublished_age_seconds", "Age of the oldest unpublished job.", labels=["class"]
        )
        for job_class in JobClass:
            oldest.add_metric([job_class.name], snapshot.oldest_age_s.get(job_class, 0.0))
        yield oldest
        blocked = GaugeMetricFamily("lane_blocked", "Lanes that a person or an event must lift.", labels=["reason"])
        for reason, lanes in _bounded(snapshot.blocked).items():
            blocked.add_metric([reason], lanes)
        yield blocked
        paused = GaugeMetricFamily("queue_paused", "1 while nothing of the tenant begins.", labels=["tenant"])
        for tenant in snapshot.paused:
            paused.add_metric([tenant], 1)
        yield paused
        yield from _ahead(snapshot.ahead)
        yield from _exposed(snapshot)
        yield from _received(snapshot)
        yield from _feeds(snapshot)
        breakers = GaugeMetricFamily("breaker_state", "0 closed, 1 half-open, 2 open.", labels=["endpoint"])
        for endpoint, state_name in sorted(snapshot.breakers.items()):
            breakers.add_metric([endpoint], BREAKER_STATES[state_name])
        yield breakers
        buckets, total = [], 0
        for bound in (*LAG_BOUNDS_S, math.inf):
            total += snapshot.lags.get(bound, 0)
            buckets.append(("+Inf" if bound == math.inf else f"{bound:.1f}", float(total)))
        yield HistogramMetricFamily(
            "publish_lag_seconds",
            "Seconds from acceptance to publication.",
            buckets=buckets,
            sum_value=snapshot.lag_sum_s,
        )


def _ahead(ahead: Mapping[str, Forecast]) -> Iterable[Metric]:
    """The forecast of each tenant (reliability §5)."""
    drain = GaugeMetricFamily(
        "queue_drain_seconds", "Seconds until the backlog is done, +Inf: it grows.", labels=["tenant", "q"]
    )
    late = GaugeMetricFamily(
        "queue_predicted_late", "Jobs whose deadline lies ahead and will be missed.", labels=["tenant", "class"]
    )
    overdue = GaugeMetricFamily("queue_overdue", "Jobs whose deadline has passed.", labels=["tenant", "class"])
    growth = GaugeMetricFamily("queue_growth_per_hour", "Jobs by which the backlog grows.", labels=["tenant"])
    error = GaugeMetricFamily(
        "queue_forecast_error", "Median absolute error of the last finished forecasts.", labels=["tenant"]
    )
    for tenant, found in sorted(ahead.items()):
        for q, seconds in zip(("0.1", "0.5", "0.9"), found.drain_s, strict=True):
            drain.add_metric([tenant, q], seconds)
        for job_class in JobClass:
            late.add_metric([tenant, job_class.name], found.late[job_class])
            overdue.add_metric([tenant, job_class.name], found.overdue[job_class])
        growth.add_metric([tenant], found.growth_per_h)
        if found.error is not None:
            error.add_metric([tenant], found.error)
    yield from (drain, late, overdue, growth, error)


def _exposed(snapshot: Snapshot) -> Iterable[Metric]:
    """What a lost machine takes along, beside what each tenant declared (reliability §1)."""
    exposed = GaugeMetricFamily(
        "rpo_exposure_seconds", "Age of the oldest work on no second copy.", labels=["tenant", "dataclass"]
    )
    for (tenant, data_class), seconds in sorted(snapshot.exposed_s.items()):
        exposed.add_metric([tenant, data_class], seconds)
    rpo = GaugeMetricFamily("rpo_declared_seconds", "Work that may be lost.", labels=["tenant"])
    rto = GaugeMetricFamily("rto_declared_seconds", "Time the service may be away.", labels=["tenant"])
    for tenant, (rpo_s, rto_s) in sorted(snapshot.declared_s.items()):
        rpo.add_metric([tenant], rpo_s)
        rto.add_metric([tenant], rto_s)
    lost = GaugeMetricFamily(
        "rpo_drilled_seconds", "Work that the backup of the last drill lacked.", labels=["tenant"]
    )
    back = GaugeMetricFamily("rto_drilled_seconds", "How long the last restore drill took.", labels=["tenant"])
    for tenant, (rpo_s, rto_s) in sorted(snapshot.drilled_s.items()):
        lost.add_metric([tenant], rpo_s)
        back.add_metric([tenant], rto_s)
    yield from (exposed, rpo, rto, lost, back)


def _feeds(snapshot: Snapshot) -> Iterable[Metric]:
    """What the audit repositories lack."""
    number = GaugeMetricFamily("audit_feed_records", "Audit records that the repository lacks.", labels=["feed"])
    age = GaugeMetricFamily("audit_feed_oldest_age_seconds", "Age of the oldest of them.", labels=["feed"])
    for name, (records, oldest_s) in sorted(snapshot.feeds.items()):
        number.add_metric([name], records)
        age.add_metric([name], oldest_s)
    yield from (number, age)


def _received(snapshot: Snapshot) -> Iterable[Metric]:
    """What lies in the DICOM inboxes: kept until the PACS shows it, or in quarantine."""
    objects = GaugeMetricFamily("dicom_inbox_objects", "Received objects kept.", labels=["tenant", "keeping"])
    oldest = GaugeMetricFamily(
        "dicom_inbox_oldest_age_seconds", "Age of the oldest of them.", labels=["tenant", "keeping"]
    )
    for (tenant, keeping), (number, age_s) in sorted(snapshot.received.items()):
        objects.add_metric([tenant, keeping], number)
        oldest.add_metric([tenant, keeping], age_s)
    yield from (objects, oldest)


def _bounded(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent reasons under their own name, the others together: a label must not grow for ever."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ranked[:_REASONS_MAX])
    rest = sum(count for _, count in ranked[_REASONS_MAX:])
    return kept | ({"other": kept.get("other", 0) + rest} if rest else {})
