"""Multipart and MTOM bodies (T22): a Content-Type, a line break, the body.

``target`` returns, or something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from indexer.xds import soap
from indexer.xds import vocabulary as v
from security.errors import BadInput
from security.parse.mime import Limits, base64_strict, media_type, read_related, write_related

LIMITS = Limits(parts=8, headers_per_part=8, header_bytes=512, part_bytes=4096, total_bytes=8192)


def target(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    content_type = head.decode("latin-1")
    _media(content_type)
    _related(content_type, body)
    _message(content_type, body)
    try:
        assert len(base64_strict(body)) <= len(body)
    except BadInput as refused:
        assert refused.code == "mime-base64"


def _media(content_type: str) -> None:
    try:
        kind, parameters = media_type(content_type)
    except BadInput as refused:
        assert refused.code == "mime-content-type"
        return
    assert kind == kind.lower()
    assert all(name == name.lower() for name in parameters)


def _related(content_type: str, body: bytes) -> None:
    try:
        found = read_related(content_type, body, limits=LIMITS)
    except BadInput as refused:
        assert refused.code.startswith("mime-")
        return
    parts = [found.root, *found.parts.values()]
    assert len(parts) <= LIMITS.parts
    assert sum(len(part.data) for part in parts) <= len(body)
    assert found.root.content_id not in found.parts or not found.root.content_id


def _message(content_type: str, body: bytes) -> None:
    """As the index node and our client read it."""
    try:
        envelope = soap.decode(content_type, body, limits=LIMITS)
        soap.documents(envelope.body, envelope.attachments)
    except BadInput as refused:
        assert refused.code


def seeds() -> Iterator[bytes]:
    """Messages as we write them, and the forms that others write."""
    elements, attachments = soap.document_elements({"Document01": b"DICM invented", "Document02": b"\r\n--x"})
    body = b'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="urn:ihe:iti:xds-b:2007">' + elements
    body += b"</x:ProvideAndRegisterDocumentSetRequest>"
    for mtom in (True, False):
        kind, data = soap.encode_request(
            action=v.ITI_41,
            to="https://index.fantome.example/xds",
            message_id="urn:uuid:7d3f0b6e-0000-4000-8000-000000000001",
            body=body,
            attachments=attachments if mtom else {},
            mtom=mtom,
        )
        yield kind.encode() + b"\n" + data
    kind, data = write_related(b"<a/>", {"b@c": b"one"}, boundary="zz")
    yield kind.encode() + b"\n" + data
    encoded = b"--q\r\nContent-Type: text/xml\r\nContent-ID: <r>\r\n\r\n<a/>\r\n--q\r\nContent-ID: <p>\r\n"
    encoded += b"Content-Transfer-Encoding: base64\r\n\r\nRElDTQ==\r\n--q--\r\nafter"
    yield b'multipart/related; boundary="q"; start="<r>"; type=a/b; start-info="x\\"y"\n' + encoded
    yield b"multipart/related; boundary=q\n--q  \r\n\r\n\r\n--q\r\n\r\n--q--"
    yield b"RElDTQ==\nRElD\r\nTQ=="
