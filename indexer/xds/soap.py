"""SOAP 1.2 with WS-Addressing 2005/08, plain or as MTOM: the wire of every XDS.b transaction (ITI TF-2 Appendix V).

Invariants:

* the body's bytes stand in the envelope as they were given: stored metadata leaves unchanged (FF-21);
* an envelope that was decoded has one Action, one body element, and uses each attachment exactly once;
* a reply is never sent anywhere but back: a ReplyTo or FaultTo other than anonymous is refused (T26);
* a header that must be understood and is not is refused (SOAP 1.2 §5.2.3).

Pure: the shells are ``indexer.xds.client`` and ``indexer.registry``.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from lxml import etree

from indexer.ports import Submission
from indexer.xds.vocabulary import NS_SOAP12, NS_WSA, NS_WSSE, NS_XDSB, NS_XOP, WSA_ANONYMOUS, WSA_SOAP_FAULT
from security.errors import BadInput, Broken
from security.parse.mime import SOAP_TYPE, XOP_TYPE, Limits, base64_strict, media_type, read_related, write_related
from security.parse.xml import parse_xml

NO_ATTACHMENTS: Mapping[str, bytes] = {}

_SOAP = f"{{{NS_SOAP12}}}"
_WSA = f"{{{NS_WSA}}}"
_SECURITY = f"{{{NS_WSSE}}}Security"
_XOP_INCLUDE = f"{{{NS_XOP}}}Include"
_FAULT_CODES = frozenset({"Sender", "Receiver", "MustUnderstand", "VersionMismatch", "DataEncodingUnknown"})
_FAULT_REASON_MAX = 200
_ADDRESS_MAX = 1024  # characters of one addressing header
_HINT = "the sender must produce a SOAP 1.2 envelope with WS-Addressing (IHE ITI TF-2 Appendix V)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One message. ``message_id`` and ``relates_to`` are "" when absent; ``attachments`` by Content-ID;
    ``security``: the wsse:Security header where it stands, None when there is none: nothing is verified here."""

    action: str
    message_id: str
    relates_to: str
    body: etree._Element = field(repr=False)
    attachments: Mapping[str, bytes] = field(repr=False)
    security: etree._Element | None = field(default=None, repr=False)


class SoapFault(BadInput):
    """The peer answered with a SOAP Fault (SOAP 1.2 §5.4).

    ``fault_code``: Sender, Receiver, MustUnderstand, VersionMismatch, DataEncodingUnknown or ``other``.
    ``reason``: the peer's words, at most 200 characters; they may name a patient, so they are not in the message.
    """

    def __init__(self, *, fault_code: str, reason: str, relates_to: str) -> None:
        super().__init__(
            f"the peer answered with a SOAP Fault {fault_code}",
            code="soap-fault",
            hint="the peer's own log says why, under the MessageID of our request",
        )
        self.fault_code = fault_code
        self.reason = reason[:_FAULT_REASON_MAX]
        self.relates_to = relates_to


# -- writing -----------------------------------------------------------------------------------------------------


def encode_request(
    *,
    action: str,
    to: str,
    message_id: str,
    body: bytes,
    attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
    mtom: bool,
    boundary: str = "",
    security: bytes = b"",
) -> tuple[str, bytes]:
    """Content-Type and bytes of a request. ``body``: one serialised element with its own namespace declarations;
    ``boundary``: derived from the MessageID when empty; ``security``: a wsse:Security header block, likewise
    serialised, b"" for none."""
    headers = (
        _header("Action", action, must_understand=True)
        + _header("MessageID", message_id)
        + _header("To", to)
        + f"<wsa:ReplyTo><wsa:Address>{WSA_ANONYMOUS}</wsa:Address></wsa:ReplyTo>"
        + security.decode("utf-8")
    )
    return _message(headers, body, action, message_id, attachments, mtom=mtom, boundary=boundary)


def encode_response(
    *,
    action: str,
    relates_to: str,
    message_id: str,
    body: bytes,
    attachments: Mapping[str, bytes] = NO_ATTACHMENTS,
    mtom: bool,
    boundary: str = "",
) -> tuple[str, bytes]:
    """Content-Type and bytes of an answer to the request whose MessageID is ``relates_to``."""
    headers = (
        _header("Action", action, must_understand=True)
        + _header("MessageID", message_id)
        + (_header("RelatesTo", relates_to) if relates_to else "")
    )
    return _message(headers, body, action, message_id, attachments, mtom=mtom, boundary=boundary)


