"""The index in the laboratory: the real index node behind switches that make it fail as real indexes do.

``LabIndex`` is the node in a directory of its own; its ``switches`` may be turned while it runs, in process or
through the control address (a second loopback port):

* ``GET /faults``, ``PUT /faults`` with ``[{"name": "delay", "seconds": 2, "on": ["ITI-41"], "times": 1}, …]``,
  ``DELETE /faults``;
* ``GET /counts``: requests seen so far, per transaction.

``python -m gateway.lab.index --port 0 --dir D [--fault name[=value]]…`` prints one JSON line when it is ready and
runs until SIGTERM. Nothing here weakens the node: a switch that is off is not in the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import ssl
import struct
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from lxml import etree

from indexer.mhd.vocabulary import FHIR_JSON
from indexer.registry.answers import (
    QueryAnswer,
    RegistryAnswer,
    RegistryError,
    RetrieveAnswer,
    query_response,
    registry_response,
    retrieve_response,
)
from indexer.registry.app import Running, start
from indexer.registry.fhir.answers import outcome
from indexer.registry.fhir.door import BASE as FHIR_BASE
from indexer.registry.fhir.search import Search
from indexer.registry.node import REGISTRY, IndexNode
from indexer.registry.queries import StoredQuery, fitting_entries, parse_query
from indexer.registry.validate import patient_of
from indexer.xds import soap
from indexer.xds import vocabulary as v
from indexer.xds.metadata import stored_query_get_documents
from indexer.xds.objects import Association, DocumentEntry, RegistryObject, Submission, read_submission
from security.clock import Clock, SystemClock
from security.errors import BadInput
from security.seal import Vault
from security.secrets import create_kek, read_kek
from security.store.port import GROUND
from security.store.sqlite import SqliteStore

TENANT = "lab-index"
REPOSITORY = "1.2.250.1.213.9.9.1"
TRANSACTIONS = {
    v.ITI_18: "ITI-18",
    v.ITI_41: "ITI-41",
    v.ITI_42: "ITI-42",
    v.ITI_43: "ITI-43",
    v.ITI_57: "ITI-57",
}
UNREADABLE = "unreadable"
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER without time: close sends RST
_HTML = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Service unavailable</h1></body></html>"
)


class Fault(StrEnum):
    """What a switch does to a request."""

    DELAY = "delay"  # ``seconds`` before the node sees it
    DROP_BEFORE = "drop-before"  # connection reset, the node never sees it
    COMMIT_THEN_RESET = "commit-then-reset"  # the node answers, the connection dies first (F07)
    INVISIBLE = "invisible"  # what is registered or withdrawn shows as such in queries ``seconds`` later (F09)
    HTML_MAINTENANCE = "html-maintenance"  # 200 with a page (F10)
    EMPTY_200 = "empty-200"  # 200 with nothing (F10)
    TRUNCATED_MTOM = "truncated-mtom"  # the node's answer, half of it (F10)
    BUSY = "busy"  # XDSRepositoryBusy or XDSRegistryBusy
    HTTP_503 = "http-503"  # with Retry-After ``seconds``
    REFUSE = "refuse"  # ``code`` as the error of a Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One fault. ``on``: transactions (``ITI-41``…) it is for, () for all. ``times``: requests it is good for,
    None until switched off."""

    name: Fault
    seconds: float = 0.0
    code: str = ""
    on: tuple[str, ...] = ()
    times: int | None = None


class Switches:
    """The faults in force, and what was asked so far."""

    def __init__(self, *switches: Switch) -> None:
        self.counts: Counter[str] = Counter()
        self._on = list(switches)

    def set(self, *switches: Switch) -> None:
        """These faults and no others, from the next request on."""
        self._on = list(switches)

    @property
    def on(self) -> tuple[Switch, ...]:
        return tuple(self._on)

    def take(self, transaction: str) -> dict[Fault, Switch]:
        """The faults for one request, used up by one."""
        taken = [s for s in self._on if not s.on or transaction in s.on]
        for switch in taken:
            if switch.times is not None:
                self._on.remove(switch)
                if switch.times > 1:
                    self._on.append(replace(switch, times=switch.times - 1))
        return {s.name: s for s in taken}

    def hidden_s(self) -> float:
        """How long queries lag behind what is registered or withdrawn."""
        return max((s.seconds for s in self._on if s.name is Fault.INVISIBLE), default=0.0)


