"""Reading who the patient is, which orders were placed, who made the document.

Invariants:

* an identifier whose issuer is an authority of the INS is the INS; its status is "": no KOS states it, and none is
  concluded;
* no identifier is dropped: another INS than the first stays among the local ones, and is noted.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from indexer.kos.nodes import Node
from indexer.report import Order, Organization
from security.errors import BadInput
from security.identity import Ins, LocalId, PatientIdentity, Traits, Uid
from security.ins import INS_AUTHORITIES

_XON = re.compile(r"(?P<name>[^^]*)(\^[^^]*){4}\^(?P<authority>[^^]*)(\^[^^]*){3}\^(?P<id>[^^]*)")
_DA = re.compile(r"(?P<year>[0-9]{4})(?P<dot>\.?)(?P<month>[0-9]{2})(?P=dot)(?P<day>[0-9]{2})", re.ASCII)


def patient(root: Node, *, national: bool) -> PatientIdentity:
    """The patient as the document states them. ``national``: other names and comments mean what drim-m says."""
    listed = dict.fromkeys(
        one
        for one in (_identifier(root), *(_identifier(item) for item in root.items("OtherPatientIDsSequence")))
        if one.value
    )
    ins, locals_ = None, list[LocalId]()
    for one in listed:
        if one.issuer not in INS_AUTHORITIES:
            locals_.append(one)
        elif ins is None:
            ins = Ins(matricule=one.value, oid=one.issuer, status="")
        else:
            root.note("kos-other-ins", "OtherPatientIDsSequence")
            locals_.append(one)
    if not root.text("PatientID"):
        root.note("kos-no-patient-id", "PatientID")
    return PatientIdentity(traits=_traits(root, national=national), ins=ins, local_ids=tuple(locals_))


def _traits(root: Node, *, national: bool) -> Traits:
    family, given = _name(root, "PatientName", root.text("PatientName"))
    others, comments = (root.text("OtherPatientNames"), root.text("PatientComments")) if national else ("", "")
    used = [_name(root, "OtherPatientNames", value) for value in others.split("\\")]
    sex = root.text("PatientSex").upper()
    if sex not in {"M", "F", "O", ""}:
        root.note("kos-sex", "PatientSex")
    return Traits(
        birth_name=family,
        first_given_name=given,
        used_name=next((name for name, _ in used if name), ""),
        used_given_name=next((name for _, name in used if name), ""),
        sex=sex if sex in {"M", "F", ""} else "U",
        birth_date=_birth_date(root),
        birthplace=comments if re.fullmatch(r"[0-9][0-9AB][0-9]{3}", comments, re.ASCII) else "",
    )


def _name(root: Node, element: str, value: str) -> tuple[str, str]:
    """Family and given name of the first component group (PS3.5 6.2.1)."""
    family, given, *rest = (*value.partition("=")[0].split("^"), "", "")
    if any(part.strip() for part in rest):
        root.note("kos-name", element)
    return family.strip(), given.strip()


def _birth_date(root: Node) -> date | None:
    stated = day(root, "PatientBirthDate")
    if not stated:
        return None
    try:
        return datetime.strptime(stated, "%Y%m%d").date()  # noqa: DTZ007 -- a day has no zone
    except ValueError:
        root.note("kos-date", "PatientBirthDate")
        return None


def day(node: Node, name: str) -> str:
    """A date as YYYYMMDD; "" when absent or none. The form of ACR-NEMA, with points, is understood."""
    value = node.text(name)
    if not value:
        return ""
    read = _DA.fullmatch(value)
    if read is None or read["dot"]:
        node.note("kos-date", name)
    return f"{read['year']}{read['month']}{read['day']}" if read is not None else ""


def _identifier(node: Node) -> LocalId:
    qualifiers = node.item("IssuerOfPatientIDQualifiersSequence")
    return LocalId(value=node.text("PatientID"), issuer=entity(qualifiers) if qualifiers is not None else "")


def entity(node: Node | None) -> str:
    """The OID of a universal entity, "" for none or another kind."""
    if node is None:
        return ""
    value = node.text("UniversalEntityID")
    try:
        return Uid(value) if value else ""
    except BadInput:
        node.note("kos-issuer-form", "UniversalEntityID")
        return ""


def orders(root: Node) -> tuple[Order, ...]:
    """The orders of the requests; without any, the one that the study's accession number stands for."""
    listed = tuple(
        Order(
            accession_number=item.text("AccessionNumber"),
            accession_issuer=entity(item.item("IssuerOfAccessionNumberSequence")),
            placer_number=item.text("PlacerOrderNumberImagingServiceRequest"),
            placer_issuer=entity(item.item("OrderPlacerIdentifierSequence")),
        )
        for item in root.items("ReferencedRequestSequence")
    )
    if listed or not root.text("AccessionNumber"):
        return tuple(dict.fromkeys(listed))
    issuer = entity(root.item("IssuerOfAccessionNumberSequence"))
    number = root.text("AccessionNumber")
    return (Order(accession_number=number, accession_issuer=issuer, placer_number="", placer_issuer=""),)


def institution(root: Node) -> Organization:
    """InstitutionName as XON where it has its form, else as a name alone."""
    stated = root.text("InstitutionName")
    read = _XON.fullmatch(stated)
    if read is None:
        return Organization(identifier="", system="", name=stated)
    _, _, authority = read["authority"].partition("&")
    return Organization(identifier=read["id"], system=authority.partition("&")[0], name=read["name"].strip())
