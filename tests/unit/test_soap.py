"""``indexer.xds.soap``: what we write literally, what we read, what we refuse."""

from __future__ import annotations

import pytest
from lxml import etree

from indexer.ports import Submission
from indexer.xds.soap import (
    SoapFault,
    decode,
    document_elements,
    documents,
    encode_fault,
    encode_request,
    encode_response,
    include,
    octets,
    provide_and_register_body,
)
from security.errors import BadInput, Broken
from security.parse.mime import write_related
from tests.corpus import corpus

SOAP = "application/soap+xml; charset=UTF-8"
XDSB = "urn:ihe:iti:xds-b:2007"
SUBMISSION = Submission(
    unique_id="2.25.1",
    metadata=b'<lcm:SubmitObjectsRequest xmlns:lcm="urn:x"  odd = "spacing" ></lcm:SubmitObjectsRequest >',
    documents={"urn:uuid:6f1d1c7e-0000-4000-8000-000000000001": b"DICM\x00\xff\r\n--"},
)


def envelope(body: str = "<b xmlns='urn:b'/>", headers: str = "<a:Action>urn:do</a:Action>") -> bytes:
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing">'
        f"<s:Header>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def refusal(content_type: str, data: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        decode(content_type, data)
    return caught.value.code


# -- writing -----------------------------------------------------------------------------------------------------


def test_a_plain_request_is_literally_soap_1_2_with_addressing() -> None:
    content_type, data = encode_request(
        action="urn:ihe:iti:2007:RegistryStoredQuery",
        to="https://index.test/registry?a=1&b=2",
        message_id="urn:uuid:m1",
        body=b"<q/>",
        mtom=False,
    )
    assert content_type == 'application/soap+xml; charset=UTF-8; action="urn:ihe:iti:2007:RegistryStoredQuery"'
    assert data.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope"'
        ' xmlns:wsa="http://www.w3.org/2005/08/addressing"><soap:Header>'
        '<wsa:Action soap:mustUnderstand="1">urn:ihe:iti:2007:RegistryStoredQuery</wsa:Action>'
        "<wsa:MessageID>urn:uuid:m1</wsa:MessageID>"
        "<wsa:To>https://index.test/registry?a=1&amp;b=2</wsa:To>"
        "<wsa:ReplyTo><wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address></wsa:ReplyTo>"
        "</soap:Header><soap:Body><q/></soap:Body></soap:Envelope>"
    )


def test_ff21_stored_metadata_stands_in_the_message_byte_for_byte() -> None:
    body, attachments = provide_and_register_body(SUBMISSION)
    messages = [
        encode_request(
            action="urn:a", to="urn:t", message_id=f"urn:uuid:{n}", body=body, attachments=attachments, mtom=True
        )
        for n in range(2)
    ]
    for _, data in messages:
        assert data.count(SUBMISSION.metadata) == 1
        assert data.count(b"DICM\x00\xff\r\n--") == 1


def test_a_provide_and_register_request_reads_back_with_its_documents() -> None:
    body, attachments = provide_and_register_body(SUBMISSION)
    content_type, data = encode_request(
        action="urn:a", to="urn:t", message_id="urn:uuid:m1", body=body, attachments=attachments, mtom=True
    )
    read = decode(content_type, data)
    assert (read.action, read.message_id, read.relates_to) == ("urn:a", "urn:uuid:m1", "")
    assert read.body.tag == f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest"
    assert documents(read.body, read.attachments) == dict(SUBMISSION.documents)


def test_each_document_gets_its_own_attachment() -> None:
    elements, attachments = document_elements({"a&b": b"1", "c": b"2"})
    assert elements == (
        b'<xdsb:Document id="a&amp;b"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include"'
        b' href="cid:document-1@poterne"/></xdsb:Document>'
        b'<xdsb:Document id="c"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include"'
        b' href="cid:document-2@poterne"/></xdsb:Document>'
    )
    assert attachments == {"document-1@poterne": b"1", "document-2@poterne": b"2"}


@pytest.mark.parametrize("mtom", [False, True])
def test_a_response_names_the_request_it_answers(mtom: bool) -> None:
    read = decode(
        *encode_response(
            action="urn:aResponse", relates_to="urn:uuid:m1", message_id="urn:uuid:m2", body=b"<r/>", mtom=mtom
        )
    )
    assert (read.action, read.message_id, read.relates_to) == ("urn:aResponse", "urn:uuid:m2", "urn:uuid:m1")
    assert read.body.tag == "r"


