"""Who a patient is by the register's word: merges, their undo and corrections (ADT^A40, A37, A08, A31; FF-28).

Invariants:

* every statement is one dated row, never changed; what counts now is derived from all that share an identifier, in
  the order of the register's clock, so that a message that comes late or again changes nothing it should not;
* a merge makes the prior identifiers lead to the surviving one; the last word about an identifier counts, so a merge
  the other way round turns the first one over, and no circle of merges is ever followed (the last one made is the one
  that stands);
* A37 undoes the merges between the two patients it names, and nothing else;
* the register corrects names, birth date and sex of who has the *same* qualified INS, in what came before it spoke;
  what comes after must agree with it. Another INS is another person: the gate says both (``admission`` makes the
  register its witness), nothing is renamed here;
* where an identifier of one register names the patient instead (``domain``), the same identifier takes the place of
  the INS, and the person must stay recognisable: whoever shares neither the name nor birth date and sex is another
  person. What was merged leads to one identifier, which alone names the patient from then on;
* only identifiers whose issuer is named count: a bare number may be anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from indexer.consent import with_issuer
from indexer.gate import folded, in_domain
from indexer.ledger import Ledger
from security.clock import to_ms
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.ins import check_key
from security.store.port import ReadTx, Tx


class Kind(StrEnum):
    """What the register did."""

    MERGED = "merged"
    UNLINKED = "unlinked"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One word of the register. ``at``: by its own clock; ``received_at``: by ours. ``patient``: who survives, or is
    corrected; of an undo the first of the two. ``prior``: what leads to them from now on; of an undo the identifiers
    of the second."""

    kind: Kind
    at: datetime
    received_at: datetime
    patient: PatientIdentity
    prior: tuple[LocalId, ...] = ()

    @property
    def local_ids(self) -> tuple[LocalId, ...]:
        """Every identifier it names with its issuer."""
        return with_issuer((*self.patient.local_ids, *self.prior))


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What counts now for one local identifier. ``stated``: by the register, None when it only ever merged without
    saying who; ``stated_at``: when we learnt it; ``local_ids``: of this person, the surviving one first; ``merged``:
    what each merged identifier leads to."""

    stated: PatientIdentity | None
    stated_at: datetime | None
    local_ids: tuple[LocalId, ...]
    merged: Mapping[LocalId, LocalId] = field(default_factory=dict)

    def survivor(self, local: LocalId) -> LocalId:
        """What the identifier leads to after every merge; itself when it was never merged."""
        return _root(local, self.merged)


_STATEMENT = TypeAdapter(Statement)
_COMPONENT_MAX = 1000
"""Identifiers that merges may tie together before the rest is not followed any more: nobody has so many."""


class Persons:
    """The rows of the register's word; each call names its tenant. ``domain``: as ``gate.Rules.domain``."""

    def __init__(self, ledger: Ledger, *, domain: str = "") -> None:
        self._ledger = ledger
        self._domain = domain

    @property
    def domain(self) -> str:
        """OID of the register whose identifier names the patient, "" where the INS does."""
        return self._domain

    def counts(self, stated: Statement) -> bool:
        """Whether it may change anything here: a correction must say for sure whom it corrects, by a qualified INS
        or by the one identifier that names the patient."""
        if stated.kind is not Kind.CORRECTED:
            return True
        if self._domain:
            return len(set(in_domain(stated.patient, self._domain))) == 1
        return is_qualified(stated.patient.ins)

    def record(self, tx: Tx, tenant: str, stated: Statement, *, control_id: str) -> bool:
        """Store what one message says; False when it says nothing new: a correction to what counts already."""
        if stated.kind is Kind.CORRECTED and self._is_said(tx, tenant, stated):
            return False
        row = tx.row(
            "SELECT COALESCE(MAX(number), 0) + 1 AS number FROM person_statement WHERE tenant = :tenant",
            tenant=tenant,
        )
        assert row is not None
        number = int(row["number"])
        tx.change(
            "INSERT INTO person_statement (tenant, number, at, received_at, control_id, content)"
            " VALUES (:tenant, :number, :at, :now, :control_id, :content)",
            tenant=tenant,
            number=number,
            at=to_ms(stated.at),
            now=to_ms(stated.received_at),
            control_id=control_id,
            content=self._ledger.vault.seal(tenant, _place(number), _STATEMENT.dump_json(stated)),
        )
        for local in dict.fromkeys(stated.local_ids):
            tx.change(
                "INSERT INTO person_statement_id (tenant, local_blind, number) VALUES (:tenant, :blind, :number)"
                " ON CONFLICT DO NOTHING",
                tenant=tenant,
                blind=self._ledger.local_blind(tenant, local),
                number=number,
            )
        return True

    def _is_said(self, tx: ReadTx, tenant: str, stated: Statement) -> bool:
        return all(
            (person := self.person(tx, tenant, (local,))) is not None and person.stated == stated.patient
            for local in stated.local_ids
        )

    def has_spoken(self, tx: ReadTx, tenant: str, local_ids: Iterable[LocalId]) -> bool:
        """Whether the register ever named one of these identifiers, be it to take back what it had said."""
        return any(
            tx.row(
                "SELECT number FROM person_statement_id WHERE tenant = :tenant AND local_blind = :blind LIMIT 1",
                tenant=tenant,
                blind=self._ledger.local_blind(tenant, local),
            )
            for local in with_issuer(local_ids)
        )

    def person(self, tx: ReadTx, tenant: str, local_ids: Iterable[LocalId]) -> Person | None:
        """Who it is that has these identifiers; None when the register never spoke of any."""
        asked = with_issuer(local_ids)
        stated = self._about(tx, tenant, asked)
        return derive(asked, stated) if stated else None

    def current(
        self, tx: ReadTx, tenant: str, patient: PatientIdentity, *, since: datetime | None = None
    ) -> PatientIdentity:
        """The patient as the register has them now: corrected when it is the same person, else as stated. ``since``:
        when this statement of the patient came: what the register had said before corrects nothing in it."""
        person = self.person(tx, tenant, patient.local_ids)
        return corrected(patient, person, since=since, domain=self._domain) if person else patient

    def is_survivor(self, tx: ReadTx, tenant: str, patient: PatientIdentity) -> bool:
        """Whether every identifier of the patient still names them: none was merged into another."""
        person = self.person(tx, tenant, patient.local_ids)
        return person is None or all(person.survivor(local) == local for local in patient.local_ids)

    def tied(self, tx: ReadTx, tenant: str, stated: Statement) -> tuple[LocalId, ...]:
        """Every identifier that merges ever tied to those of the statement."""
        found = dict.fromkeys(stated.local_ids)
        for one in self._about(tx, tenant, stated.local_ids):
            found |= dict.fromkeys(one.local_ids)
        return tuple(found)

    def _about(self, tx: ReadTx, tenant: str, local_ids: Iterable[LocalId]) -> list[Statement]:
        """Every statement that speaks of the identifiers, or of one tied to them, in the register's order."""
        found: dict[int, tuple[int, Statement]] = {}
        asked, waiting = set[LocalId](), list(local_ids)
        while waiting and len(asked) < _COMPONENT_MAX:
            local = waiting.pop()
            if local in asked:
                continue
            asked.add(local)
            for row in tx.rows(
                "SELECT s.number, s.at, s.content FROM person_statement_id i JOIN person_statement s"
                " ON s.tenant = i.tenant AND s.number = i.number"
                " WHERE i.tenant = :tenant AND i.local_blind = :blind",
                tenant=tenant,
                blind=self._ledger.local_blind(tenant, local),
            ):
                if row["number"] not in found:
                    opened = self._ledger.vault.open(tenant, _place(row["number"]), row["content"])
                    statement = _STATEMENT.validate_json(opened)
                    found[row["number"]] = (row["at"], statement)
                    waiting += statement.local_ids
        return [statement for _, (_, statement) in sorted(found.items(), key=lambda one: (one[1][0], one[0]))]


