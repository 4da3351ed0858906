"""``poterne pacs probe``: asks a PACS what it can do, keeps the record, says what it means and what changed.

Invariants:

* nothing is read about patients: it asks for a study nobody has and, when one is configured, for the control study,
  of which it keeps no value; nothing is stored, moved or changed in the PACS;
* bounded: at most ``DEADLINE_S`` seconds, at most ``PARALLEL_MAX`` connections, and none stays open;
* a PACS that does not answer leaves no record: what was known of it still stands.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from pydantic import TypeAdapter

from gateway.bridge import Bridge, Call
from gateway.i18n import Words
from gateway.lifecycle import unless
from gateway.pacs import capability as record
from gateway.pacs import probe_dimse
from gateway.pacs.capability import PARALLEL_MAX, WEEK, Capability, Difference, Meaning
from gateway.pacs.dicomweb import DicomWebPeer
from gateway.pacs.dimse import DimsePeer
from gateway.pacs.door import Inconclusive
from gateway.pacs.http import HttpAnswer, HttpExchange, HttpPeer
from gateway.pacs.orthanc import OrthancPeer
from security.clock import Clock
from security.errors import BadInput, Fault, Unavailable
from security.identity import Uid
from security.parse.json import member
from security.store.port import Store, Tx

log = structlog.get_logger()

Peer = OrthancPeer | DicomWebPeer | DimsePeer

DEADLINE_S: Final = 60.0
SILENCE_S: Final = 3.0
_QUESTIONS: Final = 3
_JSON: Final = ("application/json",)
_DICOM_JSON: Final = ("application/dicom+json", "application/json")
_COUNTS: Final = {"00201206": "NumberOfStudyRelatedSeries", "00201208": "NumberOfStudyRelatedInstances"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """One probe. ``fault``: reason code when the PACS gave no record, "" otherwise; ``detail``: one sentence.

    ``previous``: when the last record was made, None for the first.
    """

    tenant: str
    pacs: str
    at: datetime
    capability: Capability | None = None
    fault: str = ""
    detail: str = ""
    previous: datetime | None = None
    differences: tuple[Difference, ...] = ()
    meanings: tuple[Meaning, ...] = ()


_REPORT: Final = TypeAdapter(ProbeReport)


async def probe(peer: Peer, *, parallel: bool = True, silence_s: float = SILENCE_S) -> Capability:
    """What ``peer`` can do. ``parallel``: also try several questions at once. ``silence_s``: how long a DICOM
    association is left without a question.

    Raises:
        Unavailable: it does not answer, or refuses us; the code is that of the adapters.
    """
    nobody = Uid(f"2.25.{uuid.uuid4().int}")
    deadline_s = min(DEADLINE_S, peer.deadline_s)
    bridge = Bridge(f"{peer.name}-probe", workers=PARALLEL_MAX)
    try:
        if isinstance(peer, DimsePeer):
            return await bridge.run(
                probe_dimse.observe, peer, nobody, parallel, silence_s, deadline_s=deadline_s + silence_s
            )
        seen = await bridge.run(_observe_http, peer, nobody, deadline_s=deadline_s)
        if parallel:
            asked = (bridge.run(_ping, peer, nobody, deadline_s=deadline_s) for _ in range(PARALLEL_MAX))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            seen["parallel"] = sum(answer is True for answer in answers)
        return Capability(**seen)
    except Inconclusive as none:
        raise _no_record(peer, none.reason, none.detail) from None
    except BadInput as shape:
        raise _no_record(peer, "bad-answer", shape.args[0]) from None
    finally:
        await bridge.close()


async def run_probe(
    *,
    tenant: str,
    peer: Peer,
    store: Store,
    clock: Clock,
    parallel: bool = True,
    silence_s: float = SILENCE_S,
) -> ProbeReport:
    """Probe and keep the record. Never raises for what a peer does: that is the report's ``fault``."""
    last = await store.read(lambda tx: record.latest(tx, tenant=tenant, pacs=peer.name))
    previous = last.at if last else None
    try:
        found = await probe(peer, parallel=parallel, silence_s=silence_s)
    except Unavailable as fault:
        return ProbeReport(
            tenant=tenant, pacs=peer.name, at=clock.now(), fault=fault.code, detail=fault.args[0], previous=previous
        )
    now = clock.now()

    def keep(tx: Tx) -> None:
        record.record(tx, tenant=tenant, pacs=peer.name, capability=found, now=now)

    await store.write(keep)
    return ProbeReport(
        tenant=tenant,
        pacs=peer.name,
        at=now,
        capability=found,
        previous=previous,
        differences=record.differences(last.capability, found) if last else (),
        meanings=record.meanings(found, questions_max=peer.questions_max),
    )


