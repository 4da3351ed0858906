"""F10 as one table: HTTP status × content type × body of an index's answer to ITI-41 → what the outbox does with it.

``accepted``: ask by query and be done. ``retry``: the same bytes later. ``ask``: nobody knows, a query first. ``hold``:
a person looks. ``refuse``: only other content can succeed. What is slow, cut or too large never becomes a whole
answer: tests/integration/test_xds_client.py has those, on sockets.
"""

from __future__ import annotations

import gzip

import pytest

from indexer.ports import Accepted, Ambiguous, IndexAnswer
from indexer.xds import vocabulary as v
from indexer.xds.answers import AnswerRules, Reply, registry_answer, update_answer
from tests.unit.test_answers import (
    FAILURE,
    HOLD,
    NS,
    OTHER,
    PARTIAL,
    SUCCESS,
    WARNING,
    errors,
    fault,
    raw,
    registry_response,
    reply,
)

XML, SOAP = "text/xml; charset=UTF-8", "application/soap+xml; charset=UTF-8"
MTOM = 'multipart/related; type="application/xop+xml"; start="<r>"; boundary=b'
HTML = b"<!DOCTYPE html><html><body><form action='/login'>FANTOME LUCIE</form></body></html>"
FAULT_11 = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><e:Fault><faultcode>e:Server</faultcode>'
    b"<faultstring>FANTOME LUCIE</faultstring></e:Fault></e:Body></e:Envelope>"
)