class _Veil:
    """A node whose new registrations and withdrawals show late in queries. ITI-43 is not delayed."""

    def __init__(self, node: IndexNode, switches: Switches, clock: Clock) -> None:
        self._node = node
        self._switches = switches
        self._clock = clock
        self._since: dict[str, float] = {}
        self._withdrawn: dict[str, tuple[float, DocumentEntry]] = {}
        self.ready = node.ready
        self.retrieve = node.retrieve
        self.look = node.look
        self.patient_id = node.patient_id
        self.record = node.record
        self.digest = node.digest
        self.seal_page = node.seal_page
        self.open_page = node.open_page
        self.deleted_status = node.deleted_status

    async def provide_and_register(self, envelope: soap.Envelope) -> RegistryAnswer:
        return self._noted(await self._node.provide_and_register(envelope))

    async def register(self, envelope: soap.Envelope) -> RegistryAnswer:
        return self._noted(await self._node.register(envelope))

    async def update(self, envelope: soap.Envelope) -> RegistryAnswer:
        before = await self._named_by(envelope)
        answer = self._noted(await self._node.update(envelope))
        if answer.registered:
            self._withdrawn.update({entry.id: (self._clock.monotonic(), entry) for entry in before})
        return answer

    async def submit(self, submission: Submission, documents: Mapping[str, bytes] | None) -> RegistryAnswer:
        return self._noted(await self._node.submit(submission, documents))

    async def withdraw(self, request: Submission) -> RegistryAnswer:
        moved = [change.target for change in request.associations]
        before = await self._node.look(
            lambda holdings: [e for t in moved if (c := holdings.chart_of(t)) for e in c.documents([t])]
        )
        answer = self._noted(await self._node.withdraw(request))
        if answer.registered:
            self._withdrawn.update({entry.id: (self._clock.monotonic(), entry) for entry in before})
        return answer

    async def find_entries(self, search: Search) -> list[RegistryObject]:
        limit = self._clock.monotonic() - self._switches.hidden_s()
        hidden = {identifier for identifier, since in self._since.items() if since > limit}
        late = {identifier: entry for identifier, (since, entry) in self._withdrawn.items() if since > limit}
        shown = await self._node.find_entries(search)
        return [late.get(one.id, one) for one in shown if one.id not in hidden]

    async def stored_query(self, envelope: soap.Envelope) -> QueryAnswer:
        answer = await self._node.stored_query(envelope)
        limit = self._clock.monotonic() - self._switches.hidden_s()
        hidden = {identifier for identifier, since in self._since.items() if since > limit}
        shown = [
            o
            for o in answer.objects
            if o.id not in hidden and not (isinstance(o, Association) and {o.source, o.target} & hidden)
        ]
        late = [entry for since, entry in self._withdrawn.values() if since > limit]
        if late and not answer.errors:
            query = parse_query(envelope.body)
            shown += [entry for entry in late if _asks_for(query, entry)]
        return replace(answer, objects=tuple(shown))

    async def _named_by(self, envelope: soap.Envelope) -> list[DocumentEntry]:
        """The entries that an ITI-57 request names, as they are shown before it."""
        found: list[DocumentEntry] = []
        try:
            changes = read_submission(envelope.body).associations
        except BadInput:  # for the node to say
            return []
        for change in changes:
            answer = await self._node.stored_query(replace(envelope, body=_get_documents(change.target)))
            found += [o for o in answer.objects if isinstance(o, DocumentEntry)]
        return found

    def _noted(self, answer: RegistryAnswer) -> RegistryAnswer:
        self._since.update(dict.fromkeys(answer.registered, self._clock.monotonic()))
        return answer


def _get_documents(entry_uuid: str) -> etree._Element:
    """GetDocuments by entryUUID."""
    request = etree.fromstring(stored_query_get_documents(entry_uuid))
    for slot in request.iter(f"{{{v.NS_RIM}}}Slot"):
        slot.set("name", "$XDSDocumentEntryEntryUUID")
    return request


def _asks_for(query: StoredQuery, entry: DocumentEntry) -> bool:
    """Whether a query for documents would show the entry as it was."""
    if query.id == v.GET_DOCUMENTS:
        return not {entry.id, entry.unique_id}.isdisjoint(query.ids)
    if query.id not in {v.FIND_DOCUMENTS, v.FIND_DOCUMENTS_BY_REFERENCE_ID}:
        return False
    return query.patient == patient_of(entry.patient_id) and bool(fitting_entries(query, [entry]))


