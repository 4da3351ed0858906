"""The identity gate: do all sources of one exam speak of the same person, and may that identity be published?

Two moments. ``before_ack``: the message against itself, its CDA, and what we already hold. ``against_pacs``: a
valid report against what the PACS says. The rules are listed for people in docs/identity.md.

Invariants:

* every disagreement found is named, not only the first; the code names the field, the sources name the pair;
* the values stand in the ``Conflict`` for the sealed record and nowhere else: ``repr`` and ``summary`` mask them;
* names are equal or not: folded for case, accents, apostrophes, hyphens and blanks, never compared in part;
* a source that is silent contradicts nobody, except where the identity is mandatory.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from indexer.report import Report
from indexer.study import PacsPatient, Study
from security.identity import Ins, LocalId, PatientIdentity, Traits, masked
from security.ins import INS_AUTHORITIES, check_key, digits_disagree

Severity = Literal["hold", "warn"]
Rule = Literal["hold", "warn", "off"]
Share = Literal["ins", "local-id", "study", "accession"]

_HL7, _CDA, _PACS = "HL7", "CDA", "PACS"
_OID = re.compile(r"[0-9]+(\.[0-9]+)+", re.ASCII)
_JOINTS = re.compile(r"[\s'’‘ʼ`´‐‑‒–—-]+")
_LIGATURES = str.maketrans({"œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One disagreement. ``code``: stable reason; ``left``, ``right``: the values, "" for a silent source."""

    code: str
    field: str
    left_source: str
    left: str
    right_source: str
    right: str
    severity: Severity

    def summary(self) -> str:
        """The disagreement with its values masked."""
        return f"{self.field}: {self.left_source} {masked(self.left)}, {self.right_source} {masked(self.right)}"

    def __repr__(self) -> str:
        return f"Conflict({self.code}, {self.severity}, {self.summary()})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Everything the gate found, in the order of its rules. ``is_opposed``: the patient refuses to be in the index
    (``consent``), which holds as a conflict does."""

    conflicts: tuple[Conflict, ...] = ()
    is_opposed: bool = False

    @property
    def is_in_doubt(self) -> bool:
        """Whether the report itself is: an opposition says nothing against it."""
        return any(conflict.severity == "hold" for conflict in self.conflicts)

    @property
    def holds(self) -> bool:
        """Whether nothing may be published."""
        return self.is_opposed or self.is_in_doubt

    @property
    def reason(self) -> str:
        """Code of the first conflict that holds, then the opposition; "" when nothing holds."""
        opposed = "patient-opposed" if self.is_opposed else ""
        return next((conflict.code for conflict in self.conflicts if conflict.severity == "hold"), opposed)

    def summary(self) -> str:
        """The conflicts that hold, values masked."""
        return "; ".join(conflict.summary() for conflict in self.conflicts if conflict.severity == "hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a tenant may weigh. INS, its status and key, local identifiers and accession always hold.

    ``domain``: OID of the register whose identifier names the patient in the index, where the profile asks for no
    INS: each source must state one of it, and the same. "": the qualified INS names them (profile drim-m).
    """

    nir_digits: Rule = "hold"
    birthplace_history: Rule = "warn"  # national samples give one person two birthplaces
    pacs_name: Rule = "hold"
    pacs_birth_date: Rule = "hold"
    pacs_sex: Rule = "hold"
    test_identity: Rule = "hold"  # a matricule of a test or demonstration authority
    domain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A patient as something we hold states them. ``source``: its name for people; ``shares``: what it has in
    common with the new report."""

    patient: PatientIdentity
    source: str
    shares: frozenset[Share]


def before_ack(*, envelope: PatientIdentity, report: Report, held: Sequence[Held], rules: Rules) -> Verdict:
    """Judge a message before it is acknowledged: HL7 PID × CDA × what we hold. PID-32 travels in ``envelope``."""
    cda = report.patient
    found = [*(() if rules.domain else _ins_usable(envelope, rules)), *_stated_alike(envelope, cda, rules.domain)]
    for known in held:
        found += _agrees_with_held(cda, known, rules)
    # Many reports of one person disagree with a new one in the same way: the first stands for all.
    unique: dict[tuple[str, str, str], Conflict] = {}
    for conflict in found:
        unique.setdefault((conflict.code, conflict.left, conflict.right), conflict)
    return Verdict(conflicts=tuple(unique.values()))


def against_pacs(*, report: Report, study: Study, rules: Rules) -> Verdict:
    """Judge a report by what the PACS says of the study: IPP, accession number, name, birth date, sex."""
    person, *traits = _against_person(report, study.patient, rules)
    accessions = [order.accession_number for order in report.orders]
    accession = None
    if study.accession_number not in accessions or not study.accession_number:
        left = (_CDA, ", ".join(accessions))
        accession = _conflict("accession-unknown", "accession", left, (_PACS, study.accession_number))
    return Verdict(conflicts=tuple(conflict for conflict in (person, accession, *traits) if conflict))


def against_person(*, report: Report, patient: PacsPatient, rules: Rules) -> Verdict:
    """Judge a report by the patient whom something of the imaging side names without being the study (a rejection
    note, a performed step): as ``against_pacs``, so that what a person accepted of the PACS is accepted here too."""
    return Verdict(conflicts=tuple(conflict for conflict in _against_person(report, patient, rules) if conflict))


def _against_person(report: Report, patient: PacsPatient, rules: Rules) -> list[Conflict | None]:
    """What speaks against the patient: identifier first, then name, birth date, sex."""
    traits = report.patient.traits
    found: list[Conflict | None] = [None]
    ids = _naming_or_tied(report.patient, rules.domain) if rules.domain else report.patient.local_ids
    if not _is_one_of(patient.patient_id, patient.issuer, ids):
        ours, theirs = _as_compared(ids, patient.patient_id, patient.issuer)
        # what names the patient in the index is never a person's to accept; a mere local identifier is
        code = "identity-patient-id" if rules.domain else "identity-local-id"
        found = [_conflict(code, "local id", (_CDA, ours), (_PACS, theirs))]
    if not _name_fits(patient.name, traits):
        left = (_CDA, f"{traits.birth_name}^{traits.first_given_name}")
        found.append(_conflict("identity-name", "name", left, (_PACS, patient.name), rules.pacs_name))
    if traits.birth_date and patient.birth_date and patient.birth_date != f"{traits.birth_date:%Y%m%d}":
        left = (_CDA, f"{traits.birth_date:%Y%m%d}")
        right = (_PACS, patient.birth_date)
        found.append(_conflict("identity-birth-date", "birth date", left, right, rules.pacs_birth_date))
    if {traits.sex, patient.sex} == {"M", "F"}:  # O, U and "" say nothing
        found.append(_conflict("identity-sex", "sex", (_CDA, traits.sex), (_PACS, patient.sex), rules.pacs_sex))
    return found


def accepting(verdict: Verdict, is_accepted: Callable[[Conflict], bool]) -> Verdict:
    """The verdict once a person has accepted conflicts: those only warn. One that is new makes all of them hold
    again, so that the whole of it is looked at."""
    holding = [conflict for conflict in verdict.conflicts if conflict.severity == "hold"]
    if not all(is_accepted(conflict) for conflict in holding):
        return verdict
    return replace(verdict, conflicts=tuple(replace(conflict, severity="warn") for conflict in verdict.conflicts))


# -- the parts of before_ack -------------------------------------------------------------------------------------


def _ins_usable(envelope: PatientIdentity, rules: Rules) -> Iterator[Conflict]:
    """A qualified INS (status VALI) of a known authority, right key, digits that fit the traits (drim-m §11)."""
    ins, traits = envelope.ins, envelope.traits
    if ins is None:
        return  # named by _stated_alike, as every absence of a mandatory field
    if ins.status != "VALI":
        yield _hold("identity-ins-status", "INS status", (_HL7, ins.status), ("rule", "VALI"))
    if ins.oid not in INS_AUTHORITIES:
        yield _hold("identity-ins-authority", "INS authority", (_HL7, ins.oid), ("rule", ""))
    elif not INS_AUTHORITIES[ins.oid].production:
        left, right = (_HL7, ins.oid), ("rule", "")
        if conflict := _conflict("identity-test-authority", "INS authority", left, right, rules.test_identity):
            yield conflict
    if not check_key(ins.matricule):
        yield _hold("identity-ins-key", "INS key", (_HL7, ins.matricule), ("rule", ""))
    born = _day(traits)
    stated = {"sex": traits.sex, "year": born[:4], "month": born[4:6]}
    for part in digits_disagree(ins.matricule, traits.sex, traits.birth_date):
        left, right = ("INS digits", ins.matricule), (_HL7, stated[part])
        if conflict := _conflict("identity-ins-digits", f"{part} of birth", left, right, rules.nir_digits):
            yield conflict


def _stated_alike(envelope: PatientIdentity, cda: PatientIdentity, domain: str) -> Iterator[Conflict]:
    """Every field HL7 and CDA both state is the same; the mandatory ones are stated by both."""
    for (name, left), (_, right) in zip(_mandatory(envelope, domain), _mandatory(cda, domain), strict=True):
        field = name.replace("-", " ")
        if not folded(left) or not folded(right):
            yield _hold(f"identity-{name}-missing", field, (_HL7, left), (_CDA, right))
        elif not _is_same(name, left, right):
            yield _hold(f"identity-{name}", field, (_HL7, left), (_CDA, right))
    if domain and envelope.ins and cda.ins and envelope.ins.matricule != cda.ins.matricule:
        yield _hold("identity-ins", "ins", (_HL7, envelope.ins.matricule), (_CDA, cda.ins.matricule))
    if envelope.ins and cda.ins and envelope.ins.oid != cda.ins.oid:
        yield _hold("identity-ins-authority", "INS authority", (_HL7, envelope.ins.oid), (_CDA, cda.ins.oid))
    yield from _same_birthplace(envelope.traits, cda.traits, (_HL7, _CDA), "hold")
    yield from _same_local_ids(envelope.local_ids, cda.local_ids)


def _agrees_with_held(cda: PatientIdentity, known: Held, rules: Rules) -> Iterator[Conflict]:
    """Same local id, study or accession: same INS. Same INS: same traits; so where one states no INS, unless a local
    identifier says that it is the same person."""
    ours, theirs = cda.ins, known.patient.ins
    if rules.domain:
        yield from _agrees_in_domain(cda, known, rules)
    if known.shares & {"local-id", "study", "accession"} and ours and theirs and not _same_ins(ours, theirs):
        shared = ", ".join(sorted(known.shares))
        code = "identity-ins-renumbered" if _is_renumbered(cda, known) else "identity-ins"
        yield _hold(code, f"INS (same {shared})", (_CDA, ours.matricule), (known.source, theirs.matricule))
    is_without_ins = "study" in known.shares and not (ours and theirs) and not _shares_local_id(cda, known.patient)
    if "ins" not in known.shares and not is_without_ins:
        return
    yield from _same_traits(cda, known, rules)


def _same_traits(cda: PatientIdentity, known: Held, rules: Rules) -> Iterator[Conflict]:
    for (name, left), (_, right) in zip(_traits(cda), _traits(known.patient), strict=True):
        if left and right and folded(left) != folded(right):
            yield _hold(f"identity-{name}", name.replace("-", " "), (_CDA, left), (known.source, right))
    sources = (_CDA, known.source)
    yield from _same_birthplace(cda.traits, known.patient.traits, sources, rules.birthplace_history)


def _agrees_in_domain(cda: PatientIdentity, known: Held, rules: Rules) -> Iterator[Conflict]:
    """Where a local identifier names the patient: same study, accession or identifier of any register, same
    identifier of this one; same identifier, same traits."""
    ours, theirs = _named_in(cda, rules.domain), _named_in(known.patient, rules.domain)
    if ours and theirs and ours != theirs:
        shared = ", ".join(sorted(known.shares))
        yield _hold("identity-patient-id", f"patient id (same {shared})", (_CDA, ours), (known.source, theirs))
    if ours == theirs != "":
        yield from _same_traits(cda, known, rules)


def in_domain(patient: PatientIdentity, domain: str) -> tuple[LocalId, ...]:
    """The patient's identifiers of one register."""
    return tuple(local for local in patient.local_ids if local.issuer == domain)