def derive(local_ids: Sequence[LocalId], stated: Sequence[Statement]) -> Person | None:
    """Pure: who has these identifiers after all that was said, in order. None when nothing said concerns them."""
    into = _merged(stated)
    roots = dict.fromkeys(_root(local, into) for local in local_ids)
    if len(roots) != 1:  # several registers, or several persons: the newest word about any of them
        roots = dict.fromkeys(root for root in roots if any(root in one.patient.local_ids for one in stated))
    concerned = [
        one for one in stated if any(root in one.patient.local_ids for root in roots) and _names_person(one.patient)
    ]
    if not concerned and all(root in local_ids for root in roots):
        return None
    others = [local for one in stated for local in one.local_ids if _root(local, into) in roots]
    last = concerned[-1] if concerned else None
    return Person(
        stated=last.patient if last else None,
        stated_at=last.received_at if last else None,
        local_ids=tuple(dict.fromkeys((*roots, *others))),
        merged=into,
    )


def is_qualified(ins: Ins | None) -> bool:
    """Whether an INS tells a person for sure: status VALI and a right key."""
    return ins is not None and ins.status == "VALI" and check_key(ins.matricule)


def corrected(
    patient: PatientIdentity, person: Person, *, since: datetime | None = None, domain: str = ""
) -> PatientIdentity:
    """The patient with the register's traits and identifiers, when the register means the same person: the same INS,
    qualified; in a ``domain``, the same identifier of it. Otherwise as stated, save the identifiers that a merge
    without an INS ties to it. ``since``: what the register had said before then corrects no trait."""
    if domain:
        return _corrected_in(domain, patient, person, since=since)
    ins, theirs = patient.ins, person.stated.ins if person.stated else None
    if theirs is None or ins is None:
        return replace(patient, local_ids=tuple(dict.fromkeys((*person.local_ids, *patient.local_ids))))
    if (theirs.matricule, theirs.oid) != (ins.matricule, ins.oid):
        return patient
    local_ids = tuple(dict.fromkeys((*person.local_ids, *patient.local_ids)))
    is_older = since is not None and person.stated_at is not None and person.stated_at <= since
    if not is_qualified(theirs) or person.stated is None or is_older:
        return replace(patient, local_ids=local_ids)
    return replace(patient, traits=_traits(patient.traits, person.stated.traits), local_ids=local_ids)


