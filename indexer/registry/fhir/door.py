"""The index node on FHIR: ITI-65, 66, 67 and 68 under ``/fhir``, and its CapabilityStatement at ``/fhir/metadata``.

Invariants:

* the entries are those of the XDS door: what came by either is found and fetched by either;
* a body enters through ``security.parse`` with its caps; every refusal is an OperationOutcome;
* no link we make and no log line we write holds a patient's value: links are sealed, log lines name the transaction,
  the status and codes;
* an answer is whole, or says that it has a next page, or is an error: never silently shortened.

XML is not offered: 406 to who asks for it, 415 to who sends it. Who may ask is for the policy in front.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web

from indexer.mhd import vocabulary as mhd
from indexer.mhd.transaction import Provided, read_bundle
from indexer.registry import lookup
from indexer.registry.answers import RegistryAnswer, RegistryError, XdsRefusal
from indexer.registry.body import read_body
from indexer.registry.fhir import answers
from indexer.registry.fhir.search import (
    ENTRY_PARAMETERS,
    LIST_PARAMETERS,
    Parameter,
    Search,
    fitting,
    page,
    read_search,
)
from indexer.registry.reads import REFUSED, Reading, asker_of, looks
from indexer.registry.validate import patient_of
from indexer.xds import vocabulary as v
from indexer.xds.objects import Association, DocumentEntry, RegistryObject, SubmissionSet
from indexer.xds.objects import Submission as Objects
from security.errors import BadInput, Fault
from security.gatekeeper import Routes
from security.policy import Action

log = logging.getLogger(__name__)

BASE = "/fhir"
_NOT_NOW = "the index cannot do this now"
_JSON_TYPES = frozenset({mhd.FHIR_JSON, "application/json"})
_FORM = "application/x-www-form-urlencoded"
_QUERY_CHARACTERS_MAX = 16_384
_REFUSED = {
    "DocumentReference": "index.references-found",
    "List": "index.lists-found",
    "Binary": "index.document-read",
}
T = TypeVar("T")


class FhirNode(Protocol):
    """What answers: the index node, or a laboratory's wrapper around it."""

    deleted_status: str

    async def submit(self, submission: Objects, documents: Mapping[str, bytes] | None) -> RegistryAnswer: ...

    async def withdraw(self, request: Objects) -> RegistryAnswer: ...

    async def look(self, work: Callable[[lookup.Holdings], T]) -> T: ...

    async def find_entries(self, search: Search) -> list[RegistryObject]: ...

    async def record(self, reading: Reading) -> None: ...

    def digest(self, asked: str) -> str: ...

    def patient_id(self, patient: tuple[str, str]) -> str: ...

    def seal_page(self, text: str) -> str: ...

    def open_page(self, token: str) -> str: ...


def find_entries(holdings: lookup.Holdings, search: Search) -> list[RegistryObject]:
    """The entries that meet a search, in the part of the index that it names. Raises ``XdsRefusal``:
    XDSTooManyResults."""
    return _found(holdings, search, ENTRY_PARAMETERS, lambda chart: chart.entries())


def _found(
    holdings: lookup.Holdings,
    search: Search,
    known: Mapping[str, Parameter],
    listed: Callable[[lookup.Chart], Sequence[RegistryObject]],
) -> list[RegistryObject]:
    if search.identifiers:
        found: dict[str, RegistryObject] = {}
        for identifier in search.identifiers:
            chart = holdings.chart_of(identifier)
            one = chart.one(identifier) if chart else None
            if one is not None and isinstance(one, DocumentEntry) == (known is ENTRY_PARAMETERS):
                found[one.id] = one
        return fitting(search, found.values(), known)
    key = search.patient_key or lookup.patient_key(holdings.vault, holdings.tenant, search.patient or ("", ""))
    return fitting(search, listed(holdings.chart(key)), known)


