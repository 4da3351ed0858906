"""A rejection note taken apart (IHE RAD TF-2 4.66, IOCM): a KOS that says which instances must not be used, and why.

Invariants:

* all four titles of IOCM, and no other KOS: what is none leaves here as ``BadInput`` with a stable code;
* evidence and content tree must name the same instances: what a note says twice and differently is not obeyed;
* the patient is told as the note states them; whose exam it is, is for others to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from indexer.kos.classes import SOP_CLASS
from indexer.kos.coded import name_of, schemes
from indexer.kos.nodes import Findings, Node
from indexer.kos.tree import tree
from indexer.study import PacsPatient
from security.errors import BadInput
from security.identity import Uid
from security.parse.dicom import charsets, parse_untrusted

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "113001": "Rejected for Quality Reasons",
        "113037": "Rejected for Patient Safety Reasons",
        "113038": "Incorrect Modality Worklist Entry",
        "113039": "Data Retention Policy Expired",
    }
)
"""Titles of rejection notes (PS3.16 CID 7010, DCM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedStudy:
    """What a note rejects of one study; ``instances``: SOP Instance UIDs, sorted, at least one."""

    study: Uid
    instances: tuple[Uid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """One note. ``unique_id``: its SOP Instance UID; ``title``: one of ``TITLES``."""

    unique_id: Uid
    title: str
    patient: PacsPatient
    studies: tuple[RejectedStudy, ...]


def read_rejection(data: bytes) -> RejectionNote:
    """The rejection note in ``data``, a Part 10 object.

    Raises:
        BadInput: ``dicom-…`` no DICOM object; ``iocm-not-kos``; ``iocm-title`` a KOS with another title;
            ``iocm-evidence`` no instance, or evidence and tree differ; ``iocm-uid``.
    """
    dataset = parse_untrusted(data, what="the rejection note")
    root = Node(dataset, "", charsets(dataset, default="ISO_IR 6"), Findings())
    if _uid(root, "SOPClassUID") != SOP_CLASS:
        raise _bad("iocm-not-kos", "its SOP class is not Key Object Selection Document")
    name = name_of(root)
    if name.scheme != "DCM" or name.code not in TITLES:
        raise _bad("iocm-title", "its title is none of 113001, 113037, 113038, 113039 of DCM")
    return RejectionNote(
        unique_id=_required(root, "SOPInstanceUID"), title=name.code, patient=named(root), studies=_studies(root)
    )


def named(root: Node) -> PacsPatient:
    """The patient that a data set of the imaging side names."""
    return PacsPatient(
        patient_id=root.text("PatientID"),
        issuer=root.text("IssuerOfPatientID"),
        name=root.text("PatientName"),
        birth_date=root.text("PatientBirthDate"),
        sex=root.text("PatientSex"),
    )


def _studies(root: Node) -> tuple[RejectedStudy, ...]:
    listed: dict[Uid, set[Uid]] = {}
    for item in root.items("CurrentRequestedProcedureEvidenceSequence"):
        study = _required(item, "StudyInstanceUID")
        for series in item.items("ReferencedSeriesSequence"):
            for one in series.items("ReferencedSOPSequence"):
                listed.setdefault(study, set()).add(_required(one, "ReferencedSOPInstanceUID"))
    flagged = {one.sop_instance for one in tree(root, schemes(root)).references}
    evident = set().union(*listed.values())
    if not evident or flagged != evident:
        raise _bad("iocm-evidence", "its evidence lists no instance, or others than its content refers to")
    if len(evident) != sum(len(instances) for instances in listed.values()):
        raise _bad("iocm-evidence", "its evidence places one instance in two studies")
    return tuple(
        RejectedStudy(study=study, instances=tuple(sorted(instances))) for study, instances in listed.items()
    )


def _required(node: Node, name: str) -> Uid:
    value = _uid(node, name)
    if value is None:
        raise _bad("iocm-uid", f"{node.at(name)} is absent or no unique identifier")
    return value


def _uid(node: Node, name: str) -> Uid | None:
    try:
        return Uid(node.text(name))
    except BadInput:
        return None


def _bad(code: str, why: str) -> BadInput:
    return BadInput(
        f"this object is no rejection note that can be obeyed: {why}",
        code=code,
        hint="the sender must correct it and send it again; the object is kept, nothing followed from it",
    )