def report_facts(report: ProbeReport) -> Mapping[str, Any]:
    """The report as JSON values."""
    facts: dict[str, Any] = _REPORT.dump_python(report, mode="json")
    return facts


def report_from(facts: Mapping[str, Any]) -> ProbeReport:
    """The report of ``report_facts``."""
    return _REPORT.validate_python(facts)


def report_text(report: ProbeReport, words: Words) -> str:
    """The report for people."""
    where = words("PACS {pacs} of {tenant}", pacs=report.pacs, tenant=report.tenant)
    if report.capability is None:
        nothing = words("no record")
        return f"{where}: {nothing} [{report.fault}] {report.detail}"
    observed = record.facts(report.capability)
    meant = [meaning.said(words) for meaning in report.meanings] or [words("nothing to change")]
    changed = [one.said(words) for one in report.differences] or [words("nothing has changed")]
    if report.previous is None:
        changed = [words("first record: nothing to compare with")]
    return "\n".join(
        [
            f"{where} ({report.capability.kind})",
            *(f"  {record.told(what, said, words)}" for what, said in observed.items() if said and what != "kind"),
            words("What it means for the configuration:"),
            *(f"  {line}" for line in meant),
            words("Since the last record:"),
            *(f"  {line}" for line in changed),
        ]
    )


class WeeklyProbe:
    """Probes one PACS again when its last record is a week old.

    Args:
        observe: called with ``pacs-changed`` when the PACS is no longer as it was.
        every_s: seconds between two looks at the age of the record, and between two tries.
    """

    def __init__(
        self,
        *,
        tenant: str,
        peer: Peer,
        store: Store,
        clock: Clock,
        observe: Callable[[str], None] = lambda _what: None,
        every_s: float = 3600.0,
    ) -> None:
        self._tenant = tenant
        self._peer = peer
        self._store = store
        self._clock = clock
        self._observe = observe
        self._every_s = every_s

    async def run(self, stop: asyncio.Event) -> None:
        """Look from time to time until ``stop``.

        Raises:
            Broken: the store cannot be used any more.
        """
        while not stop.is_set():
            try:
                await unless(stop, self.step())
            except Unavailable as fault:  # the disk is full: look again, it may not be for ever (F04)
                log.warning("pacs-probe-not-kept", tenant=self._tenant, pacs=self._peer.name, reason=fault.code)
            except Fault:
                raise
            except Exception:  # supervision edge: nothing decides by a probe
                log.exception("pacs-probe-failed", tenant=self._tenant, pacs=self._peer.name)
            try:
                async with asyncio.timeout(self._every_s):
                    await stop.wait()
            except TimeoutError:
                continue

    async def step(self) -> ProbeReport | None:
        """Probe if it is time; None when it is not."""
        last = await self._store.read(lambda tx: record.latest(tx, tenant=self._tenant, pacs=self._peer.name))
        now = self._clock.now()
        if last and last.at <= now < last.at + WEEK:
            return None
        report = await run_probe(tenant=self._tenant, peer=self._peer, store=self._store, clock=self._clock)
        names = {"tenant": self._tenant, "pacs": self._peer.name}
        if report.fault:
            log.warning("pacs-not-probed", **names, reason=report.fault, detail=report.detail)
        for one in report.differences:
            log.warning("pacs-changed", **names, what=one.what, before=one.before, after=one.after)
        if report.differences:
            self._observe("pacs-changed")
        return report


# ── HTTP: on a thread of the bridge ──────────────────────────────────────────────────────────────────────────


def _observe_http(call: Call, peer: OrthancPeer | DicomWebPeer, nobody: Uid) -> dict[str, Any]:
    is_orthanc = isinstance(peer, OrthancPeer)
    with HttpExchange.open(peer, call, media_types=_JSON if is_orthanc else _DICOM_JSON) as exchange:
        probing = _Orthanc(peer, exchange) if is_orthanc else _DicomWeb(peer, exchange)
        seen = probing.observe(nobody)
        times = []
        for _ in range(_QUESTIONS):
            asked_at = time.monotonic()
            answer = _outcome(probing, nobody)
            times.append(time.monotonic() - asked_at)
            seen["empty"] = "ignores-keys" if answer == "rows" else answer
        seen["round_trip_ms"] = round(min(times) * 1000)
        if peer.control is None:
            seen["control"] = "not-configured"
            return seen
        answer = _outcome(probing, peer.control)
        seen["control"] = {"rows": "found", "empty": "missing"}.get(answer, answer)
        if seen["control"] == "found":
            seen |= probing.observe_control(peer.control, seen["features"])
        return seen


