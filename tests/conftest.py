"""Fixtures that every test may ask for."""

from __future__ import annotations

import pytest

from security.keys.signer import PemSigner
from security.xmlsig.verifying import Trust
from tests.support.postgres import postgres_place, postgres_server
from tests.support.signing import KINDS, Hand, Pair, pair

__all__ = ["postgres_place", "postgres_server"]


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """One pair of each kind, by name."""
    folder = tmp_path_factory.mktemp("signing")
    return {name: pair(folder, name, kind) for name, kind in KINDS.items()}


@pytest.fixture
def signer(signing_keys: dict[str, Pair]) -> PemSigner:
    return PemSigner(signing_keys["ours"].certificate, signing_keys["ours"].key, Hand())


@pytest.fixture
def trust(signer: PemSigner) -> Trust:
    return Trust(certificates=(signer.certificate,))
