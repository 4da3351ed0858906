"""The engines the conformance suite runs against. A new engine is one more class in ``ENGINES``."""

from __future__ import annotations

from pathlib import Path

from security.store.port import Store
from security.store.sqlite import GROUND, SqliteStore
from tests.contract.store_parts import NOTES


class SqliteEngine:
    """One SQLite database in a directory of the test's own."""

    name = "sqlite"

    def __init__(self, place: str) -> None:
        self.place = place

    @classmethod
    def fresh(cls, folder: Path) -> SqliteEngine:
        return cls(str(folder / "store.sqlite"))

    async def open(self, *, read_only: bool = False) -> Store:
        return await SqliteStore.open(Path(self.place), [GROUND, NOTES], read_only=read_only)


ENGINES = {engine.name: engine for engine in (SqliteEngine,)}