# what ITI TF-3 table 4.2.4.1-2 and its supplements list, and what it means to who submitted
CODES: dict[str, str] = {
    "DocumentQueued": "hold",  # a warning; as an error nobody knows what the index means
    "FHIRDocumentNotSupported": "refuse",
    "InvalidDocumentContent": "refuse",
    "LocalPolicyRestrictionError": "refuse",
    "PartialAppendContentNotProcessed": "hold",
    "PartialFolderContentNotProcessed": "hold",
    "PartialRelationshipContentNotProcessed": "hold",
    "PartialReplaceContentNotProcessed": "hold",
    "PartialTransformNotProcessed": "hold",
    "PartialTransformReplaceNotProcessed": "hold",
    "ReferencesExistException": "refuse",
    "UnavailableRecipient": "retry",
    "UnknownRecipient": "refuse",
    "UnmodifiableMetadataError": "refuse",
    "UnresolvedReferenceException": "refuse",
    "XDSDocumentUniqueIdError": "refuse",
    "XDSDuplicateUniqueIdInRegistry": "ask",
    "XDSExtraMetadataNotSaved": "hold",
    "XDSMetadataIdentifierError": "refuse",
    "XDSMetadataUpdateError": "refuse",
    "XDSMetadataUpdateOperationError": "refuse",
    "XDSMetadataVersionError": "refuse",
    "XDSMissingDocument": "refuse",
    "XDSMissingDocumentMetadata": "refuse",
    "XDSMissingHomeCommunityId": "refuse",
    "XDSNonIdenticalHash": "ask",
    "XDSNonIdenticalSize": "ask",
    "XDSObjectTypeError": "refuse",
    "XDSPatientIDReconciliationError": "refuse",
    "XDSPatientIdDoesNotMatch": "refuse",
    "XDSRegistryBusy": "retry",
    "XDSRegistryDeprecatedDocumentError": "refuse",
    "XDSRegistryDuplicateUniqueIdInMessage": "refuse",
    "XDSRegistryError": "hold",
    "XDSRegistryMetadataError": "refuse",
    "XDSRegistryNotAvailable": "retry",
    "XDSRegistryOutOfResources": "retry",
    "XDSRemoveDocumentsError": "refuse",
    "XDSRepositoryBusy": "retry",
    "XDSRepositoryDuplicateUniqueIdInMessage": "refuse",
    "XDSRepositoryError": "hold",
    "XDSRepositoryMetadataError": "refuse",
    "XDSRepositoryOutOfResources": "retry",
    "XDSResultNotSinglePatient": "refuse",
    "XDSStoredQueryMissingParam": "refuse",
    "XDSStoredQueryParamNumber": "refuse",
    "XDSTooManyResults": "refuse",
    "XDSUnavailableCommunity": "retry",
    "XDSUnknownCommunity": "refuse",
    "XDSUnknownPatientId": "refuse",
    "XDSUnknownRepositoryId": "refuse",
    "XDSUnknownStoredQuery": "refuse",
    "XDSUnreferencedObjectException": "refuse",
    "SomethingOfTheirOwn": "hold",
}
ENVELOPES: dict[str, tuple[Reply, str]] = {
    "Success, plain SOAP": (reply(registry_response(SUCCESS), mtom=False), "accepted"),
    "Success, MTOM": (reply(registry_response(SUCCESS)), "accepted"),
    "Success, HTTP 202": (reply(registry_response(SUCCESS), status=202), "accepted"),
    "Success with a warning": (
        reply(registry_response(SUCCESS, errors("DocumentQueued", severity=WARNING))), "accepted"),
    "Success with an error": (reply(registry_response(SUCCESS, errors("XDSRegistryBusy"))), "ask"),
    "Success with an error and a warning": (
        reply(registry_response(SUCCESS, errors("XDSRegistryError") + errors("X", severity=WARNING))), "ask"),
    "Success under HTTP 500": (reply(registry_response(SUCCESS), status=500), "ask"),
    "Success under HTTP 401": (reply(registry_response(SUCCESS), status=401), "ask"),
    "Success to somebody else": (reply(registry_response(SUCCESS), relates_to=OTHER), "ask"),
    "Success to nobody": (reply(registry_response(SUCCESS), relates_to=""), "ask"),
    "Success without namespace": (reply('<RegistryResponse status="Success"/>'), "ask"),
    "Success of ebRS 2.1": (
        reply('<r:RegistryResponse xmlns:r="urn:oasis:names:tc:ebxml-regrep:registry:xsd:2.1" status="Success"/>'), "ask"),
    "Success in small letters": (reply(registry_response(SUCCESS.lower())), "ask"),
    "PartialSuccess": (reply(registry_response(PARTIAL)), "ask"),
    "PartialSuccess with a busy code": (reply(registry_response(PARTIAL, errors("XDSRegistryBusy"))), "ask"),
    "Failure with a warning alone": (
        reply(registry_response(FAILURE, errors("XDSExtraMetadataNotSaved", severity=WARNING))), "hold"),
    "Failure without an error": (reply(registry_response(FAILURE)), "hold"),
    "Failure under HTTP 500": (
        reply(registry_response(FAILURE, errors("XDSRegistryMetadataError")), status=500), "refuse"),
    "Failure, busy and refused": (
        reply(registry_response(FAILURE, errors("XDSRegistryBusy", "XDSMissingDocument"))), "refuse"),
    "Failure, busy and unheard of": (reply(registry_response(FAILURE, errors("XDSRegistryBusy", "Own"))), "hold"),
    "Failure, refused and there already": (
        reply(registry_response(FAILURE, errors("XDSRegistryMetadataError", "XDSNonIdenticalHash"))), "ask"),
    "no status": (reply(f"<rs:RegistryResponse {NS}/>"), "ask"),
    "status of a query": (reply(f'<query:AdhocQueryResponse {NS} status="{SUCCESS}"/>'), "ask"),
    "two bodies": (reply(registry_response(SUCCESS) * 2), "ask"),
    "empty body element": (reply(""), "ask"),
    "login page, HTTP 200": (raw(HTML), "ask"),
    "login page called SOAP": (raw(HTML, content_type=SOAP), "ask"),
    "login page, HTTP 302": (raw(HTML, status=302), "hold"),
    "login page, HTTP 401": (raw(HTML, status=401), "hold"),
    "login page, HTTP 403": (raw(HTML, status=403), "hold"),
    "page of a firewall, HTTP 407": (raw(HTML, status=407), "hold"),
    "wrong address, HTTP 404": (raw(HTML, status=404), "hold"),
    "wrong method, HTTP 405": (raw(b"", status=405), "hold"),
    "too large, HTTP 413": (raw(b"", status=413), "hold"),
    "wrong type, HTTP 415": (raw(b"", status=415), "hold"),
    "conflict, HTTP 409": (raw(b"", status=409), "ask"),
    "slow request, HTTP 408": (raw(b"", status=408), "retry"),
    "too early, HTTP 425": (raw(b"", status=425), "retry"),
    "too many, HTTP 429": (raw(b"", status=429), "retry"),
    "busy, HTTP 503": (raw(HTML, status=503), "retry"),
    "proxy, HTTP 502": (raw(HTML, status=502), "ask"),
    "proxy, HTTP 504": (raw(HTML, status=504), "ask"),
    "crash, HTTP 500": (raw(b"java.lang.NullPointerException", content_type="text/plain", status=500), "ask"),
    "no storage, HTTP 507": (raw(b"", status=507), "ask"),
    "nothing, HTTP 200": (raw(b"", content_type=""), "ask"),
    "nothing, HTTP 204": (raw(b"", content_type="", status=204), "ask"),
    "nothing, called SOAP": (raw(b"", content_type=SOAP), "ask"),
    "nothing, called MTOM": (raw(b"", content_type=MTOM), "ask"),
    "MTOM cut in its envelope": (raw(reply(registry_response(SUCCESS)).data[:200], content_type=MTOM), "ask"),
    "MTOM without its last boundary": (
        raw(b"--b\r\nContent-ID: <r>\r\n\r\n<x/>\r\n", content_type=MTOM), "ask"),
    "gzip": (raw(gzip.compress(reply(registry_response(SUCCESS), mtom=False).data), content_type=SOAP), "ask"),
    "UTF-16": (raw(registry_response(SUCCESS).encode("utf-16"), content_type="application/soap+xml; charset=UTF-16"), "ask"),
    "Latin-1 bytes called UTF-8": (raw(b"<a>\xe9</a>", content_type=SOAP), "ask"),
    "JSON": (raw(b'{"status":"Success"}', content_type="application/json"), "ask"),
    "no content type": (raw(reply(registry_response(SUCCESS), mtom=False).data, content_type=""), "ask"),
    "5,000 levels": (raw(b"<a>" * 5000, content_type=SOAP), "ask"),
    "SOAP 1.1 Fault, HTTP 500": (raw(FAULT_11, content_type=XML, status=500), "ask"),
    "SOAP 1.1 Fault, HTTP 200": (raw(FAULT_11, content_type=XML), "ask"),
    "SOAP 1.1 Fault called SOAP 1.2": (raw(FAULT_11, content_type=SOAP, status=500), "ask"),
    "Fault Receiver, HTTP 500": (fault("Receiver"), "retry"),
    "Fault Receiver to nobody": (fault("Receiver", relates_to=""), "retry"),
    "Fault Receiver to somebody else": (fault("Receiver", relates_to=OTHER), "ask"),
    "Fault Sender, HTTP 400": (fault("Sender", status=400), "hold"),
    "Fault Sender, HTTP 500": (fault("Sender"), "hold"),
    "Fault MustUnderstand": (fault("MustUnderstand"), "hold"),
    "Fault VersionMismatch": (fault("VersionMismatch"), "hold"),
    "Fault of their own": (fault("FailedAuthentication"), "hold"),
}  # fmt: skip


