"""The index node on HTTP: SOAP 1.2 at ``/xds/repository``, ``/xds/registry`` and ``/xds``; FHIR at ``/fhir``
(``indexer.registry.fhir``); ``/live``, ``/ready``.

Invariants:

* a body is capped before it is read, must arrive in time, and is never decompressed (T24);
* every request gets one answer that relates to its MessageID; what cannot be read gets a SOAP Fault (400), what
  we cannot do now another one (500, 503);
* a log line holds the action, the outcome and error codes: no identifier, no value;
* where an assertion is demanded, nothing is done before it was verified;
* a query and a retrieval are recorded before the first byte of their answer leaves; without a record there is none;
* nobody passes whom the policy does not let in: a peer by its certificate, or what speaks from this machine;
* beyond loopback only with TLS that asks every client for its certificate (FF-44).
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware
from lxml import etree

from indexer.registry.answers import (
    QueryAnswer,
    RegistryAnswer,
    RetrieveAnswer,
    query_response,
    registry_response,
    retrieve_response,
)
from indexer.registry.body import BODY_BYTES_MAX, read_body
from indexer.registry.credentials import Credentials
from indexer.registry.fhir.door import ROUTES as FHIR_ROUTES
from indexer.registry.fhir.door import FhirNode, add_routes
from indexer.registry.reads import REFUSED, SUCCESS, Asker, Look, Reading, asker_of, looks
from indexer.xds import soap
from indexer.xds import vocabulary as v
from security.errors import BadInput, Fault, Refused
from security.gatekeeper import HEALTH_ROUTES, Routes, peer, policed
from security.listener import listening
from security.parse.mime import Limits
from security.policy import Action, Role, Tell, Zone, untold
from security.runner import Runner

log = logging.getLogger(__name__)

_SHUTDOWN_S = 10.0
_LOOPBACK = "localhost"
_NOT_NOW = "the index cannot do this now"


class Node(FhirNode, Protocol):
    """What answers: the index node, or a laboratory's wrapper around it."""

    async def ready(self) -> None: ...

    async def provide_and_register(self, envelope: soap.Envelope) -> RegistryAnswer: ...

    async def register(self, envelope: soap.Envelope) -> RegistryAnswer: ...

    async def update(self, envelope: soap.Envelope) -> RegistryAnswer: ...

    async def stored_query(self, envelope: soap.Envelope) -> QueryAnswer: ...

    async def retrieve(self, envelope: soap.Envelope) -> RetrieveAnswer: ...


@dataclass(frozen=True, slots=True)
class _Reply:
    """What one transaction answered, ready to be put into an envelope. ``looks``: what of whom was read by it."""

    body: etree._Element
    attachments: dict[str, bytes]
    outcome: str
    looks: tuple[Look, ...] = ()


_Transaction = Callable[[soap.Envelope], Awaitable[_Reply]]
_READS = {v.ITI_18: "index.queried", v.ITI_43: "index.retrieved"}
_REPOSITORY = frozenset({v.ITI_41, v.ITI_43})
_REGISTRY = frozenset({v.ITI_18, v.ITI_42, v.ITI_57})

ROUTES: Routes = {
    ("POST", "/xds/repository"): Action.INDEX_USE,
    ("POST", "/xds/registry"): Action.INDEX_USE,
    ("POST", "/xds"): Action.INDEX_USE,
    **HEALTH_ROUTES,
    **FHIR_ROUTES,
}
"""What each address of the node is for the policy."""


def application(
    node: Node,
    *,
    body_bytes_max: int = BODY_BYTES_MAX,
    middlewares: Sequence[Middleware] = (),
    credentials: Credentials | None = None,
    tell: Tell = untold,
) -> web.Application:
    """The node's routes. ``middlewares``: only a laboratory has any. ``credentials``: demands an assertion, and shuts
    the FHIR door, which knows none. ``tell``: of each refusal."""
    gatekeeper = policed(ROUTES, zone=Zone.PEERS, who=peer(Role.GATEWAY_PEER), tell=tell)
    app = web.Application(client_max_size=body_bytes_max, middlewares=[gatekeeper, *middlewares])
    transactions = _transactions(node)
    for path, actions in (
        ("/xds/repository", _REPOSITORY),
        ("/xds/registry", _REGISTRY),
        ("/xds", _REPOSITORY | _REGISTRY),
    ):
        there = {action: transactions[action] for action in actions}
        app.router.add_post(path, _handler(node, there, body_bytes_max, credentials))

    if credentials is None:  # nothing that FHIR carries could be such an assertion: the other door stays shut
        add_routes(app, node)

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_: web.Request) -> web.Response:
        try:
            await node.ready()
        except Fault as fault:
            log.warning("index node not ready", extra={"code": fault.code})
            return web.Response(status=503, text="not ready\n")
        return web.Response(text="ready\n")

    app.router.add_get("/live", live)
    app.router.add_get("/ready", ready)
    return app


def _transactions(node: Node) -> dict[str, _Transaction]:
    """What each action does."""

    async def provide_and_register(envelope: soap.Envelope) -> _Reply:
        return _registry_reply(await node.provide_and_register(envelope))

    async def register(envelope: soap.Envelope) -> _Reply:
        return _registry_reply(await node.register(envelope))

    async def update(envelope: soap.Envelope) -> _Reply:
        return _registry_reply(await node.update(envelope))

    async def stored_query(envelope: soap.Envelope) -> _Reply:
        answer = await node.stored_query(envelope)
        asked = node.digest(etree.tostring(envelope.body, method="c14n").decode())
        return _Reply(query_response(answer), {}, _outcome(answer), looks("query", asked, answer.patients))

    async def retrieve(envelope: soap.Envelope) -> _Reply:
        answer = await node.retrieve(envelope)
        read = tuple(
            Look(object_type="document", object_id=one.unique_id, patient=one.patient) for one in answer.documents
        )
        return _Reply(*retrieve_response(answer), _outcome(answer), read or looks("document", "", ()))

    return {
        v.ITI_41: provide_and_register,
        v.ITI_42: register,
        v.ITI_57: update,
        v.ITI_18: stored_query,
        v.ITI_43: retrieve,
    }