def test_a_body_with_an_xml_declaration_is_never_written() -> None:
    with pytest.raises(Broken):
        encode_request(
            action="urn:a", to="urn:t", message_id="urn:uuid:m", body=b"<?xml version='1.0'?><r/>", mtom=False
        )


def test_attachments_are_never_dropped_silently() -> None:
    with pytest.raises(Broken):
        encode_request(
            action="urn:a", to="urn:t", message_id="urn:uuid:m", body=b"<r/>", attachments={"a@b": b""}, mtom=False
        )


# -- reading -----------------------------------------------------------------------------------------------------


def test_a_fault_is_raised_with_its_code_and_its_capped_reason() -> None:
    content_type, data = encode_fault(
        relates_to="urn:uuid:m1", message_id="urn:uuid:m2", fault_code="Receiver", reason="<no> " + "x" * 5000
    )
    with pytest.raises(SoapFault) as caught:
        decode(content_type, data)
    assert caught.value.fault_code == "Receiver"
    assert caught.value.reason == "<no> " + "x" * 195
    assert caught.value.relates_to == "urn:uuid:m1"


def test_a_fault_reason_is_not_in_the_message_that_is_logged() -> None:
    with pytest.raises(SoapFault) as caught:
        decode(*encode_fault(relates_to="", message_id="urn:uuid:m", fault_code="Sender", reason="FANTOME Lucie"))
    assert "FANTOME" not in str(caught.value)


def test_an_unknown_fault_code_is_called_other() -> None:
    with pytest.raises(SoapFault) as caught:
        decode(*encode_fault(relates_to="", message_id="urn:uuid:m", fault_code="Client.Strange", reason="?"))
    assert caught.value.fault_code == "other"


def test_comments_in_headers_and_body_are_no_text() -> None:
    read = decode(SOAP, envelope("<!-- c --><b>x<!-- y -->z</b>", "<!-- h --><a:Action>urn:<!-- i -->do</a:Action>"))
    assert (read.action, read.body.tag) == ("urn:do", "b")


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("text/html", b"<html/>", "soap-content-type"),
        ("text/xml", envelope(), "soap-content-type"),
        ("", envelope(), "mime-content-type"),
        ("application/soap+xml; charset=ISO-8859-1", envelope(), "soap-content-type"),
        (SOAP, b"", "xml-empty"),
        (SOAP, envelope()[:-5], "xml-malformed"),
        (SOAP, b"<!DOCTYPE a><a/>", "xml-doctype"),
        (SOAP, b"<Envelope/>", "soap-envelope"),
        (
            SOAP,
            b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body/></s:Envelope>',
            "soap-envelope",
        ),
        (SOAP, envelope(""), "soap-envelope"),
        (SOAP, envelope("<b/><b/>"), "soap-envelope"),
        (SOAP, envelope(headers=""), "soap-addressing"),
        (SOAP, envelope(headers="<a:Action>urn:a</a:Action><a:Action>urn:b</a:Action>"), "soap-addressing"),
        (SOAP, envelope(headers="<a:Action> </a:Action>"), "soap-addressing"),
        (SOAP, envelope(headers="<a:Action>" + "u" * 2000 + "</a:Action>"), "soap-addressing"),
        (
            SOAP,
            envelope(headers='<a:Action>urn:a</a:Action><x xmlns="urn:x" s:mustUnderstand="1"/>'),
            "soap-must-understand",
        ),
        (
            SOAP,
            envelope(headers='<a:Action>urn:a</a:Action><x xmlns="urn:x" s:mustUnderstand="true"/>'),
            "soap-must-understand",
        ),
    ],
)
def test_what_is_no_soap_1_2_message_is_refused_by_name(content_type: str, data: bytes, code: str) -> None:
    assert refusal(content_type, data) == code


def test_a_foreign_header_that_need_not_be_understood_is_passed_over() -> None:
    assert decode(SOAP, envelope(headers='<x xmlns="urn:x"/><a:Action>urn:a</a:Action>')).action == "urn:a"


@pytest.mark.parametrize("header", ["ReplyTo", "FaultTo"])
def test_t26_an_answer_is_never_sent_elsewhere(header: str) -> None:
    elsewhere = f"<a:Action>urn:a</a:Action><a:{header}><a:Address>http://169.254.169.254/</a:Address></a:{header}>"
    assert refusal(SOAP, envelope(headers=elsewhere)) == "soap-addressing"