def _naming_or_tied(patient: PatientIdentity, domain: str) -> tuple[LocalId, ...]:
    """The same, and those that the register merged into them: who still uses one of these means the same person."""
    return (*in_domain(patient, domain), *(local for local in patient.tied if local.issuer == domain))


def _named_in(patient: PatientIdentity, domain: str) -> str:
    """The only identifier of the patient in a register, "" for none or several: two would be two persons."""
    values = {local.value for local in in_domain(patient, domain)}
    return values.pop() if len(values) == 1 else ""


def _is_same(name: str, left: str, right: str) -> bool:
    """Identifiers are compared as they are, everything else folded."""
    return left == right if name in {"ins", "patient-id"} else folded(left) == folded(right)


def _shares_local_id(left: PatientIdentity, right: PatientIdentity) -> bool:
    named = {local for local in left.local_ids if local.issuer}
    return not named.isdisjoint(right.local_ids)


def _is_renumbered(cda: PatientIdentity, known: Held) -> bool:
    """Whether one person may have gone from a provisional number (NIA) to a NIR: both of production, every other
    mandatory trait the same, and only a local identifier in common. A study under both would be two persons'."""
    pair = [INS_AUTHORITIES.get(patient.ins.oid) for patient in (cda, known.patient) if patient.ins]
    if {authority.meaning for authority in pair if authority and authority.production} != {"NIR", "NIA"}:
        return False
    traits = zip(_mandatory(cda), _mandatory(known.patient), strict=True)
    is_same = all(folded(left) == folded(right) != "" for (name, left), (_, right) in traits if name != "ins")
    return is_same and known.shares == {"local-id"}


