"""The HL7 door's path of foreign bytes: MLLP frames, messages of every kind, CDA reports, and the answers to them (T20).

``target`` returns, or something is wrong; the first byte chooses what the rest is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from gateway.hl7.ack import AckCode, build_ack, fault_problem
from gateway.hl7.cda import read_cda
from gateway.hl7.messages import read_message
from gateway.hl7.mllp import Framer, frame
from gateway.hl7.reading import MessageRefused
from gateway.lab.ris import (
    LabExam,
    LabPatient,
    LabRequest,
    build_adt_consent,
    build_adt_identity,
    build_cda,
    build_mdm,
    build_omi,
    build_orm,
    build_oru,
)
from security.errors import BadInput
from security.parse.hl7 import Message, Problem, parse_message

PARIS = ZoneInfo("Europe/Paris")
AT = datetime(2026, 1, 8, 10, 20, 1, tzinfo=UTC)
FRAMES, CDA, MESSAGE = 0, 1, 2


def target(data: bytes) -> None:
    if not data:
        return
    kind, rest = data[0] % 4, data[1:]
    match kind:
        case 0:
            _frames(rest)
        case 1:
            _cda(rest)
        case _:
            _message(rest)


def _frames(data: bytes) -> None:
    """Bytes on a connection, in three pieces; what comes out is a message."""
    framer = Framer(frame_bytes_max=4096, junk_bytes_max=64)
    third = len(data) // 3 + 1
    try:
        for start in range(0, len(data), third):
            framer.receive(data[start : start + third])
            while (message := framer.next_message()) is not None:
                assert len(message) <= 4096
                _message(message)
    except BadInput as fault:
        assert fault.code.startswith("mllp-")


def _cda(data: bytes) -> None:
    try:
        report = read_cda(data, timezone=PARIS)
    except BadInput as refused:
        assert refused.code
        return
    assert report.studies


def _message(data: bytes) -> None:
    """What the intake does with a message, but for what it keeps."""
    message: Message | None = None
    problems: tuple[Problem, ...] = ()
    try:
        message = parse_message(data)
        read_message(message, timezone=PARIS, received_at=AT)
    except BadInput as fault:
        problems = tuple(fault.problems) if isinstance(fault, MessageRefused) else (fault_problem(fault),)
        assert problems
    code = AckCode.ERROR if problems else AckCode.ACCEPT
    answer = build_ack(message, code, control_id="FUZZ-1", at=AT, problems=problems)
    read = parse_message(answer)
    assert read.segments("MSA")[0].text(1) == code
    assert answer.count(b"\r") == 2 + min(len(problems), 100)


def seeds() -> Iterator[bytes]:
    """What a correct sender sends, and a little beside it."""
    exam = LabExam()
    yield bytes([CDA]) + build_cda(exam)
    yield bytes([CDA]) + build_cda(LabExam(level=3, document_extension="7", replaces="1.2.250.1.9"))
    for message in (
        build_oru(exam),
        build_oru(exam, charset="8859/1", codec="latin-1"),
        build_mdm(exam, event="T10", parent="1.2.250.1.9"),
        build_mdm(exam, event="T04", order_control=None),
        build_omi(LabRequest(), LabRequest(control="CA", exam_change=True)),
        build_orm(LabRequest(state="CM", decision="ok", decider_id="8")),
        build_adt_consent(),
        build_adt_identity(LabPatient(), event="A40", prior=LabPatient(ipp="IPP9002")),
        b"MSH|^~\\&|A|B|C|D|20260108||ORU^R01|1|P|2.5\rPID|1\r",
    ):
        yield bytes([MESSAGE]) + message
    yield bytes([FRAMES]) + frame(b"MSH|^~\\&|A|B|C|D|20260108||ADT^A31|1|P|2.5\rPID|1\r") * 3
    yield bytes([FRAMES]) + b"\x0bMSH|^~\\&\x1cX" + b"\n" * 70
