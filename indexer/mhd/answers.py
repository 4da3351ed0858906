"""What an MHD answer means: accepted, refused, busy, or nobody knows; found, absent, or nobody knows.

The same discipline as at the XDS door (``indexer.xds.answers``), and its tables of error codes, which MHD reuses.

Invariants:

* accepted is said in exactly one way: HTTP 200, a readable Bundle ``transaction-response`` with as many entries as
  the request or more, each of them a success, and no error in any outcome;
* absent needs a clean, whole and empty searchset: a next page, a total or an outcome that says more is no answer;
* whatever cannot be read after the request has left is ``Ambiguous``;
* the index's own words (diagnostics, details.text) may name a patient and never leave this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.mhd import values
from indexer.mhd import vocabulary as mhd
from indexer.mhd.values import Resource, item, items, text
from indexer.ports import (
    Accepted,
    Ambiguous,
    EntryAbsent,
    EntryAnswer,
    EntryFound,
    EntryUnknown,
    IndexAnswer,
    Listed,
    Rejected,
)
from indexer.wire import BUSY_STATUSES, HttpReply, retry_after_s
from indexer.xds import vocabulary as xds
from indexer.xds.answers import SIGNATURE_TYPE, AnswerRules, refusal
from security.errors import BadInput, Fault, Unavailable
from security.parse.json import parse_json

_SUCCESS = re.compile(r"20[0-9]( .*)?", re.ASCII | re.DOTALL)
_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", re.ASCII)
_WORD = re.compile(r"[A-Za-z]{6,64}", re.ASCII)
_KNOWN_CODES = (
    xds.TRANSIENT_CODES
    | xds.ALREADY_THERE_CODES
    | xds.CHANGED_MEANWHILE_CODES
    | xds.INTERNAL_CODES
    | xds.LASTING_CODES
    | {mhd.FHIR_DOCUMENT_NOT_SUPPORTED}
)
_ERRORS = frozenset({"error", "fatal"})
_STATUS_WORDS = {mhd.CURRENT: "Approved", mhd.SUPERSEDED: "Deprecated", mhd.IN_ERROR: "Deleted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One DocumentReference that a search found. ``reference``: ``DocumentReference/<id>``; ``url``: of its
    document; ``codes``: of its securityLabel, None without one."""

    reference: str
    unique_id: str
    status: str
    url: str
    codes: frozenset[str] | None = None


def provide_answer(reply: HttpReply, rules: AnswerRules, *, entries: int) -> IndexAnswer:
    """The outcome of ITI-65. ``entries``: how many the request had."""
    try:
        answer = _read(reply)
        if answer.get("resourceType") == "OperationOutcome":
            return _refused(reply, answer, rules)
        return _provided(reply, answer, entries)
    except BadInput as fault:
        return _by_status(reply, fault.code)


def withdrawal_answer(reply: HttpReply, rules: AnswerRules, *, entries: int) -> IndexAnswer:
    """The outcome of a withdrawal: an entry that is no longer as we saw it is no refusal (I9), the index is asked."""
    answer = provide_answer(reply, rules, entries=entries)
    if isinstance(answer, Rejected) and not xds.CHANGED_MEANWHILE_CODES.isdisjoint(answer.codes):
        return Ambiguous(reason="changed-meanwhile", detail=answer.detail)
    if isinstance(answer, Rejected) and {"http-404", "http-410"} & set(answer.codes):
        return Ambiguous(reason="changed-meanwhile", detail=answer.detail)
    return answer


def entry_answer(reply: HttpReply, unique_id: str) -> EntryAnswer:
    """What ITI-67 by identifier shows."""
    matches = search_matches(reply, unique_id)
    if not isinstance(matches, list):
        return matches
    return _told(matches, unique_id) if matches else EntryAbsent()


def _told(matches: Sequence[Match], unique_id: str) -> EntryAnswer:
    """What the matches of one uniqueId say together."""
    current = [one for one in matches if one.status == mhd.CURRENT]
    if len(current) > 1:
        return EntryUnknown(reason="several-approved", detail=f"{len(current)} current entries have this uniqueId")
    chosen = current[0] if current else matches[0]
    status = _STATUS_WORDS.get(chosen.status)
    if status is None:
        return EntryUnknown(reason="unreadable-entry", detail="the entry has a status that FHIR does not list")
    return EntryFound(entry_uuid=chosen.reference, unique_id=unique_id, status=status, codes=chosen.codes)


