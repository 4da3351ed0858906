"""The authority of the lab and the tests. Every name it writes says so; trust it nowhere else."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Self

from security.keys.authority import CLIENT_AUTH, SERVER_AUTH, Authority, PemPair

ORGANIZATION = "Poterne lab - NOT FOR PRODUCTION"
__all__ = ["CLIENT_AUTH", "ORGANIZATION", "SERVER_AUTH", "LabAuthority", "PemPair"]


class LabAuthority(Authority):
    """An authority whose own key lives only in this object: ``ca.pem`` and ``ca.crl`` in its folder."""

    @classmethod
    def create(  # type: ignore[override]  # what the lab's is called is not its caller's choice
        cls, folder: Path, *, now: datetime
    ) -> Self:
        """A new authority, valid from an hour before ``now`` for ten years.

        Raises:
            Refused: ``authority-exists`` the folder holds one already.
        """
        return super().create(folder, now=now, name="Poterne lab CA", organization=ORGANIZATION, keep_key=False)