def mtom(body: str, attachments: dict[str, bytes]) -> tuple[str, bytes]:
    return write_related(envelope(body), attachments, boundary="cut")


INCLUDE = include("doc@test").decode()


def test_an_included_attachment_and_inline_base64_give_the_same_bytes() -> None:
    read = decode(*mtom(f"<b><d>{INCLUDE}</d><d>\n AAH/\n</d></b>", {"doc@test": b"\x00\x01\xff"}))
    assert [octets(element, read.attachments) for element in read.body] == [b"\x00\x01\xff", b"\x00\x01\xff"]


def test_a_percent_encoded_cid_is_understood() -> None:
    read = decode(*mtom(f"<b>{INCLUDE.replace('@', '%40')}</b>", {"doc@test": b"x"}))
    assert octets(read.body, read.attachments) == b"x"


@pytest.mark.parametrize(
    ("body", "attachments", "code"),
    [
        (f"<b>{INCLUDE}</b>", {}, "xop-missing"),
        (f"<b><d>{INCLUDE}</d><d>{INCLUDE}</d></b>", {"doc@test": b""}, "xop-repeated"),
        ("<b/>", {"doc@test": b""}, "xop-unused"),
        (f"<b>text{INCLUDE}</b>", {"doc@test": b""}, "xop-alone"),
        (f"<b>{INCLUDE}<c/></b>", {"doc@test": b""}, "xop-alone"),
        (f"<b>{INCLUDE.replace('cid:', 'file:///')}</b>", {"doc@test": b""}, "xop-missing"),
        (f"<b>{INCLUDE.replace('cid:doc@test', 'http://127.0.0.1/')}</b>", {"doc@test": b""}, "xop-missing"),
    ],
)
def test_t22_every_attachment_is_included_exactly_once(body: str, attachments: dict[str, bytes], code: str) -> None:
    assert refusal(*mtom(body, attachments)) == code


def test_t22_an_include_in_a_plain_message_names_nothing() -> None:
    assert refusal(SOAP, envelope(f"<b>{INCLUDE}</b>")) == "xop-missing"


@pytest.mark.parametrize(
    "inner",
    [
        '<Document xmlns="urn:ihe:iti:xds-b:2007">AAAA</Document>',
        '<Document xmlns="urn:ihe:iti:xds-b:2007" id="a">AAAA</Document>' * 2,
    ],
)
def test_documents_need_distinct_ids(inner: str) -> None:
    read = decode(SOAP, envelope(f"<b>{inner}</b>"))
    with pytest.raises(BadInput) as caught:
        documents(read.body, read.attachments)
    assert caught.value.code == "soap-document"


def test_inline_base64_is_strict() -> None:
    with pytest.raises(BadInput) as caught:
        octets(etree.fromstring("<d>AAA</d>"), {})
    assert caught.value.code == "mime-base64"


# -- other people's samples --------------------------------------------------------------------------------------


@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ipf-iti18-injection-value.xml", "AdhocQueryRequest"),
        ("ipf-iti41-provideandregister-inline.xml", "ProvideAndRegisterDocumentSetRequest"),
        ("ipf-iti57-update.xml", "SubmitObjectsRequest"),
        ("ipf-submitobjects.xml", "SubmitObjectsRequest"),
    ],
)
@pytest.mark.parametrize("as_mtom", [False, True])
def test_published_sample_requests_decode(name: str, root: str, as_mtom: bool) -> None:
    sample = etree.tostring(etree.fromstring(corpus("ihe", "xds-xml", name).read_bytes()))
    read = decode(*encode_request(action="urn:a", to="urn:t", message_id="urn:uuid:m", body=sample, mtom=as_mtom))
    assert etree.QName(read.body).localname == root


@pytest.mark.corpus
def test_the_inline_document_of_a_published_sample_is_read() -> None:
    sample = etree.tostring(
        etree.fromstring(corpus("ihe", "xds-xml", "ipf-iti41-provideandregister-inline.xml").read_bytes())
    )
    read = decode(*encode_request(action="urn:a", to="urn:t", message_id="urn:uuid:m", body=sample, mtom=False))
    found = documents(read.body, read.attachments)
    assert list(found) == ["Document01"]
    assert len(found["Document01"]) > 0
