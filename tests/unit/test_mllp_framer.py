"""The MLLP framer: messages out of bytes, however they are cut (FF-11)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hl7.mllp import Framer, frame
from security.errors import BadInput
from tests.fixtures.reports import LabExam, build_oru


def _framer(size: int = 1_000_000, junk: int = 100) -> Framer:
    return Framer(frame_bytes_max=size, junk_bytes_max=junk)


def _feed(framer: Framer, data: bytes) -> list[bytes]:
    framer.receive(data)
    messages = []
    while (message := framer.next_message()) is not None:
        messages.append(message)
    return messages


def _refusal(data: bytes, framer: Framer | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        _feed(framer or _framer(), data)
    return caught.value.code


def test_ff11_a_hundred_messages_split_at_every_byte_boundary_arrive_whole() -> None:
    messages = [b"MSH|^~\\&|RIS||||||ORU^R01|%d|P|2.5\r\rPID|%d\r" % (n, n) for n in range(100)]
    stream = b"".join(frame(message) for message in messages)
    boundaries = len(frame(messages[0])) + len(frame(messages[1]))
    for cut in range(1, boundaries):  # every place inside a message, its framing, and across two
        framer = _framer()
        assert [m for at in range(0, len(stream), cut) for m in _feed(framer, stream[at : at + cut])] == messages
    framer = _framer()
    assert [m for at in range(len(stream)) for m in _feed(framer, stream[at : at + 1])] == messages


def test_ff11_a_real_report_may_be_cut_anywhere() -> None:
    report = build_oru(LabExam())
    stream = frame(report) + frame(report)
    for cut in range(1, len(stream)):
        framer = _framer()
        assert _feed(framer, stream[:cut]) + _feed(framer, stream[cut:]) == [report, report]


def test_ff11_two_interleaved_connections_share_nothing() -> None:
    first, second = _framer(), _framer()
    got: list[tuple[str, bytes]] = []
    for a, b in zip(frame(b"A" * 500), frame(b"B" * 500), strict=True):
        got += [("first", m) for m in _feed(first, bytes([a]))] + [("second", m) for m in _feed(second, bytes([b]))]
    assert got == [("first", b"A" * 500), ("second", b"B" * 500)]


def test_ff11_a_message_of_five_megabytes_arrives_in_chunks() -> None:
    message = b"MSH|" + b"x" * 5_000_000
    stream, framer = frame(message), _framer(size=6_000_000)
    assert [m for at in range(0, len(stream), 1_400) for m in _feed(framer, stream[at : at + 1_400])] == [message]


def test_ff11_a_blank_line_does_not_end_a_message() -> None:
    assert _feed(_framer(), frame(b"MSH|a\r\r\nPID|b\r")) == [b"MSH|a\r\r\nPID|b\r"]


def test_several_messages_of_one_chunk_come_in_order() -> None:
    assert _feed(_framer(), frame(b"1") + b"\r\n" + frame(b"2") + frame(b"3")) == [b"1", b"2", b"3"]


def test_junk_between_frames_is_counted_and_dropped_up_to_a_limit() -> None:
    framer = _framer(junk=10)
    assert _feed(framer, b"\r\n junk" + frame(b"1") + b"more" + frame(b"2")) == [b"1", b"2"]
    assert framer.junk == 8
    assert _refusal(b"xyz", framer) == "mllp-junk"


def test_white_space_between_frames_is_free() -> None:
    framer = _framer(junk=0)
    assert _feed(framer, b" \r\n\t" * 1_000 + frame(b"1")) == [b"1"]


def test_a_peer_that_speaks_another_protocol_is_refused() -> None:
    assert _refusal(b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n") == "mllp-junk"


def test_fs_without_cr_is_refused() -> None:
    assert _refusal(b"\x0bMSH|\x1c\nPID") == "mllp-bad-end"


def test_fs_and_cr_may_arrive_apart() -> None:
    framer = _framer()
    assert _feed(framer, b"\x0bMSH|\x1c") == []
    assert _feed(framer, b"\r") == [b"MSH|"]


@pytest.mark.parametrize("cut", [1, 5, 9, 10, 11])
def test_ff11_a_frame_that_starts_inside_another_never_mixes_two_messages(cut: int) -> None:
    stream, framer = b"\x0bMSH|one\r\x0bMSH|two\r\x1c\r", _framer()
    if cut < stream.index(b"\x0b", 1) + 1:  # the second VT is not there yet
        assert _feed(framer, stream[:cut]) == []
        assert _refusal(stream[cut:], framer) == "mllp-start-inside"
    else:
        assert _refusal(stream[:cut], framer) == "mllp-start-inside"


def test_the_size_limit_holds_before_the_end_is_seen_and_keeps_the_header() -> None:
    framer = _framer(size=20)
    assert _feed(framer, frame(b"x" * 20)) == [b"x" * 20]
    assert _refusal(b"\x0bMSH|^~\\&|RIS\rPID|" + b"y" * 10, framer) == "mllp-too-large"
    assert framer.head == b"MSH|^~\\&|RIS"


@given(st.lists(st.binary(max_size=60).map(lambda b: b.translate(None, b"\x0b\x1c")), max_size=5), st.data())
def test_ff11_how_the_stream_is_cut_never_changes_the_messages(messages: list[bytes], data: st.DataObject) -> None:
    """Law: framing of any split gives the messages that were framed."""
    stream = b"".join(frame(message) for message in messages)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    framer = _framer()
    got = [
        m
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for m in _feed(framer, stream[start:end])
    ]
    assert got == messages
    assert not framer.open


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_bytes_give_messages_or_a_refusal(chunks: list[bytes]) -> None:
    framer = _framer(size=50, junk=20)
    with contextlib.suppress(BadInput):
        for chunk in chunks:
            for message in _feed(framer, chunk):
                assert len(message) <= 50
                assert not {0x0B, 0x1C} & set(message)
