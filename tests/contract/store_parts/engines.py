"""The engines the conformance suite runs against. A new engine is one more class in ``ENGINES``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import pytest

from security.store.opening import StorePlace, open_store
from security.store.place import PostgresPlace
from security.store.port import GROUND, Component, Store
from tests.contract.store_parts import NOTES


class Engine(Protocol):
    """A kind of database, and one such database of a test's own.

    ``keeps_nul``: whether a text may hold NUL; an engine that cannot keep it refuses it.
    """

    name: str
    keeps_nul: bool
    place: StorePlace

    async def open(self, *, read_only: bool = False, components: Sequence[Component] = (GROUND, NOTES)) -> Store: ...

    def told(self) -> str:
        """The place as an argument of a command."""
        ...


class _Opening:
    place: StorePlace

    async def open(self, *, read_only: bool = False, components: Sequence[Component] = (GROUND, NOTES)) -> Store:
        return await open_store(self.place, components, read_only=read_only)


class SqliteEngine(_Opening):
    """One SQLite database in a directory of the test's own."""

    name = "sqlite"
    keeps_nul = True

    def __init__(self, told: str) -> None:
        self.place = Path(told)

    @classmethod
    def fresh(cls, request: pytest.FixtureRequest) -> SqliteEngine:
        return cls(str(request.getfixturevalue("tmp_path") / "store.sqlite"))

    def told(self) -> str:
        return str(self.place)


class PostgresEngine(_Opening):
    """One schema of the session's PostgreSQL server."""

    name = "postgres"
    keeps_nul = False

    def __init__(self, told: str) -> None:
        self.place = PostgresPlace(**json.loads(told))

    @classmethod
    def fresh(cls, request: pytest.FixtureRequest) -> PostgresEngine:
        return cls(_told(request.getfixturevalue("postgres_place")))

    def told(self) -> str:
        return _told(self.place)


def _told(place: PostgresPlace) -> str:
    return json.dumps({name: value for name, value in asdict(place).items() if value})


ENGINES: dict[str, Any] = {engine.name: engine for engine in (SqliteEngine, PostgresEngine)}

BOTH = [pytest.param("postgres", marks=pytest.mark.postgres), "sqlite"]
"""For ``parametrize`` and ``fixture(params=…)``."""


def fresh(name: str, request: pytest.FixtureRequest) -> Engine:
    """A database that nobody has opened yet."""
    engine: Engine = ENGINES[name].fresh(request)
    return engine
