"""The attacks, as data: what is sent to which door, and which answers mean that it was held.

Invariants:

* nothing here changes what the site holds: each attack is one that must be refused before it means anything;
* an answer that is not known to be a refusal counts as got through;
* rows are those of docs/security.md.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

DoorKind = Literal["ops", "index", "dicom", "hl7"]
Held = Callable[[bytes], bool]
_STATUS_LINE: Final = re.compile(rb"^HTTP/1\.[01] \d{3} ", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """``sent``: bytes on one connection. ``held``: whether what came back until the end is a refusal; b"" is a closed
    connection. ``stalls``: the sender then stays silent, and must be closed."""

    row: str
    name: str
    door: DoorKind
    sent: bytes
    held: Held
    stalls: bool = False


def _refused_http(answer: bytes) -> bool:
    """Closed without a word, a 4xx or 5xx, or the way to the login page; none of it with a second answer."""
    if not answer:
        return True
    if len(_STATUS_LINE.findall(answer)) != 1:
        return False
    status = answer.split(b" ", 2)[1]
    return status[:1] in {b"4", b"5"} or (status in {b"302", b"303"} and b"/console/login" in answer)


def _refused_dicom(answer: bytes) -> bool:
    """Closed, A-ASSOCIATE-RJ or A-ABORT (PS3.8 §9.3.4, §9.3.8)."""
    return answer[:1] in {b"", b"\x03", b"\x07"}


def _refused_hl7(answer: bytes) -> bool:
    """Closed, or an acknowledgement that is no AA or CA (HL7 v2.5.1 §2.9.2)."""
    return b"MSA|AA" not in answer and b"MSA|CA" not in answer


def _http(method: str, path: str, headers: str = "", body: bytes = b"", *, length: bool = True) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}"
    if length and (body or method == "POST"):
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


def _ops(row: str, name: str, sent: bytes) -> Attack:
    return Attack(row=row, name=name, door="ops", sent=sent, held=_refused_http)


def _index(row: str, name: str, sent: bytes) -> Attack:
    return Attack(row=row, name=name, door="index", sent=sent, held=_refused_http)


def _soap(body: bytes) -> bytes:
    return _http("POST", "/xds/registry", "Content-Type: application/soap+xml; charset=utf-8\r\n", body)


def _multipart(body: bytes) -> bytes:
    kind = 'multipart/related; type="application/xop+xml"; boundary=b; start="<a>"'
    return _http("POST", "/xds/repository", f"Content-Type: {kind}\r\n", body)


def _json(body: bytes, headers: str = "") -> bytes:
    return _http("POST", "/fhir", f"Content-Type: application/fhir+json\r\n{headers}", body)


def _dicom(row: str, name: str, sent: bytes, *, stalls: bool = False) -> Attack:
    return Attack(row=row, name=name, door="dicom", sent=sent, held=_refused_dicom, stalls=stalls)


def _hl7(row: str, name: str, sent: bytes, *, stalls: bool = False) -> Attack:
    return Attack(row=row, name=name, door="hl7", sent=sent, held=_refused_hl7, stalls=stalls)


_LAUGHS: Final = (
    b'<!DOCTYPE a [<!ENTITY b "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (99 + n, b"&%c;" % (98 + n) * 10) for n in range(9))
    + b"]><a>&k;</a>"
)
_XXE: Final = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
_DEEP: Final = b"<a>" * 5_000 + b"</a>" * 5_000
_PARTS: Final = b"".join(b"--b\r\nContent-ID: <%d>\r\n\r\n\r\n" % n for n in range(5_000)) + b"--b--\r\n"
_SMUGGLED: Final = b"0\r\n\r\nGET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_STRANGER: Final = (  # A-ASSOCIATE-RQ (PS3.8 §9.3.2) of a title nobody configured, for Verification
    b"\x00\x01\x00\x00"
    + b"NOBODY-HERE".ljust(16)
    + b"NOBODY-KNOWN".ljust(16)
    + bytes(32)
    + b"\x10\x00\x00\x151.2.840.10008.3.1.1.1"
    + b"\x20\x00\x00\x2e\x01\x00\x00\x00\x30\x00\x00\x111.2.840.10008.1.1\x40\x00\x00\x111.2.840.10008.1.2"
    + b"\x50\x00\x00\x08\x51\x00\x00\x04\x00\x00\x40\x00"
)
_CROSS_SITE: Final = "Origin: https://elsewhere.example\r\nContent-Type: application/x-www-form-urlencoded\r\n"
_CLAIMS: Final = (
    "X-Client-Cert: CN=admin\r\nX-SSL-Client-Verify: SUCCESS\r\nX-Forwarded-For: 127.0.0.1\r\n"
    "Forwarded: for=127.0.0.1\r\nX-Remote-User: admin\r\n"
)

CORPUS: Final[tuple[Attack, ...]] = (
    # first: three of the violations that follow ban the address for a while
    _dicom("T06", "unknown-ae-title", b"\x01\x00" + len(_STRANGER).to_bytes(4, "big") + _STRANGER),
    _dicom("T01", "pdu-length-bomb", b"\x01\x00\xff\xff\xff\xff" + bytes(65_536)),
    _dicom("T02", "slow-header", b"\x01\x00", stalls=True),
    _dicom("T05", "garbage-pdu", bytes(range(1, 256)) * 16),
    _dicom("T05", "data-before-association", b"\x04\x00\x00\x00\x00\x06\x00\x00\x00\x02\x01\x03"),
    _hl7("T13", "nul-in-message", b"\x0bMSH|^~\\&|A|B|C|D|2026||ORU^R01|1|P|2.5\rPID|\x00\x1c\r"),
    _hl7("T13", "no-msh", b"\x0bPID|||1\r\x1c\r"),
    _hl7("T13", "no-type", b"\x0bMSH|^~\\&|A|B|C|D|2026\r\x1c\r"),
    _hl7("T02", "frame-without-end", b"\x0bMSH|^~\\&|" + b"A" * 65_536),
    _hl7("T02", "no-frame-at-all", b"GET / HTTP/1.1\r\n\r\n"),
    _index("T20", "external-entity", _soap(_XXE)),
    _index("T20", "billion-laughs", _soap(_LAUGHS)),
    _index("T20", "deep-xml", _soap(_DEEP)),
    _index("T22", "many-empty-parts", _multipart(_PARTS)),
    _index("T22", "no-such-start", _multipart(b"--b\r\nContent-ID: <z>\r\n\r\n<a/>\r\n--b--\r\n")),
    _index("T23", "deep-json", _json(b"[" * 100_000)),
    _index("T23", "huge-number", _json(b'{"resourceType":"Bundle","total":1e999999}')),
    _index("T23", "name-twice", _json(b'{"resourceType":"Bundle","resourceType":"Patient"}')),
    _index("T24", "gzip-body", _json(gzip.compress(bytes(1 << 20)), "Content-Encoding: gzip\r\n")),
    _index(
        "T25",
        "both-lengths",
        _http("POST", "/xds", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", _SMUGGLED, length=False),
    ),
    _ops(
        "T25",
        "both-lengths",
        _http(
            "POST", "/console/login", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", _SMUGGLED, length=False
        ),
    ),
    _ops(
        "T25",
        "two-lengths",
        _http("POST", "/console/login", "Content-Length: 0\r\nContent-Length: 9\r\n", b"GET / HTT", length=False),
    ),
    _ops("T25", "folded-header", _http("GET", "/console/", "X-A: 1\r\n folded: yes\r\n")),
    _ops("T25", "header-of-a-megabyte", _http("GET", "/console/", f"X-A: {'a' * 1_000_000}\r\n")),
    _ops("T07", "path-traversal", _http("GET", "/console/static/../../../../etc/passwd")),
    _ops("T07", "path-traversal-encoded", _http("GET", "/console/static/..%2f..%2f..%2fetc%2fpasswd")),
    _ops("T27", "headers-that-claim", _http("GET", "/console/held", _CLAIMS)),
    _ops("T46", "console-without-session", _http("GET", "/console/")),
    _ops("T46", "made-up-session", _http("GET", "/console/held", f"Cookie: __Host-session={'0' * 64}\r\n")),
    _ops("T46", "order-without-session", _http("POST", "/console/tenants/site/pause")),
    _ops("T32", "form-of-another-site", _http("POST", "/console/logout", _CROSS_SITE, b"csrf=0")),
)
