"""Fixtures that every test may ask for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings
from pynetdicom.transport import AssociationSocket

from security.keys.signer import PemSigner
from security.xmlsig.verifying import Trust
from tests.support.postgres import postgres_place, postgres_server
from tests.support.signing import KINDS, Hand, Pair, pair

settings.register_profile("house", deadline=None)  # laws are no timed tests: a loaded machine breaks none
settings.load_profile("house")

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


@pytest.fixture(scope="session", autouse=True)
def _a_pynetdicom_peer_closes_its_sockets() -> Iterator[None]:
    """pynetdicom 3.0.4 keeps the descriptor when its peer closed first, and an unrelated test fails for it later. Our
    own adapter has its own way (``gateway.pacs.dimse``) and is not touched by this."""

    def shut(self: AssociationSocket) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", shut)
        yield
