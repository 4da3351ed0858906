"""Who the patient is, as every profile writes it: Patient module and Other Patient IDs.

Invariants:

* the qualified INS is the primary identifier wherever there is one, else the first local identifier; every other
  identifier stands beside it;
* an INS that its source calls anything but qualified is written nowhere; a status that nobody stated (an identity
  read from a document) is taken where the profile does not demand a qualified one;
* names and identifiers are whole or the manifest is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from indexer.kos.encoding import Element, elements, fixed, issuer, refused, sq, whole
from security.identity import Ins, LocalId, PatientIdentity, Traits
from security.ins import INS_AUTHORITIES


def qualified(patient: PatientIdentity) -> Ins:
    """The qualified INS.

    Raises:
        BadInput: ``kos-no-ins``, ``kos-authority``.
    """
    ins = patient.ins
    if ins is None or ins.status != "VALI" or not ins.matricule:
        raise refused("kos-no-ins", "the patient has no qualified INS")
    return _known(ins)


def primary(patient: PatientIdentity) -> Ins | LocalId:
    """The identifier that stands in PatientID where no INS is demanded.

    Raises:
        BadInput: ``kos-no-patient-id``, ``kos-authority``.
    """
    if patient.ins is not None and patient.ins.matricule and patient.ins.status in {"VALI", ""}:
        return _known(patient.ins)
    if patient.local_ids and patient.local_ids[0].value:
        return patient.local_ids[0]
    raise refused("kos-no-patient-id", "the patient has neither a qualified INS nor a local identifier")


def _known(ins: Ins) -> Ins:
    if ins.oid not in INS_AUTHORITIES:
        raise refused("kos-authority", "the INS has an unknown assigning authority")
    return ins


def patient_elements(patient: PatientIdentity, first: Ins | LocalId) -> Iterable[Element]:
    """Patient module: ``first`` names the patient, and stands again in front of the other identifiers.

    Raises:
        BadInput: ``kos-other-ins`` an INS that nobody qualified would go out beside the first; ``kos-text``.
    """
    traits = patient.traits
    if any(local.issuer in INS_AUTHORITIES for local in patient.local_ids):
        raise refused("kos-other-ins", "a local identifier claims to be of an authority of the INS")
    yield whole(0x00100010, "PN", _pn(traits.birth_name, traits.first_given_name), "patient's name")
    yield from _identifier(first)
    yield fixed(0x00100030, "DA", f"{traits.birth_date:%Y%m%d}" if traits.birth_date else "")
    yield fixed(0x00100040, "CS", {"M": "M", "F": "F", "": ""}.get(traits.sex, "O"))
    typed = fixed(0x00100022, "CS", "TEXT")
    others = [first, *(local for local in patient.local_ids if local is not first)]
    yield sq(0x00101002, [elements(_identifier(one), (typed,)) for one in others])


def national_elements(traits: Traits) -> Iterable[Element]:
    """What drim-m adds to the Patient module: the used name and the birthplace (drim-m §4)."""
    used = _pn(traits.used_name, traits.used_given_name)
    if used != "^":  # FAMILY^GIVEN, ^GIVEN or FAMILY^
        yield whole(0x00101001, "PN", used, "used name")
    if traits.birthplace:
        yield whole(0x00104000, "LT", traits.birthplace, "birthplace code")


def _identifier(one: Ins | LocalId) -> Iterable[Element]:
    if isinstance(one, Ins):
        yield whole(0x00100020, "LO", one.matricule, "INS matricule")
        yield fixed(0x00100021, "LO", INS_AUTHORITIES[one.oid].label)
        yield issuer(0x00100024, one.oid)
        return
    yield whole(0x00100020, "LO", one.value, "local patient identifier")
    if one.issuer:
        yield issuer(0x00100024, one.issuer)


def _pn(family: str, given: str) -> str:
    if any(delimiter in family + given for delimiter in "^="):
        raise refused("kos-text", "a name holds a delimiter of PN")
    return f"{family}^{given}"
