"""What each family of messages changes, inside the transaction that stores the message and its answer.

Invariants:

* an identity conflict of a report is stored, holds every exam the report speaks of, and is answered AE;
* orders and consents are kept as they are stated: nothing is published from an order, but one that is cancelled or
  changed lets the PACS be asked again about its exam; a consent that is taken never lets out what an opposition in
  force forbids;
* what cannot be carried out (a withdrawal of what was never taken) is answered AE, and nothing is changed.
"""

from __future__ import annotations

from gateway.hl7.ack import AckCode
from gateway.hl7.consent_message import ConsentMessage
from gateway.hl7.inbox import ZONE, Inbox, Outcome, Received
from gateway.hl7.order_message import OrderMessage
from gateway.hl7.report_message import ReportMessage
from indexer import gate
from indexer.admission import Admission, Carrier
from indexer.ledger import Ledger, StatedReport
from indexer.orders import Orders
from security.parse.hl7 import Problem
from security.store.port import Tx

_NOT_WITHDRAWN = (
    Problem(
        code="unknown-report",
        text="no report of this document id was taken: the message is kept and nothing was changed",
    ),
    Problem(code="wrong-version", text="another report replaced this document: withdraw the one that is valid now"),
    Problem(
        code="ins-conflict", text="the withdrawal names another patient than the report does: nothing was changed"
    ),
)
"""Why a withdrawal is not carried out, by what ``Admission.withdraw_report`` answers."""


class Handlers:
    """The effects of one tenant's messages."""

    def __init__(self, *, tenant: str, inbox: Inbox, admission: Admission, ledger: Ledger) -> None:
        self._tenant = tenant
        self._inbox = inbox
        self._admission = admission
        self._orders = Orders(ledger)

    def report(self, tx: Tx, received: Received, stated: ReportMessage) -> Outcome:
        """Everything a readable report message changes."""
        content = StatedReport(envelope=stated.envelope, report=stated.report)
        known = self._admission.acquaintance(tx, content)  # a sender may repeat a report with a new MSH-7
        against = self._against(tx, received, stated, is_repeat=known.is_repeat)
        if against:
            return Outcome(code=AckCode.ERROR, problems=(against,))
        if stated.order_control == "CA" or stated.result_status == "D":
            why = self._admission.withdraw_report(tx, content, _carrier(received))
            problems = [one for one in _NOT_WITHDRAWN if one.code == why]
            return Outcome(code=AckCode.ERROR if why else AckCode.ACCEPT, problems=problems)
        if known.held and (not known.is_repeat or known.held.status == "withdrawn"):
            was = "withdrawn" if known.is_repeat else "received before with other content"
            text = f"this document id was {was}; a new version needs a new id"
            return Outcome(code=AckCode.ERROR, problems=(Problem(code="wrong-version", text=text),))
        notes = [f"{note.code}: {note.text}" for note in stated.notes]
        verdict = self._admission.admit(tx, content, _carrier(received), notes=notes)
        problems = [_conflict_problem(conflict) for conflict in verdict.conflicts if conflict.severity == "hold"]
        return Outcome(
            code=AckCode.ERROR if problems else AckCode.ACCEPT,
            problems=problems,
            report_id="" if known.held else str(stated.report.document_id),
        )

    def orders(self, tx: Tx, received: Received, stated: OrderMessage) -> Outcome:
        """Keep what the message states about each order; an exam of the same patient that was cancelled or changed is
        looked at again."""
        touched = self._orders.record(
            tx,
            self._tenant,
            stated.orders,
            stated.patient,
            control_id=received.control_id,
            now=received.at,
        )
        for study, arrived in touched.items():
            self._admission.announce(tx, study, arrived, _carrier(received))
        return Outcome(code=AckCode.ACCEPT)

    def consent(self, tx: Tx, received: Received, stated: ConsentMessage) -> Outcome:
        """Keep what the patient decided and what the register says of them, and heed it on every report."""
        if stated.identity is not None:
            self._admission.correct(tx, stated.identity, _carrier(received))
        if stated.statement is not None:
            patient, consent = stated.statement
            self._admission.heed(tx, consent, patient, _carrier(received))
        return Outcome(code=AckCode.ACCEPT)

    def _against(self, tx: Tx, received: Received, stated: ReportMessage, *, is_repeat: bool) -> Problem | None:
        """What makes a readable report message unusable here, or None."""
        if not is_repeat and self._inbox.is_control_id_in_use(tx, received):
            return Problem(
                code="control-id-reused",
                segment="MSH",
                sequence=1,
                field=10,
                text="MSH-10 was used for another message that was taken; send this one under a new control id",
            )
        if self._admission.is_circular(tx, stated.report):
            return Problem(
                code="wrong-version",
                text="this report says that it replaces one that says it replaces this one: no report would be left",
            )
        return None


def _carrier(received: Received) -> Carrier:
    return Carrier(control_id=received.control_id, zone=ZONE, at=received.at, job_class=received.job_class)


def _conflict_problem(conflict: gate.Conflict) -> Problem:
    """The conflict as an ERR may show it: named, its values masked."""
    code = "ins-missing" if conflict.code == "identity-ins-missing" else "ins-conflict"
    return Problem(code=code, text=f"{conflict.code}: {conflict.summary()}")
