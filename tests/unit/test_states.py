"""The life cycle of a job: the whole product of states and events."""

from __future__ import annotations

from itertools import product

import pytest

from security.errors import Broken
from security.outbox.states import ANSWERS, IN_FLIGHT, TABLE, TERMINAL, UNSENT, Event, State, transition

# Worked out by hand from reliability §2: which events each state takes, and where they lead.
LITERAL = """
RECEIVING   received SETTLING    replaced SUPERSEDED  discarded CANCELLED
SETTLING    not-yet SETTLING     prepared READY       unneeded CANCELLED  held BLOCKED
SETTLING    found PUBLISHED
SETTLING    crashed SETTLING     poison DEAD          replaced SUPERSEDED discarded CANCELLED
READY       claimed LEASED       held BLOCKED         replaced SUPERSEDED discarded CANCELLED
READY       restored UNKNOWN
LEASED      released READY       attempted SENT       held BLOCKED        crashed READY
LEASED      poison DEAD          restored UNKNOWN
SENT        accepted ACCEPTED    transient RETRY_WAIT refused DEAD        held BLOCKED
SENT        ambiguous UNKNOWN    crashed UNKNOWN      poison DEAD
UNKNOWN     found PUBLISHED      absent READY         unclear UNKNOWN     crashed UNKNOWN
UNKNOWN     poison DEAD          held BLOCKED         outdated SUPERSEDED
ACCEPTED    found PUBLISHED      absent READY         unclear ACCEPTED    crashed ACCEPTED
ACCEPTED    poison DEAD          held BLOCKED         outdated SUPERSEDED
RETRY_WAIT  due READY            held BLOCKED         replaced SUPERSEDED discarded CANCELLED
RETRY_WAIT  restored UNKNOWN
BLOCKED     lifted SETTLING      replaced SUPERSEDED  discarded CANCELLED
DEAD        lifted SETTLING      reopened UNKNOWN     replaced SUPERSEDED discarded CANCELLED
"""


def expected() -> dict[tuple[str, str], str]:
    table = {}
    for line in LITERAL.split("\n"):
        state, *pairs = line.split() or [""]
        table |= {(state, event): after for event, after in zip(pairs[::2], pairs[1::2], strict=True)}
    return table


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_leads_where_the_sheet_says_or_is_refused(state: State, event: Event) -> None:
    after = expected().get((state.value, event.value))
    if after is None:
        with pytest.raises(Broken) as caught:
            transition(state, event)
        assert caught.value.code == "impossible-transition"
    else:
        assert transition(state, event) == after


def test_every_unfinished_state_has_a_way_out_and_a_finished_one_has_none() -> None:
    for state in State:
        leads_to = {after for (before, _), after in TABLE.items() if before is state} - {state}
        assert bool(leads_to) is (state not in TERMINAL), state


def test_every_unfinished_state_can_reach_an_end() -> None:
    reaching = set(TERMINAL)
    while more := {before for (before, _), after in TABLE.items() if after in reaching} - reaching:
        reaching |= more
    assert reaching == set(State)


def test_i09_the_only_ways_from_unknown_to_ready_is_a_query_that_says_absent() -> None:
    ways = {event for (before, event), after in TABLE.items() if before is State.UNKNOWN and after is State.READY}
    assert ways == {Event.ABSENT}


def test_only_states_in_which_the_peer_holds_nothing_may_be_replaced() -> None:
    assert {before for (before, event) in TABLE if event is Event.REPLACED} == UNSENT | {State.DEAD}
    assert not UNSENT & IN_FLIGHT


def test_what_a_kind_may_answer_is_in_the_table() -> None:
    assert set(ANSWERS) == {State.SETTLING, State.SENT, State.UNKNOWN, State.ACCEPTED}
    for state, events in ANSWERS.items():
        for event in events:
            assert (state, event) in TABLE
