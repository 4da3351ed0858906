"""HL7 v2 text becomes a message, or its reasons."""

from __future__ import annotations

import time
import tracemalloc
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.errors import BadInput
from security.parse.hl7 import Charset, Delimiters, escape, parse_message, parse_ts
from tests.fixtures.reports import PARIS, LabExam, build_oru

_MSH = "MSH|^~\\&|RIS|SITE|POTERNE|SITE|20260108||ORU^R01^ORU_R01|42|P|2.5|||||FRA|{charset}"


def _raw(*segments: str, charset: str = "UNICODE UTF-8", codec: str = "utf-8", end: str = "\r") -> bytes:
    return "".join(s + end for s in (_MSH.format(charset=charset), *segments)).encode(codec)


def _code(raw: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        parse_message(raw)
    return caught.value.code


def test_fields_are_counted_from_one_and_msh_counts_its_separator() -> None:
    header = parse_message(_raw()).header
    assert (header.text(1), header.text(2), header.text(3)) == ("|", "^~\\&", "RIS")
    assert (header.text(9), header.text(9, 2), header.text(9, 3), header.text(10)) == ("ORU", "R01", "ORU_R01", "42")


def test_repetitions_components_and_subcomponents_are_told_apart() -> None:
    pid = parse_message(_raw("PID|||A^^^X&1.2&ISO^PI~B^^^Y&3.4&ISO^INS")).segment("PID")
    assert pid is not None
    assert [(r.component(1), r.component(4, 2), r.component(5)) for r in pid.field(3)] == [
        ("A", "1.2", "PI"),
        ("B", "3.4", "INS"),
    ]


def test_what_is_absent_or_null_reads_as_empty() -> None:
    message = parse_message(_raw('PID|||A||""^X'))
    pid = message.segment("PID")
    assert pid is not None
    assert (pid.text(5), pid.text(5, 2), pid.text(5, 9), pid.text(40), pid.field(4)) == ("", "X", "", "", ())
    assert message.segment("ZZZ") is None
    assert message.segments("ZZZ") == ()


def test_segments_of_one_name_carry_their_number() -> None:
    message = parse_message(_raw("OBX|1|ST", "NTE|1", "OBX|2|ED"))
    assert [(s.sequence, s.text(2)) for s in message.segments("OBX")] == [(1, "ST"), (2, "ED")]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_ff11_every_line_ending_is_accepted_and_blank_lines_are_skipped(end: str) -> None:
    raw = (end * 2).encode() + _raw("PID|1", "", "  ", "ORC|NW", end=end) + (end * 3).encode()
    message = parse_message(raw)
    assert [s.name for s in message.segments_in_order] == ["MSH", "PID", "ORC"]
    assert message.problems == ()


def test_the_sender_may_choose_its_own_delimiters() -> None:
    raw = b"MSH#*+!%#RIS\rPID###A***X%1.2+B#!H!!S!!R!!T!"
    pid = parse_message(raw).segment("PID")
    assert pid is not None
    assert [r.component(1) for r in pid.field(3)] == ["A", "B"]
    assert pid.text(3, 4, 2) == "1.2"
    assert pid.text(4) == "!H!*+%"  # an escape this house does not know stays


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"x\X0D0A\y", "x\r\ny"),
        (r"caf\XC3A9\ ", "café "),
        (r"one\.br\two", "one\ntwo"),
        (r"\XZZ\ \Q\ ", r"\XZZ\ \Q\ "),
        ("left\\open", "left\\open"),
        (r"C:\temp\data", r"C:\temp\data"),
    ],
)
def test_escapes_are_decoded_on_access(sent: str, meant: str) -> None:
    assert Delimiters().unescape(sent) == meant


def test_many_escapes_cost_linear_time() -> None:
    started = time.monotonic()
    assert Delimiters().unescape(r"\F\ " * 300_000) == "| " * 300_000
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("declared", "codec", "expected"),
    [
        ("UNICODE UTF-8", "utf-8", Charset(declared="UNICODE UTF-8", used="utf-8", fell_back=False)),
        ("8859/1", "latin-1", Charset(declared="8859/1", used="latin-1", fell_back=False)),
        ("8859/15", "iso8859-15", Charset(declared="8859/15", used="iso8859-15", fell_back=False)),
        ("unicode utf-8", "utf-8", Charset(declared="unicode utf-8", used="utf-8", fell_back=False)),
        ("UNICODE UTF-8", "cp1252", Charset(declared="UNICODE UTF-8", used="cp1252", fell_back=True)),
        ("8859/1", "utf-8", Charset(declared="8859/1", used="utf-8", fell_back=True)),
        ("ASCII", "latin-1", Charset(declared="ASCII", used="cp1252", fell_back=True)),
        ("", "cp1252", Charset(declared="", used="cp1252", fell_back=True)),
        ("", "utf-8", Charset(declared="", used="utf-8", fell_back=True)),
        ("KLINGON", "cp1252", Charset(declared="KLINGON", used="cp1252", fell_back=True)),
        ("KLINGON", "utf-8", Charset(declared="KLINGON", used="utf-8", fell_back=True)),
    ],
)
def test_ff10_a_name_is_read_right_whatever_msh_18_says(declared: str, codec: str, expected: Charset) -> None:
    message = parse_message(_raw("PID|||||FANTÔME^ZOÉ", charset=declared, codec=codec))
    pid = message.segment("PID")
    assert pid is not None
    assert (pid.text(5), pid.text(5, 2)) == ("FANTÔME", "ZOÉ")
    assert message.charset == expected


