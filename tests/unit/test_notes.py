"""What a key-image note says, and what is concluded when a PACS does not tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway.pacs import door
from gateway.pacs.door import Inconclusive
from indexer.notes import Item, note
from indexer.report import Coded
from indexer.study import KeyNote
from security.errors import BadInput

KOS = "1.2.840.10008.5.1.4.1.1.88.59"
CT = "1.2.840.10008.5.1.4.1.1.2"
DCM = "1.2.840.10008.2.16.4"


@dataclass
class Node:
    """A data set by hand."""

    values: dict[str, str] = field(default_factory=dict)
    sequences: dict[str, list[Node]] = field(default_factory=dict)

    def text(self, keyword: str) -> str:
        return self.values.get(keyword, "")

    def items(self, keyword: str) -> Sequence[Node]:
        return self.sequences.get(keyword, [])


def concept(code: str, meaning: str = "", scheme: str = "DCM") -> dict[str, list[Node]]:
    values = {"CodeValue": code, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}
    return {"ConceptNameCodeSequence": [Node(values)]}


def image(*uids: str) -> Node:
    return Node(sequences={"ReferencedSOPSequence": [Node({"ReferencedSOPInstanceUID": uid}) for uid in uids]})


def document(*content: Node, title: tuple[str, str, str] = ("113004", "For Teaching", "DCM")) -> Node:
    code, meaning, scheme = title
    return Node(sequences={**concept(code, meaning, scheme), "ContentSequence": list(content)})


def test_a_note_tells_title_description_and_references_in_the_order_of_its_tree():
    container = Node(sequences={"ContentSequence": [image("1.2.4")]})
    words = Node({"TextValue": "Voir la base droite"}, concept("113012"))
    observer = Node({"TextValue": "somebody"}, concept("121008"))

    told = note(document(image("1.2.9"), observer, container, words, image("1.2.3")))

    assert told == KeyNote(
        title=Coded(code="113004", system=DCM, display="For Teaching"),
        description="Voir la base droite",
        references=("1.2.9", "1.2.4", "1.2.3"),
    )


@pytest.mark.parametrize(
    "document",
    [
        Node(),
        document(title=("113000", "Of Interest", "99SITE")),
        document(title=("", "Of Interest", "DCM")),
        document(image("1.2.3"), image("")),
        document(image("1.02.3")),
    ],
    ids=["no title", "private title", "title without code", "reference to nothing", "reference that is no UID"],
)
def test_what_cannot_be_told_whole_is_not_told(document: Node):
    assert note(document) is None


def notes_when(refusal: Exception) -> dict[str, KeyNote]:
    def ask(_key: str) -> Item:
        raise refusal

    return door.notes({"1.2.1": KOS}, ask)


@pytest.mark.parametrize(
    "reason", ["timeout", "unreachable", "http-500", "http-502", "http-503", "http-504", "http-429", "http-408"]
)
def test_a_note_that_may_be_told_later_leaves_no_answer_now(reason: str):
    with pytest.raises(Inconclusive) as raised:
        notes_when(Inconclusive(reason, "it broke"))
    assert raised.value.reason == reason


@pytest.mark.parametrize(
    "reason",
    [
        "changing",
        "unauthorised",
        "http-400",
        "http-406",
        "http-501",
        "too-large",
        "bad-answer",
        "undecodable-identity",
    ],
)
def test_a_peer_that_does_not_tell_notes_is_asked_nothing_more_of_it(reason: str):
    assert notes_when(Inconclusive(reason, "no such service")) == {}
    assert notes_when(BadInput("no JSON", code="json-syntax")) == {}


def test_only_notes_are_asked_and_no_more_than_fifty_of_them_always_the_same():
    asked: list[str] = []

    def ask(key: str) -> Item:
        asked.append(key)
        return document()

    classes = {f"1.2.{number}": KOS for number in range(160, 100, -1)} | {"1.2.99": CT}
    told = door.notes(classes, ask)

    assert asked == list(told) == [f"1.2.{number}" for number in range(101, 151)]
