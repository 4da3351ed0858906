"""Reading coded values: their systems, and the concepts of MADO in whichever code set they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import get_args

from indexer.kos.concepts import SCHEMES, mado_codes
from indexer.kos.nodes import Node
from indexer.reading import CodeSet
from indexer.report import Coded

_SYSTEMS: Mapping[str, str] = MappingProxyType({name: oid for oid, name in SCHEMES.items()})


@dataclass(frozen=True, slots=True)
class Schemes:
    """How the document's code systems are named: OID by designator of its own identification (0008,0110)."""

    stated: Mapping[str, str]

    def coded(self, node: Node) -> Coded:
        """The code of one item. A designator that nothing resolves stays as it is, and is noted."""
        code = node.text("CodeValue") or node.text("LongCodeValue") or node.text("URNCodeValue")
        scheme = node.text("CodingSchemeDesignator")
        system = self.stated.get(scheme) or _SYSTEMS.get(scheme, "")
        if not code or not scheme:
            node.note("kos-code", detail="lacks its value or its system")
        elif not system and scheme != "99IHE":
            node.note("kos-scheme", "CodingSchemeDesignator")
        return Coded(code=code, system=system or scheme, display=node.text("CodeMeaning"))


def schemes(root: Node) -> Schemes:
    """The code systems that a document identifies itself."""
    stated = {
        node.text("CodingSchemeDesignator"): node.text("CodingSchemeUID")
        for node in root.items("CodingSchemeIdentificationSequence")
    }
    return Schemes({name: oid for name, oid in stated.items() if name and oid})


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A Concept Name. ``code``, ``scheme``, ``meaning`` as written; ``mado``: the concept of MADO it is, "" for none;
    ``set``: the code set that says so, None when only the meaning does."""

    code: str
    scheme: str
    meaning: str
    mado: str = ""
    set: CodeSet | None = None

    def is_(self, code: str) -> bool:
        """Whether it is this code of DCM."""
        return self.scheme == "DCM" and self.code == code


def name_of(node: Node) -> Name:
    """The Concept Name of a content item, all of it "" when it has none."""
    stated = node.item("ConceptNameCodeSequence")
    if stated is None:
        return Name(code="", scheme="", meaning="")
    return _name(stated.text("CodeValue"), stated.text("CodingSchemeDesignator"), stated.text("CodeMeaning"))


@lru_cache(maxsize=256)  # foreign text: bounded
def _name(code: str, scheme: str, meaning: str) -> Name:
    sets: tuple[CodeSet, ...] = get_args(CodeSet)
    for one in sets:
        if scheme == one and code in mado_codes(one):
            return Name(code=code, scheme=scheme, meaning=meaning, mado=mado_codes(one)[code], set=one)
    by_meaning = {known.casefold(): known for one in sets for known in mado_codes(one).values()}
    return Name(code=code, scheme=scheme, meaning=meaning, mado=by_meaning.get(meaning.casefold(), ""))