def _middleware(switches: Switches) -> Middleware:
    """The faults of the wire."""

    @web.middleware
    async def faulty(request: web.Request, handler: Handler) -> web.StreamResponse:
        is_fhir = request.path.startswith(FHIR_BASE)
        if request.method != "POST" and not is_fhir:
            return await handler(request)
        envelope = None if is_fhir else await _envelope(request)
        if is_fhir:
            transaction = await _fhir_transaction(request)
        else:
            transaction = UNREADABLE if envelope is None else TRANSACTIONS.get(envelope.action, UNREADABLE)
        switches.counts[transaction] += 1
        faults = switches.take(transaction)
        if Fault.DELAY in faults:
            await asyncio.sleep(faults[Fault.DELAY].seconds)
        if Fault.DROP_BEFORE in faults:
            return _reset(request)
        instead = (_fhir_refusal(faults, transaction) if is_fhir else None) or _instead(faults, envelope)
        if instead is not None:
            return instead
        response = await handler(request)
        if Fault.COMMIT_THEN_RESET in faults:
            return _reset(request)
        if Fault.TRUNCATED_MTOM in faults and isinstance(response, web.Response) and isinstance(response.body, bytes):
            half = response.body[: len(response.body) // 2]
            return web.Response(body=half, headers={"Content-Type": response.headers["Content-Type"]})
        return response

    return faulty


def _instead(faults: dict[Fault, Switch], envelope: soap.Envelope | None) -> web.Response | None:
    """An answer that comes without the node being asked."""
    if Fault.HTTP_503 in faults:
        seconds = max(1, round(faults[Fault.HTTP_503].seconds))
        return web.Response(status=503, headers={"Retry-After": str(seconds)})
    if Fault.HTML_MAINTENANCE in faults:
        return web.Response(body=_HTML, content_type="text/html")
    if Fault.EMPTY_200 in faults:
        return web.Response(status=200)
    return None if envelope is None else _refusal(faults, envelope)


def _refusal(faults: dict[Fault, Switch], envelope: soap.Envelope) -> web.Response | None:
    if Fault.BUSY in faults:
        repository = envelope.action in {v.ITI_41, v.ITI_43}
        return _failure(envelope, "XDSRepositoryBusy" if repository else "XDSRegistryBusy")
    if Fault.REFUSE in faults:
        return _failure(envelope, faults[Fault.REFUSE].code or "XDSRepositoryError")
    return None


async def _fhir_transaction(request: web.Request) -> str:
    """Which transaction of MHD a request is; an ITI-65 that withdraws goes by a name of its own."""
    if request.method == "POST" and b'"entered-in-error"' in await request.read():
        return "ITI-65 withdrawal"
    kind = request.path.removeprefix(FHIR_BASE).strip("/").partition("/")[0]
    return {"": "ITI-65", "List": "ITI-66", "DocumentReference": "ITI-67", "Binary": "ITI-68"}.get(kind, UNREADABLE)


def _fhir_refusal(faults: dict[Fault, Switch], transaction: str) -> web.Response | None:
    """A well-formed OperationOutcome of what is switched on."""
    if Fault.BUSY in faults:
        status, code = 503, "XDSRepositoryBusy" if transaction in {"ITI-65", "ITI-68"} else "XDSRegistryBusy"
    elif Fault.REFUSE in faults:
        status, code = 422, faults[Fault.REFUSE].code or "XDSRepositoryError"
    else:
        return None
    said = outcome([RegistryError(code=code, context="switched on in the laboratory")])
    return web.Response(status=status, text=json.dumps(said), content_type=FHIR_JSON)


def _failure(envelope: soap.Envelope, code: str) -> web.Response:
    """A well-formed Failure of whatever transaction was asked."""
    errors = (RegistryError(code=code, context="switched on in the laboratory"),)
    match envelope.action:
        case v.ITI_18:
            body = query_response(QueryAnswer(errors=errors))
        case v.ITI_43:
            body, _ = retrieve_response(RetrieveAnswer(repository=REPOSITORY, errors=errors))
        case _:
            body = registry_response(RegistryAnswer(errors=errors))
    content_type, data = soap.encode_response(
        action=envelope.action + "Response",
        relates_to=envelope.message_id,
        message_id=f"urn:uuid:{uuid.uuid4()}",
        body=etree.tostring(body),
        mtom=envelope.action in {v.ITI_41, v.ITI_43},
    )
    return web.Response(body=data, headers={"Content-Type": content_type})


async def _envelope(request: web.Request) -> soap.Envelope | None:
    try:
        return soap.decode(request.headers.get("Content-Type", ""), await request.read())
    except BadInput:
        return None


def _reset(request: web.Request) -> web.Response:
    """Cut the connection so that the peer gets RST; the response returned is never sent."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        transport.abort()
    return web.Response(status=500)


class LabIndex:
    """The node in ``directory``, listening on loopback. ``async with LabIndex(directory) as index``; a second one
    on the same directory, after the first is closed, holds what the first held."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        control_port: int = 0,
        tls: ssl.SSLContext | None = None,
        repository_unique_id: str = REPOSITORY,
        resubmission: Literal["success", "duplicate-error"] = "duplicate-error",
        clock: Clock | None = None,
        store: type[SqliteStore] = SqliteStore,
    ) -> None:
        self.switches = Switches()
        self.port = port
        self.control_port = control_port
        self.repository_unique_id = repository_unique_id
        self._directory = directory
        self._tls = tls
        self._resubmission: Literal["success", "duplicate-error"] = resubmission
        self._clock = clock or SystemClock()
        self._store_kind = store
        self._store: SqliteStore | None = None
        self._running: Running | None = None
        self._control: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where both registry and repository are served."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/xds"

    @property
    def fhir_url(self) -> str:
        """The base of the FHIR door."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{FHIR_BASE}"

    async def __aenter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key_file = self._directory / "kek"
        kek = read_kek(key_file) if key_file.exists() else create_kek(key_file)
        self._store = await self._store_kind.open(self._directory / "index.db", [GROUND, REGISTRY])
        try:
            vault = await Vault.load(self._store, kek, [TENANT], self._clock)
            node = IndexNode(
                self._store,
                vault,
                self._clock,
                tenant=TENANT,
                repository_unique_id=self.repository_unique_id,
                resubmission=self._resubmission,
            )
            self._running = await start(
                _Veil(node, self.switches, self._clock),
                host="127.0.0.1",
                port=self.port,
                tls=self._tls,
                middlewares=[_middleware(self.switches)],
            )
            self.port = self._running.port
            await self._open_control()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._control:
            await self._control.cleanup()
        if self._running:
            await self._running.close()
        if self._store:
            await self._store.close()

    async def _open_control(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/faults", self._show),
                web.put("/faults", self._change),
                web.delete("/faults", self._clear),
                web.get("/counts", self._count),
            ]
        )
        self._control = web.AppRunner(app, access_log=None)
        await self._control.setup()
        await web.TCPSite(self._control, "127.0.0.1", self.control_port).start()
        self.control_port = self._control.addresses[0][1]

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(s) for s in self.switches.on])

    async def _change(self, request: web.Request) -> web.Response:
        try:
            wanted = [switch_from(item) for item in await request.json()]
        except (TypeError, ValueError) as wrong:
            return web.Response(status=400, text=f"{wrong}\n")
        self.switches.set(*wanted)
        return web.Response(status=204)

    async def _clear(self, _: web.Request) -> web.Response:
        self.switches.set()
        return web.Response(status=204)

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self.switches.counts))


def switch_from(item: dict[str, Any]) -> Switch:
    """The switch a JSON object describes. Raises ``TypeError`` or ``ValueError`` for another shape."""
    return Switch(**(item | {"name": Fault(item["name"]), "on": tuple(item.get("on", ()))}))


def switch_of(text: str) -> Switch:
    """The switch ``name[=value]`` describes: a code for ``refuse``, seconds for the others."""
    name, _, value = text.partition("=")
    fault = Fault(name)
    return Switch(name=fault, code=value) if fault is Fault.REFUSE else Switch(name=fault, seconds=float(value or 0))


async def _serve(arguments: argparse.Namespace, switches: Iterable[Switch]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    index = LabIndex(
        arguments.dir,
        port=arguments.port,
        control_port=arguments.control_port,
        repository_unique_id=arguments.repository,
        resubmission=arguments.resubmission,
    )
    index.switches.set(*switches)
    async with index:
        where = {"port": index.port, "control_port": index.control_port, "repository": index.repository_unique_id}
        print(json.dumps(where), flush=True)
        await stop.wait()


def main() -> None:
    """The command line of the module docstring."""
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.index", description="A laboratory index (XDS.b).")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--repository", default=REPOSITORY)
    parser.add_argument("--resubmission", choices=["success", "duplicate-error"], default="duplicate-error")
    parser.add_argument("--fault", action="append", default=[], type=switch_of, metavar="NAME[=VALUE]")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments, arguments.fault))


if __name__ == "__main__":
    main()
