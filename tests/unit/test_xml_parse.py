"""The XML door refuses what hostile documents try (T20)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from security.errors import BadInput
from security.parse.xml import parse_xml

_SECRET = "contenu-secret-1961"


def _code(data: bytes, limit: int = 10 * 1024 * 1024) -> str:
    with pytest.raises(BadInput) as caught:
        parse_xml(data, what="CDA", limit=limit)
    assert _SECRET not in str(caught.value)
    return caught.value.code


def test_a_plain_document_is_read_with_its_namespace() -> None:
    root = parse_xml(
        "<?xml version='1.0' encoding='ISO-8859-1'?><a xmlns='urn:x'>é</a>".encode("latin-1"), what="CDA"
    )
    assert (root.tag, root.text) == ("{urn:x}a", "é")


def test_t20_billion_laughs_are_refused_quickly() -> None:
    entities = b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    started = time.monotonic()
    assert _code(b'<!DOCTYPE l [<!ENTITY a "lol">' + entities + b"]><l>&j;</l>") == "xml-doctype"
    assert time.monotonic() - started < 1


def test_t20_quadratic_blow_up_is_refused_in_text_and_in_attributes() -> None:
    doctype = b'<!DOCTYPE l [<!ENTITY a "' + b"x" * 50_000 + b'">]>'
    assert _code(doctype + b"<l>" + b"&a;" * 50_000 + b"</l>") == "xml-doctype"
    assert _code(doctype + b'<l v="' + b"&a;" * 50_000 + b'"/>') == "xml-doctype"


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE l [<!ENTITY x SYSTEM "file://{path}">]><l>&x;</l>',
        '<!DOCTYPE l [<!ENTITY % x SYSTEM "file://{path}"> %x;]><l/>',
        '<!DOCTYPE l SYSTEM "file://{path}"><l/>',
        '<!DOCTYPE l PUBLIC "-//X" "http://127.0.0.1:9/x.dtd"><l/>',
    ],
    ids=["external entity", "parameter entity", "external DTD", "remote DTD"],
)
def test_t20_external_references_are_refused_and_their_content_never_shown(document: str, tmp_path: Path) -> None:
    target = tmp_path / "secret.txt"
    target.write_text(_SECRET)
    assert _code(document.replace("{path}", str(target)).encode()) == "xml-doctype"


def test_t20_no_file_is_opened_for_an_external_entity(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"  # opening it would block for ever: only a parser that opens nothing returns
    import os

    os.mkfifo(fifo)
    assert _code(f'<!DOCTYPE l [<!ENTITY x SYSTEM "file://{fifo}">]><l>&x;</l>'.encode()) == "xml-doctype"


def test_t20_a_doctype_hidden_in_another_encoding_is_refused() -> None:
    assert _code('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE l><l/>'.encode("utf-16")) == "xml-doctype"


def test_t20_xinclude_is_refused_not_followed() -> None:
    document = b'<l xmlns:xi="http://www.w3.org/2001/XInclude">\n<xi:include href="file:///etc/hostname"/></l>'
    with pytest.raises(BadInput, match="line 2") as caught:
        parse_xml(document, what="CDA")
    assert caught.value.code == "xml-xinclude"


def test_t20_five_thousand_levels_are_refused_and_256_are_not() -> None:
    assert _code(b"<a>" * 5_000 + b"</a>" * 5_000) == "xml-limit"
    assert _code(b"<a>" * 257 + b"</a>" * 257) == "xml-limit"
    assert parse_xml(b"<a>" * 256 + b"</a>" * 256, what="CDA").tag == "a"


def test_t20_size_is_capped_before_parsing() -> None:
    assert _code(b"<a>" + b" " * 100 + b"</a>", limit=100) == "xml-too-large"


@pytest.mark.parametrize("data", [b"", b" \r\n"])
def test_nothing_is_called_empty(data: bytes) -> None:
    assert _code(data) == "xml-empty"


@pytest.mark.parametrize(
    "data",
    [
        b"<a><contenu-secret-1961></a>",
        b"<a>&contenu-secret-1961;</a>",
        b"<a>\x00</a>",
        b"<a>\xff</a>",
        b"<a/><b/>",
        b"<?xml version='1.0' encoding='zork'?><a/>",
        b"MSH|^~",
    ],
)
def test_a_malformed_document_is_refused_without_quoting_it(data: bytes) -> None:
    assert _code(data) == "xml-malformed"


def test_a_refusal_names_the_line_and_the_rule() -> None:
    with pytest.raises(BadInput, match="CDA: XML refused at line 3: ERR_TAG_NAME_MISMATCH"):
        parse_xml(b"<a>\n<b>\n</a>", what="CDA")


def test_t20_nobody_opens_what_an_external_entity_names(tmp_path) -> None:
    import os
    import threading

    fifo, met, over = tmp_path / "pipe", threading.Event(), threading.Event()
    os.mkfifo(fifo)

    def watch() -> None:  # a pipe can be opened for writing without waiting only while somebody reads it
        while not over.wait(0.005):
            try:
                os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                continue
            met.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        document = f'<!DOCTYPE l [<!ENTITY x SYSTEM "file://{fifo}">]><l>&x;</l>'.encode()
        assert _code(document) == "xml-doctype"
    finally:
        over.set()
        watcher.join()
    assert not met.is_set()
