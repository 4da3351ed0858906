"""What a Key Object Selection instance says, read from any form of its data set (PS3.16 TID 2010).

Invariants:

* a note is told whole or not at all: ``None`` for a title in a scheme whose OID is not known here, and for a
  reference that names no instance;
* the order of the references is that of the content tree.

How a data set is stored, and which instances are asked, is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from indexer.report import Coded
from indexer.study import KeyNote
from security.errors import BadInput
from security.identity import Uid

KEY_OBJECT_SELECTION = Uid("1.2.840.10008.5.1.4.1.1.88.59")  # Key Object Selection Document Storage
NOTES_MAX = 50
"""Key-image notes of one study that are read, in the order of their UIDs; the others are listed like any instance."""

_DCM = "1.2.840.10008.2.16.4"
_KEY_OBJECT_DESCRIPTION = "113012"


class Item(Protocol):
    """A data set, or an item of a sequence."""

    def text(self, keyword: str) -> str:
        """The value of an element, "" when absent."""

    def items(self, keyword: str) -> Sequence[Item]:
        """The items of a sequence, none when absent."""


def note(document: Item) -> KeyNote | None:
    """The title, description and references of a Key Object Selection document; None when they cannot be told."""
    title = next(iter(document.items("ConceptNameCodeSequence")), None)
    if title is None or title.text("CodingSchemeDesignator") != "DCM" or not title.text("CodeValue"):
        return None
    content = list(_content(document))
    try:
        references = tuple(
            Uid(reference.text("ReferencedSOPInstanceUID"))
            for item in content
            for reference in item.items("ReferencedSOPSequence")
        )
    except BadInput:
        return None
    return KeyNote(
        title=Coded(code=title.text("CodeValue"), system=_DCM, display=title.text("CodeMeaning")),
        description=next((item.text("TextValue") for item in content if _describes(item)), ""),
        references=references,
    )


def _content(document: Item) -> Iterator[Item]:
    """The content items, those of nested containers in their place; the parsers bound the depth."""
    for item in document.items("ContentSequence"):
        yield item
        yield from _content(item)


def _describes(item: Item) -> bool:
    return any(
        (name.text("CodeValue"), name.text("CodingSchemeDesignator")) == (_KEY_OBJECT_DESCRIPTION, "DCM")
        for name in item.items("ConceptNameCodeSequence")
    )
