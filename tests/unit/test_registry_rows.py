"""Design §6: every statement of the index node carries the patient key, or touches the locator alone."""

from __future__ import annotations

import re

import pytest

from indexer.registry import rows

STATEMENTS = {name: text for name, text in vars(rows).items() if name.isupper() and isinstance(text, str)}
TABLES = ("registry_object", "registry_association", "registry_document", "registry_locator")


def tables_of(sql: str) -> set[str]:
    return {t for t in TABLES if re.search(rf"\b{t}\b", sql)}


def carries_patient_key(sql: str) -> bool:
    """The key is a column written by an INSERT, or a condition that holds for the whole WHERE."""
    if sql.startswith("INSERT"):
        return "patient_key" in sql.partition("VALUES")[0] and ":patient_key" in sql.partition("VALUES")[2]
    where = sql.partition(" WHERE ")[2]
    while (bare := re.sub(r"\([^()]*\)", "", where)) != where:
        where = bare
    return "tenant = :tenant AND patient_key = :patient_key" in where and " OR " not in where


def test_there_are_statements_to_check():
    assert len(STATEMENTS) == 12


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_touches_one_table_and_carries_the_patient_key_unless_it_asks_the_locator(name):
    sql = STATEMENTS[name]
    tables = tables_of(sql)
    assert len(tables) == 1
    assert tables == {"registry_locator"} or carries_patient_key(sql)


def test_no_statement_is_made_of_values():
    assert not any(re.search(r"['\"%]|\{|\}", sql) for sql in STATEMENTS.values())


def test_the_check_itself_sees_what_it_must():
    assert not carries_patient_key("SELECT * FROM registry_object WHERE tenant = :tenant AND unique_id = :id")
    assert not carries_patient_key(
        "SELECT * FROM registry_object WHERE tenant = :tenant AND patient_key = :patient_key OR unique_id = :id"
    )
    assert not carries_patient_key("INSERT INTO registry_object (tenant, unique_id) VALUES (:tenant, :id)")
