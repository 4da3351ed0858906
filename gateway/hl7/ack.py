"""Acknowledgements of HL7 v2 messages: what we answer to a sender, and every reason why.

Form: MSH, MSA and one ERR per problem in their HL7 2.5 shape; segments end with CR, text is UTF-8. ERR-3 speaks
table 0357; ERR-5 speaks the application codes 900–906 of the national transmission volet, which defines them for
the consumer of a report (drim-m §2): reusing them here is our reading of it; ERR-7 holds our own stable code.

Nothing of the patient is ever echoed: of the request only MSH fields come back, those of a table only as a word of
its form (a sender whose fields are shifted has anything there, T34). Framing is ``gateway.hl7.mllp``'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from security.errors import BadInput
from security.parse.hl7 import CHARSETS, Message, Problem, Segment, escape

_ECHO_MAX = 199  # characters of one echoed component: longer than any identifier of MSH
_PROBLEMS_MAX = 100
_TRIGGER = re.compile(r"[A-Z][A-Z0-9]{2}")  # table 0003
_PROCESSING = re.compile(r"[A-Z](\^[A-Z])?")  # tables 0103 and 0207
_VERSION = re.compile(r"[0-9](\.[0-9]){1,2}(\^[A-Z]{3}(\^[0-9.]{1,8})?)?")  # table 0104, and a national extension
_COUNTRY = re.compile(r"[A-Z]{3}")  # ISO 3166
_UNREADABLE_ID = "UNKNOWN"  # MSA-2 is required, also when the request has no control id we could read


class AckCode(StrEnum):
    """MSA-1, table 0008 (original mode)."""

    ACCEPT = "AA"
    ERROR = "AE"  # read and not taken: the content must change
    REJECT = "AR"  # not readable, or not a message for us


CONDITIONS = {  # table 0357, the codes in use
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "198": "Cardinality error",
    "199": "Other error",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "207": "Application internal error",
}
APPLICATION = {  # drim-m §2
    "900": "Wrong document version on replacement or deletion",
    "901": "Author not allowed",
    "902": "Unknown patient",
    "903": "INS missing",
    "904": "INS and traits differ",
    "905": "INS incomplete",
    "906": "Other error",
}
_CODES: dict[str, tuple[str, str]] = {  # our code → table 0357, application code
    "broken-line": ("100", "906"),
    "second-header": ("100", "906"),
    "unsupported-type": ("200", "906"),
    "unsupported-event": ("201", "906"),
    "unsupported-processing": ("202", "906"),
    "unsupported-version": ("203", "906"),
    "missing-segment": ("100", "906"),
    "missing-field": ("101", "906"),
    "bad-value": ("102", "906"),
    "unknown-value": ("103", "906"),
    "several-values": ("198", "906"),
    "several-ins": ("198", "905"),
    "too-many": ("198", "906"),
    "bad-base64": ("102", "906"),
    "empty-report": ("101", "906"),
    "no-study-uid": ("101", "906"),
    "bad-study-uid": ("102", "906"),
    "no-order": ("101", "906"),
    "no-accession": ("101", "906"),
    "no-placer-order": ("101", "906"),
    "no-order-number": ("101", "906"),
    "document-id-differs": ("199", "906"),
    "internal-fault": ("207", "906"),
    "no-room": ("207", "906"),
    "ins-missing": ("101", "903"),
    "ins-conflict": ("199", "904"),
    "ins-incomplete": ("101", "905"),
    "unknown-patient": ("199", "902"),
    "author-refused": ("199", "901"),
    "wrong-version": ("199", "900"),
    "unknown-report": ("199", "906"),
}
_OTHER = ("199", "906")


def build_ack(
    request: Message | None,
    code: AckCode,
    *,
    control_id: str,
    at: datetime,
    problems: Sequence[Problem] = (),
) -> bytes:
    """The answer to ``request`` (None: it could not be read), without MLLP framing.

    ``control_id``: MSH-10 of the answer, at most 20 characters; ``at``: aware moment of the answer. More than
    100 problems are cut to 99 and a count. HL7 2.5 §2.9.2, §2.15.
    """
    header = request.header if request is not None else None
    rest = len(problems) - (_PROBLEMS_MAX - 1)
    if len(problems) > _PROBLEMS_MAX:
        more = Problem(code="more-problems", text=f"{rest} further problems are not listed")
        problems = (*problems[: _PROBLEMS_MAX - 1], more)
    asked = _first(header, 10) or _UNREADABLE_ID
    segments = [_msh(header, control_id, at), f"MSA|{code.value}|{asked}", *(_err(problem) for problem in problems)]
    return "".join(segment + "\r" for segment in segments).encode()


def fault_problem(fault: BadInput) -> Problem:
    """The problem that stands for a whole message that could not be read."""
    return Problem(code=fault.code, text=f"{fault.args[0]}. {fault.hint}".rstrip(". "))


def _msh(header: Segment | None, control_id: str, at: datetime) -> str:
    """MSH of the answer: sender and receiver change places, version, country and character set stay."""
    trigger = _word(_TRIGGER, _first(header, 9, 2))
    fields = [
        "MSH",
        r"^~\&",
        _echo(header, 5),
        _echo(header, 6),
        _echo(header, 3),
        _echo(header, 4),
        at.strftime("%Y%m%d%H%M%S%z"),
        "",
        f"ACK^{trigger}^ACK",
        escape(control_id),
        _word(_PROCESSING, _echo(header, 11)) or "P",
        _word(_VERSION, _echo(header, 12)) or "2.5",
        "",
        "",
        "",
        "",
        _word(_COUNTRY, _echo(header, 17)) or "FRA",
    ]
    charset = _echo(header, 18)
    true_as_declared = charset and charset.upper() in CHARSETS and all(field.isascii() for field in fields)
    return "|".join([*fields, charset if true_as_declared else "UNICODE UTF-8"])


def _err(problem: Problem) -> str:
    """ERR in its 2.5 form: 2 where, 3 table 0357, 4 severity, 5 application code, 7 our code, 8 for people."""
    condition, application = _CODES.get(problem.code, _OTHER)
    where = [problem.segment, problem.sequence, problem.field] if problem.segment else []
    return "|".join(
        [
            "ERR",
            "",
            "^".join(str(part) for part in where if part),
            f"{condition}^{CONDITIONS[condition]}^HL70357",
            "E",
            f"{application}^{APPLICATION[application]}^HL70533",
            "",
            escape(problem.code),
            escape(problem.text),
        ]
    )


def _first(header: Segment | None, number: int, component: int = 1) -> str:
    """One component of the request's MSH, escaped again for ours."""
    return escape(header.text(number, component)[:_ECHO_MAX]) if header is not None else ""


def _word(form: re.Pattern[str], text: str) -> str:
    """The text where it is of that form, else ""."""
    return text if form.fullmatch(text) else ""


def _echo(header: Segment | None, number: int) -> str:
    """The first three components of a request's MSH field, escaped again for our own delimiters."""
    return "^".join(_first(header, number, component) for component in (1, 2, 3)).rstrip("^")
