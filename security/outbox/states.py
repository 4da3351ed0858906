"""Life cycle of a job as one table: (state, event) → state (reliability §2).

An unlisted pair raises; a test walks the full product. People see exam states (``indexer.timeline``), the
engine sees these.
"""

from __future__ import annotations

from enum import StrEnum

from security.errors import Broken


class State(StrEnum):
    """Where a job stands."""

    RECEIVING = "RECEIVING"  # instances are still arriving
    SETTLING = "SETTLING"  # what will be sent is not yet decided
    READY = "READY"  # bytes stored, may be sent
    LEASED = "LEASED"  # one worker holds it, nothing sent
    SENT = "SENT"  # bytes may have left
    UNKNOWN = "UNKNOWN"  # outcome ambiguous: ask before re-sending
    ACCEPTED = "ACCEPTED"  # the peer said yes; a query has not shown it yet
    RETRY_WAIT = "RETRY_WAIT"  # clearly not done, try again later
    BLOCKED = "BLOCKED"  # a person or an event must lift it
    DEAD = "DEAD"  # a person must decide
    PUBLISHED = "PUBLISHED"  # a query showed the effect
    CANCELLED = "CANCELLED"  # never sent, no longer wanted
    SUPERSEDED = "SUPERSEDED"  # a newer intent took its place


class Event(StrEnum):
    """What may happen to a job."""

    RECEIVED = "received"  # the evidence says the study is there to look at
    NOT_YET = "not-yet"  # something is missing; look again
    PREPARED = "prepared"  # content decided, bytes committed
    UNNEEDED = "unneeded"  # nothing to do: what the jobs before it left is as wanted
    HELD = "held"  # a named reason stops it
    CLAIMED = "claimed"
    RELEASED = "released"  # given back, nothing sent
    ATTEMPTED = "attempted"  # attempt row committed, bytes may leave
    ACCEPTED = "accepted"  # the peer said yes
    TRANSIENT = "transient"  # the peer or the way to it clearly did nothing
    REFUSED = "refused"  # the peer said no for good
    AMBIGUOUS = "ambiguous"  # sent, no clear answer
    FOUND = "found"  # the peer shows it
    ABSENT = "absent"  # a clean query does not show it, and should by now
    UNCLEAR = "unclear"  # the query gave no clean answer, or it is too early
    DUE = "due"  # waiting time over
    CRASHED = "crashed"  # lease ran out without an answer
    POISON = "poison"  # it took its worker down too often
    LIFTED = "lifted"  # the reason for holding is gone
    REOPENED = "reopened"  # given another chance although bytes may have left: ask first (I9)
    RESTORED = "restored"  # the database is an older copy: what was ready may have been sent since
    OUTDATED = "outdated"  # the peer holds what came after it, and a restored database had forgotten that
    REPLACED = "replaced"  # a newer job of the lane exists
    DISCARDED = "discarded"  # an operator gave it up


S, E = State, Event

