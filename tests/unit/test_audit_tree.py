"""The tree over the audit trail, against the definition of RFC 6962 and the vectors of its reference implementation."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from security.audit.tree import (
    Frontier,
    consistency_path,
    extends,
    includes,
    inclusion_path,
    node,
    root_of,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
INPUTS = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""The inputs and roots of the Certificate Transparency reference tree."""
LEAVES = [hashlib.sha256(b"\x00" + bytes.fromhex(one)).digest() for one in INPUTS]


def plain_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return node(plain_root(leaves[:half]), plain_root(leaves[half:]))


def numbered(many: int) -> list[bytes]:
    return [hashlib.sha256(b"\x00%d" % number).digest() for number in range(many)]


def test_the_roots_are_those_of_the_reference_tree() -> None:
    assert root_of([]).hex() == EMPTY
    assert [root_of(LEAVES[: many + 1]).hex() for many in range(8)] == list(ROOTS)


@given(st.integers(0, 200))
def test_a_tree_that_grows_has_the_root_of_the_definition(many: int) -> None:
    assert root_of(numbered(many)) == plain_root(numbered(many))


@given(st.integers(1, 150), st.data())
def test_every_leaf_is_proved_and_no_other(many: int, data: st.DataObject) -> None:
    leaves = numbered(many)
    index = data.draw(st.integers(0, many - 1))
    path, root = inclusion_path(leaves, index), plain_root(leaves)
    assert includes(root=root, size=many, leaf=leaves[index], index=index, path=path)
    other = hashlib.sha256(b"another").digest()
    assert not includes(root=root, size=many, leaf=other, index=index, path=path)
    assert not includes(root=root, size=many, leaf=leaves[index], index=index, path=[*path, other])
    if path:
        assert not includes(root=root, size=many, leaf=leaves[index], index=index, path=path[:-1])


@given(st.integers(1, 150), st.data())
def test_a_newer_tree_is_proved_to_begin_with_an_older_one(many: int, data: st.DataObject) -> None:
    leaves = numbered(many)
    older = data.draw(st.integers(1, many))
    path = consistency_path(leaves, older)
    ours = (older, plain_root(leaves[:older]))
    assert extends(older=ours, newer=(many, plain_root(leaves)), path=path)
    forged = hashlib.sha256(b"forged").digest()
    assert not extends(older=(older, forged), newer=(many, plain_root(leaves)), path=path)
    assert not extends(older=ours, newer=(many, forged), path=path)


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_frontier_that_was_stored_goes_on_as_if_it_had_not_been(before: int, after: int) -> None:
    leaves, grown = numbered(before + after), Frontier()
    for leaf in leaves[:before]:
        grown.add(leaf)
    again = Frontier.of(grown.size, grown.packed())
    for leaf in leaves[before:]:
        again.add(leaf)
    assert again.root() == plain_root(leaves)


def test_peaks_that_are_not_those_of_the_size_are_refused() -> None:
    with pytest.raises(ValueError, match="not the peaks of 3 leaves"):
        Frontier.of(3, b"\x00" * 32)


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError, match="no leaf"):
        inclusion_path(numbered(3), index)


@pytest.mark.parametrize("older", [0, 4])
def test_there_is_no_proof_of_a_tree_that_never_was(older: int) -> None:
    with pytest.raises(IndexError, match="no tree"):
        consistency_path(numbered(3), older)
