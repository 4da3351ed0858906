"""A data set being read: its elements by DICOM keyword, where they stand, and what was found out of rule.

Invariants:

* a value is trimmed of every blank around it; what is no padding behind it is a deviation;
* the same departure at the same kind of place is one ``Deviation`` with its first place and a count, however many
  instances show it;
* a deviation quotes no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from indexer.reading import Deviation
from security.errors import BadInput
from security.identity import Uid
from security.parse.dicom import text

_INDEX = re.compile(r"\[[0-9]+\]")
_PADDED = re.compile(rb"(\S(.*\S)?)?[ \0]*", re.DOTALL)


@dataclass(slots=True)
class Findings:
    """The deviations of one document, in the order in which they were met."""

    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _times: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(self, rule: str, where: str, detail: str = "") -> None:
        """Note one departure; repeated ones are counted."""
        key = (rule, _INDEX.sub("", where), detail)
        self._first.setdefault(key, where)
        self._times[key] = self._times.get(key, 0) + 1

    def deviations(self) -> tuple[Deviation, ...]:
        """One for each kind of departure."""
        return tuple(
            Deviation(rule=key[0], where=where, detail=_counted(key[2], self._times[key]))
            for key, where in self._first.items()
        )


def _counted(detail: str, times: int) -> str:
    return detail if times == 1 else f"{detail}{' ' if detail else ''}({times} times)"


@dataclass(frozen=True, slots=True)
class Node:
    """A data set or an item. ``path``: where it stands, "" for the root; ``charset``: of its text."""

    data: Dataset
    path: str
    charset: tuple[str, ...]
    found: Findings

    def at(self, name: str) -> str:
        """The place of one element of this node."""
        return f"{self.path}/{name}" if self.path else name

    def has(self, name: str) -> bool:
        """Whether the element is there, empty or not."""
        return _tag(name) in self.data

    def text(self, name: str) -> str:
        """The value without the blanks around it, "" when absent or empty.

        Raises:
            BadInput: ``dicom-malformed`` a sequence stands where text belongs.
        """
        return self.text_at(_tag(name), name)

    def text_at(self, tag: int, name: str) -> str:
        """The same by tag, for an element that has no keyword."""
        if tag not in self.data:
            return ""
        value = text(self.data, tag, charset=self.charset)
        if not value.exact:
            self.found.add("kos-charset-exact", self.at(name))
        raw = self.data.get_item(tag)
        if raw is not None and isinstance(raw.value, bytes) and not _PADDED.fullmatch(raw.value):
            self.found.add("kos-blanks", self.at(name))
        return value.value.strip()

    def uid(self, name: str) -> Uid | None:
        """The unique identifier, None when absent or empty.

        Raises:
            BadInput: ``kos-uid`` it is none: an object that cannot be named cannot be listed.
        """
        value = self.text(name)
        if not value:
            return None
        try:
            return Uid(value)
        except BadInput as fault:
            raise refusal("kos-uid", f"{self.at(name)} is no unique identifier") from fault

    def items(self, name: str) -> Iterator[Node]:
        """The items of a sequence, none when it is absent."""
        tag = _tag(name)
        if tag not in self.data:
            return
        element = self.data[tag]
        if element.VR != "SQ":
            self.found.add("kos-place", self.at(name), "no sequence")
            return
        for place, data in enumerate(element.value or (), start=1):
            yield Node(data, f"{self.at(name)}[{place}]", self.charset, self.found)

    def item(self, name: str) -> Node | None:
        """The first item of a sequence."""
        return next(self.items(name), None)

    def note(self, rule: str, name: str = "", detail: str = "") -> None:
        """A departure at this node, or at one of its elements."""
        self.found.add(rule, self.at(name) if name else self.path, detail)


def refusal(rule: str, why: str) -> BadInput:
    """What cannot be taken for a sharing manifest; ``rule`` is an id of ``indexer.rules.kos``."""
    return BadInput(
        f"this document is no imaging manifest that can be read: {why}",
        code=rule,
        hint="the maker of the document must correct it; nothing of it was taken",
    )


@cache
def _tag(name: str) -> int:
    tag = tag_for_keyword(name)
    if tag is None:
        raise ValueError(f"{name} is no keyword of PS3.6")
    return tag
