"""The list of planted defects fits the code it speaks of; a few of them are planted for real."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace

import pytest

from tests.mutants.__main__ import report
from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.planting import CHECKOUT, planted, try_defect

BY_NAME = {defect.name: defect for defect in DEFECTS}


def source(defect: Defect) -> str:
    return (CHECKOUT / defect.file).read_text(encoding="utf-8")


def functions(file: str) -> set[str]:
    tree = ast.parse((CHECKOUT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_name_is_used_once_and_each_kind_of_guard_has_its_defects() -> None:
    assert len(BY_NAME) == len(DEFECTS)
    guarded = Counter(defect.guards for defect in DEFECTS)
    assert {guard: count >= 10 for guard, count in guarded.items()} == {
        "identity": True,
        "loss": True,
        "access": True,
    }


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_defect_replaces_stands_once_in_its_file_and_the_result_is_python(name: str) -> None:
    defect = BY_NAME[name]
    before = source(defect)
    assert before.count(defect.old) == 1, f"{defect.file} has changed: look at the guard and move the defect"
    after = planted(before, defect)
    assert ast.dump(ast.parse(after)) != ast.dump(ast.parse(before)), "it changes nothing"


@pytest.mark.parametrize("name", BY_NAME)
def test_the_tests_of_a_defect_exist(name: str) -> None:
    tests = BY_NAME[name].tests
    assert tests
    for test in tests:
        file, _, function = test.partition("::")
        assert function in functions(file), test


def test_a_text_that_stands_elsewhere_is_not_planted() -> None:
    defect = BY_NAME["ins-status-ignored"]
    with pytest.raises(ValueError, match="found 0 times"):
        planted("nothing of the kind", defect)


def test_two_planted_defects_are_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([BY_NAME["ins-status-ignored"], BY_NAME["failed-work-not-undone"]], jobs=2) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 passed, 0 failed in ")


def test_a_harmless_edit_survives_and_a_broken_import_proves_nothing() -> None:
    guard = BY_NAME["ins-status-ignored"]
    harmless = try_defect(replace(guard, new='if ins.status not in {"VALI"}:'))
    assert harmless.is_green
    assert not harmless.is_red
    broken = try_defect(replace(guard, old="import re\n", new="import re_that_is_not_there\n"))
    assert (broken.is_green, broken.is_red) == (False, False)
