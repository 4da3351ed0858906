"""The one door for foreign ``multipart/related`` bodies (T22), and the writer of our own (RFC 2046, RFC 2387, XOP).

Invariants:

* work is bounded before it is done: bytes, parts and headers are counted as they are met, and the first one over
  its cap ends the reading;
* every part but the root has a Content-ID, no Content-ID stands twice, the ``start`` part is there;
* what two readers might see differently is refused: a line that only begins like a boundary, a repeated
  parameter or header, an encoding other than the named ones, a missing closing line.

Left to others: which part a document refers to (``indexer.xds.soap``), what the bytes mean.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from security.errors import BadInput, Broken

XOP_TYPE = "application/xop+xml"
SOAP_TYPE = "application/soap+xml"

_CONTENT_TYPE_MAX = 4096
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 §5.6.2
_MEDIA_TYPE = re.compile(rf"\s*({_WORD}/{_WORD})[ \t]*")
# Unquoted values keep what the field writes unquoted (start=<a@b>, type=application/xop+xml), tokens or not.
_PARAMETER = re.compile(rf';[ \t]*({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\\r\n]|\\[^\r\n])*)"|([^\s";,]+))[ \t]*(?=;|\Z)')
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_HEADER_NAME = re.compile(_WORD)
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,255}")  # without its angle brackets
_ROOT_ID = "root@poterne"
_LINE_REST = re.compile(rb"[ \t]*\r\n")
_BASE64_BLANKS = b" \t\r\n"
_HINT = "the sender must produce a multipart/related body as RFC 2387 and XOP describe it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps of one body. ``parts`` counts the root too; sizes in bytes."""

    parts: int = 64
    headers_per_part: int = 16
    header_bytes: int = 8 * 1024  # all headers of one part
    part_bytes: int = 64 * 1024 * 1024
    total_bytes: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One body part. ``content_id`` without angle brackets, "" when absent; ``data`` with its transfer encoding
    undone."""

    content_id: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """A ``multipart/related`` body: its root, and the other parts by Content-ID, in body order."""

    root: Part
    parts: Mapping[str, Part]


def media_type(content_type: str) -> tuple[str, dict[str, str]]:
    """The media type, lower case, and its parameters by lower-case name (RFC 9110 §8.3.1).

    Raises:
        BadInput: ``mime-content-type`` not of that form, too long, or a parameter twice.
    """
    if len(content_type) > _CONTENT_TYPE_MAX:
        raise _bad("content-type", f"Content-Type has {len(content_type)} characters, at most {_CONTENT_TYPE_MAX}")
    head = _MEDIA_TYPE.match(content_type)
    if head is None:
        raise _bad("content-type", "Content-Type is not of the form type/subtype")
    found: dict[str, str] = {}
    at, end = head.end(), len(content_type.rstrip(" \t;"))
    while at < end:
        match = _PARAMETER.match(content_type, at)
        if match is None:
            raise _bad("content-type", f"Content-Type has an unreadable parameter at character {at}")
        name, quoted, plain = match.groups()
        if name.lower() in found:
            raise _bad("content-type", f"Content-Type states the parameter {name.lower()[:32]!r} twice")
        found[name.lower()] = plain if plain is not None else re.sub(r"\\(.)", r"\1", quoted)
        at = match.end()
    return head[1].lower(), found


def read_related(content_type: str, body: bytes, *, limits: Limits | None = None) -> Related:
    """The parts of a ``multipart/related`` body.

    Raises:
        BadInput: ``mime-content-type``, ``mime-boundary``, ``mime-too-large``, ``mime-too-many-parts``,
            ``mime-truncated``, ``mime-header``, ``mime-encoding``, ``mime-cid-missing``, ``mime-cid-repeated``,
            ``mime-start-missing``.
    """
    limits = limits or Limits()
    if len(body) > limits.total_bytes:
        raise _bad("too-large", f"multipart body of {len(body)} bytes, at most {limits.total_bytes}")
    kind, parameters = media_type(content_type)
    if kind != "multipart/related":
        raise _bad("content-type", "Content-Type is not multipart/related")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise _bad("boundary", "the boundary parameter is missing or breaks RFC 2046 §5.1.1")
    start = parameters.get("start")
    root: Part | None = None
    parts: dict[str, Part] = {}
    seen: set[str] = set()
    for number, raw in enumerate(_split(body, boundary.encode("ascii"), limits), start=1):
        part = _part(raw, number, limits)
        if part.content_id in seen:
            raise _bad("cid-repeated", f"part {number} has the Content-ID of an earlier part")
        if part.content_id:
            seen.add(part.content_id)
        if root is None and (part.content_id == _bare(start) if start is not None else number == 1):
            root = part
        elif part.content_id:
            parts[part.content_id] = part
        else:
            raise _bad("cid-missing", f"part {number} is not the root and has no Content-ID")
    if root is None:
        raise _bad("start-missing", "no part has the Content-ID that the start parameter names")
    return Related(root=root, parts=parts)


def write_related(root: bytes, attachments: Mapping[str, bytes], *, boundary: str) -> tuple[str, bytes]:
    """Content-Type and body of an MTOM message: ``root`` is its SOAP 1.2 envelope, ``attachments`` by Content-ID.

    Raises:
        Broken: ``mime-own-boundary`` the boundary breaks its syntax or stands in the content;
            ``mime-own-cid`` a Content-ID breaks its syntax. Both are defects of the caller.
    """
    mark = b"--" + boundary.encode("ascii")
    if not _BOUNDARY.fullmatch(boundary) or any(mark in data for data in (root, *attachments.values())):
        raise Broken(
            "multipart boundary unusable for this content",
            code="mime-own-boundary",
            hint="this is a defect: report it",
        )
    if not all(_CONTENT_ID.fullmatch(cid) and cid != _ROOT_ID for cid in attachments):
        raise Broken("unusable Content-ID for an attachment", code="mime-own-cid", hint="this is a defect: report it")
    chunks = [
        mark,
        b'\r\nContent-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\n',
        f"Content-Transfer-Encoding: binary\r\nContent-ID: <{_ROOT_ID}>\r\n\r\n".encode("ascii"),
        root,
    ]
    for cid, data in attachments.items():
        headers = (
            "Content-Type: application/octet-stream\r\n"
            f"Content-Transfer-Encoding: binary\r\nContent-ID: <{cid}>\r\n\r\n"
        )
        chunks += [b"\r\n", mark, b"\r\n", headers.encode("ascii"), data]
    chunks += [b"\r\n", mark, b"--\r\n"]
    content_type = (
        f'multipart/related; type="{XOP_TYPE}"; start="<{_ROOT_ID}>"; start-info="{SOAP_TYPE}"; boundary="{boundary}"'
    )
    return content_type, b"".join(chunks)


def base64_strict(text: bytes) -> bytes:
    """The bytes of base64 ``text``: the RFC 4648 §4 alphabet, padded, blanks and line ends allowed between.

    Raises:
        BadInput: ``mime-base64``.
    """
    try:
        return binascii.a2b_base64(text.translate(None, _BASE64_BLANKS), strict_mode=True)
    except binascii.Error:
        raise _bad("base64", "base64 with a foreign character or wrong padding") from None


def _split(body: bytes, boundary: bytes, limits: Limits) -> list[memoryview]:
    """The raw parts (headers and content) between delimiter lines, counted before any is looked at."""
    delimiter = b"\r\n--" + boundary
    view = memoryview(body)
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    elif (first := body.find(delimiter)) >= 0:
        at = first + len(delimiter)
    else:
        raise _bad("boundary", "the body does not contain its boundary")
    raw: list[memoryview] = []
    while not body.startswith(b"--", at):
        line = _LINE_REST.match(body, at)
        if line is None:
            raise _bad("boundary", f"a line after part {len(raw)} begins like the boundary and goes on")
        if len(raw) == limits.parts:
            raise _bad("too-many-parts", f"more than {limits.parts} parts")
        # The CRLF that ends the delimiter line may also open the next delimiter: an empty part.
        end = body.find(delimiter, line.end() - 2)
        if end < 0:
            raise _bad("truncated", f"part {len(raw) + 1} is not closed by a boundary")
        raw.append(view[line.end() : max(line.end(), end)])
        at = end + len(delimiter)
    if not raw:
        raise _bad("truncated", "the body has no part")
    return raw


def _part(raw: memoryview, number: int, limits: Limits) -> Part:
    window = bytes(raw[: limits.header_bytes + 4])
    if window.startswith(b"\r\n"):
        head, data = b"", raw[2:]
    else:
        end = window.find(b"\r\n\r\n")
        if end < 0:
            raise _bad("header", f"part {number} has no end of headers within {limits.header_bytes} bytes")
        head, data = window[:end], raw[end + 4 :]
    if len(data) > limits.part_bytes:
        raise _bad("too-large", f"part {number} has {len(data)} bytes, at most {limits.part_bytes}")
    headers = _headers(head, number, limits)
    content_id = ""
    if "content-id" in headers:
        content_id = _bare(headers["content-id"])
        if not _CONTENT_ID.fullmatch(content_id):
            raise _bad("header", f"part {number} has an unreadable Content-ID")
    match headers.get("content-transfer-encoding", "binary").lower():
        case "binary" | "8bit" | "7bit":
            content = bytes(data)
        case "base64":
            content = base64_strict(bytes(data))
        case _:
            raise _bad("encoding", f"part {number} has a transfer encoding other than binary, 8bit, 7bit, base64")
    return Part(content_id=content_id, content_type=headers.get("content-type", ""), data=content)


def _headers(head: bytes, number: int, limits: Limits) -> dict[str, str]:
    lines: list[str] = []
    for line in head.decode("latin-1").split("\r\n") if head else []:
        if line.startswith((" ", "\t")) and lines:  # folded (RFC 5322 §2.2.3): older SOAP stacks do
            lines[-1] += " " + line.strip(" \t")
            continue
        if len(lines) == limits.headers_per_part:
            raise _bad("header", f"part {number} has more than {limits.headers_per_part} headers")
        lines.append(line)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name) or "\n" in value or "\r" in value or "\0" in value:
            raise _bad("header", f"part {number} has a line that is no header")
        if name.lower() in headers:
            raise _bad("header", f"part {number} has a header twice")
        headers[name.lower()] = value.strip(" \t")
    return headers


def _bare(content_id: str) -> str:
    return content_id.strip().removeprefix("<").removesuffix(">")


def _bad(code: str, message: str) -> BadInput:
    return BadInput(message, code=f"mime-{code}", hint=_HINT)
