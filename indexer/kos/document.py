"""A KOS taken apart: what its reader and its checks both look at.

Invariants:

* an object that is no sharing manifest leaves here as ``BadInput`` with the id of the rule, and nothing of it is
  taken: another SOP class, a rejection note (IOCM), a title that shares nothing, no study or several, itself among
  its instances;
* the profile is concluded from the document: an Image Library or its title says MADO, a Retrieve AE Title XDS-I, an
  INS among the patient's identifiers drim-m; XDS-I where nothing tells.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from indexer.kos import concepts
from indexer.kos.classes import SOP_CLASS
from indexer.kos.coded import Schemes, name_of, schemes
from indexer.kos.evidence import ListedSeries, evidence
from indexer.kos.nodes import Findings, Node, refusal
from indexer.kos.persons import entity
from indexer.kos.rejection import TITLES
from indexer.kos.tree import Tree, tree
from indexer.reading import CodeSet, Profile
from security.identity import Uid
from security.ins import INS_AUTHORITIES
from security.parse.dicom import charsets, parse_untrusted

IOCM = frozenset(TITLES)
"""Titles of rejection notes (IHE RAD IOCM): what they list must not be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One KOS. ``unique_id``: its SOP Instance UID; ``study``: that of its evidence; ``title``: code of its title."""

    root: Node
    schemes: Schemes
    profile: Profile
    codes: CodeSet | None
    title: str
    unique_id: Uid
    study: Uid
    series: tuple[ListedSeries, ...]
    tree: Tree

    @property
    def found(self) -> Findings:
        """What was out of rule so far."""
        return self.root.found


def opened(data: bytes) -> Document:
    """The document in ``data``.

    Raises:
        BadInput: ``dicom-…`` no DICOM object; ``kos-not-kos``, ``kos-iocm``, ``kos-title``, ``kos-no-study``,
            ``kos-several-studies``, ``kos-no-instance``, ``kos-self-reference``, ``kos-uid``.
    """
    dataset = parse_untrusted(data, what="the manifest")
    root = Node(dataset, "", charsets(dataset, default="ISO_IR 6"), Findings())
    if (root.uid("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")) != SOP_CLASS:
        raise refusal("kos-not-kos", "its SOP class is not Key Object Selection Document")
    _encoding(root, dataset)
    titled = _title(root)
    codes = schemes(root)
    study, series = evidence(root, codes)
    unique_id = root.uid("SOPInstanceUID")
    if unique_id is None:
        raise refusal("kos-uid", "it has no SOP Instance UID")
    if any(one.sop_instance == unique_id for listed in series for one in listed.instances):
        raise refusal("kos-self-reference", "it lists itself among the instances")
    content = tree(root, codes)
    profile = _profile(root, titled, content, series)
    return Document(
        root=root,
        schemes=codes,
        profile=profile,
        codes=_code_set(content) if profile == "mado" else None,
        title=titled,
        unique_id=unique_id,
        study=study,
        series=series,
        tree=content,
    )


def _encoding(root: Node, dataset: Dataset) -> None:
    if dataset.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        root.note("kos-transfer-syntax", "TransferSyntaxUID")
    if root.charset != ("ISO_IR 192",):
        root.note("kos-charset", "SpecificCharacterSet")


def _title(root: Node) -> str:
    """The title's meaning to us: 113030, or that of MADO."""
    name = name_of(root)
    if name.scheme == "DCM" and name.code in IOCM:
        raise refusal("kos-iocm", f"its title is {name.code}, a rejection note: what it lists must not be shown")
    if name.mado == concepts.TITLE:
        if name.set is None:
            root.note("kos-mado-code", "ConceptNameCodeSequence")
        return concepts.TITLE
    if not name.is_(concepts.MANIFEST):
        known = name.code if re.fullmatch(r"[0-9]{4,6}", name.code, re.ASCII) else "another one"
        raise refusal("kos-title", f"its title is {known}, not 113030 (Manifest) nor Manifest with Description")
    if name.meaning != concepts.MEANINGS[concepts.MANIFEST]:
        root.note("kos-title-meaning", "ConceptNameCodeSequence")
    return concepts.MANIFEST


def _profile(root: Node, titled: str, content: Tree, series: tuple[ListedSeries, ...]) -> Profile:
    if titled == concepts.TITLE or content.library is not None:
        return "mado"
    if any(one.address.ae_title for one in series):
        return "xds-i"
    named = (root, *root.items("OtherPatientIDsSequence"))
    national = any(entity(one.item("IssuerOfPatientIDQualifiersSequence")) in INS_AUTHORITIES for one in named)
    return "drim-m" if national else "xds-i"


def _code_set(content: Tree) -> CodeSet | None:
    """The code set of the library; both are possible in one document, and noted by the checks."""
    return "99IHE" if "99IHE" in content.sets else "DCM" if content.sets else None
