"""The port every engine implements: transactions given as functions, durable when they return.

Invariants (conformance suite: tests/contract/test_store.py):

* ``write`` returns only after its work is on stable storage, or raises and leaves no trace of that work;
* works submitted together may share one commit, yet the failure of one leaves its neighbours whole;
* no network call and no waiting happens inside a transaction: a work is a plain function of a ``Tx``;
* a work changes nothing but its transaction: an engine may undo it and run it again;
* SQL is the subset that SQLite and PostgreSQL share: named parameters ``:name``, ``RETURNING``,
  ``ON CONFLICT``; stamps are integers in milliseconds since 1970 UTC; what differs stands in the numbered
  migrations of each engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Value = int | float | str | bytes | None
Row = Mapping[str, Any]
T = TypeVar("T")


class ReadTx(Protocol):
    """A consistent view of the data."""

    def rows(self, sql: str, /, **params: Value) -> list[Row]:
        """Every row of the answer, columns by name."""
        ...

    def row(self, sql: str, /, **params: Value) -> Row | None:
        """The only row, or None. Two rows are a programming error and raise ``Broken``."""
        ...


class Tx(ReadTx, Protocol):
    """A transaction that may change data."""

    def change(self, sql: str, /, **params: Value) -> int:
        """Run one statement; returns the number of rows it changed."""
        ...


class Store(Protocol):
    """A durable store. Works run off the event loop, one writer at a time."""

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a transaction; returns its result once the commit is durable.

        Raises:
            Fault: whatever ``work`` raised (its changes are undone).
            Unavailable: the same work may succeed later; nothing was kept, except for ``store-outcome-unknown``:
                it may have been, as after a crash at the commit.
            Broken: ``store-broken`` the engine failed to commit: nothing was acknowledged, and the store
                refuses further writes until it is reopened.
        """
        ...

    async def read(self, work: Callable[[ReadTx], T]) -> T:
        """Run ``work`` on a consistent view that never blocks the writer."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, then close. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of the house that owns tables: its numbered migrations live in ``package`` under
    ``migrations/<engine>/NNNN_name.sql``, forward only, applied in order, never edited once released."""

    name: str
    package: str


GROUND = Component(name="ground", package="security.store")
"""The tables of the ground floor itself; the first component of every database."""
