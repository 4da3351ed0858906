"""What an auditor needs of an imaging order (HL7 v2 ORM^O01, OMI^O23, OMG^O19): who was asked what, why and when.

Nothing of the message passes but what is listed here: the requested procedure, reason and clinical information, the
urgency, questions and answers sent along, allergies and diagnoses, the day. The requester is a label.

Leaves to others: intake (``gateway.hl7``); the rules of text (``narrative``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sampler.pseudonym.identifiers import Identifiers, day_of
from sampler.pseudonym.keys import Pseudonyms
from sampler.texts.narrative import Narrative
from sampler.texts.persons import Labels, Person
from security.parse.hl7 import Message, Repetition, Segment

REQUESTER = "médecin demandeur"
_TEXTS = frozenset({"ST", "TX", "FT", "CE", "CWE", "NM", "SN", ""})
_NAMES = {"PID": (5, 6, 9), "NK1": (2,), "PD1": (4,), "GT1": (3,), "IN1": (16,)}
_NUMBERS = {
    "PID": (2, 3, 4, 13, 14, 18, 19),
    "PV1": (19, 50),
    "ORC": (2, 3, 4),
    "OBR": (2, 3, 18, 19, 20),
    "IPC": (1, 2),
}
_PLACES = {"PID": (11, 23), "NK1": (4, 5)}
_PROFESSIONALS = {"ORC": (10, 11, 12, 19), "OBR": (10, 16, 28, 32), "PV1": (7, 8, 9, 17), "PD1": (4,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A code and what it says (CWE.1 to 3)."""

    code: str
    meaning: str
    system: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One order as an auditor reads it. Texts went through the rules; ``requested_on`` is DT, moved."""

    control: str
    procedure: Coded
    reasons: tuple[str, ...]
    clinical: tuple[str, ...]
    urgency: str
    requested_on: str
    requester: str
    answers: tuple[tuple[str, str], ...] = field(default=())


def identifiers(message: Message) -> Identifiers:
    """Persons, numbers and places that the message names, to be looked for everywhere in the case."""
    names = [part for segment, one in _fields(message, _NAMES) for part in _xpn(segment, one)]
    names += [part for segment, one in _fields(message, _PROFESSIONALS) for part in _xcn(segment, one)]
    ids = [
        repetition.component(1) for segment, one in _fields(message, _NUMBERS) for repetition in segment.field(one)
    ]
    ids += [
        repetition.component(1)
        for segment, one in _fields(message, _PROFESSIONALS)
        for repetition in segment.field(one)
    ]
    for segment, one in _fields(message, _PLACES):
        ids += [repetition.component(part) for repetition in segment.field(one) for part in (1, 2, 3, 5)]
    born = [day for segment in message.segments("PID") if (day := day_of(segment.text(7))) is not None]
    return Identifiers.stated(names=filter(None, names), ids=filter(None, ids), days=born)


def requests(message: Message, pseudonyms: Pseudonyms, narrative: Narrative, labels: Labels) -> tuple[Request, ...]:
    """The orders of a message, in order; each has its own reasons and answers."""
    groups: list[list[Segment]] = []
    for segment in message.segments_in_order:
        if segment.name == "ORC":
            groups.append([])
        if groups:
            groups[-1].append(segment)
    return tuple(_request(group, pseudonyms, narrative, labels) for group in groups)


def _request(group: list[Segment], pseudonyms: Pseudonyms, narrative: Narrative, labels: Labels) -> Request:
    order = group[0]
    asked = next((segment for segment in group if segment.name == "OBR"), None)
    told = [segment for segment in group if segment.name == "NTE"]
    clinical = [asked.text(13)] if asked else []
    clinical += [text for segment in told for text in _texts(segment, 3)]
    clinical += [text for segment in group if segment.name == "DG1" for text in (segment.text(3, 2), segment.text(4))]
    clinical += [segment.text(3, 2) for segment in group if segment.name == "AL1"]
    when = order.text(9) or order.text(15) or (asked.text(6) if asked else "")
    return Request(
        control=order.text(1),
        procedure=_procedure(asked, narrative),
        reasons=_read([_said(one) for one in asked.field(31)] if asked else [], narrative),
        clinical=_read(clinical, narrative),
        urgency=narrative.redacted((asked.text(27, 6) if asked else "") or order.text(7, 6)),
        requested_on=pseudonyms.shifted_date_time(when) or "",
        requester=_requester(order, asked, labels),
        answers=tuple(_answers(group, pseudonyms, narrative)),
    )


def _procedure(asked: Segment | None, narrative: Narrative) -> Coded:
    if asked is None:
        return Coded(code="", meaning="", system="")
    code = asked.text(4, 1)
    return Coded(
        code="" if narrative.tells(code) else code,
        meaning=narrative.redacted(asked.text(4, 2)),
        system=narrative.redacted(asked.text(4, 3)),
    )


def _requester(order: Segment, asked: Segment | None, labels: Labels) -> str:
    for segment, one in ((order, 12), (asked, 16)):
        if segment is not None and segment.field(one):
            first = segment.field(one)[0]
            names = tuple(filter(None, (first.component(2), first.component(3))))
            if names or first.component(1):
                return labels.add(Person(role=REQUESTER, id=first.component(1), names=names))
    return ""


def _answers(group: list[Segment], pseudonyms: Pseudonyms, narrative: Narrative) -> Iterator[tuple[str, str]]:
    for segment in group:
        if segment.name != "OBX":
            continue
        question = narrative.redacted(segment.text(3, 2) or segment.text(3, 1))
        if segment.text(2) in {"DT", "TS", "DTM"}:
            yield question, pseudonyms.shifted_date_time(segment.text(5)) or "[date]"
        elif segment.text(2) in _TEXTS:
            yield question, narrative.redacted(" ".join(_said(one) for one in segment.field(5)))


def _said(repetition: Repetition) -> str:
    """What people read of a coded or plain value: its meaning, else its first part."""
    return repetition.component(2) or repetition.component(1)


def _read(texts: list[str], narrative: Narrative) -> tuple[str, ...]:
    return tuple(narrative.redacted(text) for text in dict.fromkeys(texts) if text.strip())


def _texts(segment: Segment, number: int) -> Iterator[str]:
    for repetition in segment.field(number):
        yield repetition.component(1)


def _fields(message: Message, wanted: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[Segment, int]]:
    for segment in message.segments_in_order:
        for number in wanted.get(segment.name, ()):
            yield segment, number


def _xpn(segment: Segment, number: int) -> Iterator[str]:
    """Family and given names (XPN.1 to 3)."""
    for repetition in segment.field(number):
        yield from (repetition.component(part) for part in (1, 2, 3))


def _xcn(segment: Segment, number: int) -> Iterator[str]:
    """Family and given names (XCN.2 to 4)."""
    for repetition in segment.field(number):
        yield from (repetition.component(part) for part in (2, 3, 4))
