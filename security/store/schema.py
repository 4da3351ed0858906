"""Numbered migrations as files of a package, read and judged before any engine applies them.

Invariants:

* a component's migrations are ``migrations/<engine>/NNNN_name.sql``, numbered 1, 2, 3… without a gap;
* whatever a database has applied must be known to this programme, file by file, byte for byte (F21): an edited,
  an unknown or a newer migration is refused, never guessed at.

Applying them is left to the engine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from security.errors import Broken
from security.store.port import Component

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered step of one component. ``sha256``: lower-case hex of the file."""

    component: str
    number: int
    name: str
    sql: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.component}/{self.number:04d}_{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What the database says it has applied."""

    component: str
    number: int
    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.component}/{self.number:04d}_{self.name}"


def known_migrations(components: Sequence[Component], engine: str) -> list[Migration]:
    """Every migration of the components, in the order in which a fresh database takes them.

    Raises:
        Broken: ``store-migrations`` a file has no number, or a number is missing or double.
    """
    return [migration for component in components for migration in _of(component, engine)]


def pending(known: Sequence[Migration], applied: Iterable[Applied]) -> list[Migration]:
    """The migrations the database still needs, in order.

    Raises:
        Broken: ``store-edited`` an applied migration is not the file we have; ``store-newer`` the database has
            one we do not know.
    """
    by_key: Mapping[tuple[str, int], Migration] = {(m.component, m.number): m for m in known}
    done: set[tuple[str, int]] = set()
    for step in applied:
        ours = by_key.get((step.component, step.number))
        if ours is None:
            raise Broken(
                f"the database has the migration {step}, which this programme does not know",
                code="store-newer",
                hint="start the version that made it, or a newer one; there is no way back except a restore",
            )
        if ours.sha256 != step.sha256:
            raise Broken(
                f"the migration {step} was applied with another content than the file {ours} has now",
                code="store-edited",
                hint="reinstall the released package; a migration is never edited, a new one is added",
            )
        done.add((step.component, step.number))
    return [m for m in known if (m.component, m.number) not in done]


def _of(component: Component, engine: str) -> list[Migration]:
    folder = resources.files(component.package) / "migrations" / engine
    found: list[Migration] = []
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(file.name)
        if match is None or int(match[1]) != len(found) + 1:
            raise Broken(
                f"component {component.name}: expected migration {len(found) + 1:04d}_name.sql, found {file.name}",
                code="store-migrations",
                hint="the package is incomplete or altered: reinstall it",
            )
        data = file.read_bytes()
        found.append(
            Migration(
                component=component.name,
                number=int(match[1]),
                name=match[2],
                sql=data.decode(),
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
    return found