def test_ff10_windows_quotes_under_a_latin_1_label_are_read() -> None:
    message = parse_message(_raw("OBX|1|ST|||l’œdème", charset="8859/1", codec="cp1252"))
    obx = message.segment("OBX")
    assert obx is not None
    assert obx.text(5) == "l’œdème"
    assert message.charset == Charset(declared="8859/1", used="cp1252", fell_back=True)


def test_ff10_plain_ascii_needs_no_declaration() -> None:
    assert parse_message(_raw(charset="")).charset == Charset(declared="", used="ascii", fell_back=False)


def test_ff10_bytes_that_fit_nothing_are_refused() -> None:
    assert _code(_raw("PID|1") + b"NTE|\x81\x8d\x9d\r") == "hl7-undecodable"


def test_a_broken_line_is_one_problem_and_the_rest_is_read() -> None:
    message = parse_message(_raw("OBX|1|ST|||first", "second line", "third line", "OBX|2|ST", "||N|"))
    assert [(p.code, p.segment, p.sequence) for p in message.problems] == [
        ("broken-line", "OBX", 1),
        ("broken-line", "OBX", 2),
    ]
    assert "second" not in message.problems[0].text
    assert len(message.segments("OBX")) == 2


def test_ff11_two_messages_in_one_frame_are_a_problem() -> None:
    message = parse_message(_raw("PID|1") + _raw("PID|2"))
    assert [(p.code, p.segment, p.sequence) for p in message.problems] == [("second-header", "MSH", 2)]


@pytest.mark.parametrize("raw", [b"", b"\r\r", b"PID|1\r", b"MSH", b"MSH|^~", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"])
def test_bytes_without_a_header_are_refused(raw: bytes) -> None:
    assert _code(raw) == "hl7-no-msh"


@pytest.mark.parametrize("raw", [b"MSH|^^\\&|A", b"MSH|^~|A|B", b"MSHA^~\\&A|", b"MSH|^~\\&#+|A", b"MSH|ab\\&|A"])
def test_impossible_delimiters_are_refused(raw: bytes) -> None:
    assert _code(raw) == "hl7-bad-delimiters"


def test_sizes_are_capped_before_work_is_done() -> None:
    assert _code(_raw() + b"N" * (32 * 1024 * 1024)) == "hl7-too-large"
    assert _code(_raw() + b"\r" * 10_001) == "hl7-too-many-lines"
    assert _code(_raw("PID" + "|" * 501)) == "hl7-too-many-fields"
    assert _code(_raw("PID|||" + "~" * 10_001)) == "hl7-too-many-repetitions"


def test_an_absurd_number_of_escapes_is_refused_and_the_most_allowed_stays_cheap() -> None:
    assert _code(_raw("PID|||||" + "\\" * 15_000_000)) == "hl7-too-many-escapes"
    pid = parse_message(_raw("PID|||||" + "\\" * 999_999)).segment("PID")  # one more is MSH-2
    assert pid is not None
    tracemalloc.start()
    try:
        assert len(pid.text(5)) == 999_999
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_a_component_as_sent_keeps_its_escapes_and_subcomponents() -> None:
    obx = parse_message(_raw('OBX|1|ED|||^TEXT^XML^Base64^QUJD\\.br\\&\\X41\\~""')).segment("OBX")
    assert obx is not None
    assert [repetition.as_sent(5) for repetition in obx.field(5)] == ["QUJD\\.br\\&\\X41\\", ""]
    assert obx.field(5)[1].as_sent(1) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20210108111700+0100", datetime(2021, 1, 8, 11, 17, tzinfo=timezone(timedelta(hours=1)))),
        ("20210108111700-0330", datetime(2021, 1, 8, 11, 17, tzinfo=timezone(-timedelta(hours=3, minutes=30)))),
        ("20210708111700.25", datetime(2021, 7, 8, 11, 17, 0, 250_000, tzinfo=PARIS)),
        ("202107081117", datetime(2021, 7, 8, 11, 17, tzinfo=PARIS)),
        ("2021", datetime(2021, 1, 1, tzinfo=PARIS)),
    ],
)
def test_time_stamps_of_every_precision_are_read(text: str, expected: datetime) -> None:
    moment = parse_ts(text, PARIS)
    assert (moment, moment.utcoffset()) == (expected, expected.utcoffset())


@pytest.mark.parametrize(
    "text", ["", "21", "20211308", "20210230", "2021-01-08", "20210108+9900", "00010101", "２０２１"]
)
def test_what_is_no_time_stamp_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_ts(text, PARIS)
    assert caught.value.code == "hl7-bad-time"


_ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.lists(_ANY, min_size=1, max_size=6))
def test_parsing_gives_back_what_was_built(values: list[str]) -> None:
    """Law: parse ∘ build is the identity, whatever the values hold (``""`` alone is HL7's null)."""
    raw = _raw("ZZZ|" + "^".join(escape(value) for value in values))
    segment = parse_message(raw).segment("ZZZ")
    assert segment is not None
    read = [segment.text(1, number) for number in range(1, len(values) + 1)]
    assert read == ["" if value == '""' else value for value in values]


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_a_bad_input(tail: bytes) -> None:
    try:
        message = parse_message(_raw() + tail)
    except BadInput:
        return
    for segment in message.segments_in_order:
        for number in range(1, len(segment.fields) + 1):
            segment.text(number, 2, 2)


def test_headers_are_read_fast_enough() -> None:
    """Thousands a second on any machine; the bound leaves room for a busy one."""
    raw = build_oru(LabExam())
    started = time.perf_counter()
    for _ in range(500):
        pid = parse_message(raw).segment("PID")
        assert pid is not None
        assert pid.text(5) == "FANTÔME"
    assert 500 / (time.perf_counter() - started) > 500
