"""The rules a manifest document is held against, each with its id, severity, clause and remedy.

One module per form (``kos``, ``fhir``) lists its rules; a reader names them in its deviations, ``poterne manifest
check`` prints them. Texts are English here and spoken through the gateway's languages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. ``id``: stable, such as ``kos-evidence-tree``; ``severity``: ``error`` a reader may refuse or
    misread the document, ``warning`` it will cope, ``note`` worth knowing; ``clause``: where the rule is written;
    ``says``: what must hold; ``remedy``: what the maker of the document does about it."""

    id: str
    severity: Literal["error", "warning", "note"]
    clause: str
    says: str
    remedy: str


def catalogue(*parts: Iterable[Rule]) -> Mapping[str, Rule]:
    """The rules of several forms by id; a repeated id is a defect and raises ``ValueError``."""
    rules = [rule for part in parts for rule in part]
    by_id = {rule.id: rule for rule in rules}
    if len(by_id) != len(rules):
        raise ValueError("a rule id stands twice in the catalogue")
    return by_id