def _corrected_in(
    domain: str, patient: PatientIdentity, person: Person, *, since: datetime | None
) -> PatientIdentity:
    """The same where an identifier names the patient: what it was merged into names them, and nothing else does."""
    naming = tuple(dict.fromkeys(person.survivor(local) for local in patient.local_ids))
    tied = (local for local in (*person.local_ids, *patient.local_ids) if local not in naming)
    moved = replace(patient, local_ids=naming, tied=tuple(dict.fromkeys(tied)))
    stated = person.stated
    is_older = since is not None and person.stated_at is not None and person.stated_at <= since
    if stated is None or is_older or not _is_named_alike(moved, stated, person, domain):
        return moved
    if not is_recognisable(patient, stated):
        return moved
    return replace(moved, traits=_traits(patient.traits, stated.traits))


def _is_named_alike(patient: PatientIdentity, stated: PatientIdentity, person: Person, domain: str) -> bool:
    """Whether both have the one identifier of the domain, as merges left it, and no INS parts them."""
    ours = set(in_domain(patient, domain))
    theirs = {person.survivor(local) for local in in_domain(stated, domain)}
    is_parted = patient.ins is not None and stated.ins is not None and patient.ins.matricule != stated.ins.matricule
    return len(ours) == 1 and ours == theirs and not is_parted


def is_recognisable(patient: PatientIdentity, stated: PatientIdentity) -> bool:
    """Whether enough of a person stays in what the register states to know them by: birth name and first given name,
    or birth date and sex. One that shares neither is somebody else under the same number."""
    ours, theirs = patient.traits, stated.traits
    names = ((ours.birth_name, theirs.birth_name), (ours.first_given_name, theirs.first_given_name))
    is_named = all(folded(left) == folded(right) != "" for left, right in names)
    is_born = ours.birth_date == theirs.birth_date is not None and ours.sex == theirs.sex
    return is_named or is_born


def _traits(ours: Traits, theirs: Traits) -> Traits:
    """What the register states; where it is silent, what was stated."""
    return Traits(
        birth_name=theirs.birth_name or ours.birth_name,
        first_given_name=theirs.first_given_name or ours.first_given_name,
        given_names=theirs.given_names or ours.given_names,
        used_name=theirs.used_name or ours.used_name,
        used_given_name=theirs.used_given_name or ours.used_given_name,
        sex=theirs.sex or ours.sex,
        birth_date=theirs.birth_date or ours.birth_date,
        birthplace=theirs.birthplace or ours.birthplace,
    )


def _merged(stated: Sequence[Statement]) -> dict[LocalId, LocalId]:
    """What each merged identifier leads to. Never a circle: who survives by the last word leads nowhere."""
    into: dict[LocalId, LocalId] = {}
    for one in stated:
        surviving = with_issuer(one.patient.local_ids)
        if one.kind is Kind.MERGED and surviving:
            for local in surviving:
                into.pop(local, None)
            into |= {prior: _heir(prior, surviving) for prior in with_issuer(one.prior) if prior not in surviving}
        elif one.kind is Kind.UNLINKED:
            first, second = set(surviving), set(with_issuer(one.prior))
            pairs = [(prior, now) for prior, now in into.items() if {prior, now} <= first | second]
            for prior, now in pairs:
                if (prior in first) != (now in first):
                    del into[prior]
    return into


def _heir(prior: LocalId, surviving: Sequence[LocalId]) -> LocalId:
    """What takes the place of a merged identifier: that of its own register where the survivor has one."""
    return next((local for local in surviving if local.issuer == prior.issuer), surviving[0])


def _root(local: LocalId, into: Mapping[LocalId, LocalId]) -> LocalId:
    while local in into:
        local = into[local]
    return local


def _names_person(patient: PatientIdentity) -> bool:
    return patient.ins is not None or bool(patient.traits.birth_name)


def _place(number: int) -> str:
    return f"person_statement.content/{number}"