class _Door:
    """The handlers, one per interaction."""

    def __init__(self, node: FhirNode) -> None:
        self._node = node

    async def metadata(self, request: web.Request) -> web.Response:
        return _json(answers.capability(_base(request)))

    async def provide(self, request: web.Request) -> web.Response:
        """ITI-65."""
        if request.content_type not in _JSON_TYPES:
            raise _Refusal(415, f"only {mhd.FHIR_JSON} is taken here; XML is not offered")
        provided = read_bundle(await read_body(request), deleted_status=self._node.deleted_status)
        if provided.withdraws:
            answer = await self._node.withdraw(provided.objects)
        else:
            answer = await self._node.submit(provided.objects, provided.documents)
        if answer.errors:
            raise XdsRefusal(*answer.errors)
        ids = _assigned(provided, answer) or await self._node.look(lambda holdings: _held(holdings, provided))
        return _json(answers.transaction_response(provided.entries, ids))

    async def search_entries(self, request: web.Request) -> web.Response:
        """ITI-67."""
        search = await self._search(request, ENTRY_PARAMETERS)
        found = await self._node.find_entries(search)
        shown, is_more = page(search, found)
        relations = await self._node.look(lambda holdings: _relations(holdings, shown))
        base = _base(request)
        await self._searched(request, "index.references-found", search, shown)
        resources = [self._entry(one, relations.get(one.id, []), base) for one in shown]
        links = self._links(request, search, shown if is_more else [])
        return _json(
            answers.searchset(resources, base=base, total=len(found), links=links, profile=mhd.FIND_RESPONSE)
        )

    async def search_lists(self, request: web.Request) -> web.Response:
        """ITI-66."""
        search = await self._search(request, LIST_PARAMETERS)
        found = await self._node.look(
            lambda holdings: _found(holdings, search, LIST_PARAMETERS, lambda chart: chart.sets())
        )
        shown, is_more = page(search, found)
        members = await self._node.look(lambda holdings: _members(holdings, shown))
        await self._searched(request, "index.lists-found", search, shown)
        resources = [self._set(one, members.get(one.id, [])) for one in shown]
        base, links = _base(request), self._links(request, search, shown if is_more else [])
        return _json(
            answers.searchset(resources, base=base, total=len(found), links=links, profile=mhd.FIND_LISTS_RESPONSE)
        )

    async def read_entry(self, request: web.Request) -> web.Response:
        bare = request.match_info["id"]
        found, relations = await self._node.look(lambda holdings: _one(holdings, bare))
        if not isinstance(found, DocumentEntry):
            raise _Refusal(404, "no DocumentReference of that id")
        if found.status not in v.SHOWN_STATUSES:
            raise _Refusal(410, "this DocumentReference was withdrawn")
        await self._read(request, "index.resource-read", found)
        return _json(self._entry(found, relations, _base(request)))

    async def read_list(self, request: web.Request) -> web.Response:
        bare = request.match_info["id"]
        found, relations = await self._node.look(lambda holdings: _one(holdings, bare))
        if not isinstance(found, SubmissionSet):
            raise _Refusal(404, "no List of that id")
        await self._read(request, "index.resource-read", found)
        return _json(self._set(found, [a.target for a in relations if a.type == v.HAS_MEMBER]))

    async def read_document(self, request: web.Request) -> web.Response:
        """ITI-68."""
        bare = request.match_info["id"]
        found, content = await self._node.look(lambda holdings: _document(holdings, bare))
        if found is None or (content is None and found.status in v.SHOWN_STATUSES):
            raise _Refusal(404, "no document of that id in this repository")
        if content is None:
            raise _Refusal(410, "this document was withdrawn")
        headers = {
            "Content-Disposition": "attachment",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        chosen = _chosen(request.headers.get("Accept", "*/*"), found.mime_type)
        if chosen:
            await self._read(request, "index.document-read", found)
        match chosen:
            case "document":
                return web.Response(body=content, headers={**headers, "Content-Type": found.mime_type})
            case "resource":
                return _json(answers.binary(found.mime_type, content, bare))
        raise _Refusal(406, "the document is offered as it is, or as a Binary resource in JSON")

    async def nothing(self, request: web.Request) -> web.Response:
        allowed = {method for method, path, _ in _INTERACTIONS if _is_at(BASE + path, request.path)}
        if allowed:
            raise web.HTTPMethodNotAllowed(request.method, allowed)
        raise _Refusal(404, "no such interaction here; /fhir/metadata says what there is")

    # -- records -----------------------------------------------------------------------------------------------

    async def _searched(
        self, request: web.Request, event: str, search: Search, shown: Sequence[RegistryObject]
    ) -> None:
        """Record a search before it is answered."""
        patients = {
            self._patient_id(one.patient_id) for one in shown if isinstance(one, DocumentEntry | SubmissionSet)
        }
        if search.patient_key:
            patients.add(search.patient_key.hex())
        elif search.patient:
            patients.add(self._node.patient_id(search.patient))
        asked = self._node.digest(json.dumps(search.asked))
        await self._node.record(
            Reading(
                event=event,
                asker=asker_of(request),
                looks=looks("query", asked, patients),
                words=f"{len(shown)} shown",
            )
        )

    async def _read(self, request: web.Request, event: str, found: DocumentEntry | SubmissionSet) -> None:
        """Record a read before it is answered."""
        object_type = "document" if isinstance(found, DocumentEntry) else "submission-set"
        await self._node.record(
            Reading(
                event=event,
                asker=asker_of(request),
                looks=looks(object_type, found.unique_id, [self._patient_id(found.patient_id)]),
            )
        )

    async def refused(self, request: web.Request, status: int) -> None:
        """Record a read that is refused."""
        kind = request.path.split("/")[2] if request.path.count("/") > 1 else ""
        event = _REFUSED.get(kind)
        if event is not None and (request.method == "GET" or request.path.endswith("/_search")):
            await self._node.record(
                Reading(
                    event=event,
                    asker=asker_of(request),
                    looks=looks(kind, "", ()),
                    outcome=REFUSED,
                    words=f"HTTP {status}",
                )
            )

    # -- parts -------------------------------------------------------------------------------------------------

    async def _search(self, request: web.Request, known: Mapping[str, Parameter]) -> Search:
        """The search of a request, or the one that a link of ours continues."""
        if len(request.query_string) > _QUERY_CHARACTERS_MAX:
            raise _Refusal(414, "the query is too long; send it by POST _search")
        asked = list(request.query.items())
        if request.method == "POST":
            if request.content_type != _FORM:
                raise _Refusal(415, f"_search takes {_FORM}")
            asked += _form(await read_body(request))
        if [name for name, _ in asked] == ["_page"]:
            kept = json.loads(self._node.open_page(asked[0][1]))
            if kept["kind"] != request.path.split("/")[2]:
                raise XdsRefusal(RegistryError(code="XDSRegistryError", context="_page is a link of another search"))
            search = read_search([(name, value) for name, value in kept["asked"]], known)
            return replace(search, after=(kept["after"][0], kept["after"][1]))
        return read_search(asked, known)

    def _links(self, request: web.Request, search: Search, before: Sequence[RegistryObject]) -> dict[str, str]:
        """``before``: what the page shows when more follows, else nothing."""
        base, kind = _base(request), request.path.split("/")[2]
        links = {"self": self._link(base, kind, search, search.after)}
        if before:
            links["next"] = self._link(base, kind, search, (before[-1].kept_at, before[-1].id))
        return links

    def _link(self, base: str, kind: str, search: Search, after: tuple[int, str]) -> str:
        kept = json.dumps({"kind": kind, "asked": search.asked, "after": after})
        return f"{base}/{kind}?_page={self._node.seal_page(kept)}"

    def _entry(self, found: RegistryObject, relations: Sequence[Association], base: str) -> answers.Resource:
        assert isinstance(found, DocumentEntry), "a search for entries finds entries"
        return answers.entry_resource(found, relations, base=base, patient_id=self._patient_id(found.patient_id))

    def _set(self, found: RegistryObject, members: Sequence[str]) -> answers.Resource:
        assert isinstance(found, SubmissionSet), "a search for lists finds sets"
        return answers.set_resource(found, members, patient_id=self._patient_id(found.patient_id))

    def _patient_id(self, cx: str) -> str:
        return self._node.patient_id(patient_of(cx) or ("", ""))


# -- looking ---------------------------------------------------------------------------------------------------


_INTERACTIONS: Final = (
    ("POST", "", _Door.provide),
    ("POST", "/", _Door.provide),
    ("GET", "/metadata", _Door.metadata),
    ("GET", "/DocumentReference", _Door.search_entries),
    ("POST", "/DocumentReference/_search", _Door.search_entries),
    ("GET", "/DocumentReference/{id}", _Door.read_entry),
    ("GET", "/List", _Door.search_lists),
    ("POST", "/List/_search", _Door.search_lists),
    ("GET", "/List/{id}", _Door.read_list),
    ("GET", "/Binary/{id}", _Door.read_document),
)
_NOTHING = "/{rest}"
ROUTES: Final[Routes] = {
    **{(method, BASE + path): Action.INDEX_USE for method, path, _ in _INTERACTIONS},
    ("*", BASE + _NOTHING): Action.INDEX_USE,
}
"""What each address of the FHIR door is for the policy."""


def add_routes(app: web.Application, node: FhirNode) -> None:
    """The routes of the FHIR door."""
    door = _Door(node)
    for method, path, handler in _INTERACTIONS:
        app.router.add_route(method, BASE + path, _guarded(door, MethodType(handler, door)))
    app.router.add_route("*", BASE + "/{rest:.*}", _guarded(door, door.nothing))


def _is_at(template: str, path: str) -> bool:
    """Whether a path is one of a route; an id begins with no underscore (FHIR 2.24.0.1)."""
    wanted, there = template.split("/"), path.split("/")
    return len(wanted) == len(there) and all(
        one == other or (one[:1] == "{" and other[:1] not in {"", "_"})
        for one, other in zip(wanted, there, strict=True)
    )


def _assigned(provided: Provided, answer: RegistryAnswer) -> dict[str, str]:
    """The entryUUID of each object of a request, {} when the answer names none (the same submission again)."""
    return dict(zip((one.id for one in provided.objects.objects), answer.registered, strict=False))


def _held(holdings: lookup.Holdings, provided: Provided) -> dict[str, str]:
    """The entryUUIDs under which the objects of a request are held already."""
    found: dict[str, str] = {}
    for one in provided.objects.subjects:
        chart = holdings.chart_of(one.unique_id)
        held = chart.one(one.unique_id) if chart else None
        if held is not None:
            found[one.id] = held.id
    return found


def _relations(holdings: lookup.Holdings, shown: Sequence[RegistryObject]) -> dict[str, list[Association]]:
    """The associations that start at each entry."""
    found: dict[str, list[Association]] = {}
    for one in shown:
        chart = holdings.chart_of(one.id)
        links = chart.associations([one.id]) if chart else []
        found[one.id] = [link for link in links if link.source == one.id]
    return found


def _members(holdings: lookup.Holdings, shown: Sequence[RegistryObject]) -> dict[str, list[str]]:
    relations = _relations(holdings, shown)
    return {name: [a.target for a in links if a.type == v.HAS_MEMBER] for name, links in relations.items()}


def _one(holdings: lookup.Holdings, bare: str) -> tuple[RegistryObject | None, list[Association]]:
    """The object of that id and the associations that start at it."""
    chart = holdings.chart_of(f"urn:uuid:{bare}")
    found = chart.one(f"urn:uuid:{bare}") if chart else None
    return found, _relations(holdings, [found])[found.id] if found else []


def _document(holdings: lookup.Holdings, bare: str) -> tuple[DocumentEntry | None, bytes | None]:
    """The entry of that id and its bytes, None for what was withdrawn or lies elsewhere."""
    chart = holdings.chart_of(f"urn:uuid:{bare}")
    found = chart.one(f"urn:uuid:{bare}") if chart else None
    if chart is None or not isinstance(found, DocumentEntry):
        return None, None
    return found, holdings.document(chart, found.unique_id) if found.status in v.SHOWN_STATUSES else None


# -- HTTP ------------------------------------------------------------------------------------------------------


class _Refusal(Exception):
    """An answer that is an error of HTTP."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


_Handler = Callable[[web.Request], Awaitable[web.Response]]


def _guarded(door: _Door, handler: _Handler) -> _Handler:
    """Whatever happens becomes an OperationOutcome."""

    async def handle(request: web.Request) -> web.Response:
        try:
            response = await (handler(request) if _takes_json(request) else _no_xml())
        except Exception as fault:  # noqa: BLE001 - supervision edge: the peer gets an outcome, the node goes on
            response = _failure(fault)
            try:
                await door.refused(request, response.status)
            except Fault as unrecorded:  # what cannot be recorded is not even refused in detail
                return _failure(unrecorded)
            return response
        log.info("fhir request answered", extra={"handler": handler.__name__, "status": response.status})
        return response

    return handle


async def _no_xml() -> web.Response:
    raise _Refusal(406, f"only {mhd.FHIR_JSON} is offered here, no XML")


def _failure(fault: Exception) -> web.Response:
    """The answer to a request that ended in ``fault``."""
    match fault:
        case _Refusal():
            return _failed(fault.status, RegistryError(code="XDSRegistryError", context=fault.said))
        case XdsRefusal():
            return _failed(answers.status_of(fault.errors), *fault.errors)
        case BadInput():
            error = RegistryError(code=fault.code, context=str(fault.args[0]))
            return _failed(answers.status_of((error,)), error)
        case web.HTTPException():
            response = _failed(fault.status, RegistryError(code="XDSRegistryError", context=fault.reason))
            response.headers.update({"Allow": fault.headers["Allow"]} if "Allow" in fault.headers else {})
            return response
        case Fault():
            log.warning("fhir request failed", extra={"code": fault.code})
            status, code = (503, "XDSRegistryNotAvailable") if fault.retryable else (500, "XDSRegistryError")
        case _:  # the kind only: a trace may quote a patient's values
            log.critical("fhir request failed by a defect", extra={"kind": type(fault).__name__})
            status, code = 500, "XDSRegistryError"
    return _failed(status, RegistryError(code=code, context=_NOT_NOW))


def _failed(status: int, *errors: RegistryError) -> web.Response:
    log.info("fhir request refused", extra={"status": status, "codes": " ".join(sorted({e.code for e in errors}))})
    return _json(answers.outcome(errors), status=status)


def _json(resource: Any, *, status: int = 200) -> web.Response:
    body = json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": f"{mhd.FHIR_JSON}; charset=utf-8", "Cache-Control": "no-store"}
    return web.Response(status=status, body=body, headers=headers)


def _base(request: web.Request) -> str:
    """The FHIR base as the peer addressed it."""
    return f"{request.scheme}://{request.host}{BASE}"


def _form(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=256)
    except (UnicodeDecodeError, ValueError):
        raise XdsRefusal(RegistryError(code="XDSRegistryError", context="the form cannot be read")) from None


def _accepted(accept: str) -> list[str]:
    """The media types of an Accept header, without those of quality 0."""
    stated = [part.strip().lower() for part in accept.split(",")]
    return [
        part.partition(";")[0].strip() for part in stated if not part.replace(" ", "").endswith((";q=0", ";q=0.0"))
    ]


def _takes_json(request: web.Request) -> bool:
    """Whether the peer takes what we offer; a document has its own types."""
    if request.path.startswith(f"{BASE}/Binary/"):
        return True
    types = _accepted(request.headers.get("Accept", "*/*"))
    return not {"*/*", "application/*", "", *_JSON_TYPES}.isdisjoint(types)


def _chosen(accept: str, mime_type: str) -> str:
    """``document``, ``resource`` or "": how a document is given to who accepts these types."""
    types = set(_accepted(accept))
    family = mime_type.partition("/")[0] + "/*"
    if not {mime_type.lower(), family, "*/*", ""}.isdisjoint(types):
        return "document"
    return "resource" if not _JSON_TYPES.isdisjoint(types) else ""