def entries_shown(reply: HttpReply, unique_ids: Sequence[str]) -> Mapping[str, EntryFound]:
    """What ITI-67 by several identifiers shows, nothing of an unclean answer."""
    listed = _references(reply)
    if isinstance(listed, EntryUnknown):
        return {}
    found: dict[str, list[Match]] = {}
    for resource in listed:
        for unique_id in unique_ids:
            if (match := _match(resource, unique_id)) is not None:
                found.setdefault(unique_id, []).append(match)
    told = {unique_id: _told(matches, unique_id) for unique_id, matches in found.items()}
    return {unique_id: one for unique_id, one in told.items() if isinstance(one, EntryFound)}


def listed_entries(reply: HttpReply) -> tuple[Listed, ...] | EntryUnknown:
    """What ITI-67 by patient and related identifier lists. Empty needs a whole and clean searchset."""
    resources = _references(reply)
    if isinstance(resources, EntryUnknown):
        return resources
    try:
        found = [_listed(resource) for resource in resources if not _is_signature(resource)]
    except BadInput as fault:
        return EntryUnknown(reason="unreadable-entry", detail=f"an entry of the answer cannot be read: {fault.code}")
    listed = [one for one in found if one is not None]
    if len(listed) != len(found):
        return EntryUnknown(reason="unreadable-entry", detail="an entry of the answer cannot be read")
    return tuple(listed)


def search_matches(reply: HttpReply, unique_id: str) -> list[Match] | EntryUnknown:
    """The DocumentReferences that a whole and clean searchset lists, each of this uniqueId."""
    listed = _references(reply)
    if isinstance(listed, EntryUnknown):
        return listed
    try:
        found = [match for resource in listed if (match := _match(resource, unique_id)) is not None]
    except BadInput as fault:
        return EntryUnknown(reason="unreadable-answer", detail=f"HTTP {reply.http_status}: {fault.code}")
    if len(found) != len(listed):
        return EntryUnknown(reason="other-objects", detail="the answer lists resources that were not asked for")
    return found


def _references(reply: HttpReply) -> list[Resource] | EntryUnknown:
    """The resources that a whole and clean searchset lists."""
    try:
        answer = _read(reply)
        if reply.http_status != 200:
            return _no_search(reply, answer)
        if answer.get("resourceType") != "Bundle" or answer.get("type") != "searchset":
            return EntryUnknown(reason="query-failed", detail="the answer is no Bundle of type searchset")
        return _listing(answer)
    except BadInput as fault:
        return EntryUnknown(reason="unreadable-answer", detail=f"HTTP {reply.http_status}: {fault.code}")


def retrieved(reply: HttpReply) -> bytes:
    """The document that ITI-68 brought.

    Raises:
        Unavailable, BadInput: none came; ``code`` is ``http-<status>``.
    """
    if reply.http_status == 200:
        return reply.data
    lasting = 300 <= reply.http_status < 500 and reply.http_status not in BUSY_STATUSES
    raise no_document(f"http-{reply.http_status}", lasting=lasting)


def no_document(code: str, *, lasting: bool) -> Fault:
    """The refusal of ITI-68."""
    kind = BadInput if lasting else Unavailable
    hint = "ask the operator of the index" if lasting else "ask again later"
    return kind("ITI-68 brought no document", code=code, hint=hint)


# -- transactions --------------------------------------------------------------------------------------------------


def _read(reply: HttpReply) -> Resource:
    answer = parse_json(reply.data, what="answer of the index")
    if not isinstance(answer, dict):
        raise values.unfit("the answer is no object", code="json-shape")
    return answer


def _provided(reply: HttpReply, answer: Resource, entries: int) -> IndexAnswer:
    if answer.get("resourceType") != "Bundle" or answer.get("type") != "transaction-response":
        return _by_status(reply, "the answer is neither transaction-response nor OperationOutcome")
    responses = [item(one, "response", "entry") for one in items(answer, "entry", "Bundle")]
    failed = [one for one in responses if not _SUCCESS.fullmatch(text(one, "status", "response"))]
    outcomes = [item(one, "outcome", "response") for one in responses]
    errors = [code for outcome in outcomes for code in _codes(outcome, _ERRORS)]
    if not 200 <= reply.http_status < 300 or len(responses) < entries or failed or errors:
        return Ambiguous(
            reason="contradictory-answer",
            detail=f"{len(responses)} answers to {entries} entries, {len(failed)} failed, HTTP {reply.http_status}",
        )
    warnings = [code for outcome in outcomes for code in _codes(outcome, frozenset({"warning"}))]
    return Accepted(detail="with warnings " + " ".join(dict.fromkeys(warnings)) if warnings else "")


