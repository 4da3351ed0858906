"""A component with two tables, for the tests of the store, and the program that is killed while it writes."""

from __future__ import annotations

from security.store.port import Component, ReadTx, Tx

NOTES = Component(name="notes", package="tests.contract.store_parts")


def add_note(tx: Tx, number: int) -> int:
    """One work of two rows that belong together."""
    tx.change("INSERT INTO note (number, tenant, body) VALUES (:n, 'st-luc', :body)", n=number, body=f"note {number}")
    tx.change("INSERT INTO echo (number, tenant) VALUES (:n, 'st-luc')", n=number)
    return number


def notes(tx: ReadTx) -> list[int]:
    return [row["number"] for row in tx.rows("SELECT number FROM note ORDER BY number")]


def echoes(tx: ReadTx) -> list[int]:
    return [row["number"] for row in tx.rows("SELECT number FROM echo ORDER BY number")]
