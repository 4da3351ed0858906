"""Who is named in a report's header, and what each is called in the case instead.

A person is told from another by identifier, else by name. The label says the role and a number (``médecin
réalisateur 1``), the same wherever the person stands, so that a reader can still see who did what.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sampler.pseudonym.identifiers import fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One mention. ``role``: French, as it will be shown; ``id``: of the professionals' directory, or ""."""

    role: str
    id: str = field(default="", repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def key(self) -> str:
        return self.id or " ".join(sorted(_parts(self.names)))


class Labels:
    """The labels of the persons of one case. The first mention of a person gives the role."""

    def __init__(self, persons: Iterable[Person] = ()) -> None:
        self._labels: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._parts: dict[str, set[str]] = {}
        for person in persons:
            self.add(person)

    def add(self, person: Person) -> str:
        """The label of a person, made when there is none yet."""
        if person.key not in self._labels:
            number = self._numbers[person.role] = self._numbers.get(person.role, 0) + 1
            self._labels[person.key] = f"{person.role} {number}"
        label = self._labels[person.key]
        for part in _parts(person.names):
            self._parts.setdefault(part, set()).add(label)
        return label

    def by_name(self) -> Mapping[str, str]:
        """Folded name part → label, for parts that belong to one person alone."""
        return {part: next(iter(labels)) for part, labels in self._parts.items() if len(labels) == 1}

    def left_out_of(self, text: str) -> str:
        """The text without these labels: they are our own words, whatever somebody is called."""
        for label in sorted(self._labels.values(), key=len, reverse=True):
            text = text.replace(label, " ")
        return text


def _parts(names: Iterable[str]) -> list[str]:
    return [part for name in names for part in re.findall(r"[^\W_]+", fold(name))]