def _ping(call: Call, peer: OrthancPeer | DicomWebPeer, nobody: Uid) -> bool:
    is_orthanc = isinstance(peer, OrthancPeer)
    with HttpExchange.open(peer, call, media_types=_JSON if is_orthanc else _DICOM_JSON) as exchange:
        probing = _Orthanc(peer, exchange) if is_orthanc else _DicomWeb(peer, exchange)
        return probing.is_empty(nobody)


def _outcome(probing: _Orthanc | _DicomWeb, study: Uid) -> str:
    """``empty``, ``rows``, or why there was no answer."""
    try:
        return "empty" if probing.is_empty(study) else "rows"
    except Inconclusive as none:
        return none.reason
    except BadInput:
        return "bad-answer"


def _can(question: Callable[[], object]) -> bool:
    """Whether the peer answers cleanly; one that does not answer at all ends the probe."""
    try:
        question()
    except Inconclusive as none:
        if none.reason in {"unreachable", "timeout", "unauthorised"}:
            raise
        return False
    except BadInput:
        return False
    return True


class _Orthanc:
    """Orthanc's REST interface."""

    def __init__(self, peer: HttpPeer, exchange: HttpExchange) -> None:
        self._peer = peer
        self._exchange = exchange

    def observe(self, _nobody: Uid) -> dict[str, Any]:
        version = member(self._exchange.json("GET", "/system").value, "Version", str, what="/system")
        plugins = self._exchange.json("GET", "/plugins").value
        if not isinstance(plugins, list):
            raise Inconclusive("bad-answer", "/plugins did not answer a list")
        nothing = {"Resources": [], "Level": "Study", "Metadata": False}
        return {
            "kind": "orthanc",
            "product": record.stated(f"Orthanc {version}"),
            "plugins": tuple(
                sorted(record.stated(each) for each in plugins if isinstance(each, str) and "." not in each)
            ),
            "features": {
                "bulk-content": _can(lambda: self._exchange.json("POST", "/tools/bulk-content", json=nothing)),
                "changes": _can(lambda: self._exchange.json("GET", "/changes?last")),
            },
            "charset": "UTF-8",
        }

    def is_empty(self, study: Uid) -> bool:
        return not self._exchange.json("POST", "/tools/lookup", data=study.encode()).value

    def observe_control(self, _control: Uid, _features: Mapping[str, bool]) -> dict[str, Any]:
        return {}


class _DicomWeb:
    """QIDO-RS (PS3.18 10.6)."""

    def __init__(self, peer: HttpPeer, exchange: HttpExchange) -> None:
        self._peer = peer
        self._exchange = exchange

    def observe(self, nobody: Uid) -> dict[str, Any]:
        empty = self._search(f"/studies?StudyInstanceUID={nobody}&limit=1")
        return {
            "kind": "dicomweb",
            "features": {
                "empty-is-204": empty.value is None,
                "fuzzy-matching": _can(lambda: self._without_warning(nobody)),
            },
            "charset": "UTF-8",
        }

    def is_empty(self, study: Uid) -> bool:
        return not self._search(f"/studies?StudyInstanceUID={study}&limit=1").value

    def observe_control(self, control: Uid, features: Mapping[str, bool]) -> dict[str, Any]:
        """Paging and counts, on the control study alone."""
        wanted = "&".join(f"includefield={tag}" for tag in _COUNTS)
        rows = self._rows(f"/studies?StudyInstanceUID={control}&{wanted}")
        first, second = (self._rows(f"/studies/{control}/instances?limit=1&offset={offset}") for offset in (0, 1))
        whole = self._rows(f"/studies/{control}/instances?limit=2")
        paging = {} if len(whole) < 2 else {"limit": len(first) == 1, "offset": first != second}
        return {
            "counts": tuple(name for tag, name in _COUNTS.items() if rows and _has_value(rows[0], tag)),
            "features": {**features, **paging},
        }

    def _without_warning(self, nobody: Uid) -> None:
        """A server that does not match fuzzily says so by ``Warning: 299`` (PS3.18 8.3.4.2)."""
        if "299" in self._search(f"/studies?StudyInstanceUID={nobody}&fuzzymatching=true&limit=1").warning:
            raise Inconclusive("warned", "fuzzymatching is not supported")

    def _rows(self, path: str) -> list[Any]:
        value = self._search(path).value
        if not isinstance(value, list | None):
            raise Inconclusive("bad-answer", "a search did not answer a list")
        return value or []

    def _search(self, path: str) -> HttpAnswer:
        return self._exchange.json("GET", path, may_be_empty=True)


def _has_value(row: Any, tag: str) -> bool:
    attribute = row.get(tag) if isinstance(row, dict) else None
    return isinstance(attribute, dict) and bool(attribute.get("Value"))


def _no_record(peer: Peer, reason: str, detail: str) -> Unavailable:
    return Unavailable(
        f"{peer.name} could not be probed: {detail}", code=reason, hint="look at the PACS, then probe it again"
    )
