"""One door to both engines: what kind of place it is decides which one opens it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from security.store.place import PostgresPlace
from security.store.port import Component, Store
from security.store.sqlite import SqliteStore

StorePlace = Path | PostgresPlace
"""A SQLite file, or a schema of a PostgreSQL database."""


async def open_store(place: StorePlace, components: Sequence[Component], *, read_only: bool = False) -> Store:
    """Open, check and, for the writer, migrate the database at ``place``.

    Raises:
        Fault: as ``SqliteStore.open`` and ``PostgresStore.open`` say.
    """
    if isinstance(place, Path):
        return await SqliteStore.open(place, components, read_only=read_only)
    from security.store.postgres import PostgresStore  # noqa: PLC0415 - the driver loads where there is a server

    return await PostgresStore.open(place, components, read_only=read_only)
