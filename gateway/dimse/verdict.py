"""What becomes of a received object: stored, quarantined or refused, with the reason and the status (security §6): a
decision.

Invariants:

* an object is kept whatever it is, unless its peer is to be refused strictly;
* 0x0000 is possible only for what is kept;
* an object whose command and data set disagree on who they are is never *stored* (identity before all).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from gateway.dimse.command import Status
from security.errors import BadInput
from security.parse.identifiers import Identifiers

_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)  # leading zeros exist in the field; the name is a hash anyway
_STRICT_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*", re.ASCII)
_UID_MAX = 64


class Keeping(StrEnum):
    """Where an object stands."""

    STORED = "stored"
    QUARANTINED = "quarantined"  # kept, not served, not published: a person looks
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``reason``: a stable code, "" when stored. ``status``: for the sender, once the object is durable."""

    keeping: Keeping
    reason: str
    status: int


STORED = Verdict(keeping=Keeping.STORED, reason="", status=Status.SUCCESS)


def judge(
    said: Identifiers, *, sop_class: str, sop_instance: str, fault: BadInput | None, is_strict: bool
) -> Verdict:
    """``said``: by the data set; ``sop_class``, ``sop_instance``: by the command; ``fault``: of the structure."""
    reason, status = _reason(said, sop_class, sop_instance, fault, _STRICT_UID if is_strict else _UID)
    if not reason:
        return STORED
    if is_strict:
        return Verdict(keeping=Keeping.REFUSED, reason=reason, status=Status.CANNOT_UNDERSTAND)
    return Verdict(keeping=Keeping.QUARANTINED, reason=reason, status=status)


def _reason(
    said: Identifiers, sop_class: str, sop_instance: str, fault: BadInput | None, form: re.Pattern[str]
) -> tuple[str, int]:
    if fault is not None:
        return fault.code, Status.UNPARSABLE
    uids = {"study": said.study, "series": said.series, "sop": said.sop, "sop-class": said.sop_class}
    missing = next((name for name, uid in uids.items() if not uid), "")
    if missing:
        return f"no-{missing}-uid", Status.SUCCESS
    if (said.sop, said.sop_class) != (sop_instance, sop_class):
        return "sop-mismatch", Status.DATA_SET_MISMATCH
    odd = next((name for name, uid in uids.items() if len(uid) > _UID_MAX or not form.fullmatch(uid)), "")
    return (f"bad-{odd}-uid", Status.SUCCESS) if odd else ("", Status.SUCCESS)
