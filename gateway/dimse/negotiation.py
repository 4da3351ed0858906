"""Which presentation contexts, roles and options are accepted (PS3.8 9.3.2, PS3.7 D.3.3, PS3.4 B.3, C.5): a decision.

Invariants:

* any storage class, private and retired ones included, in the first transfer syntax its sender proposed (explicit
  before implicit where both are): nothing is decoded here, so nothing is lost by not knowing a syntax (FF-04, FF-05);
* a deflated data set is taken only from a peer that may send one (T08);
* one operation at a time: an asynchronous window is answered 1/1 (FF-06).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.dimse.associate import Acceptance, ContextAnswer, Proposal, ProposedContext, Role
from security.parse.dataset import DEFLATED

VERIFICATION: Final = "1.2.840.10008.1.1"
IMPLEMENTATION: Final = "2.25.221869843640337129187276338245846474231"
IMPLEMENTATION_VERSION: Final = "POTERNE_1"

PLAIN: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and Implicit VR Little Endian: what data sets that somebody here reads or writes may be in."""

_DICOM = "1.2.840.10008."
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# Storage classes outside that root (PS3.4 B.5, GG.3, and retired ones).
_OTHER_STORAGE = frozenset(
    {
        "1.2.840.10008.5.1.1.27", "1.2.840.10008.5.1.1.29", "1.2.840.10008.5.1.1.30", "1.2.840.10008.5.1.4.34.7",
        "1.2.840.10008.5.1.4.34.10", "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1",
        "1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.44.1", "1.2.840.10008.5.1.4.45.1",
    }
)  # fmt: skip


def is_storage(sop_class: str) -> bool:
    """Whether a SOP class may be stored: those of the standard by their root, any of somebody else's own."""
    if sop_class.startswith(_DICOM):
        return sop_class.startswith(_STORAGE) or sop_class in _OTHER_STORAGE
    return bool(sop_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one peer may do. ``services``: SOP classes it may ask for, beside verification. ``relational``: of these,
    the ones that take relational queries. ``stores``: objects are taken from it. ``only``: of these classes alone, of
    any when empty. ``gets``: objects may be sent back
    on its association."""

    services: frozenset[str] = frozenset()
    relational: frozenset[str] = frozenset()
    stores: bool = False
    only: frozenset[str] = frozenset()
    gets: bool = False
    deflated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A-ASSOCIATE-RJ (PS3.8 table 9-21). ``why``: for the log and the audit trail, never a value of the peer's."""

    result: int
    source: int
    reason: int
    why: str = field(compare=False)


UNSUPPORTED_VERSION = Rejection(result=1, source=2, reason=2, why="protocol version")
UNSUPPORTED_APPLICATION = Rejection(result=1, source=1, reason=2, why="application context")
UNKNOWN_CALLING = Rejection(result=1, source=1, reason=3, why="calling AE title")
UNKNOWN_CALLED = Rejection(result=1, source=1, reason=7, why="called AE title")
CONGESTED = Rejection(result=2, source=3, reason=1, why="closing")
LOCAL_LIMIT = Rejection(result=2, source=3, reason=2, why="too many associations")


def negotiate(proposal: Proposal, terms: Terms, *, pdu_bytes_max: int) -> Acceptance:
    """The answer to an admitted peer's proposal. ``pdu_bytes_max``: the longest P-DATA PDU we take."""
    contexts = tuple(_answer(context, terms) for context in proposal.contexts)
    accepted = {context.abstract_syntax for context in contexts if context.result == 0}
    return Acceptance(
        contexts=contexts,
        pdu_bytes_max=pdu_bytes_max,
        window=(1, 1) if proposal.window is not None else None,
        roles={
            uid: Role(scu=role.scu, scp=role.scp and terms.gets and is_storage(uid))
            for uid, role in proposal.roles.items()
            if uid in accepted
        },
        extended=_extended(proposal.extended, terms, accepted),
        implementation=IMPLEMENTATION,
        implementation_version=IMPLEMENTATION_VERSION,
    )


def _answer(context: ProposedContext, terms: Terms) -> ContextAnswer:
    result, syntax = _judged(context, terms)
    return ContextAnswer(
        context_id=context.context_id,
        abstract_syntax=context.abstract_syntax,
        result=result,
        transfer_syntax=syntax or PLAIN[1],
    )


def _judged(context: ProposedContext, terms: Terms) -> tuple[int, str]:
    wanted = context.abstract_syntax
    if wanted == VERIFICATION or wanted in terms.services:
        syntax = next((s for s in context.transfer_syntaxes if s in PLAIN), "")
    elif (terms.stores or terms.gets) and is_storage(wanted) and (not terms.only or wanted in terms.only):
        offered = [s for s in context.transfer_syntaxes if s and (terms.deflated or s not in DEFLATED)]
        syntax = offered[0] if offered else ""
        if syntax == PLAIN[1] and PLAIN[0] in offered:
            syntax = PLAIN[0]  # without explicit VRs a sender's private elements lose theirs
    else:
        return 3, ""
    return (0, syntax) if syntax else (4, "")


def _extended(proposed: Mapping[str, bytes], terms: Terms, accepted: set[str]) -> dict[str, bytes]:
    """SOP class extended negotiation of query and retrieve: byte 1 is relational queries (PS3.4 C.5.1.1)."""
    return {
        uid: bytes((int(info[:1] == b"\x01" and uid in terms.relational),))
        for uid, info in proposed.items()
        if uid in accepted and uid in terms.services
    }