def encode_fault(*, relates_to: str, message_id: str, fault_code: str, reason: str) -> tuple[str, bytes]:
    """Content-Type and bytes of a SOAP Fault, never MTOM. ``fault_code``: ``Sender`` or ``Receiver`` mostly;
    ``reason`` is read by strangers: no patient data. Send it with HTTP 400 (Sender) or 500 (others)."""
    body = (
        f'<soap:Fault xmlns:soap="{NS_SOAP12}">'
        f"<soap:Code><soap:Value>soap:{html.escape(fault_code)}</soap:Value></soap:Code>"
        f'<soap:Reason><soap:Text xml:lang="en">{html.escape(reason)}</soap:Text></soap:Reason></soap:Fault>'
    )
    return encode_response(
        action=WSA_SOAP_FAULT, relates_to=relates_to, message_id=message_id, body=body.encode(), mtom=False
    )


def include(cid: str) -> bytes:
    """The xop:Include element that stands for the attachment ``cid`` (XOP §3.2)."""
    return f'<xop:Include xmlns:xop="{NS_XOP}" href="cid:{quote(cid, safe="@.-_")}"/>'.encode("ascii")


def document_elements(documents: Mapping[str, bytes]) -> tuple[bytes, dict[str, bytes]]:
    """``xdsb:Document`` elements (prefix ``xdsb`` declared by whoever holds them) and their attachments."""
    elements: list[bytes] = []
    attachments: dict[str, bytes] = {}
    for number, (document_id, data) in enumerate(documents.items(), start=1):
        cid = f"document-{number}@poterne"
        attachments[cid] = data
        elements.append(
            b'<xdsb:Document id="' + html.escape(document_id).encode() + b'">' + include(cid) + b"</xdsb:Document>"
        )
    return b"".join(elements), attachments


def provide_and_register_body(submission: Submission) -> tuple[bytes, dict[str, bytes]]:
    """The body element of ITI-41 around the stored metadata, and its attachments."""
    elements, attachments = document_elements(submission.documents)
    name = b"xdsb:ProvideAndRegisterDocumentSetRequest"
    opening = b"<" + name + b' xmlns:xdsb="' + NS_XDSB.encode("ascii") + b'">'
    return opening + submission.metadata + elements + b"</" + name + b">", attachments


def _header(name: str, value: str, *, must_understand: bool = False) -> str:
    attribute = ' soap:mustUnderstand="1"' if must_understand else ""
    return f"<wsa:{name}{attribute}>{html.escape(value)}</wsa:{name}>"


def _message(
    headers: str,
    body: bytes,
    action: str,
    message_id: str,
    attachments: Mapping[str, bytes],
    *,
    mtom: bool,
    boundary: str,
) -> tuple[str, bytes]:
    if body.startswith(b"<?") or (attachments and not mtom):
        raise Broken(
            "an envelope takes one bare element, and attachments only as MTOM",
            code="soap-own-body",
            hint="this is a defect: report it",
        )
    envelope = b"".join(
        (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="{NS_SOAP12}" xmlns:wsa="{NS_WSA}">'
            f"<soap:Header>{headers}</soap:Header><soap:Body>".encode(),
            body,
            b"</soap:Body></soap:Envelope>",
        )
    )
    if not mtom:
        return f'{SOAP_TYPE}; charset=UTF-8; action="{action}"', envelope
    return write_related(envelope, attachments, boundary=boundary or _boundary(message_id))


def _boundary(message_id: str) -> str:
    return "poterne-" + hashlib.sha256(message_id.encode()).hexdigest()[:32]


# -- reading -----------------------------------------------------------------------------------------------------


def decode(
    content_type: str, data: bytes, *, limits: Limits | None = None, understands_security: bool = False
) -> Envelope:
    """The message in ``data``, plain SOAP 1.2 or MTOM. ``understands_security``: the caller verifies wsse:Security.

    Raises:
        SoapFault: the body is a Fault.
        BadInput: ``mime-…``, ``xml-…``, ``soap-content-type``, ``soap-envelope``, ``soap-addressing``,
            ``soap-must-understand``, ``xop-…``.
    """
    kind, parameters = media_type(content_type)
    attachments: dict[str, bytes] = {}
    if kind == "multipart/related":
        related = read_related(content_type, data, limits=limits)
        kind, parameters = media_type(related.root.content_type)
        data = related.root.data
        attachments = {cid: part.data for cid, part in related.parts.items()}
        kind = SOAP_TYPE if kind == XOP_TYPE else kind
    if kind != SOAP_TYPE:
        raise _bad("content-type", "neither application/soap+xml nor MTOM (application/xop+xml)")
    if parameters.get("charset", "utf-8").lower() != "utf-8":
        raise _bad("content-type", "a charset other than UTF-8")
    headers, body = _open(parse_xml(data, what="SOAP envelope"))
    secured = [header for header in headers if header.tag == _SECURITY]
    if len(secured) > 1:
        raise _bad("envelope", "several wsse:Security headers")
    addressing = _addressing([h for h in headers if h.tag != _SECURITY or not understands_security])
    if body.tag == _SOAP + "Fault":
        raise _fault(body, addressing["RelatesTo"])
    if not addressing["Action"]:
        raise _bad("addressing", "no wsa:Action")
    _check_includes(body, attachments)
    return Envelope(
        action=addressing["Action"],
        message_id=addressing["MessageID"],
        relates_to=addressing["RelatesTo"],
        body=body,
        attachments=attachments,
        security=secured[0] if secured else None,
    )


