"""XML documents as the index node and our client read them: envelopes, submissions, queries, answers (T20, T21).

``target`` returns, or something is wrong; the first byte chooses who reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from indexer.registry.answers import (
    QueryAnswer,
    RegistryAnswer,
    RegistryError,
    XdsRefusal,
    query_response,
    registry_response,
)
from indexer.registry.queries import parse_query
from indexer.registry.validate import faults
from indexer.xds import answers, soap
from indexer.xds import vocabulary as v
from indexer.xds.objects import read_submission, serialised
from security.errors import BadInput, Fault
from security.parse.xml import parse_xml
from tests.fixtures.xds_submissions import ONDINE, Draft, adhoc_query
from tests.integration.registry_lab import provide, retrieve_set

MESSAGE_ID = "urn:uuid:7d3f0b6e-0000-4000-8000-000000000001"
RULES = answers.AnswerRules()
KIND = "application/soap+xml; charset=UTF-8"
NODE, CLIENT, SUBMISSION, QUERY = range(4)


def target(data: bytes) -> None:
    if not data:
        return
    kind, rest = data[0] % 4, data[1:]
    match kind:
        case 0:
            _node(rest)
        case 1:
            _client(rest)
        case 2:
            _submission(rest)
        case _:
            _query(rest)


def _root(data: bytes) -> etree._Element | None:
    try:
        root = parse_xml(data, what="a document")
    except BadInput as refused:
        assert refused.code.startswith("xml-")
        return None
    assert root.getroottree().docinfo.internalDTD is None
    return root


def _node(data: bytes) -> None:
    try:
        envelope = soap.decode(KIND, data, understands_security=len(data) % 2 == 0)
        soap.documents(envelope.body, envelope.attachments)
    except BadInput as refused:
        assert refused.code
        return
    assert envelope.action


def _client(data: bytes) -> None:
    """Whatever an index answers is an answer; none of it is thrown at the queue."""
    for status in (200, 500):
        reply = answers.Reply(http_status=status, content_type=KIND, data=data, message_id=MESSAGE_ID)
        answers.registry_answer(reply, RULES)
        answers.update_answer(reply, RULES)
        answers.entry_answer(reply, "2.25.100001", RULES)
        answers.entries_shown(reply, ["2.25.100001"], RULES)
        answers.listed_entries(reply, RULES)
        try:
            answers.retrieved_document(reply, "2.25.100001")
        except Fault as refused:
            assert refused.code


def _submission(data: bytes) -> None:
    root = _root(data)
    if root is None:
        return
    try:
        submission = read_submission(root)
    except BadInput as refused:
        assert refused.code
        return
    for elsewhere in (True, False):
        for error in faults(submission, patient_authorities=frozenset(), registered_elsewhere=elsewhere):
            assert error.code
    for kept in submission.objects:
        serialised(kept)


def _query(data: bytes) -> None:
    root = _root(data)
    if root is None:
        return
    try:
        parse_query(root)
    except XdsRefusal as refused:
        assert refused.errors


def seeds() -> Iterator[bytes]:
    """A submission, each question and each answer."""
    submission = etree.tostring(Draft(links=(("urn:ihe:iti:2007:AssociationType:RPLC", "urn:uuid:1"),)).request)
    find = {"$XDSDocumentEntryPatientId": f"'{ONDINE}'", "$XDSDocumentEntryStatus": f"('{v.STATUS_APPROVED}')"}
    queries = [
        etree.tostring(adhoc_query(v.FIND_DOCUMENTS, find, "LeafClass")),
        etree.tostring(
            adhoc_query(v.GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": "('2.25.1','2.25.2')"}, "ObjectRef")
        ),
    ]
    yield bytes([SUBMISSION]) + submission
    for query in queries:
        yield bytes([QUERY]) + query
    elements, _ = soap.document_elements({})
    asked = [
        (v.ITI_41, provide(Draft().request, elements + b'<xdsb:Document id="Document01">RElDTQ==</xdsb:Document>')),
        (v.ITI_18, queries[0]),
        (v.ITI_43, retrieve_set("2.25.1")),
    ]
    for action, body in asked:
        _, data = soap.encode_request(
            action=action, to="https://a.example/xds", message_id=MESSAGE_ID, body=body, attachments={}, mtom=False
        )
        yield bytes([NODE]) + data
    refused = RegistryAnswer(errors=(RegistryError(code="XDSRegistryError", context="of the index"),))
    found = QueryAnswer(objects=read_submission(Draft().request).entries)
    for answered in (registry_response(refused), registry_response(RegistryAnswer()), query_response(found)):
        _, data = soap.encode_response(
            action=f"{v.ITI_41}Response",
            relates_to=MESSAGE_ID,
            message_id=MESSAGE_ID,
            body=etree.tostring(answered),
            attachments={},
            mtom=False,
        )
        yield bytes([CLIENT]) + data
    _, data = soap.encode_fault(relates_to=MESSAGE_ID, message_id=MESSAGE_ID, fault_code="Sender", reason="no")
    yield bytes([CLIENT]) + data
