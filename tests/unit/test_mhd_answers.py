"""``indexer.mhd.answers``: real and hostile answers, each with its one meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest

from indexer.mhd.answers import entry_answer, is_within, provide_answer, retrieved, withdrawal_answer
from indexer.ports import Accepted, Ambiguous, EntryAbsent, EntryFound, EntryUnknown, Rejected
from indexer.wire import HttpReply
from indexer.xds.answers import AnswerRules
from security.errors import BadInput, Unavailable
from tests.corpus import corpus

RULES = AnswerRules()
UNIQUE = "2.25.1"
CREATED = {"response": {"status": "201 Created", "location": "List/1"}}


def reply(body: Any, status: int = 200, **headers: str) -> HttpReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(http_status=status, content_type="application/fhir+json", data=data, **headers)


def response(*entries: Any, kind: str = "transaction-response") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def outcome(code: str = "", *, severity: str = "error", said: str = "") -> dict[str, Any]:
    issue: dict[str, Any] = {"severity": severity, "code": "processing", "diagnostics": said}
    if code:
        issue["details"] = {"coding": [{"code": code}]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def meaning(answer: object) -> tuple[object, ...]:
    match answer:
        case Accepted():
            return ("accepted",)
        case Ambiguous(reason=reason):
            return "ambiguous", reason
        case Rejected(lasting=lasting, known=known, codes=codes):
            return "rejected", lasting, known, codes
    return (answer,)


@pytest.mark.parametrize(
    ("got", "means"),
    [
        (reply(response(CREATED, CREATED, CREATED)), ("accepted",)),
        (reply(response(CREATED, CREATED, CREATED, CREATED)), ("accepted",)),
        (reply(response(CREATED, CREATED, {"response": {"status": "200"}})), ("accepted",)),
        (reply(response(CREATED, CREATED)), ("ambiguous", "contradictory-answer")),
        (reply(response(CREATED, CREATED, {"response": {"status": "422"}})), ("ambiguous", "contradictory-answer")),
        (
            reply(response(CREATED, CREATED, {"response": {"status": "201", "outcome": outcome("x")}})),
            ("ambiguous", "contradictory-answer"),
        ),
        (reply(response(CREATED, CREATED, CREATED), 500), ("ambiguous", "contradictory-answer")),
        (reply(response(CREATED, CREATED, CREATED, kind="searchset")), ("ambiguous", "unreadable-answer")),
        (reply({"resourceType": "Patient"}), ("ambiguous", "unreadable-answer")),
        (reply(outcome("XDSRepositoryMetadataError")), ("ambiguous", "contradictory-answer")),
        (
            reply(outcome("XDSRepositoryMetadataError"), 422),
            ("rejected", True, True, ("XDSRepositoryMetadataError",)),
        ),
        (
            reply(outcome(said="the code is XDSPatientIdDoesNotMatch"), 400),
            ("rejected", True, True, ("XDSPatientIdDoesNotMatch",)),
        ),
        (reply(outcome("XDSRegistryBusy"), 503), ("rejected", False, True, ("XDSRegistryBusy",))),
        (reply(outcome("XDSDuplicateUniqueIdInRegistry"), 409), ("ambiguous", "already-there")),
        (reply(outcome("XDSNonIdenticalHash"), 422), ("ambiguous", "already-there")),
        (reply(outcome("XDSRegistryError"), 500), ("rejected", False, False, ("XDSRegistryError",))),
        (reply(outcome("SomethingNew"), 422), ("rejected", True, False, ("SomethingNew",))),
        (reply(outcome(), 422), ("rejected", True, False, ("http-422",))),
        (
            reply(outcome("FHIRDocumentNotSupported"), 422),
            ("rejected", True, False, ("FHIRDocumentNotSupported",)),
        ),
        (reply(outcome(), 409), ("ambiguous", "already-there")),
        (reply(outcome(), 412), ("ambiguous", "already-there")),
        (reply(outcome(), 429), ("rejected", False, True, ("http-429",))),
        (reply(b"", 503), ("rejected", False, True, ("http-503",))),
        (reply(b"<html>", 200), ("ambiguous", "unreadable-answer")),
        (reply(b"", 200), ("ambiguous", "unreadable-answer")),
        (reply(json.dumps(response(CREATED)).encode()[:-9]), ("ambiguous", "unreadable-answer")),
        (reply(b"<html>", 302), ("rejected", True, False, ("http-302",))),
        (reply(b"", 401), ("rejected", True, False, ("http-401",))),
        (reply(b"", 403), ("rejected", True, False, ("http-403",))),
        (reply(b"", 404), ("rejected", True, False, ("http-404",))),
        (reply(b"", 500), ("ambiguous", "unreadable-answer")),
        (reply(b"", 502), ("ambiguous", "unreadable-answer")),
        (reply(b"[" * 100_000), ("ambiguous", "unreadable-answer")),
    ],
)
def test_an_answer_to_iti65_has_one_meaning(got: HttpReply, means: tuple[object, ...]) -> None:
    assert meaning(provide_answer(got, RULES, entries=3)) == means


def test_retry_after_is_kept() -> None:
    answer = provide_answer(reply(b"", 503, retry_after="7"), RULES, entries=3)
    assert isinstance(answer, Rejected)
    assert answer.retry_after_s == 7


def test_t34_the_index_s_own_words_stay_inside() -> None:
    told = outcome("XDSRegistryMetadataError", said="patient FANTOME 285067512300109")
    assert "FANTOME" not in repr(provide_answer(reply(told, 422), RULES, entries=3))


@pytest.mark.parametrize("code", ["XDSMetadataUpdateError", "UnresolvedReferenceException"])
def test_i09_an_entry_that_changed_meanwhile_is_asked_for(code: str) -> None:
    assert meaning(withdrawal_answer(reply(outcome(code), 409), RULES, entries=2)) == (
        "ambiguous",
        "changed-meanwhile",
    )


def reference(status: str = "current", unique_id: str = UNIQUE, name: str = "7") -> dict[str, Any]:
    return {
        "resource": {
            "resourceType": "DocumentReference",
            "id": name,
            "status": status,
            "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:oid:{unique_id}"},
            "content": [{"attachment": {"url": "Binary/7"}}],
        }
    }


def found(status: str) -> EntryFound:
    return EntryFound(entry_uuid="DocumentReference/7", unique_id=UNIQUE, status=status)


def searchset(*entries: Any, **more: Any) -> dict[str, Any]:
    return {**response(*entries, kind="searchset"), **more}


NEXT = [{"relation": "next", "url": "x"}]


@pytest.mark.parametrize(
    ("got", "means"),
    [
        (reply(searchset()), EntryAbsent()),
        (reply({"resourceType": "Bundle", "type": "searchset", "total": 0}), EntryAbsent()),
        (reply(searchset(reference())), found("Approved")),
        (reply(searchset(reference("superseded"))), found("Deprecated")),
        (reply(searchset(reference("entered-in-error"))), found("Deleted")),
        (reply(searchset(reference("superseded", name="6"), reference())), found("Approved")),
        (reply(searchset({**reference(), "search": {"mode": "include"}})), EntryAbsent()),
    ],
)
def test_a_whole_and_clean_searchset_is_an_answer(got: HttpReply, means: object) -> None:
    assert entry_answer(got, UNIQUE) == means


@pytest.mark.parametrize(
    ("got", "reason"),
    [
        (reply(searchset(link=NEXT)), "partial-answer"),
        (reply(searchset(total=1)), "partial-answer"),
        (reply(searchset(reference(unique_id="2.25.2"))), "other-objects"),
        (reply(searchset(reference(name="../7"))), "other-objects"),
        (reply(searchset(reference(), reference(name="8"))), "several-approved"),
        (reply(searchset(reference("draft"))), "unreadable-entry"),
        (reply(searchset({"resource": outcome("x"), "search": {"mode": "outcome"}})), "query-failed"),
        (reply(response(kind="collection")), "query-failed"),
        (reply(outcome("XDSTooManyResults"), 400), "XDSTooManyResults"),
        (reply(outcome(), 404), "http-404"),
        (reply(searchset(), 206), "http-206"),
        (reply(b"<html>"), "unreadable-answer"),
        (reply(b""), "unreadable-answer"),
        (reply(b"", 503), "unreadable-answer"),
    ],
)
def test_ff54_nothing_else_is_an_absence(got: HttpReply, reason: str) -> None:
    answer = entry_answer(got, UNIQUE)
    assert isinstance(answer, EntryUnknown)
    assert answer.reason == reason


def test_a_document_that_does_not_come_is_said_by_its_status() -> None:
    assert retrieved(reply(b"DICM")) == b"DICM"
    with pytest.raises(BadInput):
        retrieved(reply(b"", 410))
    with pytest.raises(Unavailable):
        retrieved(reply(b"", 503))


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://index.test/fhir/Binary/7", True),
        ("https://index.test/fhir/../admin", False),
        ("https://index.test/fhir/%2e%2E/admin", False),
        ("https://index.test/fhirx/Binary/7", False),
        ("https://index.test.evil/fhir/Binary/7", False),
        ("http://index.test/fhir/Binary/7", False),
        ("http://169.254.169.254/", False),
        ("file:///etc/passwd", False),
    ],
)
def test_t26_only_addresses_under_the_configured_base_are_dialled(url: str, inside: bool) -> None:
    assert is_within(url, "https://index.test/fhir") is inside


@pytest.mark.corpus
@pytest.mark.parametrize(
    "level", ["minimalProvideDocumentBundleSimple", "comprehensiveProvideDocumentBundleComplete"]
)
def test_the_published_responses_are_read(level: str) -> None:
    data = corpus("ihe", "mhd", f"Bundle-ex-response-{level}.json").read_bytes()
    assert provide_answer(reply(data), RULES, entries=4) == Accepted()


@pytest.mark.corpus
def test_the_published_searchsets_are_no_answer_to_another_question() -> None:
    for name in ("Bundle-FindDocumentReferences.json", "Bundle-ex-findDocumentReferencesResponse.json"):
        answer = entry_answer(reply(corpus("ihe", "mhd", name).read_bytes()), UNIQUE)
        assert isinstance(answer, EntryUnknown)
        assert answer.reason == "other-objects"