def octets(element: etree._Element, attachments: Mapping[str, bytes]) -> bytes:
    """The bytes an element of type base64Binary stands for: its attachment, or its own base64.

    Raises:
        BadInput: ``xop-missing``, ``mime-base64``.
    """
    child = element.find(_XOP_INCLUDE)
    if child is not None:
        return attachments[_cid(child, attachments)]
    return base64_strict(text(element).encode("utf-8"))


def documents(request: etree._Element, attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """The bytes of each xdsb:Document of an ITI-41 request, by its id.

    Raises:
        BadInput: ``soap-document`` a Document without id or an id twice; ``mime-base64``.
    """
    found: dict[str, bytes] = {}
    for element in request.iterchildren(f"{{{NS_XDSB}}}Document"):
        document_id = element.get("id", "")
        if not document_id or document_id in found:
            raise _bad("document", "a Document without an id, or an id twice")
        found[document_id] = octets(element, attachments)
    return found


def text(element: etree._Element | None) -> str:
    """The character data of an element, trimmed; comments are no text; "" for None."""
    return "" if element is None else str(element.xpath("string()")).strip()


def _open(root: etree._Element) -> tuple[list[etree._Element], etree._Element]:
    """Header blocks and the only element of the Body."""
    if root.tag != _SOAP + "Envelope":
        raise _bad("envelope", "the root is not a SOAP 1.2 Envelope")
    children = list(root.iterchildren(etree.Element))
    names = [child.tag for child in children]
    if names not in ([_SOAP + "Header", _SOAP + "Body"], [_SOAP + "Body"]):
        raise _bad("envelope", "an Envelope holds one Header and one Body")
    content = list(children[-1].iterchildren(etree.Element))
    if len(content) != 1:
        raise _bad("envelope", f"the Body holds {len(content)} elements instead of one")
    headers = list(children[0].iterchildren(etree.Element)) if len(children) == 2 else []
    return headers, content[0]


def _addressing(headers: list[etree._Element]) -> dict[str, str]:
    """Action, MessageID and RelatesTo, "" when absent."""
    found = {"Action": "", "MessageID": "", "RelatesTo": ""}
    for header in headers:
        name = etree.QName(header)
        if name.namespace != NS_WSA:
            if header.get(_SOAP + "mustUnderstand", "0").strip() in {"1", "true"}:
                raise _bad("must-understand", "a header that must be understood is not ours to understand")
        elif name.localname in {"ReplyTo", "FaultTo"}:
            if text(header.find(_WSA + "Address")) != WSA_ANONYMOUS:
                raise _bad("addressing", "an answer may only go back on the same connection")
        elif name.localname in found:
            value = text(header)
            if found[name.localname] or not value or len(value) > _ADDRESS_MAX:
                raise _bad("addressing", f"wsa:{name.localname} is repeated, empty or too long")
            found[name.localname] = value
    return found


def _fault(body: etree._Element, relates_to: str) -> SoapFault:
    value = text(body.find(f"{_SOAP}Code/{_SOAP}Value")).rpartition(":")[2]
    return SoapFault(
        fault_code=value if value in _FAULT_CODES else "other",
        reason=re.sub(r"\s+", " ", text(body.find(f"{_SOAP}Reason/{_SOAP}Text"))[: _FAULT_REASON_MAX * 2]),
        relates_to=relates_to,
    )


def _check_includes(body: etree._Element, attachments: Mapping[str, bytes]) -> None:
    """Every xop:Include stands alone in its parent and names an attachment of its own; none is left over."""
    used: set[str] = set()
    for element in body.iter(_XOP_INCLUDE):
        parent = element.getparent()
        if parent is None or len(parent) != 1 or (parent.text or "").strip() or (element.tail or "").strip():
            raise _xop("alone", "an xop:Include does not stand alone in its element")
        cid = _cid(element, attachments)
        if cid in used:
            raise _xop("repeated", "an attachment is included twice")
        used.add(cid)
    if used != attachments.keys():
        raise _xop("unused", f"{len(attachments) - len(used)} attachments are never included")


def _cid(element: etree._Element, attachments: Mapping[str, bytes]) -> str:
    scheme, _, name = element.get("href", "").partition(":")
    cid = unquote(name)
    if scheme.lower() != "cid" or cid not in attachments:
        raise _xop("missing", "an xop:Include names no attachment of this message")
    return cid


def _bad(code: str, message: str) -> BadInput:
    return BadInput(f"SOAP message: {message}", code=f"soap-{code}", hint=_HINT)


def _xop(code: str, message: str) -> BadInput:
    return BadInput(f"SOAP message: {message}", code=f"xop-{code}", hint=_HINT)