def _mandatory(patient: PatientIdentity, domain: str = "") -> Iterator[tuple[str, str]]:
    """Name and value of each field without which nobody is identified."""
    if domain:
        yield "patient-id", _named_in(patient, domain)
    else:
        yield "ins", patient.ins.matricule if patient.ins else ""
    yield from _traits(patient)


def _traits(patient: PatientIdentity) -> Iterator[tuple[str, str]]:
    """Name and value of each mandatory trait."""
    traits = patient.traits
    yield "birth-name", traits.birth_name
    yield "first-given-name", traits.first_given_name
    yield "sex", traits.sex
    yield "birth-date", _day(traits)


def _same_ins(left: Ins, right: Ins) -> bool:
    return (left.matricule, left.oid) == (right.matricule, right.oid)


def _same_birthplace(left: Traits, right: Traits, sources: tuple[str, str], rule: Rule) -> Iterator[Conflict]:
    if left.birthplace and right.birthplace and left.birthplace != right.birthplace:
        stated = ((sources[0], left.birthplace), (sources[1], right.birthplace))
        if conflict := _conflict("identity-birthplace", "birthplace", *stated, rule):
            yield conflict


def _same_local_ids(hl7: Sequence[LocalId], cda: Sequence[LocalId]) -> Iterator[Conflict]:
    """Identifiers of one register must meet; those of two registers say nothing about each other.

    An identifier whose issuer a source does not name is compared with all of the other source, unless both
    already speak of a common register.
    """
    common = sorted({local.issuer for local in hl7} & {local.issuer for local in cda} - {""})
    registers: list[tuple[set[str], set[str]]] = [
        ({i.value for i in hl7 if i.issuer == issuer}, {i.value for i in cda if i.issuer == issuer})
        for issuer in common
    ]
    if not common and hl7 and cda and not all(local.issuer for local in (*hl7, *cda)):
        registers = [({i.value for i in hl7}, {i.value for i in cda})]
    for left, right in registers:
        if left.isdisjoint(right):
            stated = (_HL7, ", ".join(sorted(left))), (_CDA, ", ".join(sorted(right)))
            yield _hold("identity-local-id", "local id", *stated)