async def _unserved(_: soap.Envelope) -> _Reply:
    raise BadInput(
        "this address does not serve the wsa:Action of the request",
        code="xds-action",
        hint="ITI-41 and ITI-43 go to /xds/repository, ITI-18, ITI-42 and ITI-57 to /xds/registry",
    )


def _registry_reply(answer: RegistryAnswer) -> _Reply:
    return _Reply(registry_response(answer), {}, _outcome(answer))


def _outcome(answer: RegistryAnswer | QueryAnswer | RetrieveAnswer) -> str:
    """The status and the error codes, for the log."""
    return " ".join([answer.status.rpartition(":")[2], *sorted({e.code for e in answer.errors})])


def _reading(action: str, reply: _Reply, asker: Asker) -> Reading:
    """The record of a read that was answered; what was only partly given is a minor failure."""
    is_whole = reply.outcome == v.RESPONSE_SUCCESS.rpartition(":")[2]
    return Reading(
        event=_READS[action],
        asker=asker,
        looks=reply.looks,
        outcome=SUCCESS if is_whole else REFUSED,
        words=reply.outcome,
    )


def _handler(
    node: Node, transactions: dict[str, _Transaction], body_bytes_max: int, credentials: Credentials | None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    limits = Limits(part_bytes=body_bytes_max, total_bytes=body_bytes_max)

    async def handle(request: web.Request) -> web.Response:
        data = await read_body(request)
        relates_to = purpose = ""
        try:
            envelope = soap.decode(
                request.headers.get("Content-Type", ""),
                data,
                limits=limits,
                understands_security=credentials is not None,
            )
            relates_to = envelope.message_id
            if credentials is not None:
                purpose = credentials.check(envelope)
            reply = await transactions.get(envelope.action, _unserved)(envelope)
            if envelope.action in _READS:
                await node.record(_reading(envelope.action, reply, asker_of(request, purpose=purpose)))
        except BadInput as bad:
            log.info("request refused", extra={"code": bad.code})
            return _fault(400, "Sender", str(bad), relates_to)
        except Fault as fault:
            log.warning("request failed", extra={"code": fault.code})
            return _fault(503 if fault.retryable else 500, "Receiver", _NOT_NOW, relates_to)
        except Exception as defect:  # noqa: BLE001 - supervision edge: the peer gets a Fault, the node goes on
            # The kind only: a trace may quote a patient's values.
            log.critical("request failed by a defect", extra={"kind": type(defect).__name__})
            return _fault(500, "Receiver", _NOT_NOW, relates_to)
        log.info("request answered", extra={"action": envelope.action, "outcome": reply.outcome})
        content_type, body = soap.encode_response(
            action=envelope.action + "Response",
            relates_to=relates_to,
            message_id=_message_id(),
            body=etree.tostring(reply.body, encoding="UTF-8", xml_declaration=False),
            attachments=reply.attachments,
            mtom=envelope.action in _REPOSITORY,
        )
        return web.Response(body=body, headers={"Content-Type": content_type})

    return handle


def _fault(status: int, fault_code: str, reason: str, relates_to: str) -> web.Response:
    content_type, body = soap.encode_fault(
        relates_to=relates_to, message_id=_message_id(), fault_code=fault_code, reason=reason
    )
    return web.Response(status=status, body=body, headers={"Content-Type": content_type})


def _message_id() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def _is_loopback(host: str) -> bool:
    try:
        return host == _LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name: where it leads is not ours to guess
        return False


@dataclass(frozen=True, slots=True)
class Running:
    """A listening node."""

    port: int
    runner: Runner

    async def close(self) -> None:
        """Stop listening, let requests in flight finish for a while, then close. Idempotent."""
        await self.runner.cleanup()


async def start(
    node: Node,
    *,
    host: str,
    port: int,
    interface: str = "",
    tls: ssl.SSLContext | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
    middlewares: Sequence[Middleware] = (),
    credentials: Credentials | None = None,
    tell: Tell = untold,
) -> Running:
    """Listen. ``port`` 0 takes a free one, told by the result; ``interface``: the only one on which peers reach us,
    "" for any. The store stays the caller's to close.

    Raises:
        Refused: ``index-not-loopback`` the address is open to others and ``tls`` does not ask who they are.
        OSError: the address is in use.
    """
    if not _is_loopback(host) and (tls is None or tls.verify_mode is not ssl.CERT_REQUIRED):
        raise Refused(
            "the index node listens beyond loopback only with TLS that asks every client for its certificate",
            code="index-not-loopback",
            hint="give ca_file, certificate_file and key_file, or use 127.0.0.1 or ::1",
        )
    app = application(
        node, body_bytes_max=body_bytes_max, middlewares=middlewares, credentials=credentials, tell=tell
    )
    runner = Runner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S, auto_decompress=False)
    await runner.setup()
    try:
        await web.SockSite(runner, listening(host, port, interface=interface), ssl_context=tls).start()
    except BaseException:
        await runner.cleanup()
        raise
    return Running(port=runner.addresses[0][1], runner=runner)