def _refused(reply: HttpReply, outcome: Resource, rules: AnswerRules) -> IndexAnswer:
    codes = _codes(outcome, _ERRORS)
    if 200 <= reply.http_status < 300:
        return Ambiguous(reason="contradictory-answer", detail=f"OperationOutcome under HTTP {reply.http_status}")
    known = [code for code in codes if code in _KNOWN_CODES]
    if not known and reply.http_status not in BUSY_STATUSES | {409, 412} and 400 <= reply.http_status < 500 and codes:
        unlisted = tuple(code for code in codes if code != "no-code") or (f"http-{reply.http_status}",)
        return Rejected(
            lasting=True, known=False, codes=unlisted, detail=f"HTTP {reply.http_status} with an unknown code"
        )
    if not known:
        return _by_status(reply, "an OperationOutcome without a code of XDS")
    if mhd.FHIR_DOCUMENT_NOT_SUPPORTED in known:
        return Rejected(
            lasting=True,
            known=False,  # the setting fhir_documents = "binary" is the way, not another exam
            codes=(mhd.FHIR_DOCUMENT_NOT_SUPPORTED,),
            detail="the index takes FHIR documents as Binary only",
        )
    answer = refusal(known, rules)
    if isinstance(answer, Rejected):
        return Rejected(
            lasting=answer.lasting,
            known=answer.known,
            codes=answer.codes,
            detail=answer.detail,
            retry_after_s=retry_after_s(reply.retry_after),
        )
    return answer


def _codes(outcome: Resource, severities: frozenset[str]) -> list[str]:
    """The codes of the issues of these severities, each once: XDS's where one stands anywhere in the issue, else the
    one of its details, else "no-code"."""
    found: dict[str, None] = {}
    for issue in items(outcome, "issue", "OperationOutcome"):
        if issue.get("severity") in severities:
            named = [word for word in _words(issue) if word in _KNOWN_CODES]
            stated = [code for code in _coded(issue) if _CODE.fullmatch(code)]
            found[next(iter([*named, *stated]), "no-code")] = None
    return list(found)


def _coded(issue: Resource) -> list[str]:
    return [text(one, "code", "coding") for one in items(item(issue, "details", "issue"), "coding", "details")]


def _words(issue: Resource) -> Iterable[str]:
    details = item(issue, "details", "issue")
    yield from _coded(issue)
    for said in (text(details, "text", "details"), text(issue, "diagnostics", "issue")):
        yield from _WORD.findall(said[:2000])


def _by_status(reply: HttpReply, why: str) -> Rejected | Ambiguous:
    """Only the HTTP status speaks. 500, 502 and 504 come from hops that do not know what the index did (FF-23)."""
    status = reply.http_status
    if status in BUSY_STATUSES:
        return Rejected(
            lasting=False,
            known=True,
            codes=(f"http-{status}",),
            detail=f"HTTP {status}",
            retry_after_s=retry_after_s(reply.retry_after),
        )
    if status in {409, 412}:
        return Ambiguous(reason="already-there", detail=f"HTTP {status}")
    if 300 <= status < 500:
        detail = f"HTTP {status} without a code of XDS: address, certificate, route or content"
        return Rejected(lasting=True, known=False, codes=(f"http-{status}",), detail=detail)
    return Ambiguous(reason="unreadable-answer", detail=f"HTTP {status}, {len(reply.data)} bytes: {why}")


# -- searches --------------------------------------------------------------------------------------------------------


def _no_search(reply: HttpReply, answer: Resource) -> EntryUnknown:
    codes = _codes(answer, _ERRORS) if answer.get("resourceType") == "OperationOutcome" else []
    stated = [code for code in codes if code != "no-code"] or [f"http-{reply.http_status}"]
    return EntryUnknown(reason="+".join(stated), detail=f"the search was answered with HTTP {reply.http_status}")