# -- the parts of against_pacs -----------------------------------------------------------------------------------


def _is_one_of(patient_id: str, issuer: str, local_ids: Iterable[LocalId]) -> bool:
    """Whether PatientID is one of the identifiers. Issuers count only when both are OIDs: a PACS usually holds a
    label of its own there."""
    return bool(patient_id) and any(
        local.value == patient_id
        and (local.issuer == issuer or not _OID.fullmatch(local.issuer) or not _OID.fullmatch(issuer))
        for local in local_ids
    )


def _as_compared(local_ids: Iterable[LocalId], patient_id: str, issuer: str) -> tuple[str, str]:
    """The identifiers of the report and that of the PACS, each with its issuer where issuers count: one number in two
    registers is two persons."""
    if not patient_id or not _OID.fullmatch(issuer):
        return ", ".join(local.value for local in local_ids), patient_id
    stated = (f"{local.value} ({local.issuer})" if local.issuer else local.value for local in local_ids)
    return ", ".join(stated), f"{patient_id} ({issuer})"


def _name_fits(name: str, traits: Traits) -> bool:
    """Whether PN (its alphabetic group) is the person: family = birth or used name; given = first given, used
    given, or the first names of the list in their order. What PN leaves out fits."""
    family, given, middle, *_ = (*name.partition("=")[0].split("^"), "", "", "")
    listed = [folded(part) for part in re.split(r"[\s,]+", traits.given_names) if part]
    families = {folded(traits.birth_name), folded(traits.used_name)}
    givens = {folded(traits.first_given_name), folded(traits.used_given_name)}
    givens |= {" ".join(listed[:count]) for count in range(1, len(listed) + 1)}
    family_fits = not folded(family) or folded(family) in families
    given_fits = not folded(given) or not givens.isdisjoint({folded(given), folded(f"{given} {middle}")})
    return family_fits and given_fits


# -- values ------------------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    """A name as names are compared: upper case without accents; apostrophes, hyphens and blanks become one blank,
    ligatures two letters."""
    letters = unicodedata.normalize("NFKD", text.translate(_LIGATURES))
    return _JOINTS.sub(" ", "".join(c for c in letters if not unicodedata.combining(c))).strip().upper()


def _day(traits: Traits) -> str:
    return f"{traits.birth_date:%Y%m%d}" if traits.birth_date else ""


def _hold(code: str, field: str, left: tuple[str, str], right: tuple[str, str]) -> Conflict:
    return Conflict(
        code=code,
        field=field,
        left_source=left[0],
        left=left[1],
        right_source=right[0],
        right=right[1],
        severity="hold",
    )


def _conflict(
    code: str, field: str, left: tuple[str, str], right: tuple[str, str], rule: Rule = "hold"
) -> Conflict | None:
    """The conflict with the severity of its rule; None when the tenant switched the rule off."""
    if rule == "off":
        return None
    return replace(_hold(code, field, left, right), severity=rule)
