"""The upper layer protocol of the accepting side as a table (PS3.8 9.2, table 9-10).

Only what an acceptor that never asks for a release itself can meet: states 1, 2, 3, 6, 8 and 13. An unlisted pair is
an error of ours, not of the peer: every event a peer can cause is listed for every state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class State(Enum):
    """PS3.8 9.2.1."""

    IDLE = 1
    AWAITING_REQUEST = 2  # the transport is open, ARTIM runs
    AWAITING_DECISION = 3  # ours, on the request
    ESTABLISHED = 6
    AWAITING_RELEASE = 8  # ours, to the peer's wish
    CLOSING = 13  # the peer must close, ARTIM runs


class Event(Enum):
    """PS3.8 9.2.2, by number."""

    CONNECTED = 5
    REQUEST_RECEIVED = 6
    ACCEPT = 7
    REJECT = 8
    SEND_DATA = 9
    DATA_RECEIVED = 10
    RELEASE_RECEIVED = 12
    RELEASE_ANSWER_RECEIVED = 13
    ANSWER_RELEASE = 14
    ABORT = 15
    ABORT_RECEIVED = 16
    CLOSED = 17
    TIMER_EXPIRED = 18
    UNKNOWN_RECEIVED = 19
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4


class Action(Enum):
    """PS3.8 9.2.3, by name."""

    START_TIMER = "AE-5"
    ASK_DECISION = "AE-6"
    SEND_ACCEPT = "AE-7"
    SEND_REJECT = "AE-8"
    SEND_DATA = "DT-1"
    TAKE_DATA = "DT-2"
    ASK_RELEASE = "AR-2"
    SEND_RELEASE = "AR-4"
    SEND_DATA_RELEASING = "AR-7"
    SEND_ABORT = "AA-1"
    CLOSE = "AA-2"
    TELL_ABORT = "AA-3"
    TELL_CLOSED = "AA-4"
    STOP_TIMER = "AA-5"
    IGNORE = "AA-6"
    SEND_ABORT_AGAIN = "AA-7"
    SEND_ABORT_TELL = "AA-8"
    CLOSED = "AR-5"


_S, _E, _A = State, Event, Action
_FROM_PEER_WRONG = (_E.ASSOCIATE_AC_RECEIVED, _E.ASSOCIATE_RJ_RECEIVED, _E.RELEASE_ANSWER_RECEIVED)

TABLE: Final[Mapping[tuple[State, Event], tuple[Action, State]]] = {
    (_S.IDLE, _E.CONNECTED): (_A.START_TIMER, _S.AWAITING_REQUEST),
    # Sta2
    (_S.AWAITING_REQUEST, _E.REQUEST_RECEIVED): (_A.ASK_DECISION, _S.AWAITING_DECISION),
    (_S.AWAITING_REQUEST, _E.ABORT_RECEIVED): (_A.CLOSE, _S.IDLE),
    (_S.AWAITING_REQUEST, _E.CLOSED): (_A.STOP_TIMER, _S.IDLE),
    (_S.AWAITING_REQUEST, _E.TIMER_EXPIRED): (_A.CLOSE, _S.IDLE),
    # Sta3
    (_S.AWAITING_DECISION, _E.ACCEPT): (_A.SEND_ACCEPT, _S.ESTABLISHED),
    (_S.AWAITING_DECISION, _E.REJECT): (_A.SEND_REJECT, _S.CLOSING),
    # Sta6
    (_S.ESTABLISHED, _E.SEND_DATA): (_A.SEND_DATA, _S.ESTABLISHED),
    (_S.ESTABLISHED, _E.DATA_RECEIVED): (_A.TAKE_DATA, _S.ESTABLISHED),
    (_S.ESTABLISHED, _E.RELEASE_RECEIVED): (_A.ASK_RELEASE, _S.AWAITING_RELEASE),
    # Sta8
    (_S.AWAITING_RELEASE, _E.SEND_DATA): (_A.SEND_DATA_RELEASING, _S.AWAITING_RELEASE),
    (_S.AWAITING_RELEASE, _E.ANSWER_RELEASE): (_A.SEND_RELEASE, _S.CLOSING),
    # Sta13
    (_S.CLOSING, _E.REQUEST_RECEIVED): (_A.SEND_ABORT_AGAIN, _S.CLOSING),
    (_S.CLOSING, _E.DATA_RECEIVED): (_A.IGNORE, _S.CLOSING),
    (_S.CLOSING, _E.RELEASE_RECEIVED): (_A.IGNORE, _S.CLOSING),
    (_S.CLOSING, _E.ABORT_RECEIVED): (_A.CLOSE, _S.IDLE),
    (_S.CLOSING, _E.CLOSED): (_A.CLOSED, _S.IDLE),
    (_S.CLOSING, _E.TIMER_EXPIRED): (_A.CLOSE, _S.IDLE),
    (_S.CLOSING, _E.UNKNOWN_RECEIVED): (_A.SEND_ABORT_AGAIN, _S.CLOSING),
    # A PDU that cannot come now
    **{
        (_S.AWAITING_REQUEST, event): (_A.SEND_ABORT, _S.CLOSING)
        for event in (*_FROM_PEER_WRONG, _E.DATA_RECEIVED, _E.RELEASE_RECEIVED, _E.UNKNOWN_RECEIVED)
    },
    **{
        (state, event): (_A.SEND_ABORT_TELL, _S.CLOSING)
        for state, events in {
            _S.AWAITING_DECISION: (_E.REQUEST_RECEIVED, _E.DATA_RECEIVED, _E.RELEASE_RECEIVED),
            _S.ESTABLISHED: (_E.REQUEST_RECEIVED,),
            _S.AWAITING_RELEASE: (_E.REQUEST_RECEIVED, _E.DATA_RECEIVED, _E.RELEASE_RECEIVED),
        }.items()
        for event in (*events, *_FROM_PEER_WRONG, _E.UNKNOWN_RECEIVED)
    },
    **{(_S.CLOSING, event): (_A.IGNORE, _S.CLOSING) for event in _FROM_PEER_WRONG},
    # The end of an association that was asked for
    **{
        (state, event): (action, next_state)
        for state in (_S.AWAITING_DECISION, _S.ESTABLISHED, _S.AWAITING_RELEASE)
        for event, action, next_state in (
            (_E.ABORT, _A.SEND_ABORT, _S.CLOSING),
            (_E.ABORT_RECEIVED, _A.TELL_ABORT, _S.IDLE),
            (_E.CLOSED, _A.TELL_CLOSED, _S.IDLE),
        )
    },
}
"""(state, event) → (action, next state)."""
