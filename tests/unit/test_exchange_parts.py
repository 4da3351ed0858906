"""A request is kept without what is stored already and without a credential, and comes back byte for byte."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.exchanges.parts import from_blob, join, split, to_blob
from security.errors import Broken

METADATA = b"<lcm:SubmitObjectsRequest>" + b"m" * 100 + b"</lcm:SubmitObjectsRequest>"
DOCUMENT = bytes(range(256)) * 8
STORED = {"manifest/1/metadata": METADATA, "manifest/1/document/urn:uuid:1": DOCUMENT}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([METADATA, DOCUMENT, base64.b64encode(DOCUMENT)]))),
)
def test_what_is_taken_apart_comes_together_again(runs: list[bytes]) -> None:
    data = b"".join(runs)
    parts = from_blob(to_blob(split(data, STORED)))
    assert join(parts, STORED) == data
    assert sum(part.length for part in parts) == len(data)


def test_what_is_stored_already_is_named_and_not_kept_again() -> None:
    data = b"head" + METADATA + b"between" + DOCUMENT + b"tail" + base64.b64encode(DOCUMENT)
    parts = split(data, STORED)
    assert [(part.kind, part.name) for part in parts] == [
        ("bytes", ""),
        ("stored", "manifest/1/metadata"),
        ("bytes", ""),
        ("stored", "manifest/1/document/urn:uuid:1"),
        ("bytes", ""),
        ("stored", "manifest/1/document/urn:uuid:1;base64"),
    ]
    assert parts[1].sha256 == hashlib.sha256(METADATA).hexdigest()
    assert len(to_blob(parts)) < 800


@pytest.mark.parametrize("credential", [b"short", b"<wsse:Security>" + b"s" * 200 + b"</wsse:Security>"])
def test_of_a_credential_only_length_and_digest_are_kept(credential: bytes) -> None:
    parts = split(b"<Header>" + credential + b"</Header>", STORED, credential)
    assert credential not in to_blob(parts)
    digest = hashlib.sha256(credential).hexdigest()
    note = f"<!-- withheld: credential, {len(credential)} bytes, SHA-256 {digest} -->"
    assert join(parts, STORED) == f"<Header>{note}</Header>".encode()


@pytest.mark.parametrize("stored", [{}, {**STORED, "manifest/1/metadata": METADATA + b"!"}])
def test_bytes_that_are_gone_or_changed_are_never_shown_as_what_was_sent(stored: dict[str, bytes]) -> None:
    with pytest.raises(Broken) as caught:
        join(split(METADATA, STORED), stored)
    assert caught.value.code == "exchange-broken"