def outcome(answer: IndexAnswer) -> str:
    """The class, as ``indexer.standing.sent`` reads it."""
    match answer:
        case Accepted():
            return "accepted"
        case Ambiguous():
            return "ask"
        case _ if not answer.known:
            return "hold"
        case _:
            return "refuse" if answer.lasting else "retry"


def test_the_table_is_large_enough_to_mean_something():
    assert len(CODES) + len(ENVELOPES) >= 120
    assert {*CODES.values(), *(expected for _, expected in ENVELOPES.values())} == {
        "accepted", "retry", "ask", "hold", "refuse",
    }  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_f10_each_code_of_a_failure_has_its_class(code):
    assert outcome(registry_answer(reply(registry_response(FAILURE, errors(code))), HOLD)) == CODES[code]


@pytest.mark.parametrize("name", ENVELOPES)
def test_f10_each_answer_has_its_class_and_repeats_nobody_s_words(name):
    answer = registry_answer(ENVELOPES[name][0], HOLD)
    assert outcome(answer) == ENVELOPES[name][1]
    assert "FANTOME" not in repr(answer)


def test_every_code_we_know_stands_in_the_table():
    known = v.TRANSIENT_CODES | v.ALREADY_THERE_CODES | v.INTERNAL_CODES | v.LASTING_CODES
    assert known <= CODES.keys()


@pytest.mark.parametrize(("setting", "expected"), [("hold", "hold"), ("retry", "retry"), ("refuse", "refuse")])
def test_a_site_decides_about_internal_errors_and_about_nothing_else(setting, expected):
    rules = AnswerRules(internal_errors=setting)
    for code, usual in CODES.items():
        answer = registry_answer(reply(registry_response(FAILURE, errors(code))), rules)
        assert outcome(answer) == (expected if code in v.INTERNAL_CODES else usual)


@pytest.mark.parametrize("code", CODES)
def test_i9_after_a_change_of_an_entry_what_may_be_our_own_doing_is_asked(code):
    answer = update_answer(reply(registry_response(FAILURE, errors(code))), HOLD)
    assert outcome(answer) == ("ask" if code in v.CHANGED_MEANWHILE_CODES else CODES[code])
