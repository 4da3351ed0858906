"""Findings: gaps at the level of requirements, apart from the answers about cases (peer audit §1, §2).

Invariants:

* a finding is stated by a person, with its origin; no answer becomes one by itself, and none is counted as one;
* the auditor's severity stays beside the commission's;
* a decision has a motive; requalifying gives another severity than the auditor's, withdrawing gives none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from security.errors import BadInput, Refused

Severity = Literal["minor", "major", "critical"]
Origin = Literal["answers", "interview", "document"]
State = Literal["open", "maintained", "requalified", "withdrawn"]
SEVERITIES: tuple[Severity, ...] = ("minor", "major", "critical")
"""Of this project: gap without effect on the patient; organised requirement not met or possible effect; harm possible
now, told to the site lead at once."""
ORIGINS: tuple[Origin, ...] = ("answers", "interview", "document")
DECISIONS: tuple[State, ...] = ("maintained", "requalified", "withdrawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``requirement``: the item's code; ``cites``: case:item of the answers it rests on; ``final``: the severity that
    the commission left, "" until then; ``motive`` and ``doctrine``: of its decision."""

    id: str
    requirement: str
    origin: Origin
    text: str
    severity: Severity
    cites: tuple[str, ...] = ()
    state: State = "open"
    final: Severity | Literal[""] = ""
    motive: str = ""
    doctrine: str = ""

    @property
    def calls_now(self) -> bool:
        """Whether the site lead is called outside of the report's timetable."""
        return self.severity == "critical" and self.state == "open"


def decide(
    finding: Finding, decision: State, *, severity: Severity | Literal[""] = "", motive: str, doctrine: str = ""
) -> Finding:
    """The finding after the commission's word.

    Raises:
        Refused: ``already-decided``.
        BadInput: ``bad-decision``.
    """
    if finding.state != "open":
        raise Refused(
            f"finding {finding.id} is {finding.state}",
            code="already-decided",
            hint="a decision is corrected, not taken twice",
        )
    is_other = severity not in {"", finding.severity}
    is_known = severity == "" or severity in SEVERITIES
    if decision not in DECISIONS or not motive.strip() or not is_known or is_other != (decision == "requalified"):
        raise BadInput(
            f"decision {decision[:20]} on finding {finding.id}",
            code="bad-decision",
            hint="maintained, requalified (with another severity) or withdrawn, and a motive",
        )
    final: Severity | Literal[""] = ""
    if decision != "withdrawn":
        final = severity or finding.severity
    return replace(finding, state=decision, final=final, motive=motive.strip(), doctrine=doctrine.strip())
