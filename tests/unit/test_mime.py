"""``security.parse.mime``: every cap, every refusal by its code, and the writer read back."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.errors import BadInput, Broken
from security.parse.mime import Limits, base64_strict, media_type, read_related, write_related

TYPE = 'multipart/related; boundary="cut"; type="application/xop+xml"; start="<root@test>"'
ROOT = b"Content-ID: <root@test>\r\nContent-Type: application/xop+xml\r\n\r\n<root/>"


def body(*parts: bytes, closing: bytes = b"\r\n--cut--\r\n") -> bytes:
    return b"".join(b"\r\n--cut\r\n" + part for part in parts)[2:] + closing


def refusal(content_type: str, data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        read_related(content_type, data, limits=limits)
    return caught.value.code


def test_a_body_with_one_attachment_is_read() -> None:
    related = read_related(TYPE, body(ROOT, b"Content-ID: <doc@test>\r\n\r\n\x00\xff\r\n--cu"))
    assert related.root.data == b"<root/>"
    assert related.root.content_type == "application/xop+xml"
    assert {cid: part.data for cid, part in related.parts.items()} == {"doc@test": b"\x00\xff\r\n--cu"}


def test_the_root_may_stand_after_its_attachments() -> None:
    related = read_related(TYPE, body(b"Content-ID: <doc@test>\r\n\r\nx", ROOT))
    assert related.root.data == b"<root/>"
    assert list(related.parts) == ["doc@test"]


def test_without_a_start_parameter_the_first_part_is_the_root_even_without_content_id() -> None:
    assert read_related("multipart/related; boundary=cut", body(b"\r\nhello")).root.data == b"hello"


def test_preamble_and_epilogue_are_ignored() -> None:
    related = read_related(TYPE, b"preamble\r\n" + body(ROOT) + b"epilogue")
    assert related.root.data == b"<root/>"


def test_headers_are_read_whatever_their_case_and_folding() -> None:
    part = b"CONTENT-ID:\t<root@test>\r\ncontent-type: application/xop+xml;\r\n  charset=UTF-8\r\n\r\n<root/>"
    assert read_related(TYPE, body(part)).root.content_type == "application/xop+xml; charset=UTF-8"


def test_a_base64_part_is_decoded() -> None:
    part = b"Content-ID: <doc@test>\r\nContent-Transfer-Encoding: BASE64\r\n\r\nAAH/\r\n/w=="
    assert read_related(TYPE, body(ROOT, part)).parts["doc@test"].data == b"\x00\x01\xff\xff"


@pytest.mark.parametrize(
    ("content_type", "parameters"),
    [
        ('Multipart/RELATED; Boundary="a b"; START="<x@y>"', {"boundary": "a b", "start": "<x@y>"}),
        ("multipart/related;boundary=abc;start=<x@y>", {"boundary": "abc", "start": "<x@y>"}),
        (
            "multipart/related; type=application/xop+xml ; boundary=abc;",
            {"type": "application/xop+xml", "boundary": "abc"},
        ),
        ('multipart/related; note="a \\"quoted\\" word"', {"note": 'a "quoted" word'}),
        ("multipart/related", {}),
    ],
)
def test_parameters_are_read_quoted_unquoted_and_in_any_case(content_type: str, parameters: dict[str, str]) -> None:
    assert media_type(content_type) == ("multipart/related", parameters)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "multipart",
        "multipart/related; boundary",
        "multipart/related; boundary=a; BOUNDARY=b",
        'multipart/related; boundary="open',
        'multipart/related; boundary="a"b',
        "multipart/related; x=" + "y" * 5000,
    ],
)
def test_t22_an_unreadable_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(BadInput) as caught:
        media_type(content_type)
    assert caught.value.code == "mime-content-type"


@pytest.mark.parametrize("boundary", ["", "a" * 71, "trailing ", "caf\u00e9", "a\tb"])
def test_t22_a_boundary_against_rfc_2046_is_refused(boundary: str) -> None:
    assert refusal(f'multipart/related; boundary="{boundary}"', b"--x\r\n\r\n\r\n--x--") == "mime-boundary"


def test_t22_a_hundred_thousand_empty_parts_are_refused_quickly() -> None:
    data = body(*[b"\r\n"] * 100_000)
    begin = time.process_time()
    assert refusal("multipart/related; boundary=cut", data) == "mime-too-many-parts"
    assert time.process_time() - begin < 0.5


def test_t22_sixty_four_parts_are_the_most() -> None:
    parts = [b"Content-ID: <%d@test>\r\n\r\nx" % n for n in range(63)]
    assert len(read_related(TYPE, body(ROOT, *parts)).parts) == 63
    assert refusal(TYPE, body(ROOT, *parts, b"Content-ID: <last@test>\r\n\r\nx")) == "mime-too-many-parts"


def test_t22_a_part_that_is_not_the_root_needs_a_content_id() -> None:
    assert refusal(TYPE, body(ROOT, b"Content-Type: text/plain\r\n\r\nx")) == "mime-cid-missing"


def test_t22_a_content_id_twice_is_refused() -> None:
    part = b"Content-ID: <doc@test>\r\n\r\nx"
    assert refusal(TYPE, body(ROOT, part, part)) == "mime-cid-repeated"
    assert refusal(TYPE, body(ROOT, ROOT)) == "mime-cid-repeated"


def test_t22_a_start_that_no_part_has_is_refused() -> None:
    assert refusal(TYPE, body(b"Content-ID: <other@test>\r\n\r\nx")) == "mime-start-missing"


@pytest.mark.parametrize("cut", [1, 3, 8, 12, 40])
def test_t22_a_truncated_body_is_refused(cut: int) -> None:
    data = body(ROOT, b"Content-ID: <doc@test>\r\n\r\nattachment")
    assert refusal(TYPE, data[: len(data) - 6 - cut]) in {"mime-truncated", "mime-boundary"}


def test_t22_a_body_without_its_boundary_is_refused() -> None:
    assert refusal(TYPE, b"") == "mime-boundary"
    assert refusal(TYPE, b"<html>maintenance</html>") == "mime-boundary"


def test_t22_a_body_that_only_closes_is_refused() -> None:
    assert refusal(TYPE, b"--cut--\r\n") == "mime-truncated"


def test_t22_a_line_that_only_begins_like_the_boundary_is_refused() -> None:
    assert refusal(TYPE, body(ROOT, b"Content-ID: <doc@test>\r\n\r\nx\r\n--cutter\r\ny")) == "mime-boundary"


def test_t22_a_huge_header_is_refused_without_reading_it_all() -> None:
    data = body(b"Content-ID: <root@test>\r\nX-Long: " + b"a" * 20_000_000 + b"\r\n\r\n<root/>")
    begin = time.process_time()
    assert refusal(TYPE, data) == "mime-header"
    assert time.process_time() - begin < 1.0


def test_t22_seventeen_headers_are_one_too_many() -> None:
    lines = b"".join(b"X-%d: y\r\n" % n for n in range(15))
    assert read_related(TYPE, body(lines + b"Content-ID: <root@test>\r\n\r\nx")).root.data == b"x"
    assert refusal(TYPE, body(b"X: y\r\n" + lines + b"Content-ID: <root@test>\r\n\r\nx")) == "mime-header"


@pytest.mark.parametrize(
    "head",
    [
        b"no colon here",
        b"Content-ID : <root@test>",
        b"Content-ID: <root@test>\r\ncontent-id: <other@test>",
        b"Content-ID: <a b@test>",
        b"Content-ID: ",
        b"X: a\nContent-ID: <root@test>",
    ],
)
def test_t22_a_header_that_two_readers_could_see_differently_is_refused(head: bytes) -> None:
    assert refusal(TYPE, body(head + b"\r\n\r\nx")) == "mime-header"


def test_t22_an_unknown_transfer_encoding_is_refused() -> None:
    part = b"Content-ID: <doc@test>\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nx"
    assert refusal(TYPE, body(ROOT, part)) == "mime-encoding"


def test_t22_sizes_over_their_caps_are_refused() -> None:
    data = body(ROOT, b"Content-ID: <doc@test>\r\n\r\n" + b"x" * 1000)
    assert refusal(TYPE, data, Limits(part_bytes=999)) == "mime-too-large"
    assert refusal(TYPE, data, Limits(total_bytes=1000)) == "mime-too-large"


@pytest.mark.parametrize("text", [b"AA", b"AA=", b"A===", b"AAA*", b"AA==AA==", b"=", b"AAA\x00"])
def test_t22_base64_is_strict(text: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        base64_strict(text)
    assert caught.value.code == "mime-base64"


def test_base64_may_hold_line_ends() -> None:
    assert base64_strict(b" AAEC\r\nAw==\n") == b"\x00\x01\x02\x03"


def test_a_refusal_and_a_part_show_no_content() -> None:
    with pytest.raises(BadInput) as caught:
        read_related(TYPE, body(b"FANTOME^Lucie\r\n\r\nx"))
    assert "FANTOME" not in str(caught.value)
    assert "secret" not in repr(read_related(TYPE, body(ROOT, b"Content-ID: <doc@test>\r\n\r\nsecret")))


def test_the_written_message_is_literally_mtom() -> None:
    content_type, data = write_related(b"<root/>", {"doc@test": b"\x00"}, boundary="cut")
    assert content_type == (
        'multipart/related; type="application/xop+xml"; start="<root@poterne>"; '
        'start-info="application/soap+xml"; boundary="cut"'
    )
    assert data == (
        b"--cut\r\n"
        b'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\n'
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: <root@poterne>\r\n\r\n"
        b"<root/>\r\n"
        b"--cut\r\n"
        b"Content-Type: application/octet-stream\r\n"
        b"Content-Transfer-Encoding: binary\r\n"
        b"Content-ID: <doc@test>\r\n\r\n"
        b"\x00\r\n"
        b"--cut--\r\n"
    )


def test_a_boundary_that_stands_in_the_content_is_never_written() -> None:
    with pytest.raises(Broken) as caught:
        write_related(b"<root/>", {"doc@test": b"a\r\n--cut"}, boundary="cut")
    assert caught.value.code == "mime-own-boundary"


@pytest.mark.parametrize("cid", ["", "a b", "<a@b>", "root@poterne", "a\r\nX: y"])
def test_an_unusable_content_id_is_never_written(cid: str) -> None:
    with pytest.raises(Broken) as caught:
        write_related(b"<root/>", {cid: b""}, boundary="cut")
    assert caught.value.code == "mime-own-cid"


@given(
    root=st.binary(max_size=200),
    attachments=st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,8}@test", fullmatch=True), st.binary(max_size=200), max_size=8
    ),
)
@settings(max_examples=200, deadline=None)
def test_what_is_written_reads_back(root: bytes, attachments: dict[str, bytes]) -> None:
    related = read_related(*write_related(root, attachments, boundary="a-boundary-that-no-content-holds"))
    assert related.root.data == root
    assert {cid: part.data for cid, part in related.parts.items()} == attachments


@given(cut=st.integers(min_value=0, max_value=400), junk=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_t22_a_damaged_body_is_refused_or_read_but_never_breaks_the_reader(cut: int, junk: bytes) -> None:
    content_type, data = write_related(b"<root/>", {"doc@test": b"attachment" * 10}, boundary="cut")
    damaged = data[:cut] + junk + data[cut + len(junk) :]
    with contextlib.suppress(BadInput):
        read_related(content_type, damaged)