TABLE: dict[tuple[State, Event], State] = {
    (S.RECEIVING, E.RECEIVED): S.SETTLING,
    (S.RECEIVING, E.REPLACED): S.SUPERSEDED,
    (S.RECEIVING, E.DISCARDED): S.CANCELLED,
    (S.SETTLING, E.NOT_YET): S.SETTLING,
    (S.SETTLING, E.PREPARED): S.READY,
    (S.SETTLING, E.UNNEEDED): S.CANCELLED,
    (S.SETTLING, E.FOUND): S.PUBLISHED,
    (S.SETTLING, E.HELD): S.BLOCKED,
    (S.SETTLING, E.CRASHED): S.SETTLING,
    (S.SETTLING, E.POISON): S.DEAD,
    (S.SETTLING, E.REPLACED): S.SUPERSEDED,
    (S.SETTLING, E.DISCARDED): S.CANCELLED,
    (S.READY, E.CLAIMED): S.LEASED,
    (S.READY, E.HELD): S.BLOCKED,
    (S.READY, E.RESTORED): S.UNKNOWN,
    (S.READY, E.REPLACED): S.SUPERSEDED,
    (S.READY, E.DISCARDED): S.CANCELLED,
    (S.LEASED, E.RELEASED): S.READY,
    (S.LEASED, E.ATTEMPTED): S.SENT,
    (S.LEASED, E.HELD): S.BLOCKED,
    (S.LEASED, E.RESTORED): S.UNKNOWN,
    (S.LEASED, E.CRASHED): S.READY,
    (S.LEASED, E.POISON): S.DEAD,
    (S.SENT, E.ACCEPTED): S.ACCEPTED,
    (S.SENT, E.TRANSIENT): S.RETRY_WAIT,
    (S.SENT, E.REFUSED): S.DEAD,
    (S.SENT, E.HELD): S.BLOCKED,
    (S.SENT, E.AMBIGUOUS): S.UNKNOWN,
    (S.SENT, E.CRASHED): S.UNKNOWN,
    (S.SENT, E.POISON): S.DEAD,
    (S.UNKNOWN, E.FOUND): S.PUBLISHED,
    (S.UNKNOWN, E.ABSENT): S.READY,
    (S.UNKNOWN, E.UNCLEAR): S.UNKNOWN,
    (S.UNKNOWN, E.HELD): S.BLOCKED,
    (S.UNKNOWN, E.OUTDATED): S.SUPERSEDED,
    (S.UNKNOWN, E.CRASHED): S.UNKNOWN,
    (S.UNKNOWN, E.POISON): S.DEAD,
    (S.ACCEPTED, E.FOUND): S.PUBLISHED,
    (S.ACCEPTED, E.ABSENT): S.READY,
    (S.ACCEPTED, E.UNCLEAR): S.ACCEPTED,
    (S.ACCEPTED, E.HELD): S.BLOCKED,
    (S.ACCEPTED, E.OUTDATED): S.SUPERSEDED,
    (S.ACCEPTED, E.CRASHED): S.ACCEPTED,
    (S.ACCEPTED, E.POISON): S.DEAD,
    (S.RETRY_WAIT, E.DUE): S.READY,
    (S.RETRY_WAIT, E.HELD): S.BLOCKED,
    (S.RETRY_WAIT, E.RESTORED): S.UNKNOWN,
    (S.RETRY_WAIT, E.REPLACED): S.SUPERSEDED,
    (S.RETRY_WAIT, E.DISCARDED): S.CANCELLED,
    (S.BLOCKED, E.LIFTED): S.SETTLING,
    (S.BLOCKED, E.REPLACED): S.SUPERSEDED,
    (S.BLOCKED, E.DISCARDED): S.CANCELLED,
    (S.DEAD, E.LIFTED): S.SETTLING,
    (S.DEAD, E.REOPENED): S.UNKNOWN,
    (S.DEAD, E.REPLACED): S.SUPERSEDED,
    (S.DEAD, E.DISCARDED): S.CANCELLED,
}

TERMINAL = frozenset({S.PUBLISHED, S.CANCELLED, S.SUPERSEDED})
IN_FLIGHT = frozenset({S.LEASED, S.SENT, S.UNKNOWN, S.ACCEPTED})
"""States in which a lane is occupied: no other job of the lane may be sent (I4)."""
STOPPED = frozenset({S.BLOCKED, S.DEAD})
"""States that a job leaves only by somebody else's doing: it stops its lane, whatever waits behind it."""
UNSENT = frozenset({S.RECEIVING, S.SETTLING, S.READY, S.RETRY_WAIT, S.BLOCKED})
"""States in which the peer holds nothing of this job, so a newer intent may take its place.

A DEAD job may be either: refused (the peer holds nothing) or poison while its bytes were out. Its row says which
(``in_doubt``), and only the first kind is ever replaced or lifted to SETTLING (``security.outbox.jobs``)."""

ANSWERS: dict[State, frozenset[Event]] = {
    S.SETTLING: frozenset({E.NOT_YET, E.PREPARED, E.UNNEEDED, E.FOUND, E.HELD}),
    S.SENT: frozenset({E.ACCEPTED, E.TRANSIENT, E.REFUSED, E.HELD, E.AMBIGUOUS}),
    S.UNKNOWN: frozenset({E.FOUND, E.ABSENT, E.UNCLEAR, E.HELD, E.OUTDATED}),
    S.ACCEPTED: frozenset({E.FOUND, E.ABSENT, E.UNCLEAR, E.HELD, E.OUTDATED}),
}
"""What a kind may conclude when asked in a state; every other event belongs to the engine or to a person."""


def transition(state: State, event: Event) -> State:
    """The state after ``event``.

    Raises:
        Broken: ``impossible-transition`` the table has no such row.
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise Broken(
            f"a job in {state} cannot take the event {event!r}",
            code="impossible-transition",
            hint="this is a defect: keep the job's history and report it",
        ) from None
