"""OpenAPI documents of the two HTTP listeners, from the routes that are really there and the policy.

Built from live routers like the access matrix; what a listener may answer stands here once, by the kind of address, and
schemathesis holds the running site to it (``tests/acceptance/test_http_surface.py``). ``python -m tests.support.openapi``
writes ``docs/openapi``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from indexer.mhd.vocabulary import FHIR_JSON
from indexer.registry.fhir.search import ENTRY_PARAMETERS, LIST_PARAMETERS, Parameter
from security.parse.mime import SOAP_TYPE
from tests.support.access import Entry, entries, who_of

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "openapi"
DOORS: Mapping[str, str] = {"ops": "ops", "index node": "index-node"}
_HTML, _TEXT, _JSON, _PROBLEM, _FORM = (
    "text/html",
    "text/plain",
    "application/json",
    "application/problem+json",
    "application/x-www-form-urlencoded",
)
_MEANING: Mapping[int, str] = {
    200: "Done.",
    201: "Made.",
    202: "Taken.",
    204: "Done; nothing to say.",
    303: "Look there.",
    400: "The request breaks a rule of its form.",
    403: "Denied by the policy, or no form of ours.",
    404: "Nothing there, or nothing of yours.",
    405: "Another method is served here (Allow).",
    406: "That form is not offered.",
    409: "Not in this state, or it is known already.",
    412: "Another version stands there.",
    413: "Larger than is read.",
    415: "That form is not taken, nor any Content-Encoding.",
    422: "Understood, and against a rule of the index.",
    429: "Too many requests: see Retry-After.",
    503: "Not now: ask again later.",
}
_PAGE = {_HTML: (200, 303, 400, 403, 404, 405, 409, 413, 415, 429, 503)}
_KINDS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "page": _PAGE,
    "static": {"text/css": (200,), "text/javascript": (200,), "image/svg+xml": (200,), **_PAGE},
    "probe": {_TEXT: (200, 503), _JSON: (200, 503), _PROBLEM: (400, 403, 405, 413, 429)},
    "nudge": {_JSON: (202,), _PROBLEM: (400, 403, 404, 405, 413, 429)},
    "fhir": {FHIR_JSON: (200, 201, 400, 403, 404, 405, 406, 409, 412, 413, 415, 422, 429, 503), _PROBLEM: (403, 429)},
    "soap": {
        SOAP_TYPE: (200, 400, 503),
        "multipart/related": (200,),
        _TEXT: (400, 405, 413, 415),
        _PROBLEM: (403, 429),
    },
}


def document(door: str, there: Iterable[Entry]) -> dict[str, Any]:
    """The document of one door."""
    paths: dict[str, dict[str, Any]] = {}
    for one in sorted((e for e in there if e.door == door), key=lambda e: e.what.split(" ")[::-1]):
        method, path = one.what.split(" ", 1)
        if method in {"*", "HEAD"}:  # everything else under the prefix, answered as unknown; HEAD goes with GET
            continue
        paths.setdefault(path, {})[method.lower()] = _operation(one, method, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Poterne, {door}",
            "version": "1",
            "description": "Generated from the router and the policy (python -m tests.support.openapi).",
        },
        "paths": paths,
    }


def _operation(one: Entry, method: str, path: str) -> dict[str, Any]:
    kind = _kind(path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    known = {"DocumentReference": ENTRY_PARAMETERS, "List": LIST_PARAMETERS}.get(path.rsplit("/", maxsplit=1)[-1], {})
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "-", f"{method.lower()}{path}").strip("-"),
        "summary": f"{one.action}: {who_of(one)}",
        "parameters": [*parameters, *_searched(known)],
        "responses": _responses(_KINDS[kind]),
    }
    body = _body(kind, path) if method == "POST" else None
    return operation | ({"requestBody": {"content": body}} if body else {})


def _kind(path: str) -> str:
    if path.startswith("/console/static/"):
        return "static"
    if path in {"/live", "/ready", "/metrics"}:
        return "probe"
    starts = {"/fhir": "fhir", "/xds": "soap", "/pacs": "nudge"}
    return next((kind for start, kind in starts.items() if path.startswith(start)), "page")


def _searched(known: Mapping[str, Parameter]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "description": one.meaning, "schema": {"type": "string"}}
        for name, one in known.items()
    ]


def _responses(kinds: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for content_type, statuses in kinds.items():
        for status in statuses:
            said = found.setdefault(str(status), {"description": _MEANING[status]})
            if status not in {204, 303}:
                said.setdefault("content", {})[content_type] = {}
    return dict(sorted(found.items()))


def _body(kind: str, path: str) -> dict[str, Any] | None:
    match kind:
        case "fhir" if path.endswith("/_search"):
            return {_FORM: {"schema": {"type": "object", "additionalProperties": {"type": "string"}}}}
        case "fhir":
            resource = {"type": "object", "properties": {"resourceType": {"type": "string"}}}
            entry = {"type": "object", "properties": {"fullUrl": {"type": "string"}, "resource": resource}}
            bundle = {
                "resourceType": {"const": "Bundle"},
                "type": {"const": "transaction"},
                "entry": {"type": "array", "items": entry},
            }
            return {FHIR_JSON: {"schema": {"type": "object", "properties": bundle, "required": ["resourceType"]}}}
        case "soap":
            return {SOAP_TYPE: {"schema": {"type": "string"}}}
        case "page":
            fields = {name: {"type": "string"} for name in ("csrf", "name", "password", "totp", "code", "reason")}
            return {_FORM: {"schema": {"type": "object", "properties": fields}}}
        case _:
            return None


def written(door: str) -> str:
    """The text of the document of a door."""
    return json.dumps(document(door, entries()), ensure_ascii=False, indent=1, sort_keys=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one, file in DOORS.items():
        (FOLDER / f"{file}.json").write_text(written(one), encoding="utf-8")
