"""What an ORM^O01 or OMI^O23 says about imaging orders (HL7 chapter 4, IHE RAD-3 and RAD-4, drim-m §2).

One order control group (ORC, OBR and what follows them) is one order per requested procedure it names: per IPC of an
OMI, one when there is none. ORM^O01 names its study in ZDS-1 and its accession number in OBR-18.

Invariants:

* every number is read from ORC first, then OBR; IPC is believed before both about accession number and study;
* an order without any number and any study could never be found again: it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from gateway.hl7.reading import Reading, professional
from indexer.orders import CONTROLS, ImagingOrder, Number
from indexer.report import Coded, Professional
from security.errors import BadInput
from security.identity import PatientIdentity, Uid
from security.parse.hl7 import Message, Problem, Segment

VERSIONS = frozenset({"2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6"})
ORDERS_MAX = 64
_TEXTS = frozenset({"ST", "TX", "FT", "CE", "CWE", ""})  # OBX-2 of values that are text
_EXAM_CHANGE = "Modification Examen Imagerie"  # OBX-3, in component 1 or 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMessage:
    """One order message, read: what it states about each order, and the patient of PID."""

    patient: PatientIdentity
    orders: tuple[ImagingOrder, ...]


def read_order_message(message: Message, *, timezone: tzinfo, received_at: datetime) -> OrderMessage:
    """The orders of an ORM^O01 or OMI^O23. ``received_at`` stands for a time that the message does not state, or
    states in the future.

    Raises:
        MessageRefused: with every reason.
    """
    reading = _OrderReading(message, timezone, versions=VERSIONS)
    patient = reading.patient()
    said_at = reading.moment(message.header, 7) or received_at
    orders = tuple(reading.orders(at=min(said_at, received_at)))
    if not message.segments("ORC"):
        reading.missing("ORC", "the order control of each order")
    if len(orders) > ORDERS_MAX:
        reading.problems.append(
            Problem(code="too-many", text=f"Orders: expected at most {ORDERS_MAX} in one message", segment="ORC")
        )
    return reading.whole(OrderMessage(patient=patient, orders=orders))


class _OrderReading(Reading):
    """An order message under reading."""

    def orders(self, *, at: datetime) -> Iterator[ImagingOrder]:
        """Every order, in the order of the message."""
        for group in _groups(self.message):
            order = self._order(_Group(group), at)
            if order is not None:
                yield from self._procedures(_Group(group), order)

    def _order(self, group: _Group, at: datetime) -> ImagingOrder | None:
        """What ORC and OBR say; None when the order control says nothing."""
        orc, control = group.orc, group.orc.text(1)
        if control not in CONTROLS:
            code = "unknown-value" if control else "missing-field"
            self.add(
                orc, 1, code, "Order control: expected a code of table 0119 for an order, e.g. NW, CA, OC, UA, RP"
            )
            return None
        return ImagingOrder(
            control=control,
            at=at,
            state=orc.text(5),
            placer=group.number(2),
            filler=group.number(3),
            parent=_number(orc, 8),
            procedure=group.procedure(),
            modality=group.text("OBR", 24),
            priority=group.priority(),
            clinical=tuple(group.clinical()),
            requester=group.person(("OBR", 16), ("ORC", 12)),
            decider=group.person(("ORC", 19), ("ORC", 11), ("ORC", 10)),
            decision=tuple(group.decision()),
            is_exam_change=group.is_exam_change(),
        )

    def _procedures(self, group: _Group, order: ImagingOrder) -> Iterator[ImagingOrder]:
        """The order, once per requested procedure."""
        procedures = group.all("IPC")
        for ipc in procedures:
            made = replace(
                order,
                accession=_number(ipc, 1),
                requested_procedure_id=ipc.text(2),
                study=self._study(ipc, 3),
                modality=ipc.text(5) or order.modality,
            )
            yield self._findable(made, ipc)
        if not procedures:
            obr, zds = group.first("OBR"), group.first("ZDS")
            made = replace(
                order,
                accession=_number(obr, 18) if obr is not None else Number(),
                study=self._study(zds, 1) if zds is not None else None,
            )
            yield self._findable(made, group.orc)

    def _findable(self, order: ImagingOrder, place: Segment) -> ImagingOrder:
        if not (order.placer.value or order.filler.value or order.accession.value or order.study):
            text = "Order: expected a placer, filler or accession number, or the study"
            self.add(place, 0, "no-order-number", text)
        return order

    def _study(self, segment: Segment, field: int) -> Uid | None:
        text = segment.text(field)
        try:
            return Uid(text) if text else None
        except BadInput:
            self.add(segment, field, "bad-study-uid", "Study instance UID: expected a DICOM Study Instance UID")
            return None


class _Group:
    """One order control group: ORC and everything up to the next."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self.orc = segments[0]

    def all(self, name: str) -> list[Segment]:
        return [segment for segment in self._segments if segment.name == name]

    def first(self, name: str) -> Segment | None:
        return next(iter(self.all(name)), None)

    def text(self, name: str, field: int, component: int = 1) -> str:
        segment = self.first(name)
        return segment.text(field, component) if segment is not None else ""

    def number(self, field: int) -> Number:
        """The placer (2) or filler (3) number, which ORC and OBR both have."""
        obr = self.first("OBR")
        stated = _number(self.orc, field)
        return stated if stated.value or obr is None else _number(obr, field)

    def procedure(self) -> Coded | None:
        """OBR-4, universal service identifier."""
        code, display, system = (self.text("OBR", 4, number) for number in (1, 2, 3))
        return Coded(code=code, system=system, display=display) if code or display else None

    def priority(self) -> str:
        """TQ1-9 since 2.5; before, component 6 of ORC-7 and OBR-27; OBR-5 of old."""
        places = (("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1))
        return next((text for place in places if (text := self.text(*place))), "")

    def person(self, *places: tuple[str, int]) -> Professional | None:
        """The first XCN with an identifier or a name."""
        for name, field in places:
            segment = self.first(name)
            for xcn in segment.field(field) if segment is not None else ():
                if xcn.component(1) or xcn.component(2):
                    return professional(xcn)
        return None

    def clinical(self) -> Iterator[str]:
        """Why the exam is asked for: OBR-13, OBR-31, the text of OBX and of notes behind OBR."""
        obr = self.first("OBR")
        if obr is not None:
            yield from filter(None, [obr.text(13)])
            yield from filter(None, (reason.component(2) or reason.component(1) for reason in obr.field(31)))
        yield from self._notes(after_obr=True)
        for obx in self.all("OBX"):
            if obx.text(2) in _TEXTS:
                yield from filter(None, (value.component(2) or value.component(1) for value in obx.field(5)))

    def decision(self) -> Iterator[str]:
        """Why the order stands as it does: ORC-16, and the notes before OBR, which are about the order itself."""
        yield from filter(None, [self.orc.text(16, 2) or self.orc.text(16)])
        yield from self._notes(after_obr=False)

    def is_exam_change(self) -> bool:
        """Whether the message tells that the exam itself was modified in the RIS."""
        return any(_EXAM_CHANGE in (obx.text(3), obx.text(3, 2)) for obx in self.all("OBX"))

    def _notes(self, *, after_obr: bool) -> Iterator[str]:
        seen_obr = False
        for segment in self._segments:
            seen_obr = seen_obr or segment.name == "OBR"
            if segment.name == "NTE" and seen_obr is after_obr:
                yield from filter(None, (comment.component(1) for comment in segment.field(3)))


def _groups(message: Message) -> Iterator[list[Segment]]:
    """The segments of each order control group."""
    group: list[Segment] = []
    for segment in message.segments_in_order:
        if segment.name == "ORC":
            if group:
                yield group
            group = [segment]
        elif group:
            group.append(segment)
    if group:
        yield group


def _number(segment: Segment, field: int) -> Number:
    """An EI: 1 the number, 3 the OID that gave it, else 2 its name."""
    return Number(value=segment.text(field), issuer=segment.text(field, 3) or segment.text(field, 2))
