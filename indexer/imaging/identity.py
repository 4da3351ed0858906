"""Whether what the imaging side says of an exam names the exam's own patient."""

from __future__ import annotations

from dataclasses import replace

from indexer import gate
from indexer.ledger import Ledger
from indexer.persons import Persons
from indexer.study import PacsPatient
from security.identity import Uid
from security.store.port import ReadTx


class Identity:
    """Compares with the reports of one tenant that count or are held, as the register of patients has them now, less
    what a person accepted of the PACS."""

    def __init__(self, *, tenant: str, ledger: Ledger, rules: gate.Rules) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._persons = Persons(ledger, domain=rules.domain)
        self._rules = rules

    def judge(self, tx: ReadTx, study: Uid, patient: PacsPatient) -> gate.Verdict | None:
        """Everything that speaks against it; None when no report says yet whose exam it is."""
        held = [one for one in self._ledger.reports_of(tx, self._tenant, study) if one.status in {"valid", "held"}]
        if not held:
            return None
        found: dict[gate.Conflict, None] = {}
        for one in held:
            stated = one.stated.report
            current = self._persons.current(tx, self._tenant, stated.patient, since=one.received_at)
            verdict = gate.against_person(report=replace(stated, patient=current), patient=patient, rules=self._rules)
            found |= dict.fromkeys(self._unaccepted(tx, study, one.report_id, verdict).conflicts)
        return gate.Verdict(conflicts=tuple(found))

    def _unaccepted(self, tx: ReadTx, study: Uid, report_id: str, verdict: gate.Verdict) -> gate.Verdict:
        waived = self._ledger.waivers(tx, self._tenant, report_id, study, "pacs")
        return gate.accepting(verdict, lambda one: self._ledger.mark(self._tenant, one) in waived)
