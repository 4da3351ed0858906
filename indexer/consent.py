"""What patients decided about the index: opposition to being fed, consent to being read (ZFA of PAM-FR, drim-m §2).

Invariants:

* every statement is one dated row, never changed; what counts now is derived: for each question the newest
  statement by its own date, the stricter of two of one date;
* an opposition counts whatever identity states it; it ends only by a later statement under the same INS, qualified
  (PID-32 VALI, a right key), so that a slip in an identity never lifts the opposition of somebody else;
* statements are sealed, found by the blind index of the INS or of a local identifier whose issuer is named.

What follows from an opposition is left to ``admission``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from pydantic import TypeAdapter

from indexer.ledger import Ledger
from security.clock import to_ms
from security.identity import LocalId, PatientIdentity
from security.ins import check_key
from security.store.port import ReadTx, Tx


class Opposition(StrEnum):
    """ZFA-9: may the index be fed?"""

    OPPOSED = "IO"
    NOT_OPPOSED = "INO"


class Reading(StrEnum):
    """ZFA-11: may what the index holds be read?"""

    CONSENTED = "IC"
    NOT_CONSENTED = "INC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What one message states. ``record_status``: ZFA-1, that of the patient's national record, as sent. None and
    "" stand for what is not stated; each statement has its own date."""

    record_status: str = ""
    record_at: datetime | None = None
    opposition: Opposition | None = None
    opposition_at: datetime
    reading: Reading | None = None
    reading_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """What counts now; None: the patient never said."""

    opposition: Opposition | None = None
    opposition_at: datetime | None = None
    reading: Reading | None = None
    reading_at: datetime | None = None

    @property
    def is_opposed(self) -> bool:
        """Whether nothing of the patient may go to the index."""
        return self.opposition is Opposition.OPPOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """What is sealed of one row."""

    patient: PatientIdentity
    consent: Consent


_STATEMENT = TypeAdapter(_Statement)
_OPENED_MAX = 1024
"""Statements kept as they were opened last: some admissions repeat what the patient said years ago."""


class Consents:
    """The rows of consent; each call names its tenant."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._vault = ledger.vault
        self._opened = lru_cache(maxsize=_OPENED_MAX)(self._open)

    def record(
        self, tx: Tx, tenant: str, consent: Consent, patient: PatientIdentity, *, control_id: str, now: datetime
    ) -> None:
        """Store what one message states about one patient."""
        row = tx.row(
            "SELECT COALESCE(MAX(consent_no), 0) + 1 AS number FROM consent WHERE tenant = :tenant", tenant=tenant
        )
        assert row is not None
        number = int(row["number"])
        statement = _STATEMENT.dump_json(_Statement(patient=patient, consent=consent))
        tx.change(
            "INSERT INTO consent (tenant, consent_no, received_at, control_id, content)"
            " VALUES (:tenant, :number, :now, :control_id, :content)",
            tenant=tenant,
            number=number,
            now=to_ms(now),
            control_id=control_id,
            content=self._vault.seal(tenant, _place(number), statement),
        )
        for blind in self._blinds(tenant, patient):
            tx.change(
                "INSERT INTO consent_patient (tenant, patient_blind, consent_no) VALUES (:tenant, :blind, :number)"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                blind=blind,
                number=number,
            )

    def current(self, tx: ReadTx, tenant: str, patient: PatientIdentity) -> Current:
        """What counts now for the patient: statements under the INS and under each local identifier."""
        return self._current_under(tx, tenant, self._blinds(tenant, patient))

    def is_opposed(self, tx: ReadTx, tenant: str, patients: Iterable[PatientIdentity]) -> bool:
        """Whether one person opposed under any of the identities that sources state of them."""
        stated = dict.fromkeys(tuple(self._blinds(tenant, patient)) for patient in patients)
        return any(self._current_under(tx, tenant, blinds).is_opposed for blinds in stated)

    def _current_under(self, tx: ReadTx, tenant: str, blinds: Iterable[bytes]) -> Current:
        stated = {
            row["consent_no"]: row["content"]
            for blind in blinds
            for row in tx.rows(
                "SELECT c.consent_no, c.content FROM consent_patient p"
                " JOIN consent c ON c.tenant = p.tenant AND c.consent_no = p.consent_no"
                " WHERE p.tenant = :tenant AND p.patient_blind = :blind",
                tenant=tenant,
                blind=blind,
            )
        }
        return _current([self._opened(tenant, number, content) for number, content in sorted(stated.items())])

    def _open(self, tenant: str, number: int, sealed: bytes) -> _Statement:
        return _STATEMENT.validate_json(self._vault.open(tenant, _place(number), sealed))

    def _blinds(self, tenant: str, patient: PatientIdentity) -> list[bytes]:
        found = [self._ledger.ins_blind(tenant, patient.ins)] if patient.ins else []
        return found + [
            self._ledger.local_blind(tenant, local) for local in with_issuer((*patient.local_ids, *patient.tied))
        ]


def with_issuer(local_ids: Iterable[LocalId]) -> tuple[LocalId, ...]:
    """The identifiers that tell one person: a bare number may be anybody's."""
    return tuple(local for local in local_ids if local.issuer)


def _current(statements: Iterable[_Statement]) -> Current:
    """Pure: what counts of all that was said."""
    stated = list(statements)
    opposed = [one for one in stated if one.consent.opposition is Opposition.OPPOSED]
    ends = [one for one in stated if one.consent.opposition is Opposition.NOT_OPPOSED]
    in_force = [one for one in opposed if not any(_ends(end, one) for end in ends)]
    last = max(in_force or ends, key=lambda one: one.consent.opposition_at, default=None)
    readings = [one for one in stated if one.consent.reading is not None]
    read = max(readings, key=_by_reading, default=None)
    return Current(
        opposition=last.consent.opposition if last else None,
        opposition_at=last.consent.opposition_at if last else None,
        reading=read.consent.reading if read else None,
        reading_at=read.consent.reading_at if read else None,
    )


def _ends(end: _Statement, opposition: _Statement) -> bool:
    """Whether a statement takes back an opposition: later, by a qualified identity, of the same INS."""
    ins, other = end.patient.ins, opposition.patient.ins
    if ins is None or ins.status != "VALI" or not check_key(ins.matricule):
        return False
    if other is not None and other.matricule != ins.matricule:
        return False
    return end.consent.opposition_at > opposition.consent.opposition_at


def _by_reading(one: _Statement) -> tuple[datetime, bool]:
    return one.consent.reading_at, one.consent.reading is Reading.NOT_CONSENTED


def _place(number: int) -> str:
    return f"consent.content/{number}"
