"""``indexer.xds.answers``: each answer an index may give, and what it means."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.ports import Accepted, Ambiguous, EntryAbsent, EntryFound, EntryUnknown, IndexAnswer, Rejected
from indexer.xds.answers import AnswerRules, Reply, entry_answer, registry_answer, retrieved_document
from indexer.xds.soap import encode_fault, encode_response, include
from security.errors import BadInput, Unavailable

OURS = "urn:uuid:11111111-1111-4111-8111-111111111111"
OTHER = "urn:uuid:22222222-2222-4222-8222-222222222222"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
WARNING = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"
NS = (
    'xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0" '
    'xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" xmlns:xdsb="urn:ihe:iti:xds-b:2007"'
)
HOLD = AnswerRules()
ENTRY_UUID = "urn:uuid:33333333-3333-4333-8333-333333333333"


def errors(*codes: str, severity: str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error") -> str:
    inner = "".join(
        f'<rs:RegistryError errorCode="{code}" codeContext="FANTOME^LUCIE unknown" severity="{severity}"/>'
        for code in codes
    )
    return f"<rs:RegistryErrorList>{inner}</rs:RegistryErrorList>" if codes else ""


def registry_response(status: str, inner: str = "") -> str:
    return f'<rs:RegistryResponse {NS} status="{status}">{inner}</rs:RegistryResponse>'


def reply(
    body: str,
    *,
    status: int = 200,
    relates_to: str = OURS,
    mtom: bool = True,
    attachments: dict[str, bytes] | None = None,
    retry_after: str = "",
) -> Reply:
    content_type, data = encode_response(
        action="urn:any",
        relates_to=relates_to,
        message_id=OTHER,
        body=body.encode(),
        attachments=attachments or {},
        mtom=mtom,
    )
    return Reply(message_id=OURS, http_status=status, content_type=content_type, data=data, retry_after=retry_after)


def raw(data: bytes, *, content_type: str = "text/html", status: int = 200, retry_after: str = "") -> Reply:
    return Reply(message_id=OURS, http_status=status, content_type=content_type, data=data, retry_after=retry_after)


def fault(code: str, *, status: int = 500, relates_to: str = OURS) -> Reply:
    content_type, data = encode_fault(
        relates_to=relates_to, message_id=OTHER, fault_code=code, reason="patient FANTOME LUCIE"
    )
    return Reply(message_id=OURS, http_status=status, content_type=content_type, data=data)


def refused(*codes: str, rules: AnswerRules = HOLD) -> IndexAnswer:
    return registry_answer(reply(registry_response(FAILURE, errors(*codes))), rules)


# -- ITI-41 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mtom", [False, True])
def test_success_is_accepted(mtom: bool) -> None:
    assert registry_answer(reply(registry_response(SUCCESS), mtom=mtom), HOLD) == Accepted()


def test_success_with_warnings_is_accepted_and_names_them() -> None:
    body = registry_response(SUCCESS, errors("DocumentQueued", "XDSExtraMetadataNotSaved", severity=WARNING))
    assert registry_answer(reply(body), HOLD) == Accepted(
        detail="with warnings DocumentQueued XDSExtraMetadataNotSaved"
    )


@pytest.mark.parametrize(
    "code",
    [
        "XDSRegistryBusy",
        "XDSRepositoryBusy",
        "XDSRegistryNotAvailable",
        "XDSRegistryOutOfResources",
        "XDSRepositoryOutOfResources",
        "XDSUnavailableCommunity",
    ],
)
def test_a_busy_code_may_be_retried(code: str) -> None:
    assert refused(code) == Rejected(lasting=False, known=True, codes=(code,), detail=f"the index refused: {code}")


@pytest.mark.parametrize(
    "code",
    [
        "InvalidDocumentContent",
        "LocalPolicyRestrictionError",
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSPatientIdDoesNotMatch",
        "XDSRegistryDeprecatedDocumentError",
        "XDSRegistryDuplicateUniqueIdInMessage",
        "XDSRegistryMetadataError",
        "XDSRepositoryDuplicateUniqueIdInMessage",
        "XDSRepositoryMetadataError",
        "XDSUnknownPatientId",
        "UnresolvedReferenceException",
    ],
)
def test_a_business_refusal_is_lasting(code: str) -> None:
    answer = refused(code)
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known, answer.codes) == (True, True, (code,))


@pytest.mark.parametrize("code", ["XDSRegistryError", "XDSRepositoryError", "DMPSomethingNew", "not a code!", ""])
def test_a_code_no_table_lists_is_neither_retried_nor_lasting(code: str) -> None:
    answer = refused(code)
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known) == (False, False)


def test_a_code_that_could_be_text_is_not_repeated() -> None:
    answer = refused("FANTOME LUCIE 19850617")
    assert isinstance(answer, Rejected)
    assert answer.codes == ("no-code",)


def test_a_failure_without_any_error_is_held() -> None:
    assert refused() == Rejected(
        lasting=False, known=False, codes=("no-code",), detail="the index refused: without an error"
    )


@pytest.mark.parametrize(("setting", "lasting"), [("retry", False), ("refuse", True)])
def test_a_site_decides_what_an_internal_error_means(setting: Any, lasting: bool) -> None:
    answer = refused("XDSRegistryError", rules=AnswerRules(internal_errors=setting))
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known) == (lasting, True)


@pytest.mark.parametrize(
    ("codes", "lasting", "known"),
    [
        (("XDSRegistryBusy", "XDSUnknownPatientId"), True, True),
        (("XDSRegistryBusy", "Unheard"), False, False),
    ],
)
def test_the_worst_of_several_codes_decides(codes: tuple[str, ...], lasting: bool, known: bool) -> None:
    answer = refused(*codes)
    assert isinstance(answer, Rejected)
    assert (answer.lasting, answer.known, answer.codes) == (lasting, known, codes)


@pytest.mark.parametrize(
    "codes",
    [
        ("XDSDuplicateUniqueIdInRegistry",),
        ("XDSNonIdenticalHash",),
        ("XDSNonIdenticalSize", "XDSNonIdenticalHash"),
        ("XDSDuplicateUniqueIdInRegistry", "XDSRegistryMetadataError"),  # our entryUUIDs are in use there too
        ("XDSRegistryError", "XDSDuplicateUniqueIdInRegistry"),
    ],
)
def test_ff21_duplicate_id_and_non_identical_hash_are_one_outcome(codes: tuple[str, ...]) -> None:
    answer = refused(*codes)
    assert isinstance(answer, Ambiguous)
    assert answer.reason == "already-there"


def truncated() -> Reply:
    whole = reply(registry_response(SUCCESS))
    return raw(whole.data[:-20], content_type=whole.content_type)


F10_CORPUS: dict[str, tuple[Reply, IndexAnswer | str]] = {
    "HTTP 200 with Failure": (
        reply(registry_response(FAILURE, errors("XDSRegistryMetadataError"))),
        Rejected(
            lasting=True,
            known=True,
            codes=("XDSRegistryMetadataError",),
            detail="the index refused: XDSRegistryMetadataError",
        ),
    ),
    "HTTP 200 with a maintenance page": (raw(b"<html>Maintenance until 6 pm</html>"), "unreadable-answer"),
    "a maintenance page called SOAP": (
        raw(b"<html>Maintenance</html>", content_type="application/soap+xml"),
        "unreadable-answer",
    ),
    "0 bytes": (raw(b"", content_type=""), "unreadable-answer"),
    "0 bytes called SOAP": (raw(b"", content_type="application/soap+xml"), "unreadable-answer"),
    "0 bytes called MTOM": (raw(b"", content_type='multipart/related; boundary="b"'), "unreadable-answer"),
    "HTTP 202 without a body": (raw(b"", content_type="", status=202), "unreadable-answer"),
    "HTTP 204": (raw(b"", content_type="", status=204), "unreadable-answer"),
    "truncated MTOM": (truncated(), "unreadable-answer"),
    "MTOM that names a missing attachment": (
        reply(registry_response(SUCCESS, include("gone@test").decode())),
        "unreadable-answer",
    ),
    "gzip although we asked for identity": (
        raw(b"\x1f\x8b\x08\x00" + b"\x00" * 100, content_type="application/soap+xml"),
        "unreadable-answer",
    ),
    "SOAP 1.1": (
        raw(
            b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body/></e:Envelope>',
            content_type="text/xml",
        ),
        "unreadable-answer",
    ),
    "an entity bomb": (
        raw(b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', content_type="application/soap+xml"),
        "unreadable-answer",
    ),
    "Success to somebody else's message": (reply(registry_response(SUCCESS), relates_to=OTHER), "wrong-relates-to"),
    "Success to nobody's message": (reply(registry_response(SUCCESS), relates_to=""), "wrong-relates-to"),
    "our own request echoed": (reply(f"<xdsb:ProvideAndRegisterDocumentSetRequest {NS}/>"), "wrong-root"),
    "a query's answer": (reply(f'<query:AdhocQueryResponse {NS} status="{SUCCESS}"/>'), "wrong-root"),
    "a RegistryResponse outside its namespace": (reply(f'<RegistryResponse status="{SUCCESS}"/>'), "wrong-root"),
    "PartialSuccess": (reply(registry_response(PARTIAL, errors("XDSRegistryError"))), "contradictory-answer"),
    "Success with an error inside": (
        reply(registry_response(SUCCESS, errors("XDSRegistryError"))),
        "contradictory-answer",
    ),
    "Success under HTTP 500": (reply(registry_response(SUCCESS), status=500), "contradictory-answer"),
    "no status": (reply(f"<rs:RegistryResponse {NS}/>"), "contradictory-answer"),
    "a status of their own": (reply(registry_response("Success")), "contradictory-answer"),
    "SOAP Fault Receiver": (
        fault("Receiver"),
        Rejected(lasting=False, known=True, codes=("soap-receiver",), detail="SOAP Fault Receiver under HTTP 500"),
    ),
    "SOAP Fault Receiver under HTTP 200": (
        fault("Receiver", status=200),
        Rejected(lasting=False, known=True, codes=("soap-receiver",), detail="SOAP Fault Receiver under HTTP 200"),
    ),
    "SOAP Fault Sender": (
        fault("Sender", status=400, relates_to=""),
        Rejected(lasting=True, known=False, codes=("soap-sender",), detail="SOAP Fault Sender under HTTP 400"),
    ),
    "SOAP Fault to somebody else": (fault("Receiver", relates_to=OTHER), "wrong-relates-to"),
    "HTTP 500 without SOAP": (raw(b"stack trace", status=500), "unreadable-answer"),
    "HTTP 502 of a proxy": (raw(b"Bad Gateway", status=502), "unreadable-answer"),
    "HTTP 504 of a proxy": (raw(b"Gateway Timeout", status=504), "unreadable-answer"),
    "HTTP 409": (raw(b"", status=409), "already-there"),
    "HTTP 503 with Retry-After": (
        raw(b"later", status=503, retry_after="120"),
        Rejected(lasting=False, known=True, codes=("http-503",), detail="HTTP 503", retry_after_s=120.0),
    ),
    "HTTP 429 with a date": (
        raw(b"", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        Rejected(lasting=False, known=True, codes=("http-429",), detail="HTTP 429"),
    ),
    "HTTP 302": (
        raw(b"", status=302),
        Rejected(
            lasting=True,
            known=False,
            codes=("http-302",),
            detail="HTTP 302 without a SOAP message: address, certificate or route, not the exam",
        ),
    ),
    "HTTP 403": (
        raw(b"", status=403),
        Rejected(
            lasting=True,
            known=False,
            codes=("http-403",),
            detail="HTTP 403 without a SOAP message: address, certificate or route, not the exam",
        ),
    ),
}


@pytest.mark.parametrize("name", F10_CORPUS)
def test_f10_each_hostile_answer_gets_its_class_and_none_is_accepted(name: str) -> None:
    hostile, expected = F10_CORPUS[name]
    answer = registry_answer(hostile, HOLD)
    if isinstance(expected, str):
        assert isinstance(answer, Ambiguous)
        assert answer.reason == expected
    else:
        assert answer == expected


@pytest.mark.parametrize("name", F10_CORPUS)
def test_f10_no_hostile_answer_says_anything_about_an_entry(name: str) -> None:
    assert isinstance(entry_answer(F10_CORPUS[name][0], "2.25.1", HOLD), EntryUnknown)


@pytest.mark.parametrize("name", F10_CORPUS)
def test_f10_the_words_of_the_index_are_not_repeated(name: str) -> None:
    hostile, _ = F10_CORPUS[name]
    said = repr(registry_answer(hostile, HOLD)) + repr(entry_answer(hostile, "2.25.1", HOLD)) + repr(hostile)
    assert "FANTOME" not in said
    assert "Maintenance" not in said


# -- ITI-18 ------------------------------------------------------------------------------------------------------


def entry(
    *,
    unique_id: str = "2.25.1",
    status: str = "Approved",
    entry_uuid: str = ENTRY_UUID,
    name: str = "ExtrinsicObject",
) -> str:
    return (
        f'<rim:{name} id="{entry_uuid}" status="urn:oasis:names:tc:ebxml-regrep:StatusType:{status}">'
        '<rim:ExternalIdentifier identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427" value="2.25.1"/>'
        '<rim:ExternalIdentifier identificationScheme="urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"'
        f' value="{unique_id}"/></rim:{name}>'
    )


def listed(*entries: str, status: str = SUCCESS, before: str = "") -> Reply:
    return reply(
        f'<query:AdhocQueryResponse {NS} status="{status}">{before}'
        f"<rim:RegistryObjectList>{''.join(entries)}</rim:RegistryObjectList></query:AdhocQueryResponse>",
        mtom=False,
    )


@pytest.mark.parametrize("status", ["Approved", "Deprecated"])
def test_the_entry_is_found_with_its_status(status: str) -> None:
    assert entry_answer(listed(entry(status=status)), "2.25.1", HOLD) == EntryFound(
        entry_uuid=ENTRY_UUID, unique_id="2.25.1", status=status
    )


def test_an_empty_list_means_absent() -> None:
    assert entry_answer(listed(), "2.25.1", HOLD) == EntryAbsent()


def test_the_approved_one_of_several_metadata_versions_counts() -> None:
    older = entry(status="Deprecated", entry_uuid="urn:uuid:44444444-4444-4444-8444-444444444444")
    assert entry_answer(listed(older, entry()), "2.25.1", HOLD) == EntryFound(
        entry_uuid=ENTRY_UUID, unique_id="2.25.1", status="Approved"
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (listed(entry(), entry()), "several-approved"),
        (listed(entry(unique_id="2.25.2")), "other-objects"),
        (listed(entry(), entry(unique_id="2.25.2")), "other-objects"),
        (listed(entry(name="ObjectRef")), "other-objects"),
        (listed(entry(status="Submitted")), "unreadable-entry"),
        (listed(entry(entry_uuid="Document01")), "unreadable-entry"),
        (listed(status=PARTIAL), "query-failed"),
        (listed(status=FAILURE, before=errors("XDSRegistryBusy")), "XDSRegistryBusy"),
        (listed(before=errors("XDSTooManyResults")), "XDSTooManyResults"),
        (reply(f'<query:AdhocQueryResponse {NS} status="{SUCCESS}"/>'), "query-failed"),
        (reply(registry_response(SUCCESS)), "wrong-root"),
        (raw(b"", status=503), "http-503"),
    ],
)
def test_anything_else_is_no_conclusion(answer: Reply, reason: str) -> None:
    found = entry_answer(answer, "2.25.1", HOLD)
    assert isinstance(found, EntryUnknown)
    assert found.reason == reason


# -- ITI-43 ------------------------------------------------------------------------------------------------------


def retrieved(status: str, inner: str = "", *, unique_id: str = "2.25.1", document: str = "") -> str:
    response = (
        "<xdsb:DocumentResponse><xdsb:RepositoryUniqueId>2.25.8</xdsb:RepositoryUniqueId>"
        f"<xdsb:DocumentUniqueId>{unique_id}</xdsb:DocumentUniqueId><xdsb:mimeType>application/dicom</xdsb:mimeType>"
        f"<xdsb:Document>{document}</xdsb:Document></xdsb:DocumentResponse>"
    )
    return (
        f'<xdsb:RetrieveDocumentSetResponse {NS}><rs:RegistryResponse status="{status}">{inner}</rs:RegistryResponse>'
        f"{response if document else ''}</xdsb:RetrieveDocumentSetResponse>"
    )


def test_an_attached_document_is_returned() -> None:
    body = retrieved(SUCCESS, document=include("doc@test").decode())
    assert retrieved_document(reply(body, attachments={"doc@test": b"\x00DICM"}), "2.25.1") == b"\x00DICM"


def test_an_inline_document_is_returned() -> None:
    assert retrieved_document(reply(retrieved(SUCCESS, document="RElDTQ=="), mtom=False), "2.25.1") == b"DICM"


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (reply(retrieved(FAILURE, errors("XDSDocumentUniqueIdError"))), BadInput, "XDSDocumentUniqueIdError"),
        (reply(retrieved(FAILURE, errors("XDSRepositoryBusy"))), Unavailable, "XDSRepositoryBusy"),
        (reply(retrieved(FAILURE)), BadInput, "retrieve-failed"),
        (reply(retrieved(SUCCESS)), BadInput, "retrieve-other-document"),
        (reply(retrieved(SUCCESS, unique_id="2.25.2", document="AAAA")), BadInput, "retrieve-other-document"),
        (reply(retrieved(SUCCESS, document="AAA")), BadInput, "mime-base64"),
        (reply(registry_response(SUCCESS)), Unavailable, "wrong-root"),
        (raw(b"<html/>"), Unavailable, "unreadable-answer"),
        (raw(b"", status=503), Unavailable, "http-503"),
        (raw(b"", status=403), BadInput, "http-403"),
    ],
)
def test_no_document_is_an_error_with_the_index_s_own_code(
    answer: Reply, kind: type[BadInput | Unavailable], code: str
) -> None:
    with pytest.raises(kind) as caught:
        retrieved_document(answer, "2.25.1")
    assert caught.value.code == code
