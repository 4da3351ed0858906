"""Every event name that the source can write into the audit trail, read off the source itself.

A name is a literal ``word.word``, possibly with a formatted part, that reaches a parameter called ``event`` of a
function which ends in a record: ``AuditRecord`` itself, or one that hands its own ``event`` on. What goes through a
variable on its way is found by its first word, in the modules that make records.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOMS = ("security", "indexer", "gateway")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\.[a-z0-9*-]+")
_MAKERS = re.compile(r"AuditRecord|Reading\(|reads import")
_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def written(root: Path) -> dict[str, str]:
    """Event name (``*`` for a formatted part) → file and line of one place that writes it."""
    texts = {
        path.relative_to(root).as_posix(): path.read_text("utf-8")
        for room in ROOMS
        for path in sorted((root / room).rglob("*.py"))
        if "lab" not in path.parts and path.name != "vocabulary.py"
    }
    nodes = {name: list(ast.walk(ast.parse(text))) for name, text in texts.items() if '"' in text}
    takers: dict[str, set[int]] = {"AuditRecord": set()}
    for node in (one for found in nodes.values() for one in found if isinstance(one, _FUNCTION)):
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        if "event" in names:
            takers.setdefault(node.name, set()).add(names.index("event") - (names[0] in {"self", "cls"}))
        elif "event" in [a.arg for a in node.args.kwonlyargs]:
            takers.setdefault(node.name, set())
    found: dict[str, str] = {}
    for name, inside in nodes.items():
        assigned = dict(_assigned(inside))
        for node in inside:
            if isinstance(node, ast.Call) and _called(node) in takers:
                for value in _given(node, takers[_called(node)]):
                    for event in _literals(value, assigned):
                        if _NAME.fullmatch(event):
                            found.setdefault(event, f"{name}:{node.lineno}")
    beginnings = {event.partition(".")[0] for event in found}
    for name, inside in nodes.items():
        for node in inside if _MAKERS.search(texts[name]) else ():
            said = node.value if isinstance(node, ast.Constant) else None
            if isinstance(said, str) and _NAME.fullmatch(said) and said.partition(".")[0] in beginnings:
                found.setdefault(said, f"{name}:{node.lineno}")
    return found


def _assigned(nodes: list[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    for one in nodes:
        if isinstance(one, ast.Assign | ast.AnnAssign | ast.NamedExpr) and one.value is not None:
            for target in one.targets if isinstance(one, ast.Assign) else [one.target]:
                if isinstance(target, ast.Name):
                    yield target.id, one.value


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _given(node: ast.Call, places: set[int]) -> Iterator[ast.expr]:
    yield from (one.value for one in node.keywords if one.arg == "event")
    yield from (node.args[place] for place in places if len(node.args) > place)


def _literals(value: ast.expr, assigned: Mapping[str, ast.expr], *, depth: int = 3) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp():
            yield from _literals(value.body, assigned, depth=depth)
            yield from _literals(value.orelse, assigned, depth=depth)
        case ast.JoinedStr():
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in value.values)
        case ast.Name(id=name) if depth and name in assigned:
            yield from _literals(assigned[name], assigned, depth=depth - 1)