def _listing(answer: Resource) -> list[Resource] | EntryUnknown:
    links = {text(link, "relation", "link") for link in items(answer, "link", "Bundle")}
    listed: list[Resource] = []
    for entry in items(answer, "entry", "Bundle"):
        mode = text(item(entry, "search", "entry"), "mode", "search")
        resource = item(entry, "resource", "entry")
        if mode == "outcome" or resource.get("resourceType") == "OperationOutcome":
            if _codes(resource, _ERRORS):
                return EntryUnknown(reason="query-failed", detail="the searchset carries an error")
        elif mode != "include":
            listed.append(resource)
    total = answer.get("total")
    if "next" in links or (isinstance(total, int) and total > len(listed)):
        return EntryUnknown(reason="partial-answer", detail="the searchset is not whole")
    return listed


def _listed(resource: Resource) -> Listed | None:
    """The resource as an entry of a search, None when it is no readable DocumentReference with a uniqueId."""
    if resource.get("resourceType") != "DocumentReference":
        return None
    unique_id = values.unique_id_of(item(resource, "masterIdentifier", "resource"), "masterIdentifier")
    match = _match(resource, unique_id)
    status = _STATUS_WORDS.get(match.status) if match else None
    if match is None or status is None:
        return None
    attachment = item(next(iter(items(resource, "content", "resource")), {}), "attachment", "content")
    created = text(attachment, "creation", "attachment")
    author, institution = _author(resource)
    return Listed(
        entry=EntryFound(entry_uuid=match.reference, unique_id=unique_id, status=status),
        created=values.dtm_of_moment(created, "attachment.creation") if created else "",
        author=author,
        institution=institution,
    )


def _author(resource: Resource) -> tuple[str, str]:
    """Identifier of the one author, and of the structure it acts for, both contained; "" where that is not said."""
    inside = {f"#{text(one, 'id', 'contained')}": one for one in items(resource, "contained", "resource")}
    authors = items(resource, "author", "resource")
    if len(authors) != 1:
        return "", ""
    author = inside.get(text(authors[0], "reference", "author"), {})
    owner = inside.get(text(item(author, "owner", "author"), "reference", "owner"), {})
    return _identifier(author), _identifier(owner)


def _identifier(resource: Resource) -> str:
    return text(next(iter(items(resource, "identifier", "contained")), {}), "value", "identifier")


def _is_signature(resource: Resource) -> bool:
    content = next(iter(items(resource, "content", "resource")), {})
    return text(item(content, "attachment", "content"), "contentType", "attachment") == SIGNATURE_TYPE


def _match(resource: Resource, unique_id: str) -> Match | None:
    """The resource as a match, None when it is no readable DocumentReference of that uniqueId."""
    identifiers = [item(resource, "masterIdentifier", "resource"), *items(resource, "identifier", "resource")]
    wanted = values.unique_id_value(unique_id)
    is_ours = any((one.get("system"), one.get("value")) == (wanted["system"], wanted["value"]) for one in identifiers)
    bare = text(resource, "id", "resource")
    if resource.get("resourceType") != "DocumentReference" or not is_ours or not _is_id(bare):
        return None
    content: list[Any] = items(resource, "content", "resource")
    attachment = item(content[0], "attachment", "content") if len(content) == 1 else {}
    return Match(
        reference=f"DocumentReference/{bare}",
        unique_id=unique_id,
        status=text(resource, "status", "resource"),
        url=text(attachment, "url", "attachment"),
        codes=_security(resource),
    )


def _security(resource: Resource) -> frozenset[str] | None:
    labels = items(resource, "securityLabel", "resource")
    stated = (text(one, "code", "coding") for label in labels for one in items(label, "coding", "securityLabel"))
    return frozenset(filter(None, stated)) or None


def _is_id(text_: str) -> bool:
    """FHIR R4 2.24.0.1, id."""
    return re.fullmatch(r"[A-Za-z0-9.-]{1,64}", text_, re.ASCII) is not None


def is_within(url: str, base: str) -> bool:
    """Whether an absolute URL lies under the configured base, without a step upwards (T26)."""
    rest = url.removeprefix(base.rstrip("/") + "/")
    return rest != url and ".." not in rest and "%2e" not in rest.lower() and "\\" not in rest and "@" not in rest
