"""The states of a campaign and of a case, as tables: which step leads where, and what stands in its way (§3).

Invariants:

* a step that no row names is refused; a step's guard is a question about facts, answered without a clock or a store;
* no frame before a frozen protocol, no reveal before both commitments, no case opened before the transcript is
  signed, no report while a case is open;
* cases are shown in ``IN_REVIEW``, and again in ``CONTRADICTORY``, at no other time;
* a voided draw goes back to the committed frame under the next number; a suspended campaign only to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sampler.campaign.rights import Right
from security.errors import Refused


class State(StrEnum):
    """Of a campaign."""

    DRAFT = "DRAFT"
    PROTOCOL_FROZEN = "PROTOCOL_FROZEN"
    FRAME_COMMITTED = "FRAME_COMMITTED"
    SEED_REVEALED = "SEED_REVEALED"
    DRAWN = "DRAWN"
    IN_REVIEW = "IN_REVIEW"
    REPORT_DRAFT = "REPORT_DRAFT"
    CONTRADICTORY = "CONTRADICTORY"
    COMMISSION = "COMMISSION"
    DECIDED = "DECIDED"
    FOLLOW_UP = "FOLLOW_UP"
    CLOSED = "CLOSED"
    DRAW_VOIDED = "DRAW_VOIDED"
    SUSPENDED = "SUSPENDED"
    CANCELLED = "CANCELLED"


class CaseState(StrEnum):
    """Of a case."""

    SELECTED = "SELECTED"
    PREPARING = "PREPARING"
    READY = "READY"
    ASSIGNED = "ASSIGNED"
    OPENED = "OPENED"
    REVIEWED = "REVIEWED"
    ARBITRATION = "ARBITRATION"
    LOCKED = "LOCKED"
    REPLACED = "REPLACED"
    WITHDRAWN = "WITHDRAWN"


DONE: Final = frozenset({CaseState.LOCKED, CaseState.REPLACED, CaseState.WITHDRAWN})
"""A case in one of these keeps no report waiting."""
SHOWN: Final = frozenset({State.IN_REVIEW, State.CONTRADICTORY})
"""When cases may be looked at."""
PARTIES: Final = frozenset({"auditor", "site"})
"""Who must have committed before anything is revealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a campaign when a step is asked for.

    ``signatures``: roles that signed the protocol. ``committed``, ``revealed``: parties of the seed. ``cases``: their
    states. ``undecided``: findings that wait for the commission. ``has_site_answered``: in the contradictory step.
    ``open_follow_ups``: not done. ``suspended_from``: where a suspended campaign was, None otherwise.
    """

    signatures: frozenset[str] = frozenset()
    has_frame: bool = False
    committed: frozenset[str] = frozenset()
    revealed: frozenset[str] = frozenset()
    is_transcript_signed: bool = False
    cases: tuple[CaseState, ...] = ()
    has_site_answered: bool = False
    undecided: int = 0
    open_follow_ups: int = 0
    suspended_from: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row: from where to where, by whose right, and what must be so, with the words that say what is missing."""

    source: State
    target: State
    right: Right
    guard: Callable[[Facts], bool]
    missing: str


def _always(_facts: Facts) -> bool:
    return True


def _is_signed(facts: Facts) -> bool:
    return {"site-lead", "lead-auditor"} <= facts.signatures


def _is_reviewed(facts: Facts) -> bool:
    return bool(facts.cases) and all(state in DONE for state in facts.cases)


def _resumes(target: State) -> Callable[[Facts], bool]:
    return lambda facts: facts.suspended_from is target


def _step(source: State, target: State, right: Right, guard: Callable[[Facts], bool], missing: str) -> Step:
    return Step(source=source, target=target, right=right, guard=guard, missing=missing)


