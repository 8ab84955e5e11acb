"""The table of a job's states."""

from __future__ import annotations

import itertools

from taskqd.jobs.job import (
    State,
)
from taskqd.jobs.states import TRANSITIONS, JobEvent, after


def test_ended_states_have_no_way_out_but_revival() -> None:
    ends = {State.DONE, State.CANCELLED}
    for state, event in itertools.product(State, JobEvent):
        target = after(state, event)
        assert target is None or state not in ends
        if state is State.DEAD:
            assert (target is not None) == (event is JobEvent.REVIVED)
    assert set(TRANSITIONS.values()) == set(State)
