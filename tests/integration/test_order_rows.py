"""Orders, consents and refused messages on every engine: the same rows, the same answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.components import COMPONENTS
from gateway.hl7.ack import AckCode
from gateway.hl7.inbox import Inbox, Outcome, received, refused
from indexer.consent import Consent, Consents, Opposition
from indexer.ledger import Ledger
from indexer.orders import ImagingOrder, Number, Orders, OrderStatus
from security.clock import SystemClock
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from security.parse.hl7 import Problem
from security.seal import Vault
from tests.contract.store_parts.engines import BOTH, fresh

NOW = datetime(2026, 1, 8, 12, tzinfo=UTC)
STUDY = Uid("1.2.250.1.213.4.5.9.2.1")
PATIENT = PatientIdentity(
    traits=Traits(birth_name="FANTÔME", first_given_name="ODETTE"),
    ins=Ins(matricule="261046311304287", oid="1.2.250.1.213.1.4.10", status="VALI"),
    local_ids=(LocalId(value="IPP9001", issuer="1.2.250.1.213.4.5.9.4"),),
)
ORDER = ImagingOrder(control="NW", at=NOW - timedelta(hours=1), placer=Number(value="P1"), study=STUDY)


@pytest.mark.parametrize("engine", BOTH)
async def test_orders_and_consents_are_kept_and_found_on_every_engine(
    engine: str, request: pytest.FixtureRequest
) -> None:
    store = await fresh(engine, request).open(components=COMPONENTS)
    try:
        vault = await Vault.load(store, bytes(range(32)), ["site"], SystemClock())
        ledger = Ledger(vault)
        orders, consents = Orders(ledger), Consents(ledger)
        inbox = Inbox(tenant="site", vault=vault, timezone=UTC)
        refusal = replace(ORDER, control="UA", at=NOW, accession=Number(value="A1"), decision=("redondant",))
        nameless = replace(PATIENT, ins=None, local_ids=())

        def work(tx) -> None:
            for number, stated in enumerate((ORDER, refusal)):
                orders.record(tx, "site", [stated], PATIENT, control_id=f"O{number}", now=NOW)
            orders.record(tx, "site", [replace(ORDER, study=None)], nameless, control_id="O3", now=NOW)
            said = Consent(opposition=Opposition.OPPOSED, opposition_at=NOW, reading_at=NOW)
            consents.record(tx, "site", said, PATIENT, control_id="C1", now=NOW)
            problem = Problem(code="unsupported-type", text="why")
            message = received(b"not HL7", None, NOW)
            inbox.answer(tx, message, Outcome(code=AckCode.REJECT, problems=(problem,)))

        await store.write(work)
        (order,) = await store.read(lambda tx: orders.orders_of(tx, "site", STUDY))
        assert [event.control for event in order.events] == ["NW", "UA"]
        assert (order.status, order.requested_at) == (OrderStatus.REFUSED, NOW - timedelta(hours=1))
        assert (order.facts.accession.value, order.facts.placer.value) == ("A1", "P1")
        during = await store.read(
            lambda tx: list(orders.requested_between(tx, "site", NOW - timedelta(hours=2), NOW))
        )
        assert [one.order_no for one in during] == [1, 2]
        by_number = replace(PATIENT, ins=None)
        assert (await store.read(lambda tx: consents.current(tx, "site", by_number))).is_opposed
        assert not (await store.read(lambda tx: consents.current(tx, "site", nameless))).is_opposed
        assert [one.reason for one in await store.read(lambda tx: refused(tx, "site", 5))] == ["unsupported-type"]
    finally:
        await store.close()