_S = State
_ACTIVE: Final = (
    _S.DRAFT, _S.PROTOCOL_FROZEN, _S.FRAME_COMMITTED, _S.SEED_REVEALED, _S.DRAWN, _S.IN_REVIEW, _S.REPORT_DRAFT,
    _S.CONTRADICTORY, _S.COMMISSION, _S.DECIDED, _S.FOLLOW_UP,
)  # fmt: skip
STEPS: Final[tuple[Step, ...]] = (
    _step(
        _S.DRAFT, _S.PROTOCOL_FROZEN, Right.WRITE_PROTOCOL, _is_signed,
        "the protocol is signed by the site lead and by the lead auditor",
    ),
    _step(
        _S.PROTOCOL_FROZEN, _S.FRAME_COMMITTED, Right.BUILD_FRAME, lambda facts: facts.has_frame,
        "the frame is built and its root known",
    ),
    _step(
        _S.FRAME_COMMITTED, _S.SEED_REVEALED, Right.CONTRIBUTE_SEED,
        lambda facts: facts.committed >= PARTIES and facts.revealed >= facts.committed,
        "auditor and site committed first, and each revealed what it had committed to",
    ),
    _step(
        _S.SEED_REVEALED, _S.DRAWN, Right.CONDUCT, lambda facts: facts.is_transcript_signed,
        "the transcript of the draw is signed",
    ),
    _step(
        _S.DRAWN, _S.IN_REVIEW, Right.CONDUCT, lambda facts: facts.is_transcript_signed and bool(facts.cases),
        "the transcript is signed and cases were drawn",
    ),
    _step(
        _S.IN_REVIEW, _S.REPORT_DRAFT, Right.CONDUCT, _is_reviewed,
        "every case is locked, replaced or withdrawn",
    ),
    _step(_S.REPORT_DRAFT, _S.CONTRADICTORY, Right.CONDUCT, _always, ""),
    _step(
        _S.CONTRADICTORY, _S.COMMISSION, Right.CONDUCT, lambda facts: facts.has_site_answered,
        "the site answered, or its time passed and that is recorded as its answer",
    ),
    _step(
        _S.COMMISSION, _S.DECIDED, Right.DECIDE, lambda facts: facts.undecided == 0,
        "the commission decided every finding",
    ),
    _step(_S.DECIDED, _S.FOLLOW_UP, Right.CONDUCT, _always, ""),
    _step(
        _S.FOLLOW_UP, _S.CLOSED, Right.CONDUCT, lambda facts: facts.open_follow_ups == 0,
        "every follow-up is done",
    ),
    *(
        _step(source, _S.DRAW_VOIDED, Right.CONDUCT, lambda facts: not facts.is_transcript_signed,
              "no transcript of a draw that took place is signed")
        for source in (_S.FRAME_COMMITTED, _S.SEED_REVEALED)
    ),
    _step(_S.DRAW_VOIDED, _S.FRAME_COMMITTED, Right.CONDUCT, _always, ""),
    *(_step(source, _S.SUSPENDED, Right.CONDUCT, _always, "") for source in _ACTIVE),
    *(
        _step(_S.SUSPENDED, target, Right.CONDUCT, _resumes(target),
              "it resumes where it was suspended")
        for target in _ACTIVE
    ),
    *(
        _step(source, _S.CANCELLED, Right.CONDUCT, _always, "")
        for source in (*_ACTIVE[: _ACTIVE.index(_S.DECIDED)], _S.DRAW_VOIDED, _S.SUSPENDED)
    ),
)  # fmt: skip
_BY_ENDS: Final[Mapping[tuple[State, State], Step]] = MappingProxyType({(s.source, s.target): s for s in STEPS})


def step(source: State, target: State, facts: Facts) -> Step:
    """The step from ``source`` to ``target``, its guard asked.

    Raises:
        Refused: ``no-such-step``; ``guard`` what is missing.
    """
    found = _BY_ENDS.get((source, target))
    if found is None:
        onward = ", ".join(one.target for one in STEPS if one.source is source) or "nothing"
        raise Refused(
            f"a campaign in {source} does not become {target}", code="no-such-step", hint=f"from there: {onward}"
        )
    if not found.guard(facts):
        raise Refused(f"a campaign in {source} is not yet {target}", code="guard", hint=f"first: {found.missing}")
    return found


CASE_STEPS: Final[Mapping[CaseState, tuple[CaseState, ...]]] = MappingProxyType(
    {
        CaseState.SELECTED: (CaseState.PREPARING, CaseState.REPLACED, CaseState.WITHDRAWN),
        CaseState.PREPARING: (CaseState.READY, CaseState.REPLACED, CaseState.WITHDRAWN),
        CaseState.READY: (CaseState.ASSIGNED, CaseState.REPLACED, CaseState.WITHDRAWN),
        CaseState.ASSIGNED: (CaseState.OPENED, CaseState.READY, CaseState.REPLACED, CaseState.WITHDRAWN),
        CaseState.OPENED: (CaseState.REVIEWED, CaseState.REPLACED, CaseState.WITHDRAWN),
        CaseState.REVIEWED: (CaseState.ARBITRATION, CaseState.LOCKED, CaseState.WITHDRAWN),
        CaseState.ARBITRATION: (CaseState.LOCKED, CaseState.WITHDRAWN),
        CaseState.LOCKED: (),
        CaseState.REPLACED: (),
        CaseState.WITHDRAWN: (),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """What is known of a case when a step is asked for. ``campaign``: its state; ``reviews``: submitted for it;
    ``disagreements``: items on which two reviews differ and nobody arbitrated."""

    campaign: State
    is_transcript_signed: bool = False
    is_site_checked: bool = False
    has_auditor: bool = False
    reviews: int = 0
    disagreements: int = 0


_CASE_GUARDS: Final[Sequence[tuple[CaseState, Callable[[CaseFacts], bool], str]]] = (
    (CaseState.READY, lambda facts: facts.is_site_checked, "a person at the site checked the pseudonymised case"),
    (CaseState.ASSIGNED, lambda facts: facts.has_auditor, "an auditor without a conflict is named"),
    (CaseState.OPENED, lambda facts: facts.is_transcript_signed, "the transcript of the draw is signed"),
    (CaseState.OPENED, lambda facts: facts.campaign in SHOWN, "the campaign is in review"),
    (CaseState.REVIEWED, lambda facts: facts.reviews > 0, "a review was submitted"),
    (CaseState.LOCKED, lambda facts: facts.disagreements == 0, "what two reviews disagree on is arbitrated"),
)


def case_step(source: CaseState, target: CaseState, facts: CaseFacts) -> None:
    """That a case may go from ``source`` to ``target``.

    Raises:
        Refused: ``no-such-step``; ``guard`` what is missing.
    """
    if target not in CASE_STEPS[source]:
        onward = ", ".join(CASE_STEPS[source]) or "nothing"
        raise Refused(
            f"a case in {source} does not become {target}", code="no-such-step", hint=f"from there: {onward}"
        )
    for state, guard, missing in _CASE_GUARDS:
        if state is target and not guard(facts):
            raise Refused(f"a case in {source} is not yet {target}", code="guard", hint=f"first: {missing}")
