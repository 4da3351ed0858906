"""Acknowledgements: valid HL7 2.5, every reason named, nothing of the patient."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message as hl7apy_parse

from gateway.hl7 import ack as ack_module
from gateway.hl7.ack import AckCode, build_ack, fault_problem
from gateway.hl7.reading import MessageRefused
from gateway.hl7.reasons import TEXTS
from gateway.i18n import words
from gateway.lab.ris import LabRequest, build_adt_consent, build_omi, build_orm
from security.errors import BadInput
from security.parse.hl7 import Message, Problem, parse_message
from tests.fixtures.reports import LabExam, build_cda, build_mdm, build_oru, changed, read, without

_AT = datetime(2026, 1, 8, 10, 20, 1, tzinfo=UTC)


def _ack(request: Message | None, code: AckCode = AckCode.ACCEPT, *problems: Problem) -> bytes:
    return build_ack(request, code, control_id="ANSWER-1", at=_AT, problems=problems)


def _assert_valid(answer: bytes) -> None:
    message = hl7apy_parse(answer.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=False)
    assert message.validate()


def test_an_acceptance_swaps_sender_and_receiver_and_keeps_version_and_locale() -> None:
    answer = _ack(parse_message(build_oru(LabExam(), control_id="MSG-7")))
    assert answer == (
        b"MSH|^~\\&|POTERNE|POTERNE|RIS-LAB|SITE-LAB|20260108102001+0000||ACK^R01^ACK|ANSWER-1|P|2.5"
        b"|||||FRA|UNICODE UTF-8\rMSA|AA|MSG-7\r"
    )
    _assert_valid(answer)


def test_a_refusal_holds_one_err_per_problem_in_the_2_5_form() -> None:
    problems = (
        Problem(code="missing-segment", segment="PID", sequence=1, text="Segment PID: expected the patient"),
        Problem(code="bad-base64", segment="OBX", sequence=2, field=5, text="Report: not Base64 | at all"),
        Problem(code="ins-conflict", text="INS and traits differ"),
    )
    answer = _ack(parse_message(build_oru(LabExam())), AckCode.ERROR, *problems)
    assert answer.split(b"\r")[2:-1] == [
        b"ERR||PID^1|100^Segment sequence error^HL70357|E|906^Other error^HL70533||missing-segment|Segment PID: expected the patient",
        b"ERR||OBX^2^5|102^Data type error^HL70357|E|906^Other error^HL70533||bad-base64|Report: not Base64 \\F\\ at all",
        b"ERR|||199^Other error^HL70357|E|904^INS and traits differ^HL70533||ins-conflict|INS and traits differ",
    ]
    _assert_valid(answer)


def test_an_unreadable_request_still_gets_a_valid_rejection() -> None:
    with pytest.raises(BadInput) as caught:
        parse_message(b"not HL7")
    answer = _ack(None, AckCode.REJECT, fault_problem(caught.value))
    assert answer == (
        b"MSH|^~\\&|||||20260108102001+0000||ACK^^ACK|ANSWER-1|P|2.5|||||FRA|UNICODE UTF-8\rMSA|AR|UNKNOWN\r"
        b"ERR|||199^Other error^HL70357|E|906^Other error^HL70533||hl7-no-msh"
        b"|HL7 message without an MSH segment. correct the message at its sender and send it again\r"
    )
    _assert_valid(answer)


def test_the_french_form_of_the_version_is_kept() -> None:
    request = parse_message(build_oru(LabExam(), version="2.5^FRA^2.11"))
    header = parse_message(_ack(request)).header
    assert [header.text(12, part) for part in (1, 2, 3)] == ["2.5", "FRA", "2.11"]


def test_ff10_a_non_ascii_answer_to_a_latin_1_sender_says_it_is_utf_8() -> None:
    raw = changed(build_oru(LabExam(), charset="8859/1"), "|RIS-LAB|", "|RIS-ÉTÉ|").decode().encode("latin-1")
    assert b"|UNICODE UTF-8\r" in _ack(parse_message(raw))
    plain = build_oru(LabExam(), charset="8859/1", codec="latin-1")
    assert b"|8859/1\r" in _ack(parse_message(plain))


def test_t31_what_is_echoed_cannot_forge_a_segment() -> None:
    raw = build_oru(LabExam(), control_id="1\rMSA|AA|2\x1c\r\x0b")
    answer = _ack(parse_message(raw), AckCode.ERROR)
    assert answer.count(b"\r") == 2
    assert not {0x0B, 0x1C} & set(answer)
    assert parse_message(answer).segments("MSA")[0].text(2) == "1\rMSA|AA|2\x1c\r\x0b"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ORU^R01^ORU_R01", "ORU^FANTÔME^ODETTE", b"|ACK^^ACK|"),
        ("|P|2.5|", "|FANTÔME|ODETTE|", b"|ACK^R01^ACK|ANSWER-1|P|2.5|"),
        ("|P|2.5|", "|T|2.3.1|", b"|ACK^R01^ACK|ANSWER-1|T|2.3.1|"),
        ("|FRA|UNICODE UTF-8|", "|FANTOME|ODETTE|", b"|FRA|UNICODE UTF-8\r"),
        ("|FRA|", "|ODETTE|", b"|FRA|UNICODE UTF-8\r"),
    ],
)
def test_t34_where_a_table_is_echoed_words_are_not(old: str, new: str, expected: bytes) -> None:
    answer = _ack(parse_message(changed(build_oru(LabExam()), old, new)), AckCode.ERROR)
    assert expected in answer
    assert not {word for word in ("FANTÔME", "FANTOME", "ODETTE") if word.encode() in answer}


def test_an_endless_sender_name_is_cut() -> None:
    raw = changed(build_oru(LabExam()), "|RIS-LAB|", "|" + "R" * 100_000 + "|")
    assert len(_ack(parse_message(raw))) < 1_000


def test_more_than_a_hundred_problems_become_a_hundred() -> None:
    problems = [Problem(code="bad-value", text=f"reason {number}") for number in range(250)]
    lines = _ack(None, AckCode.ERROR, *problems).split(b"\r")[2:-1]
    assert len(lines) == 100
    assert lines[-1].endswith(b"|more-problems|151 further problems are not listed")


@pytest.mark.parametrize(("code", "application"), list(ack_module.APPLICATION.items()))
def test_every_application_code_of_the_volet_can_be_answered(code: str, application: str) -> None:
    ours = next(name for name, (_, mapped) in ack_module._CODES.items() if mapped == code)
    answer = _ack(None, AckCode.ERROR, Problem(code=ours, text="x"))
    assert f"|{code}^{application}^HL70533|".encode() in answer


def test_no_patient_value_is_in_any_refusal() -> None:
    raw = changed(without(build_oru(LabExam(), order_control="FANTÔME"), "PRT"), "|19610412|", "|1961|")
    raw = changed(raw, "^INS|", "^INS~261046311304288^^^X&1.2&ISO^INS|")
    with pytest.raises(MessageRefused) as caught:
        read(raw)
    answer = _ack(parse_message(raw), AckCode.ERROR, *caught.value.problems).decode()
    for value in ("FANTÔME", "ODETTE", "1961", "2610463113042", "IPP9001"):
        assert value not in answer
        assert value not in str(caught.value)


def test_no_patient_value_of_a_cda_is_in_any_refusal() -> None:
    cda = build_cda(LabExam()).replace(b'birthTime value="19610412"', b'birthTime value="FANTOME"')
    with pytest.raises(MessageRefused) as caught:
        read(build_oru(LabExam(), cda=cda))
    assert [p.code for p in caught.value.problems] == ["bad-value"]
    assert "FANTOME" not in caught.value.problems[0].text


@pytest.mark.parametrize(
    "raw",
    [
        build_oru(LabExam()),
        build_mdm(LabExam()),
        build_mdm(LabExam(), event="T10"),
        build_mdm(LabExam(), event="T04"),
        build_omi(LabRequest()),
        build_orm(LabRequest(), version="2.5"),
        build_adt_consent(event="A01"),
        build_adt_consent(event="A31"),
    ],
    ids=["R01", "T02", "T10", "T04", "O23", "O01", "A01", "A31"],
)
@pytest.mark.parametrize("code", list(AckCode))
def test_the_answer_to_every_kind_of_message_is_valid_and_names_its_event(raw: bytes, code: AckCode) -> None:
    request = parse_message(raw)
    problems = [] if code is AckCode.ACCEPT else [Problem(code=one, text="why") for one in ack_module._CODES]
    answer = _ack(request, code, *problems)
    header = parse_message(answer).header
    assert [header.text(9, part) for part in (1, 2, 3)] == ["ACK", request.header.text(9, 2), "ACK"]
    assert header.text(12) == request.header.text(12)
    _assert_valid(changed(answer, "|2.5^FRA^2.11|", "|2.5|") if b"^FRA^" in answer else answer)


_MADE = re.compile(r"(?:code=|\.add\(\w+(?:\[0\])?, \d+, |_add\(\s*)\"([a-z0-9]+(?:-[a-z0-9]+)+)\"")
_OF_OTHERS = frozenset({"cda-refused", "message-refused", "more-problems", "hl7-bad-time"})  # never a first reason


def test_every_reason_has_words_for_the_operator() -> None:
    root = Path(ack_module.__file__).resolve().parents[2]
    sources = [*root.glob("gateway/hl7/*.py"), root / "security/parse/hl7.py", root / "security/parse/xml.py"]
    made = {code for source in sources for code in _MADE.findall(source.read_text(encoding="utf-8"))}
    made = {code for code in made if not code.startswith("mllp-")} - _OF_OTHERS
    assert {"no-order-number", "document-id-differs", "hl7-no-msh", "unknown-report"} <= made
    answered = ack_module._CODES.keys() - {"internal-fault", "ins-incomplete", "author-refused"}  # not said yet
    assert (made | answered) - TEXTS.keys() == set()
    assert TEXTS.keys() - made - answered - {"xml-limit", "xml-malformed"} == set()


def test_every_word_for_the_operator_is_said_in_french() -> None:
    french = words("fr")
    assert [text for text in TEXTS.values() if french(text) == text] == []
