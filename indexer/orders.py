"""Imaging orders as the RIS states them: what was requested, and what became of it.

Nothing is published from an order. The peer audit reads them: a frame of performed exams cannot see requests that
were refused, cancelled or substituted.

Invariants:

* every message about an order is one dated row; the order's status is derived from its rows, never stored;
* two messages speak of one order only if they share a number or the study, name the same patient, and nothing that
  both state differs: senders are known that give every order the same placer number;
* an order for another person than the reports of its study changes nothing there: it is noted as a warning, and its
  cancellation is no reason to look at the exam;
* names, numbers and reasons are sealed; equality look-ups go by blind index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from indexer.decision import Arrival
from indexer.gate import Conflict
from indexer.ledger import Ledger
from indexer.report import Coded, Professional
from security.clock import from_ms, to_ms
from security.identity import PatientIdentity, Uid
from security.store.port import ReadTx, Row, Tx


class OrderStatus(StrEnum):
    """What became of a request, for people and for the peer audit."""

    REQUESTED = "requested"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    SUBSTITUTED = "substituted"
    CANCELLED = "cancelled"


CONTROLS: dict[str, OrderStatus | None] = {  # ORC-1, table 0119; None: the status stays what it was
    "NW": OrderStatus.REQUESTED,
    "RO": OrderStatus.REQUESTED,
    "OK": OrderStatus.ACCEPTED,
    "UA": OrderStatus.REFUSED,
    "OD": OrderStatus.REFUSED,
    "CA": OrderStatus.CANCELLED,
    "OC": OrderStatus.CANCELLED,
    "CR": OrderStatus.CANCELLED,
    "DC": OrderStatus.CANCELLED,
    "DR": OrderStatus.CANCELLED,
    "RP": OrderStatus.SUBSTITUTED,
    "RU": OrderStatus.SUBSTITUTED,
    "RQ": OrderStatus.SUBSTITUTED,
    **dict.fromkeys(
        (
            *("SC", "SN", "NA", "SS", "SR", "XO", "XX", "XR", "HD", "OH", "HR", "RL", "OE", "OR", "PA", "CH"),
            *("UC", "UD", "UM", "UX", "UH", "UR"),
        )
    ),
}
_STATES: dict[str, OrderStatus] = {  # ORC-5, table 0038: what SC, "status changed", tells
    "A": OrderStatus.ACCEPTED,
    "IP": OrderStatus.ACCEPTED,
    "SC": OrderStatus.ACCEPTED,
    "CM": OrderStatus.ACCEPTED,
    "CA": OrderStatus.CANCELLED,
    "DC": OrderStatus.CANCELLED,
    "RP": OrderStatus.SUBSTITUTED,
}
_DENIES = {"UC": frozenset({"CA"}), "UD": frozenset({"DC"}), "UM": frozenset({"RP"})}
"""Answers of table 0119 that a request could not be granted: it is as if it had not been made."""
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """An entity identifier. ``issuer``: OID or namespace, "" if not stated."""

    value: str = field(default="", repr=False)
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagingOrder:
    """What one message states about one requested procedure.

    ``control``: ORC-1, one of ``CONTROLS``. ``state``: ORC-5. ``priority``: as sent (table 0485). ``clinical``: the
    reasons given for the exam. ``requester`` asks for it; ``decider`` and ``decision`` are who answered the request
    and why. ``parent``: ORC-8. ``at``: when the sender said so. ``is_exam_change``: the exam itself was modified in
    the RIS (drim-m §2). "" and None stand for what is not stated.
    """

    control: str
    at: datetime
    state: str = ""
    placer: Number = Number()
    filler: Number = Number()
    accession: Number = Number()
    parent: Number = Number()
    study: Uid | None = None
    procedure: Coded | None = None
    requested_procedure_id: str = field(default="", repr=False)
    modality: str = ""
    priority: str = ""
    clinical: tuple[str, ...] = field(default=(), repr=False)
    requester: Professional | None = None
    decider: Professional | None = None
    decision: tuple[str, ...] = field(default=(), repr=False)
    is_exam_change: bool = False

    @property
    def status(self) -> OrderStatus | None:
        """What the message makes of the order, None when the order stays what it was."""
        if self.control == "SC":
            return _STATES.get(self.state)
        if self.control == "NW" and self.is_exam_change:
            return None
        return CONTROLS[self.control]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """One dated row. ``other``: the order that replaces this one, or the one that this one replaces; 0 for none."""

    at: datetime
    control_id: str
    control: str
    status: OrderStatus | None
    other: int
    patient: PatientIdentity
    stated: ImagingOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOrder:
    """One order with its history, in the order of the senders' clocks. ``requested_at``: its first row."""

    order_no: int
    requested_at: datetime
    events: tuple[OrderEvent, ...]

    @property
    def status(self) -> OrderStatus:
        """Where the order stands."""
        deciding = self.deciding
        return deciding.status if deciding is not None and deciding.status is not None else OrderStatus.REQUESTED

    @property
    def deciding(self) -> OrderEvent | None:
        """The row that made the order what it is: who said so and why stand there. None: no row has a status."""
        standing: list[OrderEvent] = []
        for event in self.events:
            denied = _DENIES.get(event.control)
            if denied and standing and standing[-1].control in denied:
                standing.pop()
            elif event.status is not None:
                standing.append(event)
        return standing[-1] if standing else None

    @property
    def facts(self) -> ImagingOrder:
        """The newest statement of each field."""
        newest: dict[str, Any] = {}
        for event in self.events:
            stated = {one.name: getattr(event.stated, one.name) for one in fields(event.stated)}
            newest |= {name: value for name, value in stated.items() if value not in (None, "", (), Number())}
        return ImagingOrder(**newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What is sealed of one row."""

    patient: PatientIdentity
    stated: ImagingOrder


_CONTENT = TypeAdapter(_Content)


class Orders:
    """The rows of imaging orders; each call names its tenant."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._vault = ledger.vault

    def record(
        self,
        tx: Tx,
        tenant: str,
        stated: Sequence[ImagingOrder],
        patient: PatientIdentity,
        *,
        control_id: str,
        now: datetime,
    ) -> dict[Uid, Arrival]:
        """Store what one message states, in its order, and note it on every exam it speaks of that we hold. Returns
        the exams whose order it cancels or changes, those of its own patient alone."""
        touched: dict[Uid, Arrival] = {}
        replaced: list[int] = []  # by this message; which order replaces them comes after
        before = ""
        for order in _with_replaced(stated):
            known = self._matching(tx, tenant, order, patient)
            if order.control == "RO":
                known = [number for number in known if number not in replaced]
            numbers = known or [self._open(tx, tenant, order)]
            for number in numbers:
                self._learn(tx, tenant, number, order, patient)
                self._append(tx, tenant, number, order, patient, control_id=control_id, now=now)
            if order.status is OrderStatus.SUBSTITUTED:
                replaced = [*replaced, *numbers] if before != "RO" else numbers
            elif order.control == "RO":
                for old in replaced:
                    self._link(tx, tenant, old=old, new=numbers[-1])
            before = order.control
            if order.study is not None:
                is_theirs = self._tell(tx, tenant, order.study, order, patient, control_id=control_id, now=now)
                if is_theirs and order.status is OrderStatus.CANCELLED:
                    touched[order.study] = Arrival.ORDER_CANCELLED
                elif is_theirs and order.is_exam_change:
                    touched.setdefault(order.study, Arrival.ORDER_CHANGED)
        return touched

    def orders_of(self, tx: ReadTx, tenant: str, study: str) -> list[StoredOrder]:
        """Every order of the study, oldest first."""
        rows = tx.rows(
            "SELECT order_no, requested_at FROM imaging_order WHERE tenant = :tenant AND study_uid = :study"
            " ORDER BY order_no",
            tenant=tenant,
            study=study,
        )
        return [self._stored(tx, tenant, row) for row in rows]

    def requested_between(self, tx: ReadTx, tenant: str, start: datetime, end: datetime) -> Iterator[StoredOrder]:
        """Every order first spoken of from ``start`` until before ``end``, oldest first."""
        after = (to_ms(start), 0)
        while True:
            rows = tx.rows(
                "SELECT order_no, requested_at FROM imaging_order WHERE tenant = :tenant AND requested_at < :until"
                " AND (requested_at > :at OR (requested_at = :at AND order_no > :number))"
                " ORDER BY requested_at, order_no LIMIT :page",
                tenant=tenant,
                at=after[0],
                number=after[1],
                until=to_ms(end),
                page=_PAGE,
            )
            for row in rows:
                yield self._stored(tx, tenant, row)
            if len(rows) < _PAGE:
                return
            after = (rows[-1]["requested_at"], rows[-1]["order_no"])

    # -- which order -----------------------------------------------------------------------------------------

    def _matching(self, tx: ReadTx, tenant: str, order: ImagingOrder, patient: PatientIdentity) -> list[int]:
        """The orders we hold that ``order`` speaks of."""
        stated = {name: value for name, value in self._blinds(tenant, order).items() if value is not None}
        shared = " OR ".join(f"{name} = :{name}" for name in stated)
        if patient.ins:
            stated["ins_blind"] = self._ledger.ins_blind(tenant, patient.ins)
        agreeing = " AND ".join(f"({name} IS NULL OR {name} = :{name})" for name in stated)
        rows = tx.rows(
            "SELECT order_no, ins_blind FROM imaging_order"  # noqa: S608 - names of our own columns
            f" WHERE tenant = :tenant AND ({shared}) AND {agreeing} ORDER BY order_no",
            tenant=tenant,
            **stated,
        )
        return [row["order_no"] for row in rows if self._is_of(tx, tenant, row, patient)]

    def _is_of(self, tx: ReadTx, tenant: str, row: Row, patient: PatientIdentity) -> bool:
        """Whether a stored order is the patient's: the same INS, else a local identifier in common; a patient
        without any identifier is only ever another such."""
        ins = self._ledger.ins_blind(tenant, patient.ins) if patient.ins else None
        if ins is not None and row["ins_blind"] is not None:
            return bool(ins == row["ins_blind"])
        known = {
            local["local_blind"]
            for local in tx.rows(
                "SELECT local_blind FROM imaging_order_local_id WHERE tenant = :tenant AND order_no = :number",
                tenant=tenant,
                number=row["order_no"],
            )
        }
        stated = {self._ledger.local_blind(tenant, local) for local in patient.local_ids}
        if not known and not stated:
            return ins is None and row["ins_blind"] is None
        return not known.isdisjoint(stated)

    # -- writing ---------------------------------------------------------------------------------------------

    def _open(self, tx: Tx, tenant: str, order: ImagingOrder) -> int:
        row = tx.row(
            "INSERT INTO imaging_order (tenant, requested_at) VALUES (:tenant, :at) RETURNING order_no",
            tenant=tenant,
            at=to_ms(order.at),
        )
        assert row is not None
        return int(row["order_no"])

    def _learn(self, tx: Tx, tenant: str, number: int, order: ImagingOrder, patient: PatientIdentity) -> None:
        """What the order is found by: an identifier once stated stays."""
        tx.change(
            "UPDATE imaging_order SET study_uid = COALESCE(study_uid, :study_uid),"
            " placer_blind = COALESCE(placer_blind, :placer_blind),"
            " filler_blind = COALESCE(filler_blind, :filler_blind),"
            " accession_blind = COALESCE(accession_blind, :accession_blind),"
            " ins_blind = COALESCE(ins_blind, :ins_blind),"
            " requested_at = CASE WHEN requested_at > :at THEN :at ELSE requested_at END"
            " WHERE tenant = :tenant AND order_no = :number",
            tenant=tenant,
            number=number,
            at=to_ms(order.at),
            ins_blind=self._ledger.ins_blind(tenant, patient.ins) if patient.ins else None,
            **self._blinds(tenant, order),
        )
        for local in patient.local_ids:
            tx.change(
                "INSERT INTO imaging_order_local_id (tenant, order_no, local_blind) VALUES (:tenant, :number, :blind)"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                number=number,
                blind=self._ledger.local_blind(tenant, local),
            )

    def _append(
        self,
        tx: Tx,
        tenant: str,
        number: int,
        order: ImagingOrder,
        patient: PatientIdentity,
        *,
        control_id: str,
        now: datetime,
    ) -> None:
        last = tx.row(
            "SELECT COALESCE(MAX(seq), 0) AS seq FROM imaging_order_event"
            " WHERE tenant = :tenant AND order_no = :number",
            tenant=tenant,
            number=number,
        )
        assert last is not None
        seq = last["seq"] + 1
        sealed = _CONTENT.dump_json(_Content(patient=patient, stated=order))
        tx.change(
            "INSERT INTO imaging_order_event (tenant, order_no, seq, at, received_at, control_id, control, status,"
            " other_order, content) VALUES (:tenant, :number, :seq, :at, :now, :control_id, :control, :status, 0,"
            " :content)",
            tenant=tenant,
            number=number,
            seq=seq,
            at=to_ms(order.at),
            now=to_ms(now),
            control_id=control_id,
            control=order.control,
            status=order.status.value if order.status else "",
            content=self._vault.seal(tenant, _place(number, seq), sealed),
        )

    def _link(self, tx: Tx, tenant: str, *, old: int, new: int) -> None:
        """Each of the two names the other in its newest row."""
        for number, other in ((old, new), (new, old)):
            tx.change(
                "UPDATE imaging_order_event SET other_order = :other WHERE tenant = :tenant AND order_no = :number"
                " AND seq = (SELECT MAX(seq) FROM imaging_order_event WHERE tenant = :tenant AND order_no = :number)",
                tenant=tenant,
                number=number,
                other=other,
            )

    # -- the exam's timeline ---------------------------------------------------------------------------------

    def _tell(
        self,
        tx: Tx,
        tenant: str,
        study: Uid,
        order: ImagingOrder,
        patient: PatientIdentity,
        *,
        control_id: str,
        now: datetime,
    ) -> bool:
        """Note the order on the exam, and the warning when it is for somebody else than the exam's reports; whether
        it is an exam, and of the same patient."""
        if not self._ledger.is_exam(tx, tenant, study):
            return False
        kind = _NOTES[order.status]
        if order.status is OrderStatus.CANCELLED and self._ledger.published(tx, tenant, study) is not None:
            kind = "exam-cancelled-in-ris"
        elif order.is_exam_change:
            kind = "exam-changed-in-ris"
        self._ledger.note(
            tx, tenant, study, kind=kind, summary=f"ORC-1 {order.control} by message {control_id}", now=now
        )
        conflict = self._disagreement(tx, tenant, study, patient)
        if conflict is not None:
            self._ledger.note_conflicts(tx, tenant, study, kind="identity-warning", conflicts=(conflict,), now=now)
        return conflict is None

    def _disagreement(self, tx: ReadTx, tenant: str, study: Uid, patient: PatientIdentity) -> Conflict | None:
        for held in self._ledger.reports_of(tx, tenant, study):
            ins = held.stated.report.patient.ins
            if held.status not in {"valid", "held"} or ins is None or patient.ins is None:
                continue
            if ins.matricule != patient.ins.matricule:
                return Conflict(
                    code="identity-ins",
                    field="INS",
                    left_source="order",
                    left=patient.ins.matricule,
                    right_source=f"report {held.report_id}",
                    right=ins.matricule,
                    severity="warn",
                )
        return None

    # -- inside ----------------------------------------------------------------------------------------------

    def _stored(self, tx: ReadTx, tenant: str, row: Row) -> StoredOrder:
        number = row["order_no"]
        events = tx.rows(
            "SELECT * FROM imaging_order_event WHERE tenant = :tenant AND order_no = :number ORDER BY at, seq",
            tenant=tenant,
            number=number,
        )
        return StoredOrder(
            order_no=number,
            requested_at=from_ms(row["requested_at"]),
            events=tuple(self._event(tenant, event) for event in events),
        )

    def _event(self, tenant: str, row: Row) -> OrderEvent:
        opened = self._vault.open(tenant, _place(row["order_no"], row["seq"]), row["content"])
        content = _CONTENT.validate_json(opened)
        return OrderEvent(
            at=from_ms(row["at"]),
            control_id=row["control_id"],
            control=row["control"],
            status=OrderStatus(row["status"]) if row["status"] else None,
            other=row["other_order"],
            patient=content.patient,
            stated=content.stated,
        )

    def _blinds(self, tenant: str, order: ImagingOrder) -> dict[str, str | bytes | None]:
        """Columns that identify the order; None for what is not stated."""
        return {
            "placer_blind": self._number_blind(tenant, "placer-order", order.placer),
            "filler_blind": self._number_blind(tenant, "filler-order", order.filler),
            "accession_blind": self._number_blind(tenant, "accession", order.accession),
            "study_uid": order.study,
        }

    def _number_blind(self, tenant: str, kind: str, number: Number) -> bytes | None:
        """Blind index of the number alone: the issuer is spelled differently from message to message."""
        return self._vault.blind(tenant, kind, number.value) if number.value else None


def _with_replaced(stated: Sequence[ImagingOrder]) -> Iterator[ImagingOrder]:
    """The statements, and before a replacement (RO) that names its parent (ORC-8) in a message that does not say so
    itself, that the parent is replaced."""
    said = any(order.status is OrderStatus.SUBSTITUTED for order in stated)
    for order in stated:
        if order.control == "RO" and not said and order.parent.value not in {"", order.placer.value}:
            yield ImagingOrder(control="RP", at=order.at, placer=order.parent)
        yield order


_NOTES: dict[OrderStatus | None, str] = {
    OrderStatus.REQUESTED: "order-received",
    OrderStatus.ACCEPTED: "order-accepted",
    OrderStatus.REFUSED: "order-refused",
    OrderStatus.SUBSTITUTED: "order-substituted",
    OrderStatus.CANCELLED: "order-cancelled",
    None: "order-changed",
}


def _place(number: int, seq: int) -> str:
    return f"imaging_order_event.content/{number}/{seq}"
